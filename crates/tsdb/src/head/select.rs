//! Answering selects. See the module text of [`super`] for how a reader sees batches as a whole.

use std::array;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

use fk_model::{Labels, Matcher};
use fk_storage::{Control, Newest, Samples, SelectParams, SeriesSet, StorageError, TimeRange};

use fk_chunk::{Encoding, decode_range, xor};

use super::arena::{self, ChunkBytes, Completed};
use super::buffers::{ChunkData, Run};
use super::matching::Plan;
use super::shard::{Extent, ShardData};
use super::slot::Conflict;
use super::symbols::Symbols;
use super::tombstones::{Extra, remove_deleted};
use super::{Head, Place, SHARDS};
use crate::chunks_head::FilePlace;
use crate::chunks_head::format::ChunkRecord;

/// Slots copied while a shard's lock is held.
const SLOTS_GROUP: usize = 2048;

/// What a select remembers of a series: 40 bytes, and its label ids.
#[derive(Clone, Copy, Debug)]
struct Entry {
    reference: u64,
    /// The newest sample, if `hot`.
    last_t: i64,
    last_v: f64,
    place: Place,
    /// Start of the label ids.
    words_start: u32,
    /// Chunks completed when the set was made: the next one is the one that was open.
    n_completed: u16,
    /// Samples of the chunk that was open.
    count: u16,
    hot: bool,
    /// There is an [`Extra`].
    extra: bool,
}

/// The series of a select.
pub(super) struct HeadSet {
    head: Arc<Head>,
    /// Keeps the label ids good.
    _pin: Arc<()>,
    /// In-order samples before this time, ms, are not looked at: they may go while the set is read.
    in_order_mint: i64,
    /// Counts what is read.
    control: Control,
    entries: Vec<Entry>,
    words: Vec<u32>,
    /// Of the few series that have one.
    extras: HashMap<Place, Extra>,
}

/// What a search has found.
pub(super) struct Found {
    slots: [RoaringBitmap; SHARDS],
    /// What there was when the search began.
    searched: [Extent; SHARDS],
}

impl Found {
    /// The slots found in a shard, ascending.
    pub(super) fn of_shard(&self, shard: usize) -> impl Iterator<Item = u32> {
        self.slots[shard].iter()
    }

    /// Whether no series has been removed since the search.
    pub(super) fn is_current(&self, head: &Head) -> bool {
        let epochs = head.shards.iter().map(|shard| shard.data.read().extent().epoch);
        epochs.eq(self.searched.iter().map(|searched| searched.epoch))
    }
}

/// Why what was found cannot be visited.
#[derive(Clone, Copy, Debug)]
pub(super) enum Obstacle {
    /// A series has moved on by two commits.
    Conflict,
    /// Series were removed since the search.
    Removed,
}

/// Searches that are begun again because series were removed meanwhile, before everything is looked at under lock.
const SEARCHES_MAX: usize = 3;

impl Head {
    /// The series that all matchers accept; see [`fk_storage::Queryable::select`]. Without `sorted` they come in order
    /// of their references, as from the head of Prometheus.
    pub fn select(
        self: &Arc<Head>,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.select_from(i64::MIN, params, matchers, control)
    }

    /// As [`Head::select`], without in-order samples before `in_order_mint`: they are in blocks and may be truncated while
    /// the set is read.
    pub fn select_from(
        self: &Arc<Head>,
        in_order_mint: i64,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        control.check()?;
        let mut set = HeadSet { control: control.clone(), ..HeadSet::new(self, in_order_mint) };
        if !self.reaches(params.range, in_order_mint) {
            return Ok(Box::new(set));
        }
        let mut searches = 0;
        loop {
            searches += 1;
            // Noted before the search: series of later commits may be missed, and their samples are not to be seen anyway.
            let seen = self.commits.load(Ordering::Acquire);
            let found = self.search(matchers, control)?;
            match self.visit(&found, seen, params.range, control, &mut set)? {
                Ok(()) => {}
                Err(Obstacle::Removed) if searches < SEARCHES_MAX => {
                    set.clear();
                    continue;
                }
                Err(_) => self.visit_locked(&found, matchers, params.range, &mut set),
            }
            break;
        }
        set.entries.sort_unstable_by_key(|e| e.reference);
        if params.sorted {
            control.check()?;
            let symbols = self.symbols.read();
            let words = &set.words;
            set.entries
                .sort_by(|a, b| symbols.compare(&words[a.words_start as usize..], &words[b.words_start as usize..]));
        }
        if params.limit > 0 {
            set.entries.truncate(params.limit);
        }
        Ok(Box::new(set))
    }

    /// Whether the head is asked at all for in-order samples from `in_order_mint` on, and for out-of-order ones. As in
    /// Prometheus only the end of the range counts for the former.
    pub(crate) fn reaches(&self, range: TimeRange, in_order_mint: i64) -> bool {
        range.maxt >= self.min_time.load(Ordering::Acquire).max(in_order_mint) || self.ooo.reaches(range)
    }

    /// Searches all shards.
    pub(super) fn search(&self, matchers: &[Matcher], control: &Control) -> Result<Found, StorageError> {
        // Counted before the plan is made: it knows all strings of the series counted. Those that come later have no
        // sample this reader may see, and `visit_locked` asks them one by one.
        let searched = array::from_fn(|i| self.shards[i].data.read().extent());
        let mut found = Found { slots: Default::default(), searched };
        // The plan names strings by their ids.
        let _pin = self.pin();
        let mut plan = Plan::new(matchers, &self.symbols.read());
        if plan.nothing {
            return Ok(found);
        }
        for (i, shard) in self.shards.iter().enumerate() {
            loop {
                control.check()?;
                let outcome = {
                    let symbols = self.symbols.read();
                    let data = shard.data.read();
                    plan.find(&data, &symbols).map(|mut slots| {
                        for slot in data.created_since(&searched[i]) {
                            slots.remove(slot);
                        }
                        slots
                    })
                };
                match outcome {
                    Ok(slots) => {
                        found.slots[i] = slots;
                        break;
                    }
                    Err(untested) => {
                        let mut at = 0;
                        while at < untested.len() {
                            control.check()?;
                            at = plan.test(&untested, at, &self.symbols.read());
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Copies what may be seen of the slots found, group by group.
    pub(super) fn visit(
        &self,
        found: &Found,
        seen: u64,
        range: TimeRange,
        control: &Control,
        set: &mut HeadSet,
    ) -> Result<Result<(), Obstacle>, StorageError> {
        let total: u64 = found.slots.iter().map(RoaringBitmap::len).sum();
        set.entries.reserve(total as usize);
        for (i, shard) in self.shards.iter().enumerate() {
            let mut slots = found.slots[i].iter();
            let mut left = found.slots[i].len() as usize;
            while left > 0 {
                control.check()?;
                let data = shard.data.read();
                if data.extent().epoch != found.searched[i].epoch {
                    return Ok(Err(Obstacle::Removed));
                }
                for slot in slots.by_ref().take(SLOTS_GROUP) {
                    if set.visit(&data, i, slot, seen, range).is_err() {
                        return Ok(Err(Obstacle::Conflict));
                    }
                }
                left = left.saturating_sub(SLOTS_GROUP);
            }
        }
        Ok(Ok(()))
    }

    /// The same with all shards held at once, so that everything there is belongs to finished commits.
    pub(super) fn visit_locked(&self, found: &Found, matchers: &[Matcher], range: TimeRange, set: &mut HeadSet) {
        self.metrics.select_conflicts.fetch_add(1, Ordering::Relaxed);
        set.clear();
        let symbols = self.symbols.read();
        let shards: [_; SHARDS] = array::from_fn(|i| self.shards[i].data.read());
        for (i, data) in shards.iter().enumerate() {
            let matches = |slot: &u32| matches(data, &symbols, matchers, *slot);
            // Nothing is newer than the end of time, so there is no conflict.
            let mut visit = |slot| {
                let _ = set.visit(data, i, slot, u64::MAX, range);
            };
            if data.extent().epoch == found.searched[i].epoch {
                // Series that came after the search are few; they are asked one by one.
                found.slots[i]
                    .iter()
                    .chain(data.created_since(&found.searched[i]).filter(matches))
                    .for_each(&mut visit);
            } else {
                data.occupied().iter().filter(matches).for_each(&mut visit);
            }
        }
    }

    /// See [`fk_storage::Queryable::label_values`]. As in the head of Prometheus the range decides only whether the
    /// head is asked.
    pub fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        control.check()?;
        let _pin = self.pin();
        let Some(name) = self.symbols.read().find(name).filter(|_| self.reaches(range, i64::MIN)) else {
            return Ok(Vec::new());
        };
        let mut values = RoaringBitmap::new();
        if matchers.is_empty() {
            for shard in &self.shards {
                let data = shard.data.read();
                values.extend(data.postings.name(name).into_iter().flat_map(|p| &p.values));
            }
        } else {
            self.each_match(matchers, control, |names, words| {
                if let Some(at) = names.iter().position(|n| *n == name) {
                    values.insert(words[at + 1]);
                }
            })?;
        }
        Ok(self.texts(&values))
    }

    /// See [`fk_storage::Queryable::label_names`].
    pub fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        control.check()?;
        let _pin = self.pin();
        let mut names = RoaringBitmap::new();
        if !self.reaches(range, i64::MIN) {
            return Ok(Vec::new());
        }
        if matchers.is_empty() {
            for shard in &self.shards {
                names.extend(shard.data.read().postings.names().map(|(name, _)| name));
            }
        } else {
            let mut last_schema = None;
            self.each_match(matchers, control, |of_series, words| {
                if last_schema.replace(words[0]) != Some(words[0]) {
                    names.extend(of_series);
                }
            })?;
        }
        Ok(self.texts(&names))
    }

    /// Calls `each` with label names and label ids of every series that all matchers accept.
    fn each_match(
        &self,
        matchers: &[Matcher],
        control: &Control,
        mut each: impl FnMut(&[u32], &[u32]),
    ) -> Result<(), StorageError> {
        let found = self.search(matchers, control)?;
        for (i, shard) in self.shards.iter().enumerate() {
            let mut slots = found.slots[i].iter();
            let mut left = found.slots[i].len() as usize;
            while left > 0 {
                control.check()?;
                let symbols = self.symbols.read();
                let data = shard.data.read();
                if data.extent().epoch != found.searched[i].epoch {
                    // Series were removed meanwhile, so slots may have others: all are asked, those seen before again.
                    for slot in data.occupied().iter().filter(|slot| matches(&data, &symbols, matchers, *slot)) {
                        let words = data.words_of(slot);
                        each(symbols.schema(words[0]), words);
                    }
                    break;
                }
                for slot in slots.by_ref().take(SLOTS_GROUP) {
                    let words = data.words_of(slot);
                    each(symbols.schema(words[0]), words);
                }
                left = left.saturating_sub(SLOTS_GROUP);
            }
        }
        Ok(())
    }

    fn texts(&self, ids: &RoaringBitmap) -> Vec<String> {
        let symbols = self.symbols.read();
        let mut texts: Vec<_> = ids.iter().map(|id| symbols.get(id).to_owned()).collect();
        texts.sort_unstable();
        texts
    }
}

/// Whether all matchers accept a series, asked by its strings.
fn matches(data: &ShardData, symbols: &Symbols, matchers: &[Matcher], slot: u32) -> bool {
    let words = data.words_of(slot);
    matchers.iter().all(|m| m.matches(symbols.pairs(words).find(|(n, _)| *n == m.name).map_or("", |(_, v)| v)))
}

impl Head {
    /// Calls `look` with a chunk of a file.
    pub(super) fn read_chunk<R>(
        &self,
        place: FilePlace,
        reference: u64,
        look: impl FnOnce(&ChunkRecord<'_>) -> R,
    ) -> Result<R, StorageError> {
        let Some(files) = &self.files else { return Err(StorageError::Unsupported("a head chunk without files")) };
        let result = files.read(place, reference, look);
        if let Err(StorageError::Corrupt { .. }) = result {
            self.metrics.chunk_corruptions.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl HeadSet {
    pub(super) fn new(head: &Arc<Head>, in_order_mint: i64) -> HeadSet {
        HeadSet {
            head: Arc::clone(head),
            _pin: head.pin(),
            in_order_mint,
            control: Control::new(),
            entries: Vec::new(),
            words: Vec::new(),
            extras: HashMap::new(),
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.words.clear();
        self.extras.clear();
    }

    /// The part of a range in which in-order samples are looked for.
    fn in_order(&self, range: TimeRange) -> TimeRange {
        TimeRange { mint: range.mint.max(self.in_order_mint), ..range }
    }

    /// Remembers what may be seen of a slot, if that is anything within the range.
    #[inline]
    fn visit(
        &mut self,
        data: &ShardData,
        shard: usize,
        slot_idx: u32,
        seen: u64,
        range: TimeRange,
    ) -> Result<(), Conflict> {
        let slot = data.slots.get(slot_idx);
        let visible = slot.visible(seen)?;
        let extra = data.extra(slot_idx, range);
        let range = self.in_order(range);
        let out_of_order = extra.as_ref().is_some_and(|extra| extra.ooo.is_some());
        if visible.count == 0 && !out_of_order {
            return Ok(());
        }
        if visible.last.is_some_and(|(t, _)| t < range.mint) && !out_of_order {
            return Ok(());
        }
        let (last_t, last_v) = visible.last.unwrap_or_default();
        // Only a range in the past makes it worth looking at the chunk.
        if !out_of_order
            && last_t > range.maxt
            && slot.completed() == arena::NONE
            && slot.open_first_time(&data.slabs) > range.maxt
        {
            return Ok(());
        }
        let place = Place::new(shard, slot_idx);
        let has_extra = extra.is_some();
        if let Some(extra) = extra {
            self.extras.insert(place, extra);
        }
        let words_start = self.words.len() as u32;
        self.words.extend_from_slice(data.words_of(slot_idx));
        self.entries.push(Entry {
            reference: data.info.get(slot_idx).reference,
            last_t,
            last_v,
            place,
            words_start,
            n_completed: visible.n_completed,
            count: visible.count,
            // The newest sample may be deleted, or be an out-of-order one or a histogram.
            hot: visible.last.is_some() && !has_extra && !slot.is_histogram(),
            extra: has_extra,
        });
        Ok(())
    }
}

/// Of a completed chunk all samples may be seen; none has so many.
const ALL_SAMPLES: u16 = u16::MAX;

/// A chunk copied out of the head.
enum Piece {
    /// Range of bytes within the copy.
    Bytes(Encoding, usize, usize),
    Run(Run),
    /// In a file of `chunks_head/`.
    File(FilePlace),
}

/// Copies of the chunks of one series; on the stack as long as they are as large as usual.
#[derive(Default)]
struct Pieces {
    bytes: SmallVec<[u8; 1024]>,
    /// Newest first, each with the number of samples that may be seen.
    pieces: SmallVec<[(Piece, u16); 8]>,
}

impl Pieces {
    /// The open chunk.
    fn push(&mut self, data: ChunkData<'_>, samples_max: u16) {
        let piece = match data {
            ChunkData::Run(run) => Piece::Run(run),
            ChunkData::Encoded(encoding, bytes) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                Piece::Bytes(encoding, start, self.bytes.len())
            }
            ChunkData::Xor(bytes) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                if samples_max < ALL_SAMPLES {
                    // The chunk is or was open, and what its header says is another matter.
                    xor::set_count(&mut self.bytes[start..], samples_max);
                }
                Piece::Bytes(Encoding::Xor, start, self.bytes.len())
            }
        };
        self.pieces.push((piece, samples_max));
    }

    /// Copies the chunks of a series that may have samples in the range.
    fn collect(&mut self, data: &ShardData, entry: &Entry, range: TimeRange) {
        if !data.has(entry.place.slot(), entry.reference) {
            // The series was removed, so all its samples are before what the set shows.
            return;
        }
        let slot = data.slots.get(entry.place.slot());
        let mut next = slot.completed();
        let completed_since = slot.n_completed().wrapping_sub(entry.n_completed);
        if completed_since == 0 {
            self.push(slot.open_data(&data.slabs), entry.count);
        }
        // Newer ones than the chunk that was open, then that one, then the older ones.
        for n in (0..completed_since).rev() {
            if next == arena::NONE {
                break;
            }
            let chunk = data.arena.get(next);
            next = chunk.older;
            if n == 0 {
                self.push_completed(&chunk, entry.count);
            }
        }
        while next != arena::NONE {
            let chunk = data.arena.get(next);
            if chunk.last_time < range.mint {
                break;
            }
            self.push_completed(&chunk, ALL_SAMPLES);
            next = chunk.older;
        }
    }

    fn push_completed(&mut self, chunk: &Completed<'_>, samples_max: u16) {
        let piece = match chunk.bytes {
            ChunkBytes::Staged(_, bytes) => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                Piece::Bytes(chunk.encoding, start, self.bytes.len())
            }
            ChunkBytes::File(place) => Piece::File(place),
        };
        self.pieces.push((piece, samples_max));
    }

    fn decode(&self, set: &HeadSet, reference: u64, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        let TimeRange { mint, maxt } = range;
        let mut damage = None;
        for (piece, samples_max) in self.pieces.iter().rev() {
            let samples_max = usize::from(*samples_max);
            let decoded = match piece {
                Piece::Run(run) => {
                    run.decode_range(samples_max, mint, maxt, &mut out.t, &mut out.v);
                    Ok(())
                }
                Piece::Bytes(encoding, start, end) => {
                    decode_range(*encoding, &self.bytes[*start..*end], samples_max, mint, maxt, out)
                }
                Piece::File(place) => {
                    let read = set.head.read_chunk(*place, reference, |record| {
                        set.control.count_chunk_bytes(record.data.len());
                        decode_range(record.encoding, record.data, samples_max, mint, maxt, out)
                    });
                    match read {
                        Ok(decoded) => decoded,
                        // The other chunks can still be read.
                        Err(error @ StorageError::Corrupt { .. }) => {
                            damage = damage.or(Some(error));
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            if let Err(e) = decoded {
                let reason = format!("series {reference}: {e}");
                damage = damage.or(Some(StorageError::Corrupt { path: "head".to_owned(), offset: 0, reason }));
            }
        }
        // A run has none.
        out.fill_starts();
        damage.map_or(Ok(()), Err)
    }
}

fn corrupt(err: &dyn std::fmt::Display) -> StorageError {
    StorageError::Corrupt { path: "head".to_owned(), offset: 0, reason: err.to_string() }
}

impl HeadSet {
    #[cold]
    fn add_extra(&self, entry: &Entry, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        let Some(extra) = self.extras.get(&entry.place) else { return Ok(()) };
        remove_deleted(out, &extra.deleted);
        match &extra.ooo {
            Some(ooo) => ooo.merge_into(range, out).map_err(|e| corrupt(&e)),
            None => Ok(()),
        }
    }
}

impl SeriesSet for HeadSet {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn labels(&self, idx: usize) -> Labels {
        self.head.symbols.read().labels(&self.words[self.entries[idx].words_start as usize..])
    }

    fn labels_where(&self, idx: usize, keep: &dyn Fn(&str) -> bool) -> Labels {
        let symbols = self.head.symbols.read();
        let words = &self.words[self.entries[idx].words_start as usize..];
        Labels::from_sorted(symbols.pairs_where(words, keep))
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        out.clear();
        let entry = &self.entries[idx];
        let in_order = self.in_order(range);
        let mut damage = Ok(());
        // A series may have nothing but out-of-order samples.
        if entry.count > 0 && in_order.mint <= in_order.maxt {
            let mut pieces = Pieces::default();
            pieces.collect(&self.head.shards[entry.place.shard()].data.read(), entry, in_order);
            self.control.count_chunk_bytes(pieces.bytes.len());
            damage = pieces.decode(self, entry.reference, in_order, out);
            if !matches!(damage, Ok(()) | Err(StorageError::Corrupt { .. })) {
                return damage;
            }
        }
        if entry.extra {
            self.add_extra(entry, range, out)?;
        }
        damage
    }

    fn last(&self, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        let entry = &self.entries[idx];
        if entry.hot && entry.last_t <= range.maxt {
            return Ok((entry.last_t >= self.in_order(range).mint).then_some(Newest {
                t: entry.last_t,
                v: entry.last_v,
                h: None,
            }));
        }
        let mut samples = Samples::default();
        self.read(idx, range, &mut samples)?;
        Ok(samples.last())
    }
}
