//! Room on the disk: below a floor nothing more is taken, so that what has to be written to get room again (compaction,
//! checkpoints) and what others write on the same disk still fits.
//!
//! The floors are shares of the file system, so that a small one is of use as well, and never more than a fixed number of
//! bytes. Reading goes on; appending begins again by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use fk_storage::StorageError;
use fk_vfs::Vfs;

/// With less room nothing is appended: so many bytes, or this part of a smaller file system.
const HARD_FLOOR_BYTES: u64 = 256 << 20;
const HARD_FLOOR_PART: u64 = 50;

/// With less room nothing is written that needs more room before it gives some back.
const SOFT_FLOOR_BYTES: u64 = 1 << 30;
const SOFT_FLOOR_PART: u64 = 20;

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
}

impl Space {
    pub fn new(vfs: Arc<dyn Vfs>, dir: &Path) -> Space {
        Space { vfs, dir: dir.to_owned(), refusing: AtomicBool::new(false), reason: Mutex::new(None) }
    }

    /// The room there is.
    pub fn look(&self) -> Result<DiskSpace, StorageError> {
        Ok(DiskSpace::new(self.vfs.free_bytes(&self.dir)?, self.vfs.total_bytes(&self.dir)?))
    }

    /// Looks again whether there is room enough to append. If the disk does not tell, it stays as it is.
    pub fn check(&self) {
        let Ok(space) = self.look() else { return };
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
