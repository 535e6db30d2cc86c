//! Leaving out empty buckets: of two histograms that say the same, the compact ones are equal.

use super::{FloatHistogram, Histogram, Span};

/// Puts the buckets that are not empty into as few spans as possible: a gap between two of them that is not longer than
/// `empty_max` is filled with empty buckets, any longer one begins a new span. Buckets that no span describes go.
fn compact<C: Copy + Default + PartialEq>(
    spans: &[Span],
    counts: impl Iterator<Item = C>,
    empty_max: u32,
) -> (Vec<Span>, Vec<C>) {
    let (mut out_spans, mut out): (Vec<Span>, Vec<C>) = (Vec::new(), Vec::new());
    let mut counts = counts;
    // Where the bucket that is looked at is, and where the last one that was kept ends.
    let (mut index, mut end) = (0i64, None);
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            if count != C::default() {
                let gap = index - end.unwrap_or(0);
                match out_spans.last_mut() {
                    Some(last) if (0..=i64::from(empty_max)).contains(&gap) => {
                        out.resize(out.len() + gap as usize, C::default());
                        last.length += gap as u32 + 1;
                    }
                    // In range: a sum of offsets and lengths of spans that were checked.
                    _ => out_spans.push(Span { offset: gap as i32, length: 1 }),
                }
                out.push(count);
                end = Some(index + 1);
            }
            index += 1;
        }
    }
    (out_spans, out)
}

/// Whether [`compact`] would change nothing, which is the usual case and cheaply found out.
fn is_compact<C: Default + PartialEq>(spans: &[Span], mut counts: impl Iterator<Item = C>, empty_max: u32) -> bool {
    let far = |span: &Span| i64::from(span.offset) > i64::from(empty_max);
    spans.iter().all(|span| span.length > 0)
        && spans.iter().skip(1).all(far)
        && counts.all(|count| count != C::default())
}

fn absolute(deltas: &[i64]) -> impl Iterator<Item = i64> {
    deltas.iter().scan(0i64, |count, delta| {
        *count = count.wrapping_add(*delta);
        Some(*count)
    })
}

fn compact_deltas(spans: &mut Vec<Span>, deltas: &mut Vec<i64>, empty_max: u32) {
    if is_compact(spans, absolute(deltas), empty_max) {
        return;
    }
    let (compact_spans, counts) = compact(spans, absolute(deltas), empty_max);
    *spans = compact_spans;
    let mut before = 0i64;
    *deltas = counts.into_iter().map(|count| count.wrapping_sub(std::mem::replace(&mut before, count))).collect();
}

fn compact_counts(spans: &mut Vec<Span>, counts: &mut Vec<f64>, empty_max: u32) {
    if !is_compact(spans, counts.iter().copied(), empty_max) {
        (*spans, *counts) = compact(spans, counts.iter().copied(), empty_max);
    }
}

impl Histogram {
    /// Leaves out empty buckets, but for gaps of at most `empty_max` of them between buckets in use.
    pub fn compact(&mut self, empty_max: u32) {
        compact_deltas(&mut self.positive_spans, &mut self.positive_buckets, empty_max);
        compact_deltas(&mut self.negative_spans, &mut self.negative_buckets, empty_max);
    }
}

impl FloatHistogram {
    /// As [`Histogram::compact`].
    pub fn compact(&mut self, empty_max: u32) {
        compact_counts(&mut self.positive_spans, &mut self.positive_buckets, empty_max);
        compact_counts(&mut self.negative_spans, &mut self.negative_buckets, empty_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Shape<'a> = (&'a [(i32, u32)], &'a [i64]);

    fn check(before: Shape, empty_max: u32, after: Shape) {
        let spans = |list: &[(i32, u32)]| -> Vec<Span> {
            list.iter().map(|&(offset, length)| Span { offset, length }).collect()
        };
        let mut h = Histogram {
            positive_spans: spans(before.0),
            positive_buckets: before.1.to_vec(),
            negative_spans: spans(before.0),
            negative_buckets: before.1.to_vec(),
            ..Histogram::default()
        };
        let mut float = h.to_float();
        h.compact(empty_max);
        assert_eq!((&h.positive_spans, h.positive_buckets.as_slice()), (&spans(after.0), after.1), "{before:?}");
        assert_eq!((&h.negative_spans, &h.negative_buckets), (&h.positive_spans, &h.positive_buckets));
        float.compact(empty_max);
        assert_eq!(float, h.to_float());
    }

    #[test]
    fn empty_buckets_go() {
        check((&[(-3, 2), (2, 1)], &[1, 1, 1]), 0, (&[(-3, 2), (2, 1)], &[1, 1, 1]));
        check((&[(0, 0)], &[]), 0, (&[], &[]));
        check((&[(-2, 1), (0, 2), (3, 0), (1, 1)], &[1, 1, 0, 2]), 0, (&[(-2, 3), (4, 1)], &[1, 1, 0, 2]));
        // Counts 0 5 0 0 5 0.
        check((&[(1, 6)], &[0, 5, -5, 0, 5, -5]), 0, (&[(2, 1), (2, 1)], &[5, 0]));
        check((&[(1, 6)], &[0, 5, -5, 0, 5, -5]), 1, (&[(2, 1), (2, 1)], &[5, 0]));
        check((&[(1, 6)], &[0, 5, -5, 0, 5, -5]), 2, (&[(2, 4)], &[5, -5, 0, 5]));
        check((&[(0, 1), (2, 1)], &[3, 0]), 2, (&[(0, 4)], &[3, -3, 0, 3]));
        check((&[(5, 3)], &[0, 0, 0]), 2, (&[], &[]));
    }
}
