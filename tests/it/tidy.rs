//! Rules about the repository itself. A rule that nobody checks is a wish.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longest source file, lines. Beyond it a file tells more than one story.
const FILE_LINES_MAX: usize = 1500;

/// What each crate may depend on, among ours. The root package may use everything and is the only user of `actorkit`.
const ARROWS: &[(&str, &[&str])] = &[
    ("actorkit", &["instrument"]),
    ("block", &["model", "storage", "vfs", "chunk"]),
    ("chunk", &["model", "storage"]),
    ("config", &["model", "promql-syntax", "template"]),
    ("discovery", &["model", "config"]),
    ("exposition", &["model"]),
    ("http", &["model", "config"]),
    ("instrument", &[]),
    ("ledger", &["model", "rules", "vfs"]),
    ("mmap", &[]),
    ("model", &[]),
    ("notify", &["model", "config"]),
    ("promql", &["model", "storage", "promql-syntax"]),
    ("promql-syntax", &["model"]),
    ("promql-test", &["model", "storage", "promql", "promql-syntax"]),
    (
        "promtool",
        &[
            "model",
            "storage",
            "promql-syntax",
            "promql",
            "promql-test",
            "rules",
            "exposition",
            "config",
            "discovery",
            "scrape",
            "notify",
            "vfs",
            "chunk",
            "block",
            "tsdb",
        ],
    ),
    ("queries", &["storage", "instrument", "promql"]),
    ("remote", &["model", "storage", "chunk"]),
    ("rules", &["model", "storage", "promql-syntax", "template", "config"]),
    ("scrape", &["model", "exposition", "storage", "config"]),
    ("storage", &["model"]),
    ("template", &["model"]),
    ("testkit", &["model", "storage"]),
    ("tsdb", &["model", "storage", "instrument", "vfs", "chunk", "wal", "block"]),
    ("vfs", &["storage", "mmap"]),
    ("wal", &["model", "storage", "vfs"]),
    (
        "web",
        &["model", "config", "storage", "promql", "promql-syntax", "queries", "exposition", "instrument", "remote"],
    ),
];

/// What tests and benchmarks of a crate may depend on beyond that. `testkit` is for all tests.
const DEV_ARROWS: &[(&str, &[&str])] = &[
    ("promql", &["promql-test"]),
    ("queries", &["model", "promql-syntax", "tsdb"]),
    ("rules", &["promql"]),
    ("scrape", &["tsdb"]),
];

/// Who may use actix itself. Engines know no actors; the web crate knows `actix-web` and what it is made of.
const ACTIX: &[(&str, &[&str])] =
    &[("actorkit", &["actix"]), ("web", &["actix-http", "actix-server", "actix-service", "actix-tls", "actix-web"])];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The dependencies that a manifest declares: those of the product, and those of tests, benchmarks and build scripts.
#[derive(Debug, Default)]
struct Manifest {
    name: String,
    dependencies: BTreeSet<String>,
    dev_dependencies: BTreeSet<String>,
    text: String,
}

impl Manifest {
    fn parse(text: &str) -> Manifest {
        let mut manifest = Manifest { text: text.to_owned(), ..Manifest::default() };
        let mut section = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']').trim_start_matches('[').to_owned();
                // `[dependencies.name]` declares one by itself.
                if let Some((table, name)) =
                    section.clone().rsplit_once('.').filter(|_| section != "workspace.dependencies")
                {
                    manifest.depend(table, name);
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim().trim_end_matches(".workspace").trim_matches('"');
            if section == "package" && key == "name" {
                manifest.name = value.trim().trim_matches('"').to_owned();
            } else if section != "workspace.dependencies" {
                manifest.depend(&section, key);
            }
        }
        manifest
    }

    fn depend(&mut self, section: &str, name: &str) {
        // Also those of `[target.'cfg(unix)'.dependencies]`.
        match section.rsplit('.').next() {
            Some("dependencies" | "build-dependencies") => self.dependencies.insert(name.to_owned()),
            Some("dev-dependencies") => self.dev_dependencies.insert(name.to_owned()),
            _ => false,
        };
    }

    fn ours(dependencies: &BTreeSet<String>) -> BTreeSet<&str> {
        dependencies.iter().filter_map(|name| name.strip_prefix("fk-")).collect()
    }
}

fn crates() -> BTreeMap<String, Manifest> {
    let folders = std::fs::read_dir(root().join("crates")).expect("there are crates");
    let folders = folders.map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned());
    folders.map(|name| (name.clone(), Manifest::parse(&read(format!("crates/{name}/Cargo.toml"))))).collect()
}

fn look_up<'a>(table: &[(&str, &'a [&'a str])], name: &str) -> &'a [&'a str] {
    table.iter().find(|(of, _)| *of == name).map_or(&[], |(_, allowed)| *allowed)
}

/// All Rust files below a folder.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has no Rust files");
    files.sort();
    files
}

/// Fails with all offenders, not only the first.
fn assert_none(rule: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn manifests_are_understood() {
    let manifest = Manifest::parse(
        "[package]\nname = \"fk-x\"\n[dependencies]\nfk-a.workspace = true\nfk-b = { path = \"b\" }\n# fk-no = 1\n\
         [target.'cfg(unix)'.dependencies]\nfk-c = \"1\"\n[dependencies.fk-d]\nversion = \"1\"\n[dev-dependencies]\nfk-e.workspace = true\n",
    );
    assert_eq!(manifest.name, "fk-x");
    assert_eq!(Manifest::ours(&manifest.dependencies), BTreeSet::from(["a", "b", "c", "d"]));
    assert_eq!(Manifest::ours(&manifest.dev_dependencies), BTreeSet::from(["e"]));
}

#[test]
fn dependencies_point_in_one_direction() {
    let crates = crates();
    let mut offenders = Vec::new();
    for (name, manifest) in &crates {
        if manifest.name != format!("fk-{name}") {
            offenders.push(format!("crates/{name} holds the package {}", manifest.name));
        }
        if !ARROWS.iter().any(|(of, _)| of == name) {
            offenders.push(format!("{name} is in no rule: say in tidy.rs what it may depend on"));
        }
        let allowed = look_up(ARROWS, name);
        let wrong = Manifest::ours(&manifest.dependencies).into_iter().filter(|other| !allowed.contains(other));
        offenders.extend(wrong.map(|other| format!("{name} -> {other}")));
        let allowed_in_tests = look_up(DEV_ARROWS, name);
        let wrong = Manifest::ours(&manifest.dev_dependencies)
            .into_iter()
            .filter(|other| *other != "testkit" && !allowed.contains(other) && !allowed_in_tests.contains(other));
        offenders.extend(wrong.map(|other| format!("{name} -> {other} (tests)")));
    }
    let server = Manifest::parse(&read("Cargo.toml"));
    if server.dependencies.contains("fk-testkit") {
        offenders.push("the product depends on testkit".to_owned());
    }
    let gone = ARROWS.iter().filter(|(name, _)| !crates.contains_key(*name));
    offenders.extend(gone.map(|(name, _)| format!("{name} has a rule and is no crate")));
    assert_none("dependencies that point in the wrong direction", offenders);
}

#[test]
fn engines_know_no_actors() {
    let mut offenders = Vec::new();
    for (name, manifest) in crates() {
        let allowed = look_up(ACTIX, &name);
        let all = manifest.dependencies.iter().chain(&manifest.dev_dependencies);
        let wrong = all.filter(|other| other.starts_with("actix") && !allowed.contains(&other.as_str()));
        offenders.extend(wrong.map(|other| format!("{name} -> {other}")));
    }
    assert_none("crates that know actors", offenders);
}

#[test]
fn every_crate_obeys_the_lints_of_the_workspace() {
    let server = read("Cargo.toml");
    assert!(server.contains("unsafe_code = \"forbid\""), "unsafe code is not forbidden");
    let mut offenders = Vec::new();
    for manifest in crates().into_values().chain([Manifest::parse(&server)]) {
        let obeys = match manifest.name.as_str() {
            // The one place of `unsafe`: denied, and allowed for a single call.
            "fk-mmap" => manifest.text.contains("unsafe_code = \"deny\""),
            _ => manifest.text.contains("[lints]\nworkspace = true"),
        };
        if !obeys {
            offenders.push(manifest.name);
        }
    }
    assert_none("packages without `[lints] workspace = true`", offenders);
}

/// Supervision catches panics, so they must unwind.
#[test]
fn panics_unwind() {
    let manifests = crates().into_values().chain([Manifest::parse(&read("Cargo.toml"))]);
    let aborting = |line: &str| line.split('#').next().unwrap_or("").contains("abort");
    let offenders = manifests.filter(|manifest| manifest.text.lines().any(aborting)).map(|manifest| manifest.name);
    assert_none("manifests that make panics abort", offenders.collect());
}

#[test]
fn files_are_of_readable_length() {
    let mut offenders = Vec::new();
    for path in ["src", "crates", "tests"].into_iter().flat_map(rust_files) {
        let lines = read(&path).lines().count();
        if lines > FILE_LINES_MAX {
            offenders.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert_none("files to split", offenders);
}

/// The storage reads and writes files, and the clock, through its `vfs` module only: that is what makes power cuts testable.
#[test]
fn the_storage_touches_the_world_in_one_place() {
    let mut offenders = Vec::new();
    let folders = ["crates/block/src", "crates/chunk/src", "crates/tsdb/src", "crates/wal/src"];
    for path in folders.into_iter().flat_map(rust_files) {
        if path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        for (idx, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if ["std::fs", "fs::File", "SystemTime"].iter().any(|name| code.contains(name)) {
                offenders.push(format!("{}:{}: {}", path.display(), idx + 1, line.trim()));
            }
        }
    }
    assert_none("files or clock outside vfs", offenders);
}

/// The message types of a file, each with the first line of its documentation.
fn messages_of(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut messages = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let derives_message = line.trim().starts_with("#[derive(") && line.contains("Message)");
        if !derives_message {
            continue;
        }
        let declared = lines[at..].iter().find_map(|line| {
            let rest = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "))?;
            Some(rest.chars().take_while(|c| c.is_alphanumeric()).collect::<String>())
        });
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("///"));
        messages.push((declared.expect("a type follows its derives"), above.last().unwrap_or(&"").to_string()));
    }
    messages
}

/// The names in the first column of a table of links: `config::Reload` for ``| [`config::Reload`] | ...``.
fn first_column(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.filter_map(|row| Some(row.split_once("`]")?.0.to_owned())).collect()
}

#[test]
fn every_message_is_in_the_table() {
    let mut declared = BTreeSet::new();
    let mut offenders = Vec::new();
    for path in rust_files("src/messages") {
        let module = path.file_stem().expect("a file").to_string_lossy().into_owned();
        for (name, doc) in messages_of(&read(&path)) {
            if !doc.contains("-> ") {
                offenders.push(format!("{name}: its documentation does not begin with `sender -> receiver:`"));
            }
            declared.insert(if module == "mod" { name } else { format!("{module}::{name}") });
        }
    }
    let listed = first_column(&read("src/messages/mod.rs"));
    assert!(!declared.is_empty(), "no messages found");
    offenders.extend(declared.difference(&listed).map(|name| format!("{name} is not in the table")));
    offenders.extend(listed.difference(&declared).map(|name| format!("{name} is in the table only")));
    assert_none("src/messages/mod.rs", offenders);
}

#[test]
fn every_actor_is_in_the_tables() {
    let (architecture, chaos) = (read("ARCHITECTURE.md"), read("tests/it/chaos.rs"));
    let mut declared = BTreeSet::new();
    let mut offenders = Vec::new();
    for path in rust_files("src/actors") {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let text = read(&path);
        if name == "mod" {
            continue;
        }
        if !text.contains("impl ManagedActor for") {
            offenders.push(format!("{name}: holds no actor"));
        }
        // Metrics, the chaos route and the table speak of the same thing.
        if !text.contains(&format!("const KIND: &'static str = \"{name}\";")) {
            offenders.push(format!("{name}: the kind of the actor is not the name of its file"));
        }
        if !architecture.contains(&name) {
            offenders.push(format!("{name}: ARCHITECTURE.md does not know it"));
        }
        if !chaos.contains(&format!("\"{name}\",")) {
            offenders.push(format!("{name}: tests/it/chaos.rs does not make it panic"));
        }
        declared.insert(name);
    }
    let listed = first_column(&read("src/actors/mod.rs"));
    offenders.extend(declared.difference(&listed).map(|name| format!("{name} is not in the table")));
    offenders.extend(listed.difference(&declared).map(|name| format!("{name} is in the table only")));
    assert_none("src/actors", offenders);
}
