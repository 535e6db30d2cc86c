//! What a new configuration changes, part by part: which pools, rule groups and senders start, stop, change or stay. The journal of
//! reloads tells it of the past, `/api/v1/ext/config/plan` of a text that nobody has applied.
//!
//! Compared is what is shown, with defaults filled in and secrets masked, so that a text copied from the server's own page is the same
//! configuration. A changed secret is no change here; the reload itself compares everything.

use std::collections::BTreeMap;

use fk_config::{Loaded, RuleGroup, RuleKind};

/// What becomes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It is new.
    Start,
    /// It goes.
    Stop,
    /// It goes on with other settings.
    Change,
    /// Nothing.
    Keep,
}

impl Effect {
    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Start => "start",
            Effect::Stop => "stop",
            Effect::Change => "change",
            Effect::Keep => "keep",
        }
    }
}

/// What becomes of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Kind: `scrape pool`, `rule group`, `alertmanagers`, `global`, ...
    pub part: &'static str,
    /// Which one; empty: there is only one.
    pub name: String,
    /// What becomes of it.
    pub effect: Effect,
    /// The difference in words; empty: nothing more to say.
    pub detail: String,
}

/// Everything that is not the same in both, in order of parts.
pub fn changes(before: &Loaded, after: &Loaded) -> Vec<Change> {
    plan(before, after).into_iter().filter(|change| change.effect != Effect::Keep).collect()
}

/// Every part of both.
pub fn plan(before: &Loaded, after: &Loaded) -> Vec<Change> {
    let mut out = sections(&before.shown_yaml, &after.shown_yaml);
    let jobs = |loaded: &Loaded| -> BTreeMap<String, String> {
        let jobs = loaded.config.scrape_configs.iter();
        jobs.map(|job| (job.job_name.clone(), job.shown_yaml.clone())).collect()
    };
    compare("scrape pool", &jobs(before), &jobs(after), |old, new| changed_keys(old, new), &mut out);
    let groups = |loaded: &Loaded| -> BTreeMap<String, RuleGroup> {
        let files = loaded.rule_files.iter();
        files.flat_map(|file| file.groups.iter().map(|g| (format!("{}: {}", file.path, g.name), g.clone()))).collect()
    };
    compare("rule group", &groups(before), &groups(after), changed_rules, &mut out);
    out
}

fn compare<T: PartialEq>(
    part: &'static str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    detail: impl Fn(&T, &T) -> String,
    out: &mut Vec<Change>,
) {
    for (name, new) in after {
        let (effect, detail) = match before.get(name) {
            None => (Effect::Start, String::new()),
            Some(old) if old == new => (Effect::Keep, String::new()),
            Some(old) => (Effect::Change, detail(old, new)),
        };
        out.push(Change { part, name: name.clone(), effect, detail });
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    out.extend(gone.map(|name| Change { part, name: name.clone(), effect: Effect::Stop, detail: String::new() }));
}

/// The top level of a YAML that the server has printed: keys at the margin, and what stands below each.
fn top_level(yaml: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut out: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut key = "";
    for line in yaml.lines() {
        let begins = !line.starts_with([' ', '-', '#']);
        if let (true, Some((name, value))) = (begins, line.split_once(':')) {
            key = name;
            out.entry(key).or_default();
            if !value.trim().is_empty() {
                out.entry(key).or_default().push(value.trim());
            }
        } else {
            out.entry(key).or_default().push(line);
        }
    }
    out
}

/// Sections other than those whose members are compared one by one.
fn sections(before: &str, after: &str) -> Vec<Change> {
    const ONE_BY_ONE: [&str; 3] = ["scrape_configs", "rule_files", "scrape_config_files"];
    const NAMES: [(&str, &str); 8] = [
        ("global", "global"),
        ("runtime", "runtime"),
        ("alerting", "alertmanagers"),
        ("storage", "storage"),
        ("remote_write", "remote write"),
        ("remote_read", "remote read"),
        ("otlp", "otlp"),
        ("tracing", "tracing"),
    ];
    let (before, after) = (top_level(before), top_level(after));
    let keys = NAMES.iter().filter(|(key, _)| before.contains_key(key) || after.contains_key(key));
    debug_assert!(NAMES.iter().all(|(key, _)| !ONE_BY_ONE.contains(key)), "compared twice");
    keys.map(|(key, part)| {
        let (effect, detail) = match (before.get(key), after.get(key)) {
            (None, Some(_)) => (Effect::Start, String::new()),
            (Some(_), None) => (Effect::Stop, String::new()),
            (old, new) if old == new => (Effect::Keep, String::new()),
            (Some(old), Some(new)) => (Effect::Change, changed_lines(old, new)),
            (None, None) => (Effect::Keep, String::new()),
        };
        Change { part, name: String::new(), effect, detail }
    })
    .collect()
}

/// Most words of a difference.
const DETAIL_MAX: usize = 6;

fn listed(mut words: Vec<String>) -> String {
    let more = words.len().saturating_sub(DETAIL_MAX);
    words.truncate(DETAIL_MAX);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join("; ")
}

/// The lines that only one of both has.
fn changed_lines(old: &[&str], new: &[&str]) -> String {
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("without {}", line.trim()));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("with {}", line.trim()));
    listed(gone.chain(come).collect())
}

fn changed_keys(old: &str, new: &str) -> String {
    let (old, new) = (top_level(old), top_level(new));
    let mut words = Vec::new();
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        match (old.get(key), new.get(key)) {
            (Some(a), Some(b)) if a != b && a.len() == 1 && b.len() == 1 => {
                words.push(format!("{key}: {} becomes {}", a[0].trim(), b[0].trim()));
            }
            (Some(a), Some(b)) if a != b => words.push(format!("{key} differs")),
            (None, Some(_)) => words.push(format!("{key} is new")),
            (Some(_), None) => words.push(format!("{key} goes")),
            _ => {}
        }
    }
    listed(words)
}

fn rule_name(kind: &RuleKind) -> &str {
    match kind {
        RuleKind::Recording { metric } => metric,
        RuleKind::Alerting { alert, .. } => alert,
    }
}

fn changed_rules(old: &RuleGroup, new: &RuleGroup) -> String {
    let mut words = Vec::new();
    let has = |group: &RuleGroup, name: &str| group.rules.iter().any(|rule| rule_name(&rule.kind) == name);
    let names = |group: &RuleGroup, other: &RuleGroup, word: &str| -> Vec<String> {
        let rules = group.rules.iter().map(|rule| rule_name(&rule.kind)).filter(|name| !has(other, name));
        rules.map(|name| format!("{name} {word}")).collect()
    };
    words.extend(names(new, old, "is new"));
    words.extend(names(old, new, "goes"));
    for rule in &new.rules {
        let name = rule_name(&rule.kind);
        let before = old.rules.iter().filter(|other| rule_name(&other.kind) == name).collect::<Vec<_>>();
        if !before.is_empty() && !before.contains(&rule) {
            words.push(format!("{name} differs"));
        }
    }
    if old.interval != new.interval {
        words.push("another interval".to_owned());
    }
    if old.limit != new.limit || old.query_offset != new.query_offset {
        words.push("another limit or query offset".to_owned());
    }
    if words.is_empty() {
        words.push("the order of its rules".to_owned());
    }
    listed(words)
}

#[cfg(test)]
mod tests {
    use fk_config::LoadOptions;
    use fk_testkit::TempDir;

    use super::*;

    const RULES: &str = "groups:\n- name: a\n  rules: [{record: r, expr: x}, {alert: A, expr: up == 0}]\n- name: b\n  rules: [{record: s, expr: y}]\n";
    const MAIN: &str = "rule_files: [r.yml]\nscrape_configs:\n- job_name: one\n- job_name: two\n";

    fn loaded(main: &str, rules: &str) -> Loaded {
        let dir = TempDir::new("plan");
        std::fs::write(dir.path().join("r.yml"), rules).unwrap();
        let loaded = fk_config::load_text(&dir.path().join("main.yml"), main, &LoadOptions::default()).unwrap();
        // The folder is another one each time.
        let mut loaded = loaded;
        for file in &mut loaded.rule_files {
            std::sync::Arc::get_mut(file).unwrap().path = "r.yml".to_owned();
        }
        loaded
    }

    /// What changes from [`MAIN`] and [`RULES`], each as `effect part name (detail)`.
    fn check(main: &str, rules: &str, expected: &[&str]) {
        let changes = changes(&loaded(MAIN, RULES), &loaded(main, rules));
        let shown = |c: &Change| format!("{} {} {} ({})", c.effect.name(), c.part, c.name, c.detail);
        assert_eq!(changes.iter().map(shown).collect::<Vec<_>>(), expected, "{main}{rules}");
    }

    #[test]
    fn each_part_is_compared() {
        check(MAIN, RULES, &[]);
        check("# a comment\nscrape_configs: [{job_name: two}, {job_name: one}]\nrule_files: ['r.yml']", RULES, &[]);
        check(
            "rule_files: [r.yml]\nscrape_configs:\n- job_name: one\n  scrape_interval: 7s\n- job_name: three\n",
            RULES,
            &[
                "change scrape pool one (scrape_interval: 1m becomes 7s; scrape_timeout: 10s becomes 7s)",
                "start scrape pool three ()",
                "stop scrape pool two ()",
            ],
        );
        check(
            &MAIN.replace("- job_name: two", "- job_name: two\n  relabel_configs: [{target_label: a, replacement: b}]"),
            RULES,
            &["change scrape pool two (relabel_configs is new)"],
        );
        check(
            &format!(
                "global: {{evaluation_interval: 30s}}\nalerting: {{alertmanagers: [{{static_configs: [{{targets: [a]}}]}}]}}\n{MAIN}"
            ),
            RULES,
            &[
                "change global  (without evaluation_interval: 1m; without metric_name_escaping_scheme: allow-utf-8; with evaluation_interval: 30s)",
                "start alertmanagers  ()",
            ],
        );
        check(
            MAIN,
            &RULES.replace("expr: x}", "expr: z}, {record: t, expr: x}").replace("name: b", "name: c"),
            &[
                "change rule group r.yml: a (t is new; r differs)",
                "start rule group r.yml: c ()",
                "stop rule group r.yml: b ()",
            ],
        );
    }
}
