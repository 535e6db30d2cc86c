//! Appending batches.

use std::array;
use std::hint::black_box;
use std::sync::atomic::Ordering;

use hashbrown::{HashMap, HashSet};
use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use fk_model::{Labels, is_stale};
use fk_storage::{
    AppendReport, Batch, BatchHistogram, BatchSample, OutOfOrder, Rejection, SeriesRef, StorageError, push_start,
};

use super::histograms::{self, Verdict};
use super::ooo::{Late, OooValue};
use super::shard::{Gate, ShardData};
use super::{Head, Place, SHARDS};

/// Most samples of one batch.
pub const BATCH_SAMPLES_MAX: usize = 1 << 20;

/// Scratches kept for reuse: about as many as appends run at the same time.
const SCRATCHES_MAX: usize = 16;

/// What an append adds to a log with one write, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogEntry<'a> {
    /// Series that the log does not know yet. Never in the out-of-order log.
    pub series: &'a [(SeriesRef, Labels)],
    /// Float samples.
    pub samples: &'a [BatchSample],
    /// Their start timestamps, ms, 0 where not known: at most as many as samples, those missing at the end are not known.
    pub starts: &'a [i64],
    /// Histograms.
    pub histograms: &'a [BatchHistogram],
    /// Whether this goes to the log of out-of-order samples (`wbl/`) instead of the write-ahead log.
    pub out_of_order: bool,
}

/// Takes what a batch adds to the logs: at most one call for the write-ahead log, then at most one for the log of
/// out-of-order samples. What a successful call was given survives the end of the process.
pub type Log<'a> = dyn Fn(&LogEntry<'_>) -> Result<(), StorageError> + 'a;

/// Memory of one append.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Of each sample of the batch.
    places: Vec<Place>,
    /// Whether all samples of the batch are to be stored, as they stand there: then they are not listed here.
    plain: bool,
    /// Whether start timestamps of floats are kept.
    starts: bool,
    /// What is to be stored.
    accepted: Vec<BatchSample>,
    accepted_places: Vec<Place>,
    /// Start timestamps of the accepted ones, as in [`LogEntry::starts`].
    accepted_starts: Vec<i64>,
    /// What is to be stored out of order.
    late: Vec<BatchSample>,
    late_places: Vec<Place>,
    late_starts: Vec<i64>,
    /// The same of histograms.
    histograms: Histograms,
    /// Series in `new` because of a sample in `late`, or of a histogram.
    new_late: HashSet<Place>,
    /// Series that the log does not know yet.
    new: Vec<NewSeries>,
    /// Their label ids, one after another.
    new_words: Vec<u32>,
}

/// The histograms of a batch. There are none most of the time.
#[derive(Debug, Default)]
struct Histograms {
    /// Of each histogram of the batch.
    places: Vec<Place>,
    accepted: Vec<BatchHistogram>,
    accepted_places: Vec<Place>,
    late: Vec<BatchHistogram>,
    late_places: Vec<Place>,
    /// Time of the last accepted one of each series.
    last: HashMap<Place, i64>,
}

impl Histograms {
    fn clear(&mut self) {
        self.places.clear();
        self.accepted.clear();
        self.accepted_places.clear();
        self.late.clear();
        self.late_places.clear();
        self.last.clear();
    }
}

#[derive(Debug)]
struct NewSeries {
    place: Place,
    reference: u64,
    words_end: usize,
}

impl Scratch {
    /// The samples of the batch that are to be stored in order, and their places.
    fn accepted<'s>(&'s self, batch: &'s Batch) -> (&'s [BatchSample], &'s [Place]) {
        match self.plain {
            true => (&batch.samples, &self.places),
            false => (&self.accepted, &self.accepted_places),
        }
    }

    /// The start timestamps of these, as in [`LogEntry::starts`].
    fn accepted_starts<'s>(&'s self, batch: &'s Batch) -> &'s [i64] {
        match (self.plain, self.starts) {
            (true, true) => &batch.starts,
            (true, false) => &[],
            (false, _) => &self.accepted_starts,
        }
    }

    fn clear(&mut self) {
        self.plain = false;
        self.places.clear();
        self.accepted.clear();
        self.accepted_places.clear();
        self.accepted_starts.clear();
        self.late.clear();
        self.late_places.clear();
        self.late_starts.clear();
        self.histograms.clear();
        self.new_late.clear();
        self.new.clear();
        self.new_words.clear();
    }
}

/// The start timestamp of sample `idx` of a batch.
fn start_of(batch: &Batch, idx: usize) -> i64 {
    batch.starts.get(idx).copied().unwrap_or(0)
}

/// Looks at the ends of the open chunks, which nobody has looked at since the batch before, and most of which the batch will
/// write to one after another: asked for here, without anything that waits for the answers, they come from memory side by
/// side. (Slots need no such help: those of a target stand in a row.)
fn fetch_ends(places: &[Place], data: &[Option<RwLockReadGuard<'_, ShardData>>; SHARDS]) {
    let mut seen = 0;
    for place in places {
        if let Some(data) = &data[place.shard()] {
            seen ^= data.slots.get(place.slot()).touch(&data.slabs);
        }
    }
    black_box(seen);
}

/// Notes a series that the log does not know yet.
fn note_new(new: &mut Vec<NewSeries>, new_words: &mut Vec<u32>, data: &ShardData, place: Place) {
    new_words.extend_from_slice(data.words_of(place.slot()));
    let reference = data.info.get(place.slot()).reference;
    new.push(NewSeries { place, reference, words_end: new_words.len() });
}

/// What an append goes by from beginning to end, whatever others do meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The oldest time that is taken in order.
    pub time_min: i64,
    /// Time of the newest sample of the head.
    pub newest: i64,
    /// The out-of-order window; 0: nothing is taken out of order.
    pub window_ms: i64,
    out_of_order: OutOfOrder,
}

impl Bounds {
    /// Whether a sample that cannot be taken in order can be taken out of order, or why not. In the order of the checks of
    /// Prometheus.
    pub fn check_late(&self, t: i64) -> Result<(), Rejection> {
        if self.window_ms > 0 {
            return match t >= self.newest.saturating_sub(self.window_ms) {
                false => Err(Rejection::TooOld),
                true if self.out_of_order == OutOfOrder::Reject => Err(Rejection::OutOfOrder),
                true => Ok(()),
            };
        }
        Err(if t < self.time_min { Rejection::OutOfBounds } else { Rejection::OutOfOrder })
    }
}

impl Head {
    /// Appends a batch; see [`fk_storage::Appender::append`].
    pub fn append(&self, batch: &Batch, report: &mut AppendReport, log: &Log<'_>) -> Result<(), StorageError> {
        report.clear();
        if batch.samples.is_empty() && batch.histograms.is_empty() {
            return Ok(());
        }
        if batch.samples.len().max(batch.histograms.len()) > BATCH_SAMPLES_MAX {
            return Err(StorageError::Unsupported("a batch of more than 1048576 samples"));
        }
        self.metrics.batches.fetch_add(1, Ordering::Relaxed);
        self.metrics.active_batches.fetch_add(1, Ordering::Relaxed);
        let mut scratch = self.scratch.lock().pop().unwrap_or_default();
        scratch.clear();
        let result = self.append_with(&mut scratch, batch, report, log);
        let mut pool = self.scratch.lock();
        if pool.len() < SCRATCHES_MAX {
            pool.push(scratch);
        }
        drop(pool);
        self.metrics.active_batches.fetch_sub(1, Ordering::Relaxed);
        if result.is_err() {
            report.clear();
        }
        result
    }

    fn append_with(
        &self,
        scratch: &mut Scratch,
        batch: &Batch,
        report: &mut AppendReport,
        log: &Log<'_>,
    ) -> Result<(), StorageError> {
        // From here to the end no other append changes these shards.
        let (touched, mut gates) = loop {
            let removals: [_; SHARDS] = array::from_fn(|i| self.shards[i].removals.load(Ordering::Acquire));
            let touched = self.look_up(scratch, batch);
            let gates: [_; SHARDS] = array::from_fn(|i| (touched >> i & 1 == 1).then(|| self.shards[i].gate.lock()));
            // A slot that was found before the gate was ours may have another series by now.
            let same = |i: usize| gates[i].is_none() || self.shards[i].removals.load(Ordering::Acquire) == removals[i];
            if (0..SHARDS).all(same) {
                break (touched, gates);
            }
        };
        let mut gates: [Option<&mut Gate>; SHARDS] = gates.each_mut().map(|g| g.as_deref_mut());
        {
            let data: [_; SHARDS] = array::from_fn(|i| (touched >> i & 1 == 1).then(|| self.shards[i].data.read()));
            for (gate, data) in gates.iter_mut().zip(&data) {
                if let (Some(gate), Some(data)) = (gate, data) {
                    gate.begin(batch.samples.len(), data.slots.len());
                    data.check_room()?;
                }
            }
            // Who sends no start timestamps does not pay for them.
            scratch.starts = !batch.starts.is_empty() && self.keeps_float_starts();
            scratch.plain = self.is_plain(&scratch.places, batch, &mut gates, &data);
            if scratch.plain {
                fetch_ends(&scratch.places, &data);
            }
            match (scratch.plain, scratch.starts) {
                (true, _) => report.accepted = batch.samples.len(),
                (false, false) => self.check::<false>(scratch, batch, report, &mut gates, &data),
                (false, true) => self.check::<true>(scratch, batch, report, &mut gates, &data),
            }
            if !batch.histograms.is_empty() {
                self.check_histograms(scratch, batch, report, &gates, &data);
            }
        }
        let histograms = &scratch.histograms;
        let (accepted, _) = scratch.accepted(batch);
        let in_order = !accepted.is_empty() || !histograms.accepted.is_empty();
        let late = !scratch.late.is_empty() || !histograms.late.is_empty();
        if !in_order && !late {
            self.count(report, 0);
            return Ok(());
        }
        let series = self.new_labels(scratch);
        if !series.is_empty() || in_order {
            let entry = LogEntry {
                series: &series,
                samples: accepted,
                starts: scratch.accepted_starts(batch),
                histograms: &histograms.accepted,
                out_of_order: false,
            };
            log(&entry)?;
        }
        let mut logged = Ok(());
        if late {
            let (samples, starts, histograms) = (&scratch.late, &scratch.late_starts, &histograms.late);
            logged = log(&LogEntry { series: &[], samples, starts, histograms, out_of_order: true });
            if logged.is_err() {
                // What is in the write-ahead log has to be in memory as well: a start would find it there.
                scratch.late.clear();
                scratch.histograms.late.clear();
            }
        }
        let stored = self.publish(scratch, batch);
        if logged.is_ok() {
            self.count(report, stored);
        }
        logged
    }

    /// Finds the places of all samples; returns the shards they are in, a bit each.
    fn look_up(&self, scratch: &mut Scratch, batch: &Batch) -> u32 {
        let mut touched = 0u32;
        let refs = self.refs.read();
        let mut look_up = |series: SeriesRef| {
            let place = refs.get(series.0);
            if place != Place::NONE {
                touched |= 1 << place.shard();
            }
            place
        };
        scratch.places.clear();
        scratch.places.extend(batch.samples.iter().map(|sample| look_up(sample.series)));
        scratch.histograms.places.clear();
        scratch.histograms.places.extend(batch.histograms.iter().map(|sample| look_up(sample.series)));
        touched
    }

    /// Whether start timestamps of floats go anywhere.
    fn keeps_float_starts(&self) -> bool {
        self.logged_starts || self.rules().xor2
    }

    /// Whether all samples of the batch can be stored as they stand there: each is the only one of a float series that the log
    /// knows, and newer than all others. Nearly all batches are so, and then nothing needs to be sorted out. If not, the gates
    /// are as they were.
    fn is_plain(
        &self,
        places: &[Place],
        batch: &Batch,
        gates: &mut [Option<&mut Gate>; SHARDS],
        data: &[Option<RwLockReadGuard<'_, ShardData>>; SHARDS],
    ) -> bool {
        let time_min = self.bounds(batch).time_min;
        let mut is_plain = |(idx, (sample, place)): (usize, (&BatchSample, &Place))| {
            if *place == Place::NONE {
                return false;
            }
            let (Some(gate), Some(data)) = (&mut gates[place.shard()], &data[place.shard()]) else { return false };
            let slot = data.slots.get(place.slot());
            sample.t >= time_min && slot.takes_plainly(sample.t) && gate.accept_first(place.slot(), idx)
        };
        let plain = batch.samples.iter().zip(places).enumerate().all(&mut is_plain);
        if !plain {
            for (gate, data) in gates.iter_mut().zip(data) {
                if let (Some(gate), Some(data)) = (gate, data) {
                    gate.begin(batch.samples.len(), data.slots.len());
                }
            }
        }
        plain
    }

    /// Sorts the samples of the batch into accepted ones, late ones and rejected ones. Without `STARTS` their start
    /// timestamps are not looked at.
    fn check<const STARTS: bool>(
        &self,
        scratch: &mut Scratch,
        batch: &Batch,
        report: &mut AppendReport,
        gates: &mut [Option<&mut Gate>; SHARDS],
        data: &[Option<RwLockReadGuard<'_, ShardData>>; SHARDS],
    ) {
        let bounds = self.bounds(batch);
        let mut reject = |idx, why| report.rejected.push((idx, why));
        for (idx, (sample, &place)) in batch.samples.iter().zip(&scratch.places).enumerate() {
            if sample.t < bounds.time_min && bounds.window_ms == 0 {
                reject(idx, Rejection::OutOfBounds);
                continue;
            }
            if place == Place::NONE {
                reject(idx, Rejection::UnknownSeries);
                continue;
            }
            let (shard, slot_idx) = (place.shard(), place.slot());
            let (Some(gate), Some(data)) = (&mut gates[shard], &data[shard]) else { continue };
            let slot = data.slots.get(slot_idx);
            let in_batch = gate.last_in_batch(slot_idx);
            let last = match in_batch {
                Some(earlier) => Some((batch.samples[earlier].t, batch.samples[earlier].v)),
                None => slot.last(),
            };
            let is_late = match last {
                _ if sample.t < bounds.time_min => true,
                Some((t, v)) if sample.t == t => {
                    match sample.v.to_bits() == v.to_bits() {
                        false => reject(idx, Rejection::Duplicate),
                        // The very same sample again: neither stored nor an error.
                        true => report.accepted += 1,
                    }
                    continue;
                }
                Some((t, _)) => sample.t < t,
                None => false,
            };
            if is_late {
                self.metrics.observe_late(bounds.newest - sample.t);
                if let Err(why) = bounds.check_late(sample.t) {
                    reject(idx, why);
                    continue;
                }
                report.accepted += 1;
                if data.ooo.is_duplicate(slot_idx, sample.t, self.ooo.cap) {
                    continue;
                }
                if !slot.is_logged() && in_batch.is_none() && scratch.new_late.insert(place) {
                    note_new(&mut scratch.new, &mut scratch.new_words, data, place);
                }
                if STARTS {
                    push_start(&mut scratch.late_starts, scratch.late.len(), start_of(batch, idx));
                }
                scratch.late.push(*sample);
                scratch.late_places.push(place);
                continue;
            }
            gate.accept(slot_idx, idx);
            if in_batch.is_none() && !slot.is_logged() && !scratch.new_late.contains(&place) {
                note_new(&mut scratch.new, &mut scratch.new_words, data, place);
            }
            report.accepted += 1;
            if let Some(open) = slot.open_histogram(&data.slabs)
                && is_stale(sample.v)
                && in_batch.is_none()
            {
                // What ends a series of histograms is a histogram, too.
                let BatchSample { series, t, v } = *sample;
                let start = if STARTS { start_of(batch, idx) } else { 0 };
                scratch.histograms.accepted.push(BatchHistogram { series, t, start, h: open.stale(v) });
                scratch.histograms.accepted_places.push(place);
                scratch.histograms.last.insert(place, t);
                continue;
            }
            if STARTS {
                push_start(&mut scratch.accepted_starts, scratch.accepted.len(), start_of(batch, idx));
            }
            scratch.accepted.push(*sample);
            scratch.accepted_places.push(place);
        }
    }

    /// The same of the histograms of the batch, which come behind its floats.
    fn check_histograms(
        &self,
        scratch: &mut Scratch,
        batch: &Batch,
        report: &mut AppendReport,
        gates: &[Option<&mut Gate>; SHARDS],
        data: &[Option<RwLockReadGuard<'_, ShardData>>; SHARDS],
    ) {
        let bounds = self.bounds(batch);
        let Scratch { histograms, new, new_words, new_late, .. } = scratch;
        for (idx, sample) in batch.histograms.iter().enumerate() {
            let place = histograms.places[idx];
            let mut reject = |why| report.rejected_histograms.push((idx, why));
            let (true, Some(Some(gate)), Some(Some(data))) =
                (place != Place::NONE, gates.get(place.shard()), data.get(place.shard()))
            else {
                reject(Rejection::UnknownSeries);
                continue;
            };
            let float = gate.last_in_batch(place.slot()).map(|at| batch.samples[at].t);
            let in_batch = histograms.last.get(&place).copied().max(float);
            let verdict = match data.check_histogram(place.slot(), in_batch, sample, &bounds) {
                Ok(verdict) => verdict,
                Err(why) => {
                    reject(why);
                    continue;
                }
            };
            if matches!(verdict, Verdict::Late) {
                self.metrics.observe_late(bounds.newest - sample.t);
                if let Err(why) = bounds.check_late(sample.t) {
                    reject(why);
                    continue;
                }
            }
            report.accepted += 1;
            let is_late = match verdict {
                Verdict::Repeat => continue,
                Verdict::Late if data.ooo.is_duplicate(place.slot(), sample.t, self.ooo.cap) => continue,
                Verdict::Late => true,
                Verdict::Store => false,
            };
            if !data.slots.get(place.slot()).is_logged() && in_batch.is_none() && new_late.insert(place) {
                note_new(new, new_words, data, place);
            }
            if is_late {
                histograms.late.push(sample.clone());
                histograms.late_places.push(place);
            } else {
                histograms.accepted.push(sample.clone());
                histograms.accepted_places.push(place);
                histograms.last.insert(place, sample.t);
            }
        }
    }

    /// What an append goes by from beginning to end.
    pub(super) fn bounds(&self, batch: &Batch) -> Bounds {
        // The first sample of an empty head sets the mark.
        let first = batch.samples.first().map(|s| s.t).or_else(|| batch.histograms.first().map(|h| h.t));
        let newest = match self.max_time.load(Ordering::Acquire) {
            i64::MIN => first.unwrap_or(i64::MIN),
            newest => newest,
        };
        Bounds {
            time_min: self.append_time_min(first.unwrap_or(i64::MIN)),
            newest,
            window_ms: self.out_of_order_window_ms(),
            out_of_order: batch.out_of_order,
        }
    }

    /// The oldest time an append takes: half a block behind the newest sample, and not what is in blocks already
    /// (`appendableMinValidTime` in Prometheus).
    /// The first sample of an empty head sets the mark.
    fn append_time_min(&self, first: i64) -> i64 {
        let newest = match self.max_time.load(Ordering::Acquire) {
            i64::MIN => first,
            newest => newest,
        };
        self.min_valid_time().max(newest.saturating_sub(self.fixed_rules.range_ms / 2))
    }

    fn new_labels(&self, scratch: &Scratch) -> Vec<(SeriesRef, Labels)> {
        if scratch.new.is_empty() {
            return Vec::new();
        }
        let symbols = self.symbols.read();
        let mut start = 0;
        let labels = scratch.new.iter().map(|new| {
            let words = &scratch.new_words[start..new.words_end];
            start = new.words_end;
            (SeriesRef(new.reference), symbols.labels(words))
        });
        labels.collect()
    }

    /// Moves the accepted samples into the slots, and late ones beside them, all at once for readers. Returns how many were
    /// stored.
    fn publish(&self, scratch: &Scratch, batch: &Batch) -> usize {
        let (accepted, accepted_places) = scratch.accepted(batch);
        let mut touched = 0u32;
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for (sample, place) in accepted.iter().zip(accepted_places) {
            touched |= 1 << place.shard();
            (min, max) = (min.min(sample.t), max.max(sample.t));
        }
        let histograms = &scratch.histograms;
        for sample in &histograms.accepted {
            (min, max) = (min.min(sample.t), max.max(sample.t));
        }
        for place in scratch.late_places.iter().chain(&histograms.accepted_places).chain(&histograms.late_places) {
            touched |= 1 << place.shard();
        }
        let mut shards: [Option<RwLockWriteGuard<'_, ShardData>>; SHARDS] =
            array::from_fn(|i| (touched >> i & 1 == 1).then(|| self.shards[i].data.write()));
        // Drawn with all shards held: who reads a number not below this one finds the batch in every shard.
        let commit = self.commits.fetch_add(1, Ordering::AcqRel) + 1;
        let (mut chunks, mut stale) = (0, 0);
        let rules = self.rules();
        if rules.xor2 {
            let starts = scratch.accepted_starts(batch);
            for (idx, (sample, place)) in accepted.iter().zip(accepted_places).enumerate() {
                let Some(data) = &mut shards[place.shard()] else { continue };
                let ShardData { slots, slabs, arena, .. } = &mut **data;
                let slot = slots.get_mut(place.slot());
                let was_stale = slot.last().is_some_and(|(_, v)| is_stale(v));
                stale += i64::from(is_stale(sample.v)) - i64::from(was_stale);
                let start = starts.get(idx).copied().unwrap_or(0);
                let sample = (start, sample.t, sample.v);
                chunks += u64::from(slot.push_xor2(place.slot(), sample, commit, &rules, slabs, arena));
            }
        } else {
            for (sample, place) in accepted.iter().zip(accepted_places) {
                let Some(data) = &mut shards[place.shard()] else { continue };
                let ShardData { slots, slabs, arena, .. } = &mut **data;
                let slot = slots.get_mut(place.slot());
                let was_stale = slot.last().is_some_and(|(_, v)| is_stale(v));
                stale += i64::from(is_stale(sample.v)) - i64::from(was_stale);
                chunks += u64::from(slot.push(place.slot(), (sample.t, sample.v), commit, &rules, slabs, arena));
            }
        }
        let mut stored_histograms = 0;
        for (sample, place) in histograms.accepted.iter().zip(&histograms.accepted_places) {
            let Some(data) = &mut shards[place.shard()] else { continue };
            let ShardData { slots, slabs, arena, .. } = &mut **data;
            let slot = slots.get_mut(place.slot());
            let was_stale = slot.last().is_some_and(|(_, v)| is_stale(v));
            let pushed = histograms::Sample { t: sample.t, start: sample.start, h: &sample.h };
            match slot.push_histogram(place.slot(), pushed, commit, &rules, slabs, arena) {
                Ok(begun) => {
                    stale += i64::from(sample.h.is_stale()) - i64::from(was_stale);
                    chunks += u64::from(begun);
                    stored_histograms += 1;
                }
                // Checked before, so this does not happen; if it did, the log would have it and the head would not.
                Err(e) => log::error!("a histogram of series {} is lost: {e}", sample.series.0),
            }
        }
        self.metrics.histograms_appended.fetch_add(stored_histograms, Ordering::Relaxed);
        for new in &scratch.new {
            if let Some(data) = &mut shards[new.place.shard()] {
                data.slots.get_mut(new.place.slot()).set_logged();
            }
        }
        self.min_time.fetch_min(min, Ordering::AcqRel);
        self.min_time_appended.fetch_min(min, Ordering::AcqRel);
        self.max_time.fetch_max(max, Ordering::AcqRel);
        let mut stored = accepted.len();
        let (mut late_min, mut late_max) = (i64::MAX, i64::MIN);
        for (idx, (sample, place)) in scratch.late.iter().zip(&scratch.late_places).enumerate() {
            let Some(data) = &mut shards[place.shard()] else { continue };
            let start = scratch.late_starts.get(idx).copied().unwrap_or(0);
            let late = Late { t: sample.t, start, value: OooValue::Float(sample.v) }.kept(&rules);
            let inserted = data.ooo.insert(place.slot(), late, self.ooo.cap);
            chunks += u64::from(inserted.chunk_begun);
            if inserted.stored {
                stored += 1;
                (late_min, late_max) = (late_min.min(sample.t), late_max.max(sample.t));
            }
        }
        for (sample, place) in histograms.late.iter().zip(&histograms.late_places) {
            let Some(data) = &mut shards[place.shard()] else { continue };
            let value = OooValue::Histogram(sample.h.clone());
            let late = Late { t: sample.t, start: sample.start, value }.kept(&rules);
            let inserted = data.ooo.insert(place.slot(), late, self.ooo.cap);
            chunks += u64::from(inserted.chunk_begun);
            if inserted.stored {
                self.metrics.histograms_appended.fetch_add(1, Ordering::Relaxed);
                self.metrics.out_of_order_histograms_appended.fetch_add(1, Ordering::Relaxed);
                (late_min, late_max) = (late_min.min(sample.t), late_max.max(sample.t));
            }
        }
        if late_min <= late_max {
            self.ooo.min_time.fetch_min(late_min, Ordering::AcqRel);
            self.ooo.max_time.fetch_max(late_max, Ordering::AcqRel);
            let late = (stored - accepted.len()) as u64;
            self.metrics.out_of_order_appended.fetch_add(late, Ordering::Relaxed);
        }
        drop(shards);
        self.metrics.chunks_created.fetch_add(chunks, Ordering::Relaxed);
        if stale != 0 {
            self.metrics.stale_series.fetch_add(stale, Ordering::Relaxed);
        }
        stored
    }

    fn count(&self, report: &AppendReport, stored: usize) {
        let metrics = &self.metrics;
        metrics.samples_appended.fetch_add(stored as u64, Ordering::Relaxed);
        for (_, why) in report.rejected.iter().chain(&report.rejected_histograms) {
            let counter = match why {
                Rejection::OutOfOrder => &metrics.out_of_order,
                Rejection::OutOfBounds => &metrics.out_of_bound,
                Rejection::Duplicate => &metrics.duplicates,
                Rejection::UnknownSeries => &metrics.unknown_series,
                Rejection::TooOld => &metrics.too_old,
                // Counted by those who keep exemplars; of floats there is nothing to contradict.
                Rejection::ExemplarOutOfOrder | Rejection::ExemplarTooLong | Rejection::InvalidHistogram(_) => continue,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}
