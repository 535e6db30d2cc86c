//! One number of a histogram through the samples of a chunk.

use crate::bits::{BitReader, BitWriter};
use crate::fault::{Fault, OrTruncated};

/// What is remembered of a number to write or read the next one.
pub trait Field: Copy {
    /// The number.
    type Value: Copy + std::fmt::Debug;

    /// Fewest bits in the first sample.
    const BITS_MIN: usize;

    fn value(&self) -> Self::Value;
    fn first(out: &mut BitWriter, value: Self::Value) -> Self;
    fn next(&mut self, out: &mut BitWriter, value: Self::Value);
    fn read_first(bits: &mut BitReader<'_>) -> Result<Self, Fault>;
    fn read_next(&mut self, bits: &mut BitReader<'_>) -> Result<(), Fault>;
}

/// An integer as delta of deltas, its first value signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    value: i64,
    delta: i64,
}

impl Field for Signed {
    type Value = i64;
    const BITS_MIN: usize = 1;

    #[inline]
    fn value(&self) -> i64 {
        self.value
    }

    fn first(out: &mut BitWriter, value: i64) -> Signed {
        out.varbit_int(value);
        Signed { value, delta: 0 }
    }

    #[inline]
    fn next(&mut self, out: &mut BitWriter, value: i64) {
        let delta = value.wrapping_sub(self.value);
        out.varbit_int(delta.wrapping_sub(self.delta));
        *self = Signed { value, delta };
    }

    fn read_first(bits: &mut BitReader<'_>) -> Result<Signed, Fault> {
        Ok(Signed { value: bits.varbit_int().or_truncated()?, delta: 0 })
    }

    #[inline]
    fn read_next(&mut self, bits: &mut BitReader<'_>) -> Result<(), Fault> {
        self.delta = self.delta.wrapping_add(bits.varbit_int().or_truncated()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

/// As [`Signed`], its first value unsigned.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned(Signed);

impl Field for Unsigned {
    type Value = u64;
    const BITS_MIN: usize = 1;

    fn value(&self) -> u64 {
        self.0.value as u64
    }

    fn first(out: &mut BitWriter, value: u64) -> Unsigned {
        out.varbit_uint(value);
        Unsigned(Signed { value: value as i64, delta: 0 })
    }

    fn next(&mut self, out: &mut BitWriter, value: u64) {
        self.0.next(out, value as i64);
    }

    fn read_first(bits: &mut BitReader<'_>) -> Result<Unsigned, Fault> {
        Ok(Unsigned(Signed { value: bits.varbit_uint().or_truncated()? as i64, delta: 0 }))
    }

    fn read_next(&mut self, bits: &mut BitReader<'_>) -> Result<(), Fault> {
        self.0.read_next(bits)
    }
}

/// A float as the XOR with the one before, with the windows of `xor`.
#[derive(Clone, Copy, Debug)]
pub struct Xored {
    bits: u64,
    /// Zeros in front of and behind the window; 0xff before there is one. Reading without one reads all 64 bits: a chunk
    /// that Prometheus goes on with after a restart has such fields.
    leading: u8,
    trailing: u8,
}

const NO_WINDOW: u8 = 0xff;

impl Field for Xored {
    type Value = f64;
    const BITS_MIN: usize = 64;

    #[inline]
    fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    fn first(out: &mut BitWriter, value: f64) -> Xored {
        out.bits(value.to_bits(), 64);
        Xored { bits: value.to_bits(), leading: NO_WINDOW, trailing: 0 }
    }

    #[inline]
    fn next(&mut self, out: &mut BitWriter, value: f64) {
        let xor = self.bits ^ value.to_bits();
        self.bits = value.to_bits();
        if xor == 0 {
            return out.bits(0, 1);
        }
        let leading = (xor.leading_zeros() as u8).min(31);
        let trailing = xor.trailing_zeros() as u8;
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            out.bits(0b10, 2);
            return out.bits(xor >> self.trailing, 64 - self.leading - self.trailing);
        }
        (self.leading, self.trailing) = (leading, trailing);
        let width = 64 - leading - trailing;
        out.bits(0b11 << 11 | u64::from(leading) << 6 | u64::from(width & 63), 13);
        out.bits(xor >> trailing, width);
    }

    fn read_first(bits: &mut BitReader<'_>) -> Result<Xored, Fault> {
        Ok(Xored { bits: bits.bits(64).or_truncated()?, leading: NO_WINDOW, trailing: 0 })
    }

    #[inline]
    fn read_next(&mut self, bits: &mut BitReader<'_>) -> Result<(), Fault> {
        let control = bits.peek();
        if control >> 63 == 0 {
            bits.at += 1;
            return if bits.at <= bits.end() { Ok(()) } else { Err(Fault::Truncated) };
        }
        let (width, trailing) = if control >> 62 == 0b11 {
            let leading = (control >> 57) as u8 & 31;
            let width = match (control >> 51) as u8 & 63 {
                0 => 64,
                width => width,
            };
            bits.at += 13;
            if leading + width > 64 {
                return Err(Fault::Invalid("value width"));
            }
            (self.leading, self.trailing) = (leading, 64 - leading - width);
            (width, self.trailing)
        } else {
            bits.at += 2;
            match self.leading {
                NO_WINDOW => (64, 0),
                leading => (64 - leading - self.trailing, self.trailing),
            }
        };
        self.bits ^= bits.bits(u32::from(width)).or_truncated()? << trailing;
        Ok(())
    }
}
