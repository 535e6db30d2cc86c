//! A life of a storage in small.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use fk_model::{Histogram, Labels, MatchKind, Matcher, Span};
use fk_storage::{AppendReport, Appender, Batch, BatchHistogram, Control, HistogramValue, StorageError, TimeRange};
use fk_tsdb::{Db, DbError, DbOptions, Now, Retention, TsdbConfig};
use fk_vfs::sim::{Fault, SimVfs};
use fk_wal::WalOptions;

use crate::model::{Appended, Deleted, Log, SERIES, Told, series};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A multiple of all block ranges.
pub const START: i64 = 1_699_920_000_000;

/// Between two batches.
const INTERVAL: i64 = 10 * MINUTE;

/// Samples older than this may go.
const RETENTION: i64 = 14 * HOUR;

/// Series whose samples are histograms.
const HISTOGRAM: usize = SERIES - 1;

/// Calls of maintenance in a row.
const MAINTAIN_MAX: usize = 20;

/// The data directory.
pub fn dir() -> &'static Path {
    Path::new("/data")
}

pub fn options(vfs: &SimVfs, now_ms: i64) -> DbOptions {
    DbOptions {
        min_block_ms: 2 * HOUR,
        max_block_ms: 6 * HOUR,
        wal: WalOptions { segment_bytes: 3_000, reserve: true, ..WalOptions::default() },
        config: TsdbConfig {
            retention: Retention { time_ms: RETENTION, ..Retention::default() },
            out_of_order_window_ms: HOUR,
            ..TsdbConfig::default()
        },
        compaction_bytes_per_s: 0,
        now: Some(now(now_ms)),
        vfs: Arc::new(vfs.clone()),
        ..DbOptions::new(dir())
    }
}

/// Opens the directory at a time.
pub fn open(vfs: &SimVfs, now_ms: i64) -> Result<Db, DbError> {
    Db::open(options(vfs, now_ms), &|_| {})
}

fn now(wall_ms: i64) -> Now {
    Now { wall_ms, steady_ms: wall_ms - START }
}

/// A script at work.
pub struct Script {
    vfs: SimVfs,
    told: Arc<Mutex<Told>>,
    series: Arc<[Labels]>,
    /// Whether calls may fail.
    faults: bool,
    step: i64,
    /// A fault that a new process meets as well.
    pub lasting: Option<(u64, Fault)>,
    pub db: Option<Db>,
}

impl Script {
    pub fn new(vfs: &SimVfs, told: &Arc<Mutex<Told>>, faults: bool) -> Script {
        Script { vfs: vfs.clone(), told: Arc::clone(told), series: series(), faults, step: 0, lasting: None, db: None }
    }

    /// Everything: a day of a small server.
    pub fn run(&mut self, steps: i64) {
        self.open();
        for _ in 0..steps {
            self.step();
        }
    }

    /// What time it is.
    fn now_ms(&self) -> i64 {
        START + self.step * INTERVAL
    }

    fn step(&mut self) {
        self.step += 1;
        let t = self.now_ms();
        {
            let mut told = self.told.lock();
            told.now_ms = t;
            told.retained_from = t - RETENTION;
        }
        self.append(Log::Wal, &[0, 1, 2, 3, 4, 5], t);
        match self.step % 12 {
            2 => self.append_histogram(t),
            3 => self.append(Log::Wbl, &[1, 2, 4], t - 25 * MINUTE - 1),
            4 => self.append(Log::Wal, &[6], t + 1),
            7 => self.append(Log::Wbl, &[2], t - 45 * MINUTE - 1),
            _ => {}
        }
        if self.step % 3 == 0 {
            self.sync();
        }
        if self.step % 4 == 0 {
            self.maintain();
        }
        match self.step {
            17 => self.close(),
            29 => self.delete(1, TimeRange { mint: START + HOUR, maxt: START + 3 * HOUR }),
            33 => self.delete(3, TimeRange { mint: t - HOUR, maxt: t + HOUR }),
            41 => self.kill(),
            50 => self.clean_tombstones(),
            _ => {}
        }
    }

    /// Starts the storage; afterwards everything that was acknowledged is there.
    pub fn open(&mut self) {
        match open(&self.vfs, self.now_ms()) {
            Ok(db) => self.db = Some(db),
            Err(error) if self.faults => log_fault(&error),
            Err(error) => panic!("step {}: {error}", self.step),
        }
    }

    /// An orderly end and a new start.
    fn close(&mut self) {
        let batches = self.told.lock().batches.len();
        if let Some(db) = self.db.take() {
            let closed = db.close();
            if self.accept(closed) {
                self.told.lock().synced(batches);
            }
            drop(db);
            // A storage that could not close properly ends with its process.
            if self.faults {
                self.end_process();
            }
        }
        self.open();
    }

    /// The process dies and a new one starts.
    pub fn kill(&mut self) {
        if let Some(db) = self.db.take() {
            self.end_process();
            drop(db);
        }
        self.open();
    }

    fn end_process(&self) {
        self.vfs.kill();
        if let Some((first, fault)) = self.lasting {
            self.vfs.inject(first, u64::MAX, fault);
        }
    }

    pub fn sync(&mut self) {
        let Some(db) = &self.db else { return };
        let batches = self.told.lock().batches.len();
        let synced = db.sync();
        if self.accept(synced) {
            self.told.lock().synced(batches);
        }
    }

    pub fn append(&mut self, log: Log, numbers: &[usize], t: i64) {
        let samples = numbers.iter().map(|i| ((*i, t), value(*i, t).to_bits())).collect();
        self.append_with(log, samples, |batch, db, series| {
            for i in numbers {
                batch.push(db.resolve(&series[*i])?, t, value(*i, t));
            }
            Ok(())
        });
    }

    fn append_histogram(&mut self, t: i64) {
        let count = (t / INTERVAL) as u64 % 1000;
        let h = Histogram {
            schema: 1,
            count,
            sum: count as f64 * 0.5,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![count as i64],
            ..Histogram::default()
        };
        let samples = vec![((HISTOGRAM, t), h.sum.to_bits())];
        self.append_with(Log::Wal, samples, |batch, db, series| {
            let series = db.resolve(&series[HISTOGRAM])?;
            batch.histograms.push(BatchHistogram { series, t, start: 0, h: HistogramValue::Int(Arc::new(h)) });
            Ok(())
        });
    }

    fn append_with(
        &mut self,
        log: Log,
        samples: Vec<((usize, i64), u64)>,
        fill: impl FnOnce(&mut Batch, &Db, &[Labels]) -> Result<(), StorageError>,
    ) {
        let Some(db) = &self.db else { return };
        let (mut batch, mut report) = (Batch::default(), AppendReport::default());
        // Noted before it is tried: it may be cut off half way.
        let at = {
            let mut told = self.told.lock();
            told.batches.push(Appended { log, samples, acknowledged: false, synced: false });
            told.batches.len() - 1
        };
        let appended = fill(&mut batch, db, &self.series).and_then(|()| db.append(&batch, &mut report));
        if !self.accept(appended) {
            return;
        }
        let mut told = self.told.lock();
        if !batch.histograms.is_empty() && report.accepted == 0 {
            told.batches[at].samples.clear();
        } else {
            assert_eq!((report.rejected.as_slice(), report.rejected_histograms.as_slice()), (&[][..], &[][..]));
        }
        told.batches[at].acknowledged = true;
    }

    fn maintain(&mut self) {
        let now = now(self.now_ms());
        let Some(db) = &self.db else { return };
        for _ in 0..MAINTAIN_MAX {
            match db.maintain(now, &Control::new()) {
                Ok(done) if done.more => {}
                Ok(_) | Err(StorageError::Unsupported(_)) => return,
                Err(error) if self.faults => return log_fault(&error),
                Err(error) => panic!("step {}: {error}", self.step),
            }
        }
        assert!(self.faults, "step {}: maintenance has no end", self.step);
    }

    fn delete(&mut self, number: usize, range: TimeRange) {
        let Some(db) = &self.db else { return };
        let at = {
            let mut told = self.told.lock();
            let after = told.batches.len();
            told.deletions.push(Deleted { series: number, range, after, acknowledged: false });
            told.deletions.len() - 1
        };
        let i = Matcher::new(MatchKind::Equal, "i", number.to_string()).expect("a matcher");
        let deleted = db.delete(range, &[vec![i]], false, &Control::new());
        if matches!(deleted, Err(StorageError::Unsupported(_))) {
            self.told.lock().deletions.pop();
        } else if self.accept(deleted) {
            self.told.lock().deletions[at].acknowledged = true;
        }
    }

    fn clean_tombstones(&mut self) {
        let Some(db) = &self.db else { return };
        match db.clean_tombstones(now(self.now_ms()), &Control::new()) {
            Err(StorageError::Unsupported(_)) => {}
            cleaned => drop(self.accept(cleaned)),
        }
    }

    /// Whether a call succeeded; only with faults about it may fail.
    fn accept<T>(&self, result: Result<T, StorageError>) -> bool {
        match result {
            Ok(_) => true,
            Err(error) if self.faults => {
                log_fault(&error);
                false
            }
            Err(error) => panic!("step {}: {error}", self.step),
        }
    }
}

/// Failures are part of the sweep; with `FIREKEEPER_SWEEP_TRACE` they are shown.
fn log_fault(error: &dyn std::fmt::Display) {
    if std::env::var_os("FIREKEEPER_SWEEP_TRACE").is_some() {
        eprintln!("fault: {error}");
    }
}

/// The value of series `i` at `t`: constant, counting, or anything.
fn value(i: usize, t: i64) -> f64 {
    match i % 4 {
        0 => 1.0,
        1 => ((t - START) / 1000) as f64 + i as f64,
        2 => (t as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as f64 / 3.0,
        _ => (t / MINUTE % 7) as f64,
    }
}
