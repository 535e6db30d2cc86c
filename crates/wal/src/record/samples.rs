//! Records of float samples and of exemplars, and what all records of samples have in front of each value.

use fk_storage::{BatchSample, Exemplar, SeriesRef};

use super::codec::{Decoder, Fault, LabelPairs, SAMPLE_BYTES_MAX, Walk, iterate, put_labels, put_varint, set_varint};
use super::kind;

/// What stands for a start timestamp.
pub(super) mod start {
    /// There is none.
    pub const NONE: u8 = 0;
    /// That of the entry before.
    pub const SAME: u8 = 1;
    /// The difference to that of the first entry follows.
    pub const OTHER: u8 = 2;
}

/// Series, time and start timestamp in front of each value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    /// The first series of the record; of one with start timestamps that of the last entry.
    series: u64,
    /// The first time of the record.
    t: i64,
    starts: Option<Starts>,
    pub(super) dec: Decoder<'a>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Starts {
    begun: bool,
    first: i64,
    last: i64,
}

impl<'a> Keys<'a> {
    /// Of a record without start timestamps: each entry is written against the first series and time.
    pub(super) fn plain(body: &'a [u8]) -> Result<Keys<'a>, Fault> {
        let mut dec = Decoder(body);
        if body.is_empty() {
            return Ok(Keys { series: 0, t: 0, starts: None, dec });
        }
        Ok(Keys { series: dec.be64()?, t: dec.be64()? as i64, starts: None, dec })
    }

    /// Of a record with start timestamps.
    pub(super) fn with_starts(body: &'a [u8]) -> Keys<'a> {
        Keys { series: 0, t: 0, starts: Some(Starts::default()), dec: Decoder(body) }
    }

    /// Those of the next entry; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(SeriesRef, i64, i64)>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        if self.starts.is_some() {
            return self.next_with_start().map(Some);
        }
        let series = SeriesRef(self.series.wrapping_add(self.dec.varint()? as u64));
        let t = self.t.wrapping_add(self.dec.varint()?);
        Ok(Some((series, t, 0)))
    }

    fn next_with_start(&mut self) -> Result<(SeriesRef, i64, i64), Fault> {
        let starts = self.starts.get_or_insert_default();
        self.series = self.series.wrapping_add(self.dec.varint()? as u64);
        let t = self.t.wrapping_add(self.dec.varint()?);
        if starts.begun {
            starts.last = match self.dec.byte()? {
                start::NONE => 0,
                start::SAME => starts.last,
                // Prometheus takes any other byte for this one.
                _ => starts.first.wrapping_add(self.dec.varint()?),
            };
        } else {
            let first = self.dec.varint()?;
            *starts = Starts { begun: true, first, last: first };
            self.t = t;
        }
        Ok((SeriesRef(self.series), t, starts.last))
    }
}

/// Writes what is in front of each value.
pub(super) struct KeyWriter {
    first: Option<(u64, i64, i64)>,
    series: u64,
    start: i64,
    with_starts: bool,
}

impl KeyWriter {
    pub(super) fn new(with_starts: bool) -> KeyWriter {
        KeyWriter { first: None, series: 0, start: 0, with_starts }
    }

    pub(super) fn put(&mut self, out: &mut Vec<u8>, series: SeriesRef, t: i64, start: i64) {
        let (first_series, first_t, first_start) = match self.first {
            Some(first) => first,
            None => {
                self.first = Some((series.0, t, start));
                if self.with_starts {
                    put_varint(out, series.0 as i64);
                    put_varint(out, t);
                    put_varint(out, start);
                    (self.series, self.start) = (series.0, start);
                    return;
                }
                out.extend_from_slice(&series.0.to_be_bytes());
                out.extend_from_slice(&t.to_be_bytes());
                (series.0, t, start)
            }
        };
        let base = if self.with_starts { self.series } else { first_series };
        put_varint(out, series.0.wrapping_sub(base) as i64);
        put_varint(out, t.wrapping_sub(first_t));
        if self.with_starts {
            if start == 0 {
                out.push(start::NONE);
            } else if start == self.start {
                out.push(start::SAME);
            } else {
                out.push(start::OTHER);
                put_varint(out, start.wrapping_sub(first_start));
            }
            (self.series, self.start) = (series.0, start);
        }
    }
}

/// Float samples.
#[derive(Clone, Copy, Debug)]
pub struct SamplesRecord<'a> {
    pub(super) keys: Keys<'a>,
}

impl<'a> SamplesRecord<'a> {
    /// The samples, in the order they were logged.
    pub fn iter(&self) -> SamplesIter<'a> {
        SamplesIter { keys: self.keys }
    }

    /// Whether there are start timestamps.
    pub fn has_starts(&self) -> bool {
        self.keys.starts.is_some()
    }

    /// The samples with their start timestamps, ms, 0 where not known.
    pub fn iter_with_starts(&self) -> SamplesWithStartsIter<'a> {
        SamplesWithStartsIter { keys: self.keys }
    }
}

/// Iterates a [`SamplesRecord`].
#[derive(Clone, Debug)]
pub struct SamplesIter<'a> {
    keys: Keys<'a>,
}

impl Walk for SamplesIter<'_> {
    type Item = BatchSample;

    #[inline]
    fn step(&mut self) -> Result<Option<BatchSample>, Fault> {
        let Some((series, t, _)) = self.keys.next()? else { return Ok(None) };
        Ok(Some(BatchSample { series, t, v: f64::from_bits(self.keys.dec.be64()?) }))
    }
}

iterate!(SamplesIter, BatchSample);

/// Iterates a [`SamplesRecord`] with start timestamps.
#[derive(Clone, Debug)]
pub struct SamplesWithStartsIter<'a> {
    keys: Keys<'a>,
}

impl Walk for SamplesWithStartsIter<'_> {
    type Item = (BatchSample, i64);

    #[inline]
    fn step(&mut self) -> Result<Option<(BatchSample, i64)>, Fault> {
        let Some((series, t, start)) = self.keys.next()? else { return Ok(None) };
        Ok(Some((BatchSample { series, t, v: f64::from_bits(self.keys.dec.be64()?) }, start)))
    }
}

iterate!(SamplesWithStartsIter, (BatchSample, i64));

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

/// Appends a record of float samples with their start timestamps (ms, 0 where not known; missing ones count as 0) to `out`.
/// Only Prometheus 3.11 and newer read it.
pub fn encode_samples_with_starts(samples: &[BatchSample], starts: &[i64], out: &mut Vec<u8>) {
    out.push(kind::SAMPLES_WITH_STARTS);
    let mut keys = KeyWriter::new(true);
    let starts = starts.iter().copied().chain(std::iter::repeat(0));
    for (sample, start) in samples.iter().zip(starts) {
        keys.put(out, sample.series, sample.t, start);
        out.extend_from_slice(&sample.v.to_bits().to_be_bytes());
    }
}

/// An exemplar in a record.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarEntry<'a> {
    /// Series, time and value.
    pub sample: BatchSample,
    /// Its own labels.
    pub labels: LabelPairs<'a>,
}

impl ExemplarEntry<'_> {
    /// The exemplar.
    pub fn to_exemplar(&self) -> Exemplar {
        Exemplar { labels: self.labels.to_labels(), v: self.sample.v, t: self.sample.t }
    }
}

/// Exemplars.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarsRecord<'a> {
    pub(super) keys: Keys<'a>,
}

impl<'a> ExemplarsRecord<'a> {
    /// The exemplars, in the order they were logged.
    pub fn iter(&self) -> ExemplarsIter<'a> {
        ExemplarsIter { keys: self.keys }
    }
}

/// Iterates an [`ExemplarsRecord`].
#[derive(Clone, Debug)]
pub struct ExemplarsIter<'a> {
    pub(super) keys: Keys<'a>,
}

impl<'a> Walk for ExemplarsIter<'a> {
    type Item = ExemplarEntry<'a>;

    fn step(&mut self) -> Result<Option<ExemplarEntry<'a>>, Fault> {
        let Some((series, t, _)) = self.keys.next()? else { return Ok(None) };
        let sample = BatchSample { series, t, v: f64::from_bits(self.keys.dec.be64()?) };
        Ok(Some(ExemplarEntry { sample, labels: self.keys.dec.labels()? }))
    }
}

iterate!(ExemplarsIter, ExemplarEntry<'a>);

/// Appends a record of exemplars to `out`.
pub fn encode_exemplars<'a>(exemplars: impl IntoIterator<Item = (SeriesRef, &'a Exemplar)>, out: &mut Vec<u8>) {
    out.push(kind::EXEMPLARS);
    let mut keys = KeyWriter::new(false);
    for (series, exemplar) in exemplars {
        keys.put(out, series, exemplar.t, 0);
        out.extend_from_slice(&exemplar.v.to_bits().to_be_bytes());
        put_labels(out, &exemplar.labels);
    }
}
