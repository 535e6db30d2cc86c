//! Blocks of series that have ended, before the range of the head that they are in is due
//! (`storage.tsdb.stale_series_compaction_threshold`).
//!
//! When so large a share of the series of the head is stale, they are written to blocks of their own, one per range of
//! time, which say so in `meta.json`: they have not all series of their range, so they say nothing about what the head still
//! has to hold, and are compacted among themselves only. The series leave the head when readers find them in the blocks.

use std::sync::atomic::Ordering;
use std::time::Instant;

use fk_block::meta::HINT_STALE_SERIES;
use fk_storage::{Control, StorageError};
use fk_wal::record::encode_tombstones;

use super::head::Ranges;
use crate::db::Db;
use crate::maintain::{Now, Upkeep};

/// So shortly before the next compaction of the head is expected, stale series wait for it, ms.
const COMPACTION_SOON_MS: i64 = 10 * 60 * 1000;

const STALE_SERIES: Ranges =
    Ranges { of: "stale series", hint: HINT_STALE_SERIES, too_many: "stale series in more than 1200 block ranges" };

impl Db {
    /// Whether so many series are stale that they are to be written to blocks now.
    pub(crate) fn stale_series_are_due(&self, upkeep: &Upkeep, now: Now) -> bool {
        let threshold = self.config.read().stale_series_threshold;
        if threshold <= 0.0 || upkeep.truncate.is_some() {
            return false;
        }
        let (stale, series) = (self.head.n_stale_series(), self.head.status().series);
        let soon = |then: i64| now.steady_ms + COMPACTION_SOON_MS > then + self.options.min_block_ms;
        series > 0 && stale as f64 / series as f64 >= threshold && !upkeep.head_compacted_ms.is_some_and(soon)
    }

    /// Writes the stale series to blocks and takes them out of the head. Returns how many blocks were written.
    pub(crate) fn compact_stale_series(&self, now: Now, control: &Control) -> Result<usize, StorageError> {
        let metrics = &self.upkeep_metrics;
        metrics.stale_triggered.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let result = self.write_stale_series(now, control);
        match &result {
            Ok(_) => metrics.stale_duration.observe(began.elapsed().as_secs_f64()),
            Err(StorageError::Stopped(_)) => {}
            Err(_) => {
                metrics.stale_failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    fn write_stale_series(&self, now: Now, control: &Control) -> Result<usize, StorageError> {
        let stale = self.head.stale_series();
        let Some((mint, maxt)) = self.head.time_range().filter(|_| !stale.is_empty()) else { return Ok(0) };
        let mint = mint.max(self.views.pin().head_mint);
        let (written, is_settled) = self
            .write_ranges(&STALE_SERIES, (mint, maxt), now, control, |range| self.head.stream_stale(range, &stale))?;
        if !is_settled {
            return Ok(written);
        }
        let removed = self.head.remove_stale(&stale, &|tombstones| {
            let mut record = Vec::new();
            encode_tombstones(tombstones, &mut record);
            self.wal.log(&[&record])?;
            Ok(self.wal.stats().segment)
        })?;
        log::info!("{} stale series are in blocks, {} chunks with them", removed.series, removed.chunks);
        Ok(written)
    }
}
