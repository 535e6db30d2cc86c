//! What functions of range vectors compute from one series: one pass over the windows of all steps.
//!
//! Each kernel takes the sums in the order Prometheus takes them (`promql/functions.go`), so results are equal to the
//! last bit.

use std::collections::VecDeque;

use crate::column::Column;
use crate::lanes::{each_sum, each_variance};
use crate::math::{self, Mean};
use crate::regression::{Origin, each_line};
use crate::starts;
use crate::windows::{Input, Pace};

/// A function without further arguments.
pub(crate) type Kernel = fn(&Input<'_>, &mut Column);

/// The function called `name`, if it takes nothing but a range vector.
pub(crate) fn find(name: &str) -> Option<Kernel> {
    Some(match name {
        "rate" => |input, out| extrapolated(input, out, Difference { counter: true, per_second: true }),
        "increase" => |input, out| extrapolated(input, out, Difference { counter: true, per_second: false }),
        "delta" => |input, out| extrapolated(input, out, Difference { counter: false, per_second: false }),
        "irate" => |input, out| last_two(input, out, true),
        "idelta" => |input, out| last_two(input, out, false),
        "deriv" => |input, out| {
            each_line(input, out, Origin::First, |_, slope, _| slope);
        },
        "sum_over_time" => |input, out| {
            each_sum(input, out, |(sum, c), _| if sum.is_infinite() { sum } else { sum + c });
        },
        "avg_over_time" => |input, out| {
            // A sum that is finite never overflowed on its way.
            each_sum(input, out, |(sum, c), v| {
                let count = v.len() as f64;
                if sum.is_finite() { sum / count + c / count } else { mean(v) }
            });
        },
        "count_over_time" => |input, out| each(input, out, |_, t, _| Some(t.len() as f64)),
        "present_over_time" => |input, out| each(input, out, |_, _, _| Some(1.0)),
        "last_over_time" => |input, out| each(input, out, |_, _, v| v.last().copied()),
        "first_over_time" => |input, out| each(input, out, |_, _, v| v.first().copied()),
        "min_over_time" => |input, out| extremes(input, out, |a, b| a < b, |at| input.v[at]),
        "max_over_time" => |input, out| extremes(input, out, |a, b| a > b, |at| input.v[at]),
        "ts_of_min_over_time" => |input, out| extremes(input, out, |a, b| a <= b, |at| seconds(input.t[at])),
        "ts_of_max_over_time" => |input, out| extremes(input, out, |a, b| a >= b, |at| seconds(input.t[at])),
        "ts_of_first_over_time" => |input, out| each(input, out, |_, t, _| Some(seconds(t[0]))),
        "ts_of_last_over_time" => |input, out| each(input, out, |_, t, _| Some(seconds(t[t.len() - 1]))),
        "stddev_over_time" => |input, out| each_variance(input, out, f64::sqrt),
        "stdvar_over_time" => |input, out| each_variance(input, out, |variance| variance),
        "mad_over_time" => |input, out| {
            let mut scratch = Vec::new();
            each_mut(input, out, |_, _, v| Some(median_absolute_deviation(v, &mut scratch)));
        },
        "changes" => |input, out| each(input, out, |_, _, v| Some(count_pairs(v, is_change))),
        "resets" => |input, out| match input.starts.is_empty() {
            true => each(input, out, |_, _, v| Some(count_pairs(v, |a, b| b < a))),
            false => starts::resets(input, out, false),
        },
        _ => return None,
    })
}

/// The functions for `anchored` and `smoothed` ranges.
pub(crate) fn find_extended(name: &str, smoothed: bool) -> Option<Kernel> {
    Some(match (name, smoothed) {
        ("rate", false) => |i, o| anchored_difference(i, o, Difference { counter: true, per_second: true }),
        ("increase", false) => |i, o| anchored_difference(i, o, Difference { counter: true, per_second: false }),
        ("delta", false) => |i, o| anchored_difference(i, o, Difference { counter: false, per_second: false }),
        ("changes", false) => |i, o| each_anchored(i, o, |v| count_pairs(v, is_change)),
        ("resets", false) => |i, o| match i.starts.is_empty() {
            true => each_anchored(i, o, |v| count_pairs(v, |a, b| b < a)),
            false => starts::resets(i, o, true),
        },
        ("rate", true) => |i, o| smoothed_difference(i, o, Difference { counter: true, per_second: true }),
        ("increase", true) => |i, o| smoothed_difference(i, o, Difference { counter: true, per_second: false }),
        ("delta", true) => |i, o| smoothed_difference(i, o, Difference { counter: false, per_second: false }),
        _ => return None,
    })
}

/// `quantile_over_time`; `q` by step.
pub(crate) fn quantile_over_time(input: &Input<'_>, out: &mut Column, q: impl Fn(usize) -> f64) {
    let mut scratch = Vec::new();
    each_mut(input, out, |step, _, v| {
        scratch.clear();
        scratch.extend_from_slice(v);
        Some(math::quantile(q(step), &mut scratch))
    });
}

/// `predict_linear`; seconds ahead by step.
pub(crate) fn predict_linear(input: &Input<'_>, out: &mut Column, ahead: impl Fn(usize) -> f64) {
    each_line(input, out, Origin::Step, |step, slope, intercept| slope * ahead(step) + intercept);
}

/// `double_exponential_smoothing`; smoothing and trend factor by step, both checked to be between 0 and 1.
pub(crate) fn double_exponential_smoothing(input: &Input<'_>, out: &mut Column, factors: impl Fn(usize) -> (f64, f64)) {
    each(input, out, |step, _, v| {
        if v.len() < 2 {
            return None;
        }
        let (sf, tf) = factors(step);
        let (mut before, mut smoothed, mut trend) = (0.0, v[0], v[1] - v[0]);
        for (i, value) in v.iter().enumerate().skip(1) {
            let x = sf * value;
            if i > 1 {
                trend = tf * (smoothed - before) + (1.0 - tf) * trend;
            }
            let y = (1.0 - sf) * (smoothed + trend);
            (before, smoothed) = (smoothed, x + y);
        }
        Some(smoothed)
    });
}

fn seconds(t: i64) -> f64 {
    t as f64 / 1000.0
}

/// Calls `f` for each step whose window holds samples: with the step, times and values.
#[inline]
fn each(input: &Input<'_>, out: &mut Column, f: impl Fn(usize, &[i64], &[f64]) -> Option<f64>) {
    each_mut(input, out, f);
}

#[inline]
fn each_mut(input: &Input<'_>, out: &mut Column, mut f: impl FnMut(usize, &[i64], &[f64]) -> Option<f64>) {
    let mut pace = Pace::new(input.control);
    for (step, &(lo, hi)) in input.plan.bounds().iter().enumerate() {
        let inside = lo as usize..hi as usize;
        if inside.is_empty() {
            continue;
        }
        if !pace.goes_on(inside.len()) {
            return;
        }
        if let Some(v) = f(step, &input.t[inside.clone()], &input.v[inside]) {
            out.set(step, v);
        }
    }
}

fn mean(v: &[f64]) -> f64 {
    let mut mean = Mean::new(v[0]);
    v[1..].iter().for_each(|v| mean.add(*v));
    mean.get()
}

/// The best value of each window: the one that no later one of the window is `better` than. Anything is better than NaN,
/// so NaN is only the best of nothing else; then it is the last one.
///
/// Keeps those values of the window that may still become the best, the best in front: every sample comes and goes once.
fn extremes(input: &Input<'_>, out: &mut Column, better: impl Fn(f64, f64) -> bool, result: impl Fn(usize) -> f64) {
    let v = input.v;
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut seen = 0;
    let mut pace = Pace::new(input.control);
    for (step, &(lo, hi)) in input.plan.bounds().iter().enumerate() {
        let (lo, hi) = (lo as usize, hi as usize);
        if !pace.goes_on(1 + hi - seen.clamp(lo, hi)) {
            return;
        }
        for at in seen.max(lo)..hi {
            if v[at].is_nan() {
                continue;
            }
            while candidates.back().is_some_and(|last| better(v[at], v[*last])) {
                candidates.pop_back();
            }
            candidates.push_back(at);
        }
        seen = seen.max(hi);
        while candidates.front().is_some_and(|first| *first < lo) {
            candidates.pop_front();
        }
        if lo < hi {
            out.set(step, result(candidates.front().copied().unwrap_or(hi - 1)));
        }
    }
}

fn median_absolute_deviation(v: &[f64], scratch: &mut Vec<f64>) -> f64 {
    if v.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    scratch.clear();
    scratch.extend_from_slice(v);
    let median = math::quantile(0.5, scratch);
    scratch.iter_mut().for_each(|v| *v = (*v - median).abs());
    math::quantile(0.5, scratch)
}

fn is_change(before: f64, now: f64) -> bool {
    now != before && !(now.is_nan() && before.is_nan())
}

fn count_pairs(v: &[f64], pred: impl Fn(f64, f64) -> bool) -> f64 {
    v.windows(2).filter(|pair| pred(pair[0], pair[1])).count() as f64
}

/// Which of the three extrapolating functions.
#[derive(Clone, Copy, Debug)]
struct Difference {
    /// Corrects counter resets and does not extrapolate below zero.
    counter: bool,
    /// Divides by the length of the window.
    per_second: bool,
}

/// Where a counter starts anew: indexes of samples lower than the one before. NaN is not lower than anything.
fn resets(v: &[f64]) -> Vec<usize> {
    /// Samples looked at together: mostly there is no reset among them.
    const TOGETHER: usize = 64;
    let mut resets = Vec::new();
    let (before, after) = (v, v.get(1..).unwrap_or(&[]));
    for (at, (after, before)) in after.chunks(TOGETHER).zip(before.chunks(TOGETHER)).enumerate() {
        let is_reset = |(after, before): (&f64, &f64)| after < before;
        if after.iter().zip(before).fold(false, |any, pair| any | is_reset(pair)) {
            let inside = after.iter().zip(before).enumerate().filter(|(_, pair)| is_reset(*pair));
            resets.extend(inside.map(|(i, _)| at * TOGETHER + i + 1));
        }
    }
    resets
}

/// Products below may have lost digits.
const PRODUCT_MIN: f64 = 1e-290;

/// More than all roundings of two products and a quotient together.
const PRODUCT_MARGIN: f64 = 1.0 + 1e-12;

/// `rate`, `increase`, `delta` (`extrapolatedRate` in Prometheus): the difference of the last and the first value, plus
/// what was lost by counter resets, stretched to the window's ends where the samples come close enough to them.
///
/// Resets are found once per series; a window then adds only those inside, in their order.
fn extrapolated(input: &Input<'_>, out: &mut Column, what: Difference) {
    if what.counter && !input.starts.is_empty() {
        return starts::differences(input, out, what.per_second);
    }
    let v = input.v;
    let range_seconds = input.windows.range_seconds();
    let stretches = input.plan.stretches(input);
    let bounds = input.plan.bounds();
    let resets = if what.counter { resets(v) } else { Vec::new() };
    let mut first_reset = 0;
    let (mut pace, mut goes_on) = (Pace::new(input.control), true);
    out.fill(input.control, |step| {
        let (lo, hi) = bounds[step];
        if hi < lo + 2 || !goes_on {
            return None;
        }
        let (first, last) = (lo as usize, hi as usize - 1);
        let mut result = v[last] - v[first];
        if first_reset < resets.len() {
            while first_reset < resets.len() && resets[first_reset] <= first {
                first_reset += 1;
            }
            let mut added = 0;
            for at in resets[first_reset..].iter().take_while(|at| **at <= last) {
                result += v[at - 1];
                added += 1;
            }
            goes_on = pace.goes_on(added);
        }
        let stretch = stretches.at(step);
        if what.counter && result > 0.0 && v[first] >= 0.0 {
            // A counter cannot have been below zero. Mostly it was not near zero, which two products tell without a division.
            let height = stretch.sampled * v[first];
            let is_far = height > stretch.to_start * result * PRODUCT_MARGIN && height > PRODUCT_MIN;
            if !is_far {
                let to_zero = stretch.sampled * (v[first] / result);
                if to_zero < stretch.to_start {
                    let factor = (stretch.sampled + to_zero + stretch.to_end) / stretch.sampled;
                    return Some(result * if what.per_second { factor / range_seconds } else { factor });
                }
            }
        }
        Some(result * if what.per_second { stretch.factor_per_second } else { stretch.factor })
    });
}

/// `irate` and `idelta`: from the last two samples.
fn last_two(input: &Input<'_>, out: &mut Column, rate: bool) {
    if rate && !input.starts.is_empty() {
        return starts::last_two(input, out);
    }
    each(input, out, |_, t, v| {
        let [.., t1, t2] = t else { return None };
        let [.., v1, v2] = v else { return None };
        if t1 == t2 {
            return None;
        }
        if !rate {
            return Some(v2 - v1);
        }
        let difference = if v2 < v1 { *v2 } else { v2 - v1 };
        Some(difference / ((t2 - t1) as f64 / 1000.0))
    });
}

/// Index of the sample that an anchored window begins with: the last one at or before its start if it is not too old,
/// else the first one inside.
pub(crate) fn anchor(input: &Input<'_>, step: usize, lo: usize) -> usize {
    let oldest = input.windows.start(step).saturating_sub(input.windows.beyond_ms);
    if lo > 0 && input.t[lo - 1] > oldest { lo - 1 } else { lo }
}

fn each_anchored(input: &Input<'_>, out: &mut Column, f: impl Fn(&[f64]) -> f64) {
    let mut pace = Pace::new(input.control);
    for (step, &(lo, hi)) in input.plan.bounds().iter().enumerate() {
        let (lo, hi) = (lo as usize, hi as usize);
        if !pace.goes_on(hi - lo) {
            return;
        }
        if lo < hi {
            out.set(step, f(&input.v[anchor(input, step, lo)..hi]));
        }
    }
}

/// `rate`, `increase`, `delta` of an anchored range: the plain difference of the samples at its ends.
fn anchored_difference(input: &Input<'_>, out: &mut Column, what: Difference) {
    let range_seconds = input.windows.range_seconds();
    each_anchored(input, out, |v| {
        let mut result = v[v.len() - 1] - v[0];
        if what.counter {
            result += lost_by_resets(v);
        }
        if what.per_second { result / range_seconds } else { result }
    });
}

fn lost_by_resets(v: &[f64]) -> f64 {
    v.windows(2).filter(|pair| pair[1] < pair[0]).map(|pair| pair[0]).sum()
}

/// `rate`, `increase`, `delta` of a smoothed range: the difference of the values interpolated at its ends.
fn smoothed_difference(input: &Input<'_>, out: &mut Column, what: Difference) {
    let (t, v, windows) = (input.t, input.v, input.windows);
    let range_seconds = windows.range_seconds();
    let mut pace = Pace::new(input.control);
    for (step, &(lo, hi)) in input.plan.bounds().iter().enumerate() {
        let (lo, hi) = (lo as usize, hi as usize);
        if !pace.goes_on(1 + hi - lo) {
            return;
        }
        let (start, end) = (windows.start(step), windows.end(step));
        let before = (lo > 0 && t[lo - 1] > start.saturating_sub(windows.beyond_ms)).then(|| lo - 1);
        let after = (hi < t.len() && t[hi] <= end.saturating_add(windows.beyond_ms)).then_some(hi);
        // Samples on one side only say nothing about the range.
        if lo == hi && (before.is_none() || after.is_none()) {
            continue;
        }
        let left = match before {
            Some(at) if t[at] == start => v[at],
            // `at + 1` is inside the window or behind it; one of both exists.
            Some(at) if at + 1 < t.len() => interpolate((t[at], v[at]), (t[at + 1], v[at + 1]), start, what.counter),
            _ => v[lo],
        };
        let right = match after {
            Some(at) if at > 0 && t[at - 1] != end && (lo < hi || before.is_some()) => {
                interpolate((t[at - 1], v[at - 1]), (t[at], v[at]), end, what.counter)
            }
            _ => v[hi - 1],
        };
        let mut result = right - left;
        if what.counter {
            let mut last = left;
            for value in v[lo..hi].iter().chain([&right]) {
                if *value < last {
                    result += last;
                }
                last = *value;
            }
        }
        out.set(step, if what.per_second { result / range_seconds } else { result });
    }
}

/// The value at `at` on the line between two samples. Between the samples of a counter that was reset the line begins at
/// zero.
pub(crate) fn interpolate((t1, mut v1): (i64, f64), (t2, v2): (i64, f64), at: i64, counter: bool) -> f64 {
    if counter && v2 < v1 {
        v1 = 0.0;
    }
    v1 + (v2 - v1) * at.saturating_sub(t1) as f64 / t2.saturating_sub(t1) as f64
}

#[cfg(test)]
mod tests {
    use fk_storage::Control;
    use proptest::prelude::*;

    use super::*;
    use crate::column::Grid;
    use crate::math::kahan;
    use crate::windows::{Plan, Windows};

    /// Result at time `end` ms over `(end - range, end]`.
    fn at(name: &str, samples: &[(i64, f64)], end: i64, range_ms: i64) -> Option<f64> {
        let (t, v): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        let eval = Grid::instant(end);
        let windows = Windows { eval, refs: eval, range_ms, beyond_ms: 0 };
        let mut plan = Plan::default();
        plan.update(&windows, &t, &Control::new()).unwrap();
        let mut out = Column::none(1);
        find(name).expect(name)(
            &Input {
                windows: &windows,
                t: &t,
                v: &v,
                plan: &plan,
                histograms: &[],
                starts: &[],
                control: &Control::new(),
            },
            &mut out,
        );
        out.iter().next().map(|(_, v)| v)
    }

    fn spaced(values: &[f64]) -> Vec<(i64, f64)> {
        values.iter().enumerate().map(|(i, v)| (i as i64 * 300_000, *v)).collect()
    }

    #[test]
    fn rates_extrapolate_and_correct_resets() {
        let counter = spaced(&[0.0, 27.0, 54.0, 81.0, 108.0, 0.0, 27.0, 54.0, 81.0, 108.0, 135.0]);
        assert_eq!(at("rate", &counter, 3_000_000, 3_000_000), Some(0.08));
        assert_eq!(at("rate", &counter, 3_000_000, 300_000), None);
        let rising: Vec<f64> = (0..=10).map(|i| 10.0 + 10.0 * f64::from(i)).collect();
        assert_eq!(at("increase", &spaced(&rising), 3_000_000, 6_000_000), Some(105.0));
        let near_zero: Vec<f64> = (0..=10).map(|i| 1.0 + 10.0 * f64::from(i)).collect();
        assert_eq!(at("increase", &spaced(&near_zero), 3_000_000, 6_000_000), Some(101.0));
        assert_eq!(at("delta", &spaced(&[200.0, 150.0, 100.0, 50.0, 0.0]), 1_200_000, 1_200_000), Some(-200.0));
        assert_eq!(at("irate", &spaced(&[0.0, 10.0, 4.0]), 600_000, 900_000), Some(4.0 / 300.0));
        assert_eq!(at("idelta", &spaced(&[0.0, 10.0, 4.0]), 600_000, 900_000), Some(-6.0));
    }

    #[test]
    fn extremes_prefer_numbers_to_nan_and_later_times() {
        let nan = f64::NAN;
        for (name, values, want) in [
            ("max_over_time", vec![nan, 0.0, 1.0], 1.0),
            ("min_over_time", vec![2.0, 0.0, nan], 0.0),
            ("max_over_time", vec![2.0, nan, 1.0], 2.0),
            ("ts_of_max_over_time", vec![5.0, 5.0, 1.0], 300.0),
            ("ts_of_min_over_time", vec![nan, 1.0, 1.0], 600.0),
            ("changes", vec![nan, nan, 1.0], 1.0),
            ("resets", vec![3.0, 2.0, 1.0], 2.0),
            ("mad_over_time", vec![4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0], 1.0),
        ] {
            assert_eq!(at(name, &spaced(&values), 3_000_000, 6_000_000), Some(want), "{name}");
        }
        assert!(at("max_over_time", &spaced(&[nan, nan]), 300_000, 600_000).is_some_and(f64::is_nan));
        assert!(at("mad_over_time", &spaced(&[1.0, nan]), 300_000, 600_000).is_some_and(f64::is_nan));
    }

    #[test]
    fn a_cancelled_computation_ends_within_the_series() {
        let n = 20_000;
        let t: Vec<i64> = (0..n).collect();
        let v = vec![1.0; n as usize];
        let eval = Grid { start: 0, step: 1, n: n as usize };
        let windows = Windows { eval, refs: eval, range_ms: n, beyond_ms: 0 };
        let mut plan = Plan::default();
        plan.update(&windows, &t, &Control::new()).unwrap();
        let control = Control::new();
        control.cancel();
        for name in ["sum_over_time", "stddev_over_time", "mad_over_time"] {
            let mut out = Column::none(eval.n);
            find(name).unwrap()(
                &Input {
                    windows: &windows,
                    t: &t,
                    v: &v,
                    plan: &plan,
                    histograms: &[],
                    starts: &[],
                    control: &control,
                },
                &mut out,
            );
            assert!(out.ok.count() < 1000, "{name}");
        }
    }

    #[test]
    fn averages_of_equal_values_are_exact() {
        for n in 1..40 {
            assert_eq!(
                at("avg_over_time", &spaced(&vec![52.0; n]), 300_000 * n as i64, i64::MAX / 4),
                Some(52.0),
                "{n}"
            );
        }
        assert_eq!(at("avg_over_time", &spaced(&[1.0, 1e100, 1.0, -1e100]), 900_000, 1_200_000), Some(0.5));
        assert_eq!(
            at("stdvar_over_time", &spaced(&[0.0, 8.0, 8.0, 2.0, 3.0]), 1_200_000, 1_500_000),
            Some(10.559999999999999)
        );
    }

    /// What Prometheus does for one window on its own.
    fn direct(name: &str, t: &[i64], v: &[f64], start: i64, end: i64, range_ms: i64) -> Option<f64> {
        let last = v.len().checked_sub(1)?;
        let extreme = |better: fn(f64, f64) -> bool| {
            (1..v.len()).fold(0, |best, i| if better(v[i], v[best]) || v[best].is_nan() { i } else { best })
        };
        let rate = |counter: bool, per_second: bool| {
            if last == 0 {
                return None;
            }
            let mut result = v[last] - v[0];
            if counter {
                v.windows(2).filter(|pair| pair[1] < pair[0]).for_each(|pair| result += pair[0]);
            }
            let mut to_start = (t[0] - start) as f64 / 1000.0;
            let mut to_end = (end - t[last]) as f64 / 1000.0;
            let sampled = (t[last] - t[0]) as f64 / 1000.0;
            let between = sampled / last as f64;
            if to_start >= between * 1.1 {
                to_start = between / 2.0;
            }
            if counter && result > 0.0 && v[0] >= 0.0 {
                let to_zero = sampled * (v[0] / result);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
            if to_end >= between * 1.1 {
                to_end = between / 2.0;
            }
            let mut factor = (sampled + to_start + to_end) / sampled;
            if per_second {
                factor /= (range_ms / 1000) as f64 + (range_ms % 1000 * 1_000_000) as f64 / 1e9;
            }
            Some(result * factor)
        };
        match name {
            "rate" => rate(true, true),
            "increase" => rate(true, false),
            "delta" => rate(false, false),
            "sum_over_time" => {
                let (sum, c) = v.iter().fold((0.0, 0.0), |(sum, c), v| kahan(*v, sum, c));
                Some(if sum.is_infinite() { sum } else { sum + c })
            }
            "avg_over_time" => Some(mean(v)),
            "stdvar_over_time" => {
                let (mut count, mut mean, mut mean_c, mut aux, mut aux_c) = (0.0, 0.0, 0.0, 0.0, 0.0);
                for v in v {
                    count += 1.0;
                    let delta = v - (mean + mean_c);
                    (mean, mean_c) = kahan(delta / count, mean, mean_c);
                    (aux, aux_c) = kahan(delta * (v - (mean + mean_c)), aux, aux_c);
                }
                Some((aux + aux_c) / count)
            }
            "min_over_time" => Some(v[extreme(|a, b| a < b)]),
            "max_over_time" => Some(v[extreme(|a, b| a > b)]),
            "ts_of_min_over_time" => Some(seconds(t[extreme(|a, b| a <= b)])),
            "ts_of_max_over_time" => Some(seconds(t[extreme(|a, b| a >= b)])),
            other => panic!("no direct form of {other}"),
        }
    }

    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (0..100i32).prop_map(f64::from),
            2 => -1e3..1e3,
            1 => Just(f64::NAN),
            1 => Just(-0.0),
            1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1.7e308), Just(-1.7e308)],
        ]
    }

    proptest! {
        #[test]
        fn sliding_windows_give_the_bits_of_single_windows(
            samples in prop::collection::vec((1i64..40_000, any_value()), 0..80),
            range_ms in 1i64..300_000,
            step in 1i64..60_000,
            fixed in any::<bool>(),
        ) {
            let mut now = 0;
            let t: Vec<i64> = samples.iter().map(|(gap, _)| { now += gap; now }).collect();
            let v: Vec<f64> = samples.iter().map(|(_, v)| *v).collect();
            let eval = Grid { start: -step, step, n: 50 };
            let refs = if fixed { Grid { start: now / 2, step: 0, n: 50 } } else { eval };
            let windows = Windows { eval, refs, range_ms, beyond_ms: 0 };
            let mut plan = Plan::default();
            plan.update(&windows, &t, &Control::new()).unwrap();
            for name in [
                "rate", "increase", "delta", "sum_over_time", "avg_over_time", "min_over_time", "max_over_time",
                "ts_of_min_over_time", "ts_of_max_over_time", "stdvar_over_time",
            ] {
                let mut out = Column::none(eval.n);
                find(name).unwrap()(&Input { windows: &windows, t: &t, v: &v, plan: &plan, histograms: &[], starts: &[], control: &Control::new() }, &mut out);
                for i in 0..eval.n {
                    let (start, end) = (windows.start(i), windows.end(i));
                    let inside: Vec<usize> = (0..t.len()).filter(|at| t[*at] > start && t[*at] <= end).collect();
                    let (wt, wv): (Vec<i64>, Vec<f64>) = inside.iter().map(|at| (t[*at], v[*at])).unzip();
                    let want = direct(name, &wt, &wv, start, end, range_ms);
                    let got = out.ok.get(i).then(|| out.v[i]);
                    let same = match (want, got) {
                        (Some(want), Some(got)) => want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan()),
                        (None, None) => true,
                        _ => false,
                    };
                    prop_assert!(same, "{} at step {}: {:?} instead of {:?}", name, i, got, want);
                }
            }
        }
    }
}
