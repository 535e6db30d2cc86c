//! A block that is open for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_chunk::Encoding;
use fk_model::Matcher;
use fk_storage::{Control, Queryable, Samples, SelectParams, SeriesSet, StorageError, TimeRange};
use fk_vfs::Vfs;
use parking_lot::{RwLock, RwLockUpgradableReadGuard};

use crate::answers::Answers;
use crate::index::{ChunkMeta, Index, SeriesEntry};
use crate::meta::META_FILE;
use crate::segments::Segments;
use crate::select::BlockSet;
use crate::tombstones::{TOMBSTONES_FILE, covers, covers_time};
use crate::{BlockMeta, Tombstones, Ulid, matching};

/// The caller's control is asked after so many series.
const SERIES_PER_CHECK: usize = 1024;

/// An open block: a handle that is cheap to clone. Files stay mapped until the last handle, select and stream is gone, so
/// the directory may be removed at any time.
#[derive(Clone, Debug)]
pub struct Block(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    ulid: Ulid,
    times: (i64, i64),
    index: Index,
    answers: Answers,
    segments: Segments,
    /// What changes: replaced as a whole. Held for writing while files are replaced, so changes do not overtake each other.
    state: RwLock<State>,
}

#[derive(Clone, Debug)]
struct State {
    meta: Arc<BlockMeta>,
    tombstones: Arc<Tombstones>,
    /// Bytes of `meta.json` and tombstones.
    small_files_bytes: u64,
}

/// What a deletion did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Series with a chunk in the range.
    pub series: u64,
    /// Chunks of these series that have a time in common with the range and are not deleted yet.
    pub chunks: u64,
    /// Samples in the range that are not deleted yet; counted by a dry run only.
    pub samples: u64,
}

impl Block {
    /// Opens the block in `dir`. Reads `meta.json`, tombstones and the tables of the index, and checks their checksums.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Block, StorageError> {
        let meta = BlockMeta::read(&*vfs, dir)?;
        let segments = Segments::open(&*vfs, dir)?;
        let index = Index::open(&*vfs, dir)?;
        let tombstones = Tombstones::read(&*vfs, dir)?.0;
        let (ulid, times) = (meta.ulid, (meta.min_time, meta.max_time));
        let small_files_bytes = small_files_bytes(&*vfs, dir)?;
        let state = State { meta: Arc::new(meta), tombstones: Arc::new(tombstones), small_files_bytes };
        let state = RwLock::new(state);
        Ok(Block(Arc::new(Inner {
            vfs,
            dir: dir.to_owned(),
            ulid,
            times,
            index,
            answers: Answers::default(),
            segments,
            state,
        })))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Its name.
    pub fn ulid(&self) -> Ulid {
        self.0.ulid
    }

    /// What is known about it. Changes with deletions and [`Block::set_compaction_failed`].
    pub fn meta(&self) -> Arc<BlockMeta> {
        Arc::clone(&self.0.state.read().meta)
    }

    /// First time and the time behind the last one, ms, as in `meta.json`.
    pub fn times(&self) -> (i64, i64) {
        self.0.times
    }

    /// Whether it may have samples in a range.
    pub fn overlaps(&self, range: TimeRange) -> bool {
        let (min_time, max_time) = self.times();
        min_time <= range.maxt && range.mint < max_time
    }

    /// Bytes of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.0.index.size_bytes() + self.0.segments.size_bytes() + self.0.state.read().small_files_bytes
    }

    /// What is deleted of it.
    pub fn tombstones(&self) -> Arc<Tombstones> {
        Arc::clone(&self.0.state.read().tombstones)
    }

    /// Its index.
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.0.segments
    }

    /// The bytes of a chunk. Checks its checksum.
    pub fn chunk(&self, chunk: &ChunkMeta) -> Result<(Encoding, &[u8]), StorageError> {
        self.0.segments.chunk(chunk.reference)
    }

    /// The series that all matchers accept, in order of labels, whatever their times: for [`Index::series`].
    pub fn search(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<u32>, StorageError> {
        matching::search(&self.0.index, &self.0.answers, matchers, control)
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
        let mut deletion = Deletion::default();
        if !self.overlaps(range) {
            return Ok(deletion);
        }
        // Readers wait for the files, not for the search; a second deletion waits for the first as a whole.
        let state = self.0.state.upgradable_read();
        let mut tombstones = (*state.tombstones).clone();
        let mut entry = SeriesEntry::default();
        for (i, series) in self.search(matchers, control)?.into_iter().enumerate() {
            if i % SERIES_PER_CHECK == 0 {
                control.check()?;
            }
            self.0.index.series(series, &mut entry)?;
            let (Some(first), Some(last)) = (entry.chunks.first(), entry.chunks.last()) else { continue };
            if !entry.chunks.iter().any(|chunk| chunk.mint <= range.maxt && chunk.maxt >= range.mint) {
                continue;
            }
            // Not beyond what there is: the block tells the same whatever range was asked for.
            let interval = TimeRange { mint: range.mint.max(first.mint), maxt: range.maxt.min(last.maxt) };
            let before = tombstones.of(u64::from(series));
            deletion.series += 1;
            for chunk in &entry.chunks {
                let whole = TimeRange { mint: chunk.mint, maxt: chunk.maxt };
                if chunk.mint <= range.maxt && chunk.maxt >= range.mint && !covers(before, whole) {
                    deletion.chunks += 1;
                    if dry_run {
                        deletion.samples += self.count(chunk, range, before)?;
                    }
                }
            }
            if !dry_run {
                tombstones.add(u64::from(series), interval);
            }
        }
        if !dry_run && deletion.series > 0 {
            let mut meta = (*state.meta).clone();
            meta.stats.num_tombstones = tombstones.len() as u64;
            tombstones.write(&*self.0.vfs, &self.0.dir)?;
            // The deletion holds from here on, whatever becomes of the count.
            let mut state = RwLockUpgradableReadGuard::upgrade(state);
            state.tombstones = Arc::new(tombstones);
            meta.write(&*self.0.vfs, &self.0.dir)?;
            state.meta = Arc::new(meta);
            state.small_files_bytes = small_files_bytes(&*self.0.vfs, &self.0.dir)?;
        }
        Ok(deletion)
    }

    /// How many samples a chunk has in the range that are not deleted.
    fn count(&self, chunk: &ChunkMeta, range: TimeRange, deleted: &[TimeRange]) -> Result<u64, StorageError> {
        let (encoding, bytes) = self.chunk(chunk)?;
        let mut samples = Samples::default();
        fk_chunk::decode_range(encoding, bytes, usize::MAX, range.mint, range.maxt, &mut samples)
            .map_err(|e| self.0.segments.error(chunk.reference, &e))?;
        Ok(samples.t.iter().filter(|t| !covers_time(deleted, **t)).count() as u64)
    }

    /// Marks the block, durably, as one whose compaction has failed.
    pub fn set_compaction_failed(&self) -> Result<(), StorageError> {
        let mut state = self.0.state.write();
        let mut meta = (*state.meta).clone();
        meta.compaction.failed = true;
        meta.write(&*self.0.vfs, &self.0.dir)?;
        state.meta = Arc::new(meta);
        state.small_files_bytes = small_files_bytes(&*self.0.vfs, &self.0.dir)?;
        Ok(())
    }
}

fn small_files_bytes(vfs: &dyn Vfs, dir: &Path) -> Result<u64, StorageError> {
    let len = |name| vfs.metadata(&dir.join(name)).map(|found| found.map_or(0, |metadata| metadata.len));
    Ok(len(META_FILE)? + len(TOMBSTONES_FILE)?)
}

impl Queryable for Block {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        Ok(Box::new(BlockSet::new(self, params, matchers, control)?))
    }

    /// As in Prometheus the range decides only whether the block is asked.
    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        control.check()?;
        if !self.overlaps(range) {
            return Ok(Vec::new());
        }
        let index = self.index();
        if matchers.is_empty() {
            return index.values(name).map(|value| Ok(value?.value.to_owned())).collect();
        }
        matching::values_of(index, name, &self.search(matchers, control)?, control)
    }

    /// As in Prometheus the range decides only whether the block is asked.
    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        control.check()?;
        if !self.overlaps(range) {
            return Ok(Vec::new());
        }
        if matchers.is_empty() {
            return Ok(self.index().names().map(str::to_owned).collect());
        }
        matching::names_of(self.index(), &self.search(matchers, control)?, control)
    }
}
