//! Filling a head from the log, by shard in parallel.
//!
//! ```text
//! log reader ─► the caller's thread: Session              ─► workers, each with its own shards
//! (wal::ahead)  labels → ids, reference → shard and slot     series created, samples appended
//! ```
//!
//! Series and samples of one shard arrive at its worker in the order of the log, so the result is that of one thread. The
//! session does not wait for a series to be created: it foresees the slot the worker will choose, and the worker keeps a
//! list from foreseen to real slots for when it chooses another one (the labels exist already, or a slot is used again).
//! [`Session::settle`] waits for the workers and makes all references true; it comes before anything that looks at the
//! head's series.
//!
//! A small log is not worth threads: there the only worker is the session's own thread.
//!
//! Nobody else uses the head yet, so locks are never waited for, and there are no commit numbers: everything replayed is
//! visible from the start.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

use parking_lot::{Mutex, RwLockWriteGuard};

use fk_model::is_stale;
use fk_storage::{BatchSample, HistogramValue, SeriesRef, StorageError, push_start};
use fk_wal::record::LabelPairs;

use super::histograms;
use super::refs::SHARDS;
use super::shard::ShardData;
use super::slot::CutRules;
use super::{Head, Place, check_labels};

/// Samples of one load: some hundred KiB.
const LOAD_SAMPLES: usize = 16 << 10;

/// Histograms of one load: about as many bytes.
const LOAD_HISTOGRAMS: usize = 1 << 10;

/// Words of the series of one load.
const LOAD_WORDS: usize = 64 << 10;

/// Loads that wait for one worker. With the one that is filled and the one that is worked on, this bounds the memory in
/// flight to about 2 MiB per worker.
const LOADS_WAITING_MAX: usize = 3;

/// More workers would wait for the session, which is one thread.
const WORKERS_MAX: usize = 8;

/// What a worker is given at a time. Its series are created before its samples are appended.
#[derive(Debug, Default)]
struct Load {
    /// Per series: [`SERIES_HEADER`] words, label ids with the schema first, ids of the label names.
    series: Vec<u32>,
    samples: Vec<Routed>,
    /// Start timestamps of the samples, ms: at most as many as samples, none as long as none is known.
    starts: Vec<i64>,
    histograms: Vec<RoutedHistogram>,
    /// Answer when everything up to here is done, and take the slots as they are for the ones foreseen from here on.
    settle: bool,
}

/// Foreseen place, hash, lower and upper half of the reference, number of label ids.
const SERIES_HEADER: usize = 5;

/// A sample on its way to its shard.
#[derive(Clone, Copy, Debug)]
struct Routed {
    place: Place,
    t: i64,
    v: f64,
}

/// A histogram on its way to its shard.
#[derive(Debug)]
struct RoutedHistogram {
    place: Place,
    /// So many samples of the load come before it.
    behind: usize,
    t: i64,
    start: i64,
    h: HistogramValue,
}

/// What all threads of a replay share.
#[derive(Debug, Default)]
struct Shared {
    /// A worker has failed; why is in `failure`.
    failed: AtomicBool,
    failure: Mutex<Option<StorageError>>,
    /// Series that are elsewhere than foreseen.
    moved: Mutex<Vec<(u64, Place)>>,
}

impl Shared {
    fn check(&self) -> Result<(), StorageError> {
        match self.failed.load(Ordering::Acquire) {
            true => Err(self.failure.lock().clone().unwrap_or_else(gone)),
            false => Ok(()),
        }
    }

    fn fail(&self, why: StorageError) {
        self.failure.lock().get_or_insert(why);
        self.failed.store(true, Ordering::Release);
    }
}

/// Only after a panic of a worker, which is passed on when it is joined.
#[cold]
fn gone() -> StorageError {
    StorageError::ReadOnly("a thread of the replay has ended".to_owned())
}

fn full() -> StorageError {
    StorageError::ReadOnly("the head takes no more series".to_owned())
}

/// What a worker has done.
#[derive(Clone, Copy, Debug)]
struct Done {
    series: u64,
    chunks: u64,
    stale: i64,
    min_time: i64,
    max_time: i64,
}

impl Done {
    /// Counts a sample of this time that has changed the number of stale series so.
    #[inline]
    fn stored(&mut self, t: i64, stale: i64) {
        self.stale += stale;
        self.min_time = self.min_time.min(t);
        self.max_time = self.max_time.max(t);
    }
}

impl Default for Done {
    fn default() -> Done {
        Done { series: 0, chunks: 0, stale: 0, min_time: i64::MAX, max_time: i64::MIN }
    }
}

/// What became of a series of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesReplay {
    /// It is in the head.
    Taken,
    /// Its labels cannot be stored.
    InvalidLabels,
    /// The reference stood for other labels. From now on it stands for these.
    Renamed,
}

/// One filling of the head. Made by [`Head::replay`].
#[derive(Debug)]
pub struct Session<'a> {
    head: &'a Head,
    shared: &'a Shared,
    lanes: Vec<Lane<'a>>,
    /// Slots from here on are foreseen ones.
    foreseen_from: [u32; SHARDS],
    /// The slot foreseen for the next new series.
    foreseen_next: [u32; SHARDS],
    words: Vec<u32>,
    /// The label ids of the series before.
    before: Vec<u32>,
}

/// The load that is filled, and the way to its worker.
#[derive(Debug)]
struct Lane<'a> {
    load: Load,
    way: Way<'a>,
}

#[derive(Debug)]
enum Way<'a> {
    /// To another thread and back.
    There { loads: SyncSender<Load>, spare: Receiver<Load>, settled: Receiver<()> },
    /// The worker is this thread.
    Here(Box<Worker<'a>>),
}

impl Lane<'_> {
    fn send(&mut self) -> Result<(), StorageError> {
        match &mut self.way {
            Way::There { loads, spare, .. } => {
                let next = spare.try_recv().unwrap_or_default();
                loads.send(std::mem::replace(&mut self.load, next)).map_err(|_| gone())
            }
            Way::Here(worker) => {
                worker.take(&mut self.load);
                Ok(())
            }
        }
    }

    /// Waits for the worker to do everything up to a load that asked for it.
    fn settled(&self) -> Result<(), StorageError> {
        match &self.way {
            Way::There { settled, .. } => settled.recv().map_err(|_| gone()),
            Way::Here(_) => Ok(()),
        }
    }
}

impl Head {
    /// Runs `feed`, which hands the series and samples of the log to the session, and waits until all is in the head.
    pub fn replay<R>(&self, feed: impl FnOnce(&mut Session<'_>) -> R) -> Result<R, StorageError> {
        let workers = thread::available_parallelism().map_or(1, usize::from).clamp(1, WORKERS_MAX);
        self.replay_by(workers, feed)
    }

    /// As [`Head::replay`], by this thread alone.
    pub fn replay_alone<R>(&self, feed: impl FnOnce(&mut Session<'_>) -> R) -> Result<R, StorageError> {
        self.replay_by(0, feed)
    }

    /// As [`Head::replay`], by so many threads beside this one.
    pub(super) fn replay_by<R>(
        &self,
        workers: usize,
        feed: impl FnOnce(&mut Session<'_>) -> R,
    ) -> Result<R, StorageError> {
        let shared = Shared::default();
        thread::scope(|scope| {
            let mut lanes = Vec::with_capacity(workers);
            let mut threads = Vec::with_capacity(workers);
            for number in 0..workers {
                let (loads, to_do) = mpsc::sync_channel(LOADS_WAITING_MAX);
                let (empty, spare) = mpsc::channel();
                let (answer, settled) = mpsc::channel();
                let worker = Worker::new(self, &shared, number, workers);
                let run = move || worker.run(&to_do, &empty, &answer);
                let thread = thread::Builder::new().name(format!("replay-{number}")).spawn_scoped(scope, run);
                let thread = thread.map_err(|e| StorageError::ReadOnly(format!("no thread for the replay: {e}")))?;
                threads.push(thread);
                lanes.push(Lane { load: Load::default(), way: Way::There { loads, spare, settled } });
            }
            if workers == 0 {
                let worker = Box::new(Worker::new(self, &shared, 0, 1));
                lanes.push(Lane { load: Load::default(), way: Way::Here(worker) });
            }
            let foreseen = self.slots_used();
            let mut session = Session {
                head: self,
                shared: &shared,
                lanes,
                foreseen_from: foreseen,
                foreseen_next: foreseen,
                words: Vec::new(),
                before: Vec::new(),
            };
            let result = feed(&mut session);
            let settled = session.settle();
            for lane in session.lanes {
                if let Way::Here(worker) = lane.way {
                    self.count_replayed(&worker.done);
                }
            }
            for thread in threads {
                let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                self.count_replayed(&done);
            }
            settled.map(|()| result)
        })
    }

    fn slots_used(&self) -> [u32; SHARDS] {
        std::array::from_fn(|shard| self.shards[shard].data.read().slots.len() as u32)
    }

    fn count_replayed(&self, done: &Done) {
        self.metrics.series_created.fetch_add(done.series, Ordering::Relaxed);
        self.metrics.chunks_created.fetch_add(done.chunks, Ordering::Relaxed);
        self.metrics.stale_series.fetch_add(done.stale, Ordering::Relaxed);
        self.min_time.fetch_min(done.min_time, Ordering::AcqRel);
        self.max_time.fetch_max(done.max_time, Ordering::AcqRel);
    }

    /// References are never given out twice, not even that of a series the log has lost.
    fn saw_reference(&self, reference: u64) {
        self.next_ref.fetch_max(reference.saturating_add(1), Ordering::Relaxed);
    }
}

impl Session<'_> {
    /// The head, which has all that came before the last [`Session::settle`].
    pub fn head(&self) -> &Head {
        self.head
    }

    /// A series of the log under the reference it has there. A second reference for the same labels becomes another name
    /// of the first.
    pub fn series(&mut self, reference: SeriesRef, labels: &LabelPairs<'_>) -> Result<SeriesReplay, StorageError> {
        let labels = labels.to_labels();
        self.head.saw_reference(reference.0);
        if check_labels(&labels).is_err() {
            return Ok(SeriesReplay::InvalidLabels);
        }
        let (home, hash) = self.head.home(&labels);
        let head = self.head;
        let label_ids = {
            let mut symbols = head.symbols.write();
            symbols.intern_labels_like(&labels, &self.before, &mut self.words).ok_or_else(full)?;
            let label_ids = self.words.len();
            self.before.clear();
            self.before.extend_from_slice(&self.words);
            self.words.extend_from_slice(symbols.schema(self.words[0]));
            label_ids
        };
        let mut taken = SeriesReplay::Taken;
        if head.refs.read().get(reference.0) != Place::NONE {
            // Seldom: only what was logged while an image was written comes twice.
            if self.is_foreseen(head.refs.read().get(reference.0)) {
                self.settle()?;
            }
            let place = head.refs.read().get(reference.0);
            if head.shards[place.shard()].data.read().words_of(place.slot()) == &self.words[..label_ids] {
                return Ok(SeriesReplay::Taken);
            }
            taken = SeriesReplay::Renamed;
        }
        let foreseen = Place::new(home, self.foreseen_next[home]);
        self.foreseen_next[home] += 1;
        head.refs.write().set(reference.0, foreseen);
        let lane = home % self.lanes.len();
        let lane = &mut self.lanes[lane];
        let header = [foreseen.to_bits(), hash, reference.0 as u32, (reference.0 >> 32) as u32, label_ids as u32];
        lane.load.series.extend_from_slice(&header);
        lane.load.series.extend_from_slice(&self.words);
        if lane.load.series.len() >= LOAD_WORDS {
            self.shared.check()?;
            lane.send()?;
        }
        Ok(taken)
    }

    fn is_foreseen(&self, place: Place) -> bool {
        place.slot() >= self.foreseen_from[place.shard()]
    }

    /// Samples of the log. One that is not newer than its series, or before the valid time, is dropped silently: the log holds what was asked for,
    /// and an append that raced with another may have written what was then not stored. Returns how many belong to
    /// references that are not known.
    pub fn samples(&mut self, samples: impl Iterator<Item = BatchSample>) -> Result<u64, StorageError> {
        self.samples_with_starts(samples.map(|sample| (sample, 0)))
    }

    /// As [`Session::samples`], each with its start timestamp, ms, 0 if not known.
    pub fn samples_with_starts(
        &mut self,
        samples: impl Iterator<Item = (BatchSample, i64)>,
    ) -> Result<u64, StorageError> {
        let mut unknown = 0;
        let head = self.head;
        let refs = head.refs.read();
        let workers = self.lanes.len();
        for (sample, start) in samples {
            let place = refs.get(sample.series.0);
            if place == Place::NONE {
                head.saw_reference(sample.series.0);
                unknown += 1;
                continue;
            }
            let lane = &mut self.lanes[place.shard() % workers];
            push_start(&mut lane.load.starts, lane.load.samples.len(), start);
            lane.load.samples.push(Routed { place, t: sample.t, v: sample.v });
            if lane.load.samples.len() >= LOAD_SAMPLES {
                self.shared.check()?;
                lane.send()?;
            }
        }
        head.metrics.replay_unknown_refs.fetch_add(unknown, Ordering::Relaxed);
        Ok(unknown)
    }

    /// A histogram of the log, as [`Session::samples`]. Returns whether the reference is known.
    pub fn histogram(
        &mut self,
        series: SeriesRef,
        t: i64,
        start: i64,
        h: HistogramValue,
    ) -> Result<bool, StorageError> {
        let place = self.head.refs.read().get(series.0);
        if place == Place::NONE {
            self.head.saw_reference(series.0);
            self.head.metrics.replay_unknown_refs.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        let workers = self.lanes.len();
        let lane = &mut self.lanes[place.shard() % workers];
        let behind = lane.load.samples.len();
        lane.load.histograms.push(RoutedHistogram { place, behind, t, start, h });
        if lane.load.histograms.len() >= LOAD_HISTOGRAMS {
            self.shared.check()?;
            lane.send()?;
        }
        Ok(true)
    }

    /// Waits until everything handed over is in the head. Then all references lead to where their series are.
    pub fn settle(&mut self) -> Result<(), StorageError> {
        for lane in &mut self.lanes {
            lane.load.settle = true;
            lane.send()?;
        }
        for lane in &self.lanes {
            lane.settled()?;
        }
        self.shared.check()?;
        let mut refs = self.head.refs.write();
        for (reference, place) in self.shared.moved.lock().drain(..) {
            // Elsewhere than foreseen, or another name of a series that is there already.
            match self.head.shards[place.shard()].data.read().has(place.slot(), reference) {
                true => refs.set(reference, place),
                false => refs.set_alias(reference, place),
            }
        }
        drop(refs);
        self.foreseen_from = self.head.slots_used();
        self.foreseen_next = self.foreseen_from;
        Ok(())
    }
}

/// Fills some of the shards.
#[derive(Debug)]
struct Worker<'a> {
    head: &'a Head,
    shared: &'a Shared,
    /// Its shards are those with this remainder.
    number: usize,
    workers: usize,
    /// Slots from here on are foreseen ones, whose real slots are in `real`.
    foreseen_from: [u32; SHARDS],
    real: [Vec<u32>; SHARDS],
    done: Done,
}

impl<'a> Worker<'a> {
    fn new(head: &'a Head, shared: &'a Shared, number: usize, workers: usize) -> Worker<'a> {
        let foreseen_from = head.slots_used();
        Worker { head, shared, number, workers, foreseen_from, real: Default::default(), done: Done::default() }
    }

    fn run(mut self, to_do: &Receiver<Load>, empty: &Sender<Load>, answer: &Sender<()>) -> Done {
        for mut load in to_do {
            if self.take(&mut load) {
                // The session that asked waits for it, unless it panics.
                let _ = answer.send(());
            }
            let _ = empty.send(load);
        }
        self.done
    }

    /// Does the work of a load and empties it. Whether it asked to settle.
    fn take(&mut self, load: &mut Load) -> bool {
        // After a failure loads are only taken away, so that the session comes to its end.
        if !self.shared.failed.load(Ordering::Acquire)
            && let Err(why) = self.work(load)
        {
            self.shared.fail(why);
        }
        let settle = std::mem::take(&mut load.settle);
        if settle {
            self.foreseen_from = self.head.slots_used();
            self.real.iter_mut().for_each(Vec::clear);
        }
        load.series.clear();
        load.samples.clear();
        load.starts.clear();
        load.histograms.clear();
        settle
    }

    fn work(&mut self, load: &Load) -> Result<(), StorageError> {
        let mut shards: Shards<'_> =
            std::array::from_fn(|i| (i % self.workers == self.number).then(|| self.head.shards[i].data.write()));
        let mut series = &load.series[..];
        while let Some((header, rest)) = series.split_first_chunk::<SERIES_HEADER>() {
            let [place, hash, low, high, label_ids] = *header;
            let place = Place::from_bits(place);
            let (words, rest) = rest.split_at(label_ids as usize);
            let (names, rest) = rest.split_at(words.len() - 1);
            series = rest;
            let data = shards[place.shard()].as_mut().ok_or_else(gone)?;
            let reference = u64::from(high) << 32 | u64::from(low);
            let slot = match data.find_words(hash, words) {
                Some(slot) => slot,
                None => {
                    let slot = data.create(hash, words, names, reference).ok_or_else(full)?;
                    let new = data.slots.get_mut(slot);
                    new.set_logged();
                    new.take_fresh();
                    self.done.series += 1;
                    slot
                }
            };
            self.real[place.shard()].push(slot);
            if slot != place.slot() {
                self.shared.moved.lock().push((reference, Place::new(place.shard(), slot)));
            }
        }
        for data in shards.iter().flatten() {
            data.check_room()?;
        }
        let bounds = (self.head.min_valid_time(), self.head.rules());
        let mut at = 0;
        for histogram in &load.histograms {
            self.samples(&mut shards, load, at..histogram.behind, bounds)?;
            at = histogram.behind;
            self.histogram(&mut shards, histogram, bounds)?;
        }
        self.samples(&mut shards, load, at..load.samples.len(), bounds)
    }

    /// Where a place of the session really is.
    #[inline]
    fn slot(&self, place: Place) -> u32 {
        match place.slot().checked_sub(self.foreseen_from[place.shard()]) {
            Some(foreseen) => self.real[place.shard()][foreseen as usize],
            None => place.slot(),
        }
    }

    fn samples(
        &mut self,
        shards: &mut Shards<'_>,
        load: &Load,
        range: Range<usize>,
        (min_valid_time, rules): (i64, CutRules),
    ) -> Result<(), StorageError> {
        let start_of = |idx: usize| load.starts.get(idx).copied().unwrap_or(0);
        for (idx, sample) in range.clone().zip(&load.samples[range]) {
            let Some(data) = shards[sample.place.shard()].as_deref_mut() else { return Err(gone()) };
            let slot = self.slot(sample.place);
            if sample.t >= min_valid_time {
                data.replay_sample(slot, sample, start_of(idx), &rules, &mut self.done);
            }
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        shards: &mut Shards<'_>,
        histogram: &RoutedHistogram,
        (min_valid_time, rules): (i64, CutRules),
    ) -> Result<(), StorageError> {
        let Some(data) = shards[histogram.place.shard()].as_deref_mut() else { return Err(gone()) };
        let slot = self.slot(histogram.place);
        if histogram.t >= min_valid_time {
            let sample = histograms::Sample { t: histogram.t, start: histogram.start, h: &histogram.h };
            data.replay_histogram(slot, sample, &rules, &mut self.done);
        }
        Ok(())
    }
}

/// The shards of a worker.
type Shards<'a> = [Option<RwLockWriteGuard<'a, ShardData>>; SHARDS];

impl ShardData {
    #[inline]
    fn replay_sample(&mut self, slot_idx: u32, sample: &Routed, start: i64, rules: &CutRules, done: &mut Done) {
        let Routed { t, v, .. } = *sample;
        let ShardData { slots, slabs, arena, .. } = self;
        let slot = slots.get_mut(slot_idx);
        let mut stale = i64::from(is_stale(v));
        if let Some((last_t, last_v)) = slot.last() {
            if t <= last_t {
                return;
            }
            stale -= i64::from(is_stale(last_v));
        }
        if is_stale(v)
            && let Some(open) = slot.open_histogram(slabs)
        {
            // An append makes it a histogram before it is logged; in a log of somebody else it may be a float.
            let h = open.stale(v);
            return self.replay_histogram(slot_idx, histograms::Sample { t, start, h: &h }, rules, done);
        }
        done.chunks += u64::from(match rules.xor2 {
            true => slot.push_xor2(slot_idx, (start, t, v), 0, rules, slabs, arena),
            false => slot.push(slot_idx, (t, v), 0, rules, slabs, arena),
        });
        done.stored(t, stale);
    }

    fn replay_histogram(&mut self, slot_idx: u32, sample: histograms::Sample<'_>, rules: &CutRules, done: &mut Done) {
        let ShardData { slots, slabs, arena, .. } = self;
        let slot = slots.get_mut(slot_idx);
        let mut stale = i64::from(sample.h.is_stale());
        if let Some((last_t, last_v)) = slot.last() {
            if sample.t <= last_t {
                return;
            }
            stale -= i64::from(is_stale(last_v));
        }
        match slot.push_histogram(slot_idx, sample, 0, rules, slabs, arena) {
            Ok(begun) => {
                done.chunks += u64::from(begun);
                done.stored(sample.t, stale);
            }
            Err(e) => {
                let series = self.info.get(slot_idx).reference;
                log::warn!("write-ahead log: a histogram of series {series} cannot be stored: {e}");
            }
        }
    }
}
