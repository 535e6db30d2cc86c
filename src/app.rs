//! The composition root: makes the engines' handles, starts the actors in their order, knows how they stop. The only file
//! that knows every actor.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use actix::prelude::*;
use fk_actorkit::{Board, Spec};
use fk_config::{DiscoveryConfig, Loaded};
use fk_instrument::{Gauge, Registry};
use fk_ledger::Records;
use fk_web::state::StorageSlot;
use parking_lot::Mutex;

use crate::actors::config_reloader::{self, ConfigReloader};
use crate::actors::discovery_manager::{self, DiscoveryManager, SdMetrics, Sections};
use crate::actors::ledger_keeper::{self, LedgerKeeper};
use crate::actors::lifecycle::Lifecycle;
use crate::actors::notifier::{self, Notifier, NotifierState};
use crate::actors::query_gate::{self, GateState, QueryGate};
use crate::actors::remote_storage::{self, Door, Front, RemoteStorage};
use crate::actors::rule_group::RuleMetrics;
use crate::actors::rule_manager::{self, RuleManager, RuleState};
use crate::actors::scrape_loop::ScrapeMetrics;
use crate::actors::scrape_manager::{self, ScrapeManager, ScrapeState};
use crate::actors::signals::{self, Signals, Streams};
use crate::actors::storage_keeper::{self, StorageKeeper};
use crate::actors::web_server::{self, WebServer};
use crate::evaluation::{EngineFlags, RuleQueries};
use crate::messages::config::Participant;
use crate::messages::discovery::TargetGroups;
use crate::messages::lifecycle::{Drain, Fatal, ReloadReady};
use crate::settings::Settings;
use crate::slots::Slots;
use crate::views;

/// Threads that scrape. Parsing and appending a scrape takes well under a millisecond, so a few serve thousands of targets.
const SCRAPE_THREADS_MAX: usize = 4;

/// A subsystem to stop.
pub struct Drainable {
    /// For the log.
    pub name: &'static str,
    /// Where to ask.
    pub address: Recipient<Drain>,
    /// How long it may take.
    pub deadline: Duration,
}

/// The actors that run from the first moment.
#[derive(Clone)]
pub struct Early {
    /// Reads and applies the configuration.
    pub reloader: Addr<ConfigReloader>,
    keeper: Addr<StorageKeeper>,
    remote: Addr<RemoteStorage>,
    gate: Addr<QueryGate>,
    web: Addr<WebServer>,
    /// Kept so that it lives.
    _signals: Addr<Signals>,
}

impl Early {
    /// Who hears the reload-ready broadcast.
    pub fn reload_ready(&self) -> Vec<Recipient<ReloadReady>> {
        vec![self.remote.clone().recipient(), self.gate.clone().recipient(), self.reloader.clone().recipient()]
    }
}

/// The actors that start after the reload-ready broadcast.
#[derive(Clone)]
struct Late {
    scrape_discovery: Addr<DiscoveryManager>,
    notify_discovery: Addr<DiscoveryManager>,
    rules: Addr<RuleManager>,
    scrape: Addr<ScrapeManager>,
    notifier: Addr<Notifier>,
    ledger: Addr<LedgerKeeper>,
}

/// Everything a server is made of. One per process (or per test).
pub struct App {
    /// Flags.
    pub settings: Arc<Settings>,
    /// The storage as the web server sees it.
    pub web_storage: StorageSlot,
    /// What parts publish for each other.
    pub slots: Arc<Slots>,
    /// Every actor.
    pub board: Board,
    /// The server's own metrics.
    pub registry: Registry,
    /// `firekeeper_stuck_actors`
    pub stuck_actors: Gauge,
    /// Admission of queries.
    pub gate: Arc<GateState>,
    /// The door for pushed samples.
    pub door: Arc<Door>,
    /// Running rule groups.
    pub rules: Arc<RuleState>,
    /// Running scrape pools.
    pub scrape: Arc<ScrapeState>,
    /// Running Alertmanager senders.
    pub notify: Arc<NotifierState>,
    /// Flags about queries.
    pub engine: EngineFlags,
    /// The list of queries that run.
    pub queries: Arc<fk_queries::Board>,
    reloader: Arc<config_reloader::ReloaderState>,
    signals: Arc<Mutex<Option<Streams>>>,
    listeners: Mutex<Vec<TcpListener>>,
    arbiters: Mutex<Vec<Arbiter>>,
    early: Mutex<Option<Early>>,
    late: Mutex<Option<Late>>,
    exit_code: AtomicI32,
}

impl App {
    /// Makes the handles; starts nothing.
    pub fn new(settings: Settings, judged: Arc<Loaded>, signals: Streams, listeners: Vec<TcpListener>) -> Arc<App> {
        let registry = Registry::new();
        let board = Board::new();
        let slots = Arc::new(Slots::new());
        fk_actorkit::meter::register(&registry);
        board.register(&registry);
        config_reloader::Params::register(&slots, &registry);
        crate::process_metrics::register(&registry, &slots);
        let engine = settings.engine();
        Arc::new(App {
            stuck_actors: registry
                .gauge("firekeeper_stuck_actors", "Actors that have been inside one handler for many seconds."),
            gate: GateState::new(settings.options.query_max_concurrency, &registry),
            door: Door::new(Arc::clone(&slots)),
            rules: Arc::default(),
            scrape: Arc::default(),
            notify: Arc::default(),
            engine,
            queries: fk_queries::Board::new(settings.query_memory(), &registry),
            reloader: Arc::new(config_reloader::ReloaderState::new(judged)),
            signals: Arc::new(Mutex::new(Some(signals))),
            listeners: Mutex::new(listeners),
            arbiters: Mutex::default(),
            early: Mutex::default(),
            late: Mutex::default(),
            exit_code: AtomicI32::new(0),
            settings: Arc::new(settings),
            web_storage: StorageSlot::new(),
            slots,
            board,
            registry,
        })
    }

    /// The actors that run from the first moment, once they were started.
    pub fn early(&self) -> Option<Early> {
        self.early.lock().clone()
    }

    /// Past reloads, the newest first.
    pub fn reloads(&self) -> Vec<crate::reload_journal::Entry> {
        self.reloader.journal()
    }

    /// The config reloader, once it runs.
    pub fn reloader(&self) -> Option<Addr<ConfigReloader>> {
        self.early.lock().as_ref().map(|early| early.reloader.clone())
    }

    fn arbiter(&self) -> ArbiterHandle {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        self.arbiters.lock().push(arbiter);
        handle
    }

    /// Starts what runs from the first moment: signals, web, storage, query gate, remote storage, config reloader.
    pub fn start_early(self: &Arc<App>, lifecycle: &Addr<Lifecycle>, parent: u64) -> Result<(), String> {
        let (board, slots, settings) = (&self.board, &self.slots, &self.settings);
        let options = &settings.options;
        let spec = |name: &str| Spec::named(name).child_of(parent);
        let tell = lifecycle.clone();
        board.on_escalation(move |escalation| {
            let error = format!("{} {} panicked too often", escalation.kind, escalation.name);
            if tell.connected() {
                tell.do_send(Fatal { subsystem: escalation.kind.to_owned(), error });
            } else {
                // The supervisor itself is gone: nobody is left to stop anything in order. The storage's log is complete.
                log::error!(component = "lifecycle", err = error.as_str(); "Fatal error");
                std::process::exit(1);
            }
        });

        let params = config_reloader::Params {
            state: Arc::clone(&self.reloader),
            path: options.config_file.clone(),
            load: settings.load.clone(),
            auto_reload: options.auto_reload.then(|| options.auto_reload_interval.to_std()),
            slots: Arc::clone(slots),
        };
        let reloader = board.spawn(spec("reloader"), |_| ConfigReloader::new(params));

        let params = signals::Params {
            streams: Arc::clone(&self.signals),
            shutdown: lifecycle.clone().recipient(),
            fatal: lifecycle.clone().recipient(),
            reload: reloader.clone().recipient(),
        };
        let signals = board.spawn(spec("signals"), |_| Signals::new(params));

        let params = query_gate::Params { state: Arc::clone(&self.gate), board: Arc::clone(&self.queries) };
        let gate = board.spawn(spec("gate"), |_| QueryGate::new(params));
        let params = remote_storage::Params { door: Arc::clone(&self.door) };
        let remote = board.spawn(spec("remote"), |_| RemoteStorage::new(params));

        let listeners = std::mem::take(&mut *self.listeners.lock());
        let state = views::web_state(self, lifecycle.clone().recipient(), gate.clone().recipient());
        let server =
            fk_web::serve(listeners, state).map_err(|error| format!("starting the web server failed: {error}"))?;
        let params = web_server::Params { handle: server.handle() };
        actix::spawn(server);
        let web = board.spawn(spec("web"), |_| WebServer::new(params));

        let params = storage_keeper::Params {
            settings: Arc::clone(settings),
            slots: Arc::clone(slots),
            registry: self.registry.clone(),
            opened: lifecycle.clone().recipient(),
            fatal: lifecycle.clone().recipient(),
        };
        let keeper = board.spawn(spec("tsdb"), |_| StorageKeeper::new(params));
        *self.early.lock() = Some(Early { reloader, keeper, remote, gate, web, _signals: signals });
        Ok(())
    }

    /// Starts the scrape, rule and notifier actors and both discoveries. The participants of reloads, in the order of commits: users
    /// of targets before the discovery that hands them out.
    pub fn start_late(&self) -> Result<Vec<Participant>, String> {
        let (board, slots, settings) = (&self.board, &self.slots, &self.settings);
        let options = &settings.options;
        let early = self.early().ok_or("the first actors were not started")?;
        let db = slots.db.load_full().ok_or("the storage is not open")?;
        let records = Records::clone(&*slots.records.load_full().ok_or("the records of alerts are not open")?);
        let parent = board.actors().iter().find(|actor| actor.parent.is_none()).map(|actor| actor.id);
        let spec = |name: &str| Spec { parent, ..Spec::named(name) };
        // The data directory is ours by now. Users' queries and those of rules have as many slots each.
        self.queries.track_in(&settings.data_path, 2 * options.query_max_concurrency);
        self.web_storage.set(Arc::new(Front::new(Arc::clone(&db), Arc::clone(&self.door))));

        let params = ledger_keeper::Params { records: records.clone() };
        let ledger = board.spawn(spec("alerts"), |_| LedgerKeeper::new(params));

        notifier::register(&self.notify, &self.registry);
        let params = notifier::Params {
            state: Arc::clone(&self.notify),
            slots: Arc::clone(slots),
            board: board.clone(),
            queue_capacity: options.notification_queue_capacity,
            batch_size: options.notification_batch_size,
            drain_on_shutdown: options.drain_notification_queue,
            ledger: Arc::clone(&records.ledger),
            metrics: notifier::NotifyMetrics::new(&self.registry),
        };
        let notifier = board.spawn(spec("notifier"), |_| Notifier::new(params));

        let params = rule_manager::Params {
            state: Arc::clone(&self.rules),
            slots: Arc::clone(slots),
            board: board.clone(),
            arbiter: self.arbiter(),
            queries: Arc::new(RuleQueries::new(
                Arc::clone(&db),
                Arc::clone(slots),
                self.engine.clone(),
                Arc::clone(&self.queries),
            )),
            gate: early.gate.clone().recipient(),
            notifier: notifier.clone().recipient(),
            records: records.clone(),
            eval_slots: settings.rule_slots(),
            external_url: Arc::clone(&settings.external_url),
            options: settings.rules(),
            metrics: RuleMetrics::new(&self.registry),
        };
        let rules = board.spawn(spec("rules"), |_| RuleManager::new(params));

        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(SCRAPE_THREADS_MAX);
        scrape_manager::register(&self.scrape, &self.registry);
        fk_http::limit_bodies(settings.body_memory());
        let params = scrape_manager::Params {
            state: Arc::clone(&self.scrape),
            slots: Arc::clone(slots),
            board: board.clone(),
            arbiters: (0..threads).map(|_| self.arbiter()).collect(),
            storage: Arc::clone(&db),
            settings: settings.scrape(),
            reload_interval: options.discovery_reload_interval.to_std(),
            metrics: ScrapeMetrics::new(&self.registry),
        };
        let scrape = board.spawn(spec("scrape"), |_| ScrapeManager::new(params));

        let sd_metrics = SdMetrics::new(&self.registry);
        let discovery = |name: &'static str, sections: Sections, groups, receiver: Recipient<TargetGroups>| {
            let params = discovery_manager::Params {
                name,
                sections,
                children: Arc::default(),
                groups,
                receiver,
                board: board.clone(),
                metrics: sd_metrics.clone(),
            };
            board.spawn(spec(name), |_| DiscoveryManager::new(params))
        };
        let scrape_discovery =
            discovery("scrape", scrape_sections, Arc::clone(&slots.scrape_groups), scrape.clone().recipient());
        let notify_discovery =
            discovery("notify", notify_sections, Arc::clone(&slots.notify_groups), notifier.clone().recipient());

        let participants = vec![
            Participant { name: "query gate", address: early.gate.clone().recipient() },
            Participant { name: "storage", address: early.keeper.clone().recipient() },
            Participant { name: "scrape manager", address: scrape.clone().recipient() },
            Participant { name: "scrape discovery", address: scrape_discovery.clone().recipient() },
            Participant { name: "notifier", address: notifier.clone().recipient() },
            Participant { name: "notify discovery", address: notify_discovery.clone().recipient() },
            Participant { name: "rule manager", address: rules.clone().recipient() },
        ];
        *self.late.lock() = Some(Late { scrape_discovery, notify_discovery, rules, scrape, notifier, ledger });
        Ok(participants)
    }

    /// The subsystems in the order they stop: nothing is stopped before what feeds it.
    pub fn stop_order(&self) -> Vec<Drainable> {
        fn step<A>(name: &'static str, address: &Addr<A>, seconds: u64) -> Drainable
        where
            A: Handler<Drain>,
            A::Context: actix::dev::ToEnvelope<A, Drain>,
        {
            Drainable { name, address: address.clone().recipient(), deadline: Duration::from_secs(seconds) }
        }
        let (early, late) = (self.early(), self.late.lock().clone());
        let mut steps = Vec::new();
        if let Some(early) = &early {
            steps.push(step("query gate", &early.gate, 5));
            steps.push(step("config reloader", &early.reloader, 30));
        }
        if let Some(late) = &late {
            steps.push(step("scrape discovery", &late.scrape_discovery, 5));
            steps.push(step("notify discovery", &late.notify_discovery, 5));
            // Before scraping stops, so that rules about absent series do not fire.
            steps.push(step("rule manager", &late.rules, 60));
            steps.push(step("scrape manager", &late.scrape, 60));
        }
        if let Some(early) = &early {
            steps.push(step("remote storage", &early.remote, 30));
            steps.push(step("storage", &early.keeper, 300));
            steps.push(step("web server", &early.web, 10));
        }
        if let Some(late) = &late {
            steps.push(step("notifier", &late.notifier, 30));
            steps.push(step("alert ledger", &late.ledger, 10));
        }
        steps
    }

    /// Remembers the exit code; the first one that is not 0 stays.
    pub fn exit_with(&self, code: i32) {
        // Nothing to do if there is a code already.
        let _ = self.exit_code.compare_exchange(0, code, SeqCst, SeqCst);
    }

    /// Ends the arbiters and then the actor system; everything has been drained.
    pub async fn finish(&self) {
        let arbiters = std::mem::take(&mut *self.arbiters.lock());
        for arbiter in &arbiters {
            arbiter.stop();
        }
        let joined = tokio::task::spawn_blocking(move || {
            arbiters.into_iter().filter_map(|arbiter| arbiter.join().err()).count()
        });
        if let Ok(lost @ 1..) = joined.await {
            log::error!(threads = lost; "threads ended in a panic");
        }
        // Text as in Prometheus: tools wait for it.
        log::info!("See you next time!");
        System::current().stop_with_code(self.exit_code.load(SeqCst));
    }
}

fn scrape_sections(loaded: &Loaded) -> Vec<(String, Vec<DiscoveryConfig>)> {
    loaded.config.scrape_configs.iter().map(|job| (job.job_name.clone(), job.discovery.clone())).collect()
}

fn notify_sections(loaded: &Loaded) -> Vec<(String, Vec<DiscoveryConfig>)> {
    loaded.config.alerting.alertmanagers.iter().map(|am| (am.key.clone(), am.discovery.clone())).collect()
}
