//! The scrape manager: one scrape pool for each job.
//!
//! Owns the set of pools. Prepares a reload by building the HTTP clients of new and changed jobs, and hands target groups on to
//! the pools, per job at most once in `--scrape.discovery-reload-interval` (the first set at once).
//!
//! On restart: pools live outside the actor and go on scraping; jobs are compared with the running configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use fk_actorkit::{Board, Managed, ManagedActor, Spec};
use fk_config::Loaded;
use fk_http::Client;
use fk_instrument::{Kind, Registry};
use fk_model::TargetGroup;
use fk_scrape::BodyBudget;
use fk_scrape::timing::offset_seed;
use fk_tsdb::Db;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::actors::scrape_loop::{ScrapeMetrics, ScrapeSettings};
use crate::actors::scrape_pool::{self, PoolState, ScrapePool};
use crate::json_log::{self, JsonLogs};
use crate::messages::Tick;
use crate::messages::config::{ApplyConfig, Refusal};
use crate::messages::discovery::TargetGroups;
use crate::messages::lifecycle::Drain;
use crate::messages::scrape::{JobSpec, SyncTargets, UpdateJob};
use crate::slots::Slots;

/// A running pool.
#[derive(Clone, Debug)]
struct Pool {
    state: Arc<PoolState>,
    address: Addr<ScrapePool>,
}

/// What outlives the actor: the pools by job name, and the files in which failed scrapes are noted.
#[derive(Debug)]
pub struct ScrapeState {
    pools: Mutex<BTreeMap<String, Pool>>,
    failure_logs: Arc<JsonLogs>,
    failed_bodies: Arc<BodyBudget>,
}

impl Default for ScrapeState {
    fn default() -> ScrapeState {
        ScrapeState { pools: Mutex::default(), failure_logs: JsonLogs::new(), failed_bodies: Arc::default() }
    }
}

impl ScrapeState {
    /// The state of the pool of a job.
    pub fn pool(&self, job: &str) -> Option<Arc<PoolState>> {
        self.pools.lock().get(job).map(|pool| Arc::clone(&pool.state))
    }

    /// The state of every pool, in order of job names.
    pub fn pools(&self) -> Vec<Arc<PoolState>> {
        self.pools.lock().values().map(|pool| Arc::clone(&pool.state)).collect()
    }
}

/// Registers how much metadata the targets of each job have, and what their failure logs could not take.
pub fn register(state: &Arc<ScrapeState>, registry: &Registry) {
    let logs = Arc::clone(&state.failure_logs);
    registry.collect(move |out| {
        const NAME: &str = "firekeeper_scrape_failure_log_dropped_total";
        out.family(
            NAME,
            "Failed scrapes that were not noted in their log file, because it is too slow.",
            Kind::Counter,
        );
        out.sample(NAME, &[], logs.dropped() as f64);
    });
    let state = Arc::clone(state);
    registry.collect(move |out| {
        for pool in state.pools() {
            let view = pool.view();
            let (mut entries, mut bytes) = (0, 0);
            for metadata in view.targets.iter().filter_map(|(_, status)| status.metadata()) {
                let families = metadata.snapshot();
                entries += families.len();
                bytes += families.iter().map(|(name, m)| name.len() + m.help.len() + m.unit.len()).sum::<usize>();
            }
            let labels = [("scrape_job", view.spec.config.job_name.as_str())];
            for (name, help, value) in [
                (
                    "prometheus_target_metadata_cache_entries",
                    "Total number of metric metadata entries in the cache.",
                    entries,
                ),
                (
                    "prometheus_target_metadata_cache_bytes",
                    "The number of bytes that are currently used for storing metric metadata in the cache.",
                    bytes,
                ),
            ] {
                out.family(name, help, Kind::Gauge);
                out.sample(name, &labels, value as f64);
            }
        }
    });
}

/// What the manager is made from.
#[derive(Clone)]
pub struct Params {
    /// Outlives the actor.
    pub state: Arc<ScrapeState>,
    /// The running configuration and the discovered groups.
    pub slots: Arc<Slots>,
    /// For starting pools.
    pub board: Board,
    /// Where pools and loops run.
    pub arbiters: Vec<ArbiterHandle>,
    /// Where samples go.
    pub storage: Arc<Db>,
    /// Flags.
    pub settings: ScrapeSettings,
    /// `--scrape.discovery-reload-interval`
    pub reload_interval: Duration,
    /// Metrics.
    pub metrics: ScrapeMetrics,
}

/// Groups of one job on their way to its pool.
#[derive(Default)]
struct Delivery {
    last: Option<Instant>,
    waiting: Option<Arc<Vec<TargetGroup>>>,
}

/// A configuration that is ready to run.
struct Prepared {
    /// Jobs that are new or changed, still without their logs.
    specs: Vec<JobSpec>,
    /// The names of all jobs.
    jobs: Vec<String>,
    /// The log files of all jobs, opened anew.
    log_files: Vec<(PathBuf, File)>,
}

/// The actor.
pub struct ScrapeManager {
    params: Params,
    prepared: Option<Prepared>,
    deliveries: BTreeMap<String, Delivery>,
}

impl ScrapeManager {
    /// A manager of the pools in its state.
    pub fn new(params: Params) -> ScrapeManager {
        ScrapeManager { params, prepared: None, deliveries: BTreeMap::new() }
    }

    fn prepare(&self, loaded: &Loaded) -> Result<Prepared, Refusal> {
        let running: BTreeMap<String, JobSpec> =
            self.params.state.pools.lock().iter().map(|(job, pool)| (job.clone(), pool.state.spec())).collect();
        let seed = offset_seed(&self.params.settings.host_name, &loaded.config.global.external_labels);
        let (mut specs, mut reasons) = (Vec::new(), Vec::new());
        let paths: BTreeSet<&PathBuf> =
            loaded.config.scrape_configs.iter().filter_map(|config| config.scrape_failure_log_file.as_ref()).collect();
        let mut log_files = Vec::new();
        for path in paths {
            match json_log::open(path) {
                Ok(file) => log_files.push((path.clone(), file)),
                Err(error) => reasons.push(error),
            }
        }
        for config in &loaded.config.scrape_configs {
            let old = running.get(&config.job_name);
            if old.is_some_and(|old| old.config == *config) {
                continue;
            }
            let client = match old {
                Some(old) if old.config.http == config.http => Ok(old.client.clone()),
                _ => Client::new(&config.http),
            };
            match client {
                // A job that runs already keeps the places of its scrapes.
                Ok(client) => {
                    let seed = old.map_or(seed, |old| old.seed);
                    specs.push(JobSpec { config: Arc::clone(config), client, seed, failure_log: None });
                }
                Err(error) => {
                    let failed = if old.is_some() {
                        &self.params.metrics.reloads_failed
                    } else {
                        &self.params.metrics.pools_failed
                    };
                    failed.inc();
                    reasons.push(format!("job {}: {error}", config.job_name));
                }
            }
        }
        if !reasons.is_empty() {
            return Err(Refusal(reasons));
        }
        let jobs = loaded.config.scrape_configs.iter().map(|config| config.job_name.clone()).collect();
        Ok(Prepared { specs, jobs, log_files })
    }

    fn commit(&mut self, prepared: Prepared, ctx: &mut Managed<Self>) {
        let Prepared { specs, jobs, log_files } = prepared;
        let logs = Arc::clone(&self.params.state.failure_logs);
        logs.replace(log_files);
        let mut pools = self.params.state.pools.lock();
        pools.retain(|job, pool| {
            let keep = jobs.contains(job);
            if !keep {
                pool.address.do_send(Drain);
                self.params.metrics.remove_pool(job);
            }
            keep
        });
        self.deliveries.retain(|job, _| jobs.contains(job));
        for mut spec in specs {
            spec.failure_log = spec.config.scrape_failure_log_file.as_ref().and_then(|path| logs.get(path));
            let job = spec.config.job_name.clone();
            if let Some(pool) = pools.get(&job) {
                self.params.metrics.reloads.inc();
                pool.address.do_send(UpdateJob(spec));
                continue;
            }
            self.params.metrics.pools.inc();
            self.params.metrics.target_limit.get(&[&job]).set(spec.config.target_limit as f64);
            let state = PoolState::new(spec);
            let index = pools.len() % self.params.arbiters.len().max(1);
            let Some(arbiter) = self.params.arbiters.get(index) else { continue };
            let params = scrape_pool::Params {
                state: Arc::clone(&state),
                board: self.params.board.clone(),
                arbiters: self.params.arbiters.clone(),
                storage: Arc::clone(&self.params.storage),
                settings: self.params.settings.clone(),
                failed_bodies: Arc::clone(&self.params.state.failed_bodies),
                metrics: self.params.metrics.clone(),
            };
            let address = self
                .params
                .board
                .spawn_on(arbiter, Spec::named(job.clone()).child_of(ctx.id()), move |_| ScrapePool::new(params));
            pools.insert(job, Pool { state, address });
        }
    }

    /// Hands waiting groups on where the interval is over, and sets the timer for the others.
    fn deliver(&mut self, ctx: &mut Managed<Self>) {
        let (now, interval) = (Instant::now(), self.params.reload_interval);
        let pools = self.params.state.pools.lock();
        let mut next: Option<Instant> = None;
        for (job, delivery) in &mut self.deliveries {
            let Some(pool) = pools.get(job) else { continue };
            let due = delivery.last.map_or(now, |last| last + interval);
            if delivery.waiting.is_none() {
                continue;
            }
            if due <= now {
                if let Some(groups) = delivery.waiting.take() {
                    delivery.last = Some(now);
                    pool.address.do_send(SyncTargets(groups));
                }
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        if let Some(next) = next {
            ctx.run_later(next - now, |_, ctx| ctx.address().do_send(Tick(0)));
        }
    }
}

impl Actor for ScrapeManager {
    type Context = Managed<Self>;

    /// Only a manager that was rebuilt finds groups in the slot: those that were on their way when it panicked.
    fn started(&mut self, ctx: &mut Self::Context) {
        log::info!(component = "scrape manager"; "Starting scrape manager");
        for (job, groups) in self.params.slots.scrape_groups.load().iter() {
            self.deliveries.insert(job.clone(), Delivery { last: None, waiting: Some(Arc::clone(groups)) });
        }
        self.deliver(ctx);
    }
}

impl Supervised for ScrapeManager {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = ScrapeManager::new(self.params.clone());
    }
}

impl ManagedActor for ScrapeManager {
    const KIND: &'static str = "scrape_manager";
}

impl Handler<ApplyConfig> for ScrapeManager {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, phase: ApplyConfig, ctx: &mut Self::Context) -> Self::Result {
        match phase {
            ApplyConfig::Prepare(loaded) => self.prepared = Some(self.prepare(&loaded)?),
            ApplyConfig::Abort => self.prepared = None,
            ApplyConfig::Commit => {
                let prepared = match self.prepared.take() {
                    Some(prepared) => Some(prepared),
                    // It panicked after preparing: the configuration is in its slot by now.
                    None => self.params.slots.config.load_full().map(|loaded| self.prepare(&loaded)).transpose()?,
                };
                if let Some(prepared) = prepared {
                    self.commit(prepared, ctx);
                }
            }
        }
        Ok(())
    }
}

impl Handler<TargetGroups> for ScrapeManager {
    type Result = ();

    fn handle(&mut self, found: TargetGroups, ctx: &mut Self::Context) {
        self.deliveries.entry(found.job).or_default().waiting = Some(found.groups);
        self.deliver(ctx);
    }
}

impl Handler<Tick> for ScrapeManager {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        self.deliver(ctx);
    }
}

impl Handler<Drain> for ScrapeManager {
    type Result = ResponseFuture<()>;

    /// Answered when every running scrape is stored.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let pools = std::mem::take(&mut *self.params.state.pools.lock());
        let logs = Arc::clone(&self.params.state.failure_logs);
        Box::pin(async move {
            join_all(pools.values().map(|pool| pool.address.send(Drain))).await;
            // It fails only if the thread panicked.
            let _ = tokio::task::spawn_blocking(move || logs.flush()).await;
        })
    }
}
