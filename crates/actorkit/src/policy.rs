//! How often, and how soon, an actor is restarted.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When to restart an actor that panicked, and when to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// More panics than this ...
    pub restarts_max: usize,
    /// ... within this time are too many.
    pub within: Duration,
    /// Pause before the first restart.
    pub delay_min: Duration,
    /// The pause doubles with each further restart within the time, up to this.
    pub delay_max: Duration,
}

impl Default for RestartPolicy {
    /// Five restarts a minute, 20 ms to 640 ms apart: the actor is back within a second each time.
    fn default() -> RestartPolicy {
        RestartPolicy {
            restarts_max: 5,
            within: Duration::from_secs(60),
            delay_min: Duration::from_millis(20),
            delay_max: Duration::from_millis(640),
        }
    }
}

/// The panics of one actor that still count.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    /// Invariant: ascending; at most `restarts_max + 1` long.
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub(crate) fn new(policy: RestartPolicy) -> Restarts {
        Restarts { policy, recent: VecDeque::new() }
    }

    /// Counts a panic. The pause before the restart, or `None` if there were too many. `jitter` is in [0, 1).
    pub(crate) fn panicked(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        while self.recent.front().is_some_and(|t| now.duration_since(*t) > self.policy.within) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() > self.policy.restarts_max {
            return None;
        }
        let doublings = (self.recent.len() - 1).min(31) as u32;
        let full = self.policy.delay_min.saturating_mul(1 << doublings).min(self.policy.delay_max);
        // Between half and all of the delay, so that actors that fell together do not rise together.
        Some(full.mul_f64(0.5 + jitter / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_the_last_straw_is_reported() {
        let policy = RestartPolicy { restarts_max: 3, ..RestartPolicy::default() };
        let mut restarts = Restarts::new(policy);
        let now = Instant::now();
        let delays: Vec<_> = (0..4).map(|_| restarts.panicked(now, 0.999_999)).collect();
        let ms = |d: Option<Duration>| d.map(|d| d.as_secs_f64() * 1000.0).map(f64::round);
        assert_eq!(delays.into_iter().map(ms).collect::<Vec<_>>(), [Some(20.0), Some(40.0), Some(80.0), None]);
    }

    #[test]
    fn old_panics_are_forgiven() {
        let mut restarts = Restarts::new(RestartPolicy { restarts_max: 1, ..RestartPolicy::default() });
        let now = Instant::now();
        assert!(restarts.panicked(now, 0.0).is_some());
        assert!(restarts.panicked(now + Duration::from_secs(61), 0.0).is_some());
        assert!(restarts.panicked(now + Duration::from_secs(62), 0.0).is_none());
    }
}
