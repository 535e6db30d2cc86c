//! Which rules of a group may be evaluated side by side, and how many of all groups are.
//!
//! A rule that reads what an earlier one of its group writes has to wait for it. What a rule reads is told by the name
//! matchers of its selectors; a selector without one may read anything, and then nothing of the group runs side by side.
//! A rule that reads what a *later* one writes reads the results of the evaluation before, whatever the order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

use fk_config::{Rule, RuleKind};
use fk_model::{METRIC_NAME, MatchKind, Matcher};
use fk_promql_syntax::ast::ExprKind;
use fk_promql_syntax::visit::walk;

use crate::alerting::{ALERT_NAME, ALERTS_FOR_STATE_METRIC, ALERTS_METRIC};

/// How many rules may be evaluated side by side, in all groups (`--rules.max-concurrent-evals`). Clones share the slots.
#[derive(Clone, Debug)]
pub struct EvalSlots(Arc<AtomicUsize>);

/// A slot; given back when dropped.
#[derive(Debug)]
pub struct EvalSlot(Arc<AtomicUsize>);

impl EvalSlots {
    /// So many.
    pub fn new(n: usize) -> EvalSlots {
        EvalSlots(Arc::new(AtomicUsize::new(n)))
    }

    /// A slot, if one is free. Nobody waits for one: a rule without a slot is evaluated where its group is.
    pub fn try_take(&self) -> Option<EvalSlot> {
        let taken = self.0.fetch_update(AcqRel, Acquire, |free| free.checked_sub(1));
        taken.ok().map(|_| EvalSlot(Arc::clone(&self.0)))
    }
}

impl Drop for EvalSlot {
    fn drop(&mut self) {
        self.0.fetch_add(1, AcqRel);
    }
}

/// How a rule stands to the other rules of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dependence {
    /// Whether it reads what an earlier rule writes.
    pub has_dependencies: bool,
    /// Whether a later rule reads what it writes.
    pub has_dependents: bool,
}

/// How the rules of a group depend on each other; `None` if that cannot be told.
pub fn dependences(rules: &[Rule]) -> Option<Vec<Dependence>> {
    let mut found = vec![Dependence::default(); rules.len()];
    if rules.len() < 2 {
        return Some(found);
    }
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut indeterminate = false;
    for (at, rule) in rules.iter().enumerate() {
        let mut depends = |on: &[usize]| {
            for &earlier in on {
                found[earlier].has_dependents = true;
                found[at].has_dependencies = true;
            }
        };
        let is_alerting = |idx: &usize| matches!(rules[*idx].kind, RuleKind::Alerting { .. });
        walk(&rule.expr, &mut |node, _| {
            let matchers = match &node.kind {
                ExprKind::VectorSelector(selector) => &selector.matchers,
                ExprKind::MatrixSelector(matrix) => &matrix.selector.matchers,
                _ => return,
            };
            let Some(by) = matchers.iter().find(|m| m.name == METRIC_NAME) else {
                indeterminate = true;
                return;
            };
            match by.kind {
                MatchKind::Equal => depends(by_name.get(by.value.as_str()).map_or(&[], Vec::as_slice)),
                _ => depends(&(0..at).filter(|idx| by.matches(name_of(&rules[*idx]))).collect::<Vec<_>>()),
            }
            if by.matches(ALERTS_METRIC) || by.matches(ALERTS_FOR_STATE_METRIC) {
                let alert: Option<&Matcher> = matchers.iter().find(|m| m.name == ALERT_NAME);
                let wanted = |idx: &usize| is_alerting(idx) && alert.is_none_or(|m| m.matches(name_of(&rules[*idx])));
                depends(&(0..at).filter(wanted).collect::<Vec<_>>());
            }
        });
        if indeterminate {
            return None;
        }
        by_name.entry(name_of(rule)).or_default().push(at);
    }
    Some(found)
}

fn name_of(rule: &Rule) -> &str {
    match &rule.kind {
        RuleKind::Recording { metric } => metric,
        RuleKind::Alerting { alert, .. } => alert,
    }
}

/// The order of evaluation: the rules of a batch side by side, one batch after another. First what waits for nothing, then
/// one by one what others wait for, then what nobody waits for. `None`: all one by one.
pub(crate) fn batches(rules: &[Rule]) -> Option<Vec<Vec<usize>>> {
    let dependences = dependences(rules)?;
    let which = |wanted: fn(&Dependence) -> bool| -> Vec<usize> {
        dependences.iter().enumerate().filter(|(_, one)| wanted(one)).map(|(idx, _)| idx).collect()
    };
    let mut batches = vec![which(|one| !one.has_dependencies)];
    batches.extend(which(|one| one.has_dependencies && one.has_dependents).into_iter().map(|idx| vec![idx]));
    batches.push(which(|one| one.has_dependencies && !one.has_dependents));
    batches.retain(|batch| !batch.is_empty());
    Some(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{alert, record};

    fn check(rules: &[(&str, &str)], wanted: Option<&[&[usize]]>) {
        let rule = |(name, expr): &(&str, &str)| match name.strip_prefix('!') {
            Some(name) => alert(name, expr, 0, 0, &[]),
            None => record(name, expr, &[]),
        };
        let rules: Vec<Rule> = rules.iter().map(rule).collect();
        let wanted = wanted.map(|wanted| wanted.iter().map(|batch| batch.to_vec()).collect::<Vec<_>>());
        assert_eq!(batches(&rules), wanted, "{rules:?}");
    }

    #[test]
    fn rules_wait_for_what_they_read() {
        check(&[("a", "up"), ("b", "up"), ("!C", "up > 0")], Some(&[&[0, 1, 2]]));
        check(&[("a", "up"), ("b", "a"), ("c", "b"), ("d", "b"), ("e", "up")], Some(&[&[0, 4], &[1], &[2, 3]]));
        // What a later rule writes is of the evaluation before.
        check(&[("a", "b"), ("b", "up")], Some(&[&[0, 1]]));
        check(&[("ab", "up"), ("c", r#"rate({__name__=~"a.*"}[5m])"#)], Some(&[&[0], &[1]]));
        check(&[("ab", "up"), ("c", r#"{__name__!="x", job="y"}"#)], Some(&[&[0], &[1]]));
        check(&[("!A", "up"), ("!B", "up"), ("!C", r#"ALERTS{alertname="A"}"#)], Some(&[&[0, 1], &[2]]));
        check(&[("!A", "up"), ("c", "ALERTS_FOR_STATE")], Some(&[&[0], &[1]]));
        check(&[("a", "up"), ("c", "ALERTS")], Some(&[&[0, 1]]));
        check(&[("a", "up"), ("c", r#"{job="x"}"#)], None);
        check(&[("c", r#"{job="x"}"#)], Some(&[&[0]]));
    }

    #[test]
    fn slots_are_given_back() {
        let slots = EvalSlots::new(2);
        let (one, two) = (slots.try_take(), slots.clone().try_take());
        assert!(one.is_some() && two.is_some() && slots.try_take().is_none());
        drop(one);
        assert!(slots.try_take().is_some());
    }

    #[test]
    fn shared_rule_files_depend_as_recorded() {
        let Some(path) = fk_testkit::conformance("rules/dependencies.json") else { return };
        let data: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for case in data["cases"].as_array().unwrap() {
            let file = path.with_file_name(case["file"].as_str().unwrap());
            let text = std::fs::read_to_string(&file).unwrap();
            let options = fk_promql_syntax::ParserOptions::default();
            let (file, _) =
                fk_config::load_rule_file("r", &text, fk_model::name::NameValidation::Utf8, &options).unwrap();
            let wanted = case["rules"].as_object().unwrap();
            let mut seen = 0;
            for group in &file.groups {
                let found = dependences(&group.rules);
                for (idx, rule) in group.rules.iter().enumerate() {
                    let Some(wanted) = wanted.get(name_of(rule)) else { continue };
                    // Unknown counts as both, as in Prometheus.
                    let one =
                        found.as_ref().map_or(Dependence { has_dependencies: true, has_dependents: true }, |f| f[idx]);
                    let got = (!one.has_dependents, !one.has_dependencies);
                    let flag = |name: &str| wanted[name].as_bool().unwrap();
                    assert_eq!(got, (flag("no_dependent_rules"), flag("no_dependency_rules")), "{}", name_of(rule));
                    seen += 1;
                }
            }
            assert!(seen >= wanted.len(), "{}", case["name"]);
        }
    }
}
