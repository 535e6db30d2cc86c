//! Merging buckets of an exponential schema into those of a smaller one: each step down joins two neighbours.

use super::check::{HistogramError, check_spans};
use super::{FloatHistogram, Histogram, Span};

/// Puts absolute counts of buckets into the buckets of a schema that is `steps` smaller.
pub(super) fn reduce<C: Copy + std::ops::AddAssign>(
    spans: &[Span],
    counts: impl Iterator<Item = C>,
    steps: u32,
) -> (Vec<Span>, Vec<C>) {
    let (mut reduced_spans, mut reduced): (Vec<Span>, Vec<C>) = (Vec::new(), Vec::new());
    let (mut index, mut last) = (0i64, None);
    let mut counts = counts;
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            let target = ((index - 1) >> steps.min(63)) + 1;
            index += 1;
            match (last, reduced.last_mut(), reduced_spans.last_mut()) {
                (Some(before), Some(sum), _) if before == target => *sum += count,
                (Some(before), _, Some(span)) if before + 1 == target => {
                    span.length += 1;
                    reduced.push(count);
                }
                _ => {
                    let offset = target - last.map_or(0, |before| before + 1);
                    // In range: both were the indices of buckets, and those only became smaller.
                    reduced_spans.push(Span { offset: offset as i32, length: 1 });
                    reduced.push(count);
                }
            }
            last = Some(target);
        }
    }
    (reduced_spans, reduced)
}

/// Counts from differences, wrapping around as Prometheus' do.
#[derive(Clone, Copy)]
struct Wrapping(i64);

impl std::ops::AddAssign for Wrapping {
    fn add_assign(&mut self, other: Wrapping) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

fn reduce_deltas(spans: &mut Vec<Span>, deltas: &mut Vec<i64>, steps: u32) {
    let mut count = 0i64;
    let counts = deltas.iter().map(|delta| {
        count = count.wrapping_add(*delta);
        Wrapping(count)
    });
    let (reduced_spans, reduced) = reduce(spans, counts, steps);
    *spans = reduced_spans;
    let mut before = 0i64;
    *deltas = reduced.into_iter().map(|count| count.0.wrapping_sub(std::mem::replace(&mut before, count.0))).collect();
}

impl Histogram {
    /// Brings an exponential histogram down to `schema`; does nothing if its own is not larger. Spans that do not fit the
    /// buckets are an error.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), HistogramError> {
        check_spans(&self.positive_spans, self.positive_buckets.len())?;
        check_spans(&self.negative_spans, self.negative_buckets.len())?;
        if self.schema > schema {
            let steps = self.schema.abs_diff(schema);
            reduce_deltas(&mut self.positive_spans, &mut self.positive_buckets, steps);
            reduce_deltas(&mut self.negative_spans, &mut self.negative_buckets, steps);
            self.schema = schema;
        }
        Ok(())
    }
}

impl FloatHistogram {
    /// As [`Histogram::reduce_resolution`].
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), HistogramError> {
        check_spans(&self.positive_spans, self.positive_buckets.len())?;
        check_spans(&self.negative_spans, self.negative_buckets.len())?;
        if self.schema > schema {
            let steps = self.schema.abs_diff(schema);
            let positive = reduce(&self.positive_spans, self.positive_buckets.iter().copied(), steps);
            let negative = reduce(&self.negative_spans, self.negative_buckets.iter().copied(), steps);
            (self.positive_spans, self.positive_buckets) = positive;
            (self.negative_spans, self.negative_buckets) = negative;
            self.schema = schema;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(i32, u32)]) -> Vec<Span> {
        list.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    #[test]
    fn neighbours_are_joined() {
        // Buckets 0 to 3 and 5 to 7 of schema 0; with schema -1 bucket i goes to ceil(i / 2).
        let mut h = Histogram {
            positive_spans: spans(&[(0, 4), (1, 3)]),
            positive_buckets: vec![1, 2, -2, 1, -1, 1, 0],
            negative_spans: spans(&[(-5, 1), (6, 1)]),
            negative_buckets: vec![3, 1],
            ..Histogram::default()
        };
        let mut float = h.to_float();
        h.reduce_resolution(-1).unwrap();
        float.reduce_resolution(-1).unwrap();
        // 1 | 3 + 1 | 2 + nothing | 1 + 2 | 2
        assert_eq!((h.schema, &h.positive_spans), (-1, &spans(&[(0, 5)])));
        assert_eq!(float.positive_buckets, [1.0, 4.0, 2.0, 3.0, 2.0]);
        // -5 goes to -2, 2 to 1.
        assert_eq!(h.negative_spans, spans(&[(-2, 1), (2, 1)]));
        assert_eq!(h.to_float(), float);
        let before = h.clone();
        h.reduce_resolution(3).unwrap();
        assert_eq!(h, before);
    }

    #[test]
    fn spans_that_do_not_fit_are_refused() {
        let mut h = Histogram { positive_spans: spans(&[(0, 4)]), positive_buckets: vec![1], ..Histogram::default() };
        assert!(h.reduce_resolution(-1).is_err());
        assert!(h.to_float().reduce_resolution(-1).is_err());
    }
}
