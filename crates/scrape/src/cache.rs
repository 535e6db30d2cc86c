//! The layout cache of one target: what the last scrape looked like, byte by byte.
//!
//! ```text
//! body     # TYPE a counter\n   a{x="1"}␣  5\n   a{x="2"}␣  7\n   # TYPE b gauge\n   b␣  1\n   # trailer
//! layout   └ block ─────────┘  └ entry 0 ┘      └ entry 1 ┘      └ block ───────┘ └ e2 ┘     └ tail ───┘
//!          └ item 0 ─────────────────────┘      └ item 1 ─┘      └ item 2 ─────────────┘
//! ```
//!
//! An [`Item`] is one sample of the last scrape: the comments before it (its block, usually none) and an [`Entry`], which is a
//! series: its text up to the value, and what that text was found to mean. A scrape walks the items along the body.
//! As long as the bytes agree, a sample costs a comparison, a float and a push: no lexing, no hashing, no labels. Where they
//! disagree, the walk looks a few items ahead (lines have gone), then asks the table of all known texts (lines have
//! moved), and only then is the line really read. Such a scrape writes a new layout as it goes.
//!
//! What is looked at is bytes, so text that differs only in blanks is another series text; so it is in Prometheus.
//!
//! Staleness needs no list: an entry knows the number of the scrape that tracked it last. If all that the scrape before
//! tracked were tracked again, which counting shows, there is nothing to mark; otherwise one walk over the entries
//! finds those left behind.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use fk_exposition::{MetricType, scan_float};
use fk_storage::SeriesRef;

use crate::labels::DroppedBy;
use crate::texts::{Cutter, Place, Texts};

/// How many items ahead are tried when a line does not fit: more than that at once is a change for which the table is fine.
const LOOKAHEAD: usize = 4;

/// Entries that scrapes which failed may leave behind: this, and twice as many as the last good scrape had. (As Prometheus.)
const LEFTOVER_ENTRIES: usize = 1000;

/// Bytes of text of one target. Lengths have 28 bits.
const TEXT_BYTES_MAX: usize = (1 << 28) - 1;

/// The number of a scrape of one loop, from 1.
pub(crate) type ScrapeNo = u32;

/// What a series text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Stored as this series.
    Stored(SeriesRef),
    /// Dropped by relabelling.
    Dropped(DroppedBy),
    /// No entry: the place can be used again.
    Free,
}

/// One series as the target writes it: 32 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The reference; [`DROPPED`], [`FREE`].
    meaning: u64,
    text: Place,
    /// From the lowest bit: whether a blank follows in the text of the cache, which is compared together with the series
    /// (1 bit); the type in effect when the entry was made, for labels can be made again from the text (3); its length.
    shape: u32,
    /// The last scrape that had it.
    pub(crate) seen: ScrapeNo,
    /// The last scrape that had it and tracks it for staleness.
    pub(crate) tracked: ScrapeNo,
    /// Its item in the layout. Only a hint.
    place: u32,
}

/// References count up from 1, so these are none.
const FREE: u64 = u64::MAX;
/// Less the number of what dropped it.
const DROPPED: u64 = u64::MAX - 1;
const DROPPED_LAST: u64 = DROPPED - u16::MAX as u64;

impl Entry {
    /// See [`Meaning`].
    #[inline]
    pub(crate) fn meaning(&self) -> Meaning {
        match self.meaning {
            FREE => Meaning::Free,
            DROPPED_LAST..=DROPPED => Meaning::Dropped(DroppedBy((DROPPED - self.meaning) as u16)),
            series => Meaning::Stored(SeriesRef(series)),
        }
    }

    /// See [`Meaning`].
    pub(crate) fn set_meaning(&mut self, meaning: Meaning) {
        self.meaning = match meaning {
            Meaning::Stored(series) => series.0,
            Meaning::Dropped(by) => DROPPED - u64::from(by.0),
            Meaning::Free => FREE,
        };
    }

    fn shape(text: &[u8], blank: &[u8], kind: MetricType) -> u32 {
        let kind = KINDS.iter().position(|k| *k == kind).unwrap_or(0);
        (text.len() as u32) << 4 | (kind as u32) << 1 | blank.len() as u32 & 1
    }

    fn kind(&self) -> MetricType {
        KINDS[(self.shape >> 1) as usize % KINDS.len()]
    }

    #[inline]
    fn len(&self) -> usize {
        (self.shape >> 4) as usize
    }

    /// With the blank.
    #[inline]
    fn full_len(&self) -> usize {
        self.len() + (self.shape & 1) as usize
    }
}

const KINDS: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

/// One sample of the layout.
#[derive(Clone, Copy, Debug)]
struct Item {
    entry: u32,
    /// Index of the block before it, plus one; 0: none.
    block: u32,
    /// The type in effect behind it.
    kind: MetricType,
}

/// See the module.
#[derive(Debug, Default)]
struct Layout {
    items: Vec<Item>,
    /// Ends of the blocks in `block_text`.
    block_ends: Vec<u32>,
    block_text: Vec<u8>,
    /// What follows the last sample.
    tail: Vec<u8>,
}

impl Layout {
    fn block(&self, block: u32) -> &[u8] {
        let Some(idx) = (block as usize).checked_sub(1) else { return &[] };
        let start = if idx == 0 { 0 } else { self.block_ends[idx - 1] };
        &self.block_text[start as usize..self.block_ends[idx] as usize]
    }

    fn push(&mut self, block: &[u8], entry: u32, kind: MetricType) {
        let mut block_no = 0;
        if !block.is_empty() {
            self.block_text.extend_from_slice(block);
            self.block_ends.push(self.block_text.len() as u32);
            block_no = self.block_ends.len() as u32;
        }
        self.items.push(Item { entry, block: block_no, kind });
    }

    /// Gives back what growing has taken too much.
    fn shrink(&mut self) {
        self.items.shrink_to_fit();
        self.block_ends.shrink_to_fit();
        self.block_text.shrink_to_fit();
    }

    fn clear(&mut self) {
        self.items.clear();
        self.block_ends.clear();
        self.block_text.clear();
        self.tail.clear();
    }
}

/// The caches of one target.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    layout: Layout,
    /// The layout being written by a scrape that differs.
    next: Layout,
    pub(crate) entries: Vec<Entry>,
    free: Vec<u32>,
    table: HashTable<u32>,
    /// Series texts, each with the blank behind it.
    texts: Texts,
    /// Bytes of `texts` that belong to no entry any more.
    garbage: usize,
    /// Entries after the last good scrape.
    good_count: usize,
}

/// A line that was recognised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) entry: u32,
    /// Where its value starts.
    pub(crate) value_at: usize,
    /// The value and where the next line starts, if it was easily read.
    pub(crate) value: Option<(f64, usize)>,
}

impl SeriesCache {
    /// How many series texts are known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// How many samples the layout has.
    pub(crate) fn layout_len(&self) -> usize {
        self.layout.items.len()
    }

    /// Whether the body goes on at `pos` with the sample at `place` of the layout.
    // Part of the loop that nearly all samples come through.
    #[inline(always)]
    pub(crate) fn known_at(&self, body: &[u8], pos: usize, place: usize) -> Option<Known> {
        let item = self.layout.items.get(place)?;
        let mut at = pos;
        if item.block != 0 {
            let block = self.layout.block(item.block);
            if !body.get(at..)?.starts_with(block) {
                return None;
            }
            at += block.len();
        }
        let entry = self.entries.get(item.entry as usize)?;
        let len = entry.full_len();
        let text = self.texts.get(entry.text, len);
        let rest = body.get(at..)?;
        if !rest.starts_with(text) {
            return None;
        }
        let value = scan_float(&rest[len..]).map(|(value, end)| (value, at + len + end + 1));
        Some(Known { entry: item.entry, value_at: at + len, value })
    }

    /// The same for the places directly behind `place`: lines may have gone.
    pub(crate) fn known_ahead(&self, body: &[u8], pos: usize, place: usize) -> Option<(usize, Known)> {
        (place..place + LOOKAHEAD).find_map(|place| Some((place, self.known_at(body, pos, place)?)))
    }

    /// Whether the body ends at `pos` as the layout does.
    pub(crate) fn is_tail(&self, body: &[u8], pos: usize) -> bool {
        body.get(pos..).unwrap_or_default() == self.layout.tail
    }

    // === writing a new layout ===

    /// Begins a layout whose first `kept` samples are those of the old one. Returns the type in effect behind them.
    pub(crate) fn start_layout(&mut self, kept: usize) -> MetricType {
        self.next.clear();
        for item in &self.layout.items[..kept] {
            self.next.push(self.layout.block(item.block), item.entry, item.kind);
        }
        self.next.items.last().map_or(MetricType::Unknown, |item| item.kind)
    }

    /// Adds a sample that was found where the old layout has it; returns the type in effect behind it.
    pub(crate) fn keep_item(&mut self, place: usize) -> MetricType {
        let item = self.layout.items[place];
        self.next.push(self.layout.block(item.block), item.entry, item.kind);
        item.kind
    }

    /// Adds a sample. `block` is what stands before it.
    pub(crate) fn push_item(&mut self, block: &[u8], entry: u32, kind: MetricType) {
        self.next.push(block, entry, kind);
    }

    /// Ends the layout and puts it into use.
    pub(crate) fn finish_layout(&mut self, tail: &[u8]) {
        self.next.tail.extend_from_slice(tail);
        std::mem::swap(&mut self.layout, &mut self.next);
        // Layouts change seldom: the memory is not kept for the next time.
        self.next = Layout::default();
        self.layout.shrink();
        for (place, item) in self.layout.items.iter().enumerate() {
            self.entries[item.entry as usize].place = place as u32;
        }
        if self.texts.is_mostly_own() {
            self.cut_texts();
            self.entries.shrink_to_fit();
        }
    }

    /// Lays the texts out in the order of the layout, which is how they are read, and shares them with other targets.
    fn cut_texts(&mut self) {
        let mut cutter = Cutter::default();
        let mut done = vec![false; self.entries.len()];
        let in_layout = self.layout.items.iter().map(|item| item.entry);
        for idx in in_layout.chain(0..self.entries.len() as u32) {
            let entry = &mut self.entries[idx as usize];
            if entry.meaning != FREE && !std::mem::replace(&mut done[idx as usize], true) {
                entry.text = cutter.push(self.texts.get(entry.text, entry.full_len()));
            }
        }
        self.texts = cutter.finish();
        self.garbage = 0;
    }

    /// Calls `found` with every piece of the layout that may hold metadata.
    pub(crate) fn for_each_block(&self, mut found: impl FnMut(&[u8])) {
        for block in 1..=self.layout.block_ends.len() {
            found(self.layout.block(block as u32));
        }
        found(&self.layout.tail);
    }

    /// Before a scrape that is not read along a layout: the next one that is begins anew.
    pub(crate) fn start_without_layout(&mut self) {
        if !self.layout.items.is_empty() || !self.layout.tail.is_empty() {
            self.layout = Layout::default();
        }
    }

    /// Behind such a scrape.
    pub(crate) fn finish_without_layout(&mut self) {
        if self.texts.is_mostly_own() {
            self.cut_texts();
            self.entries.shrink_to_fit();
        }
    }

    // === the table ===

    fn hash(text: &[u8]) -> u64 {
        // The seed is fixed: a target that makes its own texts collide only slows down its own scrapes, within its timeout.
        FixedState::with_seed(0).hash_one(text)
    }

    /// The series text of an entry and the type in effect when it was made.
    pub(crate) fn series_text(&self, idx: u32) -> (&[u8], MetricType) {
        let entry = &self.entries[idx as usize];
        (text_of(&self.texts, entry), entry.kind())
    }

    /// The entry with this text, and the place behind that of its sample in the layout, if it has one.
    pub(crate) fn find(&self, text: &[u8]) -> Option<(u32, Option<usize>)> {
        let same = |idx: &u32| text_of(&self.texts, &self.entries[*idx as usize]) == text;
        let idx = *self.table.find(Self::hash(text), same)?;
        let place = self.entries[idx as usize].place as usize;
        let in_layout = self.layout.items.get(place).is_some_and(|item| item.entry == idx);
        Some((idx, in_layout.then_some(place + 1)))
    }

    /// Makes an entry for a text that has none. `text` may be followed by a blank in the body, given as `blank`. `None` if the
    /// cache cannot take more text.
    pub(crate) fn insert(&mut self, text: &[u8], blank: &[u8], kind: MetricType, meaning: Meaning) -> Option<u32> {
        if self.texts.len() + text.len() + blank.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut entry = Entry {
            meaning: FREE,
            text: self.texts.push(text, blank),
            shape: Entry::shape(text, blank, kind),
            seen: 0,
            tracked: 0,
            place: u32::MAX,
        };
        entry.set_meaning(meaning);
        let idx = match self.free.pop() {
            Some(idx) => {
                self.entries[idx as usize] = entry;
                idx
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).ok()?
            }
        };
        let (entries, texts) = (&self.entries, &self.texts);
        let rehash = |idx: &u32| Self::hash(text_of(texts, &entries[*idx as usize]));
        self.table.insert_unique(Self::hash(text), idx, rehash);
        Some(idx)
    }

    /// What dropped how many of the series that a scrape had, in order of rules.
    pub(crate) fn dropped_by(&self, now: ScrapeNo) -> Vec<(DroppedBy, u64)> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.seen == now) {
            if let Meaning::Dropped(by) = entry.meaning() {
                *counts.entry(by).or_insert(0) += 1;
            }
        }
        counts.into_iter().collect()
    }

    // === the end of a scrape ===

    /// Behind a good scrape with `seen` entries: forgets all others.
    pub(crate) fn end_good(&mut self, now: ScrapeNo, seen: usize) {
        if seen < self.len() {
            self.forget_unseen(now);
        }
        self.good_count = self.len();
    }

    /// Behind any other scrape. Those keep what they have learnt, within bounds. Returns whether those were reached.
    pub(crate) fn end_other(&mut self, now: ScrapeNo) -> bool {
        if self.len() <= 2 * self.good_count + LEFTOVER_ENTRIES {
            return false;
        }
        // The layout may refer to what is forgotten.
        self.layout.clear();
        self.forget_unseen(now);
        self.good_count = self.len();
        true
    }

    fn forget_unseen(&mut self, now: ScrapeNo) {
        for idx in 0..self.entries.len() as u32 {
            let entry = &self.entries[idx as usize];
            if entry.seen == now || entry.meaning == FREE {
                continue;
            }
            let hash = Self::hash(text_of(&self.texts, entry));
            if let Ok(found) = self.table.find_entry(hash, |other| *other == idx) {
                found.remove();
            }
            let entry = &mut self.entries[idx as usize];
            self.garbage += entry.full_len();
            entry.meaning = FREE;
            self.free.push(idx);
        }
        if self.garbage > self.texts.len() / 2 {
            self.compact();
        }
    }

    /// Throws away entries and texts that are not used. The rest comes in the order of the layout.
    fn compact(&mut self) {
        self.cut_texts();
        let mut entries = Vec::with_capacity(self.len());
        let mut moved = vec![u32::MAX; self.entries.len()];
        let in_layout = self.layout.items.iter().map(|item| item.entry);
        for idx in in_layout.chain(0..self.entries.len() as u32) {
            let entry = &self.entries[idx as usize];
            if moved[idx as usize] == u32::MAX && entry.meaning != FREE {
                moved[idx as usize] = entries.len() as u32;
                entries.push(entry.clone());
            }
        }
        for item in &mut self.layout.items {
            item.entry = moved[item.entry as usize];
        }
        self.table.clear();
        for (idx, entry) in entries.iter().enumerate() {
            let rehash = |idx: &u32| Self::hash(text_of(&self.texts, &entries[*idx as usize]));
            self.table.insert_unique(Self::hash(text_of(&self.texts, entry)), idx as u32, rehash);
        }
        self.entries = entries;
        self.free = Vec::new();
    }
}

fn text_of<'t>(texts: &'t Texts, entry: &Entry) -> &'t [u8] {
    texts.get(entry.text, entry.len())
}
