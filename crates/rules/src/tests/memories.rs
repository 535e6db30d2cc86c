//! What somebody keeps of alerts over a restart, and how they go on with it, without anything in the storage.

use super::*;

const UNIT: [(&str, &str); 2] = [("__name__", "level"), ("unit", "a")];

/// A group on a storage that forgets `ALERTS_FOR_STATE`, and what was kept of its alerts, as a journal would.
struct Kept {
    bench: Bench,
    memories: std::collections::BTreeMap<InstanceId, Remembered>,
    last_s: i64,
    sent: Vec<String>,
    events: Vec<String>,
}

impl Kept {
    fn new(rule: Rule) -> Kept {
        Kept {
            bench: Bench::new(group(vec![rule])),
            memories: Default::default(),
            last_s: 0,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    fn at(&mut self, at_s: i64, level: Option<f64>) -> &mut Kept {
        match level {
            Some(level) => self.bench.sample(&UNIT, at_s, level),
            // Older than any lookback.
            None => self.bench.storage = MemoryStorage::new(),
        }
        let report = self.bench.at(at_s);
        assert_eq!(report.n_failures(), 0);
        for remembered in report.changes.put {
            self.memories.insert(remembered.instance, remembered);
        }
        for instance in &report.changes.sent {
            self.memories.get_mut(instance).unwrap().memory.last_sent_ns = Some(report.changes.at_ns);
        }
        for instance in &report.changes.gone {
            self.memories.remove(instance);
        }
        self.sent.extend(report.alerts.iter().map(|a| format!("{at_s}: {}-{}", a.starts_at_ns / S, a.ends_at_ns / S)));
        self.events.extend(report.events.iter().map(|e| format!("{at_s}: {} {}", e.event.name(), e.value)));
        self.last_s = at_s;
        // What is kept is what the group knows, whenever the server is killed.
        let mut known = self.bench.group.memories();
        known.sort_by_key(|one| one.instance);
        let same = |one: &Remembered| {
            let AlertMemory { annotations: _, value: _, .. } = one.memory;
            (one.instance, AlertMemory { annotations: Vec::new(), value: 0.0, ..one.memory.clone() })
        };
        assert_eq!(self.memories.values().map(same).collect::<Vec<_>>(), known.iter().map(same).collect::<Vec<_>>());
        self
    }

    /// Kills the server and starts it again.
    fn restart(&mut self) -> &mut Kept {
        let spec = GroupSpec { restore: true, ..self.bench.group.spec().clone() };
        self.bench.storage = MemoryStorage::new();
        self.bench.group = Group::new(spec);
        self.bench.group.recall(self.memories.values().cloned().collect(), Some(self.last_s * S));
        self.sent.push("restart".to_owned());
        self.events.push("restart".to_owned());
        self
    }

    fn check(&self, sent: &[&str], events: &[&str]) {
        assert_eq!((self.sent.as_slice(), self.events.as_slice()), (&strings(sent)[..], &strings(events)[..]));
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn high(hold_s: i64, keep_firing_s: i64) -> Rule {
    alert("High", "level > 10", hold_s, keep_firing_s, &[])
}

#[test]
fn a_firing_alert_goes_on_without_a_word() {
    for hold_s in [0, 60] {
        let mut kept = Kept::new(high(hold_s, 0));
        kept.at(0, Some(11.0)).at(60, Some(12.0)).restart().at(120, Some(13.0)).at(180, Some(14.0)).at(240, Some(1.0));
        let start = hold_s;
        let next = start + 120;
        let mut sent = vec![format!("{start}: {start}-{}", start + 240), "restart".to_owned()];
        sent.push(format!("{next}: {start}-{}", next + 240));
        sent.push(format!("240: {start}-240"));
        assert_eq!(kept.sent, sent, "for {hold_s}");
        let fired = format!("{start}: firing {}", 11 + start / 60);
        let events: Vec<&str> = kept.events.iter().map(String::as_str).collect();
        let wanted = [fired.as_str(), "restart", "240: resolved 14"];
        assert_eq!(events[events.len() - 3..], wanted, "for {hold_s}");
    }
}

#[test]
fn a_pending_alert_fires_when_it_would_have() {
    let mut kept = Kept::new(high(180, 0));
    kept.at(0, Some(11.0)).at(60, Some(11.0)).restart().at(120, Some(11.0)).at(180, Some(11.0));
    kept.check(&["restart", "180: 180-420"], &["0: pending 11", "restart", "180: firing 11"]);
}

#[test]
fn a_long_outage_does_not_count_as_active() {
    let mut kept = Kept::new(high(180, 0));
    kept.at(0, Some(11.0)).at(60, Some(11.0)).restart().at(660, Some(11.0)).at(720, Some(11.0)).at(780, Some(11.0));
    kept.check(&["restart", "780: 780-1020"], &["0: pending 11", "restart", "780: firing 11"]);
}

#[test]
fn what_is_not_seen_again_is_resolved_when_targets_had_their_time() {
    let mut kept = Kept::new(high(0, 0));
    kept.at(0, Some(11.0)).restart();
    kept.at(60, None).at(120, None);
    kept.check(&["0: 0-240", "restart"], &["0: firing 11", "restart"]);
    kept.at(180, None).at(240, None);
    kept.check(
        &["0: 0-240", "restart", "180: 0-180", "300: 0-180"][..3],
        &["0: firing 11", "restart", "180: resolved 11"],
    );
    // Seen later than that, it is a new alert.
    kept.at(300, Some(11.0));
    assert_eq!(kept.sent.last().map(String::as_str), Some("300: 300-540"));
}

#[test]
fn what_waits_is_seen_late() {
    let mut kept = Kept::new(high(0, 0));
    kept.at(0, Some(11.0)).restart().at(60, None).at(120, Some(11.0)).at(180, Some(11.0));
    kept.check(&["0: 0-240", "restart", "120: 0-360"], &["0: firing 11", "restart"]);
}

#[test]
fn keeping_firing_and_resolved_alerts_survive() {
    let mut kept = Kept::new(high(0, 180));
    kept.at(0, Some(11.0)).at(60, Some(1.0)).restart().at(120, Some(1.0)).at(180, Some(1.0)).at(240, Some(1.0));
    kept.restart().at(300, Some(1.0)).at(360, Some(1.0)).at(420, Some(1.0));
    let sent = ["0: 0-240", "restart", "120: 0-360", "240: 0-240", "restart", "360: 0-240"];
    kept.check(&sent, &["0: firing 11", "restart", "240: resolved 11", "restart"]);
}

#[test]
fn a_pending_alert_that_ends_and_too_many_alerts_are_forgotten() {
    let mut kept = Kept::new(high(600, 0));
    kept.at(0, Some(11.0)).at(60, Some(1.0));
    kept.check(&[], &["0: pending 11", "60: ended 11"]);
    assert!(kept.memories.is_empty());

    let mut bench = Bench::new(RuleGroup { limit: 1, ..group(vec![high(0, 0)]) });
    bench.sample(&UNIT, 0, 11.0);
    assert_eq!(bench.at(0).events.len(), 1);
    bench.sample(&UNIT, 60, 11.0);
    bench.sample(&[("__name__", "level"), ("unit", "b")], 60, 11.0);
    let report = bench.at(60);
    let events: Vec<&str> = report.events.iter().map(|e| e.event.name()).collect();
    assert_eq!((report.n_failures(), events), (1, vec!["firing", "ended", "ended"]));
    assert_eq!((bench.group.memories().len(), report.changes.gone.len()), (0, 2));
}

#[test]
fn rules_side_by_side_give_what_they_give_one_by_one() {
    let rules = || {
        let mut rules = vec![record("a", "sum(level)", &[]), record("b", "a * 2", &[]), record("c", "b + a", &[])];
        rules.extend((0..20).map(|n| record(&format!("x{n}"), &format!("level + {n}"), &[])));
        rules.push(alert("Many", "count(level) > 1", 0, 0, &[]));
        rules.push(record("alerts", "count(ALERTS)", &[]));
        rules
    };
    let run = |slots: Option<EvalSlots>| {
        let bench = Bench { slots, ..Bench::new(group(rules())) };
        let mut bench = bench;
        for at in 0..4 {
            bench.sample(&UNIT, at * 60, at as f64);
            bench.sample(&[("__name__", "level"), ("unit", "b")], at * 60, 5.0);
            bench.good_at(at * 60);
        }
        bench.stored("")
    };
    let one_by_one = run(None);
    assert!(
        one_by_one.iter().any(|line| line.contains("\"c\""))
            && one_by_one.iter().any(|line| line.contains("\"alerts\""))
    );
    assert_eq!(run(Some(EvalSlots::new(3))), one_by_one);
    assert_eq!(run(Some(EvalSlots::new(0))), one_by_one);
}
