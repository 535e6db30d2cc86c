//! Health, readiness, reload and quit.

use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode};

use crate::answer::text;
#[cfg(feature = "chaos")]
use crate::answer::{ApiError, ErrorKind};
use crate::call::{Call, Reply};

/// Name of the program in answers that scripts compare with Prometheus'.
const APP_NAME: &str = "Prometheus Server";

pub(crate) async fn healthy(call: Call) -> Reply {
    Ok(alive(&call, "Healthy"))
}

pub(crate) async fn ready(call: Call) -> Reply {
    // The gate in front of this route has let the request through. A storage that takes no samples is told and changes
    // nothing about the status: queries and rules go on, and whoever looks at the status would take them away as well.
    let answer = alive(&call, "Ready");
    match call.state().admin.degraded() {
        Some(reason) if call.req.method() != Method::HEAD => {
            Ok(text(StatusCode::OK, format!("{APP_NAME} is Ready.\nDegraded: no samples are taken: {reason}\n")))
        }
        _ => Ok(answer),
    }
}

fn alive(call: &Call, state: &str) -> HttpResponse {
    if call.req.method() == Method::HEAD {
        return HttpResponse::Ok().finish();
    }
    text(StatusCode::OK, format!("{APP_NAME} is {state}.\n"))
}

pub(crate) async fn reload(call: Call) -> Reply {
    if !call.state().options.lifecycle {
        return Ok(lifecycle_disabled());
    }
    match call.state().control.reload().await {
        Ok(()) => Ok(HttpResponse::Ok().finish()),
        // Text as in Prometheus, up to the colon.
        Err(error) => Ok(text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n"))),
    }
}

pub(crate) async fn quit(call: Call) -> Reply {
    if !call.state().options.lifecycle {
        return Ok(lifecycle_disabled());
    }
    // Texts as in Prometheus.
    let answer = if call.state().control.quit() {
        "Requesting termination... Goodbye!"
    } else {
        "Termination already in progress."
    };
    Ok(text(StatusCode::OK, answer))
}

pub(crate) fn lifecycle_disabled() -> HttpResponse {
    // Text as in Prometheus.
    text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.")
}

/// Makes all actors of a kind panic, or with `name` only that one, so that tests see what their supervisor does.
#[cfg(feature = "chaos")]
pub(crate) async fn chaos(mut call: Call) -> Reply {
    let kind = call.segment(4)?;
    let params = call.params().await?;
    let name = Some(params.first("name")).filter(|name| !name.is_empty());
    if call.state().control.inject_panic(&kind, name) {
        crate::answer::success(&kind)
    } else {
        Err(ApiError::new(ErrorKind::NotFound, format!("there is no actor {kind:?} {}", name.unwrap_or(""))))
    }
}
