//! The exposition formats: what targets say, and what we say ourselves.
//!
//! [`TextParser`] reads the Prometheus text format (0.0.4, and 1.0.0 with quoted names) without copying, one entry at a
//! time; it can start at any line of a body, which is what the scrape cache needs. [`TextWriter`] writes format 0.0.4.
//! [`negotiate`] builds Accept headers and chooses the parser for a response.
//!
//! OpenMetrics and the protobuf format are known by name, and not read yet.

pub mod float;
pub mod negotiate;
pub mod text;
pub mod writer;

use std::fmt;

pub use float::{FloatError, format_go_float, format_open_metrics_float, parse_go_float, scan_float};
pub use negotiate::{Format, MediaType, NegotiationError, Protocol, accept_header, choose_format};
pub use text::{Entry, ParseError, Sample, TextParser};
pub use writer::TextWriter;

/// Types of metrics, as TYPE lines name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Not said, or `untyped`.
    #[default]
    Unknown,
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Quantiles, sum and count.
    Summary,
}

impl MetricType {
    /// As the API shows it.
    pub fn name(self) -> &'static str {
        match self {
            MetricType::Unknown => "unknown",
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Summary => "summary",
        }
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
