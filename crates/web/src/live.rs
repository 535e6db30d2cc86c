//! Notifications as they come and go, for pages that stay open: `/api/v1/notifications/live`, server-sent events.
//!
//! The server's state is what it is, not a list that somebody keeps: a subscriber looks at it every second and is told what has
//! changed since. As in Prometheus a subscriber first hears all that holds, and once more, as no longer active, of what has passed.
//! Seats are bounded (`--web.max-notifications-subscribers`); who gets none is told so with 204, and does not come back.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fk_instrument::{Counter, Gauge, Registry};
use futures_util::Stream;

use crate::call::Shared;
use crate::state::{Notification, Readiness};

/// How often the state is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// After so long without news a comment is sent, so that a connection that is gone is noticed and its seat freed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Who listens.
pub(crate) struct Subscribers {
    taken: Arc<AtomicUsize>,
    active: Gauge,
    sent: Counter,
}

impl Subscribers {
    pub(crate) fn new(registry: &Registry) -> Subscribers {
        // Nothing waits here for a subscriber that is slow, so nothing is dropped.
        registry.counter(
            "prometheus_api_notification_updates_dropped_total",
            "Total number of notification updates dropped.",
        );
        Subscribers {
            taken: Arc::default(),
            active: registry.gauge(
                "prometheus_api_notification_active_subscribers",
                "The current number of active notification subscribers.",
            ),
            sent: registry.counter(
                "prometheus_api_notification_updates_sent_total",
                "Total number of notification updates sent.",
            ),
        }
    }

    /// A seat, if less than `most` are taken.
    pub(crate) fn sit_down(&self, most: usize) -> Option<Seat> {
        let sit = |taken: usize| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sit).ok()?;
        self.active.add(1.0);
        Some(Seat { taken: Arc::clone(&self.taken), active: self.active.clone() })
    }
}

/// A place among the subscribers, free again when this is dropped.
pub(crate) struct Seat {
    taken: Arc<AtomicUsize>,
    active: Gauge,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.active.add(-1.0);
    }
}

/// What one subscriber has been told.
struct Feed {
    shared: Arc<Shared>,
    /// Text and date of what holds.
    told: BTreeMap<String, i64>,
    quiet_since: Instant,
    last: bool,
    _seat: Seat,
}

/// The events of one subscriber. Ends when the server stops.
pub(crate) fn events(shared: Arc<Shared>, seat: Seat) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let feed = Feed { shared, told: BTreeMap::new(), quiet_since: Instant::now(), last: false, _seat: seat };
    futures_util::stream::unfold(feed, next)
}

async fn next(mut feed: Feed) -> Option<(Result<Bytes, Infallible>, Feed)> {
    while !feed.last {
        let status = Arc::clone(&feed.shared.state.status);
        feed.last = status.readiness() == Readiness::Stopping;
        let (text, n) = changes(&mut feed.told, status.notifications());
        feed.shared.subscribers.sent.add(n);
        let text = match text.is_empty() && feed.quiet_since.elapsed() >= KEEP_ALIVE_INTERVAL {
            true => ":\n\n".to_owned(),
            false => text,
        };
        if !text.is_empty() {
            feed.quiet_since = Instant::now();
            return Some((Ok(text.into()), feed));
        }
        if !feed.last {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
    None
}

/// The events that lead from what was told to what holds now, and how many they are.
fn changes(told: &mut BTreeMap<String, i64>, now: Vec<Notification>) -> (String, u64) {
    let (mut text, mut n) = (String::new(), 0);
    let mut tell = |notification: &Notification| {
        if let Ok(json) = serde_json::to_string(notification) {
            text.push_str(&format!("data: {json}\n\n"));
            n += 1;
        }
    };
    let before = std::mem::take(told);
    for notification in &now {
        if before.get(&notification.text) != Some(&notification.date) {
            tell(notification);
        }
        told.insert(notification.text.clone(), notification.date);
    }
    for (text, date) in before.into_iter().filter(|(text, _)| !told.contains_key(text)) {
        tell(&Notification { text, date, active: false });
    }
    (text, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_once() {
        let mut told = BTreeMap::new();
        let of = |text: &str, date| Notification { text: text.to_owned(), date, active: true };
        let event = |text: &str, date: &str, active| {
            format!("data: {{\"text\":\"{text}\",\"date\":\"1970-01-01T00:00:{date}Z\",\"active\":{active}}}\n\n")
        };
        for (now, wanted) in [
            (vec![], String::new()),
            (vec![of("a", 1000)], event("a", "01", true)),
            (vec![of("a", 1000)], String::new()),
            (vec![of("a", 2000), of("b", 1000)], event("a", "02", true) + &event("b", "01", true)),
            (vec![of("b", 1000)], event("a", "02", false)),
            (vec![], event("b", "01", false)),
        ] {
            assert_eq!(changes(&mut told, now).0, wanted);
        }
    }

    #[test]
    fn seats_are_bounded_and_freed() {
        let subscribers = Subscribers::new(&Registry::default());
        let first = subscribers.sit_down(2);
        let second = subscribers.sit_down(2);
        assert!(first.is_some() && second.is_some() && subscribers.sit_down(2).is_none());
        drop(first);
        assert!(subscribers.sit_down(2).is_some());
    }
}
