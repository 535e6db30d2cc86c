//! Compaction: the head becomes blocks ([`head`]), blocks become longer blocks ([`blocks`]), and the log is cut behind them
//! ([`log`]); series that have ended may go to blocks of their own before ([`stale`]). Which blocks are merged says [`plan`].
//!
//! All of it runs in [`Db::maintain`](crate::Db::maintain), one at a time, and follows one order: what is new is durable, then
//! visible, then what it replaces goes. So a crash at any moment leaves too much and never too little, and the next start
//! clears away what is too much: temporary directories, blocks whose successor is there, segments before a checkpoint.

mod blocks;
mod head;
mod log;
pub mod pace;
pub mod plan;
mod stale;
pub mod uploads;

pub(crate) use head::new_block;
pub(crate) use log::SUPERSEDED_PAUSE_MS;
