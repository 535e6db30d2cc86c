//! How much memory a query over many series takes beside the data: it is to be less than 64 MiB for six hours of 200,000
//! series at steps of 15 s. Prints what the query has counted itself, and by how much the memory of the process grew
//! (Linux only; memory that files are mapped to is not counted, since the system can take it back).
//!
//! `FIREKEEPER_BENCH_SERIES` and `FIREKEEPER_BENCH_INTERVAL_S` change the number of series and the distance of their samples,
//! which are 200,000 and 15 s; making the data takes minutes and 3 GB of disk.

#[path = "../tests/memory/load.rs"]
mod load;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fk_testkit::TempDir;

fn main() {
    let setting = |name: &str, default: i64| {
        std::env::var(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")))
    };
    let series = setting("FIREKEEPER_BENCH_SERIES", 200_000) as usize;
    let interval_s = setting("FIREKEEPER_BENCH_INTERVAL_S", 15);
    let dir = TempDir::new("query-memory");
    let began = Instant::now();
    let db = load::fill(dir.path(), series, interval_s * 1000, &|percent| {
        if percent % 20 == 0 {
            eprintln!("{percent} % of the data after {:.0} s", began.elapsed().as_secs_f64());
        }
    });
    for run in 1..=4 {
        let before = anonymous_bytes();
        let (peak, done) = (AtomicU64::new(before), AtomicBool::new(false));
        let (took, usage) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let began = worked();
            let (answer, control) = load::ask(&db, 64 << 20);
            let took = worked().saturating_sub(began);
            done.store(true, Ordering::Relaxed);
            drop(answer);
            (took, control.usage())
        });
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "run {run}: {} series, {} samples: {:.1} MiB counted by the query, {:.1} MiB more in the process, {:.2} s of work",
            usage.series,
            usage.samples,
            mib(usage.bytes_peak),
            mib(peak.into_inner().saturating_sub(before)),
            took.as_secs_f64(),
        );
    }
}

/// How long all threads of this process have worked so far, in steps of 10 ms.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 14th and 15th field; the name in front may contain spaces.
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Memory of this process that is not that of files.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}
