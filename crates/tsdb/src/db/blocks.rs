//! The blocks of a data directory: finding, opening, removing them, and moving damaged ones out of the way.
//!
//! A block whose successor is there (which names it as a parent) or that says of itself that it is empty is not opened for
//! readers and is removed. One that is damaged in its structure is looked at twice; then it goes to `quarantine/`, a
//! directory that neither server takes for data, with a note of what is wrong. What the disk fails to read today stays
//! where it is: it may be readable tomorrow.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_block::index::INDEX_FILE;
use fk_block::meta::META_FILE;
use fk_block::{Block, BlockMeta, Ulid, dir as block_dir};
use fk_storage::StorageError;
use fk_vfs::{self as vfs, Vfs};

use crate::compact::plan;
use crate::maintain::Quarantined;
use crate::retention::FUTURE_MS_MAX;

/// Where damaged blocks go, within the data directory.
pub const QUARANTINE_DIR: &str = "quarantine";

/// Ending of the note beside a block in quarantine.
const NOTE_SUFFIX: &str = ".json";

/// Larger notes are not read.
const NOTE_BYTES_MAX: u64 = 1 << 20;

/// Blocks of one name that can be in quarantine.
const SAME_NAME_MAX: usize = 100;

/// A block is damaged if it was found so this many times.
const SIGHTINGS: u32 = 2;

/// Blocks that were found damaged, and how often.
pub(crate) type Suspects = HashMap<Ulid, u32>;

/// What a look at the directory found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Open blocks for readers, ascending by first time.
    pub blocks: Vec<Block>,
    /// Directories of blocks that are not needed any more.
    pub superseded: Vec<(Ulid, PathBuf)>,
    /// What was moved out of the way.
    pub quarantined: Vec<Quarantined>,
    /// Blocks that could not be opened this time.
    pub failed: Vec<(PathBuf, StorageError)>,
}

/// Looks through the directory. Blocks of `known` are taken from there; those in `doomed` are passed over. At the start (`patient`
/// is false) a damaged block is looked at twice at once, later in two calls: it may be one that is being copied.
pub(crate) fn find(
    vfs: &Arc<dyn Vfs>,
    data: &Path,
    known: &[Block],
    doomed: &BTreeSet<Ulid>,
    suspects: &mut Suspects,
    patient: bool,
) -> Result<Found, StorageError> {
    let mut found = Found::default();
    let mut damaged: Vec<(Ulid, PathBuf, StorageError)> = Vec::new();
    let mut dirs: HashMap<Ulid, PathBuf> = HashMap::new();
    for (ulid, dir) in block_dir::list(&**vfs, data)?.blocks {
        if doomed.contains(&ulid) {
            continue;
        }
        dirs.insert(ulid, dir.clone());
        if let Some(block) = known.iter().find(|block| block.dir() == dir) {
            found.blocks.push(block.clone());
            continue;
        }
        match open(vfs, &dir) {
            Ok(block) => {
                suspects.remove(&ulid);
                found.blocks.push(block);
            }
            Err(Trouble::Damaged(e)) => {
                let sightings = suspects.entry(ulid).or_default();
                *sightings += 1;
                if !patient && matches!(open(vfs, &dir), Err(Trouble::Damaged(_))) {
                    *sightings += 1;
                }
                match *sightings >= SIGHTINGS {
                    true => damaged.push((ulid, dir, e)),
                    false => found.failed.push((dir, e)),
                }
            }
            Err(Trouble::NoBlock) => log::warn!("{}: no {META_FILE}, so this is no block", dir.display()),
            Err(Trouble::Other(e)) => found.failed.push((dir, e)),
        }
    }
    suspects.retain(|ulid, _| dirs.contains_key(ulid));
    drop_copies(&mut found.blocks);

    let parents: BTreeSet<Ulid> = found
        .blocks
        .iter()
        .flat_map(|b| b.meta().compaction.parents.iter().map(|p| p.ulid).collect::<Vec<_>>())
        .collect();
    let is_superseded = |block: &Block| parents.contains(&block.ulid()) || block.meta().compaction.deletable;
    let (old, blocks): (Vec<_>, Vec<_>) = std::mem::take(&mut found.blocks).into_iter().partition(is_superseded);
    found.blocks = blocks;
    found.superseded.extend(old.iter().map(|block| (block.ulid(), block.dir().to_owned())));
    for (ulid, dir, error) in damaged {
        if parents.contains(&ulid) {
            log::warn!("block {ulid} is damaged, and has been replaced by a compacted one: {error}");
            found.superseded.push((ulid, dir));
            continue;
        }
        match quarantine(&**vfs, data, ulid, &dir, &error) {
            Ok(quarantined) => {
                suspects.remove(&ulid);
                found.quarantined.push(quarantined);
            }
            Err(e) => {
                log::error!("block {ulid} is damaged ({error}) and cannot be moved out of the way: {e}");
                found.failed.push((dir, error));
            }
        }
    }
    found.blocks.sort_by_key(|block| (block.times(), block.ulid()));
    Ok(found)
}

/// Of blocks with the same name in their `meta.json` the one stays whose directory has that name.
fn drop_copies(blocks: &mut Vec<Block>) {
    let is_named_so = |block: &Block| block.dir().file_name().is_some_and(|n| *n == *block.ulid().to_string());
    let proper: BTreeSet<Ulid> = blocks.iter().filter(|b| is_named_so(b)).map(|b| b.ulid()).collect();
    let mut seen = BTreeSet::new();
    blocks.retain(|block| {
        let stays = is_named_so(block) || (!proper.contains(&block.ulid()) && seen.insert(block.ulid()));
        if !stays {
            log::warn!("{}: a copy of block {}; it is not read", block.dir().display(), block.ulid());
        }
        stays
    });
}

/// Why a directory could not be opened as a block.
enum Trouble {
    /// Its files are not such as a block has.
    Damaged(StorageError),
    /// There is no `meta.json`: somebody is still copying, or it is something else.
    NoBlock,
    /// Nothing is known about the block: the disk, memory, too many open files.
    Other(StorageError),
}

fn open(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<Block, Trouble> {
    let exists = |name: &str| match vfs.metadata(&dir.join(name)) {
        Ok(metadata) => Ok(metadata.is_some()),
        Err(e) => Err(Trouble::Other(e.into())),
    };
    if !exists(META_FILE)? {
        return Err(Trouble::NoBlock);
    }
    for name in [INDEX_FILE, "chunks"] {
        if !exists(name)? {
            let path = dir.join(name).display().to_string();
            return Err(Trouble::Damaged(StorageError::Corrupt { path, offset: 0, reason: "missing".to_owned() }));
        }
    }
    let trouble = |e| match e {
        StorageError::Corrupt { .. } => Trouble::Damaged(e),
        other => Trouble::Other(other),
    };
    block_dir::repair_index_version(&**vfs, dir).map_err(trouble)?;
    Block::open(Arc::clone(vfs), dir).map_err(trouble)
}

/// Moves a damaged block out of the way, with a note of what is wrong.
pub(crate) fn quarantine(
    vfs: &dyn Vfs,
    data: &Path,
    ulid: Ulid,
    dir: &Path,
    error: &StorageError,
) -> Result<Quarantined, StorageError> {
    let meta = BlockMeta::read(vfs, dir).ok();
    let parent = data.join(QUARANTINE_DIR);
    vfs::create_dir_all(vfs, &parent)?;
    let mut name = ulid.to_string();
    for i in 1..=SAME_NAME_MAX {
        if vfs.metadata(&parent.join(&name))?.is_none() {
            break;
        }
        name = format!("{ulid}.{i}");
    }
    let to = parent.join(&name);
    vfs.rename(dir, &to)?;
    vfs.sync_dir(&parent)?;
    vfs.sync_dir(data)?;
    let quarantined = Quarantined {
        block: ulid.to_string(),
        path: to,
        mint_ms: meta.as_ref().map(|meta| meta.min_time),
        maxt_ms: meta.as_ref().map(|meta| meta.max_time),
        reason: error.to_string(),
    };
    log::error!("block {ulid} is damaged and is now {}: {error}", quarantined.path.display());
    let note = serde_json::json!({
        "block": quarantined.block,
        "minTime": quarantined.mint_ms,
        "maxTime": quarantined.maxt_ms,
        "reason": quarantined.reason,
    });
    if let Err(e) = vfs::write_file_atomic(vfs, &parent.join(name + NOTE_SUFFIX), note.to_string().as_bytes()) {
        log::warn!("block {ulid}: the reason of its quarantine is not noted: {e}");
    }
    Ok(quarantined)
}

/// What earlier runs have put into quarantine. What cannot be read is left out.
pub(crate) fn read_quarantine(vfs: &dyn Vfs, data: &Path) -> Vec<Quarantined> {
    let parent = data.join(QUARANTINE_DIR);
    let entries = match vfs.read_dir(&parent) {
        Ok(entries) => entries,
        Err(e) if e.is_not_found() => return Vec::new(),
        Err(e) => {
            log::warn!("quarantine: {e}");
            return Vec::new();
        }
    };
    let is_block = |name: &str| name.split('.').next().is_some_and(|stem| stem.parse::<Ulid>().is_ok());
    let blocks = entries.into_iter().filter(|entry| entry.is_dir && is_block(&entry.name));
    let read = |entry: vfs::DirEntry| {
        let path = parent.join(&entry.name);
        let note = vfs::read_file(vfs, &parent.join(format!("{}{NOTE_SUFFIX}", entry.name)), NOTE_BYTES_MAX).ok();
        let note: serde_json::Value = note.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let meta = BlockMeta::read(vfs, &path).ok();
        Quarantined {
            block: entry.name.split('.').next().unwrap_or_default().to_owned(),
            path,
            mint_ms: note["minTime"].as_i64().or(meta.as_ref().map(|meta| meta.min_time)),
            maxt_ms: note["maxTime"].as_i64().or(meta.as_ref().map(|meta| meta.max_time)),
            reason: note["reason"].as_str().unwrap_or("the reason was not noted").to_owned(),
        }
    };
    blocks.map(read).collect()
}

/// Up to when the in-order samples of the head are in blocks, ms: the end of the newest block that has all series.
/// `i64::MIN` without one. A block from the future says nothing about the head.
pub(crate) fn head_mint(blocks: &[Block], now_ms: i64) -> i64 {
    let horizon = now_ms.saturating_add(FUTURE_MS_MAX);
    let counts = |block: &&Block| {
        let meta = block.meta();
        !meta.compaction.from_out_of_order() && !plan::is_partial(&meta.compaction) && meta.max_time <= horizon
    };
    blocks.iter().filter(counts).map(|block| block.times().1).max().unwrap_or(i64::MIN)
}

/// Removes what interrupted work has left in the directory. The caller holds the lock.
pub(crate) fn remove_leftovers(vfs: &dyn Vfs, data: &Path) -> Result<(), StorageError> {
    for dir in block_dir::list(vfs, data)?.temporary {
        log::info!("removing {}, left by interrupted work", dir.display());
        if let Err(e) = vfs::remove_dir_all(vfs, &dir) {
            log::error!("{e}");
        }
    }
    Ok(())
}
