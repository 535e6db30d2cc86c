//! Classic histograms, bucket by bucket, as native ones with custom buckets (NHCB).

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span};
use crate::gofloat::shortest;

/// Empty buckets that a converted histogram with integer counts may have in a row.
const EMPTY_MAX: u32 = 2;

/// Why series are no classic histogram. Texts as in Prometheus.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClassicFault {
    /// A count below zero.
    #[error("bucket count must be non-negative: le={}, count={}", shortest(*le), shortest(*count))]
    NegativeBucket {
        /// Upper limit of the bucket.
        le: f64,
        /// Its count.
        count: f64,
    },
    /// A limit that is no number.
    #[error("bucket boundary must not be NaN")]
    NanBucket,
    /// A total count below zero.
    #[error("count must be non-negative: count={}", shortest(*.0))]
    NegativeCount(f64),
    /// The count and that of the last bucket are not the same.
    #[error("count mismatch: count={count} != le={} count={}", shortest(*le), shortest(*bucket))]
    CountMismatch {
        /// Total count, as it is shown.
        count: String,
        /// Upper limit of the last bucket.
        le: f64,
        /// Its count.
        bucket: f64,
    },
    /// A bucket counts less than a smaller one.
    #[error("count is not cumulative: {} {sign} {}", shortest(*count), shortest(*other))]
    NotCumulative {
        /// Count of the bucket.
        count: f64,
        /// How it compares with the other.
        sign: char,
        /// Count of its neighbour.
        other: f64,
    },
}

/// A classic histogram as it is read, series by series. Reused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassicHistogram {
    /// Upper limits, ascending, with their cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    fault: Option<ClassicFault>,
}

/// A converted histogram: with integer counts if all of its counts are.
#[derive(Clone, Debug, PartialEq)]
pub enum Converted {
    /// With integer counts.
    Int(Histogram),
    /// With float counts.
    Float(FloatHistogram),
}

impl ClassicHistogram {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.buckets.clear();
        (self.count, self.sum, self.fault) = (None, 0.0, None);
    }

    fn fail(&mut self, fault: ClassicFault) {
        self.fault.get_or_insert(fault);
    }

    /// Takes the series of a bucket. A limit that is known already is passed over.
    pub fn set_bucket(&mut self, le: f64, count: f64) {
        if self.fault.is_some() {
            return;
        }
        if le.is_nan() {
            return self.fail(ClassicFault::NanBucket);
        }
        if count < 0.0 {
            return self.fail(ClassicFault::NegativeBucket { le, count });
        }
        // Nearly always they come in order.
        let at = match self.buckets.last() {
            Some((last, _)) if *last >= le => self.buckets.partition_point(|(other, _)| *other < le),
            _ => self.buckets.len(),
        };
        if self.buckets.get(at).is_some_and(|(other, _)| *other == le) {
            return;
        }
        if let Some((_, other)) = at.checked_sub(1).and_then(|before| self.buckets.get(before))
            && count < *other
        {
            return self.fail(ClassicFault::NotCumulative { count, sign: '<', other: *other });
        }
        if let Some((_, other)) = self.buckets.get(at)
            && count > *other
        {
            return self.fail(ClassicFault::NotCumulative { count, sign: '>', other: *other });
        }
        self.buckets.insert(at, (le, count));
    }

    /// Takes the series of the count.
    pub fn set_count(&mut self, count: f64) {
        if count < 0.0 { self.fail(ClassicFault::NegativeCount(count)) } else { self.count = Some(count) }
    }

    /// Takes the series of the sum.
    pub fn set_sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The histogram, or what was wrong first. A missing count is that of the largest bucket; a missing bucket for everything
    /// has the count.
    pub fn convert(&mut self) -> Result<Converted, ClassicFault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|(_, count)| count)).unwrap_or(0.0);
        if last.is_none_or(|(le, _)| le != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let (le, bucket) = self.buckets.last().copied().unwrap_or((f64::INFINITY, count));
        let mismatch = |count: String| Err(ClassicFault::CountMismatch { count, le, bucket });
        let custom_values = self.buckets.iter().map(|(le, _)| *le).filter(|le| *le != f64::INFINITY).collect();
        let spans = vec![Span { offset: 0, length: u32::try_from(self.buckets.len()).unwrap_or(u32::MAX) }];
        let is_int = |v: f64| v.round() as i64 as f64 == v;
        if self.buckets.iter().all(|(_, count)| is_int(*count)) && is_int(count) {
            if count as u64 != bucket as u64 {
                return mismatch((count as u64).to_string());
            }
            let (mut before, mut delta_before) = (0i64, 0i64);
            let deltas = self.buckets.iter().map(|(_, cumulative)| {
                let own = (*cumulative as i64).wrapping_sub(before);
                before = *cumulative as i64;
                own.wrapping_sub(std::mem::replace(&mut delta_before, own))
            });
            let mut histogram = Histogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count: count as u64,
                sum: self.sum,
                positive_spans: spans,
                positive_buckets: deltas.collect(),
                custom_values,
                ..Histogram::default()
            };
            histogram.compact(EMPTY_MAX);
            return Ok(Converted::Int(histogram));
        }
        if count != bucket {
            return mismatch(shortest(count));
        }
        let mut before = 0.0;
        let counts =
            self.buckets.iter().map(|(_, cumulative)| cumulative - std::mem::replace(&mut before, *cumulative));
        let mut histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: spans,
            positive_buckets: counts.collect(),
            custom_values,
            ..FloatHistogram::default()
        };
        histogram.compact(0);
        Ok(Converted::Float(histogram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(buckets: &[(f64, f64)], count: Option<f64>) -> Result<Converted, String> {
        let mut classic = ClassicHistogram::default();
        for (le, count) in buckets {
            classic.set_bucket(*le, *count);
        }
        if let Some(count) = count {
            classic.set_count(count);
        }
        classic.set_sum(12.5);
        classic.convert().map_err(|fault| fault.to_string())
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn counts_become_buckets() {
        let Ok(Converted::Int(h)) = convert(&[(1.0, 2.0), (5.0, 2.0), (INF, 6.0)], Some(6.0)) else {
            panic!("integers")
        };
        assert_eq!((h.schema, h.count, h.sum), (CUSTOM_BUCKETS_SCHEMA, 6, 12.5));
        assert_eq!((&*h.custom_values, &*h.positive_buckets), (&[1.0, 5.0][..], &[2, -2, 4][..]));
        assert_eq!(h.validate(), Ok(()));
        // Neither count nor the bucket for everything is needed; order does not matter.
        assert_eq!(convert(&[(5.0, 2.0), (1.0, 2.0), (INF, 6.0), (1.0, 2.0)], None), Ok(Converted::Int(h.clone())));
        assert_eq!(convert(&[(1.0, 2.0), (5.0, 2.0)], Some(6.0)), Ok(Converted::Int(h)));
        let Ok(Converted::Float(h)) = convert(&[(1.0, 0.5), (5.0, 0.5), (INF, 2.0)], None) else { panic!("floats") };
        assert_eq!(h.positive_buckets, [0.5, 1.5]);
        assert_eq!(h.positive_spans, [Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }]);
        let Ok(Converted::Int(h)) = convert(&[], None) else { panic!("an empty one") };
        assert_eq!((h.count, h.positive_buckets.len()), (0, 0));
    }

    #[test]
    fn what_is_no_histogram_is_told() {
        let check = |buckets, count, text: &str| assert_eq!(convert(buckets, count), Err(text.to_owned()));
        check(&[(1.0, 3.0), (2.0, 2.0)], None, "count is not cumulative: 2 < 3");
        check(&[(2.0, 2.0), (1.0, 3.0)], None, "count is not cumulative: 3 > 2");
        check(&[(1.0, -1.0)], None, "bucket count must be non-negative: le=1, count=-1");
        check(&[(f64::NAN, 1.0)], None, "bucket boundary must not be NaN");
        check(&[], Some(-0.5), "count must be non-negative: count=-0.5");
        check(&[(INF, 3.0)], Some(4e30), "count mismatch: count=4e+30 != le=+Inf count=3");
        check(&[(INF, 3e6)], Some(4e6), "count mismatch: count=4000000 != le=+Inf count=3e+06");
    }
}
