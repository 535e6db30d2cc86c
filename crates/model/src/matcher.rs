//! Label matchers of selectors.

use std::fmt;

use crate::labels::write_quoted;
use crate::{Labels, Regex, RegexError};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchKind {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl fmt::Display for MatchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchKind::Equal => "=",
            MatchKind::NotEqual => "!=",
            MatchKind::Regex => "=~",
            MatchKind::NotRegex => "!~",
        })
    }
}

/// One matcher of a selector. A label that a series does not have counts as empty.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Label name.
    pub name: String,
    /// Comparison.
    pub kind: MatchKind,
    /// Text compared with: the value, or the source of the expression.
    pub value: String,
    /// Invariant: present exactly for `Regex` and `NotRegex`.
    regex: Option<Regex>,
}

impl Matcher {
    /// A matcher; compiles the expression of the two regex kinds.
    pub fn new(kind: MatchKind, name: impl Into<String>, value: impl Into<String>) -> Result<Matcher, RegexError> {
        let (name, value) = (name.into(), value.into());
        let regex = match kind {
            MatchKind::Regex | MatchKind::NotRegex => Some(Regex::new(&value)?),
            MatchKind::Equal | MatchKind::NotEqual => None,
        };
        Ok(Matcher { name, kind, value, regex })
    }

    /// `name="value"`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { name: name.into(), kind: MatchKind::Equal, value: value.into(), regex: None }
    }

    /// The compiled expression of the two regex kinds.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_ref()
    }

    /// Whether a label with this value (empty: no such label) is accepted.
    pub fn matches(&self, value: &str) -> bool {
        match (self.kind, &self.regex) {
            (MatchKind::Equal, _) => value == self.value,
            (MatchKind::NotEqual, _) => value != self.value,
            (MatchKind::Regex, Some(regex)) => regex.is_match(value),
            (MatchKind::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchKind::Regex | MatchKind::NotRegex, None) => false,
        }
    }

    /// Whether a series without the label is accepted.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Whether every one of `matchers` accepts `labels`.
    pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
        matchers.iter().all(|m| m.matches(labels.value(&m.name)))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (&self.name, self.kind, &self.value) == (&other.name, other.kind, &other.value)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if crate::name::is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            write_quoted(f, &self.name)?;
        }
        write!(f, "{}", self.kind)?;
        write_quoted(f, &self.value)
    }
}
