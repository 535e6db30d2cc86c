//! What a histogram must be like to be stored. The rules and their texts are those of Prometheus; one is ours, see
//! [`HistogramFault::IndexOutOfRange`].

use super::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN, FloatHistogram, Histogram, Span};

/// The rule that a histogram breaks.
// Texts as in Prometheus:
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HistogramFault {
    /// With observations of NaN, which are in no bucket, the count may exceed the sum of the buckets.
    #[error("histogram's observation count should be at least the number of observations found in the buckets")]
    CountNotBigEnough,
    /// Without such observations both are the same.
    #[error(
        "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch,
    /// A negative count of all observations.
    #[error("histogram's observation count is negative")]
    NegativeCount,
    /// A negative count of a bucket.
    #[error("histogram has a bucket whose observation count is negative")]
    NegativeBucketCount,
    /// Only the first span may begin below zero, and with custom buckets not even that.
    #[error("histogram has a span whose offset is negative")]
    SpanNegativeOffset,
    /// The lengths of the spans add up to another number than there are buckets.
    #[error("histogram spans specify different number of buckets than provided")]
    SpansBucketsMismatch,
    /// Buckets beyond the listed bounds.
    #[error("histogram custom bounds are too few")]
    CustomBoundsTooFew,
    /// Bounds that do not ascend.
    #[error("histogram custom bounds must be in strictly increasing order")]
    CustomBoundsOrder,
    /// +Inf among the bounds.
    #[error("histogram custom bounds must be finite")]
    CustomBoundsInfinite,
    /// NaN among the bounds.
    #[error("histogram custom bounds must not be NaN")]
    CustomBoundsNan,
    /// A zero bucket beside custom buckets.
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    /// A zero bucket beside custom buckets.
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    /// Negative buckets beside custom buckets.
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    /// Negative buckets beside custom buckets.
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    /// Custom bounds of an exponential schema.
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialWithBounds,
    /// A schema that cannot be stored.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    InvalidSchema(i32),
    /// A schema that cannot even be read.
    #[error(
        "histogram has an unknown schema, which must be between -9 and 52 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    UnknownSchema(i32),
    /// DIFFERENCE: Prometheus lets the index of a bucket wrap around.
    #[error("histogram has a bucket whose index is out of range")]
    IndexOutOfRange,
}

/// Why a histogram cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramError {
    /// The rule.
    pub fault: HistogramFault,
    /// Where and with which numbers it is broken; may be empty.
    pub detail: String,
}

impl std::fmt::Display for HistogramError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.detail.is_empty() {
            write!(f, "{}: ", self.detail)?;
        }
        self.fault.fmt(f)
    }
}

impl std::error::Error for HistogramError {}

impl From<HistogramFault> for HistogramError {
    fn from(fault: HistogramFault) -> HistogramError {
        HistogramError { fault, detail: String::new() }
    }
}

impl HistogramFault {
    fn at(self, detail: String) -> HistogramError {
        HistogramError { fault: self, detail }
    }
}

impl HistogramError {
    fn within(mut self, part: &str) -> HistogramError {
        self.detail = if self.detail.is_empty() { part.to_string() } else { format!("{part}: {}", self.detail) };
        self
    }
}

/// Whether the schema can be read: exponential ones of newer versions are brought down to [`EXPONENTIAL_SCHEMA_MAX`].
pub fn is_known_schema(schema: i32) -> bool {
    schema == CUSTOM_BUCKETS_SCHEMA || (-9..=52).contains(&schema)
}

/// Whether the spans describe exactly `buckets` buckets, in ascending order and with indices that fit.
pub(crate) fn check_spans(spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    let (mut described, mut index) = (0u64, 0i64);
    for (n, span) in spans.iter().enumerate() {
        if n > 0 && span.offset < 0 {
            return Err(negative_offset(n, span));
        }
        described += u64::from(span.length);
        index += i64::from(span.offset) + i64::from(span.length);
        if i32::try_from(index).is_err() {
            return Err(HistogramFault::IndexOutOfRange.into());
        }
    }
    match described == buckets as u64 {
        true => Ok(()),
        false => {
            Err(HistogramFault::SpansBucketsMismatch
                .at(format!("spans need {described} buckets, have {buckets} buckets")))
        }
    }
}

fn negative_offset(n: usize, span: &Span) -> HistogramError {
    HistogramFault::SpanNegativeOffset.at(format!("span number {} with offset {}", n + 1, span.offset))
}

fn check_custom_bounds(bounds: &[f64], spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    let mut before = f64::NEG_INFINITY;
    for (i, &bound) in bounds.iter().enumerate() {
        if bound.is_nan() {
            return Err(HistogramFault::CustomBoundsNan.into());
        }
        if i > 0 && bound <= before {
            let detail = format!("previous bound is {} and current is {}", go_fixed(before), go_fixed(bound));
            return Err(HistogramFault::CustomBoundsOrder.at(detail));
        }
        before = bound;
    }
    if before == f64::INFINITY {
        return Err(HistogramFault::CustomBoundsInfinite.at("last +Inf bound must not be explicitly defined".into()));
    }
    if let Some((n, span)) = spans.iter().enumerate().find(|(_, span)| span.offset < 0) {
        return Err(negative_offset(n, span));
    }
    check_spans(spans, buckets)?;
    let covered: i64 = spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
    if (bounds.len() as i64 + 1) < covered {
        return Err(HistogramFault::CustomBoundsTooFew.at(format!(
            "only {} custom bounds defined which is insufficient to cover total span length of {covered}",
            bounds.len()
        )));
    }
    Ok(())
}

/// The negative count of a bucket.
fn negative_bucket(i: usize, count: impl std::fmt::Display) -> HistogramError {
    HistogramFault::NegativeBucketCount.at(format!("bucket number {} has observation count of {count}", i + 1))
}

/// The sum of counts that are written as differences.
fn check_deltas(deltas: &[i64]) -> Result<u64, HistogramError> {
    let (mut count, mut sum) = (0i64, 0u64);
    for (i, delta) in deltas.iter().enumerate() {
        count = count.wrapping_add(*delta);
        if count < 0 {
            return Err(negative_bucket(i, count));
        }
        sum = sum.wrapping_add(count as u64);
    }
    Ok(sum)
}

fn check_counts(counts: &[f64]) -> Result<(), HistogramError> {
    match counts.iter().position(|count| *count < 0.0) {
        Some(i) => Err(negative_bucket(i, crate::gofloat::shortest(counts[i]))),
        None => Ok(()),
    }
}

/// What integer and float histograms have in common.
struct Common<'a> {
    schema: i32,
    zero_threshold: f64,
    has_zero_count: bool,
    spans: [&'a [Span]; 2],
    buckets: [usize; 2],
    bounds: &'a [f64],
}

impl Common<'_> {
    fn check(&self) -> Result<(), HistogramError> {
        let [positive, negative] = self.spans;
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            check_custom_bounds(self.bounds, positive, self.buckets[0])
                .map_err(|error| error.within("custom buckets"))?;
            let fault = match () {
                () if self.has_zero_count => HistogramFault::CustomZeroCount,
                () if self.zero_threshold != 0.0 => HistogramFault::CustomZeroThreshold,
                () if !negative.is_empty() => HistogramFault::CustomNegativeSpans,
                () if self.buckets[1] > 0 => HistogramFault::CustomNegativeBuckets,
                () => return Ok(()),
            };
            return Err(fault.into());
        }
        if !(EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX).contains(&self.schema) {
            return Err(HistogramFault::InvalidSchema(self.schema).into());
        }
        check_spans(positive, self.buckets[0]).map_err(|error| error.within("positive side"))?;
        check_spans(negative, self.buckets[1]).map_err(|error| error.within("negative side"))
    }

    fn check_bounds(&self) -> Result<(), HistogramError> {
        match self.schema != CUSTOM_BUCKETS_SCHEMA && !self.bounds.is_empty() {
            true => Err(HistogramFault::ExponentialWithBounds.into()),
            false => Ok(()),
        }
    }
}

impl Histogram {
    /// Whether the histogram may be stored: spans and buckets agree, no count is negative, the counts of the buckets add
    /// up, and nothing is set that its schema does not have.
    pub fn validate(&self) -> Result<(), HistogramError> {
        let common = Common {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            has_zero_count: self.zero_count != 0,
            spans: [&self.positive_spans, &self.negative_spans],
            buckets: [self.positive_buckets.len(), self.negative_buckets.len()],
            bounds: &self.custom_values,
        };
        common.check()?;
        let negative = check_deltas(&self.negative_buckets).map_err(|error| error.within("negative side"))?;
        common.check_bounds()?;
        let positive = check_deltas(&self.positive_buckets).map_err(|error| error.within("positive side"))?;
        let found = negative.wrapping_add(positive).wrapping_add(self.zero_count);
        let fault = match self.sum.is_nan() {
            true if found > self.count => HistogramFault::CountNotBigEnough,
            false if found != self.count => HistogramFault::CountMismatch,
            _ => return Ok(()),
        };
        Err(fault.at(format!("{found} observations found in buckets, but the Count field is {}", self.count)))
    }
}

impl FloatHistogram {
    /// As [`Histogram::validate`]; whether the counts add up is not looked at, because float sums are not exact.
    pub fn validate(&self) -> Result<(), HistogramError> {
        let common = Common {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            has_zero_count: self.zero_count != 0.0,
            spans: [&self.positive_spans, &self.negative_spans],
            buckets: [self.positive_buckets.len(), self.negative_buckets.len()],
            bounds: &self.custom_values,
        };
        common.check()?;
        check_counts(&self.negative_buckets).map_err(|error| error.within("negative side"))?;
        if self.zero_count < 0.0 {
            let detail = format!("zero bucket has observation count of {}", crate::gofloat::shortest(self.zero_count));
            return Err(HistogramFault::NegativeBucketCount.at(detail));
        }
        common.check_bounds()?;
        if self.count < 0.0 {
            // Text as in Prometheus, with two blanks:
            let detail = format!("observation count is  {}", crate::gofloat::shortest(self.count));
            return Err(HistogramFault::NegativeCount.at(detail));
        }
        check_counts(&self.positive_buckets).map_err(|error| error.within("positive side"))
    }
}

/// As Go prints a float with `%f`.
fn go_fixed(v: f64) -> String {
    match v {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        v => format!("{v:.6}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn spans(list: &[(i32, u32)]) -> Vec<Span> {
        list.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    fn sound() -> Histogram {
        Histogram {
            count: 12,
            zero_count: 2,
            zero_threshold: 0.001,
            sum: 18.4,
            schema: 1,
            positive_spans: spans(&[(-3, 2), (1, 2)]),
            positive_buckets: vec![1, 1, -1, 0],
            negative_spans: spans(&[(0, 2)]),
            negative_buckets: vec![2, 1],
            ..Histogram::default()
        }
    }

    fn custom() -> Histogram {
        Histogram {
            count: 5,
            sum: 18.4,
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive_spans: spans(&[(0, 2), (1, 1)]),
            positive_buckets: vec![1, 1, 0],
            custom_values: Arc::from([1.0, 2.0, 3.5]),
            ..Histogram::default()
        }
    }

    /// Changes a sound histogram, integer and float, and compares what both say; they differ in one case.
    #[track_caller]
    fn check(of: fn() -> Histogram, change: impl Fn(&mut Histogram), int: &str, float: &str) {
        let mut h = of();
        change(&mut h);
        let text =
            |result: Result<(), HistogramError>| result.map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(text(h.validate()), int);
        assert_eq!(text(h.to_float().validate()), float);
    }

    #[test]
    fn what_may_be_stored() {
        let same = |of, change: fn(&mut Histogram), text: &str| check(of, change, text, text);
        same(sound, |_| {}, "");
        same(custom, |_| {}, "");
        same(Histogram::default, |_| {}, "");
        check(
            sound,
            |h| h.count = 13,
            "12 observations found in buckets, but the Count field is 13: histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)",
            "",
        );
        same(sound, |h| (h.count, h.sum) = (13, f64::NAN), "");
        check(
            sound,
            |h| (h.count, h.sum) = (11, f64::NAN),
            "12 observations found in buckets, but the Count field is 11: histogram's observation count should be at least the number of observations found in the buckets",
            "",
        );
        same(
            sound,
            |h| h.positive_spans[1].offset = -1,
            "positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
        );
        same(
            sound,
            |h| h.negative_spans[0].length = 3,
            "negative side: spans need 3 buckets, have 2 buckets: histogram spans specify different number of buckets than provided",
        );
        same(
            sound,
            |h| h.positive_buckets[1] = -2,
            "positive side: bucket number 2 has observation count of -1: histogram has a bucket whose observation count is negative",
        );
        same(
            sound,
            |h| h.negative_buckets[0] = -3,
            "negative side: bucket number 1 has observation count of -3: histogram has a bucket whose observation count is negative",
        );
        same(
            sound,
            |h| h.custom_values = Arc::from([1.0]),
            "histogram with exponential schema must not have custom bounds",
        );
        same(
            sound,
            |h| h.schema = 9,
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 9",
        );
        same(
            sound,
            |h| h.positive_spans[0].offset = i32::MAX - 2,
            "positive side: histogram has a bucket whose index is out of range",
        );
    }

    #[test]
    fn what_may_be_stored_with_custom_buckets() {
        let same = |change: fn(&mut Histogram), text: &str| check(custom, change, text, text);
        same(
            |h| h.custom_values = Arc::from([1.0, 2.0]),
            "custom buckets: only 2 custom bounds defined which is insufficient to cover total span length of 4: histogram custom bounds are too few",
        );
        same(
            |h| h.custom_values = Arc::from([1.0, 2.5, 2.5]),
            "custom buckets: previous bound is 2.500000 and current is 2.500000: histogram custom bounds must be in strictly increasing order",
        );
        same(
            |h| h.custom_values = Arc::from([1.0, 2.0, f64::INFINITY]),
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        );
        same(
            |h| h.custom_values = Arc::from([1.0, f64::NAN, 3.0]),
            "custom buckets: histogram custom bounds must not be NaN",
        );
        same(
            |h| h.positive_spans[0].offset = -1,
            "custom buckets: span number 1 with offset -1: histogram has a span whose offset is negative",
        );
        same(|h| h.zero_count = 1, "custom buckets: must have zero count of 0");
        same(|h| h.zero_threshold = 1.0, "custom buckets: must have zero threshold of 0");
        same(|h| h.negative_spans = spans(&[(0, 1)]), "custom buckets: must not have negative spans");
        same(|h| h.negative_buckets = vec![1], "custom buckets: must not have negative buckets");
    }

    #[test]
    fn negative_float_counts_are_printed_as_in_go() {
        let text = |h: FloatHistogram| h.validate().expect_err("negative").to_string();
        let negative = "histogram has a bucket whose observation count is negative";
        for (v, printed) in
            [(-1.5, "-1.5"), (-1e21, "-1e+21"), (-1.5e-7, "-1.5e-07"), (-1e6, "-1e+06"), (-123456.0, "-123456")]
        {
            assert_eq!(
                text(FloatHistogram { zero_count: v, ..FloatHistogram::default() }),
                format!("zero bucket has observation count of {printed}: {negative}")
            );
        }
        assert_eq!(
            text(FloatHistogram { count: f64::NEG_INFINITY, ..FloatHistogram::default() }),
            "observation count is  -Inf: histogram's observation count is negative"
        );
    }
}
