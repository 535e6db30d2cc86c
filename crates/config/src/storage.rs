//! The `storage` section, as far as it is built: retention by time and by size.

use fk_model::Duration;

use crate::bytesize;
use crate::reader::{Fields, Reader};
use crate::shown::{ShownMap, ShownMapExt};
use crate::types::StorageConfig;
use crate::yaml::Node;

/// Reads `storage`; `None` if it says nothing of retention.
pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, shown: &mut ShownMap) -> Option<StorageConfig> {
    let mut fields = Fields::new(reader, node, "config.StorageConfig");
    let mut map = ShownMap::new();
    let retention =
        fields.take("tsdb").filter(|node| !node.is_null()).and_then(|node| read_tsdb(reader, node, &mut map));
    if let Some((_, exemplars)) = fields.take_entry("exemplars").filter(|(_, node)| !node.is_null()) {
        let mut fields = Fields::new(reader, exemplars, "config.ExemplarsConfig");
        fields.take("max_exemplars").map(|node| reader.int(node, "int64", i128::from(i64::MIN), i128::from(i64::MAX)));
        fields.finish(reader);
        reader.warn("storage.exemplars has no effect, since exemplars are not stored yet");
    }
    fields.finish(reader);
    shown.put_map("storage", map);
    retention
}

fn read_tsdb(reader: &mut Reader<'_>, node: &Node, shown: &mut ShownMap) -> Option<StorageConfig> {
    let mut fields = Fields::new(reader, node, "config.plain");
    let mut map = ShownMap::new();
    if let Some((key, value)) = fields.take_entry("out_of_order_time_window")
        && reader.duration(value) != Duration::ZERO
    {
        reader.unsupported(key.id, "out_of_order_time_window");
    }
    if let Some((key, value)) = fields.take_entry("stale_series_compaction_threshold") {
        let threshold = reader.float(value);
        if !(0.0..=1.0).contains(&threshold) {
            reader.invalid(value.id, "'storage.tsdb.stale_series_compaction_threshold' must be between 0 and 1");
        } else if threshold != 0.0 {
            reader.unsupported(key.id, "stale_series_compaction_threshold");
        }
    }
    if let Some(encoding) = fields.take("chunk_encoding").filter(|node| !node.is_null()) {
        let mut fields = Fields::new(reader, encoding, "config.ChunkEncodingConfig");
        if let Some(value) = fields.take("floats").filter(|node| !node.is_null()) {
            match reader.string(value).as_str() {
                "xor" => {
                    let mut encoding = ShownMap::new();
                    encoding.put_text("floats", "xor");
                    map.put_map("chunk_encoding", encoding);
                }
                "xor2" => reader.unsupported(value.id, "storage.tsdb.chunk_encoding.floats: xor2"),
                other => {
                    // Text as in Prometheus:
                    let rule = "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely";
                    reader.invalid(value.id, format!("{rule}, got {other:?}"));
                }
            }
        }
        fields.finish(reader);
    }
    let retention =
        fields.take("retention").filter(|node| !node.is_null()).map(|node| read_retention(reader, node, &mut map));
    fields.finish(reader);
    shown.put_map("tsdb", map);
    retention
}

fn read_retention(reader: &mut Reader<'_>, node: &Node, shown: &mut ShownMap) -> StorageConfig {
    let mut fields = Fields::new(reader, node, "config.plain");
    reader.warn("storage.tsdb.retention has no effect yet: there are no blocks whose retention it could limit");
    let retention_time = fields.duration_or(reader, "time", Duration::ZERO);
    let size_node = fields.take("size");
    let size = size_node.map_or(0, |node| reader.size(node));
    if size < 0 {
        // Text as in Prometheus:
        let message = "'storage.tsdb.retention.size' must be greater than or equal to 0";
        reader.invalid(size_node.map_or(node.id, |node| node.id), message);
    }
    if let Some((key, value)) = fields.take_entry("percentage") {
        let percentage = reader.float(value);
        if !(0.0..=100.0).contains(&percentage) {
            reader.invalid(value.id, "'storage.tsdb.retention.percentage' must be in the range [0, 100]");
        } else if percentage != 0.0 {
            reader.unsupported(key.id, "storage.tsdb.retention.percentage");
        }
    }
    fields.finish(reader);
    let retention_size = size.max(0) as u64;
    let mut map = ShownMap::new();
    if retention_time != Duration::ZERO {
        map.put_text("time", &retention_time.to_string());
    }
    if retention_size > 0 {
        map.put_text("size", &bytesize::format(retention_size));
    }
    shown.put_map("retention", map);
    StorageConfig { retention_time, retention_size }
}
