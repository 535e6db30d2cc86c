//! What a start costs: out of the log, per sample; and out of an image of the head, which an orderly end has written.
//!
//! By default a log is made with 200 targets of 500 series and 60 samples each. `FK_START_DIR` names a data directory to be
//! opened instead, which then is one that nobody else needs: a start repairs and continues the log.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fk_model::Labels;
use fk_storage::{AppendReport, Appender, Batch};
use fk_testkit::TempDir;
use fk_tsdb::{Db, DbOptions};

const TARGETS: usize = 200;
const SERIES_PER_TARGET: usize = 500;
const SCRAPES: i64 = 60;
const START: i64 = 1_700_000_000_000;

/// Starts measured.
const STARTS: usize = 3;

fn labels(target: usize, series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", series / 10)),
        ("instance", format!("10.0.{}.{}:9100", target / 250, target % 250)),
        ("job", format!("job-{}", target % 10)),
        ("env", "production".to_owned()),
        ("region", format!("region-{}", target % 4)),
        ("method", ["GET", "POST", "PUT", "DELETE", "HEAD"][series % 5].to_owned()),
        ("code", ["200", "500"][series / 5 % 2].to_owned()),
        ("handler", format!("/api/v1/handler/{}", series / 100)),
    ])
}

/// A log as scrapes make it. The directory is left as a killed process leaves it.
fn fill(dir: &Path) {
    let db = Db::open(DbOptions::new(dir), &|_| {}).unwrap();
    let mut batch = Batch::default();
    let mut report = AppendReport::default();
    for scrape in 0..SCRAPES {
        for target in 0..TARGETS {
            batch.clear();
            for i in 0..SERIES_PER_TARGET {
                let series = db.resolve(&labels(target, i)).unwrap();
                let v = match i % 10 {
                    0..5 => 1.0,
                    5..9 => (scrape * 40 + i as i64) as f64,
                    _ => (scrape as f64).sqrt(),
                };
                batch.push(series, START + scrape * 15_000 + target as i64 * 7, v);
            }
            db.append(&batch, &mut report).unwrap();
            assert_eq!(report.rejected, []);
        }
    }
    db.sync().unwrap();
}

fn start(dir: &Path) -> Db {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let db = Db::open(DbOptions::new(dir), &|_| {}).unwrap();
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let replayed = db.replayed();
    let (series, samples) = (db.head_status().series, replayed.samples);
    println!(
        "start: {wall:.3} s, {cpu:.3} s of processors; {series} series, {samples} samples replayed: {:.1} ns of processors each",
        cpu * 1e9 / samples.max(1) as f64,
    );
    db
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let given = std::env::var_os("FK_START_DIR").map(PathBuf::from);
    let made = TempDir::new("bench-start");
    let dir = given.as_deref().unwrap_or(made.path());
    if given.is_none() {
        fill(dir);
    }
    for _ in 0..STARTS {
        drop(start(dir));
    }
    let db = start(dir);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    db.close().unwrap();
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!("close with an image: {wall:.3} s, {cpu:.3} s of processors");
    drop(db);
    for _ in 0..STARTS {
        drop(start(dir));
    }
}
