//! The log of out-of-order samples of a data directory, `wbl/`: the write-ahead log's format and code, with samples only;
//! their series are in the write-ahead log.
//!
//! It is made when the first out-of-order window is configured, or when there is one already, and holds every
//! out-of-order sample of the head until blocks have it. Beside samples it has *deletions*: what came before one, and lies
//! in its range, is gone. Prometheus skips these records, so the log is written anew after a deletion.
//!
//! In a log of Prometheus there are also markers that say which samples are in its `chunks_head/` files. Those files are
//! written anew by us, so the markers would name chunks that are something else now, and Prometheus would take samples
//! for mapped that are not. So a log with markers is written anew at the start: samples to a new segment, then the old
//! segments go.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use fk_storage::{BatchHistogram, BatchSample, StorageError, TimeRange};
use fk_vfs::Vfs;
use fk_wal::record::{
    HISTOGRAM_KINDS, Record, Tombstone, encode_histograms, encode_samples, encode_samples_with_starts,
    encode_tombstones, kind,
};
use fk_wal::{self as wal, ReplayError, ReplayReport, Wal, WalOptions, WalStats};

use super::DbError;
use crate::head::{Frozen, Head, LogEntry, OooReplayed, OooStream};

/// The log's directory within the data directory.
pub(crate) const WBL_DIR: &str = "wbl";

/// Samples of one record when the log is written anew.
const SAMPLES_PER_RECORD: usize = 4096;

/// The log of out-of-order samples.
#[derive(Debug)]
pub(crate) struct Wbl {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: WalOptions,
    /// Whether start timestamps are logged.
    with_starts: bool,
    log: OnceLock<Wal>,
    opening: Mutex<()>,
}

/// What the replay of the log found.
#[derive(Clone, Debug, Default)]
pub struct WblReplayed {
    /// What was read, and what was damaged.
    pub log: ReplayReport,
    /// Samples, stored or dropped as repeated.
    pub samples: u64,
    /// Samples whose series the write-ahead log does not have.
    pub unknown_refs: u64,
    /// Histograms that contradict themselves.
    pub invalid_histograms: u64,
    /// Whether there are markers of chunks of Prometheus.
    pub markers: bool,
}

impl Wbl {
    /// Fills the head from the log in the data directory `dir`, and makes a damaged log whole. The write-ahead log has been
    /// replayed. The log is opened if there is one.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: WalOptions,
        with_starts: bool,
        head: &Head,
    ) -> Result<(Wbl, WblReplayed), DbError> {
        let dir = dir.join(WBL_DIR);
        // Out-of-order samples are few: nobody waits for this log to have reserved space.
        let options = WalOptions { reserve: false, ..options };
        let wbl = Wbl { vfs, dir, options, with_starts, log: OnceLock::new(), opening: Mutex::new(()) };
        if wbl.vfs.metadata(&wbl.dir)?.is_none() {
            return Ok((wbl, WblReplayed::default()));
        }
        let replayed = replay(&*wbl.vfs, &wbl.dir, head, true)?;
        let log = wbl.ensure().map_err(DbError::OutOfOrderLog)?;
        // What is not understood would be lost.
        if replayed.markers
            && replayed.log.unsupported.is_empty()
            && let Err(e) = write_anew(log, with_starts, head)
        {
            // Nothing is lost for us; it is tried again at the next start.
            log::warn!("out-of-order log: markers of mapped chunks stay: {e}");
        }
        Ok((wbl, replayed))
    }

    /// The open log, made if there is none.
    pub fn ensure(&self) -> Result<&Wal, StorageError> {
        if let Some(log) = self.log.get() {
            return Ok(log);
        }
        let _opening = self.opening.lock();
        if let Some(log) = self.log.get() {
            return Ok(log);
        }
        let log = Wal::open(Arc::clone(&self.vfs), &self.dir, self.options)?;
        Ok(self.log.get_or_init(|| log))
    }

    /// The log, if out-of-order samples were ever taken.
    pub fn get(&self) -> Option<&Wal> {
        self.log.get()
    }

    /// Logs samples with one write.
    pub fn log_samples(&self, entry: &LogEntry<'_>, buffer: &mut Vec<u8>) -> Result<(), StorageError> {
        let log = self.ensure()?;
        buffer.clear();
        let mut ends = Vec::new();
        encode_entry(entry, self.with_starts, buffer, &mut ends);
        Ok(log_records(log, buffer, &ends)?)
    }

    /// Logs deletions with one write.
    pub fn log_tombstones(&self, tombstones: &[Tombstone]) -> Result<(), StorageError> {
        let mut record = Vec::new();
        encode_tombstones(tombstones, &mut record);
        Ok(self.ensure()?.log(&[&record])?)
    }

    /// After deletions: leaves only what the head still has, for Prometheus does not know deletions in this log.
    pub fn forget_deleted(&self, head: &Head) {
        if let Some(log) = self.log.get()
            && let Err(e) = write_anew(log, self.with_starts, head)
        {
            // For us it is deleted all the same.
            log::warn!("out-of-order log: deleted samples stay for now: {e}");
        }
    }

    /// Makes everything logged so far survive a power cut.
    pub fn sync(&self) -> Result<(), StorageError> {
        match self.log.get() {
            Some(log) => Ok(log.sync()?),
            None => Ok(()),
        }
    }

    /// Makes everything durable and takes no more records.
    pub fn close(&self) -> Result<(), StorageError> {
        match self.log.get() {
            Some(log) => Ok(log.close()?),
            None => Ok(()),
        }
    }

    /// What the log has done; `None` if there is no log.
    pub fn stats(&self) -> Option<WalStats> {
        self.log.get().map(Wal::stats)
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> Result<u64, StorageError> {
        match self.log.get() {
            Some(log) => Ok(log.size_bytes()?),
            None => Ok(0),
        }
    }
}

/// Out-of-order samples on their way from the head into blocks.
///
/// ```text
/// freeze -> stream(range) for each block -> blocks durable and in the view -> wait for older views -> finish
/// ```
///
/// If anything fails in between, nothing has been lost: the next compaction freezes everything again.
#[derive(Debug)]
pub struct OutOfOrderCompaction<'a> {
    head: &'a Arc<Head>,
    log: &'a Wal,
    /// The first segment that has samples which are not frozen.
    segment: u32,
    /// What is to be written.
    pub frozen: Frozen,
}

impl<'a> OutOfOrderCompaction<'a> {
    /// Freezes what there is; `None` if there is nothing. Appends wait while the log begins a new segment.
    pub(crate) fn begin(head: &'a Arc<Head>, wbl: &'a Wbl) -> Result<Option<Self>, StorageError> {
        let Some(log) = wbl.get() else { return Ok(None) };
        if head.out_of_order_range().is_none() {
            return Ok(None);
        }
        // So that there is little left to sync when appends have to wait.
        log.sync()?;
        let (segment, frozen) = head.freeze_out_of_order(|| Ok(log.cut()?))?;
        Ok(frozen.map(|frozen| OutOfOrderCompaction { head, log, segment, frozen }))
    }

    /// The frozen samples in `range`, both ends included.
    pub fn stream(&self, range: TimeRange) -> OooStream {
        self.head.stream_out_of_order(range)
    }

    /// Drops what is frozen from the head and then from the log. Blocks have it, and nobody reads by a view without them.
    pub fn finish(self) -> Result<(), StorageError> {
        self.head.drop_frozen_out_of_order();
        self.log.truncate_before(self.segment)?;
        Ok(())
    }
}

/// Fills the head from the log in the data directory `dir`, and changes nothing there.
pub(crate) fn read_only(vfs: &dyn Vfs, dir: &Path, head: &Head) -> Result<WblReplayed, DbError> {
    let dir = dir.join(WBL_DIR);
    match vfs.metadata(&dir)? {
        Some(_) => replay(vfs, &dir, head, false),
        None => Ok(WblReplayed::default()),
    }
}

fn replay(vfs: &dyn Vfs, dir: &Path, head: &Head, repair: bool) -> Result<WblReplayed, DbError> {
    let mut replayed = WblReplayed::default();
    let mut on_record = |_, record: Record<'_>| {
        match record {
            Record::Samples(record) => {
                for (sample, start) in record.iter_with_starts() {
                    replayed.samples += 1;
                    if !head.replay_out_of_order(sample.series, sample.t, start, OooReplayed::Float(sample.v)) {
                        replayed.unknown_refs += 1;
                    }
                }
            }
            Record::Tombstones(record) => {
                for deleted in record.iter() {
                    let range = TimeRange { mint: deleted.mint, maxt: deleted.maxt };
                    head.replay_out_of_order_delete(deleted.series, range);
                }
            }
            Record::Histograms(record) => {
                for entry in record.iter() {
                    replayed.samples += 1;
                    match entry.value() {
                        Ok(h) => {
                            if !head.replay_out_of_order(entry.series, entry.t, entry.start, OooReplayed::Histogram(&h))
                            {
                                replayed.unknown_refs += 1;
                            }
                        }
                        Err(_) => replayed.invalid_histograms += 1,
                    }
                }
            }
            Record::MmapMarkers(_) => replayed.markers = true,
            // Nobody writes others to this log; those not known are counted in the report.
            Record::Series(_) | Record::Exemplars(_) | Record::Metadata(_) | Record::Unsupported { .. } => {}
        }
        Ok(())
    };
    let outcome = match repair {
        true => wal::recover(vfs, dir, &mut on_record).map(|(report, _)| report),
        false => wal::replay(vfs, dir, &mut on_record),
    };
    replayed.log = outcome.map_err(|e: ReplayError<StorageError>| match e {
        ReplayError::Io(e) => DbError::Vfs(e),
        ReplayError::Stopped(e) => DbError::OutOfOrderLog(e),
    })?;
    for (kind, records) in &replayed.log.unsupported {
        log::warn!("out-of-order log: {records} records of {} are not supported", kind::name(*kind));
    }
    if replayed.invalid_histograms > 0 {
        log::warn!("out-of-order log: {} histograms are invalid", replayed.invalid_histograms);
    }
    if replayed.unknown_refs > 0 {
        log::warn!("out-of-order log: {} samples belong to series that the log does not know", replayed.unknown_refs);
    }
    Ok(replayed)
}

/// Appends the records of the samples to `buffer`, and where each ends to `ends`: of a kind of its own per kind of sample, with
/// start timestamps or without them.
pub(super) fn encode_entry(entry: &LogEntry<'_>, with_starts: bool, buffer: &mut Vec<u8>, ends: &mut Vec<usize>) {
    if !entry.samples.is_empty() {
        match with_starts {
            true => encode_samples_with_starts(entry.samples, entry.starts, buffer),
            false => encode_samples(entry.samples, buffer),
        }
        ends.push(buffer.len());
    }
    if !entry.histograms.is_empty() {
        for kind in HISTOGRAM_KINDS.into_iter().filter(|kind| has_starts(*kind) == with_starts) {
            if encode_histograms(kind, entry.histograms, buffer) {
                ends.push(buffer.len());
            }
        }
    }
}

fn log_records(log: &Wal, buffer: &[u8], ends: &[usize]) -> wal::Result<()> {
    let mut start = 0;
    let records: Vec<&[u8]> = ends.iter().map(|end| &buffer[std::mem::replace(&mut start, *end)..*end]).collect();
    log.log(&records)
}

fn has_starts(record: u8) -> bool {
    matches!(record, kind::HISTOGRAM_SAMPLES_WITH_STARTS | kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS)
}

/// Writes all samples of the head to the log, and removes what was there before. What is appended meanwhile may be in it
/// twice.
fn write_anew(log: &Wal, with_starts: bool, head: &Head) -> Result<(), StorageError> {
    let first = log.cut()?;
    let mut samples = LateSamples { with_starts, ..LateSamples::default() };
    head.each_out_of_order(&mut |series, t, start, value| {
        match value {
            OooReplayed::Float(v) => {
                samples.starts.push(start);
                samples.floats.push(BatchSample { series, t, v });
            }
            OooReplayed::Histogram(h) => samples.histograms.push(BatchHistogram { series, t, start, h: h.clone() }),
        }
        match samples.floats.len() + samples.histograms.len() < SAMPLES_PER_RECORD {
            true => Ok(()),
            false => samples.flush(log),
        }
    })?;
    samples.flush(log)?;
    log.sync()?;
    log.truncate_before(first)?;
    Ok(())
}

/// Samples on their way into the log.
#[derive(Default)]
struct LateSamples {
    with_starts: bool,
    floats: Vec<BatchSample>,
    starts: Vec<i64>,
    histograms: Vec<BatchHistogram>,
    buffer: Vec<u8>,
}

impl LateSamples {
    fn flush(&mut self, log: &Wal) -> Result<(), StorageError> {
        let LateSamples { with_starts, floats, starts, histograms, buffer } = self;
        let entry = LogEntry { samples: floats, starts, histograms, out_of_order: true, ..LogEntry::default() };
        let mut ends = Vec::new();
        buffer.clear();
        encode_entry(&entry, *with_starts, buffer, &mut ends);
        log_records(log, buffer, &ends)?;
        floats.clear();
        starts.clear();
        histograms.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
