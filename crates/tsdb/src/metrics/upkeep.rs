//! Metrics of blocks, compaction, retention and the cutting of the log.

use std::sync::atomic::{AtomicU64, Ordering};

use fk_instrument::{Encoder, Histogram, Kind, Metric};

use crate::db::Db;

/// Bounds of durations of compactions, seconds.
const COMPACTION_BOUNDS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];

/// Bounds of the time ranges of chunks, seconds (Prometheus observes milliseconds under this name; so do we).
const CHUNK_RANGE_BOUNDS: &[f64] =
    &[100.0, 400.0, 1600.0, 6400.0, 25600.0, 102400.0, 409600.0, 1638400.0, 6553600.0, 26214400.0];

/// Bounds of samples in a chunk.
const CHUNK_SAMPLES_BOUNDS: &[f64] =
    &[4.0, 6.0, 9.0, 13.5, 20.25, 30.375, 45.5625, 68.34375, 102.515625, 153.7734375, 230.66015625, 345.990234375];

/// Bounds of bytes of a chunk.
const CHUNK_BYTES_BOUNDS: &[f64] =
    &[32.0, 48.0, 72.0, 108.0, 162.0, 243.0, 364.5, 546.75, 820.125, 1230.1875, 1845.28125, 2767.921875];

/// Counters, with the names of Prometheus beside them.
#[derive(Debug)]
pub struct UpkeepMetrics {
    /// `prometheus_tsdb_compactions_total`
    pub compactions: AtomicU64,
    /// `prometheus_tsdb_compactions_triggered_total`
    pub triggered: AtomicU64,
    /// `prometheus_tsdb_compactions_failed_total`
    pub failed: AtomicU64,
    /// `prometheus_tsdb_compactions_skipped_total`: for want of space.
    pub skipped: AtomicU64,
    /// `prometheus_tsdb_vertical_compactions_total`
    pub vertical: AtomicU64,
    /// `prometheus_tsdb_compaction_populating_block`, a gauge.
    pub populating: AtomicU64,
    /// `prometheus_tsdb_compaction_duration_seconds`
    pub duration: Histogram,
    /// `prometheus_tsdb_compaction_chunk_range_seconds`: of chunks that leave the head, in milliseconds as with Prometheus.
    pub chunk_range: Histogram,
    /// `prometheus_tsdb_compaction_chunk_samples`: of chunks that leave the head.
    pub chunk_samples: Histogram,
    /// `prometheus_tsdb_compaction_chunk_size_bytes`: of chunks that leave the head.
    pub chunk_bytes: Histogram,
    /// `prometheus_tsdb_stale_series_compactions_triggered_total`
    pub stale_triggered: AtomicU64,
    /// `prometheus_tsdb_stale_series_compactions_failed_total`
    pub stale_failed: AtomicU64,
    /// `prometheus_tsdb_stale_series_compaction_duration_seconds`
    pub stale_duration: Histogram,
    /// `prometheus_tsdb_reloads_total`
    pub reloads: AtomicU64,
    /// `prometheus_tsdb_reloads_failures_total`
    pub reloads_failed: AtomicU64,
    /// `prometheus_tsdb_time_retentions_total`
    pub time_retentions: AtomicU64,
    /// `prometheus_tsdb_size_retentions_total`
    pub size_retentions: AtomicU64,
    /// `prometheus_tsdb_checkpoint_creations_total`
    pub checkpoints: AtomicU64,
    /// `prometheus_tsdb_checkpoint_creations_failed_total`
    pub checkpoints_failed: AtomicU64,
    /// `prometheus_tsdb_checkpoint_deletions_total`
    pub checkpoint_deletions: AtomicU64,
    /// `prometheus_tsdb_checkpoint_deletions_failed_total`
    pub checkpoint_deletions_failed: AtomicU64,
    /// `prometheus_tsdb_wal_truncations_total`
    pub log_truncations: AtomicU64,
    /// `prometheus_tsdb_wal_truncations_failed_total`
    pub log_truncations_failed: AtomicU64,
    /// `prometheus_tsdb_wal_truncate_duration_seconds_sum`, in microseconds.
    pub log_truncation_us: AtomicU64,
    /// `prometheus_tsdb_tombstone_cleanup_seconds`
    pub tombstone_cleanup: Histogram,
    /// `firekeeper_tsdb_clock_jumps_total`
    pub clock_jumps: AtomicU64,
}

impl Default for UpkeepMetrics {
    fn default() -> UpkeepMetrics {
        UpkeepMetrics {
            compactions: AtomicU64::default(),
            triggered: AtomicU64::default(),
            failed: AtomicU64::default(),
            skipped: AtomicU64::default(),
            vertical: AtomicU64::default(),
            populating: AtomicU64::default(),
            duration: Histogram::new(COMPACTION_BOUNDS),
            chunk_range: Histogram::new(CHUNK_RANGE_BOUNDS),
            chunk_samples: Histogram::new(CHUNK_SAMPLES_BOUNDS),
            chunk_bytes: Histogram::new(CHUNK_BYTES_BOUNDS),
            stale_triggered: AtomicU64::default(),
            stale_failed: AtomicU64::default(),
            stale_duration: Histogram::new(COMPACTION_BOUNDS),
            reloads: AtomicU64::default(),
            reloads_failed: AtomicU64::default(),
            time_retentions: AtomicU64::default(),
            size_retentions: AtomicU64::default(),
            checkpoints: AtomicU64::default(),
            checkpoints_failed: AtomicU64::default(),
            checkpoint_deletions: AtomicU64::default(),
            checkpoint_deletions_failed: AtomicU64::default(),
            log_truncations: AtomicU64::default(),
            log_truncations_failed: AtomicU64::default(),
            log_truncation_us: AtomicU64::default(),
            tombstone_cleanup: Histogram::new(&[]),
            clock_jumps: AtomicU64::default(),
        }
    }
}

pub(super) fn encode(db: &Db, out: &mut Encoder) {
    let m = &db.upkeep_metrics;
    let load = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64;
    for (name, help, counter) in [
        (
            "prometheus_tsdb_compactions_total",
            "Total number of compactions that were executed for the partition.",
            &m.compactions,
        ),
        (
            "prometheus_tsdb_compactions_triggered_total",
            "Total number of triggered compactions for the partition.",
            &m.triggered,
        ),
        (
            "prometheus_tsdb_compactions_failed_total",
            "Total number of compactions that failed for the partition.",
            &m.failed,
        ),
        (
            "prometheus_tsdb_compactions_skipped_total",
            "Total number of skipped compactions due to disabled auto compaction.",
            &m.skipped,
        ),
        (
            "prometheus_tsdb_vertical_compactions_total",
            "Total number of compactions done on overlapping blocks.",
            &m.vertical,
        ),
        (
            "prometheus_tsdb_stale_series_compactions_triggered_total",
            "Total number of triggered stale series compactions.",
            &m.stale_triggered,
        ),
        (
            "prometheus_tsdb_stale_series_compactions_failed_total",
            "Total number of stale series compactions that failed.",
            &m.stale_failed,
        ),
        ("prometheus_tsdb_reloads_total", "Number of times the database reloaded block data from disk.", &m.reloads),
        (
            "prometheus_tsdb_reloads_failures_total",
            "Number of times the database failed to reloadBlocks block data from disk.",
            &m.reloads_failed,
        ),
        (
            "prometheus_tsdb_time_retentions_total",
            "The number of times that blocks were deleted because the maximum time limit was exceeded.",
            &m.time_retentions,
        ),
        (
            "prometheus_tsdb_size_retentions_total",
            "The number of times that blocks were deleted because the maximum number of bytes was exceeded.",
            &m.size_retentions,
        ),
        (
            "prometheus_tsdb_checkpoint_creations_total",
            "Total number of checkpoint creations attempted.",
            &m.checkpoints,
        ),
        (
            "prometheus_tsdb_checkpoint_creations_failed_total",
            "Total number of checkpoint creations that failed.",
            &m.checkpoints_failed,
        ),
        (
            "prometheus_tsdb_checkpoint_deletions_total",
            "Total number of checkpoint deletions attempted.",
            &m.checkpoint_deletions,
        ),
        (
            "prometheus_tsdb_checkpoint_deletions_failed_total",
            "Total number of checkpoint deletions that failed.",
            &m.checkpoint_deletions_failed,
        ),
        (
            "prometheus_tsdb_wal_truncations_total",
            "Total number of write log truncations attempted.",
            &m.log_truncations,
        ),
        (
            "prometheus_tsdb_wal_truncations_failed_total",
            "Total number of write log truncations that failed.",
            &m.log_truncations_failed,
        ),
        ("firekeeper_storage_scrubbed_blocks_total", "Blocks read through for damage.", &db.scrub_metrics.blocks),
        (
            "firekeeper_storage_scrubbed_bytes_total",
            "Bytes of blocks read through for damage.",
            &db.scrub_metrics.bytes,
        ),
        (
            "firekeeper_storage_scrubs_failed_total",
            "Blocks that could not be read through, for another reason than damage.",
            &db.scrub_metrics.failed,
        ),
        ("firekeeper_tsdb_clock_jumps_total", "Jumps of the clock by more than ten minutes.", &m.clock_jumps),
    ] {
        out.single(name, help, Kind::Counter, load(counter));
    }
    let retention = db.config().retention;
    for (name, help, value) in [
        (
            "prometheus_tsdb_compaction_populating_block",
            "Set to 1 when a block is currently being written to the disk.",
            load(&m.populating),
        ),
        ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks", db.open_blocks().len() as f64),
        (
            "prometheus_tsdb_storage_blocks_bytes",
            "The number of bytes that are currently used for local storage by all blocks.",
            db.blocks_size_bytes() as f64,
        ),
        (
            "prometheus_tsdb_retention_limit_bytes",
            "Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled",
            retention.bytes as f64,
        ),
        (
            "prometheus_tsdb_retention_limit_percentage",
            "Max percentage of total storage space to be retained in the tsdb blocks, configured 0 means disabled",
            retention.percent,
        ),
        (
            "prometheus_tsdb_retention_limit_seconds",
            "How long to retain samples in storage.",
            retention.time_ms as f64 / 1000.0,
        ),
    ] {
        out.single(name, help, Kind::Gauge, value);
    }
    for (name, help, histogram) in [
        ("prometheus_tsdb_compaction_duration_seconds", "Duration of compaction runs", &m.duration),
        (
            "prometheus_tsdb_compaction_chunk_range_seconds",
            "Final time range of chunks on their first compaction",
            &m.chunk_range,
        ),
        (
            "prometheus_tsdb_compaction_chunk_samples",
            "Final number of samples on their first compaction",
            &m.chunk_samples,
        ),
        (
            "prometheus_tsdb_compaction_chunk_size_bytes",
            "Final size of chunks on their first compaction",
            &m.chunk_bytes,
        ),
        (
            "prometheus_tsdb_stale_series_compaction_duration_seconds",
            "Duration of stale series compaction runs.",
            &m.stale_duration,
        ),
        (
            "prometheus_tsdb_tombstone_cleanup_seconds",
            "The time taken to recompact blocks to remove tombstones.",
            &m.tombstone_cleanup,
        ),
    ] {
        out.family(name, help, Kind::Histogram);
        histogram.encode(out, name, &[]);
    }
    let name = "prometheus_tsdb_wal_truncate_duration_seconds";
    out.family(name, "Duration of WAL truncation.", Kind::Summary);
    out.sample(&format!("{name}_sum"), &[], load(&m.log_truncation_us) / 1e6);
    out.sample(&format!("{name}_count"), &[], load(&m.log_truncations));
}
