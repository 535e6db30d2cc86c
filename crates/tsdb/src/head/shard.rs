//! One shard: a part of the series with everything that belongs to them, behind one lock.

use std::sync::atomic::AtomicU64;

use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use fk_model::Labels;
use fk_storage::StorageError;

use super::arena::Arena;
use super::buffers::Slabs;
use super::metadata::ShardMetadata;
use super::ooo::OooShard;
use super::paged::{Paged, Words};
use super::postings::{Postings, SLOTS_MAX};
use super::slot::Slot;
use super::symbols::{SymbolId, Symbols};
use super::tombstones::Tombstones;

/// A shard and its locks. Order of locks: `gate` before `data`; several shards ascending.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Held by an append from before it looks at the slots until they have changed, so that what it checked still holds
    /// after its write to the log. Readers do not take it: they never wait for the disk.
    pub gate: Mutex<Gate>,
    /// The series. Held for writing only while memory changes.
    pub data: RwLock<ShardData>,
    /// Counts removals of series; changed behind them, with the gate held. An append that looked up places before it had
    /// the gate notices by this that they may be out of date.
    pub removals: AtomicU64,
}

impl Shard {
    /// Without series; chunks seldom span more than `range_ms`.
    pub fn new(range_ms: i64) -> Shard {
        let data = ShardData { arena: Arena::new(range_ms), ..ShardData::default() };
        Shard { gate: Mutex::default(), data: RwLock::new(data), removals: AtomicU64::new(0) }
    }
}

/// What appends remember of the batch at hand: 4 bytes per series.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Per slot: `base` plus the index of the last accepted sample of this batch; less than `base` if there is none.
    marks: Vec<u32>,
    base: u32,
    next_base: u32,
}

impl Gate {
    /// Begins a batch of `samples` samples over `slots` slots.
    pub fn begin(&mut self, samples: usize, slots: usize) {
        if self.marks.len() < slots {
            self.marks.resize(slots, 0);
        }
        self.base = self.next_base.max(1);
        match self.base.checked_add(samples as u32) {
            Some(next) => self.next_base = next,
            None => {
                self.marks.fill(0);
                (self.base, self.next_base) = (1, 1 + samples as u32);
            }
        }
    }

    /// Index of the last accepted sample of this batch in `slot`.
    #[inline]
    pub fn last_in_batch(&self, slot: u32) -> Option<usize> {
        self.marks[slot as usize].checked_sub(self.base).map(|idx| idx as usize)
    }

    /// Sample `idx` of the batch is accepted into `slot`.
    #[inline]
    pub fn accept(&mut self, slot: u32, idx: usize) {
        self.marks[slot as usize] = self.base + idx as u32;
    }

    /// The same, unless another one was accepted before; says whether there was none.
    #[inline]
    pub fn accept_first(&mut self, slot: u32, idx: usize) -> bool {
        let mark = &mut self.marks[slot as usize];
        let first = *mark < self.base;
        *mark = self.base + idx as u32;
        first
    }

    /// Gives back the memory for slots beyond `slots`.
    pub fn shrink(&mut self, slots: usize) {
        if slots < self.marks.len() {
            self.marks.truncate(slots);
            self.marks.shrink_to_fit();
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.marks.capacity() * 4
    }
}

/// What a series has beside its slot: 16 bytes, cold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Info {
    pub reference: u64,
    words: u32,
    words_len: u16,
}

#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    hash: u32,
    slot: u32,
}

/// The series of a shard.
///
/// Slots of removed series are *vacant*: they have no chunk, no label, reference 0, and nothing leads to them. New series
/// take the lowest vacant slot. Whoever keeps slot numbers while the lock is not held (a search, a series set) has to
/// notice that a slot has another series: by [`ShardData::epoch`], or by the reference of the series.
///
/// Some series have more than a slot: what they have is in a map by slot beside the slots. [`ShardData::remove`] has to take it
/// away, and `is_old` in `truncate.rs` has to know what keeps a series alive.
#[derive(Debug, Default)]
pub(crate) struct ShardData {
    pub slots: Paged<Slot>,
    pub info: Paged<Info>,
    words: Words,
    /// From the hash of the labels to the slot.
    index: HashTable<IndexEntry>,
    pub postings: Postings,
    pub slabs: Slabs,
    pub arena: Arena,
    /// Out-of-order samples.
    pub ooo: OooShard,
    /// What was deleted.
    pub tombstones: Tombstones,
    /// What the series are.
    pub metadata: ShardMetadata,
    /// Slots without series.
    vacant: RoaringBitmap,
    /// Vacant slots that have got a series since the epoch began.
    reused: Vec<u32>,
    /// Counts the times that series were removed.
    epoch: u64,
}

/// What there was at some moment, to tell later what is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub epoch: u64,
    pub n_slots: u32,
    n_reused: usize,
}

/// The table keeps 32 bits of the hash, so that it can grow without looking at any label.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl ShardData {
    /// Refuses samples when the handles of chunks are nearly used up, long after any machine's memory.
    pub fn check_room(&self) -> Result<(), StorageError> {
        match self.arena.is_full() || self.slabs.is_full() {
            true => Err(StorageError::ReadOnly("the head takes no more chunks".to_owned())),
            false => Ok(()),
        }
    }

    /// The slot of the series with these labels.
    pub fn find(&self, hash: u32, labels: &Labels, symbols: &Symbols) -> Option<u32> {
        let same = |e: &IndexEntry| e.hash == hash && symbols.equal(self.words_of(e.slot), labels);
        self.index.find(spread(hash), same).map(|e| e.slot)
    }

    /// The slot of the series with these label ids.
    pub fn find_words(&self, hash: u32, words: &[u32]) -> Option<u32> {
        self.index.find(spread(hash), |e| e.hash == hash && self.words_of(e.slot) == words).map(|e| e.slot)
    }

    /// Makes a series that does not exist yet; `names` are those of the schema. `None` if the shard is full.
    pub fn create(&mut self, hash: u32, words: &[u32], names: &[u32], reference: u64) -> Option<u32> {
        if self.slots.len() >= SLOTS_MAX && self.vacant.is_empty() {
            return None;
        }
        let info = Info { reference, words: self.words.push(words)?, words_len: words.len() as u16 };
        let slot = match self.vacant.min() {
            Some(slot) => {
                self.vacant.remove(slot);
                self.reused.push(slot);
                (*self.info.get_mut(slot), *self.slots.get_mut(slot)) = (info, Slot::fresh());
                slot
            }
            None => {
                self.info.push(info);
                self.slots.push(Slot::fresh()) as u32
            }
        };
        self.index.insert_unique(spread(hash), IndexEntry { hash, slot }, |e| spread(e.hash));
        self.postings.add(slot, names, &words[1..]);
        Some(slot)
    }

    /// How many series there are.
    pub fn n_series(&self) -> usize {
        self.index.len()
    }

    /// The slots that have a series.
    pub fn occupied(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.slots.len() as u32);
        all - &self.vacant
    }

    /// Whether a slot has the series with this reference, and not another one since.
    #[inline]
    pub fn has(&self, slot: u32, reference: u64) -> bool {
        self.info.find(slot).is_some_and(|info| info.reference == reference)
    }

    /// What there is now.
    pub fn extent(&self) -> Extent {
        Extent { epoch: self.epoch, n_slots: self.slots.len() as u32, n_reused: self.reused.len() }
    }

    /// The slots that have got a series since `extent` of the same epoch.
    pub fn created_since(&self, extent: &Extent) -> impl Iterator<Item = u32> + '_ {
        let reused = self.reused.get(extent.n_reused..).unwrap_or_default();
        reused.iter().copied().chain(extent.n_slots..self.slots.len() as u32)
    }

    /// Takes series away, without leaving a trace but a vacant slot each. `hashes` are those of their labels, `pairs` their
    /// label pairs, each once, in order. The caller holds the gate.
    pub fn remove(&mut self, slots: &[(u32, u32)], pairs: &[(SymbolId, SymbolId)]) {
        let mut gone = RoaringBitmap::new();
        for &(slot, hash) in slots {
            if let Ok(entry) = self.index.find_entry(spread(hash), |e| e.slot == slot) {
                entry.remove();
            }
            let info = std::mem::take(self.info.get_mut(slot));
            self.words.free(info.words, usize::from(info.words_len));
            self.slots.get_mut(slot).clear(&mut self.slabs, &mut self.arena);
            self.tombstones.remove(slot);
            self.metadata.remove(slot);
            gone.insert(slot);
        }
        self.postings.remove(&gone, pairs);
        self.vacant |= gone;
        self.reused.clear();
        self.epoch += 1;
    }

    /// Moves the labels of a series if their page is nearly empty otherwise.
    pub fn tidy_words(&mut self, slot: u32) {
        let info = *self.info.get(slot);
        if info.reference != 0 && self.words.is_sparse(info.words) {
            let run = self.words_of(slot).to_vec();
            if let Some(words) = self.words.push(&run) {
                self.words.free(info.words, run.len());
                self.info.get_mut(slot).words = words;
            }
        }
    }

    /// Gives memory back after series and chunks have been removed. Nobody moves chunks to files meanwhile.
    pub fn tidy(&mut self) {
        self.postings.tidy();
        self.metadata.tidy();
        let mut len = self.slots.len() as u32;
        while len > 0 && self.vacant.remove(len - 1) {
            len -= 1;
        }
        if (len as usize) < self.slots.len() {
            self.slots.truncate(len as usize);
            self.info.truncate(len as usize);
            self.reused.clear();
            self.epoch += 1;
        }
        self.vacant.optimize();
        if self.arena.is_sparse() {
            self.arena.compact(self.slots.iter_mut().map(Slot::completed_mut));
        }
        if self.index.len() * 4 < self.index.capacity() {
            self.index.shrink_to_fit(|e| spread(e.hash));
        }
    }

    /// The label ids of a series: schema, values.
    #[inline]
    pub fn words_of(&self, slot: u32) -> &[u32] {
        let info = self.info.get(slot);
        &self.words.from(info.words)[..usize::from(info.words_len)]
    }

    /// The hash of the labels of each series, by slot; 0 for slots without one.
    pub fn hashes(&self) -> Vec<u32> {
        let mut hashes = vec![0; self.slots.len()];
        for entry in &self.index {
            hashes[entry.slot as usize] = entry.hash;
        }
        hashes
    }

    /// Makes room in the table of labels for so many series.
    pub fn reserve(&mut self, series: usize) {
        self.index.reserve(series, |e| spread(e.hash));
    }

    /// Bytes of memory by use, for the statistics and the benches.
    pub fn memory(&self) -> [(&'static str, usize); 9] {
        [
            ("slots", self.slots.memory_bytes()),
            ("open chunks", self.slabs.memory_bytes()),
            ("completed chunks", self.arena.memory_bytes()),
            ("labels", self.words.memory_bytes() + self.info.memory_bytes()),
            ("label table", self.index.allocation_size()),
            ("postings", self.postings.memory_bytes()),
            ("out-of-order samples", self.ooo.memory_bytes()),
            ("deletions", self.tombstones.memory_bytes()),
            ("metadata", self.metadata.memory_bytes()),
        ]
    }
}
