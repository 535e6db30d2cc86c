//! The commands of `promtool` that talk to a server: `query`, `push` and `debug`. Their flags, and the requests they send.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fk_http::{Ask, Client};
use fk_promtool::archive::Archive;
use fk_promtool::push::{self, Message};
use fk_promtool::query::{self, Format};
use fk_promtool::{Result, ToolError, usage};
use tokio::runtime::Runtime;

use super::key_value;
use crate::cli::{self, PROMETHEUS_VERSION};

/// How long one query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long one piece of debug information may take: profiles are recorded for half a minute.
const DEBUG_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Largest exposition that is pushed.
const PUSHED_BYTES_MAX: u64 = 1 << 30;
/// Range of `series` and `labels` before and behind now, s.
const WIDE_S: f64 = 9999.0 * 3600.0;
/// Range of a range query without a start, s.
const RANGE_S: f64 = 300.0;
/// Points of a range query without a step.
const POINTS: f64 = 250.0;
/// What `debug` writes.
const ARCHIVE: &str = "debug.tar.gz";

/// Paths of profiles, and what they are called in the archive.
const PROFILES: &[(&str, &str)] = &[
    ("/debug/pprof/profile?seconds=30", "cpu.pb"),
    ("/debug/pprof/block", "block.pb"),
    ("/debug/pprof/goroutine", "goroutine.pb"),
    ("/debug/pprof/heap", "heap.pb"),
    ("/debug/pprof/mutex", "mutex.pb"),
    ("/debug/pprof/threadcreate", "threadcreate.pb"),
    ("/debug/pprof/trace?seconds=30", "trace.pb"),
];
const METRICS: &[(&str, &str)] = &[("/metrics", "metrics.txt")];

#[derive(Args)]
pub(super) struct Connection {
    /// HTTP client configuration file.
    #[arg(long = "http.config.file", global = true)]
    http_config: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum OutputFormat {
    Promql,
    Json,
}

#[derive(Subcommand)]
pub(super) enum Query {
    /// Run instant query.
    Instant {
        /// Query evaluation time (RFC3339 or Unix timestamp).
        #[arg(long, allow_hyphen_values = true)]
        time: Option<String>,
        /// Extra headers to send to server.
        #[arg(long = "header", value_parser = key_value)]
        headers: Vec<(String, String)>,
        /// Prometheus server to query.
        server: String,
        /// PromQL query expression.
        expr: String,
    },
    /// Run range query.
    Range {
        /// Extra headers to send to server.
        #[arg(long = "header", value_parser = key_value)]
        headers: Vec<(String, String)>,
        /// Query range start time (RFC3339 or Unix timestamp).
        #[arg(long, allow_hyphen_values = true)]
        start: Option<String>,
        /// Query range end time (RFC3339 or Unix timestamp).
        #[arg(long, allow_hyphen_values = true)]
        end: Option<String>,
        /// Query step size (duration).
        #[arg(long, value_parser = cli::parse_go_duration)]
        step: Option<i64>,
        /// Prometheus server to query.
        server: String,
        /// PromQL query expression.
        expr: String,
    },
    /// Run series query.
    Series {
        /// Series selector. Can be specified multiple times.
        #[arg(long = "match", required = true)]
        selectors: Vec<String>,
        /// Start time (RFC3339 or Unix timestamp).
        #[arg(long, allow_hyphen_values = true)]
        start: Option<String>,
        /// End time (RFC3339 or Unix timestamp).
        #[arg(long, allow_hyphen_values = true)]
        end: Option<String>,
        /// Prometheus server to query.
        server: String,
    },
    /// Run labels query.
    Labels {
        /// Start time (RFC3339 or Unix timestamp).
        #[arg(long, allow_hyphen_values = true)]
        start: Option<String>,
        /// End time (RFC3339 or Unix timestamp).
        #[arg(long, allow_hyphen_values = true)]
        end: Option<String>,
        /// Series selector. Can be specified multiple times.
        #[arg(long = "match")]
        selectors: Vec<String>,
        /// Prometheus server to query.
        server: String,
        /// Label name to provide label values for.
        name: String,
    },
    /// Run queries against your Prometheus to analyze the usage pattern of certain metrics.
    Analyze {
        /// Prometheus server to query.
        #[arg(long)]
        server: String,
        /// Type of metric: histogram.
        #[arg(long = "type")]
        kind: String,
        /// Time frame to analyze.
        #[arg(long, value_parser = cli::parse_go_duration, default_value = "1h")]
        duration: i64,
        /// Query time (RFC3339 or Unix timestamp), defaults to now.
        #[arg(long, allow_hyphen_values = true)]
        time: Option<String>,
        /// Series selector. Can be specified multiple times.
        #[arg(long = "match", required = true)]
        selectors: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(super) enum Push {
    /// Push metrics to a prometheus remote write (for testing purpose only).
    Metrics {
        /// Label to attach to metrics. Can be specified multiple times.
        #[arg(long = "label", value_parser = key_value, default_value = "job=promtool")]
        labels: Vec<(String, String)>,
        /// The time to wait for pushing metrics.
        #[arg(long, value_parser = cli::parse_go_duration, default_value = "30s")]
        timeout: i64,
        /// Prometheus remote write header.
        #[arg(long = "header", value_parser = key_value)]
        headers: Vec<(String, String)>,
        /// Protobuf message to use: prometheus.WriteRequest or io.prometheus.write.v2.Request.
        #[arg(long = "protobuf_message", default_value = "prometheus.WriteRequest")]
        message: String,
        /// Path of the API behind the URL.
        #[arg(long = "remote-write.path", default_value = "/api/v1/write")]
        path: String,
        /// Prometheus remote write url to push metrics.
        url: String,
        /// The metric files to push, default is read from standard input.
        files: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(super) enum Debug {
    /// Fetch profiling debug information.
    Pprof {
        /// Prometheus server to get pprof files from.
        server: String,
    },
    /// Fetch metrics debug information.
    Metrics {
        /// Prometheus server to get metrics from.
        server: String,
    },
    /// Fetch all debug information.
    All {
        /// Prometheus server to get all debug information from.
        server: String,
    },
}

fn other(error: impl std::fmt::Display) -> ToolError {
    ToolError::Other(error.to_string())
}

/// A server and how to talk to it.
struct Server {
    client: Client,
    runtime: Runtime,
    /// Without a slash at its end.
    url: String,
    headers: Vec<(String, String)>,
}

impl Server {
    fn connect(url: &str, connection: &Connection, extra: Vec<(String, String)>) -> Result<Server> {
        // A host alone is one that speaks HTTP.
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let parsed = url::Url::parse(&url).map_err(|error| other(format!("parse {url:?}: {error}")))?;
        let config = match &connection.http_config {
            // Text as in Prometheus:
            Some(_) if !parsed.username().is_empty() => {
                return Err(other(
                    "Cannot set base auth in the server URL and use a http.config.file at the same time",
                ));
            }
            Some(path) => fk_config::load_http_client(path)
                .map_err(|errors| other(format!("Failed to load HTTP config file: {errors}")))?,
            None => fk_config::HttpClientConfig::default(),
        };
        // Without a provider the first connection would panic; it may have been installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new(&config).map_err(other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut headers = vec![("User-Agent".to_owned(), format!("promtool/{PROMETHEUS_VERSION}"))];
        headers.extend(extra);
        Ok(Server { client, runtime, url: url.trim_end_matches('/').to_owned(), headers })
    }

    fn ask(&self, path: &str, more: &[(&str, &str)], body: Option<&[u8]>, timeout: Duration) -> Result<(u16, Vec<u8>)> {
        let mut headers: Vec<(String, String)> =
            more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // What the user wants wins.
        headers.extend(self.headers.iter().cloned());
        let url = format!("{}{path}", self.url);
        let ask = Ask { url: &url, headers: &headers, body, timeout, body_size_limit: ANSWER_BYTES_MAX };
        self.runtime.block_on(self.client.ask(&ask)).map_err(other)
    }

    /// Posts parameters to the API, or puts them behind the path, and gives the data of the answer.
    fn query(&self, path: &str, params: &[(&str, String)], posts: bool) -> Result<serde_json::Value> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(params);
        let form = form.finish();
        let (status, body) = if posts {
            let kind = [("Content-Type", "application/x-www-form-urlencoded")];
            self.ask(path, &kind, Some(form.as_bytes()), QUERY_TIMEOUT)
        } else {
            self.ask(&format!("{path}?{form}"), &[], None, QUERY_TIMEOUT)
        }
        // Text as in Prometheus:
        .map_err(|error| other(format!("query error: {error}")))?;
        let (data, warnings) = query::data(status, &body)?;
        if !posts {
            for warning in warnings {
                // Text as in Prometheus, whose other commands do not show them:
                eprintln!("query warning: {warning}");
            }
        }
        Ok(data)
    }
}

/// A time as people write it, s; `default` if they do not.
fn time(text: Option<&str>, what: &str, default: f64) -> Result<f64> {
    let Some(text) = text else { return Ok(default) };
    let number = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    let date = || chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros() as f64 / 1e6);
    // Texts as in Prometheus:
    number
        .or_else(date)
        .ok_or_else(|| other(format!("error parsing {what}: cannot parse {text:?} to a valid timestamp")))
}

fn now() -> f64 {
    fk_vfs::wall_clock_ms() as f64 / 1000.0
}

/// `promtool query`
pub(super) fn run_query(
    query: Query,
    format: OutputFormat,
    connection: &Connection,
    out: &mut dyn Write,
) -> Result<()> {
    let format = match format {
        OutputFormat::Promql => Format::Promql,
        OutputFormat::Json => Format::Json,
    };
    match query {
        Query::Instant { time: at, headers, server, expr } => {
            let at = time(at.as_deref(), "evaluation time", now())?;
            let server = Server::connect(&server, connection, headers)?;
            let data = server.query("/api/v1/query", &[("query", expr), ("time", at.to_string())], true)?;
            query::print_value(data, format, out)
        }
        Query::Range { headers, start, end, step, server, expr } => {
            let end = time(end.as_deref(), "end time", now())?;
            let start = time(start.as_deref(), "start time", end - RANGE_S)?;
            if start >= end {
                // Text as in Prometheus:
                return Err(other("start time is not before end time"));
            }
            let step = match step {
                Some(0) | None => ((end - start) / POINTS).floor().max(1.0),
                Some(step_ns) => step_ns as f64 / 1e9,
            };
            let server = Server::connect(&server, connection, headers)?;
            let params =
                [("query", expr), ("start", start.to_string()), ("end", end.to_string()), ("step", step.to_string())];
            query::print_value(server.query("/api/v1/query_range", &params, true)?, format, out)
        }
        Query::Series { selectors, start, end, server } => {
            let params = wide(start.as_deref(), end.as_deref(), selectors)?;
            let server = Server::connect(&server, connection, Vec::new())?;
            query::print_series(server.query("/api/v1/series", &params, true)?, format, out)
        }
        Query::Labels { start, end, selectors, server, name } => {
            let params = wide(start.as_deref(), end.as_deref(), selectors)?;
            let server = Server::connect(&server, connection, Vec::new())?;
            let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
            let path = format!("/api/v1/label/{}/values", name.replace('+', "%20"));
            query::print_values(server.query(&path, &params, false)?, format, out)
        }
        Query::Analyze { server, kind, duration, time: at, selectors } => {
            if kind != "histogram" {
                // Text as in Prometheus:
                return Err(other(format!("analyze type is {kind}, must be 'histogram'")));
            }
            let at = time(at.as_deref(), "time", now())?;
            let server = Server::connect(&server, connection, Vec::new())?;
            let range = fk_model::Duration(duration / 1_000_000).to_string();
            let mut ask = |query: &str| {
                server.query("/api/v1/query", &[("query", query.to_owned()), ("time", at.to_string())], true)
            };
            usage::analyze(&selectors, &range, &mut ask, out)
        }
    }
}

fn wide(start: Option<&str>, end: Option<&str>, selectors: Vec<String>) -> Result<Vec<(&'static str, String)>> {
    let mut params = vec![
        ("start", time(start, "start time", now() - WIDE_S)?.to_string()),
        ("end", time(end, "end time", now() + WIDE_S)?.to_string()),
    ];
    params.extend(selectors.into_iter().map(|selector| ("match[]", selector)));
    Ok(params)
}

/// `promtool push`; whether all was pushed.
pub(super) fn run_push(push: Push, connection: &Connection, out: &mut dyn Write) -> Result<bool> {
    let Push::Metrics { labels, timeout, headers, message, path, url, files } = push;
    // Texts as in Prometheus, here and below:
    let Some(message) = Message::named(&message) else {
        return Err(other(format!(
            "  FAILED: invalid protobuf message {message:?}, must be prometheus.WriteRequest or \
             io.prometheus.write.v2.Request"
        )));
    };
    let server = Server::connect(&url, connection, headers)?;
    let timeout = Duration::from_nanos(timeout.try_into().unwrap_or(0));
    let path = format!("/{}", path.trim_start_matches('/'));
    let send = |text: &[u8]| -> Result<()> {
        let body = push::body(text, &labels, fk_vfs::wall_clock_ms(), message)?;
        let headers = [
            ("Content-Type", message.content_type()),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", message.version()),
        ];
        match server.ask(&path, &headers, Some(&body), timeout)? {
            (200..300, _) => Ok(()),
            (status, body) => {
                let said = String::from_utf8_lossy(&body[..body.len().min(1024)]).trim().to_owned();
                Err(other(format!("server returned HTTP status {status}: {said}")))
            }
        }
    };
    if files.is_empty() {
        let mut text = Vec::new();
        std::io::stdin().lock().take(PUSHED_BYTES_MAX).read_to_end(&mut text)?;
        writeln!(out, "Parsing standard input")?;
        return match send(&text) {
            Ok(()) => Ok(writeln!(out, "  SUCCESS: metrics pushed to remote write.").map(|()| true)?),
            Err(error) => Err(other(format!("  FAILED: {error}"))),
        };
    }
    let mut is_whole = true;
    for file in &files {
        let name = file.display();
        let pushed = read(file).and_then(|text| {
            writeln!(out, "Parsing metrics file {name}")?;
            send(&text)
        });
        match pushed {
            Ok(()) => writeln!(out, "  SUCCESS: metrics file {name} pushed to remote write.")?,
            Err(error) => {
                out.flush()?;
                eprintln!("  FAILED: {error}");
                is_whole = false;
            }
        }
    }
    Ok(is_whole)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let opened = File::open(file).and_then(|opened| opened.take(PUSHED_BYTES_MAX).read_to_end(&mut text));
    opened.map_err(|reason| ToolError::File { path: file.to_owned(), reason })?;
    Ok(text)
}

/// `promtool debug`, into the folder `dir`.
pub(super) fn run_debug(debug: Debug, dir: &Path, out: &mut dyn Write) -> Result<()> {
    let (server, wanted) = match debug {
        Debug::Pprof { server } => (server, vec![PROFILES]),
        Debug::Metrics { server } => (server, vec![METRICS]),
        Debug::All { server } => (server, vec![PROFILES, METRICS]),
    };
    let server = Server::connect(&server, &Connection { http_config: None }, Vec::new())?;
    let path = dir.join(ARCHIVE);
    let failed = |reason| ToolError::File { path: path.clone(), reason };
    let mut archive = Archive::new(File::create(&path).map_err(failed)?);
    for (from, name) in wanted.into_iter().flatten() {
        // Texts as in Prometheus, up to the colon:
        writeln!(out, "collecting: {}{from}", server.url)?;
        let (status, body) = server
            .ask(from, &[], None, DEBUG_TIMEOUT)
            .map_err(|error| other(format!("error executing HTTP request: {error}")))?;
        // DIFFERENCE: Prometheus' tool puts whatever comes into the archive and fails to read it as a profile. What a server
        // does not have is told, and the rest is gathered.
        if !(200..300).contains(&status) {
            let said = String::from_utf8_lossy(&body[..body.len().min(1024)]).trim().to_owned();
            writeln!(out, "  not there (HTTP status {status}): {said}")?;
            continue;
        }
        archive.add(name, &body).map_err(failed)?;
    }
    archive.finish().and_then(|mut file| file.flush()).map_err(failed)?;
    writeln!(out, "Compiling debug information complete, all files written in {ARCHIVE:?}.")?;
    Ok(())
}
