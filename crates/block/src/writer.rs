//! Writing a block from a stream of series.

use std::path::Path;

use fk_storage::StorageError;
use fk_vfs::Vfs;

use crate::{BlockMeta, Compaction, SeriesStream, Ulid};

/// Size of chunk segments unless somebody asks for another.
pub const SEGMENT_BYTES_DEFAULT: u64 = 512 << 20;

/// Smallest size of chunk segments that can be asked for.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;

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
    /// Size at which a new chunk segment begins, at least [`SEGMENT_BYTES_MIN`].
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
        let _ = (spec, stream, pace);
        Err(StorageError::Unsupported("writing a block"))
    }
}
