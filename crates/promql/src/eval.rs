//! The dispatcher: expressions to streams of series, scalars and strings.
//!
//! A vector expression pushes its series one after another into a [`Sink`]; whoever needs all of them collects them
//! ([`Eval::collect`]), and only what is collected counts as held in memory. Expressions that give the same at every
//! step (`@`, constants) are evaluated at one step and spread.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use fk_promql_syntax::ast::{Binary, BinaryOp, DurationExpr, DurationNode, Expr, ExprKind, Pos, RangeMode, ValueType};
use fk_promql_syntax::parser::DEPTH_MAX;
use fk_storage::{Control, Queryable, Reservation};

use crate::annotations::Annotations;
use crate::column::{Grid, Series, bytes_of};
use crate::explain::Trace;
use crate::histograms::stats::Buckets;
use crate::keys::{Choice, Merger, Wanted, without_metadata};
use crate::select::Shown;
use crate::windows::{CHECK_SAMPLES, Windows};
use crate::{Answer, MatrixSeries, Query, QueryError, QueryStats, Timings, Value, VectorSample, binary, math, order};

/// Up to this depth the caller's stack is large enough.
const DEPTH_ON_CALLERS_STACK: usize = 50;

/// Stack for one level of a deep expression, with room to spare in unoptimised builds.
const STACK_BYTES_PER_LEVEL: usize = 16 << 10;

/// Most steps of one evaluation. The HTTP API allows 11,000; subqueries can ask for many more.
const STEPS_MAX: usize = 10_000_000;

/// Takes the series of a vector expression, one after another. May take the column out of the series.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(&mut Series) -> Result<(), QueryError>;

/// A scalar at all steps.
#[derive(Debug)]
pub(crate) enum Scalar {
    /// The same at every step.
    Constant(f64),
    /// One value per step, with what they count as.
    Steps(Vec<f64>, Reservation),
}

impl Scalar {
    #[inline]
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            Scalar::Constant(v) => *v,
            Scalar::Steps(v, _) => v[step],
        }
    }

    /// The values of `n` steps.
    pub(crate) fn iter(&self, n: usize) -> impl Iterator<Item = f64> + '_ {
        (0..n).map(|step| self.at(step))
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Scalar {
        match self {
            Scalar::Constant(v) => Scalar::Constant(f(v)),
            Scalar::Steps(v, memory) => Scalar::Steps(v.into_iter().map(f).collect(), memory),
        }
    }

    pub(crate) fn zip(self, other: Scalar, f: impl Fn(f64, f64) -> f64) -> Scalar {
        match (self, other) {
            (Scalar::Constant(a), b) => b.map(|b| f(a, b)),
            (a, Scalar::Constant(b)) => a.map(|a| f(a, b)),
            (Scalar::Steps(a, memory), Scalar::Steps(b, _)) => {
                Scalar::Steps(a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect(), memory)
            }
        }
    }
}

/// Series held in memory. Counts against the limits until dropped.
pub(crate) struct Held<'e> {
    pub(crate) series: Vec<Series>,
    samples: usize,
    held: &'e Cell<usize>,
    memory: Reservation,
}

impl Held<'_> {
    /// One of the series is handed on.
    pub(crate) fn release(&mut self, series: &Series) {
        self.memory.shrink(series.bytes());
        let samples = weight(series).min(self.samples);
        self.samples -= samples;
        self.held.set(self.held.get() - samples);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.held.set(self.held.get() - self.samples);
    }
}

/// One evaluation under way.
pub(crate) struct Eval<'a> {
    pub(crate) storage: &'a dyn Queryable,
    pub(crate) query: &'a Query<'a>,
    /// First and last step of the query, which `start()` and `end()` mean everywhere in it.
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// Steps of the query itself, for statistics by step.
    grid: Grid,
    pub(crate) notes: RefCell<Annotations<'a>>,
    pub(crate) stats: RefCell<QueryStats>,
    /// Samples held now.
    held: Cell<usize>,
    /// Whether selectors may leave out the buckets of histograms.
    pub(crate) buckets: Cell<Buckets>,
    /// Memory of the result.
    pub(crate) result_memory: RefCell<Reservation>,
    /// Time spent on finding series.
    pub(crate) selecting: Cell<Duration>,
    /// What the parts of the query take and give, if somebody wants to know.
    pub(crate) trace: Option<Trace>,
    /// What the next selector that is evaluated has to know of its labels; `None`: all. See [`Eval::want`].
    wanted: RefCell<Option<Wanted>>,
}

/// See [`crate::evaluate`].
pub(crate) fn evaluate(storage: &dyn Queryable, query: &Query<'_>) -> Result<Answer, QueryError> {
    let depth = depth(query.expr);
    if depth > DEPTH_MAX {
        return Err(QueryError::execution(format!("expression is nested more than {DEPTH_MAX} levels deep")));
    }
    if depth <= DEPTH_ON_CALLERS_STACK {
        return evaluate_here(storage, query);
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size((2 << 20) + depth * STACK_BYTES_PER_LEVEL);
        let thread = builder
            .spawn_scoped(scope, || evaluate_here(storage, query))
            .map_err(|e| QueryError::execution(format!("no thread for a deep expression: {e}")))?;
        // A panic goes on in the caller, as it would without the helper.
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn evaluate_here(storage: &dyn Queryable, query: &Query<'_>) -> Result<Answer, QueryError> {
    query.control.check()?;
    let instant = query.step_ms == 0;
    let grid = if instant { Grid::instant(query.start_ms) } else { range_grid(query)? };
    let eval = Eval {
        storage,
        query,
        start_ms: query.start_ms,
        end_ms: if instant { query.start_ms } else { query.end_ms },
        grid,
        notes: RefCell::new(Annotations::new(query.text)),
        stats: RefCell::new(QueryStats {
            samples_per_step: if query.options.per_step_stats { vec![0; grid.n] } else { Vec::new() },
            samples_read_per_step: if query.options.per_step_stats { vec![0; grid.n] } else { Vec::new() },
            ..QueryStats::default()
        }),
        held: Cell::new(0),
        buckets: Cell::default(),
        result_memory: RefCell::new(query.control.reserve()),
        selecting: Cell::new(Duration::ZERO),
        trace: if query.options.explain { Some(Trace::new(query.expr)?) } else { None },
        wanted: RefCell::default(),
    };
    let mut value = if instant { eval.instant_value(&grid)? } else { eval.range_value(&grid)? };
    let explain = eval.trace.map(|trace| trace.finish(query.expr, query.text));
    let began_sorting = Instant::now();
    if let Value::Matrix(matrix) = &mut value {
        order::sort(matrix, query.control, |a, b| a.labels.cmp(&b.labels))?;
    }
    let timings = Timings { prepare: eval.selecting.get(), sort: began_sorting.elapsed() };
    query.control.take_warnings().iter().for_each(|warning| eval.notes.borrow_mut().storage_warning(warning));
    let (warnings, infos) = eval.notes.into_inner().finish();
    let memory = eval.result_memory.into_inner();
    Ok(Answer { value, warnings, infos, stats: eval.stats.into_inner(), timings, explain, memory })
}

fn range_grid(query: &Query<'_>) -> Result<Grid, QueryError> {
    if query.step_ms < 0 {
        return Err(QueryError::execution("query step must be positive"));
    }
    steps(query.start_ms, query.end_ms, query.step_ms)
}

/// The steps from `start` to `end`.
pub(crate) fn steps(start: i64, end: i64, step: i64) -> Result<Grid, QueryError> {
    if end < start {
        return Ok(Grid { start, step, n: 0 });
    }
    let n = (i128::from(end) - i128::from(start)) / i128::from(step.max(1)) + 1;
    match usize::try_from(n) {
        Ok(n) if n <= STEPS_MAX => Ok(Grid { start, step, n }),
        _ => Err(QueryError::TooManySamples),
    }
}

impl<'a> Eval<'a> {
    fn instant_value(&self, grid: &Grid) -> Result<Value, QueryError> {
        let (expr, t_ms) = (self.query.expr, grid.start);
        Ok(match type_of(expr) {
            ValueType::Scalar => Value::Scalar { t_ms, v: self.scalar(expr, grid)?.at(0) },
            ValueType::String => Value::String { t_ms, v: self.string(expr)?.to_owned() },
            ValueType::Matrix => Value::Matrix(self.matrix(expr, grid)?),
            ValueType::Vector => {
                let mut vector = Vec::new();
                self.result(expr, grid, &mut |series| {
                    let bytes = series.labels.byte_len() + size_of::<VectorSample>() + series.col.histogram_bytes();
                    self.hold_result(1, bytes)?;
                    let h = series.col.histogram(0).cloned();
                    vector.push(VectorSample { labels: series.labels.clone(), t_ms, v: series.col.v[0], h });
                    Ok(())
                })?;
                Value::Vector(vector)
            }
        })
    }

    fn range_value(&self, grid: &Grid) -> Result<Value, QueryError> {
        let expr = self.query.expr;
        match type_of(expr) {
            ValueType::Scalar => {
                let scalar = self.scalar(expr, grid)?;
                self.hold_result(grid.n, grid.n * POINT_BYTES)?;
                let all = MatrixSeries {
                    labels: fk_model::Labels::empty(),
                    t: (0..grid.n).map(|i| grid.t(i)).collect(),
                    v: scalar.iter(grid.n).collect(),
                    histograms: Vec::new(),
                };
                Ok(Value::Matrix(if grid.n == 0 { Vec::new() } else { vec![all] }))
            }
            ValueType::Vector => {
                let mut matrix: Vec<MatrixSeries> = Vec::new();
                self.result(expr, grid, &mut |series| {
                    let count = series.col.ok.count();
                    let bytes = series.labels.byte_len() + SERIES_BYTES + count * POINT_BYTES;
                    self.hold_result(series.col.samples(), bytes + series.col.histogram_bytes())?;
                    let mut points = MatrixSeries {
                        labels: series.labels.clone(),
                        t: Vec::with_capacity(count),
                        v: Vec::with_capacity(count),
                        histograms: series.col.sparse_histograms(|_| true),
                    };
                    for (step, v) in series.col.iter() {
                        points.t.push(grid.t(step));
                        points.v.push(v);
                    }
                    matrix.push(points);
                    Ok(())
                })?;
                Ok(Value::Matrix(matrix))
            }
            // Text as in Prometheus:
            other => Err(QueryError::execution(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                other.name()
            ))),
        }
    }

    /// The series of the whole query, with names removed whose removal was delayed.
    fn result(&self, expr: &Expr, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        if !self.query.options.delayed_name_removal {
            return self.vector(expr, grid, sink);
        }
        self.merged(sink, |sink| {
            self.vector(expr, grid, &mut |series| {
                if std::mem::take(&mut series.drop_name) {
                    series.labels = without_metadata(&series.labels);
                }
                sink(series)
            })
        })
    }

    /// Makes annotations of what is noted about the samples of a selector, and hands the series on.
    pub(crate) fn tell_notes(&self, series: &mut Series, at: Pos, sink: Sink<'_>) -> Result<(), QueryError> {
        if let Some(h) = &mut series.col.h {
            std::mem::take(&mut h.notes).tell(&series.labels, at, &mut self.notes.borrow_mut());
        }
        if series.col.ok.is_empty() { Ok(()) } else { sink(series) }
    }

    /// A range vector itself.
    fn matrix(&self, expr: &Expr, grid: &Grid) -> Result<Vec<MatrixSeries>, QueryError> {
        let expr = strip_parens(expr);
        let mut matrix = Vec::new();
        match &expr.kind {
            ExprKind::MatrixSelector(matrix_selector) => {
                if matrix_selector.selector.mode != RangeMode::Plain {
                    return Err(QueryError::Unsupported(
                        "an anchored or smoothed range outside of a function".to_owned(),
                    ));
                }
                let windows = self.matrix_windows(matrix_selector, grid)?;
                self.raw(&matrix_selector.selector, &windows, &mut |labels, samples| {
                    let histograms = samples.histograms.clone();
                    let in_histograms: usize = histograms.iter().map(|(_, h)| bytes_of(h)).sum();
                    let bytes = labels.byte_len() + SERIES_BYTES + samples.len() * POINT_BYTES + in_histograms;
                    self.hold_result(samples.len(), bytes)?;
                    matrix.push(MatrixSeries { labels, t: samples.t.clone(), v: samples.v.clone(), histograms });
                    Ok(())
                })?;
            }
            ExprKind::Subquery(subquery) => {
                let (windows, inner) = self.subquery_windows(subquery, grid)?;
                self.buckets.set(Buckets::Needed);
                self.result(&subquery.expr, &inner, &mut |series| {
                    let inside = |t: &i64| *t > windows.start(0) && *t <= windows.end(0);
                    let (t, v): (Vec<i64>, Vec<f64>) =
                        series.col.iter().map(|(step, v)| (inner.t(step), v)).filter(|(t, _)| inside(t)).unzip();
                    let bytes = series.labels.byte_len() + SERIES_BYTES + t.len() * POINT_BYTES;
                    self.hold_result(t.len(), bytes + series.col.histogram_bytes())?;
                    if !t.is_empty() {
                        let histograms = series.col.sparse_histograms(|step| inside(&inner.t(step)));
                        matrix.push(MatrixSeries { labels: series.labels.clone(), t, v, histograms });
                    }
                    Ok(())
                })?;
            }
            _ => return Err(unexpected(expr, "range vector")),
        }
        Ok(matrix)
    }

    /// A vector expression.
    pub(crate) fn vector(&self, expr: &Expr, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        if grid.n == 0 {
            return Ok(());
        }
        let mut checked = |series: &mut Series| {
            self.control().check()?;
            sink(series)
        };
        // A single series can be long enough for somebody to lose patience.
        let sink: Sink<'_> = if grid.n > CHECK_SAMPLES { &mut checked } else { sink };
        let Some(trace) = &self.trace else { return self.vector_itself(expr, grid, sink) };
        let outer = trace.enter(expr);
        let result = self.vector_itself(expr, grid, &mut |series| {
            trace.gave(series);
            let inner = trace.switch(outer);
            let result = sink(series);
            trace.switch(inner);
            result
        });
        trace.switch(outer);
        result
    }

    fn vector_itself(&self, expr: &Expr, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        if grid.n > 1 && !matches!(expr.kind, ExprKind::Paren(_)) && is_step_invariant(expr) {
            let before = self.stats.borrow().samples_total;
            self.vector_itself(expr, &Grid::instant(grid.start), &mut |series| {
                if series.col.ok.get(0) {
                    series.col = series.col.spread(grid.n);
                    sink(series)?;
                }
                Ok(())
            })?;
            // The samples take part in every step, though they are read once.
            let mut stats = self.stats.borrow_mut();
            stats.samples_total += (stats.samples_total - before) * (grid.n as u64 - 1);
            return Ok(());
        }
        match &expr.kind {
            ExprKind::Paren(inner) => self.vector(inner, grid, sink),
            ExprKind::VectorSelector(selector) => self.instant(selector, expr.pos, grid, Shown::Value, sink),
            ExprKind::Call(call) => self.call(expr, call, grid, sink),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, expr.pos, grid, sink),
            ExprKind::Binary(binary) => self.binary(binary, grid, sink),
            ExprKind::Unary { negate: false, expr } => self.vector(expr, grid, sink),
            ExprKind::Unary { negate: true, expr } => self.without_names(expr, sink, |sink| {
                self.vector(expr, grid, &mut |series| {
                    series.col.map(|v| -v);
                    if series.col.has_histograms() {
                        series.col.map_histograms(|h| h.mul(-1.0));
                    }
                    sink(series)
                })
            }),
            _ => Err(unexpected(expr, "instant vector")),
        }
    }

    /// Notes that whoever evaluates `expr` next looks at the labels of `choice` only. Without effect unless `expr` is a
    /// selector, or one under a function that looks at metric names at most.
    pub(crate) fn want(&self, expr: &Expr, choice: &Choice<'_>) {
        let options = self.query.options;
        if options.delayed_name_removal || options.type_and_unit_labels {
            return;
        }
        *self.wanted.borrow_mut() = match &strip_parens(expr).kind {
            ExprKind::VectorSelector(_) => Some(choice.wanted(&[])),
            ExprKind::Call(call) if crate::kernels::find(call.function.name).is_some() => match &call.args[..] {
                [arg]
                    if matches!(strip_parens(arg).kind, ExprKind::MatrixSelector(_)) && is_unique_without_name(arg) =>
                {
                    Some(choice.wanted(&[fk_model::METRIC_NAME]))
                }
                _ => None,
            },
            _ => None,
        };
    }

    /// What was noted, for the selector it is meant for.
    pub(crate) fn take_wanted(&self) -> Option<Wanted> {
        self.wanted.borrow_mut().take()
    }

    /// Runs `produce` and drops the metric names of what it gives: at the end with delayed name removal, else now. Where
    /// different names may leave equal labels, series are put together, which fails if two have a value at one step.
    pub(crate) fn without_names(
        &self,
        arg: &Expr,
        sink: Sink<'_>,
        produce: impl FnOnce(Sink<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        if self.query.options.delayed_name_removal {
            return produce(&mut |series| {
                series.drop_name = true;
                sink(series)
            });
        }
        if !self.query.options.type_and_unit_labels && is_unique_without_name(arg) {
            return produce(&mut |series| {
                series.labels = without_metadata(&series.labels);
                sink(series)
            });
        }
        self.merged(sink, |sink| {
            produce(&mut |series| {
                series.labels = without_metadata(&series.labels);
                sink(series)
            })
        })
    }

    /// Puts together series of equal labels before it hands them on.
    pub(crate) fn merged(
        &self,
        sink: Sink<'_>,
        produce: impl FnOnce(Sink<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut merger = Merger::default();
        let mut held = self.nothing_held();
        produce(&mut |series| {
            self.hold(series, &mut held)?;
            merger.push(std::mem::take(series))
        })?;
        for mut series in merger.finish() {
            self.control().check()?;
            held.release(&series);
            sink(&mut series)?;
        }
        Ok(())
    }

    /// A vector expression below one that looks at buckets of histograms in its own way.
    pub(crate) fn vector_with_buckets(
        &self,
        buckets: Buckets,
        expr: &Expr,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let before = self.buckets.replace(buckets);
        let result = self.vector(expr, grid, sink);
        self.buckets.set(before);
        result
    }

    fn nothing_held(&self) -> Held<'_> {
        Held { series: Vec::new(), samples: 0, held: &self.held, memory: self.control().reserve() }
    }

    /// All series of a vector expression.
    pub(crate) fn collect(&self, expr: &Expr, grid: &Grid) -> Result<Held<'_>, QueryError> {
        let mut held = self.nothing_held();
        self.vector(expr, grid, &mut |series| {
            self.hold(series, &mut held)?;
            held.series.push(std::mem::take(series));
            Ok(())
        })?;
        Ok(held)
    }

    /// A scalar expression.
    pub(crate) fn scalar(&self, expr: &Expr, grid: &Grid) -> Result<Scalar, QueryError> {
        let Some(trace) = &self.trace else { return self.scalar_itself(expr, grid) };
        let outer = trace.enter(expr);
        let result = self.scalar_itself(expr, grid);
        trace.gave_scalar(grid.n);
        trace.switch(outer);
        result
    }

    fn scalar_itself(&self, expr: &Expr, grid: &Grid) -> Result<Scalar, QueryError> {
        match &expr.kind {
            ExprKind::Number(v) | ExprKind::Duration(v) => Ok(Scalar::Constant(*v)),
            ExprKind::Paren(inner) => self.scalar(inner, grid),
            ExprKind::Unary { negate, expr } => {
                let scalar = self.scalar(expr, grid)?;
                Ok(if *negate { scalar.map(|v| -v) } else { scalar })
            }
            ExprKind::Binary(binary) => self.scalar_binary(binary, grid),
            ExprKind::Call(call) => self.scalar_call(call, grid),
            _ => Err(unexpected(expr, "scalar")),
        }
    }

    fn scalar_binary(&self, b: &Binary, grid: &Grid) -> Result<Scalar, QueryError> {
        let op = binary::scalar_operator(b.op)?;
        self.control().check()?;
        Ok(self.scalar(&b.lhs, grid)?.zip(self.scalar(&b.rhs, grid)?, op))
    }

    /// A string expression, which is a literal.
    pub(crate) fn string<'e>(&self, expr: &'e Expr) -> Result<&'e str, QueryError> {
        match &strip_parens(expr).kind {
            ExprKind::String(text) => Ok(text),
            _ => Err(unexpected(expr, "string")),
        }
    }

    pub(crate) fn matrix_windows(
        &self,
        matrix: &fk_promql_syntax::ast::MatrixSelector,
        grid: &Grid,
    ) -> Result<Windows, QueryError> {
        let selector = &matrix.selector;
        let range_ms = self.positive_ms(&matrix.range)?;
        let beyond_ms = match selector.mode {
            RangeMode::Plain => 0,
            _ => self.query.options.lookback_ms,
        };
        Ok(Windows { eval: *grid, refs: self.references(grid, selector.at, &selector.offset)?, range_ms, beyond_ms })
    }

    /// The windows of a subquery, and the steps its expression is evaluated at: multiples of its own step, so that they
    /// do not move with the query.
    pub(crate) fn subquery_windows(
        &self,
        subquery: &fk_promql_syntax::ast::Subquery,
        grid: &Grid,
    ) -> Result<(Windows, Grid), QueryError> {
        let range_ms = self.positive_ms(&subquery.range)?;
        let step = match &subquery.step {
            Some(step) => self.positive_ms(step)?,
            None => self.query.options.default_subquery_step_ms.max(1),
        };
        let refs = self.references(grid, subquery.at, &subquery.offset)?;
        let windows = Windows { eval: *grid, refs, range_ms, beyond_ms: 0 };
        let before = windows.start(0);
        let mut start = before / step * step;
        if start <= before {
            start = start.saturating_add(step);
        }
        Ok((windows, steps(start, windows.end(grid.n.saturating_sub(1)), step)?))
    }

    /// A duration in ms; may be negative.
    pub(crate) fn duration_ms(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        let node = match duration {
            DurationExpr::Const(ms) => return Ok(*ms),
            DurationExpr::Expr(node) => node,
        };
        let seconds = self.duration_seconds(node)?;
        // Text as in Prometheus:
        if seconds.is_nan() || seconds.abs() * 1e9 >= i64::MAX as f64 {
            return Err(QueryError::execution("duration is out of range"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn positive_ms(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        match self.duration_ms(duration)? {
            ms if ms > 0 => Ok(ms),
            // Text as in Prometheus:
            _ => Err(QueryError::execution("duration must be greater than 0")),
        }
    }

    fn duration_seconds(&self, node: &DurationNode) -> Result<f64, QueryError> {
        Ok(match node {
            DurationNode::Number(seconds) | DurationNode::Duration(seconds) => *seconds,
            DurationNode::Step => self.step_seconds(),
            DurationNode::Range => self.end_ms.saturating_sub(self.start_ms) as f64 / 1000.0,
            DurationNode::Negate(inner) => -self.duration_seconds(inner)?,
            DurationNode::Paren(inner) => self.duration_seconds(inner)?,
            DurationNode::Min(a, b) => math::min(self.duration_seconds(a)?, self.duration_seconds(b)?),
            DurationNode::Max(a, b) => math::max(self.duration_seconds(a)?, self.duration_seconds(b)?),
            DurationNode::Binary(op, a, b) => {
                let (a, b) = (self.duration_seconds(a)?, self.duration_seconds(b)?);
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    // Texts as in Prometheus:
                    BinaryOp::Div if b == 0.0 => return Err(QueryError::execution("division by zero")),
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod if b == 0.0 => return Err(QueryError::execution("modulo by zero")),
                    BinaryOp::Mod => a % b,
                    BinaryOp::Pow => a.powf(b),
                    _ => return Err(QueryError::execution("unexpected operator in a duration expression")),
                }
            }
        })
    }

    /// A scalar of `n` values, which count as long as it is there. `values` is called when there is memory for them.
    pub(crate) fn steps_scalar(&self, n: usize, values: impl FnOnce() -> Vec<f64>) -> Result<Scalar, QueryError> {
        self.control().check()?;
        let mut memory = self.control().reserve();
        self.take_memory(&mut memory, n * size_of::<f64>())?;
        Ok(Scalar::Steps(values(), memory))
    }

    pub(crate) fn step_seconds(&self) -> f64 {
        self.query.step_ms as f64 / 1000.0
    }

    pub(crate) fn control(&self) -> &'a Control {
        self.query.control
    }

    /// Notes that `samples` more are in memory for a moment.
    pub(crate) fn touch(&self, samples: usize) -> Result<(), QueryError> {
        let now = self.held.get().saturating_add(samples);
        let mut stats = self.stats.borrow_mut();
        stats.samples_peak = stats.samples_peak.max(now);
        if now > self.query.options.max_samples { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// Notes that a series stays in memory.
    fn hold(&self, series: &Series, held: &mut Held<'_>) -> Result<(), QueryError> {
        let (samples, bytes) = (weight(series), series.bytes());
        self.touch(samples)?;
        self.held.set(self.held.get() + samples);
        held.samples += samples;
        self.take_memory(&mut held.memory, bytes)
    }

    /// Notes that samples, and so many bytes for them, are part of the result.
    fn hold_result(&self, samples: usize, bytes: usize) -> Result<(), QueryError> {
        self.touch(samples)?;
        self.held.set(self.held.get() + samples);
        self.take_memory(&mut self.result_memory.borrow_mut(), bytes)
    }

    /// Takes so many bytes more from the memory of the query.
    pub(crate) fn take_memory(&self, memory: &mut Reservation, bytes: usize) -> Result<(), QueryError> {
        if let Some(trace) = &self.trace {
            trace.held(bytes);
        }
        Ok(memory.grow(bytes)?)
    }

    pub(crate) fn stats_per_step(&self) -> bool {
        self.query.options.per_step_stats
    }

    /// Counts samples that took part in steps, and samples read for that.
    pub(crate) fn count(&self, total: u64, read: u64) {
        let mut stats = self.stats.borrow_mut();
        stats.samples_total += total;
        stats.samples_read += read;
        if let Some(trace) = &self.trace {
            trace.sampled(total, read);
        }
    }

    /// Counts samples by step of the query, as in [`Eval::count`]. Those of other steps (of subqueries, of fixed times) go to the step of the
    /// query that is nearest behind them.
    pub(crate) fn count_steps(&self, counts: impl IntoIterator<Item = (usize, u64, u64)>, grid: &Grid) {
        if !self.stats_per_step() {
            return;
        }
        let mut stats = self.stats.borrow_mut();
        let last = self.grid.n.saturating_sub(1);
        for (step, total, read) in counts {
            let at = if *grid == self.grid {
                step
            } else {
                let behind = grid.t(step).saturating_sub(self.grid.start).max(0);
                usize::try_from(behind / self.grid.step).unwrap_or(last).min(last)
            };
            if let Some(slot) = stats.samples_per_step.get_mut(at) {
                *slot += total;
            }
            if let Some(slot) = stats.samples_read_per_step.get_mut(at) {
                *slot += read;
            }
        }
    }
}

/// Bytes of a point of the result: time and value.
const POINT_BYTES: usize = 16;

/// Bytes of a series of the result, without labels and points.
const SERIES_BYTES: usize = size_of::<MatrixSeries>();

/// What a series counts as while it is held: its samples, or a quarter of its steps if it has fewer, since a column takes
/// room for every step.
pub(crate) fn weight(series: &Series) -> usize {
    series.col.samples().max(series.col.v.len() / 4)
}

/// The expression inside of parentheses.
pub(crate) fn strip_parens(mut expr: &Expr) -> &Expr {
    while let ExprKind::Paren(inner) = &expr.kind {
        expr = inner;
    }
    expr
}

/// The type of an expression the parser has checked.
pub(crate) fn type_of(expr: &Expr) -> ValueType {
    let mut expr = expr;
    loop {
        expr = match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) => return ValueType::Scalar,
            ExprKind::String(_) => return ValueType::String,
            ExprKind::VectorSelector(_) | ExprKind::Aggregate(_) => return ValueType::Vector,
            ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => return ValueType::Matrix,
            ExprKind::Call(call) => return call.function.returns,
            ExprKind::Binary(binary) if type_of(&binary.rhs) == ValueType::Scalar => &binary.lhs,
            ExprKind::Binary(_) => return ValueType::Vector,
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => expr,
        }
    }
}

/// Functions whose result depends on the time of the step even if their arguments do not.
const STEP_DEPENDENT: [&str; 11] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
];

/// Whether the expression gives the same at every step.
fn is_step_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => true,
        ExprKind::VectorSelector(selector) => selector.at.is_some(),
        ExprKind::MatrixSelector(matrix) => matrix.selector.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.at.is_some(),
        ExprKind::Call(call) => {
            !STEP_DEPENDENT.contains(&call.function.name) && call.args.iter().all(is_step_invariant)
        }
        ExprKind::Aggregate(aggregate) => {
            is_step_invariant(&aggregate.expr) && aggregate.param.as_ref().is_none_or(is_step_invariant)
        }
        ExprKind::Binary(binary) => is_step_invariant(&binary.lhs) && is_step_invariant(&binary.rhs),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => is_step_invariant(expr),
    }
}

/// Whether the labels of the expression's series stay different when the metric name goes. `false` where unsure.
fn is_unique_without_name(expr: &Expr) -> bool {
    let named = |selector: &fk_promql_syntax::ast::VectorSelector| {
        let by_name = |m: &fk_model::Matcher| m.kind == fk_model::MatchKind::Equal && m.name == fk_model::METRIC_NAME;
        selector.matchers.iter().any(by_name)
    };
    match &expr.kind {
        ExprKind::VectorSelector(selector) => named(selector),
        ExprKind::MatrixSelector(matrix) => named(&matrix.selector),
        ExprKind::Subquery(subquery) => is_unique_without_name(&subquery.expr),
        ExprKind::Paren(expr) | ExprKind::Unary { expr, .. } => is_unique_without_name(expr),
        _ => false,
    }
}

/// How deep the expression is. Does not recurse, since it decides whether recursion is safe.
fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(expr, 1)];
    while let Some((expr, level)) = open.pop() {
        deepest = deepest.max(level);
        let next = level + 1;
        match &expr.kind {
            ExprKind::Number(_)
            | ExprKind::Duration(_)
            | ExprKind::String(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector(_) => {}
            ExprKind::Subquery(subquery) => open.push((&subquery.expr, next)),
            ExprKind::Call(call) => open.extend(call.args.iter().map(|arg| (arg, next))),
            ExprKind::Aggregate(aggregate) => {
                open.push((&aggregate.expr, next));
                open.extend(aggregate.param.iter().map(|param| (param, next)));
            }
            ExprKind::Binary(binary) => open.extend([(&binary.lhs, next), (&binary.rhs, next)]),
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => open.push((expr, next)),
        }
    }
    deepest
}

/// The parser has checked the types, so only a tree made by hand gets here.
pub(crate) fn unexpected(expr: &Expr, wanted: &str) -> QueryError {
    QueryError::execution(format!(
        "expected {wanted} at byte {} of the query, got {}",
        expr.pos.start,
        type_of(expr).name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueryOptions;
    use fk_model::Labels;
    use fk_promql_syntax::{ParserOptions, parse};
    use fk_storage::Stopped;
    use fk_testkit::MemoryStorage;

    /// Counters of two jobs with two instances each, a sample every 15 s over an hour.
    fn storage() -> MemoryStorage {
        let storage = MemoryStorage::new();
        for (at, (job, instance)) in [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")].into_iter().enumerate() {
            let labels = Labels::from_pairs([("__name__", "requests_total"), ("job", job), ("instance", instance)]);
            let samples: Vec<(i64, f64)> = (0..=240).map(|i| (i * 15_000, i as f64 * 15.0 * (at + 1) as f64)).collect();
            storage.add(&labels, &samples);
        }
        storage
    }

    fn run(text: &str, end_ms: i64, step_ms: i64, options: &QueryOptions) -> Result<Answer, QueryError> {
        let expr = parse(text, &ParserOptions::all()).expect(text);
        let control = Control::new();
        let query = Query { expr: &expr, text, start_ms: 600_000, end_ms, step_ms, options, control: &control };
        evaluate(&storage(), &query)
    }

    /// The result as text: `{labels} v v v` per series.
    fn show(value: Value) -> Vec<String> {
        match value {
            Value::Scalar { v, .. } => vec![v.to_string()],
            Value::String { v, .. } => vec![v],
            Value::Vector(samples) => samples.iter().map(|s| format!("{} {}", s.labels, s.v)).collect(),
            Value::Matrix(series) => {
                series.iter().map(|s| s.v.iter().fold(s.labels.to_string(), |text, v| format!("{text} {v}"))).collect()
            }
        }
    }

    #[test]
    fn queries_are_evaluated_at_every_step() {
        for (text, want) in [
            ("1 + 2", vec!["{} 3 3 3"]),
            ("round(sum by (job) (rate(requests_total[5m])), 0.001)", vec![r#"{job="a"} 3 3 3"#, r#"{job="b"} 7 7 7"#]),
            ("count(requests_total > 1200)", vec!["{} 2 3 3"]),
            ("sum(requests_total @ 600) / sum(requests_total @ start())", vec!["{} 1 1 1"]),
            ("max_over_time(vector(time())[2m:1m])", vec!["{} 600 660 720"]),
            ("scalar(sum(requests_total{instance='1', job='a'}))", vec!["{} 600 660 720"]),
            ("absent(nothing{a='b'})", vec![r#"{a="b"} 1 1 1"#]),
        ] {
            let answer = run(text, 720_000, 60_000, &QueryOptions::default()).expect(text);
            assert_eq!(show(answer.value), want, "{text}");
            assert_eq!((answer.warnings, answer.infos), (vec![], vec![]), "{text}");
        }
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for text in [
            "requests_total @ 9223372036854774 offset -100y",
            "rate(requests_total[100y] @ -9223372036854774)",
            "predict_linear(requests_total[1h] @ 600, 1e300) + minute(requests_total * 1e300)",
            "increase(requests_total[100y] smoothed)",
            "increase(requests_total[100y] anchored)",
            "max_over_time(requests_total[290y:280y] @ 9223372036854774)",
        ] {
            for (start_ms, end_ms, step_ms) in [
                (i64::MIN, i64::MIN, 0),
                (i64::MAX, i64::MAX, 0),
                (i64::MIN, i64::MAX, i64::MAX),
                (0, 3_600_000, 1_000_000),
            ] {
                let expr = parse(text, &ParserOptions::all()).expect(text);
                let (control, options) = (Control::new(), QueryOptions::default());
                let query =
                    Query { expr: &expr, text, start_ms, end_ms, step_ms, options: &options, control: &control };
                // Any answer will do, but not a panic.
                drop(evaluate(&storage(), &query));
            }
        }
    }

    #[test]
    fn limits_and_controls_end_a_query() {
        let options = QueryOptions { max_samples: 11, ..QueryOptions::default() };
        assert!(matches!(run("requests_total", 720_000, 60_000, &options), Err(QueryError::TooManySamples)));
        assert!(run("sum(requests_total)", 720_000, 60_000, &options).is_ok(), "groups are held, series are not");
        let text = "requests_total";
        let expr = parse(text, &ParserOptions::all()).unwrap();
        let (control, options) = (Control::new(), QueryOptions::default());
        control.cancel();
        let query =
            Query { expr: &expr, text, start_ms: 0, end_ms: 0, step_ms: 0, options: &options, control: &control };
        let error = evaluate(&storage(), &query).unwrap_err();
        assert!(matches!(error, QueryError::Stopped(Stopped::Cancelled)));
        assert_eq!(error.to_string(), "query was canceled in expression evaluation");
    }

    #[test]
    fn samples_are_counted_by_step() {
        let options = QueryOptions { per_step_stats: true, ..QueryOptions::default() };
        for (text, per_step) in
            [("requests_total", 4), ("rate(requests_total[1m])", 16), ("sum(requests_total offset 1m)", 4)]
        {
            let stats = run(text, 720_000, 60_000, &options).expect(text).stats;
            assert_eq!((stats.samples_per_step, stats.samples_total), (vec![per_step; 3], per_step * 3), "{text}");
            assert_eq!(stats.samples_read_per_step.iter().sum::<u64>(), stats.samples_read, "{text}");
        }
    }

    #[test]
    fn deep_expressions_have_a_stack_of_their_own() {
        let text = vec!["requests_total"; 900].join(" + ");
        assert_eq!(show(run(&text, 0, 0, &QueryOptions::default()).unwrap().value).len(), 4);
    }

    /// Fails when one of its series is read.
    struct Failing(Box<dyn fk_storage::SeriesSet>, usize);

    impl fk_storage::SeriesSet for Failing {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn labels(&self, idx: usize) -> Labels {
            self.0.labels(idx)
        }

        fn read(
            &self,
            idx: usize,
            range: fk_storage::TimeRange,
            out: &mut fk_storage::Samples,
        ) -> Result<(), fk_storage::StorageError> {
            if idx == self.1 {
                return Err(fk_storage::StorageError::Unsupported("this series"));
            }
            self.0.read(idx, range, out)
        }
    }

    /// Many series; reading the one numbered `fails_at` fails.
    struct Many {
        storage: MemoryStorage,
        fails_at: usize,
    }

    impl Queryable for Many {
        fn select(
            &self,
            params: &fk_storage::SelectParams,
            matchers: &[fk_model::Matcher],
            control: &Control,
        ) -> Result<Box<dyn fk_storage::SeriesSet>, fk_storage::StorageError> {
            Ok(Box::new(Failing(self.storage.select(params, matchers, control)?, self.fails_at)))
        }

        fn label_values(
            &self,
            name: &str,
            range: fk_storage::TimeRange,
            matchers: &[fk_model::Matcher],
            control: &Control,
        ) -> Result<Vec<String>, fk_storage::StorageError> {
            self.storage.label_values(name, range, matchers, control)
        }

        fn label_names(
            &self,
            range: fk_storage::TimeRange,
            matchers: &[fk_model::Matcher],
            control: &Control,
        ) -> Result<Vec<String>, fk_storage::StorageError> {
            self.storage.label_names(range, matchers, control)
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let storage = MemoryStorage::new();
        for at in 0..1000 {
            let labels = Labels::from_pairs([("__name__", "big_total".to_owned()), ("at", format!("{at:04}"))]);
            let samples: Vec<(i64, f64)> = (0..20).map(|i| (i * 15_000, 0.1 * (at * i) as f64)).collect();
            storage.add(&labels, &samples);
        }
        let mut many = Many { storage, fails_at: usize::MAX };
        let run = |many: &Many, text: &str, threads_max: usize, max_samples: usize| {
            let expr = parse(text, &ParserOptions::all()).expect(text);
            let options = QueryOptions { threads_max, max_samples, per_step_stats: true, ..QueryOptions::default() };
            let (control, options) = (Control::new(), options);
            let query = Query {
                expr: &expr,
                text,
                start_ms: 0,
                end_ms: 300_000,
                step_ms: 60_000,
                options: &options,
                control: &control,
            };
            evaluate(many, &query)
        };
        for text in ["sum(rate(big_total[1m]))", "rate(big_total[1m])", "avg(big_total)", "topk(3, big_total)"] {
            let alone = run(&many, text, 1, 1_000_000).expect(text);
            for threads in [2, 3, 8] {
                let together = run(&many, text, threads, 1_000_000).expect(text);
                assert_eq!(together.value, alone.value, "{text} with {threads} threads");
                assert_eq!(together.stats, alone.stats, "{text} with {threads} threads");
            }
        }
        assert!(matches!(run(&many, "big_total", 4, 100), Err(QueryError::TooManySamples)));
        for fails_at in [0, 500, 999] {
            many.fails_at = fails_at;
            let error = run(&many, "sum(rate(big_total[1m]))", 4, 1_000_000).unwrap_err();
            assert!(matches!(error, QueryError::Storage(_)), "{error}");
        }
    }
}
