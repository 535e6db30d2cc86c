//! What people ask for: deletions, snapshots, and space given back at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;

use fk_block::{Block, BlockMeta, BlockSpec, BlockWriter, Compaction, MergeStream, SeriesStream, Ulid};
use fk_model::Matcher;
use fk_storage::{Control, StorageError, TimeRange};
use fk_vfs::{self as vfs, Vfs};

use super::Db;
use crate::compact::pace::Throttle;
use crate::maintain::{Deletion, Now, Quarantined, Upkeep};

/// How often somebody who waits for maintenance looks whether he is still wanted.
const TURN: Duration = Duration::from_millis(100);

impl Db {
    /// What is known of the blocks that readers see, ascending by their first time.
    pub fn blocks(&self) -> Vec<Arc<BlockMeta>> {
        self.views.pin().blocks.iter().map(|block| block.meta()).collect()
    }

    /// The same blocks, open.
    pub fn open_blocks(&self) -> Arc<[Block]> {
        Arc::clone(&self.views.pin().blocks)
    }

    /// Bytes of the blocks that readers see (`prometheus_tsdb_storage_blocks_bytes`).
    pub fn blocks_size_bytes(&self) -> u64 {
        self.views.pin().blocks.iter().map(|block| block.size_bytes()).sum()
    }

    /// Blocks that were moved out of the way because they are damaged, also by earlier runs.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantined.lock().clone()
    }

    /// Waits until no maintenance runs; none begins while the guard is held.
    fn take_turn(&self, control: &Control) -> Result<MutexGuard<'_, Upkeep>, StorageError> {
        self.check_open()?;
        loop {
            if let Some(upkeep) = self.upkeep.try_lock_for(TURN) {
                return Ok(upkeep);
            }
            control.check()?;
        }
    }

    /// Deletes the samples in `range` of all series that one of the `selectors` accepts. Queries no longer see them when
    /// this returns, and they stay deleted after a power cut; compaction and [`Db::clean_tombstones`] give their space back.
    /// A dry run counts and changes nothing. Waits for a compaction under way.
    pub fn delete(
        &self,
        range: TimeRange,
        selectors: &[Vec<Matcher>],
        dry_run: bool,
        control: &Control,
    ) -> Result<Deletion, StorageError> {
        let _turn = self.take_turn(control)?;
        let mut deletion = Deletion::default();
        for block in self.views.pin().blocks.iter().filter(|block| block.overlaps(range)) {
            let mut is_concerned = false;
            for matchers in selectors {
                control.check()?;
                let deleted = block.delete(range, matchers, dry_run, control)?;
                deletion.series += deleted.series;
                deletion.samples += deleted.samples;
                is_concerned |= deleted.series > 0;
            }
            deletion.blocks += usize::from(is_concerned);
        }
        let head = self.delete_from_head(range, selectors, dry_run, control)?;
        deletion.series += head.series;
        deletion.samples += head.samples;
        Ok(deletion)
    }

    /// Writes the blocks that have deleted samples anew, without them. Returns how many were. If one fails, those before it
    /// are done.
    pub fn clean_tombstones(&self, now: Now, control: &Control) -> Result<usize, StorageError> {
        let mut upkeep = self.take_turn(control)?;
        let mut cleaned = 0;
        let began = std::time::Instant::now();
        let blocks = Arc::clone(&self.views.pin().blocks);
        for block in blocks.iter().filter(|block| !block.tombstones().is_empty()) {
            control.check()?;
            let meta = block.meta();
            let compaction = Compaction { parents: vec![meta.desc()], failed: false, ..meta.compaction.clone() };
            let ulid = Ulid::generate(now.wall_ms.max(0) as u64);
            let spec = BlockSpec { ulid, min_time: meta.min_time, max_time: meta.max_time, compaction };
            let old = std::slice::from_ref(block);
            let new = self.merge(&spec, old, control)?;
            self.replace_blocks(&mut upkeep, old, new, now);
            cleaned += 1;
        }
        self.upkeep_metrics.tombstone_cleanup.observe(began.elapsed().as_secs_f64());
        Ok(cleaned)
    }

    /// Makes a copy of all blocks in the directory `dir`, which is made and must neither be the data directory nor have the
    /// name of a block. Their files are hard links. With `with_head` the samples of the head become a block there, too.
    pub fn snapshot(&self, dir: &Path, with_head: bool, now: Now, control: &Control) -> Result<(), StorageError> {
        let invalid = |reason: &str| StorageError::Io { path: dir.display().to_string(), reason: reason.to_owned() };
        // Texts as in Prometheus:
        if dir == self.path {
            return Err(invalid("cannot snapshot into base directory"));
        }
        if dir.file_name().is_some_and(|name| name.to_string_lossy().parse::<Ulid>().is_ok()) {
            return Err(invalid("dir must not be a valid ULID"));
        }
        let _turn = self.take_turn(control)?;
        let vfs = &*self.options.vfs;
        vfs::create_dir_all(vfs, dir)?;
        for block in self.views.pin().blocks.iter() {
            control.check()?;
            link_dir(vfs, block.dir(), &dir.join(block.ulid().to_string()))?;
        }
        if with_head {
            self.snapshot_head(dir, now, control)?;
        }
        vfs.sync_dir(dir)?;
        Ok(())
    }

    fn snapshot_head(&self, dir: &Path, now: Now, control: &Control) -> Result<(), StorageError> {
        let head_mint = self.views.pin().head_mint;
        let mut range: Option<TimeRange> = None;
        let mut extend = |mint: i64, maxt: i64| {
            let known = range.unwrap_or(TimeRange { mint, maxt });
            range = Some(TimeRange { mint: known.mint.min(mint), maxt: known.maxt.max(maxt) });
        };
        let mut streams: Vec<Box<dyn SeriesStream>> = Vec::new();
        if let Some((mint, maxt)) = self.head.time_range().map(|(mint, maxt)| (mint.max(head_mint), maxt))
            && mint <= maxt
        {
            extend(mint, maxt);
            streams.push(Box::new(self.head.stream(TimeRange { mint, maxt })?));
        }
        // Frozen and left in the head: the next compaction freezes everything again.
        if let Some(compaction) = self.compact_out_of_order()? {
            let (mint, maxt) = (compaction.frozen.mint, compaction.frozen.maxt);
            extend(mint, maxt);
            streams.push(Box::new(compaction.stream(TimeRange { mint, maxt })));
        }
        let Some(TimeRange { mint, maxt }) = range else { return Ok(()) };
        let spec = crate::compact::new_block(mint, maxt.saturating_add(1), now, Compaction::default());
        let writer = BlockWriter {
            segment_bytes_max: self.options.chunk_segment_bytes,
            ..BlockWriter::new(&*self.options.vfs, dir)
        };
        let mut throttle = Throttle::new(0, control);
        writer.write(&spec, &mut MergeStream::new(streams), &mut |bytes| throttle.spent(bytes))?;
        Ok(())
    }
}

/// Links the files of a block to another directory, durably.
fn link_dir(vfs: &dyn Vfs, from: &Path, to: &Path) -> Result<(), StorageError> {
    vfs::create_dir_all(vfs, to)?;
    for entry in vfs.read_dir(from)? {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        match entry.is_dir {
            true => link_dir(vfs, &from, &to)?,
            false if entry.name.ends_with(".tmp") => {}
            false => vfs.hard_link(&from, &to)?,
        }
    }
    vfs.sync_dir(to)?;
    Ok(())
}
