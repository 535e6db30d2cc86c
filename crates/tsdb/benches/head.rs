//! What a sample and a series cost: append with the log, select and decode, replay, memory.
//!
//! The load: 200 targets with 1000 series each, eight labels, one batch per target and scrape, 15 s apart. Of the values
//! half stay constant, three tenths are counters, one tenth gauges of few binary digits, one tenth decimal fractions.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use fk_model::{Labels, MatchKind, Matcher};
use fk_storage::{AppendReport, Appender, Batch, Control, Queryable, Samples, SelectParams, SeriesRef, TimeRange};
use fk_testkit::TempDir;
use fk_tsdb::{Db, DbOptions};

const TARGETS: usize = 200;
const SERIES_PER_TARGET: usize = 1000;
const START: i64 = 1_700_000_000_000;
const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

struct Load {
    db: Db,
    refs: Vec<Vec<SeriesRef>>,
    batch: Batch,
    report: AppendReport,
    scrapes: i64,
    random: u64,
}

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

impl Load {
    fn new(path: &Path) -> Load {
        let db = Db::open(DbOptions::new(path), &|_| {}).unwrap();
        let resolve = |target| (0..SERIES_PER_TARGET).map(|i| db.resolve(&labels(target, i)).unwrap()).collect();
        let refs = (0..TARGETS).map(resolve).collect();
        Load { db, refs, batch: Batch::default(), report: AppendReport::default(), scrapes: 0, random: 1 }
    }

    /// One scrape of every target. Returns the processor time of the appends, which a busy machine does not change.
    fn scrape(&mut self) -> Duration {
        self.scrapes += 1;
        let mut spent = Duration::ZERO;
        for (target, refs) in self.refs.iter().enumerate() {
            self.batch.clear();
            let t = START + self.scrapes * 15_000 + target as i64 * 7;
            for (i, series) in refs.iter().enumerate() {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let noise = (self.random % 64) as f64;
                let v = match i % 10 {
                    0..5 => 1.0,
                    5..8 => (self.scrapes * 40 + i as i64) as f64 + noise,
                    8 => 50.0 + noise / 8.0,
                    _ => self.scrapes as f64 * 0.15 + noise * 0.01,
                };
                self.batch.push(*series, t, v);
            }
            let start = cpu_time();
            self.db.append(&self.batch, &mut self.report).unwrap();
            spent += cpu_time() - start;
            assert_eq!(self.report.rejected, []);
        }
        spent
    }
}

fn benches(c: &mut Criterion) {
    let dir = TempDir::new("bench-head");
    let mut load = Load::new(dir.path());
    for _ in 0..120 {
        load.scrape();
    }
    let series = (TARGETS * SERIES_PER_TARGET) as u64;
    let memory = load.db.memory();
    for part in &memory {
        println!("memory: {:>18} {:>7.1} bytes/series", part.part, part.bytes as f64 / series as f64);
    }
    let total: usize = memory.iter().map(|p| p.bytes).sum();
    println!("memory: {:>18} {:>7.1} bytes/series at {} samples", "total", total as f64 / series as f64, load.scrapes);
    if let Some(resident) = resident_bytes() {
        println!("memory: {:>18} {:>7.1} bytes/series", "resident", resident as f64 / series as f64);
    }

    let mut group = c.benchmark_group("head");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(series));
    group.bench_function("append+log, batches of 1000", |b| {
        b.iter_custom(|n| (0..n).map(|_| load.scrape()).sum());
    });

    let params = SelectParams { range: ALL, sorted: false, limit: 0 };
    let matchers = [Matcher::equal("__name__", "metric_57_total")];
    let mut samples = Samples::default();
    let db = &load.db;
    group.throughput(Throughput::Elements(2000 * load.scrapes as u64));
    group.bench_function("select+decode, 2000 series", |b| {
        b.iter(|| {
            let set = db.select(&params, &matchers, &Control::new()).unwrap();
            assert_eq!(set.len(), 2000);
            for idx in 0..set.len() {
                set.read(idx, ALL, &mut samples).unwrap();
                black_box(&samples);
            }
        });
    });
    let mut select = |name: &str, matchers: &[Matcher], sorted: bool| {
        let params = SelectParams { range: ALL, sorted, limit: 0 };
        let len = db.select(&params, matchers, &Control::new()).unwrap().len();
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function(format!("{name}, {len} series, last sample"), |b| {
            b.iter(|| {
                let set = db.select(&params, matchers, &Control::new()).unwrap();
                let lasts = (0..set.len()).filter_map(|idx| set.last(idx, ALL).unwrap());
                black_box(lasts.fold(0.0, |sum, newest| sum + newest.v))
            });
        });
    };
    let regex = |name: &str, value: &str| Matcher::new(MatchKind::Regex, name, value).unwrap();
    select("one name", &matchers, false);
    select("one name, sorted", &matchers, true);
    select("everything", &[], false);
    select("everything, sorted", &[], true);
    select("expression", &[Matcher::equal("job", "job-3"), regex("__name__", "metric_.*7_total")], false);
    group.finish();

    load.db.close().unwrap();
    let (n, path) = (load.scrapes as u64 * series, load.db.path().to_owned());
    drop(load);
    let start = cpu_time();
    let db = Arc::new(Db::open(DbOptions::new(&path), &|_| {}).unwrap());
    let spent = cpu_time() - start;
    let resolve = Instant::now();
    for target in 0..20 {
        for i in 0..SERIES_PER_TARGET {
            black_box(db.resolve(&labels(target, i)).unwrap());
        }
    }
    println!("resolve of a known series, labels built: {:.0} ns", resolve.elapsed().as_nanos() as f64 / 20_000.0);
    println!("replay: {n} samples in {spent:?}: {:.1} ns/sample", spent.as_nanos() as f64 / n as f64);
}

/// Time this thread has been running.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

criterion_group!(all, benches);
criterion_main!(all);
