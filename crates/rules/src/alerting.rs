//! Alerting rules: from the result of the expression to alerts that are pending, firing or resolved.
//!
//! ```text
//!              seen                 seen for `for`            not seen, `keep_firing_for` over
//!   (nothing) ------> pending ---------------------> firing ----------------------------------> resolved
//!                     |    ^                           |                                           |
//!            not seen |    +--- `for` became longer ---+                      15 minutes later, or |
//!                     v                                                       seen: a new alert    v
//!                 (nothing)                                                                    (nothing)
//! ```
//!
//! Facts: `rules/alerting.go` in Prometheus.

use std::collections::{BTreeMap, HashMap, HashSet};

use fk_config::Rule;
use fk_model::{Duration, Labels, LabelsBuilder, METRIC_NAME, SampleValue};
use fk_template::{AlertData, Functions, QuerySample, Template, TemplateError};

use crate::evaluate::{Evaluate, QueryResult, ResultSample};
use crate::group::OutgoingAlert;
use crate::memory::{
    AlertEvent, AlertMemory, AlertPhase, InstanceEvent, InstanceId, Remembered, StateChanges, instance_id,
};
use crate::restore::Previous;
use crate::snapshot::{AlertSnapshot, AlertState, RuleState};
use crate::{Annotations, NS_PER_MS, NS_PER_S};

/// The label that holds the name of an alert.
pub(crate) const ALERT_NAME: &str = "alertname";
pub(crate) const ALERTS_METRIC: &str = "ALERTS";
pub(crate) const ALERTS_FOR_STATE_METRIC: &str = "ALERTS_FOR_STATE";
const ALERT_STATE: &str = "alertstate";

/// How long a resolved alert is remembered and sent again, so that an Alertmanager that missed it hears of it.
const RESOLVED_RETENTION_NS: i64 = 15 * 60 * NS_PER_S;

/// How many intervals (or resend delays) an alert that is not heard of again stays firing at the Alertmanager: room for
/// two failed evaluations or pushes.
const VALID_FOR_RESENDS: i64 = 4;

/// An alerting rule with its alerts.
#[derive(Debug)]
pub(crate) struct AlertingRule {
    name: String,
    /// Its number, the same after a restart.
    key: u128,
    /// Labels, templates not expanded.
    labels: Labels,
    /// Labels that are taken off the result.
    removed_labels: Vec<String>,
    hold_ns: i64,
    keep_firing_ns: i64,
    label_templates: Vec<(String, Result<Template, TemplateError>)>,
    annotation_templates: Vec<(String, Result<Template, TemplateError>)>,
    /// By final labels.
    active: BTreeMap<Labels, Alert>,
    /// Counts evaluations; tells the alerts seen in the last one.
    generation: u64,
    /// Whether `ALERTS` and `ALERTS_FOR_STATE` are written yet.
    pub(crate) restored: bool,
    /// What the storage knew of the alerts before a restart. Empty once `restored`.
    pub(crate) previous: HashMap<Labels, Previous>,
    /// Alerts of before a restart that were not seen yet: whether they go on or have ended is not known. Nobody is shown
    /// or told them.
    dormant: BTreeMap<Labels, AlertMemory>,
    /// What the last evaluation did.
    events: Vec<InstanceEvent>,
    gone: Vec<InstanceId>,
    /// Whether any alert has changed or was sent since that was last asked.
    touched: bool,
}

#[derive(Clone, Debug)]
struct Alert {
    id: InstanceId,
    state: AlertPhase,
    annotations: Annotations,
    value: f64,
    active_at_ns: i64,
    fired_at_ns: Option<i64>,
    resolved_at_ns: Option<i64>,
    last_sent_ns: Option<i64>,
    keep_firing_since_ns: Option<i64>,
    seen: u64,
    /// What the evaluation under way did to it.
    event: Option<AlertEvent>,
    /// Whether its memory is out of date: as a whole, or the time of sending only.
    changed: bool,
    sent: bool,
    /// Labels of the two series, made when they are first needed and again when the state changes.
    series: Option<AlertSeries>,
}

#[derive(Clone, Debug)]
struct AlertSeries {
    state: AlertState,
    alerts: Labels,
    for_state: Labels,
}

/// When a rule is evaluated and in which world.
pub(crate) struct Moment<'a> {
    /// Evaluation time.
    pub(crate) ts_ns: i64,
    pub(crate) evaluate: &'a dyn Evaluate,
    pub(crate) external_labels: &'a Labels,
    pub(crate) external_url: &'a str,
    /// Most pending and firing alerts; 0: no limit.
    pub(crate) limit: u64,
    /// Whether failures are not logged.
    pub(crate) quiet: bool,
    /// The first evaluation time of the group that is not before this one.
    pub(crate) slot_at_or_after: &'a dyn Fn(i64) -> i64,
    /// When the server was last alive before it started, if that is known.
    pub(crate) down_at_ns: Option<i64>,
    /// `for` from which on pending alerts are left to the restoring from the storage.
    pub(crate) grace_ns: i64,
    /// Whether alerts of before a restart that were not seen until now have ended.
    pub(crate) wake: bool,
}

impl AlertingRule {
    pub(crate) fn new(
        name: &str,
        key: u128,
        rule: &Rule,
        hold: Duration,
        keep_firing: Duration,
        annotations: &[(String, String)],
        restored: bool,
    ) -> AlertingRule {
        let template_name = format!("__alert_{name}");
        let parse = |(name, text): (&str, &str)| (name.to_owned(), Template::parse(&template_name, text));
        AlertingRule {
            name: name.to_owned(),
            key,
            labels: rule.labels.clone(),
            removed_labels: rule.removed_labels.clone(),
            hold_ns: hold.as_millis() * NS_PER_MS,
            keep_firing_ns: keep_firing.as_millis() * NS_PER_MS,
            label_templates: rule.labels.iter().map(parse).collect(),
            annotation_templates: annotations.iter().map(|(n, t)| parse((n, t))).collect(),
            active: BTreeMap::new(),
            generation: 0,
            restored,
            previous: HashMap::new(),
            dormant: BTreeMap::new(),
            events: Vec::new(),
            gone: Vec::new(),
            touched: false,
        }
    }

    /// The number of the rule.
    pub(crate) fn key(&self) -> u128 {
        self.key
    }

    /// Takes up an alert of before a restart. One that fires without being seen, or has ended, needs no sight to go on.
    pub(crate) fn recall(&mut self, memory: AlertMemory) {
        let goes_on = match memory.phase {
            AlertPhase::Pending => false,
            AlertPhase::Firing => memory.keep_firing_since_ns.is_some() && self.keep_firing_ns > 0,
            AlertPhase::Resolved => true,
        };
        if goes_on {
            let alert = Alert::remembered(instance_id(self.key, &memory.labels), &memory);
            self.active.insert(memory.labels, alert);
        } else {
            self.dormant.insert(memory.labels.clone(), memory);
        }
    }

    /// Everything worth remembering of its alerts.
    pub(crate) fn memories(&self) -> Vec<Remembered> {
        let remembered = |memory: AlertMemory| Remembered {
            instance: instance_id(self.key, &memory.labels),
            rule: self.key,
            memory,
        };
        let active = self.active.iter().map(|(labels, alert)| alert.memory(labels));
        active.chain(self.dormant.values().cloned()).map(remembered).collect()
    }

    /// Adds what happened to the alerts since this was last called.
    pub(crate) fn take_changes(&mut self, changes: &mut StateChanges, events: &mut Vec<InstanceEvent>) {
        events.append(&mut self.events);
        changes.gone.append(&mut self.gone);
        if !std::mem::take(&mut self.touched) {
            return;
        }
        for (labels, alert) in &mut self.active {
            let (changed, sent) = (std::mem::take(&mut alert.changed), std::mem::take(&mut alert.sent));
            if changed {
                changes.put.push(Remembered { instance: alert.id, rule: self.key, memory: alert.memory(labels) });
            } else if sent {
                changes.sent.push(alert.id);
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Takes over the alerts of the rule that this one replaces.
    pub(crate) fn adopt(&mut self, old: AlertingRule) {
        self.active.extend(old.active);
        self.dormant.extend(old.dormant);
        // The generations of the two rules have nothing to do with each other.
        self.generation = old.generation;
        for alert in self.active.values_mut() {
            alert.series = None;
        }
    }

    /// One evaluation with the expression's `results`. An error leaves the alerts as they were, except for the one that
    /// says there are too many: that one forgets them.
    pub(crate) fn evaluate(&mut self, results: &[ResultSample], moment: &Moment<'_>) -> Result<(), String> {
        let seen = self.expand_all(results, moment)?;
        self.generation += 1;
        for (labels, annotations, value) in seen {
            self.see(labels, annotations, value, moment);
        }
        if moment.wake {
            self.wake();
        }
        let n_active = self.advance(moment.ts_ns);
        if moment.limit > 0 && n_active as u64 > moment.limit {
            self.forget_all();
            // Text as in Prometheus:
            return Err(format!("exceeded limit of {} with {n_active} alerts", moment.limit));
        }
        Ok(())
    }

    fn expand_all(
        &self,
        results: &[ResultSample],
        moment: &Moment<'_>,
    ) -> Result<Vec<(Labels, Annotations, f64)>, String> {
        let functions = TemplateFunctions {
            evaluate: moment.evaluate,
            ts_ms: moment.ts_ns.div_euclid(NS_PER_MS),
            external_url: moment.external_url,
        };
        let mut failure = None;
        let mut expand = |template: &Result<Template, TemplateError>, data: &AlertData<'_>| {
            let expanded = template.as_ref().map_err(Clone::clone).and_then(|t| t.expand(data, &functions));
            expanded.unwrap_or_else(|error| {
                // Text as in Prometheus:
                let text = format!("<error expanding template: {error}>");
                failure.get_or_insert(error);
                text
            })
        };
        let mut seen = Vec::with_capacity(results.len());
        let mut distinct = HashSet::with_capacity(results.len());
        for sample in results {
            let data = AlertData {
                labels: &sample.labels,
                external_labels: moment.external_labels,
                external_url: moment.external_url,
                value: &sample.v,
            };
            let mut builder = LabelsBuilder::from(&sample.labels);
            builder.del(METRIC_NAME);
            for name in &self.removed_labels {
                builder.del(name);
            }
            for (name, template) in &self.label_templates {
                builder.set(name, &expand(template, &data));
            }
            builder.set(ALERT_NAME, &self.name);
            let labels = builder.build();
            if !distinct.insert(labels.clone()) {
                // Text as in Prometheus:
                return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
            }
            let annotations =
                self.annotation_templates.iter().map(|(name, t)| (name.clone(), expand(t, &data))).collect();
            // As in Prometheus, an alert itself has no histogram.
            seen.push((labels, annotations, sample.v.float().unwrap_or_default()));
        }
        if let Some(error) = failure.filter(|_| !moment.quiet) {
            log::warn!(alert = self.name.as_str(), err:% = error; "expanding alert template failed");
        }
        Ok(seen)
    }

    /// Notes that an alert is in the result.
    fn see(&mut self, labels: Labels, annotations: Annotations, value: f64, moment: &Moment<'_>) {
        let generation = self.generation;
        if let Some(alert) = self.active.get_mut(&labels)
            && alert.state != AlertPhase::Resolved
        {
            alert.value = value;
            alert.annotations = annotations;
            alert.seen = generation;
            alert.changed |= alert.keep_firing_since_ns.take().is_some();
            self.touched |= alert.changed;
            return;
        }
        self.touched = true;
        let id = instance_id(self.key, &labels);
        if let Some(memory) = self.dormant.remove(&labels) {
            let mut alert = Alert { annotations, value, seen: generation, ..Alert::remembered(id, &memory) };
            if alert.state == AlertPhase::Pending {
                alert.active_at_ns = self.pending_since(&memory, moment);
            }
            // As it was, but for what is seen now.
            alert.changed = true;
            alert.keep_firing_since_ns = None;
            self.active.insert(labels, alert);
            return;
        }
        let mut alert = Alert {
            id,
            state: AlertPhase::Pending,
            annotations,
            value,
            active_at_ns: moment.ts_ns,
            fired_at_ns: None,
            resolved_at_ns: None,
            last_sent_ns: None,
            keep_firing_since_ns: None,
            seen: generation,
            event: Some(AlertEvent::Pending),
            changed: true,
            sent: false,
            series: None,
        };
        if let Some(firing) = self.previous.get(&labels).and_then(|p| p.firing(self.hold_ns, moment.slot_at_or_after)) {
            alert.state = AlertPhase::Firing;
            alert.active_at_ns = firing.active_at_ns;
            alert.fired_at_ns = Some(firing.fired_at_ns.min(moment.ts_ns));
            alert.event = Some(AlertEvent::Firing);
        }
        self.active.insert(labels, alert);
    }

    /// Since when an alert that was pending before a restart counts as active. A `for` of the grace period or more is left to
    /// [`Self::restore`]. A gap that is shorter than `for` is like evaluations that were missed; a longer one does not count.
    fn pending_since(&self, memory: &AlertMemory, moment: &Moment<'_>) -> i64 {
        if self.hold_ns >= moment.grace_ns {
            return moment.ts_ns;
        }
        let outage_ns = moment.down_at_ns.map_or(0, |down_at_ns| (moment.ts_ns - down_at_ns).max(0));
        let since_ns = if outage_ns <= self.hold_ns { 0 } else { outage_ns };
        memory.active_at_ns.saturating_add(since_ns).min(moment.ts_ns)
    }

    /// What was not seen again after a restart has ended: it is told as any other alert that ends.
    fn wake(&mut self) {
        for (labels, memory) in std::mem::take(&mut self.dormant) {
            let alert = Alert::remembered(instance_id(self.key, &labels), &memory);
            self.active.entry(labels).or_insert(alert);
        }
    }

    fn forget_all(&mut self) {
        for (labels, alert) in std::mem::take(&mut self.active) {
            self.gone.push(alert.id);
            if alert.state != AlertPhase::Resolved {
                let event = AlertEvent::Ended;
                self.events.push(InstanceEvent { instance: alert.id, labels, event, value: alert.value });
            }
        }
    }

    /// Moves every alert on to `ts_ns`; how many are pending or firing.
    fn advance(&mut self, ts_ns: i64) -> usize {
        let (generation, hold_ns, keep_firing_ns) = (self.generation, self.hold_ns, self.keep_firing_ns);
        let (events, gone, touched) = (&mut self.events, &mut self.gone, &mut self.touched);
        let mut n_active = 0;
        self.active.retain(|labels, alert| {
            let stays = if alert.seen != generation && !alert.keeps_firing(ts_ns, keep_firing_ns) {
                alert.end(ts_ns)
            } else {
                n_active += 1;
                alert.go_on(ts_ns, hold_ns);
                true
            };
            if let Some(event) = alert.event.take() {
                alert.changed = true;
                let (instance, labels, value) = (alert.id, labels.clone(), alert.value);
                events.push(InstanceEvent { instance, labels, event, value });
            }
            *touched |= alert.changed;
            if !stays {
                gone.push(alert.id);
            }
            stays
        });
        n_active
    }

    /// Makes the labels of `ALERTS` and `ALERTS_FOR_STATE` of every pending or firing alert; [`Self::series`] gives them.
    pub(crate) fn label_series(&mut self) {
        for (labels, alert) in &mut self.active {
            let Some(state) = alert.shown_state() else { continue };
            if alert.series.as_ref().is_none_or(|series| series.state != state) {
                alert.series = Some(AlertSeries::new(&self.labels, labels, &self.name, state));
            }
        }
    }

    /// The samples to write, in order of the alerts; none before the rule is restored.
    pub(crate) fn series(&self) -> Vec<(&Labels, f64)> {
        if !self.restored {
            return Vec::new();
        }
        let mut samples = Vec::with_capacity(2 * self.active.len());
        for alert in self.active.values().filter(|alert| alert.shown_state().is_some()) {
            if let Some(series) = &alert.series {
                samples.push((&series.alerts, 1.0));
                samples.push((&series.for_state, alert.active_at_ns.div_euclid(NS_PER_S) as f64));
            }
        }
        samples
    }

    /// The alerts that are due to be sent, which counts as sending them.
    pub(crate) fn outgoing(
        &mut self,
        ts_ns: i64,
        resend_delay_ns: i64,
        interval_ns: i64,
        generator_url: &str,
    ) -> Vec<OutgoingAlert> {
        let mut outgoing = Vec::new();
        for (labels, alert) in &mut self.active {
            if !alert.needs_sending(ts_ns, resend_delay_ns) {
                continue;
            }
            alert.last_sent_ns = Some(ts_ns);
            (alert.sent, self.touched) = (true, true);
            let valid_ns = interval_ns.max(resend_delay_ns).saturating_mul(VALID_FOR_RESENDS);
            outgoing.push(OutgoingAlert {
                instance: alert.id,
                labels: labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at_ns: alert.fired_at_ns.unwrap_or(ts_ns),
                ends_at_ns: alert.resolved_at_ns.unwrap_or(ts_ns.saturating_add(valid_ns)),
                generator_url: generator_url.to_owned(),
            });
        }
        outgoing
    }

    /// Gives every alert that the storage knew as pending its old age, less the outage; then writes series from now on.
    pub(crate) fn restore(&mut self, now_ns: i64, grace_ns: i64) {
        if self.hold_ns >= grace_ns {
            for (labels, alert) in self.active.iter_mut().filter(|(_, alert)| alert.state == AlertPhase::Pending) {
                if let Some(previous) = self.previous.get(labels) {
                    alert.active_at_ns = previous.active_at_ns(now_ns, self.hold_ns, grace_ns);
                    (alert.changed, self.touched) = (true, true);
                }
            }
        }
        self.previous = HashMap::new();
        self.restored = true;
    }

    pub(crate) fn state(&self) -> RuleState {
        let states = self.active.values().filter_map(Alert::shown_state);
        match states.max() {
            None => RuleState::Inactive,
            Some(AlertState::Pending) => RuleState::Pending,
            Some(AlertState::Firing) => RuleState::Firing,
        }
    }

    pub(crate) fn alerts(&self) -> Vec<AlertSnapshot> {
        let shown = |(labels, alert): (&Labels, &Alert)| {
            Some(AlertSnapshot {
                labels: labels.clone(),
                annotations: alert.annotations.clone(),
                state: alert.shown_state()?,
                active_at_ns: alert.active_at_ns,
                keep_firing_since_ns: alert.keep_firing_since_ns,
                value: alert.value,
            })
        };
        self.active.iter().filter_map(shown).collect()
    }
}

impl Alert {
    /// As it was before a restart; not seen since.
    fn remembered(id: InstanceId, memory: &AlertMemory) -> Alert {
        Alert {
            id,
            state: memory.phase,
            annotations: memory.annotations.clone(),
            value: memory.value,
            active_at_ns: memory.active_at_ns,
            fired_at_ns: memory.fired_at_ns,
            resolved_at_ns: memory.resolved_at_ns,
            last_sent_ns: memory.last_sent_ns,
            keep_firing_since_ns: memory.keep_firing_since_ns,
            seen: 0,
            event: None,
            changed: false,
            sent: false,
            series: None,
        }
    }

    fn memory(&self, labels: &Labels) -> AlertMemory {
        AlertMemory {
            labels: labels.clone(),
            annotations: self.annotations.clone(),
            value: self.value,
            phase: self.state,
            active_at_ns: self.active_at_ns,
            fired_at_ns: self.fired_at_ns,
            resolved_at_ns: self.resolved_at_ns,
            last_sent_ns: self.last_sent_ns,
            keep_firing_since_ns: self.keep_firing_since_ns,
        }
    }

    /// An alert that is in the result, or counts as if it were.
    fn go_on(&mut self, ts_ns: i64, hold_ns: i64) {
        let held = ts_ns - self.active_at_ns >= hold_ns;
        if self.state == AlertPhase::Pending && held {
            self.state = AlertPhase::Firing;
            self.fired_at_ns = Some(ts_ns);
            self.event = Some(AlertEvent::Firing);
        } else if self.state == AlertPhase::Firing && !held {
            self.state = AlertPhase::Pending;
            self.fired_at_ns = None;
            self.last_sent_ns = None;
            self.keep_firing_since_ns = None;
            self.event = Some(AlertEvent::Pending);
        }
    }

    fn shown_state(&self) -> Option<AlertState> {
        match self.state {
            AlertPhase::Pending => Some(AlertState::Pending),
            AlertPhase::Firing => Some(AlertState::Firing),
            AlertPhase::Resolved => None,
        }
    }

    /// Whether an alert that is not in the result fires on because of `keep_firing_for`. Notes since when.
    fn keeps_firing(&mut self, ts_ns: i64, keep_firing_ns: i64) -> bool {
        if self.state != AlertPhase::Firing || keep_firing_ns == 0 {
            return false;
        }
        self.changed |= self.keep_firing_since_ns.is_none();
        let since_ns = *self.keep_firing_since_ns.get_or_insert(ts_ns);
        ts_ns - since_ns < keep_firing_ns
    }

    /// Ends an alert that is not in the result; whether it is still to be remembered.
    fn end(&mut self, ts_ns: i64) -> bool {
        match self.state {
            AlertPhase::Pending => {
                self.event = Some(AlertEvent::Ended);
                false
            }
            AlertPhase::Firing => {
                self.state = AlertPhase::Resolved;
                self.resolved_at_ns = Some(ts_ns);
                self.event = Some(AlertEvent::Resolved);
                self.series = None;
                true
            }
            AlertPhase::Resolved => self.resolved_at_ns.is_some_and(|at| ts_ns - at <= RESOLVED_RETENTION_NS),
        }
    }

    fn needs_sending(&self, ts_ns: i64, resend_delay_ns: i64) -> bool {
        if self.state == AlertPhase::Pending {
            return false;
        }
        let Some(last_sent_ns) = self.last_sent_ns else { return true };
        self.resolved_at_ns.is_some_and(|at| at > last_sent_ns) || last_sent_ns.saturating_add(resend_delay_ns) < ts_ns
    }
}

impl AlertSeries {
    /// The rule's labels as written, the alert's labels over them: a label whose template expands to nothing shows the
    /// template here, as in Prometheus.
    fn new(rule_labels: &Labels, labels: &Labels, alert_name: &str, state: AlertState) -> AlertSeries {
        let mut builder = LabelsBuilder::from(rule_labels);
        for (name, value) in labels {
            builder.set(name, value);
        }
        builder.set(METRIC_NAME, ALERTS_FOR_STATE_METRIC).set(ALERT_NAME, alert_name);
        let for_state = builder.build();
        builder.set(METRIC_NAME, ALERTS_METRIC).set(ALERT_STATE, state.name());
        AlertSeries { state, alerts: builder.build(), for_state }
    }
}

/// What templates of one evaluation can ask for.
struct TemplateFunctions<'a> {
    evaluate: &'a dyn Evaluate,
    ts_ms: i64,
    external_url: &'a str,
}

impl Functions for TemplateFunctions<'_> {
    fn query(&self, expr: &str) -> Result<Vec<QuerySample>, String> {
        let sample = |s: ResultSample| QuerySample { labels: s.labels, value: s.v };
        match self.evaluate.query_text(expr, self.ts_ms).map_err(|error| error.to_string())? {
            QueryResult::Vector(samples) => Ok(samples.into_iter().map(sample).collect()),
            QueryResult::Scalar(value) => {
                Ok(vec![QuerySample { labels: Labels::empty(), value: SampleValue::Float(value) }])
            }
            QueryResult::Other => Err(crate::rule::NOT_A_VECTOR.to_owned()),
        }
    }

    fn now_ms(&self) -> i64 {
        self.ts_ms
    }

    fn external_url(&self) -> &str {
        self.external_url
    }
}
