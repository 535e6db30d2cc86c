//! What actors tell each other: plain data, one file per receiving subsystem.
//!
//! | message | sender -> receiver | reply | delivery |
//! |---|---|---|---|
//! | [`lifecycle::Shutdown`] | signals, web -> lifecycle | - | tell; repeats force |
//! | [`lifecycle::Fatal`] | any -> lifecycle | - | tell |
//! | [`lifecycle::DbOpen`] | storage keeper -> lifecycle | - | tell, once |
//! | [`lifecycle::ReloadReady`] | lifecycle -> remote storage, query gate, config reloader | - | broadcast, once |
//! | [`lifecycle::Drain`] | lifecycle -> every subsystem; managers -> their children | when drained | ask with a deadline |
//! | [`config::LoadInitial`] | lifecycle -> config reloader | read and checked, or why not | ask, once |
//! | [`config::ApplyInitial`] | lifecycle -> config reloader | all prepared and committed | ask, once |
//! | [`config::Reload`] | signals, web, file watch -> config reloader | outcome with every error | ask; one at a time |
//! | [`config::ApplyConfig`] | config reloader -> every subsystem that has configuration | prepared, or refused | ask: prepare all, then commit or abort all |
//! | [`discovery::GroupsFound`] | discoverer -> discovery manager | - | tell, rate-bound by the provider |
//! | [`discovery::TargetGroups`] | discovery manager -> scrape manager, notifier | - | tell, latest wins per job |
//! | [`scrape::SyncTargets`] | scrape manager -> scrape pool | - | tell, latest wins |
//! | [`scrape::UpdateJob`] | scrape manager -> scrape pool | - | tell |
//! | [`scrape::EndTarget`] | scrape pool -> scrape loop | - | tell, once |
//! | [`notify::Alerts`] | rule group -> notifier | - | tell, one per evaluation |
//! | [`notify::SendAlerts`] | notifier -> Alertmanager sender | - | tell; the sender's queue is bounded |
//! | [`query::Admit`] | web, rule group -> query gate | a permit, or refused | ask; bounded waiting line |
//! | [`storage::Sync`] | storage keeper's timer -> itself | - | tell |
//! | [`storage::Maintain`] | storage keeper's timer -> itself | - | tell |
//! | [`Tick`] | an actor's timer -> itself | - | tell; only the newest timer's tick counts |

pub mod config;
pub mod discovery;
pub mod lifecycle;
pub mod notify;
pub mod query;
pub mod scrape;
pub mod storage;

use actix::Message;

/// An actor's timer -> itself: time to look what is due. Goes through the mailbox, so that it is metered and takes its
/// turn. Carries the number of the timer that sent it; older numbers are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Tick(pub u64);
