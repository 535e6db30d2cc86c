//! From discovery to whoever uses targets.

use std::sync::Arc;

use actix::Message;
use fk_model::TargetGroup;

/// discoverer -> discovery manager: tell. Groups that changed; rate-bound by the provider's refresh interval and the file watch.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GroupsFound {
    /// Which discoverer, as the manager named it.
    pub discoverer: u64,
    /// Groups that are new, changed, or (without targets) gone.
    pub groups: Vec<TargetGroup>,
}

/// discovery manager -> scrape manager, notifier: tell, latest wins. Everything known for one job or Alertmanager entry.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct TargetGroups {
    /// Job name, or the key of the Alertmanager entry.
    pub job: String,
    /// All its groups.
    pub groups: Arc<Vec<TargetGroup>>,
}
