//! From a rule to an Alertmanager, and back to quiet.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::support::http::escape;
use crate::support::{FakeAlertmanager, FakeTarget, Home, Server, wait_for, wait_until};

const RULES: &str = r#"groups:
  - name: heat
    interval: 300ms
    rules:
      - record: room:temperature:max
        expr: max by (room) (temperature)
      - alert: Hot
        expr: room:temperature:max > 50
        for: 1s
        labels: {severity: page}
        annotations:
          summary: '{{ $labels.room }} has {{ $value }} degrees'
"#;

fn home(target: &FakeTarget, alertmanager: &FakeAlertmanager, rules: &str) -> Home {
    let config = format!(
        "global:\n  scrape_interval: 300ms\n  external_labels: {{site: north}}\nrule_files: [rules.yml]\nalerting:\n  \
         alertmanagers:\n    - static_configs:\n        - targets: ['{}']\nscrape_configs:\n  - job_name: app\n    \
         static_configs:\n      - targets: ['{}']\n",
        alertmanager.address(),
        target.address()
    );
    let home = Home::new("alerts", "");
    home.write("rules.yml", rules);
    home.configure(&config);
    home
}

fn time(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a time"));
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_utc()
}

/// The alerts as the API shows them.
fn shown(server: &Server) -> Vec<Value> {
    server.api("/api/v1/alerts")["alerts"].as_array().cloned().unwrap_or_default()
}

#[test]
fn an_alert_is_pending_then_firing_then_resolved() {
    let (target, alertmanager) = (FakeTarget::serving("temperature{room=\"attic\"} 20\n"), FakeAlertmanager::start());
    let home = home(&target, &alertmanager, RULES);
    let server = Server::start(&home, &["--web.external-url=http://watch.example/prom/", "--web.route-prefix=/"]);
    server.wait_value("room:temperature:max{room='attic'}", 20.0);
    assert_eq!(shown(&server), Vec::<Value>::new());

    target.serve("temperature{room=\"attic\"} 99\n");
    let pending = wait_for("the alert", || shown(&server).pop());
    assert_eq!((&pending["state"], &pending["labels"]["alertname"]), (&json!("pending"), &json!("Hot")));
    assert!(alertmanager.posts().is_empty(), "a pending alert is nobody's business");
    let pending_series = "ALERTS{alertname='Hot',alertstate='pending'}[1m]";
    wait_until("the series of the pending alert", || !server.query(pending_series).is_empty());

    let fired = wait_for("the notification", || alertmanager.latest().remove("Hot"));
    let labels = json!({"alertname": "Hot", "room": "attic", "severity": "page", "site": "north"});
    assert_eq!(fired["labels"], labels);
    assert_eq!(fired["annotations"], json!({"summary": "attic has 99 degrees"}));
    let link = fired["generatorURL"].as_str().unwrap_or("");
    assert!(link.starts_with("http://watch.example/prom/graph?g0.expr=room%3Atemperature%3Amax"), "{link}");
    assert!(time(&fired["startsAt"]) <= Utc::now() && time(&fired["endsAt"]) > Utc::now(), "{fired}");
    let held = time(&fired["startsAt"]) - time(&pending["activeAt"]);
    assert!(held.num_milliseconds() >= 1000, "fired {held} after it became active");
    let (request, _) = alertmanager.posts().remove(0);
    assert_eq!(request.first, "POST /api/v2/alerts HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(shown(&server)[0]["state"], "firing");
    server.wait_value("ALERTS{alertname='Hot',alertstate='firing'}", 1.0);

    target.serve("temperature{room=\"attic\"} 21\n");
    let resolved = wait_for("the resolution", || {
        alertmanager.latest().remove("Hot").filter(|alert| time(&alert["endsAt"]) <= Utc::now())
    });
    assert_eq!((&resolved["labels"], &resolved["startsAt"]), (&labels, &fired["startsAt"]));
    wait_until("the API to forget it", || shown(&server).is_empty());
    server.wait_empty("ALERTS");
    let url = format!("http://{}/api/v2/alerts", alertmanager.address());
    let count =
        |metric: &str| server.own_metric(&format!("prometheus_notifications_{metric}_total{{alertmanager=\"{url}\"}}"));
    assert!(count("sent") >= Some(2.0));
    assert_eq!((count("errors"), count("dropped")), (Some(0.0), Some(0.0)));
}

#[test]
fn the_time_of_a_pending_alert_survives_a_power_cut() {
    let (target, alertmanager) = (FakeTarget::serving("temperature{room=\"attic\"} 99\n"), FakeAlertmanager::start());
    let home = home(&target, &alertmanager, &RULES.replace("for: 1s", "for: 1h"));
    let server = Server::start(&home, &[]);
    let before = wait_for("the alert", || shown(&server).pop());
    server.wait_value("count(ALERTS_FOR_STATE)", 1.0);
    server.kill();

    let server = Server::start(&home, &[]);
    let after = wait_for("the alert", || shown(&server).pop().filter(|alert| alert["state"] == "pending"));
    wait_until("the time of the alert to be as it was", || {
        let now = shown(&server).pop().unwrap_or_else(|| after.clone());
        (time(&now["activeAt"]) - time(&before["activeAt"])).num_seconds().abs() <= 1
    });
    assert!(alertmanager.posts().is_empty());
}

/// What the ledger has of the alert: states, and deliveries as `sent` or `resolved`.
fn history(server: &Server) -> Vec<String> {
    let found = server.api("/api/v1/ext/alerts/history?match[]=%7Balertname=%22Hot%22%7D");
    let entries = found["alerts"][0]["entries"].as_array().cloned().unwrap_or_default();
    let entry = |entry: &Value| match (&entry["state"], &entry["resolved"]) {
        (Value::String(state), _) => state.clone(),
        (_, resolved) if entry["error"] == "" => if resolved == true { "told resolved" } else { "told" }.to_owned(),
        _ => format!("failed {}", entry["error"]),
    };
    entries.iter().map(entry).collect()
}

#[test]
fn a_firing_alert_goes_on_after_a_crash_and_nobody_is_told_twice() {
    let (target, alertmanager) = (FakeTarget::serving("temperature{room=\"attic\"} 99\n"), FakeAlertmanager::start());
    let home = home(&target, &alertmanager, RULES);
    let server = Server::start(&home, &[]);
    let fired = wait_for("the notification", || alertmanager.latest().remove("Hot"));
    let before = wait_for("the alert", || shown(&server).pop());
    wait_until("the ledger to know", || history(&server) == ["pending", "firing", "told"]);
    server.kill();

    let server = Server::start(&home, &[]);
    let after = wait_for("the alert", || shown(&server).pop());
    assert_eq!((&after["state"], &after["activeAt"]), (&json!("firing"), &before["activeAt"]));
    let group = format!("{};heat", home.path("rules.yml").display());
    let evaluations = format!("prometheus_rule_evaluations_total{{rule_group=\"{group}\"}}");
    wait_until("some evaluations", || server.own_metric(&evaluations) >= Some(10.0));
    assert_eq!(alertmanager.posts().len(), 1, "told again although it was not due");

    target.serve("temperature{room=\"attic\"} 21\n");
    let resolved = wait_for("the resolution", || {
        alertmanager.latest().remove("Hot").filter(|alert| time(&alert["endsAt"]) <= Utc::now())
    });
    assert_eq!((&resolved["startsAt"], alertmanager.posts().len()), (&fired["startsAt"], 2));
    wait_until("the ledger to know", || history(&server) == ["pending", "firing", "told", "resolved", "told resolved"]);

    // The same group over what is stored gives the same states.
    let now = Utc::now().timestamp_millis() as f64 / 1000.0;
    let start = time(&before["activeAt"]).timestamp() - 2;
    let path = format!(
        "/api/v1/ext/rules/backtest?rules={}&file={}&start={start}&end={now}",
        escape(RULES),
        escape(&home.path("rules.yml").display().to_string())
    );
    let answer = server.post(&path).json();
    let events = answer["data"]["alerts"][0]["events"].as_array().cloned().unwrap_or_default();
    let states: Vec<&str> = events.iter().filter_map(|event| event["state"].as_str()).collect();
    assert_eq!(states, ["pending", "firing", "resolved"], "{answer}");
}

#[test]
fn each_entry_delivers_by_its_own_rules_and_a_dead_alertmanager_delays_nobody() {
    let (target, alertmanager) = (FakeTarget::serving("temperature{room=\"attic\"} 99\n"), FakeAlertmanager::start());
    let home = home(&target, &alertmanager, RULES);
    // Nobody listens on port 1.
    let am = alertmanager.address();
    let entries = format!(
        "alertmanagers:\n    - static_configs: [{{targets: ['127.0.0.1:1', '{am}']}}]\n    - static_configs: [{{targets: ['{am}']}}]\n      \
         alert_relabel_configs: [{{target_label: team, replacement: roof}}]\n"
    );
    home.configure(&format!(
        "global: {{scrape_interval: 300ms}}\nrule_files: [rules.yml]\nalerting:\n  {entries}\
         scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n",
        target.address()
    ));
    let server = Server::start(&home, &[]);
    let teams = || {
        let posts = alertmanager.posts();
        let alerts = posts.iter().flat_map(|(_, body)| body.as_array().cloned().unwrap_or_default());
        alerts.map(|alert| alert["labels"]["team"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    wait_until("both entries to deliver", || ["", "roof"].iter().all(|team| teams().iter().any(|t| t == team)));
    let active = server.api("/api/v1/alertmanagers")["activeAlertmanagers"].clone();
    let url = |address: &str| format!("http://{address}/api/v2/alerts");
    assert_eq!(active, json!([{"url": url("127.0.0.1:1")}, {"url": url(&am)}, {"url": url(&am)}]));
    let count = |metric: &str, address: &str| {
        server.own_metric(&format!("prometheus_notifications_{metric}_total{{alertmanager=\"{}\"}}", url(address)))
    };
    wait_until("the dead one to be counted", || count("errors", "127.0.0.1:1") >= Some(1.0));
    assert_eq!((count("sent", "127.0.0.1:1"), count("errors", &am)), (Some(0.0), Some(0.0)));
    assert!(count("sent", &am) >= Some(2.0));
}
