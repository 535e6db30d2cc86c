//! Blocks: immutable directories of series, chunks and postings, in the format of Prometheus (`docs/format/`).
//!
//! What passes between readers, the head, compaction and the writer of blocks is a [`SeriesStream`]: series in order of
//! labels, each with its encoded chunks.

pub mod stream;

pub use stream::{ChunkPart, SeriesChunks, SeriesStream};
