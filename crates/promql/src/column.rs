//! Values of one series at all steps, and the series that operators hand on.
//!
//! A value is a float or a native histogram. Most series never have a histogram: those pay one pointer that is null, and
//! operators look at it once per series before they take the path of floats.

use std::sync::Arc;

use fk_model::{FloatHistogram, Labels};
use fk_storage::Control;
use smallvec::SmallVec;

use crate::histograms::Notes;
use crate::windows::CHECK_SAMPLES;

/// A set of steps, one bit each. Up to 128 steps need no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(SmallVec<[u64; 2]>);

impl Bits {
    /// No step of `n`.
    pub(crate) fn none(n: usize) -> Bits {
        Bits(SmallVec::from_elem(0, n.div_ceil(64)))
    }

    /// All `n` steps.
    pub(crate) fn all(n: usize) -> Bits {
        let mut bits = Bits::none(n);
        bits.fill(n);
        bits
    }

    /// Makes it no step of `n`.
    pub(crate) fn clear(&mut self, n: usize) {
        self.0.clear();
        self.0.resize(n.div_ceil(64), 0);
    }

    /// Makes it all of `n` steps.
    pub(crate) fn fill(&mut self, n: usize) {
        self.0.clear();
        self.0.resize(n.div_ceil(64), u64::MAX);
        if let (Some(last), used) = (self.0.last_mut(), n % 64)
            && used > 0
        {
            *last = (1 << used) - 1;
        }
    }

    #[inline]
    pub(crate) fn get(&self, step: usize) -> bool {
        self.0[step / 64] >> (step % 64) & 1 == 1
    }

    #[inline]
    pub(crate) fn set(&mut self, step: usize) {
        self.0[step / 64] |= 1 << (step % 64);
    }

    #[inline]
    pub(crate) fn unset(&mut self, step: usize) {
        self.0[step / 64] &= !(1 << (step % 64));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn and(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    pub(crate) fn and_not(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
    }

    pub(crate) fn or(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// The first step that is in both.
    pub(crate) fn first_common(&self, other: &Bits) -> Option<usize> {
        let common = self.0.iter().zip(&other.0).map(|(a, b)| a & b);
        common.enumerate().find(|(_, word)| *word != 0).map(|(at, word)| at * 64 + word.trailing_zeros() as usize)
    }

    /// The steps, ascending.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                (word != 0).then(|| {
                    word &= word - 1;
                    at * 64 + bit
                })
            })
        })
    }
}

/// One value per step where there is one. Invariant: `v.len()` is the number of steps; values of steps that are not in
/// `ok` mean nothing, be they floats or histograms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    pub(crate) v: Vec<f64>,
    pub(crate) ok: Bits,
    /// The histograms among the values; `None` if there is none and there are no notes.
    pub(crate) h: Option<Box<Histograms>>,
}

/// The histograms of a column, and what is to be told about the samples they come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histograms {
    /// By step; `None`: the value is the float. Invariant: as long as the column.
    pub(crate) at: Vec<Option<Arc<FloatHistogram>>>,
    /// What a function of a range vector found; whoever called it knows metric name and place.
    pub(crate) notes: Notes,
}

impl Column {
    /// Without a value, `n` steps.
    pub(crate) fn none(n: usize) -> Column {
        Column { v: vec![0.0; n], ok: Bits::none(n), h: None }
    }

    /// The same value everywhere.
    pub(crate) fn constant(v: f64, n: usize) -> Column {
        Column { v: vec![v; n], ok: Bits::all(n), h: None }
    }

    /// Memory of the values.
    pub(crate) fn bytes(&self) -> usize {
        self.v.capacity() * size_of::<f64>() + self.v.len() / 8 + self.histogram_bytes()
    }

    /// Memory of the histograms among them, which may be shared with others.
    pub(crate) fn histogram_bytes(&self) -> usize {
        if self.h.is_none() {
            return 0;
        }
        self.ok.iter().filter_map(|step| self.histogram(step)).map(|h| bytes_of(h)).sum()
    }

    /// Forgets the values; `n` steps from now on.
    pub(crate) fn clear(&mut self, n: usize) {
        self.v.clear();
        self.v.resize(n, 0.0);
        self.ok.clear(n);
        self.h = None;
    }

    /// Sets a float. Of a column with histograms use [`Column::set_float`].
    #[inline]
    pub(crate) fn set(&mut self, step: usize, v: f64) {
        debug_assert!(self.histogram(step).is_none());
        self.v[step] = v;
        self.ok.set(step);
    }

    /// Sets the values of a column without any: at each step what `f` gives, in their order. Stops early if the control says so:
    /// look at it again behind this.
    #[inline]
    pub(crate) fn fill(&mut self, control: &Control, mut f: impl FnMut(usize) -> Option<f64>) {
        for (at, (word, values)) in self.ok.0.iter_mut().zip(self.v.chunks_mut(64)).enumerate() {
            if at % (CHECK_SAMPLES / 64) == CHECK_SAMPLES / 64 - 1 && control.check().is_err() {
                return;
            }
            let mut bits = 0;
            for (bit, value) in values.iter_mut().enumerate() {
                if let Some(v) = f(at * 64 + bit) {
                    *value = v;
                    bits |= 1 << bit;
                }
            }
            *word = bits;
        }
    }

    /// Replaces each value; the closure sees those of steps without a value, too.
    #[inline]
    pub(crate) fn map(&mut self, f: impl Fn(f64) -> f64) {
        self.v.iter_mut().for_each(|v| *v = f(*v));
    }

    /// The steps with their values.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.ok.iter().map(|step| (step, self.v[step]))
    }

    /// Adds the values of `other`, which has none where we have one.
    pub(crate) fn merge(&mut self, other: &Column) {
        for (step, v) in other.iter() {
            self.v[step] = v;
        }
        self.merge_histograms(other);
        self.ok.or(&other.ok);
    }
}

/// Memory of a histogram.
pub(crate) fn bytes_of(h: &FloatHistogram) -> usize {
    let buckets = h.positive_buckets.len() + h.negative_buckets.len();
    let spans = h.positive_spans.len() + h.negative_spans.len();
    size_of::<FloatHistogram>() + 8 * (buckets + spans)
}

/// A series of an instant vector at all steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// The metric name is to be dropped at the end (only with delayed name removal).
    pub(crate) drop_name: bool,
    pub(crate) col: Column,
}

impl Series {
    /// Memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Series>() + self.labels.byte_len() + self.col.bytes()
    }
}

/// The steps of an evaluation: `start`, `start + step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// First step, ms.
    pub(crate) start: i64,
    /// Distance, ms; at least 1.
    pub(crate) step: i64,
    /// How many steps; may be 0.
    pub(crate) n: usize,
}

impl Grid {
    /// One step.
    pub(crate) fn instant(t: i64) -> Grid {
        Grid { start: t, step: 1, n: 1 }
    }

    /// Time of step `i`, ms.
    #[inline]
    pub(crate) fn t(&self, i: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_a_set_of_steps() {
        for n in [0, 1, 63, 64, 65, 128, 129, 1000] {
            assert_eq!((Bits::all(n).count(), Bits::none(n).count()), (n, 0), "{n}");
            assert_eq!(Bits::all(n).iter().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
        }
        let (mut a, mut b) = (Bits::none(200), Bits::none(200));
        [3, 70, 199].into_iter().for_each(|i| a.set(i));
        [4, 70, 130].into_iter().for_each(|i| b.set(i));
        assert_eq!((a.first_common(&b), a.get(70), a.get(71)), (Some(70), true, false));
        a.unset(70);
        assert_eq!(a.first_common(&b), None);
        a.or(&b);
        assert_eq!(a.iter().collect::<Vec<_>>(), [3, 4, 70, 130, 199]);
        a.and_not(&b);
        assert_eq!(a.iter().collect::<Vec<_>>(), [3, 199]);
    }
}
