//! Queries: instant, range, exemplars, and the formatter.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use fk_storage::{ExemplarSeries, TimeRange};

use crate::answer::{ApiError, ChunkWriter, ErrorKind, finish_envelope, json_response, success};
use crate::call::{Call, Reply};
use crate::expr;
use crate::json;
use crate::params::{Params, parse_duration};
use crate::query_run::{self, Request, Stats};
use crate::routes::tree::tree;

/// Most points of a series that a range query may ask for.
const POINTS_MAX: i128 = 11_000;

pub(crate) async fn instant(mut call: Call) -> Reply {
    let params = call.params().await?;
    let limit = params.limit()?;
    let t_ms = params.time_or("time", now_ms())?;
    let request = Request {
        start_ms: t_ms,
        end_ms: t_ms,
        step_ms: 0,
        timeout: timeout(&params)?,
        lookback_ms: lookback(&params)?,
        limit,
        stats: stats(&params),
        explain: explain(&params)?,
        text: params.first("query").to_owned(),
    };
    query_run::run(&call, request).await
}

pub(crate) async fn range(mut call: Call) -> Reply {
    let params = call.params().await?;
    let limit = params.limit()?;
    let (start_ms, end_ms) = (params.time("start")?, params.time("end")?);
    // Texts as in Prometheus.
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = parse_duration(params.first("step")).map_err(|reason| ApiError::parameter("step", reason))?;
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", reason));
    }
    if (i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms) > POINTS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let request = Request {
        start_ms,
        end_ms,
        step_ms,
        timeout: timeout(&params)?,
        lookback_ms: lookback(&params)?,
        limit,
        stats: stats(&params),
        explain: explain(&params)?,
        text: params.first("query").to_owned(),
    };
    query_run::run(&call, request).await
}

/// `explain=analyze`, which is ours.
fn explain(params: &Params) -> Result<bool, ApiError> {
    match params.first("explain") {
        "" => Ok(false),
        "analyze" => Ok(true),
        other => Err(ApiError::parameter("explain", format!("{other:?} is not supported, only \"analyze\" is"))),
    }
}

fn timeout(params: &Params) -> Result<Option<Duration>, ApiError> {
    let text = params.first("timeout");
    if text.is_empty() {
        return Ok(None);
    }
    let ms = parse_duration(text).map_err(|reason| ApiError::parameter("timeout", reason))?;
    let ms = u64::try_from(ms).map_err(|_| ApiError::parameter("timeout", format!("{text:?} is negative")))?;
    Ok(Some(Duration::from_millis(ms)))
}

fn lookback(params: &Params) -> Result<Option<i64>, ApiError> {
    match params.first("lookback_delta") {
        "" => Ok(None),
        // Text as in Prometheus. A lookback that is not positive means the default.
        text => match parse_duration(text) {
            Ok(ms) => Ok(Some(ms).filter(|ms| *ms > 0)),
            Err(reason) => Err(ApiError::bad_data(format!("error parsing lookback delta duration: {reason}"))),
        },
    }
}

fn stats(params: &Params) -> Stats {
    match params.first("stats") {
        "" => Stats::No,
        "all" => Stats::All,
        "true" => Stats::Yes,
        _ => Stats::Deprecated,
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The exemplars of all series that a selector of the expression accepts. Without `exemplar-storage` there are none.
pub(crate) async fn exemplars(mut call: Call) -> Reply {
    let params = call.params().await?;
    let start_ms = params.time_or("start", crate::params::TIME_MIN)?;
    let end_ms = params.time_or("end", crate::params::TIME_MAX)?;
    if end_ms < start_ms {
        // Text as in Prometheus.
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let settings = call.state().queries.settings();
    let expr = expr::parse_plainly(params.first("query"), settings.parser).await?;
    let sets: Vec<_> = fk_promql_syntax::extract_selectors(&expr).into_iter().map(<[_]>::to_vec).collect();
    if sets.is_empty() {
        return Ok(HttpResponse::NoContent().finish());
    }
    let storage = call.storage()?;
    let range = TimeRange { mint: start_ms, maxt: end_ms };
    let found = web::block(move || storage.exemplars(range, &sets)).await;
    let found = found.map_err(|_| ApiError::internal("the server is stopping"))?;
    let found = found.map_err(|error| ApiError::new(ErrorKind::Execution, error.to_string()))?;
    let mut out = ChunkWriter::new();
    out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":");
    write_exemplars(&mut out, &found)?;
    finish_envelope(&mut out, &[], &[]);
    Ok(json_response(out.into_chunks()))
}

/// The list of exemplars as the API has it.
pub(crate) fn write_exemplars(out: &mut ChunkWriter, series: &[ExemplarSeries]) -> Result<(), ApiError> {
    out.buffer().push(b'[');
    for (at, series) in series.iter().enumerate() {
        let buffer = out.buffer();
        if at > 0 {
            buffer.push(b',');
        }
        buffer.extend_from_slice(b"{\"seriesLabels\":");
        json::write_labels(buffer, &series.labels);
        buffer.extend_from_slice(b",\"exemplars\":[");
        for (at, exemplar) in series.exemplars.iter().enumerate() {
            let buffer = out.buffer();
            if at > 0 {
                buffer.push(b',');
            }
            buffer.extend_from_slice(b"{\"labels\":");
            json::write_labels(buffer, &exemplar.labels);
            buffer.extend_from_slice(b",\"value\":\"");
            json::write_float(buffer, exemplar.v);
            buffer.extend_from_slice(b"\",\"timestamp\":");
            json::write_timestamp(buffer, exemplar.t);
            buffer.push(b'}');
            out.spill()?;
        }
        out.buffer().extend_from_slice(b"]}");
    }
    out.buffer().push(b']');
    Ok(())
}

pub(crate) async fn format(mut call: Call) -> Reply {
    let params = call.params().await?;
    let settings = call.state().queries.settings();
    let expr = expr::parse(params.first("query"), settings.parser).await?;
    success(&fk_promql_syntax::prettify(&expr))
}

pub(crate) async fn parse(mut call: Call) -> Reply {
    let params = call.params().await?;
    let settings = call.state().queries.settings();
    let expr = expr::parse(params.first("query"), settings.parser).await?;
    success(&tree(&expr))
}
