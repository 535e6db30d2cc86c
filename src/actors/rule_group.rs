//! A rule group: evaluates one group of a rule file at its slots.
//!
//! Owns the timer and the group's [`Cell`]. An evaluation takes a rule slot at the query gate, moves the engine's group to a
//! blocking thread, and puts it back into the cell there. One evaluation at a time.
//!
//! On restart: the group with all alert state is in its cell; the next slot follows the last one. If the evaluation itself
//! panicked, the group is made anew and restores the state of its alerts from journal and storage.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use chrono::Utc;
use fk_actorkit::{Managed, ManagedActor};
use fk_instrument::{Counter, Family, Gauge, Histogram, Registry, Summary};
use fk_ledger::Records;
use fk_rules::{EvalContext, EvalSlots, Group, GroupReport, GroupSnapshot, GroupSpec};
use fk_storage::Control;
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::actors::query_gate::Permit;
use crate::evaluation::RuleQueries;
use crate::messages::Tick;
use crate::messages::lifecycle::Drain;
use crate::messages::notify::Alerts;
use crate::messages::query::Admit;

/// What outlives the actor.
#[derive(Debug)]
pub struct Cell {
    /// What the group was made from.
    pub spec: GroupSpec,
    /// For display.
    pub snapshot: ArcSwap<GroupSnapshot>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` while an evaluation has it.
    group: Option<Group>,
    /// Slot of the last evaluation, ns.
    last_slot_ns: Option<i64>,
    /// Set when the group is to stop.
    draining: bool,
}

impl Cell {
    /// Holds `group`.
    pub fn new(spec: GroupSpec, group: Group) -> Arc<Cell> {
        let snapshot = ArcSwap::from_pointee(group.snapshot());
        Arc::new(Cell {
            spec,
            snapshot,
            inner: Mutex::new(Inner { group: Some(group), last_slot_ns: None, draining: false }),
        })
    }

    /// Takes the group out for good, once its actor has drained.
    pub fn take(&self) -> Option<Group> {
        self.inner.lock().group.take()
    }
}

/// `prometheus_rule_*`
#[derive(Clone, Debug)]
pub struct RuleMetrics {
    evaluations: Family<Counter>,
    failures: Family<Counter>,
    iterations: Family<Counter>,
    missed: Family<Counter>,
    interval: Family<Gauge>,
    last_duration: Family<Gauge>,
    last_time: Family<Gauge>,
    last_samples: Family<Gauge>,
    rules: Family<Gauge>,
    last_rule_sum: Family<Gauge>,
    last_restore: Family<Gauge>,
    rule_duration: Summary,
    rule_durations: Histogram,
    group_duration: Summary,
    group_durations: Histogram,
}

impl RuleMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> RuleMetrics {
        const GROUP: &[&str] = &["rule_group"];
        const SECONDS: &[f64] = &[0.01, 0.1, 1.0, 10.0];
        RuleMetrics {
            evaluations: registry.counters(
                "prometheus_rule_evaluations_total",
                "The total number of rule evaluations.",
                GROUP,
            ),
            failures: registry.counters(
                "prometheus_rule_evaluation_failures_total",
                "The total number of rule evaluation failures.",
                GROUP,
            ),
            iterations: registry.counters(
                "prometheus_rule_group_iterations_total",
                "The total number of scheduled rule group evaluations, whether executed or missed.",
                GROUP,
            ),
            missed: registry.counters(
                "prometheus_rule_group_iterations_missed_total",
                "The total number of rule group evaluations missed due to slow rule group evaluation.",
                GROUP,
            ),
            interval: registry.gauges("prometheus_rule_group_interval_seconds", "The interval of a rule group.", GROUP),
            last_duration: registry.gauges(
                "prometheus_rule_group_last_duration_seconds",
                "The duration of the last rule group evaluation.",
                GROUP,
            ),
            last_time: registry.gauges(
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "The timestamp of the last rule group evaluation in seconds.",
                GROUP,
            ),
            last_samples: registry.gauges(
                "prometheus_rule_group_last_evaluation_samples",
                "The number of samples returned during the last rule group evaluation.",
                GROUP,
            ),
            rules: registry.gauges("prometheus_rule_group_rules", "The number of rules.", GROUP),
            last_rule_sum: registry.gauges(
                "prometheus_rule_group_last_rule_duration_sum_seconds",
                "The sum of time in seconds it took to evaluate each rule in the group regardless of concurrency.",
                GROUP,
            ),
            last_restore: registry.gauges(
                "prometheus_rule_group_last_restore_duration_seconds",
                "The duration of the last alert rules alerts restoration using the `ALERTS_FOR_STATE` series.",
                GROUP,
            ),
            rule_duration: registry.summary(
                "prometheus_rule_evaluation_duration_seconds",
                "The duration for a rule to execute.",
                &[0.5, 0.9, 0.99],
            ),
            rule_durations: registry.histogram(
                "prometheus_rule_evaluation_duration_histogram_seconds",
                "The duration for a rule to execute.",
                SECONDS,
            ),
            group_duration: registry.summary(
                "prometheus_rule_group_duration_seconds",
                "The duration of rule group evaluations.",
                &[0.01, 0.05, 0.5, 0.9, 0.99],
            ),
            group_durations: registry.histogram(
                "prometheus_rule_group_duration_histogram_seconds",
                "The duration of rule group evaluations.",
                SECONDS,
            ),
        }
    }

    fn begin(&self, group: &Group) {
        let key = group.key();
        self.interval.get(&[&key]).set(group.interval().as_secs_f64());
        self.rules.get(&[&key]).set(group.n_rules() as f64);
        for family in [&self.evaluations, &self.failures, &self.iterations, &self.missed] {
            family.get(&[&key]);
        }
    }

    fn evaluated(&self, key: &str, report: &GroupReport) {
        self.evaluations.get(&[key]).add(report.rules.len() as u64);
        self.failures.get(&[key]).add(report.n_failures() as u64);
        self.last_duration.get(&[key]).set(report.duration_s);
        self.last_time.get(&[key]).set(Utc::now().timestamp_micros() as f64 / 1e6);
        self.last_samples.get(&[key]).set(report.n_samples as f64);
        self.last_rule_sum.get(&[key]).set(report.rules.iter().map(|rule| rule.duration_s).sum());
        if let Some(seconds) = report.restore_s {
            self.last_restore.get(&[key]).set(seconds);
        }
        for rule in &report.rules {
            self.rule_duration.observe(rule.duration_s);
            self.rule_durations.observe(rule.duration_s);
        }
        self.group_duration.observe(report.duration_s);
        self.group_durations.observe(report.duration_s);
    }

    /// Forgets a group.
    pub fn remove(&self, key: &str) {
        for family in [&self.evaluations, &self.failures, &self.iterations, &self.missed] {
            family.remove(&[key]);
        }
        for family in [
            &self.interval,
            &self.last_duration,
            &self.last_time,
            &self.last_samples,
            &self.rules,
            &self.last_rule_sum,
            &self.last_restore,
        ] {
            family.remove(&[key]);
        }
    }
}

/// What the actor is made from.
#[derive(Clone)]
pub struct Params {
    /// Outlives the actor.
    pub cell: Arc<Cell>,
    /// Answers the rules' queries and takes their results.
    pub queries: Arc<RuleQueries>,
    /// Admission.
    pub gate: Recipient<Admit>,
    /// Who delivers alerts.
    pub notifier: Recipient<Alerts>,
    /// What is kept of alerts over restarts.
    pub records: Records,
    /// Slots for rules that are evaluated side by side; `None`: one by one.
    pub slots: Option<EvalSlots>,
    /// Metrics.
    pub metrics: RuleMetrics,
}

/// The actor.
pub struct RuleGroup {
    params: Params,
    /// Number of the newest timer.
    timer: u64,
}

/// One evaluation, off the actor.
struct Evaluation {
    cell: Arc<Cell>,
    queries: Arc<RuleQueries>,
    ts_ns: i64,
    /// Held while the evaluation runs.
    _permit: Permit,
    control: Control,
    records: Records,
    slots: Option<EvalSlots>,
}

impl Evaluation {
    fn run(self) -> Option<GroupReport> {
        let mut group = self.cell.inner.lock().group.take()?;
        let ctx = EvalContext {
            evaluate: &self.queries.under(self.control.clone(), &self.cell.spec.file, &self.cell.spec.group.name),
            appender: self.queries.storage(),
            storage: self.queries.storage(),
            now_ns: &now_ns,
            control: &self.control,
            slots: self.slots.as_ref(),
        };
        let report = group.evaluate(self.ts_ns, &ctx);
        // Before anybody hears of it: after a crash in between an alert is sent again when it is due, never twice.
        let key = group.key();
        self.records.journal.note(&key, &report.changes);
        self.records.ledger.note(&key, self.ts_ns.div_euclid(1_000_000), &report.events);
        self.cell.snapshot.store(Arc::new(group.snapshot()));
        let mut inner = self.cell.inner.lock();
        inner.group = Some(group);
        Some(report)
    }
}

fn now_ns() -> i64 {
    Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)
}

impl RuleGroup {
    /// A group that waits for its next slot.
    pub fn new(params: Params) -> RuleGroup {
        RuleGroup { params, timer: 0 }
    }

    /// Sets the timer for the slot after the last one.
    fn schedule(&mut self, ctx: &mut Managed<Self>) {
        let inner = self.params.cell.inner.lock();
        let Some(group) = inner.group.as_ref() else { return };
        let now = now_ns();
        let due = match inner.last_slot_ns {
            Some(last) => last + group.interval().as_millis() * 1_000_000,
            None => group.first_slot(now),
        };
        self.timer += 1;
        let timer = self.timer;
        let wait = Duration::from_nanos((due - now).max(0).unsigned_abs());
        ctx.run_later(wait, move |_, ctx| ctx.address().do_send(Tick(timer)));
    }

    /// The slot to evaluate now, and the metrics of those that were missed.
    fn slot(&self) -> Option<i64> {
        let mut inner = self.params.cell.inner.lock();
        if inner.draining {
            return None;
        }
        let group = inner.group.as_ref()?;
        let (key, now) = (group.key(), now_ns());
        let (ts_ns, missed) = match inner.last_slot_ns {
            Some(last) => {
                let slot = group.next_slot(last, now);
                (slot.ts_ns, slot.missed)
            }
            None => (group.first_slot(now) - group.interval().as_millis() * 1_000_000, 0),
        };
        self.params.metrics.iterations.get(&[&key]).add(1 + missed);
        self.params.metrics.missed.get(&[&key]).add(missed);
        inner.last_slot_ns = Some(ts_ns);
        Some(ts_ns)
    }

    /// Puts a fresh group into the cell if the evaluation took the old one down with it.
    fn mend(&self) {
        let mut inner = self.params.cell.inner.lock();
        if inner.group.is_none() {
            let spec = GroupSpec { restore: true, ..self.params.cell.spec.clone() };
            let mut group = Group::new(spec);
            group.recall(self.params.records.journal.recall(&group.key()).alerts, Some(now_ns()));
            inner.group = Some(group);
        }
    }
}

impl Actor for RuleGroup {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let idle = {
            let inner = self.params.cell.inner.lock();
            if let Some(group) = &inner.group {
                self.params.metrics.begin(group);
            }
            inner.group.is_some()
        };
        if idle {
            self.schedule(ctx);
        } else {
            // An evaluation of the last incarnation is still under way, or took the group down with it. Either way it has
            // had its interval before the cell is looked at again.
            let interval = self.params.cell.spec.group.interval.unwrap_or(self.params.cell.spec.defaults.interval);
            ctx.run_later(interval.to_std(), |this, ctx| {
                this.mend();
                this.schedule(ctx);
            });
        }
    }
}

impl Supervised for RuleGroup {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = RuleGroup::new(self.params.clone());
    }
}

impl ManagedActor for RuleGroup {
    const KIND: &'static str = "rule_group";
}

impl Handler<Tick> for RuleGroup {
    /// Closes the mailbox while the evaluation runs, so that a drain is answered after it.
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, Tick(timer): Tick, _: &mut Self::Context) -> Self::Result {
        let slot = if timer == self.timer { self.slot() } else { None };
        let Some(ts_ns) = slot else { return AtomicResponse::new(Box::pin(actix::fut::ready(()))) };
        let (cell, queries, gate) =
            (Arc::clone(&self.params.cell), Arc::clone(&self.params.queries), self.params.gate.clone());
        let (records, slots) = (self.params.records.clone(), self.params.slots.clone());
        let evaluation = async move {
            let control = queries.control();
            let text = format!("rule group {}", cell.spec.group.name);
            let permit = match gate.send(Admit { text, control: control.clone(), rule: true }).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(refused)) => return Err(format!("no slot for the evaluation: {refused}")),
                Err(error) => return Err(format!("query gate: {error}")),
            };
            let evaluation = Evaluation { cell, queries, ts_ns, _permit: permit, control, records, slots };
            spawn_blocking(move || evaluation.run()).await.map_err(|panic| format!("evaluation panicked: {panic}"))
        };
        AtomicResponse::new(Box::pin(evaluation.into_actor(self).map(|outcome, this, ctx| {
            match outcome {
                Ok(Some(report)) => {
                    let spec = &this.params.cell.spec;
                    this.params.metrics.evaluated(&fk_rules::group_key(&spec.file, &spec.group.name), &report);
                    if !report.alerts.is_empty() {
                        this.params.notifier.do_send(Alerts(report.alerts));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let group = this.params.cell.spec.group.name.as_str();
                    log::error!(component = "rule manager", group = group, err = error.as_str(); "rule group was not evaluated");
                    this.mend();
                }
            }
            this.schedule(ctx);
        })))
    }
}

impl Handler<Drain> for RuleGroup {
    type Result = ();

    /// Comes to its turn only when no evaluation is under way.
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.params.cell.inner.lock().draining = true;
        ctx.stop();
    }
}
