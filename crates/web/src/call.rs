//! One request on its way through the server: the table entry it belongs to, the checks that come before every handler
//! (method, readiness, origin), the reading of its body, and what is counted about it.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use fk_instrument::{Counter, Family, Gauge, Histogram, Registry};
use fk_storage::{Control, Storage};
use futures_util::{FutureExt as _, StreamExt as _};

use crate::answer::{self, ApiError, ErrorKind};
use crate::live::Subscribers;
use crate::params::Params;
use crate::routes::read::Readers;
use crate::routes::search::MetadataCache;
use crate::routes::write::Receiver;
use crate::state::{AppState, Readiness};

/// Largest form body, as in Go's `ParseForm`.
pub(crate) const FORM_BYTES_MAX: usize = 10 << 20;
/// A body that takes longer than this must have come with at least [`BODY_BYTES_PER_S_MIN`].
const BODY_GRACE: Duration = Duration::from_secs(30);
/// See [`BODY_GRACE`].
const BODY_BYTES_PER_S_MIN: u64 = 1024;

/// What a handler returns.
pub(crate) type Reply = Result<HttpResponse, ApiError>;
/// A handler at work.
pub(crate) type Work = Pin<Box<dyn Future<Output = Reply>>>;

/// An entry of the table of routes.
pub(crate) struct Route {
    /// Path pattern of actix-web, below the route prefix.
    pub(crate) path: &'static str,
    /// Value of the metrics' label `handler`.
    pub(crate) label: &'static str,
    pub(crate) methods: Methods,
    pub(crate) gate: Gate,
    pub(crate) cors: Cors,
    pub(crate) handler: fn(Call) -> Work,
}

impl Route {
    /// Whether it steers the process. Prometheus has such routes for `GET` as well, to say what is wrong with it.
    fn is_lifecycle(&self) -> bool {
        self.path.starts_with("/-/") && self.methods == Methods::Change
    }

    fn allow(&self) -> &'static str {
        if self.is_lifecycle() { "GET, OPTIONS, POST, PUT" } else { self.methods.allow() }
    }
}

/// Which methods a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Methods {
    Get,
    GetHead,
    GetPost,
    Post,
    /// `POST` and `PUT`.
    Change,
}

impl Methods {
    fn accepts(self, method: &Method) -> bool {
        match self {
            Methods::Get => method == Method::GET,
            Methods::GetHead => method == Method::GET || method == Method::HEAD,
            Methods::GetPost => method == Method::GET || method == Method::POST,
            Methods::Post => method == Method::POST,
            Methods::Change => method == Method::POST || method == Method::PUT,
        }
    }

    pub(crate) fn allow(self) -> &'static str {
        match self {
            Methods::Get => "GET, OPTIONS",
            Methods::GetHead => "GET, HEAD, OPTIONS",
            Methods::GetPost => "GET, OPTIONS, POST",
            Methods::Post => "OPTIONS, POST",
            Methods::Change => "OPTIONS, POST, PUT",
        }
    }
}

/// Whether a route answers before the server is ready and while it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    WhenReady,
}

/// How a route treats requests that a browser sends for another page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cors {
    /// Plain pages: nothing is said.
    Silent,
    /// Reads of the API: allowed as `--web.cors.origin` says.
    Allow,
    /// Changes something: refused unless it comes from the server's own pages. Tools send no origin and are not affected.
    Refuse,
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) state: Arc<AppState>,
    pub(crate) metrics: Metrics,
    pub(crate) receiver: Receiver,
    pub(crate) subscribers: Subscribers,
    /// Those who watch the actors.
    pub(crate) watchers: Arc<AtomicUsize>,
    pub(crate) readers: Readers,
    pub(crate) search_metadata: MetadataCache,
}

/// The web server's own metrics, with the names and buckets of Prometheus.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Counter>,
    duration: Family<Histogram>,
    response_size: Family<Histogram>,
    panics: Counter,
    pub(crate) federation_warnings: Counter,
    pub(crate) federation_errors: Counter,
    /// `/metrics` answers being written.
    pub(crate) self_scrapes_running: Gauge,
    pub(crate) self_scrapes: Counter,
    /// Remote reads that run or wait.
    pub(crate) remote_reads: Gauge,
    /// Only with the remote-write receiver.
    pub(crate) invalid_labels_samples: Option<Counter>,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, remote_write_receiver: bool) -> Metrics {
        Metrics {
            invalid_labels_samples: remote_write_receiver.then(|| {
                registry.counter(
                    "prometheus_api_remote_write_invalid_labels_samples_total",
                    "The total number of received remote write samples and histogram samples which were rejected due to \
                     invalid labels.",
                )
            }),
            requests: registry.counters(
                "prometheus_http_requests_total",
                "Counter of HTTP requests.",
                &["handler", "code"],
            ),
            duration: registry.histograms(
                "prometheus_http_request_duration_seconds",
                "Histogram of latencies for HTTP requests.",
                &["handler"],
                &[0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0],
            ),
            response_size: registry.histograms(
                "prometheus_http_response_size_bytes",
                "Histogram of response size for HTTP requests.",
                &["handler"],
                &[1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9],
            ),
            panics: registry
                .counter("firekeeper_http_panics_total", "Requests whose handler panicked; answered with 500."),
            federation_warnings: registry.counter(
                "prometheus_web_federation_warnings_total",
                "Total number of warnings that occurred while sending federation responses.",
            ),
            federation_errors: registry.counter(
                "prometheus_web_federation_errors_total",
                "Total number of errors that occurred while sending federation responses.",
            ),
            remote_reads: registry.gauge(
                "prometheus_remote_read_handler_queries",
                "The current number of remote read queries that are either in execution or queued on the handler.",
            ),
            self_scrapes_running: registry
                .gauge("promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served."),
            self_scrapes: {
                let scrapes = registry.counters(
                    "promhttp_metric_handler_requests_total",
                    "Total number of scrapes by HTTP status code.",
                    &["code"],
                );
                // Shown with zero from the start, as in Prometheus.
                for code in ["500", "503"] {
                    let _ = scrapes.get(&[code]);
                }
                scrapes.get(&["200"])
            },
        }
    }

    /// The metrics of one route.
    pub(crate) fn of_route(&self, label: &'static str) -> RouteMetrics {
        RouteMetrics {
            label,
            requests: self.requests.clone(),
            ok: self.requests.get(&[label, "200"]),
            duration: self.duration.get(&[label]),
            response_size: self.response_size.get(&[label]),
        }
    }
}

/// The metrics of one route, looked up once.
#[derive(Clone)]
pub(crate) struct RouteMetrics {
    label: &'static str,
    requests: Family<Counter>,
    /// Member of `requests` for the code that nearly all answers have.
    ok: Counter,
    duration: Histogram,
    response_size: Histogram,
}

impl RouteMetrics {
    fn observe(&self, status: StatusCode, took: Duration) {
        if status == StatusCode::OK {
            self.ok.inc();
        } else {
            self.requests.get(&[self.label, status.as_str()]).inc();
        }
        self.duration.observe(took.as_secs_f64());
    }
}

/// A request that has passed the checks.
pub(crate) struct Call {
    pub(crate) req: HttpRequest,
    pub(crate) shared: Arc<Shared>,
    payload: web::Payload,
}

impl Call {
    pub(crate) fn state(&self) -> &AppState {
        &self.shared.state
    }

    /// The storage; an error if it is not open although the server is ready (it is being reopened).
    pub(crate) fn storage(&self) -> Result<Arc<dyn Storage>, ApiError> {
        // Text as in Prometheus.
        self.state().storage.get().ok_or_else(|| ApiError::new(ErrorKind::Unavailable, "TSDB not ready"))
    }

    /// Segment `idx` of the path below the route prefix, decoded.
    pub(crate) fn segment(&self, idx: usize) -> Result<String, ApiError> {
        // From the path as sent: actix-web replaces bytes that are not UTF-8 when it decodes.
        let path = self.req.uri().path();
        let path = path.strip_prefix(self.state().options.route_prefix.as_str()).unwrap_or(path);
        let raw = path.trim_start_matches('/').split('/').nth(idx).unwrap_or("");
        crate::params::decode(raw.as_bytes(), false)
            .map_err(|reason| ApiError::bad_data(format!("invalid path: {reason}")))
    }

    /// URL query, and form body if there is one.
    pub(crate) async fn params(&mut self) -> Result<Params, ApiError> {
        let mut params = Params::default();
        let is_form = || {
            let kind = self.req.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
            kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        };
        if (self.req.method() == Method::POST || self.req.method() == Method::PUT) && is_form() {
            params.add_encoded(&self.body(FORM_BYTES_MAX).await?)?;
        }
        params.add_encoded(self.req.query_string().as_bytes())?;
        Ok(params)
    }

    /// The body, at most `bytes_max` of it. Bounded in time as well: `--web.read-timeout`, and a minimal rate.
    pub(crate) async fn body(&mut self, bytes_max: usize) -> Result<Bytes, ApiError> {
        let too_large = || ApiError::new(ErrorKind::TooLarge, format!("request body is larger than {bytes_max} bytes"));
        let announced =
            self.req.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(too_large());
        }
        let started = tokio::time::Instant::now();
        let whole = self.state().options.read_timeout;
        let mut body = BytesMut::new();
        loop {
            let earned = BODY_GRACE + Duration::from_secs(body.len() as u64 / BODY_BYTES_PER_S_MIN);
            let next = tokio::time::timeout_at(started + earned.min(whole), self.payload.next());
            match next.await {
                Err(_) => return Err(ApiError::new(ErrorKind::TooSlow, "request body came too slowly")),
                Ok(None) => return Ok(body.freeze()),
                Ok(Some(Err(error))) => return Err(ApiError::bad_data(format!("error reading request body: {error}"))),
                Ok(Some(Ok(bytes))) if body.len() + bytes.len() > bytes_max => {
                    drop(bytes);
                    return Err(too_large());
                }
                Ok(Some(Ok(bytes))) => body.extend_from_slice(&bytes),
            }
        }
    }
}

/// Cancels work on another thread when whoever waits for it is dropped: the client has gone.
pub(crate) struct CancelOnDrop(pub(crate) Control);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs a request from its arrival to its answer.
pub(crate) async fn run(
    route: &'static Route,
    metrics: RouteMetrics,
    shared: Arc<Shared>,
    req: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let started = Instant::now();
    let panics = shared.metrics.panics.clone();
    let origin = req.headers().get(header::ORIGIN).cloned();
    let answered = AssertUnwindSafe(answer(route, Arc::clone(&shared), req, payload)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        panics.inc();
        log::error!("handler {} panicked", route.label);
        ApiError::internal("the handler of this request panicked").response()
    });
    let headers = response.headers_mut();
    if route.cors == Cors::Allow {
        allow_origin(&shared.state, origin.as_ref(), headers);
    }
    set_default(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if route.path.starts_with("/api/") {
        set_default(headers, header::CACHE_CONTROL, "no-store");
    }
    let status = response.status();
    metrics.observe(status, started.elapsed());
    match response.body().size() {
        BodySize::Sized(bytes) => metrics.response_size.observe(bytes as f64),
        BodySize::None => metrics.response_size.observe(0.0),
        // Known when it has been sent.
        BodySize::Stream => {
            let size = metrics.response_size;
            return response.map_body(|_, body| BoxBody::new(Counted { body, bytes: 0, size }));
        }
    }
    response
}

/// A body whose size is seen only while it is sent. Counted when it is over, also if the client has gone in the middle of it.
struct Counted {
    body: BoxBody,
    bytes: u64,
    size: Histogram,
}

impl MessageBody for Counted {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = Pin::new(&mut self.body).poll_next(context);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.bytes += piece.len() as u64;
        }
        next
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.size.observe(self.bytes as f64);
    }
}

async fn answer(route: &'static Route, shared: Arc<Shared>, req: HttpRequest, payload: web::Payload) -> HttpResponse {
    if route.gate == Gate::WhenReady
        && let Some(refusal) = not_ready(&shared.state)
    {
        return refusal;
    }
    if req.method() == Method::OPTIONS {
        return match route.cors {
            Cors::Allow => HttpResponse::NoContent().finish(),
            // As in Prometheus, but that nobody is allowed anything.
            Cors::Refuse if route.path.starts_with("/api/") => HttpResponse::NoContent().finish(),
            Cors::Silent | Cors::Refuse => HttpResponse::Ok().insert_header((header::ALLOW, route.allow())).finish(),
        };
    }
    if !route.methods.accepts(req.method()) {
        // Texts as in Prometheus.
        let text = match route.is_lifecycle() && req.method() == Method::GET {
            true => "Only POST or PUT requests allowed",
            false => "Method Not Allowed\n",
        };
        return answer::method_not_allowed(route.allow(), text);
    }
    if route.cors == Cors::Refuse && !same_origin(&shared.state, req.headers()) {
        return answer::text(StatusCode::FORBIDDEN, "requests from other origins may not change anything\n");
    }
    match (route.handler)(Call { req, shared, payload }).await {
        Ok(response) => response,
        Err(error) => error.response(),
    }
}

/// The answer to a browser that asks whether pages of another origin may read something.
pub(crate) fn preflight(state: &AppState, req: &HttpRequest) -> HttpResponse {
    if let Some(refusal) = not_ready(state) {
        return refusal;
    }
    let mut response = HttpResponse::NoContent().finish();
    allow_origin(state, req.headers().get(header::ORIGIN), response.headers_mut());
    response
}

/// The answer of gated routes unless the server is ready.
fn not_ready(state: &AppState) -> Option<HttpResponse> {
    let stopping = match state.status.readiness() {
        Readiness::Ready => return None,
        Readiness::Starting => "false",
        Readiness::Stopping => "true",
    };
    let response = HttpResponse::ServiceUnavailable()
        .insert_header(("X-Prometheus-Stopping", stopping))
        .content_type("text/plain; charset=utf-8")
        .body("Service Unavailable");
    Some(response)
}

/// Adds the headers that let pages of other origins read an answer (`httputil.SetCORS` in Prometheus).
fn allow_origin(state: &AppState, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin.filter(|origin| !origin.is_empty()) else { return };
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // As in Prometheus the origin itself even where all are allowed.
    if origin.to_str().is_ok_and(|text| state.options.cors_origin.is_match(text)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

/// Whether a request that changes something comes from a page of this server, or from no page at all.
fn same_origin(state: &AppState, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("invalid"));
    let Some(origin) = text(header::ORIGIN) else {
        return !matches!(
            text(HeaderName::from_static("sec-fetch-site")),
            Some("cross-site" | "same-site" | "invalid")
        );
    };
    let external = &state.options.external_url;
    if external.strip_prefix(origin).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return true;
    }
    // The page may have been opened under an address. A name would do as well were it not for DNS rebinding, which makes
    // a foreign name point here; an address cannot be rebound.
    let Some(host) = origin.split_once("://").map(|(_, host)| host) else { return false };
    let is_address = host.parse::<std::net::SocketAddr>().is_ok() || host.parse::<std::net::IpAddr>().is_ok();
    let is_local = host == "localhost" || host.starts_with("localhost:");
    (is_address || is_local) && text(header::HOST) == Some(host)
}

fn set_default(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    if !headers.contains_key(&name) {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
