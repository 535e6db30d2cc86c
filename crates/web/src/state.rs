//! What the HTTP API needs from the rest of the server, as traits and plain data. The server implements the traits on
//! top of its actors; this crate knows no actor. Views answer from snapshots: they never wait and never touch a disk.
//!
//! Times are milliseconds since the Unix epoch unless a name says otherwise. The data types serialise to exactly the
//! JSON of Prometheus' API (`/api/v1/targets` and so on), since this crate is the edge that speaks that format.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fk_instrument::Registry;
use fk_model::relabel::RelabelRule;
use fk_model::{Labels, Matcher, Regex};
use fk_promql_syntax::ParserOptions;
use fk_queries::Board;
use fk_storage::{Control, Storage, StorageError, TimeRange};
use serde::Serialize;

use crate::json;

/// A future that stays on the thread of the web worker that made it.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Everything the routes work with. One for the whole server, shared by all web workers.
pub struct AppState {
    /// The local storage, once it is open.
    pub storage: StorageSlot,
    /// Admission of queries.
    pub queries: Arc<dyn Queries>,
    /// Scrape targets.
    pub targets: Arc<dyn TargetsView>,
    /// Rules and alerts.
    pub rules: Arc<dyn RulesView>,
    /// Alertmanagers.
    pub alertmanagers: Arc<dyn AlertmanagersView>,
    /// State of the server.
    pub status: Arc<dyn StatusView>,
    /// What the lifecycle routes do.
    pub control: Arc<dyn ServerControl>,
    /// Configurations that are not in force: past ones and tried ones.
    pub configs: Arc<dyn ConfigView>,
    /// What people do with the data directory.
    pub admin: Arc<dyn StorageAdmin>,
    /// The server's own metrics, shown at `/metrics`; the web server adds its own.
    pub registry: Registry,
    /// Flags.
    pub options: WebOptions,
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Holds the storage from the moment it is open. Clones share the slot.
#[derive(Clone, Default)]
pub struct StorageSlot(Arc<ArcSwapOption<Arc<dyn Storage>>>);

impl StorageSlot {
    /// An empty slot.
    pub fn new() -> StorageSlot {
        StorageSlot::default()
    }

    /// Puts the open storage in.
    pub fn set(&self, storage: Arc<dyn Storage>) {
        self.0.store(Some(Arc::new(storage)));
    }

    /// Takes the storage out again (shutdown). Requests that hold it go on with it.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// The storage, if it is open.
    pub fn get(&self) -> Option<Arc<dyn Storage>> {
        self.0.load().as_ref().map(|storage| Arc::clone(&**storage))
    }
}

impl fmt::Debug for StorageSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.load().is_some() { "StorageSlot(open)" } else { "StorageSlot(empty)" })
    }
}

/// Flags of the web server and of the query engine.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// `--web.external-url`, resolved, without trailing slash: `http://host:9090/path`.
    pub external_url: String,
    /// `--web.route-prefix`, normalised: empty, or `/path` without trailing slash.
    pub route_prefix: String,
    /// Port of the first listener; targets on this machine with this port are shown under the external URL.
    pub listen_port: u16,
    /// `--web.enable-lifecycle`
    pub lifecycle: bool,
    /// `--web.enable-admin-api`
    pub admin: bool,
    /// `--web.enable-remote-write-receiver`
    pub remote_write_receiver: bool,
    /// `--storage.remote.read-concurrent-limit`; 0: no limit.
    pub read_concurrent_max: usize,
    /// `--storage.remote.read-sample-limit`; 0: no limit.
    pub read_samples_max: usize,
    /// `--storage.remote.read-max-bytes-in-frame`
    pub read_frame_bytes: usize,
    /// `--enable-feature=search-api`
    pub search: bool,
    /// `--web.search.max-limit`; 0: no limit.
    pub search_limit_max: usize,
    /// `--web.user-assets`
    pub user_assets: Option<PathBuf>,
    /// `--web.cors.origin`
    pub cors_origin: Regex,
    /// `--web.page-title`
    pub page_title: String,
    /// `--web.read-timeout`: for reading one whole request.
    pub read_timeout: Duration,
    /// `--web.max-connections`, all listeners together.
    pub max_connections: usize,
    /// `--web.max-notifications-subscribers`
    pub notification_subscribers_max: usize,
    /// `--web.config.file`: TLS, passwords, headers, rate limit.
    pub web_config: Option<PathBuf>,
    /// Threads that serve requests; `None`: as many as there are cores, at most [`crate::WORKERS_MAX`].
    pub workers: Option<usize>,
}

impl Default for WebOptions {
    /// The defaults of the flags.
    fn default() -> WebOptions {
        WebOptions {
            external_url: "http://localhost:9090".into(),
            route_prefix: String::new(),
            listen_port: 9090,
            lifecycle: false,
            admin: false,
            remote_write_receiver: false,
            read_concurrent_max: 10,
            read_samples_max: 50_000_000,
            read_frame_bytes: 1 << 20,
            search: false,
            search_limit_max: 10_000,
            user_assets: None,
            cors_origin: Regex::new(".*").expect("a constant expression that compiles"),
            page_title: "Prometheus Time Series Collection and Processing Server".into(),
            read_timeout: Duration::from_secs(300),
            max_connections: 512,
            notification_subscribers_max: 16,
            web_config: None,
            workers: None,
        }
    }
}

// === Queries ===

/// The gate in front of query evaluation.
pub trait Queries: Send + Sync {
    /// Waits for a free slot. The caller bounds the wait by dropping the future. The gate may end the query by `control`,
    /// the one it is evaluated under.
    fn admit<'a>(&'a self, query: &'a str, control: &'a Control) -> LocalFuture<'a, Result<Permit, AdmissionError>>;

    /// How queries are evaluated at present; some of it follows the configuration file.
    fn settings(&self) -> QuerySettings;

    /// The list of queries that run.
    fn board(&self) -> &Arc<Board>;
}

/// A slot of the query gate. Dropping it frees the slot.
pub struct Permit(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send>);

impl Permit {
    /// Wraps whatever frees the slot when it is dropped.
    pub fn new(guard: impl Any + Send) -> Permit {
        Permit(Box::new(guard))
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// Why a query may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// As many queries wait as may wait.
    #[error("too many queries: {waiting} are waiting for one of {running} slots (--query.max-concurrency)")]
    Overloaded {
        /// How many run.
        running: usize,
        /// How many wait.
        waiting: usize,
    },
    /// The gate is not there: the server stops, or the gate is being restarted.
    #[error("queries are not accepted at the moment: {0}")]
    Unavailable(String),
}

/// How queries are evaluated. The default is that of the flags.
#[derive(Clone, Debug)]
pub struct QuerySettings {
    /// `--query.lookback-delta`
    pub lookback: Duration,
    /// `--query.timeout`
    pub timeout: Duration,
    /// `--query.max-samples`
    pub max_samples: usize,
    /// Step of subqueries without one: `global.evaluation_interval`.
    pub default_subquery_step: Duration,
    /// Feature `promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// Feature `use-start-timestamps`.
    pub use_start_timestamps: bool,
    /// Feature `promql-per-step-stats`: `stats=all` shows samples by step.
    pub per_step_stats: bool,
    /// What the parser accepts.
    pub parser: ParserOptions,
}

impl Default for QuerySettings {
    fn default() -> QuerySettings {
        QuerySettings {
            lookback: Duration::from_secs(300),
            timeout: Duration::from_secs(120),
            max_samples: 50_000_000,
            default_subquery_step: Duration::from_secs(60),
            delayed_name_removal: false,
            use_start_timestamps: false,
            per_step_stats: false,
            parser: ParserOptions::default(),
        }
    }
}

// === Targets ===

/// The scrape manager's targets.
pub trait TargetsView: Send + Sync {
    /// All scrape pools in order of name.
    fn pools(&self) -> Vec<ScrapePool>;

    /// Metadata of active targets: of `metric` only, if given.
    fn metadata(&self, metric: Option<&str>) -> Vec<TargetMetadata>;

    /// What each relabelling rule of a pool does to these labels; `None`: there is no such pool.
    fn relabel_steps(&self, pool: &str, labels: Labels) -> Option<Vec<RelabelStep>>;

    /// The last scrapes of the targets of a pool, of the one with this URL only if it is given; at most `limit` targets.
    fn scrapes(&self, pool: &str, url: Option<&str>, limit: usize) -> Option<Vec<TargetScrapes>>;

    /// The last scrapes of the target with this id.
    fn scrapes_of(&self, id: &str) -> Option<TargetScrapes>;

    /// Scrapes the target with this id now, and stores nothing.
    fn try_scrape<'a>(&'a self, id: &'a str) -> LocalFuture<'a, Result<TrialScrape, TrialError>>;
}

/// A scrape of which nothing was stored.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialScrape {
    /// See [`TargetScrapes::id`].
    pub id: String,
    /// Name of the pool.
    pub scrape_pool: String,
    /// What was asked for.
    pub scrape_url: String,
    /// What came of it. Every series is new, and the storage had no say.
    pub scrape: PastScrape,
    /// The body, as far as it is shown; `None`: there is none.
    pub body: Option<KeptBody>,
}

/// Why there was no trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialError {
    /// There is no such target.
    NotFound,
    /// Others are under way, so many.
    Busy(usize),
    /// The server stops.
    Stopping,
}

/// One relabelling rule at work.
#[derive(Clone, Debug)]
pub struct RelabelStep {
    /// The rule.
    pub rule: RelabelRule,
    /// The labels behind it; empty if the target is dropped by it or by one before.
    pub output: Labels,
    /// Whether the target is still there.
    pub keep: bool,
}

/// The last scrapes of one target.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetScrapes {
    /// Tells it from all other targets, as long as its labels and its URL stay.
    pub id: String,
    /// Name of its pool.
    pub scrape_pool: String,
    /// Where it is scraped.
    pub scrape_url: String,
    /// Labels after relabelling.
    #[serde(serialize_with = "json::labels")]
    pub labels: Labels,
    /// The newest first.
    pub scrapes: Vec<PastScrape>,
    /// The last body that could not be stored.
    pub failed_body: Option<KeptBody>,
}

/// A scrape that is over.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PastScrape {
    /// Its timestamp, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub time: i64,
    /// Until the whole body was there, s.
    pub fetch_seconds: f32,
    /// Where the time went.
    pub stages: ScrapeStages,
    /// All of it but storing, s.
    pub duration_seconds: f32,
    /// Bytes received.
    pub wire_bytes: u32,
    /// Bytes of the decompressed body; -1: it hit `body_size_limit`.
    pub body_bytes: i64,
    /// Samples exposed.
    pub samples_scraped: u32,
    /// Of these, not dropped by relabelling.
    pub samples_post_metric_relabeling: u32,
    /// New series.
    pub series_added: u32,
    /// What relabelling dropped.
    pub dropped: Vec<DroppedSamples>,
    /// Why it failed; empty: it did not.
    pub error: String,
}

/// How long each stage of a scrape took, s; absent where it was not reached or not needed, as all that comes before the request
/// on a connection that was kept.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrapeStages {
    /// Finding the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_seconds: Option<f32>,
    /// Connecting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_seconds: Option<f32>,
    /// The handshake of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_seconds: Option<f32>,
    /// Until the first byte of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_seconds: Option<f32>,
    /// Reading the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_seconds: Option<f32>,
    /// Parsing and relabelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse_seconds: Option<f32>,
    /// Storing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_seconds: Option<f32>,
}

/// What a rule of `metric_relabel_configs` dropped of a scrape.
#[derive(Clone, Debug, Serialize)]
pub struct DroppedSamples {
    /// The rule, counted from 0; `None`: no rule dropped them, but they had no labels left.
    pub rule: Option<u16>,
    /// How many series.
    pub series: u64,
}

/// A body, as far as it is kept: one that could not be stored, or one of a trial.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptBody {
    /// Timestamp of its scrape, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub time: i64,
    /// What was wrong with it; empty: nothing.
    pub error: String,
    /// As the target says.
    pub content_type: String,
    /// Its size.
    pub body_bytes: usize,
    /// What is kept of it. Bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The line of the body with which `text` begins, from 1.
    pub first_line: usize,
    /// Line of the error, from 1, if it has a place.
    pub line: Option<usize>,
    /// Column of the error in bytes, from 1, if it has a place.
    pub column: Option<usize>,
}

/// One scrape pool (one `scrape_configs` entry).
#[derive(Clone, Debug, Default)]
pub struct ScrapePool {
    /// `job_name`
    pub name: String,
    /// Its configuration as YAML with secrets masked.
    pub config_yaml: Arc<str>,
    /// Targets that are scraped.
    pub active: Vec<ActiveTarget>,
    /// Targets that relabelling dropped, as many as are kept.
    pub dropped: Vec<DroppedTarget>,
    /// How many targets relabelling dropped in all.
    pub dropped_count: usize,
}

/// A target that is scraped.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveTarget {
    /// Labels before relabelling.
    #[serde(serialize_with = "json::labels")]
    pub discovered_labels: Labels,
    /// Labels after relabelling.
    #[serde(serialize_with = "json::labels")]
    pub labels: Labels,
    /// Name of its pool.
    pub scrape_pool: String,
    /// Where it is scraped.
    pub scrape_url: String,
    /// The same for people elsewhere; made from `scrape_url` by the API when left empty.
    pub global_url: String,
    /// Error of the last scrape; empty: none.
    pub last_error: String,
    /// Start of the last scrape, ms.
    #[serde(serialize_with = "json::rfc3339_or_zero")]
    pub last_scrape: Option<i64>,
    /// How long it took, s.
    pub last_scrape_duration: f64,
    /// Outcome of the last scrape.
    pub health: TargetHealth,
    /// As the label `__scrape_interval__` has it.
    pub scrape_interval: String,
    /// As the label `__scrape_timeout__` has it.
    pub scrape_timeout: String,
}

/// Outcome of the last scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetHealth {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// It worked.
    Up,
    /// It failed.
    Down,
}

impl TargetHealth {
    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            TargetHealth::Unknown => "unknown",
            TargetHealth::Up => "up",
            TargetHealth::Down => "down",
        }
    }
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DroppedTarget {
    /// Labels before relabelling.
    #[serde(serialize_with = "json::labels")]
    pub discovered_labels: Labels,
    /// Name of its pool.
    pub scrape_pool: String,
}

/// Metadata of one target.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    /// The target's labels after relabelling.
    pub target: Labels,
    /// Its metrics in order of name.
    pub metrics: Vec<MetricMetadata>,
}

/// Metadata of one metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricMetadata {
    /// Name of the metric family.
    pub metric: String,
    /// `counter`, `gauge`, `histogram`, `summary`, `unknown`, ...
    pub kind: String,
    /// Help text.
    pub help: String,
    /// Unit.
    pub unit: String,
}

// === Rules and alerts ===

/// The rule manager's groups.
pub trait RulesView: Send + Sync {
    /// All groups, in order of file and then name.
    fn groups(&self) -> Vec<Arc<RuleGroup>>;

    /// What became of the alerts that `wanted` accepts between two times, ms; the alert of which something was heard last comes
    /// first, `limit` of them at most. Says whether there are more.
    fn history(&self, wanted: &dyn Fn(&Labels) -> bool, times: TimeRange, limit: usize) -> (Vec<AlertHistory>, bool);

    /// Runs the group of `rules` (YAML) over stored data between two times, until `control` ends it. Evaluation times depend on
    /// the path of the rule file as well. Takes its time. The error says what is wrong with the group.
    fn backtest(&self, rules: &str, file: &str, times: TimeRange, control: &Control) -> Result<BacktestReport, String>;
}

/// A rule group over stored data: what it would have done.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BacktestReport {
    /// Evaluation times.
    pub evaluations: u64,
    /// The first of them, ms.
    #[serde(serialize_with = "json::rfc3339_or_zero", skip_serializing_if = "Option::is_none")]
    pub first_evaluation: Option<i64>,
    /// The last of them, ms.
    #[serde(serialize_with = "json::rfc3339_or_zero", skip_serializing_if = "Option::is_none")]
    pub last_evaluation: Option<i64>,
    /// How often people would have heard of something new: an alert that begins to fire, or is resolved.
    pub notifications: u64,
    /// How many alerts would have been sent to each Alertmanager, repeats included.
    pub sends: u64,
    /// The rules, in their order.
    pub rules: Vec<BacktestRule>,
    /// The alerts, by labels.
    pub alerts: Vec<BacktestAlert>,
    /// Why it ended before the last evaluation time; empty: it did not.
    pub stopped: String,
}

/// What would have become of one rule.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BacktestRule {
    /// Name of the metric or the alert.
    pub name: String,
    /// `alerting` or `recording`.
    pub r#type: &'static str,
    /// Failed evaluations.
    pub failures: u64,
    /// When the first of them was, ms.
    #[serde(serialize_with = "json::rfc3339_or_zero", skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<i64>,
    /// What it said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub first_error: String,
}

/// What would have become of one alert.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BacktestAlert {
    /// Labels.
    #[serde(serialize_with = "json::labels")]
    pub labels: Labels,
    /// How often it would have been sent to each Alertmanager.
    pub sends: u64,
    /// Oldest first.
    pub events: Vec<BacktestEvent>,
}

/// Something that would have happened to an alert.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BacktestEvent {
    /// `pending`, `firing`, `resolved` or `ended`.
    pub state: &'static str,
    /// Evaluation time, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub time: i64,
    /// Value of the expression when it was last seen.
    #[serde(serialize_with = "json::exponent_value")]
    pub value: f64,
}

/// What became of one alert.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertHistory {
    /// Labels, without external labels.
    #[serde(serialize_with = "json::labels")]
    pub labels: Labels,
    /// Its rule file.
    pub file: String,
    /// Its rule group.
    pub group: String,
    /// Oldest first.
    pub entries: Vec<AlertHistoryEntry>,
}

/// Something that happened to an alert.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AlertHistoryEntry {
    /// Its state changed.
    State {
        /// `pending`, `firing`, `resolved` or `ended`.
        state: &'static str,
        /// Evaluation time, ms.
        #[serde(serialize_with = "json::rfc3339")]
        time: i64,
        /// Value of the expression when it was last seen.
        #[serde(serialize_with = "json::exponent_value")]
        value: f64,
    },
    /// An Alertmanager was told, once or several times with the same result.
    Delivery {
        /// Its URL.
        alertmanager: String,
        /// Whether it was told that the alert is resolved.
        resolved: bool,
        /// End of the first attempt, ms.
        #[serde(serialize_with = "json::rfc3339")]
        first_attempt: i64,
        /// End of the last attempt, ms.
        #[serde(serialize_with = "json::rfc3339")]
        last_attempt: i64,
        /// How many.
        attempts: u64,
        /// Why they failed; empty: they were taken.
        error: String,
    },
}

/// A rule group.
#[derive(Clone, Debug, Default)]
pub struct RuleGroup {
    /// Name.
    pub name: String,
    /// File.
    pub file: String,
    /// Interval, s.
    pub interval_s: f64,
    /// Most results of one rule; 0: no limit.
    pub limit: u64,
    /// Length of the last evaluation, s.
    pub evaluation_time_s: f64,
    /// Time of the last evaluation, ns.
    pub last_evaluation: Option<i64>,
    /// Rules in order of evaluation.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name of the alert, or of the metric written.
    pub name: String,
    /// Expression in Prometheus' one-line form.
    pub query: String,
    /// Labels, templates not expanded.
    pub labels: Labels,
    /// Names of labels that are empty: the rule takes them off its results.
    pub removed_labels: Vec<String>,
    /// Outcome of the last evaluation.
    pub health: RuleHealth,
    /// Error of the last evaluation; empty: none.
    pub last_error: String,
    /// Length of the last evaluation, s.
    pub evaluation_time_s: f64,
    /// Time of the last evaluation, ns.
    pub last_evaluation: Option<i64>,
    /// Present for alerting rules.
    pub alerting: Option<AlertingRule>,
}

/// The part of a rule that only alerting rules have.
#[derive(Clone, Debug, Default)]
pub struct AlertingRule {
    /// The highest state of its alerts.
    pub state: AlertState,
    /// `for`, s.
    pub hold_s: f64,
    /// `keep_firing_for`, s.
    pub keep_firing_for_s: f64,
    /// Annotations in order of name, templates not expanded.
    pub annotations: Vec<(String, String)>,
    /// Pending and firing alerts.
    pub alerts: Vec<Alert>,
}

/// Outcome of a rule's last evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// It worked.
    Ok,
    /// It failed.
    Err,
}

/// State of an alert or of an alerting rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// Nothing is wrong.
    Inactive,
    /// Active for less than `for`.
    Pending,
    /// Firing.
    Firing,
}

/// A pending or firing alert.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Labels, `alertname` included.
    #[serde(serialize_with = "json::labels")]
    pub labels: Labels,
    /// Annotations, expanded, in order of name. Not a label set: an annotation may be empty.
    #[serde(serialize_with = "json::pairs")]
    pub annotations: Vec<(String, String)>,
    /// Pending or firing.
    pub state: AlertState,
    /// Since when it is active, ns.
    #[serde(serialize_with = "json::rfc3339_ns")]
    pub active_at: i64,
    /// Since when only `keep_firing_for` keeps it firing, ns.
    #[serde(serialize_with = "json::rfc3339_ns_or_zero", skip_serializing_if = "Option::is_none")]
    pub keep_firing_since: Option<i64>,
    /// Value of the expression.
    #[serde(serialize_with = "json::exponent_value")]
    pub value: f64,
}

// === Alertmanagers ===

/// The notifier's Alertmanagers.
pub trait AlertmanagersView: Send + Sync {
    /// URLs of those that get alerts.
    fn active(&self) -> Vec<String>;

    /// URLs of those that relabelling dropped.
    fn dropped(&self) -> Vec<String>;
}

// === Status ===

/// Whether the server serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    #[default]
    Starting,
    /// Yes.
    Ready,
    /// No longer.
    Stopping,
}

/// State of the server.
pub trait StatusView: Send + Sync {
    /// Whether the gated routes answer.
    fn readiness(&self) -> Readiness;

    /// The configuration in force as YAML, secrets masked.
    fn config_yaml(&self) -> Arc<str>;

    /// `global.external_labels`
    fn external_labels(&self) -> Labels;

    /// Every flag and its value.
    fn flags(&self) -> BTreeMap<String, String>;

    /// Version.
    fn build(&self) -> BuildInfo;

    /// Process.
    fn runtime(&self) -> RuntimeInfo;

    /// Head block, with at most `limit` entries in each list. Called on a thread that may block.
    fn tsdb(&self, limit: usize) -> TsdbStatus;

    /// Progress of the write-ahead log's replay.
    fn wal_replay(&self) -> WalReplay;

    /// Notifications for people.
    fn notifications(&self) -> Vec<Notification>;

    /// Category, feature, whether it is on (`/api/v1/features`).
    fn features(&self) -> BTreeMap<String, BTreeMap<String, bool>>;

    /// The tree of actors.
    fn actors(&self) -> ActorNode;

    /// The same actors one by one, with what they did lately, in order of their numbers.
    fn actor_list(&self) -> Vec<ActorEntry>;

    /// Messages that wait, by kind of actor.
    fn mailboxes(&self) -> Vec<Mailbox>;
}

/// `/api/v1/status/buildinfo`
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// Version of Prometheus that the API corresponds to: dashboards decide by it what they may use.
    pub version: String,
    /// Commit.
    pub revision: String,
    /// Branch.
    pub branch: String,
    /// Who built it.
    pub build_user: String,
    /// When.
    pub build_date: String,
    /// Go's version in Prometheus; the compiler's here.
    pub go_version: String,
}

/// `/api/v1/status/runtimeinfo`
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeInfo {
    /// Start of the process, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub start_time: i64,
    /// Working directory.
    #[serde(rename = "CWD")]
    pub cwd: String,
    /// Name of the machine.
    pub hostname: String,
    /// The clock now, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub server_time: i64,
    /// Whether the last reload succeeded.
    pub reload_config_success: bool,
    /// Time of the last successful load, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub last_config_time: i64,
    /// Damaged places found in the write-ahead log.
    pub corruption_count: u64,
    /// Threads.
    pub goroutine_count: u64,
    /// Cores used.
    #[serde(rename = "GOMAXPROCS")]
    pub gomaxprocs: u64,
    /// Memory limit, bytes.
    #[serde(rename = "GOMEMLIMIT")]
    pub gomemlimit: i64,
    /// Always empty.
    #[serde(rename = "GOGC")]
    pub gogc: String,
    /// Always empty.
    #[serde(rename = "GODEBUG")]
    pub godebug: String,
    /// Retention as text, such as `15d` or `15d or 10GiB`.
    pub storage_retention: String,
}

/// `/api/v1/status/tsdb`
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TsdbStatus {
    /// The head block.
    pub head_stats: HeadStats,
    /// Metric names with most series.
    pub series_count_by_metric_name: Vec<NameCount>,
    /// Label names with most values.
    pub label_value_count_by_label_name: Vec<NameCount>,
    /// Label names whose values take most memory, bytes.
    pub memory_in_bytes_by_label_name: Vec<NameCount>,
    /// Label pairs (`name=value`) with most series.
    pub series_count_by_label_value_pair: Vec<NameCount>,
}

/// The head block.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadStats {
    /// Series.
    pub num_series: u64,
    /// Different label pairs.
    pub num_label_pairs: u64,
    /// Chunks.
    pub chunk_count: i64,
    /// Oldest time, ms.
    pub min_time: i64,
    /// Newest time, ms.
    pub max_time: i64,
}

/// A row of a statistics list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NameCount {
    /// What.
    pub name: String,
    /// How many.
    pub value: u64,
}

/// `/api/v1/status/walreplay`, segment numbers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct WalReplay {
    /// First.
    pub min: u64,
    /// Last.
    pub max: u64,
    /// Being read.
    pub current: u64,
}

/// A notification for people who look at the user interface.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// Text.
    pub text: String,
    /// Since when, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub date: i64,
    /// Whether it still holds.
    pub active: bool,
}

/// An actor and those it supervises.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorNode {
    /// Kind, the name that the chaos route takes.
    pub kind: String,
    /// Name; with the kind it says which actor it is.
    pub name: String,
    /// State.
    pub state: ActorState,
    /// Restarts after a panic or failure since the start of the process.
    pub restarts: u64,
    /// Messages handled.
    pub handled: u64,
    /// How long it has been inside one handler, s; 0: it is not.
    pub busy_seconds: f64,
    /// When it last finished a message or timer, ms.
    #[serde(serialize_with = "json::rfc3339_or_zero")]
    pub last_progress: Option<i64>,
    /// Why it failed the last time; empty: it never did.
    pub last_error: String,
    /// Actors it supervises.
    pub children: Vec<ActorNode>,
}

/// One actor, for those who watch (`/api/v1/ext/actors/live`).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorEntry {
    /// Number, unique while the process runs.
    pub id: u64,
    /// The actor that started it, if that is still there.
    pub parent: Option<u64>,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// State.
    pub state: ActorState,
    /// Since when it exists, ms since the epoch.
    pub since: i64,
    /// Restarts.
    pub restarts: u64,
    /// Messages handled.
    pub handled: u64,
    /// How long it has been inside one handler, whole seconds; 0: it is not, or not for long.
    pub busy_seconds: u64,
    /// How many handlers took at most how long, by the bounds of [`ActorUpdate`].
    pub handling: Vec<u32>,
    /// The last slow messages, the newest last.
    pub slow: Vec<SlowMessage>,
    /// Why it was restarted, the newest last.
    pub failures: Vec<ActorFailure>,
}

/// A message whose handler was slow.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowMessage {
    /// When, ms since the epoch.
    pub time: i64,
    /// Its type.
    pub message: String,
    /// From sending to handling, s.
    pub waited_seconds: f64,
    /// How long its handler took, s.
    pub took_seconds: f64,
}

/// A panic of an actor.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorFailure {
    /// When, ms since the epoch.
    pub time: i64,
    /// The type of the message taken last.
    pub message: String,
    /// Text of the panic.
    pub text: String,
}

/// The mailboxes of all actors of a kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mailbox {
    /// Kind.
    pub kind: String,
    /// Messages that wait.
    pub waiting: i64,
    /// Messages discarded unhandled.
    pub dropped: u64,
}

/// What those who watch the actors get: everything at first, then what has changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorUpdate<'a> {
    /// The clock, ms.
    pub time: i64,
    /// Whether this is everything.
    pub whole: bool,
    /// Upper bounds of the classes of `handling`, microseconds.
    pub handling_bounds: &'a [u64],
    /// Actors that are new or have changed.
    pub actors: &'a [&'a ActorEntry],
    /// Numbers of those that are gone.
    pub gone: &'a [u64],
    /// Messages that wait.
    pub mailboxes: &'a [Mailbox],
}

/// State of an actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    /// It runs.
    #[default]
    Running,
    /// It failed and waits for its restart.
    Restarting,
    /// It failed too often and stays down.
    Failed,
    /// It has been stopped.
    Stopped,
}

impl ActorState {
    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            ActorState::Running => "running",
            ActorState::Restarting => "restarting",
            ActorState::Failed => "failed",
            ActorState::Stopped => "stopped",
        }
    }
}

// === Storage ===

/// What people see of the data directory and do with it. Everything here is called on threads that may block.
pub trait StorageAdmin: Send + Sync {
    /// `meta.json` of each block that queries are answered from, oldest first.
    fn blocks(&self) -> Result<Vec<serde_json::Value>, StorageError>;

    /// Deletes the samples in `range` of all series that one of the selectors accepts. A dry run counts and changes nothing.
    fn delete(&self, range: TimeRange, selectors: &[Vec<Matcher>], dry_run: bool) -> Result<Deleted, StorageError>;

    /// Gives the space of deleted samples back.
    fn clean_tombstones(&self) -> Result<(), StorageError>;

    /// Makes a copy of the data below `snapshots/`; returns its name there.
    fn snapshot(&self, with_head: bool) -> Result<String, StorageError>;

    /// What is wrong with it.
    fn health(&self) -> StorageHealth;

    /// Why no samples are taken, as of about a second ago; `None`: they are. Does not block.
    fn degraded(&self) -> Option<String>;
}

/// What a deletion deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Series, counted once in each block and once in the head.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Blocks concerned, the head not counted.
    pub blocks: u64,
}

/// `/api/v1/ext/storage`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageHealth {
    /// Why no samples are taken at the moment; `None`: they are.
    pub read_only: Option<String>,
    /// Bytes that can still be written to the disk, if it tells.
    pub free_bytes: Option<u64>,
    /// Damaged blocks that were moved out of the way.
    pub quarantined: Vec<QuarantinedBlock>,
    /// The blocks in use that were read through since they were written, which is done once a week.
    pub scrubbed: Vec<ScrubbedBlock>,
    /// Damaged places that the write-ahead log had at the start.
    pub log_damages: Vec<String>,
}

/// A block that was read through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubbedBlock {
    /// Its name.
    pub ulid: String,
    /// When it was last read to its end, ms since 1970.
    pub checked_time: i64,
    /// What is damaged, a line for each file; empty if it is sound.
    pub damage: Vec<String>,
}

/// A damaged block that was moved out of the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantinedBlock {
    /// Its name.
    pub ulid: String,
    /// Where it is now.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
    /// Time of the first sample that queries miss, ms, if known.
    pub min_time: Option<i64>,
    /// Time behind the last one, ms, if known.
    pub max_time: Option<i64>,
}

// === Configurations that are not in force ===

/// What a configuration would do, and what past ones did.
pub trait ConfigView: Send + Sync {
    /// What a reload would do if this text were in the configuration file. Called on a thread that may block.
    fn plan(&self, yaml: &str) -> Result<ReloadPlan, Vec<ConfigProblem>>;

    /// Past reloads, the newest first.
    fn journal(&self) -> Vec<JournalEntry>;

    /// What these relabelling rules make of the targets of a pool, of at most `limit`. `None`: there is no such pool. Called on a
    /// thread that may block.
    fn try_relabelling(&self, pool: &str, yaml: &str, limit: usize) -> Option<Result<TriedRules, Vec<ConfigProblem>>>;
}

/// Something wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// The file.
    pub file: String,
    /// Line, from 1; 0: not known.
    pub line: usize,
    /// Column, from 1; 0: not known.
    pub column: usize,
    /// What.
    pub message: String,
}

/// What a reload would do.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadPlan {
    /// The configuration in force as YAML, secrets masked.
    pub before: String,
    /// The tried one, in the same form.
    pub after: String,
    /// What becomes of each part.
    pub changes: Vec<ConfigChange>,
    /// What is worth a line.
    pub warnings: Vec<String>,
}

/// What becomes of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigChange {
    /// Kind: `scrape pool`, `rule group`, ...
    pub part: String,
    /// Which one.
    pub name: String,
    /// `start`, `stop`, `change` or `keep`.
    pub effect: &'static str,
    /// In words.
    pub detail: String,
}

/// A past reload.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// When it began, ms.
    #[serde(serialize_with = "json::rfc3339")]
    pub time: i64,
    /// `start`, `signal`, `http` or `watch`.
    pub source: &'static str,
    /// `applied`, `unreadable` or `refused`.
    pub outcome: &'static str,
    /// Reading and checking, s.
    pub read_seconds: f64,
    /// All of it, s.
    pub seconds: f64,
    /// What each part took.
    pub steps: Vec<JournalStep>,
    /// What was to change.
    pub changes: Vec<ConfigChange>,
    /// Why it was not applied.
    pub problems: Vec<String>,
}

/// What one part took for one phase.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalStep {
    /// Which part.
    pub participant: String,
    /// `prepare` or `commit`.
    pub phase: &'static str,
    /// How long, s.
    pub seconds: f64,
    /// Whether it refused or gave no answer.
    pub failed: bool,
}

/// What rules make of targets.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriedRules {
    /// Targets that were discovered.
    pub targets: usize,
    /// Of these, kept by the rules.
    pub kept: usize,
    /// Kept by the rules in force.
    pub kept_before: usize,
    /// Targets that come out other than by the rules in force.
    pub changed: usize,
    /// Kept targets that come out the same as another one.
    pub duplicates: usize,
    /// Each target, up to the limit.
    pub results: Vec<TriedTarget>,
}

/// What rules make of one target.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriedTarget {
    /// As discovered.
    #[serde(serialize_with = "json::labels")]
    pub discovered: Labels,
    /// By the rules in force; empty and not kept: dropped.
    #[serde(serialize_with = "json::labels")]
    pub before: Labels,
    /// Whether the rules in force keep it.
    pub kept_before: bool,
    /// By the tried rules.
    #[serde(serialize_with = "json::labels")]
    pub after: Labels,
    /// Whether the tried rules keep it.
    pub kept: bool,
    /// The labels behind each of the tried rules; `null`: dropped there or before.
    pub steps: Vec<Option<BTreeMap<String, String>>>,
}

// === Control ===

/// What the lifecycle routes do.
pub trait ServerControl: Send + Sync {
    /// Reloads the configuration; done when it is in force or has failed. The error text has one problem per line.
    fn reload(&self) -> LocalFuture<'_, Result<(), ReloadError>>;

    /// Asks the process to end. Whether this is the first time.
    fn quit(&self) -> bool;

    /// Makes all actors of this kind panic, or only the one called `name`. Whether there is such an actor.
    #[cfg(feature = "chaos")]
    fn inject_panic(&self, kind: &str, name: Option<&str>) -> bool;
}

/// A reload that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", messages.join("\n"))]
pub struct ReloadError {
    /// Everything that is wrong.
    pub messages: Vec<String>,
}
