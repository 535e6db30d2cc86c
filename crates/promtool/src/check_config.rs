//! `promtool check config`: whether configuration files are what Prometheus takes, with the files they name.
//!
//! The verdict is Prometheus'. What this server could not run of a good configuration is told as well, and changes nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_config::{Auth, Checked, DiscoveryConfig, LoadOptions, ScrapeConfig, SecretSource, TlsConfig, glob};
use fk_discovery::provider;
use fk_model::{Duration, TargetGroup};
use fk_notify::Alertmanagers;
use fk_scrape::explain;

use crate::{Result, check_rules};

/// What is checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the configurations are for agents.
    pub agent: bool,
    /// Whether the files that a configuration names are left alone. DIFFERENCE: those of `scrape_config_files` are read all the
    /// same, since they are part of it.
    pub syntax_only: bool,
    /// From which scrape interval on one is too long, if that is looked at.
    pub interval_max: Option<Duration>,
    /// How rule files are checked.
    pub rules: check_rules::Options,
}

/// The value of `--lint`: whether duplicate rules and long intervals are looked for. Says on `out` what it does not know.
pub fn read_lint(value: &str, out: &mut dyn Write) -> Result<(bool, bool)> {
    let settings: Vec<&str> = value.split(',').collect();
    if settings.contains(&"none") {
        return Ok((false, false));
    }
    let long_intervals = settings.iter().any(|setting| ["all", "too-long-scrape-interval"].contains(setting));
    let rules: Vec<&str> = settings.into_iter().filter(|setting| *setting != "too-long-scrape-interval").collect();
    Ok((check_rules::read_lint(&rules.join(","), out)?, long_intervals))
}

/// Checks files. Good news goes to `out`, bad news to `err`.
pub fn check_files(
    files: &[PathBuf],
    options: &Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<check_rules::Outcome> {
    let mut outcome = check_rules::Outcome::default();
    for path in files {
        // Texts as in Prometheus:
        writeln!(out, "Checking {}", path.display())?;
        let load = LoadOptions { agent: options.agent, parser: options.rules.parser, ..LoadOptions::default() };
        let checked = match fk_config::check(path, &load) {
            Ok(checked) => examine(&checked, options, out)?.map(|rule_files| (rule_files, checked)),
            Err(errors) => Err(errors.to_string()),
        };
        match checked {
            Err(error) => {
                outcome.errors = true;
                out.flush()?;
                writeln!(err, "  FAILED: {error}")?;
                writeln!(out)?;
            }
            Ok((rule_files, checked)) => {
                if !rule_files.is_empty() {
                    writeln!(out, "  SUCCESS: {} rule files found", rule_files.len())?;
                }
                writeln!(out, " SUCCESS: {} is valid prometheus config file syntax", path.display())?;
                for problem in checked.not_built.problems() {
                    writeln!(out, "  NOTICE: line {}: {}", problem.line, problem.message)?;
                }
                writeln!(out)?;
                if !options.syntax_only {
                    outcome.lint_problems |= lint(&checked.config.scrape_configs, options, err)?;
                    let rules = check_rules::check_files(&rule_files, &options.rules, out, err)?;
                    outcome.errors |= rules.errors;
                    outcome.lint_problems |= rules.lint_problems;
                }
            }
        }
    }
    Ok(outcome)
}

/// Looks at what a configuration names: its rule files, or the first thing that is wrong.
fn examine(
    checked: &Checked,
    options: &Options,
    out: &mut dyn Write,
) -> Result<std::result::Result<Vec<PathBuf>, String>> {
    let mut rule_files = Vec::new();
    if options.syntax_only {
        return Ok(Ok(rule_files));
    }
    // Texts as in Prometheus:
    for pattern in &checked.config.rule_files {
        let found = match glob::expand(pattern) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if !pattern.contains('*') && found.is_empty() {
            return Ok(Err(format!("{pattern:?} does not point to an existing file")));
        }
        rule_files.extend(found);
    }
    for job in &checked.config.scrape_configs {
        if let Err(error) = check_secrets(job) {
            return Ok(Err(error));
        }
        for section in &job.discovery {
            let missing = |file: &str| {
                format!("  WARNING: file {file:?} for file_sd in scrape job {:?} does not exist", job.job_name)
            };
            let groups = match discover(section, &missing, out)? {
                Ok(groups) => groups,
                Err(error) => return Ok(Err(error)),
            };
            for group in &groups {
                for (at, own) in group.targets.iter().enumerate() {
                    if let (_, Err(reason)) = explain(job, group, own) {
                        // Groups of files have no name there.
                        let name = if matches!(section, DiscoveryConfig::File(_)) { "" } else { &group.source };
                        return Ok(Err(format!("instance {at} in group {name}: {reason}")));
                    }
                }
            }
        }
    }
    for alertmanager in &checked.config.alerting.alertmanagers {
        for section in &alertmanager.discovery {
            let missing =
                |file: &str| format!("  WARNING: file {file:?} for file_sd in alertmanager config does not exist");
            match discover(section, &missing, out)? {
                Ok(groups) => {
                    let problems = Alertmanagers::new(Arc::clone(alertmanager)).replace(groups);
                    if let Some(problem) = problems.into_iter().next() {
                        return Ok(Err(problem));
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }
    Ok(Ok(rule_files))
}

/// The target groups of a section; warns of files that are not there.
fn discover(
    section: &DiscoveryConfig,
    missing: &dyn Fn(&str) -> String,
    out: &mut dyn Write,
) -> Result<std::result::Result<Vec<TargetGroup>, String>> {
    if let DiscoveryConfig::File(config) = section {
        for file in &config.files {
            if glob::expand(file).is_ok_and(|found| found.is_empty()) {
                writeln!(out, "{}", missing(file))?;
            }
        }
    }
    let refresh = provider(section).refresh();
    match refresh.errors.first() {
        // Text as in Prometheus:
        Some(error) => Ok(Err(format!("checking SD file: {error}"))),
        None => Ok(Ok(refresh.groups)),
    }
}

/// Whether the files with secrets of a job are there.
fn check_secrets(job: &ScrapeConfig) -> std::result::Result<(), String> {
    // Texts as in Prometheus:
    if let Auth::Header { credentials: Some(SecretSource::File(path)), .. } = &job.http.auth {
        let what = "authorization credentials or bearer token file";
        exists(path).map_err(|error| format!("error checking {what} {path:?}: {error}"))?;
    }
    let TlsConfig { cert, key, .. } = &job.http.tls;
    for (what, source) in [("client cert file", cert), ("client key file", key)] {
        if let Some(SecretSource::File(path)) = source {
            exists(path).map_err(|error| format!("error checking {what} {path:?}: {error}"))?;
        }
    }
    Ok(())
}

fn exists(path: &Path) -> std::result::Result<(), String> {
    match path.metadata() {
        Ok(_) => Ok(()),
        // Text as in Prometheus:
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("stat {}: no such file or directory", path.display()))
        }
        Err(error) => Err(format!("stat {}: {error}", path.display())),
    }
}

/// Whether a job has too long an interval; the first is told.
fn lint(jobs: &[Arc<ScrapeConfig>], options: &Options, err: &mut dyn Write) -> Result<bool> {
    let Some(max) = options.interval_max else { return Ok(false) };
    let Some(job) = jobs.iter().find(|job| job.scrape_interval >= max) else { return Ok(false) };
    // Text as in Prometheus:
    let what = "too long scrape interval found, data point will be marked as stale";
    writeln!(err, "  FAILED: {what} - job: {}, interval: {}", job.job_name, job.scrape_interval)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        folder: fk_testkit::TempDir,
        options: Options,
    }

    impl Case {
        fn new(files: &[(&str, &str)]) -> Case {
            let folder = fk_testkit::TempDir::new("check-config");
            for (name, text) in files {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            let rules = check_rules::Options {
                duplicate_rules: true,
                ignore_unknown_fields: false,
                parser: Default::default(),
            };
            Case { folder, options: Options { agent: false, syntax_only: false, interval_max: None, rules } }
        }

        /// Errors, lint problems, standard output and error.
        fn run(&self) -> (bool, bool, String, String) {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let path = self.folder.path().join("p.yml");
            let outcome = check_files(&[path], &self.options, &mut out, &mut err).unwrap();
            let text = |bytes: Vec<u8>| {
                String::from_utf8(bytes).unwrap().replace(&format!("{}/", self.folder.path().display()), "")
            };
            (outcome.errors, outcome.lint_problems, text(out), text(err))
        }
    }

    #[test]
    fn a_good_configuration_is_checked_with_its_rules() {
        let rules = "groups: [{name: g, rules: [{record: a, expr: b}]}]";
        let case = Case::new(&[("p.yml", "rule_files: [r.yml]"), ("r.yml", rules)]);
        let (errors, lint, out, err) = case.run();
        assert_eq!((errors, lint, err.as_str()), (false, false, ""));
        let wanted = "Checking p.yml\n  SUCCESS: 1 rule files found\n SUCCESS: p.yml is valid prometheus config file syntax\n\n\
                      Checking r.yml\n  SUCCESS: 1 rules found\n\n";
        assert_eq!(out, wanted);
    }

    #[test]
    fn what_the_server_cannot_run_is_a_notice() {
        let case = Case::new(&[("p.yml", "remote_write: [{url: http://a}]\n")]);
        let (errors, _, out, err) = case.run();
        assert_eq!((errors, err.as_str()), (false, ""));
        assert!(out.contains("NOTICE: line 1: firekeeper does not support \"remote_write\" yet"), "{out}");
    }

    #[test]
    fn files_that_are_named_have_to_be_there() {
        let job = |section: &str| format!("scrape_configs: [{{job_name: a, {section}}}]");
        for (text, wanted) in [
            ("rule_files: [nowhere.yml]".to_owned(), "\"nowhere.yml\" does not point to an existing file"),
            (
                job("authorization: {credentials_file: x}"),
                "error checking authorization credentials or bearer token file",
            ),
            (
                job("tls_config: {cert_file: x, key_file: y}"),
                "error checking client cert file \"x\": stat x: no such file",
            ),
            (
                job(
                    "relabel_configs: [{target_label: __address__, replacement: 'a/b'}], static_configs: [{targets: [a]}]",
                ),
                "instance 0 in group 0: \"a/b\" is not a valid hostname",
            ),
            (job("file_sd_configs: [{files: [bad.json]}]"), "checking SD file"),
            ("a: 1".to_owned(), "field a not found in type config.plain"),
        ] {
            let mut case = Case::new(&[("p.yml", &text), ("bad.json", "{")]);
            let (errors, _, _, err) = case.run();
            assert!(errors && err.starts_with("  FAILED: ") && err.contains(wanted), "{text}: {err}");
            case.options.syntax_only = true;
            assert_eq!(case.run().0, text == "a: 1", "{text}: syntax only");
        }
        let case = Case::new(&[("p.yml", &job("file_sd_configs: [{files: [none.json]}]"))]);
        let (errors, _, out, _) = case.run();
        assert!(
            !errors && out.contains("  WARNING: file \"none.json\" for file_sd in scrape job \"a\" does not exist"),
            "{out}"
        );
    }

    #[test]
    fn long_intervals_and_duplicate_rules_are_lint_problems() {
        let rules = "groups: [{name: g, rules: [{record: a, expr: b}, {record: a, expr: c}]}]";
        let job = "scrape_configs: [{job_name: a, scrape_interval: 5m}]\nrule_files: [r.yml]\n";
        let mut case = Case::new(&[("p.yml", job), ("r.yml", rules)]);
        let (errors, lint, _, err) = case.run();
        assert!(!errors && lint && err.contains("duplicate rule"), "{err}");
        case.options.rules.duplicate_rules = false;
        assert!(!case.run().1);
        case.options.interval_max = Some(Duration(300_000));
        let (_, lint, _, err) = case.run();
        assert!(
            lint && err.contains("too long scrape interval found") && err.contains("job: a, interval: 5m"),
            "{err}"
        );
    }

    #[test]
    fn lint_options_are_those_of_prometheus() {
        for (value, wanted, said) in [
            ("all", (true, true), ""),
            ("duplicate-rules", (true, false), ""),
            ("too-long-scrape-interval", (false, true), ""),
            ("all,none", (false, false), ""),
            ("duplicate-rules,x", (true, false), "WARNING: unknown lint option: \"x\"\n"),
        ] {
            let mut out = Vec::new();
            assert_eq!(read_lint(value, &mut out).unwrap(), wanted, "{value}");
            assert_eq!(String::from_utf8(out).unwrap(), said);
        }
    }
}
