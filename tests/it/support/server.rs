//! The server under test: its directory, its process, its API.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fk_testkit::TempDir;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::http::{self, Message, escape};
use super::{PATIENCE, free_port, wait_for, wait_until};

/// Attempts to find a port that stays free until the server has it.
const PORT_ATTEMPTS: usize = 5;

/// Log lines shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// A directory with a configuration and data; outlives the servers that run in it.
pub struct Home(TempDir);

impl Home {
    /// With this configuration.
    pub fn new(name: &str, config: &str) -> Home {
        let home = Home(TempDir::new(name));
        home.configure(config);
        home
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file the way configuration management does: whole, by renaming.
    pub fn write(&self, name: &str, text: &str) {
        let (target, fresh) = (self.path(name), self.path(&format!("{name}.new")));
        std::fs::write(&fresh, text).expect("the test's directory is writable");
        std::fs::rename(&fresh, &target).expect("the test's directory is writable");
    }

    /// Writes `prometheus.yml`.
    pub fn configure(&self, config: &str) {
        self.write("prometheus.yml", config);
    }

    /// The files of the write-ahead log that hold samples, oldest first.
    pub fn wal_segments(&self) -> Vec<PathBuf> {
        let wal = self.path("data/wal");
        let entries = std::fs::read_dir(&wal).unwrap_or_else(|error| panic!("{}: {error}", wal.display()));
        let mut segments: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
        segments.retain(|path| is_segment(path));
        segments.sort();
        segments
    }
}

fn is_segment(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
}

/// What the server has written to standard error, line by line.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Whether a line contains `text`.
    pub fn has(&self, text: &str) -> bool {
        self.position(text).is_some()
    }

    /// The first line that contains `text`.
    pub fn position(&self, text: &str) -> Option<usize> {
        self.0.lock().unwrap().iter().position(|line| line.contains(text))
    }
}

/// Starts the program with these flags and nothing else.
pub fn program(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firekeeper"));
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A test must not depend on the environment's proxies.
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    command
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
    /// What it says.
    pub log: Log,
}

impl Server {
    /// Starts a server in `home` and waits until it is ready.
    pub fn start(home: &Home, flags: &[&str]) -> Server {
        Server::start_with(home, flags, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(home: &Home, flags: &[&str], environment: &[(&str, &str)]) -> Server {
        for _ in 0..PORT_ATTEMPTS {
            let mut server = Server::spawn_with(home, flags, environment);
            let began = Instant::now();
            let ended = loop {
                if server.get("/-/ready").is_ok_and(|answer| answer.status() == 200) {
                    return server;
                }
                if let Some(status) = server.child.try_wait().expect("the child can be waited for") {
                    break status;
                }
                assert!(began.elapsed() < PATIENCE, "the server does not get ready");
                std::thread::sleep(Duration::from_millis(20));
            };
            assert!(server.log.has("Unable to start web listener"), "the server ended with {ended}");
        }
        panic!("no port stays free");
    }

    /// Starts a server without waiting for it.
    pub fn spawn(home: &Home, flags: &[&str]) -> Server {
        Server::spawn_with(home, flags, &[])
    }

    fn spawn_with(home: &Home, flags: &[&str], environment: &[(&str, &str)]) -> Server {
        let port = free_port();
        let mut child = program(flags)
            .envs(environment.iter().copied())
            .arg(format!("--config.file={}", home.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", home.path("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--scrape.discovery-reload-interval=100ms")
            .spawn()
            .expect("the program starts");
        let log = Log::default();
        let (lines, stderr) = (log.clone(), child.stderr.take().expect("standard error is a pipe"));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.0.lock().unwrap().push(line);
            }
        });
        Server { child, port, log }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// The number of the process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the process to end.
    pub fn exit_status(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().expect("the child can be waited for"))
    }

    /// Ends the process as a power cut does.
    pub fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the child can be waited for");
    }

    /// The most memory that the process has had resident so far.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    /// `GET path`
    pub fn get(&self, path: &str) -> std::io::Result<Message> {
        http::request(self.port, "GET", path, &[], &[])
    }

    /// `POST path` without a body.
    pub fn post(&self, path: &str) -> Message {
        http::request(self.port, "POST", path, &[], &[]).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// The data of a successful API call.
    pub fn api(&self, path: &str) -> Value {
        let answer = self.get(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        answer.json()["data"].take()
    }

    /// The result of an instant query.
    pub fn query(&self, expr: &str) -> Vec<Value> {
        let mut data = self.api(&format!("/api/v1/query?query={}", escape(expr)));
        match data["result"].take() {
            Value::Array(result) => result,
            other => panic!("{expr} gives {other}"),
        }
    }

    /// The value of an instant query with one result; `None`: it has no result.
    pub fn value(&self, expr: &str) -> Option<f64> {
        let result = self.query(expr);
        assert!(result.len() <= 1, "{expr} gives {result:?}");
        let text = result.first()?["value"][1].as_str()?.to_owned();
        Some(text.parse().unwrap_or_else(|error| panic!("{expr}: {error} in {text:?}")))
    }

    /// Waits until an instant query has this value.
    pub fn wait_value(&self, expr: &str, expected: f64) {
        wait_until(&format!("{expr} = {expected}"), || self.value(expr) == Some(expected));
    }

    /// Waits until an instant query has no result.
    pub fn wait_empty(&self, expr: &str) {
        wait_until(&format!("{expr} to be empty"), || self.query(expr).is_empty());
    }

    /// The samples of a range selector such as `up[1m]`, one list per series.
    pub fn samples(&self, selector: &str) -> Vec<Vec<(i64, String)>> {
        let sample = |pair: &Value| {
            let time = pair[0].as_f64().expect("a time");
            ((time * 1000.0).round() as i64, pair[1].as_str().expect("a value").to_owned())
        };
        let series = self.query(selector);
        series.iter().map(|one| one["values"].as_array().expect("values").iter().map(sample).collect()).collect()
    }

    /// All actors of a kind, as the API shows them.
    pub fn actors(&self, kind: &str) -> Vec<Value> {
        let (mut found, mut open) = (Vec::new(), vec![self.api("/api/v1/ext/actors")]);
        while let Some(mut node) = open.pop() {
            if let Value::Array(children) = node["children"].take() {
                open.extend(children);
            }
            if node["kind"] == kind {
                found.push(node);
            }
        }
        found
    }

    /// A line of `/metrics`: the value of one series, by its exact name and labels.
    pub fn own_metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").expect("/metrics answers").text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.log.lines();
            eprintln!(
                "--- the server's log:\n{}\n---",
                lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
            );
        }
    }
}
