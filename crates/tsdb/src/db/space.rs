//! Room on the disk: below a floor nothing more is taken, so that what has to be written to get room again (compaction,
//! checkpoints) and what others write on the same disk still fits.
//!
//! The floors are shares of the file system, so that a small one is of use as well, and never more than a fixed number of
//! bytes. Reading goes on; appending begins again by itself.
//!
//! Others may fill the disk beyond the floor. For that there is *ballast*: a file without contents that has blocks reserved.
//! When nearly nothing is left it goes, and what maintenance writes to get room has these blocks. It is in proportion to what
//! is in the directory, as that is. Prometheus passes over a file it does not know.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use fk_storage::StorageError;
use fk_vfs::Vfs;

/// With less room nothing is appended: so many bytes, or this part of a smaller file system.
const HARD_FLOOR_BYTES: u64 = 256 << 20;
const HARD_FLOOR_PART: u64 = 50;

/// With less room nothing is written that needs more room before it gives some back.
const SOFT_FLOOR_BYTES: u64 = 1 << 30;
const SOFT_FLOOR_PART: u64 = 20;

/// The file of the ballast within the data directory.
const BALLAST: &str = "firekeeper_ballast";

/// The ballast: this part of the bytes in the data directory, and at most so many.
const BALLAST_PART: u64 = 16;
const BALLAST_BYTES_MAX: u64 = 64 << 20;

/// It grows by this at least, so that it is not changed all the time; less is not kept at all.
const BALLAST_STEP: u64 = 1 << 20;

/// The ballast goes when less than this part of the hard floor is left.
const RELEASE_PART: u64 = 4;

/// Appending begins again with a quarter more than the floor, so that it does not begin and end with each sample.
const RETURN_PART: u64 = 4;

/// The room on the disk of a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Below so many nothing is appended.
    pub hard_floor_bytes: u64,
    /// Below so many nothing is compacted that needs room first.
    pub soft_floor_bytes: u64,
}

impl DiskSpace {
    fn new(free_bytes: u64, total_bytes: u64) -> DiskSpace {
        DiskSpace {
            free_bytes,
            hard_floor_bytes: HARD_FLOOR_BYTES.min(total_bytes / HARD_FLOOR_PART),
            soft_floor_bytes: SOFT_FLOOR_BYTES.min(total_bytes / SOFT_FLOOR_PART),
        }
    }

    /// Whether `bytes` more can be written without reaching the soft floor.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.free_bytes.saturating_sub(bytes) >= self.soft_floor_bytes
    }
}

/// Watches the room on the disk.
#[derive(Debug)]
pub(crate) struct Space {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    /// Whether nothing is appended; why is in `reason`.
    refusing: AtomicBool,
    reason: Mutex<Option<String>>,
    /// Bytes of the ballast.
    ballast: AtomicU64,
}

impl Space {
    /// For a directory that is locked. If the disk is full the ballast of an earlier run goes at once.
    pub fn new(vfs: Arc<dyn Vfs>, dir: &Path) -> Space {
        let (refusing, reason, ballast) = (AtomicBool::new(false), Mutex::new(None), AtomicU64::new(0));
        let space = Space { vfs, dir: dir.to_owned(), refusing, reason, ballast };
        if let Ok(room) = space.look() {
            space.release(room);
        }
        space
    }

    /// Bytes of the ballast.
    pub fn ballast_bytes(&self) -> u64 {
        self.ballast.load(Ordering::Relaxed)
    }

    /// Takes as much ballast as becomes a directory of `data_bytes`, if there is plenty of room.
    pub fn take_ballast(&self, data_bytes: u64) {
        let target = (data_bytes / BALLAST_PART).min(BALLAST_BYTES_MAX) / BALLAST_STEP * BALLAST_STEP;
        let held = self.ballast_bytes();
        if target <= held || !self.look().is_ok_and(|space| space.has_room_for(target - held)) {
            return;
        }
        let path = self.dir.join(BALLAST);
        // Blocks that an earlier run has reserved are in the file already: reserving them again changes nothing.
        let file = match self.vfs.open_rw(&path) {
            Err(e) if e.is_not_found() => self.vfs.create(&path),
            file => file,
        };
        match file.and_then(|file| file.allocate(target)) {
            Ok(()) => self.ballast.store(target, Ordering::Relaxed),
            // Not every file system can.
            Err(e) => log::debug!("no ballast: {e}"),
        }
    }

    /// Gives the ballast up if there is nearly no room.
    fn release(&self, space: DiskSpace) {
        if space.free_bytes >= space.hard_floor_bytes / RELEASE_PART {
            return;
        }
        match self.vfs.remove_file(&self.dir.join(BALLAST)) {
            Ok(()) => {
                self.ballast.store(0, Ordering::Relaxed);
                let free = space.free_bytes;
                log::warn!("{}: {free} bytes are free, so the reserve for maintenance is used", self.dir.display());
            }
            Err(e) if e.is_not_found() => {}
            Err(e) => log::error!("{e}"),
        }
    }

    /// The room there is.
    pub fn look(&self) -> Result<DiskSpace, StorageError> {
        Ok(DiskSpace::new(self.vfs.free_bytes(&self.dir)?, self.vfs.total_bytes(&self.dir)?))
    }

    /// Looks again whether there is room enough to append. If the disk does not tell, it stays as it is.
    pub fn check(&self) {
        let Ok(space) = self.look() else { return };
        self.release(space);
        let refusing = self.refusing.load(Ordering::Acquire);
        let floor = space.hard_floor_bytes;
        let low = match refusing {
            false => space.free_bytes < floor,
            true => space.free_bytes < floor + floor / RETURN_PART,
        };
        if low == refusing {
            return;
        }
        if low {
            // The system's own text comes with the write that fails for want of room; this one comes before it.
            let reason =
                format!("no space left to append: {} bytes free, {floor} are kept in reserve", space.free_bytes);
            log::error!("{}: {reason}", self.dir.display());
            *self.reason.lock() = Some(reason);
        } else {
            log::info!("{}: there is room again, {} bytes are free", self.dir.display(), space.free_bytes);
            *self.reason.lock() = None;
        }
        self.refusing.store(low, Ordering::Release);
    }

    /// Refuses while there is too little room. Who is refused looks again, so appending begins with the room.
    #[inline]
    pub fn admit(&self) -> Result<(), StorageError> {
        match self.refusing.load(Ordering::Acquire) {
            false => Ok(()),
            true => self.admit_again(),
        }
    }

    #[cold]
    fn admit_again(&self) -> Result<(), StorageError> {
        self.check();
        match self.reason() {
            Some(reason) => Err(StorageError::ReadOnly(reason)),
            None => Ok(()),
        }
    }

    /// Why nothing is appended.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use fk_vfs::sim::SimVfs;

    use super::*;

    #[test]
    fn floors_fit_the_disk() {
        let space = |free, total| {
            let space = DiskSpace::new(free, total);
            (space.hard_floor_bytes >> 10, space.soft_floor_bytes >> 10)
        };
        assert_eq!(space(0, 1 << 40), (256 << 10, 1 << 20));
        assert_eq!(space(0, 50 << 20), (1 << 10, 2560));
        let space = DiskSpace::new(100, 1000);
        assert!(space.has_room_for(50) && !space.has_room_for(51) && !space.has_room_for(u64::MAX));
    }

    #[test]
    fn ballast_is_taken_with_plenty_of_room_and_given_up_without() {
        const MIB: u64 = 1 << 20;
        let vfs = SimVfs::new(1);
        vfs.create_dir(Path::new("/data")).unwrap();
        vfs.set_capacity(Some(10_000 * MIB));
        let open = || Space::new(Arc::new(vfs.clone()), Path::new("/data"));
        let free_mib = || vfs.free_bytes(Path::new("/")).unwrap() / MIB;
        let space = open();
        space.take_ballast(15 * MIB);
        assert_eq!((space.ballast_bytes(), vfs.files().len()), (0, 0), "too little to keep");
        space.take_ballast(100 * MIB);
        assert_eq!((space.ballast_bytes() / MIB, free_mib()), (6, 9994));
        space.take_ballast(50 * MIB);
        assert_eq!(free_mib(), 9994, "it does not shrink with the data");
        space.take_ballast(100_000 * MIB);
        assert_eq!((space.ballast_bytes() / MIB, free_mib()), (64, 9936));
        // After a restart the same file counts.
        let space = open();
        space.take_ballast(100_000 * MIB);
        assert_eq!((space.ballast_bytes() / MIB, free_mib()), (64, 9936));
        // Somebody else fills the disk, of which nothing is left.
        vfs.set_capacity(Some(64 * MIB));
        let space = open();
        assert_eq!((vfs.files().len(), free_mib()), (0, 64), "given up at the start");
        vfs.set_capacity(Some(1000 * MIB));
        space.take_ballast(100_000 * MIB);
        assert_eq!(space.ballast_bytes() / MIB, 64, "and taken again with room");
        vfs.set_capacity(Some(64 * MIB));
        space.check();
        assert_eq!((space.ballast_bytes(), free_mib()), (0, 64), "and while running");
    }

    #[test]
    fn appending_ends_at_the_floor_and_begins_again_above_it() {
        let vfs = SimVfs::new(1);
        vfs.set_capacity(Some(100_000));
        let space = Space::new(Arc::new(vfs.clone()), Path::new("/"));
        let fill = |bytes: usize| vfs.put(Path::new("/f"), &vec![1; bytes]);
        let admitted = || {
            space.check();
            space.admit().is_ok()
        };
        assert!(admitted());
        fill(98_000);
        assert!(admitted(), "the floor itself is enough");
        fill(98_001);
        assert!(!admitted());
        assert!(matches!(space.admit(), Err(StorageError::ReadOnly(reason)) if reason.contains("1999 bytes free")));
        fill(97_501);
        assert!(!admitted(), "a little more is not enough");
        fill(97_500);
        assert!(space.admit().is_ok(), "who is refused looks again");
        assert_eq!(space.reason(), None);
    }
}
