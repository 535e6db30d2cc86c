//! The XOR2 chunk (encoding 4): floats as in [`crate::xor`], with one control for time and value together, short markers
//! of staleness, and start timestamps. Prometheus 3.11 and newer read it; nobody writes it unless told to.
//!
//! ```text
//! header     samples u16 │ start timestamps u8, see `starts`
//! sample 0   time <varint> │ value 64 bits │ start timestamp
//! sample 1   Δ time <uvarint> │ <value> │ start timestamp
//! others     <control> │ start timestamp
//!
//! control    0                        ΔΔ time 0, value as before
//!            10     <window>          ΔΔ time 0, other value; the window is 0 <bits> or 1 <new window>
//!            110    <13 bits> <value>
//!            1110   <20 bits> <value>
//!            11110  <64 bits> <value>
//!            11111                    ΔΔ time 0, staleness marker
//! value      0                        as before
//!            10     <bits>            the meaningful bits of the XOR in the previous window
//!            110    <new window>      5 bits zeros in front, 6 bits width (0 means 64), and the bits
//!            111                      staleness marker
//! ```
//!
//! Differences of times are two's complement. The XOR is with the last value that is no staleness marker.

use fk_model::{is_stale, stale_nan};

use crate::ChunkError;
use crate::bits::{BitReader, BitWriter};
use crate::fault::{Fault, OrTruncated};
use crate::starts::Starts;

/// Bytes in front of the first sample.
pub const HEADER_BYTES: usize = 3;

/// Most samples one chunk can hold, by the width of its header.
pub const SAMPLES_MAX: usize = u16::MAX as usize;

/// `leading` before the first window has been written.
const NO_WINDOW: u8 = 0xff;

/// What is remembered between samples, for reading as for writing.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    t: i64,
    delta: u64,
    /// The last value that is no staleness marker.
    value: u64,
    leading: u8,
    trailing: u8,
    starts: Starts,
}

impl State {
    fn new(starts: Starts) -> State {
        State { t: 0, delta: 0, value: 0, leading: NO_WINDOW, trailing: 0, starts }
    }

    /// Writes a value behind a time.
    fn write_value(&mut self, out: &mut BitWriter, v: f64) {
        if is_stale(v) {
            return out.bits(0b111, 3);
        }
        let xor = self.value ^ v.to_bits();
        match xor {
            0 => out.bits(0, 1),
            _ => self.write_window(out, xor, (0b10, 2), (0b110, 3)),
        }
        self.value = v.to_bits();
    }

    /// Writes an XOR that is not 0 behind one of the controls `same` and `new`, each with its width.
    fn write_window(&mut self, out: &mut BitWriter, xor: u64, same: (u64, u8), new: (u64, u8)) {
        let leading = (xor.leading_zeros() as u8).min(31);
        let trailing = xor.trailing_zeros() as u8;
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            out.bits(same.0, same.1);
            return out.bits(xor >> self.trailing, 64 - self.leading - self.trailing);
        }
        (self.leading, self.trailing) = (leading, trailing);
        let width = 64 - leading - trailing;
        out.bits(new.0 << 11 | u64::from(leading) << 6 | u64::from(width & 63), new.1 + 11);
        out.bits(xor >> trailing, width);
    }

    /// Reads a value behind a time.
    #[inline]
    fn read_value(&mut self, bits: &mut BitReader<'_>) -> Result<f64, Fault> {
        match bits.peek() >> 61 {
            0..0b100 => {
                bits.at += 1;
                Ok(f64::from_bits(self.value))
            }
            0b100 | 0b101 => {
                bits.at += 2;
                self.read_same_window(bits)
            }
            0b110 => {
                bits.at += 3;
                self.read_new_window(bits)
            }
            _ => {
                bits.at += 3;
                Ok(stale_nan())
            }
        }
    }

    #[inline]
    fn read_same_window(&mut self, bits: &mut BitReader<'_>) -> Result<f64, Fault> {
        // Before there is a window all 64 bits count, as in the other encodings.
        let width = if self.leading == NO_WINDOW { 64 } else { 64 - self.leading - self.trailing };
        self.value ^= bits.bits(u32::from(width)).or_truncated()? << self.trailing;
        Ok(f64::from_bits(self.value))
    }

    #[inline]
    fn read_new_window(&mut self, bits: &mut BitReader<'_>) -> Result<f64, Fault> {
        let window = bits.bits(11).or_truncated()?;
        let leading = (window >> 6) as u8;
        let width = match window as u8 & 63 {
            0 => 64,
            width => width,
        };
        if leading + width > 64 {
            return Err(Fault::Invalid("value width"));
        }
        (self.leading, self.trailing) = (leading, 64 - leading - width);
        self.read_same_window(bits)
    }

    /// Reads sample `index`.
    #[inline]
    fn read(&mut self, bits: &mut BitReader<'_>, index: usize) -> Result<f64, Fault> {
        let before = self.t;
        let v = match index {
            0 => {
                self.t = bits.varint().or_truncated()?;
                let v = f64::from_bits(bits.bits(64).or_truncated()?);
                if !is_stale(v) {
                    self.value = v.to_bits();
                }
                v
            }
            1 => {
                self.delta = bits.uvarint().or_truncated()?;
                self.t = self.t.wrapping_add(self.delta as i64);
                self.read_value(bits)?
            }
            _ => {
                let ones = (!bits.peek()).leading_zeros().min(5);
                bits.at += ones as usize + usize::from(ones < 5);
                if let width @ (13 | 20 | 64) = [0, 0, 13, 20, 64, 0][ones as usize] {
                    let dod = bits.bits(width).or_truncated()?;
                    self.delta = self.delta.wrapping_add(((dod << (64 - width)) as i64 >> (64 - width)) as u64);
                }
                self.t = self.t.wrapping_add(self.delta as i64);
                match ones {
                    0 => f64::from_bits(self.value),
                    1 => {
                        let new = bits.bits(1).or_truncated()?;
                        if new == 1 { self.read_new_window(bits)? } else { self.read_same_window(bits)? }
                    }
                    5 => stale_nan(),
                    _ => self.read_value(bits)?,
                }
            }
        };
        self.starts.read(bits, index, self.t, before)?;
        if bits.at > bits.end() { Err(Fault::Truncated) } else { Ok(v) }
    }
}

/// Builds one chunk.
#[derive(Clone, Debug)]
pub struct Xor2Writer {
    out: BitWriter,
    count: usize,
    state: State,
}

impl Default for Xor2Writer {
    fn default() -> Xor2Writer {
        Xor2Writer::new()
    }
}

impl Xor2Writer {
    /// An empty chunk.
    pub fn new() -> Xor2Writer {
        Xor2Writer { out: BitWriter::new(&[0; HEADER_BYTES]), count: 0, state: State::new(Starts::default()) }
    }

    /// Goes on with a chunk.
    pub fn resume(bytes: Vec<u8>) -> Result<Xor2Writer, ChunkError> {
        let (mut count, mut end) = (0, HEADER_BYTES * 8);
        let state = walk(&bytes, usize::MAX, |bits, _, _, _| {
            count += 1;
            end = bits.at;
            true
        })?;
        Ok(Xor2Writer { out: BitWriter::resume(bytes, end), count, state })
    }

    /// Adds a sample behind all others, with its start timestamp, ms, 0 if not known; at most [`SAMPLES_MAX`].
    pub fn push(&mut self, start: i64, t: i64, v: f64) {
        assert!(self.count < SAMPLES_MAX, "chunk is full");
        let (out, state) = (&mut self.out, &mut self.state);
        let before = state.t;
        let delta = t.wrapping_sub(before) as u64;
        match self.count {
            0 => {
                out.varint(t);
                out.bits(v.to_bits(), 64);
                if !is_stale(v) {
                    state.value = v.to_bits();
                }
            }
            1 => {
                out.uvarint(delta);
                state.delta = delta;
                state.write_value(out, v);
            }
            _ => {
                let dod = delta.wrapping_sub(state.delta) as i64;
                state.delta = delta;
                match dod {
                    0 if is_stale(v) => out.bits(0b11111, 5),
                    0 => {
                        let xor = state.value ^ v.to_bits();
                        match xor {
                            0 => out.bits(0, 1),
                            _ => state.write_window(out, xor, (0b100, 3), (0b101, 3)),
                        }
                        state.value = v.to_bits();
                    }
                    -4096..=4095 => out.bits(0b110 << 13 | dod as u64 & 0x1fff, 16),
                    -524_288..=524_287 => out.bits(0b1110 << 20 | dod as u64 & 0xf_ffff, 24),
                    _ => {
                        out.bits(0b11110, 5);
                        out.bits(dod as u64, 64);
                    }
                }
                if dod != 0 {
                    state.write_value(out, v);
                }
            }
        }
        state.t = t;
        state.starts.write(out, HEADER_BYTES - 1, self.count, t, before, start);
        self.count += 1;
        self.out.bytes[..2].copy_from_slice(&(self.count as u16).to_be_bytes());
    }

    /// The chunk as Prometheus writes it.
    pub fn bytes(&self) -> &[u8] {
        &self.out.bytes
    }

    /// The chunk, complete.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out.bytes
    }

    /// Samples in the chunk.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Memory it takes besides itself, bytes.
    pub fn heap_bytes(&self) -> usize {
        self.out.bytes.capacity()
    }

    /// Time of the last sample, ms; 0 if there is none.
    pub fn last_time(&self) -> i64 {
        self.state.t
    }
}

/// Calls `each` with start timestamp, time and value bits of the first `samples_max` samples until it returns `false`.
#[inline]
pub(crate) fn scan(
    bytes: &[u8],
    samples_max: usize,
    mut each: impl FnMut(i64, i64, f64) -> bool,
) -> Result<(), ChunkError> {
    walk(bytes, samples_max, |_, start, t, v| each(start, t, v)).map(|_| ())
}

#[inline]
fn walk(
    bytes: &[u8],
    samples_max: usize,
    mut each: impl FnMut(&BitReader<'_>, i64, i64, f64) -> bool,
) -> Result<State, ChunkError> {
    let &[high, low, starts, ..] = bytes else { return Err(ChunkError::Truncated { decoded: 0, expected: 0 }) };
    let expected = usize::from(u16::from_be_bytes([high, low]));
    let mut bits = BitReader::new(bytes, HEADER_BYTES);
    let mut state = State::new(Starts::new(starts));
    for index in 0..expected.min(samples_max) {
        let v = state.read(&mut bits, index).map_err(|fault| fault.of(index, expected))?;
        if !each(&bits, state.starts.last, state.t, v) {
            break;
        }
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Samples = Vec<(i64, i64, u64)>;

    fn encode(samples: &Samples, resume_at: usize) -> Vec<u8> {
        let mut writer = Xor2Writer::new();
        for (i, &(start, t, v)) in samples.iter().enumerate() {
            if i == resume_at {
                writer = Xor2Writer::resume(writer.into_bytes()).unwrap();
            }
            writer.push(start, t, f64::from_bits(v));
            assert_eq!((writer.count(), writer.last_time()), (i + 1, t));
        }
        writer.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Samples, ChunkError> {
        let mut samples = Vec::new();
        scan(bytes, usize::MAX, |start, t, v| {
            samples.push((start, t, v.to_bits()));
            true
        })?;
        Ok(samples)
    }

    proptest! {
        #[test]
        fn any_samples_come_back_bit_for_bit(
            first in any::<i64>(),
            known in 0u8..3,
            steps in prop::collection::vec((any::<u8>(), any::<i64>(), any::<u8>(), any::<u64>(), any::<u8>()), 0..200),
            resume in any::<prop::sample::Index>(),
        ) {
            let (mut t, mut v, mut start) = (first, 0u64, i64::from(known));
            let mut samples = Vec::new();
            for (class, step, kind, bits, change) in steps {
                t = t.wrapping_add(match class % 6 { 0 | 1 => 15_000, 2 => step % 100, 3 => step % 100_000, 4 => step % 1_000_000, _ => step });
                v = match kind % 6 { 0 | 1 => v, 2 => (f64::from_bits(v) + 1.0).to_bits(), 3 => bits, 4 => stale_nan().to_bits(), _ => ((bits % 1000) as f64 / 10.0).to_bits() };
                start = match change { 0 => 0, 1..4 => t.wrapping_sub(step % 10_000), 4 => step, _ => start };
                samples.push((start, t, v));
            }
            let bytes = encode(&samples, usize::MAX);
            prop_assert_eq!(decode(&bytes), Ok(samples.clone()));
            prop_assert_eq!(decode(&encode(&samples, resume.index(samples.len() + 1))), Ok(samples));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = Xor2Writer::resume(bytes);
        }
    }

    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    /// The sums, of these chunks and of XOR chunks with the same samples, were computed by a program that makes up the same
    /// series and writes them with Prometheus 3.14's own package.
    #[test]
    fn bytes_are_those_of_prometheus() {
        let (mut sum, mut xor_sum) = (0xcbf2_9ce4_8422_2325u64, 0xcbf2_9ce4_8422_2325u64);
        let add = |sum: &mut u64, bytes: &[u8]| {
            for byte in bytes {
                *sum = (*sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        };
        for seed in 0..200 {
            let mut n = Numbers(seed);
            let with_starts = n.below(3) > 0;
            let (mut t, mut v, mut start) = (1_600_000_000_000i64, 0f64, 0);
            if with_starts && n.below(2) == 0 {
                start = t - 5000;
            }
            let mut samples = Vec::new();
            for _ in 0..n.below(300) {
                t += 15_000;
                match n.below(12) {
                    0 | 1 => t += n.below(200) as i64 - 100,
                    2 => t += n.below(300_000) as i64,
                    3 if n.below(4) == 0 => t += n.below(2_000_000_000) as i64,
                    _ => {}
                }
                match n.below(8) {
                    0 | 1 => v += n.below(1000) as f64,
                    2 => v = n.below(100_000) as f64 / 1000.0,
                    3 => v = f64::from_bits(n.below(1 << 31) << 32 | n.below(1 << 31)),
                    _ => {}
                }
                let stale = n.below(15) == 0;
                if with_starts && n.below(30) == 0 {
                    start = t - n.below(1_000_000) as i64;
                }
                samples.push((start, t, if stale { stale_nan() } else { v }.to_bits()));
            }
            let bytes = encode(&samples, samples.len() / 2);
            add(&mut sum, &bytes);
            let mut xor = crate::xor::XorChunk::new();
            samples.iter().for_each(|(_, t, v)| xor.push(*t, f64::from_bits(*v)));
            add(&mut xor_sum, xor.bytes());
            assert_eq!(decode(&bytes), Ok(samples));
        }
        assert_eq!(format!("{xor_sum:016x}"), "1f62b5e3e72c7976");
        assert_eq!(format!("{sum:016x}"), "6a680ce4b56e8344");
    }
}
