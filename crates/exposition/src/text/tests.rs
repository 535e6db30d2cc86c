//! Tests of the text format.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Everything in a body, in the shape of the conformance data.
fn entries(body: &[u8]) -> Result<Vec<Value>, ParseError> {
    let mut parser = TextParser::new(body);
    let mut entries = Vec::new();
    while let Some(entry) = parser.next()? {
        entries.push(match entry {
            Entry::Help { metric, help } => json!({"kind": "help", "metric": metric, "help": help}),
            Entry::Type { metric, kind } => {
                // The data names the type as the format does.
                let kind = if kind == MetricType::Unknown { "unknown" } else { kind.name() };
                json!({"kind": "type", "metric": metric, "type": kind})
            }
            Entry::Comment(text) => json!({"kind": "comment", "comment": String::from_utf8_lossy(text)}),
            Entry::Sample(sample) => {
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
                entry
            }
        });
    }
    Ok(entries)
}

fn conformance_cases(file: &str) -> Vec<Value> {
    let Some(path) = fk_testkit::conformance("exposition").map(|dir| dir.join(file)) else { return Vec::new() };
    let data: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    data["cases"].as_array().unwrap().iter().filter(|case| case["format"] == "text").cloned().collect()
}

fn input(case: &Value) -> Vec<u8> {
    if let Some(text) = case["input"].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = case["input_hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn conformance_bodies_are_read_as_prometheus_reads_them() {
    for case in conformance_cases("parse_cases.json") {
        for expect in case["expect"].as_array().unwrap() {
            let options = expect["options"].as_object().unwrap();
            // These options belong to layers above the parser that are not built yet.
            let on = |key: &str| options.get(key) == Some(&Value::Bool(true));
            if on("type_and_unit_labels") || on("convert_classic_histograms_to_nhcb") {
                continue;
            }
            let expected = expect["entries"].as_array().unwrap();
            let got = entries(&input(&case)).unwrap();
            assert_eq!(got.len(), expected.len(), "{}", case["name"]);
            for (mut got, expected) in got.into_iter().zip(expected) {
                let mut expected = expected.clone();
                if expected["kind"] == "series" {
                    let value = parse_go_float(expected["value"].as_str().unwrap().as_bytes()).unwrap();
                    expected["value"] = json!(value.to_bits());
                    if expected.get("series").is_none() {
                        got.as_object_mut().unwrap().remove("series");
                    }
                }
                assert_eq!(got, expected, "{}", case["name"]);
            }
        }
    }
}

#[test]
fn conformance_errors_have_the_texts_of_prometheus() {
    for case in conformance_cases("error_cases.json") {
        let expect = &case["expect"];
        let result = entries(&input(&case));
        if let Some(text) = expect["error"].as_str() {
            assert_eq!(result.unwrap_err().to_string(), text, "{}", case["name"]);
        } else if let Some(text) = expect["error_contains"].as_str() {
            assert!(result.unwrap_err().to_string().contains(text), "{}", case["name"]);
        } else if expect["ok"] == true {
            assert!(result.is_ok(), "{}: {result:?}", case["name"]);
        } else {
            assert_eq!(expect["no_crash"], true, "{}", case["name"]);
        }
    }
}

#[test]
fn whole_scrapes_are_read() {
    let Some(dir) = fk_testkit::conformance("exposition/samples") else { return };
    for file in ["alltypes.237mfs.prom.txt", "alltypes.237mfs.nometa.prom.txt"] {
        let body = std::fs::read(dir.join(file)).unwrap();
        let lines = body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(entries(&body).unwrap().len(), lines, "{file}");
    }
}

fn check_error(body: &str, text: &str, line: usize, column: usize) {
    let error = entries(body.as_bytes()).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.line, error.column), (text, line, column), "{body:?}");
}

#[test]
fn errors_know_their_place() {
    check_error(
        "a 1\nb{c=\"d\"} x\n",
        r#"strconv.ParseFloat: parsing "x": invalid syntax while parsing: "b{c=\"d\"} x""#,
        2,
        10,
    );
    check_error("a 1 -5\n", r#"expected timestamp or new record, got "-" ("INVALID") while parsing: "a 1 -""#, 1, 5);
    check_error("\n# TYPE a weird\n", r#"invalid metric type "weird""#, 2, 9);
    check_error("a{\"b\"} 1\n", r#"metric name already set while parsing: "a{\"b\"}""#, 1, 6);
    check_error("{A} 0\n", r#"expected equal, got "} " ("BCLOSE") while parsing: "{A} ""#, 1, 3);
    check_error(
        "a 1e999\n",
        r#"strconv.ParseFloat: parsing "1e999": value out of range while parsing: "a 1e999""#,
        1,
        3,
    );
    check_error(
        "a 1 99999999999999999999\n",
        r#"strconv.ParseInt: parsing "99999999999999999999": value out of range while parsing: "a 1 99999999999999999999""#,
        1,
        5,
    );
}

fn check_series(body: &str, expected: &[(&str, f64, Option<i64>)]) {
    let mut parser = TextParser::new(body.as_bytes());
    let mut found = Vec::new();
    while let Some(entry) = parser.next().unwrap() {
        if let Entry::Sample(sample) = entry {
            found.push((std::str::from_utf8(sample.series).unwrap().to_owned(), sample.value, sample.timestamp));
        }
    }
    let expected: Vec<_> = expected.iter().map(|(series, v, t)| (series.to_string(), *v, *t)).collect();
    assert_eq!(found, expected, "{body:?}");
}

#[test]
fn blanks_and_missing_final_line_breaks_are_tolerated() {
    check_series("\n \n  a\t 1 \n\nb  2\t3 ", &[("a", 1.0, None), ("b", 2.0, Some(3))]);
    check_series("#comment\n#\n# \n#  HELPx y\na{b=\"}\"}1", &[("a{b=\"}\"}", 1.0, None)]);
    check_series("a{x=\"1\"y=\"2\" , z=\"\" ,} 5", &[("a{x=\"1\"y=\"2\" , z=\"\" ,}", 5.0, None)]);
}

#[test]
fn parser_can_start_in_the_middle() {
    let body = b"# TYPE a summary\na{quantile=\"1\"} 1\na{quantile=\"2\"} 2\n";
    let mut parser = TextParser::new(body);
    parser.seek(35, MetricType::Summary);
    assert!(matches!(parser.next(), Ok(Some(Entry::Sample(sample))) if sample.value == 2.0));
    let mut labels = Vec::new();
    parser.for_each_label(|name, value| labels.push(format!("{name}={value}")));
    assert_eq!(labels, ["__name__=a", "quantile=2.0"]);
    assert_eq!((parser.offset(), parser.next()), (body.len(), Ok(None)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = entries(&body);
    }

    #[test]
    fn any_mixture_of_tokens_is_read_or_refused(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "{", "}", "\"", "b", "=", ",", " ", "\n", "1", "#", "TYPE", "HELP", "\\", "counter", "\t", "é", "\"x\"", "le", ".5",
            ]),
            0..40,
        )
    ) {
        let body = parts.concat();
        if let Ok(read) = entries(body.as_bytes()) {
            // Reading is a matter of lines: a blank line before changes nothing.
            prop_assert_eq!(entries(format!("\n{body}").as_bytes()).unwrap(), read);
        }
    }

    #[test]
    fn written_samples_are_read_back(name in "[a-z_:]{1,8}", label in "[a-z_]{1,8}", value in "\\PC{0,12}", v: f64, t in proptest::option::of(0i64..1 << 50)) {
        let mut writer = crate::TextWriter::new();
        writer.sample(&name, [(label.as_str(), value.as_str())], v, t);
        let text = writer.finish();
        let mut parser = TextParser::new(text.as_bytes());
        let Some(Entry::Sample(sample)) = parser.next().unwrap() else { panic!("a sample") };
        let mut labels = Vec::new();
        parser.for_each_label(|name, value| labels.push((name.into_owned(), value.into_owned())));
        let expected = [("__name__".to_owned(), name), (label, value)];
        prop_assert_eq!(labels, expected);
        prop_assert!(sample.value == v || v.is_nan() && sample.value.is_nan());
        prop_assert_eq!(sample.timestamp, t);
    }
}
