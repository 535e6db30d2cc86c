//! A query parses or fails; what parses prints to something that parses to the same.

#![no_main]

use fk_promql_syntax::{ParserOptions, parse, prettify};
use libfuzzer_sys::fuzz_target;

/// A range below a millisecond prints as `0s`, which is no range.
fn vanishes(printed: &str) -> bool {
    printed.contains("[0s") || printed.contains(":0s]")
}

fuzz_target!(|text: &str| {
    let options = ParserOptions::all();
    let Ok(expr) = parse(text, &options) else { return };
    let printed = expr.to_string();
    if vanishes(&printed) {
        return;
    }
    let again = parse(&printed, &options).expect("what is printed parses");
    assert_eq!(again.to_string(), printed);
    let pretty = parse(&prettify(&expr), &options).expect("what is formatted parses");
    assert_eq!(pretty.to_string(), printed);
});
