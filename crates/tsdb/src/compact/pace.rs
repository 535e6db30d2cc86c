//! How fast maintenance writes: beside ingestion and queries, not instead of them.
//!
//! The disk is shared with the log, whose syncs pushes wait for. A priority of its own for the disk would be of use with few
//! schedulers only, and there the thread's niceness counts as well. So maintenance writes at a limited rate, and holds its
//! breath while a sync of the log is under way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fk_storage::{Control, StorageError};

/// A pause is slept in pieces of this length, so that it ends soon after it is cancelled.
const PIECE: Duration = Duration::from_millis(50);

/// How often it is looked whether a sync has ended.
const YIELD: Duration = Duration::from_millis(2);

/// Longest pause for syncs between two megabytes, so that a disk that is never at rest does not stop maintenance.
const YIELD_MAX: Duration = Duration::from_millis(100);

/// What was not used of the allowance is kept for so long: a pause of somebody else is caught up with, not an idle hour.
const CREDIT: Duration = Duration::from_millis(250);

/// Keeps a piece of work to a number of bytes per second, and ends it when it is cancelled.
#[derive(Debug)]
pub struct Throttle<'c> {
    control: &'c Control,
    /// 0: as fast as it can.
    bytes_per_s: u64,
    /// When the next bytes may be written.
    next: Instant,
    /// How many more urgent operations of the disk are under way.
    urgent: Option<&'c AtomicUsize>,
}

impl<'c> Throttle<'c> {
    /// From now on.
    pub fn new(bytes_per_s: u64, control: &'c Control) -> Throttle<'c> {
        Throttle { control, bytes_per_s, next: Instant::now(), urgent: None }
    }

    /// Also pauses while `urgent` is not zero.
    pub fn yielding_to(self, urgent: &'c AtomicUsize) -> Throttle<'c> {
        Throttle { urgent: Some(urgent), ..self }
    }

    /// `bytes` were written: waits until as many may be written at this pace.
    pub fn spent(&mut self, bytes: u64) -> Result<(), StorageError> {
        self.control.check()?;
        self.yield_to_urgent();
        if self.bytes_per_s == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let oldest = now.checked_sub(CREDIT).unwrap_or(now);
        self.next = self.next.max(oldest) + takes;
        while let Some(left) = self.next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(PIECE));
            self.control.check()?;
        }
        Ok(())
    }

    fn yield_to_urgent(&self) {
        let Some(urgent) = self.urgent else { return };
        let began = Instant::now();
        while urgent.load(Ordering::Relaxed) > 0 && began.elapsed() < YIELD_MAX {
            std::thread::sleep(YIELD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time() {
        let control = Control::new();
        let mut throttle = Throttle::new(1_000_000, &control);
        let began = Instant::now();
        for _ in 0..10 {
            throttle.spent(10_000).expect("not cancelled");
        }
        assert!(began.elapsed() >= Duration::from_millis(99), "{:?}", began.elapsed());
        let mut free = Throttle::new(0, &control);
        let began = Instant::now();
        free.spent(u64::MAX).expect("not cancelled");
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn what_is_urgent_is_waited_for_and_not_for_ever() {
        let (control, urgent) = (Control::new(), AtomicUsize::new(1));
        let mut throttle = Throttle::new(0, &control).yielding_to(&urgent);
        let mut spend = || {
            let began = Instant::now();
            throttle.spent(1).expect("not cancelled");
            began.elapsed()
        };
        assert!(spend() >= YIELD_MAX);
        urgent.store(0, Ordering::Relaxed);
        assert!(spend() < YIELD_MAX);
    }

    #[test]
    fn a_pause_ends_when_it_is_cancelled() {
        let control = Control::new();
        let other = control.clone();
        let mut throttle = Throttle::new(1, &control);
        let waiting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.cancel();
        });
        assert!(matches!(throttle.spent(1_000_000), Err(StorageError::Stopped(_))));
        waiting.join().expect("no panic");
    }
}
