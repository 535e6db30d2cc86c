//! Native histograms in queries: what the other files do for floats, done for series that have histograms.
//!
//! The engine stays series-major. A [`Column`] that has histograms carries them beside its floats, by step, behind `Arc`s:
//! selecting, filtering, matching and repeating them copies pointers. Arithmetic takes a histogram apart only where it
//! makes a new one. Each operator looks once per series whether there are any and leaves the path of floats alone.
//!
//! - `over_range.rs`: functions of range vectors; `extended.rs`: with `anchored` and `smoothed`
//! - `values.rs`: columns, and functions of instant vectors
//! - `aggregate.rs`: `sum`, `avg` and the others
//! - `binary.rs`: operators between values of any kind
//! - `quantile.rs`: quantiles, fractions, deviations
//! - `stats.rs`: histograms without their buckets
//! - `notes.rs`: what is told about them

pub(crate) mod aggregate;
pub(crate) mod binary;
pub(crate) mod extended;
mod notes;
pub(crate) mod over_range;
pub(crate) mod quantile;
pub(crate) mod stats;
mod values;

pub(crate) use notes::{Note, Notes};
