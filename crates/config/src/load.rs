//! Loading: the main file, then the scrape config files and rule files it names. All or nothing, and every problem of
//! every file is reported.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_model::name::NameValidation;
use fk_model::relabel::RelabelRule;
use fk_promql_syntax::ParserOptions;
use sha2::{Digest, Sha256};

use crate::error::{ConfigErrors, FileKind, FileProblems, Problem, ProblemKind};
use crate::global::Global;
use crate::reader::{Fields, Reader};
use crate::section::{resolve, shown_texts};
use crate::sections::{self, Section, Surroundings, remote};
use crate::shown::{self, Shown, ShownMap, ShownMapExt};
use crate::types::{Config, Loaded, Retention, ScrapeConfig};
use crate::yaml::{Document, Node};
use crate::{alerting, glob, global, relabel, rule_loader, scrape, storage};

/// Largest file that is read, bytes. The largest rule files seen in the wild have some ten megabytes.
pub const FILE_BYTES_MAX: u64 = 128 << 20;

/// The Go garbage collector's target, shown as Prometheus shows it when nothing else is configured.
const GOGC: i128 = 75;

/// Gives the value of an environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What loading depends on besides the files.
#[derive(Clone)]
pub struct LoadOptions {
    /// Whether the configuration is for agent mode, which has no rules, alerts and remote read.
    pub agent: bool,
    /// Environment variables, for `external_labels`.
    pub env: Environment,
    /// Default of `extra_scrape_metrics` (feature `extra-scrape-metrics`).
    pub extra_scrape_metrics: bool,
    /// Whether protobuf is asked for first where no protocols are configured (features about start timestamps).
    pub proto_first: bool,
    /// What the expressions of rules may contain.
    pub parser: ParserOptions,
    /// Retention by the flags, for configurations without `storage.tsdb.retention`.
    pub retention: Retention,
    /// Whether exemplars are stored (feature `exemplar-storage`).
    pub exemplar_storage: bool,
    /// Whether XOR2 chunks must not be asked for (no feature `xor2-encoding`).
    pub xor2_forbidden: bool,
    /// Whether XOR chunks must not be asked for (feature `st-storage`).
    pub xor_forbidden: bool,
}

impl Default for LoadOptions {
    /// Server mode, no features, no retention, the environment of the process.
    fn default() -> LoadOptions {
        LoadOptions {
            agent: false,
            env: Arc::new(|name: &str| std::env::var(name).ok()),
            extra_scrape_metrics: false,
            proto_first: false,
            parser: ParserOptions::default(),
            retention: Retention::default(),
            exemplar_storage: false,
            xor2_forbidden: false,
            xor_forbidden: false,
        }
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadOptions {
            agent,
            env: _,
            extra_scrape_metrics,
            proto_first,
            parser,
            retention,
            exemplar_storage,
            xor2_forbidden,
            xor_forbidden,
        } = self;
        let mut shown = f.debug_struct("LoadOptions");
        shown
            .field("agent", agent)
            .field("extra_scrape_metrics", extra_scrape_metrics)
            .field("proto_first", proto_first)
            .field("parser", parser)
            .field("retention", retention)
            .field("exemplar_storage", exemplar_storage)
            .field("xor2_forbidden", xor2_forbidden)
            .field("xor_forbidden", xor_forbidden)
            .finish_non_exhaustive()
    }
}

/// Loads the configuration in `path` with all files it names, for a server.
///
/// Errors: everything that is wrong in any of the files, and everything that this server cannot run. Nothing of a
/// configuration with errors is given out.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, ConfigErrors> {
    load_with(path, None, options)
}

/// The same with this text in place of what is in `path`: what would be if it were written there.
///
/// Errors: as of [`load`].
pub fn load_text(path: &Path, text: &str, options: &LoadOptions) -> Result<Loaded, ConfigErrors> {
    load_with(path, Some(text), options)
}

/// Reads a list of relabelling rules that stands by itself.
///
/// Errors: everything that is wrong in it.
pub fn relabel_rules(text: &str, validation: NameValidation) -> Result<Vec<RelabelRule>, ConfigErrors> {
    const NAME: &str = "relabel_configs";
    let document = parse(text).map_err(|problem| one_error(NAME, FileKind::Config, problem))?;
    let mut reader = Reader::new(text, &document);
    let node = Some(&document.root).filter(|node| !node.is_null());
    let null_text = "empty or null relabeling rule";
    let rules = relabel::read(&mut reader, node, validation, null_text, &mut ShownMap::new(), NAME);
    let mut errors = ConfigErrors::default();
    note(&mut errors, &mut Vec::new(), NAME, FileKind::Config, reader);
    if errors.files.is_empty() { Ok(rules) } else { Err(errors) }
}

fn load_with(path: &Path, text: Option<&str>, options: &LoadOptions) -> Result<Loaded, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut digest = Sha256::new();
    let mut warnings = Vec::new();
    let main = read_config(path, text, options, &mut digest, &mut errors, &mut warnings)?;
    let mut rule_files = Vec::new();
    let validation = main.global.validation;
    let mut known_files = HashSet::new();
    for file in matching_files(&main.config.rule_files, &mut errors, &path.to_string_lossy()) {
        // The groups of a file are known by its name: matched twice, they are still one set.
        if !known_files.insert(file.clone()) {
            continue;
        }
        let file_name = file.to_string_lossy();
        match read_file(&file) {
            Ok(text) => {
                hash_file(&mut digest, &file_name, &text);
                let loaded = rule_loader::load_rule_file(&file_name, &text, validation, &options.parser);
                match loaded {
                    Ok((rules, mut notes)) => {
                        rule_files.push(Arc::new(rules));
                        warnings.append(&mut notes);
                    }
                    Err(problems) => errors.files.push(problems),
                }
            }
            Err(problem) => errors.files.extend(one_error(&file_name, FileKind::Rules, problem).files),
        }
    }
    if !errors.files.is_empty() {
        return Err(errors);
    }
    let checksum = digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Ok(Loaded { config: main.config, rule_files, shown_yaml: shown::print(&main.shown), checksum, warnings })
}

/// A configuration that Prometheus would take.
#[derive(Debug)]
pub struct Checked {
    /// What of it this server can run.
    pub config: Config,
    /// All of it as `/api/v1/status/config` shows it.
    pub shown_yaml: String,
    /// What of it this server cannot run; empty: nothing.
    pub not_built: ConfigErrors,
    /// What is worth a line but no refusal.
    pub warnings: Vec<String>,
}

/// Checks the configuration in `path` as Prometheus does, but for its rule files.
///
/// Errors: everything that Prometheus would refuse.
pub fn check(path: &Path, options: &LoadOptions) -> Result<Checked, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut warnings = Vec::new();
    let main = read_config(path, None, options, &mut Sha256::new(), &mut errors, &mut warnings)?;
    let (not_built, wrong) = errors.split();
    if !wrong.files.is_empty() {
        return Err(wrong);
    }
    Ok(Checked { config: main.config, shown_yaml: shown::print(&main.shown), not_built, warnings })
}

/// Reads the main file and the files with more scrape jobs. What is wrong goes to `errors`, unless nothing can be read.
fn read_config(
    path: &Path,
    text: Option<&str>,
    options: &LoadOptions,
    digest: &mut Sha256,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> Result<Main, ConfigErrors> {
    let name = path.to_string_lossy();
    let text = match text {
        Some(text) => text.to_owned(),
        None => read_file(path).map_err(|problem| one_error(&name, FileKind::Config, problem))?,
    };
    hash_file(digest, &name, &text);
    let document = parse(&text).map_err(|problem| one_error(&name, FileKind::Config, problem))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut jobs = HashMap::new();
    let mut reader = Reader::new(&text, &document);
    let mut main = read_main(&mut reader, &document.root, base, options, &mut jobs);
    note(errors, warnings, &name, FileKind::Config, reader);
    for file in matching_files(&main.scrape_config_files, errors, &name) {
        load_scrape_config_file(&file, &mut main, &mut jobs, digest, errors, warnings);
    }
    Ok(main)
}

/// The checksum [`load`] would give, without checking anything: what automatic reloads compare.
///
/// Errors: a file cannot be read, or the main file is no YAML.
pub fn checksum(path: &Path) -> Result<String, ConfigErrors> {
    let name = path.to_string_lossy();
    let text = read_file(path).map_err(|problem| one_error(&name, FileKind::Config, problem))?;
    let mut digest = Sha256::new();
    hash_file(&mut digest, &name, &text);
    let document = parse(&text).map_err(|problem| one_error(&name, FileKind::Config, problem))?;
    let mut reader = Reader::new(&text, &document);
    let mut fields = Fields::new(&mut reader, &document.root, "config.plain");
    let base = path.parent().unwrap_or(Path::new(""));
    for (key, kind) in [("scrape_config_files", FileKind::Config), ("rule_files", FileKind::Rules)] {
        let patterns: Vec<String> = fields.take(key).map(|node| reader.strings(node)).unwrap_or_default();
        let patterns: Vec<String> = patterns.iter().map(|pattern| resolve(base, pattern)).collect();
        let mut ignored = ConfigErrors::default();
        let mut known_files = HashSet::new();
        for file in matching_files(&patterns, &mut ignored, &name) {
            // As loading does: rule files count once, scrape config files each time.
            if kind == FileKind::Rules && !known_files.insert(file.clone()) {
                continue;
            }
            let file_name = file.to_string_lossy();
            let text = read_file(&file).map_err(|problem| one_error(&file_name, kind, problem))?;
            hash_file(&mut digest, &file_name, &text);
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The main file, read.
struct Main {
    config: Config,
    global: Global,
    scrape_config_files: Vec<String>,
    shown: ShownMap,
}

fn read_main(
    reader: &mut Reader<'_>,
    root: &Node,
    base: &Path,
    options: &LoadOptions,
    jobs: &mut HashMap<String, ()>,
) -> Main {
    let mut fields = Fields::new(reader, root, "config.plain");
    let mut map = ShownMap::new();
    let global = global::read(reader, fields.take("global"), base, options, &mut map);
    read_runtime(reader, fields.take("runtime"), &mut map);
    if options.agent {
        for name in ["alerting", "rule_files", "remote_read"] {
            if let Some((key, _)) = fields.take_entry(name).filter(|(_, node)| has_content(node)) {
                // Text as in Prometheus:
                reader.invalid(key.id, format!("field {name} is not allowed in agent mode"));
            }
        }
    }
    let alerting = fields
        .take("alerting")
        .map(|node| alerting::read(reader, node, global.validation, base, &mut map))
        .unwrap_or_default();
    let rule_files = read_patterns(reader, &mut fields, "rule_files", "rule file", base, &mut map);
    let scrape_config_files =
        read_patterns(reader, &mut fields, "scrape_config_files", "scrape config file", base, &mut map);
    let (scrape_configs, jobs_shown) = scrape::read_list(reader, fields.take("scrape_configs"), &global, base, jobs);
    map.put_seq("scrape_configs", jobs_shown);
    let storage = storage::read(reader, fields.take("storage").filter(|node| !node.is_null()), options, &mut map);
    let around = Surroundings { base, validation: global.validation };
    if let Some((key, node)) = fields.take_entry("tracing").filter(|(_, node)| !node.is_null()) {
        let (_, shown) = sections::read(reader, &remote::TRACING, Some(node), around);
        map.put("tracing", Shown::Map(shown));
        reader.unsupported(key.id, "tracing");
    }
    read_endpoints(reader, &mut fields, "remote_write", &remote::REMOTE_WRITE, around, &mut map);
    read_endpoints(reader, &mut fields, "remote_read", &remote::REMOTE_READ, around, &mut map);
    read_otlp(reader, &mut fields, around, &mut map);
    fields.finish(reader);
    let scrape_configs = scrape_configs.into_iter().map(Arc::new).collect();
    let config = Config { global: global.config.clone(), scrape_configs, rule_files, alerting, storage };
    Main { config, global, scrape_config_files, shown: map }
}

/// Reads `remote_write` or `remote_read`.
fn read_endpoints(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    section: &'static Section,
    around: Surroundings<'_>,
    shown: &mut ShownMap,
) {
    let Some((key, node)) = fields.take_entry(name) else { return };
    let go_type = if name == "remote_write" { "[]*config.RemoteWriteConfig" } else { "[]*config.RemoteReadConfig" };
    let (mut names, mut list_shown) = (HashSet::new(), Vec::new());
    for item in reader.list(node, go_type) {
        // Texts as in Prometheus:
        let words = name.replace('_', " ");
        if item.is_null() {
            reader.invalid(item.id, format!("empty or null {words} config section"));
            continue;
        }
        let (values, shown) = sections::read(reader, section, Some(item), around);
        let own = values.text("name");
        if !own.is_empty() && !names.insert(own.to_owned()) {
            let place = values.node("name", item.id);
            reader.invalid(place, format!("found multiple {words} configs with job name {own:?}"));
        }
        list_shown.push(Shown::Map(shown));
    }
    if !list_shown.is_empty() {
        reader.unsupported(key.id, name);
    }
    shown.put_seq(name, list_shown);
}

/// Reads `otlp`, which is shown with its defaults even if it is absent.
fn read_otlp(reader: &mut Reader<'_>, fields: &mut Fields<'_>, around: Surroundings<'_>, shown: &mut ShownMap) {
    let entry = fields.take_entry("otlp");
    let node = entry.map(|(_, node)| node);
    let (values, section) = sections::read(reader, &remote::OTLP, node, around);
    let strategy = values.text("translation_strategy");
    if let Err(error) = remote::check_translation(strategy, around.validation == NameValidation::Legacy) {
        reader.invalid(values.node("translation_strategy", node.map_or(0, |node| node.id)), error);
    }
    if let Some((key, _)) = entry.filter(|(_, node)| !node.is_empty()) {
        reader.unsupported(key.id, "otlp");
    }
    shown.put_map("otlp", section);
}

/// Whether a section has anything in it, lists inside included.
fn has_content(node: &Node) -> bool {
    match &node.value {
        crate::yaml::Value::Map(entries) => entries.iter().any(|(_, value)| has_content(value)),
        _ => !node.is_empty(),
    }
}

fn read_runtime(reader: &mut Reader<'_>, node: Option<&Node>, shown: &mut ShownMap) {
    let mut gogc = 0;
    if let Some(node) = node.filter(|node| !node.is_null()) {
        let mut fields = Fields::new(reader, node, "config.RuntimeConfig");
        if let Some(value) = fields.take("gogc") {
            gogc = reader.int(value, "int", i128::from(i64::MIN), i128::from(i64::MAX));
            reader.warn("runtime.gogc has no effect, since there is no garbage collector to tune");
        }
        fields.finish(reader);
    }
    // Nothing, and a zero, are what Prometheus has by itself.
    let gogc = if gogc == 0 { GOGC } else { gogc };
    shown.put("runtime", Shown::Map(vec![("gogc".to_owned(), Shown::Bare(gogc.to_string()))]));
}

fn read_patterns(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    key: &str,
    what: &str,
    base: &Path,
    shown: &mut ShownMap,
) -> Vec<String> {
    let mut patterns = Vec::new();
    for item in fields.take(key).map(|node| reader.list(node, "[]string")).unwrap_or_default() {
        let pattern = reader.string(item);
        if !glob::is_config_pattern(&pattern) {
            // Text as in Prometheus:
            reader.invalid(item.id, format!("invalid {what} path {pattern:?}"));
        } else {
            patterns.push(resolve(base, &pattern));
        }
    }
    shown.put_seq(key, shown_texts(&patterns));
    patterns
}

fn load_scrape_config_file(
    file: &Path,
    main: &mut Main,
    jobs: &mut HashMap<String, ()>,
    digest: &mut Sha256,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) {
    let name = file.to_string_lossy();
    let text = match read_file(file) {
        Ok(text) => text,
        Err(problem) => return errors.files.extend(one_error(&name, FileKind::Config, problem).files),
    };
    hash_file(digest, &name, &text);
    let document = match parse(&text) {
        Ok(document) => document,
        Err(problem) => return errors.files.extend(one_error(&name, FileKind::Config, problem).files),
    };
    let mut reader = Reader::new(&text, &document);
    let mut fields = Fields::new(&mut reader, &document.root, "config.ScrapeConfigs");
    let base = file.parent().unwrap_or(Path::new(""));
    let (read, _) = scrape::read_list(&mut reader, fields.take("scrape_configs"), &main.global, base, jobs);
    fields.finish(&mut reader);
    note(errors, warnings, &name, FileKind::Config, reader);
    main.config.scrape_configs.extend(read.into_iter().map(Arc::<ScrapeConfig>::new));
}

/// The files of all patterns, in the order of the patterns and of the names each matched. A file that two patterns match
/// comes twice, as in Prometheus.
fn matching_files(patterns: &[String], errors: &mut ConfigErrors, main_file: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for pattern in patterns {
        match glob::expand(pattern) {
            Ok(found) => files.extend(found),
            Err(error) => {
                let message = format!("error retrieving files for {pattern:?}: {error}");
                let problem = Problem { kind: ProblemKind::Invalid, line: 0, column: 0, message };
                errors.files.extend(one_error(main_file, FileKind::Config, problem).files);
            }
        }
    }
    files
}

fn note(errors: &mut ConfigErrors, warnings: &mut Vec<String>, file: &str, kind: FileKind, reader: Reader<'_>) {
    let (problems, notes) = reader.finish();
    warnings.extend(notes);
    if !problems.is_empty() {
        errors.files.push(FileProblems { file: file.to_owned(), kind, problems });
    }
}

fn one_error(file: &str, kind: FileKind, problem: Problem) -> ConfigErrors {
    ConfigErrors { files: vec![FileProblems { file: file.to_owned(), kind, problems: vec![problem] }] }
}

/// Paths count as well as contents, each behind its length so that nothing can be shifted from one to the other.
fn hash_file(digest: &mut Sha256, name: &str, text: &str) {
    for part in [name, text] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
}

/// Reads a whole file of bounded size.
pub(crate) fn read_file(path: &Path) -> Result<String, Problem> {
    let io_problem = |error: std::io::Error| {
        let reason = match error.kind() {
            // Texts as in Prometheus:
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Problem { kind: ProblemKind::Io, line: 0, column: 0, message: format!("open {}: {reason}", path.display()) }
    };
    let size = std::fs::metadata(path).map_err(io_problem)?.len();
    if size > FILE_BYTES_MAX {
        let message = format!("open {}: file of {size} bytes is larger than {FILE_BYTES_MAX}", path.display());
        return Err(Problem { kind: ProblemKind::Io, line: 0, column: 0, message });
    }
    let bytes = std::fs::read(path).map_err(io_problem)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = good.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Problem { kind: ProblemKind::Syntax, line, column, message: "invalid UTF-8".to_owned() }
    })
}

pub(crate) fn parse(text: &str) -> Result<Document, Problem> {
    Document::parse(text).map_err(|error| Problem {
        kind: ProblemKind::Syntax,
        line: error.line,
        column: error.column,
        message: error.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_by_themselves_and_a_text_stands_in_for_the_file() {
        let rules = |text: &str| relabel_rules(text, NameValidation::Utf8);
        assert_eq!(rules("").unwrap().len(), 0);
        let two = rules("- {source_labels: [a], target_label: b}\n- {regex: x, action: labeldrop}\n").unwrap();
        assert_eq!(two.len(), 2);
        let wrong =
            rules("- {source_labels: [a], target_label: b}\n- {regex: '(', action: drop, source_labels: [a]}\n");
        assert_eq!(wrong.unwrap_err().problems().next().unwrap().line, 2);
        assert!(rules("a: b").is_err() && rules("[").is_err());

        let folder = fk_testkit::TempDir::new("load");
        let rules_of_file = "groups: [{name: g, rules: [{record: a, expr: b}]}]";
        let path = write(&folder, &[("main.yml", "scrape_configs: [{job_name: old}]"), ("r.yml", rules_of_file)]);
        let options = LoadOptions::default();
        let loaded = load_text(&path, "rule_files: [r.yml]\nscrape_configs: [{job_name: new}]", &options).unwrap();
        assert_eq!((loaded.config.scrape_configs[0].job_name.as_str(), loaded.rule_files.len()), ("new", 1));
        assert_eq!(load(&path, &options).unwrap().config.scrape_configs[0].job_name, "old");
    }

    fn write(folder: &fk_testkit::TempDir, files: &[(&str, &str)]) -> PathBuf {
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder.path().join(files[0].0)
    }

    fn errors_of(files: &[(&str, &str)]) -> Vec<String> {
        let folder = fk_testkit::TempDir::new("load");
        let path = write(&folder, files);
        let errors = load(&path, &LoadOptions::default()).unwrap_err().to_string();
        errors.replace(&format!("{}/", folder.path().display()), "").lines().map(str::to_owned).collect()
    }

    #[test]
    fn problems_of_all_files_are_told_at_once() {
        let main = "global: {scrape_timeoutt: 1s}
scrape_config_files: [jobs.yml]
rule_files: [r*.yml]
scrape_configs:
- job_name: a
  scrape_timeout: 2m
- job_name: a
remote_write: [{url: http://x}]
";
        let errors = errors_of(&[
            ("p.yml", main),
            ("jobs.yml", "scrape_configs: [{job_name: a}, {job_name: b, unknown: 1}]"),
            ("r1.yml", "groups: [{name: g, rules: [{record: a, expr: 'sum('}]}]"),
            ("r2.yml", "groups: ["),
        ]);
        let wanted = [
            "parsing YAML file p.yml: yaml: unmarshal errors:",
            "  line 1: field scrape_timeoutt not found in type config.plain",
            "parsing YAML file p.yml: scrape timeout greater than scrape interval for scrape config with job name \"a\" (line 6, column 19)",
            "parsing YAML file p.yml: found multiple scrape configs with job name \"a\" (line 7, column 3)",
            "parsing YAML file p.yml: firekeeper does not support \"remote_write\" yet, although Prometheus does (line 8, column 1)",
            "parsing YAML file jobs.yml: yaml: unmarshal errors:",
            "  line 1: field unknown not found in type config.ScrapeConfig",
            "parsing YAML file jobs.yml: found multiple scrape configs with job name \"a\" (line 1, column 18)",
            "r1.yml: 1:46: group \"g\", rule 1, \"a\": could not parse expression: 1:5: parse error: unclosed left parenthesis",
            "r2.yml: yaml: line 2: did not find expected node content",
        ];
        assert_eq!(errors, wanted);
    }

    #[test]
    fn broken_yaml_wrong_shapes_and_missing_files_are_told_with_their_place() {
        for (text, wanted) in [
            ("a: [", "parsing YAML file p.yml: yaml: line 2: did not find expected node content"),
            ("scrape_configs: 5", "  line 1: cannot unmarshal !!int `5` into []*config.ScrapeConfig"),
            ("a: 1\n\nb: 2", "  line 1: field a not found in type config.plain"),
            ("global: {}\nglobal: {}", "  line 2: field global already set in type config.plain"),
            ("global:\n  external_labels: {a: b, a: c}", "  line 2: key \"a\" already set in map"),
            (
                "global:\n  scrape_interval: 5",
                "parsing YAML file p.yml: not a valid duration string: \"5\" (line 2, column 20)",
            ),
            (
                "scrape_configs: [{job_name: a, honor_labels: perhaps}]",
                "  line 1: cannot unmarshal !!str `perhaps` into bool",
            ),
            ("scrape_configs: [{job_name: a, sample_limit: -1}]", "  line 1: cannot unmarshal !!int `-1` into uint"),
            ("scrape_configs: [{job_name: a, static_configs: [{targets: ['http://a']}]}]", "is not a valid hostname"),
            (
                "scrape_configs: [{job_name: a, file_sd_configs: [{files: [a.txt]}]}]",
                "path name \"a.txt\" is not valid for file discovery",
            ),
        ] {
            let errors = errors_of(&[("p.yml", text)]);
            assert!(errors.iter().any(|error| error.contains(wanted)), "{text}: {errors:?}");
        }
        let error = load(Path::new("/nonexistent/p.yml"), &LoadOptions::default()).unwrap_err().to_string();
        assert_eq!(error, "open /nonexistent/p.yml: no such file or directory");
    }

    #[test]
    fn the_checksum_covers_every_named_file() {
        let folder = fk_testkit::TempDir::new("checksum");
        let main = "rule_files: [r.yml, r*.yml]\nscrape_config_files: [j.yml]\n";
        let path = write(&folder, &[("p.yml", main), ("r.yml", "groups: []"), ("j.yml", "scrape_configs: []")]);
        let mut seen = HashSet::new();
        for (name, text) in [("p.yml", "# changed\n"), ("r.yml", "# changed\n"), ("j.yml", "# changed\n")] {
            let loaded = load(&path, &LoadOptions::default()).unwrap();
            assert_eq!(loaded.rule_files.len(), 1);
            assert!(seen.insert(loaded.checksum.clone()), "before changing {name}");
            assert_eq!(checksum(&path), Ok(loaded.checksum));
            let before = std::fs::read_to_string(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name), before + text).unwrap();
        }
        assert!(seen.insert(checksum(&path).unwrap()));
    }

    #[test]
    fn protocols_depend_on_native_histograms_where_none_are_configured() {
        use crate::ScrapeProtocol::{self, PrometheusProto, PrometheusText0_0_4};
        let folder = fk_testkit::TempDir::new("protocols");
        let text = "scrape_configs:\n- job_name: a\n  scrape_protocols: [PrometheusProto, PrometheusText0.0.4]\n\
                    - job_name: b\n- job_name: c\n  scrape_native_histograms: true\n";
        let path = write(&folder, &[("p.yml", text)]);
        let protocols = |options: &LoadOptions| -> Vec<Vec<ScrapeProtocol>> {
            let jobs = load(&path, options).unwrap().config.scrape_configs;
            jobs.iter().map(|job| job.scrape_protocols.clone()).collect()
        };
        let (own, proto_first) = (vec![PrometheusProto, PrometheusText0_0_4], ScrapeProtocol::PROTO_FIRST.to_vec());
        let found = protocols(&LoadOptions::default());
        assert_eq!(found, [own.clone(), ScrapeProtocol::DEFAULT.to_vec(), proto_first.clone()]);
        let found = protocols(&LoadOptions { proto_first: true, ..LoadOptions::default() });
        assert_eq!(found, [own, proto_first.clone(), proto_first]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let folder = fk_testkit::TempDir::new("secrets");
        let text = "scrape_configs:
- job_name: a
  basic_auth: {username: u, password: hidden1}
  tls_config: {cert: c, key: hidden2}
  proxy_url: http://u:hidden3@proxy:1
  http_headers: {X: {secrets: [hidden4]}}
- job_name: b
  bearer_token: hidden5
";
        let loaded = load(&write(&folder, &[("p.yml", text)]), &LoadOptions::default()).unwrap();
        assert!(!loaded.shown_yaml.contains("hidden"), "{}", loaded.shown_yaml);
        assert_eq!(loaded.shown_yaml.matches("<secret>").count(), 4);
        assert!(!format!("{:?}", loaded.config).contains("hidden1"));
    }
}
