//! Reading all blocks again and again, slowly, so that damage of the disk is known before somebody needs what it hit.
//!
//! Each block is read once a week, a few megabytes with every call of [`Db::maintain`](crate::Db::maintain) that has nothing
//! else to do. When each block was read, and what was wrong with it, is in a note in the data directory, which outlives a
//! restart; one that was being read is begun anew. A damaged block is told and stays: it serves what can be read of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fk_block::{Block, Scrub, Ulid};
use fk_storage::StorageError;
use fk_vfs::Vfs;
use serde::{Deserialize, Serialize};

use crate::maintain::Now;

/// How long after a block was written or read it is read again, ms.
const INTERVAL_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Bytes read in a second.
const BYTES_PER_S: u64 = 10 << 20;

/// Bytes read in one call.
const STEP_BYTES_MAX: u64 = 20 << 20;

/// A reading that has failed for another reason than damage is tried again after this, ms.
const RETRY_MS: i64 = 60 * 60 * 1000;

/// Name of the note.
const NOTE: &str = "firekeeper_scrub.json";

/// Larger notes are not read: a hundred thousand blocks have less.
const NOTE_BYTES_MAX: u64 = 16 << 20;

/// What the last reading of a block came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scrubbed {
    /// When it ended, ms since 1970.
    pub checked_ms: i64,
    /// What is damaged: a line for each file; empty for a sound block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

/// Counters.
#[derive(Debug, Default)]
pub struct ScrubMetrics {
    /// `firekeeper_storage_scrubbed_blocks_total`
    pub blocks: AtomicU64,
    /// `firekeeper_storage_scrubbed_bytes_total`
    pub bytes: AtomicU64,
    /// `firekeeper_storage_scrubs_failed_total`: for another reason than damage.
    pub failed: AtomicU64,
}

/// What is known of all blocks, and the one that is being read.
#[derive(Debug)]
pub(crate) struct Scrubs {
    known: BTreeMap<Ulid, Scrubbed>,
    running: Option<Scrub>,
    /// The steady time up to which bytes have been read at the pace.
    paid_ms: Option<i64>,
    not_before_ms: i64,
}

impl Scrubs {
    /// With what the note in `data` says; without one, or with one that cannot be read, nothing is known.
    pub fn load(vfs: &dyn Vfs, data: &Path) -> Scrubs {
        let known = match fk_vfs::read_file(vfs, &data.join(NOTE), NOTE_BYTES_MAX) {
            Err(e) if e.is_not_found() => BTreeMap::new(),
            Err(e) => {
                log::warn!("{e}");
                BTreeMap::new()
            }
            Ok(bytes) => parse(&bytes).unwrap_or_else(|| {
                log::warn!("{NOTE} is damaged: all blocks are read anew");
                BTreeMap::new()
            }),
        };
        Scrubs { known, running: None, paid_ms: None, not_before_ms: i64::MIN }
    }

    /// What is known of the blocks that were read.
    pub fn known(&self) -> &BTreeMap<Ulid, Scrubbed> {
        &self.known
    }

    /// Reads on at the pace. Returns what was found wrong with a block that is through.
    pub fn step(
        &mut self,
        vfs: &Arc<dyn Vfs>,
        data: &Path,
        blocks: &[Block],
        metrics: &ScrubMetrics,
        now: Now,
    ) -> Result<(), StorageError> {
        let since_ms =
            now.steady_ms.saturating_sub(self.paid_ms.replace(now.steady_ms).unwrap_or(now.steady_ms)).max(0);
        if now.steady_ms < self.not_before_ms {
            return Ok(());
        }
        if self.running.as_ref().is_some_and(|scrub| blocks.iter().all(|block| block.ulid() != scrub.ulid())) {
            self.running = None;
        }
        if self.running.is_none() {
            let due = blocks.iter().filter(|block| self.is_due(block.ulid(), now.wall_ms));
            let Some(block) = due.min_by_key(|block| self.read_ms(block.ulid())) else { return Ok(()) };
            self.running = Some(Scrub::new(Arc::clone(vfs), block).inspect_err(|_| self.fail(metrics, now))?);
        }
        let Some(scrub) = &mut self.running else { return Ok(()) };
        let budget = (since_ms as u64).saturating_mul(BYTES_PER_S) / 1000;
        let before = scrub.bytes();
        let result = scrub.step(budget.min(STEP_BYTES_MAX));
        metrics.bytes.fetch_add(scrub.bytes() - before, Ordering::Relaxed);
        match result {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.finish(vfs, data, blocks, now);
                metrics.blocks.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(e) => {
                self.fail(metrics, now);
                Err(e)
            }
        }
    }

    fn fail(&mut self, metrics: &ScrubMetrics, now: Now) {
        metrics.failed.fetch_add(1, Ordering::Relaxed);
        self.running = None;
        self.not_before_ms = now.steady_ms.saturating_add(RETRY_MS);
    }

    /// When the block was last known to be sound or damaged: when it was read, or written.
    fn read_ms(&self, block: Ulid) -> i64 {
        let written_ms = i64::try_from(block.time_ms()).unwrap_or(i64::MAX);
        self.known.get(&block).map_or(written_ms, |known| known.checked_ms)
    }

    /// A time in the future is that of a wrong clock.
    fn is_due(&self, block: Ulid, wall_ms: i64) -> bool {
        let read_ms = self.read_ms(block);
        wall_ms.saturating_sub(read_ms) >= INTERVAL_MS || read_ms.saturating_sub(wall_ms) >= INTERVAL_MS
    }

    fn finish(&mut self, vfs: &Arc<dyn Vfs>, data: &Path, blocks: &[Block], now: Now) {
        let Some(scrub) = self.running.take() else { return };
        let ulid = scrub.ulid();
        let damage: Vec<String> = scrub.into_damage().iter().map(StorageError::to_string).collect();
        let before = self.known.get(&ulid).map(|known| known.damage.clone()).unwrap_or_default();
        for line in damage.iter().filter(|line| !before.contains(line)) {
            log::error!("block {ulid} is damaged: {line}");
        }
        self.known.insert(ulid, Scrubbed { checked_ms: now.wall_ms, damage });
        self.known.retain(|known, _| blocks.iter().any(|block| block.ulid() == *known));
        let names: BTreeMap<String, &Scrubbed> =
            self.known.iter().map(|(ulid, known)| (ulid.to_string(), known)).collect();
        let note = serde_json::to_vec(&names).unwrap_or_default();
        if let Err(e) = fk_vfs::write_file_atomic(&**vfs, &data.join(NOTE), &note) {
            log::warn!("what was read of the blocks cannot be noted: {e}");
        }
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<Ulid, Scrubbed>> {
    let names: BTreeMap<String, Scrubbed> = serde_json::from_slice(bytes).ok()?;
    names.into_iter().map(|(name, known)| Some((name.parse().ok()?, known))).collect()
}
