//! The whole way of a scrape but the network: from a body to samples that are logged and can be read.
//!
//! A fleet of 200 targets with 1000 series each is scraped in turn, so that what belongs to a target has left the caches when
//! its turn comes, as in a server. Beside it what nothing can be faster than: looking for the ends of the lines of the bodies,
//! and copying them. Times are those of the thread, without what the kernel does for others.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fk_config::ScrapeConfig;
use fk_model::{Labels, TargetGroup};
use fk_scrape::{Fetched, ScrapeLoop, Scratch, TargetSet};
use fk_testkit::TempDir;
use fk_tsdb::{Db, DbOptions};

const TARGETS: usize = 200;
const SERIES: usize = 1000;
const INTERVAL_MS: i64 = 5_000;

/// CPU time of this thread: other jobs of the machine do not count.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("Linux counts the time of threads"))
}

struct Fleet {
    db: Db,
    loops: Vec<ScrapeLoop>,
    scratch: Scratch,
    rounds: i64,
    random: u64,
}

impl Fleet {
    fn new(dir: &TempDir) -> Fleet {
        let db = Db::open(DbOptions::new(dir.path()), &|_| {}).expect("an empty directory opens");
        let job = Arc::new(ScrapeConfig::new("bench"));
        let targets = (0..TARGETS).map(|i| Labels::from_pairs([("__address__", format!("host-{i}:9100"))])).collect();
        let group = TargetGroup { source: "0".to_owned(), labels: Labels::empty(), targets };
        let set = TargetSet::from_groups(&job, &[group]);
        let loops = set.active.iter().map(|target| ScrapeLoop::new(Arc::clone(target), Arc::clone(&job))).collect();
        Fleet { db, loops, scratch: Scratch::default(), rounds: 0, random: 88_172_645_463_325_252 }
    }

    /// What a target answers: constants, integers that grow, and decimals.
    fn body(&mut self, out: &mut String) {
        out.clear();
        for series in 0..SERIES {
            let (family, member) = (series / 20, series % 20);
            if member == 0 {
                let _ = writeln!(out, "# HELP app_metric_{family}_total What was counted.");
                let _ = writeln!(out, "# TYPE app_metric_{family}_total counter");
            }
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let noise = self.random % 64;
            let _ =
                write!(out, "app_metric_{family}_total{{code=\"200\",handler=\"/api/v1/{member}\",method=\"GET\"}} ");
            let _ = match series % 10 {
                0..3 => writeln!(out, "{series}"),
                3..8 => writeln!(out, "{}", self.rounds as u64 * 400 + noise),
                _ => writeln!(out, "{}", self.rounds as f64 * 0.15 + noise as f64 * 0.01),
            };
        }
    }

    /// Scrapes all targets once. Returns the time spent from bodies to samples.
    fn round(&mut self, body: &mut String) -> Duration {
        self.rounds += 1;
        let ts_ms = self.rounds * INTERVAL_MS;
        let mut spent = Duration::ZERO;
        for at in 0..self.loops.len() {
            self.body(body);
            let fetched = Fetched::Body { body: body.as_bytes(), content_type: "text/plain" };
            let start = cpu_time();
            let outcome = self.loops[at].ingest(fetched, ts_ms, || 0.0, &mut self.scratch, &self.db);
            spent += cpu_time() - start;
            assert!(outcome.up && outcome.storage_error.is_none(), "{outcome:?}");
        }
        spent
    }
}

fn ingest(c: &mut Criterion) {
    let dir = TempDir::new("bench-ingest");
    let mut fleet = Fleet::new(&dir);
    let mut body = String::new();
    for _ in 0..3 {
        fleet.round(&mut body);
    }
    let mut group = c.benchmark_group("ingest");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements((TARGETS * SERIES) as u64));
    group.bench_function("from body to committed sample", |b| {
        b.iter_custom(|n| (0..n).map(|_| fleet.round(&mut body)).sum());
    });
    fleet.body(&mut body);
    let bodies = vec![body.clone().into_bytes(); TARGETS];
    group.bench_function("limit: ends of lines", |b| {
        b.iter(|| bodies.iter().map(|body| memchr::memchr_iter(b'\n', black_box(body)).count()).sum::<usize>());
    });
    let mut copy = vec![0; body.len()];
    group.bench_function("limit: copy of the body", |b| {
        b.iter(|| {
            for body in &bodies {
                copy.copy_from_slice(black_box(body));
                black_box(&copy);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
