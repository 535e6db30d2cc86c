//! Several sources as one: who wins, in which order series come, what damage costs.

mod blocks;

use std::collections::BTreeMap;

use proptest::prelude::*;

use fk_model::{CounterReset, FloatHistogram, Labels};
use fk_storage::Samples;
use fk_testkit::MemoryStorage;

use super::*;

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

fn series(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "j")])
}

fn storage(all: &[(&str, &[(i64, f64)])]) -> MemoryStorage {
    let storage = MemoryStorage::new();
    all.iter().for_each(|(name, samples)| storage.add(&series(name), samples));
    storage
}

fn asked(storage: &dyn Queryable) -> Asked<'_> {
    Asked { storage, span: ALL }
}

fn params() -> SelectParams {
    SelectParams { range: ALL, sorted: false, limit: 0 }
}

fn pinned() -> Pinned {
    Arc::new(())
}

type Contents = Vec<(Labels, Vec<(i64, f64)>)>;

fn contents(set: &dyn SeriesSet, range: TimeRange) -> Contents {
    let mut samples = Samples::default();
    let read = |idx| {
        set.read(idx, range, &mut samples).unwrap();
        let last = samples.t.last().copied().zip(samples.v.last().copied());
        assert_eq!(
            set.last(idx, range).unwrap().map(|newest| (newest.t, newest.v)),
            last,
            "{}: the newest one alone",
            set.labels(idx)
        );
        (set.labels(idx), samples.t.iter().copied().zip(samples.v.iter().copied()).collect())
    };
    (0..set.len()).map(read).collect()
}

fn column(samples: &[(i64, f64)]) -> Samples {
    Samples { t: samples.iter().map(|s| s.0).collect(), v: samples.iter().map(|s| s.1).collect(), ..Samples::default() }
}

fn merged(parts: &[&[(i64, f64)]]) -> Vec<(i64, f64)> {
    let mut out = Samples::default();
    samples::merge(&parts.iter().map(|p| column(p)).collect::<Vec<_>>(), &mut out);
    out.t.into_iter().zip(out.v).collect()
}

#[test]
fn rows_one_behind_another_are_put_together() {
    assert_eq!(merged(&[]), []);
    assert_eq!(merged(&[&[], &[]]), []);
    assert_eq!(merged(&[&[(5, 1.0), (6, 2.0)], &[], &[(1, 3.0), (2, 4.0)]]), [(1, 3.0), (2, 4.0), (5, 1.0), (6, 2.0)]);
    assert_eq!(
        merged(&[&[(1, 1.0), (9, 2.0)], &[(2, 3.0), (4, 4.0)], &[(3, 5.0)]]),
        [(1, 1.0), (2, 3.0), (3, 5.0), (4, 4.0), (9, 2.0)]
    );
}

/// The winners are those of Prometheus' iterator, worked out by hand from its rules.
#[test]
fn at_a_common_time_the_source_wins_that_was_not_read_last() {
    assert_eq!(
        merged(&[&[(1, 1.0), (2, 1.0), (3, 1.0)], &[(1, 2.0), (2, 2.0), (3, 2.0)]]),
        [(1, 1.0), (2, 1.0), (3, 1.0)]
    );
    assert_eq!(merged(&[&[(1, 1.0), (2, 1.0), (3, 1.0)], &[(2, 2.0), (3, 2.0)]]), [(1, 1.0), (2, 2.0), (3, 2.0)]);
    assert_eq!(merged(&[&[(2, 1.0), (3, 1.0)], &[(1, 2.0), (2, 2.0), (3, 2.0)]]), [(1, 2.0), (2, 1.0), (3, 1.0)]);
    assert_eq!(merged(&[&[(1, 1.0), (5, 1.0)], &[(1, 2.0), (3, 2.0), (5, 2.0)]]), [(1, 1.0), (3, 2.0), (5, 1.0)]);
}

#[test]
fn histograms_and_start_times_move_with_their_samples() {
    let histogram = |counter_reset| Arc::new(FloatHistogram { counter_reset, ..FloatHistogram::default() });
    let with = |samples: &[(i64, f64)], counter_reset| {
        let histograms = (0..samples.len() as u32).map(|i| (i, histogram(counter_reset))).collect();
        Samples { histograms, ..column(samples) }
    };
    let a = with(&[(1, 1.0), (4, 1.0), (5, 1.0)], CounterReset::NotReset);
    let b = Samples { starts: vec![7, 8], ..column(&[(2, 2.0), (3, 2.0)]) };
    let c = with(&[(6, 3.0), (7, 3.0)], CounterReset::Gauge);
    let mut out = Samples::default();
    samples::merge(&[a, b, c], &mut out);
    assert_eq!(out.t, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(out.starts, [0, 7, 8, 0, 0, 0, 0]);
    let hints: Vec<_> = out.histograms.iter().map(|(at, h)| (*at, h.counter_reset)).collect();
    use CounterReset::{Gauge, NotReset, Unknown};
    assert_eq!(hints, [(0, Unknown), (3, Unknown), (4, NotReset), (5, Gauge), (6, Gauge)]);
}

#[test]
fn several_sources_are_sorted_and_a_lone_one_keeps_its_order() {
    let a = storage(&[("b", &[(10, 1.0)]), ("d", &[(10, 2.0)])]);
    let b = storage(&[("a", &[(1, 3.0)]), ("b", &[(1, 4.0), (2, 5.0)]), ("c", &[(1, 6.0)])]);
    let control = Control::new();
    let set = select(&[asked(&a), asked(&b)], &params(), &[], &control, pinned()).unwrap();
    let expected: Contents = vec![
        (series("a"), vec![(1, 3.0)]),
        (series("b"), vec![(1, 4.0), (2, 5.0), (10, 1.0)]),
        (series("c"), vec![(1, 6.0)]),
        (series("d"), vec![(10, 2.0)]),
    ];
    assert_eq!(contents(&*set, ALL), expected);
    assert_eq!(contents(&*set, TimeRange { mint: 2, maxt: 9 })[1].1, [(2, 5.0)]);
    let limited = select(&[asked(&a), asked(&b)], &SelectParams { limit: 2, ..params() }, &[], &control, pinned());
    assert_eq!(contents(&*limited.unwrap(), ALL), expected[..2]);
    let names = texts(&[asked(&a), asked(&b)], &control, |s| s.label_values("__name__", ALL, &[], &control));
    assert_eq!(names.unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(control.usage().series, 2 * 4 + 2 * 4 + 2 * 2);

    let none = select(&[], &params(), &[], &control, pinned()).unwrap();
    assert!(none.is_empty());
    let cancelled = Control::new();
    cancelled.cancel();
    assert!(select(&[asked(&a)], &params(), &[], &cancelled, pinned()).is_err());
}

#[test]
fn threads_read_one_set_side_by_side() {
    let rows: Vec<Vec<(i64, f64)>> =
        (0..3).map(|part| (0..200).map(|i| (i * 3 + part, part as f64)).collect()).collect();
    let storages: Vec<MemoryStorage> = rows.iter().map(|row| storage(&[("a", row), ("b", row), ("c", row)])).collect();
    let asked: Vec<Asked<'_>> = storages.iter().map(|s| asked(s)).collect();
    let control = Control::new();
    let set = select(&asked, &params(), &[], &control, pinned()).unwrap();
    let expected = contents(&*set, ALL);
    assert_eq!(expected[2].1.len(), 600);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(contents(&*set, ALL), expected)));
        }
    });
    assert_eq!(control.usage().samples, 81 * 3 * (600 + 1));
}

#[test]
fn only_sources_whose_time_overlaps_are_read() {
    let a = storage(&[("a", &[(10, 1.0)])]);
    let b = Damaged { storage: storage(&[("a", &[(1, 4.0), (2, 5.0)])]), select: false };
    let control = Control::new();
    let of_b = Asked { storage: &b, span: TimeRange { mint: 1, maxt: 5 } };
    let set = select(&[asked(&a), of_b], &params(), &[], &control, pinned()).unwrap();
    assert_eq!(contents(&*set, TimeRange { mint: 6, maxt: 20 })[0].1, [(10, 1.0)]);
    assert_eq!(set.last(0, ALL).unwrap().map(|newest| (newest.t, newest.v)), Some((10, 1.0)));
    assert_eq!(control.take_warnings(), [""; 0]);
}

/// Cannot read the last sample of a series, or nothing at all.
struct Damaged {
    storage: MemoryStorage,
    select: bool,
}

struct DamagedSet(Box<dyn SeriesSet>);

fn damage() -> StorageError {
    StorageError::Corrupt { path: "block/chunks/000001".to_owned(), offset: 8, reason: "checksum".to_owned() }
}

impl Queryable for Damaged {
    fn select(&self, p: &SelectParams, m: &[Matcher], c: &Control) -> Result<Box<dyn SeriesSet>, StorageError> {
        match self.select {
            true => Err(damage()),
            false => Ok(Box::new(DamagedSet(self.storage.select(p, m, c)?))),
        }
    }

    fn label_values(&self, _: &str, _: TimeRange, _: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        Err(damage())
    }

    fn label_names(&self, _: TimeRange, _: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Io { path: "index".to_owned(), reason: "input/output error".to_owned() })
    }
}

impl SeriesSet for DamagedSet {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, idx: usize) -> Labels {
        self.0.labels(idx)
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        self.0.read(idx, range, out)?;
        out.t.pop();
        out.v.pop();
        Err(damage())
    }
}

const WARNING: &str = "block/chunks/000001: corrupt at offset 8: checksum";

#[test]
fn damage_is_a_warning_where_the_rest_can_be_answered() {
    let good = storage(&[("a", &[(10, 1.0)])]);
    let bad = Damaged { storage: storage(&[("a", &[(1, 4.0), (2, 5.0)]), ("b", &[(1, 1.0)])]), select: false };
    let control = Control::new();
    let set = select(&[asked(&good), asked(&bad)], &params(), &[], &control, pinned()).unwrap();
    let expected: Contents = vec![(series("a"), vec![(1, 4.0), (10, 1.0)]), (series("b"), vec![])];
    assert_eq!(contents(&*set, ALL), expected);
    assert_eq!(control.take_warnings(), [WARNING]);

    // Alone, but with another series.
    let set = select(&[asked(&bad)], &params(), &[], &control, pinned()).unwrap();
    assert_eq!(contents(&*set, ALL)[0].1, [(1, 4.0)]);
    assert_eq!(control.take_warnings(), [WARNING]);

    // Nothing else to answer.
    let only = Damaged { storage: storage(&[("b", &[(1, 1.0)])]), select: false };
    let set = select(&[asked(&only)], &params(), &[], &control, pinned()).unwrap();
    assert!(matches!(set.read(0, ALL, &mut Samples::default()), Err(StorageError::Corrupt { .. })));
}

#[test]
fn a_source_that_cannot_be_searched_is_left_out_unless_it_is_the_only_one() {
    let good = storage(&[("a", &[(10, 1.0)])]);
    let bad = Damaged { storage: MemoryStorage::new(), select: true };
    let control = Control::new();
    let set = select(&[asked(&good), asked(&bad)], &params(), &[], &control, pinned()).unwrap();
    assert_eq!(contents(&*set, ALL), [(series("a"), vec![(10, 1.0)])]);
    let values = texts(&[asked(&good), asked(&bad)], &control, |s| s.label_values("job", ALL, &[], &control));
    assert_eq!((values.unwrap(), control.take_warnings()), (vec!["j".to_owned()], vec![WARNING.to_owned()]));
    assert!(matches!(select(&[asked(&bad)], &params(), &[], &control, pinned()), Err(StorageError::Corrupt { .. })));
    let names = texts(&[asked(&good), asked(&bad)], &control, |s| s.label_names(ALL, &[], &control));
    assert!(matches!(names, Err(StorageError::Io { .. })), "the disk may answer the next time");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every time of any source comes once, in order, with a value that a source has at that time.
    #[test]
    fn no_sample_is_lost_doubled_or_made_up(
        parts in prop::collection::vec(prop::collection::btree_map(0i64..40, 0i32..5, 0..30), 0..6),
    ) {
        let rows: Vec<Vec<(i64, f64)>> =
            parts.iter().map(|p| p.iter().map(|(t, v)| (*t, f64::from(*v))).collect()).collect();
        let found = merged(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        rows.iter().flatten().for_each(|(t, v)| values.entry(*t).or_default().push(*v));
        prop_assert_eq!(found.iter().map(|s| s.0).collect::<Vec<_>>(), values.keys().copied().collect::<Vec<_>>());
        for (t, v) in found {
            prop_assert!(values[&t].contains(&v));
        }
    }

    /// Storages merged answer as one storage that has it all.
    #[test]
    fn several_storages_answer_as_one(
        parts in prop::collection::vec(prop::collection::btree_map((0u8..6, 0i64..100), 0i32..5, 0..40), 1..4),
        range in (0i64..100, 0i64..100),
    ) {
        let name = |i: u8| format!("m{i}");
        let mut all: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
        let storages: Vec<MemoryStorage> = parts.iter().map(|part| {
            let storage = MemoryStorage::new();
            for (i, t) in part.keys() {
                // The same value from all, so that it does not matter which one wins.
                let v = (*t * 7 + i64::from(*i)) as f64;
                storage.add(&series(&name(*i)), &[(*t, v)]);
                all.entry(series(&name(*i))).or_default().insert(*t, v);
            }
            storage
        }).collect();
        let asked: Vec<Asked<'_>> = storages.iter().map(|s| asked(s)).collect();
        let range = TimeRange { mint: range.0, maxt: range.1 };
        let set = select(&asked, &SelectParams { sorted: true, ..params() }, &[], &Control::new(), pinned()).unwrap();
        let expected: Contents = all.into_iter().map(|(labels, samples)| {
            (labels, samples.into_iter().filter(|(t, _)| (range.mint..=range.maxt).contains(t)).collect())
        }).collect();
        prop_assert_eq!(contents(&*set, range), expected);
    }
}
