//! The HTTP API: Prometheus' routes on actix-web, without any actor. Handlers talk to the traits of [`state`], which the
//! server implements; they read snapshots, and run queries on blocking threads behind the query gate.

mod json;
pub mod state;

/// Most threads that serve requests unless told otherwise. Queries run on other threads, so few are enough.
pub const WORKERS_MAX: usize = 4;
