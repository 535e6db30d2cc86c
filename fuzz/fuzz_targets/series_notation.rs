//! Series notation parses or fails.

#![no_main]

use fk_promql_syntax::parse_series_desc;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_series_desc(text);
});
