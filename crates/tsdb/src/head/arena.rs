//! Completed chunks of a shard: 20 bytes each, linked from the newest to the oldest of a series.
//!
//! ```text
//! entry   older u32 │ place u64 │ last time i64                                                    20 bytes
//! place   staged 1 │ encoding 3 │ span 13 │ file 20 │ offset 27                                    bits
//! ```
//!
//! The bytes of a chunk are *staged* in memory first (file and offset are a place in units of 8 bytes), in the order in which
//! chunks were completed, and later moved to a file of `chunks_head/` ([`crate::chunks_head`]): a maintenance step takes the
//! oldest staged chunks ([`Arena::staged`]), writes them without any lock, and then tells where they are
//! ([`Arena::moved`], [`Arena::release`]). So memory is given back from the old end of a queue of pages, page by page.
//!
//! Invariants: a chunk's bytes never change; a staged record knows its entry, and an entry that goes marks its staged
//! record, so a page can be walked without visiting series; the files of an entry have been written before it names them.

use std::collections::VecDeque;

use fk_chunk::Encoding;

use super::paged::Paged;
use crate::chunks_head::format::FILE_BYTES_MAX;
use crate::chunks_head::{FILE_NUMBER_MAX, FilePlace};

/// "No chunk".
pub(crate) const NONE: u32 = 0;

const OFFSET_BITS: u32 = 27;
const FILE_BITS: u32 = 20;
const SPAN_BITS: u32 = 13;
const FILE_SHIFT: u32 = OFFSET_BITS;
const SPAN_SHIFT: u32 = FILE_SHIFT + FILE_BITS;
const ENCODING_SHIFT: u32 = SPAN_SHIFT + SPAN_BITS;
const ENCODING_BITS: u32 = 3;
const STAGED: u64 = 1 << (ENCODING_SHIFT + ENCODING_BITS);
const _: () = assert!(ENCODING_SHIFT + ENCODING_BITS + 1 == u64::BITS);

const _: () = assert!(FILE_NUMBER_MAX >> FILE_BITS == 0 && FILE_BYTES_MAX <= 1 << OFFSET_BITS);

/// A span that is not known.
const SPAN_UNKNOWN: u64 = (1 << SPAN_BITS) - 1;

/// Staged bytes are addressed in units of so many bytes.
const UNIT: usize = 8;
/// Units of a page of staged chunks; a larger chunk has a page of its own.
const PAGE_UNITS: u64 = 1 << 15;
const PAGE_BYTES: usize = PAGE_UNITS as usize * UNIT;
/// With so many pages (2 GiB) waiting for a file the shard takes no more samples.
const PAGES_MAX: usize = 1 << 13;

/// With fewer free entries there is nothing to gain.
const ENTRIES_FREE_MIN: usize = 4096;

/// Entry u32, slot u32, first time i64, length u32, nothing u32.
const STAGED_HEADER: usize = 24;

/// The slot of a staged chunk that nobody needs any more.
const DEAD: u32 = u32::MAX;

/// A chunk that has just been completed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewChunk {
    /// The slot of its series.
    pub slot: u32,
    /// The chunk before it, [`NONE`] at the first.
    pub older: u32,
    pub encoding: Encoding,
    pub first_time: i64,
    pub last_time: i64,
}

/// A completed chunk as found in the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completed<'a> {
    /// The chunk before it, [`NONE`] at the oldest.
    pub older: u32,
    /// Time of its last sample.
    pub last_time: i64,
    pub encoding: Encoding,
    pub bytes: ChunkBytes<'a>,
}

/// Where the bytes of a completed chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkBytes<'a> {
    /// Here, with the time of the first sample.
    Staged(i64, &'a [u8]),
    /// In a file.
    File(FilePlace),
}

/// A completed chunk as the head's image keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved<'a> {
    /// With its bytes.
    Staged { encoding: Encoding, first_time: i64, last_time: i64, bytes: &'a [u8] },
    /// In a file: the place as in an entry.
    File { place: u64, last_time: i64 },
}

/// The file of a [`Saved::File`].
pub(crate) fn file_of(place: u64) -> u32 {
    (place >> FILE_SHIFT) as u32 & FILE_NUMBER_MAX
}

/// A chunk on its way to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged<'a> {
    /// For [`Arena::moved`].
    pub ticket: Ticket,
    /// The slot of its series.
    pub slot: u32,
    pub encoding: Encoding,
    pub first_time: i64,
    pub last_time: i64,
    pub bytes: &'a [u8],
}

/// Names a staged chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    entry: u32,
    unit: u64,
}

/// A position in the queue of staged chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    page: u64,
    at: usize,
}

/// A number that is split so that an entry needs no alignment beyond 4.
type Halves = [u32; 2];

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    older: u32,
    place: Halves,
    last_time: Halves,
}

const _: () = assert!(size_of::<Entry>() == 20);

fn halves(n: u64) -> Halves {
    [n as u32, (n >> 32) as u32]
}

fn whole(halves: Halves) -> u64 {
    u64::from(halves[0]) | u64::from(halves[1]) << 32
}

/// Completed chunks. See the module's text.
#[derive(Debug)]
pub(crate) struct Arena {
    /// Entry 0 is not used.
    entries: Paged<Entry>,
    /// First of the free entries, linked by `older`.
    free: u32,
    n_free: usize,
    /// Staged chunks, oldest first. Invariant: only the last page grows.
    pages: VecDeque<Vec<u8>>,
    /// Number of the first page.
    first_page: u64,
    /// Everything before this has been moved to files.
    moved_to: Position,
    /// Ms per unit of span.
    span_unit: i64,
}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new(2 * 60 * 60 * 1000)
    }
}

impl Arena {
    /// For chunks that seldom span more than `range_ms`.
    pub fn new(range_ms: i64) -> Arena {
        Arena {
            entries: Paged::default(),
            free: NONE,
            n_free: 0,
            pages: VecDeque::new(),
            first_page: 0,
            moved_to: Position::default(),
            span_unit: range_ms / (1 << (SPAN_BITS - 1)) + 1,
        }
    }

    /// Whether so little room is left that a batch might not fit.
    pub fn is_full(&self) -> bool {
        self.pages.len() > PAGES_MAX || self.entries.len() > 1 << 31
    }

    /// Keeps a completed chunk and returns its handle.
    pub fn push(&mut self, chunk: NewChunk, bytes: &[u8]) -> u32 {
        let size = (STAGED_HEADER + bytes.len()).next_multiple_of(UNIT);
        if self.pages.back().is_none_or(|page| page.len() + size > PAGE_BYTES) {
            // Grows by doubling, so that a small head stays small.
            self.pages.push_back(Vec::with_capacity(size.max(4096)));
        }
        let page_number = self.first_page + self.pages.len() as u64 - 1;
        let page = self.pages.back_mut().expect("pushed if there was none");
        let unit = page_number * PAGE_UNITS + (page.len() / UNIT) as u64;
        let span = chunk.last_time.saturating_sub(chunk.first_time).max(0);
        let span = ((span as u64).div_ceil(self.span_unit as u64)).min(SPAN_UNKNOWN);
        let place = STAGED | u64::from(chunk.encoding.byte()) << ENCODING_SHIFT | span << SPAN_SHIFT | unit;
        let entry = Entry { older: chunk.older, place: halves(place), last_time: halves(chunk.last_time as u64) };
        let handle = if self.free != NONE {
            let handle = self.free;
            let free = self.entries.get_mut(handle);
            self.free = free.older;
            self.n_free -= 1;
            *free = entry;
            handle
        } else {
            if self.entries.len() == 0 {
                self.entries.push(Entry::default());
            }
            self.entries.push(entry) as u32
        };
        let page = self.pages.back_mut().expect("not empty");
        let end = page.len() + size;
        page.extend_from_slice(&handle.to_le_bytes());
        page.extend_from_slice(&chunk.slot.to_le_bytes());
        page.extend_from_slice(&chunk.first_time.to_le_bytes());
        page.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.extend_from_slice(bytes);
        page.resize(end, 0);
        handle
    }

    /// The chunk with this handle, which is not [`NONE`].
    #[inline]
    pub fn get(&self, handle: u32) -> Completed<'_> {
        let entry = self.entries.get(handle);
        let place = whole(entry.place);
        let encoding = (place >> ENCODING_SHIFT) as u8 & ((1 << ENCODING_BITS) - 1);
        Completed {
            older: entry.older,
            last_time: whole(entry.last_time) as i64,
            encoding: Encoding::from_byte(encoding).expect("an encoding that was put in"),
            bytes: match place & STAGED {
                0 => ChunkBytes::File(FilePlace {
                    file: file_of(place),
                    offset: place as u32 & ((1 << OFFSET_BITS) - 1),
                }),
                _ => {
                    let (header, bytes) = self.record(unit_of(place));
                    let first_time = i64::from_le_bytes(*header[8..].first_chunk().expect("a whole header"));
                    ChunkBytes::Staged(first_time, bytes)
                }
            },
        }
    }

    /// Calls `each` with a chunk and all that are older, newest first, in a form that [`Arena::restore`] takes back.
    pub fn save_list(&self, newest: u32, mut each: impl FnMut(Saved<'_>)) {
        let mut next = newest;
        while next != NONE {
            let entry = self.entries.get(next);
            let place = whole(entry.place);
            let last_time = whole(entry.last_time) as i64;
            each(match place & STAGED {
                0 => Saved::File { place, last_time },
                _ => {
                    let (header, bytes) = self.record(unit_of(place));
                    let first_time = i64::from_le_bytes(*header[8..].first_chunk().expect("a whole header"));
                    Saved::Staged { encoding: self.get(next).encoding, first_time, last_time, bytes }
                }
            });
            next = entry.older;
        }
    }

    /// Keeps a saved chunk that is newer than `older`, for the series in `slot`. `None` if it cannot be one.
    pub fn restore(&mut self, slot: u32, older: u32, saved: &Saved<'_>) -> Option<u32> {
        match *saved {
            Saved::Staged { encoding, first_time, last_time, bytes } => {
                Some(self.push(NewChunk { slot, older, encoding, first_time, last_time }, bytes))
            }
            Saved::File { place, last_time } => {
                let encoding = (place >> ENCODING_SHIFT) as u8 & ((1 << ENCODING_BITS) - 1);
                if place & STAGED != 0 || place >> (ENCODING_SHIFT + ENCODING_BITS) != 0 || file_of(place) == 0 {
                    return None;
                }
                Encoding::from_byte(encoding)?;
                if self.entries.len() == 0 {
                    self.entries.push(Entry::default());
                }
                let entry = Entry { older, place: halves(place), last_time: halves(last_time as u64) };
                Some(self.entries.push(entry) as u32)
            }
        }
    }

    /// The oldest time the first sample of this chunk can have: exact but for a few thousandths of a block. `None` if that
    /// is not known.
    pub fn first_time_min(&self, handle: u32) -> Option<i64> {
        let entry = self.entries.get(handle);
        match whole(entry.place) >> SPAN_SHIFT & SPAN_UNKNOWN {
            SPAN_UNKNOWN => None,
            span => Some((whole(entry.last_time) as i64).saturating_sub(span as i64 * self.span_unit)),
        }
    }

    /// How many chunks there are from this one to the oldest.
    pub fn list_len(&self, newest: u32) -> usize {
        let (mut next, mut n) = (newest, 0);
        while next != NONE {
            (next, n) = (self.entries.get(next).older, n + 1);
        }
        n
    }

    /// Takes the chunks that end before `mint` off the list whose newest chunk is `newest`. Returns the newest chunk that
    /// stays, the oldest one that stays, and how many went.
    pub fn drop_before(&mut self, newest: u32, mint: i64) -> (u32, u32, usize) {
        let (mut kept, mut next) = (NONE, newest);
        while next != NONE {
            let entry = self.entries.get(next);
            if (whole(entry.last_time) as i64) < mint {
                break;
            }
            (kept, next) = (next, entry.older);
        }
        let dropped = self.drop_list(next);
        if kept == NONE {
            return (NONE, NONE, dropped);
        }
        self.entries.get_mut(kept).older = NONE;
        (newest, kept, dropped)
    }

    /// Drops a chunk and all that are older; says how many.
    pub fn drop_list(&mut self, newest: u32) -> usize {
        let (mut next, mut dropped) = (newest, 0);
        while next != NONE {
            let older = self.entries.get(next).older;
            self.free(next);
            (next, dropped) = (older, dropped + 1);
        }
        dropped
    }

    fn free(&mut self, handle: u32) {
        let place = whole(self.entries.get(handle).place);
        if place & STAGED != 0 {
            let (page, at) = self.locate(unit_of(place));
            self.pages[page][at + 4..at + 8].copy_from_slice(&DEAD.to_le_bytes());
        }
        *self.entries.get_mut(handle) = Entry { older: self.free, ..Entry::default() };
        self.free = handle;
        self.n_free += 1;
    }

    /// Page index and byte offset of a staged record.
    #[inline]
    fn locate(&self, unit: u64) -> (usize, usize) {
        ((unit / PAGE_UNITS - self.first_page) as usize, (unit % PAGE_UNITS) as usize * UNIT)
    }

    /// Header and bytes of a staged record.
    #[inline]
    fn record(&self, unit: u64) -> (&[u8], &[u8]) {
        let (page, at) = self.locate(unit);
        let record = &self.pages[page][at..];
        let len = u32::from_le_bytes(*record[16..].first_chunk().expect("records are whole"));
        (&record[..STAGED_HEADER], &record[STAGED_HEADER..STAGED_HEADER + len as usize])
    }

    /// Whether so many entries are free that [`Arena::compact`] is worth its while.
    pub fn is_sparse(&self) -> bool {
        self.n_free > ENTRIES_FREE_MIN && self.n_free > self.entries.len() / 2
    }

    /// Puts all entries side by side, those of a series in order, and gives the memory of the others back. `newest` are the
    /// newest chunks of all series, whose handles change. No ticket may be in anybody's hands.
    pub fn compact<'a>(&mut self, newest: impl Iterator<Item = &'a mut u32>) {
        let mut entries = Paged::default();
        entries.push(Entry::default());
        let mut list = Vec::new();
        for newest in newest.filter(|newest| **newest != NONE) {
            list.clear();
            let mut next = *newest;
            while next != NONE {
                let entry = *self.entries.get(next);
                list.push(entry);
                next = entry.older;
            }
            let mut older = NONE;
            for entry in list.iter().rev() {
                let handle = entries.push(Entry { older, ..*entry }) as u32;
                let place = whole(entry.place);
                if place & STAGED != 0 {
                    let (page, at) = self.locate(unit_of(place));
                    self.pages[page][at..at + 4].copy_from_slice(&handle.to_le_bytes());
                }
                older = handle;
            }
            *newest = older;
        }
        self.entries = entries;
        (self.free, self.n_free) = (NONE, 0);
    }

    // === Moving to files ===

    /// Calls `each` with the staged chunks that are still needed, oldest first, until it has had `bytes_max` bytes.
    /// Returns where it stopped, for [`Arena::release`]; `None` if nothing is staged.
    pub fn staged(&self, bytes_max: usize, mut each: impl FnMut(Staged<'_>)) -> Option<Position> {
        let mut bytes_left = bytes_max;
        let mut position = self.moved_to;
        for (idx, page) in self.pages.iter().enumerate() {
            let page_number = self.first_page + idx as u64;
            if page_number < position.page {
                continue;
            }
            let mut at = if page_number == position.page { position.at } else { 0 };
            while at < page.len() {
                let unit = page_number * PAGE_UNITS + (at / UNIT) as u64;
                let (header, data) = self.record(unit);
                let u32_at = |at: usize| u32::from_le_bytes(*header[at..].first_chunk().expect("a whole header"));
                let (entry, slot) = (u32_at(0), u32_at(4));
                at += (STAGED_HEADER + data.len()).next_multiple_of(UNIT);
                position = Position { page: page_number, at };
                if slot != DEAD {
                    let chunk = self.get(entry);
                    each(Staged {
                        ticket: Ticket { entry, unit },
                        slot,
                        encoding: chunk.encoding,
                        first_time: i64::from_le_bytes(*header[8..].first_chunk().expect("a whole header")),
                        last_time: chunk.last_time,
                        bytes: data,
                    });
                }
                bytes_left = bytes_left.saturating_sub(STAGED_HEADER + data.len());
                if bytes_left == 0 {
                    return Some(position);
                }
            }
        }
        (position != self.moved_to).then_some(position)
    }

    /// A staged chunk is in a file now. No effect if it is not needed any more.
    pub fn moved(&mut self, ticket: Ticket, to: FilePlace) {
        debug_assert!((1..=FILE_NUMBER_MAX).contains(&to.file) && to.offset < 1 << OFFSET_BITS);
        let (page, at) = self.locate(ticket.unit);
        if self.pages[page][at + 4..at + 8] == DEAD.to_le_bytes() {
            return;
        }
        let entry = self.entries.get_mut(ticket.entry);
        let kept = whole(entry.place) & !STAGED >> SPAN_SHIFT << SPAN_SHIFT;
        entry.place = halves(kept | u64::from(to.file) << FILE_SHIFT | u64::from(to.offset));
    }

    /// Gives back the memory of the staged chunks before `position`, all of which have been moved.
    pub fn release(&mut self, position: Position) {
        self.moved_to = position;
        while let Some(page) = self.pages.front() {
            if self.first_page > position.page || (self.first_page == position.page && position.at < page.len()) {
                break;
            }
            self.pages.pop_front();
            self.first_page += 1;
        }
        if self.pages.is_empty() {
            self.pages = VecDeque::new();
        }
    }

    /// Bytes of staged chunks.
    pub fn staged_bytes(&self) -> usize {
        let total: usize = self.pages.iter().map(Vec::len).sum();
        total - if self.moved_to.page == self.first_page && !self.pages.is_empty() { self.moved_to.at } else { 0 }
    }

    /// How many chunks there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len().saturating_sub(1) - self.n_free
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.pages.iter().map(|p| p.capacity()).sum::<usize>()
    }
}

/// The unit at which a staged chunk begins.
fn unit_of(place: u64) -> u64 {
    place & ((1 << SPAN_SHIFT) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(n: usize) -> Vec<u8> {
        vec![n as u8; 1 + n * 37 % 1100]
    }

    proptest! {
        /// Chunks of several series are completed, moved and dropped in any order; all that were not dropped come back.
        #[test]
        fn chunks_come_back_wherever_they_are(
            steps in prop::collection::vec((0u8..8, 0usize..5, 0i64..40, 1usize..200_000), 1..400),
        ) {
            let mut arena = Arena::new(1000);
            let mut newest = [NONE; 5];
            let mut model: [Vec<(i64, Vec<u8>)>; 5] = Default::default();
            let mut file: Vec<Vec<u8>> = Vec::new();
            for (n, (what, series, back, bytes_max)) in steps.into_iter().enumerate() {
                let now = n as i64 * 10;
                match what {
                    0 => {
                        let mut moved = Vec::new();
                        if let Some(position) = arena.staged(bytes_max, |s| moved.push((s.ticket, s.bytes.to_vec()))) {
                            // Meanwhile chunks go and come.
                            newest[0] = arena.drop_before(newest[0], now - back * 10).0;
                            model[0].retain(|c| c.0 >= now - back * 10);
                            for (ticket, bytes) in moved {
                                file.push(bytes);
                                arena.moved(ticket, FilePlace { file: 3, offset: file.len() as u32 - 1 });
                            }
                            arena.release(position);
                        }
                    }
                    2 if n % 3 == 0 => arena.compact(newest.iter_mut()),
                    1 => {
                        let mint = now - back * 10;
                        let before = model[series].len();
                        model[series].retain(|c| c.0 >= mint);
                        let (kept, oldest, dropped) = arena.drop_before(newest[series], mint);
                        newest[series] = kept;
                        prop_assert_eq!(dropped, before - model[series].len());
                        prop_assert_eq!(kept == NONE, oldest == NONE);
                    }
                    _ => {
                        let bytes = bytes_of(n);
                        let chunk = NewChunk {
                            slot: series as u32,
                            older: newest[series],
                            encoding: Encoding::Xor,
                            first_time: now - 5,
                            last_time: now,
                        };
                        newest[series] = arena.push(chunk, &bytes);
                        let first = arena.first_time_min(newest[series]).unwrap();
                        prop_assert!(first <= now - 5 && first >= now - 6, "{first} {now}");
                        model[series].push((now, bytes));
                    }
                }
            }
            for (newest, model) in newest.iter().zip(&model) {
                let mut next = *newest;
                for (last_time, bytes) in model.iter().rev() {
                    let chunk = arena.get(next);
                    let found = match chunk.bytes {
                        ChunkBytes::Staged(_, bytes) => bytes,
                        ChunkBytes::File(place) => &file[place.offset as usize],
                    };
                    prop_assert_eq!((chunk.last_time, found), (*last_time, &bytes[..]));
                    next = chunk.older;
                }
                prop_assert_eq!(next, NONE);
            }
            prop_assert_eq!(arena.len(), model.iter().map(Vec::len).sum::<usize>());
            // Once everything has been moved nothing but the entries takes memory.
            while let Some(position) = arena.staged(usize::MAX, |_| {}) {
                arena.release(position);
            }
            prop_assert_eq!((arena.staged_bytes(), arena.pages.len()), (0, 0));
        }
    }

    #[test]
    fn a_chunk_larger_than_a_page_is_kept() {
        let mut arena = Arena::default();
        let (mut older, large) = (NONE, vec![7; PAGE_BYTES * 3]);
        for (n, bytes) in [&[1][..], &large, &[2]].into_iter().enumerate() {
            let time = n as i64;
            let chunk = NewChunk { slot: 0, older, encoding: Encoding::Histogram, first_time: time, last_time: time };
            older = arena.push(chunk, bytes);
        }
        let middle = arena.get(arena.get(older).older);
        assert_eq!((middle.bytes, middle.encoding), (ChunkBytes::Staged(1, &large), Encoding::Histogram));
    }
}
