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

/// The place of a string that is no more.
const NO_TEXT: u64 = u64::MAX;

/// All strings and schemas of a head.
///
/// A string goes in three steps, so that ids in the hands of readers stay good. While the ids in use are collected
/// ([`Symbols::begin_mark`]), ids that are given out are noted. Strings not in use are then forgotten by name
/// ([`Symbols::condemn`]): their text can still be read by its id, but whoever comes with the same text gets another id. And
/// when no reader of that time is left the text goes and the id is given out again ([`Symbols::release`]).
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    pages: Vec<String>,
    /// Bytes in use of each page.
    page_live: Vec<usize>,
    /// Pages without memory.
    pages_free: Vec<u32>,
    /// The page that grows.
    page_current: usize,
    ids_free: Vec<SymbolId>,
    schemas_free: Vec<u32>,
    /// While the ids in use are collected: strings and schemas given out meanwhile.
    marks: Option<Marks>,
    /// Page, offset, length of each string, packed.
    places: Vec<u64>,
    ids: HashTable<SymbolId>,
    schemas: Vec<Box<[SymbolId]>>,
    schema_ids: HashTable<u32>,
    hasher: RandomState,
    text_bytes: usize,
}

/// A set of strings and schemas.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    strings: Bits,
    schemas: Bits,
}

#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn insert(&mut self, id: u32) {
        let word = id as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (id % 64);
    }

    fn contains(&self, id: u32) -> bool {
        self.0.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }
}

impl Marks {
    /// The ids of a label set are in use. (The names follow from the schema.)
    pub fn add_words(&mut self, words: &[u32]) {
        if let Some((schema, values)) = words.split_first() {
            self.schemas.insert(*schema);
            self.add_strings(values);
        }
    }

    pub fn add_strings(&mut self, ids: &[SymbolId]) {
        ids.iter().for_each(|id| self.strings.insert(*id));
    }

    pub fn has_string(&self, id: SymbolId) -> bool {
        self.strings.contains(id)
    }

    pub fn has_schema(&self, id: u32) -> bool {
        self.schemas.contains(id)
    }
}

/// What was condemned together.
#[derive(Debug, Default)]
pub(crate) struct Condemned {
    strings: Vec<SymbolId>,
    schemas: Vec<u32>,
}

impl Condemned {
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty() && self.schemas.is_empty()
    }

    /// How many strings.
    pub fn len(&self) -> usize {
        self.strings.len()
    }
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
        let (pages, places) = (&self.pages, &self.places);
        if let Some(&id) = self.ids.find(hash, |id| text_of(pages, places, *id) == text) {
            if let Some(marks) = &mut self.marks {
                marks.strings.insert(id);
            }
            return Some(id);
        }
        if self.ids_free.is_empty() && self.places.len() >= SYMBOLS_MAX {
            return None;
        }
        let place = self.put_text(text);
        let id = match self.ids_free.pop() {
            Some(id) => {
                self.places[id as usize] = place;
                id
            }
            None => {
                self.places.push(place);
                self.places.len() as SymbolId - 1
            }
        };
        self.text_bytes += text.len();
        if let Some(marks) = &mut self.marks {
            marks.strings.insert(id);
        }
        let (pages, places, hasher) = (&self.pages, &self.places, &self.hasher);
        self.ids.insert_unique(hash, id, |id| hasher.hash_one(text_of(pages, places, *id)));
        Some(id)
    }

    /// Keeps a text and returns its place.
    fn put_text(&mut self, text: &str) -> u64 {
        let has_room = |page: &String| page.len() + text.len() <= page.capacity().min(PAGE_BYTES);
        if !self.pages.get(self.page_current).is_some_and(has_room) {
            let page = String::with_capacity(PAGE_BYTES.max(text.len()));
            self.page_current = match self.pages_free.pop() {
                Some(idx) => {
                    self.pages[idx as usize] = page;
                    idx as usize
                }
                None => {
                    self.pages.push(page);
                    self.page_live.push(0);
                    self.pages.len() - 1
                }
            };
        }
        let page = &mut self.pages[self.page_current];
        let place = pages_index(page.len(), text.len()) | (self.page_current as u64) << (LEN_BITS + OFFSET_BITS);
        page.push_str(text);
        self.page_live[self.page_current] += text.len();
        place
    }

    /// The ids of a label set: the schema first, then the values in order of their names. `None` as for `intern`.
    pub fn intern_labels(&mut self, labels: &Labels, words: &mut Vec<u32>) -> Option<()> {
        self.intern_labels_like(labels, &[], words)
    }

    /// The same for a label set that is probably much like another one, whose ids are `like` and in use: a log has the series
    /// of a target together, and comparing two strings costs less than looking one up.
    pub fn intern_labels_like(&mut self, labels: &Labels, like: &[u32], words: &mut Vec<u32>) -> Option<()> {
        words.clear();
        words.push(0);
        let mut names = smallvec::SmallVec::<[SymbolId; 32]>::new();
        let (mut same_names, n_like) = (true, like.len().saturating_sub(1));
        for (at, (name, value)) in labels.iter().enumerate() {
            let name_like = like.first().and_then(|schema| self.schema(*schema).get(at)).copied();
            let name = self.intern_like(name, name_like)?;
            same_names &= name_like == Some(name);
            names.push(name);
            words.push(self.intern_like(value, like.get(at + 1).copied())?);
        }
        words[0] = match same_names && names.len() == n_like {
            true => self.given(like[0]),
            false => self.intern_schema(&names),
        };
        Some(())
    }

    /// The id of `text`, which may be that of `like`.
    #[inline]
    fn intern_like(&mut self, text: &str, like: Option<SymbolId>) -> Option<SymbolId> {
        match like.filter(|id| self.get(*id) == text) {
            Some(id) => {
                if let Some(marks) = &mut self.marks {
                    marks.strings.insert(id);
                }
                Some(id)
            }
            None => self.intern(text),
        }
    }

    /// A schema that is given out again.
    fn given(&mut self, schema: u32) -> u32 {
        if let Some(marks) = &mut self.marks {
            marks.schemas.insert(schema);
        }
        schema
    }

    fn intern_schema(&mut self, names: &[SymbolId]) -> u32 {
        let hash = self.hasher.hash_one(names);
        let Symbols { schemas, schema_ids, hasher, schemas_free, marks, .. } = self;
        let id = match schema_ids.find(hash, |id| *schemas[*id as usize] == *names) {
            Some(id) => *id,
            None => {
                let id = match schemas_free.pop() {
                    Some(id) => {
                        schemas[id as usize] = names.into();
                        id
                    }
                    None => {
                        schemas.push(names.into());
                        schemas.len() as u32 - 1
                    }
                };
                schema_ids.insert_unique(hash, id, |id| hasher.hash_one(&*schemas[*id as usize]));
                id
            }
        };
        if let Some(marks) = marks {
            marks.schemas.insert(id);
        }
        id
    }

    // === Forgetting strings ===

    /// From now on, until [`Symbols::end_mark`], what is given out counts as used.
    pub fn begin_mark(&mut self) {
        self.marks = Some(Marks::default());
    }

    /// See [`Symbols::begin_mark`].
    pub fn end_mark(&mut self) {
        self.marks = None;
    }

    /// How many ids of strings, and of schemas, there are, free ones included.
    pub fn id_counts(&self) -> (u32, u32) {
        (self.places.len() as u32, self.schemas.len() as u32)
    }

    /// Forgets those of the schemas in `ids` by name that are neither in `used` nor were given out since the mark began; the
    /// names of the others are added to `used`. To be called before the strings are condemned.
    pub fn condemn_schemas(&mut self, ids: std::ops::Range<u32>, used: &mut Marks, condemned: &mut Condemned) {
        let Symbols { schemas, schema_ids, hasher, marks, .. } = self;
        for id in ids {
            let Some(names) = schemas.get(id as usize) else { break };
            if used.schemas.contains(id) || marks.as_ref().is_some_and(|m| m.schemas.contains(id)) {
                names.iter().for_each(|name| used.strings.insert(*name));
                continue;
            }
            let known = schema_ids.find_entry(hasher.hash_one(&**names), |other| *other == id);
            if let Ok(known) = known {
                known.remove();
                condemned.schemas.push(id);
            }
        }
    }

    /// The same for the strings in `ids`.
    pub fn condemn(&mut self, ids: std::ops::Range<u32>, used: &Marks, condemned: &mut Condemned) {
        let Symbols { pages, places, ids: known, hasher, marks, .. } = self;
        for id in ids {
            let in_use = used.strings.contains(id) || marks.as_ref().is_some_and(|m| m.strings.contains(id));
            if in_use || places.get(id as usize).is_none_or(|place| *place == NO_TEXT) {
                continue;
            }
            let hash = hasher.hash_one(text_of(pages, places, id));
            if let Ok(entry) = known.find_entry(hash, |other| *other == id) {
                entry.remove();
                condemned.strings.push(id);
            }
        }
    }

    /// Takes the text of at most `n` condemned strings away, and then the schemas. Nobody reads by their ids any more.
    pub fn release(&mut self, condemned: &mut Condemned, n: usize) {
        for id in condemned.strings.drain(condemned.strings.len().saturating_sub(n)..) {
            let place = std::mem::replace(&mut self.places[id as usize], NO_TEXT);
            let (page, len) = (page_of(place), (place & ((1 << LEN_BITS) - 1)) as usize);
            self.text_bytes -= len;
            self.page_live[page] -= len;
            if self.page_live[page] == 0 && page != self.page_current {
                self.pages[page] = String::new();
                self.pages_free.push(page as u32);
            }
            self.ids_free.push(id);
        }
        if condemned.strings.is_empty() {
            for id in condemned.schemas.drain(..) {
                self.schemas[id as usize] = Box::default();
                self.schemas_free.push(id);
            }
            if self.ids.len() * 4 < self.ids.capacity() {
                let (pages, places, hasher) = (&self.pages, &self.places, &self.hasher);
                self.ids.shrink_to_fit(|id| hasher.hash_one(text_of(pages, places, *id)));
            }
        }
    }

    /// Moves the texts of those of the strings in `ids` whose page is mostly unused.
    pub fn compact(&mut self, ids: std::ops::Range<u32>) {
        for id in ids {
            let Some(&place) = self.places.get(id as usize) else { break };
            let page = page_of(place);
            if place == NO_TEXT || page == self.page_current || self.page_live[page] * 4 > PAGE_BYTES {
                continue;
            }
            let text = self.get(id).to_owned();
            self.places[id as usize] = self.put_text(&text);
            self.page_live[page] -= text.len();
            if self.page_live[page] == 0 {
                self.pages[page] = String::new();
                self.pages_free.push(page as u32);
            }
        }
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

    /// Those whose names `keep` accepts.
    pub fn pairs_where<'a>(
        &'a self,
        words: &'a [u32],
        keep: &'a dyn Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (schema, values) = words.split_first().expect("a label set starts with its schema");
        let named = self.schema(*schema).iter().zip(values).map(|(name, value)| (self.get(*name), value));
        named.filter(|(name, _)| keep(name)).map(|(name, value)| (name, self.get(*value)))
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

    // === For images of the head ===

    /// The strings from id `first` on, in the order of their ids; `None` for ids that are free or condemned.
    pub fn saved_texts(&self, first: usize) -> impl Iterator<Item = Option<&str>> {
        (first..self.places.len()).map(|id| {
            let text = self.get(id as SymbolId);
            (self.places[id] != NO_TEXT && self.find(text) == Some(id as SymbolId)).then_some(text)
        })
    }

    /// The schemas, in the order of their ids; without names for ids that are free or condemned.
    pub fn saved_schemas(&self) -> impl Iterator<Item = &[SymbolId]> {
        self.schemas.iter().enumerate().map(|(id, names)| {
            let known = self.schema_ids.find(self.hasher.hash_one(&**names), |other| *other == id as u32);
            known.map_or(&[][..], |_| &**names)
        })
    }

    /// Adds the string with the next id. `None` if there is one like it.
    pub fn restore_text(&mut self, text: Option<&str>) -> Option<()> {
        let id = self.places.len() as SymbolId;
        match text {
            Some(text) => {
                let free = std::mem::take(&mut self.ids_free);
                let given = self.intern(text);
                self.ids_free = free;
                (given == Some(id)).then_some(())
            }
            None => {
                self.places.push(NO_TEXT);
                self.ids_free.push(id);
                Some(())
            }
        }
    }

    /// Adds the schema with the next id. `None` if there is one like it.
    pub fn restore_schema(&mut self, names: &[SymbolId]) -> Option<()> {
        let id = self.schemas.len() as u32;
        if names.is_empty() {
            self.schemas.push(Box::default());
            self.schemas_free.push(id);
            return Some(());
        }
        let free = std::mem::take(&mut self.schemas_free);
        let given = self.intern_schema(names);
        self.schemas_free = free;
        (given == id).then_some(())
    }

    /// Makes room for so many strings.
    pub fn reserve(&mut self, strings: usize) {
        self.places.reserve(strings);
        let (pages, places, hasher) = (&self.pages, &self.places, &self.hasher);
        self.ids.reserve(strings, |id| hasher.hash_one(text_of(pages, places, *id)));
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Bytes of text and tables.
    pub fn memory_bytes(&self) -> usize {
        self.text_bytes + self.places.len() * 8 + self.ids.allocation_size() + self.ids_free.capacity() * 4
    }
}

fn pages_index(offset: usize, len: usize) -> u64 {
    (len as u64) | ((offset as u64) << LEN_BITS)
}

#[inline]
fn page_of(place: u64) -> usize {
    (place >> (LEN_BITS + OFFSET_BITS)) as usize
}

#[inline]
fn text_of<'a>(pages: &'a [String], places: &[u64], id: SymbolId) -> &'a str {
    let Some(&place) = places.get(id as usize).filter(|place| **place != NO_TEXT) else { return "" };
    let len = (place & ((1 << LEN_BITS) - 1)) as usize;
    let offset = (place >> LEN_BITS & ((1 << OFFSET_BITS) - 1)) as usize;
    &pages[page_of(place)][offset..offset + len]
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

    #[test]
    fn a_label_set_like_another_has_the_ids_it_has_alone() {
        let sets: Vec<Labels> = (0..3000)
            .map(|i| {
                let names = ["a", "b", "c", "d", "e"];
                let some = names.iter().enumerate().filter(|(at, _)| (i / 100 + at) % 4 > 0 || at % 2 == i % 2);
                Labels::from_pairs(some.map(|(at, name)| (*name, format!("v{}", i / (at * 7 + 1) % 50))))
            })
            .collect();
        let (mut alone, mut alike) = (Symbols::default(), Symbols::default());
        let (mut words, mut like, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for labels in &sets {
            alone.intern_labels(labels, &mut words).unwrap();
            alike.intern_labels_like(labels, &like, &mut next).unwrap();
            assert_eq!(next, words, "{labels}");
            assert_eq!(alike.labels(&next), *labels);
            std::mem::swap(&mut like, &mut next);
        }
        assert_eq!((alone.len(), alone.id_counts()), (alike.len(), alike.id_counts()));
        // What is given out again counts as used.
        alike.begin_mark();
        alike.intern_labels_like(&sets[0], &like, &mut next).unwrap();
        alike.intern_labels_like(&sets[0], &next.clone(), &mut words).unwrap();
        assert_eq!(words, next);
        let marks = alike.marks.as_ref().unwrap();
        assert!(marks.has_schema(words[0]) && words[1..].iter().all(|id| marks.has_string(*id)));
    }

    #[test]
    fn unused_strings_go_when_nobody_reads_them_any_more() {
        let mut symbols = Symbols::default();
        let (mut words, mut kept) = (Vec::new(), Vec::new());
        for i in 0..20_000 {
            let name = if i % 3 == 0 { "a".to_owned() } else { format!("name_{}", i % 7) };
            let labels = Labels::from_pairs([(name, format!("value-{i}-{}", "x".repeat(i % 300)))]);
            symbols.intern_labels(&labels, &mut words).unwrap();
            if i % 3 == 0 && i % 50 == 0 {
                kept.push((labels, words.clone()));
            }
        }
        symbols.begin_mark();
        let mut used = Marks::default();
        kept.iter().for_each(|(_, words)| used.add_words(words));
        // One comes back while the ids in use are collected.
        let back = Labels::from_pairs([("a", "value-3-xxx")]);
        symbols.intern_labels(&back, &mut words).unwrap();
        kept.push((back, words.clone()));
        let mut condemned = Condemned::default();
        let (n, n_schemas) = symbols.id_counts();
        symbols.condemn_schemas(0..n_schemas, &mut used, &mut condemned);
        (0..n).step_by(1000).for_each(|at| symbols.condemn(at..at + 1000, &used, &mut condemned));
        symbols.end_mark();
        assert_eq!((condemned.len(), condemned.schemas.len()), (n as usize - kept.len() - 1, 7));
        assert_eq!(symbols.len(), kept.len() + 1);
        // A reader that has the id still reads the text; the same text now gets another id.
        let (id, text) = (condemned.strings[0], symbols.get(condemned.strings[0]).to_owned());
        assert!(!text.is_empty());
        assert_eq!(symbols.find(&text), None);
        assert_ne!(symbols.intern(&text), Some(id));
        assert_eq!(symbols.get(id), text);

        let before = symbols.pages.iter().map(String::capacity).sum::<usize>();
        while !condemned.is_empty() {
            symbols.release(&mut condemned, 1000);
        }
        (0..n).step_by(1000).for_each(|at| symbols.compact(at..at + 1000));
        let after = symbols.pages.iter().map(String::capacity).sum::<usize>();
        assert!(after * 2 <= before, "{after} bytes of {before}");
        for (labels, words) in &kept {
            assert_eq!(symbols.labels(words), *labels);
            let mut again = Vec::new();
            symbols.intern_labels(labels, &mut again).unwrap();
            assert_eq!(again, *words);
        }
        // Ids are given out again.
        (0..10_000).for_each(|i| assert!(symbols.intern(&format!("new {i}")).unwrap() < n));
    }
}
