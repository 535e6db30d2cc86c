//! Remote storage: the door for samples that others push.
//!
//! Owns whether pushes are taken. Sending to and reading from other storages is not built yet: a configuration that asks
//! for it is refused by name when the file is read.
//!
//! On restart: nothing is lost, the door's state lives outside the actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use fk_model::{Labels, Matcher};
use fk_storage::{
    AppendReport, Appender, Batch, Control, ExemplarSeries, Queryable, SelectParams, SeriesRef, SeriesSet,
    StorageError, TimeRange,
};
use fk_tsdb::Db;

use crate::messages::lifecycle::{Drain, ReloadReady};
use crate::slots::Slots;

/// The door. Pushes go through it to the storage; it counts those under way.
#[derive(Debug)]
pub struct Door {
    slots: Arc<Slots>,
    open: AtomicBool,
    inside: AtomicUsize,
}

impl Door {
    /// A closed door in front of the storage.
    pub fn new(slots: Arc<Slots>) -> Arc<Door> {
        Arc::new(Door { slots, open: AtomicBool::new(false), inside: AtomicUsize::new(0) })
    }

    fn enter<T>(&self, work: impl FnOnce(&Db) -> Result<T, StorageError>) -> Result<T, StorageError> {
        // Counted before the look at the door, so that whoever closes it sees everybody who got in.
        self.inside.fetch_add(1, SeqCst);
        let result = match self.slots.db.load_full() {
            Some(db) if self.open.load(SeqCst) => work(&db),
            _ => Err(StorageError::ReadOnly("the server takes no pushed samples at the moment".to_owned())),
        };
        self.inside.fetch_sub(1, SeqCst);
        result
    }
}

impl Appender for Door {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        self.enter(|db| db.resolve(labels))
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        self.enter(|db| db.append(batch, report))
    }

    fn make_durable(&self) -> Result<(), StorageError> {
        self.enter(|db| db.make_durable())
    }
}

/// The storage as the web server sees it: reads go straight to it, pushes through the door.
#[derive(Debug)]
pub struct Front {
    db: Arc<Db>,
    door: Arc<Door>,
}

impl Front {
    /// In front of this storage.
    pub fn new(db: Arc<Db>, door: Arc<Door>) -> Front {
        Front { db, door }
    }
}

impl Appender for Front {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        self.door.resolve(labels)
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        self.door.append(batch, report)
    }

    fn make_durable(&self) -> Result<(), StorageError> {
        self.door.make_durable()
    }
}

impl Queryable for Front {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.db.select(params, matchers, control)
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.db.label_values(name, range, matchers, control)
    }

    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.db.label_names(range, matchers, control)
    }

    fn exemplars(&self, range: TimeRange, sets: &[Vec<Matcher>]) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.db.exemplars(range, sets)
    }
}

/// What the actor is made from.
#[derive(Clone, Debug)]
pub struct Params {
    /// Outlives the actor.
    pub door: Arc<Door>,
}

/// The actor.
#[derive(Debug)]
pub struct RemoteStorage {
    params: Params,
}

impl RemoteStorage {
    /// In charge of this door.
    pub fn new(params: Params) -> RemoteStorage {
        RemoteStorage { params }
    }
}

impl Actor for RemoteStorage {
    type Context = Managed<Self>;
}

impl Supervised for RemoteStorage {}

impl ManagedActor for RemoteStorage {
    const KIND: &'static str = "remote_storage";
}

impl Handler<ReloadReady> for RemoteStorage {
    type Result = ();

    fn handle(&mut self, _: ReloadReady, _: &mut Self::Context) {
        self.params.door.open.store(true, SeqCst);
    }
}

impl Handler<Drain> for RemoteStorage {
    type Result = ResponseFuture<()>;

    /// Closes the door and waits for the pushes that are inside.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let door = Arc::clone(&self.params.door);
        door.open.store(false, SeqCst);
        Box::pin(async move {
            while door.inside.load(SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }
}
