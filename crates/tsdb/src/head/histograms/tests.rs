use std::sync::Arc;

use fk_model::{Labels, MatchKind, Matcher, Span, stale_nan};
use fk_storage::{
    AppendReport, Appender, Batch, BatchHistogram, Control, HistogramValue, Queryable, Rejection, Samples,
    SelectParams, SeriesRef, TimeRange,
};
use fk_vfs::Vfs;
use fk_vfs::sim::SimVfs;

use crate::db::{Db, DbOptions};

use super::*;

fn open(vfs: &SimVfs) -> Db {
    let mut options = DbOptions::new("/data");
    options.vfs = Arc::new(vfs.clone());
    Db::open(options, &|_| {}).expect("the directory opens")
}

fn new_vfs() -> SimVfs {
    let vfs = SimVfs::new(1);
    vfs.create_dir("/data".as_ref()).expect("a new directory");
    vfs
}

/// `buckets` of schema 0 from index 0 on, each with the number of observations.
fn int(buckets: &[i64]) -> HistogramValue {
    let mut before = 0;
    HistogramValue::Int(Arc::new(Histogram {
        count: buckets.iter().sum::<i64>() as u64,
        sum: buckets.iter().sum::<i64>() as f64 * 1.5,
        positive_spans: vec![Span { offset: 0, length: buckets.len() as u32 }],
        positive_buckets: buckets.iter().map(|b| b - std::mem::replace(&mut before, *b)).collect(),
        ..Histogram::default()
    }))
}

fn float(buckets: &[f64]) -> HistogramValue {
    HistogramValue::Float(Arc::new(FloatHistogram {
        count: buckets.iter().sum(),
        sum: buckets.iter().sum::<f64>() * 1.5,
        positive_spans: vec![Span { offset: 0, length: buckets.len() as u32 }],
        positive_buckets: buckets.to_vec(),
        ..FloatHistogram::default()
    }))
}

fn series(db: &Db, name: &str) -> SeriesRef {
    db.resolve(&Labels::from_pairs([("__name__", name)])).expect("a series")
}

fn push(db: &Db, series: SeriesRef, samples: &[(i64, HistogramValue)]) -> AppendReport {
    let histogram = |(t, h): &(i64, HistogramValue)| BatchHistogram { series, t: *t, start: 0, h: h.clone() };
    let batch = Batch { histograms: samples.iter().map(histogram).collect(), ..Batch::default() };
    let mut report = AppendReport::default();
    db.append(&batch, &mut report).expect("the append works");
    report
}

fn push_float(db: &Db, series: SeriesRef, t: i64, v: f64) -> AppendReport {
    let mut batch = Batch::default();
    batch.push(series, t, v);
    let mut report = AppendReport::default();
    db.append(&batch, &mut report).expect("the append works");
    report
}

fn read(db: &Db, name: &str) -> Samples {
    let range = TimeRange { mint: i64::MIN, maxt: i64::MAX };
    let matcher = Matcher::new(MatchKind::Equal, "__name__", name).expect("a matcher");
    let set =
        db.select(&SelectParams { range, sorted: true, limit: 0 }, &[matcher], &Control::new()).expect("a select");
    let mut samples = Samples::default();
    if set.len() == 1 {
        set.read(0, range, &mut samples).expect("readable samples");
        if samples.histograms.last().is_some_and(|(at, h)| *at as usize + 1 == samples.len() && !h.is_stale()) {
            let newest = set.last(0, range).unwrap().expect("there is a sample");
            assert!(newest.h.is_some(), "a histogram is no float");
        }
    }
    samples
}

/// Times, and whether each sample is a histogram, and counts of the histograms.
fn shape(samples: &Samples) -> (Vec<i64>, Vec<(u32, f64)>) {
    (samples.t.clone(), samples.histograms.iter().map(|(at, h)| (*at, h.count)).collect())
}

#[test]
fn histograms_come_back_before_and_after_a_restart() {
    let vfs = new_vfs();
    let db = open(&vfs);
    let a = series(&db, "a");
    // Wider and wider, then a reset.
    let grown: Vec<_> = (0..300i64).map(|i| (i * 15_000, int(&vec![i + 1; 1 + i as usize / 50]))).collect();
    assert_eq!(push(&db, a, &grown[..1]).accepted, 1);
    for some in grown[1..].chunks(7) {
        assert_eq!(push(&db, a, some).accepted, some.len());
    }
    push(&db, a, &[(5_000_000, int(&[1]))]);
    let check = |db: &Db| {
        let samples = read(db, "a");
        assert_eq!(samples.len(), 301);
        assert_eq!(samples.histograms.len(), 301);
        for (i, (at, h)) in samples.histograms[..300].iter().enumerate() {
            let HistogramValue::Int(expected) = &grown[i].1 else { panic!() };
            assert_eq!((*at as usize, samples.t[i]), (i, grown[i].0));
            assert_eq!((h.count, h.sum), (expected.count as f64, expected.sum), "sample {i}");
            assert_eq!(h.positive_buckets.iter().sum::<f64>(), expected.count as f64, "sample {i}");
            assert_eq!(samples.v[i], h.sum);
        }
    };
    check(&db);
    assert_eq!(db.head_status().chunks, 2, "the reset begins a chunk");
    drop(db);
    check(&open(&vfs));
}

#[test]
fn order_and_repeats_are_those_of_floats() {
    let vfs = new_vfs();
    let db = open(&vfs);
    let a = series(&db, "a");
    let broken = HistogramValue::Int(Arc::new(Histogram { count: 5, ..Histogram::default() }));
    let cases = [
        (10, int(&[1, 2]), None),
        (10, int(&[1, 2]), None),
        (10, int(&[1, 3]), Some(Rejection::Duplicate)),
        (10, float(&[1.0, 2.0]), Some(Rejection::Duplicate)),
        (9, int(&[1, 2]), Some(Rejection::OutOfOrder)),
        (11, broken, Some(Rejection::InvalidHistogram(fk_model::HistogramFault::CountMismatch))),
        (11, float(&[1.0, 2.5]), None),
    ];
    for (t, h, expected) in cases {
        let report = push(&db, a, &[(t, h)]);
        assert_eq!(report.rejected_histograms, Vec::from_iter(expected.map(|why| (0, why))), "at {t}");
        assert_eq!(report.accepted, usize::from(expected.is_none()));
    }
    let unknown = push(&db, SeriesRef(999), &[(1, int(&[1]))]);
    assert_eq!(unknown.rejected_histograms, [(0, Rejection::UnknownSeries)]);
    assert_eq!(shape(&read(&db, "a")), (vec![10, 11], vec![(0, 3.0), (1, 3.5)]));
    let twice = push(&db, a, &[(20, int(&[1])), (20, int(&[1])), (19, int(&[1])), (21, int(&[2]))]);
    assert_eq!(twice.rejected_histograms, [(1, Rejection::Duplicate), (2, Rejection::OutOfOrder)]);
}

#[test]
fn a_series_goes_from_floats_to_histograms_and_back() {
    let vfs = new_vfs();
    let db = open(&vfs);
    let a = series(&db, "a");
    push_float(&db, a, 1, 7.0);
    push_float(&db, a, 2, 7.0);
    push(&db, a, &[(3, int(&[1])), (4, int(&[2]))]);
    push_float(&db, a, 5, 8.0);
    push(&db, a, &[(6, float(&[0.5]))]);
    assert_eq!(push_float(&db, a, 6, 1.0).rejected, [(0, Rejection::Duplicate)]);
    // The float that ends the series becomes a histogram.
    push_float(&db, a, 7, stale_nan());
    let expected = (vec![1, 2, 3, 4, 5, 6, 7], vec![(2, 1.0), (3, 2.0), (5, 0.5), (6, 0.0)]);
    let mut db = db;
    for _ in 0..2 {
        let samples = read(&db, "a");
        assert_eq!(shape(&samples), expected);
        assert!(samples.histograms[3].1.is_stale());
        assert_eq!(db.metrics().stale_series.load(std::sync::atomic::Ordering::Relaxed), 1);
        drop(db);
        db = open(&vfs);
    }
}
