//! What survives a restart: since when alerts are active, from the series `ALERTS_FOR_STATE` in the local storage.
//!
//! Pending alerts are restored as Prometheus does it (`Group.RestoreForState`): once, after two evaluations, only where
//! `for` is at least the grace period, and with the time of the outage not counted.
//!
//! DIFFERENCE: an alert that was *firing* resumes firing when it is first seen again, whatever its `for`, and keeps the
//! time it began to fire. Prometheus lets a short `for` start anew and gives every alert a new start time, so that
//! Alertmanagers see alerts flap over a restart.

use std::collections::HashMap;

use fk_model::{Duration, Labels, METRIC_NAME, Matcher, is_stale};
use fk_storage::{Control, Queryable, SelectParams, StorageError, TimeRange};

use crate::alerting::{ALERT_NAME, ALERTS_FOR_STATE_METRIC, AlertingRule};
use crate::{NS_PER_MS, NS_PER_S};

/// What the storage knows of one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Previous {
    /// The stored time of becoming active: whole seconds.
    stored_ns: i64,
    /// Time of the last sample: the alert was last known active then.
    down_at_ns: i64,
}

/// An alert that was firing before the restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Firing {
    pub(crate) active_at_ns: i64,
    pub(crate) fired_at_ns: i64,
}

impl Previous {
    /// If the alert was firing: since when it was active and firing. The stored time lacks the fraction of the second;
    /// both events happened at evaluation times of the group, so that these bring it back.
    pub(crate) fn firing(&self, hold_ns: i64, slot_at_or_after: &dyn Fn(i64) -> i64) -> Option<Firing> {
        let slot_ns = slot_at_or_after(self.stored_ns);
        let active_at_ns = if slot_ns - self.stored_ns < NS_PER_S { slot_ns } else { self.stored_ns };
        let fired_at_ns = slot_at_or_after(active_at_ns.saturating_add(hold_ns));
        // Samples have times in milliseconds.
        (fired_at_ns.div_euclid(NS_PER_MS) <= self.down_at_ns.div_euclid(NS_PER_MS))
            .then_some(Firing { active_at_ns, fired_at_ns })
    }

    /// Since when a pending alert counts as active.
    pub(crate) fn active_at_ns(&self, now_ns: i64, hold_ns: i64, grace_ns: i64) -> i64 {
        let remaining_ns = hold_ns - (self.down_at_ns - self.stored_ns);
        if remaining_ns <= 0 {
            self.stored_ns
        } else if remaining_ns < grace_ns {
            (now_ns - hold_ns).saturating_add(grace_ns)
        } else {
            self.stored_ns + (now_ns - self.down_at_ns)
        }
    }
}

/// Looks up the alerts of `rule` that were active at most `tolerance` before `now_ns`, by their labels.
pub(crate) fn look_up(
    rule: &AlertingRule,
    storage: &dyn Queryable,
    now_ns: i64,
    tolerance: Duration,
    control: &Control,
) -> Result<HashMap<Labels, Previous>, StorageError> {
    let now_ms = now_ns.div_euclid(NS_PER_MS);
    let range = TimeRange { mint: now_ms - tolerance.as_millis(), maxt: now_ms };
    let mut matchers =
        vec![Matcher::equal(METRIC_NAME, ALERTS_FOR_STATE_METRIC), Matcher::equal(ALERT_NAME, rule.name())];
    let fixed = rule.labels().iter().filter(|(_, value)| !value.contains("{{"));
    matchers.extend(fixed.map(|(name, value)| Matcher::equal(name, value)));
    let set = storage.select(&SelectParams { range, sorted: false, limit: 0 }, &matchers, control)?;
    let mut previous = HashMap::with_capacity(set.len());
    for idx in 0..set.len() {
        // A staleness marker says that the alert had ended.
        let Some(newest) = set.last(idx, range)?.filter(|newest| !is_stale(newest.v) && newest.h.is_none()) else {
            continue;
        };
        let (t, v) = (newest.t, newest.v);
        let (stored_ns, down_at_ns) = ((v as i64).saturating_mul(NS_PER_S), t.saturating_mul(NS_PER_MS));
        // Anyone can write this series: what cannot be the start of an alert is left alone.
        if (0..=down_at_ns).contains(&stored_ns) {
            previous.insert(set.labels(idx).without_name(), Previous { stored_ns, down_at_ns });
        }
    }
    Ok(previous)
}
