//! Several windows at once: what is summed over the samples of a window is summed over [`LANES`] windows side by side.
//!
//! Each addition of a compensated sum waits for the one before, so one window alone leaves the processor idle most of the
//! time, while the order of additions within a window is fixed by Prometheus. Lanes are windows, never samples: every window
//! gets the operations it would get alone, in the same order, so results are the same to the last bit.
//!
//! The error of an addition is found without a branch here (Knuth's two-sum) and with one there (Neumaier's choice of the
//! larger summand). Both are exact, so both are the same number, unless something overflows or is NaN; then the sums are not
//! finite, and the window is summed again the other way ([`Sums::finite`]).

use fearless_simd::{Level, Simd, SimdBase, SimdFrom, dispatch, f64x8};

use crate::column::Column;
use crate::math::kahan;
use crate::windows::{Bounds, Input, Pace};

/// Windows that are computed side by side.
pub(crate) const LANES: usize = 8;

/// A sum and its compensation.
pub(crate) type Sum = (f64, f64);

/// Compensated sums, one per lane.
#[derive(Clone, Copy)]
pub(crate) struct Sums<S: Simd> {
    sum: f64x8<S>,
    lost: f64x8<S>,
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    pub(crate) fn zero(simd: S) -> Sums<S> {
        Sums { sum: f64x8::splat(simd, 0.0), lost: f64x8::splat(simd, 0.0) }
    }

    /// Adds to each lane.
    #[inline(always)]
    pub(crate) fn add(&mut self, inc: f64x8<S>) {
        let sum = self.sum + inc;
        let added = sum - self.sum;
        self.lost += (self.sum - (sum - added)) + (inc - added);
        self.sum = sum;
    }

    /// The sums with what their compensation adds now, as running means take them.
    #[inline(always)]
    pub(crate) fn compensated(&self) -> f64x8<S> {
        self.sum + self.lost
    }

    /// The sums of the lanes.
    #[inline(always)]
    pub(crate) fn get(self) -> [Sum; LANES] {
        let (sum, lost): ([f64; LANES], [f64; LANES]) = (self.sum.into(), self.lost.into());
        std::array::from_fn(|lane| (sum[lane], lost[lane]))
    }
}

/// Whether the lane is what the scalar sum would be.
#[inline(always)]
pub(crate) fn is_exact((sum, lost): Sum) -> bool {
    sum.is_finite() && lost.is_finite()
}

/// The same place of each lane's window.
#[inline(always)]
pub(crate) fn across<S: Simd>(simd: S, windows: &[&[f64]; LANES], at: usize) -> f64x8<S> {
    f64x8::simd_from(simd, std::array::from_fn(|lane| windows[lane][at]))
}

/// The windows of [`LANES`] steps from `step` on, and how many samples all of them have. Steps beyond the last have an empty
/// window, and then there is nothing in common.
#[inline(always)]
pub(crate) fn group<'v>(v: &'v [f64], bounds: &[Bounds], step: usize) -> ([&'v [f64]; LANES], usize) {
    let windows: [&[f64]; LANES] = std::array::from_fn(|lane| match bounds.get(step + lane) {
        Some((lo, hi)) => &v[*lo as usize..*hi as usize],
        None => &[],
    });
    (windows, windows.iter().map(|window| window.len()).min().unwrap_or(0))
}

/// Calls `f` with the compensated sum of each window that holds samples and the window's values.
pub(crate) fn each_sum(input: &Input<'_>, out: &mut Column, f: impl Fn(Sum, &[f64]) -> f64) {
    dispatch!(Level::new(), simd => each_sum_on(simd, input, out, &f));
}

#[inline(always)]
fn each_sum_on<S: Simd>(simd: S, input: &Input<'_>, out: &mut Column, f: &impl Fn(Sum, &[f64]) -> f64) {
    let bounds = input.plan.bounds();
    let mut pace = Pace::new(input.control);
    for first in (0..bounds.len()).step_by(LANES) {
        let (windows, common) = group(input.v, bounds, first);
        if !pace.goes_on(windows.iter().map(|v| v.len()).sum()) {
            return;
        }
        let heads = windows.map(|v| &v[..common]);
        let mut sums = Sums::zero(simd);
        for at in 0..common {
            sums.add(across(simd, &heads, at));
        }
        for (lane, (v, sum)) in windows.iter().zip(sums.get()).enumerate().filter(|(_, (v, _))| !v.is_empty()) {
            let (begin, sum) = if is_exact(sum) { (common, sum) } else { (0, (0.0, 0.0)) };
            let sum = v[begin..].iter().fold(sum, |(sum, c), v| kahan(*v, sum, c));
            out.set(first + lane, f(sum, v));
        }
    }
}

/// Calls `f` with the variance of each window that holds samples: the mean squared distance from the mean, which runs along
/// (Welford's method with compensated sums).
pub(crate) fn each_variance(input: &Input<'_>, out: &mut Column, f: impl Fn(f64) -> f64) {
    dispatch!(Level::new(), simd => each_variance_on(simd, input, out, &f));
}

#[inline(always)]
fn each_variance_on<S: Simd>(simd: S, input: &Input<'_>, out: &mut Column, f: &impl Fn(f64) -> f64) {
    let bounds = input.plan.bounds();
    let mut pace = Pace::new(input.control);
    for first in (0..bounds.len()).step_by(LANES) {
        let (windows, common) = group(input.v, bounds, first);
        if !pace.goes_on(windows.iter().map(|v| v.len()).sum()) {
            return;
        }
        let heads = windows.map(|v| &v[..common]);
        let (mut mean, mut squares) = (Sums::zero(simd), Sums::zero(simd));
        for at in 0..common {
            let v = across(simd, &heads, at);
            let delta = v - mean.compensated();
            mean.add(delta / f64x8::splat(simd, (at + 1) as f64));
            squares.add(delta * (v - mean.compensated()));
        }
        for (lane, ((v, mean), squares)) in windows.iter().zip(mean.get()).zip(squares.get()).enumerate() {
            if v.is_empty() {
                continue;
            }
            let so_far = Variance { count: common, mean, squares };
            let exact = is_exact(mean) && is_exact(squares);
            out.set(first + lane, f(if exact { so_far } else { Variance::default() }.go_on(v)));
        }
    }
}

/// A variance under way.
#[derive(Default)]
struct Variance {
    /// Values so far.
    count: usize,
    mean: Sum,
    squares: Sum,
}

impl Variance {
    /// The variance of the window `v`, of which the first `count` values are in.
    fn go_on(self, v: &[f64]) -> f64 {
        let Variance { count, mut mean, mut squares } = self;
        for (at, v) in v.iter().enumerate().skip(count) {
            let delta = v - (mean.0 + mean.1);
            mean = kahan(delta / (at + 1) as f64, mean.0, mean.1);
            squares = kahan(delta * (v - (mean.0 + mean.1)), squares.0, squares.1);
        }
        (squares.0 + squares.1) / v.len() as f64
    }
}
