//! A scrape pool: the targets of one job.
//!
//! Owns the job's configuration and one [`ScrapeLoop`] for each target. Turns target groups into targets, starts loops for
//! new ones and ends those that are gone.
//!
//! On restart: configuration, groups and loops live in the [`PoolState`]; the loops go on, and the targets are compared again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use fk_actorkit::{Board, Managed, ManagedActor, Spec};
use fk_model::TargetGroup;
use fk_promtool::gofmt::duration_ms as go_duration;
use fk_scrape::{BodyBudget, Target, TargetSet, cache_survives};
use fk_tsdb::Db;
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::actors::scrape_loop::{self, ScrapeLoop, ScrapeMetrics, ScrapeSettings, TargetStatus};
use crate::messages::lifecycle::Drain;
use crate::messages::scrape::{EndTarget, JobSpec, SyncTargets, UpdateJob};

/// A running loop.
#[derive(Clone, Debug)]
struct Loop {
    target: Arc<Target>,
    status: Arc<TargetStatus>,
    address: Addr<ScrapeLoop>,
}

/// What outlives the actor.
#[derive(Debug)]
pub struct PoolState(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    spec: JobSpec,
    groups: Arc<Vec<TargetGroup>>,
    /// By identity of the target.
    loops: BTreeMap<u64, Loop>,
    dropped: Arc<Vec<fk_scrape::DroppedTarget>>,
    dropped_count: usize,
    /// Loops started so far; the next one goes to the next arbiter.
    started: usize,
}

/// A pool as others see it.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// The job.
    pub spec: JobSpec,
    /// Its targets and how they are, in order of URL.
    pub targets: Vec<(Arc<Target>, Arc<TargetStatus>)>,
    /// Targets that relabelling dropped, as many as are kept.
    pub dropped: Arc<Vec<fk_scrape::DroppedTarget>>,
    /// How many were dropped.
    pub dropped_count: usize,
}

impl PoolState {
    /// Of a job without targets.
    pub fn new(spec: JobSpec) -> Arc<PoolState> {
        Arc::new(PoolState(Mutex::new(Inner {
            spec,
            groups: Arc::default(),
            loops: BTreeMap::new(),
            dropped: Arc::default(),
            dropped_count: 0,
            started: 0,
        })))
    }

    /// The job as it runs.
    pub fn spec(&self) -> JobSpec {
        self.0.lock().spec.clone()
    }

    /// For display.
    pub fn view(&self) -> PoolView {
        let inner = self.0.lock();
        let mut targets: Vec<_> = inner
            .loops
            .values()
            .map(|one| (one.status.shown_target().unwrap_or_else(|| Arc::clone(&one.target)), Arc::clone(&one.status)))
            .collect();
        targets.sort_by(|a, b| a.0.url.cmp(&b.0.url));
        PoolView {
            spec: inner.spec.clone(),
            targets,
            dropped: Arc::clone(&inner.dropped),
            dropped_count: inner.dropped_count,
        }
    }
}

/// What a pool is made from.
#[derive(Clone)]
pub struct Params {
    /// Outlives the actor.
    pub state: Arc<PoolState>,
    /// For starting loops.
    pub board: Board,
    /// Where loops run, in turn.
    pub arbiters: Vec<ArbiterHandle>,
    /// Where samples go.
    pub storage: Arc<Db>,
    /// Flags.
    pub settings: ScrapeSettings,
    /// How much all targets keep of bodies that failed.
    pub failed_bodies: Arc<BodyBudget>,
    /// Metrics.
    pub metrics: ScrapeMetrics,
}

/// The actor.
pub struct ScrapePool {
    params: Params,
}

impl ScrapePool {
    /// A pool of the loops in its state.
    pub fn new(params: Params) -> ScrapePool {
        ScrapePool { params }
    }

    /// Makes the loops those of the groups.
    fn sync(&self, ctx: &mut Managed<Self>) {
        let mut inner = self.params.state.0.lock();
        let inner = &mut *inner;
        let job = inner.spec.config.job_name.clone();
        let began = Instant::now();
        let set = TargetSet::from_groups(&inner.spec.config, &inner.groups);
        for error in &set.errors {
            self.params.metrics.sync_failed.get(&[&job]).inc();
            log::error!(component = "scrape manager", scrape_pool = job.as_str(), err = error.to_string().as_str(); "Creating target failed");
        }
        let limit = set.limit_exceeded.as_ref().map(ToString::to_string);
        if limit.is_some() {
            self.params.metrics.exceeded_target_limit.inc();
        }
        let mut gone = std::mem::take(&mut inner.loops);
        for target in set.active {
            let identity = target.identity;
            let kept = gone.remove(&identity).unwrap_or_else(|| {
                let arbiter = inner.started % self.params.arbiters.len().max(1);
                inner.started += 1;
                self.start(&inner.spec, Arc::clone(&target), arbiter, ctx.id())
            });
            // Discovered labels may have changed under a target that is otherwise the same.
            kept.status.show(Arc::clone(&target));
            kept.status.set_limit_error(limit.clone());
            inner.loops.insert(identity, kept);
        }
        for old in gone.into_values() {
            old.address.do_send(EndTarget);
        }
        self.params.metrics.pool_targets.get(&[&job]).set(inner.loops.len() as f64);
        self.params.metrics.pool_syncs.get(&[&job]).inc();
        self.params.metrics.target_limit.get(&[&job]).set(inner.spec.config.target_limit as f64);
        let seconds = began.elapsed().as_secs_f64();
        self.params.metrics.sync_length.get(&[&job]).observe(seconds);
        self.params.metrics.sync_lengths.get(&[&job]).observe(seconds);
        inner.dropped = Arc::new(set.dropped);
        inner.dropped_count = set.dropped_count;
    }

    fn start(&self, spec: &JobSpec, target: Arc<Target>, arbiter: usize, parent: u64) -> Loop {
        let status = TargetStatus::new(Arc::clone(&self.params.failed_bodies));
        let params = scrape_loop::Params {
            target: Arc::clone(&target),
            spec: spec.clone(),
            status: Arc::clone(&status),
            storage: Arc::clone(&self.params.storage),
            settings: self.params.settings.clone(),
            metrics: self.params.metrics.clone(),
        };
        let name = format!("{}/{}", spec.config.job_name, target.url);
        let make = move |_: &mut Managed<ScrapeLoop>| ScrapeLoop::new(params);
        let spec = Spec::named(name).child_of(parent);
        let address = match self.params.arbiters.get(arbiter) {
            Some(arbiter) => self.params.board.spawn_on(arbiter, spec, make),
            None => self.params.board.spawn(spec, make),
        };
        Loop { target, status, address }
    }
}

impl Actor for ScrapePool {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if ctx.incarnation() > 0 {
            self.sync(ctx);
        }
    }
}

impl Supervised for ScrapePool {}

impl ManagedActor for ScrapePool {
    const KIND: &'static str = "scrape_pool";
}

impl Handler<SyncTargets> for ScrapePool {
    type Result = ();

    fn handle(&mut self, SyncTargets(groups): SyncTargets, ctx: &mut Self::Context) {
        self.params.state.0.lock().groups = groups;
        self.sync(ctx);
    }
}

impl Handler<UpdateJob> for ScrapePool {
    type Result = ();

    /// Loops whose series cache stays valid go on with the new configuration; the others are ended and started anew.
    fn handle(&mut self, UpdateJob(spec): UpdateJob, ctx: &mut Self::Context) {
        let began = Instant::now();
        let interval = go_duration(spec.config.scrape_interval.as_millis());
        {
            let mut inner = self.params.state.0.lock();
            let old = std::mem::replace(&mut inner.spec, spec.clone());
            if cache_survives(&old.config, &spec.config) {
                for one in inner.loops.values() {
                    one.address.do_send(UpdateJob(spec.clone()));
                }
            } else {
                for one in std::mem::take(&mut inner.loops).into_values() {
                    one.address.do_send(EndTarget);
                }
            }
        }
        self.sync(ctx);
        self.params.metrics.reload_length.get(&[&interval]).observe(began.elapsed().as_secs_f64());
    }
}

impl Handler<Drain> for ScrapePool {
    type Result = ResponseFuture<()>;

    /// Ends the pool. Series of its targets are not marked stale: the job was removed, or the server stops.
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let loops = std::mem::take(&mut self.params.state.0.lock().loops);
        ctx.stop();
        Box::pin(async move {
            join_all(loops.values().map(|one| one.address.send(Drain))).await;
        })
    }
}
