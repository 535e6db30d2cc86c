//! How fast maintenance writes: beside ingestion and queries, not instead of them.

use std::time::{Duration, Instant};

use fk_storage::{Control, StorageError};

/// A pause is slept in pieces of this length, so that it ends soon after it is cancelled.
const PIECE: Duration = Duration::from_millis(50);

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
}

impl<'c> Throttle<'c> {
    /// From now on.
    pub fn new(bytes_per_s: u64, control: &'c Control) -> Throttle<'c> {
        Throttle { control, bytes_per_s, next: Instant::now() }
    }

    /// `bytes` were written: waits until as many may be written at this pace.
    pub fn spent(&mut self, bytes: u64) -> Result<(), StorageError> {
        self.control.check()?;
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
