//! The write-ahead log: every batch of samples is in it before anybody sees the samples, and a start reads it back.
//!
//! The format is that of Prometheus (`docs/format/wal.md`), so either can go on with the directory of the other: numbered
//! segments in `wal/`, of pages, of fragments, of records. [`record`] says what records say, [`page`] how they lie in a
//! segment, [`scan`] reads a segment past damage, [`replay`] reads the whole log, [`repair`] makes a damaged one whole.
//!
//! [`Wal`] writes. What it promises:
//!
//! - When [`Wal::log`] has returned, the records are with the operating system: a killed process loses nothing. All records
//!   of one call come back from a replay, or, if it failed, none.
//! - When [`Wal::sync`] has returned, all that was logged before survives a power cut.
//! - A failed write leaves no trace: the next one goes over it.
//! - A failed sync means that the system may have dropped what it did not write, though it can still be read. So
//!   everything since the last successful sync is kept in memory (about 4 bytes per sample), and is written to a new
//!   segment. If that fails as well, the log refuses records until a later [`Wal::sync`] has succeeded in it; nothing
//!   that was acknowledged is forgotten meanwhile.
//! - A segment is durable before the next one begins. So a power cut loses the end of the log, and never its middle.

mod ahead;
pub mod checkpoint;
mod compress;
mod dir;
pub mod page;
pub mod record;
pub mod repair;
pub mod replay;
pub mod scan;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

pub use compress::{Compression, Compressor, DecompressError, Decompressor, RECORD_BYTES_MAX};
pub use dir::{Listing, checkpoint_path, segment_path};
pub use repair::{RepairReport, recover, recover_from, repair, restore_leftovers};
pub use replay::{Damage, Gap, Position, ReplayError, ReplayReport, SegmentId, Start, is_small, replay, replay_from};

use fk_vfs::{self as vfs, Vfs, VfsError, VfsFile};
use page::PAGE_BYTES;

/// Most bytes that are kept in memory because no sync has made them durable; more make [`Wal::log`] sync by itself. At 4
/// bytes per sample this is 16 million samples.
pub const UNSYNCED_BYTES_MAX: usize = 64 << 20;

/// Memory for unsynced bytes that is kept for the next ones.
const UNSYNCED_BYTES_KEPT: usize = 8 << 20;

/// Buffers kept for callers of [`Wal::log`]; more callers at a time make their own.
const SCRATCHES_MAX: usize = 16;

/// A scratch buffer that has grown beyond this is not kept.
const SCRATCH_BYTES_KEPT: usize = 4 << 20;

/// Space that is reserved at a time: what the log takes in a while, and no more than what a small disk can spare.
const RESERVE_BYTES: u64 = 1 << 20;

/// Segments whose lost end could not be cut off after a failed sync, to be tried again.
const UNTRIMMED_MAX: usize = 8;

/// Options of a log.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// A segment ends before it would have more bytes, unless one call of [`Wal::log`] alone brings more.
    pub segment_bytes: u64,
    /// How records are compressed.
    pub compression: Compression,
    /// Whether disk space is reserved ahead of what is written, a megabyte at a time, so that a disk filled by others
    /// does not stop the log at once.
    pub reserve: bool,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_bytes: 128 << 20, compression: Compression::default(), reserve: false }
    }
}

/// Why something could not be logged.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A file operation failed. The log can be used further.
    #[error(transparent)]
    Io(#[from] VfsError),
    /// A record is longer than [`RECORD_BYTES_MAX`].
    #[error("record of {bytes} bytes is longer than the limit of {RECORD_BYTES_MAX}")]
    RecordTooLong {
        /// Its length.
        bytes: usize,
    },
    /// An earlier failure could not be made good. [`Wal::sync`] tries again.
    #[error("write-ahead log takes no records: {0}")]
    ReadOnly(String),
    /// After [`Wal::close`].
    #[error("write-ahead log is closed")]
    Closed,
    /// There is no number left for a new segment.
    #[error("segment numbers are used up")]
    SegmentsUsedUp,
}

impl WalError {
    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, WalError::Io(e) if e.is_no_space())
    }
}

impl From<WalError> for fk_storage::StorageError {
    fn from(err: WalError) -> fk_storage::StorageError {
        match err {
            // Passes by itself when there is room again.
            WalError::Io(e) if e.is_no_space() => fk_storage::StorageError::ReadOnly(e.to_string()),
            WalError::Io(e) => e.into(),
            other => fk_storage::StorageError::ReadOnly(other.to_string()),
        }
    }
}

/// The result of an operation of the log.
pub type Result<T> = std::result::Result<T, WalError>;

/// What the log has done since it was opened; for our own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// The segment that is being written (`prometheus_tsdb_wal_segment_current`).
    pub segment: u32,
    /// Records logged.
    pub records: u64,
    /// Fragments written (`prometheus_tsdb_wal_record_part_writes_total`).
    pub fragments: u64,
    /// Bytes written, headers included (`prometheus_tsdb_wal_record_parts_bytes_written_total`).
    pub bytes: u64,
    /// Bytes that compression has saved (`prometheus_tsdb_wal_record_bytes_saved_total`).
    pub bytes_saved: u64,
    /// Calls that wrote (`prometheus_tsdb_wal_page_flushes_total`).
    pub writes: u64,
    /// Pages filled (`prometheus_tsdb_wal_completed_pages_total`).
    pub pages: u64,
    /// Calls of [`Wal::log`] that failed (`prometheus_tsdb_wal_writes_failed_total`).
    pub writes_failed: u64,
    /// Successful syncs.
    pub syncs: u64,
    /// Failed syncs.
    pub syncs_failed: u64,
    /// Calls of [`Wal::truncate_before`] (`prometheus_tsdb_out_of_order_wbl_truncations_total`).
    pub truncations: u64,
    /// Calls of [`Wal::truncate_before`] that failed.
    pub truncations_failed: u64,
    /// Bytes that are not durable yet.
    pub unsynced_bytes: u64,
}

/// The log, open for writing. Shared by all writers.
#[derive(Debug)]
pub struct Wal {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: WalOptions,
    state: Mutex<State>,
    /// Told when a sync that ran beside the lock has ended.
    synced: Condvar,
    scratches: Mutex<Vec<Scratch>>,
}

/// Invariant: bytes `synced_len..len` of the current segment are `tail`; all bytes of earlier segments are durable. Both
/// `len` and `synced_len` lie between two records.
#[derive(Debug)]
struct State {
    segment: u32,
    file: Arc<dyn VfsFile>,
    /// Length of what was logged to the segment. The next write goes there, over whatever a failed one has left.
    len: u64,
    /// Up to where the segment's space is reserved.
    reserved_len: u64,
    /// Length of what is known to be durable.
    synced_len: u64,
    tail: Vec<u8>,
    /// Bytes logged, and of these durable, since the log was opened. They never go back, so they tell who waits for what.
    logged_total: u64,
    synced_total: u64,
    /// A sync runs beside the lock. Then the segment must not change: the error of a sync is told to one caller only, and
    /// another sync of the same file would succeed though the bytes are lost.
    sync_in_flight: bool,
    health: Health,
    untrimmed: Vec<(Arc<dyn VfsFile>, u64)>,
    stats: WalStats,
}

#[derive(Clone, Debug)]
enum Health {
    Writable,
    ReadOnly(String),
    Closed,
}

/// What one call of [`Wal::log`] prepares before it takes the lock.
struct Scratch {
    compressor: Compressor,
    /// What of it counts is in `payloads`.
    compressed: Vec<u8>,
    payloads: Vec<Payload>,
}

/// A record, ready to be laid out.
struct Payload {
    /// Index of the record in the call.
    record: usize,
    /// Where in the buffer it is, if it was compressed.
    compressed: Option<(usize, usize)>,
    compression: u8,
    crc: u32,
}

impl Scratch {
    fn new(compression: Compression) -> Scratch {
        Scratch { compressor: Compressor::new(compression), compressed: Vec::new(), payloads: Vec::new() }
    }

    fn prepare(&mut self, records: &[&[u8]]) -> Result<()> {
        self.payloads.clear();
        let mut start = 0;
        for (record, bytes) in records.iter().enumerate() {
            if bytes.is_empty() {
                continue;
            }
            if bytes.len() > RECORD_BYTES_MAX {
                return Err(WalError::RecordTooLong { bytes: bytes.len() });
            }
            let (compression, end) = self.compressor.compress(bytes, &mut self.compressed, start);
            let compressed = (compression != 0).then_some((start, end));
            start = end;
            let crc = crc32c::crc32c(compressed.map_or(bytes, |(start, end)| &self.compressed[start..end]));
            self.payloads.push(Payload { record, compressed, compression, crc });
        }
        Ok(())
    }

    fn payload<'a>(&'a self, records: &[&'a [u8]], payload: &Payload) -> &'a [u8] {
        match payload.compressed {
            Some((start, end)) => &self.compressed[start..end],
            None => records[payload.record],
        }
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("compressed", &self.compressed.capacity()).finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log at `dir`, made if missing, for appending. Starts a new segment after the last one, so what is there
    /// stays as it is; replay and repair it first. The caller holds the lock on the data directory.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, options: WalOptions) -> Result<Wal> {
        vfs::create_dir_all(&*vfs, dir)?;
        let listing = Listing::read(&*vfs, dir)?;
        if let Some(&last) = listing.segments.last() {
            // What the last process wrote may be in memory only. It has to be durable before what we write, as ever.
            let last = vfs.open_rw(&segment_path(dir, last))?;
            if options.reserve {
                last.truncate(last.len()?)?;
            }
            last.sync_data()?;
        }
        // Segments up to the number of a checkpoint are not read, so the first one comes after it.
        let last = listing.segments.last().max(listing.checkpoints.last());
        let segment = match last {
            Some(last) => last.checked_add(1).ok_or(WalError::SegmentsUsedUp)?,
            None => 0,
        };
        let file = create_segment(&*vfs, dir, segment)?;
        vfs.sync_dir(dir)?;
        // Also when the directory is not new: an earlier start may have made it and failed before this.
        vfs.sync_dir(vfs::parent(dir))?;
        let state = State {
            segment,
            file,
            len: 0,
            reserved_len: 0,
            synced_len: 0,
            tail: Vec::new(),
            logged_total: 0,
            synced_total: 0,
            sync_in_flight: false,
            health: Health::Writable,
            untrimmed: Vec::new(),
            stats: WalStats { segment, ..WalStats::default() },
        };
        Ok(Wal {
            vfs,
            dir: dir.to_owned(),
            options,
            state: Mutex::new(state),
            synced: Condvar::new(),
            scratches: Mutex::new(Vec::new()),
        })
    }

    /// The directory of the log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Logs records, all or none. They are written, in this order and next to each other, when this returns; they are
    /// durable after the next [`Wal::sync`]. Empty records are left out. Compression runs beside other callers, only the
    /// layout and the one write call are done in turn.
    pub fn log(&self, records: &[&[u8]]) -> Result<()> {
        let mut scratch = self.scratches.lock().pop().unwrap_or_else(|| Scratch::new(self.options.compression));
        let result = scratch.prepare(records).and_then(|()| self.write(&scratch, records));
        if result.is_err() {
            self.state.lock().stats.writes_failed += 1;
        }
        if scratch.compressed.capacity() <= SCRATCH_BYTES_KEPT {
            let mut scratches = self.scratches.lock();
            if scratches.len() < SCRATCHES_MAX {
                scratches.push(scratch);
            }
        }
        result
    }

    /// Makes all that was logged so far durable. Runs beside [`Wal::log`]; callers that come while a sync runs share the
    /// next one. Also tries to bring a read-only log back.
    pub fn sync(&self) -> Result<()> {
        let mut state = self.state.lock();
        let target = state.logged_total;
        loop {
            match &state.health {
                Health::Closed => return Err(WalError::Closed),
                Health::ReadOnly(_) if !state.sync_in_flight => return self.move_on(&mut state),
                _ if state.synced_total >= target => break,
                _ if !state.sync_in_flight => self.sync_beside(&mut state)?,
                _ => self.synced.wait(&mut state),
            }
        }
        trim(&mut state);
        Ok(())
    }

    /// Ends the current segment, unless it is empty, and begins the next. All before it is durable. Returns the number
    /// of the segment that is written now: every record logged so far is in an earlier one.
    pub fn cut(&self) -> Result<u32> {
        let mut state = self.state.lock();
        state.writable()?;
        if state.len > 0 {
            self.cut_locked(&mut state)?;
        }
        Ok(state.segment)
    }

    /// Removes the segments before `segment`, oldest first, and makes that durable. The current one stays. What they held
    /// must be durable elsewhere. Returns how many were removed.
    pub fn truncate_before(&self, segment: u32) -> Result<usize> {
        let result = self.remove_before(segment);
        let mut state = self.state.lock();
        state.stats.truncations += 1;
        state.stats.truncations_failed += u64::from(result.is_err());
        result
    }

    fn remove_before(&self, segment: u32) -> Result<usize> {
        let segment = segment.min(self.state.lock().segment);
        let old: Vec<u32> = self.segments()?.into_iter().filter(|s| *s < segment).collect();
        for &segment in &old {
            self.vfs.remove_file(&segment_path(&self.dir, segment))?;
        }
        if !old.is_empty() {
            self.vfs.sync_dir(&self.dir)?;
        }
        Ok(old.len())
    }

    /// Where the next record goes: the segment, and the offset in it. All records before are with the operating system.
    pub fn position(&self) -> (u32, u64) {
        let state = self.state.lock();
        (state.segment, state.len)
    }

    /// The numbers of the segments there are, ascending; the last one is being written.
    pub fn segments(&self) -> Result<Vec<u32>> {
        Ok(Listing::read(&*self.vfs, &self.dir)?.segments)
    }

    /// Size of all that is in the directory of the log, checkpoints included (`prometheus_tsdb_wal_storage_size_bytes`).
    pub fn size_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in self.vfs.read_dir(&self.dir)? {
            let path = self.dir.join(&entry.name);
            if entry.is_dir {
                for inner in self.vfs.read_dir(&path)? {
                    bytes += self.vfs.metadata(&path.join(inner.name))?.map_or(0, |m| m.len);
                }
            } else {
                bytes += self.vfs.metadata(&path)?.map_or(0, |m| m.len);
            }
        }
        Ok(bytes)
    }

    /// What the log has done.
    pub fn stats(&self) -> WalStats {
        let state = self.state.lock();
        WalStats { segment: state.segment, unsynced_bytes: state.tail.len() as u64, ..state.stats }
    }

    /// Why no records are taken at the moment, if that is so. [`Wal::sync`] tries to bring the log back.
    pub fn refusal(&self) -> Option<String> {
        match &self.state.lock().health {
            Health::ReadOnly(reason) => Some(reason.clone()),
            Health::Writable | Health::Closed => None,
        }
    }

    /// Makes everything durable and takes no more records. If that fails the log stays open, and this can be tried again.
    pub fn close(&self) -> Result<()> {
        match self.sync() {
            Err(WalError::Closed) => return Ok(()),
            result => result?,
        }
        let mut state = self.state.lock();
        self.wait_for_sync(&mut state);
        self.sync_locked(&mut state)?;
        if self.options.reserve {
            state.file.truncate(state.len)?;
        }
        state.health = Health::Closed;
        Ok(())
    }

    // === The rest runs under the lock ===

    fn write(&self, scratch: &Scratch, records: &[&[u8]]) -> Result<()> {
        if scratch.payloads.is_empty() {
            return self.state.lock().writable();
        }
        let mut guard = self.state.lock();
        let (start, fragments) = loop {
            guard.writable()?;
            let state = &mut *guard;
            let start = state.tail.len();
            let (mut in_page, mut fragments) = ((state.len % PAGE_BYTES as u64) as usize, 0);
            for payload in &scratch.payloads {
                let bytes = scratch.payload(records, payload);
                let (end, n) = page::lay_out(bytes, payload.compression, payload.crc, in_page, &mut state.tail);
                in_page = end;
                fragments += n;
            }
            // A call is one write to one segment. So it goes to the next segment as a whole, and each turn of this loop
            // makes room: afterwards the segment or the tail is empty.
            let new_bytes = (state.tail.len() - start) as u64;
            let segment_full = state.len > 0 && state.len + new_bytes > self.options.segment_bytes;
            let tail_full = start > 0 && state.tail.len() > UNSYNCED_BYTES_MAX;
            if !segment_full && !tail_full {
                break (start, fragments);
            }
            state.tail.truncate(start);
            if segment_full {
                self.cut_locked(&mut guard)?;
            } else {
                self.wait_for_sync(&mut guard);
                self.sync_locked(&mut guard)?;
            }
        };
        let state = &mut *guard;
        let new_bytes = (state.tail.len() - start) as u64;
        if self.options.reserve && state.len + new_bytes > state.reserved_len {
            state.reserve(new_bytes, self.options.segment_bytes);
        }
        if let Err(e) = state.file.write_at(&state.tail[start..], state.len) {
            state.tail.truncate(start);
            // Cutting gives the reserve back as well.
            state.reserved_len = state.len;
            // What was written of it must go: the next write may be shorter and would leave its end behind.
            if let Err(truncate) = state.file.truncate(state.len) {
                log::error!("write-ahead log: {truncate}, after: {e}; going on in a new segment");
                self.wait_for_sync(&mut guard);
                self.move_on(&mut guard)?;
            }
            return Err(e.into());
        }
        let page = PAGE_BYTES as u64;
        state.stats.pages += (state.len + new_bytes) / page - state.len / page;
        state.len += new_bytes;
        state.logged_total += new_bytes;
        state.stats.writes += 1;
        state.stats.bytes += new_bytes;
        state.stats.fragments += fragments;
        state.stats.records += scratch.payloads.len() as u64;
        for payload in &scratch.payloads {
            if let Some((start, end)) = payload.compressed {
                state.stats.bytes_saved += (records[payload.record].len() - (end - start)) as u64;
            }
        }
        Ok(())
    }

    fn wait_for_sync(&self, state: &mut MutexGuard<'_, State>) {
        while state.sync_in_flight {
            self.synced.wait(state);
        }
    }

    /// Syncs with the lock released meanwhile, so that others can log. No sync may be in flight.
    fn sync_beside(&self, state: &mut MutexGuard<'_, State>) -> Result<()> {
        debug_assert!(!state.sync_in_flight);
        state.sync_in_flight = true;
        let file = Arc::clone(&state.file);
        let (len, total) = (state.len, state.logged_total);
        let result = MutexGuard::unlocked(state, || file.sync_data());
        state.sync_in_flight = false;
        self.synced.notify_all();
        self.after_sync(state, len, total, result)
    }

    /// Syncs under the lock. No sync may be in flight.
    fn sync_locked(&self, state: &mut State) -> Result<()> {
        if state.tail.is_empty() {
            return Ok(());
        }
        let result = state.file.sync_data();
        self.after_sync(state, state.len, state.logged_total, result)
    }

    fn after_sync(&self, state: &mut State, len: u64, total: u64, result: vfs::Result<()>) -> Result<()> {
        match result {
            Ok(()) => {
                state.stats.syncs += 1;
                state.tail.drain(..(len - state.synced_len) as usize);
                state.tail.shrink_to(UNSYNCED_BYTES_KEPT);
                state.synced_len = len;
                state.synced_total = total;
                Ok(())
            }
            Err(e) => {
                state.stats.syncs_failed += 1;
                log::error!("write-ahead log: {e}; what was not durable goes to a new segment");
                self.move_on(state)
            }
        }
    }

    /// Makes the current segment durable and begins the next.
    fn cut_locked(&self, state: &mut MutexGuard<'_, State>) -> Result<()> {
        let segment = state.segment;
        self.wait_for_sync(state);
        state.writable()?;
        if state.segment == segment {
            self.sync_locked(state)?;
        }
        if state.segment != segment {
            // Another caller has cut meanwhile, or the sync failed and has moved on by itself.
            return Ok(());
        }
        let next = segment.checked_add(1).ok_or(WalError::SegmentsUsedUp)?;
        let file = create_segment(&*self.vfs, &self.dir, next)?;
        self.vfs.sync_dir(&self.dir)?;
        if self.options.reserve
            && let Err(e) = state.file.truncate(state.len)
        {
            log::warn!("write-ahead log: space of segment {segment} stays reserved: {e}");
        }
        state.segment = next;
        state.file = file;
        state.len = 0;
        state.reserved_len = 0;
        state.synced_len = 0;
        Ok(())
    }

    /// After a failure that leaves the current segment in doubt: writes what is not durable to a new segment and goes on
    /// there. If this fails the log is read-only. No sync may be in flight.
    fn move_on(&self, state: &mut State) -> Result<()> {
        match self.new_segment_with_tail(state) {
            Ok(()) => {
                state.health = Health::Writable;
                trim(state);
                Ok(())
            }
            Err(e) => {
                let reason = e.to_string();
                log::error!("write-ahead log takes no records: {reason}");
                state.health = Health::ReadOnly(reason.clone());
                Err(WalError::ReadOnly(reason))
            }
        }
    }

    fn new_segment_with_tail(&self, state: &mut State) -> Result<()> {
        let next = state.segment.checked_add(1).ok_or(WalError::SegmentsUsedUp)?;
        let mut bytes = Vec::with_capacity(state.tail.len());
        page::lay_out_again(&state.tail, (state.synced_len % PAGE_BYTES as u64) as usize, &mut bytes);
        // An earlier attempt may have left the file. It is emptied, and with it goes what the disk did not take.
        let file = create_segment(&*self.vfs, &self.dir, next)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        self.vfs.sync_dir(&self.dir)?;
        let old = std::mem::replace(&mut state.file, file);
        if state.untrimmed.len() == UNTRIMMED_MAX {
            let (file, len) = state.untrimmed.remove(0);
            log::error!("write-ahead log: {} keeps a lost end after offset {len}", file.path().display());
        }
        state.untrimmed.push((old, state.synced_len));
        state.segment = next;
        state.len = bytes.len() as u64;
        state.reserved_len = state.len;
        state.synced_len = state.len;
        state.tail.clear();
        state.synced_total = state.logged_total;
        Ok(())
    }
}

impl State {
    /// Reserves space for `bytes` more and those after them, not beyond the segment's end. Where there is none to be had
    /// the write itself says so; some file systems cannot reserve at all.
    fn reserve(&mut self, bytes: u64, segment_bytes: u64) {
        let needed = self.len + bytes;
        let up_to = (needed + RESERVE_BYTES).min(segment_bytes).max(needed);
        if let Err(e) = self.file.allocate(up_to) {
            log::debug!("write-ahead log: no space reserved: {e}");
        }
        // Also after a failure: it is tried again a megabyte later.
        self.reserved_len = up_to;
    }

    fn writable(&self) -> Result<()> {
        match &self.health {
            Health::Writable => Ok(()),
            Health::ReadOnly(reason) => Err(WalError::ReadOnly(reason.clone())),
            Health::Closed => Err(WalError::Closed),
        }
    }
}

/// Cuts lost ends off segments that were left after a failure: what is there may be readable now and not after a crash,
/// and all of it was written again to the segment after it. That comes first, so a crash in between costs nothing.
fn trim(state: &mut State) {
    state.untrimmed.retain(|(file, len)| {
        let result = file.truncate(*len).and_then(|()| file.sync_data());
        if let Err(e) = &result {
            log::warn!("write-ahead log: the lost end of a segment stays for now: {e}");
        }
        result.is_err()
    });
}

fn create_segment(vfs: &dyn Vfs, dir: &Path, segment: u32) -> Result<Arc<dyn VfsFile>> {
    Ok(Arc::from(vfs.create(&segment_path(dir, segment))?))
}
