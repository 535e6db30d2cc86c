//! The `storage` section: out-of-order window, retention, encoding of chunks, exemplars.

use fk_model::Duration;

use crate::bytesize;
use crate::load::LoadOptions;
use crate::reader::{Fields, Reader};
use crate::shown::{ShownMap, ShownMapExt};
use crate::types::{FloatEncoding, Retention, StorageConfig};
use crate::yaml::Node;

/// Reads `storage`, or what holds without it.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    options: &LoadOptions,
    shown: &mut ShownMap,
) -> StorageConfig {
    let mut config =
        StorageConfig { retention: options.retention, exemplars_max: EXEMPLARS_MAX, ..StorageConfig::default() };
    let mut map = ShownMap::new();
    let (mut tsdb, mut exemplars) = (None, None);
    if let Some(node) = node {
        let mut fields = Fields::new(reader, node, "config.StorageConfig");
        tsdb = fields.take("tsdb").filter(|node| !node.is_null());
        exemplars = fields.take("exemplars").filter(|node| !node.is_null());
        fields.finish(reader);
    }
    read_tsdb(reader, tsdb, options, &mut config, &mut map);
    if exemplars.is_some() || options.exemplar_storage {
        read_exemplars(reader, exemplars, &mut config, &mut map);
    }
    shown.put_map("storage", map);
    config
}

/// Exemplars kept when nothing is said.
const EXEMPLARS_MAX: i64 = 100_000;

fn read_exemplars(reader: &mut Reader<'_>, node: Option<&Node>, config: &mut StorageConfig, shown: &mut ShownMap) {
    if let Some(node) = node {
        let mut fields = Fields::new(reader, node, "config.ExemplarsConfig");
        // A section without the field switches exemplars off.
        let max = fields.take("max_exemplars").map_or(0, |node| reader.int(node, "int64", MIN, MAX));
        config.exemplars_max = i64::try_from(max).unwrap_or(0);
        fields.finish(reader);
    }
    let mut map = ShownMap::new();
    if config.exemplars_max != 0 {
        map.put_bare("max_exemplars", config.exemplars_max);
    }
    shown.put("exemplars", crate::shown::Shown::Map(map));
}

const MIN: i128 = i64::MIN as i128;
const MAX: i128 = i64::MAX as i128;

fn read_tsdb(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    options: &LoadOptions,
    config: &mut StorageConfig,
    shown: &mut ShownMap,
) {
    let mut map = ShownMap::new();
    let mut encoding = ShownMap::new();
    if let Some(node) = node {
        let mut fields = Fields::new(reader, node, "config.plain");
        config.out_of_order_window = fields.duration_or(reader, "out_of_order_time_window", Duration::ZERO);
        if let Some(value) = fields.take("stale_series_compaction_threshold") {
            let threshold = reader.float(value);
            if !(0.0..=1.0).contains(&threshold) {
                reader.invalid(value.id, "'storage.tsdb.stale_series_compaction_threshold' must be between 0 and 1");
            }
            config.stale_series_threshold = threshold;
        }
        if let Some(node) = fields.take("chunk_encoding").filter(|node| !node.is_null()) {
            config.float_encoding = read_encoding(reader, node, options, &mut encoding);
        }
        if let Some(node) = fields.take("retention").filter(|node| !node.is_null()) {
            config.retention = read_retention(reader, node);
        }
        fields.finish(reader);
    }
    // The Go structure has this number beside the text, and prints both.
    map.put_bare("outofordertimewindow", config.out_of_order_window.as_millis());
    if config.out_of_order_window != Duration::ZERO {
        map.put_text("out_of_order_time_window", &config.out_of_order_window.to_string());
    }
    if config.stale_series_threshold != 0.0 {
        map.put_bare("stale_series_compaction_threshold", config.stale_series_threshold);
    }
    map.put_map("chunk_encoding", encoding);
    map.put("retention", crate::shown::Shown::Map(shown_retention(&config.retention)));
    shown.put_map("tsdb", map);
}

fn read_encoding(
    reader: &mut Reader<'_>,
    node: &Node,
    options: &LoadOptions,
    shown: &mut ShownMap,
) -> Option<FloatEncoding> {
    let mut fields = Fields::new(reader, node, "config.ChunkEncodingConfig");
    let mut encoding = None;
    if let Some(value) = fields.take("floats").filter(|node| !node.is_null()) {
        let text = reader.string(value);
        // Texts as in Prometheus:
        match text.as_str() {
            "xor" if options.xor_forbidden => {
                let why = "is incompatible with st-storage; XOR chunks do not store start timestamps";
                reader.invalid(value.id, format!("'storage.tsdb.chunk_encoding.floats: xor' {why}"));
            }
            "xor2" if options.xor2_forbidden => {
                let why = "requires the xor2-encoding feature flag to be enabled at startup";
                reader.invalid(value.id, format!("'storage.tsdb.chunk_encoding.floats: xor2' {why}"));
            }
            "xor" => encoding = Some(FloatEncoding::Xor),
            "xor2" => encoding = Some(FloatEncoding::Xor2),
            "" => {}
            other => {
                let rule = "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely";
                reader.invalid(value.id, format!("{rule}, got {other:?}"));
            }
        }
        if encoding.is_some() {
            shown.put_text("floats", &text);
        }
    }
    fields.finish(reader);
    encoding
}

/// What the section does not name is off, whatever the flags say.
fn read_retention(reader: &mut Reader<'_>, node: &Node) -> Retention {
    let mut fields = Fields::new(reader, node, "config.plain");
    let time = fields.duration_or(reader, "time", Duration::ZERO);
    let size_node = fields.take("size");
    let size = size_node.map_or(0, |node| reader.size(node));
    if size < 0 {
        // Text as in Prometheus:
        let message = "'storage.tsdb.retention.size' must be greater than or equal to 0";
        reader.invalid(size_node.map_or(node.id, |node| node.id), message);
    }
    let mut percentage = 0.0;
    if let Some(value) = fields.take("percentage") {
        percentage = reader.float(value);
        if !(0.0..=100.0).contains(&percentage) {
            // Text as in Prometheus:
            reader.invalid(value.id, "'storage.tsdb.retention.percentage' must be in the range [0, 100]");
        }
    }
    fields.finish(reader);
    Retention { time, size: size.max(0) as u64, percentage }
}

fn shown_retention(retention: &Retention) -> ShownMap {
    let mut map = ShownMap::new();
    if retention.time != Duration::ZERO {
        map.put_text("time", &retention.time.to_string());
    }
    if retention.size > 0 {
        map.put_text("size", &bytesize::format(retention.size));
    }
    if retention.percentage > 0.0 {
        map.put_bare("percentage", retention.percentage);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loaded, load};

    fn loaded(text: &str, options: &LoadOptions) -> Result<Loaded, String> {
        let folder = fk_testkit::TempDir::new("config-storage");
        let path = folder.path().join("p.yml");
        std::fs::write(&path, text).unwrap();
        load(&path, options).map_err(|errors| errors.to_string())
    }

    fn flags() -> LoadOptions {
        let retention = Retention { time: Duration(3_600_000), size: 1 << 30, percentage: 0.0 };
        LoadOptions { retention, ..LoadOptions::default() }
    }

    #[test]
    fn flags_count_where_the_section_has_no_retention() {
        for text in ["", "storage:", "storage: {tsdb: {}}", "storage: {tsdb: {out_of_order_time_window: 0s}}"] {
            let storage = loaded(text, &flags()).unwrap().config.storage;
            assert_eq!(storage.retention, flags().retention, "{text}");
            assert_eq!((storage.out_of_order_window, storage.exemplars_max), (Duration::ZERO, 100_000), "{text}");
        }
    }

    #[test]
    fn what_a_retention_section_does_not_name_is_off() {
        for (text, wanted) in [
            ("{time: 30d}", Retention { time: Duration(30 * 86_400_000), ..Retention::default() }),
            ("{size: 5GB}", Retention { size: 5 << 30, ..Retention::default() }),
            ("{percentage: 0.5}", Retention { percentage: 0.5, ..Retention::default() }),
            ("{}", Retention::default()),
        ] {
            let storage =
                loaded(&format!("storage: {{tsdb: {{retention: {text}}}}}"), &flags()).unwrap().config.storage;
            assert_eq!(storage.retention, wanted, "{text}");
        }
    }

    #[test]
    fn wrong_and_missing_settings_are_named() {
        for (text, wanted) in [
            ("tsdb: {retention: {size: -1GB}}", "must be greater than or equal to 0"),
            ("tsdb: {retention: {percentage: 101}}", "must be in the range [0, 100]"),
            ("tsdb: {retention: {nonsense: 1}}", "field nonsense not found"),
            ("tsdb: {stale_series_compaction_threshold: 1.5}", "must be between 0 and 1"),
            ("tsdb: {chunk_encoding: {floats: gorilla}}", "must be 'xor' or 'xor2'"),
            ("exemplars: {max_exemplars: many}", "many"),
        ] {
            let error = loaded(&format!("storage: {{{text}}}"), &LoadOptions::default()).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn encodings_have_to_fit_the_features() {
        let text = |encoding: &str| format!("storage: {{tsdb: {{chunk_encoding: {{floats: {encoding}}}}}}}");
        for (encoding, wanted) in [("xor", Some(FloatEncoding::Xor)), ("xor2", Some(FloatEncoding::Xor2)), ("", None)] {
            let loaded = loaded(&text(encoding), &flags()).unwrap();
            assert_eq!(loaded.config.storage.float_encoding, wanted);
            assert_eq!(loaded.shown_yaml.contains(&format!("floats: {encoding}\n")), wanted.is_some());
        }
        let options = LoadOptions { xor_forbidden: true, xor2_forbidden: true, ..flags() };
        for (encoding, wanted) in [("xor", "is incompatible with st-storage"), ("xor2", "requires the xor2-encoding")] {
            let error = loaded(&text(encoding), &options).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn exemplars_are_counted_and_switched_off() {
        for (text, wanted) in [("{max_exemplars: 5}", 5), ("{}", 0), ("{max_exemplars: -1}", -1)] {
            let storage = loaded(&format!("storage: {{exemplars: {text}}}"), &flags()).unwrap().config.storage;
            assert_eq!(storage.exemplars_max, wanted, "{text}");
        }
    }

    #[test]
    fn what_is_shown_has_the_defaults() {
        let options = LoadOptions { exemplar_storage: true, ..flags() };
        let text = "storage: {tsdb: {out_of_order_time_window: 30m, stale_series_compaction_threshold: 0.25}}";
        let shown = loaded(text, &options).unwrap().shown_yaml;
        let wanted = "storage:\n  tsdb:\n    outofordertimewindow: 1800000\n    out_of_order_time_window: 30m\n    stale_series_compaction_threshold: 0.25\n    retention:\n      time: 1h\n      size: 1GiB\n  exemplars:\n    max_exemplars: 100000\n";
        assert!(shown.contains(wanted), "{shown}");
        let shown = loaded("", &LoadOptions::default()).unwrap().shown_yaml;
        assert!(shown.contains("storage:\n  tsdb:\n    outofordertimewindow: 0\n"), "{shown}");
    }
}
