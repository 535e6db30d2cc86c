//! The names in the directory of the log.

use std::path::{Path, PathBuf};

use fk_vfs::{self as vfs, Vfs};

/// How the name of a checkpoint's directory begins.
const CHECKPOINT_PREFIX: &str = "checkpoint.";

/// Added to the name of a damaged segment that was replaced. Prometheus ignores names that are not numbers.
pub const DAMAGED_SUFFIX: &str = ".damaged";

/// Added to the name of a segment while its good records are being written. Removed at the next start.
pub const SALVAGE_SUFFIX: &str = ".salvage";

/// Added by Prometheus to the name of a segment while it repairs it.
pub const REPAIR_SUFFIX: &str = ".repair";

/// The file of a segment.
pub fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(segment_name(segment))
}

/// The directory of a checkpoint.
pub fn checkpoint_path(dir: &Path, checkpoint: u32) -> PathBuf {
    dir.join(format!("{CHECKPOINT_PREFIX}{checkpoint:08}"))
}

fn segment_name(segment: u32) -> String {
    format!("{segment:08}")
}

/// The number in the name of a segment, if it is one and is written as it should be.
pub fn segment_number(name: &str) -> Option<u32> {
    let number = name.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// What is in the directory of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The segments, ascending.
    pub segments: Vec<u32>,
    /// The checkpoints, ascending. Number n stands for the segments up to and including n.
    pub checkpoints: Vec<u32>,
}

impl Listing {
    /// Lists a directory; one that does not exist is empty.
    pub fn read(vfs: &dyn Vfs, dir: &Path) -> vfs::Result<Listing> {
        let mut listing = Listing::default();
        let entries = match vfs.read_dir(dir) {
            Err(e) if e.is_not_found() => return Ok(listing),
            result => result?,
        };
        for entry in entries {
            match entry.name.strip_prefix(CHECKPOINT_PREFIX) {
                Some(number) if entry.is_dir => listing.checkpoints.extend(segment_number(number)),
                None if !entry.is_dir => listing.segments.extend(segment_number(&entry.name)),
                _ => {}
            }
        }
        listing.segments.sort_unstable();
        listing.checkpoints.sort_unstable();
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_vfs::sim::SimVfs;

    #[test]
    fn only_proper_names_count() {
        let vfs = SimVfs::new(1);
        let names = ["00000002", "00000010", "3", "00000003.damaged", "00000004.repair", "x", "123456789", "0000000a"];
        for name in names {
            vfs.put(&Path::new("/wal").join(name), b"");
        }
        vfs.put(Path::new("/wal/checkpoint.00000001/00000000"), b"");
        vfs.put(Path::new("/wal/checkpoint.00000005.tmp/00000000"), b"");
        vfs.put(Path::new("/wal/checkpoint.00000007"), b"a file");
        let listing = Listing::read(&vfs, Path::new("/wal")).expect("list");
        assert_eq!(listing, Listing { segments: vec![2, 10, 123_456_789], checkpoints: vec![1] });
        assert_eq!(Listing::read(&vfs, Path::new("/none")).expect("list"), Listing::default());
    }
}
