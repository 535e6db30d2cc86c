//! Blocks from blocks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fk_block::{Block, BlockMeta, BlockSpec, BlockStream, MergeStream, SeriesStream, Ulid};
use fk_storage::{Control, StorageError};

use super::plan::{self, Plan, Reason, Rules};
use crate::db::{Db, blocks::quarantine};
use crate::maintain::{Now, REMOVAL_PAUSE_MS, Upkeep};
use crate::retention::FUTURE_MS_MAX;

/// How often a block has to fail a compaction before something is done about it.
const SIGHTINGS: u32 = 2;

impl Db {
    /// Compacts all blocks that are to be compacted. Returns how many compactions there were.
    pub fn compact_blocks(&self, now: Now, control: &Control) -> Result<usize, StorageError> {
        let mut upkeep = self.upkeep.lock();
        let mut done = 0;
        while self.compact_blocks_once(&mut upkeep, now, control)? {
            done += 1;
        }
        Ok(done)
    }

    /// Makes the next compaction of blocks, if there is one to be made.
    pub(crate) fn compact_blocks_once(
        &self,
        upkeep: &mut Upkeep,
        now: Now,
        control: &Control,
    ) -> Result<bool, StorageError> {
        let blocks = Arc::clone(&self.views.pin().blocks);
        let metas: Vec<Arc<BlockMeta>> = blocks.iter().map(|block| block.meta()).collect();
        // A block from the future would take those it overlaps along, out of the reach of retention.
        let horizon = now.wall_ms.saturating_add(FUTURE_MS_MAX);
        let mut candidates: Vec<&BlockMeta> =
            metas.iter().map(|meta| &**meta).filter(|meta| meta.max_time <= horizon).collect();
        if let Some(uploads) = &mut upkeep.uploads {
            candidates = uploads.compactable(&*self.options.vfs, candidates, now.steady_ms);
        }
        let ranges = self.options.block_ranges();
        let rules = Rules { ranges: &ranges, merge_overlapping: self.options.merge_overlapping };
        let Some(Plan { blocks: names, reason }) = rules.plan(&candidates) else { return Ok(false) };
        let sources: Vec<Block> =
            names.iter().filter_map(|name| blocks.iter().find(|block| block.ulid() == *name).cloned()).collect();
        if !self.has_room(upkeep, &sources)? {
            return Ok(false);
        }
        self.upkeep_metrics.triggered.fetch_add(1, Ordering::Relaxed);
        if reason == Reason::Overlap {
            self.upkeep_metrics.vertical.fetch_add(1, Ordering::Relaxed);
        }
        log::info!("compacting {} blocks ({reason:?}): {}", sources.len(), list(&names));
        let metas: Vec<Arc<BlockMeta>> = sources.iter().map(|block| block.meta()).collect();
        let (min_time, max_time, compaction) = plan::merged(&metas.iter().map(|meta| &**meta).collect::<Vec<_>>());
        let ulid = Ulid::generate(now.wall_ms.max(0) as u64);
        let spec = BlockSpec { ulid, min_time, max_time, compaction };
        match self.merge(&spec, &sources, control) {
            Ok(block) => {
                for name in &names {
                    upkeep.compaction_suspects.remove(name);
                }
                self.replace_blocks(upkeep, &sources, block, now);
                Ok(true)
            }
            Err(e) => {
                self.blame(upkeep, &sources, &e);
                Err(e)
            }
        }
    }

    /// Merges blocks into a new one; `None` if nothing is left of them.
    pub(crate) fn merge(
        &self,
        spec: &BlockSpec,
        sources: &[Block],
        control: &Control,
    ) -> Result<Option<Block>, StorageError> {
        let mut streams: Vec<Box<dyn SeriesStream>> = Vec::with_capacity(sources.len());
        for block in sources {
            streams.push(Box::new(BlockStream::new(block)?));
        }
        let mut merged = MergeStream::new(streams);
        self.write_block(spec, &mut merged, self.options.compaction_bytes_per_s, control)
    }

    /// Gives readers `new` instead of `old`, which is removed a while later.
    pub(crate) fn replace_blocks(&self, upkeep: &mut Upkeep, old: &[Block], new: Option<Block>, now: Now) {
        let is_old = |block: &Block| old.iter().any(|o| o.ulid() == block.ulid());
        let mut blocks: Vec<Block> = self.views.pin().blocks.iter().filter(|b| !is_old(b)).cloned().collect();
        blocks.extend(new);
        blocks.sort_by_key(|block| (block.times(), block.ulid()));
        self.views.publish_blocks(blocks.into());
        for block in old {
            upkeep.doom(block.ulid(), block.dir().to_owned(), now.steady_ms + REMOVAL_PAUSE_MS);
        }
    }

    /// Whether the disk has room for what the blocks become, with a reserve for everything else.
    fn has_room(&self, upkeep: &mut Upkeep, sources: &[Block]) -> Result<bool, StorageError> {
        let needed: u64 = sources.iter().map(|block| block.size_bytes()).sum();
        let space = self.space.look()?;
        let fits = space.has_room_for(needed);
        if !fits {
            self.upkeep_metrics.skipped.fetch_add(1, Ordering::Relaxed);
        }
        if fits == upkeep.short_of_space {
            upkeep.short_of_space = !fits;
            match fits {
                true => log::info!("there is room for compactions again"),
                false => {
                    log::warn!(
                        "no compaction of {needed} bytes: {} bytes are free, {} of them a reserve",
                        space.free_bytes,
                        space.soft_floor_bytes
                    )
                }
            }
        }
        Ok(fits)
    }

    /// Looks for whose fault a failed compaction is. A damaged block is left alone from its second failure on: it still
    /// serves what can be read of it, unless it cannot even be opened any more, and then it goes to quarantine.
    fn blame(&self, upkeep: &mut Upkeep, sources: &[Block], error: &StorageError) {
        let StorageError::Corrupt { path, .. } = error else { return };
        let is_in = |block: &&Block| Path::new(path).starts_with(block.dir());
        let guilty: Vec<&Block> = match sources.iter().find(is_in) {
            Some(block) => vec![block],
            None => sources.iter().collect(),
        };
        for block in guilty {
            let sightings = upkeep.compaction_suspects.entry(block.ulid()).or_default();
            *sightings += 1;
            if *sightings < SIGHTINGS {
                continue;
            }
            upkeep.compaction_suspects.remove(&block.ulid());
            if let Err(worse @ StorageError::Corrupt { .. }) = Block::open(Arc::clone(&self.options.vfs), block.dir()) {
                match quarantine(&*self.options.vfs, &self.path, block.ulid(), block.dir(), &worse) {
                    Ok(quarantined) => {
                        let kept =
                            self.views.pin().blocks.iter().filter(|b| b.ulid() != block.ulid()).cloned().collect();
                        self.views.publish_blocks(kept);
                        self.quarantined.lock().push(quarantined);
                    }
                    Err(e) => log::error!("block {} cannot be moved out of the way: {e}", block.ulid()),
                }
                continue;
            }
            log::error!("block {} cannot be compacted and is left as it is: {error}", block.ulid());
            if let Err(e) = block.set_compaction_failed() {
                log::error!("block {}: {e}", block.ulid());
            }
        }
    }
}

fn list(names: &[Ulid]) -> String {
    names.iter().map(Ulid::to_string).collect::<Vec<_>>().join(", ")
}
