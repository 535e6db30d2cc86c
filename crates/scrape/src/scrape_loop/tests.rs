//! Tests of the loop: what a series of scrapes leaves in the storage.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Mutex;

use fk_exposition::MetricType;
use fk_model::relabel::{RelabelAction, RelabelRule};
use fk_model::{Labels, Regex, TargetGroup, is_stale};
use fk_storage::Rejection;
use fk_testkit::MemoryStorage;

use super::*;
use crate::target::TargetSet;

const STEP_MS: i64 = 15_000;

/// A loop, its storage and a clock.
struct Rig {
    scrape_loop: ScrapeLoop,
    storage: MemoryStorage,
    scratch: Scratch,
    now_ms: i64,
}

fn target(job: &ScrapeConfig) -> Arc<Target> {
    let group = TargetGroup {
        source: "0".to_owned(),
        labels: Labels::empty(),
        targets: vec![Labels::from_pairs([("__address__", "h:1")])],
    };
    Arc::clone(&TargetSet::from_groups(job, &[group]).active[0])
}

impl Rig {
    fn new(job: ScrapeConfig) -> Rig {
        let scrape_loop = ScrapeLoop::new(target(&job), Arc::new(job));
        Rig { scrape_loop, storage: MemoryStorage::new(), scratch: Scratch::default(), now_ms: 0 }
    }

    fn fetched(&mut self, fetched: Fetched<'_>) -> ScrapeOutcome {
        self.now_ms += STEP_MS;
        self.scrape_loop.ingest(fetched, self.now_ms, || 0.5, &mut self.scratch, &self.storage)
    }

    /// A scrape of this body.
    fn body(&mut self, body: &str) -> ScrapeOutcome {
        self.fetched(Fetched::Body { body: body.as_bytes(), content_type: "text/plain; version=0.0.4" })
    }

    fn good(&mut self, body: &str) -> ScrapeCounts {
        let outcome = self.body(body);
        assert!(outcome.up, "{:?}", outcome.error);
        assert!(outcome.storage_error.is_none());
        outcome.counts
    }

    fn bad(&mut self, body: &str, text: &str) -> ScrapeCounts {
        let outcome = self.body(body);
        assert_eq!(outcome.error.map(|e| e.to_string()).as_deref(), Some(text));
        assert!(!outcome.up);
        outcome.counts
    }

    fn fail(&mut self) -> ScrapeCounts {
        self.fetched(Fetched::Failed { reason: "connection refused", body_size_limit_hit: false }).counts
    }

    /// What is stored, apart from synthetic series: `1@15` is value 1 at 15 s, `!` a staleness marker.
    fn samples(&self) -> Vec<String> {
        self.stored(|name| !REPORT_SERIES.contains(&name))
    }

    fn report(&self, name: &str) -> String {
        self.stored(|n| n == name).concat()
    }

    fn stored(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        for (labels, samples) in self.storage.dump() {
            if samples.is_empty() || !wanted(labels.metric_name()) {
                continue;
            }
            // The labels of the target are the same everywhere.
            let own = labels.filtered(|name| !["job", "instance", "__name__"].contains(&name));
            let mut line = labels.metric_name().to_owned();
            if !own.is_empty() {
                line += &own.to_string();
            }
            for (t, v) in samples {
                let t = t as f64 / 1000.0;
                if is_stale(v) { write!(line, " !@{t}") } else { write!(line, " {v}@{t}") }.unwrap();
            }
            lines.push(line);
        }
        lines
    }
}

fn job() -> ScrapeConfig {
    ScrapeConfig { scrape_interval: Duration(STEP_MS), ..ScrapeConfig::new("j") }
}

fn rule(action: RelabelAction, source: &str, regex: &str, target: &str, replacement: &str) -> RelabelRule {
    RelabelRule {
        source_labels: vec![source.to_owned()],
        separator: ";".to_owned(),
        regex: Regex::new(regex).unwrap(),
        modulus: 0,
        target_label: target.to_owned(),
        replacement: replacement.to_owned(),
        action,
    }
}

#[test]
fn samples_and_synthetic_series_are_stored_with_the_labels_of_the_target() {
    let mut rig = Rig::new(job());
    rig.good("# TYPE h histogram\nh_bucket{le=\"1\"} 5\nup_there 2\n");
    let dump = rig.storage.dump();
    let names: Vec<String> = dump.keys().map(|labels| labels.to_string()).collect();
    assert_eq!(
        names,
        [
            r#"{__name__="h_bucket", instance="h:1", job="j", le="1.0"}"#,
            r#"{__name__="scrape_duration_seconds", instance="h:1", job="j"}"#,
            r#"{__name__="scrape_samples_post_metric_relabeling", instance="h:1", job="j"}"#,
            r#"{__name__="scrape_samples_scraped", instance="h:1", job="j"}"#,
            r#"{__name__="scrape_series_added", instance="h:1", job="j"}"#,
            r#"{__name__="up", instance="h:1", job="j"}"#,
            r#"{__name__="up_there", instance="h:1", job="j"}"#,
        ]
    );
    assert_eq!(rig.report("scrape_duration_seconds"), "scrape_duration_seconds 0.5@15");
    assert_eq!(rig.report("scrape_samples_scraped"), "scrape_samples_scraped 2@15");
}

#[test]
fn series_that_vanish_are_marked_once_and_may_come_back() {
    let mut rig = Rig::new(job());
    rig.good("a 1\nb 1\n");
    assert_eq!(rig.good("a 2\n").stale_markers, 1);
    assert_eq!(rig.good("a 3\n").stale_markers, 0);
    rig.good("a 4\nb 4\n");
    assert_eq!(rig.samples(), ["a 1@15 2@30 3@45 4@60", "b 1@15 !@30 4@60"]);
    assert_eq!(rig.report("scrape_series_added"), "scrape_series_added 2@15 0@30 0@45 1@60");
}

#[test]
fn request_failure_marks_everything_at_the_first_failure_only() {
    let mut rig = Rig::new(job());
    rig.good("a 1\n");
    assert_eq!(rig.fail(), ScrapeCounts { stale_markers: 1, ..ScrapeCounts::default() });
    rig.fail();
    rig.good("a 4\n");
    assert_eq!(rig.samples(), ["a 1@15 !@30 4@60"]);
    assert_eq!(rig.report("up"), "up 1@15 0@30 0@45 1@60");
    // The cache outlives failed requests.
    assert_eq!(rig.report("scrape_series_added"), "scrape_series_added 1@15 0@30 0@45 0@60");
}

#[test]
fn empty_body_is_a_success_without_series_whatever_its_type() {
    let mut rig = Rig::new(job());
    rig.good("a 1\n");
    let outcome = rig.fetched(Fetched::Body { body: b"", content_type: "" });
    assert!(outcome.up);
    assert_eq!(rig.samples(), ["a 1@15 !@30"]);
    assert_eq!(rig.report("up"), "up 1@15 1@30");
}

#[test]
fn parse_error_keeps_nothing_and_marks_only_what_was_not_reached() {
    let mut rig = Rig::new(job());
    rig.good("a 1\nb 1\nc 1\n");
    let counts =
        rig.bad("a 2\nb 2\n} 2\nc 2\n", r#"expected a valid start token, got "}" ("INVALID") while parsing: "}""#);
    assert_eq!((counts.scraped, counts.stale_markers), (2, 1));
    rig.good("a 3\nc 3\n");
    assert_eq!(rig.samples(), ["a 1@15 3@45", "b 1@15 !@45", "c 1@15 !@30 3@45"]);
    assert_eq!(rig.report("scrape_samples_scraped"), "scrape_samples_scraped 3@15 2@30 2@45");
}

#[test]
fn bad_floats_of_dropped_series_fail_the_scrape_too() {
    let drop = rule(RelabelAction::Drop, "__name__", "a", "", "$1");
    let mut rig = Rig::new(ScrapeConfig { metric_relabel_configs: vec![drop], ..job() });
    rig.good("a 1\nb 1\n");
    rig.bad("a x\nb 1\n", r#"strconv.ParseFloat: parsing "x": invalid syntax while parsing: "a x""#);
}

#[test]
fn dropped_series_count_as_scraped_only() {
    let rules = vec![
        rule(RelabelAction::Drop, "__name__", "noise.*", "", "$1"),
        rule(RelabelAction::Replace, "__name__", "old_(.*)", "__name__", "new_$1"),
    ];
    let mut rig = Rig::new(ScrapeConfig { metric_relabel_configs: rules, ..job() });
    for _ in 0..2 {
        let outcome = rig.body("noise_a 1\nold_x 2\nnoise_b 1\n");
        assert_eq!(outcome.dropped.as_deref(), Some(&[(DroppedBy(0), 2)][..]));
    }
    assert_eq!(rig.samples(), ["new_x 2@15 2@30"]);
    assert_eq!(rig.report("scrape_samples_scraped"), "scrape_samples_scraped 3@15 3@30");
    assert_eq!(rig.report("scrape_samples_post_metric_relabeling"), "scrape_samples_post_metric_relabeling 1@15 1@30");
}

#[test]
fn series_of_two_texts_is_stale_only_when_both_have_gone() {
    let one_name = rule(RelabelAction::Replace, "__name__", "a|b", "__name__", "ab");
    let mut rig = Rig::new(ScrapeConfig { metric_relabel_configs: vec![one_name], ..job() });
    rig.good("a 1\n");
    rig.good("b 2\n");
    rig.good("c 3\n");
    assert_eq!(rig.samples(), ["ab 1@15 2@30 !@45", "c 3@45"]);
}

#[test]
fn repeated_series_count_as_duplicates_and_the_first_wins() {
    let mut rig = Rig::new(job());
    for _ in 0..2 {
        let counts = rig.good("a 1\na 2\nb 1\na 1\n");
        assert_eq!((counts.scraped, counts.post_relabel, counts.duplicates), (4, 4, 2));
    }
    assert_eq!(rig.samples(), ["a 1@15 1@30", "b 1@15 1@30"]);
}

#[test]
fn explicit_timestamps_are_honoured_or_ignored() {
    let body = "a 1 5000\na 2 6000\nb 1\n";
    let mut rig = Rig::new(job());
    rig.good(body);
    rig.good("a 3 4000\n");
    rig.good("a 3 700000000\n");
    assert_eq!(rig.samples(), ["a 1@5 2@6", "b 1@15 !@30"]);
    let mut rig = Rig::new(ScrapeConfig { honor_timestamps: false, ..job() });
    rig.good(body);
    rig.good("a 3 4000\n");
    assert_eq!(rig.samples(), ["a 1@15 3@30", "b 1@15 !@30"]);
}

#[test]
fn rejected_timestamps_are_counted_by_kind() {
    let mut rig = Rig::new(job());
    rig.good("a 1 5000\n");
    let counts = rig.good("a 1 4000\n");
    assert_eq!((counts.out_of_order, counts.post_relabel), (1, 1));
    let counts = rig.good("a 7 5000\n");
    assert_eq!((counts.duplicates, counts.post_relabel), (1, 1));
    let late = rig.now_ms + STEP_MS + FUTURE_MAX_MS;
    let counts = rig.good(&format!("a 1 {}\na 1 {late}\n", late + 1));
    assert_eq!((counts.out_of_bounds, counts.post_relabel), (1, 2));
}

#[test]
fn series_with_timestamps_are_marked_only_if_asked_for() {
    for (track, expected) in [(false, "a 1@5"), (true, "a 1@5 !@30")] {
        let mut rig = Rig::new(ScrapeConfig { track_timestamps_staleness: track, ..job() });
        rig.good("a 1 5000\n");
        rig.good("b 1\n");
        assert_eq!(rig.samples(), [expected, "b 1@30"]);
    }
}

#[test]
fn label_conflicts_are_resolved_by_honor_labels() {
    let body = "a{job=\"x\",exported_job=\"y\",instance=\"\"} 1\n";
    let labels = |honor_labels| {
        let mut rig = Rig::new(ScrapeConfig { honor_labels, ..job() });
        rig.good(body);
        rig.storage.dump().into_keys().find(|labels| labels.metric_name() == "a").unwrap().to_string()
    };
    assert_eq!(
        labels(false),
        r#"{__name__="a", exported_exported_job="x", exported_job="y", instance="h:1", job="j"}"#
    );
    assert_eq!(labels(true), r#"{__name__="a", exported_job="y", job="x"}"#);
}

#[test]
fn sample_limit_fails_the_scrape_and_still_counts_everything() {
    let mut rig = Rig::new(ScrapeConfig { sample_limit: 2, extra_scrape_metrics: true, ..job() });
    rig.good("a 1\nb 1\n");
    let counts = rig.bad("a 2\nb 2\nc 2\nd 2\n", "sample limit exceeded");
    assert_eq!((counts.scraped, counts.post_relabel, counts.stale_markers), (4, 4, 0));
    rig.bad("x 3\na 3\nb 3\n", "sample limit exceeded");
    // `a` was reached before the limit was, `b` was not.
    assert_eq!(rig.samples(), ["a 1@15", "b 1@15 !@45"]);
    assert_eq!(rig.report("scrape_sample_limit"), "scrape_sample_limit 2@15 2@30 2@45");
    assert_eq!(rig.report("scrape_timeout_seconds"), "scrape_timeout_seconds 10@15 10@30 10@45");
    assert_eq!(rig.report("scrape_body_size_bytes"), "scrape_body_size_bytes 8@15 16@30 12@45");
}

#[test]
fn duplicates_and_drops_do_not_count_towards_the_sample_limit() {
    let drop = rule(RelabelAction::Drop, "__name__", "noise", "", "$1");
    let mut rig = Rig::new(ScrapeConfig { sample_limit: 2, metric_relabel_configs: vec![drop], ..job() });
    rig.good("noise 1\na 1\na 1\nb 1\nnoise 1\n");
}

#[test]
fn body_size_limit_is_reported_as_minus_one() {
    let mut rig = Rig::new(ScrapeConfig { extra_scrape_metrics: true, ..job() });
    let outcome = rig.fetched(Fetched::Failed { reason: "body size limit exceeded", body_size_limit_hit: true });
    assert_eq!((outcome.up, outcome.body_bytes), (false, -1));
    rig.fail();
    assert_eq!(rig.report("scrape_body_size_bytes"), "scrape_body_size_bytes -1@15 0@30");
}

#[test]
fn label_limits_and_bad_names_fail_the_scrape() {
    let unnamed = rule(RelabelAction::Replace, "__name__", "a", "__name__", "");
    let check = |job: ScrapeConfig, body: &str, text: &str| {
        Rig::new(job).bad(body, text);
    };
    check(
        ScrapeConfig { label_limit: 3, ..job() },
        "a{b=\"c\"} 1\n",
        "label_limit exceeded (metric: a, number of labels: 4, limit: 3)",
    );
    check(
        ScrapeConfig { label_name_length_limit: 8, ..job() },
        "a{ninechars=\"c\"} 1\n",
        "label_name_length_limit exceeded (metric: a, label name: ninechars, length: 9, limit: 8)",
    );
    check(
        ScrapeConfig { label_value_length_limit: 3, ..job() },
        "a{b=\"long\"} 1\n",
        "label_value_length_limit exceeded (metric: a, label name: b, value: \"long\", length: 4, limit: 3)",
    );
    check(
        ScrapeConfig { metric_relabel_configs: vec![unnamed], ..job() },
        "a 1\n",
        "missing metric name (__name__ label)",
    );
    check(
        ScrapeConfig { metric_name_validation: fk_model::name::NameValidation::Legacy, ..job() },
        "{\"a.b\"} 1\n",
        r#"invalid metric name or label names: {__name__="a.b", instance="h:1", job="j"}"#,
    );
    check(job(), "a{b=\"1\",b=\"2\"} 1\n", "label name \"b\" is not unique: invalid sample");
}

#[test]
fn format_is_negotiated() {
    let mut rig = Rig::new(job());
    let body = b"a 1\n";
    for (content_type, text) in [
        ("application/openmetrics-text", "data does not end with # EOF"),
        (
            "",
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
        ),
    ] {
        let outcome = rig.fetched(Fetched::Body { body, content_type });
        assert_eq!(outcome.error.unwrap().to_string(), text);
    }
    let fallback = Some(ScrapeProtocol::PrometheusText0_0_4);
    let mut rig = Rig::new(ScrapeConfig { fallback_scrape_protocol: fallback, ..job() });
    let outcome = rig.fetched(Fetched::Body { body, content_type: "" });
    assert!(outcome.up && outcome.warning.is_some());
}

#[test]
fn removed_target_leaves_markers_for_everything() {
    let mut rig = Rig::new(job());
    rig.good("a 1\nb 1 5000\n");
    let Rig { scrape_loop, storage, mut scratch, .. } = rig;
    scrape_loop.end(40_000, &mut scratch, &storage).unwrap();
    let stale: Vec<String> = storage
        .dump()
        .into_iter()
        .filter(|(_, samples)| samples.last().is_some_and(|(t, v)| *t == 40_000 && is_stale(*v)))
        .map(|(labels, _)| labels.metric_name().to_owned())
        .collect();
    assert_eq!(
        stale,
        [
            "a",
            "scrape_duration_seconds",
            "scrape_samples_post_metric_relabeling",
            "scrape_samples_scraped",
            "scrape_series_added",
            "up"
        ]
    );
}

#[test]
fn metadata_is_published_and_forgotten_after_ten_scrapes() {
    let mut rig = Rig::new(job());
    let handle = rig.scrape_loop.metadata();
    rig.good("# HELP a Some \\\\ text.\n# TYPE a counter\na 1\n# TYPE trailing gauge\n");
    let first = handle.snapshot();
    assert_eq!((first["a"].help.as_str(), first["a"].kind), ("Some \\ text.", MetricType::Counter));
    assert_eq!(first["trailing"].kind, MetricType::Gauge);
    rig.good("# HELP a Some \\\\ text.\n# TYPE a counter\na 2\n# TYPE trailing gauge\n");
    assert!(Arc::ptr_eq(&first, &handle.snapshot()), "nothing new is published");
    for _ in 0..10 {
        rig.good("b 1\n");
        assert!(handle.snapshot().contains_key("a"));
    }
    rig.good("b 1\n");
    assert!(handle.snapshot().is_empty());
}

#[test]
fn only_harmless_changes_keep_the_cache() {
    let old = job();
    let harmless = ScrapeConfig {
        scrape_interval: Duration(1),
        scrape_timeout: Duration(1),
        sample_limit: 7,
        http: HttpClientConfig { follow_redirects: false, ..HttpClientConfig::default() },
        shown_yaml: "x".to_owned(),
        ..job()
    };
    assert!(cache_survives(&old, &harmless));
    for other in [
        ScrapeConfig { honor_labels: true, ..job() },
        ScrapeConfig { metrics_path: "/x".to_owned(), ..job() },
        ScrapeConfig { label_limit: 1, ..job() },
    ] {
        assert!(!cache_survives(&old, &other));
    }
    let mut rig = Rig::new(old);
    rig.good("a 1\nb 1\n");
    rig.scrape_loop = rig.scrape_loop.reconfigured(target(&harmless), Arc::new(harmless));
    assert_eq!(rig.good("a 2\n"), ScrapeCounts { scraped: 1, post_relabel: 1, stale_markers: 1, ..Default::default() });
}

/// A storage that can forget series, as a head does when it is truncated. Wraps another and gives out new references.
#[derive(Default)]
struct Forgetful {
    storage: MemoryStorage,
    forgotten: Mutex<(HashSet<SeriesRef>, u64, BTreeMap<SeriesRef, SeriesRef>)>,
}

impl Forgetful {
    fn forget_all(&self) {
        let mut state = self.forgotten.lock().unwrap();
        let all: Vec<SeriesRef> = state.2.keys().copied().collect();
        state.0.extend(all);
    }
}

impl Appender for Forgetful {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        let inner = self.storage.resolve(labels)?;
        let mut state = self.forgotten.lock().unwrap();
        state.1 += 1;
        let outer = SeriesRef(1_000 + state.1);
        state.2.insert(outer, inner);
        Ok(outer)
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        *report = AppendReport::default();
        let state = self.forgotten.lock().unwrap();
        let mut inner = Batch::default();
        for (at, sample) in batch.samples.iter().enumerate() {
            if state.0.contains(&sample.series) {
                report.rejected.push((at, Rejection::UnknownSeries));
            } else {
                inner.push(state.2[&sample.series], sample.t, sample.v);
                report.accepted += 1;
            }
        }
        self.storage.append(&inner, &mut AppendReport::default())
    }
}

#[test]
fn series_that_the_storage_forgot_are_resolved_again() {
    let body = "# TYPE s summary\ns{quantile=\"1\"} 1\nb 2\n";
    let storage = Forgetful::default();
    let mut scrape_loop = ScrapeLoop::new(target(&job()), Arc::new(job()));
    let mut scratch = Scratch::default();
    for scrape in 1..=3 {
        let fetched = Fetched::Body { body: body.as_bytes(), content_type: "text/plain" };
        let outcome = scrape_loop.ingest(fetched, scrape * STEP_MS, || 0.0, &mut scratch, &storage);
        assert!(outcome.up && outcome.storage_error.is_none());
        if scrape == 1 {
            storage.forget_all();
        }
    }
    let dump = storage.storage.dump();
    assert_eq!(dump.len(), 7);
    for (labels, samples) in dump {
        assert_eq!(samples.len(), 3, "{labels}");
    }
}

#[test]
fn caches_of_failing_targets_are_bounded() {
    let mut rig = Rig::new(ScrapeConfig { sample_limit: 500, ..job() });
    let mut forced = 0;
    for round in 0..20 {
        let mut body = String::new();
        for series in 0..501 {
            writeln!(body, "m{{r=\"{round}\",s=\"{series}\"}} 1").unwrap();
        }
        forced += u32::from(rig.body(&body).cache_flush_forced);
        assert!(rig.scrape_loop.cached_series() <= 3 * LEFTOVER);
    }
    assert!(forced > 0);
}

const LEFTOVER: usize = 1000;

/// A body as a set of lines in some order: what the storage holds must be the same as without any cache.
#[test]
fn changing_layouts_store_what_a_loop_without_cache_stores() {
    let mut seed = 12345u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let mut rig = Rig::new(job());
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut present: Vec<u64> = (0..30).collect();
    let mut before: HashSet<u64> = HashSet::new();
    for round in 1..=60u64 {
        for _ in 0..random(4) {
            match random(3) {
                0 => {
                    let at = random(present.len() as u64) as usize;
                    present.remove(at);
                }
                1 => {
                    let new = random(60);
                    if !present.contains(&new) {
                        let at = random(present.len() as u64 + 1) as usize;
                        present.insert(at, new);
                    }
                }
                _ => {
                    let (a, b) = (random(present.len() as u64) as usize, random(present.len() as u64) as usize);
                    present.swap(a, b);
                }
            }
        }
        let mut body = String::new();
        for series in &present {
            let value = random(3) as f64 * 0.5;
            let (comment, blank) = match series % 4 {
                0 => ("# TYPE x gauge\n# something\n", " "),
                1 => ("", "\t "),
                2 => ("\n", "  "),
                _ => ("", " "),
            };
            writeln!(body, "{comment}m{{s=\"{series}\"}}{blank}{value}").unwrap();
            let line = expected.entry(format!("m{{s=\"{series}\"}}")).or_default();
            line.push(format!("{value}@{}", round * 15));
        }
        let now: HashSet<u64> = present.iter().copied().collect();
        for gone in before.difference(&now) {
            expected.get_mut(&format!("m{{s=\"{gone}\"}}")).unwrap().push(format!("!@{}", round * 15));
        }
        let counts = rig.good(&body);
        assert_eq!(counts.series_added, now.difference(&before).count() as u64, "round {round}");
        assert_eq!(rig.scrape_loop.cached_series(), now.len());
        before = now;
    }
    let mut expected: Vec<String> =
        expected.into_iter().map(|(series, samples)| format!("{series} {}", samples.join(" "))).collect();
    let mut got = rig.samples();
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
}

#[test]
fn whole_scrapes_are_stored_line_by_line() {
    let Some(path) = fk_testkit::conformance("exposition/samples/alltypes.237mfs.prom.txt") else { return };
    let body = std::fs::read_to_string(path).unwrap();
    let lines = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count() as u64;
    let mut rig = Rig::new(job());
    let first = rig.good(&body);
    assert_eq!((first.scraped, first.series_added), (lines, lines));
    let second = rig.good(&body);
    assert_eq!(second, ScrapeCounts { scraped: lines, post_relabel: lines, ..ScrapeCounts::default() });
    for (labels, samples) in rig.storage.dump() {
        assert_eq!(samples.len(), 2, "{labels}");
    }
}

#[test]
fn what_dropped_a_series_is_told() {
    let rules = vec![
        rule(RelabelAction::Drop, "__name__", "a.*", "", "$1"),
        rule(RelabelAction::Keep, "__name__", "[ab].*|x.*", "", "$1"),
    ];
    let mut rig = Rig::new(ScrapeConfig { metric_relabel_configs: rules, ..job() });
    let (first, second) = (DroppedBy(0), DroppedBy(1));
    for (body, expected) in [
        ("b 1\nx 1\n", None),
        ("b 1\na1 1\nx 1\nc 1\n", Some(vec![(first, 1), (second, 1)])),
        ("b 2\na1 2\nx 2\nc 2\n", Some(vec![(first, 1), (second, 1)])),
        // Up to the failure.
        ("b 2\na1 2\nx x\nc 2\n", Some(vec![(first, 1)])),
        ("b 2\na1 2\nx 2\nc 2\n", Some(vec![(first, 1), (second, 1)])),
        ("a1 2\na2 2\nc 2\n", Some(vec![(first, 2), (second, 1)])),
        ("b 1\n", None),
    ] {
        assert_eq!(rig.body(body).dropped.as_deref(), expected.as_deref(), "{body}");
    }
}

#[test]
fn a_rehearsal_stores_nothing_and_tells_what_would_be() {
    let drop = rule(RelabelAction::Drop, "__name__", "a", "", "$1");
    let job = Arc::new(ScrapeConfig { metric_relabel_configs: vec![drop], sample_limit: 2, ..job() });
    let rehearse = |body: &str| {
        let fetched = Fetched::Body { body: body.as_bytes(), content_type: "text/plain" };
        crate::rehearse(&target(&job), &job, Features::default(), fetched, STEP_MS, || 0.5)
    };
    let good = rehearse("a 1\nb 1\nc 1\n");
    assert_eq!((good.up, good.counts.scraped, good.counts.post_relabel, good.counts.series_added), (true, 3, 2, 2));
    assert!(matches!(rehearse("b 1\nc 1\nd 1\n").error, Some(ScrapeError::SampleLimit)));
    assert!(matches!(rehearse("b{ 1\n").error, Some(ScrapeError::Parse(_))));
}
