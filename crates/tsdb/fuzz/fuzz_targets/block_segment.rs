//! Any bytes as a chunk segment: refused, or walked to the end. Checksums are not looked at when fuzzing.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(n) = fk_block::segments::walk(bytes, Path::new("000001")) {
        assert!(n <= bytes.len() / 6);
    }
});
