//! The words every part of Firekeeper speaks: labels, matchers, relabelling, durations, target groups, native
//! histograms.
//!
//! This crate knows nothing of storage, files, sockets or actors and depends on no other crate of ours. Start with
//! [`Labels`], then [`Matcher`].
//!
//! Times are `i64` milliseconds since the Unix epoch throughout (variables end in `_ms` or are called `t`, `ts`,
//! `mint`, `maxt`); sample values are `f64`. Both stay plain numbers because columns of them are computed with.

pub mod duration;
pub mod gofloat;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod metadata;
pub mod name;
pub mod regex;
pub mod relabel;
pub mod sum;
pub mod target_group;
pub mod value;

pub use duration::Duration;
pub use histogram::{CounterReset, FloatHistogram, Histogram, HistogramError, HistogramFault, SampleValue, Span};
pub use labels::{Labels, LabelsBuilder, METRIC_NAME};
pub use matcher::{MatchKind, Matcher};
pub use metadata::{Metadata, MetricType};
pub use regex::{Regex, RegexError, SearchRegex};
pub use sum::kahan;
pub use target_group::TargetGroup;
pub use value::{STALE_NAN_BITS, is_stale, stale_nan};
