//! Evaluates what a script asks for and compares.

use std::collections::BTreeMap;
use std::sync::Arc;

use fk_model::{FloatHistogram, Labels, is_stale};
use fk_promql::{Answer, MatrixSeries, Query, QueryOptions, Value, evaluate};
use fk_promql_syntax::ast::{At, DurationExpr, Expr, ExprKind};
use fk_promql_syntax::{ParserOptions, SeriesValue, parse, walk};
use fk_storage::Control;

use crate::script::{Eval, Notes, Text};
use crate::storage::ScriptStorage;

/// Checks one evaluation; an error says what was expected and what came.
pub(crate) fn check(storage: &ScriptStorage, eval: &Eval, options: &QueryOptions) -> Result<(), String> {
    let expr = match parse(&eval.query, &ParserOptions::all()) {
        Ok(expr) => expr,
        Err(errors) => return check_failure(eval, errors.message()),
    };
    let answer = match query(storage, &expr, &eval.query, (eval.start_ms, eval.end_ms, eval.step_ms), options) {
        Ok(answer) => answer,
        Err(error) => return check_failure(eval, &error),
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
    Ok(())
}

fn query(
    storage: &ScriptStorage,
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

/// The times of steps `start`, `start + step`, … that have a value.
fn expected_points(values: &[SeriesValue], start: i64, step: i64) -> Points {
    let times = (0..).map(|at: i64| start.saturating_add(step.saturating_mul(at)));
    let point = |(t, value): (i64, &SeriesValue)| match value {
        SeriesValue::Float(v) => Some((t, Point::Float(*v))),
        SeriesValue::Histogram(h) => {
            let told = h.counter_reset.is_some();
            Some((t, Point::Histogram(Box::new(h.to_histogram()), told)))
        }
        _ => None,
    };
    times.zip(values).filter_map(point).collect()
}

fn check_value(eval: &Eval, got: &Value) -> Result<(), String> {
    match (got, eval.scalar, &eval.string) {
        (Value::Scalar { v, .. }, Some(want), _) => check_float("the scalar", want, *v),
        (Value::String { v, .. }, _, Some(want)) if v == want => Ok(()),
        (Value::Vector(samples), None, None) if eval.range_vector.is_none() => {
            let got =
                samples.iter().map(|s| (s.labels.clone(), vec![(s.t_ms, got_point(s.v, s.h.as_ref()))])).collect();
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
            let points = |s: &MatrixSeries| s.points().map(|(t, v, h)| (t, got_point(v, h))).collect();
            check_series(eval, start, step, matrix.iter().map(|s| (s.labels.clone(), points(s))).collect(), false)
        }
        _ => Err(format!("unexpected kind of result: {got:?}")),
    }
}

type Points = Vec<(i64, Point)>;

/// A value, wanted or got.
#[derive(Clone, Debug)]
enum Point {
    Float(f64),
    /// A histogram, and whether its hint of a counter reset matters.
    Histogram(Box<FloatHistogram>, bool),
}

fn got_point(v: f64, h: Option<&Arc<FloatHistogram>>) -> Point {
    h.map_or(Point::Float(v), |h| Point::Histogram(Box::new(FloatHistogram::clone(h)), true))
}

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
        want.iter()
            .zip(&got)
            .try_for_each(|((t, want), (_, got))| check_point(&format!("{labels} at {t}"), want, got))?;
    }
    match left.pop_first() {
        Some((labels, points)) => Err(format!("unexpected {labels} {points:?}")),
        None => Ok(()),
    }
}

fn check_point(what: &str, want: &Point, got: &Point) -> Result<(), String> {
    match (want, got) {
        (Point::Float(want), Point::Float(got)) => check_float(what, *want, *got),
        (Point::Histogram(want, with_hint), Point::Histogram(got, _)) => {
            let (mut want, mut got) = (want.clone(), got.clone());
            want.compact(0);
            got.compact(0);
            if is_same(&want, &got) && (!with_hint || want.counter_reset == got.counter_reset) {
                return Ok(());
            }
            Err(format!("{what}: expected {want:?}, got {got:?}"))
        }
        _ => Err(format!("{what}: expected {want:?}, got {got:?}")),
    }
}

/// Numbers equal up to a millionth, everything else exactly.
fn is_same(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(*a, *b));
    a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && close(&[a.count, a.sum, a.zero_count], &[b.count, b.sum, b.zero_count])
        && close(&a.positive_buckets, &b.positive_buckets)
        && close(&a.negative_buckets, &b.negative_buckets)
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

/// Whether the query may give something else when it is evaluated at other times.
fn depends_on_time(expr: &Expr) -> bool {
    depends(expr, &TIME_FUNCTIONS)
}

/// Whether the query may give something else as another kind of query.
fn depends_on_query(expr: &Expr) -> bool {
    depends(expr, &["start", "end", "step", "range"])
}

/// Whether the query calls one of the functions, or has times or durations that move with it.
fn depends(expr: &Expr, functions: &[&str]) -> bool {
    let moving = |at: Option<At>| matches!(at, Some(At::Start | At::End));
    let variable = |duration: &DurationExpr| matches!(duration, DurationExpr::Expr(_));
    let mut found = false;
    walk(expr, &mut |expr, _| {
        found |= match &expr.kind {
            ExprKind::Call(call) => functions.contains(&call.function.name),
            ExprKind::VectorSelector(s) => moving(s.at) || variable(&s.offset),
            ExprKind::MatrixSelector(m) => moving(m.selector.at) || variable(&m.selector.offset) || variable(&m.range),
            ExprKind::Subquery(s) => moving(s.at) || variable(&s.offset) || variable(&s.range),
            _ => false,
        };
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
    storage: &ScriptStorage,
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
fn check_as_range(storage: &ScriptStorage, eval: &Eval, expr: &Expr, options: &QueryOptions) -> Result<(), String> {
    if depends_on_query(expr) || eval.string.is_some() || eval.range_vector.is_some() {
        return Ok(());
    }
    let t = eval.start_ms;
    let times = (t - 60_000, t + 60_000, 60_000);
    let answer = query(storage, expr, &eval.query, times, options).map_err(|e| format!("as range: {e}"))?;
    let Value::Matrix(matrix) = answer.value else { return Err("no matrix".to_owned()) };
    let middle = |s: &MatrixSeries| {
        let (_, v, h) = s.points().find(|(at, ..)| *at == t)?;
        Some((s.labels.clone(), vec![(t, got_point(v, h))]))
    };
    let got: Vec<(Labels, Points)> = matrix.iter().filter_map(middle).collect();
    let result = match (eval.scalar, &got[..]) {
        (Some(want), [(_, points)]) => {
            points.iter().try_for_each(|(_, got)| check_point("the scalar", &Point::Float(want), got))
        }
        (Some(_), _) => Err(format!("no scalar: {got:?}")),
        (None, _) => check_series(eval, t, 1, got, false),
    };
    result.map_err(|e| format!("as range: {e}"))
}
