//! HTTP clients made from `http_client_config` sections.
//!
//! [`Client`] is one such client: credentials and header files are read again for every request, certificates whenever
//! their files change, redirects never carry secrets to another host. [`Client::scrape`] fetches a target within bounds of time and
//! size; [`Client::post_json`] pushes to Alertmanagers. Errors read as Go's do, because users know those texts from the
//! targets page.
//!
//! Targets that need nothing special are fetched by a client of our own (`direct`), everything else by reqwest.
//!
//! Requests speak HTTP/1.1. The futures need not be `Send` and run on any tokio runtime with I/O and time.

mod body;
mod client;
mod credentials;
mod direct;
mod error;
mod tls;

pub use body::{BODY_BYTES_MAX, RATIO_FREE_BYTES, RATIO_MAX};
pub use client::{Client, ScrapeRequest, ScrapeResponse};
pub use error::HttpError;
