//! Cutting off observations above or below a value (`</` and `>/` in PromQL). A bucket that the value falls into is
//! divided as if its observations were spread evenly: on a linear scale with custom buckets and in the zero bucket, on a
//! logarithmic one else. Sum and count are computed anew from what is left.

use super::{Bucket, FloatHistogram};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those at or below the value.
    Below,
    /// Those above the value.
    Above,
}

/// What a bucket keeps: how many observations, and what they count as in the sum.
type Kept = (f64, f64);

/// Binary logarithm; PromQL brings its own, which gives the bits that Prometheus gets.
pub type Log2 = fn(f64) -> f64;

impl Bucket {
    /// Which part of the bucket's observations is taken to be at or below `v`, which is between its limits; both are finite.
    /// On a logarithmic scale unless `linear`.
    pub fn fraction_below(&self, v: f64, linear: bool, log2: Log2) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, at) = (log2(self.lower.abs()), log2(self.upper.abs()), log2(v.abs()));
        if v > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }

    /// What is left of a bucket that the value divides.
    fn divided(&self, at: f64, keep: Keep, positive: bool, linear: bool, log2: Log2) -> Kept {
        if self.lower == f64::NEG_INFINITY || self.upper == f64::INFINITY {
            return self.divided_infinite(at, keep);
        }
        let below = if at <= self.lower {
            0.0
        } else if at >= self.upper {
            self.count
        } else {
            self.count * self.fraction_below(at, linear, log2)
        };
        match keep {
            Keep::Below => (below, middle(self.lower, at, positive, linear)),
            Keep::Above => (self.count - below, middle(at, self.upper, positive, linear)),
        }
    }

    /// The same of a bucket that has no end: nobody knows where in it its observations are, so it stays or goes as a whole.
    /// Only the first custom bucket is taken to begin at zero if it ends above.
    fn divided_infinite(&self, at: f64, keep: Keep) -> Kept {
        let finite = |v: f64| if v.is_infinite() { 0.0 } else { v };
        let ends_above_zero = self.upper > 0.0 && self.upper != f64::INFINITY;
        if self.lower == f64::NEG_INFINITY {
            return match keep {
                Keep::Below if at >= self.upper => (self.count, 0.0),
                Keep::Below if at > 0.0 && ends_above_zero => (self.count * at / self.upper, at / 2.0),
                Keep::Below if self.upper <= 0.0 => (self.count, at),
                Keep::Above if at <= self.lower => (self.count, 0.0),
                Keep::Above if at >= 0.0 && self.upper > at && self.upper != f64::INFINITY => {
                    (self.count * (1.0 - at / self.upper), (at + self.upper) / 2.0)
                }
                _ => (0.0, finite(self.upper)),
            };
        }
        match keep {
            Keep::Above if at >= self.lower => (self.count, at),
            _ => (0.0, finite(self.lower)),
        }
    }
}

/// What observations between two limits count as in the sum.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    if lower.is_infinite() {
        return match upper {
            _ if upper.is_infinite() => 0.0,
            _ if upper > 0.0 => upper / 2.0,
            _ => upper,
        };
    }
    if upper.is_infinite() {
        return lower;
    }
    if linear {
        return (lower + upper) / 2.0;
    }
    let geometric = (lower * upper).abs().sqrt();
    if positive { geometric } else { -geometric }
}

/// What the zero bucket keeps. With observations on one side only, it has none on the other side either.
fn zero_kept(zero: Bucket, at: f64, keep: Keep, has_negative: bool, has_positive: bool) -> Kept {
    let upper = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let lower = if has_positive && !has_negative { 0.0 } else { zero.lower };
    match keep {
        Keep::Below if at <= lower => (0.0, 0.0),
        Keep::Above if at >= upper => (0.0, 0.0),
        Keep::Below if at >= upper => (zero.count, (lower + upper) / 2.0),
        Keep::Above if at <= lower => (zero.count, (lower + upper) / 2.0),
        Keep::Below => (zero.count * ((at - lower) / (upper - lower)), (lower + at) / 2.0),
        Keep::Above => (zero.count * ((upper - at) / (upper - lower)), (at + upper) / 2.0),
    }
}

impl FloatHistogram {
    /// Keeps the observations on one side of `at`. Count and sum stay as they are if all of them are there.
    pub fn trim(&mut self, at: f64, keep: Keep, log2: Log2) {
        let linear = self.uses_custom_buckets();
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let mut has = [false, false];
        let mut side = |buckets: Vec<Bucket>, counts: &mut [f64], positive: bool| {
            for (bucket, own) in buckets.into_iter().zip(counts).filter(|(bucket, _)| bucket.count != 0.0) {
                has[usize::from(positive)] = true;
                let (whole, divided) = match keep {
                    Keep::Below => (bucket.upper <= at, bucket.lower < at),
                    Keep::Above => (bucket.lower >= at, bucket.upper > at),
                };
                if whole {
                    count += bucket.count;
                    sum += middle(bucket.lower, bucket.upper, positive, linear) * bucket.count;
                } else if divided {
                    let (kept, value) = bucket.divided(at, keep, positive, linear, log2);
                    count += kept;
                    sum += value * kept;
                    changed |= *own != kept;
                    *own = kept;
                } else {
                    *own = 0.0;
                    changed = true;
                }
            }
        };
        let (positive, negative) = (self.positive().collect(), self.negative().collect());
        side(positive, &mut self.positive_buckets, true);
        side(negative, &mut self.negative_buckets, false);
        if self.zero_count > 0.0 {
            let (kept, value) = zero_kept(self.zero(), at, keep, has[0], has[1]);
            changed |= self.zero_count != kept;
            self.zero_count = kept;
            sum += value * kept;
            count += kept;
        }
        if changed {
            (self.count, self.sum) = (count, sum);
            self.compact(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};
    use std::sync::Arc;

    #[test]
    fn buckets_are_divided() {
        let spans = |offset, length| vec![Span { offset, length }];
        let exponential = FloatHistogram {
            count: 16.0,
            sum: 20.0,
            zero_threshold: 0.5,
            zero_count: 2.0,
            positive_spans: spans(1, 2),
            positive_buckets: vec![4.0, 6.0],
            negative_spans: spans(1, 1),
            negative_buckets: vec![4.0],
            ..FloatHistogram::default()
        };
        let custom = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 9.0,
            sum: 50.0,
            custom_values: Arc::from([2.0, 4.0]),
            positive_spans: spans(0, 3),
            positive_buckets: vec![2.0, 4.0, 3.0],
            ..FloatHistogram::default()
        };
        for (h, at, keep, count, zero, positive, negative) in [
            (&exponential, 100.0, Keep::Below, 16.0, 2.0, &[4.0, 6.0][..], &[4.0][..]),
            (&exponential, 2.0, Keep::Below, 10.0, 2.0, &[4.0], &[4.0]),
            (&exponential, std::f64::consts::SQRT_2, Keep::Below, 8.0, 2.0, &[2.0], &[4.0]),
            (&exponential, 0.25, Keep::Below, 5.5, 1.5, &[], &[4.0]),
            (&exponential, -std::f64::consts::SQRT_2, Keep::Above, 14.0, 2.0, &[4.0, 6.0], &[2.0]),
            (&exponential, 2.0, Keep::Above, 6.0, 0.0, &[6.0], &[]),
            (&custom, 3.0, Keep::Below, 4.0, 0.0, &[2.0, 2.0], &[]),
            (&custom, 1.0, Keep::Below, 1.0, 0.0, &[1.0], &[]),
            (&custom, 1.0, Keep::Above, 8.0, 0.0, &[1.0, 4.0, 3.0], &[]),
            (&custom, 5.0, Keep::Above, 3.0, 0.0, &[3.0], &[]),
            (&custom, 5.0, Keep::Below, 6.0, 0.0, &[2.0, 4.0], &[]),
        ] {
            let mut trimmed = h.clone();
            trimmed.trim(at, keep, f64::log2);
            let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(close(trimmed.count, count) && trimmed.zero_count == zero, "{keep:?} {at}: {trimmed}");
            for (got, want) in [(&trimmed.positive_buckets, positive), (&trimmed.negative_buckets, negative)] {
                assert!(got.len() == want.len() && got.iter().zip(want).all(|(a, b)| close(*a, *b)), "{at}: {trimmed}");
            }
        }
        let mut whole = custom.clone();
        whole.trim(f64::INFINITY, Keep::Below, f64::log2);
        assert_eq!(whole.sum, 50.0);
    }
}
