//! Running a query: parse, wait for admission, evaluate on a blocking thread, write the result there as well.

use std::time::{Duration, Instant};

use actix_web::web;
use fk_promql::{Answer, ExplainNode, Query, QueryError, QueryOptions, Value};
use fk_promql_syntax::{Expr, ValueType};
use fk_queries::{Asked, Measured, Origin};
use fk_storage::{Control, Stopped};

use crate::answer::{ApiError, ChunkWriter, Chunks, ErrorKind, finish_envelope, json_response};
use crate::call::{Call, CancelOnDrop, Reply};
use crate::expr;
use crate::json;
use crate::rendering::Rendering;
use crate::state::AdmissionError;

/// Text as in Prometheus.
const TRUNCATED: &str = "results truncated due to limit";
/// A query as the request asks for it.
pub(crate) struct Request {
    pub(crate) text: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// 0: instant.
    pub(crate) step_ms: i64,
    /// `timeout`, if given.
    pub(crate) timeout: Option<Duration>,
    /// `lookback_delta`, if given.
    pub(crate) lookback_ms: Option<i64>,
    /// Most series of the answer; 0: all.
    pub(crate) limit: usize,
    pub(crate) stats: Stats,
    /// `explain=analyze`
    pub(crate) explain: bool,
}

/// `stats`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stats {
    No,
    /// `true`
    Yes,
    /// `all`
    All,
    /// Anything else: as `true`, with a warning.
    Deprecated,
}

/// Runs a query from its text to its answer.
pub(crate) async fn run(call: &Call, request: Request) -> Reply {
    let started = Instant::now();
    let (queries, settings) = (&call.state().queries, call.state().queries.settings());
    let timeout = request.timeout.map_or(settings.timeout, |timeout| timeout.min(settings.timeout));
    // As in Prometheus: a time limit of the request that ends before the query runs is a mistake of the request. DIFFERENCE:
    // there the limit of the server begins only when the query runs, so that it may wait without end.
    let late = |stage: &str| match request.timeout {
        Some(own) if own <= settings.timeout => ApiError::parameter("query", "context deadline exceeded"),
        _ => ApiError::new(ErrorKind::Timeout, format!("query timed out in {stage}")),
    };
    let control = queries.board().control().with_deadline(started + timeout);
    let _cancel = CancelOnDrop(control.clone());
    let mut running = queries.board().begin(asked(call, &request), control);
    let expr = match tokio::time::timeout(timeout, expr::parse(&request.text, settings.parser)).await {
        Ok(expr) => expr?,
        Err(_) => return Err(late("query preparation")),
    };
    if request.step_ms != 0 {
        check_range_type(&expr)?;
    }
    let storage = call.storage()?;
    let left = timeout.saturating_sub(started.elapsed());
    let waiting = Instant::now();
    let admitted = tokio::time::timeout(left, queries.admit(&request.text, running.control())).await;
    let permit = match admitted {
        Ok(Ok(permit)) => permit,
        Err(_) => return Err(late("query queue")),
        Ok(Err(error @ AdmissionError::Overloaded { .. })) => {
            return Err(ApiError::new(ErrorKind::Timeout, error.to_string()));
        }
        Ok(Err(error @ AdmissionError::Unavailable(_))) => {
            return Err(ApiError::new(ErrorKind::Timeout, error.to_string()));
        }
    };
    running.admitted(Some(waiting.elapsed()));
    let options = QueryOptions {
        lookback_ms: request.lookback_ms.unwrap_or(millis(settings.lookback)),
        default_subquery_step_ms: millis(settings.default_subquery_step),
        max_samples: settings.max_samples,
        delayed_name_removal: settings.delayed_name_removal,
        use_start_timestamps: settings.use_start_timestamps,
        per_step_stats: request.stats == Stats::All && settings.per_step_stats,
        explain: request.explain,
        ..QueryOptions::default()
    };
    let work = web::block(move || -> Result<Chunks, ApiError> {
        let evaluated = Instant::now();
        let query = Query {
            expr: &expr,
            text: &request.text,
            start_ms: request.start_ms,
            end_ms: request.end_ms,
            step_ms: request.step_ms,
            options: &options,
            control: running.control(),
        };
        let answer = fk_promql::evaluate(&*storage, &query);
        let took = evaluated.elapsed();
        let text = answer.as_ref().err().map(QueryError::to_string);
        let measured = running.evaluated(took, answer.as_ref().map_err(|_| text.as_deref().unwrap_or("")));
        // The slot is for the evaluation; its result is written out without it.
        drop(permit);
        write_answer(answer?, &request, &measured, running.control())
    });
    match work.await {
        Ok(chunks) => Ok(json_response(chunks?)),
        Err(_) => Err(ApiError::internal("the evaluation of the query panicked")),
    }
}

/// What the list of running queries and the query log say of it.
fn asked(call: &Call, request: &Request) -> Asked {
    let origin = Origin::Http {
        client: call.req.peer_addr().map(|addr| addr.ip().to_string()).unwrap_or_default(),
        method: call.req.method().to_string(),
        path: call.req.path().to_owned(),
    };
    let Request { start_ms, end_ms, step_ms, .. } = *request;
    Asked { text: request.text.clone(), start_ms, end_ms, step_ms, origin }
}

/// Range queries are for values that have one sample a step.
fn check_range_type(expr: &Expr) -> Result<(), ApiError> {
    let ty = fk_promql_syntax::value_type(expr);
    if matches!(ty, ValueType::Scalar | ValueType::Vector) {
        return Ok(());
    }
    // Text as in Prometheus.
    let reason = format!("invalid expression type {:?} for range query, must be Scalar or instant Vector", ty.name());
    Err(ApiError::parameter("query", reason))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        let kind = match error {
            QueryError::Stopped(Stopped::TimedOut) => ErrorKind::Timeout,
            QueryError::Stopped(Stopped::Cancelled) => ErrorKind::Canceled,
            QueryError::Storage(error) => return error.into(),
            _ => ErrorKind::Execution,
        };
        ApiError::new(kind, error.to_string())
    }
}

/// Text that is written before an answer is sent; what is longer is written while it is sent.
const WRITTEN_AHEAD_BYTES: usize = 1 << 20;

/// Writes an answer, a large one only in part: the rest when it is sent. `control` is looked at between series: nobody may be
/// waiting any more.
fn write_answer(
    mut answer: Answer,
    request: &Request,
    measured: &Measured,
    control: &Control,
) -> Result<Chunks, ApiError> {
    if truncate(&mut answer.value, request.limit) {
        answer.warnings.push(TRUNCATED.to_owned());
    }
    if request.stats == Stats::Deprecated {
        answer.warnings.push("stats parameter with a value other than \"true\" or \"all\" is deprecated".to_owned());
    }
    let mut tail = ChunkWriter::new();
    if request.stats != Stats::No {
        write_stats(tail.buffer(), request, measured);
    }
    if let Some(root) = &answer.explain {
        tail.buffer().extend_from_slice(b",\"explain\":");
        write_explain(&mut tail, root);
    }
    tail.buffer().push(b'}');
    finish_envelope(&mut tail, &answer.warnings, &answer.infos);
    let tail = std::mem::take(tail.buffer());
    let mut out = ChunkWriter::within(control);
    out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":{");
    let mut rendering = Rendering::begin(&mut out, answer.value, tail, control.clone());
    if rendering.go_on(&mut out, WRITTEN_AHEAD_BYTES)? {
        return Ok(out.into_chunks());
    }
    Ok(out.into_chunks_before(rendering.unhurried(answer.memory)))
}

/// Cuts a vector or matrix to `limit` elements (0: no limit). Whether something was cut.
fn truncate(value: &mut Value, limit: usize) -> bool {
    let elements = match value {
        Value::Vector(samples) => samples.len(),
        Value::Matrix(series) => series.len(),
        Value::Scalar { .. } | Value::String { .. } => 0,
    };
    if limit == 0 || elements <= limit {
        return false;
    }
    match value {
        Value::Vector(samples) => samples.truncate(limit),
        Value::Matrix(series) => series.truncate(limit),
        Value::Scalar { .. } | Value::String { .. } => {}
    }
    true
}

/// Writes `,"stats":{...}`.
fn write_stats(out: &mut Vec<u8>, request: &Request, measured: &Measured) {
    let stats = &measured.stats;
    out.extend_from_slice(b",\"stats\":{\"timings\":{");
    for (at, (name, took)) in measured.timings().into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
        out.push(b':');
        json::write_float(out, took.as_secs_f64());
    }
    out.extend_from_slice(b"},\"samples\":{");
    let mut samples = |name: &str, per_step: &[u64], total: u64| {
        if !per_step.is_empty() {
            out.extend_from_slice(format!("\"{name}PerStep\":[").as_bytes());
            for (step, samples) in per_step.iter().enumerate() {
                out.extend_from_slice(if step > 0 { b",[" } else { b"[" });
                json::write_timestamp(out, request.start_ms + step as i64 * request.step_ms);
                out.extend_from_slice(format!(",{samples}]").as_bytes());
            }
            out.extend_from_slice(b"],");
        }
        out.extend_from_slice(format!("\"{name}\":{total},").as_bytes());
    };
    samples("totalQueryableSamples", &stats.samples_per_step, stats.samples_total);
    samples("samplesRead", &stats.samples_read_per_step, stats.samples_read);
    out.extend_from_slice(format!("\"peakSamples\":{}}}}}", stats.samples_peak).as_bytes());
}

/// Writes a part of a query with all below it. The parser bounds how deep they are.
fn write_explain(out: &mut ChunkWriter, node: &ExplainNode) {
    let buffer = out.buffer();
    for (key, text) in [("{\"operator\":", &node.operator), (",\"query\":", &node.text)] {
        buffer.extend_from_slice(key.as_bytes());
        json::write_text(buffer, text);
    }
    for (key, took) in [("ownSeconds", node.own_time), ("totalSeconds", node.total_time())] {
        buffer.extend_from_slice(format!(",\"{key}\":").as_bytes());
        json::write_float(buffer, took.as_secs_f64());
    }
    for (key, n) in [
        ("evaluations", node.evaluations),
        ("seriesIn", node.series_in),
        ("seriesOut", node.series_out),
        ("valuesOut", node.values_out),
        ("samples", node.samples),
        ("samplesRead", node.samples_read),
        ("bytes", node.bytes),
    ] {
        buffer.extend_from_slice(format!(",\"{key}\":{n}").as_bytes());
    }
    buffer.extend_from_slice(b",\"children\":[");
    for (at, child) in node.children.iter().enumerate() {
        if at > 0 {
            out.buffer().push(b',');
        }
        write_explain(out, child);
    }
    out.buffer().extend_from_slice(b"]}");
}

/// A whole answer as text.
#[cfg(test)]
pub(crate) fn answer_for_tests(answer: Answer, start_ms: i64, step_ms: i64, stats: Stats) -> String {
    let request = Request {
        text: String::new(),
        start_ms,
        end_ms: start_ms,
        step_ms,
        timeout: None,
        lookback_ms: None,
        limit: 0,
        stats,
        explain: false,
    };
    let measured = Measured { stats: answer.stats.clone(), ..Measured::default() };
    crate::answer::collect(write_answer(answer, &request, &measured, &Control::new()).unwrap())
}
