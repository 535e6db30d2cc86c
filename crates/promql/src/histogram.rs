//! Quantiles and fractions of classic histograms: one series per bucket, told apart by the label `le`. Native histograms
//! in the same vector go their own way (`histograms/quantile.rs`).
//!
//! Buckets are put together and sorted once per histogram, not per step.

use fk_model::{FloatHistogram, Labels, METRIC_NAME};
use fk_promql_syntax::ast::{Call, Expr};

use crate::QueryError;
use crate::aggregate::STEPS_PER_CHECK;
use crate::annotations::ForcedMonotonicity;
use crate::column::{Bits, Column, Grid, Series};
use crate::eval::{Eval, Sink};
use crate::histograms::quantile::{self as native, Nans};
use crate::histograms::stats::Buckets;
use crate::keys::{Choice, Keys, without_metadata};
use crate::math::{self, almost_equal};
use crate::relabel::{invalid_label_name, is_label_name, with_label};

/// The label with a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// Relative differences between neighbouring buckets below this come from the arithmetic and not from the data.
const SMALL_DELTA: f64 = 1e-12;

/// A bucket at one step: how many observations are not above the bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    bound: f64,
    count: f64,
}

/// A histogram of either kind: bucket series, or a series of native histograms.
struct Histogram {
    /// Labels of the result.
    labels: Labels,
    name: String,
    /// Upper bounds and counts, ascending by bound once all are there.
    buckets: Vec<(f64, Column)>,
    /// Native histograms. Where there are buckets with the same labels at the same step, neither counts.
    native: Option<Column>,
}

/// A histogram at one step.
enum AtStep<'h> {
    None,
    Classic,
    Native(&'h FloatHistogram),
}

/// What it took to make a histogram monotonic.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Forced {
    bucket_min: f64,
    bucket_max: f64,
    diff_max: f64,
}

impl Eval<'_> {
    /// `histogram_quantile(q, v)`
    pub(crate) fn histogram_quantile(
        &self,
        q: &Expr,
        arg: &Expr,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let quantiles = self.scalar(q, grid)?;
        quantiles.iter(grid.n).for_each(|v| self.notes.borrow_mut().invalid_quantile(v, q.pos));
        self.each_histogram(arg, grid, sink, |histogram, name, sink| {
            let col = self.quantile_column(histogram, name, |step| quantiles.at(step), arg, grid)?;
            if col.ok.is_empty() {
                return Ok(());
            }
            sink(&mut Series { labels: histogram.labels.clone(), drop_name: self.delayed(), col })
        })
    }

    /// `histogram_quantiles(v, label, q...)`
    pub(crate) fn histogram_quantiles(&self, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let [arg, label, quantiles @ ..] = &call.args[..] else {
            return Err(QueryError::execution("histogram_quantiles() takes at least three arguments"));
        };
        let label = self.string(label)?;
        if !is_label_name(label) {
            return Err(invalid_label_name(label));
        }
        let mut values = Vec::with_capacity(quantiles.len());
        for q in quantiles {
            let scalar = self.scalar(q, grid)?;
            scalar.iter(grid.n).for_each(|v| self.notes.borrow_mut().invalid_quantile(v, q.pos));
            values.push(scalar);
        }
        self.each_histogram(arg, grid, sink, |histogram, name, sink| {
            for scalar in &values {
                // The label follows the quantile, which may be another one at each step.
                let mut col = self.quantile_column(histogram, name, |step| scalar.at(step), arg, grid)?;
                loop {
                    self.control().check()?;
                    let Some(first) = col.ok.iter().next() else { break };
                    let q = scalar.at(first);
                    let mut same = Series {
                        labels: with_label(&histogram.labels, label, &open_metrics_float(q)),
                        drop_name: self.delayed(),
                        col: Column::none(grid.n),
                    };
                    for step in 0..grid.n {
                        if col.ok.get(step) && (scalar.at(step) == q || (q.is_nan() && scalar.at(step).is_nan())) {
                            same.col.set(step, col.v[step]);
                            col.ok.unset(step);
                        }
                    }
                    sink(&mut same)?;
                }
            }
            Ok(())
        })
    }

    /// `histogram_fraction(lower, upper, v)`
    pub(crate) fn histogram_fraction(
        &self,
        lower: &Expr,
        upper: &Expr,
        arg: &Expr,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let (lower, upper) = (self.scalar(lower, grid)?, self.scalar(upper, grid)?);
        self.each_histogram(arg, grid, sink, |histogram, name, sink| {
            let mut col = Column::none(grid.n);
            let mut buckets = Vec::new();
            for step in 0..grid.n {
                if step % STEPS_PER_CHECK == 0 {
                    self.control().check()?;
                }
                match histogram.at(step, &mut buckets) {
                    AtStep::None => {}
                    AtStep::Classic => col.set(step, fraction(lower.at(step), upper.at(step), &mut buckets)),
                    AtStep::Native(h) => {
                        let (value, nans) = native::fraction(lower.at(step), upper.at(step), h);
                        self.tell_nans(nans, name, arg);
                        col.set(step, value);
                    }
                }
            }
            if col.ok.is_empty() {
                return Ok(());
            }
            sink(&mut Series { labels: histogram.labels.clone(), drop_name: self.delayed(), col })
        })
    }

    fn delayed(&self) -> bool {
        self.query.options.delayed_name_removal
    }

    /// Calls `f` with each histogram and the metric name annotations give it, which only delayed name removal knows.
    /// Results of equal labels are put together.
    fn each_histogram(
        &self,
        arg: &Expr,
        grid: &Grid,
        sink: Sink<'_>,
        mut f: impl FnMut(&Histogram, &str, Sink<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let choice = Choice::without([BUCKET_LABEL]);
        let mut keys = Keys::default();
        let mut histograms: Vec<Histogram> = Vec::new();
        let mut samples = 0;
        let mut natives: Vec<Series> = Vec::new();
        let mut memory = self.control().reserve();
        self.vector_with_buckets(Buckets::Needed, arg, grid, &mut |series| {
            if series.col.has_histograms() {
                samples += series.col.samples();
                self.touch(samples)?;
                let mut native = series.clone();
                native.col.ok.and(&series.col.histogram_steps());
                if !native.col.ok.is_empty() {
                    self.take_memory(&mut memory, native.bytes())?;
                    natives.push(native);
                }
                series.col.drop_histograms();
                if series.col.ok.is_empty() {
                    return Ok(());
                }
            }
            let le = series.labels.value(BUCKET_LABEL);
            let Ok(bound) = le.parse::<f64>() else {
                let name = if self.delayed() { series.labels.metric_name() } else { "" };
                self.notes.borrow_mut().bad_bucket_label(name, le, arg.pos);
                return Ok(());
            };
            samples += series.col.ok.count();
            self.touch(samples)?;
            self.take_memory(&mut memory, series.bytes())?;
            let (at, is_new) = keys.number(&choice, &series.labels);
            if is_new {
                let labels = series.labels.filtered(|name| name != BUCKET_LABEL);
                histograms.push(self.new_histogram(labels));
            }
            histograms[at].buckets.push((bound, std::mem::take(&mut series.col)));
            Ok(())
        })?;
        let classic = histograms.len();
        for series in natives {
            // A native histogram keeps a label `le`, with which no classic one can meet.
            let same = series.labels.get(BUCKET_LABEL).is_none().then(|| keys.find(&choice, &series.labels)).flatten();
            match same {
                Some(at) => self.add_native(&mut histograms[at], series.col, arg),
                None => {
                    let mut histogram = self.new_histogram(series.labels);
                    histogram.native = Some(series.col);
                    histograms.push(histogram);
                }
            }
        }
        // As in Prometheus: the native ones come first.
        histograms.rotate_left(classic);
        self.merged(sink, |sink| {
            for mut histogram in histograms {
                self.control().check()?;
                histogram.buckets.sort_by(|(a, _), (b, _)| math::nan_first(*a, *b));
                let name = std::mem::take(&mut histogram.name);
                f(&histogram, &name, sink)?;
            }
            Ok(())
        })
    }

    fn new_histogram(&self, labels: Labels) -> Histogram {
        let (labels, name) = if self.delayed() {
            let name = labels.value(METRIC_NAME).to_owned();
            (labels, name)
        } else {
            (without_metadata(&labels), String::new())
        };
        Histogram { labels, name, buckets: Vec::new(), native: None }
    }

    /// Adds native histograms to the classic one with the same labels; where they meet, neither counts.
    fn add_native(&self, histogram: &mut Histogram, mut native: Column, arg: &Expr) {
        let mut both = Bits::none(native.v.len());
        histogram.buckets.iter().for_each(|(_, col)| both.or(&col.ok));
        both.and(&native.ok);
        if !both.is_empty() {
            self.notes.borrow_mut().mixed_classic_native(&histogram.name, arg.pos);
            native.ok.and_not(&both);
            histogram.buckets.iter_mut().for_each(|(_, col)| col.ok.and_not(&both));
        }
        histogram.native = Some(native);
    }

    fn tell_nans(&self, nans: Option<Nans>, name: &str, at: &Expr) {
        if let Some(nans) = nans {
            self.notes.borrow_mut().nan_observations(nans, name, at.pos);
        }
    }

    fn quantile_column(
        &self,
        histogram: &Histogram,
        name: &str,
        q: impl Fn(usize) -> f64,
        arg: &Expr,
        grid: &Grid,
    ) -> Result<Column, QueryError> {
        let mut col = Column::none(grid.n);
        let mut buckets = Vec::new();
        for step in 0..grid.n {
            if step % STEPS_PER_CHECK == 0 {
                self.control().check()?;
            }
            match histogram.at(step, &mut buckets) {
                AtStep::None => continue,
                AtStep::Classic => {}
                AtStep::Native(h) => {
                    let (value, nans) = native::quantile(q(step), h);
                    self.tell_nans(nans, name, arg);
                    col.set(step, value);
                    continue;
                }
            }
            let (value, forced) = quantile(q(step), &mut buckets);
            col.set(step, value);
            if let Some(forced) = forced {
                self.notes.borrow_mut().forced_monotonicity(ForcedMonotonicity {
                    name: name.to_owned(),
                    at: arg.pos,
                    mint: grid.t(step),
                    maxt: grid.t(step),
                    bucket_min: forced.bucket_min,
                    bucket_max: forced.bucket_max,
                    diff_max: forced.diff_max,
                    count: 1,
                });
            }
        }
        Ok(col)
    }
}

impl Histogram {
    /// What there is at a step; fills in the buckets if it is a classic histogram.
    fn at(&self, step: usize, buckets: &mut Vec<Bucket>) -> AtStep<'_> {
        buckets.clear();
        if let Some(native) = self.native.as_ref().filter(|native| native.ok.get(step)) {
            return native.histogram(step).map_or(AtStep::None, |h| AtStep::Native(h));
        }
        let present = self.buckets.iter().filter(|(_, col)| col.ok.get(step));
        buckets.extend(present.map(|(bound, col)| Bucket { bound: *bound, count: col.v[step] }));
        if buckets.is_empty() { AtStep::None } else { AtStep::Classic }
    }
}

/// Adds the counts of buckets with equal bounds (`1` and `1.0`).
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|later, first| {
        let same = later.bound == first.bound;
        if same {
            first.count += later.count;
        }
        same
    });
}

/// Makes counts ascend. Differences too small to mean anything are removed silently.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Forced> {
    let mut forced: Option<Forced> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if almost_equal(before, count, SMALL_DELTA) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            let diff = before - count;
            let all =
                forced.get_or_insert(Forced { bucket_min: bucket.bound, bucket_max: bucket.bound, diff_max: diff });
            all.bucket_min = all.bucket_min.min(bucket.bound);
            all.bucket_max = all.bucket_max.max(bucket.bound);
            all.diff_max = all.diff_max.max(diff);
        } else {
            before = count;
        }
    }
    forced
}

/// Quantile `q` of buckets that ascend by bound, linear within the bucket it falls in (`BucketQuantile` in Prometheus).
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Forced>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, None);
    }
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let forced = make_monotonic(buckets);
    if buckets.len() < 2 {
        return (f64::NAN, forced);
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if observations == 0.0 {
        return (f64::NAN, forced);
    }
    let rank = q * observations;
    let at = binary_search(last, |i| buckets[i].count >= rank);
    let value = if at == last {
        buckets[last - 1].bound
    } else if at == 0 && buckets[0].bound <= 0.0 {
        buckets[0].bound
    } else {
        let (mut start, end) = (0.0, buckets[at].bound);
        let (mut count, mut rank) = (buckets[at].count, rank);
        if at > 0 {
            start = buckets[at - 1].bound;
            count -= buckets[at - 1].count;
            rank -= buckets[at - 1].count;
        }
        start + (end - start) * (rank / count)
    };
    (value, forced)
}

/// The smallest index below `n` for which `pred` holds, else `n` (`sort.Search` in Go; matters when NaN breaks order).
fn binary_search(n: usize, pred: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low.midpoint(high);
        if pred(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Which fraction of the observations lies between the bounds, linear within buckets of finite width.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (mut rank, mut lower_rank, mut upper_rank) = (0.0, None, None);
    // The first bucket begins at zero unless it ends below.
    let mut start = if buckets[0].bound > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    for bucket in buckets.iter() {
        let interpolated = |v: f64| {
            if start == f64::NEG_INFINITY {
                bucket.count
            } else if bucket.bound == f64::INFINITY {
                rank
            } else {
                rank + (bucket.count - rank) * (v - start) / (bucket.bound - start)
            }
        };
        for (v, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_none() {
                if start >= v {
                    *found = Some(rank);
                } else if bucket.bound > v {
                    *found = Some(interpolated(v));
                }
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank = bucket.count;
        start = bucket.bound;
    }
    let bounded = |rank: Option<f64>| rank.filter(|rank| *rank <= count).unwrap_or(count);
    (bounded(upper_rank) - bounded(lower_rank)) / count
}

/// A float as OpenMetrics writes it in a label: with a decimal point even where nothing follows.
fn open_metrics_float(v: f64) -> String {
    if v.is_finite() && v == v.trunc() && v.abs() < 1e6 { format!("{v:.1}") } else { math::format_g(v) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_interpolate_within_a_bucket() {
        let positive = [(0.1, 50.0), (0.2, 70.0), (1.0, 110.0), (INF, 120.0)];
        let negative = [(-0.2, 10.0), (-0.1, 20.0), (0.3, 20.0), (INF, 30.0)];
        for (q, pairs, want) in [
            (0.0, positive, 0.0),
            (0.25, positive, 0.06),
            (1.0, positive, 1.0),
            (0.0, negative, -0.2),
            (0.5, negative, -0.15),
            (1.0, negative, 0.3),
            (-0.1, positive, f64::NEG_INFINITY),
            (1.1, positive, INF),
        ] {
            let got = quantile(q, &mut buckets(&pairs)).0;
            assert!(almost_equal(got, want, 1e-15), "{q}: {got} is not {want}");
        }
        assert!(quantile(0.5, &mut buckets(&[(1.0, 3.0)])).0.is_nan(), "no +Inf bucket");
        assert!(quantile(0.5, &mut buckets(&[(1.0, 0.0), (INF, 0.0)])).0.is_nan(), "no observation");
    }

    #[test]
    fn falling_counts_are_forced_up_and_told() {
        let mut falling = buckets(&[(0.1, 2.0), (1.0, 1.0), (10.0, 5.0), (100.0, 4.0), (1000.0, 9.0), (INF, 8.0)]);
        let (value, forced) = quantile(0.5, &mut falling);
        assert_eq!(value, 8.5);
        assert_eq!(forced, Some(Forced { bucket_min: 1.0, bucket_max: INF, diff_max: 1.0 }));
        let mut jitter = buckets(&[(1.0, 1.0), (2.0, 1.0 - 1e-14), (INF, 2.0)]);
        assert_eq!(quantile(0.5, &mut jitter), (1.0, None));
    }

    #[test]
    fn fractions_do_not_interpolate_infinite_buckets() {
        let pairs = [(-3.0, 10.0), (-2.0, 12.0), (-1.0, 15.0), (INF, 100.0)];
        for (lower, upper, want) in [
            (-4.0, -2.0, 0.02),
            (f64::NEG_INFINITY, -1.5, 0.135),
            (f64::NEG_INFINITY, INF, 1.0),
            (0.0, 1.0, 0.0),
            (400.0, INF, 0.85),
            (2.0, 1.0, 0.0),
        ] {
            assert_eq!(fraction(lower, upper, &mut buckets(&pairs)), want, "{lower} {upper}");
        }
        assert!(fraction(f64::NAN, 1.0, &mut buckets(&pairs)).is_nan());
    }

    #[test]
    fn quantile_labels_have_a_point() {
        for (v, text) in [(0.0, "0.0"), (1.0, "1.0"), (0.25, "0.25"), (-0.1, "-0.1"), (f64::NAN, "NaN")] {
            assert_eq!(open_metrics_float(v), text);
        }
    }
}
