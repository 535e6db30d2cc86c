//! Windows over the samples of a series: which samples each step of a range function sees.

use std::cell::OnceCell;
use std::sync::Arc;

use fk_model::FloatHistogram;
use fk_storage::{Control, Samples, Stopped};

use crate::column::Grid;
use crate::regression::{Lines, Origin};

/// The windows of all steps. Step `i` sees the samples of `(refs.t(i) - range_ms, refs.t(i)]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Times of the steps.
    pub(crate) eval: Grid,
    /// Ends of the windows: the times of the steps, less the offset; with `@` all the same (step 0).
    pub(crate) refs: Grid,
    /// Length, ms.
    pub(crate) range_ms: i64,
    /// How far `anchored` and `smoothed` look beyond the ends, ms; 0 otherwise.
    pub(crate) beyond_ms: i64,
}

impl Windows {
    /// End of the window of step `i`, included.
    #[inline]
    pub(crate) fn end(&self, i: usize) -> i64 {
        self.refs.t(i)
    }

    /// Start of the window of step `i`, not included.
    #[inline]
    pub(crate) fn start(&self, i: usize) -> i64 {
        self.refs.t(i).saturating_sub(self.range_ms)
    }

    /// The length in seconds, computed as Go computes `time.Duration.Seconds`.
    pub(crate) fn range_seconds(&self) -> f64 {
        (self.range_ms / 1000) as f64 + (self.range_ms % 1000 * 1_000_000) as f64 / 1e9
    }
}

/// First sample inside, and first sample behind the window.
pub(crate) type Bounds = (u32, u32);

/// The bounds of all windows for one column of times. Series of one target share their times, so the bounds of a series
/// mostly serve the next one, too: comparing the times is much cheaper than sliding over them.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    times: Vec<i64>,
    bounds: Vec<Bounds>,
    /// Samples in all windows, counted once for each window.
    total: u64,
    /// The same, each sample counted once.
    distinct: u64,
    valid: bool,
    extrapolation: OnceCell<Vec<Extrapolation>>,
    lines: OnceCell<Lines>,
}

/// How far `rate` and its like extrapolate the samples of a window: all that depends on times only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extrapolation {
    /// From the first to the last sample, seconds.
    pub(crate) sampled: f64,
    /// From the start of the window, or as far as the result is stretched towards it, seconds.
    pub(crate) to_start: f64,
    /// The same for the end.
    pub(crate) to_end: f64,
    /// What the difference of the samples is multiplied with.
    pub(crate) factor: f64,
    /// The same per second of the window.
    pub(crate) factor_per_second: f64,
}

impl Extrapolation {
    fn new(t: &[i64], start: i64, end: i64, range_seconds: f64) -> Extrapolation {
        let [first, .., last] = t else { return Extrapolation::default() };
        let mut to_start = first.saturating_sub(start) as f64 / 1000.0;
        let mut to_end = end.saturating_sub(*last) as f64 / 1000.0;
        let sampled = last.saturating_sub(*first) as f64 / 1000.0;
        let between = sampled / (t.len() - 1) as f64;
        // Samples this far from the end of the window mean that the series starts or ends inside it.
        let threshold = between * 1.1;
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        let factor = (sampled + to_start + to_end) / sampled;
        Extrapolation { sampled, to_start, to_end, factor, factor_per_second: factor / range_seconds }
    }
}

/// Most steps whose extrapolations are kept for the next series.
const STRETCHES_MAX: usize = 1 << 16;

/// The extrapolations of all steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretches<'a> {
    windows: &'a Windows,
    times: &'a [i64],
    bounds: &'a [Bounds],
    /// By step, if they are kept.
    kept: &'a [Extrapolation],
}

impl Stretches<'_> {
    /// That of one step; means nothing if its window has fewer than two samples.
    #[inline]
    pub(crate) fn at(&self, step: usize) -> Extrapolation {
        match self.kept.get(step) {
            Some(kept) => *kept,
            None => self.compute(step),
        }
    }

    fn compute(&self, step: usize) -> Extrapolation {
        let (lo, hi) = self.bounds[step];
        let (windows, times) = (self.windows, &self.times[lo as usize..hi as usize]);
        Extrapolation::new(times, windows.start(step), windows.end(step), windows.range_seconds())
    }
}

impl Plan {
    /// Bounds of the windows over samples at times `t`. Fails if the control says so before all are found.
    pub(crate) fn update(&mut self, windows: &Windows, t: &[i64], control: &Control) -> Result<(), Stopped> {
        if self.valid && self.times == t {
            return Ok(());
        }
        self.valid = false;
        self.extrapolation.take();
        self.lines.take();
        self.times.clear();
        self.times.extend_from_slice(t);
        self.bounds.clear();
        self.bounds.reserve(windows.eval.n);
        (self.total, self.distinct) = (0, 0);
        let (mut lo, mut hi) = (0, 0);
        for first in (0..windows.eval.n).step_by(CHECK_SAMPLES) {
            control.check()?;
            for i in first..windows.eval.n.min(first + CHECK_SAMPLES) {
                let (start, end) = (windows.start(i), windows.end(i));
                let seen = hi;
                while hi < t.len() && t[hi] <= end {
                    hi += 1;
                }
                while lo < hi && t[lo] <= start {
                    lo += 1;
                }
                self.bounds.push((lo as u32, hi as u32));
                self.total += (hi - lo) as u64;
                self.distinct += (hi - seen.max(lo)) as u64;
            }
        }
        self.valid = true;
        Ok(())
    }

    /// Memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let of_step = size_of::<Bounds>() + self.extrapolation.get().map_or(0, |_| size_of::<Extrapolation>());
        let lines = self.lines.get().map_or(0, Lines::bytes);
        self.times.capacity() * size_of::<i64>() + self.bounds.capacity() * of_step + lines
    }

    pub(crate) fn bounds(&self) -> &[Bounds] {
        &self.bounds
    }

    /// What depends on times only, for the functions that extrapolate.
    pub(crate) fn stretches<'a>(&'a self, input: &Input<'a>) -> Stretches<'a> {
        let (windows, times, bounds) = (input.windows, &self.times[..], &self.bounds[..]);
        let mut stretches = Stretches { windows, times, bounds, kept: &[] };
        // Grids of more steps are seen once, by a subquery of one series or a few.
        if self.bounds.len() <= STRETCHES_MAX {
            let of_step = |step| stretches.compute(step);
            stretches.kept = self.extrapolation.get_or_init(|| (0..bounds.len()).map(of_step).collect());
        }
        stretches
    }

    /// What lines through the samples of the windows owe to the times. A plan serves one function, so the origin is always the
    /// same.
    pub(crate) fn lines(&self, input: &Input<'_>, origin: Origin) -> &Lines {
        let lines = self.lines.get_or_init(|| Lines::new(origin, input));
        debug_assert_eq!(lines.origin(), origin);
        lines
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }
}

/// What a range function computes from: the samples of one series and the windows over them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) windows: &'a Windows,
    pub(crate) t: &'a [i64],
    /// Values; of histograms nothing that means anything.
    pub(crate) v: &'a [f64],
    /// The histograms among the samples: index, ascending, and histogram. Kernels of floats only run if there is none.
    pub(crate) histograms: &'a [(u32, Arc<FloatHistogram>)],
    /// Start timestamps of the samples, ms, 0 where not known; none where they are not used or none is known.
    pub(crate) starts: &'a [i64],
    /// The plan for `t`.
    pub(crate) plan: &'a Plan,
    /// Ends a long computation early. The result is incomplete then: whoever runs a kernel checks again behind it.
    pub(crate) control: &'a Control,
}

/// Samples between two looks at the control.
pub(crate) const CHECK_SAMPLES: usize = 1 << 16;

/// Looks at the control now and then while windows are computed, since a single series with long windows can keep a
/// thread busy for minutes.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    control: &'a Control,
    left: usize,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(control: &'a Control) -> Pace<'a> {
        Pace { control, left: CHECK_SAMPLES }
    }

    /// Notes that another `samples` were looked at; whether to go on.
    #[inline]
    pub(crate) fn goes_on(&mut self, samples: usize) -> bool {
        if samples < self.left {
            self.left -= samples;
            return true;
        }
        self.left = CHECK_SAMPLES;
        self.control.check().is_ok()
    }
}

/// The newest sample within the lookback at each step, for one column of times; serves the next series with the same
/// times, too.
#[derive(Debug, Default)]
pub(crate) struct Lookback {
    times: Vec<i64>,
    newest: Vec<u32>,
    valid: bool,
}

impl Lookback {
    /// Memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<i64>() + self.newest.capacity() * size_of::<u32>()
    }

    /// There is no sample.
    pub(crate) const NONE: u32 = u32::MAX;

    /// Index of the newest sample of `(refs.t(i) - lookback_ms, refs.t(i)]` for each step `i`, or [`Lookback::NONE`]. Fails if
    /// the control says so before all are found.
    pub(crate) fn update(
        &mut self,
        refs: &Grid,
        lookback_ms: i64,
        t: &[i64],
        control: &Control,
    ) -> Result<&[u32], Stopped> {
        if self.valid && self.times == t {
            return Ok(&self.newest);
        }
        self.valid = false;
        self.times.clear();
        self.times.extend_from_slice(t);
        self.newest.clear();
        self.newest.reserve(refs.n);
        let mut next = 0;
        for first in (0..refs.n).step_by(CHECK_SAMPLES) {
            control.check()?;
            for step in first..refs.n.min(first + CHECK_SAMPLES) {
                let at = refs.t(step);
                while next < t.len() && t[next] <= at {
                    next += 1;
                }
                let newest = next.checked_sub(1).filter(|newest| t[*newest] > at.saturating_sub(lookback_ms));
                self.newest.push(newest.map_or(Lookback::NONE, |newest| newest as u32));
            }
        }
        self.valid = true;
        Ok(&self.newest)
    }
}

/// Removes staleness markers: range functions do not see them.
pub(crate) fn remove_stale(samples: &mut Samples) {
    // Markers are NaN, and NaN is looked for many values at a time.
    let has_nan = |values: &[f64]| values.iter().fold(false, |any, v| any | v.is_nan());
    let suspect = samples.v.chunks(64).position(has_nan).map_or(samples.len(), |chunk| chunk * 64);
    let Some(first) = samples.v[suspect..].iter().position(|v| fk_model::is_stale(*v)) else { return };
    let first = suspect + first;
    let mut kept = first;
    let (mut histograms, mut kept_histograms) =
        (std::mem::take(&mut samples.histograms).into_iter().peekable(), Vec::new());
    while let Some(before) = histograms.next_if(|(at, _)| (*at as usize) < first) {
        kept_histograms.push(before);
    }
    for i in first..samples.len() {
        let histogram = histograms.next_if(|(at, _)| *at as usize == i);
        if !fk_model::is_stale(samples.v[i]) {
            samples.t[kept] = samples.t[i];
            samples.v[kept] = samples.v[i];
            if let Some(start) = samples.starts.get(i).copied() {
                samples.starts[kept] = start;
            }
            kept_histograms.extend(histogram.map(|(_, h)| (kept as u32, h)));
            kept += 1;
        }
    }
    samples.histograms = kept_histograms;
    samples.t.truncate(kept);
    samples.v.truncate(kept);
    samples.starts.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_on_the_left() {
        let eval = Grid { start: 20, step: 10, n: 4 };
        let windows = Windows { eval, refs: eval, range_ms: 20, beyond_ms: 0 };
        let mut plan = Plan::default();
        let control = Control::new();
        plan.update(&windows, &[0, 10, 20, 40], &control).unwrap();
        assert_eq!((plan.bounds(), plan.total(), plan.distinct()), (&[(1, 3), (2, 3), (3, 4), (3, 4)][..], 5, 3));
        plan.update(&windows, &[100], &control).unwrap();
        assert_eq!((plan.bounds(), plan.total()), (&[(0, 0); 4][..], 0));
    }

    #[test]
    fn staleness_markers_go() {
        let stale = fk_model::stale_nan();
        let h = Arc::new(FloatHistogram::default());
        let mut samples = Samples {
            t: vec![1, 2, 3, 4],
            v: vec![1.0, stale, 3.0, stale],
            histograms: vec![(0, Arc::clone(&h)), (1, Arc::clone(&h)), (2, Arc::clone(&h))],
            ..Samples::default()
        };
        remove_stale(&mut samples);
        let histograms = vec![(0, Arc::clone(&h)), (1, h)];
        assert_eq!(samples, Samples { t: vec![1, 3], v: vec![1.0, 3.0], histograms, ..Samples::default() });
    }
}
