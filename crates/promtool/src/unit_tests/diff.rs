//! Two JSON values side by side, with colours where they differ, for `--diff`.

use std::collections::BTreeSet;

use serde_json::Value;

const ADDED: &str = "\u{1b}[0;32m";
const REMOVED: &str = "\u{1b}[0;31m";
const CHANGED: &str = "\u{1b}[0;33m";
const PLAIN: &str = "\u{1b}[0m";
const INDENT: &str = "    ";

/// `expected` as a text, with what `got` has instead, lacks, or has beyond it.
pub fn diff(expected: &Value, got: &Value) -> String {
    let mut out = String::new();
    both(&mut out, expected, got, 0);
    out
}

fn both(out: &mut String, expected: &Value, got: &Value, depth: usize) {
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            lines(out, ('{', '}'), depth, names.len(), |out, at| {
                let name = names.iter().nth(at).map_or("", |name| name.as_str());
                let title = |out: &mut String| out.push_str(&format!("{}: ", Value::from(name)));
                member(out, a.get(name), b.get(name), depth + 1, title);
            });
        }
        (Value::Array(a), Value::Array(b)) => {
            lines(out, ('[', ']'), depth, a.len().max(b.len()), |out, at| {
                member(out, a.get(at), b.get(at), depth + 1, |_| {});
            });
        }
        (a, b) if a == b => out.push_str(&a.to_string()),
        (a, b) => out.push_str(&format!("{CHANGED}{a} => {b}{PLAIN}")),
    }
}

fn member(out: &mut String, expected: Option<&Value>, got: Option<&Value>, depth: usize, title: impl Fn(&mut String)) {
    let (colour, only) = match (expected, got) {
        (Some(a), Some(b)) => {
            title(out);
            return both(out, a, b, depth);
        }
        (Some(a), None) => (REMOVED, a),
        (None, Some(b)) => (ADDED, b),
        (None, None) => return,
    };
    out.push_str(colour);
    title(out);
    both(out, only, only, depth);
    out.push_str(PLAIN);
}

fn lines(
    out: &mut String,
    (open, close): (char, char),
    depth: usize,
    n: usize,
    mut item: impl FnMut(&mut String, usize),
) {
    out.push(open);
    for at in 0..n {
        out.push('\n');
        out.push_str(&INDENT.repeat(depth + 1));
        item(out, at);
        if at + 1 < n {
            out.push(',');
        }
    }
    if n > 0 {
        out.push('\n');
        out.push_str(&INDENT.repeat(depth));
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_coloured() {
        let expected = serde_json::json!([{"L": {"a": "1", "b": "2"}, "A": {}}]);
        let got = serde_json::json!([{"L": {"a": "1", "b": "3", "c": "4"}, "A": {}}, "x"]);
        assert_eq!(
            diff(&expected, &got),
            "[\n    {\n        \"A\": {},\n        \"L\": {\n            \"a\": \"1\",\n            \
             \u{1b}[0;33m\"2\" => \"3\"\u{1b}[0m,\n            \u{1b}[0;32m\"c\": \"4\"\u{1b}[0m\n        }\n    },\n    \
             \u{1b}[0;32m\"x\"\u{1b}[0m\n]"
                .replace("            \u{1b}[0;33m", "            \"b\": \u{1b}[0;33m")
        );
        assert!(!diff(&expected, &expected).contains('\u{1b}'));
    }
}
