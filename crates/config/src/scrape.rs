//! One scrape job.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use fk_model::Duration;
use fk_model::name::NameValidation;

use crate::global::{self, Global, HistogramSwitches, Limits};
use crate::http;
use crate::reader::{Fields, Reader};
use crate::relabel;
use crate::section::{resolve, shown_texts, validation_name};
use crate::shown::{self, Shown, ShownMap, ShownMapExt};
use crate::targets;
use crate::types::{EscapingScheme, ScrapeConfig, ScrapeProtocol};
use crate::yaml::Node;

/// Reads a `scrape_configs` list. `known_jobs` holds the names so far, over all files.
pub(crate) fn read_list(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    global: &Global,
    base: &Path,
    known_jobs: &mut HashMap<String, ()>,
) -> (Vec<ScrapeConfig>, Vec<Shown>) {
    let (mut jobs, mut list_shown) = (Vec::new(), Vec::new());
    let Some(node) = node else { return (jobs, list_shown) };
    for item in reader.list(node, "[]*config.ScrapeConfig") {
        if item.is_null() {
            // Text as in Prometheus:
            reader.invalid(item.id, "empty or null scrape config section");
            continue;
        }
        let (job, shown) = read(reader, item, global, base);
        if !job.job_name.is_empty() && known_jobs.insert(job.job_name.clone(), ()).is_some() {
            // Text as in Prometheus:
            reader.invalid(item.id, format!("found multiple scrape configs with job name {:?}", job.job_name));
        }
        jobs.push(job);
        list_shown.push(Shown::Map(shown));
    }
    (jobs, list_shown)
}

fn read(reader: &mut Reader<'_>, node: &Node, global: &Global, base: &Path) -> (ScrapeConfig, ShownMap) {
    let mut fields = Fields::new(reader, node, "config.ScrapeConfig");
    let mut map = ShownMap::new();
    let id = node.id;

    let job_name = fields.string(reader, "job_name");
    if job_name.is_empty() {
        // Text as in Prometheus:
        reader.invalid(id, "job_name is empty");
    }
    let of_job = format!("for scrape config with job name {job_name:?}");
    map.put_text("job_name", &job_name);
    let honor_labels = fields.bool_or(reader, "honor_labels", false);
    let honor_timestamps = fields.bool_or(reader, "honor_timestamps", true);
    let track_timestamps_staleness = fields.bool_or(reader, "track_timestamps_staleness", false);
    map.put_true("honor_labels", honor_labels);
    map.put_bare("honor_timestamps", honor_timestamps);
    map.put_bare("track_timestamps_staleness", track_timestamps_staleness);
    let params = read_params(reader, &mut fields, &mut map);
    let (scrape_interval, scrape_timeout) = read_times(reader, &mut fields, global, &of_job);
    map.put_text("scrape_interval", &scrape_interval.to_string());
    map.put_text("scrape_timeout", &scrape_timeout.to_string());

    let own_protocols = global::read_protocols(reader, &mut fields, &of_job);
    let fallback_scrape_protocol = read_fallback(reader, &mut fields, &of_job);
    let histograms = HistogramSwitches::read(reader, &mut fields, global.histograms);
    let scrape_protocols = own_protocols.or_else(|| global.scrape_protocols.clone()).unwrap_or_else(|| {
        let protocols =
            if histograms.native { ScrapeProtocol::PROTO_FIRST.as_slice() } else { &ScrapeProtocol::DEFAULT };
        protocols.to_vec()
    });
    map.put_seq("scrape_protocols", global::shown_protocols(&scrape_protocols));
    if let Some(protocol) = fallback_scrape_protocol {
        map.put_text("fallback_scrape_protocol", protocol.as_str());
    }
    map.put_bare("scrape_native_histograms", histograms.native);
    map.put_bare("always_scrape_classic_histograms", histograms.always_classic);
    map.put_bare("convert_classic_histograms_to_nhcb", histograms.convert_classic);
    let own_log_file = resolve(base, &fields.string(reader, "scrape_failure_log_file"));
    let log_file = if own_log_file.is_empty() { &global.scrape_failure_log_file } else { &own_log_file };
    map.put_nonempty("scrape_failure_log_file", log_file);
    let metrics_path = fields.string_or(reader, "metrics_path", "/metrics");
    let scheme = fields.string_or(reader, "scheme", "http");
    let enable_compression = fields.bool_or(reader, "enable_compression", true);
    map.put_nonempty("metrics_path", &metrics_path);
    map.put_nonempty("scheme", &scheme);
    map.put_bare("enable_compression", enable_compression);
    let limits = Limits::read(reader, &mut fields, global.limits);
    limits.show(&mut map);
    let native_histogram_bucket_limit = fields.uint_or(reader, "native_histogram_bucket_limit", 0);
    map.put_nonzero("native_histogram_bucket_limit", native_histogram_bucket_limit);
    let native_histogram_min_bucket_factor =
        fields.take("native_histogram_min_bucket_factor").map_or(0.0, |node| reader.float(node));
    if native_histogram_min_bucket_factor != 0.0 {
        map.put_bare("native_histogram_min_bucket_factor", native_histogram_min_bucket_factor);
    }
    let (metric_name_validation, metric_name_escaping) = read_schemes(reader, &mut fields, id, global, &mut map);
    let extra_scrape_metrics = fields.bool_or(reader, "extra_scrape_metrics", global.extra_scrape_metrics);
    map.put_bare("extra_scrape_metrics", extra_scrape_metrics);
    let http = http::read(reader, &mut fields, base, &mut map);

    let relabel_node = fields.take("relabel_configs");
    // Text as in Prometheus:
    let null_text = "empty or null target relabeling rule in scrape config";
    let relabel_configs =
        relabel::read(reader, relabel_node, metric_name_validation, null_text, &mut map, "relabel_configs");
    let metric_relabel_node = fields.take("metric_relabel_configs");
    // Text as in Prometheus:
    let null_text = "empty or null metric relabeling rule in scrape config";
    let metric_relabel_configs = relabel::read(
        reader,
        metric_relabel_node,
        metric_name_validation,
        null_text,
        &mut map,
        "metric_relabel_configs",
    );
    let without_relabelling = relabel_node.is_none_or(Node::is_empty);
    let discovery = targets::read(reader, &mut fields, base, metric_name_validation, without_relabelling, &mut map);
    fields.finish(reader);

    let job = ScrapeConfig {
        job_name,
        honor_labels,
        honor_timestamps,
        track_timestamps_staleness,
        params,
        scrape_interval,
        scrape_timeout,
        scrape_protocols,
        fallback_scrape_protocol,
        scrape_failure_log_file: Some(PathBuf::from(log_file)).filter(|path| !path.as_os_str().is_empty()),
        metrics_path,
        scheme,
        enable_compression,
        body_size_limit: limits.body_size,
        sample_limit: limits.samples,
        target_limit: limits.targets,
        label_limit: limits.labels,
        label_name_length_limit: limits.label_name_length,
        label_value_length_limit: limits.label_value_length,
        keep_dropped_targets: limits.keep_dropped_targets,
        scrape_native_histograms: histograms.native,
        always_scrape_classic_histograms: histograms.always_classic,
        convert_classic_histograms: histograms.convert_classic,
        native_histogram_bucket_limit,
        native_histogram_min_bucket_factor,
        metric_name_validation,
        metric_name_escaping,
        extra_scrape_metrics,
        http,
        discovery,
        relabel_configs,
        metric_relabel_configs,
        shown_yaml: shown::print(&map),
    };
    (job, map)
}

fn read_params(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    shown: &mut ShownMap,
) -> BTreeMap<String, Vec<String>> {
    let Some(node) = fields.take("params") else { return BTreeMap::new() };
    let entries = reader.entries(node, "url.Values");
    let params: BTreeMap<_, _> =
        entries.iter().map(|(key, value)| (reader.string(key), reader.strings(value))).collect();
    shown.put_map(
        "params",
        params.iter().map(|(name, values)| (name.clone(), Shown::Seq(shown_texts(values)))).collect(),
    );
    params
}

fn read_times(reader: &mut Reader<'_>, fields: &mut Fields<'_>, global: &Global, of_job: &str) -> (Duration, Duration) {
    let id = fields.id;
    let own = fields.duration_or(reader, "scrape_interval", Duration::ZERO);
    let interval = if own == Duration::ZERO { global.config.scrape_interval } else { own };
    let timeout_node = fields.take("scrape_timeout");
    let own = timeout_node.map_or(Duration::ZERO, |node| reader.duration(node));
    if own > interval {
        // Text as in Prometheus:
        let message = format!("scrape timeout greater than scrape interval {of_job}");
        reader.invalid(timeout_node.map_or(id, |node| node.id), message);
    }
    (interval, if own == Duration::ZERO { global.config.scrape_timeout.min(interval) } else { own })
}

fn read_fallback(reader: &mut Reader<'_>, fields: &mut Fields<'_>, of_job: &str) -> Option<ScrapeProtocol> {
    let node = fields.take("fallback_scrape_protocol")?;
    let text = reader.string(node);
    if text.is_empty() {
        return None;
    }
    match global::parse_protocol(&text) {
        Ok(protocol) => Some(protocol),
        Err(error) => {
            // Text as in Prometheus:
            reader.invalid(node.id, format!("invalid fallback_scrape_protocol {of_job}: {error}"));
            None
        }
    }
}

/// The validation scheme comes from `global` if the job says nothing; the escaping scheme too, unless the job has a
/// validation scheme of its own, from which it is inferred then.
fn read_schemes(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    id: u32,
    global: &Global,
    shown: &mut ShownMap,
) -> (NameValidation, EscapingScheme) {
    let own_validation = global::read_validation(reader, fields);
    let validation = own_validation.unwrap_or(global.validation);
    let inferred = match validation {
        NameValidation::Utf8 => EscapingScheme::AllowUtf8,
        NameValidation::Legacy => EscapingScheme::Underscores,
    };
    let inherited = global.escaping.filter(|_| own_validation.is_none());
    let escaping =
        global::read_escaping(reader, fields, "scrape config name escaping method").or(inherited).unwrap_or(inferred);
    if escaping == EscapingScheme::AllowUtf8 && validation == NameValidation::Legacy {
        // Text as in Prometheus:
        reader.invalid(id, "utf8 metric names requested but validation scheme is not set to UTF8");
    }
    shown.put_text("metric_name_validation_scheme", validation_name(validation));
    shown.put_text("metric_name_escaping_scheme", escaping.as_str());
    (validation, escaping)
}
