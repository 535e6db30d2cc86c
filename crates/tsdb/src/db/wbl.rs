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
use fk_wal::record::{HISTOGRAM_KINDS, Record, Tombstone, encode_histograms, encode_samples, encode_tombstones, kind};
use fk_wal::{self as wal, ReplayError, ReplayReport, Wal, WalOptions, WalStats};

use super::DbError;
use crate::head::{Frozen, Head, OooReplayed, OooStream};

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
        head: &Head,
    ) -> Result<(Wbl, WblReplayed), DbError> {
        let dir = dir.join(WBL_DIR);
        // Out-of-order samples are few: nobody waits for this log to have reserved space.
        let options = WalOptions { reserve: false, ..options };
        let wbl = Wbl { vfs, dir, options, log: OnceLock::new(), opening: Mutex::new(()) };
        if wbl.vfs.metadata(&wbl.dir)?.is_none() {
            return Ok((wbl, WblReplayed::default()));
        }
        let replayed = replay(&*wbl.vfs, &wbl.dir, head, true)?;
        let log = wbl.ensure().map_err(DbError::OutOfOrderLog)?;
        // What is not understood would be lost.
        if replayed.markers
            && replayed.log.unsupported.is_empty()
            && let Err(e) = write_anew(log, head)
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
    pub fn log_samples(
        &self,
        samples: &[BatchSample],
        histograms: &[BatchHistogram],
        buffer: &mut Vec<u8>,
    ) -> Result<(), StorageError> {
        Ok(log_samples(self.ensure()?, samples, histograms, buffer)?)
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
            && let Err(e) = write_anew(log, head)
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
                for sample in record.iter() {
                    replayed.samples += 1;
                    if !head.replay_out_of_order(sample.series, sample.t, OooReplayed::Float(sample.v)) {
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
                            if !head.replay_out_of_order(entry.series, entry.t, OooReplayed::Histogram(&h)) {
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

fn log_samples(
    log: &Wal,
    samples: &[BatchSample],
    histograms: &[BatchHistogram],
    buffer: &mut Vec<u8>,
) -> wal::Result<()> {
    buffer.clear();
    if !samples.is_empty() {
        encode_samples(samples, buffer);
    }
    // One record after the other, cut apart when all of them are there.
    let mut ends = vec![buffer.len()];
    if !histograms.is_empty() {
        for kind in HISTOGRAM_KINDS.into_iter().filter(|kind| !with_starts(*kind)) {
            if encode_histograms(kind, histograms, buffer) {
                ends.push(buffer.len());
            }
        }
    }
    let mut start = 0;
    let records: Vec<&[u8]> = ends.iter().map(|end| &buffer[std::mem::replace(&mut start, *end)..*end]).collect();
    log.log(&records)
}

/// Out-of-order samples are kept without start timestamps.
pub(super) fn with_starts(record: u8) -> bool {
    matches!(record, kind::HISTOGRAM_SAMPLES_WITH_STARTS | kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS)
}

/// Writes all samples of the head to the log, and removes what was there before. What is appended meanwhile may be in it
/// twice.
fn write_anew(log: &Wal, head: &Head) -> Result<(), StorageError> {
    let first = log.cut()?;
    let (mut samples, mut histograms, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    let mut flush = |samples: &mut Vec<BatchSample>, histograms: &mut Vec<BatchHistogram>| {
        let result = log_samples(log, samples, histograms, &mut buffer);
        samples.clear();
        histograms.clear();
        Ok::<_, StorageError>(result?)
    };
    head.each_out_of_order(&mut |series, t, value| {
        match value {
            OooReplayed::Float(v) => samples.push(BatchSample { series, t, v }),
            OooReplayed::Histogram(h) => histograms.push(BatchHistogram { series, t, start: 0, h: h.clone() }),
        }
        match samples.len() + histograms.len() < SAMPLES_PER_RECORD {
            true => Ok(()),
            false => flush(&mut samples, &mut histograms),
        }
    })?;
    flush(&mut samples, &mut histograms)?;
    log.sync()?;
    log.truncate_before(first)?;
    Ok(())
}

#[cfg(test)]
mod tests;
