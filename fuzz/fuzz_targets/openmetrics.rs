//! OpenMetrics text is read to its end or to its first mistake, whose place is in it.

#![no_main]

use fk_exposition::{OpenMetricsEntry, OpenMetricsParser};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let mut parser = OpenMetricsParser::new(body);
    loop {
        match parser.next() {
            Ok(Some(OpenMetricsEntry::Sample(sample))) => {
                assert!(body[sample.offset..].starts_with(sample.series));
                parser.for_each_label(|_, _| {});
                parser.for_each_exemplar_label(|_, _| {});
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                assert!(error.offset <= body.len());
                break;
            }
        }
    }
});
