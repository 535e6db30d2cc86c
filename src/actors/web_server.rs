//! The web server actor: owns the HTTP server's handle and stops it in order.
//!
//! The server itself runs on actix-web's own workers and answers from the start; which routes answer before the server is
//! ready is the web crate's business.
//!
//! On restart: the HTTP server goes on undisturbed; its handle lives outside the actor.

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use fk_actorkit::{Managed, ManagedActor};

use crate::messages::lifecycle::Drain;

/// What the actor is made from.
#[derive(Clone)]
pub struct Params {
    /// The running HTTP server.
    pub handle: ServerHandle,
}

/// The actor.
pub struct WebServer {
    params: Params,
}

impl WebServer {
    /// In charge of this HTTP server.
    pub fn new(params: Params) -> WebServer {
        WebServer { params }
    }
}

impl Actor for WebServer {
    type Context = Managed<Self>;
}

impl Supervised for WebServer {}

impl ManagedActor for WebServer {
    const KIND: &'static str = "web_server";
}

impl Handler<Drain> for WebServer {
    type Result = ResponseFuture<()>;

    /// Takes no new connections and lets running requests finish, within the web server's own limit.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let handle = self.params.handle.clone();
        Box::pin(async move { handle.stop(true).await })
    }
}
