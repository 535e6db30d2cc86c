//! Any bytes as `meta.json`: refused, or what it says comes back, sections of others included.
#![no_main]

use fk_block::BlockMeta;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(meta) = BlockMeta::parse(bytes) else { return };
    assert_eq!(BlockMeta::parse(&meta.to_json()).expect("ours"), meta);
});
