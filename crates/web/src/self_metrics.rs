//! The server's own metrics in the JSON form of the exposition's protobuf messages, which `/api/v1/status/self_metrics` answers:
//! whole numbers of 64 bits are strings, and so are the floats that JSON has no number for.

use fk_instrument::{Kind, Row, Rows};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A family as it is shown.
#[derive(Serialize)]
pub(crate) struct Shown<'r> {
    name: &'r str,
    help: &'r str,
    r#type: &'static str,
    metric: Vec<Value>,
}

/// Makes what is shown of a family.
pub(crate) fn shown(family: &Rows) -> Shown<'_> {
    let has_parts = matches!(family.kind, Kind::Histogram | Kind::Summary);
    let metrics = family.rows.chunk_by(|a, b| has_parts && own_labels(a).eq(own_labels(b)) && !ends(a, family));
    let kind = match family.kind {
        Kind::Counter => "COUNTER",
        Kind::Gauge => "GAUGE",
        Kind::Histogram => "HISTOGRAM",
        Kind::Summary => "SUMMARY",
    };
    let metric = metrics.map(|rows| metric(family, rows)).collect();
    Shown { name: &family.name, help: &family.help, r#type: kind, metric }
}

/// Whether a sample is the last one of its histogram or summary.
fn ends(row: &Row, family: &Rows) -> bool {
    row.name.strip_prefix(family.name.as_str()) == Some("_count")
}

/// The labels without those that tell the parts of a histogram or summary apart.
fn own_labels(row: &Row) -> impl Iterator<Item = &(String, String)> {
    row.labels.iter().filter(|(name, _)| name != "le" && name != "quantile")
}

fn metric(family: &Rows, rows: &[Row]) -> Value {
    let mut shown = Map::new();
    let has_parts = matches!(family.kind, Kind::Histogram | Kind::Summary);
    let labels: Vec<Value> = rows
        .first()
        .into_iter()
        .flat_map(|row| row.labels.iter().filter(|(name, _)| !has_parts || (name != "le" && name != "quantile")))
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    if !labels.is_empty() {
        shown.insert("label".into(), labels.into());
    }
    let first = rows.first().map_or(0.0, |row| row.value);
    match family.kind {
        Kind::Counter => shown.insert("counter".into(), json!({ "value": float(first) })),
        Kind::Gauge => shown.insert("gauge".into(), json!({ "value": float(first) })),
        Kind::Histogram => shown.insert("histogram".into(), parts(family, rows, "bucket", "le")),
        Kind::Summary => shown.insert("summary".into(), parts(family, rows, "quantile", "quantile")),
    };
    shown.into()
}

/// Count, sum, and the buckets or quantiles.
fn parts(family: &Rows, rows: &[Row], key: &str, label: &str) -> Value {
    let mut shown = Map::new();
    let mut list = Vec::new();
    for row in rows {
        let part = row.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str());
        match (row.name.strip_prefix(family.name.as_str()).unwrap_or(""), part) {
            ("_count", _) => drop(shown.insert("sampleCount".into(), (row.value as u64).to_string().into())),
            ("_sum", _) => drop(shown.insert("sampleSum".into(), float(row.value))),
            // As in Prometheus' own metrics the last bucket is told by the count alone.
            (_, Some("+Inf")) | (_, None) => {}
            (_, Some(part)) => {
                let at = float(part.parse().unwrap_or(f64::NAN));
                list.push(match label {
                    "le" => json!({ "cumulativeCount": (row.value as u64).to_string(), "upperBound": at }),
                    _ => json!({ "quantile": at, "value": float(row.value) }),
                });
            }
        }
    }
    shown.insert(key.into(), list.into());
    shown.into()
}

fn float(v: f64) -> Value {
    if v.is_finite() {
        // Without a fraction as Go writes it: `1`, not `1.0`.
        return if v.fract() == 0.0 && v.abs() < 1e15 { (v as i64).into() } else { v.into() };
    }
    if v.is_nan() { "NaN".into() } else { (if v > 0.0 { "Infinity" } else { "-Infinity" }).into() }
}

#[cfg(test)]
mod tests {
    use fk_instrument::Registry;

    use super::*;

    #[test]
    fn families_have_the_form_of_protobuf_in_json() {
        let registry = Registry::new();
        registry.counters("a_total", "A.", &["le"]).get(&["x"]).add(3);
        registry.gauge("b", "B.").set(f64::INFINITY);
        let histograms = registry.histograms("c_seconds", "C.", &["h"], &[0.5]);
        histograms.get(&["1"]).observe(0.25);
        histograms.get(&["2"]).observe(1.5);
        registry.summary("d", "D.", &[0.5]);
        let families = registry.gather(|_| true);
        let shown = serde_json::to_value(families.iter().map(shown).collect::<Vec<_>>()).unwrap();
        let histogram = |h: &str, below: &str, sum: f64| {
            json!({
                "label": [{"name": "h", "value": h}],
                "histogram": {
                    "sampleCount": "1", "sampleSum": sum, "bucket": [{"cumulativeCount": below, "upperBound": 0.5}],
                },
            })
        };
        let expected = json!([
            {
                "name": "a_total", "help": "A.", "type": "COUNTER",
                "metric": [{"label": [{"name": "le", "value": "x"}], "counter": {"value": 3}}],
            },
            {"name": "b", "help": "B.", "type": "GAUGE", "metric": [{"gauge": {"value": "Infinity"}}]},
            {
                "name": "c_seconds", "help": "C.", "type": "HISTOGRAM",
                "metric": [histogram("1", "1", 0.25), histogram("2", "0", 1.5)],
            },
            {
                "name": "d", "help": "D.", "type": "SUMMARY",
                "metric": [{"summary": {"sampleCount": "0", "sampleSum": 0, "quantile": [{"quantile": 0.5, "value": "NaN"}]}}],
            },
        ]);
        assert_eq!(shown, expected);
    }
}
