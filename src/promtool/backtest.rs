//! `promtool rules backtest`: a rule group over a data directory, which is only read, or on a server.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use fk_http::Client;
use fk_model::Duration as ModelDuration;
use fk_promql_syntax::ParserOptions;
use fk_promtool::{Result, ToolError};
use fk_storage::Control;
use fk_tsdb::readonly::ReadOnlyDb;
use fk_vfs::{OsVfs, Vfs};
use serde_json::Value;
use url::Url;

use super::{PROMETHEUS_VERSION, contents, go_duration_ms, time_s};
use crate::backtest::{Asked, plain_world, run, shown};

/// How much longer than the backtest the answer of a server may take.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);

/// Run a rule group over stored data: when its alerts would have been pending, firing and resolved.
#[derive(Args)]
pub(super) struct Backtest {
    /// The first evaluation time at the earliest: RFC 3339 or a Unix timestamp.
    #[arg(long)]
    start: String,
    /// The last evaluation time at the latest; now if not given.
    #[arg(long)]
    end: Option<String>,
    /// The data directory to read.
    #[arg(long, default_value = "data/", conflicts_with = "url")]
    path: PathBuf,
    /// The server to ask instead.
    #[arg(long)]
    url: Option<Url>,
    /// How long it may take.
    #[arg(long, value_parser = go_duration_ms, default_value = "2m")]
    timeout: i64,
    /// How frequently a group is evaluated that does not say it.
    #[arg(long, value_parser = go_duration_ms, default_value = "60s")]
    eval_interval: i64,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    /// The path under which the server knows the rule file: the evaluation times of a group depend on it.
    #[arg(long, default_value = "")]
    rule_file: String,
    /// A file with one rule group.
    file: PathBuf,
}

/// Runs it and prints the timeline.
pub(super) fn backtest(command: Backtest, parser: ParserOptions, out: &mut dyn Write) -> Result<()> {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let text = contents(&*vfs, command.file.clone())?;
    let rules = String::from_utf8_lossy((*text).as_ref()).into_owned();
    let now_s = chrono::Utc::now().timestamp();
    let start_ms = time_s(&command.start, "start")?.saturating_mul(1000);
    let end_ms = command.end.as_deref().map_or(Ok(now_s), |end| time_s(end, "end"))?.saturating_mul(1000);
    let asked = Asked { rules, file: command.rule_file.clone(), start_ms, end_ms };
    let timeout = Duration::from_millis(command.timeout.max(1).unsigned_abs());
    let report = match &command.url {
        Some(url) => ask(url, &asked, timeout)?,
        None => {
            let db = ReadOnlyDb::open(vfs, &command.path, &|_| {}).map_err(|error| other(&error))?;
            let world = plain_world(parser, ModelDuration(command.eval_interval.max(1)));
            let control = Control::until(Instant::now() + timeout);
            let result = run(&asked, &world, &db.reader(), &control).map_err(|error| other(&error))?;
            serde_json::to_value(shown(result)).map_err(|error| other(&error))?
        }
    };
    if command.json {
        writeln!(out, "{report}")?;
        return Ok(());
    }
    print(&report, out)
}

/// Has a server run it.
fn ask(url: &Url, asked: &Asked, timeout: Duration) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| other(&error))?;
    let client = Client::new(&fk_config::HttpClientConfig::default()).map_err(|error| other(&error))?;
    let endpoint = format!("{}/api/v1/ext/rules/backtest", url.as_str().trim_end_matches('/'));
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("rules", &asked.rules)
        .append_pair("file", &asked.file)
        .append_pair("start", &seconds(asked.start_ms))
        .append_pair("end", &seconds(asked.end_ms))
        .append_pair("timeout", &format!("{}", timeout.as_secs_f64()))
        .finish();
    let agent = format!("promtool/{PROMETHEUS_VERSION}");
    let answer = runtime.block_on(client.post_form(&endpoint, &agent, form, timeout + ANSWER_MARGIN));
    let body = answer.map_err(|error| other(&error))?;
    let mut answer: Value = serde_json::from_slice(&body)
        .map_err(|_| other(&format!("{endpoint}: the answer is no JSON: {}", String::from_utf8_lossy(&body))))?;
    match answer["status"].as_str() {
        Some("success") => Ok(answer["data"].take()),
        _ => Err(other(&format!("{endpoint}: {}", answer["error"].as_str().unwrap_or("unknown answer")))),
    }
}

/// The timeline for people.
fn print(report: &Value, out: &mut dyn Write) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    writeln!(
        out,
        "{} evaluations from {} to {}",
        report["evaluations"],
        text(&report["firstEvaluation"]),
        text(&report["lastEvaluation"])
    )?;
    for rule in list(&report["rules"]) {
        if rule["failures"] != 0 {
            let (name, error) = (text(&rule["name"]), text(&rule["firstError"]));
            writeln!(
                out,
                "rule {name} failed {} times, first at {}: {error}",
                rule["failures"],
                text(&rule["firstFailure"])
            )?;
        }
    }
    for alert in list(&report["alerts"]) {
        writeln!(out, "{}", alert["labels"])?;
        for event in list(&alert["events"]) {
            writeln!(out, "  {} {} {}", text(&event["time"]), text(&event["state"]), text(&event["value"]))?;
        }
    }
    writeln!(out, "{} notifications, {} alerts sent with repeats", report["notifications"], report["sends"])?;
    match text(&report["stopped"]).as_str() {
        "" => Ok(()),
        reason => Err(ToolError::Other(format!("ended early: {reason}"))),
    }
}

fn other(error: &dyn std::fmt::Display) -> ToolError {
    ToolError::Other(error.to_string())
}
