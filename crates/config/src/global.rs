//! The `global` section, and the defaults it gives every scrape job.

use std::path::Path;

use fk_model::name::NameValidation;
use fk_model::{Duration, Labels};

use crate::bytesize;
use crate::load::LoadOptions;
use crate::reader::{Fields, Reader};
use crate::section::{resolve, shown_texts, validation_name};
use crate::shown::{Shown, ShownMap, ShownMapExt};
use crate::types::{EscapingScheme, GlobalConfig, ScrapeProtocol};
use crate::yaml::Node;

const INTERVAL: Duration = Duration(60_000);
const TIMEOUT: Duration = Duration(10_000);

/// `global` with everything that scrape jobs inherit.
#[derive(Clone, Debug)]
pub(crate) struct Global {
    pub config: GlobalConfig,
    /// What was configured, if anything.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    pub limits: Limits,
    pub validation: NameValidation,
    /// `None`: to be inferred from the validation scheme.
    pub escaping: Option<EscapingScheme>,
    pub histograms: HistogramSwitches,
    pub extra_scrape_metrics: bool,
    /// Empty: none.
    pub scrape_failure_log_file: String,
}

/// The limits of a scrape, in the order in which they are shown; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub body_size: u64,
    pub samples: u64,
    pub targets: u64,
    pub labels: u64,
    pub label_name_length: u64,
    pub label_value_length: u64,
    pub keep_dropped_targets: u64,
}

impl Limits {
    /// Takes the limits out of `fields`; what is absent or zero comes from `defaults`.
    pub fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_>, defaults: Limits) -> Limits {
        let body_size = fields.take("body_size_limit").map_or(0, |node| reader.size(node).max(0) as u64);
        Limits {
            body_size: if body_size == 0 { defaults.body_size } else { body_size },
            samples: fields.uint_or(reader, "sample_limit", defaults.samples),
            targets: fields.uint_or(reader, "target_limit", defaults.targets),
            labels: fields.uint_or(reader, "label_limit", defaults.labels),
            label_name_length: fields.uint_or(reader, "label_name_length_limit", defaults.label_name_length),
            label_value_length: fields.uint_or(reader, "label_value_length_limit", defaults.label_value_length),
            keep_dropped_targets: fields.uint_or(reader, "keep_dropped_targets", defaults.keep_dropped_targets),
        }
    }

    pub fn show(&self, shown: &mut ShownMap) {
        if self.body_size > 0 {
            shown.put_text("body_size_limit", &bytesize::format(self.body_size));
        }
        shown.put_nonzero("sample_limit", self.samples);
        shown.put_nonzero("target_limit", self.targets);
        shown.put_nonzero("label_limit", self.labels);
        shown.put_nonzero("label_name_length_limit", self.label_name_length);
        shown.put_nonzero("label_value_length_limit", self.label_value_length);
        shown.put_nonzero("keep_dropped_targets", self.keep_dropped_targets);
    }
}

/// Reads `global`; without content it has the defaults.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    base: &Path,
    options: &LoadOptions,
    shown: &mut ShownMap,
) -> Global {
    let absent = Node { id: 0, value: crate::yaml::Value::Null };
    let node = node.unwrap_or(&absent);
    let mut fields = Fields::new(reader, node, "config.plain");
    let mut map = ShownMap::new();

    let interval = fields.duration_or(reader, "scrape_interval", Duration::ZERO);
    let scrape_interval = if interval == Duration::ZERO { INTERVAL } else { interval };
    let timeout_node = fields.take("scrape_timeout");
    let timeout = timeout_node.map_or(Duration::ZERO, |node| reader.duration(node));
    if timeout > scrape_interval {
        // Text as in Prometheus:
        reader.invalid(
            timeout_node.map_or(node.id, |node| node.id),
            "global scrape timeout greater than scrape interval",
        );
    }
    let scrape_timeout = if timeout == Duration::ZERO { TIMEOUT.min(scrape_interval) } else { timeout };
    map.put_text("scrape_interval", &scrape_interval.to_string());
    map.put_text("scrape_timeout", &scrape_timeout.to_string());

    let proto_first = || ScrapeProtocol::PROTO_FIRST.to_vec();
    let scrape_protocols =
        read_protocols(reader, &mut fields, "for global config").or_else(|| options.proto_first.then(proto_first));
    map.put_seq("scrape_protocols", shown_protocols(scrape_protocols.as_deref().unwrap_or_default()));
    let evaluation = fields.duration_or(reader, "evaluation_interval", Duration::ZERO);
    let evaluation_interval = if evaluation == Duration::ZERO { INTERVAL } else { evaluation };
    map.put_text("evaluation_interval", &evaluation_interval.to_string());
    let rule_query_offset = fields.duration_or(reader, "rule_query_offset", Duration::ZERO);
    if rule_query_offset != Duration::ZERO {
        map.put_text("rule_query_offset", &rule_query_offset.to_string());
    }
    let query_log_file = resolve(base, &fields.string(reader, "query_log_file"));
    map.put_nonempty("query_log_file", &query_log_file);
    let scrape_failure_log_file = resolve(base, &fields.string(reader, "scrape_failure_log_file"));
    map.put_nonempty("scrape_failure_log_file", &scrape_failure_log_file);

    // Validation of names comes first in Prometheus too, whatever the order in the file.
    let validation = read_validation(reader, &mut fields).unwrap_or_default();
    let labels = read_external_labels(reader, &mut fields, validation, options);
    // Labels without a value are none, but they are shown.
    map.put_map(
        "external_labels",
        labels.iter().map(|(name, value)| (name.clone(), Shown::Text(value.clone()))).collect(),
    );
    let external_labels = Labels::from_pairs(labels);
    let limits = Limits::read(reader, &mut fields, Limits::default());
    limits.show(&mut map);

    map.put_text("metric_name_validation_scheme", validation_name(validation));
    let escaping = read_escaping(reader, &mut fields, "global name escaping method");
    if escaping.is_none_or(|scheme| scheme == EscapingScheme::AllowUtf8)
        && escaping.is_some()
        && validation == NameValidation::Legacy
    {
        // Text as in Prometheus:
        reader.invalid(node.id, "utf8 metric names requested but validation scheme is not set to UTF8");
    }
    if let Some(scheme) = escaping {
        map.put_text("metric_name_escaping_scheme", scheme.as_str());
    } else if node.is_null() {
        map.put_text("metric_name_escaping_scheme", EscapingScheme::AllowUtf8.as_str());
    }
    let histograms = HistogramSwitches::read(reader, &mut fields, HistogramSwitches::default());
    map.put_bare("scrape_native_histograms", histograms.native);
    map.put_true("convert_classic_histograms_to_nhcb", histograms.convert_classic);
    map.put_true("always_scrape_classic_histograms", histograms.always_classic);
    let extra_scrape_metrics = fields.bool_or(reader, "extra_scrape_metrics", options.extra_scrape_metrics);
    map.put_bare("extra_scrape_metrics", extra_scrape_metrics);
    fields.finish(reader);
    shown.put("global", Shown::Map(map));
    Global {
        config: GlobalConfig {
            scrape_interval,
            scrape_timeout,
            evaluation_interval,
            rule_query_offset,
            query_log_file,
            external_labels,
        },
        scrape_protocols,
        limits,
        validation,
        escaping,
        histograms,
        extra_scrape_metrics,
        scrape_failure_log_file,
    }
}

/// What becomes of histograms, for `global` and for a job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistogramSwitches {
    pub native: bool,
    pub always_classic: bool,
    pub convert_classic: bool,
}

impl HistogramSwitches {
    /// Takes the switches out of `fields`; those that are absent come from `defaults`.
    pub fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_>, defaults: HistogramSwitches) -> HistogramSwitches {
        HistogramSwitches {
            native: fields.bool_or(reader, "scrape_native_histograms", defaults.native),
            always_classic: fields.bool_or(reader, "always_scrape_classic_histograms", defaults.always_classic),
            convert_classic: fields.bool_or(reader, "convert_classic_histograms_to_nhcb", defaults.convert_classic),
        }
    }
}

/// Reads `metric_name_validation_scheme`.
pub(crate) fn read_validation(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<NameValidation> {
    let node = fields.take("metric_name_validation_scheme")?;
    match reader.string(node).as_str() {
        "" => None,
        "utf8" => Some(NameValidation::Utf8),
        "legacy" => Some(NameValidation::Legacy),
        other => {
            // Text as in Prometheus:
            reader.invalid(node.id, format!("unrecognized ValidationScheme: {other:?}"));
            None
        }
    }
}

/// Reads `metric_name_escaping_scheme`; `what` names it in the error.
pub(crate) fn read_escaping(reader: &mut Reader<'_>, fields: &mut Fields<'_>, what: &str) -> Option<EscapingScheme> {
    let node = fields.take("metric_name_escaping_scheme")?;
    let text = reader.string(node);
    let schemes =
        [EscapingScheme::AllowUtf8, EscapingScheme::Underscores, EscapingScheme::Dots, EscapingScheme::Values];
    let scheme = schemes.into_iter().find(|scheme| scheme.as_str() == text);
    if scheme.is_none() && !text.is_empty() {
        // Text as in Prometheus:
        let message = format!(
            "unknown {what} specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', got {text:?}"
        );
        reader.invalid(node.id, message);
    }
    scheme
}

/// One protocol by its name, or Prometheus' error.
pub(crate) fn parse_protocol(text: &str) -> Result<ScrapeProtocol, String> {
    ScrapeProtocol::ALL.into_iter().find(|protocol| protocol.as_str() == text).ok_or_else(|| {
        let all = ScrapeProtocol::ALL.map(ScrapeProtocol::as_str).join(" ");
        // Text as in Prometheus:
        format!("unknown scrape protocol {text}, supported: [{all}]")
    })
}

/// Reads `scrape_protocols`. `whose` ends the errors.
pub(crate) fn read_protocols(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    whose: &str,
) -> Option<Vec<ScrapeProtocol>> {
    let node = fields.take("scrape_protocols").filter(|node| !node.is_null())?;
    let items = reader.list(node, "[]config.ScrapeProtocol");
    let names: Vec<String> = items.iter().map(|item| reader.string(item)).collect();
    // Texts as in Prometheus:
    if names.is_empty() {
        reader.invalid(node.id, format!("scrape_protocols cannot be empty {whose}"));
        return None;
    }
    let mut protocols = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names[..at].iter().any(|earlier| earlier.eq_ignore_ascii_case(name)) {
            reader.invalid(
                items[at].id,
                format!("duplicated protocol in scrape_protocols, got [{}] {whose}", names.join(" ")),
            );
            return None;
        }
        match parse_protocol(name) {
            Ok(protocol) => protocols.push(protocol),
            Err(error) => {
                reader.invalid(items[at].id, format!("scrape_protocols: {error} {whose}"));
                return None;
            }
        }
    }
    Some(protocols)
}

pub(crate) fn shown_protocols(protocols: &[ScrapeProtocol]) -> Vec<Shown> {
    shown_texts(&protocols.iter().map(|protocol| protocol.as_str()).collect::<Vec<_>>())
}

fn read_external_labels(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    validation: NameValidation,
    options: &LoadOptions,
) -> Vec<(String, String)> {
    let Some(node) = fields.take("external_labels") else { return Vec::new() };
    let mut pairs = Vec::new();
    for (key, value) in reader.entries(node, "map[string]string") {
        let name = reader.label_text(key, "name");
        // A name that is not UTF-8 has been refused already and reads as empty.
        let refused = name.is_empty() && key.text() != Some("");
        if !refused && !validation.label_name(&name) {
            // Text as in Prometheus:
            reader.invalid(key.id, format!("{name:?} is not a valid label name"));
        }
        let (value, missing) = expand_env(&reader.label_text(value, "value"), &*options.env);
        for variable in missing {
            reader.warn(format!(
                "external label {name}: environment variable {variable} is not set, the reference becomes empty"
            ));
        }
        pairs.push((name, value));
    }
    pairs.sort();
    pairs
}

/// Replaces `$name` and `${name}` as Go's `os.Expand` does, `$$` by a dollar sign; also the names without a value.
fn expand_env(text: &str, env: &dyn Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let (mut out, mut missing, mut rest) = (String::new(), Vec::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, used) = if let Some(inner) = rest.strip_prefix('{') {
            match inner.find('}') {
                // `${}` and an open brace are eaten, as in Go.
                Some(0) => ("", 2),
                Some(end) => (&inner[..end], end + 2),
                None => ("", 1),
            }
        } else if rest.starts_with(|c: char| "*#$@!?-".contains(c) || c.is_ascii_digit()) {
            (&rest[..1], 1)
        } else {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            (&rest[..end], end)
        };
        match name {
            "$" => out.push('$'),
            "" if used == 0 => out.push('$'),
            "" => {}
            name => match env(name).filter(|value| !value.is_empty()) {
                Some(value) => out.push_str(&value),
                None => missing.push(name.to_owned()),
            },
        }
        rest = &rest[used..];
    }
    out.push_str(rest);
    (out, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_references_are_replaced() {
        let env = |name: &str| (name == "TEST").then(|| "value".to_owned());
        for (text, wanted) in [
            ("foo", "foo"),
            ("${TEST}", "value"),
            ("a${TEST}b$TEST", "avaluebvalue"),
            ("$TEST-x", "value-x"),
            ("$$TEST", "$TEST"),
            ("$${TEST}", "${TEST}"),
            ("${UNSET}x", "x"),
            ("5$", "5$"),
            ("$ x", "$ x"),
            ("${}x", "x"),
            ("ü$TESTü", "üvalueü"),
        ] {
            assert_eq!(expand_env(text, &env).0, wanted, "{text}");
        }
    }
}
