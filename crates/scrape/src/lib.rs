//! One target, from response body to stored samples. No clock, no socket, no task: the caller fetches and tells the time.
//!
//! - [`TargetSet::from_groups`] turns what discovery found into [`Target`]s: defaults, relabelling, checks, URL.
//! - [`timing`] says when a target is scraped and which timestamp its samples get.
//! - [`ScrapeLoop`] is the state of one target between scrapes. [`ScrapeLoop::ingest`] takes one fetched body (or why there is
//!   none) and hands samples, staleness markers and the synthetic series to the storage.
//!
//! What makes it fast is the layout cache, see [`cache`]: a line that stood at the same place in the scrape before costs a
//! comparison of bytes, the parsing of a float and a push.
//!
//! The behaviour is that of Prometheus' `scrape` package; where it is surprising, the comments say so.

pub mod cache;
mod features;
pub mod history;
pub mod labels;
pub mod metadata;
mod rehearsal;
pub mod scrape_loop;
mod starts;
pub mod target;
mod texts;
pub mod timing;

pub use features::Features;
pub use history::{BodyBudget, FetchedBody, History, KeptBody, PastScrape, Stages};
pub use labels::DroppedBy;
pub use metadata::{MetadataHandle, MetadataMap, MetricMetadata};
pub use rehearsal::rehearse;
pub use scrape_loop::{
    Fetched, ScrapeCounts, ScrapeError, ScrapeLoop, ScrapeOutcome, Scratch, accept_header, cache_survives,
};
pub use target::{DroppedTarget, HistogramSwitches, Target, TargetError, TargetErrorReason, TargetSet, explain};
