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

/// The places of all references. References count up and old series go first, so pages are given back from the front.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    pages: Vec<Option<Box<Page>>>,
    sparse: HashMap<u64, Place>,
    /// Second and further references of a series, by its place: a log may name a series again.
    aliases: HashMap<Place, Vec<u64>>,
}

#[derive(Debug)]
struct Page {
    places: [Place; PAGE],
    n_used: usize,
}

impl Refs {
    /// Where the series with this reference is, [`Place::NONE`] if there is none.
    #[inline]
    pub fn get(&self, reference: u64) -> Place {
        match self.pages.get((reference >> PAGE_BITS) as usize) {
            Some(Some(page)) => page.places[reference as usize % PAGE],
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
        let page = self.pages[page].get_or_insert_with(|| Box::new(Page { places: [Place::NONE; PAGE], n_used: 0 }));
        let entry = &mut page.places[reference as usize % PAGE];
        page.n_used += usize::from(*entry == Place::NONE);
        *entry = place;
    }

    /// Another reference of the series at `place`.
    pub fn set_alias(&mut self, reference: u64, place: Place) {
        if self.get(reference) != place {
            self.set(reference, place);
            self.aliases.entry(place).or_default().push(reference);
        }
    }

    /// Forgets the series at `place`, whose first reference is `reference`. Calls `each` with all its references.
    pub fn remove(&mut self, reference: u64, place: Place, mut each: impl FnMut(u64)) {
        let aliases = if self.aliases.is_empty() { None } else { self.aliases.remove(&place) };
        for reference in aliases.into_iter().flatten().chain([reference]) {
            if self.get(reference) == place {
                self.remove_one(reference);
                each(reference);
            }
        }
    }

    fn remove_one(&mut self, reference: u64) {
        let page_idx = (reference >> PAGE_BITS) as usize;
        let Some(Some(page)) = self.pages.get_mut(page_idx) else {
            self.sparse.remove(&reference);
            return;
        };
        page.places[reference as usize % PAGE] = Place::NONE;
        page.n_used -= 1;
        if page.n_used == 0 {
            self.pages[page_idx] = None;
        }
    }

    /// All references that are second or further ones of a series, with its place.
    pub fn aliases(&self) -> impl Iterator<Item = (u64, Place)> {
        self.aliases.iter().flat_map(|(place, references)| references.iter().map(|reference| (*reference, *place)))
    }

    pub fn memory_bytes(&self) -> usize {
        self.pages.capacity() * 8
            + self.pages.iter().flatten().count() * size_of::<Page>()
            + self.sparse.allocation_size()
            + self.aliases.allocation_size()
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

    #[test]
    fn a_series_goes_with_all_its_references() {
        let mut refs = Refs::default();
        let (a, b) = (Place::new(1, 5), Place::new(2, 5));
        refs.set(4096, a);
        refs.set(4097, b);
        refs.set_alias(7, a);
        refs.set_alias(1 << 40, a);
        refs.set_alias(4096, a);
        let mut gone = Vec::new();
        refs.remove(4096, a, |reference| gone.push(reference));
        gone.sort_unstable();
        assert_eq!(gone, [7, 4096, 1 << 40]);
        assert_eq!([4096, 7, 1 << 40].map(|r| refs.get(r)), [Place::NONE; 3]);
        assert_eq!(refs.get(4097), b);
        refs.remove(4097, b, |_| {});
        assert!(refs.pages.iter().all(Option::is_none), "pages without series have no memory");
        assert!(refs.sparse.is_empty() && refs.aliases.is_empty());
    }
}
