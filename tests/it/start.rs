//! Starting and stopping: what flags, files and ports do to the exit code, and what a stop leaves behind.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::server::program;
use crate::support::{FakeTarget, Home, Server, wait_until};

const NO_JOBS: &str = "global:\n  scrape_interval: 1s\n";

/// Runs the program to its end: exit code and everything it has written.
fn run(flags: &[&str]) -> (i32, String) {
    let out = program(flags).stdout(std::process::Stdio::piped()).output().expect("the program starts");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap_or(-1), text)
}

/// Checks how the program ends with these flags, and that it says why.
fn check(flags: &[&str], code: i32, says: &[&str]) {
    let (got, text) = run(flags);
    assert_eq!(got, code, "{flags:?} says {text}");
    for part in says {
        assert!(text.contains(part), "{flags:?} does not say {part:?} but {text}");
    }
}

#[test]
fn flags_decide_the_exit_code() {
    check(&["--version"], 0, &["3.14.0"]);
    check(&["--help"], 0, &["--config.file", "--storage.tsdb.path"]);
    check(&["--no-such-flag"], 2, &["no-such-flag", "try --help"]);
    check(&["--query.timeout=soon"], 2, &["query.timeout"]);
    check(&["--log.level=loud"], 2, &["log.level"]);
    check(&["--web.external-url=http://[broken"], 2, &["external"]);
    check(&["--storage.agent.path=x"], 3, &["--storage.agent.path", "can not be used in server mode"]);
    check(&["--agent"], 1, &["--agent", "not support"]);
}

#[test]
fn a_bad_configuration_is_named_with_file_and_line() {
    let home = Home::new("bad-config", "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_nam: x\n");
    let file = format!("--config.file={}", home.path("prometheus.yml").display());
    check(&[&file], 2, &["Error loading config", "prometheus.yml", "line 4: field job_nam not found"]);

    home.configure("rule_files: [rules.yml]\n");
    home.write("rules.yml", "groups:\n  - name: g\n    rules:\n      - record: a\n        expr: sum(\n");
    check(&[&file], 2, &["rules.yml: 5:15: group \\\"g\\\", rule 1"]);

    let missing = format!("--config.file={}", home.path("nothing.yml").display());
    check(&[&missing], 2, &["nothing.yml"]);
}

#[test]
fn an_occupied_port_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let home = Home::new("occupied", NO_JOBS);
    let (file, data, listen) = (
        format!("--config.file={}", home.path("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", home.path("data").display()),
        format!("--web.listen-address={}", taken.local_addr().expect("it is bound")),
    );
    check(&[&file, &data, &listen], 1, &["Unable to start web listener"]);
    assert!(!home.path("data").exists(), "nothing is made before the port is ours");
}

#[test]
fn two_servers_never_share_a_data_directory() {
    let home = Home::new("shared-data", NO_JOBS);
    let server = Server::start(&home, &[]);
    let (file, data) = (
        format!("--config.file={}", home.path("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", home.path("data").display()),
    );
    check(&[&file, &data, "--web.listen-address=127.0.0.1:0"], 1, &["lock"]);
    assert_eq!(server.value("vector(1)"), Some(1.0), "the first one is not disturbed");
}

#[test]
fn a_ready_server_tells_who_it_is() {
    let home = Home::new("identity", NO_JOBS);
    let server = Server::start(&home, &["--query.timeout=90s"]);
    let texts = [("/-/healthy", "Prometheus Server is Healthy.\n"), ("/-/ready", "Prometheus Server is Ready.\n")];
    for (path, text) in texts {
        let answer = server.get(path).expect("it answers");
        assert_eq!((answer.status(), answer.text().as_str()), (200, text), "{path}");
    }
    assert_eq!(server.api("/api/v1/status/buildinfo")["version"], "3.14.0");
    let flags = server.api("/api/v1/status/flags");
    assert_eq!((&flags["query.timeout"], &flags["query.max-concurrency"]), (&"1m30s".into(), &"20".into()));
    assert_eq!(server.own_metric("prometheus_ready"), Some(1.0));
    assert_eq!(server.get("/nothing/here").expect("it answers").status(), 404);
}

/// What a stop logs, in this order.
const STOP: &[&str] = &[
    "query gate stopped",
    "config reloader stopped",
    "scrape discovery stopped",
    "notify discovery stopped",
    "rule manager stopped",
    "scrape manager stopped",
    "remote storage stopped",
    "storage stopped",
    "web server stopped",
    "notifier stopped",
    "See you next time!",
];

fn check_orderly_stop(mut server: Server) {
    assert_eq!(server.exit_status().code(), Some(0));
    wait_until("the last line of the log", || server.log.has("See you next time!"));
    let places: Vec<Option<usize>> = STOP.iter().map(|text| server.log.position(text)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} are the places of {STOP:?}");
    let errors: Vec<String> = server.log.lines().into_iter().filter(|line| line.contains("level=ERROR")).collect();
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn sigterm_and_sigint_stop_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new("signals", NO_JOBS);
        let server = Server::start(&home, &[]);
        server.signal(signal);
        check_orderly_stop(server);
    }
}

#[test]
fn a_signal_while_starting_stops_in_order() {
    let home = Home::new("early-signal", NO_JOBS);
    let mut server = Server::spawn(&home, &[]);
    wait_until("the start to begin", || server.log.has("Starting Prometheus Server"));
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status().code(), Some(0));
    wait_until("the last line of the log", || server.log.has("See you next time!"));
    // The directory is free and whole: the next server starts in it.
    Server::start(&home, &[]);
}

#[test]
fn quit_stops_in_order() {
    let home = Home::new("quit", NO_JOBS);
    let server = Server::start(&home, &["--web.enable-lifecycle"]);
    let answer = server.post("/-/quit");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "Requesting termination... Goodbye!"));
    check_orderly_stop(server);
}

#[test]
fn a_second_signal_forces_the_end() {
    let target = FakeTarget::serving("x 1\n");
    // The stop waits for the scrape under way, and that waits for the target.
    target.answer_after(Duration::from_secs(20));
    let config = format!(
        "scrape_configs:\n  - job_name: slow\n    scrape_interval: 6s\n    scrape_timeout: 6s\n    static_configs:\n      - targets: ['{}']\n",
        target.address()
    );
    let home = Home::new("force", &config);
    let mut server = Server::start(&home, &[]);
    wait_until("the first scrape", || !target.scrapes().is_empty());
    server.signal(Signal::TERM);
    wait_until("the stop to begin", || server.log.has("rule manager stopped"));
    assert!(server.is_running() && !server.log.has("scrape manager stopped"), "the scrape is still under way");
    server.signal(Signal::TERM);
    assert_eq!(server.exit_status().code(), Some(1));
    assert!(server.log.has("second request to stop"));
}
