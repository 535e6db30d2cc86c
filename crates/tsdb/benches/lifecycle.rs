//! What it costs to grow old: memory per series as chunks are completed and moved to files, a range streamed as for a block,
//! series removed.
//!
//! Not a statistic but one run over a large head, printed part by part: `cargo bench -p fk-tsdb --bench lifecycle`. The
//! number of series is `SERIES` (200,000). Times are processor times, which a busy machine does not change much. Half of the values stay constant, the others are counters and gauges.

use std::sync::Arc;
use std::time::Duration;

use fk_block::{SeriesChunks, SeriesStream};
use fk_model::Labels;
use fk_storage::{AppendReport, Batch, SeriesRef, TimeRange};
use fk_testkit::TempDir;
use fk_tsdb::Head;
use fk_tsdb::chunks_head::ChunkFiles;
use fk_tsdb::head::HeadOptions;
use fk_vfs::OsVfs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PER_TARGET: usize = 1000;
const START: i64 = 1_700_006_400_000;

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

fn main() {
    let n: usize = std::env::var("SERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let dir = TempDir::new("bench-lifecycle");
    let before = resident_bytes();
    let files = ChunkFiles::new(Arc::new(OsVfs), dir.path().join("chunks_head"));
    let head = Arc::new(Head::with_files(HeadOptions::default(), Some(files)));
    let sets: Vec<Vec<Labels>> =
        (0..n / PER_TARGET).map(|target| (0..PER_TARGET).map(|i| labels(target, i)).collect()).collect();
    let start = cpu_time();
    let refs: Vec<Vec<SeriesRef>> =
        sets.iter().map(|set| set.iter().map(|labels| head.resolve(labels).expect("room")).collect()).collect();
    println!("resolve of a new series:   {:>6.0} ns", (cpu_time() - start).as_nanos() as f64 / n as f64);
    let start = cpu_time();
    sets.iter().flatten().for_each(|labels| drop(head.resolve(labels)));
    println!("resolve of a known series: {:>6.0} ns", (cpu_time() - start).as_nanos() as f64 / n as f64);
    drop(sets);
    let (mut batch, mut report, mut random) = (Batch::default(), AppendReport::default(), 1u64);
    let mut now = START;
    let mut scrape = |head: &Head, refs: &[Vec<SeriesRef>], scrapes: i64| {
        let start = cpu_time();
        for scrape in 0..scrapes {
            now += 15_000;
            for (target, refs) in refs.iter().enumerate() {
                batch.clear();
                for (i, series) in refs.iter().enumerate() {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let noise = (random % 64) as f64;
                    let v = match i % 10 {
                        0..5 => 1.0,
                        5..8 => (scrape * 40 + i as i64) as f64 + noise,
                        8 => 50.0 + noise / 8.0,
                        _ => scrape as f64 * 0.15 + noise * 0.01,
                    };
                    batch.push(*series, now + target as i64 * 7, v);
                }
                head.append(&batch, &mut report, &|_| Ok(())).expect("room");
            }
        }
        ((cpu_time() - start).as_nanos() as f64 / (scrapes as usize * refs.len() * PER_TARGET) as f64, now)
    };
    for (more, what) in [(120, "120"), (600, "720")] {
        let mut spill_ns = 0;
        let mut append_ns = 0.0;
        let mut chunks = 0;
        for _ in 0..more / 20 {
            append_ns += scrape(&head, &refs, 20).0 / (more / 20) as f64;
            let start = cpu_time();
            chunks += head.spill().expect("room on the disk").chunks;
            spill_ns += (cpu_time() - start).as_nanos();
        }
        println!(
            "\nafter {what} samples: append {append_ns:.1} ns/sample without a log, spill {chunks} chunks, {:.0} ns each",
            spill_ns as f64 / chunks.max(1) as f64
        );
        let memory = head.memory();
        for part in &memory {
            println!("{:>24} {:>7.1} bytes/series", part.part, part.bytes as f64 / n as f64);
        }
        let total: usize = memory.iter().map(|part| part.bytes).sum();
        println!("{:>24} {:>7.1} bytes/series", "total", total as f64 / n as f64);
        println!(
            "{:>24} {:>7.1} bytes/series",
            "resident",
            (resident_bytes().saturating_sub(before)) as f64 / n as f64
        );
    }

    let block = TimeRange { mint: START, maxt: START + 7_200_000 - 1 };
    let start = cpu_time();
    let mut stream = head.stream(block).expect("a stream");
    let opened = cpu_time() - start;
    let bump = resident_bytes();
    let (mut series, mut found, mut bytes, mut samples) = (SeriesChunks::default(), 0, 0, 0);
    while stream.next(&mut series).expect("sound chunks") {
        found += 1;
        bytes += series.data.len();
        samples += series.chunks.iter().map(|c| c.samples as usize).sum::<usize>();
    }
    println!(
        "\nstream of two hours: opened in {opened:?} ({} KiB), {found} series, {samples} samples, {} KiB of chunks in {:?}",
        bump.saturating_sub(before) >> 10,
        bytes >> 10,
        (cpu_time() - start)
    );
    drop(stream);
    let start = cpu_time();
    let done = head.truncate(block.maxt + 1, 0).expect("a truncation");
    println!("truncation: {done:?} in {:?}", (cpu_time() - start));

    // Half of the targets go away.
    let kept = &refs[..refs.len() / 2];
    let (_, end) = scrape(&head, kept, 300);
    head.spill().expect("room on the disk");
    let start = cpu_time();
    let done = head.truncate(end - 600_000, 0).expect("a truncation");
    println!("truncation that removes half: {done:?} in {:?}", (cpu_time() - start));
    let start = cpu_time();
    let again = head.truncate(end - 500_000, 0).expect("a truncation");
    println!("and once more: {again:?} in {:?}", (cpu_time() - start));
    for part in &head.memory() {
        println!("{:>24} {:>7.1} bytes/series left", part.part, part.bytes as f64 / (n / 2) as f64);
    }
}

/// Time this thread has been running.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
