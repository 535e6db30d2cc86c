//! Native histograms in order: open chunks and checks.
//!
//! The open chunk of a series of histograms is larger and rarer than one of floats, so it lives in a list of its own
//! ([`super::buffers::OpenChunks`]) under a handle that the slot keeps in place of a buffer; completed it is a chunk like any other. The
//! slot still knows time and sum of the last sample and how many there are, so ordering, isolation and staleness need
//! nothing else. A series may go from floats to histograms and back: each change begins a chunk.

use fk_chunk::histogram::{Float, Int, Pushed, Writer};
use fk_chunk::{ChunkError, Encoding};
use fk_model::{FloatHistogram, Histogram};
use fk_storage::{BatchHistogram, HistogramValue, Rejection};

use super::append::Bounds;
use super::shard::ShardData;

/// A chunk with so many bytes takes no further histogram, unless it has less than [`CHUNK_SAMPLES_MIN`] of them; as in
/// Prometheus.
pub(super) const CHUNK_BYTES: usize = 1024;
pub(super) const CHUNK_SAMPLES_MIN: usize = 10;

/// Most bytes of an open chunk, whatever its number of samples: more than a record of `chunks_head` can be worth.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// An open chunk of histograms.
#[derive(Clone, Debug)]
pub(crate) struct OpenHistogram {
    writer: AnyWriter,
    first_time: i64,
    /// Whether it has been foreseen when the chunk should end.
    pub end_foreseen: bool,
}

#[derive(Clone, Debug)]
enum AnyWriter {
    Int(Writer<Int>),
    Float(Writer<Float>),
}

/// A histogram to be stored: time and start timestamp, ms, 0 if that is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    pub t: i64,
    pub start: i64,
    pub h: &'a HistogramValue,
}

/// What became of a histogram.
pub(super) enum Pushing {
    /// It is in the chunk.
    Done,
    /// It needs a chunk of its own: the next one. The one before is as it was.
    Next(Box<OpenHistogram>),
}

impl OpenHistogram {
    /// A chunk with one histogram, behind `previous`, if that is open and goes over into it. It keeps start timestamps if
    /// `with_starts`.
    pub fn begin(
        with_starts: bool,
        sample: Sample<'_>,
        previous: Option<&OpenHistogram>,
    ) -> Result<OpenHistogram, ChunkError> {
        let Sample { t, start, h } = sample;
        let writer = match (h, previous.map(|p| &p.writer)) {
            (HistogramValue::Int(h), Some(AnyWriter::Int(p))) => {
                AnyWriter::Int(Writer::begin(with_starts, Some(p), start, t, h)?)
            }
            (HistogramValue::Int(h), _) => AnyWriter::Int(Writer::begin(with_starts, None, start, t, &**h)?),
            (HistogramValue::Float(h), Some(AnyWriter::Float(p))) => {
                AnyWriter::Float(Writer::begin(with_starts, Some(p), start, t, h)?)
            }
            (HistogramValue::Float(h), _) => AnyWriter::Float(Writer::begin(with_starts, None, start, t, &**h)?),
        };
        Ok(OpenHistogram { writer, first_time: t, end_foreseen: false })
    }

    /// Adds a histogram that is newer.
    pub fn push(&mut self, sample: Sample<'_>) -> Result<Pushing, ChunkError> {
        let Sample { t, start, h } = sample;
        let with_starts = self.encoding().has_starts();
        let next = match (&mut self.writer, h) {
            (AnyWriter::Int(writer), HistogramValue::Int(h)) => match writer.push(start, t, h)? {
                Pushed::Appended | Pushed::Recoded => return Ok(Pushing::Done),
                Pushed::Cut(next) => AnyWriter::Int(*next),
            },
            (AnyWriter::Float(writer), HistogramValue::Float(h)) => match writer.push(start, t, h)? {
                Pushed::Appended | Pushed::Recoded => return Ok(Pushing::Done),
                Pushed::Cut(next) => AnyWriter::Float(*next),
            },
            _ => {
                return OpenHistogram::begin(with_starts, sample, None).map(|next| Pushing::Next(Box::new(next)));
            }
        };
        Ok(Pushing::Next(Box::new(OpenHistogram { writer: next, first_time: t, end_foreseen: false })))
    }

    /// Goes on with a chunk that was kept; `None` if it is none.
    pub fn restore(encoding: Encoding, end_foreseen: bool, bytes: &[u8]) -> Option<OpenHistogram> {
        let first_time = encoding.first_time(bytes).ok()??;
        let writer = match encoding {
            Encoding::Histogram | Encoding::HistogramSt => {
                AnyWriter::Int(Writer::resume(encoding.has_starts(), bytes.to_vec()).ok()?)
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                AnyWriter::Float(Writer::resume(encoding.has_starts(), bytes.to_vec()).ok()?)
            }
            Encoding::Xor | Encoding::Xor2 => return None,
        };
        Some(OpenHistogram { writer, first_time, end_foreseen })
    }

    pub fn last_time(&self) -> i64 {
        match &self.writer {
            AnyWriter::Int(writer) => writer.last_time(),
            AnyWriter::Float(writer) => writer.last_time(),
        }
    }

    pub fn first_time(&self) -> i64 {
        self.first_time
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.writer {
            AnyWriter::Int(writer) => writer.bytes(),
            AnyWriter::Float(writer) => writer.bytes(),
        }
    }

    pub fn encoding(&self) -> Encoding {
        match &self.writer {
            AnyWriter::Int(writer) => writer.encoding(),
            AnyWriter::Float(writer) => writer.encoding(),
        }
    }

    pub fn count(&self) -> usize {
        match &self.writer {
            AnyWriter::Int(writer) => writer.count(),
            AnyWriter::Float(writer) => writer.count(),
        }
    }

    /// Whether the chunk has what it should have.
    pub fn is_full(&self) -> bool {
        let (bytes, count) = (self.bytes().len(), self.count());
        (bytes >= CHUNK_BYTES && count >= CHUNK_SAMPLES_MIN) || bytes >= CHUNK_BYTES_MAX
    }

    /// The marker that ends a series of histograms of this kind.
    pub fn stale(&self, v: f64) -> HistogramValue {
        match &self.writer {
            AnyWriter::Int(_) => HistogramValue::Int(Histogram { sum: v, ..Histogram::default() }.into()),
            AnyWriter::Float(_) => HistogramValue::Float(FloatHistogram { sum: v, ..FloatHistogram::default() }.into()),
        }
    }

    /// Whether a histogram is the very same as the last one. What is said about counter resets is no part of that.
    fn repeats(&self, h: &HistogramValue) -> bool {
        match (&self.writer, h) {
            (AnyWriter::Int(writer), HistogramValue::Int(h)) => writer.last().is_some_and(|last| {
                same_sum(last.sum, h.sum)
                    && Histogram { sum: 0.0, counter_reset: h.counter_reset, ..last }
                        == Histogram { sum: 0.0, ..(**h).clone() }
            }),
            (AnyWriter::Float(writer), HistogramValue::Float(h)) => writer.last().is_some_and(|last| {
                same_sum(last.sum, h.sum)
                    && FloatHistogram { sum: 0.0, counter_reset: h.counter_reset, ..last }
                        == FloatHistogram { sum: 0.0, ..(**h).clone() }
            }),
            _ => false,
        }
    }

    /// Buckets of the last histogram.
    pub fn n_buckets(&self) -> usize {
        match &self.writer {
            AnyWriter::Int(writer) => writer.n_buckets(),
            AnyWriter::Float(writer) => writer.n_buckets(),
        }
    }

    /// Memory it takes, bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<OpenHistogram>()
            + match &self.writer {
                AnyWriter::Int(writer) => writer.heap_bytes(),
                AnyWriter::Float(writer) => writer.heap_bytes(),
            }
    }
}

fn same_sum(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

/// What a check says about a histogram.
pub(super) enum Verdict {
    Store,
    /// It is there already.
    Repeat,
    /// To be kept out of order, if that is allowed.
    Late,
}

impl ShardData {
    /// Checks a histogram against the samples of its series; `in_batch` is the time of the last one of its batch.
    pub(super) fn check_histogram(
        &self,
        slot: u32,
        in_batch: Option<i64>,
        sample: &BatchHistogram,
        bounds: &Bounds,
    ) -> Result<Verdict, Rejection> {
        let valid = match &sample.h {
            HistogramValue::Int(h) => h.validate(),
            HistogramValue::Float(h) => h.validate(),
        };
        if let Err(error) = valid
            && !sample.h.is_stale()
        {
            return Err(Rejection::InvalidHistogram(error.fault));
        }
        if sample.t < bounds.time_min {
            return Ok(Verdict::Late);
        }
        let slot = self.slots.get(slot);
        let Some(last) = in_batch.or(slot.last_time()) else { return Ok(Verdict::Store) };
        Ok(match sample.t.cmp(&last) {
            std::cmp::Ordering::Greater => Verdict::Store,
            std::cmp::Ordering::Less => Verdict::Late,
            std::cmp::Ordering::Equal => {
                let repeats = slot.open_histogram(&self.slabs).is_some_and(|open| open.repeats(&sample.h));
                match repeats && in_batch.is_none() {
                    true => Verdict::Repeat,
                    false => return Err(Rejection::Duplicate),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
