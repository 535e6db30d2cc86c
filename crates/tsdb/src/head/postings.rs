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
    /// The values, in the order they came. Between [`Postings::remove`] and [`Postings::tidy`] some may have no series, and
    /// one that came back may be there twice.
    pub values: Vec<SymbolId>,
}

/// Adds a slot, mostly one above all others. Every time a bitmap has doubled it is looked at whether its containers are smaller as
/// runs of neighbours, which they are for labels that a whole target shares.
fn insert(slots: &mut RoaringBitmap, slot: u32) {
    // Most come in ascending order, which needs no search.
    if slots.try_push(slot).is_err() {
        slots.insert(slot);
    }
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
    /// Indices of `many` that are not used.
    many_free: Vec<u32>,
    /// Names with values to be looked at by [`Postings::tidy`].
    untidy: Vec<SymbolId>,
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
    /// Adds the series in `slot`.
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
                    let mut slots = RoaringBitmap::from_iter([pair.series]);
                    slots.insert(slot);
                    pair.series = MANY
                        | match self.many_free.pop() {
                            Some(idx) => {
                                self.many[idx as usize] = slots;
                                idx
                            }
                            None => {
                                self.many.push(slots);
                                self.many.len() as u32 - 1
                            }
                        };
                }
                None => {
                    self.pairs.insert_unique(hash, Pair { name, value, series: slot }, |p| hash_of(p.name, p.value));
                    of_name.values.push(value);
                }
            }
        }
    }

    /// Takes the series in `slots` out of these label pairs, which are theirs, each listed once.
    pub fn remove(&mut self, slots: &RoaringBitmap, pairs: &[(SymbolId, SymbolId)]) {
        let mut last_name = None;
        for &(name, value) in pairs {
            if last_name.replace(name) != Some(name)
                && let Ok(at) = self.names.binary_search_by_key(&name, |n| n.0)
            {
                let of_name = &mut self.names[at].1;
                of_name.all -= slots;
                if of_name.all.is_empty() {
                    self.names.remove(at);
                }
            }
            let hash = hash_of(name, value);
            let Ok(mut entry) = self.pairs.find_entry(hash, |p| (p.name, p.value) == (name, value)) else { continue };
            let pair = entry.get_mut();
            let gone = if pair.series & MANY == 0 {
                slots.contains(pair.series)
            } else {
                let idx = pair.series & !MANY;
                let many = &mut self.many[idx as usize];
                *many -= slots;
                let left = many.len();
                if left < 2 {
                    if let Some(only) = many.min() {
                        pair.series = only;
                    }
                    *many = RoaringBitmap::new();
                    self.many_free.push(idx);
                }
                left == 0
            };
            if gone {
                entry.remove();
                if !self.untidy.contains(&name) {
                    self.untidy.push(name);
                }
            }
        }
    }

    /// Forgets values that have no series any more, and gives memory back. Cost: the values of the names concerned.
    pub fn tidy(&mut self) {
        for name in std::mem::take(&mut self.untidy) {
            let Ok(at) = self.names.binary_search_by_key(&name, |n| n.0) else { continue };
            let (pairs, values) = (&self.pairs, &mut self.names[at].1.values);
            let mut seen = RoaringBitmap::new();
            values.retain(|value| {
                pairs.find(hash_of(name, *value), |p| (p.name, p.value) == (name, *value)).is_some()
                    && seen.insert(*value)
            });
            if values.len() * 2 < values.capacity() {
                values.shrink_to_fit();
            }
        }
        if self.pairs.len() * 4 < self.pairs.capacity() {
            self.pairs.shrink_to_fit(|p| hash_of(p.name, p.value));
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
            + (self.many_free.capacity() + self.untidy.capacity()) * 4
            + self.names.iter().map(|(_, n)| bitmap(&n.all) + n.values.capacity() * 4).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// After any adding and removing the postings are those of the series that are left.
        #[test]
        fn series_come_and_go(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(0u32..6, 3), any::<prop::sample::Index>()), 1..200),
            tidy_each in 1usize..20,
        ) {
            let mut postings = Postings::default();
            let mut model: BTreeMap<u32, Vec<SymbolId>> = BTreeMap::new();
            for (n, (add, values, at)) in steps.into_iter().enumerate() {
                // Names 10, 11, 12; a value of 0 means that the label is missing.
                if add || model.is_empty() {
                    let slot = (0..).find(|slot| !model.contains_key(slot)).unwrap();
                    let pairs = (10u32..).zip(&values).filter(|(_, v)| **v > 0);
                    let (names, values): (Vec<_>, Vec<_>) = pairs.map(|(n, v)| (n, *v)).unzip();
                    postings.add(slot, &names, &values);
                    model.insert(slot, names.into_iter().zip(values).flat_map(|(n, v)| [n, v]).collect());
                } else {
                    let some = at.index(model.len());
                    let slots: Vec<u32> = model.keys().copied().filter(|s| (*s as usize).is_multiple_of(some + 1)).collect();
                    let gone: Vec<_> = slots.iter().map(|slot| model.remove(slot).unwrap()).collect();
                    let pairs: BTreeSet<_> = gone.iter().flat_map(|l| l.chunks(2).map(|p| (p[0], p[1]))).collect();
                    postings.remove(&slots.into_iter().collect(), &pairs.into_iter().collect::<Vec<_>>());
                }
                if n % tidy_each == 0 {
                    postings.tidy();
                }
            }
            postings.tidy();
            for name in 10..13 {
                let having = |value: Option<u32>| {
                    let has = |labels: &[u32]| {
                        labels.chunks(2).any(|p| p[0] == name && value.is_none_or(|value| value == p[1]))
                    };
                    let series = model.iter().filter(|(_, labels)| has(labels));
                    series.map(|(slot, _)| *slot).collect::<RoaringBitmap>()
                };
                let mut values: Vec<u32> = postings.name(name).map_or(Vec::new(), |p| p.values.clone());
                values.sort_unstable();
                prop_assert_eq!(values, (1..6).filter(|v| !having(Some(*v)).is_empty()).collect::<Vec<_>>());
                prop_assert_eq!(postings.name(name).map(|p| p.all.clone()).unwrap_or_default(), having(None));
                for value in 1..6 {
                    let found = postings.pair(name, value).map(Posting::to_bitmap).unwrap_or_default();
                    prop_assert_eq!(found, having(Some(value)));
                }
            }
        }
    }
}
