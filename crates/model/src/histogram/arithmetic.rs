//! Arithmetic of histograms. Results are those of Prometheus (`model/histogram/float_histogram.go`), to the last bit.
//!
//! Two histograms with exponential buckets are brought to the smaller schema and to a zero bucket wide enough for both,
//! two with custom buckets to the limits they have in common; one of each kind cannot be combined.

use std::cmp::Ordering;
use std::sync::Arc;

use super::bounds::{Indexed, exponential_bound};
use super::sums::Lost;
use super::{CounterReset, FloatHistogram, Span};
use crate::kahan;

/// One histogram has exponential buckets and the other custom ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct IncompatibleBuckets;

/// What was found while combining two histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One comes behind a counter reset and the other does not.
    pub collision: bool,
    /// The limits of custom buckets differed.
    pub reconciled: bool,
}

/// How to add to a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    fn of(self, v: f64) -> f64 {
        match self {
            Sign::Plus => v,
            Sign::Minus => -v,
        }
    }
}

/// Buckets of one side that are added to those of another histogram.
#[derive(Clone, Copy)]
struct Addend<'a> {
    spans: &'a [Span],
    counts: &'a [f64],
    /// What rounding lost from `counts`; as many, or none at all.
    lost: &'a [f64],
    sign: Sign,
}

impl Addend<'_> {
    fn lost(&self, at: usize) -> f64 {
        self.lost.get(at).map_or(0.0, |lost| self.sign.of(*lost))
    }
}

#[inline]
fn add_to(count: &mut f64, lost: Option<&mut f64>, inc: f64, inc_lost: f64) {
    match lost {
        None => *count += inc,
        Some(lost) => {
            (*count, *lost) = kahan(inc, *count, *lost);
            if inc_lost != 0.0 {
                (*count, *lost) = kahan(inc_lost, *count, *lost);
            }
        }
    }
}

/// Builds spans bucket by bucket.
#[derive(Default)]
struct SpansBuilder {
    spans: Vec<Span>,
    end: i64,
}

impl SpansBuilder {
    fn push(&mut self, index: i32) {
        let index = i64::from(index);
        match self.spans.last_mut() {
            Some(last) if self.end == index => last.length += 1,
            // In range: both are indices of buckets in ascending order.
            _ => self.spans.push(Span { offset: (index - self.end) as i32, length: 1 }),
        }
        self.end = index + 1;
    }
}

/// Adds buckets to those of a histogram. The first `skip` of them stay out: they are in the zero bucket.
fn add_buckets(
    spans: &mut Vec<Span>,
    counts: &mut Vec<f64>,
    lost: Option<&mut Vec<f64>>,
    other: Addend<'_>,
    skip: usize,
) {
    if *spans == other.spans && counts.len() == other.counts.len() {
        // The usual case: the same buckets.
        match lost {
            None => counts.iter_mut().zip(other.counts).skip(skip).for_each(|(a, b)| *a += other.sign.of(*b)),
            Some(lost) => {
                for (at, (count, lost)) in counts.iter_mut().zip(lost).enumerate().skip(skip) {
                    add_to(count, Some(lost), other.sign.of(other.counts[at]), other.lost(at));
                }
            }
        }
        return;
    }
    let mut built = SpansBuilder::default();
    let room = counts.len() + other.counts.len().saturating_sub(skip);
    let (mut out, mut out_lost) = (Vec::with_capacity(room), Vec::new());
    let old_lost = lost.as_ref().map_or(&[][..], |lost| &lost[..]);
    let mut own = Indexed::new(spans, counts).enumerate().peekable();
    let mut others = Indexed::new(other.spans, other.counts).enumerate().skip(skip).peekable();
    loop {
        let (a, b) = match (own.peek(), others.peek()) {
            (None, None) => break,
            (Some((_, (a, _))), Some((_, (b, _)))) => (a <= b, b <= a),
            (a, b) => (a.is_some(), b.is_some()),
        };
        let (own, other_bucket) = (own.next_if(|_| a), others.next_if(|_| b));
        let (index, mut count, mut count_lost) = match (own, other_bucket) {
            (Some((at, (index, count))), _) => (index, count, old_lost.get(at).copied().unwrap_or(0.0)),
            (None, Some((at, (index, count)))) => (index, other.sign.of(count), other.lost(at)),
            (None, None) => break,
        };
        if let (Some(_), Some((at, (_, inc)))) = (own, other_bucket) {
            let compensated = lost.is_some().then_some(&mut count_lost);
            add_to(&mut count, compensated, other.sign.of(inc), other.lost(at));
        }
        built.push(index);
        out.push(count);
        if lost.is_some() {
            out_lost.push(count_lost);
        }
    }
    drop((own, others));
    *spans = built.spans;
    *counts = out;
    if let Some(lost) = lost {
        *lost = out_lost;
    }
}

/// How many of the first buckets end within the zero bucket.
fn within_zero(spans: &[Span], counts: &[f64], schema: i32, threshold: f64) -> usize {
    Indexed::new(spans, counts).take_while(|(index, _)| exponential_bound(*index, schema) <= threshold).count()
}

/// Buckets and what rounding lost, in the buckets of a schema that is `steps` smaller; sums are compensated.
fn reduce(spans: &[Span], counts: &[f64], lost: &[f64], steps: u32) -> (Vec<Span>, Vec<f64>, Vec<f64>) {
    let mut built = SpansBuilder::default();
    let (mut out, mut out_lost): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut before = None;
    for (at, (index, count)) in Indexed::new(spans, counts).enumerate() {
        let target = (((i64::from(index) - 1) >> steps.min(63)) + 1) as i32;
        let lost = lost.get(at).copied().unwrap_or(0.0);
        match (out.last_mut(), out_lost.last_mut()) {
            (Some(sum), Some(c)) if before == Some(target) => {
                (*sum, *c) = kahan(count, *sum, *c);
                (*sum, *c) = kahan(lost, *sum, *c);
            }
            _ => {
                built.push(target);
                out.push(count);
                out_lost.push(lost);
            }
        }
        before = Some(target);
    }
    (built.spans, out, out_lost)
}

/// Limits that both lists have.
fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut common = Vec::new();
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.total_cmp(y) {
            Ordering::Less => drop(a.next()),
            Ordering::Greater => drop(b.next()),
            Ordering::Equal => {
                common.push(**x);
                a.next();
                b.next();
            }
        }
    }
    common.into()
}

/// Sums of custom buckets by the limits that two histograms have in common.
struct Rebinned<'a> {
    bounds: &'a [f64],
    /// One more than limits: the last one has what is above all of them.
    counts: Vec<f64>,
    lost: Vec<f64>,
}

impl Rebinned<'_> {
    fn add(&mut self, addend: Addend<'_>, bounds: &[f64]) {
        let mut common = 0;
        for (at, (index, count)) in Indexed::new(addend.spans, addend.counts).enumerate() {
            let mut target = self.bounds.len();
            if let Some(bound) = usize::try_from(index).ok().and_then(|index| bounds.get(index)) {
                while self.bounds.get(common).is_some_and(|common| common < bound) {
                    common += 1;
                }
                target = common;
            }
            let (sum, lost) = (&mut self.counts[target], &mut self.lost[target]);
            (*sum, *lost) = kahan(addend.sign.of(count), *sum, *lost);
            if let Some(own) = addend.lost.get(at) {
                (*sum, *lost) = kahan(*own, *sum, *lost);
            }
        }
    }

    /// The buckets that are not empty.
    fn finish(self) -> (Vec<Span>, Vec<f64>, Vec<f64>) {
        let mut built = SpansBuilder::default();
        let (mut counts, mut losts) = (Vec::new(), Vec::new());
        for (index, (count, lost)) in self.counts.into_iter().zip(self.lost).enumerate() {
            if count != 0.0 || lost != 0.0 {
                built.push(index as i32);
                counts.push(count);
                losts.push(lost);
            }
        }
        (built.spans, counts, losts)
    }
}

impl FloatHistogram {
    /// Adds `other`.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleBuckets> {
        self.combine(None, other, Sign::Plus)
    }

    /// Subtracts `other`.
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleBuckets> {
        self.combine(None, other, Sign::Minus)
    }

    /// Multiplies all counts and the sum. With a negative factor the result is a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.each_number(|v| v * factor);
        if factor < 0.0 {
            self.counter_reset = CounterReset::Gauge;
        }
    }

    /// Divides all counts and the sum. By zero there are no buckets afterwards; by less the result is a gauge.
    pub fn div(&mut self, divisor: f64) {
        self.each_number(|v| v / divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        } else if divisor < 0.0 {
            self.counter_reset = CounterReset::Gauge;
        }
    }

    pub(super) fn each_number(&mut self, f: impl Fn(f64) -> f64) {
        self.zero_count = f(self.zero_count);
        self.count = f(self.count);
        self.sum = f(self.sum);
        self.positive_buckets.iter_mut().for_each(|count| *count = f(*count));
        self.negative_buckets.iter_mut().for_each(|count| *count = f(*count));
    }

    /// What is known of counter resets after `other` was added; whether both contradict each other.
    fn adjust_counter_reset(&mut self, other: CounterReset) -> bool {
        use CounterReset::{Gauge, Unknown};
        let own = self.counter_reset;
        self.counter_reset = match (own, other) {
            (a, b) if a == b => return false,
            (Gauge, _) | (_, Gauge) => Gauge,
            _ => Unknown,
        };
        // Neither is a gauge or unknown, so one says that there was a reset, and the other one that there was none.
        ![own, other].iter().any(|hint| matches!(hint, Gauge | Unknown))
    }

    pub(super) fn combine(
        &mut self,
        mut lost: Option<&mut Lost>,
        other: &FloatHistogram,
        sign: Sign,
    ) -> Result<Combined, IncompatibleBuckets> {
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(IncompatibleBuckets);
        }
        let collision = self.adjust_counter_reset(other.counter_reset);
        let custom = self.uses_custom_buckets();
        let (zero, zero_lost) = if custom { (0.0, 0.0) } else { self.reconcile_zero(other, lost.as_deref_mut()) };
        match lost.as_deref_mut() {
            None => {
                self.zero_count += sign.of(zero);
                self.count += sign.of(other.count);
                self.sum += sign.of(other.sum);
            }
            Some(lost) => {
                (self.zero_count, lost.zero_count) = kahan(sign.of(zero), self.zero_count, lost.zero_count);
                (self.zero_count, lost.zero_count) = kahan(sign.of(zero_lost), self.zero_count, lost.zero_count);
                (self.count, lost.count) = kahan(sign.of(other.count), self.count, lost.count);
                (self.sum, lost.sum) = kahan(sign.of(other.sum), self.sum, lost.sum);
            }
        }
        if !custom {
            self.combine_exponential(lost, other, sign);
            return Ok(Combined { collision, reconciled: false });
        }
        let addend = Addend { spans: &other.positive_spans, counts: &other.positive_buckets, lost: &[], sign };
        let lost = lost.map(|lost| &mut lost.positive);
        let reconciled = self.custom_values != other.custom_values;
        if reconciled {
            self.combine_rebinned(lost, addend, &other.custom_values);
        } else {
            add_buckets(&mut self.positive_spans, &mut self.positive_buckets, lost, addend, 0);
        }
        Ok(Combined { collision, reconciled })
    }

    fn combine_rebinned(&mut self, lost: Option<&mut Vec<f64>>, other: Addend<'_>, bounds: &[f64]) {
        let common = common_bounds(&self.custom_values, bounds);
        let sums = vec![0.0; common.len() + 1];
        let mut rebinned = Rebinned { bounds: &common, counts: sums.clone(), lost: sums };
        let own_lost = lost.as_ref().map_or(&[][..], |lost| &lost[..]);
        let own =
            Addend { spans: &self.positive_spans, counts: &self.positive_buckets, lost: own_lost, sign: Sign::Plus };
        rebinned.add(own, &self.custom_values);
        rebinned.add(other, bounds);
        let (spans, counts, losts) = rebinned.finish();
        (self.positive_spans, self.positive_buckets) = (spans, counts);
        if let Some(lost) = lost {
            *lost = losts;
        }
        self.custom_values = common;
    }

    fn combine_exponential(&mut self, lost: Option<&mut Lost>, other: &FloatHistogram, sign: Sign) {
        let down = |schema: i32| u32::try_from(schema).unwrap_or(0);
        let own_steps = down(self.schema.saturating_sub(other.schema));
        let other_steps = down(other.schema.saturating_sub(self.schema));
        self.schema = self.schema.min(other.schema);
        let (schema, threshold, compensated) = (self.schema, self.zero_threshold, lost.is_some());
        let mut nothing = Lost::default();
        let Lost { positive, negative, .. } = lost.unwrap_or(&mut nothing);
        let sides = [
            (
                &mut self.positive_spans,
                &mut self.positive_buckets,
                positive,
                &other.positive_spans,
                &other.positive_buckets,
            ),
            (
                &mut self.negative_spans,
                &mut self.negative_buckets,
                negative,
                &other.negative_spans,
                &other.negative_buckets,
            ),
        ];
        for (spans, counts, side_lost, other_spans, other_counts) in sides {
            if own_steps > 0 {
                if compensated {
                    (*spans, *counts, *side_lost) = reduce(spans, counts, side_lost, own_steps);
                } else {
                    (*spans, *counts) = super::resolution::reduce(spans, counts.iter().copied(), own_steps);
                }
            }
            let reduced = match other_steps {
                0 => None,
                _ if compensated => Some(reduce(other_spans, other_counts, &[], other_steps)),
                _ => {
                    let (spans, counts) =
                        super::resolution::reduce(other_spans, other_counts.iter().copied(), other_steps);
                    Some((spans, counts, Vec::new()))
                }
            };
            let addend = match &reduced {
                Some((spans, counts, lost)) => Addend { spans, counts, lost, sign },
                None => Addend { spans: other_spans, counts: other_counts, lost: &[], sign },
            };
            let skip = within_zero(addend.spans, addend.counts, schema, threshold);
            add_buckets(spans, counts, compensated.then_some(side_lost), addend, skip);
        }
    }

    /// Widens the own zero bucket until it holds that of `other` and ends between buckets of both. Returns the count that
    /// the zero bucket of `other` would have then, and what rounding lost of it.
    fn reconcile_zero(&mut self, other: &FloatHistogram, mut lost: Option<&mut Lost>) -> (f64, f64) {
        let (mut count, mut threshold, mut count_lost) = (other.zero_count, other.zero_threshold, 0.0);
        // NaN, which no sound histogram has, would go on for ever.
        while threshold.partial_cmp(&self.zero_threshold).is_some_and(Ordering::is_ne) {
            if self.zero_threshold > threshold {
                (count, threshold, count_lost) = other.zero_count_for(self.zero_threshold, None);
            }
            if threshold > self.zero_threshold {
                let (own, own_threshold, own_lost) = self.zero_count_for(threshold, lost.as_deref());
                (self.zero_count, self.zero_threshold) = (own, own_threshold);
                if let Some(lost) = lost.as_deref_mut() {
                    lost.zero_count = own_lost;
                }
                self.empty_zero(lost.as_deref_mut());
            }
        }
        (count, count_lost)
    }

    /// The count that the zero bucket would have with a larger threshold, the threshold, and what rounding lost. A threshold
    /// within a bucket in use is moved to the end of that bucket.
    pub(super) fn zero_count_for(&self, threshold: f64, lost: Option<&Lost>) -> (f64, f64, f64) {
        let mut threshold = threshold;
        let mut c = lost.map_or(0.0, |lost| lost.zero_count);
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold, c);
        }
        loop {
            let mut count = self.zero_count;
            let mut moved = false;
            let losts = lost.map_or((&[][..], &[][..]), |lost| (&lost.positive[..], &lost.negative[..]));
            for (at, bucket) in self.positive().enumerate() {
                if bucket.lower >= threshold {
                    break;
                }
                (count, c) = kahan(bucket.count, count, c);
                if let Some(lost) = losts.0.get(at) {
                    (count, c) = kahan(*lost, count, c);
                }
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for (at, bucket) in self.negative().enumerate() {
                if bucket.upper <= -threshold {
                    break;
                }
                (count, c) = kahan(bucket.count, count, c);
                if let Some(lost) = losts.1.get(at) {
                    (count, c) = kahan(*lost, count, c);
                }
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        // What was taken from the positive side is too little now.
                        threshold = -bucket.lower;
                        moved = true;
                    }
                    break;
                }
            }
            if !moved {
                return (count, threshold, c);
            }
        }
    }

    /// Removes the buckets within the zero bucket, which has their counts already, and all other empty ones.
    fn empty_zero(&mut self, lost: Option<&mut Lost>) {
        let threshold = self.zero_threshold;
        let positive = self.positive().take_while(|bucket| bucket.lower < threshold).count();
        let negative = self.negative().take_while(|bucket| bucket.upper > -threshold).count();
        self.positive_buckets[..positive].fill(0.0);
        self.negative_buckets[..negative].fill(0.0);
        let Some(lost) = lost else { return self.compact(0) };
        lost.positive[..positive].fill(0.0);
        lost.negative[..negative].fill(0.0);
        compact_both(&mut self.positive_spans, &mut self.positive_buckets, &mut lost.positive);
        compact_both(&mut self.negative_spans, &mut self.negative_buckets, &mut lost.negative);
    }
}

/// Removes buckets that are empty and of which rounding lost nothing.
fn compact_both(spans: &mut Vec<Span>, counts: &mut Vec<f64>, lost: &mut Vec<f64>) {
    let mut built = SpansBuilder::default();
    let (mut out, mut out_lost) = (Vec::new(), Vec::new());
    for ((index, count), lost) in Indexed::new(spans, counts).zip(&*lost) {
        if count != 0.0 || *lost != 0.0 {
            built.push(index);
            out.push(count);
            out_lost.push(*lost);
        }
    }
    (*spans, *counts, *lost) = (built.spans, out, out_lost);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::CUSTOM_BUCKETS_SCHEMA;

    fn spans(list: &[(i32, u32)]) -> Vec<Span> {
        list.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    /// Positive buckets only; count and sum follow from them.
    fn exponential(schema: i32, zero: (f64, f64), at: &[(i32, u32)], counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: zero.1 + counts.iter().sum::<f64>(),
            sum: counts.len() as f64,
            positive_spans: spans(at),
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: counts.iter().sum(),
            custom_values: Arc::from(bounds),
            positive_spans: spans(&[(0, counts.len() as u32)]),
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[track_caller]
    fn check(a: &FloatHistogram, b: &FloatHistogram, at: &[(i32, u32)], counts: &[f64]) -> FloatHistogram {
        let mut plain = a.clone();
        plain.add(b).unwrap();
        let mut sum = crate::histogram::HistogramSum::new(a.clone());
        sum.add(b).unwrap();
        assert_eq!(sum.finish(), plain, "with and without compensation");
        let mut difference = plain.clone();
        difference.sub(b).unwrap();
        assert_eq!(difference.count, a.count);
        plain.compact(0);
        assert_eq!((&plain.positive_spans, &plain.positive_buckets[..]), (&spans(at), counts));
        plain
    }

    #[test]
    fn buckets_are_added_where_they_are() {
        let a = exponential(0, (0.0, 0.0), &[(-2, 2), (1, 1)], &[1.0, 2.0, 4.0]);
        check(&a, &a, &[(-2, 2), (1, 1)], &[2.0, 4.0, 8.0]);
        let b = exponential(0, (0.0, 0.0), &[(-4, 1), (3, 1), (3, 2)], &[10.0, 20.0, 30.0, 40.0]);
        let sum = check(&a, &b, &[(-4, 1), (1, 4), (2, 2)], &[10.0, 1.0, 2.0, 20.0, 4.0, 30.0, 40.0]);
        assert_eq!(sum.count, 107.0);
        check(&exponential(0, (0.0, 0.0), &[], &[]), &a, &[(-2, 2), (1, 1)], &[1.0, 2.0, 4.0]);
    }

    #[test]
    fn schemas_and_zero_buckets_are_reconciled() {
        let fine = exponential(1, (0.0, 0.0), &[(1, 4)], &[1.0, 2.0, 3.0, 4.0]);
        let coarse = exponential(0, (0.0, 0.0), &[(1, 1)], &[10.0]);
        for (a, b) in [(&fine, &coarse), (&coarse, &fine)] {
            assert_eq!(check(a, b, &[(1, 2)], &[13.0, 7.0]).schema, 0);
        }
        // A threshold of 3 is within the bucket from 2 to 4, so it becomes 4.
        let narrow = exponential(0, (0.5, 1.0), &[(1, 3)], &[1.0, 1.0, 1.0]);
        let wide = exponential(0, (3.0, 5.0), &[(4, 1)], &[7.0]);
        for (a, b) in [(&narrow, &wide), (&wide, &narrow)] {
            let sum = check(a, b, &[(3, 2)], &[1.0, 7.0]);
            assert_eq!((sum.zero_threshold, sum.zero_count, sum.count), (4.0, 8.0, 16.0));
        }
    }

    #[test]
    fn custom_buckets_meet_at_common_limits() {
        let a = custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]);
        let b = custom(&[2.0, 3.0, 5.0], &[10.0, 20.0, 30.0, 40.0]);
        let mut sum = a.clone();
        assert!(sum.add(&b).unwrap().reconciled);
        assert_eq!((&*sum.custom_values, &sum.positive_buckets[..]), (&[2.0, 5.0][..], &[13.0, 53.0, 44.0][..]));
        let mut same = a.clone();
        assert!(!same.add(&a).unwrap().reconciled);
        assert_eq!(same.positive_buckets, [2.0, 4.0, 6.0, 8.0]);
        let mut nothing = a.clone();
        nothing.add(&custom(&[7.0], &[1.0, 1.0])).unwrap();
        assert_eq!((nothing.custom_values.len(), &nothing.positive_buckets[..]), (0, &[12.0][..]));
        assert_eq!(sum.add(&FloatHistogram::default()), Err(IncompatibleBuckets));
    }

    #[test]
    fn hints_are_combined() {
        use CounterReset::{Gauge, NotReset, Reset, Unknown};
        for (a, b, want, collision) in [
            (Reset, Reset, Reset, false),
            (Reset, NotReset, Unknown, true),
            (NotReset, Reset, Unknown, true),
            (Gauge, Reset, Gauge, false),
            (NotReset, Gauge, Gauge, false),
            (Unknown, Gauge, Gauge, false),
            (Unknown, Reset, Unknown, false),
            (NotReset, Unknown, Unknown, false),
        ] {
            let mut h = FloatHistogram { counter_reset: a, ..FloatHistogram::default() };
            let other = FloatHistogram { counter_reset: b, ..FloatHistogram::default() };
            assert_eq!((h.add(&other).unwrap().collision, h.counter_reset), (collision, want), "{a:?} {b:?}");
        }
    }

    #[test]
    fn dividing_by_zero_leaves_no_buckets() {
        let mut h = exponential(0, (0.1, 1.0), &[(0, 1)], &[3.0]);
        h.div(0.0);
        assert_eq!((h.count, h.positive_buckets.len(), h.counter_reset), (f64::INFINITY, 0, CounterReset::Unknown));
        let mut h = exponential(0, (0.1, 1.0), &[(0, 1)], &[3.0]);
        h.mul(-2.0);
        assert_eq!((h.count, h.zero_count, h.counter_reset), (-8.0, -2.0, CounterReset::Gauge));
    }
}
