//! Blocks: writing, opening, finding and reading series.

mod shared;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fk_block::{Block, BlockSpec, BlockStream, BlockWriter, Compaction, Ulid};
use fk_model::{MatchKind, Matcher};
use fk_storage::{Control, Queryable, Samples, SelectParams, TimeRange};
use fk_testkit::TempDir;
use fk_vfs::OsVfs;
use shared::Made;

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

fn write(dir: &Path, n: u128, stream: &mut dyn fk_block::SeriesStream) -> Block {
    let ulid = Ulid::new(1, n);
    let spec = BlockSpec { ulid, min_time: 0, max_time: 7_200_000, compaction: Compaction::default() };
    let _ = std::fs::remove_dir_all(dir.join(ulid.to_string()));
    BlockWriter::new(&OsVfs, dir).write(&spec, stream, &mut |_| Ok(())).expect("written");
    Block::open(Arc::new(OsVfs), &dir.join(ulid.to_string())).expect("open")
}

fn matcher(kind: MatchKind, name: &str, value: &str) -> Matcher {
    Matcher::new(kind, name, value).expect("a sound expression")
}

fn blocks(c: &mut Criterion) {
    let dir = TempDir::new("bench-block");
    let mut group = c.benchmark_group("block");
    group.sample_size(10);

    // 50 000 series of 10 labels with 480 samples each: what 2 h of scrapes every 15 s leave.
    let (series, samples) = (50_000, 480);
    group.throughput(Throughput::Elements((series * samples) as u64));
    group.bench_function("write, samples of 50 000 series", |b| {
        b.iter(|| write(dir.path(), 1, &mut Made::new(series, samples, 0)));
    });
    let small = write(dir.path(), 1, &mut Made::new(series, samples, 0));
    group.bench_function("stream into a new block, samples of 50 000 series", |b| {
        b.iter(|| write(dir.path(), 2, &mut BlockStream::new(&small).expect("stream")));
    });
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    let control = Control::new();
    group.bench_function("select and decode, samples of 50 000 series", |b| {
        let mut out = Samples::default();
        b.iter(|| {
            let set = small.select(&params, &[], &control).expect("select");
            for idx in 0..set.len() {
                set.read(idx, ALL, &mut out).expect("read");
                black_box(&out);
            }
        });
    });
    group.throughput(Throughput::Elements(series as u64));
    group.bench_function("labels of 50 000 series", |b| {
        let set = small.select(&params, &[], &control).expect("select");
        b.iter(|| (0..set.len()).for_each(|idx| drop(black_box(set.labels(idx)))));
    });

    let million = write(dir.path(), 3, &mut Made::new(1_000_000, 2, 0));
    let index_bytes = million.index().size_bytes();
    println!("1 million series: index of {index_bytes} bytes, {} bytes in memory", million.index().memory_bytes());
    group.throughput(Throughput::Elements(1_000_000));
    group.bench_function("open, 1 million series", |b| {
        b.iter(|| Block::open(Arc::new(OsVfs), million.dir()).expect("open"));
    });
    for (what, matchers) in [
        ("one series of a million", vec![matcher(MatchKind::Equal, "instance", "host-00500000:9100")]),
        (
            "intersection 1 M and 100 000",
            vec![matcher(MatchKind::Equal, "env", "production"), matcher(MatchKind::Equal, "job", "job-3")],
        ),
        (
            "intersection 10 000 and 100 000",
            vec![
                matcher(MatchKind::Equal, "__name__", "metric_42_seconds_total"),
                matcher(MatchKind::Equal, "job", "job-3"),
            ],
        ),
        ("union of three jobs", vec![matcher(MatchKind::Regex, "job", "job-[135]")]),
        ("regex over 1 million values, prefix", vec![matcher(MatchKind::Regex, "instance", "host-0042.*")]),
        ("regex over 1 million values, suffix", vec![matcher(MatchKind::Regex, "instance", ".*7:9100")]),
        (
            "regex over 1 million values, inner digits",
            vec![matcher(MatchKind::Regex, "instance", "host-\\d+9[13]7:.*")],
        ),
        (
            "regex over 1 million values, 10 000 candidates",
            vec![
                matcher(MatchKind::Equal, "__name__", "metric_42_seconds_total"),
                matcher(MatchKind::Regex, "instance", "host-\\d+9[13]7:.*"),
            ],
        ),
        ("negative regex over 1 million values", vec![matcher(MatchKind::NotRegex, "instance", "host-\\d+9[13]7:.*")]),
    ] {
        let n = million.search(&matchers, &control).expect("search").len();
        println!("{what}: {n} series");
        group.bench_function(what, |b| b.iter(|| million.search(&matchers, &control).expect("search")));
    }
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
