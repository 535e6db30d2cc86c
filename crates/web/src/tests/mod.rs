//! The routes as clients see them, on top of fake views and a storage in memory.

mod conformance;
mod fakes;
mod garbage;
mod http;
mod query;
mod secure;
mod wire;
mod write;
