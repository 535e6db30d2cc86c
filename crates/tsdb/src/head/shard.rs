//! One shard: a part of the series with everything that belongs to them, behind one lock.

use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};

use fk_model::Labels;
use fk_storage::StorageError;

use super::arena::Arena;
use super::buffers::Slabs;
use super::ooo::OooShard;
use super::paged::{Paged, Words};
use super::postings::{Postings, SLOTS_MAX};
use super::slot::Slot;
use super::symbols::Symbols;
use super::tombstones::Tombstones;

/// A shard and its locks. Order of locks: `gate` before `data`; several shards ascending.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Held by an append from before it looks at the slots until they have changed, so that what it checked still holds
    /// after its write to the log. Readers do not take it: they never wait for the disk.
    pub gate: Mutex<Gate>,
    /// The series. Held for writing only while memory changes.
    pub data: RwLock<ShardData>,
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
        if self.slots.len() >= SLOTS_MAX {
            return None;
        }
        let info = Info { reference, words: self.words.push(words)?, words_len: words.len() as u16 };
        self.info.push(info);
        let slot = self.slots.push(Slot::fresh()) as u32;
        self.index.insert_unique(spread(hash), IndexEntry { hash, slot }, |e| spread(e.hash));
        self.postings.add(slot, names, &words[1..]);
        Some(slot)
    }

    /// The label ids of a series: schema, values.
    #[inline]
    pub fn words_of(&self, slot: u32) -> &[u32] {
        let info = self.info.get(slot);
        &self.words.from(info.words)[..usize::from(info.words_len)]
    }

    /// Bytes of memory by use, for the statistics and the benches.
    pub fn memory(&self) -> [(&'static str, usize); 8] {
        [
            ("slots", self.slots.memory_bytes()),
            ("open chunks", self.slabs.memory_bytes()),
            ("completed chunks", self.arena.memory_bytes()),
            ("labels", self.words.memory_bytes() + self.info.memory_bytes()),
            ("label table", self.index.allocation_size()),
            ("postings", self.postings.memory_bytes()),
            ("out-of-order samples", self.ooo.memory_bytes()),
            ("deletions", self.tombstones.memory_bytes()),
        ]
    }
}
