//! Runs scripts of the PromQL test language against the engine.

use std::collections::BTreeMap;

use fk_model::{Labels, LabelsBuilder, METRIC_NAME, Matcher, is_stale};
use fk_promql::{Answer, MatrixSeries, Query, QueryOptions, Value, evaluate};
use fk_promql_syntax::ast::{At, DurationExpr, Expr, ExprKind};
use fk_promql_syntax::{ParserOptions, parse};
use fk_storage::Control;
use fk_testkit::MemoryStorage;

use crate::script::{Command, Eval, Kind, Load, Notes, Text, Values, read};

/// What became of a script.
#[derive(Debug, Default)]
pub struct Report {
    pub passed: usize,
    /// Line and reason.
    pub skipped: Vec<(usize, &'static str)>,
    /// Line and what was wrong.
    pub failed: Vec<(usize, String)>,
}

/// The data loaded so far.
#[derive(Default)]
struct Data {
    floats: BTreeMap<Labels, BTreeMap<i64, f64>>,
    /// Series the storage cannot hold yet, with the reason: evaluations that select one of them are skipped.
    unsupported: Vec<(Labels, &'static str)>,
    storage: Option<MemoryStorage>,
}

const HISTOGRAMS: &str = "native histograms";
const START_TIMES: &str = "start timestamps";

/// Runs a script.
pub fn run(script: &str, options: &QueryOptions) -> Result<Report, String> {
    let (mut data, mut report) = (Data::default(), Report::default());
    for Command { line, kind } in read(script)? {
        match kind {
            Kind::Clear => data = Data::default(),
            Kind::Load(load) => data.load(load)?,
            Kind::Eval(eval) => match check(&mut data, &eval, options) {
                Ok(None) => report.passed += 1,
                Ok(Some(reason)) => report.skipped.push((line, reason)),
                Err(error) => report.failed.push((line, format!("{}: {error}", eval.query))),
            },
        }
    }
    Ok(report)
}

impl Data {
    fn load(&mut self, load: Load) -> Result<(), String> {
        self.storage = None;
        for series in load.series {
            if series.start_times {
                self.unsupported.push((series.labels, START_TIMES));
                continue;
            }
            if load.with_nhcb
                && let Some(name) = series.labels.metric_name().strip_suffix("_bucket")
            {
                let mut labels = LabelsBuilder::from(&series.labels);
                labels.set(METRIC_NAME, name).del("le");
                self.unsupported.push((labels.build(), HISTOGRAMS));
            }
            let Values::Floats(values) = series.values else {
                self.unsupported.push((series.labels, HISTOGRAMS));
                continue;
            };
            let samples = self.floats.entry(series.labels).or_default();
            let with_times = values.into_iter().enumerate().map(|(at, v)| (at as i64 * load.step_ms, v));
            samples.extend(with_times.filter_map(|(t, v)| v.map(|v| (t, v))));
        }
        Ok(())
    }

    fn storage(&mut self) -> &MemoryStorage {
        let floats = &self.floats;
        self.storage.get_or_insert_with(|| {
            let storage = MemoryStorage::new();
            for (labels, samples) in floats {
                storage.add(labels, &samples.iter().map(|(t, v)| (*t, *v)).collect::<Vec<_>>());
            }
            storage
        })
    }
}

/// Checks one evaluation: `Ok(None)` passed, `Ok(Some)` skipped.
fn check(data: &mut Data, eval: &Eval, options: &QueryOptions) -> Result<Option<&'static str>, String> {
    let expr = match parse(&eval.query, &ParserOptions::all()) {
        Ok(expr) => expr,
        Err(errors) => return check_failure(eval, errors.message()).map(|()| None),
    };
    if let Some(reason) = needs(&expr, data) {
        return Ok(Some(reason));
    }
    if eval.results.iter().any(|(_, values)| matches!(values, Values::Histograms)) {
        return Ok(Some(HISTOGRAMS));
    }
    let storage = data.storage();
    let answer = match query(storage, &expr, &eval.query, (eval.start_ms, eval.end_ms, eval.step_ms), options) {
        Ok(answer) => answer,
        Err(error) => return check_failure(eval, &error).map(|()| None),
    };
    if eval.fail.is_some() {
        return Err("should have failed".to_owned());
    }
    check_notes("warning", &eval.warn, &answer.warnings)?;
    check_notes("info", &eval.info, &answer.infos)?;
    check_value(eval, &answer.value)?;
    if eval.step_ms == 0 {
        check_with_fixed_times(storage, eval, &expr, options)?;
        check_as_range(storage, eval, &expr, options)?;
    }
    Ok(None)
}

fn query(
    storage: &MemoryStorage,
    expr: &Expr,
    text: &str,
    (start_ms, end_ms, step_ms): (i64, i64, i64),
    options: &QueryOptions,
) -> Result<Answer, String> {
    let control = Control::new();
    let query = Query { expr, text, start_ms, end_ms, step_ms, options, control: &control };
    evaluate(storage, &query).map_err(|e| e.to_string())
}

fn check_failure(eval: &Eval, error: &str) -> Result<(), String> {
    match &eval.fail {
        None => Err(format!("failed: {error}")),
        Some(want) if want.accepts(error) => Ok(()),
        Some(want) => Err(format!("failed with {error:?} instead of {want:?}")),
    }
}

fn check_notes(kind: &str, want: &Notes, got: &[String]) -> Result<(), String> {
    if want.none && !got.is_empty() {
        return Err(format!("unexpected {kind}: {got:?}"));
    }
    let missing = want.some.iter().find(|text| !got.iter().any(|got| text.accepts(got)));
    if let Some(text) = missing {
        return Err(format!("no {kind} {text:?} among {got:?}"));
    }
    if want.some.is_empty() || want.some.iter().any(|text| matches!(text, Text::Any)) {
        return Ok(());
    }
    match got.iter().find(|got| !want.some.iter().any(|text| text.accepts(got))) {
        Some(extra) => Err(format!("unexpected {kind} {extra:?}")),
        None => Ok(()),
    }
}

/// Why the evaluation cannot be checked: it selects a series the storage cannot hold.
fn needs(expr: &Expr, data: &Data) -> Option<&'static str> {
    let mut reason = None;
    walk(expr, &mut |expr| {
        let matchers = match &expr.kind {
            ExprKind::VectorSelector(selector) => &selector.matchers,
            ExprKind::MatrixSelector(matrix) => &matrix.selector.matchers,
            _ => return true,
        };
        let selected = |(labels, _): &&(Labels, &str)| Matcher::all_match(matchers, labels);
        reason = reason.or(data.unsupported.iter().find(selected).map(|(_, reason)| *reason));
        true
    });
    reason
}

/// Calls `f` for each node; its children are visited if it returns true.
fn walk(expr: &Expr, f: &mut impl FnMut(&Expr) -> bool) {
    if !f(expr) {
        return;
    }
    match &expr.kind {
        ExprKind::Subquery(subquery) => walk(&subquery.expr, f),
        ExprKind::Call(call) => call.args.iter().for_each(|arg| walk(arg, f)),
        ExprKind::Aggregate(aggregate) => {
            walk(&aggregate.expr, f);
            aggregate.param.iter().for_each(|param| walk(param, f));
        }
        ExprKind::Binary(binary) => {
            walk(&binary.lhs, f);
            walk(&binary.rhs, f);
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => walk(expr, f),
        _ => {}
    }
}

/// The times of steps `start`, `start + step`, … that have a value.
fn expected_points(values: &Values, start: i64, step: i64) -> Vec<(i64, f64)> {
    let Values::Floats(values) = values else { return Vec::new() };
    let with_times = values.iter().enumerate().map(|(at, v)| (start + at as i64 * step, *v));
    with_times.filter_map(|(t, v)| v.map(|v| (t, v))).collect()
}

fn check_value(eval: &Eval, got: &Value) -> Result<(), String> {
    match (got, eval.scalar, &eval.string) {
        (Value::Scalar { v, .. }, Some(want), _) => check_float("the scalar", want, *v),
        (Value::String { v, .. }, _, Some(want)) if v == want => Ok(()),
        (Value::Vector(samples), None, None) if eval.range_vector.is_none() => {
            let got = samples.iter().map(|s| (s.labels.clone(), vec![(s.t_ms, s.v)])).collect();
            check_series(eval, eval.start_ms, 1, got, eval.ordered)
        }
        (Value::Matrix(matrix), None, None) => {
            if !matrix.is_sorted_by(|a, b| a.labels <= b.labels) {
                return Err("the matrix is not sorted".to_owned());
            }
            let (start, step) = match eval.range_vector {
                Some((start, _, step)) => (start, step),
                None => (eval.start_ms, eval.step_ms),
            };
            let points = |s: &MatrixSeries| s.t.iter().copied().zip(s.v.iter().copied()).collect();
            check_series(eval, start, step, matrix.iter().map(|s| (s.labels.clone(), points(s))).collect(), false)
        }
        _ => Err(format!("unexpected kind of result: {got:?}")),
    }
}

type Points = Vec<(i64, f64)>;

fn check_series(eval: &Eval, start: i64, step: i64, got: Vec<(Labels, Points)>, ordered: bool) -> Result<(), String> {
    let want: Vec<(Labels, Points)> =
        eval.results.iter().map(|(labels, values)| (labels.clone(), expected_points(values, start, step))).collect();
    let want: Vec<(Labels, Points)> = want.into_iter().filter(|(_, points)| !points.is_empty()).collect();
    if ordered {
        let order = |series: &[(Labels, Points)]| series.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>();
        if order(&want) != order(&got) {
            return Err(format!("wrong order: {:?}", order(&got)));
        }
    }
    let mut left: BTreeMap<Labels, Points> = BTreeMap::new();
    for (labels, points) in got {
        if left.insert(labels.clone(), points).is_some() {
            return Err(format!("two series {labels}"));
        }
    }
    for (labels, want) in want {
        let got = left.remove(&labels).ok_or_else(|| format!("missing {labels}; got {left:?}"))?;
        let times = |points: &Points| points.iter().map(|(t, _)| *t).collect::<Vec<_>>();
        if times(&want) != times(&got) {
            return Err(format!("{labels}: expected {want:?}, got {got:?}"));
        }
        want.iter().zip(&got).try_for_each(|((_, want), (_, got))| check_float(&labels.to_string(), *want, *got))?;
    }
    match left.pop_first() {
        Some((labels, points)) => Err(format!("unexpected {labels} {points:?}")),
        None => Ok(()),
    }
}

fn check_float(what: &str, want: f64, got: f64) -> Result<(), String> {
    if is_equal(want, got) { Ok(()) } else { Err(format!("{what}: expected {want:?}, got {got:?}")) }
}

/// Equal up to a millionth.
fn is_equal(a: f64, b: f64) -> bool {
    const EPSILON: f64 = 0.000_001;
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        diff < EPSILON * f64::MIN_POSITIVE
    } else {
        diff / sum.min(f64::MAX) < EPSILON
    }
}

/// Functions whose result depends on the time of evaluation.
const TIME_FUNCTIONS: [&str; 15] = [
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
    "start",
    "end",
    "step",
    "range",
];

fn is_variable(duration: &DurationExpr) -> bool {
    matches!(duration, DurationExpr::Expr(_))
}

/// Whether the result may depend on when, or as what, the query runs.
fn depends_on_time(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |expr| {
        let moving = |at: Option<At>| matches!(at, Some(At::Start | At::End));
        found |= match &expr.kind {
            ExprKind::Call(call) => TIME_FUNCTIONS.contains(&call.function.name),
            ExprKind::VectorSelector(s) => moving(s.at) || is_variable(&s.offset),
            ExprKind::MatrixSelector(m) => {
                moving(m.selector.at) || is_variable(&m.selector.offset) || is_variable(&m.range)
            }
            ExprKind::Subquery(s) => moving(s.at) || is_variable(&s.offset) || is_variable(&s.range),
            _ => false,
        };
        true
    });
    found
}

/// Sets `@ t` wherever there is none, except inside of subqueries.
fn fix_times(expr: &mut Expr, t: i64) {
    let fixed = Some(At::Time(t));
    match &mut expr.kind {
        ExprKind::VectorSelector(selector) => selector.at = selector.at.or(fixed),
        ExprKind::MatrixSelector(matrix) => matrix.selector.at = matrix.selector.at.or(fixed),
        ExprKind::Subquery(subquery) => subquery.at = subquery.at.or(fixed),
        ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| fix_times(arg, t)),
        ExprKind::Aggregate(aggregate) => {
            fix_times(&mut aggregate.expr, t);
            aggregate.param.iter_mut().for_each(|param| fix_times(param, t));
        }
        ExprKind::Binary(binary) => {
            fix_times(&mut binary.lhs, t);
            fix_times(&mut binary.rhs, t);
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => fix_times(expr, t),
        _ => {}
    }
}

/// The same query with its times fixed gives the same at any other time.
fn check_with_fixed_times(
    storage: &MemoryStorage,
    eval: &Eval,
    expr: &Expr,
    options: &QueryOptions,
) -> Result<(), String> {
    if depends_on_time(expr) {
        return Ok(());
    }
    let t = eval.start_ms;
    let mut fixed = expr.clone();
    fix_times(&mut fixed, t);
    let times = if t == 0 { vec![-1000, 0, 1000] } else { vec![0, t / 5, t, 10 * t, -10 * t] };
    for at in times {
        let mut answer =
            query(storage, &fixed, &eval.query, (at, at, 0), options).map_err(|e| format!("with @ at {at}: {e}"))?;
        if let Value::Vector(samples) = &mut answer.value {
            samples.iter_mut().for_each(|s| s.t_ms = t);
        }
        check_value(eval, &answer.value).map_err(|e| format!("with @ at {at}: {e}"))?;
    }
    Ok(())
}

/// The middle of three steps gives the same as the instant query.
fn check_as_range(storage: &MemoryStorage, eval: &Eval, expr: &Expr, options: &QueryOptions) -> Result<(), String> {
    if depends_on_query(expr) || eval.string.is_some() || eval.range_vector.is_some() {
        return Ok(());
    }
    let t = eval.start_ms;
    let times = (t - 60_000, t + 60_000, 60_000);
    let answer = query(storage, expr, &eval.query, times, options).map_err(|e| format!("as range: {e}"))?;
    let Value::Matrix(matrix) = answer.value else { return Err("no matrix".to_owned()) };
    let middle = |s: &MatrixSeries| {
        let at = s.t.iter().position(|at| *at == t)?;
        Some((s.labels.clone(), vec![(t, s.v[at])]))
    };
    let got: Vec<(Labels, Points)> = matrix.iter().filter_map(middle).collect();
    let result = match (eval.scalar, &got[..]) {
        (Some(want), [(_, points)]) => check_float("the scalar", want, points[0].1),
        (Some(_), _) => Err(format!("no scalar: {got:?}")),
        (None, _) => check_series(eval, t, 1, got, false),
    };
    result.map_err(|e| format!("as range: {e}"))
}

fn depends_on_query(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |expr| {
        let moving = |at: Option<At>| matches!(at, Some(At::Start | At::End));
        found |= match &expr.kind {
            ExprKind::Call(call) => matches!(call.function.name, "start" | "end" | "step" | "range"),
            ExprKind::VectorSelector(s) => moving(s.at) || is_variable(&s.offset),
            ExprKind::MatrixSelector(m) => {
                moving(m.selector.at) || is_variable(&m.selector.offset) || is_variable(&m.range)
            }
            ExprKind::Subquery(s) => moving(s.at) || is_variable(&s.offset) || is_variable(&s.range),
            _ => false,
        };
        true
    });
    found
}
