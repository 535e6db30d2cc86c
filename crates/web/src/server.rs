//! The server itself: listeners, workers, limits of connections, and how the table of routes becomes an application.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::Compress;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use crate::WORKERS_MAX;
use crate::answer;
use crate::call::{self, Metrics, RouteMetrics, Shared};
use crate::routes::ROUTES;
use crate::state::AppState;

/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without a request is kept. Scrapers and dashboards come back within a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(90);
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
        let metrics = Metrics::new(&state.registry);
        for route in ROUTES {
            // Shown with zero from the start, as in Prometheus.
            let _ = metrics.of_route(route.label);
        }
        Routes(Arc::new(Shared { state, metrics }))
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
        config.default_service(web::to(not_found));
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Routes").field(&self.0.state).finish()
    }
}

async fn not_found() -> HttpResponse {
    // Text as in Prometheus.
    answer::text(actix_web::http::StatusCode::NOT_FOUND, "404 page not found\n")
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
        .keep_alive(KEEP_ALIVE)
        // A client that closes its side has gone: its query is cancelled.
        .h1_allow_half_closed(false)
        .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
        .disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}
