//! The task that runs an actor, catches its panics and brings it back.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix::dev::ContextFut;
use tokio::time::Instant;

use crate::board::{Board, Instance};
use crate::context::BUDGET;
use crate::policy::Restarts;
use crate::{ActorState, Managed, ManagedActor, RestartPolicy, meter};

thread_local! {
    /// Who runs on this thread right now, for the panic hook.
    static RUNNING: RefCell<Option<Arc<Instance>>> = const { RefCell::new(None) };
    /// The message type the running actor took last.
    static HANDLING: Cell<&'static str> = const { Cell::new("") };
}

/// Notes which message is being handled.
pub(crate) fn handling(message: &'static str) {
    HANDLING.set(message);
}

/// Makes panics show as one log line with the place and, inside an actor, who panicked over which message. The log
/// format stays the program's own; nothing is written to standard error by the runtime.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line()));
        let text = info.payload_as_str().unwrap_or("panic without a text");
        // The hook may run while the cell is borrowed only if borrowing itself panicked, which it does not.
        let actor =
            RUNNING.with(|r| r.try_borrow().ok().and_then(|r| r.as_ref().map(|i| format!("{}/{}", i.kind, i.name))));
        match actor {
            Some(actor) => {
                log::error!(actor = actor.as_str(), message = HANDLING.get(), place = place.as_str(); "panic: {text}")
            }
            None => log::error!(place = place.as_str(); "panic: {text}"),
        }
    }));
}

pub(crate) struct Runner<A: ManagedActor> {
    /// `None` once the actor has ended.
    fut: Option<Box<ContextFut<A, Managed<A>>>>,
    /// What to wait for before the actor is polled again.
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Whether the actor must be rebuilt before it is polled again.
    crashed: bool,
    restarts: Restarts,
    instance: Arc<Instance>,
    board: Board,
}

impl<A: ManagedActor> Runner<A> {
    pub(crate) fn new(
        fut: ContextFut<A, Managed<A>>,
        instance: Arc<Instance>,
        board: Board,
        policy: RestartPolicy,
    ) -> Runner<A> {
        let restarts = Restarts::new(policy);
        Runner { fut: Some(Box::new(fut)), pause: None, crashed: false, restarts, instance, board }
    }

    /// Drops the actor. Its `stopping` and `stopped` may run on broken state, so a panic there is caught too.
    fn discard(&mut self) {
        let fut = self.fut.take();
        if catch_unwind(AssertUnwindSafe(|| drop(fut))).is_err() {
            log::error!(actor = self.instance.kind, name = self.instance.name.as_str(); "panic while the actor was dropped");
        }
    }

    /// Runs `work` with panics caught and attributed to this actor.
    fn guarded<T>(instance: &Arc<Instance>, work: impl FnOnce() -> T) -> Result<T, String> {
        let outer = RUNNING.with(|r| r.replace(Some(Arc::clone(instance))));
        instance.poll_begins();
        let result = catch_unwind(AssertUnwindSafe(work));
        instance.poll_ends();
        RUNNING.with(|r| r.replace(outer));
        result.map_err(|payload| {
            let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
            text.or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "panic without a text".to_owned())
        })
    }
}

impl<A: ManagedActor> Future for Runner<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.instance.keep_waker(cx.waker());
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            let Some(fut) = this.fut.as_mut() else { return Poll::Ready(()) };
            let crashed = std::mem::take(&mut this.crashed);
            let instance = &this.instance;
            let outcome = Self::guarded(instance, || {
                if crashed {
                    if !fut.restart() {
                        return Poll::Ready(()); // No address is left: there is nobody to serve.
                    }
                    instance.restarted();
                    meter::restarted(A::KIND);
                    log::info!(actor = A::KIND, name = instance.name.as_str(), restarts = instance.incarnation(); "actor restarted");
                }
                instance.set_state(ActorState::Running);
                instance.panic_if_wanted();
                fut.ctx().budget.set(BUDGET);
                Pin::new(&mut **fut).poll(cx)
            });
            match outcome {
                Ok(Poll::Pending) if fut.ctx().budget.get() == 0 => {
                    // A plain self-wake would let this task run again before the runtime looks at its timers.
                    this.pause = Some(Box::pin(tokio::task::yield_now()));
                }
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {
                    this.discard();
                    this.instance.set_state(ActorState::Stopped);
                    this.board.leave(&this.instance);
                    return Poll::Ready(());
                }
                Err(text) => {
                    this.instance.panicked(HANDLING.get(), text);
                    meter::panicked(A::KIND);
                    match this.restarts.panicked(Instant::now(), rand::random()) {
                        Some(delay) => {
                            this.instance.set_state(ActorState::Restarting);
                            this.crashed = true;
                            this.pause = Some(Box::pin(tokio::time::sleep(delay)));
                        }
                        None => {
                            this.discard();
                            this.instance.set_state(ActorState::Failed);
                            this.board.escalate(&this.instance);
                            return Poll::Ready(());
                        }
                    }
                }
            }
        }
    }
}

impl<A: ManagedActor> Drop for Runner<A> {
    fn drop(&mut self) {
        if self.fut.is_some() {
            // The arbiter is going down with the actor still alive.
            self.discard();
            self.board.leave(&self.instance);
        }
    }
}
