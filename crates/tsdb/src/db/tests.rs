//! Whole directories: restarts, kills, what is refused.

use std::cell::RefCell;

use proptest::prelude::*;

use fk_model::stale_nan;
use fk_storage::{BatchSample, Exemplar, Rejection, Samples};
use fk_testkit::{MemoryStorage, TempDir};

use super::*;
use fk_vfs::sim::SimVfs;
use fk_wal::WalOptions;

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn open(vfs: &SimVfs) -> Db {
    open_with(vfs, WalOptions { segment_bytes: 128 << 10, ..WalOptions::default() })
}

fn open_with(vfs: &SimVfs, wal: WalOptions) -> Db {
    let options = DbOptions { vfs: Arc::new(vfs.clone()), wal, ..DbOptions::new("/data") };
    Db::open(options, &|_| {}).unwrap()
}

/// What stops a process: it gives up its lock and leaves the lock file.
fn kill(db: Db, vfs: &SimVfs) {
    vfs.kill();
    drop(db);
}

fn contents(db: &Db) -> Vec<(Labels, Vec<(i64, u64)>)> {
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    let set = db.select(&params, &[], &Control::new()).unwrap();
    let mut samples = Samples::default();
    let read = |idx| {
        set.read(idx, ALL, &mut samples).unwrap();
        (set.labels(idx), samples.t.iter().copied().zip(samples.v.iter().map(|v| v.to_bits())).collect())
    };
    (0..set.len()).map(read).collect()
}

fn append(db: &Db, samples: &[(&Labels, i64, f64)]) -> AppendReport {
    let mut batch = Batch::default();
    for (labels, t, v) in samples {
        batch.push(db.resolve(labels).unwrap(), *t, *v);
    }
    let mut report = AppendReport::default();
    db.append(&batch, &mut report).unwrap();
    report
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Appends, kills and orderly ends in any order: after each start everything acknowledged is there.
    #[test]
    fn nothing_acknowledged_is_lost_by_a_kill(
        steps in prop::collection::vec((0u8..10, prop::collection::vec((0usize..12, -2i64..3, 0u8..5), 1..20)), 1..40),
        seed in any::<u64>(),
    ) {
        let vfs = SimVfs::new(seed);
        let simple = MemoryStorage::new();
        let series: Vec<_> = (0..12).map(|i| labels(&[("__name__", "m"), ("job", &(i % 3).to_string()), ("i", &i.to_string())])).collect();
        let mut db = open(&vfs);
        let mut now = 1_700_000_000_000;
        for (what, samples) in &steps {
            now += 60_000;
            let batch: Vec<_> = samples
                .iter()
                .map(|(i, jitter, v)| (&series[*i], now + jitter * 30_000, match v { 0 => stale_nan(), v => f64::from(*v) }))
                .collect();
            let mut simple_batch = Batch::default();
            for (labels, t, v) in &batch {
                simple_batch.push(simple.resolve(labels).unwrap(), *t, *v);
            }
            let mut report = AppendReport::default();
            simple.append(&simple_batch, &mut report).unwrap();
            prop_assert_eq!(append(&db, &batch), report);
            match what {
                0 => {
                    db.close().unwrap();
                    db = open(&vfs);
                    prop_assert_eq!(db.was_clean(), Some(true));
                }
                1 => {
                    kill(db, &vfs);
                    db = open(&vfs);
                    prop_assert_eq!(db.was_clean(), Some(false));
                }
                _ => {}
            }
            let expected: Vec<(Labels, Vec<_>)> = simple
                .dump()
                .into_iter()
                .map(|(l, s)| (l, s.into_iter().map(|(t, v)| (t, v.to_bits())).collect::<Vec<_>>()))
                .filter(|(_, s)| !s.is_empty())
                .collect();
            prop_assert_eq!(contents(&db), expected);
        }
    }
}

#[test]
fn what_was_synced_survives_a_power_cut() {
    for seed in 0..20 {
        let vfs = SimVfs::new(seed);
        let db = open(&vfs);
        let a = labels(&[("__name__", "a")]);
        for n in 0..50 {
            append(&db, &[(&a, n * 1000, n as f64)]);
            if n == 30 {
                db.sync().unwrap();
            }
        }
        vfs.crash();
        drop(db);
        let db = open(&vfs);
        let found = contents(&db);
        assert!(found[0].1.len() >= 31, "seed {seed}: {}", found[0].1.len());
        let expected: Vec<_> = (0..found[0].1.len() as i64).map(|n| (n * 1000, (n as f64).to_bits())).collect();
        assert_eq!(found, [(a, expected)], "seed {seed}: only the end may be missing");
    }
}

#[test]
fn references_of_the_log_are_kept_and_never_given_out_again() {
    let vfs = SimVfs::new(1);
    let mut bytes = Vec::new();
    let (a, b) = (labels(&[("__name__", "a")]), labels(&[("__name__", "b")]));
    let wal = Wal::open(Arc::new(vfs.clone()), Path::new("/data/wal"), WalOptions::default()).unwrap();
    // Series a is logged twice, reference 900 is lost, the sample at 5 comes late.
    encode_series([(SeriesRef(500), &a), (SeriesRef(70), &b), (SeriesRef(600), &a)], &mut bytes);
    wal.log(&[&bytes]).unwrap();
    bytes.clear();
    let sample = |series, t, v| BatchSample { series: SeriesRef(series), t, v };
    encode_samples(
        &[sample(500, 10, 1.0), sample(600, 20, 2.0), sample(70, 10, 3.0), sample(900, 10, 4.0), sample(70, 5, 5.0)],
        &mut bytes,
    );
    wal.log(&[&bytes]).unwrap();
    wal.close().unwrap();

    let db = open(&vfs);
    let bits = |samples: &[(i64, f64)]| samples.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
    assert_eq!(contents(&db), [(a.clone(), bits(&[(10, 1.0), (20, 2.0)])), (b, bits(&[(10, 3.0)]))]);
    assert_eq!((db.replayed().series, db.replayed().samples, db.replayed().unknown_refs), (3, 5, 1));
    assert_eq!(db.resolve(&a).unwrap(), SeriesRef(500));
    assert_eq!(db.resolve(&labels(&[("__name__", "new")])).unwrap(), SeriesRef(901));
    let mut batch = Batch::default();
    batch.push(SeriesRef(600), 30, 6.0);
    batch.push(SeriesRef(900), 30, 6.0);
    let mut report = AppendReport::default();
    db.append(&batch, &mut report).unwrap();
    assert_eq!(report.rejected, [(1, Rejection::UnknownSeries)]);
}

#[test]
fn a_memory_snapshot_is_not_needed_and_goes() {
    let vfs = SimVfs::new(1);
    let a = labels(&[("__name__", "a")]);
    let db = open(&vfs);
    append(&db, &[(&a, 1, 1.0)]);
    kill(db, &vfs);
    let snapshot = Path::new("/data/chunk_snapshot.000000.0000000012/00000000");
    vfs.put(snapshot, b"whatever Prometheus has written");
    let db = open(&vfs);
    assert_eq!(contents(&db), [(a, vec![(1, 1.0_f64.to_bits())])]);
    assert_eq!(vfs.get(snapshot), None);
}

#[test]
fn two_storages_do_not_share_a_directory() {
    let dir = TempDir::new("db-lock");
    let first = Db::open(DbOptions::new(dir.path()), &|_| {}).unwrap();
    assert!(matches!(Db::open(DbOptions::new(dir.path()), &|_| {}), Err(DbError::Lock(_))));
    first.close().unwrap();
    let a = labels(&[("__name__", "a")]);
    assert!(matches!(first.resolve(&a), Err(StorageError::ReadOnly(_))));
    assert!(Db::open(DbOptions::new(dir.path()), &|_| {}).is_ok());
}

#[test]
fn progress_names_the_segments() {
    let vfs = SimVfs::new(1);
    let a = labels(&[("__name__", "a")]);
    for n in 0..3 {
        let db = open(&vfs);
        append(&db, &[(&a, n, 1.0)]);
        db.close().unwrap();
    }
    let told = RefCell::new(Vec::new());
    let options = DbOptions { vfs: Arc::new(vfs.clone()), ..DbOptions::new("/data") };
    let db = Db::open(options, &|p| told.borrow_mut().push((p.min, p.max, p.current))).unwrap();
    assert_eq!(told.into_inner(), [(0, 2, 0), (0, 2, 1), (0, 2, 2), (0, 2, 2)]);
    let registry = fk_instrument::Registry::new();
    let db = Arc::new(db);
    crate::metrics::register(&db, &registry);
    let text = registry.text(|name| name.contains("head_series") || name.contains("head_max_time"));
    assert!(
        text.contains("\nprometheus_tsdb_head_series 1\n") && text.contains("\nprometheus_tsdb_head_max_time 2\n"),
        "{text}"
    );
}

#[test]
fn a_full_disk_refuses_the_batch_and_later_ones_go_on() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs);
    let a = labels(&[("__name__", "a")]);
    append(&db, &[(&a, 1, 1.0)]);
    vfs.set_capacity(Some(0));
    let mut batch = Batch::default();
    batch.push(db.resolve(&a).unwrap(), 2, 2.0);
    let mut report = AppendReport::default();
    assert!(db.append(&batch, &mut report).is_err());
    assert_eq!(contents(&db)[0].1.len(), 1);
    vfs.set_capacity(None);
    db.sync().unwrap();
    db.append(&batch, &mut report).unwrap();
    kill(db, &vfs);
    assert_eq!(contents(&open(&vfs))[0].1.len(), 2);
}

#[test]
fn exemplars_come_back_and_refusals_are_told() {
    let vfs = SimVfs::new(1);
    vfs.create_dir("/data".as_ref()).expect("a new directory");
    let open = || {
        let mut options = DbOptions::new("/data");
        options.vfs = Arc::new(vfs.clone());
        options.config.exemplars_max = 10;
        Db::open(options, &|_| {}).expect("the directory opens")
    };
    let db = open();
    let series = db.resolve(&Labels::from_pairs([("__name__", "a")])).expect("a series");
    let push = |t: i64| {
        let mut batch = Batch::default();
        batch.push(series, t, 1.0);
        batch.exemplars.push((series, Exemplar { labels: Labels::from_pairs([("id", "x")]), v: t as f64, t }));
        let mut report = AppendReport::default();
        db.append(&batch, &mut report).expect("the append works");
        report.rejected_exemplars
    };
    assert_eq!(push(10), []);
    assert_eq!(push(20), []);
    assert_eq!(push(15), [(0, Rejection::ExemplarOutOfOrder)]);
    drop(db);
    let found = open().exemplars(ALL, &[]).expect("an answer");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].exemplars.iter().map(|e| e.t).collect::<Vec<_>>(), [10, 20]);
}
