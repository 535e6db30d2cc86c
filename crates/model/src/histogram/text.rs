//! Histograms as text.

use std::fmt;

use super::{Bucket, FloatHistogram};
use crate::gofloat::shortest;

impl fmt::Display for Bucket {
    /// Its limits in the notation of intervals, and its count: `(1,2]:3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.includes_lower() { '[' } else { '(' };
        let close = if self.includes_upper() { ']' } else { ')' };
        let (lower, upper) = (shortest(self.lower), shortest(self.upper));
        write!(f, "{open}{lower},{upper}{close}:{}", shortest(self.count))
    }
}

impl fmt::Display for FloatHistogram {
    /// As Prometheus shows it, with the buckets in use in ascending order: `{count:3, sum:4.5, (1,2]:3}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", shortest(self.count), shortest(self.sum))?;
        let zero = (self.zero_count != 0.0).then(|| self.zero());
        let buckets = self.negative().rev().chain(zero).chain(self.positive());
        for bucket in buckets.filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Span;
    use std::sync::Arc;

    #[test]
    fn histograms_are_shown_as_in_prometheus() {
        let one = |offset, length| vec![Span { offset, length }];
        let h = FloatHistogram {
            count: 1e7,
            sum: -0.5,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: one(1, 2),
            positive_buckets: vec![0.0, 3.0],
            negative_spans: one(0, 2),
            negative_buckets: vec![1.5, 2.0],
            ..FloatHistogram::default()
        };
        let text = "{count:1e+07, sum:-0.5, [-2,-1):2, [-1,-0.5):1.5, [-0.001,0.001]:2, (2,4]:3}";
        assert_eq!(h.to_string(), text);
        let custom = FloatHistogram {
            schema: crate::histogram::CUSTOM_BUCKETS_SCHEMA,
            count: 6.0,
            sum: f64::NAN,
            custom_values: Arc::from([1.0, 5.0]),
            positive_spans: one(0, 3),
            positive_buckets: vec![1.0, 2.0, 3.0],
            ..FloatHistogram::default()
        };
        assert_eq!(custom.to_string(), "{count:6, sum:NaN, [-Inf,1]:1, (1,5]:2, (5,+Inf]:3}");
    }
}
