//! Alerts, and what happens to their labels before they are queued.

use std::sync::Arc;

use fk_model::relabel::{RelabelRule, process};
use fk_model::{Labels, LabelsBuilder};

/// An alert to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Names the alert for whoever keeps records of it, whatever relabelling does to its labels.
    pub instance: u128,
    /// Labels.
    pub labels: Labels,
    /// Annotations, sorted by name; values may be empty.
    pub annotations: Vec<(String, String)>,
    /// Since when it fires, nanoseconds since the epoch.
    pub starts_at_ns: i64,
    /// When it was resolved, or until when it is to be believed, nanoseconds since the epoch.
    pub ends_at_ns: i64,
    /// Page that shows the expression.
    pub generator_url: String,
}

/// Relabelling of alerts: `global.external_labels` and `alerting.alert_relabel_configs`.
#[derive(Clone, Debug, Default)]
pub struct AlertRelabeling {
    external_labels: Labels,
    rules: Vec<RelabelRule>,
}

impl AlertRelabeling {
    /// With these external labels and rules.
    pub fn new(external_labels: Labels, rules: Vec<RelabelRule>) -> AlertRelabeling {
        AlertRelabeling { external_labels, rules }
    }

    /// The alerts as all Alertmanagers get them: external labels where an alert has none of the name, then the rules. An
    /// alert that the rules drop, or that has no labels left, is left out.
    pub fn apply(&self, alerts: Vec<Alert>) -> Vec<Arc<Alert>> {
        let mut out = Vec::with_capacity(alerts.len());
        for mut alert in alerts {
            let mut builder = LabelsBuilder::from(&alert.labels);
            for (name, value) in &self.external_labels {
                if builder.get(name).is_none() {
                    builder.set(name, value);
                }
            }
            if process(&self.rules, &mut builder) && !builder.is_empty() {
                alert.labels = builder.build();
                out.push(Arc::new(alert));
            }
        }
        out
    }
}

/// The alerts after the rules of one entry of `alerting.alertmanagers`. Without rules they are shared, not copied.
pub(crate) fn relabel_shared(rules: &[RelabelRule], alerts: &[Arc<Alert>]) -> Vec<Arc<Alert>> {
    if rules.is_empty() {
        return alerts.to_vec();
    }
    let relabel = |alert: &Arc<Alert>| {
        let mut builder = LabelsBuilder::from(&alert.labels);
        (process(rules, &mut builder) && !builder.is_empty())
            .then(|| Arc::new(Alert { labels: builder.build(), ..Alert::clone(alert) }))
    };
    alerts.iter().filter_map(relabel).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use fk_model::Regex;
    use fk_model::relabel::RelabelAction;

    use super::*;

    pub(crate) fn alert(pairs: &[(&str, &str)]) -> Alert {
        Alert {
            instance: 7,
            labels: Labels::from_pairs(pairs.iter().copied()),
            annotations: vec![("summary".to_owned(), "s".to_owned())],
            starts_at_ns: 0,
            ends_at_ns: 1,
            generator_url: "http://localhost:9090/graph".to_owned(),
        }
    }

    pub(crate) fn rule(
        action: RelabelAction,
        source: &str,
        regex: &str,
        target: &str,
        replacement: &str,
    ) -> RelabelRule {
        RelabelRule {
            source_labels: if source.is_empty() { Vec::new() } else { vec![source.to_owned()] },
            separator: ";".to_owned(),
            regex: Regex::new(regex).unwrap(),
            modulus: 0,
            target_label: target.to_owned(),
            replacement: replacement.to_owned(),
            action,
        }
    }

    #[test]
    fn external_labels_fill_gaps_before_relabelling() {
        let external = Labels::from_pairs([("region", "north"), ("severity", "none")]);
        let rules = vec![rule(RelabelAction::Replace, "region", "(.*)", "where", "at-$1")];
        let alerts =
            AlertRelabeling::new(external, rules).apply(vec![alert(&[("alertname", "a"), ("severity", "page")])]);
        let labels = [("alertname", "a"), ("region", "north"), ("severity", "page"), ("where", "at-north")];
        assert_eq!(alerts.iter().map(|a| a.labels.clone()).collect::<Vec<_>>(), [Labels::from_pairs(labels)]);
    }

    #[test]
    fn dropped_alerts_and_alerts_without_labels_are_not_sent() {
        let rules = vec![
            rule(RelabelAction::Drop, "alertname", "a", "", ""),
            rule(RelabelAction::LabelDrop, "", "gone", "", ""),
        ];
        let alerts = vec![alert(&[("alertname", "a")]), alert(&[("gone", "1")]), alert(&[("alertname", "b")])];
        let sent = AlertRelabeling::new(Labels::empty(), rules).apply(alerts);
        assert_eq!(sent.iter().map(|a| a.labels.value("alertname")).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn rules_of_one_entry_work_on_a_copy() {
        let common = AlertRelabeling::default().apply(vec![alert(&[("alertname", "a")]), alert(&[("alertname", "b")])]);
        let rules =
            [rule(RelabelAction::Drop, "alertname", "b", "", ""), rule(RelabelAction::Replace, "", ".*", "team", "x")];
        let own = relabel_shared(&rules, &common);
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].labels.value("team"), common[0].labels.value("team")), ("x", ""));
        assert!(Arc::ptr_eq(&relabel_shared(&[], &common)[0], &common[0]));
    }
}
