//! The operating system's files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::{DirEntry, Metadata, Result, Vfs, VfsError, VfsFile, VfsLock};

/// How often [`Vfs::lock`] starts again because the file it locked is no longer the one at the path.
const LOCK_TRIES_MAX: usize = 16;

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsVfs;

/// What the clock on the wall says, ms since 1970; 0 before that. Files apart, the storage asks nobody else for the time.
pub fn wall_clock_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

#[derive(Debug)]
struct OsLock {
    // Held for its lock, which the system gives up when it is closed.
    _file: File,
    path: PathBuf,
    existed: bool,
}

fn open(op: &'static str, path: &Path, options: &OpenOptions) -> Result<Box<dyn VfsFile>> {
    let file = options.open(path).map_err(|e| VfsError::new(op, path, e))?;
    Ok(Box::new(OsFile { file, path: path.to_owned() }))
}

impl Vfs for OsVfs {
    fn open(&self, path: &Path) -> Result<Box<dyn VfsFile>> {
        open("open", path, OpenOptions::new().read(true))
    }

    fn open_rw(&self, path: &Path) -> Result<Box<dyn VfsFile>> {
        open("open", path, OpenOptions::new().read(true).write(true))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn VfsFile>> {
        open("create", path, OpenOptions::new().read(true).write(true).create(true).truncate(true))
    }

    fn map(&self, path: &Path) -> Result<Bytes> {
        let file = File::open(path).map_err(|e| VfsError::new("open", path, e))?;
        fk_mmap::map(&file).map_err(|e| VfsError::new("map", path, e))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|e| VfsError::new("rename", from, e))
    }

    fn hard_link(&self, file: &Path, link: &Path) -> Result<()> {
        fs::hard_link(file, link).map_err(|e| VfsError::new("link", link, e))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| VfsError::new("remove", path, e))
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result.map_err(|e| VfsError::new("create directory", path, e)),
        }
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        fs::remove_dir(path).map_err(|e| VfsError::new("remove directory", path, e))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let read = || -> io::Result<Vec<DirEntry>> {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if let Ok(name) = entry.file_name().into_string() {
                    // A link counts as what it leads to, as it does for Prometheus; a dangling one as a file.
                    let file_type = entry.file_type()?;
                    let is_dir = file_type.is_dir() || file_type.is_symlink() && entry.path().is_dir();
                    entries.push(DirEntry { name, is_dir });
                }
            }
            entries.sort();
            Ok(entries)
        };
        read().map_err(|e| VfsError::new("read directory", path, e))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Metadata { len: metadata.len(), is_dir: metadata.is_dir() })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(VfsError::new("stat", path, e)),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| VfsError::new("sync directory", path, e))
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        let stat = rustix::fs::statvfs(path).map_err(|e| VfsError::new("stat file system of", path, e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_bytes(&self, path: &Path) -> Result<u64> {
        let stat = rustix::fs::statvfs(path).map_err(|e| VfsError::new("stat file system of", path, e.into()))?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>> {
        let fail = |e| VfsError::new("lock", path, e);
        for _ in 0..LOCK_TRIES_MAX {
            let existed = fs::symlink_metadata(path).is_ok();
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(fail(rustix::io::Errno::WOULDBLOCK.into())),
                Err(TryLockError::Error(e)) => return Err(fail(e)),
            }
            // Whoever held the lock before may have removed the file between our open and our lock. Then what we have
            // locked is nobody's file any more, and the next process would lock another one.
            let ours = file.metadata().map_err(fail)?;
            if fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Box::new(OsLock { _file: file, path: path.to_owned(), existed }));
            }
        }
        Err(fail(io::Error::other("the lock file keeps being replaced")))
    }
}

impl OsFile {
    fn fail(&self, op: &'static str) -> impl FnOnce(io::Error) -> VfsError {
        move |e| VfsError::new(op, &self.path, e)
    }
}

impl VfsFile for OsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(self.fail("stat"))?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        loop {
            match self.file.read_at(buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(self.fail("read")),
            }
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset).map_err(self.fail("write"))
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(self.fail("truncate"))
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(self.fail("sync"))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len)
            .map_err(|e| self.fail("allocate")(e.into()))
    }
}

impl VfsLock for OsLock {
    fn existed(&self) -> bool {
        self.existed
    }

    fn release(self: Box<Self>) -> Result<()> {
        fs::remove_file(&self.path).map_err(|e| VfsError::new("remove", &self.path, e))
    }
}
