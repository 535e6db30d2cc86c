//! Cutting the log behind blocks: a checkpoint of the old segments, and then they go.

use std::sync::atomic::Ordering;
use std::time::Instant;

use fk_storage::{Control, StorageError};
use fk_wal::checkpoint::{self, Keep};
use fk_wal::{Listing, checkpoint_path};

use super::pace::Throttle;
use crate::db::Db;
use crate::maintain::{Now, Upkeep};

/// How long after its checkpoint a segment is removed, ms.
pub(crate) const SUPERSEDED_PAUSE_MS: i64 = 1000;

impl Db {
    /// Writes a checkpoint, if there are enough segments for it: samples before `mint` are in blocks. Returns how many
    /// checkpoints were written.
    pub(crate) fn cut_log(
        &self,
        upkeep: &mut Upkeep,
        mint: i64,
        now: Now,
        control: &Control,
    ) -> Result<usize, StorageError> {
        if mint <= upkeep.log_mint {
            upkeep.cut_log = None;
            return Ok(0);
        }
        let (began, metrics) = (Instant::now(), &self.upkeep_metrics);
        metrics.log_truncations.fetch_add(1, Ordering::Relaxed);
        let result = self.write_checkpoint(upkeep, mint, now, control);
        metrics.log_truncation_us.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        match result {
            Ok(written) => {
                upkeep.log_mint = mint;
                upkeep.cut_log = None;
                Ok(written)
            }
            Err(e) => {
                if !matches!(e, StorageError::Stopped(_)) {
                    metrics.log_truncations_failed.fetch_add(1, Ordering::Relaxed);
                }
                Err(e)
            }
        }
    }

    fn write_checkpoint(
        &self,
        upkeep: &mut Upkeep,
        mint: i64,
        now: Now,
        control: &Control,
    ) -> Result<usize, StorageError> {
        let listing = Listing::read(&*self.options.vfs, self.wal.dir())?;
        // Segments that a checkpoint stands for already are there only because somebody was interrupted.
        let covered = listing.checkpoints.last().copied().filter(|_| self.has_good_checkpoint(&listing));
        let segments: Vec<u32> = listing.segments.into_iter().filter(|s| covered.is_none_or(|c| *s > c)).collect();
        // A new segment, so that a server with little to log does not keep more of it than it needs.
        self.wal.cut()?;
        let Some(last) = checkpoint::last_to_cover(&segments) else { return Ok(0) };
        // What an earlier checkpoint stands for may still be there; this one stands for it as well.
        let mut damaged = upkeep.superseded.take().map_or_else(Vec::new, |(_, damaged, _)| damaged);
        self.upkeep_metrics.checkpoints.fetch_add(1, Ordering::Relaxed);
        let is_needed = |series| self.head.is_needed_in_checkpoint(series, last);
        let keep = Keep { series: &is_needed, mint };
        let mut throttle = Throttle::new(self.options.compaction_bytes_per_s.saturating_mul(4), control);
        let written = checkpoint::write_checkpoint(
            &self.options.vfs,
            self.wal.dir(),
            last,
            self.options.wal,
            &keep,
            &mut |bytes| throttle.spent(bytes),
        );
        let report = written.inspect_err(|_| {
            self.upkeep_metrics.checkpoints_failed.fetch_add(1, Ordering::Relaxed);
        })?;
        log::info!(
            "write-ahead log: checkpoint of the segments up to {last}: kept {} of {} series and {} of {} samples",
            report.series - report.dropped_series,
            report.series,
            report.samples - report.dropped_samples,
            report.samples
        );
        self.head.forget_expired(last);
        damaged.extend(report.damaged);
        upkeep.superseded = Some((last, damaged, now.steady_ms + SUPERSEDED_PAUSE_MS));
        Ok(1)
    }

    /// Whether the newest checkpoint is one. An empty directory is what an accident leaves, and stands for nothing.
    fn has_good_checkpoint(&self, listing: &Listing) -> bool {
        let newest = listing.checkpoints.last().map(|number| checkpoint_path(self.wal.dir(), *number));
        newest.is_some_and(|path| {
            Listing::read(&*self.options.vfs, &path).is_ok_and(|inside| !inside.segments.is_empty())
        })
    }

    /// Removes the segments and checkpoints that the newest checkpoint stands for, when their time has come.
    pub(crate) fn remove_superseded(&self, upkeep: &mut Upkeep, now: Now) -> Result<(), StorageError> {
        let Some((number, damaged, due_ms)) = &upkeep.superseded else { return Ok(()) };
        if now.steady_ms < *due_ms {
            return Ok(());
        }
        let metrics = &self.upkeep_metrics;
        metrics.checkpoint_deletions.fetch_add(1, Ordering::Relaxed);
        checkpoint::remove_superseded(&*self.options.vfs, self.wal.dir(), *number, damaged).inspect_err(|_| {
            metrics.checkpoint_deletions_failed.fetch_add(1, Ordering::Relaxed);
        })?;
        upkeep.superseded = None;
        Ok(())
    }
}
