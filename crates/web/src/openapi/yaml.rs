//! Enough YAML to write the document: maps in their order, lists, texts.

use std::fmt::Write as _;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn text(text: impl Into<String>) -> Node {
        Node::Text(text.into())
    }

    pub(super) fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Node)>) -> Node {
        Node::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// Adds an entry to a map.
    pub(super) fn insert(&mut self, key: &str, value: Node) {
        if let Node::Map(entries) = self {
            entries.push((key.to_owned(), value));
        }
    }

    pub(super) fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    /// Writes a value whose line is begun already, unless it is a map or a list that needs lines of its own.
    fn write(&self, out: &mut String, depth: usize) {
        // Writing to a String cannot fail.
        match self {
            Node::Text(text) => drop(writeln!(out, "{}", scalar(text))),
            Node::Number(number) => drop(writeln!(out, "{number}")),
            Node::Bool(is) => drop(writeln!(out, "{is}")),
            Node::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    indent(out, if at == 0 { 0 } else { depth });
                    out.push_str("- ");
                    item.write(out, depth + 1);
                }
            }
            Node::Map(entries) => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    indent(out, if at == 0 { 0 } else { depth });
                    out.push_str(&scalar(key));
                    out.push(':');
                    match value {
                        Node::Map(inner) if inner.is_empty() => out.push_str(" {}\n"),
                        Node::List(inner) if inner.is_empty() => out.push_str(" []\n"),
                        Node::Map(_) | Node::List(_) => {
                            out.push('\n');
                            indent(out, depth + 1);
                            value.write(out, depth + 1);
                        }
                        _ => {
                            out.push(' ');
                            value.write(out, depth);
                        }
                    }
                }
            }
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// A text, in quotes unless it is one that nobody can take for anything else.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '/' | '.' | ',' | '(' | ')');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && !text.ends_with(' ');
    let is_meant_otherwise = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if is_word && text.chars().all(plain) && !is_meant_otherwise {
        return text.to_owned();
    }
    // A text of JSON is one of YAML.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let node = Node::map([
            ("a", Node::List(vec![Node::map([("x", Node::text("1: #")), ("y", Node::Bool(true))]), Node::Number(-3)])),
            ("match[]", Node::map([("no", Node::text("no")), ("empty", Node::Map(Vec::new()))])),
            ("none", Node::List(Vec::new())),
            ("200", Node::List(vec![Node::List(vec![Node::text("é\n")])])),
        ]);
        let text = node.to_yaml();
        let read: serde_json::Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let expected = serde_json::json!({
            "a": [{"x": "1: #", "y": true}, -3], "match[]": {"no": "no", "empty": {}}, "none": [], "200": [["é\n"]],
        });
        assert_eq!(read, expected, "{text}");
    }
}
