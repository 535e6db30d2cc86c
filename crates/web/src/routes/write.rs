//! The remote-write receiver: reads a body, and hands it to `fk-remote` on a thread that may block.

use std::sync::Arc;

use actix_web::http::header::HeaderValue;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, web};
use fk_remote::{DECODED_BYTES_MAX, KnownSeries, Scratch, WriteError, WriteReport, message_kind, receive};
use fk_storage::Appender;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::answer::{self, ApiError};
use crate::call::{Call, Reply};

/// Most requests that are decoded and stored at once: one for each of so many cores. Each may need some 150 MiB for a
/// moment. The others wait, as many as there are connections.
const STORING_MAX: usize = 4;

/// Seconds after which a sender may try again when the storage takes nothing, such as on a full disk.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// What requests share.
pub(crate) struct Receiver {
    storing: Arc<Semaphore>,
    known: Arc<KnownSeries>,
    /// Memory to use again. Never more than [`STORING_MAX`].
    scratches: Mutex<Vec<Scratch>>,
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver { storing: Arc::new(Semaphore::new(STORING_MAX)), known: Arc::default(), scratches: Mutex::default() }
    }
}

/// Errors of this route are plain text, as senders expect them.
pub(crate) async fn write(mut call: Call) -> Reply {
    if !call.state().options.remote_write_receiver {
        // Text as in Prometheus.
        let hint = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
        return Ok(answer::text(StatusCode::NOT_FOUND, hint));
    }
    let header = |name| call.req.headers().get(name).map(|value| value.to_str().unwrap_or("invalid"));
    let kind = match message_kind(header(header::CONTENT_TYPE), header(header::CONTENT_ENCODING)) {
        Ok(kind) => kind,
        Err(error) => return Ok(refusal(&error)),
    };
    // A snappy block may be a little larger than what is in it, but nobody sends one that large on purpose.
    let body = match call.body(DECODED_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return Ok(answer::text(error.status(), format!("{}\n", error.text))),
    };
    let storage = call.storage()?;
    let shared = call.shared;
    let Ok(permit) = Arc::clone(&shared.receiver.storing).acquire_owned().await else {
        return Err(ApiError::internal("the semaphore of the receiver is closed"));
    };
    let receiver = Arc::clone(&shared);
    let stored = web::block(move || {
        let kept = receiver.receiver.scratches.lock().pop();
        let mut scratch = kept.unwrap_or_else(|| Scratch::sharing(&receiver.receiver.known));
        let stored = receive(&body, kind, chrono::Utc::now().timestamp_millis(), &*storage, &mut scratch);
        // Not reached after a panic: a scratch in an unknown state is not used again.
        receiver.receiver.scratches.lock().push(scratch);
        // Here and not with the future, which ends early when the sender goes away.
        drop(permit);
        make_durable(stored, &*storage)
    });
    match stored.await {
        Ok(Ok(report)) => {
            count(&shared.metrics, &report);
            Ok(HttpResponse::NoContent().finish())
        }
        Ok(Err(error)) => {
            if let WriteError::Rejected { report, .. } = &error {
                count(&shared.metrics, report);
            }
            Ok(refusal(&error))
        }
        Err(_) => Err(ApiError::internal("storing the request panicked")),
    }
}

/// What is answered must not be lost with the power: the sender forgets it. Many requests may wait here, and share the
/// syncs of the disk.
fn make_durable(stored: Result<WriteReport, WriteError>, storage: &dyn Appender) -> Result<WriteReport, WriteError> {
    let samples = match &stored {
        Ok(report) | Err(WriteError::Rejected { report, .. }) => report.samples,
        Err(_) => 0,
    };
    if samples > 0 {
        storage.make_durable()?;
    }
    stored
}

fn count(metrics: &crate::call::Metrics, report: &WriteReport) {
    if let Some(counter) = &metrics.invalid_labels_samples {
        counter.add(report.invalid_labels as u64);
    }
}

fn refusal(error: &WriteError) -> HttpResponse {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_server_error() {
        log::error!("remote write failed: {error}");
    } else {
        log::debug!("remote write refused: {error}");
    }
    let mut answer = answer::text(status, format!("{error}\n"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    answer
}
