//! The query gate: admission of queries.
//!
//! Owns the slots (`--query.max-concurrency`) and which log queries are written to. A query is admitted in the order of asking;
//! when [`WAITING_MAX`] wait already it is refused at once, so that a flood of slow queries ends in clear errors and not in
//! memory. Evaluation itself runs off the actors, on the blocking threads of whoever holds the [`Permit`].
//!
//! On restart: nothing is lost. Slots and list live outside the actor and permits free themselves when dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use fk_config::Loaded;
use fk_instrument::{Gauge, Registry};
use fk_queries::{Board, LogFile};
use fk_storage::Control;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::messages::config::{ApplyConfig, Refusal};
use crate::messages::lifecycle::{Drain, ReloadReady};
use crate::messages::query::{Admit, Refused};

/// Queries that may wait for a slot, beyond those that run.
pub const WAITING_MAX: usize = 200;

/// How long running queries may go on once the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// A query that runs.
#[derive(Clone, Debug)]
pub struct RunningQuery {
    /// The query.
    pub text: String,
    /// Since when.
    pub since: Instant,
    control: Control,
}

/// Slots and running queries; shared by the gate's incarnations and the permits.
#[derive(Debug)]
pub struct GateState {
    users: Arc<Semaphore>,
    rules: Arc<Semaphore>,
    slots: usize,
    waiting: AtomicU64,
    open: AtomicBool,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, RunningQuery>>,
    /// The query log of the configuration that is being applied.
    prepared: Mutex<Option<Option<LogFile>>>,
}

impl GateState {
    /// With so many slots for queries and as many for rules. The gate is closed until the reload-ready broadcast.
    pub fn new(slots: usize, registry: &Registry) -> Arc<GateState> {
        let max: Gauge =
            registry.gauge("prometheus_engine_queries_concurrent_max", "The max number of concurrent queries.");
        max.set(slots as f64);
        Arc::new(GateState {
            users: Arc::new(Semaphore::new(slots)),
            rules: Arc::new(Semaphore::new(slots)),
            slots,
            waiting: AtomicU64::new(0),
            open: AtomicBool::new(false),
            next: AtomicU64::new(0),
            running: Mutex::default(),
            prepared: Mutex::default(),
        })
    }

    /// Slots for queries.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Queries waiting for a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed) as usize
    }
}

/// A slot. Dropping it frees the slot.
pub struct Permit {
    id: u64,
    state: Arc<GateState>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.state.running.lock().remove(&self.id);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({})", self.id)
    }
}

/// What the gate is made from.
#[derive(Clone, Debug)]
pub struct Params {
    /// Outlives the actor.
    pub state: Arc<GateState>,
    /// The list of queries that run.
    pub board: Arc<Board>,
}

/// The actor.
#[derive(Debug)]
pub struct QueryGate {
    params: Params,
}

impl QueryGate {
    /// A gate in front of this state.
    pub fn new(params: Params) -> QueryGate {
        QueryGate { params }
    }
}

impl Actor for QueryGate {
    type Context = Managed<Self>;
}

impl Supervised for QueryGate {}

impl ManagedActor for QueryGate {
    const KIND: &'static str = "query_gate";
}

/// Counts one waiting query for as long as it lives.
struct Waiting(Arc<GateState>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Handler<Admit> for QueryGate {
    type Result = ResponseFuture<Result<Permit, Refused>>;

    fn handle(&mut self, admit: Admit, _: &mut Self::Context) -> Self::Result {
        let state = Arc::clone(&self.params.state);
        Box::pin(async move {
            // Rules finish their evaluation before the server stops, so their door stays open.
            if !admit.rule && !state.open.load(Relaxed) {
                return Err(Refused::Closed);
            }
            let slots = Arc::clone(if admit.rule { &state.rules } else { &state.users });
            let slot = match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) if state.waiting() >= WAITING_MAX => return Err(Refused::TooManyWaiting),
                Err(_) => {
                    state.waiting.fetch_add(1, Relaxed);
                    let waiting = Waiting(Arc::clone(&state));
                    let slot = slots.acquire_owned().await.map_err(|_| Refused::Closed)?;
                    drop(waiting);
                    slot
                }
            };
            let id = state.next.fetch_add(1, Relaxed);
            let query = RunningQuery { text: admit.text, since: Instant::now(), control: admit.control };
            state.running.lock().insert(id, query);
            Ok(Permit { id, state, _slot: slot })
        })
    }
}

/// Opens the query log that the configuration names, if it names one.
fn open_log(loaded: &Loaded) -> Result<Option<LogFile>, Refusal> {
    let path = loaded.config.global.query_log_file.as_str();
    if path.is_empty() {
        return Ok(None);
    }
    // Text as in Prometheus, up to the reason:
    let refuse = |error| Refusal(vec![format!("can't create json log file: open {path}: {error}")]);
    LogFile::open(path.as_ref()).map(Some).map_err(refuse)
}

impl Handler<ApplyConfig> for QueryGate {
    type Result = ResponseFuture<Result<(), Refusal>>;

    /// The query log is opened anew by every reload, so that it can be moved away before.
    fn handle(&mut self, phase: ApplyConfig, _: &mut Self::Context) -> Self::Result {
        let (state, board) = (Arc::clone(&self.params.state), Arc::clone(&self.params.board));
        Box::pin(async move {
            match phase {
                ApplyConfig::Prepare(loaded) => {
                    let opened = spawn_blocking(move || open_log(&loaded)).await;
                    let opened = opened.map_err(|panic| Refusal(vec![format!("opening the query log: {panic}")]))?;
                    *state.prepared.lock() = Some(opened?);
                }
                ApplyConfig::Abort => *state.prepared.lock() = None,
                ApplyConfig::Commit => {
                    if let Some(file) = state.prepared.lock().take() {
                        board.log.set(file);
                    }
                }
            }
            Ok(())
        })
    }
}

impl Handler<ReloadReady> for QueryGate {
    type Result = ();

    fn handle(&mut self, _: ReloadReady, _: &mut Self::Context) {
        self.params.state.open.store(true, Relaxed);
    }
}

impl Handler<Drain> for QueryGate {
    type Result = ResponseFuture<()>;

    /// Refuses what comes, gives what runs [`GRACE`], then cancels it.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let state = Arc::clone(&self.params.state);
        state.open.store(false, Relaxed);
        Box::pin(async move {
            // Waiting queries are turned away at once: closing wakes them.
            state.users.close();
            let deadline = tokio::time::Instant::now() + GRACE;
            while !state.running.lock().is_empty() && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let running = state.running.lock();
            for query in running.values() {
                let age = query.since.elapsed().as_millis() as u64;
                log::warn!(component = "query gate", query = query.text.as_str(), age_ms = age; "query cancelled, the server stops");
                query.control.cancel();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use fk_actorkit::{Board, Spec};

    use super::*;

    fn gate(slots: usize) -> (Addr<QueryGate>, Arc<GateState>) {
        let state = GateState::new(slots, &Registry::new());
        let board = fk_queries::Board::new(fk_storage::MemoryBudget::new(1 << 20, 1 << 20), &Registry::new());
        let params = Params { state: Arc::clone(&state), board };
        (Board::new().spawn(Spec::named("gate"), |_| QueryGate::new(params)), state)
    }

    fn ask(text: &str) -> Admit {
        Admit { text: text.to_owned(), control: Control::new(), rule: false }
    }

    #[actix::test]
    async fn slots_are_given_in_order_and_freed_by_dropping() {
        let (gate, state) = gate(1);
        assert_eq!(gate.send(ask("a")).await.unwrap().unwrap_err(), Refused::Closed);
        gate.send(ReloadReady).await.unwrap();
        let first = gate.send(ask("a")).await.unwrap().unwrap();
        let second = actix::spawn(gate.send(ask("b")));
        while state.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        let second = second.await.unwrap().unwrap().unwrap();
        assert_eq!(state.running.lock().values().next().map(|q| q.text.clone()), Some("b".to_owned()));
        drop(second);
        assert!(state.running.lock().is_empty());
    }

    #[actix::test]
    async fn a_flood_is_refused_and_rules_have_slots_of_their_own() {
        let (gate, state) = gate(1);
        gate.send(ReloadReady).await.unwrap();
        let _held = gate.send(ask("a")).await.unwrap().unwrap();
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| actix::spawn(gate.send(ask("w")))).collect();
        while state.waiting() < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.send(ask("one too many")).await.unwrap().unwrap_err(), Refused::TooManyWaiting);
        assert!(gate.send(Admit { rule: true, ..ask("rule") }).await.unwrap().is_ok());
        for task in waiting {
            task.abort();
        }
    }

    #[actix::test]
    async fn drain_cancels_what_does_not_end() {
        tokio::time::pause();
        let (gate, _) = gate(1);
        gate.send(ReloadReady).await.unwrap();
        let admit = ask("slow");
        let control = admit.control.clone();
        let _held = gate.send(admit).await.unwrap().unwrap();
        gate.send(Drain).await.unwrap();
        assert!(control.check().is_err());
        assert_eq!(gate.send(ask("late")).await.unwrap().unwrap_err(), Refused::Closed);
    }
}
