//! Buckets by their index: comparing the buckets of an open chunk with those of the next histogram, and putting counts
//! into a wider layout.

use fk_model::Span;

/// Indices of the buckets that spans describe.
#[derive(Clone, Debug)]
pub(crate) struct Indices<'a> {
    spans: std::slice::Iter<'a, Span>,
    index: i64,
    left: u32,
}

impl<'a> Indices<'a> {
    pub(crate) fn new(spans: &'a [Span]) -> Indices<'a> {
        Indices { spans: spans.iter(), index: 0, left: 0 }
    }
}

impl Iterator for Indices<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        while self.left == 0 {
            let span = self.spans.next()?;
            self.index += i64::from(span.offset);
            self.left = span.length;
        }
        self.left -= 1;
        self.index += 1;
        Some(self.index - 1)
    }
}

/// How the buckets of a histogram and of a chunk differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fit {
    /// The histogram has buckets that the chunk does not have.
    pub(crate) chunk_lacks: bool,
    /// The chunk has buckets that the histogram does not have.
    pub(crate) histogram_lacks: bool,
}

/// Goes through the union of two lists of buckets, ascending, each with its count where it has the bucket.
fn union<A: Copy, B: Copy>(
    (a, a_counts): (&[Span], impl Iterator<Item = A>),
    (b, b_counts): (&[Span], impl Iterator<Item = B>),
    mut each: impl FnMut(i64, Option<A>, Option<B>) -> bool,
) -> bool {
    let (mut a, mut b) = (Indices::new(a).zip(a_counts).peekable(), Indices::new(b).zip(b_counts).peekable());
    loop {
        let go_on = match (a.peek().copied(), b.peek().copied()) {
            (None, None) => return true,
            (Some((index, x)), Some((other, y))) if index == other => {
                a.next();
                b.next();
                each(index, Some(x), Some(y))
            }
            (Some((index, x)), other) if other.is_none_or(|(other, _)| index < other) => {
                a.next();
                each(index, Some(x), None)
            }
            (_, Some((index, y))) => {
                b.next();
                each(index, None, Some(y))
            }
            (Some(_), None) => unreachable!("taken by the arm before"),
        };
        if !go_on {
            return false;
        }
    }
}

/// Compares the counts of a chunk's last sample with those of the next histogram; `None` if one has fallen, or is gone
/// and was not zero.
pub(crate) fn fit_counter<C: Copy + PartialOrd + Default>(
    chunk: (&[Span], impl Iterator<Item = C>),
    histogram: (&[Span], impl Iterator<Item = C>),
) -> Option<Fit> {
    let mut fit = Fit::default();
    let risen = union(chunk, histogram, |_, before, now| match (before, now) {
        (Some(before), Some(now)) => before.partial_cmp(&now) != Some(std::cmp::Ordering::Greater),
        (Some(before), None) => {
            fit.histogram_lacks = true;
            before == C::default()
        }
        _ => {
            fit.chunk_lacks = true;
            true
        }
    });
    risen.then_some(fit)
}

/// Compares the buckets alone.
pub(crate) fn fit_gauge(chunk: &[Span], histogram: &[Span]) -> Fit {
    let mut fit = Fit::default();
    union((chunk, std::iter::repeat(())), (histogram, std::iter::repeat(())), |_, before, now| {
        fit.histogram_lacks |= now.is_none();
        fit.chunk_lacks |= before.is_none();
        true
    });
    fit
}

/// Spans of all buckets of both, with as few spans as possible.
pub(crate) fn merged(a: &[Span], b: &[Span]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    union((a, std::iter::repeat(())), (b, std::iter::repeat(())), |index, _, _| {
        match spans.last_mut() {
            Some(last) if index == next => last.length += 1,
            _ => spans.push(Span { offset: (index - next) as i32, length: 1 }),
        }
        next = index + 1;
        true
    });
    spans
}

/// The counts of `from` in the buckets of `to`, which has all buckets of `from`; 0 where `from` has none.
pub(crate) fn spread<C: Copy + Default>(
    from: &[Span],
    counts: impl Iterator<Item = C>,
    to: &[Span],
) -> impl Iterator<Item = C> {
    let mut from = Indices::new(from).zip(counts).peekable();
    Indices::new(to).map(move |index| from.next_if(|(of, _)| *of == index).map_or(C::default(), |(_, count)| count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(i32, u32)]) -> Vec<Span> {
        list.iter().map(|&(offset, length)| Span { offset, length }).collect()
    }

    #[test]
    fn chunk_and_histogram_are_compared_bucket_by_bucket() {
        let a = spans(&[(0, 2), (0, 0), (2, 1)]);
        let b = spans(&[(-1, 1), (1, 4)]);
        assert_eq!(Indices::new(&a).collect::<Vec<_>>(), [0, 1, 4]);
        assert_eq!(Indices::new(&b).collect::<Vec<_>>(), [-1, 1, 2, 3, 4]);
        assert_eq!(merged(&a, &b), spans(&[(-1, 6)]));
        assert_eq!(merged(&[], &spans(&[(3, 1), (0, 1), (5, 1)])), spans(&[(3, 2), (5, 1)]));
        let fit = |first| fit_counter((&a, [first, 5, 7].into_iter()), (&b, [1, 5, 0, 0, 8].into_iter()));
        assert_eq!(fit(0), Some(Fit { chunk_lacks: true, histogram_lacks: true }));
        assert_eq!(fit(1), None);
        let fallen = fit_counter((&a, [0, 5, 7].into_iter()), (&b, [1, 4, 0, 0, 8].into_iter()));
        assert_eq!(fallen, None);
        assert_eq!(fit_gauge(&a, &a), Fit::default());
        assert_eq!(fit_gauge(&a, &b), Fit { chunk_lacks: true, histogram_lacks: true });
        assert_eq!(fit_gauge(&a, &[]), Fit { chunk_lacks: false, histogram_lacks: true });
        let wide = merged(&a, &b);
        assert_eq!(spread(&a, [1, 2, 3].into_iter(), &wide).collect::<Vec<_>>(), [0, 1, 2, 0, 0, 3]);
    }
}
