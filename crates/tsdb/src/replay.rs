//! What a start reads of the log: every record goes to where it belongs in the head, and a damaged log is made whole.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fk_storage::StorageError;
use fk_vfs::Vfs;
use fk_wal::record::{Record, kind};
use fk_wal::{self as wal, Listing, Position, ReplayError, ReplayReport, SegmentId, Start};

use crate::chunks_head::ChunkFiles;
use crate::db::exemplars::ReplayedExemplars;
use crate::db::{DbError, WblReplayed};
use crate::exemplars::Exemplars;
use crate::head::metadata::ReplayedMetadata;
use crate::head::{Head, HeadOptions, SeriesReplay, Session, stale};
use crate::image;

/// How far the replay is, in segments of the log (`/api/v1/status/walreplay`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// First segment to be read.
    pub min: u32,
    /// Last segment to be read.
    pub max: u32,
    /// The segment being read.
    pub current: u32,
}

/// What the replay at start found.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// What was read, and what was damaged.
    pub log: ReplayReport,
    /// Series records; more than series when a series was logged again.
    pub series: u64,
    /// Float samples, stored or dropped as too old for their series.
    pub samples: u64,
    /// Samples whose series record is lost.
    pub unknown_refs: u64,
    /// Series with labels that cannot be stored.
    pub invalid_series: u64,
    /// Histograms that contradict themselves.
    pub invalid_histograms: u64,
    /// Metadata of series whose record is lost.
    pub unknown_metadata: u64,
    /// Records that have no place in this log.
    pub unused_records: u64,
    /// References that stood for two label sets, one after the other.
    pub renamed_refs: u64,
    /// Whether there was an image of the head that could not be used, so that the whole log was read.
    pub image_failed: bool,
    /// What the replay of the log of out-of-order samples found.
    pub out_of_order: WblReplayed,
    /// How long it took.
    pub duration: Duration,
}

/// A head that is filled.
#[derive(Debug)]
pub(crate) struct Filled {
    pub head: Head,
    pub replayed: Replayed,
    /// Where the log was read from.
    pub start: Start,
}

/// The head of a data directory: out of its image and the log that came after, or if there is no image that counts, out of
/// the whole log. Completed chunks go to `chunks_dir`; samples before `min_valid_time` are in blocks.
#[expect(clippy::too_many_arguments, reason = "an open takes them apart right before")]
pub(crate) fn fill(
    vfs: &Arc<dyn Vfs>,
    data_dir: &Path,
    wal_dir: &Path,
    chunks_dir: &Path,
    options: HeadOptions,
    exemplars: &Exemplars,
    min_valid_time: i64,
    progress: &dyn Fn(ReplayProgress),
) -> Result<Filled, DbError> {
    let began = Instant::now();
    let mut image_failed = true;
    let files = || ChunkFiles::new(Arc::clone(vfs), chunks_dir.to_owned());
    match image::load(&**vfs, data_dir, wal_dir, options, files()) {
        Ok(None) => image_failed = false,
        Ok(Some(image::Loaded { head, start, exemplars: saved })) => {
            let loaded = began.elapsed();
            head.set_min_valid_time(min_valid_time);
            saved.into_iter().for_each(|(series, exemplar)| exemplars.add(&series, exemplar));
            let mut replayed = replay(&**vfs, wal_dir, start, &head, exemplars, progress)?;
            if replayed.renamed_refs == 0 {
                replayed.duration = began.elapsed();
                log::info!("head image: loaded in {:.3} s", loaded.as_secs_f64());
                return Ok(Filled { head, replayed, start });
            }
            exemplars.clear();
            log::warn!("head image: not used: the log has other series under its references");
        }
        Err(why) => log::warn!("head image: not used, the whole log is read instead: {why}"),
    }
    let head = Head::with_files(options, Some(files()));
    head.set_min_valid_time(min_valid_time);
    let mut replayed = replay(&**vfs, wal_dir, Start::Checkpoint, &head, exemplars, progress)?;
    replayed.image_failed = image_failed;
    replayed.duration = began.elapsed();
    Ok(Filled { head, replayed, start: Start::Checkpoint })
}

/// Fills the head from the log at `dir`, from `start` on, and makes a damaged log whole. `progress` is called whenever
/// another segment is begun.
pub(crate) fn replay(
    vfs: &dyn Vfs,
    dir: &Path,
    start: Start,
    head: &Head,
    exemplars: &Exemplars,
    progress: &dyn Fn(ReplayProgress),
) -> Result<Replayed, DbError> {
    read(vfs, dir, start, head, exemplars, progress, true)
}

/// As [`replay`], but nothing in the directory is changed: what is damaged stays damaged.
pub(crate) fn read_only(
    vfs: &dyn Vfs,
    dir: &Path,
    head: &Head,
    progress: &dyn Fn(ReplayProgress),
) -> Result<Replayed, DbError> {
    read(vfs, dir, Start::Checkpoint, head, &Exemplars::default(), progress, false)
}

fn read(
    vfs: &dyn Vfs,
    dir: &Path,
    start: Start,
    head: &Head,
    exemplars: &Exemplars,
    progress: &dyn Fn(ReplayProgress),
    repair: bool,
) -> Result<Replayed, DbError> {
    let began = Instant::now();
    let mut segments = Listing::read(vfs, dir)?.segments;
    if let Start::At { segment, .. } = start {
        segments.retain(|s| *s >= segment);
    }
    let mut at = ReplayProgress {
        min: segments.first().copied().unwrap_or(0),
        max: segments.last().copied().unwrap_or(0),
        ..ReplayProgress::default()
    };
    at.current = at.min;
    progress(at);
    let mut replayed = Replayed::default();
    let mut newest = ReplayedExemplars::new(exemplars.stats().max);
    let mut metadata = ReplayedMetadata::default();
    let feed = |session: &mut Session<'_>| {
        let mut on_record = |position: Position, record: Record<'_>| {
            if let SegmentId::Log(segment) = position.segment
                && segment != at.current
            {
                at.current = segment;
                progress(at);
                spill(head);
            }
            take(session, &mut replayed, &mut newest, &mut metadata, position, &record)
        };
        match repair {
            true => wal::recover_from(vfs, dir, start, &mut on_record).map(|(report, _)| report),
            false => wal::replay_from(vfs, dir, start, &mut on_record),
        }
    };
    let outcome = if wal::is_small(vfs, dir, start) { head.replay_alone(feed) } else { head.replay(feed) };
    replayed.log = outcome.map_err(DbError::Replay)?.map_err(|e| match e {
        ReplayError::Io(e) => DbError::Vfs(e),
        ReplayError::Stopped(e) => DbError::Replay(e),
    })?;
    spill(head);
    replayed.unknown_metadata = metadata.finish(head);
    newest.finish(head, |labels, exemplar| exemplars.add(labels, exemplar));
    at.current = at.max;
    progress(at);
    replayed.duration = began.elapsed();
    tell(&replayed);
    Ok(replayed)
}

/// Moves completed chunks to files, so that they do not pile up. Those that cannot be written stay in memory.
fn spill(head: &Head) {
    if let Err(e) = head.spill() {
        log::warn!("head chunks stay in memory for now: {e}");
    }
}

/// One record. What looks at the series of the head, and is not handed to the workers, settles the session first.
fn take(
    session: &mut Session<'_>,
    replayed: &mut Replayed,
    exemplars: &mut ReplayedExemplars,
    metadata: &mut ReplayedMetadata,
    position: Position,
    record: &Record<'_>,
) -> Result<(), StorageError> {
    match record {
        Record::Series(record) => {
            for (reference, labels) in record.iter() {
                replayed.series += 1;
                match session.series(reference, &labels)? {
                    SeriesReplay::Taken => {}
                    SeriesReplay::InvalidLabels => replayed.invalid_series += 1,
                    SeriesReplay::Renamed => replayed.renamed_refs += 1,
                }
            }
        }
        Record::Samples(record) => {
            replayed.unknown_refs += match record.has_starts() {
                true => session.samples_with_starts(record.iter_with_starts().inspect(|_| replayed.samples += 1))?,
                false => session.samples(record.iter().inspect(|_| replayed.samples += 1))?,
            };
        }
        Record::Tombstones(record) => {
            session.settle()?;
            let head = session.head();
            let (gone, deleted): (Vec<_>, Vec<_>) = record.iter().partition(stale::is_gone);
            replayed.unknown_refs += deleted.iter().filter(|t| !head.replay_tombstone(t)).count() as u64;
            let gone: Vec<_> = gone.iter().map(|tombstone| tombstone.series).collect();
            // What follows a checkpoint says nothing more of series that the checkpoint says are gone.
            let segment = if let SegmentId::Log(segment) = position.segment { segment } else { 0 };
            replayed.unknown_refs += head.replay_gone(&gone, segment) as u64;
        }
        Record::Exemplars(record) => {
            for entry in record.iter() {
                exemplars.push(entry.sample.series, entry.to_exemplar());
            }
        }
        Record::Histograms(record) => {
            for entry in record.iter() {
                replayed.samples += 1;
                let Ok(h) = entry.value() else {
                    replayed.invalid_histograms += 1;
                    continue;
                };
                let known = session.histogram(entry.series, entry.t, entry.start, h)?;
                replayed.unknown_refs += u64::from(!known);
            }
        }
        Record::Metadata(record) => record.iter().for_each(|entry| metadata.push(&entry)),
        Record::MmapMarkers(_) => {
            replayed.unused_records += 1;
        }
        // Counted by kind in the report.
        Record::Unsupported { .. } => {}
    }
    Ok(())
}

/// Says once what the replay could not use.
fn tell(replayed: &Replayed) {
    for (kind, records) in &replayed.log.unsupported {
        log::warn!("write-ahead log: {records} records of {} are not supported and stay in the log", kind::name(*kind));
    }
    let say = |count: u64, what: &str| {
        if count > 0 {
            log::warn!("write-ahead log: {count} {what}");
        }
    };
    say(replayed.unused_records, "records do not belong into this log");
    say(replayed.invalid_histograms, "histograms are invalid");
    say(replayed.unknown_refs, "samples belong to series that the log does not know");
    say(replayed.invalid_series, "series have labels that cannot be stored");
    say(replayed.renamed_refs, "references stand for two series, one after the other");
}
