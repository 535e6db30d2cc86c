//! Series on their way from one place to another.

use std::ops::Range;

use fk_chunk::Encoding;
use fk_model::Labels;
use fk_storage::StorageError;

/// A chunk of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkPart {
    /// Time of its first sample, ms.
    pub mint: i64,
    /// Time of its last sample, ms.
    pub maxt: i64,
    /// How its bytes are encoded.
    pub encoding: Encoding,
    /// Samples in it, if known without decoding: the header of the chunk says it, too.
    pub samples: u32,
    /// Its bytes within [`SeriesChunks::data`], header included; no length, encoding byte or checksum.
    pub bytes: Range<usize>,
}

/// One series with its chunks, in memory that is reused from series to series.
#[derive(Clone, Debug, Default)]
pub struct SeriesChunks {
    /// The labels.
    pub labels: Labels,
    /// The chunks, ascending by `mint`. Those of one source do not overlap, unless the source says otherwise.
    pub chunks: Vec<ChunkPart>,
    /// The bytes of all chunks.
    pub data: Vec<u8>,
}

impl SeriesChunks {
    /// Forgets the series and keeps the memory.
    pub fn clear(&mut self) {
        self.labels = Labels::default();
        self.chunks.clear();
        self.data.clear();
    }

    /// Adds a chunk behind the others.
    pub fn push(&mut self, (mint, maxt): (i64, i64), encoding: Encoding, samples: u32, bytes: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        self.chunks.push(ChunkPart { mint, maxt, encoding, samples, bytes: start..self.data.len() });
    }

    /// The bytes of a chunk.
    pub fn bytes(&self, chunk: &ChunkPart) -> &[u8] {
        &self.data[chunk.bytes.clone()]
    }
}

/// A source of series in strictly ascending order of labels: a block, the head, several of them merged.
pub trait SeriesStream {
    /// Replaces `out` by the next series; `false` at the end. Series without a chunk are left out.
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError>;

    /// Calls `each` with every string that a label of the stream has as name or value, in ascending order, each once; more
    /// strings than that do no harm. Does not disturb [`SeriesStream::next`].
    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError>;
}
