//! The recorded requests and answers of the conformance data.

use std::sync::Arc;

use fk_model::{FloatHistogram, Labels, Span};
use fk_promql::{Answer, MatrixSeries, QueryStats, Value as PromValue, VectorSample};
use fk_storage::{AppendReport, Appender, Batch, Control, Exemplar, ExemplarSeries};
use serde_json::Value;

use super::fakes::{World, encoded, with_params};
use crate::answer::{ChunkWriter, collect, finish_envelope};
use crate::json;
use crate::query_run::Stats;
use crate::rendering::Rendering;
use crate::routes::query::write_exemplars;

fn read(file: &str) -> Option<Value> {
    let path = fk_testkit::conformance(file)?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// Numbers as floats, so that `1` equals `1.0`.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), normal(value))).collect(),
        other => other.clone(),
    }
}

/// Loads lines such as `name{label="value"} 0+100x100`, one sample a minute.
fn load(world: &World, script: &str) {
    for line in script.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()) {
        let (selector, values) = line.rsplit_once(' ').unwrap();
        let (first, rest) = values.split_once('+').unwrap();
        let (step, count) = rest.split_once('x').unwrap();
        let (first, step, count): (f64, f64, i64) =
            (first.parse().unwrap(), step.parse().unwrap(), count.parse().unwrap());
        let matchers = fk_promql_syntax::parse_metric_selector(selector).unwrap();
        let labels = Labels::from_pairs(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str())));
        let samples: Vec<(i64, f64)> = (0..=count).map(|n| (n * 60_000, first + step * n as f64)).collect();
        world.storage.add(&labels, &samples);
    }
}

#[actix_web::test]
async fn recorded_requests_have_the_recorded_answers() {
    let Some(tables) = read("api/endpoints.json") else { return };
    let world = World::new();
    load(&world, tables["load"].as_str().unwrap());
    let mut batch = Batch::default();
    for case in tables["exemplars"].as_array().unwrap() {
        let series = world.storage.resolve(&labels(&case["series"])).unwrap();
        batch.exemplars.push((series, exemplar(case)));
    }
    world.storage.append(&batch, &mut AppendReport::default()).unwrap();
    let cases = tables["cases"].as_array().unwrap();
    let (mut passed, mut failed) = (0, Vec::new());
    for case in cases {
        let endpoint = case["endpoint"].as_str().unwrap();
        let no_params = serde_json::Map::new();
        let params = case["params"].as_object().unwrap_or(&no_params);
        let pairs = || {
            params
                .iter()
                .flat_map(|(n, vs)| vs.as_array().unwrap().iter().map(move |v| (n.as_str(), v.as_str().unwrap())))
        };
        let mut answers = vec![world.get(&with_params(endpoint, pairs())).await];
        if !endpoint.contains("/label/") {
            answers.push(world.form(endpoint, &encoded(pairs())).await);
        }
        for got in answers {
            let json = got.json();
            let data = &json["data"];
            let good = if let Some(kind) = case.get("error_type") {
                json["status"] == "error" && json["errorType"] == *kind && got.status.as_u16() == 400
            } else if let Some(length) = case["data_length"].as_u64() {
                data.as_array().is_some_and(|items| items.len() as u64 == length)
            } else {
                let expected = case.get("data").or(case.get("data_json")).unwrap();
                json["status"] == "success" && normal(data) == normal(expected)
            };
            let warnings = case["warnings"].as_u64().unwrap_or(0);
            let warned = json["warnings"].as_array().map_or(0, |w| w.len() as u64);
            let id = case["id"].as_i64().unwrap();
            match good && warnings == warned {
                true => passed += 1,
                false => failed.push(format!("{id}: {} {}", got.status, got.body)),
            }
        }
    }
    eprintln!("endpoints.json: {passed} answers to {} cases are right", cases.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn labels(value: &Value) -> Labels {
    Labels::from_pairs(value.as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())))
}

fn float(value: &Value) -> f64 {
    value.as_str().unwrap().replace("Inf", "inf").parse().unwrap()
}

fn exemplar(value: &Value) -> Exemplar {
    Exemplar { labels: labels(&value["labels"]), v: float(&value["value"]), t: value["t_ms"].as_i64().unwrap() }
}

/// A histogram with float counts, or one with integer counts given as differences.
fn histogram(value: &Value) -> FloatHistogram {
    let number = |key: &str| value.get(key).map_or(0.0, float);
    let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    let spans = |key: &str| -> Vec<Span> {
        let number = |v: &Value| v.as_i64().unwrap();
        let span = |s: &Value| Span { offset: number(&s[0]) as i32, length: number(&s[1]) as u32 };
        list(key).iter().map(span).collect()
    };
    let counts = |key: &str| -> Vec<f64> {
        let mut before = 0.0;
        let absolute = value["buckets_are"] == "absolute";
        let count = |v: &Value| {
            before = if absolute { float(v) } else { before + float(v) };
            before
        };
        list(key).iter().map(count).collect()
    };
    FloatHistogram {
        schema: value["schema"].as_i64().unwrap_or_default() as i32,
        zero_threshold: number("zero_threshold"),
        zero_count: number("zero_count"),
        count: number("count"),
        sum: number("sum"),
        positive_spans: spans("positive_spans"),
        negative_spans: spans("negative_spans"),
        positive_buckets: counts("positive_buckets"),
        negative_buckets: counts("negative_buckets"),
        ..FloatHistogram::default()
    }
}

#[test]
fn recorded_values_are_written_byte_for_byte() {
    let Some(tables) = read("api/json.json") else { return };
    let mut passed = 0;
    for case in tables["cases"].as_array().unwrap() {
        let expected = case["body"].as_str().unwrap();
        let elements = || case["result"].as_array().unwrap().iter();
        let mut out = ChunkWriter::new();
        out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":");
        let point = |p: &Value| (p["t_ms"].as_i64().unwrap(), float(&p["value"]));
        let value = match case["kind"].as_str().unwrap() {
            "point" => {
                let (t_ms, v) = point(case);
                json::write_point(out.buffer(), t_ms, v);
                None
            }
            "vector" => Some(PromValue::Vector(
                elements()
                    .map(|e| VectorSample { labels: labels(&e["labels"]), t_ms: point(e).0, v: point(e).1, h: None })
                    .collect(),
            )),
            "matrix" => Some(PromValue::Matrix(
                elements()
                    .map(|e| {
                        let list = |key: &str| e[key].as_array().cloned().unwrap_or_default();
                        let (mut t, mut v): (Vec<i64>, Vec<f64>) = list("floats").iter().map(point).unzip();
                        let mut histograms = Vec::new();
                        for one in list("histograms") {
                            histograms.push((t.len() as u32, Arc::new(histogram(&one["histogram"]))));
                            t.push(one["t_ms"].as_i64().unwrap());
                            v.push(0.0);
                        }
                        MatrixSeries { labels: labels(&e["labels"]), t, v, histograms }
                    })
                    .collect(),
            )),
            "exemplars" => {
                let mut out = ChunkWriter::new();
                out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":");
                let series = elements().map(|e| ExemplarSeries {
                    labels: labels(&e["series"]),
                    exemplars: e["exemplars"].as_array().unwrap().iter().map(exemplar).collect(),
                });
                write_exemplars(&mut out, &series.collect::<Vec<_>>()).unwrap();
                finish_envelope(&mut out, &[], &[]);
                assert_eq!(collect(out.into_chunks()), expected);
                passed += 1;
                continue;
            }
            kind => panic!("unknown kind {kind}"),
        };
        if let Some(value) = value {
            out.buffer().push(b'{');
            assert!(Rendering::begin(&mut out, value, Vec::new(), Control::new()).go_on(&mut out, usize::MAX).unwrap());
            out.buffer().push(b'}');
        }
        finish_envelope(&mut out, &[], &[]);
        assert_eq!(collect(out.into_chunks()), expected);
        passed += 1;
    }
    eprintln!("json.json: {passed} bodies are equal");
    assert!(passed > 0);
}

#[test]
fn statistics_have_the_keys_of_prometheus() {
    let answer = Answer {
        value: PromValue::Scalar { t_ms: 1000, v: 1.0 },
        warnings: Vec::new(),
        infos: Vec::new(),
        stats: QueryStats {
            samples_total: 5,
            samples_read: 5,
            samples_per_step: vec![2, 3],
            samples_read_per_step: vec![2, 3],
            samples_peak: 4,
            series_total: 1,
        },
        timings: Default::default(),
        explain: None,
        memory: Control::new().reserve(),
    };
    let text = crate::query_run::answer_for_tests(answer, 1000, 15_000, Stats::All);
    let json: Value = serde_json::from_str(&text).unwrap();
    let stats = &json["data"]["stats"];
    let keys: Vec<&String> = stats["timings"].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["evalTotalTime", "execQueueTime", "execTotalTime", "innerEvalTime", "queryPreparationTime", "resultSortTime"]
    );
    let expected = serde_json::json!({
        "totalQueryableSamplesPerStep": [[1, 2], [16, 3]], "totalQueryableSamples": 5,
        "samplesReadPerStep": [[1, 2], [16, 3]], "samplesRead": 5, "peakSamples": 4,
    });
    assert_eq!(stats["samples"], expected);
}
