//! Flipped bits, cut files and foreign ends, at every byte of every file of a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use fk_tsdb::Db;
use fk_vfs::Vfs;
use fk_vfs::sim::SimVfs;

use crate::full;
use crate::model::{Contents, Told, contents, series};
use crate::script::{Script, dir, open};

/// Steps of the script: blocks of several levels, tombstones, checkpoints, both logs, chunks of the head.
const STEPS: i64 = 64;

/// Cases per file unless nothing is left out.
const CASES: usize = 60;

struct Directory {
    vfs: SimVfs,
    told: Told,
    samples: usize,
}

/// A directory as a killed process leaves it, with everything in it.
fn directory() -> Directory {
    let vfs = SimVfs::new(1);
    let told = Arc::new(Mutex::new(Told::default()));
    let mut script = Script::new(&vfs, &told, false);
    script.run(STEPS);
    script.sync();
    vfs.kill();
    drop(script);
    let told = told.lock().clone();
    let db = open(&vfs.fork(0), told.now_ms).expect("opens undamaged");
    let (found, _) = contents(&db, &series()).expect("answers undamaged");
    assert_eq!(told.judge_damaged(&found), Ok(0));
    Directory { vfs, told, samples: found.len() }
}

/// Whether somebody has been told about damage.
fn reported(db: &Db, warnings: &[String]) -> bool {
    let replayed = db.replayed();
    !warnings.is_empty()
        || !db.quarantined().is_empty()
        || !replayed.log.is_clean()
        || !replayed.out_of_order.log.is_clean()
        // Samples whose series is lost are counted and told.
        || replayed.unknown_refs > 0
        || replayed.out_of_order.unknown_refs > 0
        // The checksum does not cover the bits that say how a record is packed, which then has another kind. These are told, too.
        || !replayed.log.unsupported.is_empty()
        || !replayed.out_of_order.log.unsupported.is_empty()
}

/// Whether a file is a segment of a log.
fn is_log(path: &Path) -> bool {
    path.parent().is_some_and(|p| p.ends_with("wal") || p.ends_with("wbl"))
}

/// What a log gives that ends with byte `end` of the segment `path`: that much is kept, whatever is behind it.
fn before(directory: &Directory, path: &Path, bytes: &[u8], end: usize) -> Contents {
    let vfs = directory.vfs.fork(1);
    for later in vfs.files().into_iter().filter(|p| p.parent() == path.parent() && **p > *path) {
        vfs.remove_file(&later).expect("removed");
    }
    vfs.put(path, &bytes[..end]);
    let db = open(&vfs, directory.told.now_ms).expect("a log that ends early");
    contents(&db, &series()).expect("answers").0
}

/// Whether a file is the last one of its log.
fn is_last(directory: &Directory, path: &Path) -> bool {
    !directory.vfs.files().iter().any(|p| p.parent() == path.parent() && **p > *path)
}

/// Opens a damaged copy. What is left. `quiet`: what is lost may be lost in silence.
fn check(directory: &Directory, path: &Path, bytes: &[u8], quiet: bool, what: &dyn Fn() -> String) -> Contents {
    let vfs = directory.vfs.fork(1);
    vfs.put(path, bytes);
    let db = open(&vfs, directory.told.now_ms).unwrap_or_else(|e| panic!("{}: {e}", what()));
    let (found, warnings) = contents(&db, &series()).unwrap_or_else(|e| panic!("{}: {e}", what()));
    let lost = directory.told.judge_damaged(&found).unwrap_or_else(|e| panic!("{}: {e}", what()));
    assert!(is_log(path) || lost < directory.samples, "{}: all is lost", what());
    // Nothing in a meta.json tells that another number was meant.
    assert!(
        lost == 0 || quiet || path.ends_with("meta.json") || reported(&db, &warnings),
        "{}: {lost} samples are lost in silence",
        what()
    );
    // And goes on from there.
    vfs.kill();
    drop(db);
    let db = open(&vfs, directory.told.now_ms).unwrap_or_else(|e| panic!("{}, started again: {e}", what()));
    let (again, _) = contents(&db, &series()).unwrap_or_else(|e| panic!("{}, started again: {e}", what()));
    assert!(again == found, "{}: the second start finds something else", what());
    found
}

/// Calls `each` with files and places in them, on all processors.
fn sweep(directory: &Directory, each: impl Fn(&Path, &[u8], usize) + Sync) {
    let files: Vec<PathBuf> = directory.vfs.files().into_iter().filter(|p| *p != dir().join("lock")).collect();
    assert!(files.iter().any(|p| p.starts_with(dir().join("wal"))), "{files:?}");
    for path in files {
        let bytes = directory.vfs.get(&path).expect("listed just now");
        let step = if full() { 1 } else { (bytes.len() / CASES).max(1) };
        // Not always the same place of a structure that repeats.
        let places: Vec<usize> = (0..bytes.len()).step_by(step | 1).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    while let Some(at) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                        each(&path, &bytes, *at);
                    }
                });
            }
        });
    }
}

#[test]
fn a_flipped_bit_costs_what_it_covers_and_alters_nothing() {
    let directory = directory();
    sweep(&directory, |path, bytes, at| {
        let bits: &[usize] = if full() { &[0, 1, 2, 3, 4, 5, 6, 7] } else { &[at % 8] };
        for bit in bits {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            let what = || format!("{}: bit {bit} of byte {at} flipped", path.display());
            let found = check(&directory, path, &damaged, is_log(path) && is_last(&directory, path), &what);
            if is_log(path) && (at % 5 == 0 || full()) {
                let before = before(&directory, path, bytes, at);
                let lost = before.keys().find(|key| !found.contains_key(key));
                assert_eq!(lost, None, "{}: something before the damage is lost", what());
            }
        }
    });
}

#[test]
fn a_cut_file_costs_what_is_gone_and_alters_nothing() {
    let directory = directory();
    sweep(&directory, |path, bytes, at| {
        // A log that ends early is what a power cut leaves, and nothing to report.
        let quiet = path.starts_with(dir().join("wal")) || path.starts_with(dir().join("wbl"));
        let what = |tail: &str| format!("{}: cut at byte {at} of {}{tail}", path.display(), bytes.len());
        let mut cut = bytes[..at].to_vec();
        check(&directory, path, &cut, quiet, &|| what(""));
        // What ext4 leaves, and worse.
        if at % 3 == 0 || full() {
            cut.resize(at + 700, 0);
            check(&directory, path, &cut, quiet, &|| what(", then zeros"));
            let mut noise = at as u32 | 1;
            cut[at..].iter_mut().for_each(|byte| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (noise >> 24) as u8;
            });
            check(&directory, path, &cut, quiet, &|| what(", then noise"));
        }
    });
}
