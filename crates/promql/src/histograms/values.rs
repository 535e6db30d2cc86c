//! Columns with histograms.

use std::sync::Arc;

use fk_model::{FloatHistogram, SampleValue as Value};

use crate::column::{Bits, Column, Histograms};
use crate::histograms::Note;
use crate::histograms::over_range::extra_samples;
use crate::windows::Lookback;

impl Column {
    /// Whether any value is a histogram. Steps without a value may have left one behind, so this may be true without need.
    #[inline]
    pub(crate) fn has_histograms(&self) -> bool {
        self.h.as_ref().is_some_and(|h| !h.at.is_empty())
    }

    /// Whether there is neither a value nor anything to tell.
    #[inline]
    pub(crate) fn says_nothing(&self) -> bool {
        self.ok.is_empty() && self.h.as_ref().is_none_or(|h| h.notes.is_empty())
    }

    /// The histogram of a step that has a value; `None`: it is a float.
    #[inline]
    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.h.as_ref()?.at.get(step)?.as_ref()
    }

    /// The value of a step that has one.
    pub(crate) fn value(&self, step: usize) -> Value {
        match self.histogram(step) {
            Some(h) => Value::Histogram(Arc::clone(h)),
            None => Value::Float(self.v[step]),
        }
    }

    /// Sets a value of either kind.
    pub(crate) fn set_value(&mut self, step: usize, value: Value) {
        match value {
            Value::Float(v) => self.set_float(step, v),
            Value::Histogram(h) => self.set_histogram(step, h),
        }
    }

    /// Sets a float where there may have been a histogram.
    pub(crate) fn set_float(&mut self, step: usize, v: f64) {
        if let Some(slot) = self.h.as_mut().and_then(|h| h.at.get_mut(step)) {
            *slot = None;
        }
        self.set(step, v);
    }

    /// Sets a histogram.
    pub(crate) fn set_histogram(&mut self, step: usize, h: Arc<FloatHistogram>) {
        let n = self.v.len();
        let at = &mut self.h.get_or_insert_default().at;
        if at.is_empty() {
            at.resize(n, None);
        }
        at[step] = Some(h);
        self.ok.set(step);
    }

    /// Notes something to be told about the samples.
    pub(crate) fn note(&mut self, note: Note) {
        self.h.get_or_insert_default().notes.add(note);
    }

    /// Whether any value is a float.
    pub(crate) fn has_floats(&self) -> bool {
        self.ok.iter().any(|step| self.histogram(step).is_none())
    }

    /// The steps whose value is a histogram.
    pub(crate) fn histogram_steps(&self) -> Bits {
        let mut steps = Bits::none(self.v.len());
        if let Some(h) = &self.h {
            h.at.iter().enumerate().filter(|(_, h)| h.is_some()).for_each(|(step, _)| steps.set(step));
            steps.and(&self.ok);
        }
        steps
    }

    /// The histograms among the values of the steps that `wanted` accepts, each with its index among those values.
    pub(crate) fn sparse_histograms(&self, wanted: impl Fn(usize) -> bool) -> Vec<(u32, Arc<FloatHistogram>)> {
        if !self.has_histograms() {
            return Vec::new();
        }
        let steps = self.ok.iter().filter(|step| wanted(*step)).enumerate();
        steps.filter_map(|(at, step)| self.histogram(step).map(|h| (at as u32, Arc::clone(h)))).collect()
    }

    /// Puts in the histograms of an instant selector. `newest`: by step the sample, whose float is there already.
    pub(crate) fn add_newest(&mut self, newest: &[u32], histograms: &[(u32, Arc<FloatHistogram>)]) {
        let mut next = histograms.iter().peekable();
        for (step, at) in newest.iter().enumerate().filter(|(_, at)| **at != Lookback::NONE) {
            while next.next_if(|(of, _)| of < at).is_some() {}
            if let Some((_, h)) = next.peek().filter(|(of, h)| of == at && !h.is_stale()) {
                self.set_histogram(step, Arc::clone(h));
            }
        }
    }

    /// How many samples the value of a step counts as.
    pub(crate) fn samples_at(&self, step: usize) -> usize {
        1 + self.histogram(step).map_or(0, |h| extra_samples(h))
    }

    /// How many samples all values count as.
    #[inline]
    pub(crate) fn samples(&self) -> usize {
        match self.has_histograms() {
            true => self.ok.iter().map(|step| self.samples_at(step)).sum(),
            false => self.ok.count(),
        }
    }

    /// Replaces each histogram by a changed one; equal ones that are shared are changed once.
    pub(crate) fn map_histograms(&mut self, f: impl Fn(&mut FloatHistogram)) {
        let Some(h) = &mut self.h else { return };
        let mut before: Option<(Arc<FloatHistogram>, Arc<FloatHistogram>)> = None;
        for slot in h.at.iter_mut().flatten() {
            match &before {
                Some((old, new)) if Arc::ptr_eq(old, slot) => *slot = Arc::clone(new),
                _ => {
                    let old = Arc::clone(slot);
                    f(Arc::make_mut(slot));
                    before = Some((old, Arc::clone(slot)));
                }
            }
        }
    }

    /// Leaves nothing but floats.
    pub(crate) fn drop_histograms(&mut self) {
        if self.has_histograms() {
            let steps = self.histogram_steps();
            self.ok.and_not(&steps);
        }
        self.h = None;
    }

    /// Takes over the histograms of `other`; see [`Column::merge`].
    pub(crate) fn merge_histograms(&mut self, other: &Column) {
        if let Some(h) = self.h.as_mut().filter(|h| !h.at.is_empty()) {
            // What filters left behind must not look like a value.
            other.ok.iter().for_each(|step| h.at[step] = None);
        }
        let Some(h) = &other.h else { return };
        let n = self.v.len();
        let own = self.h.get_or_insert_default();
        own.notes.merge(h.notes);
        if h.at.is_empty() {
            return;
        }
        if own.at.is_empty() {
            own.at.resize(n, None);
        }
        for step in other.ok.iter() {
            own.at[step].clone_from(&h.at[step]);
        }
    }

    /// The same value at all of `n` steps: that of the first.
    pub(crate) fn spread(&self, n: usize) -> Column {
        let mut spread = Column::constant(self.v.first().copied().unwrap_or_default(), n);
        if let Some(h) = self.histogram(0) {
            spread.h = Some(Box::new(Histograms { at: vec![Some(Arc::clone(h)); n], ..Histograms::default() }));
        }
        spread
    }
}
