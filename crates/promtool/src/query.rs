//! What the commands of `promtool query` do with the answers of a server: read them, and print them as text or JSON.

use std::collections::BTreeMap;
use std::io::Write;

use fk_model::labels::write_quoted;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Result, ToolError};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Promql,
    /// One line of JSON.
    Json,
}

/// Labels of a series.
type Metric = BTreeMap<String, String>;
/// Time in seconds, and value.
type Point = (f64, String);

/// A native histogram.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Histogram {
    count: String,
    sum: String,
    /// Which limits belong to it, lower and upper limit, count.
    #[serde(default)]
    pub(crate) buckets: Vec<(i32, String, String, String)>,
}

/// A series of a vector or matrix.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Series {
    pub(crate) metric: Metric,
    #[serde(default)]
    value: Option<Point>,
    #[serde(default)]
    histogram: Option<(f64, Histogram)>,
    #[serde(default)]
    pub(crate) values: Vec<Point>,
    #[serde(default)]
    pub(crate) histograms: Vec<(f64, Histogram)>,
}

/// Result of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Scalar(Point),
    String(Point),
    Vector(Vec<Series>),
    Matrix(Vec<Series>),
}

/// An answer of the API.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    status: String,
    #[serde(default)]
    data: Json,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

fn other(text: impl Into<String>) -> ToolError {
    ToolError::Other(text.into())
}

/// The data of an answer and its warnings, or what is wrong in the words of Prometheus' client library.
pub fn data(status: u16, body: &[u8]) -> Result<(Json, Vec<String>)> {
    let is_api_error = matches!(status, 400 | 422);
    if !(200..300).contains(&status) && !is_api_error {
        let kind = match status {
            400..500 => format!("client_error: client error: {status}"),
            500..600 => format!("server_error: server error: {status}"),
            _ => format!("bad_response: bad response code {status}"),
        };
        let detail = String::from_utf8_lossy(body).trim().to_owned();
        let detail = if detail.is_empty() { detail } else { format!(" (detail: {detail})") };
        return Err(other(format!("query error: {kind}{detail}")));
    }
    if status == 204 {
        return Ok((Json::Null, Vec::new()));
    }
    let answer: Envelope =
        serde_json::from_slice(body).map_err(|error| other(format!("query error: bad_response: {error}")))?;
    if is_api_error == (answer.status == "success") {
        return Err(other("query error: bad_response: inconsistent body for response code"));
    }
    if is_api_error {
        return Err(other(format!("query error: {}: {}", answer.error_type, answer.error)));
    }
    Ok((answer.data, answer.warnings))
}

pub(crate) fn value(data: Json) -> Result<Value> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        result_type: String,
        result: Json,
    }
    let bad = |error: serde_json::Error| other(format!("query error: bad_response: {error}"));
    let Data { result_type, result } = serde_json::from_value(data).map_err(bad)?;
    match result_type.as_str() {
        "scalar" => serde_json::from_value(result).map(Value::Scalar),
        "string" => serde_json::from_value(result).map(Value::String),
        "vector" => serde_json::from_value(result).map(Value::Vector),
        "matrix" => serde_json::from_value(result).map(Value::Matrix),
        unknown => return Err(other(format!("query error: unexpected value type {unknown:?}"))),
    }
    .map_err(bad)
}

/// Prints the result of an instant or range query.
pub fn print_value(data: Json, format: Format, out: &mut dyn Write) -> Result<()> {
    match (value(data)?, format) {
        (value, Format::Json) => writeln!(out, "{}", as_json(&value))?,
        // Texts as in Prometheus' client library.
        (Value::Scalar((t, v)), _) => writeln!(out, "scalar: {} @[{}]", plain(&v), time(t))?,
        (Value::String((_, text)), _) => writeln!(out, "{text}")?,
        (Value::Vector(series), _) => {
            for one in &series {
                match (&one.value, &one.histogram) {
                    (_, Some((t, h))) => writeln!(out, "{} => {} @[{}]", name(&one.metric), shown(h), time(*t))?,
                    (Some((t, v)), None) => writeln!(out, "{} => {} @[{}]", name(&one.metric), plain(v), time(*t))?,
                    (None, None) => {}
                }
            }
            // An empty result is an empty line.
            if series.is_empty() {
                writeln!(out)?;
            }
        }
        (Value::Matrix(mut series), _) => {
            series.sort_by(|a, b| a.metric.cmp(&b.metric));
            for one in &series {
                writeln!(out, "{} =>", name(&one.metric))?;
                for (t, v) in &one.values {
                    writeln!(out, "{} @[{}]", plain(v), time(*t))?;
                }
                for (t, h) in &one.histograms {
                    writeln!(out, "{} @[{}]", shown(h), time(*t))?;
                }
            }
            if series.is_empty() {
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

/// Prints label sets.
pub fn print_series(data: Json, format: Format, out: &mut dyn Write) -> Result<()> {
    let sets: Vec<Metric> =
        serde_json::from_value(data).map_err(|error| other(format!("query error: bad_response: {error}")))?;
    if format == Format::Json {
        writeln!(out, "{}", html_safe(&serde_json::json!(sets)))?;
        return Ok(());
    }
    for set in &sets {
        writeln!(out, "{{{}}}", pairs(set.iter()))?;
    }
    Ok(())
}

/// Prints values of a label.
pub fn print_values(data: Json, format: Format, out: &mut dyn Write) -> Result<()> {
    let values: Vec<String> =
        serde_json::from_value(data).map_err(|error| other(format!("query error: bad_response: {error}")))?;
    if format == Format::Json {
        writeln!(out, "{}", html_safe(&serde_json::json!(values)))?;
        return Ok(());
    }
    for value in &values {
        writeln!(out, "{value}")?;
    }
    Ok(())
}

fn pairs<'m>(labels: impl Iterator<Item = (&'m String, &'m String)>) -> String {
    let pair = |(name, value): (&String, &String)| {
        let mut text = format!("{name}=");
        // Writing to a String cannot fail.
        let _ = write_quoted(&mut text, value);
        text
    };
    labels.map(pair).collect::<Vec<_>>().join(", ")
}

/// As people write it: the name, then the other labels in braces.
pub(crate) fn name(metric: &Metric) -> String {
    let name = metric.get("__name__");
    let others = pairs(metric.iter().filter(|(name, _)| *name != "__name__"));
    match (name, others.is_empty()) {
        (Some(name), true) => name.clone(),
        (None, true) => "{}".to_owned(),
        (name, false) => format!("{}{{{others}}}", name.map_or("", String::as_str)),
    }
}

/// Without an exponent.
fn plain(text: &str) -> String {
    match float(text) {
        v if v.is_nan() => "NaN".to_owned(),
        v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        v => v.to_string(),
    }
}

pub(crate) fn float(text: &str) -> f64 {
    text.replace("Inf", "inf").parse().unwrap_or(f64::NAN)
}

/// Seconds in as few digits as they need, to the millisecond.
fn time(seconds: f64) -> String {
    ((seconds * 1000.0).round() / 1000.0).to_string()
}

fn shown(h: &Histogram) -> String {
    let fixed = |text: &str| match float(text) {
        v if v.is_finite() => format!("{v:.6}"),
        _ => plain(text),
    };
    let short = |text: &str| fk_exposition::format_go_float(float(text));
    let bucket = |(limits, lower, upper, count): &(i32, String, String, String)| {
        let (open, close) =
            (if matches!(limits, 1 | 3) { '[' } else { '(' }, if matches!(limits, 0 | 3) { ']' } else { ')' });
        format!("{open}{},{}{close}:{}", short(lower), short(upper), plain(count))
    };
    let buckets = h.buckets.iter().map(bucket).collect::<Vec<_>>().join(" ");
    format!("Count: {}, Sum: {}, Buckets: [{buckets}]", fixed(&h.count), fixed(&h.sum))
}

fn as_json(value: &Value) -> String {
    use serde_json::json;

    let t = |t: f64| -> Json { time(t).parse::<serde_json::Number>().map_or(Json::Null, Json::Number) };
    let point = |(at, v): &Point| json!([t(*at), plain(v)]);
    let histogram = |(at, h): &(f64, Histogram)| {
        let bucket = |(limits, lower, upper, count): &(i32, String, String, String)| {
            json!([limits, plain(lower), plain(upper), plain(count)])
        };
        let buckets: Vec<Json> = h.buckets.iter().map(bucket).collect();
        json!([t(*at), { "count": plain(&h.count), "sum": plain(&h.sum), "buckets": buckets }])
    };
    let series = |one: &Series| {
        let mut shown = json!({ "metric": one.metric });
        if let Some(value) = &one.value {
            shown["value"] = point(value);
        }
        if let Some(value) = &one.histogram {
            shown["histogram"] = histogram(value);
        }
        if !one.values.is_empty() {
            shown["values"] = one.values.iter().map(point).collect();
        }
        if !one.histograms.is_empty() {
            shown["histograms"] = one.histograms.iter().map(histogram).collect();
        }
        shown
    };
    html_safe(&match value {
        Value::Scalar(value) => point(value),
        Value::String((at, text)) => json!([t(*at), text]),
        Value::Vector(all) | Value::Matrix(all) => all.iter().map(series).collect(),
    })
}

/// As Go writes JSON: what HTML takes for its own is escaped.
fn html_safe(value: &Json) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(data: &str, format: Format) -> String {
        let mut out = Vec::new();
        print_value(serde_json::from_str(data).unwrap(), format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The texts come from Debian's promtool, asked against a server with this data.
    #[test]
    fn results_are_printed_as_prometheus_does() {
        for (data, promql, json) in [
            (
                r#"{"resultType":"scalar","result":[1700000000.5,"1e+21"]}"#,
                "scalar: 1000000000000000000000 @[1700000000.5]\n",
                "[1700000000.5,\"1000000000000000000000\"]\n",
            ),
            (r#"{"resultType":"string","result":[1,"a<b"]}"#, "a<b\n", "[1,\"a\\u003cb\"]\n"),
            (
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[1.001,"1"]},
                    {"metric":{},"value":[2,"NaN"]}]}"#,
                "up{job=\"a\\\"b\"} => 1 @[1.001]\n{} => NaN @[2]\n",
                "[{\"metric\":{\"__name__\":\"up\",\"job\":\"a\\\"b\"},\"value\":[1.001,\"1\"]},\
                 {\"metric\":{},\"value\":[2,\"NaN\"]}]\n",
            ),
            (r#"{"resultType":"vector","result":[]}"#, "\n", "[]\n"),
            (
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"b"},"values":[[1,"1"],[2,"2.5"]]},
                    {"metric":{"__name__":"a"},"values":[[1,"+Inf"]]}]}"#,
                "a =>\n+Inf @[1]\nb =>\n1 @[1]\n2.5 @[2]\n",
                "[{\"metric\":{\"__name__\":\"b\"},\"values\":[[1,\"1\"],[2,\"2.5\"]]},\
                 {\"metric\":{\"__name__\":\"a\"},\"values\":[[1,\"+Inf\"]]}]\n",
            ),
            (
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"h"},
                    "histogram":[1,{"count":"3","sum":"1.5","buckets":[[0,"0.5","1","2"],[3,"-0.1","0.1","1"]]}]}]}"#,
                "h => Count: 3.000000, Sum: 1.500000, Buckets: [(0.5,1]:2 [-0.1,0.1]:1] @[1]\n",
                "[{\"histogram\":[1,{\"buckets\":[[0,\"0.5\",\"1\",\"2\"],[3,\"-0.1\",\"0.1\",\"1\"]],\"count\":\"3\",\
                 \"sum\":\"1.5\"}],\"metric\":{\"__name__\":\"h\"}}]\n",
            ),
        ] {
            assert_eq!(printed(data, Format::Promql), promql, "{data}");
            assert_eq!(printed(data, Format::Json), json, "{data}");
        }
    }

    #[test]
    fn errors_have_the_words_of_the_client_library() {
        for (status, body, expected) in [
            (400, r#"{"status":"error","errorType":"bad_data","error":"invalid"}"#, "query error: bad_data: invalid"),
            (422, r#"{"status":"success","data":1}"#, "query error: bad_response: inconsistent body for response code"),
            (
                503,
                "Service Unavailable\n",
                "query error: server_error: server error: 503 (detail: Service Unavailable)",
            ),
            (404, "", "query error: client_error: client error: 404"),
            (302, "", "query error: bad_response: bad response code 302"),
        ] {
            assert_eq!(data(status, body.as_bytes()).unwrap_err().to_string(), expected);
        }
        assert!(data(200, b"nonsense").unwrap_err().to_string().starts_with("query error: bad_response: "));
        assert_eq!(
            data(200, br#"{"status":"success","data":1,"warnings":["w"]}"#).unwrap(),
            (1.into(), vec!["w".into()])
        );
    }

    #[test]
    fn series_and_values_are_printed_in_lines_or_as_json() {
        let (mut lines, mut json) = (Vec::new(), Vec::new());
        let sets = serde_json::json!([{"__name__": "up", "job": "x"}]);
        print_series(sets.clone(), Format::Promql, &mut lines).unwrap();
        print_series(sets, Format::Json, &mut json).unwrap();
        print_values(serde_json::json!(["a", "b"]), Format::Promql, &mut lines).unwrap();
        print_values(serde_json::json!(["a", "b"]), Format::Json, &mut json).unwrap();
        assert_eq!(String::from_utf8(lines).unwrap(), "{__name__=\"up\", job=\"x\"}\na\nb\n");
        assert_eq!(String::from_utf8(json).unwrap(), "[{\"__name__\":\"up\",\"job\":\"x\"}]\n[\"a\",\"b\"]\n");
    }
}
