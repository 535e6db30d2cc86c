//! An expression compiles or fails; the shortcuts agree with the engine. First line: the expression; the rest: a text.

#![no_main]

use fk_model::Regex;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (source, text) = input.split_once('\n').unwrap_or((input, ""));
    let Ok(regex) = Regex::new(source) else { return };
    let matches = regex.is_match(text);
    assert_eq!(regex.expand(text, "$0$1").is_some(), matches);
    if let Some(texts) = regex.set_matches() {
        assert_eq!(texts.iter().any(|t| t == text), matches);
    }
    if matches {
        assert!(text.starts_with(regex.prefix().unwrap_or("")));
    }
});
