//! Queries over small data: an answer or an error, no panic, and all memory given back.

#![no_main]

#[path = "../../crates/promql/tests/random/generator.rs"]
mod generator;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    generator::evaluate_anything(bytes);
});
