//! The regular expressions of matchers and relabelling: RE2 syntax, always anchored at both ends, `.` matches newlines.
//!
//! Parsing is our own (`parse`), because the dialect and its error texts are those of Go. Matching asks the shape of
//! the expression first (`shape`): lists of texts, prefixes and the like need no engine, and the engine is only
//! compiled when something asks it. It runs in linear time, whatever the expression.

mod expand;
mod parse;
mod search;
mod shape;

use std::fmt;
use std::sync::{Arc, OnceLock};

use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, Look};

pub use search::SearchRegex;

use shape::Shape;

/// Compiled size limit of one expression, bytes.
const PROGRAM_BYTES_MAX: usize = 10 << 20;

/// Memory limit of the automaton that is built while matching, bytes.
const CACHE_BYTES_MAX: usize = 2 << 20;

/// Expressions up to this length whose shape is known compile their engine only when a replacement needs it: it cannot
/// become too large.
const LAZY_BYTES_MAX: usize = 4 << 10;

/// A compiled expression. Cheap to clone.
#[derive(Clone)]
pub struct Regex(Arc<Inner>);

struct Inner {
    source: Box<str>,
    shape: Shape,
    hir: Hir,
    names: Vec<(String, usize)>,
    /// Whether it is `(.*)`, the default of relabelling rules: the group is the text.
    one_group: bool,
    engine: OnceLock<Result<meta::Regex, RegexError>>,
}

/// An expression that does not compile. Displays as in Go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{source_text}`")]
pub struct RegexError {
    /// What is wrong.
    pub reason: String,
    /// The part of the expression that is.
    pub source_text: String,
}

impl Regex {
    /// Compiles `source`.
    pub fn new(source: &str) -> Result<Regex, RegexError> {
        let parsed = parse::parse(source)
            .map_err(|(reason, part)| RegexError { reason: reason.to_owned(), source_text: part.to_owned() })?;
        if parsed.open_quote {
            // Prometheus wraps the expression in a group, whose end the quotation then swallows.
            let (reason, source_text) = ("missing closing )".to_owned(), format!("^(?s:{source})$"));
            return Err(RegexError { reason, source_text });
        }
        let shape = Shape::of(&parsed.hir);
        let inner = Inner {
            source: source.into(),
            shape,
            hir: parsed.hir,
            names: parsed.names,
            one_group: source == "(.*)",
            engine: OnceLock::new(),
        };
        let lazy = source.len() <= LAZY_BYTES_MAX && !matches!(inner.shape, Shape::Other(_));
        if !lazy {
            inner.engine().as_ref().map_err(RegexError::clone)?;
        }
        Ok(Regex(Arc::new(inner)))
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match self.0.shape.is_match(text) {
            Some(answer) => answer,
            None => match self.0.engine() {
                Ok(engine) => engine.is_match(Input::new(text).anchored(Anchored::Yes)),
                Err(_) => false,
            },
        }
    }

    /// All texts that match, if they are a short list: sorted, without repeats. An index looks them up instead of
    /// trying every value.
    pub fn set_matches(&self) -> Option<&[String]> {
        self.0.shape.texts()
    }

    /// What every matching text starts with, if there is such a thing.
    pub fn prefix(&self) -> Option<&str> {
        self.0.shape.prefix()
    }

    /// If the whole of `text` matches: `template` with `$1`, `${1}`, `$name`, `${name}` replaced by the groups, and
    /// `$$` by a dollar sign (`regexp.Expand` in Go). A name is the longest word there is; a group that does not exist or
    /// took no part is empty.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let answer = self.0.shape.is_match(text);
        if answer == Some(false) {
            return None;
        }
        if answer == Some(true) && !template.contains('$') {
            return Some(template.to_owned());
        }
        if self.0.one_group {
            return Some(expand::expanded(template, |number| (number < 2).then_some(text), |_| ""));
        }
        let engine = self.0.engine().as_ref().ok()?;
        let mut captures: Captures = engine.create_captures();
        engine.captures(Input::new(text).anchored(Anchored::Yes), &mut captures);
        if !captures.is_match() {
            return None;
        }
        let group = |number: usize| captures.get_group(number).and_then(|span| text.get(span.range()));
        Some(expand::expanded(template, group, |name| {
            let named = self.0.names.iter().filter(|(known, _)| known == name);
            named.filter_map(|(_, number)| group(*number)).next().unwrap_or("")
        }))
    }
}

impl Inner {
    fn engine(&self) -> &Result<meta::Regex, RegexError> {
        self.engine.get_or_init(|| {
            let whole = Hir::concat(vec![Hir::look(Look::Start), self.hir.clone(), Hir::look(Look::End)]);
            let config = meta::Config::new()
                .nfa_size_limit(Some(PROGRAM_BYTES_MAX))
                .hybrid_cache_capacity(CACHE_BYTES_MAX)
                // Matches are anchored; searching for literals first does not help.
                .auto_prefilter(false);
            meta::Builder::new().configure(config).build_from_hir(&whole).map_err(|_| RegexError {
                reason: "expression too large".to_owned(),
                source_text: self.source.to_string(),
            })
        })
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.source())
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Regex) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Regex {}

#[cfg(test)]
mod tests;
