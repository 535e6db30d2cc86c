//! Samples of unit tests: compared as they are written, and written as Prometheus' tool does.

use std::fmt;

use fk_config::ExpectedSample;
use fk_model::{CounterReset, FloatHistogram, Labels};
use fk_promql_syntax::{SeriesValue, parse_metric, parse_series_desc};

use crate::gofmt;

/// A sample that a query should give or has given.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) labels: Labels,
    /// Zero beside a histogram.
    pub(super) value: f64,
    /// In the notation of the test language; empty: a float.
    pub(super) histogram: String,
}

impl Sample {
    /// What a query has given.
    pub(super) fn of(labels: Labels, v: f64, h: Option<&FloatHistogram>) -> Sample {
        Sample { labels, value: if h.is_some() { 0.0 } else { v }, histogram: h.map(notation).unwrap_or_default() }
    }

    /// What a test expects.
    pub(super) fn expected(sample: &ExpectedSample) -> Result<Sample, String> {
        let labels = parse_metric(&sample.labels).map_err(|errors| errors.to_string())?;
        let histogram = match sample.histogram.as_str() {
            "" => String::new(),
            text => {
                let series = parse_series_desc(&format!("{{}} {text}")).map_err(|errors| errors.to_string())?;
                // Texts as in Prometheus:
                match &series.values[..] {
                    [SeriesValue::Histogram(h)] => notation(&h.to_histogram()),
                    [SeriesValue::Float(v)] => return Err(format!("expected histogram, got {}", gofmt::float(*v))),
                    [SeriesValue::Omitted] => return Err("expected histogram, got _".to_owned()),
                    values => return Err(format!("expected 1 value, got {}", values.len())),
                }
            }
        };
        Ok(Sample { labels, value: sample.value, histogram })
    }

    /// Whether both are the same; with `fuzzy`, floats may be neighbours. NaN equals nothing, as in Prometheus.
    pub(super) fn equals(&self, other: &Sample, fuzzy: bool) -> bool {
        let (a, b) = (self.value, other.value);
        let close = fuzzy && (a.next_up() == b || a.next_down() == b);
        self.labels == other.labels && (a == b || close) && self.histogram == other.histogram
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.histogram.as_str() {
            "" => write!(f, "{} {}", self.labels, scientific(self.value)),
            histogram => write!(f, "{} {histogram}", self.labels),
        }
    }
}

/// As Go's `strconv.FormatFloat(v, 'E', -1, 64)`.
fn scientific(v: f64) -> String {
    if !v.is_finite() {
        return gofmt::float(v);
    }
    let text = format!("{v:E}");
    let (mantissa, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}E{sign}{digits:0>2}")
}

/// A histogram in the notation of the test language.
fn notation(h: &FloatHistogram) -> String {
    let mut h = h.clone();
    // Few spans are needed: buckets between them are written as zeros.
    h.compact(u32::MAX);
    let mut parts = Vec::new();
    if h.schema != 0 {
        parts.push(format!("schema:{}", h.schema));
    }
    for (name, v) in [("count", h.count), ("sum", h.sum), ("z_bucket", h.zero_count), ("z_bucket_w", h.zero_threshold)]
    {
        if v != 0.0 {
            parts.push(format!("{name}:{}", gofmt::float(v)));
        }
    }
    let list = |values: &[f64]| values.iter().map(|v| gofmt::float(*v)).collect::<Vec<_>>().join(" ");
    if h.schema == fk_model::histogram::CUSTOM_BUCKETS_SCHEMA {
        parts.push(format!("custom_values:[{}]", list(&h.custom_values)));
    }
    match h.counter_reset {
        CounterReset::Unknown => {}
        CounterReset::Reset => parts.push("counter_reset_hint:reset".to_owned()),
        CounterReset::NotReset => parts.push("counter_reset_hint:not_reset".to_owned()),
        CounterReset::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
    }
    for (buckets_key, offset_key, spans, buckets) in [
        ("buckets", "offset", &h.positive_spans, &h.positive_buckets),
        ("n_buckets", "n_offset", &h.negative_spans, &h.negative_buckets),
    ] {
        if let Some(span) = spans.first().filter(|span| span.offset != 0) {
            parts.push(format!("{offset_key}:{}", span.offset));
        }
        if !buckets.is_empty() {
            parts.push(format!("{buckets_key}:[{}]", list(buckets)));
        }
    }
    format!("{{{{{}}}}}", parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(labels: &str, value: f64, histogram: &str) -> Result<Sample, String> {
        Sample::expected(&ExpectedSample { labels: labels.into(), value, histogram: histogram.into() })
    }

    #[test]
    fn samples_are_written_as_in_prometheus() {
        for (labels, value, histogram, text) in [
            ("a{b=\"c\"}", 1.0, "", "{__name__=\"a\", b=\"c\"} 1E+00"),
            ("", -1.5e-7, "", "{} -1.5E-07"),
            ("{}", f64::NEG_INFINITY, "", "{} -Inf"),
            ("a", 0.0, "{{sum:3 buckets:[2 0 1]}}", "{__name__=\"a\"} {{sum:3 buckets:[2 0 1]}}"),
            (
                "",
                0.0,
                "{{schema:1 count:2.5 sum:-0.3 z_bucket:7 z_bucket_w:0.05 offset:-3 buckets:[5.1 10] n_buckets:[4] n_offset:2}}",
                "{} {{schema:1 count:2.5 sum:-0.3 z_bucket:7 z_bucket_w:0.05 offset:-3 buckets:[5.1 10] n_offset:2 n_buckets:[4]}}",
            ),
        ] {
            assert_eq!(expected(labels, value, histogram).unwrap().to_string(), text);
        }
        for (histogram, error) in
            [("1", "expected histogram, got 1"), ("1 2", "expected 1 value, got 2"), ("_", "expected histogram, got _")]
        {
            assert_eq!(expected("a", 0.0, histogram).unwrap_err(), error);
        }
    }

    #[test]
    fn neighbours_are_equal_only_if_fuzzy() {
        let of = |v| Sample::of(Labels::empty(), v, None);
        let neighbour = 3.0_f64.next_up();
        assert!(!of(3.0).equals(&of(neighbour), false));
        assert!(of(3.0).equals(&of(neighbour), true) && of(neighbour).equals(&of(3.0), true));
        assert!(!of(3.0).equals(&of(neighbour.next_up()), true));
        assert!(!of(f64::NAN).equals(&of(f64::NAN), true));
    }
}
