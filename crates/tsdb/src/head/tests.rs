//! The head against a storage that is too simple to be wrong, and against writers at work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use fk_model::{Labels, MatchKind, Matcher, stale_nan};
use fk_storage::{
    AppendReport, Appender, Batch, Control, Queryable, Rejection, Samples, SelectParams, SeriesRef, StorageError,
    TimeRange,
};
use fk_testkit::MemoryStorage;

use super::{Head, HeadOptions, LogEntry};

mod lifecycle;

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

fn head() -> Arc<Head> {
    Arc::new(Head::new(HeadOptions::default()))
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn append(head: &Head, batch: &Batch) -> AppendReport {
    let mut report = AppendReport::default();
    head.append(batch, &mut report, &|_| Ok(())).unwrap();
    report
}

fn append_one(head: &Head, series: SeriesRef, t: i64, v: f64) -> Result<(), Rejection> {
    let mut batch = Batch::default();
    batch.push(series, t, v);
    append(head, &batch).rejected.first().map_or(Ok(()), |r| Err(r.1))
}

type Contents = Vec<(Labels, Vec<(i64, u64)>)>;

/// All a select gives, bit for bit, without series that have no sample in the range.
fn contents(set: &dyn fk_storage::SeriesSet, range: TimeRange) -> Contents {
    let mut samples = Samples::default();
    let mut all = Vec::new();
    for idx in 0..set.len() {
        set.read(idx, range, &mut samples).unwrap();
        let columns: Vec<_> = samples.t.iter().copied().zip(samples.v.iter().map(|v| v.to_bits())).collect();
        let last = set.last(idx, range).unwrap().map(|newest| (newest.t, newest.v.to_bits()));
        assert_eq!(last, columns.last().copied(), "{}", set.labels(idx));
        if !columns.is_empty() {
            all.push((set.labels(idx), columns));
        }
    }
    all
}

fn select(head: &Arc<Head>, matchers: &[Matcher], range: TimeRange) -> Contents {
    let params = SelectParams { range, sorted: true, limit: 0 };
    contents(&*head.select(&params, matchers, &Control::new()).unwrap(), range)
}

fn matcher(name: &str, kind: MatchKind, value: &str) -> Matcher {
    Matcher::new(kind, name, value).unwrap()
}

fn any_matcher() -> impl Strategy<Value = Matcher> {
    use MatchKind::*;
    let kind = prop::sample::select(vec![Equal, NotEqual, Regex, NotRegex]);
    let name = prop::sample::select(vec!["__name__", "job", "instance", "rare", "absent"]);
    let value = prop::sample::select(vec![
        "", "a", "b", "m1", "m2", "a|b", "m.*", ".*", ".+", "a|", "[^a]", "nobody", "1.", "m[13]|",
    ]);
    (name, kind, value).prop_map(|(name, kind, value)| matcher(name, kind, value))
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let value = |values: &[&'static str]| prop::sample::select(values.to_vec());
    (value(&["m1", "m2", "m3"]), value(&["", "a", "b"]), value(&["", "a", "b", "c"]), 0u32..30).prop_map(
        |(name, job, instance, rare)| {
            let rare = if rare < 20 { String::new() } else { rare.to_string() };
            labels(&[("__name__", name), ("job", job), ("instance", instance), ("rare", &rare)])
        },
    )
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![4 => Just(1.0), 4 => (0..10).prop_map(f64::from), 1 => any::<u64>().prop_map(f64::from_bits), 1 => Just(stale_nan())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answers_as_the_simple_storage_does(
        series in prop::collection::vec(any_labels(), 1..40),
        batches in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), -3i64..3, any_value()), 1..60), 1..60),
        matchers in prop::collection::vec(any_matcher(), 0..4),
        range in (0i64..70, 0i64..70),
        repeat in 1i64..6,
    ) {
        let (ours, simple) = (head(), MemoryStorage::new());
        let mut now = 1_600_000_000_000;
        for samples in &batches {
            for _ in 0..repeat {
                now += 15_000;
                let (mut batch, mut batch_simple) = (Batch::default(), Batch::default());
                for (idx, jitter, v) in samples {
                    let labels = idx.get(&series);
                    let t = now + jitter * 5_000;
                    batch.push(ours.resolve(labels).unwrap(), t, *v);
                    batch_simple.push(simple.resolve(labels).unwrap(), t, *v);
                }
                let mut report = AppendReport::default();
                simple.append(&batch_simple, &mut report).unwrap();
                prop_assert_eq!(append(&ours, &batch), report);
            }
        }
        let step = 15_000 * repeat;
        let mint = 1_600_000_000_000 + range.0 * step;
        let some = TimeRange { mint, maxt: mint + range.1 * step };
        for range in [ALL, some, TimeRange { mint: now, maxt: i64::MAX }] {
            let params = SelectParams { range, sorted: true, limit: 0 };
            let expected = contents(&*simple.select(&params, &matchers, &Control::new()).unwrap(), range);
            prop_assert_eq!(&select(&ours, &matchers, range), &expected);
            let params = SelectParams { sorted: false, ..params };
            let mut unsorted = contents(&*ours.select(&params, &matchers, &Control::new()).unwrap(), range);
            unsorted.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(&unsorted, &expected);
        }
        let control = Control::new();
        for name in ["__name__", "job", "rare", "absent"] {
            let values = ours.label_values(name, ALL, &matchers, &control).unwrap();
            prop_assert_eq!(values, seen_values(&ours, &series, name, &matchers));
        }
        let names = ours.label_names(ALL, &matchers, &control).unwrap();
        let mut expected: Vec<String> = ["__name__", "instance", "job", "rare"].map(String::from).to_vec();
        expected.retain(|name| !seen_values(&ours, &series, name, &matchers).is_empty());
        prop_assert_eq!(names, expected);
    }
}

/// The values of a label of all series the head has been asked for.
fn seen_values(head: &Head, series: &[Labels], name: &str, matchers: &[Matcher]) -> Vec<String> {
    let known = |labels: &&Labels| {
        head.shards[head.home(labels).0].data.read().find(head.home(labels).1, labels, &head.symbols.read()).is_some()
    };
    let accepted = series.iter().filter(known).filter(|l| Matcher::all_match(matchers, l));
    let mut values: Vec<_> = accepted.filter_map(|l| l.get(name).map(str::to_owned)).collect();
    values.sort();
    values.dedup();
    values
}

#[test]
fn samples_are_judged_as_in_prometheus() {
    let head = head();
    let hour = 3_600_000;
    let series = head.resolve(&labels(&[("__name__", "a")])).unwrap();
    let other = head.resolve(&labels(&[("__name__", "b")])).unwrap();
    let now = 1000 * hour;
    assert_eq!(append_one(&head, series, now, 1.0), Ok(()));
    assert_eq!(append_one(&head, series, now, 1.0), Ok(()), "the very same again");
    assert_eq!(append_one(&head, series, now, 2.0), Err(Rejection::Duplicate));
    assert_eq!(append_one(&head, series, now, stale_nan()), Err(Rejection::Duplicate));
    assert_eq!(append_one(&head, series, now - 1, 1.0), Err(Rejection::OutOfOrder));
    assert_eq!(append_one(&head, other, now - hour, 1.0), Ok(()), "half a block back");
    assert_eq!(append_one(&head, other, now - hour - 1, 1.0), Err(Rejection::OutOfBounds));
    assert_eq!(append_one(&head, SeriesRef(77), now, 1.0), Err(Rejection::UnknownSeries));
    assert_eq!(append_one(&head, SeriesRef(77), 0, 1.0), Err(Rejection::OutOfBounds), "bounds come first");
    assert_eq!(append_one(&head, series, now + 1, stale_nan()), Ok(()));
    assert_eq!(append_one(&head, series, now + 1, stale_nan()), Ok(()));
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let m = head.metrics();
    assert_eq!((count(&m.samples_appended), count(&m.out_of_order), count(&m.duplicates)), (3, 1, 2));
    assert_eq!((count(&m.out_of_bound), count(&m.unknown_series), m.stale_series.load(Ordering::Relaxed)), (2, 1, 1));
}

#[test]
fn a_series_may_occur_several_times_in_a_batch() {
    let head = head();
    let a = head.resolve(&labels(&[("__name__", "a"), ("job", "x")])).unwrap();
    let b = head.resolve(&labels(&[("__name__", "b"), ("job", "y")])).unwrap();
    let mut batch = Batch::default();
    for (series, t, v) in
        [(a, 10, 1.0), (b, 10, 5.0), (a, 20, 2.0), (a, 15, 9.0), (a, 20, 2.0), (a, 20, 3.0), (b, 30, 6.0)]
    {
        batch.push(series, t, v);
    }
    let report = append(&head, &batch);
    assert_eq!(report.rejected, [(3, Rejection::OutOfOrder), (5, Rejection::Duplicate)]);
    assert_eq!(report.accepted, 5);
    let found: BTreeMap<_, _> =
        select(&head, &[], ALL).into_iter().map(|(l, s)| (l.metric_name().to_owned(), s.len())).collect();
    assert_eq!(found, [("a".to_owned(), 2), ("b".to_owned(), 2)].into());
}

#[test]
fn a_failed_log_leaves_nothing_behind() {
    let head = head();
    let series = head.resolve(&labels(&[("__name__", "a")])).unwrap();
    let mut batch = Batch::default();
    batch.push(series, 10, 1.0);
    let mut report = AppendReport::default();
    let refuse = |_: &LogEntry<'_>| Err(StorageError::ReadOnly("full".to_owned()));
    assert!(head.append(&batch, &mut report, &refuse).is_err());
    assert_eq!(report, AppendReport::default());
    assert_eq!(select(&head, &[], ALL), []);
    // The series has not reached the log, so the next batch logs it again.
    let logged = std::cell::Cell::new(0);
    let log = |entry: &LogEntry<'_>| {
        logged.set(logged.get() + entry.series.len());
        Ok(())
    };
    head.append(&batch, &mut report, &log).unwrap();
    batch.samples[0].t = 20;
    head.append(&batch, &mut report, &log).unwrap();
    assert_eq!(logged.get(), 1);
}

#[test]
fn a_set_keeps_what_it_saw_while_the_series_moves_on() {
    let head = head();
    let series: Vec<_> =
        (0..3).map(|i| head.resolve(&labels(&[("__name__", "a"), ("i", &i.to_string())])).unwrap()).collect();
    // Constant, counting and random series: runs, windows and cuts.
    let value = |i: usize, n: i64| match i {
        0 => 1.0,
        1 => n as f64,
        _ => f64::from_bits((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    };
    let mut sets = Vec::new();
    for n in 0..700i64 {
        let mut batch = Batch::default();
        for (i, series) in series.iter().enumerate() {
            batch.push(*series, n * 15_000, value(i, n));
        }
        assert_eq!(append(&head, &batch).rejected, []);
        let params = SelectParams { range: ALL, sorted: false, limit: 0 };
        sets.push(head.select(&params, &[], &Control::new()).unwrap());
    }
    for (n, set) in sets.iter().enumerate() {
        let found = contents(&**set, ALL);
        assert_eq!(found.len(), 3);
        for (i, (_, samples)) in found.iter().enumerate() {
            let expected: Vec<_> = (0..=n as i64).map(|n| (n * 15_000, value(i, n).to_bits())).collect();
            assert_eq!(*samples, expected, "series {i} after {n}");
        }
    }
}

#[test]
fn limit_and_refusal_of_labels() {
    let head = head();
    for i in 0..50 {
        let series = head.resolve(&labels(&[("__name__", "a"), ("instance", &format!("{:02}", 49 - i))])).unwrap();
        append_one(&head, series, 1, 1.0).unwrap();
    }
    let params = SelectParams { range: ALL, sorted: true, limit: 3 };
    let set = head.select(&params, &[], &Control::new()).unwrap();
    let found: Vec<_> = (0..set.len()).map(|i| set.labels(i).value("instance").to_owned()).collect();
    assert_eq!(found, ["00", "01", "02"]);
    assert!(matches!(head.resolve(&Labels::empty()), Err(StorageError::InvalidLabels { .. })));
    let many: Vec<_> = (0..2000).map(|i| (format!("l{i}"), "v")).collect();
    assert!(matches!(head.resolve(&Labels::from_pairs(many)), Err(StorageError::InvalidLabels { .. })));
    assert!(head.resolve(&labels(&[("no_name", "x")])).is_ok(), "a metric name is not required");
}

/// Writers append batches whose values are all equal, over series of several shards; a reader must find the same number
/// of samples with the same values in all series of a writer, however it is interleaved.
#[test]
fn readers_see_batches_as_a_whole() {
    const SERIES: usize = 40;
    let head = head();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (head, done) = (&head, &done);
            scope.spawn(move || {
                let mut n = 0;
                let mut refs = Vec::new();
                while !done.load(Ordering::Relaxed) && n < 20_000 {
                    n += 1;
                    if refs.len() < SERIES {
                        // The number of series grows, too: a new one may not be seen without the others' samples.
                        let i = refs.len().to_string();
                        refs.push(
                            head.resolve(&labels(&[("__name__", "a"), ("w", &writer.to_string()), ("instance", &i)]))
                                .unwrap(),
                        );
                    }
                    let mut batch = Batch::default();
                    for series in &refs {
                        batch.push(*series, n, n as f64);
                    }
                    assert_eq!(append(head, &batch).rejected, []);
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        let matchers = [matcher("instance", MatchKind::Regex, "[0-9]+")];
        while !done.load(Ordering::Relaxed) {
            for mixed in [&matchers[..], &[]] {
                let params = SelectParams { range: ALL, sorted: false, limit: 0 };
                let set = head.select(&params, mixed, &Control::new()).unwrap();
                let mut lasts: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
                for idx in 0..set.len() {
                    let last = set.last(idx, ALL).unwrap().unwrap();
                    lasts.entry(set.labels(idx).value("w").to_owned()).or_default().push((last.t, last.v));
                }
                for (writer, lasts) in lasts {
                    let newest = lasts[0];
                    assert!(lasts.iter().all(|last| *last == newest), "writer {writer}: mixed batches {lasts:?}");
                    let expected = newest.0.min(SERIES as i64);
                    assert_eq!(lasts.len() as i64, expected, "writer {writer}: series of the newest batch");
                }
            }
        }
    });
}

#[test]
fn a_reader_overtaken_twice_looks_again_at_everything() {
    let head = head();
    let a = head.resolve(&labels(&[("__name__", "m"), ("instance", "a")])).unwrap();
    let b = head.resolve(&labels(&[("__name__", "m"), ("instance", "b")])).unwrap();
    let batch = |series: &[SeriesRef], t| {
        let mut batch = Batch::default();
        series.iter().for_each(|series| batch.push(*series, t, t as f64));
        assert_eq!(append(&head, &batch).rejected, []);
    };
    batch(&[a, b], 1);
    let matchers = [matcher("__name__", MatchKind::Equal, "m"), matcher("instance", MatchKind::Regex, "[a-c]")];
    let seen = head.commits.load(Ordering::Acquire);
    let found = head.search(&matchers, &Control::new()).unwrap();
    batch(&[a, b], 2);
    let mut set = super::select::HeadSet::new(&head, i64::MIN);
    assert!(head.visit(&found, seen, ALL, &Control::new(), &mut set).unwrap().is_ok(), "one commit is taken away");
    assert!(contents(&set, ALL).iter().all(|(_, samples)| *samples == [(1, 1f64.to_bits())]));

    let c = head.resolve(&labels(&[("__name__", "m"), ("instance", "c")])).unwrap();
    let other = head.resolve(&labels(&[("__name__", "m"), ("instance", "d")])).unwrap();
    batch(&[a, b, c, other], 3);
    let mut set = super::select::HeadSet::new(&head, i64::MIN);
    assert!(head.visit(&found, seen, ALL, &Control::new(), &mut set).unwrap().is_err());
    head.visit_locked(&found, &matchers, ALL, &mut set);
    let counts: BTreeMap<_, _> =
        contents(&set, ALL).iter().map(|(l, s)| (l.value("instance").to_owned(), s.len())).collect();
    assert_eq!(counts, [("a".to_owned(), 3), ("b".to_owned(), 3), ("c".to_owned(), 1)].into());
}

#[test]
fn statistics_count_what_is_there() {
    let head = head();
    for (name, instance) in [("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")] {
        let series = head.resolve(&labels(&[("__name__", name), ("instance", instance)])).unwrap();
        append_one(&head, series, 5, 1.0).unwrap();
    }
    let stats = head.stats(2);
    let list = |l: &[super::NameCount]| l.iter().map(|c| (c.name.clone(), c.count)).collect::<Vec<_>>();
    let pair = |name: &str, count| (name.to_owned(), count);
    assert_eq!((stats.status.series, stats.status.chunks, stats.status.label_pairs), (4, 4, 5));
    assert_eq!((stats.status.min_time, stats.status.max_time), (5, 5));
    assert_eq!(list(&stats.series_count_by_metric_name), [pair("a", 3), pair("b", 1)]);
    assert_eq!(list(&stats.label_value_count_by_label_name), [pair("instance", 3), pair("__name__", 2)]);
    assert_eq!(list(&stats.memory_in_bytes_by_label_name), [pair("__name__", 4), pair("instance", 4)]);
    assert_eq!(list(&stats.series_count_by_label_value_pair), [pair("__name__=a", 3), pair("instance=1", 2)]);
}
