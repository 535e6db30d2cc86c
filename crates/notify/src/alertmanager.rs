//! Which Alertmanagers there are: from discovered targets to URLs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fk_config::AlertmanagerConfig;
use fk_model::relabel::process;
use fk_model::{Labels, LabelsBuilder, TargetGroup};

use crate::alert::{Alert, relabel_shared};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const PATH: &str = "__alerts_path__";

/// One Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alertmanager {
    /// Where alerts are posted to.
    pub url: String,
    /// Its labels: after relabelling if it is active, before if it was dropped.
    pub labels: Labels,
}

/// The Alertmanagers of one entry of `alerting.alertmanagers`.
#[derive(Clone, Debug)]
pub struct Alertmanagers {
    config: Arc<AlertmanagerConfig>,
    /// By source, so that an update replaces what the source said before.
    groups: BTreeMap<String, TargetGroup>,
    active: Vec<Alertmanager>,
    dropped: Vec<Alertmanager>,
}

impl Alertmanagers {
    /// Nothing discovered yet.
    pub fn new(config: Arc<AlertmanagerConfig>) -> Alertmanagers {
        Alertmanagers { config, groups: BTreeMap::new(), active: Vec::new(), dropped: Vec::new() }
    }

    /// The entry of the configuration.
    pub fn config(&self) -> &Arc<AlertmanagerConfig> {
        &self.config
    }

    /// Takes what discovery found: each group replaces the earlier one of its source, a group without targets removes
    /// it. Groups that cannot be used are left out and said so.
    pub fn update(&mut self, groups: Vec<TargetGroup>) -> Vec<String> {
        for group in groups {
            if group.targets.is_empty() {
                self.groups.remove(&group.source);
            } else {
                self.groups.insert(group.source.clone(), group);
            }
        }
        self.rebuild()
    }

    /// Replaces everything discovery found earlier.
    pub fn replace(&mut self, groups: Vec<TargetGroup>) -> Vec<String> {
        self.groups.clear();
        self.update(groups)
    }

    fn rebuild(&mut self) -> Vec<String> {
        self.active.clear();
        self.dropped.clear();
        let (mut problems, mut known) = (Vec::new(), HashSet::new());
        for group in self.groups.values() {
            match from_group(group, &self.config) {
                Ok((active, dropped)) => {
                    // Different targets may be relabelled to one URL, which must not get everything twice.
                    self.active.extend(active.into_iter().filter(|am| known.insert(am.url.clone())));
                    self.dropped.extend(dropped);
                }
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }

    /// The Alertmanagers that alerts go to, no URL twice.
    pub fn active(&self) -> &[Alertmanager] {
        &self.active
    }

    /// The Alertmanagers that relabelling dropped.
    pub fn dropped(&self) -> &[Alertmanager] {
        &self.dropped
    }

    /// The alerts as the Alertmanagers of this entry get them: after its own `alert_relabel_configs`.
    pub fn relabel(&self, alerts: &[Arc<Alert>]) -> Vec<Arc<Alert>> {
        relabel_shared(&self.config.alert_relabel_configs, alerts)
    }
}

/// Active and dropped Alertmanagers of one target group.
fn from_group(
    group: &TargetGroup,
    config: &AlertmanagerConfig,
) -> Result<(Vec<Alertmanager>, Vec<Alertmanager>), String> {
    let path = post_path(&config.path_prefix);
    let (mut active, mut dropped) = (Vec::new(), Vec::new());
    for target in &group.targets {
        let mut builder = LabelsBuilder::from(target);
        builder.set(SCHEME, &config.scheme).set(PATH, &path);
        for (name, value) in &group.labels {
            if target.get(name).is_none() {
                builder.set(name, value);
            }
        }
        let before = builder.build();
        if !process(&config.relabel_configs, &mut builder) {
            dropped.push(Alertmanager { url: url_of(&before), labels: before });
            continue;
        }
        let labels = builder.build();
        let address = labels.value(ADDRESS);
        if address.contains('/') {
            // Text as in Prometheus:
            return Err(format!("{address:?} is not a valid hostname"));
        }
        active.push(Alertmanager { url: url_of(&labels), labels });
    }
    Ok((active, dropped))
}

/// `/PREFIX/api/v2/alerts`, cleaned as `path.Join` in Go cleans it.
fn post_path(prefix: &str) -> String {
    let mut elements: Vec<&str> = Vec::new();
    for element in prefix.split('/').chain(["api", "v2", "alerts"]) {
        match element {
            "" | "." => {}
            ".." => {
                elements.pop();
            }
            element => elements.push(element),
        }
    }
    format!("/{}", elements.join("/"))
}

/// Scheme, address and path as one URL. Characters of the path that a URL cannot hold are escaped as Go's `url.URL` does.
fn url_of(labels: &Labels) -> String {
    let (scheme, address, path) = (labels.value(SCHEME), labels.value(ADDRESS), labels.value(PATH));
    let mut url = String::with_capacity(scheme.len() + address.len() + path.len() + 4);
    if !scheme.is_empty() {
        url.push_str(scheme);
        url.push(':');
    }
    url.push_str("//");
    url.push_str(address);
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => url.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' => {
                url.push(char::from(byte));
            }
            byte => {
                url.push('%');
                url.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
                url.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
            }
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use fk_model::Duration;
    use fk_model::relabel::{RelabelAction, RelabelRule};

    use super::*;
    use crate::alert::tests::rule;

    fn config(prefix: &str, relabel_configs: Vec<RelabelRule>) -> Arc<AlertmanagerConfig> {
        Arc::new(AlertmanagerConfig {
            key: "config-0".to_owned(),
            scheme: "http".to_owned(),
            path_prefix: prefix.to_owned(),
            timeout: Duration(10_000),
            http: fk_config::HttpClientConfig::default(),
            discovery: Vec::new(),
            relabel_configs,
            alert_relabel_configs: Vec::new(),
        })
    }

    fn group(source: &str, labels: &[(&str, &str)], addresses: &[&str]) -> TargetGroup {
        TargetGroup {
            source: source.to_owned(),
            labels: Labels::from_pairs(labels.iter().copied()),
            targets: addresses.iter().map(|a| Labels::from_pairs([(ADDRESS, *a)])).collect(),
        }
    }

    fn urls(list: &[Alertmanager]) -> Vec<&str> {
        list.iter().map(|am| am.url.as_str()).collect()
    }

    #[test]
    fn paths_are_joined_and_cleaned() {
        for (prefix, path) in [
            ("", "/api/v2/alerts"),
            ("/", "/api/v2/alerts"),
            ("/am", "/am/api/v2/alerts"),
            ("am/", "/am/api/v2/alerts"),
            ("/a//b/../c/.", "/a/c/api/v2/alerts"),
            ("/../..", "/api/v2/alerts"),
        ] {
            assert_eq!(post_path(prefix), path, "{prefix}");
        }
    }

    #[test]
    fn urls_come_from_labels_and_relabelling() {
        let relabel = vec![
            rule(RelabelAction::Drop, ADDRESS, "old.*", "", ""),
            rule(RelabelAction::Replace, "tls", "yes", SCHEME, "https"),
            rule(RelabelAction::Replace, "path", "(.+)", PATH, "$1"),
        ];
        let mut ams = Alertmanagers::new(config("/am", relabel));
        let problems = ams.update(vec![
            group("a", &[], &["one:9093", "old:9093"]),
            group("b", &[("tls", "yes"), ("path", "/x y")], &["two:9093"]),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(urls(ams.active()), ["http://one:9093/am/api/v2/alerts", "https://two:9093/x%20y"]);
        assert_eq!(urls(ams.dropped()), ["http://old:9093/am/api/v2/alerts"]);
    }

    #[test]
    fn an_update_replaces_the_group_of_its_source() {
        let mut ams = Alertmanagers::new(config("", Vec::new()));
        ams.update(vec![group("a", &[], &["one:9093"]), group("b", &[], &["two:9093"])]);
        ams.update(vec![group("a", &[], &["three:9093", "two:9093"])]);
        assert_eq!(urls(ams.active()), ["http://three:9093/api/v2/alerts", "http://two:9093/api/v2/alerts"]);
        ams.update(vec![group("a", &[], &[])]);
        assert_eq!(urls(ams.active()), ["http://two:9093/api/v2/alerts"]);
        ams.replace(Vec::new());
        assert_eq!(urls(ams.active()), Vec::<&str>::new());
    }

    #[test]
    fn a_group_with_a_bad_address_is_left_out() {
        let mut ams = Alertmanagers::new(config("", Vec::new()));
        let problems = ams.update(vec![group("a", &[], &["http://one:9093"]), group("b", &[], &["two:9093"])]);
        assert_eq!(problems, ["\"http://one:9093\" is not a valid hostname"]);
        assert_eq!(urls(ams.active()), ["http://two:9093/api/v2/alerts"]);
    }
}
