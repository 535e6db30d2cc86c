//! A scrape that stores nothing: what would become of a body now, as if the target had never been scraped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fk_config::ScrapeConfig;
use fk_model::Labels;
use fk_storage::{AppendReport, Appender, Batch, SeriesRef, StorageError};

use crate::features::Features;
use crate::scrape_loop::{Fetched, ScrapeLoop, ScrapeOutcome, Scratch};
use crate::target::Target;

/// Takes everything and keeps nothing.
#[derive(Debug, Default)]
struct Nowhere {
    series: AtomicU64,
}

impl Appender for Nowhere {
    fn resolve(&self, _: &Labels) -> Result<SeriesRef, StorageError> {
        Ok(SeriesRef(self.series.fetch_add(1, Ordering::Relaxed) + 1))
    }

    fn append(&self, _: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        *report = AppendReport::default();
        Ok(())
    }
}

/// What becomes of `fetched` by the rules and limits of the job. The storage is not asked, so nothing is out of order, and every
/// series is new. `elapsed_s` as in [`ScrapeLoop::ingest`].
pub fn rehearse(
    target: &Arc<Target>,
    job: &Arc<ScrapeConfig>,
    features: Features,
    fetched: Fetched<'_>,
    ts_ms: i64,
    elapsed_s: impl FnOnce() -> f64,
) -> ScrapeOutcome {
    let mut engine = ScrapeLoop::new(Arc::clone(target), Arc::clone(job)).with_features(features);
    engine.ingest(fetched, ts_ms, elapsed_s, &mut Scratch::default(), &Nowhere::default())
}
