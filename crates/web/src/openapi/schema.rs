//! The notation of the tables for schemas, and what it means:
//!
//! `string`, `number`, `integer`, `boolean`, `int` (64 bits), `double`, `instant` (RFC 3339), `any` (anything at all);
//! `time` and `duration` as requests write them; `count` (from 1, with the default of searches); `=a/b` (one of these words);
//! `#Name` (another schema); `[T]`, `[T]2` (exactly two); `{a!: T, b: U}` (`!`: always there; nothing else), `{...a: T}` (others as
//! well), `{*: T}` (a map), `{}` (any object); `one(T, U)`, `some(T, U)`; `json<T>` (a text that holds JSON).
//!
//! The tables are part of the program and tests read all of them, so a mistake in one ends in a panic of the test.

use super::yaml::Node;

/// Reads a notation.
pub(super) fn read(notation: &str, search_limit: usize) -> Node {
    let mut reader = Reader { rest: notation, search_limit };
    let schema = reader.schema();
    debug_assert!(reader.rest.trim().is_empty(), "{notation}: {}", reader.rest);
    schema
}

struct Reader<'n> {
    rest: &'n str,
    search_limit: usize,
}

fn typed(name: &str, more: impl IntoIterator<Item = (&'static str, Node)>) -> Node {
    Node::map([("type", Node::text(name))].into_iter().chain(more))
}

fn format(name: &str) -> [(&'static str, Node); 1] {
    [("format", Node::text(name))]
}

impl<'n> Reader<'n> {
    /// Takes `token` if it is next.
    fn take(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self, is_part: fn(char) -> bool) -> &'n str {
        self.rest = self.rest.trim_start();
        let (word, rest) = self.rest.split_at(self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn schema(&mut self) -> Node {
        if self.take("#") {
            return super::reference(self.word(|c| c.is_ascii_alphanumeric()));
        }
        if self.take("=") {
            let words = self.word(|c| c.is_ascii_alphanumeric() || c == '/');
            return typed("string", [("enum", Node::List(words.split('/').map(Node::text).collect()))]);
        }
        if self.take("[") {
            let items = self.schema();
            self.take("]");
            let two = if self.take("2") {
                vec![("maxItems", Node::Number(2)), ("minItems", Node::Number(2))]
            } else {
                vec![]
            };
            return typed("array", [("items", items)].into_iter().chain(two));
        }
        if self.take("{") {
            return self.object();
        }
        let word = self.word(|c| c.is_ascii_alphanumeric());
        match word {
            "int" => typed("integer", format("int64")),
            "double" => typed("number", format("double")),
            "instant" => typed("string", format("date-time")),
            "any" => Node::map::<&str>([]),
            "time" => self.choice("oneOf", [typed("string", format("date-time")), typed("number", format("unixtime"))]),
            "duration" => self.choice("oneOf", [typed("string", format("duration")), typed("number", format("float"))]),
            "count" => typed(
                "integer",
                [
                    ("minimum", Node::Number(1)),
                    ("format", Node::text("int64")),
                    ("default", Node::Number(self.search_limit as i64)),
                ],
            ),
            "one" | "some" => {
                let mut choices = Vec::new();
                self.take("(");
                while !self.take(")") && !self.rest.is_empty() {
                    choices.push(self.schema());
                    self.take(",");
                }
                self.choice(if word == "one" { "oneOf" } else { "anyOf" }, choices)
            }
            "json" => {
                self.take("<");
                let held = self.schema();
                self.take(">");
                typed("string", [("contentSchema", held), ("contentMediaType", Node::text("application/json"))])
            }
            plain => {
                debug_assert!(["string", "number", "integer", "boolean"].contains(&plain), "{plain}: {}", self.rest);
                typed(plain, [])
            }
        }
    }

    fn choice(&self, key: &str, choices: impl IntoIterator<Item = Node>) -> Node {
        Node::map([(key, Node::List(choices.into_iter().collect()))])
    }

    fn object(&mut self) -> Node {
        if self.take("}") {
            return typed("object", []);
        }
        if self.take("*:") {
            let values = if self.take("any") { Node::Bool(true) } else { self.schema() };
            self.take("}");
            return typed("object", [("additionalProperties", values)]);
        }
        let is_open = self.take("...");
        let (mut properties, mut required) = (Vec::new(), Vec::new());
        while !self.take("}") && !self.rest.is_empty() {
            let name = self.word(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '[' | ']'));
            if self.take("!") {
                required.push(Node::text(name));
            }
            self.take(":");
            properties.push((name, self.schema()));
            self.take(",");
        }
        let mut object = typed("object", [("properties", Node::map(properties))]);
        if !required.is_empty() {
            object.insert("required", Node::List(required));
        }
        if !is_open {
            object.insert("additionalProperties", Node::Bool(false));
        }
        object
    }
}
