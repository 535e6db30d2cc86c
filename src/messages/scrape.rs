//! From the scrape manager down to pools and loops.

use std::sync::Arc;

use actix::Message;
use fk_config::ScrapeConfig;
use fk_http::Client;
use fk_model::TargetGroup;

use crate::json_log::JsonLog;

/// scrape manager -> scrape pool: tell, latest wins. All target groups of the job.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SyncTargets(pub Arc<Vec<TargetGroup>>);

/// scrape manager -> scrape pool: tell. The job's configuration changed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct UpdateJob(pub JobSpec);

/// A job, ready to run.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Its configuration.
    pub config: Arc<ScrapeConfig>,
    /// The HTTP client made from it.
    pub client: Client,
    /// Seed of the scrape offsets, see `fk_scrape`.
    pub seed: u64,
    /// Where its failed scrapes are noted (`scrape_failure_log_file`).
    pub failure_log: Option<Arc<JsonLog>>,
}

/// scrape pool -> scrape loop: tell, once. The target is gone: mark its series stale when it is sure not to come back, and end.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct EndTarget;
