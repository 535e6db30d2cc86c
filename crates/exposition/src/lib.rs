//! The exposition formats: what targets say, and what we say ourselves.
//!
//! [`TextParser`] reads the Prometheus text format (0.0.4, and 1.0.0 with quoted names) without copying, one entry at a
//! time; it can start at any line of a body, which is what the scrape cache needs. [`TextWriter`] writes format 0.0.4.
//! [`negotiate`] builds Accept headers and chooses the parser for a response.
//!
//! [`OpenMetricsParser`] reads OpenMetrics text the same way. [`reader`] reads any format, protobuf included, through one interface,
//! [`Exposition`], with all that options can ask for: classic histograms turned into native ones, start timestamps, types as labels.

pub mod float;
mod lines;
pub mod negotiate;
mod nhcb;
pub mod openmetrics;
mod protobuf;
mod reader;
mod spans;
pub mod text;
pub mod writer;

#[cfg(test)]
mod conformance;

pub use fk_model::metadata::MetricType;
pub use float::{FloatError, format_go_float, format_open_metrics_float, parse_go_float, scan_float};
pub use lines::Lines;
pub use negotiate::{Format, MediaType, NegotiationError, Protocol, accept_header, choose_format};
pub use openmetrics::{ExemplarEntry, OpenMetricsEntry, OpenMetricsParser};
pub use reader::{
    EntryKind, ExposedExemplar, ExposedHistogram, Exposition, ReadOptions, TYPE_LABEL, UNIT_LABEL, key_labels, reader,
};
pub use text::{Entry, ParseError, Sample, TextParser};
pub use writer::TextWriter;
