//! The server itself: listeners, workers, limits of connections, and how the table of routes becomes an application.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_server::ServerBuilder;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{AppConfig, Server};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::{Compress, Condition, Next, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rustix::net::sockopt::set_tcp_user_timeout;

use crate::WORKERS_MAX;
use crate::answer;
use crate::call::{self, Metrics, Route, RouteMetrics, Shared};
use crate::live::Subscribers;
use crate::routes::read::Readers;
use crate::routes::{ROUTES, files};
use crate::secure::guard::Guard;
use crate::secure::{WebFile, tls};
use crate::state::AppState;

/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may leave an answer lying in the socket without taking any of it.
const STALLED_READER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a closed connection may take to take its last bytes.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a graceful stop waits for running requests, s.
const SHUTDOWN_TIMEOUT_S: u64 = 10;

/// What the routes of all workers share. Makes the web server's own metrics in the registry: build it once.
#[derive(Clone)]
pub struct Routes(pub(crate) Arc<Shared>);

impl Routes {
    /// The routes on top of a state.
    pub fn new(state: Arc<AppState>) -> Routes {
        let metrics = Metrics::new(&state.registry, state.options.remote_write_receiver);
        for route in ROUTES.iter().filter(|route| exists(route, &state)) {
            // Shown with zero from the start, as in Prometheus.
            let _ = metrics.of_route(route.label);
        }
        let (readers, subscribers) = (Readers::new(&state.options), Subscribers::new(&state.registry));
        let (receiver, search_metadata, watchers) = Default::default();
        Routes(Arc::new(Shared { state, metrics, receiver, readers, search_metadata, subscribers, watchers }))
    }

    /// Adds all routes to an application.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        let prefix = self.0.state.options.route_prefix.as_str();
        for route in ROUTES.iter().filter(|route| exists(route, &self.0.state)) {
            let (shared, metrics): (_, RouteMetrics) = (Arc::clone(&self.0), self.0.metrics.of_route(route.label));
            let handler = move |req: HttpRequest, payload: web::Payload| {
                call::run(route, metrics.clone(), Arc::clone(&shared), req, payload)
            };
            config.service(web::resource(format!("{prefix}{}", route.path)).to(handler));
        }
        if !prefix.is_empty() {
            for path in ["/", prefix] {
                let target = format!("{prefix}/");
                let to_prefix = move || {
                    let target = target.clone();
                    async move { HttpResponse::Found().insert_header(("Location", target)).finish() }
                };
                config.service(web::resource(path).to(to_prefix));
            }
        }
        let shared = Arc::clone(&self.0);
        config.default_service(web::to(move |req: HttpRequest| {
            let response = elsewhere(&shared.state, &req);
            async move { response }
        }));
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Routes").field(&self.0.state).finish()
    }
}

/// The paths of all routes, below the route prefix, with the methods each takes; for those who list them.
pub fn routes() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    ROUTES.iter().map(|route| (route.path, route.methods.allow().split(", ").collect()))
}

/// Some routes are there only with their flag.
fn exists(route: &Route, state: &AppState) -> bool {
    route.label != files::USER_LABEL || state.options.user_assets.is_some()
}

/// The answer for paths that are no route.
fn elsewhere(state: &AppState, req: &HttpRequest) -> HttpResponse {
    let prefix = state.options.route_prefix.as_str();
    let below = req.path().strip_prefix(prefix).filter(|below| below.starts_with('/')).unwrap_or("");
    if req.method() == Method::OPTIONS && below.starts_with("/api/v1/") {
        return call::preflight(state, req);
    }
    // Spelt a little differently: another case, a slash too many. Only ever to a path of the table.
    if let Some(route) = ROUTES.iter().find(|route| same_path(route.path, below)) {
        let query = req.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        // A path that is not clean is one of a sloppy client, as in Go's server; another spelling is a mistake.
        let is_clean = !below.contains("//") && !below.contains("/./");
        let (status, name) = match req.method() == Method::GET {
            _ if !is_clean => (StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect"),
            true => (StatusCode::MOVED_PERMANENTLY, "Moved Permanently"),
            false => (StatusCode::PERMANENT_REDIRECT, "Permanent Redirect"),
        };
        let place = format!("{prefix}{}{query}", route.path);
        let mut answer = HttpResponse::build(status);
        answer.insert_header((header::LOCATION, place.as_str()));
        if req.method() != Method::GET {
            return answer.finish();
        }
        let shown = place.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;");
        return answer.content_type("text/html; charset=utf-8").body(format!("<a href=\"{shown}\">{name}</a>.\n\n"));
    }
    // Text as in Prometheus.
    answer::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Whether a path has the segments of a route, whatever the number of slashes between them; outside of the API also whatever
/// their case.
fn same_path(route: &str, path: &str) -> bool {
    let segments = |path: &'_ str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        if route.starts_with("/api/") {
            parts.map(str::to_owned).collect()
        } else {
            parts.map(str::to_ascii_lowercase).collect()
        }
    };
    let wanted = segments(route);
    !wanted.is_empty() && !route.contains('{') && wanted == segments(path)
}

/// Starts the server on sockets that are already bound. The caller owns it: signals are left alone, and
/// `Server::handle().stop(graceful)` ends it. Must be called within an actix system; the future must be polled.
///
/// # Errors
///
/// If a socket cannot be used, or something is wrong with the web configuration file.
pub fn serve(listeners: Vec<TcpListener>, state: Arc<AppState>) -> std::io::Result<Server> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = state.options.workers.unwrap_or(cores.min(WORKERS_MAX)).max(1);
    // actix-web counts connections per worker and hands them out evenly.
    let connections = state.options.max_connections.div_ceil(workers).max(1);
    let read_timeout = state.options.read_timeout;
    let file = state.options.web_config.as_deref().map(WebFile::open).transpose().map_err(std::io::Error::other)?;
    let file = file.map(Arc::new);
    let guard = file.clone().map(|file| Arc::new(Guard::new(file)));
    let routes = Routes::new(state);
    let factory = move || {
        let (routes, guard) = (routes.clone(), guard.clone());
        let guarded = guard.is_some();
        // The outermost is wrapped last: nobody meets anything before the guard.
        App::new().wrap(Compress::default()).configure(move |config| routes.configure(config)).wrap(Condition::new(
            guarded,
            from_fn(move |request, next: Next<_>| {
                let guard = guard.clone();
                async move {
                    match guard {
                        Some(guard) => guard.run(request, next).await,
                        None => Ok(next.call(request).await?.map_into_left_body()),
                    }
                }
            }),
        ))
    };
    if let Some(file) = file.filter(|file| file.encrypts()) {
        let mut server = ServerBuilder::default()
            .workers(workers)
            .max_concurrent_connections(connections)
            .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
            .disable_signals();
        for listener in listeners {
            let (file, factory) = (Arc::clone(&file), factory.clone());
            let stopping = server.graceful_shutdown_signal();
            server = server.listen(format!("https-{}", listener.local_addr()?), listener, move || {
                let (file, stopping) = (Arc::clone(&file), stopping.clone());
                let accept = fn_service(move |stream: TcpStream| accept(Arc::clone(&file), stream));
                let app = factory().into_factory().map_err(|error: actix_web::Error| error.error_response());
                let http = HttpService::build()
                    .graceful_shutdown_signal(move || {
                        let stopping = stopping.clone();
                        async move { stopping.notified().await }
                    })
                    .keep_alive(read_timeout)
                    .client_request_timeout(HEAD_TIMEOUT)
                    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                    .h1_allow_half_closed(false)
                    .finish(map_config(app, |()| AppConfig::default()));
                accept.and_then(http)
            })?;
        }
        return Ok(server.run());
    }
    let mut server = HttpServer::new(factory)
        .workers(workers)
        .max_connections(connections)
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        // As in Prometheus, the time for reading a request also bounds the time between two.
        .keep_alive(read_timeout)
        .on_connect(|connection, _| limit_stalled_reader(connection))
        // A client that closes its side has gone: its query is cancelled.
        .h1_allow_half_closed(false)
        .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
        .disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

/// Agrees on keys with a client, and on the version of HTTP.
async fn accept(
    file: Arc<WebFile>,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, Protocol, Option<SocketAddr>), DispatchError> {
    limit_stalled_reader(&stream);
    let peer = stream.peer_addr().ok();
    let stream = tls::accept(&file, stream).await.map_err(|error| {
        log::debug!("TLS handshake: {error}");
        DispatchError::Io(error)
    })?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
    Ok((TlsStream::from(stream), if http2 { Protocol::Http2 } else { Protocol::Http1 }, peer))
}

/// Lets the kernel cut connections whose other side takes nothing: actix-web would wait for ever.
fn limit_stalled_reader(connection: &dyn Any) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
    if let Err(error) = set_tcp_user_timeout(stream, STALLED_READER_TIMEOUT.as_millis() as u32) {
        log::debug!("no limit for stalled readers: {error}");
    }
}
