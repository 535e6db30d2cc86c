//! Which series of a shard have which label: compressed bitmaps of slot numbers per label pair and per label name.
//!
//! Cost: a pair with one series takes 12 bytes of hash table (about 16 with its slack) and 4 in the list of its name; a
//! pair with more has a bitmap, whose entries take 2 bytes each or, where neighbours share the label, next to nothing.

use hashbrown::HashTable;
use roaring::RoaringBitmap;

use super::symbols::SymbolId;

/// Set in [`Pair::series`] when it is the index of a bitmap and not the one slot.
const MANY: u32 = 1 << 31;

/// Slots per shard, so that [`MANY`] and shard bits stay free.
pub(crate) const SLOTS_MAX: usize = 1 << 27;

#[derive(Clone, Copy, Debug)]
struct Pair {
    name: SymbolId,
    value: SymbolId,
    series: u32,
}

/// The series that have one label name.
#[derive(Debug, Default)]
pub(crate) struct NamePostings {
    /// All of them.
    pub all: RoaringBitmap,
    /// The values, in the order they came.
    pub values: Vec<SymbolId>,
}

/// Adds a slot above all others. Every time a bitmap has doubled it is looked at whether its containers are smaller as
/// runs of neighbours, which they are for labels that a whole target shares.
fn insert(slots: &mut RoaringBitmap, slot: u32) {
    slots.insert(slot);
    let len = slots.len();
    if len >= OPTIMISE_FROM && len.is_power_of_two() {
        slots.optimize();
    }
}

/// Smaller bitmaps have nothing to gain.
const OPTIMISE_FROM: u64 = 16;

/// The postings of a shard.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    pairs: HashTable<Pair>,
    many: Vec<RoaringBitmap>,
    /// Sorted by name id: there are few names, and they seldom come.
    names: Vec<(SymbolId, NamePostings)>,
}

/// The slots of a label pair.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Posting<'a> {
    One(u32),
    Many(&'a RoaringBitmap),
}

impl Posting<'_> {
    pub fn len(&self) -> u64 {
        match self {
            Posting::One(_) => 1,
            Posting::Many(slots) => slots.len(),
        }
    }

    /// A copy of its own.
    pub fn to_bitmap(self) -> RoaringBitmap {
        match self {
            Posting::One(slot) => RoaringBitmap::from_iter([slot]),
            Posting::Many(slots) => slots.clone(),
        }
    }

    /// Adds its slots to `to`.
    pub fn add_to(&self, to: &mut RoaringBitmap) {
        match self {
            Posting::One(slot) => {
                to.insert(*slot);
            }
            Posting::Many(slots) => *to |= *slots,
        }
    }
}

/// Ids are given out by ourselves, so a multiplication mixes well enough and nobody can choose collisions.
#[inline]
fn hash_of(name: SymbolId, value: SymbolId) -> u64 {
    let word = (u64::from(name) << 32 | u64::from(value)) ^ 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(word) * 0xd6e8_feb8_6659_fd93_u128;
    (product >> 64) as u64 ^ product as u64
}

impl Postings {
    /// Adds the series in `slot`, which is above all slots so far.
    pub fn add(&mut self, slot: u32, names: &[SymbolId], values: &[SymbolId]) {
        debug_assert!((slot as usize) < SLOTS_MAX);
        for (&name, &value) in names.iter().zip(values) {
            let at = match self.names.binary_search_by_key(&name, |n| n.0) {
                Ok(at) => at,
                Err(at) => {
                    self.names.insert(at, (name, NamePostings::default()));
                    at
                }
            };
            let of_name = &mut self.names[at].1;
            insert(&mut of_name.all, slot);
            let hash = hash_of(name, value);
            match self.pairs.find_mut(hash, |p| (p.name, p.value) == (name, value)) {
                Some(pair) if pair.series & MANY != 0 => {
                    insert(&mut self.many[(pair.series & !MANY) as usize], slot);
                }
                Some(pair) => {
                    let idx = self.many.len() as u32;
                    self.many.push(RoaringBitmap::from_iter([pair.series, slot]));
                    pair.series = MANY | idx;
                }
                None => {
                    self.pairs.insert_unique(hash, Pair { name, value, series: slot }, |p| hash_of(p.name, p.value));
                    of_name.values.push(value);
                }
            }
        }
    }

    /// The series with label `name` = `value`.
    pub fn pair(&self, name: SymbolId, value: SymbolId) -> Option<Posting<'_>> {
        let pair = self.pairs.find(hash_of(name, value), |p| (p.name, p.value) == (name, value))?;
        Some(match pair.series & MANY {
            0 => Posting::One(pair.series),
            _ => Posting::Many(&self.many[(pair.series & !MANY) as usize]),
        })
    }

    /// The series with label `name`.
    pub fn name(&self, name: SymbolId) -> Option<&NamePostings> {
        let at = self.names.binary_search_by_key(&name, |n| n.0).ok()?;
        Some(&self.names[at].1)
    }

    /// All label names.
    pub fn names(&self) -> impl Iterator<Item = (SymbolId, &NamePostings)> {
        self.names.iter().map(|(name, postings)| (*name, postings))
    }

    pub fn memory_bytes(&self) -> usize {
        let bitmap = |b: &RoaringBitmap| {
            let s = b.statistics();
            size_of::<RoaringBitmap>()
                + s.n_containers as usize * 40
                + s.n_bytes_array_containers as usize
                + s.n_bytes_bitset_containers as usize
                + s.n_bytes_run_containers as usize
        };
        self.pairs.allocation_size()
            + self.many.iter().map(bitmap).sum::<usize>()
            + self.names.iter().map(|(_, n)| bitmap(&n.all) + n.values.capacity() * 4).sum::<usize>()
    }
}
