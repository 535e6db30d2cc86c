//! Series that were pushed before, recognised by their bytes.
//!
//! A sender writes the labels of a series in the same way each time. So the bytes of its label fields are remembered with the
//! series they were found to mean, and the next time nothing of them is decoded, checked, put together or looked up: that was
//! most of what a pushed sample cost.
//!
//! What is kept of the bytes is a hash of 96 bits, with seeds of this process: 16 bytes for each series, and a chance of less
//! than one to 2^56 that among a million series two are taken for each other. Choosing bytes that collide would gain nobody
//! anything: who can push can push to any series by its name.
//!
//! Nothing is told when the storage forgets a series. Its samples are then refused as those of an unknown one, and whoever
//! pushed them looks it up anew ([`KnownSeries::learn`]). What is remembered belongs to one storage.

use std::hash::BuildHasher as _;

use fk_storage::SeriesRef;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};

/// Most series that are remembered (at most 35 MiB); then all are forgotten, and those that are still pushed come back.
const SERIES_MAX: usize = 1 << 20;

/// The series that senders have pushed. Shared by all that receive for one storage.
#[derive(Debug, Default)]
pub struct KnownSeries {
    seeds: [RandomState; 2],
    table: RwLock<HashTable<Entry>>,
}

/// What stands for the bytes of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u64, u32);

#[derive(Debug)]
struct Entry {
    hash: u64,
    more: u32,
    reference: u32,
}

impl Entry {
    fn is(&self, key: Key) -> bool {
        (self.hash, self.more) == (key.0, key.1)
    }
}

/// Looks series up, while nobody else learns.
pub(crate) struct Look<'k> {
    known: &'k KnownSeries,
    table: RwLockReadGuard<'k, HashTable<Entry>>,
}

impl KnownSeries {
    fn key(&self, bytes: &[u8]) -> Key {
        Key(self.seeds[0].hash_one(bytes), self.seeds[1].hash_one(bytes) as u32)
    }

    /// To look series up.
    pub(crate) fn look(&self) -> Look<'_> {
        Look { known: self, table: self.table.read() }
    }

    /// Remembers what these bytes mean, also where they meant something else before.
    pub(crate) fn learn(&self, found: &[(Key, SeriesRef)]) {
        if found.is_empty() {
            return;
        }
        let mut table = self.table.write();
        for &(key, series) in found {
            // Any that cannot be kept in so few bytes are looked up each time.
            let Ok(reference) = u32::try_from(series.0) else { continue };
            if table.len() >= SERIES_MAX {
                table.clear();
            }
            match table.entry(key.0, |entry| entry.is(key), |entry| entry.hash) {
                hashbrown::hash_table::Entry::Occupied(mut entry) => entry.get_mut().reference = reference,
                hashbrown::hash_table::Entry::Vacant(entry) => {
                    entry.insert(Entry { hash: key.0, more: key.1, reference });
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.read().len()
    }
}

impl Look<'_> {
    /// What stands for these bytes.
    pub(crate) fn key(&self, bytes: &[u8]) -> Key {
        self.known.key(bytes)
    }

    /// The series with these bytes, if they were pushed before.
    pub(crate) fn find(&self, key: Key) -> Option<SeriesRef> {
        self.table.find(key.0, |entry| entry.is(key)).map(|entry| SeriesRef(u64::from(entry.reference)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_known_once_they_were_learnt() {
        let known = KnownSeries::default();
        let key = |text: &str| known.key(text.as_bytes());
        let find = |text: &str| known.look().find(key(text)).map(|series| series.0);
        known.learn(&[(key("a"), SeriesRef(1)), (key("b"), SeriesRef(2)), (key("far"), SeriesRef(1 << 32))]);
        assert_eq!(["a", "b", "far", "c"].map(find), [Some(1), Some(2), None, None]);
        // A series that was made again.
        known.learn(&[(key("a"), SeriesRef(7))]);
        assert_eq!((find("a"), known.len()), (Some(7), 2));
    }

    #[test]
    fn memory_is_bounded() {
        let known = KnownSeries::default();
        let found: Vec<_> = (0..SERIES_MAX as u64 + 5).map(|n| (known.key(&n.to_le_bytes()), SeriesRef(n))).collect();
        known.learn(&found);
        assert_eq!(known.len(), 5);
        assert_eq!(size_of::<Entry>(), 16);
    }
}
