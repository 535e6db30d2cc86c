//! Where the time of a request goes: finding the address, connecting, agreeing on TLS, and waiting for the first byte.
//!
//! Who asks for a request hands a [`Stopwatch`] with it. The short way (`direct`) notes what it does on it. The general client
//! makes its connections out of sight, so it is given parts that tell: a resolver of addresses, a layer around its connector, and
//! a store of TLS sessions, which TLS asks at the beginning of each handshake. They find the stopwatch of the request they work
//! for in the task, since the general client connects within the task that asks.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use tower_layer::Layer;
use tower_service::Service;

/// How long each stage of a request took, s. `None`: it was not reached, or was not needed, like all that comes before the request on
/// a connection that was kept. Redirects add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Finding the addresses of a name.
    pub dns_s: Option<f32>,
    /// Connecting (TCP; through a proxy, also asking the proxy).
    pub connect_s: Option<f32>,
    /// The handshake of TLS.
    pub tls_s: Option<f32>,
    /// From there to the first byte of the answer.
    pub first_byte_s: Option<f32>,
}

impl Timings {
    /// All stages together, s.
    pub fn sum_s(&self) -> f32 {
        [self.dns_s, self.connect_s, self.tls_s, self.first_byte_s].into_iter().flatten().sum()
    }
}

/// Notes the [`Timings`] of one request. Clones are the same watch.
#[derive(Clone, Debug, Default)]
pub struct Stopwatch(Rc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    timings: Cell<Timings>,
    /// When the handshake of TLS that is under way began.
    tls_began: Cell<Option<Instant>>,
}

tokio::task_local! {
    static CURRENT: Stopwatch;
}

/// A stage of [`Timings`].
type Stage = fn(&mut Timings) -> &mut Option<f32>;

impl Stopwatch {
    /// What was noted so far.
    pub fn timings(&self) -> Timings {
        self.0.timings.get()
    }

    /// Forgets all, for the next request.
    pub fn reset(&self) {
        self.0.timings.set(Timings::default());
        self.0.tls_began.set(None);
    }

    /// Adds `took` to the time of a stage.
    pub(crate) fn note(&self, stage: Stage, took: Duration) {
        let mut timings = self.timings();
        let seconds = stage(&mut timings);
        *seconds = Some(seconds.unwrap_or(0.0) + took.as_secs_f32());
        self.0.timings.set(timings);
    }

    /// Runs a request of the general client, which finds this watch in the task.
    pub(crate) async fn around<F: Future>(&self, request: F) -> F::Output {
        let (before, began) = (self.timings().sum_s(), Instant::now());
        let output = CURRENT.scope(self.clone(), request).await;
        let connecting = Duration::from_secs_f32((self.timings().sum_s() - before).max(0.0));
        self.note(|timings| &mut timings.first_byte_s, began.elapsed().saturating_sub(connecting));
        output
    }
}

/// Does `what` with the watch of the request that this task works for, if somebody looks.
fn with_current(what: impl FnOnce(&Stopwatch)) {
    // Requests that nobody times run without one.
    let _ = CURRENT.try_with(what);
}

/// Finds addresses as the system does.
#[derive(Debug)]
pub(crate) struct TimedResolver;

impl Resolve for TimedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let began = Instant::now();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            with_current(|watch| watch.note(|timings| &mut timings.dns_s, began.elapsed()));
            let addresses: Vec<_> = found?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Stands around the connector of the general client.
#[derive(Clone, Debug)]
pub(crate) struct TimedConnector;

impl<S> Layer<S> for TimedConnector {
    type Service = Timed<S>;

    fn layer(&self, connector: S) -> Timed<S> {
        Timed(connector)
    }
}

/// See [`TimedConnector`].
#[derive(Clone)]
pub(crate) struct Timed<S>(S);

impl<S, R> Service<R> for Timed<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let connecting = self.0.call(target);
        Box::pin(async move {
            let began = Instant::now();
            let mut dns_before = 0.0;
            with_current(|watch| {
                watch.0.tls_began.set(None);
                dns_before = watch.timings().dns_s.unwrap_or(0.0);
            });
            let result = connecting.await;
            with_current(|watch| {
                let (ended, tls_began) = (Instant::now(), watch.0.tls_began.take());
                let dns = Duration::from_secs_f32((watch.timings().dns_s.unwrap_or(0.0) - dns_before).max(0.0));
                let connected = tls_began.unwrap_or(ended);
                let connect = connected.saturating_duration_since(began).saturating_sub(dns);
                watch.note(|timings| &mut timings.connect_s, connect);
                if tls_began.is_some() {
                    watch.note(|timings| &mut timings.tls_s, ended.saturating_duration_since(connected));
                }
            });
            result
        })
    }
}

/// A handshake begins with looking for a session to resume, or for a hint how to begin: whatever is asked for first.
fn note_handshake() {
    with_current(|watch| watch.0.tls_began.set(watch.0.tls_began.get().or_else(|| Some(Instant::now()))));
}

/// The sessions of TLS that may be resumed; notes when a handshake begins.
#[derive(Debug)]
pub(crate) struct TimedSessions(Arc<dyn ClientSessionStore>);

impl TimedSessions {
    /// An empty store for as many servers as rustls has by default.
    pub(crate) fn new() -> TimedSessions {
        const SERVERS: usize = 256;
        TimedSessions(Arc::new(ClientSessionMemoryCache::new(SERVERS)))
    }
}

impl ClientSessionStore for TimedSessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        note_handshake();
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        note_handshake();
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}
