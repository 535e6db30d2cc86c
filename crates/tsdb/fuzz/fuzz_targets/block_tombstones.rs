//! Any bytes as tombstones: refused, or they come back. Checksums are not looked at when fuzzing.
#![no_main]

use std::path::Path;

use fk_block::Tombstones;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("tombstones");
    let Ok(tombstones) = Tombstones::parse(bytes, path) else { return };
    assert!(tombstones.len() <= bytes.len() / 3);
    for (series, intervals) in tombstones.iter() {
        assert!(intervals.iter().all(|interval| interval.mint <= interval.maxt), "{series}");
        assert!(intervals.windows(2).all(|pair| pair[0].maxt < pair[1].mint), "{series}");
    }
    assert_eq!(Tombstones::parse(&tombstones.to_bytes(), path).expect("ours"), tombstones);
});
