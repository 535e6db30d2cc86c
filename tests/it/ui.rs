//! The user interface in a real browser: a server with labels, annotations and targets made to hurt, and `ui/tests/browser.mjs`, which
//! looks at every page. Needs node, Chromium and the packages of `ui` (`npm ci` there); says so where they are not, and fails without
//! them if `FIREKEEPER_REQUIRE_BROWSER` is set. With `FIREKEEPER_SCREENSHOTS` set it also renews `docs/screenshots`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::{FakeAlertmanager, FakeTarget, Home, Server};

/// Series of the metric for the long table.
const WIDE: usize = 10_000;

/// Text that would run if it became part of a page.
const HOSTILE: &str = "<img src=x onerror=alert(1)><script>alert(2)</script>\\\"'";

fn exposition() -> String {
    let mut text =
        String::from("# TYPE requests_total counter\n# HELP requests_total Requests <script>alert(3)</script>.\n");
    for (code, n) in [("200", 1000), ("404", 30), ("500", 2)] {
        let _ = writeln!(text, "requests_total{{code=\"{code}\",path=\"{HOSTILE}\"}} {n}");
    }
    text.push_str("# TYPE latency_seconds histogram\n");
    for (le, n) in [("0.1", 10), ("0.5", 40), ("1", 60), ("5", 64), ("+Inf", 65)] {
        let _ = writeln!(text, "latency_seconds_bucket{{le=\"{le}\"}} {n}");
    }
    text.push_str("latency_seconds_sum 31\nlatency_seconds_count 65\n");
    for n in 0..WIDE {
        let _ = writeln!(text, "wide{{n=\"{n}\",zone=\"zone-{}\"}} {n}", n % 7);
    }
    text
}

#[test]
fn every_page_in_a_real_browser() {
    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    let runs = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let missing = [
        (!runs("node")).then_some("node"),
        (!runs(&chromium)).then_some("chromium"),
        (!ui.join("node_modules/playwright-core").is_dir()).then_some("the packages of ui/ (npm ci)"),
    ];
    let missing: Vec<&str> = missing.into_iter().flatten().collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("FIREKEEPER_REQUIRE_BROWSER").is_none(), "missing: {}", missing.join(", "));
        println!("SKIPPED: missing: {}", missing.join(", "));
        return;
    }

    let target = FakeTarget::serving(&exposition());
    let broken = FakeTarget::serving("good 1\nbad{le=\"<script>alert(4)</script> 2\n");
    let alertmanager = FakeAlertmanager::start();
    let home = Home::new("ui", "");
    home.write(
        "rules.yml",
        "groups:\n- name: '<b>hurt</b>'\n  interval: 1s\n  rules:\n  - record: code:requests:rate\n    expr: sum by (code) (rate(requests_total[15s]))\n\
         \x20 - alert: Hostile\n    expr: requests_total > 1\n    labels: {team: '<script>alert(5)</script>'}\n\
         \x20   annotations: {summary: '{{ $labels.path }} <script>alert(6)</script>', runbook: 'javascript:alert(7)', link: 'https://example.com/x'}\n\
         \x20 - alert: Quiet\n    expr: up > 5\n  - alert: Waiting\n    expr: up == 1\n    for: 1h\n  - record: broken\n    expr: requests_total + on (job) requests_total\n",
    );
    home.configure(&format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n\
         scrape_configs:\n- job_name: hurt\n  static_configs:\n  - targets: ['{}']\n    labels: {{zone: '<script>alert(8)</script>'}}\n\
         \x20 relabel_configs: [{{source_labels: [__address__], target_label: host}}]\n\
         - job_name: bad\n  static_configs: [{{targets: ['{}', '127.0.0.1:1']}}]\n\
         \x20 relabel_configs: [{{source_labels: [__address__], regex: '.*:1', action: drop}}]\n",
        alertmanager.address(),
        target.address(),
        broken.address(),
    ));
    let server = Server::start(
        &home,
        &[
            "--web.external-url=http://127.0.0.1/deep/prefix",
            "--web.route-prefix=/",
            "--web.enable-admin-api",
            "--web.enable-lifecycle",
        ],
    );
    crate::support::wait_until("the alerts fire and the rates are there", || {
        let there = |expr: &str| server.get(&format!("/api/v1/query?query={}", crate::support::http::escape(expr)));
        let counted = |expr: &str| there(expr).is_ok_and(|answer| answer.text().contains("\"value\""));
        counted("ALERTS{alertstate=\"firing\"}")
            && counted("code:requests:rate")
            && counted("count_over_time(wide{n=\"1\"}[1m]) > 6")
    });
    let mut command = Command::new("node");
    command.arg(ui.join("tests/browser.mjs")).arg(format!("http://127.0.0.1:{}/", server.port));
    if std::env::var_os("FIREKEEPER_SCREENSHOTS").is_some() {
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screenshots"));
    }
    let output = command.env("CHROMIUM", &chromium).output().expect("node runs");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{wrong}");
}
