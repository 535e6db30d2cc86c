//! Reads the whole log: the newest checkpoint, then the segments after it.
//!
//! Damage costs what it covers and is reported, never the rest of the log: later records of the segment and later
//! segments are read (Prometheus drops them). What a crash leaves at the end of the last segment is no damage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ahead;
use super::compress::Decompressor;
use super::dir::{Listing, checkpoint_path, segment_path};
use super::record::Record;
use super::scan::{self, Item, Reason, Span};
use fk_vfs::{Vfs, VfsError};

/// So many damages are listed one by one; more are only counted.
pub const DAMAGES_MAX: usize = 1000;

/// A log of so many bytes is read in a few milliseconds.
const SMALL_BYTES: u64 = 1 << 20;

/// Where a record of the log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment.
    pub segment: SegmentId,
    /// Offset in the segment, in bytes.
    pub offset: u64,
}

/// A segment of the log or of a checkpoint. Ascending in the order of reading, if only one checkpoint is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentId {
    /// A segment of a checkpoint.
    Checkpoint {
        /// The checkpoint's number: that of the last segment it stands for.
        checkpoint: u32,
        /// The number within the checkpoint, from 0.
        segment: u32,
    },
    /// A segment of the log itself.
    Log(u32),
}

impl SegmentId {
    /// Its file in the log at `dir`.
    pub fn path(&self, dir: &Path) -> PathBuf {
        match *self {
            SegmentId::Checkpoint { checkpoint, segment } => segment_path(&checkpoint_path(dir, checkpoint), segment),
            SegmentId::Log(segment) => segment_path(dir, segment),
        }
    }
}

/// Damage that was found in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The segment.
    pub segment: SegmentId,
    /// Where, how much and why.
    pub span: Span,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Span { offset, bytes, reason } = self.span;
        write!(f, "{}: {reason} at offset {offset}, {bytes} bytes skipped", self.path.display())
    }
}

/// Segments that should be there and are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First one missing.
    pub first: u32,
    /// Last one missing.
    pub last: u32,
}

/// What a replay found.
#[derive(Clone, Debug, Default)]
pub struct ReplayReport {
    /// The checkpoint that was read.
    pub checkpoint: Option<u32>,
    /// The segments of the log that were read, not those of the checkpoint.
    pub segments: Vec<u32>,
    /// Records handed on.
    pub records: u64,
    /// Bytes of all segments that were read.
    pub bytes: u64,
    /// Records of kinds that are not supported, by kind (see [`super::record::kind`]).
    pub unsupported: BTreeMap<u8, u64>,
    /// Damage, in the order of the log; at most [`DAMAGES_MAX`].
    pub damages: Vec<Damage>,
    /// Damages beyond those listed.
    pub damages_more: u64,
    /// What a crash left at the end: the record that was being written. Not damage.
    pub torn_tail: Option<Damage>,
    /// Missing segments.
    pub gaps: Vec<Gap>,
    /// Every segment with damage, also where it is not listed.
    pub damaged: BTreeSet<SegmentId>,
}

impl ReplayReport {
    /// Whether everything that was logged was read, apart from what a crash cut off.
    pub fn is_clean(&self) -> bool {
        self.damages.is_empty() && self.gaps.is_empty()
    }

    /// Bytes that were skipped because of damage, of the damages that are listed.
    pub fn bytes_skipped(&self) -> u64 {
        self.damages.iter().map(|d| d.span.bytes).sum()
    }

    fn damage(&mut self, damage: Damage) {
        log::warn!("write-ahead log: {damage}");
        self.damaged.insert(damage.segment);
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(damage);
        } else {
            self.damages_more += 1;
        }
    }
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// A directory or a segment could not be read at all.
    #[error(transparent)]
    Io(#[from] VfsError),
    /// The receiver of the records stopped it.
    #[error("{0}")]
    Stopped(E),
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the newest checkpoint.
    #[default]
    Checkpoint,
    /// In a segment of the log, at an offset between two records. What is before is known from elsewhere.
    At {
        /// The segment.
        segment: u32,
        /// Offset in it, in bytes.
        offset: u64,
    },
}

/// Reads the log at `dir` and hands every record to `on_record`, in the order they were logged. Changes nothing on disk;
/// see [`super::repair`]. The files are read by another thread, at most a few MiB ahead.
pub fn replay<E>(
    vfs: &dyn Vfs,
    dir: &Path,
    on_record: &mut dyn FnMut(Position, Record<'_>) -> Result<(), E>,
) -> Result<ReplayReport, ReplayError<E>> {
    replay_from(vfs, dir, Start::Checkpoint, on_record)
}

/// As [`replay`], from `start` on.
pub fn replay_from<E>(
    vfs: &dyn Vfs,
    dir: &Path,
    start: Start,
    on_record: &mut dyn FnMut(Position, Record<'_>) -> Result<(), E>,
) -> Result<ReplayReport, ReplayError<E>> {
    ahead::replay(vfs, dir, start, on_record)
}

/// What takes the records of a walk: where one is, its bytes, what they say.
pub(crate) type Sink<'a, E> = dyn FnMut(Position, &[u8], Record<'_>) -> Result<(), E> + 'a;

/// Reads the log in one thread, up to and including segment `last` if one is given.
/// Whether a log has so few bytes that more threads would not make its replay shorter. Not being able to tell is no error:
/// the replay will say what is wrong.
pub fn is_small(vfs: &dyn Vfs, dir: &Path, start: Start) -> bool {
    let mut left = SMALL_BYTES;
    let mut fits = |dir: &Path, from: u32| -> Result<bool, VfsError> {
        for segment in Listing::read(vfs, dir)?.segments.into_iter().filter(|segment| *segment >= from) {
            let bytes = vfs.metadata(&segment_path(dir, segment))?.map_or(0, |metadata| metadata.len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return Ok(false),
            }
        }
        Ok(true)
    };
    let first = if let Start::At { segment, .. } = start { segment } else { 0 };
    let checkpoints = match start {
        Start::Checkpoint => Listing::read(vfs, dir).map(|listing| listing.checkpoints),
        Start::At { .. } => Ok(Vec::new()),
    };
    let Ok(checkpoints) = checkpoints else { return false };
    let mut checkpoints = checkpoints.into_iter().map(|number| checkpoint_path(dir, number));
    checkpoints.all(|dir| fits(&dir, 0).unwrap_or(false)) && fits(dir, first).unwrap_or(false)
}

pub(crate) fn walk<E>(
    vfs: &dyn Vfs,
    dir: &Path,
    start: Start,
    last: Option<u32>,
    sink: &mut Sink<'_, E>,
) -> Result<ReplayReport, ReplayError<E>> {
    let listing = Listing::read(vfs, dir)?;
    let mut replay = Replay { vfs, dir, report: ReplayReport::default(), decompressor: Decompressor::default() };

    // The newest checkpoint has all that older ones have. An empty one is what is left of an accident, and then an older
    // one with the segments after it is better than nothing.
    let mut segments_after = None;
    let checkpoints = if start == Start::Checkpoint { &listing.checkpoints[..] } else { &[] };
    for &checkpoint in checkpoints.iter().rev() {
        let path = checkpoint_path(dir, checkpoint);
        let inner = Listing::read(vfs, &path)?.segments;
        if inner.is_empty() {
            let span = Span { offset: 0, bytes: 0, reason: Reason::EmptyCheckpoint };
            let segment = SegmentId::Checkpoint { checkpoint, segment: 0 };
            log::warn!("write-ahead log: {}: {}", path.display(), span.reason);
            replay.report.damages.push(Damage { path, segment, span });
            segments_after = segments_after.or(Some(checkpoint));
            continue;
        }
        for segment in inner {
            let id = SegmentId::Checkpoint { checkpoint, segment };
            if let Some(tail) = replay.segment(id, 0, sink)? {
                replay.report.damage(tail);
            }
        }
        replay.report.checkpoint = Some(checkpoint);
        segments_after = Some(checkpoint);
        break;
    }

    let after = replay.report.checkpoint;
    let (first, first_offset) = match start {
        Start::Checkpoint => (None, 0),
        Start::At { segment, offset } => (Some(segment), offset),
    };
    let is_wanted = |s: &u32| {
        after.is_none_or(|c| *s > c) && first.is_none_or(|first| *s >= first) && last.is_none_or(|last| *s <= last)
    };
    let segments: Vec<u32> = listing.segments.into_iter().filter(is_wanted).collect();
    let expected = segments_after.map(|c| c.saturating_add(1)).or(first).or(segments.first().copied());
    let mut expected = expected.unwrap_or(0);
    // Damage at the end of a segment that has only empty ones after it is the torn end of the log.
    let mut tail: Option<Damage> = None;
    for segment in segments {
        if segment > expected {
            let gap = Gap { first: expected, last: segment - 1 };
            log::warn!("write-ahead log: segments {} to {} are missing", gap.first, gap.last);
            replay.report.gaps.push(gap);
        }
        expected = segment.saturating_add(1);
        let bytes = replay.report.bytes;
        let offset = if Some(segment) == first { first_offset } else { 0 };
        let found = replay.segment(SegmentId::Log(segment), offset, sink)?;
        if replay.report.bytes > bytes
            && let Some(earlier) = tail.take()
        {
            replay.report.damage(earlier);
        }
        tail = tail.or(found);
        replay.report.segments.push(segment);
    }
    match tail {
        Some(tail) if tail.span.reason != Reason::Unreadable => {
            log::info!(
                "write-ahead log: {}: the last record is torn at offset {}",
                tail.path.display(),
                tail.span.offset
            );
            replay.report.torn_tail = Some(tail);
        }
        Some(unreadable) => replay.report.damage(unreadable),
        None => {}
    }
    Ok(replay.report)
}

struct Replay<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    report: ReplayReport,
    decompressor: Decompressor,
}

impl Replay<'_> {
    /// Reads one segment from `start` on. Returns what could not be used at its end.
    fn segment<E>(
        &mut self,
        segment: SegmentId,
        start: u64,
        sink: &mut Sink<'_, E>,
    ) -> Result<Option<Damage>, ReplayError<E>> {
        let path = segment.path(self.dir);
        let file = self.vfs.open(&path)?;
        self.report.bytes += file.len()?.saturating_sub(start);
        let tail = scan::scan_file_from(&*file, start, &mut |item| {
            let span = match item {
                Item::Damage(span) => span,
                Item::Record { offset, end, compression, payload } => {
                    match decode_with_bytes(&mut self.decompressor, compression, payload) {
                        Ok((bytes, record)) => {
                            self.report.records += 1;
                            if let Record::Unsupported { kind } = record {
                                *self.report.unsupported.entry(kind).or_default() += 1;
                            }
                            return sink(Position { segment, offset }, bytes, record).map_err(ReplayError::Stopped);
                        }
                        Err(reason) => Span { offset, bytes: end - offset, reason },
                    }
                }
            };
            self.report.damage(Damage { path: path.clone(), segment, span });
            Ok(())
        })?;
        Ok(tail.map(|span| Damage { path, segment, span }))
    }
}

/// Decompresses and decodes a record.
pub fn decode<'a>(
    decompressor: &'a mut Decompressor,
    compression: u8,
    payload: &'a [u8],
) -> Result<Record<'a>, Reason> {
    decode_with_bytes(decompressor, compression, payload).map(|(_, record)| record)
}

fn decode_with_bytes<'a>(
    decompressor: &'a mut Decompressor,
    compression: u8,
    payload: &'a [u8],
) -> Result<(&'a [u8], Record<'a>), Reason> {
    let bytes = decompressor.decompress(compression, payload).map_err(|_| Reason::NotDecompressed)?;
    Ok((bytes, Record::decode(bytes).map_err(|_| Reason::Malformed)?))
}
