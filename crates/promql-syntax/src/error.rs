//! What is wrong with a query, with the place and in the words of Prometheus.

use std::fmt;
use std::sync::Arc;

use crate::ast::Pos;

/// Most problems that one query reports; the others are dropped. A query of some hundred kilobytes could otherwise ask
/// for one per byte.
pub const ERRORS_MAX: usize = 100_000;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErr {
    /// Where, in bytes of the query.
    pub pos: Pos,
    /// What.
    pub message: String,
}

/// All problems of a query, in the order they were found. Displays the first one as `1:5: parse error: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors {
    query: Arc<str>,
    errors: Vec<ParseErr>,
}

impl ParseErrors {
    /// Invariant: `errors` is not empty.
    pub(crate) fn new(query: &str, errors: Vec<ParseErr>) -> ParseErrors {
        debug_assert!(!errors.is_empty(), "a failure has a reason");
        ParseErrors { query: query.into(), errors }
    }

    /// The problems; at least one.
    pub fn errors(&self) -> &[ParseErr] {
        &self.errors
    }

    /// The first problem without its place.
    pub fn message(&self) -> &str {
        self.errors.first().map_or("", |e| &e.message)
    }

    /// The problem `at` as Prometheus prints it: `line:column: parse error: message`, columns in bytes from 1.
    pub fn text(&self, at: usize) -> Option<String> {
        let error = self.errors.get(at)?;
        Some(format!("{}: parse error: {}", place(&self.query, error.pos.start), error.message))
    }
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(0).unwrap_or_default())
    }
}

impl std::error::Error for ParseErrors {}

/// `line:column` of byte `at`.
pub fn place(query: &str, at: usize) -> String {
    // Texts as in Prometheus: the two exceptions.
    if query.is_empty() {
        return "unknown position".to_owned();
    }
    let Some(before) = query.as_bytes().get(..at) else { return "invalid position".to_owned() };
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = at - before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1) + 1;
    format!("{line}:{column}")
}
