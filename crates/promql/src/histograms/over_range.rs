//! Functions of range vectors for series with histograms: the counterpart of `kernels.rs`. Series of floats never come
//! here.
//!
//! Whether a counter was reset between two histograms is found out once per pair, not once per window; a window makes one
//! new histogram and adds and subtracts the others in place.

use std::ops::Range;
use std::sync::Arc;

use fk_model::histogram::{HistogramMean, HistogramSum};
use fk_model::{CounterReset, FloatHistogram, SampleValue as Value};
use fk_promql_syntax::ast::RangeMode;
use fk_storage::{Control, Samples, Stopped};

use super::Note;
use super::extended;
use crate::column::{Column, Grid};
use crate::kernels::anchor;
use crate::windows::{Input, Pace, Plan};

/// What a function does when there are histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Looks at times only, so histograms are as good as floats.
    Times,
    /// Leaves histograms out, and tells it where there are floats, too.
    Floats,
    /// Takes windows of floats only or of histograms only.
    Either(Either),
    /// The first or last sample of the window.
    First,
    Last,
    /// From the last two samples.
    LastTwo {
        rate: bool,
    },
    /// Counts pairs of neighbours.
    Changes,
    Resets,
}

/// What is computed of a window of histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Either {
    Sum,
    Mean,
    Difference { counter: bool, per_second: bool },
}

fn kind(function: &str) -> Kind {
    let difference = |counter, per_second| Kind::Either(Either::Difference { counter, per_second });
    match function {
        "rate" => difference(true, true),
        "increase" => difference(true, false),
        "delta" => difference(false, false),
        "sum_over_time" => Kind::Either(Either::Sum),
        "avg_over_time" => Kind::Either(Either::Mean),
        "first_over_time" => Kind::First,
        "last_over_time" => Kind::Last,
        "irate" => Kind::LastTwo { rate: true },
        "idelta" => Kind::LastTwo { rate: false },
        "changes" => Kind::Changes,
        "resets" => Kind::Resets,
        "count_over_time" | "present_over_time" | "ts_of_first_over_time" | "ts_of_last_over_time" => Kind::Times,
        _ => Kind::Floats,
    }
}

/// What a histogram counts as where work is measured in floats.
pub(super) const SAMPLES_PER_HISTOGRAM: usize = 16;

/// A histogram and its place among the samples.
pub(super) type Entry = (u32, Arc<FloatHistogram>);

/// Computes `function` for a series with histograms. `floats`: the kernel that does so for floats.
pub(crate) fn run(
    function: &str,
    mode: RangeMode,
    input: &Input<'_>,
    floats: &dyn Fn(&Input<'_>, &mut Column),
    out: &mut Column,
) {
    match (kind(function), mode) {
        (Kind::Times, _) => floats(&Input { histograms: &[], ..*input }, out),
        (Kind::Floats, _) => {
            floats_only(input, floats, out);
            if windows(input).any(|window| !window.histograms.is_empty() && window.floats() > 0) {
                out.note(Note::Ignored);
            }
        }
        (Kind::Either(Either::Difference { counter, per_second }), RangeMode::Anchored | RangeMode::Smoothed) => {
            floats_only(input, floats, out);
            extended::differences(input, mode == RangeMode::Smoothed, counter, per_second, out);
        }
        (Kind::Either(what), _) => {
            floats_only(input, floats, out);
            either(input, what, out);
        }
        (Kind::First, _) => ends(input, out, |window| window.samples.start),
        (Kind::Last, _) => ends(input, out, |window| window.samples.end - 1),
        (Kind::LastTwo { rate }, _) => last_two(input, rate, out),
        (Kind::Changes, mode) => pairs(
            input,
            mode,
            out,
            |_, before, now| !now.equals(before),
            |_, before, now| now != before && !(now.is_nan() && before.is_nan()),
        ),
        (Kind::Resets, mode) => {
            let by_start = |at: usize| at > 0 && input.starts_anew(at - 1, at);
            pairs(
                input,
                mode,
                out,
                |at, before, now| by_start(at) || now.is_reset(before),
                |at, before, now| now < before || by_start(at),
            );
        }
    }
}

/// A window that holds samples.
struct Window<'a> {
    step: usize,
    /// Indices of its samples.
    samples: Range<usize>,
    /// Indices of the histograms among them, among all histograms.
    found: Range<usize>,
    /// These histograms.
    histograms: &'a [Entry],
}

impl Window<'_> {
    fn floats(&self) -> usize {
        self.samples.len() - self.histograms.len()
    }
}

/// The histograms among samples of ascending ranges, which may overlap.
pub(super) struct Within<'a> {
    histograms: &'a [Entry],
    ends: (usize, usize),
}

impl<'a> Within<'a> {
    pub(super) fn new(histograms: &'a [Entry]) -> Within<'a> {
        Within { histograms, ends: (0, 0) }
    }

    /// Indices of those among `samples`.
    pub(super) fn range(&mut self, samples: &Range<usize>) -> Range<usize> {
        let behind = |from: usize, at: usize| {
            from + self.histograms[from..].iter().take_while(|(of, _)| (*of as usize) < at).count()
        };
        self.ends = (behind(self.ends.0, samples.start), behind(self.ends.1, samples.end));
        self.ends.0..self.ends.1.max(self.ends.0)
    }
}

fn windows<'a>(input: &Input<'a>) -> impl Iterator<Item = Window<'a>> {
    let (histograms, bounds) = (input.histograms, input.plan.bounds());
    let mut within = Within::new(histograms);
    bounds.iter().enumerate().filter_map(move |(step, &(lo, hi))| {
        let samples = lo as usize..hi as usize;
        let found = within.range(&samples);
        let histograms = &histograms[found.clone()];
        (!samples.is_empty()).then_some(Window { step, samples, found, histograms })
    })
}

/// The samples that are no histograms.
fn float_samples(input: &Input<'_>) -> Samples {
    let mut floats = Samples::default();
    let mut histograms = input.histograms.iter().map(|(at, _)| *at as usize).peekable();
    for (at, (t, v)) in input.t.iter().zip(input.v).enumerate() {
        if histograms.next_if_eq(&at).is_none() {
            floats.push_start(input.starts.get(at).copied().unwrap_or(0));
            floats.push(*t, *v);
        }
    }
    floats
}

/// Computes what the floats alone give.
fn floats_only(input: &Input<'_>, kernel: &dyn Fn(&Input<'_>, &mut Column), out: &mut Column) {
    if input.histograms.len() == input.t.len() {
        return;
    }
    let floats = float_samples(input);
    let mut plan = Plan::default();
    // Whoever runs a kernel looks at the control behind it.
    if plan.update(input.windows, &floats.t, input.control).is_err() {
        return;
    }
    let Samples { t, v, starts, .. } = &floats;
    kernel(&Input { t, v, starts, plan: &plan, histograms: &[], ..*input }, out);
}

/// Whether a counter was reset before each histogram, as seen from the one before it.
fn resets(input: &Input<'_>) -> Vec<bool> {
    let (mut pace, mut goes_on) = (Pace::new(input.control), true);
    let pairs = input.histograms.windows(2).map(|pair| {
        let [(before_at, before), (at, h)] = pair else { return false };
        goes_on = goes_on && pace.goes_on(SAMPLES_PER_HISTOGRAM);
        if !goes_on {
            return false;
        }
        input.starts_anew(*before_at as usize, *at as usize) || h.is_reset(before)
    });
    std::iter::once(false).chain(pairs).collect()
}

/// Functions that take floats or histograms. The floats are done.
fn either(input: &Input<'_>, what: Either, out: &mut Column) {
    let resets = match what {
        Either::Difference { counter: true, .. } => resets(input),
        _ => Vec::new(),
    };
    let stretches = input.plan.stretches(input);
    let mut pace = Pace::new(input.control);
    for window in windows(input).filter(|window| !window.histograms.is_empty()) {
        let histograms = window.histograms;
        if window.floats() > 0 {
            out.ok.unset(window.step);
            out.note(Note::MixedFloats);
            continue;
        }
        let looked_at = match what {
            Either::Sum | Either::Mean => 1,
            Either::Difference { .. } => histograms.len(),
        };
        if !pace.goes_on(looked_at * SAMPLES_PER_HISTOGRAM) {
            return;
        }
        let result = match what {
            Either::Sum => summed(histograms, &mut pace, out),
            Either::Mean => averaged(histograms, &mut pace, out),
            Either::Difference { counter, per_second } => {
                let resets = resets.get(window.found.clone()).unwrap_or_default();
                if counter && let Some(start) = input.start_inside(window.step, window.samples.start) {
                    let since = input.factor_since(window.step, start, &window.samples);
                    let result = since_start(input, &window, resets, out);
                    let factor = if per_second { since / input.windows.range_seconds() } else { since };
                    if let Some(mut result) = result {
                        result.mul(factor);
                        out.set_histogram(window.step, Arc::new(result));
                    }
                    continue;
                }
                if counter {
                    input.note_overlap(window.samples.clone(), out);
                }
                difference(histograms, resets, counter, out).map(|mut result| {
                    let stretch = stretches.at(window.step);
                    let mut factor = stretch.factor;
                    let first = histograms[0].1.count;
                    if counter && result.count > 0.0 && first >= 0.0 {
                        // A counter cannot have been below zero.
                        let to_zero = stretch.sampled * (first / result.count);
                        if to_zero < stretch.to_start {
                            factor = (stretch.sampled + to_zero + stretch.to_end) / stretch.sampled;
                        }
                    }
                    if per_second {
                        factor /= input.windows.range_seconds();
                    }
                    result.mul(factor);
                    result
                })
            }
        };
        if let Some(result) = result {
            out.set_histogram(window.step, Arc::new(result));
        }
    }
}

/// Which hints of counter resets were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints {
    reset: bool,
    not_reset: bool,
}

impl Hints {
    pub(crate) fn see(&mut self, h: &FloatHistogram) {
        self.reset |= h.counter_reset == CounterReset::Reset;
        self.not_reset |= h.counter_reset == CounterReset::NotReset;
    }

    pub(crate) fn collide(self) -> bool {
        self.reset && self.not_reset
    }
}

/// Notes what was found while adding up histograms of a window.
fn note_sum(histograms: &[Entry], reconciled: bool, out: &mut Column) {
    let mut hints = Hints::default();
    histograms.iter().for_each(|(_, h)| hints.see(h));
    if hints.collide() {
        out.note(Note::CollisionAggregate);
    }
    if reconciled {
        out.note(Note::ReconciledAggregate);
    }
}

fn summed(histograms: &[Entry], pace: &mut Pace<'_>, out: &mut Column) -> Option<FloatHistogram> {
    let ((_, first), rest) = histograms.split_first()?;
    let mut sum = HistogramSum::new(FloatHistogram::clone(first));
    let mut reconciled = false;
    for (_, h) in rest {
        if !pace.goes_on(SAMPLES_PER_HISTOGRAM) {
            return None;
        }
        match sum.add(h) {
            Ok(by_this) => reconciled |= by_this,
            Err(_) => {
                out.note(Note::MixedBuckets);
                return None;
            }
        }
    }
    note_sum(histograms, reconciled, out);
    Some(sum.finish())
}

fn averaged(histograms: &[Entry], pace: &mut Pace<'_>, out: &mut Column) -> Option<FloatHistogram> {
    let ((_, first), rest) = histograms.split_first()?;
    let mut mean = HistogramMean::new(FloatHistogram::clone(first));
    let mut reconciled = false;
    for (_, h) in rest {
        if !pace.goes_on(SAMPLES_PER_HISTOGRAM) {
            return None;
        }
        match mean.add(h) {
            Ok(by_this) => reconciled |= by_this,
            Err(_) => {
                out.note(Note::MixedBuckets);
                return None;
            }
        }
    }
    note_sum(histograms, reconciled, out);
    Some(mean.finish())
}

/// A copy in the buckets of `schema`, which is not larger.
fn at_schema(h: &FloatHistogram, schema: i32) -> FloatHistogram {
    let mut copy = h.clone();
    if !copy.uses_custom_buckets() && copy.reduce_resolution(schema).is_err() {
        // Only a histogram that contradicts itself, which no storage hands out.
        copy = FloatHistogram { schema, ..FloatHistogram::default() };
    }
    copy
}

/// The difference of the last histogram and the first, and what was lost by counter resets (`histogramRate` in
/// Prometheus). `resets`: before which of them a counter was reset, if it is one.
fn difference(histograms: &[Entry], resets: &[bool], counter: bool, out: &mut Column) -> Option<FloatHistogram> {
    let [(_, first), (_, second), ..] = histograms else { return None };
    let (_, last) = histograms.last()?;
    let is_gauge = |h: &FloatHistogram| h.counter_reset == CounterReset::Gauge;
    if counter && histograms.iter().any(|(_, h)| is_gauge(h)) {
        out.note(Note::NotCounter);
    }
    // A first sample that is followed by a reset says nothing but that, so its buckets may be what they like.
    let nothing;
    let mut base: &FloatHistogram = first;
    if counter && resets.get(1) == Some(&true) {
        nothing = FloatHistogram {
            schema: second.schema,
            custom_values: Arc::clone(&second.custom_values),
            ..FloatHistogram::default()
        };
        base = &nothing;
    }
    let custom = base.uses_custom_buckets();
    let between = if counter { &histograms[1..histograms.len() - 1] } else { &[] };
    if last.uses_custom_buckets() != custom || between.iter().any(|(_, h)| h.uses_custom_buckets() != custom) {
        out.note(Note::MixedBuckets);
        return None;
    }
    let schema = between.iter().map(|(_, h)| h.schema).fold(last.schema.min(base.schema), i32::min);
    let mut result = at_schema(last, schema);
    // Hints may contradict each other: resets are looked for here.
    if result.sub(base).ok()?.reconciled {
        out.note(Note::ReconciledSub);
    }
    if counter {
        for at in (2..histograms.len()).filter(|at| resets.get(*at) == Some(&true)) {
            if result.add(&histograms[at - 1].1).ok()?.reconciled {
                out.note(Note::ReconciledAdd);
            }
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        out.note(Note::NotGauge);
    }
    result.counter_reset = CounterReset::Gauge;
    result.compact(0);
    Some(result)
}

/// What a counter has counted since the start of its first histogram in the window.
fn since_start(input: &Input<'_>, window: &Window<'_>, resets: &[bool], out: &mut Column) -> Option<FloatHistogram> {
    let (_, first) = window.histograms.first()?;
    if window.histograms.len() == 1 {
        return Some(FloatHistogram::clone(first));
    }
    input.note_overlap(window.samples.clone(), out);
    let mut result = difference(window.histograms, resets, true, out)?;
    match result.add(first) {
        Ok(combined) if combined.reconciled => out.note(Note::ReconciledAdd),
        Ok(_) => {}
        Err(_) => {
            out.note(Note::MixedBuckets);
            return None;
        }
    }
    Some(result)
}

/// The sample at `at`.
fn sample(input: &Input<'_>, histograms: &[Entry], at: usize) -> Value {
    match histograms.binary_search_by_key(&at, |(of, _)| *of as usize) {
        Ok(found) => Value::Histogram(Arc::clone(&histograms[found].1)),
        Err(_) => Value::Float(input.v[at]),
    }
}

/// One sample of each window.
fn ends(input: &Input<'_>, out: &mut Column, which: impl Fn(&Window<'_>) -> usize) {
    for window in windows(input) {
        out.set_value(window.step, sample(input, window.histograms, which(&window)));
    }
}

/// `irate` and `idelta`
fn last_two(input: &Input<'_>, rate: bool, out: &mut Column) {
    let mut pace = Pace::new(input.control);
    for window in windows(input).filter(|window| window.samples.len() > 1) {
        if !pace.goes_on(SAMPLES_PER_HISTOGRAM) {
            return;
        }
        let (a, b) = (window.samples.end - 2, window.samples.end - 1);
        let seconds = input.t[b].saturating_sub(input.t[a]) as f64 / 1000.0;
        match (sample(input, window.histograms, a), sample(input, window.histograms, b)) {
            (Value::Float(before), Value::Float(now)) => {
                let difference = if rate && (now < before || input.starts_anew(a, b)) { now } else { now - before };
                out.set_float(window.step, if rate { difference / seconds } else { difference });
            }
            (Value::Histogram(before), Value::Histogram(now)) => {
                let gauges = [&before, &now].map(|h| h.counter_reset == CounterReset::Gauge);
                if rate && gauges.contains(&true) {
                    out.note(Note::NotCounter);
                }
                if !rate && gauges.contains(&false) {
                    out.note(Note::NotGauge);
                }
                let mut result = FloatHistogram::clone(&now);
                if !rate || !(input.starts_anew(a, b) || now.is_reset(&before)) {
                    match result.sub(&before) {
                        Ok(combined) if combined.reconciled => out.note(Note::ReconciledSub),
                        Ok(_) => {}
                        Err(_) => {
                            out.note(Note::MixedBuckets);
                            continue;
                        }
                    }
                }
                result.counter_reset = CounterReset::Gauge;
                result.compact(0);
                if rate {
                    result.div(seconds);
                }
                out.set_histogram(window.step, Arc::new(result));
            }
            _ => out.note(Note::MixedFloats),
        }
    }
}

/// `changes` and `resets`: neighbours of different kinds always count.
fn pairs(
    input: &Input<'_>,
    mode: RangeMode,
    out: &mut Column,
    histograms: impl Fn(usize, &FloatHistogram, &FloatHistogram) -> bool,
    floats: impl Fn(usize, f64, f64) -> bool,
) {
    let mut of_sample: Vec<Option<&FloatHistogram>> = vec![None; input.t.len()];
    for (at, h) in input.histograms {
        if let Some(slot) = of_sample.get_mut(*at as usize) {
            *slot = Some(h);
        }
    }
    // How many count up to each sample.
    let mut counts = Vec::with_capacity(input.t.len());
    let mut count = 0u32;
    for at in 0..input.t.len() {
        let counted = at > 0
            && match (of_sample[at - 1], of_sample[at]) {
                (None, None) => floats(at, input.v[at - 1], input.v[at]),
                (Some(before), Some(now)) => histograms(at, before, now),
                _ => true,
            };
        count += u32::from(counted);
        counts.push(count);
    }
    for window in windows(input) {
        let first = match mode {
            RangeMode::Anchored => anchor(input, window.step, window.samples.start),
            _ => window.samples.start,
        };
        out.set_float(window.step, f64::from(counts[window.samples.end - 1] - counts[first]));
    }
}

impl Column {
    /// Replaces `samples` by the values at the steps of `grid`, as a subquery sees them. Hints of counter resets are
    /// forgotten: the samples they tell of may not be among the steps, or be there twice.
    pub(crate) fn to_samples(&self, grid: &Grid, samples: &mut Samples, control: &Control) -> Result<(), Stopped> {
        samples.clear();
        let count = self.ok.count();
        samples.t.reserve(count);
        samples.v.reserve(count);
        if count == grid.n {
            samples.t.extend((0..grid.n).map(|step| grid.t(step)));
            control.check()?;
            samples.v.extend_from_slice(&self.v);
        } else {
            samples.t.extend(self.ok.iter().map(|step| grid.t(step)));
            control.check()?;
            samples.v.extend(self.iter().map(|(_, v)| v));
        }
        control.check()?;
        samples.histograms = self.sparse_histograms(|_| true);
        for (_, h) in &mut samples.histograms {
            if matches!(h.counter_reset, CounterReset::Reset | CounterReset::NotReset) {
                Arc::make_mut(h).counter_reset = CounterReset::Unknown;
            }
        }
        Ok(())
    }
}

/// What histograms count as beyond one sample each, where samples are counted: by their size, in units of a float sample
/// with its time, as in Prometheus.
pub(crate) fn extra_samples(h: &FloatHistogram) -> usize {
    const STRUCT_BYTES: usize = 168;
    const TIME_BYTES: usize = 8;
    const SAMPLE_BYTES: usize = 16;
    let parts = h.positive_spans.len() + h.negative_spans.len() + h.positive_buckets.len() + h.negative_buckets.len();
    (STRUCT_BYTES + TIME_BYTES + 8 * (parts + h.custom_values.len())) / SAMPLE_BYTES - 1
}

/// The same for the windows of all steps, and for the samples that are in any of them.
pub(crate) fn extra_in_windows(input: &Input<'_>) -> (u64, u64) {
    let (mut total, mut distinct, mut seen) = (0, 0, 0);
    // Of all histograms up to each.
    let mut up_to = Vec::with_capacity(input.histograms.len() + 1);
    let mut sum = 0u64;
    up_to.push(sum);
    up_to.extend(input.histograms.iter().map(|(_, h)| {
        sum += extra_samples(h) as u64;
        sum
    }));
    for window in windows(input) {
        let Range { start, end } = window.found;
        total += up_to[end] - up_to[start];
        distinct += up_to[end.max(seen)] - up_to[start.max(seen)];
        seen = seen.max(end);
    }
    (total, distinct)
}
