//! What the server says about itself.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::answer::{ApiError, success};
use crate::call::{Call, Reply};
use crate::live;
use crate::params::parse_integer;

/// The server's own metrics, in the text format only; `name[]` picks families.
pub(crate) async fn metrics(mut call: Call) -> Reply {
    let params = call.params().await?;
    let names: Vec<&str> = params.all("name[]").collect();
    let metrics = &call.shared.metrics;
    metrics.self_scrapes_running.add(1.0);
    let text = call.state().registry.text(|name| names.is_empty() || names.contains(&name));
    metrics.self_scrapes_running.add(-1.0);
    metrics.self_scrapes.inc();
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8; escaping=underscores").body(text))
}

pub(crate) async fn version(call: Call) -> Reply {
    Ok(HttpResponse::Ok().json(call.state().status.build()))
}

pub(crate) async fn config(call: Call) -> Reply {
    success(&json!({ "yaml": &*call.state().status.config_yaml() }))
}

pub(crate) async fn flags(call: Call) -> Reply {
    success(&call.state().status.flags())
}

pub(crate) async fn buildinfo(call: Call) -> Reply {
    success(&call.state().status.build())
}

pub(crate) async fn runtimeinfo(call: Call) -> Reply {
    success(&call.state().status.runtime())
}

/// Most entries of each list of `status/tsdb`.
const TSDB_LIMIT_MAX: i64 = 10_000;

pub(crate) async fn tsdb(mut call: Call) -> Reply {
    let params = call.params().await?;
    let limit = match params.first("limit") {
        "" => 10,
        text => match parse_integer(text) {
            Ok(limit @ 1..=TSDB_LIMIT_MAX) => limit as usize,
            Ok(limit) if limit > TSDB_LIMIT_MAX => {
                return Err(ApiError::bad_data(format!("limit must not exceed {TSDB_LIMIT_MAX}")));
            }
            // Text as in Prometheus.
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    let shared = call.shared;
    match web::block(move || shared.state.status.tsdb(limit)).await {
        Ok(status) => success(&status),
        Err(_) => Err(ApiError::internal("reading the statistics of the head panicked")),
    }
}

pub(crate) async fn walreplay(call: Call) -> Reply {
    success(&call.state().status.wal_replay())
}

pub(crate) async fn notifications(call: Call) -> Reply {
    success(&call.state().status.notifications())
}

/// Server-sent events. Without a seat: no content, which tells the client not to ask again.
pub(crate) async fn live_notifications(call: Call) -> Reply {
    let seat = call.shared.subscribers.sit_down(call.state().options.notification_subscribers_max);
    let mut response = if seat.is_some() { HttpResponse::Ok() } else { HttpResponse::NoContent() };
    response.content_type("text/event-stream").insert_header((header::CACHE_CONTROL, "no-cache"));
    Ok(match seat {
        // Compression would keep events back until there are many.
        Some(seat) => response
            .insert_header((header::CONTENT_ENCODING, "identity"))
            .streaming(live::events(Arc::clone(&call.shared), seat)),
        None => response.finish(),
    })
}

/// What can be switched on and off; this crate knows the part named `api`.
pub(crate) async fn features(call: Call) -> Reply {
    let mut features = call.state().status.features();
    let options = &call.state().options;
    let api = [
        ("admin", options.admin),
        ("exclude_alerts", true),
        ("label_values_match", true),
        ("lifecycle", options.lifecycle),
        ("openapi_3.1", false),
        ("openapi_3.2", false),
        ("otlp_write_receiver", false),
        ("query_stats", true),
        ("query_warnings", true),
        ("remote_write_receiver", options.remote_write_receiver),
        ("search", false),
        ("search_fuzz_alg_jarowinkler", false),
        ("search_fuzz_alg_subsequence", false),
        ("time_range_labels", true),
        ("time_range_series", true),
    ];
    features.entry("api".into()).or_default().extend(api.map(|(name, on)| (name.to_owned(), on)));
    success(&features)
}
