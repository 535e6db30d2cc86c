//! HTTP clients made from `http_client_config` sections.
//!
//! [`Client`] is one such client: credentials and header files are read again for every request, certificates whenever
//! their files change, tokens of `oauth2` sections are kept until they expire, redirects never carry secrets to another host.
//! [`Fetcher`] fetches one target within bounds of time and size, again and again; [`Client::post_json`] pushes to Alertmanagers. Errors
//! read as Go's do, because users know those texts from the targets page.
//!
//! Targets that need nothing special are fetched by a client of our own (`direct`), everything else by reqwest.
//!
//! Requests speak HTTP/1.1, or HTTP/2 where a TLS server agrees to it and the section allows it. The
//! futures need not be `Send` and run on any tokio runtime with I/O and time.

mod body;
mod client;
mod credentials;
mod direct;
mod error;
mod fetch;
mod oauth2;
mod proxy;
mod room;
mod timings;
mod tls;

pub use body::{BODY_BYTES_MAX, RATIO_FREE_BYTES, RATIO_MAX};
pub use client::{Ask, Client};
pub use error::HttpError;
pub use fetch::{Fetcher, ScrapeRequest, ScrapeResponse};
pub use room::limit_bodies;
pub use timings::{Stopwatch, Timings};

use reqwest::StatusCode;
use url::Url;

fn host_and_port(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
