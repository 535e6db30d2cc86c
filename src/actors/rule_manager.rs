//! The rule manager: runs the groups of all rule files.
//!
//! Owns the set of running groups. A reload leaves unchanged groups running, hands the state of changed ones over, and
//! marks the series of removed ones stale two intervals later, when a renamed group would have taken them over.
//!
//! On restart: the set and every group live outside the actor and go on undisturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use actix::prelude::*;
use chrono::Utc;
use fk_actorkit::{Board, Managed, ManagedActor, Spec};
use fk_config::Loaded;
use fk_ledger::Records;
use fk_model::Duration as ModelDuration;
use fk_rules::{EvalSlots, Group, GroupDefaults, GroupSpec, RuleOptions, STALE_DELAY_INTERVALS, group_key};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::actors::rule_group::{self, Cell, RuleGroup, RuleMetrics};
use crate::evaluation::RuleQueries;
use crate::messages::config::{ApplyConfig, Refusal};
use crate::messages::lifecycle::Drain;
use crate::messages::notify::Alerts;
use crate::messages::query::Admit;
use crate::slots::Slots;

/// How long a reload waits for the running evaluation of a group that it changes.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// A running group.
#[derive(Clone, Debug)]
struct Child {
    cell: Arc<Cell>,
    address: Addr<RuleGroup>,
}

/// What outlives the actor.
#[derive(Debug, Default)]
pub struct RuleState {
    groups: Mutex<BTreeMap<String, Child>>,
    /// Set with the first commit: only its groups restore alert state.
    begun: AtomicBool,
    /// `global.rule_query_offset` of the first configuration; Prometheus never changes it either.
    query_offset: Mutex<Option<ModelDuration>>,
}

impl RuleState {
    /// The cells of all groups, in order of file and name.
    pub fn cells(&self) -> Vec<Arc<Cell>> {
        self.groups.lock().values().map(|child| Arc::clone(&child.cell)).collect()
    }
}

/// What the manager is made from.
#[derive(Clone)]
pub struct Params {
    /// Outlives the actor.
    pub state: Arc<RuleState>,
    /// The running configuration, for a manager that was rebuilt.
    pub slots: Arc<Slots>,
    /// For starting groups.
    pub board: Board,
    /// Where groups run.
    pub arbiter: ArbiterHandle,
    /// Answers the rules' queries and takes their results.
    pub queries: Arc<RuleQueries>,
    /// Admission.
    pub gate: Recipient<Admit>,
    /// Who delivers alerts.
    pub notifier: Recipient<Alerts>,
    /// What is kept of alerts over restarts.
    pub records: Records,
    /// Slots for rules that are evaluated side by side; `None`: one by one.
    pub eval_slots: Option<EvalSlots>,
    /// `--web.external-url`, without a slash at the end.
    pub external_url: Arc<str>,
    /// Flags.
    pub options: RuleOptions,
    /// Metrics.
    pub metrics: RuleMetrics,
}

/// The actor.
pub struct RuleManager {
    params: Params,
    prepared: Option<Arc<Loaded>>,
}

impl RuleManager {
    /// A manager without groups of its own; those in its state run already.
    pub fn new(params: Params) -> RuleManager {
        RuleManager { params, prepared: None }
    }

    /// The groups of `loaded`, those that can go on as they are left out, and the names of all.
    fn changed(
        params: &Params,
        loaded: &Loaded,
        running: &BTreeMap<String, Child>,
    ) -> (Vec<GroupSpec>, BTreeSet<String>) {
        let state = &params.state;
        let global = &loaded.config.global;
        let query_offset = *state.query_offset.lock().get_or_insert(global.rule_query_offset);
        let restore = !state.begun.swap(true, SeqCst);
        let defaults = GroupDefaults { interval: global.evaluation_interval, query_offset };
        let (mut specs, mut keys) = (BTreeMap::new(), BTreeSet::new());
        for file in &loaded.rule_files {
            for group in &file.groups {
                let key = group_key(&file.path, &group.name);
                keys.insert(key.clone());
                // The running group may be away at its evaluation; what it was made from says the same.
                if running.get(&key).is_some_and(|child| child.cell.spec.is_still(group, defaults)) {
                    continue;
                }
                let spec = GroupSpec {
                    file: file.path.as_str().into(),
                    group: Arc::new(group.clone()),
                    defaults,
                    external_labels: global.external_labels.clone(),
                    external_url: Arc::clone(&params.external_url),
                    options: params.options,
                    restore,
                    quiet: false,
                };
                specs.insert(key, spec);
            }
        }
        (specs.into_values().collect(), keys)
    }

    /// Makes the running groups those of `loaded`.
    fn commit(&self, loaded: Arc<Loaded>, parent: u64) -> impl Future<Output = Vec<Retired>> + use<> {
        let params = self.params.clone();
        async move {
            let running = params.state.groups.lock().clone();
            let (making, old) = (params.clone(), running.clone());
            let made = spawn_blocking(move || {
                let (specs, keys) = Self::changed(&making, &loaded, &old);
                // Parses every template: with tens of thousands of rules that takes a while.
                let groups: Vec<(GroupSpec, Group)> =
                    specs.into_iter().map(|spec| (spec.clone(), recalled(spec, &making.records))).collect();
                (groups, keys)
            });
            let (mut groups, keys) = match made.await {
                Ok(made) => made,
                Err(panic) => {
                    log::error!(component = "rule manager", err = panic.to_string().as_str(); "rule groups were not changed");
                    return Vec::new();
                }
            };
            let mut retired = Vec::new();
            for (key, child) in running.iter().filter(|(key, _)| !keys.contains(*key)) {
                drain(child).await;
                params.state.groups.lock().remove(key);
                params.metrics.remove(key);
                retired.extend(child.cell.take().map(|group| Retired { group, stopped_ns: now_ns() }));
            }
            for (_, group) in &mut groups {
                if let Some(child) = running.get(&group.key()) {
                    drain(child).await;
                    if let Some(old) = child.cell.take() {
                        group.adopt(old);
                    }
                }
            }
            // What was not taken up is not kept either. Before any of them is evaluated, which is newer.
            let memories: Vec<_> = groups.iter().map(|(_, group)| (group.key(), group.memories())).collect();
            let journal = Arc::clone(&params.records.journal);
            let noted = spawn_blocking(move || {
                let at_ns = now_ns();
                memories.into_iter().for_each(|(key, alerts)| journal.replace(&key, alerts, at_ns));
                journal.retain(|key| keys.contains(key));
            });
            if let Err(panic) = noted.await {
                log::error!(component = "rule manager", err = panic.to_string().as_str(); "the state of alerts was not noted");
            }
            for (spec, group) in groups {
                let key = group.key();
                let cell = Cell::new(spec, group);
                let group_params = rule_group::Params {
                    cell: Arc::clone(&cell),
                    queries: Arc::clone(&params.queries),
                    gate: params.gate.clone(),
                    notifier: params.notifier.clone(),
                    records: params.records.clone(),
                    slots: params.eval_slots.clone(),
                    metrics: params.metrics.clone(),
                };
                let spec = Spec::named(key.clone()).child_of(parent);
                let address = params.board.spawn_on(&params.arbiter, spec, move |_| RuleGroup::new(group_params));
                params.state.groups.lock().insert(key, Child { cell, address });
            }
            retired
        }
    }
}

/// A new group; of the first load, with the alerts it had when the server was last alive.
fn recalled(spec: GroupSpec, records: &Records) -> Group {
    let restore = spec.restore;
    let tolerance_ns = spec.options.for_outage_tolerance.as_millis() * 1_000_000;
    let mut group = Group::new(spec);
    if restore {
        let recalled = records.journal.recall(&group.key());
        let down_at_ns = recalled.alive_ms.map(|alive_ms| alive_ms.saturating_mul(1_000_000));
        // After an outage that is too long nothing is known of what was active.
        if down_at_ns.is_none_or(|down_at_ns| now_ns().saturating_sub(down_at_ns) <= tolerance_ns) {
            group.recall(recalled.alerts, down_at_ns);
        }
    }
    group
}

/// A removed group whose series are still to be marked stale.
struct Retired {
    group: Group,
    stopped_ns: i64,
}

impl Retired {
    fn mark_later(self, manager: &RuleManager, ctx: &mut Managed<RuleManager>) {
        let delay = self.group.interval().to_std().saturating_mul(STALE_DELAY_INTERVALS as u32);
        let queries = Arc::clone(&manager.params.queries);
        let marking = async move {
            tokio::time::sleep(delay).await;
            let marked = spawn_blocking(move || self.group.mark_all_stale(self.stopped_ns, queries.storage())).await;
            if let Ok(Err(error)) = marked {
                log::warn!(component = "rule manager", err = error.to_string().as_str(); "stale markers of a removed group were not written");
            }
        };
        ctx.spawn(marking.into_actor(manager));
    }
}

fn now_ns() -> i64 {
    Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)
}

async fn drain(child: &Child) {
    if let Err(error) = child.address.send(Drain).timeout(HANDOVER_TIMEOUT).await {
        let group = child.cell.spec.group.name.as_str();
        log::warn!(component = "rule manager", group = group, err = error.to_string().as_str(); "rule group did not stop in time");
    }
}

impl Actor for RuleManager {
    type Context = Managed<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        log::info!(component = "rule manager"; "Starting rule manager...");
    }
}

impl Supervised for RuleManager {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = RuleManager::new(self.params.clone());
    }
}

impl ManagedActor for RuleManager {
    const KIND: &'static str = "rule_manager";
}

impl Handler<ApplyConfig> for RuleManager {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    /// Rule files were read and their expressions parsed with the configuration, so there is nothing left to refuse.
    fn handle(&mut self, phase: ApplyConfig, ctx: &mut Self::Context) -> Self::Result {
        let committed = match phase {
            ApplyConfig::Prepare(loaded) => {
                self.prepared = Some(loaded);
                None
            }
            ApplyConfig::Abort => {
                self.prepared = None;
                None
            }
            // A manager that panicked after preparing finds the configuration in its slot.
            ApplyConfig::Commit => self.prepared.take().or_else(|| self.params.slots.config.load_full()),
        };
        let Some(loaded) = committed else { return Box::pin(actix::fut::ready(Ok(()))) };
        let work = self.commit(loaded, ctx.id());
        Box::pin(work.into_actor(self).map(|retired, this, ctx| {
            for group in retired {
                group.mark_later(this, ctx);
            }
            Ok(())
        }))
    }
}

impl Handler<Drain> for RuleManager {
    type Result = ResponseFuture<()>;

    /// Answered when the running evaluation of every group is finished.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        log::info!(component = "rule manager"; "Stopping rule manager...");
        let state = Arc::clone(&self.params.state);
        Box::pin(async move {
            let children: Vec<Child> = state.groups.lock().values().cloned().collect();
            join_all(children.iter().map(drain)).await;
        })
    }
}
