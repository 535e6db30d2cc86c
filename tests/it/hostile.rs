//! Targets that misbehave in every way we know: each is down with a reason, the server stays small, and nobody else misses a
//! scrape.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::support::{FakeTarget, Home, Server, assert_even_pace, wait_for};

const INTERVAL: Duration = Duration::from_secs(1);

/// Good targets beside the bad ones.
const GOOD: usize = 8;

/// How long all of them are scraped.
const WATCHED: Duration = Duration::from_secs(6);

/// What the server may take at most, with all of it in a debug build.
const PEAK_BYTES_MAX: u64 = 400 << 20;

/// A server that does what it wants with a connection once a request has come. It ends when it is dropped.
struct Rogue {
    port: u16,
    over: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Rogue {
    fn start(behave: impl Fn(&mut TcpStream, &AtomicBool) -> std::io::Result<()> + Send + Sync + 'static) -> Rogue {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let rogue = Rogue { port, over: Arc::default(), requests: Arc::default() };
        let (over, requests, behave) = (Arc::clone(&rogue.over), Arc::clone(&rogue.requests), Arc::new(behave));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(SeqCst) {
                    break;
                }
                let (over, requests, behave) = (Arc::clone(&over), Arc::clone(&requests), Arc::clone(&behave));
                std::thread::spawn(move || serve(stream, &over, &requests, &*behave));
            }
        });
        rogue
    }

    /// One that sends these bytes and closes.
    fn saying(bytes: impl Into<Vec<u8>>) -> Rogue {
        let bytes = bytes.into();
        Rogue::start(move |stream, _| stream.write_all(&bytes))
    }

    /// One with a good answer around this body.
    fn answering(headers: &str, body: impl AsRef<[u8]>) -> Rogue {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        Rogue::saying([head.as_bytes(), body].concat())
    }
}

fn serve(
    mut stream: TcpStream,
    over: &AtomicBool,
    requests: &Mutex<Vec<String>>,
    behave: &dyn Fn(&mut TcpStream, &AtomicBool) -> std::io::Result<()>,
) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece) {
            Ok(len) if len > 0 && request.len() < 1 << 16 => request.extend_from_slice(&piece[..len]),
            _ => return,
        }
    }
    requests.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    // The server closes on what it does not want; that is what this is about.
    let _ = behave(&mut stream, over);
    let _ = stream.shutdown(Shutdown::Both);
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
const PLAIN: &str = "Content-Type: text/plain\r\n";

/// Repeats `piece` until nobody wants more of it.
fn endlessly(stream: &mut TcpStream, head: &str, piece: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    loop {
        stream.write_all(piece)?;
    }
}

/// The bad targets: what each is, what it does, and part of what is said about it (nothing, where that depends on the moment
/// or on where a packed body was cut).
fn rogues() -> Vec<(&'static str, Rogue, &'static str)> {
    let zeros = vec![b'0'; 40 << 20];
    let zstd_bomb = zstd::stream::encode_all(&zeros[..], 1).expect("memory takes it");
    let many_labels: String = (0..100_000).map(|n| format!("l{n}=\"v\",")).collect();
    let drip = |stream: &mut TcpStream, over: &AtomicBool| -> std::io::Result<()> {
        stream.write_all(format!("{OK}Content-Length: 100000\r\n\r\n").as_bytes())?;
        while !over.load(SeqCst) {
            stream.write_all(b"x")?;
            sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    let hang = |_: &mut TcpStream, over: &AtomicBool| -> std::io::Result<()> {
        while !over.load(SeqCst) {
            sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    let reset = |stream: &mut TcpStream, head: &str| -> std::io::Result<()> {
        stream.write_all(head.as_bytes())?;
        // What was not read makes the close a reset.
        rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
        Ok(())
    };
    vec![
        ("hangs", Rogue::start(hang), "context deadline exceeded"),
        ("drips", Rogue::start(drip), "context deadline exceeded"),
        (
            "drips its header",
            Rogue::start(|stream, over| {
                while !over.load(SeqCst) {
                    stream.write_all(b"H")?;
                    sleep(Duration::from_millis(50));
                }
                Ok(())
            }),
            "malformed HTTP response",
        ),
        (
            "200 MB",
            Rogue::start(|stream, _| {
                let line = b"x{a=\"b\"} 1\n".repeat(10_000);
                endlessly(stream, &format!("{OK}Content-Length: {}\r\n\r\n", 200 << 20), &line)
            }),
            "body size limit exceeded",
        ),
        (
            "an endless line",
            Rogue::start(|stream, _| endlessly(stream, &format!("{OK}\r\n"), &[b'x'; 1 << 16])),
            "body size limit exceeded",
        ),
        (
            "an endless header",
            Rogue::start(|stream, _| endlessly(stream, "HTTP/1.1 200 OK\r\nX: ", &[b'x'; 1 << 16])),
            "header of the answer is longer than",
        ),
        ("a bomb of gzip", Rogue::answering("Content-Encoding: gzip\r\n", gzip(&zeros)), "body size limit exceeded"),
        ("a bomb of zstd", Rogue::answering("Content-Encoding: zstd\r\n", zstd_bomb), "body size limit exceeded"),
        ("no gzip", Rogue::answering("Content-Encoding: gzip\r\n", "x 1\n"), "gzip: "),
        ("half of gzip", Rogue::answering("Content-Encoding: gzip\r\n", &gzip(b"x 1\n")[..15]), ""),
        ("binary", Rogue::answering(PLAIN, [0x7fu8, b'E', b'L', b'F', 0, 1, 2, 0xff, b'\n']), "expected"),
        ("no UTF-8", Rogue::answering(PLAIN, b"x{a=\"\xff\"} 1\n"), "UTF-8"),
        ("half a line", Rogue::answering(PLAIN, "x 1\ny{a=\"b"), "expected"),
        ("a line that says no value", Rogue::answering(PLAIN, "x 1\ny\n"), "expected"),
        ("100,000 labels", Rogue::answering(PLAIN, format!("x{{{many_labels}}} 1\n")), "labels"),
        ("no metrics", Rogue::answering("Content-Type: text/html\r\n", "<html>"), "text/html"),
        ("no Content-Type", Rogue::answering("", "x 1\n"), "Content-Type"),
        (
            "goes in circles",
            Rogue::saying("HTTP/1.1 302 Found\r\nLocation: /metrics\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
            "stopped after 10 redirects",
        ),
        (
            "leads to a file",
            Rogue::saying("HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
            "unsupported protocol scheme",
        ),
        ("leads nowhere", Rogue::saying("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "missing Location header"),
        ("HTTP/0.9", Rogue::saying("x 1\n"), "malformed HTTP response"),
        ("TLS", Rogue::saying(b"\x15\x03\x01\x00\x02\x02\x46".to_vec()), "malformed HTTP response"),
        ("says nothing", Rogue::saying(""), "EOF"),
        ("resets", Rogue::start(move |stream, _| reset(stream, "")), ""),
        (
            "resets in the middle",
            Rogue::start(move |stream, _| reset(stream, &format!("{OK}Content-Length: 100\r\n\r\nx 1\n"))),
            "",
        ),
        ("shorter than it says", Rogue::saying(format!("{OK}Content-Length: 100\r\n\r\nx 1\n")), "unexpected EOF"),
        (
            "two lengths",
            Rogue::saying(format!("{OK}Content-Length: 4\r\nContent-Length: 5\r\n\r\nx 1\n")),
            "Content-Length",
        ),
        ("chunks of no size", Rogue::saying(format!("{OK}Transfer-Encoding: chunked\r\n\r\nzz\r\nx 1\n")), ""),
        ("is not well", Rogue::saying("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), "500 Internal Server Error"),
    ]
}

#[test]
fn rogue_targets_hurt_only_themselves() {
    let good: Vec<FakeTarget> = (0..GOOD).map(|_| FakeTarget::serving("x 1\n")).collect();
    let rogues = rogues();
    // One that sends whoever asks to another host, which must not see the password.
    let abroad = Rogue::answering(PLAIN, "x 1\n");
    let away = format!("http://localhost:{}/stolen", abroad.port);
    let thief = Rogue::saying(format!("HTTP/1.1 302 Found\r\nLocation: {away}\r\nContent-Length: 0\r\n\r\n"));
    let list = |targets: Vec<String>| targets.iter().map(|target| format!("'{target}'")).collect::<Vec<_>>().join(", ");
    let local = |port: u16| format!("127.0.0.1:{port}");
    let config = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 500ms\n  scrape_failure_log_file: failures.json\nscrape_configs:\n  \
         - job_name: good\n    static_configs: [{{targets: [{}]}}]\n  \
         - job_name: bad\n    body_size_limit: 12MB\n    static_configs: [{{targets: [{}]}}]\n  \
         - job_name: bombs\n    static_configs: [{{targets: [{}]}}]\n  \
         - job_name: thief\n    basic_auth: {{username: me, password: secret}}\n    static_configs: [{{targets: [{}]}}]\n",
        list(good.iter().map(FakeTarget::address).collect()),
        list(rogues.iter().map(|(_, rogue, _)| local(rogue.port)).collect()),
        list(
            rogues
                .iter()
                .filter(|(what, ..)| what.starts_with("a bomb"))
                .map(|(_, rogue, _)| local(rogue.port))
                .collect()
        ),
        list(vec![local(thief.port)]),
    );
    let home = Home::new("hostile", &config);
    let server = Server::start(&home, &[]);
    server.wait_value("count(up{job='bad'})", rogues.len() as f64);
    server.wait_value("sum(up{job='good'})", GOOD as f64);
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        sleep(INTERVAL);
        // The server answers while all this goes on.
        assert_eq!(server.value("sum(up{job='good'})"), Some(GOOD as f64));
    }

    // Each is down with a reason of its own.
    let targets = server.api("/api/v1/targets?state=active");
    let targets = targets["activeTargets"].as_array().expect("a list");
    let find = |pool: &str, port: u16| -> Value {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let found = targets.iter().find(|target| target["scrapeUrl"] == url && target["scrapePool"] == pool);
        found.unwrap_or_else(|| panic!("{url} is not shown")).clone()
    };
    for (what, rogue, reason) in &rogues {
        let shown = find("bad", rogue.port);
        let error = shown["lastError"].as_str().unwrap_or_default();
        assert_eq!(shown["health"], "down", "{what}: {error}");
        assert!(!error.is_empty() && error.contains(reason), "{what}: {error}");
        if what.starts_with("a bomb") {
            let shown = find("bombs", rogue.port);
            let error = shown["lastError"].as_str().unwrap_or_default();
            assert!(error.contains("times as large as what was received"), "{what} without a limit: {error}");
        }
    }
    // The one that leads away is up, and has got nothing of ours to where it leads.
    assert_eq!(find("thief", thief.port)["health"], "up");
    assert!(thief.requests.lock().unwrap()[0].to_lowercase().contains("authorization: basic"));
    let stolen = abroad.requests.lock().unwrap().clone();
    assert!(!stolen.is_empty() && stolen.iter().all(|request| !request.to_lowercase().contains("authorization")));

    // Nobody else has missed a scrape, and the server has not grown.
    for target in &good {
        assert_even_pace("a good target", &target.scrapes(), INTERVAL);
    }
    let peak = server.peak_memory_bytes();
    assert!(peak < PEAK_BYTES_MAX, "the server took {} MiB", peak >> 20);

    // What went wrong can be read later too: in the file, and with the body.
    let half =
        rogues.iter().find(|(what, ..)| *what == "half a line").map(|(_, rogue, _)| rogue.port).expect("it is there");
    let past =
        server.api(&format!("/api/v1/ext/targets/scrapes?scrapePool=bad&scrapeUrl=http://127.0.0.1:{half}/metrics"));
    let past = &past["targets"][0];
    assert_eq!(past["failedBody"]["text"], "x 1\ny{a=\"b");
    assert_eq!(past["failedBody"]["line"], 2);
    assert!(past["scrapes"].as_array().is_some_and(|scrapes| scrapes.len() > 3));
    let log = wait_for("the file of failures", || std::fs::read_to_string(home.path("failures.json")).ok());
    let line: Value =
        log.lines().find(|line| line.contains("redirects")).expect("a line about it").parse().expect("JSON");
    assert_eq!((&line["level"], &line["job_name"]), (&"ERROR".into(), &"bad".into()));
    assert!(line["target"].as_str().is_some_and(|target| target.starts_with("http://127.0.0.1:")));
}
