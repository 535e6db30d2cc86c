//! Series that have ended: those whose newest sample in order is a staleness marker. They can be written to blocks and taken
//! out of the head before their time has come (`storage.tsdb.stale_series_compaction_threshold`), so that churn does not
//! fill the memory.
//!
//! A series goes only if it has got no sample since it was noted. What the log says of it until then is in blocks, so the log
//! is told with a deletion of all times, as by Prometheus; a replay that meets one takes the series out again. The deletion is
//! logged with the gate held: an append of the series is in the log before it, and then the series stays, or finds the
//! series gone and makes another one, with another reference.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fk_model::is_stale;
use fk_storage::{SeriesRef, StorageError, TimeRange};
use fk_wal::record::Tombstone;

use super::shard::ShardData;
use super::stream::HeadStream;
use super::truncate::{Doomed, REMOVE_GROUP, SLOTS_GROUP, Truncated};
use super::{Head, Place, SHARDS};

/// Stale series, as they were at some moment.
#[derive(Debug, Default)]
pub struct StaleSeries {
    /// By shard, ascending by slot.
    shards: [Vec<Stale>; SHARDS],
}

#[derive(Clone, Copy, Debug)]
struct Stale {
    slot: u32,
    reference: u64,
    /// Time of its newest sample.
    last_time: i64,
}

impl StaleSeries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(Vec::is_empty)
    }

    /// Whether a slot of a shard has one of them.
    pub(super) fn has(&self, shard: usize, data: &ShardData, slot: u32) -> bool {
        self.find(shard, slot).is_some_and(|stale| data.has(slot, stale.reference))
    }

    fn find(&self, shard: usize, slot: u32) -> Option<&Stale> {
        let all = &self.shards[shard];
        all.binary_search_by_key(&slot, |stale| stale.slot).ok().map(|at| &all[at])
    }
}

/// A deletion of all times: the series is no more.
fn gone(series: SeriesRef) -> Tombstone {
    Tombstone { series, mint: i64::MIN, maxt: i64::MAX }
}

/// Whether a deletion says that the series is no more.
pub(crate) fn is_gone(tombstone: &Tombstone) -> bool {
    (tombstone.mint, tombstone.maxt) == (i64::MIN, i64::MAX)
}

impl Head {
    /// How many series are stale (`prometheus_tsdb_head_stale_series`).
    pub fn n_stale_series(&self) -> u64 {
        self.metrics.stale_series.load(Ordering::Relaxed).max(0) as u64
    }

    /// The series that are stale now and have no out-of-order samples.
    pub fn stale_series(&self) -> StaleSeries {
        self.wait_for_appends();
        let mut found = StaleSeries::default();
        for (shard, found) in self.shards.iter().zip(&mut found.shards) {
            let mut at = 0;
            loop {
                let data = shard.data.read();
                let end = (at + SLOTS_GROUP).min(data.slots.len() as u32);
                found.extend((at..end).filter_map(|slot| {
                    let reference = data.info.get(slot).reference;
                    let last_time = data.stale_since(slot)?;
                    Some(Stale { slot, reference, last_time })
                }));
                at = end;
                if at >= data.slots.len() as u32 {
                    break;
                }
            }
        }
        found
    }

    /// As [`Head::stream`], of these series only.
    pub fn stream_stale(self: &Arc<Head>, range: TimeRange, only: &StaleSeries) -> Result<HeadStream, StorageError> {
        self.stream_where(range, &|shard, data, slot| only.has(shard, data, slot))
    }

    /// Takes series out that are in blocks, readers of which have no older view. Those that have got samples since they were
    /// noted stay. `log` takes deletions, durably enough for the log, and returns the last segment that may mention the series.
    pub fn remove_stale(
        &self,
        stale: &StaleSeries,
        log: &dyn Fn(&[Tombstone]) -> Result<u32, StorageError>,
    ) -> Result<Truncated, StorageError> {
        let mut upkeep = self.upkeep.lock();
        let mut done = Truncated::default();
        let result = stale.shards.iter().enumerate().try_for_each(|(shard, noted)| {
            let goes = |data: &ShardData, doomed: &Doomed| {
                let noted = stale.find(shard, doomed.slot).map(|stale| stale.last_time);
                data.has(doomed.slot, doomed.reference) && noted.is_some() && data.stale_since(doomed.slot) == noted
            };
            noted.chunks(REMOVE_GROUP).try_for_each(|group| {
                let mut doomed: Vec<_> = group.iter().map(|s| Doomed::new(s.slot, s.reference)).collect();
                let log = |series: &[SeriesRef]| log(&series.iter().copied().map(gone).collect::<Vec<_>>());
                self.remove(shard, &mut doomed, &goes, &log, &mut done)
            })
        });
        if done.series > 0 {
            for shard in &self.shards {
                let n_slots = {
                    let mut data = shard.data.write();
                    data.tidy();
                    data.slots.len()
                };
                shard.gate.lock().shrink(n_slots);
            }
            self.collect_strings(&mut upkeep, &mut done);
        }
        self.metrics.series_removed.fetch_add(done.series as u64, Ordering::Relaxed);
        self.metrics.chunks_removed.fetch_add(done.chunks as u64, Ordering::Relaxed);
        result.map(|()| done)
    }

    /// A replay has found that series are no more; `segment` of the log says so. Returns how many are not known.
    pub(crate) fn replay_gone(&self, series: &[SeriesRef], segment: u32) -> usize {
        let mut shards: [Vec<Doomed>; SHARDS] = Default::default();
        let mut unknown = 0;
        for series in series {
            let place = self.refs.read().get(series.0);
            if place == Place::NONE {
                unknown += 1;
                continue;
            }
            // The deletion may name another name of the series.
            let reference = self.shards[place.shard()].data.read().info.get(place.slot()).reference;
            shards[place.shard()].push(Doomed::new(place.slot(), reference));
        }
        let mut done = Truncated::default();
        for (shard, doomed) in shards.iter_mut().enumerate() {
            doomed.sort_unstable_by_key(Doomed::slot);
            doomed.dedup_by_key(|doomed| doomed.slot());
            for group in doomed.chunks_mut(REMOVE_GROUP) {
                let goes = |data: &ShardData, doomed: &Doomed| data.has(doomed.slot, doomed.reference);
                if let Err(e) = self.remove(shard, group, &goes, &|_| Ok(segment), &mut done) {
                    log::error!("stale series stay in the head: {e}");
                }
            }
        }
        self.metrics.series_removed.fetch_add(done.series as u64, Ordering::Relaxed);
        self.metrics.chunks_removed.fetch_add(done.chunks as u64, Ordering::Relaxed);
        unknown
    }
}

impl ShardData {
    /// Time of the staleness marker that a series ends with; `None` if it does not, or has out-of-order samples.
    fn stale_since(&self, slot: u32) -> Option<i64> {
        let (t, v) = self.slots.get(slot).last()?;
        (is_stale(v) && self.info.get(slot).reference != 0 && !self.ooo.has(slot)).then_some(t)
    }
}
