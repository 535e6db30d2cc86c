//! The HTTP API: Prometheus' routes on actix-web, without any actor. Handlers talk to the traits of [`state`], which the
//! server implements; they read snapshots, and run queries on blocking threads behind the query gate.
//!
//! A request meets, in this order: the guard of the web configuration file, if there is one (`secure/`), the table of routes (`routes/mod.rs`), the checks that all routes share (`call.rs`:
//! readiness, method, origin, panics, metrics), its handler (`routes/*`), and for queries `query_run.rs`. Status codes of
//! errors are decided in `answer.rs`, numbers and times are printed by `json.rs`.
//!
//! Start the server with [`serve`]; tests take [`Routes`].

mod answer;
mod call;
mod expr;
mod fuzzy;
mod json;
mod live;
mod openapi;
mod params;
mod query_run;
mod rendering;
mod routes;
mod secure;
mod selectors;
mod self_metrics;
mod server;
pub mod state;

pub use secure::WebFile;
pub use server::{Routes, routes, serve};

/// Most threads that serve requests unless told otherwise. Queries run on other threads, so few are enough.
pub const WORKERS_MAX: usize = 4;

#[cfg(test)]
mod tests;
