//! Native histograms as Prometheus prints them: `{count:3, sum:2.5, [-0.001,0.001]:1, (0.5,1]:2}`.

use std::fmt::Write;

use fk_model::{FloatHistogram, Span};

use crate::gofmt::float;

/// Buckets in use: index and count. Spans that do not fit the counts end where the counts end.
fn indexed<'h>(spans: &'h [Span], counts: &'h [f64]) -> impl DoubleEndedIterator<Item = (i64, f64)> + use<'h> {
    let mut indices = Vec::with_capacity(counts.len());
    let mut next = 0i64;
    for span in spans {
        next += i64::from(span.offset);
        let left = counts.len() - indices.len();
        indices.extend((next..).take((span.length as usize).min(left)));
        next += i64::from(span.length);
    }
    indices.into_iter().zip(counts.to_vec()).collect::<Vec<_>>().into_iter()
}

/// Upper limit of bucket `index` of an exponential schema.
fn exponential(index: i64, schema: i32) -> f64 {
    if schema <= 0 {
        return (index as f64 * f64::from(-schema).exp2()).exp2();
    }
    let buckets = 1i64 << schema.min(62);
    let (whole, part) = (index.div_euclid(buckets), index.rem_euclid(buckets));
    // The fraction alone is computed, so that powers of two are exact.
    (part as f64 / buckets as f64).exp2() * (whole as f64).exp2()
}

/// Prints a histogram. Buckets without observations are left out.
pub(crate) fn text(h: &FloatHistogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", float(h.count), float(h.sum));
    let mut bucket = |open: char, lower: f64, upper: f64, close: char, count: f64| {
        if count != 0.0 {
            // Writing to a string cannot fail.
            let _ = write!(out, ", {open}{},{}{close}:{}", float(lower), float(upper), float(count));
        }
    };
    let limit = |index: i64| match h.uses_custom_buckets() {
        false => exponential(index, h.schema),
        true if index < 0 => f64::NEG_INFINITY,
        true => usize::try_from(index).ok().and_then(|at| h.custom_values.get(at)).copied().unwrap_or(f64::INFINITY),
    };
    for (index, count) in indexed(&h.negative_spans, &h.negative_buckets).rev() {
        bucket('[', -limit(index), -limit(index - 1), ')', count);
    }
    bucket('[', -h.zero_threshold, h.zero_threshold, ']', h.zero_count);
    for (index, count) in indexed(&h.positive_spans, &h.positive_buckets) {
        // The lowest custom bucket has no lower limit and includes what that would be.
        let open = if h.uses_custom_buckets() && index == 0 { '[' } else { '(' };
        bucket(open, limit(index - 1), limit(index), ']', count);
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_printed_as_prometheus_does() {
        let spans = vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }];
        let h = FloatHistogram {
            count: 9.0,
            sum: 18.4,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: spans.clone(),
            positive_buckets: vec![1.0, 2.0, 1.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![3.0],
            ..FloatHistogram::default()
        };
        assert_eq!(text(&h), "{count:9, sum:18.4, [-2,-1):3, [-0.001,0.001]:2, (0.5,1]:1, (1,2]:2, (4,8]:1}");
        let custom = FloatHistogram {
            count: 3.0,
            sum: 5.0,
            schema: fk_model::histogram::CUSTOM_BUCKETS_SCHEMA,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            custom_values: vec![0.5].into(),
            ..FloatHistogram::default()
        };
        assert_eq!(text(&custom), "{count:3, sum:5, [-Inf,0.5]:1, (0.5,+Inf]:2}");
        let odd = FloatHistogram { positive_spans: spans, positive_buckets: vec![1.0], ..FloatHistogram::default() };
        assert_eq!(text(&odd), "{count:0, sum:0, (0.5,1]:1}");
        assert_eq!((exponential(0, 3), exponential(8, 3), exponential(-8, 3)), (1.0, 2.0, 0.5));
        assert_eq!((exponential(1, 0), exponential(1, -1), exponential(-1, -2)), (2.0, 4.0, 0.0625));
    }
}
