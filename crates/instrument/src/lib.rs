//! Firekeeper's own metrics: counters, gauges, histograms, and the registry behind `/metrics`.
//!
//! A metric is a plain handle (`Arc` inside, atomics below) that the code it describes keeps and updates without a lock
//! (only a [`Summary`] has one: it remembers what it saw).
//! Labelled metrics are [`Family`]s: look the member up once and keep it. What is cheaper to compute when somebody asks
//! is a collector, see [`Registry::collect`].
//!
//! Names, helps and labels follow Prometheus wherever it has the metric.

mod encoder;
mod metric;
mod summary;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

pub use encoder::{Encoder, Kind, Row, Rows};
pub use metric::{Counter, Family, Gauge, Histogram, Metric};
pub use summary::Summary;

type Collector = Box<dyn Fn(&mut Encoder) + Send + Sync>;

/// All metrics of a process (or of a test). Cheap to clone; clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Vec<Collector>>>);

impl Registry {
    /// Without metrics.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Registers and returns a counter.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Registers and returns a gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Registers and returns a histogram with these upper bounds (ascending, without +Inf).
    pub fn histogram(&self, name: &'static str, help: &'static str, bounds: &'static [f64]) -> Histogram {
        self.register(name, help, Histogram::new(bounds))
    }

    /// Registers and returns counters that differ in the values of `labels`.
    pub fn counters(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Counter> {
        self.family(name, help, Family::new(labels, Counter::default))
    }

    /// Registers and returns gauges that differ in the values of `labels`.
    pub fn gauges(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Gauge> {
        self.family(name, help, Family::new(labels, Gauge::default))
    }

    /// Registers and returns histograms that differ in the values of `labels`.
    pub fn histograms(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Family<Histogram> {
        self.family(name, help, Family::new(labels, move || Histogram::new(bounds)))
    }

    /// Registers and returns a summary with these quantiles (ascending, each in [0, 1]).
    pub fn summary(&self, name: &'static str, help: &'static str, quantiles: &'static [f64]) -> Summary {
        self.register(name, help, Summary::new(quantiles))
    }

    /// Registers and returns summaries that differ in the values of `labels`.
    pub fn summaries(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        quantiles: &'static [f64],
    ) -> Family<Summary> {
        self.family(name, help, Family::new(labels, move || Summary::new(quantiles)))
    }

    /// Registers a metric that exists already.
    pub fn register<M: Metric>(&self, name: &'static str, help: &'static str, metric: M) -> M {
        let kept = metric.clone();
        self.collect(move |out| {
            out.family(name, help, M::KIND);
            metric.encode(out, name, &[]);
        });
        kept
    }

    /// Registers a family that exists already. A family without members shows nothing.
    pub fn family<M: Metric>(&self, name: &'static str, help: &'static str, family: Family<M>) -> Family<M> {
        let kept = family.clone();
        self.collect(move |out| family.encode(out, name, help));
        kept
    }

    /// Registers a function that writes samples whenever the metrics are asked for. It must not block for long.
    pub fn collect(&self, collector: impl Fn(&mut Encoder) + Send + Sync + 'static) {
        self.0.lock().push(Box::new(collector));
    }

    /// All metrics in the Prometheus text format 0.0.4, families in order of their names; only those `keep` accepts.
    pub fn text(&self, keep: impl Fn(&str) -> bool) -> String {
        let mut encoder = Encoder::default();
        for collector in self.0.lock().iter() {
            collector(&mut encoder);
        }
        encoder.finish(keep)
    }

    /// All metrics as values, families in order of their names; only those `keep` accepts.
    pub fn gather(&self, keep: impl Fn(&str) -> bool) -> Vec<Rows> {
        let mut encoder = Encoder::of_rows();
        for collector in self.0.lock().iter() {
            collector(&mut encoder);
        }
        encoder.into_rows(keep)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("collectors", &self.0.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_come_out_sorted_and_escaped() {
        let registry = Registry::new();
        registry.gauge("b_gauge", "second").set(-1.5);
        let counters = registry.counters("a_total", "first\nline", &["x", "y"]);
        counters.get(&["1", "say \"hi\"\\"]).add(3);
        counters.get(&["0", ""]).inc();
        registry.counters("never_used_total", "shows nothing", &["x"]);
        assert_eq!(
            registry.text(|_| true),
            "# HELP a_total first\\nline\n# TYPE a_total counter\na_total{x=\"0\",y=\"\"} 1\n\
             a_total{x=\"1\",y=\"say \\\"hi\\\"\\\\\"} 3\n# HELP b_gauge second\n# TYPE b_gauge gauge\nb_gauge -1.5\n"
        );
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let registry = Registry::new();
        let histogram = registry.histogram("h_seconds", "help", &[0.1, 1.0]);
        for v in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(v);
        }
        let text = registry.text(|name| name == "h_seconds");
        assert_eq!(
            text,
            "# HELP h_seconds help\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"0.1\"} 2\nh_seconds_bucket{le=\"1\"} 3\n\
             h_seconds_bucket{le=\"+Inf\"} 4\nh_seconds_sum 7.65\nh_seconds_count 4\n"
        );
    }

    #[test]
    fn summaries_show_quantiles_of_what_is_recent() {
        let registry = Registry::new();
        let summary = registry.summary("s_seconds", "help", &[0.5, 0.9]);
        assert!(registry.text(|_| true).contains("s_seconds{quantile=\"0.5\"} NaN\n"));
        for v in 1..=100 {
            summary.observe(f64::from(v));
        }
        assert_eq!(
            registry.text(|_| true),
            "# HELP s_seconds help\n# TYPE s_seconds summary\ns_seconds{quantile=\"0.5\"} 50\n\
             s_seconds{quantile=\"0.9\"} 90\ns_seconds_sum 5050\ns_seconds_count 100\n"
        );
    }

    #[test]
    fn values_are_those_of_the_text() {
        let registry = Registry::new();
        registry.counters("a_total", "first\nline", &["x"]).get(&["1"]).add(3);
        registry.histogram("b_seconds", "help", &[0.1]).observe(0.05);
        let families = registry.gather(|_| true);
        assert_eq!((families[0].name.as_str(), families[0].help.as_str()), ("a_total", "first\nline"));
        assert_eq!(families[0].rows[0].labels, [("x".to_owned(), "1".to_owned())]);
        let names: Vec<&str> = families[1].rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["b_seconds_bucket", "b_seconds_bucket", "b_seconds_sum", "b_seconds_count"]);
        assert_eq!(registry.gather(|name| name == "b_seconds").len(), 1);
    }

    #[test]
    fn removed_members_no_longer_show() {
        let family = Family::new(&["x"], Gauge::default);
        let gauge = family.get(&["1"]);
        gauge.set(1.0);
        family.remove(&["1"]);
        let mut out = Encoder::default();
        family.encode(&mut out, "g", "h");
        assert_eq!(out.finish(|_| true), "");
    }
}
