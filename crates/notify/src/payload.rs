//! The JSON that Alertmanager's `/api/v2/alerts` takes, byte for byte as Prometheus posts it.
//!
//! ```text
//! [{"annotations":{..},"endsAt":"2026-01-01T00:04:00.000Z","startsAt":"2026-01-01T00:00:00.000Z",
//!   "generatorURL":"http://..","labels":{..}}, ..]
//! ```
//! Times are UTC with milliseconds; empty annotations and an empty generator URL are left out; `<`, `>` and `&` are
//! escaped as Go's `encoding/json` does.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};

use crate::Alert;

/// The body of one post.
pub fn payload(alerts: &[Arc<Alert>]) -> Vec<u8> {
    let mut out = String::with_capacity(512 * alerts.len() + 2);
    out.push('[');
    for (idx, alert) in alerts.iter().enumerate() {
        if idx > 0 {
            out.push(',');
        }
        write_alert(&mut out, alert);
    }
    out.push(']');
    out.into_bytes()
}

fn write_alert(out: &mut String, alert: &Alert) {
    out.push('{');
    if !alert.annotations.is_empty() {
        out.push_str("\"annotations\":");
        write_object(out, alert.annotations.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        out.push(',');
    }
    out.push_str("\"endsAt\":\"");
    write_time(out, alert.ends_at_ns);
    out.push_str("\",\"startsAt\":\"");
    write_time(out, alert.starts_at_ns);
    out.push_str("\",");
    if !alert.generator_url.is_empty() {
        out.push_str("\"generatorURL\":");
        write_string(out, &alert.generator_url);
        out.push(',');
    }
    out.push_str("\"labels\":");
    write_object(out, alert.labels.iter());
    out.push('}');
}

fn write_object<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    for (idx, (name, value)) in pairs.enumerate() {
        if idx > 0 {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        write_string(out, value);
    }
    out.push('}');
}

fn write_time(out: &mut String, ns: i64) {
    out.push_str(&DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Millis, true));
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (c as u32 >> shift) as usize & 15;
                    out.push(char::from(b"0123456789abcdef"[digit]));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use fk_model::Labels;
    use proptest::prelude::*;

    use super::*;

    fn alert() -> Alert {
        Alert {
            instance: 7,
            labels: Labels::from_pairs([("severity", "page"), ("alertname", "High")]),
            annotations: vec![
                ("empty".to_owned(), String::new()),
                ("summary".to_owned(), "a < b & \"c\"\u{1}".to_owned()),
            ],
            starts_at_ns: 1_767_225_600_123_456_789,
            ends_at_ns: 1_767_225_840_000_000_000,
            generator_url: "http://h/graph?g0.expr=up&g0.tab=1".to_owned(),
        }
    }

    #[test]
    fn alerts_are_written_as_prometheus_posts_them() {
        let expected = concat!(
            r#"[{"annotations":{"empty":"","summary":"a \u003c b \u0026 \"c\"\u0001"},"#,
            r#""endsAt":"2026-01-01T00:04:00.000Z","startsAt":"2026-01-01T00:00:00.123Z","#,
            r#""generatorURL":"http://h/graph?g0.expr=up\u0026g0.tab=1","#,
            r#""labels":{"alertname":"High","severity":"page"}},"#,
            r#"{"endsAt":"2026-01-01T00:04:00.000Z","startsAt":"2026-01-01T00:00:00.123Z","labels":{}}]"#,
        );
        let bare = Alert { labels: Labels::empty(), annotations: Vec::new(), generator_url: String::new(), ..alert() };
        let body = payload(&[Arc::new(alert()), Arc::new(bare)]);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    fn check_string(text: &str) {
        let mut out = String::new();
        write_string(&mut out, text);
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text, "{out}");
    }

    #[test]
    fn special_characters_survive_a_json_reader() {
        for text in ["", "\"\\\n\r\t\u{8}\u{c}\u{1f}\u{7f}", "<>&\u{2028}\u{2029}", "日本 \u{10ffff}"] {
            check_string(text);
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_a_json_reader(text in any::<String>()) {
            check_string(&text);
        }
    }
}
