//! YAML as Prometheus prints it on `/api/v1/status/config`: the style of the Go library, secrets already masked.

/// What stands for a secret.
pub(crate) const SECRET: &str = "<secret>";

/// A value to print.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    /// A text, quoted where it would be read as something else.
    Text(String),
    /// A number, a switch: printed as it is.
    Bare(String),
    Seq(Vec<Shown>),
    /// A list in brackets (`source_labels`).
    FlowSeq(Vec<Shown>),
    Map(ShownMap),
}

/// A mapping in order.
pub(crate) type ShownMap = Vec<(String, Shown)>;

/// Builds a mapping; `put_*` methods leave out what the Go structures mark `omitempty`.
pub(crate) trait ShownMapExt {
    fn put(&mut self, key: &str, value: Shown);
    fn put_text(&mut self, key: &str, text: &str);
    fn put_nonempty(&mut self, key: &str, text: &str);
    fn put_bare(&mut self, key: &str, value: impl ToString);
    fn put_nonzero(&mut self, key: &str, value: u64);
    fn put_true(&mut self, key: &str, value: bool);
    fn put_seq(&mut self, key: &str, items: Vec<Shown>);
    fn put_map(&mut self, key: &str, map: ShownMap);
}

impl ShownMapExt for ShownMap {
    fn put(&mut self, key: &str, value: Shown) {
        self.push((key.to_owned(), value));
    }

    fn put_text(&mut self, key: &str, text: &str) {
        self.put(key, Shown::Text(text.to_owned()));
    }

    fn put_nonempty(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.put_text(key, text);
        }
    }

    fn put_bare(&mut self, key: &str, value: impl ToString) {
        self.put(key, Shown::Bare(value.to_string()));
    }

    fn put_nonzero(&mut self, key: &str, value: u64) {
        if value != 0 {
            self.put_bare(key, value);
        }
    }

    fn put_true(&mut self, key: &str, value: bool) {
        if value {
            self.put_bare(key, true);
        }
    }

    fn put_seq(&mut self, key: &str, items: Vec<Shown>) {
        if !items.is_empty() {
            self.put(key, Shown::Seq(items));
        }
    }

    fn put_map(&mut self, key: &str, map: ShownMap) {
        if !map.is_empty() {
            self.put(key, Shown::Map(map));
        }
    }
}

/// Prints a document.
pub(crate) fn print(map: &ShownMap) -> String {
    if map.is_empty() {
        return "{}\n".to_owned();
    }
    let mut out = String::new();
    print_map(&mut out, map, 0, false);
    out
}

/// `inline`: the first key stands on the line of a list dash.
fn print_map(out: &mut String, map: &ShownMap, indent: usize, inline: bool) {
    for (at, (key, value)) in map.iter().enumerate() {
        if at > 0 || !inline {
            push_indent(out, indent);
        }
        push_text(out, key, false, indent);
        out.push(':');
        match value {
            Shown::Map(inner) if !inner.is_empty() => {
                out.push('\n');
                print_map(out, inner, indent + 2, false);
            }
            // Lists stand at the indentation of their key.
            Shown::Seq(items) if !items.is_empty() => {
                out.push('\n');
                print_seq(out, items, indent);
            }
            value => {
                out.push(' ');
                print_small(out, value, indent + 2);
            }
        }
    }
}

fn print_seq(out: &mut String, items: &[Shown], indent: usize) {
    for item in items {
        push_indent(out, indent);
        out.push_str("- ");
        match item {
            Shown::Map(inner) if !inner.is_empty() => print_map(out, inner, indent + 2, true),
            Shown::Seq(inner) if !inner.is_empty() => {
                out.push('\n');
                print_seq(out, inner, indent + 2);
            }
            item => print_small(out, item, indent + 2),
        }
    }
}

/// Anything that ends on the line it starts on, but for texts of several lines.
fn print_small(out: &mut String, value: &Shown, indent: usize) {
    match value {
        Shown::Text(text) => push_text(out, text, false, indent),
        Shown::Bare(text) => out.push_str(text),
        Shown::Seq(_) => out.push_str("[]"),
        Shown::Map(_) => out.push_str("{}"),
        Shown::FlowSeq(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                match item {
                    Shown::Text(text) => push_text(out, text, true, indent),
                    other => print_small(out, other, indent),
                }
            }
            out.push(']');
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// A number as the Go library writes it: few digits, an exponent where the plain form would be long.
pub(crate) fn go_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    match scientific.split_once('e').map(|(digits, exponent)| (digits, exponent.parse::<i32>())) {
        Some((digits, Ok(exponent))) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

fn push_indent(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn push_text(out: &mut String, text: &str, in_flow: bool, indent: usize) {
    let printable = |c: char| c == '\n' || c == '\t' || !c.is_control() && c != '\u{feff}';
    if !text.chars().all(printable) || (reads_as_other(text) && !text.contains('\n')) {
        push_double_quoted(out, text);
    } else if text.contains('\n') && !in_flow && !text.starts_with([' ', '\n', '\t']) {
        push_literal(out, text, indent);
    } else if text.contains('\n') {
        push_double_quoted(out, text);
    } else if plain_is_possible(text, in_flow) {
        out.push_str(text);
    } else {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    }
}

fn push_double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            c if c.is_control() || c == '\u{feff}' => {
                let code = c as u32;
                out.push_str(&if code < 256 { format!("\\x{code:02X}") } else { format!("\\u{code:04X}") });
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Several lines, each at the indentation of the value; the sign after `|` tells what becomes of the last line break.
fn push_literal(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    let body = text.trim_end_matches('\n');
    match text.len() - body.len() {
        0 => out.push('-'),
        1 => {}
        _ => out.push('+'),
    }
    out.push('\n');
    for line in body.split('\n') {
        if !line.is_empty() {
            push_indent(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
    for _ in 1..text.len() - body.len() {
        out.push('\n');
    }
}

/// Whether the plain text would be read as null, a switch, a number, a date or a merge key.
fn reads_as_other(text: &str) -> bool {
    const WORDS: [&str; 26] = [
        "", "~", "null", "Null", "NULL", "y", "Y", "n", "N", "yes", "Yes", "YES", "no", "No", "NO", "true", "True",
        "TRUE", "false", "False", "FALSE", "on", "On", "ON", "off", "Off",
    ];
    WORDS.contains(&text)
        || matches!(text, "OFF" | "<<")
        || crate::reader::parse_int(text).is_some()
        || is_float(text)
        || is_date_or_base60(text)
}

fn is_float(text: &str) -> bool {
    crate::reader::parse_float(text).is_some()
}

fn is_date_or_base60(text: &str) -> bool {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && {
        let rest = &text[5..];
        rest.split('-').count() == 2 && rest.bytes().all(|b| b.is_ascii_digit() || b"-Tt: .Zz+".contains(&b))
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let base60 = unsigned.contains(':')
        && unsigned.starts_with(|c: char| c.is_ascii_digit())
        && unsigned
            .split(':')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'_'));
    date || base60
}

fn plain_is_possible(text: &str, in_flow: bool) -> bool {
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    let Some(first) = first else { return false };
    if ",[]{}#&*!|>'\"%@`".contains(first) {
        return false;
    }
    if "-?:".contains(first) && (second.is_none_or(|c| c == ' ') || in_flow && first != '-') {
        return false;
    }
    if text.starts_with(' ') || text.ends_with([' ', ':']) || text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    if text.contains(": ") || text.contains(" #") || text.contains('\t') {
        return false;
    }
    !(in_flow && text.contains([',', '?', '[', ']', '{', '}', ':']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_quoted_as_go_does() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("localhost:9090", "localhost:9090"),
            ("http://a/b?c=d#e", "http://a/b?c=d#e"),
            ("", "\"\""),
            ("yes", "\"yes\""),
            ("123", "\"123\""),
            ("1.5", "\"1.5\""),
            ("0x1f", "\"0x1f\""),
            ("1_000", "\"1_000\""),
            ("12:30:45", "\"12:30:45\""),
            ("2020-01-02", "\"2020-01-02\""),
            ("1.2.3.4", "1.2.3.4"),
            ("<secret>", "<secret>"),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("it's: #1", "'it''s: #1'"),
            ("*", "'*'"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("(.*)", "(.*)"),
            ("a\nb", "|-\n  a\n  b"),
            ("a\nb\n", "|\n  a\n  b"),
            ("\u{7}", "\"\\x07\""),
        ] {
            let map = vec![("k".to_owned(), Shown::Text(text.to_owned()))];
            assert_eq!(print(&map), format!("k: {wanted}\n"), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        for (number, wanted) in [
            (0.5, "0.5"),
            (1e-9, "1e-09"),
            (0.0001, "0.0001"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (0.0, "0"),
        ] {
            assert_eq!(go_float(number), wanted);
        }
    }

    #[test]
    fn lists_and_mappings_are_laid_out_as_go_does() {
        let mut inner = ShownMap::new();
        inner.put("source_labels", Shown::FlowSeq(vec![Shown::Text("a".into()), Shown::Text("b c".into())]));
        inner.put_bare("x", true);
        let mut map = ShownMap::new();
        map.put("list", Shown::Seq(vec![Shown::Map(inner.clone()), Shown::Text("t".into())]));
        map.put("map", Shown::Map(inner));
        map.put("none", Shown::Seq(Vec::new()));
        let wanted =
            "list:\n- source_labels: [a, b c]\n  x: true\n- t\nmap:\n  source_labels: [a, b c]\n  x: true\nnone: []\n";
        assert_eq!(print(&map), wanted);
        assert_eq!(print(&ShownMap::new()), "{}\n");
    }

    proptest! {
        /// Whatever is printed is read back as the same text, by a reader that takes nothing for granted.
        #[test]
        fn texts_survive(text in "[ -~\\n\\tä☺]{0,20}", flow in any::<bool>()) {
            let value = Shown::Text(text.clone());
            let value = if flow { Shown::FlowSeq(vec![value]) } else { value };
            let printed = print(&vec![("k".to_owned(), value)]);
            let read: serde_yaml::Value = serde_yaml::from_str(&printed).unwrap();
            let read = if flow { &read["k"][0] } else { &read["k"] };
            prop_assert_eq!(read.as_str(), Some(text.as_str()), "{}", printed);
        }
    }
}
