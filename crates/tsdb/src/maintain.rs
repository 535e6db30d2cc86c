//! Maintenance of a data directory: what has to be done from time to time, and when.

/// The time, from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What the clock on the wall says, ms since 1970. It may jump.
    pub wall_ms: i64,
    /// Milliseconds of a clock that never jumps, such as the uptime of the process.
    pub steady_ms: i64,
}

/// What one call of [`Db::maintain`](crate::Db::maintain) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Blocks written from the head.
    pub head_blocks: usize,
    /// Compactions of blocks.
    pub compactions: usize,
    /// Blocks removed, because they were compacted or by retention.
    pub removed: usize,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// What a deletion deleted, or would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Series with at least one sample deleted, counted once per block and once for the head.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Blocks that are concerned, the head not counted.
    pub blocks: usize,
}

/// A damaged block that was moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name: an ULID.
    pub block: String,
    /// Where it is now.
    pub path: std::path::PathBuf,
    /// Time of its first sample, ms; with `maxt_ms` the range that queries miss, as far as its `meta.json` can be read.
    pub mint_ms: Option<i64>,
    /// Time behind its last sample, ms.
    pub maxt_ms: Option<i64>,
    /// What is wrong with it.
    pub reason: String,
}
