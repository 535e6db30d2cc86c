//! What queries of native histograms cost per series and step.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fk_model::{CounterReset, FloatHistogram, Labels, Span};
use fk_promql::{Query, QueryOptions, evaluate};
use fk_promql_syntax::{ParserOptions, parse};
use fk_storage::Control;
use fk_testkit::MemoryStorage;

/// Distance of samples, ms.
const INTERVAL_MS: i64 = 15_000;

/// Samples per series: half an hour.
const SAMPLES: i64 = 120;

/// Buckets of a histogram, in two spans.
const BUCKETS: usize = 24;

const SERIES: usize = 200;

/// Steps of the range queries, a minute apart.
const STEPS: i64 = 20;

/// Counters that never fall, of ten jobs.
fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new();
    for at in 0..SERIES {
        let labels = Labels::from_pairs([
            ("__name__", "latency".to_owned()),
            ("job", format!("job-{}", at % 10)),
            ("instance", format!("host-{at}")),
        ]);
        for i in 0..SAMPLES {
            let buckets: Vec<f64> = (0..BUCKETS).map(|b| (i as usize * (1 + (at + b) % 7)) as f64).collect();
            let h = FloatHistogram {
                counter_reset: if i == 0 { CounterReset::Unknown } else { CounterReset::NotReset },
                schema: 3,
                count: buckets.iter().sum(),
                sum: i as f64,
                positive_spans: vec![
                    Span { offset: -8, length: BUCKETS as u32 / 2 },
                    Span { offset: 2, length: BUCKETS as u32 / 2 },
                ],
                positive_buckets: buckets,
                ..FloatHistogram::default()
            };
            storage.add_histogram(&labels, i * INTERVAL_MS, h);
        }
    }
    storage
}

fn queries(c: &mut Criterion) {
    let storage = storage();
    let options = QueryOptions { threads_max: 1, ..QueryOptions::default() };
    let control = Control::new();
    let (end_ms, step_ms) = ((SAMPLES - 1) * INTERVAL_MS, 60_000);
    let start_ms = end_ms - STEPS * step_ms;
    let mut group = c.benchmark_group("histograms");
    group.sample_size(10);
    group.throughput(Throughput::Elements(SERIES as u64 * (STEPS as u64 + 1)));
    for (name, text) in [
        ("selector", "latency"),
        ("count", "histogram_count(latency)"),
        ("quantile", "histogram_quantile(0.9, latency)"),
        ("sum", "sum by (job) (latency)"),
        ("rate", "rate(latency[5m])"),
        ("count_of_rate", "histogram_count(rate(latency[5m]))"),
        ("quantile_of_sum_of_rate", "histogram_quantile(0.9, sum by (job) (rate(latency[5m])))"),
        ("avg_over_time", "avg_over_time(latency[5m])"),
    ] {
        let expr = parse(text, &ParserOptions::all()).expect("valid");
        let query = Query { expr: &expr, text, start_ms, end_ms, step_ms, options: &options, control: &control };
        group.bench_function(name, |b| b.iter(|| black_box(evaluate(&storage, &query).expect("evaluates"))));
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
