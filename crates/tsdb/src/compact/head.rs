//! Blocks from the head.
//!
//! When the head spans one and a half block ranges, its oldest range becomes a block: appends there have ended, since none is
//! taken that is older than half a range. The block is written, opened, and published together with the new lower end of
//! the head; the head itself is truncated when the last reader by an older view has gone
//! (`Db::finish_truncation`), and the log is cut after that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fk_block::meta::HINT_OUT_OF_ORDER;
use fk_block::{Block, BlockMeta, BlockSpec, BlockWriter, Compaction, SeriesChunks, SeriesStream, Ulid};
use fk_storage::{Control, StorageError, TimeRange};

use super::pace::Throttle;
use crate::db::Db;
use crate::maintain::{Now, READERS_WAIT, Upkeep};
use crate::metrics::UpkeepMetrics;

/// How long readers may hold up the end of a compaction of out-of-order samples or of stale series. After that the samples
/// stay in the head, and the next compaction writes them again; merging drops the second ones.
const OLDER_READERS_WAIT: Duration = Duration::from_secs(60);

/// Blocks that one compaction of out-of-order samples or of stale series makes: 100 days of two hours.
const RANGES_MAX: usize = 1200;

/// Blocks of a part of the head that is written out of turn.
pub(super) struct Ranges {
    /// What is in them.
    pub of: &'static str,
    /// How `meta.json` says so.
    pub hint: &'static str,
    /// The error for more than [`RANGES_MAX`].
    pub too_many: &'static str,
}

const OUT_OF_ORDER: Ranges = Ranges {
    of: "out-of-order samples",
    hint: HINT_OUT_OF_ORDER,
    too_many: "out-of-order samples in more than 1200 block ranges",
};

impl Db {
    /// The in-order times of the head that are not in blocks yet.
    fn head_span(&self) -> Option<(i64, i64)> {
        let (mint, maxt) = self.head.time_range()?;
        let mint = mint.max(self.views.pin().head_mint);
        (mint <= maxt).then_some((mint, maxt))
    }

    /// Whether the head has a range that can become a block, and has waited for its delay.
    pub(crate) fn head_is_due(&self, upkeep: &mut Upkeep, now: Now) -> bool {
        let range = self.options.min_block_ms;
        let is_long = |(mint, maxt): (i64, i64)| maxt.saturating_sub(mint) > range / 2 * 3;
        if !self.head_span().is_some_and(is_long) {
            upkeep.delay_began_ms = None;
            return false;
        }
        // A truncation that waits for readers comes first, or the head would only grow by blocks it does not need.
        if upkeep.truncate.is_some() {
            return false;
        }
        let began = *upkeep.delay_began_ms.get_or_insert(now.steady_ms);
        now.steady_ms - began >= upkeep.delay_ms
    }

    /// Writes the oldest range of the head to a block. Returns how many were written: none if no sample was left there.
    pub(crate) fn compact_head_once(
        &self,
        upkeep: &mut Upkeep,
        now: Now,
        control: &Control,
    ) -> Result<usize, StorageError> {
        let Some((mint, _)) = self.head_span() else { return Ok(0) };
        upkeep.head_compacted_ms = Some(now.steady_ms);
        let range = self.options.min_block_ms;
        let end = mint.div_euclid(range).saturating_mul(range).saturating_add(range);
        let mut stream = self.head.stream(TimeRange { mint, maxt: end - 1 })?;
        let spec = new_block(mint, end, now, Compaction::default());
        let block =
            self.write_block(&spec, &mut Observed { stream: &mut stream, metrics: &self.upkeep_metrics }, 0, control)?;
        drop(stream);
        let mut blocks: Vec<Block> = self.views.pin().blocks.to_vec();
        let written = usize::from(block.is_some());
        blocks.extend(block);
        blocks.sort_by_key(|block| (block.times(), block.ulid()));
        self.views.publish(end, blocks.into());
        upkeep.truncate = Some(end);
        upkeep.compact_out_of_order = true;
        self.upkeep_metrics.triggered.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    /// Writes all of the head to blocks that can be written, whatever its span; the newest half of a range stays.
    /// Returns how many blocks were written.
    pub fn compact_head(&self, now: Now, control: &Control) -> Result<usize, StorageError> {
        let mut upkeep = self.upkeep.lock();
        let mut written = 0;
        upkeep.delay_began_ms = Some(i64::MIN / 2);
        while self.head_is_due(&mut upkeep, now) {
            written += self.compact_head_once(&mut upkeep, now, control)?;
            self.finish_truncation_or_wait(&mut upkeep, control)?;
        }
        Ok(written)
    }

    /// Writes the out-of-order samples to blocks, one per range that has any.
    pub(crate) fn compact_out_of_order_once(
        &self,
        upkeep: &mut Upkeep,
        now: Now,
        control: &Control,
    ) -> Result<usize, StorageError> {
        let Some(compaction) = self.compact_out_of_order()? else { return Ok(0) };
        let times = (compaction.frozen.mint, compaction.frozen.maxt);
        let (written, is_settled) =
            self.write_ranges(&OUT_OF_ORDER, times, now, control, |range| Ok(compaction.stream(range)))?;
        if !is_settled {
            return Ok(written);
        }
        compaction.finish()?;
        upkeep.compact_out_of_order = false;
        Ok(written)
    }

    /// Writes what `stream` gives of the times from the first to the last of `times` to blocks, one per range, and publishes
    /// them. Returns how many there are, and whether nobody reads by an older view any more: only then may the head let go of
    /// what is in them.
    pub(super) fn write_ranges<S: SeriesStream>(
        &self,
        ranges: &Ranges,
        times: (i64, i64),
        now: Now,
        control: &Control,
        stream: impl Fn(TimeRange) -> Result<S, StorageError>,
    ) -> Result<(usize, bool), StorageError> {
        let (range, (mint, maxt)) = (self.options.min_block_ms, times);
        let mut origin = Compaction::default();
        origin.add_hint(ranges.hint);
        let (mut start, mut made) = (mint.div_euclid(range).saturating_mul(range), Vec::new());
        while start <= maxt {
            if made.len() == RANGES_MAX {
                return Err(StorageError::Unsupported(ranges.too_many));
            }
            let end = start.saturating_add(range);
            let mut stream = stream(TimeRange { mint: start.max(mint), maxt: end - 1 })?;
            let spec = new_block(start, end, now, origin.clone());
            let mut stream = Observed { stream: &mut stream, metrics: &self.upkeep_metrics };
            made.extend(self.write_block(&spec, &mut stream, 0, control)?);
            start = end;
        }
        let written = made.len();
        let mut blocks: Vec<Block> = self.views.pin().blocks.to_vec();
        blocks.extend(made);
        blocks.sort_by_key(|block| (block.times(), block.ulid()));
        self.views.publish_blocks(blocks.into());
        let began = Instant::now();
        while !self.views.wait_for_readers(READERS_WAIT) {
            control.check()?;
            if began.elapsed() > OLDER_READERS_WAIT {
                log::warn!("{} stay in the head as well, since a query takes long", ranges.of);
                return Ok((written, false));
            }
        }
        Ok((written, true))
    }

    /// Writes and opens a block; `None` if the stream has no sample.
    pub(crate) fn write_block(
        &self,
        spec: &BlockSpec,
        stream: &mut dyn SeriesStream,
        bytes_per_s: u64,
        control: &Control,
    ) -> Result<Option<Block>, StorageError> {
        let metrics = &self.upkeep_metrics;
        let (began, mut throttle) = (Instant::now(), Throttle::new(bytes_per_s, control).yielding_to(&self.syncing));
        metrics.populating.store(1, Ordering::Relaxed);
        let writer = BlockWriter {
            segment_bytes_max: self.options.chunk_segment_bytes,
            ..BlockWriter::new(&*self.options.vfs, &self.path)
        };
        let written = writer.write(spec, stream, &mut |bytes| throttle.spent(bytes));
        metrics.populating.store(0, Ordering::Relaxed);
        let written: Option<BlockMeta> = written.inspect_err(|e| {
            if !matches!(e, StorageError::Stopped(_)) {
                metrics.failed.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        metrics.compactions.fetch_add(1, Ordering::Relaxed);
        metrics.duration.observe(began.elapsed().as_secs_f64());
        let Some(meta) = written else { return Ok(None) };
        log::info!(
            "block {} written: {} samples of {} series, {} to {}, level {}",
            meta.ulid,
            meta.stats.num_samples,
            meta.stats.num_series,
            meta.min_time,
            meta.max_time,
            meta.compaction.level
        );
        let block = Block::open(Arc::clone(&self.options.vfs), &self.path.join(meta.ulid.to_string()))?;
        Ok(Some(block))
    }
}

/// Counts the chunks that leave the head.
struct Observed<'s> {
    pub stream: &'s mut dyn SeriesStream,
    pub metrics: &'s UpkeepMetrics,
}

impl SeriesStream for Observed<'_> {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        let is_there = self.stream.next(out)?;
        if is_there {
            for chunk in &out.chunks {
                self.metrics.chunk_range.observe((chunk.maxt - chunk.mint) as f64);
                self.metrics.chunk_samples.observe(f64::from(chunk.samples));
                self.metrics.chunk_bytes.observe(chunk.bytes.len() as f64);
            }
        }
        Ok(is_there)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        self.stream.symbols(each)
    }
}

/// A new block of level 1, its own source.
pub(crate) fn new_block(min_time: i64, max_time: i64, now: Now, origin: Compaction) -> BlockSpec {
    let ulid = Ulid::generate(now.wall_ms.max(0) as u64);
    let compaction = Compaction { level: 1, sources: vec![ulid], ..origin };
    BlockSpec { ulid, min_time, max_time, compaction }
}
