//! The routes as clients see them, on top of fake views and a storage in memory.

mod conformance;
mod fakes;
mod garbage;
mod http;
mod query;
mod read;
mod secure;
mod wire;
mod write;

/// What the routes of a fake server share.
pub(crate) fn shared() -> std::sync::Arc<crate::call::Shared> {
    std::sync::Arc::clone(&fakes::World::new().routes.0)
}
