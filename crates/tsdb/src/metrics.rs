//! Counters of the storage: plain atomics, so that counting costs nothing and the engine knows no registry. The names
//! beside them are those of Prometheus.

use std::sync::atomic::{AtomicI64, AtomicU64};

/// Counters that only grow, apart from the gauges named so.
#[derive(Debug, Default)]
pub struct DbMetrics {
    /// `prometheus_tsdb_head_samples_appended_total{type="float"}`
    pub samples_appended: AtomicU64,
    /// `prometheus_tsdb_out_of_order_samples_total{type="float"}`
    pub out_of_order: AtomicU64,
    /// `prometheus_tsdb_out_of_bound_samples_total{type="float"}`
    pub out_of_bound: AtomicU64,
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
    /// `prometheus_tsdb_head_appenders_created_total`: batches begun.
    pub batches: AtomicU64,
    /// `prometheus_tsdb_head_active_appenders`, a gauge: batches under way.
    pub active_batches: AtomicI64,
    /// Selects that met two newer commits of one series and looked again with all shards held.
    pub select_conflicts: AtomicU64,
    /// `prometheus_tsdb_wal_replay_unknown_refs_total{type="samples"}`
    pub replay_unknown_refs: AtomicU64,
}
