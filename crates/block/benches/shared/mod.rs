//! Made-up series for the benches, as a stream that holds none of them.

use std::collections::BTreeSet;

use fk_block::{SeriesChunks, SeriesStream};
use fk_chunk::Encoding;
use fk_chunk::xor::XorChunk;
use fk_model::Labels;
use fk_storage::StorageError;

/// Series with these labels, in order: `__name__` (one of 100), `instance` (each its own), `job` (one of 10) and seven
/// more that most series share.
pub struct Made {
    pub series: usize,
    pub next: usize,
    /// The chunks of every series, encoded.
    chunks: Vec<((i64, i64), u32, Vec<u8>)>,
}

impl Made {
    /// So many series, each with so many samples from `start_ms` on, one every 15 s, 120 in a chunk.
    pub fn new(series: usize, samples: usize, start_ms: i64) -> Made {
        let times: Vec<i64> = (0..samples as i64).map(|i| start_ms + i * 15_000).collect();
        let chunks = times.chunks(120).map(|times| {
            let mut chunk = XorChunk::new();
            for t in times {
                chunk.push(*t, (t / 15_000 % 997) as f64 * 0.25);
            }
            ((times[0], times[times.len() - 1]), times.len() as u32, chunk.bytes().to_vec())
        });
        Made { series, next: 0, chunks: chunks.collect() }
    }

    fn per_name(&self) -> usize {
        self.series.div_ceil(100)
    }
}

impl SeriesStream for Made {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        if self.next == self.series {
            return Ok(false);
        }
        let n = self.next;
        self.next += 1;
        out.clear();
        let name = format!("metric_{:02}_seconds_total", n / self.per_name());
        let (instance, job) = (format!("host-{n:08}:9100"), format!("job-{}", n % 10));
        out.labels = Labels::from_sorted([
            ("__name__", name.as_str()),
            ("cluster", "eu-west-1"),
            ("code", "200"),
            ("env", "production"),
            ("handler", "/api/v1/query"),
            ("instance", instance.as_str()),
            ("job", job.as_str()),
            ("method", "GET"),
            ("namespace", "monitoring"),
            ("zone", "a"),
        ]);
        for (times, samples, bytes) in &self.chunks {
            out.push(*times, Encoding::Xor, *samples, bytes);
        }
        Ok(true)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let names = (0..100).map(|n| format!("metric_{n:02}_seconds_total"));
        let mut others: BTreeSet<String> = names.chain((0..10).map(|n| format!("job-{n}"))).collect();
        for fixed in ["__name__", "cluster", "eu-west-1", "code", "200", "env", "production", "handler", "instance"] {
            others.insert(fixed.to_owned());
        }
        for fixed in ["/api/v1/query", "job", "method", "GET", "namespace", "monitoring", "zone", "a"] {
            others.insert(fixed.to_owned());
        }
        // The instances all stand in one place among the others.
        let hosts = "host-".to_owned();
        others.range(..hosts.clone()).try_for_each(|text| each(text))?;
        (0..self.series).try_for_each(|n| each(&format!("host-{n:08}:9100")))?;
        others.range(hosts..).try_for_each(|text| each(text))
    }
}
