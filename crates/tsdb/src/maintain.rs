//! Maintenance of a data directory: what has to be done from time to time, and when.
//!
//! [`Db::maintain`] is called every second or so by whoever owns the storage, with the time. Each call looks at the
//! clocks, writes completed chunks of the head to their files, ends what readers or the clock have held up, and then does
//! the most urgent piece of work that takes long: a block from the head, the log behind it, out-of-order samples, a merge
//! of blocks. A piece that fails is tried again after a pause that doubles; the others go on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fk_block::{Block, Ulid, dir as block_dir};
use fk_storage::{Control, StorageError};
use fk_vfs::Vfs;

use crate::compact::uploads::Uploads;
use crate::db::blocks::{self, Suspects};
use crate::db::{Db, DbOptions, Retention};
use crate::metrics::UpkeepMetrics;
use crate::retention::{self, Candidate, Cause, ClockGuard, Policy};
use crate::scrub::Scrubbed;
use crate::view::Views;

/// What replaces a block has been there for so long before the block is removed, ms: longer than a disk takes to put a name
/// that it calls durable on its platter.
pub(crate) const REMOVAL_PAUSE_MS: i64 = 1000;

/// A removal that has failed is tried again after this, ms.
const REMOVAL_RETRY_MS: i64 = 10_000;

/// How long one call waits for readers of an older view.
pub(crate) const READERS_WAIT: Duration = Duration::from_secs(1);

/// Pauses after failures, ms.
const BACKOFF_MS: std::ops::RangeInclusive<i64> = 1000..=60_000;

/// Name of the note that says which retention settings were in force, so that new ones are known to be new.
const RETENTION_NOTE: &str = "firekeeper_retention.json";

/// Larger notes are not read.
const NOTE_BYTES_MAX: u64 = 4096;

/// The time, from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What the clock on the wall says, ms since 1970. It may jump.
    pub wall_ms: i64,
    /// Milliseconds of a clock that never jumps, such as the uptime of the process.
    pub steady_ms: i64,
}

impl Now {
    /// What the clocks of the machine say; the steady one begins with the first call.
    pub fn of_machine() -> Now {
        static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        let began = BEGAN.get_or_init(std::time::Instant::now);
        Now { wall_ms: fk_vfs::wall_clock_ms(), steady_ms: began.elapsed().as_millis() as i64 }
    }
}

/// What one call of [`Db::maintain`](crate::Db::maintain) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Blocks written from the head, in order or not.
    pub head_blocks: usize,
    /// Compactions of blocks.
    pub compactions: usize,
    /// Blocks removed, because they were compacted or by retention.
    pub removed: usize,
    /// Checkpoints of the log written.
    pub checkpoints: usize,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// What a deletion deleted, or would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Series with at least one sample deleted, counted once per block and once for the head.
    pub series: u64,
    /// Samples; counted by a dry run only.
    pub samples: u64,
    /// Blocks that are concerned, the head not counted.
    pub blocks: usize,
}

/// A damaged block that was moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name: an ULID.
    pub block: String,
    /// Where it is now.
    pub path: PathBuf,
    /// Time of its first sample, ms; with `maxt_ms` the range that queries miss, as far as its `meta.json` can be read.
    pub mint_ms: Option<i64>,
    /// Time behind its last sample, ms.
    pub maxt_ms: Option<i64>,
    /// What is wrong with it.
    pub reason: String,
}

/// What maintenance remembers from call to call. Its lock is what makes compactions, deletions and snapshots take turns.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub clock: ClockGuard,
    /// When the directory was last looked at, on the steady clock.
    looked_ms: Option<i64>,
    /// Blocks that were found damaged.
    pub suspects: Suspects,
    /// Blocks that no reader gets any more, to be removed at a time of the steady clock.
    pub doomed: Vec<Doomed>,
    /// Samples of the head before this are in blocks that readers see; the head is still to be truncated.
    pub truncate: Option<i64>,
    /// The log is still to be cut before this time.
    pub cut_log: Option<i64>,
    /// The time of the last checkpoint.
    pub log_mint: i64,
    /// A checkpoint, damaged segments that it stands for, and when what it stands for may go.
    pub superseded: Option<(u32, Vec<u32>, i64)>,
    /// Out-of-order samples are to be written to blocks, since in-order ones were.
    pub compact_out_of_order: bool,
    /// When the head was last compacted, on the steady clock.
    pub head_compacted_ms: Option<i64>,
    /// When the share of stale series was last looked at, on the steady clock.
    stale_looked_ms: Option<i64>,
    /// The delay of head compactions, ms, and since when one waits.
    pub delay_ms: i64,
    pub delay_began_ms: Option<i64>,
    pub uploads: Option<Uploads>,
    /// Whether the last look found too little space for compactions.
    pub short_of_space: bool,
    /// Blocks whose damage showed in a compaction.
    pub compaction_suspects: Suspects,
    /// The retention settings under which blocks were last removed.
    retention: Option<Retention>,
    head: Backoff,
    log: Backoff,
    blocks: Backoff,
}

/// A block to be removed.
#[derive(Debug)]
pub(crate) struct Doomed {
    pub ulid: Ulid,
    pub dir: PathBuf,
    /// When, on the steady clock.
    pub due_ms: i64,
}

/// When to try again.
#[derive(Debug, Default)]
struct Backoff {
    pause_ms: i64,
    until_ms: Option<i64>,
}

impl Backoff {
    fn is_over(&self, now: Now) -> bool {
        self.until_ms.is_none_or(|until| now.steady_ms >= until)
    }

    /// Notes how an attempt ended; being stopped is no failure.
    fn note<T>(&mut self, now: Now, result: &Result<T, StorageError>) {
        match result {
            Ok(_) => *self = Backoff::default(),
            Err(StorageError::Stopped(_)) => {}
            Err(_) => {
                self.pause_ms = (self.pause_ms * 2).clamp(*BACKOFF_MS.start(), *BACKOFF_MS.end());
                self.until_ms = Some(now.steady_ms + self.pause_ms);
            }
        }
    }
}

impl Upkeep {
    pub(crate) fn new(delay_ms: i64, uploads: Option<Uploads>) -> Upkeep {
        Upkeep {
            clock: ClockGuard::default(),
            looked_ms: None,
            suspects: Suspects::new(),
            doomed: Vec::new(),
            truncate: None,
            cut_log: None,
            log_mint: i64::MIN,
            superseded: None,
            compact_out_of_order: false,
            head_compacted_ms: None,
            stale_looked_ms: None,
            delay_ms,
            delay_began_ms: None,
            uploads,
            short_of_space: false,
            compaction_suspects: Suspects::new(),
            retention: None,
            head: Backoff::default(),
            log: Backoff::default(),
            blocks: Backoff::default(),
        }
    }

    pub(crate) fn doomed_names(&self) -> BTreeSet<Ulid> {
        self.doomed.iter().map(|doomed| doomed.ulid).collect()
    }

    /// Removes the blocks whose time has come. What fails is tried again later.
    pub(crate) fn remove_doomed(&mut self, vfs: &dyn Vfs, now: Now) -> usize {
        let mut removed = 0;
        self.doomed.retain_mut(|doomed| {
            if doomed.due_ms > now.steady_ms {
                return true;
            }
            match vfs.metadata(&doomed.dir).map_err(StorageError::from).and_then(|there| match there {
                Some(_) => block_dir::remove_block(vfs, &doomed.dir),
                None => Ok(()),
            }) {
                Ok(()) => {
                    log::info!("block {} removed", doomed.ulid);
                    removed += 1;
                    false
                }
                Err(e) => {
                    log::error!("block {} cannot be removed: {e}", doomed.ulid);
                    doomed.due_ms = now.steady_ms + REMOVAL_RETRY_MS;
                    true
                }
            }
        });
        removed
    }

    /// Takes blocks that are too old or too many from readers, and marks them for removal.
    pub(crate) fn retain(
        &mut self,
        options: &DbOptions,
        settings: Retention,
        views: &Views<Block>,
        metrics: &UpkeepMetrics,
        head_bytes: u64,
        now: Now,
    ) -> Result<(), StorageError> {
        let (vfs, data) = (&*options.vfs, &*options.path);
        let is_new = self.retention != Some(settings) && read_note(vfs, data) != Some(settings);
        let blocks = Arc::clone(&views.pin().blocks);
        let candidates: Vec<_> =
            blocks.iter().map(|b| Candidate { ulid: b.ulid(), max_time: b.times().1, bytes: b.size_bytes() }).collect();
        let disk_bytes = match settings.percent > 0.0 {
            true => Some(vfs.total_bytes(data)?),
            false => None,
        };
        let policy = Policy {
            retention: settings,
            now_ms: now.wall_ms,
            bytes_max: retention::size_limit(&settings, disk_bytes),
            head_bytes,
            by_time: self.clock.trusts_clock(now),
            unlimited: is_new,
        };
        if !is_new && !self.clock.pause_is_over(now) {
            return Ok(());
        }
        let verdict = retention::judge(&candidates, &policy);
        if verdict.ahead > 0 {
            log::warn!("retention: {} blocks are more than a day ahead of the clock and do not count", verdict.ahead);
        }
        if verdict.held_back > 0 {
            log::warn!("retention: {} blocks would go and are kept for now", verdict.held_back);
        }
        if verdict.limited {
            self.clock.begin_pause(now);
        }
        for (cause, counter) in [(Cause::Time, &metrics.time_retentions), (Cause::Size, &metrics.size_retentions)] {
            if verdict.remove.iter().any(|(_, c)| *c == cause) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        if !verdict.remove.is_empty() {
            let goes = |ulid: Ulid| verdict.remove.iter().any(|(gone, _)| *gone == ulid);
            let (gone, kept): (Vec<_>, Vec<_>) = blocks.iter().cloned().partition(|block| goes(block.ulid()));
            views.publish_blocks(kept.into());
            for block in gone {
                log::info!("retention: block {} goes", block.ulid());
                self.doom(block.ulid(), block.dir().to_owned(), now.steady_ms);
            }
        }
        if self.retention != Some(settings) {
            self.retention = Some(settings);
            if is_new {
                write_note(vfs, data, &settings);
            }
        }
        Ok(())
    }

    /// Marks a block for removal.
    pub(crate) fn doom(&mut self, ulid: Ulid, dir: PathBuf, due_ms: i64) {
        if self.doomed.iter().all(|doomed| doomed.dir != dir) {
            self.doomed.push(Doomed { ulid, dir, due_ms });
        }
    }
}

/// Runs pieces of work one after another, whatever becomes of each, and keeps the first error.
#[derive(Default)]
struct Pieces {
    first_error: Option<StorageError>,
}

impl Pieces {
    /// Returns the result of a piece, or nothing if it has failed.
    fn note<T>(&mut self, what: &str, result: Result<T, StorageError>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(e) => {
                if !matches!(e, StorageError::Stopped(_)) {
                    log::error!("{what}: {e}");
                }
                self.first_error.get_or_insert(e);
                None
            }
        }
    }
}

impl Db {
    /// Does what is due: writes the head to a block, cuts the log, compacts blocks, removes what is too old, looks for new
    /// blocks. Called every second or so by whoever owns the storage, one call at a time (a second one waits). One call
    /// does at most one piece of work that takes long; [`Maintained::more`] says whether to call again at once. `control`
    /// ends it at the next megabyte; what was begun is then begun anew by a later call.
    ///
    /// # Errors
    /// The first thing that went wrong. All that does not depend on it was done nevertheless, and it is tried again by a
    /// later call.
    pub fn maintain(&self, now: Now, control: &Control) -> Result<Maintained, StorageError> {
        self.check_open()?;
        let mut upkeep = self.upkeep.lock();
        let upkeep = &mut *upkeep;
        let mut done = Maintained::default();
        let mut pieces = Pieces::default();
        if let Some(by_ms) = upkeep.clock.look(now) {
            log::warn!("the clock has jumped by {by_ms} ms; nothing is removed for its age for two hours");
            self.upkeep_metrics.clock_jumps.fetch_add(1, Ordering::Relaxed);
        }
        // Chunks that cannot be written stay in memory and are counted.
        pieces.note("writing chunks of the head", self.head.spill());
        self.finish_truncation(upkeep, &mut pieces);
        pieces.note("removal of old segments", self.remove_superseded(upkeep, now));
        done.removed += upkeep.remove_doomed(&*self.options.vfs, now);
        if upkeep.looked_ms.is_none_or(|then| now.steady_ms - then >= self.options.reload_interval_ms) {
            upkeep.looked_ms = Some(now.steady_ms);
            pieces.note("looking for blocks", self.reload(upkeep, now, true));
            let settings = self.config.read().retention;
            let head_bytes = self.head_bytes_on_disk();
            self.space.take_ballast(head_bytes.saturating_add(self.blocks_size_bytes()));
            let retained = upkeep.retain(&self.options, settings, &self.views, &self.upkeep_metrics, head_bytes, now);
            pieces.note("retention", retained);
            done.removed += upkeep.remove_doomed(&*self.options.vfs, now);
        }
        control.check()?;
        self.do_one_piece(upkeep, now, control, &mut done, &mut pieces);
        // Without an image the next start takes longer, that is all.
        if !done.more
            && let Err(e) = self.maintain_image(now.steady_ms, control)
            && !matches!(e, StorageError::Stopped(_))
        {
            log::warn!("{e}");
        }
        if !done.more {
            self.scrub(now);
        }
        if done.head_blocks + done.compactions > 0 {
            // New blocks may push old ones out.
            upkeep.looked_ms = None;
        }
        match pieces.first_error {
            Some(e) => Err(e),
            None => Ok(done),
        }
    }

    /// The most urgent piece of work that takes long.
    fn do_one_piece(
        &self,
        upkeep: &mut Upkeep,
        now: Now,
        control: &Control,
        done: &mut Maintained,
        pieces: &mut Pieces,
    ) {
        if upkeep.head.is_over(now) && self.head_is_due(upkeep, now) {
            let result = self.compact_head_once(upkeep, now, control);
            upkeep.head.note(now, &result);
            if let Some(blocks) = pieces.note("compaction of the head", result) {
                done.head_blocks += blocks;
                done.more = true;
                self.finish_truncation(upkeep, pieces);
            }
            return;
        }
        // With more ranges of the head to come one checkpoint at the end is enough.
        if upkeep.log.is_over(now)
            && let Some(mint) = upkeep.cut_log
        {
            let result = self.cut_log(upkeep, mint, now, control);
            upkeep.log.note(now, &result);
            if let Some(checkpoints) = pieces.note("checkpoint of the write-ahead log", result) {
                done.checkpoints += checkpoints;
                done.more = true;
            }
            return;
        }
        if upkeep.compact_out_of_order && upkeep.head.is_over(now) {
            let result = self.compact_out_of_order_once(upkeep, now, control);
            upkeep.head.note(now, &result);
            if let Some(blocks) = pieces.note("compaction of out-of-order samples", result) {
                upkeep.compact_out_of_order = false;
                done.head_blocks += blocks;
                done.more = true;
            }
            return;
        }
        if upkeep.head.is_over(now)
            && upkeep.stale_looked_ms.is_none_or(|then| now.steady_ms - then >= self.options.reload_interval_ms)
        {
            upkeep.stale_looked_ms = Some(now.steady_ms);
            if self.stale_series_are_due(upkeep, now) {
                let result = self.compact_stale_series(now, control);
                upkeep.head.note(now, &result);
                if let Some(blocks) = pieces.note("compaction of stale series", result) {
                    done.head_blocks += blocks;
                    done.more = true;
                }
                return;
            }
        }
        if upkeep.blocks.is_over(now) {
            let result = self.compact_blocks_once(upkeep, now, control);
            upkeep.blocks.note(now, &result);
            if let Some(true) = pieces.note("compaction of blocks", result) {
                done.compactions += 1;
                done.more = true;
            }
        }
    }

    /// Reads on in the blocks. Nothing else depends on it, and it is tried again.
    fn scrub(&self, now: Now) {
        let view = self.views.pin();
        let step = self.scrubs.lock().step(&self.options.vfs, &self.path, &view.blocks, &self.scrub_metrics, now);
        if let Err(e) = step {
            log::warn!("reading through the blocks: {e}");
        }
    }

    /// What reading through the blocks has found of those that readers see, by their names. Blocks that were not read yet
    /// are left out.
    pub fn scrubbed(&self) -> Vec<(String, Scrubbed)> {
        let blocks = Arc::clone(&self.views.pin().blocks);
        let scrubs = self.scrubs.lock();
        let known = |block: &Block| Some((block.ulid().to_string(), scrubs.known().get(&block.ulid())?.clone()));
        blocks.iter().filter_map(known).collect()
    }

    /// Looks through the directory now: finds blocks that were put there, forgets those that are gone.
    pub fn reload_blocks(&self, now: Now) -> Result<(), StorageError> {
        let mut upkeep = self.upkeep.lock();
        self.reload(&mut upkeep, now, true)
    }

    pub(crate) fn reload(&self, upkeep: &mut Upkeep, now: Now, patient: bool) -> Result<(), StorageError> {
        self.upkeep_metrics.reloads.fetch_add(1, Ordering::Relaxed);
        let known = Arc::clone(&self.views.pin().blocks);
        let doomed = upkeep.doomed_names();
        let found = blocks::find(&self.options.vfs, &self.path, &known, &doomed, &mut upkeep.suspects, patient)
            .inspect_err(|_| {
                self.upkeep_metrics.reloads_failed.fetch_add(1, Ordering::Relaxed);
            })?;
        for block in known.iter().filter(|b| found.blocks.iter().all(|f| f.ulid() != b.ulid())) {
            if found.superseded.iter().all(|(ulid, _)| *ulid != block.ulid()) {
                log::warn!("block {} is gone", block.ulid());
            }
        }
        let is_same = |(a, b): (&Block, &Block)| a.dir() == b.dir();
        if known.len() != found.blocks.len() || !known.iter().zip(&found.blocks).all(is_same) {
            let metas: Vec<_> = found.blocks.iter().map(|block| block.meta()).collect();
            for text in crate::compact::plan::overlaps(&metas.iter().map(|meta| &**meta).collect::<Vec<_>>()) {
                log::warn!("blocks overlap: {text}");
            }
            self.views.publish_blocks(found.blocks.into());
        }
        for (ulid, dir) in found.superseded {
            upkeep.doom(ulid, dir, now.steady_ms + REMOVAL_PAUSE_MS);
        }
        self.quarantined.lock().extend(found.quarantined);
        match found.failed.into_iter().next() {
            Some((dir, e)) => {
                self.upkeep_metrics.reloads_failed.fetch_add(1, Ordering::Relaxed);
                log::error!("block {} cannot be opened: {e}", dir.display());
                Err(e)
            }
            None => Ok(()),
        }
    }

    /// Bytes of logs and chunk files: what size retention counts beside blocks.
    pub fn head_bytes_on_disk(&self) -> u64 {
        let logs = self.wal.size_bytes().unwrap_or(0) + self.wbl.size_bytes().unwrap_or(0);
        logs + self.head.files().map_or(0, |files| files.size_bytes())
    }

    /// Waits for readers of older views, and drops from the head what is in blocks.
    pub(crate) fn finish_truncation_or_wait(&self, upkeep: &mut Upkeep, control: &Control) -> Result<(), StorageError> {
        while upkeep.truncate.is_some() {
            control.check()?;
            let mut pieces = Pieces::default();
            self.finish_truncation(upkeep, &mut pieces);
            if let Some(e) = pieces.first_error {
                return Err(e);
            }
        }
        Ok(())
    }

    /// Drops from the head what is in blocks, as soon as nobody reads by an older view.
    fn finish_truncation(&self, upkeep: &mut Upkeep, pieces: &mut Pieces) {
        let Some(mint) = upkeep.truncate else { return };
        if !self.views.wait_for_readers(READERS_WAIT) {
            log::debug!("readers of {} older views are waited for", self.views.older_in_use());
            return;
        }
        let segment = self.wal.stats().segment;
        match self.head.truncate(mint, segment) {
            Ok(truncated) => log::info!(
                "head truncated: {} series and {} chunks before {mint} are in blocks",
                truncated.series,
                truncated.chunks
            ),
            // The chunks are gone from memory; the files go with the next truncation.
            Err(e) => {
                pieces.note("truncation of the head", Err::<(), _>(e));
            }
        }
        upkeep.truncate = None;
        upkeep.cut_log = Some(upkeep.cut_log.map_or(mint, |earlier| earlier.max(mint)));
    }
}

fn read_note(vfs: &dyn Vfs, data: &std::path::Path) -> Option<Retention> {
    let bytes = fk_vfs::read_file(vfs, &data.join(RETENTION_NOTE), NOTE_BYTES_MAX).ok()?;
    let note: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    Some(Retention {
        time_ms: note["timeMs"].as_i64()?,
        bytes: note["bytes"].as_u64()?,
        percent: note["percent"].as_f64()?,
    })
}

fn write_note(vfs: &dyn Vfs, data: &std::path::Path, settings: &Retention) {
    let note = serde_json::json!({
        "timeMs": settings.time_ms, "bytes": settings.bytes, "percent": settings.percent,
    });
    if let Err(e) = fk_vfs::write_file_atomic(vfs, &data.join(RETENTION_NOTE), note.to_string().as_bytes()) {
        log::warn!("retention: the settings in force cannot be noted: {e}");
    }
}
