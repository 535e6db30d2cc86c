//! Whether two histograms are the same, and whether a counter was reset between them.

use super::bounds::{Indexed, exponential_bound};
use super::{CounterReset, FloatHistogram, Span};

/// Spans in use as gaps and lengths; spans of no bucket only widen the gap.
fn in_use(spans: &[Span]) -> impl Iterator<Item = (i64, u32)> + '_ {
    let mut gap = 0i64;
    spans.iter().filter_map(move |span| {
        gap += i64::from(span.offset);
        (span.length > 0).then(|| (std::mem::take(&mut gap), span.length))
    })
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Buckets joined to those of a schema that is `steps` smaller.
struct Joined<'a> {
    buckets: std::iter::Peekable<Indexed<'a>>,
    steps: u32,
}

impl Iterator for Joined<'_> {
    type Item = (i32, f64);

    fn next(&mut self) -> Option<(i32, f64)> {
        let (index, mut count) = self.buckets.next()?;
        if self.steps == 0 {
            return Some((index, count));
        }
        let target = |index: i32| (((i64::from(index) - 1) >> self.steps.min(63)) + 1) as i32;
        let own = target(index);
        while let Some((_, more)) = self.buckets.next_if(|(index, _)| target(*index) == own) {
            count += more;
        }
        Some((own, count))
    }
}

impl FloatHistogram {
    /// The buckets of a side for a comparison: in those of `schema`, without the ones that end within a zero bucket of the
    /// given threshold.
    fn outside_zero(&self, negative: bool, schema: i32, threshold: f64) -> impl Iterator<Item = (i32, f64)> + '_ {
        let buckets = if negative { self.negative_indexed() } else { self.positive_indexed() };
        let steps = u32::try_from(self.schema.saturating_sub(schema)).unwrap_or(0);
        let exponential = !self.uses_custom_buckets();
        let within = move |(index, _): &(i32, f64)| {
            exponential && threshold != 0.0 && exponential_bound(*index, schema) <= threshold
        };
        Joined { buckets: buckets.peekable(), steps }.skip_while(within)
    }

    /// Whether both say the same, bit by bit; NaN is equal to the same NaN. Hints of counter resets do not count. Empty
    /// buckets do, so histograms to be compared should be compact.
    pub fn equals(&self, other: &FloatHistogram) -> bool {
        let numbers = |h: &FloatHistogram| [h.count.to_bits(), h.sum.to_bits(), h.zero_count.to_bits()];
        self.schema == other.schema
            && numbers(self) == numbers(other)
            && (!self.uses_custom_buckets() || self.custom_values == other.custom_values)
            && self.zero_threshold == other.zero_threshold
            && in_use(&self.negative_spans).eq(in_use(&other.negative_spans))
            && same_bits(&self.negative_buckets, &other.negative_buckets)
            && in_use(&self.positive_spans).eq(in_use(&other.positive_spans))
            && same_bits(&self.positive_buckets, &other.positive_buckets)
    }

    /// Whether a counter was reset between `previous` and this: by the hint if it says so, else if any count fell.
    pub fn is_reset(&self, previous: &FloatHistogram) -> bool {
        match self.counter_reset {
            CounterReset::Reset => return true,
            CounterReset::NotReset => return false,
            // A gauge where a counter is expected is taken for a counter.
            CounterReset::Unknown | CounterReset::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if self.custom_values != previous.custom_values {
                return self.fell_at_common_bounds(previous);
            }
        }
        // Resolution only becomes finer, and the zero bucket narrower, when the process begins anew.
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        if !self.uses_custom_buckets() {
            let (count, threshold, _) = previous.zero_count_for(self.zero_threshold, None);
            // A threshold within a bucket in use.
            if threshold != self.zero_threshold || self.zero_count < count {
                return true;
            }
        }
        let fell = |negative: bool| {
            let now = self.outside_zero(negative, self.schema, self.zero_threshold);
            any_fell(now, previous.outside_zero(negative, self.schema, self.zero_threshold))
        };
        fell(false) || fell(true)
    }

    /// Compares custom buckets put together between the limits that both have.
    fn fell_at_common_bounds(&self, previous: &FloatHistogram) -> bool {
        let mut sums = [Between::new(self), Between::new(previous)];
        let mut at = [0, 0];
        let bounds = [&self.custom_values, &previous.custom_values];
        loop {
            let [now, before] = [0, 1].map(|i| bounds[i].get(at[i]).copied().unwrap_or(f64::INFINITY));
            if now == before {
                let [now, before] = sums.each_mut().map(|sum| sum.up_to(now));
                if now < before {
                    return true;
                }
            }
            if now <= before {
                at[0] += 1;
            }
            if before <= now {
                at[1] += 1;
            }
            if (0..2).any(|i| at[i] > bounds[i].len()) {
                return false;
            }
        }
    }
}

/// Sums custom buckets from limit to limit.
struct Between<'a> {
    h: &'a FloatHistogram,
    buckets: std::iter::Peekable<Indexed<'a>>,
}

impl<'a> Between<'a> {
    fn new(h: &'a FloatHistogram) -> Between<'a> {
        Between { h, buckets: h.positive_indexed().peekable() }
    }

    /// The buckets that end at or below `bound` and were not asked for yet.
    fn up_to(&mut self, bound: f64) -> f64 {
        let upper = |index: i32| {
            usize::try_from(index).ok().and_then(|at| self.h.custom_values.get(at)).copied().unwrap_or(f64::INFINITY)
        };
        let mut sum = 0.0;
        while let Some((_, count)) = self.buckets.next_if(|(index, _)| upper(*index) <= bound) {
            sum += count;
        }
        sum
    }
}

/// Whether a bucket that was in use is missing or counts less.
fn any_fell(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        while now.next_if(|(other, _)| *other < index).is_some() {}
        let fell = match now.peek() {
            Some((other, other_count)) if *other == index => *other_count < count,
            _ => count != 0.0,
        };
        if fell {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::CUSTOM_BUCKETS_SCHEMA;
    use std::sync::Arc;

    fn spans(list: &[(i32, u32)]) -> Vec<Span> {
        list.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    fn exponential(schema: i32, zero_threshold: f64, at: &[(i32, u32)], counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_threshold,
            count: 100.0,
            positive_spans: spans(at),
            positive_buckets: counts.to_vec(),
            negative_spans: spans(at),
            negative_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 100.0,
            custom_values: Arc::from(bounds),
            positive_spans: spans(&[(0, counts.len() as u32)]),
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn falling_counts_are_resets() {
        let base = exponential(1, 0.0, &[(0, 2), (1, 1)], &[1.0, 2.0, 3.0]);
        for (now, want, why) in [
            (base.clone(), false, "the same"),
            (exponential(1, 0.0, &[(0, 4)], &[1.0, 2.0, 0.0, 3.0]), false, "another layout"),
            (exponential(1, 0.0, &[(0, 4)], &[1.0, 2.0, 0.0, 2.0]), true, "a bucket fell"),
            (exponential(1, 0.0, &[(0, 2)], &[5.0, 5.0]), true, "a bucket is missing"),
            (exponential(2, 0.0, &[(0, 2)], &[5.0, 5.0]), true, "finer"),
            (exponential(0, 0.0, &[(0, 3)], &[1.0, 2.0, 3.0]), false, "coarser"),
            (exponential(0, 0.0, &[(0, 3)], &[1.0, 1.0, 3.0]), true, "coarser and fell"),
            (FloatHistogram { count: 99.0, ..base.clone() }, true, "fewer"),
            (FloatHistogram { counter_reset: CounterReset::Reset, ..base.clone() }, true, "the hint"),
            (FloatHistogram { counter_reset: CounterReset::NotReset, ..FloatHistogram::default() }, false, "the hint"),
            (custom(&[1.0], &[100.0]), true, "custom buckets"),
        ] {
            assert_eq!(now.is_reset(&base), want, "{why}");
        }
        // Up to 1 the buckets -1 and 0, on either side, go to the zero bucket: four observations.
        let before = exponential(0, 0.0, &[(-1, 3)], &[1.0, 1.0, 1.0]);
        let wider = |zero_count: f64, threshold: f64| FloatHistogram {
            zero_count,
            ..exponential(0, threshold, &[(1, 1)], &[1.0])
        };
        for (now, want) in [(wider(4.0, 1.0), false), (wider(3.0, 1.0), true), (wider(9.0, 0.7), true)] {
            assert_eq!(now.is_reset(&before), want, "{now:?}");
        }
        assert!(before.is_reset(&wider(0.0, 1.0)), "a narrower zero bucket");
    }

    #[test]
    fn custom_buckets_are_compared_at_common_limits() {
        let before = custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]);
        for (bounds, counts, want) in [
            (&[1.0, 2.0, 5.0][..], &[1.0, 2.0, 3.0, 4.0][..], false),
            (&[1.0, 2.0, 5.0], &[1.0, 1.0, 30.0, 4.0], true),
            (&[2.0, 5.0], &[3.0, 3.0, 4.0], false),
            (&[2.0, 5.0], &[2.0, 30.0, 4.0], true),
            (&[2.0, 3.0, 5.0], &[3.0, 1.0, 2.0, 4.0], false),
            (&[2.0, 3.0, 5.0], &[3.0, 3.0, 0.0, 3.0], true),
            (&[7.0], &[0.0, 10.0], false),
            (&[7.0], &[0.0, 9.0], true),
            (&[], &[10.0], false),
        ] {
            assert_eq!(custom(bounds, counts).is_reset(&before), want, "{bounds:?} {counts:?}");
        }
    }

    #[test]
    fn equality_is_that_of_bits() {
        let a = exponential(0, 0.0, &[(0, 1), (1, 1)], &[f64::NAN, 2.0]);
        assert!(a.equals(&a) && a != a);
        assert!(a.equals(&FloatHistogram { counter_reset: CounterReset::Gauge, ..a.clone() }));
        assert!(a.equals(&FloatHistogram { positive_spans: spans(&[(0, 1), (1, 0), (0, 1), (5, 0)]), ..a.clone() }));
        assert!(!a.equals(&FloatHistogram { positive_spans: spans(&[(0, 2)]), ..a.clone() }));
        assert!(!a.equals(&FloatHistogram { sum: 1.0, ..a.clone() }));
    }
}
