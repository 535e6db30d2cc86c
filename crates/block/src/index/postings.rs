//! Postings: which series have a label pair. A table leads from pairs to lists.
//!
//! The table stays in the file; of each label name every 32nd entry is known by its position, as in Prometheus. In indexes
//! of version 1 the table has no order, so there the position of every entry is kept.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::symbols::STRIDE;
use crate::codec::{Cursor, Fault, section, text};

/// Bytes of a number in a list.
const REF_BYTES: usize = 4;

/// A list of series as it stands in the file: ascending numbers.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    numbers: &'a [[u8; REF_BYTES]],
}

impl<'a> List<'a> {
    /// How many series.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Series number `idx` of the list, `idx < len()`.
    #[inline]
    pub fn get(&self, idx: usize) -> u32 {
        u32::from_be_bytes(self.numbers[idx])
    }

    /// The series.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.numbers.iter().map(|n| u32::from_be_bytes(*n))
    }
}

/// Where the entries of one label name are in the table.
#[derive(Debug)]
struct Name {
    /// Positions within the table, in order of values: of every `stride`th entry.
    positions: Vec<u32>,
    /// How many values there are.
    n: u32,
}

/// The postings offset table.
#[derive(Debug)]
pub(super) struct Table {
    file: Bytes,
    /// The table, without its length and the number of entries.
    bytes: Bytes,
    /// Offset of `bytes` within the file.
    base: u64,
    stride: usize,
    names: BTreeMap<Box<str>, Name>,
    /// Position of the entry of all series.
    all: Option<u32>,
}

/// An entry of the table.
struct Entry<'a> {
    name: &'a [u8],
    value: &'a [u8],
    value_offset: u64,
    list_offset: u64,
}

fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, Fault> {
    let at = cursor.offset();
    let strings = cursor.byte()?;
    if strings != 2 {
        return Err(Fault::new(at, format!("{strings} strings in an entry of the postings table")));
    }
    let name = cursor.sized()?;
    let value_offset = cursor.offset();
    let value = cursor.sized()?;
    Ok(Entry { name, value, value_offset, list_offset: cursor.uvarint()? })
}

impl Table {
    /// Reads through the table that begins at `offset`. `sorted`: the version promises an order.
    pub fn open(file: &Bytes, offset: u64, sorted: bool) -> Result<Table, Fault> {
        let mut cursor = section(file, offset)?;
        let n = cursor.u32()?;
        let (base, len) = (cursor.offset(), cursor.left());
        let start = base as usize;
        let bytes = file.slice(start..start + len);
        let mut table = Table { file: file.clone(), bytes, base, stride: STRIDE, names: BTreeMap::new(), all: None };
        if !(sorted && table.scan_sorted(n)?) {
            table.scan_unsorted(n)?;
        }
        Ok(table)
    }

    fn cursor(&self, at: u32) -> Cursor<'_> {
        Cursor::new(&self.bytes[at as usize..], self.base + u64::from(at))
    }

    /// Keeps every [`STRIDE`]th position; `false` if the entries turn out not to be in order.
    fn scan_sorted(&mut self, n: u32) -> Result<bool, Fault> {
        let mut names = BTreeMap::new();
        let mut all = None;
        let bytes = self.bytes.clone();
        let mut cursor = Cursor::new(&bytes, self.base);
        let mut last: Option<(&[u8], &[u8])> = None;
        let mut open: Option<(&str, Name)> = None;
        for _ in 0..n {
            let position = cursor.position() as u32;
            let Entry { name, value, .. } = entry(&mut cursor)?;
            if last.is_some_and(|last| last >= (name, value)) {
                return Ok(false);
            }
            if name.is_empty() && value.is_empty() {
                all = Some(position);
            } else {
                if last.is_none_or(|(before, _)| before != name) || open.is_none() {
                    let name = text(name, self.base + u64::from(position))?;
                    if let Some((name, entries)) = open.replace((name, Name { positions: Vec::new(), n: 0 })) {
                        names.insert(Box::from(name), entries);
                    }
                }
                if let Some((_, entries)) = &mut open {
                    if (entries.n as usize).is_multiple_of(STRIDE) {
                        entries.positions.push(position);
                    }
                    entries.n += 1;
                }
            }
            last = Some((name, value));
        }
        if let Some((name, entries)) = open {
            names.insert(Box::from(name), entries);
        }
        (self.names, self.all) = (names, all);
        Ok(true)
    }

    /// Keeps all positions.
    fn scan_unsorted(&mut self, n: u32) -> Result<(), Fault> {
        let bytes = self.bytes.clone();
        let mut cursor = Cursor::new(&bytes, self.base);
        let mut by_name: BTreeMap<&str, Vec<(&[u8], u32)>> = BTreeMap::new();
        for _ in 0..n {
            let position = cursor.position() as u32;
            let at = cursor.offset();
            let Entry { name, value, .. } = entry(&mut cursor)?;
            if name.is_empty() && value.is_empty() {
                self.all = Some(position);
            } else {
                by_name.entry(text(name, at)?).or_default().push((value, position));
            }
        }
        self.stride = 1;
        for (name, mut values) in by_name {
            values.sort_unstable();
            values.dedup_by_key(|(value, _)| *value);
            let positions: Vec<u32> = values.into_iter().map(|(_, position)| position).collect();
            let n = positions.len() as u32;
            self.names.insert(Box::from(name), Name { positions, n });
        }
        Ok(())
    }

    /// Bytes of memory beside the map.
    pub fn memory_bytes(&self) -> usize {
        self.names.iter().map(|(name, entries)| name.len() + entries.positions.len() * 4 + 64).sum()
    }

    /// The label names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// How many values a label name has.
    pub fn n_values(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, |entries| entries.n as usize)
    }

    /// The list of all series.
    pub fn all(&self) -> Result<List<'_>, Fault> {
        let Some(position) = self.all else { return Err(Fault::new(self.base, "no list of all series")) };
        let entry = entry(&mut self.cursor(position))?;
        self.list(entry.list_offset)
    }

    /// The list of a label pair.
    pub fn find(&self, name: &str, value: &str) -> Result<Option<List<'_>>, Fault> {
        let mut values = self.values_from(name, value);
        match values.next() {
            Some(found) => {
                let found = found?;
                if found.value == value { Ok(Some(self.list(found.list_offset)?)) } else { Ok(None) }
            }
            None => Ok(None),
        }
    }

    /// The values of a label name that are not below `from`, in order.
    pub fn values_from<'a>(&'a self, name: &str, from: &'a str) -> Values<'a> {
        let Some(entries) = self.names.get(name) else {
            return Values { table: self, entries: None, idx: 0, cursor: None, from };
        };
        let (mut low, mut high) = (0, entries.positions.len());
        // The last kept entry whose value is not greater: the first one wanted is behind it, or it.
        while low < high {
            let middle = (low + high) / 2;
            // Entries have been read once at the start; one that cannot be read any more is met again by the walk.
            let reached = entry(&mut self.cursor(entries.positions[middle])).is_ok_and(|e| e.value <= from.as_bytes());
            match reached {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let idx = low.saturating_sub(1) * self.stride;
        Values { table: self, entries: Some(entries), idx, cursor: None, from }
    }

    /// The list at an offset of the file; checks its checksum.
    pub fn list(&self, offset: u64) -> Result<List<'_>, Fault> {
        let mut cursor = section(&self.file, offset)?;
        let n = cursor.u32()? as usize;
        if cursor.left() / REF_BYTES != n || cursor.left() % REF_BYTES != 0 {
            return Err(cursor.fault(format!("list of {n} series in {} bytes", cursor.left())));
        }
        let (numbers, _) = cursor.take(n * REF_BYTES)?.as_chunks();
        Ok(List { numbers })
    }

    /// How many series the list at an offset has, without reading it.
    pub fn list_len(&self, offset: u64) -> Result<usize, Fault> {
        let start = usize::try_from(offset).ok().filter(|start| *start <= self.file.len());
        let Some(start) = start else { return Err(Fault::new(offset, "offset beyond the end of the file")) };
        let mut cursor = Cursor::new(&self.file[start..], offset);
        cursor.u32()?;
        Ok(cursor.u32()? as usize)
    }
}

/// A value of a label name.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The value.
    pub value: &'a str,
    /// Where its list is in the file.
    pub(crate) list_offset: u64,
}

/// Values of a label name, in order.
#[derive(Debug)]
pub(super) struct Values<'a> {
    table: &'a Table,
    entries: Option<&'a Name>,
    idx: usize,
    /// Behind the last entry read, if the next one follows it.
    cursor: Option<Cursor<'a>>,
    /// Smaller ones are skipped.
    from: &'a str,
}

impl<'a> Values<'a> {
    fn read(&mut self) -> Option<Result<Value<'a>, Fault>> {
        loop {
            let entries = self.entries.filter(|entries| self.idx < entries.n as usize)?;
            let mut cursor = match self.cursor.take() {
                Some(cursor) if self.table.stride > 1 => cursor,
                _ => self.table.cursor(entries.positions[self.idx / self.table.stride]),
            };
            let entry = match entry(&mut cursor) {
                Ok(entry) => entry,
                Err(fault) => {
                    self.entries = None;
                    return Some(Err(fault));
                }
            };
            self.idx += 1;
            self.cursor = Some(cursor);
            if entry.value >= self.from.as_bytes() {
                let value = text(entry.value, entry.value_offset);
                return Some(value.map(|value| Value { value, list_offset: entry.list_offset }));
            }
        }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Value<'a>, Fault>;

    #[inline]
    fn next(&mut self) -> Option<Result<Value<'a>, Fault>> {
        self.read()
    }
}
