//! What a query and the storage tell each other while it runs: when to stop, how much was read, what was damaged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// Most warnings kept of one query; what is damaged in more places says so once more and no further.
pub const WARNINGS_MAX: usize = 10;

/// Ends work early: a deadline, and a flag that anyone may set. Counts what the work reads and keeps its warnings. Cheap to
/// clone; clones share flag, counters and warnings.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// When to stop, if ever.
    pub deadline: Option<Instant>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    series: AtomicU64,
    samples: AtomicU64,
    chunk_bytes: AtomicU64,
    warnings: Mutex<Vec<String>>,
}

/// What a query has read from the storage so far; what was read twice counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series whose samples were read.
    pub series: u64,
    /// Samples handed over.
    pub samples: u64,
    /// Bytes of the chunks they were decoded from.
    pub chunk_bytes: u64,
}

/// Why work ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The deadline passed.
    #[error("query timed out")]
    TimedOut,
    /// Somebody cancelled it (the client has gone, or the server stops).
    #[error("query was canceled")]
    Cancelled,
}

impl Control {
    /// Without a deadline.
    pub fn new() -> Control {
        Control::default()
    }

    /// With a deadline.
    pub fn until(deadline: Instant) -> Control {
        Control { deadline: Some(deadline), ..Control::default() }
    }

    /// Asks the work to end.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// `Err` if the work should end. Reads the clock: call it once per series or per few thousand samples, not per sample.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.shared.cancelled.load(Ordering::Relaxed) {
            return Err(Stopped::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Stopped::TimedOut),
            _ => Ok(()),
        }
    }

    /// Counts a series that was read: once per series, not per sample.
    pub fn count_series(&self, samples: usize) {
        self.shared.series.fetch_add(1, Ordering::Relaxed);
        self.shared.samples.fetch_add(samples as u64, Ordering::Relaxed);
    }

    /// Counts bytes of chunks that were decoded: once per series, not per chunk.
    pub fn count_chunk_bytes(&self, bytes: usize) {
        self.shared.chunk_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What was read so far.
    pub fn usage(&self) -> Usage {
        Usage {
            series: self.shared.series.load(Ordering::Relaxed),
            samples: self.shared.samples.load(Ordering::Relaxed),
            chunk_bytes: self.shared.chunk_bytes.load(Ordering::Relaxed),
        }
    }

    /// Tells what went wrong without making the answer useless. The same text is kept once, and [`WARNINGS_MAX`] at most.
    pub fn warn(&self, text: impl Into<String>) {
        let (text, mut warnings) = (text.into(), self.shared.warnings.lock());
        if warnings.contains(&text) {
            return;
        }
        match warnings.len() {
            WARNINGS_MAX.. => {}
            n if n + 1 == WARNINGS_MAX => warnings.push("more of the data is damaged".to_owned()),
            _ => warnings.push(text),
        }
    }

    /// The warnings so far, in the order they came; they are forgotten here.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.warnings.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_everything_but_the_deadline() {
        let control = Control::new();
        let clone = control.clone();
        clone.count_series(7);
        clone.count_chunk_bytes(100);
        clone.warn("a");
        assert_eq!(control.usage(), Usage { series: 1, samples: 7, chunk_bytes: 100 });
        assert_eq!((control.take_warnings(), clone.take_warnings()), (vec!["a".to_owned()], vec![]));
        assert_eq!(control.check(), Ok(()));
        clone.cancel();
        assert_eq!(control.check(), Err(Stopped::Cancelled));
        assert_eq!(Control::until(Instant::now()).check(), Err(Stopped::TimedOut));
    }

    #[test]
    fn warnings_are_kept_once_and_are_bounded() {
        let control = Control::new();
        (0..30).for_each(|n| control.warn(format!("warning {}", n / 2)));
        let warnings = control.take_warnings();
        assert_eq!((warnings.len(), &*warnings[8], &*warnings[9]), (10, "warning 8", "more of the data is damaged"));
    }
}
