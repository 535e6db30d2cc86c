//! How a data directory is opened ([`DbOptions`]) and what of it can change while it is open ([`TsdbConfig`]).
//!
//! Defaults, limits and repairs are those of Prometheus: what a flag may say is checked by [`DbOptions::check`], what is
//! merely odd is put right by [`DbOptions::settle`] and told as a warning.

use std::path::PathBuf;
use std::sync::Arc;

use fk_chunk::Encoding;
use fk_vfs::{OsVfs, Vfs};
use fk_wal::WalOptions;

use crate::maintain::Now;

/// Milliseconds of an hour and of a day.
const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The time range of the smallest block unless told otherwise, ms.
pub const MIN_BLOCK_MS_DEFAULT: i64 = 2 * HOUR_MS;

/// The largest time range that a block gets unless told otherwise, ms.
pub const MAX_BLOCK_MS_DEFAULT: i64 = 31 * DAY_MS;

/// How long samples are kept unless told otherwise, ms.
pub const RETENTION_MS_DEFAULT: i64 = 15 * DAY_MS;

/// The longest retention time: what is longer, or has overflowed, becomes this. 100 years of 365 days, ms.
pub const RETENTION_MS_MAX: i64 = 100 * 365 * DAY_MS;

/// Sizes a segment of the log may have.
pub const WAL_SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 10 << 20..=256 << 20;

/// Size of a chunk segment of a block unless told otherwise.
pub const CHUNK_SEGMENT_BYTES_DEFAULT: u64 = 512 << 20;
/// The least size of a chunk segment.
pub const CHUNK_SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Random delay of head compactions, in percent of the block range, unless told otherwise.
pub const COMPACTION_DELAY_PERCENT_DEFAULT: u32 = 10;

/// Samples of an open out-of-order chunk unless told otherwise.
pub const OUT_OF_ORDER_CAP_DEFAULT: u16 = 32;
/// Most samples of an open out-of-order chunk.
pub const OUT_OF_ORDER_CAP_MAX: u16 = 255;

/// How often the directory is looked at for new or vanished blocks, unless told otherwise, ms.
pub const RELOAD_INTERVAL_MS_DEFAULT: i64 = 60_000;
/// The directory is looked at no more often than this, ms.
pub const RELOAD_INTERVAL_MS_MIN: i64 = 1000;

/// Bytes per second that compactions of blocks write while samples come in.
pub const COMPACTION_BYTES_PER_S_DEFAULT: u64 = 32 << 20;

/// How to open a data directory.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// The directory; made if it does not exist.
    pub path: PathBuf,
    /// Samples a chunk should have (`--storage.tsdb.samples-per-chunk`).
    pub samples_per_chunk: u16,
    /// Time range of the smallest block, ms (`--storage.tsdb.min-block-duration`). No chunk crosses a multiple of it.
    pub min_block_ms: i64,
    /// Largest time range that compaction gives a block, ms (`--storage.tsdb.max-block-duration`); 0: see
    /// [`max_block_ms`]. Equal to the smallest one: blocks are not compacted.
    pub max_block_ms: i64,
    /// Size of the chunk segments of blocks (`--storage.tsdb.max-block-chunk-segment-size`), bytes.
    pub chunk_segment_bytes: u64,
    /// Whether the directory is locked (not `--storage.tsdb.no-lockfile`).
    pub lockfile: bool,
    /// Whether blocks that overlap in time are merged (`--storage.tsdb.allow-overlapping-compaction`).
    pub merge_overlapping: bool,
    /// Delays head compactions by a random part of so many percent of the block range (feature `delayed-compaction`,
    /// `--storage.tsdb.delayed-compaction.max-percent`, 1..=100); `None`: no delay.
    pub compaction_delay_percent: Option<u32>,
    /// A file that lists the blocks that were uploaded; blocks of level 1 that it does not list are not compacted
    /// (`--storage.tsdb.delay-compact-file.path`).
    pub delay_compact_file: Option<PathBuf>,
    /// How often the directory is looked at for new blocks, ms (`--storage.tsdb.block-reload-interval`).
    pub reload_interval_ms: i64,
    /// Samples of an open out-of-order chunk (`--storage.tsdb.out-of-order-cap-max`), 1..=255.
    pub out_of_order_cap: u16,
    /// Bytes per second that compactions of blocks write; 0: as fast as they can.
    pub compaction_bytes_per_s: u64,
    /// Segment size (`--storage.tsdb.wal-segment-size`), compression (`--storage.tsdb.wal-compression`) and disk reserve
    /// of the log, and of the log of out-of-order samples.
    pub wal: WalOptions,
    /// Whether pushed samples are answered only when they survive a power cut. Otherwise up to a second of them may be lost
    /// with the power, as of scraped ones.
    pub durable_pushes: bool,
    /// Whether start timestamps are kept in the logs (feature `st-storage`); floats have to be in XOR2 chunks then.
    pub st_storage: bool,
    /// Whether floats may be in XOR2 chunks (feature `xor2-encoding`).
    pub xor2_allowed: bool,
    /// Whether chunks of histograms keep start timestamps (feature `histograms-st-encoding`).
    pub histogram_st_encoding: bool,
    /// Whether metadata of series is kept (feature `metadata-wal-records`). What the log has is kept in any case.
    pub metadata_records: bool,
    /// What may change later, as it is at the start.
    pub config: TsdbConfig,
    /// The time at the start; `None`: that of the machine.
    pub now: Option<Now>,
    /// The way to the files.
    pub vfs: Arc<dyn Vfs>,
}

/// What can be changed while a data directory is open: the section `storage` of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct TsdbConfig {
    /// What is kept how long.
    pub retention: Retention,
    /// How much older than the newest sample of the head a sample may be, ms; 0: samples have to come in order
    /// (`storage.tsdb.out_of_order_time_window`).
    pub out_of_order_window_ms: i64,
    /// Exemplars that are kept; 0: none (`storage.exemplars.max_exemplars`, feature `exemplar-storage`).
    pub exemplars_max: usize,
    /// Share of stale series in the head from which on they are written to a block early; 0: never
    /// (`storage.tsdb.stale_series_compaction_threshold`).
    pub stale_series_threshold: f64,
    /// Encoding of new float chunks (`storage.tsdb.chunk_encoding.floats`).
    pub float_encoding: Encoding,
}

/// What is kept how long. Limits of 0 do not limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retention {
    /// Age of samples, ms.
    pub time_ms: i64,
    /// Size of blocks, head chunks and logs together, bytes.
    pub bytes: u64,
    /// The same in percent of the file system; then `bytes` does not count.
    pub percent: f64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { time_ms: RETENTION_MS_DEFAULT, bytes: 0, percent: 0.0 }
    }
}

impl Default for TsdbConfig {
    fn default() -> TsdbConfig {
        TsdbConfig {
            retention: Retention::default(),
            out_of_order_window_ms: 0,
            exemplars_max: 0,
            stale_series_threshold: 0.0,
            float_encoding: Encoding::Xor,
        }
    }
}

/// Options that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Text as in Prometheus.
    #[error("flag 'storage.tsdb.wal-segment-size' must be set between 10MB and 256MB")]
    WalSegmentSize,
    /// Text as in Prometheus.
    #[error("flag 'storage.tsdb.max-block-chunk-segment-size' must be set over 1MB")]
    ChunkSegmentSize,
    /// Not between 0 and 1.
    #[error("'storage.tsdb.stale_series_compaction_threshold' must be between 0 and 1")]
    StaleSeriesThreshold,
    /// Not between 0 and 100.
    #[error("'storage.tsdb.retention.percentage' must be between 0 and 100")]
    RetentionPercentage,
    /// An encoding that is none for floats.
    #[error("'storage.tsdb.chunk_encoding.floats' cannot be {0:?}")]
    FloatEncoding(Encoding),
    /// Text as in Prometheus.
    #[error("float chunk \"xor2\" is not enabled")]
    Xor2NotAllowed,
    /// Text as in Prometheus.
    #[error(
        "float chunk encoding \"xor\" is incompatible with start-timestamp storage; XOR chunks do not store start \
         timestamps, use \"xor2\""
    )]
    XorWithStarts,
}

impl DbOptions {
    /// The defaults of Prometheus, on the operating system's files.
    pub fn new(path: impl Into<PathBuf>) -> DbOptions {
        DbOptions {
            path: path.into(),
            samples_per_chunk: 120,
            min_block_ms: MIN_BLOCK_MS_DEFAULT,
            max_block_ms: 0,
            chunk_segment_bytes: CHUNK_SEGMENT_BYTES_DEFAULT,
            lockfile: true,
            merge_overlapping: true,
            compaction_delay_percent: None,
            delay_compact_file: None,
            reload_interval_ms: RELOAD_INTERVAL_MS_DEFAULT,
            out_of_order_cap: OUT_OF_ORDER_CAP_DEFAULT,
            compaction_bytes_per_s: COMPACTION_BYTES_PER_S_DEFAULT,
            wal: WalOptions::default(),
            durable_pushes: true,
            st_storage: false,
            xor2_allowed: false,
            histogram_st_encoding: false,
            metadata_records: false,
            config: TsdbConfig::default(),
            now: None,
            vfs: Arc::new(OsVfs),
        }
    }

    /// What flags say that cannot be used. Tests go below these limits, so [`Db::open`](crate::Db::open) does not check them.
    pub fn check(&self) -> Result<(), OptionError> {
        if !WAL_SEGMENT_BYTES.contains(&self.wal.segment_bytes) {
            return Err(OptionError::WalSegmentSize);
        }
        if self.chunk_segment_bytes < CHUNK_SEGMENT_BYTES_MIN {
            return Err(OptionError::ChunkSegmentSize);
        }
        self.config.check()?;
        self.check_encoding_of(&self.config)
    }

    /// Whether the encoding of floats that `config` asks for goes with what is decided at the start.
    pub fn check_encoding_of(&self, config: &TsdbConfig) -> Result<(), OptionError> {
        match config.float_encoding {
            Encoding::Xor2 if !self.xor2_allowed => Err(OptionError::Xor2NotAllowed),
            Encoding::Xor if self.st_storage => Err(OptionError::XorWithStarts),
            _ => Ok(()),
        }
    }

    /// Puts right what is odd, as Prometheus does, and says what a person should know. [`Db::open`](crate::Db::open) does
    /// it as well.
    pub fn settle(&mut self) -> Vec<String> {
        let mut warnings = self.config.settle();
        if self.min_block_ms <= 0 {
            self.min_block_ms = MIN_BLOCK_MS_DEFAULT;
        }
        if self.max_block_ms <= 0 {
            self.max_block_ms = max_block_ms(self.config.retention.time_ms);
        }
        self.max_block_ms = self.max_block_ms.max(self.min_block_ms);
        if self.samples_per_chunk == 0 {
            self.samples_per_chunk = 120;
        }
        if let Some(percent) = &mut self.compaction_delay_percent
            && !(1..=100).contains(percent)
        {
            warnings.push(format!(
                "delayed compaction: {percent} percent is not within 1 to 100, using {COMPACTION_DELAY_PERCENT_DEFAULT}"
            ));
            *percent = COMPACTION_DELAY_PERCENT_DEFAULT;
        }
        if self.reload_interval_ms < RELOAD_INTERVAL_MS_MIN {
            warnings.push(format!(
                "block reload interval of {} ms is too short, using {RELOAD_INTERVAL_MS_MIN} ms",
                self.reload_interval_ms
            ));
            self.reload_interval_ms = RELOAD_INTERVAL_MS_MIN;
        }
        if self.out_of_order_cap == 0 || self.out_of_order_cap > OUT_OF_ORDER_CAP_MAX {
            self.out_of_order_cap = OUT_OF_ORDER_CAP_DEFAULT;
        }
        warnings
    }

    /// The time ranges of blocks, ascending, ms: the smallest, three times it and so on, up to the largest.
    pub fn block_ranges(&self) -> Vec<i64> {
        let mut ranges = vec![self.min_block_ms];
        let mut next = self.min_block_ms.checked_mul(3);
        // Prometheus makes ten steps at most.
        while let Some(range) = next.filter(|range| *range <= self.max_block_ms && ranges.len() < 10) {
            ranges.push(range);
            next = range.checked_mul(3);
        }
        ranges
    }
}

impl TsdbConfig {
    /// What the configuration says that cannot be used.
    pub fn check(&self) -> Result<(), OptionError> {
        if !(0.0..=100.0).contains(&self.retention.percent) {
            return Err(OptionError::RetentionPercentage);
        }
        if !(0.0..=1.0).contains(&self.stale_series_threshold) {
            return Err(OptionError::StaleSeriesThreshold);
        }
        if !self.float_encoding.is_float() {
            return Err(OptionError::FloatEncoding(self.float_encoding));
        }
        Ok(())
    }

    /// As [`DbOptions::settle`].
    pub fn settle(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        let time_ms = &mut self.retention.time_ms;
        if *time_ms < 0 || *time_ms > RETENTION_MS_MAX {
            *time_ms = RETENTION_MS_MAX;
            warnings.push("Time retention value is too high. Limiting to: 100y".to_owned());
        }
        if self.retention.percent > 0.0 && self.retention.bytes > 0 {
            warnings.push(
                "storage.tsdb.retention.size is ignored, because storage.tsdb.retention.percentage is specified"
                    .to_owned(),
            );
        }
        self.out_of_order_window_ms = self.out_of_order_window_ms.max(0);
        warnings
    }
}

/// The largest time range of a block when no flag says it, ms: a tenth of the retention time, at most 31 days.
pub fn max_block_ms(retention_ms: i64) -> i64 {
    match retention_ms {
        0 => MAX_BLOCK_MS_DEFAULT,
        retention_ms => MAX_BLOCK_MS_DEFAULT.min(retention_ms / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_ranges_triple_up_to_the_largest() {
        let hours = |min: i64, max: i64| {
            let mut options =
                DbOptions { min_block_ms: min * HOUR_MS, max_block_ms: max * HOUR_MS, ..DbOptions::new("/data") };
            options.settle();
            options.block_ranges().into_iter().map(|range| range / HOUR_MS).collect::<Vec<_>>()
        };
        assert_eq!(hours(2, 36), [2, 6, 18]);
        assert_eq!(hours(2, 18), [2, 6, 18]);
        assert_eq!(hours(2, 2), [2]);
        assert_eq!(hours(2, 1), [2], "the largest is never below the smallest");
        assert_eq!(hours(0, 0), [2, 6, 18], "a tenth of 15 days");
        assert_eq!(hours(1, 1 << 40).len(), 10);
    }

    #[test]
    fn odd_values_are_put_right_and_told() {
        let mut options = DbOptions::new("/data");
        assert_eq!(options.settle(), [""; 0]);
        assert_eq!(options.max_block_ms, 36 * HOUR_MS);
        options.config.retention = Retention { time_ms: -1, bytes: 1, percent: 3.0 };
        options.compaction_delay_percent = Some(0);
        options.reload_interval_ms = 5;
        options.max_block_ms = 0;
        let warnings = options.settle();
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert_eq!(options.config.retention.time_ms, RETENTION_MS_MAX);
        assert_eq!(options.compaction_delay_percent, Some(10));
        assert_eq!(options.reload_interval_ms, 1000);
        assert_eq!(options.max_block_ms, MAX_BLOCK_MS_DEFAULT);
        assert_eq!(max_block_ms(0), MAX_BLOCK_MS_DEFAULT);
    }

    #[test]
    fn flags_beyond_their_limits_are_refused() {
        let options = |change: fn(&mut DbOptions)| {
            let mut options = DbOptions::new("/data");
            change(&mut options);
            options.check()
        };
        assert_eq!(options(|_| {}), Ok(()));
        assert_eq!(options(|o| o.wal.segment_bytes = (10 << 20) - 1), Err(OptionError::WalSegmentSize));
        assert_eq!(options(|o| o.wal.segment_bytes = (256 << 20) + 1), Err(OptionError::WalSegmentSize));
        assert_eq!(options(|o| o.chunk_segment_bytes = (1 << 20) - 1), Err(OptionError::ChunkSegmentSize));
        assert_eq!(options(|o| o.config.retention.percent = 101.0), Err(OptionError::RetentionPercentage));
        assert_eq!(options(|o| o.config.stale_series_threshold = 1.5), Err(OptionError::StaleSeriesThreshold));
        assert_eq!(
            options(|o| o.config.float_encoding = Encoding::Histogram),
            Err(OptionError::FloatEncoding(Encoding::Histogram))
        );
        assert_eq!(options(|o| o.config.float_encoding = Encoding::Xor2), Err(OptionError::Xor2NotAllowed));
        assert_eq!(options(|o| o.st_storage = true), Err(OptionError::XorWithStarts));
        let with_starts = |o: &mut DbOptions| {
            (o.st_storage, o.xor2_allowed, o.config.float_encoding) = (true, true, Encoding::Xor2);
        };
        assert_eq!(options(with_starts), Ok(()));
    }
}
