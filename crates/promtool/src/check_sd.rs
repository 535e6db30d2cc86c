//! `promtool check service-discovery`: what the discovery of a job finds, and what relabelling makes of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use fk_config::{LoadOptions, ScrapeConfig};
use fk_discovery::provider;
use fk_model::{Labels, TargetGroup};
use fk_scrape::{TargetErrorReason, explain};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::{Result, ToolError};

/// A target as it is printed.
#[derive(PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(serialize_with = "object")]
    discovered_labels: Labels,
    /// Empty: dropped, or no good.
    #[serde(serialize_with = "object")]
    labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Reason>,
}

/// Why a target is no good. DIFFERENCE: Prometheus prints an empty object.
#[derive(PartialEq, Serialize)]
struct Reason {
    message: String,
}

fn object<S: Serializer>(labels: &Labels, to: S) -> std::result::Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    for (name, value) in labels {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// Runs the discovery of a job of a configuration file once, and prints what it finds as JSON. What cannot be read is told
/// on `notes`. All discoveries that are built read files or the configuration, so there is nothing to wait for.
pub fn check(config: &Path, job: &str, out: &mut dyn Write, notes: &mut dyn Write) -> Result<()> {
    // Texts as in Prometheus:
    let checked = fk_config::check(config, &LoadOptions::default())
        .map_err(|errors| ToolError::Other(format!("Cannot load config {errors}")))?;
    let jobs = &checked.config.scrape_configs;
    let Some(found) = jobs.iter().find(|known| known.job_name == job) else {
        let names: String = jobs.iter().map(|known| format!("\n\t{}", known.job_name)).collect();
        return Err(ToolError::Other(format!("Job {job} not found. Select one of:{names}")));
    };
    let mut targets = Vec::new();
    for section in &found.discovery {
        let refresh = provider(section).refresh();
        for error in &refresh.errors {
            writeln!(notes, "{error}")?;
        }
        let mut sources: BTreeMap<&str, Vec<&TargetGroup>> = BTreeMap::new();
        for group in &refresh.groups {
            sources.entry(&group.source).or_default().push(group);
        }
        for groups in sources.values() {
            targets.extend(of_source(found, groups));
        }
    }
    let text = serde_json::to_string_pretty(&targets).map_err(|error| ToolError::Other(error.to_string()))?;
    // No line break at the end, and what could be markup escaped, as Go prints JSON.
    let escaped = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Ok(out.write_all(escaped.as_bytes())?)
}

/// The targets of one source, equal ones once.
fn of_source(job: &ScrapeConfig, groups: &[&TargetGroup]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for group in groups {
        for own in &group.targets {
            let (discovered_labels, outcome) = explain(job, group, own);
            let (labels, error) = match outcome {
                Ok(target) => (target.map(|target| target.labels).unwrap_or_default(), None),
                Err(reason) => (Labels::empty(), Some(reason)),
            };
            let error = error.map(|reason: TargetErrorReason| Reason { message: reason.to_string() });
            let one = Found { discovered_labels, labels, error };
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: &str, job: &str) -> std::result::Result<(serde_json::Value, String), String> {
        let dir = fk_testkit::TempDir::new("check-sd");
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        std::fs::write(dir.path().join("good.json"), r#"[{"targets":["c:1"],"labels":{"zone":"<b>"}}]"#).unwrap();
        std::fs::write(dir.path().join("bad.json"), "[{").unwrap();
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        check(&path, job, &mut out, &mut notes).map_err(|error| error.to_string())?;
        assert!(!out.contains(&b'<'), "{}", String::from_utf8_lossy(&out));
        Ok((serde_json::from_slice(&out).unwrap(), String::from_utf8(notes).unwrap()))
    }

    const CONFIG: &str = "scrape_configs:\n  - job_name: one\n    static_configs:\n      - targets: [a:1, a:1, drop:1, 'http://bad']\n    \
                          file_sd_configs:\n      - files: [good.json, bad.json]\n    relabel_configs:\n      \
                          - {source_labels: [__address__], regex: 'drop.*', action: drop}\n  - job_name: two\n";

    #[test]
    fn targets_are_shown_before_and_after_relabelling() {
        let (found, notes) = run(CONFIG, "one").unwrap();
        let mut found = found.as_array().unwrap().clone();
        // In order of addresses: `a:1`, `c:1`, `drop:1`, `http://bad`.
        found.sort_by_key(|one| one["discoveredLabels"]["__address__"].to_string());
        assert_eq!(found.len(), 4);
        assert_eq!(found[0]["discoveredLabels"]["__address__"], "a:1");
        assert_eq!(found[0]["discoveredLabels"]["__scrape_interval__"], "1m");
        assert_eq!((&found[0]["labels"]["instance"], &found[0]["labels"]["job"]), (&"a:1".into(), &"one".into()));
        assert!(found[0].get("error").is_none());
        assert_eq!(found[1]["labels"]["zone"], "<b>");
        assert!(found[1]["labels"].get("__meta_filepath").is_none());
        assert_eq!(found[2]["labels"], serde_json::json!({}));
        assert_eq!(found[3]["error"]["message"], "\"http://bad\" is not a valid hostname");
        assert!(found[1]["discoveredLabels"]["__meta_filepath"].as_str().unwrap().ends_with("/good.json"));
        assert!(notes.contains("bad.json"), "{notes}");
        assert_eq!(run(CONFIG, "two").unwrap().0, serde_json::json!([]));
    }

    #[test]
    fn other_jobs_and_files_are_refused() {
        assert_eq!(run(CONFIG, "three").unwrap_err(), "Job three not found. Select one of:\n\tone\n\ttwo");
        assert!(run("nonsense: 1\n", "one").unwrap_err().starts_with("Cannot load config "));
    }
}
