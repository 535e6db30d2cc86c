//! `promtool check rules`: whether rule files load, and whether two rules write the same series.

use std::io::Write;
use std::path::PathBuf;

use fk_config::{FileProblems, RuleFile, RuleKind, load_rule_file, load_rule_file_leniently};
use fk_model::name::NameValidation;
use fk_promql_syntax::ParserOptions;

use crate::Result;

/// What is checked beyond loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether rules with one name and one label set are a lint problem.
    pub duplicate_rules: bool,
    /// Whether fields that nobody knows are passed over.
    pub ignore_unknown_fields: bool,
    /// Which parts of the language are on.
    pub parser: ParserOptions,
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// A file does not load.
    pub errors: bool,
    /// A file has a lint problem.
    pub lint_problems: bool,
}

/// The value of `--lint`: whether duplicate rules are looked for. Says on `out` what it does not know.
pub fn read_lint(value: &str, out: &mut dyn Write) -> Result<bool> {
    let mut duplicate_rules = false;
    for setting in value.split(',').filter(|_| !value.is_empty()) {
        match setting {
            "all" | "duplicate-rules" => duplicate_rules = true,
            "none" => {}
            // Text as in Prometheus:
            unknown => writeln!(out, "WARNING: unknown lint option: {unknown:?}")?,
        }
    }
    Ok(duplicate_rules)
}

/// Checks files. Good news goes to `out`, bad news to `err`.
pub fn check_files(files: &[PathBuf], options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for path in files {
        writeln!(out, "Checking {}", path.display())?;
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let loaded = load(&path.display().to_string(), &text, options);
                report(loaded.map_err(|problems| problems.to_string()), options, &mut outcome, out, err)?;
            }
            Err(reason) => {
                outcome.errors = true;
                writeln!(err, "  FAILED:\n{}: {reason}", path.display())?;
            }
        }
    }
    Ok(outcome)
}

/// Checks a text that came from standard input.
pub fn check_text(text: &str, options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome> {
    writeln!(out, "Checking standard input")?;
    let mut outcome = Outcome::default();
    // There is no file to name.
    let unnamed = |problems: FileProblems| {
        let line = |line: &str| line.strip_prefix(": ").unwrap_or(line).to_owned();
        problems.to_string().lines().map(line).collect::<Vec<_>>().join("\n")
    };
    report(load("", text, options).map_err(unnamed), options, &mut outcome, out, err)?;
    Ok(outcome)
}

fn load(path: &str, text: &str, options: &Options) -> std::result::Result<RuleFile, FileProblems> {
    let load = if options.ignore_unknown_fields { load_rule_file_leniently } else { load_rule_file };
    load(path, text, NameValidation::Utf8, &options.parser).map(|(file, _)| file)
}

fn report(
    loaded: std::result::Result<RuleFile, String>,
    options: &Options,
    outcome: &mut Outcome,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<()> {
    // Texts as in Prometheus:
    match loaded {
        Err(problems) => {
            outcome.errors = true;
            writeln!(err, "  FAILED:\n{problems}")?;
            return Ok(());
        }
        Ok(file) => match lint(&file, options) {
            Some(problem) => {
                outcome.lint_problems = true;
                writeln!(err, "  FAILED:\n{problem}")?;
            }
            None => {
                let n_rules: usize = file.groups.iter().map(|group| group.rules.len()).sum();
                writeln!(out, "  SUCCESS: {n_rules} rules found")?;
            }
        },
    }
    writeln!(out)?;
    Ok(())
}

/// What lint has to say of the rules of one file.
pub fn lint(file: &RuleFile, options: &Options) -> Option<String> {
    if !options.duplicate_rules {
        return None;
    }
    let duplicates = duplicates(file);
    if duplicates.is_empty() {
        return None;
    }
    // Texts as in Prometheus:
    let mut text = format!("lint error {} duplicate rule(s) found.\n", duplicates.len());
    for (name, labels) in &duplicates {
        text.push_str(&format!("Metric: {name}\nLabel(s):\n"));
        for (label, value) in labels {
            text.push_str(&format!("\t{label}: {value}\n"));
        }
    }
    text.push_str("Might cause inconsistency while recording expressions");
    Some(text)
}

/// A rule as others see it: the name of its metric or alert, and its labels.
type Identity = (String, Vec<(String, String)>);

fn duplicates(file: &RuleFile) -> Vec<Identity> {
    let rules = file.groups.iter().flat_map(|group| &group.rules);
    let mut identities: Vec<Identity> = rules
        .map(|rule| {
            let name = match &rule.kind {
                RuleKind::Recording { metric } => metric,
                RuleKind::Alerting { alert, .. } => alert,
            };
            let labels = rule.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut labels: Vec<_> =
                labels.chain(rule.removed_labels.iter().map(|l| (l.clone(), String::new()))).collect();
            labels.sort();
            (name.clone(), labels)
        })
        .collect();
    identities.sort();
    let mut duplicates: Vec<Identity> = identities.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0].clone()).collect();
    duplicates.dedup();
    duplicates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, lint: &str, ignore_unknown_fields: bool) -> (Outcome, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let duplicate_rules = read_lint(lint, &mut out).unwrap();
        let options = Options { duplicate_rules, ignore_unknown_fields, parser: ParserOptions::default() };
        let outcome = check_text(text, &options, &mut out, &mut err).unwrap();
        (outcome, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn what_is_found_is_said() {
        let twice =
            "groups: [{name: g, rules: [{record: b, expr: '1', labels: {x: y}}, {record: b, expr: '2', labels: {x: y}},
            {record: b, expr: '3', labels: {x: y}}, {alert: b, expr: '1', labels: {x: ''}}]}]";
        let lint_problems = Outcome { errors: false, lint_problems: true };
        let said = "  FAILED:\nlint error 1 duplicate rule(s) found.\nMetric: b\nLabel(s):\n\tx: y\n\
                    Might cause inconsistency while recording expressions\n";
        let head = "Checking standard input\n";
        assert_eq!(check(twice, "duplicate-rules", false), (lint_problems, format!("{head}\n"), said.to_owned()));
        let fine = format!("{head}  SUCCESS: 4 rules found\n\n");
        assert_eq!(check(twice, "none", false), (Outcome::default(), fine.clone(), String::new()));
        let warned = format!("WARNING: unknown lint option: \"x\"\n{fine}");
        assert_eq!(check(twice, "x", false), (Outcome::default(), warned, String::new()));

        let unknown = "groups:\n- name: g\n  owner: me\n  rules: [{record: b, expr: '1'}]";
        let (outcome, _, said) = check(unknown, "all", false);
        assert!(outcome.errors);
        assert_eq!(
            said,
            "  FAILED:\nyaml: unmarshal errors:\n  line 3: field owner not found in type rulefmt.RuleGroup\n"
        );
        assert_eq!(check(unknown, "all", true).0, Outcome::default());
    }
}
