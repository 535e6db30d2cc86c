//! The records of the log: what one says and how it is written. See `docs/format/wal.md`.
//!
//! [`Record::decode`] checks a record completely and copies nothing; iterating what it returns cannot fail. Encoding
//! appends to a buffer that the caller reuses.

mod codec;
mod histograms;
mod marks;
mod metadata;
mod samples;
mod series;

use self::codec::{Decoder, Walk};
use self::samples::Keys;

pub use self::codec::{LabelIter, LabelPairs};
pub use self::histograms::{
    HISTOGRAM_KINDS, HistogramEntry, HistogramsIter, HistogramsRecord, encode_histograms, histogram_kind,
};
pub use self::marks::{
    MmapMarker, MmapMarkersIter, MmapMarkersRecord, Tombstone, TombstonesIter, TombstonesRecord, encode_mmap_markers,
    encode_tombstones,
};
pub use self::metadata::{MetadataEntry, MetadataIter, MetadataRecord, encode_metadata};
pub use self::samples::{
    ExemplarEntry, ExemplarsIter, ExemplarsRecord, SamplesIter, SamplesRecord, SamplesWithStartsIter, encode_exemplars,
    encode_samples, encode_samples_with_starts,
};
pub use self::series::{SeriesIter, SeriesRecord, encode_series};

/// The first byte of a record.
pub mod kind {
    /// New series with their labels.
    pub const SERIES: u8 = 1;
    /// Float samples.
    pub const SAMPLES: u8 = 2;
    /// Deleted ranges of series.
    pub const TOMBSTONES: u8 = 3;
    /// Exemplars.
    pub const EXEMPLARS: u8 = 4;
    /// Markers of mapped out-of-order chunks (only in the log of out-of-order samples).
    pub const MMAP_MARKERS: u8 = 5;
    /// Metric metadata of series.
    pub const METADATA: u8 = 6;
    /// Native histograms with integer counts.
    pub const HISTOGRAM_SAMPLES: u8 = 7;
    /// Native histograms with float counts.
    pub const FLOAT_HISTOGRAM_SAMPLES: u8 = 8;
    /// As [`HISTOGRAM_SAMPLES`], with custom buckets.
    pub const CUSTOM_BUCKETS_HISTOGRAM_SAMPLES: u8 = 9;
    /// As [`FLOAT_HISTOGRAM_SAMPLES`], with custom buckets.
    pub const CUSTOM_BUCKETS_FLOAT_HISTOGRAM_SAMPLES: u8 = 10;

    /// As [`SAMPLES`], with start timestamps.
    pub const SAMPLES_WITH_STARTS: u8 = 11;
    /// As [`HISTOGRAM_SAMPLES`], with start timestamps and any buckets.
    pub const HISTOGRAM_SAMPLES_WITH_STARTS: u8 = 12;
    /// As [`FLOAT_HISTOGRAM_SAMPLES`], with start timestamps and any buckets.
    pub const FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS: u8 = 13;

    /// The name of a kind, as Prometheus calls it in metrics.
    pub fn name(kind: u8) -> &'static str {
        match kind {
            SERIES => "series",
            SAMPLES => "samples",
            TOMBSTONES => "tombstones",
            EXEMPLARS => "exemplars",
            MMAP_MARKERS => "mmapmarkers",
            METADATA => "metadata",
            HISTOGRAM_SAMPLES => "histogram_samples",
            FLOAT_HISTOGRAM_SAMPLES => "float_histogram_samples",
            CUSTOM_BUCKETS_HISTOGRAM_SAMPLES => "custom_buckets_histogram_samples",
            CUSTOM_BUCKETS_FLOAT_HISTOGRAM_SAMPLES => "custom_buckets_float_histogram_samples",
            SAMPLES_WITH_STARTS => "samples_v2",
            HISTOGRAM_SAMPLES_WITH_STARTS => "histogram_samples_v2",
            FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS => "float_histogram_samples_v2",
            _ => "unknown",
        }
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There is no byte.
    #[error("empty record")]
    Empty,
    /// An entry ends early, or its numbers make no sense.
    #[error("malformed {} record", kind::name(*.kind))]
    Malformed {
        /// See [`kind`].
        kind: u8,
    },
    /// A label or a text is not UTF-8.
    #[error("invalid UTF-8 in {} record", kind::name(*.kind))]
    NotUtf8 {
        /// See [`kind`].
        kind: u8,
    },
}

/// A record of the log, checked.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// New series.
    Series(SeriesRecord<'a>),
    /// Float samples.
    Samples(SamplesRecord<'a>),
    /// Deleted ranges.
    Tombstones(TombstonesRecord<'a>),
    /// Exemplars.
    Exemplars(ExemplarsRecord<'a>),
    /// Metadata of series.
    Metadata(MetadataRecord<'a>),
    /// Histogram samples.
    Histograms(HistogramsRecord<'a>),
    /// Markers of mapped out-of-order chunks.
    MmapMarkers(MmapMarkersRecord<'a>),
    /// A kind that this storage does not know. It stays in the log as it is.
    Unsupported {
        /// See [`kind`].
        kind: u8,
    },
}

impl<'a> Record<'a> {
    /// Reads a record and checks all of it.
    pub fn decode(bytes: &'a [u8]) -> Result<Record<'a>, RecordError> {
        Record::read(bytes, true)
    }

    /// A record that [`Record::decode`] has checked before, without a second walk over its entries.
    pub(crate) fn checked(bytes: &'a [u8]) -> Record<'a> {
        Record::read(bytes, false).unwrap_or(Record::Unsupported { kind: bytes.first().copied().unwrap_or(0) })
    }

    fn read(bytes: &'a [u8], look: bool) -> Result<Record<'a>, RecordError> {
        let (&kind, body) = bytes.split_first().ok_or(RecordError::Empty)?;
        // The walk is the check. What it yields is small, copies nothing, and mostly disappears in compilation.
        fn check<T>(look: bool, kind: u8, mut walk: impl Walk<Item = T>) -> Result<(), RecordError> {
            while look && walk.step().map_err(|fault| fault.of(kind))?.is_some() {}
            Ok(())
        }
        Ok(match kind {
            kind::SERIES => {
                check(look, kind, SeriesIter { dec: Decoder(body) })?;
                Record::Series(SeriesRecord { body })
            }
            kind::SAMPLES | kind::SAMPLES_WITH_STARTS => {
                let keys = match kind {
                    kind::SAMPLES => Keys::plain(body).map_err(|fault| fault.of(kind))?,
                    _ => Keys::with_starts(body),
                };
                let record = SamplesRecord { keys };
                check(look, kind, record.iter())?;
                Record::Samples(record)
            }
            kind::HISTOGRAM_SAMPLES
            | kind::FLOAT_HISTOGRAM_SAMPLES
            | kind::CUSTOM_BUCKETS_HISTOGRAM_SAMPLES
            | kind::CUSTOM_BUCKETS_FLOAT_HISTOGRAM_SAMPLES
            | kind::HISTOGRAM_SAMPLES_WITH_STARTS
            | kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS => {
                let keys = match kind {
                    kind::HISTOGRAM_SAMPLES_WITH_STARTS | kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS => {
                        Keys::with_starts(body)
                    }
                    _ => Keys::plain(body).map_err(|fault| fault.of(kind))?,
                };
                let float = matches!(
                    kind,
                    kind::FLOAT_HISTOGRAM_SAMPLES
                        | kind::CUSTOM_BUCKETS_FLOAT_HISTOGRAM_SAMPLES
                        | kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS
                );
                let record = HistogramsRecord { keys, float };
                check(look, kind, record.iter())?;
                Record::Histograms(record)
            }
            kind::MMAP_MARKERS => {
                let record = MmapMarkersRecord { body };
                check(look, kind, record.iter())?;
                Record::MmapMarkers(record)
            }
            kind::TOMBSTONES => {
                check(look, kind, TombstonesIter { dec: Decoder(body) })?;
                Record::Tombstones(TombstonesRecord { body })
            }
            kind::EXEMPLARS => {
                let record = ExemplarsRecord { keys: Keys::plain(body).map_err(|fault| fault.of(kind))? };
                check(look, kind, record.iter())?;
                Record::Exemplars(record)
            }
            kind::METADATA => {
                check(look, kind, MetadataIter { dec: Decoder(body) })?;
                Record::Metadata(MetadataRecord { body })
            }
            kind => Record::Unsupported { kind },
        })
    }
}

#[cfg(test)]
mod tests;
