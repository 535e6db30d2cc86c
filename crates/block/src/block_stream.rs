//! The series of a block as a stream.

use fk_storage::{StorageError, TimeRange};

use crate::{Block, SeriesChunks, SeriesStream};

/// All series of a block with what is not deleted of their chunks. Chunks are copied, apart from those that a deletion or
/// the range cuts.
pub struct BlockStream {
    block: Block,
}

impl BlockStream {
    /// Over all of `block`.
    pub fn new(block: &Block) -> Result<BlockStream, StorageError> {
        BlockStream::within(block, TimeRange { mint: i64::MIN, maxt: i64::MAX })
    }

    /// Over the samples of `block` within `range`.
    pub fn within(block: &Block, _range: TimeRange) -> Result<BlockStream, StorageError> {
        Ok(BlockStream { block: block.clone() })
    }
}

impl SeriesStream for BlockStream {
    fn next(&mut self, _: &mut SeriesChunks) -> Result<bool, StorageError> {
        let _ = &self.block;
        Err(StorageError::Unsupported("streaming a block"))
    }

    fn symbols(&self, _: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        Err(StorageError::Unsupported("streaming a block"))
    }
}
