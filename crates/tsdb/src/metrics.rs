//! Counters of the storage: plain atomics, so that counting costs nothing and the engine knows no registry. The names
//! beside them are those of Prometheus.

mod exemplars;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use fk_instrument::{Encoder, Kind, Registry};

use crate::db::{Db, SyncDurations};

pub use upkeep::UpkeepMetrics;

/// Counters that only grow, apart from the gauges named so.
#[derive(Debug, Default)]
pub struct DbMetrics {
    /// `prometheus_tsdb_head_samples_appended_total{type="float"}`
    pub samples_appended: AtomicU64,
    /// The same with `type="histogram"`.
    pub histograms_appended: AtomicU64,
    /// `prometheus_tsdb_out_of_order_samples_total{type="float"}`
    pub out_of_order: AtomicU64,
    /// `prometheus_tsdb_out_of_bound_samples_total{type="float"}`
    pub out_of_bound: AtomicU64,
    /// `prometheus_tsdb_too_old_samples_total{type="float"}`
    pub too_old: AtomicU64,
    /// `prometheus_tsdb_head_out_of_order_samples_appended_total{type="float"}`
    pub out_of_order_appended: AtomicU64,
    /// The same with `type="histogram"`.
    pub out_of_order_histograms_appended: AtomicU64,
    /// Out-of-order chunks that are in blocks and left the head.
    pub out_of_order_chunks_removed: AtomicU64,
    /// `prometheus_tsdb_sample_ooo_delta`
    pub late: LateDelta,
    /// Samples with the time of the newest one and another value. Prometheus does not count them.
    pub duplicates: AtomicU64,
    /// Samples for references that nobody knows.
    pub unknown_series: AtomicU64,
    /// `prometheus_tsdb_head_series_created_total`
    pub series_created: AtomicU64,
    /// `prometheus_tsdb_head_stale_series`, a gauge: series whose newest sample is a staleness marker.
    pub stale_series: AtomicI64,
    /// `prometheus_tsdb_head_chunks_created_total`
    pub chunks_created: AtomicU64,
    /// `prometheus_tsdb_head_chunks_removed_total`
    pub chunks_removed: AtomicU64,
    /// `prometheus_tsdb_head_series_removed_total`
    pub series_removed: AtomicU64,
    /// `prometheus_tsdb_head_truncations_total`
    pub truncations: AtomicU64,
    /// `prometheus_tsdb_head_truncations_failed_total`
    pub truncations_failed: AtomicU64,
    /// Nanoseconds of `prometheus_tsdb_head_gc_duration_seconds`, whose count is that of the truncations.
    pub gc_duration_ns: AtomicU64,
    /// `prometheus_tsdb_mmap_chunks_total`: completed chunks written to files.
    pub chunks_spilled: AtomicU64,
    /// Times that chunks could not be written to a file; they stay in memory and are tried again.
    pub spills_failed: AtomicU64,
    /// `prometheus_tsdb_mmap_chunk_corruptions_total`: reads that found a damaged chunk in a file.
    pub chunk_corruptions: AtomicU64,
    /// `prometheus_tsdb_head_appenders_created_total`: batches begun.
    pub batches: AtomicU64,
    /// `prometheus_tsdb_head_active_appenders`, a gauge: batches under way.
    pub active_batches: AtomicI64,
    /// Selects that met two newer commits of one series and looked again with all shards held.
    pub select_conflicts: AtomicU64,
    /// `prometheus_tsdb_wal_replay_unknown_refs_total{type="samples"}`
    pub replay_unknown_refs: AtomicU64,
}

/// Bounds of the buckets of [`LateDelta`], seconds, as in Prometheus.
const LATE_BOUNDS_S: [i64; 7] = [600, 1800, 3600, 7200, 10800, 21600, 43200];

/// How far samples that did not come in order lie behind the newest sample of the head.
#[derive(Debug, Default)]
pub struct LateDelta {
    buckets: [AtomicU64; LATE_BOUNDS_S.len()],
    count: AtomicU64,
    sum_ms: AtomicU64,
}

impl DbMetrics {
    /// A sample did not come in order; it lies so far behind the newest one of the head. Nothing behind does not count.
    pub(crate) fn observe_late(&self, behind_ms: i64) {
        if behind_ms > 0 {
            // Seldom, and each sample of its own: no need for a batch.
            if let Some(bucket) = LATE_BOUNDS_S.iter().position(|bound| behind_ms <= bound * 1000) {
                self.late.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            }
            self.late.count.fetch_add(1, Ordering::Relaxed);
            self.late.sum_ms.fetch_add(behind_ms as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn chunks_removed_out_of_order(&self, chunks: u64) {
        self.out_of_order_chunks_removed.fetch_add(chunks, Ordering::Relaxed);
    }
}

/// The log of out-of-order samples, once there is one.
fn encode_wbl(db: &Db, out: &mut Encoder) {
    let Some(wbl) = db.wbl_stats() else { return };
    let mut single = |name: &str, help: &str, kind: Kind, value: f64| {
        out.single(&format!("prometheus_tsdb_out_of_order_wbl_{name}"), help, kind, value);
    };
    let help = "Write log segment index that TSDB is currently writing to.";
    single("segment_current", help, Kind::Gauge, f64::from(wbl.segment));
    if let Ok(bytes) = db.wbl_size_bytes() {
        single("storage_size_bytes", "Size of the write log directory.", Kind::Gauge, bytes as f64);
    }
    let mut counter = |name: &str, help: &str, value: u64| single(name, help, Kind::Counter, value as f64);
    counter("completed_pages_total", "Total number of completed pages.", wbl.pages);
    counter("page_flushes_total", "Total number of page flushes.", wbl.writes);
    counter("writes_failed_total", "Total number of write log writes that failed.", wbl.writes_failed);
    let help = "Total number of record parts written before flushing.";
    counter("record_part_writes_total", help, wbl.fragments);
    let help = "Total number of record part bytes written before flushing, including CRC and compression headers.";
    counter("record_parts_bytes_written_total", help, wbl.bytes);
    counter("truncations_total", "Total number of write log truncations that were attempted.", wbl.truncations);
    counter("truncations_failed_total", "Total number of write log truncations that failed.", wbl.truncations_failed);
    let name = "prometheus_tsdb_out_of_order_wbl_record_bytes_saved_total";
    let help = "Total number of bytes saved by the optional record compression. Use this metric to learn about the effectiveness of compression.";
    out.family(name, help, Kind::Counter);
    out.sample(name, &[("compression", db.wal_compression_name())], wbl.bytes_saved as f64);
}

fn encode_late(late: &LateDelta, out: &mut Encoder) {
    let name = "prometheus_tsdb_sample_ooo_delta";
    let help = "Delta in seconds by which a sample is considered out of order (reported regardless of OOO time window and whether sample is accepted or not).";
    out.family(name, help, Kind::Histogram);
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    for (bound, n) in LATE_BOUNDS_S.iter().zip(&late.buckets) {
        below += n.load(Ordering::Relaxed);
        out.sample(&bucket, &[("le", &bound.to_string())], below as f64);
    }
    let count = late.count.load(Ordering::Relaxed) as f64;
    out.sample(&bucket, &[("le", "+Inf")], count);
    out.sample(&format!("{name}_sum"), &[], late.sum_ms.load(Ordering::Relaxed) as f64 / 1000.0);
    out.sample(&format!("{name}_count"), &[], count);
}

/// Shows the storage's metrics under Prometheus' names. The registry does not keep the storage alive.
pub fn register(db: &Arc<Db>, registry: &Registry) {
    let db = Arc::downgrade(db);
    registry.collect(move |out| {
        if let Some(db) = db.upgrade() {
            encode(&db, out);
        }
    });
}

fn encode(db: &Db, out: &mut Encoder) {
    upkeep::encode(db, out);
    exemplars::encode(db, out);
    let load = |n: &AtomicU64| n.load(Ordering::Relaxed) as f64;
    let m = db.metrics();
    let head = db.head_status();
    let mut gauge = |name: &str, help: &str, value: f64| out.single(name, help, Kind::Gauge, value);
    let seconds = |ms: i64| ms as f64 / 1000.0;
    gauge("prometheus_tsdb_head_series", "Total number of series in the head block.", head.series as f64);
    gauge("prometheus_tsdb_head_chunks", "Total number of chunks in the head block.", head.chunks as f64);
    gauge(
        "prometheus_tsdb_head_min_time",
        "Minimum time bound of the head block. The unit is decided by the library consumer.",
        head.min_time as f64,
    );
    gauge(
        "prometheus_tsdb_head_max_time",
        "Maximum timestamp of the head block. The unit is decided by the library consumer.",
        head.max_time as f64,
    );
    gauge("prometheus_tsdb_head_min_time_seconds", "Minimum time bound of the head block.", seconds(head.min_time));
    gauge("prometheus_tsdb_head_max_time_seconds", "Maximum timestamp of the head block.", seconds(head.max_time));
    gauge(
        "prometheus_tsdb_lowest_timestamp",
        "Lowest timestamp value stored in the database. The unit is decided by the library consumer.",
        head.min_time as f64,
    );
    gauge(
        "prometheus_tsdb_lowest_timestamp_seconds",
        "Lowest timestamp value stored in the database.",
        seconds(head.min_time),
    );
    gauge(
        "prometheus_tsdb_head_stale_series",
        "Total number of stale series in the head block.",
        m.stale_series.load(Ordering::Relaxed) as f64,
    );
    gauge(
        "prometheus_tsdb_head_active_appenders",
        "Number of currently active appender transactions",
        m.active_batches.load(Ordering::Relaxed) as f64,
    );
    // A select has copied what it may see before it returns, so no commit but the last is referred to.
    for (name, help) in [
        ("prometheus_tsdb_isolation_low_watermark", "The lowest TSDB append ID that is still referenced."),
        ("prometheus_tsdb_isolation_high_watermark", "The highest TSDB append ID that has been given out."),
    ] {
        gauge(name, help, head.commits as f64);
    }
    gauge(
        "prometheus_tsdb_head_native_histogram_series",
        "Number of series whose most recent in-order sample is a native histogram.",
        head.histogram_series as f64,
    );
    gauge(
        "prometheus_tsdb_head_native_histogram_buckets",
        "Number of positive and negative bucket entries in the most recent in-order native histogram sample of each series, including entries carried by staleness markers.",
        head.histogram_buckets as f64,
    );
    gauge(
        "prometheus_tsdb_symbol_table_size_bytes",
        "Size of symbol table in memory for loaded blocks",
        head.symbol_bytes as f64,
    );
    gauge(
        "prometheus_tsdb_clean_start",
        "-1: lockfile is disabled. 0: a lockfile from a previous execution was replaced. 1: lockfile creation was clean",
        db.was_clean().map_or(-1.0, |clean| f64::from(u8::from(clean))),
    );
    gauge(
        "prometheus_tsdb_data_replay_duration_seconds",
        "Time taken to replay the data on disk.",
        db.replayed().duration.as_secs_f64(),
    );
    let wal = db.wal_stats();
    gauge(
        "prometheus_tsdb_wal_segment_current",
        "Write log segment index that TSDB is currently writing to.",
        f64::from(wal.segment),
    );
    if let Ok(bytes) = db.wal_size_bytes() {
        gauge("prometheus_tsdb_wal_storage_size_bytes", "Size of the write log directory.", bytes as f64);
    }

    let mut counter = |name: &str, help: &str, value: f64| out.single(name, help, Kind::Counter, value);
    counter(
        "prometheus_tsdb_head_series_created_total",
        "Total number of series created in the head",
        load(&m.series_created),
    );
    counter(
        "prometheus_tsdb_head_series_not_found_total",
        "Total number of requests for series that were not found.",
        load(&m.unknown_series),
    );
    counter(
        "prometheus_tsdb_head_chunks_created_total",
        "Total number of chunks created in the head",
        load(&m.chunks_created),
    );
    counter(
        "prometheus_tsdb_head_appenders_created_total",
        "Total number of appender transactions begun.",
        load(&m.batches),
    );
    counter(
        "prometheus_tsdb_wal_corruptions_total",
        "Total number of WAL corruptions.",
        (db.replayed().log.damages.len() as u64 + db.replayed().log.damages_more) as f64,
    );
    counter(
        "prometheus_tsdb_snapshot_replay_error_total",
        "Total number snapshot replays that failed.",
        f64::from(u8::from(db.replayed().image_failed)),
    );
    counter("prometheus_tsdb_wal_completed_pages_total", "Total number of completed pages.", wal.pages as f64);
    counter("prometheus_tsdb_wal_page_flushes_total", "Total number of page flushes.", wal.writes as f64);
    counter(
        "prometheus_tsdb_wal_writes_failed_total",
        "Total number of write log writes that failed.",
        wal.writes_failed as f64,
    );
    counter(
        "prometheus_tsdb_wal_record_part_writes_total",
        "Total number of record parts written before flushing.",
        wal.fragments as f64,
    );
    counter(
        "prometheus_tsdb_wal_record_parts_bytes_written_total",
        "Total number of record part bytes written before flushing, including CRC and compression headers.",
        wal.bytes as f64,
    );

    counter(
        "prometheus_tsdb_head_chunks_removed_total",
        "Total number of chunks removed in the head",
        load(&m.chunks_removed),
    );
    counter(
        "prometheus_tsdb_head_series_removed_total",
        "Total number of series removed in the head",
        load(&m.series_removed),
    );
    counter(
        "prometheus_tsdb_head_truncations_total",
        "Total number of head truncations attempted.",
        load(&m.truncations),
    );
    counter(
        "prometheus_tsdb_head_truncations_failed_total",
        "Total number of head truncations that failed.",
        load(&m.truncations_failed),
    );
    counter(
        "prometheus_tsdb_mmap_chunks_total",
        "Total number of chunks that were memory-mapped.",
        load(&m.chunks_spilled),
    );
    counter(
        "prometheus_tsdb_mmap_chunk_corruptions_total",
        "Total number of memory-mapped chunk corruptions.",
        load(&m.chunk_corruptions),
    );
    let name = "prometheus_tsdb_head_gc_duration_seconds";
    out.family(name, "Runtime of garbage collection in the head block.", Kind::Summary);
    out.sample(&format!("{name}_sum"), &[], load(&m.gc_duration_ns) / 1e9);
    out.sample(&format!("{name}_count"), &[], load(&m.truncations) - load(&m.truncations_failed));
    out.single(
        "prometheus_tsdb_head_chunks_storage_size_bytes",
        "Size of the chunks_head directory.",
        Kind::Gauge,
        db.chunks_head_bytes() as f64,
    );

    let float = [("type", "float")];
    fn typed(out: &mut Encoder, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        out.family(name, help, Kind::Counter);
        out.sample(name, labels, value);
    }
    typed(
        out,
        "prometheus_tsdb_head_samples_appended_total",
        "Total number of appended samples.",
        &float,
        load(&m.samples_appended),
    );
    out.sample("prometheus_tsdb_head_samples_appended_total", &[("type", "histogram")], load(&m.histograms_appended));
    typed(
        out,
        "prometheus_tsdb_out_of_order_samples_total",
        "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
        &float,
        load(&m.out_of_order),
    );
    typed(
        out,
        "prometheus_tsdb_out_of_bound_samples_total",
        "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
        &float,
        load(&m.out_of_bound),
    );
    typed(
        out,
        "prometheus_tsdb_too_old_samples_total",
        "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
        &float,
        load(&m.too_old),
    );
    typed(
        out,
        "prometheus_tsdb_head_out_of_order_samples_appended_total",
        "Total number of appended out of order samples.",
        &float,
        load(&m.out_of_order_appended),
    );
    out.sample(
        "prometheus_tsdb_head_out_of_order_samples_appended_total",
        &[("type", "histogram")],
        load(&m.out_of_order_histograms_appended),
    );
    typed(
        out,
        "prometheus_tsdb_wal_replay_unknown_refs_total",
        "Total number of unknown series references encountered during WAL replay.",
        &[("type", "samples")],
        load(&m.replay_unknown_refs),
    );
    out.sample(
        "prometheus_tsdb_wal_replay_unknown_refs_total",
        &[("type", "metadata")],
        db.replayed().unknown_metadata as f64,
    );
    typed(
        out,
        "prometheus_tsdb_wbl_replay_unknown_refs_total",
        "Total number of unknown series references encountered during WBL replay.",
        &[("type", "samples")],
        db.replayed().out_of_order.unknown_refs as f64,
    );
    typed(
        out,
        "prometheus_tsdb_wal_record_bytes_saved_total",
        "Total number of bytes saved by the optional record compression. Use this metric to learn about the effectiveness of compression.",
        &[("compression", db.wal_compression_name())],
        wal.bytes_saved as f64,
    );

    encode_late(&m.late, out);
    encode_wbl(db, out);
    db.with_syncs(|wal, wbl| {
        encode_syncs("prometheus_tsdb_wal_fsync_duration_seconds", wal, out);
        if db.wbl_stats().is_some() {
            encode_syncs("prometheus_tsdb_out_of_order_wbl_fsync_duration_seconds", wbl, out);
        }
    });
}

fn encode_syncs(name: &str, syncs: &SyncDurations, out: &mut Encoder) {
    out.family(name, "Duration of write log fsync.", Kind::Summary);
    let mut sorted: Vec<f64> = syncs.recent.iter().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    for (quantile, text) in [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")] {
        let rank = (quantile * sorted.len() as f64).ceil() as usize;
        out.sample(name, &[("quantile", text)], sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN));
    }
    out.sample(&format!("{name}_sum"), &[], syncs.sum);
    out.sample(&format!("{name}_count"), &[], syncs.count as f64);
}
