//! Sums and means of many histograms, compensated for what rounding loses.

use super::FloatHistogram;
use super::arithmetic::{IncompatibleBuckets, Sign};

/// What rounding has lost from each number of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lost {
    pub count: f64,
    pub sum: f64,
    pub zero_count: f64,
    /// As many as the histogram has positive buckets.
    pub positive: Vec<f64>,
    /// As many as the histogram has negative buckets.
    pub negative: Vec<f64>,
}

/// A sum of histograms, compensated for what rounding loses.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSum {
    sum: FloatHistogram,
    lost: Option<Lost>,
}

/// A mean of histograms: a sum as long as it does not overflow, an incremental mean from there on.
#[derive(Clone, Debug)]
pub struct HistogramMean {
    /// The sum, or the mean once `incremental`.
    value: HistogramSum,
    count: f64,
    incremental: bool,
    /// No number of the sum can be larger. NaN: not known.
    magnitude: f64,
}

/// Numbers below this can be added up a few times without an overflow.
const MAGNITUDE_SAFE: f64 = 1e300;

impl Lost {
    fn of(histogram: &FloatHistogram) -> Lost {
        Lost {
            positive: vec![0.0; histogram.positive_buckets.len()],
            negative: vec![0.0; histogram.negative_buckets.len()],
            ..Lost::default()
        }
    }

    fn each_number(&mut self, f: impl Fn(f64) -> f64) {
        self.zero_count = f(self.zero_count);
        self.count = f(self.count);
        self.sum = f(self.sum);
        self.positive.iter_mut().for_each(|count| *count = f(*count));
        self.negative.iter_mut().for_each(|count| *count = f(*count));
    }
}

impl FloatHistogram {
    fn has_overflow(&self) -> bool {
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        [self.zero_count, self.count, self.sum].iter().chain(buckets).any(|v| v.is_infinite())
    }

    /// More than any number can become when buckets are put together.
    fn magnitude(&self) -> f64 {
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        buckets.map(|v| v.abs()).sum::<f64>() + self.zero_count.abs() + self.count.abs() + self.sum.abs()
    }
}

impl HistogramSum {
    /// The sum of one histogram.
    pub fn new(first: FloatHistogram) -> HistogramSum {
        HistogramSum { sum: first, lost: None }
    }

    /// Adds another one; whether custom buckets had to be reconciled. After an error the sum is as it was.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<bool, IncompatibleBuckets> {
        if self.sum.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(IncompatibleBuckets);
        }
        let lost = self.lost.get_or_insert_with(|| Lost::of(&self.sum));
        self.sum.combine(Some(lost), other, Sign::Plus).map(|combined| combined.reconciled)
    }

    /// The sum.
    pub fn finish(self) -> FloatHistogram {
        let HistogramSum { mut sum, lost } = self;
        if let Some(lost) = lost {
            sum.zero_count += lost.zero_count;
            sum.count += lost.count;
            sum.sum += lost.sum;
            sum.positive_buckets.iter_mut().zip(lost.positive).for_each(|(count, lost)| *count += lost);
            sum.negative_buckets.iter_mut().zip(lost.negative).for_each(|(count, lost)| *count += lost);
        }
        sum
    }

    fn mul(&mut self, factor: f64) {
        self.sum.mul(factor);
        if let Some(lost) = &mut self.lost {
            lost.each_number(|v| v * factor);
        }
    }

    fn div(&mut self, divisor: f64) {
        self.sum.div(divisor);
        if let Some(lost) = &mut self.lost {
            lost.each_number(|v| v / divisor);
        }
    }
}

impl HistogramMean {
    /// The mean of one histogram.
    pub fn new(first: FloatHistogram) -> HistogramMean {
        let magnitude = first.magnitude();
        HistogramMean { value: HistogramSum::new(first), count: 1.0, incremental: false, magnitude }
    }

    /// Adds another one; see [`HistogramSum::add`].
    pub fn add(&mut self, other: &FloatHistogram) -> Result<bool, IncompatibleBuckets> {
        self.count += 1.0;
        if !self.incremental {
            self.magnitude += other.magnitude();
            if self.magnitude < MAGNITUDE_SAFE {
                return self.value.add(other);
            }
            let mut sum = self.value.clone();
            let reconciled = sum.add(other)?;
            if !sum.sum.has_overflow() {
                self.value = sum;
                return Ok(reconciled);
            }
            self.incremental = true;
            self.value.div(self.count - 1.0);
        }
        self.value.mul((self.count - 1.0) / self.count);
        let mut part = other.clone();
        part.div(self.count);
        self.value.add(&part)
    }

    /// The mean.
    pub fn finish(mut self) -> FloatHistogram {
        if !self.incremental {
            self.value.div(self.count);
        }
        self.value.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Span;

    fn of(v: f64) -> FloatHistogram {
        FloatHistogram {
            count: v,
            sum: 1.0,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![v],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn sums_and_means_are_compensated() {
        let mut sum = HistogramSum::new(of(1.0));
        [1e100, 1.0, -1e100].iter().for_each(|v| assert!(!sum.add(&of(*v)).unwrap()));
        assert_eq!(sum.finish().positive_buckets, [2.0]);
        let mut mean = HistogramMean::new(of(1.5e308));
        (0..3).for_each(|_| assert!(!mean.add(&of(1.5e308)).unwrap()));
        assert_eq!(mean.finish().positive_buckets, [1.5e308]);
        let mut mean = HistogramMean::new(of(1.0));
        mean.add(&of(4.0)).unwrap();
        let mean = mean.finish();
        assert_eq!((mean.positive_buckets[0], mean.count, mean.sum), (2.5, 2.5, 1.0));
    }
}
