//! Samples of a time range to a block: series are encoded while they come in, so that what is kept in memory is what the block
//! will have on disk.
//!
//! Samples of a series may come in any order. Those in order go straight into chunks; the others wait and are merged in at
//! the end. (DIFFERENCE: Prometheus drops them or ends with an error, depending on how far away they are.) Of samples of the same
//! time the first one stays.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use fk_block::{Block, BlockSpec, BlockWriter, Compaction, SeriesChunks, SeriesStream, Ulid};
use fk_chunk::Encoding;
use fk_chunk::xor::{self, XorChunk};
use fk_model::Labels;
use fk_storage::StorageError;
use fk_tsdb::head::{CHUNK_BYTES_MAX, chunk_end};
use fk_vfs::Vfs;

use crate::Result;

/// Samples of a chunk, as the head of Prometheus has it.
const SAMPLES_PER_CHUNK: u32 = 120;

/// The time range of the smallest blocks, ms.
const BLOCK_MS: i64 = 2 * 60 * 60 * 1000;

/// The time range of the blocks that imports make: the largest step of Prometheus' ten steps of compaction that `wanted_ms`
/// allows, at least two hours.
pub fn block_ms(wanted_ms: i64) -> i64 {
    (0..10).map(|step| BLOCK_MS * 3i64.pow(step)).take_while(|range| *range <= wanted_ms).last().unwrap_or(BLOCK_MS)
}

/// The start of the aligned range that `t` lies in.
pub fn block_start(t: i64, range_ms: i64) -> i64 {
    range_ms * t.div_euclid(range_ms)
}

/// The samples of one block to be.
#[derive(Debug)]
pub struct BlockBuilder {
    /// The time that a head would have for its chunks, ms: as with Prometheus' imports twice the block.
    chunks_ms: i64,
    series: HashMap<Labels, Series>,
    times: Option<(i64, i64)>,
}

/// The samples of one series.
#[derive(Debug, Default)]
struct Series {
    /// Full chunks: first time, last time, samples, bytes.
    full: Vec<Full>,
    open: Option<Open>,
    /// When the open chunk should end.
    next_cut: i64,
    /// Samples that came too late, in the order they came.
    late: Vec<(i64, f64)>,
}

#[derive(Debug)]
struct Full {
    times: (i64, i64),
    samples: u32,
    bytes: Box<[u8]>,
}

#[derive(Debug)]
struct Open {
    chunk: XorChunk,
    times: (i64, i64),
    samples: u32,
}

impl Series {
    /// Chunks end where those of a head would, so that they are about equally full and blocks as small.
    fn push(&mut self, t: i64, v: f64, chunks_ms: i64) {
        let range_end = t.div_euclid(chunks_ms).wrapping_mul(chunks_ms).wrapping_add(chunks_ms);
        let open = match &mut self.open {
            Some(open) if t <= open.times.1 => return self.late.push((t, v)),
            Some(open) => open,
            None => {
                self.next_cut = range_end;
                self.open.insert(Open { chunk: XorChunk::new(), times: (t, t), samples: 0 })
            }
        };
        if open.samples == SAMPLES_PER_CHUNK / 4 {
            self.next_cut = chunk_end(open.times.0, open.times.1, self.next_cut, 4.0);
        }
        if open.samples > 0
            && (t >= self.next_cut
                || open.samples >= SAMPLES_PER_CHUNK * 2
                || open.chunk.bytes().len() > CHUNK_BYTES_MAX)
        {
            self.full.push(Full { times: open.times, samples: open.samples, bytes: open.chunk.bytes().into() });
            *open = Open { chunk: XorChunk::new(), times: (t, t), samples: 0 };
            self.next_cut = range_end;
        }
        open.chunk.push(t, v);
        open.times.1 = t;
        open.samples += 1;
    }

    /// Puts late samples where they belong.
    fn settle(self, chunks_ms: i64) -> std::result::Result<Series, StorageError> {
        if self.late.is_empty() {
            return Ok(self);
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        let open = self.open.iter().map(|open| open.chunk.bytes());
        for bytes in self.full.iter().map(|full| &*full.bytes).chain(open) {
            xor::decode(bytes, &mut times, &mut values).map_err(|error| StorageError::Corrupt {
                path: "memory".to_owned(),
                offset: 0,
                reason: error.to_string(),
            })?;
        }
        let mut samples: Vec<(i64, f64)> = times.into_iter().zip(values).chain(self.late).collect();
        // Stable: of samples of the same time the first one that came stays.
        samples.sort_by_key(|(t, _)| *t);
        samples.dedup_by_key(|(t, _)| *t);
        let mut settled = Series::default();
        for (t, v) in samples {
            settled.push(t, v, chunks_ms);
        }
        Ok(settled)
    }
}

impl BlockBuilder {
    /// For a block of `range_ms`.
    pub fn new(range_ms: i64) -> BlockBuilder {
        BlockBuilder { chunks_ms: range_ms.saturating_mul(2).max(1), series: HashMap::new(), times: None }
    }

    /// Adds a sample.
    pub fn push(&mut self, labels: &Labels, t: i64, v: f64) {
        let (min, max) = self.times.unwrap_or((t, t));
        self.times = Some((min.min(t), max.max(t)));
        match self.series.get_mut(labels) {
            Some(series) => series.push(t, v, self.chunks_ms),
            None => {
                let mut series = Series::default();
                series.push(t, v, self.chunks_ms);
                self.series.insert(labels.clone(), series);
            }
        }
    }

    /// Writes the block into `dir`; `None` if there was no sample. Its times are those of its samples.
    pub fn write(self, vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<Option<Block>> {
        let Some((min_time, max_time)) = self.times else { return Ok(None) };
        let ulid = Ulid::generate(fk_vfs::wall_clock_ms().unsigned_abs());
        let spec = BlockSpec {
            ulid,
            min_time,
            max_time: max_time.saturating_add(1),
            compaction: Compaction { level: 1, sources: vec![ulid], ..Compaction::default() },
        };
        let mut stream = Sorted::new(self);
        let written = BlockWriter::new(&**vfs, dir).write(&spec, &mut stream, &mut |_| Ok(()))?;
        match written {
            Some(_) => Ok(Some(Block::open(Arc::clone(vfs), &dir.join(ulid.to_string()))?)),
            None => Ok(None),
        }
    }
}

/// The series of a builder in order of labels.
struct Sorted {
    series: std::vec::IntoIter<(Labels, Series)>,
    chunks_ms: i64,
    symbols: Vec<String>,
}

impl Sorted {
    fn new(BlockBuilder { series, chunks_ms, .. }: BlockBuilder) -> Sorted {
        let symbols: BTreeSet<&str> =
            series.keys().flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value])).collect();
        let symbols = symbols.into_iter().map(str::to_owned).collect();
        let mut series: Vec<(Labels, Series)> = series.into_iter().collect();
        series.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Sorted { series: series.into_iter(), chunks_ms, symbols }
    }
}

impl SeriesStream for Sorted {
    fn next(&mut self, out: &mut SeriesChunks) -> std::result::Result<bool, StorageError> {
        out.clear();
        let Some((labels, series)) = self.series.next() else { return Ok(false) };
        let series = series.settle(self.chunks_ms)?;
        out.labels = labels;
        for full in &series.full {
            out.push(full.times, Encoding::Xor, full.samples, &full.bytes);
        }
        if let Some(open) = &series.open {
            out.push(open.times, Encoding::Xor, open.samples, open.chunk.bytes());
        }
        Ok(true)
    }

    fn symbols(
        &self,
        each: &mut dyn FnMut(&str) -> std::result::Result<(), StorageError>,
    ) -> std::result::Result<(), StorageError> {
        self.symbols.iter().try_for_each(|symbol| each(symbol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_ranges_are_steps_of_three() {
        const HOUR: i64 = 3_600_000;
        for (wanted, range) in [(0, 2), (1, 2), (2, 2), (5, 2), (6, 6), (2048, 1458), (200_000, 39_366)] {
            assert_eq!(block_ms(wanted * HOUR), range * HOUR, "{wanted}");
        }
        assert_eq!((block_start(-1, 10), block_start(19, 10)), (-10, 10));
    }

    #[test]
    fn samples_may_come_in_any_order() {
        let mut series = Series::default();
        for t in (0..500).rev().chain(0..500) {
            series.push(t, t as f64, 8000);
        }
        let settled = series.settle(8000).unwrap();
        let (mut t, mut v) = (Vec::new(), Vec::new());
        let open = settled.open.iter().map(|open| (open.chunk.bytes(), open.samples));
        for (bytes, samples) in settled.full.iter().map(|full| (&*full.bytes, full.samples)).chain(open) {
            let before = t.len();
            xor::decode(bytes, &mut t, &mut v).unwrap();
            assert_eq!(t.len() - before, samples as usize);
        }
        assert_eq!(t, (0..500).collect::<Vec<i64>>());
        assert_eq!(v, (0..500).map(f64::from).collect::<Vec<f64>>());
        assert_eq!(settled.full.len(), 4);
    }
}
