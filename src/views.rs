//! The web server's sight of the server: implements the traits of the web crate on top of slots, boards and addresses.
//! Everything here answers from snapshots; only a reload and the admission of a query wait for an actor.

mod config;
mod scrapes;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use actix::prelude::*;
use chrono::Utc;
use fk_actorkit::{ActorInfo, ActorState, meter};
use fk_model::name::NameValidation;
use fk_model::{Labels, LabelsBuilder, relabel};
use fk_queries::Board;
use fk_rules::{AlertState, GroupDefaults, Health, RuleDetail, RuleState};
use fk_storage::{Control, TimeRange};
use fk_web::state::{
    self, ActiveTarget, ActorEntry, ActorNode, AdmissionError, AlertingRule, AlertmanagersView, AppState, BuildInfo,
    DroppedTarget, HeadStats, LocalFuture, Mailbox, MetricMetadata, NameCount, Notification, Permit, Queries,
    QuerySettings, Readiness, RelabelStep, ReloadError, RulesView, RuntimeInfo, ScrapePool, ServerControl, StatusView,
    TargetHealth, TargetMetadata, TargetScrapes, TargetsView, TrialError, TrialScrape, TsdbStatus, WalReplay,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::actors::scrape_loop::TargetStatus;
use crate::app::App;
use crate::backtest;
use crate::cli::PROMETHEUS_VERSION;
use crate::evaluation::default_subquery_step;
use crate::messages::config::{Reload, ReloadSource};
use crate::messages::lifecycle::Shutdown;
use crate::messages::query::{Admit, Refused};
use crate::slots::Stage;

/// What the routes work with.
pub fn web_state(app: &Arc<App>, shutdown: Recipient<Shutdown>, gate: Recipient<Admit>) -> Arc<AppState> {
    let trials = Semaphore::new(scrapes::TRIALS_MAX);
    let view = Arc::new(View { app: Arc::clone(app), shutdown, gate, trials, since: Mutex::default() });
    Arc::new(AppState {
        storage: app.web_storage.clone(),
        queries: view.clone(),
        targets: view.clone(),
        rules: view.clone(),
        alertmanagers: view.clone(),
        status: view.clone(),
        control: view,
        configs: Arc::new(config::Configs::new(app)),
        admin: Arc::new(storage::Admin::new(app)),
        registry: app.registry.clone(),
        options: app.settings.web(),
    })
}

struct View {
    app: Arc<App>,
    shutdown: Recipient<Shutdown>,
    gate: Recipient<Admit>,
    /// Scrapes on demand.
    trials: Semaphore,
    /// When each notification was first seen that has no time of its own, ms.
    since: Mutex<BTreeMap<String, i64>>,
}

impl Queries for View {
    fn admit<'a>(&'a self, query: &'a str, control: &'a Control) -> LocalFuture<'a, Result<Permit, AdmissionError>> {
        let admit = Admit { text: query.to_owned(), control: control.clone(), rule: false };
        Box::pin(async move {
            match self.gate.send(admit).await {
                Ok(Ok(permit)) => Ok(Permit::new(permit)),
                Ok(Err(Refused::TooManyWaiting)) => {
                    Err(AdmissionError::Overloaded { running: self.app.gate.slots(), waiting: self.app.gate.waiting() })
                }
                Ok(Err(Refused::Closed)) => Err(AdmissionError::Unavailable("the server is stopping".to_owned())),
                Err(error) => Err(AdmissionError::Unavailable(error.to_string())),
            }
        })
    }

    fn settings(&self) -> QuerySettings {
        let engine = &self.app.engine;
        QuerySettings {
            lookback: engine.lookback.to_std(),
            timeout: engine.timeout,
            max_samples: engine.max_samples,
            default_subquery_step: default_subquery_step(&self.app.slots).to_std(),
            delayed_name_removal: engine.delayed_name_removal,
            use_start_timestamps: engine.use_start_timestamps,
            parser: engine.parser,
            per_step_stats: engine.per_step_stats,
        }
    }

    fn board(&self) -> &Arc<Board> {
        &self.app.queries
    }
}

impl TargetsView for View {
    fn pools(&self) -> Vec<ScrapePool> {
        let pool = |view: crate::actors::scrape_pool::PoolView| {
            let name = view.spec.config.job_name.clone();
            ScrapePool {
                config_yaml: view.spec.config.shown_yaml.as_str().into(),
                active: view.targets.iter().map(|(target, status)| active_target(&name, target, status)).collect(),
                dropped: view
                    .dropped
                    .iter()
                    .map(|target| DroppedTarget {
                        discovered_labels: target.discovered.clone(),
                        scrape_pool: name.clone(),
                    })
                    .collect(),
                dropped_count: view.dropped_count,
                name,
            }
        };
        self.app.scrape.pools().iter().map(|state| pool(state.view())).collect()
    }

    fn metadata(&self, metric: Option<&str>) -> Vec<TargetMetadata> {
        let mut out = Vec::new();
        for pool in self.app.scrape.pools() {
            for (target, status) in pool.view().targets {
                let Some(metadata) = status.metadata().map(|handle| handle.snapshot()) else { continue };
                let families = metadata.iter().filter(|(name, _)| metric.is_none_or(|metric| metric == name.as_str()));
                let metrics = families
                    .map(|(name, family)| MetricMetadata {
                        metric: name.clone(),
                        kind: family.kind.name().to_owned(),
                        help: family.help.clone(),
                        unit: family.unit.clone(),
                    })
                    .collect();
                out.push(TargetMetadata { target: target.public_labels.clone(), metrics });
            }
        }
        out
    }

    fn relabel_steps(&self, pool: &str, labels: Labels) -> Option<Vec<RelabelStep>> {
        let job = self.app.scrape.pool(pool)?.spec().config;
        let mut labels = LabelsBuilder::from(&labels);
        let mut keep = true;
        let steps = job.relabel_configs.iter().map(|rule| {
            keep = keep && relabel::process_with(std::slice::from_ref(rule), &mut labels, job.metric_name_validation);
            let output = if keep { labels.build() } else { Labels::empty() };
            RelabelStep { rule: rule.clone(), output, keep }
        });
        Some(steps.collect())
    }

    fn scrapes(&self, pool: &str, url: Option<&str>, limit: usize) -> Option<Vec<TargetScrapes>> {
        let view = self.app.scrape.pool(pool)?.view();
        let wanted = view.targets.iter().filter(|(target, _)| url.is_none_or(|url| target.url == url)).take(limit);
        Some(wanted.map(|(target, status)| scrapes::of_target(pool, target, status)).collect())
    }

    fn scrapes_of(&self, id: &str) -> Option<TargetScrapes> {
        let (spec, target, status) = scrapes::find(&self.app.scrape, id)?;
        Some(scrapes::of_target(&spec.config.job_name, &target, &status))
    }

    fn try_scrape<'a>(&'a self, id: &'a str) -> LocalFuture<'a, Result<TrialScrape, TrialError>> {
        Box::pin(scrapes::try_scrape(&self.app, &self.trials, id))
    }
}

fn active_target(pool: &str, target: &fk_scrape::Target, status: &TargetStatus) -> ActiveTarget {
    let last = status.last();
    ActiveTarget {
        discovered_labels: target.discovered.clone(),
        labels: target.public_labels.clone(),
        scrape_pool: pool.to_owned(),
        scrape_url: target.url.clone(),
        global_url: String::new(),
        health: match (&last.at_ms, &last.error) {
            (None, _) => TargetHealth::Unknown,
            (Some(_), None) => TargetHealth::Up,
            (Some(_), Some(_)) => TargetHealth::Down,
        },
        last_error: last.error.unwrap_or_default(),
        last_scrape: last.at_ms,
        last_scrape_duration: last.duration_s,
        scrape_interval: target.labels.value("__scrape_interval__").to_owned(),
        scrape_timeout: target.labels.value("__scrape_timeout__").to_owned(),
    }
}

impl RulesView for View {
    fn groups(&self) -> Vec<Arc<state::RuleGroup>> {
        let cells = self.app.rules.cells();
        cells.iter().map(|cell| Arc::new(rule_group(&cell.snapshot.load()))).collect()
    }

    fn history(
        &self,
        wanted: &dyn Fn(&Labels) -> bool,
        times: TimeRange,
        limit: usize,
    ) -> (Vec<state::AlertHistory>, bool) {
        let Some(records) = self.app.slots.records.load_full() else { return (Vec::new(), false) };
        let (found, more) = records.ledger.history(wanted, times.mint, times.maxt, limit);
        (found.into_iter().map(alert_history).collect(), more)
    }

    fn backtest(
        &self,
        rules: &str,
        file: &str,
        times: TimeRange,
        control: &Control,
    ) -> Result<state::BacktestReport, String> {
        let app = &self.app;
        let (Some(db), Some(loaded)) = (app.slots.db.load_full(), app.slots.config.load_full()) else {
            return Err("the server is starting".to_owned());
        };
        let global = &loaded.config.global;
        let world = backtest::World {
            parser: app.engine.parser,
            // What is refused by the stricter one is told when the file is loaded.
            validation: NameValidation::Utf8,
            options: app.engine.query_options(&app.slots),
            defaults: GroupDefaults { interval: global.evaluation_interval, query_offset: global.rule_query_offset },
            external_labels: global.external_labels.clone(),
            external_url: Arc::clone(&app.settings.external_url),
            rules: app.settings.rules(),
        };
        let asked = backtest::Asked {
            rules: rules.to_owned(),
            file: file.to_owned(),
            start_ms: times.mint,
            end_ms: times.maxt,
        };
        backtest::run(&asked, &world, &*db, control).map(backtest::shown)
    }
}

fn alert_history(history: fk_ledger::History) -> state::AlertHistory {
    let (file, group) = history.group.split_once(';').unwrap_or((&history.group, ""));
    let entry = |entry: fk_ledger::Entry| match entry {
        fk_ledger::Entry::Transition(transition) => state::AlertHistoryEntry::State {
            state: transition.event.name(),
            time: transition.at_ms,
            value: transition.value,
        },
        fk_ledger::Entry::Delivery(delivery) => state::AlertHistoryEntry::Delivery {
            alertmanager: delivery.alertmanager.to_string(),
            resolved: delivery.resolved,
            first_attempt: delivery.first_ms,
            last_attempt: delivery.last_ms,
            attempts: delivery.attempts,
            error: delivery.error.as_deref().unwrap_or_default().to_owned(),
        },
    };
    state::AlertHistory {
        labels: history.labels,
        file: file.to_owned(),
        group: group.to_owned(),
        entries: history.entries.into_iter().map(entry).collect(),
    }
}

fn rule_group(group: &fk_rules::GroupSnapshot) -> state::RuleGroup {
    state::RuleGroup {
        name: group.name.to_string(),
        file: group.file.to_string(),
        interval_s: group.interval.as_secs_f64(),
        limit: group.limit,
        evaluation_time_s: group.evaluation_s,
        last_evaluation: group.last_evaluation_ns,
        rules: group.rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &fk_rules::RuleSnapshot) -> state::Rule {
    let alerting = match &rule.detail {
        RuleDetail::Recording => None,
        RuleDetail::Alerting { state, hold, keep_firing, annotations, alerts } => Some(AlertingRule {
            state: match state {
                RuleState::Unknown => state::AlertState::Unknown,
                RuleState::Inactive => state::AlertState::Inactive,
                RuleState::Pending => state::AlertState::Pending,
                RuleState::Firing => state::AlertState::Firing,
            },
            hold_s: hold.as_secs_f64(),
            keep_firing_for_s: keep_firing.as_secs_f64(),
            annotations: annotations.clone(),
            alerts: alerts.iter().map(alert).collect(),
        }),
    };
    state::Rule {
        name: rule.name.to_string(),
        query: rule.query.to_string(),
        labels: rule.labels.clone(),
        removed_labels: rule.removed_labels.clone(),
        health: match rule.health {
            Health::Unknown => state::RuleHealth::Unknown,
            Health::Good => state::RuleHealth::Ok,
            Health::Bad => state::RuleHealth::Err,
        },
        last_error: rule.last_error.clone(),
        evaluation_time_s: rule.evaluation_s,
        last_evaluation: rule.last_evaluation_ns,
        alerting,
    }
}

fn alert(alert: &fk_rules::AlertSnapshot) -> state::Alert {
    state::Alert {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        state: match alert.state {
            AlertState::Pending => state::AlertState::Pending,
            AlertState::Firing => state::AlertState::Firing,
        },
        active_at: alert.active_at_ns,
        keep_firing_since: alert.keep_firing_since_ns,
        value: alert.value,
    }
}

impl AlertmanagersView for View {
    fn active(&self) -> Vec<String> {
        self.app.notify.active()
    }

    fn dropped(&self) -> Vec<String> {
        self.app.notify.dropped()
    }
}

impl StatusView for View {
    fn readiness(&self) -> Readiness {
        match self.app.slots.stage() {
            Stage::Starting => Readiness::Starting,
            Stage::Ready => Readiness::Ready,
            Stage::Stopping => Readiness::Stopping,
        }
    }

    fn config_yaml(&self) -> Arc<str> {
        self.app.slots.config.load().as_ref().map_or_else(|| "".into(), |loaded| loaded.shown_yaml.as_str().into())
    }

    fn external_labels(&self) -> Labels {
        let loaded = self.app.slots.config.load();
        loaded.as_ref().map_or_else(Labels::empty, |loaded| loaded.config.global.external_labels.clone())
    }

    fn flags(&self) -> BTreeMap<String, String> {
        self.app.settings.options.shown.clone()
    }

    fn build(&self) -> BuildInfo {
        BuildInfo {
            version: PROMETHEUS_VERSION.to_owned(),
            revision: option_env!("FIREKEEPER_REVISION").unwrap_or("unknown").to_owned(),
            branch: format!("firekeeper-{}", env!("CARGO_PKG_VERSION")),
            build_user: String::new(),
            build_date: option_env!("FIREKEEPER_BUILD_DATE").unwrap_or_default().to_owned(),
            go_version: String::new(),
        }
    }

    fn runtime(&self) -> RuntimeInfo {
        let slots = &self.app.slots;
        let reload = *slots.reload.lock();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        RuntimeInfo {
            start_time: slots.started.timestamp_millis(),
            cwd: std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
            hostname: self.app.settings.host_name.clone(),
            server_time: Utc::now().timestamp_millis(),
            reload_config_success: reload.successful,
            // As in Prometheus, which keeps it as a metric in seconds.
            last_config_time: reload.last_success.map_or(0, |time| time.timestamp() * 1000),
            corruption_count: slots.db.load().as_ref().map_or(0, |db| db.replayed().log.damages.len() as u64),
            goroutine_count: crate::process_metrics::threads(),
            gomaxprocs: cores,
            gomemlimit: i64::MAX,
            gogc: String::new(),
            godebug: String::new(),
            storage_retention: self.app.settings.retention(slots.config.load().as_deref()),
        }
    }

    fn tsdb(&self, limit: usize) -> TsdbStatus {
        let Some(db) = self.app.slots.db.load_full() else { return TsdbStatus::default() };
        let stats = db.stats(limit);
        let rows = |rows: Vec<fk_tsdb::head::NameCount>| -> Vec<NameCount> {
            rows.into_iter().map(|row| NameCount { name: row.name, value: row.count }).collect()
        };
        TsdbStatus {
            head_stats: HeadStats {
                num_series: stats.status.series as u64,
                num_label_pairs: stats.status.label_pairs as u64,
                chunk_count: stats.status.chunks as i64,
                min_time: stats.status.min_time,
                max_time: stats.status.max_time,
            },
            series_count_by_metric_name: rows(stats.series_count_by_metric_name),
            label_value_count_by_label_name: rows(stats.label_value_count_by_label_name),
            memory_in_bytes_by_label_name: rows(stats.memory_in_bytes_by_label_name),
            series_count_by_label_value_pair: rows(stats.series_count_by_label_value_pair),
        }
    }

    fn wal_replay(&self) -> WalReplay {
        let progress = *self.app.slots.replay.lock();
        WalReplay { min: u64::from(progress.min), max: u64::from(progress.max), current: u64::from(progress.current) }
    }

    fn notifications(&self) -> Vec<Notification> {
        let slots = &self.app.slots;
        let mut out = Vec::new();
        let mut since = self.since.lock();
        let mut first_seen = BTreeMap::new();
        let mut since_seen = |text: &str| {
            let date = since.get(text).copied().unwrap_or_else(|| Utc::now().timestamp_millis());
            first_seen.insert(text.to_owned(), date);
            date
        };
        let mut add = |text: &str, date: i64| out.push(Notification { text: text.to_owned(), date, active: true });
        // Texts as in Prometheus:
        match slots.stage() {
            Stage::Starting => {
                add("Prometheus is starting and replaying the write-ahead log (WAL).", slots.started.timestamp_millis())
            }
            Stage::Stopping => {
                let text = "Prometheus is shutting down and gracefully stopping all operations.";
                add(text, since_seen(text));
            }
            Stage::Ready => {}
        }
        let health = storage::health(slots);
        if let Some(reason) = health.read_only {
            let text = format!("The storage takes no samples: {reason}.");
            add(&text, since_seen(&text));
        }
        if !health.quarantined.is_empty() {
            let names: Vec<&str> = health.quarantined.iter().map(|block| block.ulid.as_str()).collect();
            let text =
                format!("Damaged blocks were moved out of the way, queries go without them: {}.", names.join(", "));
            add(&text, slots.started.timestamp_millis());
        }
        for block in health.scrubbed.iter().filter(|block| !block.damage.is_empty()) {
            let text = format!("Block {} is damaged: {}.", block.ulid, block.damage.join("; "));
            add(&text, block.checked_time);
        }
        let reload = *slots.reload.lock();
        if let (false, Some(failed)) = (reload.successful, reload.last_failure) {
            add("Configuration reload has failed.", failed.timestamp_millis());
        }
        *since = first_seen;
        out
    }

    fn features(&self) -> BTreeMap<String, BTreeMap<String, bool>> {
        crate::features::map(&self.app.settings.options)
    }

    fn actor_list(&self) -> Vec<ActorEntry> {
        let actors = self.app.board.actors();
        let present: BTreeSet<u64> = actors.iter().map(|actor| actor.id).collect();
        actors.into_iter().map(|actor| actor_entry(actor, &present)).collect()
    }

    fn mailboxes(&self) -> Vec<Mailbox> {
        let kinds: BTreeSet<&'static str> = self.app.board.actors().iter().map(|actor| actor.kind).collect();
        let mailbox =
            |kind: &str| Mailbox { kind: kind.to_owned(), waiting: meter::depth(kind), dropped: meter::dropped(kind) };
        kinds.into_iter().map(mailbox).collect()
    }

    fn actors(&self) -> ActorNode {
        let actors = self.app.board.actors();
        let present: BTreeSet<u64> = actors.iter().map(|actor| actor.id).collect();
        let mut children: BTreeMap<Option<u64>, Vec<&ActorInfo>> = BTreeMap::new();
        for actor in &actors {
            // An actor whose parent has left the board is shown at the root.
            let parent = actor.parent.filter(|parent| present.contains(parent));
            children.entry(parent).or_default().push(actor);
        }
        let mut roots = children.get(&None).cloned().unwrap_or_default();
        let Some(root) = (!roots.is_empty()).then(|| roots.remove(0)) else { return ActorNode::default() };
        let mut node = actor_node(root, &children);
        node.children.extend(roots.into_iter().map(|actor| actor_node(actor, &children)));
        node
    }
}

/// One moment by both clocks: what is told of an actor that does nothing has to be the same each time.
static MOMENT: LazyLock<(Instant, i64)> = LazyLock::new(|| (Instant::now(), Utc::now().timestamp_millis()));

fn actor_entry(actor: ActorInfo, present: &BTreeSet<u64>) -> ActorEntry {
    let (moment, moment_ms) = *MOMENT;
    let before = moment.saturating_duration_since(actor.started).as_millis() as i64;
    let after = actor.started.saturating_duration_since(moment).as_millis() as i64;
    let since = moment_ms - before + after;
    let at = |age: Duration| since + age.as_millis() as i64;
    ActorEntry {
        id: actor.id,
        parent: actor.parent.filter(|parent| present.contains(parent)),
        kind: actor.kind.to_owned(),
        name: actor.name,
        state: web_actor_state(actor.state),
        since,
        restarts: u64::from(actor.restarts),
        handled: actor.handled,
        busy_seconds: actor.busy.map_or(0, |busy| busy.as_secs()),
        handling: actor.handling.to_vec(),
        slow: actor
            .slow
            .into_iter()
            .map(|slow| state::SlowMessage {
                time: at(slow.at_age),
                message: slow.message.to_owned(),
                waited_seconds: slow.waited.as_secs_f64(),
                took_seconds: slow.took.as_secs_f64(),
            })
            .collect(),
        failures: actor
            .failures
            .into_iter()
            .map(|failure| state::ActorFailure {
                time: at(failure.at_age),
                message: failure.message.to_owned(),
                text: failure.text,
            })
            .collect(),
    }
}

fn web_actor_state(state: ActorState) -> state::ActorState {
    match state {
        ActorState::Starting | ActorState::Running => state::ActorState::Running,
        ActorState::Restarting => state::ActorState::Restarting,
        ActorState::Failed => state::ActorState::Failed,
        ActorState::Stopped => state::ActorState::Stopped,
    }
}

fn actor_node(actor: &ActorInfo, children: &BTreeMap<Option<u64>, Vec<&ActorInfo>>) -> ActorNode {
    let below = children.get(&Some(actor.id)).map_or(&[][..], Vec::as_slice);
    ActorNode {
        kind: actor.kind.to_owned(),
        name: actor.name.clone(),
        state: web_actor_state(actor.state),
        restarts: u64::from(actor.restarts),
        handled: actor.handled,
        busy_seconds: actor.busy.map_or(0.0, |busy| busy.as_secs_f64()),
        last_progress: Some(Utc::now().timestamp_millis() - actor.idle.as_millis() as i64),
        last_error: actor.last_panic.clone(),
        children: below.iter().map(|child| actor_node(child, children)).collect(),
    }
}

impl ServerControl for View {
    fn reload(&self) -> LocalFuture<'_, Result<(), ReloadError>> {
        Box::pin(async move {
            let failed = |messages| Err(ReloadError { messages });
            let Some(reloader) = self.app.reloader() else { return failed(vec!["the server is starting".to_owned()]) };
            match reloader.send(Reload(ReloadSource::Http)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => failed(error.0),
                Err(error) => failed(vec![format!("config reloader: {error}")]),
            }
        })
    }

    fn quit(&self) -> bool {
        let first = self.app.slots.stage() != Stage::Stopping;
        if first {
            self.shutdown.do_send(Shutdown { reason: "/-/quit".to_owned() });
        }
        first
    }

    #[cfg(feature = "chaos")]
    fn inject_panic(&self, kind: &str, name: Option<&str>) -> bool {
        self.app.board.inject_panic(kind, name) > 0
    }
}
