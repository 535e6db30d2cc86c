//! The storage keeper: opens the storage, keeps its log on disk, closes it.
//!
//! Owns the life of the [`Db`]; everybody else holds it as a handle. Replay, syncing and closing run on blocking threads.
//!
//! On restart: an open storage stays open (it is in its slot); one that was being opened is opened again by the new
//! incarnation, which waits for the lock file that the lost attempt may still hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use fk_instrument::Registry;
use fk_tsdb::{Db, DbOptions};
use tokio::task::spawn_blocking;

use crate::messages::lifecycle::{DbOpen, Drain, Fatal};
use crate::messages::storage::Sync;
use crate::slots::Slots;

/// How often the write-ahead log is put on disk. The durability contract promises to lose at most so much of what was scraped
/// when the machine itself goes down.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// What the keeper is made from.
#[derive(Clone)]
pub struct Params {
    /// Makes the options for opening the storage.
    pub options: Arc<dyn Fn() -> DbOptions + Send + std::marker::Sync>,
    /// The data directory, for the log.
    pub path: PathBuf,
    /// Where the open storage goes.
    pub slots: Arc<Slots>,
    /// Registers the storage's metrics once it is open.
    pub registry: Registry,
    /// Who is told that the storage is open.
    pub opened: Recipient<DbOpen>,
    /// Who is told that it cannot be opened.
    pub fatal: Recipient<Fatal>,
}

/// The actor.
pub struct StorageKeeper {
    params: Params,
    /// Whether a sync is under way; ticks are skipped meanwhile.
    syncing: bool,
    /// Whether the last sync failed; only changes are logged.
    sync_failed: bool,
    /// Set when the storage is being closed, which syncs it for good.
    closing: bool,
}

impl StorageKeeper {
    /// A keeper that opens the storage as soon as it runs.
    pub fn new(params: Params) -> StorageKeeper {
        StorageKeeper { params, syncing: false, sync_failed: false, closing: false }
    }

    fn open(&self, ctx: &mut Managed<Self>) {
        log::info!(path = self.params.path.display().to_string().as_str(); "Starting TSDB ...");
        let (options, slots) = (Arc::clone(&self.params.options), Arc::clone(&self.params.slots));
        let began = std::time::Instant::now();
        let opening = spawn_blocking(move || {
            let told = |progress| {
                *slots.replay.lock() = progress;
                log::debug!(component = "tsdb"; "WAL replay: {progress:?}");
            };
            Db::open(options(), &told)
        });
        ctx.spawn(opening.into_actor(self).map(move |result, this, ctx| match result {
            Ok(Ok(db)) => {
                let db = Arc::new(db);
                log::info!(duration_ms = began.elapsed().as_millis() as u64; "TSDB started");
                fk_tsdb::metrics::register(&db, &this.params.registry);
                this.params.slots.db.store(Some(Arc::clone(&db)));
                this.params.opened.do_send(DbOpen(db));
                this.keep_synced(ctx);
            }
            Ok(Err(error)) => this.fail(format!("opening storage failed: {error}")),
            Err(panic) => this.fail(format!("opening storage failed: {panic}")),
        }));
    }

    fn fail(&self, error: String) {
        self.params.fatal.do_send(Fatal { subsystem: "storage".to_owned(), error });
    }

    fn keep_synced(&self, ctx: &mut Managed<Self>) {
        ctx.run_interval(SYNC_INTERVAL, |_, ctx| ctx.address().do_send(Sync));
    }
}

impl Actor for StorageKeeper {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.params.slots.db.load().is_some() {
            self.keep_synced(ctx);
        } else {
            self.open(ctx);
        }
    }
}

impl Supervised for StorageKeeper {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = StorageKeeper::new(self.params.clone());
    }
}

impl ManagedActor for StorageKeeper {
    const KIND: &'static str = "storage_keeper";
}

impl Handler<Sync> for StorageKeeper {
    type Result = ();

    fn handle(&mut self, _: Sync, ctx: &mut Self::Context) {
        let Some(db) = self.params.slots.db.load_full() else { return };
        if self.closing || std::mem::replace(&mut self.syncing, true) {
            return;
        }
        let sync = spawn_blocking(move || db.sync());
        ctx.spawn(sync.into_actor(self).map(|result, this, _| {
            this.syncing = false;
            let failed = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic.to_string()),
            };
            match failed {
                Some(error) if !this.sync_failed => {
                    this.sync_failed = true;
                    log::error!(component = "tsdb", err = error.as_str(); "the write-ahead log cannot be put on disk");
                }
                None if this.sync_failed => {
                    this.sync_failed = false;
                    log::info!(component = "tsdb"; "the write-ahead log is on disk again");
                }
                _ => {}
            }
        }));
    }
}

impl Handler<Drain> for StorageKeeper {
    type Result = ResponseFuture<()>;

    /// Closes the storage: everything appended so far is on disk when this is answered.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.closing = true;
        let slots = Arc::clone(&self.params.slots);
        Box::pin(async move {
            let Some(db) = slots.db.load_full() else { return };
            match spawn_blocking(move || db.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    log::error!(component = "tsdb", err = error.to_string().as_str(); "closing the storage failed")
                }
                Err(panic) => {
                    log::error!(component = "tsdb", err = panic.to_string().as_str(); "closing the storage failed")
                }
            }
        })
    }
}
