//! One rule group: when it is evaluated, how its rules follow one another, and what is kept over a reload.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fk_config::{Rule, RuleGroup, RuleKind};
use fk_model::{Duration, Labels, SampleValue, stale_nan};
use fk_storage::{AppendReport, Appender, Batch, OutOfOrder, SeriesRef, StorageError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::alerting::{AlertingRule, Moment};
use crate::evaluate::{EvalContext, EvaluateError, QueryResult, ResultSample};
use crate::recording::recorded_labels;
use crate::restore;
use crate::snapshot::{GroupSnapshot, Health, RuleDetail, RuleSnapshot, RuleState};
use crate::written::{WriteError, Written};
use crate::{Annotations, NS_PER_MS};

/// Text as in Prometheus:
pub(crate) const NOT_A_VECTOR: &str = "rule result is not a vector or scalar";

/// Evaluations of a restored group before its `for` state is looked at: the first may come before targets are scraped
/// and recording rules are up to date.
const EVALUATIONS_BEFORE_RESTORE: u64 = 2;

/// How many intervals after the end of a removed group its series are marked stale: a renamed group has taken them over
/// by then.
pub const STALE_DELAY_INTERVALS: i64 = 2;

/// What a group takes from outside its rule file, fixed for the life of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupDefaults {
    /// `global.evaluation_interval`
    pub interval: Duration,
    /// `global.rule_query_offset`, of the configuration the process started with.
    pub query_offset: Duration,
}

/// The flags about rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleOptions {
    /// `--rules.alert.resend-delay`
    pub resend_delay: Duration,
    /// `--rules.alert.for-grace-period`
    pub for_grace_period: Duration,
    /// `--rules.alert.for-outage-tolerance`
    pub for_outage_tolerance: Duration,
}

impl Default for RuleOptions {
    fn default() -> RuleOptions {
        RuleOptions {
            resend_delay: Duration(60_000),
            for_grace_period: Duration(600_000),
            for_outage_tolerance: Duration(3_600_000),
        }
    }
}

/// Everything a group is made from.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Path of the rule file.
    pub file: Arc<str>,
    /// The group as the file has it.
    pub group: RuleGroup,
    /// Defaults of the configuration.
    pub defaults: GroupDefaults,
    /// `global.external_labels`, for templates.
    pub external_labels: Labels,
    /// `--web.external-url`, without a slash at the end.
    pub external_url: Arc<str>,
    /// Flags.
    pub options: RuleOptions,
    /// Whether the state of alerts before a restart is restored: only for the groups of the first load.
    pub restore: bool,
}

/// A moment to evaluate at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The evaluation time, nanoseconds since the epoch.
    pub ts_ns: i64,
    /// How many evaluation times before it were missed.
    pub missed: u64,
}

/// An alert that is due to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingAlert {
    /// Labels, without external labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Annotations,
    /// Since when it fires, nanoseconds since the epoch.
    pub starts_at_ns: i64,
    /// When it was resolved, or until when it is to be believed, nanoseconds since the epoch.
    pub ends_at_ns: i64,
    /// Page that shows the expression.
    pub generator_url: String,
}

/// Why a rule's evaluation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFailure {
    /// Text of the error.
    pub message: String,
    /// Whether somebody stopped the query on purpose.
    pub cancelled: bool,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleReport {
    /// How long it took, seconds.
    pub duration_s: f64,
    /// Set if the query, the rule or the write failed as a whole: counts as a failed evaluation.
    pub failure: Option<RuleFailure>,
}

/// What became of one evaluation of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupReport {
    /// One entry for each rule that was evaluated; fewer than the group has if it was stopped.
    pub rules: Vec<RuleReport>,
    /// Samples that the rules gave (`rule_group_last_evaluation_samples`).
    pub n_samples: usize,
    /// Alerts to send now, in order of the rules.
    pub alerts: Vec<OutgoingAlert>,
    /// How long all took, seconds.
    pub duration_s: f64,
    /// How long restoring took, seconds, if this evaluation did it.
    pub restore_s: Option<f64>,
}

impl GroupReport {
    /// How many rules failed.
    pub fn n_failures(&self) -> usize {
        self.rules.iter().filter(|rule| rule.failure.is_some()).count()
    }
}

/// A rule group and its state.
#[derive(Debug)]
pub struct Group {
    spec: GroupSpec,
    interval_ns: i64,
    query_offset_ns: i64,
    /// Distance of the evaluation times from whole multiples of the interval.
    slot_offset_ns: i64,
    rules: Vec<RuleRuntime>,
    /// Series of rules that a reload removed: marked stale at the end of the next evaluation.
    orphans: Vec<SeriesRef>,
    n_evaluations: u64,
    restore_pending: bool,
    evaluation_s: f64,
    last_evaluation_ns: Option<i64>,
}

#[derive(Debug)]
struct RuleRuntime {
    rule: Rule,
    name: Arc<str>,
    query: Arc<str>,
    alerting: Option<AlertingRule>,
    written: Written,
    health: Health,
    last_error: String,
    evaluation_s: f64,
    last_evaluation_ns: Option<i64>,
}

impl Group {
    /// A group that was never evaluated.
    pub fn new(spec: GroupSpec) -> Group {
        let interval = spec.group.interval.unwrap_or(spec.defaults.interval);
        let query_offset = spec.group.query_offset.unwrap_or(spec.defaults.query_offset);
        // An interval of zero never gets through the configuration; here it must only not divide by zero.
        let interval_ns = interval.as_millis().max(1) * NS_PER_MS;
        let identity = Labels::from_pairs([("file", &*spec.file), ("name", &spec.group.name)]);
        let rules = spec.group.rules.iter().map(|rule| RuleRuntime::new(rule, !spec.restore)).collect();
        Group {
            interval_ns,
            query_offset_ns: query_offset.as_millis() * NS_PER_MS,
            slot_offset_ns: (identity.prometheus_hash() % interval_ns.unsigned_abs()) as i64,
            rules,
            orphans: Vec::new(),
            n_evaluations: 0,
            restore_pending: spec.restore,
            evaluation_s: 0.0,
            last_evaluation_ns: None,
            spec,
        }
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.spec.group.name
    }

    /// Path of the rule file.
    pub fn file(&self) -> &str {
        &self.spec.file
    }

    /// The identity of the group, and the value of the label `rule_group` of the metrics.
    pub fn key(&self) -> String {
        group_key(&self.spec.file, &self.spec.group.name)
    }

    /// How often it is evaluated.
    pub fn interval(&self) -> Duration {
        Duration(self.interval_ns / NS_PER_MS)
    }

    /// How many rules it has.
    pub fn n_rules(&self) -> usize {
        self.rules.len()
    }

    // === When ===

    /// The first evaluation time of a group that starts now: the one after the last, so up to one interval away.
    pub fn first_slot(&self, now_ns: i64) -> i64 {
        let since_ns = (now_ns - self.slot_offset_ns).rem_euclid(self.interval_ns);
        (now_ns - since_ns).saturating_add(self.interval_ns)
    }

    /// The evaluation time due at `now_ns` after the one at `previous_ns`. Call it when `previous_ns` + interval has come;
    /// evaluation times that have passed altogether are counted and left out.
    pub fn next_slot(&self, previous_ns: i64, now_ns: i64) -> Slot {
        let missed = ((now_ns - previous_ns) / self.interval_ns - 1).max(0);
        Slot { ts_ns: previous_ns.saturating_add((missed + 1) * self.interval_ns), missed: missed.unsigned_abs() }
    }

    // === Evaluation ===

    /// Evaluates the rules one after another for the evaluation time `ts_ns`. The results of each rule are written
    /// before the next one is evaluated.
    pub fn evaluate(&mut self, ts_ns: i64, ctx: &EvalContext<'_>) -> GroupReport {
        let started_ns = (ctx.now_ns)();
        let mut report = GroupReport::default();
        if self.restore_pending && self.n_evaluations == 0 {
            self.look_up_previous(started_ns, ctx);
        }
        for idx in 0..self.rules.len() {
            if ctx.control.check().is_err() {
                break;
            }
            let rule_started_ns = (ctx.now_ns)();
            let failure = self.evaluate_rule(idx, ts_ns, ctx, &mut report);
            let rule = &mut self.rules[idx];
            rule.evaluation_s = seconds_between(rule_started_ns, (ctx.now_ns)());
            rule.last_evaluation_ns = Some(rule_started_ns);
            report.rules.push(RuleReport { duration_s: rule.evaluation_s, failure });
        }
        self.mark_orphans_stale(ts_ns, ctx.appender);
        self.n_evaluations += 1;
        let ended_ns = (ctx.now_ns)();
        report.duration_s = seconds_between(started_ns, ended_ns);
        self.evaluation_s = report.duration_s;
        self.last_evaluation_ns = Some(started_ns);
        if self.restore_pending && self.n_evaluations >= EVALUATIONS_BEFORE_RESTORE {
            self.restore_pending = false;
            let grace_ns = self.spec.options.for_grace_period.as_millis() * NS_PER_MS;
            for rule in self.rules.iter_mut().filter_map(|rule| rule.alerting.as_mut()) {
                rule.restore(ended_ns, grace_ns);
            }
            report.restore_s = Some(seconds_between(ended_ns, (ctx.now_ns)()));
        }
        report
    }

    fn evaluate_rule(
        &mut self,
        idx: usize,
        ts_ns: i64,
        ctx: &EvalContext<'_>,
        report: &mut GroupReport,
    ) -> Option<RuleFailure> {
        let sample_ms = (ts_ns - self.query_offset_ns).div_euclid(NS_PER_MS);
        let (interval_ns, slot_offset_ns, spec) = (self.interval_ns, self.slot_offset_ns, &self.spec);
        let rule = &mut self.rules[idx];
        let results = match query(rule, sample_ms, ctx) {
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
                slot_at_or_after: &|t_ns| t_ns.saturating_add((slot_offset_ns - t_ns).rem_euclid(interval_ns)),
            };
            if let Err(message) = alerting.evaluate(&results, &moment) {
                return Some(rule.fail(spec, message, false));
            }
            let resend_delay_ns = spec.options.resend_delay.as_millis() * NS_PER_MS;
            let generator_url = generator_url(&spec.external_url, &rule.query);
            report.alerts.extend(alerting.outgoing(ts_ns, resend_delay_ns, interval_ns, &generator_url));
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
            let (metric, labels, removed) = (&rule.name, &rule.rule.labels, &rule.rule.removed_labels);
            let results = results.iter().map(|sample| (&sample.labels, sample.v.clone()));
            rule.written.write(ctx.appender, sample_ms, results, |key| recorded_labels(key, metric, labels, removed))
        };
        if !matches!(rejected, Err(WriteError::Duplicate)) {
            report.n_samples += n_results;
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

    fn look_up_previous(&mut self, now_ns: i64, ctx: &EvalContext<'_>) {
        let tolerance = self.spec.options.for_outage_tolerance;
        for rule in self.rules.iter_mut().filter_map(|rule| rule.alerting.as_mut()) {
            match restore::look_up(rule, ctx.storage, now_ns, tolerance, ctx.control) {
                Ok(previous) => rule.previous = previous,
                Err(error) => {
                    log::error!(alert = rule.name(), err:% = error; "failed to restore 'for' state");
                }
            }
        }
    }

    // === Staleness of what is gone ===

    fn mark_orphans_stale(&mut self, ts_ns: i64, appender: &dyn Appender) {
        if self.orphans.is_empty() {
            return;
        }
        let at_ms = (ts_ns - self.query_offset_ns).div_euclid(NS_PER_MS);
        match append_markers(&self.orphans, at_ms, appender) {
            Ok(()) => self.orphans.clear(),
            Err(error) => {
                log::warn!(group = self.name(), file = self.file(), err:% = error; "stale sample appending for previous configuration failed");
            }
        }
    }

    /// Marks everything the group has written stale as of `stopped_ns`, when it stopped. For a group that was removed, to
    /// be called [`STALE_DELAY_INTERVALS`] later. Never when the server stops.
    pub fn mark_all_stale(self, stopped_ns: i64, appender: &dyn Appender) -> Result<(), StorageError> {
        let at_ms = (stopped_ns - self.query_offset_ns).div_euclid(NS_PER_MS);
        let mut series = self.orphans;
        series.extend(self.rules.into_iter().flat_map(|rule| rule.written.into_series()));
        append_markers(&series, at_ms, appender)
    }

    // === Reload ===

    /// Whether a running group `old` can go on in place of this one: same file, name, interval, limit, query offset and
    /// rules.
    pub fn same_as(&self, old: &Group) -> bool {
        let head = |g: &Group| (g.interval_ns, g.spec.group.limit, g.spec.group.query_offset);
        let same_rule = |(a, b): (&RuleRuntime, &RuleRuntime)| {
            // Not the parsed expression: it knows positions, which change with every space in front of it.
            (&a.rule.kind, &a.rule.expr_text) == (&b.rule.kind, &b.rule.expr_text)
                && (&a.rule.labels, &a.rule.removed_labels) == (&b.rule.labels, &b.rule.removed_labels)
        };
        self.name() == old.name()
            && self.file() == old.file()
            && head(self) == head(old)
            && self.rules.len() == old.rules.len()
            && self.rules.iter().zip(&old.rules).all(same_rule)
    }

    /// Takes over the state of the stopped group that this one replaces: alerts and series, rule by rule where name and
    /// labels are equal. The series of the other rules are marked stale with the next evaluation.
    pub fn adopt(&mut self, old: Group) {
        self.evaluation_s = old.evaluation_s;
        self.last_evaluation_ns = old.last_evaluation_ns;
        self.orphans = old.orphans;
        let identity =
            |rule: &RuleRuntime| (rule.name.clone(), rule.rule.labels.clone(), rule.rule.removed_labels.clone());
        let mut old_rules: HashMap<_, VecDeque<RuleRuntime>> = HashMap::new();
        for rule in old.rules {
            old_rules.entry(identity(&rule)).or_default().push_back(rule);
        }
        for rule in &mut self.rules {
            let Some(old) = old_rules.get_mut(&identity(rule)).and_then(VecDeque::pop_front) else { continue };
            match (&mut rule.alerting, old.alerting) {
                (Some(alerting), Some(old_alerting)) => {
                    alerting.adopt(old_alerting);
                    rule.written = old.written;
                }
                (None, None) => rule.written = old.written,
                // Series of the two kinds are told apart by other keys, so that nothing of the list can be used.
                _ => self.orphans.extend(old.written.into_series()),
            }
        }
        let rest = old_rules.into_values().flatten();
        self.orphans.extend(rest.flat_map(|rule| rule.written.into_series()));
    }

    // === Display ===

    /// The state for display.
    pub fn snapshot(&self) -> GroupSnapshot {
        GroupSnapshot {
            name: self.spec.group.name.as_str().into(),
            file: self.spec.file.clone(),
            interval: self.interval(),
            limit: self.spec.group.limit,
            evaluation_s: self.evaluation_s,
            last_evaluation_ns: self.last_evaluation_ns,
            rules: self.rules.iter().map(RuleRuntime::snapshot).collect(),
        }
    }
}

impl RuleRuntime {
    fn new(rule: &Rule, restored: bool) -> RuleRuntime {
        let (name, alerting) = match &rule.kind {
            RuleKind::Recording { metric } => (metric, None),
            RuleKind::Alerting { alert, hold, keep_firing, annotations } => {
                let alerting = AlertingRule::new(alert, rule, *hold, *keep_firing, annotations, restored);
                (alert, Some(alerting))
            }
        };
        RuleRuntime {
            name: name.as_str().into(),
            query: rule.expr_text.as_str().into(),
            rule: rule.clone(),
            alerting,
            written: Written::default(),
            health: Health::Unknown,
            last_error: String::new(),
            evaluation_s: 0.0,
            last_evaluation_ns: None,
        }
    }

    fn fail(&mut self, spec: &GroupSpec, message: String, cancelled: bool) -> RuleFailure {
        self.health = Health::Bad;
        self.last_error.clone_from(&message);
        if !cancelled {
            log::warn!(file = &*spec.file, group = spec.group.name.as_str(), name = &*self.name, err = message.as_str(); "evaluating rule failed");
        }
        RuleFailure { message, cancelled }
    }

    fn log_rejected(&self, spec: &GroupSpec, rejected: crate::written::Rejected) {
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

    fn snapshot(&self) -> RuleSnapshot {
        let detail = match (&self.alerting, &self.rule.kind) {
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
            labels: self.rule.labels.clone(),
            health: self.health,
            last_error: self.last_error.clone(),
            evaluation_s: self.evaluation_s,
            last_evaluation_ns: self.last_evaluation_ns,
            detail,
        }
    }
}

fn query(rule: &RuleRuntime, ts_ms: i64, ctx: &EvalContext<'_>) -> Result<Vec<ResultSample>, EvaluateError> {
    match ctx.evaluate.query(&rule.rule.expr, ts_ms)? {
        QueryResult::Vector(samples) => Ok(samples),
        QueryResult::Scalar(v) => Ok(vec![ResultSample { labels: Labels::empty(), v: SampleValue::Float(v) }]),
        QueryResult::Other => Err(EvaluateError::Failed(NOT_A_VECTOR.to_owned())),
    }
}

/// Staleness markers at `at_ms`; that some are rejected does not matter.
fn append_markers(series: &[SeriesRef], at_ms: i64, appender: &dyn Appender) -> Result<(), StorageError> {
    let mut batch =
        Batch { samples: Vec::with_capacity(series.len()), out_of_order: OutOfOrder::Reject, ..Batch::default() };
    for &series in series {
        batch.push(series, at_ms, stale_nan());
    }
    appender.append(&batch, &mut AppendReport::default())
}

/// The identity of a group: `file;name`.
pub fn group_key(file: &str, name: &str) -> String {
    format!("{file};{name}")
}

/// The page that shows the expression of an alert.
fn generator_url(external_url: &str, expr: &str) -> String {
    /// What `url.QueryEscape` in Go leaves as it is, besides letters and digits.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    let escaped = utf8_percent_encode(expr, ESCAPED).to_string().replace(' ', "+");
    format!("{external_url}/graph?g0.expr={escaped}&g0.tab=1")
}

fn seconds_between(start_ns: i64, end_ns: i64) -> f64 {
    (end_ns - start_ns).max(0) as f64 / 1e9
}
