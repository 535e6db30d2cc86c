//! The client.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fk_config::{Auth, HttpClientConfig, ProxyConfig};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use reqwest::{Method, Response, StatusCode, redirect};
use tokio::time::Instant;
use url::Url;

use crate::body::{BodyReader, ContentEncoding};
use crate::error::{is_closed, reason};
use crate::fetch::{Fetcher, ScrapeRequest, ScrapeResponse};
use crate::oauth2::TokenSource;
use crate::timings::{TimedConnector, TimedResolver};
use crate::tls::{self, Material};
use crate::{HttpError, credentials, direct, host_and_port, proxy, status_text};

/// How many redirects are followed, as in Go.
const REDIRECTS_MAX: usize = 10;

/// After so long without a frame an HTTP/2 connection is asked whether it is alive, and given so long to answer.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(60);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest header of an HTTP/2 response, bytes.
const HTTP2_HEADER_BYTES_MAX: u32 = 256 << 10;

/// A request of a tool, which wants to see the answer whatever its status.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'r> {
    /// Where to.
    pub url: &'r str,
    /// Headers of the request.
    pub headers: &'r [(String, String)],
    /// What to post; nothing is posted, but gotten, if there is none.
    pub body: Option<&'r [u8]>,
    /// For connecting, request and body together.
    pub timeout: Duration,
    /// Largest body of an answer; 0: none.
    pub body_size_limit: u64,
}

/// A client for one `http_client_config` section. Clones share connections.
#[derive(Clone)]
pub struct Client {
    config: Arc<HttpClientConfig>,
    unix_socket: Option<Arc<str>>,
    state: Arc<Mutex<State>>,
    pub(crate) idle: Arc<direct::Idle>,
    tokens: Option<Arc<TokenSource>>,
}

struct State {
    inner: reqwest::Client,
    material: Material,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).field("unix_socket", &self.unix_socket).finish()
    }
}

impl Client {
    /// A client as the section says. Fails if certificates cannot be read or the proxy is no URL.
    pub fn new(config: &HttpClientConfig) -> Result<Client, HttpError> {
        Client::build(config, None)
    }

    /// The same, but all connections go to this Unix socket, whatever the URL says.
    pub fn with_unix_socket(config: &HttpClientConfig, path: &str) -> Result<Client, HttpError> {
        Client::build(config, Some(path.into()))
    }

    fn build(config: &HttpClientConfig, unix_socket: Option<Arc<str>>) -> Result<Client, HttpError> {
        let material = Material::read(&config.tls).map_err(HttpError::Config)?;
        let inner = inner(config, &material, unix_socket.as_deref()).map_err(HttpError::Config)?;
        let state = Arc::new(Mutex::new(State { inner, material }));
        let tokens = match &config.auth {
            Auth::OAuth2(section) => Some(Arc::new(TokenSource::new(section).map_err(HttpError::Config)?)),
            _ => None,
        };
        Ok(Client { config: Arc::new(config.clone()), unix_socket, state, idle: Arc::default(), tokens })
    }

    /// The section the client was made from.
    pub fn config(&self) -> &HttpClientConfig {
        &self.config
    }

    /// Gets a target's body once; see [`Fetcher::fetch`].
    pub async fn scrape(&self, request: &ScrapeRequest<'_>, body: &mut Vec<u8>) -> Result<ScrapeResponse, HttpError> {
        Fetcher::new(self.clone(), request).fetch(request.watch, body).await
    }

    /// Where a URL leads, if it can be fetched without the general client.
    pub(crate) fn place(&self, url: &str) -> Option<direct::Place> {
        if self.unix_socket.is_some() || self.config.proxy != ProxyConfig::None {
            return None;
        }
        direct::place(url)
    }

    /// Posts JSON and expects any status of the 200s. The answer's body is not read.
    pub async fn post_json(
        &self,
        url: &str,
        user_agent: &str,
        body: bytes::Bytes,
        timeout: Duration,
    ) -> Result<(), HttpError> {
        let mut headers = HeaderMap::new();
        set(&mut headers, USER_AGENT, user_agent)?;
        set(&mut headers, CONTENT_TYPE, "application/json")?;
        let hop = Hop::first(parse(Method::POST, url)?);
        let response = self.send(Method::POST, hop, headers, Some(body), Instant::now() + timeout).await?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(HttpError::PushStatus(status_text(status))) }
    }

    /// Posts a form (`a=b&c=d`, encoded) and reads the answer, whatever its status: an API says in the body what is wrong.
    pub async fn post_form(
        &self,
        url: &str,
        user_agent: &str,
        form: String,
        timeout: Duration,
    ) -> Result<Vec<u8>, HttpError> {
        let deadline = Instant::now() + timeout;
        let mut headers = HeaderMap::new();
        set(&mut headers, USER_AGENT, user_agent)?;
        set(&mut headers, CONTENT_TYPE, "application/x-www-form-urlencoded")?;
        let hop = Hop::first(parse(Method::POST, url)?);
        let mut response = self.send(Method::POST, hop, headers, Some(form.into()), deadline).await?;
        let mut body = Vec::new();
        let mut reader = BodyReader::new(ContentEncoding::Identity, 0, &mut body)?;
        loop {
            let piece = tokio::time::timeout_at(deadline, response.chunk()).await;
            let piece = piece.map_err(|_elapsed| HttpError::BodyTimeout)?;
            match piece.map_err(|_error| HttpError::Body("unexpected EOF".to_owned()))? {
                Some(piece) => reader.push(&piece)?,
                None => break,
            }
        }
        reader.finish()?;
        Ok(body)
    }

    /// Sends what is asked; the status of the answer and its body.
    pub async fn ask(&self, ask: &Ask<'_>) -> Result<(u16, Vec<u8>), HttpError> {
        let deadline = Instant::now() + ask.timeout;
        let method = if ask.body.is_some() { Method::POST } else { Method::GET };
        let mut headers = HeaderMap::new();
        for (name, value) in ask.headers {
            let wrong = || HttpError::Config(format!("invalid header {name:?}"));
            set(&mut headers, HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value)?;
        }
        let body = ask.body.map(bytes::Bytes::copy_from_slice);
        let hop = Hop::first(parse(method.clone(), ask.url)?);
        let mut response = self.send(method, hop, headers, body, deadline).await?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut reader = BodyReader::new(ContentEncoding::Identity, ask.body_size_limit, &mut body)?;
        loop {
            let piece = tokio::time::timeout_at(deadline, response.chunk()).await;
            let piece = piece.map_err(|_elapsed| HttpError::BodyTimeout)?;
            match piece.map_err(|_error| HttpError::Body("unexpected EOF".to_owned()))? {
                Some(piece) => reader.push(&piece)?,
                None => break,
            }
        }
        reader.finish()?;
        Ok((status, body))
    }

    /// The headers that the section adds to the request with these headers: files are read and tokens asked for now.
    pub(crate) async fn own_headers(&self, headers: &HeaderMap, deadline: Instant) -> Result<HeaderMap, String> {
        let mut own = credentials::headers(&self.config)?;
        if let Some(tokens) = &self.tokens {
            let agent = headers.get(USER_AGENT).cloned().unwrap_or(HeaderValue::from_static(""));
            own.insert(AUTHORIZATION, tokens.header(&agent, deadline).await?);
        }
        Ok(own)
    }

    /// Sends a request and follows redirects up to the header of the last response.
    pub(crate) async fn send(
        &self,
        mut method: Method,
        mut hop: Hop,
        headers: HeaderMap,
        mut body: Option<bytes::Bytes>,
        deadline: Instant,
    ) -> Result<Response, HttpError> {
        let verb = verb(&method);
        let failed = |url: &str, reason: String| HttpError::Request { method: verb, url: url.to_owned(), reason };
        let own = match hop.trusted {
            true => self.own_headers(&headers, deadline).await.map_err(|reason| failed(hop.at.as_str(), reason))?,
            false => HeaderMap::new(),
        };
        let client = self.current().map_err(|reason| failed(hop.at.as_str(), reason))?;
        let mut repeated = false;
        while hop.followed <= REDIRECTS_MAX {
            let at = hop.at.clone();
            let shown = without_password(&at);
            let response = loop {
                let mut request = client.request(method.clone(), at.clone()).headers(headers.clone());
                if hop.trusted {
                    // Values are added to those of the same name, as Prometheus does.
                    for (name, value) in &own {
                        request = request.header(name, value);
                    }
                }
                if let Some(body) = &body {
                    request = request.body(body.clone());
                }
                match until(deadline, request.send()).await {
                    None => return Err(failed(&shown, "context deadline exceeded".to_owned())),
                    // A kept connection may be closed by the server just when it is used again.
                    Some(Err(error)) if method == Method::GET && !repeated && is_closed(&error) => repeated = true,
                    Some(Err(error)) => return Err(failed(&shown, reason(&error, &host_and_port(&at)))),
                    Some(Ok(response)) => break response,
                }
            };
            let location = response.headers().get(LOCATION).map(HeaderValue::as_bytes);
            let next = self.redirect_of(response.status(), location, &at).map_err(|reason| failed(&shown, reason))?;
            let Some(next) = next else { return Ok(response) };
            if method == Method::POST && !is_repeating(response.status()) {
                (method, body) = (Method::GET, None);
            }
            hop.follow(next);
        }
        Err(failed(&without_password(&hop.at), format!("stopped after {REDIRECTS_MAX} redirects")))
    }

    /// Where a response sends us, if it does and we follow.
    pub(crate) fn redirect_of(
        &self,
        status: StatusCode,
        location: Option<&[u8]>,
        at: &Url,
    ) -> Result<Option<Url>, String> {
        let is_redirect = matches!(status.as_u16(), 301..=303) || is_repeating(status);
        if !self.config.follow_redirects || !is_redirect {
            return Ok(None);
        }
        let location = location.ok_or_else(|| format!("{status} response missing Location header"))?;
        let location = String::from_utf8_lossy(location);
        let next = at.join(&location).map_err(|e| format!("failed to parse Location header {location:?}: {e}"))?;
        match next.scheme() {
            "http" | "https" => Ok(Some(next)),
            scheme => Err(format!("unsupported protocol scheme {scheme:?}")),
        }
    }

    /// The inner client, made anew if certificates have changed. If they cannot be read at the moment that is an error, as it
    /// would be for a new client.
    fn current(&self) -> Result<reqwest::Client, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if tls::has_files(&self.config.tls) {
            let material = Material::read(&self.config.tls)?;
            if material != state.material {
                let inner = inner(&self.config, &material, self.unix_socket.as_deref())?;
                *state = State { inner, material };
            }
        }
        Ok(state.inner.clone())
    }
}

fn inner(config: &HttpClientConfig, material: &Material, unix_socket: Option<&str>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(&config.tls, material, config.enable_http2)?)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(TimedResolver))
        .connector_layer(TimedConnector)
        .pool_idle_timeout(direct::IDLE_TIMEOUT);
    builder = if config.enable_http2 {
        // Dead connections are noticed by a ping, as in Prometheus.
        builder
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .http2_max_header_list_size(HTTP2_HEADER_BYTES_MAX)
    } else {
        builder.http1_only()
    };
    if let Some(proxy) = proxy::proxy(&config.proxy)? {
        builder = builder.proxy(proxy);
    }
    if let Some(path) = unix_socket {
        builder = builder.unix_socket(std::path::Path::new(path));
    }
    builder.build().map_err(|error| error.to_string())
}

/// Where the next request goes.
pub(crate) struct Hop {
    at: Url,
    /// The host that was asked first.
    origin: String,
    /// Whether it may have our secrets. Once a redirect has led to somebody else, nothing that comes after gets them.
    trusted: bool,
    /// Redirects that have led here.
    followed: usize,
}

impl Hop {
    pub(crate) fn first(at: Url) -> Hop {
        let origin = at.host_str().unwrap_or_default().to_owned();
        Hop { at, origin, trusted: true, followed: 0 }
    }

    pub(crate) fn follow(&mut self, next: Url) {
        // DIFFERENCE: Prometheus also sends them in the clear where TLS was spoken before.
        let downgraded = self.at.scheme() == "https" && next.scheme() == "http";
        self.trusted = self.trusted && !downgraded && is_of_host(next.host_str().unwrap_or_default(), &self.origin);
        (self.at, self.followed) = (next, self.followed + 1);
    }
}

/// Whether `host` is `origin` or below it, on whatever port: who else may have what `origin` gets, as in Prometheus.
fn is_of_host(host: &str, origin: &str) -> bool {
    let is_address = host.contains(':') || host.parse::<std::net::Ipv4Addr>().is_ok();
    host == origin || !is_address && host.strip_suffix(origin).is_some_and(|below| below.ends_with('.'))
}

fn verb(method: &Method) -> &'static str {
    if *method == Method::POST { "Post" } else { "Get" }
}

pub(crate) fn parse(method: Method, url: &str) -> Result<Url, HttpError> {
    let failed = |error: url::ParseError| HttpError::Request {
        method: verb(&method),
        url: url.to_owned(),
        reason: error.to_string(),
    };
    Url::parse(url).map_err(failed)
}

/// `None`: the deadline passed.
async fn until<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline, future).await.ok()
}

pub(crate) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), HttpError> {
    let parsed = HeaderValue::from_str(value);
    let parsed = parsed.map_err(|_| HttpError::Config(format!("invalid value of header {name}: {value:?}")))?;
    headers.insert(name, parsed);
    Ok(())
}

/// Redirects after which the same request is sent again, body and all.
fn is_repeating(status: StatusCode) -> bool {
    matches!(status.as_u16(), 307 | 308)
}

/// As Go shows it in errors.
fn without_password(url: &Url) -> String {
    let mut shown = url.clone();
    if shown.password().is_some() {
        // Fails only for URLs that cannot have a password.
        let _ = shown.set_password(Some("***"));
    }
    shown.into()
}

#[cfg(test)]
pub(crate) mod tests;
