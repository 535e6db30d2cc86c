//! A fake peer for tests of actors: whatever it is sent comes out of a channel.

use actix::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Forwards messages of type `M` into a channel. Unbounded: tests only.
#[derive(Debug)]
pub struct Probe<M>(UnboundedSender<M>);

impl<M: Message<Result = ()> + Send + Unpin + 'static> Probe<M> {
    /// Starts a probe on the current arbiter.
    pub fn start_probe() -> (Recipient<M>, UnboundedReceiver<M>) {
        let (sender, receiver) = unbounded_channel();
        (Probe(sender).start().recipient(), receiver)
    }
}

impl<M: Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        // A test that no longer listens is no error.
        let _ = self.0.send(message);
    }
}
