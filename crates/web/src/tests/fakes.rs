//! A server of constants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::body::MessageBody as _;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{App, test};
use fk_instrument::Registry;
use fk_model::relabel::{RelabelAction, RelabelRule};
use fk_model::{Labels, Matcher, Regex};
use fk_queries::Board;
use fk_storage::{Control, MemoryBudget, StorageError, TimeRange};
use fk_testkit::MemoryStorage;
use parking_lot::Mutex;

use crate::Routes;
use crate::state::*;

/// What a query, and all of them, may hold, bytes.
pub(super) const MEMORY_OF_QUERY: u64 = 8 << 20;
const MEMORY_OF_ALL: u64 = 32 << 20;

pub(super) struct Fake {
    pub(super) readiness: Mutex<Readiness>,
    pub(super) reload: Mutex<Result<(), ReloadError>>,
    pub(super) admission: Mutex<Option<AdmissionError>>,
    pub(super) settings: Mutex<QuerySettings>,
    pub(super) slots_taken: Arc<AtomicUsize>,
    pub(super) board: Arc<Board>,
    /// Makes the view of Alertmanagers panic.
    pub(super) broken: AtomicBool,
    quit: AtomicBool,
    /// Ranges, numbers of selectors, and whether it was only to be counted.
    pub(super) deleted: Mutex<Vec<(TimeRange, usize, bool)>>,
    /// Why the storage takes no samples.
    pub(super) degraded: Mutex<Option<String>>,
    /// How often the actors were looked at one by one.
    looks: AtomicU64,
}

/// Gives its slot back when it is dropped.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Queries for Fake {
    fn admit<'a>(&'a self, query: &'a str, control: &'a Control) -> LocalFuture<'a, Result<Permit, AdmissionError>> {
        Box::pin(async move {
            if query == "cancelled_by_the_gate" {
                control.cancel();
            }
            if query == "wait_for_ever" {
                std::future::pending::<()>().await;
            }
            if let Some(error) = self.admission.lock().clone() {
                return Err(error);
            }
            self.slots_taken.fetch_add(1, Ordering::SeqCst);
            Ok(Permit::new(Slot(Arc::clone(&self.slots_taken))))
        })
    }

    fn settings(&self) -> QuerySettings {
        self.settings.lock().clone()
    }

    fn board(&self) -> &Arc<Board> {
        &self.board
    }
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

impl TargetsView for Fake {
    fn pools(&self) -> Vec<ScrapePool> {
        let target = |job: &str, health, last_scrape| ActiveTarget {
            discovered_labels: labels(&[("__address__", "localhost:9090"), ("job", job)]),
            labels: labels(&[("instance", "localhost:9090"), ("job", job)]),
            scrape_pool: job.into(),
            scrape_url: "http://localhost:9090/metrics".into(),
            global_url: String::new(),
            last_error: if health == TargetHealth::Down { "<boom> & \"bust\"".into() } else { String::new() },
            last_scrape,
            last_scrape_duration: 0.25,
            health,
            scrape_interval: "15s".into(),
            scrape_timeout: "10s".into(),
        };
        vec![
            ScrapePool {
                name: "a".into(),
                config_yaml: "job_name: a\n".into(),
                active: vec![target("a", TargetHealth::Up, Some(1500))],
                dropped: vec![DroppedTarget {
                    discovered_labels: labels(&[("__address__", "x:1")]),
                    scrape_pool: "a".into(),
                }],
                dropped_count: 7,
            },
            ScrapePool {
                name: "b".into(),
                active: vec![target("b", TargetHealth::Down, None)],
                ..ScrapePool::default()
            },
        ]
    }

    fn metadata(&self, metric: Option<&str>) -> Vec<TargetMetadata> {
        let entry = |metric: &str, kind: &str, help: &str| MetricMetadata {
            metric: metric.into(),
            kind: kind.into(),
            help: help.into(),
            unit: String::new(),
        };
        let mut all = vec![
            TargetMetadata {
                target: labels(&[("job", "a")]),
                metrics: vec![entry("go_threads", "gauge", "Threads."), entry("x_total", "counter", "Xs.")],
            },
            TargetMetadata { target: labels(&[("job", "b")]), metrics: vec![entry("x_total", "counter", "Exes.")] },
        ];
        if let Some(metric) = metric {
            for target in &mut all {
                target.metrics.retain(|m| m.metric == metric);
            }
        }
        all
    }

    fn relabel_steps(&self, pool: &str, labels: Labels) -> Option<Vec<RelabelStep>> {
        let rule = |target: &str, action| RelabelRule {
            source_labels: vec!["job".into()],
            separator: ";".into(),
            regex: fk_model::Regex::new("(.*)").unwrap(),
            modulus: 0,
            target_label: target.into(),
            replacement: "$1".into(),
            action,
        };
        let step = |rule, keep| RelabelStep { rule, output: if keep { labels.clone() } else { Labels::empty() }, keep };
        (pool == "a")
            .then(|| vec![step(rule("x", RelabelAction::Replace), true), step(rule("", RelabelAction::Drop), false)])
    }

    fn scrapes(&self, pool: &str, url: Option<&str>, limit: usize) -> Option<Vec<TargetScrapes>> {
        let scrape = |time: i64, error: &str| PastScrape {
            time,
            fetch_seconds: 0.25,
            stages: ScrapeStages { first_byte_seconds: Some(0.125), ..ScrapeStages::default() },
            duration_seconds: 0.5,
            wire_bytes: 10,
            body_bytes: 20,
            samples_scraped: 3,
            samples_post_metric_relabeling: 2,
            series_added: 1,
            dropped: vec![DroppedSamples { rule: Some(0), series: 1 }],
            error: error.into(),
        };
        let target = |url: &str| TargetScrapes {
            id: url.replace('/', ""),
            scrape_pool: pool.into(),
            scrape_url: url.into(),
            labels: labels(&[("job", pool)]),
            scrapes: vec![scrape(2000, "it is broken"), scrape(1000, "")],
            failed_body: Some(KeptBody {
                time: 2000,
                error: "it is broken".into(),
                content_type: "text/plain".into(),
                body_bytes: 4,
                text: "x{ 1".into(),
                first_line: 1,
                line: Some(1),
                column: Some(3),
            }),
        };
        let all = ["http://a/", "http://b/"];
        let wanted = all.iter().filter(|one| url.is_none_or(|url| url == **one)).take(limit);
        (pool == "a").then(|| wanted.map(|url| target(url)).collect())
    }

    fn scrapes_of(&self, id: &str) -> Option<TargetScrapes> {
        self.scrapes("a", None, 2)?.into_iter().find(|target| target.id == id)
    }

    fn try_scrape<'a>(&'a self, id: &'a str) -> LocalFuture<'a, Result<TrialScrape, TrialError>> {
        Box::pin(async move {
            if id == "busy" {
                return Err(TrialError::Busy(2));
            }
            let TargetScrapes { id, scrape_pool, scrape_url, mut scrapes, failed_body, .. } =
                self.scrapes_of(id).ok_or(TrialError::NotFound)?;
            Ok(TrialScrape { id, scrape_pool, scrape_url, scrape: scrapes.remove(0), body: failed_body })
        })
    }
}

impl RulesView for Fake {
    fn groups(&self) -> Vec<Arc<RuleGroup>> {
        let recording = |name: &str| Rule {
            name: name.into(),
            query: "sum(up)".into(),
            labels: Labels::empty(),
            removed_labels: vec!["gone".into()],
            health: RuleHealth::Ok,
            last_error: String::new(),
            evaluation_time_s: 0.5,
            last_evaluation: Some(60_000_000_000),
            alerting: None,
        };
        let alert = Alert {
            labels: labels(&[("alertname", "Down"), ("severity", "page")]),
            annotations: vec![("summary".into(), "it is down".into())],
            state: AlertState::Firing,
            active_at: 1_000_000_123,
            keep_firing_since: None,
            value: 1.0,
        };
        let alerting = Rule {
            labels: labels(&[("severity", "page"), ("team", "{{ $labels.team }}")]),
            health: RuleHealth::Unknown,
            last_evaluation: None,
            alerting: Some(AlertingRule {
                state: AlertState::Firing,
                hold_s: 60.0,
                keep_firing_for_s: 0.0,
                annotations: vec![("e".into(), String::new()), ("summary".into(), "it is down".into())],
                alerts: vec![alert],
            }),
            ..recording("Down")
        };
        let group = |file: &str, name: &str, rules: Vec<Rule>| {
            Arc::new(RuleGroup {
                name: name.into(),
                file: file.into(),
                interval_s: 60.0,
                limit: 0,
                evaluation_time_s: 0.75,
                last_evaluation: Some(60_000_000_000),
                rules,
            })
        };
        vec![
            group("f1", "g1", vec![recording("r1"), alerting]),
            group("f1", "g2", vec![recording("r2")]),
            group("f2", "g1", vec![recording("r1")]),
        ]
    }

    fn history(&self, wanted: &dyn Fn(&Labels) -> bool, times: TimeRange, limit: usize) -> (Vec<AlertHistory>, bool) {
        let down = |n: i64| AlertHistory {
            labels: labels(&[("alertname", "Down"), ("n", &n.to_string())]),
            file: "f1".into(),
            group: "g1".into(),
            entries: vec![
                AlertHistoryEntry::State { state: "firing", time: n * 1000, value: 2.5 },
                AlertHistoryEntry::Delivery {
                    alertmanager: "http://am/".into(),
                    resolved: false,
                    first_attempt: n * 1000 + 1,
                    last_attempt: n * 1000 + 500,
                    attempts: 3,
                    error: "timed out".into(),
                },
            ],
        };
        let all = (0..10).filter(|n| times.mint <= n * 1000 && n * 1000 <= times.maxt).map(down);
        let found: Vec<AlertHistory> = all.filter(|alert| wanted(&alert.labels)).collect();
        let more = found.len() > limit;
        (found.into_iter().take(limit).collect(), more)
    }

    fn backtest(&self, rules: &str, _: &str, times: TimeRange, _: &Control) -> Result<BacktestReport, String> {
        if rules != "good" {
            return Err(format!("bad rules {rules:?}"));
        }
        let events = vec![BacktestEvent { state: "firing", time: times.mint, value: 1.5 }];
        let alert = BacktestAlert { labels: labels(&[("alertname", "Down")]), sends: 2, events };
        Ok(BacktestReport {
            evaluations: 7,
            last_evaluation: Some(times.maxt),
            alerts: vec![alert],
            ..Default::default()
        })
    }
}

impl AlertmanagersView for Fake {
    fn active(&self) -> Vec<String> {
        assert!(!self.broken.load(Ordering::SeqCst), "this view panics on purpose");
        vec!["http://am:9093/api/v2/alerts".into()]
    }

    fn dropped(&self) -> Vec<String> {
        Vec::new()
    }
}

impl StatusView for Fake {
    fn readiness(&self) -> Readiness {
        *self.readiness.lock()
    }

    fn config_yaml(&self) -> Arc<str> {
        "global: {}\n".into()
    }

    fn external_labels(&self) -> Labels {
        labels(&[("zone", "z")])
    }

    fn flags(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("query.timeout".into(), "2m".into())])
    }

    fn build(&self) -> BuildInfo {
        BuildInfo { version: "3.14.0".into(), ..BuildInfo::default() }
    }

    fn runtime(&self) -> RuntimeInfo {
        RuntimeInfo { cwd: "/".into(), storage_retention: "15d".into(), ..RuntimeInfo::default() }
    }

    fn tsdb(&self, limit: usize) -> TsdbStatus {
        let rows = (0..limit as u64).map(|n| NameCount { name: format!("n{n}"), value: n });
        TsdbStatus { series_count_by_metric_name: rows.collect(), ..TsdbStatus::default() }
    }

    fn wal_replay(&self) -> WalReplay {
        WalReplay { min: 1, max: 3, current: 2 }
    }

    fn notifications(&self) -> Vec<Notification> {
        vec![Notification { text: "Configuration reload has failed.".into(), date: 50, active: true }]
    }

    fn features(&self) -> BTreeMap<String, BTreeMap<String, bool>> {
        BTreeMap::from([("prometheus".into(), BTreeMap::from([("server_mode".into(), true)]))])
    }

    fn actor_list(&self) -> Vec<ActorEntry> {
        let entry = |id, parent, kind: &str, handled| ActorEntry {
            id,
            parent,
            kind: kind.into(),
            name: format!("{kind}<{id}>"),
            handled,
            handling: vec![handled as u32; 12],
            ..ActorEntry::default()
        };
        // Each look finds more messages handled by the second one, and the third gone.
        let looks = self.looks.fetch_add(1, Ordering::SeqCst);
        let mut all = vec![entry(1, None, "lifecycle", 1), entry(2, Some(1), "scrape", looks)];
        if looks == 0 {
            all.push(entry(3, Some(1), "rule", 7));
        }
        all
    }

    fn mailboxes(&self) -> Vec<Mailbox> {
        vec![Mailbox { kind: "scrape".into(), waiting: 3, dropped: 1 }]
    }

    fn actors(&self) -> ActorNode {
        let child =
            ActorNode { name: "scrape<1>".into(), state: ActorState::Restarting, restarts: 3, ..ActorNode::default() };
        ActorNode { name: "root".into(), children: vec![child], ..ActorNode::default() }
    }
}

impl ServerControl for Fake {
    fn reload(&self) -> LocalFuture<'_, Result<(), ReloadError>> {
        Box::pin(async { self.reload.lock().clone() })
    }

    fn quit(&self) -> bool {
        !self.quit.swap(true, Ordering::SeqCst)
    }

    #[cfg(feature = "chaos")]
    fn inject_panic(&self, kind: &str, name: Option<&str>) -> bool {
        kind == "scrape/1" && name.is_none_or(|name| name == "a b")
    }
}

impl ConfigView for Fake {
    /// Takes everything but texts with `wrong` in them.
    fn plan(&self, yaml: &str) -> Result<ReloadPlan, Vec<ConfigProblem>> {
        if let Some(line) = yaml.lines().position(|line| line.contains("wrong")) {
            let message = "it is wrong".to_owned();
            return Err(vec![ConfigProblem { file: "main.yml".into(), line: line + 1, column: 3, message }]);
        }
        let change = ConfigChange { part: "scrape pool".into(), name: "a".into(), effect: "stop", detail: "".into() };
        Ok(ReloadPlan { after: yaml.into(), changes: vec![change], ..ReloadPlan::default() })
    }

    fn journal(&self) -> Vec<JournalEntry> {
        let step = JournalStep { participant: "rules".into(), phase: "prepare", seconds: 0.5, failed: false };
        vec![JournalEntry {
            time: 1000,
            source: "signal",
            outcome: "applied",
            read_seconds: 0.25,
            seconds: 1.0,
            steps: vec![step],
            changes: vec![],
            problems: vec![],
        }]
    }

    fn try_relabelling(&self, pool: &str, yaml: &str, limit: usize) -> Option<Result<TriedRules, Vec<ConfigProblem>>> {
        let problem = ConfigProblem { file: "rules".into(), line: 1, column: 0, message: "no rules".into() };
        let tried = TriedRules { targets: limit, ..TriedRules::default() };
        (pool == "a").then(|| if yaml.is_empty() { Err(vec![problem]) } else { Ok(tried) })
    }
}

impl StorageAdmin for Fake {
    fn blocks(&self) -> Result<Vec<serde_json::Value>, StorageError> {
        Ok(vec![serde_json::json!({ "ulid": "01DXXFZDYD1MQW6079WK0K6EDQ", "minTime": 1, "maxTime": 2 })])
    }

    /// Everything that is asked for is noted; a selector called `broken` fails.
    fn delete(&self, range: TimeRange, selectors: &[Vec<Matcher>], dry_run: bool) -> Result<Deleted, StorageError> {
        if selectors.iter().flatten().any(|matcher| matcher.value == "broken") {
            return Err(StorageError::ReadOnly("disk full".to_owned()));
        }
        self.deleted.lock().push((range, selectors.len(), dry_run));
        Ok(Deleted { series: 2, samples: 30, blocks: 1 })
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn snapshot(&self, with_head: bool) -> Result<String, StorageError> {
        Ok(if with_head { "whole" } else { "blocks" }.to_owned())
    }

    fn health(&self) -> StorageHealth {
        StorageHealth { read_only: Some("disk full".to_owned()), ..StorageHealth::default() }
    }

    fn degraded(&self) -> Option<String> {
        self.degraded.lock().clone()
    }
}

/// A fake server.
pub(super) struct World {
    pub(super) fake: Arc<Fake>,
    pub(super) storage: Arc<MemoryStorage>,
    pub(super) state: Arc<AppState>,
    pub(super) routes: Routes,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Got {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.body))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    /// A ready server with the default flags.
    pub(super) fn new() -> World {
        World::with(|_| {})
    }

    /// A ready server with other flags.
    pub(super) fn with(change: impl FnOnce(&mut WebOptions)) -> World {
        let registry = Registry::new();
        let fake = Arc::new(Fake {
            readiness: Mutex::new(Readiness::Ready),
            reload: Mutex::new(Ok(())),
            admission: Mutex::new(None),
            settings: Mutex::new(QuerySettings { timeout: Duration::from_secs(20), ..QuerySettings::default() }),
            slots_taken: Arc::default(),
            board: Board::new(MemoryBudget::new(MEMORY_OF_QUERY, MEMORY_OF_ALL), &registry),
            broken: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            deleted: Mutex::default(),
            degraded: Mutex::default(),
            looks: AtomicU64::new(0),
        });
        let storage = Arc::new(MemoryStorage::new());
        let mut options = WebOptions::default();
        change(&mut options);
        let slot = StorageSlot::new();
        slot.set(Arc::clone(&storage) as Arc<dyn fk_storage::Storage>);
        let state = Arc::new(AppState {
            storage: slot,
            queries: Arc::clone(&fake) as Arc<dyn Queries>,
            targets: Arc::clone(&fake) as Arc<dyn TargetsView>,
            rules: Arc::clone(&fake) as Arc<dyn RulesView>,
            alertmanagers: Arc::clone(&fake) as Arc<dyn AlertmanagersView>,
            status: Arc::clone(&fake) as Arc<dyn StatusView>,
            control: Arc::clone(&fake) as Arc<dyn ServerControl>,
            configs: Arc::clone(&fake) as Arc<dyn ConfigView>,
            admin: Arc::clone(&fake) as Arc<dyn StorageAdmin>,
            registry,
            options,
        });
        let routes = Routes::new(Arc::clone(&state));
        World { fake, storage, state, routes }
    }

    /// Sends a request with headers and a body.
    pub(super) async fn send(&self, request: test::TestRequest) -> Got {
        let routes = self.routes.clone();
        let app = test::init_service(App::new().configure(move |config| routes.configure(config))).await;
        let response = test::call_service(&app, request.to_request()).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().try_into_bytes().map(|bytes| bytes.to_vec());
        let body = match body {
            Ok(bytes) => bytes,
            Err(body) => actix_web::body::to_bytes(body).await.unwrap_or_default().to_vec(),
        };
        Got { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// `GET`; characters that a URL cannot have are encoded.
    pub(super) async fn get(&self, path: &str) -> Got {
        let encoded = percent_encoding::utf8_percent_encode(path, &NOT_IN_URLS).to_string();
        self.send(test::TestRequest::get().uri(&encoded)).await
    }

    pub(super) async fn post(&self, path: &str) -> Got {
        self.send(test::TestRequest::post().uri(path)).await
    }

    /// Sends a form.
    pub(super) async fn form(&self, path: &str, form: &str) -> Got {
        let request = test::TestRequest::post().uri(path);
        self.send(
            request.insert_header(("content-type", "application/x-www-form-urlencoded")).set_payload(form.to_owned()),
        )
        .await
    }
}

pub(super) fn regex(source: &str) -> Regex {
    Regex::new(source).unwrap()
}

const NOT_IN_URLS: percent_encoding::AsciiSet = percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'{')
    .add(b'}')
    .add(b'<')
    .add(b'>')
    .add(b'|')
    .add(b'^')
    .add(b'`');

/// A path with encoded parameters.
pub(super) fn with_params<'a>(path: &str, params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    format!("{path}?{}", encoded(params))
}

pub(super) fn encoded<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    params.into_iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}
