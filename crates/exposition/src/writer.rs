//! Text format 0.0.4, written: the server's own metrics and federation.

use fk_model::name::{is_legacy_label_name, is_legacy_metric_name};

use crate::MetricType;
use crate::float::format_go_float;

/// Content-Type of what [`TextWriter`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8";

/// Writes metric families one after another into one text.
#[derive(Clone, Debug, Default)]
pub struct TextWriter {
    out: String,
}

impl TextWriter {
    /// Empty.
    pub fn new() -> TextWriter {
        TextWriter::default()
    }

    /// The header of a family: HELP if there is one, and TYPE.
    pub fn family(&mut self, name: &str, kind: MetricType, help: Option<&str>) -> &mut Self {
        if let Some(help) = help {
            self.out.push_str("# HELP ");
            self.name(name);
            self.out.push(' ');
            self.escaped(help, false);
            self.out.push('\n');
        }
        self.out.push_str("# TYPE ");
        self.name(name);
        self.out.push(' ');
        self.out.push_str(if kind == MetricType::Unknown { "untyped" } else { kind.name() });
        self.out.push('\n');
        self
    }

    /// One sample; `timestamp` in ms. Names that are not legacy names are quoted, the metric name inside the braces then.
    pub fn sample<'l>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: f64,
        timestamp: Option<i64>,
    ) -> &mut Self {
        let plain_name = is_legacy_metric_name(name);
        if plain_name {
            self.out.push_str(name);
        } else {
            self.out.push('{');
            self.name(name);
        }
        let mut open = !plain_name;
        for (label, value) in labels {
            self.out.push(if open { ',' } else { '{' });
            open = true;
            if is_legacy_label_name(label) {
                self.out.push_str(label);
            } else {
                self.quoted(label);
            }
            self.out.push('=');
            self.quoted(value);
        }
        self.out.push_str(if open { "} " } else { " " });
        self.out.push_str(&format_go_float(value));
        if let Some(t) = timestamp {
            self.out.push(' ');
            self.out.push_str(&t.to_string());
        }
        self.out.push('\n');
        self
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.out
    }

    fn name(&mut self, name: &str) {
        if is_legacy_metric_name(name) {
            self.out.push_str(name);
        } else {
            self.quoted(name);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        self.escaped(text, true);
        self.out.push('"');
    }

    fn escaped(&mut self, text: &str, quotes: bool) {
        for c in text.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '"' if quotes => self.out.push_str("\\\""),
                c => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_with_escapes_and_quoted_names() {
        let mut writer = TextWriter::new();
        writer.family("up", MetricType::Gauge, Some("Is it\nup?")).sample("up", [("job", "a\"b")], 1.0, None).sample(
            "up",
            [],
            f64::NAN,
            Some(1500),
        );
        writer.family("my.metric", MetricType::Unknown, None).sample("my.metric", [("a.b", "c\\d")], 1e6, None);
        let expected = concat!(
            "# HELP up Is it\\nup?\n# TYPE up gauge\nup{job=\"a\\\"b\"} 1\nup NaN 1500\n",
            "# TYPE \"my.metric\" untyped\n{\"my.metric\",\"a.b\"=\"c\\\\d\"} 1e+06\n",
        );
        assert_eq!(writer.finish(), expected);
    }
}
