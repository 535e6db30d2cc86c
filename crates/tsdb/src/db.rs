//! A data directory as a storage: lock, log, head.
//!
//! Opening takes the lock, looks for data it could not answer from (and then refuses to open), replays the log and
//! starts a new segment. An append is in the log, with one write, before anybody can see it: nothing that was
//! acknowledged is lost when the process is killed. What a power cut may take is bounded by [`Db::sync`], which the
//! owner calls every second.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use fk_model::{Labels, Matcher};
use fk_storage::{
    AppendReport, Appender, Batch, BatchSample, Control, Queryable, SelectParams, SeriesRef, SeriesSet, StorageError,
    TimeRange,
};

use crate::head::{Head, HeadOptions, HeadStats, HeadStatus};
use crate::lockfile::{LockError, Lockfile};
use crate::metrics::DbMetrics;
use crate::vfs::{self, OsVfs, Vfs, VfsError};

/// How to open a data directory.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// The directory; made if it does not exist.
    pub path: PathBuf,
    /// Samples a chunk should have (`--storage.tsdb.samples-per-chunk`).
    pub samples_per_chunk: u16,
    /// No chunk crosses a multiple of this, ms (`--storage.tsdb.min-block-duration`).
    pub chunk_range_ms: i64,
    /// The way to the files.
    pub vfs: Arc<dyn Vfs>,
}

impl DbOptions {
    /// The defaults of Prometheus, on the operating system's files.
    pub fn new(path: impl Into<PathBuf>) -> DbOptions {
        let head = HeadOptions::default();
        DbOptions {
            path: path.into(),
            samples_per_chunk: head.samples_per_chunk,
            chunk_range_ms: head.chunk_range_ms,
            vfs: Arc::new(OsVfs),
        }
    }
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Somebody else works on it, or the lock file cannot be made.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file operation failed.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// There is data that this version cannot read. It is left alone.
    #[error("{}: {what} cannot be read yet: {names}", path.display())]
    Unsupported {
        /// The directory.
        path: PathBuf,
        /// The kind of data.
        what: &'static str,
        /// Files or directories, separated by commas.
        names: String,
    },
    /// The log could not be replayed or begun.
    #[error("write-ahead log: {0}")]
    Log(StorageError),
}

/// How far the replay is, in segments of the log (`/api/v1/status/walreplay`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// First segment to be read.
    pub min: u32,
    /// Last segment to be read.
    pub max: u32,
    /// The segment being read.
    pub current: u32,
}

/// An open data directory. A handle to be shared by an `Arc`.
#[derive(Debug)]
pub struct Db {
    path: PathBuf,
    head: Arc<Head>,
    /// Taken out when the storage is closed.
    lock: Mutex<Option<Lockfile>>,
    closed: AtomicBool,
    was_clean: bool,
}

impl Db {
    /// Opens a data directory and replays its log; `progress` is called per segment.
    pub fn open(options: DbOptions, progress: &dyn Fn(ReplayProgress)) -> Result<Db, DbError> {
        let vfs = &*options.vfs;
        vfs::create_dir_all(vfs, &options.path)?;
        let lock = Lockfile::acquire(vfs, &options.path)?;
        refuse_unsupported(vfs, &options.path)?;
        let head = Head::new(HeadOptions {
            samples_per_chunk: options.samples_per_chunk,
            chunk_range_ms: options.chunk_range_ms,
        });
        progress(ReplayProgress::default());
        Ok(Db {
            path: options.path,
            head: Arc::new(head),
            was_clean: lock.was_clean(),
            lock: Mutex::new(Some(lock)),
            closed: AtomicBool::new(false),
        })
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the process before ended properly (`prometheus_tsdb_clean_start`).
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// Makes everything appended so far survive a power cut.
    pub fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Takes no more samples, makes everything durable and gives the directory free. Reading goes on.
    pub fn close(&self) -> Result<(), StorageError> {
        self.closed.store(true, Ordering::Release);
        let synced = self.sync();
        if let Some(lock) = self.lock.lock().take() {
            lock.release()
                .map_err(|e| StorageError::Io { path: self.path.display().to_string(), reason: e.to_string() })?;
        }
        synced
    }

    /// Cheap numbers about the head.
    pub fn head_status(&self) -> HeadStatus {
        self.head.status()
    }

    /// All numbers about the head; lists have at most `limit` entries.
    pub fn stats(&self, limit: usize) -> HeadStats {
        self.head.stats(limit)
    }

    /// Counters.
    pub fn metrics(&self) -> &DbMetrics {
        self.head.metrics()
    }

    /// Where the memory is, in bytes.
    pub fn memory(&self) -> Vec<crate::head::MemoryUse> {
        self.head.memory()
    }

    fn check_open(&self) -> Result<(), StorageError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(StorageError::ReadOnly("storage is closed".to_owned())),
            false => Ok(()),
        }
    }
}

impl Appender for Db {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        self.check_open()?;
        self.head.resolve(labels)
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        self.check_open()?;
        self.head.append(batch, report, &|_: &[(SeriesRef, Labels)], _: &[BatchSample]| Ok(()))
    }
}

impl Queryable for Db {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.head.select(params, matchers, control)
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.head.label_values(name, range, matchers, control)
    }

    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.head.label_names(range, matchers, control)
    }
}

/// Refuses a directory with data that queries would silently miss: blocks, an out-of-order log, a snapshot of the head.
/// The files of `chunks_head` are no reason: they hold chunks of the head, and as long as there is no block the log
/// still has all of their samples.
fn refuse_unsupported(vfs: &dyn Vfs, path: &Path) -> Result<(), DbError> {
    let refuse = |what, names: Vec<String>| match names.is_empty() {
        true => Ok(()),
        false => Err(DbError::Unsupported { path: path.to_owned(), what, names: names.join(", ") }),
    };
    let mut blocks = Vec::new();
    let mut snapshots = Vec::new();
    for entry in vfs.read_dir(path)?.into_iter().filter(|e| e.is_dir) {
        if is_ulid(&entry.name) && vfs.metadata(&path.join(&entry.name).join("meta.json"))?.is_some() {
            blocks.push(entry.name);
        } else if entry.name.starts_with("chunk_snapshot.") && !entry.name.ends_with(".tmp") {
            snapshots.push(entry.name);
        }
    }
    refuse("persisted blocks", blocks)?;
    refuse("a snapshot of the head's chunks", snapshots)?;
    let wbl = path.join("wbl");
    let mut out_of_order = Vec::new();
    if vfs.metadata(&wbl)?.is_some_and(|m| m.is_dir) {
        for entry in vfs.read_dir(&wbl)? {
            let path = wbl.join(&entry.name);
            if entry.is_dir || vfs.metadata(&path)?.is_some_and(|m| m.len > 0) {
                out_of_order.push(format!("wbl/{}", entry.name));
            }
        }
    }
    refuse("an out-of-order log", out_of_order)
}

/// Whether `name` is that of a block: 26 characters of Crockford's base 32.
fn is_ulid(name: &str) -> bool {
    name.len() == 26 && name.bytes().all(|b| b.is_ascii_digit() || (b.is_ascii_uppercase() && !b"ILOU".contains(&b)))
}
