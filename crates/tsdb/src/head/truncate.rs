//! Dropping what is in blocks: chunks, series without samples, and the strings that nobody uses any more.
//!
//! The caller has written a block of the old samples, readers look at the head from `mint` on only, and those that still
//! look further back have been waited for. Then [`Head::truncate`]
//!
//! 1. refuses older samples from now on, and waits for appends under way (their gates);
//! 2. goes through every shard in groups of slots, each under the shard's lock for well below a millisecond: chunks that
//!    end before `mint` go, and series that have nothing left are noted;
//! 3. removes those series under gate and lock, after asking again, and makes their slots vacant;
//! 4. removes the files whose chunks are all old;
//! 5. collects the strings in use and forgets the others (see [`super::symbols::Symbols`]).
//!
//! A series that was made since the last truncation and has no sample yet stays: its first sample may be on its way. All
//! others without samples go; an append with an old reference is told so and resolves the labels again.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use hashbrown::{HashMap, HashSet};

use fk_model::is_stale;
use fk_storage::{SeriesRef, StorageError};

use super::arena;
use super::shard::{Shard, ShardData};
use super::symbols::{Condemned, Marks, SymbolId};
use super::{Head, Place};

/// Slots looked at while a shard's lock is held.
pub(super) const SLOTS_GROUP: u32 = 1024;

/// Series removed while gate and lock of a shard are held.
pub(super) const REMOVE_GROUP: usize = 512;

/// Strings looked at while new ones have to wait.
const STRINGS_GROUP: u32 = 4096;

/// What a truncation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Series removed.
    pub series: usize,
    /// Chunks removed, those of removed series included.
    pub chunks: usize,
    /// Files of completed chunks removed.
    pub files: usize,
    /// Strings forgotten.
    pub strings: usize,
}

/// What truncations remember.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// Strings to be released when those who may have their ids are gone.
    condemned: VecDeque<(Weak<()>, Condemned)>,
}

/// A series to be removed.
pub(super) struct Doomed {
    pub slot: u32,
    pub reference: u64,
    hash: u32,
}

impl Doomed {
    pub fn new(slot: u32, reference: u64) -> Doomed {
        Doomed { slot, reference, hash: 0 }
    }

    pub fn slot(&self) -> u32 {
        self.slot
    }
}

impl Head {
    /// Drops samples before `mint`, ms; see the module's text. `segment` is the last segment of the log that may mention
    /// series that are removed now: see [`Head::is_needed_in_checkpoint`].
    pub fn truncate(&self, mint: i64, segment: u32) -> Result<Truncated, StorageError> {
        let begun = Instant::now();
        let mut upkeep = self.upkeep.lock();
        let mut done = Truncated::default();
        self.metrics.truncations.fetch_add(1, Ordering::Relaxed);
        self.set_min_valid_time(mint);
        self.min_time_appended.store(i64::MAX, Ordering::Release);
        self.wait_for_appends();
        if self.min_time.load(Ordering::Acquire) != i64::MAX {
            self.min_time.fetch_max(mint, Ordering::AcqRel);
        }
        let mut oldest = i64::MAX;
        for idx in 0..self.shards.len() {
            oldest = oldest.min(self.truncate_shard(idx, mint, segment, &mut done)?);
        }
        self.truncate_tombstones(mint);
        self.raise_min_time(mint, oldest);
        self.collect_strings(&mut upkeep, &mut done);
        drop(upkeep);
        self.metrics.series_removed.fetch_add(done.series as u64, Ordering::Relaxed);
        self.metrics.chunks_removed.fetch_add(done.chunks as u64, Ordering::Relaxed);
        let removed = self.files.as_ref().map_or(Ok(0), |files| files.truncate(mint));
        match removed {
            Ok(files) => done.files = files,
            Err(e) => {
                // The files are tried again next time; nobody looks into them.
                self.metrics.truncations_failed.fetch_add(1, Ordering::Relaxed);
                return Err(e);
            }
        }
        self.metrics.gc_duration_ns.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(done)
    }

    /// Whether a checkpoint of the segments up to `last` has to keep the record of this series: it is alive, or a segment
    /// behind `last` may mention it.
    pub fn is_needed_in_checkpoint(&self, reference: SeriesRef, last: u32) -> bool {
        self.is_alive(reference) || self.expired.lock().get(&reference.0).is_some_and(|segment| *segment > last)
    }

    /// The segments up to `last` are gone: removed series that only they mention can be forgotten.
    pub fn forget_expired(&self, last: u32) {
        let mut expired = self.expired.lock();
        expired.retain(|_, segment| *segment > last);
        if expired.len() * 4 < expired.capacity() {
            expired.shrink_to_fit();
        }
    }

    /// The log still has a series that the head has not: its record is kept as long as segment `segment` is there.
    pub fn expire(&self, reference: SeriesRef, segment: u32) {
        self.expired.lock().insert(reference.0, segment);
    }

    /// Waits until every append that began before this call has ended.
    pub(super) fn wait_for_appends(&self) {
        for shard in &self.shards {
            drop(shard.gate.lock());
        }
    }

    /// Sets the time of the oldest sample to that of the oldest one found, unless an append has brought an older one.
    fn raise_min_time(&self, mint: i64, found: i64) {
        // With all gates held no append is between its check and its end.
        let _gates: Vec<_> = self.shards.iter().map(|shard| shard.gate.lock()).collect();
        if self.min_time.load(Ordering::Acquire) == i64::MAX {
            return;
        }
        let oldest = found.min(self.min_time_appended.load(Ordering::Acquire));
        let oldest = if oldest == i64::MAX { mint } else { oldest.max(mint) };
        self.min_time.store(oldest, Ordering::Release);
    }

    /// Returns the time of the oldest sample that is left, `i64::MAX` if there is none. It may be a little too old.
    fn truncate_shard(&self, idx: usize, mint: i64, segment: u32, done: &mut Truncated) -> Result<i64, StorageError> {
        let shard = &self.shards[idx];
        let (mut at, mut oldest, mut doomed) = (0, i64::MAX, Vec::new());
        loop {
            let mut data = shard.data.write();
            let end = (at + SLOTS_GROUP).min(data.slots.len() as u32);
            for slot in at..end {
                let reference = data.info.get(slot).reference;
                if reference == 0 {
                    continue;
                }
                let (first_time, dropped) = data.drop_before(slot, mint);
                done.chunks += dropped;
                match first_time {
                    Some(t) => oldest = oldest.min(t),
                    None if data.slots.get(slot).last_time().is_none() && data.slots.get_mut(slot).take_fresh() => {}
                    None => doomed.push(Doomed::new(slot, reference)),
                }
                data.tidy_words(slot);
            }
            at = end;
            if at >= data.slots.len() as u32 {
                break;
            }
        }
        for group in doomed.chunks_mut(REMOVE_GROUP) {
            let is_old = |data: &ShardData, series: &Doomed| data.is_old(series.slot, mint);
            self.remove(idx, group, &is_old, &|_| Ok(segment), done)?;
        }
        let n_slots = {
            let mut data = shard.data.write();
            data.tidy();
            data.slots.len()
        };
        // A gate may not wait for data that somebody has, so this is asked for in the order of the locks.
        shard.gate.lock().shrink(n_slots);
        Ok(oldest)
    }

    /// Removes those series of a shard that `goes` says, asked with the gate held. `log` is told before they go, and returns the last
    /// segment of the log that may mention them; on its error they stay. `doomed` ascends by slot.
    pub(super) fn remove(
        &self,
        idx: usize,
        doomed: &mut [Doomed],
        goes: &dyn Fn(&ShardData, &Doomed) -> bool,
        log: &dyn Fn(&[SeriesRef]) -> Result<u32, StorageError>,
        done: &mut Truncated,
    ) -> Result<(), StorageError> {
        let shard = &self.shards[idx];
        let (mut schemas, mut pairs) = (HashMap::new(), Vec::new());
        {
            // Whoever waits for a gate holds no symbols, so what is needed of them is fetched first.
            let symbols = self.symbols.read();
            let data = shard.data.read();
            for series in doomed.iter_mut() {
                let words = data.words_of(series.slot);
                series.hash = self.home(&symbols.labels(words)).1;
                schemas.entry(words[0]).or_insert_with(|| symbols.schema(words[0]).to_vec());
            }
        }
        let _gate = shard.gate.lock();
        // No append changes anything until the gate is given back.
        let going: Vec<&Doomed> = {
            let data = shard.data.read();
            doomed.iter().filter(|series| goes(&data, series)).collect()
        };
        let segment = match going.is_empty() {
            true => return Ok(()),
            false => log(&going.iter().map(|series| SeriesRef(series.reference)).collect::<Vec<_>>())?,
        };
        let mut data = shard.data.write();
        let mut gone: Vec<(u32, u32)> = Vec::with_capacity(going.len());
        let mut distinct: HashSet<(SymbolId, SymbolId)> = HashSet::new();
        for series in &going {
            let words = data.words_of(series.slot);
            let names = schemas.get(&words[0]).into_iter().flatten().copied();
            distinct.extend(names.zip(words[1..].iter().copied()));
            gone.push((series.slot, series.hash));
            let slot = data.slots.get(series.slot);
            done.chunks += data.arena.list_len(slot.completed()) + usize::from(slot.last_time().is_some());
            if slot.last().is_some_and(|(_, v)| is_stale(v)) {
                self.metrics.stale_series.fetch_sub(1, Ordering::Relaxed);
            }
        }
        pairs.extend(distinct);
        pairs.sort_unstable();
        data.remove(&gone, &pairs);
        done.series += gone.len();
        let mut refs = self.refs.write();
        let mut expired = self.expired.lock();
        for series in &going {
            refs.remove(series.reference, Place::new(idx, series.slot), |reference| {
                expired.insert(reference, segment);
            });
        }
        drop((expired, refs, data));
        shard.removals.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Forgets strings and schemas that no series has.
    pub(super) fn collect_strings(&self, upkeep: &mut Upkeep, done: &mut Truncated) {
        self.collect_metadata();
        while let Some((pinned, condemned)) = upkeep.condemned.front_mut() {
            if pinned.strong_count() > 0 {
                break;
            }
            while !condemned.is_empty() {
                self.symbols.write().release(condemned, STRINGS_GROUP as usize);
            }
            upkeep.condemned.pop_front();
        }
        // A series whose labels have been interned before is there now: `resolve` holds the symbols until it is.
        self.symbols.write().begin_mark();
        let mut used = Marks::default();
        for shard in &self.shards {
            collect_used(shard, &mut used);
        }
        let mut condemned = Condemned::default();
        let (n_strings, n_schemas) = self.symbols.read().id_counts();
        let groups = |n: u32| (0..n).step_by(STRINGS_GROUP as usize).map(|at| at..at + STRINGS_GROUP);
        for ids in groups(n_schemas) {
            self.symbols.write().condemn_schemas(ids, &mut used, &mut condemned);
        }
        for ids in groups(n_strings) {
            self.symbols.write().condemn(ids, &used, &mut condemned);
        }
        self.symbols.write().end_mark();
        for ids in groups(n_strings) {
            self.symbols.write().compact(ids);
        }
        done.strings = condemned.len();
        if !condemned.is_empty() {
            let pinned = std::mem::replace(&mut *self.pin.lock(), Arc::new(()));
            upkeep.condemned.push_back((Arc::downgrade(&pinned), condemned));
        }
    }
}

fn collect_used(shard: &Shard, used: &mut Marks) {
    let mut at = 0;
    loop {
        let data = shard.data.read();
        let end = (at + 4 * SLOTS_GROUP).min(data.slots.len() as u32);
        for slot in at..end {
            if data.info.get(slot).reference != 0 {
                used.add_words(data.words_of(slot));
            }
        }
        at = end;
        if at >= data.slots.len() as u32 {
            break;
        }
    }
}

impl ShardData {
    /// Drops the completed chunks of a series that end before `mint`. Returns the time of its oldest sample that is left
    /// (maybe a little earlier), if there is one, and how many chunks went.
    fn drop_before(&mut self, slot_idx: u32, mint: i64) -> (Option<i64>, usize) {
        let ShardData { slots, slabs, arena, .. } = self;
        let slot = slots.get_mut(slot_idx);
        let (oldest, dropped) = slot.drop_chunks_before(mint, arena);
        let Some(newest) = slot.last_time().filter(|t| *t >= mint) else { return (None, dropped) };
        let first_time = match oldest {
            arena::NONE => slot.open_first_time(slabs),
            oldest => arena.first_time_min(oldest).unwrap_or(mint),
        };
        (Some(first_time.min(newest)), dropped)
    }

    /// Whether a series has no sample from `mint` on, no out-of-order sample, and waits for none.
    fn is_old(&self, slot_idx: u32, mint: i64) -> bool {
        let slot = self.slots.get(slot_idx);
        if self.ooo.has(slot_idx) {
            return false;
        }
        self.info.get(slot_idx).reference != 0 && slot.last_time().map_or(!slot.is_fresh(), |t| t < mint)
    }
}
