//! A data directory as a storage: lock, log, head.
//!
//! Opening takes the lock, looks for data it could not answer from (and then refuses to open), replays the log and
//! starts a new segment. An append is in the log, with one write, before anybody can see it: nothing that was
//! acknowledged is lost when the process is killed. What a power cut may take is bounded by [`Db::sync`], which the
//! owner calls every second.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use fk_model::{Labels, Matcher, Metadata};
use fk_storage::{
    AppendReport, Appender, Batch, Control, ExemplarSeries, Queryable, SelectParams, SeriesRef, SeriesSet,
    StorageError, TimeRange,
};

use crate::chunks_head::ChunkFiles;
use crate::compact::SUPERSEDED_PAUSE_MS;
use crate::compact::pace::Throttle;
use crate::compact::uploads::Uploads;
use crate::exemplars::Exemplars;
use crate::head::{DeletedFromHead, DeletionLogs, Head, HeadOptions, HeadStats, HeadStatus, LogEntry, Spilled};
use crate::image::{self, Images};
use crate::lockfile::{LockError, Lockfile};
use crate::maintain::{Now, Quarantined, Upkeep};
use crate::memory_snapshot;
use crate::metrics::{DbMetrics, UpkeepMetrics};
use crate::read::Reader;
use crate::replay::{Filled, ReplayProgress, Replayed, fill};
use crate::scrub::{ScrubMetrics, Scrubs};
use crate::view::Views;
use fk_block::Block;
use fk_chunk::Encoding;
use fk_vfs::{self as vfs, Vfs, VfsError};
use fk_wal::record::{MetadataEntry, encode_metadata, encode_samples, encode_series, encode_tombstones};
use fk_wal::{Compression, Wal, WalError, WalStats};
use space::Space;
use wbl::Wbl;

mod admin;
pub(crate) mod blocks;
pub(crate) mod exemplars;
pub mod options;
pub mod space;
pub mod wbl;

pub use options::{DbOptions, OptionError, Retention, TsdbConfig};
pub use space::DiskSpace;
pub use wbl::{OutOfOrderCompaction, WblReplayed};

/// The log's directory within the data directory.
pub(crate) const WAL_DIR: &str = "wal";

/// The directory of the head's completed chunks within the data directory.
const CHUNKS_HEAD_DIR: &str = "chunks_head";

/// Record buffers kept for reuse: about as many as appends run at the same time.
const RECORD_BUFFERS_MAX: usize = 16;

/// A record buffer that has grown beyond this is not kept.
const RECORD_BYTES_KEPT: usize = 4 << 20;

/// Bytes per second of an image of the head, unless the storage is being closed.
const IMAGE_BYTES_PER_S: u64 = 128 << 20;

/// Syncs whose durations are remembered: those of about ten minutes, as the summaries of Prometheus do.
const SYNC_DURATIONS_MAX: usize = 600;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Somebody else works on it, or the lock file cannot be made.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file operation failed.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// The directory could not be looked through for blocks.
    #[error("looking for blocks: {0}")]
    Blocks(StorageError),
    /// An option cannot be used.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The log could not be continued.
    #[error("write-ahead log: {0}")]
    Log(#[from] WalError),
    /// The log of out-of-order samples could not be read or continued.
    #[error("out-of-order log: {0}")]
    OutOfOrderLog(StorageError),
    /// The log has more than the head can hold.
    #[error("replaying the write-ahead log: {0}")]
    Replay(StorageError),
}

/// An open data directory. A handle to be shared by an `Arc`.
#[derive(Debug)]
pub struct Db {
    pub(crate) path: PathBuf,
    pub(crate) head: Arc<Head>,
    /// What readers see: the blocks, and from when on the head is asked. Published with the upkeep's lock held.
    pub(crate) views: Views<Block>,
    pub(crate) exemplars: Exemplars,
    pub(crate) wal: Wal,
    pub(crate) wbl: Wbl,
    /// As they were given, put right; what can change is in `config`.
    pub(crate) options: DbOptions,
    pub(crate) upkeep: Mutex<Upkeep>,
    pub(crate) upkeep_metrics: UpkeepMetrics,
    pub(crate) quarantined: Mutex<Vec<Quarantined>>,
    pub(crate) space: Space,
    pub(crate) scrubs: Mutex<Scrubs>,
    pub(crate) scrub_metrics: ScrubMetrics,
    /// Syncs under way: maintenance writes when there is none.
    pub(crate) syncing: AtomicUsize,
    /// Whether senders of pushed samples get their answer after a sync only.
    durable_pushes: bool,
    wal_compression: &'static str,
    /// Taken out when the storage is closed.
    lock: Mutex<Option<Lockfile>>,
    closed: AtomicBool,
    was_clean: Option<bool>,
    pub(crate) config: RwLock<TsdbConfig>,
    replayed: Replayed,
    images: Images,
    /// Memory for records, reused.
    buffers: Mutex<Vec<Records>>,
    /// Of the write-ahead log and of the log of out-of-order samples.
    syncs: Mutex<(SyncDurations, SyncDurations)>,
}

/// The records of one append.
#[derive(Debug, Default)]
struct Records {
    series: Vec<u8>,
    samples: Vec<u8>,
}

/// How long syncs took.
#[derive(Debug, Default)]
pub(crate) struct SyncDurations {
    pub count: u64,
    pub sum: f64,
    /// Seconds, newest last, at most [`SYNC_DURATIONS_MAX`].
    pub recent: VecDeque<f64>,
}

impl SyncDurations {
    fn note(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        if self.recent.len() == SYNC_DURATIONS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(seconds);
    }
}

impl Db {
    /// Opens a data directory and replays its log; `progress` is called whenever another segment is begun.
    pub fn open(mut options: DbOptions, progress: &dyn Fn(ReplayProgress)) -> Result<Db, DbError> {
        for warning in options.settle() {
            log::warn!("{warning}");
        }
        options.config.check()?;
        options.check_encoding_of(&options.config)?;
        let vfs = &*options.vfs;
        vfs::create_dir_all(vfs, &options.path)?;
        let lock = match options.lockfile {
            true => Some(Lockfile::acquire(vfs, &options.path)?),
            false => None,
        };
        let now = options.now.unwrap_or_else(Now::of_machine);
        let space = Space::new(Arc::clone(&options.vfs), &options.path);
        blocks::remove_leftovers(vfs, &options.path).map_err(DbError::Blocks)?;
        let scrubs = Scrubs::load(vfs, &options.path);
        let mut upkeep = new_upkeep(&options);
        let upkeep_metrics = UpkeepMetrics::default();
        let (views, quarantined) = open_blocks(&options, &mut upkeep, &upkeep_metrics, now)?;
        let head_options = HeadOptions {
            samples_per_chunk: options.samples_per_chunk,
            chunk_range_ms: options.min_block_ms,
            out_of_order_window_ms: options.config.out_of_order_window_ms,
            out_of_order_cap: options.out_of_order_cap,
            xor2: options.config.float_encoding == Encoding::Xor2,
            histogram_starts: options.histogram_st_encoding,
            logged_starts: options.st_storage,
        };
        let wal_dir = options.path.join(WAL_DIR);
        let exemplars = Exemplars::default();
        exemplars.configure(options.config.exemplars_max, options.config.out_of_order_window_ms);
        let Filled { head, replayed, start } = fill(
            &options.vfs,
            &options.path,
            &wal_dir,
            &options.path.join(CHUNKS_HEAD_DIR),
            head_options,
            &exemplars,
            views.pin().head_mint,
            progress,
        )?;
        memory_snapshot::retire(vfs, &options.path, !replayed.log.is_clean())?;
        let images = Images::new(Arc::clone(&options.vfs), &options.path, head_options, start, replayed.log.bytes);
        let (wbl, out_of_order) =
            Wbl::open(Arc::clone(&options.vfs), &options.path, options.wal, options.st_storage, &head)?;
        let wal = Wal::open(Arc::clone(&options.vfs), &wal_dir, options.wal)?;
        if options.config.out_of_order_window_ms > 0 {
            wbl.ensure().map_err(DbError::OutOfOrderLog)?;
        }
        if let Some(checkpoint) = replayed.log.checkpoint.filter(|_| replayed.log.is_clean()) {
            // Its writer may have been interrupted before it removed what the checkpoint stands for.
            upkeep.superseded = Some((checkpoint, Vec::new(), now.steady_ms + SUPERSEDED_PAUSE_MS));
        }
        Ok(Db {
            path: options.path.clone(),
            head: Arc::new(head),
            views,
            upkeep: Mutex::new(upkeep),
            upkeep_metrics,
            quarantined: Mutex::new(quarantined),
            exemplars,
            wal,
            wbl,
            space,
            scrubs: Mutex::new(scrubs),
            scrub_metrics: ScrubMetrics::default(),
            syncing: AtomicUsize::new(0),
            durable_pushes: options.durable_pushes,
            wal_compression: match options.wal.compression {
                Compression::None => "none",
                Compression::Snappy => "snappy",
                Compression::Zstd => "zstd",
            },
            was_clean: lock.as_ref().map(Lockfile::was_clean),
            lock: Mutex::new(lock),
            config: RwLock::new(options.config.clone()),
            closed: AtomicBool::new(false),
            replayed: Replayed { out_of_order, ..replayed },
            images,
            buffers: Mutex::default(),
            syncs: Mutex::default(),
            options,
        })
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the process before ended properly (`prometheus_tsdb_clean_start`); `None` if the directory is not locked.
    pub fn was_clean(&self) -> Option<bool> {
        self.was_clean
    }

    /// Makes everything appended so far survive a power cut.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.space.check();
        self.syncing.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let wal = self.wal.sync().map_err(StorageError::from);
        let between = Instant::now();
        // Whatever has become of the other one.
        let result = wal.and(self.wbl.sync());
        let ended = Instant::now();
        self.syncing.fetch_sub(1, Ordering::Relaxed);
        let (wal, wbl) = &mut *self.syncs.lock();
        wal.note(between.duration_since(began).as_secs_f64());
        wbl.note(ended.duration_since(between).as_secs_f64());
        result
    }

    /// Takes no more samples, makes everything durable and gives the directory free. Reading goes on.
    pub fn close(&self) -> Result<(), StorageError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // A start without it takes longer, that is all.
        if let Err(e) = self.images.close(&self.image_source()) {
            log::warn!("head image: not written: {e}");
        }
        let closed = self.wal.close().map_err(StorageError::from).and(self.wbl.close());
        if let Some(lock) = self.lock.lock().take() {
            lock.release()
                .map_err(|e| StorageError::Io { path: self.path.display().to_string(), reason: e.to_string() })?;
        }
        closed
    }

    fn image_source(&self) -> image::Source<'_> {
        image::Source { head: &self.head, wal: &self.wal, exemplars: &self.exemplars }
    }

    /// Writes an image of the head if one is due, so that the next start is quick; says whether one was written.
    /// `steady_ms` is the time of a clock that never jumps. To be called every second or so, and not while the head is
    /// being truncated.
    pub fn maintain_image(&self, steady_ms: i64, control: &Control) -> Result<bool, StorageError> {
        let mut throttle = Throttle::new(IMAGE_BYTES_PER_S, control).yielding_to(&self.syncing);
        Ok(self.images.maintain(&self.image_source(), steady_ms, &mut |bytes| throttle.spent(bytes))?)
    }

    #[cfg(test)]
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Writes an image of the head whether it is due or not.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn write_image(&self) -> Result<(), StorageError> {
        Ok(self.images.write(&self.image_source())?)
    }

    /// What the replay at start found.
    pub fn replayed(&self) -> &Replayed {
        &self.replayed
    }

    /// What the log has done.
    pub fn wal_stats(&self) -> WalStats {
        self.wal.stats()
    }

    /// Bytes of the log on disk.
    pub fn wal_size_bytes(&self) -> Result<u64, StorageError> {
        Ok(self.wal.size_bytes()?)
    }

    /// Moves completed chunks of the head to files. To be called every few seconds; what cannot be written stays in memory.
    pub fn spill(&self) -> Result<Spilled, StorageError> {
        self.head.spill()
    }

    /// Bytes of the files of completed chunks.
    pub fn chunks_head_bytes(&self) -> u64 {
        self.head.files().map_or(0, ChunkFiles::size_bytes)
    }

    /// Cheap numbers about the head.
    pub fn head_status(&self) -> HeadStatus {
        self.head.status()
    }

    /// All numbers about the head; lists have at most `limit` entries.
    pub fn stats(&self, limit: usize) -> HeadStats {
        self.head.stats(limit)
    }

    /// Counters.
    pub fn metrics(&self) -> &DbMetrics {
        self.head.metrics()
    }

    /// Where the memory is, in bytes.
    pub fn memory(&self) -> Vec<crate::head::MemoryUse> {
        self.head.memory()
    }

    /// What may change while the directory is open, as it is now.
    pub fn config(&self) -> TsdbConfig {
        self.config.read().clone()
    }

    /// Changes what may change while the directory is open. On an error nothing has changed.
    pub fn apply(&self, mut config: TsdbConfig) -> Result<(), OptionError> {
        config.check()?;
        self.options.check_encoding_of(&config)?;
        for warning in config.settle() {
            log::warn!("{warning}");
        }
        if config.out_of_order_window_ms > 0
            && let Err(e) = self.wbl.ensure()
        {
            // Tried again with the first sample that needs it.
            log::error!("out-of-order log cannot be opened: {e}");
        }
        self.head.set_out_of_order_window_ms(config.out_of_order_window_ms);
        self.head.set_xor2(config.float_encoding == Encoding::Xor2);
        self.exemplars.configure(config.exemplars_max, config.out_of_order_window_ms);
        *self.config.write() = config;
        Ok(())
    }

    /// The log's compression as the metrics name it.
    pub(crate) fn wal_compression_name(&self) -> &'static str {
        self.wal_compression
    }

    /// Of the write-ahead log and of the log of out-of-order samples.
    pub(crate) fn with_syncs<R>(&self, look: impl FnOnce(&SyncDurations, &SyncDurations) -> R) -> R {
        let (wal, wbl) = &*self.syncs.lock();
        look(wal, wbl)
    }

    /// Logs what a batch adds: one write.
    fn log(&self, entry: &LogEntry<'_>, exemplars: &[u8]) -> Result<(), StorageError> {
        let mut records = self.buffers.lock().pop().unwrap_or_default();
        records.series.clear();
        records.samples.clear();
        if entry.out_of_order {
            let result = self.wbl.log_samples(entry, &mut records.samples);
            self.keep(records);
            return result;
        }
        if !entry.series.is_empty() {
            encode_series(entry.series.iter().map(|(series, labels)| (*series, labels)), &mut records.series);
        }
        let with_starts = self.options.st_storage;
        // Empty records are left out.
        let result = if entry.histograms.is_empty() && !with_starts {
            if !entry.samples.is_empty() {
                encode_samples(entry.samples, &mut records.samples);
            }
            self.wal.log(&[&records.series, &records.samples, exemplars])
        } else {
            let mut ends = Vec::new();
            wbl::encode_entry(entry, with_starts, &mut records.samples, &mut ends);
            let mut start = 0;
            let parts = ends.iter().map(|end| &records.samples[std::mem::replace(&mut start, *end)..*end]);
            let all: Vec<&[u8]> = [&records.series[..]].into_iter().chain(parts).chain([exemplars]).collect();
            self.wal.log(&all)
        };
        self.keep(records);
        Ok(result?)
    }

    fn keep(&self, records: Records) {
        if records.series.capacity() + records.samples.capacity() <= RECORD_BYTES_KEPT {
            let mut buffers = self.buffers.lock();
            if buffers.len() < RECORD_BUFFERS_MAX {
                buffers.push(records);
            }
        }
    }

    /// Deletes the samples in `range` that one of the `selectors` accepts from the head, durably. A dry run only counts. A
    /// series that two selectors accept counts once: the second finds it deleted.
    pub(crate) fn delete_from_head(
        &self,
        range: TimeRange,
        selectors: &[Vec<Matcher>],
        dry_run: bool,
        control: &Control,
    ) -> Result<DeletedFromHead, StorageError> {
        let late = Cell::new(false);
        let logs = DeletionLogs {
            wal: &|tombstones| {
                let mut record = Vec::new();
                encode_tombstones(tombstones, &mut record);
                Ok(self.wal.log(&[&record])?)
            },
            wbl: &|tombstones| {
                late.set(true);
                self.wbl.log_tombstones(tombstones)
            },
        };
        let mut deleted = DeletedFromHead::default();
        let head_mint = self.views.pin().head_mint;
        for matchers in selectors {
            let found = match dry_run {
                true => self.head.count_samples(head_mint, range, matchers, control)?,
                false => self.head.delete(head_mint, range, matchers, control, &logs)?,
            };
            deleted.series += found.series;
            deleted.samples += found.samples;
        }
        if !dry_run && deleted.series > 0 {
            self.sync()?;
        }
        if late.get() {
            self.wbl.forget_deleted(&self.head);
        }
        Ok(deleted)
    }

    /// Begins to move the out-of-order samples of the head into blocks; `None` if there are none. One at a time.
    pub(crate) fn compact_out_of_order(&self) -> Result<Option<OutOfOrderCompaction<'_>>, StorageError> {
        OutOfOrderCompaction::begin(&self.head, &self.wbl)
    }

    /// Keeps what a batch says of its series, as far as it is new. The samples are in the log already, and their series with
    /// them.
    fn append_metadata(&self, batch: &Batch) -> Result<(), StorageError> {
        if batch.metadata.is_empty() || !self.options.metadata_records {
            return Ok(());
        }
        self.head.set_metadata(&batch.metadata, &|news| {
            let mut record = Vec::new();
            encode_metadata(news.iter().map(|(series, metadata)| MetadataEntry::new(*series, metadata)), &mut record);
            Ok(self.wal.log(&[&record])?)
        })
    }

    /// What is known of a series (feature `metadata-wal-records`).
    pub fn metadata(&self, series: SeriesRef) -> Option<Arc<Metadata>> {
        self.head.metadata(series)
    }

    /// Why nothing is appended at the moment, if that is so: no room on the disk, or a log that cannot be continued.
    pub fn read_only(&self) -> Option<String> {
        self.space.reason().or_else(|| self.wal.refusal()).or_else(|| self.wbl.get().and_then(Wal::refusal))
    }

    /// Disk space that is held for maintenance, bytes.
    pub fn ballast_bytes(&self) -> u64 {
        self.space.ballast_bytes()
    }

    /// The room on the disk, and the floors that are kept.
    pub fn disk_space(&self) -> Result<DiskSpace, StorageError> {
        self.space.look()
    }

    /// What the log of out-of-order samples has done; `None` if there is none.
    pub fn wbl_stats(&self) -> Option<WalStats> {
        self.wbl.stats()
    }

    /// Bytes of the log of out-of-order samples on disk.
    pub fn wbl_size_bytes(&self) -> Result<u64, StorageError> {
        self.wbl.size_bytes()
    }

    /// Reads as things are now.
    fn reader(&self) -> Reader<'_> {
        Reader::new(&self.head, self.views.pin())
    }

    pub(crate) fn check_open(&self) -> Result<(), StorageError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(StorageError::ReadOnly("storage is closed".to_owned())),
            false => Ok(()),
        }
    }
}

impl Appender for Db {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        self.check_open()?;
        self.head.resolve(labels)
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        self.check_open()?;
        self.space.admit()?;
        report.clear();
        let chosen = self.choose_exemplars(batch, report);
        let rejected = std::mem::take(&mut report.rejected_exemplars);
        if chosen.is_empty() {
            self.head.append(batch, report, &|entry| self.log(entry, &[]))?;
            report.rejected_exemplars = rejected;
            return self.append_metadata(batch);
        }
        let _logging = self.exemplars.logging();
        // The record goes with the samples, or alone if none of those is stored.
        let record = Cell::new(Db::encode_chosen(batch, &chosen));
        let log = |entry: &LogEntry<'_>| match entry.out_of_order {
            true => self.log(entry, &[]),
            false => self.log(entry, &record.take()),
        };
        self.head.append(batch, report, &log)?;
        let record = record.take();
        if !record.is_empty() {
            self.wal.log(&[&record])?;
        }
        self.store_exemplars(batch, chosen);
        report.rejected_exemplars = rejected;
        self.append_metadata(batch)
    }

    fn make_durable(&self) -> Result<(), StorageError> {
        match self.durable_pushes {
            true => self.sync(),
            false => Ok(()),
        }
    }
}

impl Queryable for Db {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.reader().select(params, matchers, control)
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.reader().label_values(name, range, matchers, control)
    }

    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.reader().label_names(range, matchers, control)
    }

    fn exemplars(&self, range: TimeRange, sets: &[Vec<Matcher>]) -> Result<Vec<ExemplarSeries>, StorageError> {
        Ok(self.exemplars.select(range, sets))
    }
}

fn new_upkeep(options: &DbOptions) -> Upkeep {
    let percent = i64::from(options.compaction_delay_percent.unwrap_or(0));
    let delay_ms = match options.min_block_ms / 100 * percent {
        0 => 0,
        most => (RandomState::new().build_hasher().finish() % most as u64) as i64,
    };
    Upkeep::new(delay_ms, options.delay_compact_file.clone().map(Uploads::new))
}

/// Opens the blocks for readers, and removes those that are not needed any more. Comes before anything is written, since the
/// disk may be full.
fn open_blocks(
    options: &DbOptions,
    upkeep: &mut Upkeep,
    metrics: &UpkeepMetrics,
    now: Now,
) -> Result<(Views<Block>, Vec<Quarantined>), DbError> {
    let vfs = &*options.vfs;
    let mut quarantined = blocks::read_quarantine(vfs, &options.path);
    let none = BTreeSet::new();
    let found =
        blocks::find(&options.vfs, &options.path, &[], &none, &mut upkeep.suspects, false).map_err(DbError::Blocks)?;
    for (dir, e) in &found.failed {
        log::error!("block {} cannot be opened and is missing in queries: {e}", dir.display());
    }
    quarantined.extend(found.quarantined);
    for (ulid, dir) in found.superseded {
        upkeep.doom(ulid, dir, now.steady_ms);
    }
    let head_mint = blocks::head_mint(&found.blocks, now.wall_ms);
    let views = Views::new(head_mint, found.blocks.into());
    upkeep.clock.look(now);
    let logs = [WAL_DIR, wbl::WBL_DIR, "chunks_head"].map(|name| dir_bytes(vfs, &options.path.join(name)));
    let retained = upkeep.retain(options, options.config.retention, &views, metrics, logs.iter().sum(), now);
    if let Err(e) = retained {
        log::error!("retention: {e}");
    }
    upkeep.remove_doomed(vfs, now);
    Ok((views, quarantined))
}

/// Bytes of the files in a directory and in those within it; what cannot be read does not count.
fn dir_bytes(vfs: &dyn Vfs, dir: &Path) -> u64 {
    let entries = vfs.read_dir(dir).unwrap_or_default();
    let bytes = |entry: &vfs::DirEntry| match entry.is_dir {
        true => {
            let inner = dir.join(&entry.name);
            let files = vfs.read_dir(&inner).unwrap_or_default();
            files.iter().filter_map(|file| Some(vfs.metadata(&inner.join(&file.name)).ok()??.len)).sum()
        }
        false => vfs.metadata(&dir.join(&entry.name)).ok().flatten().map_or(0, |m| m.len),
    };
    entries.iter().map(bytes).sum()
}

#[cfg(test)]
mod stale_tests;
#[cfg(test)]
mod starts_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upkeep_tests;
