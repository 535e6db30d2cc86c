//! Log files of JSON lines that users configure: `scrape_failure_log_file`.
//!
//! Whoever logs hands a line over and goes on: one thread writes all files, so that a slow disk delays nobody. Lines wait in a
//! queue of bounded length; what does not fit is dropped and counted.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use chrono::{Local, SecondsFormat};
use parking_lot::Mutex;
use serde_json::Value as Json;

/// Lines that may wait for the disk: a minute of a thousand targets that fail.
const QUEUE_LINES_MAX: usize = 4096;

/// How long a stop waits for the lines that are left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens a log file for appending. Text of the error as in Prometheus.
pub fn open(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|error| format!("can't create json log file: open {}: {}", path.display(), reason(&error)))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        // Texts as in Go:
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// A line as Prometheus writes it: time, level `ERROR`, source, message, then the attributes.
pub fn error_line(source: &str, message: &str, attributes: &[(&str, &str)]) -> String {
    let text = |text: &str| Json::from(text).to_string();
    let time = Local::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
    let mut line =
        format!("{{\"time\":\"{time}\",\"level\":\"ERROR\",\"source\":{},\"msg\":{}", text(source), text(message));
    for (name, value) in attributes {
        line.push_str(&format!(",{}:{}", text(name), text(value)));
    }
    line.push_str("}\n");
    line
}

enum Work {
    /// From now on this is the file of the log with the number.
    Open(u64, File),
    Line(u64, String),
    Close(u64),
    /// Answered when everything before is written.
    Flush(SyncSender<()>),
}

/// All such files of the process.
#[derive(Debug)]
pub struct JsonLogs {
    queue: SyncSender<Work>,
    next: AtomicU64,
    dropped: Arc<AtomicU64>,
    open: Mutex<HashMap<PathBuf, Arc<JsonLog>>>,
}

/// One file. Lines to a log that was closed go nowhere.
#[derive(Debug)]
pub struct JsonLog {
    number: u64,
    queue: SyncSender<Work>,
    dropped: Arc<AtomicU64>,
}

impl JsonLogs {
    /// No files yet. The thread ends with the last log; if there can be none, all lines are dropped.
    pub fn new() -> Arc<JsonLogs> {
        let (queue, work) = sync_channel(QUEUE_LINES_MAX);
        let thread = std::thread::Builder::new().name("json-logs".to_owned()).spawn(move || write_all(&work));
        if let Err(error) = thread {
            log::error!(err = error.to_string().as_str(); "there is no thread for log files");
        }
        Arc::new(JsonLogs { queue, next: AtomicU64::new(0), dropped: Arc::default(), open: Mutex::default() })
    }

    /// Lines that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Makes these the open files. A log that goes on gets the new file, so that one that was moved away is left alone.
    pub fn replace(&self, files: Vec<(PathBuf, File)>) {
        let mut open = self.open.lock();
        let mut old = std::mem::take(&mut *open);
        for (path, file) in files {
            let log = old.remove(&path).unwrap_or_else(|| {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                Arc::new(JsonLog { number, queue: self.queue.clone(), dropped: Arc::clone(&self.dropped) })
            });
            // Waits only as long as the disk takes for the queue: a reload is rare.
            let _ = self.queue.send(Work::Open(log.number, file));
            open.insert(path, log);
        }
        for log in old.into_values() {
            let _ = self.queue.send(Work::Close(log.number));
        }
    }

    /// The log of a path, if it is open.
    pub fn get(&self, path: &Path) -> Option<Arc<JsonLog>> {
        self.open.lock().get(path).cloned()
    }

    /// Waits a moment for what was logged so far to be written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Work::Flush(done)).is_ok() {
            // After the deadline the process ends without the rest.
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl JsonLog {
    /// Has a line written, which ends with a line break.
    pub fn write(&self, line: String) {
        if self.queue.try_send(Work::Line(self.number, line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(work: &Receiver<Work>) {
    let mut files: HashMap<u64, File> = HashMap::new();
    let mut failing = false;
    while let Ok(work) = work.recv() {
        match work {
            Work::Open(number, file) => drop(files.insert(number, file)),
            Work::Close(number) => drop(files.remove(&number)),
            Work::Flush(done) => drop(done.try_send(())),
            Work::Line(number, line) => {
                let Some(file) = files.get_mut(&number) else { continue };
                match file.write_all(line.as_bytes()) {
                    Ok(()) => failing = false,
                    // Told once, not for every line.
                    Err(error) if !failing => {
                        failing = true;
                        log::error!(err = error.to_string().as_str(); "writing a log file failed");
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_appended_to_the_file_that_is_open_now() {
        let dir = fk_testkit::TempDir::new("json-log");
        let path = dir.path().join("failures.json");
        let logs = JsonLogs::new();
        logs.replace(vec![(path.clone(), open(&path).unwrap())]);
        let log = logs.get(&path).unwrap();
        log.write("{\"n\":1}\n".to_owned());
        logs.flush();
        let moved = dir.path().join("moved.json");
        std::fs::rename(&path, &moved).unwrap();
        log.write("{\"n\":2}\n".to_owned());
        // A reload opens it anew; who has the log already need not know.
        logs.replace(vec![(path.clone(), open(&path).unwrap())]);
        log.write("{\"n\":3}\n".to_owned());
        logs.flush();
        assert_eq!((lines(&moved).len(), lines(&path)), (2, vec!["{\"n\":3}".to_owned()]));
        logs.replace(Vec::new());
        log.write("{\"n\":4}\n".to_owned());
        logs.flush();
        assert_eq!((lines(&path).len(), logs.dropped()), (1, 0));
        assert!(logs.get(&path).is_none());
    }

    #[test]
    fn lines_are_json_in_the_form_of_prometheus() {
        let line =
            error_line("scrape_loop.rs", "Get \"http://a\": EOF", &[("job_name", "a\"b"), ("target", "http://a")]);
        let parsed: Json = serde_json::from_str(&line).unwrap();
        assert_eq!((&parsed["level"], &parsed["msg"]), (&Json::from("ERROR"), &Json::from("Get \"http://a\": EOF")));
        assert_eq!((&parsed["job_name"], &parsed["target"]), (&Json::from("a\"b"), &Json::from("http://a")));
        assert!(line.starts_with("{\"time\":\"20") && line.ends_with("}\n"), "{line}");
        assert!(chrono::DateTime::parse_from_rfc3339(parsed["time"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn files_that_cannot_be_opened_are_told() {
        let error = open(Path::new("/nonexistent/x.json")).unwrap_err();
        assert_eq!(error, "can't create json log file: open /nonexistent/x.json: no such file or directory");
    }
}
