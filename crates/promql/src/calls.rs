//! Function calls: which arguments are what, metric names, annotations. The arithmetic is in `kernels.rs` (range
//! vectors), `instant.rs` and `date.rs` (values), `histogram.rs` and `relabel.rs`.

use fk_model::{FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, MatchKind, Matcher};
use fk_promql_syntax::ast::{Call, Expr, ExprKind, Pos, RangeMode, ValueType};
use fk_storage::Samples;

use crate::column::{Bits, Column, Grid, Series};
use crate::eval::{Eval, Scalar, Sink, strip_parens, type_of, unexpected};
use crate::histograms::over_range;
use crate::histograms::quantile::variance;
use crate::histograms::stats::Buckets;
use crate::relabel::by_labels;
use crate::select::{Kernel, Shown};
use crate::windows::{Input, Plan};
use crate::{QueryError, instant, kernels, math, order, pdq};

/// Endings of counter names.
const COUNTER_ENDINGS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

impl Eval<'_> {
    /// A call that gives a vector.
    pub(crate) fn call(&self, expr: &Expr, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let name = call.function.name;
        let arg = |at: usize| call.args.get(at).ok_or_else(|| unexpected(expr, "more arguments"));
        if let Some(kernel) = kernels::find(name) {
            return self.range_function(name, arg(0)?, arg(0)?, grid, &kernel, sink);
        }
        if let Some(map) = instant::find(name) {
            let Some(arg) = call.args.first() else {
                let mut time = Series { col: self.scalar_column(&self.time(grid)?, grid), ..Series::default() };
                time.col.map(map);
                return sink(&mut time);
            };
            return self.map_values(arg, grid, sink, |_, v| map(v));
        }
        let buckets = self.buckets.get();
        let unused = buckets.unused_below();
        match name {
            "quantile_over_time" => {
                let q = self.scalar(arg(0)?, grid)?;
                let kernel =
                    |input: &Input<'_>, out: &mut Column| kernels::quantile_over_time(input, out, |step| q.at(step));
                self.range_function(name, arg(0)?, arg(1)?, grid, &kernel, &mut |series| {
                    let mut notes = self.notes.borrow_mut();
                    series.col.ok.iter().for_each(|step| notes.invalid_quantile(q.at(step), call.args[0].pos));
                    drop(notes);
                    sink(series)
                })
            }
            "predict_linear" => {
                let ahead = self.scalar(arg(1)?, grid)?;
                let kernel =
                    |input: &Input<'_>, out: &mut Column| kernels::predict_linear(input, out, |step| ahead.at(step));
                self.range_function(name, arg(0)?, arg(0)?, grid, &kernel, sink)
            }
            "double_exponential_smoothing" => {
                let (sf, tf) = (self.scalar(arg(1)?, grid)?, self.scalar(arg(2)?, grid)?);
                let kernel = |input: &Input<'_>, out: &mut Column| {
                    kernels::double_exponential_smoothing(input, out, |step| (sf.at(step), tf.at(step)));
                };
                self.range_function(name, arg(0)?, arg(0)?, grid, &kernel, &mut |series| {
                    for step in series.col.ok.iter() {
                        check_factor("smoothing", "sf", sf.at(step))?;
                        check_factor("trend", "tf", tf.at(step))?;
                    }
                    sink(series)
                })
            }
            "absent" => self.absent(arg(0)?, grid, sink, |sink| self.vector(&call.args[0], grid, sink)),
            "absent_over_time" => {
                let kernel = kernels::find("present_over_time").expect("in the table of kernels");
                self.absent(arg(0)?, grid, sink, |sink| self.over_range(&call.args[0], grid, &kernel, sink))
            }
            "vector" => {
                let scalar = self.scalar(arg(0)?, grid)?;
                sink(&mut Series { col: self.scalar_column(&scalar, grid), ..Series::default() })
            }
            "timestamp" => match &strip_parens(arg(0)?).kind {
                ExprKind::VectorSelector(selector) => self.without_names(&call.args[0], sink, |sink| {
                    self.instant(selector, call.args[0].pos, grid, Shown::Time, &mut |series| {
                        series.col.h = None;
                        sink(series)
                    })
                }),
                _ => self.without_names(&call.args[0], sink, |sink| {
                    self.vector(&call.args[0], grid, &mut |series| {
                        series.col.h = None;
                        series.col.v.iter_mut().enumerate().for_each(|(step, v)| *v = grid.t(step) as f64 / 1000.0);
                        sink(series)
                    })
                }),
            },
            "round" => {
                let nearest = match call.args.get(1) {
                    Some(nearest) => self.scalar(nearest, grid)?,
                    None => Scalar::Constant(1.0),
                };
                self.map_values(arg(0)?, grid, sink, |step, v| instant::round(v, nearest.at(step)))
            }
            "clamp" => self.clamp(arg(0)?, arg(1)?, arg(2)?, grid, sink),
            "clamp_min" => {
                let low = self.scalar(arg(1)?, grid)?;
                self.map_values(arg(0)?, grid, sink, |step, v| math::max(low.at(step), v))
            }
            "clamp_max" => {
                let high = self.scalar(arg(1)?, grid)?;
                self.map_values(arg(0)?, grid, sink, |step, v| math::min(high.at(step), v))
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(expr, call, grid, sink),
            "info" => self.info(call, grid, sink),
            "label_replace" => self.label_replace(call, grid, sink),
            "label_join" => self.label_join(call, grid, sink),
            "histogram_quantile" => self.histogram_quantile(arg(0)?, arg(1)?, grid, sink),
            "histogram_quantiles" => self.histogram_quantiles(call, grid, sink),
            "histogram_fraction" => self.histogram_fraction(arg(0)?, arg(1)?, arg(2)?, grid, sink),
            "histogram_avg" => self.map_histograms(arg(0)?, unused, grid, sink, |h| h.sum / h.count),
            "histogram_count" => self.map_histograms(arg(0)?, unused, grid, sink, |h| h.count),
            "histogram_sum" => self.map_histograms(arg(0)?, unused, grid, sink, |h| h.sum),
            "histogram_stddev" => self.map_histograms(arg(0)?, buckets, grid, sink, |h| variance(h).sqrt()),
            "histogram_stdvar" => self.map_histograms(arg(0)?, buckets, grid, sink, variance),
            "start_timestamp" => match &strip_parens(arg(0)?).kind {
                ExprKind::VectorSelector(selector) if self.query.options.use_start_timestamps => {
                    self.without_names(&call.args[0], sink, |sink| {
                        self.instant(selector, call.args[0].pos, grid, Shown::Start, &mut |series| {
                            series.col.h = None;
                            sink(series)
                        })
                    })
                }
                // Only samples of the storage have any.
                _ => self.vector(arg(0)?, grid, &mut |_| Ok(())),
            },
            other => Err(QueryError::Unsupported(format!("function {other}()"))),
        }
    }

    /// A call that gives a scalar.
    pub(crate) fn scalar_call(&self, call: &Call, grid: &Grid) -> Result<Scalar, QueryError> {
        Ok(match (call.function.name, &call.args[..]) {
            ("time", _) => self.time(grid)?,
            ("pi", _) => Scalar::Constant(std::f64::consts::PI),
            ("start", _) => Scalar::Constant(self.start_ms as f64 / 1000.0),
            ("end", _) => Scalar::Constant(self.end_ms as f64 / 1000.0),
            ("range", _) => Scalar::Constant(self.end_ms.saturating_sub(self.start_ms) as f64 / 1000.0),
            ("step", _) => Scalar::Constant(self.step_seconds()),
            ("min_of", [a, b]) => self.scalar(a, grid)?.zip(self.scalar(b, grid)?, math::min),
            ("max_of", [a, b]) => self.scalar(a, grid)?.zip(self.scalar(b, grid)?, math::max),
            ("scalar", [vector]) => self.only_element(vector, grid)?,
            (other, _) => return Err(QueryError::Unsupported(format!("function {other}()"))),
        })
    }

    fn time(&self, grid: &Grid) -> Result<Scalar, QueryError> {
        self.steps_scalar(grid.n, || (0..grid.n).map(|step| grid.t(step) as f64 / 1000.0).collect())
    }

    fn scalar_column(&self, scalar: &Scalar, grid: &Grid) -> Column {
        Column { v: scalar.iter(grid.n).collect(), ok: Bits::all(grid.n), h: None }
    }

    /// `scalar()`: the value of the only element at each step, else NaN.
    fn only_element(&self, vector: &Expr, grid: &Grid) -> Result<Scalar, QueryError> {
        let mut scalar = self.steps_scalar(grid.n, || vec![f64::NAN; grid.n])?;
        let Scalar::Steps(values, _) = &mut scalar else { return Ok(scalar) };
        let (mut one, mut several) = (Bits::none(grid.n), Bits::none(grid.n));
        self.floats(vector, grid, &mut |series| {
            for (step, v) in series.col.iter() {
                if one.get(step) {
                    several.set(step);
                } else {
                    one.set(step);
                    values[step] = v;
                }
            }
            Ok(())
        })?;
        several.iter().for_each(|step| values[step] = f64::NAN);
        Ok(scalar)
    }

    /// The floats of a vector.
    fn floats(&self, arg: &Expr, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        self.vector(arg, grid, &mut |series| {
            if series.col.h.is_some() {
                series.col.drop_histograms();
                if series.col.ok.is_empty() {
                    return Ok(());
                }
            }
            sink(series)
        })
    }

    /// Maps each float; drops names.
    fn map_values(
        &self,
        arg: &Expr,
        grid: &Grid,
        sink: Sink<'_>,
        f: impl Fn(usize, f64) -> f64,
    ) -> Result<(), QueryError> {
        self.without_names(arg, sink, |sink| {
            self.floats(arg, grid, &mut |series| {
                series.col.v.iter_mut().enumerate().for_each(|(step, v)| *v = f(step, *v));
                sink(series)
            })
        })
    }

    /// Maps each histogram to a float; drops names. Floats are left out.
    fn map_histograms(
        &self,
        arg: &Expr,
        buckets: Buckets,
        grid: &Grid,
        sink: Sink<'_>,
        f: impl Fn(&FloatHistogram) -> f64,
    ) -> Result<(), QueryError> {
        self.without_names(arg, sink, |sink| {
            self.vector_with_buckets(buckets, arg, grid, &mut |series| {
                // There may be notes only.
                let Some(histograms) = series.col.h.take().filter(|h| !h.at.is_empty()) else { return Ok(()) };
                for (step, h) in histograms.at.iter().enumerate() {
                    match h {
                        Some(h) => series.col.v[step] = f(h),
                        None => series.col.ok.unset(step),
                    }
                }
                if series.col.ok.is_empty() { Ok(()) } else { sink(series) }
            })
        })
    }

    fn clamp(&self, arg: &Expr, low: &Expr, high: &Expr, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let (low, high) = (self.scalar(low, grid)?, self.scalar(high, grid)?);
        self.map_values(
            arg,
            grid,
            &mut |series| {
                (0..grid.n).filter(|step| high.at(*step) < low.at(*step)).for_each(|step| series.col.ok.unset(step));
                if series.col.ok.is_empty() { Ok(()) } else { sink(series) }
            },
            |step, v| instant::clamp(v, low.at(step), high.at(step)),
        )
    }

    /// A function of a range vector, with its annotations and metric names. Annotations name the place of the `first`
    /// argument, which mostly is the range vector `arg` itself.
    fn range_function(
        &self,
        name: &str,
        first: &Expr,
        arg: &Expr,
        grid: &Grid,
        kernel: Kernel<'_>,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let inner = strip_parens(arg);
        let mode = match &inner.kind {
            ExprKind::MatrixSelector(matrix) => matrix.selector.mode,
            _ => RangeMode::Plain,
        };
        let extended;
        let kernel = match mode {
            RangeMode::Plain => kernel,
            mode => {
                extended =
                    kernels::find_extended(name, mode == RangeMode::Smoothed).ok_or_else(|| wrong_mode(mode, name))?;
                &extended
            }
        };
        let with_histograms = |input: &Input<'_>, out: &mut Column| match input.histograms.is_empty() {
            true => kernel(input, out),
            false => over_range::run(name, mode, input, kernel, out),
        };
        let kernel: Kernel<'_> = &with_histograms;
        // Of a subquery Prometheus has lost the position when it gets here, and shows the start of the query.
        let pos = match (&inner.kind, std::ptr::eq(first, arg)) {
            (_, false) => first.pos,
            (ExprKind::Subquery(_), true) => Pos::default(),
            _ => inner.pos,
        };
        if matches!(name, "last_over_time" | "first_over_time") {
            return self.over_range(arg, grid, kernel, &mut |series| self.tell_notes(series, pos, sink));
        }
        let counters_only = matches!(name, "rate" | "increase");
        // Series of one metric mostly come together.
        let mut checked = String::new();
        self.without_names(arg, sink, |sink| {
            self.over_range(arg, grid, kernel, &mut |series| {
                if let Some(h) = &mut series.col.h {
                    std::mem::take(&mut h.notes).tell(&series.labels, pos, &mut self.notes.borrow_mut());
                    if series.col.ok.is_empty() {
                        return Ok(());
                    }
                }
                if counters_only
                    && series.labels.metric_name() != checked
                    && (series.col.h.is_none() || series.col.has_floats())
                {
                    series.labels.metric_name().clone_into(&mut checked);
                    self.check_counter(&series.labels, pos);
                }
                sink(series)
            })
        })
    }

    fn check_counter(&self, labels: &Labels, pos: Pos) {
        let name = labels.metric_name();
        if name.is_empty() {
            return;
        }
        if self.query.options.type_and_unit_labels {
            let type_label = labels.value("__type__");
            if type_label != "counter" && type_label != "histogram" {
                self.notes.borrow_mut().possible_non_counter_type(name, type_label, pos);
            }
        } else if !COUNTER_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            self.notes.borrow_mut().possible_non_counter(name, pos);
        }
    }

    /// Runs a kernel over the series of a range selector or subquery.
    fn over_range(&self, arg: &Expr, grid: &Grid, kernel: Kernel<'_>, sink: Sink<'_>) -> Result<(), QueryError> {
        let arg = strip_parens(arg);
        match &arg.kind {
            ExprKind::MatrixSelector(matrix) => {
                let windows = self.matrix_windows(matrix, grid)?;
                self.range(&matrix.selector, &windows, kernel, sink)
            }
            ExprKind::Subquery(subquery) => {
                let (windows, inner) = self.subquery_windows(subquery, grid)?;
                let (mut samples, mut plan, control) = (Samples::default(), Plan::default(), self.control());
                // What takes part in the steps of the query is what the windows hold; what is below is only read.
                let mut total = self.stats.borrow().samples_total;
                // Buffers grow to the longest series and stay so; those of nested subqueries are there at the same time.
                let mut memory = control.reserve();
                self.vector_with_buckets(Buckets::Needed, &subquery.expr, &inner, &mut |series| {
                    series.col.to_samples(&inner, &mut samples, control)?;
                    self.touch(samples.len())?;
                    control.check()?;
                    plan.update(&windows, &samples.t, control)?;
                    let bytes = samples.bytes() + plan.bytes() + series.bytes();
                    if let Some(more @ 1..) = bytes.checked_sub(memory.bytes() as usize) {
                        self.take_memory(&mut memory, more)?;
                    }
                    total += plan.total();
                    let Samples { t, v, histograms, .. } = &samples;
                    let input = Input { windows: &windows, t, v, histograms, starts: &[], plan: &plan, control };
                    if !histograms.is_empty() {
                        total += over_range::extra_in_windows(&input).0;
                    }
                    series.col.clear(grid.n);
                    control.check()?;
                    kernel(&input, &mut series.col);
                    control.check()?;
                    if series.col.says_nothing() { Ok(()) } else { sink(series) }
                })?;
                self.stats.borrow_mut().samples_total = total;
                Ok(())
            }
            _ => Err(unexpected(arg, "range vector")),
        }
    }

    /// One element at each step where `produce` gives none, with the labels its selector asks for.
    fn absent(
        &self,
        arg: &Expr,
        grid: &Grid,
        sink: Sink<'_>,
        produce: impl FnOnce(Sink<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut present = Bits::none(grid.n);
        produce(&mut |series| {
            present.or(&series.col.ok);
            Ok(())
        })?;
        let mut col = Column::constant(1.0, grid.n);
        col.ok.and_not(&present);
        if col.ok.is_empty() {
            return Ok(());
        }
        sink(&mut Series { labels: absent_labels(strip_parens(arg)), drop_name: false, col })
    }

    fn sort(&self, expr: &Expr, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let arg = call.args.first().ok_or_else(|| unexpected(expr, "an argument"))?;
        // Histograms have no order.
        let by_value = matches!(call.function.name, "sort" | "sort_desc");
        if grid.n > 1 {
            self.notes.borrow_mut().sort_in_range_query(expr.pos);
            return if by_value { self.floats(arg, grid, sink) } else { self.vector(arg, grid, sink) };
        }
        let names = call.args[1..].iter().map(|name| self.string(name)).collect::<Result<Vec<&str>, QueryError>>()?;
        let mut held = self.collect(arg, grid)?;
        if by_value {
            held.series.iter_mut().for_each(|series| series.col.drop_histograms());
            held.series.retain(|series| !series.col.ok.is_empty());
        }
        let (series, control) = (&mut held.series, self.control());
        // NaN comes last in either order.
        match call.function.name {
            "sort" => by_go(series, |a, b| b.is_nan() || b > a),
            "sort_desc" => by_go(series, |a, b| b.is_nan() || b < a),
            "sort_by_label" => order::sort(series, control, |a, b| by_labels(&a.labels, &b.labels, &names))?,
            _ => order::sort(series, control, |a, b| by_labels(&b.labels, &a.labels, &names))?,
        }
        control.check()?;
        for mut series in std::mem::take(&mut held.series) {
            held.release(&series);
            sink(&mut series)?;
        }
        Ok(())
    }
}

/// Sorts series of one step by value, equal ones in the order that Prometheus gives them.
fn by_go(series: &mut Vec<Series>, less: impl Fn(f64, f64) -> bool) {
    let mut order: Vec<(f64, usize)> = series.iter().enumerate().map(|(at, series)| (series.col.v[0], at)).collect();
    pdq::sort(&mut order, |a, b| less(a.0, b.0));
    *series = order.iter().map(|(_, at)| std::mem::take(&mut series[*at])).collect();
}

fn check_factor(kind: &str, short: &str, v: f64) -> Result<(), QueryError> {
    if v > 0.0 && v < 1.0 {
        return Ok(());
    }
    // Text as in Prometheus:
    let text = if v.is_finite() { format!("{v:.6}") } else { math::format_plain(v) };
    Err(QueryError::execution(format!("invalid {kind} factor. Expected: 0 < {short} < 1, got: {text}")))
}

/// Texts as in Prometheus.
fn wrong_mode(mode: RangeMode, function: &str) -> QueryError {
    let (mode, allowed) = match mode {
        RangeMode::Smoothed => ("smoothed", "delta, increase, rate"),
        _ => ("anchored", "changes, delta, increase, rate, resets"),
    };
    QueryError::execution(format!("{mode} modifier can only be used with: {allowed} - not with {function}"))
}

/// The labels that an absent series would have had, from the equality matchers of a plain selector. A label that is
/// matched twice has no certain value.
fn absent_labels(arg: &Expr) -> Labels {
    let matchers: &[Matcher] = match &arg.kind {
        ExprKind::VectorSelector(selector) => &selector.matchers,
        ExprKind::MatrixSelector(matrix) => &matrix.selector.matchers,
        _ => &[],
    };
    debug_assert!(matches!(type_of(arg), ValueType::Vector | ValueType::Matrix));
    let mut labels = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if matcher.kind == MatchKind::Equal && !seen.contains(&matcher.name.as_str()) {
            labels.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            labels.del(&matcher.name);
        }
    }
    labels.build()
}
