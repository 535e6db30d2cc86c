//! The local storage: what was scraped goes into the head (memory) and the write-ahead log (disk), and queries are
//! answered from the head.
//!
//! Start at [`Db`]: it owns a data directory, replays the log at start and implements the storage traits. Below it:
//! [`head`] holds the series, [`chunk`] the encodings of samples, [`wal`] the log, [`vfs`] the only way to files.
//!
//! Invariant: nothing here knows actors; time comes in as sample times.

#![expect(unexpected_cfgs, reason = "`fuzzing` is set by cargo-fuzz alone")]

pub mod chunks_head;
pub mod compact;
pub mod db;
mod exemplars;
pub mod head;
mod image;
pub mod lockfile;
pub mod maintain;
mod memory_snapshot;
pub mod metrics;
pub mod read;
pub mod readonly;
mod replay;
pub mod retention;
pub mod scrub;
pub mod view;

#[cfg(fuzzing)]
pub use image::fuzzing;

pub use fk_chunk::Encoding;

pub use db::{Db, DbError, DbOptions, OptionError, Retention, TsdbConfig};
pub use head::{Head, HeadStats, HeadStatus, HeadStream};
pub use maintain::{Deletion, Maintained, Now, Quarantined};
pub use readonly::ReadOnlyDb;
pub use replay::{ReplayProgress, Replayed};
pub use view::{View, Views};
