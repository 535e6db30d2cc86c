//! One rule of a group: its query, and what is done with the result.

use std::collections::HashMap;
use std::sync::Arc;

use fk_config::{Rule, RuleKind};
use fk_model::{Labels, SampleValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::NS_PER_MS;
use crate::alerting::{AlertingRule, Moment};
use crate::evaluate::{EvalContext, EvaluateError, QueryResult, ResultSample};
use crate::group::{GroupSpec, OutgoingAlert, RuleFailure, RuleReport};
use crate::memory::{InstanceEvent, StateChanges, rule_key};
use crate::recording::recorded_labels;
use crate::snapshot::{Health, RuleDetail, RuleSnapshot, RuleState};
use crate::written::{Rejected, WriteError, Written};

/// Text as in Prometheus:
pub(crate) const NOT_A_VECTOR: &str = "rule result is not a vector or scalar";

/// A rule and its state.
#[derive(Debug)]
pub(crate) struct RuleRuntime {
    /// Its place in the group.
    pub(crate) idx: usize,
    pub(crate) name: Arc<str>,
    pub(crate) query: Arc<str>,
    pub(crate) alerting: Option<AlertingRule>,
    pub(crate) written: Written,
    health: Health,
    last_error: String,
    evaluation_s: f64,
    last_evaluation_ns: Option<i64>,
}

/// What the rules of a group share.
pub(crate) struct World<'a> {
    pub(crate) spec: &'a GroupSpec,
    pub(crate) interval_ns: i64,
    pub(crate) query_offset_ns: i64,
    pub(crate) slot_offset_ns: i64,
    /// See [`Moment`].
    pub(crate) down_at_ns: Option<i64>,
    /// See [`Moment`].
    pub(crate) wake: bool,
}

/// What became of one evaluation.
#[derive(Debug, Default)]
pub(crate) struct RuleOutcome {
    pub(crate) report: RuleReport,
    /// Samples that the rule gave.
    pub(crate) n_samples: usize,
    pub(crate) alerts: Vec<OutgoingAlert>,
    pub(crate) events: Vec<InstanceEvent>,
    pub(crate) changes: StateChanges,
}

impl RuleRuntime {
    /// A rule of the group `group`; `equal` counts rules that are equal in name and labels.
    pub(crate) fn new(
        idx: usize,
        rule: &Rule,
        group: &str,
        equal: &mut HashMap<u128, usize>,
        restored: bool,
    ) -> RuleRuntime {
        let (name, alerting) = match &rule.kind {
            RuleKind::Recording { metric } => (metric, None),
            RuleKind::Alerting { alert, hold, keep_firing, annotations } => {
                let key = |nth| rule_key(group, alert, &rule.labels, &rule.removed_labels, nth);
                let nth = equal.entry(key(0)).or_default();
                *nth += 1;
                let alerting =
                    AlertingRule::new(alert, key(*nth - 1), rule, *hold, *keep_firing, annotations, restored);
                (alert, Some(alerting))
            }
        };
        RuleRuntime {
            name: name.as_str().into(),
            query: rule.expr_text.as_str().into(),
            idx,
            alerting,
            written: Written::default(),
            health: Health::Unknown,
            last_error: String::new(),
            evaluation_s: 0.0,
            last_evaluation_ns: None,
        }
    }

    /// One evaluation for the evaluation time `ts_ns`; the results are written when it returns.
    pub(crate) fn evaluate(&mut self, ts_ns: i64, world: &World<'_>, ctx: &EvalContext<'_>) -> RuleOutcome {
        let started_ns = (ctx.now_ns)();
        let mut outcome = RuleOutcome::default();
        outcome.report.failure = self.evaluate_into(ts_ns, world, ctx, &mut outcome);
        if let Some(alerting) = &mut self.alerting {
            alerting.take_changes(&mut outcome.changes, &mut outcome.events);
        }
        self.evaluation_s = seconds_between(started_ns, (ctx.now_ns)());
        self.last_evaluation_ns = Some(started_ns);
        outcome.report.duration_s = self.evaluation_s;
        outcome
    }

    fn evaluate_into(
        &mut self,
        ts_ns: i64,
        world: &World<'_>,
        ctx: &EvalContext<'_>,
        outcome: &mut RuleOutcome,
    ) -> Option<RuleFailure> {
        let sample_ms = (ts_ns - world.query_offset_ns).div_euclid(NS_PER_MS);
        let (interval_ns, slot_offset_ns, spec) = (world.interval_ns, world.slot_offset_ns, world.spec);
        let definition = &spec.group.rules[self.idx];
        let rule = self;
        let results = match query(definition, sample_ms, ctx) {
            Ok(results) => results,
            Err(EvaluateError::Cancelled(message)) => return Some(rule.fail(spec, message, true)),
            Err(EvaluateError::Failed(message)) => return Some(rule.fail(spec, message, false)),
        };
        let limit = spec.group.limit;
        let n_results;
        let rejected = if let Some(alerting) = &mut rule.alerting {
            let moment = Moment {
                ts_ns,
                evaluate: ctx.evaluate,
                external_labels: &spec.external_labels,
                external_url: &spec.external_url,
                limit,
                quiet: spec.quiet,
                down_at_ns: world.down_at_ns,
                grace_ns: spec.options.for_grace_period.as_millis() * NS_PER_MS,
                wake: world.wake,
                slot_at_or_after: &|t_ns| t_ns.saturating_add((slot_offset_ns - t_ns).rem_euclid(interval_ns)),
            };
            if let Err(message) = alerting.evaluate(&results, &moment) {
                return Some(rule.fail(spec, message, false));
            }
            let resend_delay_ns = spec.options.resend_delay.as_millis() * NS_PER_MS;
            let generator_url = generator_url(&spec.external_url, &rule.query);
            outcome.alerts.extend(alerting.outgoing(ts_ns, resend_delay_ns, interval_ns, &generator_url));
            alerting.label_series();
            let series = alerting.series();
            n_results = series.len();
            let results = series.iter().map(|(labels, v)| (*labels, SampleValue::Float(*v)));
            rule.written.write(ctx.appender, sample_ms, results, Labels::clone)
        } else {
            if limit > 0 && results.len() as u64 > limit {
                // Text as in Prometheus:
                let message = format!("exceeded limit of {limit} with {} series", results.len());
                return Some(rule.fail(spec, message, false));
            }
            n_results = results.len();
            let (metric, labels, removed) = (&rule.name, &definition.labels, &definition.removed_labels);
            let results = results.iter().map(|sample| (&sample.labels, sample.v.clone()));
            rule.written.write(ctx.appender, sample_ms, results, |key| recorded_labels(key, metric, labels, removed))
        };
        if !matches!(rejected, Err(WriteError::Duplicate)) {
            outcome.n_samples = n_results;
        }
        match rejected {
            Ok(rejected) => {
                rule.health = Health::Good;
                rule.last_error.clear();
                if let Some(reason) = rejected.first {
                    rule.health = Health::Bad;
                    rule.last_error = reason.to_string();
                    rule.log_rejected(spec, rejected);
                }
                None
            }
            Err(WriteError::Duplicate) => {
                // Text as in Prometheus:
                let message = "vector contains metrics with the same labelset after applying rule labels";
                Some(rule.fail(spec, message.to_owned(), false))
            }
            Err(WriteError::Storage(error)) => Some(rule.fail(spec, error.to_string(), false)),
        }
    }

    fn fail(&mut self, spec: &GroupSpec, message: String, cancelled: bool) -> RuleFailure {
        self.health = Health::Bad;
        self.last_error.clone_from(&message);
        if !cancelled && !spec.quiet {
            log::warn!(file = &*spec.file, group = spec.group.name.as_str(), name = &*self.name, err = message.as_str(); "evaluating rule failed");
        }
        RuleFailure { message, cancelled }
    }

    fn log_rejected(&self, spec: &GroupSpec, rejected: Rejected) {
        let (file, group, name) = (&*spec.file, spec.group.name.as_str(), &*self.name);
        for (n, text) in [
            (rejected.out_of_order, "error on ingesting out-of-order result from rule evaluation"),
            (rejected.too_old, "error on ingesting too old result from rule evaluation"),
            (
                rejected.duplicate,
                "error on ingesting results from rule evaluation with different value but same timestamp",
            ),
            (rejected.other, "rule evaluation result discarded"),
        ] {
            if n > 0 {
                log::warn!(file, group, name, num_dropped = n; "{text}");
            }
        }
    }

    pub(crate) fn snapshot(&self, definition: &Rule) -> RuleSnapshot {
        let detail = match (&self.alerting, &definition.kind) {
            (Some(alerting), RuleKind::Alerting { hold, keep_firing, annotations, .. }) => RuleDetail::Alerting {
                state: if self.last_evaluation_ns.is_none() { RuleState::Unknown } else { alerting.state() },
                hold: *hold,
                keep_firing: *keep_firing,
                annotations: annotations.clone(),
                alerts: alerting.alerts(),
            },
            _ => RuleDetail::Recording,
        };
        RuleSnapshot {
            name: self.name.clone(),
            query: self.query.clone(),
            labels: definition.labels.clone(),
            removed_labels: definition.removed_labels.clone(),
            health: self.health,
            last_error: self.last_error.clone(),
            evaluation_s: self.evaluation_s,
            last_evaluation_ns: self.last_evaluation_ns,
            detail,
        }
    }
}

fn query(rule: &Rule, ts_ms: i64, ctx: &EvalContext<'_>) -> Result<Vec<ResultSample>, EvaluateError> {
    match ctx.evaluate.query(&rule.expr, &rule.expr_text, ts_ms)? {
        QueryResult::Vector(samples) => Ok(samples),
        QueryResult::Scalar(v) => Ok(vec![ResultSample { labels: Labels::empty(), v: SampleValue::Float(v) }]),
        QueryResult::Other => Err(EvaluateError::Failed(NOT_A_VECTOR.to_owned())),
    }
}

/// The page that shows the expression of an alert.
fn generator_url(external_url: &str, expr: &str) -> String {
    /// What `url.QueryEscape` in Go leaves as it is, besides letters and digits.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    let escaped = utf8_percent_encode(expr, ESCAPED).to_string().replace(' ', "+");
    format!("{external_url}/graph?g0.expr={escaped}&g0.tab=1")
}

/// Seconds from one time to another.
pub(crate) fn seconds_between(start_ns: i64, end_ns: i64) -> f64 {
    (end_ns - start_ns).max(0) as f64 / 1e9
}
