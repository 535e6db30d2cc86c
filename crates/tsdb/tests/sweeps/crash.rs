//! Deaths of the process and power cuts before every operation that changes something, and again during recovery.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use fk_vfs::sim::SimVfs;

use crate::model::{End, Told, contents, series};
use crate::script::{Script, open};
use crate::{full, stride};

/// Steps of the script: more than two rounds of retention.
pub const STEPS: i64 = 130;

/// Ends the machine, opens what is left, judges it, and goes on a little.
fn recover(vfs: &SimVfs, told: &Told, end: End, what: &dyn Fn() -> String) {
    match end {
        End::Killed => vfs.kill(),
        _ => vfs.crash(),
    }
    let db = open(vfs, told.now_ms).unwrap_or_else(|e| panic!("{}: {e}", what()));
    let (found, warnings) = contents(&db, &series()).unwrap_or_else(|e| panic!("{}: {e}", what()));
    told.judge(&found, end).unwrap_or_else(|e| panic!("{}: {e}", what()));
    assert_eq!(warnings, [""; 0], "{}", what());
    // A start changes nothing that the next one sees.
    vfs.kill();
    drop(db);
    let db = open(vfs, told.now_ms).unwrap_or_else(|e| panic!("{}, started again: {e}", what()));
    let (again, _) = contents(&db, &series()).unwrap_or_else(|e| panic!("{}, started again: {e}", what()));
    assert!(again == found, "{}: the second start finds something else", what());
}

/// Runs the script and calls `each` before every changing operation.
fn sweep(steps: i64, each: impl Fn(usize, &SimVfs, &Told, &str) + Send + Sync + 'static) -> usize {
    let vfs = SimVfs::new(1);
    let told = Arc::new(Mutex::new(Told::default()));
    let count = Arc::new(AtomicUsize::new(0));
    {
        let (told, count) = (Arc::clone(&told), Arc::clone(&count));
        vfs.watch(move |vfs, op, path| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let told = told.lock().clone();
            each(n, vfs, &told, &format!("before operation {n} ({op} {})", path.display()));
        });
    }
    let mut script = Script::new(&vfs, &told, false);
    script.run(steps);
    count.load(Ordering::Relaxed)
}

#[test]
fn a_death_of_the_process_loses_nothing() {
    let stride = stride(3);
    let met = Arc::new(Mutex::new(BTreeSet::new()));
    let meet = Arc::clone(&met);
    let operations = sweep(STEPS, move |n, vfs, told, place| {
        // The place without numbers and names of blocks.
        let file = place.rsplit('/').next().unwrap_or_default();
        let kinds = ["chunks_head", "checkpoint", "tmp-for-creation", "tmp-for-deletion", "tombstones", "wal", "wbl"];
        let kind = kinds.into_iter().find(|kind| place.contains(kind)).unwrap_or(file);
        meet.lock().insert(kind.to_owned());
        if n % stride == 0 {
            recover(&vfs.fork(n as u64), told, End::Killed, &|| format!("killed {place}"));
        }
    });
    assert!(operations > 1000, "{operations}");
    for kind in ["chunks_head", "checkpoint", "tmp-for-creation", "tmp-for-deletion", "tombstones", "wal", "wbl"] {
        assert!(met.lock().contains(kind), "the script meets {kind}: {:?}", met.lock());
    }
}

#[test]
fn a_power_cut_loses_only_what_was_not_synced() {
    let (stride, seeds) = (stride(2), if full() { 8 } else { 2 });
    sweep(STEPS, move |n, vfs, told, place| {
        for seed in 0..seeds {
            if (n + seed) % stride == 0 {
                let fork = vfs.fork((seed * 1_000_003 + n) as u64);
                recover(&fork, told, End::PowerCut, &|| format!("power cut {place}, seed {seed}"));
            }
        }
    });
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_more() {
    let stride = stride(29);
    sweep(STEPS, move |n, vfs, told, place| {
        if n % stride != 0 {
            return;
        }
        let vfs = vfs.fork(n as u64);
        vfs.crash();
        let (told, place) = (told.clone(), place.to_owned());
        let (count, now_ms) = (AtomicUsize::new(0), told.now_ms);
        vfs.watch(move |vfs, op, path| {
            let again = count.fetch_add(1, Ordering::Relaxed);
            recover(&vfs.fork((n * 1000 + again) as u64), &told, End::PowerCut, &|| {
                format!(
                    "power cut {place}, and again before operation {again} of the recovery ({op} {})",
                    path.display()
                )
            });
        });
        open(&vfs, now_ms).expect("recovered").close().expect("closed");
    });
}
