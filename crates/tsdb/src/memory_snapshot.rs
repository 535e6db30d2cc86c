//! Prometheus' memory snapshots: the directories `chunk_snapshot.SEGMENT.OFFSET` that it writes at shutdown with the feature
//! `memory-snapshot-on-shutdown`.
//!
//! A snapshot holds the series and the open chunks of the head as they were at a position of the log. It is there to make a
//! start of Prometheus shorter, and holds nothing that the log lacks: writing one removes nothing from the log, and the log
//! keeps every sample until a block has it. So it is not needed to open a directory, and it is not read.
//!
//! It must not stay either. Prometheus would take its series for the truth up to its position, and that may be long before the
//! place where our log has been truncated. So it goes, before anything is written. If the log was damaged the snapshot may
//! have what the log has lost, and then it is kept under a name that nobody reads.

use std::path::Path;

use fk_vfs::{self as vfs, Vfs};

/// How the names of snapshots begin.
const PREFIX: &str = "chunk_snapshot.";

/// Put before the name of a snapshot that is kept.
const KEPT_PREFIX: &str = "unused.";

/// Takes the snapshots in a data directory away, after the log has been read: removes them, or gives them another name if
/// `keep`.
pub(crate) fn retire(vfs: &dyn Vfs, data_dir: &Path, keep: bool) -> vfs::Result<()> {
    let entries = vfs.read_dir(data_dir)?;
    let snapshots: Vec<_> = entries.into_iter().filter(|e| e.is_dir && e.name.starts_with(PREFIX)).collect();
    for snapshot in &snapshots {
        let path = data_dir.join(&snapshot.name);
        let kept = data_dir.join(format!("{KEPT_PREFIX}{}", snapshot.name));
        if keep && vfs.metadata(&kept)?.is_none() {
            log::warn!("memory snapshot: kept as {}, because the write-ahead log is damaged", kept.display());
            vfs.rename(&path, &kept)?;
        } else {
            log::info!("memory snapshot: {} is removed, the write-ahead log has all of it", path.display());
            vfs::remove_dir_all(vfs, &path)?;
        }
    }
    if !snapshots.is_empty() {
        vfs.sync_dir(data_dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_vfs::sim::SimVfs;

    #[test]
    fn snapshots_go_or_get_another_name() {
        let check = |keep, expected: &[&str]| {
            let vfs = SimVfs::new(1);
            for file in [
                "chunk_snapshot.000012.0000345678/00000000",
                "chunk_snapshot.000013.0000000000.tmp/00000000",
                "wal/00000000",
            ] {
                vfs.put(&Path::new("/data").join(file), b"x");
            }
            retire(&vfs, Path::new("/data"), keep).unwrap();
            let names: Vec<_> = vfs.files().iter().map(|f| f.display().to_string()).collect();
            assert_eq!(names, expected);
            vfs.crash();
            assert_eq!(vfs.files().len(), expected.len());
        };
        check(false, &["/data/wal/00000000"]);
        check(
            true,
            &[
                "/data/unused.chunk_snapshot.000012.0000345678/00000000",
                "/data/unused.chunk_snapshot.000013.0000000000.tmp/00000000",
                "/data/wal/00000000",
            ],
        );
    }
}
