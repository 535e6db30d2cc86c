//! Configurations that are not in force: what one would do, what past ones did, and relabelling rules tried on real targets. These
//! routes are ours, and change nothing.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use serde_json::json;

use crate::answer::{ApiError, ErrorKind, success};
use crate::call::{Call, Reply};
use crate::params::parse_integer;
use crate::routes::storage::check_enabled;
use crate::state::ConfigProblem;

/// Largest configuration that is planned, bytes.
const CONFIG_BYTES_MAX: usize = 8 << 20;
/// Largest list of rules that is tried, bytes.
const RULES_BYTES_MAX: usize = 256 << 10;
/// Targets of an answer unless it asks for another number, and at most.
const TARGETS_DEFAULT: i64 = 100;
const TARGETS_MAX: i64 = 5000;

/// A configuration with problems: all of them with their places, and the first in the words of the envelope.
fn refusal(problems: &[ConfigProblem]) -> HttpResponse {
    #[derive(Serialize)]
    struct Refusal<'a> {
        status: &'static str,
        #[serde(rename = "errorType")]
        kind: &'static str,
        error: String,
        problems: &'a [ConfigProblem],
    }
    let first = problems.first();
    let error = first.map_or_else(String::new, |p| match p.line {
        0 => format!("{}: {}", p.file, p.message),
        line => format!("{}: line {line}: {}", p.file, p.message),
    });
    HttpResponse::build(StatusCode::BAD_REQUEST).json(Refusal { status: "error", kind: "bad_data", error, problems })
}

/// What a reload would do with the text of the body. It reads the files that the text names and tells what is wrong in them, so it is
/// for those who administrate.
pub(crate) async fn plan(mut call: Call) -> Reply {
    check_enabled(&call)?;
    let body = call.body(CONFIG_BYTES_MAX).await?;
    let yaml = String::from_utf8(body.to_vec())
        .map_err(|error| ApiError::bad_data(format!("the configuration is not UTF-8: {error}")))?;
    let shared = call.shared;
    match web::block(move || shared.state.configs.plan(&yaml)).await {
        Ok(Ok(plan)) => success(&plan),
        Ok(Err(problems)) => Ok(refusal(&problems)),
        Err(_) => Err(ApiError::internal("planning the reload panicked")),
    }
}

/// Past reloads.
pub(crate) async fn journal(call: Call) -> Reply {
    success(&json!({ "reloads": call.state().configs.journal() }))
}

/// What the relabelling rules in `rules` make of the targets of `scrapePool`.
pub(crate) async fn try_relabelling(mut call: Call) -> Reply {
    let params = call.params().await?;
    let (pool, rules) = (params.first("scrapePool").to_owned(), params.first("rules").to_owned());
    // Text as in Prometheus.
    if pool.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    }
    if rules.len() > RULES_BYTES_MAX {
        return Err(ApiError::new(ErrorKind::TooLarge, format!("rules are larger than {RULES_BYTES_MAX} bytes")));
    }
    let limit = match params.first("limit") {
        "" => TARGETS_DEFAULT,
        text => parse_integer(text).map_err(|reason| ApiError::parameter("limit", reason))?,
    };
    let limit = limit.clamp(0, TARGETS_MAX) as usize;
    let shared = call.shared;
    let missing = format!("scrape pool {pool:?} not found");
    match web::block(move || shared.state.configs.try_relabelling(&pool, &rules, limit)).await {
        Ok(Some(Ok(tried))) => success(&tried),
        Ok(Some(Err(problems))) => Ok(refusal(&problems)),
        Ok(None) => Err(ApiError::new(ErrorKind::NotFound, missing)),
        Err(_) => Err(ApiError::internal("trying the rules panicked")),
    }
}
