//! Configurations that are not in force, for the web server: planned ones, past ones, and relabelling rules that somebody tries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fk_config::{ConfigErrors, ScrapeConfig};
use fk_model::relabel::{self, RelabelRule};
use fk_model::{Labels, LabelsBuilder};
use fk_web::state::{
    ConfigChange, ConfigProblem, ConfigView, JournalEntry, JournalStep, ReloadPlan, TriedRules, TriedTarget,
};

use crate::app::App;
use crate::messages::config::ReloadSource;
use crate::reload_journal::{Entry, Outcome, Phase};
use crate::reload_plan::{self, Change};

pub(super) struct Configs {
    app: Arc<App>,
}

impl Configs {
    pub(super) fn new(app: &Arc<App>) -> Configs {
        Configs { app: Arc::clone(app) }
    }
}

impl ConfigView for Configs {
    fn plan(&self, yaml: &str) -> Result<ReloadPlan, Vec<ConfigProblem>> {
        let options = &self.app.settings.options;
        let after = fk_config::load_text(&options.config_file, yaml, &self.app.settings.load).map_err(problems)?;
        let Some(before) = self.app.slots.config.load_full() else {
            return Err(vec![problem("", 0, 0, "no configuration is in force yet")]);
        };
        let mut changes: Vec<ConfigChange> = reload_plan::plan(&before, &after).into_iter().map(change).collect();
        for change in &mut changes {
            self.add_consequences(change);
        }
        Ok(ReloadPlan { before: before.shown_yaml.clone(), after: after.shown_yaml, changes, warnings: after.warnings })
    }

    fn journal(&self) -> Vec<JournalEntry> {
        self.app.reloads().into_iter().map(entry).collect()
    }

    fn try_relabelling(&self, pool: &str, yaml: &str, limit: usize) -> Option<Result<TriedRules, Vec<ConfigProblem>>> {
        let view = self.app.scrape.pool(pool)?.view();
        let job = &view.spec.config;
        let rules = match fk_config::relabel_rules(yaml, job.metric_name_validation) {
            Ok(rules) => rules,
            Err(errors) => return Some(Err(problems(errors))),
        };
        let active = view.targets.iter().map(|(target, _)| &target.discovered);
        let dropped = view.dropped.iter().map(|target| &target.discovered);
        Some(Ok(try_rules(job, &rules, active.chain(dropped), limit)))
    }
}

impl Configs {
    /// What a change means for what runs at present.
    fn add_consequences(&self, change: &mut ConfigChange) {
        let consequence = match (change.part.as_str(), change.effect) {
            ("scrape pool", "stop" | "change") => {
                let targets = self.app.scrape.pool(&change.name).map_or(0, |pool| pool.view().targets.len());
                let verb = if change.effect == "stop" { "are no longer scraped" } else { "are scraped anew" };
                format!("{targets} targets {verb}")
            }
            ("rule group", "stop" | "change") => {
                let cells = self.app.rules.cells();
                let group = cells.iter().map(|cell| cell.snapshot.load_full()).find(|group| {
                    change.name.strip_suffix(&*group.name).and_then(|rest| rest.strip_suffix(": "))
                        == Some(&*group.file)
                });
                let alerts = group.map_or(0, |group| {
                    let count = |rule: &fk_rules::RuleSnapshot| match &rule.detail {
                        fk_rules::RuleDetail::Alerting { alerts, .. } => alerts.len(),
                        fk_rules::RuleDetail::Recording => 0,
                    };
                    group.rules.iter().map(count).sum()
                });
                let verb = if change.effect == "stop" { "end" } else { "keep their state where their rule stays" };
                format!("{alerts} active alerts {verb}")
            }
            _ => return,
        };
        if !change.detail.is_empty() {
            change.detail.push_str("; ");
        }
        change.detail.push_str(&consequence);
    }
}

/// What rules make of targets, beside what those of the job make of them.
fn try_rules<'a>(
    job: &ScrapeConfig,
    rules: &[RelabelRule],
    targets: impl Iterator<Item = &'a Labels>,
    limit: usize,
) -> TriedRules {
    let mut tried = TriedRules::default();
    let mut seen = BTreeSet::new();
    for discovered in targets {
        let (before, _) = run(&job.relabel_configs, discovered, job);
        let (after, steps) = run(rules, discovered, job);
        tried.targets += 1;
        tried.kept += usize::from(after.is_some());
        tried.kept_before += usize::from(before.is_some());
        tried.changed += usize::from(before != after);
        if let Some(labels) = &after {
            tried.duplicates += usize::from(!seen.insert(labels.to_string()));
        }
        if tried.results.len() < limit {
            tried.results.push(TriedTarget {
                discovered: discovered.clone(),
                kept_before: before.is_some(),
                before: before.unwrap_or_else(Labels::empty),
                kept: after.is_some(),
                after: after.unwrap_or_else(Labels::empty),
                steps,
            });
        }
    }
    tried
}

type Steps = Vec<Option<BTreeMap<String, String>>>;

/// The labels behind all rules, and behind each; `None`: dropped.
fn run(rules: &[RelabelRule], discovered: &Labels, job: &ScrapeConfig) -> (Option<Labels>, Steps) {
    let mut labels = LabelsBuilder::from(discovered);
    let mut keep = true;
    let mut steps = Vec::with_capacity(rules.len());
    for rule in rules {
        keep = keep && relabel::process_with(std::slice::from_ref(rule), &mut labels, job.metric_name_validation);
        let shown = |labels: Labels| labels.iter().map(|label| (label.0.to_owned(), label.1.to_owned())).collect();
        steps.push(keep.then(|| shown(labels.build())));
    }
    (keep.then(|| labels.build()), steps)
}

fn problem(file: &str, line: usize, column: usize, message: &str) -> ConfigProblem {
    ConfigProblem { file: file.to_owned(), line, column, message: message.to_owned() }
}

fn problems(errors: ConfigErrors) -> Vec<ConfigProblem> {
    let of_file = |file: &fk_config::FileProblems| -> Vec<ConfigProblem> {
        file.problems.iter().map(|p| problem(&file.file, p.line, p.column, &p.message)).collect()
    };
    errors.files.iter().flat_map(of_file).collect()
}

fn change(change: Change) -> ConfigChange {
    ConfigChange {
        part: change.part.to_owned(),
        name: change.name,
        effect: change.effect.name(),
        detail: change.detail,
    }
}

fn entry(entry: Entry) -> JournalEntry {
    let (outcome, problems) = match entry.outcome {
        Outcome::Applied => ("applied", Vec::new()),
        Outcome::Unreadable(problems) => ("unreadable", problems),
        Outcome::Refused(problems) => ("refused", problems),
    };
    let step = |step: crate::reload_journal::Step| JournalStep {
        participant: step.participant.to_owned(),
        phase: match step.phase {
            Phase::Prepare => "prepare",
            Phase::Commit => "commit",
        },
        seconds: step.took.as_secs_f64(),
        failed: step.failed,
    };
    JournalEntry {
        time: entry.time.timestamp_millis(),
        source: match entry.source {
            ReloadSource::Start => "start",
            ReloadSource::Signal => "signal",
            ReloadSource::Http => "http",
            ReloadSource::Watch => "watch",
        },
        outcome,
        read_seconds: entry.read.as_secs_f64(),
        seconds: entry.took.as_secs_f64(),
        steps: entry.steps.into_iter().map(step).collect(),
        changes: entry.changes.into_iter().map(change).collect(),
        problems,
    }
}
