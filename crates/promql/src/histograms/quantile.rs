//! Quantiles, fractions and deviations of native histograms (`promql/quantile.go` and `promql/functions.go` in
//! Prometheus). Within a bucket observations are taken to be spread evenly: on a linear scale with custom buckets and in
//! the zero bucket, on a logarithmic one else.

use fk_model::histogram::Bucket;
use fk_model::{FloatHistogram, kahan};

use crate::instant::{exp2, log2};

/// What observations of NaN did to a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nans {
    /// The quantile is among them.
    Result,
    /// They count as larger than all others.
    Skew,
    /// They are in no fraction.
    Excluded,
}

/// With observations on one side only, the zero bucket has none on the other side either.
fn one_sided(h: &FloatHistogram, bucket: &mut Bucket) {
    match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// Quantile `q`.
pub(crate) fn quantile(q: f64, h: &FloatHistogram) -> (f64, Option<Nans>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // Observations of NaN are in no bucket, but count: then ranks have to be counted from below.
    let upwards = h.sum.is_nan() || q < 0.5;
    let rank = if upwards { q * h.count } else { (1.0 - q) * h.count };
    let mut buckets = h.buckets();
    let mut next = || if upwards { buckets.next() } else { buckets.next_back() };
    let mut bucket = Bucket { lower: 0.0, upper: 0.0, count: 0.0, kind: fk_model::histogram::BucketKind::Zero };
    let mut count = 0.0;
    while let Some(found) = next() {
        bucket = found;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    if h.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(h, &mut bucket);
    }
    // Rounding may have made it more.
    count = if count > h.count { h.count } else { count };
    if count < rank {
        return if h.sum.is_nan() { (f64::NAN, Some(Nans::Result)) } else { (bucket.upper, None) };
    }
    let within = if upwards { rank - (count - bucket.count) } else { count - rank };
    let mut nans = None;
    if h.sum.is_nan() {
        while let Some(rest) = next() {
            bucket = rest;
            count += bucket.count;
        }
        nans = (count < h.count).then_some(Nans::Skew);
    }
    let fraction = within / bucket.count;
    if h.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (bucket.lower + (bucket.upper - bucket.lower) * fraction, nans);
    }
    let (lower, upper) = (log2(bucket.lower.abs()), log2(bucket.upper.abs()));
    if bucket.lower > 0.0 {
        (exp2(lower + (upper - lower) * fraction), nans)
    } else {
        (-exp2(upper + (lower - upper) * (1.0 - fraction)), nans)
    }
}

/// Which fraction of the observations lies between two values.
pub(crate) fn fraction(lower: f64, upper: f64, h: &FloatHistogram) -> (f64, Option<Nans>) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let (mut count, mut rank) = (0.0, 0.0);
    let mut ranks = [None, None];
    let mut buckets = h.buckets();
    for mut bucket in buckets.by_ref() {
        count += bucket.count;
        let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if zero {
            one_sided(h, &mut bucket);
        }
        for (v, found) in [lower, upper].into_iter().zip(&mut ranks) {
            if found.is_none() && bucket.lower >= v {
                *found = Some(rank);
            }
        }
        if ranks.iter().all(Option::is_some) {
            break;
        }
        let linear = h.uses_custom_buckets() || zero;
        for (v, found) in [lower, upper].into_iter().zip(&mut ranks) {
            if found.is_none() && bucket.lower < v && bucket.upper > v {
                // Nobody knows where the observations of a bucket without a lower limit are.
                *found = Some(match linear && bucket.lower == f64::NEG_INFINITY {
                    true => bucket.count,
                    false => rank + bucket.count * bucket.fraction_below(v, linear, log2),
                });
            }
        }
        if ranks.iter().all(Option::is_some) {
            break;
        }
        rank += bucket.count;
    }
    let mut nans = None;
    if h.sum.is_nan() {
        buckets.for_each(|bucket| count += bucket.count);
        nans = (count < h.count).then_some(Nans::Excluded);
    } else {
        count = h.count;
    }
    let [lower_rank, upper_rank] = ranks.map(|rank| rank.filter(|rank| *rank <= count).unwrap_or(count));
    ((upper_rank - lower_rank) / h.count, nans)
}

/// The variance of the observations, each taken to be in the middle of its bucket.
pub(crate) fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut sum, mut c) = (0.0, 0.0);
    for bucket in h.buckets().filter(|bucket| bucket.count != 0.0) {
        let middle = if h.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let geometric = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -geometric } else { geometric }
        };
        let delta = middle - mean;
        (sum, c) = kahan(bucket.count * delta * delta, sum, c);
    }
    (sum + c) / h.count
}
