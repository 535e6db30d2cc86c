//! To the storage keeper.

use actix::Message;

/// storage keeper's timer -> itself: tell. Time to put the log on disk.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Sync;

/// storage keeper's timer -> itself: tell. Time to look whether the data directory needs maintenance.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Maintain;
