//! Writing a block from a stream of series.
//!
//! ```text
//! stream ─► chunks/000001 ...   as they come
//!        ─► index               symbols first, postings last
//!        ─► meta.json, tombstones, sync, rename
//! ```

use std::path::Path;

use fk_storage::StorageError;
use fk_vfs::Vfs;
use serde_json::Map;

use crate::dir::TMP_FOR_CREATION;
use crate::index::ChunkMeta;
use crate::index_writer::IndexWriter;
use crate::meta::META_VERSION;
use crate::segments::SegmentWriter;
use crate::{BlockMeta, BlockStats, Compaction, SeriesChunks, SeriesStream, Tombstones, Ulid};

/// Size of chunk segments unless somebody asks for another.
pub const SEGMENT_BYTES_DEFAULT: u64 = 512 << 20;

/// Smallest size of chunk segments that can be asked for.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// The pace is told after so many bytes.
const TELL_BYTES: u64 = 1 << 20;

/// What a new block is called and how it came about.
#[derive(Clone, Debug)]
pub struct BlockSpec {
    /// Its name, also that of its directory.
    pub ulid: Ulid,
    /// See [`BlockMeta::min_time`].
    pub min_time: i64,
    /// See [`BlockMeta::max_time`].
    pub max_time: i64,
    /// Goes into `meta.json`. Without sources the block is its own.
    pub compaction: Compaction,
}

/// Is told how many bytes have been written since it was last told, every megabyte or so. Here a caller slows down the
/// writing, shows progress, or ends it with an error.
pub type Pace<'a> = dyn FnMut(u64) -> Result<(), StorageError> + 'a;

/// Writes blocks into a directory.
#[derive(Clone, Copy, Debug)]
pub struct BlockWriter<'a> {
    /// The file system.
    pub vfs: &'a dyn Vfs,
    /// The directory in which the block's directory is made.
    pub parent: &'a Path,
    /// Size at which a new chunk segment begins. Who takes it from a user refuses less than [`SEGMENT_BYTES_MIN`].
    pub segment_bytes_max: u64,
}

impl<'a> BlockWriter<'a> {
    /// With segments of [`SEGMENT_BYTES_DEFAULT`].
    pub fn new(vfs: &'a dyn Vfs, parent: &'a Path) -> BlockWriter<'a> {
        BlockWriter { vfs, parent, segment_bytes_max: SEGMENT_BYTES_DEFAULT }
    }

    /// Writes the block: into `ULID.tmp-for-creation`, which is synced and then renamed, so that the block is there as a
    /// whole and durably when this returns. `None`, and nothing is left, if the stream has no sample. After an error the
    /// temporary directory is removed, if that is possible.
    pub fn write(
        &self,
        spec: &BlockSpec,
        stream: &mut dyn SeriesStream,
        pace: &mut Pace<'_>,
    ) -> Result<Option<BlockMeta>, StorageError> {
        let tmp = self.parent.join(format!("{}{TMP_FOR_CREATION}", spec.ulid));
        fk_vfs::remove_dir_all(self.vfs, &tmp)?;
        let written = self.write_into(&tmp, spec, stream, pace);
        if let Ok(Some(meta)) = written {
            self.vfs.rename(&tmp, &self.parent.join(spec.ulid.to_string()))?;
            self.vfs.sync_dir(self.parent)?;
            return Ok(Some(meta));
        }
        if let Err(e) = fk_vfs::remove_dir_all(self.vfs, &tmp) {
            log::warn!("an unfinished block stays until the next start: {e}");
        }
        written
    }

    fn write_into(
        &self,
        tmp: &Path,
        spec: &BlockSpec,
        stream: &mut dyn SeriesStream,
        pace: &mut Pace<'_>,
    ) -> Result<Option<BlockMeta>, StorageError> {
        self.vfs.create_dir(tmp)?;
        let mut segments = SegmentWriter::create(self.vfs, tmp, self.segment_bytes_max)?;
        let mut index = IndexWriter::create(self.vfs, tmp, stream)?;
        let mut stats = BlockStats::default();
        let mut series = SeriesChunks::default();
        let mut chunks: Vec<ChunkMeta> = Vec::new();
        let mut told = 0;
        while stream.next(&mut series)? {
            chunks.clear();
            for part in &series.chunks {
                let bytes = series.bytes(part);
                let samples = part.encoding.count(bytes).unwrap_or(0) as u64;
                stats.num_samples += samples;
                match part.encoding.is_float() {
                    true => stats.num_float_samples += samples,
                    false => stats.num_histogram_samples += samples,
                }
                let reference = segments.push(part.encoding, bytes)?;
                chunks.push(ChunkMeta { mint: part.mint, maxt: part.maxt, reference });
            }
            if !chunks.is_empty() {
                stats.num_chunks += chunks.len() as u64;
                index.push(&series.labels, &chunks)?;
            }
            let bytes = segments.position() + index.position();
            if bytes >= told + TELL_BYTES {
                pace(bytes - told)?;
                told = bytes;
            }
        }
        if stats.num_samples == 0 {
            return Ok(None);
        }
        stats.num_series = index.n_series();
        drop(series);
        segments.finish()?;
        index.finish(pace)?;
        let mut compaction = spec.compaction.clone();
        if compaction.sources.is_empty() {
            compaction.sources.push(spec.ulid);
        }
        let meta = BlockMeta {
            ulid: spec.ulid,
            min_time: spec.min_time,
            max_time: spec.max_time,
            stats,
            compaction,
            version: META_VERSION,
            others: Map::new(),
        };
        Tombstones::new().write(self.vfs, tmp)?;
        // Last, and it syncs the directory with everything in it.
        meta.write(self.vfs, tmp)?;
        Ok(Some(meta))
    }
}
