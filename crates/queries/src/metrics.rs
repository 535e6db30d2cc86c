//! `prometheus_engine_*`.

use std::time::Duration;

use fk_instrument::{Counter, Family, Histogram, Registry, Summary};

use crate::board::Measured;

const SLICES: [&str; 4] = ["queue_time", "prepare_time", "inner_eval", "result_sort"];

/// A part of the time of queries.
#[derive(Debug)]
struct Slice {
    summary: Summary,
    histogram: Histogram,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    /// In the order of [`SLICES`].
    slices: [Slice; 4],
    samples: Counter,
    samples_read: Counter,
    /// Lines of the query log that could not be written.
    pub(crate) log_failures: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Metrics {
        let summaries: Family<Summary> = registry.summaries(
            "prometheus_engine_query_duration_seconds",
            "Query timings.",
            &["slice"],
            &[0.5, 0.9, 0.99],
        );
        let histograms: Family<Histogram> = registry.histograms(
            "prometheus_engine_query_duration_histogram_seconds",
            "The duration of various parts of PromQL query execution.",
            &["slice"],
            &[0.01, 0.1, 1.0, 10.0],
        );
        Metrics {
            slices: SLICES.map(|slice| Slice { summary: summaries.get(&[slice]), histogram: histograms.get(&[slice]) }),
            samples: registry
                .counter("prometheus_engine_query_samples_total", "The total number of samples loaded by all queries."),
            samples_read: registry.counter(
                "prometheus_engine_query_samples_read_total",
                "The total number of samples read by all queries.",
            ),
            log_failures: registry
                .counter("prometheus_engine_query_log_failures_total", "The number of query log failures."),
        }
    }

    pub(crate) fn queued(&self, took: Duration) {
        self.slices[0].observe(took);
    }

    pub(crate) fn evaluated(&self, measured: &Measured) {
        let Measured { prepare, sort, .. } = *measured;
        for (slice, took) in self.slices[1..].iter().zip([prepare, measured.inner_eval(), sort]) {
            slice.observe(took);
        }
        self.samples.add(measured.stats.samples_total);
        self.samples_read.add(measured.stats.samples_read);
    }
}

impl Slice {
    fn observe(&self, took: Duration) {
        self.summary.observe(took.as_secs_f64());
        self.histogram.observe(took.as_secs_f64());
    }
}
