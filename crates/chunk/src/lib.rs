//! Chunks: runs of samples of one series in the encodings of Prometheus, byte for byte, so that a chunk is produced once
//! and from then on only copied (into head chunk files, into blocks, over the wire).
//!
//! A chunk here is the payload without the framing of the files: no length, no encoding byte, no checksum.

pub mod xor;

/// How a chunk is encoded: the byte in front of its data in all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Floats, see [`xor`].
    Xor,
    /// Histograms with integer counts.
    Histogram,
    /// Histograms with float counts.
    FloatHistogram,
}

impl Encoding {
    /// The encoding that a byte stands for.
    pub fn from_byte(byte: u8) -> Option<Encoding> {
        Some(match byte {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            _ => return None,
        })
    }

    /// The byte that stands for it.
    pub fn byte(self) -> u8 {
        match self {
            Encoding::Xor => 1,
            Encoding::Histogram => 2,
            Encoding::FloatHistogram => 3,
        }
    }
}

/// Why bytes are no chunk. The samples before the damage have been decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The bytes end inside a sample, although the header promises more.
    #[error("chunk ends after {decoded} of {expected} samples")]
    Truncated {
        /// Samples found.
        decoded: usize,
        /// Samples the header promises.
        expected: usize,
    },
    /// A length or bit width that no writer produces.
    #[error("invalid {what} in sample {sample} of a chunk")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Which sample, from 0.
        sample: usize,
    },
}
