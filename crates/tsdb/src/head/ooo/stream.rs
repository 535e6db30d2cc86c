//! Frozen out-of-order samples as a stream of series, for the writer of blocks.

use std::sync::Arc;

use fk_block::{Encoder, SeriesChunks, SeriesStream};
use fk_chunk::{ChunkError, Sample, SampleValue};
use fk_storage::{SeriesRef, StorageError, TimeRange};

use super::super::{Head, Place};
use super::{Late, OooValue, OooView, damaged};

/// Frozen out-of-order samples on their way into a block. Holds no lock between two series.
#[derive(Debug)]
pub struct OooStream {
    head: Arc<Head>,
    range: TimeRange,
    /// Place and start of the label ids, in order of labels.
    entries: Vec<(Place, usize)>,
    words: Vec<u32>,
    next: usize,
    /// Keeps the ids of strings good.
    _pin: Arc<()>,
}

impl SeriesStream for OooStream {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        while let Some(&(place, words)) = self.entries.get(self.next) {
            self.next += 1;
            out.clear();
            let (view, reference) = {
                let data = self.head.shards[place.shard()].data.read();
                let view = data.ooo.series.get(&place.slot()).and_then(|s| OooView::of(s, self.range, s.frozen, false));
                (view, SeriesRef(data.info.get(place.slot()).reference))
            };
            let Some(view) = view else { continue };
            let samples = view.sorted(self.range).map_err(|e| damaged(reference, e))?;
            encode(samples, out).map_err(|e| damaged(reference, e))?;
            if !out.chunks.is_empty() {
                out.labels = self.head.symbols.read().labels(&self.words[words..]);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let symbols = self.head.symbols.read();
        let mut texts = Vec::new();
        for &(_, start) in &self.entries {
            texts.extend(symbols.pairs(&self.words[start..]).flat_map(|(name, value)| [name, value]));
            // Most repeat: the list stays about as long as there are different ones.
            if texts.len() > 1 << 20 {
                texts.sort_unstable();
                texts.dedup();
            }
        }
        texts.sort_unstable();
        texts.dedup();
        texts.into_iter().try_for_each(each)
    }
}

/// Makes chunks of the usual size.
fn encode(samples: Vec<Late>, out: &mut SeriesChunks) -> Result<(), ChunkError> {
    let mut encoder = Encoder::default();
    for Late { t, start, value } in samples {
        let v = match value {
            OooValue::Float(v) => SampleValue::Float(v),
            OooValue::Histogram(h) => SampleValue::Histogram(h),
        };
        encoder.push(&Sample { t, start, v }, out)?;
    }
    encoder.end_chunk(out);
    Ok(())
}

impl Head {
    /// The frozen samples within `range`, both ends included, as chunks of the usual size, merged where they overlap.
    pub fn stream_out_of_order(self: &Arc<Head>, range: TimeRange) -> OooStream {
        let pin = self.pin();
        let (mut entries, mut words) = (Vec::new(), Vec::new());
        for (i, shard) in self.shards.iter().enumerate() {
            let data = shard.data.read();
            for (&slot, series) in &data.ooo.series {
                if series.frozen > 0 && series.mint <= range.maxt && series.maxt >= range.mint {
                    entries.push((Place::new(i, slot), words.len()));
                    words.extend_from_slice(data.words_of(slot));
                }
            }
        }
        let symbols = self.symbols.read();
        entries.sort_by(|a, b| symbols.compare(&words[a.1..], &words[b.1..]));
        drop(symbols);
        OooStream { head: Arc::clone(self), range, entries, words, next: 0, _pin: pin }
    }
}
