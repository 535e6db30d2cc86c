//! The records of the log: what one says and how it is written. See `docs/format/wal.md`.
//!
//! [`Record::decode`] checks a record completely and copies nothing; iterating what it returns cannot fail. Encoding
//! appends to a buffer that the caller reuses.

use std::fmt;

use fk_model::Labels;
use fk_storage::{BatchSample, SeriesRef};

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
            _ => "unknown",
        }
    }
}

/// Most bytes that one encoded sample takes: two differences and a value.
const SAMPLE_BYTES_MAX: usize = 10 + 10 + 8;

/// Most fields of one metadata entry. There are two today, and readers skip names they do not know.
const METADATA_FIELDS_MAX: u64 = 64;

/// Name of the field that holds the unit, and the one that holds the help text.
const UNIT_FIELD: &str = "UNIT";
const HELP_FIELD: &str = "HELP";

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
    /// A kind that this storage does not read (histograms, or something newer). It stays in the log as it is.
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
            kind::SAMPLES => {
                let base = Base::take(body).map_err(|fault| fault.of(kind))?;
                check(look, kind, base.samples())?;
                Record::Samples(SamplesRecord { base })
            }
            kind::TOMBSTONES => {
                check(look, kind, TombstonesIter { dec: Decoder(body) })?;
                Record::Tombstones(TombstonesRecord { body })
            }
            kind::EXEMPLARS => {
                let base = Base::take(body).map_err(|fault| fault.of(kind))?;
                check(look, kind, base.exemplars())?;
                Record::Exemplars(ExemplarsRecord { base })
            }
            kind::METADATA => {
                check(look, kind, MetadataIter { dec: Decoder(body) })?;
                Record::Metadata(MetadataRecord { body })
            }
            kind => Record::Unsupported { kind },
        })
    }
}

// === Primitives ===

/// What can be wrong with an entry, before it is known in what record.
enum Fault {
    Malformed,
    NotUtf8,
}

impl Fault {
    fn of(self, kind: u8) -> RecordError {
        match self {
            Fault::Malformed => RecordError::Malformed { kind },
            Fault::NotUtf8 => RecordError::NotUtf8 { kind },
        }
    }
}

/// An iterator that can tell its end from a fault. The public iterators run only over what was walked once, so there a
/// fault cannot happen and reads as the end.
trait Walk {
    type Item;
    fn step(&mut self) -> Result<Option<Self::Item>, Fault>;
}

macro_rules! iterate {
    ($iter:ident, $item:ty) => {
        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                self.step().ok().flatten()
            }
        }
    };
}

#[derive(Clone, Copy, Debug)]
struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.0.split_first().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(byte)
    }

    #[inline]
    fn be64(&mut self) -> Result<u64, Fault> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// Most numbers are differences between neighbours and take one or two bytes.
    #[inline]
    fn uvarint(&mut self) -> Result<u64, Fault> {
        match *self.0 {
            [a, ref rest @ ..] if a < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_uvarint(),
        }
    }

    fn long_uvarint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for (i, &byte) in self.0.iter().enumerate().take(10) {
            if byte < 0x80 {
                if i == 9 && byte > 1 {
                    return Err(Fault::Malformed);
                }
                self.0 = &self.0[i + 1..];
                return Ok(value | u64::from(byte) << (7 * i));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
        }
        Err(Fault::Malformed)
    }

    #[inline]
    fn varint(&mut self) -> Result<i64, Fault> {
        let zigzag = self.uvarint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    #[inline]
    fn str(&mut self) -> Result<&'a str, Fault> {
        let len = usize::try_from(self.uvarint()?).map_err(|_| Fault::Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Fault::Malformed)?;
        self.0 = rest;
        std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)
    }

    /// The labels of one entry: their number, then names and values.
    #[inline]
    fn labels(&mut self) -> Result<LabelPairs<'a>, Fault> {
        let count = self.uvarint()?;
        // Two strings of a label take at least a byte each, so a number that cannot be true ends here, not after a walk.
        if count > self.0.len() as u64 / 2 {
            return Err(Fault::Malformed);
        }
        let start = self.0;
        for _ in 0..count {
            self.str()?;
            self.str()?;
        }
        Ok(LabelPairs { body: &start[..start.len() - self.0.len()] })
    }
}

#[inline]
fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Writes a number into `entry` at `at`; returns where it ends.
#[inline]
fn set_varint(entry: &mut [u8; SAMPLE_BYTES_MAX], mut at: usize, value: i64) -> usize {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        entry[at] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        at += 1;
    }
    entry[at] = zigzag as u8;
    at + 1
}

fn put_str(out: &mut Vec<u8>, s: &str) {
    put_uvarint(out, s.len() as u64);
    out.extend_from_slice(s.as_bytes());
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        put_str(out, name);
        put_str(out, value);
    }
}

// === Labels ===

/// The labels of an entry, still in the log's form, checked.
#[derive(Clone, Copy)]
pub struct LabelPairs<'a> {
    body: &'a [u8],
}

impl<'a> LabelPairs<'a> {
    /// Names and values in the order of the log, which is by name in all logs that Prometheus or we write.
    pub fn iter(&self) -> LabelIter<'a> {
        LabelIter { dec: Decoder(self.body) }
    }

    /// The label set. Whatever order the pairs have, the set is in order and has no empty value.
    pub fn to_labels(&self) -> Labels {
        let mut last = "";
        let proper = self.iter().all(|(name, value)| {
            let ascends = last < name || last.is_empty();
            last = name;
            ascends && !name.is_empty() && !value.is_empty()
        });
        if proper { Labels::from_sorted(self.iter()) } else { Labels::from_pairs(self.iter()) }
    }
}

impl fmt::Debug for LabelPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Iterates [`LabelPairs`].
#[derive(Clone, Debug)]
pub struct LabelIter<'a> {
    dec: Decoder<'a>,
}

impl<'a> Walk for LabelIter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn step(&mut self) -> Result<Option<(&'a str, &'a str)>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.dec.str()?, self.dec.str()?)))
    }
}

iterate!(LabelIter, (&'a str, &'a str));

// === Series ===

/// New series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRecord<'a> {
    body: &'a [u8],
}

impl<'a> SeriesRecord<'a> {
    /// The series, in the order they were logged.
    pub fn iter(&self) -> SeriesIter<'a> {
        SeriesIter { dec: Decoder(self.body) }
    }
}

/// Iterates a [`SeriesRecord`].
#[derive(Clone, Debug)]
pub struct SeriesIter<'a> {
    dec: Decoder<'a>,
}

impl<'a> Walk for SeriesIter<'a> {
    type Item = (SeriesRef, LabelPairs<'a>);

    #[inline]
    fn step(&mut self) -> Result<Option<(SeriesRef, LabelPairs<'a>)>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        Ok(Some((SeriesRef(self.dec.be64()?), self.dec.labels()?)))
    }
}

iterate!(SeriesIter, (SeriesRef, LabelPairs<'a>));

/// Appends a series record to `out`.
pub fn encode_series<'a>(series: impl IntoIterator<Item = (SeriesRef, &'a Labels)>, out: &mut Vec<u8>) {
    out.push(kind::SERIES);
    for (series, labels) in series {
        out.extend_from_slice(&series.0.to_be_bytes());
        put_labels(out, labels);
    }
}

// === Samples and exemplars ===

/// The first series and time of a record, against which its entries are written, and the entries.
#[derive(Clone, Copy, Debug)]
struct Base<'a> {
    series: u64,
    t: i64,
    dec: Decoder<'a>,
}

impl<'a> Base<'a> {
    fn take(body: &'a [u8]) -> Result<Base<'a>, Fault> {
        let mut dec = Decoder(body);
        if body.is_empty() {
            return Ok(Base { series: 0, t: 0, dec });
        }
        Ok(Base { series: dec.be64()?, t: dec.be64()? as i64, dec })
    }

    /// Series, time and value of the next entry.
    #[inline]
    fn sample(&mut self) -> Result<BatchSample, Fault> {
        let series = SeriesRef(self.series.wrapping_add(self.dec.varint()? as u64));
        let t = self.t.wrapping_add(self.dec.varint()?);
        Ok(BatchSample { series, t, v: f64::from_bits(self.dec.be64()?) })
    }

    fn samples(self) -> SamplesIter<'a> {
        SamplesIter { base: self }
    }

    fn exemplars(self) -> ExemplarsIter<'a> {
        ExemplarsIter { base: self }
    }
}

/// Float samples.
#[derive(Clone, Copy, Debug)]
pub struct SamplesRecord<'a> {
    base: Base<'a>,
}

impl<'a> SamplesRecord<'a> {
    /// The samples, in the order they were logged.
    pub fn iter(&self) -> SamplesIter<'a> {
        self.base.samples()
    }
}

/// Iterates a [`SamplesRecord`].
#[derive(Clone, Debug)]
pub struct SamplesIter<'a> {
    base: Base<'a>,
}

impl Walk for SamplesIter<'_> {
    type Item = BatchSample;

    #[inline]
    fn step(&mut self) -> Result<Option<BatchSample>, Fault> {
        if self.base.dec.0.is_empty() { Ok(None) } else { self.base.sample().map(Some) }
    }
}

iterate!(SamplesIter, BatchSample);

/// Appends a record of float samples to `out`. Costs least when series and times lie close together.
pub fn encode_samples(samples: &[BatchSample], out: &mut Vec<u8>) {
    out.push(kind::SAMPLES);
    let Some(first) = samples.first() else { return };
    out.reserve(16 + samples.len() * SAMPLE_BYTES_MAX);
    out.extend_from_slice(&first.series.0.to_be_bytes());
    out.extend_from_slice(&first.t.to_be_bytes());
    for sample in samples {
        // Put together on the stack, so that the buffer's length is checked and changed once per sample.
        let mut entry = [0; SAMPLE_BYTES_MAX];
        let len = set_varint(&mut entry, 0, sample.series.0.wrapping_sub(first.series.0) as i64);
        let len = set_varint(&mut entry, len, sample.t.wrapping_sub(first.t));
        entry[len..len + 8].copy_from_slice(&sample.v.to_bits().to_be_bytes());
        out.extend_from_slice(&entry[..len + 8]);
    }
}

/// An exemplar to be logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The series it belongs to.
    pub series: SeriesRef,
    /// Time, ms.
    pub t: i64,
    /// Value.
    pub v: f64,
    /// Its own labels, such as a trace id.
    pub labels: Labels,
}

/// An exemplar in a record.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarEntry<'a> {
    /// Series, time and value.
    pub sample: BatchSample,
    /// Its own labels.
    pub labels: LabelPairs<'a>,
}

/// Exemplars.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarsRecord<'a> {
    base: Base<'a>,
}

impl<'a> ExemplarsRecord<'a> {
    /// The exemplars, in the order they were logged.
    pub fn iter(&self) -> ExemplarsIter<'a> {
        self.base.exemplars()
    }
}

/// Iterates an [`ExemplarsRecord`].
#[derive(Clone, Debug)]
pub struct ExemplarsIter<'a> {
    base: Base<'a>,
}

impl<'a> Walk for ExemplarsIter<'a> {
    type Item = ExemplarEntry<'a>;

    fn step(&mut self) -> Result<Option<ExemplarEntry<'a>>, Fault> {
        if self.base.dec.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(ExemplarEntry { sample: self.base.sample()?, labels: self.base.dec.labels()? }))
    }
}

iterate!(ExemplarsIter, ExemplarEntry<'a>);

/// Appends a record of exemplars to `out`.
pub fn encode_exemplars(exemplars: &[Exemplar], out: &mut Vec<u8>) {
    out.push(kind::EXEMPLARS);
    let Some(first) = exemplars.first() else { return };
    out.extend_from_slice(&first.series.0.to_be_bytes());
    out.extend_from_slice(&first.t.to_be_bytes());
    for exemplar in exemplars {
        put_varint(out, exemplar.series.0.wrapping_sub(first.series.0) as i64);
        put_varint(out, exemplar.t.wrapping_sub(first.t));
        out.extend_from_slice(&exemplar.v.to_bits().to_be_bytes());
        put_labels(out, &exemplar.labels);
    }
}

// === Tombstones ===

/// A range of a series that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The series.
    pub series: SeriesRef,
    /// First time deleted, ms.
    pub mint: i64,
    /// Last time deleted, ms.
    pub maxt: i64,
}

/// Deleted ranges.
#[derive(Clone, Copy, Debug)]
pub struct TombstonesRecord<'a> {
    body: &'a [u8],
}

impl<'a> TombstonesRecord<'a> {
    /// The ranges, in the order they were logged.
    pub fn iter(&self) -> TombstonesIter<'a> {
        TombstonesIter { dec: Decoder(self.body) }
    }
}

/// Iterates a [`TombstonesRecord`].
#[derive(Clone, Debug)]
pub struct TombstonesIter<'a> {
    dec: Decoder<'a>,
}

impl Walk for TombstonesIter<'_> {
    type Item = Tombstone;

    fn step(&mut self) -> Result<Option<Tombstone>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        let series = SeriesRef(self.dec.be64()?);
        Ok(Some(Tombstone { series, mint: self.dec.varint()?, maxt: self.dec.varint()? }))
    }
}

iterate!(TombstonesIter, Tombstone);

/// Appends a record of deleted ranges to `out`.
pub fn encode_tombstones(tombstones: &[Tombstone], out: &mut Vec<u8>) {
    out.push(kind::TOMBSTONES);
    for tombstone in tombstones {
        out.extend_from_slice(&tombstone.series.0.to_be_bytes());
        put_varint(out, tombstone.mint);
        put_varint(out, tombstone.maxt);
    }
}

// === Metadata ===

/// Metadata of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataEntry<'a> {
    /// The series.
    pub series: SeriesRef,
    /// The metric type: 0 unknown, 1 counter, 2 gauge, 3 histogram, 4 gauge histogram, 5 summary, 6 info, 7 state set.
    pub metric_type: u8,
    /// The unit, may be empty.
    pub unit: &'a str,
    /// The help text, may be empty.
    pub help: &'a str,
}

/// Metadata of series.
#[derive(Clone, Copy, Debug)]
pub struct MetadataRecord<'a> {
    body: &'a [u8],
}

impl<'a> MetadataRecord<'a> {
    /// The entries, in the order they were logged.
    pub fn iter(&self) -> MetadataIter<'a> {
        MetadataIter { dec: Decoder(self.body) }
    }
}

/// Iterates a [`MetadataRecord`].
#[derive(Clone, Debug)]
pub struct MetadataIter<'a> {
    dec: Decoder<'a>,
}

impl<'a> Walk for MetadataIter<'a> {
    type Item = MetadataEntry<'a>;

    fn step(&mut self) -> Result<Option<MetadataEntry<'a>>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        let series = SeriesRef(self.dec.uvarint()?);
        let mut entry = MetadataEntry { series, metric_type: self.dec.byte()?, unit: "", help: "" };
        let fields = self.dec.uvarint()?;
        if fields > METADATA_FIELDS_MAX {
            return Err(Fault::Malformed);
        }
        for _ in 0..fields {
            match (self.dec.str()?, self.dec.str()?) {
                (UNIT_FIELD, unit) => entry.unit = unit,
                (HELP_FIELD, help) => entry.help = help,
                _ => {}
            }
        }
        Ok(Some(entry))
    }
}

iterate!(MetadataIter, MetadataEntry<'a>);

/// Appends a record of metadata to `out`.
pub fn encode_metadata<'a>(entries: impl IntoIterator<Item = MetadataEntry<'a>>, out: &mut Vec<u8>) {
    out.push(kind::METADATA);
    for entry in entries {
        put_uvarint(out, entry.series.0);
        out.push(entry.metric_type);
        put_uvarint(out, 2);
        for (name, text) in [(UNIT_FIELD, entry.unit), (HELP_FIELD, entry.help)] {
            put_str(out, name);
            put_str(out, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(series: u64, t: i64, v: f64) -> BatchSample {
        BatchSample { series: SeriesRef(series), t, v }
    }

    fn bits(samples: impl IntoIterator<Item = BatchSample>) -> Vec<(u64, i64, u64)> {
        samples.into_iter().map(|s| (s.series.0, s.t, s.v.to_bits())).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
        let mut out = Vec::new();
        encode_series([(SeriesRef(258), &labels)], &mut out);
        assert_eq!(hex(&out), "01_0000000000000102_02_08_5f5f6e616d655f5f_02_7570_03_6a6f62_01_61".replace('_', ""));

        out.clear();
        encode_samples(&[sample(10, 1000, 1.0), sample(8, 1064, -2.0)], &mut out);
        let expected = "02_000000000000000a_00000000000003e8_00_00_3ff0000000000000_03_8001_c000000000000000";
        assert_eq!(hex(&out), expected.replace('_', ""));

        out.clear();
        encode_tombstones(&[Tombstone { series: SeriesRef(1), mint: -1, maxt: 64 }], &mut out);
        assert_eq!(hex(&out), "03_0000000000000001_01_8001".replace('_', ""));

        out.clear();
        let trace = Labels::from_pairs([("t", "x")]);
        encode_exemplars(&[Exemplar { series: SeriesRef(1), t: 2, v: 0.0, labels: trace }], &mut out);
        let expected = "04_0000000000000001_0000000000000002_00_00_0000000000000000_01_01_74_01_78";
        assert_eq!(hex(&out), expected.replace('_', ""));

        out.clear();
        encode_metadata([MetadataEntry { series: SeriesRef(200), metric_type: 1, unit: "", help: "h" }], &mut out);
        assert_eq!(hex(&out), "06_c801_01_02_04_554e4954_00_04_48454c50_01_68".replace('_', ""));
    }

    #[test]
    fn empty_lists_are_records_too() {
        let mut out = Vec::new();
        encode_samples(&[], &mut out);
        assert!(matches!(Record::decode(&out), Ok(Record::Samples(s)) if s.iter().count() == 0));
        assert!(matches!(Record::decode(&[kind::SERIES]), Ok(Record::Series(s)) if s.iter().count() == 0));
        assert_eq!(Record::decode(&[]).expect_err("nothing"), RecordError::Empty);
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        for kind in [5, 7, 8, 9, 10, 11, 12, 200, 255, 0] {
            let bytes = [kind, 1, 2, 3];
            let record = Record::decode(&bytes).expect("not looked into");
            assert!(matches!(record, Record::Unsupported { kind: k } if k == kind), "{kind}");
        }
        assert_eq!(kind::name(7), "histogram_samples");
        assert_eq!(kind::name(77), "unknown");
    }

    #[test]
    fn numbers_that_cannot_be_true_are_malformed() {
        let malformed = |bytes: &[u8]| Record::decode(bytes).expect_err("malformed");
        let series = |rest: &[u8]| malformed(&[&[kind::SERIES, 0, 0, 0, 0, 0, 0, 0, 1], rest].concat());
        assert_eq!(series(&[]), RecordError::Malformed { kind: 1 });
        assert_eq!(series(&[0xff, 0xff, 0xff, 0xff, 0x0f]), RecordError::Malformed { kind: 1 });
        assert_eq!(
            series(&[1, 1, b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            RecordError::Malformed { kind: 1 }
        );
        assert_eq!(series(&[1, 1, b'a', 1, 0xff]), RecordError::NotUtf8 { kind: 1 });
        assert_eq!(malformed(&[kind::SAMPLES, 1]), RecordError::Malformed { kind: 2 });
        let overlong = [[0x80; 9].as_slice(), &[2]].concat();
        assert_eq!(
            malformed(&[&[kind::SAMPLES], [0; 16].as_slice(), &overlong].concat()),
            RecordError::Malformed { kind: 2 }
        );
        assert_eq!(malformed(&[kind::METADATA, 1, 1, 65]), RecordError::Malformed { kind: 6 });
    }

    #[test]
    fn labels_in_a_strange_order_become_a_proper_set() {
        let bytes = [&[kind::SERIES], [0; 8].as_slice(), &[3, 1, b'b', 1, b'2', 1, b'a', 1, b'1', 1, b'c', 0]].concat();
        let Ok(Record::Series(record)) = Record::decode(&bytes) else { panic!("series") };
        let (_, pairs) = record.iter().next().expect("one");
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(pairs.to_labels(), Labels::from_pairs([("a", "1"), ("b", "2")]));
    }

    fn labels() -> impl Strategy<Value = Labels> {
        proptest::collection::vec(("[a-z_é]{1,9}", ".{0,20}"), 0..6).prop_map(Labels::from_pairs)
    }

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(fk_model::stale_nan()), (0..9).prop_map(f64::from)]
    }

    proptest! {
        #[test]
        fn samples_come_back(samples in proptest::collection::vec((any::<u64>(), any::<i64>(), float()), 0..50)) {
            let samples: Vec<_> = samples.into_iter().map(|(s, t, v)| sample(s, t, v)).collect();
            let mut out = Vec::new();
            encode_samples(&samples, &mut out);
            let Ok(Record::Samples(record)) = Record::decode(&out) else { panic!("samples") };
            prop_assert_eq!(bits(record.iter()), bits(samples));
        }

        #[test]
        fn series_come_back(series in proptest::collection::vec((any::<u64>().prop_map(SeriesRef), labels()), 0..9)) {
            let mut out = Vec::new();
            encode_series(series.iter().map(|(r, l)| (*r, l)), &mut out);
            let Ok(Record::Series(record)) = Record::decode(&out) else { panic!("series") };
            let back: Vec<_> = record.iter().map(|(r, l)| (r, l.to_labels())).collect();
            prop_assert_eq!(back, series);
        }

        #[test]
        fn exemplars_come_back(list in proptest::collection::vec((any::<u64>(), any::<i64>(), float(), labels()), 0..9)) {
            let list: Vec<_> =
                list.into_iter().map(|(s, t, v, labels)| Exemplar { series: SeriesRef(s), t, v, labels }).collect();
            let mut out = Vec::new();
            encode_exemplars(&list, &mut out);
            let Ok(Record::Exemplars(record)) = Record::decode(&out) else { panic!("exemplars") };
            prop_assert_eq!(record.iter().map(|e| e.labels.to_labels()).collect::<Vec<_>>(),
                list.iter().map(|e| e.labels.clone()).collect::<Vec<_>>());
            prop_assert_eq!(bits(record.iter().map(|e| e.sample)), bits(list.iter().map(|e| sample(e.series.0, e.t, e.v))));
        }

        #[test]
        fn tombstones_come_back(list in proptest::collection::vec(any::<(u64, i64, i64)>(), 0..9)) {
            let list: Vec<_> =
                list.into_iter().map(|(s, mint, maxt)| Tombstone { series: SeriesRef(s), mint, maxt }).collect();
            let mut out = Vec::new();
            encode_tombstones(&list, &mut out);
            let Ok(Record::Tombstones(record)) = Record::decode(&out) else { panic!("tombstones") };
            prop_assert_eq!(record.iter().collect::<Vec<_>>(), list);
        }

        #[test]
        fn metadata_comes_back(list in proptest::collection::vec((any::<u64>(), any::<u8>(), ".{0,9}", ".{0,30}"), 0..9)) {
            let entries: Vec<_> = list
                .iter()
                .map(|(s, m, unit, help)| MetadataEntry { series: SeriesRef(*s), metric_type: *m, unit, help })
                .collect();
            let mut out = Vec::new();
            encode_metadata(entries.iter().copied(), &mut out);
            let Ok(Record::Metadata(record)) = Record::decode(&out) else { panic!("metadata") };
            prop_assert_eq!(record.iter().collect::<Vec<_>>(), entries);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..12) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok(Record::Series(record)) = Record::decode(&bytes) {
                record.iter().for_each(|(_, labels)| drop(labels.to_labels()));
            }
        }

        #[test]
        fn a_cut_record_is_refused_or_shorter(samples in proptest::collection::vec((0u64..99, 0i64..99), 1..9), cut in any::<prop::sample::Index>()) {
            let samples: Vec<_> = samples.into_iter().map(|(s, t)| sample(s, t, 1.0)).collect();
            let mut out = Vec::new();
            encode_samples(&samples, &mut out);
            out.truncate(cut.index(out.len()));
            match Record::decode(&out) {
                Ok(Record::Samples(record)) => {
                    let n = record.iter().count();
                    prop_assert!(n < samples.len());
                    prop_assert_eq!(bits(record.iter()), bits(samples[..n].to_vec()));
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(_) => {}
            }
        }
    }
}
