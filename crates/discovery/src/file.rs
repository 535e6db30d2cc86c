//! `file_sd_configs`: target groups in JSON and YAML files.
//!
//! Each look expands the patterns and reads every file whose identity (inode, size, time of change) is new; a file that
//! was replaced by a rename or behind a symbolic link has another identity. A file that does not parse keeps its last
//! good groups and is tried again at every look, since it may be half written. A file that is gone empties its groups.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fk_config::{FileDiscoveryConfig, glob, parse_target_groups};
use fk_model::{Labels, TargetGroup};
use serde_json::Value;

use crate::{DiscoveryError, Provider, Refresh};

/// Largest file that is read, bytes; a million targets with some labels have about a hundred megabytes.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// The label that names the file of a target.
pub const FILEPATH_LABEL: &str = "__meta_filepath";

/// Reads the files of one section.
#[derive(Debug)]
pub struct FileProvider {
    config: FileDiscoveryConfig,
    /// What is known of each file, by its path.
    files: BTreeMap<PathBuf, KnownFile>,
}

/// A file that was read before.
#[derive(Debug)]
struct KnownFile {
    /// Identity of the content that was read last; `None` if that could not be used, so that it is read again.
    identity: Option<Identity>,
    /// Whether that identity was met at two looks. Times of change are coarse: a file that is written twice within a tick
    /// looks the same, so a new identity is trusted only from its second look on.
    confirmed: bool,
    /// Its last good groups.
    groups: Vec<TargetGroup>,
}

/// What changes when the content of a file changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl FileProvider {
    /// A provider for a section. Patterns in it are already resolved.
    pub fn new(config: FileDiscoveryConfig) -> FileProvider {
        FileProvider { config, files: BTreeMap::new() }
    }

    fn matching_files(&self, errors: &mut Vec<DiscoveryError>) -> BTreeSet<PathBuf> {
        let mut paths = BTreeSet::new();
        for pattern in &self.config.files {
            match glob::expand(pattern) {
                Ok(found) => paths.extend(found),
                Err(reason) => errors.push(DiscoveryError::Pattern { pattern: pattern.clone(), reason }),
            }
        }
        paths
    }

    /// Reads one file if it is new or changed.
    fn refresh_file(&mut self, path: &Path, refresh: &mut Refresh) {
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return refresh.errors.push(read_error(path, error)),
        };
        let identity = Identity { inode: inode(&metadata), size: metadata.len(), modified: metadata.modified().ok() };
        let known = self.files.get(path);
        let same = known.is_some_and(|known| known.identity.as_ref() == Some(&identity));
        if same && known.is_some_and(|known| known.confirmed) {
            return;
        }
        match read_groups(path, metadata.len()) {
            Ok(groups) => {
                let before = known.map(|known| known.groups.as_slice()).unwrap_or_default();
                refresh.groups.extend(changes(before, &groups));
                self.files.insert(path.to_owned(), KnownFile { identity: Some(identity), confirmed: same, groups });
            }
            Err(error) => {
                refresh.errors.push(error);
                if let Some(known) = self.files.get_mut(path) {
                    known.identity = None;
                }
            }
        }
    }
}

impl Provider for FileProvider {
    fn refresh(&mut self) -> Refresh {
        let mut refresh = Refresh::default();
        let paths = self.matching_files(&mut refresh.errors);
        for path in &paths {
            self.refresh_file(path, &mut refresh);
        }
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| !paths.contains(*path)).cloned().collect();
        for path in gone {
            let known = self.files.remove(&path);
            refresh.groups.extend(known.into_iter().flat_map(|known| known.groups).map(emptied));
        }
        let modified = |known: &KnownFile| known.identity.as_ref().and_then(|identity| identity.modified);
        refresh.files = self.files.iter().filter_map(|(path, known)| Some((path.clone(), modified(known)?))).collect();
        refresh
    }

    /// The folders of the patterns, and those that symbolic links lead to: a link to a file elsewhere changes there.
    fn watch_paths(&self) -> Vec<PathBuf> {
        let mut folders = BTreeSet::new();
        for pattern in &self.config.files {
            folders.insert(folder_of(Path::new(pattern)));
        }
        for path in self.files.keys() {
            folders.insert(folder_of(path));
            if let Ok(real) = path.canonicalize() {
                folders.insert(folder_of(&real));
            }
        }
        folders.into_iter().collect()
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(self.config.refresh_interval.to_std())
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Groups that are new or different, and the old ones that have no successor, without their targets.
fn changes(before: &[TargetGroup], now: &[TargetGroup]) -> Vec<TargetGroup> {
    let changed =
        now.iter().enumerate().filter(|(at, group)| before.get(*at) != Some(*group)).map(|(_, group)| group.clone());
    let gone = before.iter().skip(now.len()).cloned().map(emptied);
    changed.chain(gone).collect()
}

fn emptied(group: TargetGroup) -> TargetGroup {
    TargetGroup { source: group.source, labels: Labels::empty(), targets: Vec::new() }
}

fn read_groups(path: &Path, size: u64) -> Result<Vec<TargetGroup>, DiscoveryError> {
    let name = path.to_string_lossy().into_owned();
    let parse_error = |reason: String| DiscoveryError::Parse { path: name.clone(), reason };
    let extension = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
    let parse = match extension.as_str() {
        "json" => parse_json_groups,
        "yml" | "yaml" => parse_target_groups,
        // Text as in Prometheus:
        _ => return Err(parse_error(format!("invalid file extension: \".{extension}\""))),
    };
    if size > FILE_BYTES_MAX {
        return Err(parse_error(format!("file of {size} bytes is larger than {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| read_error(path, error))?;
    let mut groups = parse(&text).map_err(parse_error)?;
    for (at, group) in groups.iter_mut().enumerate() {
        group.source = format!("{name}:{at}");
        group.labels = Labels::from_pairs(group.labels.iter().chain([(FILEPATH_LABEL, name.as_str())]));
    }
    Ok(groups)
}

/// Reads a JSON list of target groups; fields that are not known are refused, as in Prometheus.
fn parse_json_groups(text: &str) -> Result<Vec<TargetGroup>, String> {
    let items = match serde_json::from_str(text).map_err(|error| error.to_string())? {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        _ => return Err("not a list of target groups".to_owned()),
    };
    items.into_iter().enumerate().map(|(at, item)| json_group(at, item)).collect()
}

fn json_group(at: usize, item: Value) -> Result<TargetGroup, String> {
    let fields = match item {
        Value::Object(fields) => fields,
        // Text as in Prometheus:
        Value::Null => return Err(format!("nil target group item found (index {at})")),
        _ => return Err(format!("target group {at} is not an object")),
    };
    let mut group = TargetGroup { source: at.to_string(), labels: Labels::empty(), targets: Vec::new() };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("targets" | "labels", Value::Null) => {}
            ("targets", Value::Array(addresses)) => {
                for address in addresses {
                    let address =
                        address.as_str().ok_or_else(|| format!("target group {at}: target {address} is not a text"))?;
                    group.targets.push(Labels::from_pairs([("__address__", address)]));
                }
            }
            ("labels", Value::Object(labels)) => {
                let mut pairs = Vec::new();
                for (name, value) in &labels {
                    let value =
                        value.as_str().ok_or_else(|| format!("target group {at}: label {name:?} is not a text"))?;
                    if name.is_empty() {
                        // Text as in Prometheus:
                        return Err("\"\" is not a valid label name".to_owned());
                    }
                    pairs.push((name.as_str(), value));
                }
                group.labels = Labels::from_pairs(pairs);
            }
            ("targets" | "labels", _) => return Err(format!("target group {at}: {name} has the wrong type")),
            // Text as in Prometheus:
            _ => return Err(format!("json: unknown field {name:?}")),
        }
    }
    Ok(group)
}

fn read_error(path: &Path, error: std::io::Error) -> DiscoveryError {
    DiscoveryError::Read { path: path.to_string_lossy().into_owned(), reason: error.to_string() }
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &std::fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fk_model::Duration as ConfigDuration;
    use fk_testkit::TempDir;
    use proptest::prelude::*;

    use super::*;

    fn provider(folder: &TempDir, pattern: &str) -> FileProvider {
        let files = vec![folder.path().join(pattern).to_string_lossy().into_owned()];
        FileProvider::new(FileDiscoveryConfig { files, refresh_interval: ConfigDuration(300_000) })
    }

    /// What a look gave, shortly: `file:index addresses {labels}` without the file label.
    fn look(provider: &mut FileProvider) -> (Vec<String>, usize) {
        let refresh = provider.refresh();
        let shown = refresh.groups.iter().map(|group| {
            let source = group.source.rsplit('/').next().unwrap_or_default();
            let addresses: Vec<&str> = group.targets.iter().map(|target| target.value("__address__")).collect();
            let labels = group.labels.filtered(|name| name != FILEPATH_LABEL);
            format!("{source} {} {labels}", addresses.join(",")).replace(" {}", "")
        });
        (shown.collect(), refresh.errors.len())
    }

    fn check(provider: &mut FileProvider, groups: &[&str], errors: usize) {
        let (got, got_errors) = look(provider);
        assert_eq!(got, groups);
        assert_eq!(got_errors, errors);
    }

    #[test]
    fn files_are_read_when_they_appear_change_and_go() {
        let folder = TempDir::new("file-sd");
        let mut provider = provider(&folder, "*.yml");
        check(&mut provider, &[], 0);
        let path = folder.path().join("a.yml");
        fs::write(&path, "- targets: [a:1, b:1]\n  labels: {x: y}\n- targets: [c:1]\n").unwrap();
        check(&mut provider, &["a.yml:0 a:1,b:1 {x=\"y\"}", "a.yml:1 c:1"], 0);
        let files = provider.refresh().files;
        assert_eq!(files, [(path.clone(), path.metadata().unwrap().modified().unwrap())]);
        // The first group stays as it is, the second goes.
        fs::write(&path, "- targets: [a:1, b:1]\n  labels: {x: y}\n").unwrap();
        check(&mut provider, &["a.yml:1 "], 0);
        fs::remove_file(&path).unwrap();
        check(&mut provider, &["a.yml:0 "], 0);
        check(&mut provider, &[], 0);
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_groups() {
        let folder = TempDir::new("file-sd");
        let mut provider = provider(&folder, "a.json");
        let path = folder.path().join("a.json");
        fs::write(&path, r#"[{"targets": ["a:1"]}]"#).unwrap();
        check(&mut provider, &["a.json:0 a:1"], 0);
        fs::write(&path, r#"[{"targets": ["a:1"#).unwrap();
        check(&mut provider, &[], 1);
        // As long as it is broken, every look says so.
        check(&mut provider, &[], 1);
        fs::write(&path, r#"[{"targets": ["a:1"]}]"#).unwrap();
        check(&mut provider, &[], 0);
        fs::write(&path, r#"[{"targets": ["b:1"]}]"#).unwrap();
        check(&mut provider, &["a.json:0 b:1"], 0);
    }

    #[test]
    fn renames_and_swapped_links_are_changes() {
        let folder = TempDir::new("file-sd");
        let mut provider = provider(&folder, "link.yml");
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        for (sub, address) in [(&first, "a:1"), (&second, "b:1")] {
            fs::create_dir(sub).unwrap();
            fs::write(sub.join("t.yml"), format!("- targets: ['{address}']")).unwrap();
        }
        let link = folder.path().join("link.yml");
        std::os::unix::fs::symlink(first.join("t.yml"), &link).unwrap();
        check(&mut provider, &["link.yml:0 a:1"], 0);
        assert!(provider.watch_paths().contains(&first.canonicalize().unwrap()));
        // The same size, perhaps the same time: the inode tells.
        let swap = folder.path().join("swap");
        std::os::unix::fs::symlink(second.join("t.yml"), &swap).unwrap();
        fs::rename(&swap, &link).unwrap();
        check(&mut provider, &["link.yml:0 b:1"], 0);
        let new = second.join("new");
        fs::write(&new, "- targets: ['c:1']").unwrap();
        fs::rename(&new, second.join("t.yml")).unwrap();
        check(&mut provider, &["link.yml:0 c:1"], 0);
    }

    #[test]
    fn json_is_strict() {
        for (text, wanted) in [
            ("null", None),
            ("[]", None),
            (r#"[{"targets": null, "labels": {"a": "b"}}]"#, None),
            (r#"[{"target": []}]"#, Some("unknown field \"target\"")),
            (r#"[null]"#, Some("nil target group item found (index 0)")),
            (r#"[{"targets": [1]}]"#, Some("target 1 is not a text")),
            (r#"[{"labels": {"a": 1}}]"#, Some("label \"a\" is not a text")),
            (r#"{}"#, Some("not a list")),
            ("[", Some("EOF while parsing")),
        ] {
            match (parse_json_groups(text), wanted) {
                (Ok(_), None) => {}
                (Err(error), Some(wanted)) => assert!(error.contains(wanted), "{text}: {error}"),
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_shared_files_give_the_wanted_groups() {
        let Some(data) = fk_testkit::conformance("discovery/file") else { return };
        let expected: Value = serde_json::from_str(&fs::read_to_string(data.join("expected.json")).unwrap()).unwrap();
        let files = expected["files"].as_object().unwrap();
        for (name, wanted) in files {
            let config = FileDiscoveryConfig {
                files: vec![data.join(name).to_string_lossy().into_owned()],
                refresh_interval: ConfigDuration(300_000),
            };
            let refresh = FileProvider::new(config).refresh();
            if wanted.get("error").is_some() {
                assert_eq!((refresh.groups.len(), refresh.errors.len()), (0, 1), "{name}");
                continue;
            }
            let wanted = wanted["same_as"].as_str().map_or(wanted, |same| &files[same]);
            let path = data.join(name).to_string_lossy().into_owned();
            let replace = |text: &Value| text.as_str().unwrap().replace("<path of the file>", &path);
            let wanted: Vec<TargetGroup> = wanted["groups"]
                .as_array()
                .unwrap()
                .iter()
                .map(|group| TargetGroup {
                    source: replace(&group["source"]),
                    labels: Labels::from_pairs(
                        group["labels"].as_object().unwrap().iter().map(|(k, v)| (k, replace(v))),
                    ),
                    targets: group["targets"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|t| Labels::from_pairs([("__address__", t.as_str().unwrap())]))
                        .collect(),
                })
                .collect();
            assert_eq!(refresh.groups, wanted, "{name}");
            assert!(refresh.errors.is_empty(), "{name}");
        }
        println!("file discovery: {} files", files.len());
        // The recorded sequences: replaced by the same content, by other content, and removed.
        let folder = TempDir::new("file-sd");
        let mut provider = provider(&folder, "t.yml");
        let path = folder.path().join("t.yml");
        let mut put = |name: &str| {
            fs::copy(data.join(name), &path).unwrap();
            let (groups, errors) = look(&mut provider);
            (groups.len(), errors)
        };
        assert_eq!(put("valid.yml"), (2, 0));
        assert_eq!(put("valid3.yml"), (0, 0));
        assert_eq!(put("invalid_nil.yml"), (0, 1));
        assert_eq!(put("valid2.yml"), (3, 0));
        fs::remove_file(&path).unwrap();
        check(&mut provider, &["t.yml:0 ", "t.yml:1 ", "t.yml:2 "], 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}\",: a-z0-9\n-]{0,60}") {
            let _ = parse_json_groups(&text);
            let _ = parse_target_groups(&text);
        }
    }
}
