//! Metrics of exemplars. Prometheus has them whether exemplars are kept or not.

use fk_instrument::{Encoder, Kind};

use crate::db::Db;

pub(super) fn encode(db: &Db, out: &mut Encoder) {
    let stats = db.exemplars.stats();
    let mut single = |name: &str, help: &str, kind, value: f64| {
        out.single(&format!("prometheus_tsdb_exemplar_{name}"), help, kind, value);
    };
    // Help texts as in Prometheus:
    single("exemplars_appended_total", "Total number of appended exemplars.", Kind::Counter, stats.appended as f64);
    single(
        "out_of_order_exemplars_total",
        "Total number of out-of-order exemplar ingestion failed attempts.",
        Kind::Counter,
        stats.out_of_order as f64,
    );
    single(
        "exemplars_in_storage",
        "Number of exemplars currently in circular storage.",
        Kind::Gauge,
        stats.stored as f64,
    );
    single(
        "series_with_exemplars_in_storage",
        "Number of series with exemplars currently in circular storage.",
        Kind::Gauge,
        stats.series as f64,
    );
    single(
        "last_exemplars_timestamp_seconds",
        "The timestamp of the oldest exemplar stored in circular storage. Useful to check for what time range the current \
         exemplar buffer limit allows. This usually means the last timestamp for all exemplars for a typical setup. This is \
         not true though if one of the series timestamp is in future compared to rest series.",
        Kind::Gauge,
        stats.last_t.map_or(0.0, |t| t as f64 / 1000.0),
    );
    single(
        "max_exemplars",
        "Total number of exemplars the exemplar storage can store, resizeable.",
        Kind::Gauge,
        stats.max as f64,
    );
}
