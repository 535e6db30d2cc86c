//! What a sample costs in the log: encoding, encoding and logging, replay. With `TMPDIR` in memory this is the processor's
//! share; on a disk, the log's own syncs come on top, because a benchmark logs faster than any disk writes.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use fk_storage::{BatchSample, SeriesRef};
use fk_testkit::TempDir;
use fk_vfs::OsVfs;
use fk_wal::record::{Record, encode_samples};
use fk_wal::{Compression, Wal, WalOptions, replay};

/// Samples of one scrape.
const BATCH: usize = 1000;

/// Batches in the log that is replayed.
const BATCHES: usize = 1000;

/// One scrape: neighbouring series, one time, half of the values whole numbers and half fractions.
fn batch(t: i64) -> Vec<BatchSample> {
    let value = |i: usize| if i.is_multiple_of(2) { (i * 7) as f64 + t as f64 } else { (i as f64 + t as f64).sqrt() };
    (0..BATCH)
        .map(|i| BatchSample { series: SeriesRef(70_000 + i as u64), t: 1_700_000_000_000 + t, v: value(i) })
        .collect()
}

fn encode(c: &mut Criterion) {
    let samples = batch(1);
    let mut out = Vec::new();
    let mut group = c.benchmark_group("wal");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            encode_samples(black_box(&samples), &mut out);
        });
    });
    group.bench_function("decode", |b| {
        b.iter(|| {
            let Ok(Record::Samples(record)) = Record::decode(black_box(&out)) else { unreachable!("encoded above") };
            record.iter().map(|s| s.t).fold(0, i64::wrapping_add)
        });
    });
    group.finish();
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal");
    group.throughput(Throughput::Elements(BATCH as u64));
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let dir = TempDir::new("bench-wal");
        let options = WalOptions { compression, ..WalOptions::default() };
        let wal = Wal::open(Arc::new(OsVfs), dir.path(), options).expect("open");
        let (mut t, mut out, samples) = (0, Vec::new(), batch(1));
        group.bench_function(BenchmarkId::new("encode and log", format!("{compression:?}")), |b| {
            b.iter(|| {
                t += 15_000;
                out.clear();
                encode_samples(&samples, &mut out);
                wal.log(&[&out]).expect("log");
                // The disk space of a long run stays bounded.
                if t % 15_000_000 == 0 {
                    wal.truncate_before(wal.stats().segment).expect("truncate");
                }
            });
        });
        drop(wal);

        let dir = TempDir::new("bench-wal-replay");
        let wal = Wal::open(Arc::new(OsVfs), dir.path(), options).expect("open");
        for t in 0..BATCHES {
            out.clear();
            encode_samples(&batch(t as i64 * 15_000), &mut out);
            wal.log(&[&out]).expect("log");
        }
        group.throughput(Throughput::Elements((BATCH * BATCHES) as u64));
        group.sample_size(20);
        group.bench_function(BenchmarkId::new("replay", format!("{compression:?}")), |b| {
            b.iter(|| {
                let mut sum = 0i64;
                replay::<Infallible>(&OsVfs, dir.path(), &mut |_, record| {
                    if let Record::Samples(record) = record {
                        sum = record.iter().map(|s| s.t).fold(sum, i64::wrapping_add);
                    }
                    Ok(())
                })
                .expect("replay");
                sum
            });
        });
        group.throughput(Throughput::Elements(BATCH as u64));
    }
    group.finish();
}

criterion_group!(benches, encode, log);
criterion_main!(benches);
