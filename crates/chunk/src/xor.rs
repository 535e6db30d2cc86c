//! The XOR chunk (encoding 1): float samples as Facebook's Gorilla paper has them, with the bit widths of Prometheus
//! (`tsdb/chunkenc/xor.go`, `tsdb/docs/format/chunks.md`).
//!
//! ```text
//! ┌──────────────┬───────────────┬──────────┬───────────────┬──────────────┬─────┬──────────┬──────────┬─────┐
//! │ samples u16  │ t0 <varint>   │ v0 <f64> │ Δt1 <uvarint> │ v1 <xor>     │ ... │ ΔΔt <dod>│ v <xor>  │ ... │
//! └──────────────┴───────────────┴──────────┴───────────────┴──────────────┴─────┴──────────┴──────────┴─────┘
//! dod:  0                    as before
//!       10    <14 bits>      -8191..=8192           110 <17 bits>   -65535..=65536
//!       1110  <20 bits>      -524287..=524288       1111 <64 bits>  all others
//! xor:  0                    same bits as before
//!       10    <window>       the meaningful bits of the XOR fit the previous window
//!       11    <5 bits leading zeros> <6 bits width, 0 means 64> <width bits>
//! ```
//!
//! Everything is big endian; the last byte is padded with zero bits. Chunks of older versions of Prometheus may have an
//! empty byte behind that.
//!
//! Writing is a function over a small [`XorState`]
//! and a byte buffer that somebody else owns, so the head can keep the state inside its series slots and the bytes in
//! slabs. Reading appends to flat columns; damaged bytes end in an error, never in a panic.

use crate::ChunkError;
use crate::bits::{BitReader, PEEK_BITS};

/// Bytes of the header: the sample count.
pub const HEADER_BYTES: usize = 2;

/// More than any sample takes: 10 bytes time and 8 bytes value of the first one, 68 + 77 bits of a later one, and the
/// bits of the byte that both share.
pub const SAMPLE_BYTES_MAX: usize = 20;

/// Most samples one chunk can hold, by the width of its header.
pub const SAMPLES_MAX: usize = u16::MAX as usize;

/// `leading` before the first window has been written.
const NO_WINDOW: u8 = 0xff;

/// What the writer of an open chunk remembers: 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XorState {
    /// Time of the last sample, ms.
    pub t: i64,
    /// Value of the last sample.
    pub v: f64,
    /// Difference of the last two times; 0 before the second sample.
    pub delta: u64,
    /// Bytes used, header included.
    pub len: u16,
    /// Samples written.
    pub count: u16,
    /// Bits of the last byte that are still free, 0..=7.
    pub free_bits: u8,
    /// Zeros in front of the current window; 0xff before there is one.
    pub leading: u8,
    /// Zeros behind the current window.
    pub trailing: u8,
    /// What is in the last byte so far, so that writing needs no look at the buffer (a cache miss in a large head).
    pub last_byte: u8,
}

impl Default for XorState {
    fn default() -> XorState {
        XorState {
            t: 0,
            v: 0.0,
            delta: 0,
            len: 0,
            count: 0,
            free_bits: 0,
            leading: NO_WINDOW,
            trailing: 0,
            last_byte: 0,
        }
    }
}

/// One sample as bits, ready to be written: split from the writing so that the caller learns how many bytes it needs.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    /// A delta of deltas that needs all 64 bits, behind the four bits that say so.
    wide: Option<u64>,
    /// Right-aligned: the time unless it is wide, and the control bits of the value.
    head: u64,
    head_bits: u8,
    /// Right-aligned: the meaningful bits of the value.
    body: u64,
    body_bits: u8,
    next: XorState,
}

impl Encoded {
    /// Bytes of the chunk once this sample is in.
    #[inline]
    pub fn len_after(&self) -> usize {
        let wide = if self.wide.is_some() { 68 } else { 0 };
        let (bits, free) = (usize::from(self.head_bits + self.body_bits) + wide, usize::from(self.next.free_bits));
        usize::from(self.next.len) + bits.saturating_sub(free).div_ceil(8)
    }
}

impl XorState {
    /// The bits of sample `(t, v)` behind the `count >= 2` samples so far.
    #[inline]
    pub fn encode(&self, t: i64, v: f64) -> Encoded {
        debug_assert!(self.count >= 2);
        let mut next = *self;
        let delta = t.wrapping_sub(self.t) as u64;
        let dod = delta.wrapping_sub(self.delta) as i64;
        (next.t, next.v, next.delta, next.count) = (t, v, delta, self.count + 1);
        let (wide, time, time_bits) = match dod {
            0 => (None, 0, 1),
            -8191..=8192 => (None, 0b10 << 14 | (dod as u64 & 0x3fff), 16),
            -65535..=65536 => (None, 0b110 << 17 | (dod as u64 & 0x1ffff), 20),
            -524287..=524288 => (None, 0b1110 << 20 | (dod as u64 & 0xfffff), 24),
            _ => (Some(dod as u64), 0, 0),
        };
        let (control, control_bits, body, body_bits) = next.encode_value(self.v, v);
        Encoded {
            wide,
            head: time << control_bits | control,
            head_bits: time_bits + control_bits,
            body,
            body_bits,
            next,
        }
    }

    /// Control bits and meaningful bits of `v` behind `before`; moves the window.
    #[inline]
    fn encode_value(&mut self, before: f64, v: f64) -> (u64, u8, u64, u8) {
        let xor = before.to_bits() ^ v.to_bits();
        if xor == 0 {
            return (0, 1, 0, 0);
        }
        let leading = (xor.leading_zeros() as u8).min(31);
        let trailing = xor.trailing_zeros() as u8;
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            return (0b10, 2, xor >> self.trailing, 64 - self.leading - self.trailing);
        }
        (self.leading, self.trailing) = (leading, trailing);
        let width = 64 - leading - trailing;
        // A width of 64 does not fit 6 bits and is written as 0, which cannot occur otherwise.
        (0b11 << 11 | u64::from(leading) << 6 | u64::from(width & 63), 13, xor >> trailing, width)
    }

    /// Writes the sample `encoded` (made from this very state) into `buf`, which starts at the chunk's first byte and
    /// has at least [`Encoded::len_after`] bytes. The header keeps its old count until [`set_count`]: it may be far from
    /// the bytes that are written.
    #[inline]
    pub fn write(&mut self, buf: &mut [u8], encoded: &Encoded) {
        debug_assert_eq!(encoded.next.len, self.len);
        *self = encoded.next;
        if let Some(dod) = encoded.wide {
            self.write_bits(buf, 0b1111, 4);
            self.write_bits(buf, dod, 64);
        }
        self.write_value(buf, encoded);
    }

    /// Writes head and body. Together with the bits that share their first byte they are at most 7 + 37 + 64 bits, so
    /// they are put together in one word; where the buffer has room behind the chunk the whole word is stored.
    #[inline]
    fn write_value(&mut self, buf: &mut [u8], encoded: &Encoded) {
        let shared = self.free_bits > 0;
        let at = usize::from(self.len) - usize::from(shared);
        let used = if shared { 8 - u32::from(self.free_bits) } else { 0 };
        let before = if shared { self.last_byte } else { 0 };
        let (head_bits, body_bits) = (u32::from(encoded.head_bits), u32::from(encoded.body_bits));
        let total = used + head_bits + body_bits;
        let word = u128::from(before) << 120
            | u128::from(encoded.head) << (128 - used - head_bits)
            | u128::from(encoded.body) << (128 - total);
        let bytes = word.to_be_bytes();
        let len = total.div_ceil(8) as usize;
        match buf.get_mut(at..at + 16) {
            Some(room) => room.copy_from_slice(&bytes),
            None => store(&mut buf[at..at + len], &bytes),
        }
        self.last_byte = bytes[len - 1];
        self.len = (at + len) as u16;
        self.free_bits = (len as u32 * 8 - total) as u8;
    }

    /// Writes the first two samples of a chunk into `buf` (`HEADER_BYTES + 2 * SAMPLE_BYTES_MAX` bytes are enough).
    pub fn start(buf: &mut [u8], first: (i64, f64), second: (i64, f64)) -> XorState {
        let mut state = XorState::start_one(buf, first);
        state.second(buf, second);
        state
    }

    /// Writes the first sample of a chunk into `buf`.
    pub fn start_one(buf: &mut [u8], (t, v): (i64, f64)) -> XorState {
        let mut at = HEADER_BYTES;
        put_uvarint(buf, &mut at, ((t << 1) ^ (t >> 63)) as u64);
        buf[at..at + 8].copy_from_slice(&v.to_bits().to_be_bytes());
        buf[..HEADER_BYTES].copy_from_slice(&1u16.to_be_bytes());
        XorState { t, v, len: (at + 8) as u16, count: 1, last_byte: buf[at + 7], ..XorState::default() }
    }

    /// Writes the second sample of a chunk.
    fn second(&mut self, buf: &mut [u8], (t, v): (i64, f64)) {
        debug_assert_eq!((self.count, self.free_bits), (1, 0));
        let delta = t.wrapping_sub(self.t) as u64;
        let mut at = usize::from(self.len);
        put_uvarint(buf, &mut at, delta);
        (self.len, self.last_byte) = (at as u16, buf[at - 1]);
        let before = self.v;
        (self.t, self.v, self.delta, self.count) = (t, v, delta, 2);
        let (head, head_bits, body, body_bits) = self.encode_value(before, v);
        self.write_bits(buf, head, head_bits);
        if body_bits > 0 {
            self.write_bits(buf, body, body_bits);
        }
        buf[..HEADER_BYTES].copy_from_slice(&2u16.to_be_bytes());
    }

    /// Writes the low `n` bits of `bits`, `1..=64`, which has no higher ones.
    #[inline]
    fn write_bits(&mut self, buf: &mut [u8], bits: u64, n: u8) {
        debug_assert!((1..=64).contains(&n) && (n == 64 || bits >> n == 0));
        let mut n = n;
        if self.free_bits > 0 {
            let last = usize::from(self.len) - 1;
            let taken = n.min(self.free_bits);
            n -= taken;
            self.free_bits -= taken;
            self.last_byte |= (bits >> n << self.free_bits) as u8;
            buf[last] = self.last_byte;
            if n == 0 {
                return;
            }
        }
        // Byte aligned now, n >= 1 bits left: move them to the top and store as many bytes as they take.
        let bytes = (bits << (64 - n)).to_be_bytes();
        let used = usize::from(n.div_ceil(8));
        let at = usize::from(self.len);
        for (to, from) in buf[at..at + used].iter_mut().zip(bytes) {
            *to = from;
        }
        self.len += used as u16;
        self.free_bits = (used * 8) as u8 - n;
        self.last_byte = bytes[used - 1];
    }
}

/// Fills `to`, which is no longer than `from`, in moves of a fixed length: a copy of any length is a call, and most samples take
/// few bytes.
#[inline]
fn store(to: &mut [u8], from: &[u8; 16]) {
    let len = to.len();
    match len {
        8.. => {
            to[..8].copy_from_slice(&from[..8]);
            to[len - 8..].copy_from_slice(&from[len - 8..][..8]);
        }
        4.. => {
            to[..4].copy_from_slice(&from[..4]);
            to[len - 4..].copy_from_slice(&from[len - 4..][..4]);
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
    }
}

fn put_uvarint(buf: &mut [u8], at: &mut usize, mut value: u64) {
    while value >= 0x80 {
        buf[*at] = value as u8 | 0x80;
        value >>= 7;
        *at += 1;
    }
    buf[*at] = value as u8;
    *at += 1;
}

/// Builds one chunk in a vector of its own. For tests and writers outside the head's hot path.
#[derive(Clone, Debug, Default)]
pub struct XorChunk {
    bytes: Vec<u8>,
    state: XorState,
}

impl XorChunk {
    /// An empty chunk.
    pub fn new() -> XorChunk {
        XorChunk::default()
    }

    /// Adds a sample behind all others; at most [`SAMPLES_MAX`].
    pub fn push(&mut self, t: i64, v: f64) {
        assert!(usize::from(self.state.count) < SAMPLES_MAX, "chunk is full");
        self.bytes.resize(usize::from(self.state.len) + HEADER_BYTES + SAMPLE_BYTES_MAX, 0);
        match self.state.count {
            0 => self.state = XorState::start_one(&mut self.bytes, (t, v)),
            1 => self.state.second(&mut self.bytes, (t, v)),
            _ => {
                let encoded = self.state.encode(t, v);
                self.state.write(&mut self.bytes, &encoded);
                set_count(&mut self.bytes, self.state.count);
            }
        }
        self.bytes.truncate(usize::from(self.state.len));
    }

    /// The chunk as Prometheus writes it.
    pub fn bytes(&self) -> &[u8] {
        match self.state.count {
            0 => &[0, 0],
            _ => &self.bytes,
        }
    }
}

/// How many samples the header promises; `None` if there is no header.
pub fn count(bytes: &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*bytes.first_chunk()?)))
}

/// Writes the number of samples into the header.
pub fn set_count(bytes: &mut [u8], count: u16) {
    bytes[..HEADER_BYTES].copy_from_slice(&count.to_be_bytes());
}

/// Time of the first sample; `None` if there is none.
pub fn first_time(bytes: &[u8]) -> Option<i64> {
    if count(bytes)? == 0 {
        return None;
    }
    BitReader::new(bytes, HEADER_BYTES).varint()
}

/// Appends all samples to `t` and `v`.
pub fn decode(bytes: &[u8], t: &mut Vec<i64>, v: &mut Vec<f64>) -> Result<(), ChunkError> {
    decode_range(bytes, usize::MAX, i64::MIN, i64::MAX, t, v)
}

/// Appends the samples with times in `mint..=maxt` among the first `samples_max` ones. Stops reading at the first
/// sample past `maxt`.
pub fn decode_range(
    bytes: &[u8],
    samples_max: usize,
    mint: i64,
    maxt: i64,
    ts: &mut Vec<i64>,
    vs: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    // The header is not trusted with memory: after the first sample each one takes two bits at least.
    let room = count(bytes).unwrap_or(0).min(samples_max).min(1 + bytes.len() * 4);
    let before = ts.len();
    ts.resize(before + room, 0);
    vs.resize(before + room, 0.0);
    let mut kept = 0;
    let (t_out, v_out) = (&mut ts[before..], &mut vs[before..]);
    let result = scan(bytes, samples_max, |t, v| {
        // A sample that is too old is written, too, and overwritten by the next one.
        if let (Some(t_out), Some(v_out)) = (t_out.get_mut(kept), v_out.get_mut(kept)) {
            (*t_out, *v_out) = (t, f64::from_bits(v));
        }
        kept += usize::from(t >= mint && t <= maxt);
        t <= maxt
    });
    ts.truncate(before + kept);
    vs.truncate(before + kept);
    result
}

/// Calls `each` with time and value bits of the first `samples_max` samples until it returns `false`.
#[inline]
pub(crate) fn scan(bytes: &[u8], samples_max: usize, mut each: impl FnMut(i64, u64) -> bool) -> Result<(), ChunkError> {
    let Some(expected) = count(bytes) else { return Err(ChunkError::Truncated { decoded: 0, expected: 0 }) };
    let wanted = expected.min(samples_max);
    if wanted == 0 {
        return Ok(());
    }
    let truncated = |decoded| ChunkError::Truncated { decoded, expected };
    let mut reader = BitReader::new(bytes, HEADER_BYTES);
    let mut t = reader.varint().ok_or(truncated(0))?;
    let mut value = reader.bits(64).ok_or(truncated(0))?;
    if !each(t, value) || wanted == 1 {
        return Ok(());
    }
    let mut delta = reader.uvarint().ok_or(truncated(1))?;
    // Before there is a window all 64 bits count: a chunk that Prometheus goes on with after a restart begins that way.
    let (mut trailing, mut width) = (0u32, 64u32);
    let end = reader.end();
    let mut sample = 0;
    while sample + 1 < wanted {
        sample += 1;
        let mut word = reader.peek();
        // Bits of `word` that are read.
        let mut used = 0;
        if sample > 1 {
            // Two zero bits are a sample with the rhythm and the value of the one before; many series have long rows of them.
            if word >> 62 == 0 {
                let zeros = word.leading_zeros().min(PEEK_BITS) as usize;
                let row = (zeros / 2).min(reader.left() / 2).min(wanted - sample);
                for _ in 0..row {
                    t = t.wrapping_add(delta as i64);
                    if !each(t, value) {
                        return Ok(());
                    }
                }
                if row == 0 {
                    return Err(truncated(sample));
                }
                reader.at += 2 * row;
                sample += row - 1;
                continue;
            }
            if word >> 63 == 0 {
                used = 1;
            } else {
                delta = delta.wrapping_add(dod(&mut reader, word).ok_or(truncated(sample))? as u64);
                word = reader.peek();
            }
        }
        t = t.wrapping_add(delta as i64);
        let control = word << used;
        if control >> 63 == 0 {
            reader.at += used as usize + 1;
        } else {
            // Whether there is a new window is as good as random in many series, so it is computed with and not branched upon.
            let renewed = control >> 62 == 0b11;
            let (leading, bits) = ((control >> 57) as u32 & 31, (control >> 51) as u32 & 63);
            let bits = if bits == 0 { 64 } else { bits };
            if renewed && leading + bits > 64 {
                return Err(ChunkError::Invalid { what: "value width", sample });
            }
            width = if renewed { bits } else { width };
            trailing = if renewed { 64u32.wrapping_sub(leading + bits) } else { trailing };
            used += if renewed { 13 } else { 2 };
            let body = if used + width <= PEEK_BITS {
                reader.at += (used + width) as usize;
                word << used >> (64 - width)
            } else {
                reader.at += used as usize;
                reader.bits(width).ok_or(truncated(sample))?
            };
            value ^= body << trailing;
        }
        if reader.at > end {
            return Err(truncated(sample));
        }
        if !each(t, value) {
            break;
        }
    }
    Ok(())
}

/// The delta of deltas that `word`, the next bits, begins with; `None` past the end.
#[inline]
fn dod(reader: &mut BitReader<'_>, word: u64) -> Option<i64> {
    let (prefix, n) = match (!word).leading_zeros() {
        0 => {
            reader.at += 1;
            return Some(0);
        }
        1 => (2, 14u32),
        2 => (3, 17),
        3 => (4, 20),
        _ => {
            reader.at += 4;
            return reader.bits(64).map(|dod| dod as i64);
        }
    };
    reader.at += (prefix + n) as usize;
    let bits = (word << prefix >> (64 - n)) as i64;
    Some(if bits > 1 << (n - 1) { bits - (1 << n) } else { bits })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut chunk = XorChunk::new();
        for &(t, v) in samples {
            chunk.push(t, v);
        }
        chunk.bytes().to_vec()
    }

    fn decode_bits(bytes: &[u8]) -> Result<Vec<(i64, u64)>, ChunkError> {
        let (mut t, mut v) = (Vec::new(), Vec::new());
        decode(bytes, &mut t, &mut v)?;
        Ok(t.into_iter().zip(v.into_iter().map(f64::to_bits)).collect())
    }

    #[track_caller]
    fn check(samples: &[(i64, f64)], hex: &str) {
        let bytes = encode(samples);
        let found: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found, hex, "{samples:?}");
        let expected: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
        assert_eq!(decode_bits(&bytes).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn any_samples_come_back_bit_for_bit(
            start in any::<i64>(),
            steps in prop::collection::vec((any::<u8>(), any::<i64>(), any::<u8>(), any::<u64>()), 0..300),
        ) {
            let (mut t, mut v) = (start, 0f64);
            let mut samples = Vec::new();
            for (class, step, kind, bits) in steps {
                t = t.wrapping_add(match class % 6 { 0 | 1 => 15_000, 2 => step % 100, 3 => step % 100_000, 4 => step % 1_000_000, _ => step });
                v = match kind % 5 { 0 | 1 => v, 2 => v + 1.0, 3 => f64::from_bits(bits), _ => (bits % 1000) as f64 / 10.0 };
                samples.push((t, v));
            }
            let expected: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
            let bytes = encode(&samples);
            prop_assert_eq!(decode_bits(&bytes).unwrap(), expected.clone());
            prop_assert_eq!(count(&bytes), Some(expected.len()));
            prop_assert_eq!(first_time(&bytes), expected.first().map(|s| s.0));
            let half = expected.len() / 2;
            let (mut ts, mut vs) = (Vec::new(), Vec::new());
            decode_range(&bytes, half, i64::MIN, i64::MAX, &mut ts, &mut vs).unwrap();
            prop_assert_eq!(&ts, &expected[..half].iter().map(|s| s.0).collect::<Vec<_>>());
            // Every strict prefix lacks a sample and says so.
            for end in (0..bytes.len()).rev().take(50).chain(0..bytes.len().min(50)) {
                prop_assert!(decode_bits(&bytes[..end]).is_err() || expected.is_empty() && end >= 2);
            }
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_bits(&bytes);
            let _ = first_time(&bytes);
        }

        #[test]
        fn range_is_what_filtering_all_samples_gives(
            steps in prop::collection::vec((1i64..40_000, 0u8..4), 1..150), mint in 0i64..3_000_000, span in 0i64..3_000_000,
        ) {
            let mut t = 0;
            let samples: Vec<_> = steps.iter().map(|(step, v)| { t += step; (t, f64::from(*v)) }).collect();
            let (mut ts, mut vs) = (Vec::new(), Vec::new());
            decode_range(&encode(&samples), usize::MAX, mint, mint + span, &mut ts, &mut vs).unwrap();
            let expected: Vec<_> = samples.into_iter().filter(|(t, _)| (mint..=mint + span).contains(t)).collect();
            prop_assert_eq!(ts.into_iter().zip(vs).collect::<Vec<_>>(), expected);
        }
    }

    /// The expected bytes were written by Prometheus 2.42 (`promtool tsdb create-blocks-from openmetrics`); where it has an
    /// empty byte at the end, which newer versions do not write, that was taken off. `xor2` has a sum of 3.14's chunks.
    #[test]
    fn bytes_are_those_of_prometheus() {
        let start = 1_600_000_000_000;
        let samples = [
            (0, 1.0),
            (15_000, 1.0),
            (30_000, 2.0),
            (45_003, 2.0),
            (60_000, -1.5),
            (80_100, fk_model::value::normal_nan()),
            (90_000, 0.1),
            (300_000, 0.2),
            (900_000, 0.30000000000000004),
            (3_600_000, f64::INFINITY),
        ];
        check(
            &samples.map(|(t, v)| (start + t, v)),
            "000a8080f4f6905d3ff000000000000098753097ffe000d7ff580dfffc9f7e0030000000000000007760a2404199999999999be30d\
             a4801c000000000000397cdc2001aaaaaaaaaaaaef0000000000200b209008cccccccccccd00",
        );
        check(&[0, 1, 2, 3, 4, 5].map(|i| (start + i * 15_000, 42.0)), "00068080f4f6905d404500000000000098750000");
        check(&[(start + 500, 3.25)], "0001e887f4f6905d400a000000000000");
        check(
            &[0i32, 1, 2, 3, 4, 5, 6, 7].map(|i| (start + i64::from(i) * 10_000, f64::from(i * i) + 0.5)),
            "00088080f4f6905d3fe0000000000000904ed616c277fead4362d634e926927de854",
        );
        assert_eq!(XorChunk::new().bytes(), [0, 0]);
    }

    #[test]
    fn limits_of_each_time_width_survive() {
        for dod in [0, 1, -8191, 8192, 8193, -8192, -65535, 65536, 65537, -524287, 524288, 524289, i64::MAX, i64::MIN] {
            let samples = [(0, 1.0), (10, 1.0), (20i64.wrapping_add(dod), 2.0), (30, 2.0)];
            let expected: Vec<_> = samples.iter().map(|(t, v): &(i64, f64)| (*t, v.to_bits())).collect();
            assert_eq!(decode_bits(&encode(&samples)).unwrap(), expected, "{dod}");
        }
    }

    #[test]
    fn window_before_any_window_is_all_bits() {
        // Two samples; the second value says "previous window" (bits 10), but there is none.
        let mut bytes = encode(&[(0, 1.0)]);
        bytes[1] = 2;
        let xor = 1f64.to_bits() ^ 2f64.to_bits();
        bytes.push(5);
        bytes.extend((0b10u128 << 126 | u128::from(xor) << 62).to_be_bytes());
        assert_eq!(decode_bits(&bytes), Ok(vec![(0, 1f64.to_bits()), (5, 2f64.to_bits())]));
    }
}
