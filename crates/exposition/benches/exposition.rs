//! Reading bodies of every format: bytes a second, beside a mere search for line breaks in the same body.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fk_exposition::{EntryKind, ExposedExemplar, MediaType, ReadOptions, reader};

const FAMILIES: usize = 100;
const SERIES_PER_FAMILY: usize = 100;

fn text(open_metrics: bool) -> Vec<u8> {
    let mut body = String::new();
    for family in 0..FAMILIES {
        let suffix = if open_metrics { "" } else { "_total" };
        writeln!(
            body,
            "# HELP app_metric_{family}{suffix} What was counted.\n# TYPE app_metric_{family}{suffix} counter"
        )
        .unwrap();
        for series in 0..SERIES_PER_FAMILY {
            let (code, path, value) = (200 + series % 5, series / 5, (family * series) as f64 * 0.25);
            let labels = format!("{{code=\"{code}\",handler=\"/api/v1/resource/{path}\",method=\"GET\"}}");
            writeln!(body, "app_metric_{family}_total{labels} {value}").unwrap();
        }
    }
    if open_metrics {
        body.push_str("# EOF\n");
    }
    body.into_bytes()
}

/// Classic histograms of eleven buckets each.
fn histograms() -> Vec<u8> {
    let mut body = "# TYPE latency histogram\n".to_owned();
    for path in 0..FAMILIES * SERIES_PER_FAMILY / 13 {
        for bucket in 1..=10 {
            writeln!(body, "latency_bucket{{path=\"/{path}\",le=\"{bucket}\"}} {}", bucket * 7).unwrap();
        }
        writeln!(body, "latency_bucket{{path=\"/{path}\",le=\"+Inf\"}} 80\nlatency_sum{{path=\"/{path}\"}} 1.5\nlatency_count{{path=\"/{path}\"}} 80").unwrap();
    }
    body.into_bytes()
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn message(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(&mut out, content.len());
    out.extend_from_slice(content);
    out
}

fn label(name: &str, value: &str) -> Vec<u8> {
    message(1, &[message(1, name.as_bytes()), message(2, value.as_bytes())].concat())
}

fn delimited(name: &str, kind: u8, metrics: &[u8]) -> Vec<u8> {
    let content = [message(1, name.as_bytes()), vec![3 << 3, kind], metrics.to_vec()].concat();
    let mut out = Vec::new();
    varint(&mut out, content.len());
    out.extend(content);
    out
}

/// The counters of [`text`].
fn protobuf() -> Vec<u8> {
    let family = |family: usize| {
        let metrics: Vec<u8> = (0..SERIES_PER_FAMILY)
            .flat_map(|series| {
                let (code, path) = (200 + series % 5, series / 5);
                let value = [&[1 << 3 | 1], (series as f64).to_le_bytes().as_slice()].concat();
                let labels = [
                    label("code", &code.to_string()),
                    label("handler", &format!("/api/v1/resource/{path}")),
                    label("method", "GET"),
                ];
                message(4, &[labels.concat(), message(3, &value)].concat())
            })
            .collect();
        delimited(&format!("app_metric_{family}_total"), 0, &metrics)
    };
    (0..FAMILIES).flat_map(family).collect()
}

/// Native histograms of forty buckets.
fn native() -> Vec<u8> {
    let span = message(12, &[1 << 3, 2, 2 << 3, 40]);
    let deltas: Vec<u8> = (0..40).map(|at| at % 3).collect();
    let sum = [&[2 << 3 | 1], 1.5f64.to_le_bytes().as_slice()].concat();
    let content = [vec![1 << 3, 100], sum, vec![5 << 3, 6], span, message(13, &deltas)].concat();
    let metric = |path: usize| message(4, &[label("path", &format!("/{path}")), message(7, &content)].concat());
    delimited("latency", 4, &(0..FAMILIES * 10).flat_map(metric).collect::<Vec<u8>>())
}

/// Reads all of a body as somebody would who knows all series; how many samples there are.
fn read(body: &[u8], media_type: MediaType, options: ReadOptions) -> u64 {
    let mut reader = reader(body, media_type, options);
    let mut exemplar = ExposedExemplar::default();
    let mut samples = 0;
    while let Some(kind) = reader.next().unwrap() {
        if matches!(kind, EntryKind::Sample | EntryKind::Histogram) {
            samples += 1;
            black_box((reader.series(), reader.value(), reader.timestamp()));
            black_box((reader.take_histogram(), reader.next_exemplar(&mut exemplar), reader.start_ms()));
        }
    }
    samples
}

fn bodies(criterion: &mut Criterion) {
    let plain = ReadOptions::default();
    let convert = ReadOptions { convert_classic_histograms: true, ..plain };
    let bodies = [
        ("text", text(false), MediaType::Text, plain),
        ("openmetrics", text(true), MediaType::OpenMetrics, plain),
        ("protobuf", protobuf(), MediaType::Protobuf, plain),
        ("protobuf native histograms", native(), MediaType::Protobuf, plain),
        ("text, classic histograms converted", histograms(), MediaType::Text, convert),
    ];
    for (name, body, media_type, options) in bodies {
        let samples = read(&body, media_type, options);
        let mut group = criterion.benchmark_group(format!("{name}, {samples} samples"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("read", |bencher| bencher.iter(|| read(black_box(&body), media_type, options)));
        let breaks = |body: &[u8]| memchr::memchr_iter(b'\n', body).count();
        group.bench_function("line breaks", |bencher| bencher.iter(|| breaks(black_box(&body))));
        group.finish();
    }
}

criterion_group!(benches, bodies);
criterion_main!(benches);
