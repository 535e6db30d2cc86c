//! What is measured of every message, by actor kind and message type.
//!
//! The tables are global: an envelope is packed without knowing the instance it is for, and kind and message are types
//! of the program, so there is nothing to configure and the number of rows is bounded by the code.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use fk_instrument::{Counter, Encoder, Histogram, Kind, Metric, Registry};
use parking_lot::RwLock;

use crate::ManagedActor;

/// Bounds of the time histograms in seconds: 10 microseconds to 10 seconds.
pub const SECONDS: &[f64] = &[0.000_01, 0.000_1, 0.001, 0.01, 0.1, 1.0, 10.0];

/// The figures of one message type at one kind of actor.
#[derive(Debug)]
pub(crate) struct Meter {
    kind: &'static str,
    message: &'static str,
    depth: AtomicI64,
    handled: Counter,
    dropped: Counter,
    wait: Histogram,
    handling: Histogram,
}

static METERS: LazyLock<RwLock<HashMap<(TypeId, TypeId), &'static Meter>>> = LazyLock::new(RwLock::default);
static PANICS: LazyLock<RwLock<HashMap<&'static str, (Counter, Counter)>>> = LazyLock::new(RwLock::default);

/// The last segment of a type's path, generics kept.
fn short_name(full: &'static str) -> &'static str {
    let head = full.split('<').next().unwrap_or(full);
    head.rfind("::").map_or(full, |at| &full[at + 2..])
}

/// The meter of message `M` at actor `A`.
pub(crate) fn of<A: ManagedActor, M: 'static>() -> &'static Meter {
    let key = (TypeId::of::<A>(), TypeId::of::<M>());
    if let Some(meter) = METERS.read().get(&key) {
        return meter;
    }
    METERS.write().entry(key).or_insert_with(|| {
        // Leaked once per pair of types: the table lives as long as the program.
        Box::leak(Box::new(Meter {
            kind: A::KIND,
            message: short_name(std::any::type_name::<M>()),
            depth: AtomicI64::new(0),
            handled: Counter::default(),
            dropped: Counter::default(),
            wait: Histogram::new(SECONDS),
            handling: Histogram::new(SECONDS),
        }))
    })
}

impl Meter {
    pub(crate) fn queued(&self) {
        self.depth.fetch_add(1, Relaxed);
    }

    pub(crate) fn taken(&self, waited: Duration) {
        self.depth.fetch_sub(1, Relaxed);
        self.wait.observe(waited.as_secs_f64());
    }

    pub(crate) fn handled(&self, took: Duration) {
        self.handled.inc();
        self.handling.observe(took.as_secs_f64());
    }

    /// Discarded without being taken: the actor is gone, or the asker gave up.
    pub(crate) fn dropped(&self) {
        self.depth.fetch_sub(1, Relaxed);
        self.dropped.inc();
    }

    pub(crate) fn message(&self) -> &'static str {
        self.message
    }
}

fn panics_of(kind: &'static str) -> (Counter, Counter) {
    if let Some(counters) = PANICS.read().get(kind) {
        return counters.clone();
    }
    PANICS.write().entry(kind).or_default().clone()
}

pub(crate) fn panicked(kind: &'static str) {
    panics_of(kind).0.inc();
}

pub(crate) fn restarted(kind: &'static str) {
    panics_of(kind).1.inc();
}

/// Messages of any type waiting for actors of `kind`.
pub fn depth(kind: &str) -> i64 {
    METERS.read().values().filter(|m| m.kind == kind).map(|m| m.depth.load(Relaxed)).sum()
}

/// Messages of any type that actors of `kind` have handled.
pub fn handled(kind: &str) -> u64 {
    METERS.read().values().filter(|m| m.kind == kind).map(|m| m.handled.get()).sum()
}

/// Messages to actors of `kind` that were discarded.
pub fn dropped(kind: &str) -> u64 {
    METERS.read().values().filter(|m| m.kind == kind).map(|m| m.dropped.get()).sum()
}

/// Registers `firekeeper_actor_*`.
pub fn register(registry: &Registry) {
    registry.collect(encode);
}

fn encode(out: &mut Encoder) {
    let meters: Vec<&'static Meter> = METERS.read().values().copied().collect();
    for meter in &meters {
        let labels = [("actor", meter.kind), ("message", meter.message)];
        let name = "firekeeper_actor_messages_total";
        out.family(name, "Messages handled.", Kind::Counter);
        meter.handled.encode(out, name, &labels);
        let name = "firekeeper_actor_messages_dropped_total";
        out.family(name, "Messages discarded unhandled: the actor had gone or the asker had given up.", Kind::Counter);
        meter.dropped.encode(out, name, &labels);
        let name = "firekeeper_actor_mailbox_depth";
        out.family(name, "Messages waiting to be handled.", Kind::Gauge);
        out.sample(name, &labels, meter.depth.load(Relaxed) as f64);
        let name = "firekeeper_actor_message_wait_seconds";
        out.family(name, "Time from sending a message to its handling.", Kind::Histogram);
        meter.wait.encode(out, name, &labels);
        let name = "firekeeper_actor_message_handling_seconds";
        out.family(name, "Time a handler took, without what it left to futures.", Kind::Histogram);
        meter.handling.encode(out, name, &labels);
    }
    for (kind, (panics, restarts)) in PANICS.read().iter() {
        let name = "firekeeper_actor_panics_total";
        out.family(name, "Panics caught.", Kind::Counter);
        panics.encode(out, name, &[("actor", kind)]);
        let name = "firekeeper_actor_restarts_total";
        out.family(name, "Restarts after a panic.", Kind::Counter);
        restarts.encode(out, name, &[("actor", kind)]);
    }
}
