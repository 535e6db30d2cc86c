//! Groups evaluated on a storage in memory by the real query engine, at times that each test chooses.

mod alerts;
mod backtests;
mod groups;
mod memories;
mod restores;

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use fk_config::{Rule, RuleGroup, RuleKind};
use fk_model::{Duration, Labels, SampleValue, is_stale};
use fk_promql::{Query, QueryOptions, Value};
use fk_promql_syntax::ast::Expr;
use fk_promql_syntax::{ParserOptions, parse};
use fk_storage::{Appender, Control, Queryable};
use fk_testkit::MemoryStorage;

use crate::*;

/// Seconds as nanoseconds.
pub(crate) const S: i64 = NS_PER_S;

pub(crate) struct Engine<'a>(pub(crate) &'a MemoryStorage);

impl Evaluate for Engine<'_> {
    fn query(&self, expr: &Expr, _: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let (options, control) = (QueryOptions::default(), Control::new());
        let query =
            Query { expr, text: "", start_ms: ts_ms, end_ms: ts_ms, step_ms: 0, options: &options, control: &control };
        let answer = fk_promql::evaluate(self.0, &query).map_err(|error| EvaluateError::Failed(error.to_string()))?;
        Ok(match answer.value {
            Value::Vector(samples) => QueryResult::Vector(
                samples.into_iter().map(|s| ResultSample { labels: s.labels, v: SampleValue::new(s.v, s.h) }).collect(),
            ),
            Value::Scalar { v, .. } => QueryResult::Scalar(v),
            Value::String { .. } | Value::Matrix(_) => QueryResult::Other,
        })
    }

    fn query_text(&self, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let expr = parse(text, &ParserOptions::default()).map_err(|e| EvaluateError::Failed(e.to_string()))?;
        self.query(&expr, text, ts_ms)
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn rule(kind: RuleKind, expr: &str, pairs: &[(&str, &str)]) -> Rule {
    let parsed = parse(expr, &ParserOptions::default()).unwrap();
    let removed = pairs.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| (*name).to_owned());
    Rule { kind, expr: parsed, expr_text: expr.to_owned(), labels: labels(pairs), removed_labels: removed.collect() }
}

pub(crate) fn record(metric: &str, expr: &str, pairs: &[(&str, &str)]) -> Rule {
    rule(RuleKind::Recording { metric: metric.to_owned() }, expr, pairs)
}

/// An alerting rule; durations in seconds.
pub(crate) fn alert(name: &str, expr: &str, hold_s: i64, keep_firing_s: i64, pairs: &[(&str, &str)]) -> Rule {
    let kind = RuleKind::Alerting {
        alert: name.to_owned(),
        hold: Duration(hold_s * 1000),
        keep_firing: Duration(keep_firing_s * 1000),
        annotations: vec![("summary".to_owned(), "value {{ $value }}".to_owned())],
    };
    rule(kind, expr, pairs)
}

/// A group that is evaluated every 60 seconds.
pub(crate) fn group(rules: Vec<Rule>) -> RuleGroup {
    RuleGroup { name: "g".to_owned(), interval: None, query_offset: None, limit: 0, rules }
}

pub(crate) fn spec(group: RuleGroup) -> GroupSpec {
    GroupSpec {
        file: "rules.yml".into(),
        group: group.into(),
        defaults: GroupDefaults { interval: Duration(60_000), query_offset: Duration(0) },
        external_labels: labels(&[("region", "north")]),
        external_url: "http://host/prefix".into(),
        options: RuleOptions::default(),
        restore: false,
        quiet: false,
    }
}

/// Evaluates `group` at `ts_ns` with the wall clock at `now_ns`.
pub(crate) fn evaluate_at(group: &mut Group, storage: &MemoryStorage, ts_ns: i64, now_ns: i64) -> GroupReport {
    evaluate_on(group, storage, storage, ts_ns, now_ns, None)
}

pub(crate) fn evaluate_on(
    group: &mut Group,
    storage: &MemoryStorage,
    appender: &dyn Appender,
    ts_ns: i64,
    now_ns: i64,
    slots: Option<&EvalSlots>,
) -> GroupReport {
    let clock = AtomicI64::new(now_ns);
    // Every look at the clock takes a millisecond.
    let now = || clock.fetch_add(NS_PER_MS, Relaxed);
    let ctx = EvalContext {
        evaluate: &Engine(storage),
        appender,
        storage: storage as &dyn Queryable,
        now_ns: &now,
        control: &Control::new(),
        slots,
    };
    group.evaluate(ts_ns, &ctx)
}

/// A storage and a group on it.
pub(crate) struct Bench {
    pub(crate) storage: MemoryStorage,
    pub(crate) group: Group,
    pub(crate) slots: Option<EvalSlots>,
}

impl Bench {
    pub(crate) fn new(rules: RuleGroup) -> Bench {
        Bench { storage: MemoryStorage::new(), group: Group::new(spec(rules)), slots: None }
    }

    /// Adds a sample at second `at_s`.
    pub(crate) fn sample(&self, pairs: &[(&str, &str)], at_s: i64, v: f64) {
        self.storage.add(&labels(pairs), &[(at_s * 1000, v)]);
    }

    /// Evaluates at second `at_s`.
    pub(crate) fn at(&mut self, at_s: i64) -> GroupReport {
        let (storage, slots) = (&self.storage, self.slots.as_ref());
        evaluate_on(&mut self.group, storage, storage, at_s * S, at_s * S, slots)
    }

    /// Evaluates at second `at_s` without any failure; the alerts sent, as text.
    pub(crate) fn good_at(&mut self, at_s: i64) -> Vec<String> {
        let report = self.at(at_s);
        assert_eq!(report.rules.iter().find_map(|rule| rule.failure.clone()), None, "at {at_s}");
        report.alerts.iter().map(sent).collect()
    }

    /// All samples of series whose labels, printed, contain `part`: `labels: second=value ...`.
    pub(crate) fn stored(&self, part: &str) -> Vec<String> {
        dump(&self.storage, part)
    }

    pub(crate) fn rule(&self, idx: usize) -> RuleSnapshot {
        self.group.snapshot().rules.swap_remove(idx)
    }

    /// State and labels of the alerts of the first rule.
    pub(crate) fn alerts(&self) -> Vec<String> {
        match self.rule(0).detail {
            RuleDetail::Alerting { alerts, .. } => {
                alerts.iter().map(|a| format!("{} {} {}", a.state.name(), a.active_at_ns / S, a.labels)).collect()
            }
            RuleDetail::Recording => panic!("a recording rule has no alerts"),
        }
    }
}

/// `start-end labels`
pub(crate) fn sent(alert: &OutgoingAlert) -> String {
    format!("{}-{} {}", alert.starts_at_ns / S, alert.ends_at_ns / S, alert.labels)
}

pub(crate) fn dump(storage: &MemoryStorage, part: &str) -> Vec<String> {
    let value = |v: f64| if is_stale(v) { "stale".to_owned() } else { v.to_string() };
    let line = |(labels, samples): (Labels, Vec<(i64, f64)>)| {
        let samples: Vec<String> =
            samples.iter().map(|(t, v)| format!("{}={}", *t as f64 / 1000.0, value(*v))).collect();
        (samples.is_empty(), format!("{labels}: {}", samples.join(" ")))
    };
    let lines = storage.dump().into_iter().map(line);
    lines.filter(|(empty, line)| !empty && line.contains(part)).map(|(_, line)| line).collect()
}
