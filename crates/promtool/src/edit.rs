//! `promtool promql`: queries in their standard form, and with other matchers in all selectors.

use std::io::Write;

use fk_model::{MatchKind, Matcher};
use fk_promql_syntax::{Expr, ExprKind, ParserOptions, parse, prettify, walk_mut};

use crate::{Result, ToolError};

/// What is done to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    Format,
    /// Every selector gets this matcher; one for the same label is replaced.
    Set {
        /// How it compares.
        kind: MatchKind,
        /// The label.
        name: String,
        /// What it is compared with.
        value: String,
    },
    /// No selector keeps a matcher for this label.
    Delete {
        /// The label.
        name: String,
    },
}

/// Prints a query as it is behind the edit.
pub fn print(query: &str, edit: &Edit, options: &ParserOptions, out: &mut dyn Write) -> Result<()> {
    let other = |error: &dyn std::fmt::Display| ToolError::Other(error.to_string());
    let mut expr = parse(query, options).map_err(|error| other(&error))?;
    match edit {
        Edit::Format => {}
        Edit::Set { kind, name, value } => {
            let matcher = Matcher::new(*kind, name.as_str(), value.as_str()).map_err(|error| other(&error))?;
            each_selector(&mut expr, &mut |matchers| {
                let mut found = false;
                for old in matchers.iter_mut().filter(|old| old.name == *name) {
                    (*old, found) = (matcher.clone(), true);
                }
                if !found {
                    matchers.push(matcher.clone());
                }
            });
        }
        Edit::Delete { name } => each_selector(&mut expr, &mut |matchers| matchers.retain(|old| old.name != *name)),
    }
    writeln!(out, "{}", prettify(&expr))?;
    Ok(())
}

fn each_selector(expr: &mut Expr, change: &mut dyn FnMut(&mut Vec<Matcher>)) {
    walk_mut(expr, &mut |expr| match &mut expr.kind {
        ExprKind::VectorSelector(selector) => change(&mut selector.matchers),
        ExprKind::MatrixSelector(selector) => change(&mut selector.selector.matchers),
        _ => {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_selectors_are_edited() {
        let set = |kind, value: &str| Edit::Set { kind, name: "job".into(), value: value.into() };
        let delete = || Edit::Delete { name: "job".into() };
        for (edit, query, expected) in [
            (Edit::Format, "sum(up)by(x)", "sum by (x) (up)\n"),
            (set(MatchKind::Equal, "a"), "up", "up{job=\"a\"}\n"),
            (
                set(MatchKind::NotRegex, "a.*"),
                "rate(x{job=\"b\"}[5m]) / on () y",
                "  rate(x{job!~\"a.*\"}[5m])\n/ on ()\n  y{job!~\"a.*\"}\n",
            ),
            (
                delete(),
                "x{job=\"a\",y=\"1\"} + rate({job=~\"b\", z=\"2\"}[1m:])",
                "x{y=\"1\"} + rate({z=\"2\"}[1m:])\n",
            ),
        ] {
            let mut out = Vec::new();
            print(query, &edit, &ParserOptions::default(), &mut out).unwrap();
            let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(flat(&String::from_utf8(out).unwrap()), flat(expected), "{query}");
        }
        for (edit, query) in [(Edit::Format, "sum("), (set(MatchKind::Regex, "("), "up")] {
            assert!(print(query, &edit, &ParserOptions::default(), &mut Vec::new()).is_err());
        }
    }
}
