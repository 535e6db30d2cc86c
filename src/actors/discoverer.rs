//! A discoverer: runs one discovery provider.
//!
//! Owns the provider (a plain engine that re-reads its sources), the file watch and the refresh timer. Reading happens on a
//! blocking thread. Changes of watched folders are gathered for [`SETTLE`] before the sources are read again, so
//! that a write and the rename after it are one change.
//!
//! On restart: the provider is made anew and reports everything it finds; groups that vanished meanwhile stay known until
//! their source is read without them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use fk_actorkit::{Managed, ManagedActor};
use fk_config::DiscoveryConfig;
use fk_discovery::Provider;
use fk_instrument::{Counter, Family, Gauge, Registry, Summary};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::task::spawn_blocking;

use crate::messages::Tick;
use crate::messages::discovery::GroupsFound;
use crate::messages::lifecycle::Drain;

/// Pause between the first notice of a change and reading.
const SETTLE: Duration = Duration::from_millis(50);

/// `prometheus_sd_file_*`
#[derive(Clone, Debug)]
pub struct FileMetrics {
    read_errors: Counter,
    watcher_errors: Counter,
    scan_duration: Summary,
    mtime: Family<Gauge>,
}

impl FileMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> FileMetrics {
        FileMetrics {
            read_errors: registry.counter("prometheus_sd_file_read_errors_total", "The number of File-SD read errors."),
            watcher_errors: registry.counter(
                "prometheus_sd_file_watcher_errors_total",
                "The number of File-SD errors caused by filesystem watch failures.",
            ),
            scan_duration: registry.summary(
                "prometheus_sd_file_scan_duration_seconds",
                "The duration of the File-SD scan in seconds.",
                &[0.5, 0.9, 0.99],
            ),
            mtime: registry.gauges(
                "prometheus_sd_file_mtime_seconds",
                "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.",
                &["filename"],
            ),
        }
    }

    /// Shows when these files were changed, and forgets those that were shown before and are none of them.
    fn show_files(&self, shown: &mut BTreeSet<String>, files: &[(PathBuf, SystemTime)]) {
        let mut names = BTreeSet::new();
        for (path, modified) in files {
            let name = path.to_string_lossy().into_owned();
            let seconds = modified.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
            self.mtime.get(&[&name]).set(seconds);
            names.insert(name);
        }
        for gone in shown.difference(&names) {
            self.mtime.remove(&[gone]);
        }
        *shown = names;
    }
}

/// What a discoverer is made from.
#[derive(Clone, Debug)]
pub struct Params {
    /// Its number at the manager.
    pub id: u64,
    /// Its section of the configuration.
    pub config: DiscoveryConfig,
    /// Who hears of changes.
    pub found: Recipient<GroupsFound>,
    /// Metrics of file discovery.
    pub metrics: FileMetrics,
}

/// A watched folder changed. Sent by the watcher's thread.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
struct FilesChanged;

/// The actor.
pub struct Discoverer {
    params: Params,
    /// `None` while it is at work on a blocking thread.
    provider: Option<Box<dyn Provider>>,
    /// Whether something changed while the provider was at work.
    again: bool,
    /// Whether a change is settling.
    settling: bool,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Files whose times are among the metrics.
    shown_files: BTreeSet<String>,
}

impl Discoverer {
    /// A discoverer that reads its sources as soon as it runs.
    pub fn new(params: Params) -> Discoverer {
        let provider = Some(fk_discovery::provider(&params.config));
        Discoverer {
            params,
            provider,
            again: false,
            settling: false,
            watcher: None,
            watched: BTreeSet::new(),
            shown_files: BTreeSet::new(),
        }
    }

    fn refresh(&mut self, ctx: &mut Managed<Self>) {
        let Some(mut provider) = self.provider.take() else {
            self.again = true;
            return;
        };
        let work = spawn_blocking(move || {
            let began = Instant::now();
            let refresh = provider.refresh();
            (provider, refresh, began.elapsed())
        });
        ctx.spawn(work.into_actor(self).map(|done, this, ctx| match done {
            Ok((provider, refresh, took)) => {
                if matches!(this.params.config, DiscoveryConfig::File(_)) {
                    this.params.metrics.scan_duration.observe(took.as_secs_f64());
                    this.params.metrics.read_errors.add(refresh.errors.len() as u64);
                    this.params.metrics.show_files(&mut this.shown_files, &refresh.files);
                }
                for error in &refresh.errors {
                    log::error!(component = "discovery", err = error.to_string().as_str(); "reading targets failed, the last good ones stay");
                }
                if !refresh.groups.is_empty() {
                    this.params.found.do_send(GroupsFound { discoverer: this.params.id, groups: refresh.groups });
                }
                this.watch(provider.watch_paths(), ctx);
                this.provider = Some(provider);
                if std::mem::take(&mut this.again) {
                    this.refresh(ctx);
                }
            }
            Err(panic) => {
                log::error!(component = "discovery", err = panic.to_string().as_str(); "provider panicked, it is made anew");
                this.provider = Some(fk_discovery::provider(&this.params.config));
            }
        }));
    }

    /// Watches exactly these folders. What cannot be watched is still read at the refresh interval.
    fn watch(&mut self, paths: Vec<PathBuf>, ctx: &mut Managed<Self>) {
        let paths: BTreeSet<PathBuf> = paths.into_iter().collect();
        if paths == self.watched {
            return;
        }
        if self.watcher.is_none() {
            let address = ctx.address();
            let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading the files makes access events of its own: those must not count.
                if !event.is_ok_and(|event| event.kind.is_access()) {
                    address.do_send(FilesChanged);
                }
            });
            match made {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => {
                    log::warn!(component = "discovery", err = error.to_string().as_str(); "files cannot be watched, they are read at intervals");
                    return;
                }
            }
        }
        let Some(watcher) = self.watcher.as_mut() else { return };
        for path in self.watched.difference(&paths) {
            // A folder that has gone is no longer watched anyway.
            let _ = watcher.unwatch(path);
        }
        let mut watched: BTreeSet<PathBuf> = self.watched.intersection(&paths).cloned().collect();
        for path in paths.difference(&self.watched) {
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(path.clone());
                }
                Err(error) => {
                    self.params.metrics.watcher_errors.inc();
                    let shown = path.display().to_string();
                    log::debug!(component = "discovery", path = shown.as_str(), err = error.to_string().as_str(); "folder cannot be watched");
                }
            }
        }
        self.watched = watched;
    }
}

impl Actor for Discoverer {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.refresh(ctx);
        if let Some(interval) = self.interval() {
            ctx.run_interval(interval, |_, ctx| ctx.address().do_send(Tick(0)));
        }
    }
}

impl Discoverer {
    /// How often sources are read even if no change was noticed.
    fn interval(&self) -> Option<Duration> {
        match &self.params.config {
            DiscoveryConfig::Static(_) => None,
            DiscoveryConfig::File(file) => Some(file.refresh_interval.to_std()),
        }
    }
}

impl Supervised for Discoverer {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Discoverer::new(self.params.clone());
    }
}

impl ManagedActor for Discoverer {
    const KIND: &'static str = "discoverer";
}

impl Handler<Tick> for Discoverer {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        self.refresh(ctx);
    }
}

impl Handler<FilesChanged> for Discoverer {
    type Result = ();

    fn handle(&mut self, _: FilesChanged, ctx: &mut Self::Context) {
        if !std::mem::replace(&mut self.settling, true) {
            ctx.run_later(SETTLE, |this, ctx| {
                this.settling = false;
                this.refresh(ctx);
            });
        }
    }
}

impl Handler<Drain> for Discoverer {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.params.metrics.show_files(&mut self.shown_files, &[]);
        ctx.stop();
    }
}
