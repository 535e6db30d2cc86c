//! `prometheus.yml` and rule files: read, checked, and turned into immutable plain data.
//!
//! The types are in [`types`] (the main file) and [`rule_file`]; both are already validated when anyone else sees them: regular
//! expressions are compiled, defaults filled in, relative paths resolved, expressions parsed. Only this crate knows YAML.

pub mod error;
pub mod rule_file;
pub mod types;
mod yaml;

pub use error::{ConfigErrors, FileKind, FileProblems, Problem, ProblemKind};
pub use rule_file::{Rule, RuleFile, RuleGroup, RuleKind};
pub use types::*;
