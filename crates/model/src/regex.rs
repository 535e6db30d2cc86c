//! The regular expressions of matchers and relabelling: RE2 syntax, always anchored at both ends, `.` matches newlines.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;

/// Compiled size limit of one expression, bytes.
const PROGRAM_BYTES_MAX: usize = 10 << 20;

/// A compiled expression. Cheap to clone.
#[derive(Clone)]
pub struct Regex {
    source: Arc<str>,
    engine: meta::Regex,
}

/// An expression that does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{source_text}`")]
pub struct RegexError {
    /// What is wrong.
    pub reason: String,
    /// The expression.
    pub source_text: String,
}

impl Regex {
    /// Compiles `source`.
    pub fn new(source: &str) -> Result<Regex, RegexError> {
        let error = |reason: String| RegexError { reason, source_text: source.to_owned() };
        let engine = meta::Builder::new()
            .configure(meta::Config::new().nfa_size_limit(Some(PROGRAM_BYTES_MAX)))
            .syntax(syntax::Config::new().dot_matches_new_line(true))
            .build(&format!("^(?:{source})$"))
            .map_err(|e| error(e.to_string()))?;
        Ok(Regex { source: source.into(), engine })
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.engine.is_match(text)
    }

    /// If the whole of `text` matches: `template` with `$1`, `${1}`, `$name`, `${name}` replaced by the groups, and
    /// `$$` by a dollar sign (`regexp.Expand` in Go).
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let mut captures: Captures = self.engine.create_captures();
        self.engine.captures(text, &mut captures);
        if !captures.is_match() {
            return None;
        }
        let mut out = String::new();
        captures.interpolate_string_into(text, template, &mut out);
        Some(out)
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.source)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Regex) -> bool {
        self.source == other.source
    }
}

impl Eq for Regex {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_anchored_and_dot_takes_newlines() {
        let regex = Regex::new("a.*|b").unwrap();
        assert!(regex.is_match("a\nx") && regex.is_match("b") && !regex.is_match("xb") && !regex.is_match("bx"));
    }
}
