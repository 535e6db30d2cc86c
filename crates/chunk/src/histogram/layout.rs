//! The layout of buckets at the start of a histogram chunk.
//!
//! ```text
//! zero threshold   u8   0: zero. 1..=254: 2^(n - 244). 255: the 64 bits of the float follow
//! schema           varbit
//! spans            unsigned varbit number, then per span length (unsigned varbit) and offset (varbit); twice
//! custom bounds    unsigned varbit number, then per bound n: (n - 1) / 1000 as unsigned varbit, or 0 and the 64 bits of the float
//! ```

use std::sync::Arc;

use fk_model::Span;
use fk_model::histogram::{CUSTOM_BUCKETS_SCHEMA, is_known_schema};

use crate::bits::{BitReader, BitWriter};
use crate::fault::{Fault, OrTruncated};

/// The largest bound that is written as thousandths.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// Spans that a histogram may have beyond the number of its buckets. No client writes spans without buckets, but for one
/// that marks a histogram as native. Each decoded sample has all spans, so without this limit a small chunk could ask for
/// a lot of memory.
const EMPTY_SPANS_MAX: usize = 64;

/// What all samples of a chunk share.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) positive_spans: Vec<Span>,
    pub(crate) negative_spans: Vec<Span>,
    pub(crate) custom_values: Arc<[f64]>,
}

/// How many positive and negative buckets there are; `None` if no reader would believe it.
pub(crate) fn sound(schema: i32, [positive, negative]: [&[Span]; 2], bounds: &[f64]) -> Option<[usize; 2]> {
    let custom = schema == CUSTOM_BUCKETS_SCHEMA;
    let covered: i64 = positive.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
    if custom && (covered > bounds.len() as i64 + 1 || positive.first().is_some_and(|span| span.offset < 0)) {
        return None;
    }
    if !is_known_schema(schema) {
        return None;
    }
    Some([buckets(positive)?, buckets(negative)?])
}

/// How many buckets the spans describe, if that many are plausible.
fn buckets(spans: &[Span]) -> Option<usize> {
    let mut index = 0i64;
    let mut buckets = 0usize;
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            return None;
        }
        index += i64::from(span.offset) + i64::from(span.length);
        i32::try_from(index).ok()?;
        buckets += span.length as usize;
    }
    (spans.len() <= buckets + EMPTY_SPANS_MAX).then_some(buckets)
}

impl Layout {
    pub(crate) fn write(&self, out: &mut BitWriter) {
        write_zero_threshold(out, self.zero_threshold);
        out.varbit_int(i64::from(self.schema));
        for spans in [&self.positive_spans, &self.negative_spans] {
            out.varbit_uint(spans.len() as u64);
            for span in spans {
                out.varbit_uint(u64::from(span.length));
                out.varbit_int(i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            out.varbit_uint(self.custom_values.len() as u64);
            for bound in self.custom_values.iter() {
                write_bound(out, *bound);
            }
        }
    }

    /// Reads a layout and how many positive and negative buckets it has; each takes at least `bucket_bits` bits of the
    /// first sample, so no more are believed than there are bits.
    pub(crate) fn read(bits: &mut BitReader<'_>, bucket_bits: usize) -> Result<(Layout, [usize; 2]), Fault> {
        let zero_threshold = read_zero_threshold(bits)?;
        let schema = bits.varbit_int().or_truncated()? as i32;
        if !is_known_schema(schema) {
            return Err(Fault::Invalid("schema"));
        }
        let positive_spans = read_spans(bits, bucket_bits)?;
        let negative_spans = read_spans(bits, bucket_bits)?;
        let custom_values = if schema == CUSTOM_BUCKETS_SCHEMA { read_bounds(bits)? } else { Arc::default() };
        let spans = [&positive_spans[..], &negative_spans];
        let [positive, negative] = sound(schema, spans, &custom_values).ok_or(Fault::Invalid("spans"))?;
        Ok((Layout { schema, zero_threshold, positive_spans, negative_spans, custom_values }, [positive, negative]))
    }
}

fn read_spans(bits: &mut BitReader<'_>, bucket_bits: usize) -> Result<Vec<Span>, Fault> {
    let count = bits.varbit_uint().or_truncated()?;
    // A span takes two bits at least.
    if count > (bits.left() / 2) as u64 {
        return Err(Fault::Truncated);
    }
    let mut spans = Vec::with_capacity((count as usize).min(64));
    for _ in 0..count {
        let length = bits.varbit_uint().or_truncated()? as u32;
        spans.push(Span { length, offset: bits.varbit_int().or_truncated()? as i32 });
    }
    let buckets = buckets(&spans).ok_or(Fault::Invalid("spans"))?;
    if buckets.checked_mul(bucket_bits).is_none_or(|needed| needed > bits.left()) {
        return Err(Fault::Truncated);
    }
    Ok(spans)
}

fn write_zero_threshold(out: &mut BitWriter, threshold: f64) {
    let bits = threshold.to_bits();
    let exponent = (bits >> 52) as i64;
    // Powers of two from 2^-243 to 2^10, which have no mantissa and, being positive, no sign in the exponent.
    let byte = exponent - 1023 + 244;
    if threshold == 0.0 {
        out.bits(0, 8);
    } else if bits << 12 == 0 && (1..=254).contains(&byte) {
        out.bits(byte as u64, 8);
    } else {
        out.bits(0xff, 8);
        out.bits(bits, 64);
    }
}

fn read_zero_threshold(bits: &mut BitReader<'_>) -> Result<f64, Fault> {
    Ok(match bits.bits(8).or_truncated()? {
        0 => 0.0,
        255 => f64::from_bits(bits.bits(64).or_truncated()?),
        byte => f64::from_bits((byte + 1023 - 244) << 52),
    })
}

fn write_bound(out: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if (0.0..=THOUSANDTHS_MAX).contains(&thousandths) && whole / 1000.0 == bound {
        out.varbit_uint(whole as u64 + 1);
    } else {
        out.bits(0, 1);
        out.bits(bound.to_bits(), 64);
    }
}

fn read_bounds(bits: &mut BitReader<'_>) -> Result<Arc<[f64]>, Fault> {
    let count = bits.varbit_uint().or_truncated()?;
    // A bound takes five bits at least.
    if count > (bits.left() / 5) as u64 {
        return Err(Fault::Truncated);
    }
    let bounds = (0..count).map(|_| {
        Ok(match bits.varbit_uint().or_truncated()? {
            0 => f64::from_bits(bits.bits(64).or_truncated()?),
            thousandths => (thousandths - 1) as f64 / 1000.0,
        })
    });
    bounds.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_thresholds_and_bounds_are_short() {
        let threshold = |threshold: f64| {
            let mut out = BitWriter::default();
            write_zero_threshold(&mut out, threshold);
            let back = read_zero_threshold(&mut BitReader::new(&out.bytes, 0)).unwrap();
            assert_eq!(back.to_bits(), threshold.to_bits());
            out.bytes
        };
        assert_eq!(threshold(0.0), [0]);
        assert_eq!(threshold(2f64.powi(-128)), [116]);
        assert_eq!((threshold(2f64.powi(-243)), threshold(1024.0)), (vec![1], vec![254]));
        for long in [2f64.powi(-244), 2048.0, -1.0, 0.001, f64::MIN_POSITIVE / 4.0, f64::INFINITY] {
            assert_eq!(threshold(long).len(), 9, "{long}");
        }
        let bound = |bound: f64| {
            let mut out = BitWriter::default();
            write_bound(&mut out, bound);
            out.bits(1, 1);
            let mut writer = BitWriter::default();
            writer.varbit_uint(1);
            writer.bytes.clear();
            let mut reader = BitReader::new(&out.bytes, 0);
            let back = match reader.varbit_uint().unwrap() {
                0 => f64::from_bits(reader.bits(64).unwrap()),
                n => (n - 1) as f64 / 1000.0,
            };
            assert_eq!(back.to_bits(), if bound == 0.0 { 0 } else { bound.to_bits() });
            reader.at
        };
        assert_eq!((bound(0.0), bound(0.006), bound(0.25), bound(33554.43)), (5, 5, 13, 32));
        for long in [-0.5, 33554.431, 0.0001, f64::INFINITY, 1.0 / 3.0] {
            assert_eq!(bound(long), 65, "{long}");
        }
    }
}
