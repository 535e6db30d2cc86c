//! A data directory that is only looked at: for tools, beside whoever works on it.
//!
//! No lock is taken and nothing is written. Whoever works on the directory may change it meanwhile: a block that vanishes
//! between listing and opening is left out, and of the log what is there counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_block::Block;
use fk_storage::StorageError;
use fk_vfs::Vfs;

use crate::compact::plan::is_partial;
use crate::db::{DbError, WAL_DIR, wbl};
use crate::head::{Head, HeadOptions};
use crate::read::Reader;
use crate::replay::{self, ReplayProgress};
use crate::view::Views;

/// The blocks of a data directory, ascending by time, as far as they can be opened. `told` hears of those that cannot, but for
/// those whose data is in another block.
pub fn open_blocks(
    vfs: &Arc<dyn Vfs>,
    path: &Path,
    told: &mut dyn FnMut(&Path, &StorageError),
) -> Result<Vec<Block>, StorageError> {
    let (mut blocks, mut damaged) = (Vec::new(), Vec::new());
    for (ulid, dir) in fk_block::dir::list(&**vfs, path)?.blocks {
        match Block::open(Arc::clone(vfs), &dir) {
            Ok(block) => blocks.push(block),
            Err(_) if vfs.metadata(&dir)?.is_none() => {}
            Err(error) => damaged.push((ulid, dir, error)),
        }
    }
    for (ulid, dir, error) in damaged {
        if !blocks.iter().any(|block: &Block| block.meta().compaction.parents.iter().any(|parent| parent.ulid == ulid))
        {
            told(&dir, &error);
        }
    }
    blocks.sort_by_key(|block| (block.times(), block.ulid()));
    Ok(blocks)
}

/// Blocks and logs of a data directory as one storage.
#[derive(Debug)]
pub struct ReadOnlyDb {
    head: Arc<Head>,
    views: Views<Block>,
    left_out: Vec<(PathBuf, StorageError)>,
}

impl ReadOnlyDb {
    /// Reads the log and opens the blocks. Blocks that cannot be opened are left out: see [`ReadOnlyDb::left_out`].
    /// `progress` is called whenever another segment is begun.
    pub fn open(vfs: Arc<dyn Vfs>, path: &Path, progress: &dyn Fn(ReplayProgress)) -> Result<ReadOnlyDb, DbError> {
        let mut left_out = Vec::new();
        let mut tell = |dir: &Path, error: &StorageError| left_out.push((dir.to_owned(), error.clone()));
        let blocks = open_blocks(&vfs, path, &mut tell).map_err(DbError::Blocks)?;
        // What is in blocks written from the head is still in the log for a while.
        let head_mint = blocks
            .iter()
            .filter(|block| {
                let origin = &block.meta().compaction;
                !origin.from_out_of_order() && !is_partial(origin)
            })
            .map(|block| block.times().1)
            .max()
            .unwrap_or(i64::MIN);
        let head = Head::new(HeadOptions::default());
        let wal_dir = path.join(WAL_DIR);
        if vfs.metadata(&wal_dir)?.is_some() {
            replay::read_only(&*vfs, &wal_dir, &head, progress)?;
        }
        wbl::read_only(&*vfs, path, &head)?;
        Ok(ReadOnlyDb { head: Arc::new(head), views: Views::new(head_mint, blocks.into()), left_out })
    }

    /// Blocks that cannot be opened, and why. What is in them is missing in answers.
    pub fn left_out(&self) -> &[(PathBuf, StorageError)] {
        &self.left_out
    }

    /// To ask for series and samples.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.head, self.views.pin())
    }
}
