//! Real panics, real floods.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix::prelude::*;

use crate::{ActorState, Board, Managed, ManagedActor, RestartPolicy, Spec, meter};

/// Defines a minimal managed actor with a state that a restart resets. A type per test, because meters go by type.
macro_rules! worker {
    ($name:ident, $kind:literal) => {
        #[derive(Default)]
        struct $name {
            seen: u32,
            panics_in_started: Arc<AtomicU32>,
            ticks: Arc<AtomicUsize>,
        }

        impl Actor for $name {
            type Context = Managed<Self>;

            fn started(&mut self, ctx: &mut Self::Context) {
                if self.panics_in_started.load(SeqCst) > 0 {
                    self.panics_in_started.fetch_sub(1, SeqCst);
                    panic!("in started");
                }
                ctx.run_interval(Duration::from_millis(10), |this, _| {
                    this.ticks.fetch_add(1, SeqCst);
                });
            }
        }

        impl Supervised for $name {
            fn restarting(&mut self, _: &mut Self::Context) {
                self.seen = 0;
            }
        }

        impl ManagedActor for $name {
            const KIND: &'static str = $kind;
        }

        impl Handler<Add> for $name {
            type Result = u32;

            fn handle(&mut self, add: Add, _: &mut Self::Context) -> u32 {
                assert_ne!(add.0, 13, "unlucky");
                if add.0 == 1000 {
                    std::thread::sleep(Duration::from_micros(200));
                }
                self.seen += add.0;
                self.seen
            }
        }
    };
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Add(u32);

fn quick() -> RestartPolicy {
    RestartPolicy {
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(4),
        ..RestartPolicy::default()
    }
}

#[actix::test]
async fn a_panic_costs_one_request_and_the_queue_behind_it_is_served() {
    worker!(Queued, "test_queued");
    let board = Board::new();
    let addr = board.spawn(Spec { policy: quick(), ..Spec::named("w") }, |_| Queued::default());
    assert_eq!(addr.send(Add(1)).await.unwrap(), 1);

    let unlucky = addr.send(Add(13));
    let behind: Vec<_> = (0..100).map(|_| addr.send(Add(1))).collect();
    let (unlucky, behind) = futures_util::future::join(unlucky, futures_util::future::join_all(behind)).await;
    assert!(unlucky.is_err());
    let answers: Vec<u32> = behind.into_iter().map(|a| a.unwrap()).collect();
    assert_eq!(answers, (1..=100).collect::<Vec<_>>(), "rebuilt state, same queue");

    let info = board.actors().remove(0);
    assert_eq!((info.state, info.restarts), (ActorState::Running, 1));
    assert_eq!(meter::handled("test_queued"), 101);
    assert_eq!(meter::depth("test_queued"), 0);
}

#[actix::test]
async fn panics_in_started_are_survived() {
    worker!(Starter, "test_starter");
    let board = Board::new();
    let panics = Arc::new(AtomicU32::new(3));
    let worker = Starter { panics_in_started: Arc::clone(&panics), ..Starter::default() };
    let addr = board.spawn(Spec { policy: quick(), ..Spec::named("w") }, |_| worker);
    assert_eq!(addr.send(Add(5)).await.unwrap(), 5);
    assert_eq!(board.actors()[0].restarts, 3);
}

#[actix::test]
async fn too_many_panics_escalate_and_the_actor_stays_down() {
    worker!(Failing, "test_failing");
    let board = Board::new();
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    board.on_escalation(move |e| tell.lock().push((e.kind, e.name)));
    let addr = board.spawn(Spec { policy: RestartPolicy { restarts_max: 2, ..quick() }, ..Spec::named("w") }, |_| {
        Failing::default()
    });
    for _ in 0..3 {
        assert!(addr.send(Add(13)).await.is_err());
    }
    assert!(addr.send(Add(1)).await.is_err());
    assert_eq!(*told.lock(), [("test_failing", "w".to_owned())]);
    assert_eq!(board.actors()[0].state, ActorState::Failed);
}

#[actix::test]
async fn a_busy_actor_leaves_time_for_its_neighbours_and_its_own_timers() {
    worker!(Busy, "test_busy");
    worker!(Neighbour, "test_neighbour");
    let board = Board::new();
    let (own_ticks, ticks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let busy = Busy { ticks: Arc::clone(&own_ticks), ..Busy::default() };
    let neighbour = Neighbour { ticks: Arc::clone(&ticks), ..Neighbour::default() };
    let busy = board.spawn(Spec::named("busy"), |_| busy);
    let _neighbour = board.spawn(Spec::named("neighbour"), |_| neighbour);
    // 5,000 messages of 0.2 ms each: a second of work in one mailbox.
    let work: Vec<_> = (0..5000).map(|_| busy.send(Add(1000))).collect();
    futures_util::future::join_all(work).await;
    // 10 ms timers for at least a second, each at most a budget of handlers (13 ms) late.
    for (who, ticks) in [("own", own_ticks), ("neighbour", ticks)] {
        assert!(ticks.load(SeqCst) >= 30, "{who} timer fired {} times", ticks.load(SeqCst));
    }
}

#[actix::test]
async fn messages_to_an_actor_that_is_gone_are_counted_as_dropped() {
    worker!(Gone, "test_gone");
    let board = Board::new();
    let addr = board
        .spawn(Spec { policy: RestartPolicy { restarts_max: 0, ..quick() }, ..Spec::named("w") }, |_| Gone::default());
    let unlucky = addr.send(Add(13));
    let behind: Vec<_> = (0..10).map(|_| addr.send(Add(1))).collect();
    let (unlucky, behind) = futures_util::future::join(unlucky, futures_util::future::join_all(behind)).await;
    assert!(unlucky.is_err() && behind.iter().all(Result::is_err));
    assert_eq!(meter::dropped("test_gone"), 10);
    assert_eq!(meter::depth("test_gone"), 0);
}

#[actix::test]
async fn an_actor_on_another_arbiter_is_restarted_there() {
    worker!(Far, "test_far");
    let board = Board::new();
    let arbiter = Arbiter::new();
    let addr =
        board.spawn_on(&arbiter.handle(), Spec { policy: quick(), ..Spec::named("w").child_of(7) }, |_| Far::default());
    assert!(addr.send(Add(13)).await.is_err());
    assert_eq!(addr.send(Add(2)).await.unwrap(), 2);
    assert_eq!((board.actors()[0].parent, board.actors()[0].restarts), (Some(7), 1));
    arbiter.stop();
    arbiter.join().unwrap();
    assert!(board.actors().is_empty(), "an arbiter that ends takes its actors off the board");
}

#[actix::test]
async fn metrics_tell_actor_and_message() {
    worker!(Shown, "test_shown");
    let board = Board::new();
    let registry = fk_instrument::Registry::new();
    meter::register(&registry);
    board.register(&registry);
    let addr = board.spawn(Spec { policy: quick(), ..Spec::named("w") }, |_| Shown::default());
    addr.send(Add(1)).await.unwrap();
    assert!(addr.send(Add(13)).await.is_err());
    addr.send(Add(1)).await.unwrap();
    let text = registry.text(|_| true);
    for line in [
        "firekeeper_actor_messages_total{actor=\"test_shown\",message=\"Add\"} 2",
        "firekeeper_actor_restarts_total{actor=\"test_shown\"} 1",
        "firekeeper_actor_mailbox_depth{actor=\"test_shown\",message=\"Add\"} 0",
        "firekeeper_actors{actor=\"test_shown\",state=\"running\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
