//! Start timestamps inside chunks, as XOR2 chunks and the histogram chunks with start timestamps have them behind each
//! sample. The header has a byte for them:
//!
//! ```text
//! bit 7     the first sample has one: a varint, its time minus its start timestamp
//! bits 0-6  the index of the first sample whose start timestamp is another one than before, 0 if there is none: from that
//!           sample on each has a varbit, the time of the sample before minus the start timestamp; at the first one as it is,
//!           then as the difference to the sample before
//! ```
//!
//! An index has 7 bits, so sample 127 counts as a change even if it is none. 0 stands for a start timestamp that is not known.

use crate::bits::{BitReader, BitWriter};
use crate::fault::{Fault, OrTruncated};

const FIRST_KNOWN: u8 = 0x80;

/// Largest index of a first change.
const CHANGE_MAX: usize = 0x7f;

/// The start timestamps so far, for reading as for writing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Starts {
    /// That of the last sample, ms.
    pub(crate) last: i64,
    /// Time of the sample before the last one minus `last`, once something has changed.
    diff: i64,
    /// The byte of the header.
    header: u8,
}

impl Starts {
    /// For reading a chunk with this header.
    pub(crate) fn new(header: u8) -> Starts {
        Starts { header, ..Starts::default() }
    }

    fn changed_at(self) -> usize {
        usize::from(self.header & !FIRST_KNOWN)
    }

    /// Writes that of sample `index` behind the rest of the sample; `header_at` is where the byte of the header is.
    #[inline]
    pub(crate) fn write(
        &mut self,
        out: &mut BitWriter,
        header_at: usize,
        index: usize,
        t: i64,
        before: i64,
        start: i64,
    ) {
        let diff = before.wrapping_sub(start);
        if index == 0 {
            if start != 0 {
                out.varint(t.wrapping_sub(start));
                self.header = FIRST_KNOWN;
                out.bytes[header_at] = self.header;
            }
        } else if self.changed_at() > 0 {
            out.varbit_int(diff.wrapping_sub(self.diff));
            self.diff = diff;
        } else if start != self.last || index == CHANGE_MAX {
            self.header |= index as u8;
            out.bytes[header_at] = self.header;
            out.varbit_int(diff);
            self.diff = diff;
        }
        self.last = start;
    }

    /// Reads that of sample `index`.
    #[inline]
    pub(crate) fn read(&mut self, bits: &mut BitReader<'_>, index: usize, t: i64, before: i64) -> Result<(), Fault> {
        let changed_at = self.changed_at();
        if index == 0 {
            if self.header & FIRST_KNOWN != 0 {
                self.last = t.wrapping_sub(bits.varint().or_truncated()?);
            }
        } else if changed_at > 0 && index >= changed_at {
            let value = bits.varbit_int().or_truncated()?;
            self.diff = if index == changed_at { value } else { self.diff.wrapping_add(value) };
            self.last = before.wrapping_sub(self.diff);
        }
        Ok(())
    }
}
