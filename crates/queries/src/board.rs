//! The list of queries that run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chrono::Utc;
use fk_instrument::{Kind, Registry};
use fk_promql::QueryStats;
use fk_storage::{Control, MemoryBudget};
use parking_lot::Mutex;
use serde::Serialize;

use crate::active::ActiveFile;
use crate::log_file::QueryLog;
use crate::metrics::Metrics;
use crate::past::{Past, PastQuery, Run, cut};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client of the HTTP API.
    Http {
        /// Its address, without the port.
        client: String,
        /// `GET` or `POST`.
        method: String,
        /// The path it asked for.
        path: String,
    },
    /// A rule.
    Rule {
        /// File of its group, as the configuration names it.
        file: String,
        /// Name of its group.
        group: String,
    },
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The query.
    pub text: String,
    /// First step, ms.
    pub start_ms: i64,
    /// Last step, ms.
    pub end_ms: i64,
    /// Distance of the steps, ms; 0: an instant query.
    pub step_ms: i64,
    /// Who asks.
    pub origin: Origin,
}

/// How far a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Stage {
    /// Its text is read, or it waits for a slot.
    Waiting,
    /// It is computed.
    Evaluating,
    /// Its answer is written.
    Writing,
}

/// A query that runs, for display.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningQuery {
    /// Names it while it runs.
    pub id: u64,
    /// The query, cut where it is very long.
    pub query: String,
    /// `http` or `rule`.
    pub kind: &'static str,
    /// Address of the client, or file and name of the rule group.
    pub client: String,
    /// First step, ms.
    pub start_ms: i64,
    /// Last step, ms.
    pub end_ms: i64,
    /// Distance of the steps, ms; 0: an instant query.
    pub step_ms: i64,
    /// Since when, s.
    pub age_seconds: f64,
    /// How far it is.
    pub stage: Stage,
    /// Series read so far.
    pub series: u64,
    /// Samples read so far.
    pub samples: u64,
    /// Bytes it holds.
    pub bytes: u64,
}

/// What an evaluation took.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Waiting for a slot.
    pub queued: Duration,
    /// The evaluation.
    pub took: Duration,
    /// Of that, finding series.
    pub prepare: Duration,
    /// Of that, sorting the result.
    pub sort: Duration,
    /// Samples; of one that failed nothing is known.
    pub stats: QueryStats,
}

impl Measured {
    /// The evaluation itself.
    pub fn inner_eval(&self) -> Duration {
        self.took.saturating_sub(self.prepare).saturating_sub(self.sort)
    }

    /// The times by the names they have in the API and in the query log, in its order.
    pub fn timings(&self) -> [(&'static str, Duration); 6] {
        [
            ("evalTotalTime", self.took),
            ("resultSortTime", self.sort),
            ("queryPreparationTime", self.prepare),
            ("innerEvalTime", self.inner_eval()),
            ("execQueueTime", self.queued),
            ("execTotalTime", self.queued + self.took),
        ]
    }
}

/// What is shared with everybody who looks at a query while it runs.
#[derive(Debug)]
struct Entry {
    asked: Asked,
    since: Instant,
    stage: AtomicU8,
    control: Control,
}

/// The list. One for the whole server.
#[derive(Debug)]
pub struct Board {
    running: Mutex<BTreeMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    past: Mutex<Past>,
    budget: Arc<MemoryBudget>,
    active: OnceLock<ActiveFile>,
    metrics: Metrics,
    /// The query log.
    pub log: QueryLog,
}

impl Board {
    /// An empty list. `budget` is what queries may hold in memory.
    pub fn new(budget: Arc<MemoryBudget>, registry: &Registry) -> Arc<Board> {
        let board = Arc::new(Board {
            running: Mutex::default(),
            next: AtomicU64::new(1),
            past: Mutex::default(),
            budget,
            active: OnceLock::new(),
            metrics: Metrics::new(registry),
            log: QueryLog::default(),
        });
        let shown = Arc::downgrade(&board);
        registry.collect(move |out| {
            let Some(board) = shown.upgrade() else { return };
            let mut gauge = |name, help, value: f64| out.single(name, help, Kind::Gauge, value);
            let help = "The current number of queries being executed or waiting.";
            gauge("prometheus_engine_queries", help, board.running.lock().len() as f64);
            let help = "State of the query log.";
            gauge("prometheus_engine_query_log_enabled", help, f64::from(board.log.is_on()));
            let help = "Bytes that running queries hold, as far as they are counted.";
            gauge("firekeeper_query_memory_bytes", help, board.budget.used() as f64);
            let help = "Bytes that all running queries together may hold.";
            gauge("firekeeper_query_memory_limit_bytes", help, board.budget.all_max() as f64);
        });
        board
    }

    /// What queries may hold in memory.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// For a query or several that run one after another: limited in memory, without a deadline.
    pub fn control(&self) -> Control {
        Control::within(&self.budget)
    }

    /// Keeps what runs in a file below `dir` from now on, with room for `slots` queries, and logs what an interrupted run has
    /// left there. Only the first call counts.
    pub fn track_in(&self, dir: &Path, slots: usize) {
        match ActiveFile::open(dir, slots) {
            Ok(file) => {
                // A second one would write to the same file.
                let _ = self.active.set(file);
            }
            Err(error) => {
                let dir = dir.display().to_string();
                log::error!(component = "activeQueryTracker", dir = dir.as_str(), err = error.to_string().as_str(); "running queries are not kept on disk");
            }
        }
    }

    /// A query begins, to be run under this control.
    pub fn begin(self: &Arc<Board>, asked: Asked, control: Control) -> Running {
        let id = self.next.fetch_add(1, Relaxed);
        let entry =
            Arc::new(Entry { asked, since: Instant::now(), stage: AtomicU8::new(Stage::Waiting as u8), control });
        self.running.lock().insert(id, Arc::clone(&entry));
        Running { board: Arc::clone(self), id, entry, slot: None, queued: Duration::ZERO, evaluated: None }
    }

    /// The queries that run, oldest first.
    pub fn running(&self) -> Vec<RunningQuery> {
        let entries: Vec<(u64, Arc<Entry>)> =
            self.running.lock().iter().map(|(id, entry)| (*id, Arc::clone(entry))).collect();
        entries.into_iter().map(|(id, entry)| entry.shown(id)).collect()
    }

    /// Asks a query to end. Whether there is one with this number.
    pub fn cancel(&self, id: u64) -> bool {
        let entry = self.running.lock().get(&id).cloned();
        entry.inspect(|entry| entry.control.cancel()).is_some()
    }

    /// The `n` queries of the past that ran most often.
    pub fn top_by_count(&self, n: usize) -> Vec<PastQuery> {
        self.past.lock().top(n, |past| past.count as f64)
    }

    /// The `n` queries of the past that took most time in all.
    pub fn top_by_time(&self, n: usize) -> Vec<PastQuery> {
        self.past.lock().top(n, |past| past.seconds_total)
    }

    /// The `n` queries of the past that held most memory at once.
    pub fn top_by_memory(&self, n: usize) -> Vec<PastQuery> {
        self.past.lock().top(n, |past| past.bytes_max as f64)
    }
}

impl Entry {
    fn shown(&self, id: u64) -> RunningQuery {
        let usage = self.control.usage();
        let (kind, client) = match &self.asked.origin {
            Origin::Http { client, .. } => ("http", client.clone()),
            Origin::Rule { file, group } => ("rule", format!("{file};{group}")),
        };
        RunningQuery {
            id,
            query: cut(&self.asked.text).to_owned(),
            kind,
            client,
            start_ms: self.asked.start_ms,
            end_ms: self.asked.end_ms,
            step_ms: self.asked.step_ms,
            age_seconds: self.since.elapsed().as_secs_f64(),
            stage: match self.stage.load(Relaxed) {
                0 => Stage::Waiting,
                1 => Stage::Evaluating,
                _ => Stage::Writing,
            },
            series: usage.series,
            samples: usage.samples,
            bytes: usage.bytes,
        }
    }
}

/// A query on the list. Dropping it takes it off.
#[derive(Debug)]
pub struct Running {
    board: Arc<Board>,
    id: u64,
    entry: Arc<Entry>,
    /// Its place in the file of active queries.
    slot: Option<usize>,
    queued: Duration,
    /// Samples, and whether it failed; `None`: it was not evaluated.
    evaluated: Option<(u64, bool)>,
}

impl Running {
    /// What it is run under.
    pub fn control(&self) -> &Control {
        &self.entry.control
    }

    /// What is asked.
    pub fn asked(&self) -> &Asked {
        &self.entry.asked
    }

    /// Its evaluation begins; it has waited for `queued`, or did not have to wait for a slot of its own.
    pub fn admitted(&mut self, queued: Option<Duration>) {
        if let Some(queued) = queued {
            self.board.metrics.queued(queued);
            self.queued = queued;
        }
        self.slot =
            self.board.active.get().and_then(|file| file.insert(&self.entry.asked.text, Utc::now().timestamp()));
        self.entry.stage.store(Stage::Evaluating as u8, Relaxed);
    }

    /// Its evaluation has ended after `took`: with an answer, or with an error. Counts and logs it.
    pub fn evaluated(&mut self, took: Duration, outcome: Result<&fk_promql::Answer, &str>) -> Measured {
        self.free_slot();
        self.entry.stage.store(Stage::Writing as u8, Relaxed);
        let mut measured = Measured { queued: self.queued, took, ..Measured::default() };
        if let Ok(answer) = outcome {
            measured.prepare = answer.timings.prepare;
            measured.sort = answer.timings.sort;
            measured.stats = answer.stats.clone();
        }
        self.evaluated = Some((measured.stats.samples_total, outcome.is_err()));
        self.board.metrics.evaluated(&measured);
        self.board.log.write(&self.entry.asked, &measured, outcome.err(), &self.board.metrics.log_failures);
        measured
    }

    fn free_slot(&mut self) {
        if let (Some(slot), Some(file)) = (self.slot.take(), self.board.active.get()) {
            file.remove(slot);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.free_slot();
        self.board.running.lock().remove(&self.id);
        if let Some((samples, failed)) = self.evaluated {
            let run =
                Run { took: self.entry.since.elapsed(), samples, bytes: self.entry.control.usage().bytes_peak, failed };
            self.board.past.lock().add(&self.entry.asked.text, &run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Asked {
        let origin = Origin::Http { client: "1.2.3.4".into(), method: "GET".into(), path: "/api/v1/query".into() };
        Asked { text: text.into(), start_ms: 0, end_ms: 0, step_ms: 0, origin }
    }

    fn board() -> (Arc<Board>, Registry) {
        let registry = Registry::new();
        (Board::new(MemoryBudget::new(100, 200), &registry), registry)
    }

    #[test]
    fn queries_are_listed_from_begin_to_drop() {
        let (board, registry) = board();
        let mut first = board.begin(asked("a"), board.control());
        let rule = Asked { origin: Origin::Rule { file: "f".into(), group: "g".into() }, ..asked("b") };
        let second = board.begin(rule, board.control());
        let mut memory = first.control().reserve();
        assert_eq!(memory.grow(60), Ok(()));
        first.admitted(Some(Duration::from_millis(1)));
        let shown: Vec<_> =
            board.running().into_iter().map(|q| (q.query, q.kind, q.client, q.stage, q.bytes)).collect();
        assert_eq!(
            shown,
            [
                ("a".to_owned(), "http", "1.2.3.4".to_owned(), Stage::Evaluating, 60),
                ("b".to_owned(), "rule", "f;g".to_owned(), Stage::Waiting, 0),
            ]
        );
        let text = registry.text(|_| true);
        assert!(text.contains("prometheus_engine_queries 2\n") && text.contains("firekeeper_query_memory_bytes 60\n"));
        assert!(text.contains("prometheus_engine_query_log_enabled 0\n"));
        drop(memory);
        let measured = first.evaluated(Duration::from_millis(2), Err("too bad"));
        assert_eq!((measured.queued, measured.took), (Duration::from_millis(1), Duration::from_millis(2)));
        assert_eq!(board.running()[0].stage, Stage::Writing);
        drop((first, second));
        assert!(board.running().is_empty());
        let past = board.top_by_memory(10);
        assert_eq!(past.len(), 1, "what was not evaluated is not remembered");
        assert_eq!((past[0].query.as_str(), past[0].failures, past[0].bytes_max), ("a", 1, 60));
        assert_eq!(board.top_by_count(10), board.top_by_time(10));
    }

    #[test]
    fn a_query_can_be_cancelled_by_its_number() {
        let (board, _) = board();
        let running = board.begin(asked("a"), board.control());
        let id = board.running()[0].id;
        assert!(board.cancel(id) && running.control().check().is_err());
        drop(running);
        assert!(!board.cancel(id));
    }

    #[test]
    fn what_runs_is_in_the_file_of_active_queries() {
        let dir = fk_testkit::TempDir::new("board");
        let (board, _) = board();
        board.track_in(dir.path(), 2);
        let active = || {
            let bytes = std::fs::read(dir.path().join("queries.active")).expect("readable");
            String::from_utf8(bytes.into_iter().filter(|byte| *byte != 0).collect()).expect("text")
        };
        let mut running = board.begin(asked("up"), board.control());
        assert_eq!(active(), "[");
        running.admitted(None);
        assert!(active().starts_with("[{\"query\":\"up\",\"timestamp_sec\":"));
        running.evaluated(Duration::ZERO, Err("x"));
        assert_eq!(active(), "[");
        let mut dropped = board.begin(asked("panics"), board.control());
        dropped.admitted(None);
        drop(dropped);
        assert_eq!(active(), "[");
    }
}
