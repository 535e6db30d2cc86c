//! The strings of the head, each kept once: label names and values by id, and schemas (lists of label names) by id.
//!
//! Cost: the text, 8 bytes of place and about 6 bytes of hash table per distinct string. A series then needs 4 bytes per
//! label and 4 for its schema instead of its strings.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use fk_model::Labels;

/// Id of a string.
pub(crate) type SymbolId = u32;

/// Text is kept in pages of this many bytes that never move; a longer string gets a page of its own.
const PAGE_BYTES: usize = 1 << 20;

/// Bits of a place that hold the length, and the offset within the page. Strings and offsets are at most 1 MiB.
const LEN_BITS: u32 = 21;
const OFFSET_BITS: u32 = 21;

/// Most strings a head keeps.
const SYMBOLS_MAX: usize = u32::MAX as usize - 1;

/// All strings and schemas of a head.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    pages: Vec<String>,
    /// Page, offset, length of each string, packed.
    places: Vec<u64>,
    ids: HashTable<SymbolId>,
    schemas: Vec<Box<[SymbolId]>>,
    schema_ids: HashTable<u32>,
    hasher: RandomState,
    text_bytes: usize,
}

impl Symbols {
    /// The string with this id; empty for an id that was never given out.
    #[inline]
    pub fn get(&self, id: SymbolId) -> &str {
        text_of(&self.pages, &self.places, id)
    }

    /// The id of `text`, if it is known.
    pub fn find(&self, text: &str) -> Option<SymbolId> {
        self.ids.find(self.hasher.hash_one(text), |id| self.get(*id) == text).copied()
    }

    /// The id of `text`, given out now if need be; `None` when there are too many strings.
    pub fn intern(&mut self, text: &str) -> Option<SymbolId> {
        let hash = self.hasher.hash_one(text);
        let Symbols { pages, places, ids, hasher, .. } = self;
        if let Some(id) = ids.find(hash, |id| text_of(pages, places, *id) == text) {
            return Some(*id);
        }
        if places.len() >= SYMBOLS_MAX {
            return None;
        }
        if pages.last().is_none_or(|page| page.len() + text.len() > page.capacity().min(PAGE_BYTES)) {
            pages.push(String::with_capacity(PAGE_BYTES.max(text.len())));
        }
        let page = pages.last_mut().expect("pushed if there was none");
        let place = (pages_index(page.len(), text.len())) | ((pages.len() as u64 - 1) << (LEN_BITS + OFFSET_BITS));
        pages.last_mut().expect("not empty").push_str(text);
        let id = places.len() as SymbolId;
        places.push(place);
        self.text_bytes += text.len();
        let (pages, places) = (&self.pages, &self.places);
        ids.insert_unique(hash, id, |id| hasher.hash_one(text_of(pages, places, *id)));
        Some(id)
    }

    /// The ids of a label set: the schema first, then the values in order of their names. `None` as for `intern`.
    pub fn intern_labels(&mut self, labels: &Labels, words: &mut Vec<u32>) -> Option<()> {
        words.clear();
        words.push(0);
        let mut names = smallvec::SmallVec::<[SymbolId; 32]>::new();
        for (name, value) in labels {
            names.push(self.intern(name)?);
            words.push(self.intern(value)?);
        }
        words[0] = self.intern_schema(&names);
        Some(())
    }

    fn intern_schema(&mut self, names: &[SymbolId]) -> u32 {
        let hash = self.hasher.hash_one(names);
        let Symbols { schemas, schema_ids, hasher, .. } = self;
        if let Some(id) = schema_ids.find(hash, |id| *schemas[*id as usize] == *names) {
            return *id;
        }
        let id = schemas.len() as u32;
        schemas.push(names.into());
        schema_ids.insert_unique(hash, id, |id| hasher.hash_one(&*schemas[*id as usize]));
        id
    }

    /// The label names of a schema, ascending by text.
    #[inline]
    pub fn schema(&self, id: u32) -> &[SymbolId] {
        &self.schemas[id as usize]
    }

    /// The label set with these ids (see [`Symbols::intern_labels`]).
    pub fn labels(&self, words: &[u32]) -> Labels {
        Labels::from_sorted(self.pairs(words))
    }

    /// Names and values of a label set.
    pub fn pairs<'a>(&'a self, words: &'a [u32]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (schema, values) = words.split_first().expect("a label set starts with its schema");
        self.schema(*schema).iter().zip(values).map(|(name, value)| (self.get(*name), self.get(*value)))
    }

    /// Whether these ids are the ids of `labels`.
    #[inline]
    pub fn equal(&self, words: &[u32], labels: &Labels) -> bool {
        let mut pairs = self.pairs(words);
        for (name, value) in labels {
            // Values differ more often than names.
            if pairs.next().is_none_or(|(n, v)| v != value || n != name) {
                return false;
            }
        }
        pairs.next().is_none()
    }

    /// Order of two label sets, as `Labels` orders them, looking at strings only where the ids differ.
    pub fn compare(&self, a: &[u32], b: &[u32]) -> std::cmp::Ordering {
        let (names_a, names_b) = (self.schema(a[0]), self.schema(b[0]));
        for (i, (name_a, name_b)) in names_a.iter().zip(names_b).enumerate() {
            if name_a != name_b {
                return self.get(*name_a).cmp(self.get(*name_b));
            }
            if a[i + 1] != b[i + 1] {
                return self.get(a[i + 1]).cmp(self.get(b[i + 1]));
            }
        }
        names_a.len().cmp(&names_b.len())
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of text and tables.
    pub fn memory_bytes(&self) -> usize {
        self.text_bytes + self.places.len() * 8 + self.ids.allocation_size()
    }
}

fn pages_index(offset: usize, len: usize) -> u64 {
    (len as u64) | ((offset as u64) << LEN_BITS)
}

#[inline]
fn text_of<'a>(pages: &'a [String], places: &[u64], id: SymbolId) -> &'a str {
    let Some(&place) = places.get(id as usize) else { return "" };
    let len = (place & ((1 << LEN_BITS) - 1)) as usize;
    let offset = (place >> LEN_BITS & ((1 << OFFSET_BITS) - 1)) as usize;
    &pages[(place >> (LEN_BITS + OFFSET_BITS)) as usize][offset..offset + len]
}

#[cfg(test)]
mod tests {
    use fk_model::labels::STRING_BYTES_MAX;

    use super::*;

    #[test]
    fn strings_get_one_id_and_come_back() {
        let mut symbols = Symbols::default();
        let long = "x".repeat(STRING_BYTES_MAX);
        let texts: Vec<String> =
            (0..50_000).map(|i| format!("value-{i}-{}", "y".repeat(i % 100))).chain([long, String::new()]).collect();
        let ids: Vec<_> = texts.iter().map(|t| symbols.intern(t).unwrap()).collect();
        for (text, id) in texts.iter().zip(&ids) {
            assert_eq!(symbols.get(*id), text);
            assert_eq!(symbols.find(text), Some(*id));
            assert_eq!(symbols.intern(text), Some(*id));
        }
        assert_eq!(symbols.len(), texts.len());
        assert_eq!(symbols.find("never seen"), None);
    }

    #[test]
    fn order_of_ids_is_the_order_of_labels() {
        let sets = [
            &[("a", "1")][..],
            &[("a", "1"), ("b", "1")],
            &[("a", "2")],
            &[("a", "10")],
            &[("b", "0")],
            &[("aa", "1")],
        ];
        let mut symbols = Symbols::default();
        let mut words = Vec::new();
        let all: Vec<_> = sets
            .iter()
            .map(|pairs| {
                let labels = Labels::from_pairs(pairs.iter().copied());
                symbols.intern_labels(&labels, &mut words).unwrap();
                assert!(symbols.equal(&words, &labels));
                (labels, words.clone())
            })
            .collect();
        for (labels_a, a) in &all {
            for (labels_b, b) in &all {
                assert_eq!(symbols.compare(a, b), labels_a.cmp(labels_b), "{labels_a} {labels_b}");
                assert_eq!(symbols.equal(a, labels_b), labels_a == labels_b);
            }
        }
    }
}
