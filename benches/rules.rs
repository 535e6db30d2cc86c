//! What rules cost a server: 10,000 rules in 500 groups over 100,000 series, CPU time per evaluation round, of any number of
//! servers one after another.
//!
//! `cargo bench --bench rules -- /usr/bin/prometheus target/release/firekeeper`
//!
//! Each server is started twice on a fresh data directory and scrapes the same target: once without rules, once with them. What
//! the second takes more, over the same time, is divided by the evaluation rounds in it. Both look at the same data with the same
//! rules: half of them record sums and rates, half are alerts, some of which fire. Everything stays on this machine.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const GROUPS: usize = 500;
const RULES_OF_GROUP: usize = 20;
/// Series: metrics, instances, codes.
const METRICS: usize = 10;
const INSTANCES: usize = 100;
const CODES: usize = 100;
/// Seconds between scrapes and between evaluations.
const INTERVAL_S: u64 = 15;
/// Until rates have their windows and every group was evaluated.
const WARM_UP: Duration = Duration::from_secs(75);
const MEASURED: Duration = Duration::from_secs(60);
/// Ticks of the processor's clock per second, as `/proc` counts.
const TICKS_PER_S: f64 = 100.0;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The rules: group `g` looks at one instance.
fn rules() -> String {
    let mut text = "groups:\n".to_owned();
    for g in 0..GROUPS {
        let _ = writeln!(text, "- name: g{g}\n  interval: {INTERVAL_S}s\n  rules:");
        for r in 0..RULES_OF_GROUP {
            let (metric, instance, code) = (r % METRICS, g % INSTANCES, g / INSTANCES);
            let selector = format!("work_{metric}_total{{node=\"n{instance}\"}}");
            let one = format!("work_{metric}_total{{node=\"n{instance}\",code=\"c{}\"}}", r + code);
            let _ = match r % 4 {
                0 => writeln!(text, "  - record: g{g}:work_{r}:rate1m\n    expr: sum(rate({selector}[1m]))"),
                1 => writeln!(
                    text,
                    "  - record: g{g}:work_{r}:by_zone\n    expr: sum by (zone) ({selector})\n    labels: {{rule: r{r}}}"
                ),
                2 => writeln!(
                    text,
                    "  - alert: Never{r}\n    expr: max by (zone) (rate({selector}[1m])) > 1e9\n    for: 1m\n    labels: {{severity: page}}\n    \
                     annotations: {{summary: '{{{{ $labels.zone }}}} is at {{{{ $value }}}}'}}"
                ),
                _ => writeln!(
                    text,
                    "  - alert: Always{r}\n    expr: {one} >= 0\n    labels: {{severity: info, group: g{g}}}\n    \
                     annotations: {{summary: '{{{{ $labels.node }}}} is at {{{{ $value }}}}'}}"
                ),
            };
        }
    }
    text
}

/// Serves all series to whoever asks; each scrape finds greater values.
fn serve(listener: TcpListener) {
    let scrapes = Arc::new(AtomicU64::new(0));
    for stream in listener.incoming().flatten() {
        let scrapes = Arc::clone(&scrapes);
        thread::spawn(move || {
            // A server that is ended in the middle of a scrape is no problem of ours.
            let _ = answer(stream, &scrapes);
        });
    }
}

fn answer(stream: TcpStream, scrapes: &AtomicU64) -> std::io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            length += line.len();
            if line == "\r\n" || length > 1 << 16 {
                break;
            }
        }
        let n = scrapes.fetch_add(1, Relaxed);
        let mut body = String::with_capacity(8 << 20);
        for metric in 0..METRICS {
            let _ = writeln!(body, "# TYPE work_{metric}_total counter");
            for instance in 0..INSTANCES {
                for code in 0..CODES {
                    let value = n * (1 + (metric * code) as u64 % 17) * 7 + instance as u64;
                    let zone = code % 5;
                    let _ = writeln!(
                        body,
                        "work_{metric}_total{{node=\"n{instance}\",code=\"c{code}\",zone=\"z{zone}\"}} {value}"
                    );
                }
            }
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";
        write!(writer, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
    }
}

/// A running server.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).ok_or("no times in /proc");
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_S)
    }
}

/// Value of a metric of the server itself, all series added.
fn own_metric(port: u16, name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let of = |line: &&str| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']);
    Ok(text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// CPU seconds of a server in [`MEASURED`], evaluations of rules in that time, and those that failed.
fn measure(program: &Path, folder: &Path, target: u16, with_rules: bool) -> Result<(f64, f64, f64)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let rule_files = if with_rules { "rule_files: [rules.yml]\n" } else { "" };
    let config = format!(
        "global: {{scrape_interval: {INTERVAL_S}s, evaluation_interval: {INTERVAL_S}s}}\n{rule_files}scrape_configs:\n- job_name: work\n  \
         scrape_timeout: {INTERVAL_S}s\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    );
    std::fs::write(folder.join("prometheus.yml"), config)?;
    let data = folder.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let began = Instant::now();
    let server = Server(
        Command::new(program)
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let ready = loop {
        if TcpStream::connect(("127.0.0.1", port)).is_ok()
            && own_metric(port, "prometheus_build_info").is_ok_and(|v| v > 0.0)
        {
            break began.elapsed();
        }
        if began.elapsed() > WARM_UP {
            return Err("the server did not start".into());
        }
        thread::sleep(Duration::from_millis(50));
    };
    thread::sleep(WARM_UP.saturating_sub(ready));
    let counted = |name: &str| own_metric(port, name);
    let evaluations = "prometheus_rule_evaluations_total";
    let (cpu, count) = (server.cpu_s()?, counted(evaluations)?);
    thread::sleep(MEASURED);
    let (cpu, count) = (server.cpu_s()? - cpu, counted(evaluations)? - count);
    Ok((cpu, count, counted("prometheus_rule_evaluation_failures_total")?))
}

fn main() -> Result<()> {
    let programs: Vec<PathBuf> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).map(PathBuf::from).collect();
    if programs.is_empty() {
        println!(
            "give the servers to compare, such as: cargo bench --bench rules -- /usr/bin/prometheus target/release/firekeeper"
        );
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("firekeeper-rules-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("rules.yml"), rules())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let target = listener.local_addr()?.port();
    thread::spawn(move || serve(listener));
    println!("{} rules in {GROUPS} groups, {} series", GROUPS * RULES_OF_GROUP, METRICS * INSTANCES * CODES);
    let mut first = None;
    for program in &programs {
        let (idle, _, _) = measure(program, &folder, target, false)?;
        let (busy, evaluations, failures) = measure(program, &folder, target, true)?;
        let rounds = evaluations / (GROUPS * RULES_OF_GROUP) as f64;
        let round = (busy - idle) / rounds;
        let first = *first.get_or_insert(round);
        println!(
            "{}: {:.3} s CPU a round ({:.1} us a rule), {:.2} of the first; {rounds:.1} rounds, {failures} failures; idle {idle:.1} s, with rules {busy:.1} s in {} s",
            program.display(),
            round,
            round * 1e6 / (GROUPS * RULES_OF_GROUP) as f64,
            round / first,
            MEASURED.as_secs(),
        );
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
