//! Reading a whole block to see whether it is still what was written: every checksum of its files, a piece at a time.
//!
//! Nothing but framing and checksums is looked at, so a step costs little more than reading the disk. The files are read at
//! offsets into one buffer and not mapped: a map of all of a block would count as memory of the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_storage::StorageError;
use fk_vfs::{Vfs, VfsFile};

use crate::codec::{CRC_BYTES, Cursor, Fault, VARINT_BYTES_MAX};
use crate::index::{HEADER_BYTES, INDEX_FILE, SERIES_ALIGN, TOC_BYTES, Toc, check_header};
use crate::segments::{self, CHUNKS_DIR};
use crate::{Block, BlockMeta, Tombstones, Ulid};

/// Read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Lists and tables of an index begin at multiples of this.
const SECTION_ALIGN: u64 = 4;

/// One reading of a block.
#[derive(Debug)]
pub struct Scrub {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    ulid: Ulid,
    /// Names of files that are still to be read, the next one last.
    files: Vec<PathBuf>,
    open: Option<Open>,
    damage: Vec<StorageError>,
    bytes: u64,
}

/// A file that is being read.
#[derive(Debug)]
struct Open {
    pages: Pages,
    /// What is in it: regions in their order, the next one last.
    regions: Vec<Region>,
    at: u64,
}

/// A stretch of a file that holds things of one kind, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    kind: Kind,
    start: u64,
    end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Length of 32 bits, body, checksum.
    Sections,
    /// Length as a varint, body, checksum; each begins at a multiple.
    Series { align: u64 },
    /// Length as a varint, encoding, body, checksum of both.
    Chunks,
}

impl Scrub {
    /// From the beginning.
    pub fn new(vfs: Arc<dyn Vfs>, block: &Block) -> Result<Scrub, StorageError> {
        let dir = block.dir().to_owned();
        let mut files = vec![PathBuf::from(INDEX_FILE)];
        for entry in vfs.read_dir(&dir.join(CHUNKS_DIR))? {
            if entry.name.parse::<u32>().is_ok() {
                files.push(Path::new(CHUNKS_DIR).join(entry.name));
            }
        }
        files.reverse();
        Ok(Scrub { vfs, dir, ulid: block.ulid(), files, open: None, damage: Vec::new(), bytes: 0 })
    }

    /// Which block.
    pub fn ulid(&self) -> Ulid {
        self.ulid
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads on for `bytes_max` bytes and one more thing, however large; `true` when all is read. A damaged file is noted and
    /// left at the damaged place.
    ///
    /// # Errors
    /// What is no damage, such as an error of the disk. A later step goes on at the same place.
    pub fn step(&mut self, bytes_max: u64) -> Result<bool, StorageError> {
        let stop = self.bytes.saturating_add(bytes_max);
        while self.bytes < stop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => {
                    let Some(file) = self.files.last() else { return self.end().map(|()| true) };
                    match Open::new(&*self.vfs, &self.dir.join(file)) {
                        Ok(open) => open,
                        Err(e) => {
                            self.note(e)?;
                            self.files.pop();
                            continue;
                        }
                    }
                }
            };
            let before = open.pages.read;
            let result = open.next();
            self.bytes += open.pages.read - before;
            match result {
                Ok(true) => self.open = Some(open),
                Ok(false) => {
                    self.files.pop();
                }
                Err(e @ StorageError::Corrupt { .. }) => {
                    self.damage.push(e);
                    self.files.pop();
                }
                Err(e) => {
                    self.open = Some(open);
                    return Err(e);
                }
            }
        }
        Ok(false)
    }

    /// What was found damaged, a fault for each file at most. To be asked when all is read.
    pub fn into_damage(self) -> Vec<StorageError> {
        self.damage
    }

    /// The small files, which may be replaced while the others are read.
    fn end(&mut self) -> Result<(), StorageError> {
        let meta = BlockMeta::read(&*self.vfs, &self.dir).map(drop);
        let tombstones = Tombstones::read(&*self.vfs, &self.dir).map(drop);
        for result in [meta, tombstones] {
            result.or_else(|e| self.note(e))?;
        }
        Ok(())
    }

    fn note(&mut self, e: StorageError) -> Result<(), StorageError> {
        match e {
            StorageError::Corrupt { .. } => {
                self.damage.push(e);
                Ok(())
            }
            other => Err(other),
        }
    }
}

impl Open {
    fn new(vfs: &dyn Vfs, path: &Path) -> Result<Open, StorageError> {
        let file = vfs.open(path)?;
        let len = file.len()?;
        let mut pages = Pages { path: path.to_owned(), file, len, start: 0, buffer: Vec::new(), read: 0 };
        let mut regions = match path.ends_with(INDEX_FILE) {
            true => pages.regions_of_index()?,
            false => {
                let header = pages.at(0, segments::HEADER_BYTES)?;
                segments::check_header(header).map_err(|fault| fault.of(path))?;
                vec![Region { kind: Kind::Chunks, start: segments::HEADER_BYTES as u64, end: len }]
            }
        };
        regions.reverse();
        let at = regions.last().map_or(0, |region| region.start);
        Ok(Open { pages, regions, at })
    }

    /// Checks the next thing; `false` at the end.
    fn next(&mut self) -> Result<bool, StorageError> {
        let Some(Region { kind, start, end }) = self.regions.last().copied() else { return Ok(false) };
        let align = match kind {
            // The first one begins where the table of contents says.
            _ if self.at == start => 1,
            Kind::Sections => SECTION_ALIGN,
            Kind::Series { align } => align,
            Kind::Chunks => 1,
        };
        let at = self.at.next_multiple_of(align);
        // The last section may be followed by zeros up to where series may begin.
        let left = end.saturating_sub(at);
        let is_filler = left < SERIES_ALIGN && kind != Kind::Chunks;
        if left == 0 || is_filler && self.pages.at(at, left as usize)?.iter().all(|byte| *byte == 0) {
            self.regions.pop();
            self.at = self.regions.last().map_or(0, |region| region.start);
            return Ok(!self.regions.is_empty());
        }
        let pages = &mut self.pages;
        let left = left as usize;
        let (head, len, fault) = match kind {
            Kind::Sections => {
                let mut cursor = Cursor::new(pages.at(at, left.min(4))?, at);
                let len = cursor.u32().map(u64::from);
                (cursor.position(), len.as_ref().copied().unwrap_or(0), len.err())
            }
            Kind::Series { .. } | Kind::Chunks => {
                let mut cursor = Cursor::new(pages.at(at, left.min(VARINT_BYTES_MAX))?, at);
                let len = cursor.uvarint();
                let extra = u64::from(kind == Kind::Chunks);
                (cursor.position(), len.as_ref().map_or(0, |len| len.saturating_add(extra)), len.err())
            }
        };
        if let Some(fault) = fault {
            return Err(fault.of(&pages.path));
        }
        let whole = (head as u64).saturating_add(len).saturating_add(CRC_BYTES as u64);
        if whole > left as u64 {
            let reason = format!("{len} bytes wanted, {} left", left.saturating_sub(head + CRC_BYTES));
            return Err(Fault::new(at, reason).of(&pages.path));
        }
        let actual = pages.crc(at + head as u64, len)?;
        let expected = Cursor::new(pages.at(at + head as u64 + len, CRC_BYTES)?, 0).u32().unwrap_or(!actual);
        if actual != expected {
            let reason = format!("checksum {actual:08x} instead of {expected:08x}");
            return Err(Fault::new(at, reason).of(&pages.path));
        }
        self.at = at + whole;
        Ok(true)
    }
}

/// A file that is read from front to back through a buffer.
#[derive(Debug)]
struct Pages {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    len: u64,
    /// Where the buffer begins.
    start: u64,
    buffer: Vec<u8>,
    /// Bytes read from the file.
    read: u64,
}

impl Pages {
    /// `n` bytes from `at` on, `n` not more than the buffer.
    fn at(&mut self, at: u64, n: usize) -> Result<&[u8], StorageError> {
        let end = at.saturating_add(n as u64);
        if end > self.len {
            let reason = format!("{n} bytes wanted, {} left", self.len.saturating_sub(at));
            return Err(Fault::new(at, reason).of(&self.path));
        }
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            self.buffer.clear();
            let wanted = (self.len - at).min(n.max(BUFFER_BYTES) as u64) as usize;
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(wanted, 0);
            self.file.read_exact_at(&mut buffer, at)?;
            (self.start, self.buffer) = (at, buffer);
            self.read += wanted as u64;
        }
        let from = (at - self.start) as usize;
        Ok(self.buffer.get(from..from + n).unwrap_or_default())
    }

    /// The checksum of `len` bytes from `at` on.
    fn crc(&mut self, mut at: u64, mut len: u64) -> Result<u32, StorageError> {
        let mut crc = 0;
        while len > 0 {
            // What is in the buffer already is taken first.
            let buffered = (self.start + self.buffer.len() as u64).saturating_sub(at);
            let n = match buffered {
                0 => len.min(BUFFER_BYTES as u64),
                some => len.min(some),
            };
            crc = crc32c::crc32c_append(crc, self.at(at, n as usize)?);
            (at, len) = (at + n, len - n);
        }
        Ok(crc)
    }

    /// The regions of an index, from its table of contents. They lie behind one another, whatever their order.
    fn regions_of_index(&mut self) -> Result<Vec<Region>, StorageError> {
        let path = self.path.clone();
        let version = check_header(self.at(0, HEADER_BYTES)?).map_err(|fault| fault.of(&path))?;
        let toc_at = self.len.saturating_sub((TOC_BYTES + CRC_BYTES) as u64).max(HEADER_BYTES as u64);
        let toc = Toc::read(self.at(toc_at, TOC_BYTES + CRC_BYTES)?, toc_at).map_err(|fault| fault.of(&path))?;
        let Toc { symbols, series, label_indices, label_table, postings, postings_table } = toc;
        let mut starts: Vec<u64> = [symbols, series, label_indices, label_table, postings, postings_table]
            .into_iter()
            .filter(|start| *start > 0)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        if starts.iter().any(|start| *start < HEADER_BYTES as u64 || *start > toc_at) {
            return Err(Fault::new(toc_at, "a section outside of the file").of(&path));
        }
        let ends = starts.iter().copied().skip(1).chain([toc_at]);
        let align = if version == 1 { 1 } else { SERIES_ALIGN };
        let region = |(start, end)| Region {
            kind: if start == series { Kind::Series { align } } else { Kind::Sections },
            start,
            end,
        };
        Ok(starts.iter().copied().zip(ends).map(region).collect())
    }
}
