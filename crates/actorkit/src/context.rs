//! The managed context and its envelope.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::dev::{
    AsyncContextParts, ContextParts, Envelope, EnvelopeProxy, Mailbox, MessageResponse, OneshotSender, ToEnvelope,
};
use actix::fut::ActorFuture;
use actix::prelude::*;

use crate::board::Instance;
use crate::meter::{self, Meter};
use crate::runner;

/// Messages an actor handles before it lets others run. Large enough to make the pause cheap, small enough that a
/// neighbour's timer is at most some hundred handlers late.
pub const BUDGET: u32 = 64;

/// An actor that runs in a [`Managed`] context.
pub trait ManagedActor: Actor<Context = Managed<Self>> + Supervised {
    /// What kind of actor it is, for metrics and the supervision tree: a snake-case noun.
    const KIND: &'static str;
}

/// Context of every managed actor: actix's own parts, a message budget, and the actor's entry on the board.
#[derive(Debug)]
pub struct Managed<A: Actor<Context = Self>> {
    parts: ContextParts<A>,
    pub(crate) budget: Cell<u32>,
    pub(crate) instance: Arc<Instance>,
}

impl<A: ManagedActor> Managed<A> {
    pub(crate) fn new(mailbox: &Mailbox<A>, instance: Arc<Instance>) -> Managed<A> {
        Managed { parts: ContextParts::new(mailbox.sender_producer()), budget: Cell::new(BUDGET), instance }
    }

    /// The actor's number on its board, for its children.
    pub fn id(&self) -> u64 {
        self.instance.id
    }

    /// Counts work that came without a message as if one of this name had been handled: after it `waited`, in so long.
    pub fn worked(&self, name: &'static str, waited: Duration, took: Duration) {
        self.instance.message_handled(name, waited, took);
    }

    /// How often the actor was rebuilt. A reply or timer that carries an older number belongs to the past.
    pub fn incarnation(&self) -> u32 {
        self.instance.incarnation()
    }
}

impl<A: Actor<Context = Self>> ActorContext for Managed<A> {
    fn stop(&mut self) {
        self.parts.stop();
    }

    fn terminate(&mut self) {
        self.parts.terminate();
    }

    fn state(&self) -> actix::ActorState {
        self.parts.state()
    }
}

impl<A: Actor<Context = Self>> AsyncContext<A> for Managed<A> {
    fn address(&self) -> Addr<A> {
        self.parts.address()
    }

    fn spawn<F>(&mut self, fut: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.parts.spawn(fut)
    }

    fn wait<F>(&mut self, fut: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.parts.wait(fut);
    }

    /// Also true when the budget is used up, which makes actix's mailbox pause.
    fn waiting(&self) -> bool {
        self.parts.waiting() || self.budget.get() == 0
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.parts.cancel_future(handle)
    }
}

impl<A: Actor<Context = Self>> AsyncContextParts<A> for Managed<A> {
    fn parts(&mut self) -> &mut ContextParts<A> {
        &mut self.parts
    }
}

/// A message on its way, with the time it was sent.
struct Letter<M: Message> {
    msg: Option<M>,
    reply: Option<OneshotSender<M::Result>>,
    sent: Instant,
    meter: &'static Meter,
}

impl<M: Message> Drop for Letter<M> {
    fn drop(&mut self) {
        if self.msg.is_some() {
            self.meter.dropped();
        }
    }
}

impl<A, M> ToEnvelope<A, M> for Managed<A>
where
    A: ManagedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(msg: M, reply: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        let meter = meter::of::<A, M>();
        meter.queued();
        Envelope::with_proxy(Box::new(Letter { msg: Some(msg), reply, sent: Instant::now(), meter }))
    }
}

impl<A, M> EnvelopeProxy<A> for Letter<M>
where
    A: ManagedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, ctx: &mut Managed<A>) {
        ctx.budget.set(ctx.budget.get().saturating_sub(1));
        let reply = self.reply.take();
        if reply.as_ref().is_some_and(OneshotSender::is_closed) {
            return; // The asker has given up; the letter's drop counts it.
        }
        let Some(msg) = self.msg.take() else { return };
        let started = Instant::now();
        self.meter.taken(started - self.sent);
        runner::handling(self.meter.message());
        actor.handle(msg, ctx).handle(ctx, reply);
        let took = started.elapsed();
        ctx.instance.message_handled(self.meter.message(), started - self.sent, took);
        self.meter.handled(took);
    }
}
