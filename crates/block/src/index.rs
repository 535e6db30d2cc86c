//! The index of a block: symbols, series and postings (`docs/format/index.md`).
//!
//! Nothing of it is loaded: the file is mapped, and what is kept in memory are the positions of every 32nd symbol and of
//! every 32nd value of each label name. Opening reads the two tables through once and checks their checksums; those of
//! series and lists are checked when they are used.
//!
//! Version 2 is what is written ([`crate::BlockWriter`]); version 1 (Prometheus 2.0) is read as well. It refers to symbols
//! and series by their offsets and its table of postings has no order.

mod postings;
mod symbols;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fk_model::{Labels, LabelsBuilder};
use fk_storage::StorageError;
use fk_vfs::Vfs;

use crate::codec::{CRC_BYTES, Cursor, Fault, check_crc};
use postings::Table;
use symbols::{SymbolRefs, Symbols};

pub use postings::{List, Value};

/// Name of the file.
pub const INDEX_FILE: &str = "index";

/// First bytes of the file.
pub(crate) const MAGIC: u32 = 0xBAAA_D700;

/// Bytes of magic number and version.
pub(crate) const HEADER_BYTES: usize = 5;

/// Bytes of the table of contents, without its checksum.
pub(crate) const TOC_BYTES: usize = 6 * 8;

/// Series begin at multiples of this; their numbers count in it.
pub(crate) const SERIES_ALIGN: u64 = 16;

/// Table of contents: where the sections begin, in bytes; 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Toc {
    pub symbols: u64,
    pub series: u64,
    pub label_indices: u64,
    pub label_table: u64,
    pub postings: u64,
    pub postings_table: u64,
}

impl Toc {
    /// From the last bytes of a file, which begin at `at`.
    pub fn read(bytes: &[u8], at: u64) -> Result<Toc, Fault> {
        let mut cursor = Cursor::new(bytes, at);
        let body = cursor.take(TOC_BYTES)?;
        check_crc(body, cursor.u32()?, at)?;
        let mut cursor = Cursor::new(body, at);
        Ok(Toc {
            symbols: cursor.u64()?,
            series: cursor.u64()?,
            label_indices: cursor.u64()?,
            label_table: cursor.u64()?,
            postings: cursor.u64()?,
            postings_table: cursor.u64()?,
        })
    }

    pub fn to_bytes(self) -> Vec<u8> {
        let Toc { symbols, series, label_indices, label_table, postings, postings_table } = self;
        let mut out = Vec::with_capacity(TOC_BYTES + CRC_BYTES);
        for offset in [symbols, series, label_indices, label_table, postings, postings_table] {
            out.extend_from_slice(&offset.to_be_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }
}

/// The version of an index, from its first bytes.
pub(crate) fn check_header(file: &[u8]) -> Result<u8, Fault> {
    let mut cursor = Cursor::new(file, 0);
    let magic = cursor.u32()?;
    if magic != MAGIC {
        return Err(Fault::new(0, format!("invalid magic number {magic:x}")));
    }
    let version = cursor.byte()?;
    if !matches!(version, 1 | 2) {
        // Text as in Prometheus:
        return Err(Fault::new(4, format!("unknown index file version {version}")));
    }
    Ok(version)
}

/// A chunk as the index knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Time of its first sample, ms.
    pub mint: i64,
    /// Time of its last sample, ms.
    pub maxt: i64,
    /// Where it is: segment in the upper 32 bits, offset in the lower ones.
    pub reference: u64,
}

/// A series as it stands in the index, in memory that is reused.
#[derive(Clone, Debug, Default)]
pub struct SeriesEntry {
    /// Symbols of names and values.
    pub(crate) symbols: Vec<(u32, u32)>,
    /// Its chunks, ascending.
    pub chunks: Vec<ChunkMeta>,
}

/// An open index.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    file: Bytes,
    toc: Toc,
    version: u8,
    symbols: Symbols,
    table: Table,
}

impl Index {
    /// Opens the index of the block in `dir`.
    pub fn open(vfs: &dyn Vfs, dir: &Path) -> Result<Index, StorageError> {
        let path = dir.join(INDEX_FILE);
        let file = vfs.map(&path)?;
        Index::parse(file, path)
    }

    /// From the contents of a file; `path` is for errors.
    pub fn parse(file: Bytes, path: PathBuf) -> Result<Index, StorageError> {
        match Index::decode(&file) {
            Ok((toc, version, symbols, table)) => Ok(Index { path, file, toc, version, symbols, table }),
            Err(fault) => Err(fault.of(&path)),
        }
    }

    fn decode(file: &Bytes) -> Result<(Toc, u8, Symbols, Table), Fault> {
        if file.len() < HEADER_BYTES + TOC_BYTES + CRC_BYTES {
            return Err(Fault::new(0, format!("file of {} bytes is too short", file.len())));
        }
        let version = check_header(file)?;
        let toc_at = file.len() - TOC_BYTES - CRC_BYTES;
        let toc = Toc::read(&file[toc_at..], toc_at as u64)?;
        let refs = if version == 1 { SymbolRefs::Offset } else { SymbolRefs::Number };
        let symbols = Symbols::open(file, toc.symbols, refs)?;
        let table = Table::open(file, toc.postings_table, version == 2)?;
        Ok((toc, version, symbols, table))
    }

    /// The error that a fault in this file is.
    #[cold]
    pub(crate) fn error(&self, fault: Fault) -> StorageError {
        fault.of(&self.path)
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Bytes of memory that the index takes beside its map.
    pub fn memory_bytes(&self) -> usize {
        self.symbols.memory_bytes() + self.table.memory_bytes()
    }

    /// How many strings the symbol table has.
    pub fn n_symbols(&self) -> usize {
        self.symbols.len()
    }

    /// All strings of the index in order.
    pub fn symbols(&self) -> impl Iterator<Item = Result<&str, StorageError>> {
        self.symbols.iter().map(|symbol| symbol.map_err(|fault| self.error(fault)))
    }

    /// The label names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.table.names()
    }

    /// How many values a label name has.
    pub fn n_values(&self, name: &str) -> usize {
        self.table.n_values(name)
    }

    /// The values of a label name in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = Result<Value<'_>, StorageError>> {
        self.values_from(name, "")
    }

    /// The values of a label name that are not below `from`, in order.
    pub fn values_from<'a>(
        &'a self,
        name: &str,
        from: &'a str,
    ) -> impl Iterator<Item = Result<Value<'a>, StorageError>> {
        self.table.values_from(name, from).map(|value| value.map_err(|fault| self.error(fault)))
    }

    /// How many series have a value, without reading their list.
    pub fn n_series_of(&self, value: &Value<'_>) -> Result<usize, StorageError> {
        self.table.list_len(value.list_offset).map_err(|fault| self.error(fault))
    }

    /// The series that have a value.
    pub fn series_of(&self, value: &Value<'_>) -> Result<List<'_>, StorageError> {
        self.table.list(value.list_offset).map_err(|fault| self.error(fault))
    }

    /// The series that have a label pair.
    pub fn series_with(&self, name: &str, value: &str) -> Result<Option<List<'_>>, StorageError> {
        self.table.find(name, value).map_err(|fault| self.error(fault))
    }

    /// All series, in order of their labels.
    pub fn all_series(&self) -> Result<List<'_>, StorageError> {
        self.table.all().map_err(|fault| self.error(fault))
    }

    /// A number above those of all series.
    pub(crate) fn series_end(&self) -> u64 {
        match self.version {
            1 => self.file.len() as u64,
            _ => self.file.len() as u64 / SERIES_ALIGN + 1,
        }
    }

    /// Reads a series.
    pub fn series(&self, series: u32, out: &mut SeriesEntry) -> Result<(), StorageError> {
        self.decode_series(series, true, out).map_err(|fault| self.error(fault))
    }

    /// Reads the labels of a series only.
    pub(crate) fn series_symbols(&self, series: u32, out: &mut SeriesEntry) -> Result<(), StorageError> {
        self.decode_series(series, false, out).map_err(|fault| self.error(fault))
    }

    fn decode_series(&self, series: u32, with_chunks: bool, out: &mut SeriesEntry) -> Result<(), Fault> {
        out.symbols.clear();
        out.chunks.clear();
        let offset = match self.version {
            1 => u64::from(series),
            _ => u64::from(series) * SERIES_ALIGN,
        };
        let in_section = offset >= self.toc.series && offset < self.file.len() as u64;
        let start = usize::try_from(offset).ok().filter(|_| in_section);
        let Some(start) = start else { return Err(Fault::new(offset, format!("series {series} outside of the file"))) };
        let mut cursor = Cursor::new(&self.file[start..], offset);
        let len = cursor.uvarint()?;
        let Ok(len) = usize::try_from(len) else { return Err(cursor.fault("length beyond the address space")) };
        let at = cursor.offset();
        let body = cursor.take(len)?;
        check_crc(body, cursor.u32()?, at)?;
        let mut cursor = Cursor::new(body, at);
        for _ in 0..cursor.uvarint()? {
            let name = cursor.uvarint32()?;
            out.symbols.push((name, cursor.uvarint32()?));
        }
        if !with_chunks {
            return Ok(());
        }
        let mut before = ChunkMeta::default();
        for i in 0..cursor.uvarint()? {
            let at = cursor.offset();
            let mint = if i == 0 { cursor.varint()? } else { before.maxt.wrapping_add(cursor.uvarint()? as i64) };
            let maxt = mint.wrapping_add(cursor.uvarint()? as i64);
            let reference = match i {
                0 => cursor.uvarint()?,
                _ => before.reference.wrapping_add(cursor.varint()? as u64),
            };
            if maxt < mint {
                return Err(Fault::new(at, "chunk ends before it begins"));
            }
            before = ChunkMeta { mint, maxt, reference };
            out.chunks.push(before);
        }
        Ok(())
    }

    /// The labels of a series that has been read.
    pub fn labels(&self, entry: &SeriesEntry) -> Result<Labels, StorageError> {
        self.decode_labels(entry).map_err(|fault| self.error(fault))
    }

    fn decode_labels(&self, entry: &SeriesEntry) -> Result<Labels, Fault> {
        let mut pairs = smallvec::SmallVec::<[(&str, &str); 24]>::new();
        for (name, value) in &entry.symbols {
            pairs.push((self.symbols.get(*name)?, self.symbols.get(*value)?));
        }
        let ordered = pairs.windows(2).all(|w| w[0].0 < w[1].0) && pairs.iter().all(|(_, value)| !value.is_empty());
        if ordered {
            return Ok(Labels::from_sorted(pairs.iter().copied()));
        }
        // Some writers of old had labels without order.
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        Ok(builder.build())
    }

    /// The string of a symbol.
    pub(crate) fn symbol(&self, reference: u32) -> Result<&str, StorageError> {
        self.symbols.get(reference).map_err(|fault| self.error(fault))
    }

    /// The symbol of a string.
    pub(crate) fn find_symbol(&self, text: &str) -> Result<Option<u32>, StorageError> {
        self.symbols.find(text).map_err(|fault| self.error(fault))
    }
}
