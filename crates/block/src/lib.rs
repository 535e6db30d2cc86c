//! Blocks: immutable directories of series, chunks and postings, in the format of Prometheus (`docs/format/`).
//!
//! ```text
//! 01DXXFZDYD1MQW6079WK0K6EDQ/     a ULID
//!   meta.json                     time range, sizes, origin (`meta`)
//!   index                         symbols, series, postings (`index`)
//!   chunks/000001 ...             chunks, in order of series (`segments`)
//!   tombstones                    what has been deleted since (`tombstones`)
//! ```
//!
//! [`Block`] reads one, [`BlockWriter`] makes one, [`dir`] knows their names in a data directory. What passes between
//! readers, the head, compaction and the writer is a [`SeriesStream`]: series in order of labels, each with its encoded
//! chunks. [`BlockStream`] is a block as a stream, [`MergeStream`] several streams as one. [`Scrub`] looks whether a block is
//! still what was written.
//!
//! Nothing here has a clock, a thread or a cache that grows. Files are mapped; every section's and every chunk's checksum
//! is checked when it is used, and damage is an error of whoever asked for the damaged part.

mod answers;
mod block;
mod block_stream;
mod codec;
pub mod dir;
mod encode;
pub mod index;
mod index_writer;
mod matching;
mod merge;
pub mod meta;
mod scrub;
pub mod segments;
mod select;
mod sequential;
pub mod stream;
pub mod tombstones;
mod ulid;
mod writer;

pub use block::{Block, Deletion};
pub use block_stream::BlockStream;
pub use encode::Encoder;
pub use merge::MergeStream;
pub use meta::{BlockDesc, BlockMeta, BlockStats, Compaction};
pub use scrub::Scrub;
pub use stream::{ChunkPart, SeriesChunks, SeriesStream};
pub use tombstones::Tombstones;
pub use ulid::{NotAUlid, Ulid};
pub use writer::{BlockSpec, BlockWriter, Pace, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MIN};

#[cfg(test)]
mod tests;
