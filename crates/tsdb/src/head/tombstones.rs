//! What was deleted from the head: ranges of time per series, in a map per shard, so that a head without deletions pays
//! nothing. They hide samples that came in order; out-of-order samples are removed from memory at once, and both logs
//! say so, each for its own samples. A range never reaches beyond what the series had when it was deleted, so what comes
//! later in order is not hidden.
//!
//! When the head is truncated the ranges go with the samples.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use smallvec::SmallVec;

use fk_block::tombstones::{add_interval, covers_time};
use fk_model::Matcher;
use fk_storage::{Control, Samples, SelectParams, SeriesRef, StorageError, TimeRange};
use fk_wal::record::Tombstone;

use super::ooo::OooView;
use super::shard::ShardData;
use super::{Head, Place};

/// Deletions written to the log with one record, at most about 30 bytes each.
const TOMBSTONES_PER_RECORD: usize = 1 << 16;

/// The deleted ranges of the series of a shard, by slot.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    /// Invariant: no list is empty; ranges ascend and neither overlap nor touch.
    series: HashMap<u32, Vec<TimeRange>>,
}

impl Tombstones {
    /// Whether nothing is deleted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The deleted ranges of a series, ascending.
    #[inline]
    pub fn of(&self, slot: u32) -> &[TimeRange] {
        match self.series.is_empty() {
            true => &[],
            false => self.series.get(&slot).map_or(&[], Vec::as_slice),
        }
    }

    /// All series with deletions.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[TimeRange])> {
        self.series.iter().map(|(slot, ranges)| (*slot, ranges.as_slice()))
    }

    /// Deletes a range.
    pub fn add(&mut self, slot: u32, range: TimeRange) {
        if range.mint <= range.maxt {
            add_interval(self.series.entry(slot).or_default(), range);
        }
    }

    /// Forgets the ranges that end before `mint`: the samples are gone.
    pub fn truncate_before(&mut self, mint: i64) {
        self.series.retain(|_, ranges| {
            ranges.retain(|range| range.maxt >= mint);
            !ranges.is_empty()
        });
        self.series.shrink_to_fit();
    }

    /// Forgets a series.
    pub fn remove(&mut self, slot: u32) {
        self.series.remove(&slot);
    }

    pub fn memory_bytes(&self) -> usize {
        let ranges = self.series.values().map(|r| r.capacity() * size_of::<TimeRange>()).sum::<usize>();
        self.series.allocation_size() + ranges
    }
}

/// What a reader has to know of a series beside its chunks. Few series have any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// Out-of-order samples in the range.
    pub ooo: Option<OooView>,
    /// Deleted ranges of the samples in order.
    pub deleted: SmallVec<[TimeRange; 2]>,
}

impl ShardData {
    /// What a reader of `range` has to know of a series beside its chunks.
    #[inline]
    pub fn extra(&self, slot: u32, range: TimeRange) -> Option<Extra> {
        if self.ooo.is_empty() && self.tombstones.is_empty() {
            return None;
        }
        self.find_extra(slot, range)
    }

    #[cold]
    fn find_extra(&self, slot: u32, range: TimeRange) -> Option<Extra> {
        let extra = Extra { ooo: self.ooo.view(slot, range), deleted: self.tombstones.of(slot).into() };
        (extra.ooo.is_some() || !extra.deleted.is_empty()).then_some(extra)
    }
}

/// Takes the samples out that lie in `deleted`, ranges in ascending order.
pub(crate) fn remove_deleted(samples: &mut Samples, deleted: &[TimeRange]) {
    let (Some(first), Some(last)) = (deleted.first(), deleted.last()) else { return };
    if samples.t.first().is_none_or(|t| *t > last.maxt) || samples.t.last().is_none_or(|t| *t < first.mint) {
        return;
    }
    let mut kept = 0;
    let (mut histogram, mut histograms_kept) = (0, 0);
    for at in 0..samples.t.len() {
        let t = samples.t[at];
        let is_histogram = samples.histograms.get(histogram).is_some_and(|(i, _)| *i as usize == at);
        if !covers_time(deleted, t) {
            if is_histogram {
                samples.histograms.swap(histograms_kept, histogram);
                samples.histograms[histograms_kept].0 = kept as u32;
                histograms_kept += 1;
            }
            (samples.t[kept], samples.v[kept]) = (t, samples.v[at]);
            if !samples.starts.is_empty() {
                samples.starts[kept] = samples.starts[at];
            }
            kept += 1;
        }
        histogram += usize::from(is_histogram);
    }
    samples.t.truncate(kept);
    samples.v.truncate(kept);
    samples.starts.truncate(kept);
    samples.histograms.truncate(histograms_kept);
}

/// Takes deletions to the logs. What a successful call was given survives the end of the process.
pub struct DeletionLogs<'a> {
    /// The write-ahead log.
    pub wal: &'a dyn Fn(&[Tombstone]) -> Result<(), StorageError>,
    /// The log of out-of-order samples.
    pub wbl: &'a dyn Fn(&[Tombstone]) -> Result<(), StorageError>,
}

/// What a deletion in the head is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedFromHead {
    /// Series with at least one sample in the range.
    pub series: u64,
    /// Their samples in the range.
    pub samples: u64,
}

impl Head {
    /// Counts the samples that all `matchers` accept in `range`, in order from `in_order_mint` on.
    pub fn count_samples(
        self: &Arc<Head>,
        in_order_mint: i64,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<DeletedFromHead, StorageError> {
        let set =
            self.select_from(in_order_mint, &SelectParams { range, sorted: false, limit: 0 }, matchers, control)?;
        let (mut samples, mut found) = (Samples::default(), DeletedFromHead::default());
        for idx in 0..set.len() {
            control.check()?;
            set.read(idx, range, &mut samples)?;
            found.samples += samples.len() as u64;
            found.series += u64::from(!samples.is_empty());
        }
        Ok(found)
    }

    /// Deletes the samples in `range` of all series that all `matchers` accept: logged and hidden from new readers when
    /// this returns. The caller makes the logs durable. Says what was in the range, in order from `in_order_mint` on.
    pub fn delete(
        self: &Arc<Head>,
        in_order_mint: i64,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
        logs: &DeletionLogs<'_>,
    ) -> Result<DeletedFromHead, StorageError> {
        let found = self.count_samples(in_order_mint, range, matchers, control)?;
        if found.series == 0 {
            return Ok(found);
        }
        // From here to the end nothing is appended, so the logs have deletions and samples in the order of memory. And no
        // series is removed; where that happened since the search, slots may have other series.
        let (slots, _gates) = loop {
            // Meanwhile no series is removed, and so no slot is given to another one.
            let _upkeep = self.upkeep.lock();
            let slots = self.search(matchers, control)?;
            let gates = self.lock_gates();
            if slots.is_current(self) {
                break (slots, gates);
            }
        };
        let (mut in_order, mut out_of_order) = (Vec::new(), Vec::new());
        for (i, shard) in self.shards.iter().enumerate() {
            let data = shard.data.read();
            for slot in slots.of_shard(i).filter(|slot| *slot < data.slots.len() as u32) {
                let series = SeriesRef(data.info.get(slot).reference);
                let place = Place::new(i, slot);
                // Not beyond the newest sample, and not before the first one of the head.
                let mint = range.mint.max(self.min_time.load(Ordering::Acquire)).max(in_order_mint);
                let maxt = data.slots.get(slot).last_time().map_or(i64::MIN, |last| last.min(range.maxt));
                if mint <= maxt {
                    in_order.push((place, Tombstone { series, mint, maxt }));
                }
                if data.ooo.reaches(slot, range) {
                    out_of_order.push((place, Tombstone { series, mint: range.mint, maxt: range.maxt }));
                }
            }
        }
        let log = |places: &[(Place, Tombstone)], log: &dyn Fn(&[Tombstone]) -> Result<(), StorageError>| {
            places.chunks(TOMBSTONES_PER_RECORD).try_for_each(|chunk| {
                let tombstones: Vec<_> = chunk.iter().map(|(_, tombstone)| *tombstone).collect();
                log(&tombstones)
            })
        };
        // What is in a log is done in memory, also when the other log fails: a start would do the same.
        log(&in_order, logs.wal)?;
        for (place, tombstone) in &in_order {
            let mut data = self.shards[place.shard()].data.write();
            data.tombstones.add(place.slot(), TimeRange { mint: tombstone.mint, maxt: tombstone.maxt });
        }
        log(&out_of_order, logs.wbl)?;
        for (place, _) in &out_of_order {
            Head::delete_out_of_order(&mut self.shards[place.shard()].data.write(), place.slot(), range)?;
        }
        Ok(found)
    }

    /// A deletion in the write-ahead log. Returns whether the reference is known.
    pub fn replay_tombstone(&self, tombstone: &Tombstone) -> bool {
        let place = self.refs.read().get(tombstone.series.0);
        if place == Place::NONE {
            return false;
        }
        let mut data = self.shards[place.shard()].data.write();
        data.tombstones.add(place.slot(), TimeRange { mint: tombstone.mint, maxt: tombstone.maxt });
        true
    }

    /// Calls `each` with all deletions, for a checkpoint or an image of the head.
    pub fn each_tombstone(&self, each: &mut dyn FnMut(Tombstone)) {
        for shard in &self.shards {
            let data = shard.data.read();
            for (slot, ranges) in data.tombstones.iter() {
                let series = SeriesRef(data.info.get(slot).reference);
                ranges.iter().for_each(|r| each(Tombstone { series, mint: r.mint, maxt: r.maxt }));
            }
        }
    }

    /// Forgets deletions of samples before `mint`, which are gone.
    pub(super) fn truncate_tombstones(&self, mint: i64) {
        for shard in &self.shards {
            if !shard.data.read().tombstones.is_empty() {
                shard.data.write().tombstones.truncate_before(mint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_samples_are_taken_out_of_all_columns() {
        use fk_model::FloatHistogram;
        let histogram = |sum| Arc::new(FloatHistogram { sum, ..FloatHistogram::default() });
        let mut samples = Samples {
            t: vec![1, 2, 3, 4, 5, 6],
            v: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            histograms: vec![(1, histogram(2.0)), (3, histogram(4.0)), (4, histogram(5.0))],
            starts: vec![0, 1, 2, 3, 4, 5],
        };
        let untouched = samples.clone();
        remove_deleted(&mut samples, &[]);
        remove_deleted(&mut samples, &[TimeRange { mint: 7, maxt: 9 }]);
        remove_deleted(&mut samples, &[TimeRange { mint: -7, maxt: 0 }]);
        assert_eq!(samples, untouched);
        remove_deleted(&mut samples, &[TimeRange { mint: 0, maxt: 2 }, TimeRange { mint: 5, maxt: 5 }]);
        let expected = Samples {
            t: vec![3, 4, 6],
            v: vec![3.0, 4.0, 6.0],
            histograms: vec![(1, histogram(4.0))],
            starts: vec![2, 3, 5],
        };
        assert_eq!(samples, expected);
    }

    #[test]
    fn truncation_forgets_ranges_that_are_over() {
        let mut tombstones = Tombstones::default();
        tombstones.add(1, TimeRange { mint: 0, maxt: 9 });
        tombstones.add(1, TimeRange { mint: 20, maxt: 30 });
        tombstones.add(2, TimeRange { mint: 0, maxt: 9 });
        tombstones.add(3, TimeRange { mint: 9, maxt: 8 });
        tombstones.truncate_before(10);
        assert_eq!(tombstones.of(1), [TimeRange { mint: 20, maxt: 30 }]);
        assert_eq!((tombstones.of(2).len(), tombstones.iter().count()), (0, 1));
        tombstones.remove(1);
        assert!(tombstones.is_empty());
    }
}
