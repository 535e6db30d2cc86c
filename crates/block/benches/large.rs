//! A compaction of 100 million samples of a million series: time, and memory beyond what the process had before.
//!
//! Not a statistic: one run, printed. `cargo bench -p fk-block --bench large`.

mod shared;

use std::path::Path;
use std::sync::Arc;

use fk_block::{Block, BlockSpec, BlockStream, BlockWriter, Compaction, MergeStream, SeriesStream, Ulid};
use fk_testkit::TempDir;
use fk_vfs::OsVfs;
use shared::Made;

const SERIES: usize = 1_000_000;
const SAMPLES: usize = 50;

/// A line of `/proc/self/status`, MiB.
fn memory_mib(of: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Processor time of this thread so far, seconds: what else the machine does has no part in it.
fn processor_s() -> f64 {
    let times = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    times.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

fn write(dir: &Path, n: u128, stream: &mut dyn SeriesStream) -> Block {
    let ulid = Ulid::new(1, n);
    let spec = BlockSpec { ulid, min_time: 0, max_time: 7_200_000, compaction: Compaction::default() };
    let (start, mut written) = (processor_s(), 0);
    let mut anonymous_max = 0;
    let mut pace = |bytes| {
        written += bytes;
        anonymous_max = anonymous_max.max(memory_mib("RssAnon"));
        Ok(())
    };
    let idle = memory_mib("RssAnon");
    let meta = BlockWriter::new(&OsVfs, dir).write(&spec, stream, &mut pace).expect("written").expect("samples");
    let stats = meta.stats;
    println!(
        "block {n}: {} series, {} chunks, {} samples in {:.2} s of processor time, {} MiB written; {} MiB of memory above {idle} MiB",
        stats.num_series,
        stats.num_chunks,
        stats.num_samples,
        processor_s() - start,
        written >> 20,
        anonymous_max.saturating_sub(idle),
    );
    Block::open(Arc::new(OsVfs), &dir.join(ulid.to_string())).expect("open")
}

fn main() {
    let dir = TempDir::new("bench-large");
    let first = write(dir.path(), 1, &mut Made::new(SERIES, SAMPLES, 0));
    let second = write(dir.path(), 2, &mut Made::new(SERIES, SAMPLES, SAMPLES as i64 * 15_000));
    let streams = [&first, &second].map(|block| {
        let stream: Box<dyn SeriesStream> = Box::new(BlockStream::new(block).expect("stream"));
        stream
    });
    write(dir.path(), 3, &mut MergeStream::new(Vec::from(streams)));
    // Overlapping by half: every chunk is decoded and encoded anew.
    let third = write(dir.path(), 4, &mut Made::new(SERIES, SAMPLES, SAMPLES as i64 * 7_500));
    let streams = [&first, &third].map(|block| {
        let stream: Box<dyn SeriesStream> = Box::new(BlockStream::new(block).expect("stream"));
        stream
    });
    write(dir.path(), 5, &mut MergeStream::new(Vec::from(streams)));
}
