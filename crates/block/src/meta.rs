//! `meta.json`: what a block is, without looking into it (`docs/format/meta.md`).
//!
//! Other programs add sections of their own (Thanos, Mimir). They are kept as they are, at the top level as well as in the
//! sections we know, so that rewriting the file loses nothing.

use std::path::Path;

use fk_storage::StorageError;
use fk_vfs::Vfs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Ulid;

/// Name of the file.
pub const META_FILE: &str = "meta.json";

/// The only version there is.
pub const META_VERSION: u32 = 1;

/// Larger files are not read: a block with a hundred thousand sources is far below.
const META_BYTES_MAX: u64 = 16 << 20;

/// Hint of a block that was made of out-of-order samples.
pub const HINT_OUT_OF_ORDER: &str = "from-out-of-order";

/// Hint of a block that was made of series that had gone stale.
pub const HINT_STALE_SERIES: &str = "from-stale-series";

/// What is known about a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// Its name.
    pub ulid: Ulid,
    /// No sample is older, ms.
    pub min_time: i64,
    /// All samples are older than this, ms.
    pub max_time: i64,
    /// Sizes.
    #[serde(default)]
    pub stats: BlockStats,
    /// Where it comes from.
    #[serde(default)]
    pub compaction: Compaction,
    /// [`META_VERSION`].
    pub version: u32,
    /// Sections of other programs.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Sizes of a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// Samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples among them. (Not written by older servers.)
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Histogram samples among them.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Intervals that are deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
    /// Entries of other programs.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Where a block comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// How often its samples have been compacted; 1: straight from the head.
    pub level: u32,
    /// The blocks of level 1 that went into it, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub sources: Vec<Ulid>,
    /// It holds no sample and can be deleted.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks it was made of.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub parents: Vec<BlockDesc>,
    /// A compaction of it has failed; it is left alone.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// See [`HINT_OUT_OF_ORDER`].
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub hints: Vec<String>,
    /// Entries of other programs.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// A block by name and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockDesc {
    /// Its name.
    pub ulid: Ulid,
    /// See [`BlockMeta::min_time`].
    pub min_time: i64,
    /// See [`BlockMeta::max_time`].
    pub max_time: i64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Go writes a missing list as `null` if nobody has told it otherwise.
fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

impl BlockMeta {
    /// Reads the file of the block in `dir`. Another version than [`META_VERSION`] is [`StorageError::Corrupt`].
    pub fn read(vfs: &dyn Vfs, dir: &Path) -> Result<BlockMeta, StorageError> {
        let meta = BlockMeta::read_any_version(vfs, dir)?;
        if meta.version != META_VERSION {
            // Text as in Prometheus:
            return Err(corrupt(dir, 0, format!("unexpected meta file version {}", meta.version)));
        }
        Ok(meta)
    }

    /// The same, whatever the version; see [`crate::dir::repair_index_version`].
    pub(crate) fn read_any_version(vfs: &dyn Vfs, dir: &Path) -> Result<BlockMeta, StorageError> {
        let bytes = fk_vfs::read_file(vfs, &dir.join(META_FILE), META_BYTES_MAX)?;
        BlockMeta::parse(&bytes).map_err(|e| corrupt(dir, offset_of(&bytes, e.line(), e.column()), e.to_string()))
    }

    /// From the contents of a file.
    pub fn parse(bytes: &[u8]) -> Result<BlockMeta, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Replaces the file of the block in `dir`, durably.
    pub fn write(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), StorageError> {
        Ok(fk_vfs::write_file_atomic(vfs, &dir.join(META_FILE), &self.to_json())?)
    }

    /// The contents of the file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, formatter);
        self.serialize(&mut serializer).expect("numbers and texts can be written to memory");
        json
    }

    /// Name and times.
    pub fn desc(&self) -> BlockDesc {
        BlockDesc { ulid: self.ulid, min_time: self.min_time, max_time: self.max_time }
    }
}

impl Compaction {
    /// Whether it was made of out-of-order samples.
    pub fn from_out_of_order(&self) -> bool {
        self.hints.iter().any(|hint| hint == HINT_OUT_OF_ORDER)
    }

    /// Adds a hint.
    pub fn add_hint(&mut self, hint: &str) {
        if let Err(at) = self.hints.binary_search_by(|known| known.as_str().cmp(hint)) {
            self.hints.insert(at, hint.to_owned());
        }
    }
}

fn corrupt(dir: &Path, offset: u64, reason: String) -> StorageError {
    StorageError::Corrupt { path: dir.join(META_FILE).display().to_string(), offset, reason }
}

/// The offset of a place that is given as line and column, both from 1.
fn offset_of(bytes: &[u8], line: usize, column: usize) -> u64 {
    let before: usize = bytes.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_vfs::sim::SimVfs;

    const FOREIGN: &str = r#"{
	"ulid": "01DXXFZDYD1MQW6079WK0K6EDQ",
	"minTime": 0,
	"maxTime": 7200000,
	"stats": {
		"numSamples": 102,
		"numSeries": 102,
		"numChunks": 102,
		"numColours": 7
	},
	"compaction": {
		"level": 2,
		"sources": [
			"01DXXFZDYD1MQW6079WK0K6EDQ"
		],
		"parents": [
			{
				"ulid": "01DXXFZDYD1MQW6079WK0K6EDR",
				"minTime": -5,
				"maxTime": 9
			}
		],
		"failed": true,
		"hints": [
			"from-out-of-order"
		],
		"mood": null
	},
	"version": 1,
	"thanos": {
		"labels": {
			"replica": "a"
		},
		"downsample": {
			"resolution": 0.1
		}
	}
}"#;

    #[test]
    fn sections_of_others_are_kept() {
        let meta = BlockMeta::parse(FOREIGN.as_bytes()).expect("sound");
        assert_eq!((meta.stats.num_samples, meta.compaction.level, meta.compaction.failed), (102, 2, true));
        assert_eq!(meta.compaction.parents[0].min_time, -5);
        assert!(meta.compaction.from_out_of_order());
        let vfs = SimVfs::new(1);
        let dir = Path::new("/data/b");
        fk_vfs::create_dir_all(&vfs, dir).expect("directory");
        let mut changed = meta.clone();
        changed.stats.num_tombstones = 3;
        changed.write(&vfs, dir).expect("write");
        let json = vfs.get(&dir.join(META_FILE)).expect("file");
        let (found, mut expected): (Value, Value) =
            (serde_json::from_slice(&json).expect("JSON"), serde_json::from_str(FOREIGN).expect("JSON"));
        expected["stats"]["numTombstones"] = 3.into();
        assert_eq!(found, expected);
        assert_eq!(BlockMeta::read(&vfs, dir).expect("read"), changed);
        assert!(json.starts_with(b"{\n\t\"ulid\": \"01DXXFZDYD1MQW6079WK0K6EDQ\",\n\t\"minTime\": 0,\n"));
    }

    #[test]
    fn missing_and_null_lists_are_empty() {
        let json = br#"{"ulid":"01DXXFZDYD1MQW6079WK0K6EDQ","minTime":1,"maxTime":2,"version":1,"compaction":{"level":1,"sources":null}}"#;
        let meta = BlockMeta::parse(json).expect("sound");
        assert!(meta.compaction.sources.is_empty() && meta.compaction.hints.is_empty());
        assert_eq!(meta.stats, BlockStats::default());
    }

    #[test]
    fn mistakes_are_errors_with_their_place() {
        let vfs = SimVfs::new(1);
        let error = |text: &str| {
            vfs.put(Path::new("/b/meta.json"), text.as_bytes());
            match BlockMeta::read(&vfs, Path::new("/b")) {
                Err(StorageError::Corrupt { path, offset, reason }) => {
                    assert_eq!(path, "/b/meta.json");
                    (offset, reason)
                }
                other => panic!("{text}: {other:?}"),
            }
        };
        assert_eq!(error(&FOREIGN.replace("\"version\": 1", "\"version\": 7")).1, "unexpected meta file version 7");
        assert_eq!(error("{\n\n  x}").0, 5);
        assert!(error("").1.contains("EOF"));
        assert!(error(&FOREIGN.replace("K6EDQ\"", "\"")).1.contains("not a ULID"));
        assert!(matches!(BlockMeta::read(&vfs, Path::new("/none")), Err(StorageError::Io { .. })));
    }

    #[test]
    fn hints_are_kept_in_order_and_once() {
        let mut compaction = Compaction::default();
        for hint in [HINT_STALE_SERIES, HINT_OUT_OF_ORDER, HINT_STALE_SERIES] {
            compaction.add_hint(hint);
        }
        assert_eq!(compaction.hints, [HINT_OUT_OF_ORDER, HINT_STALE_SERIES]);
    }
}
