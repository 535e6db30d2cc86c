//! Queries that run, the most expensive ones of the past, and cancelling one. These routes are ours.

use actix_web::HttpResponse;
use serde_json::json;

use crate::answer::{ApiError, ErrorKind, success};
use crate::call::{Call, Reply};
use crate::params::parse_integer;
use crate::routes::storage::check_enabled;

/// Most queries of the past in each list if nothing is said.
const TOP_DEFAULT: usize = 10;

/// The queries that run, oldest first, what they hold in memory, and `top` queries of the past by number of runs, time of
/// all runs, and memory of one run.
pub(crate) async fn list(mut call: Call) -> Reply {
    let params = call.params().await?;
    let top = match params.first("top") {
        "" => TOP_DEFAULT,
        text => parse_integer(text)
            .and_then(|n| usize::try_from(n).map_err(|_| "top must be non-negative".to_owned()))
            .map_err(|reason| ApiError::parameter("top", reason))?,
    };
    let board = call.state().queries.board();
    let budget = board.budget();
    success(&json!({
        "running": board.running(),
        "memory": {
            "usedBytes": budget.used(),
            "limitBytes": budget.all_max(),
            "limitPerQueryBytes": budget.each_max(),
        },
        "top": {
            "byCount": board.top_by_count(top),
            "byTime": board.top_by_time(top),
            "byMemory": board.top_by_memory(top),
        },
    }))
}

/// Asks the query with the number `id` to end.
pub(crate) async fn cancel(mut call: Call) -> Reply {
    check_enabled(&call)?;
    let params = call.params().await?;
    let id = params.first("id").parse::<u64>().map_err(|error| ApiError::parameter("id", error))?;
    match call.state().queries.board().cancel(id) {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::new(ErrorKind::NotFound, format!("no query with the number {id} runs"))),
    }
}
