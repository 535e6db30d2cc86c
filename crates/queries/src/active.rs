//! `queries.active`: which queries run, in a file, so that a crash tells what it interrupted. Prometheus' file, in its form:
//! a `[`, then for each slot [`ENTRY_BYTES`] bytes with a JSON object, zeros, and a comma at the end; only zeros if the slot
//! is free.
//!
//! Written with positioned writes and not through a mapping, so that a full disk or a file cut short by somebody else
//! cannot end the process. The file is a help for people: what goes wrong with it is logged once and hurts no query.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Bytes of a slot.
pub const ENTRY_BYTES: usize = 1000;

const FILE_NAME: &str = "queries.active";

/// Most bytes of an old file that are read.
const OLD_BYTES_MAX: u64 = 16 << 20;

/// The file, open.
#[derive(Debug)]
pub(crate) struct ActiveFile {
    file: File,
    /// Free slots, the lowest last.
    free: Mutex<Vec<usize>>,
    complained: AtomicBool,
}

impl ActiveFile {
    /// Logs what a file that was left behind says, and begins a new one with room for `slots` queries.
    pub(crate) fn open(dir: &Path, slots: usize) -> std::io::Result<ActiveFile> {
        let path = dir.join(FILE_NAME);
        if let Some(queries) = unfinished(&path) {
            // Text as in Prometheus:
            log::info!(component = "activeQueryTracker", queries = queries.as_str(); "These queries didn't finish in prometheus' last run:");
        }
        let mut file = File::create(&path)?;
        let mut empty = vec![0; 1 + slots * ENTRY_BYTES];
        empty[0] = b'[';
        file.write_all(&empty)?;
        Ok(ActiveFile { file, free: Mutex::new((0..slots).rev().collect()), complained: AtomicBool::new(false) })
    }

    /// Notes a query that begins; its slot, if there is one free.
    pub(crate) fn insert(&self, text: &str, now_s: i64) -> Option<usize> {
        let slot = self.free.lock().pop()?;
        self.write(slot, &entry(text, now_s));
        Some(slot)
    }

    /// The query in this slot has ended.
    pub(crate) fn remove(&self, slot: usize) {
        self.write(slot, &[0; ENTRY_BYTES]);
        self.free.lock().push(slot);
    }

    fn write(&self, slot: usize, bytes: &[u8]) {
        let at = 1 + slot * ENTRY_BYTES;
        if let Err(error) = self.file.write_all_at(bytes, at as u64)
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            log::warn!(component = "activeQueryTracker", err = error.to_string().as_str(); "cannot write {FILE_NAME}");
        }
    }
}

/// The queries of a file that was left behind, as a JSON list.
fn unfinished(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(OLD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    bytes.retain(|byte| *byte != 0);
    let text = String::from_utf8_lossy(&bytes);
    let queries = text.strip_suffix(',')?;
    Some(format!("{queries}]"))
}

/// A slot's bytes: as much of the query as fits.
fn entry(text: &str, now_s: i64) -> Vec<u8> {
    let object = |text: &str| serde_json::json!({ "query": text, "timestamp_sec": now_s }).to_string();
    let mut end = text.len().min(ENTRY_BYTES);
    let mut json = loop {
        end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let json = object(&text[..end]);
        match json.len().checked_sub(ENTRY_BYTES - 1) {
            // What is escaped takes several bytes, so not more than the excess is too much.
            Some(excess @ 1..) if end > 0 => end = end.saturating_sub(excess.div_ceil(6).max(1)),
            _ => break json.into_bytes(),
        }
    };
    json.resize(ENTRY_BYTES, 0);
    json[ENTRY_BYTES - 1] = b',';
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_running_is_found_after_a_crash() {
        let dir = fk_testkit::TempDir::new("active");
        let path = dir.path().join(FILE_NAME);
        assert_eq!(unfinished(&path), None, "no file");
        let file = ActiveFile::open(dir.path(), 3).expect("writable");
        assert_eq!(unfinished(&path), None, "nothing runs");
        let first = file.insert("up", 5).expect("a free slot");
        let second = file.insert("sum(\"<é>\")", 6).expect("a free slot");
        assert_eq!((first, second), (0, 1));
        let bytes = std::fs::read(&path).expect("readable");
        assert_eq!(bytes.len(), 1 + 3 * ENTRY_BYTES);
        assert!(bytes.starts_with(b"[{\"query\":\"up\",\"timestamp_sec\":5}\0") && bytes[ENTRY_BYTES] == b',');
        let listed: serde_json::Value = serde_json::from_str(&unfinished(&path).expect("two")).expect("JSON");
        assert_eq!((&listed[0]["query"], &listed[1]["query"]), (&"up".into(), &"sum(\"<é>\")".into()));
        file.remove(first);
        assert_eq!(file.insert("b", 7), Some(0), "slots are used again");
        file.insert("c", 7);
        assert_eq!(file.insert("d", 7), None, "no more than there are slots");
        let again = ActiveFile::open(dir.path(), 1).expect("writable");
        assert_eq!(unfinished(&path), None, "the new file knows nothing of the last run");
        drop(again);
    }

    #[test]
    fn long_queries_are_cut() {
        for text in ["é\"".repeat(2000), "\u{1}".repeat(5000), "x".repeat(959), String::new()] {
            let bytes = entry(&text, 1_700_000_000);
            assert_eq!((bytes.len(), bytes[ENTRY_BYTES - 1]), (ENTRY_BYTES, b','));
            let json: Vec<u8> = bytes[..ENTRY_BYTES - 1].iter().copied().take_while(|byte| *byte != 0).collect();
            let read: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            let query = read["query"].as_str().expect("a text");
            assert!(text.starts_with(query) && (query.len() == text.len() || json.len() > ENTRY_BYTES - 20), "{query}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_hurts_nobody() {
        let dir = fk_testkit::TempDir::new("active");
        let mut file = ActiveFile::open(dir.path(), 1).expect("writable");
        file.file = File::open(dir.path().join(FILE_NAME)).expect("readable");
        let slot = file.insert("up", 5).expect("a slot");
        file.remove(slot);
        assert!(file.complained.load(Ordering::Relaxed));
    }
}
