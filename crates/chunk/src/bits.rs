//! Bits, from the top of each byte down, as all chunks have them, and the two families of numbers in bits that more than
//! one encoding uses: `varint` (bytes, the upper bit says that one more follows) and `varbit`:
//!
//! ```text
//! 0                        0
//! 10        <3 bits>       -3..=4                1111 10      <18 bits>   -131071..=131072
//! 110       <6 bits>       -31..=32              1111 110     <25 bits>   -16777215..=16777216
//! 1110      <9 bits>       -255..=256            1111 1110    <56 bits>   -(2^55 - 1)..=2^55
//! 1111 0    <12 bits>      -2047..=2048          1111 1111    <64 bits>   all others
//! ```
//!
//! Unsigned numbers have the same widths, the limits are those of the bits.

/// Widths of the `varbit` classes behind the one of zero; class `i` has a prefix of `i + 1` ones and, but for the last, a zero.
const VARBIT_WIDTHS: [u8; 8] = [3, 6, 9, 12, 18, 25, 56, 64];

/// Bits of [`BitReader::peek`] that are there wherever it looks.
pub(crate) const PEEK_BITS: u32 = 57;

/// Writes bits behind each other into a vector.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    pub(crate) bytes: Vec<u8>,
    /// Bits of the last byte that are still free, 0..=7.
    free: u8,
}

impl BitWriter {
    /// Behind `header`.
    pub(crate) fn new(header: &[u8]) -> BitWriter {
        BitWriter { bytes: header.to_vec(), free: 0 }
    }

    /// Behind the first `bits` bits of `bytes`; what follows is dropped.
    pub(crate) fn resume(mut bytes: Vec<u8>, bits: usize) -> BitWriter {
        bytes.truncate(bits.div_ceil(8));
        let free = (bytes.len() * 8 - bits) as u8;
        if let Some(last) = bytes.last_mut() {
            *last = *last >> free << free;
        }
        BitWriter { bytes, free }
    }

    /// The low `n` bits of `bits`, `1..=64`; higher ones are ignored.
    #[inline]
    pub(crate) fn bits(&mut self, bits: u64, n: u8) {
        debug_assert!((1..=64).contains(&n));
        let mut word = bits << (64 - n);
        let mut n = n;
        if self.free > 0 {
            let at = self.bytes.len() - 1;
            self.bytes[at] |= (word >> (64 - self.free)) as u8;
            if n <= self.free {
                self.free -= n;
                return;
            }
            word <<= self.free;
            n -= self.free;
        }
        let len = usize::from(n.div_ceil(8));
        self.bytes.extend_from_slice(&word.to_be_bytes()[..len]);
        self.free = (len * 8) as u8 - n;
    }

    #[inline]
    fn varbit(&mut self, bits: u64, class: usize) {
        let width = VARBIT_WIDTHS[class];
        // `class + 1` ones and a zero; the last class has no zero.
        let (prefix, prefix_bits) = if class == 7 { (0xff, 8) } else { ((1u64 << (class + 2)) - 2, class as u8 + 2) };
        if prefix_bits + width <= 64 {
            self.bits(prefix << width | bits & ((1 << width) - 1), prefix_bits + width);
        } else {
            self.bits(prefix, prefix_bits);
            self.bits(bits, width);
        }
    }

    #[inline]
    pub(crate) fn varbit_int(&mut self, value: i64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        // The classes are those of two's complement shifted by one: -(2^(w-1) - 1)..=2^(w-1).
        let shifted = value.wrapping_sub(1);
        let needed = 65 - (if shifted < 0 { !shifted } else { shifted } as u64).leading_zeros() as u8;
        let class = if value == i64::MIN { 7 } else { class_of(needed) };
        self.varbit(value as u64, class);
    }

    #[inline]
    pub(crate) fn varbit_uint(&mut self, value: u64) {
        if value == 0 {
            return self.bits(0, 1);
        }
        self.varbit(value, class_of(64 - value.leading_zeros() as u8));
    }

    pub(crate) fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }

    pub(crate) fn varint(&mut self, value: i64) {
        self.uvarint(((value << 1) ^ (value >> 63)) as u64);
    }
}

#[inline]
fn class_of(needed: u8) -> usize {
    match needed {
        0..=3 => 0,
        4..=6 => 1,
        7..=9 => 2,
        10..=12 => 3,
        13..=18 => 4,
        19..=25 => 5,
        26..=56 => 6,
        _ => 7,
    }
}

/// Reads bits. Past the end there are zeros; who reads them finds `at` beyond the end.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// Position in bits.
    pub(crate) at: usize,
}

impl<'a> BitReader<'a> {
    /// Starts behind `header_bytes`.
    pub(crate) fn new(bytes: &'a [u8], header_bytes: usize) -> BitReader<'a> {
        BitReader { bytes, at: header_bytes * 8 }
    }

    /// Bits there are, read ones included.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.bytes.len() * 8
    }

    /// Bits that are still to come.
    pub(crate) fn left(&self) -> usize {
        self.end().saturating_sub(self.at)
    }

    /// The next bits, left-aligned; at least 57 of them are valid.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        let byte = self.at >> 3;
        let word = match self.bytes.get(byte..byte + 8) {
            Some(word) => u64::from_be_bytes(*word.first_chunk().expect("8 bytes")),
            None => self.peek_tail(byte),
        };
        word << (self.at & 7)
    }

    #[cold]
    fn peek_tail(&self, byte: usize) -> u64 {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(self.bytes.get(byte..).unwrap_or(&[])) {
            *to = *from;
        }
        u64::from_be_bytes(word)
    }

    /// `n` bits, `1..=64`; `None` past the end.
    #[inline]
    pub(crate) fn bits(&mut self, n: u32) -> Option<u64> {
        let mut value = self.peek() >> (64 - n);
        if n > 57 {
            let rest = n - 57;
            self.at += 57;
            let low = self.peek() >> (64 - rest);
            self.at += rest as usize;
            // The last bits of the first look may have been beyond its word; they are read again here.
            value = value >> rest << rest | low;
        } else {
            self.at += n as usize;
        }
        (self.at <= self.end()).then_some(value)
    }

    /// Bits and width of a `varbit` number; a width of 0 is the number 0.
    #[inline]
    fn varbit(&mut self) -> Option<(u64, u32)> {
        let word = self.peek();
        let ones = (!word).leading_zeros().min(8);
        if ones == 0 {
            self.at += 1;
            return (self.at <= self.end()).then_some((0, 0));
        }
        let width = u32::from(VARBIT_WIDTHS[ones as usize - 1]);
        let prefix = if ones == 8 { 8 } else { ones + 1 };
        self.at += prefix as usize;
        if prefix + width <= PEEK_BITS {
            self.at += width as usize;
            return (self.at <= self.end()).then_some((word << prefix >> (64 - width), width));
        }
        Some((self.bits(width)?, width))
    }

    #[inline]
    pub(crate) fn varbit_int(&mut self) -> Option<i64> {
        let (bits, width) = self.varbit()?;
        if width == 0 || width == 64 {
            return Some(bits as i64);
        }
        Some(if bits > 1 << (width - 1) { bits as i64 - (1 << width) } else { bits as i64 })
    }

    #[inline]
    pub(crate) fn varbit_uint(&mut self) -> Option<u64> {
        Some(self.varbit()?.0)
    }

    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Field {
        Bits(u64, u8),
        Int(i64),
        Uint(u64),
        Varint(i64),
        Uvarint(u64),
    }

    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift)
    }

    fn field() -> impl Strategy<Value = Field> {
        prop_oneof![
            (any::<u64>(), 1u8..=64).prop_map(|(bits, n)| Field::Bits(bits >> (64 - n), n)),
            (number(), any::<bool>()).prop_map(|(n, minus)| Field::Int(if minus {
                (n as i64).wrapping_neg()
            } else {
                n as i64
            })),
            number().prop_map(Field::Uint),
            any::<i64>().prop_map(Field::Varint),
            number().prop_map(Field::Uvarint),
        ]
    }

    fn write(writer: &mut BitWriter, field: Field) {
        match field {
            Field::Bits(bits, n) => writer.bits(bits, n),
            Field::Int(value) => writer.varbit_int(value),
            Field::Uint(value) => writer.varbit_uint(value),
            Field::Varint(value) => writer.varint(value),
            Field::Uvarint(value) => writer.uvarint(value),
        }
    }

    proptest! {
        #[test]
        fn fields_come_back_also_when_writing_is_resumed(fields in prop::collection::vec(field(), 0..60), split in any::<prop::sample::Index>()) {
            let (mut whole, mut resumed) = (BitWriter::new(&[7]), BitWriter::new(&[7]));
            let split = split.index(fields.len() + 1);
            for (i, &field) in fields.iter().enumerate() {
                if i == split {
                    let bits = resumed.bytes.len() * 8 - usize::from(resumed.free);
                    let mut bytes = std::mem::take(&mut resumed.bytes);
                    bytes.push(0xaa);
                    resumed = BitWriter::resume(bytes, bits);
                }
                write(&mut whole, field);
                write(&mut resumed, field);
            }
            if split < fields.len() {
                prop_assert_eq!(&whole.bytes, &resumed.bytes);
            }
            let mut reader = BitReader::new(&whole.bytes, 1);
            for field in fields {
                match field {
                    Field::Bits(bits, n) => prop_assert_eq!(reader.bits(u32::from(n)), Some(bits)),
                    Field::Int(value) => prop_assert_eq!(reader.varbit_int(), Some(value)),
                    Field::Uint(value) => prop_assert_eq!(reader.varbit_uint(), Some(value)),
                    Field::Varint(value) => prop_assert_eq!(reader.varint(), Some(value)),
                    Field::Uvarint(value) => prop_assert_eq!(reader.uvarint(), Some(value)),
                }
            }
            prop_assert!(reader.left() < 8);
        }
    }

    #[test]
    fn limits_of_each_class_take_the_bits_they_should() {
        let bits = |value: i64| {
            let mut writer = BitWriter::default();
            writer.varbit_int(value);
            writer.bytes.len() * 8 - usize::from(writer.free)
        };
        let mut least = 1;
        for (i, width) in VARBIT_WIDTHS[..7].iter().enumerate() {
            let top = 1i64 << (width - 1);
            let all = i + 2 + usize::from(*width);
            assert_eq!((bits(top), bits(1 - top)), (all, all), "{width}");
            assert!(bits(top + 1) > all && bits(-top) > all, "{width}");
            assert!(all > least);
            least = all;
        }
        assert_eq!((bits(0), bits(i64::MAX), bits(i64::MIN)), (1, 72, 72));
    }
}
