//! Alerts over a restart: a second group on the storage that the first one wrote.

use super::*;

const LEVEL: [(&str, &str); 2] = [("__name__", "level"), ("unit", "a")];

/// Times of evaluations, seconds. The group's slots are at these times plus `SLOT` nanoseconds.
fn slot(group: &Group, n: i64) -> i64 {
    group.first_slot(n * 60 * S)
}

struct Restart {
    storage: MemoryStorage,
    rule: Rule,
}

impl Restart {
    /// A rule with this `for` that was active in `n_active` evaluations, from the hundredth slot on, and then went down.
    fn new(hold_s: i64, n_active: i64) -> Restart {
        let restart = Restart {
            storage: MemoryStorage::new(),
            rule: alert("High", "level > 10", hold_s, 0, &[("severity", "{{ $labels.unit }}")]),
        };
        let mut group = Group::new(spec(group(vec![restart.rule.clone()])));
        for n in 100..100 + n_active {
            restart.evaluate(&mut group, n);
        }
        restart
    }

    fn evaluate(&self, group: &mut Group, n: i64) -> GroupReport {
        let ts_ns = slot(group, n);
        self.storage.add(&labels(&LEVEL), &[(ts_ns / NS_PER_MS, 11.0)]);
        let report = evaluate_at(group, &self.storage, ts_ns, ts_ns + NS_PER_MS);
        assert_eq!(report.n_failures(), 0);
        report
    }

    fn again(&self) -> Group {
        Group::new(GroupSpec { restore: true, ..spec(group(vec![self.rule.clone()])) })
    }

    fn alert(&self, group: &Group) -> AlertSnapshot {
        match group.snapshot().rules.swap_remove(0).detail {
            RuleDetail::Alerting { mut alerts, .. } => alerts.remove(0),
            RuleDetail::Recording => panic!("a recording rule has no alerts"),
        }
    }
}

#[test]
fn a_firing_alert_fires_on_and_keeps_its_start() {
    for (hold_s, n_active) in [(0, 1), (180, 4), (180, 9), (1200, 21), (1200, 30)] {
        let restart = Restart::new(hold_s, n_active);
        let mut group = restart.again();
        let report = restart.evaluate(&mut group, 100 + n_active + 5);
        let fired = slot(&group, 100) + hold_s * S;
        let starts: Vec<i64> = report.alerts.iter().map(|a| a.starts_at_ns).collect();
        assert_eq!(starts, [fired], "for {hold_s}, {n_active} evaluations");
        assert_eq!(restart.alert(&group).active_at_ns, slot(&group, 100));
        assert_eq!(restart.alert(&group).state, AlertState::Firing);
    }
}

#[test]
fn series_are_written_again_after_two_evaluations() {
    let restart = Restart::new(0, 3);
    let before = dump(&restart.storage, "ALERTS");
    let mut group = restart.again();
    assert_eq!(restart.evaluate(&mut group, 110).restore_s, None);
    assert!(restart.evaluate(&mut group, 111).restore_s.is_some());
    assert_eq!(dump(&restart.storage, "ALERTS"), before);
    let report = restart.evaluate(&mut group, 112);
    assert_eq!((report.n_samples, report.restore_s), (2, None));
    assert_ne!(dump(&restart.storage, "ALERTS"), before);
}

#[test]
fn pending_alerts_get_their_age_less_the_outage() {
    // `for` of 20 minutes, active for some minutes, then down for 30 minutes, then two evaluations.
    for (n_active, name) in [(3, "long to go"), (15, "less than the grace period to go")] {
        let restart = Restart::new(1200, n_active);
        let mut group = restart.again();
        let (down, up) = (100 + n_active - 1, 100 + n_active - 1 + 30);
        restart.evaluate(&mut group, up);
        assert_eq!(restart.alert(&group).active_at_ns, slot(&group, up), "{name}");
        restart.evaluate(&mut group, up + 1);
        // The wall clock at the end of the evaluation; the stored age is in whole seconds, the last sample in whole ms.
        let now = slot(&group, up + 1) + NS_PER_MS * 4;
        let stored = slot(&group, 100) / S * S;
        let expected = match n_active {
            3 => stored + (now - slot(&group, down) / NS_PER_MS * NS_PER_MS),
            _ => now + 600 * S - 1200 * S,
        };
        let alert = restart.alert(&group);
        assert_eq!(alert.state, AlertState::Pending, "{name}");
        assert!((alert.active_at_ns - expected).abs() <= 4 * NS_PER_MS, "{name}: {} {expected}", alert.active_at_ns);
    }
}

#[test]
fn a_short_pending_time_starts_anew() {
    let restart = Restart::new(300, 3);
    let mut group = restart.again();
    for n in 110..113 {
        restart.evaluate(&mut group, n);
    }
    let alert = restart.alert(&group);
    assert_eq!((alert.state, alert.active_at_ns), (AlertState::Pending, slot(&group, 110)));
}

#[test]
fn alerts_that_had_ended_or_are_too_old_are_not_restored() {
    for (mark_stale, up) in [(true, 110), (false, 105 + 61)] {
        let restart = Restart::new(0, 5);
        if mark_stale {
            let for_state =
                labels(&[("__name__", "ALERTS_FOR_STATE"), ("alertname", "High"), ("severity", "a"), ("unit", "a")]);
            let ended = slot(&restart.again(), 106) / NS_PER_MS;
            restart.storage.add(&for_state, &[(ended, fk_model::stale_nan())]);
        }
        let mut group = restart.again();
        let report = restart.evaluate(&mut group, up);
        assert_eq!(report.alerts[0].starts_at_ns, slot(&group, up), "stale {mark_stale}");
    }
}

#[test]
fn an_alert_that_is_not_active_any_more_is_not_restored() {
    let restart = Restart::new(0, 3);
    let mut group = restart.again();
    for n in 110..114 {
        let ts_ns = slot(&group, n);
        restart.storage.add(&labels(&LEVEL), &[(ts_ns / NS_PER_MS, 1.0)]);
        let report = evaluate_at(&mut group, &restart.storage, ts_ns, ts_ns);
        assert_eq!((report.alerts.len(), report.n_samples), (0, 0), "never a resolved notification");
    }
}

#[test]
fn a_group_of_a_later_load_looks_nothing_up() {
    let restart = Restart::new(0, 3);
    let mut group = Group::new(spec(group(vec![restart.rule.clone()])));
    let report = restart.evaluate(&mut group, 110);
    assert_eq!((report.alerts[0].starts_at_ns, report.n_samples), (slot(&group, 110), 2));
}
