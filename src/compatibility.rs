//! The table of what works (`docs/compatibility.md`), made of what the program itself decides by: the catalogue of flags, the
//! tables of configuration sections, the table of routes, and the commands of promtool. A test compares it with the file.

use std::fmt::Write as _;

use crate::{cli, promtool};

const HEAD: &str = "# Compatibility

What of Prometheus 3.14 works in Firekeeper. Made from the code by a test (`cargo test --lib compatibility`), which fails if this
file says anything else; with `UPDATE_GOLDEN=1` it writes the file.

- **works**: does what it does in Prometheus.
- **refused**: known and checked; a server that is told to use it does not start, and says so by name. `promtool check config` gives
  Prometheus' verdict on it.
- **no effect**: accepted, noted in the log, and nothing goes wrong without it.
";

fn text() -> String {
    let mut out = HEAD.to_owned();
    section(
        &mut out,
        "Flags",
        "Flag | Default | State",
        cli::FLAGS.iter().map(|flag| {
            let default = if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
            format!("`--{}` | {default} | {}", flag.name, cli::state_of_flag(flag.name))
        }),
    );
    let features = cli::features().into_iter().map(|(name, state)| format!("`{name}` | {state}"));
    section(&mut out, "Features (`--enable-feature`)", "Feature | State", features);
    let keys = fk_config::keys().into_iter().map(|(key, state)| {
        let state = match state {
            fk_config::KeyState::Works => "works",
            fk_config::KeyState::RefusedByServer => "refused",
            fk_config::KeyState::NoEffect => "no effect",
        };
        format!("`{key}` | {state}")
    });
    section(&mut out, "Configuration keys", "Key | State", keys);
    out.push_str(
        "\n`<http_client>`, `<tls_config>` and `<relabel_config>` stand for the keys listed once below those names, `<sd_configs>` \
         for all lists of discovery sections.\n",
    );
    let mut routes: Vec<String> =
        fk_web::routes().map(|(path, methods)| format!("`{path}` | {}", methods.join(", "))).collect();
    routes.sort();
    section(&mut out, "Routes", "Path | Methods", routes.into_iter());
    section(
        &mut out,
        "promtool",
        "Command | Flags",
        promtool::commands().into_iter().map(|(command, flags)| {
            format!("`{command}` | {}", flags.iter().map(|flag| format!("`--{flag}`")).collect::<Vec<_>>().join(", "))
        }),
    );
    let missing = promtool::missing();
    if !missing.is_empty() {
        let _ = writeln!(out, "\nRefused by name: {}.", missing.join(", "));
    }
    out
}

fn section(out: &mut String, title: &str, header: &str, rows: impl Iterator<Item = String>) {
    let columns = header.split(" | ").count();
    let _ = writeln!(out, "\n## {title}\n\n| {header} |\n|{}", "---|".repeat(columns));
    for row in rows {
        let _ = writeln!(out, "| {row} |");
    }
}

#[test]
fn the_table_says_what_the_code_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
    let wanted = text();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &wanted).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    for (at, (found, wanted)) in found.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(found, wanted, "line {} of docs/compatibility.md; UPDATE_GOLDEN=1 rewrites it", at + 1);
    }
    assert_eq!(found.len(), wanted.len(), "docs/compatibility.md; UPDATE_GOLDEN=1 rewrites it");
}
