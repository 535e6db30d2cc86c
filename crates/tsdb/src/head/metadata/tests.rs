use fk_model::{Labels, MetricType};
use fk_storage::{AppendReport, Appender, Batch};
use fk_vfs::sim::SimVfs;
use fk_wal::record::Record;
use fk_wal::{self as wal, WalOptions};

use crate::db::{Db, DbOptions};
use crate::maintain::Now;
use fk_storage::Control;

use super::*;

const MINUTE: i64 = 60_000;

fn open(vfs: &SimVfs, on: bool) -> Db {
    let options = DbOptions {
        vfs: Arc::new(vfs.clone()),
        wal: WalOptions { segment_bytes: 4 << 10, ..WalOptions::default() },
        now: Some(Now { wall_ms: 0, steady_ms: 0 }),
        metadata_records: on,
        ..DbOptions::new("/data")
    };
    Db::open(options, &|_| {}).expect("open")
}

fn metadata(kind: MetricType, help: &str) -> Arc<Metadata> {
    Arc::new(Metadata { kind, unit: "seconds".to_owned(), help: help.to_owned() })
}

fn series(db: &Db, i: usize) -> SeriesRef {
    db.resolve(&Labels::from_pairs([("__name__", "m"), ("i", &*i.to_string())])).expect("resolve")
}

/// A sample of every series, with what `says` of it.
fn append(db: &Db, t: i64, says: impl Fn(usize) -> Option<Arc<Metadata>>) {
    let mut batch = Batch::default();
    for i in 0..10 {
        let series = series(db, i);
        batch.push(series, t, i as f64);
        batch.metadata.extend(says(i).map(|metadata| (series, metadata)));
    }
    db.append(&batch, &mut AppendReport::default()).expect("append");
}

fn known(db: &Db) -> Vec<Option<String>> {
    (0..10).map(|i| db.metadata(series(db, i)).map(|m| format!("{} {}", m.kind.name(), m.help))).collect()
}

/// How many entries the log has.
fn logged(vfs: &SimVfs) -> usize {
    let mut entries = 0;
    let mut count = |_, record: Record<'_>| {
        if let Record::Metadata(record) = record {
            entries += record.iter().count();
        }
        Ok::<(), StorageError>(())
    };
    wal::replay(vfs, "/data/wal".as_ref(), &mut count).expect("replay");
    entries
}

fn restarted(db: Db, vfs: &SimVfs) -> Db {
    vfs.kill();
    drop(db);
    open(vfs, true)
}

#[test]
fn what_is_said_is_kept_until_something_else_is_said() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs, true);
    append(&db, 0, |i| (i < 5).then(|| metadata(MetricType::Counter, "of five")));
    let mut expected: Vec<_> = (0..10).map(|i| (i < 5).then(|| "counter of five".to_owned())).collect();
    assert_eq!((known(&db), logged(&vfs)), (expected.clone(), 5));
    // The same again, as an equal value, is no news.
    append(&db, MINUTE, |i| (i < 5).then(|| metadata(MetricType::Counter, "of five")));
    assert_eq!(logged(&vfs), 5);
    append(&db, 2 * MINUTE, |i| (i == 4).then(|| metadata(MetricType::Gauge, "changed")));
    expected[4] = Some("gauge changed".to_owned());
    assert_eq!((known(&db), logged(&vfs)), (expected.clone(), 6));
    let db = restarted(db, &vfs);
    assert_eq!(known(&db), expected, "out of the log");
    db.write_image().expect("image");
    append(&db, 3 * MINUTE, |i| (i == 3).then(|| metadata(MetricType::Summary, "later")));
    expected[3] = Some("summary later".to_owned());
    let db = restarted(db, &vfs);
    assert_eq!(known(&db), expected, "out of an image and the log after it");
    assert_eq!(db.head().metadata.texts.lock().len(), 3);
    // Without samples in the batch.
    let said = Batch { metadata: vec![(series(&db, 9), metadata(MetricType::Info, "alone"))], ..Batch::default() };
    db.append(&said, &mut AppendReport::default()).expect("append");
    expected[9] = Some("info alone".to_owned());
    assert_eq!(known(&restarted(db, &vfs)), expected);
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs, false);
    append(&db, 0, |_| Some(metadata(MetricType::Counter, "anything")));
    assert_eq!((known(&db), logged(&vfs)), (vec![None; 10], 0));
}

#[test]
fn a_series_that_the_log_does_not_know_has_none() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs, true);
    let said = |series| Batch { metadata: vec![(series, metadata(MetricType::Info, "x"))], ..Batch::default() };
    for reference in [series(&db, 0), SeriesRef(77)] {
        db.append(&said(reference), &mut AppendReport::default()).expect("append");
        assert_eq!((db.metadata(reference), logged(&vfs)), (None, 0));
    }
}

#[test]
fn checkpoints_keep_the_newest_of_series_that_live() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs, true);
    for minute in 0..600 {
        // The first one ends after two hours.
        let mut batch = Batch::default();
        for i in usize::from(minute > 120)..4 {
            let series = series(&db, i);
            batch.push(series, minute * MINUTE, minute as f64);
            batch.metadata.push((series, metadata(MetricType::Counter, &format!("hour {}", minute / 60))));
        }
        db.append(&batch, &mut AppendReport::default()).expect("append");
    }
    let mut checkpoints = 0;
    for step in 1..40 {
        let now = Now { wall_ms: 600 * MINUTE, steady_ms: step * 2000 };
        checkpoints += db.maintain(now, &Control::new()).expect("maintain").checkpoints;
    }
    assert!(checkpoints > 0);
    assert!(logged(&vfs) < 40, "{}", logged(&vfs));
    assert_eq!(known(&db)[..2], [None, Some("counter hour 9".to_owned())], "the first one is gone");
    let db = restarted(db, &vfs);
    assert_eq!(known(&db)[1..4], vec![Some("counter hour 9".to_owned()); 3]);
}
