//! Why a request failed, in the words of Prometheus and of Go's `net/http`.

use std::error::Error;
use std::io;

/// Chains of sources are short; the bound only guards against one that refers to itself.
const SOURCES_MAX: usize = 16;

/// How hyper says that a connection ended instead of an answer.
const CLOSED: &str = "connection closed before message completed";

/// Why a request failed, or a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A status other than the expected. Text as in Prometheus for scrapes.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// A push was not accepted. Text as in Prometheus.
    #[error("bad response status {0}")]
    PushStatus(String),
    /// Nothing came of the request. Text as in Go.
    #[error("{method} \"{url}\": {reason}")]
    Request {
        /// `Get` or `Post`.
        method: &'static str,
        /// The URL, without password.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The deadline passed while the body was read. Text as in Go.
    #[error("context deadline exceeded")]
    BodyTimeout,
    /// The body broke off or cannot be decompressed.
    #[error("{0}")]
    Body(String),
    /// The decompressed body reaches `body_size_limit`. Text as in Prometheus.
    #[error("body size limit exceeded")]
    BodySizeLimit,
    /// The decompressed body is larger than anything we hold in memory.
    #[error("body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// All bodies that are being read, of all targets, take as much memory as they may.
    #[error("bodies that are being read take too much memory together (limit {0} bytes)")]
    NoRoom(usize),
    /// The compressed body expands like nothing that is honest.
    #[error("decompressed body is more than {0} times as large as what was received")]
    Bomb(usize),
    /// The section cannot be used.
    #[error("{0}")]
    Config(String),
}

impl HttpError {
    /// Whether it is `body_size_limit`.
    pub fn is_body_size_limit(&self) -> bool {
        matches!(self, HttpError::BodySizeLimit)
    }
}

/// Whether the server closed the connection before it answered.
pub(crate) fn is_closed(error: &reqwest::Error) -> bool {
    let mut last: &dyn Error = error;
    for _ in 0..SOURCES_MAX {
        if last.to_string().contains(CLOSED) {
            return true;
        }
        match last.source() {
            Some(source) => last = source,
            None => break,
        }
    }
    false
}

/// What went wrong on the way to `host` (`name:port`), as Go says it.
pub(crate) fn reason(error: &reqwest::Error, host: &str) -> String {
    let mut last: &dyn Error = error;
    let mut texts = Vec::new();
    let mut io_kind = None;
    for _ in 0..SOURCES_MAX {
        texts.push(last.to_string());
        if let Some(error) = last.downcast_ref::<io::Error>() {
            io_kind = Some(error.kind());
        }
        match last.source() {
            Some(source) => last = source,
            None => break,
        }
    }
    let is_dns = texts.iter().any(|text| text.contains("dns error"));
    let is_closed = texts.iter().any(|text| text.contains(CLOSED));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if is_dns {
        return format!("dial tcp: lookup {name}: no such host");
    }
    if error.is_connect() {
        return match io_kind.and_then(dial_text) {
            Some(text) => format!("dial tcp {host}: {text}"),
            None => last.to_string(),
        };
    }
    if is_closed || io_kind == Some(io::ErrorKind::UnexpectedEof) {
        return "EOF".to_owned();
    }
    if io_kind == Some(io::ErrorKind::ConnectionReset) {
        return format!("read tcp {host}: read: connection reset by peer");
    }
    last.to_string()
}

/// Why a connection could not be made, as Go says it.
pub(crate) fn dial_text(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => "connect: connection refused",
        io::ErrorKind::HostUnreachable => "connect: no route to host",
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        io::ErrorKind::TimedOut => "i/o timeout",
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        _ => return None,
    })
}
