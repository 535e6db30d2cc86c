//! Rule groups and alert state, without a clock, a task or a thread of their own.
//!
//! A [`Group`] holds everything that one group of a rule file knows between two evaluations: which series its rules
//! wrote last time, and the state of every alert. Its owner asks [`Group::first_slot`] and [`Group::next_slot`] when to
//! evaluate, moves the group to a thread that may block, calls [`Group::evaluate`] there, and does what the
//! [`GroupReport`] says: count, log, and send the alerts. For display it keeps the [`GroupSnapshot`] of the last
//! evaluation.
//!
//! Queries go through [`Evaluate`], so that their owner can put them through the gate that all queries pass.
//!
//! Start with `group.rs`; `rule.rs` has the evaluation of one rule, `concurrency.rs` which rules run side by side,
//! `alerting.rs` the state machine of alerts, `written.rs` the bookkeeping of written series and staleness. What survives a
//! restart comes from the storage (`restore.rs`) and from whoever keeps what `memory.rs` hands out.

mod alerting;
mod backtest;
mod concurrency;
mod evaluate;
mod group;
mod memory;
mod overlay;
mod recording;
mod restore;
mod rule;
mod snapshot;
mod written;

pub use backtest::{Backtest, BacktestAlert, BacktestEvent, BacktestLimits, BacktestRule, HistoryQueries, backtest};
pub use concurrency::{Dependence, EvalSlot, EvalSlots, dependences};
pub use evaluate::{EvalContext, Evaluate, EvaluateError, QueryResult, ResultSample};
pub use group::{
    Group, GroupDefaults, GroupReport, GroupSpec, OutgoingAlert, RuleFailure, RuleOptions, RuleReport,
    STALE_DELAY_INTERVALS, Slot, group_key,
};
pub use memory::{AlertEvent, AlertMemory, AlertPhase, InstanceEvent, InstanceId, Remembered, StateChanges};
pub use snapshot::{AlertSnapshot, AlertState, GroupSnapshot, Health, RuleDetail, RuleSnapshot, RuleState};

/// A sorted list of annotation names and values. Not a label set: an annotation may expand to the empty text.
pub type Annotations = Vec<(String, String)>;

/// The two kinds of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKindName {
    /// `alert`
    Alerting,
    /// `record`
    Recording,
}

/// The name of a rule, of its metric or its alert, and its kind.
pub(crate) fn kind_name(rule: &fk_config::Rule) -> (&str, RuleKindName) {
    match &rule.kind {
        fk_config::RuleKind::Recording { metric } => (metric, RuleKindName::Recording),
        fk_config::RuleKind::Alerting { alert, .. } => (alert, RuleKindName::Alerting),
    }
}

/// Nanoseconds in a millisecond.
pub(crate) const NS_PER_MS: i64 = 1_000_000;
/// Nanoseconds in a second.
pub(crate) const NS_PER_S: i64 = 1_000_000_000;

#[cfg(test)]
mod tests;
