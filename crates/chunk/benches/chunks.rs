//! What a sample costs in each encoding, to write and to read. Chunks have 120 samples of one of these series:
//!
//! - constant: the same value at a steady rhythm
//! - counter: whole numbers that rise, at a steady rhythm
//! - jitter: the same a few milliseconds early or late
//! - gauge: fractions that wander, at a steady rhythm
//! - noise: random bits
//!
//! Histograms have 20 buckets in use, of which some rise with each sample.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use fk_chunk::histogram::{FloatHistogramWriter, HistogramWriter, Kind, Pushed, Writer};
use fk_chunk::xor::{self, XorState};
use fk_chunk::xor2::Xor2Writer;
use fk_chunk::{Encoding, decode_range};
use fk_model::{Histogram, Span};
use fk_storage::Samples;

const SAMPLES: usize = 120;

/// Chunks of one series, so that branches are not learnt by heart.
const CHUNKS: usize = 64;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn series(name: &str) -> Vec<Vec<(i64, f64)>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut t, mut v) = (1_700_000_000_000i64, 1000.0f64);
    let mut sample = || {
        t += 15_000;
        match name {
            "constant" => {}
            "counter" | "jitter" => v += (random.next() % 50) as f64,
            "gauge" => v += (random.next() % 1000) as f64 / 1000.0 - 0.5,
            _ => v = f64::from_bits(random.next()),
        }
        let late = if name == "jitter" { random.next() as i64 % 8 } else { 0 };
        (t + late, v)
    };
    (0..CHUNKS).map(|_| (0..SAMPLES).map(|_| sample()).collect()).collect()
}

const SERIES: [&str; 5] = ["constant", "counter", "jitter", "gauge", "noise"];

fn encode_xor(samples: &[(i64, f64)], buffer: &mut [u8]) -> usize {
    let mut state = XorState::start(buffer, samples[0], samples[1]);
    for &(t, v) in &samples[2..] {
        let encoded = state.encode(t, v);
        state.write(buffer, &encoded);
    }
    xor::set_count(buffer, state.count);
    usize::from(state.len)
}

fn encode_xor2(samples: &[(i64, f64)]) -> Xor2Writer {
    let mut writer = Xor2Writer::new();
    for &(t, v) in samples {
        writer.push(1_700_000_000_000, t, v);
    }
    writer
}

fn floats(c: &mut Criterion) {
    let mut buffer = vec![0; 4096];
    let mut samples = Samples::default();
    for name in SERIES {
        let series = series(name);
        let mut group = c.benchmark_group("floats");
        group.throughput(Throughput::Elements((SAMPLES * CHUNKS) as u64));
        group.bench_function(BenchmarkId::new("XOR encode", name), |b| {
            b.iter(|| series.iter().map(|chunk| encode_xor(black_box(chunk), &mut buffer)).sum::<usize>());
        });
        group.bench_function(BenchmarkId::new("XOR2 encode", name), |b| {
            b.iter(|| series.iter().map(|chunk| encode_xor2(black_box(chunk)).bytes().len()).sum::<usize>());
        });
        let chunks: Vec<(Encoding, Vec<Vec<u8>>)> = vec![
            (
                Encoding::Xor,
                series
                    .iter()
                    .map(|chunk| {
                        let len = encode_xor(chunk, &mut buffer);
                        buffer[..len].to_vec()
                    })
                    .collect(),
            ),
            (Encoding::Xor2, series.iter().map(|chunk| encode_xor2(chunk).into_bytes()).collect()),
        ];
        for (encoding, chunks) in chunks {
            let bytes: usize = chunks.iter().map(Vec::len).sum();
            println!("{} {name}: {:.2} bytes/sample", encoding.name(), bytes as f64 / (SAMPLES * CHUNKS) as f64);
            group.bench_function(BenchmarkId::new(format!("{} decode", encoding.name()), name), |b| {
                b.iter(|| {
                    for chunk in &chunks {
                        samples.clear();
                        decode_range(encoding, black_box(chunk), usize::MAX, i64::MIN, i64::MAX, &mut samples)
                            .expect("a chunk");
                    }
                    samples.len()
                });
            });
        }
        group.finish();
    }
}

fn histograms() -> Vec<Histogram> {
    let mut random = Random(7);
    let mut counts = [0i64; 20];
    let mut h = Histogram {
        schema: 3,
        zero_threshold: 2f64.powi(-128),
        positive_spans: vec![Span { offset: -12, length: 13 }, Span { offset: 4, length: 7 }],
        custom_values: Arc::default(),
        ..Histogram::default()
    };
    let mut next = || {
        for _ in 0..6 {
            counts[(random.next() % 20) as usize] += (random.next() % 30) as i64;
        }
        let mut before = 0;
        h.positive_buckets = counts.iter().map(|count| count - std::mem::replace(&mut before, *count)).collect();
        h.count = counts.iter().sum::<i64>() as u64;
        h.sum += (random.next() % 1000) as f64 / 100.0;
        h.clone()
    };
    (0..SAMPLES).map(|_| next()).collect()
}

fn encode<K: Kind>(histograms: &[K::Histogram]) -> Writer<K> {
    let mut t = 1_700_000_000_000;
    let mut writer = Writer::<K>::begin(false, None, 0, t, &histograms[0]).expect("sound");
    for h in &histograms[1..] {
        t += 15_000;
        assert!(matches!(writer.push(0, t, h), Ok(Pushed::Appended)), "counters that rise");
    }
    writer
}

fn native(c: &mut Criterion) {
    let ints = histograms();
    let floats: Vec<_> = ints.iter().map(Histogram::to_float).collect();
    let mut group = c.benchmark_group("histograms of 20 buckets");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("integer encode", |b| b.iter(|| encode::<fk_chunk::histogram::Int>(black_box(&ints)).count()));
    group.bench_function("float encode", |b| {
        b.iter(|| encode::<fk_chunk::histogram::Float>(black_box(&floats)).count())
    });
    let int: HistogramWriter = encode(&ints);
    let float: FloatHistogramWriter = encode(&floats);
    for (encoding, bytes) in [(int.encoding(), int.bytes()), (float.encoding(), float.bytes())] {
        println!("{}: {:.1} bytes/sample", encoding.name(), bytes.len() as f64 / SAMPLES as f64);
        let mut samples = Samples::default();
        group.bench_function(format!("{} decode", encoding.name()), |b| {
            b.iter(|| {
                samples.clear();
                decode_range(encoding, black_box(bytes), usize::MAX, i64::MIN, i64::MAX, &mut samples)
                    .expect("a chunk");
                samples.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, floats, native);
criterion_main!(benches);
