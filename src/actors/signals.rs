//! Signals: SIGHUP reloads, SIGTERM and SIGINT stop, a second one of these ends the process at once.
//!
//! Owns the process' signal streams. Started before everything else. On restart: the streams are opened again; a signal that
//! comes in the milliseconds between is kept by the runtime's handler only if it comes again.

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use tokio::signal::unix::{SignalKind, signal};

use crate::messages::config::{Reload, ReloadSource};
use crate::messages::lifecycle::{Fatal, Shutdown};

/// What the actor is made from.
#[derive(Clone)]
pub struct Params {
    /// Who stops the server.
    pub shutdown: Recipient<Shutdown>,
    /// Who is told if signals cannot be had.
    pub fatal: Recipient<Fatal>,
    /// Who reloads. A SIGHUP that comes before the server is ready waits in this mailbox.
    pub reload: Recipient<Reload>,
}

/// The actor.
pub struct Signals {
    params: Params,
}

impl Signals {
    /// Listens as soon as it runs.
    pub fn new(params: Params) -> Signals {
        Signals { params }
    }
}

impl Actor for Signals {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for (kind, name) in [
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::hangup(), "SIGHUP"),
        ] {
            let mut stream = match signal(kind) {
                Ok(stream) => stream,
                Err(error) => {
                    let error = format!("listening for {name} failed: {error}");
                    self.params.fatal.do_send(Fatal { subsystem: "signals".to_owned(), error });
                    continue;
                }
            };
            let params = self.params.clone();
            let listen = async move {
                while stream.recv().await.is_some() {
                    if name == "SIGHUP" {
                        params.reload.do_send(Reload(ReloadSource::Signal));
                    } else {
                        log::warn!(signal = name; "Received an OS signal, exiting gracefully...");
                        params.shutdown.do_send(Shutdown { reason: name.to_owned() });
                    }
                }
            };
            ctx.spawn(listen.into_actor(self));
        }
    }
}

impl Supervised for Signals {}

impl ManagedActor for Signals {
    const KIND: &'static str = "signals";
}
