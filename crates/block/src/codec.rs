//! Reading and writing the numbers of the block formats: big endian words, LEB128 varints, CRC-32C.
//!
//! A [`Cursor`] never reads beyond its bytes. What it cannot read is a [`Fault`]: an offset within the file and a reason;
//! whoever knows the file's name makes a [`StorageError::Corrupt`] of it.

use std::borrow::Cow;
use std::path::Path;

use fk_storage::StorageError;

/// Bytes of a checksum.
pub(crate) const CRC_BYTES: usize = 4;

/// Most bytes of a varint.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong.
    pub reason: Cow<'static, str>,
}

impl Fault {
    #[cold]
    pub fn new(offset: u64, reason: impl Into<Cow<'static, str>>) -> Fault {
        Fault { offset, reason: reason.into() }
    }

    /// As an error of the file `path`.
    #[cold]
    pub fn of(self, path: &Path) -> StorageError {
        StorageError::Corrupt {
            path: path.display().to_string(),
            offset: self.offset,
            reason: self.reason.into_owned(),
        }
    }
}

/// Reads from the front of a stretch of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Offset of `bytes` within the file.
    base: u64,
}

impl<'a> Cursor<'a> {
    /// Over `bytes`, which begin at `base` in the file.
    pub fn new(bytes: &'a [u8], base: u64) -> Cursor<'a> {
        Cursor { bytes, at: 0, base }
    }

    /// Where the next byte is in the file.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A fault at the next byte.
    #[cold]
    pub fn fault(&self, reason: impl Into<Cow<'static, str>>) -> Fault {
        Fault::new(self.offset(), reason)
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        match self.bytes[self.at..].get(..n) {
            Some(bytes) => {
                self.at += n;
                Ok(bytes)
            }
            None => Err(self.fault(format!("{n} bytes wanted, {} left", self.left()))),
        }
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Fault> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes(*bytes.first_chunk().expect("4 bytes taken")))
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, Fault> {
        let bytes = self.take(8)?;
        Ok(u64::from_be_bytes(*bytes.first_chunk().expect("8 bytes taken")))
    }

    #[inline]
    pub fn uvarint(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_uvarint(),
        }
    }

    fn long_uvarint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for (i, byte) in self.bytes[self.at..].iter().take(VARINT_BYTES_MAX).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == VARINT_BYTES_MAX - 1 && *byte > 1 {
                return Err(self.fault("number of more than 64 bits"));
            }
            value |= bits << (7 * i);
            if *byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.fault("number without an end"))
    }

    #[inline]
    pub fn varint(&mut self) -> Result<i64, Fault> {
        let value = self.uvarint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number that has to fit 32 bits.
    #[inline]
    pub fn uvarint32(&mut self) -> Result<u32, Fault> {
        let at = self.offset();
        u32::try_from(self.uvarint()?).map_err(|_| Fault::new(at, "number of more than 32 bits"))
    }

    /// Bytes behind their length.
    #[inline]
    pub fn sized(&mut self) -> Result<&'a [u8], Fault> {
        let n = self.uvarint()?;
        match usize::try_from(n) {
            Ok(n) => self.take(n),
            Err(_) => Err(self.fault("length beyond the address space")),
        }
    }
}

/// `bytes` as text.
pub(crate) fn text(bytes: &[u8], offset: u64) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::new(offset, "text is not UTF-8"))
}

/// The body of the section that begins at `offset`: a length of 32 bits, the body, its checksum. Checks the checksum.
pub(crate) fn section(file: &[u8], offset: u64) -> Result<Cursor<'_>, Fault> {
    let start = usize::try_from(offset).ok().filter(|start| *start <= file.len());
    let Some(start) = start else { return Err(Fault::new(offset, "offset beyond the end of the file")) };
    let mut cursor = Cursor::new(&file[start..], offset);
    let len = cursor.u32()? as usize;
    let base = cursor.offset();
    let body = cursor.take(len)?;
    check_crc(body, cursor.u32()?, base)?;
    Ok(Cursor::new(body, base))
}

/// A fault at `offset` unless the bytes have this checksum.
#[inline]
#[expect(unexpected_cfgs, reason = "set by cargo-fuzz alone")]
pub(crate) fn check_crc(bytes: &[u8], expected: u32, offset: u64) -> Result<(), Fault> {
    let actual = crc32c::crc32c(bytes);
    // A fuzzer would never get past a checksum.
    if actual == expected || cfg!(fuzzing) {
        return Ok(());
    }
    Err(Fault::new(offset, format!("checksum {actual:08x} instead of {expected:08x}")))
}

pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(u in any::<u64>(), i in any::<i64>(), s in any::<u32>()) {
            let mut out = Vec::new();
            put_uvarint(&mut out, u);
            put_varint(&mut out, i);
            put_uvarint(&mut out, u64::from(s));
            put_sized(&mut out, b"abc");
            let mut cursor = Cursor::new(&out, 100);
            prop_assert_eq!(cursor.uvarint(), Ok(u));
            prop_assert_eq!(cursor.varint(), Ok(i));
            prop_assert_eq!(cursor.uvarint32(), Ok(s));
            prop_assert_eq!(cursor.sized(), Ok(&b"abc"[..]));
            prop_assert_eq!((cursor.left(), cursor.offset()), (0, 100 + out.len() as u64));
        }

        #[test]
        fn any_bytes_are_a_number_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut cursor = Cursor::new(&bytes, 0);
            let _ = cursor.uvarint();
            prop_assert!(cursor.position() <= bytes.len());
        }
    }

    #[test]
    fn a_section_is_checked() {
        let mut file = vec![9, 9];
        file.extend_from_slice(&3u32.to_be_bytes());
        file.extend_from_slice(b"abc");
        file.extend_from_slice(&crc32c::crc32c(b"abc").to_be_bytes());
        assert_eq!(section(&file, 2).expect("sound").take(3), Ok(&b"abc"[..]));
        for at in 2..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(section(&damaged, 2).is_err(), "{at}");
            assert!(section(&file[..at], 2).is_err(), "{at}");
        }
        assert!(section(&file, 100).is_err());
        assert!(section(&file, u64::MAX).is_err());
    }
}
