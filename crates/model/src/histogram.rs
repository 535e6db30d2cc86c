//! Native histograms: counts of observations in sparse buckets, with integer counts (as scraped) or float counts (as
//! computed and as read by queries). Sources: `model/histogram` in Prometheus and its native histogram specification.
//!
//! Two families of bucket limits exist. *Exponential* ones (schema -4..=8) grow by the factor `2^(2^-schema)`; *custom*
//! ones ([`CUSTOM_BUCKETS_SCHEMA`]) are listed in `custom_values`. Buckets that are in use are described by [`Span`]s: a
//! gap and a run of buckets each.

mod arithmetic;
mod bounds;
mod check;
mod classic;
mod compact;
mod compare;
mod resolution;
mod sums;
mod text;
mod trim;

use std::sync::Arc;

pub use arithmetic::{Combined, IncompatibleBuckets};
pub use bounds::{Bucket, BucketKind, exponential_bound};
pub use check::{HistogramError, HistogramFault, is_known_schema};
pub use classic::{ClassicFault, ClassicHistogram, Converted};
pub use sums::{HistogramMean, HistogramSum};
pub use trim::{Keep, Log2};

use crate::is_stale;

/// The schema of histograms whose bucket limits are listed.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Smallest and largest exponential schema.
pub const EXPONENTIAL_SCHEMA_MIN: i32 = -4;
/// See [`EXPONENTIAL_SCHEMA_MIN`].
pub const EXPONENTIAL_SCHEMA_MAX: i32 = 8;

/// A run of buckets in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Buckets between the end of the span before and this one; of the first span the index of its first bucket.
    pub offset: i32,
    /// Buckets in the run.
    pub length: u32,
}

/// What is known about a counter reset between a histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterReset {
    /// Has to be found out by comparing.
    #[default]
    Unknown,
    /// There was one.
    Reset,
    /// There was none.
    NotReset,
    /// The histogram is no counter, so there are no resets.
    Gauge,
}

/// A histogram with integer counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// See [`CounterReset`].
    pub counter_reset: CounterReset,
    /// -4..=8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of all observations; a staleness marker makes the histogram one.
    pub sum: f64,
    /// Spans of buckets above zero.
    pub positive_spans: Vec<Span>,
    /// Spans of buckets below zero.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets: the first as it is, each other one as the difference to the one before.
    pub positive_buckets: Vec<i64>,
    /// Counts of the negative buckets, likewise.
    pub negative_buckets: Vec<i64>,
    /// Upper limits of custom buckets, ascending, without +Inf; empty with an exponential schema.
    pub custom_values: Arc<[f64]>,
}

/// A histogram with float counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    /// See [`CounterReset`].
    pub counter_reset: CounterReset,
    /// -4..=8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; a staleness marker makes the histogram one.
    pub sum: f64,
    /// Spans of buckets above zero.
    pub positive_spans: Vec<Span>,
    /// Spans of buckets below zero.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets, absolute.
    pub positive_buckets: Vec<f64>,
    /// Counts of the negative buckets, absolute.
    pub negative_buckets: Vec<f64>,
    /// Upper limits of custom buckets, ascending, without +Inf; empty with an exponential schema.
    pub custom_values: Arc<[f64]>,
}

/// The value of a sample as queries see it.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

impl SampleValue {
    /// Of a float, or of a histogram if there is one.
    pub fn new(v: f64, h: Option<Arc<FloatHistogram>>) -> SampleValue {
        h.map_or(SampleValue::Float(v), SampleValue::Histogram)
    }

    /// Whether it is a histogram.
    pub fn is_histogram(&self) -> bool {
        matches!(self, SampleValue::Histogram(_))
    }

    /// The number, if it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            SampleValue::Float(v) => Some(*v),
            SampleValue::Histogram(_) => None,
        }
    }
}

impl Histogram {
    /// Whether this marks the end of a series.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether the bucket limits are listed.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// The same histogram with float counts.
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset: self.counter_reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_buckets),
            negative_buckets: absolute(&self.negative_buckets),
            custom_values: Arc::clone(&self.custom_values),
        }
    }
}

impl FloatHistogram {
    /// Whether this marks the end of a series.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether the bucket limits are listed.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }
}

fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0i64;
    let counts = deltas.iter().map(|delta| {
        count = count.wrapping_add(*delta);
        count as f64
    });
    counts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_counts_become_absolute() {
        let histogram = Histogram {
            count: 9,
            sum: 3.5,
            positive_spans: vec![Span { offset: -1, length: 3 }],
            positive_buckets: vec![2, 3, -3],
            ..Histogram::default()
        };
        let float = histogram.to_float();
        assert_eq!((float.count, float.sum), (9.0, 3.5));
        assert_eq!(float.positive_buckets, [2.0, 5.0, 2.0]);
        assert_eq!(float.positive_spans, histogram.positive_spans);
    }
}
