//! Start timestamps (feature `use-start-timestamps`): when a sample says since when it counts, a counter was reset where that
//! is behind the sample before, and what was counted since then needs no guess.
//!
//! `rate`, `increase`, `irate` and `resets` use them, of selectors only: subqueries have none. Series without start
//! timestamps never come here.

use std::ops::Range;

use crate::column::Column;
use crate::histograms::Note;
use crate::kernels::anchor;
use crate::windows::{Input, Pace};

impl Input<'_> {
    fn start(&self, at: usize) -> i64 {
        self.starts.get(at).copied().unwrap_or(0)
    }

    /// Whether start timestamps tell that a counter was reset between two samples.
    pub(crate) fn starts_anew(&self, before: usize, at: usize) -> bool {
        if self.starts.is_empty() {
            return false;
        }
        let (before_start, before, start, t) = (self.start(before), self.t[before], self.start(at), self.t[at]);
        match start.cmp(&before) {
            // Not known, or impossible.
            _ if start == 0 || start >= t => false,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            // A sample of a series of deltas, unless the start was never known and stands for the first sample.
            std::cmp::Ordering::Equal => before_start != 0 && before_start < before,
        }
    }

    /// Whether a sample says that it counts since before the one before it, and not since the same moment as that.
    fn overlaps(&self, before: usize, at: usize) -> bool {
        let start = self.start(at);
        start != 0 && start < self.t[before] && start != self.start(before)
    }

    /// Notes whether samples of a window overlap.
    pub(crate) fn note_overlap(&self, samples: Range<usize>, out: &mut Column) {
        if !self.starts.is_empty() && samples.skip(1).any(|at| self.overlaps(at - 1, at)) {
            out.note(Note::StartOverlap);
        }
    }

    /// Since when the first sample of the window of `step` counts, if that is inside the window.
    pub(crate) fn start_inside(&self, step: usize, first: usize) -> Option<i64> {
        let start = self.start(first);
        (start != 0 && start > self.windows.start(step) && start < self.t[first]).then_some(start)
    }

    /// What the difference of samples that begin with nothing at `start` is multiplied with, for the window of `step`.
    pub(crate) fn factor_since(&self, step: usize, start: i64, samples: &Range<usize>) -> f64 {
        let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1000.0;
        let (first, last) = (self.t[samples.start], self.t[samples.end - 1]);
        let between = match samples.len() {
            1 => 0.0,
            n => seconds(first, last) / (n - 1) as f64,
        };
        let mut to_end = seconds(last, self.windows.end(step));
        if to_end >= between * 1.1 {
            to_end = between / 2.0;
        }
        let sampled = seconds(start, last);
        (sampled + to_end) / sampled
    }
}

/// `rate` and `increase` of floats (`extrapolatedRate` in Prometheus).
pub(crate) fn differences(input: &Input<'_>, out: &mut Column, per_second: bool) {
    let v = input.v;
    let range_seconds = input.windows.range_seconds();
    let stretches = input.plan.stretches(input);
    let mut pace = Pace::new(input.control);
    for (step, &(lo, hi)) in input.plan.bounds().iter().enumerate() {
        let samples = lo as usize..hi as usize;
        if samples.is_empty() {
            continue;
        }
        if !pace.goes_on(samples.len()) {
            return;
        }
        let (first, last) = (samples.start, samples.end - 1);
        let mut result = v[last] - v[first];
        for at in first + 1..=last {
            if v[at] < v[at - 1] || input.starts_anew(at - 1, at) {
                result += v[at - 1];
            }
        }
        input.note_overlap(samples.clone(), out);
        let mut factor = match input.start_inside(step, first) {
            Some(start) => {
                result += v[first];
                input.factor_since(step, start, &samples)
            }
            None if samples.len() == 1 => continue,
            None => {
                let stretch = stretches.at(step);
                let to_zero = match result > 0.0 && v[first] >= 0.0 {
                    true => stretch.sampled * (v[first] / result),
                    false => stretch.to_start,
                };
                let to_start = if to_zero < stretch.to_start { to_zero } else { stretch.to_start };
                (stretch.sampled + to_start + stretch.to_end) / stretch.sampled
            }
        };
        if per_second {
            factor /= range_seconds;
        }
        out.set(step, result * factor);
    }
}

/// `irate` of floats.
pub(crate) fn last_two(input: &Input<'_>, out: &mut Column) {
    for (step, &(lo, hi)) in input.plan.bounds().iter().enumerate() {
        if hi < lo + 2 {
            continue;
        }
        let (before, at) = (hi as usize - 2, hi as usize - 1);
        let (v1, v2) = (input.v[before], input.v[at]);
        let difference = if v2 < v1 || input.starts_anew(before, at) { v2 } else { v2 - v1 };
        out.set(step, difference / (input.t[at].saturating_sub(input.t[before]) as f64 / 1000.0));
    }
}

/// `resets` of floats.
pub(crate) fn resets(input: &Input<'_>, out: &mut Column, anchored: bool) {
    // How many there are up to each sample.
    let mut counts = Vec::with_capacity(input.t.len());
    let mut count = 0u32;
    for at in 0..input.t.len() {
        let is_reset = at > 0 && (input.v[at] < input.v[at - 1] || input.starts_anew(at - 1, at));
        count += u32::from(is_reset);
        counts.push(count);
    }
    for (step, &(lo, hi)) in input.plan.bounds().iter().enumerate() {
        if lo < hi {
            let first = if anchored { anchor(input, step, lo as usize) } else { lo as usize };
            out.set(step, f64::from(counts[hi as usize - 1] - counts[first]));
        }
    }
}
