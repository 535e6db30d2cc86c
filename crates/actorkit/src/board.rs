//! The board: every actor of a process, its parent, its state.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use actix::dev::channel::channel;
use actix::dev::{ContextFut, Mailbox};
use actix::prelude::*;
use fk_instrument::{Kind, Registry};
use parking_lot::{Mutex, RwLock};

use crate::record::{Failure, HANDLING_US, Record, SlowMessage};
use crate::runner::Runner;
use crate::{Managed, ManagedActor, RestartPolicy};

/// Capacity handed to actix. It does not bound anything there (each clone of an address has a slot of its own), so the
/// bounds of our queues are where the messages are made; see the conventions in ARCHITECTURE.md.
const MAILBOX_CAPACITY: usize = 64;

/// What an actor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ActorState {
    /// Spawned, `started` has not returned yet.
    Starting,
    /// At work or waiting for messages.
    Running,
    /// Panicked; waits to be rebuilt.
    Restarting,
    /// Panicked too often; gone.
    Failed,
    /// Ended in order.
    Stopped,
}

impl ActorState {
    /// Every state, in order of its number.
    pub const ALL: [ActorState; 5] =
        [ActorState::Starting, ActorState::Running, ActorState::Restarting, ActorState::Failed, ActorState::Stopped];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            ActorState::Starting => "starting",
            ActorState::Running => "running",
            ActorState::Restarting => "restarting",
            ActorState::Failed => "failed",
            ActorState::Stopped => "stopped",
        }
    }
}

/// One actor's entry, shared by the board and the actor's runner.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: u64,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    parent: Option<u64>,
    started: Instant,
    state: AtomicU8,
    incarnation: AtomicU32,
    /// Milliseconds from `started` to the begin of the poll that is under way, plus one; 0 between polls.
    busy_since: AtomicU64,
    /// Milliseconds from `started` to the begin of the last poll that has ended.
    last_progress: AtomicU64,
    handled: AtomicU64,
    record: Record,
    last_panic: Mutex<String>,
    panic_wanted: AtomicBool,
    waker: Mutex<Option<std::task::Waker>>,
}

impl Instance {
    pub(crate) fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Relaxed);
    }

    fn state(&self) -> ActorState {
        ActorState::ALL.get(usize::from(self.state.load(Relaxed))).copied().unwrap_or(ActorState::Failed)
    }

    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.load(Relaxed)
    }

    pub(crate) fn restarted(&self) {
        self.incarnation.fetch_add(1, Relaxed);
    }

    pub(crate) fn message_handled(&self, message: &'static str, waited: Duration, took: Duration) {
        self.handled.fetch_add(1, Relaxed);
        self.record.handled(message, waited, took, || self.started.elapsed());
    }

    pub(crate) fn panicked(&self, message: &'static str, text: String) {
        self.record.failed(message, &text, self.started.elapsed());
        *self.last_panic.lock() = text;
    }

    fn age_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(crate) fn poll_begins(&self) {
        self.busy_since.store(self.age_ms() + 1, Relaxed);
    }

    /// The time is that of the poll's begin: polls are short, and the clock is looked at often enough.
    pub(crate) fn poll_ends(&self) {
        self.last_progress.store(self.busy_since.load(Relaxed).saturating_sub(1), Relaxed);
        self.busy_since.store(0, Relaxed);
    }

    pub(crate) fn keep_waker(&self, waker: &std::task::Waker) {
        if cfg!(feature = "chaos") {
            let mut kept = self.waker.lock();
            if !kept.as_ref().is_some_and(|k| k.will_wake(waker)) {
                *kept = Some(waker.clone());
            }
        }
    }

    /// Panics if a test asked for it.
    pub(crate) fn panic_if_wanted(&self) {
        if cfg!(feature = "chaos") && self.panic_wanted.swap(false, Relaxed) {
            panic!("injected panic");
        }
    }
}

/// A snapshot of one actor's entry.
#[derive(Clone, Debug)]
pub struct ActorInfo {
    /// Number, unique on the board.
    pub id: u64,
    /// Kind.
    pub kind: &'static str,
    /// Name; with the kind it says which actor it is.
    pub name: String,
    /// The actor that started it; `None` at the root.
    pub parent: Option<u64>,
    /// What it is doing.
    pub state: ActorState,
    /// How often it was rebuilt after a panic.
    pub restarts: u32,
    /// Messages it has handled, and turns that came without one ([`crate::Managed::worked`]).
    pub handled: u64,
    /// Text of its last panic; empty: it never panicked.
    pub last_panic: String,
    /// When it was started.
    pub started: Instant,
    /// For how long it exists.
    pub age: Duration,
    /// How long it has been inside one poll without a pause, if it is.
    pub busy: Option<Duration>,
    /// Time since it was last at work.
    pub idle: Duration,
    /// How many handlers took how long, by [`HANDLING_US`](crate::HANDLING_US).
    pub handling: [u32; HANDLING_US.len() + 1],
    /// The last slow messages, the newest last.
    pub slow: Vec<SlowMessage>,
    /// The last panics, the newest last.
    pub failures: Vec<Failure>,
}

/// Somebody panicked too often and is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// Kind of the actor.
    pub kind: &'static str,
    /// Name of the actor.
    pub name: String,
}

/// How to start an actor.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name on the board.
    pub name: String,
    /// The actor that starts it, by its number.
    pub parent: Option<u64>,
    /// When to restart it.
    pub policy: RestartPolicy,
}

impl Spec {
    /// With the default policy, without a parent.
    pub fn named(name: impl Into<String>) -> Spec {
        Spec { name: name.into(), parent: None, policy: RestartPolicy::default() }
    }

    /// As a child of this actor.
    pub fn child_of(mut self, parent: u64) -> Spec {
        self.parent = Some(parent);
        self
    }
}

type OnEscalation = Arc<dyn Fn(Escalation) + Send + Sync>;

#[derive(Default)]
struct Inner {
    next_id: AtomicU64,
    actors: RwLock<BTreeMap<u64, Arc<Instance>>>,
    on_escalation: RwLock<Option<OnEscalation>>,
}

/// All actors of a process. Cheap to clone; clones are the same board.
#[derive(Clone, Default)]
pub struct Board(Arc<Inner>);

impl Board {
    /// Without actors.
    pub fn new() -> Board {
        Board::default()
    }

    /// Sets who is told when an actor panicked too often. Called on that actor's thread; must not block.
    pub fn on_escalation(&self, tell: impl Fn(Escalation) + Send + Sync + 'static) {
        *self.0.on_escalation.write() = Some(Arc::new(tell));
    }

    pub(crate) fn escalate(&self, instance: &Instance) {
        let tell = self.0.on_escalation.read().clone();
        log::error!(actor = instance.kind, name = instance.name.as_str(); "actor panicked too often and stays down");
        if let Some(tell) = tell {
            tell(Escalation { kind: instance.kind, name: instance.name.clone() });
        }
    }

    fn enter(&self, kind: &'static str, spec: &Spec) -> Arc<Instance> {
        let id = self.0.next_id.fetch_add(1, Relaxed) + 1;
        let instance = Arc::new(Instance {
            id,
            kind,
            name: spec.name.clone(),
            parent: spec.parent,
            started: Instant::now(),
            state: AtomicU8::new(ActorState::Starting as u8),
            incarnation: AtomicU32::new(0),
            busy_since: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            record: Record::default(),
            last_panic: Mutex::default(),
            panic_wanted: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        self.0.actors.write().insert(id, Arc::clone(&instance));
        instance
    }

    /// Takes the entry of an actor that ended in order off the board; failed ones stay for people to see.
    pub(crate) fn leave(&self, instance: &Instance) {
        self.0.actors.write().remove(&instance.id);
    }

    /// Starts an actor on the current thread's arbiter. `make` gets the context before the actor exists, for its address.
    pub fn spawn<A: ManagedActor>(&self, spec: Spec, make: impl FnOnce(&mut Managed<A>) -> A) -> Addr<A> {
        let (sender, receiver) = channel(MAILBOX_CAPACITY);
        let addr = Addr::new(sender);
        self.run(&spec, Mailbox::new(receiver), make);
        addr
    }

    /// Starts an actor on another arbiter; `make` runs there.
    pub fn spawn_on<A: ManagedActor>(
        &self,
        arbiter: &ArbiterHandle,
        spec: Spec,
        make: impl FnOnce(&mut Managed<A>) -> A + Send + 'static,
    ) -> Addr<A> {
        let (sender, receiver) = channel(MAILBOX_CAPACITY);
        let board = self.clone();
        arbiter.spawn_fn(move || board.run(&spec, Mailbox::new(receiver), make));
        Addr::new(sender)
    }

    fn run<A: ManagedActor>(&self, spec: &Spec, mailbox: Mailbox<A>, make: impl FnOnce(&mut Managed<A>) -> A) {
        let instance = self.enter(A::KIND, spec);
        let mut ctx = Managed::new(&mailbox, Arc::clone(&instance));
        let actor = make(&mut ctx);
        let runner = Runner::new(ContextFut::new(ctx, actor, mailbox), instance, self.clone(), spec.policy);
        actix::spawn(runner);
    }

    /// Every actor, in order of its number.
    pub fn actors(&self) -> Vec<ActorInfo> {
        let info = |a: &Arc<Instance>| {
            let age = a.started.elapsed();
            let busy_since = a.busy_since.load(Relaxed);
            ActorInfo {
                id: a.id,
                kind: a.kind,
                name: a.name.clone(),
                parent: a.parent,
                state: a.state(),
                restarts: a.incarnation(),
                handled: a.handled.load(Relaxed),
                last_panic: a.last_panic.lock().clone(),
                started: a.started,
                age,
                busy: busy_since.checked_sub(1).map(|ms| age.saturating_sub(Duration::from_millis(ms))),
                idle: age.saturating_sub(Duration::from_millis(a.last_progress.load(Relaxed))),
                handling: a.record.handling(),
                slow: a.record.slow(),
                failures: a.record.failures(),
            }
        };
        self.0.actors.read().values().map(info).collect()
    }

    /// Makes every actor of `kind` (or only those called `name`) panic the next time it runs, which is at once. Returns
    /// how many. Does nothing unless the crate is built with the feature `chaos`.
    pub fn inject_panic(&self, kind: &str, name: Option<&str>) -> usize {
        let mut hit = 0;
        for actor in self.0.actors.read().values() {
            if cfg!(feature = "chaos") && actor.kind == kind && name.is_none_or(|n| n == actor.name) {
                actor.panic_wanted.store(true, Relaxed);
                if let Some(waker) = actor.waker.lock().as_ref() {
                    waker.wake_by_ref();
                }
                hit += 1;
            }
        }
        hit
    }

    /// Registers how many actors of each kind are in each state.
    pub fn register(&self, registry: &Registry) {
        let board = self.clone();
        registry.collect(move |out| {
            let mut counts: BTreeMap<(&'static str, ActorState), u64> = BTreeMap::new();
            for actor in board.actors() {
                *counts.entry((actor.kind, actor.state)).or_default() += 1;
            }
            let name = "firekeeper_actors";
            out.family(name, "Actors by kind and state.", Kind::Gauge);
            for ((kind, state), count) in counts {
                out.sample(name, &[("actor", kind), ("state", state.name())], count as f64);
            }
        });
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("actors", &self.0.actors.read().len()).finish()
    }
}
