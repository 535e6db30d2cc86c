//! `promtool push metrics`: an exposition in the text format as the body of a remote-write request, in either of its messages.

use std::collections::{BTreeMap, HashMap};

use fk_exposition::{MetricType, format_go_float};
use fk_model::METRIC_NAME;
use fk_model::name::NameValidation;

use crate::families::{Family, Metric, families};
use crate::{Result, ToolError};

/// Which message carries the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

impl Message {
    /// By its name.
    pub fn named(name: &str) -> Option<Message> {
        match name {
            "prometheus.WriteRequest" => Some(Message::V1),
            "io.prometheus.write.v2.Request" => Some(Message::V2),
            _ => None,
        }
    }

    /// Content-Type of a request with it.
    pub fn content_type(self) -> &'static str {
        match self {
            Message::V1 => "application/x-protobuf",
            Message::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// X-Prometheus-Remote-Write-Version of a request with it.
    pub fn version(self) -> &'static str {
        match self {
            Message::V1 => "0.1.0",
            Message::V2 => "2.0.0",
        }
    }
}

/// One sample.
#[derive(Debug, PartialEq)]
struct Sample<'f> {
    labels: BTreeMap<String, String>,
    t_ms: i64,
    value: f64,
    family: &'f Family,
}

/// The body of the request, compressed. Samples without a time get `now_ms`; `added` goes to all of them, and does not win
/// over their own labels.
pub fn body(text: &[u8], added: &[(String, String)], now_ms: i64, message: Message) -> Result<Vec<u8>> {
    let other = |error: &dyn std::fmt::Display| ToolError::Other(error.to_string());
    let mut families = families(text, NameValidation::Utf8).map_err(|error| other(&error))?;
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let mut all = Vec::new();
    for family in &families {
        for metric in &family.metrics {
            samples(family, metric, added, now_ms, &mut all)?;
        }
    }
    let plain = match message {
        Message::V1 => v1(&families, &all),
        Message::V2 => v2(&all),
    };
    snap::raw::Encoder::new().compress_vec(&plain).map_err(|error| other(&error))
}

fn samples<'f>(
    family: &'f Family,
    metric: &Metric,
    added: &[(String, String)],
    now_ms: i64,
    out: &mut Vec<Sample<'f>>,
) -> Result<()> {
    let mut base: BTreeMap<String, String> = added.iter().cloned().collect();
    for (name, value) in &metric.labels {
        // The job is what the pusher says, as with scrapes.
        let name = if name == "job" { "exported_job" } else { name.as_str() };
        base.insert(name.to_owned(), value.clone());
    }
    // A time of zero stands for none.
    let t_ms = metric.t_ms.filter(|t| *t != 0).unwrap_or(now_ms);
    let mut add = |suffix: &str, part: Option<(&str, String)>, value: f64| {
        let mut labels = base.clone();
        labels.insert(METRIC_NAME.to_owned(), format!("{}{suffix}", family.name));
        labels.extend(part.map(|(name, value)| (name.to_owned(), value)));
        out.push(Sample { labels, t_ms, value, family });
    };
    match family.kind {
        MetricType::Counter | MetricType::Gauge | MetricType::Unknown => add("", None, metric.value),
        MetricType::Summary => {
            for (quantile, value) in &metric.parts {
                add("", Some(("quantile", format_go_float(*quantile).to_string())), *value);
            }
            add("_sum", None, metric.sum);
            add("_count", None, metric.count.trunc());
        }
        MetricType::Histogram => {
            for (le, count) in &metric.parts {
                add("_bucket", Some(("le", format_go_float(*le).to_string())), count.trunc());
            }
            if metric.parts.iter().all(|(le, _)| *le != f64::INFINITY) {
                add("_bucket", Some(("le", "+Inf".to_owned())), metric.count.trunc());
            }
            add("_sum", None, metric.sum);
            add("_count", None, metric.count.trunc());
        }
        // Text as in Prometheus:
        _ => return Err(ToolError::Other("unsupported metric type".to_owned())),
    }
    Ok(())
}

/// Number of a type in the messages.
fn kind_number(kind: MetricType, message: Message) -> u64 {
    match (kind, message) {
        (MetricType::Counter, _) => 1,
        (MetricType::Gauge, _) => 2,
        (MetricType::Histogram, _) => 3,
        (MetricType::Summary, _) => 5,
        _ => 0,
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        varint(out, field << 3);
        varint(out, value);
    }
}

/// A sample's message, the same in both.
fn point(sample: &Sample<'_>) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&sample.value.to_le_bytes());
    number(&mut out, 2, sample.t_ms as u64);
    out
}

fn v1(families: &[Family], samples: &[Sample<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for sample in samples {
        let mut series = Vec::new();
        for (name, value) in &sample.labels {
            let mut label = Vec::new();
            bytes(&mut label, 1, name.as_bytes());
            bytes(&mut label, 2, value.as_bytes());
            bytes(&mut series, 1, &label);
        }
        bytes(&mut series, 2, &point(sample));
        bytes(&mut out, 1, &series);
    }
    for family in families {
        let mut metadata = Vec::new();
        number(&mut metadata, 1, kind_number(family.kind, Message::V1));
        bytes(&mut metadata, 2, family.name.as_bytes());
        bytes(&mut metadata, 4, family.help.as_deref().unwrap_or("").as_bytes());
        bytes(&mut out, 3, &metadata);
    }
    out
}

/// Texts stand once in front, and everything names them by their place. The first one is empty.
#[derive(Default)]
struct Symbols<'s> {
    texts: Vec<&'s str>,
    places: HashMap<&'s str, u64>,
}

impl<'s> Symbols<'s> {
    fn place(&mut self, text: &'s str) -> u64 {
        let texts = &mut self.texts;
        *self.places.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() as u64 - 1
        })
    }
}

fn v2(samples: &[Sample<'_>]) -> Vec<u8> {
    let mut symbols = Symbols::default();
    symbols.place("");
    let mut all = Vec::new();
    for sample in samples {
        let (mut series, mut refs, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in &sample.labels {
            varint(&mut refs, symbols.place(name));
            varint(&mut refs, symbols.place(value));
        }
        bytes(&mut series, 1, &refs);
        bytes(&mut series, 2, &point(sample));
        number(&mut metadata, 1, kind_number(sample.family.kind, Message::V2));
        number(&mut metadata, 3, symbols.place(sample.family.help.as_deref().unwrap_or("")));
        bytes(&mut series, 5, &metadata);
        bytes(&mut all, 5, &series);
    }
    let mut out = Vec::new();
    for text in &symbols.texts {
        bytes(&mut out, 4, text.as_bytes());
    }
    out.append(&mut all);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP c Counts.\n# TYPE c counter\nc{job=\"x\",a=\"1\"} 3 5\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\n\
                        h_sum 1.5\nh_count 4\n# TYPE s summary\ns{quantile=\"0.5\"} 7\ns_sum 1\ns_count 2\nu 1e6\n";

    #[test]
    fn metrics_become_samples_with_the_added_labels() {
        let families = {
            let mut families = families(TEXT.as_bytes(), NameValidation::Utf8).unwrap();
            families.sort_by(|a, b| a.name.cmp(&b.name));
            families
        };
        let added = [("job".to_owned(), "pushed".to_owned()), ("a".to_owned(), "0".to_owned())];
        let mut all = Vec::new();
        for family in &families {
            for metric in &family.metrics {
                samples(family, metric, &added, 99, &mut all).unwrap();
            }
        }
        let shown: Vec<String> = all
            .iter()
            .map(|sample| {
                let labels: Vec<String> =
                    sample.labels.iter().filter(|(_, v)| *v != "pushed").map(|(n, v)| format!("{n}={v}")).collect();
                format!("{} {} {}", labels.join(","), sample.value, sample.t_ms)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "__name__=c,a=1,exported_job=x 3 5",
                "__name__=h_bucket,a=0,le=1 2 99",
                "__name__=h_bucket,a=0,le=+Inf 4 99",
                "__name__=h_sum,a=0 1.5 99",
                "__name__=h_count,a=0 4 99",
                "__name__=s,a=0,quantile=0.5 7 99",
                "__name__=s_sum,a=0 1 99",
                "__name__=s_count,a=0 2 99",
                "__name__=u,a=0 1000000 99",
            ]
        );
    }

    #[test]
    fn messages_hold_what_the_text_says() {
        let text = b"# HELP c Counts.\n# TYPE c counter\nc 3\n";
        let plain = |message| {
            let packed = body(text, &[], 5, message).unwrap();
            snap::raw::Decoder::new().decompress_vec(&packed).unwrap()
        };
        let point = [&[9][..], &3f64.to_le_bytes(), &[16, 5]].concat();
        let label = [&[10, 8][..], b"__name__", &[18, 1], b"c"].concat();
        let series = [&[10, label.len() as u8][..], &label, &[18, point.len() as u8], &point].concat();
        let metadata = [&[8, 1, 18, 1][..], b"c", &[34, 7], b"Counts."].concat();
        let v1 = [&[10, series.len() as u8][..], &series, &[26, metadata.len() as u8], &metadata].concat();
        assert_eq!(plain(Message::V1), v1);
        let series = [&[10, 2, 1, 2, 18, point.len() as u8][..], &point, &[42, 4, 8, 1, 24, 3]].concat();
        let symbols = [&[34, 0, 34, 8][..], b"__name__", &[34, 1], b"c", &[34, 7], b"Counts."].concat();
        assert_eq!(plain(Message::V2), [&symbols[..], &[42, series.len() as u8], &series].concat());
    }

    #[test]
    fn what_is_no_exposition_is_refused() {
        let error = body(b"a b\n", &[], 0, Message::V1).unwrap_err();
        assert!(error.to_string().starts_with("text format parsing error in line 1"), "{error}");
    }
}
