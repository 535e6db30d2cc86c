//! The ledger keeper: looks after the files in which alerts are kept over restarts.
//!
//! Owns the beat: every second it notes that the server lives, makes what was noted durable, and has a file written anew when
//! it has grown. Who has something to note does so by handle; rule groups and senders never wait for a sync.
//!
//! On restart: nothing is lost, the next tick goes on.

use std::time::Duration;

use actix::prelude::*;
use chrono::Utc;
use fk_actorkit::{Managed, ManagedActor};
use fk_ledger::Records;
use tokio::task::spawn_blocking;

use crate::messages::Tick;
use crate::messages::lifecycle::Drain;

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the actor is made from.
#[derive(Clone, Debug)]
pub struct Params {
    /// The files.
    pub records: Records,
}

/// The actor.
#[derive(Debug)]
pub struct LedgerKeeper {
    params: Params,
    /// Whether a round is under way; ticks are skipped meanwhile.
    keeping: bool,
}

impl LedgerKeeper {
    /// A keeper of these files.
    pub fn new(params: Params) -> LedgerKeeper {
        LedgerKeeper { params, keeping: false }
    }

    fn keep(&self) -> impl Future<Output = ()> + use<> {
        let records = self.params.records.clone();
        async move {
            // What fails is told in the log by the files themselves.
            if let Err(panic) = spawn_blocking(move || records.keep(Utc::now().timestamp_millis())).await {
                log::error!(component = "alert ledger", err = panic.to_string().as_str(); "looking after the records of alerts failed");
            }
        }
    }
}

impl Actor for LedgerKeeper {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(INTERVAL, |_, ctx| ctx.address().do_send(Tick(0)));
    }
}

impl Supervised for LedgerKeeper {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.keeping = false;
    }
}

impl ManagedActor for LedgerKeeper {
    const KIND: &'static str = "ledger_keeper";
}

impl Handler<Tick> for LedgerKeeper {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.keeping, true) {
            return;
        }
        ctx.spawn(self.keep().into_actor(self).map(|(), this, _| this.keeping = false));
    }
}

impl Handler<Drain> for LedgerKeeper {
    type Result = ResponseFuture<()>;

    /// Answered when everything noted so far is on the disk.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.keep())
    }
}
