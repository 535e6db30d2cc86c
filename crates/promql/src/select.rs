//! Selectors: series from the storage, turned into values at steps.
//!
//! A large set is read by several threads. They take batches of series in turn, and the batches are handed on in the
//! order of the storage, so results do not depend on how many threads there are.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Instant;

use fk_model::{Labels, Matcher, is_stale};
use fk_promql_syntax::ast::{At, DurationExpr, Pos, RangeMode, VectorSelector};
use fk_storage::{Control, Reservation, Samples, SelectParams, SeriesSet, TimeRange};

use crate::QueryError;
use crate::column::{Column, Grid, Series};
use crate::eval::{Eval, Sink};
use crate::histograms::stats::{Buckets, without_buckets};
use crate::histograms::{extended, over_range};
use crate::kernels::interpolate;
use crate::keys::Wanted;
use crate::windows::{Input, Lookback, Plan, Windows, remove_stale};

/// Most series that a thread takes at a time.
const BATCH_SERIES: usize = 64;

/// Most values of a batch, unless one series has more.
const BATCH_VALUES: usize = 1 << 16;

/// Batches that a thread may be ahead of the one that consumes them.
const BATCHES_AHEAD: usize = 2;

/// Batches of a thread that are there at once: those waiting, the one it fills and the one that is consumed.
const BATCHES_OF_THREAD: usize = BATCHES_AHEAD + 2;

/// Below so many series one thread is enough.
const PARALLEL_SERIES_MIN: usize = 512;

/// Bytes that a series of a set takes before its samples are read: where to find it, and its chunks.
const FOUND_SERIES_BYTES: usize = 64;

/// A set of series with the memory it counts for.
struct Found {
    set: Box<dyn SeriesSet>,
    _memory: Reservation,
}
/// The same where there is a single step.
const PARALLEL_INSTANT_MIN: usize = 8192;

/// What an instant selector shows of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Value,
    /// Its time, seconds.
    Time,
    /// Its start timestamp, seconds, 0 if not known.
    Start,
}

/// A function of the samples of one series, run by any thread.
pub(crate) type Kernel<'k> = &'k (dyn Fn(&Input<'_>, &mut Column) + Sync);

/// What a thread reuses from series to series.
struct Scratch {
    samples: Samples,
    plan: Plan,
    lookback: Lookback,
    no_labels: Labels,
    /// What the buffers count as: they grow to what the longest series needs, and stay so.
    memory: Reservation,
}

impl Scratch {
    fn new(control: &Control) -> Scratch {
        Scratch {
            samples: Samples::default(),
            plan: Plan::default(),
            lookback: Lookback::default(),
            no_labels: Labels::empty(),
            memory: control.reserve(),
        }
    }

    /// Counts what the buffers take by now.
    fn count(&mut self) -> Result<(), QueryError> {
        let bytes = self.samples.bytes() + self.plan.bytes() + self.lookback.bytes();
        match bytes.checked_sub(self.memory.bytes() as usize) {
            Some(more @ 1..) => Ok(self.memory.grow(more)?),
            _ => Ok(()),
        }
    }
}

/// One series as a worker hands it on.
#[derive(Default)]
struct Read {
    series: Series,
    /// Samples that took part, summed over the steps.
    samples: u64,
    /// The same, each sample of a window counted once.
    distinct: u64,
    /// Most samples that were held for it.
    held: usize,
}

/// How the values of one series come about.
type Work<'w> = &'w (dyn Fn(&mut Scratch, usize, &mut Read) -> Result<(), QueryError> + Sync);

impl Eval<'_> {
    /// The times a selector or subquery looks at from each step: `@` fixes them, `offset` shifts them.
    pub(crate) fn references(&self, grid: &Grid, at: Option<At>, offset: &DurationExpr) -> Result<Grid, QueryError> {
        let offset = self.duration_ms(offset)?;
        let fixed = at.map(|at| match at {
            At::Time(t) => t,
            At::Start => self.start_ms,
            At::End => self.end_ms,
        });
        Ok(match fixed {
            Some(t) => Grid { start: t.saturating_sub(offset), step: 0, n: grid.n },
            None => Grid { start: grid.start.saturating_sub(offset), ..*grid },
        })
    }

    /// The series that `matchers` accept. Their number counts against the memory of the query.
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Found, QueryError> {
        let params = SelectParams { range, sorted: false, limit: 0 };
        let began = Instant::now();
        let set = self.storage.select(&params, matchers, self.control())?;
        self.selecting.set(self.selecting.get() + began.elapsed());
        self.stats.borrow_mut().series_total += set.len() as u64;
        if let Some(trace) = &self.trace {
            trace.found(set.len());
        }
        let mut memory = self.control().reserve();
        self.take_memory(&mut memory, set.len() * FOUND_SERIES_BYTES)?;
        Ok(Found { set, _memory: memory })
    }

    /// The same for a range selector, which is a part of the query of its own.
    fn select_of(&self, selector: &VectorSelector, range: TimeRange) -> Result<Found, QueryError> {
        let Some(trace) = &self.trace else { return self.select(&selector.matchers, range) };
        let outer = trace.enter_selector(selector);
        let found = self.select(&selector.matchers, range);
        trace.switch(outer);
        found
    }

    /// An instant selector: at each step the newest sample within the lookback, unless it is a staleness marker.
    /// Histograms are marked by themselves, whatever is shown.
    pub(crate) fn instant(
        &self,
        selector: &VectorSelector,
        at: Pos,
        grid: &Grid,
        shown: Shown,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let refs = self.references(grid, selector.at, &selector.offset)?;
        match selector.mode {
            RangeMode::Plain if shown != Shown::Value && selector.at.is_some() => {
                // As in Prometheus: the offset moves what is fetched, but not where the newest sample is looked for.
                let unmoved = self.references(grid, selector.at, &DurationExpr::Const(0))?;
                self.newest_at(&selector.matchers, &refs, &unmoved, grid, shown, sink)
            }
            RangeMode::Plain => self.instant_at(&selector.matchers, &refs, grid, shown, sink),
            RangeMode::Smoothed => self.smoothed_at(&selector.matchers, at, &refs, grid, sink),
            RangeMode::Anchored => {
                Err(QueryError::execution("anchored modifier can only be used with range selectors"))
            }
        }
    }

    /// The series that `matchers` accept, as seen from the times `refs`.
    pub(crate) fn instant_at(
        &self,
        matchers: &[Matcher],
        refs: &Grid,
        grid: &Grid,
        shown: Shown,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        self.newest_at(matchers, refs, refs, grid, shown, sink)
    }

    /// The same as seen from `refs`, of the samples within the lookback of the times `fetched` only.
    fn newest_at(
        &self,
        matchers: &[Matcher],
        fetched: &Grid,
        refs: &Grid,
        grid: &Grid,
        shown: Shown,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let lookback = self.query.options.lookback_ms;
        let Some(last) = grid.n.checked_sub(1) else { return Ok(()) };
        let range = TimeRange { mint: fetched.t(0).saturating_sub(lookback).saturating_add(1), maxt: fetched.t(last) };
        // What the first step sees of that.
        let oldest = refs.t(0).saturating_sub(lookback).saturating_add(1);
        let seen = TimeRange { mint: range.mint.max(oldest), maxt: range.maxt.min(refs.t(0)) };
        if grid.n == 1 && seen.mint > seen.maxt {
            return Ok(());
        }
        let found = self.select(matchers, range)?;
        let set = &*found.set;
        let (bare, control) = (self.buckets.get() == Buckets::Unused, self.control());
        let work = |scratch: &mut Scratch, idx: usize, read: &mut Read| {
            let col = &mut read.series.col;
            col.clear(grid.n);
            if grid.n == 1 && shown != Shown::Start {
                if let Some(newest) = set.last(idx, seen)?.filter(|newest| !is_stale(newest.v)) {
                    col.set(0, if shown == Shown::Time { newest.t as f64 / 1000.0 } else { newest.v });
                    if let Some(h) = newest.h {
                        col.set_histogram(0, h);
                        if bare {
                            // Hints need those before it, too.
                            set.read(idx, seen, &mut scratch.samples)?;
                            without_buckets(&mut scratch.samples);
                            if let Some((_, h)) = scratch.samples.histograms.last() {
                                col.set_histogram(0, Arc::clone(h));
                            }
                        }
                    }
                }
            } else {
                set.read(idx, range, &mut scratch.samples)?;
                let Scratch { samples, lookback: plan, .. } = scratch;
                if bare && !samples.histograms.is_empty() {
                    without_buckets(samples);
                }
                let newest = plan.update(refs, lookback, &samples.t, control)?;
                col.fill(control, |step| {
                    let at = newest[step] as usize;
                    let v = *samples.v.get(at).filter(|v| !is_stale(**v))?;
                    Some(match shown {
                        Shown::Value => v,
                        Shown::Time => samples.t[at] as f64 / 1000.0,
                        Shown::Start => samples.starts.get(at).copied().unwrap_or(0) as f64 / 1000.0,
                    })
                });
                if !samples.histograms.is_empty() {
                    col.add_newest(newest, &samples.histograms);
                }
                control.check()?;
            }
            Ok(())
        };
        self.each_instant(set, &work, grid, sink)
    }

    /// The same with values interpolated between the samples around each step.
    fn smoothed_at(
        &self,
        matchers: &[Matcher],
        at: Pos,
        refs: &Grid,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let lookback = self.query.options.lookback_ms;
        let Some(last) = grid.n.checked_sub(1) else { return Ok(()) };
        let mint = refs.t(0).saturating_sub(lookback).saturating_add(1);
        let range = TimeRange { mint, maxt: refs.t(last).saturating_add(lookback) };
        let found = self.select(matchers, range)?;
        let set = &*found.set;
        let work = |scratch: &mut Scratch, idx: usize, read: &mut Read| {
            set.read(idx, range, &mut scratch.samples)?;
            remove_stale(&mut scratch.samples);
            read.series.col.clear(grid.n);
            if scratch.samples.histograms.is_empty() {
                smooth(&scratch.samples, refs, lookback, &mut read.series.col);
            } else {
                extended::smooth(&scratch.samples, refs, lookback, &mut read.series.col);
            }
            Ok(())
        };
        self.each_instant(set, &work, grid, &mut |series| self.tell_notes(series, at, sink))
    }

    /// Runs `work` for the series of an instant selector, one sample per step, and counts them.
    fn each_instant(&self, set: &dyn SeriesSet, work: Work<'_>, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let counting = |scratch: &mut Scratch, idx: usize, read: &mut Read| {
            work(scratch, idx, read)?;
            read.samples = read.series.col.samples() as u64;
            read.distinct = read.samples;
            read.held = read.samples as usize;
            Ok(())
        };
        if !self.stats_per_step() {
            return self.each_series(set, &counting, grid.n, sink);
        }
        self.each_series(set, &counting, grid.n, &mut |series| {
            let at_step = |step| (step, series.col.samples_at(step) as u64, series.col.samples_at(step) as u64);
            self.count_steps(series.col.ok.iter().map(at_step), grid);
            sink(series)
        })
    }

    /// A range selector under a function: what `kernel` makes of each series.
    pub(crate) fn range(
        &self,
        selector: &VectorSelector,
        windows: &Windows,
        kernel: Kernel<'_>,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let n = windows.eval.n;
        if n == 0 {
            return Ok(());
        }
        let range = TimeRange {
            mint: windows.start(0).saturating_sub(windows.beyond_ms).saturating_add(1),
            maxt: if selector.mode == RangeMode::Smoothed {
                windows.end(n - 1).saturating_add(windows.beyond_ms)
            } else {
                windows.end(n - 1)
            },
        };
        let found = self.select_of(selector, range)?;
        let set = &*found.set;
        let (control, wants_steps) = (self.control(), self.stats_per_step());
        let bare = self.buckets.get() == Buckets::Unused;
        let uses_starts = self.query.options.use_start_timestamps;
        let per_step = Mutex::new(wants_steps.then(|| vec![(0u64, 0u64); n]));
        let work = |scratch: &mut Scratch, idx: usize, read: &mut Read| {
            let Scratch { samples, plan, .. } = scratch;
            set.read(idx, range, samples)?;
            remove_stale(samples);
            read.series.col.clear(n);
            if bare && !samples.histograms.is_empty() {
                without_buckets(samples);
            }
            read.held = held(samples);
            if samples.is_empty() {
                return Ok(());
            }
            plan.update(windows, &samples.t, control)?;
            (read.samples, read.distinct) = (plan.total(), plan.distinct());
            if wants_steps
                && let Ok(mut counts) = per_step.lock()
                && let Some(counts) = counts.as_mut()
            {
                let mut read_up_to = 0;
                for ((total, read), &(lo, hi)) in counts.iter_mut().zip(plan.bounds()) {
                    *total += u64::from(hi - lo);
                    *read += u64::from(hi.saturating_sub(read_up_to.max(lo)));
                    read_up_to = read_up_to.max(hi);
                }
            }
            let starts = if uses_starts { &samples.starts[..] } else { &[] };
            let (t, v, histograms) = (&samples.t, &samples.v, &samples.histograms);
            let input = Input { windows, t, v, histograms, starts, plan, control };
            if !samples.histograms.is_empty() {
                let (samples, distinct) = over_range::extra_in_windows(&input);
                read.samples += samples;
                read.distinct += distinct;
            }
            kernel(&input, &mut read.series.col);
            Ok(control.check()?)
        };
        self.each_series(set, &work, n, sink)?;
        if let Ok(Some(counts)) = per_step.into_inner() {
            let counts = counts.into_iter().enumerate().map(|(step, (total, read))| (step, total, read));
            self.count_steps(counts, &windows.eval);
        }
        Ok(())
    }

    /// The samples of a range selector themselves, for an instant query that is nothing else.
    pub(crate) fn raw(
        &self,
        selector: &VectorSelector,
        windows: &Windows,
        sink: &mut dyn FnMut(Labels, &Samples) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let range = TimeRange { mint: windows.start(0).saturating_add(1), maxt: windows.end(0) };
        let found = self.select_of(selector, range)?;
        let set = &*found.set;
        let mut samples = Samples::default();
        for idx in 0..set.len() {
            self.control().check()?;
            set.read(idx, range, &mut samples)?;
            remove_stale(&mut samples);
            if !samples.is_empty() {
                let count = held(&samples) as u64;
                self.count(count, count);
                self.count_steps([(0, count, count)], &windows.eval);
                sink(set.labels(idx), &samples)?;
            }
        }
        Ok(())
    }

    /// Runs `work` for every series of `steps` values and hands on those that have a value, in order.
    fn each_series(&self, set: &dyn SeriesSet, work: Work<'_>, steps: usize, sink: Sink<'_>) -> Result<(), QueryError> {
        let control = self.control();
        let wanted = self.take_wanted();
        let wanted = wanted.as_ref();
        let threads = self.threads(set.len(), steps);
        let mut hand_on = |read: &mut Read| {
            self.count(read.samples, read.distinct);
            self.touch(read.held)?;
            if read.series.col.says_nothing() { Ok(()) } else { sink(&mut read.series) }
        };
        if threads < 2 {
            let mut memory = control.reserve();
            self.take_memory(&mut memory, column_bytes(steps))?;
            let (mut scratch, mut read) = (Scratch::new(control), Read::default());
            for idx in 0..set.len() {
                read_one(set, control, work, wanted, &mut scratch, idx, &mut read)?;
                hand_on(&mut read)?;
            }
            return Ok(());
        }
        let batch_series = (BATCH_VALUES / steps.max(1)).clamp(1, BATCH_SERIES);
        let mut memory = control.reserve();
        self.take_memory(&mut memory, threads * BATCHES_OF_THREAD * batch_series * column_bytes(steps))?;
        let batches = set.len().div_ceil(batch_series);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|first| {
                    let (sender, receiver) = mpsc::sync_channel(BATCHES_AHEAD);
                    // What was handed on comes back, so that its memory is used again by the thread that made it.
                    let (giver_back, back) = mpsc::channel::<Vec<Read>>();
                    scope.spawn(move || {
                        let mut scratch = Scratch::new(control);
                        for batch in (first..batches).step_by(threads) {
                            let indexes = batch * batch_series..set.len().min((batch + 1) * batch_series);
                            let mut reads = back.try_recv().unwrap_or_default();
                            reads.resize_with(indexes.len(), Read::default);
                            let result = indexes.zip(&mut reads).try_for_each(|(idx, read)| {
                                read_one(set, control, work, wanted, &mut scratch, idx, read)
                            });
                            let failed = result.is_err();
                            // The receiver is gone once an earlier batch or its consumer has failed.
                            if sender.send(result.map(|()| reads)).is_err() || failed {
                                return;
                            }
                        }
                    });
                    (receiver, giver_back)
                })
                .collect();
            for batch in 0..batches {
                let (receiver, giver_back) = &workers[batch % threads];
                let mut reads = receiver.recv().map_err(|_| QueryError::execution("a query thread ended early"))??;
                reads.iter_mut().try_for_each(&mut hand_on)?;
                // The thread may have ended with its last batch.
                let _ = giver_back.send(reads);
            }
            Ok(())
        })
    }

    /// How many threads read a set of `series` with so many steps each.
    fn threads(&self, series: usize, steps: usize) -> usize {
        // The newest sample of a series is found faster than it is handed from thread to thread.
        if series < if steps == 1 { PARALLEL_INSTANT_MIN } else { PARALLEL_SERIES_MIN } {
            return 1;
        }
        // Asking the system takes longer than a small query.
        static MACHINE: OnceLock<usize> = OnceLock::new();
        let machine = *MACHINE.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        match self.query.options.threads_max {
            0 => machine,
            max => max,
        }
    }
}

/// Memory of the values of a series of `steps` steps on its way.
fn column_bytes(steps: usize) -> usize {
    size_of::<Read>() + steps * size_of::<f64>() + steps / 8
}

fn read_one(
    set: &dyn SeriesSet,
    control: &Control,
    work: Work<'_>,
    wanted: Option<&Wanted>,
    scratch: &mut Scratch,
    idx: usize,
    read: &mut Read,
) -> Result<(), QueryError> {
    control.check()?;
    (read.samples, read.distinct) = (0, 0);
    work(scratch, idx, read)?;
    scratch.count()?;
    read.series.drop_name = false;
    if !read.series.col.says_nothing() {
        // What is said of histograms names their metric.
        read.series.labels = match wanted.filter(|_| !read.series.col.has_histograms()) {
            None => set.labels(idx),
            Some(wanted) if wanted.is_empty() => scratch.no_labels.clone(),
            Some(wanted) => set.labels_where(idx, &|name| wanted.has(name)),
        };
    }
    Ok(())
}

/// `smoothed`: the value on the line between the samples around each step; the last one is carried forward.
fn smooth(samples: &Samples, refs: &Grid, lookback: i64, col: &mut Column) {
    let (t, v) = (&samples.t[..], &samples.v[..]);
    let mut next = 0;
    for step in 0..refs.n {
        let at = refs.t(step);
        while next < t.len() && t[next] <= at {
            next += 1;
        }
        let Some(newest) = next.checked_sub(1).filter(|i| t[*i] > at.saturating_sub(lookback)) else { continue };
        let between = t[newest] < at && next < t.len() && t[next] <= at.saturating_add(lookback);
        let value =
            if between { interpolate((t[newest], v[newest]), (t[next], v[next]), at, false) } else { v[newest] };
        col.set(step, value);
    }
}

/// What samples count as while they are held.
#[inline]
fn held(samples: &Samples) -> usize {
    let extra = samples.histograms.iter().map(|(_, h)| over_range::extra_samples(h));
    samples.len() + if samples.histograms.is_empty() { 0 } else { extra.sum() }
}
