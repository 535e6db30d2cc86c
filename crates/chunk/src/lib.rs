//! Chunks: runs of samples of one series in the encodings of Prometheus, byte for byte, so that a chunk is produced once
//! and from then on only copied (into head chunk files, into blocks, over the wire). See `docs/format/chunks.md`.
//!
//! A chunk here is the payload without the framing of the files: no length, no encoding byte, no checksum.
//!
//! Reading: [`decode_range`] appends the samples of any chunk to the columns that queries work on; [`decode_exact`] hands
//! them over one by one as they were appended.

mod bits;
mod fault;
pub mod histogram;
mod starts;
pub mod xor;
pub mod xor2;

use std::sync::Arc;

use fk_storage::{HistogramValue, Samples};

use crate::histogram::{Float, Int, Kind, Reader};

/// How a chunk is encoded: the byte in front of its data in all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Floats, see [`xor`].
    Xor,
    /// Histograms with integer counts.
    Histogram,
    /// Histograms with float counts.
    FloatHistogram,
    /// Floats with start timestamps.
    Xor2,
    /// Histograms with integer counts and start timestamps.
    HistogramSt,
    /// Histograms with float counts and start timestamps.
    FloatHistogramSt,
}

impl Encoding {
    /// The encoding that a byte stands for.
    pub fn from_byte(byte: u8) -> Option<Encoding> {
        Some(match byte {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            4 => Encoding::Xor2,
            5 => Encoding::HistogramSt,
            6 => Encoding::FloatHistogramSt,
            _ => return None,
        })
    }

    /// The byte that stands for it.
    pub fn byte(self) -> u8 {
        match self {
            Encoding::Xor => 1,
            Encoding::Histogram => 2,
            Encoding::FloatHistogram => 3,
            Encoding::Xor2 => 4,
            Encoding::HistogramSt => 5,
            Encoding::FloatHistogramSt => 6,
        }
    }

    /// Its name, as Prometheus prints it.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Xor => "XOR",
            Encoding::Histogram => "histogram",
            Encoding::FloatHistogram => "floathistogram",
            Encoding::Xor2 => "XOR2",
            Encoding::HistogramSt => "histogramST",
            Encoding::FloatHistogramSt => "floathistogramST",
        }
    }

    /// Whether the samples are floats, not histograms.
    pub fn is_float(self) -> bool {
        matches!(self, Encoding::Xor | Encoding::Xor2)
    }

    /// Whether samples may have start timestamps.
    pub fn has_starts(self) -> bool {
        matches!(self, Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt)
    }

    /// Bytes in front of the first sample.
    pub fn header_bytes(self) -> usize {
        match self {
            Encoding::Xor => xor::HEADER_BYTES,
            _ => 3,
        }
    }

    /// Most samples that a chunk can hold, by the width of its header.
    pub fn samples_max(self) -> usize {
        match self {
            Encoding::HistogramSt | Encoding::FloatHistogramSt => 0x3fff,
            _ => 0xffff,
        }
    }

    /// How many samples the header of a chunk promises; `None` if there is no header.
    pub fn count(self, bytes: &[u8]) -> Option<usize> {
        let &[a, b, ..] = bytes else { return None };
        (bytes.len() >= self.header_bytes()).then_some(usize::from(u16::from_be_bytes([a, b])) & self.samples_max())
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
    /// A histogram whose spans do not describe its buckets cannot be written.
    #[error("spans and buckets of a histogram do not match")]
    Mismatch,
}

/// The value of a sample, as it was appended.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(HistogramValue),
}

/// A sample, as it was appended.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Time, ms.
    pub t: i64,
    /// Start timestamp, ms; 0 if not known.
    pub start: i64,
    /// Its value.
    pub v: SampleValue,
}

/// Appends the samples with times in `mint..=maxt` among the first `samples_max` ones of a chunk to `out`. Stops reading
/// at the first sample past `maxt`. Histograms come with float counts and with what the chunk says about counter resets.
/// After an error `out` has the samples in front of the damage.
pub fn decode_range(
    encoding: Encoding,
    bytes: &[u8],
    samples_max: usize,
    mint: i64,
    maxt: i64,
    out: &mut Samples,
) -> Result<(), ChunkError> {
    let result = match encoding {
        Encoding::Xor => xor::decode_range(bytes, samples_max, mint, maxt, &mut out.t, &mut out.v),
        Encoding::Xor2 => xor2::scan(bytes, samples_max, |start, t, v| {
            if t >= mint && t <= maxt {
                push_start(out, start);
                out.push(t, v);
            }
            t <= maxt
        }),
        Encoding::Histogram | Encoding::HistogramSt => {
            let reader = Reader::<Int>::new(encoding.has_starts(), bytes)?;
            histograms(reader, samples_max, mint, maxt, out)
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let reader = Reader::<Float>::new(encoding.has_starts(), bytes)?;
            histograms(reader, samples_max, mint, maxt, out)
        }
    };
    // Start timestamps are there for all samples or for none.
    if !out.starts.is_empty() {
        out.starts.resize(out.t.len(), 0);
    }
    result
}

fn histograms<K: Kind>(
    mut reader: Reader<'_, K>,
    samples_max: usize,
    mint: i64,
    maxt: i64,
    out: &mut Samples,
) -> Result<(), ChunkError> {
    for _ in 0..samples_max {
        if !reader.next()? || reader.t() > maxt {
            break;
        }
        if reader.t() < mint {
            continue;
        }
        let histogram = reader.float()?;
        push_start(out, reader.start());
        out.histograms.push((out.t.len() as u32, histogram));
        out.push(reader.t(), reader.sum());
    }
    Ok(())
}

/// Adds the start timestamp of the sample that is pushed next. None are kept as long as none is known.
fn push_start(out: &mut Samples, start: i64) {
    if start != 0 || !out.starts.is_empty() {
        out.starts.resize(out.t.len(), 0);
        out.starts.push(start);
    }
}

/// Calls `each` with the samples of a chunk one by one, among the first `samples_max` ones, until it returns `false`.
pub fn decode_exact(
    encoding: Encoding,
    bytes: &[u8],
    samples_max: usize,
    each: &mut dyn FnMut(Sample) -> bool,
) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor => {
            xor::scan(bytes, samples_max, |t, v| each(Sample { t, start: 0, v: SampleValue::Float(f64::from_bits(v)) }))
        }
        Encoding::Xor2 => {
            xor2::scan(bytes, samples_max, |start, t, v| each(Sample { t, start, v: SampleValue::Float(v) }))
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let mut reader = Reader::<Int>::new(encoding.has_starts(), bytes)?;
            for _ in 0..samples_max {
                if !reader.next()? || {
                    let v = SampleValue::Histogram(HistogramValue::Int(Arc::new(reader.histogram()?)));
                    !each(Sample { t: reader.t(), start: reader.start(), v })
                } {
                    break;
                }
            }
            Ok(())
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let mut reader = Reader::<Float>::new(encoding.has_starts(), bytes)?;
            for _ in 0..samples_max {
                if !reader.next()? || {
                    let v = SampleValue::Histogram(HistogramValue::Float(reader.float()?));
                    !each(Sample { t: reader.t(), start: reader.start(), v })
                } {
                    break;
                }
            }
            Ok(())
        }
    }
}

impl Encoding {
    /// Time of the first sample of a chunk, ms; `None` if it has none. Reads just the first sample.
    pub fn first_time(self, bytes: &[u8]) -> Result<Option<i64>, ChunkError> {
        let mut first = None;
        self.times(bytes, 1, |t| first = Some(t))?;
        Ok(first)
    }

    /// Time of the last sample of a chunk, ms; `None` if it has none. Reads all of the chunk, so this also tells whether
    /// it can be read.
    pub fn last_time(self, bytes: &[u8]) -> Result<Option<i64>, ChunkError> {
        let mut last = None;
        self.times(bytes, usize::MAX, |t| last = Some(t))?;
        Ok(last)
    }

    /// Calls `each` with the times of the first `samples_max` samples.
    pub fn times(self, bytes: &[u8], samples_max: usize, mut each: impl FnMut(i64)) -> Result<(), ChunkError> {
        fn histograms<K: Kind>(
            mut reader: Reader<'_, K>,
            samples_max: usize,
            mut each: impl FnMut(i64),
        ) -> Result<(), ChunkError> {
            for _ in 0..samples_max {
                if !reader.next()? {
                    break;
                }
                each(reader.t());
            }
            Ok(())
        }
        match self {
            Encoding::Xor => xor::scan(bytes, samples_max, |t, _| {
                each(t);
                true
            }),
            Encoding::Xor2 => xor2::scan(bytes, samples_max, |_, t, _| {
                each(t);
                true
            }),
            Encoding::Histogram | Encoding::HistogramSt => {
                histograms(Reader::<Int>::new(self.has_starts(), bytes)?, samples_max, each)
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                histograms(Reader::<Float>::new(self.has_starts(), bytes)?, samples_max, each)
            }
        }
    }
}
