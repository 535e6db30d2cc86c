//! The lifecycle actor: the supervisor of all others.
//!
//! Sequences the start (TSDB open -> configuration load -> reload-ready broadcast -> scrape, rule and notifier actors -> ready)
//! and the stop, in the order that loses nothing: queries, reloads, discovery, rules, scraping, pushes, storage, web,
//! notifier. Decides the exit code. Watches for actors that are stuck.
//!
//! On restart: a running server keeps running; a start that was interrupted ends in an orderly stop with exit code 1,
//! an interrupted stop begins anew (every drain may come twice).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};

use crate::app::{App, Drainable};
use crate::messages::config::{ApplyInitial, LoadInitial};
use crate::messages::lifecycle::{DbOpen, Drain, Fatal, ReloadReady, Shutdown};
use crate::service;
use crate::slots::Stage;

/// How often actors are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// An actor that is inside one handler for so long is reported as stuck. No handler blocks on purpose.
const STUCK_AFTER: Duration = Duration::from_secs(8);

/// The actor.
pub struct Lifecycle {
    app: Arc<App>,
    stuck: BTreeSet<u64>,
}

impl Lifecycle {
    /// The supervisor of this server.
    pub fn new(app: Arc<App>) -> Lifecycle {
        Lifecycle { app, stuck: BTreeSet::new() }
    }

    /// From the open storage to ready.
    async fn bring_up(app: Arc<App>) -> Result<(), String> {
        let gone = |error: MailboxError| format!("config reloader: {error}");
        let early = app.early().ok_or("the first actors were not started")?;
        early.reloader.send(LoadInitial).await.map_err(gone)?.map_err(|error| error.to_string())?;
        if app.slots.stage() != Stage::Starting {
            return Ok(()); // Told to stop meanwhile: nothing more is started.
        }
        for receiver in early.reload_ready() {
            receiver.do_send(ReloadReady);
        }
        let participants = app.start_late()?;
        early.reloader.send(ApplyInitial(participants)).await.map_err(gone)?.map_err(|error| error.to_string())
    }

    fn begin_stop(&mut self, exit_code: i32, ctx: &mut Managed<Self>) {
        self.app.exit_with(exit_code);
        if self.app.slots.stage() == Stage::Stopping {
            return;
        }
        self.app.slots.set_stage(Stage::Stopping);
        service::tell(service::State::Stopping);
        self.stop(ctx);
    }

    fn stop(&self, ctx: &mut Managed<Self>) {
        let app = Arc::clone(&self.app);
        let going_down = async move {
            for step in app.stop_order() {
                drain(step).await;
            }
            app.finish().await;
        };
        ctx.spawn(going_down.into_actor(self));
    }

    fn watch(&mut self) {
        let mut stuck = BTreeSet::new();
        for actor in self.app.board.actors() {
            let Some(busy) = actor.busy.filter(|busy| *busy > STUCK_AFTER) else { continue };
            stuck.insert(actor.id);
            if !self.stuck.contains(&actor.id) {
                let seconds = busy.as_secs();
                log::error!(actor = actor.kind, name = actor.name.as_str(), seconds = seconds; "actor is stuck in a handler");
            }
        }
        self.app.stuck_actors.set(stuck.len() as f64);
        self.stuck = stuck;
    }
}

/// Drains one subsystem, with one log line.
async fn drain(step: Drainable) {
    let began = Instant::now();
    let outcome = step.address.send(Drain).timeout(step.deadline).await;
    let duration_ms = began.elapsed().as_millis() as u64;
    match outcome {
        Ok(()) => log::info!(duration_ms = duration_ms; "{} stopped", step.name),
        Err(error) => {
            log::error!(duration_ms = duration_ms, err = error.to_string().as_str(); "{} did not stop in time", step.name)
        }
    }
}

impl Actor for Lifecycle {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(WATCH_INTERVAL, |this, _| this.watch());
        match (self.app.slots.stage(), self.app.early().is_some()) {
            (Stage::Starting, false) => {
                if let Err(error) = self.app.start_early(&ctx.address(), ctx.id()) {
                    ctx.address().do_send(Fatal { subsystem: "lifecycle".to_owned(), error });
                }
            }
            (Stage::Starting, true) => {
                let error = "the supervisor panicked while the server was starting".to_owned();
                ctx.address().do_send(Fatal { subsystem: "lifecycle".to_owned(), error });
            }
            (Stage::Ready, _) => {}
            (Stage::Stopping, _) => self.stop(ctx),
        }
    }
}

impl Supervised for Lifecycle {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.stuck.clear();
    }
}

impl ManagedActor for Lifecycle {
    const KIND: &'static str = "lifecycle";
}

impl Handler<DbOpen> for Lifecycle {
    type Result = ();

    fn handle(&mut self, _: DbOpen, ctx: &mut Self::Context) {
        if self.app.slots.stage() != Stage::Starting {
            return;
        }
        let up = Lifecycle::bring_up(Arc::clone(&self.app));
        ctx.spawn(up.into_actor(self).map(|outcome, this, ctx| match outcome {
            Ok(()) if this.app.slots.stage() == Stage::Starting => {
                this.app.slots.set_stage(Stage::Ready);
                // Text as in Prometheus: tools wait for it.
                log::info!("Server is ready to receive web requests.");
                service::tell(service::State::Ready);
            }
            Ok(()) => {}
            Err(error) => ctx.address().do_send(Fatal { subsystem: "configuration".to_owned(), error }),
        }));
    }
}

impl Handler<Fatal> for Lifecycle {
    type Result = ();

    fn handle(&mut self, fatal: Fatal, ctx: &mut Self::Context) {
        log::error!(component = fatal.subsystem.as_str(), err = fatal.error.as_str(); "Fatal error");
        self.begin_stop(1, ctx);
    }
}

impl Handler<Shutdown> for Lifecycle {
    type Result = ();

    fn handle(&mut self, shutdown: Shutdown, ctx: &mut Self::Context) {
        if self.app.slots.stage() == Stage::Stopping {
            log::warn!(reason = shutdown.reason.as_str(); "second request to stop, ending at once");
            // The log of the storage is written before samples are acknowledged, so nothing acknowledged is lost here.
            std::process::exit(1);
        }
        log::info!(reason = shutdown.reason.as_str(); "stopping");
        self.begin_stop(0, ctx);
    }
}
