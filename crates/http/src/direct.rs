//! The short way to a target: one HTTP/1.1 request over plain TCP, read into one buffer, on a connection that is kept.
//!
//! Nearly all targets are reached by plain HTTP without a proxy, every few seconds, for years. A general client spends more on
//! such a request than the server does on everything that the answer says: a task and a channel for each connection, the body in
//! pieces of their own, copied together again. Here a request is one write, and the answer lands where it is parsed.
//!
//! Everything else (TLS, proxies, sockets, URLs with user names or signs that need escaping) goes the general way, and so do
//! redirects from their second request on. See [`place`] for what is taken.
//!
//! A connection is kept by the thread that made it, because its events come there.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout_at};

use crate::BODY_BYTES_MAX;
use crate::HttpError;
use crate::body::ContentEncoding;
use crate::error::dial_text;
use crate::room::Room;
use crate::timings::Stopwatch;

/// How long a connection is kept without a request: longer than most scrape intervals.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// How often kept connections are looked through for old ones.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Connections that are kept to one server, as in Prometheus.
const IDLE_PER_SERVER_MAX: usize = 1000;

/// How long the first kind of addresses (IPv4 or IPv6) has before the other one is tried beside it (RFC 8305), as in Go.
const FALLBACK_DELAY: Duration = Duration::from_millis(300);

/// Most bytes of the header of an answer, and of the lines between chunks.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// Most header lines of an answer.
const HEADERS_MAX: usize = 100;

/// Room for the first read: the whole answer of a small target.
const FIRST_READ_BYTES: usize = 16 << 10;

/// Most room that is made at a time for what an answer says will come.
const ROOM_BYTES_MAX: usize = 1 << 20;

/// Interim answers (100 to 199) before the real one.
const INTERIM_MAX: usize = 8;

thread_local! {
    /// Asking the thread itself counts references each time.
    static THREAD: ThreadId = thread::current().id();
}

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Host and perhaps port, as written.
    authority: Box<str>,
    /// Path and query, from the first slash on.
    path: Box<str>,
    host: Box<str>,
    port: u16,
}

/// Where `url` leads if it is a plain one; `None`: it has to go the general way.
pub(crate) fn place(url: &str) -> Option<Place> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/')?);
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
    // A dot could begin a segment that goes up again, which the general way resolves.
    if !path.bytes().all(plain) || path.contains("/.") {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let host_is_plain = match authority.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
    };
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        None if port.is_empty() => 80,
        _ => return None,
    };
    let place = || Place { authority: authority.into(), path: path.into(), host: host.into(), port };
    (host_is_plain && !host.is_empty()).then(place)
}

/// An answer, its body still as it was sent.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub status: u16,
    /// `Content-Type`, empty if there is none.
    pub content_type: String,
    /// `Content-Encoding`, empty if there is none.
    pub encoding: String,
    /// `Location`.
    pub location: Option<Vec<u8>>,
    /// Where the body is in the buffer. Empty if the status is not 200.
    pub body: Range<usize>,
    /// The memory it takes.
    pub room: Room,
}

/// Connections without a request, of one client.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_server: HashMap<Box<str>, Vec<Connection>>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    thread: ThreadId,
    since: Instant,
}

impl Idle {
    /// A connection of this thread.
    fn take(&self, authority: &str) -> Option<TcpStream> {
        let (thread, now) = (THREAD.with(|id| *id), Instant::now());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = kept.by_server.get_mut(authority)?;
        let at = connections.iter().rposition(|connection| connection.thread == thread)?;
        let connection = connections.swap_remove(at);
        (now.saturating_duration_since(connection.since) < IDLE_TIMEOUT).then_some(connection.stream)
    }

    fn put(&self, authority: &str, stream: TcpStream) {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL) {
            kept.swept = Some(now);
            kept.by_server.retain(|_, connections| {
                connections.retain(|c| now.saturating_duration_since(c.since) < IDLE_TIMEOUT);
                !connections.is_empty()
            });
        }
        let connection = Connection { stream, thread: THREAD.with(|id| *id), since: now };
        match kept.by_server.get_mut(authority) {
            Some(connections) if connections.len() >= IDLE_PER_SERVER_MAX => {}
            Some(connections) => connections.push(connection),
            None => {
                kept.by_server.insert(authority.into(), vec![connection]);
            }
        }
    }
}

/// What an exchange went wrong by.
#[derive(Debug)]
enum Failure {
    /// Before the header was there.
    Request(String),
    /// The other side has closed the connection, or never opened it, before the first byte of an answer.
    Closed(io::Error),
    /// Behind the header.
    Body(HttpError),
}

impl Failure {
    fn bad(what: &str) -> Failure {
        Failure::Request(format!("net/http: HTTP/1.x transport connection broken: {what}"))
    }

    fn cut_off() -> Failure {
        Failure::Body(HttpError::Body("unexpected EOF".to_owned()))
    }
}

/// What is asked, and of whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// For errors.
    pub url: &'a str,
    /// Where that leads.
    pub place: &'a Place,
    /// See [`request`].
    pub request: &'a [u8],
    /// Bounds a body that is not packed; 0: nothing does.
    pub size_limit: u64,
    /// Notes where the time goes.
    pub watch: Option<&'a Stopwatch>,
}

/// Asks. The answer goes to `buffer`, whose contents are replaced.
pub(crate) async fn get(
    idle: &Idle,
    asked: &Asked<'_>,
    deadline: Instant,
    buffer: &mut Vec<u8>,
) -> Result<Answer, HttpError> {
    let in_body = Cell::new(false);
    let exchange = exchange(idle, asked, &in_body, buffer);
    let failed = |reason| HttpError::Request { method: "Get", url: asked.url.to_owned(), reason };
    match timeout_at(deadline, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failure::Request(reason))) => Err(failed(reason)),
        Ok(Err(Failure::Closed(error))) => Err(failed(match error.kind() {
            io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            io::ErrorKind::ConnectionReset => {
                format!("read tcp {}: read: connection reset by peer", asked.place.authority)
            }
            _ => error.to_string(),
        })),
        Ok(Err(Failure::Body(error))) => Err(error),
        Err(_elapsed) if in_body.get() => Err(HttpError::BodyTimeout),
        Err(_elapsed) => Err(failed("context deadline exceeded".to_owned())),
    }
}

/// The request as it is sent. Names of headers are written as Go writes them: some servers compare them byte by byte.
pub(crate) fn request(place: &Place, headers: &[&HeaderMap]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    for part in ["GET ", &place.path, " HTTP/1.1\r\nHost: ", &place.authority, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers.iter().copied().flatten() {
        let mut begins = true;
        for byte in name.as_str().bytes() {
            out.push(if begins { byte.to_ascii_uppercase() } else { byte });
            begins = byte == b'-';
        }
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

async fn exchange(
    idle: &Idle,
    asked: &Asked<'_>,
    in_body: &Cell<bool>,
    buffer: &mut Vec<u8>,
) -> Result<Answer, Failure> {
    let Asked { place, request, size_limit, watch, .. } = *asked;
    let mut kept = idle.take(&place.authority);
    let (mut stream, head) = loop {
        let is_kept = kept.is_some();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            // Boxed, for it is seldom and large.
            None => Box::pin(connect(place, watch)).await.map_err(Failure::Request)?,
        };
        match ask(&mut stream, request, watch, buffer).await {
            Ok(head) => break (stream, head),
            // The server has closed it while nobody used it.
            Err(Failure::Closed(_)) if is_kept => {}
            Err(failure) => return Err(failure),
        }
    };
    in_body.set(true);
    let mut answer = Answer {
        status: head.status,
        content_type: head.content_type,
        encoding: head.encoding,
        location: head.location,
        body: head.len..head.len,
        room: Room::default(),
    };
    let (start, room) = (head.len, &mut answer.room);
    let mut body = Body { buffer, start, limit: BODY_BYTES_MAX, room, stream: &mut stream };
    if answer.status == 200 {
        let packed = ContentEncoding::of(&answer.encoding) != ContentEncoding::Identity;
        // Exactly the limit is too much already, as in Prometheus.
        let limited = size_limit > 0 && !packed && size_limit <= BODY_BYTES_MAX as u64;
        if limited {
            body.limit = size_limit as usize - 1;
        }
        let end = body.read(head.framing).await.map_err(|failure| match failure {
            Failure::Body(HttpError::BodyTooLarge(_)) if limited => Failure::Body(HttpError::BodySizeLimit),
            other => other,
        })?;
        answer.body.end = end;
    }
    let is_all_read = match head.framing {
        Framing::UntilClosed => false,
        _ if answer.status == 200 => buffer.len() == answer.body.end,
        // Nobody wants the body: either all of it has come with the header, or the connection ends here.
        framing => framing == Framing::Length(buffer.len() - head.len),
    };
    if head.keeps && is_all_read {
        idle.put(&place.authority, stream);
    }
    Ok(answer)
}

/// The header of an answer.
#[derive(Debug)]
struct Head {
    status: u16,
    /// Its bytes in the buffer, what came before it included.
    len: usize,
    content_type: String,
    encoding: String,
    location: Option<Vec<u8>>,
    framing: Framing,
    /// Whether the connection can be used again.
    keeps: bool,
}

/// Where a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

/// Sends a request and reads up to behind the header of the answer.
async fn ask(
    stream: &mut TcpStream,
    request: &[u8],
    watch: Option<&Stopwatch>,
    buffer: &mut Vec<u8>,
) -> Result<Head, Failure> {
    buffer.clear();
    let began = Instant::now();
    stream.write_all(request).await.map_err(Failure::Closed)?;
    let (mut start, mut interim) = (0, 0);
    loop {
        buffer.reserve(FIRST_READ_BYTES);
        let is_first = buffer.is_empty();
        let read = stream.read_buf(buffer).await;
        if let Some(watch) = watch.filter(|_| is_first) {
            watch.note(|timings| &mut timings.first_byte_s, began.elapsed());
        }
        match read {
            Ok(0) if buffer.is_empty() => return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into())),
            Ok(0) => return Err(Failure::bad("unexpected EOF")),
            Ok(_) => {}
            Err(error) if buffer.is_empty() => return Err(Failure::Closed(error)),
            Err(error) => return Err(Failure::bad(&error.to_string())),
        }
        while let Some(head) = parse_head(buffer, start)? {
            if !(100..200).contains(&head.status) || head.status == 101 {
                return Ok(head);
            }
            (start, interim) = (head.len, interim + 1);
            if interim > INTERIM_MAX {
                return Err(Failure::bad("too many 1xx informational responses"));
            }
        }
        if buffer.len() - start > HEAD_BYTES_MAX {
            return Err(Failure::bad(&format!("header of the answer is longer than {HEAD_BYTES_MAX} bytes")));
        }
    }
}

/// The header that begins at `start`, if all of it is there.
fn parse_head(buffer: &[u8], start: usize) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let text = &buffer[start..];
    let len = match response.parse(text) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => {
            let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let shown = String::from_utf8_lossy(&line[..line.len().min(100)]);
            return Err(Failure::bad(&format!("malformed HTTP response {:?}", shown.trim_end())));
        }
    };
    let is_1_1 = response.version == Some(1);
    let mut head = Head {
        status: response.code.unwrap_or(0),
        len: start + len,
        content_type: String::new(),
        encoding: String::new(),
        location: None,
        framing: Framing::UntilClosed,
        keeps: is_1_1,
    };
    let (mut length, mut chunked) = (None, false);
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = header.value.trim_ascii();
        let text = || String::from_utf8_lossy(value).into_owned();
        if is("content-type") {
            if head.content_type.is_empty() {
                head.content_type = text();
            }
        } else if is("content-encoding") {
            if head.encoding.is_empty() {
                head.encoding = text();
            }
        } else if is("location") {
            head.location = Some(value.to_vec());
        } else if is("content-length") {
            let number = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let number: Option<usize> = number.and_then(|text| text.parse().ok());
            let (Some(number), true) = (number, length.is_none() || length == number) else {
                return Err(Failure::bad(&format!("bad Content-Length {:?}", text())));
            };
            length = Some(number);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") || chunked {
                return Err(Failure::bad(&format!("unsupported transfer encoding: {:?}", text())));
            }
            chunked = true;
        } else if is("connection") {
            let has =
                |option: &[u8]| value.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(option));
            head.keeps = !has(b"close") && (is_1_1 || has(b"keep-alive"));
        }
    }
    head.framing = match (head.status, chunked, length) {
        (204 | 304, ..) => Framing::Length(0),
        (_, true, _) => Framing::Chunked,
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::UntilClosed,
    };
    Ok(Some(head))
}

/// A body while it is read.
struct Body<'b> {
    buffer: &'b mut Vec<u8>,
    /// Where it begins in the buffer.
    start: usize,
    /// Its most bytes.
    limit: usize,
    room: &'b mut Room,
    stream: &'b mut TcpStream,
}

impl Body<'_> {
    /// Reads it. Returns where it ends in the buffer.
    async fn read(&mut self, framing: Framing) -> Result<usize, Failure> {
        match framing {
            Framing::Length(length) => {
                self.check(length)?;
                let end = self.start + length;
                while self.buffer.len() < end {
                    self.more(end - self.buffer.len()).await?;
                }
                Ok(end)
            }
            Framing::Chunked => self.read_chunks().await,
            Framing::UntilClosed => loop {
                self.check(self.buffer.len() - self.start)?;
                self.room.grow(self.buffer.len()).map_err(Failure::Body)?;
                self.buffer.reserve(FIRST_READ_BYTES);
                match self.stream.read_buf(self.buffer).await {
                    Ok(0) => return Ok(self.buffer.len()),
                    Ok(_) => {}
                    Err(_) => return Err(Failure::cut_off()),
                }
            },
        }
    }

    fn check(&self, bytes: usize) -> Result<(), Failure> {
        match bytes > self.limit {
            true => Err(Failure::Body(HttpError::BodyTooLarge(BODY_BYTES_MAX))),
            false => Ok(()),
        }
    }

    /// Reads something of what is still to come, which is about `wanted` bytes.
    async fn more(&mut self, wanted: usize) -> Result<(), Failure> {
        let wanted = wanted.clamp(1, ROOM_BYTES_MAX);
        self.room.grow(self.buffer.len() + wanted).map_err(Failure::Body)?;
        self.buffer.reserve(wanted);
        match self.stream.read_buf(self.buffer).await {
            Ok(0) | Err(_) => Err(Failure::cut_off()),
            Ok(_) => Ok(()),
        }
    }

    /// Reads chunks and moves them together, to where the body begins.
    async fn read_chunks(&mut self) -> Result<usize, Failure> {
        let (mut end, mut at) = (self.start, self.start);
        let malformed = || Failure::Body(HttpError::Body("malformed chunked encoding".to_owned()));
        loop {
            let (line, size) = match httparse::parse_chunk_size(&self.buffer[at..]) {
                Ok(httparse::Status::Complete(found)) => found,
                Ok(httparse::Status::Partial) if self.buffer.len() - at <= HEAD_BYTES_MAX => {
                    self.more(FIRST_READ_BYTES).await?;
                    continue;
                }
                _ => return Err(malformed()),
            };
            let size = usize::try_from(size).map_err(|_| malformed())?;
            self.check((end - self.start).saturating_add(size))?;
            if size == 0 {
                at += line;
                break;
            }
            let data = at + line..at + line + size;
            while self.buffer.len() < data.end + 2 {
                self.more(data.end + 2 - self.buffer.len()).await?;
            }
            if self.buffer[data.end..data.end + 2] != *b"\r\n" {
                return Err(malformed());
            }
            at = data.end + 2;
            self.buffer.copy_within(data, end);
            end += size;
            if at == self.buffer.len() {
                self.buffer.truncate(end);
                at = end;
            }
        }
        // Behind the last chunk there may be headers, of which none is of interest.
        loop {
            let mut trailers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            match httparse::parse_headers(&self.buffer[at..], &mut trailers) {
                Ok(httparse::Status::Complete((len, _))) => {
                    at += len;
                    break;
                }
                Ok(httparse::Status::Partial) if self.buffer.len() - at <= HEAD_BYTES_MAX => {
                    self.more(FIRST_READ_BYTES).await?;
                }
                _ => return Err(malformed()),
            }
        }
        // What nobody asked for stays behind the end; such a connection is not used again.
        self.buffer.drain(end..at);
        Ok(end)
    }
}

/// A connection to the first address that answers. Errors are texts as in Go.
async fn connect(place: &Place, watch: Option<&Stopwatch>) -> Result<TcpStream, String> {
    let (host, port) = (&*place.host, place.port);
    let began = Instant::now();
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let found = lookup_host((host, port)).await;
            if let Some(watch) = watch {
                watch.note(|timings| &mut timings.dns_s, began.elapsed());
            }
            found.map_err(|_| format!("dial tcp: lookup {host}: no such host"))?.collect()
        }
    };
    let began = Instant::now();
    let stream = connect_to(host, &addresses).await;
    if let Some(watch) = watch {
        watch.note(|timings| &mut timings.connect_s, began.elapsed());
    }
    stream
}

/// A connection to the first of these addresses that answers, those of one kind (IPv4 or IPv6) a little before the others.
async fn connect_to(host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|a| a.is_ipv6() == addresses.first().is_some_and(SocketAddr::is_ipv6));
    if first.is_empty() {
        return Err(format!("dial tcp: lookup {host}: no such host"));
    }
    if second.is_empty() {
        return connect_in_turn(&first).await;
    }
    let (mut first, mut second) = (pin!(connect_in_turn(&first)), pin!(connect_in_turn(&second)));
    tokio::select! {
        result = &mut first => match result {
            Ok(stream) => return Ok(stream),
            Err(error) => return second.await.map_err(|_| error),
        },
        () = sleep(FALLBACK_DELAY) => {}
    }
    tokio::select! {
        result = &mut first => match result {
            Ok(stream) => Ok(stream),
            Err(error) => second.await.map_err(|_| error),
        },
        result = &mut second => match result {
            Ok(stream) => Ok(stream),
            Err(_) => first.await,
        },
    }
}

async fn connect_in_turn(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut failed = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it the requests would still come, only later.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                let text = dial_text(error.kind()).map_or_else(|| error.to_string(), str::to_owned);
                failed.get_or_insert_with(|| format!("dial tcp {address}: {text}"));
            }
        }
    }
    Err(failed.unwrap_or_else(|| "dial tcp: missing address".to_owned()))
}

#[cfg(test)]
mod tests;
