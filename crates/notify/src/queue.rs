//! The alerts that wait for one Alertmanager.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Alert;

/// Everything that happened to the alerts for one Alertmanager, as its metrics count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// `prometheus_notifications_sent_total`: alerts that an Alertmanager has taken.
    pub sent: u64,
    /// `prometheus_notifications_errors_total`: alerts whose post failed.
    pub errors: u64,
    /// `prometheus_notifications_dropped_total`: alerts that were given up: queue overflow, failed post, shutdown.
    pub dropped: u64,
}

impl std::ops::AddAssign for SendCounters {
    fn add_assign(&mut self, other: SendCounters) {
        self.sent += other.sent;
        self.errors += other.errors;
        self.dropped += other.dropped;
    }
}

/// How a post went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Answered with a 2xx status.
    Delivered,
    /// Anything else. The batch is given up: the rule sends its alerts again after the resend delay.
    Failed,
}

/// A queue with a bound; the oldest alerts are dropped in favour of newer ones, as these say more about the present.
///
/// At most one batch is under way at a time: its owner takes a batch, posts it, and calls [`SendQueue::sent`].
#[derive(Debug)]
pub struct SendQueue {
    alerts: VecDeque<Arc<Alert>>,
    capacity: usize,
    batch_size_max: usize,
    /// Alerts of the batch under way; 0: none.
    in_flight: usize,
    counters: SendCounters,
}

impl SendQueue {
    /// An empty queue of at most `capacity` alerts (`--alertmanager.notification-queue-capacity`), which leave it at most
    /// `batch_size_max` at a time (`--alertmanager.notification-batch-size`).
    pub fn new(capacity: usize, batch_size_max: usize) -> SendQueue {
        let batch_size_max = batch_size_max.max(1);
        SendQueue { alerts: VecDeque::new(), capacity, batch_size_max, in_flight: 0, counters: SendCounters::default() }
    }

    /// Adds alerts; how many were dropped to make room. Log it if it is not 0.
    pub fn push(&mut self, alerts: &[Arc<Alert>]) -> usize {
        let kept = &alerts[alerts.len().saturating_sub(self.capacity)..];
        let overflow = (self.alerts.len() + kept.len()).saturating_sub(self.capacity);
        self.alerts.drain(..overflow);
        self.alerts.extend(kept.iter().cloned());
        let dropped = overflow + alerts.len() - kept.len();
        self.counters.dropped += dropped as u64;
        dropped
    }

    /// The next batch to post; `None` if there is none or one is still under way.
    pub fn next_batch(&mut self) -> Option<Vec<Arc<Alert>>> {
        if self.in_flight > 0 || self.alerts.is_empty() {
            return None;
        }
        self.in_flight = self.alerts.len().min(self.batch_size_max);
        Some(self.alerts.drain(..self.in_flight).collect())
    }

    /// Notes how the batch under way went.
    pub fn sent(&mut self, outcome: SendOutcome) {
        let n = std::mem::take(&mut self.in_flight) as u64;
        match outcome {
            SendOutcome::Delivered => self.counters.sent += n,
            SendOutcome::Failed => {
                self.counters.errors += n;
                self.counters.dropped += n;
            }
        }
    }

    /// How many posts it takes to empty the queue, the one under way included: what a shutdown that drains it waits for.
    pub fn posts_left(&self) -> usize {
        self.alerts.len().div_ceil(self.batch_size_max) + usize::from(self.in_flight > 0)
    }

    /// Gives up all alerts that wait, for a shutdown without draining; how many. The batch under way is not among them.
    pub fn discard(&mut self) -> usize {
        let dropped = self.alerts.len();
        self.alerts.clear();
        self.counters.dropped += dropped as u64;
        dropped
    }

    /// `prometheus_notifications_queue_length`: alerts that wait.
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Whether no alert waits.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    /// The counters.
    pub fn counters(&self) -> SendCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts(names: std::ops::Range<u32>) -> Vec<Arc<Alert>> {
        names.map(|n| Arc::new(crate::alert::tests::alert(&[("alertname", &n.to_string())]))).collect()
    }

    fn names(batch: Option<Vec<Arc<Alert>>>) -> Vec<u32> {
        batch.into_iter().flatten().map(|a| a.labels.value("alertname").parse().unwrap()).collect()
    }

    #[test]
    fn overflow_drops_the_oldest() {
        let mut queue = SendQueue::new(4, 10);
        assert_eq!(queue.push(&alerts(0..3)), 0);
        assert_eq!(queue.push(&alerts(3..6)), 2);
        assert_eq!(names(queue.next_batch()), [2, 3, 4, 5]);
        assert_eq!(queue.push(&alerts(6..12)), 2);
        queue.sent(SendOutcome::Delivered);
        assert_eq!(names(queue.next_batch()), [8, 9, 10, 11]);
        assert_eq!(queue.counters(), SendCounters { sent: 4, errors: 0, dropped: 4 });
    }

    #[test]
    fn one_batch_is_under_way_at_a_time() {
        let mut queue = SendQueue::new(100, 2);
        queue.push(&alerts(0..5));
        assert_eq!(queue.posts_left(), 3);
        assert_eq!(names(queue.next_batch()), [0, 1]);
        assert_eq!((queue.next_batch(), queue.posts_left()), (None, 3));
        queue.sent(SendOutcome::Failed);
        assert_eq!(names(queue.next_batch()), [2, 3]);
        queue.sent(SendOutcome::Delivered);
        assert_eq!((queue.posts_left(), queue.len()), (1, 1));
        assert_eq!(queue.counters(), SendCounters { sent: 2, errors: 2, dropped: 2 });
    }

    #[test]
    fn a_shutdown_without_draining_counts_what_it_gives_up() {
        let mut queue = SendQueue::new(100, 2);
        queue.push(&alerts(0..5));
        queue.next_batch();
        assert_eq!(queue.discard(), 3);
        queue.sent(SendOutcome::Delivered);
        assert_eq!((queue.posts_left(), queue.is_empty()), (0, true));
        assert_eq!(queue.counters(), SendCounters { sent: 2, errors: 0, dropped: 3 });
    }
}
