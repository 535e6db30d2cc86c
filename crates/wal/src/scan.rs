//! Reads the records of one segment and goes on behind damage.
//!
//! A damaged fragment costs the record it belongs to and nothing else: the scan looks for the next place in the page
//! where a whole fragment with a right checksum begins, else it goes on with the next page. A record is handed on only if
//! all its fragments are there in one row, so damage never makes up a record.

use super::compress::RECORD_BYTES_MAX;
use super::page::{COMPRESSION_MASK, HEADER_BYTES, PAGE_BYTES, Part};
use fk_vfs::{self as vfs, VfsFile};

/// How much is read with one call: 16 pages.
const BLOCK_BYTES: usize = 16 * PAGE_BYTES;

/// How often a read is tried before its page counts as unreadable.
const READ_TRIES: usize = 3;

/// After so many unreadable pages the disk is gone, not a page of it.
const UNREADABLE_PAGES_MAX: usize = 64;

/// Most bytes whose checksum is computed while looking for the next fragment in a page. In a page of noise one place in a
/// hundred could begin a fragment, which makes 1 MiB; the limit ends bytes that were made up to take long.
const RESYNC_CRC_BYTES_MAX: usize = 16 << 20;

/// What is wrong with a part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// A fragment or a record ends early: what a crash leaves at the end of a log.
    #[error("record is torn")]
    Torn,
    /// The type of a fragment is not one.
    #[error("invalid fragment type")]
    BadType,
    /// A fragment does not end where its part of a record has to.
    #[error("invalid fragment length")]
    BadLength,
    /// The checksum of a fragment is wrong.
    #[error("unexpected checksum")]
    BadChecksum,
    /// Something stands where the rest of a page should be empty.
    #[error("unexpected non-zero byte in padded page")]
    BadPadding,
    /// Records follow on an empty stretch that only the end of a segment can have.
    #[error("unexpected zeros")]
    Zeros,
    /// The parts of a record do not follow each other.
    #[error("fragment out of sequence")]
    OutOfSequence,
    /// The record is longer than any record can be.
    #[error("record is too long")]
    TooLong,
    /// The checksums are right, the compressed bytes are not.
    #[error("record cannot be decompressed")]
    NotDecompressed,
    /// The checksums are right, the record is not.
    #[error("malformed record")]
    Malformed,
    /// The disk could not read a page. The file is left alone: the next try may succeed.
    #[error("page cannot be read")]
    Unreadable,
    /// A checkpoint without a segment.
    #[error("checkpoint is empty")]
    EmptyCheckpoint,
}

/// A stretch of a segment that could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub offset: u64,
    /// How long it is: to where the next record was found.
    pub bytes: u64,
    /// What was wrong first.
    pub reason: Reason,
}

/// What a scan finds, in the order of the segment.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A whole record.
    Record {
        /// Where its first fragment begins.
        offset: u64,
        /// Where its last fragment ends.
        end: u64,
        /// How it is compressed, as in the type of its fragments.
        compression: u8,
        /// Its bytes, still compressed.
        payload: &'a [u8],
    },
    /// Damage before the next record.
    Damage(Span),
}

/// Scans page after page of a segment.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The record whose first fragment was met and whose last was not.
    open: Option<Open>,
    /// The fragments of the open record so far.
    payload: Vec<u8>,
    /// Damage since the last good record. Invariant: no record is open that began before it.
    bad: Option<(u64, Reason)>,
    /// Where an empty stretch began that may be the end of the segment.
    zeros: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    offset: u64,
    compression: u8,
}

#[derive(Clone, Copy, Debug)]
struct Fragment<'a> {
    part: Part,
    compression: u8,
    data: &'a [u8],
    /// Where it begins in its page.
    start: usize,
    /// Where it ends in its page.
    end: usize,
}

enum Unusable {
    /// Nothing but zeros up to the end of the page.
    Empty,
    /// Damaged; where in the page it ends is not known.
    Bad(Reason),
    /// Damaged in a way that leaves no doubt of where it ends.
    BadUpTo(usize, Reason),
}

impl<'a> Fragment<'a> {
    fn read(page: &'a [u8], start: usize) -> Result<Fragment<'a>, Unusable> {
        let bytes = &page[start..];
        let type_byte = bytes[0];
        if type_byte == 0 {
            let empty = bytes.iter().all(|b| *b == 0);
            return Err(if empty { Unusable::Empty } else { Unusable::Bad(Reason::BadPadding) });
        }
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Unusable::Bad(Reason::Torn));
        };
        let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
        let end = start + HEADER_BYTES + len;
        if end > PAGE_BYTES {
            return Err(Unusable::Bad(Reason::BadLength));
        }
        let data = rest.get(..len).ok_or(Unusable::Bad(Reason::Torn))?;
        if crc32c::crc32c(data).to_be_bytes() != header[3..] {
            return Err(Unusable::Bad(Reason::BadChecksum));
        }
        // The checksum of no bytes is zero, so a few bytes before zeros look like an empty fragment. Only a header at the
        // very end of a page has none.
        if len == 0 && end != PAGE_BYTES {
            return Err(Unusable::Bad(Reason::BadLength));
        }
        let part = Part::of(type_byte).ok_or(Unusable::BadUpTo(end, Reason::BadType))?;
        Ok(Fragment { part, compression: type_byte & COMPRESSION_MASK, data, start, end })
    }

    /// Whether the fragment is such that it could be the middle of a record.
    fn fills_page(&self) -> bool {
        self.start == 0 && PAGE_BYTES - self.end < HEADER_BYTES
    }
}

/// Where in the page, from `from` on, the next record begins, as far as one can see.
fn resync(page: &[u8], from: usize) -> Option<usize> {
    let mut crc_bytes = 0;
    let last = page.len().checked_sub(HEADER_BYTES)?;
    for start in from..=last {
        let header = &page[start..start + HEADER_BYTES];
        let (part, flags) = (Part::of(header[0]), header[0] & !7);
        if !matches!(part, Some(Part::Full | Part::First))
            || flags & !COMPRESSION_MASK != 0
            || flags == COMPRESSION_MASK
        {
            continue;
        }
        let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
        let end = start + HEADER_BYTES + len;
        let plausible = if part == Some(Part::First) { end == PAGE_BYTES } else { len > 0 && end <= page.len() };
        if !plausible || end > page.len() {
            continue;
        }
        crc_bytes += len;
        if crc_bytes > RESYNC_CRC_BYTES_MAX {
            return None;
        }
        if crc32c::crc32c(&page[start + HEADER_BYTES..end]).to_be_bytes() == header[3..] {
            return Some(start);
        }
    }
    None
}

impl Scanner {
    /// Reads one page, which begins at `base` of the segment.
    pub fn page<E>(
        &mut self,
        base: u64,
        page: &[u8],
        sink: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.page_from(base, page, 0, sink)
    }

    /// As [`Scanner::page`], from byte `at` of the page on.
    fn page_from<E>(
        &mut self,
        base: u64,
        page: &[u8],
        mut at: usize,
        sink: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while at < page.len() {
            if PAGE_BYTES - at < HEADER_BYTES {
                if page[at..].iter().any(|b| *b != 0) {
                    self.damage(base + at as u64, Reason::BadPadding);
                }
                break;
            }
            match Fragment::read(page, at) {
                Ok(fragment) => {
                    self.fragment(base, fragment, sink)?;
                    at = fragment.end;
                }
                Err(Unusable::Empty) => {
                    self.zeros.get_or_insert(base + at as u64);
                    break;
                }
                Err(Unusable::BadUpTo(end, reason)) => {
                    self.damage(base + at as u64, reason);
                    at = end;
                }
                Err(Unusable::Bad(reason)) => {
                    self.damage(base + at as u64, reason);
                    match resync(page, at + 1) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the segment, which has `len` bytes: what of it, if anything, could not be used at its end.
    pub fn finish(&mut self, len: u64) -> Option<Span> {
        if self.open.is_some() {
            self.damage(len, Reason::Torn);
        }
        self.zeros = None;
        let (offset, reason) = self.bad.take()?;
        Some(Span { offset, bytes: len - offset, reason })
    }

    /// Notes damage at `offset`. An open record is part of it. The first reason stays, unless a page cannot be read:
    /// that decides whether the segment may be rewritten.
    fn damage(&mut self, offset: u64, reason: Reason) {
        let offset = self.open.take().map_or(offset, |open| open.offset);
        let offset = self.zeros.take().map_or(offset, |zeros| zeros.min(offset));
        let bad = self.bad.get_or_insert((offset, reason));
        if reason == Reason::Unreadable {
            bad.1 = reason;
        }
    }

    fn fragment<E>(
        &mut self,
        base: u64,
        fragment: Fragment<'_>,
        sink: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Fragment { part, compression, data, start, end } = fragment;
        let offset = base + start as u64;
        if let Some(zeros) = self.zeros {
            self.damage(zeros, Reason::Zeros);
        }
        match part {
            Part::Full | Part::First => {
                let interrupted = self.open.is_some();
                if interrupted {
                    self.damage(offset, Reason::OutOfSequence);
                }
                if interrupted && fragment.fills_page() {
                    // This may be the middle of the open record with a wrong type. To take the middle of a record for
                    // a record would make up samples, so it goes with the open one.
                } else if part == Part::Full {
                    self.emit(offset, base + end as u64, compression, data, sink)?;
                } else if end != PAGE_BYTES {
                    self.damage(offset, Reason::BadLength);
                } else {
                    self.open = Some(Open { offset, compression });
                    self.payload.clear();
                    self.payload.extend_from_slice(data);
                }
            }
            Part::Middle | Part::Last => {
                let Some(open) = self.open.filter(|open| start == 0 && open.compression == compression) else {
                    self.damage(offset, Reason::OutOfSequence);
                    return Ok(());
                };
                if self.payload.len() + data.len() > RECORD_BYTES_MAX {
                    self.damage(offset, Reason::TooLong);
                } else if part == Part::Middle && end != PAGE_BYTES {
                    self.damage(offset, Reason::BadLength);
                } else {
                    self.payload.extend_from_slice(data);
                    if part == Part::Last {
                        self.open = None;
                        let payload = std::mem::take(&mut self.payload);
                        let result = self.emit(open.offset, base + end as u64, compression, &payload, sink);
                        self.payload = payload;
                        result?;
                    }
                }
            }
        }
        Ok(())
    }

    fn emit<E>(
        &mut self,
        offset: u64,
        end: u64,
        compression: u8,
        payload: &[u8],
        sink: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some((start, reason)) = self.bad.take() {
            sink(Item::Damage(Span { offset: start, bytes: offset - start, reason }))?;
        }
        sink(Item::Record { offset, end, compression, payload })
    }
}

/// Scans a segment file from its start. Returns what could not be used at its end. A page that cannot be read is damage;
/// many of them are an error.
pub fn scan_file<E: From<vfs::VfsError>>(
    file: &dyn VfsFile,
    sink: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
) -> Result<Option<Span>, E> {
    scan_file_from(file, 0, sink)
}

/// As [`scan_file`], from offset `start` on, which lies between two records.
pub fn scan_file_from<E: From<vfs::VfsError>>(
    file: &dyn VfsFile,
    start: u64,
    sink: &mut dyn FnMut(Item<'_>) -> Result<(), E>,
) -> Result<Option<Span>, E> {
    let len = retry(|| file.len())?;
    let mut scanner = Scanner::default();
    let mut block = vec![0; BLOCK_BYTES.min(usize::try_from(len).unwrap_or(BLOCK_BYTES))];
    let mut unreadable = 0;
    let mut in_page = (start % PAGE_BYTES as u64) as usize;
    let mut base = start - in_page as u64;
    while base < len {
        let size = (len - base).min(BLOCK_BYTES as u64) as usize;
        let block = &mut block[..size];
        let block_error = retry(|| file.read_exact_at(block, base)).err();
        for (i, page) in block.chunks_mut(PAGE_BYTES).enumerate() {
            let base = base + (i * PAGE_BYTES) as u64;
            if block_error.is_some()
                && let Err(e) = retry(|| file.read_exact_at(page, base))
            {
                unreadable += 1;
                if unreadable > UNREADABLE_PAGES_MAX {
                    return Err(e.into());
                }
                log::error!("write-ahead log: {e} at offset {base}");
                scanner.damage(base, Reason::Unreadable);
                continue;
            }
            scanner.page_from(base, page, in_page, sink)?;
            in_page = 0;
        }
        base += size as u64;
    }
    Ok(scanner.finish(len))
}

fn retry<T>(mut run: impl FnMut() -> vfs::Result<T>) -> vfs::Result<T> {
    for _ in 1..READ_TRIES {
        if let Ok(value) = run() {
            return Ok(value);
        }
    }
    run()
}
