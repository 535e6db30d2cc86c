//! Images at work: what a start makes of a directory with one, whatever has become of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use fk_model::{Labels, stale_nan};
use fk_storage::{
    AppendReport, Appender, Batch, BatchSample, Control, Exemplar, Queryable, Samples, SelectParams, SeriesRef,
    TimeRange,
};
use fk_vfs::sim::{Fault, SimVfs};
use fk_wal::WalOptions;
use fk_wal::record::{encode_samples, encode_series};

use super::*;
use crate::{Db, DbOptions};

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };
const START: i64 = 1_700_000_000_000;

fn options(vfs: &SimVfs) -> DbOptions {
    let wal = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
    DbOptions { vfs: Arc::new(vfs.clone()), wal, ..DbOptions::new("/data") }
}

fn open(vfs: &SimVfs) -> Db {
    Db::open(options(vfs), &|_| {}).unwrap()
}

fn kill(db: Db, vfs: &SimVfs) {
    vfs.kill();
    drop(db);
}

fn load_image(vfs: &SimVfs) -> Result<()> {
    let files = ChunkFiles::new(Arc::new(vfs.clone()), PathBuf::from("/data/chunks_head"));
    let loaded = load(vfs, Path::new("/data"), Path::new("/data/wal"), HeadOptions::default(), files);
    loaded.map(|loaded| assert!(loaded.is_some()))
}

type Contents = Vec<(Labels, Vec<(i64, u64)>)>;

fn contents(db: &Db) -> Contents {
    let set = db.select(&SelectParams { range: ALL, sorted: true, limit: 0 }, &[], &Control::new()).unwrap();
    let mut samples = Samples::default();
    let read = |idx| {
        set.read(idx, ALL, &mut samples).unwrap();
        (set.labels(idx), samples.t.iter().copied().zip(samples.v.iter().map(|v| v.to_bits())).collect())
    };
    (0..set.len()).map(read).collect()
}

fn series(i: usize) -> Labels {
    let (job, number) = ((i % 3).to_string(), i.to_string());
    Labels::from_pairs([("__name__", "m"), ("job", &job), ("i", &number)])
}

/// Appends one sample to each of `count` series: constants, counters, fractions and markers of staleness.
fn scrape(db: &Db, n: i64, count: usize) {
    let mut batch = Batch::default();
    for i in 0..count {
        let v = match i % 4 {
            0 => 1.0,
            1 => (n * 7 + i as i64) as f64,
            2 => (n as f64 + i as f64).sqrt(),
            _ if n % 11 == 10 => stale_nan(),
            _ => n as f64,
        };
        batch.push(db.resolve(&series(i)).unwrap(), START + n * 15_000, v);
    }
    let mut report = AppendReport::default();
    db.append(&batch, &mut report).unwrap();
    assert_eq!((report.accepted, report.rejected.len()), (count, 0));
}

/// A killed storage with an image after `before` scrapes and `after` more; with what it held.
fn killed(vfs: &SimVfs, before: i64, after: i64, count: usize) -> Contents {
    let db = open(vfs);
    (0..before).for_each(|n| scrape(&db, n, count));
    db.write_image().unwrap();
    (before..before + after).for_each(|n| scrape(&db, n, count));
    let held = contents(&db);
    kill(db, vfs);
    held
}

/// Opens the directory; the storage has what it held, from the image if `from_image`.
#[track_caller]
fn check(vfs: &SimVfs, held: &Contents, from_image: bool, what: &str) -> Db {
    let db = open(vfs);
    assert!(contents(&db) == *held, "{what}");
    let replayed = db.replayed().samples;
    let all: u64 = held.iter().map(|(_, samples)| samples.len() as u64).sum();
    assert_eq!(replayed < all, from_image, "{what}: {replayed} of {all} samples replayed");
    db
}

fn files_of_image(vfs: &SimVfs) -> Vec<PathBuf> {
    vfs.files().into_iter().filter(|path| path.starts_with("/data/head_image")).collect()
}

#[test]
fn a_start_reads_the_image_and_the_log_that_came_after() {
    let vfs = SimVfs::new(1);
    // Some chunks are completed, some series are runs, some have one sample.
    let held = killed(&vfs, 300, 3, 12);
    let db = check(&vfs, &held, true, "after a kill");
    assert_eq!(db.replayed().samples, 36);
    assert_eq!(db.head_status().series, 12);
    // And it goes on: the same references, the same chunks, another image.
    (303..420).for_each(|n| scrape(&db, n, 14));
    db.write_image().unwrap();
    assert_eq!(files_of_image(&vfs).len(), 2, "the image before is gone");
    let held = contents(&db);
    kill(db, &vfs);
    let db = check(&vfs, &held, true, "after a second image");
    assert_eq!(db.replayed().samples, 0);
    let chunks = db.head_status().chunks;
    drop(db);
    vfs::remove_dir_all(&vfs, Path::new("/data/head_image")).unwrap();
    let db = check(&vfs, &held, false, "out of the log alone");
    assert_eq!(db.head_status().chunks, chunks, "chunks are cut at the same places");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Appends, images, kills and orderly ends in any order: with and without its image a directory has the same.
    #[test]
    fn an_image_changes_nothing_but_the_time(
        steps in prop::collection::vec((0u8..12, prop::collection::vec((0usize..20, -2i64..3, 0u8..5), 1..20)), 1..60),
        seed in any::<u64>(),
    ) {
        let vfs = SimVfs::new(seed);
        let mut db = open(&vfs);
        let mut now = START;
        for (what, samples) in &steps {
            now += 60_000;
            let mut batch = Batch::default();
            for (i, jitter, v) in samples {
                let v = match v { 0 => stale_nan(), v => f64::from(*v) };
                batch.push(db.resolve(&series(*i)).unwrap(), now + jitter * 30_000, v);
            }
            db.append(&batch, &mut AppendReport::default()).unwrap();
            match what {
                0..3 => db.write_image().unwrap(),
                3 => {
                    db.close().unwrap();
                    db = open(&vfs);
                }
                4..6 => {
                    let held = contents(&db);
                    kill(db, &vfs);
                    let plain = vfs.fork(seed);
                    vfs::remove_dir_all(&plain, Path::new("/data/head_image")).unwrap();
                    let (without, with) = (open(&plain), open(&vfs));
                    prop_assert_eq!(contents(&without), held.clone());
                    prop_assert_eq!(contents(&with), held);
                    prop_assert_eq!(without.head_status(), with.head_status());
                    db = with;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn chunks_in_files_stay_where_they_are() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs);
    (0..260).for_each(|n| scrape(&db, n, 12));
    assert!(db.spill().unwrap().chunks > 12);
    (260..390).for_each(|n| scrape(&db, n, 12));
    db.write_image().unwrap();
    // These are in the image with their bytes; a later file has them as well.
    assert!(db.spill().unwrap().chunks > 10);
    let held = contents(&db);
    kill(db, &vfs);
    let chunk_files =
        |vfs: &SimVfs| -> Vec<_> { vfs.files().into_iter().filter(|f| f.starts_with("/data/chunks_head")).collect() };
    let before = chunk_files(&vfs);
    assert!(!before.is_empty());
    let damaged = vfs.fork(2);
    let db = check(&vfs, &held, true, "out of the files");
    assert_eq!(db.replayed().samples, 0);
    // What had been in memory is spilled again, behind the files there are.
    db.spill().unwrap();
    assert_eq!(chunk_files(&vfs)[..before.len()], before, "the files are used further");
    assert_eq!(chunk_files(&vfs).len(), before.len() + 1);
    assert!(contents(&db) == held);

    // A change at the end of what the image knows of a file, or at its beginning.
    for at in [20, 100] {
        let vfs = damaged.fork(at as u64);
        let mut bytes = vfs.get(&before[0]).unwrap();
        bytes[at] ^= 1;
        vfs.put(&before[0], &bytes);
        check(&vfs, &held, false, "a changed file of chunks");
    }
    damaged.remove_file(&before[0]).unwrap();
    check(&damaged, &held, false, "a file of chunks that is gone");
}

#[test]
fn what_a_truncation_has_dropped_stays_dropped() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs);
    // The first ten series end, the others go on; strings and references of the first are forgotten.
    (0..10).for_each(|n| scrape(&db, n, 40));
    let mut batch = Batch::default();
    for n in 10..600 {
        batch.clear();
        (10..40).for_each(|i| batch.push(db.resolve(&series(i)).unwrap(), START + n * 15_000, n as f64));
        db.append(&batch, &mut AppendReport::default()).unwrap();
    }
    let mint = START + 480 * 15_000;
    let truncated = db.head().truncate(mint, 7).unwrap();
    assert_eq!(truncated.series, 10);
    assert!(truncated.strings > 5);
    let gone = SeriesRef(1);
    let needed = |db: &Db| (db.head().is_needed_in_checkpoint(gone, 6), db.head().is_needed_in_checkpoint(gone, 7));
    assert_eq!(needed(&db), (true, false));
    scrape(&db, 600, 3);
    db.write_image().unwrap();
    let (held, status) = (contents(&db), db.head_status());
    kill(db, &vfs);
    let db = open(&vfs);
    assert_eq!((db.replayed().samples, contents(&db) == held), (0, true));
    assert_eq!(db.head_status().chunks, status.chunks);
    assert_eq!((db.head().min_valid_time(), needed(&db)), (mint, (true, false)));
    // New strings take the places of old ones, and all labels are still right.
    scrape(&db, 601, 60);
    let names: Vec<_> = contents(&db).into_iter().map(|(labels, _)| labels).collect();
    let mut expected: Vec<_> = (0..60).map(series).collect();
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn exemplars_come_from_the_image_and_from_the_log_after_it() {
    let vfs = SimVfs::new(1);
    let open = |vfs: &SimVfs, max| {
        let mut options = options(vfs);
        options.config.exemplars_max = max;
        Db::open(options, &|_| {}).unwrap()
    };
    let db = open(&vfs, 10);
    let append = |n: i64| {
        let mut batch = Batch::default();
        let reference = db.resolve(&series(n as usize % 3)).unwrap();
        batch.push(reference, START + n, 1.0);
        let labels = Labels::from_pairs([("trace_id", n.to_string())]);
        batch.exemplars.push((reference, Exemplar { labels, v: n as f64, t: START + n }));
        db.append(&batch, &mut AppendReport::default()).unwrap();
    };
    (0..14).for_each(append);
    db.write_image().unwrap();
    (14..17).for_each(append);
    let held = db.exemplars(ALL, &[]).unwrap();
    assert_eq!(held.iter().map(|s| s.exemplars.len()).sum::<usize>(), 10);
    kill(db, &vfs);
    let db = open(&vfs.fork(1), 10);
    assert_eq!((db.replayed().samples, db.exemplars(ALL, &[]).unwrap() == held), (3, true));
    let db = open(&vfs.fork(1), 4);
    let newest: Vec<_> = db.exemplars(ALL, &[]).unwrap().into_iter().flat_map(|s| s.exemplars).map(|e| e.t).collect();
    assert_eq!(newest.len(), 4);
    assert!(newest.iter().all(|t| *t >= START + 13));
}

#[test]
fn a_changed_byte_costs_time_and_nothing_else() {
    let vfs = SimVfs::new(1);
    let held = killed(&vfs, 130, 2, 6);
    for path in files_of_image(&vfs) {
        let bytes = vfs.get(&path).unwrap();
        for at in 0..bytes.len() {
            let vfs = vfs.fork(at as u64);
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            vfs.put(&path, &damaged);
            let what = format!("{} byte {at}", path.display());
            assert!(load_image(&vfs).is_err(), "{what}");
            if at % 50 == 0 {
                check(&vfs, &held, false, &what);
            }
        }
        for len in (0..bytes.len()).step_by(97) {
            let vfs = vfs.fork(len as u64);
            vfs.put(&path, &bytes[..len]);
            check(&vfs, &held, false, &format!("{} cut at {len}", path.display()));
        }
        let vfs = vfs.fork(0);
        vfs.remove_file(&path).unwrap();
        check(&vfs, &held, false, &format!("without {}", path.display()));
    }
}

#[test]
fn an_image_counts_only_with_its_log_and_its_options() {
    let vfs = SimVfs::new(1);
    // Several segments before the image and after it.
    let held = killed(&vfs, 130, 300, 100);
    let segments = Listing::read(&vfs, Path::new("/data/wal")).unwrap().segments;
    let manifest = Manifest::decode(&vfs.get(Path::new("/data/head_image/manifest")).unwrap()).unwrap();
    let at = manifest.log.number;
    assert!(segments[0] < at && at + 1 < *segments.last().unwrap(), "{segments:?} {at}");
    check(&vfs.fork(1), &held, true, "untouched");

    let wal = Path::new("/data/wal");
    let refused = |what: &str, change: &dyn Fn(&SimVfs)| {
        let vfs = vfs.fork(1);
        change(&vfs);
        let error = load_image(&vfs).unwrap_err();
        assert_eq!(error.to_string(), what);
        drop(open(&vfs));
    };
    refused("segments of the log are missing", &|vfs| vfs.remove_file(&segment_path(wal, at + 1)).unwrap());
    refused("the log is not the one it was written with", &|vfs| {
        let path = segment_path(wal, at);
        let mut bytes = vfs.get(&path).unwrap();
        bytes[manifest.log.offset as usize - 1] ^= 1;
        vfs.put(&path, &bytes);
    });
    refused("the log is not the one it was written with", &|vfs| {
        let path = segment_path(wal, at);
        let bytes = vfs.get(&path).unwrap();
        vfs.put(&path, &bytes[..manifest.log.offset as usize - 1]);
        (at + 1..=*segments.last().unwrap()).for_each(|s| vfs.remove_file(&segment_path(wal, s)).unwrap());
    });
    refused("a later checkpoint stands for the segment it goes on from", &|vfs| {
        vfs.put(&fk_wal::checkpoint_path(wal, at).join("00000000"), b"");
    });
    refused("it was written with other options", &|vfs| {
        let mut manifest = manifest.clone();
        manifest.samples_per_chunk = 60;
        vfs.put(Path::new("/data/head_image/manifest"), &manifest.encode());
    });
    refused("chunks it refers to are gone", &|vfs| {
        let mut manifest = manifest.clone();
        let mark = Mark { number: 3, offset: 4, crc: crc32c::crc32c(b"abcd") };
        manifest.chunk_files.push(ChunkFile { begin: mark, end: mark, max_time: 0 });
        vfs.put(Path::new("/data/chunks_head/000003"), b"abcx");
        vfs.put(Path::new("/data/head_image/manifest"), &manifest.encode());
    });
    refused("another version has written it", &|vfs| {
        let mut bytes = manifest.encode();
        bytes[7] += 1;
        let crc = crc32c::crc32c(&bytes[..bytes.len() - 4]);
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        vfs.put(Path::new("/data/head_image/manifest"), &bytes);
    });
    // Segments before the image are not needed for it.
    let without_old = vfs.fork(1);
    without_old.remove_file(&segment_path(wal, segments[0])).unwrap();
    check(&without_old, &held, true, "without an old segment");
}

#[test]
fn a_log_that_names_other_series_is_read_as_a_whole() {
    let vfs = SimVfs::new(1);
    let mut held = killed(&vfs, 10, 0, 3);
    // Somebody else has gone on with the log and has given reference 1 to another series.
    let wal = Wal::open(Arc::new(vfs.clone()), Path::new("/data/wal"), WalOptions::default()).unwrap();
    let (other, mut bytes) = (Labels::from_pairs([("__name__", "other")]), Vec::new());
    encode_series([(SeriesRef(1), &other)], &mut bytes);
    wal.log(&[&bytes]).unwrap();
    bytes.clear();
    encode_samples(&[BatchSample { series: SeriesRef(1), t: START + 900_000, v: 5.0 }], &mut bytes);
    wal.log(&[&bytes]).unwrap();
    wal.close().unwrap();
    held.push((other, vec![(START + 900_000, 5.0_f64.to_bits())]));
    held.sort();
    let db = check(&vfs, &held, false, "as the log says");
    assert_eq!(db.replayed().renamed_refs, 1);
}

#[test]
fn appends_go_on_while_an_image_is_written() {
    for round in 0..8 {
        let vfs = SimVfs::new(round);
        let db = Arc::new(open(&vfs));
        scrape(&db, 0, 8);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let (db, stop) = (Arc::clone(&db), Arc::clone(&stop));
            move || {
                let mut n = 1;
                while !stop.load(Ordering::Acquire) || n < 20 {
                    // New series keep coming.
                    scrape(&db, n, 8 + n as usize % 500);
                    n += 1;
                }
            }
        });
        for _ in 0..4 {
            db.write_image().unwrap();
        }
        stop.store(true, Ordering::Release);
        writer.join().unwrap();
        let held = contents(&db);
        kill(Arc::into_inner(db).unwrap(), &vfs);
        check(&vfs, &held, true, "written beside appends");
    }
}

#[test]
fn a_fault_while_an_image_is_written_leaves_the_storage_as_it_was() {
    let vfs = SimVfs::new(1);
    let held = killed(&vfs, 20, 1, 5);
    let operations = {
        let vfs = vfs.fork(0);
        let db = open(&vfs);
        let before = vfs.operations();
        db.write_image().unwrap();
        vfs.operations() - before
    };
    assert!(operations > 10, "{operations}");
    for n in 0..operations {
        for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::PowerOff] {
            let vfs = vfs.fork(n);
            let db = open(&vfs);
            vfs.inject(vfs.operations() + n, 1, fault);
            // It may succeed, where only something was to be tidied up.
            let _ = db.write_image();
            assert!(contents(&db) == held);
            match fault {
                Fault::PowerOff => vfs.crash(),
                _ => vfs.kill(),
            }
            vfs.heal();
            drop(db);
            // All that was appended was durable before, so a power cut takes nothing either.
            assert!(contents(&open(&vfs)) == held, "{fault:?} in operation {n}");
        }
    }
}

#[test]
fn an_image_is_written_when_it_is_worth_it() {
    const MIB: u64 = 1 << 20;
    let cases = [
        // Bytes of log since the image, bytes of the image, whether nothing is logged: whether one is written.
        (0, 0, true, false),
        (4 * MIB, 0, true, false),
        (5 * MIB, 0, true, true),
        (31 * MIB, 0, false, false),
        (32 * MIB, 0, false, true),
        (32 * MIB, 128 * MIB, false, true),
        (32 * MIB, 200 * MIB, false, false),
        (50 * MIB, 200 * MIB, false, true),
    ];
    for (tail, image, idle, expected) in cases {
        assert_eq!(is_worth_it(tail, image, idle), expected, "{tail} {image} {idle}");
    }
    let mut state = State { segment: None, bytes: 0, logged: -10, seen: None };
    assert_eq!((state.tail(0), state.tail(5)), (10, 15));
    assert!(!state.is_idle(5, 1_000_000), "seen for the first time");
    assert!(!state.is_idle(5, 1_000_000 + IDLE_MS - 1));
    assert!(state.is_idle(5, 1_000_000 + IDLE_MS));
    assert!(!state.is_idle(6, 1_000_000 + IDLE_MS));
}

#[test]
fn an_orderly_end_writes_an_image() {
    let vfs = SimVfs::new(1);
    let db = open(&vfs);
    scrape(&db, 0, 10);
    db.close().unwrap();
    assert!(files_of_image(&vfs).is_empty(), "this is read again in no time");
    let db = open(&vfs);
    let mut n = 1;
    while db.wal_stats().bytes < CLOSE_TAIL_BYTES {
        scrape(&db, n, 2000);
        n += 1;
    }
    let held = contents(&db);
    db.close().unwrap();
    let db = check(&vfs, &held, true, "after an orderly end");
    assert_eq!(db.replayed().samples, 0);
    let before = files_of_image(&vfs);
    db.close().unwrap();
    assert_eq!(files_of_image(&vfs), before, "there is nothing new to keep");
    // Once a checkpoint stands for the segment the image goes on from, it is of no use.
    let db = open(&vfs);
    assert!(!db.maintain_image(0, &Control::new()).unwrap());
    let last = Listing::read(&vfs, Path::new("/data/wal")).unwrap().segments.last().copied().unwrap();
    vfs.put(&fk_wal::checkpoint_path(Path::new("/data/wal"), last - 1).join("00000000"), b"");
    scrape(&db, n, 10);
    assert!(db.maintain_image(0, &Control::new()).unwrap());
    assert!(!db.maintain_image(0, &Control::new()).unwrap());
}
