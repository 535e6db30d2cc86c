//! Histograms in `anchored` and `smoothed` ranges and in `smoothed` instant selectors (`extendedHistogramRate` and
//! `smoothSeries` in Prometheus).

use std::sync::Arc;

use fk_model::histogram::IncompatibleBuckets;
use fk_model::{CounterReset, FloatHistogram};
use fk_storage::Samples;

use super::Note;
use super::over_range::{SAMPLES_PER_HISTOGRAM, Within};
use crate::column::{Column, Grid};
use crate::kernels::interpolate;
use crate::windows::{Input, Pace};

/// A histogram with its time.
type Point<'a> = (i64, &'a FloatHistogram);

/// The histogram at time `at` on the line between two, or one of them. Between those of a counter that was reset the line
/// begins at nothing.
fn interpolated(
    (t1, h1): Point<'_>,
    (t2, h2): Point<'_>,
    at: i64,
    counter: bool,
    out: &mut Column,
) -> Result<FloatHistogram, IncompatibleBuckets> {
    if at == t1 {
        return Ok(h1.clone());
    }
    let mut result = h2.clone();
    if at == t2 {
        return Ok(result);
    }
    let fraction = at.saturating_sub(t1) as f64 / t2.saturating_sub(t1) as f64;
    if counter && h2.is_reset(h1) {
        result.mul(fraction);
        return Ok(result);
    }
    if result.sub(h1)?.reconciled {
        out.note(Note::ReconciledSub);
    }
    result.mul(fraction);
    if result.add(h1)?.reconciled {
        out.note(Note::ReconciledAdd);
    }
    Ok(result)
}

/// `rate`, `increase` and `delta` of a range whose windows reach beyond their ends. The floats are done.
pub(super) fn differences(input: &Input<'_>, smoothed: bool, counter: bool, per_second: bool, out: &mut Column) {
    let windows = input.windows;
    let mut within = Within::new(input.histograms);
    let mut pace = Pace::new(input.control);
    for step in 0..windows.eval.n {
        let (start, end) = (windows.start(step), windows.end(step));
        let last_time = if smoothed { end.saturating_add(windows.beyond_ms) } else { end };
        let lo = input.t.partition_point(|t| *t <= start.saturating_sub(windows.beyond_ms));
        let hi = input.t.partition_point(|t| *t <= last_time);
        let found = within.range(&(lo..hi));
        if found.is_empty() {
            continue;
        }
        if !pace.goes_on(SAMPLES_PER_HISTOGRAM * found.len()) {
            return;
        }
        if found.len() < hi.saturating_sub(lo) {
            out.ok.unset(step);
            out.note(Note::MixedFloats);
            continue;
        }
        let points: Vec<Point<'_>> =
            input.histograms[found].iter().map(|(at, h)| (input.t[*at as usize], &**h)).collect();
        let range = Extended { points: &points, start, end, smoothed, counter };
        match range.difference(out) {
            Ok(Some(mut result)) => {
                if per_second {
                    result.div(windows.range_seconds());
                }
                result.counter_reset = CounterReset::Gauge;
                result.compact(0);
                out.set_histogram(step, Arc::new(result));
            }
            Ok(None) => {}
            Err(IncompatibleBuckets) => out.note(Note::MixedBuckets),
        }
    }
}

/// One window.
struct Extended<'a> {
    /// What it may look at; not empty.
    points: &'a [Point<'a>],
    start: i64,
    end: i64,
    smoothed: bool,
    counter: bool,
}

impl Extended<'_> {
    fn difference(&self, out: &mut Column) -> Result<Option<FloatHistogram>, IncompatibleBuckets> {
        let points = self.points;
        let newest = points.len() - 1;
        let first = points[..newest].partition_point(|(t, _)| *t <= self.start).saturating_sub(1);
        let last = match self.smoothed {
            true => points[..newest].partition_point(|(t, _)| *t < self.end),
            false => newest,
        };
        if points[last].0 <= self.start || (self.smoothed && points[first].0 > self.end) {
            return Ok(None);
        }
        let inside = points.get(first..=last).unwrap_or_default();
        let custom = points[first].1.uses_custom_buckets();
        for (_, h) in inside {
            if h.uses_custom_buckets() != custom {
                return Err(IncompatibleBuckets);
            }
            if self.counter && h.counter_reset == CounterReset::Gauge {
                out.note(Note::NotCounter);
            }
        }
        let left = match points.get(first + 1) {
            Some(next) if self.smoothed && points[first].0 < self.start => {
                interpolated(points[first], *next, self.start, self.counter, out)?
            }
            _ => points[first].1.clone(),
        };
        let right = match last.checked_sub(1) {
            Some(before) if self.smoothed && points[last].0 > self.end => {
                interpolated(points[before], points[last], self.end, self.counter, out)?
            }
            _ => points[last].1.clone(),
        };
        if !self.counter && [&left, &right].iter().any(|h| h.counter_reset != CounterReset::Gauge) {
            out.note(Note::NotGauge);
        }
        let mut result = right.clone();
        if result.sub(&left)?.reconciled {
            out.note(Note::ReconciledSub);
        }
        if self.counter
            && let Some(lost) = self.lost(first, last, &left, &right, out)?
            && result.add(&lost)?.reconciled
        {
            out.note(Note::ReconciledAdd);
        }
        Ok(Some(result))
    }

    /// What was lost by counter resets between the ends.
    fn lost(
        &self,
        first: usize,
        last: usize,
        left: &FloatHistogram,
        right: &FloatHistogram,
        out: &mut Column,
    ) -> Result<Option<FloatHistogram>, IncompatibleBuckets> {
        let points = self.points;
        let (mut before, mut from) = (left, first + 1);
        // A reset that the left end was interpolated over is in it already.
        if let Some((_, next)) = points.get(first + 1)
            && self.smoothed
            && points[first].0 < self.start
            && next.is_reset(points[first].1)
        {
            before = next;
            from += 1;
        }
        if from > last {
            return Ok(None);
        }
        let mut lost: Option<FloatHistogram> = None;
        // The right end has the hint of the last sample, so that one is not looked at twice.
        for now in points[from..last].iter().map(|(_, h)| *h).chain([right]) {
            if now.is_reset(before) {
                match &mut lost {
                    None => lost = Some(before.clone()),
                    Some(lost) => {
                        if lost.add(before)?.reconciled {
                            out.note(Note::ReconciledAdd);
                        }
                    }
                }
            }
            before = now;
        }
        Ok(lost)
    }
}

/// `smoothed` instant selectors: the value on the line between the samples around each step; the last one is carried
/// forward. A step that sees floats and histograms has none.
pub(crate) fn smooth(samples: &Samples, refs: &Grid, lookback: i64, col: &mut Column) {
    let t = &samples.t[..];
    let mut within = Within::new(&samples.histograms);
    for step in 0..refs.n {
        let at = refs.t(step);
        let seen = t.partition_point(|t| *t <= at.saturating_sub(lookback))
            ..t.partition_point(|t| *t <= at.saturating_add(lookback));
        let found = within.range(&seen);
        let next = seen.start.max(t.partition_point(|t| *t < at));
        let exact = (next < seen.end && t[next] == at).then_some(next);
        let before = next.checked_sub(1).filter(|before| seen.contains(before));
        let after = Some(next).filter(|next| seen.contains(next));
        if found.is_empty() {
            let value = match (exact, before, after) {
                (Some(exact), ..) => samples.v[exact],
                (None, Some(a), Some(b)) => interpolate((t[a], samples.v[a]), (t[b], samples.v[b]), at, false),
                (None, Some(a), None) => samples.v[a],
                _ => continue,
            };
            col.set_float(step, value);
            continue;
        }
        if found.len() < seen.len() {
            col.note(Note::MixedFloats);
            continue;
        }
        // All that is seen are histograms, so their places follow each other like those of the samples.
        let offset = |at: usize| &samples.histograms[found.start + (at - seen.start)].1;
        let result = match (exact, before, after) {
            (Some(exact), ..) => Arc::clone(offset(exact)),
            (None, Some(a), Some(b)) => {
                let (h1, h2) = (offset(a), offset(b));
                let gauges = [h1, h2].iter().all(|h| h.counter_reset == CounterReset::Gauge);
                match interpolated((t[a], h1), (t[b], h2), at, !gauges, col) {
                    Ok(h) if h1.uses_custom_buckets() == h2.uses_custom_buckets() => Arc::new(h),
                    _ => {
                        col.note(Note::MixedBuckets);
                        continue;
                    }
                }
            }
            (None, Some(a), None) => {
                let mut h = FloatHistogram::clone(offset(a));
                h.counter_reset = CounterReset::Unknown;
                Arc::new(h)
            }
            _ => continue,
        };
        col.set_histogram(step, result);
    }
}
