//! Makes a damaged log whole again, so that Prometheus, which refuses what [`super::replay`] reads past, can open it too.
//!
//! Nothing that could still be of use is deleted: a damaged segment is replaced by one with its good records, and the
//! original stays beside it under a name that Prometheus ignores. Each step can be interrupted and done again.

use std::path::{Path, PathBuf};

use super::compress::Decompressor;
use super::dir::{DAMAGED_SUFFIX, Listing, REPAIR_SUFFIX, SALVAGE_SUFFIX, segment_number, segment_path};
use super::page::lay_out;
use super::record::Record;
use super::replay::{self, Position, ReplayError, ReplayReport, Start};
use super::scan::{self, Item, Reason, Span};
use fk_vfs::{self as vfs, Vfs, VfsError, VfsFile};

/// Missing segments are made up for by empty ones; a gap that is longer has another cause than a lost file.
const GAP_SEGMENTS_MAX: u32 = 1000;

/// How many originals of one segment can be kept.
const ORIGINALS_MAX: usize = 100;

/// Good records are written in pieces of about this size.
const WRITE_BYTES: usize = 1 << 20;

/// What was repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Segments that now have only their good records, and where their originals are.
    pub replaced: Vec<(PathBuf, PathBuf)>,
    /// The segment whose torn end was cut off, and its length now.
    pub cut: Option<(PathBuf, u64)>,
    /// Empty segments made where some were missing.
    pub filled: Vec<PathBuf>,
    /// What could not be repaired and why. We can go on with it, Prometheus could not.
    pub failed: Vec<(PathBuf, String)>,
}

/// Undoes what an interrupted repair left: ours (`N.salvage` is incomplete and goes), and that of Prometheus, which renames
/// the segment to `N.repair`, writes the good records to a new `N`, and does not start again if it was interrupted.
pub fn restore_leftovers(vfs: &dyn Vfs, dir: &Path) -> vfs::Result<()> {
    let mut directories = vec![dir.to_owned()];
    directories.extend(Listing::read(vfs, dir)?.checkpoints.iter().map(|c| super::dir::checkpoint_path(dir, *c)));
    for dir in directories {
        let segments = Listing::read(vfs, &dir)?.segments;
        let entries = match vfs.read_dir(&dir) {
            Err(e) if e.is_not_found() => continue,
            result => result?,
        };
        let mut changed = false;
        for entry in entries.iter().filter(|e| !e.is_dir) {
            let path = dir.join(&entry.name);
            let strip = |suffix| entry.name.strip_suffix(suffix).and_then(segment_number);
            if strip(SALVAGE_SUFFIX).is_some() {
                vfs.remove_file(&path)?;
                changed = true;
            } else if let Some(segment) = strip(REPAIR_SUFFIX) {
                // With the new segment whole, Prometheus would have removed the old one. Later segments were removed
                // before; if there are some again, the new one has been in use and must stay.
                let len = |path: &Path| Ok::<_, VfsError>(vfs.metadata(path)?.map(|m| m.len));
                let new = segment_path(&dir, segment);
                if segments.last().is_none_or(|last| *last <= segment) && len(&new)? < len(&path)? {
                    log::warn!(
                        "write-ahead log: {} goes back to its place after an interrupted repair",
                        path.display()
                    );
                    vfs.rename(&path, &new)?;
                    changed = true;
                }
            }
        }
        if changed {
            vfs.sync_dir(&dir)?;
        }
    }
    Ok(())
}

/// Repairs what a replay of the same directory reported. What cannot be repaired is listed and does not stop the rest.
pub fn repair(vfs: &dyn Vfs, dir: &Path, report: &ReplayReport) -> RepairReport {
    let mut repaired = RepairReport::default();
    for segment in &report.damaged {
        let path = segment.path(dir);
        match replace(vfs, &path) {
            Ok(original) => {
                log::warn!(
                    "write-ahead log: {} keeps its good records, original: {}",
                    path.display(),
                    original.display()
                );
                repaired.replaced.push((path, original));
            }
            Err(e) => repaired.fail(path, e.to_string()),
        }
    }
    if let Some(tail) = report.torn_tail.as_ref().filter(|tail| !report.damaged.contains(&tail.segment)) {
        match cut(vfs, &tail.path, tail.span.offset) {
            Ok(()) => repaired.cut = Some((tail.path.clone(), tail.span.offset)),
            Err(e) => repaired.fail(tail.path.clone(), e.to_string()),
        }
    }
    for gap in &report.gaps {
        if gap.last - gap.first >= GAP_SEGMENTS_MAX {
            let reason = format!("segments {} to {} are missing: too many to fill", gap.first, gap.last);
            repaired.fail(dir.to_owned(), reason);
            continue;
        }
        // From the end, so that what an interruption leaves is a shorter gap.
        for segment in (gap.first..=gap.last).rev() {
            let path = segment_path(dir, segment);
            match vfs.create(&path) {
                Ok(_) => repaired.filled.push(path),
                Err(e) => repaired.fail(path, e.to_string()),
            }
        }
    }
    if !repaired.filled.is_empty()
        && let Err(e) = vfs.sync_dir(dir)
    {
        repaired.fail(dir.to_owned(), e.to_string());
    }
    repaired
}

/// Start of a storage on the log at `dir`: [`restore_leftovers`], [`replay::replay`], [`repair`].
pub fn recover<E>(
    vfs: &dyn Vfs,
    dir: &Path,
    on_record: &mut dyn FnMut(Position, Record<'_>) -> Result<(), E>,
) -> Result<(ReplayReport, RepairReport), ReplayError<E>> {
    recover_from(vfs, dir, Start::Checkpoint, on_record)
}

/// As [`recover`], from `start` on. Damage before `start` is not looked for.
pub fn recover_from<E>(
    vfs: &dyn Vfs,
    dir: &Path,
    start: Start,
    on_record: &mut dyn FnMut(Position, Record<'_>) -> Result<(), E>,
) -> Result<(ReplayReport, RepairReport), ReplayError<E>> {
    restore_leftovers(vfs, dir)?;
    let report = replay::replay_from(vfs, dir, start, on_record)?;
    let repaired = repair(vfs, dir, &report);
    Ok((report, repaired))
}

impl RepairReport {
    fn fail(&mut self, path: PathBuf, reason: String) {
        log::error!("write-ahead log: {} cannot be repaired: {reason}", path.display());
        self.failed.push((path, reason));
    }
}

#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error(transparent)]
    Io(#[from] VfsError),
    #[error("a page cannot be read, which may pass")]
    Unreadable,
    #[error("there are {ORIGINALS_MAX} originals already")]
    Originals,
}

fn cut(vfs: &dyn Vfs, path: &Path, len: u64) -> vfs::Result<()> {
    let file = vfs.open_rw(path)?;
    file.truncate(len)?;
    file.sync_data()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Replaces a segment by one that has only its good records. Returns where the original is.
fn replace(vfs: &dyn Vfs, path: &Path) -> Result<PathBuf, RepairError> {
    let salvage = with_suffix(path, SALVAGE_SUFFIX);
    let out = vfs.create(&salvage)?;
    let written = copy_good_records(&*vfs.open(path)?, &*out).and_then(|()| Ok(out.sync_data()?));
    if let Err(e) = written {
        // Not to take the space that may be missing. If this fails too, the next start removes it.
        let _ = vfs.remove_file(&salvage);
        return Err(e);
    }
    let dir = vfs::parent(path);
    let original = keep_original(vfs, path)?;
    vfs.sync_dir(dir)?;
    vfs.rename(&salvage, path)?;
    vfs.sync_dir(dir)?;
    Ok(original)
}

fn keep_original(vfs: &dyn Vfs, path: &Path) -> Result<PathBuf, RepairError> {
    for i in 0..ORIGINALS_MAX {
        let suffix = if i == 0 { DAMAGED_SUFFIX.to_owned() } else { format!("{DAMAGED_SUFFIX}.{i}") };
        let original = with_suffix(path, &suffix);
        if vfs.metadata(&original)?.is_none() {
            vfs.hard_link(path, &original)?;
            return Ok(original);
        }
    }
    Err(RepairError::Originals)
}

fn copy_good_records(from: &dyn VfsFile, to: &dyn VfsFile) -> Result<(), RepairError> {
    let mut decompressor = Decompressor::default();
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    let (mut in_page, mut written) = (0, 0);
    let tail = scan::scan_file(from, &mut |item| {
        match item {
            Item::Damage(Span { reason: Reason::Unreadable, .. }) => return Err(RepairError::Unreadable),
            Item::Damage(_) => {}
            Item::Record { compression, payload, .. } => {
                if replay::decode(&mut decompressor, compression, payload).is_ok() {
                    (in_page, _) = lay_out(payload, compression, crc32c::crc32c(payload), in_page, &mut buffer);
                }
            }
        }
        if buffer.len() >= WRITE_BYTES {
            to.write_at(&buffer, written)?;
            written += buffer.len() as u64;
            buffer.clear();
        }
        Ok(())
    })?;
    if tail.is_some_and(|tail| tail.reason == Reason::Unreadable) {
        return Err(RepairError::Unreadable);
    }
    Ok(to.write_at(&buffer, written)?)
}
