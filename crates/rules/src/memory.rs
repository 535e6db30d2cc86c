//! What a group hands out about its alerts, so that somebody can keep it: their state, for the next start of the server, and
//! what happened to them, for people.

use fk_model::Labels;
use xxhash_rust::xxh64::xxh64;

use crate::Annotations;

/// Names an alert: the group and the rule it is of, and its labels. The same alert has the same name after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u128);

/// How far an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertPhase {
    /// Active for less than `for`.
    Pending,
    /// Firing.
    Firing,
    /// Ended, and still told to Alertmanagers.
    Resolved,
}

/// Everything that makes an alert go on where it was.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertMemory {
    /// Labels.
    pub labels: Labels,
    /// Annotations, as of the last change of state.
    pub annotations: Annotations,
    /// Value, as of the last change of state.
    pub value: f64,
    /// How far it is.
    pub phase: AlertPhase,
    /// Since when it is active, nanoseconds since the epoch, as are all times here.
    pub active_at_ns: i64,
    /// Since when it fires.
    pub fired_at_ns: Option<i64>,
    /// When it ended.
    pub resolved_at_ns: Option<i64>,
    /// When it was last sent.
    pub last_sent_ns: Option<i64>,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since_ns: Option<i64>,
}

/// An alert and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// Which alert.
    pub instance: InstanceId,
    /// Its rule, as the group numbers them by name and labels.
    pub rule: u128,
    /// What is known of it.
    pub memory: AlertMemory,
}

/// What an evaluation changed in the memory of a group's alerts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateChanges {
    /// The evaluation time.
    pub at_ns: i64,
    /// Alerts that are new or have changed.
    pub put: Vec<Remembered>,
    /// Alerts of which only [`AlertMemory::last_sent_ns`] changed, to the evaluation time.
    pub sent: Vec<InstanceId>,
    /// Alerts that are not worth remembering any more.
    pub gone: Vec<InstanceId>,
}

impl StateChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.sent.is_empty() && self.gone.is_empty()
    }
}

/// What can happen to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertEvent {
    /// It is active, for less than `for`.
    Pending,
    /// It fires.
    Firing,
    /// It no longer fires.
    Resolved,
    /// It is gone without having fired, or without anybody being told.
    Ended,
}

impl AlertEvent {
    /// All of them, in an order that files rely on.
    pub const ALL: [AlertEvent; 4] = [AlertEvent::Pending, AlertEvent::Firing, AlertEvent::Resolved, AlertEvent::Ended];

    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            AlertEvent::Pending => "pending",
            AlertEvent::Firing => "firing",
            AlertEvent::Resolved => "resolved",
            AlertEvent::Ended => "ended",
        }
    }
}

/// Something happened to an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceEvent {
    /// Which alert.
    pub instance: InstanceId,
    /// Its labels.
    pub labels: Labels,
    /// What happened.
    pub event: AlertEvent,
    /// Value of the expression when it was last seen.
    pub value: f64,
}

/// Joins texts so that no two lists of texts give the same bytes.
fn join(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// The number of a rule: by its group, name and labels, and which one it is among rules that are equal in these.
pub(crate) fn rule_key(group: &str, name: &str, labels: &Labels, removed: &[String], nth: usize) -> u128 {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&(nth as u64).to_le_bytes());
    join(&mut bytes, group);
    join(&mut bytes, name);
    for (name, value) in labels {
        join(&mut bytes, name);
        join(&mut bytes, value);
    }
    for name in removed {
        join(&mut bytes, name);
    }
    wide_hash(&bytes, [0, 1])
}

/// The name of the alert with `labels` of a rule.
pub(crate) fn instance_id(rule: u128, labels: &Labels) -> InstanceId {
    let mut bytes = Vec::with_capacity(labels.byte_len() + 16 * labels.len());
    for (name, value) in labels {
        join(&mut bytes, name);
        join(&mut bytes, value);
    }
    InstanceId(wide_hash(&bytes, [rule as u64, (rule >> 64) as u64]))
}

/// So wide that two things never share a number.
fn wide_hash(bytes: &[u8], seeds: [u64; 2]) -> u128 {
    u128::from(xxh64(bytes, seeds[0])) << 64 | u128::from(xxh64(bytes, seeds[1]))
}
