//! With real neighbours: a node_exporter and an Alertmanager.
//!
//! Skipped, loudly, where they are not installed; a failure there if `FIREKEEPER_REQUIRE_REAL` is set, as it is in CI.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Home, Server, free_port, http, wait_for, wait_until};

/// A program of somebody else; killed when dropped.
struct Neighbour(Child);

impl Neighbour {
    fn start(program: &PathBuf, args: &[String]) -> Neighbour {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Neighbour(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Finds a program under one of its names.
fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let candidates = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file())
}

/// Both programs, or `None` if this test has to be skipped.
fn neighbours() -> Option<(PathBuf, PathBuf)> {
    let exporter = find(&["prometheus-node-exporter", "node_exporter"]);
    let alertmanager = find(&["prometheus-alertmanager", "alertmanager"]);
    if let (Some(exporter), Some(alertmanager)) = (exporter, alertmanager) {
        return Some((exporter, alertmanager));
    }
    assert!(
        std::env::var_os("FIREKEEPER_REQUIRE_REAL").is_none(),
        "FIREKEEPER_REQUIRE_REAL is set, and node_exporter or Alertmanager is not installed"
    );
    eprintln!("SKIPPED: node_exporter or Alertmanager is not installed");
    None
}

/// The names of the alerts that an Alertmanager holds as active.
fn active_alerts(port: u16) -> Option<Vec<String>> {
    let answer = http::request(port, "GET", "/api/v2/alerts", &[], &[]).ok().filter(|answer| answer.status() == 200)?;
    let alerts = answer.json();
    let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap_or("").to_owned();
    Some(alerts.as_array()?.iter().map(name).collect())
}

#[test]
fn a_machine_is_watched_and_its_loss_is_told() {
    let Some((exporter, alertmanager)) = neighbours() else { return };
    let (node_port, alerts_port) = (free_port(), free_port());
    let config = format!(
        "global:\n  scrape_interval: 1s\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n    - static_configs:\n        \
         - targets: ['127.0.0.1:{alerts_port}']\nscrape_configs:\n  - job_name: node\n    static_configs:\n      \
         - targets: ['127.0.0.1:{node_port}']\n"
    );
    let home = Home::new("real", "");
    home.configure(&config);
    home.write(
        "rules.yml",
        "groups:\n  - name: g\n    interval: 500ms\n    rules:\n      - alert: NodeDown\n        expr: up{job='node'} == 0\n        \
         for: 1s\n",
    );
    home.write("alertmanager.yml", "route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n");

    let _alertmanager = Neighbour::start(
        &alertmanager,
        &[
            format!("--config.file={}", home.path("alertmanager.yml").display()),
            format!("--storage.path={}", home.path("alertmanager").display()),
            format!("--web.listen-address=127.0.0.1:{alerts_port}"),
            "--cluster.listen-address=".to_owned(),
        ],
    );
    let start_exporter = || Neighbour::start(&exporter, &[format!("--web.listen-address=127.0.0.1:{node_port}")]);
    let node = start_exporter();
    wait_for("the Alertmanager", || active_alerts(alerts_port));
    let server = Server::start(&home, &[]);

    // Everything that a node_exporter says is understood.
    server.wait_value("up{job='node'}", 1.0);
    assert!(server.value("count(node_cpu_seconds_total)").is_some_and(|series| series >= 8.0));
    assert!(server.value("node_memory_MemTotal_bytes").is_some_and(|bytes| bytes > 1e6));
    assert_eq!(server.value("scrape_samples_scraped"), server.value("scrape_samples_post_metric_relabeling"));
    let unaccounted = "count({job='node', __name__!~'up|scrape_.*'}) - on() scrape_samples_scraped";
    server.wait_value(unaccounted, 0.0);
    wait_until("a rate", || {
        server.value("sum(rate(node_cpu_seconds_total[1m]))").is_some_and(|cpus| cpus > 0.0 && cpus < 1000.0)
    });
    assert_eq!(active_alerts(alerts_port), Some(Vec::new()));

    // The machine goes, the Alertmanager hears of it; it comes back, the alert is resolved long before it would expire.
    drop(node);
    wait_until("the alert", || active_alerts(alerts_port) == Some(vec!["NodeDown".to_owned()]));
    let _node = start_exporter();
    wait_until("the end of the alert", || active_alerts(alerts_port) == Some(Vec::new()));
    assert_eq!(server.value("up{job='node'}"), Some(1.0));
}
