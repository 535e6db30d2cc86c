//! The query log (`query_log_file`): a line of JSON for each query that was evaluated, in the form of Prometheus.
//!
//! A line is one write, so that a reader never sees half of one, and so that the file may be moved away and be opened anew
//! by a reload. What cannot be written (the disk is full) is counted and lost; it fails no query.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use fk_instrument::Counter;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};

use crate::board::{Asked, Measured, Origin};

/// How long nothing is said about failures after one was.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// An open log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    complained: Option<Instant>,
}

impl LogFile {
    /// Opens a file to append to; makes it if there is none.
    pub fn open(path: &Path) -> std::io::Result<LogFile> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(LogFile { path: path.to_owned(), inner: Mutex::new(Inner { file, complained: None }) })
    }

    fn write(&self, line: &[u8], failures: &Counter) {
        let mut inner = self.inner.lock();
        let Err(error) = inner.file.write_all(line) else { return };
        failures.inc();
        if inner.complained.is_none_or(|at| at.elapsed() > COMPLAINT_INTERVAL) {
            inner.complained = Some(Instant::now());
            let path = self.path.display().to_string();
            log::error!(component = "query engine", file = path.as_str(), err = error.to_string().as_str(); "can't log query");
        }
    }
}

/// The place of the log file that is in force, if any.
#[derive(Debug, Default)]
pub struct QueryLog(RwLock<Option<LogFile>>);

impl QueryLog {
    /// Logs to this file from now on.
    pub fn set(&self, file: Option<LogFile>) {
        *self.0.write() = file;
    }

    /// Whether queries are logged.
    pub fn is_on(&self) -> bool {
        self.0.read().is_some()
    }

    pub(crate) fn write(&self, asked: &Asked, measured: &Measured, error: Option<&str>, failures: &Counter) {
        if let Some(file) = &*self.0.read() {
            file.write(&line(Utc::now(), asked, measured, error), failures);
        }
    }
}

/// A line with its end.
fn line(now: DateTime<Utc>, asked: &Asked, measured: &Measured, error: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut field = |name: &str, value: &str| {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(format!("\"{name}\":{value}").as_bytes());
    };
    let text = |text: &str| Value::from(text).to_string();
    let date = |ms: i64| {
        let date = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default();
        text(&date.to_rfc3339_opts(SecondsFormat::Millis, true))
    };
    field("time", &text(&now.to_rfc3339_opts(SecondsFormat::Nanos, true)));
    field("level", "\"INFO\"");
    field("source", "\"log_file.rs\"");
    // Text as in Prometheus:
    field("msg", "\"promql query logged\"");
    let params = format!(
        "{{\"end\":{},\"query\":{},\"start\":{},\"step\":{}}}",
        date(asked.end_ms),
        text(&asked.text),
        date(asked.start_ms),
        asked.step_ms / 1000
    );
    field("params", &params);
    if let Some(error) = error {
        field("error", &text(error));
    }
    field("stats", &stats(asked, measured));
    // Nothing is traced.
    field("spanID", "\"0000000000000000\"");
    field("traceID", "\"00000000000000000000000000000000\"");
    match &asked.origin {
        Origin::Http { client, method, path } => {
            field("httpRequest", &json!({ "clientIP": client, "method": method, "path": path }).to_string());
        }
        Origin::Rule { file, group } => field("ruleGroup", &json!({ "file": file, "name": group }).to_string()),
    }
    out.extend_from_slice(b"}\n");
    out
}

fn stats(asked: &Asked, measured: &Measured) -> String {
    let mut out = String::from("{\"timings\":{");
    for (at, (name, took)) in measured.timings().into_iter().enumerate() {
        out.push_str(if at > 0 { "," } else { "" });
        out.push_str(&format!("\"{name}\":{}", seconds(took)));
    }
    out.push_str("},\"samples\":{");
    let stats = &measured.stats;
    let mut samples = |name: &str, per_step: &[u64], total: u64| {
        if !per_step.is_empty() {
            let step = |(at, n): (usize, &u64)| {
                let ms = asked.start_ms.saturating_add(asked.step_ms.saturating_mul(at as i64));
                format!("[{},{n}]", ms as f64 / 1000.0)
            };
            let steps: Vec<String> = per_step.iter().enumerate().map(step).collect();
            out.push_str(&format!("\"{name}PerStep\":[{}],", steps.join(",")));
        }
        out.push_str(&format!("\"{name}\":{total},"));
    };
    samples("totalQueryableSamples", &stats.samples_per_step, stats.samples_total);
    samples("samplesRead", &stats.samples_read_per_step, stats.samples_read);
    out.push_str(&format!("\"peakSamples\":{}}}}}", stats.samples_peak));
    out
}

/// Seconds as Go's `encoding/json` prints them: with an exponent below a millionth.
fn seconds(took: Duration) -> String {
    let ns = took.as_nanos();
    match ns {
        0 => "0".to_owned(),
        1..1000 => format!("{:e}", ns as f64 / 1e9),
        _ => format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use fk_promql::QueryStats;

    use super::*;

    fn measured() -> Measured {
        Measured {
            queued: Duration::from_nanos(62_513),
            took: Duration::from_nanos(86_078),
            prepare: Duration::from_nanos(941),
            sort: Duration::ZERO,
            stats: QueryStats {
                samples_total: 5,
                samples_read: 4,
                samples_peak: 3,
                samples_per_step: vec![2, 3],
                samples_read_per_step: vec![2, 2],
                series_total: 1,
            },
        }
    }

    #[test]
    fn lines_have_the_form_of_prometheus() {
        let asked = Asked {
            text: "a < \"b\"".into(),
            start_ms: 0,
            end_ms: 60_500,
            step_ms: 30_500,
            origin: Origin::Http { client: "::1".into(), method: "GET".into(), path: "/api/v1/query_range".into() },
        };
        let now = DateTime::from_timestamp_nanos(1_795_276_530_983_440_350);
        let text = String::from_utf8(line(now, &asked, &measured(), Some("no \"x\""))).expect("text");
        assert_eq!(
            text,
            concat!(
                r#"{"time":"2026-11-21T15:55:30.983440350Z","level":"INFO","source":"log_file.rs","#,
                r#""msg":"promql query logged","params":{"end":"1970-01-01T00:01:00.500Z","query":"a < \"b\"","#,
                r#""start":"1970-01-01T00:00:00.000Z","step":30},"error":"no \"x\"","stats":{"timings":{"#,
                r#""evalTotalTime":0.000086078,"resultSortTime":0,"queryPreparationTime":9.41e-7,"#,
                r#""innerEvalTime":0.000085137,"execQueueTime":0.000062513,"execTotalTime":0.000148591},"samples":{"#,
                r#""totalQueryableSamplesPerStep":[[0,2],[30.5,3]],"totalQueryableSamples":5,"#,
                r#""samplesReadPerStep":[[0,2],[30.5,2]],"samplesRead":4,"peakSamples":3}},"#,
                r#""spanID":"0000000000000000","traceID":"00000000000000000000000000000000","#,
                r#""httpRequest":{"clientIP":"::1","method":"GET","path":"/api/v1/query_range"}}"#,
                "\n"
            )
        );
        let rule = Asked { origin: Origin::Rule { file: "r.yml".into(), group: "g".into() }, ..asked };
        let text = String::from_utf8(line(now, &rule, &measured(), None)).expect("text");
        assert!(text.ends_with("\"ruleGroup\":{\"file\":\"r.yml\",\"name\":\"g\"}}\n") && !text.contains("error"));
        serde_json::from_str::<Value>(&text).expect("JSON");
    }

    #[test]
    fn seconds_are_printed_as_go_does() {
        for (ns, text) in [
            (0, "0"),
            (9, "9e-9"),
            (941, "9.41e-7"),
            (1000, "0.000001"),
            (86_078, "0.000086078"),
            (1_500_000_000, "1.5"),
            (60_000_000_000, "60"),
        ] {
            assert_eq!(seconds(Duration::from_nanos(ns)), text);
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_is_counted() {
        let dir = fk_testkit::TempDir::new("query-log");
        let path = dir.path().join("queries.log");
        let (log, failures) = (QueryLog::default(), Counter::default());
        let origin = Origin::Rule { file: "f".into(), group: "g".into() };
        let asked = Asked { text: "up".into(), start_ms: 0, end_ms: 0, step_ms: 0, origin };
        log.write(&asked, &measured(), None, &failures);
        log.set(Some(LogFile::open(&path).expect("writable")));
        log.write(&asked, &measured(), None, &failures);
        log.write(&asked, &measured(), None, &failures);
        assert_eq!(std::fs::read_to_string(&path).expect("readable").lines().count(), 2);
        // A reload after somebody has moved the file away.
        std::fs::rename(&path, dir.path().join("old")).expect("writable");
        log.set(Some(LogFile::open(&path).expect("writable")));
        log.write(&asked, &measured(), None, &failures);
        assert_eq!(std::fs::read_to_string(&path).expect("readable").lines().count(), 1);
        assert_eq!(failures.get(), 0);
        // A device that is always full.
        log.set(Some(LogFile::open(Path::new("/dev/full")).expect("there is one on Linux")));
        log.write(&asked, &measured(), None, &failures);
        log.write(&asked, &measured(), None, &failures);
        assert_eq!(failures.get(), 2);
        assert!(LogFile::open(&dir.path().join("no/folder")).is_err());
    }
}
