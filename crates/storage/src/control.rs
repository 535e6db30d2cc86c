//! What a query and the storage tell each other while it runs: when to stop, how much was read and is held, what was
//! damaged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// Most warnings kept of one query; what is damaged in more places says so once more and no further.
pub const WARNINGS_MAX: usize = 10;

/// Ends work early: a deadline, a flag that anyone may set, and limits of memory. Counts what the work reads and holds, and
/// keeps its warnings. Cheap to clone; clones share flag, counters and warnings.
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
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    /// Limits of what may be held, if there are any.
    budget: Option<Arc<MemoryBudget>>,
    warnings: Mutex<Vec<String>>,
}

/// What queries may hold in memory: each of them, and all together.
#[derive(Debug)]
pub struct MemoryBudget {
    each_max: u64,
    all_max: u64,
    /// Held now, by all.
    used: AtomicU64,
}

impl MemoryBudget {
    /// With limits in bytes.
    pub fn new(each_max: u64, all_max: u64) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget { each_max, all_max, used: AtomicU64::new(0) })
    }

    /// Most bytes that one query may hold.
    pub fn each_max(&self) -> u64 {
        self.each_max
    }

    /// Most bytes that all queries together may hold.
    pub fn all_max(&self) -> u64 {
        self.all_max
    }

    /// Bytes that queries hold now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// What a query has read from the storage so far (what was read twice counts twice), and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series whose samples were read.
    pub series: u64,
    /// Samples handed over.
    pub samples: u64,
    /// Bytes of the chunks they were decoded from.
    pub chunk_bytes: u64,
    /// Bytes held now, as far as they were reserved.
    pub bytes: u64,
    /// Most bytes held at once.
    pub bytes_peak: u64,
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
    /// It needs more memory than one query may have; bytes.
    #[error("query needs more than {0} bytes of memory, the limit for one query")]
    TooMuchMemory(u64),
    /// All queries together need more memory than they may have; bytes.
    #[error("queries need more than {0} bytes of memory together, the limit for all running queries")]
    NoMemoryLeft(u64),
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

    /// With limits of memory.
    pub fn within(budget: &Arc<MemoryBudget>) -> Control {
        let shared = Shared { budget: Some(Arc::clone(budget)), ..Shared::default() };
        Control { deadline: None, shared: Arc::new(shared) }
    }

    /// The same with another deadline.
    pub fn with_deadline(self, deadline: Instant) -> Control {
        Control { deadline: Some(deadline), ..self }
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

    /// Memory that the work is going to hold: none at first.
    pub fn reserve(&self) -> Reservation {
        Reservation { shared: Arc::clone(&self.shared), bytes: 0 }
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

    /// What was read and is held so far.
    pub fn usage(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            series: read(&self.shared.series),
            samples: read(&self.shared.samples),
            chunk_bytes: read(&self.shared.chunk_bytes),
            bytes: read(&self.shared.bytes),
            bytes_peak: read(&self.shared.bytes_peak),
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

/// Memory that a query holds, as estimated by whoever holds it; given back when dropped. Count what grows with the data,
/// once per series or per buffer, not per sample.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Reservation {
    /// So many bytes more. With an error they count all the same, until the reservation is dropped.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Stopped> {
        let (shared, bytes) = (&*self.shared, bytes as u64);
        self.bytes = self.bytes.saturating_add(bytes);
        let own = shared.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if own > shared.bytes_peak.load(Ordering::Relaxed) {
            shared.bytes_peak.fetch_max(own, Ordering::Relaxed);
        }
        let Some(budget) = &shared.budget else { return Ok(()) };
        let all = budget.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if own > budget.each_max {
            return Err(Stopped::TooMuchMemory(budget.each_max));
        }
        if all > budget.all_max { Err(Stopped::NoMemoryLeft(budget.all_max)) } else { Ok(()) }
    }

    /// So many bytes are free again, at most what is held.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = self.bytes.min(bytes as u64);
        self.bytes -= bytes;
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(budget) = &self.shared.budget {
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(usize::MAX);
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
        assert_eq!(control.usage(), Usage { series: 1, samples: 7, chunk_bytes: 100, bytes: 0, bytes_peak: 0 });
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

    #[test]
    fn memory_is_limited_for_each_and_for_all_and_comes_back() {
        let budget = MemoryBudget::new(100, 150);
        let (a, b) = (Control::within(&budget), Control::within(&budget));
        let (mut of_a, mut more_of_a, mut of_b) = (a.reserve(), a.reserve(), b.reserve());
        assert_eq!((of_a.grow(60), more_of_a.grow(40)), (Ok(()), Ok(())));
        assert_eq!(of_b.grow(50), Ok(()));
        assert_eq!(of_b.grow(1), Err(Stopped::NoMemoryLeft(150)));
        assert_eq!(of_a.grow(1), Err(Stopped::TooMuchMemory(100)));
        of_a.shrink(1);
        assert_eq!((a.usage().bytes, a.usage().bytes_peak, budget.used()), (100, 101, 151));
        of_b.shrink(1000);
        drop((of_a, more_of_a));
        assert_eq!((a.usage().bytes, b.usage().bytes, budget.used()), (0, 0, 0));
        assert_eq!(of_b.grow(99), Ok(()));
        drop(of_b);
        assert_eq!(budget.used(), 0);
        assert_eq!(Control::new().reserve().grow(usize::MAX), Ok(()), "without a budget nothing is refused");
    }
}
