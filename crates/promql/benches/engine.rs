//! What a query costs per series and step. The storage is flat columns that are copied out, so the numbers are those of
//! the engine, apart from about a nanosecond per sample for the copy.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fk_model::{Labels, Matcher};
use fk_promql::{Query, QueryOptions, evaluate};
use fk_promql_syntax::{ParserOptions, parse};
use fk_storage::{Control, Newest, Queryable, Samples, SelectParams, SeriesSet, StorageError, TimeRange};

/// Distance of samples, ms.
const INTERVAL_MS: i64 = 15_000;

/// Samples per series: two hours.
const SAMPLES: i64 = 480;

/// Steps of the range queries.
const STEPS: i64 = 120;

#[derive(Clone)]
struct Columns(Arc<Vec<(Labels, Samples)>>);

struct Selected(Columns, Vec<usize>);

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.1.len()
    }

    fn labels(&self, idx: usize) -> Labels {
        self.0.0[self.1[idx]].0.clone()
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        out.clear();
        let samples = &self.0.0[self.1[idx]].1;
        let from = samples.t.partition_point(|t| *t < range.mint);
        let to = samples.t.partition_point(|t| *t <= range.maxt);
        out.t.extend_from_slice(&samples.t[from..to]);
        out.v.extend_from_slice(&samples.v[from..to]);
        Ok(())
    }

    fn last(&self, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        let samples = &self.0.0[self.1[idx]].1;
        let at = samples.t.partition_point(|t| *t <= range.maxt).checked_sub(1);
        Ok(at.filter(|at| samples.t[*at] >= range.mint).map(|at| Newest {
            t: samples.t[at],
            v: samples.v[at],
            h: None,
        }))
    }
}

impl Queryable for Columns {
    fn select(&self, _: &SelectParams, matchers: &[Matcher], _: &Control) -> Result<Box<dyn SeriesSet>, StorageError> {
        let matching = (0..self.0.len()).filter(|at| Matcher::all_match(matchers, &self.0[*at].0)).collect();
        Ok(Box::new(Selected(self.clone(), matching)))
    }

    fn label_values(&self, _: &str, _: TimeRange, _: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("label values"))
    }

    fn label_names(&self, _: TimeRange, _: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("label names"))
    }
}

/// `series` counters over 100 instances, and as many gauges with the same labels.
fn storage(series: usize) -> Columns {
    let mut all = Vec::new();
    for at in 0..series {
        let (instance, path) = (format!("host-{}:9100", at % 100), format!("/api/v1/path-{}", at / 100));
        for name in ["requests_total", "limit"] {
            let labels =
                [("__name__", name), ("instance", &instance), ("job", "api"), ("path", &path), ("zone", "eu-west-1a")];
            let value =
                |i: i64| if name == "limit" { 1000.0 + (i % 7) as f64 } else { (i * (1 + at as i64 % 13)) as f64 };
            let samples = Samples {
                t: (0..SAMPLES).map(|i| i * INTERVAL_MS).collect(),
                v: (0..SAMPLES).map(value).collect(),
                ..Samples::default()
            };
            all.push((Labels::from_pairs(labels), samples));
        }
    }
    Columns(Arc::new(all))
}

fn queries(c: &mut Criterion) {
    let series = 2_000;
    let storage = storage(series);
    let options = QueryOptions { threads_max: 1, ..QueryOptions::default() };
    let control = Control::new();
    let end_ms = (SAMPLES - 1) * INTERVAL_MS;
    let step_ms = end_ms / STEPS;
    let mut group = c.benchmark_group("query");
    group.sample_size(20);
    for (name, text, range) in [
        ("instant_count", "count by (instance) (requests_total)", false),
        ("selector", "sum(limit)", true),
        ("sum_rate", "sum by (instance) (rate(requests_total[5m]))", true),
        ("rate", "rate(requests_total[5m])", true),
        ("avg_over_time", "sum(avg_over_time(limit[5m]))", true),
        ("max_over_time_1h", "sum(max_over_time(limit[1h]))", true),
        ("sum_over_time_1h", "sum(sum_over_time(limit[1h]))", true),
        ("stddev_over_time_1h", "sum(stddev_over_time(limit[1h]))", true),
        ("predict_linear_1h", "sum(predict_linear(requests_total[1h], 3600))", true),
        ("topk", "topk(10, rate(requests_total[5m]))", true),
        ("join", "sum(requests_total / limit)", true),
        ("join_on", "sum(requests_total * on (instance, path) group_left limit)", true),
        ("and", "sum(requests_total and limit)", true),
    ] {
        let expr = parse(text, &ParserOptions::all()).expect("valid");
        let (start_ms, step_ms) = if range { (end_ms - STEPS * step_ms, step_ms) } else { (end_ms, 0) };
        let points = series as u64 * if range { STEPS as u64 + 1 } else { 1 };
        group.throughput(Throughput::Elements(points));
        let query = Query { expr: &expr, text, start_ms, end_ms, step_ms, options: &options, control: &control };
        group.bench_function(name, |b| b.iter(|| black_box(evaluate(&storage, &query).expect("evaluates"))));
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
