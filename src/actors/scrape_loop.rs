//! A scrape loop: scrapes one target, interval after interval.
//!
//! Owns the timer, the request under way, and the engine that turns bodies into samples. A scrape is one append to the storage,
//! through its handle; nothing of it goes through a mailbox. Nor does its timer ([`Slots`]): between two scrapes of a target the
//! processor has forgotten all of this, so a scrape costs as much as the code it comes through, and there is nobody whose turn a
//! tick could take.
//!
//! On restart: the engine starts without its cache (series are looked up again) and the next scrape comes at its usual place.
//! What vanished from the target in just that scrape gets no staleness marker.

use std::cell::RefCell;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use fk_config::ScrapeConfig;
use fk_http::{Client, Fetcher, ScrapeRequest, ScrapeResponse, Stopwatch, Timings};
use fk_instrument::{Counter, Family, Gauge, Histogram, Registry, Summary};
use fk_promtool::gofmt::duration_ms as go_duration;
use fk_scrape::timing::{ALIGN_TOLERANCE_NS, aligned_timestamp};
use fk_scrape::{
    BodyBudget, Features, Fetched, FetchedBody, History, KeptBody, MetadataHandle, PastScrape, ScrapeError,
    ScrapeOutcome, Scratch, Stages, Target, accept_header,
};
use fk_tsdb::Db;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::json_log;
use crate::messages::lifecycle::Drain;
use crate::messages::scrape::{EndTarget, JobSpec, UpdateJob};

thread_local! {
    /// Batch and report of whoever ingests on this thread.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Memory of bodies that were ingested, for the next fetch on this thread: bodies of one fleet have about one size, and
    /// growing a fresh buffer to it would copy it several times.
    static BODIES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Body buffers kept per thread: about as many as requests are under way at a time when scrapes are spread evenly.
const BODIES_KEPT: usize = 8;

/// A body buffer that has grown beyond this is not kept.
const BODY_BYTES_KEPT: usize = 1 << 20;

/// How long a loop that was told to end waits beyond two ticks, as a share of the interval.
const END_SLACK: f64 = 0.1;

/// The flags about scraping.
#[derive(Clone, Debug)]
pub struct ScrapeSettings {
    /// `User-Agent` of requests.
    pub user_agent: String,
    /// Full name of this machine; part of the seed of scrape offsets.
    pub host_name: String,
    /// `--scrape.adjust-timestamps`
    pub align_timestamps: bool,
    /// `--scrape.timestamp-tolerance`, nanoseconds; at most one percent of an interval counts.
    pub tolerance_ns: i64,
    /// What is stored beyond samples.
    pub features: Features,
}

impl ScrapeSettings {
    /// The timestamp in ms of a scrape that starts at `now_ns`.
    fn timestamp_ms(&self, now_ns: i64, first_ns: i64, interval_ns: i64) -> i64 {
        let aligned = if self.align_timestamps {
            aligned_timestamp(now_ns, first_ns, interval_ns, self.tolerance_ns)
        } else {
            now_ns
        };
        aligned.div_euclid(1_000_000)
    }
}

impl Default for ScrapeSettings {
    fn default() -> ScrapeSettings {
        ScrapeSettings {
            user_agent: "Prometheus/3.14.0".to_owned(),
            host_name: String::new(),
            align_timestamps: true,
            tolerance_ns: ALIGN_TOLERANCE_NS,
            features: Features::default(),
        }
    }
}

/// `prometheus_target_*`
#[derive(Clone, Debug)]
pub struct ScrapeMetrics {
    /// Pools made since the start.
    pub pools: Counter,
    /// Pools whose client could not be made.
    pub pools_failed: Counter,
    /// Changes of a running job.
    pub reloads: Counter,
    /// Changes of a running job that were refused.
    pub reloads_failed: Counter,
    /// `target_limit` of each pool.
    pub target_limit: Family<Gauge>,
    /// How long a change of a running job took, by its interval.
    pub reload_length: Family<Summary>,
    /// How long comparing targets took, by pool.
    pub sync_length: Family<Summary>,
    /// The same in buckets.
    pub sync_lengths: Family<Histogram>,
    /// Targets of each pool.
    pub pool_targets: Family<Gauge>,
    /// Times the targets of a pool were compared.
    pub pool_syncs: Family<Counter>,
    /// Targets that are no good.
    pub sync_failed: Family<Counter>,
    /// Syncs that found more targets than the job may have.
    pub exceeded_target_limit: Counter,
    scrape_duration: Histogram,
    extra_scrape_duration: Histogram,
    exceeded_body_size: Counter,
    exceeded_sample_limit: Counter,
    exceeded_bucket_limit: Counter,
    exemplars_out_of_order: Counter,
    duplicates: Counter,
    out_of_order: Counter,
    out_of_bounds: Counter,
    cache_flush_forced: Counter,
    late: Histogram,
    interval_length: Family<Summary>,
    interval_lengths: Family<Histogram>,
    exceeded_label_limits: Counter,
}

impl ScrapeMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> ScrapeMetrics {
        const POOL: &[&str] = &["scrape_job"];
        const QUANTILES: &[f64] = &[0.01, 0.05, 0.5, 0.9, 0.99];
        const COARSE: &[f64] = &[0.01, 0.1, 1.0, 10.0];
        const SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        ScrapeMetrics {
            pools: registry
                .counter("prometheus_target_scrape_pools_total", "Total number of scrape pool creation attempts."),
            pools_failed: registry.counter(
                "prometheus_target_scrape_pools_failed_total",
                "Total number of scrape pool creations that failed.",
            ),
            reloads: registry
                .counter("prometheus_target_scrape_pool_reloads_total", "Total number of scrape pool reloads."),
            reloads_failed: registry.counter(
                "prometheus_target_scrape_pool_reloads_failed_total",
                "Total number of failed scrape pool reloads.",
            ),
            target_limit: registry.gauges(
                "prometheus_target_scrape_pool_target_limit",
                "Maximum number of targets allowed in this scrape pool.",
                POOL,
            ),
            reload_length: registry.summaries(
                "prometheus_target_reload_length_seconds",
                "Actual interval to reload the scrape pool with a given configuration.",
                &["interval"],
                QUANTILES,
            ),
            sync_length: registry.summaries(
                "prometheus_target_sync_length_seconds",
                "Actual interval to sync the scrape pool.",
                POOL,
                QUANTILES,
            ),
            sync_lengths: registry.histograms(
                "prometheus_target_sync_length_histogram_seconds",
                "Actual interval to sync the scrape pool.",
                POOL,
                COARSE,
            ),
            interval_length: registry.summaries(
                "prometheus_target_interval_length_seconds",
                "Actual intervals between scrapes.",
                &["interval"],
                QUANTILES,
            ),
            interval_lengths: registry.histograms(
                "prometheus_target_interval_length_histogram_seconds",
                "Actual intervals between scrapes.",
                &["interval"],
                COARSE,
            ),
            exceeded_label_limits: registry.counter(
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "Total number of times scrape pools hit the label limits, during sync or config reload.",
            ),
            pool_targets: registry.gauges(
                "prometheus_target_scrape_pool_targets",
                "Current number of targets in this scrape pool.",
                POOL,
            ),
            pool_syncs: registry.counters(
                "prometheus_target_scrape_pool_sync_total",
                "Total number of syncs that were executed on a scrape pool.",
                POOL,
            ),
            sync_failed: registry.counters(
                "prometheus_target_sync_failed_total",
                "Total number of target sync failures.",
                POOL,
            ),
            exceeded_target_limit: registry.counter(
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "Total number of times scrape pools hit the target limit, during sync or config reload.",
            ),
            scrape_duration: registry.histogram(
                "firekeeper_target_scrape_duration_seconds",
                "Time from the start of a request to its samples in the storage.",
                SECONDS,
            ),
            extra_scrape_duration: registry.histogram(
                "prometheus_target_scrape_duration_seconds",
                "Total duration of the scrape from start to commit completion in seconds.",
                // Prometheus' has native buckets only.
                &[],
            ),
            exceeded_body_size: registry.counter(
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Total number of scrapes that hit the body size limit.",
            ),
            exceeded_sample_limit: registry.counter(
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Total number of scrapes that hit the sample limit and were rejected.",
            ),
            duplicates: registry.counter(
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Total number of samples rejected due to duplicate timestamps but different values.",
            ),
            out_of_order: registry.counter(
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Total number of samples rejected due to not being out of the expected order.",
            ),
            out_of_bounds: registry.counter(
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Total number of samples rejected due to timestamp falling outside of the time bounds.",
            ),
            exceeded_bucket_limit: registry.counter(
                "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
                "Total number of scrapes that hit the native histogram bucket limit and were rejected.",
            ),
            exemplars_out_of_order: registry.counter(
                "prometheus_target_scrapes_exemplar_out_of_order_total",
                "Total number of exemplar rejected due to not being out of the expected order.",
            ),
            cache_flush_forced: registry.counter(
                "prometheus_target_scrapes_cache_flush_forced_total",
                "How many times a scrape cache was flushed due to getting big while scrapes are failing.",
            ),
            late: registry.histogram(
                "firekeeper_target_scrape_lateness_seconds",
                "How long after its slot a scrape began.",
                SECONDS,
            ),
        }
    }

    /// Forgets a pool.
    pub fn remove_pool(&self, job: &str) {
        self.pool_targets.remove(&[job]);
        self.pool_syncs.remove(&[job]);
        self.sync_failed.remove(&[job]);
        self.target_limit.remove(&[job]);
        self.sync_length.remove(&[job]);
        self.sync_lengths.remove(&[job]);
    }

    /// `extra`: the job has `extra_scrape_metrics`, without which Prometheus does not fill its histogram.
    fn scraped(&self, outcome: &ScrapeOutcome, extra: bool) {
        self.scrape_duration.observe(outcome.duration_s);
        if extra {
            self.extra_scrape_duration.observe(outcome.duration_s);
        }
        self.duplicates.add(outcome.counts.duplicates);
        self.out_of_order.add(outcome.counts.out_of_order);
        self.out_of_bounds.add(outcome.counts.out_of_bounds);
        self.exceeded_body_size.add(u64::from(outcome.body_bytes < 0));
        self.exceeded_sample_limit.add(u64::from(matches!(outcome.error, Some(ScrapeError::SampleLimit))));
        self.exceeded_bucket_limit.add(u64::from(matches!(outcome.error, Some(ScrapeError::BucketLimit))));
        self.exemplars_out_of_order.add(outcome.counts.exemplars_out_of_order);
        self.cache_flush_forced.add(u64::from(outcome.cache_flush_forced));
        let label_limit = matches!(&outcome.error, Some(ScrapeError::Series(error)) if error.is_limit());
        self.exceeded_label_limits.add(u64::from(label_limit));
    }
}

/// The last scrape of a target.
#[derive(Clone, Debug, Default)]
pub struct LastScrape {
    /// When it began, ms; `None`: there was none yet.
    pub at_ms: Option<i64>,
    /// How long it took, seconds.
    pub duration_s: f64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What others see of a target; also how the pool tells its loop that the job has too many targets.
#[derive(Debug)]
pub struct TargetStatus {
    last: Mutex<LastScrape>,
    history: Mutex<History>,
    failed_bodies: Arc<BodyBudget>,
    shown: Mutex<Option<Arc<Target>>>,
    metadata: Mutex<Option<MetadataHandle>>,
    limit_error: Mutex<Option<String>>,
}

impl TargetStatus {
    /// Of a target that was not scraped yet. Bodies that fail are kept out of the budget.
    pub fn new(failed_bodies: Arc<BodyBudget>) -> Arc<TargetStatus> {
        Arc::new(TargetStatus {
            last: Mutex::default(),
            history: Mutex::default(),
            failed_bodies,
            shown: Mutex::default(),
            metadata: Mutex::default(),
            limit_error: Mutex::default(),
        })
    }

    /// The last scrapes, the newest first, and the last body that could not be stored.
    pub fn history(&self) -> (Vec<PastScrape>, Option<Arc<KeptBody>>) {
        let history = self.history.lock();
        (history.scrapes(), history.failed_body())
    }

    /// The last scrape.
    pub fn last(&self) -> LastScrape {
        self.last.lock().clone()
    }

    /// The target's metadata, once its loop runs.
    pub fn metadata(&self) -> Option<MetadataHandle> {
        self.metadata.lock().clone()
    }

    /// Sets the target as it is shown: discovered labels may change under a running loop.
    pub fn show(&self, target: Arc<Target>) {
        *self.shown.lock() = Some(target);
    }

    /// The target as it is shown.
    pub fn shown_target(&self) -> Option<Arc<Target>> {
        self.shown.lock().clone()
    }

    /// With an error every scrape fails with it, without a request.
    pub fn set_limit_error(&self, error: Option<String>) {
        *self.limit_error.lock() = error;
    }
}

/// Why there is no body.
struct Failure {
    reason: String,
    /// It reached `body_size_limit`.
    body_size_limit_hit: bool,
    /// Nothing was asked for: the job has too many targets.
    forced: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Failure {
        Failure { reason, body_size_limit_hit: false, forced: false }
    }
}

/// What a loop is made from.
#[derive(Clone)]
pub struct Params {
    /// What to scrape.
    pub target: Arc<Target>,
    /// The job.
    pub spec: JobSpec,
    /// Outlives the actor.
    pub status: Arc<TargetStatus>,
    /// Where samples go.
    pub storage: Arc<Db>,
    /// Flags.
    pub settings: ScrapeSettings,
    /// Metrics.
    pub metrics: ScrapeMetrics,
}

/// The actor.
pub struct ScrapeLoop {
    params: Params,
    /// `None` once the target's series are marked stale.
    engine: Option<fk_scrape::ScrapeLoop>,
    /// What asks the target; or why its own socket cannot be used.
    fetcher: Result<Arc<Fetcher>, String>,
    /// The first slot: by the wall clock for timestamps, by the steady one for waiting.
    first_ns: i64,
    first: Instant,
    /// The slot the timer is set for, counted from the first.
    slot: u32,
    fetching: bool,
    /// Times the request under way.
    watch: Stopwatch,
    /// When the last scrape began, and where the time between two scrapes is noted.
    last_began: Option<Instant>,
    interval_length: (Summary, Histogram),
    ending: bool,
    /// Ends behind the scrape under way, without a word to the storage.
    drained: bool,
    /// Wakes a drain that waits for the scrape under way.
    idle: Arc<tokio::sync::Notify>,
}

impl ScrapeLoop {
    /// A loop that waits for its first slot.
    pub fn new(params: Params) -> ScrapeLoop {
        let engine = fk_scrape::ScrapeLoop::new(Arc::clone(&params.target), Arc::clone(&params.spec.config))
            .with_features(params.settings.features);
        *params.status.metadata.lock() = Some(engine.metadata());
        let (first, idle) = (Instant::now(), Arc::default());
        let fetcher = fetcher(&params);
        let interval = go_duration(params.target.interval.as_millis());
        let metrics = &params.metrics;
        let interval_length = (metrics.interval_length.get(&[&interval]), metrics.interval_lengths.get(&[&interval]));
        ScrapeLoop {
            params,
            engine: Some(engine),
            fetcher,
            first_ns: 0,
            first,
            slot: 0,
            fetching: false,
            watch: Stopwatch::default(),
            last_began: None,
            interval_length,
            ending: false,
            drained: false,
            idle,
        }
    }

    fn interval(&self) -> Duration {
        self.params.target.interval.to_std()
    }

    fn interval_ns(&self) -> i64 {
        self.params.target.interval.as_millis() * 1_000_000
    }

    /// Finds the first slot from now and sets the timer for it.
    fn begin(&mut self, ctx: &mut Managed<Self>) {
        let now_ns = now_ns();
        let offset_ns = self.params.target.offset(now_ns, self.params.spec.seed);
        self.first_ns = now_ns + offset_ns;
        self.first = Instant::now() + Duration::from_nanos(offset_ns.unsigned_abs());
        self.slot = 0;
        ctx.spawn(Slots(Box::pin(sleep_until(self.first))));
    }

    /// What is done at a slot. Returns the next one; `None` if there is none any more.
    fn tick(&mut self, ctx: &mut Managed<Self>) -> Option<Instant> {
        if self.ending {
            return None;
        }
        let (due, began) = (self.first + self.interval() * self.slot, Instant::now());
        // A slow scrape makes slots drop: never two at a time, never a queue.
        if !self.fetching {
            self.scrape(ctx);
        }
        // On to the next slot that has not passed; slots that were missed are left out.
        let interval = self.interval();
        let passed = self.first.elapsed().as_nanos() / interval.as_nanos().max(1);
        self.slot = u32::try_from(passed).unwrap_or(u32::MAX - 1).saturating_add(1).max(self.slot);
        ctx.worked("Slot", began.saturating_duration_since(due), began.elapsed());
        Some(self.first + interval * self.slot)
    }

    fn scrape(&mut self, ctx: &mut Managed<Self>) {
        let (now_ns, began) = (now_ns(), Instant::now());
        let ts_ms = self.params.settings.timestamp_ms(now_ns, self.first_ns, self.interval_ns());
        if let Some(last) = self.last_began.replace(began) {
            let seconds = (began - last).as_secs_f64();
            self.interval_length.0.observe(seconds);
            self.interval_length.1.observe(seconds);
        }
        let slot_began = self.first + self.interval() * self.slot;
        self.params.metrics.late.observe(began.saturating_duration_since(slot_began).as_secs_f64());
        self.watch.reset();
        let limit_error = self.params.status.limit_error.lock().clone();
        if let Some(error) = limit_error {
            self.ingest(Err(Failure { forced: true, ..Failure::from(error) }), &[], (ts_ms, began));
            return;
        }
        let fetcher = match &self.fetcher {
            Ok(fetcher) => Arc::clone(fetcher),
            Err(error) => {
                let error = error.clone();
                self.ingest(Err(error.into()), &[], (ts_ms, began));
                return;
            }
        };
        let watch = self.watch.clone();
        let mut body = BODIES.with_borrow_mut(Vec::pop).unwrap_or_default();
        let fetch = async move {
            match fetcher.fetch(Some(&watch), &mut body).await {
                Ok(response) => (Ok(response), body),
                Err(error) => {
                    let body_size_limit_hit = error.is_body_size_limit();
                    (Err(Failure { body_size_limit_hit, ..Failure::from(error.to_string()) }), body)
                }
            }
        };
        self.fetching = true;
        ctx.spawn(fetch.into_actor(self).map(move |(fetched, body), this, ctx| {
            let body_at = fetched.as_ref().map_or(body.len(), |response| response.body_at);
            this.ingest(fetched, body.get(body_at..).unwrap_or_default(), (ts_ms, began));
            keep(body);
            this.fetching = false;
            this.idle.notify_waiters();
            if this.drained {
                ctx.stop();
            }
        }));
    }

    /// Stores what a fetch gave. The scrape has the timestamp `ts_ms`.
    fn ingest(&mut self, response: Result<ScrapeResponse, Failure>, body: &[u8], (ts_ms, began): (i64, Instant)) {
        let Some(engine) = self.engine.as_mut() else { return };
        let fetch_s = began.elapsed().as_secs_f64();
        let forced = response.as_ref().is_err_and(|failure| failure.forced);
        let fetched = match &response {
            Ok(response) => Fetched::Body { body, content_type: &response.content_type },
            Err(failure) => {
                Fetched::Failed { reason: &failure.reason, body_size_limit_hit: failure.body_size_limit_hit }
            }
        };
        let storage = &*self.params.storage;
        let outcome = SCRATCH.with_borrow_mut(|scratch| {
            engine.ingest(fetched, ts_ms, || began.elapsed().as_secs_f64(), scratch, storage)
        });
        let url = self.params.target.url.as_str();
        if let Some(error) = &outcome.error {
            let text = error.to_string();
            log::debug!(component = "scrape manager", target = url, err = text.as_str(); "Scrape failed");
            // DIFFERENCE: Prometheus notes failed requests only, and not bodies that cannot be read or go beyond a limit.
            if let Some(log) = self.params.spec.failure_log.as_ref().filter(|_| !forced) {
                let job = self.params.spec.config.job_name.as_str();
                log.write(json_log::error_line("scrape_loop.rs", &text, &[("job_name", job), ("target", url)]));
            }
        }
        if let Some(warning) = &outcome.warning {
            log::debug!(component = "scrape manager", target = url, err = warning.to_string().as_str(); "format of the answer was guessed");
        }
        if let Some(error) = &outcome.storage_error {
            log::error!(component = "scrape manager", target = url, err = error.to_string().as_str(); "Scrape commit failed");
        }
        self.params.metrics.scraped(&outcome, self.params.spec.config.extra_scrape_metrics);
        let (content_type, wire_bytes) = match &response {
            Ok(response) => (response.content_type.as_str(), response.wire_bytes),
            Err(_) => ("", 0),
        };
        let status = &self.params.status;
        let append_s = (began.elapsed().as_secs_f64() - outcome.duration_s).max(0.0);
        let stages = Stages {
            parse_s: (!body.is_empty()).then_some((outcome.duration_s - fetch_s).max(0.0) as f32),
            append_s: Some(append_s as f32),
            ..fetch_stages(self.watch.timings(), fetch_s)
        };
        let fetched = FetchedBody { body, content_type, wire_bytes, fetch_s, stages };
        status.history.lock().push(ts_ms, fetched, &outcome, &status.failed_bodies);
        let error = outcome.error.map(|error| error.to_string());
        *status.last.lock() = LastScrape { at_ms: Some(ts_ms), duration_s: outcome.duration_s, error };
    }
}

/// Keeps the memory of a body for the next fetch on this thread.
fn keep(body: Vec<u8>) {
    BODIES.with_borrow_mut(|bodies| {
        if bodies.len() < BODIES_KEPT && body.capacity() <= BODY_BYTES_KEPT {
            bodies.push(body);
        }
    });
}

/// How a target is asked.
pub(crate) fn request<'r>(
    target: &'r Target,
    config: &ScrapeConfig,
    accept: &'r str,
    user_agent: &'r str,
    watch: Option<&'r Stopwatch>,
) -> ScrapeRequest<'r> {
    ScrapeRequest {
        url: &target.url,
        accept,
        user_agent,
        timeout: target.timeout.to_std(),
        body_size_limit: config.body_size_limit,
        enable_compression: config.enable_compression,
        watch,
    }
}

/// The stages of a request that took `fetch_s` in all.
pub(crate) fn fetch_stages(timings: Timings, fetch_s: f64) -> Stages {
    let Timings { dns_s, connect_s, tls_s, first_byte_s } = timings;
    // What is left after the first byte is the body.
    let body_s = first_byte_s.map(|_| (fetch_s as f32 - timings.sum_s()).max(0.0));
    Stages { dns_s, connect_s, tls_s, first_byte_s, body_s, parse_s: None, append_s: None }
}

/// The client of a target that is reached through a socket (`__unix_socket__`).
pub(crate) fn socket_client(target: &Target, config: &ScrapeConfig) -> Option<Result<Client, String>> {
    let path = target.unix_socket.as_ref()?;
    Some(Client::with_unix_socket(&config.http, path).map_err(|error| error.to_string()))
}

/// What asks the target: with the job's client, or with one of its own.
fn fetcher(params: &Params) -> Result<Arc<Fetcher>, String> {
    let Params { target, spec, settings, .. } = params;
    let client = socket_client(target, &spec.config).unwrap_or_else(|| Ok(spec.client.clone()))?;
    let accept = accept_header(&spec.config);
    let request = request(target, &spec.config, &accept, &settings.user_agent, None);
    Ok(Arc::new(Fetcher::new(client, &request)))
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// The timer of a loop, from slot to slot.
struct Slots(Pin<Box<Sleep>>);

impl ActorFuture<ScrapeLoop> for Slots {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        this: &mut ScrapeLoop,
        ctx: &mut Managed<ScrapeLoop>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        loop {
            ready!(self.0.as_mut().poll(task));
            match this.tick(ctx) {
                // Always later than now, so this comes to rest.
                Some(next) => self.0.as_mut().reset(next),
                None => return Poll::Ready(()),
            }
        }
    }
}

impl Actor for ScrapeLoop {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
    }
}

impl Supervised for ScrapeLoop {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = ScrapeLoop::new(self.params.clone());
    }
}

impl ManagedActor for ScrapeLoop {
    const KIND: &'static str = "scrape_loop";
}

impl Handler<UpdateJob> for ScrapeLoop {
    type Result = ();

    /// Goes on with what it knows and where it is: interval and timeout are part of a target's identity, so neither can
    /// differ here.
    fn handle(&mut self, UpdateJob(spec): UpdateJob, _: &mut Self::Context) {
        let target = Arc::clone(&self.params.target);
        self.engine = self.engine.take().map(|engine| engine.reconfigured(target, Arc::clone(&spec.config)));
        self.params.spec = spec;
        self.fetcher = fetcher(&self.params);
    }
}

impl Handler<EndTarget> for ScrapeLoop {
    type Result = ();

    /// Waits two ticks and a little, for the target may come back under another loop, whose samples then make the markers
    /// out of order; marks with the time of the first of the two.
    fn handle(&mut self, _: EndTarget, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.ending, true) {
            return;
        }
        let next_ns = self.first_ns + i64::from(self.slot) * self.interval_ns();
        let next = self.first + self.interval() * self.slot;
        let wait = next.saturating_duration_since(Instant::now()) + self.interval().mul_f64(1.0 + END_SLACK);
        ctx.run_later(wait, move |this, ctx| {
            if let Some(engine) = this.engine.take() {
                let ts_ms = next_ns.div_euclid(1_000_000);
                let storage = &*this.params.storage;
                if let Err(error) = SCRATCH.with_borrow_mut(|scratch| engine.end(ts_ms, scratch, storage)) {
                    let url = this.params.target.url.as_str();
                    log::warn!(component = "scrape manager", target = url, err = error.to_string().as_str(); "stale markers were not written");
                }
            }
            ctx.stop();
        });
    }
}

impl Handler<Drain> for ScrapeLoop {
    type Result = ResponseFuture<()>;

    /// Answered when the scrape under way is stored. No staleness markers: the server stops, or the job was removed.
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        (self.ending, self.drained) = (true, true);
        if !self.fetching {
            ctx.stop();
            return Box::pin(std::future::ready(()));
        }
        // The request ends by its own timeout at the latest.
        let stored = Arc::clone(&self.idle).notified_owned();
        Box::pin(stored)
    }
}
