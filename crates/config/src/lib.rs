//! `prometheus.yml` and rule files: read, checked, and turned into immutable plain data.
//!
//! Start with [`load`]. The types are in [`types`] (the main file) and [`rule_file`]; both are already validated when
//! anyone else sees them: regular expressions are compiled, defaults filled in, relative paths resolved, expressions
//! parsed. Only this crate knows YAML: a file becomes a tree of texts that know their place (`yaml`), the walker gives
//! them types and collects every problem (`reader`), one module per section knows the fields and the rules between them,
//! and beside the configuration each builds what `/api/v1/status/config` shows (`shown`).
//!
//! Everything that Prometheus 3.14 reads is read, checked and shown. What Firekeeper cannot run yet is a problem of its own kind
//! ([`ProblemKind::Unsupported`]): [`load`], which the server uses, refuses it by name; [`check`] tells it beside the verdict.
//! Sections that are tables are in `sections`; `schema` lists all keys.

mod alerting;
pub mod bytesize;
#[cfg(test)]
mod conformance;
pub mod error;
#[cfg(test)]
mod examples;
pub mod glob;
mod global;
mod go_url;
mod http;
mod load;
mod oauth2;
mod reader;
mod relabel;
pub mod rule_file;
mod rule_loader;
mod schema;
mod scrape;
mod section;
mod sections;
mod shown;
mod storage;
mod targets;
pub mod types;
mod unit_test_file;
mod web_config;
mod yaml;

pub use error::{ConfigErrors, FileKind, FileProblems, Problem, ProblemKind};
pub use http::load_http_client;
pub use load::{Checked, Environment, FILE_BYTES_MAX, LoadOptions, check, checksum, load, load_text, relabel_rules};
pub use rule_file::{Rule, RuleFile, RuleGroup, RuleKind};
pub use rule_loader::{load_rule_file, load_rule_file_leniently};
pub use schema::{KeyState, keys, schema};
pub use targets::parse_target_groups;
pub use types::*;
pub use unit_test_file::{AlertTest, ExpectedSample, ExprTest, Pairs, UnitTest, UnitTestFile, load_unit_test_file};
pub use web_config::{CIPHER_SUITES, CURVES, ClientAuth, Pem, RateLimit, WebConfig, WebTls, load_web_config};
