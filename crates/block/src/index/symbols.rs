//! The symbol table: every string of the index once, in ascending order.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fk_model::labels::STRING_BYTES_MAX;

use crate::codec::{Cursor, Fault, section, text};

/// Every so many entries the position of one is kept in memory; to the others one walks.
pub(super) const STRIDE: usize = 32;

/// How strings are referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolRefs {
    /// By offset in the file (version 1).
    Offset,
    /// By number (version 2).
    Number,
}

/// The symbol table of an index.
#[derive(Debug)]
pub(super) struct Symbols {
    refs: SymbolRefs,
    /// The whole section, without its length.
    bytes: Bytes,
    /// Offset of `bytes` within the file.
    base: u64,
    n: usize,
    /// Positions of every [`STRIDE`]th string within `bytes`.
    sparse: Vec<u32>,
    /// Where symbols are that were asked for lately: number plus 1 in the upper half, position in the lower one; a symbol
    /// has one place, by its number. Names and common values are asked for again and again.
    recent: Box<[AtomicU64; RECENT]>,
}

/// Symbols whose positions are remembered, 8 bytes each.
const RECENT: usize = 512;

/// Bytes of the number of strings.
const COUNT_BYTES: usize = 4;

impl Symbols {
    /// Reads through the table that begins at `offset`.
    pub fn open(file: &Bytes, offset: u64, refs: SymbolRefs) -> Result<Symbols, Fault> {
        let cursor = section(file, offset)?;
        let (base, len) = (cursor.offset(), cursor.left());
        let start = base as usize;
        let mut symbols = Symbols {
            refs,
            bytes: file.slice(start..start + len),
            base,
            n: 0,
            sparse: Vec::new(),
            recent: Box::new([const { AtomicU64::new(0) }; RECENT]),
        };
        let mut cursor = symbols.cursor(0);
        let expected = cursor.u32()? as usize;
        let mut sparse = Vec::new();
        let mut last: Option<&[u8]> = None;
        for n in 0..expected {
            if n % STRIDE == 0 {
                sparse.push(cursor.position() as u32);
            }
            let at = cursor.offset();
            let string = cursor.sized()?;
            if string.len() > STRING_BYTES_MAX {
                return Err(Fault::new(at, format!("string of {} bytes", string.len())));
            }
            if last.is_some_and(|last| last >= string) {
                return Err(Fault::new(at, "symbols are not in order"));
            }
            last = Some(string);
        }
        symbols.n = expected;
        symbols.sparse = sparse;
        Ok(symbols)
    }

    fn cursor(&self, at: usize) -> Cursor<'_> {
        Cursor::new(&self.bytes[at..], self.base + at as u64)
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Bytes of memory beside the map.
    pub fn memory_bytes(&self) -> usize {
        self.sparse.len() * 4 + RECENT * 8
    }

    /// The string that `reference` refers to.
    pub fn get(&self, reference: u32) -> Result<&str, Fault> {
        let mut cursor = match self.refs {
            SymbolRefs::Number => {
                let number = reference as usize;
                if number >= self.n {
                    return Err(Fault::new(self.base, format!("symbol {number} of {}", self.n)));
                }
                // Half of a word never belongs to another symbol than the other half, so no order is needed.
                let recent = &self.recent[number % RECENT];
                let known = recent.load(Ordering::Relaxed);
                if known >> 32 == u64::from(reference) + 1 {
                    self.cursor(known as u32 as usize)
                } else {
                    let start = self.sparse[number / STRIDE];
                    let mut cursor = self.cursor(start as usize);
                    for _ in 0..number % STRIDE {
                        cursor.sized()?;
                    }
                    let position = u64::from(start) + cursor.position() as u64;
                    recent.store((u64::from(reference) + 1) << 32 | position, Ordering::Relaxed);
                    cursor
                }
            }
            SymbolRefs::Offset => {
                let at = u64::from(reference).checked_sub(self.base).map(|at| at as usize);
                match at.filter(|at| (COUNT_BYTES..self.bytes.len()).contains(at)) {
                    Some(at) => self.cursor(at),
                    None => return Err(Fault::new(u64::from(reference), "symbol outside of the table")),
                }
            }
        };
        let at = cursor.offset();
        let string = cursor.sized()?;
        if string.len() > STRING_BYTES_MAX {
            return Err(Fault::new(at, format!("string of {} bytes", string.len())));
        }
        text(string, at)
    }

    /// The reference of a string; `None` if it is not there.
    pub fn find(&self, wanted: &str) -> Result<Option<u32>, Fault> {
        let wanted = wanted.as_bytes();
        let (mut low, mut high) = (0, self.sparse.len());
        // The last kept string that is not greater.
        while low < high {
            let middle = (low + high) / 2;
            match self.cursor(self.sparse[middle] as usize).sized()? <= wanted {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let Some(at) = low.checked_sub(1) else { return Ok(None) };
        let mut cursor = self.cursor(self.sparse[at] as usize);
        for number in at * STRIDE..self.n.min((at + 1) * STRIDE) {
            let offset = self.sparse[at] as u64 + self.base + cursor.position() as u64;
            let string = cursor.sized()?;
            if string == wanted {
                return Ok(Some(match self.refs {
                    SymbolRefs::Number => number as u32,
                    SymbolRefs::Offset => offset as u32,
                }));
            }
            if string > wanted {
                break;
            }
        }
        Ok(None)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<&str, Fault>> {
        let mut cursor = self.cursor(COUNT_BYTES.min(self.bytes.len()));
        (0..self.n).map(move |_| {
            let at = cursor.offset();
            text(cursor.sized()?, at)
        })
    }
}
