//! Samples one by one into chunks, where chunks cannot be copied: after a merge, or with samples deleted.

use fk_chunk::histogram::{FloatHistogramWriter, HistogramWriter, Kind, Pushed, Writer};
use fk_chunk::xor::XorChunk;
use fk_chunk::xor2::Xor2Writer;
use fk_chunk::{ChunkError, Encoding, Sample, SampleValue};
use fk_storage::HistogramValue;

use crate::SeriesChunks;

/// Samples of a chunk, as where Prometheus encodes anew.
const SAMPLES_PER_CHUNK: usize = 120;

/// The chunk that is being filled.
enum Open {
    Float(XorChunk),
    FloatSt(Xor2Writer),
    Int(HistogramWriter),
    FloatHistogram(FloatHistogramWriter),
}

/// Makes chunks of samples that come in order of time, of 120 samples each.
#[derive(Default)]
pub struct Encoder {
    open: Option<Open>,
    mint: i64,
    maxt: i64,
    samples: usize,
}

impl Encoder {
    /// Adds a sample; chunks that are complete go to `out`.
    pub fn push(&mut self, sample: &Sample, out: &mut SeriesChunks) -> Result<(), ChunkError> {
        let Sample { t, start, v } = sample;
        if self.samples >= SAMPLES_PER_CHUNK || !self.fits(sample) {
            self.end_chunk(out);
        }
        let with_starts = *start != 0;
        let cut = match (&mut self.open, v) {
            (Some(Open::Float(chunk)), SampleValue::Float(v)) => {
                chunk.push(*t, *v);
                None
            }
            (Some(Open::FloatSt(chunk)), SampleValue::Float(v)) => {
                chunk.push(*start, *t, *v);
                None
            }
            (Some(Open::Int(writer)), SampleValue::Histogram(HistogramValue::Int(h))) => {
                cut(writer.push(*start, *t, h)?).map(|next| Open::Int(*next))
            }
            (Some(Open::FloatHistogram(writer)), SampleValue::Histogram(HistogramValue::Float(h))) => {
                cut(writer.push(*start, *t, h)?).map(|next| Open::FloatHistogram(*next))
            }
            (_, SampleValue::Float(v)) => {
                if with_starts {
                    let mut chunk = Xor2Writer::new();
                    chunk.push(*start, *t, *v);
                    Some(Open::FloatSt(chunk))
                } else {
                    let mut chunk = XorChunk::new();
                    chunk.push(*t, *v);
                    Some(Open::Float(chunk))
                }
            }
            (_, SampleValue::Histogram(HistogramValue::Int(h))) => {
                Some(Open::Int(HistogramWriter::begin(with_starts, None, *start, *t, h)?))
            }
            (_, SampleValue::Histogram(HistogramValue::Float(h))) => {
                Some(Open::FloatHistogram(FloatHistogramWriter::begin(with_starts, None, *start, *t, h)?))
            }
        };
        if let Some(next) = cut {
            self.end_chunk(out);
            self.open = Some(next);
        }
        if self.samples == 0 {
            self.mint = *t;
        }
        self.maxt = *t;
        self.samples += 1;
        Ok(())
    }

    /// Whether the open chunk takes samples of this kind. One with start timestamps also takes samples without.
    fn fits(&self, sample: &Sample) -> bool {
        let with_starts = sample.start != 0;
        match (&self.open, &sample.v) {
            (None, _) => true,
            (Some(Open::Float(_)), SampleValue::Float(_)) => !with_starts,
            (Some(Open::FloatSt(_)), SampleValue::Float(_)) => true,
            (Some(Open::Int(writer)), SampleValue::Histogram(HistogramValue::Int(_))) => {
                writer.encoding().has_starts() || !with_starts
            }
            (Some(Open::FloatHistogram(writer)), SampleValue::Histogram(HistogramValue::Float(_))) => {
                writer.encoding().has_starts() || !with_starts
            }
            _ => false,
        }
    }

    /// Hands over the open chunk, if there is one.
    pub fn end_chunk(&mut self, out: &mut SeriesChunks) {
        let times = (self.mint, self.maxt);
        let samples = std::mem::take(&mut self.samples) as u32;
        match self.open.take() {
            None => {}
            Some(Open::Float(chunk)) => out.push(times, Encoding::Xor, samples, chunk.bytes()),
            Some(Open::FloatSt(chunk)) => out.push(times, Encoding::Xor2, samples, chunk.bytes()),
            Some(Open::Int(writer)) => out.push(times, writer.encoding(), samples, writer.bytes()),
            Some(Open::FloatHistogram(writer)) => out.push(times, writer.encoding(), samples, writer.bytes()),
        }
    }
}

/// The next chunk, if the sample did not fit.
fn cut<K: Kind>(pushed: Pushed<K>) -> Option<Box<Writer<K>>> {
    match pushed {
        Pushed::Appended | Pushed::Recoded => None,
        Pushed::Cut(next) => Some(next),
    }
}
