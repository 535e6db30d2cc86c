//! From a target to a query: what is scraped, what is said about it, and how it ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{FakeTarget, Home, Server, assert_even_pace, wait_until};

/// How often targets are scraped here.
const INTERVAL: Duration = Duration::from_millis(500);

/// A configuration with one job and further settings of it.
fn job(target: &str, more: &str) -> String {
    format!(
        "global:\n  scrape_interval: 500ms\n  scrape_timeout: 400ms\nscrape_configs:\n  - job_name: app\n    static_configs:\n      \
         - targets: ['{target}']\n        labels: {{zone: a}}\n{more}"
    )
}

#[test]
fn a_target_is_scraped_and_described() {
    let text = "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total{kind=\"mail\"} 7\njobs_total{kind=\"print\"} 2\n\
                # TYPE load gauge\nload 0.5\n";
    let target = FakeTarget::serving(text);
    let home = Home::new("scrape", &job(&target.address(), ""));
    let server = Server::start(&home, &[]);

    server.wait_value("sum(jobs_total)", 9.0);
    let result = server.query("jobs_total{kind='mail'}");
    let labels =
        json!({"__name__": "jobs_total", "job": "app", "instance": target.address(), "zone": "a", "kind": "mail"});
    assert_eq!(result[0]["metric"], labels);

    // What the server says about a scrape.
    server.wait_value("up", 1.0);
    assert_eq!(server.value("scrape_samples_scraped"), Some(3.0));
    assert_eq!(server.value("scrape_samples_post_metric_relabeling"), Some(3.0));
    assert!(server.value("scrape_duration_seconds").is_some_and(|seconds| seconds > 0.0 && seconds < 0.4));
    server.wait_value("scrape_series_added", 0.0);

    let targets = server.api("/api/v1/targets");
    let shown = &targets["activeTargets"][0];
    assert_eq!(
        (&shown["health"], &shown["lastError"], &shown["scrapePool"]),
        (&json!("up"), &json!(""), &json!("app"))
    );
    let metadata = server.api("/api/v1/metadata?metric=jobs_total");
    assert_eq!(metadata["jobs_total"][0], json!({"type": "counter", "help": "Jobs done.", "unit": ""}));

    // A new value is seen, and scrapes come at an even pace.
    target.serve(&text.replace("mail\"} 7", "mail\"} 8"));
    server.wait_value("sum(jobs_total)", 10.0);
    wait_until("some more scrapes", || target.scrapes().len() >= 8);
    assert_even_pace("the target", &target.scrapes(), INTERVAL);
}

#[test]
fn a_target_is_scraped_on_demand_without_a_trace() {
    let target = FakeTarget::serving("kept 1\nnoise_a 1\nnoise_b 1\n");
    let more = "    scrape_interval: 1h\n    scrape_timeout: 1s\n    metric_relabel_configs:\n      - {source_labels: \
                [__name__], regex: 'noise.*', action: drop}\n";
    let home = Home::new("on-demand", &job(&target.address(), more));
    let server = Server::start(&home, &["--web.enable-lifecycle"]);
    let shown = server.api("/api/v1/ext/targets/scrapes?scrapePool=app");
    let id = shown["targets"][0]["id"].as_str().expect("an id").to_owned();
    let one = server.api(&format!("/api/v1/ext/targets/{id}/scrapes"));
    assert_eq!(one["scrapeUrl"], format!("http://{}/metrics", target.address()));

    let try_scrape =
        || -> serde_json::Value { server.post(&format!("/api/v1/ext/targets/{id}/scrape")).json()["data"].take() };
    let good = try_scrape();
    let scrape = &good["scrape"];
    assert_eq!(
        (&scrape["error"], &scrape["samplesScraped"], &scrape["seriesAdded"]),
        (&json!(""), &json!(3), &json!(1))
    );
    assert_eq!(scrape["dropped"], json!([{"rule": 0, "series": 2}]));
    assert_eq!(good["body"]["text"], "kept 1\nnoise_a 1\nnoise_b 1\n");
    for stage in ["connectSeconds", "firstByteSeconds", "bodySeconds", "parseSeconds"] {
        assert!(
            scrape["stages"][stage].as_f64().is_some_and(|seconds| (0.0..1.0).contains(&seconds)),
            "{stage}: {scrape}"
        );
    }
    target.serve("kept 1\nbroken{ 1\n");
    let bad = try_scrape();
    assert!(bad["scrape"]["error"].as_str().is_some_and(|error| !error.is_empty()));
    assert_eq!((&bad["body"]["line"], &bad["scrape"]["samplesScraped"]), (&json!(2), &json!(1)));
    // Nothing of it was stored or remembered.
    assert!(server.query("{job='app'}").is_empty());
    assert_eq!(server.api(&format!("/api/v1/ext/targets/{id}/scrapes"))["scrapes"], json!([]));
}

#[test]
fn a_series_that_vanishes_is_stale_at_once() {
    let target = FakeTarget::serving("stays 1\ngoes 1\n");
    let home = Home::new("stale-series", &job(&target.address(), ""));
    let server = Server::start(&home, &[]);
    server.wait_value("goes", 1.0);
    target.serve("stays 2\n");
    server.wait_value("stays", 2.0);
    // The marker was written by the scrape that no longer had the series.
    assert_eq!(server.query("goes"), Vec::<serde_json::Value>::new());
    assert!(!server.query("goes[1m]").is_empty(), "its past remains");
}

#[test]
fn a_target_that_goes_down_is_down_at_once() {
    let target = FakeTarget::serving("x 1\n");
    let home = Home::new("down", &job(&target.address(), ""));
    let server = Server::start(&home, &[]);
    server.wait_value("x", 1.0);
    drop(target);
    server.wait_value("up", 0.0);
    assert_eq!(server.value("x"), None);
    let targets = server.api("/api/v1/targets");
    let shown = &targets["activeTargets"][0];
    assert_eq!(shown["health"], "down");
    assert!(shown["lastError"].as_str().is_some_and(|error| error.contains("connection refused")), "{shown}");
}

#[test]
fn a_target_that_is_too_slow_is_down() {
    let target = FakeTarget::serving("x 1\n");
    target.answer_after(Duration::from_secs(2));
    let home = Home::new("slow", &job(&target.address(), ""));
    let server = Server::start(&home, &[]);
    server.wait_value("up", 0.0);
    let targets = server.api("/api/v1/targets");
    let error = targets["activeTargets"][0]["lastError"].as_str().unwrap_or("").to_owned();
    assert!(error.contains("context deadline exceeded"), "{error}");
}

#[test]
fn targets_come_and_go_with_their_file() {
    let (first, second) = (FakeTarget::serving("x 1\n"), FakeTarget::serving("x 2\n"));
    let listing = |targets: &[&FakeTarget]| {
        let addresses: Vec<String> = targets.iter().map(|target| target.address()).collect();
        json!([{"targets": addresses, "labels": {"zone": "b"}}]).to_string()
    };
    let home = Home::new(
        "file-sd",
        "global:\n  scrape_interval: 500ms\nscrape_configs:\n  - job_name: app\n    file_sd_configs:\n      - files: [targets.json]\n",
    );
    home.write("targets.json", &listing(&[&first]));
    let server = Server::start(&home, &[]);
    server.wait_value("sum(x{zone='b'})", 1.0);

    let began = Instant::now();
    home.write("targets.json", &listing(&[&first, &second]));
    server.wait_value("sum(x)", 3.0);
    assert!(began.elapsed() < Duration::from_secs(10), "a new target took {:?}", began.elapsed());

    // A target that is listed no longer is stale with all that was said about it.
    home.write("targets.json", &listing(&[&second]));
    server.wait_value("count(up)", 1.0);
    server.wait_value("sum(x)", 2.0);
    let scrapes = first.scrapes().len();
    wait_until("two more scrapes of the other", || {
        second.scrapes().iter().filter(|at| at.elapsed() < INTERVAL * 3).count() >= 2
    });
    assert_eq!(first.scrapes().len(), scrapes, "scraped although it is not listed");

    // A broken file changes nothing.
    home.write("targets.json", "[{");
    wait_until("a complaint", || server.log.has("reading targets failed"));
    assert_eq!(server.value("sum(x)"), Some(2.0));
    assert_even_pace("the second target", &second.scrapes(), INTERVAL);
}

#[test]
fn labels_of_the_target_give_way_unless_they_are_honoured() {
    let target = FakeTarget::serving("x{job=\"own\",zone=\"own\"} 1\n");
    let home = Home::new("labels", &job(&target.address(), ""));
    let server = Server::start(&home, &[]);
    server.wait_value("x{job='app',exported_job='own',zone='a',exported_zone='own'}", 1.0);
    drop(server);

    let home = Home::new("labels", &job(&target.address(), "    honor_labels: true\n"));
    let server = Server::start(&home, &[]);
    server.wait_value("x{job='own',exported_job='',zone='own',exported_zone=''}", 1.0);
    assert_eq!(server.value("up{job='app'}"), Some(1.0));
}

#[test]
fn a_scrape_beyond_a_limit_fails_as_a_whole() {
    let target = FakeTarget::serving("x 1\ny 1\n");
    let home = Home::new("limit", &job(&target.address(), "    sample_limit: 2\n"));
    let server = Server::start(&home, &[]);
    server.wait_value("x + y", 2.0);
    target.serve("x 2\ny 2\nz 2\n");
    server.wait_value("up", 0.0);
    assert_eq!(server.value("scrape_samples_scraped"), Some(3.0));
    assert!(server.query("z[1m]").is_empty());
    let kept = server.samples("{__name__=~'x|y'}[1m]");
    assert!(kept.iter().flatten().all(|(_, value)| value == "1"), "nothing of such a scrape is kept: {kept:?}");
    let targets = server.api("/api/v1/targets");
    assert_eq!(targets["activeTargets"][0]["lastError"], "sample limit exceeded");
    target.serve("x 3\n");
    server.wait_value("x", 3.0);
}
