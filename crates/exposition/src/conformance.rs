//! The recorded behaviour of Prometheus, for all formats and all options.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    EntryKind, ExposedExemplar, ExposedHistogram, MediaType, MetricType, ParseError, ReadOptions, key_labels,
    parse_go_float, reader,
};

fn media_type(case: &Value) -> MediaType {
    match case["format"].as_str().unwrap() {
        "text" => MediaType::Text,
        "openmetrics" => MediaType::OpenMetrics,
        "protobuf" => MediaType::Protobuf,
        other => panic!("format {other}"),
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut bits_len) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter(|b| *b != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|d| *d == digit).unwrap() as u32;
        bits_len += 6;
        if bits_len >= 8 {
            bits_len -= 8;
            bytes.push((bits >> bits_len) as u8);
        }
    }
    bytes
}

fn input(case: &Value) -> Vec<u8> {
    if let Some(text) = case["input_base64"].as_str() {
        return base64(text);
    }
    if let Some(text) = case["input"].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = case["input_hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn options(given: &Value) -> ReadOptions {
    let on = |key: &str| given[key] == true;
    ReadOptions {
        type_and_unit_labels: on("type_and_unit_labels"),
        ignore_native_histograms: on("ignore_native_histograms"),
        convert_classic_histograms: on("convert_classic_histograms_to_nhcb"),
        keep_classic_histograms: on("keep_classic_histograms"),
        skip_created: on("skip_created_series"),
    }
}

/// A float in the form of the data, but comparable.
fn float(v: f64) -> Value {
    json!(format!("{v:?}"))
}

fn shown_histogram(histogram: &ExposedHistogram) -> Value {
    let spans = |spans: &[fk_model::histogram::Span]| -> Value {
        spans.iter().map(|span| json!([span.offset, span.length])).collect()
    };
    let floats = |list: &[f64]| -> Value { list.iter().map(|v| float(*v)).collect() };
    let ints = |list: &[i64]| -> Value { list.iter().map(|v| float(*v as f64)).collect() };
    match histogram {
        ExposedHistogram::Int(h) => json!({
            "float": false, "schema": h.schema, "count": float(h.count as f64), "sum": float(h.sum),
            "zero_threshold": float(h.zero_threshold), "zero_count": float(h.zero_count as f64),
            "positive_spans": spans(&h.positive_spans), "negative_spans": spans(&h.negative_spans),
            "positive_buckets": ints(&h.positive_buckets), "negative_buckets": ints(&h.negative_buckets),
            "custom_values": floats(&h.custom_values), "counter_reset_hint": format!("{:?}", h.counter_reset).to_lowercase(),
        }),
        ExposedHistogram::Float(h) => json!({
            "float": true, "schema": h.schema, "count": float(h.count), "sum": float(h.sum),
            "zero_threshold": float(h.zero_threshold), "zero_count": float(h.zero_count),
            "positive_spans": spans(&h.positive_spans), "negative_spans": spans(&h.negative_spans),
            "positive_buckets": floats(&h.positive_buckets), "negative_buckets": floats(&h.negative_buckets),
            "custom_values": floats(&h.custom_values), "counter_reset_hint": format!("{:?}", h.counter_reset).to_lowercase(),
        }),
    }
}

/// Everything in a body, in the shape of the data.
fn entries(body: &[u8], media_type: MediaType, options: ReadOptions) -> Result<Vec<Value>, ParseError> {
    let mut reader = reader(body, media_type, options);
    let mut entries = Vec::new();
    while let Some(kind) = reader.next()? {
        let (family, text) = (reader.family(), reader.text());
        let mut entry = match kind {
            EntryKind::Help => json!({"kind": "help", "metric": family, "help": text}),
            EntryKind::Unit => json!({"kind": "unit", "metric": family, "unit": text}),
            EntryKind::Type => json!({"kind": "type", "metric": family, "type": reader.metric_type().name()}),
            EntryKind::Comment => json!({"kind": "comment", "comment": text}),
            EntryKind::Sample => json!({"kind": "series", "value": float(reader.value())}),
            EntryKind::Histogram => {
                let histogram = reader.take_histogram().expect("a histogram");
                json!({"kind": "histogram", "histogram": shown_histogram(&histogram)})
            }
        };
        if matches!(kind, EntryKind::Sample | EntryKind::Histogram) {
            let mut labels = BTreeMap::new();
            reader.for_each_label(&mut |name, value| {
                labels.insert(name.to_owned(), value.to_owned());
            });
            // The labels can be made again of what tells series apart.
            let (series, kind) = (reader.series().to_vec(), reader.metric_type());
            let mut again = BTreeMap::new();
            key_labels(&series, kind, options, &mut |name, value| {
                again.insert(name.to_owned(), value.to_owned());
            });
            assert_eq!(again, labels, "{}", String::from_utf8_lossy(&series));
            entry["labels"] = json!(labels);
            let end = series.iter().position(|b| *b == 0xff).unwrap_or(series.len());
            entry["series"] = json!(String::from_utf8_lossy(&series[..end]));
            if let Some(t) = reader.timestamp() {
                entry["timestamp_ms"] = json!(t);
            }
            let mut exemplar = ExposedExemplar::default();
            let mut exemplars = Vec::new();
            while reader.next_exemplar(&mut exemplar) {
                let labels: BTreeMap<_, _> = exemplar.labels.iter().cloned().collect();
                let mut shown = json!({"labels": labels, "value": float(exemplar.value)});
                if let Some(t) = exemplar.timestamp {
                    shown["timestamp_ms"] = json!(t);
                }
                exemplars.push(shown);
            }
            if !exemplars.is_empty() {
                entry["exemplars"] = json!(exemplars);
            }
            let start = reader.start_ms();
            if start != 0 {
                entry["start_timestamp_ms"] = json!(start);
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The floats of an expected entry in comparable form.
fn normal(value: &Value, key: &str) -> Value {
    const TEXTS: [&str; 4] = ["value", "count", "sum", "zero_threshold"];
    const LISTS: [&str; 3] = ["positive_buckets", "negative_buckets", "custom_values"];
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), normal(value, key)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(|value| normal(value, key)).collect(),
        Value::String(text) if TEXTS.contains(&key) || LISTS.contains(&key) || key == "zero_count" => {
            float(parse_go_float(text.as_bytes()).unwrap())
        }
        other => other.clone(),
    }
}

/// Whether all that is expected is there; the data leaves out what does not matter.
fn matches(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => expected.iter().all(|(key, value)| {
            let ignored = key == "buckets_are" || key == "series" && got.get("kind") == Some(&json!("histogram"));
            // Labels are all or nothing.
            let same = |got: &Value| if key == "labels" { got == value } else { matches(got, value) };
            ignored || got.get(key).is_some_and(same)
        }),
        (Value::Array(got), Value::Array(expected)) => {
            got.len() == expected.len() && got.iter().zip(expected).all(|(got, expected)| matches(got, expected))
        }
        (got, expected) => got == expected,
    }
}

fn cases(file: &str) -> Vec<Value> {
    let Some(path) = fk_testkit::conformance("exposition").map(|dir| dir.join(file)) else { return Vec::new() };
    let data: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    data["cases"].as_array().unwrap().clone()
}

#[test]
fn bodies_are_read_as_prometheus_reads_them() {
    let (mut checked, mut wrong) = (0, String::new());
    for case in cases("parse_cases.json") {
        for expect in case["expect"].as_array().unwrap() {
            checked += 1;
            let expected = normal(&expect["entries"], "");
            let got = entries(&input(&case), media_type(&case), options(&expect["options"]));
            let extra = |entry: &Value| {
                // What is not expected must not be there either.
                ["exemplars", "start_timestamp_ms", "timestamp_ms"].iter().any(|key| entry.get(*key).is_some())
            };
            match got {
                Ok(got) if matches(&json!(got), &expected) => {
                    let expected = expected.as_array().unwrap();
                    let surplus = got.iter().zip(expected).find(|(got, expected)| extra(got) && !extra(expected));
                    if let Some((got, _)) = surplus {
                        writeln!(wrong, "{} {}: surplus in {got}", case["name"], expect["options"]).unwrap();
                    }
                }
                Ok(got) => {
                    let expected = expected.as_array().unwrap();
                    let pairs = got.iter().zip(expected);
                    let first = pairs.clone().position(|(got, expected)| !matches(got, expected));
                    let first = first.unwrap_or(got.len().min(expected.len()));
                    let (got, expected) = (got.get(first), expected.get(first));
                    writeln!(wrong, "{} {}:\n  got {got:?}\n  not {expected:?}", case["name"], expect["options"])
                        .unwrap();
                }
                Err(error) => writeln!(wrong, "{} {}: {error}", case["name"], expect["options"]).unwrap(),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{checked} bodies");
}

#[test]
fn errors_have_the_texts_of_prometheus() {
    let mut wrong = String::new();
    for case in cases("error_cases.json") {
        let (body, media_type, expect) = (input(&case), media_type(&case), &case["expect"]);
        for options in [
            ReadOptions::default(),
            ReadOptions { type_and_unit_labels: true, convert_classic_histograms: true, ..ReadOptions::default() },
            ReadOptions { skip_created: true, keep_classic_histograms: true, ..ReadOptions::default() },
        ] {
            let result = entries(&body, media_type, options);
            let good = if let Some(text) = expect["error"].as_str() {
                result.as_ref().is_err_and(|error| error.to_string() == text)
            } else if let Some(text) = expect["error_contains"].as_str() {
                result.as_ref().is_err_and(|error| error.to_string().contains(text))
            } else {
                expect["no_crash"] == true || result.is_ok()
            };
            if !good {
                writeln!(wrong, "{} {options:?}: {result:?}, expected {expect}", case["name"]).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn check(media_type: MediaType, options: ReadOptions, body: &str, expected: &[&str]) {
    let got = entries(body.as_bytes(), media_type, options).unwrap();
    let got: Vec<String> = got
        .iter()
        .map(|entry| {
            let start = entry.get("start_timestamp_ms").map(|start| format!(" from {start}")).unwrap_or_default();
            let what = if entry["kind"] == "series" { entry["series"].as_str() } else { entry["kind"].as_str() };
            format!("{}{start}", what.unwrap())
        })
        .collect();
    assert_eq!(got, expected, "{body}");
}

#[test]
fn created_lines_tell_starts() {
    let body = "# TYPE a counter\na_total{x=\"1\"} 1\na_created{x=\"1\"} 2.5\na_total{x=\"2\"} 1\na_total{x=\"3\"} 1\na_created{x=\"3\"} 3\n\
                # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 2\nh_created 4\nh_sum 1\n# TYPE g gauge\ng 1\ng_created 5\n# EOF\n";
    let skip = ReadOptions { skip_created: true, ..ReadOptions::default() };
    check(
        MediaType::OpenMetrics,
        skip,
        body,
        &[
            "type",
            "a_total{x=\"1\"} from 2500",
            "a_total{x=\"2\"}",
            "a_total{x=\"3\"} from 3000",
            "type",
            "h_bucket{le=\"1\"} from 4000",
            "h_count from 4000",
            "h_sum from 4000",
            "type",
            "g",
            "g_created",
        ],
    );
}

#[test]
fn converted_histograms_stand_where_the_classic_ones_end() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\nh_bucket{le=\"1\",a=\"b\"} 3\n\
                h_count{a=\"b\"} 2\nother 1\nh_bucket{le=\"1\",a=\"c\"} 3\nh_count{a=\"c\"} 3\n";
    let convert = ReadOptions { convert_classic_histograms: true, ..ReadOptions::default() };
    // The second one counts more in a bucket than altogether.
    check(MediaType::Text, convert, body, &["type", "histogram", "other", "histogram"]);
    let keep = ReadOptions { keep_classic_histograms: true, ..convert };
    let got = entries(body.as_bytes(), MediaType::Text, keep).unwrap();
    assert_eq!(got.iter().filter(|entry| entry["kind"] == "series").count(), 9);
    assert_eq!(got.iter().filter(|entry| entry["kind"] == "histogram").count(), 2);
}

#[test]
fn a_body_without_any_start_is_read_in_linear_time() {
    let mut body = "# TYPE a counter\n".to_owned();
    for i in 0..20_000 {
        writeln!(body, "a_total{{i=\"{i}\"}} 1").unwrap();
    }
    body.push_str("# EOF\n");
    let mut reader = reader(body.as_bytes(), MediaType::OpenMetrics, ReadOptions::default());
    let mut samples = 0;
    while let Some(kind) = reader.next().unwrap() {
        samples += u32::from(kind == EntryKind::Sample && reader.start_ms() == 0);
    }
    assert_eq!((samples, reader.metric_type()), (20_000, MetricType::Counter));
}

fn all_options() -> impl Strategy<Value = ReadOptions> {
    any::<[bool; 5]>().prop_map(|on| ReadOptions {
        type_and_unit_labels: on[0],
        ignore_native_histograms: on[1],
        convert_classic_histograms: on[2],
        keep_classic_histograms: on[3],
        skip_created: on[4],
    })
}

/// A field of a message that is likely to be one of ours.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let leaf =
        (1u8..17, proptest::collection::vec(any::<u8>(), 0..9), any::<u8>()).prop_map(|(number, bytes, kind)| {
            let mut field = vec![number << 3 | [0, 1, 2, 2][kind as usize % 4], bytes.len() as u8];
            field.extend(bytes);
            field
        });
    leaf.prop_recursive(4, 64, 8, |inner| {
        (1u8..17, proptest::collection::vec(inner, 0..8)).prop_map(|(number, fields)| {
            let bytes = fields.concat();
            let mut field = vec![number << 3 | 2, bytes.len().min(127) as u8];
            field.extend(&bytes[..bytes.len().min(127)]);
            field
        })
    })
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200), options in all_options()) {
        for media_type in [MediaType::Text, MediaType::OpenMetrics, MediaType::Protobuf] {
            let _ = entries(&body, media_type, options);
        }
    }

    #[test]
    fn any_message_is_read_or_refused(fields in proptest::collection::vec(field(), 0..20), options in all_options()) {
        let mut message = b"\x0a\x01m\x18\x04".to_vec();
        message.extend(fields.concat());
        let mut body = vec![message.len() as u8 & 0x7f | 0x80, (message.len() >> 7) as u8];
        body.extend(message);
        let _ = entries(&body, MediaType::Protobuf, options);
    }

    #[test]
    fn histograms_of_any_lines_are_read_or_refused(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "# TYPE h histogram\n", "# UNIT h_s s\n", "h_bucket{le=\"1\"} 1\n", "h_bucket{le=\"+Inf\"} 2 # {a=\"b\"} 1\n", "h_sum 1\n",
            "h_count 2\n", "h_created 1\n", "h_bucket{a=\"b\",le=\"2\"} 3\n", "h 1\n", "# TYPE s summary\n", "h_bucket{le=\"x\"} 1\n",
        ]), 0..30),
        options in all_options(),
    ) {
        let body = parts.concat() + "# EOF\n";
        let _ = entries(body.as_bytes(), MediaType::OpenMetrics, options);
        let _ = entries(body.as_bytes(), MediaType::Text, options);
    }
}
