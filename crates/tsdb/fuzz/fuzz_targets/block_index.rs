//! Any bytes as the index of a block: refused, or everything in it can be asked for. Checksums are not looked at when
//! fuzzing.
#![no_main]

use std::path::PathBuf;

use fk_block::index::{Index, SeriesEntry};
use libfuzzer_sys::fuzz_target;

/// Series that are looked at.
const SERIES_MAX: usize = 1000;

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = Index::parse(bytes::Bytes::copy_from_slice(bytes), PathBuf::from("index")) else { return };
    assert!(index.memory_bytes() <= 64 * bytes.len() + 4096);
    index.symbols().for_each(drop);
    let mut entry = SeriesEntry::default();
    let names: Vec<String> = index.names().map(str::to_owned).collect();
    for name in &names {
        let mut before: Option<String> = None;
        for value in index.values(name) {
            let Ok(value) = value else { break };
            assert!(before.as_deref().is_none_or(|before| before < value.value));
            before = Some(value.value.to_owned());
            assert!(!matches!(index.series_with(name, value.value), Ok(None)));
            let (Ok(n), Ok(list)) = (index.n_series_of(&value), index.series_of(&value)) else { continue };
            assert_eq!(n, list.len());
            for series in list.iter().take(SERIES_MAX) {
                if index.series(series, &mut entry).is_ok() {
                    let _ = index.labels(&entry);
                    assert!(entry.chunks.len() <= bytes.len());
                }
            }
        }
    }
    if let Ok(all) = index.all_series() {
        for series in all.iter().take(SERIES_MAX) {
            let _ = index.series(series, &mut entry);
        }
    }
});
