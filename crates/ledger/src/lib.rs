//! What the server remembers about alerts over restarts, in files of its own in the data directory.
//!
//! - [`Journal`]: the state that alerts are in now. A rule group that starts again goes on with it, whatever its `for`, and
//!   tells nobody anything twice. Small: what has ended is forgotten.
//! - [`Ledger`]: what became of alerts: when each was pending, firing and resolved, and each attempt to tell an Alertmanager,
//!   with its result. Bounded: the alerts of which nothing was heard for the longest time make room.
//!
//! Both are logs of checksummed records (`frames.rs`, `codec.rs`; format in `docs/format/alerts.md`), written through with
//! every change, so that a killed process loses nothing, and written anew from memory when they have grown. Damage costs the
//! records it covers: the file is set aside and the start goes on. Prometheus does not look at the directory.
//!
//! Nothing here fails an evaluation or a notification: a disk that takes no writes is told in the log, and the next
//! [`Journal::keep`] that succeeds writes everything down that memory knows.

mod codec;
mod frames;
mod journal;
mod ledger;

pub use journal::{Journal, Recalled};
use std::path::Path;
use std::sync::Arc;

use fk_vfs::Vfs;

pub use ledger::{Attempt, Delivery, Entry, History, Ledger, Transition};

/// Where the files are, below the data directory.
pub const DIRECTORY: &str = "firekeeper_alerts";

/// Both files of a data directory.
#[derive(Clone, Debug)]
pub struct Records {
    /// The state of alerts.
    pub journal: Arc<Journal>,
    /// Their history.
    pub ledger: Arc<Ledger>,
}

impl Records {
    /// Opens both; makes them if they are not there.
    pub fn open(vfs: Arc<dyn Vfs>, data: &Path, now_ms: i64) -> Records {
        let records = Records { journal: Journal::open(Arc::clone(&vfs), data), ledger: Ledger::open(vfs, data) };
        records.keep(now_ms);
        records
    }

    /// What is to be done every second or so, from a thread that may wait for the disk.
    pub fn keep(&self, now_ms: i64) {
        self.journal.keep(now_ms);
        self.ledger.keep(now_ms);
    }
}

/// Reads these records as a journal and as a ledger, for fuzzing.
pub fn fuzz(records: &[Vec<u8>]) {
    let mut bytes = frames::head(0);
    for record in records {
        frames::put_frame(&mut bytes, |out| out.extend_from_slice(record));
    }
    journal::read(&bytes);
    ledger::read(&bytes);
}
