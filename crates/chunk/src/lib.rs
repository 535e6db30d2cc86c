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
                out.push_start(start);
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
    out.fill_starts();
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
        if !reader.advance()? || reader.t() > maxt {
            break;
        }
        if reader.t() < mint {
            continue;
        }
        let histogram = reader.float()?;
        out.push_start(reader.start());
        out.histograms.push((out.t.len() as u32, histogram));
        out.push(reader.t(), reader.sum());
    }
    Ok(())
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
                if !reader.advance()? || {
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
                if !reader.advance()? || {
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
                if !reader.advance()? {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Encoding; 6] = [
        Encoding::Xor,
        Encoding::Histogram,
        Encoding::FloatHistogram,
        Encoding::Xor2,
        Encoding::HistogramSt,
        Encoding::FloatHistogramSt,
    ];

    /// Everything there is to read, without a panic; ways that say the same agree.
    fn read(encoding: Encoding, bytes: &[u8]) -> Result<Samples, ChunkError> {
        let mut samples = Samples::default();
        let result = decode_range(encoding, bytes, usize::MAX, i64::MIN, i64::MAX, &mut samples);
        let mut exact = Samples::default();
        let exact_result = decode_exact(encoding, bytes, usize::MAX, &mut |sample| {
            exact.push_start(sample.start);
            match sample.v {
                SampleValue::Float(v) => exact.push(sample.t, v),
                SampleValue::Histogram(h) => {
                    let h = h.to_float();
                    exact.push(sample.t, h.sum);
                    exact.histograms.push((exact.t.len() as u32 - 1, h));
                }
            }
            true
        });
        assert_eq!(result, exact_result);
        // Counts that overflow while schemas are brought down are wrapped integers on one way and large floats on the other.
        let text = |samples: &Samples| {
            let histograms: Vec<_> = samples.histograms.iter().filter(|(_, h)| h.schema != 8).collect();
            format!("{:?} {:?} {:?} {histograms:?}", samples.t, samples.v, samples.starts)
        };
        assert_eq!(text(&samples), text(&exact));
        let mut times = Vec::new();
        assert_eq!(encoding.times(bytes, usize::MAX, |t| times.push(t)).is_ok(), result.is_ok());
        assert!(times.starts_with(&samples.t));
        if result.is_ok() {
            assert_eq!(encoding.count(bytes), Some(samples.len()));
            assert_eq!(encoding.first_time(bytes), Ok(samples.t.first().copied()));
            assert_eq!(encoding.last_time(bytes), Ok(samples.t.last().copied()));
        }
        result.map(|()| samples)
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), few in 0u8..9) {
            // A small number of samples, so that some are read to the end.
            for (i, byte) in bytes.iter_mut().enumerate().take(2) {
                *byte = if i == 0 { *byte & 0xc0 } else { few };
            }
            for encoding in ALL {
                let _ = read(encoding, &bytes);
            }
        }

        #[test]
        fn damaged_histograms_are_read_or_refused(
            seed in 0u64..50, float in any::<bool>(), with_starts in any::<bool>(),
            at in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            let (encoding, chunks) = match float {
                true => (Float::ENCODINGS[usize::from(with_starts)], histogram::tests::chunks::<Float>(seed, with_starts)),
                false => (Int::ENCODINGS[usize::from(with_starts)], histogram::tests::chunks::<Int>(seed, with_starts)),
            };
            for mut bytes in chunks {
                let samples = read(encoding, &bytes).unwrap();
                let (mint, maxt) = (samples.t[samples.len() / 4], samples.t[samples.len() / 2]);
                let mut part = Samples::default();
                decode_range(encoding, &bytes, usize::MAX, mint, maxt, &mut part).unwrap();
                let (a, b) = (samples.len() / 4, samples.len() / 2 + 1);
                prop_assert_eq!(&part.t, &samples.t[a..b]);
                prop_assert_eq!(part.histograms.len(), b - a);
                for ((i, part), (_, whole)) in part.histograms.iter().zip(&samples.histograms[a..b]) {
                    prop_assert_eq!(format!("{part:?}"), format!("{whole:?}"), "{}", i);
                }
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                let _ = read(encoding, &bytes);
                let _ = histogram::HistogramWriter::resume(with_starts, bytes.clone());
                let _ = histogram::FloatHistogramWriter::resume(with_starts, bytes);
            }
        }
    }

    #[test]
    fn a_small_chunk_cannot_ask_for_much_memory() {
        // Spans and buckets by the million, in a few bytes.
        for encoding in [Encoding::Histogram, Encoding::FloatHistogram] {
            let mut out = bits::BitWriter::new(&[0xff, 0xff, 0]);
            out.bits(0, 8);
            out.varbit_int(0);
            out.varbit_uint(1);
            out.varbit_uint(u64::from(u32::MAX >> 1));
            out.varbit_int(0);
            assert!(matches!(read(encoding, &out.bytes), Err(ChunkError::Truncated { .. })));
            let mut out = bits::BitWriter::new(&[0xff, 0xff, 0]);
            out.bits(0, 8);
            out.varbit_int(0);
            out.varbit_uint(1000);
            out.bytes.resize(5000, 0);
            assert!(matches!(read(encoding, &out.bytes), Err(ChunkError::Invalid { what: "spans", .. })));
        }
    }

    #[test]
    fn start_timestamps_are_there_for_all_samples_or_for_none() {
        let mut without = xor::XorChunk::new();
        without.push(1, 1.0);
        let mut with = xor2::Xor2Writer::new();
        with.push(0, 2, 2.0);
        with.push(1, 3, 3.0);
        let mut samples = Samples::default();
        for (encoding, bytes, starts) in [
            (Encoding::Xor, without.bytes(), &[][..]),
            (Encoding::Xor2, with.bytes(), &[0, 0, 1]),
            (Encoding::Xor, without.bytes(), &[0, 0, 1, 0]),
        ] {
            decode_range(encoding, bytes, usize::MAX, i64::MIN, i64::MAX, &mut samples).unwrap();
            assert_eq!(samples.starts, starts);
        }
        assert_eq!(samples.t, [1, 2, 3, 1]);
    }

    #[test]
    fn bytes_and_encodings_stand_for_each_other() {
        for byte in 0..=255 {
            assert!(Encoding::from_byte(byte).is_none_or(|encoding| encoding.byte() == byte && byte < 7 && byte > 0));
        }
        assert_eq!(ALL.map(Encoding::byte), [1, 2, 3, 4, 5, 6]);
    }
}
