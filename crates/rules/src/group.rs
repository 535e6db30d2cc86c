//! One rule group: when it is evaluated, how its rules follow one another, and what is kept over a reload.

use std::cell::OnceCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread;

use fk_config::{Rule, RuleGroup};
use fk_model::{Duration, Labels, stale_nan};
use fk_storage::{AppendReport, Appender, Batch, OutOfOrder, SeriesRef, StorageError};

use crate::alerting::AlertingRule;
use crate::concurrency::{EvalSlots, batches};
use crate::evaluate::EvalContext;
use crate::memory::{InstanceEvent, InstanceId, Remembered, StateChanges};
use crate::restore;
use crate::rule::{RuleOutcome, RuleRuntime, World, seconds_between};
use crate::snapshot::GroupSnapshot;
use crate::{Annotations, NS_PER_MS, NS_PER_S};

/// Evaluations of a restored group before its `for` state is looked at: the first may come before targets are scraped
/// and recording rules are up to date.
const EVALUATIONS_BEFORE_RESTORE: u64 = 2;

/// How long alerts of before a restart wait to be seen again before they count as ended: targets are to be scraped first.
const DORMANT_NS: i64 = 2 * 60 * NS_PER_S;

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
    pub group: Arc<RuleGroup>,
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
    /// Whether failures are only reported and not logged.
    pub quiet: bool,
}

impl GroupSpec {
    /// Whether a group that was made from this can go on as `group` of the same file: same name, interval, limit, query offset
    /// and rules.
    pub fn is_still(&self, group: &RuleGroup, defaults: GroupDefaults) -> bool {
        let same_rule = |(a, b): (&Rule, &Rule)| {
            // Not the parsed expression: it knows positions, which change with every space in front of it.
            (&a.kind, &a.expr_text) == (&b.kind, &b.expr_text)
                && (&a.labels, &a.removed_labels) == (&b.labels, &b.removed_labels)
        };
        let interval = |group: &RuleGroup, defaults: GroupDefaults| group.interval.unwrap_or(defaults.interval);
        let own = &*self.group;
        (&own.name, own.limit, own.query_offset) == (&group.name, group.limit, group.query_offset)
            && interval(own, self.defaults) == interval(group, defaults)
            && own.rules.len() == group.rules.len()
            && own.rules.iter().zip(&group.rules).all(same_rule)
    }
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
    /// Which alert.
    pub instance: InstanceId,
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
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// What happened to alerts.
    pub events: Vec<InstanceEvent>,
    /// What changed in the memory of them.
    pub changes: StateChanges,
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

    fn take(&mut self, mut outcome: RuleOutcome) {
        self.rules.push(outcome.report);
        self.n_samples += outcome.n_samples;
        self.alerts.append(&mut outcome.alerts);
        self.events.append(&mut outcome.events);
        self.changes.put.append(&mut outcome.changes.put);
        self.changes.sent.append(&mut outcome.changes.sent);
        self.changes.gone.append(&mut outcome.changes.gone);
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
    /// The first evaluation time.
    begun_ns: Option<i64>,
    /// When the server was last alive before it started, if that is known.
    down_at_ns: Option<i64>,
    /// What may be evaluated side by side; made when it is first needed.
    batches: OnceCell<Option<Vec<Vec<usize>>>>,
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
        let key = group_key(&spec.file, &spec.group.name);
        let mut equal: HashMap<u128, usize> = HashMap::new();
        let rules = spec.group.rules.iter().enumerate();
        let rules = rules.map(|(idx, rule)| RuleRuntime::new(idx, rule, &key, &mut equal, !spec.restore)).collect();
        Group {
            interval_ns,
            query_offset_ns: query_offset.as_millis() * NS_PER_MS,
            slot_offset_ns: (identity.prometheus_hash() % interval_ns.unsigned_abs()) as i64,
            rules,
            orphans: Vec::new(),
            n_evaluations: 0,
            restore_pending: spec.restore,
            begun_ns: None,
            down_at_ns: None,
            batches: OnceCell::new(),
            evaluation_s: 0.0,
            last_evaluation_ns: None,
            spec,
        }
    }

    /// What it was made from.
    pub fn spec(&self) -> &GroupSpec {
        &self.spec
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

    /// The time of the samples that an evaluation at `ts_ns` reads and writes, ms.
    pub fn sample_time_ms(&self, ts_ns: i64) -> i64 {
        (ts_ns - self.query_offset_ns).div_euclid(NS_PER_MS)
    }

    // === Evaluation ===

    /// Evaluates the rules for the evaluation time `ts_ns`: one after another, the results of each written before the next is
    /// evaluated, or side by side where they do not depend on each other and [`EvalContext::slots`] has room.
    pub fn evaluate(&mut self, ts_ns: i64, ctx: &EvalContext<'_>) -> GroupReport {
        let started_ns = (ctx.now_ns)();
        let mut report =
            GroupReport { changes: StateChanges { at_ns: ts_ns, ..Default::default() }, ..Default::default() };
        if self.restore_pending && self.n_evaluations == 0 {
            self.look_up_previous(started_ns, ctx);
        }
        let begun_ns = *self.begun_ns.get_or_insert(ts_ns);
        let world = World {
            spec: &self.spec,
            interval_ns: self.interval_ns,
            query_offset_ns: self.query_offset_ns,
            slot_offset_ns: self.slot_offset_ns,
            down_at_ns: self.down_at_ns,
            wake: self.n_evaluations >= EVALUATIONS_BEFORE_RESTORE && ts_ns - begun_ns >= DORMANT_NS,
        };
        let batches = match ctx.slots {
            Some(_) => self.batches.get_or_init(|| batches(&self.spec.group.rules)).as_deref(),
            None => None,
        };
        let outcomes = match (ctx.slots, batches) {
            (Some(slots), Some(batches)) => evaluate_batches(&mut self.rules, batches, slots, ts_ns, &world, ctx),
            _ => {
                let going_on = self.rules.iter_mut().take_while(|_| ctx.control.check().is_ok());
                going_on.map(|rule| rule.evaluate(ts_ns, &world, ctx)).collect()
            }
        };
        for outcome in outcomes {
            report.take(outcome);
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
                rule.take_changes(&mut report.changes, &mut report.events);
            }
            report.restore_s = Some(seconds_between(ended_ns, (ctx.now_ns)()));
        }
        report
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

    /// Takes over the state of the stopped group that this one replaces: alerts and series, rule by rule where name and
    /// labels are equal. The series of the other rules are marked stale with the next evaluation.
    pub fn adopt(&mut self, old: Group) {
        self.evaluation_s = old.evaluation_s;
        self.last_evaluation_ns = old.last_evaluation_ns;
        self.orphans = old.orphans;
        (self.begun_ns, self.down_at_ns) = (old.begun_ns, old.down_at_ns);
        let identity = |group: &RuleGroup, rule: &RuleRuntime| {
            let Rule { labels, removed_labels, .. } = &group.rules[rule.idx];
            (rule.name.clone(), labels.clone(), removed_labels.clone())
        };
        let mut old_rules: HashMap<_, VecDeque<RuleRuntime>> = HashMap::new();
        for rule in old.rules {
            old_rules.entry(identity(&old.spec.group, &rule)).or_default().push_back(rule);
        }
        for rule in &mut self.rules {
            let Some(old) = old_rules.get_mut(&identity(&self.spec.group, rule)).and_then(VecDeque::pop_front) else {
                continue;
            };
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

    // === Memory ===

    /// Takes up the alerts that the group had when the server was last alive, at `down_at_ns` if that is known. To be called
    /// before the first evaluation. Alerts of rules that are no more are left out.
    pub fn recall(&mut self, alerts: Vec<Remembered>, down_at_ns: Option<i64>) {
        self.down_at_ns = down_at_ns;
        let rules = self.rules.iter_mut().filter_map(|rule| rule.alerting.as_mut());
        let mut rules: HashMap<u128, &mut AlertingRule> = rules.map(|rule| (rule.key(), rule)).collect();
        for Remembered { rule, memory, .. } in alerts {
            if let Some(rule) = rules.get_mut(&rule) {
                rule.recall(memory);
            }
        }
    }

    /// Everything worth remembering of its alerts.
    pub fn memories(&self) -> Vec<Remembered> {
        self.rules.iter().filter_map(|rule| rule.alerting.as_ref()).flat_map(AlertingRule::memories).collect()
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
            rules: self.rules.iter().zip(&self.spec.group.rules).map(|(rule, def)| rule.snapshot(def)).collect(),
        }
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

/// Evaluates batch after batch, the rules of a batch side by side as far as there are slots; what became of the rules that were
/// evaluated, in their order.
fn evaluate_batches(
    rules: &mut [RuleRuntime],
    batches: &[Vec<usize>],
    slots: &EvalSlots,
    ts_ns: i64,
    world: &World<'_>,
    ctx: &EvalContext<'_>,
) -> Vec<RuleOutcome> {
    let mut outcomes: Vec<Option<RuleOutcome>> = rules.iter().map(|_| None).collect();
    for batch in batches {
        if ctx.control.check().is_err() {
            break;
        }
        // Both in ascending order.
        let mut wanted = batch.iter().copied().peekable();
        let pairs = rules.iter_mut().zip(&mut outcomes).enumerate();
        let of_batch = pairs.filter(|(idx, _)| wanted.next_if_eq(idx).is_some()).map(|(_, pair)| pair);
        thread::scope(|scope| {
            for (rule, outcome) in of_batch {
                // A batch of one never takes a slot, as in Prometheus.
                match if batch.len() > 1 { slots.try_take() } else { None } {
                    Some(slot) => {
                        scope.spawn(move || {
                            let _slot = slot;
                            *outcome = Some(rule.evaluate(ts_ns, world, ctx));
                        });
                    }
                    None if ctx.control.check().is_ok() => *outcome = Some(rule.evaluate(ts_ns, world, ctx)),
                    None => {}
                }
            }
        });
    }
    outcomes.into_iter().flatten().collect()
}
