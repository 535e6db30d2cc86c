//! Writing an index: symbols first, then series as they come, then postings, which are gathered from the series just
//! written. In memory are the symbols, four bytes per series, twelve per postings list, and the pairs of a few label names
//! at a time; never the series.

use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

use fk_model::Labels;
use fk_storage::StorageError;
use fk_vfs::Vfs;
use hashbrown::{HashMap, HashTable};

use crate::codec::{Cursor, Fault, put_sized, put_uvarint, put_varint};
use crate::index::{ChunkMeta, INDEX_FILE, MAGIC, SERIES_ALIGN, Toc};
use crate::sequential::Sequential;
use crate::stream::SeriesStream;
use crate::writer::Pace;

/// The version written.
const VERSION: u8 = 2;

/// Pairs of value and series that are gathered in one walk through the series, 8 bytes each, unless one label name alone
/// has more.
const PAIRS_MAX: u64 = 4 << 20;

/// Series are read again in pieces of this size, or larger if a series is.
const READ_BYTES: usize = 1 << 20;

/// Lists are aligned to this.
const LIST_ALIGN: u64 = 4;

/// Bytes of a list beside its series: length, number, checksum.
const LIST_FRAME_BYTES: u64 = 12;

/// All strings, in order, as they stand in the file.
#[derive(Debug)]
struct SymbolTable {
    /// The body of the section.
    bytes: Vec<u8>,
    /// Where each string begins in `bytes`, with its length.
    starts: Vec<u32>,
    /// Numbers of strings by their hash.
    by_text: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
}

impl SymbolTable {
    fn gather(stream: &dyn SeriesStream, path: &Path) -> Result<SymbolTable, StorageError> {
        let mut table = SymbolTable {
            bytes: vec![0; 4],
            starts: Vec::new(),
            by_text: HashTable::new(),
            hasher: foldhash::fast::FixedState::default(),
        };
        stream.symbols(&mut |text| {
            let (Ok(start), Ok(number)) = (u32::try_from(table.bytes.len()), u32::try_from(table.starts.len())) else {
                return Err(refused(path, "more than 4 GiB of symbols".to_owned()));
            };
            if table.starts.last().is_some_and(|last| text_at(&table.bytes, *last) >= text.as_bytes()) {
                return Err(refused(path, format!("symbol {text:?} comes too late")));
            }
            put_sized(&mut table.bytes, text.as_bytes());
            table.starts.push(start);
            let SymbolTable { bytes, starts, by_text, hasher } = &mut table;
            by_text.insert_unique(hasher.hash_one(text.as_bytes()), number, |n| {
                hasher.hash_one(text_at(bytes, starts[*n as usize]))
            });
            Ok(())
        })?;
        let count = (table.starts.len() as u32).to_be_bytes();
        table.bytes[..4].copy_from_slice(&count);
        Ok(table)
    }

    fn text(&self, number: u32) -> &[u8] {
        text_at(&self.bytes, self.starts[number as usize])
    }

    fn number(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text.as_bytes());
        self.by_text.find(hash, |n| self.text(*n) == text.as_bytes()).copied()
    }
}

/// The string that begins at `start`, in bytes that [`SymbolTable::gather`] has written.
fn text_at(bytes: &[u8], start: u32) -> &[u8] {
    Cursor::new(&bytes[start as usize..], 0).sized().expect("written as a length and so many bytes")
}

/// A list of postings: `None` is that of all series.
type ListOf = Option<(u32, u32)>;

/// Writes an index.
pub(crate) struct IndexWriter {
    path: PathBuf,
    file: Sequential,
    toc: Toc,
    symbols: SymbolTable,
    /// Numbers of all series.
    series: Vec<u32>,
    /// How many series have each label name.
    names: HashMap<u32, u64, foldhash::fast::FixedState>,
    last_labels: Labels,
    /// Symbols of `last_labels`: of neighbours most labels are the same.
    last_symbols: Vec<(u32, u32)>,
    symbols_scratch: Vec<(u32, u32)>,
    body: Vec<u8>,
    /// Bytes that the caller's pace has been told of.
    told: u64,
}

/// A stream that cannot be written.
#[cold]
fn refused(path: &Path, reason: String) -> StorageError {
    Fault::new(0, reason).of(path)
}

impl IndexWriter {
    /// Begins the index of the block in `dir`: writes the symbols of the stream.
    pub fn create(vfs: &dyn Vfs, dir: &Path, stream: &dyn SeriesStream) -> Result<IndexWriter, StorageError> {
        let path = dir.join(INDEX_FILE);
        let symbols = SymbolTable::gather(stream, &path)?;
        let mut file = Sequential::create(vfs, &path)?;
        file.push(|buffer| {
            buffer.extend_from_slice(&MAGIC.to_be_bytes());
            buffer.push(VERSION);
        })?;
        let mut toc = Toc { symbols: file.position(), ..Toc::default() };
        let Ok(len) = u32::try_from(symbols.bytes.len()) else {
            return Err(refused(&path, "more than 4 GiB of symbols".to_owned()));
        };
        file.write(&len.to_be_bytes())?;
        file.write(&symbols.bytes)?;
        file.write(&crc32c::crc32c(&symbols.bytes).to_be_bytes())?;
        file.pad(SERIES_ALIGN)?;
        toc.series = file.position();
        Ok(IndexWriter {
            path,
            file,
            toc,
            symbols,
            series: Vec::new(),
            names: HashMap::default(),
            last_labels: Labels::empty(),
            last_symbols: Vec::new(),
            symbols_scratch: Vec::new(),
            body: Vec::new(),
            told: 0,
        })
    }

    /// Bytes so far.
    pub fn position(&self) -> u64 {
        self.file.position()
    }

    /// How many series there are so far.
    pub fn n_series(&self) -> u64 {
        self.series.len() as u64
    }

    /// Adds a series; its labels come after those of all others.
    pub fn push(&mut self, labels: &Labels, chunks: &[ChunkMeta]) -> Result<(), StorageError> {
        if !self.series.is_empty() && *labels <= self.last_labels {
            return Err(refused(&self.path, format!("series {labels} comes too late")));
        }
        self.find_symbols(labels)?;
        self.body.clear();
        put_uvarint(&mut self.body, self.last_symbols.len() as u64);
        for (name, value) in &self.last_symbols {
            put_uvarint(&mut self.body, u64::from(*name));
            put_uvarint(&mut self.body, u64::from(*value));
            *self.names.entry(*name).or_default() += 1;
        }
        put_uvarint(&mut self.body, chunks.len() as u64);
        let mut before: Option<ChunkMeta> = None;
        for chunk in chunks {
            match before {
                None => put_varint(&mut self.body, chunk.mint),
                Some(before) if before.maxt < chunk.mint => {
                    put_uvarint(&mut self.body, chunk.mint.wrapping_sub(before.maxt) as u64);
                }
                Some(_) => return Err(refused(&self.path, format!("chunks of series {labels} overlap"))),
            }
            if chunk.maxt < chunk.mint {
                return Err(refused(&self.path, format!("a chunk of series {labels} ends before it begins")));
            }
            put_uvarint(&mut self.body, chunk.maxt.wrapping_sub(chunk.mint) as u64);
            match before {
                None => put_uvarint(&mut self.body, chunk.reference),
                Some(before) => put_varint(&mut self.body, chunk.reference.wrapping_sub(before.reference) as i64),
            }
            before = Some(*chunk);
        }
        self.file.pad(SERIES_ALIGN)?;
        let Ok(series) = u32::try_from(self.file.position() / SERIES_ALIGN) else {
            return Err(refused(&self.path, "more than 64 GiB of series".to_owned()));
        };
        self.series.push(series);
        let body = &self.body;
        self.file.push(|buffer| {
            put_sized(buffer, body);
            buffer.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
        })
    }

    /// Replaces `last_symbols` by those of `labels`.
    fn find_symbols(&mut self, labels: &Labels) -> Result<(), StorageError> {
        let before = std::mem::replace(&mut self.last_labels, labels.clone());
        self.symbols_scratch.clear();
        let mut known = before.iter().zip(&self.last_symbols).peekable();
        for (name, value) in labels {
            while known.next_if(|((of, _), _)| *of < name).is_some() {}
            let found = match known.peek() {
                Some(((of, its), symbols)) if *of == name => {
                    let value = if *its == value { Some(symbols.1) } else { self.symbols.number(value) };
                    value.map(|value| (symbols.0, value))
                }
                _ => self.symbols.number(name).zip(self.symbols.number(value)),
            };
            let Some(found) = found else {
                return Err(refused(&self.path, format!("a string of series {labels} is no symbol")));
            };
            self.symbols_scratch.push(found);
        }
        std::mem::swap(&mut self.last_symbols, &mut self.symbols_scratch);
        Ok(())
    }

    /// Writes postings and tables, and makes everything durable.
    pub fn finish(mut self, pace: &mut Pace<'_>) -> Result<(), StorageError> {
        self.toc.label_indices = self.file.position();
        self.file.flush()?;
        self.told = self.file.position();
        let series_end = self.toc.label_indices;
        self.file.pad(LIST_ALIGN)?;
        self.toc.postings = self.file.position();
        // Every list with its length, in the order in which they stand in the file.
        let mut lists: Vec<(ListOf, u32)> = Vec::new();
        let all = std::mem::take(&mut self.series);
        self.write_list(all.iter().copied(), all.len())?;
        lists.push((None, all.len() as u32));

        let mut names: Vec<(u32, u64)> = self.names.iter().map(|(name, n)| (*name, *n)).collect();
        names.sort_unstable();
        let mut rest = names.as_slice();
        while !rest.is_empty() {
            let mut total = 0;
            let mut fits = |(_, n): &(u32, u64)| {
                total += n;
                total <= PAIRS_MAX
            };
            let n = rest.iter().take_while(|name| fits(name)).count().max(1);
            let (batch, others) = rest.split_at(n);
            rest = others;
            for (name, mut pairs) in self.gather_pairs(batch, &all, series_end, pace)? {
                pairs.sort_unstable();
                for of_value in pairs.chunk_by(|a, b| a >> 32 == b >> 32) {
                    self.write_list(of_value.iter().map(|pair| *pair as u32), of_value.len())?;
                    lists.push((Some((name, (of_value[0] >> 32) as u32)), of_value.len() as u32));
                    self.tell(pace)?;
                }
            }
        }
        drop(all);
        self.toc.label_table = self.file.position();
        self.toc.postings_table = self.file.position();
        self.write_postings_table(&lists)?;
        let toc = self.toc.to_bytes();
        self.file.write(&toc)?;
        self.tell(pace)?;
        self.file.finish()
    }

    /// Tells the pace what has been written since the last time, if it is worth it.
    fn tell(&mut self, pace: &mut Pace<'_>) -> Result<(), StorageError> {
        let bytes = self.file.position() - self.told;
        if bytes >= READ_BYTES as u64 {
            self.told = self.file.position();
            pace(bytes)?;
        }
        Ok(())
    }

    fn write_list(&mut self, series: impl Iterator<Item = u32>, n: usize) -> Result<(), StorageError> {
        let Some(len) = u32::try_from(n).ok().and_then(|n| n.checked_mul(4)?.checked_add(4)) else {
            return Err(refused(&self.path, "more than a billion series".to_owned()));
        };
        self.file.push(|buffer| {
            buffer.extend_from_slice(&len.to_be_bytes());
            let start = buffer.len();
            buffer.extend_from_slice(&(n as u32).to_be_bytes());
            buffer.extend(series.flat_map(u32::to_be_bytes));
            let crc = crc32c::crc32c(&buffer[start..]);
            buffer.extend_from_slice(&crc.to_be_bytes());
        })
    }

    /// Walks through the series written and gathers, for each name of the batch, value (upper half) and series.
    fn gather_pairs(
        &self,
        batch: &[(u32, u64)],
        all: &[u32],
        series_end: u64,
        pace: &mut Pace<'_>,
    ) -> Result<Vec<(u32, Vec<u64>)>, StorageError> {
        let mut gathered: Vec<(u32, Vec<u64>)> =
            batch.iter().map(|(name, n)| (*name, Vec::with_capacity(*n as usize))).collect();
        let place: HashMap<u32, usize, foldhash::fast::FixedState> =
            batch.iter().enumerate().map(|(i, (name, _))| (*name, i)).collect();
        let mut read = Window { bytes: Vec::new(), start: 0, end: series_end };
        for (i, series) in all.iter().enumerate() {
            if i % (1 << 16) == 0 {
                pace(0)?;
            }
            let offset = u64::from(*series) * SERIES_ALIGN;
            let next = all.get(i + 1).map_or(series_end, |next| u64::from(*next) * SERIES_ALIGN);
            let entry = read.get(&self.file, offset, next)?;
            let pairs = (|| {
                let mut cursor = Cursor::new(entry, offset);
                cursor.uvarint()?;
                for _ in 0..cursor.uvarint()? {
                    let (name, value) = (cursor.uvarint32()?, cursor.uvarint32()?);
                    if let Some(place) = place.get(&name) {
                        gathered[*place].1.push(u64::from(value) << 32 | u64::from(*series));
                    }
                }
                Ok(())
            })();
            pairs.map_err(|fault: Fault| fault.of(&self.path))?;
        }
        Ok(gathered)
    }

    fn write_postings_table(&mut self, lists: &[(ListOf, u32)]) -> Result<(), StorageError> {
        // Two rounds over the entries: the length stands in front of them.
        let mut entry = Vec::new();
        let (mut len, mut offset) = (4u64, self.toc.postings);
        for (of, n) in lists {
            self.table_entry(*of, offset, &mut entry);
            len += entry.len() as u64;
            offset += LIST_FRAME_BYTES + u64::from(*n) * 4;
        }
        let (Ok(len), Ok(n)) = (u32::try_from(len), u32::try_from(lists.len())) else {
            return Err(refused(&self.path, "more than 4 GiB of label pairs".to_owned()));
        };
        self.file.write(&len.to_be_bytes())?;
        self.file.write(&n.to_be_bytes())?;
        let mut crc = crc32c::crc32c(&n.to_be_bytes());
        let mut offset = self.toc.postings;
        for (of, n) in lists {
            self.table_entry(*of, offset, &mut entry);
            crc = crc32c::crc32c_append(crc, &entry);
            self.file.write(&entry)?;
            offset += LIST_FRAME_BYTES + u64::from(*n) * 4;
        }
        self.file.write(&crc.to_be_bytes())
    }

    fn table_entry(&self, of: ListOf, offset: u64, out: &mut Vec<u8>) {
        let (name, value) = match of {
            None => (&b""[..], &b""[..]),
            Some((name, value)) => (self.symbols.text(name), self.symbols.text(value)),
        };
        out.clear();
        out.push(2);
        put_sized(out, name);
        put_sized(out, value);
        put_uvarint(out, offset);
    }
}

/// A part of a file in memory, moved along from front to back.
struct Window {
    bytes: Vec<u8>,
    start: u64,
    /// Nothing is read from here on.
    end: u64,
}

impl Window {
    /// The bytes from `offset` up to `next`.
    fn get(&mut self, file: &Sequential, offset: u64, next: u64) -> Result<&[u8], StorageError> {
        if offset < self.start || next > self.start + self.bytes.len() as u64 {
            let len = (READ_BYTES as u64).max(next - offset).min(self.end - offset);
            self.bytes.resize(len as usize, 0);
            file.file().read_exact_at(&mut self.bytes, offset)?;
            self.start = offset;
        }
        Ok(&self.bytes[(offset - self.start) as usize..(next - self.start) as usize])
    }
}
