//! Tests of the log as a whole. Records are numbered, and what record n says follows from n, so that a test sees at once
//! which records came back, in what order, and whether one was altered or made up.

mod damage;
mod faults;

use std::convert::Infallible;

use fk_storage::{BatchSample, SeriesRef};

use super::record::{Record, encode_samples};
use super::*;
use fk_vfs::OsVfs;
use fk_vfs::sim::SimVfs;

const DIR: &str = "/data/wal";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn sim(seed: u64) -> Arc<SimVfs> {
    let vfs = SimVfs::new(seed);
    vfs.put(Path::new("/data/keep"), b"");
    Arc::new(vfs)
}

fn options(compression: Compression, segment_bytes: u64) -> WalOptions {
    WalOptions { segment_bytes, compression, reserve: false }
}

/// The samples of record `n`, `count` of them.
fn samples(n: u64, count: usize) -> impl Iterator<Item = BatchSample> {
    (0..count as u64).map(move |i| BatchSample {
        series: SeriesRef(n),
        t: i as i64,
        v: f64::from_bits((n << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    })
}

fn encode(n: u64, count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encode_samples(&samples(n, count).collect::<Vec<_>>(), &mut out);
    out
}

/// The number of a record, after a check that it says what record of that number says.
fn number(record: &Record<'_>) -> u64 {
    let Record::Samples(record) = record else { panic!("only samples are logged: {record:?}") };
    let found: Vec<_> = record.iter().map(|s| (s.series, s.t, s.v.to_bits())).collect();
    let n = found.first().expect("no record is empty").0.0;
    let expected: Vec<_> = samples(n, found.len()).map(|s| (s.series, s.t, s.v.to_bits())).collect();
    assert_eq!(found, expected, "record {n} was altered");
    n
}

/// Replays the log: the numbers of its records, and the report.
fn read(vfs: &dyn Vfs, dir: &Path) -> (Vec<u64>, ReplayReport) {
    let mut numbers = Vec::new();
    let report = replay::<Infallible>(vfs, dir, &mut |_, record| {
        numbers.push(number(&record));
        Ok(())
    })
    .expect("the log can be read");
    assert_eq!(report.records, numbers.len() as u64);
    (numbers, report)
}

fn all_to(n: u64) -> Vec<u64> {
    (0..n).collect()
}

#[test]
fn records_come_back_in_order() {
    fn check(vfs: Arc<dyn Vfs>, dir: &Path, compression: Compression, reserve: bool) {
        let options = WalOptions { segment_bytes: 100_000, compression, reserve };
        let wal = Wal::open(Arc::clone(&vfs), dir, options).expect("open");
        for n in 0..40 {
            // Two records a call; some take several pages.
            let (one, two) = (encode(2 * n, 1 + n as usize * 7), encode(2 * n + 1, if n % 9 == 0 { 9_000 } else { 3 }));
            wal.log(&[&one, &[], &two]).expect("log");
        }
        wal.log(&[]).expect("nothing is fine");
        let stats = wal.stats();
        assert_eq!((stats.records, stats.writes, stats.writes_failed), (80, 40, 0));
        assert_eq!(wal.segments().expect("segments").last(), Some(&stats.segment));
        assert!(stats.segment >= 4 && stats.fragments > 80 && stats.pages > 8, "{stats:?}");
        assert_eq!(wal.size_bytes().expect("size"), stats.bytes, "nothing is written beside the records");
        wal.close().expect("close");
        assert_eq!(wal.stats().unsynced_bytes, 0);
        assert!(matches!(wal.log(&[&encode(0, 1)]), Err(WalError::Closed)));
        let (numbers, report) = read(&*vfs, dir);
        assert_eq!(numbers, all_to(80));
        assert!(report.is_clean() && report.torn_tail.is_none() && report.bytes == stats.bytes, "{report:?}");
    }
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        check(sim(1), dir(), compression, false);
        check(sim(1), dir(), compression, true);
        let temp = fk_testkit::TempDir::new("wal");
        check(Arc::new(OsVfs), &temp.path().join("wal"), compression, true);
    }
}

#[test]
fn reserved_space_is_written_to_when_the_disk_is_full() {
    let vfs = sim(1);
    let free = || vfs.free_bytes(dir()).expect("free");
    vfs.set_capacity(Some(20 << 20));
    let options = WalOptions { segment_bytes: 10 << 20, compression: Compression::None, reserve: true };
    let wal = Wal::open(vfs.clone(), dir(), options).expect("open");
    wal.log(&[&encode(0, 1)]).expect("log");
    assert!(free() < (19 << 20) && free() > (18 << 20), "a megabyte is reserved: {} free", free());
    // Somebody else takes the rest.
    vfs.set_capacity(Some((20 << 20) - free()));
    for n in 1..100 {
        wal.log(&[&encode(n, 1)]).expect("there is room in the reserve");
    }
    assert_eq!(free(), 0);
    vfs.set_capacity(Some(20 << 20));
    wal.close().expect("close");
    assert_eq!((20 << 20) - free(), wal.size_bytes().expect("size"), "what was not needed is given back");
    assert_eq!(read(&*vfs, dir()).0, all_to(100));
}

#[test]
fn records_survive_every_position_at_a_page_border() {
    // The record before fills a page up to `room` bytes before its end.
    for room in (0..40).chain([page::PAGE_BYTES - 30]) {
        for count in [1, 2, 5, 3_000, 9_000] {
            let vfs = sim(1);
            let wal = Wal::open(vfs.clone(), dir(), options(Compression::None, 1 << 30)).expect("open");
            // A record of kind 200 is not looked into, so it can have any length.
            let filler = vec![200; page::PAGE_BYTES - page::HEADER_BYTES - room];
            wal.log(&[&filler, &encode(0, count), &encode(1, 1)]).expect("log");
            let mut numbers = Vec::new();
            let report = replay::<Infallible>(&*vfs, dir(), &mut |_, record| {
                if !matches!(record, Record::Unsupported { kind: 200 }) {
                    numbers.push(number(&record));
                }
                Ok(())
            })
            .expect("replay");
            assert_eq!(numbers, [0, 1], "{room} {count}");
            assert!(report.is_clean() && report.torn_tail.is_none());
            assert_eq!(report.unsupported.into_iter().collect::<Vec<_>>(), [(200, 1)]);
        }
    }
}

#[test]
fn a_start_begins_a_new_segment_and_reads_all_of_them() {
    let vfs = sim(1);
    for start in 0..5 {
        let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
        wal.log(&[&encode(start, 5)]).expect("log");
        assert_eq!(wal.segments().expect("segments"), (0..=start as u32).collect::<Vec<_>>());
        vfs.kill();
    }
    assert_eq!(read(&*vfs, dir()).0, all_to(5));
}

#[test]
fn a_call_is_one_operation_and_goes_to_one_segment() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), options(Compression::Snappy, 50_000)).expect("open");
    let before = vfs.operations();
    let records: Vec<Vec<u8>> = (0..20).map(|n| encode(n, 100)).collect();
    wal.log(&records.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("log");
    assert_eq!(vfs.operations(), before + 1);
    // Bigger than a segment: it gets one for itself.
    let big: Vec<Vec<u8>> = (20..80).map(|n| encode(n, 1000)).collect();
    wal.log(&big.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("log");
    assert_eq!(wal.segments().expect("segments"), [0, 1]);
    wal.log(&[&encode(80, 1)]).expect("log");
    assert_eq!(wal.segments().expect("segments"), [0, 1, 2]);
    assert_eq!(read(&*vfs, dir()).0, all_to(81));
}

#[test]
fn a_sync_costs_nothing_when_nothing_was_logged() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    let before = vfs.operations();
    wal.sync().expect("sync");
    assert_eq!(vfs.operations(), before);
    wal.log(&[&encode(0, 1)]).expect("log");
    wal.sync().expect("sync");
    wal.sync().expect("sync");
    assert_eq!(vfs.operations(), before + 2);
    assert_eq!(wal.stats().syncs, 1);
}

#[test]
fn cutting_and_truncating_leave_what_is_newer() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    assert_eq!(wal.cut().expect("cut"), 0, "an empty segment is not left behind");
    for n in 0..4 {
        wal.log(&[&encode(n, 5)]).expect("log");
        assert_eq!(wal.cut().expect("cut"), n as u32 + 1);
    }
    assert_eq!(wal.truncate_before(2).expect("truncate"), 2);
    assert_eq!(read(&*vfs, dir()).0, [2, 3]);
    assert_eq!(wal.truncate_before(100).expect("truncate"), 2);
    assert_eq!(wal.segments().expect("segments"), [4], "the current one stays");
    wal.log(&[&encode(9, 5)]).expect("log");
    assert_eq!(read(&*vfs, dir()).0, [9]);
}

#[test]
fn the_newest_checkpoint_stands_for_the_segments_up_to_its_number() {
    let vfs = sim(1);
    let segment = |numbers: &[u64]| {
        let scratch = sim(1);
        let wal = Wal::open(scratch.clone(), dir(), WalOptions::default()).expect("open");
        for n in numbers {
            wal.log(&[&encode(*n, 5)]).expect("log");
        }
        scratch.get(&segment_path(dir(), 0)).expect("segment")
    };
    let put = |path: &Path, numbers: &[u64]| vfs.put(path, &segment(numbers));
    put(&segment_path(&checkpoint_path(dir(), 1), 0), &[100]);
    put(&segment_path(&checkpoint_path(dir(), 3), 0), &[0, 1]);
    put(&segment_path(&checkpoint_path(dir(), 3), 1), &[2]);
    put(&segment_path(dir(), 3), &[101]);
    put(&segment_path(dir(), 4), &[3]);
    put(&segment_path(dir(), 5), &[4]);
    let (numbers, report) = read(&*vfs, dir());
    assert_eq!(numbers, all_to(5));
    assert_eq!((report.checkpoint, report.segments.as_slice(), report.is_clean()), (Some(3), [4, 5].as_slice(), true));

    // An empty newer one is an accident.
    vfs.put(&checkpoint_path(dir(), 4).join("x"), b"");
    let (numbers, report) = read(&*vfs, dir());
    assert_eq!((numbers, report.checkpoint), (all_to(5), Some(3)));
    assert_eq!(report.damages[0].span.reason, scan::Reason::EmptyCheckpoint);

    // With no segment left, the next one must not be one that the checkpoint hides.
    let vfs = sim(1);
    vfs.put(&segment_path(&checkpoint_path(dir(), 7), 0), &segment(&[0]));
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    wal.log(&[&encode(1, 5)]).expect("log");
    assert_eq!(wal.segments().expect("segments"), [8]);
    assert_eq!(read(&*vfs, dir()).0, all_to(2));
}

#[test]
fn a_receiver_can_stop_the_replay() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    (0..9).for_each(|n| wal.log(&[&encode(n, 5)]).expect("log"));
    let mut seen = Vec::new();
    let result = replay(&*vfs, dir(), &mut |position, record| {
        seen.push((position, number(&record)));
        if seen.len() == 3 { Err("enough") } else { Ok(()) }
    });
    assert!(matches!(result, Err(ReplayError::Stopped("enough"))));
    assert!(seen.is_sorted() && seen[0].0 == Position { segment: SegmentId::Log(0), offset: 0 }, "{seen:?}");
}

#[test]
fn writers_and_syncs_can_run_at_the_same_time() {
    const WRITERS: u64 = 4;
    const RECORDS: u64 = 300;
    let temp = fk_testkit::TempDir::new("wal-threads");
    let systems: [(Arc<dyn Vfs>, &Path); 2] = [(sim(1), dir()), (Arc::new(OsVfs), temp.path())];
    for (vfs, dir) in systems {
        let wal = Wal::open(Arc::clone(&vfs), dir, options(Compression::Snappy, 60_000)).expect("open");
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let wal = &wal;
                scope.spawn(move || {
                    for i in 0..RECORDS {
                        wal.log(&[&encode(writer * RECORDS + i, 1 + i as usize % 50)]).expect("log");
                        if i % 16 == writer {
                            wal.sync().expect("sync");
                        }
                    }
                });
            }
        });
        wal.close().expect("close");
        let (mut numbers, report) = read(&*vfs, dir);
        assert!(report.is_clean() && report.segments.len() > 1);
        for writer in 0..WRITERS {
            let own = writer * RECORDS..(writer + 1) * RECORDS;
            assert!(numbers.iter().filter(|n| own.contains(n)).is_sorted(), "a writer's records stay in order");
        }
        numbers.sort_unstable();
        assert_eq!(numbers, all_to(WRITERS * RECORDS));
    }
}

#[test]
fn what_is_not_synced_stays_bounded() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), options(Compression::None, 1 << 40)).expect("open");
    let record = vec![7; UNSYNCED_BYTES_MAX / 4];
    for _ in 0..9 {
        wal.log(&[&record]).expect("log");
        assert!(wal.stats().unsynced_bytes <= UNSYNCED_BYTES_MAX as u64);
    }
    assert!(wal.stats().syncs >= 2);
    let too_long = vec![7; RECORD_BYTES_MAX + 1];
    assert!(matches!(wal.log(&[&too_long]), Err(WalError::RecordTooLong { .. })));
}

#[test]
fn a_replay_begins_where_it_is_told() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), options(Compression::Snappy, 100_000)).expect("open");
    for n in 0..60 {
        wal.log(&[&encode(n, 1 + n as usize * 17)]).expect("log");
    }
    let mut positions = Vec::new();
    let all = replay::<Infallible>(&*vfs, dir(), &mut |position, _| {
        positions.push(position);
        Ok(())
    });
    let all = all.expect("replay");
    assert!(all.segments.len() >= 3 && all.is_clean(), "{all:?}");
    for (n, position) in positions.iter().enumerate() {
        let SegmentId::Log(segment) = position.segment else { panic!("there is no checkpoint") };
        let start = Start::At { segment, offset: position.offset };
        let mut found = Vec::new();
        let report = replay_from::<Infallible>(&*vfs, dir(), start, &mut |_, record| {
            found.push(number(&record));
            Ok(())
        });
        let report = report.expect("replay");
        assert_eq!(found, (n as u64..60).collect::<Vec<_>>(), "from {position:?}");
        assert!(report.is_clean() && report.torn_tail.is_none(), "{report:?}");
        assert_eq!(report.segments, all.segments[(segment - all.segments[0]) as usize..]);
    }
    // A checkpoint is not looked at, and the first segment has to be there.
    vfs.put(&checkpoint_path(dir(), 0).join("00000000"), &[]);
    let report = replay_from::<Infallible>(&*vfs, dir(), Start::At { segment: 1, offset: 0 }, &mut |_, _| Ok(()));
    assert_eq!(report.expect("replay").checkpoint, None);
    vfs.remove_file(&segment_path(dir(), 1)).expect("remove");
    let report = replay_from::<Infallible>(&*vfs, dir(), Start::At { segment: 1, offset: 0 }, &mut |_, _| Ok(()));
    assert_eq!(report.expect("replay").gaps, [Gap { first: 1, last: 1 }]);
}

#[test]
fn who_takes_the_records_can_stop_the_replay() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    // More than is ever read ahead.
    for n in 0..600 {
        wal.log(&[&encode(n, 2_000)]).expect("log");
    }
    for stop in [0, 1, 299, 599] {
        let mut next = 0;
        let result = replay(&*vfs, dir(), &mut |_, record| {
            assert_eq!(number(&record), next);
            next += 1;
            if next > stop { Err(stop) } else { Ok(()) }
        });
        assert!(matches!(result, Err(ReplayError::Stopped(n)) if n == stop));
        assert_eq!(next, stop + 1);
    }
}
