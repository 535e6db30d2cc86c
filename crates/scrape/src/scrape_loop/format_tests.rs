//! Tests of the loop with formats and features beyond plain text: what goes to the storage.

use std::fmt::Write as _;
use std::sync::Mutex;

use fk_model::{Labels, TargetGroup, is_stale};
use fk_storage::{HistogramValue, Rejection};
use fk_testkit::MemoryStorage;

use super::*;
use crate::target::TargetSet;

const STEP_MS: i64 = 10_000;
const OPEN_METRICS: &str = "application/openmetrics-text";
const PROTOBUF: &str = "application/vnd.google.protobuf";

/// A storage that notes what it is given, and takes all of it but what tests do not want.
#[derive(Default)]
struct Recorder {
    names: MemoryStorage,
    known: Mutex<Vec<Labels>>,
    noted: Mutex<Vec<String>>,
    /// References from this one on are not known.
    forgotten: Mutex<Option<u64>>,
    refuse_exemplars: bool,
}

impl Appender for Recorder {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        let mut known = self.known.lock().unwrap();
        let forgotten = self.forgotten.lock().unwrap();
        let at =
            known.iter().position(|other| other == labels).filter(|at| forgotten.is_none_or(|from| *at as u64 >= from));
        let at = at.unwrap_or_else(|| {
            known.push(labels.clone());
            known.len() - 1
        });
        self.names.resolve(labels)?;
        Ok(SeriesRef(at as u64))
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        report.clear();
        assert!(batch.starts.is_empty() || batch.starts.len() == batch.samples.len());
        let forgotten = self.forgotten.lock().unwrap().unwrap_or(0);
        let (known, mut noted) = (self.known.lock().unwrap(), self.noted.lock().unwrap());
        let name = |series: SeriesRef| {
            let labels = &known[series.0 as usize];
            let own = labels.filtered(|name| !["job", "instance", "__name__"].contains(&name));
            if own.is_empty() { labels.metric_name().to_owned() } else { format!("{}{own}", labels.metric_name()) }
        };
        let seconds = |t: i64| t as f64 / 1000.0;
        for (at, sample) in batch.samples.iter().enumerate() {
            if sample.series.0 < forgotten {
                report.rejected.push((at, Rejection::UnknownSeries));
                continue;
            }
            let (name, t) = (name(sample.series), seconds(sample.t));
            if REPORT_SERIES.contains(&name.as_str()) {
                continue;
            }
            let mut line =
                if is_stale(sample.v) { format!("{name} !@{t}") } else { format!("{name} {}@{t}", sample.v) };
            match batch.starts.get(at) {
                None | Some(0) => {}
                Some(start) => write!(line, " from {}", seconds(*start)).unwrap(),
            }
            noted.push(line);
        }
        for (at, sample) in batch.histograms.iter().enumerate() {
            if sample.series.0 < forgotten {
                report.rejected_histograms.push((at, Rejection::UnknownSeries));
                continue;
            }
            let h = match &sample.h {
                HistogramValue::Int(h) => format!("int {} {} {:?}", h.schema, h.count, h.positive_buckets),
                HistogramValue::Float(h) => format!("float {} {} {:?}", h.schema, h.count, h.positive_buckets),
            };
            let mut line = format!("{} {h}@{}", name(sample.series), seconds(sample.t));
            if sample.start != 0 {
                write!(line, " from {}", seconds(sample.start)).unwrap();
            }
            noted.push(line);
        }
        for (at, (series, exemplar)) in batch.exemplars.iter().enumerate() {
            if self.refuse_exemplars {
                report.rejected_exemplars.push((at, Rejection::ExemplarOutOfOrder));
            } else {
                let (v, t) = (exemplar.v, seconds(exemplar.t));
                noted.push(format!("{} exemplar {} {v}@{t}", name(*series), exemplar.labels));
            }
        }
        for (series, metadata) in &batch.metadata {
            noted.push(format!("{} is {} {:?} {:?}", name(*series), metadata.kind, metadata.unit, metadata.help));
        }
        Ok(())
    }
}

struct Rig {
    scrape_loop: ScrapeLoop,
    storage: Recorder,
    scratch: Scratch,
    now_ms: i64,
}

fn rig(job: ScrapeConfig, features: Features) -> Rig {
    let group = TargetGroup {
        source: "0".to_owned(),
        labels: Labels::empty(),
        targets: vec![Labels::from_pairs([("__address__", "h:1")])],
    };
    let target = Arc::clone(&TargetSet::from_groups(&job, &[group]).active[0]);
    Rig {
        scrape_loop: ScrapeLoop::new(target, Arc::new(job)).with_features(features),
        storage: Recorder::default(),
        scratch: Scratch::default(),
        now_ms: 0,
    }
}

fn job() -> ScrapeConfig {
    ScrapeConfig { scrape_interval: Duration(STEP_MS), ..ScrapeConfig::new("j") }
}

impl Rig {
    fn scrape(&mut self, body: &[u8], content_type: &str) -> ScrapeOutcome {
        self.now_ms += STEP_MS;
        let fetched = Fetched::Body { body, content_type };
        let outcome = self.scrape_loop.ingest(fetched, self.now_ms, || 0.5, &mut self.scratch, &self.storage);
        assert!(outcome.storage_error.is_none());
        outcome
    }

    /// Scrapes a good body; what is stored of it.
    #[track_caller]
    fn check(&mut self, body: &str, content_type: &str, expected: &[&str]) -> ScrapeCounts {
        self.check_bytes(body.as_bytes(), content_type, expected)
    }

    #[track_caller]
    fn check_bytes(&mut self, body: &[u8], content_type: &str, expected: &[&str]) -> ScrapeCounts {
        let outcome = self.scrape(body, content_type);
        assert!(outcome.up, "{:?}", outcome.error);
        assert_eq!(std::mem::take(&mut *self.storage.noted.lock().unwrap()), expected);
        outcome.counts
    }

    #[track_caller]
    fn check_error(&mut self, body: &[u8], content_type: &str, expected: &str, stored: &[&str]) -> ScrapeCounts {
        let outcome = self.scrape(body, content_type);
        assert_eq!(outcome.error.map(|error| error.to_string()).as_deref(), Some(expected));
        assert_eq!(std::mem::take(&mut *self.storage.noted.lock().unwrap()), stored);
        outcome.counts
    }
}

/// A field of a message.
fn bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn double(number: u8, value: f64) -> Vec<u8> {
    [&[number << 3 | 1], value.to_le_bytes().as_slice()].concat()
}

/// A family `name` of this type with metrics of these contents.
fn family(name: &str, kind: u8, metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics = metrics.iter().map(|metric| bytes(4, metric)).collect::<Vec<_>>().concat();
    let message = [bytes(1, name.as_bytes()), varint(3, kind), metrics].concat();
    let mut len = vec![message.len() as u8 & 0x7f | 0x80, (message.len() >> 7) as u8];
    len.extend(message);
    len
}

/// A histogram with `count` observations in native buckets from 1 on, and a classic bucket.
fn histogram(counts: &[u8], with_classic: bool) -> Vec<u8> {
    let total: u8 = counts.iter().sum();
    let mut before = 0i64;
    let deltas: Vec<u8> = counts
        .iter()
        .map(|count| {
            let delta = i64::from(*count) - std::mem::replace(&mut before, i64::from(*count));
            (delta << 1 ^ delta >> 63) as u8
        })
        .collect();
    let span = bytes(12, &[varint(1, 2), varint(2, counts.len() as u8)].concat());
    let bucket = bytes(3, &[varint(1, total), double(2, 8.0)].concat());
    let h = [varint(1, total), double(2, 1.5), span, bytes(13, &deltas), varint(5, 4)].concat();
    bytes(7, &if with_classic { [h, bucket].concat() } else { h })
}

const HISTOGRAM: u8 = 4;

#[test]
fn open_metrics_is_read_like_text() {
    let mut rig = rig(job(), Features::default());
    let body =
        "# TYPE a counter\n# UNIT a_s s\na_total{x=\"1\"} 1 # {t=\"u\"} 1 5\na_created{x=\"1\"} 3\nb 2 4.5\n# EOF\n";
    let counts = rig.check(body, OPEN_METRICS, &["a_total{x=\"1\"} 1@10", "a_created{x=\"1\"} 3@10", "b 2@4.5"]);
    assert_eq!((counts.scraped, counts.post_relabel, counts.series_added), (3, 3, 3));
    assert_eq!(rig.scrape_loop.metadata().snapshot()["a_s"].unit, "s");
    // The same target may answer in another format: series of equal texts are the same.
    let counts = rig.check("a_total{x=\"1\"} 5\n", "text/plain", &["a_total{x=\"1\"} 5@20", "a_created{x=\"1\"} !@20"]);
    assert_eq!((counts.series_added, counts.stale_markers), (0, 0));
    rig.check("a_total{x=\"1\"} 6\n# EOF\n", OPEN_METRICS, &["a_total{x=\"1\"} 6@30"]);
    rig.check("a_total{x=\"1\"} 7\n", "text/plain", &["a_total{x=\"1\"} 7@40"]);
    let counts = rig.check_error(b"a_total{x=\"1\"} 8\n", OPEN_METRICS, "data does not end with # EOF", &[]);
    assert_eq!(counts.scraped, 1);
    let counts = rig.check("b 1\nb 2\nb 3 1.5\n# EOF\n", OPEN_METRICS, &["b 1@60", "b 3@1.5", "a_total{x=\"1\"} !@60"]);
    assert_eq!((counts.duplicates, counts.scraped), (1, 3));
}

#[test]
fn what_is_good_in_one_format_may_be_wrong_in_another() {
    let mut rig = rig(job(), Features::default());
    let body = "# a comment\na 1\n";
    rig.check(body, "text/plain", &["a 1@10"]);
    let text = r##"expected a valid start token, got "# a" ("INVALID") while parsing: "# a""##;
    rig.check_error(body.as_bytes(), OPEN_METRICS, text, &["a !@20"]);
    rig.check("a 2\n# EOF\n", OPEN_METRICS, &["a 2@30"]);
    rig.check("a 3\n# EOF\n", OPEN_METRICS, &["a 3@40"]);
    // What was read before the mistake counts as seen.
    rig.check_error(b"a 4\n", OPEN_METRICS, "data does not end with # EOF", &[]);
    rig.check_error(b"a 4\n# EOF\nb 1\n", OPEN_METRICS, "unexpected data after # EOF", &[]);
    // Times are seconds in one format, and milliseconds in the other.
    rig.check("a 5 6\n# EOF\n", OPEN_METRICS, &["a 5@6", "a !@70"]);
    rig.check("a 5 6\n", "text/plain", &["a 5@0.006"]);
}

#[test]
fn exemplars_are_stored_with_the_feature() {
    let features = Features { exemplars: true, ..Features::default() };
    let mut all = rig(job(), features);
    let body = "# TYPE a counter\na_total 1 # {t=\"u\"} 0.5 5\nb_total 2 # {} 0.25\n# EOF\n";
    let expected = ["a_total 1@10", "b_total 2@10", "a_total exemplar {t=\"u\"} 0.5@5", "b_total exemplar {} 0.25@10"];
    all.check(body, OPEN_METRICS, &expected);
    let body = &body.replace("0.5 5", "0.75 15");
    let expected =
        ["a_total 1@20", "b_total 2@20", "a_total exemplar {t=\"u\"} 0.75@15", "b_total exemplar {} 0.25@20"];
    all.check(body, OPEN_METRICS, &expected);
    all.storage.refuse_exemplars = true;
    let counts = all.check(body, OPEN_METRICS, &["a_total 1@30", "b_total 2@30"]);
    assert_eq!(counts.exemplars_out_of_order, 2);
}

#[test]
fn native_histograms_are_stored_where_the_job_wants_them() {
    let body = family("h", HISTOGRAM, &[histogram(&[1, 2, 3], true)]);
    let classic = ["h_count 6@10", "h_sum 1.5@10", "h_bucket{le=\"8.0\"} 6@10", "h_bucket{le=\"+Inf\"} 6@10"];
    rig(job(), Features::default()).check_bytes(&body, PROTOBUF, &classic);
    let native = ScrapeConfig { scrape_native_histograms: true, ..job() };
    let mut only_native = rig(native.clone(), Features::default());
    only_native.check_bytes(&body, PROTOBUF, &["h int 2 6 [1, 1, 1]@10"]);
    only_native.check_bytes(&family("x", 1, &[bytes(2, &double(1, 4.0))]), PROTOBUF, &["x 4@20", "h !@20"]);
    let always = ScrapeConfig { always_scrape_classic_histograms: true, ..native.clone() };
    let expected: Vec<&str> = classic.into_iter().chain(["h int 2 6 [1, 1, 1]@10"]).collect();
    rig(always, Features::default()).check_bytes(&body, PROTOBUF, &expected);
    let convert = ScrapeConfig { convert_classic_histograms: true, ..job() };
    rig(convert, Features::default()).check_bytes(&body, PROTOBUF, &["h int -53 6 [6]@10"]);
    // Coarser: three buckets of schema 2 from index 1 on are one of schema 0.
    let coarse = ScrapeConfig { native_histogram_min_bucket_factor: 2.0, ..native.clone() };
    rig(coarse, Features::default()).check_bytes(&body, PROTOBUF, &["h int 0 6 [6]@10"]);
    let limited = ScrapeConfig { native_histogram_bucket_limit: 2, ..native };
    rig(limited.clone(), Features::default()).check_bytes(&body, PROTOBUF, &["h int 1 6 [3, 0]@10"]);
    // Ones and zeros far apart stay so.
    let wide = [&[1u8][..], &[0; 100], &[1]].concat();
    let mut rig = rig(ScrapeConfig { native_histogram_bucket_limit: 1, ..limited }, Features::default());
    let body = family("h", HISTOGRAM, &[histogram(&wide, false)]);
    rig.check_error(&body, PROTOBUF, "histogram bucket limit exceeded", &[]);
}

#[test]
fn contradicting_histograms_fail_the_scrape() {
    let job = ScrapeConfig { scrape_native_histograms: true, ..job() };
    let mut rig = rig(job, Features::default());
    let mut wrong = histogram(&[1, 2], false);
    wrong[3] = 7;
    let text = "3 observations found in buckets, but the Count field is 7: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)";
    let outcome = rig.scrape(&family("h", HISTOGRAM, &[wrong]), PROTOBUF);
    assert_eq!(outcome.error.map(|error| error.to_string()).as_deref(), Some(text));
}

#[test]
fn classic_histograms_of_text_are_converted() {
    let convert = ScrapeConfig { convert_classic_histograms: true, ..job() };
    let mut rig = rig(convert, Features { exemplars: true, ..Features::default() });
    let body = "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 3\nh_sum{a=\"b\"} 4\nh_count{a=\"b\"} 3\nc 1\n";
    rig.check(body, "text/plain", &["c 1@10", "h{a=\"b\"} int -53 3 [1, 1]@10"]);
    let body = "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 2 # {t=\"1\"} 0.5 3\nh_bucket{a=\"b\",le=\"+Inf\"} 3 # {t=\"2\"} 5 2\n# EOF\n";
    rig.check(
        body,
        OPEN_METRICS,
        &[
            "h{a=\"b\"} int -53 3 [2, -1]@20",
            "h{a=\"b\"} exemplar {t=\"2\"} 5@2",
            "h{a=\"b\"} exemplar {t=\"1\"} 0.5@3",
            "c !@20",
        ],
    );
}

const COUNTERS: &str = "# TYPE a counter\na_total 5\na_created 4\n# TYPE b counter\nb_total 1\n# EOF\n";

#[test]
fn starts_become_samples_of_zero_once() {
    let mut rig = rig(job(), Features { zero_samples: true, ..Features::default() });
    rig.check(COUNTERS, OPEN_METRICS, &["a_total 0@4", "a_total 5@10", "b_total 1@10"]);
    rig.check(COUNTERS, OPEN_METRICS, &["a_total 5@20", "b_total 1@20"]);
    let restarted = COUNTERS.replace("a_created 4", "a_created 25");
    rig.check(&restarted, OPEN_METRICS, &["a_total 0@25", "a_total 5@30", "b_total 1@30"]);
    // A start in the future is none.
    let restarted = COUNTERS.replace("a_created 4", "a_created 99");
    rig.check(&restarted, OPEN_METRICS, &["a_total 5@40", "b_total 1@40"]);
}

#[test]
fn starts_are_stored_beside_samples() {
    let job = ScrapeConfig { scrape_native_histograms: true, ..job() };
    let mut rig = rig(job, Features { start_timestamps: true, ..Features::default() });
    rig.check(COUNTERS, OPEN_METRICS, &["a_total 5@10 from 4", "b_total 1@10"]);
    let swapped = "# TYPE b counter\nb_total 1\n# TYPE a counter\na_total 5\na_created 4\n# EOF\n";
    rig.check(swapped, OPEN_METRICS, &["b_total 1@20", "a_total 5@20 from 4"]);
    let mut h = histogram(&[1, 2], false);
    h.extend(bytes(15, &varint(1, 7)));
    h[1] += 4;
    let expected = ["b_total !@30", "a_total !@30"];
    let outcome = rig.scrape(&family("h", HISTOGRAM, &[h]), PROTOBUF);
    assert!(outcome.up, "{:?}", outcome.error);
    let noted = std::mem::take(&mut *rig.storage.noted.lock().unwrap());
    assert_eq!(noted[0], "h int 2 3 [1, 1]@30 from 7");
    assert_eq!(noted[1..].iter().collect::<std::collections::BTreeSet<_>>().len(), expected.len());
}

#[test]
fn counters_without_a_start_begin_with_their_first_scrape() {
    let features = Features { start_synthesis: true, start_timestamps: true, ..Features::default() };
    let mut rig = rig(job(), features);
    let body = |counter: u32, gauge: u32| format!("# TYPE a counter\na {counter}\n# TYPE g gauge\ng {gauge}\n");
    rig.check(&body(5, 1), "text/plain", &["g 1@10"]);
    rig.check(&body(8, 2), "text/plain", &["a 3@20 from 10", "g 2@20"]);
    rig.check(&body(2, 2), "text/plain", &["a 2@30 from 29.999", "g 2@30"]);
    rig.check("g 2\n", "text/plain", &["g 2@40", "a !@40"]);
    rig.check(&body(3, 2), "text/plain", &["g 2@50"]);
}

#[test]
fn metadata_is_stored_when_it_is_new() {
    let mut rig = rig(job(), Features { metadata: true, ..Features::default() });
    let body = "# HELP a Some text.\n# TYPE a counter\na_total 1\nother 2\n";
    rig.check(body, "text/plain", &["a_total 1@10", "other 2@10", "a_total is counter \"\" \"Some text.\""]);
    rig.check(body, "text/plain", &["a_total 1@20", "other 2@20"]);
    let body = body.replace("Some", "Other");
    rig.check(&body, "text/plain", &["a_total 1@30", "other 2@30", "a_total is counter \"\" \"Other text.\""]);
}

#[test]
fn type_and_unit_are_labels_with_the_feature() {
    let mut rig = rig(job(), Features { type_and_unit_labels: true, ..Features::default() });
    let body = "# TYPE a_s gauge\n# UNIT a_s s\na_s{__type__=\"x\",__unit__=\"y\",l=\"m\"} 1\n# EOF\n";
    rig.check(body, OPEN_METRICS, &["a_s{__type__=\"gauge\", __unit__=\"s\", l=\"m\"} 1@10"]);
    rig.check(
        "# TYPE b gauge\nb 1\n",
        "text/plain",
        &["b{__type__=\"gauge\"} 1@20", "a_s{__type__=\"gauge\", __unit__=\"s\", l=\"m\"} !@20"],
    );
}

#[test]
fn limits_and_relabelling_hold_for_all_formats() {
    let limited = ScrapeConfig { sample_limit: 2, ..job() };
    let mut one = rig(limited, Features::default());
    let gauges = |n: u8| {
        family(
            "g",
            1,
            &(0..n)
                .map(|i| {
                    [bytes(1, &[bytes(1, b"l"), bytes(2, &[b'0' + i])].concat()), bytes(2, &double(1, f64::from(i)))]
                        .concat()
                })
                .collect::<Vec<_>>(),
        )
    };
    one.check_bytes(&gauges(2), PROTOBUF, &["g{l=\"0\"} 0@10", "g{l=\"1\"} 1@10"]);
    let counts = one.scrape(&gauges(3), PROTOBUF);
    assert_eq!(counts.error.map(|error| error.to_string()).as_deref(), Some("sample limit exceeded"));
    assert_eq!((counts.counts.scraped, counts.counts.post_relabel), (3, 3));
    let labels = ScrapeConfig { label_limit: 3, ..job() };
    let text = "label_limit exceeded (metric: g, number of labels: 4, limit: 3)";
    rig(labels, Features::default()).check_error(&gauges(1), PROTOBUF, text, &[]);
}

#[test]
fn what_the_storage_has_forgotten_is_made_anew() {
    let job = ScrapeConfig { scrape_native_histograms: true, ..job() };
    let mut rig = rig(job, Features::default());
    let body =
        [family("h", HISTOGRAM, &[histogram(&[1, 2], false)]), family("g", 1, &[bytes(2, &double(1, 4.0))])].concat();
    rig.check_bytes(&body, PROTOBUF, &["g 4@10", "h int 2 3 [1, 1]@10"]);
    *rig.storage.forgotten.lock().unwrap() = Some(rig.storage.known.lock().unwrap().len() as u64);
    rig.check_bytes(&body, PROTOBUF, &["g 4@20", "h int 2 3 [1, 1]@20"]);
    rig.check_bytes(&body, PROTOBUF, &["g 4@30", "h int 2 3 [1, 1]@30"]);
}
