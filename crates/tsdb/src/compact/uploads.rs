//! The file that says which blocks were uploaded elsewhere (`--storage.tsdb.delay-compact-file.path`), as Thanos writes it:
//! `{"uploaded": ["01...", ...]}`. Blocks of level 1 wait for that before they are compacted. As with Prometheus nobody waits
//! while the file cannot be read.

use std::collections::HashSet;
use std::path::PathBuf;

use fk_block::{BlockMeta, Ulid};
use fk_vfs::Vfs;

/// How long what was read is believed, ms.
const FRESH_MS: i64 = 60_000;

/// Larger files are not read: millions of blocks.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The file, and what it said when it was last read.
#[derive(Debug)]
pub struct Uploads {
    path: PathBuf,
    read_ms: Option<i64>,
    uploaded: Option<HashSet<Ulid>>,
}

impl Uploads {
    /// The file need not exist yet.
    pub fn new(path: PathBuf) -> Uploads {
        Uploads { path, read_ms: None, uploaded: None }
    }

    /// Of `blocks` those that may be compacted. As with Prometheus all blocks from the first one on that is not uploaded
    /// have to wait (in order of their names, which is that of their age): merging around it would leave gaps.
    pub fn compactable<'m>(
        &mut self,
        vfs: &dyn Vfs,
        mut blocks: Vec<&'m BlockMeta>,
        steady_ms: i64,
    ) -> Vec<&'m BlockMeta> {
        self.refresh(vfs, steady_ms);
        blocks.sort_by_key(|meta| meta.ulid);
        let Some(uploaded) = &self.uploaded else { return blocks };
        let waits = |meta: &&BlockMeta| meta.compaction.level <= 1 && !uploaded.contains(&meta.ulid);
        let first = blocks.iter().position(waits).unwrap_or(blocks.len());
        blocks.truncate(first);
        blocks
    }

    fn refresh(&mut self, vfs: &dyn Vfs, steady_ms: i64) {
        if self.read_ms.is_some_and(|then| steady_ms - then < FRESH_MS) {
            return;
        }
        self.read_ms = Some(steady_ms);
        let read = fk_vfs::read_file(vfs, &self.path, FILE_BYTES_MAX).map_err(|e| e.to_string());
        let parsed = read.and_then(|bytes| {
            let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
            let list = json.get("uploaded").and_then(|list| list.as_array()).map(Vec::as_slice).unwrap_or_default();
            Ok(list.iter().filter_map(|name| name.as_str()?.parse().ok()).collect())
        });
        match parsed {
            Ok(uploaded) => self.uploaded = Some(uploaded),
            Err(e) => {
                log::warn!("compaction: cannot read the list of uploaded blocks: {}: {e}", self.path.display());
                self.uploaded = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_vfs::sim::SimVfs;
    use std::path::Path;

    #[test]
    fn new_blocks_wait_for_their_upload() {
        let vfs = SimVfs::new(1);
        let path = Path::new("/shipper.json");
        let metas: Vec<BlockMeta> = (0..4)
            .map(|i| {
                let (ulid, level) = (Ulid::new(i, 0), if i == 0 { 2 } else { 1 });
                let json = format!(
                    r#"{{"ulid":"{ulid}","minTime":0,"maxTime":1,"version":1,"compaction":{{"level":{level}}}}}"#
                );
                BlockMeta::parse(json.as_bytes()).expect("meta")
            })
            .collect();
        let mut uploads = Uploads::new(path.to_owned());
        let mut compactable = |steady_ms| uploads.compactable(&vfs, metas.iter().collect(), steady_ms).len();
        assert_eq!(compactable(0), 4, "the file cannot be read");
        vfs.put(path, format!(r#"{{"version":1,"uploaded":["{}","{}"]}}"#, metas[1].ulid, metas[3].ulid).as_bytes());
        assert_eq!(compactable(59_999), 4, "what was read a moment ago counts");
        assert_eq!(compactable(60_000), 2, "the third one waits, and the fourth one for it");
        vfs.put(path, b"{}");
        assert_eq!(compactable(120_000), 1);
    }
}
