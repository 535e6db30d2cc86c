//! The state of a group as plain data, for `/api/v1/rules` and `/api/v1/alerts`.

use std::sync::Arc;

use fk_model::{Duration, Labels};

use crate::Annotations;

/// How the last evaluation of a rule went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// There was none yet.
    #[default]
    Unknown,
    /// Well.
    Good,
    /// It failed.
    Bad,
}

impl Health {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Good => "ok",
            Health::Bad => "err",
        }
    }
}

/// State of one alert that is pending or firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// Active for less than `for`.
    Pending,
    /// Firing.
    Firing,
}

impl AlertState {
    /// As the API and the label `alertstate` name it.
    pub fn name(self) -> &'static str {
        match self {
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// State of an alerting rule: the highest state of its alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleState {
    /// Not evaluated yet.
    Unknown,
    /// No active alert.
    Inactive,
    /// An alert is pending, none is firing.
    Pending,
    /// An alert is firing.
    Firing,
}

impl RuleState {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            RuleState::Unknown => "unknown",
            RuleState::Inactive => "inactive",
            RuleState::Pending => "pending",
            RuleState::Firing => "firing",
        }
    }
}

/// One group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSnapshot {
    /// Name.
    pub name: Arc<str>,
    /// Path of the file.
    pub file: Arc<str>,
    /// Interval.
    pub interval: Duration,
    /// Most results of one rule; 0: no limit.
    pub limit: u64,
    /// How long the last evaluation took, seconds.
    pub evaluation_s: f64,
    /// When the last evaluation began by the wall clock, nanoseconds; `None`: not evaluated yet.
    pub last_evaluation_ns: Option<i64>,
    /// The rules, in file order.
    pub rules: Vec<RuleSnapshot>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSnapshot {
    /// Name of the metric or of the alert.
    pub name: Arc<str>,
    /// The expression.
    pub query: Arc<str>,
    /// Labels, templates not expanded.
    pub labels: Labels,
    /// Names of labels that the rule takes off its results.
    pub removed_labels: Vec<String>,
    /// Health.
    pub health: Health,
    /// Error of the last evaluation; empty if there was none.
    pub last_error: String,
    /// How long the last evaluation took, seconds.
    pub evaluation_s: f64,
    /// When the last evaluation began by the wall clock, nanoseconds; `None`: not evaluated yet.
    pub last_evaluation_ns: Option<i64>,
    /// What only one kind of rule has.
    pub detail: RuleDetail,
}

/// What only one kind of rule has.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleDetail {
    /// A recording rule.
    Recording,
    /// An alerting rule.
    Alerting {
        /// State.
        state: RuleState,
        /// `for`
        hold: Duration,
        /// `keep_firing_for`
        keep_firing: Duration,
        /// Annotations, templates not expanded.
        annotations: Annotations,
        /// Pending and firing alerts, in order of their labels.
        alerts: Vec<AlertSnapshot>,
    },
}

/// One pending or firing alert.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSnapshot {
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Annotations,
    /// State.
    pub state: AlertState,
    /// Since when it is active, nanoseconds since the epoch.
    pub active_at_ns: i64,
    /// Since when it fires only because of `keep_firing_for`, nanoseconds since the epoch.
    pub keep_firing_since_ns: Option<i64>,
    /// Value of the expression when it was last seen.
    pub value: f64,
}
