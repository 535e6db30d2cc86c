//! Histogram chunks (encodings 2 and 3, and 5 and 6 with start timestamps): samples that share one layout of buckets.
//!
//! ```text
//! header   encodings 2, 3   samples u16 │ counter resets 2 bits, 6 zero bits
//!          encodings 5, 6   counter resets 2 bits, samples 14 bits │ start timestamps u8, see `starts`
//! layout   zero threshold │ schema │ positive spans │ negative spans │ custom bounds, only with custom buckets
//! samples  time │ count │ zero count │ sum │ positive buckets │ negative buckets │ start timestamp, encodings 5 and 6
//! ```
//!
//! | Field | integer counts, first sample | others | float counts, first sample | others |
//! |---|---|---|---|---|
//! | time | varbit | varbit of the delta of deltas | as integer | as integer |
//! | count, zero count | unsigned varbit | varbit of the delta of deltas | 64 bits | XOR with its own window |
//! | sum | 64 bits | XOR | 64 bits | XOR |
//! | buckets | varbit of the difference to the bucket before | varbit of the delta of deltas | 64 bits | XOR, a window each |
//!
//! A staleness marker ends after its sum, and only further markers may follow it.
//!
//! Within a chunk of counters nothing ever falls: a counter reset begins a new chunk, and so does any change of schema,
//! zero threshold or custom bounds, of counter to gauge or back. Buckets that become used later make the chunk be written
//! anew with the wider layout ([`Pushed::Recoded`]); buckets that are missing although the chunk has them are added to the
//! histogram with a count of 0.
//!
//! [`write`] has the writers that an open chunk needs, [`read`] the readers; both are written once for both kinds of
//! counts, which differ in what [`Kind`] says.

mod fields;
mod layout;
mod read;
mod spans;
mod state;
mod write;

pub use read::Reader;
pub use state::{Float, Int, Kind};
pub use write::{Pushed, Writer};

/// An open chunk of integer histograms.
pub type HistogramWriter = Writer<Int>;
/// An open chunk of float histograms.
pub type FloatHistogramWriter = Writer<Float>;

/// Bytes at which Prometheus' head begins a new histogram chunk, given enough samples.
pub const TARGET_BYTES: usize = 1024;
/// Samples a histogram chunk of Prometheus' head has before [`TARGET_BYTES`] counts.
pub const SAMPLES_MIN: usize = 10;

/// Bytes in front of the layout.
pub(crate) const HEADER_BYTES: usize = 3;

/// What the header says about the step from the chunk before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Nothing.
    Unknown,
    /// There was no counter reset.
    NotReset,
    /// There was one.
    Reset,
    /// The histograms are gauges.
    Gauge,
}

impl Header {
    /// From the byte that has it in its upper two bits.
    pub(crate) fn from_bits(byte: u8) -> Header {
        match byte >> 6 {
            0 => Header::Unknown,
            1 => Header::NotReset,
            2 => Header::Reset,
            _ => Header::Gauge,
        }
    }

    fn bits(self) -> u8 {
        (match self {
            Header::Unknown => 0,
            Header::NotReset => 1,
            Header::Reset => 2,
            Header::Gauge => 3,
        }) << 6
    }

    /// What a chunk with `bytes` says; `None` if there is no header.
    pub fn of(encoding: crate::Encoding, bytes: &[u8]) -> Option<Header> {
        let &[first, _, third, ..] = bytes else { return None };
        Some(Header::from_bits(if encoding.has_starts() { first } else { third }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
