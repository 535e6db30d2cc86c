//! Running a query: parse, wait for admission, evaluate on a blocking thread, write the result there as well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web;
use fk_promql::{Answer, MatrixSeries, Query, QueryError, QueryOptions, Value, VectorSample};
use fk_promql_syntax::{Expr, ValueType};
use fk_storage::{Control, Stopped};

use crate::answer::{ApiError, ChunkWriter, Chunks, ErrorKind, finish_envelope, json_response};
use crate::call::{Call, CancelOnDrop, Reply};
use crate::expr;
use crate::json;
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
    let settings = call.state().queries.settings();
    let timeout = request.timeout.map_or(settings.timeout, |timeout| timeout.min(settings.timeout));
    let expr = expr::parse(&request.text, settings.parser).await?;
    if request.step_ms != 0 {
        check_range_type(&expr)?;
    }
    let storage = call.storage()?;
    let control = Control::until(started + timeout);
    let _cancel = CancelOnDrop(control.clone());
    let peer = call.req.peer_addr().map(|addr| addr.to_string()).unwrap_or_default();
    let admitted = tokio::time::timeout(timeout, call.state().queries.admit(&request.text, &peer, &control)).await;
    let permit = match admitted {
        Ok(Ok(permit)) => permit,
        // Text as in Prometheus.
        Err(_) => return Err(ApiError::new(ErrorKind::Timeout, "query timed out in query queue")),
        Ok(Err(error @ AdmissionError::Overloaded { .. })) => {
            return Err(ApiError::new(ErrorKind::Timeout, error.to_string()));
        }
        Ok(Err(error @ AdmissionError::Unavailable(_))) => {
            return Err(ApiError::new(ErrorKind::Timeout, error.to_string()));
        }
    };
    let queued = started.elapsed();
    let options = QueryOptions {
        lookback_ms: request.lookback_ms.unwrap_or(millis(settings.lookback)),
        default_subquery_step_ms: millis(settings.default_subquery_step),
        max_samples: settings.max_samples,
        delayed_name_removal: settings.delayed_name_removal,
        per_step_stats: request.stats == Stats::All && settings.per_step_stats,
        ..QueryOptions::default()
    };
    let queries = Arc::clone(&call.state().queries);
    let work = web::block(move || -> Result<Chunks, ApiError> {
        let evaluated = Instant::now();
        let answer = fk_promql::evaluate(
            &*storage,
            &Query {
                expr: &expr,
                text: &request.text,
                start_ms: request.start_ms,
                end_ms: request.end_ms,
                step_ms: request.step_ms,
                options: &options,
                control: &control,
            },
        );
        let times = Times { queued, evaluated: evaluated.elapsed() };
        let samples = answer.as_ref().map_or(0, |answer| answer.stats.samples_total);
        queries.evaluated(times.queued, times.evaluated, samples);
        // The slot is for the evaluation; its result is written out without it.
        drop(permit);
        write_answer(answer?, &request, &times, &control)
    });
    match work.await {
        Ok(chunks) => Ok(json_response(chunks?)),
        Err(_) => Err(ApiError::internal("the evaluation of the query panicked")),
    }
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

/// How long a query took.
struct Times {
    queued: Duration,
    evaluated: Duration,
}

/// Writes a whole answer. `control` is looked at between series: nobody may be waiting any more.
fn write_answer(mut answer: Answer, request: &Request, times: &Times, control: &Control) -> Result<Chunks, ApiError> {
    if truncate(&mut answer.value, request.limit) {
        answer.warnings.push(TRUNCATED.to_owned());
    }
    if request.stats == Stats::Deprecated {
        answer.warnings.push("stats parameter with a value other than \"true\" or \"all\" is deprecated".to_owned());
    }
    let mut out = ChunkWriter::new();
    out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":{");
    write_value(&mut out, &answer.value, control)?;
    if request.stats != Stats::No {
        write_stats(out.buffer(), &answer, request, times);
    }
    out.buffer().push(b'}');
    finish_envelope(&mut out, &answer.warnings, &answer.infos);
    Ok(out.into_chunks())
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

/// Writes `"resultType":...,"result":...`.
pub(crate) fn write_value(out: &mut ChunkWriter, value: &Value, control: &Control) -> Result<(), ApiError> {
    let kind = match value {
        Value::Scalar { .. } => "scalar",
        Value::String { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    let buffer = out.buffer();
    buffer.extend_from_slice(b"\"resultType\":\"");
    buffer.extend_from_slice(kind.as_bytes());
    buffer.extend_from_slice(b"\",\"result\":");
    match value {
        Value::Scalar { t_ms, v } => json::write_scalar(buffer, *t_ms, *v),
        Value::String { t_ms, v } => json::write_string_value(buffer, *t_ms, v),
        Value::Vector(samples) => write_list(out, samples, control, write_vector_sample)?,
        Value::Matrix(series) => write_list(out, series, control, write_matrix_series)?,
    }
    Ok(())
}

/// Elements between two looks at the clock.
const CHECK_EVERY: usize = 256;

fn write_list<T>(
    out: &mut ChunkWriter,
    elements: &[T],
    control: &Control,
    write: fn(&mut ChunkWriter, &T),
) -> Result<(), ApiError> {
    out.buffer().push(b'[');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            out.buffer().push(b',');
        }
        if at % CHECK_EVERY == CHECK_EVERY - 1 {
            control.check().map_err(|stopped| ApiError::from(QueryError::Stopped(stopped)))?;
        }
        write(out, element);
        out.spill();
    }
    out.buffer().push(b']');
    Ok(())
}

fn write_vector_sample(out: &mut ChunkWriter, sample: &VectorSample) {
    let buffer = out.buffer();
    buffer.extend_from_slice(b"{\"metric\":");
    json::write_labels(buffer, &sample.labels);
    match &sample.h {
        None => {
            buffer.extend_from_slice(b",\"value\":");
            json::write_point(buffer, sample.t_ms, sample.v);
        }
        Some(h) => {
            buffer.extend_from_slice(b",\"histogram\":");
            json::write_histogram_point(buffer, sample.t_ms, h);
        }
    }
    buffer.push(b'}');
}

fn write_matrix_series(out: &mut ChunkWriter, series: &MatrixSeries) {
    let buffer = out.buffer();
    buffer.extend_from_slice(b"{\"metric\":");
    json::write_labels(buffer, &series.labels);
    if series.histograms.is_empty() {
        buffer.extend_from_slice(b",\"values\":[");
        for (at, (t_ms, v)) in series.t.iter().zip(&series.v).enumerate() {
            if at > 0 {
                out.buffer().push(b',');
            }
            json::write_point(out.buffer(), *t_ms, *v);
            out.spill();
        }
        out.buffer().extend_from_slice(b"]}");
        return;
    }
    // The floats and then the histograms.
    for (key, histograms) in [(&b",\"values\":["[..], false), (b",\"histograms\":[", true)] {
        let mut points = series.points().filter(|(_, _, h)| h.is_some() == histograms).peekable();
        if points.peek().is_none() {
            continue;
        }
        out.buffer().extend_from_slice(key);
        for (at, (t_ms, v, h)) in points.enumerate() {
            if at > 0 {
                out.buffer().push(b',');
            }
            match h {
                None => json::write_point(out.buffer(), t_ms, v),
                Some(h) => json::write_histogram_point(out.buffer(), t_ms, h),
            }
            out.spill();
        }
        out.buffer().push(b']');
    }
    out.buffer().push(b'}');
}

/// Writes `,"stats":{...}`. The engine does not tell preparation and sorting from evaluation: their times are within
/// `innerEvalTime`, and given as 0.
fn write_stats(out: &mut Vec<u8>, answer: &Answer, request: &Request, times: &Times) {
    let (queued, evaluated) = (times.queued.as_secs_f64(), times.evaluated.as_secs_f64());
    let stats = &answer.stats;
    out.extend_from_slice(b",\"stats\":{\"timings\":{");
    for (at, (name, seconds)) in [
        ("evalTotalTime", evaluated),
        ("resultSortTime", 0.0),
        ("queryPreparationTime", 0.0),
        ("innerEvalTime", evaluated),
        ("execQueueTime", queued),
        ("execTotalTime", queued + evaluated),
    ]
    .into_iter()
    .enumerate()
    {
        if at > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
        out.push(b':');
        json::write_float(out, seconds);
    }
    out.extend_from_slice(b"},\"samples\":{");
    if !stats.samples_per_step.is_empty() {
        out.extend_from_slice(b"\"totalQueryableSamplesPerStep\":[");
        for (step, samples) in stats.samples_per_step.iter().enumerate() {
            if step > 0 {
                out.push(b',');
            }
            out.push(b'[');
            json::write_timestamp(out, request.start_ms + step as i64 * request.step_ms);
            out.extend_from_slice(format!(",{samples}]").as_bytes());
        }
        out.extend_from_slice(b"],");
    }
    let totals = format!(
        "\"totalQueryableSamples\":{},\"samplesRead\":{},\"peakSamples\":{}}}}}",
        stats.samples_total, stats.samples_read, stats.samples_peak
    );
    out.extend_from_slice(totals.as_bytes());
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
    };
    let times = Times { queued: Duration::ZERO, evaluated: Duration::ZERO };
    crate::answer::collect(write_answer(answer, &request, &times, &Control::new()).unwrap())
}
