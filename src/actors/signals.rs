//! Signals: SIGHUP reloads, SIGTERM and SIGINT stop, a second one of these ends the process at once.
//!
//! Owns the process' signal streams. They are opened before anything else, even before the configuration is read: what comes
//! then waits in its stream. On restart the streams are opened again; a signal that comes in the milliseconds between is lost.

use std::io;
use std::sync::Arc;

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::messages::config::{Reload, ReloadSource};
use crate::messages::lifecycle::{Fatal, Shutdown};

/// The signals listened for.
const SIGNALS: [(SignalKind, &str); 3] =
    [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT"), (SignalKind::hangup(), "SIGHUP")];

/// Opened signal streams with their names. From here on the signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Streams(Vec<(Signal, &'static str)>);

impl Streams {
    /// Opens all. Within a runtime.
    pub fn open() -> io::Result<Streams> {
        SIGNALS.into_iter().map(|(kind, name)| Ok((signal(kind)?, name))).collect::<io::Result<Vec<_>>>().map(Streams)
    }
}

/// What the actor is made from.
#[derive(Clone)]
pub struct Params {
    /// Streams opened at the start; the first incarnation takes them.
    pub streams: Arc<Mutex<Option<Streams>>>,
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
        let opened = self.params.streams.lock().take().map_or_else(Streams::open, Ok);
        let Streams(streams) = match opened {
            Ok(streams) => streams,
            Err(error) => {
                let error = format!("listening for signals failed: {error}");
                self.params.fatal.do_send(Fatal { subsystem: "signals".to_owned(), error });
                return;
            }
        };
        for (mut stream, name) in streams {
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
