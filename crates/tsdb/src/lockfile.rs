//! The lock on a data directory: the file `lock` in it, as Prometheus makes it, so that neither two of us nor one of us
//! and one Prometheus (with its lock file on) work on the same directory.
//!
//! Take the lock before touching anything else below the directory: a second process must not change a byte.

use std::io;
use std::path::{Path, PathBuf};

use fk_vfs::{Vfs, VfsError, VfsLock};

/// The name of the file.
pub const LOCK_FILE: &str = "lock";

/// Why a directory could not be locked. Text as in Prometheus: `lock DB directory: ...`.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("lock DB directory: resource temporarily unavailable: another process is using {}", .0.display())]
    Taken(PathBuf),
    /// The lock file could not be made or locked.
    #[error("lock DB directory: {0}")]
    Io(#[from] VfsError),
}

/// A locked data directory. Dropping it gives the lock up and leaves the file, so that the next start knows that this one
/// did not end properly; [`Lockfile::release`] is the proper end.
#[derive(Debug)]
pub struct Lockfile {
    lock: Box<dyn VfsLock>,
}

impl Lockfile {
    /// Locks the directory `dir`, which must exist.
    pub fn acquire(vfs: &dyn Vfs, dir: &Path) -> Result<Lockfile, LockError> {
        match vfs.lock(&dir.join(LOCK_FILE)) {
            Ok(lock) => Ok(Lockfile { lock }),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(LockError::Taken(dir.to_owned())),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether there was no lock file left over from an earlier process (`prometheus_tsdb_clean_start` is 1 then, else 0).
    pub fn was_clean(&self) -> bool {
        !self.lock.existed()
    }

    /// Removes the lock file while still holding the lock, then unlocks.
    pub fn release(self) -> Result<(), LockError> {
        Ok(self.lock.release()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_vfs::OsVfs;
    use fk_vfs::sim::SimVfs;

    fn check(vfs: &dyn Vfs, dir: &Path) {
        let first = Lockfile::acquire(vfs, dir).expect("free");
        assert!(first.was_clean());
        let taken = Lockfile::acquire(vfs, dir).expect_err("taken");
        assert!(matches!(taken, LockError::Taken(_)));
        assert!(taken.to_string().starts_with("lock DB directory: resource temporarily unavailable"), "{taken}");
        drop(first);
        let second = Lockfile::acquire(vfs, dir).expect("free again");
        assert!(!second.was_clean(), "the first one left its file");
        second.release().expect("release");
        assert_eq!(vfs.metadata(&dir.join(LOCK_FILE)).expect("stat"), None);
        let third = Lockfile::acquire(vfs, dir).expect("free again");
        assert!(third.was_clean());
        third.release().expect("release");
        assert!(matches!(Lockfile::acquire(vfs, &dir.join("missing")), Err(LockError::Io(e)) if e.is_not_found()));
    }

    #[test]
    fn a_directory_is_locked_once() {
        let dir = fk_testkit::TempDir::new("lock");
        check(&OsVfs, dir.path());
        check(&SimVfs::new(1), Path::new("/"));
    }
}
