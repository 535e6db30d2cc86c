//! Every exposition format, from a target to the data directory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use fk_model::histogram::Span;
use fk_model::{FloatHistogram, Histogram, Labels};
use serde_json::Value;

use crate::support::{FakeTarget, Home, Server, program, wait_for};

/// What a server stores about its scrapes by itself.
const REPORT: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut bits_len) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter(|b| *b != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|d| *d == digit).expect("a digit") as u32;
        bits_len += 6;
        if bits_len >= 8 {
            bits_len -= 8;
            bytes.push((bits >> bits_len) as u8);
        }
    }
    bytes
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some(text) => text.parse().expect("a number"),
        None => value.as_f64().expect("a number"),
    }
}

/// A histogram of the data as it is stored, printed; `None` if it contradicts itself, so that its scrape fails.
fn histogram(value: &Value) -> Option<String> {
    let numbers = |key: &str| -> Vec<f64> { value[key].as_array().into_iter().flatten().map(number).collect() };
    let spans = |key: &str| -> Vec<Span> {
        let spans = value[key].as_array().into_iter().flatten();
        spans.map(|span| Span { offset: number(&span[0]) as i32, length: number(&span[1]) as u32 }).collect()
    };
    let (schema, zero_threshold) = (number(&value["schema"]) as i32, number(&value["zero_threshold"]));
    let (sum, count, zero_count) = (number(&value["sum"]), number(&value["count"]), number(&value["zero_count"]));
    let custom_values: Arc<[f64]> = numbers("custom_values").into();
    if value["buckets_are"] == "deltas" {
        let ints = |key: &str| numbers(key).into_iter().map(|v| v as i64).collect();
        let h = Histogram {
            schema,
            zero_threshold,
            zero_count: zero_count as u64,
            count: count as u64,
            sum,
            positive_spans: spans("positive_spans"),
            negative_spans: spans("negative_spans"),
            positive_buckets: ints("positive_buckets"),
            negative_buckets: ints("negative_buckets"),
            custom_values,
            ..Histogram::default()
        };
        return h.validate().is_ok().then(|| h.to_float().to_string());
    }
    let h = FloatHistogram {
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans: spans("positive_spans"),
        negative_spans: spans("negative_spans"),
        positive_buckets: numbers("positive_buckets"),
        negative_buckets: numbers("negative_buckets"),
        custom_values,
        ..FloatHistogram::default()
    };
    h.validate().is_ok().then(|| h.to_string())
}

/// A body to be scraped with these settings, and what has to be stored of it: labels and value.
struct Case {
    name: String,
    content_type: String,
    body: Vec<u8>,
    settings: String,
    /// `None`: the scrape fails.
    stored: Option<BTreeMap<Labels, String>>,
}

/// The recorded cases by what they need of the server: `_created` lines as starts, types and units as labels.
fn cases() -> BTreeMap<(bool, bool), Vec<Case>> {
    let mut groups: BTreeMap<(bool, bool), Vec<Case>> = BTreeMap::new();
    let Some(path) = fk_testkit::conformance("exposition/parse_cases.json") else { return groups };
    let text = std::fs::read_to_string(path).expect("readable data");
    let data: Value = serde_json::from_str(&text).expect("JSON");
    for case in data["cases"].as_array().expect("cases") {
        let body = match case["input_base64"].as_str() {
            Some(text) => base64(text),
            None => case["input"].as_str().expect("a body").as_bytes().to_vec(),
        };
        for expect in case["expect"].as_array().expect("expectations") {
            let on = |key: &str| expect["options"][key] == true;
            let group = (on("skip_created_series") || case["format"] != "openmetrics", on("type_and_unit_labels"));
            let (mut stored, mut fails) = (BTreeMap::new(), false);
            if !expect["note"].is_null() {
                // Says less than what is stored.
                continue;
            }
            for entry in expect["entries"].as_array().expect("entries") {
                let Some(labels) = entry["labels"].as_object() else { continue };
                let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
                let labels = Labels::from_pairs(pairs.filter(|(_, value)| !value.is_empty()));
                let value = match entry.get("histogram") {
                    Some(value) => histogram(value).unwrap_or_else(|| {
                        fails = true;
                        String::new()
                    }),
                    None => number(&entry["value"]).to_string(),
                };
                // Of a series that stands there twice the first one counts.
                stored.entry(labels).or_insert(value);
            }
            let settings = format!(
                "    scrape_native_histograms: {}\n    always_scrape_classic_histograms: {}\n    convert_classic_histograms_to_nhcb: {}\n",
                !on("ignore_native_histograms"),
                on("keep_classic_histograms"),
                on("convert_classic_histograms_to_nhcb"),
            );
            groups.entry(group).or_default().push(Case {
                name: format!("{} {}", case["name"], expect["options"]),
                content_type: case["content_type"].as_str().expect("a content type").to_owned(),
                body: body.clone(),
                settings,
                stored: (!fails).then_some(stored),
            });
        }
    }
    groups
}

/// What is stored, as `promtool` dumps it: lines of labels, value and time.
fn dump(home: &Home) -> String {
    let folder = home.path("data").display().to_string();
    let output =
        program(&["promtool", "tsdb", "dump", &folder]).stdout(Stdio::piped()).output().expect("promtool runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What differs between the case of job `job` and what is stored of it.
fn differences(case: &Case, job: &str, lines: &[&str], out: &mut String) {
    let own = format!("job=\"{job}\"");
    let mut lines: Vec<&str> = lines.iter().copied().filter(|line| line.contains(&own)).collect();
    let address =
        |line: &str| line.split("instance=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
    let instance = lines.first().and_then(|line| address(line)).unwrap_or_default();
    for (labels, value) in case.stored.iter().flatten() {
        let pairs = labels.iter().chain([("job", job), ("instance", instance.as_str())]);
        let labels = format!("{} ", Labels::from_pairs(pairs));
        // The newest: a storage that was empty until then takes zero samples from long ago, too.
        let Some(at) = lines.iter().rposition(|line| line.starts_with(&labels)) else {
            writeln!(out, "{}: {labels} is not there", case.name).expect("memory");
            continue;
        };
        let (got, _) = lines[at][labels.len()..].rsplit_once(' ').expect("a value and a time");
        let same = got == value
            || matches!((got.parse::<f64>(), value.parse::<f64>()), (Ok(a), Ok(b)) if a == b || a.is_nan() && b.is_nan());
        if !same {
            writeln!(out, "{}: {labels} is {got}, not {value}", case.name).expect("memory");
        }
        lines.retain(|line| !line.starts_with(&labels));
    }
    let is_report = |line: &&&str| REPORT.iter().any(|name| line.contains(&format!("__name__=\"{name}\"")));
    for line in lines.iter().filter(|line| !is_report(line)) {
        writeln!(out, "{}: {line} is too many", case.name).expect("memory");
    }
}

#[test]
fn recorded_bodies_are_stored_as_prometheus_stores_them() {
    let mut wrong = String::new();
    for ((_, type_and_unit), cases) in cases().iter().filter(|(_, cases)| !cases.is_empty()) {
        let starts = cases.iter().any(|case| case.name.contains("\"skip_created_series\":true"));
        let page = |at: usize, case: &Case| (format!("/c{at}"), (case.content_type.clone(), case.body.clone()));
        let target = FakeTarget::serving_pages(cases.iter().enumerate().map(|(at, case)| page(at, case)).collect());
        let mut config = "global:\n  scrape_interval: 1s\nscrape_configs:\n".to_owned();
        for (at, case) in cases.iter().enumerate() {
            write!(
                config,
                "  - job_name: c{at}\n    metrics_path: /c{at}\n    honor_timestamps: false\n{}    static_configs: [{{targets: ['{}']}}]\n",
                case.settings,
                target.address()
            )
            .expect("memory");
        }
        let home = Home::new("formats", &config);
        let mut features = Vec::new();
        features.extend(starts.then_some("--enable-feature=created-timestamp-zero-ingestion"));
        features.extend(type_and_unit.then_some("--enable-feature=type-and-unit-labels"));
        let server = Server::start(&home, &features);
        let all = cases.len() as f64;
        server.wait_value("count(up)", all);
        for target in server.api("/api/v1/targets")["activeTargets"].as_array().expect("targets") {
            let (job, error) = (&target["scrapePool"], target["lastError"].as_str().unwrap_or_default());
            let case = job.as_str().and_then(|job| cases.get(job[1..].parse::<usize>().ok()?)).expect("a case");
            if error.is_empty() != case.stored.is_some() {
                writeln!(wrong, "{}: last error {error:?}", case.name).expect("memory");
            }
        }
        let dumped = dump(&home);
        let lines: Vec<&str> = dumped.lines().collect();
        for (at, case) in cases.iter().enumerate() {
            differences(case, &format!("c{at}"), &lines, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn exemplars_are_found_again() {
    let body = "# TYPE jobs counter\njobs_total{kind=\"mail\"} 7 # {trace_id=\"abc\"} 1\n# EOF\n";
    let page = ("/metrics".to_owned(), ("application/openmetrics-text; version=1.0.0".to_owned(), body.into()));
    let target = FakeTarget::serving_pages(BTreeMap::from([page]));
    let config = format!(
        "global:\n  scrape_interval: 500ms\nscrape_configs:\n  - job_name: app\n    static_configs: [{{targets: ['{}']}}]\n",
        target.address()
    );
    let home = Home::new("exemplars", &config);
    let server = Server::start(&home, &["--enable-feature=exemplar-storage"]);
    server.wait_value("jobs_total", 7.0);
    let path = "/api/v1/query_exemplars?query=jobs_total&start=0&end=9999999999";
    let found = wait_for("an exemplar", || server.api(path).get(0).cloned());
    assert_eq!(found["seriesLabels"]["kind"], "mail");
    assert_eq!(found["exemplars"][0]["labels"]["trace_id"], "abc");
    assert_eq!(found["exemplars"][0]["value"], "1");
    assert_eq!(server.own_metric("prometheus_target_scrapes_exemplar_out_of_order_total"), Some(0.0));
}
