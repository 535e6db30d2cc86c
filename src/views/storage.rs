//! The data directory as the web server sees it.

use std::sync::Arc;

use chrono::Utc;
use fk_block::BlockMeta;
use fk_model::Matcher;
use fk_storage::{StorageError, TimeRange};
use fk_tsdb::Db;
use fk_tsdb::scrub::Scrubbed;
use fk_web::state::{Deleted, QuarantinedBlock, ScrubbedBlock, StorageAdmin, StorageHealth};

use crate::app::App;
use crate::slots::Slots;

/// Folder of the data directory where copies of it are made.
const SNAPSHOTS_DIR: &str = "snapshots";

/// Does what the administration routes ask for. Shutdown ends it as it ends maintenance.
pub(super) struct Admin {
    slots: Arc<Slots>,
}

impl Admin {
    pub(super) fn new(app: &App) -> Admin {
        Admin { slots: Arc::clone(&app.slots) }
    }

    fn db(&self) -> Result<Arc<Db>, StorageError> {
        self.slots.db.load_full().ok_or_else(|| StorageError::ReadOnly("the storage is not open yet".to_owned()))
    }
}

impl StorageAdmin for Admin {
    fn blocks(&self) -> Result<Vec<serde_json::Value>, StorageError> {
        let mut blocks = self.db()?.blocks();
        blocks.sort_by_key(|meta| (meta.min_time, meta.max_time));
        Ok(blocks.iter().map(|meta| shown(BlockMeta::clone(meta))).collect())
    }

    fn delete(&self, range: TimeRange, selectors: &[Vec<Matcher>], dry_run: bool) -> Result<Deleted, StorageError> {
        let deleted = self.db()?.delete(range, selectors, dry_run, &self.slots.maintenance)?;
        if !dry_run {
            log::info!(
                component = "tsdb", series = deleted.series, from_ms = range.mint, to_ms = range.maxt;
                "samples were deleted by request"
            );
        }
        Ok(Deleted { series: deleted.series, samples: deleted.samples, blocks: deleted.blocks as u64 })
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        let blocks = self.db()?.clean_tombstones(self.slots.now(), &self.slots.maintenance)?;
        log::info!(component = "tsdb", blocks = blocks; "blocks were written anew without deleted samples");
        Ok(())
    }

    fn snapshot(&self, with_head: bool) -> Result<String, StorageError> {
        let db = self.db()?;
        let name = format!("{}-{:016x}", Utc::now().format("%Y%m%dT%H%M%SZ"), rand::random::<u64>() >> 1);
        db.snapshot(&db.path().join(SNAPSHOTS_DIR).join(&name), with_head, self.slots.now(), &self.slots.maintenance)?;
        Ok(name)
    }

    fn health(&self) -> StorageHealth {
        health(&self.slots)
    }

    fn degraded(&self) -> Option<String> {
        self.slots.degraded.load().as_deref().cloned()
    }
}

/// `meta.json` as Prometheus shows it: without the sections of other programs.
fn shown(mut meta: BlockMeta) -> serde_json::Value {
    meta.others.clear();
    meta.stats.others.clear();
    meta.compaction.others.clear();
    serde_json::to_value(meta).unwrap_or_default()
}

/// What is wrong with the open storage.
pub(super) fn health(slots: &Slots) -> StorageHealth {
    let Some(db) = slots.db.load_full() else { return StorageHealth::default() };
    let shown = |block: fk_tsdb::Quarantined| QuarantinedBlock {
        ulid: block.block,
        path: block.path.display().to_string(),
        reason: block.reason,
        min_time: block.mint_ms,
        max_time: block.maxt_ms,
    };
    let checked = |(ulid, found): (String, Scrubbed)| ScrubbedBlock {
        ulid,
        checked_time: found.checked_ms,
        damage: found.damage,
    };
    StorageHealth {
        read_only: db.read_only(),
        scrubbed: db.scrubbed().into_iter().map(checked).collect(),
        free_bytes: db.disk_space().ok().map(|space| space.free_bytes),
        quarantined: db.quarantined().into_iter().map(shown).collect(),
        log_damages: db.replayed().log.damages.iter().map(|damage| damage.to_string()).collect(),
    }
}
