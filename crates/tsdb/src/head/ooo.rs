//! Out-of-order samples: those that are older than the newest of their series, or than what the head takes in order, and
//! still within the out-of-order window.
//!
//! They live beside the slots, in a map per shard from slot to series, so that a series without any costs nothing. Per
//! series there is an *open* part, sorted by time, of at most `out-of-order-cap-max` samples; when it is full it becomes
//! a chunk. Chunks of one series may overlap each other and the samples in order. They stay in memory until a compaction
//! has written them to blocks; the log of out-of-order samples (`wbl/`) has all of them as long.
//!
//! # Duplicates
//! A sample whose time is in the open part already is dropped silently, whatever its value, as in Prometheus; chunks are
//! not searched. So readers may meet a time several times, and take the sample in order first, then the one that came
//! first.
//!
//! DIFFERENCE: which one Prometheus shows depends on how samples are spread over chunks, and may change with a restart.
//!
//! # Compaction
//! [`Head::freeze_out_of_order`] closes all open parts and remembers how many chunks each series has: these are *frozen*.
//! [`Head::stream_out_of_order`] hands out the frozen ones of a time range. [`Head::drop_frozen_out_of_order`] drops them
//! when they are in blocks that readers see; what arrived meanwhile is in later chunks and stays.
//!
//! A select copies the handles of the chunks it may need, so what is dropped afterwards is still there for it.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use fk_chunk::xor2::Xor2Writer;
use fk_chunk::{ChunkError, Encoding, decode_range, xor};
use fk_model::{CounterReset, FloatHistogram};
use fk_storage::{HistogramValue, Samples, SeriesRef, StorageError, TimeRange, push_start};

use super::shard::{Gate, ShardData};
use super::slot::CutRules;
use super::{Head, Place, SHARDS};

mod stream;

pub use stream::OooStream;

/// Most samples of an open part that can be asked for, as in Prometheus.
pub const OUT_OF_ORDER_CAP_MAX: usize = 255;

/// Series whose open parts are closed while a shard's lock is held.
const CLOSED_GROUP: usize = 1024;

/// The out-of-order samples of a shard.
#[derive(Debug, Default)]
pub(crate) struct OooShard {
    series: HashMap<u32, OooSeries>,
}

/// The out-of-order samples of a series. Invariant: `open` and `open_histograms` ascend by time and share none.
#[derive(Debug)]
struct OooSeries {
    mint: i64,
    maxt: i64,
    open: Vec<(i64, f64)>,
    /// Start timestamps of the open floats, ms, 0 where not known: as many as these, or none at all.
    open_starts: Vec<i64>,
    open_histograms: Vec<LateHistogram>,
    /// In the order in which they were closed.
    chunks: Vec<Arc<OooChunk>>,
    /// So many of the chunks are being compacted.
    frozen: usize,
}

/// A closed chunk.
#[derive(Debug)]
pub(crate) struct OooChunk {
    mint: i64,
    maxt: i64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// XOR, or XOR2 if there are start timestamps.
    Floats(Encoding, Box<[u8]>),
    /// As they came: they are shared and few.
    Histograms(Box<[LateHistogram]>),
}

/// Time, and start timestamp with histogram.
type LateHistogram = (i64, (i64, HistogramValue));

/// An out-of-order sample.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    /// Time, ms.
    pub t: i64,
    /// Start timestamp, ms, 0 if not known.
    pub start: i64,
    /// Its value.
    pub value: OooValue,
}

impl Late {
    /// Without the start timestamp, if the chunks of these rules do not keep it.
    pub fn kept(mut self, rules: &CutRules) -> Late {
        let keeps = match self.value {
            OooValue::Float(_) => rules.xor2,
            OooValue::Histogram(_) => rules.histogram_starts,
        };
        if !keeps {
            self.start = 0;
        }
        self
    }
}

/// The value of an out-of-order sample.
#[derive(Clone, Debug)]
pub(crate) enum OooValue {
    Float(f64),
    Histogram(HistogramValue),
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inserted {
    /// Whether it is stored; if not, there was one of its time.
    pub stored: bool,
    /// Whether a chunk was begun for it.
    pub chunk_begun: bool,
}

impl OooSeries {
    fn new() -> OooSeries {
        OooSeries {
            mint: i64::MAX,
            maxt: i64::MIN,
            open: Vec::new(),
            open_starts: Vec::new(),
            open_histograms: Vec::new(),
            chunks: Vec::new(),
            frozen: 0,
        }
    }

    fn open_len(&self) -> usize {
        self.open.len() + self.open_histograms.len()
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.open_len() == 0
    }

    fn has_open(&self, t: i64) -> bool {
        self.open.binary_search_by_key(&t, |s| s.0).is_ok()
            || self.open_histograms.binary_search_by_key(&t, |s| s.0).is_ok()
    }

    fn insert(&mut self, Late { t, start, value }: Late, cap: usize) -> Inserted {
        if self.open_len() >= cap {
            self.close();
        }
        let chunk_begun = self.open_len() == 0;
        if self.has_open(t) {
            return Inserted { stored: false, chunk_begun };
        }
        match value {
            OooValue::Float(v) => {
                let at = insert_sorted(&mut self.open, t, v);
                if start != 0 || !self.open_starts.is_empty() {
                    self.open_starts.resize(self.open.len() - 1, 0);
                    self.open_starts.insert(at, start);
                }
            }
            OooValue::Histogram(h) => {
                insert_sorted(&mut self.open_histograms, t, (start, without_hint(h)));
            }
        }
        (self.mint, self.maxt) = (self.mint.min(t), self.maxt.max(t));
        Inserted { stored: true, chunk_begun }
    }

    /// Makes chunks of the open part: one per kind of sample.
    fn close(&mut self) {
        if let (Some(&(mint, _)), Some(&(maxt, _))) = (self.open.first(), self.open.last()) {
            let body = if self.open_starts.is_empty() {
                let mut chunk = xor::XorChunk::new();
                self.open.drain(..).for_each(|(t, v)| chunk.push(t, v));
                Body::Floats(Encoding::Xor, chunk.bytes().into())
            } else {
                let mut chunk = Xor2Writer::new();
                self.open.drain(..).zip(self.open_starts.drain(..)).for_each(|((t, v), start)| chunk.push(start, t, v));
                Body::Floats(Encoding::Xor2, chunk.bytes().into())
            };
            self.chunks.push(Arc::new(OooChunk { mint, maxt, body }));
        }
        if let (Some(first), Some(last)) = (self.open_histograms.first(), self.open_histograms.last()) {
            let (mint, maxt) = (first.0, last.0);
            let body = Body::Histograms(mem::take(&mut self.open_histograms).into_boxed_slice());
            self.chunks.push(Arc::new(OooChunk { mint, maxt, body }));
        }
    }

    /// Forgets the samples of a range. Chunks that have some of them are written anew; frozen ones stay frozen.
    fn delete(&mut self, range: TimeRange) -> Result<(), ChunkError> {
        let keep = |t: i64| t < range.mint || t > range.maxt;
        if !self.open_starts.is_empty() {
            let mut times = self.open.iter();
            self.open_starts.retain(|_| times.next().is_some_and(|(t, _)| keep(*t)));
        }
        self.open.retain(|(t, _)| keep(*t));
        self.open_histograms.retain(|(t, _)| keep(*t));
        let (mut kept, mut frozen) = (Vec::with_capacity(self.chunks.len()), 0);
        for (i, chunk) in self.chunks.iter().enumerate() {
            let rest = match chunk.overlaps(range) {
                true => chunk.without(range)?.map(Arc::new),
                false => Some(Arc::clone(chunk)),
            };
            if let Some(rest) = rest {
                kept.push(rest);
                frozen += usize::from(i < self.frozen);
            }
        }
        (self.chunks, self.frozen) = (kept, frozen);
        self.find_bounds();
        Ok(())
    }

    fn find_bounds(&mut self) {
        let chunks = self.chunks.iter().flat_map(|c| [c.mint, c.maxt]);
        let open = [self.open.first(), self.open.last()].into_iter().flatten().map(|s| s.0);
        let histograms = [self.open_histograms.first(), self.open_histograms.last()].into_iter().flatten().map(|s| s.0);
        (self.mint, self.maxt) =
            chunks.chain(open).chain(histograms).fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(t), max.max(t)));
    }

    fn memory_bytes(&self) -> usize {
        let chunk = |c: &Arc<OooChunk>| {
            size_of::<OooChunk>()
                + 16
                + match &c.body {
                    Body::Floats(_, bytes) => bytes.len(),
                    Body::Histograms(h) => size_of_val::<[_]>(h),
                }
        };
        self.open.capacity() * size_of::<(i64, f64)>()
            + self.open_starts.capacity() * 8
            + self.open_histograms.capacity() * size_of::<LateHistogram>()
            + self.chunks.capacity() * size_of::<Arc<OooChunk>>()
            + self.chunks.iter().map(chunk).sum::<usize>()
    }
}

/// What a counter says about resets is about the sample that was sent before it, which need not be its neighbour here.
fn without_hint(mut h: HistogramValue) -> HistogramValue {
    match &mut h {
        HistogramValue::Int(h) if is_about_neighbour(h.counter_reset) => {
            Arc::make_mut(h).counter_reset = CounterReset::Unknown;
        }
        HistogramValue::Float(h) => forget_hint(h),
        HistogramValue::Int(_) => {}
    }
    h
}

fn is_about_neighbour(hint: CounterReset) -> bool {
    !matches!(hint, CounterReset::Gauge | CounterReset::Unknown)
}

fn forget_hint(h: &mut Arc<FloatHistogram>) {
    if is_about_neighbour(h.counter_reset) {
        Arc::make_mut(h).counter_reset = CounterReset::Unknown;
    }
}

/// Most samples come in order among themselves, so the end is looked at first. Returns where the sample is.
fn insert_sorted<T>(sorted: &mut Vec<(i64, T)>, t: i64, value: T) -> usize {
    let at = match sorted.last() {
        Some(last) if last.0 > t => sorted.partition_point(|s| s.0 < t),
        _ => sorted.len(),
    };
    sorted.insert(at, (t, value));
    at
}

impl OooChunk {
    fn overlaps(&self, range: TimeRange) -> bool {
        self.mint <= range.maxt && self.maxt >= range.mint
    }

    /// The samples that are not in the range, if there are any.
    fn without(&self, range: TimeRange) -> Result<Option<OooChunk>, ChunkError> {
        let keep = |t: i64| t < range.mint || t > range.maxt;
        let mut rest = OooSeries::new();
        match &self.body {
            Body::Floats(encoding, bytes) => {
                let mut samples = Samples::default();
                decode_range(*encoding, bytes, usize::MAX, i64::MIN, i64::MAX, &mut samples)?;
                for (at, (&t, &v)) in samples.t.iter().zip(&samples.v).enumerate().filter(|(_, (t, _))| keep(**t)) {
                    push_start(&mut rest.open_starts, rest.open.len(), samples.starts.get(at).copied().unwrap_or(0));
                    rest.open.push((t, v));
                }
            }
            Body::Histograms(all) => rest.open_histograms.extend(all.iter().filter(|s| keep(s.0)).cloned()),
        }
        rest.close();
        Ok(rest.chunks.pop().and_then(Arc::into_inner))
    }
}

impl OooShard {
    /// Whether no series has any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Whether the series in this slot has any, so that it must not be forgotten.
    pub fn has(&self, slot: u32) -> bool {
        !self.series.is_empty() && self.series.contains_key(&slot)
    }

    /// Whether a sample of this time would be dropped as a duplicate.
    pub fn is_duplicate(&self, slot: u32, t: i64, cap: usize) -> bool {
        self.series.get(&slot).is_some_and(|s| s.open_len() < cap && s.has_open(t))
    }

    /// Stores a sample.
    pub fn insert(&mut self, slot: u32, sample: Late, cap: usize) -> Inserted {
        self.series.entry(slot).or_insert_with(OooSeries::new).insert(sample, cap)
    }

    /// What a reader of `range` may need of a series.
    #[inline]
    pub fn view(&self, slot: u32, range: TimeRange) -> Option<OooView> {
        if self.series.is_empty() {
            return None;
        }
        self.series.get(&slot).and_then(|s| OooView::of(s, range, s.chunks.len(), true))
    }

    /// Forgets what the series in this slot has in a range.
    fn delete(&mut self, slot: u32, range: TimeRange) -> Result<(), ChunkError> {
        let Some(series) = self.series.get_mut(&slot) else { return Ok(()) };
        series.delete(range)?;
        if series.is_empty() {
            self.series.remove(&slot);
        }
        Ok(())
    }

    /// Whether the series in this slot has a sample that may be in the range.
    pub fn reaches(&self, slot: u32, range: TimeRange) -> bool {
        self.series.get(&slot).is_some_and(|s| s.mint <= range.maxt && s.maxt >= range.mint)
    }

    fn bounds(&self) -> (i64, i64) {
        self.series.values().fold((i64::MAX, i64::MIN), |(min, max), s| (min.min(s.mint), max.max(s.maxt)))
    }

    pub fn memory_bytes(&self) -> usize {
        self.series.allocation_size() + self.series.values().map(OooSeries::memory_bytes).sum::<usize>()
    }
}

/// The out-of-order samples of a series as one reader sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OooView {
    /// In the order in which they were closed.
    chunks: SmallVec<[Arc<OooChunk>; 4]>,
    open: Vec<(i64, f64)>,
    /// As in [`OooSeries`].
    open_starts: Vec<i64>,
    open_histograms: Vec<LateHistogram>,
}

impl OooView {
    /// What the first `chunks` chunks have in the range, and the open part, if wanted.
    fn of(series: &OooSeries, range: TimeRange, chunks: usize, open: bool) -> Option<OooView> {
        if series.mint > range.maxt || series.maxt < range.mint {
            return None;
        }
        let within = |t: i64| (range.mint..=range.maxt).contains(&t);
        let mut view = OooView {
            chunks: series.chunks[..chunks].iter().filter(|c| c.overlaps(range)).cloned().collect(),
            ..OooView::default()
        };
        if open {
            for (at, sample) in series.open.iter().enumerate().filter(|(_, s)| within(s.0)) {
                push_start(&mut view.open_starts, view.open.len(), series.open_starts.get(at).copied().unwrap_or(0));
                view.open.push(*sample);
            }
            view.open_histograms.extend(series.open_histograms.iter().filter(|s| within(s.0)).cloned());
        }
        (!view.chunks.is_empty() || !view.open.is_empty() || !view.open_histograms.is_empty()).then_some(view)
    }

    /// All samples in the range, in order of time, each time once: what came first wins.
    fn sorted(&self, range: TimeRange) -> Result<Vec<Late>, ChunkError> {
        let mut all = Vec::new();
        let mut floats = Samples::default();
        let histogram =
            |(t, (start, h)): &LateHistogram| Late { t: *t, start: *start, value: OooValue::Histogram(h.clone()) };
        for chunk in &self.chunks {
            match &chunk.body {
                Body::Floats(encoding, bytes) => {
                    floats.clear();
                    decode_range(*encoding, bytes, usize::MAX, range.mint, range.maxt, &mut floats)?;
                    all.extend(floats.t.iter().zip(&floats.v).enumerate().map(|(at, (t, v))| Late {
                        t: *t,
                        start: floats.starts.get(at).copied().unwrap_or(0),
                        value: OooValue::Float(*v),
                    }));
                }
                Body::Histograms(histograms) => all.extend(histograms.iter().map(histogram)),
            }
        }
        all.extend(self.open.iter().enumerate().map(|(at, (t, v))| Late {
            t: *t,
            start: self.open_starts.get(at).copied().unwrap_or(0),
            value: OooValue::Float(*v),
        }));
        all.extend(self.open_histograms.iter().map(histogram));
        all.retain(|s| (range.mint..=range.maxt).contains(&s.t));
        // Stable, so that of equal times the first to come stays in front.
        all.sort_by_key(|s| s.t);
        all.dedup_by_key(|s| s.t);
        Ok(all)
    }

    /// Merges what there is in the range into `out`, which has the samples in order.
    pub fn merge_into(&self, range: TimeRange, out: &mut Samples) -> Result<(), ChunkError> {
        let late = self.sorted(range)?;
        let Some(first) = late.first().map(|s| s.t) else { return Ok(()) };
        let in_front = out.t.partition_point(|t| *t < first);
        let rest = split_off(out, in_front);
        let mut rest = Columns { samples: &rest, at: 0, histogram: 0, moved_after: false };
        for Late { t, start, value } in late {
            rest.move_before(t, out);
            if rest.next_t() == Some(t) {
                continue;
            }
            out.push_start(start);
            match value {
                OooValue::Float(v) => out.push(t, v),
                OooValue::Histogram(h) => {
                    let h: Arc<FloatHistogram> = h.to_float();
                    out.histograms.push((out.t.len() as u32, Arc::clone(&h)));
                    out.push(t, h.sum);
                }
            }
            rest.moved_after = true;
        }
        rest.move_before(i64::MAX, out);
        rest.move_last(out);
        Ok(())
    }
}

/// Takes the samples from index `at` on out of `samples`.
fn split_off(samples: &mut Samples, at: usize) -> Samples {
    let histograms = samples.histograms.partition_point(|(i, _)| (*i as usize) < at);
    let mut rest = Samples {
        t: samples.t.split_off(at),
        v: samples.v.split_off(at),
        histograms: samples.histograms.split_off(histograms),
        starts: if samples.starts.is_empty() { Vec::new() } else { samples.starts.split_off(at) },
    };
    rest.histograms.iter_mut().for_each(|(i, _)| *i -= at as u32);
    rest
}

/// Samples that are being moved one by one.
struct Columns<'a> {
    samples: &'a Samples,
    at: usize,
    /// The first histogram from `at` on.
    histogram: usize,
    /// Whether the next one comes behind a sample of elsewhere.
    moved_after: bool,
}

impl Columns<'_> {
    fn next_t(&self) -> Option<i64> {
        self.samples.t.get(self.at).copied()
    }

    fn move_before(&mut self, t: i64, out: &mut Samples) {
        while self.next_t().is_some_and(|next| next < t) {
            self.move_one(out);
        }
    }

    fn move_last(&mut self, out: &mut Samples) {
        while self.at < self.samples.len() {
            self.move_one(out);
        }
    }

    fn move_one(&mut self, out: &mut Samples) {
        let at = self.at;
        if let Some((i, h)) = self.samples.histograms.get(self.histogram)
            && *i as usize == at
        {
            let mut h = Arc::clone(h);
            if self.moved_after {
                forget_hint(&mut h);
            }
            out.histograms.push((out.t.len() as u32, h));
            self.histogram += 1;
        }
        out.push_start(self.samples.starts.get(at).copied().unwrap_or(0));
        out.push(self.samples.t[at], self.samples.v[at]);
        self.at += 1;
        self.moved_after = false;
    }
}

/// What [`Head::freeze_out_of_order`] has frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Time of the oldest frozen sample, ms.
    pub mint: i64,
    /// Time of the newest frozen sample, ms.
    pub maxt: i64,
    /// Series with frozen chunks.
    pub series: usize,
}

impl Head {
    /// How far behind the newest sample an out-of-order sample may be, ms; 0 if none is taken.
    pub fn out_of_order_window_ms(&self) -> i64 {
        self.ooo.window_ms.load(Ordering::Relaxed)
    }

    /// Sets how far behind the newest sample an out-of-order sample may be, ms; 0 takes none. Counts from the next batch.
    pub fn set_out_of_order_window_ms(&self, window_ms: i64) {
        self.ooo.window_ms.store(window_ms.max(0), Ordering::Relaxed);
    }

    /// Times of the oldest and the newest out-of-order sample that may be in the head, ms; `None` if there is none.
    pub fn out_of_order_range(&self) -> Option<(i64, i64)> {
        let (min, max) = (self.ooo.min_time.load(Ordering::Acquire), self.ooo.max_time.load(Ordering::Acquire));
        (min <= max).then_some((min, max))
    }

    /// Holds all appends back.
    pub(super) fn lock_gates(&self) -> [MutexGuard<'_, Gate>; SHARDS] {
        std::array::from_fn(|i| self.shards[i].gate.lock())
    }

    /// Freezes all out-of-order samples there are, together with `cut`, which begins a new segment of their log: what is
    /// frozen is in the segments before it, what comes later is in it or behind it. Appends wait meanwhile. `None` if
    /// there are no samples; the log is cut all the same.
    pub fn freeze_out_of_order<T>(
        &self,
        cut: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<(T, Option<Frozen>), StorageError> {
        // First without holding anybody back for long, so that little is left to be closed when appends have to wait.
        self.close_out_of_order();
        let _gates = self.lock_gates();
        let cut = cut()?;
        let mut frozen = Frozen { mint: i64::MAX, maxt: i64::MIN, series: 0 };
        for shard in &self.shards {
            let mut data = shard.data.write();
            for series in data.ooo.series.values_mut() {
                series.close();
                series.open = Vec::new();
                series.frozen = series.chunks.len();
                frozen.series += 1;
                (frozen.mint, frozen.maxt) = (frozen.mint.min(series.mint), frozen.maxt.max(series.maxt));
            }
        }
        Ok((cut, (frozen.series > 0).then_some(frozen)))
    }

    /// Makes chunks of all open parts, some series at a time.
    fn close_out_of_order(&self) {
        for shard in &self.shards {
            let slots: Vec<u32> = shard.data.read().ooo.series.keys().copied().collect();
            for group in slots.chunks(CLOSED_GROUP) {
                let mut data = shard.data.write();
                for slot in group {
                    if let Some(series) = data.ooo.series.get_mut(slot) {
                        series.close();
                    }
                }
            }
        }
    }

    /// Drops what was frozen, because blocks have it. Returns how many chunks were dropped.
    pub fn drop_frozen_out_of_order(&self) -> usize {
        let mut dropped = 0;
        for shard in &self.shards {
            let mut data = shard.data.write();
            data.ooo.series.retain(|_, series| {
                dropped += series.frozen;
                series.chunks.drain(..mem::take(&mut series.frozen));
                series.chunks.shrink_to_fit();
                series.find_bounds();
                !series.is_empty()
            });
            if data.ooo.series.is_empty() {
                data.ooo.series = HashMap::new();
            }
        }
        // No append gets in between the look at the shards, which have little left, and the new bounds.
        let _gates = self.lock_gates();
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for shard in &self.shards {
            let (shard_min, shard_max) = shard.data.read().ooo.bounds();
            (min, max) = (min.min(shard_min), max.max(shard_max));
        }
        self.ooo.min_time.store(min, Ordering::Release);
        self.ooo.max_time.store(max, Ordering::Release);
        self.metrics.chunks_removed_out_of_order(dropped as u64);
        dropped
    }

    /// An out-of-order sample of the log. Returns whether the reference is known.
    pub fn replay_out_of_order(&self, reference: SeriesRef, t: i64, start: i64, value: OooReplayed<'_>) -> bool {
        let place = self.refs.read().get(reference.0);
        if place == Place::NONE {
            self.metrics.replay_unknown_refs.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let value = match value {
            OooReplayed::Float(v) => OooValue::Float(v),
            OooReplayed::Histogram(h) => OooValue::Histogram(h.clone()),
        };
        let late = Late { t, start, value }.kept(&self.rules());
        let inserted = self.shards[place.shard()].data.write().ooo.insert(place.slot(), late, self.ooo.cap);
        self.metrics.chunks_created.fetch_add(u64::from(inserted.chunk_begun), Ordering::Relaxed);
        if inserted.stored {
            self.ooo.min_time.fetch_min(t, Ordering::AcqRel);
            self.ooo.max_time.fetch_max(t, Ordering::AcqRel);
        }
        true
    }

    /// A deletion in the log of out-of-order samples: what came before it in that log is gone.
    pub fn replay_out_of_order_delete(&self, reference: SeriesRef, range: TimeRange) {
        let place = self.refs.read().get(reference.0);
        if place != Place::NONE
            && let Err(e) = self.shards[place.shard()].data.write().ooo.delete(place.slot(), range)
        {
            log::error!("out-of-order chunk in memory: {e}");
        }
    }

    /// Calls `each` with series, time, start timestamp and value of every out-of-order sample, series by series, to write the
    /// log anew.
    pub fn each_out_of_order(&self, each: &mut EachLate<'_>) -> Result<(), StorageError> {
        const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };
        for shard in &self.shards {
            let data = shard.data.read();
            for (&slot, series) in &data.ooo.series {
                let reference = SeriesRef(data.info.get(slot).reference);
                let Some(view) = OooView::of(series, ALL, series.chunks.len(), true) else { continue };
                for Late { t, start, value } in view.sorted(ALL).map_err(|e| damaged(reference, e))? {
                    match &value {
                        OooValue::Float(v) => each(reference, t, start, OooReplayed::Float(*v))?,
                        OooValue::Histogram(h) => each(reference, t, start, OooReplayed::Histogram(h))?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes the out-of-order samples of some series within a range.
    pub(super) fn delete_out_of_order(data: &mut ShardData, slot: u32, range: TimeRange) -> Result<(), StorageError> {
        data.ooo.delete(slot, range).map_err(|e| damaged(SeriesRef(data.info.get(slot).reference), e))
    }
}

/// Takes series, time and start timestamp (ms) and value of an out-of-order sample.
pub type EachLate<'a> = dyn FnMut(SeriesRef, i64, i64, OooReplayed<'_>) -> Result<(), StorageError> + 'a;

/// The value of a sample in the log of out-of-order samples.
#[derive(Clone, Copy, Debug)]
pub enum OooReplayed<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a HistogramValue),
}

#[cold]
fn damaged(series: SeriesRef, reason: ChunkError) -> StorageError {
    StorageError::Corrupt {
        path: "head".to_owned(),
        offset: 0,
        reason: format!("out-of-order samples of series {}: {reason}", series.0),
    }
}

/// What the head knows about out-of-order samples as a whole.
#[derive(Debug)]
pub(super) struct OooState {
    pub window_ms: std::sync::atomic::AtomicI64,
    pub cap: usize,
    /// Times of the oldest and the newest one; may be wider than what there is.
    pub min_time: std::sync::atomic::AtomicI64,
    pub max_time: std::sync::atomic::AtomicI64,
}

impl OooState {
    pub fn new(window_ms: i64, cap: usize) -> OooState {
        OooState {
            window_ms: window_ms.max(0).into(),
            cap: cap.clamp(1, OUT_OF_ORDER_CAP_MAX),
            min_time: i64::MAX.into(),
            max_time: i64::MIN.into(),
        }
    }

    /// Whether a select over this range has to look at out-of-order samples.
    pub fn reaches(&self, range: TimeRange) -> bool {
        range.maxt >= self.min_time.load(Ordering::Acquire) && range.mint <= self.max_time.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
