//! A template of an alert parses and expands, or is refused; never for long, never to more than a label can be.

#![no_main]

use fk_model::labels::STRING_BYTES_MAX;
use fk_model::{Labels, SampleValue};
use fk_template::{AlertData, Functions, QuerySample, Template};
use libfuzzer_sys::fuzz_target;

struct World;

impl Functions for World {
    fn query(&self, expr: &str) -> Result<Vec<QuerySample>, String> {
        let sample = |job: &str, v| QuerySample { labels: Labels::from_pairs([("job", job)]), value: SampleValue::Float(v) };
        if expr.is_empty() { Err("no query".to_owned()) } else { Ok(vec![sample("b", 2.0), sample("a", f64::NAN)]) }
    }

    fn now_ms(&self) -> i64 {
        1_353_755_652_000
    }

    fn external_url(&self) -> &str {
        "http://h:9090/path"
    }
}

fuzz_target!(|text: &str| {
    let Ok(template) = Template::parse("fuzz", text) else { return };
    let labels = Labels::from_pairs([("__name__", "up"), ("instance", "host:9100"), ("job", "node")]);
    let external_labels = Labels::from_pairs([("region", "north")]);
    let value = SampleValue::Float(0.125);
    let data = AlertData { labels: &labels, external_labels: &external_labels, external_url: "http://h", value: &value };
    if let Ok(expanded) = template.expand(&data, &World) {
        assert!(expanded.len() <= STRING_BYTES_MAX.max(text.len()));
    }
});
