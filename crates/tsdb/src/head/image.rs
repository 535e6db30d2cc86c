//! The head as bytes, and back: what an image of the head is made of. Where images are kept, when they are written and
//! what makes one valid is in [`crate::image`]; the bytes are drawn in `docs/format/head_image.md`.
//!
//! A *part* is one stretch of bytes: each shard, the symbols, the schemas, the references that are second names of a series,
//! the deletions. Out-of-order samples are not kept: their own log is read at every start.
//! Shards are saved in groups of slots, under the shard's lock for a millisecond at a time, while appends go on. So a part
//! is no picture of one moment: it has everything that was logged before [`Head::save_begin`], and some of what came
//! later. Reading the log from there makes it whole, because a sample that is not newer than its series is dropped.
//!
//! Restoring rebuilds tables and postings instead of copying them: their size in memory and their order on the way there
//! do not matter to the format, and the work is spread over the processors by shard.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use fk_chunk::Encoding;
use fk_chunk::xor::XorState;
use fk_model::labels::STRING_BYTES_MAX;
use fk_model::{Labels, is_stale};
use fk_storage::{Exemplar, SeriesRef};
use fk_wal::record::Tombstone;

use super::arena::{self, Saved};
use super::buffers::ChunkData;
use super::histograms::OpenHistogram;
use super::refs::SHARDS;
use super::shard::ShardData;
use super::slot::{Slot, SlotState, WRITER_LEN};
use super::truncate::Upkeep;
use super::{Head, HeadOptions, LABELS_MAX, Place};
use crate::chunks_head::ChunkFiles;
use crate::exemplars::Exemplars;

/// Slots saved under one lock.
const GROUP_SLOTS: usize = 2048;

/// An image of so many bytes is read in a few milliseconds.
const SMALL_BYTES: usize = 1 << 20;

/// Strings saved under one lock.
const GROUP_STRINGS: usize = 16 << 10;

/// The length of a string that is not there.
const NO_STRING: u32 = u32::MAX;

/// The kind of a saved chunk that is in a file; others are the byte of their encoding.
const CHUNK_IN_FILE: u8 = 0;

/// Which part of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The series of a shard.
    Shard(u8),
    /// The strings, by id.
    Symbols,
    /// The lists of label names, by id.
    Schemas,
    /// References that are second names of a series.
    Aliases,
    /// Deletions.
    Tombstones,
    /// References that are no more and that the log still has.
    Expired,
    /// Exemplars, which the head does not know.
    Exemplars,
    /// Metadata of series.
    Metadata,
}

impl Part {
    /// All parts, in the order in which they are saved: what a shard refers to comes later, so it is there.
    pub fn all() -> impl Iterator<Item = Part> {
        let others = [
            Part::Aliases,
            Part::Tombstones,
            Part::Expired,
            Part::Schemas,
            Part::Symbols,
            Part::Exemplars,
            Part::Metadata,
        ];
        (0..SHARDS as u8).map(Part::Shard).chain(others)
    }

    /// As a number.
    pub fn to_byte(self) -> u8 {
        match self {
            Part::Shard(shard) => shard,
            Part::Aliases => 0x80,
            Part::Schemas => 0x81,
            Part::Symbols => 0x82,
            Part::Tombstones => 0x83,
            Part::Expired => 0x84,
            Part::Exemplars => 0x85,
            Part::Metadata => 0x86,
        }
    }
}

/// Bytes are not those of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged(pub &'static str);

/// Numbers of the head that are kept beside the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basics {
    /// What the hashes of labels were made with.
    pub seed: u64,
    /// The reference the next new series gets.
    pub next_ref: u64,
    /// As in [`Head::time_range`]; `i64::MAX` and `i64::MIN` without samples.
    pub min_time: i64,
    pub max_time: i64,
    /// Older samples are not taken.
    pub min_valid_time: i64,
}

/// What of `chunks_head/` an image refers to: the number of each file, and the newest time of a chunk in it.
pub(crate) type Files = BTreeMap<u32, i64>;

/// While this is held the head is not truncated and no chunk moves to a file.
pub(crate) type Saving<'a> = MutexGuard<'a, Upkeep>;

/// A saved part.
#[derive(Clone, Debug)]
pub(crate) struct SavedPart {
    pub part: Part,
    pub bytes: Bytes,
    pub crc: u32,
    /// Series, strings, schemas or references in it.
    pub items: u64,
}

impl SavedPart {
    fn checked(&self) -> Result<Reader<'_>, Damaged> {
        match crc32c::crc32c(&self.bytes) == self.crc {
            true => Ok(Reader(&self.bytes)),
            false => Err(Damaged("checksum of a part is wrong")),
        }
    }
}

// === Saving ===

/// Takes bytes of a part and the number of items in them; an error ends the saving.
pub(crate) type Sink<'a, E> = dyn FnMut(&[u8], u64) -> Result<(), E> + 'a;

impl Head {
    /// Waits for the appends that are under way: afterwards everything that was logged before is in the slots.
    pub(crate) fn save_begin(&self) -> Saving<'_> {
        let saving = self.upkeep.lock();
        self.wait_for_appends();
        self.wait_for_metadata();
        saving
    }

    /// Numbers that are true for all parts saved before.
    pub(crate) fn save_basics(&self) -> Basics {
        Basics {
            seed: self.seed,
            next_ref: self.next_ref.load(Ordering::Relaxed),
            min_time: self.min_time.load(Ordering::Acquire),
            max_time: self.max_time.load(Ordering::Acquire),
            min_valid_time: self.min_valid_time(),
        }
    }

    /// Saves a part in pieces. Adds the files of `chunks_head` that it refers to, to `files`.
    pub(crate) fn save<E>(&self, part: Part, files: &mut Files, sink: &mut Sink<'_, E>) -> Result<(), E> {
        match part {
            Part::Shard(shard) => self.save_shard(usize::from(shard), files, sink),
            Part::Aliases => self.save_aliases(sink),
            Part::Expired => {
                let mut out = Vec::new();
                let expired = self.expired.lock();
                for (reference, segment) in expired.iter() {
                    out.extend_from_slice(&reference.to_le_bytes());
                    out.extend_from_slice(&segment.to_le_bytes());
                }
                let items = expired.len() as u64;
                drop(expired);
                sink(&out, items)
            }
            Part::Tombstones => {
                let (mut out, mut items) = (Vec::new(), 0);
                self.each_tombstone(&mut |tombstone| {
                    out.extend_from_slice(&tombstone.series.0.to_le_bytes());
                    out.extend_from_slice(&tombstone.mint.to_le_bytes());
                    out.extend_from_slice(&tombstone.maxt.to_le_bytes());
                    items += 1;
                });
                sink(&out, items)
            }
            // Others have them.
            Part::Exemplars => Ok(()),
            Part::Metadata => self.save_metadata(sink),
            Part::Schemas => {
                let mut out = Vec::new();
                let mut items = 0;
                for names in self.symbols.read().saved_schemas() {
                    out.extend_from_slice(&(names.len() as u32).to_le_bytes());
                    put_words(names, &mut out);
                    items += 1;
                }
                sink(&out, items)
            }
            Part::Symbols => {
                let (mut out, mut first) = (Vec::new(), 0);
                loop {
                    out.clear();
                    let mut items = 0;
                    for text in self.symbols.read().saved_texts(first).take(GROUP_STRINGS) {
                        out.extend_from_slice(&text.map_or(NO_STRING, |text| text.len() as u32).to_le_bytes());
                        out.extend_from_slice(text.unwrap_or_default().as_bytes());
                        items += 1;
                    }
                    if items == 0 {
                        return Ok(());
                    }
                    first += items;
                    sink(&out, items as u64)?;
                }
            }
        }
    }

    fn save_shard<E>(&self, shard: usize, files: &mut Files, sink: &mut Sink<'_, E>) -> Result<(), E> {
        // Series that come after this are logged after this, so they are not missed.
        let hashes = self.shards[shard].data.read().hashes();
        let mut out = Vec::new();
        for (group, hashes) in hashes.chunks(GROUP_SLOTS).enumerate() {
            out.clear();
            let mut items = 0;
            let data = self.shards[shard].data.read();
            for (i, hash) in hashes.iter().enumerate() {
                items += u64::from(save_series(&data, (group * GROUP_SLOTS + i) as u32, *hash, files, &mut out));
            }
            drop(data);
            sink(&out, items)?;
        }
        Ok(())
    }

    fn save_aliases<E>(&self, sink: &mut Sink<'_, E>) -> Result<(), E> {
        // Copied first: whoever has a shard may wait for the references.
        let aliases: Vec<_> = self.refs.read().aliases().collect();
        let mut out = Vec::with_capacity(aliases.len() * 16);
        for &(alias, place) in &aliases {
            let own = self.shards[place.shard()].data.read().info.get(place.slot()).reference;
            out.extend_from_slice(&alias.to_le_bytes());
            out.extend_from_slice(&own.to_le_bytes());
        }
        sink(&out, aliases.len() as u64)
    }
}

/// Saves exemplars: time, value, labels of the series, labels of the exemplar.
pub(crate) fn save_exemplars<E>(exemplars: &Exemplars, sink: &mut Sink<'_, E>) -> Result<(), E> {
    let put_labels = |labels: &Labels, out: &mut Vec<u8>| {
        out.extend_from_slice(&(labels.len() as u32).to_le_bytes());
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    };
    let (mut out, mut items) = (Vec::new(), 0);
    exemplars.each(|series, exemplar| {
        out.extend_from_slice(&exemplar.t.to_le_bytes());
        out.extend_from_slice(&exemplar.v.to_bits().to_le_bytes());
        put_labels(series, &mut out);
        put_labels(&exemplar.labels, &mut out);
        items += 1;
    });
    sink(&out, items)
}

/// What [`save_exemplars`] has saved.
pub(crate) fn read_exemplars(parts: &[SavedPart]) -> Result<Vec<(Labels, Exemplar)>, Damaged> {
    fn labels(reader: &mut Reader<'_>) -> Result<Labels, Damaged> {
        let mut pairs = Vec::new();
        for _ in 0..reader.u32()? {
            pairs.push((reader.text()?, reader.text()?));
        }
        Ok(Labels::from_pairs(pairs))
    }
    let part = parts.iter().find(|p| p.part == Part::Exemplars).ok_or(Damaged("a part is missing"))?;
    let (mut reader, mut exemplars) = (part.checked()?, Vec::new());
    while !reader.is_empty() {
        let (t, v) = (reader.i64()?, f64::from_bits(reader.u64()?));
        let series = labels(&mut reader)?;
        exemplars.push((series, Exemplar { labels: labels(&mut reader)?, v, t }));
    }
    Ok(exemplars)
}

fn put_words(words: &[u32], out: &mut Vec<u8>) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

/// Saves the series in a slot, if it is in the log. Says whether it did.
fn save_series(data: &ShardData, idx: u32, hash: u32, files: &mut Files, out: &mut Vec<u8>) -> bool {
    let slot = data.slots.get(idx);
    if !slot.is_logged() {
        return false;
    }
    let words = data.words_of(idx);
    let SlotState { open, next_cut, n_completed } = slot.state();
    let mut chunks = 0u32;
    data.arena.save_list(slot.completed(), |_| chunks += 1);
    // Put together on the stack, so that the buffer's length is checked once.
    let mut header = [0; SERIES_HEADER];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&hash.to_le_bytes());
    put(&data.info.get(idx).reference.to_le_bytes());
    put(&(words.len() as u16).to_le_bytes());
    put(&n_completed.to_le_bytes());
    put(&chunks.to_le_bytes());
    put(&open.len.to_le_bytes());
    put(&open.count.to_le_bytes());
    put(&[open.free_bits, open.leading, open.trailing, open.last_byte]);
    put(&next_cut.to_le_bytes());
    put(&open.t.to_le_bytes());
    put(&open.v.to_bits().to_le_bytes());
    put(&open.delta.to_le_bytes());
    debug_assert_eq!(at, SERIES_HEADER);
    out.extend_from_slice(&header);
    put_words(words, out);
    if let ChunkData::Encoded(encoding, bytes) = slot.open_data(&data.slabs) {
        let end_foreseen = slot.open_histogram(&data.slabs).is_some_and(|open| open.end_foreseen);
        out.extend_from_slice(&[encoding.byte(), u8::from(end_foreseen)]);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    }
    out.extend_from_slice(slot.open_bytes(&data.slabs));
    data.arena.save_list(slot.completed(), |chunk| match chunk {
        Saved::File { place, last_time } => {
            let newest = files.entry(arena::file_of(place)).or_insert(i64::MIN);
            *newest = last_time.max(*newest);
            out.push(CHUNK_IN_FILE);
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(&last_time.to_le_bytes());
        }
        Saved::Staged { encoding, first_time, last_time, bytes } => {
            out.push(encoding.byte());
            out.extend_from_slice(&first_time.to_le_bytes());
            out.extend_from_slice(&last_time.to_le_bytes());
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    });
    true
}

/// What a series has before its label ids: hash 4, reference 8, number of label ids 2, `n_completed` 2, chunks 4, bytes and
/// samples of the open chunk 2 + 2, bit state 4, next cut 8, newest time and value 16, difference of times 8.
const SERIES_HEADER: usize = 60;

// === Restoring ===

/// Takes values off the front of a part.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or(Damaged("a part ends early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged("a part ends early"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub fn u8(&mut self) -> Result<u8, Damaged> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Damaged> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Damaged> {
        let len = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| Damaged("a string is not UTF-8"))?;
        if text.len() > STRING_BYTES_MAX {
            return Err(Damaged("a string is too long"));
        }
        Ok(text)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the parts of a restored head have brought.
#[derive(Clone, Copy, Debug, Default)]
struct Restored {
    series: u64,
    chunks: u64,
    stale: i64,
}

impl Head {
    /// The head of these parts, by as many threads as there are processors. Nothing of it is believed without a check.
    pub(crate) fn restore(
        options: HeadOptions,
        files: ChunkFiles,
        basics: &Basics,
        parts: &[SavedPart],
    ) -> Result<Head, Damaged> {
        let bytes: usize = parts.iter().map(|part| part.bytes.len()).sum();
        let workers = match bytes {
            // Threads would cost more than they take.
            0..=SMALL_BYTES => 1,
            _ => thread::available_parallelism().map_or(1, usize::from).clamp(1, SHARDS),
        };
        Head::restore_by(workers, options, files, basics, parts)
    }

    fn restore_by(
        workers: usize,
        options: HeadOptions,
        files: ChunkFiles,
        basics: &Basics,
        parts: &[SavedPart],
    ) -> Result<Head, Damaged> {
        let head = Head::with_seed(options, Some(files), basics.seed);
        let find = |part| parts.iter().find(|p| p.part == part).ok_or(Damaged("a part is missing"));
        let (symbols, aliases, tombstones) = (find(Part::Symbols)?, find(Part::Aliases)?, find(Part::Tombstones)?);
        let schemas = read_schemas(find(Part::Schemas)?, symbols.items)?;
        let mut names = schemas.iter();
        let known = names.try_for_each(|names| head.symbols.write().restore_schema(names));
        known.ok_or(Damaged("a list of label names comes twice"))?;
        let mut shards = Vec::with_capacity(SHARDS);
        for shard in 0..SHARDS {
            shards.push(find(Part::Shard(shard as u8))?);
        }
        // The symbols take longest, so they come first.
        let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
        let total = Mutex::new(Restored::default());
        let work = || {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task > SHARDS || failure.lock().is_some() {
                    return;
                }
                let result = match task.checked_sub(1) {
                    None => head.restore_symbols(symbols).map(|()| Restored::default()),
                    Some(shard) => head.restore_shard(shard, shards[shard], &schemas, symbols.items),
                };
                match result {
                    Ok(part) => {
                        let mut total = total.lock();
                        total.series += part.series;
                        total.chunks += part.chunks;
                        total.stale += part.stale;
                    }
                    Err(damaged) => *failure.lock() = Some(damaged),
                }
            }
        };
        thread::scope(|scope| {
            for number in 1..workers {
                // Where there is no thread to be had, fewer do the work.
                let _ = thread::Builder::new().name(format!("image-{number}")).spawn_scoped(scope, work);
            }
            work();
        });
        if let Some(damaged) = failure.into_inner() {
            return Err(damaged);
        }
        head.restore_aliases(aliases)?;
        head.restore_metadata(find(Part::Metadata)?.checked()?)?;
        let mut reader = tombstones.checked()?;
        while !reader.is_empty() {
            let (series, mint, maxt) = (SeriesRef(reader.u64()?), reader.i64()?, reader.i64()?);
            // Deletions of a series that is not in the log yet cannot be: it has no sample.
            head.replay_tombstone(&Tombstone { series, mint, maxt });
        }
        let mut reader = find(Part::Expired)?.checked()?;
        while !reader.is_empty() {
            head.expire(SeriesRef(reader.u64()?), reader.u32()?);
        }
        let total = total.into_inner();
        head.metrics.series_created.fetch_add(total.series, Ordering::Relaxed);
        head.metrics.chunks_created.fetch_add(total.chunks, Ordering::Relaxed);
        head.metrics.stale_series.fetch_add(total.stale, Ordering::Relaxed);
        head.next_ref.fetch_max(basics.next_ref, Ordering::Relaxed);
        head.set_min_valid_time(basics.min_valid_time);
        head.min_time.store(basics.min_time, Ordering::Release);
        head.max_time.store(basics.max_time, Ordering::Release);
        Ok(head)
    }

    fn restore_symbols(&self, part: &SavedPart) -> Result<(), Damaged> {
        let mut reader = part.checked()?;
        let mut symbols = self.symbols.write();
        // A string takes at least its length.
        symbols.reserve((part.items as usize).min(part.bytes.len() / 4));
        for _ in 0..part.items {
            let text = match reader.u32()? {
                NO_STRING => None,
                len => {
                    let bytes = reader.take(len as usize)?;
                    Some(std::str::from_utf8(bytes).map_err(|_| Damaged("a string is not UTF-8"))?)
                }
            };
            if text.is_some_and(|text| text.len() > STRING_BYTES_MAX) {
                return Err(Damaged("a string is too long"));
            }
            symbols.restore_text(text).ok_or(Damaged("a string comes twice"))?;
        }
        reader.is_empty().then_some(()).ok_or(Damaged("more strings than said"))
    }

    fn restore_shard(
        &self,
        shard: usize,
        part: &SavedPart,
        schemas: &[Box<[u32]>],
        symbols: u64,
    ) -> Result<Restored, Damaged> {
        let mut reader = part.checked()?;
        let mut done = Restored::default();
        let mut data = self.shards[shard].data.write();
        data.reserve((part.items as usize).min(part.bytes.len() / SERIES_HEADER));
        let mut places = Vec::with_capacity(GROUP_SLOTS);
        let mut words = SmallVec::<[u32; 32]>::new();
        while !reader.is_empty() {
            let (reference, slot) = restore_series(&mut data, &mut reader, schemas, symbols, &mut words, &mut done)?;
            places.push((reference, Place::new(shard, slot)));
            if places.len() == GROUP_SLOTS || reader.is_empty() {
                let mut refs = self.refs.write();
                places.drain(..).for_each(|(reference, place)| refs.set(reference, place));
            }
        }
        if done.series != part.items {
            return Err(Damaged("more or fewer series than said"));
        }
        data.check_room().map_err(|_| Damaged("more chunks than the head can hold"))?;
        Ok(done)
    }

    fn restore_aliases(&self, part: &SavedPart) -> Result<(), Damaged> {
        let mut reader = part.checked()?;
        let mut refs = self.refs.write();
        while !reader.is_empty() {
            let (alias, own) = (reader.u64()?, reader.u64()?);
            // The series may have been left out, because it is not in the log yet; then so is its other name.
            let place = refs.get(own);
            if place != Place::NONE && refs.get(alias) == Place::NONE {
                refs.set_alias(alias, place);
            }
        }
        Ok(())
    }
}

fn read_schemas(part: &SavedPart, symbols: u64) -> Result<Vec<Box<[u32]>>, Damaged> {
    let mut reader = part.checked()?;
    let mut schemas = Vec::new();
    while !reader.is_empty() {
        let names = reader.u32()? as usize;
        if names > LABELS_MAX {
            return Err(Damaged("a series of too many labels"));
        }
        let mut schema = Vec::with_capacity(names);
        for _ in 0..names {
            schema.push(reader.u32()?);
        }
        if schema.iter().any(|id| u64::from(*id) >= symbols) {
            return Err(Damaged("a string is missing"));
        }
        schemas.push(schema.into());
    }
    Ok(schemas)
}

/// Restores the next series of a shard; returns its reference and slot.
fn restore_series(
    data: &mut ShardData,
    reader: &mut Reader<'_>,
    schemas: &[Box<[u32]>],
    symbols: u64,
    words: &mut SmallVec<[u32; 32]>,
    done: &mut Restored,
) -> Result<(u64, u32), Damaged> {
    let mut header = Reader(reader.take(SERIES_HEADER)?);
    let (hash, reference) = (header.u32()?, header.u64()?);
    let (n_words, n_completed, n_chunks) = (header.u16()?, header.u16()?, header.u32()?);
    let (len, count) = (header.u16()?, header.u16()?);
    let [free_bits, leading, trailing, last_byte] = header.array()?;
    let (next_cut, t, v, delta) = (header.i64()?, header.i64()?, f64::from_bits(header.u64()?), header.u64()?);
    words.clear();
    let raw = reader.take(usize::from(n_words) * 4)?;
    words.extend(raw.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])));
    let (schema, values) = words.split_first().ok_or(Damaged("a series without labels"))?;
    let names = schemas.get(*schema as usize).ok_or(Damaged("a list of label names is missing"))?;
    if names.is_empty() || names.len() != values.len() || values.iter().any(|id| u64::from(*id) >= symbols) {
        return Err(Damaged("a label is missing"));
    }
    let slot = data.create(hash, words, names, reference).ok_or(Damaged("more series than a shard can hold"))?;
    let open = XorState { t, v, delta, len, count, free_bits, leading, trailing, last_byte };
    let (mut encoding, mut end_foreseen, mut bytes_len) = (Encoding::Xor, false, usize::from(len));
    if len == WRITER_LEN {
        encoding = Encoding::from_byte(reader.u8()?).ok_or(Damaged("a chunk of no known encoding"))?;
        end_foreseen = reader.u8()? != 0;
        bytes_len = reader.u32()? as usize;
    }
    let bytes = reader.take(bytes_len)?;
    // The newest chunk comes first, and is the last to be linked.
    let mut chunks = SmallVec::<[Saved<'_>; 8]>::new();
    for _ in 0..n_chunks {
        chunks.push(read_chunk(reader)?);
    }
    let mut completed = arena::NONE;
    for chunk in chunks.iter().rev() {
        completed = data.arena.restore(slot, completed, chunk).ok_or(Damaged("a chunk is nowhere"))?;
    }
    let state = SlotState { open, next_cut, n_completed };
    let slabs = &mut data.slabs;
    let restored = match encoding {
        Encoding::Xor => Slot::restore(&state, bytes, completed, slabs),
        Encoding::Xor2 => Slot::restore_xor2(&state, bytes, completed, slabs),
        encoding => OpenHistogram::restore(encoding, end_foreseen, bytes)
            .and_then(|open| Slot::restore_histogram(&state, open, completed, slabs)),
    };
    let restored = restored.ok_or(Damaged("an open chunk is none"))?;
    done.series += 1;
    done.chunks += u64::from(n_chunks) + u64::from(count > 0);
    done.stale += i64::from(restored.last().is_some_and(|(_, v)| is_stale(v)));
    *data.slots.get_mut(slot) = restored;
    Ok((reference, slot))
}

fn read_chunk<'a>(reader: &mut Reader<'a>) -> Result<Saved<'a>, Damaged> {
    Ok(match reader.u8()? {
        CHUNK_IN_FILE => Saved::File { place: reader.u64()?, last_time: reader.i64()? },
        encoding => {
            let encoding = Encoding::from_byte(encoding).ok_or(Damaged("a chunk of no known encoding"))?;
            let (first_time, last_time, len) = (reader.i64()?, reader.i64()?, reader.u32()?);
            Saved::Staged { encoding, first_time, last_time, bytes: reader.take(len as usize)? }
        }
    })
}
