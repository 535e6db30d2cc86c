//! What one actor did lately, for people who look at it: how long its handlers took, which were slow, and why it was restarted.
//! Everything is bounded, and a message that is neither slow nor fatal costs one addition.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the handling times that are told apart, in microseconds; the last class has what took longer.
pub const HANDLING_US: [u64; 11] = [4, 16, 64, 256, 1_000, 4_000, 16_000, 64_000, 250_000, 1_000_000, 4_000_000];

/// A handler that takes this long is slow: others on its thread have waited.
const SLOW: Duration = Duration::from_millis(20);
/// Slow messages and restarts that are kept, of each actor.
const KEPT_MAX: usize = 5;
/// Bytes of a panic's text that are kept.
const TEXT_BYTES_MAX: usize = 500;

/// A message whose handler was slow.
#[derive(Clone, Debug)]
pub struct SlowMessage {
    /// Its type.
    pub message: &'static str,
    /// From sending it to its handling.
    pub waited: Duration,
    /// How long its handler took.
    pub took: Duration,
    /// Age of the actor at its end.
    pub at_age: Duration,
}

/// A panic.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The type of the message taken last.
    pub message: &'static str,
    /// Its text.
    pub text: String,
    /// Age of the actor then.
    pub at_age: Duration,
}

/// The record of one actor.
#[derive(Debug, Default)]
pub(crate) struct Record {
    handling: [AtomicU32; HANDLING_US.len() + 1],
    slow: Mutex<VecDeque<SlowMessage>>,
    failures: Mutex<VecDeque<Failure>>,
}

impl Record {
    pub(crate) fn handled(&self, message: &'static str, waited: Duration, took: Duration, age: impl Fn() -> Duration) {
        let took_us = took.as_micros() as u64;
        let class = HANDLING_US.iter().position(|bound| took_us <= *bound).unwrap_or(HANDLING_US.len());
        if let Some(count) = self.handling.get(class) {
            count.fetch_add(1, Relaxed);
        }
        if took >= SLOW {
            keep(&mut self.slow.lock(), SlowMessage { message, waited, took, at_age: age() });
        }
    }

    pub(crate) fn failed(&self, message: &'static str, text: &str, at_age: Duration) {
        let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or("").to_owned();
        keep(&mut self.failures.lock(), Failure { message, text, at_age });
    }

    /// How many handlers took how long, by [`HANDLING_US`].
    pub(crate) fn handling(&self) -> [u32; HANDLING_US.len() + 1] {
        std::array::from_fn(|class| self.handling[class].load(Relaxed))
    }

    /// The newest last.
    pub(crate) fn slow(&self) -> Vec<SlowMessage> {
        self.slow.lock().iter().cloned().collect()
    }

    /// The newest last.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().iter().cloned().collect()
    }
}

fn keep<T>(kept: &mut VecDeque<T>, item: T) {
    if kept.len() == KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_classed_and_what_is_kept_is_bounded() {
        let record = Record::default();
        for us in [1, 4, 5, 300, 999_999, 10_000_000] {
            record.handled("Tick", Duration::ZERO, Duration::from_micros(us), || Duration::from_secs(us));
        }
        assert_eq!(record.handling(), [2, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(record.slow().iter().map(|slow| slow.at_age.as_secs()).collect::<Vec<_>>(), [999_999, 10_000_000]);
        for n in 0..20 {
            record.failed("Tick", &"ü".repeat(n * 40), Duration::from_secs(n as u64));
        }
        let failures = record.failures();
        assert_eq!(failures.iter().map(|failure| failure.at_age.as_secs()).collect::<Vec<_>>(), [15, 16, 17, 18, 19]);
        assert!(failures.iter().all(|failure| failure.text.len() <= TEXT_BYTES_MAX));
    }
}
