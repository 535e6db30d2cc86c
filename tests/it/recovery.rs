//! Power cuts: what was acknowledged, or seen by a query, is still there after `kill -9`.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{FakeTarget, Home, Server, http, remote_write, wait_until};

const PUSHED: &[&str] = &["--web.enable-remote-write-receiver"];

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_millis() as i64
}

/// Pushes samples of the series `pushed{run="..."}`. Whether they were acknowledged; an error if the server is gone.
fn try_push(port: u16, run: &str, samples: &[(i64, f64)]) -> std::io::Result<bool> {
    let body = remote_write::body(&[("__name__", "pushed"), ("run", run)], samples);
    let answer = http::request(port, "POST", "/api/v1/write", remote_write::HEADERS, &body)?;
    Ok(answer.status() == 204)
}

/// Pushes samples and expects them to be acknowledged.
fn push(server: &Server, run: &str, samples: &[(i64, f64)]) {
    assert!(try_push(server.port, run, samples).expect("the server answers"), "{run}: not acknowledged");
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

/// Lives of the server in [`cuts_under_load_cost_nothing_that_was_acknowledged`] unless `FIREKEEPER_LIVES` says otherwise.
const LIVES: usize = 3;

/// Requests of each writer in a life: a few, so that some lives are short, and more in others.
const REQUESTS: [usize; 3] = [5, 80, 30];

/// The cut comes while requests and scrapes are under way, in one life after the other: each request is stored as a whole, or was
/// not acknowledged, and what a query has shown stays.
#[test]
fn cuts_under_load_cost_nothing_that_was_acknowledged() {
    let lives = std::env::var("FIREKEEPER_LIVES").ok().and_then(|n| n.parse().ok()).unwrap_or(LIVES);
    let target = FakeTarget::serving("seen 1\n");
    let config = format!(
        "global:\n  scrape_interval: 50ms\nscrape_configs:\n  - job_name: app\n    static_configs:\n      - targets: ['{}']\n",
        target.address()
    );
    let home = Home::new("under-load", &config);
    let start = now_ms() - 600_000;
    // Requests that are stored, of each writer.
    let mut stored = [0usize; 3];
    let mut seen: Vec<(i64, String)> = Vec::new();
    for life in 0..lives {
        let server = Server::start(&home, PUSHED);
        let acknowledged: Arc<[AtomicUsize; 3]> = Arc::new(stored.map(AtomicUsize::new));
        let writers: Vec<_> = (0..acknowledged.len())
            .map(|writer| {
                let (port, acknowledged, first) = (server.port, Arc::clone(&acknowledged), stored[writer] as i64);
                std::thread::spawn(move || {
                    for n in first.. {
                        let pair = [(start + 20 * n, n as f64), (start + 20 * n + 10, n as f64 + 0.5)];
                        if !try_push(port, &writer.to_string(), &pair).unwrap_or(false) {
                            break;
                        }
                        acknowledged[writer].fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let enough = REQUESTS[life % REQUESTS.len()];
        wait_until("writers at work", || {
            acknowledged.iter().zip(stored).all(|(count, before)| count.load(SeqCst) >= before + enough)
        });
        let now_seen = server.samples("seen[1h]").into_iter().next().unwrap_or_default();
        server.kill();
        for writer in writers {
            writer.join().expect("the writer ends with the server");
        }
        assert!(now_seen.starts_with(&seen), "life {life}: what was seen before has changed");
        seen = now_seen;

        let server = Server::start(&home, PUSHED);
        for (writer, count) in acknowledged.iter().enumerate() {
            let count = count.load(SeqCst);
            let found = server.samples(&format!("pushed{{run='{writer}'}}[1h]")).remove(0);
            let expected: Vec<(i64, String)> =
                (0..found.len() as i64).map(|n| (start + 10 * n, (n as f64 / 2.0).to_string())).collect();
            assert_eq!(found, expected, "life {life}");
            assert!(found.len().is_multiple_of(2), "life {life}: half a request is stored");
            // The last request may have been stored without anybody hearing of it.
            assert!(
                (2 * count..=2 * count + 2).contains(&found.len()),
                "life {life}: {} samples of {count} requests",
                found.len()
            );
            stored[writer] = found.len() / 2;
        }
        let again = server.samples("seen[1h]").into_iter().next().unwrap_or_default();
        assert!(again.starts_with(&seen), "life {life}: what was seen is lost");
        seen = again;
        server.kill();
    }
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
