//! Remote read: other servers ask for raw samples. What is read and how it is packed is in `fk_remote::read`; here is who may ask at
//! the same time, and how frames get from the thread that reads to the client: through a short queue, so that a slow client
//! holds up the reading and not the memory.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use actix_web::http::{StatusCode, header};
use actix_web::rt::task::spawn_blocking;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use fk_instrument::Gauge;
use fk_remote::read::{ReadError, ReadRequest, ResponseType, STREAMED_TYPE, Source};
use fk_storage::{Stopped, StorageError};
use tokio::sync::{Semaphore, mpsc};

use crate::answer::{self, ApiError};
use crate::call::{Call, CancelOnDrop, Reply};
use crate::state::WebOptions;

/// Largest body of a request: matchers and times only.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Frames that wait for the client.
const FRAMES_AHEAD: usize = 4;

/// Who may read at the same time.
pub(crate) struct Readers(Arc<Semaphore>);

impl Readers {
    pub(crate) fn new(options: &WebOptions) -> Readers {
        let most = match options.read_concurrent_max {
            0 => Semaphore::MAX_PERMITS,
            most => most.min(Semaphore::MAX_PERMITS),
        };
        Readers(Arc::new(Semaphore::new(most)))
    }
}

/// Counts a request as long as it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Counted {
        gauge.add(1.0);
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

pub(crate) async fn read(mut call: Call) -> Reply {
    // Errors of this route are plain text, not the API's JSON.
    let body = match call.body(BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return Ok(answer::text(error.status(), format!("{}\n", error.text))),
    };
    let counted = Counted::new(&call.shared.metrics.remote_reads);
    // The semaphore is never closed.
    let permit = Arc::clone(&call.shared.readers.0).acquire_owned().await.ok();
    let request = match ReadRequest::decode(&body) {
        Ok(request) => request,
        Err(error) => return Ok(refusal(&error)),
    };
    let storage = call.storage()?;
    let state = call.state();
    let external = state.status.external_labels();
    let (samples_max, frame_bytes) = (state.options.read_samples_max, state.options.read_frame_bytes);
    let control = state.queries.board().control().with_deadline(Instant::now() + state.queries.settings().timeout);
    let cancel = CancelOnDrop(control.clone());
    if request.response_type == ResponseType::Samples {
        let work = web::block(move || {
            let _held = (counted, permit);
            Source { storage: &*storage, external: &external, control: &control }.samples(&request, samples_max)
        });
        return Ok(match work.await {
            Ok(Ok(body)) => HttpResponse::Ok()
                .content_type("application/x-protobuf")
                .insert_header((header::CONTENT_ENCODING, "snappy"))
                .body(body),
            Ok(Err(error)) => refusal(&error),
            Err(_) => return Err(ApiError::internal("reading samples panicked")),
        });
    }
    let (sender, mut frames) = mpsc::channel::<Result<Bytes, ReadError>>(FRAMES_AHEAD);
    // Ends by itself: when all is read, at the deadline, or when nobody takes the frames any more.
    drop(spawn_blocking(move || {
        let _held = (counted, permit);
        let source = Source { storage: &*storage, external: &external, control: &control };
        let mut send = |frame: Vec<u8>| match sender.blocking_send(Ok(frame.into())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        if let Err(error) = source.chunks(&request, frame_bytes, &mut send) {
            // If nobody listens, nobody wants to know.
            let _ = sender.blocking_send(Err(error));
        }
    }));
    // What goes wrong before anything has been sent has a status of its own.
    let first = match frames.recv().await {
        Some(Err(error)) => return Ok(refusal(&error)),
        Some(Ok(frame)) => Some(frame),
        None => None,
    };
    let rest = futures_util::stream::unfold((first, frames, cancel), |(first, mut frames, cancel)| async move {
        let next = match first {
            Some(frame) => Ok(frame),
            // An error here can only end the connection.
            None => frames.recv().await?.map_err(std::io::Error::other),
        };
        Some((next, (None, frames, cancel)))
    });
    Ok(HttpResponse::Ok()
        .content_type(STREAMED_TYPE)
        // Chunks are compressed already.
        .insert_header((header::CONTENT_ENCODING, "identity"))
        .streaming(rest))
}

fn refusal(error: &ReadError) -> HttpResponse {
    let status = match error {
        ReadError::Malformed(_) | ReadError::TooManySamples(_) => StatusCode::BAD_REQUEST,
        ReadError::Storage(StorageError::Stopped(Stopped::TimedOut)) => StatusCode::SERVICE_UNAVAILABLE,
        ReadError::Storage(_) | ReadError::Chunk(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        log::error!("remote read failed: {error}");
    }
    answer::text(status, format!("{error}\n"))
}
