//! Reloads: the whole of a configuration or nothing of it, and no ripple in what has not changed.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{FakeTarget, Home, Server, assert_even_pace, wait_until};

const LIFECYCLE: &[&str] = &["--web.enable-lifecycle"];

/// How often targets are scraped here.
const INTERVAL: Duration = Duration::from_millis(500);

/// A configuration with a job for each target, and rules from `rules.yml`.
fn jobs(jobs: &[(&str, &FakeTarget)]) -> String {
    let mut config = "global:\n  scrape_interval: 500ms\nrule_files: [rules.yml]\nscrape_configs:\n".to_owned();
    for (name, target) in jobs {
        config += &format!("  - job_name: {name}\n    static_configs:\n      - targets: ['{}']\n", target.address());
    }
    config
}

fn rules(record: &str) -> String {
    format!(
        "groups:\n  - name: g\n    interval: 200ms\n    rules:\n      - record: {record}\n        expr: count(up)\n"
    )
}

fn pools(server: &Server) -> serde_json::Value {
    server.api("/api/v1/scrape_pools")["scrapePools"].take()
}

#[test]
fn a_good_configuration_is_taken_by_request_and_by_signal() {
    let (a, b, c) = (FakeTarget::serving("x 1\n"), FakeTarget::serving("x 2\n"), FakeTarget::serving("x 4\n"));
    let home = Home::new("reload", &jobs(&[("a", &a)]));
    home.write("rules.yml", &rules("before"));
    let server = Server::start(&home, LIFECYCLE);
    server.wait_value("sum(x)", 1.0);
    server.wait_value("before", 1.0);

    home.configure(&jobs(&[("a", &a), ("b", &b)]));
    home.write("rules.yml", &rules("after"));
    let answer = server.post("/-/reload");
    assert_eq!((answer.status(), answer.text().as_str()), (200, ""));
    // In force as soon as the request is answered.
    assert_eq!(pools(&server), json!(["a", "b"]));
    assert!(server.api("/api/v1/status/config")["yaml"].as_str().is_some_and(|yaml| yaml.contains("job_name: b")));
    server.wait_value("sum(x)", 3.0);
    server.wait_value("after", 2.0);
    server.wait_empty("before");

    home.configure(&jobs(&[("c", &c)]));
    server.signal(Signal::HUP);
    server.wait_value("x{job='c'}", 4.0);
    assert_eq!(pools(&server), json!(["c"]));
    let scrapes = [a.scrapes().len(), b.scrapes().len()];
    let more = c.scrapes().len() + 2;
    wait_until("two more scrapes", || c.scrapes().len() >= more);
    assert_eq!([a.scrapes().len(), b.scrapes().len()], scrapes, "scraped although the jobs are gone");
    assert_eq!(server.own_metric("prometheus_config_last_reload_successful"), Some(1.0));
}

#[test]
fn changed_files_are_taken_without_being_asked_if_a_flag_says_so() {
    let target = FakeTarget::serving("x 1\n");
    let home = Home::new("automatic", &jobs(&[("a", &target)]));
    home.write("rules.yml", &rules("before"));
    let server = Server::start(&home, &["--config.auto-reload", "--config.auto-reload-interval=1s"]);
    server.wait_value("before", 1.0);
    home.write("rules.yml", &rules("after"));
    server.wait_value("after", 1.0);
    home.configure("scrape_configs: [");
    wait_until("a complaint", || server.log.has("Error reloading config"));
    assert_eq!(pools(&server), json!(["a"]));
    home.configure(&jobs(&[("a", &target), ("b", &target)]));
    wait_until("the new job", || pools(&server) == json!(["a", "b"]));
}

#[test]
fn a_bad_part_refuses_the_whole() {
    let (a, b) = (FakeTarget::serving("x 1\n"), FakeTarget::serving("x 2\n"));
    let home = Home::new("refused", &jobs(&[("a", &a)]));
    home.write("rules.yml", &rules("kept"));
    let server = Server::start(&home, LIFECYCLE);
    server.wait_value("kept", 1.0);

    home.configure(&jobs(&[("a", &a), ("b", &b)]));
    home.write("rules.yml", &rules("broken").replace("count(up)", "count(up"));
    let answer = server.post("/-/reload");
    assert_eq!(answer.status(), 500);
    let text = answer.text();
    assert!(text.starts_with("failed to reload config: ") && text.contains("rules.yml: 6:15:"), "{text}");

    assert_eq!(pools(&server), json!(["a"]), "the job came although the rules did not");
    assert_eq!(server.own_metric("prometheus_config_last_reload_successful"), Some(0.0));
    let groups = server.api("/api/v1/rules");
    assert_eq!(groups["groups"][0]["rules"][0]["name"], "kept");
    let more = a.scrapes().len() + 2;
    wait_until("two more scrapes", || a.scrapes().len() >= more);
    assert!(b.scrapes().is_empty());
    assert_eq!(server.value("kept"), Some(1.0));
    assert_even_pace("the old target", &a.scrapes(), INTERVAL);

    // The same by signal: only the log tells.
    server.signal(Signal::HUP);
    wait_until("a complaint", || {
        server.log.lines().iter().filter(|line| line.contains("Error reloading config")).count() == 2
    });
    assert_eq!(pools(&server), json!(["a"]));

    home.write("rules.yml", &rules("repaired"));
    assert_eq!(server.post("/-/reload").status(), 200);
    server.wait_value("repaired", 2.0);
    assert_eq!(server.own_metric("prometheus_config_last_reload_successful"), Some(1.0));
}

#[test]
fn jobs_that_do_not_change_do_not_notice() {
    let (stays, comes) = (FakeTarget::serving("x 1\n"), FakeTarget::serving("y 1\n"));
    let home = Home::new("undisturbed", &jobs(&[("stays", &stays)]));
    home.write("rules.yml", &rules("r"));
    let server = Server::start(&home, LIFECYCLE);
    server.wait_value("x", 1.0);
    for round in 0..8 {
        let both = [("stays", &stays), ("comes", &comes)];
        home.configure(&jobs(if round % 2 == 0 { &both } else { &both[..1] }));
        assert_eq!(server.post("/-/reload").status(), 200);
        let more = stays.scrapes().len() + 1;
        wait_until("the next scrape", || stays.scrapes().len() >= more);
    }
    assert_even_pace("the job that stays", &stays.scrapes(), INTERVAL);
    // It is still the same loop: a new one would have begun to count anew.
    let scrapes = stays.scrapes().len() as u64 - 1;
    let loops = server.actors("scrape_loop");
    let address = stays.address();
    let mut loops = loops.iter().filter(|one| one["name"].as_str().is_some_and(|name| name.contains(&address)));
    let handled = loops.next().and_then(|one| one["handled"].as_u64());
    assert!(handled >= Some(scrapes) && loops.next().is_none(), "{handled:?} messages in {scrapes} scrapes");
    // As seen by queries: every slot has its sample, none is a staleness marker.
    let samples = server.samples("x[5m]").remove(0);
    let gaps: Vec<i64> = samples.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (400..=600).contains(gap)), "{gaps:?}");
}

#[test]
fn reload_and_quit_need_a_flag() {
    let home = Home::new("lifecycle", "");
    let mut server = Server::start(&home, &[]);
    for path in ["/-/reload", "/-/quit"] {
        let answer = server.post(path);
        assert_eq!((answer.status(), answer.text().as_str()), (403, "Lifecycle API is not enabled."), "{path}");
    }
    assert!(server.is_running());
}
