//! What one part of the server publishes for others to read: snapshots behind `Arc`s, replaced whole by their owners.
//!
//! Readers never wait and never ask an actor. The slots outlive every actor, so that one that is rebuilt after a panic finds
//! here what it needs to go on: the running configuration, the target groups, the open storage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use chrono::{DateTime, Utc};
use fk_config::Loaded;
use fk_ledger::Records;
use fk_model::TargetGroup;
use fk_storage::Control;
use fk_tsdb::{Db, Now, ReplayProgress};
use parking_lot::Mutex;

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Opening the storage, loading the configuration.
    Starting,
    /// Serving.
    Ready,
    /// Going down in order.
    Stopping,
}

/// How the last reload went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReloadStatus {
    /// Whether the last attempt was applied.
    pub successful: bool,
    /// When an attempt was last applied.
    pub last_success: Option<DateTime<Utc>>,
    /// When an attempt last failed.
    pub last_failure: Option<DateTime<Utc>>,
}

/// Target groups by job, as discovery knows them.
pub type GroupsByJob = BTreeMap<String, Arc<Vec<TargetGroup>>>;

/// All slots of one server.
#[derive(Debug)]
pub struct Slots {
    stage: AtomicU8,
    /// The storage; owner: storage keeper.
    pub db: ArcSwapOption<Db>,
    /// What is kept of alerts over restarts; owner: storage keeper, which opens it before the storage.
    pub records: ArcSwapOption<Records>,
    /// The running configuration; owner: config reloader.
    pub config: ArcSwapOption<Loaded>,
    /// Why no samples are taken at the moment; owner: storage keeper, which looks every second.
    pub degraded: ArcSwapOption<String>,
    /// How far the replay of the log is; owner: storage keeper.
    pub replay: Mutex<ReplayProgress>,
    /// Owner: config reloader.
    pub reload: Mutex<ReloadStatus>,
    /// Groups of scrape jobs; owner: scrape discovery.
    pub scrape_groups: Arc<ArcSwap<GroupsByJob>>,
    /// Groups of Alertmanager entries; owner: notify discovery.
    pub notify_groups: Arc<ArcSwap<GroupsByJob>>,
    /// When the process began.
    pub started: DateTime<Utc>,
    /// The same on a clock that does not jump.
    began: Instant,
    /// Ends everything that works on the data directory in the background; cancelled once, by the storage keeper.
    pub maintenance: Control,
}

impl Slots {
    /// Of a server that begins now.
    pub fn new() -> Slots {
        Slots {
            stage: AtomicU8::new(Stage::Starting as u8),
            db: ArcSwapOption::empty(),
            records: ArcSwapOption::empty(),
            config: ArcSwapOption::empty(),
            degraded: ArcSwapOption::empty(),
            replay: Mutex::default(),
            reload: Mutex::new(ReloadStatus { successful: false, last_success: None, last_failure: None }),
            scrape_groups: Arc::default(),
            notify_groups: Arc::default(),
            started: Utc::now(),
            began: Instant::now(),
            maintenance: Control::new(),
        }
    }

    /// The time, for the storage.
    pub fn now(&self) -> Now {
        Now { wall_ms: Utc::now().timestamp_millis(), steady_ms: self.began.elapsed().as_millis() as i64 }
    }

    /// How far the server is.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            _ => Stage::Stopping,
        }
    }

    /// Moves on; never back.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
    }
}

impl Default for Slots {
    fn default() -> Slots {
        Slots::new()
    }
}
