//! The discovery manager: runs the discoverers of all jobs, or of all Alertmanager entries, and hands on what they find.
//!
//! Owns one [`Discoverer`] per discovery section of the configuration, and the slot with the groups of each job. The
//! server runs two: one for scrape jobs, one for Alertmanagers.
//!
//! On restart: discoverers and groups live outside the actor and go on undisturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::prelude::*;
use arc_swap::ArcSwap;
use chrono::Utc;
use fk_actorkit::{Board, Managed, ManagedActor, Spec};
use fk_config::{DiscoveryConfig, Loaded};
use fk_instrument::{Counter, Family, Gauge, Registry};
use fk_model::TargetGroup;
use parking_lot::Mutex;

use crate::actors::discoverer::{self, Discoverer, FileMetrics};
use crate::messages::config::{ApplyConfig, Refusal};
use crate::messages::discovery::{GroupsFound, TargetGroups};
use crate::messages::lifecycle::Drain;
use crate::slots::GroupsByJob;

/// Which discovery sections of a configuration are this manager's: job, then its sections.
pub type Sections = fn(&Loaded) -> Vec<(String, Vec<DiscoveryConfig>)>;

/// One running discoverer and what it found.
#[derive(Debug)]
struct Child {
    job: String,
    config: DiscoveryConfig,
    address: Addr<Discoverer>,
    groups: BTreeMap<String, TargetGroup>,
}

/// What outlives the actor: the discoverers by number.
#[derive(Debug, Default)]
pub struct Children {
    next: u64,
    running: BTreeMap<u64, Child>,
}

/// `prometheus_sd_*`
#[derive(Clone, Debug)]
pub struct SdMetrics {
    discovered: Family<Gauge>,
    received: Family<Counter>,
    updates: Family<Counter>,
    /// Always zero: a consumer takes whatever is newest when it gets to it, so that no update waits for one before.
    delayed: Family<Counter>,
    last_update: Family<Gauge>,
    failed_configs: Family<Gauge>,
    /// Metrics of file discovery.
    pub file: FileMetrics,
}

impl SdMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> SdMetrics {
        const NAME: &[&str] = &["name"];
        SdMetrics {
            discovered: registry.gauges(
                "prometheus_sd_discovered_targets",
                "Current number of discovered targets.",
                &["name", "config"],
            ),
            received: registry.counters(
                "prometheus_sd_received_updates_total",
                "Total number of update events received from the SD providers.",
                NAME,
            ),
            updates: registry.counters(
                "prometheus_sd_updates_total",
                "Total number of update events sent to the SD consumers.",
                NAME,
            ),
            delayed: registry.counters(
                "prometheus_sd_updates_delayed_total",
                "Total number of update events that couldn't be sent immediately.",
                NAME,
            ),
            last_update: registry.gauges(
                "prometheus_sd_last_update_timestamp_seconds",
                "Timestamp of the last update sent to the SD consumers.",
                &["name", "config"],
            ),
            failed_configs: registry.gauges(
                "prometheus_sd_failed_configs",
                "Current number of service discovery configurations that failed to load.",
                NAME,
            ),
            file: FileMetrics::new(registry),
        }
    }
}

/// What the manager is made from.
#[derive(Clone)]
pub struct Params {
    /// `scrape` or `notify`.
    pub name: &'static str,
    /// Its part of the configuration.
    pub sections: Sections,
    /// Outlives the actor.
    pub children: Arc<Mutex<Children>>,
    /// Where the groups go for whoever is rebuilt and needs them all.
    pub groups: Arc<ArcSwap<GroupsByJob>>,
    /// Where changes go.
    pub receiver: Recipient<TargetGroups>,
    /// For starting discoverers.
    pub board: Board,
    /// Metrics.
    pub metrics: SdMetrics,
}

/// The actor.
pub struct DiscoveryManager {
    params: Params,
    prepared: Option<Arc<Loaded>>,
}

impl DiscoveryManager {
    /// A manager without discoverers.
    pub fn new(params: Params) -> DiscoveryManager {
        // A configuration whose discovery cannot be made is refused as a whole, so none that runs has failed.
        params.metrics.failed_configs.get(&[params.name]).set(0.0);
        let _shown_from_the_start = params.metrics.delayed.get(&[params.name]);
        DiscoveryManager { params, prepared: None }
    }

    /// Starts and stops discoverers until they are those of `loaded`. Unchanged ones are left alone.
    fn commit(&mut self, loaded: &Loaded, ctx: &mut Managed<Self>) {
        let mut children = self.params.children.lock();
        let children = &mut *children;
        let mut wanted: Vec<(String, DiscoveryConfig)> = Vec::new();
        let mut jobs: BTreeSet<String> = BTreeSet::new();
        for (job, sections) in (self.params.sections)(loaded) {
            wanted.extend(sections.into_iter().map(|config| (job.clone(), config)));
            jobs.insert(job);
        }
        // Jobs that lose a discoverer. A new job says nothing until its discoverers have looked: an empty first set would only
        // delay the real one.
        let mut changed: BTreeSet<String> = BTreeSet::new();
        children.running.retain(|_, child| {
            let at = wanted.iter().position(|(job, config)| *job == child.job && *config == child.config);
            match at {
                Some(at) => {
                    wanted.swap_remove(at);
                    true
                }
                None => {
                    child.address.do_send(Drain);
                    changed.insert(child.job.clone());
                    false
                }
            }
        });
        for (job, config) in wanted {
            children.next += 1;
            let id = children.next;
            let file = self.params.metrics.file.clone();
            let params =
                discoverer::Params { id, config: config.clone(), found: ctx.address().recipient(), metrics: file };
            let spec = Spec::named(format!("{}/{job}/{id}", self.params.name)).child_of(ctx.id());
            let address = self.params.board.spawn(spec, |_| Discoverer::new(params));
            children.running.insert(id, Child { job, config, address, groups: BTreeMap::new() });
        }
        for job in self.params.groups.load().keys().filter(|job| !jobs.contains(*job)) {
            self.params.metrics.discovered.remove(&[self.params.name, job.as_str()]);
            self.params.metrics.last_update.remove(&[self.params.name, job.as_str()]);
        }
        self.params.groups.rcu(|groups| {
            let mut groups = GroupsByJob::clone(groups);
            groups.retain(|job, _| jobs.contains(job));
            groups
        });
        for job in changed.intersection(&jobs) {
            self.publish(children, job);
        }
    }

    /// Puts the groups of one job into the slot and hands them on.
    fn publish(&self, children: &Children, job: &str) {
        let of_job = children.running.values().filter(|child| child.job == job);
        let groups: Arc<Vec<TargetGroup>> = Arc::new(of_job.flat_map(|child| child.groups.values().cloned()).collect());
        let targets: usize = groups.iter().map(|group| group.targets.len()).sum();
        let (metrics, name) = (&self.params.metrics, self.params.name);
        metrics.discovered.get(&[name, job]).set(targets as f64);
        metrics.updates.get(&[name]).inc();
        metrics.last_update.get(&[name, job]).set(Utc::now().timestamp_millis() as f64 / 1000.0);
        self.params.groups.rcu(|all| {
            let mut all = GroupsByJob::clone(all);
            all.insert(job.to_owned(), Arc::clone(&groups));
            all
        });
        self.params.receiver.do_send(TargetGroups { job: job.to_owned(), groups });
    }
}

impl Actor for DiscoveryManager {
    type Context = Managed<Self>;
}

impl Supervised for DiscoveryManager {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = DiscoveryManager::new(self.params.clone());
    }
}

impl ManagedActor for DiscoveryManager {
    const KIND: &'static str = "discovery_manager";
}

impl Handler<ApplyConfig> for DiscoveryManager {
    type Result = Result<(), Refusal>;

    /// Static and file discovery have nothing that could fail to be prepared: a missing file is an empty one.
    fn handle(&mut self, phase: ApplyConfig, ctx: &mut Self::Context) -> Self::Result {
        match phase {
            ApplyConfig::Prepare(loaded) => self.prepared = Some(loaded),
            ApplyConfig::Abort => self.prepared = None,
            ApplyConfig::Commit => {
                if let Some(loaded) = self.prepared.take() {
                    self.commit(&loaded, ctx);
                }
            }
        }
        Ok(())
    }
}

impl Handler<GroupsFound> for DiscoveryManager {
    type Result = ();

    fn handle(&mut self, found: GroupsFound, _: &mut Self::Context) {
        self.params.metrics.received.get(&[self.params.name]).inc();
        let mut children = self.params.children.lock();
        // A discoverer that was stopped meanwhile is no longer heard.
        let Some(child) = children.running.get_mut(&found.discoverer) else { return };
        for group in found.groups {
            if group.targets.is_empty() {
                child.groups.remove(&group.source);
            } else {
                child.groups.insert(group.source.clone(), group);
            }
        }
        let job = child.job.clone();
        self.publish(&children, &job);
    }
}

impl Handler<Drain> for DiscoveryManager {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        for (_, child) in std::mem::take(&mut self.params.children.lock().running) {
            child.address.do_send(Drain);
        }
    }
}
