//! Any actor may panic: it is back within a second, queries are answered throughout, and no scrape is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::http::{self, escape};
use crate::support::{FakeAlertmanager, FakeTarget, Home, Server, assert_even_pace, wait_for, wait_until};

/// Every kind of actor.
const KINDS: &[&str] = &[
    "alertmanager_sender",
    "config_reloader",
    "discoverer",
    "discovery_manager",
    "ledger_keeper",
    "lifecycle",
    "notifier",
    "query_gate",
    "remote_storage",
    "rule_group",
    "rule_manager",
    "scrape_loop",
    "scrape_manager",
    "scrape_pool",
    "signals",
    "storage_keeper",
    "web_server",
];

/// How soon an actor has to be back.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// How often targets are scraped here.
const INTERVAL: Duration = Duration::from_secs(1);

const FLAGS: &[&str] = &["--web.enable-lifecycle", "--rules.alert.resend-delay=500ms"];

/// Targets, an Alertmanager, and a server between them that has something to do for every kind of actor.
struct Scene {
    targets: Vec<FakeTarget>,
    alertmanager: FakeAlertmanager,
    home: Home,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let targets: Vec<FakeTarget> = (0..3).map(|n| FakeTarget::serving(&format!("x {n}\n"))).collect();
        let scene = Scene { targets, alertmanager: FakeAlertmanager::start(), home: Home::new(name, "") };
        let listed: Vec<String> = scene.targets[1..].iter().map(FakeTarget::address).collect();
        scene.home.write("targets.json", &json!([{"targets": listed}]).to_string());
        let rules =
            "groups:\n  - name: g\n    interval: 500ms\n    rules:\n      - alert: Always\n        expr: vector(1)\n";
        scene.home.write("rules.yml", rules);
        scene.home.configure(&scene.config());
        scene
    }

    fn config(&self) -> String {
        format!(
            "global:\n  scrape_interval: 1s\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n    - static_configs:\n        \
             - targets: ['{}']\nscrape_configs:\n  - job_name: fixed\n    static_configs:\n      - targets: ['{}']\n  - job_name: \
             listed\n    file_sd_configs:\n      - files: [targets.json]\n",
            self.alertmanager.address(),
            self.targets[0].address()
        )
    }

    /// Waits until each target was scraped twice more, and the Alertmanager has heard twice more.
    fn wait_for_work(&self) {
        let counts = || -> Vec<usize> {
            let scrapes = self.targets.iter().map(|target| target.scrapes().len());
            scrapes.chain([self.alertmanager.posts().len()]).collect()
        };
        let before = counts();
        wait_until("scrapes and notifications", || {
            counts().iter().zip(&before).all(|(now, before)| *now >= before + 2)
        });
    }
}

/// All actors of a kind: name, state, restarts.
fn actors(server: &Server, kind: &str) -> BTreeMap<String, (String, u64)> {
    let entry = |actor: serde_json::Value| {
        let text = |key: &str| actor[key].as_str().unwrap_or("").to_owned();
        (text("name"), (text("state"), actor["restarts"].as_u64().unwrap_or(0)))
    };
    server.actors(kind).into_iter().map(entry).collect()
}

/// Makes all actors of a kind panic, or the one with this name, and waits until they are back.
fn strike(server: &Server, kind: &str, name: Option<&str>) {
    let mut expected = actors(server, kind);
    assert!(!expected.is_empty(), "there is no {kind}");
    for (actor, (_, restarts)) in &mut expected {
        *restarts += u64::from(name.is_none_or(|name| name == actor));
    }
    let path = format!("/api/v1/ext/chaos/{kind}");
    let path = name.map_or_else(|| path.clone(), |name| format!("{path}?name={}", escape(name)));
    let struck = Instant::now();
    assert_eq!(server.post(&path).status(), 200, "{path}");
    wait_until(&format!("{kind} to be back"), || {
        actors(server, kind).iter().all(|(name, (state, restarts))| {
            state == "running" && expected.get(name).is_none_or(|(_, expected)| restarts >= expected)
        })
    });
    let took = struck.elapsed();
    assert!(took < BACK_WITHIN, "{kind} was back after {took:?}");
    assert_eq!(actors(server, kind), expected, "{kind}: others fell, or some fell again");
}

/// Asks one query after another, and remembers every answer that is not the right one.
struct Questions {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Questions {
    fn start(port: u16) -> Questions {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, counter) = (Arc::clone(&stop), Arc::clone(&asked));
        let path = format!("/api/v1/query?query={}", escape("count(up == 1)"));
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopping.load(SeqCst) {
                let at = chrono::Utc::now();
                match http::request(port, "GET", &path, &[], &[]) {
                    Ok(answer)
                        if answer.status() == 200 && answer.json()["data"]["result"][0]["value"][1] == json!("3") => {}
                    Ok(answer) => failures.push(format!("{at}: {} {}", answer.first, answer.text())),
                    Err(error) => failures.push(format!("{at}: {error}")),
                }
                counter.fetch_add(1, SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
            failures
        });
        Questions { stop, asked, thread }
    }

    fn check(self) {
        self.stop.store(true, SeqCst);
        let failures = self.thread.join().expect("the questions go on");
        let asked = self.asked.load(SeqCst);
        assert!(failures.is_empty(), "{} of {asked} queries failed:\n{}", failures.len(), failures.join("\n"));
        assert!(asked > 100, "only {asked} queries were asked");
    }
}

/// Checks what is stored about a target: a sample for each slot, but for as many as may be lost.
fn assert_every_slot_has_its_sample(server: &Server, target: &FakeTarget, losses: usize) {
    let samples = server.samples(&format!("up{{instance='{}'}}[5m]", target.address())).remove(0);
    assert!(samples.iter().all(|(_, value)| value == "1"), "{samples:?}");
    let slots: Vec<i64> = samples.windows(2).map(|pair| (pair[1].0 - pair[0].0 + 500).div_euclid(1000)).collect();
    let lost: i64 = slots.iter().map(|slots| slots - 1).sum();
    assert!(slots.iter().all(|slots| *slots >= 1) && lost <= losses as i64, "{lost} lost: {slots:?}");
}

#[test]
fn a_panic_in_any_actor_goes_unnoticed_outside() {
    let scene = Scene::new("chaos");
    let mut server = Server::start(&scene.home, FLAGS);
    server.wait_value("count(up == 1)", 3.0);
    scene.wait_for_work();
    let questions = Questions::start(server.port);

    for kind in KINDS {
        strike(&server, kind, None);
        let restarts = format!("firekeeper_actor_restarts_total{{actor=\"{kind}\"}}");
        assert!(server.own_metric(&restarts).is_some_and(|count| count >= 1.0), "{restarts} is missing");
        scene.wait_for_work();
    }
    questions.check();
    for target in &scene.targets {
        let who = format!("target {}", target.address());
        assert_even_pace(&who, &target.scrapes(), INTERVAL);
        // The panic of the scrape loops may have hit a scrape under way.
        assert_every_slot_has_its_sample(&server, target, 1);
    }

    // The server that has lost all its actors once is as good as new.
    let fresh = FakeTarget::serving("x 9\n");
    let more = format!("  - job_name: fresh\n    static_configs:\n      - targets: ['{}']\n", fresh.address());
    scene.home.configure(&(scene.config() + &more));
    assert_eq!(server.post("/-/reload").status(), 200);
    server.wait_value("count(up == 1)", 4.0);
    scene.home.write("targets.json", "[]");
    server.wait_value("count(up == 1)", 2.0);
    scene.home.configure(&scene.config());
    server.signal(Signal::HUP);
    let pools = || server.api("/api/v1/scrape_pools")["scrapePools"].take();
    wait_until("the job to go", || pools() == json!(["fixed", "listed"]));
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status().code(), Some(0));
}

#[test]
fn the_panic_of_one_scrape_loop_is_its_own() {
    let scene = Scene::new("one-loop");
    let server = Server::start(&scene.home, FLAGS);
    server.wait_value("count(up == 1)", 3.0);
    let victim = &scene.targets[0].address();
    let loops = actors(&server, "scrape_loop");
    let name = loops.keys().find(|name| name.contains(victim)).unwrap_or_else(|| panic!("{victim} in {loops:?}"));
    for _ in 0..2 {
        strike(&server, "scrape_loop", Some(name));
        scene.wait_for_work();
    }
    for (idx, target) in scene.targets.iter().enumerate() {
        assert_even_pace(&target.address(), &target.scrapes(), INTERVAL);
        assert_every_slot_has_its_sample(&server, target, if idx == 0 { 2 } else { 0 });
    }
}

/// A panic in the middle of a reload may make it fail, but never leaves half of it: the next one puts all in force.
#[test]
fn reloads_survive_the_panic_of_any_participant() {
    let scene = Scene::new("reloads");
    let server = Server::start(&scene.home, FLAGS);
    let server = &server;
    let rule =
        |record: &str| format!("groups:\n  - name: g\n    rules:\n      - record: {record}\n        expr: vector(1)\n");
    for (round, kind) in
        ["config_reloader", "discovery_manager", "notifier", "rule_manager", "scrape_manager"].iter().enumerate()
    {
        let (job, record) = (format!("job{round}"), format!("record{round}"));
        scene.home.write("rules.yml", &rule(&record));
        scene.home.configure(&(scene.config() + &format!("  - job_name: {job}\n")));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(server.post(&format!("/api/v1/ext/chaos/{kind}")).status(), 200));
            wait_until("a reload", || server.post("/-/reload").status() == 200);
        });
        wait_until(&format!("the configuration of {job} in force in spite of {kind}"), || {
            let rules = server.api("/api/v1/rules");
            let pools = server.api("/api/v1/scrape_pools")["scrapePools"].take();
            let yaml = server.api("/api/v1/status/config");
            rules["groups"][0]["rules"][0]["name"] == record.as_str()
                && pools == json!(["fixed", job, "listed"])
                && yaml["yaml"].as_str().is_some_and(|yaml| yaml.contains(&job))
        });
    }
    server.wait_value("count(up == 1)", 3.0);
}

#[test]
fn an_actor_that_keeps_panicking_ends_the_server_in_order() {
    let scene = Scene::new("escalation");
    let mut server = Server::start(&scene.home, FLAGS);
    for _ in 0..5 {
        strike(&server, "rule_manager", None);
    }
    assert_eq!(server.post("/api/v1/ext/chaos/rule_manager").status(), 200);
    assert_eq!(server.exit_status().code(), Some(1));
    wait_until("the last line of the log", || server.log.has("See you next time!"));
    assert!(server.log.has("panicked too often") && server.log.has("storage stopped"));
}

#[test]
fn only_actors_that_exist_can_be_struck() {
    let scene = Scene::new("nobody");
    let server = Server::start(&scene.home, FLAGS);
    assert_eq!(server.post("/api/v1/ext/chaos/nobody").status(), 404);
    assert_eq!(server.post("/api/v1/ext/chaos/notifier?name=nobody").status(), 404);
    let kinds = wait_for("all kinds of actors", || {
        let seen: Vec<&str> = KINDS.iter().filter(|kind| !actors(&server, kind).is_empty()).copied().collect();
        (seen.len() == KINDS.len()).then_some(seen)
    });
    assert_eq!(kinds, KINDS);
}
