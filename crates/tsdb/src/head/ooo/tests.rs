//! Sequences of appends with what Prometheus documents for them, and random ones against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use fk_block::{SeriesChunks, SeriesStream};
use fk_model::Labels;
use fk_storage::{AppendReport, Batch, Control, OutOfOrder, Rejection, SelectParams, SeriesSet};

use super::*;
use crate::head::{HeadOptions, LogEntry};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

fn head(window_ms: i64) -> Arc<Head> {
    Arc::new(Head::new(HeadOptions {
        out_of_order_window_ms: window_ms,
        out_of_order_cap: 4,
        ..HeadOptions::default()
    }))
}

fn series(head: &Head, name: &str) -> SeriesRef {
    head.resolve(&Labels::from_pairs([("__name__", name)])).unwrap()
}

fn append(head: &Head, batch: &Batch) -> AppendReport {
    let mut report = AppendReport::default();
    head.append(batch, &mut report, &|_| Ok(())).unwrap();
    report
}

fn one(head: &Head, name: &str, t: i64, v: f64, out_of_order: OutOfOrder) -> Result<(), Rejection> {
    let mut batch = Batch { out_of_order, ..Batch::default() };
    batch.push(series(head, name), t, v);
    append(head, &batch).rejected.first().map_or(Ok(()), |r| Err(r.1))
}

fn select(head: &Arc<Head>, range: TimeRange) -> Box<dyn SeriesSet> {
    head.select(&SelectParams { range, sorted: true, limit: 0 }, &[], &Control::new()).unwrap()
}

fn name_of(labels: &Labels) -> String {
    labels.get("__name__").unwrap_or_default().to_owned()
}

fn read(head: &Arc<Head>, range: TimeRange) -> BTreeMap<String, Vec<(i64, f64)>> {
    let set = select(head, range);
    let mut samples = Samples::default();
    let mut found = BTreeMap::new();
    for idx in 0..set.len() {
        set.read(idx, range, &mut samples).unwrap();
        let all: Vec<_> = samples.t.iter().copied().zip(samples.v.iter().copied()).collect();
        assert_eq!(set.last(idx, range).unwrap().map(|newest| (newest.t, newest.v)), all.last().copied());
        if !all.is_empty() {
            found.insert(name_of(&set.labels(idx)), all);
        }
    }
    found
}

fn frozen(head: &Arc<Head>, range: TimeRange) -> BTreeMap<String, Vec<(i64, f64)>> {
    let mut stream = head.stream_out_of_order(range);
    let (mut one, mut found) = (SeriesChunks::default(), BTreeMap::new());
    let mut before = None;
    while stream.next(&mut one).unwrap() {
        assert!(before.replace(one.labels.clone()).is_none_or(|before| before < one.labels));
        let mut samples = Vec::new();
        for chunk in &one.chunks {
            let (mut t, mut v) = (Vec::new(), Vec::new());
            xor::decode(one.bytes(chunk), &mut t, &mut v).unwrap();
            assert_eq!((t[0], t[t.len() - 1], t.len() as u32), (chunk.mint, chunk.maxt, chunk.samples));
            samples.extend(t.into_iter().zip(v));
        }
        assert!(samples.is_sorted_by(|a, b| a.0 < b.0));
        found.insert(name_of(&one.labels), samples);
    }
    found
}

/// Steps of one sample each: series, time in minutes, value, and what is expected. Then what is read of series `a`.
#[track_caller]
fn check(window_min: i64, steps: &[(&str, i64, f64, Result<(), Rejection>)], expected: &[(i64, f64)]) {
    let head = head(window_min * MINUTE);
    for (i, (name, t, v, expected)) in steps.iter().enumerate() {
        assert_eq!(one(&head, name, t * MINUTE, *v, OutOfOrder::Accept), *expected, "step {i}");
    }
    let expected: Vec<_> = expected.iter().map(|(t, v)| (t * MINUTE, *v)).collect();
    assert_eq!(read(&head, ALL).remove("a").unwrap_or_default(), expected);
}

#[test]
fn verdicts_are_those_of_prometheus() {
    use Rejection::{Duplicate, OutOfBounds, OutOfOrder, TooOld};
    // Without a window: an hour behind the newest sample of the head is out of bounds, whatever the series has.
    check(
        0,
        &[
            ("a", 100, 1.0, Ok(())),
            ("a", 100, 1.0, Ok(())),
            ("a", 100, 2.0, Err(Duplicate)),
            ("a", 99, 1.0, Err(OutOfOrder)),
            ("a", 40, 1.0, Err(OutOfOrder)),
            ("a", 39, 1.0, Err(OutOfBounds)),
            ("b", 40, 1.0, Ok(())),
            ("b", 39, 1.0, Err(OutOfBounds)),
        ],
        &[(100, 1.0)],
    );
    // With one: what cannot go in order is measured against the newest sample of the head.
    check(
        30,
        &[
            ("a", 100, 1.0, Ok(())),
            ("a", 100, 2.0, Err(Duplicate)),
            ("a", 90, 2.0, Ok(())),
            ("a", 70, 3.0, Ok(())),
            ("a", 69, 4.0, Err(TooOld)),
            // Again, and with another value: dropped silently.
            ("a", 70, 3.0, Ok(())),
            ("a", 70, 5.0, Ok(())),
            // In order for its series, though outside of the window.
            ("b", 50, 1.0, Ok(())),
            ("b", 39, 1.0, Err(TooOld)),
            ("c", 200, 1.0, Ok(())),
            ("a", 169, 6.0, Ok(())),
            ("a", 101, 7.0, Err(TooOld)),
        ],
        &[(70, 3.0), (90, 2.0), (100, 1.0), (169, 6.0)],
    );
    // A window beyond what goes in order: also for series that have nothing, or nothing newer.
    check(
        600,
        &[
            ("b", 1000, 1.0, Ok(())),
            ("a", 400, 1.0, Ok(())),
            ("a", 399, 2.0, Err(TooOld)),
            ("a", 500, 3.0, Ok(())),
            ("a", 450, 4.0, Ok(())),
            ("a", 940, 5.0, Ok(())),
            ("a", 939, 6.0, Ok(())),
            ("a", 700, 7.0, Ok(())),
            // More than fit the open part, and once more in front.
            ("a", 401, 8.0, Ok(())),
            ("a", 402, 9.0, Ok(())),
            ("a", 700, 10.0, Ok(())),
        ],
        &[(400, 1.0), (401, 8.0), (402, 9.0), (450, 4.0), (500, 3.0), (700, 7.0), (939, 6.0), (940, 5.0)],
    );
}

#[test]
fn what_comes_in_order_wins_over_what_comes_late() {
    check(
        60,
        &[("a", 10, 1.0, Ok(())), ("a", 20, 2.0, Ok(())), ("a", 10, 3.0, Ok(())), ("a", 15, 4.0, Ok(()))],
        &[(10, 1.0), (15, 4.0), (20, 2.0)],
    );
}

#[test]
fn who_wants_order_gets_no_window() {
    let head = head(30 * MINUTE);
    assert_eq!(one(&head, "a", 100 * MINUTE, 1.0, OutOfOrder::Reject), Ok(()));
    assert_eq!(one(&head, "a", 99 * MINUTE, 1.0, OutOfOrder::Reject), Err(Rejection::OutOfOrder));
    assert_eq!(one(&head, "a", 10 * MINUTE, 1.0, OutOfOrder::Reject), Err(Rejection::TooOld));
    let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    assert_eq!((count(&head.metrics.out_of_order), count(&head.metrics.too_old)), (1, 1));
    assert_eq!(count(&head.metrics.out_of_order_appended), 0);
    // The window can change at any time.
    head.set_out_of_order_window_ms(0);
    assert_eq!(one(&head, "a", 99 * MINUTE, 1.0, OutOfOrder::Accept), Err(Rejection::OutOfOrder));
    head.set_out_of_order_window_ms(HOUR);
    assert_eq!(one(&head, "a", 99 * MINUTE, 1.0, OutOfOrder::Accept), Ok(()));
    assert_eq!(count(&head.metrics.out_of_order_appended), 1);
}

#[test]
fn a_batch_goes_to_both_logs_and_new_series_are_logged_once() {
    let head = head(10 * HOUR);
    assert_eq!(one(&head, "x", 20 * HOUR, 1.0, OutOfOrder::Accept), Ok(()));
    let (new, old) = (series(&head, "new"), series(&head, "x"));
    let mut batch = Batch::default();
    batch.push(new, 15 * HOUR, 1.0);
    batch.push(new, 14 * HOUR, 2.0);
    batch.push(old, 21 * HOUR, 3.0);
    batch.push(new, 20 * HOUR, 4.0);
    let mut report = AppendReport::default();
    let entries = std::cell::RefCell::new(Vec::new());
    let log = |entry: &LogEntry<'_>| {
        entries.borrow_mut().push((entry.out_of_order, entry.series.len(), entry.samples.len()));
        Ok(())
    };
    head.append(&batch, &mut report, &log).unwrap();
    assert_eq!((report.accepted, report.rejected.len()), (4, 0));
    assert_eq!(entries.take(), [(false, 1, 2), (true, 0, 2)]);
    // A late sample alone needs the write-ahead log for a new series only.
    let late = series(&head, "late");
    for expected in [&[(false, 1, 0), (true, 0, 1)][..], &[(true, 0, 1)]] {
        let mut batch = Batch::default();
        batch.push(late, 15 * HOUR + expected.len() as i64, 1.0);
        head.append(&batch, &mut report, &log).unwrap();
        assert_eq!(entries.take(), expected);
    }
}

#[test]
fn what_a_failed_log_did_not_take_is_not_stored() {
    let full = || Err(StorageError::ReadOnly("full".to_owned()));
    for fails in [false, true] {
        let head = head(10 * HOUR);
        let (a, b) = (series(&head, "a"), series(&head, "b"));
        one(&head, "a", 20 * HOUR, 1.0, OutOfOrder::Accept).unwrap();
        let mut batch = Batch::default();
        batch.push(a, 19 * HOUR, 2.0);
        batch.push(b, 20 * HOUR, 3.0);
        let mut report = AppendReport::default();
        let log = |entry: &LogEntry<'_>| if entry.out_of_order == fails { full() } else { Ok(()) };
        assert!(head.append(&batch, &mut report, &log).is_err());
        assert_eq!(report, AppendReport::default());
        // What is in the write-ahead log comes back from there, so it is there now.
        let found = read(&head, ALL);
        assert_eq!((found["a"].len(), found.get("b").map_or(0, Vec::len)), (1, usize::from(fails)));
        assert_eq!(append(&head, &batch).rejected, []);
        let found = read(&head, ALL);
        assert_eq!((found["a"].len(), found["b"].len()), (2, 1));
    }
}

#[test]
fn ranges_find_what_came_late() {
    let head = head(10 * HOUR);
    one(&head, "x", 20 * HOUR, 1.0, OutOfOrder::Accept).unwrap();
    for t in [12, 13, 14, 15, 16] {
        one(&head, "a", t * HOUR, t as f64, OutOfOrder::Accept).unwrap();
    }
    let hours = |min: i64, max: i64| {
        let found = read(&head, TimeRange { mint: min * HOUR, maxt: max * HOUR });
        found.get("a").map_or(Vec::new(), |s| s.iter().map(|(t, _)| t / HOUR).collect())
    };
    assert_eq!(hours(13, 14), [13, 14]);
    assert_eq!(hours(0, 12), [12]);
    assert_eq!(hours(16, 30), [16]);
    assert_eq!(hours(0, 11), Vec::<i64>::new());
    assert_eq!(hours(17, 30), Vec::<i64>::new());
    assert_eq!(head.out_of_order_range(), Some((12 * HOUR, 16 * HOUR)));
}

#[test]
fn a_set_keeps_what_compaction_drops() {
    let head = head(10 * HOUR);
    one(&head, "a", 20 * HOUR, 1.0, OutOfOrder::Accept).unwrap();
    for t in 0..10 {
        one(&head, "a", 19 * HOUR + t, 1.0, OutOfOrder::Accept).unwrap();
    }
    let set = select(&head, ALL);
    head.freeze_out_of_order(|| Ok(())).unwrap();
    assert_eq!(frozen(&head, ALL)["a"].len(), 10);
    assert_eq!(frozen(&head, TimeRange { mint: 19 * HOUR + 3, maxt: 19 * HOUR + 4 })["a"].len(), 2);
    assert_eq!(head.drop_frozen_out_of_order(), 3);
    let mut samples = Samples::default();
    set.read(0, ALL, &mut samples).unwrap();
    assert_eq!(samples.len(), 11);
    assert_eq!(read(&head, ALL)["a"].len(), 1);
    assert_eq!(head.out_of_order_range(), None);
}

#[test]
fn histograms_come_late_as_well() {
    let histogram = |sum| HistogramValue::Float(Arc::new(FloatHistogram { sum, ..FloatHistogram::default() }));
    let mut shard = OooShard::default();
    let late = |t, start, value| Late { t, start, value };
    for t in [50, 10, 30] {
        assert!(shard.insert(7, late(t, 0, OooValue::Histogram(histogram(t as f64))), 4).stored);
    }
    assert!(shard.insert(7, late(20, 11, OooValue::Float(20.0)), 4).stored);
    assert!(!shard.insert(7, late(20, 0, OooValue::Float(21.0)), 5).stored, "a float of that time is there");
    assert!(shard.insert(7, late(40, 0, OooValue::Float(40.0)), 4).chunk_begun);
    assert!(!shard.insert(7, late(40, 0, OooValue::Histogram(histogram(0.0))), 4).stored);
    let mut out = Samples {
        t: vec![5, 30, 60],
        v: vec![5.0, 0.0, 60.0],
        histograms: vec![(1, Arc::new(FloatHistogram::default()))],
        starts: vec![1, 2, 3],
    };
    shard.view(7, ALL).unwrap().merge_into(ALL, &mut out).unwrap();
    assert_eq!(out.t, [5, 10, 20, 30, 40, 50, 60]);
    assert_eq!(out.v, [5.0, 10.0, 20.0, 0.0, 40.0, 50.0, 60.0]);
    assert_eq!(out.starts, [1, 0, 11, 2, 0, 0, 3]);
    assert_eq!(out.histograms.iter().map(|(i, h)| (*i, h.sum)).collect::<Vec<_>>(), [(1, 10.0), (3, 0.0), (5, 50.0)]);
    shard.delete(7, TimeRange { mint: 10, maxt: 30 }).unwrap();
    let mut out = Samples::default();
    shard.view(7, ALL).unwrap().merge_into(ALL, &mut out).unwrap();
    assert_eq!((out.t, out.v), (vec![40, 50], vec![40.0, 50.0]));
    shard.delete(7, ALL).unwrap();
    assert!(shard.is_empty());
}

/// What a head with a window should hold.
#[derive(Default)]
struct Model {
    newest: Option<i64>,
    series: BTreeMap<String, ModelSeries>,
}

#[derive(Default)]
struct ModelSeries {
    last: Option<(i64, f64)>,
    in_order: BTreeMap<i64, f64>,
    /// Late samples as they came; the first of a time counts.
    late: Vec<(i64, f64)>,
    frozen: usize,
}

const WINDOW: i64 = 100;
const RANGE: i64 = 60;

impl Model {
    fn append(&mut self, newest: i64, name: &str, t: i64, v: f64) -> Result<(), Rejection> {
        let series = self.series.entry(name.to_owned()).or_default();
        let late = t < newest - RANGE / 2 || series.last.is_some_and(|(last, _)| t < last);
        match series.last {
            _ if late => {
                if t < newest - WINDOW {
                    return Err(Rejection::TooOld);
                }
                series.late.push((t, v));
            }
            Some((last, last_v)) if last == t => {
                if last_v != v {
                    return Err(Rejection::Duplicate);
                }
            }
            _ => {
                series.last = Some((t, v));
                series.in_order.insert(t, v);
            }
        }
        if !late {
            self.newest = self.newest.max(Some(t));
        }
        Ok(())
    }

    fn contents(&self) -> BTreeMap<String, Vec<(i64, f64)>> {
        let all = self.series.iter().map(|(name, series)| {
            let mut all = series.in_order.clone();
            for (t, v) in &series.late {
                all.entry(*t).or_insert(*v);
            }
            (name.clone(), all.into_iter().collect::<Vec<_>>())
        });
        all.filter(|(_, samples)| !samples.is_empty()).collect()
    }

    fn frozen(&self) -> BTreeMap<String, Vec<(i64, f64)>> {
        let all = self.series.iter().map(|(name, series)| {
            let mut all = BTreeMap::new();
            for (t, v) in &series.late[..series.frozen] {
                all.entry(*t).or_insert(*v);
            }
            (name.clone(), all.into_iter().collect::<Vec<_>>())
        });
        all.filter(|(_, samples)| !samples.is_empty()).collect()
    }

    fn delete(&mut self, range: TimeRange) {
        let covered = |t: i64| (range.mint..=range.maxt).contains(&t);
        for series in self.series.values_mut() {
            series.in_order.retain(|t, _| !covered(*t));
            series.frozen -= series.late[..series.frozen].iter().filter(|s| covered(s.0)).count();
            series.late.retain(|s| !covered(s.0));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Series, how far behind `now`, value.
    Append(Vec<(u8, i64, u8)>),
    Freeze,
    Drop,
    Delete(i64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let sample = (0u8..4, prop_oneof![3 => -5i64..5, 1 => 0i64..130], 0u8..3);
    prop_oneof![
        10 => prop::collection::vec(sample, 1..12).prop_map(Step::Append),
        1 => Just(Step::Freeze),
        1 => Just(Step::Drop),
        1 => (0i64..150, 0i64..30).prop_map(|(back, len)| Step::Delete(back, len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_histories_agree_with_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let head = Arc::new(Head::new(HeadOptions {
            chunk_range_ms: RANGE,
            out_of_order_window_ms: WINDOW,
            out_of_order_cap: 3,
            ..HeadOptions::default()
        }));
        let mut model = Model::default();
        let mut now = 1000;
        for step in &steps {
            match step {
                Step::Append(samples) => {
                    now += 7;
                    let mut batch = Batch::default();
                    let mut expected = Vec::new();
                    let newest = model.newest.unwrap_or(now - samples[0].1);
                    for (i, (name, back, v)) in samples.iter().enumerate() {
                        let (name, t, v) = (format!("s{name}"), now - back, f64::from(*v));
                        batch.push(series(&head, &name), t, v);
                        if let Err(why) = model.append(newest, &name, t, v) {
                            expected.push((i, why));
                        }
                    }
                    prop_assert_eq!(append(&head, &batch).rejected, expected);
                }
                Step::Freeze => {
                    head.freeze_out_of_order(|| Ok(())).unwrap();
                    model.series.values_mut().for_each(|s| s.frozen = s.late.len());
                    prop_assert_eq!(frozen(&head, ALL), model.frozen());
                }
                Step::Drop => {
                    head.drop_frozen_out_of_order();
                    for series in model.series.values_mut() {
                        series.late.drain(..mem::take(&mut series.frozen));
                    }
                }
                Step::Delete(back, len) => {
                    let range = TimeRange { mint: now - back, maxt: now - back + len };
                    let expected = model.contents().values().map(|s| s.iter().filter(|s| (range.mint..=range.maxt).contains(&s.0)).count()).sum::<usize>();
                    let logs = crate::head::DeletionLogs { wal: &|_| Ok(()), wbl: &|_| Ok(()) };
                    let deleted = head.delete(i64::MIN, range, &[], &Control::new(), &logs).unwrap();
                    prop_assert_eq!(deleted.samples, expected as u64);
                    model.delete(range);
                }
            }
            prop_assert_eq!(read(&head, ALL), model.contents());
            let range = TimeRange { mint: now - 50, maxt: now - 20 };
            let mut part = model.contents();
            part.values_mut().for_each(|s| s.retain(|(t, _)| (range.mint..=range.maxt).contains(t)));
            part.retain(|_, s| !s.is_empty());
            prop_assert_eq!(read(&head, range), part);
        }
    }
}
