//! Tests of OpenMetrics text.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Everything in a body, in the shape of the conformance data.
fn entries(body: &[u8]) -> Result<Vec<Value>, ParseError> {
    let mut parser = OpenMetricsParser::new(body);
    let mut entries = Vec::new();
    while let Some(entry) = parser.next()? {
        entries.push(match entry {
            OpenMetricsEntry::Help { metric, help } => json!({"kind": "help", "metric": metric, "help": help}),
            OpenMetricsEntry::Type { metric, kind } => json!({"kind": "type", "metric": metric, "type": kind.name()}),
            OpenMetricsEntry::Unit { metric, unit } => json!({"kind": "unit", "metric": metric, "unit": unit}),
            OpenMetricsEntry::Sample(sample) => {
                let mut labels = BTreeMap::new();
                parser.for_each_label(|name, value| {
                    labels.insert(name.into_owned(), value.into_owned());
                });
                let mut entry = json!({
                    "kind": "series",
                    "series": String::from_utf8_lossy(sample.series),
                    "labels": labels,
                    "value": sample.value.to_bits(),
                });
                if let Some(t) = sample.timestamp {
                    entry["timestamp_ms"] = json!(t);
                }
                if let Some(exemplar) = parser.exemplar() {
                    let mut labels = BTreeMap::new();
                    parser.for_each_exemplar_label(|name, value| {
                        labels.insert(name.into_owned(), value.into_owned());
                    });
                    let mut shown = json!({"labels": labels, "value": exemplar.value.to_bits()});
                    if let Some(t) = exemplar.timestamp {
                        shown["timestamp_ms"] = json!(t);
                    }
                    entry["exemplars"] = json!([shown]);
                }
                // Lines about the start of a counter are the concern of whoever wants start timestamps.
                let counts =
                    matches!(parser.metric_type(), MetricType::Counter | MetricType::Summary | MetricType::Histogram);
                if counts && labels_name(&entry).ends_with("_created") {
                    continue;
                }
                entry
            }
        });
    }
    Ok(entries)
}

fn labels_name(entry: &Value) -> &str {
    entry["labels"]["__name__"].as_str().unwrap_or_default()
}

fn conformance_cases(file: &str) -> Vec<Value> {
    let Some(path) = fk_testkit::conformance("exposition").map(|dir| dir.join(file)) else { return Vec::new() };
    let data: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    data["cases"].as_array().unwrap().iter().filter(|case| case["format"] == "openmetrics").cloned().collect()
}

fn input(case: &Value) -> Vec<u8> {
    if let Some(text) = case["input"].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = case["input_hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Numbers as bits, and nothing that belongs to layers above the parser.
fn normal(expected: &Value) -> Value {
    let mut expected = expected.clone();
    let bits = |text: &Value| json!(parse_go_float(text.as_str().unwrap().as_bytes()).unwrap().to_bits());
    if expected["kind"] == "series" {
        expected["value"] = bits(&expected["value"]);
        expected.as_object_mut().unwrap().remove("start_timestamp_ms");
        for exemplar in expected["exemplars"].as_array_mut().into_iter().flatten() {
            exemplar["value"] = bits(&exemplar["value"]);
        }
        if expected["exemplars"].is_null() {
            expected.as_object_mut().unwrap().remove("exemplars");
        }
    }
    expected
}

#[test]
fn conformance_bodies_are_read_as_prometheus_reads_them() {
    let mut checked = 0;
    for case in conformance_cases("parse_cases.json") {
        for expect in case["expect"].as_array().unwrap() {
            let options = expect["options"].as_object().unwrap();
            let on = |key: &str| options.get(key) == Some(&Value::Bool(true));
            if on("type_and_unit_labels") || on("convert_classic_histograms_to_nhcb") || expect["note"].is_string() {
                continue;
            }
            let expected: Vec<Value> = expect["entries"].as_array().unwrap().iter().map(normal).collect();
            let mut got = entries(&input(&case)).unwrap();
            for (got, expected) in got.iter_mut().zip(&expected) {
                if expected.get("series").is_none() && got["kind"] == "series" {
                    got.as_object_mut().unwrap().remove("series");
                }
            }
            assert_eq!(got, expected, "{}", case["name"]);
            checked += 1;
        }
    }
    println!("{checked} bodies");
}

#[test]
fn conformance_errors_have_the_texts_of_prometheus() {
    for case in conformance_cases("error_cases.json") {
        let expect = &case["expect"];
        let result = entries(&input(&case));
        if let Some(text) = expect["error"].as_str() {
            assert_eq!(result.unwrap_err().to_string(), text, "{case}");
        } else if let Some(text) = expect["error_contains"].as_str() {
            assert!(result.unwrap_err().to_string().contains(text), "{case}");
        } else if expect["ok"] == true {
            assert!(result.is_ok(), "{case}: {result:?}");
        } else {
            assert_eq!(expect["no_crash"], true, "{case}");
        }
    }
}

#[test]
fn bodies_of_the_specification_that_are_good_are_read() {
    let Some(dir) = fk_testkit::conformance("exposition/openmetrics_corpus") else { return };
    for line in std::fs::read_to_string(dir.join("MANIFEST.tsv")).unwrap().lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, good) = (columns.next().unwrap(), columns.next() == Some("true"));
        let result = entries(&std::fs::read(dir.join(file)).unwrap());
        // Like Prometheus, the parser takes some that the specification forbids.
        assert!(result.is_ok() || !good, "{file}: {result:?}");
    }
}

#[test]
fn places_of_errors_are_told() {
    let error = entries(b"a 1\nb{x=\"y\"} z\n# EOF\n").unwrap_err();
    assert_eq!((error.line, error.column, error.offset), (2, 9, 12));
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = entries(&body);
    }

    #[test]
    fn bodies_of_likely_pieces_are_read_or_refused(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "# HELP ", "# TYPE ", "# UNIT ", "# EOF", "\n", " ", "a", "{", "}", "\"", "\\", "=", ",", "1", " 1", " # {", "\0", "é", "counter",
        "a{b=\"c\"} 1 2 # {d=\"e\"} 3 4\n",
    ]), 0..30)) {
        let text = pieces.concat();
        let _ = entries(text.as_bytes());
        let _ = entries(format!("{text}\n# EOF\n").as_bytes());
    }
}
