//! Names in a data directory: which of them are blocks, which are what an interrupted operation left behind, which are
//! none of our business.
//!
//! A block that is being written is called `ULID.tmp-for-creation`, one that is being removed `ULID.tmp-for-deletion`.
//! Both names mean the same to Prometheus, and either server clears away what the other has left.

use std::path::{Path, PathBuf};

use fk_storage::StorageError;
use fk_vfs::Vfs;

use crate::Ulid;
use crate::index::INDEX_FILE;
use crate::meta::{BlockMeta, META_VERSION};

/// Ending of the name of a block that is being written.
pub const TMP_FOR_CREATION: &str = ".tmp-for-creation";

/// Ending of the name of a block that is being removed.
pub const TMP_FOR_DELETION: &str = ".tmp-for-deletion";

/// Ending that old versions of Prometheus used for both.
const TMP_LEGACY: &str = ".tmp";

/// Beginning of the names of Prometheus' snapshots of the head.
const CHUNK_SNAPSHOT: &str = "chunk_snapshot.";

/// An index of at most so many bytes can be repaired.
const REPAIR_BYTES_MAX: u64 = 4 << 30;

/// What a name in a data directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A block.
    Block(Ulid),
    /// What an interrupted operation left: to be removed once the directory is locked.
    Temporary,
    /// Something else.
    Foreign,
}

impl EntryKind {
    /// Of an entry.
    pub fn of(entry: &fk_vfs::DirEntry) -> EntryKind {
        if !entry.is_dir {
            return EntryKind::Foreign;
        }
        if let Ok(ulid) = entry.name.parse() {
            return EntryKind::Block(ulid);
        }
        for ending in [TMP_FOR_CREATION, TMP_FOR_DELETION, TMP_LEGACY] {
            if let Some(stem) = entry.name.strip_suffix(ending)
                && (stem.parse::<Ulid>().is_ok() || stem.starts_with(CHUNK_SNAPSHOT))
            {
                return EntryKind::Temporary;
            }
        }
        EntryKind::Foreign
    }
}

/// The blocks of a data directory, and the leftovers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Directories of blocks, in order of their names.
    pub blocks: Vec<(Ulid, PathBuf)>,
    /// Directories of [`EntryKind::Temporary`].
    pub temporary: Vec<PathBuf>,
}

/// Looks through a data directory. Says nothing about whether the blocks are sound.
pub fn list(vfs: &dyn Vfs, data_dir: &Path) -> Result<Listing, StorageError> {
    let mut listing = Listing::default();
    for entry in vfs.read_dir(data_dir)? {
        match EntryKind::of(&entry) {
            EntryKind::Block(ulid) => listing.blocks.push((ulid, data_dir.join(entry.name))),
            EntryKind::Temporary => listing.temporary.push(data_dir.join(entry.name)),
            EntryKind::Foreign => {}
        }
    }
    Ok(listing)
}

/// Removes a block: the name goes at once and durably, the contents after that, so a crash leaves either a whole block or
/// something that the next start clears away. Readers that have it open go on.
pub fn remove_block(vfs: &dyn Vfs, dir: &Path) -> Result<(), StorageError> {
    let mut name = dir.as_os_str().to_owned();
    name.push(TMP_FOR_DELETION);
    let doomed = PathBuf::from(name);
    // A removal that was interrupted may have left one of that name.
    fk_vfs::remove_dir_all(vfs, &doomed)?;
    vfs.rename(dir, &doomed)?;
    vfs.sync_dir(fk_vfs::parent(dir))?;
    fk_vfs::remove_dir_all(vfs, &doomed)?;
    Ok(())
}

/// Repairs a block of Prometheus 2.1.0, which wrote version 2 into `meta.json` instead of the index: the index says that
/// it is of version 1, but has the layout of version 2. Says whether there was anything to repair.
pub fn repair_index_version(vfs: &dyn Vfs, dir: &Path) -> Result<bool, StorageError> {
    let mut meta = BlockMeta::read_any_version(vfs, dir)?;
    if meta.version != 2 {
        return Ok(false);
    }
    let path = dir.join(INDEX_FILE);
    let mut index = fk_vfs::read_file(vfs, &path, REPAIR_BYTES_MAX)?;
    let Some(version) = index.get_mut(4).filter(|version| matches!(version, 1 | 2)) else {
        return Err(StorageError::Corrupt {
            path: path.display().to_string(),
            offset: 4,
            reason: "no index version that could be repaired".to_owned(),
        });
    };
    // A crash between the two files leaves the index repaired already.
    if *version == 1 {
        *version = 2;
        fk_vfs::write_file_atomic(vfs, &path, &index)?;
    }
    meta.version = META_VERSION;
    meta.write(vfs, dir)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_vfs::sim::SimVfs;

    #[test]
    fn names_are_told_apart() {
        let vfs = SimVfs::new(1);
        let root = Path::new("/data");
        vfs.create_dir(root).expect("directory");
        let ulid = "01DXXFZDYD1MQW6079WK0K6EDQ";
        for name in [
            ulid,
            &format!("{ulid}.tmp-for-creation"),
            &format!("{ulid}.tmp-for-deletion"),
            &format!("{ulid}.tmp"),
            "chunk_snapshot.000001.0000000001.tmp",
            "chunk_snapshot.000001.0000000001",
            "wal",
            "chunks_head",
            "quarantine",
            "checkpoint.00000001.tmp",
            "x.tmp-for-deletion",
        ] {
            vfs.create_dir(&root.join(name)).expect("directory");
        }
        vfs.put(&root.join("01DXXFZDYD1MQW6079WK0K6EDR"), b"a file is no block");
        let listing = list(&vfs, root).expect("list");
        assert_eq!(listing.blocks, [(ulid.parse().expect("ULID"), root.join(ulid))]);
        let names: Vec<_> = listing.temporary.iter().filter_map(|p| p.file_name()?.to_str()).collect();
        assert_eq!(
            names,
            [
                "01DXXFZDYD1MQW6079WK0K6EDQ.tmp",
                "01DXXFZDYD1MQW6079WK0K6EDQ.tmp-for-creation",
                "01DXXFZDYD1MQW6079WK0K6EDQ.tmp-for-deletion",
                "chunk_snapshot.000001.0000000001.tmp"
            ]
        );
    }

    #[test]
    fn a_removed_block_is_gone_even_after_an_interruption() {
        let vfs = SimVfs::new(1);
        let dir = Path::new("/data/01DXXFZDYD1MQW6079WK0K6EDQ");
        for path in [dir.to_owned(), PathBuf::from("/data/01DXXFZDYD1MQW6079WK0K6EDQ.tmp-for-deletion")] {
            fk_vfs::create_dir_all(&vfs, &path.join("chunks")).expect("directories");
            vfs.put(&path.join("chunks/000001"), b"x");
        }
        remove_block(&vfs, dir).expect("remove");
        assert_eq!(vfs.read_dir(Path::new("/data")).expect("list"), []);
    }
}
