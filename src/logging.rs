//! Log lines in the two forms of Prometheus: logfmt (`time=... level=INFO source=file.rs:1 msg="..." key=value`) and JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use chrono::{SecondsFormat, Utc};
use log::kv::{self, Key, Value, VisitSource};
use log::{LevelFilter, Record};

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `key=value`, quoted where needed.
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Sends all log lines of the process to standard error. The first call counts; further ones change nothing.
pub fn init(level: LevelFilter, format: Format) {
    let started = env_logger::Builder::new()
        // Libraries are heard only when they have something to warn of.
        .filter_level(LevelFilter::Warn)
        .filter_module("firekeeper", level)
        .filter_module("fk_", level)
        .format(move |out, record| {
            let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
            let line = match format {
                Format::Logfmt => logfmt(&time, record),
                Format::Json => json(&time, record),
            };
            out.write_all(line.as_bytes())
        })
        .try_init();
    if started.is_err() {
        log::debug!("logging was set up before");
    }
}

fn source(record: &Record<'_>) -> String {
    let file = record.file().unwrap_or("unknown");
    let file = file.rsplit('/').next().unwrap_or(file);
    format!("{file}:{}", record.line().unwrap_or(0))
}

fn logfmt(time: &str, record: &Record<'_>) -> String {
    struct Pairs<'a>(&'a mut String);

    impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            self.0.push(' ');
            self.0.push_str(key.as_str());
            self.0.push('=');
            push_logfmt(self.0, &value.to_string());
            Ok(())
        }
    }

    let mut line = format!("time={time} level={} source={} msg=", record.level(), source(record));
    push_logfmt(&mut line, &record.args().to_string());
    // Visiting fails only if the visitor does.
    let _ = record.key_values().visit(&mut Pairs(&mut line));
    line.push('\n');
    line
}

/// Appends `text`, quoted as Go does if it holds anything that logfmt readers could stumble over.
fn push_logfmt(line: &mut String, text: &str) {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(text);
    } else {
        // Writing to a String cannot fail.
        let _ = fk_model::labels::write_quoted(line, text);
    }
}

fn json(time: &str, record: &Record<'_>) -> String {
    struct Pairs<'a>(&'a mut String);

    impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            let text = match (value.to_u64(), value.to_i64(), value.to_bool()) {
                (Some(n), _, _) => n.to_string(),
                (_, Some(n), _) => n.to_string(),
                (_, _, Some(b)) => b.to_string(),
                _ => serde_json::Value::String(value.to_string()).to_string(),
            };
            let _ = write!(self.0, ",{}:{text}", serde_json::Value::String(key.to_string()));
            Ok(())
        }
    }

    let text = |s: String| serde_json::Value::String(s).to_string();
    let mut line = format!(
        "{{\"time\":\"{time}\",\"level\":\"{}\",\"source\":{},\"msg\":{}",
        record.level(),
        text(source(record)),
        text(record.args().to_string())
    );
    let _ = record.key_values().visit(&mut Pairs(&mut line));
    line.push_str("}\n");
    line
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    fn record_with(check: impl Fn(&Record<'_>)) {
        let pairs = [("component", Value::from("web")), ("n", Value::from(5)), ("err", Value::from("a \"b\""))];
        check(
            &Record::builder()
                .args(format_args!("Server is ready to receive web requests."))
                .level(Level::Info)
                .file(Some("src/actors/lifecycle.rs"))
                .line(Some(7))
                .key_values(&&pairs[..])
                .build(),
        );
    }

    #[test]
    fn logfmt_lines() {
        record_with(|record| {
            assert_eq!(
                logfmt("T", record),
                "time=T level=INFO source=lifecycle.rs:7 msg=\"Server is ready to receive web requests.\" component=web n=5 \
                 err=\"a \\\"b\\\"\"\n"
            );
        });
    }

    #[test]
    fn json_lines_are_json() {
        record_with(|record| {
            let line: serde_json::Value = serde_json::from_str(&json("T", record)).unwrap();
            assert_eq!(line["msg"], "Server is ready to receive web requests.");
            assert_eq!((&line["n"], &line["err"]), (&serde_json::json!(5), &serde_json::json!("a \"b\"")));
        });
    }
}
