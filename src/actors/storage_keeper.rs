//! The storage keeper: opens the storage, keeps its log on disk, has its directory maintained, closes it.
//!
//! Owns the life of the [`Db`]; everybody else holds it as a handle. Replay, syncing and closing run on blocking threads.
//! Maintenance (blocks from the head, compaction, retention) runs on a thread of its own with a lower priority, one run at a time;
//! the actor itself never waits for it. Takes part in reloads with the section `storage`.
//!
//! On restart: an open storage stays open (it is in its slot), and a run of maintenance that is under way goes on and is waited for
//! by nobody; the next one waits for it inside the storage. A storage that was being opened is opened again by the new
//! incarnation, which waits for the lock file that the lost attempt may still hold.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use fk_instrument::{Kind, Registry};
use fk_ledger::Records;
use fk_storage::StorageError;
use fk_tsdb::{Db, DbError, DbOptions, Maintained, TsdbConfig};
use fk_vfs::OsVfs;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::messages::config::{ApplyConfig, Refusal};
use crate::messages::lifecycle::{DbOpen, Drain, Fatal};
use crate::messages::storage::{Maintain, Sync};
use crate::settings::Settings;
use crate::slots::Slots;

/// How often the write-ahead log is put on disk. The durability contract promises to lose at most so much of what was scraped
/// when the machine itself goes down.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// How often the storage is asked whether there is maintenance to do. Asking costs nothing when there is none.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(2);

/// Pause after maintenance has failed: doubles from the first to the second with each further failure.
const MAINTENANCE_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// How much less than the rest of the process the maintenance thread wants the processor and, with it, the disk (`nice`). Not
/// more: it takes locks of the head for moments, and who waits for them must not wait for long.
const MAINTENANCE_NICE: i32 = 5;

/// What the keeper is made from.
#[derive(Clone)]
pub struct Params {
    /// How to open the storage, and what configuration means to it.
    pub settings: Arc<Settings>,
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
    maintenance: Maintenance,
    /// Configuration that waits for its commit.
    prepared: Option<TsdbConfig>,
    /// Set when the storage is being closed, which syncs it for good.
    closing: bool,
}

/// Where maintenance is.
#[derive(Default)]
struct Maintenance {
    /// Whether a run is under way.
    running: bool,
    /// Runs that failed one after the other, and what the last one said; only changes are logged.
    failures: u32,
    last_error: String,
    /// No run before this.
    not_before: Option<Instant>,
}

impl StorageKeeper {
    /// A keeper that opens the storage as soon as it runs.
    pub fn new(params: Params) -> StorageKeeper {
        StorageKeeper {
            params,
            syncing: false,
            sync_failed: false,
            maintenance: Maintenance::default(),
            prepared: None,
            closing: false,
        }
    }

    fn open(&self, ctx: &mut Managed<Self>) {
        let path = &self.params.settings.data_path;
        log::info!(path = path.display().to_string().as_str(); "Starting TSDB ...");
        let (settings, slots) = (Arc::clone(&self.params.settings), Arc::clone(&self.params.slots));
        let began = Instant::now();
        let opening = spawn_blocking(move || {
            let told = |progress| {
                *slots.replay.lock() = progress;
                log::debug!(component = "tsdb"; "WAL replay: {progress:?}");
            };
            let options = DbOptions { now: Some(slots.now()), ..settings.db_options() };
            let db = Db::open(options, &told)?;
            // The directory is ours by now.
            let data = &settings.data_path;
            slots.records.store(Some(Arc::new(Records::open(Arc::new(OsVfs), data, slots.now().wall_ms))));
            Ok::<Db, DbError>(db)
        });
        ctx.spawn(opening.into_actor(self).map(move |result, this, ctx| match result {
            Ok(Ok(db)) => {
                let db = Arc::new(db);
                tell_filesystem(&this.params.settings.data_path);
                log::info!(duration_ms = began.elapsed().as_millis() as u64; "TSDB started");
                fk_tsdb::metrics::register(&db, &this.params.registry);
                register(&this.params.slots, &this.params.registry);
                this.params.slots.db.store(Some(Arc::clone(&db)));
                this.params.opened.do_send(DbOpen(db));
                this.run_timers(ctx);
            }
            Ok(Err(error)) => this.fail(format!("opening storage failed: {error}")),
            Err(panic) => this.fail(format!("opening storage failed: {panic}")),
        }));
    }

    fn fail(&self, error: String) {
        self.params.fatal.do_send(Fatal { subsystem: "storage".to_owned(), error });
    }

    fn run_timers(&self, ctx: &mut Managed<Self>) {
        ctx.run_interval(SYNC_INTERVAL, |_, ctx| ctx.address().do_send(Sync));
        ctx.run_interval(MAINTENANCE_INTERVAL, |_, ctx| ctx.address().do_send(Maintain));
    }

    /// What a run of maintenance came to.
    fn maintained(&mut self, result: Result<Maintained, String>, ctx: &mut Managed<Self>) {
        let maintenance = &mut self.maintenance;
        maintenance.running = false;
        match result {
            Ok(done) => {
                if maintenance.failures > 0 {
                    log::info!(component = "tsdb"; "maintenance of the storage works again");
                }
                *maintenance = Maintenance::default();
                if done.more {
                    ctx.address().do_send(Maintain);
                }
            }
            Err(_) if self.closing => {}
            Err(error) => {
                let (first, last) = MAINTENANCE_PAUSE;
                let pause = first.saturating_mul(1 << maintenance.failures.min(16)).min(last);
                maintenance.failures += 1;
                maintenance.not_before = Some(Instant::now() + pause);
                if maintenance.last_error != error {
                    log::error!(component = "tsdb", err = error.as_str(); "maintenance of the storage failed");
                    maintenance.last_error = error;
                }
            }
        }
    }
}

/// Registers what has no counterpart in Prometheus.
fn register(slots: &Arc<Slots>, registry: &Registry) {
    let slots = Arc::clone(slots);
    registry.collect(move |out| {
        let Some(db) = slots.db.load_full() else { return };
        let (read_only, quarantined) = (db.read_only().is_some(), db.quarantined().len());
        let damaged = db.scrubbed().iter().filter(|(_, found)| !found.damage.is_empty()).count();
        for (name, help, value) in [
            (
                "firekeeper_storage_damaged_blocks",
                "Blocks in which reading through all of them has found damage.",
                damaged as f64,
            ),
            (
                "firekeeper_storage_ballast_bytes",
                "Disk space that is held for maintenance when the disk is full.",
                db.ballast_bytes() as f64,
            ),
            ("firekeeper_storage_read_only", "Whether the storage cannot take or keep samples.", f64::from(read_only)),
            (
                "firekeeper_storage_quarantined_blocks",
                "Damaged blocks that were moved out of the way.",
                quarantined as f64,
            ),
        ] {
            out.family(name, help, Kind::Gauge);
            out.sample(name, &[], value);
        }
    });
}

/// Runs `work` on a thread of its own that leaves the processor and the disk to others.
fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("tsdb maintenance".to_owned()).spawn(move || {
        // Concerns this thread only, on Linux. It works without as well.
        let nice = rustix::process::getpriority_process(None).unwrap_or(0).max(MAINTENANCE_NICE);
        let _ = rustix::process::setpriority_process(None, nice);
        // Nobody listens if the keeper was rebuilt meanwhile.
        let _ = done.send(work());
    })?;
    Ok(result)
}

/// Says on what kind of file system the data is; some lose it.
fn tell_filesystem(path: &Path) {
    /// `f_type` of `statfs(2)`, and the name that Prometheus shows.
    const KINDS: [(i64, &str); 9] = [
        (0xef53, "EXT4_SUPER_MAGIC"),
        (0x5846_5342, "XFS_SUPER_MAGIC"),
        (0x9123_683e, "BTRFS_SUPER_MAGIC"),
        (0x0102_1994, "TMPFS_MAGIC"),
        (0x794c_7630, "OVERLAYFS_SUPER_MAGIC"),
        (0x2fc1_2fc1, "ZFS_SUPER_MAGIC"),
        (0x6969, "NFS_SUPER_MAGIC"),
        (0xff53_4d42, "CIFS_MAGIC_NUMBER"),
        (0x6573_5546, "FUSE_SUPER_MAGIC"),
    ];
    let Ok(found) = rustix::fs::statfs(path) else { return };
    // The type of the field differs between machines.
    #[expect(clippy::unnecessary_cast, reason = "not on every machine")]
    let kind = found.f_type as i64 & 0xffff_ffff;
    let name = KINDS.iter().find(|(magic, _)| *magic == kind).map_or("unknown", |(_, name)| *name);
    if name == "NFS_SUPER_MAGIC" {
        log::warn!(
            fs_type = name;
            "This filesystem is not supported: it may lose or damage data. See https://prometheus.io/docs/prometheus/latest/storage/"
        );
    } else {
        log::info!(fs_type = name; "filesystem information");
    }
}

impl Actor for StorageKeeper {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.params.slots.db.load().is_some() {
            self.run_timers(ctx);
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
        let slots = Arc::clone(&self.params.slots);
        let sync = spawn_blocking(move || {
            let result = db.sync();
            let degraded = db.read_only();
            if degraded.as_ref() != slots.degraded.load().as_deref() {
                slots.degraded.store(degraded.map(Arc::new));
            }
            result
        });
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

impl Handler<Maintain> for StorageKeeper {
    type Result = ();

    fn handle(&mut self, _: Maintain, ctx: &mut Self::Context) {
        let Some(db) = self.params.slots.db.load_full() else { return };
        let waiting = self.maintenance.not_before.is_some_and(|time| Instant::now() < time);
        if self.closing || waiting || std::mem::replace(&mut self.maintenance.running, true) {
            return;
        }
        let (now, control) = (self.params.slots.now(), self.params.slots.maintenance.clone());
        let run = match in_background(move || db.maintain(now, &control)) {
            Ok(run) => run,
            Err(error) => return self.maintained(Err(format!("no thread: {error}")), ctx),
        };
        ctx.spawn(run.into_actor(self).map(|result, this, ctx| {
            let result = match result {
                Ok(Ok(done)) => Ok(done),
                // Told to stop: whatever was begun is begun anew the next time.
                Ok(Err(StorageError::Stopped(_))) => Ok(Maintained::default()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_lost) => Err("the thread of maintenance panicked".to_owned()),
            };
            this.maintained(result, ctx);
        }));
    }
}

impl Handler<ApplyConfig> for StorageKeeper {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, phase: ApplyConfig, _: &mut Self::Context) -> Self::Result {
        let settings = &self.params.settings;
        match phase {
            ApplyConfig::Prepare(loaded) => {
                let config = settings.tsdb_config(&loaded.config.storage);
                config.check().map_err(|error| Refusal(vec![format!("storage: {error}")]))?;
                self.prepared = Some(config);
            }
            ApplyConfig::Abort => self.prepared = None,
            ApplyConfig::Commit => {
                // A keeper that was rebuilt since finds in the slot what everybody else works with.
                let running = || Some(settings.tsdb_config(&self.params.slots.config.load().as_ref()?.config.storage));
                let config = self.prepared.take().or_else(running);
                if let (Some(config), Some(db)) = (config, self.params.slots.db.load_full())
                    && config != db.config()
                    && let Err(error) = db.apply(config)
                {
                    log::error!(component = "tsdb", err = error.to_string().as_str(); "the storage keeps its settings");
                }
            }
        }
        Ok(())
    }
}

impl Handler<Drain> for StorageKeeper {
    type Result = ResponseFuture<()>;

    /// Closes the storage: everything appended so far is on disk when this is answered. Maintenance ends at the next series.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.closing = true;
        self.params.slots.maintenance.cancel();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn background_work_is_less_urgent_and_answers() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let answer = in_background(nice).unwrap().blocking_recv().unwrap();
        assert_eq!(answer, MAINTENANCE_NICE.max(before));
        assert_eq!(nice(), before, "only the one thread");
    }

    #[test]
    fn a_panic_of_background_work_is_noticed() {
        let lost = in_background(|| panic!("on purpose")).map(oneshot::Receiver::<()>::blocking_recv);
        assert!(lost.unwrap().is_err());
    }
}
