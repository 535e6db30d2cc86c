//! The one narrow door to files: everything the storage reads, writes, renames or removes goes through [`Vfs`].
//!
//! There are two implementations. [`OsVfs`] is the operating system. [`sim::SimVfs`] keeps files in memory, knows which
//! bytes would survive a power cut, and fails on demand; tests sweep it over every operation of an engine. Because of the
//! second one the trait is kept to what the engines need, and every error carries the operation and the path.
//!
//! Files are addressed by offset (`pread`, `pwrite`), so a handle has no position and can be used by several threads. Only
//! files that nobody changes any more may be mapped ([`Vfs::map`]): a mapped file that somebody truncates ends the process, a
//! failed read does not.

mod os;
pub mod sim;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use os::{OsVfs, wall_clock_ms};

/// How deep [`remove_dir_all`] follows directories.
const REMOVE_DEPTH_MAX: usize = 16;

/// A failed file operation.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {source}", path.display())]
pub struct VfsError {
    /// What was tried, as a verb.
    pub op: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: io::Error,
}

impl VfsError {
    /// An error of `op` on `path`.
    #[cold]
    pub fn new(op: &'static str, path: &Path, source: io::Error) -> VfsError {
        VfsError { op, path: path.to_owned(), source }
    }

    /// The class of the reason.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Whether there was no room: disk full, or quota used up.
    pub fn is_no_space(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
    }
}

impl From<VfsError> for fk_storage::StorageError {
    fn from(err: VfsError) -> fk_storage::StorageError {
        let reason = format!("{}: {}", err.op, err.source);
        fk_storage::StorageError::Io { path: err.path.display().to_string(), reason }
    }
}

/// The result of a file operation.
pub type Result<T> = std::result::Result<T, VfsError>;

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes; meaningless for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The file system as the storage sees it.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> Result<Box<dyn VfsFile>>;

    /// Opens an existing file for reading and writing, its contents as they are.
    fn open_rw(&self, path: &Path) -> Result<Box<dyn VfsFile>>;

    /// Opens a file for reading and writing, made if it does not exist, emptied if it does. The directory needs a
    /// [`Vfs::sync_dir`] before a new file survives a power cut.
    fn create(&self, path: &Path) -> Result<Box<dyn VfsFile>>;

    /// The whole of a file as bytes, mapped into memory where the system can. Only for files that are complete and are
    /// never written, cut or extended again; removing them is fine.
    fn map(&self, path: &Path) -> Result<Bytes>;

    /// Gives a file another name; a file that has that name is replaced. Directories can be renamed, not replaced.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Gives a file a second name, which must not exist.
    fn hard_link(&self, file: &Path, link: &Path) -> Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> Result<()>;

    /// Makes a directory whose parent exists. No error if it is there already.
    fn create_dir(&self, path: &Path) -> Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;

    /// The entries of a directory, in order of their names. Names that are not UTF-8 are left out: none is ours.
    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>>;

    /// What a path is; `None` if it does not exist.
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>>;

    /// Makes the names in a directory (files created, renamed, removed) survive a power cut.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// How many bytes can still be written to the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> Result<u64>;

    /// How many bytes the file system that holds `path` has in all.
    fn total_bytes(&self, path: &Path) -> Result<u64>;

    /// Locks the file `path`, which is made if it does not exist, against other processes. Does not wait: if the lock is
    /// taken the error is of the kind [`io::ErrorKind::WouldBlock`].
    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>>;
}

/// An open file. Dropping closes it, without making anything durable.
pub trait VfsFile: Send + Sync + fmt::Debug {
    /// The path it was opened with.
    fn path(&self) -> &Path;

    /// Its length in bytes.
    fn len(&self) -> Result<u64>;

    /// Whether it has no byte.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at most `buf.len()` bytes from `offset` on; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes all of `buf` from `offset` on, with one call to the operating system unless that writes less. After an error
    /// a prefix may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Cuts the file to `len` bytes, or extends it by zeros.
    fn truncate(&self, len: u64) -> Result<()>;

    /// Makes everything written so far survive a power cut (`fdatasync`). After an error, what was written since the last
    /// success must be taken for lost, even if it can still be read: the system may have dropped it.
    fn sync_data(&self) -> Result<()>;

    /// Reserves disk blocks up to `len` bytes without changing the length of the file.
    fn allocate(&self, len: u64) -> Result<()>;

    /// Reads exactly `buf.len()` bytes from `offset` on.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        if self.read_full_at(buf, offset)? < buf.len() {
            return Err(VfsError::new("read", self.path(), io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Reads from `offset` on until `buf` is full or the file ends; says how many bytes were read.
    fn read_full_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut n = 0;
        while n < buf.len() {
            match self.read_at(&mut buf[n..], offset + n as u64)? {
                0 => break,
                more => n += more,
            }
        }
        Ok(n)
    }
}

/// A lock held on a file. Dropping gives the lock up and leaves the file, as a killed process does.
pub trait VfsLock: Send + Sync + fmt::Debug {
    /// Whether the file was there already: whoever made it did not release it.
    fn existed(&self) -> bool;

    /// Removes the file while still holding the lock, then gives the lock up.
    fn release(self: Box<Self>) -> Result<()>;
}

/// Makes a directory and those above it, each made durable in its parent. So is one that is there already: whoever made it may have
/// failed before its name was durable.
pub fn create_dir_all(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    match vfs.metadata(path)? {
        // The root has no name.
        Some(metadata) if metadata.is_dir && path.parent().is_none() => return Ok(()),
        Some(metadata) if metadata.is_dir => {
            return match vfs.sync_dir(parent.unwrap_or(Path::new("."))) {
                // Somebody else's directory: they have made it, and what is in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                synced => synced,
            };
        }
        Some(_) => return Err(VfsError::new("create directory", path, io::ErrorKind::NotADirectory.into())),
        None => {}
    }
    if let Some(parent) = parent {
        create_dir_all(vfs, parent)?;
    }
    vfs.create_dir(path)?;
    vfs.sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Removes a directory and all it holds. No error if it does not exist.
pub fn remove_dir_all(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    fn remove(vfs: &dyn Vfs, path: &Path, depth: usize) -> Result<()> {
        if depth > REMOVE_DEPTH_MAX {
            return Err(VfsError::new("remove directory", path, io::Error::other("nested too deeply")));
        }
        for entry in vfs.read_dir(path)? {
            let path = path.join(entry.name);
            if entry.is_dir {
                remove(vfs, &path, depth + 1)?;
            } else {
                vfs.remove_file(&path)?;
            }
        }
        vfs.remove_dir(path)
    }
    match vfs.metadata(path)? {
        Some(_) => remove(vfs, path, 0),
        None => Ok(()),
    }
}

/// The whole of a file that has at most `bytes_max` bytes.
pub fn read_file(vfs: &dyn Vfs, path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let file = vfs.open(path)?;
    let len = file.len()?;
    if len > bytes_max {
        let reason = io::Error::other(format!("{len} bytes, more than the limit of {bytes_max}"));
        return Err(VfsError::new("read", path, reason));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces a file as a whole: after a crash at any point it has either the old or the new contents. Writes `path` with
/// `.tmp` added, makes that durable, renames it and makes the name durable.
pub fn write_file_atomic(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = PathBuf::from(tmp);
    let file = vfs.create(&tmp)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    drop(file);
    vfs.rename(&tmp, path)?;
    vfs.sync_dir(parent(path))
}

/// The directory a path is in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::sim::SimVfs;
    use super::*;

    /// Runs `test` on both implementations, which must agree.
    fn check(test: impl Fn(&dyn Vfs, &Path)) {
        let sim = SimVfs::new(1);
        sim.create_dir(Path::new("/data")).expect("new directory");
        test(&sim, Path::new("/data"));
        let dir = fk_testkit::TempDir::new("vfs");
        test(&OsVfs, dir.path());
    }

    #[test]
    fn files_are_written_and_read_by_offset() {
        check(|vfs, dir| {
            let path = dir.join("a");
            let file = vfs.create(&path).expect("create");
            file.write_at(b"hello", 2).expect("write");
            file.write_at(b"J", 2).expect("write");
            assert_eq!(file.len().expect("len"), 7);
            let mut buf = [9; 10];
            assert_eq!(file.read_full_at(&mut buf, 0).expect("read"), 7);
            assert_eq!(&buf[..7], b"\0\0Jello");
            assert_eq!(file.read_at(&mut buf, 7).expect("read"), 0);
            assert_eq!(file.read_exact_at(&mut buf, 0).expect_err("too short").kind(), io::ErrorKind::UnexpectedEof);
            file.truncate(3).expect("truncate");
            file.truncate(5).expect("extend");
            file.allocate(100).expect("allocate");
            assert_eq!(read_file(vfs, &path, 5).expect("read"), b"\0\0J\0\0");
            assert!(read_file(vfs, &path, 4).is_err());
            file.sync_data().expect("sync");
            assert!(vfs.create(&path).expect("create").is_empty().expect("len"));
        });
    }

    #[test]
    fn a_handle_for_reading_does_not_write() {
        check(|vfs, dir| {
            vfs.create(&dir.join("a")).expect("create");
            assert!(vfs.open(&dir.join("a")).expect("open").write_at(b"x", 0).is_err());
            assert!(vfs.open_rw(&dir.join("a")).expect("open").write_at(b"x", 0).is_ok());
        });
    }

    #[test]
    fn names_are_made_moved_and_removed() {
        check(|vfs, dir| {
            let names = |path: &Path| {
                let entries = vfs.read_dir(path).expect("read directory");
                entries
                    .into_iter()
                    .map(|e| format!("{}{}", e.name, if e.is_dir { "/" } else { "" }))
                    .collect::<Vec<_>>()
            };
            assert!(vfs.open(&dir.join("a")).expect_err("missing").is_not_found());
            assert!(vfs.open_rw(&dir.join("a")).expect_err("missing").is_not_found());
            assert!(vfs.create(&dir.join("no/a")).expect_err("no directory").is_not_found());
            create_dir_all(vfs, &dir.join("d/e")).expect("directories");
            vfs.create_dir(&dir.join("d")).expect("already there is fine");
            write_file_atomic(vfs, &dir.join("d/e/f"), b"one").expect("write");
            write_file_atomic(vfs, &dir.join("d/e/f"), b"two").expect("write");
            vfs.hard_link(&dir.join("d/e/f"), &dir.join("d/link")).expect("link");
            assert!(vfs.hard_link(&dir.join("d/e/f"), &dir.join("d/link")).is_err());
            assert_eq!(names(&dir.join("d")), ["e/", "link"]);
            vfs.rename(&dir.join("d/e"), &dir.join("d/z")).expect("rename directory");
            vfs.sync_dir(&dir.join("d")).expect("sync directory");
            assert_eq!(
                (names(&dir.join("d")), names(&dir.join("d/z"))),
                (vec!["link".into(), "z/".into()], vec!["f".into()])
            );
            vfs.remove_file(&dir.join("d/z/f")).expect("remove");
            assert_eq!(read_file(vfs, &dir.join("d/link"), 10).expect("read"), b"two");
            assert!(vfs.remove_dir(&dir.join("d")).is_err());
            assert_eq!(vfs.metadata(&dir.join("d/link")).expect("stat"), Some(Metadata { len: 3, is_dir: false }));
            assert!(vfs.metadata(&dir.join("d")).expect("stat").is_some_and(|m| m.is_dir));
            remove_dir_all(vfs, &dir.join("d")).expect("remove all");
            remove_dir_all(vfs, &dir.join("d")).expect("nothing left to remove");
            assert_eq!(vfs.metadata(&dir.join("d")).expect("stat"), None);
            assert!(vfs.free_bytes(dir).expect("free") > 0);
        });
    }

    #[test]
    fn a_directory_whose_name_was_not_made_durable_is_made_durable_by_the_next_one_who_wants_it() {
        let vfs = SimVfs::new(1);
        let path = Path::new("/data/wal");
        // Of the operations of a first try each fails once. The second one succeeds, and so the names are durable.
        for failing in 0.. {
            let vfs = vfs.fork(failing);
            vfs.inject(vfs.operations() + failing, 1, sim::Fault::Io);
            let whole = create_dir_all(&vfs, path).is_ok();
            vfs.heal();
            create_dir_all(&vfs, path).expect("nothing fails any more");
            vfs.crash();
            assert!(vfs.metadata(path).expect("stat").is_some_and(|m| m.is_dir), "operation {failing}");
            if whole {
                assert!(failing > 3, "{failing}");
                break;
            }
        }
    }

    #[test]
    fn a_map_has_the_bytes_of_the_file_and_survives_its_name() {
        check(|vfs, dir| {
            let path = dir.join("a");
            write_file_atomic(vfs, &path, b"hello").expect("write");
            let map = vfs.map(&path).expect("map");
            vfs.remove_file(&path).expect("remove");
            assert_eq!(&map[1..4], b"ell");
            assert!(vfs.map(&path).expect_err("missing").is_not_found());
        });
    }

    #[test]
    fn an_open_file_survives_its_name() {
        check(|vfs, dir| {
            let file = vfs.create(&dir.join("a")).expect("create");
            file.write_at(b"x", 0).expect("write");
            vfs.remove_file(&dir.join("a")).expect("remove");
            file.write_at(b"y", 1).expect("write");
            assert_eq!(file.len().expect("len"), 2);
        });
    }
}
