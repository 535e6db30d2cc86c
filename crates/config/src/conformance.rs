//! The shared configuration files: every bad one is refused with the wanted text, every good one is accepted. Counts are
//! printed.

use std::path::{Path, PathBuf};

use crate::{LoadOptions, ProblemKind, check, load};

/// Rows of a manifest: the columns of each line but the first.
fn manifest(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let unescape =
        |field: &str| field.replace("\\\\", "\u{1}").replace("\\t", "\t").replace("\\n", "\n").replace('\u{1}', "\\");
    text.lines().skip(1).map(|line| line.split('\t').map(unescape).collect()).collect()
}

/// Files of the sample for which only another system's build makes sense, or which are no whole configuration.
const NOT_WHOLE: [&str; 2] = ["rules_abs_path_windows.good.yml", "static_config.bad.yml"];

#[test]
fn shared_configuration_files_have_the_wanted_verdict() {
    let Some(folder) = fk_testkit::conformance("config") else { return };
    let (mut good, mut bad) = (0, 0);
    for row in manifest(&folder.join("MANIFEST.tsv")) {
        let [file, expect, mode, contains, ..] = &row[..] else { panic!("{row:?}") };
        if expect == "support" || NOT_WHOLE.contains(&file.as_str()) {
            continue;
        }
        let path = folder.join("testdata").join(file);
        let options = LoadOptions { agent: mode == "agent", ..LoadOptions::default() };
        match (expect.as_str(), check(&path, &options)) {
            ("good", Ok(_)) => good += 1,
            ("good", Err(errors)) => panic!("{file}: {errors}"),
            ("bad", Ok(_)) => panic!("{file} was accepted, but must be refused: {contains}"),
            ("bad", Err(errors)) => {
                let text = errors.to_string().replace(&format!("{}/", folder.display()), "");
                let told = contains.split(" && ").all(|part| text.contains(part));
                assert!(told, "{file}: wanted {contains:?}, got {text}");
                bad += 1;
            }
            _ => panic!("{row:?}"),
        }
    }
    println!("configuration files: {good} good ones accepted, {bad} bad ones refused with the wanted text");
}

#[test]
fn documented_examples_are_accepted() {
    let Some(folder) = fk_testkit::conformance("config/examples") else { return };
    let mut accepted = 0;
    for row in manifest(&folder.join("MANIFEST.tsv")) {
        if !row[2].ends_with("configuration") || row[0] == "web-config.yml" {
            continue;
        }
        let options = LoadOptions { agent: row[2].starts_with("agent"), ..LoadOptions::default() };
        check(&folder.join(&row[0]), &options).unwrap_or_else(|errors| panic!("{errors}"));
        accepted += 1;
    }
    assert!(accepted > 15);
}

#[test]
fn shared_azuread_sections_have_the_wanted_verdict() {
    use crate::sections::{Surroundings, read, remote};

    let Some(folder) = fk_testkit::conformance("config/azuread") else { return };
    for row in manifest(&folder.join("MANIFEST.tsv")) {
        let [file, expect, error, ..] = &row[..] else { panic!("{row:?}") };
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let document = crate::yaml::Document::parse(&text).unwrap();
        let mut reader = crate::reader::Reader::new(&text, &document);
        let around = Surroundings { base: &folder, validation: Default::default() };
        read(&mut reader, &remote::AZUREAD, Some(&document.root), around);
        let texts: Vec<String> = reader.finish().0.into_iter().map(|problem| problem.message).collect();
        assert_eq!(texts.is_empty(), expect == "good", "{file}: {texts:?}");
        assert!(expect == "good" || texts.contains(error), "{file}: wanted {error:?}, got {texts:?}");
    }
}

#[test]
fn shared_http_client_sections_are_read_or_refused() {
    use crate::http;
    use crate::reader::{Fields, Reader};
    use crate::shown::ShownMap;
    use crate::yaml::Document;

    let Some(folder) = fk_testkit::conformance("config/http_client") else { return };
    let (mut good, mut bad) = (0, 0);
    // Bad only when a request is made: its file does not exist.
    const LATER: &str = "http.conf.invalid-bearer-token-file.bad.yml";
    for row in manifest(&folder.join("MANIFEST.tsv")) {
        let [file, expect, kind, contains, ..] = &row[..] else { panic!("{row:?}") };
        if file == LATER {
            continue;
        }
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let document = Document::parse(&text).unwrap();
        let mut reader = Reader::new(&text, &document);
        let mut shown = ShownMap::new();
        if kind == "tls_config" {
            http::read_tls(&mut reader, &document.root, &folder, &mut shown);
        } else {
            let mut fields = Fields::new(&mut reader, &document.root, "config.plain");
            http::read(&mut reader, &mut fields, &folder, &mut shown);
            fields.finish(&mut reader);
        }
        let (problems, _) = reader.finish();
        let texts: Vec<String> = problems.iter().map(|problem| problem.message.clone()).collect();
        let only_unsupported = problems.iter().all(|problem| problem.kind == ProblemKind::Unsupported);
        match expect.as_str() {
            "good" => {
                assert!(only_unsupported, "{file}: {texts:?}");
                good += 1;
            }
            _ => {
                assert!(texts.iter().any(|text| text.contains(contains)), "{file}: {texts:?}");
                bad += 1;
            }
        }
    }
    println!("http client sections: {good} good, {bad} bad");
}

#[test]
fn shared_facts_hold() {
    let Some(folder) = fk_testkit::conformance("config") else { return };
    let data: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("expectations.json")).unwrap()).unwrap();
    let temp = fk_testkit::TempDir::new("config-facts");
    let (mut checked, mut skipped) = (0, 0);
    for fact in data["facts"].as_array().unwrap() {
        let path: PathBuf = match (fact["file"].as_str(), fact["yaml"].as_str()) {
            (Some(file), _) => folder.join("testdata").join(file),
            (None, Some(yaml)) => {
                let path = temp.path().join("inline.yml");
                std::fs::write(&path, yaml).unwrap();
                path
            }
            _ => panic!("{fact}"),
        };
        let variables = fact["env"].clone();
        let env = std::sync::Arc::new(move |name: &str| variables[name].as_str().map(str::to_owned));
        let options = LoadOptions { agent: fact["mode"] == "agent", env, ..LoadOptions::default() };
        let key = fact["key"].as_str().unwrap();
        let loaded = check(&path, &options).unwrap_or_else(|errors| panic!("{fact}: {errors}"));
        let shown: serde_yaml::Value = serde_yaml::from_str(&loaded.shown_yaml).unwrap();
        let mut value = Some(&shown);
        if key == "count of <secret> in the marshalled configuration" {
            assert_eq!(Some(loaded.shown_yaml.matches("<secret>").count() as u64), fact["value"].as_u64(), "{fact}");
            assert!(!loaded.shown_yaml.contains("mysecret"));
            checked += 1;
            continue;
        }
        if key.contains('(') || key.contains(' ') {
            skipped += 1;
            continue;
        }
        for step in key.split('.') {
            let (name, index) =
                step.split_once('[').map_or((step, None), |(name, rest)| (name, rest.strip_suffix(']')));
            value = value.and_then(|value| value.get(name));
            if let Some(index) = index {
                value = value.and_then(|value| value.get(index.parse::<usize>().unwrap()));
            }
        }
        let got = value.map_or(serde_json::Value::Null, |value| serde_json::to_value(value).unwrap());
        let wanted = fact["value"].clone();
        let absent = got.is_null() && (wanted == false || wanted.as_array().is_some_and(Vec::is_empty));
        let text = wanted.to_string().replace("testdata/", &format!("{}/testdata/", folder.display()));
        let resolved: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(absent || got == wanted || got == resolved, "{fact}: got {got}");
        checked += 1;
    }
    println!("facts: {checked} hold, {skipped} are no keys");
    assert!(checked > 30);
}

#[test]
fn shared_scrape_jobs_have_the_wanted_settings() {
    let Some(folder) = fk_testkit::conformance("config") else { return };
    let data: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("expectations.json")).unwrap()).unwrap();
    let mut checked = 0;
    for case in data["scrape_configs"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let path = folder.join("testdata").join(file);
        let loaded = check(&path, &LoadOptions::default()).unwrap_or_else(|errors| panic!("{file}: {errors}"));
        let wanted = case["scrape_configs"].as_array().unwrap();
        assert_eq!(loaded.config.scrape_configs.len(), wanted.len(), "{file}");
        for (job, wanted) in loaded.config.scrape_configs.iter().zip(wanted) {
            let text = |key: &str| wanted[key].as_str().unwrap_or_default().to_owned();
            let switch = |key: &str| wanted[key].as_bool().unwrap_or_default();
            let addresses: Vec<String> = job
                .discovery
                .iter()
                .flat_map(|section| match section {
                    crate::DiscoveryConfig::Static(groups) => groups.clone(),
                    crate::DiscoveryConfig::File(_) => Vec::new(),
                })
                .flat_map(|group| group.targets)
                .map(|target| target.value("__address__").to_owned())
                .collect();
            assert_eq!(job.job_name, text("job_name"), "{file}");
            assert_eq!(job.scrape_interval.to_string(), text("scrape_interval"), "{file}");
            assert_eq!(job.scrape_timeout.to_string(), text("scrape_timeout"), "{file}");
            assert_eq!(
                (job.metrics_path.clone(), job.scheme.clone()),
                (text("metrics_path"), text("scheme")),
                "{file}"
            );
            assert_eq!(job.metric_name_escaping.as_str(), text("metric_name_escaping_scheme"), "{file}");
            assert_eq!(job.honor_timestamps, switch("honor_timestamps"), "{file}");
            assert_eq!(job.enable_compression, switch("enable_compression"), "{file}");
            assert_eq!(job.extra_scrape_metrics, switch("extra_scrape_metrics"), "{file}");
            if let Some(targets) = wanted["static_targets"].as_array() {
                let targets: Vec<&str> = targets.iter().filter_map(|target| target.as_str()).collect();
                assert_eq!(addresses, targets, "{file}");
            }
        }
        checked += 1;
    }
    println!("scrape jobs: {checked} files as wanted");
    assert!(checked > 0);
}

mod robustness {
    use proptest::prelude::*;

    use super::*;

    /// Keys and values that reach deep into the configuration, in any arrangement.
    fn fragments() -> impl Strategy<Value = String> {
        let words = [
            "global:",
            "scrape_configs:",
            "- job_name: a",
            "  job_name: b",
            "  static_configs:",
            "  - targets: [a]",
            "    labels: {a: b}",
            "  relabel_configs:",
            "  - action: keep",
            "    regex: (",
            "    source_labels: [x]",
            "alerting:",
            "  alertmanagers:",
            "rule_files: [x]",
            "  scrape_interval: 1s",
            "  tls_config: {min_version: TLS12}",
            "  basic_auth:",
            "    username: ~",
            "- ~",
            "storage:",
            "  tsdb: {retention: {size: 1GB}}",
            "  http_headers: {a: {values: [b]}}",
            "  params: {a: [b]}",
            "remote_write: [{url: http://a}]",
            "  consul_sd_configs: [{server: a}]",
            "otlp: {translation_strategy: x}",
            "  kubernetes_sd_configs: [{role: pod, selectors: [{role: pod, label: 'a in ('}]}]",
            "<<: *x",
            "&x",
            "? a",
            "|",
            "  external_labels: {a: $b}",
            "  scrape_protocols: [X]",
        ];
        proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..12).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn any_configuration_is_loaded_or_refused_with_places(text in fragments()) {
            let folder = fk_testkit::TempDir::new("config-any");
            let path = folder.path().join("p.yml");
            std::fs::write(&path, &text).unwrap();
            match load(&path, &LoadOptions::default()) {
                // What is shown is YAML again.
                Ok(loaded) => prop_assert!(serde_yaml::from_str::<serde_yaml::Value>(&loaded.shown_yaml).is_ok()),
                Err(errors) => prop_assert!(errors.problems().all(|problem| problem.line > 0), "{}", errors),
            }
        }
    }
}
