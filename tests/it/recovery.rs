//! Power cuts: what was acknowledged, or seen by a query, is still there after `kill -9`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{FakeTarget, Home, Server, http, remote_write, wait_until};

const PUSHED: &[&str] = &["--web.enable-remote-write-receiver"];

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_millis() as i64
}

/// Pushes samples of the series `pushed{run="..."}` and expects them to be acknowledged.
fn push(server: &Server, run: &str, samples: &[(i64, f64)]) {
    let body = remote_write::body(&[("__name__", "pushed"), ("run", run)], samples);
    let answer =
        http::request(server.port, "POST", "/api/v1/write", remote_write::HEADERS, &body).expect("the server answers");
    assert_eq!(answer.status(), 204, "{}", answer.text());
}

/// Checks that exactly these samples of `pushed{run="..."}` are stored.
fn check_pushed(server: &Server, run: &str, samples: &[(i64, f64)]) {
    let expected: Vec<(i64, String)> = samples.iter().map(|(t, v)| (*t, v.to_string())).collect();
    assert_eq!(server.samples(&format!("pushed{{run='{run}'}}[10m]")), [expected]);
}

#[test]
fn acknowledged_pushes_survive() {
    let home = Home::new("push", "");
    let start = now_ms() - 60_000;
    let samples: Vec<(i64, f64)> = (0..50).map(|n| (start + n * 1000, n as f64 * 1.5)).collect();
    let server = Server::start(&home, PUSHED);
    for one in &samples {
        push(&server, "single", &[*one]);
    }
    push(&server, "batch", &samples);
    server.kill();

    let server = Server::start(&home, PUSHED);
    check_pushed(&server, "single", &samples);
    check_pushed(&server, "batch", &samples);
    // The series go on where they were: what is old is old, what is new is taken.
    push(&server, "batch", &[(start + 55_000, 1.0)]);
    server.kill();
    let server = Server::start(&home, PUSHED);
    check_pushed(&server, "batch", &[samples.as_slice(), &[(start + 55_000, 1.0)]].concat());
}

#[test]
fn scraped_samples_that_were_seen_survive() {
    let target = FakeTarget::serving("seen 0\n");
    let config = format!(
        "global:\n  scrape_interval: 200ms\nscrape_configs:\n  - job_name: app\n    static_configs:\n      - targets: ['{}']\n",
        target.address()
    );
    let home = Home::new("seen", &config);
    let server = Server::start(&home, &[]);
    for n in 1..=8 {
        target.serve(&format!("seen {n}\n"));
        server.wait_value("seen", f64::from(n));
    }
    let seen = server.samples("{__name__=~'seen|up'}[10m]");
    server.kill();

    let server = Server::start(&home, &[]);
    wait_until("scraping to go on", || {
        let now = server.samples("{__name__=~'seen|up'}[10m]");
        assert_eq!(now.len(), seen.len());
        for (before, after) in seen.iter().zip(&now) {
            assert_eq!(after[..before.len()], before[..]);
        }
        now.iter().zip(&seen).all(|(after, before)| after.len() > before.len())
    });
}

#[test]
fn an_orderly_stop_keeps_everything() {
    let home = Home::new("orderly", "");
    let samples = [(now_ms() - 2000, 1.0), (now_ms() - 1000, 2.0)];
    let mut server = Server::start(&home, PUSHED);
    push(&server, "stop", &samples);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.exit_status().code(), Some(0));
    drop(server);
    check_pushed(&Server::start(&home, PUSHED), "stop", &samples);
}

/// Damages the end of the newest file of the log, then expects a start without what was damaged, and with all else.
fn check_torn(name: &str, damage: impl FnOnce(&std::fs::File)) {
    let home = Home::new("torn", "");
    let start = now_ms() - 60_000;
    let kept: Vec<(i64, f64)> = (0..20).map(|n| (start + n * 1000, n as f64)).collect();
    let server = Server::start(&home, PUSHED);
    push(&server, "kept", &kept);
    push(&server, "torn", &[(start, 1.0)]);
    server.kill();

    let segments = home.wal_segments();
    let newest = segments.last().expect("there is a log");
    let file = std::fs::OpenOptions::new().append(true).open(newest).expect("the log can be written");
    damage(&file);

    let server = Server::start(&home, PUSHED);
    check_pushed(&server, "kept", &kept);
    // What is written after the damage is as safe as ever.
    push(&server, name, &[(start, 3.0)]);
    server.kill();
    let server = Server::start(&home, PUSHED);
    check_pushed(&server, "kept", &kept);
    check_pushed(&server, name, &[(start, 3.0)]);
}

#[test]
fn a_torn_end_of_the_log_costs_only_what_was_torn() {
    check_torn("after-cut", |file| {
        let length = file.metadata().expect("a length").len();
        file.set_len(length - 3).expect("the log can be cut");
    });
    check_torn("after-half-a-record", |mut file| {
        file.write_all(&[2, 0, 100, 1, 2, 3, 4, 5]).expect("the log can be written");
    });
    check_torn("after-noise", |mut file| file.write_all(&[0xa5; 500]).expect("the log can be written"));
}
