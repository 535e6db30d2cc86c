//! The configurations that come with the server must never go stale.

use std::path::{Path, PathBuf};

use crate::{LoadOptions, Loaded, load};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(name)
}

fn load_text(text: &str) -> Loaded {
    let folder = fk_testkit::TempDir::new("shipped");
    let path = folder.path().join("prometheus.yml");
    std::fs::write(&path, text).unwrap();
    load(&path, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Takes away each `#` that stands directly before a setting.
fn switch_on(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let (blanks, rest) = line.split_at(line.len() - line.trim_start().len());
        match rest.strip_prefix('#') {
            // A setting may be indented behind its `#` if it belongs to the one before; prose has one blank.
            Some(setting) if setting.starts_with("  ") || !setting.starts_with(' ') && !setting.is_empty() => {
                lines.push(format!("{blanks}{setting}"));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

#[test]
fn the_minimal_configuration_loads() {
    let text = std::fs::read_to_string(shipped("minimal.yml")).unwrap();
    assert_eq!(load_text(&text).config.scrape_configs.len(), 1);
}

#[test]
fn the_default_configuration_loads_with_its_rules() {
    let loaded = load(&shipped("prometheus.yml"), &LoadOptions::default()).unwrap_or_else(|errors| panic!("{errors}"));
    let jobs: Vec<&str> = loaded.config.scrape_configs.iter().map(|job| job.job_name.as_str()).collect();
    assert_eq!(jobs, ["firekeeper", "node"]);
    assert_eq!(loaded.rule_files.len(), 1);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn every_setting_of_the_default_configuration_can_be_switched_on() {
    let text = switch_on(&std::fs::read_to_string(shipped("prometheus.yml")).unwrap());
    let loaded = load_text(&text);
    assert_eq!(loaded.config.scrape_configs.len(), 7);
    assert!(loaded.config.storage.retention.size > 0 && loaded.config.storage.out_of_order_window.as_millis() > 0);
    let rules = switch_on(&std::fs::read_to_string(shipped("rules/example.yml")).unwrap());
    crate::load_rule_file("example.yml", &rules, Default::default(), &Default::default())
        .unwrap_or_else(|error| panic!("{error}"));
}
