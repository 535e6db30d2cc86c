//! What it costs to turn a large head into a block: time, and memory beyond what the head had before. The whole of it, as a
//! server does it: block, truncation of the head, checkpoint of the log.
//!
//! Not a statistic but one run, printed step by step: `cargo bench -p fk-tsdb --bench cut`. `SERIES` series (a million) of
//! `SAMPLES` samples (100) within two hours; half of the values stay constant, the others are counters and gauges. Times are
//! processor times of all threads, which a busy machine does not change much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fk_model::Labels;
use fk_storage::{AppendReport, Appender, Batch, Control, SeriesRef};
use fk_testkit::TempDir;
use fk_tsdb::{Db, DbOptions, Now};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PER_TARGET: usize = 1000;

/// A multiple of the length of a block.
const START: i64 = 1_700_006_400_000;

const HOUR: i64 = 3_600_000;

/// How often the memory is looked at while a step runs.
const LOOK: Duration = Duration::from_millis(2);

/// Steps of maintenance after which something is wrong.
const STEPS_MAX: usize = 100;

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

/// A line of `/proc/self/status`, KiB.
fn memory_kib(of: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0)
}

/// Processor time of the process so far, seconds.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks() + ticks()) / 100.0
}

/// A number of the environment.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn fill(db: &Db, series: usize, samples: usize) {
    let refs: Vec<Vec<SeriesRef>> = (0..series / PER_TARGET)
        .map(|target| (0..PER_TARGET).map(|i| db.resolve(&labels(target, i)).expect("room")).collect())
        .collect();
    let (mut batch, mut report, mut random) = (Batch::default(), AppendReport::default(), 1u64);
    let interval = 2 * HOUR / samples as i64;
    for scrape in 0..samples as i64 {
        for (target, refs) in refs.iter().enumerate() {
            batch.clear();
            for (i, series) in refs.iter().enumerate() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let noise = (random % 64) as f64;
                let v = match i % 10 {
                    0..5 => 1.0,
                    5..8 => (scrape * 40 + i as i64) as f64 + noise,
                    8 => 50.0 + noise / 8.0,
                    _ => scrape as f64 * 0.15 + noise * 0.01,
                };
                batch.push(*series, START + scrape * interval + target as i64 % 1000 * 7, v);
            }
            db.append(&batch, &mut report).expect("room");
        }
        db.spill().expect("room on the disk");
    }
    // The head gives away what is older than half a block's length.
    batch.clear();
    batch.push(refs[0][0], START + 3 * HOUR + 60_000, 1.0);
    db.append(&batch, &mut report).expect("room");
    db.sync().expect("room on the disk");
}

fn main() {
    let (series, samples) = (number("SERIES", 1_000_000), number("SAMPLES", 100));
    let dir = TempDir::new("bench-cut");
    let now = Now { wall_ms: START + 3 * HOUR + 120_000, steady_ms: 1 };
    let mut options = DbOptions::new(dir.path());
    options.now = Some(now);
    let db = Db::open(options, &|_| {}).expect("opens");
    fill(&db, series, samples);
    let idle = memory_kib("RssAnon");
    println!("a head of {} samples of {series} series: {} MiB", series * samples, idle / 1024);

    let (highest, done) = (Arc::new(AtomicU64::new(idle)), Arc::new(AtomicBool::new(false)));
    let watcher = {
        let (highest, done) = (Arc::clone(&highest), Arc::clone(&done));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(memory_kib("RssAnon"), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        })
    };
    let mut above_idle = 0;
    for step in 0..STEPS_MAX {
        highest.store(memory_kib("RssAnon"), Ordering::Relaxed);
        let (began, processor) = (Instant::now(), processor_s());
        let maintained = db.maintain(now, &Control::new()).expect("maintained");
        above_idle = above_idle.max(highest.load(Ordering::Relaxed).saturating_sub(idle));
        println!(
            "step {step}: {:.2} s of processor time, {:.2} s; {:+.1} MiB at most, {:+.1} MiB afterwards; {maintained:?}",
            processor_s() - processor,
            began.elapsed().as_secs_f64(),
            (highest.load(Ordering::Relaxed) as f64 - idle as f64) / 1024.0,
            (memory_kib("RssAnon") as f64 - idle as f64) / 1024.0,
        );
        if !maintained.more {
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    watcher.join().expect("the watcher ends");
    for block in db.open_blocks().iter() {
        let stats = &block.meta().stats;
        println!(
            "block: {} samples, {} series, {} chunks; {:.3} bytes a sample",
            stats.num_samples,
            stats.num_series,
            stats.num_chunks,
            block.size_bytes() as f64 / stats.num_samples as f64
        );
    }
    println!(
        "memory above idle: {:.1} MiB, {:.1} %",
        above_idle as f64 / 1024.0,
        above_idle as f64 * 100.0 / idle as f64
    );
}
