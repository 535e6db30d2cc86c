//! Checkpoints: what is still needed of old segments, written anew so that the segments can go.
//!
//! A checkpoint `checkpoint.NNNNNNNN` stands for all segments up to and including number N and for the checkpoint before
//! it. It is a log of its own in a directory, in the format of the log. It keeps
//!
//! | records | kept |
//! |---|---|
//! | series | those that the caller still needs: alive, or named in later segments |
//! | samples, histograms, exemplars | not before the time the caller says |
//! | deletions | of series that are kept, if they reach that time |
//! | metadata | the newest of each series that is kept, behind everything else |
//!
//! Records of which everything is kept are copied as they are. The work is streaming: a record at a time is in memory,
//! what is not synced yet, and the newest metadata.
//!
//! Order: the directory is written under a temporary name, synced, renamed, and the name synced; only then may
//! [`remove_superseded`] take the old segments and checkpoints away, best a while later. A crash in between leaves both, and
//! a replay reads the newest checkpoint and the segments after it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_storage::{SeriesRef, StorageError};
use fk_vfs::{self as vfs, Vfs, VfsError};

use super::dir::{DAMAGED_SUFFIX, Listing, checkpoint_path, segment_path};
use super::record::{self, MetadataEntry, Record, kind};
use super::replay::{ReplayError, SegmentId, Start, walk};
use super::scan::Reason;
use super::{Wal, WalOptions};

/// Ending of the name of a checkpoint that is being written. Prometheus removes such directories at start, too.
const TMP_SUFFIX: &str = ".tmp";

/// Records are handed to the log in groups of about so many bytes.
const GROUP_BYTES: usize = 1 << 20;

/// So many bytes are written between two syncs: unsynced bytes are kept in memory.
const SYNC_BYTES: u64 = 16 << 20;

/// Metadata entries in one record.
const METADATA_PER_RECORD: usize = 4096;

/// What a checkpoint keeps.
pub struct Keep<'a> {
    /// Whether the series is still needed. Must give the same answer for a series until the checkpoint is written.
    pub series: &'a dyn Fn(SeriesRef) -> bool,
    /// Samples, histograms and exemplars before this time, ms, are not needed any more.
    pub mint: i64,
}

/// What a checkpoint has left out and taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointReport {
    /// The checkpoint's number: segments up to this one are superseded.
    pub number: u32,
    /// Series read.
    pub series: u64,
    /// Series not kept.
    pub dropped_series: u64,
    /// Samples and histograms read.
    pub samples: u64,
    /// Samples and histograms not kept.
    pub dropped_samples: u64,
    /// Exemplars read.
    pub exemplars: u64,
    /// Exemplars not kept.
    pub dropped_exemplars: u64,
    /// Deletions read.
    pub tombstones: u64,
    /// Deletions not kept.
    pub dropped_tombstones: u64,
    /// Metadata entries read.
    pub metadata: u64,
    /// Metadata entries not kept.
    pub dropped_metadata: u64,
    /// Records of unknown kinds. They are not kept, as with Prometheus.
    pub unknown: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Segments with damage; they are kept aside when they are superseded.
    pub damaged: Vec<u32>,
}

/// Says how many bytes were read since it was last called; an error ends the work. The place to slow it down.
pub type Pace<'a> = dyn FnMut(u64) -> Result<(), StorageError> + 'a;

/// Which segments a checkpoint should cover now: the older two thirds of those that are complete, as with Prometheus; they
/// should have mostly samples that are in blocks. `None` if there are too few. The last one of `segments` is being written.
pub fn last_to_cover(segments: &[u32]) -> Option<u32> {
    let (first, last) = (*segments.first()?, segments.last()?.checked_sub(1)?);
    let covered = first + (u64::from(last.checked_sub(first)?) * 2 / 3) as u32;
    (covered > first).then_some(covered)
}

/// Writes checkpoint number `last`, durably, from the newest checkpoint and the segments of the log at `dir` after it up to
/// `last`, which must not be written any more. Its segments are made as `options` says.
///
/// # Errors
/// If a segment cannot be read or the checkpoint cannot be written, nothing has changed. Damage is no error: what can be read
/// is kept, and the damaged segments are in the report.
pub fn write_checkpoint(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    last: u32,
    options: WalOptions,
    keep: &Keep<'_>,
    pace: &mut Pace<'_>,
) -> Result<CheckpointReport, StorageError> {
    remove_temporary(&**vfs, dir)?;
    let path = checkpoint_path(dir, last);
    let mut tmp = path.clone().into_os_string();
    tmp.push(TMP_SUFFIX);
    let tmp = PathBuf::from(tmp);
    let result = write_into(vfs, dir, last, options, keep, pace, &tmp);
    match result {
        Ok(report) => {
            vfs.rename(&tmp, &path)?;
            vfs.sync_dir(dir)?;
            Ok(report)
        }
        Err(e) => {
            if let Err(left) = vfs::remove_dir_all(&**vfs, &tmp) {
                log::warn!("write-ahead log: an unfinished checkpoint stays for now: {left}");
            }
            Err(e)
        }
    }
}

fn write_into(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    last: u32,
    options: WalOptions,
    keep: &Keep<'_>,
    pace: &mut Pace<'_>,
    tmp: &Path,
) -> Result<CheckpointReport, StorageError> {
    let log = Wal::open(Arc::clone(vfs), tmp, WalOptions { reserve: false, ..options })?;
    let mut writer = Writer {
        log,
        keep,
        buffer: Vec::new(),
        ends: Vec::new(),
        unsynced: 0,
        metadata: Newest::default(),
        report: CheckpointReport::default(),
    };
    let mut unpaced = 0;
    let walked = walk(&**vfs, dir, Start::Checkpoint, Some(last), &mut |_, bytes, record| {
        unpaced += bytes.len() as u64;
        if unpaced >= GROUP_BYTES as u64 {
            pace(std::mem::take(&mut unpaced))?;
        }
        writer.record(bytes, record)
    });
    let read = walked.map_err(|e| match e {
        ReplayError::Io(e) => StorageError::from(e),
        ReplayError::Stopped(e) => e,
    })?;
    let unreadable = |reason: Reason| reason == Reason::Unreadable;
    if let Some(damage) = read.damages.iter().chain(&read.torn_tail).find(|damage| unreadable(damage.span.reason)) {
        // The disk may read it the next time.
        return Err(StorageError::Io { path: damage.path.display().to_string(), reason: damage.to_string() });
    }
    writer.finish()?;
    let mut report = writer.report;
    report.number = last;
    report.bytes_read = read.bytes;
    report.damaged = read
        .damaged
        .iter()
        .filter_map(|segment| match segment {
            SegmentId::Log(segment) => Some(*segment),
            SegmentId::Checkpoint { .. } => None,
        })
        .collect();
    writer.log.close()?;
    vfs.sync_dir(tmp)?;
    Ok(report)
}

struct Writer<'a> {
    log: Wal,
    keep: &'a Keep<'a>,
    /// Records that are not logged yet, one after another, and where each ends.
    buffer: Vec<u8>,
    ends: Vec<usize>,
    unsynced: u64,
    metadata: Newest,
    report: CheckpointReport,
}

impl Writer<'_> {
    fn record(&mut self, bytes: &[u8], record: Record<'_>) -> Result<(), StorageError> {
        let (mint, is_kept) = (self.keep.mint, self.keep.series);
        let report = &mut self.report;
        let out = &mut self.buffer;
        let start = out.len();
        match record {
            Record::Series(series) => {
                let (all, kept) = count(series.iter(), |(reference, _)| is_kept(*reference));
                report.series += all;
                report.dropped_series += all - kept;
                match kept {
                    0 => {}
                    kept if kept == all => out.extend_from_slice(bytes),
                    _ => {
                        let labels: Vec<_> = series
                            .iter()
                            .filter(|(reference, _)| is_kept(*reference))
                            .map(|(reference, labels)| (reference, labels.to_labels()))
                            .collect();
                        record::encode_series(labels.iter().map(|(reference, labels)| (*reference, labels)), out);
                    }
                }
            }
            Record::Samples(samples) => {
                let (all, kept) = count(samples.iter(), |sample| sample.t >= mint);
                report.samples += all;
                report.dropped_samples += all - kept;
                match kept {
                    0 => {}
                    kept if kept == all => out.extend_from_slice(bytes),
                    _ if samples.has_starts() => {
                        let (kept, starts): (Vec<_>, Vec<_>) =
                            samples.iter_with_starts().filter(|(sample, _)| sample.t >= mint).unzip();
                        record::encode_samples_with_starts(&kept, &starts, out);
                    }
                    _ => {
                        let kept: Vec<_> = samples.iter().filter(|sample| sample.t >= mint).collect();
                        record::encode_samples(&kept, out);
                    }
                }
            }
            Record::Exemplars(exemplars) => {
                let (all, kept) = count(exemplars.iter(), |exemplar| exemplar.sample.t >= mint);
                report.exemplars += all;
                report.dropped_exemplars += all - kept;
                match kept {
                    0 => {}
                    kept if kept == all => out.extend_from_slice(bytes),
                    _ => {
                        let kept: Vec<_> = exemplars
                            .iter()
                            .filter(|exemplar| exemplar.sample.t >= mint)
                            .map(|e| (e.sample.series, e.to_exemplar()))
                            .collect();
                        record::encode_exemplars(kept.iter().map(|(series, exemplar)| (*series, exemplar)), out);
                    }
                }
            }
            Record::Tombstones(tombstones) => {
                let wanted = |t: &record::Tombstone| t.maxt >= mint && is_kept(t.series);
                let (all, kept) = count(tombstones.iter(), wanted);
                report.tombstones += all;
                report.dropped_tombstones += all - kept;
                if kept > 0 {
                    let kept: Vec<_> = tombstones.iter().filter(wanted).collect();
                    record::encode_tombstones(&kept, out);
                }
            }
            Record::Metadata(metadata) => {
                for entry in metadata.iter() {
                    report.metadata += 1;
                    if !is_kept(entry.series) || self.metadata.set(entry) {
                        report.dropped_metadata += 1;
                    }
                }
            }
            Record::Histograms(histograms) => {
                let (all, kept) = count(histograms.iter(), |histogram| histogram.t >= mint);
                report.samples += all;
                report.dropped_samples += all - kept;
                match (kept, bytes.first()) {
                    (0, _) | (_, None) => {}
                    (kept, _) if kept == all => out.extend_from_slice(bytes),
                    (_, Some(kind)) => {
                        // One that cannot be used is of no use later either.
                        let kept: Vec<_> = histograms
                            .iter()
                            .filter(|histogram| histogram.t >= mint)
                            .filter_map(|histogram| histogram.to_batch().ok())
                            .collect();
                        record::encode_histograms(*kind, &kept, out);
                    }
                }
            }
            // They stand in the log of out-of-order samples only, which has no checkpoints.
            Record::MmapMarkers(_) => report.unknown += 1,
            Record::Unsupported { kind } => {
                report.unknown += 1;
                log::debug!("write-ahead log: a checkpoint leaves out a record of {}", kind::name(kind));
            }
        }
        if self.buffer.len() > start {
            self.ends.push(self.buffer.len());
            if self.buffer.len() >= GROUP_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let mut records = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            records.push(&self.buffer[start..end]);
            start = end;
        }
        self.log.log(&records)?;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(4 * GROUP_BYTES);
        self.ends.clear();
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.log.sync()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        let metadata = std::mem::take(&mut self.metadata);
        let mut series: Vec<_> = metadata.series.iter().collect();
        series.sort_unstable_by_key(|(reference, _)| **reference);
        for group in series.chunks(METADATA_PER_RECORD) {
            let entries = group.iter().map(|(reference, text)| {
                let (metric_type, unit, help) = &*metadata.texts[**text as usize];
                MetadataEntry { series: SeriesRef(**reference), metric_type: *metric_type, unit, help }
            });
            record::encode_metadata(entries, &mut self.buffer);
            self.ends.push(self.buffer.len());
            self.flush()?;
        }
        Ok(())
    }
}

/// How many there are, and how many of them are wanted.
fn count<T>(entries: impl Iterator<Item = T>, wanted: impl Fn(&T) -> bool) -> (u64, u64) {
    let (mut all, mut kept) = (0, 0);
    for entry in entries {
        all += 1;
        kept += u64::from(wanted(&entry));
    }
    (all, kept)
}

/// Type, unit and help text of metrics.
type Text = (u8, String, String);

/// The newest metadata of each series: a number per series, since all series of a metric say the same.
#[derive(Default)]
struct Newest {
    series: HashMap<u64, u32>,
    texts: Vec<Arc<Text>>,
    known: HashMap<Arc<Text>, u32>,
}

impl Newest {
    /// Notes an entry; whether it takes the place of an older one.
    fn set(&mut self, entry: MetadataEntry<'_>) -> bool {
        let text: Text = (entry.metric_type, entry.unit.to_owned(), entry.help.to_owned());
        let idx = match self.known.get(&text) {
            Some(idx) => *idx,
            None => {
                let (text, idx) = (Arc::new(text), self.texts.len() as u32);
                self.texts.push(Arc::clone(&text));
                self.known.insert(text, idx);
                idx
            }
        };
        self.series.insert(entry.series.0, idx).is_some()
    }
}

/// Removes what checkpoint `number` stands for: older segments and checkpoints, and unfinished checkpoints. Segments listed in
/// `damaged` are kept under a name that nobody reads. Returns how many segments and how many checkpoints went. May be called
/// again after an error.
pub fn remove_superseded(vfs: &dyn Vfs, dir: &Path, number: u32, damaged: &[u32]) -> Result<(usize, usize), VfsError> {
    let listing = Listing::read(vfs, dir)?;
    if !listing.checkpoints.contains(&number) {
        return Ok((0, 0));
    }
    let segments: Vec<u32> = listing.segments.into_iter().filter(|segment| *segment <= number).collect();
    // Oldest first: whatever an interruption leaves has no gap behind the checkpoint.
    for segment in &segments {
        let path = segment_path(dir, *segment);
        let mut aside = path.clone().into_os_string();
        aside.push(DAMAGED_SUFFIX);
        let aside = PathBuf::from(aside);
        if damaged.contains(segment) && vfs.metadata(&aside)?.is_none() {
            vfs.rename(&path, &aside)?;
        } else {
            vfs.remove_file(&path)?;
        }
    }
    if !segments.is_empty() {
        vfs.sync_dir(dir)?;
    }
    let old: Vec<u32> = listing.checkpoints.into_iter().filter(|checkpoint| *checkpoint < number).collect();
    for checkpoint in &old {
        vfs::remove_dir_all(vfs, &checkpoint_path(dir, *checkpoint))?;
    }
    if !old.is_empty() {
        vfs.sync_dir(dir)?;
    }
    Ok((segments.len(), old.len()))
}

/// Removes unfinished checkpoints.
pub fn remove_temporary(vfs: &dyn Vfs, dir: &Path) -> Result<(), VfsError> {
    let entries = match vfs.read_dir(dir) {
        Err(e) if e.is_not_found() => return Ok(()),
        result => result?,
    };
    for entry in entries {
        if entry.is_dir && entry.name.starts_with("checkpoint.") && entry.name.ends_with(TMP_SUFFIX) {
            vfs::remove_dir_all(vfs, &dir.join(entry.name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
