//! The config reloader: reads the configuration and applies it everywhere or nowhere.
//!
//! Owns the list of participants and the running configuration's slot. A reload has two phases: every participant
//! prepares and may refuse; only when all have agreed everybody commits. Prometheus applies part by part and leaves the
//! server half changed when one part fails; here nothing changes then, and the answer carries every reason.
//!
//! On restart: participants and the running configuration live outside the actor. If a reload was lost between two
//! commits, the new incarnation finishes it first, so that the server is never left with two configurations.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use actix::prelude::*;
use chrono::Utc;
use fk_actorkit::{Managed, ManagedActor};
use fk_config::{LoadOptions, Loaded};
use fk_instrument::{Kind, Registry};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::messages::config::{ApplyConfig, ApplyInitial, LoadInitial, Participant, Reload, ReloadError, ReloadSource};
use crate::messages::lifecycle::{Drain, ReloadReady};
use crate::reload_journal::{Entry, Journal, Outcome, Phase, Step};
use crate::reload_plan;
use crate::service;
use crate::slots::Slots;

/// How long a participant may take for one phase before the reload is given up. Preparing builds clients and parses nothing,
/// so a minute means that the participant is stuck.
const PHASE_TIMEOUT: Duration = Duration::from_secs(60);

/// What outlives the actor.
#[derive(Debug, Default)]
pub struct ReloaderState {
    participants: Mutex<Vec<Participant>>,
    /// What was loaded and judged before anything ran; the first load takes it if the files are still the same.
    judged: Mutex<Option<Arc<Loaded>>>,
    /// The configuration whose commit is under way.
    committing: Mutex<Option<Arc<Loaded>>>,
    ready: AtomicBool,
    draining: AtomicBool,
    /// Reloads one at a time, in the order of asking.
    turn: tokio::sync::Mutex<()>,
    /// Wakes the reloads that were asked for before the server was ready.
    opened: tokio::sync::Notify,
    /// Past reloads.
    journal: Journal,
}

impl ReloaderState {
    /// Of a server whose configuration was loaded once already.
    pub fn new(judged: Arc<Loaded>) -> ReloaderState {
        ReloaderState { judged: Mutex::new(Some(judged)), ..ReloaderState::default() }
    }

    /// Past reloads, the newest first.
    pub fn journal(&self) -> Vec<Entry> {
        self.journal.entries()
    }
}

/// What the reloader is made from.
#[derive(Clone)]
pub struct Params {
    /// Outlives the actor.
    pub state: Arc<ReloaderState>,
    /// `--config.file`
    pub path: PathBuf,
    /// How files are read.
    pub load: LoadOptions,
    /// `--config.auto-reload-interval`, if automatic reloads are on.
    pub auto_reload: Option<Duration>,
    /// Where the running configuration and the outcome of reloads go.
    pub slots: Arc<Slots>,
}

impl Params {
    /// Registers `prometheus_config_last_reload_*`.
    pub fn register(slots: &Arc<Slots>, registry: &Registry) {
        let slots = Arc::clone(slots);
        registry.collect(move |out| {
            let status = *slots.reload.lock();
            let name = "prometheus_config_last_reload_successful";
            out.single(
                name,
                "Whether the last configuration reload attempt was successful.",
                Kind::Gauge,
                f64::from(status.successful),
            );
            let name = "prometheus_config_last_reload_success_timestamp_seconds";
            let time = status.last_success.map_or(0.0, |t| t.timestamp_micros() as f64 / 1e6);
            out.single(name, "Timestamp of the last successful configuration reload.", Kind::Gauge, time);
        });
    }

    async fn read(&self) -> Result<Arc<Loaded>, ReloadError> {
        let (path, load) = (self.path.clone(), self.load.clone());
        log::info!(filename = path.display().to_string().as_str(); "Loading configuration file");
        match spawn_blocking(move || fk_config::load(&path, &load)).await {
            Ok(Ok(loaded)) => {
                for warning in &loaded.warnings {
                    log::warn!(filename = self.path.display().to_string().as_str(); "{warning}");
                }
                Ok(Arc::new(loaded))
            }
            Ok(Err(errors)) => Err(ReloadError(errors.to_string().lines().map(str::to_owned).collect())),
            Err(panic) => Err(ReloadError(vec![format!("reading {}: {panic}", self.path.display())])),
        }
    }

    /// What was judged before the start, unless the files have changed since: reading tens of thousands of rules takes a while.
    async fn read_first(&self) -> Result<Arc<Loaded>, ReloadError> {
        let judged = self.state.judged.lock().take();
        let path = self.path.clone();
        let checksum = spawn_blocking(move || fk_config::checksum(&path)).await;
        match (judged, checksum) {
            (Some(judged), Ok(Ok(checksum))) if judged.checksum == checksum => {
                let filename = self.path.display().to_string();
                log::info!(filename = filename.as_str(); "Loading configuration file");
                for warning in &judged.warnings {
                    log::warn!(filename = filename.as_str(); "{warning}");
                }
                Ok(judged)
            }
            _ => self.read().await,
        }
    }

    /// Both phases. On `Err` nothing has changed. What each participant took goes to `steps`.
    async fn apply(&self, loaded: Arc<Loaded>, steps: &mut Vec<Step>) -> Result<(), ReloadError> {
        let participants = self.state.participants.lock().clone();
        let ask = |phase: ApplyConfig| {
            let asked = participants.iter().map(move |p| {
                let answer = p.address.send(phase.clone()).timeout(PHASE_TIMEOUT);
                async move {
                    let began = Instant::now();
                    (answer.await, began.elapsed())
                }
            });
            join_all(asked.collect::<Vec<_>>())
        };
        let mut errors = Vec::new();
        let answers = ask(ApplyConfig::Prepare(Arc::clone(&loaded))).await;
        for (participant, (answer, took)) in participants.iter().zip(answers) {
            let failed = !matches!(answer, Ok(Ok(())));
            steps.push(Step { participant: participant.name, phase: Phase::Prepare, took, failed });
            match answer {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => {
                    errors.extend(refusal.0.iter().map(|reason| format!("{}: {reason}", participant.name)))
                }
                Err(error) => errors.push(format!("{}: not available: {error}", participant.name)),
            }
        }
        if !errors.is_empty() {
            ask(ApplyConfig::Abort).await;
            return Err(ReloadError(errors));
        }
        *self.state.committing.lock() = Some(Arc::clone(&loaded));
        // In order, each awaited: users of targets know a job before discovery hands them its targets.
        self.slots.config.store(Some(Arc::clone(&loaded)));
        for participant in &participants {
            let began = Instant::now();
            let answer = participant.address.send(ApplyConfig::Commit).timeout(PHASE_TIMEOUT).await;
            let (took, failed) = (began.elapsed(), answer.is_err());
            steps.push(Step { participant: participant.name, phase: Phase::Commit, took, failed });
            if let Err(error) = answer {
                // It panicked over the commit. Its next incarnation starts from the configuration's slot.
                log::error!(component = participant.name, err = error.to_string().as_str(); "no answer to a commit");
            }
        }
        *self.state.committing.lock() = None;
        let mut status = self.slots.reload.lock();
        status.successful = true;
        status.last_success = Some(Utc::now());
        drop(status);
        log::info!(filename = self.path.display().to_string().as_str(); "Completed loading of configuration file");
        Ok(())
    }

    async fn reload(&self, source: ReloadSource) -> Result<(), ReloadError> {
        while !self.state.ready.load(SeqCst) {
            let opened = self.state.opened.notified();
            if self.state.ready.load(SeqCst) {
                break;
            }
            opened.await;
        }
        let _turn = self.state.turn.lock().await;
        if self.state.draining.load(SeqCst) {
            return Err(ReloadError(vec!["the server is stopping".to_owned()]));
        }
        let (time, began) = (Utc::now(), Instant::now());
        let mut entry = Entry::new(time, source);
        service::tell(service::State::Reloading);
        let outcome = match self.read().await {
            Ok(loaded) => {
                entry.read = began.elapsed();
                let before = self.slots.config.load_full();
                entry.changes = before.map(|before| reload_plan::changes(&before, &loaded)).unwrap_or_default();
                self.apply(loaded, &mut entry.steps).await
            }
            Err(error) => {
                entry.read = began.elapsed();
                Err(error)
            }
        };
        entry.took = began.elapsed();
        entry.outcome = match &outcome {
            Ok(()) => Outcome::Applied,
            Err(error) if entry.steps.is_empty() => Outcome::Unreadable(error.0.clone()),
            Err(error) => Outcome::Refused(error.0.clone()),
        };
        self.state.journal.add(entry);
        // Whether it is the new configuration or still the old one.
        service::tell(service::State::Ready);
        if let Err(error) = &outcome {
            let mut status = self.slots.reload.lock();
            status.successful = false;
            status.last_failure = Some(Utc::now());
            drop(status);
            log::error!(filename = self.path.display().to_string().as_str(), err = error.to_string().as_str(); "Error reloading config, nothing was changed");
        }
        outcome
    }

    /// Whether the files differ from what runs, or cannot be read at all.
    async fn changed(&self) -> bool {
        let path = self.path.clone();
        let running = self.slots.config.load_full().map(|loaded| loaded.checksum.clone());
        let read = spawn_blocking(move || fk_config::checksum(&path)).await;
        !matches!(read, Ok(Ok(checksum)) if Some(&checksum) == running.as_ref())
    }
}

/// The actor.
pub struct ConfigReloader {
    params: Params,
}

impl ConfigReloader {
    /// A reloader that waits for its orders.
    pub fn new(params: Params) -> ConfigReloader {
        ConfigReloader { params }
    }

    fn watch(&self, ctx: &mut Managed<Self>) {
        let Some(interval) = self.params.auto_reload else { return };
        let params = self.params.clone();
        let address = ctx.address();
        let watch = async move {
            loop {
                tokio::time::sleep(interval).await;
                if params.changed().await {
                    // Awaited, so that at most one automatic reload is under way. Its outcome is logged where it runs.
                    let _ = address.send(Reload(ReloadSource::Watch)).await;
                }
            }
        };
        ctx.spawn(watch.into_actor(self));
    }
}

impl Actor for ConfigReloader {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let lost = self.params.state.committing.lock().take();
        if let Some(loaded) = lost {
            log::warn!(component = "config reloader"; "finishing a reload that was interrupted");
            let params = self.params.clone();
            let finish = async move {
                let _turn = params.state.turn.lock().await;
                if let Err(error) = params.apply(loaded, &mut Vec::new()).await {
                    log::error!(component = "config reloader", err = error.to_string().as_str(); "the interrupted reload cannot be finished");
                }
            };
            ctx.spawn(finish.into_actor(self));
        }
        if self.params.state.ready.load(SeqCst) {
            self.watch(ctx);
        }
    }
}

impl Supervised for ConfigReloader {}

impl ManagedActor for ConfigReloader {
    const KIND: &'static str = "config_reloader";
}

impl Handler<LoadInitial> for ConfigReloader {
    type Result = ResponseFuture<Result<(), ReloadError>>;

    fn handle(&mut self, _: LoadInitial, _: &mut Self::Context) -> Self::Result {
        let params = self.params.clone();
        Box::pin(async move {
            let loaded = params.read_first().await?;
            params.slots.config.store(Some(loaded));
            Ok(())
        })
    }
}

impl Handler<ApplyInitial> for ConfigReloader {
    type Result = ResponseFuture<Result<(), ReloadError>>;

    fn handle(&mut self, ApplyInitial(participants): ApplyInitial, _: &mut Self::Context) -> Self::Result {
        let params = self.params.clone();
        Box::pin(async move {
            *params.state.participants.lock() = participants;
            let Some(loaded) = params.slots.config.load_full() else {
                return Err(ReloadError(vec!["no configuration was loaded".to_owned()]));
            };
            let (time, began) = (Utc::now(), Instant::now());
            let mut entry = Entry::new(time, ReloadSource::Start);
            params.apply(loaded, &mut entry.steps).await?;
            entry.took = began.elapsed();
            params.state.journal.add(entry);
            params.state.ready.store(true, SeqCst);
            params.state.opened.notify_waiters();
            Ok(())
        })
    }
}

impl Handler<ReloadReady> for ConfigReloader {
    type Result = ();

    fn handle(&mut self, _: ReloadReady, ctx: &mut Self::Context) {
        self.watch(ctx);
    }
}

impl Handler<Reload> for ConfigReloader {
    type Result = ResponseFuture<Result<(), ReloadError>>;

    fn handle(&mut self, Reload(source): Reload, _: &mut Self::Context) -> Self::Result {
        log::debug!(component = "config reloader"; "reload asked for by {source:?}");
        let params = self.params.clone();
        Box::pin(async move { params.reload(source).await })
    }
}

impl Handler<Drain> for ConfigReloader {
    type Result = ResponseFuture<()>;

    /// Waits for a reload under way; later ones are refused.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let state = Arc::clone(&self.params.state);
        state.draining.store(true, SeqCst);
        state.ready.store(true, SeqCst);
        state.opened.notify_waiters();
        Box::pin(async move {
            let _turn = state.turn.lock().await;
        })
    }
}

#[cfg(test)]
mod tests {
    use fk_actorkit::{Board, Spec};
    use fk_testkit::TempDir;

    use super::*;
    use crate::messages::config::Refusal;

    /// A participant that notes what it is asked, in a list all of them share.
    struct Fake {
        name: &'static str,
        refuses: Arc<AtomicBool>,
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Actor for Fake {
        type Context = Context<Self>;
    }

    impl Handler<ApplyConfig> for Fake {
        type Result = Result<(), Refusal>;

        fn handle(&mut self, phase: ApplyConfig, _: &mut Self::Context) -> Self::Result {
            let (what, prepare) = match phase {
                ApplyConfig::Prepare(_) => ("prepare", true),
                ApplyConfig::Commit => ("commit", false),
                ApplyConfig::Abort => ("abort", false),
            };
            self.seen.lock().push(format!("{} {what}", self.name));
            if prepare && self.refuses.load(SeqCst) {
                Err(Refusal(vec!["does not like it".to_owned()]))
            } else {
                Ok(())
            }
        }
    }

    struct Rig {
        dir: TempDir,
        slots: Arc<Slots>,
        state: Arc<ReloaderState>,
        reloader: Addr<ConfigReloader>,
        seen: Arc<Mutex<Vec<String>>>,
        second_refuses: Arc<AtomicBool>,
    }

    impl Rig {
        /// A reloader with two participants that has applied its first configuration.
        async fn started() -> Rig {
            let dir = TempDir::new("reloader");
            let slots = Arc::new(Slots::new());
            let state = Arc::new(ReloaderState::default());
            let params = Params {
                state: Arc::clone(&state),
                path: dir.path().join("prometheus.yml"),
                load: LoadOptions::default(),
                auto_reload: None,
                slots: Arc::clone(&slots),
            };
            std::fs::write(&params.path, "global: {scrape_interval: 5s}\n").unwrap();
            let reloader = Board::new().spawn(Spec::named("r"), |_| ConfigReloader::new(params));
            let (seen, second_refuses): (Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) = Default::default();
            let fake = |name, refuses| Participant {
                name,
                address: Fake { name, refuses, seen: Arc::clone(&seen) }.start().recipient(),
            };
            let participants = vec![fake("first", Arc::default()), fake("second", Arc::clone(&second_refuses))];
            reloader.send(LoadInitial).await.unwrap().unwrap();
            reloader.send(ApplyInitial(participants)).await.unwrap().unwrap();
            seen.lock().clear();
            Rig { dir, slots, state, reloader, seen, second_refuses }
        }

        async fn reload(&self, yaml: &str) -> Result<(), ReloadError> {
            std::fs::write(self.dir.path().join("prometheus.yml"), yaml).unwrap();
            self.reloader.send(Reload(ReloadSource::Http)).await.unwrap()
        }

        fn interval_ms(&self) -> i64 {
            self.slots.config.load_full().unwrap().config.global.scrape_interval.as_millis()
        }

        fn seen(&self) -> Vec<String> {
            std::mem::take(&mut self.seen.lock())
        }
    }

    #[actix::test]
    async fn all_prepare_before_anybody_commits() {
        let rig = Rig::started().await;
        rig.reload("global: {scrape_interval: 7s}\n").await.unwrap();
        assert_eq!(rig.seen(), ["first prepare", "second prepare", "first commit", "second commit"]);
        assert_eq!(rig.interval_ms(), 7000);
        assert!(rig.slots.reload.lock().successful);
    }

    #[actix::test]
    async fn one_refusal_leaves_everything_as_it_was() {
        let rig = Rig::started().await;
        rig.second_refuses.store(true, SeqCst);
        let error = rig.reload("global: {scrape_interval: 7s}\n").await.unwrap_err();
        assert_eq!(error.to_string(), "second: does not like it");
        assert_eq!(rig.seen(), ["first prepare", "second prepare", "first abort", "second abort"]);
        assert_eq!(rig.interval_ms(), 5000);
        assert!(!rig.slots.reload.lock().successful);
        rig.second_refuses.store(false, SeqCst);
        rig.reload("global: {scrape_interval: 9s}\n").await.unwrap();
        assert!(rig.slots.reload.lock().successful && rig.interval_ms() == 9000);
    }

    #[actix::test]
    async fn a_bad_file_reaches_no_participant_and_is_named_with_its_line() {
        let rig = Rig::started().await;
        let error = rig.reload("global:\n  scrape_intervall: 7s\n").await.unwrap_err().to_string();
        assert!(error.contains("prometheus.yml") && error.contains("line 2"), "{error}");
        assert_eq!(rig.seen(), Vec::<String>::new());
    }

    #[actix::test]
    async fn a_commit_that_was_interrupted_is_finished() {
        let rig = Rig::started().await;
        let lost = rig.slots.config.load_full().unwrap();
        *rig.state.committing.lock() = Some(lost);
        let params = Params {
            state: Arc::clone(&rig.state),
            path: rig.dir.path().join("prometheus.yml"),
            load: LoadOptions::default(),
            auto_reload: None,
            slots: Arc::clone(&rig.slots),
        };
        let next = Board::new().spawn(Spec::named("next"), |_| ConfigReloader::new(params));
        next.send(Reload(ReloadSource::Signal)).await.unwrap().unwrap();
        let round = ["first prepare", "second prepare", "first commit", "second commit"];
        assert_eq!(rig.seen(), [round, round].concat());
        assert!(rig.state.committing.lock().is_none());
    }
}
