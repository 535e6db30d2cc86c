//! Tombstones: what has been deleted from a block, series by series (`docs/format/tombstones.md`).
//!
//! ```text
//! ┌────────────────────────────┬──────────────┐
//! │ magic 0x0130BA30 <4b>      │ version <1b> │
//! ├────────────────────────────┴──────────────┤
//! │ series <uvarint>  mint <varint>  maxt <varint>   ...
//! ├───────────────────────────────────────────┤
//! │ CRC-32C of the entries <4b>               │
//! └───────────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use fk_storage::{StorageError, TimeRange};
use fk_vfs::Vfs;

use crate::codec::{CRC_BYTES, Cursor, Fault, check_crc, put_uvarint, put_varint};

/// Name of the file.
pub const TOMBSTONES_FILE: &str = "tombstones";

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// Larger files are not read.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Deleted intervals of series; for a block the keys are references into its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    /// Invariant: no list is empty; intervals are ascending and neither overlap nor touch.
    series: BTreeMap<u64, Vec<TimeRange>>,
}

impl Tombstones {
    /// Without any.
    pub fn new() -> Tombstones {
        Tombstones::default()
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.series.values().map(Vec::len).sum()
    }

    /// The intervals of a series, ascending and apart from each other.
    pub fn of(&self, series: u64) -> &[TimeRange] {
        self.series.get(&series).map_or(&[], Vec::as_slice)
    }

    /// All series with their intervals.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[TimeRange])> {
        self.series.iter().map(|(series, intervals)| (*series, intervals.as_slice()))
    }

    /// Deletes an interval; those that overlap or touch become one. An interval that ends before it begins is nothing.
    pub fn add(&mut self, series: u64, interval: TimeRange) {
        if interval.mint <= interval.maxt {
            add_interval(self.series.entry(series).or_default(), interval);
        }
    }

    /// Reads the file of the block in `dir`; without one nothing is deleted. Also says how long the file is.
    pub fn read(vfs: &dyn Vfs, dir: &Path) -> Result<(Tombstones, u64), StorageError> {
        let path = dir.join(TOMBSTONES_FILE);
        let bytes = match fk_vfs::read_file(vfs, &path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok((Tombstones::new(), 0)),
            Err(e) => return Err(e.into()),
        };
        let tombstones = Tombstones::decode(&bytes).map_err(|fault| fault.of(&path))?;
        Ok((tombstones, bytes.len() as u64))
    }

    /// Replaces the file of the block in `dir`, durably; says how long it is.
    pub fn write(&self, vfs: &dyn Vfs, dir: &Path) -> Result<u64, StorageError> {
        let bytes = self.to_bytes();
        fk_vfs::write_file_atomic(vfs, &dir.join(TOMBSTONES_FILE), &bytes)?;
        Ok(bytes.len() as u64)
    }

    /// The contents of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        for (series, intervals) in &self.series {
            for interval in intervals {
                put_uvarint(&mut out, *series);
                put_varint(&mut out, interval.mint);
                put_varint(&mut out, interval.maxt);
            }
        }
        let crc = crc32c::crc32c(&out[HEADER_BYTES..]);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// From the contents of a file; `path` is for the error.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Tombstones, StorageError> {
        Tombstones::decode(bytes).map_err(|fault| fault.of(path))
    }

    fn decode(bytes: &[u8]) -> Result<Tombstones, Fault> {
        let Some((body, crc)) = bytes.split_last_chunk::<CRC_BYTES>().filter(|(body, _)| body.len() >= HEADER_BYTES)
        else {
            return Err(Fault::new(0, "file too short"));
        };
        let mut cursor = Cursor::new(body, 0);
        let magic = cursor.u32()?;
        if magic != MAGIC {
            return Err(Fault::new(0, format!("invalid magic number {magic:x}")));
        }
        let version = cursor.byte()?;
        if version != VERSION {
            return Err(Fault::new(4, format!("invalid tombstone format {version:x}")));
        }
        check_crc(&body[HEADER_BYTES..], u32::from_be_bytes(*crc), HEADER_BYTES as u64)?;
        let mut tombstones = Tombstones::new();
        while cursor.left() > 0 {
            let series = cursor.uvarint()?;
            let interval = TimeRange { mint: cursor.varint()?, maxt: cursor.varint()? };
            tombstones.add(series, interval);
        }
        Ok(tombstones)
    }
}

/// Adds an interval to a list that is ascending and whose members neither overlap nor touch, and keeps it so.
pub fn add_interval(intervals: &mut Vec<TimeRange>, new: TimeRange) {
    // The first one that reaches up to the new one, and the first one behind it that does not touch it.
    let start = intervals.partition_point(|known| known.maxt < new.mint.saturating_sub(1));
    let end = intervals.partition_point(|known| known.mint <= new.maxt.saturating_add(1)).max(start);
    let mut whole = new;
    if let [first, .., last] | [first @ last] = &intervals[start..end] {
        whole = TimeRange { mint: whole.mint.min(first.mint), maxt: whole.maxt.max(last.maxt) };
    }
    intervals.splice(start..end, [whole]);
}

/// Whether time `t` lies in one of the intervals, which are ascending and apart.
pub fn covers_time(intervals: &[TimeRange], t: i64) -> bool {
    let at = intervals.partition_point(|interval| interval.maxt < t);
    intervals.get(at).is_some_and(|interval| interval.mint <= t)
}

/// Whether one of the intervals covers all of `range`.
pub fn covers(intervals: &[TimeRange], range: TimeRange) -> bool {
    intervals.iter().any(|interval| interval.mint <= range.mint && range.maxt <= interval.maxt)
}

/// Whether one of the intervals has a time in common with `range`.
pub fn touches(intervals: &[TimeRange], range: TimeRange) -> bool {
    intervals.iter().any(|interval| interval.mint <= range.maxt && range.mint <= interval.maxt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(mint: i64, maxt: i64) -> TimeRange {
        TimeRange { mint, maxt }
    }

    proptest! {
        #[test]
        fn intervals_are_a_set_of_times(added in proptest::collection::vec((0i64..60, 0i64..12), 0..12)) {
            let mut intervals = Vec::new();
            for (start, len) in &added {
                add_interval(&mut intervals, range(*start, start + len));
            }
            for t in -1..80 {
                let expected = added.iter().any(|(start, len)| (*start..=start + len).contains(&t));
                prop_assert_eq!(covers_time(&intervals, t), expected, "{} in {:?}", t, intervals);
            }
            prop_assert!(intervals.windows(2).all(|w| w[0].maxt + 1 < w[1].mint), "{intervals:?}");
        }

        #[test]
        fn files_come_back(entries in proptest::collection::vec((any::<u64>(), any::<i64>(), any::<i64>()), 0..20)) {
            let mut tombstones = Tombstones::new();
            for (series, a, b) in entries {
                tombstones.add(series, range(a.min(b), a.max(b)));
            }
            let bytes = tombstones.to_bytes();
            prop_assert_eq!(Tombstones::decode(&bytes), Ok(tombstones));
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut intervals = vec![range(0, 10)];
        add_interval(&mut intervals, range(i64::MIN, -5));
        add_interval(&mut intervals, range(20, i64::MAX));
        assert_eq!(intervals, [range(i64::MIN, -5), range(0, 10), range(20, i64::MAX)]);
        add_interval(&mut intervals, range(i64::MIN, i64::MAX));
        assert_eq!(intervals, [range(i64::MIN, i64::MAX)]);
    }

    #[test]
    fn damage_is_an_error() {
        let mut tombstones = Tombstones::new();
        tombstones.add(3, range(1, 2));
        tombstones.add(900, range(-5, 1 << 40));
        let good = tombstones.to_bytes();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut damaged = good.clone();
                damaged[at] ^= 1 << bit;
                assert!(Tombstones::decode(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Tombstones::decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
