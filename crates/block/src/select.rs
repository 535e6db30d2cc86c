//! The series of a select: numbers of series and the block. Labels and chunks are read when they are asked for.

use std::sync::Arc;

use fk_model::{Labels, Matcher};
use fk_storage::{Control, Newest, Samples, SelectParams, SeriesSet, StorageError, TimeRange};

use crate::Block;
use crate::index::{ChunkMeta, SeriesEntry};
use crate::tombstones::{self, Tombstones};

/// The caller's control is asked after so many series.
const SERIES_PER_CHECK: usize = 4096;

/// The series that a select of a block has found, in order of labels.
pub(crate) struct BlockSet {
    block: Block,
    tombstones: Arc<Tombstones>,
    series: Vec<u32>,
    control: Control,
}

impl BlockSet {
    pub fn new(
        block: &Block,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<BlockSet, StorageError> {
        let (tombstones, control) = (block.tombstones(), control.clone());
        let mut set = BlockSet { block: block.clone(), tombstones, series: Vec::new(), control };
        if !block.overlaps(params.range) {
            return Ok(set);
        }
        set.series = block.search(matchers, &set.control)?;
        set.keep_in_range(params)?;
        if params.limit > 0 {
            set.series.truncate(params.limit);
        }
        Ok(set)
    }

    /// Drops series that have no chunk in the range, or whose chunks are deleted. If the range covers the block there is
    /// none of the first kind, and nothing is looked at.
    fn keep_in_range(&mut self, params: &SelectParams) -> Result<(), StorageError> {
        let TimeRange { mint, maxt } = params.range;
        let (min_time, max_time) = self.block.times();
        let covered = mint <= min_time && max_time <= maxt.saturating_add(1);
        if covered && self.tombstones.is_empty() {
            return Ok(());
        }
        let (mut entry, mut kept) = (SeriesEntry::default(), 0);
        for idx in 0..self.series.len() {
            if idx % SERIES_PER_CHECK == 0 {
                self.control.check()?;
            }
            if params.limit > 0 && kept == params.limit {
                break;
            }
            let series = self.series[idx];
            let deleted = self.tombstones.of(u64::from(series));
            if !(covered && deleted.is_empty()) {
                self.block.index().series(series, &mut entry)?;
                let is_wanted = |chunk: &ChunkMeta| is_wanted(chunk, deleted, params.range);
                if !entry.chunks.iter().any(is_wanted) {
                    continue;
                }
            }
            self.series[kept] = series;
            kept += 1;
        }
        self.series.truncate(kept);
        Ok(())
    }

    /// Appends the samples of a chunk that are in the range and not deleted. After an error `out` has those in front of the
    /// damage.
    fn decode(
        &self,
        chunk: &ChunkMeta,
        deleted: &[TimeRange],
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<usize, StorageError> {
        let segments = self.block.segments();
        let (encoding, bytes) = segments.chunk(chunk.reference)?;
        let before = out.len();
        let decoded = fk_chunk::decode_range(encoding, bytes, usize::MAX, range.mint, range.maxt, out);
        if tombstones::touches(deleted, TimeRange { mint: chunk.mint, maxt: chunk.maxt }) {
            remove_deleted(out, before, deleted);
        }
        match decoded {
            Ok(()) => Ok(bytes.len()),
            Err(e) => Err(segments.error(chunk.reference, &e)),
        }
    }
}

/// Whether a chunk may have samples in the range that are not deleted.
fn is_wanted(chunk: &ChunkMeta, deleted: &[TimeRange], range: TimeRange) -> bool {
    chunk.mint <= range.maxt
        && chunk.maxt >= range.mint
        && !tombstones::covers(deleted, TimeRange { mint: chunk.mint, maxt: chunk.maxt })
}

/// Removes the samples from number `from` on that are deleted.
fn remove_deleted(samples: &mut Samples, from: usize, deleted: &[TimeRange]) {
    let keep: Vec<bool> = samples.t[from..].iter().map(|t| !tombstones::covers_time(deleted, *t)).collect();
    retain(samples, from, &keep);
}

/// Keeps of the samples from number `from` on those of which `keep` says so.
fn retain(samples: &mut Samples, from: usize, keep: &[bool]) {
    if keep.iter().all(|keep| *keep) {
        return;
    }
    let mut kept = from;
    let has_starts = !samples.starts.is_empty();
    let mut histograms = std::mem::take(&mut samples.histograms).into_iter().peekable();
    while let Some(histogram) = histograms.next_if(|(idx, _)| (*idx as usize) < from) {
        samples.histograms.push(histogram);
    }
    for (i, keep) in keep.iter().enumerate() {
        let idx = from + i;
        let histogram = histograms.next_if(|(at, _)| *at as usize == idx);
        if *keep {
            samples.t[kept] = samples.t[idx];
            samples.v[kept] = samples.v[idx];
            if has_starts && let Some(start) = samples.starts.get(idx).copied() {
                samples.starts[kept] = start;
            }
            samples.histograms.extend(histogram.map(|(_, h)| (kept as u32, h)));
            kept += 1;
        }
    }
    samples.t.truncate(kept);
    samples.v.truncate(kept);
    samples.starts.truncate(kept);
}

impl SeriesSet for BlockSet {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, idx: usize) -> Labels {
        let mut entry = SeriesEntry::default();
        let index = self.block.index();
        let labels = index.series_symbols(self.series[idx], &mut entry).and_then(|()| index.labels(&entry));
        // Labels cannot fail; whoever reads the samples, too, gets the error.
        labels.unwrap_or_else(|e| {
            self.control.warn(e.to_string());
            Labels::empty()
        })
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        out.clear();
        let series = self.series[idx];
        let mut entry = SeriesEntry::default();
        self.block.index().series(series, &mut entry)?;
        let deleted = self.tombstones.of(u64::from(series));
        let (mut chunk_bytes, mut damage) = (0, None);
        for chunk in entry.chunks.iter().filter(|chunk| is_wanted(chunk, deleted, range)) {
            let before = out.len();
            match self.decode(chunk, deleted, range, out) {
                Ok(bytes) => chunk_bytes += bytes,
                // The other chunks can still be read.
                Err(error @ StorageError::Corrupt { .. }) => damage = damage.or(Some(error)),
                Err(error) => return Err(error),
            }
            // Writers promise chunks that do not overlap; what would break the order of times is left out.
            if let (Some(last), Some(first)) = (before.checked_sub(1).map(|i| out.t[i]), out.t.get(before).copied())
                && first <= last
            {
                let keep: Vec<bool> = out.t[before..].iter().map(|t| *t > last).collect();
                retain(out, before, &keep);
            }
        }
        self.control.count_chunk_bytes(chunk_bytes);
        damage.map_or(Ok(()), Err)
    }

    fn last(&self, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        let series = self.series[idx];
        let mut entry = SeriesEntry::default();
        self.block.index().series(series, &mut entry)?;
        let deleted = self.tombstones.of(u64::from(series));
        let mut samples = Samples::default();
        for chunk in entry.chunks.iter().rev().filter(|chunk| is_wanted(chunk, deleted, range)) {
            samples.clear();
            self.control.count_chunk_bytes(self.decode(chunk, deleted, range, &mut samples)?);
            if let Some(newest) = samples.last() {
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn deleted_samples_take_their_histograms_along() {
        let h = |sum: f64| Arc::new(fk_model::FloatHistogram { sum, ..Default::default() });
        let mut samples = Samples {
            t: vec![1, 2, 3, 4, 5],
            v: vec![0.1, 0.2, 0.3, 0.4, 0.5],
            histograms: vec![(0, h(1.0)), (2, h(3.0)), (3, h(4.0))],
            starts: vec![10, 20, 30, 40, 50],
        };
        remove_deleted(&mut samples, 1, &[TimeRange { mint: 0, maxt: 1 }, TimeRange { mint: 3, maxt: 3 }]);
        assert_eq!(samples.t, [1, 2, 4, 5]);
        assert_eq!(samples.v, [0.1, 0.2, 0.4, 0.5]);
        assert_eq!(samples.starts, [10, 20, 40, 50]);
        assert_eq!(samples.histograms, [(0, h(1.0)), (2, h(4.0))]);
    }
}
