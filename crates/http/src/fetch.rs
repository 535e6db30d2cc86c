//! A target that is fetched again and again: what is the same in every request is made once.
//!
//! A scrape of a small target costs little more than waking up for it, and then most of that is code that nothing else has run
//! since the scrape before: every step that can be taken beforehand is one that need not be fetched from memory. So a
//! [`Fetcher`] knows where its URL leads and has the bytes of its request, unless something in them has to be looked up anew
//! each time (secrets and headers in files, tokens). What is seldom needed is boxed, so that what is moved about stays small.

use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use reqwest::{Method, Response, StatusCode};
use tokio::time::Instant;

use crate::body::{BodyReader, ContentEncoding};
use crate::client::{Client, Hop, parse, set};
use crate::direct::{Asked, Place};
use crate::timings::Stopwatch;
use crate::{HttpError, credentials, direct, status_text};

/// A fetch of a target.
#[derive(Clone, Copy, Debug)]
pub struct ScrapeRequest<'r> {
    /// What to get.
    pub url: &'r str,
    /// Accept header.
    pub accept: &'r str,
    /// User-Agent header.
    pub user_agent: &'r str,
    /// For connecting, request and body together.
    pub timeout: Duration,
    /// `body_size_limit`; 0: none.
    pub body_size_limit: u64,
    /// Whether to ask for gzip.
    pub enable_compression: bool,
    /// Notes where the time goes, if somebody wants to know. A [`Fetcher`] is told each time.
    pub watch: Option<&'r Stopwatch>,
}

/// A response with status 200 whose body was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeResponse {
    /// Content-Type, empty if there is none.
    pub content_type: String,
    /// Bytes received, before decompression and without headers.
    pub wire_bytes: usize,
    /// Where the body begins in the buffer; it goes to the buffer's end.
    pub body_at: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    url: Box<str>,
    timeout: Duration,
    body_size_limit: u64,
    /// The headers of every request, beside those that the section adds; or what is wrong with them.
    headers: Result<HeaderMap, String>,
    /// The short way, if that leads there.
    direct: Option<ShortWay>,
}

#[derive(Debug)]
struct ShortWay {
    place: Place,
    /// The request, where it is always the same.
    request: Option<Box<[u8]>>,
}

/// What came of asking a target directly.
enum Direct {
    Response(ScrapeResponse),
    /// The general client goes on from here.
    Redirect(Box<Hop>),
}

impl Fetcher {
    /// Fetches what `request` says through `client`.
    pub fn new(client: Client, request: &ScrapeRequest<'_>) -> Fetcher {
        let headers = headers(request);
        let direct = client.place(request.url).map(|place| {
            let own = match credentials::are_fixed(client.config()) {
                true => credentials::headers(client.config()).ok(),
                false => None,
            };
            let request = match (&headers, own) {
                (Ok(headers), Some(own)) => Some(direct::request(&place, &[headers, &own]).into()),
                _ => None,
            };
            ShortWay { place, request }
        });
        let ScrapeRequest { timeout, body_size_limit, .. } = *request;
        Fetcher { client, url: request.url.into(), timeout, body_size_limit, headers, direct }
    }

    /// Gets the body into `body`, whose contents are replaced and whose memory is used again. What stands before the body there
    /// is of no meaning. `watch` notes where the time goes.
    pub async fn fetch(&self, watch: Option<&Stopwatch>, body: &mut Vec<u8>) -> Result<ScrapeResponse, HttpError> {
        let deadline = Instant::now() + self.timeout;
        let hop = match &self.direct {
            Some(way) => match self.fetch_directly(way, deadline, watch, body).await? {
                Direct::Response(response) => return Ok(response),
                Direct::Redirect(hop) => hop,
            },
            None => Box::new(Hop::first(parse(Method::GET, &self.url)?)),
        };
        Box::pin(self.fetch_generally(*hop, deadline, watch, body)).await
    }

    fn headers(&self) -> Result<&HeaderMap, HttpError> {
        self.headers.as_ref().map_err(|reason| HttpError::Config(reason.clone()))
    }

    async fn fetch_directly(
        &self,
        way: &ShortWay,
        deadline: Instant,
        watch: Option<&Stopwatch>,
        body: &mut Vec<u8>,
    ) -> Result<Direct, HttpError> {
        let made;
        let request = match &way.request {
            Some(request) => request,
            None => {
                made = Box::pin(self.request_now(&way.place, deadline)).await?;
                &made[..]
            }
        };
        let (url, place, size_limit) = (&*self.url, &way.place, self.body_size_limit);
        let asked = Asked { url, place, request, size_limit, watch };
        let answer = direct::get(&self.client.idle, &asked, deadline, body).await?;
        if answer.status != 200 {
            return self.other_status(answer.status, answer.location.as_deref()).map(Direct::Redirect);
        }
        let (mut wire_bytes, mut body_at) = (answer.body.len(), answer.body.start);
        body.truncate(answer.body.end);
        let encoding = ContentEncoding::of(&answer.encoding);
        if encoding != ContentEncoding::Identity {
            let packed = body.split_off(body_at);
            let mut reader = BodyReader::new(encoding, self.body_size_limit, body)?;
            reader.push(&packed)?;
            (wire_bytes, body_at) = (reader.finish()?, 0);
        }
        Ok(Direct::Response(ScrapeResponse { content_type: answer.content_type, wire_bytes, body_at }))
    }

    fn failed(&self, reason: String) -> HttpError {
        HttpError::Request { method: "Get", url: self.url.as_ref().to_owned(), reason }
    }

    /// The request with what has to be looked up for it.
    async fn request_now(&self, place: &Place, deadline: Instant) -> Result<Vec<u8>, HttpError> {
        let headers = self.headers()?;
        let own = self.client.own_headers(headers, deadline).await.map_err(|reason| self.failed(reason))?;
        Ok(direct::request(place, &[headers, &own]))
    }

    /// What an answer that is not 200 means: where it leads, or an error.
    #[cold]
    fn other_status(&self, status: u16, location: Option<&[u8]>) -> Result<Box<Hop>, HttpError> {
        let status = StatusCode::from_u16(status).map_err(|error| self.failed(error.to_string()))?;
        if status.is_redirection() {
            let at = parse(Method::GET, &self.url)?;
            let next = self.client.redirect_of(status, location, &at).map_err(|reason| self.failed(reason))?;
            if let Some(next) = next {
                let mut hop = Box::new(Hop::first(at));
                hop.follow(next);
                return Ok(hop);
            }
        }
        Err(HttpError::Status(status_text(status)))
    }

    async fn fetch_generally(
        &self,
        hop: Hop,
        deadline: Instant,
        watch: Option<&Stopwatch>,
        body: &mut Vec<u8>,
    ) -> Result<ScrapeResponse, HttpError> {
        let headers = self.headers()?.clone();
        let sending = self.client.send(Method::GET, hop, headers, None, deadline);
        let mut response = match watch {
            Some(watch) => watch.around(sending).await?,
            None => sending.await?,
        };
        if response.status() != StatusCode::OK {
            return Err(HttpError::Status(status_text(response.status())));
        }
        let header = |response: &Response, name| {
            let value = response.headers().get(name);
            value.map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
        };
        let content_type = header(&response, CONTENT_TYPE);
        let encoding = ContentEncoding::of(&header(&response, CONTENT_ENCODING));
        let mut reader = BodyReader::new(encoding, self.body_size_limit, body)?;
        loop {
            let piece = tokio::time::timeout_at(deadline, response.chunk()).await;
            let piece = piece.map_err(|_elapsed| HttpError::BodyTimeout)?;
            match piece.map_err(|_error| HttpError::Body("unexpected EOF".to_owned()))? {
                Some(piece) => reader.push(&piece)?,
                None => break,
            }
        }
        Ok(ScrapeResponse { content_type, wire_bytes: reader.finish()?, body_at: 0 })
    }
}

fn headers(request: &ScrapeRequest<'_>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let encoding = if request.enable_compression { "gzip" } else { "identity" };
    let seconds = request.timeout.as_secs_f64().to_string();
    for (name, value) in [
        (ACCEPT, request.accept),
        (ACCEPT_ENCODING, encoding),
        (USER_AGENT, request.user_agent),
        (HeaderName::from_static("x-prometheus-scrape-timeout-seconds"), &seconds),
    ] {
        set(&mut headers, name, value).map_err(|error| error.to_string())?;
    }
    Ok(headers)
}
