//! The walker over a YAML tree: gives fields their types as the Go decoder does, and collects what is wrong.

use fk_model::{Duration, Labels};

use crate::bytesize;
use crate::error::{Problem, ProblemKind};
use crate::shown::{Shown, ShownMap};
use crate::yaml::{Document, Node, Scalar, ScalarKind, Value};

/// Most problems of one file that are kept with their place; more are only counted.
const PROBLEMS_MAX: usize = 50;

/// Fewest problems that are kept however large the file is.
const PROBLEMS_MIN: usize = 3;

/// Finding a place costs a reading of the file up to there. So many bytes are read for that at most, but for
/// [`PROBLEMS_MIN`]: some seconds' worth.
const PLACE_BYTES_MAX: usize = 64 << 20;

/// What was found in one file.
pub(crate) struct Reader<'t> {
    text: &'t str,
    document: &'t Document,
    problems: Vec<Problem>,
    /// How many problems were counted only, and whether all of them are of what is not built.
    more_problems: usize,
    more_are_unsupported: bool,
    warnings: Vec<String>,
    /// Whether fields that nobody knows are problems.
    known_fields_only: bool,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str, document: &'t Document) -> Reader<'t> {
        Reader {
            text,
            document,
            problems: Vec::new(),
            more_problems: 0,
            more_are_unsupported: true,
            warnings: Vec::new(),
            known_fields_only: true,
        }
    }

    /// From here on fields that nobody knows are no problems.
    pub fn pass_over_unknown_fields(&mut self) {
        self.known_fields_only = false;
    }

    /// Notes a problem at a node.
    pub fn problem(&mut self, kind: ProblemKind, node_id: u32, message: impl Into<String>) {
        let kept_max = (PLACE_BYTES_MAX / self.text.len().max(1)).clamp(PROBLEMS_MIN, PROBLEMS_MAX);
        if self.problems.len() < kept_max {
            let (line, column) = self.document.locate(self.text, node_id);
            self.problems.push(Problem { kind, line, column, message: message.into() });
        } else {
            self.more_problems += 1;
            self.more_are_unsupported &= kind == ProblemKind::Unsupported;
        }
    }

    /// How many problems there are so far.
    pub fn problem_count(&self) -> usize {
        self.problems.len() + self.more_problems
    }

    /// The problems in the order of the file, the last one being the number of those that were not kept; and the warnings.
    pub fn finish(mut self) -> (Vec<Problem>, Vec<String>) {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        if self.more_problems > 0 {
            let kind = if self.more_are_unsupported { ProblemKind::Unsupported } else { ProblemKind::Invalid };
            self.problems.push(Problem {
                kind,
                line: 0,
                column: 0,
                message: format!("{} more problems", self.more_problems),
            });
        }
        (self.problems, self.warnings)
    }

    pub fn invalid(&mut self, node_id: u32, message: impl Into<String>) {
        self.problem(ProblemKind::Invalid, node_id, message);
    }

    /// Refuses what Prometheus has and Firekeeper has not yet. `name` is the key or the key with its value.
    pub fn unsupported(&mut self, node_id: u32, name: &str) {
        self.problem(
            ProblemKind::Unsupported,
            node_id,
            format!("firekeeper does not support {name:?} yet, although Prometheus does"),
        );
    }

    pub fn warn(&mut self, message: impl Into<String>) {
        if self.warnings.len() < PROBLEMS_MAX {
            self.warnings.push(message.into());
        }
    }

    fn wrong_type(&mut self, node: &Node, type_name: &str) {
        // Text as in Prometheus:
        let message = match &node.value {
            Value::Seq(_) => format!("cannot unmarshal !!seq into {type_name}"),
            Value::Map(_) => format!("cannot unmarshal !!map into {type_name}"),
            Value::Null => format!("cannot unmarshal !!null into {type_name}"),
            Value::Scalar(scalar) => {
                let tag = match scalar.kind {
                    ScalarKind::Text => "!!str",
                    ScalarKind::Bool => "!!bool",
                    ScalarKind::Int => "!!int",
                    ScalarKind::Float => "!!float",
                    ScalarKind::Binary => "!!binary",
                };
                let shown = match scalar.text.char_indices().nth(10) {
                    Some(_) => format!("{}...", scalar.text.chars().take(7).collect::<String>()),
                    None => scalar.text.clone(),
                };
                format!("cannot unmarshal {tag} `{shown}` into {type_name}")
            }
        };
        self.problem(ProblemKind::Unmarshal, node.id, message);
    }

    // === Values. Null gives the zero value, as in Go. ===

    /// A text: any scalar, as it is written.
    pub fn string(&mut self, node: &Node) -> String {
        match &node.value {
            Value::Null => String::new(),
            Value::Scalar(scalar) => self.scalar_text(node.id, scalar),
            _ => {
                self.wrong_type(node, "string");
                String::new()
            }
        }
    }

    fn scalar_text(&mut self, node_id: u32, scalar: &Scalar) -> String {
        if scalar.kind != ScalarKind::Binary {
            return scalar.text.clone();
        }
        match decode_base64(&scalar.text) {
            // What is not UTF-8 is shown as Go shows it; whoever asked for a label refuses the backslash form.
            Some(bytes) => String::from_utf8(bytes).unwrap_or_else(|error| {
                let shown: String =
                    error.as_bytes().iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect();
                self.invalid(node_id, format!("\"{shown}\" is not valid UTF-8"));
                String::new()
            }),
            None => {
                // Text as in Prometheus:
                self.problem(ProblemKind::Syntax, node_id, "!!binary value contains invalid base64 data");
                String::new()
            }
        }
    }

    /// The name or value of a label, which must be UTF-8; `what` is `name` or `value`.
    pub fn label_text(&mut self, node: &Node, what: &str) -> String {
        if let Value::Scalar(Scalar { text, kind: ScalarKind::Binary }) = &node.value
            && let Some(bytes) = decode_base64(text)
            && let Err(error) = String::from_utf8(bytes)
        {
            let shown: String =
                error.as_bytes().iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect();
            // Text as in Prometheus:
            self.invalid(node.id, format!("\"{shown}\" is not a valid label {what}"));
            return String::new();
        }
        self.string(node)
    }

    pub fn bool(&mut self, node: &Node) -> bool {
        match &node.value {
            Value::Null => false,
            Value::Scalar(scalar) => match scalar.text.as_str() {
                "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true,
                "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false,
                _ => {
                    self.wrong_type(node, "bool");
                    false
                }
            },
            _ => {
                self.wrong_type(node, "bool");
                false
            }
        }
    }

    /// A whole number. `type_name` is the Go type in the error.
    pub fn int(&mut self, node: &Node, type_name: &str, min: i128, max: i128) -> i128 {
        let number = match &node.value {
            Value::Null => return 0,
            Value::Scalar(scalar) if scalar.kind != ScalarKind::Binary => parse_int(&scalar.text)
                .or_else(|| parse_float(&scalar.text).filter(|f| f.abs() < 1e19).map(|f| f as i128)),
            _ => None,
        };
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => number,
            None => {
                self.wrong_type(node, type_name);
                0
            }
        }
    }

    pub fn uint(&mut self, node: &Node) -> u64 {
        self.int(node, "uint", 0, i128::from(u64::MAX)) as u64
    }

    pub fn float(&mut self, node: &Node) -> f64 {
        let number = match &node.value {
            Value::Null => return 0.0,
            Value::Scalar(scalar) => parse_float(&scalar.text).or_else(|| parse_int(&scalar.text).map(|i| i as f64)),
            _ => None,
        };
        number.unwrap_or_else(|| {
            self.wrong_type(node, "float64");
            0.0
        })
    }

    pub fn duration(&mut self, node: &Node) -> Duration {
        if node.is_null() {
            return Duration::ZERO;
        }
        let Some(text) = node.text() else {
            self.wrong_type(node, "string");
            return Duration::ZERO;
        };
        Duration::parse(text).unwrap_or_else(|error| {
            self.invalid(node.id, error.to_string());
            Duration::ZERO
        })
    }

    /// A size in bytes; negative ones are the caller's to refuse.
    pub fn size(&mut self, node: &Node) -> i64 {
        if node.is_null() {
            return 0;
        }
        let Some(text) = node.text() else {
            self.wrong_type(node, "units.Base2Bytes");
            return 0;
        };
        bytesize::parse(text).unwrap_or_else(|error| {
            self.invalid(node.id, error);
            0
        })
    }

    pub fn list<'n>(&mut self, node: &'n Node, type_name: &str) -> &'n [Node] {
        match &node.value {
            Value::Null => &[],
            Value::Seq(items) => items,
            _ => {
                self.wrong_type(node, type_name);
                &[]
            }
        }
    }

    pub fn strings(&mut self, node: &Node) -> Vec<String> {
        self.list(node, "[]string").iter().map(|item| self.string(item)).collect()
    }

    /// A free mapping. A key that occurs twice is refused.
    pub fn entries<'n>(&mut self, node: &'n Node, type_name: &str) -> &'n [(Node, Node)] {
        match &node.value {
            Value::Null => &[],
            Value::Map(entries) => {
                let mut seen = std::collections::HashSet::new();
                for (key, _) in entries {
                    match key.text() {
                        Some(text) if !seen.insert(text) => {
                            // Text as in Prometheus:
                            self.problem(ProblemKind::Unmarshal, key.id, format!("key {text:?} already set in map"));
                        }
                        Some(_) => {}
                        None => self.wrong_type(key, "string"),
                    }
                }
                entries
            }
            _ => {
                self.wrong_type(node, type_name);
                &[]
            }
        }
    }

    /// A label set without a check of the names beyond UTF-8 and not being empty; and as it is shown, with empty values.
    pub fn labels(&mut self, node: &Node, type_name: &str) -> (Labels, ShownMap) {
        let mut pairs: Vec<(String, String)> = self
            .entries(node, type_name)
            .iter()
            .map(|(key, value)| {
                let name = self.label_text(key, "name");
                if name.is_empty() && key.text() == Some("") {
                    // Text as in Prometheus:
                    self.invalid(key.id, "\"\" is not a valid label name");
                }
                (name, self.label_text(value, "value"))
            })
            .collect();
        pairs.sort();
        let shown = pairs.iter().map(|(name, value)| (name.clone(), Shown::Text(value.clone()))).collect();
        (Labels::from_pairs(pairs), shown)
    }
}

// === Fields of one section ===

/// The fields of one section, taken one after another; what is left is unknown.
pub(crate) struct Fields<'n> {
    /// The Go type, named in errors.
    type_name: &'static str,
    /// The section itself.
    pub id: u32,
    entries: Vec<(&'n Node, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// The fields of a mapping; none if it is null or no mapping (which is noted).
    pub fn new(reader: &mut Reader<'_>, node: &'n Node, type_name: &'static str) -> Fields<'n> {
        let mut entries: Vec<(&Node, &Node)> = Vec::new();
        match &node.value {
            Value::Null => {}
            Value::Map(all) => {
                for (key, value) in all {
                    let Some(text) = key.text() else {
                        reader.wrong_type(key, "string");
                        continue;
                    };
                    if entries.iter().any(|(known, _)| known.text() == Some(text)) {
                        // Text as in Prometheus:
                        let message = format!("field {text} already set in type {type_name}");
                        reader.problem(ProblemKind::Unmarshal, key.id, message);
                    } else {
                        entries.push((key, value));
                    }
                }
            }
            _ => reader.wrong_type(node, type_name),
        }
        Fields { type_name, id: node.id, entries }
    }

    /// The keys that have a value.
    pub fn given(&self) -> Vec<String> {
        let given = self.entries.iter().filter(|(_, value)| !value.is_null());
        given.filter_map(|(key, _)| key.text()).map(str::to_owned).collect()
    }

    /// Takes a field: its key and its value.
    pub fn take_entry(&mut self, name: &str) -> Option<(&'n Node, &'n Node)> {
        #[cfg(test)]
        ASKED_FOR.with_borrow_mut(|names| names.insert(name.to_owned()));
        let at = self.entries.iter().position(|(key, _)| key.text() == Some(name))?;
        Some(self.entries.remove(at))
    }

    /// Takes a field's value.
    pub fn take(&mut self, name: &str) -> Option<&'n Node> {
        self.take_entry(name).map(|(_, value)| value)
    }

    pub fn string(&mut self, reader: &mut Reader<'_>, name: &str) -> String {
        self.take(name).map(|node| reader.string(node)).unwrap_or_default()
    }

    pub fn string_or(&mut self, reader: &mut Reader<'_>, name: &str, default: &str) -> String {
        self.take(name).map_or_else(|| default.to_owned(), |node| reader.string(node))
    }

    pub fn bool_or(&mut self, reader: &mut Reader<'_>, name: &str, default: bool) -> bool {
        self.take(name).map_or(default, |node| reader.bool(node))
    }

    pub fn uint_or(&mut self, reader: &mut Reader<'_>, name: &str, default: u64) -> u64 {
        // A zero means "not said here" wherever a default is handed down, as in Go.
        self.take(name).map(|node| reader.uint(node)).filter(|n| *n != 0).unwrap_or(default)
    }

    pub fn duration_or(&mut self, reader: &mut Reader<'_>, name: &str, default: Duration) -> Duration {
        self.take(name).map_or(default, |node| reader.duration(node))
    }

    /// Refuses what was not taken.
    pub fn finish(self, reader: &mut Reader<'_>) {
        let unknown = if reader.known_fields_only { self.entries } else { Vec::new() };
        for (key, _) in unknown {
            let name = key.text().unwrap_or_default();
            // Text as in Prometheus:
            reader.problem(
                ProblemKind::Unmarshal,
                key.id,
                format!("field {name} not found in type {}", self.type_name),
            );
        }
    }
}

#[cfg(test)]
thread_local! {
    static ASKED_FOR: std::cell::RefCell<std::collections::BTreeSet<String>> = const { std::cell::RefCell::new(std::collections::BTreeSet::new()) };
}

/// The names of all fields that sections were asked for on this thread since this was last called.
#[cfg(test)]
pub(crate) fn asked_for() -> std::collections::BTreeSet<String> {
    ASKED_FOR.take()
}

// === Numbers as YAML 1.1 writes them ===

/// A whole number: underscores, `0x`, `0o`, `0b` and a leading zero for octal.
pub(crate) fn parse_int(text: &str) -> Option<i128> {
    let plain = text.replace('_', "");
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') {
        return None;
    }
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.as_str() {
        l if l.starts_with("0x") => (&digits[2..], 16),
        l if l.starts_with("0o") => (&digits[2..], 8),
        l if l.starts_with("0b") => (&digits[2..], 2),
        l if l.len() > 1 && l.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if negative { -number } else { number })
}

/// A number with YAML's words for infinity and NaN.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let plain = text.replace('_', "");
    // Without this the standard library's "inf" and "nan" would count.
    let numeric =
        plain.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && plain.bytes().any(|b| b.is_ascii_digit());
    if numeric && !text.starts_with('_') { plain.parse().ok() } else { None }
}

/// Standard base64 with padding; white space is passed over.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let padding = digits.iter().rev().take_while(|b| **b == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for group in digits[..digits.len() - padding].chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let text = "a: 1\n";
        let document = Document::parse(text).unwrap();
        let mut reader = Reader::new(text, &document);
        for _ in 0..PROBLEMS_MAX + 2 {
            reader.invalid(0, "x");
        }
        assert_eq!(reader.problem_count(), PROBLEMS_MAX + 2);
        let (problems, _) = reader.finish();
        assert_eq!(problems.len(), PROBLEMS_MAX + 1);
        assert_eq!(problems[PROBLEMS_MAX].message, "2 more problems");
    }

    #[test]
    fn numbers_are_read_as_yaml_1_1_does() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("-12", Some(-12)),
            ("+3", Some(3)),
            ("1_000", Some(1000)),
            ("0x1F", Some(31)),
            ("010", Some(8)),
            ("0o17", Some(15)),
            ("0b101", Some(5)),
            ("08", None),
            ("", None),
            ("-", None),
            ("1.5", None),
            ("_1", None),
            ("abc", None),
        ] {
            assert_eq!(parse_int(text), wanted, "{text}");
        }
        for (text, wanted) in [
            ("1.5", Some(1.5)),
            ("1e3", Some(1000.0)),
            (".inf", Some(f64::INFINITY)),
            ("inf", None),
            ("1.2.3", None),
            ("e", None),
        ] {
            assert_eq!(parse_float(text), wanted, "{text}");
        }
    }

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decode_base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(decode_base64("/w==").as_deref(), Some(&[255][..]));
        assert_eq!(decode_base64("/w==$1"), None);
        assert_eq!(decode_base64("a"), None);
    }
}
