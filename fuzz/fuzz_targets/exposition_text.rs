//! The Prometheus text format is read to its end or to its first mistake, with any options.

#![no_main]

use fk_exposition::MediaType;
use libfuzzer_sys::fuzz_target;

mod exposition;

fuzz_target!(|data: &[u8]| exposition::read(data, MediaType::Text));
