//! Any bytes as the manifest of an image of the head, and as changes of an image: refused, or a head that works. Checksums
//! fit.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fk_tsdb::fuzzing::manifest(bytes);
    fk_tsdb::fuzzing::patched_image(bytes);
});
