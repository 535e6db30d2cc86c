//! The actors: their tree as a snapshot, and what they do as a stream of server-sent events.
//!
//! Who watches costs a look at the board each second; without anybody nothing is done.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodyStream, MessageBody as _};
use actix_web::http::header;
use bytes::Bytes;
use chrono::Utc;
use futures_util::stream;

use crate::answer::success;
use crate::call::{Call, Reply, Shared};
use crate::state::{ActorEntry, ActorUpdate, Readiness};

/// Those who may watch at the same time, as for notifications in Prometheus.
const WATCHERS_MAX: usize = 16;
/// Between two looks at the board.
const PERIOD: Duration = Duration::from_secs(1);
/// Upper bounds of the classes of handling times, microseconds; those of the actors' records.
const HANDLING_BOUNDS_US: [u64; 11] = [4, 16, 64, 256, 1_000, 4_000, 16_000, 64_000, 250_000, 1_000_000, 4_000_000];

/// The supervision tree.
pub(crate) async fn tree(call: Call) -> Reply {
    success(&call.state().status.actors())
}

/// The same, and once a second what has changed since. 204 while enough others watch, as for notifications.
pub(crate) async fn live(call: Call) -> Reply {
    let Some(seat) = Seat::take(&call.shared.watchers) else { return Ok(HttpResponse::NoContent().finish()) };
    let watch = Watch::new(Arc::clone(&call.shared), seat);
    let events = stream::unfold(watch, |mut watch| async move {
        if watch.begun {
            tokio::time::sleep(PERIOD).await;
        }
        // A stream would hold the server's stop up.
        if watch.shared.state.status.readiness() == Readiness::Stopping {
            return None;
        }
        let event = watch.look();
        Some((Ok::<_, Infallible>(event), watch))
    });
    // `Box::pin`: the stream borrows nothing, and the body has to be movable.
    let events: Pin<Box<dyn futures_util::Stream<Item = _>>> = Box::pin(events);
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Compression would keep events back until there are many; a proxy must not collect them either.
        .insert_header((header::CONTENT_ENCODING, "identity"))
        .insert_header(("X-Accel-Buffering", "no"))
        .body(BodyStream::new(events).boxed()))
}

/// A place among those who watch, given back when the stream ends.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Seat> {
        let one_more = |n| (n < WATCHERS_MAX).then_some(n + 1);
        taken.fetch_update(SeqCst, SeqCst, one_more).ok().map(|_| Seat(Arc::clone(taken)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// One who watches, and what was told.
struct Watch {
    shared: Arc<Shared>,
    known: BTreeMap<u64, ActorEntry>,
    begun: bool,
    _seat: Seat,
}

impl Watch {
    fn new(shared: Arc<Shared>, seat: Seat) -> Watch {
        Watch { shared, known: BTreeMap::new(), begun: false, _seat: seat }
    }

    /// The next event: what is new or different, and who has gone.
    fn look(&mut self) -> Bytes {
        let status = &self.shared.state.status;
        let now: BTreeMap<u64, ActorEntry> = status.actor_list().into_iter().map(|entry| (entry.id, entry)).collect();
        let mailboxes = status.mailboxes();
        let changed: Vec<&ActorEntry> = now.values().filter(|entry| self.known.get(&entry.id) != Some(entry)).collect();
        let gone: Vec<u64> = self.known.keys().copied().filter(|id| !now.contains_key(id)).collect();
        let update = ActorUpdate {
            time: Utc::now().timestamp_millis(),
            whole: !self.begun,
            handling_bounds: &HANDLING_BOUNDS_US,
            actors: &changed,
            gone: &gone,
            mailboxes: &mailboxes,
        };
        let mut event = b"event: actors\ndata: ".to_vec();
        // Line feeds within texts are escaped by JSON, so the data are one line.
        if let Err(error) = serde_json::to_writer(&mut event, &update) {
            log::error!("actors cannot be written as JSON: {error}");
        }
        event.extend_from_slice(b"\n\n");
        self.known = now;
        self.begun = true;
        event.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::tests::shared;

    fn data(event: &Bytes) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        let data = text.strip_prefix("event: actors\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        serde_json::from_str(data).unwrap()
    }

    #[test]
    fn only_what_has_changed_is_told_again() {
        let shared = shared();
        let seat = Seat::take(&shared.watchers).unwrap();
        let mut watch = Watch::new(shared, seat);
        let ids = |update: &Value| -> Vec<u64> {
            update["actors"].as_array().unwrap().iter().map(|actor| actor["id"].as_u64().unwrap()).collect()
        };
        let first = data(&watch.look());
        assert_eq!((ids(&first), first["whole"].as_bool()), (vec![1, 2, 3], Some(true)));
        assert_eq!(first["actors"][1]["name"], "scrape<2>");
        assert_eq!(first["mailboxes"][0]["waiting"], 3);
        let second = data(&watch.look());
        assert_eq!((ids(&second), second["whole"].as_bool()), (vec![2], Some(false)));
        assert_eq!(second["gone"], serde_json::json!([3]));
        assert_eq!(second["actors"][0]["handled"], 1);
    }

    #[test]
    fn watchers_are_counted_and_leave_their_seats() {
        let taken = Arc::new(AtomicUsize::new(0));
        let seats: Vec<Seat> = std::iter::from_fn(|| Seat::take(&taken)).take(100).collect();
        assert_eq!(seats.len(), WATCHERS_MAX);
        drop(seats);
        assert!(Seat::take(&taken).is_some());
    }
}
