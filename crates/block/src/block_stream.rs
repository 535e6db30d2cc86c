//! The series of a block as a stream.

use std::sync::Arc;

use fk_storage::{StorageError, TimeRange};

use crate::encode::Encoder;
use crate::index::{ChunkMeta, SeriesEntry};
use crate::tombstones::{add_interval, covers, covers_time, touches};
use crate::{Block, SeriesChunks, SeriesStream, Tombstones, merge};

/// All series of a block with what is not deleted of their chunks. Chunks are copied, apart from those that a deletion or
/// the range cuts.
pub struct BlockStream {
    block: Block,
    tombstones: Arc<Tombstones>,
    range: TimeRange,
    series: Vec<u32>,
    next: usize,
    entry: SeriesEntry,
    /// What is left out of the current series.
    deleted: Vec<TimeRange>,
}

impl BlockStream {
    /// Over all of `block`.
    pub fn new(block: &Block) -> Result<BlockStream, StorageError> {
        BlockStream::within(block, TimeRange { mint: i64::MIN, maxt: i64::MAX })
    }

    /// Over the samples of `block` within `range`.
    pub fn within(block: &Block, range: TimeRange) -> Result<BlockStream, StorageError> {
        let series = block.index().all_series()?.iter().collect();
        Ok(BlockStream {
            block: block.clone(),
            tombstones: block.tombstones(),
            range,
            series,
            next: 0,
            entry: SeriesEntry::default(),
            deleted: Vec::new(),
        })
    }

    /// Reads a series; it may turn out to have no chunk.
    fn read(&mut self, series: u32, out: &mut SeriesChunks) -> Result<(), StorageError> {
        let index = self.block.index();
        index.series(series, &mut self.entry)?;
        self.deleted.clear();
        self.deleted.extend_from_slice(self.tombstones.of(u64::from(series)));
        if self.range.mint > i64::MIN {
            add_interval(&mut self.deleted, TimeRange { mint: i64::MIN, maxt: self.range.mint - 1 });
        }
        if self.range.maxt < i64::MAX {
            add_interval(&mut self.deleted, TimeRange { mint: self.range.maxt + 1, maxt: i64::MAX });
        }
        for chunk in &self.entry.chunks {
            let whole = TimeRange { mint: chunk.mint, maxt: chunk.maxt };
            if covers(&self.deleted, whole) {
                continue;
            }
            if touches(&self.deleted, whole) {
                self.push_rest(chunk, out)?;
                continue;
            }
            let (encoding, bytes) = self.block.segments().chunk(chunk.reference)?;
            let samples = encoding.count(bytes).unwrap_or(0) as u32;
            out.push((chunk.mint, chunk.maxt), encoding, samples, bytes);
        }
        if !out.chunks.is_empty() {
            out.labels = index.labels(&self.entry)?;
        }
        Ok(())
    }

    /// Encodes anew what is left of a chunk.
    fn push_rest(&self, chunk: &ChunkMeta, out: &mut SeriesChunks) -> Result<(), StorageError> {
        let segments = self.block.segments();
        let (encoding, bytes) = segments.chunk(chunk.reference)?;
        let mut encoder = Encoder::default();
        let mut encoded = Ok(());
        let decoded = fk_chunk::decode_exact(encoding, bytes, usize::MAX, &mut |sample| {
            if !covers_time(&self.deleted, sample.t) {
                encoded = encoder.push(&sample, out);
            }
            encoded.is_ok()
        });
        decoded.and(encoded).map_err(|e| segments.error(chunk.reference, &e))?;
        encoder.end_chunk(out);
        Ok(())
    }
}

impl SeriesStream for BlockStream {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        while let Some(series) = self.series.get(self.next).copied() {
            self.next += 1;
            out.clear();
            self.read(series, out)?;
            if out.chunks.is_empty() {
                continue;
            }
            if merge::overlap(&out.chunks) {
                // No writer promises to leave such a series, but the format can express it.
                let source = std::mem::take(out);
                merge::merge_series(&[&source], out)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        self.block.index().symbols().try_for_each(|symbol| each(symbol?))
    }
}
