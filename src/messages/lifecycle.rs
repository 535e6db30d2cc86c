//! To the lifecycle actor, and from it to all.

use std::sync::Arc;

use actix::Message;
use fk_tsdb::Db;

/// signals, web -> lifecycle: tell. Stop the server in order; a second one ends the process at once.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// For the log: a signal's name or the route.
    pub reason: String,
}

/// any -> lifecycle: tell. The sender cannot go on: stop in order, exit code 1.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Fatal {
    /// Who.
    pub subsystem: String,
    /// Why.
    pub error: String,
}

/// storage keeper -> lifecycle: tell, once. The storage is open and replayed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct DbOpen(pub Arc<Db>);

/// lifecycle -> remote storage, query gate, config reloader: broadcast, once. The storage is open and the
/// configuration loaded: doors may open, reloads are served, and the scrape, rule and notifier actors come next.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ReloadReady;

/// lifecycle -> a subsystem, or a manager -> its children: ask with a deadline. Finish what is under way, take on nothing new, answer
/// when nothing is left. May come twice.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;
