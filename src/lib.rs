//! The Firekeeper server: a Prometheus server as a system of supervised actors. See `ARCHITECTURE.md` for the whole picture.
//!
//! - [`cli`]: flags, [`settings`]: what they mean to the engines, [`logging`]: log lines.
//! - [`app`]: the composition root. [`actors`]: one file per actor. [`messages`]: what they tell each other.
//! - [`json_log`]: log files that users configure. [`host_name`]: the full name of this machine.
//! - [`promtool`]: the program as that tool. [`service`]: what a service manager is told.
//! - [`reload_plan`]: what a new configuration changes, in words. [`reload_journal`]: past reloads.
//! - [`slots`]: what actors publish. [`views`]: the web server's sight of it. [`evaluation`]: PromQL as the server runs it.
//!
//! The engines live in `crates/` and know no actor.

pub mod actors;
pub mod app;
pub mod backtest;
pub mod cli;
#[cfg(test)]
mod compatibility;
pub mod evaluation;
pub mod features;
pub mod host_name;
pub mod json_log;
pub mod logging;
pub mod memory_limit;
pub mod messages;
pub mod process_metrics;
pub mod promtool;
pub mod reload_journal;
pub mod reload_plan;
pub mod run;
pub mod service;
pub mod settings;
pub mod slots;
pub mod views;
