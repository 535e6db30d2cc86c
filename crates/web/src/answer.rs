//! What a handler answers: an error of the API, or JSON in Prometheus' envelope. Status codes are decided here only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::{StatusCode, header};
use bytes::Bytes;
use fk_storage::{Control, Reservation, Stopped, StorageError};
use serde::Serialize;

use crate::json;
use crate::rendering::Rendering;

/// Kinds of error that the API tells apart (`errorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    Internal,
    Unavailable,
    /// `unavailable` as well: the storage takes nothing at the moment, and the client may try again soon.
    ReadOnly,
    NotFound,
    /// `bad_data` as well, but with its own status code.
    TooLarge,
    /// The same.
    TooSlow,
}

impl ErrorKind {
    fn name(self) -> &'static str {
        match self {
            ErrorKind::BadData | ErrorKind::TooLarge | ErrorKind::TooSlow => "bad_data",
            ErrorKind::Execution => "execution",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Internal => "internal",
            ErrorKind::Unavailable | ErrorKind::ReadOnly => "unavailable",
            ErrorKind::NotFound => "not_found",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            ErrorKind::BadData => StatusCode::BAD_REQUEST,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::TooSlow => StatusCode::REQUEST_TIMEOUT,
            ErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            // The code of nginx for "client closed request".
            ErrorKind::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            ErrorKind::Timeout | ErrorKind::ReadOnly => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal | ErrorKind::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// Seconds after which a client may try again what the storage refused because it takes nothing at the moment.
pub(crate) const RETRY_AFTER_S: &str = "10";

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> ApiError {
        ApiError { kind, text: text.into() }
    }

    pub(crate) fn bad_data(text: impl Into<String>) -> ApiError {
        ApiError::new(ErrorKind::BadData, text)
    }

    /// Text as in Prometheus: `invalid parameter "time": ...`.
    pub(crate) fn parameter(name: &str, reason: impl std::fmt::Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: {reason}"))
    }

    pub(crate) fn internal(text: impl Into<String>) -> ApiError {
        ApiError::new(ErrorKind::Internal, text)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.kind.status()
    }

    pub(crate) fn response(&self) -> HttpResponse {
        if self.kind == ErrorKind::Internal {
            log::error!("request failed: {}", self.text);
        }
        let mut body = Vec::with_capacity(64 + self.text.len());
        body.extend_from_slice(b"{\"status\":\"error\",\"errorType\":\"");
        body.extend_from_slice(self.kind.name().as_bytes());
        body.extend_from_slice(b"\",\"error\":");
        json::write_text(&mut body, &self.text);
        body.push(b'}');
        let mut response = HttpResponse::build(self.kind.status());
        if self.kind == ErrorKind::ReadOnly {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER_S));
        }
        response.content_type("application/json").body(body)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> ApiError {
        match error {
            StorageError::Stopped(Stopped::TimedOut) => ApiError::new(ErrorKind::Timeout, error.to_string()),
            StorageError::Stopped(Stopped::Cancelled) => ApiError::new(ErrorKind::Canceled, error.to_string()),
            StorageError::Stopped(Stopped::TooMuchMemory(_) | Stopped::NoMemoryLeft(_)) => {
                ApiError::new(ErrorKind::Execution, error.to_string())
            }
            StorageError::ReadOnly(_) => ApiError::new(ErrorKind::ReadOnly, error.to_string()),
            StorageError::Unsupported(_) => ApiError::new(ErrorKind::Execution, error.to_string()),
            error => ApiError::internal(error.to_string()),
        }
    }
}

impl From<Stopped> for ApiError {
    fn from(stopped: Stopped) -> ApiError {
        StorageError::Stopped(stopped).into()
    }
}

/// A success with data that serde writes.
pub(crate) fn success(data: &impl Serialize) -> Result<HttpResponse, ApiError> {
    success_with_warnings(data, &[])
}

/// A success with data that serde writes, and warnings.
pub(crate) fn success_with_warnings(data: &impl Serialize, warnings: &[String]) -> Result<HttpResponse, ApiError> {
    let mut out = ChunkWriter::new();
    out.buffer().extend_from_slice(b"{\"status\":\"success\",\"data\":");
    let mut serializer = serde_json::Serializer::with_formatter(out.buffer(), json::Formatter);
    data.serialize(&mut serializer).map_err(|error| ApiError::internal(error.to_string()))?;
    finish_envelope(&mut out, warnings, &[]);
    Ok(out.into_response())
}

/// Most warnings, and most infos, that an answer shows.
const ANNOTATIONS_MAX: usize = 10;

/// Writes what follows the data.
pub(crate) fn finish_envelope(out: &mut ChunkWriter, warnings: &[String], infos: &[String]) {
    for (key, kind, texts) in [("warnings", "warning", warnings), ("infos", "info", infos)] {
        if texts.is_empty() {
            continue;
        }
        let buffer = out.buffer();
        buffer.extend_from_slice(format!(",\"{key}\":[").as_bytes());
        for (at, text) in texts.iter().take(ANNOTATIONS_MAX).enumerate() {
            if at > 0 {
                buffer.push(b',');
            }
            json::write_text(buffer, text);
        }
        if let Some(more @ 1..) = texts.len().checked_sub(ANNOTATIONS_MAX) {
            buffer.extend_from_slice(format!(",\"{more} more {kind} annotations omitted\"").as_bytes());
        }
        buffer.push(b']');
    }
    out.buffer().push(b'}');
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text.into())
}

/// A wrong method on a known path.
pub(crate) fn method_not_allowed(allow: &str, message: &str) -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header((header::ALLOW, allow.to_owned()))
        .content_type("text/plain; charset=utf-8")
        .body(message.to_owned())
}

/// Size at which a piece of an answer is finished and the next begun: large answers never move in memory.
const CHUNK_BYTES: usize = 64 << 10;
/// Room behind that for what one step writes, so that pieces rarely grow.
const CHUNK_SLACK_BYTES: usize = 4 << 10;

/// Builds a large body out of pieces.
#[derive(Debug, Default)]
pub(crate) struct ChunkWriter {
    current: Vec<u8>,
    full: Vec<Bytes>,
    memory: Option<Reservation>,
    full_bytes: usize,
}

impl ChunkWriter {
    pub(crate) fn new() -> ChunkWriter {
        ChunkWriter::default()
    }

    /// One whose pieces count as memory of a query until they are sent.
    pub(crate) fn within(control: &Control) -> ChunkWriter {
        ChunkWriter { memory: Some(control.reserve()), ..ChunkWriter::default() }
    }

    /// Where to write. Call [`ChunkWriter::spill`] every few hundred bytes.
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.current
    }

    /// Begins a new piece if the present one is full. Fails if there is no memory for it.
    #[inline]
    pub(crate) fn spill(&mut self) -> Result<(), Stopped> {
        if self.current.len() >= CHUNK_BYTES {
            if let Some(memory) = &mut self.memory {
                memory.grow(self.current.len())?;
            }
            let next = Vec::with_capacity(CHUNK_BYTES + CHUNK_SLACK_BYTES);
            self.full_bytes += self.current.len();
            self.full.push(std::mem::replace(&mut self.current, next).into());
        }
        Ok(())
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.full_bytes + self.current.len()
    }

    pub(crate) fn into_chunks(mut self) -> Chunks {
        if !self.current.is_empty() || self.full.is_empty() {
            self.full.push(self.current.into());
        }
        let bytes = self.full.iter().map(|chunk| chunk.len() as u64).sum();
        Chunks { rest: self.full.into_iter(), bytes, memory: self.memory, more: None }
    }

    /// What is written so far, and behind it what `more` has yet to write.
    pub(crate) fn into_chunks_before(self, more: Rendering) -> Chunks {
        Chunks { more: Some(Box::new(more)), ..self.into_chunks() }
    }

    fn into_response(self) -> HttpResponse {
        json_response(self.into_chunks())
    }
}

/// A successful JSON answer.
pub(crate) fn json_response(body: Chunks) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(body)
}

/// A body in pieces.
#[derive(Debug)]
pub(crate) struct Chunks {
    rest: std::vec::IntoIter<Bytes>,
    /// Of the pieces that were there at the beginning.
    bytes: u64,
    /// What the pieces count for.
    memory: Option<Reservation>,
    /// Writes what follows them.
    more: Option<Box<Rendering>>,
}

impl Chunks {
    /// The next piece; an error once nobody waits for the rest any more, which ends the connection.
    fn next_piece(&mut self) -> Option<Result<Bytes, io::Error>> {
        if let Some(piece) = self.rest.next() {
            if let Some(memory) = &mut self.memory {
                memory.shrink(piece.len());
            }
            return Some(Ok(piece));
        }
        let mut rendering = self.more.take()?;
        // From here on there is one piece at a time.
        self.memory = None;
        let mut out = ChunkWriter::new();
        match rendering.go_on(&mut out, CHUNK_BYTES) {
            Ok(is_whole) => {
                self.more = Some(rendering).filter(|_| !is_whole);
                self.rest = out.into_chunks().rest;
                self.rest.next().map(Ok)
            }
            Err(error) => Some(Err(io::Error::other(error.text))),
        }
    }
}

impl MessageBody for Chunks {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        if self.more.is_some() { BodySize::Stream } else { BodySize::Sized(self.bytes) }
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(self.next_piece())
    }
}

#[cfg(test)]
pub(crate) fn collect(mut chunks: Chunks) -> String {
    let pieces = std::iter::from_fn(|| chunks.next_piece());
    String::from_utf8(pieces.flat_map(|piece| piece.unwrap().to_vec()).collect()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_beyond_ten_are_counted() {
        let warnings: Vec<String> = (0..12).map(|n| format!("w{n}")).collect();
        let mut out = ChunkWriter::new();
        finish_envelope(&mut out, &warnings, &["i".to_owned()]);
        let text = collect(out.into_chunks());
        assert!(text.ends_with(r#""w9","2 more warning annotations omitted"],"infos":["i"]}"#), "{text}");
    }

    #[test]
    fn large_bodies_are_cut_into_pieces_and_keep_their_size() {
        let mut out = ChunkWriter::new();
        for n in 0..100_000u32 {
            out.buffer().extend_from_slice(&n.to_le_bytes());
            out.spill().unwrap();
        }
        let chunks = out.into_chunks();
        assert_eq!(chunks.bytes, 400_000);
        assert_eq!(chunks.rest.len(), 7);
        assert_eq!(chunks.rest.map(|c| c.len()).sum::<usize>(), 400_000);
    }
}
