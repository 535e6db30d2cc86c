//! A range of the head as a stream of series, for the writer of blocks.
//!
//! Series come in order of their labels. For that every string in use gets its *rank* once, sorted by words of eight bytes;
//! from then on labels are compared as lists of ranks. Each shard's series are sorted for themselves and then merged, so
//! what is kept is 12 bytes per series and 8 per string. Locks are held for groups of slots or strings only.
//!
//! Chunks that lie within the range are copied, byte for byte; those that cross its ends, or have deleted samples, are cut. Samples appended while
//! the stream is read may or may not be in it: whoever writes a block takes a range that takes no more samples.

use std::cmp::Ordering;
use std::sync::Arc;

use fk_block::{Encoder, SeriesChunks, SeriesStream};
use fk_chunk::{Encoding, decode_exact, xor};
use fk_storage::{StorageError, TimeRange};

use super::arena::{self, ChunkBytes};
use super::buffers::{ChunkData, OPEN_BYTES_MAX};
use super::shard::ShardData;
use super::symbols::{Marks, SymbolId};
use super::{Head, SHARDS};
use crate::chunks_head::FilePlace;

/// Slots looked at while a shard's lock is held.
const SLOTS_GROUP: u32 = 4096;

/// Series whose labels are fetched ahead, per shard.
const SERIES_AHEAD: usize = 256;

/// Strings looked at while new ones have to wait.
const STRINGS_GROUP: usize = 4096;

/// The rank of strings that were not in use when the stream began.
const NO_RANK: u32 = u32::MAX;

/// See the module's text.
pub struct HeadStream {
    head: Arc<Head>,
    range: TimeRange,
    ranks: Ranks,
    cursors: Vec<Cursor>,
    /// Cursors with a series, the one whose series is next at the end.
    waiting: Vec<usize>,
    parts: Vec<Part>,
    /// What was deleted of the series at hand.
    deleted: Vec<TimeRange>,
    /// Bytes of parts that are in memory.
    bytes: Vec<u8>,
    /// Keeps the ids of strings good.
    _pin: Arc<()>,
}

/// The order of strings.
struct Ranks {
    /// The strings in use, ascending by text.
    order: Vec<SymbolId>,
    /// By id.
    rank: Vec<u32>,
    /// Ranks of the names of each schema; empty if it is not in use.
    schemas: Vec<Box<[u32]>>,
}

/// The series of a shard, in order.
#[derive(Default)]
struct Cursor {
    slots: Vec<u32>,
    references: Vec<u64>,
    /// How many of them have been fetched.
    fetched: usize,
    ahead: Vec<Ahead>,
    /// The one that is next, in `ahead`.
    at: usize,
    words: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Ahead {
    slot: u32,
    reference: u64,
    start: u32,
    end: u32,
}

/// A chunk of the series at hand.
struct Part {
    encoding: Encoding,
    times: (i64, i64),
    place: PartPlace,
}

enum PartPlace {
    Memory(usize, usize),
    File(FilePlace),
}

/// Whether a series is in a stream: shard, its data, and slot.
pub(super) type Selection<'a> = dyn Fn(usize, &ShardData, u32) -> bool + 'a;

impl Head {
    /// The samples within `range`, as series in order of labels with their chunks.
    pub fn stream(self: &Arc<Head>, range: TimeRange) -> Result<HeadStream, StorageError> {
        self.stream_where(range, &|_, _, _| true)
    }

    /// As [`Head::stream`], of the series that are `wanted`.
    pub(super) fn stream_where(
        self: &Arc<Head>,
        range: TimeRange,
        wanted: &Selection<'_>,
    ) -> Result<HeadStream, StorageError> {
        let pin = self.pin();
        self.wait_for_appends();
        let ranks = Ranks::new(self, range, wanted);
        let cursors: Vec<_> = (0..SHARDS).map(|shard| Cursor::new(self, shard, range, wanted, &ranks)).collect();
        let mut stream = HeadStream {
            head: Arc::clone(self),
            range,
            ranks,
            cursors,
            waiting: Vec::new(),
            parts: Vec::new(),
            deleted: Vec::new(),
            bytes: Vec::new(),
            _pin: pin,
        };
        (0..SHARDS).for_each(|shard| stream.wait(shard));
        Ok(stream)
    }
}

impl SeriesStream for HeadStream {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        while let Some(shard) = self.waiting.pop() {
            out.clear();
            let cursor = &self.cursors[shard];
            let ahead = cursor.ahead[cursor.at];
            self.collect(shard, &ahead);
            for part in &self.parts {
                match part.place {
                    PartPlace::Memory(start, end) => {
                        let wanted = Wanted { range: self.range, deleted: &self.deleted };
                        wanted.put(out, part.encoding, part.times, &self.bytes[start..end])?;
                    }
                    PartPlace::File(place) => self.head.read_chunk(place, ahead.reference, |record| {
                        let wanted = Wanted { range: self.range, deleted: &self.deleted };
                        let times = (record.mint, record.maxt);
                        wanted.put(out, record.encoding, times, record.data)
                    })??,
                }
            }
            if !out.chunks.is_empty() {
                let words = &self.cursors[shard].words[ahead.start as usize..ahead.end as usize];
                out.labels = self.head.symbols.read().labels(words);
            }
            self.cursors[shard].at += 1;
            self.wait(shard);
            if !out.chunks.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for ids in self.ranks.order.chunks(STRINGS_GROUP) {
            text.clear();
            ends.clear();
            {
                let symbols = self.head.symbols.read();
                for id in ids {
                    text.push_str(symbols.get(*id));
                    ends.push(text.len());
                }
            }
            let mut start = 0;
            for end in &ends {
                each(&text[start..*end])?;
                start = *end;
            }
        }
        Ok(())
    }
}

impl HeadStream {
    /// Puts a shard's next series among those that wait.
    fn wait(&mut self, shard: usize) {
        if self.cursors[shard].at == self.cursors[shard].ahead.len() && !self.cursors[shard].fetch(&self.head, shard) {
            return;
        }
        let (ranks, cursors) = (&self.ranks, &self.cursors);
        let words = cursors[shard].words();
        // Descending, so that the first is at the end. No two series have the same labels.
        let at = self.waiting.partition_point(|other| ranks.compare(cursors[*other].words(), words).is_gt());
        self.waiting.insert(at, shard);
    }

    /// The chunks of a series that may have samples in the range, ascending.
    fn collect(&mut self, shard: usize, series: &Ahead) {
        self.parts.clear();
        self.bytes.clear();
        let TimeRange { mint, maxt } = self.range;
        let data = self.head.shards[shard].data.read();
        if !data.has(series.slot, series.reference) {
            return;
        }
        self.deleted.clear();
        self.deleted.extend_from_slice(data.tombstones.of(series.slot));
        let slot = data.slots.get(series.slot);
        if let Some((last_time, _)) = slot.last()
            && last_time >= mint
        {
            let first_time = slot.open_first_time(&data.slabs);
            if first_time <= maxt {
                let start = self.bytes.len();
                let mut encoding = Encoding::Xor;
                match slot.open_data(&data.slabs) {
                    ChunkData::Encoded(of, bytes) => {
                        encoding = of;
                        self.bytes.extend_from_slice(bytes);
                    }
                    ChunkData::Xor(bytes) => {
                        self.bytes.extend_from_slice(bytes);
                        xor::set_count(&mut self.bytes[start..], slot.open_count());
                    }
                    ChunkData::Run(run) if self.head.rules().xor2 => {
                        encoding = Encoding::Xor2;
                        self.bytes.extend_from_slice(run.to_xor2().bytes());
                    }
                    ChunkData::Run(run) => {
                        let mut buf = [0; OPEN_BYTES_MAX];
                        let len = run.write_xor(&mut buf).len;
                        self.bytes.extend_from_slice(&buf[..usize::from(len)]);
                    }
                }
                let place = PartPlace::Memory(start, self.bytes.len());
                self.parts.push(Part { encoding, times: (first_time, last_time), place });
            }
        }
        let mut next = slot.completed();
        while next != arena::NONE {
            let chunk = data.arena.get(next);
            if chunk.last_time < mint {
                break;
            }
            if data.arena.first_time_min(next).is_none_or(|t| t <= maxt) {
                let (first_time, place) = match chunk.bytes {
                    ChunkBytes::Staged(first_time, bytes) => {
                        let start = self.bytes.len();
                        self.bytes.extend_from_slice(bytes);
                        (first_time, PartPlace::Memory(start, self.bytes.len()))
                    }
                    // Its first time is in the file.
                    ChunkBytes::File(place) => (i64::MIN, PartPlace::File(place)),
                };
                self.parts.push(Part { encoding: chunk.encoding, times: (first_time, chunk.last_time), place });
            }
            next = chunk.older;
        }
        self.parts.reverse();
    }
}

/// What a block is to have of a series.
struct Wanted<'a> {
    range: TimeRange,
    /// Ascending.
    deleted: &'a [TimeRange],
}

impl Wanted<'_> {
    /// Adds what is wanted of a chunk: a copy if that is all of it.
    fn put(
        &self,
        out: &mut SeriesChunks,
        encoding: Encoding,
        (first_time, last_time): (i64, i64),
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let TimeRange { mint, maxt } = self.range;
        if first_time > maxt || last_time < mint {
            return Ok(());
        }
        let corrupt = |reason: String| StorageError::Corrupt { path: "head".to_owned(), offset: 0, reason };
        let is_cut = self.deleted.iter().any(|range| range.mint <= last_time && range.maxt >= first_time);
        if first_time >= mint && last_time <= maxt && !is_cut {
            let count = encoding.count(bytes).ok_or_else(|| corrupt("a chunk without header".to_owned()))?;
            out.push((first_time, last_time), encoding, count as u32, bytes);
            return Ok(());
        }
        let (mut encoder, mut result) = (Encoder::default(), Ok(()));
        decode_exact(encoding, bytes, usize::MAX, &mut |sample| {
            let t = sample.t;
            if t >= mint && !self.deleted.iter().any(|range| (range.mint..=range.maxt).contains(&t)) && t <= maxt {
                result = encoder.push(&sample, out);
            }
            result.is_ok() && t < maxt
        })
        .and(result)
        .map_err(|e| corrupt(e.to_string()))?;
        encoder.end_chunk(out);
        Ok(())
    }
}

impl ShardData {
    /// Whether a slot has a series that may have samples in the range.
    fn is_in(&self, slot: u32, range: TimeRange) -> bool {
        self.info.get(slot).reference != 0
            && self.slots.get(slot).last_time().is_some_and(|newest| newest >= range.mint)
    }
}

impl Cursor {
    fn new(head: &Head, shard: usize, range: TimeRange, wanted: &Selection<'_>, ranks: &Ranks) -> Cursor {
        // Label ids of all series, one after another.
        let mut words = Vec::new();
        // First name and value as ranks, start of the words, slot, reference.
        let mut series: Vec<(u64, u32, u32, u64)> = Vec::new();
        let mut at = 0;
        loop {
            let data = head.shards[shard].data.read();
            let end = (at + SLOTS_GROUP).min(data.slots.len() as u32);
            for slot in (at..end).filter(|slot| data.is_in(*slot, range) && wanted(shard, &data, *slot)) {
                let of_series = data.words_of(slot);
                if let Some(key) = ranks.key(of_series) {
                    series.push((key, words.len() as u32, slot, data.info.get(slot).reference));
                    words.extend_from_slice(of_series);
                }
            }
            at = end;
            if at >= data.slots.len() as u32 {
                break;
            }
        }
        series.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| ranks.compare(&words[a.1 as usize..], &words[b.1 as usize..]))
        });
        let (slots, references) = series.into_iter().map(|(_, _, slot, reference)| (slot, reference)).unzip();
        Cursor { slots, references, ..Cursor::default() }
    }

    /// Fetches the labels of the next series that are still there; `false` at the end.
    fn fetch(&mut self, head: &Head, shard: usize) -> bool {
        self.at = 0;
        self.ahead.clear();
        self.words.clear();
        while self.ahead.is_empty() && self.fetched < self.slots.len() {
            let end = (self.fetched + SERIES_AHEAD).min(self.slots.len());
            let data = head.shards[shard].data.read();
            for (&slot, &reference) in self.slots[self.fetched..end].iter().zip(&self.references[self.fetched..end]) {
                if data.has(slot, reference) {
                    let start = self.words.len() as u32;
                    self.words.extend_from_slice(data.words_of(slot));
                    self.ahead.push(Ahead { slot, reference, start, end: self.words.len() as u32 });
                }
            }
            self.fetched = end;
        }
        !self.ahead.is_empty()
    }

    /// Label ids of the next series.
    fn words(&self) -> &[u32] {
        let Ahead { start, end, .. } = self.ahead[self.at];
        &self.words[start as usize..end as usize]
    }
}

impl Ranks {
    /// Of the strings of series that may have samples in `range`.
    fn new(head: &Head, range: TimeRange, wanted: &Selection<'_>) -> Ranks {
        let mut used = Marks::default();
        for (number, shard) in head.shards.iter().enumerate() {
            let mut at = 0;
            loop {
                let data = shard.data.read();
                let end = (at + SLOTS_GROUP).min(data.slots.len() as u32);
                (at..end)
                    .filter(|slot| data.is_in(*slot, range) && wanted(number, &data, *slot))
                    .for_each(|slot| used.add_words(data.words_of(slot)));
                at = end;
                if at >= data.slots.len() as u32 {
                    break;
                }
            }
        }
        let mut schemas: Vec<Box<[u32]>> = Vec::new();
        let n_ids = {
            let symbols = head.symbols.read();
            let (n_ids, n_schemas) = symbols.id_counts();
            for id in 0..n_schemas {
                let names = if used.has_schema(id) { symbols.schema(id) } else { &[] };
                used.add_strings(names);
                schemas.push(names.into());
            }
            n_ids
        };
        let mut order: Vec<SymbolId> = (0..n_ids).filter(|id| used.has_string(*id)).collect();
        sort_by_text(head, &mut order);
        let mut rank = vec![NO_RANK; n_ids as usize];
        for (n, id) in order.iter().enumerate() {
            rank[*id as usize] = n as u32;
        }
        schemas.iter_mut().flatten().for_each(|name| *name = rank[*name as usize]);
        Ranks { order, rank, schemas }
    }

    fn of(&self, id: SymbolId) -> u32 {
        self.rank.get(id as usize).copied().unwrap_or(NO_RANK)
    }

    /// The first label of a series as a number that sorts as it does; `None` for a series with strings that had no rank, one
    /// that is newer than the stream.
    fn key(&self, words: &[u32]) -> Option<u64> {
        let (schema, values) = words.split_first()?;
        let names = self.schemas.get(*schema as usize)?;
        if names.len() != values.len() || values.iter().any(|id| self.of(*id) == NO_RANK) {
            return None;
        }
        Some(u64::from(*names.first()?) << 32 | u64::from(self.of(values[0])))
    }

    /// Order of two label sets of series with a key, as `Labels` orders them.
    fn compare(&self, a: &[u32], b: &[u32]) -> Ordering {
        let (names_a, names_b) = (&self.schemas[a[0] as usize], &self.schemas[b[0] as usize]);
        for (i, (name_a, name_b)) in names_a.iter().zip(names_b).enumerate() {
            let (value_a, value_b) = (a[i + 1], b[i + 1]);
            if name_a != name_b {
                return name_a.cmp(name_b);
            }
            if value_a != value_b {
                return self.of(value_a).cmp(&self.of(value_b));
            }
        }
        names_a.len().cmp(&names_b.len())
    }
}

/// Sorts ids by their texts, eight bytes at a time: the strings are fetched group by group, the sorting needs no lock.
fn sort_by_text(head: &Head, ids: &mut [SymbolId]) {
    /// The next bytes, how many there are (9: more than these), the id.
    type Key = (u64, u8, SymbolId);
    const MORE: u8 = 9;
    let mut keys: Vec<Key> = Vec::new();
    // Ranges of strings that are equal so far, and how far that is.
    let mut equal = vec![(0, ids.len(), 0)];
    while let Some((start, end, depth)) = equal.pop() {
        let ids = &mut ids[start..end];
        if ids.len() < 2 {
            continue;
        }
        keys.clear();
        for group in ids.chunks(STRINGS_GROUP) {
            let symbols = head.symbols.read();
            keys.extend(group.iter().map(|id| {
                let rest = symbols.get(*id).as_bytes().get(depth..).unwrap_or_default();
                let mut word = [0; 8];
                let len = rest.len().min(8);
                word[..len].copy_from_slice(&rest[..len]);
                (u64::from_be_bytes(word), if rest.len() > 8 { MORE } else { len as u8 }, *id)
            }));
        }
        keys.sort_unstable();
        let mut run = 0;
        for (n, key) in keys.iter().enumerate() {
            ids[n] = key.2;
            if (key.0, key.1) != (keys[run].0, keys[run].1) {
                run = n;
            }
            let ends = keys.get(n + 1).is_none_or(|next| (next.0, next.1) != (key.0, key.1));
            if ends && n > run && key.1 == MORE {
                equal.push((start + run, start + n + 1, depth + 8));
            }
        }
    }
}
