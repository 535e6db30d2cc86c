//! Label sets.
//!
//! A [`Labels`] is one immutable allocation that is cheap to clone: names and values one after another, each behind its
//! length. The length of a string is written as one `char` with that code point, so the whole is valid UTF-8, a name or
//! value is a plain sub-slice, and no `unsafe` is needed; lengths below 128 take one byte.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// A set of labels, sorted by name, no name twice, no empty value.
///
/// Invariant: names are strictly ascending by bytes; values are not empty (an empty value means "no such label").
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

/// Longest name or value in bytes. Longer ones are refused where text enters the program (1 MiB).
pub const STRING_BYTES_MAX: usize = 1 << 20;

/// The code points that cannot be a `char`, and how many there are.
const SURROGATES_START: u32 = 0xD800;
const SURROGATES_COUNT: u32 = 0x800;

fn push_string(text: &mut String, s: &str) {
    let len = s.len().min(STRING_BYTES_MAX) as u32;
    let code = if len < SURROGATES_START { len } else { len + SURROGATES_COUNT };
    text.push(char::from_u32(code).expect("at most 1 MiB + 2048, which is below the last code point"));
    text.push_str(&s[..s.floor_char_boundary(len as usize)]);
}

fn take_string(text: &str) -> Option<(&str, &str)> {
    let mut chars = text.chars();
    let code = chars.next()? as u32;
    let len = if code < SURROGATES_START { code } else { code - SURROGATES_COUNT } as usize;
    chars.as_str().split_at_checked(len)
}

impl Labels {
    /// No labels.
    pub fn empty() -> Labels {
        Labels(Arc::from(""))
    }

    /// From pairs in any order. Of a repeated name the last value wins; empty values are left out.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// From pairs that are already sorted by name, without repeats and without empty values (checked in debug builds).
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut text = String::with_capacity(128);
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(last.is_none_or(|last| last < name), "labels not sorted: {last:?} before {name:?}");
            debug_assert!(!value.is_empty(), "empty value of {name:?}");
            last = Some(name);
            push_string(&mut text, name);
            push_string(&mut text, value);
        }
        Labels(Arc::from(text))
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of label `name`; `None` if there is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of label `name`, empty if there is none (which is how Prometheus sees it).
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The metric name, empty if there is none.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// How many labels there are. Walks the set.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Size of the text in bytes, with length prefixes.
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// The same labels without the metric name.
    pub fn without_name(&self) -> Labels {
        if self.get(METRIC_NAME).is_none() {
            return self.clone();
        }
        Labels::from_sorted(self.iter().filter(|(n, _)| *n != METRIC_NAME))
    }

    /// Only the labels whose name `keep` accepts.
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        Labels::from_sorted(self.iter().filter(|(n, _)| keep(n)))
    }

    /// The hash Prometheus computes of a label set (xxHash64 of its `stringlabels` form: each string behind one length
    /// byte, or 255 and three bytes, little endian). Target offsets and hash-mod shards of other tools depend on it.
    pub fn prometheus_hash(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.0.len() + 8);
        for (name, value) in self.iter() {
            for s in [name, value] {
                match u8::try_from(s.len()) {
                    Ok(len) if len < 255 => bytes.push(len),
                    _ => {
                        bytes.push(255);
                        bytes.extend_from_slice(&(s.len() as u32).to_le_bytes()[..3]);
                    }
                }
                bytes.extend_from_slice(s.as_bytes());
            }
        }
        xxhash_rust::xxh64::xxh64(&bytes, 0)
    }
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}

impl Ord for Labels {
    /// Pair by pair, then the shorter set first (`labels.Compare` in Prometheus).
    fn cmp(&self, other: &Labels) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Iterator over the `(name, value)` pairs of a [`Labels`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (name, rest) = take_string(self.rest)?;
        let (value, rest) = take_string(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Labels {
    /// As Prometheus prints a label set: `{a="1", "weird name"="2"}`; the metric name is a label like any other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if crate::name::is_legacy_label_name(name) {
                f.write_str(name)?;
            } else {
                write_quoted(f, name)?;
            }
            f.write_char('=')?;
            write_quoted(f, value)?;
        }
        f.write_char('}')
    }
}

/// Whether Go shows a character as it is.
pub fn is_print(c: char) -> bool {
    let format = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fffe}' | '\u{ffff}' | '\u{f0000}'..);
    !(c.is_control() || (c.is_whitespace() && c != ' ') || format || private)
}

/// Writes `s` in double quotes as Go's `strconv.Quote` does.
pub fn write_quoted(f: &mut impl fmt::Write, s: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in s.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\x07' => f.write_str("\\a")?,
            '\x08' => f.write_str("\\b")?,
            '\x0c' => f.write_str("\\f")?,
            '\x0b' => f.write_str("\\v")?,
            c if (c as u32) < 0x20 || c == '\x7f' => write!(f, "\\x{:02x}", c as u32)?,
            c if c.is_ascii() || is_print(c) => f.write_char(c)?,
            c if (c as u32) < 0x1_0000 => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "\\U{:08x}", c as u32)?,
        }
    }
    f.write_char('"')
}

/// Builds a [`Labels`]; also edits one, as relabelling does.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Invariant: sorted by name, no name twice, no empty value.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Without labels.
    pub fn new() -> LabelsBuilder {
        LabelsBuilder::default()
    }

    /// Sets label `name`. An empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(at) if value.is_empty() => {
                self.pairs.remove(at);
            }
            Ok(at) => {
                self.pairs[at].1.clear();
                self.pairs[at].1.push_str(value);
            }
            Err(_) if value.is_empty() => {}
            Err(at) => self.pairs.insert(at, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes label `name`.
    pub fn del(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// Keeps only the labels `keep(name, value)` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, v)| keep(n, v));
        self
    }

    /// The value of label `name`; `None` if there is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(&self.pairs[at].1)
    }

    /// The value of label `name`, empty if there is none.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The labels so far, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The finished set. The builder can go on.
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> LabelsBuilder {
        LabelsBuilder { pairs: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_sorted_and_without_empty_values() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!((labels.get("b"), labels.get("c"), labels.len()), (Some("3"), None, 2));
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
    }

    #[test]
    fn long_strings_survive() {
        for len in [127, 128, 254, 255, 0xD7FF, 0xD800, 0xE000, 70_000, STRING_BYTES_MAX] {
            let value = "x".repeat(len);
            let labels = Labels::from_pairs([("name", value.as_str()), ("z", "é")]);
            assert_eq!(labels.get("name"), Some(value.as_str()), "{len}");
            assert_eq!(labels.get("z"), Some("é"), "{len}");
        }
    }

    #[test]
    fn order_is_pair_by_pair_then_shorter_first() {
        let l = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        assert!(l(&[("a", "1")]) < l(&[("a", "1"), ("b", "1")]));
        assert!(l(&[("a", "2")]) > l(&[("a", "1"), ("b", "1")]));
        assert!(l(&[("aa", "1")]) < l(&[("b", "1")]));
    }

    #[test]
    fn hash_of_the_empty_set_is_that_of_prometheus() {
        assert_eq!(Labels::empty().prometheus_hash(), 0xef46db3751d8e999);
    }
}
