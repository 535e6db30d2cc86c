//! The remote-write receiver.

use actix_web::http::StatusCode;

use crate::answer::{self, ApiError, ErrorKind};
use crate::call::{Call, Reply};

pub(crate) async fn write(call: Call) -> Reply {
    if !call.state().options.remote_write_receiver {
        // Text as in Prometheus.
        let hint = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
        return Ok(answer::text(StatusCode::NOT_FOUND, hint));
    }
    Err(ApiError::new(ErrorKind::Unavailable, "the remote write receiver is not supported yet"))
}
