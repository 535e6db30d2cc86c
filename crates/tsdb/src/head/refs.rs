//! From series references to places: 4 bytes per reference.
//!
//! References count up, so a directory of pages indexed by the reference is dense. A foreign log may hold any number;
//! what the directory cannot reach goes into a hash table.

use hashbrown::HashMap;

const PAGE_BITS: u32 = 12;
const PAGE: usize = 1 << PAGE_BITS;
/// Pages the directory reaches: references below 2^32, at 8 bytes per 4096 of them.
const PAGES_MAX: u64 = 1 << 20;

/// Shard and slot of a series, packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u32);

/// How many shards there are: enough for the writers of a large machine to meet seldom, few enough that visiting all of
/// them costs a query next to nothing.
pub(crate) const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 4;

impl Place {
    /// No series.
    pub const NONE: Place = Place(u32::MAX);

    #[inline]
    pub fn new(shard: usize, slot: u32) -> Place {
        debug_assert!(shard < SHARDS && (slot as usize) < super::postings::SLOTS_MAX);
        Place(slot << SHARD_BITS | shard as u32)
    }

    /// As a number, for [`Place::from_bits`].
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// From [`Place::to_bits`].
    pub fn from_bits(bits: u32) -> Place {
        Place(bits)
    }

    #[inline]
    pub fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }

    #[inline]
    pub fn slot(self) -> u32 {
        self.0 >> SHARD_BITS
    }
}

/// The places of all references.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    pages: Vec<Option<Box<[Place; PAGE]>>>,
    sparse: HashMap<u64, Place>,
}

impl Refs {
    /// Where the series with this reference is, [`Place::NONE`] if there is none.
    #[inline]
    pub fn get(&self, reference: u64) -> Place {
        match self.pages.get((reference >> PAGE_BITS) as usize) {
            Some(Some(page)) => page[reference as usize % PAGE],
            Some(None) => Place::NONE,
            None => self.get_sparse(reference),
        }
    }

    #[cold]
    fn get_sparse(&self, reference: u64) -> Place {
        self.sparse.get(&reference).copied().unwrap_or(Place::NONE)
    }

    /// Keeps the place of a reference.
    pub fn set(&mut self, reference: u64, place: Place) {
        let page = reference >> PAGE_BITS;
        if page >= PAGES_MAX {
            self.sparse.insert(reference, place);
            return;
        }
        let page = page as usize;
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        self.pages[page].get_or_insert_with(|| Box::new([Place::NONE; PAGE]))[reference as usize % PAGE] = place;
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.capacity() * 8 + self.pages.iter().flatten().count() * PAGE * 4 + self.sparse.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far_references_are_found() {
        let mut refs = Refs::default();
        let all = [0, 1, 4095, 4096, 50_000_000, (1 << 32) - 1, 1 << 32, u64::MAX];
        for (i, reference) in all.into_iter().enumerate() {
            assert_eq!(refs.get(reference), Place::NONE);
            refs.set(reference, Place::new(i % SHARDS, i as u32));
        }
        for (i, reference) in all.into_iter().enumerate() {
            assert_eq!(refs.get(reference), Place::new(i % SHARDS, i as u32), "{reference}");
        }
        assert_eq!(refs.get(2), Place::NONE);
    }
}
