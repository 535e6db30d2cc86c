//! Directories that nobody wants: each opens, and what is sound in it is answered from.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use fk_vfs::sim::SimVfs;
use fk_vfs::{Vfs, remove_dir_all};

use crate::model::{Told, contents, series};
use crate::script::{Script, dir, open};

const STEPS: i64 = 64;

const ULID: &str = "01HF000000000000000000000A";

/// Makes the directory odd and opens it. `lost`: whether samples may be missing.
fn check(name: &str, lost: bool, make: impl Fn(&SimVfs)) {
    let vfs = SimVfs::new(7);
    let told = Arc::new(Mutex::new(Told::default()));
    let mut script = Script::new(&vfs, &told, false);
    script.run(STEPS);
    script.sync();
    vfs.kill();
    drop(script);
    make(&vfs);
    for turn in ["first", "second"] {
        let now_ms = told.lock().now_ms;
        let db = open(&vfs, now_ms).unwrap_or_else(|e| panic!("{name}, {turn} start: {e}"));
        let (found, _) = contents(&db, &series()).unwrap_or_else(|e| panic!("{name}, {turn} start: {e}"));
        let missing = told.lock().judge_damaged(&found).unwrap_or_else(|e| panic!("{name}, {turn} start: {e}"));
        assert!(lost || missing == 0, "{name}, {turn} start: {missing} samples are lost");
        vfs.kill();
        drop(db);
    }
}

/// The blocks of a directory.
fn blocks(vfs: &SimVfs) -> Vec<String> {
    let entries = vfs.read_dir(dir()).expect("listed");
    entries.into_iter().filter(|e| e.is_dir && e.name.len() == 26).map(|e| e.name).collect()
}

/// Copies a block under another name, its `meta.json` changed.
fn copy_block(vfs: &SimVfs, from: &str, to: &str, change: impl Fn(String) -> String) {
    let source = dir().join(from);
    for path in vfs.files().into_iter().filter(|p| p.starts_with(&source)) {
        let mut bytes = vfs.get(&path).expect("listed just now");
        if path.ends_with("meta.json") {
            bytes = change(String::from_utf8(bytes).expect("JSON")).into_bytes();
        }
        vfs.put(&dir().join(to).join(path.strip_prefix(&source).expect("below it")), &bytes);
    }
}

fn remove(vfs: &SimVfs, path: &Path) {
    match vfs.metadata(path).expect("stat") {
        Some(metadata) if metadata.is_dir => remove_dir_all(vfs, path).expect("removed"),
        Some(_) => vfs.remove_file(path).expect("removed"),
        None => {}
    }
}

#[test]
fn strangers_are_left_alone() {
    check("unknown files and directories", false, |vfs| {
        for path in
            ["notes.txt", "wal/readme", "wal/00000x", "lost+found/a", "chunks_head/x", "wbl/x", "queries.active"]
        {
            vfs.put(&dir().join(path), b"hello");
        }
    });
    check("leftovers of writers", false, |vfs| {
        let leftovers = [
            format!("{ULID}.tmp-for-creation/meta.json"),
            format!("{ULID}.tmp-for-deletion/index"),
            format!("{ULID}.tmp/chunks/000001"),
            "wal/checkpoint.00000003.tmp/00000000".to_owned(),
            "chunk_snapshot.000003.0000000001.tmp/00000000".to_owned(),
        ];
        leftovers.iter().for_each(|path| vfs.put(&dir().join(path), b"half"));
    });
    check("an empty directory in the place of a block", false, |vfs| {
        vfs.create_dir(&dir().join(ULID)).expect("made");
    });
}

#[test]
fn odd_logs_are_read_as_far_as_they_go() {
    check("a gap in the log", true, |vfs| {
        let last = vfs.files().into_iter().rfind(|p| p.parent() == Some(&dir().join("wal"))).expect("a segment");
        let bytes = vfs.get(&last).expect("listed just now");
        vfs.put(&dir().join("wal/00000999"), &bytes);
    });
    check("a leftover of a repair", true, |vfs| {
        let last = vfs.files().into_iter().rfind(|p| p.parent() == Some(&dir().join("wal"))).expect("a segment");
        let bytes = vfs.get(&last).expect("listed just now");
        vfs.put(&last.with_extension("repair"), &bytes);
    });
    check("an empty checkpoint", false, |vfs| {
        vfs.create_dir(&dir().join("wal/checkpoint.00000000")).expect("made");
    });
    check("an empty segment at the end", false, |vfs| vfs.put(&dir().join("wal/00000500"), b""));
    check("an empty file of the head's chunks", false, |vfs| vfs.put(&dir().join("chunks_head/000900"), b""));
    check("no chunks of the head", false, |vfs| remove(vfs, &dir().join("chunks_head")));
}

#[test]
fn odd_blocks_cost_themselves_at_most() {
    for part in ["index", "chunks", "chunks/000001", "meta.json", "tombstones"] {
        check(&format!("a block without {part}"), part != "tombstones", |vfs| {
            if let Some(block) = blocks(vfs).first() {
                remove(vfs, &dir().join(block).join(part));
            }
        });
        // Without knowing what was deleted a block is not shown.
        check(&format!("a block with an empty {part}"), true, |vfs| {
            if let Some(block) = blocks(vfs).first()
                && part != "chunks"
            {
                vfs.put(&dir().join(block).join(part), b"");
            }
        });
    }
    check("a block twice, under two names", false, |vfs| {
        if let Some(block) = blocks(vfs).first() {
            copy_block(vfs, block, ULID, |meta| meta.replace(block, ULID));
        }
    });
    check("a block whose meta.json has another name", false, |vfs| {
        if let Some(block) = blocks(vfs).first() {
            copy_block(vfs, block, ULID, |meta| meta);
        }
    });
}
