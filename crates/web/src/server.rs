//! The server itself: listeners, workers, limits of connections, and how the table of routes becomes an application.

use std::any::Any;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Compress;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rustix::net::sockopt::set_tcp_user_timeout;

use crate::WORKERS_MAX;
use crate::answer;
use crate::call::{self, Metrics, RouteMetrics, Shared};
use crate::live::Subscribers;
use crate::routes::ROUTES;
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
pub struct Routes(Arc<Shared>);

impl Routes {
    /// The routes on top of a state.
    pub fn new(state: Arc<AppState>) -> Routes {
        let metrics = Metrics::new(&state.registry, state.options.remote_write_receiver);
        for route in ROUTES {
            // Shown with zero from the start, as in Prometheus.
            let _ = metrics.of_route(route.label);
        }
        let subscribers = Subscribers::new(&state.registry);
        Routes(Arc::new(Shared { state, metrics, receiver: Default::default(), subscribers }))
    }

    /// Adds all routes to an application.
    pub fn configure(&self, config: &mut web::ServiceConfig) {
        let prefix = self.0.state.options.route_prefix.as_str();
        for route in ROUTES {
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
        let status =
            if req.method() == Method::GET { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
        return HttpResponse::build(status)
            .insert_header(("Location", format!("{prefix}{}{query}", route.path)))
            .finish();
    }
    // Text as in Prometheus.
    answer::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Whether a path has the segments of a route, whatever their case and the number of slashes between them.
fn same_path(route: &str, path: &str) -> bool {
    let segments =
        |path: &'_ str| path.split('/').filter(|s| !s.is_empty()).map(str::to_ascii_lowercase).collect::<Vec<_>>();
    let wanted = segments(route);
    !wanted.is_empty() && !route.contains('{') && wanted == segments(path)
}

/// Starts the server on sockets that are already bound. The caller owns it: signals are left alone, and
/// `Server::handle().stop(graceful)` ends it. Must be called within an actix system; the future must be polled.
///
/// # Errors
///
/// If a socket cannot be used.
pub fn serve(listeners: Vec<TcpListener>, state: Arc<AppState>) -> std::io::Result<Server> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = state.options.workers.unwrap_or(cores.min(WORKERS_MAX)).max(1);
    // actix-web counts connections per worker and hands them out evenly.
    let connections = state.options.max_connections.div_ceil(workers).max(1);
    let read_timeout = state.options.read_timeout;
    let routes = Routes::new(state);
    let factory = move || {
        let routes = routes.clone();
        App::new().wrap(Compress::default()).configure(move |config| routes.configure(config))
    };
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

/// Lets the kernel cut connections whose other side takes nothing: actix-web would wait for ever.
fn limit_stalled_reader(connection: &dyn Any) {
    let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
    if let Err(error) = set_tcp_user_timeout(stream, STALLED_READER_TIMEOUT.as_millis() as u32) {
        log::debug!("no limit for stalled readers: {error}");
    }
}
