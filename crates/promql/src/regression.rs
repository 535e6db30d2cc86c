//! `deriv` and `predict_linear`: the line through the samples of a window (least squares, compensated sums).
//!
//! Of the four sums two depend on the times alone. They are taken once for all series that share their times, and where
//! windows look alike from their origin (samples in a steady rhythm, steps that are a multiple of it) once for all those
//! windows ([`Lines`]). The other two are taken for several windows side by side.

use fearless_simd::{Level, Simd, SimdBase, dispatch, f64x8};

use crate::column::Column;
use crate::lanes::{LANES, Sum, Sums, across, group, is_exact};
use crate::math::kahan;
use crate::windows::{Bounds, Input, Pace};

/// Most distances from origins that are kept, in samples: 1 MiB. Windows beyond are computed one by one.
const KEPT_MAX: usize = 1 << 17;

/// Where the time of a window is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// At the window's first sample.
    First,
    /// At the time of the step.
    Step,
}

/// What the lines of all windows owe to the times.
#[derive(Debug)]
pub(crate) struct Lines {
    origin: Origin,
    /// Distances from the origin in seconds, of one window behind the other.
    x: Vec<f64>,
    of_step: Vec<Line>,
}

/// The same of one window.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Where the window begins in [`Lines::x`]; [`Line::NOT_KEPT`] if it is not there.
    at: u32,
    /// Sum of the distances.
    x: f64,
    /// Sum of their squares.
    xx: f64,
}

impl Line {
    const NOT_KEPT: u32 = u32::MAX;
}

/// Distance of `t` from `origin`, both ms, in seconds.
#[inline]
fn distance(t: i64, origin: i64) -> f64 {
    t.saturating_sub(origin) as f64 / 1e3
}

impl Origin {
    fn of(self, window: &[i64], step_ms: i64) -> i64 {
        match self {
            Origin::First => window.first().copied().unwrap_or(step_ms),
            Origin::Step => step_ms,
        }
    }
}

impl Lines {
    /// Of the windows of `input`. Incomplete if the control says to stop.
    pub(crate) fn new(origin: Origin, input: &Input<'_>) -> Lines {
        let bounds = input.plan.bounds();
        let mut lines = Lines { origin, x: Vec::new(), of_step: Vec::with_capacity(bounds.len()) };
        let mut pace = Pace::new(input.control);
        for (step, (lo, hi)) in bounds.iter().enumerate() {
            let window = &input.t[*lo as usize..*hi as usize];
            if !pace.goes_on(window.len()) {
                break;
            }
            let zero = origin.of(window, input.windows.eval.t(step));
            let line = match lines.of_step.last() {
                Some(last) if lines.has(last.at, window, zero) => *last,
                _ => lines.add(window, zero),
            };
            lines.of_step.push(line);
        }
        lines
    }

    /// Whether the distances from number `at` to the end are those of `window`.
    fn has(&self, at: u32, window: &[i64], zero: i64) -> bool {
        self.x.get(at as usize..).is_some_and(|x| {
            x.len() == window.len() && x.iter().zip(window).all(|(x, t)| x.to_bits() == distance(*t, zero).to_bits())
        })
    }

    fn add(&mut self, window: &[i64], zero: i64) -> Line {
        let (mut x, mut xx) = ((0.0, 0.0), (0.0, 0.0));
        let is_kept = self.x.len() + window.len() <= KEPT_MAX;
        let at = if is_kept { self.x.len() as u32 } else { Line::NOT_KEPT };
        for t in window {
            let dx = distance(*t, zero);
            x = kahan(dx, x.0, x.1);
            xx = kahan(dx * dx, xx.0, xx.1);
            if is_kept {
                self.x.push(dx);
            }
        }
        Line { at, x: x.0 + x.1, xx: xx.0 + xx.1 }
    }

    /// The distances of the window of a step; nothing if they are not kept.
    #[inline]
    fn window(&self, step: usize, (lo, hi): Bounds) -> Option<&[f64]> {
        let at = self.of_step[step].at as usize;
        self.x.get(at..at + (hi - lo) as usize)
    }

    /// Whether the [`LANES`] windows from `step` on have the same distances.
    #[inline]
    fn is_one(&self, step: usize) -> bool {
        self.of_step.get(step..step + LANES).is_some_and(|lines| lines.iter().all(|line| line.at == lines[0].at))
    }

    /// Memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.x.capacity() * size_of::<f64>() + self.of_step.capacity() * size_of::<Line>()
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }
}

/// Calls `f` for each step whose window has two samples or more, with slope per second and value at the origin.
pub(crate) fn each_line(input: &Input<'_>, out: &mut Column, origin: Origin, f: impl Fn(usize, f64, f64) -> f64) {
    dispatch!(Level::new(), simd => each_line_on(simd, input, out, origin, &f));
}

#[inline(always)]
fn each_line_on<S: Simd>(
    simd: S,
    input: &Input<'_>,
    out: &mut Column,
    origin: Origin,
    f: &impl Fn(usize, f64, f64) -> f64,
) {
    let (v, bounds) = (input.v, input.plan.bounds());
    let lines = input.plan.lines(input, origin);
    if lines.of_step.len() < bounds.len() {
        return;
    }
    let mut pace = Pace::new(input.control);
    let mut constant = Constant { v, change: 0 };
    for first in (0..bounds.len()).step_by(LANES) {
        let (windows, common) = group(v, bounds, first);
        if !pace.goes_on(windows.iter().map(|v| v.len()).sum()) {
            return;
        }
        let xs: [Option<&[f64]>; LANES] =
            std::array::from_fn(|lane| bounds.get(first + lane).and_then(|b| lines.window(first + lane, *b)));
        let constants: [bool; LANES] =
            std::array::from_fn(|lane| bounds.get(first + lane).is_some_and(|b| constant.is(*b)));
        // One by one if the distances of a window are not kept, or nothing is to be summed.
        let sums = match xs {
            _ if common < 2 || constants == [true; LANES] => None,
            [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), Some(g), Some(h)] => {
                Some(sums(simd, &windows, &[a, b, c, d, e, f, g, h], lines.is_one(first), common))
            }
            _ => None,
        };
        for (lane, window) in windows.iter().enumerate().filter(|(_, v)| v.len() > 1) {
            let step = first + lane;
            let (slope, intercept) = if constants[lane] {
                if window[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, window[0]) }
            } else {
                let (done, (y, xy)) = match &sums {
                    Some(sums) if is_exact(sums[lane].0) && is_exact(sums[lane].1) => (common, sums[lane]),
                    _ => (0, ((0.0, 0.0), (0.0, 0.0))),
                };
                let times = &input.t[bounds[step].0 as usize..bounds[step].1 as usize];
                let zero = origin.of(times, input.windows.eval.t(step));
                let rest = times[done..].iter().map(|t| distance(*t, zero)).zip(&window[done..]);
                let (y, xy) = rest.fold((y, xy), |(y, xy), (x, v)| (kahan(*v, y.0, y.1), kahan(x * v, xy.0, xy.1)));
                let line = &lines.of_step[step];
                solve(window.len() as f64, line.x, y.0 + y.1, xy.0 + xy.1, line.xx)
            };
            out.set(step, f(step, slope, intercept));
        }
    }
}

/// Sums of the values, and of their products with the distances, over the first `common` samples of each window; `one`: the
/// distances are the same for all windows.
#[inline(always)]
fn sums<S: Simd>(
    simd: S,
    windows: &[&[f64]; LANES],
    xs: &[&[f64]; LANES],
    one: bool,
    common: usize,
) -> [(Sum, Sum); LANES] {
    let (windows, xs) = (windows.map(|v| &v[..common]), xs.map(|x| &x[..common]));
    let (mut y, mut xy) = (Sums::zero(simd), Sums::zero(simd));
    if one {
        for (at, x) in xs[0].iter().enumerate() {
            let v = across(simd, &windows, at);
            y.add(v);
            xy.add(f64x8::splat(simd, *x) * v);
        }
    } else {
        for at in 0..common {
            let v = across(simd, &windows, at);
            y.add(v);
            xy.add(across(simd, &xs, at) * v);
        }
    }
    let (y, xy) = (y.get(), xy.get());
    std::array::from_fn(|lane| (y[lane], xy[lane]))
}

/// Slope and value at zero from the number of samples and their sums.
fn solve(n: f64, x: f64, y: f64, xy: f64, xx: f64) -> (f64, f64) {
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// Tells whether all values of a window are equal, for windows that come in order of their starts: the line is level then,
/// and no sum is taken.
struct Constant<'v> {
    v: &'v [f64],
    /// The first value behind the start of the last window that is not equal to the one before it.
    change: usize,
}

impl Constant<'_> {
    #[inline]
    fn is(&mut self, (lo, hi): Bounds) -> bool {
        let (lo, hi) = (lo as usize, hi as usize);
        if self.change <= lo {
            let after = self.v.get(lo..).unwrap_or(&[]);
            let equal = after.windows(2).take_while(|pair| pair[0] == pair[1]).count();
            self.change = lo + 1 + equal;
        }
        lo < hi && self.change >= hi
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::column::Grid;
    use crate::windows::{Plan, Windows};
    use fk_storage::Control;

    /// One window on its own.
    fn alone(t: &[i64], v: &[f64], zero: i64) -> (f64, f64) {
        if v.iter().all(|value| *value == v[0]) {
            return if v[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, v[0]) };
        }
        let mut sums = [(0.0, 0.0); 4];
        for (t, v) in t.iter().zip(v) {
            let x = distance(*t, zero);
            for (sum, inc) in sums.iter_mut().zip([x, *v, x * v, x * x]) {
                *sum = kahan(inc, sum.0, sum.1);
            }
        }
        let [x, y, xy, xx] = sums.map(|(sum, c)| sum + c);
        solve(v.len() as f64, x, y, xy, xx)
    }

    proptest! {
        #[test]
        fn lines_side_by_side_are_those_of_single_windows(
            values in prop::collection::vec(
                prop_oneof![6 => -1e6..1e6, 6 => Just(5.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(1.6e308)],
                0..120,
            ),
            gaps in prop::collection::vec(1i64..20_000, 120),
            steady in any::<bool>(),
            range_ms in 1i64..400_000,
            step in 1i64..60_000,
        ) {
            let mut now = 0;
            let t: Vec<i64> = gaps[..values.len()].iter().map(|gap| { now += if steady { 15_000 } else { *gap }; now }).collect();
            let eval = Grid { start: -step, step: if steady { 30_000 } else { step }, n: 37 };
            let windows = Windows { eval, refs: eval, range_ms, beyond_ms: 0 };
            for origin in [Origin::First, Origin::Step] {
                let mut plan = Plan::default();
                plan.update(&windows, &t, &Control::new()).unwrap();
                let mut out = Column::none(eval.n);
                let input = Input { windows: &windows, t: &t, v: &values, plan: &plan, histograms: &[], starts: &[], control: &Control::new() };
                each_line(&input, &mut out, origin, |_, slope, intercept| slope + 3.0 * intercept);
                for (step, (lo, hi)) in plan.bounds().iter().enumerate() {
                    let inside = *lo as usize..*hi as usize;
                    let (t, v) = (&t[inside.clone()], &values[inside]);
                    let want = (v.len() > 1).then(|| alone(t, v, origin.of(t, eval.t(step)))).map(|(a, b)| a + 3.0 * b);
                    let got = out.ok.get(step).then(|| out.v[step]);
                    let same = match (want, got) {
                        (Some(want), Some(got)) => want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan()),
                        (want, got) => want.is_none() && got.is_none(),
                    };
                    prop_assert!(same, "{origin:?} at step {step}: {got:?} instead of {want:?}");
                }
            }
        }
    }
}
