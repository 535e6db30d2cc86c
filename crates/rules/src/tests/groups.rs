//! Slots, recording rules, staleness, reload.

use fk_model::{FloatHistogram, Span};
use fk_storage::{AppendReport, Batch, Rejection, SeriesRef, StorageError};
use std::sync::Mutex;

use super::*;

#[test]
fn slots_are_spread_by_the_hash_of_file_and_name() {
    let group = Bench::new(group(Vec::new())).group;
    let hash = labels(&[("file", "rules.yml"), ("name", "g")]).prometheus_hash();
    let offset = (hash % (60 * S) as u64) as i64;
    let now = 1_000_000 * 60 * S + offset;
    for (since, wait) in [(0, 60 * S), (1, 60 * S - 1), (59 * S, S), (60 * S - 1, 1)] {
        assert_eq!(group.first_slot(now + since), now + since + wait, "{since}");
    }
    for (late, missed) in [(0, 0), (59 * S, 0), (60 * S, 1), (119 * S, 1), (600 * S, 10)] {
        let slot = group.next_slot(now, now + 60 * S + late);
        assert_eq!(slot, Slot { ts_ns: now + 60 * S * (1 + missed as i64), missed }, "{late}");
    }
    assert_eq!(group.next_slot(now, now + 59 * S).ts_ns, now + 60 * S, "a timer that is early");
}

#[test]
fn a_rule_sees_what_the_rules_before_it_recorded() {
    let mut bench = Bench::new(group(vec![record("double", "level * 2", &[]), record("quadruple", "double * 2", &[])]));
    bench.sample(&[("__name__", "level"), ("unit", "a")], 50, 3.0);
    assert_eq!(bench.at(60).n_samples, 2);
    assert_eq!(
        bench.stored("uadruple"),
        [r#"{__name__="quadruple", unit="a"}: 60=12"#],
        "everything: {:?}",
        bench.stored("")
    );
}

#[test]
fn recorded_series_get_the_name_and_the_labels_of_the_rule() {
    let rules =
        vec![record("out", "level", &[("unit", "x"), ("team", "t"), ("area", "")]), record("one", "1", &[("a", "b")])];
    let mut bench = Bench::new(group(rules));
    bench.sample(&[("__name__", "level"), ("job", "j"), ("unit", "a"), ("area", "z")], 60, 3.0);
    bench.good_at(60);
    assert_eq!(
        (bench.stored("out"), bench.stored("one")),
        (
            vec![r#"{__name__="out", job="j", team="t", unit="x"}: 60=3"#.to_owned()],
            vec![r#"{__name__="one", a="b"}: 60=1"#.to_owned()]
        )
    );
}

#[test]
fn vanished_series_are_marked_stale_once() {
    let mut bench = Bench::new(group(vec![record("out", "level > 1", &[])]));
    for (at, a, b) in [(60, 2.0, 3.0), (120, 0.0, 4.0), (180, 0.0, 5.0), (240, 6.0, 6.0)] {
        bench.sample(&[("__name__", "level"), ("unit", "a")], at, a);
        bench.sample(&[("__name__", "level"), ("unit", "b")], at, b);
        bench.good_at(at);
    }
    assert_eq!(
        bench.stored("out"),
        [
            r#"{__name__="out", unit="a"}: 60=2 120=stale 240=6"#,
            r#"{__name__="out", unit="b"}: 60=3 120=4 180=5 240=6"#
        ]
    );
}

#[test]
fn a_series_that_comes_from_another_result_is_not_marked_stale() {
    // The rule's label hides which of the two gives the result.
    let mut bench = Bench::new(group(vec![record("out", "level > 1", &[("unit", "same")])]));
    for (at, a, b) in [(60, 2.0, 0.0), (120, 0.0, 3.0), (180, 4.0, 0.0)] {
        bench.sample(&[("__name__", "level"), ("unit", "a")], at, a);
        bench.sample(&[("__name__", "level"), ("unit", "b")], at, b);
        bench.good_at(at);
    }
    assert_eq!(bench.stored("out"), [r#"{__name__="out", unit="same"}: 60=2 120=3 180=4"#]);
}

#[test]
fn two_results_with_one_label_set_fail_the_rule_and_write_nothing() {
    let mut bench = Bench::new(group(vec![record("out", "level > 1", &[("unit", "same")])]));
    for (at, a, b) in [(60, 2.0, 0.0), (120, 3.0, 3.0), (180, 0.0, 0.0)] {
        bench.sample(&[("__name__", "level"), ("unit", "a")], at, a);
        bench.sample(&[("__name__", "level"), ("unit", "b")], at, b);
        let report = bench.at(at);
        let message = "vector contains metrics with the same labelset after applying rule labels";
        assert_eq!(report.n_failures(), usize::from(at == 120));
        assert_eq!(report.n_samples, usize::from(at == 60));
        let rule = bench.rule(0);
        let expected = if at == 120 { (Health::Bad, message) } else { (Health::Good, "") };
        assert_eq!((rule.health, rule.last_error.as_str()), expected);
    }
    // The failure forgot nothing: the series of the first evaluation is marked stale by the third.
    assert_eq!(bench.stored("out"), [r#"{__name__="out", unit="same"}: 60=2 180=stale"#]);
}

#[test]
fn more_results_than_the_limit_fail_the_rule() {
    let mut bench = Bench::new(RuleGroup { limit: 1, ..group(vec![record("out", "level > 1", &[])]) });
    for (at, b) in [(60, 0.0), (120, 2.0)] {
        bench.sample(&[("__name__", "level"), ("unit", "a")], at, 2.0);
        bench.sample(&[("__name__", "level"), ("unit", "b")], at, b);
        bench.at(at);
    }
    assert_eq!(bench.rule(0).last_error, "exceeded limit of 1 with 2 series");
    assert_eq!(bench.stored("out"), [r#"{__name__="out", unit="a"}: 60=2"#]);
}

#[test]
fn a_query_offset_moves_query_and_samples() {
    let rules = vec![record("out", "level", &[]), alert("A", "level > 0", 0, 0, &[])];
    let mut bench = Bench::new(RuleGroup { query_offset: Some(Duration(30_000)), ..group(rules) });
    bench.sample(&[("__name__", "level")], 20, 1.0);
    bench.sample(&[("__name__", "level")], 50, 2.0);
    let sent = bench.good_at(60);
    assert_eq!(bench.stored("out"), [r#"{__name__="out"}: 30=1"#]);
    assert_eq!(bench.stored("FOR_STATE"), [r#"{__name__="ALERTS_FOR_STATE", alertname="A"}: 30=60"#]);
    assert_eq!(sent, [r#"60-300 {alertname="A"}"#]);
}

#[test]
fn results_that_are_no_vectors_are_refused_and_scalars_are_one_sample() {
    let mut bench = Bench::new(group(vec![
        record("text", "\"a\"", &[]),
        record("range", "level[5m]", &[]),
        record("number", "42", &[]),
    ]));
    let report = bench.at(60);
    let failures: Vec<_> = report.rules.iter().map(|r| r.failure.as_ref().map(|f| f.message.as_str())).collect();
    assert_eq!(failures, [Some(crate::rule::NOT_A_VECTOR), Some(crate::rule::NOT_A_VECTOR), None]);
    assert_eq!(bench.stored(""), [r#"{__name__="number"}: 60=42"#]);
}

#[test]
fn rejected_samples_make_a_rule_unhealthy_but_do_not_fail_it() {
    let mut bench = Bench::new(group(vec![record("out", "level", &[])]));
    bench.sample(&[("__name__", "level"), ("unit", "a")], 60, 1.0);
    bench.sample(&[("__name__", "level"), ("unit", "b")], 60, 2.0);
    bench.sample(&[("__name__", "out"), ("unit", "a")], 70, 9.0);
    assert_eq!(bench.at(60).n_failures(), 0);
    assert_eq!((bench.rule(0).health, bench.rule(0).last_error.as_str()), (Health::Bad, "out of order sample"));
    bench.good_at(120);
    assert_eq!(bench.rule(0).health, Health::Good);
    assert_eq!(
        bench.stored("out"),
        [r#"{__name__="out", unit="a"}: 70=9 120=1"#, r#"{__name__="out", unit="b"}: 60=2 120=2"#]
    );
}

/// Forgets a reference once, as a head does that drops a series without samples.
struct Forgetful<'a>(&'a MemoryStorage, Mutex<Option<SeriesRef>>);

impl Appender for Forgetful<'_> {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        self.0.resolve(labels)
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        let forgotten = self.1.lock().unwrap().take();
        let mut taken = batch.clone();
        taken.samples.retain(|sample| Some(sample.series) != forgotten);
        self.0.append(&taken, report)?;
        let lost = batch.samples.iter().enumerate().filter(|(_, sample)| Some(sample.series) == forgotten);
        report.rejected.extend(lost.map(|(idx, _)| (idx, Rejection::UnknownSeries)));
        Ok(())
    }
}

#[test]
fn a_series_the_storage_has_forgotten_is_made_again() {
    let mut bench = Bench::new(group(vec![record("out", "level", &[])]));
    bench.sample(&[("__name__", "level"), ("unit", "a")], 60, 1.0);
    bench.sample(&[("__name__", "level"), ("unit", "b")], 60, 2.0);
    bench.good_at(60);
    let series = bench.storage.resolve(&labels(&[("__name__", "out"), ("unit", "b")])).unwrap();
    let forgetful = Forgetful(&bench.storage, Mutex::new(Some(series)));
    let report = evaluate_on(&mut bench.group, &bench.storage, &forgetful, 120 * S, 120 * S, None);
    assert_eq!((report.n_failures(), bench.rule(0).health), (0, Health::Good));
    assert_eq!(bench.stored("out")[1], r#"{__name__="out", unit="b"}: 60=2 120=2"#);
}

/// Refuses everything.
struct Broken;

impl Appender for Broken {
    fn resolve(&self, _: &Labels) -> Result<SeriesRef, StorageError> {
        Ok(SeriesRef(1))
    }

    fn append(&self, _: &Batch, _: &mut AppendReport) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly("disk full".to_owned()))
    }
}

#[test]
fn a_failed_write_fails_the_rule_and_forgets_nothing() {
    let mut bench = Bench::new(group(vec![record("out", "level", &[])]));
    bench.sample(&[("__name__", "level")], 60, 1.0);
    bench.good_at(60);
    let report = evaluate_on(&mut bench.group, &bench.storage, &Broken, 120 * S, 120 * S, None);
    assert_eq!(report.n_failures(), 1);
    assert_eq!(bench.rule(0).last_error, "storage is read-only: disk full");
    bench.good_at(420);
    assert_eq!(bench.stored("out"), [r#"{__name__="out"}: 60=1 420=stale"#]);
}

#[test]
fn a_stop_is_noticed_between_rules() {
    let mut bench = Bench::new(group(vec![record("a", "1", &[]), record("b", "1", &[])]));
    let control = Control::new();
    let stop = |_: ()| control.cancel();
    let calls = AtomicI64::new(0);
    let now = || {
        // The third look at the clock comes at the end of the first rule.
        if calls.fetch_add(1, Relaxed) == 2 {
            stop(());
        }
        0
    };
    let ctx = EvalContext {
        evaluate: &Engine(&bench.storage),
        appender: &bench.storage,
        storage: &bench.storage,
        now_ns: &now,
        control: &control,
        slots: None,
    };
    assert_eq!(bench.group.evaluate(60 * S, &ctx).rules.len(), 1);
    assert_eq!(bench.stored(""), [r#"{__name__="a"}: 60=1"#]);
}

#[test]
fn an_unchanged_group_is_recognised() {
    let rules = || group(vec![record("a", "1", &[("x", "y")]), alert("A", "up == 0", 60, 0, &[])]);
    let base = spec(rules());
    assert!(base.is_still(&rules(), base.defaults));
    let slower = GroupDefaults { interval: Duration(61_000), ..base.defaults };
    assert!(!base.is_still(&rules(), slower), "the interval of all groups has changed");
    for changed in [
        RuleGroup { name: "h".to_owned(), ..rules() },
        RuleGroup { interval: Some(Duration(30_000)), ..rules() },
        RuleGroup { query_offset: Some(Duration(0)), ..rules() },
        RuleGroup { limit: 1, ..rules() },
        group(vec![record("a", "1", &[("x", "y")])]),
        group(vec![record("a", "2", &[("x", "y")]), alert("A", "up == 0", 60, 0, &[])]),
        group(vec![record("a", "1", &[("x", "z")]), alert("A", "up == 0", 60, 0, &[])]),
        group(vec![record("a", "1", &[("x", "y")]), alert("A", "up == 0", 61, 0, &[])]),
    ] {
        assert!(!base.is_still(&changed, base.defaults), "{changed:?}");
    }
}

#[test]
fn series_of_rules_that_a_reload_removed_are_marked_stale_and_the_others_go_on() {
    let mut bench = Bench::new(group(vec![record("kept", "level", &[]), record("gone", "level", &[])]));
    bench.sample(&[("__name__", "level")], 60, 1.0);
    bench.good_at(60);
    let mut new = Group::new(spec(group(vec![record("new", "level", &[]), record("kept", "level * 2", &[])])));
    new.adopt(std::mem::replace(&mut bench.group, Group::new(spec(group(Vec::new())))));
    bench.group = new;
    bench.good_at(120);
    bench.good_at(180);
    assert_eq!(bench.stored("gone"), [r#"{__name__="gone"}: 60=1 120=stale"#]);
    assert_eq!(bench.stored("kept"), [r#"{__name__="kept"}: 60=1 120=2 180=2"#]);
    bench.good_at(480);
    assert_eq!(bench.stored("kept"), [r#"{__name__="kept"}: 60=1 120=2 180=2 480=stale"#]);
}

#[test]
fn a_removed_group_leaves_markers_at_the_time_it_stopped() {
    let mut bench = Bench::new(group(vec![record("out", "level", &[]), alert("A", "level", 0, 0, &[])]));
    bench.sample(&[("__name__", "level")], 60, 1.0);
    bench.good_at(60);
    let group = std::mem::replace(&mut bench.group, Group::new(spec(group(Vec::new()))));
    group.mark_all_stale(75 * S, &bench.storage).unwrap();
    let mut stored = bench.stored("out");
    stored.extend(bench.stored("ALERTS"));
    assert_eq!(
        stored,
        [
            r#"{__name__="out"}: 60=1 75=stale"#,
            r#"{__name__="ALERTS", alertname="A", alertstate="firing"}: 60=1 75=stale"#,
            r#"{__name__="ALERTS_FOR_STATE", alertname="A"}: 60=60 75=stale"#
        ]
    );
}

#[test]
fn snapshots_say_when_and_how_it_went() {
    let mut bench = Bench::new(group(vec![record("out", "1", &[("a", "b")])]));
    let before = bench.group.snapshot();
    assert_eq!((before.last_evaluation_ns, before.rules[0].health.name()), (None, "unknown"));
    evaluate_at(&mut bench.group, &bench.storage, 60 * S, 61 * S);
    let after = bench.group.snapshot();
    assert_eq!((&*after.name, &*after.file, after.interval, after.limit), ("g", "rules.yml", Duration(60_000), 0));
    assert_eq!((after.last_evaluation_ns, after.evaluation_s), (Some(61 * S), 0.003));
    let rule = &after.rules[0];
    assert_eq!((&*rule.name, &*rule.query, rule.health.name()), ("out", "1", "ok"));
    assert_eq!((rule.last_evaluation_ns, rule.evaluation_s), (Some(61 * S + NS_PER_MS), 0.001));
    assert_eq!((rule.labels.clone(), &rule.detail), (labels(&[("a", "b")]), &RuleDetail::Recording));
    assert_eq!(bench.group.key(), "rules.yml;g");
}

#[test]
fn recorded_histograms_are_stored_and_go_stale() {
    let mut bench = Bench::new(group(vec![record("double", "level * 2", &[])]));
    let level = labels(&[("__name__", "level"), ("unit", "a")]);
    let h = FloatHistogram {
        count: 3.0,
        sum: 1.5,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![3.0],
        ..FloatHistogram::default()
    };
    bench.storage.add_histogram(&level, 50_000, h);
    bench.good_at(60);
    // Five minutes later the histogram is too old to be seen.
    bench.good_at(360);
    let double = labels(&[("__name__", "double"), ("unit", "a")]);
    let stored = bench.storage.histograms(&double);
    assert_eq!(stored.iter().map(|(t, h)| (*t, h.count, h.sum)).collect::<Vec<_>>(), [(60_000, 6.0, 3.0)]);
    assert!(bench.storage.dump()[&double].last().is_some_and(|(t, v)| *t == 360_000 && is_stale(*v)));
}

#[test]
fn alerts_show_histograms_in_their_templates() {
    let mut bench = Bench::new(group(vec![alert("Slow", "level", 0, 0, &[])]));
    let h = FloatHistogram { count: 3.0, sum: 1.5, ..FloatHistogram::default() };
    bench.storage.add_histogram(&labels(&[("__name__", "level")]), 50_000, h);
    let report = bench.at(60);
    let alert = report.alerts.first().expect("it fires at once");
    assert_eq!(alert.annotations, [("summary".to_owned(), "value {count:3, sum:1.5}".to_owned())]);
}
