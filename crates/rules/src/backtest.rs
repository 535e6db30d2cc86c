//! What a group would have done in the past: its rules and its alert states, run over stored data at the times the group would
//! have been evaluated at. Nothing is written and nobody is told.
//!
//! It is the real thing, [`Group::evaluate`], in front of an [`Overlay`]. Rules that read nothing the group writes are asked for
//! many evaluation times at once, as a range query; the others one time after another, as they are when they run.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use fk_model::{Labels, METRIC_NAME, SampleValue};
use fk_promql_syntax::ast::{Expr, ExprKind};
use fk_promql_syntax::visit::walk;
use fk_storage::{Control, Queryable, Samples};

use crate::evaluate::{EvalContext, Evaluate, EvaluateError, QueryResult, ResultSample};
use crate::group::{Group, GroupSpec};
use crate::memory::{AlertEvent, InstanceId};
use crate::overlay::{Overlay, Written};
use crate::{NS_PER_MS, RuleKindName, kind_name};

/// Evaluation times that are asked for at once.
const WINDOW_STEPS: i64 = 500;

/// Answers queries on any storage: instant ones, and many evaluation times at once.
pub trait HistoryQueries: Sync {
    /// The instant query `expr` at `ts_ms` on `storage`.
    fn instant(&self, storage: &dyn Queryable, expr: &Expr, ts_ms: i64) -> Result<QueryResult, EvaluateError>;

    /// The same as a text.
    fn instant_text(&self, storage: &dyn Queryable, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError>;

    /// The query `expr` at every `step_ms` from `start_ms` to `end_ms`: series with their values.
    fn range(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<(Labels, Samples)>, EvaluateError>;
}

/// Bounds of a backtest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacktestLimits {
    /// Most evaluations of rules: evaluation times times rules.
    pub evaluations_max: u64,
    /// Most samples read from the storage.
    pub samples_max: u64,
    /// Most samples that the rules write.
    pub results_max: usize,
    /// Most events of alerts in the answer.
    pub events_max: usize,
}

impl Default for BacktestLimits {
    fn default() -> BacktestLimits {
        BacktestLimits {
            evaluations_max: 2_000_000,
            samples_max: 1_000_000_000,
            results_max: 20_000_000,
            events_max: 100_000,
        }
    }
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct BacktestRule {
    /// Name of the metric or the alert.
    pub name: String,
    /// Whether it is an alerting rule.
    pub kind: RuleKindName,
    /// How many evaluations failed.
    pub failures: u64,
    /// What the first of them said, and its evaluation time, ms.
    pub first_error: Option<(i64, String)>,
}

/// Something that would have happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BacktestEvent {
    /// What.
    pub event: AlertEvent,
    /// Evaluation time, ms.
    pub at_ms: i64,
    /// Value of the expression when it was last seen.
    pub value: f64,
}

/// What would have become of one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct BacktestAlert {
    /// Labels.
    pub labels: Labels,
    /// Oldest first.
    pub events: Vec<BacktestEvent>,
    /// How often it would have been sent to each Alertmanager, repeats included.
    pub sends: u64,
}

/// What a group would have done.
#[derive(Clone, Debug, PartialEq)]
pub struct Backtest {
    /// First and last evaluation time, ms; `None` if there was none.
    pub times: Option<(i64, i64)>,
    /// How many evaluation times.
    pub steps: u64,
    /// The rules, in their order.
    pub rules: Vec<BacktestRule>,
    /// The alerts, by labels.
    pub alerts: Vec<BacktestAlert>,
    /// How often people would have heard of something new: an alert that begins to fire, or is resolved.
    pub notifications: u64,
    /// How many alerts would have been sent to each Alertmanager, repeats included.
    pub sends: u64,
    /// Why it ended before the last evaluation time, if it did.
    pub stopped: Option<String>,
}

/// Runs the group of `spec` over what `storage` holds, at its evaluation times from `start_ms` to `end_ms`. `control` ends it
/// early, with what is known by then.
pub fn backtest(
    spec: GroupSpec,
    (start_ms, end_ms): (i64, i64),
    storage: &dyn Queryable,
    queries: &dyn HistoryQueries,
    limits: &BacktestLimits,
    control: &Control,
) -> Backtest {
    let spec = GroupSpec { restore: false, quiet: true, ..spec };
    let rules: Vec<BacktestRule> = spec.group.rules.iter().map(rule_of).collect();
    let n_rules = rules.len().max(1) as u64;
    let mut group = Group::new(spec);
    let interval_ns = group.interval().as_millis() * NS_PER_MS;
    // The first evaluation time that is not before the start.
    let first_ns = group.first_slot(start_ms.saturating_mul(NS_PER_MS).saturating_sub(1));
    let end_ns = end_ms.saturating_mul(NS_PER_MS);
    let sample_ms = |ts_ns: i64| group.sample_time_ms(ts_ns);
    let overlay = Overlay::new(storage, sample_ms(first_ns), written_by(&group), limits.results_max);
    let replay = Replay {
        overlay: &overlay,
        queries,
        last_ms: sample_ms(end_ns),
        step_ms: group.interval().as_millis(),
        windows: Mutex::default(),
    };
    let mut found =
        Backtest { times: None, steps: 0, rules, alerts: Vec::new(), notifications: 0, sends: 0, stopped: None };
    let mut alerts: BTreeMap<InstanceId, BacktestAlert> = BTreeMap::new();
    let (now_ns, n_events) = (AtomicI64::new(0), Cell::new(0));
    let clock = || now_ns.load(Relaxed);
    let ctx =
        EvalContext { evaluate: &replay, appender: &overlay, storage: &overlay, now_ns: &clock, control, slots: None };
    let mut ts_ns = first_ns;
    while ts_ns <= end_ns {
        let stopped = if let Err(stopped) = control.check() {
            Some(stopped.to_string())
        } else if (found.steps + 1).saturating_mul(n_rules) > limits.evaluations_max {
            Some(format!("more than {} evaluations of rules", limits.evaluations_max))
        } else if control.usage().samples > limits.samples_max {
            Some(format!("more than {} samples were read", limits.samples_max))
        } else if n_events.get() > limits.events_max {
            Some(format!("more than {} events of alerts", limits.events_max))
        } else {
            None
        };
        if stopped.is_some() {
            found.stopped = stopped;
            break;
        }
        now_ns.store(ts_ns, Relaxed);
        let report = group.evaluate(ts_ns, &ctx);
        if control.check().is_err() {
            // It was ended in the middle: the step does not count.
            continue;
        }
        let at_ms = ts_ns.div_euclid(NS_PER_MS);
        for (rule, outcome) in found.rules.iter_mut().zip(report.rules) {
            if let Some(failure) = outcome.failure {
                rule.failures += 1;
                rule.first_error.get_or_insert((at_ms, failure.message));
            }
        }
        let sent = report.alerts.len() as u64;
        for event in report.events {
            let new = || BacktestAlert { labels: event.labels.clone(), events: Vec::new(), sends: 0 };
            let of = alerts.entry(event.instance).or_insert_with(new);
            of.events.push(BacktestEvent { event: event.event, at_ms, value: event.value });
            n_events.set(n_events.get() + 1);
            found.notifications += u64::from(matches!(event.event, AlertEvent::Firing | AlertEvent::Resolved));
        }
        for one in report.alerts {
            if let Some(of) = alerts.get_mut(&one.instance) {
                of.sends += 1;
            }
        }
        found.sends += sent;
        found.steps += 1;
        found.times = Some((found.times.map_or(at_ms, |(first, _)| first), at_ms));
        ts_ns = ts_ns.saturating_add(interval_ns);
    }
    found.alerts = alerts.into_values().collect();
    found.alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
    found
}

fn rule_of(rule: &fk_config::Rule) -> BacktestRule {
    let (name, kind) = kind_name(rule);
    BacktestRule { name: name.to_owned(), kind, failures: 0, first_error: None }
}

fn written_by(group: &Group) -> Written {
    let mut written = Written::default();
    for rule in &group.spec().group.rules {
        let (name, kind) = kind_name(rule);
        match kind {
            RuleKindName::Alerting => written.alerts.push(name.to_owned()),
            RuleKindName::Recording => written.metrics.push(name.to_owned()),
        }
    }
    written
}

/// Results for many evaluation times.
struct Window {
    from_ms: i64,
    to_ms: i64,
    series: Vec<Column>,
}

struct Column {
    labels: Labels,
    samples: Samples,
    /// The next sample and histogram to give out: times only go on.
    next: usize,
    next_histogram: usize,
}

/// Answers the queries of the group.
struct Replay<'a> {
    overlay: &'a Overlay<'a>,
    queries: &'a dyn HistoryQueries,
    last_ms: i64,
    step_ms: i64,
    /// By the text of the expression; `None`: has to be asked for each time by itself.
    windows: Mutex<HashMap<String, Option<Window>>>,
}

impl Replay<'_> {
    /// Whether what `expr` gives at a time does not depend on what the group does, nor on the range of the query.
    fn is_fixed(&self, expr: &Expr, text: &str) -> bool {
        if text.contains('@') || text.contains("step()") || text.contains("range()") {
            return false;
        }
        let mut fixed = true;
        walk(expr, &mut |node, _| {
            let matchers = match &node.kind {
                ExprKind::VectorSelector(selector) => &selector.matchers,
                ExprKind::MatrixSelector(matrix) => &matrix.selector.matchers,
                // Reads series that its arguments do not name.
                ExprKind::Call(call) if call.function.name == "info" => {
                    fixed = false;
                    return;
                }
                _ => return,
            };
            let by_name = matchers.iter().any(|m| m.name == METRIC_NAME);
            fixed &= by_name && !self.overlay.written().may_match(matchers);
        });
        fixed
    }
}

impl Window {
    fn at(&mut self, ts_ms: i64) -> Vec<ResultSample> {
        let mut found = Vec::with_capacity(self.series.len());
        for column in &mut self.series {
            let Column { labels, samples, next, next_histogram } = column;
            while samples.t.get(*next).is_some_and(|t| *t < ts_ms) {
                *next += 1;
            }
            if samples.t.get(*next) != Some(&ts_ms) {
                continue;
            }
            while samples.histograms.get(*next_histogram).is_some_and(|(of, _)| (*of as usize) < *next) {
                *next_histogram += 1;
            }
            let h = samples.histograms.get(*next_histogram).filter(|(of, _)| *of as usize == *next);
            let v = SampleValue::new(samples.v[*next], h.map(|(_, h)| h.clone()));
            found.push(ResultSample { labels: labels.clone(), v });
        }
        found
    }
}

impl Evaluate for Replay<'_> {
    fn query(&self, expr: &Expr, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let mut windows = self.windows.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !windows.contains_key(text) {
            let empty = Window { from_ms: i64::MAX, to_ms: i64::MIN, series: Vec::new() };
            windows.insert(text.to_owned(), self.is_fixed(expr, text).then_some(empty));
        }
        let Some(Some(window)) = windows.get_mut(text) else {
            drop(windows);
            return self.queries.instant(self.overlay, expr, ts_ms);
        };
        if !(window.from_ms..=window.to_ms).contains(&ts_ms) {
            let to_ms =
                ts_ms.saturating_add(self.step_ms.saturating_mul(WINDOW_STEPS - 1)).min(self.last_ms).max(ts_ms);
            let found = match self.queries.range(self.overlay.base(), expr, ts_ms, to_ms, self.step_ms) {
                Ok(found) => found,
                Err(EvaluateError::Cancelled(text)) => return Err(EvaluateError::Cancelled(text)),
                // One of these times fails: which one is found by asking for each.
                Err(EvaluateError::Failed(_)) => {
                    windows.insert(text.to_owned(), None);
                    drop(windows);
                    return self.queries.instant(self.overlay, expr, ts_ms);
                }
            };
            let column = |(labels, samples)| Column { labels, samples, next: 0, next_histogram: 0 };
            *window = Window { from_ms: ts_ms, to_ms, series: found.into_iter().map(column).collect() };
        }
        Ok(QueryResult::Vector(window.at(ts_ms)))
    }

    fn query_text(&self, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        self.queries.instant_text(self.overlay, text, ts_ms)
    }
}
