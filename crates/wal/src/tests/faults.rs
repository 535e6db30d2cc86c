//! Power cuts and failing files at every operation.

use std::collections::BTreeSet;

use super::*;
use fk_vfs::sim::Fault;

/// What a run of the script was told.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Records whose logging succeeded.
    logged: Vec<u64>,
    /// How many of these were logged when the last successful sync began.
    synced: usize,
    /// Records whose logging was tried.
    tried: u64,
}

/// Segments of the script: a few dozen records each.
const SEGMENT_BYTES: u64 = 10_000;

/// Opens the log and runs a script of about a hundred calls over a few small segments, whatever fails on the way.
fn run(vfs: &Arc<SimVfs>, told: &mut Told) -> Option<Wal> {
    let wal = Wal::open(vfs.clone(), dir(), options(Compression::Snappy, SEGMENT_BYTES)).ok()?;
    for step in 0..60u64 {
        // One record is longer than a page, and than a segment.
        let count = if step == 20 { 3_300 } else { [1, 40, 150, 3, 90][step as usize % 5] };
        log_one(&wal, told, count);
        match step % 8 {
            2 | 5 => sync(&wal, told),
            7 if step % 3 == 0 => drop(wal.cut()),
            _ => {}
        }
    }
    Some(wal)
}

fn log_one(wal: &Wal, told: &mut Told, count: usize) {
    let n = told.tried;
    told.tried += 1;
    if wal.log(&[&encode(n, count)]).is_ok() {
        told.logged.push(n);
    }
}

fn sync(wal: &Wal, told: &mut Told) {
    let logged = told.logged.len();
    if wal.sync().is_ok() {
        told.synced = logged;
    }
}

fn recovered(vfs: &SimVfs) -> (Vec<u64>, ReplayReport) {
    let mut numbers = Vec::new();
    let result = recover::<Infallible>(vfs, dir(), &mut |_, record| {
        numbers.push(number(&record));
        Ok(())
    });
    (numbers, result.expect("recovery").0)
}

#[test]
fn a_power_cut_loses_at_most_the_unsynced_end() {
    let vfs = sim(0);
    run(&vfs, &mut Told::default()).expect("without faults");
    let operations = vfs.operations();
    assert!(operations > 100, "{operations}");
    let mut lost_something = 0;
    for at in 0..operations {
        for seed in 0..8 {
            let vfs = sim(seed * 1_000_003 + at);
            let mut told = Told::default();
            vfs.inject(at, 1, Fault::PowerOff);
            run(&vfs, &mut told);
            vfs.crash();

            let (found, report) = recovered(&vfs);
            let what = format!("cut before operation {at}, seed {seed}");
            // Up to the cut all calls succeed, so the records are a row; the one being written may have come through.
            assert_eq!(found, all_to(found.len() as u64), "{what}: a loss in the middle");
            assert!(found.len() >= told.synced, "{what}: {} of {} synced records", found.len(), told.synced);
            assert!(found.len() <= told.logged.len() + 1, "{what}: records made up");
            assert!(report.is_clean(), "{what}: {report:?}");
            lost_something += usize::from(found.len() < told.logged.len());

            // And it goes on from there.
            let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
            wal.log(&[&encode(found.len() as u64, 7)]).expect("log");
            wal.sync().expect("sync");
            vfs.crash();
            assert_eq!(read(&*vfs, dir()).0, all_to(found.len() as u64 + 1), "{what}, then started again");
        }
    }
    assert!(lost_something > 50, "the sweep does cut power at bad moments");
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_more() {
    let mut runs = 0;
    for at in (3..100).step_by(7) {
        let vfs = sim(at);
        let mut told = Told::default();
        vfs.inject(at, 1, Fault::PowerOff);
        run(&vfs, &mut told);
        vfs.crash();
        // Damage on top of the cut, so that the recovery has something to do.
        if let Some(mut bytes) = vfs.get(&segment_path(dir(), 0)).filter(|b| b.len() > 2_000) {
            bytes[1_000] ^= 4;
            vfs.put(&segment_path(dir(), 0), &bytes);
        }
        let (expected, _) = read(&*vfs, dir());
        let reference = vfs.fork(1);
        let before = reference.operations();
        recovered(&reference);
        Wal::open(Arc::new(reference.clone()), dir(), WalOptions::default()).expect("open");
        for again in before..reference.operations() {
            let vfs = vfs.fork(at * 1_000 + again);
            vfs.inject(again, 1, Fault::PowerOff);
            if recover::<Infallible>(&vfs, dir(), &mut |_, _| Ok(())).is_ok() {
                // The power may have gone after the last step that matters, or within one that may fail.
                let _ = Wal::open(Arc::new(vfs.clone()), dir(), WalOptions::default());
            }
            vfs.crash();
            assert_eq!(recovered(&vfs).0, expected, "cut before {at}, then before {again} of the recovery");
            assert!(read(&vfs, dir()).1.is_clean());
            runs += 1;
        }
    }
    assert!(runs > 200, "{runs}");
}

#[test]
fn after_a_fault_the_log_goes_on_and_has_lost_nothing() {
    let vfs = sim(0);
    run(&vfs, &mut Told::default()).expect("without faults");
    let operations = vfs.operations();
    let faults = [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::TooManyFiles];
    for at in 0..operations {
        for fault in faults {
            for count in [1, 3, u64::MAX] {
                let vfs = sim(at);
                let mut told = Told::default();
                vfs.inject(at, count, fault);
                let wal = run(&vfs, &mut told);
                vfs.heal();
                let what = format!("{fault:?} at operation {at}, {count} times");
                let wal = match wal {
                    Some(wal) => wal,
                    None => Wal::open(vfs.clone(), dir(), options(Compression::Snappy, SEGMENT_BYTES)).expect("healed"),
                };
                // A read-only log comes back with the next sync, all others by themselves.
                wal.sync().unwrap_or_else(|e| panic!("{what}: {e}"));
                let logged = told.logged.len();
                log_one(&wal, &mut told, 30);
                assert_eq!(told.logged.len(), logged + 1, "{what}: takes records again");
                wal.sync().unwrap_or_else(|e| panic!("{what}: {e}"));
                vfs.crash();

                let (found, _) = recovered(&vfs);
                let found: BTreeSet<u64> = found.into_iter().collect();
                let logged: BTreeSet<u64> = told.logged.iter().copied().collect();
                assert_eq!(found, logged, "{what}");
            }
        }
    }
}

#[test]
fn a_power_cut_after_a_fault_loses_nothing_that_was_synced() {
    let vfs = sim(0);
    run(&vfs, &mut Told::default()).expect("without faults");
    let operations = vfs.operations();
    for at in 0..operations {
        for (fault, count) in [(Fault::Io, 1), (Fault::Io, 2), (Fault::ShortWrite, 1), (Fault::Io, u64::MAX)] {
            for seed in 0..3 {
                let vfs = sim(seed * 1_000_003 + at);
                let mut told = Told::default();
                vfs.inject(at, count, fault);
                run(&vfs, &mut told);
                vfs.crash();
                let what = format!("{fault:?} at operation {at}, {count} times, seed {seed}");
                let found: BTreeSet<u64> = recovered(&vfs).0.into_iter().collect();
                let logged: BTreeSet<u64> = told.logged.iter().copied().collect();
                assert!(found.is_subset(&logged), "{what}: refused records came back");
                for n in &told.logged[..told.synced] {
                    assert!(found.contains(n), "{what}: synced record {n} is lost");
                }
            }
        }
    }
}

#[test]
fn a_failed_sync_moves_on_to_a_new_segment() {
    let vfs = sim(5);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    wal.log(&[&encode(0, 50)]).expect("log");
    wal.sync().expect("sync");
    // More than a page, from the middle of one, so that it is laid out anew.
    wal.log(&[&encode(1, 9_000), &encode(2, 1)]).expect("log");
    vfs.inject(vfs.operations(), 1, Fault::Io);
    wal.sync().expect("made good");
    assert_eq!((wal.stats().segment, wal.stats().syncs_failed, wal.stats().unsynced_bytes), (1, 1, 0));
    wal.log(&[&encode(3, 5)]).expect("log");
    wal.sync().expect("sync");
    vfs.crash();
    let (found, report) = read(&*vfs, dir());
    assert_eq!((found, report.is_clean()), (all_to(4), true), "nothing twice, nothing left of the lost end");
}

#[test]
fn a_second_failure_makes_the_log_read_only_until_a_sync_succeeds() {
    let vfs = sim(5);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    wal.log(&[&encode(0, 50)]).expect("log");
    vfs.inject(vfs.operations(), u64::MAX, Fault::Io);
    assert!(matches!(wal.sync(), Err(WalError::ReadOnly(_))));
    let refused = wal.log(&[&encode(9, 1)]).expect_err("read-only");
    assert!(
        refused.to_string().starts_with("write-ahead log takes no records: create /data/wal/00000001"),
        "{refused}"
    );
    assert!(matches!(wal.cut(), Err(WalError::ReadOnly(_))));
    assert!(matches!(wal.sync(), Err(WalError::ReadOnly(_))));
    assert!(wal.close().is_err());
    vfs.heal();
    assert!(wal.log(&[&encode(9, 1)]).is_err(), "only a sync ends it");
    wal.sync().expect("healed");
    wal.log(&[&encode(1, 5)]).expect("log");
    wal.close().expect("close");
    wal.close().expect("closing twice is fine");
    vfs.crash();
    assert_eq!(read(&*vfs, dir()).0, all_to(2));
}

#[test]
fn a_full_disk_refuses_records_until_there_is_room() {
    let vfs = sim(5);
    let wal = Wal::open(vfs.clone(), dir(), options(Compression::None, 30_000)).expect("open");
    vfs.set_capacity(Some(100_000));
    let mut logged = 0;
    while wal.log(&[&encode(logged, 300)]).is_ok() {
        logged += 1;
    }
    assert!(logged > 20, "{logged}");
    for _ in 0..20 {
        let refused = wal.log(&[&encode(logged, 300)]).expect_err("full");
        assert!(refused.is_no_space(), "{refused}");
    }
    assert_eq!(wal.stats().writes_failed, 21);
    wal.sync().expect("needs no space");
    assert!(read(&*vfs, dir()).1.torn_tail.is_none(), "nothing of the refused records stays");
    vfs.set_capacity(Some(1_000_000));
    wal.log(&[&encode(logged, 300)]).expect("room again");
    wal.close().expect("close");
    vfs.crash();
    let (found, report) = read(&*vfs, dir());
    assert_eq!((found, report.is_clean()), (all_to(logged + 1), true));
}
