//! What the server says about itself.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use fk_model::Regex;
use serde_json::json;

use super::search::LIMIT_DEFAULT;
use crate::answer::{self, ApiError, success};
use crate::call::{Call, Reply};
use crate::params::{Params, parse_integer};
use crate::{live, openapi, self_metrics};

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
    let text = serde_json::to_string(&call.state().status.build());
    // No JSON by its header, as in Prometheus.
    Ok(answer::text(StatusCode::OK, text.map_err(|error| ApiError::internal(error.to_string()))? + "\n"))
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
        ("openapi_3.1", true),
        ("openapi_3.2", true),
        ("otlp_write_receiver", false),
        ("query_stats", true),
        ("query_warnings", true),
        ("remote_write_receiver", options.remote_write_receiver),
        ("search", options.search),
        ("search_fuzz_alg_jarowinkler", true),
        ("search_fuzz_alg_subsequence", true),
        ("time_range_labels", true),
        ("time_range_series", true),
    ];
    features.entry("api".into()).or_default().extend(api.map(|(name, on)| (name.to_owned(), on)));
    success(&features)
}

/// The description of the API.
pub(crate) async fn openapi(call: Call) -> Reply {
    // Of the URL only, as in Prometheus: this route takes no form.
    let mut params = Params::default();
    params.add_encoded(call.req.query_string().as_bytes())?;
    let build = call.state().status.build();
    let options = &call.state().options;
    let limit_max = options.search_limit_max;
    let about = openapi::About {
        version: &build.version,
        server: &format!("{}/api/v1", options.route_prefix),
        search_limit: if limit_max == 0 { LIMIT_DEFAULT } else { LIMIT_DEFAULT.min(limit_max) },
    };
    let document = openapi::document(openapi::Version::asked(params.first("openapi_version")), &about);
    Ok(HttpResponse::Ok()
        .content_type("application/yaml; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"))
        .body(document))
}

/// The server's own metrics as JSON.
pub(crate) async fn self_metrics(mut call: Call) -> Reply {
    let params = call.params().await?;
    let pattern = match params.first("metric_name_pattern") {
        "" => None,
        // Text as in Prometheus, up to the second colon.
        text => Some(
            Regex::new(text).map_err(|error| ApiError::bad_data(format!("invalid metric_name_pattern: {error}")))?,
        ),
    };
    let families = call.state().registry.gather(|name| pattern.as_ref().is_none_or(|pattern| pattern.is_match(name)));
    success(&families.iter().map(self_metrics::shown).collect::<Vec<_>>())
}
