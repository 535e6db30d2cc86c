//! The primitives of all records: numbers, strings, sets of labels.

use std::fmt;

use fk_model::Labels;

use super::RecordError;

/// Most bytes that one encoded sample takes: two differences and a value.
pub(super) const SAMPLE_BYTES_MAX: usize = 10 + 10 + 8;

/// What can be wrong with an entry, before it is known in what record.
pub(super) enum Fault {
    Malformed,
    NotUtf8,
}

impl Fault {
    pub(super) fn of(self, kind: u8) -> RecordError {
        match self {
            Fault::Malformed => RecordError::Malformed { kind },
            Fault::NotUtf8 => RecordError::NotUtf8 { kind },
        }
    }
}

/// An iterator that can tell its end from a fault. The public iterators run only over what was walked once, so there a
/// fault cannot happen and reads as the end.
pub(super) trait Walk {
    type Item;
    fn step(&mut self) -> Result<Option<Self::Item>, Fault>;
}

macro_rules! iterate {
    ($iter:ident, $item:ty) => {
        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                self.step().ok().flatten()
            }
        }
    };
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.0.split_first().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn be64(&mut self) -> Result<u64, Fault> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// Most numbers are differences between neighbours and take one or two bytes.
    #[inline]
    pub(super) fn uvarint(&mut self) -> Result<u64, Fault> {
        match *self.0 {
            [a, ref rest @ ..] if a < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.0 = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_uvarint(),
        }
    }

    fn long_uvarint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for (i, &byte) in self.0.iter().enumerate().take(10) {
            if byte < 0x80 {
                if i == 9 && byte > 1 {
                    return Err(Fault::Malformed);
                }
                self.0 = &self.0[i + 1..];
                return Ok(value | u64::from(byte) << (7 * i));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
        }
        Err(Fault::Malformed)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<i64, Fault> {
        let zigzag = self.uvarint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    #[inline]
    pub(super) fn str(&mut self) -> Result<&'a str, Fault> {
        let len = usize::try_from(self.uvarint()?).map_err(|_| Fault::Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Fault::Malformed)?;
        self.0 = rest;
        std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)
    }

    /// The labels of one entry: their number, then names and values.
    #[inline]
    pub(super) fn labels(&mut self) -> Result<LabelPairs<'a>, Fault> {
        let count = self.uvarint()?;
        // Two strings of a label take at least a byte each, so a number that cannot be true ends here, not after a walk.
        if count > self.0.len() as u64 / 2 {
            return Err(Fault::Malformed);
        }
        let start = self.0;
        for _ in 0..count {
            self.str()?;
            self.str()?;
        }
        Ok(LabelPairs { body: &start[..start.len() - self.0.len()] })
    }
}

#[inline]
pub(super) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Writes a number into `entry` at `at`; returns where it ends.
#[inline]
pub(super) fn set_varint(entry: &mut [u8; SAMPLE_BYTES_MAX], mut at: usize, value: i64) -> usize {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        entry[at] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        at += 1;
    }
    entry[at] = zigzag as u8;
    at + 1
}

pub(super) fn put_str(out: &mut Vec<u8>, s: &str) {
    put_uvarint(out, s.len() as u64);
    out.extend_from_slice(s.as_bytes());
}

pub(super) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        put_str(out, name);
        put_str(out, value);
    }
}

/// The labels of an entry, still in the log's form, checked.
#[derive(Clone, Copy)]
pub struct LabelPairs<'a> {
    pub(super) body: &'a [u8],
}

impl<'a> LabelPairs<'a> {
    /// Names and values in the order of the log, which is by name in all logs that Prometheus or we write.
    pub fn iter(&self) -> LabelIter<'a> {
        LabelIter { dec: Decoder(self.body) }
    }

    /// The label set. Whatever order the pairs have, the set is in order and has no empty value.
    pub fn to_labels(&self) -> Labels {
        let mut last = "";
        let proper = self.iter().all(|(name, value)| {
            let ascends = last < name || last.is_empty();
            last = name;
            ascends && !name.is_empty() && !value.is_empty()
        });
        if proper { Labels::from_sorted(self.iter()) } else { Labels::from_pairs(self.iter()) }
    }
}

impl fmt::Debug for LabelPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Iterates [`LabelPairs`].
#[derive(Clone, Debug)]
pub struct LabelIter<'a> {
    dec: Decoder<'a>,
}

impl<'a> Walk for LabelIter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn step(&mut self) -> Result<Option<(&'a str, &'a str)>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        Ok(Some((self.dec.str()?, self.dec.str()?)))
    }
}

iterate!(LabelIter, (&'a str, &'a str));

pub(super) use iterate;
