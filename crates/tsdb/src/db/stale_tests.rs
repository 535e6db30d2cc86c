//! Series that have ended go to blocks of their own, and nobody who asks notices.

use std::collections::BTreeMap;

use fk_block::meta::HINT_STALE_SERIES;
use fk_model::stale_nan;
use fk_storage::Samples;
use fk_vfs::sim::SimVfs;

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const T0: i64 = 1_699_920_000_000 / (2 * HOUR) * 2 * HOUR;
const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

type Contents = BTreeMap<String, Vec<(i64, u64)>>;

fn open(vfs: &SimVfs, threshold: f64) -> Db {
    let mut options = DbOptions {
        vfs: Arc::new(vfs.clone()),
        now: Some(Now { wall_ms: T0, steady_ms: 0 }),
        ..DbOptions::new("/data")
    };
    options.config.stale_series_threshold = threshold;
    options.config.out_of_order_window_ms = HOUR;
    Db::open(options, &|_| {}).expect("open")
}

fn append(db: &Db, name: &str, t: i64, v: f64) {
    let mut batch = Batch::default();
    batch.push(db.resolve(&Labels::from_pairs([("__name__", name)])).expect("resolve"), t, v);
    let mut report = AppendReport::default();
    db.append(&batch, &mut report).expect("append");
    assert_eq!(report.rejected, []);
}

fn read(db: &Db) -> Contents {
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    let set = db.select(&params, &[], &Control::new()).expect("select");
    let (mut contents, mut samples) = (Contents::new(), Samples::default());
    for idx in 0..set.len() {
        set.read(idx, ALL, &mut samples).expect("read");
        let column = samples.t.iter().copied().zip(samples.v.iter().map(|v| v.to_bits())).collect();
        contents.insert(set.labels(idx).get("__name__").unwrap_or_default().to_owned(), column);
    }
    contents
}

/// Twelve series over three hours, of which eight have ended, one of them with a late sample.
fn filled(threshold: f64) -> (SimVfs, Db) {
    let vfs = SimVfs::new(3);
    let db = open(&vfs, threshold);
    for minute in (0..170).step_by(5) {
        for i in 0..12 {
            let ends = if i < 8 { 20 * i } else { 1000 };
            let t = T0 + minute * MINUTE;
            match minute.cmp(&ends) {
                std::cmp::Ordering::Less => append(&db, &format!("s{i}"), t, minute as f64),
                std::cmp::Ordering::Equal => append(&db, &format!("s{i}"), t, stale_nan()),
                std::cmp::Ordering::Greater => {}
            }
        }
    }
    append(&db, "s7", T0 + 130 * MINUTE + 1, 7.0);
    (vfs, db)
}

fn counts(db: &Db) -> (usize, u64) {
    (db.head_status().series, db.head.n_stale_series())
}

fn stale_blocks(db: &Db) -> usize {
    db.blocks().iter().filter(|meta| meta.compaction.hints == [HINT_STALE_SERIES]).count()
}

#[test]
fn stale_series_leave_the_head_and_stay_readable() {
    let (vfs, db) = filled(0.6);
    let expected = read(&db);
    assert_eq!(counts(&db), (12, 8));
    let now = Now { wall_ms: T0 + 170 * MINUTE, steady_ms: 1000 };
    let done = db.maintain(now, &Control::new()).expect("maintain");
    assert_eq!((done.head_blocks, stale_blocks(&db)), (2, 2), "0 to 2 hours, 2 to 4 hours");
    assert_eq!(counts(&db), (5, 1), "the one with a late sample stays");
    assert_eq!(read(&db), expected);
    // One that is there again is a series like any other.
    append(&db, "s3", T0 + 169 * MINUTE, 3.0);
    let mut later = expected.clone();
    later.get_mut("s3").expect("there").push((T0 + 169 * MINUTE, 3f64.to_bits()));
    assert_eq!(read(&db), later);
    // What the log has of those that are gone is not read into the head again, nor is it by way of an image.
    vfs.kill();
    drop(db);
    let db = open(&vfs, 0.6);
    assert_eq!((counts(&db), db.replayed().unknown_refs), ((6, 1), 0));
    assert_eq!(read(&db), later);
    append(&db, "s3", T0 + 170 * MINUTE, 4.0);
    later.get_mut("s3").expect("there").push((T0 + 170 * MINUTE, 4f64.to_bits()));
    db.write_image().expect("image");
    vfs.kill();
    drop(db);
    let db = open(&vfs, 0.6);
    assert_eq!((counts(&db), read(&db)), ((6, 1), later));
}

#[test]
fn an_image_from_before_and_the_log_after_it_agree() {
    let (vfs, db) = filled(0.6);
    let expected = read(&db);
    db.write_image().expect("image");
    db.maintain(Now { wall_ms: T0, steady_ms: 1000 }, &Control::new()).expect("maintain");
    append(&db, "s0", T0 + 170 * MINUTE, 4.0);
    vfs.kill();
    drop(db);
    let db = open(&vfs, 0.6);
    assert_eq!(counts(&db), (6, 1));
    let mut later = expected;
    later.get_mut("s0").expect("there").push((T0 + 170 * MINUTE, 4f64.to_bits()));
    assert_eq!(read(&db), later);
}

#[test]
fn few_stale_series_stay_in_the_head() {
    for threshold in [0.0, 0.7] {
        let (_vfs, db) = filled(threshold);
        db.maintain(Now { wall_ms: T0, steady_ms: 1000 }, &Control::new()).expect("maintain");
        assert_eq!((counts(&db), stale_blocks(&db)), ((12, 8), 0));
    }
}

/// A series that goes on while its block is written is not taken away.
#[test]
fn a_series_that_came_back_meanwhile_stays() {
    let (_vfs, db) = filled(0.6);
    let stale = db.head.stale_series();
    assert_eq!(stale.len(), 7);
    append(&db, "s2", T0 + 168 * MINUTE, 1.0);
    let logged = Cell::new(0);
    let removed = db.head.remove_stale(&stale, &|tombstones| {
        logged.set(logged.get() + tombstones.len());
        Ok(0)
    });
    assert_eq!((removed.expect("removed").series, logged.get()), (6, 6));
    assert_eq!(counts(&db), (6, 1));
    // What cannot be logged stays as well.
    append(&db, "s2", T0 + 169 * MINUTE, stale_nan());
    let stale = db.head.stale_series();
    db.head.remove_stale(&stale, &|_| Err(StorageError::Unsupported("anything"))).expect_err("the log refuses");
    assert_eq!(counts(&db), (6, 2));
}
