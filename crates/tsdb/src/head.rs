//! The head: all series of the running server with their recent samples, in memory.
//!
//! # Layout
//! The head is cut into 16 shards. A series' home is chosen by the values of its `job` and `instance` labels, so the
//! series of one target live side by side in the order in which the target first named them, and a scrape takes one
//! lock and streams through memory. Per series, with eight labels of which most are shared:
//!
//! | part | bytes |
//! |---|---|
//! | slot: newest sample, XOR writer, commit numbers ([`slot`]) | 64 |
//! | open chunk, in slabs; none while the value is constant ([`buffers`]) | 0–250 |
//! | completed chunks, 20 each; their bytes until they are in a file ([`arena`], [`spill`]) | by time |
//! | labels: schema id and value ids ([`symbols`]) | 36 + 16 |
//! | reference → place, labels → slot ([`refs`], [`shard`]) | 4 + 9…18 |
//! | metadata, if it is kept ([`metadata`]) | 0–28, and each text once |
//! | marks of the append at hand | 4 |
//! | postings: 2 per label, less for runs; 16 where a pair is unique ([`postings`]) | 16–30 |
//!
//! # Writing
//! An append checks the whole batch against the slots, hands it to the log, and only then changes the slots. Between
//! check and change it holds the *gates* of its shards (no other append gets in) but not their data locks, so readers
//! never wait for the disk. Cost: one reference lookup, two visits of a slot and the XOR writer per sample; all locks
//! are taken once per batch.
//!
//! # Reading
//! A select notes the number of the last commit, copies what it may see of each matching slot (40 bytes) in groups under
//! the shard's lock, and decodes later, series by series, from a copy of the chunk's bytes. Chunk bytes only ever grow
//! at the end, so "the first n samples" stays true however far the series has moved on.
//!
//! Invariant: a batch is visible as a whole or not at all. Its commit number is drawn while all its shards are locked
//! for writing; a reader that noted an older number takes the batch's samples away again.
//!
//! # Growing old
//! [`Head::spill`] moves completed chunks to files. [`Head::stream`] hands a range of the head to the writer of blocks, and
//! [`Head::truncate`] then drops what is in blocks: chunks, series without samples, strings that nobody uses. Both work in
//! small steps, shard by shard, while appends and queries go on.
//!
//! Lock order: symbols, then gates ascending, then shard data ascending, then references. Whoever waits for symbols holds
//! no shard's data; whoever waits for a gate holds no symbols, because an append looks at them with its gates held.

mod append;
mod arena;
mod buffers;
mod histograms;
pub(crate) mod image;
mod matching;
pub(crate) mod metadata;
mod ooo;
mod paged;
mod postings;
mod refs;
mod replay;
mod select;
mod shard;
mod slot;
mod spill;
pub(crate) mod stale;
mod stats;
mod stream;
mod symbols;
#[cfg(test)]
mod tests;
mod tombstones;
mod truncate;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use foldhash::fast::{FixedState, RandomState};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use fk_model::Labels;
use fk_storage::{SeriesRef, StorageError};

use crate::chunks_head::ChunkFiles;
use crate::db::options::OUT_OF_ORDER_CAP_DEFAULT;
use crate::metrics::DbMetrics;
use ooo::OooState;
use refs::{Place, Refs, SHARDS};
use shard::Shard;
use slot::CutRules;
use symbols::Symbols;

pub use append::{BATCH_SAMPLES_MAX, Log, LogEntry};
pub use ooo::{Frozen, OooReplayed, OooStream};
pub use replay::{SeriesReplay, Session};
pub use slot::{CHUNK_BYTES_MAX, chunk_end};
pub use spill::Spilled;
pub use stale::StaleSeries;
pub use stats::{HeadStats, HeadStatus, MemoryUse, NameCount};
pub use stream::HeadStream;
pub use tombstones::{DeletedFromHead, DeletionLogs};
pub use truncate::Truncated;

/// Most labels of one series.
pub const LABELS_MAX: usize = 1024;

/// Most bytes of names and values of one series together: a series must fit one record of the log.
pub const LABELS_BYTES_MAX: usize = 4 << 20;

/// How the head works.
#[derive(Clone, Copy, Debug)]
pub struct HeadOptions {
    /// Samples a chunk should have; it never gets more than twice as many. 8..=1000.
    pub samples_per_chunk: u16,
    /// No chunk crosses a multiple of this, ms; samples older than the newest one by more than half of it are out of
    /// bounds. The length of the smallest block.
    pub chunk_range_ms: i64,
    /// How far behind the newest sample an out-of-order sample may be, ms; 0: none is taken.
    pub out_of_order_window_ms: i64,
    /// Samples of an open out-of-order chunk, 1..=255.
    pub out_of_order_cap: u16,
    /// Whether chunks of floats are XOR2 chunks, which keep start timestamps; see [`Head::set_xor2`].
    pub xor2: bool,
    /// Whether chunks of histograms keep start timestamps.
    pub histogram_starts: bool,
    /// Whether the logs keep start timestamps.
    pub logged_starts: bool,
}

impl Default for HeadOptions {
    fn default() -> HeadOptions {
        HeadOptions {
            samples_per_chunk: 120,
            chunk_range_ms: 2 * 60 * 60 * 1000,
            out_of_order_window_ms: 0,
            out_of_order_cap: OUT_OF_ORDER_CAP_DEFAULT,
            xor2: false,
            histogram_starts: false,
            logged_starts: false,
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Head {
    shards: [Shard; SHARDS],
    symbols: RwLock<Symbols>,
    refs: RwLock<Refs>,
    /// The reference the next new series gets.
    next_ref: AtomicU64,
    /// Number of the last commit. Drawn while all shards of the batch are locked for writing.
    commits: AtomicU64,
    /// Times of the oldest and the newest sample; `i64::MAX` and `i64::MIN` while there is none.
    min_time: AtomicI64,
    max_time: AtomicI64,
    ooo: OooState,
    metadata: metadata::MetadataState,
    /// Older samples are in blocks, or have been dropped: they are not taken any more.
    min_valid_time: AtomicI64,
    /// The oldest time appended since a truncation began.
    min_time_appended: AtomicI64,
    /// Without the encoding of floats, which may change: see [`Head::rules`].
    fixed_rules: CutRules,
    xor2: AtomicBool,
    logged_starts: bool,
    /// Made from `seed`, so that an image can keep the hashes of labels.
    hasher: FixedState,
    seed: u64,
    /// Memory of appends, reused.
    scratch: Mutex<Vec<append::Scratch>>,
    metrics: DbMetrics,
    /// Where completed chunks go; without it they stay in memory.
    files: Option<ChunkFiles>,
    /// What truncations remember; held while one runs, or a spill.
    upkeep: Mutex<truncate::Upkeep>,
    /// Cloned by whoever keeps ids of strings, replaced when ids have been condemned.
    pin: Mutex<Arc<()>>,
    /// References that are no more, and the last segment of the log that may have them.
    expired: Mutex<HashMap<u64, u32>>,
}

impl Head {
    /// Without series, all in memory.
    pub fn new(options: HeadOptions) -> Head {
        Head::with_files(options, None)
    }

    /// Without series. Completed chunks go to `files`.
    pub fn with_files(options: HeadOptions, files: Option<ChunkFiles>) -> Head {
        // Different in every process, and not to be foreseen by who chooses labels.
        Head::with_seed(options, files, RandomState::default().hash_one(0_u8))
    }

    /// Without series; hashes of labels are those of this seed.
    fn with_seed(options: HeadOptions, files: Option<ChunkFiles>, seed: u64) -> Head {
        let rules = CutRules {
            samples: options.samples_per_chunk.clamp(8, 1000),
            range_ms: options.chunk_range_ms.max(1),
            xor2: options.xor2,
            histogram_starts: options.histogram_starts,
        };
        Head {
            shards: std::array::from_fn(|_| Shard::new(rules.range_ms)),
            symbols: RwLock::default(),
            refs: RwLock::default(),
            next_ref: AtomicU64::new(1),
            commits: AtomicU64::new(0),
            min_time: AtomicI64::new(i64::MAX),
            max_time: AtomicI64::new(i64::MIN),
            ooo: OooState::new(options.out_of_order_window_ms, usize::from(options.out_of_order_cap)),
            metadata: metadata::MetadataState::default(),
            min_valid_time: AtomicI64::new(i64::MIN),
            min_time_appended: AtomicI64::new(i64::MAX),
            fixed_rules: rules,
            xor2: AtomicBool::new(options.xor2),
            logged_starts: options.logged_starts,
            hasher: FixedState::with_seed(seed),
            seed,
            scratch: Mutex::default(),
            metrics: DbMetrics::default(),
            files,
            upkeep: Mutex::default(),
            pin: Mutex::default(),
            expired: Mutex::default(),
        }
    }

    /// How chunks are cut from now on.
    fn rules(&self) -> CutRules {
        CutRules { xor2: self.xor2.load(Ordering::Relaxed), ..self.fixed_rules }
    }

    /// Sets whether chunks of floats are XOR2 chunks. Counts from the next batch; open chunks of the other encoding end with
    /// the next sample of their series.
    pub fn set_xor2(&self, xor2: bool) {
        self.xor2.store(xor2, Ordering::Relaxed);
    }

    /// Samples before this time, ms, are neither appended nor replayed: they are in blocks. Only ever rises.
    pub fn set_min_valid_time(&self, t: i64) {
        self.min_valid_time.fetch_max(t, Ordering::AcqRel);
    }

    /// See [`Head::set_min_valid_time`]; `i64::MIN` at first.
    pub fn min_valid_time(&self) -> i64 {
        self.min_valid_time.load(Ordering::Acquire)
    }

    /// Whether there is a series with this reference.
    pub fn is_alive(&self, reference: SeriesRef) -> bool {
        self.refs.read().get(reference.0) != Place::NONE
    }

    /// The files of completed chunks.
    pub fn files(&self) -> Option<&ChunkFiles> {
        self.files.as_ref()
    }

    /// Keeps the ids of strings good until the result is dropped.
    fn pin(&self) -> Arc<()> {
        Arc::clone(&self.pin.lock())
    }

    /// Counters of this head.
    pub fn metrics(&self) -> &DbMetrics {
        &self.metrics
    }

    /// The reference of the series with these labels; makes it if there is none.
    pub fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        let (home, hash) = self.home(labels);
        let shard = &self.shards[home];
        {
            let symbols = self.symbols.read();
            let data = shard.data.read();
            if let Some(slot) = data.find(hash, labels, &symbols) {
                return Ok(SeriesRef(data.info.get(slot).reference));
            }
        }
        check_labels(labels)?;
        let full = || StorageError::ReadOnly("the head takes no more series".to_owned());
        let mut words = Vec::new();
        // Held until the series is there: ids that no series has may be condemned.
        let symbols = {
            let mut symbols = self.symbols.write();
            symbols.intern_labels(labels, &mut words).ok_or_else(full)?;
            RwLockWriteGuard::downgrade(symbols)
        };
        let mut data = shard.data.write();
        if let Some(slot) = data.find_words(hash, &words) {
            return Ok(SeriesRef(data.info.get(slot).reference));
        }
        let reference = self.next_ref.fetch_add(1, Ordering::Relaxed);
        let slot = data.create(hash, &words, symbols.schema(words[0]), reference).ok_or_else(full)?;
        self.refs.write().set(reference, Place::new(home, slot));
        self.metrics.series_created.fetch_add(1, Ordering::Relaxed);
        Ok(SeriesRef(reference))
    }

    /// The labels of a series; `None` if the reference is not known (any more).
    pub(crate) fn labels_of(&self, series: SeriesRef) -> Option<Labels> {
        let place = self.refs.read().get(series.0);
        if place == Place::NONE {
            return None;
        }
        // In this order everywhere: symbols before shards.
        let symbols = self.symbols.read();
        let data = self.shards[place.shard()].data.read();
        let known = data.info.get(place.slot()).reference == series.0;
        known.then(|| symbols.labels(data.words_of(place.slot())))
    }

    /// Home shard and hash of a label set.
    fn home(&self, labels: &Labels) -> (usize, u32) {
        let hash = self.hasher.hash_one(labels);
        let home = match (labels.get("instance"), labels.get("job")) {
            (None, None) => hash >> 32,
            target => self.hasher.hash_one(target),
        };
        (home as usize % SHARDS, hash as u32)
    }

    /// Times of the oldest and the newest sample, ms; `None` while there is none.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let (min, max) = (self.min_time.load(Ordering::Acquire), self.max_time.load(Ordering::Acquire));
        (min <= max).then_some((min, max))
    }
}

/// Prometheus refuses only the empty set and repeated names (which the type excludes); the limits keep a series within
/// one record of the log.
fn check_labels(labels: &Labels) -> Result<(), StorageError> {
    let invalid = |reason| Err(StorageError::InvalidLabels { labels: labels.clone(), reason });
    if labels.is_empty() {
        return invalid("empty label set");
    }
    if labels.len() > LABELS_MAX {
        return invalid("too many labels");
    }
    if labels.byte_len() > LABELS_BYTES_MAX {
        return invalid("labels too long");
    }
    if labels.iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
        return invalid("empty label name or value");
    }
    Ok(())
}
