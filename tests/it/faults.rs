//! The system under the server fails: syncs that go wrong, no descriptors left, a clock that jumps, a second server. What was
//! acknowledged is there, and the server goes on by itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::support::{FakeTarget, Home, Server, http, remote_write, wait_until};

const PUSHED: &[&str] = &["--web.enable-remote-write-receiver"];

/// Where Debian has it.
const LIBFAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_millis() as i64
}

/// Pushes a sample of the series `pushed`; the status.
fn push(server: &Server, t: i64, v: f64) -> u16 {
    let body = remote_write::body(&[("__name__", "pushed")], &[(t, v)]);
    let answer = http::request(server.port, "POST", "/api/v1/write", remote_write::HEADERS, &body);
    answer.expect("the server answers").status()
}

fn check_pushed(server: &Server, samples: &[(i64, f64)]) {
    let expected: Vec<(i64, String)> = samples.iter().map(|(t, v)| (*t, v.to_string())).collect();
    assert_eq!(server.samples("pushed[10m]"), [expected]);
}

/// Makes system calls of a running server fail, until it is dropped.
struct Injected(Child);

impl Injected {
    /// `None`, and a word about it, where that cannot be done.
    fn into(server: &Server, injection: &str) -> Option<Injected> {
        let mut command = Command::new("strace");
        let pid = server.pid().as_raw_nonzero().to_string();
        command.args([
            "-f",
            "-e",
            "trace=fdatasync",
            "-e",
            &format!("inject={injection}"),
            "-o",
            "/dev/null",
            "-p",
            &pid,
        ]);
        let Ok(mut child) = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
            eprintln!("SKIPPED: strace is not installed");
            return None;
        };
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        // It writes on, and must not be ended for that.
        std::thread::spawn(move || lines.for_each(drop));
        if !first.contains("attached") {
            eprintln!("SKIPPED: strace cannot attach: {first}");
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        Some(Injected(child))
    }
}

impl Drop for Injected {
    /// Lets the server go on as before.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn a_sync_that_fails_once_costs_nothing() {
    let home = Home::new("sync-once", "");
    let server = Server::start(&home, PUSHED);
    let start = now_ms() - 60_000;
    assert_eq!(push(&server, start, 1.0), 204);
    let before = home.wal_segments().len();
    // The first one of each thread.
    let Some(injected) = Injected::into(&server, "fdatasync:error=EIO:when=1") else { return };
    assert_eq!(push(&server, start + 1000, 2.0), 204);
    drop(injected);
    assert!(home.wal_segments().len() > before, "what was not durable is in a new segment");
    assert!(server.log.has("what was not durable goes to a new segment"));
    server.kill();
    check_pushed(&Server::start(&home, PUSHED), &[(start, 1.0), (start + 1000, 2.0)]);
}

#[test]
fn without_syncs_nothing_is_acknowledged_until_they_work_again() {
    let home = Home::new("sync-never", "");
    let server = Server::start(&home, PUSHED);
    let start = now_ms() - 60_000;
    assert_eq!(push(&server, start, 1.0), 204);
    let Some(injected) = Injected::into(&server, "fdatasync:error=EIO") else { return };
    assert_eq!(push(&server, start + 1000, 2.0), 503);
    let body = remote_write::body(&[("__name__", "pushed")], &[(start + 2000, 3.0)]);
    let refused = http::request(server.port, "POST", "/api/v1/write", remote_write::HEADERS, &body).expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.header("retry-after").is_some());
    wait_until("readiness to tell", || {
        let ready = server.get("/-/ready").expect("an answer");
        ready.status() == 200 && ready.text().contains("Degraded: ")
    });
    assert_eq!(server.own_metric("firekeeper_storage_read_only"), Some(1.0));
    assert!(!server.samples("pushed[10m]").is_empty(), "queries go on");
    drop(injected);
    wait_until("pushes to be taken", || push(&server, start + 3000, 4.0) == 204);
    wait_until("readiness to tell", || !server.get("/-/ready").expect("an answer").text().contains("Degraded"));
    server.kill();
    let stored = Server::start(&home, PUSHED).samples("pushed[10m]").remove(0);
    let acknowledged = [(start, "1".to_owned()), (start + 3000, "4".to_owned())];
    assert!(acknowledged.iter().all(|sample| stored.contains(sample)), "{stored:?}");
}

/// Seconds of processor time that a process has taken so far.
fn cpu_s(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid().as_raw_nonzero())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

#[test]
fn without_descriptors_the_server_waits_for_them() {
    let target = FakeTarget::serving("up_there 1\n");
    let config = format!(
        "global:\n  scrape_interval: 200ms\nscrape_configs:\n  - job_name: app\n    static_configs:\n      - targets: ['{}']\n",
        target.address()
    );
    let home = Home::new("descriptors", &config);
    let server = Server::start(&home, PUSHED);
    server.wait_value("up_there", 1.0);
    let start = now_ms() - 60_000;
    assert_eq!(push(&server, start, 1.0), 204);
    let open =
        std::fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).expect("it runs").count() as u64;
    let few = Rlimit { current: Some(open.saturating_sub(2)), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(Some(server.pid()), Resource::Nofile, few).expect("the limit can be set");
    let connections: Vec<_> = (0..20).filter_map(|_| TcpStream::connect(("127.0.0.1", server.port)).ok()).collect();
    assert!(!connections.is_empty());
    let (cpu, began) = (cpu_s(&server), Instant::now());
    sleep(Duration::from_millis(1500));
    let share = (cpu_s(&server) - cpu) / began.elapsed().as_secs_f64();
    assert!(share < 0.5, "a processor is busy for {:.0} % without anything to do", share * 100.0);
    prlimit(Some(server.pid()), Resource::Nofile, before).expect("the limit can be set");
    drop(connections);
    wait_until("pushes to be taken", || push(&server, start + 1000, 2.0) == 204);
    let scraped = server.samples("up_there[10m]")[0].len();
    wait_until("scrapes to go on", || server.samples("up_there[10m]")[0].len() > scraped + 2);
    server.kill();
    check_pushed(&Server::start(&home, PUSHED), &[(start, 1.0), (start + 1000, 2.0)]);
}

/// All files below a directory, with what is in them.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(files.insert(path.clone(), std::fs::read(&path).expect("a readable file"))),
            }
        }
    }
    files
}

#[test]
fn a_second_server_changes_nothing() {
    let home = Home::new("second", "");
    let server = Server::start(&home, PUSHED);
    let start = now_ms() - 60_000;
    assert_eq!(push(&server, start, 1.0), 204);
    // What the first one is writing, and the second one would take for a leftover.
    let unfinished = home.path("data/01DXXFZDYD1MQW6079WK0K6EDQ.tmp-for-creation");
    std::fs::create_dir(&unfinished).expect("a directory");
    std::fs::write(unfinished.join("index"), b"half").expect("a file");
    server.signal(Signal::STOP);
    let before = contents(&home.path("data"));
    let mut second = Server::spawn(&home, PUSHED);
    assert_eq!(second.exit_status().code(), Some(1));
    assert!(second.log.has("lock"), "{:?}", second.log.lines());
    assert!(contents(&home.path("data")) == before, "the second server has changed something");
    server.signal(Signal::CONT);
    assert_eq!(push(&server, start + 1000, 2.0), 204);
    check_pushed(&server, &[(start, 1.0), (start + 1000, 2.0)]);
}

#[test]
fn a_clock_that_jumps_removes_nothing() {
    if !Path::new(LIBFAKETIME).exists() {
        eprintln!("SKIPPED: libfaketime is not installed");
        return;
    }
    let target = FakeTarget::serving("seen 1\n");
    let config = format!(
        "global:\n  scrape_interval: 200ms\nscrape_configs:\n  - job_name: app\n    static_configs:\n      - targets: ['{}']\n",
        target.address()
    );
    let home = Home::new("clock", &config);
    let day_ago = now_ms() / 1000 - 86_400;
    home.write("import.om", &format!("imported 1 {day_ago}\n# EOF\n"));
    let import = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"];
    let paths = [home.path("import.om"), home.path("data")].map(|path| path.display().to_string());
    let made = crate::support::server::program(&[&import[..], &[&paths[0], &paths[1]]].concat()).status();
    assert!(made.expect("the program starts").success());
    home.write("clock", "+0");
    let clock = home.path("clock").display().to_string();
    let environment = [
        ("LD_PRELOAD", LIBFAKETIME),
        ("FAKETIME_TIMESTAMP_FILE", &clock),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let server = Server::start_with(&home, &["--storage.tsdb.block-reload-interval=1s"], &environment);
    server.wait_value("seen", 1.0);
    let imported = || {
        let range = format!("start={}&end={}", day_ago - 10, day_ago + 10);
        server.api(&format!("/api/v1/series?match[]=imported&{range}")).as_array().map_or(0, Vec::len)
    };
    assert_eq!(imported(), 1);
    home.write("clock", "+20y");
    wait_until("the jump to be noticed", || server.own_metric("firekeeper_tsdb_clock_jumps_total") >= Some(1.0));
    // The directory is looked at twice meanwhile.
    sleep(Duration::from_millis(2500));
    assert_eq!(imported(), 1, "nothing goes because of a jump");
    home.write("clock", "+0");
    wait_until("the way back", || server.own_metric("firekeeper_tsdb_clock_jumps_total") >= Some(2.0));
    sleep(Duration::from_millis(1500));
    assert_eq!(imported(), 1);
}
