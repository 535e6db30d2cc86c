//! Out-of-order samples and deletions across restarts, power cuts and a full disk.

use proptest::prelude::*;

use fk_block::{SeriesChunks, SeriesStream};
use fk_model::{FloatHistogram, Labels};
use fk_storage::{AppendReport, Appender, Batch, Control, HistogramValue, Queryable, Samples, SelectParams, SeriesRef};
use fk_vfs::sim::SimVfs;

use super::*;
use crate::db::{Db, DbOptions};

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };
const MINUTE: i64 = 60_000;

fn open(vfs: &SimVfs) -> Db {
    let mut options = DbOptions { vfs: Arc::new(vfs.clone()), out_of_order_cap: 4, ..DbOptions::new("/data") };
    options.wal.segment_bytes = 64 << 10;
    options.config.out_of_order_window_ms = 600 * MINUTE;
    Db::open(options, &|_| {}).unwrap()
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

fn try_append(db: &Db, samples: &[(&str, i64, f64)]) -> Result<AppendReport, StorageError> {
    let mut batch = Batch::default();
    for (name, minute, v) in samples {
        batch.push(db.resolve(&labels(name))?, minute * MINUTE, *v);
    }
    let mut report = AppendReport::default();
    db.append(&batch, &mut report).map(|()| report)
}

fn append(db: &Db, samples: &[(&str, i64, f64)]) {
    assert_eq!(try_append(db, samples).unwrap().rejected, []);
}

/// Name, minute, value.
type Contents = Vec<(String, Vec<(i64, u64)>)>;

fn contents(db: &Db) -> Contents {
    let set = db.select(&SelectParams { range: ALL, sorted: true, limit: 0 }, &[], &Control::new()).unwrap();
    let mut samples = Samples::default();
    let series = (0..set.len()).map(|idx| {
        set.read(idx, ALL, &mut samples).unwrap();
        let name = set.labels(idx).get("__name__").unwrap().to_owned();
        (name, samples.t.iter().map(|t| t / MINUTE).zip(samples.v.iter().map(|v| v.to_bits())).collect::<Vec<_>>())
    });
    series.filter(|(_, samples)| !samples.is_empty()).collect()
}

fn minutes(db: &Db, name: &str) -> Vec<i64> {
    contents(db).into_iter().find(|s| s.0 == name).map_or(Vec::new(), |s| s.1.into_iter().map(|s| s.0).collect())
}

fn delete(db: &Db, min: i64, max: i64) -> u64 {
    let range = TimeRange { mint: min * MINUTE, maxt: max * MINUTE };
    let dry = db.delete_from_head(range, &[vec![]], true, &Control::new()).unwrap();
    let deleted = db.delete_from_head(range, &[vec![]], false, &Control::new()).unwrap();
    assert_eq!(dry, deleted);
    deleted.samples
}

fn killed(db: Db, vfs: &SimVfs) -> Db {
    vfs.kill();
    drop(db);
    open(vfs)
}

#[test]
fn late_samples_survive_a_kill_and_durable_ones_a_power_cut() {
    for seed in 0..10 {
        let vfs = SimVfs::new(seed);
        let db = open(&vfs);
        append(&db, &[("a", 1000, 1.0), ("b", 1000, 1.0)]);
        // A new series whose first sample is late, too.
        append(&db, &[("a", 999, 2.0), ("a", 500, 3.0), ("new", 450, 4.0), ("a", 1001, 5.0)]);
        let before = contents(&db);
        let db = killed(db, &vfs);
        assert_eq!(contents(&db), before);
        assert_eq!((db.replayed().out_of_order.samples, db.replayed().out_of_order.unknown_refs), (3, 0));
        append(&db, &[("b", 700, 6.0)]);
        db.make_durable().unwrap();
        let durable = contents(&db);
        append(&db, &[("b", 701, 7.0), ("b", 1002, 7.0)]);
        vfs.crash();
        drop(db);
        let db = open(&vfs);
        let after = contents(&db);
        for (name, samples) in durable {
            let found = &after.iter().find(|s| s.0 == name).expect("durable series").1;
            assert!(samples.iter().all(|s| found.contains(s)), "seed {seed}: {name}");
        }
        assert_eq!(after.len(), 3);
    }
}

#[test]
fn deletions_stay_after_kills_and_power_cuts() {
    let vfs = SimVfs::new(3);
    let db = open(&vfs);
    append(&db, &[("a", 1000, 1.0), ("a", 1010, 1.0), ("a", 1020, 1.0), ("a", 900, 2.0), ("a", 1005, 2.0)]);
    assert_eq!(delete(&db, 900, 1010), 4);
    // Prometheus would not understand a deletion in this log, so there is nothing to be deleted in it.
    let mut records = 0;
    wal::replay::<StorageError>(&vfs, Path::new("/data/wbl"), &mut |_, _| {
        records += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(records, 0);
    assert_eq!(minutes(&db, "a"), [1020]);
    vfs.crash();
    drop(db);
    let db = open(&vfs);
    assert_eq!(minutes(&db, "a"), [1020]);
    // What comes later counts, late or not.
    append(&db, &[("a", 905, 3.0), ("a", 1030, 3.0)]);
    assert_eq!(minutes(&db, "a"), [905, 1020, 1030]);
    let db = killed(db, &vfs);
    assert_eq!(minutes(&db, "a"), [905, 1020, 1030]);
    assert_eq!(delete(&db, 2000, 3000), 0);
}

#[test]
fn compaction_forgets_what_it_has_written_and_nothing_else() {
    let vfs = SimVfs::new(4);
    let db = open(&vfs);
    assert!(db.compact_out_of_order().unwrap().is_none());
    append(&db, &[("a", 1000, 1.0)]);
    for i in 0..10 {
        // The first one of `b` is in order.
        append(&db, &[("a", 900 + i, 2.0), ("b", 950 - i, 3.0)]);
    }
    // One that fails: nothing is lost, and the next one has everything.
    let _ = db.compact_out_of_order().unwrap().unwrap();
    append(&db, &[("a", 800, 4.0)]);
    let before = contents(&db);
    let db = killed(db, &vfs);
    assert_eq!(contents(&db), before);

    let compaction = db.compact_out_of_order().unwrap().unwrap();
    assert_eq!((compaction.frozen.mint, compaction.frozen.maxt), (800 * MINUTE, 949 * MINUTE));
    let mut stream = compaction.stream(ALL);
    let (mut series, mut samples) = (SeriesChunks::default(), 0);
    let mut names = Vec::new();
    while stream.next(&mut series).unwrap() {
        names.push(series.labels.get("__name__").unwrap().to_owned());
        samples += series.chunks.iter().map(|c| c.samples).sum::<u32>();
    }
    assert_eq!((names, samples), (vec!["a".to_owned(), "b".to_owned()], 20));
    let mut symbols = Vec::new();
    stream
        .symbols(&mut |s| {
            symbols.push(s.to_owned());
            Ok(())
        })
        .unwrap();
    assert_eq!(symbols, ["__name__", "a", "b"]);
    append(&db, &[("a", 810, 5.0)]);
    compaction.finish().unwrap();
    assert_eq!((minutes(&db, "a"), minutes(&db, "b")), (vec![810, 1000], vec![950]));
    let db = killed(db, &vfs);
    assert_eq!((minutes(&db, "a"), minutes(&db, "b")), (vec![810, 1000], vec![950]));
}

#[test]
fn markers_of_prometheus_go_and_samples_stay() {
    let vfs = SimVfs::new(5);
    let db = open(&vfs);
    append(&db, &[("a", 1000, 1.0), ("a", 900, 2.0), ("a", 901, 2.0)]);
    let mut before = contents(&db);
    db.close().unwrap();
    drop(db);
    let dir = Path::new("/data/wbl");
    let log = Wal::open(Arc::new(vfs.clone()), dir, WalOptions::default()).unwrap();
    // A marker: series 1, chunk reference 8.
    let marker = [&[kind::MMAP_MARKERS][..], &1u64.to_be_bytes(), &8u64.to_be_bytes()].concat();
    log.log(&[&marker]).unwrap();
    // And a late histogram: we do not take any from Prometheus' chunks, so it has to be in the log we write.
    let h = HistogramValue::Float(Arc::new(FloatHistogram { sum: 4.5, ..FloatHistogram::default() }));
    let late = BatchHistogram { series: SeriesRef(1), t: 902 * MINUTE, start: 0, h };
    let mut records = Vec::new();
    encode_entry(&LogEntry { histograms: &[late], ..LogEntry::default() }, false, &mut records, &mut Vec::new());
    log.log(&[&records]).unwrap();
    before[0].1.insert(2, (902, 4.5f64.to_bits()));
    log.close().unwrap();
    drop(log);
    let db = open(&vfs);
    assert!(db.replayed().out_of_order.markers);
    assert_eq!(contents(&db), before);
    let db = killed(db, &vfs);
    assert!(!db.replayed().out_of_order.markers);
    assert_eq!(contents(&db), before);
}

#[test]
fn a_full_disk_refuses_and_room_heals() {
    let vfs = SimVfs::new(6);
    let db = open(&vfs);
    append(&db, &[("a", 1000, 1.0)]);
    vfs.set_capacity(Some(0));
    for late in [999, 1001] {
        let refused = (0..10_000).find_map(|i| try_append(&db, &[("a", late, f64::from(i))]).err());
        assert!(matches!(refused, Some(StorageError::ReadOnly(_))), "{late}: {refused:?}");
    }
    assert_eq!(minutes(&db, "a"), [1000]);
    vfs.set_capacity(None);
    append(&db, &[("a", 1001, 1.0), ("a", 999, 1.0)]);
    let db = killed(db, &vfs);
    assert_eq!(minutes(&db, "a"), [999, 1000, 1001]);
}

#[test]
fn without_a_window_nothing_is_made_and_it_can_come_and_go() {
    let vfs = SimVfs::new(7);
    let options = DbOptions { vfs: Arc::new(vfs.clone()), ..DbOptions::new("/data") };
    let db = Db::open(options, &|_| {}).unwrap();
    assert!(vfs.metadata(Path::new("/data/wbl")).unwrap().is_none());
    append(&db, &[("a", 1000, 1.0)]);
    let mut config = db.config();
    config.out_of_order_window_ms = 600 * MINUTE;
    db.apply(config.clone()).unwrap();
    assert!(vfs.metadata(Path::new("/data/wbl")).unwrap().is_some());
    append(&db, &[("a", 900, 1.0)]);
    config.out_of_order_window_ms = 0;
    db.apply(config).unwrap();
    assert_eq!(try_append(&db, &[("a", 901, 1.0)]).unwrap().rejected.len(), 1);
    // Without a window what is there is still read, and compacted.
    vfs.kill();
    drop(db);
    let options = DbOptions { vfs: Arc::new(vfs.clone()), ..DbOptions::new("/data") };
    let db = Db::open(options, &|_| {}).unwrap();
    assert_eq!(minutes(&db, "a"), [900, 1000]);
    db.compact_out_of_order().unwrap().unwrap().finish().unwrap();
    assert_eq!(minutes(&db, "a"), [1000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Appends in and out of order, deletions, kills, and compactions that succeed or do not.
    #[test]
    fn a_restart_changes_nothing(
        steps in prop::collection::vec((0u8..12, prop::collection::vec((0u8..4, -3i64..60, 0u8..3), 1..10)), 1..40),
        seed in any::<u64>(),
    ) {
        let vfs = SimVfs::new(seed);
        let mut db = open(&vfs);
        let mut now = 5000;
        for (what, samples) in &steps {
            now += 3;
            let samples: Vec<_> = samples.iter().map(|(s, back, v)| (["a", "b", "c", "d"][usize::from(*s)], now - back, f64::from(*v))).collect();
            try_append(&db, &samples).unwrap();
            match what {
                0 => { delete(&db, now - 20, now - 10); }
                1 => { let _ = db.compact_out_of_order().unwrap(); }
                2 => {
                    if let Some(compaction) = db.compact_out_of_order().unwrap() {
                        compaction.finish().unwrap();
                    }
                }
                3..=5 => {
                    let before = contents(&db);
                    db = killed(db, &vfs);
                    prop_assert_eq!(contents(&db), before);
                }
                6 => {
                    db.make_durable().unwrap();
                    let before = contents(&db);
                    vfs.crash();
                    drop(db);
                    db = open(&vfs);
                    prop_assert_eq!(contents(&db), before);
                }
                _ => {}
            }
        }
    }
}
