//! The data directory as its owner sees it: samples are deleted and counted, data is copied, old data goes, blocks come from outside,
//! and Prometheus' tools and servers understand all of it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::server::program;
use crate::support::{Home, Server, free_port, http, remote_write, wait_until};

const DAY_S: i64 = 86_400;

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs() as i64
}

fn push(server: &Server, name: &str, samples: &[(i64, f64)]) -> u16 {
    let body = remote_write::body(&[("__name__", name)], samples);
    let answer = http::request(server.port, "POST", "/api/v1/write", remote_write::HEADERS, &body);
    answer.expect("the server answers").status()
}

/// What the program writes as promtool; it must end well.
fn promtool(args: &[&str]) -> String {
    let args = [&["promtool", "tsdb"], args].concat();
    let out = program(&args).stdout(Stdio::piped()).output().expect("the program starts");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("its output is text")
}

/// Makes blocks of `imported{n="..."}` with one sample at each of these times, in seconds.
fn import(home: &Home, times: &[i64]) {
    let lines: Vec<String> =
        times.iter().enumerate().map(|(n, t)| format!("imported{{n=\"{n}\"}} {n} {t}\n")).collect();
    home.write("import.om", &(lines.concat() + "# EOF\n"));
    let (input, data) = (home.path("import.om").display().to_string(), home.path("data").display().to_string());
    promtool(&["create-blocks-from", "openmetrics", "--quiet", &input, &data]);
}

fn blocks(server: &Server) -> Vec<Value> {
    server.api("/api/v1/status/tsdb/blocks")["blocks"].as_array().expect("a list").clone()
}

fn is_installed(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("SKIPPED: {tool} is not installed");
    }
    found.is_ok()
}

#[test]
fn samples_are_counted_deleted_and_copied() {
    let home = Home::new("deleted", "");
    let flags = ["--web.enable-remote-write-receiver", "--web.enable-admin-api"];
    let server = Server::start(&home, &flags);
    let start = now_s() * 1000 - 60_000;
    let samples: Vec<(i64, f64)> = (0..10).map(|n| (start + n * 1000, n as f64)).collect();
    for name in ["kept", "gone"] {
        assert_eq!(push(&server, name, &samples), 204);
    }
    let delete = |query: &str| server.post(&format!("/api/v1/admin/tsdb/delete_series?match[]=gone{query}"));
    let counted = delete("&dry_run=1").json();
    assert_eq!((&counted["data"]["series"], &counted["data"]["samples"]), (&1.into(), &10.into()), "{counted}");
    assert_eq!(server.samples("gone[10m]")[0].len(), 10, "a dry run changes nothing");
    assert_eq!(delete(&format!("&end={}", (start + 4000) / 1000)).status(), 204);
    wait_until("the deletion to show", || server.samples("gone[10m]")[0].len() < 10);
    let left = server.samples("gone[10m]");
    assert_eq!(delete("").status(), 204);
    server.wait_empty("gone[10m]");
    assert!((5..=6).contains(&left[0].len()), "{left:?}");
    assert_eq!(server.post("/api/v1/admin/tsdb/clean_tombstones").status(), 204);

    let name = server.post("/api/v1/admin/tsdb/snapshot").json()["data"]["name"].as_str().expect("a name").to_owned();
    let copy = home.path("data/snapshots").join(name);
    let dump = promtool(&["dump", copy.to_str().expect("a plain name")]);
    let expected: String =
        samples.iter().map(|(t, v)| format!("{{__name__=\"kept\"}} {v} {t}\n")).collect::<Vec<_>>().concat();
    assert_eq!(dump, expected);
    server.kill();

    let server = Server::start(&home, &flags);
    assert_eq!(server.samples("kept[10m]")[0].len(), 10);
    server.wait_empty("gone[10m]");
}

#[test]
fn data_beyond_the_retention_goes() {
    let home = Home::new("retention", "");
    let now = now_s();
    import(&home, &[now - 40 * DAY_S, now - 20 * DAY_S, now - DAY_S]);
    let server = Server::start(&home, &["--storage.tsdb.retention.time=30d"]);
    wait_until("the oldest block to go", || blocks(&server).len() == 2);
    assert_eq!(server.api("/api/v1/status/runtimeinfo")["storageRetention"], "30d");
    // The configuration overrides the flag, without a restart.
    home.configure("storage:\n  tsdb:\n    retention:\n      time: 10d\n");
    server.signal(Signal::HUP);
    wait_until("the next block to go", || blocks(&server).len() == 1);
    let range = format!("start={}&end={now}", now - 50 * DAY_S);
    let series = server.api(&format!("/api/v1/series?match[]=imported&{range}"));
    assert_eq!(series.as_array().expect("a list").len(), 1, "{series}");
}

#[test]
fn old_samples_are_taken_within_the_window() {
    let home = Home::new("window", "");
    let server = Server::start(&home, &["--web.enable-remote-write-receiver"]);
    let now = now_s() * 1000;
    assert_eq!(push(&server, "late", &[(now, 1.0)]), 204);
    assert_eq!(push(&server, "late", &[(now - 60_000, 2.0)]), 400);
    home.configure("storage:\n  tsdb:\n    out_of_order_time_window: 10m\n");
    server.signal(Signal::HUP);
    wait_until("the window to open", || push(&server, "late", &[(now - 60_000, 2.0)]) == 204);
    let expected = vec![vec![(now - 60_000, "2".to_owned()), (now, "1".to_owned())]];
    assert_eq!(server.samples("late[10m]"), expected);
    server.kill();
    let server = Server::start(&home, &["--web.enable-remote-write-receiver"]);
    assert_eq!(server.samples("late[10m]"), expected);
}

#[test]
fn blocks_of_prometheus_are_read() {
    if !is_installed("promtool") {
        return;
    }
    let home = Home::new("foreign-blocks", "");
    let now = now_s();
    let text: String = (0..200).map(|n| format!("foreign_total {n} {}\n", now - 3 * 3600 - n * 60)).rev().collect();
    home.write("import.om", &format!("# TYPE foreign counter\n{text}# EOF\n"));
    let made = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"])
        .args([home.path("import.om"), home.path("data")])
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let server = Server::start(&home, &[]);
    let count = format!("count_over_time(foreign_total[10h] @ {now})");
    assert_eq!(server.value(&count), Some(200.0));
    assert!(blocks(&server).len() >= 2);
    drop(server);
    let listed =
        |tool: &mut Command| tool.arg("tsdb").arg("list").arg(home.path("data")).output().map(|out| out.stdout);
    let ours = promtool(&["list", &home.path("data").display().to_string()]);
    assert_eq!(listed(&mut Command::new("promtool")).ok().as_deref(), Some(ours.as_bytes()));
}

/// Starts Debian's Prometheus on the directory, waits until it is ready, and asks it once.
fn ask_prometheus(home: &Home, expr: &str) -> Value {
    let port = free_port();
    let mut child = Command::new("prometheus")
        .arg(format!("--config.file={}", home.path("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", home.path("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let get = |path: &str| http::request(port, "GET", path, &[], &[]);
    wait_until("Prometheus to be ready", || get("/-/ready").is_ok_and(|answer| answer.status() == 200));
    let answer = get(&format!("/api/v1/query?query={}", http::escape(expr))).expect("it answers").json();
    // Not asked politely: the directory has to be good for that, too.
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    answer["data"]["result"].clone()
}

#[test]
fn a_directory_goes_to_prometheus_and_back() {
    if !is_installed("prometheus") {
        return;
    }
    let home = Home::new("handover", "");
    let now = now_s();
    import(&home, &[now - 2 * DAY_S, now - DAY_S]);
    let flags = ["--web.enable-remote-write-receiver"];
    let server = Server::start(&home, &flags);
    let samples: Vec<(i64, f64)> = (0..300).map(|n| (now * 1000 - 300_000 + n * 1000, n as f64)).collect();
    assert_eq!(push(&server, "fresh", &samples), 204);
    server.kill();
    let expr = "sum(count_over_time({__name__=~'fresh|imported'}[3d]))";
    for round in 0..2 {
        assert_eq!(ask_prometheus(&home, expr)[0]["value"][1], "302", "round {round}");
        let server = Server::start(&home, &flags);
        assert_eq!(server.value(expr), Some(302.0), "round {round}");
        let listed = blocks(&server).len();
        assert_eq!(listed, 2, "round {round}");
        server.kill();
    }
    assert!(Path::new(&home.path("data")).join("wal").is_dir());
}

/// Flips a bit in the middle of every file of a directory.
fn damage(dir: &Path) {
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("a readable entry").path();
        let mut bytes = std::fs::read(&path).expect("a readable file");
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
            damaged += 1;
        }
        std::fs::write(&path, bytes).expect("a writable file");
    }
    assert!(damaged > 0, "{} is empty", dir.display());
}

#[test]
fn a_restart_takes_the_image_of_the_head_or_does_without() {
    let home = Home::new("image", "");
    let flags = ["--web.enable-remote-write-receiver", "--no-storage.tsdb.wal-compression"];
    // Enough for an image: a short log is read as quickly.
    let start = now_s() * 1000 - 500_000;
    let samples: Vec<(i64, f64)> = (0..40_000).map(|n| (start + n * 10, n as f64 * 0.3)).collect();
    let sum = samples.iter().map(|(_, v)| v).sum::<f64>();
    let check = |server: &Server| {
        assert_eq!(server.value("count_over_time(imaged[10m])"), Some(40_000.0));
        assert!((server.value("sum_over_time(imaged[10m])").unwrap_or(0.0) - sum).abs() < 0.01);
    };
    let mut server = Server::start(&home, &flags);
    assert_eq!(push(&server, "imaged", &samples), 204);
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());

    let server = Server::start(&home, &flags);
    assert!(server.log.has("head image: loaded"), "a clean stop leaves an image");
    check(&server);
    server.kill();

    damage(&home.path("data/head_image"));
    let server = Server::start(&home, &flags);
    assert!(server.log.has("head image: not used"), "damage costs time only");
    check(&server);
}

#[test]
fn recording_rules_are_filled_in_for_the_past() {
    let home = Home::new("rules-import", "");
    let start = now_s() / 7200 * 7200 - 2 * 7200;
    import(&home, &(0..20).map(|n| start + n * 30).collect::<Vec<_>>());
    let server = Server::start(&home, &[]);
    home.write(
        "rules.yml",
        "groups:\n  - name: g\n    interval: 1m\n    rules:\n      - record: total\n        expr: count(imported)\n        labels: {team: a}\n      - alert: A\n        expr: up == 0\n",
    );
    let (out, rules) = (home.path("out").display().to_string(), home.path("rules.yml").display().to_string());
    let flags = [
        format!("--url=http://127.0.0.1:{}", server.port),
        format!("--start={start}"),
        format!("--end={}", start + 600),
    ];
    let all = ["create-blocks-from", "rules", &flags[0], &flags[1], &flags[2], "--output-dir", &out, &rules];
    promtool(&all);
    let dump = promtool(&["dump", &out]);
    let expected =
        server.api(&format!("/api/v1/query_range?query=count(imported)&start={start}&end={}&step=1", start + 600));
    let at = |t: i64| -> Option<String> {
        let values = expected["result"][0]["values"].as_array()?;
        values.iter().find(|value| value[0].as_i64() == Some(t)).map(|value| value[1].as_str().unwrap_or("").to_owned())
    };
    assert!((9..=10).contains(&dump.lines().count()), "one sample a minute: {dump}");
    for line in dump.lines() {
        let (series, sample) = line.split_once("} ").expect("a series and a sample");
        assert_eq!(series, "{__name__=\"total\", team=\"a\"");
        let (v, t) = sample.split_once(' ').expect("a value and a time");
        // The rule's slot lies within its minute; the answer is known for whole seconds.
        let second = t.parse::<i64>().expect("a time") / 1000;
        assert_eq!(Some(v.to_owned()), at(second), "{line}");
    }
}

#[test]
fn settings_of_the_storage_that_cannot_be_are_refused() {
    let home = Home::new("refused-storage", "");
    let file = format!("--config.file={}", home.path("prometheus.yml").display());
    let check = |flag: &str, code: i32, text: &str| {
        let out = program(&[&file, flag]).output().expect("the program starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), said.contains(text)), (Some(code), true), "{flag}: {said}");
    };
    check("--storage.tsdb.wal-segment-size=1MB", 1, "must be set between 10MB and 256MB");
    check("--storage.tsdb.max-block-chunk-segment-size=1KB", 1, "must be set over 1MB");
    check("--storage.tsdb.retention.size=10", 2, "retention.size");
    home.configure("storage: {tsdb: {retention: {percentage: 101}}}\n");
    check("--log.level=info", 2, "must be in the range [0, 100]");
}
