//! Every operation fails, once or for ever, in every way; and the disk is full.

use std::sync::Arc;

use parking_lot::Mutex;

use fk_vfs::sim::{Fault, SimVfs};

use crate::model::{End, Log, Told, contents, series};
use crate::script::{START, Script, open};
use crate::{full, stride};

/// Steps of the script: blocks are written, compacted, deleted from and written anew.
const STEPS: i64 = 60;

/// A time after all of the script.
const LATER: i64 = START + (1 << 40);

const FAULTS: [Fault; 4] = [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::TooManyFiles];

fn operations() -> u64 {
    let vfs = SimVfs::new(1);
    Script::new(&vfs, &Arc::default(), false).run(STEPS);
    vfs.operations()
}

/// Runs the script with a fault, heals, and sees that it goes on and has lost nothing it acknowledged.
fn run(first: u64, count: u64, fault: Fault) {
    let what = || format!("{fault:?} at operation {first}, {count} times");
    let vfs = SimVfs::new(first);
    let told = Arc::new(Mutex::new(Told::default()));
    let mut script = Script::new(&vfs, &told, true);
    vfs.inject(first, count, fault);
    script.lasting = (count == u64::MAX).then_some((first, fault));
    script.run(STEPS);
    script.lasting = None;
    vfs.heal();
    if script.db.is_none() {
        // Only a storage that could not be opened needs a new start.
        script.open();
    }
    // What is read-only comes back with a sync.
    let db = script.db.as_ref().unwrap_or_else(|| panic!("{}: does not open", what()));
    db.sync().unwrap_or_else(|e| panic!("{}: {e}", what()));
    script.append(Log::Wal, &[0, 1, 2], LATER);
    script.sync();
    assert!(told.lock().batches.last().is_some_and(|b| b.acknowledged && b.synced), "{}: takes no samples", what());

    let db = script.db.take().expect("checked above");
    let (found, warnings) = contents(&db, &series()).unwrap_or_else(|e| panic!("{}: {e}", what()));
    told.lock().judge(&found, End::Killed).unwrap_or_else(|e| panic!("{}: {e}", what()));
    assert_eq!(warnings, [""; 0], "{}", what());
    let now_ms = told.lock().now_ms;
    vfs.crash();
    drop(db);
    let db = open(&vfs, now_ms).unwrap_or_else(|e| panic!("{}: {e}", what()));
    let (found, _) = contents(&db, &series()).unwrap_or_else(|e| panic!("{}: {e}", what()));
    let told = told.lock();
    told.judge(&found, End::PowerCutAfterErrors).unwrap_or_else(|e| panic!("{}, after a power cut: {e}", what()));
    for batch in told.batches.iter().filter(|b| !b.acknowledged) {
        assert!(batch.samples.iter().all(|(key, _)| !found.contains_key(key)), "{}: a refused batch is back", what());
    }
}

#[test]
fn after_a_fault_the_storage_goes_on_and_has_lost_nothing() {
    let operations = operations();
    for at in (0..operations).step_by(stride(5)) {
        if full() {
            FAULTS.iter().for_each(|fault| run(at, 1, *fault));
        } else {
            run(at, 1, FAULTS[(at / 5) as usize % FAULTS.len()]);
        }
    }
}

#[test]
fn after_faults_without_end_the_storage_goes_on_and_has_lost_nothing() {
    let operations = operations();
    for at in (0..operations).step_by(stride(37)) {
        if full() {
            FAULTS.iter().for_each(|fault| run(at, u64::MAX, *fault));
        } else {
            run(at, u64::MAX, FAULTS[(at / 37) as usize % FAULTS.len()]);
        }
    }
}

#[test]
fn a_full_disk_refuses_samples_and_forgets_none() {
    for spare in [0, 10, 200, 5_000, 20_000, 60_000] {
        let what = || format!("{spare} bytes of room");
        let vfs = SimVfs::new(spare);
        let told = Arc::new(Mutex::new(Told::default()));
        let mut script = Script::new(&vfs, &told, true);
        script.run(20);
        let used: u64 = vfs.files().iter().map(|path| vfs.get(path).map_or(0, |bytes| bytes.len() as u64)).sum();
        vfs.set_capacity(Some(used + spare));
        // Goes on trying, starts anew in between, and answers all the while.
        script.run(STEPS);
        let db = script.db.as_ref().unwrap_or_else(|| panic!("{}: starts on a full disk", what()));
        let (found, _) = contents(db, &series()).unwrap_or_else(|e| panic!("{}: {e}", what()));
        told.lock().judge(&found, End::Killed).unwrap_or_else(|e| panic!("{}: {e}", what()));
        script.kill();
        assert!(script.db.is_some(), "{}: starts on a full disk", what());

        vfs.set_capacity(None);
        script.sync();
        script.append(Log::Wal, &[0, 1, 2], LATER);
        script.sync();
        assert!(
            told.lock().batches.last().is_some_and(|b| b.acknowledged && b.synced),
            "{}: goes on by itself",
            what()
        );
        let now_ms = told.lock().now_ms;
        vfs.crash();
        drop(script);
        let db = open(&vfs, now_ms).unwrap_or_else(|e| panic!("{}: {e}", what()));
        let (found, _) = contents(&db, &series()).unwrap_or_else(|e| panic!("{}: {e}", what()));
        told.lock().judge(&found, End::PowerCutAfterErrors).unwrap_or_else(|e| panic!("{}: {e}", what()));
    }
}

/// The case that `FIREKEEPER_SWEEP_CASE` names as the messages do, such as `Io 74 1`; for ever without a number behind.
#[test]
fn one_case() {
    let Ok(case) = std::env::var("FIREKEEPER_SWEEP_CASE") else { return };
    let words: Vec<&str> = case.split(' ').collect();
    let fault = FAULTS.into_iter().find(|fault| format!("{fault:?}") == words[0]).expect("a fault");
    run(words[1].parse().expect("an operation"), words[2].parse().unwrap_or(u64::MAX), fault);
}
