//! Cost of a scrape without network and storage, per body of 10,000 samples.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fk_config::ScrapeConfig;
use fk_model::{Labels, TargetGroup};
use fk_scrape::{Fetched, ScrapeLoop, Scratch, TargetSet};
use fk_storage::{AppendReport, Appender, Batch, SeriesRef, StorageError};

const FAMILIES: usize = 100;
const SERIES_PER_FAMILY: usize = 100;

/// Takes everything and keeps nothing.
#[derive(Default)]
struct NullStorage(AtomicU64);

impl Appender for NullStorage {
    fn resolve(&self, _: &Labels) -> Result<SeriesRef, StorageError> {
        Ok(SeriesRef(self.0.fetch_add(1, Ordering::Relaxed)))
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        report.accepted = black_box(&batch.samples).len();
        Ok(())
    }
}

fn body(round: usize, without: Option<usize>) -> String {
    let mut body = String::new();
    for family in 0..FAMILIES {
        writeln!(body, "# HELP app_metric_{family}_total What was counted.\n# TYPE app_metric_{family}_total counter")
            .unwrap();
        for series in 0..SERIES_PER_FAMILY {
            let number = family * SERIES_PER_FAMILY + series;
            if Some(number) == without {
                continue;
            }
            let value = number as f64 * 0.25 + round as f64;
            let (code, path) = (200 + series % 5, series / 5);
            writeln!(
                body,
                "app_metric_{family}_total{{code=\"{code}\",handler=\"/api/v1/resource/{path}\",method=\"GET\"}} {value}"
            )
            .unwrap();
        }
    }
    body
}

fn new_loop() -> ScrapeLoop {
    let job = ScrapeConfig::new("bench");
    let targets = vec![Labels::from_pairs([("__address__", "host:9100")])];
    let group = TargetGroup { source: "0".to_owned(), labels: Labels::empty(), targets };
    let target = Arc::clone(&TargetSet::from_groups(&job, &[group]).active[0]);
    ScrapeLoop::new(target, Arc::new(job))
}

fn scrapes(c: &mut Criterion) {
    let storage = NullStorage::default();
    let mut scratch = Scratch::default();
    let bodies = [body(0, None), body(1, None)];
    let mut group = c.benchmark_group("scrape");
    group.throughput(Throughput::Elements((FAMILIES * SERIES_PER_FAMILY) as u64));
    let mut ts_ms = 0;
    let mut ingest = |scrape_loop: &mut ScrapeLoop, body: &str| {
        ts_ms += 15_000;
        let fetched = Fetched::Body { body: body.as_bytes(), content_type: "text/plain" };
        let outcome = scrape_loop.ingest(fetched, ts_ms, || 0.0, &mut scratch, &storage);
        assert!(outcome.up);
    };
    let mut scrape_loop = new_loop();
    let mut round = 0;
    group.bench_function("same layout, other values", |b| {
        b.iter(|| {
            round += 1;
            ingest(&mut scrape_loop, &bodies[round % 2]);
        });
    });
    let changing = [body(0, Some(10)), body(0, Some(5000))];
    group.bench_function("one series gone, another back", |b| {
        b.iter(|| {
            round += 1;
            ingest(&mut scrape_loop, &changing[round % 2]);
        });
    });
    group.bench_function("first scrape", |b| {
        b.iter(|| ingest(&mut new_loop(), &bodies[0]));
    });
    group.finish();
}

criterion_group!(benches, scrapes);
criterion_main!(benches);
