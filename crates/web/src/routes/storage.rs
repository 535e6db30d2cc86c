//! The data directory: its blocks, what is wrong with it, and the administration routes, which delete and copy data.

use actix_web::{HttpResponse, web};
use fk_storage::{StorageError, TimeRange};
use serde_json::json;

use crate::answer::{ApiError, ErrorKind, success};
use crate::call::{Call, Reply};
use crate::params::{TIME_MAX, TIME_MIN, parse_bool};
use crate::selectors;
use crate::state::StorageAdmin;

/// Runs `work` on a thread that may block. It goes on when the client leaves: half a deletion helps nobody.
async fn run<T: Send + 'static>(
    call: &Call,
    work: impl FnOnce(&dyn StorageAdmin) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    let shared = call.shared.clone();
    match web::block(move || work(&*shared.state.admin)).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(_) => Err(ApiError::internal("the storage panicked")),
    }
}

pub(super) fn check_enabled(call: &Call) -> Result<(), ApiError> {
    match call.state().options.admin {
        true => Ok(()),
        // Text as in Prometheus.
        false => Err(ApiError::new(ErrorKind::Unavailable, "admin APIs disabled")),
    }
}

/// The blocks that queries are answered from.
pub(crate) async fn blocks(call: Call) -> Reply {
    let blocks = run(&call, |admin| admin.blocks()).await?;
    success(&json!({ "blocks": blocks }))
}

/// What is wrong with the data directory.
pub(crate) async fn health(call: Call) -> Reply {
    let health = run(&call, |admin| Ok(admin.health())).await?;
    success(&health)
}

/// Deletes samples. With `dry_run` nothing is changed, and the answer says what would go.
pub(crate) async fn delete_series(mut call: Call) -> Reply {
    check_enabled(&call)?;
    let params = call.params().await?;
    if params.all("match[]").next().is_none() {
        // Text as in Prometheus.
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = TimeRange { mint: params.time_or("start", TIME_MIN)?, maxt: params.time_or("end", TIME_MAX)? };
    let dry_run = flag(params.first("dry_run"), "dry_run")?;
    let mut selected = Vec::new();
    for text in params.all("match[]") {
        selected.push(selectors::any("match[]", text)?);
    }
    // As in Prometheus, a range that ends before it begins has nothing to delete and is no error.
    let deleted = run(&call, move |admin| match range.mint <= range.maxt {
        true => admin.delete(range, &selected, dry_run),
        false => Ok(Default::default()),
    });
    let deleted = deleted.await?;
    match dry_run {
        true => success(&deleted),
        false => Ok(HttpResponse::NoContent().finish()),
    }
}

pub(crate) async fn clean_tombstones(call: Call) -> Reply {
    check_enabled(&call)?;
    run(&call, |admin| admin.clean_tombstones()).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(crate) async fn snapshot(mut call: Call) -> Reply {
    check_enabled(&call)?;
    let params = call.params().await?;
    let skip_head = flag(params.first("skip_head"), "skip_head")?;
    let name = run(&call, move |admin| admin.snapshot(!skip_head)).await?;
    success(&json!({ "name": name }))
}

/// A switch among the parameters, off if it is not there.
fn flag(text: &str, name: &str) -> Result<bool, ApiError> {
    match text {
        "" => Ok(false),
        // Text as in Prometheus.
        text => {
            parse_bool(text).map_err(|reason| ApiError::parameter(name, format!("unable to parse boolean: {reason}")))
        }
    }
}
