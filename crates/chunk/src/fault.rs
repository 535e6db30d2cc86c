//! What can be wrong with a sample, before it is known which one it is.

use crate::ChunkError;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Truncated,
    Invalid(&'static str),
}

impl Fault {
    /// The fault of sample `sample`, from 0, where the header promises `expected`.
    #[cold]
    pub(crate) fn of(self, sample: usize, expected: usize) -> ChunkError {
        match self {
            Fault::Truncated => ChunkError::Truncated { decoded: sample, expected },
            Fault::Invalid(what) => ChunkError::Invalid { what, sample },
        }
    }
}

/// Turns the end of the bytes into a fault.
pub(crate) trait OrTruncated<T> {
    fn or_truncated(self) -> Result<T, Fault>;
}

impl<T> OrTruncated<T> for Option<T> {
    #[inline]
    fn or_truncated(self) -> Result<T, Fault> {
        self.ok_or(Fault::Truncated)
    }
}
