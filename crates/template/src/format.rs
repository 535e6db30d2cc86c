//! `printf` and its friends: values under verbs and flags as Go's `fmt` prints them. How floats are written is in `float.rs`.
//!
//! Nothing here fails: what is wrong shows in the text (`%!d(string=x)`), as in Go. Widths are bounded as in Go, and a text that
//! has grown larger than any template may make stops growing; the caller refuses it.
//!
//! Facts: `fmt/print.go` and `fmt/format.go` in Go.

use crate::OUTPUT_BYTES_MAX;
use crate::float;
use crate::text::{is_print, quote, quote_ascii};
use crate::value::{Field, Value};

/// Largest width, precision and number of an argument, as in Go.
const NUMBER_MAX: usize = 1_000_000;

/// Flags of one verb.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v` and `%#v`, which mean something else than a sign and a prefix.
    plus_v: bool,
    sharp_v: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`
pub(crate) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut printer = Printer { out: String::with_capacity(format.len() + 16), flags: Flags::default() };
    printer.printf(format, args);
    printer.out
}

/// `fmt.Sprint`: spaces between neighbours of which neither is a text.
pub(crate) fn sprint(args: &[Value]) -> String {
    let mut printer = Printer::default();
    let is_text = |value: &Value| matches!(value, Value::String(_) | Value::Html(_));
    for (idx, value) in args.iter().enumerate() {
        if idx > 0 && !is_text(value) && !is_text(&args[idx - 1]) {
            printer.out.push(' ');
        }
        printer.value(value, 'v', 0);
    }
    printer.out
}

/// `fmt.Sprintln`
pub(crate) fn sprintln(args: &[Value]) -> String {
    let mut printer = Printer::default();
    for (idx, value) in args.iter().enumerate() {
        if idx > 0 {
            printer.out.push(' ');
        }
        printer.value(value, 'v', 0);
    }
    printer.out.push('\n');
    printer.out
}

#[derive(Debug, Default)]
struct Printer {
    out: String,
    flags: Flags,
}

/// A format and how far it has been read. All that matters in it is ASCII.
struct Reader<'f> {
    format: &'f str,
    at: usize,
    /// The next argument.
    arg: usize,
    n_args: usize,
    /// Whether a number of an argument has been given anywhere.
    reordered: bool,
    /// Whether the numbers of arguments of this verb exist.
    good_arg: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.format.as_bytes().get(self.at).copied()
    }

    /// A decimal number; `None` if there is none or it is too large.
    fn number(&mut self) -> Option<usize> {
        let mut number = None;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            if number.is_some_and(|n| n > NUMBER_MAX) {
                // Go gives up on the format then.
                self.at = self.format.len();
                return None;
            }
            number = Some(number.unwrap_or(0) * 10 + usize::from(digit - b'0'));
            self.at += 1;
        }
        number
    }

    /// `[n]`: the number of the argument that comes next. Whether there was one.
    fn arg_number(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let start = self.at;
        let rest = &self.format[start..];
        let Some(close) = rest.find(']').filter(|_| rest.len() >= 3) else {
            self.at += 1;
            self.good_arg = false;
            return false;
        };
        self.at += 1;
        let number = self.number().filter(|_| self.at == start + close);
        self.at = start + close + 1;
        match number {
            Some(n) if n >= 1 && n <= self.n_args => {
                self.arg = n - 1;
                true
            }
            number => {
                self.good_arg = false;
                number.is_some()
            }
        }
    }

    /// An argument for `*`.
    fn size_from_arg(&mut self, args: &[Value]) -> Option<i64> {
        let value = args.get(self.arg)?;
        self.arg += 1;
        let size = match value {
            Value::Int(n) | Value::Named(n, _) => Some(*n),
            Value::Uint(n) => i64::try_from(*n).ok(),
            Value::Byte(n) => Some(i64::from(*n)),
            _ => None,
        };
        size.filter(|n| n.unsigned_abs() <= NUMBER_MAX as u64)
    }
}

impl Printer {
    fn printf(&mut self, format: &str, args: &[Value]) {
        let n_args = args.len();
        let mut reader = Reader { format, at: 0, arg: 0, n_args, reordered: false, good_arg: true };
        while self.out.len() <= OUTPUT_BYTES_MAX {
            let rest = &format[reader.at..];
            let Some(percent) = rest.find('%') else {
                self.out.push_str(rest);
                break;
            };
            self.out.push_str(&rest[..percent]);
            reader.at += percent + 1;
            reader.good_arg = true;
            let Some(verb) = self.read_verb(&mut reader, args) else {
                self.out.push_str("%!(NOVERB)");
                break;
            };
            match args.get(reader.arg) {
                _ if verb == '%' => self.out.push('%'),
                _ if !reader.good_arg => self.out.push_str(&format!("%!{verb}(BADINDEX)")),
                None => self.out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => {
                    if matches!(verb, 'v' | 'w') {
                        (self.flags.sharp_v, self.flags.sharp) = (self.flags.sharp, false);
                        (self.flags.plus_v, self.flags.plus) = (self.flags.plus, false);
                    }
                    self.value(value, verb, 0);
                    reader.arg += 1;
                }
            }
        }
        if reader.reordered || reader.arg >= n_args || self.out.len() > OUTPUT_BYTES_MAX {
            return;
        }
        self.flags = Flags::default();
        self.out.push_str("%!(EXTRA ");
        for (idx, value) in args[reader.arg..].iter().enumerate() {
            if idx > 0 {
                self.out.push_str(", ");
            }
            self.described(value);
        }
        self.out.push(')');
    }

    /// Flags, width, precision and verb behind a percent sign; no verb if the format ends.
    fn read_verb(&mut self, reader: &mut Reader<'_>, args: &[Value]) -> Option<char> {
        self.flags = Flags::default();
        while let Some(flag) = reader.peek() {
            match flag {
                b'#' => self.flags.sharp = true,
                b'0' => self.flags.zero = true,
                b'+' => self.flags.plus = true,
                b'-' => self.flags.minus = true,
                b' ' => self.flags.space = true,
                _ => break,
            }
            reader.at += 1;
        }
        let mut behind_number = reader.arg_number();
        if reader.peek() == Some(b'*') {
            reader.at += 1;
            match reader.size_from_arg(args) {
                Some(width) => {
                    self.flags.width = Some(width.unsigned_abs() as usize);
                    if width < 0 {
                        self.flags.minus = true;
                        self.flags.zero = false;
                    }
                }
                None => self.out.push_str("%!(BADWIDTH)"),
            }
            behind_number = false;
        } else {
            self.flags.width = reader.number();
            reader.good_arg &= !(behind_number && self.flags.width.is_some());
        }
        if reader.peek() == Some(b'.') && reader.at + 1 < reader.format.len() {
            reader.at += 1;
            reader.good_arg &= !behind_number;
            behind_number = reader.arg_number();
            if reader.peek() == Some(b'*') {
                reader.at += 1;
                self.flags.precision = reader.size_from_arg(args).and_then(|n| usize::try_from(n).ok());
                if self.flags.precision.is_none() {
                    self.out.push_str("%!(BADPREC)");
                }
                behind_number = false;
            } else {
                self.flags.precision = Some(reader.number().unwrap_or(0));
            }
        }
        if !behind_number {
            reader.arg_number();
        }
        let verb = reader.format[reader.at..].chars().next()?;
        reader.at += verb.len_utf8();
        Some(verb)
    }

    /// `type=value`
    fn described(&mut self, value: &Value) {
        if matches!(value, Value::None) {
            self.out.push_str("<nil>");
            return;
        }
        self.out.push_str(&value.type_name());
        self.out.push('=');
        self.value(value, 'v', 0);
    }

    /// A value that the verb is not for.
    fn bad_verb(&mut self, verb: char, value: &Value) {
        self.out.push_str(&format!("%!{verb}("));
        self.described(value);
        self.out.push(')');
    }

    /// A value; `depth` is 0 unless it is inside another one.
    fn value(&mut self, value: &Value, verb: char, depth: usize) {
        if self.out.len() > OUTPUT_BYTES_MAX {
            return;
        }
        match verb {
            'T' => return self.text(&value.type_name(), 's', value),
            'w' if !matches!(value, Value::None) => return self.bad_verb(verb, value),
            _ => {}
        }
        if let Some(text) =
            value.own_text().filter(|_| matches!(verb, 'v' | 's' | 'x' | 'X' | 'q') && !self.flags.sharp_v)
        {
            return self.text(&text, verb, value);
        }
        match value {
            Value::None if verb == 'v' || depth > 0 => self.pad("<nil>"),
            Value::None => self.bad_verb(verb, value),
            Value::Bool(v) if matches!(verb, 't' | 'v') => self.pad(if *v { "true" } else { "false" }),
            Value::Bool(_) => self.bad_verb(verb, value),
            Value::Int(v) | Value::Named(v, _) => self.integer(v.unsigned_abs(), *v < 0, true, verb, value),
            Value::Uint(v) => self.integer(*v, false, false, verb, value),
            Value::Byte(v) => self.integer(u64::from(*v), false, false, verb, value),
            Value::Float(v) => self.float(*v, verb, value),
            Value::String(text) => self.text(text, verb, value),
            Value::Html(text) => self.text(text, verb, value),
            Value::List(list) => {
                let (open, close, separator) = self.brackets(value, ("[", "]"));
                self.out.push_str(&open);
                for (idx, item) in list.items.iter().enumerate() {
                    if idx > 0 {
                        self.out.push_str(separator);
                    }
                    self.value(item, verb, depth + 1);
                }
                self.out.push_str(close);
            }
            Value::Labels(_) | Value::Map(_) => {
                let (open, close, separator) = self.brackets(value, ("map[", "]"));
                self.out.push_str(&open);
                for (idx, (name, item)) in value.entries().into_iter().enumerate() {
                    if idx > 0 {
                        self.out.push_str(separator);
                    }
                    self.value(&Value::string(name), verb, depth + 1);
                    self.out.push(':');
                    self.value(&item, verb, depth + 1);
                }
                self.out.push_str(close);
            }
            // Go shows an address here, where the verb allows.
            Value::Sample(_) if depth > 0 && !matches!(verb, 'v' | 'p' | 'b' | 'o' | 'd' | 'x' | 'X') => {
                self.bad_verb(verb, value);
            }
            Value::Sample(_) | Value::Data(_) => {
                if depth == 0 && matches!(value, Value::Sample(_)) {
                    self.out.push('&');
                }
                let (open, close, separator) = self.brackets(value, ("{", "}"));
                self.out.push_str(open.trim_start_matches('*'));
                for (idx, Field { name, value }) in value.fields().into_iter().enumerate() {
                    if idx > 0 {
                        self.out.push_str(separator);
                    }
                    if self.flags.plus_v || self.flags.sharp_v {
                        self.out.push_str(name);
                        self.out.push(':');
                    }
                    self.value(&value, verb, depth + 1);
                }
                self.out.push_str(close);
            }
            // What Go shows here is an address, or private fields.
            Value::Histogram(_) | Value::Time(_) | Value::Pointer(_) => match value.own_text() {
                Some(text) if verb == 'v' => self.pad(&text),
                _ => self.bad_verb_of_text(verb, value),
            },
        }
    }

    fn bad_verb_of_text(&mut self, verb: char, value: &Value) {
        let text = value.own_text().unwrap_or_default();
        self.out.push_str(&format!("%!{verb}({}={text})", value.type_name()));
    }

    /// What stands around and between the parts of a value.
    fn brackets(&self, value: &Value, plain: (&'static str, &'static str)) -> (String, &'static str, &'static str) {
        match self.flags.sharp_v {
            true => (format!("{}{{", value.type_name()), "}", ", "),
            false => (plain.0.to_owned(), plain.1, " "),
        }
    }

    // === Numbers ===

    fn integer(&mut self, magnitude: u64, negative: bool, signed: bool, verb: char, value: &Value) {
        let flags = self.flags;
        let digits = match verb {
            'v' if flags.sharp_v && !signed => {
                let sharp = std::mem::replace(&mut self.flags.sharp, true);
                self.digits(format!("{magnitude:x}"), "0x", magnitude == 0, negative);
                self.flags.sharp = sharp;
                return;
            }
            'v' | 'd' => (magnitude.to_string(), ""),
            'b' => (format!("{magnitude:b}"), if flags.sharp { "0b" } else { "" }),
            'o' => (format!("{magnitude:o}"), if flags.sharp { "0" } else { "" }),
            'O' => (format!("{magnitude:o}"), "0o"),
            'x' => (format!("{magnitude:x}"), if flags.sharp { "0x" } else { "" }),
            'X' => (format!("{magnitude:X}"), if flags.sharp { "0X" } else { "" }),
            'c' | 'q' | 'U' => {
                let code = if negative { magnitude.wrapping_neg() } else { magnitude };
                return self.code_point(code, verb);
            }
            _ => return self.bad_verb(verb, value),
        };
        self.digits(digits.0, digits.1, magnitude == 0, negative);
    }

    fn digits(&mut self, digits: String, prefix: &str, is_zero: bool, negative: bool) {
        let flags = self.flags;
        let sign = match negative {
            true => "-",
            false if flags.plus => "+",
            false if flags.space => " ",
            false => "",
        };
        let least = match (flags.precision, flags.width) {
            (Some(0), _) if is_zero => {
                let width = flags.width.unwrap_or(0);
                self.out.extend(std::iter::repeat_n(' ', width));
                return;
            }
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero && !flags.minus => width.saturating_sub(sign.len()),
            _ => 0,
        };
        let digits = format!("{digits:0>least$}");
        // Octal numbers that begin with a zero have their prefix already.
        let prefix = if prefix == "0" && digits.starts_with('0') { "" } else { prefix };
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(&format!("{sign}{prefix}{digits}"));
        self.flags.zero = zero;
    }

    fn code_point(&mut self, code: u64, verb: char) {
        let known = u32::try_from(code).ok().and_then(char::from_u32);
        let c = known.unwrap_or(char::REPLACEMENT_CHARACTER);
        let text = match verb {
            'c' => c.to_string(),
            'q' => {
                let shown = match c {
                    '\'' => "\\'".to_owned(),
                    '"' => "\"".to_owned(),
                    c if self.flags.plus => inner(&quote_ascii(&c.to_string())),
                    c => inner(&quote(&c.to_string())),
                };
                format!("'{shown}'")
            }
            _ => {
                let digits = self.flags.precision.filter(|p| *p > 4).unwrap_or(4);
                let mut text = format!("U+{code:0digits$X}");
                if let Some(c) = known.filter(|c| self.flags.sharp && is_print(*c)) {
                    text.push_str(&format!(" '{c}'"));
                }
                let zero = std::mem::take(&mut self.flags.zero);
                self.pad(&text);
                self.flags.zero = zero;
                return;
            }
        };
        self.pad(&text);
    }

    fn float(&mut self, v: f64, verb: char, value: &Value) {
        let flags = self.flags;
        let (form, precision) = match verb {
            'v' => ('g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => (verb, None),
            'f' | 'e' | 'E' => (verb, Some(6)),
            'F' => ('f', Some(6)),
            _ => return self.bad_verb(verb, value),
        };
        let precision = flags.precision.or(precision);
        let mut text = float::format(v, form, precision);
        if !text.starts_with(['+', '-']) {
            text.insert(0, '+');
        }
        if flags.space && text.starts_with('+') && !flags.plus {
            text.replace_range(..1, " ");
        }
        if !v.is_finite() {
            let zero = std::mem::take(&mut self.flags.zero);
            let bare = v.is_nan() && !flags.space && !flags.plus;
            self.pad(if bare { &text[1..] } else { &text });
            self.flags.zero = zero;
            return;
        }
        if flags.sharp && form != 'b' {
            text = float::with_point(&text, form, precision);
        }
        if flags.plus || !text.starts_with('+') {
            // Zeros go behind the sign.
            match flags.width {
                Some(width) if flags.zero && !flags.minus && width > text.len() => {
                    self.out.push_str(&text[..1]);
                    self.out.extend(std::iter::repeat_n('0', width - text.len()));
                    self.out.push_str(&text[1..]);
                }
                _ => self.pad(&text),
            }
            return;
        }
        self.pad(&text[1..]);
    }

    // === Texts ===

    fn text(&mut self, text: &str, verb: char, value: &Value) {
        let flags = self.flags;
        let cut = || {
            let at = flags.precision.and_then(|n| text.char_indices().nth(n)).map_or(text.len(), |(at, _)| at);
            &text[..at]
        };
        match verb {
            'v' if flags.sharp_v => self.quoted(cut()),
            'v' | 's' => self.pad(cut()),
            'q' => self.quoted(cut()),
            'x' => self.hex(text.as_bytes(), false),
            'X' => self.hex(text.as_bytes(), true),
            _ => self.bad_verb(verb, value),
        }
    }

    fn quoted(&mut self, text: &str) {
        let raw = |c: char| c != '\u{feff}' && c != '`' && (c == '\t' || !c.is_control());
        match text {
            text if self.flags.sharp && text.chars().all(raw) => self.pad(&format!("`{text}`")),
            text if self.flags.plus => self.pad(&quote_ascii(text)),
            text => self.pad(&quote(text)),
        }
    }

    fn hex(&mut self, bytes: &[u8], upper: bool) {
        let flags = self.flags;
        let bytes = &bytes[..flags.precision.unwrap_or(bytes.len()).min(bytes.len())];
        let prefix = if !flags.sharp || bytes.is_empty() {
            ""
        } else if upper {
            "0X"
        } else {
            "0x"
        };
        let mut text = prefix.to_owned();
        for (at, byte) in bytes.iter().enumerate() {
            if flags.space && at > 0 {
                text.push(' ');
                text.push_str(prefix);
            }
            text.push_str(&if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
        }
        self.pad(&text);
    }

    fn pad(&mut self, text: &str) {
        let fill = self.flags.width.map_or(0, |width| width.saturating_sub(text.chars().count()));
        if self.flags.minus {
            self.out.push_str(text);
        }
        let filler = if self.flags.zero && !self.flags.minus { '0' } else { ' ' };
        self.out.extend(std::iter::repeat_n(filler, fill));
        if !self.flags.minus {
            self.out.push_str(text);
        }
    }
}

/// Without its quotes.
fn inner(quoted: &str) -> String {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printf_knows_the_verbs_of_go() {
        let text = |t: &str| Value::string(t);
        for (format, args, expected) in [
            ("%d|%5d|%-5d|%05d|%+d", vec![Value::Int(42); 5], "42|   42|42   |00042|+42"),
            ("%.2f|%8.2f|%-8.2f|%08.2f|%f", vec![Value::Float(2.34567); 5], "2.35|    2.35|2.35    |00002.35|2.345670"),
            ("%v %g %e %G", vec![Value::Float(1e6); 4], "1e+06 1e+06 1.000000e+06 1E+06"),
            ("%s|%5s|%-5s|%.1s|%q|%x", vec![text("ab"); 6], "ab|   ab|ab   |a|\"ab\"|6162"),
            ("% x|%#x|%# X|%+q|%#q", vec![text("é`"); 5], "c3 a9 60|0xc3a960|0XC3 0XA9 0X60|\"\\u00e9`\"|\"é`\""),
            ("%t %v %%", vec![Value::Bool(true), Value::None], "true <nil> %"),
            ("%x %X %#x %b %o %c %U", vec![Value::Int(255); 7], "ff FF 0xff 11111111 377 ÿ U+00FF"),
            ("%d", vec![text("x")], "%!d(string=x)"),
            ("%5.1f", vec![text("1.5")], "%!f(string=    1)"),
            ("%s", vec![Value::Int(1)], "%!s(int=1)"),
            ("%s", vec![Value::Float(1.5)], "%!s(float64=1.5)"),
            ("%d", vec![], "%!d(MISSING)"),
            ("%d", vec![Value::None], "%!d(<nil>)"),
            ("a", vec![Value::Int(1), text("b")], "a%!(EXTRA int=1, string=b)"),
            ("%", vec![], "%!(NOVERB)"),
            ("%!", vec![], "%!!(MISSING)"),
            ("%*d|%-*d", vec![Value::Int(4), Value::Int(7), Value::Int(3), Value::Int(7)], "   7|7  "),
            ("%*d", vec![Value::Int(-4), Value::Int(7)], "7   "),
            (
                "%.*f %*d",
                vec![text("x"), Value::Float(1.0), text("y"), Value::Int(1)],
                "%!(BADPREC)1.000000 %!(BADWIDTH)1",
            ),
            ("%[2]d %[1]d %d", vec![Value::Int(1), Value::Int(2)], "2 1 2"),
            ("%[3]d %[x]d %[1", vec![Value::Int(1)], "%!d(BADINDEX) %!d(BADINDEX) %!(NOVERB)"),
            ("%T %T", vec![Value::Float(1.0), text("")], "float64 string"),
            ("%6.3v|%+.1f|% d", vec![Value::Float(1.23456), Value::Float(2.0), Value::Int(5)], "  1.23|+2.0| 5"),
            ("%06d|%+05d|%-05d|", vec![Value::Int(-42), Value::Int(7), Value::Int(7)], "-00042|+0007|7    |"),
            ("%+v %#v %#v", vec![Value::Int(1), text("a"), Value::Uint(255)], "1 \"a\" 0xff"),
            (
                "%x %X %b",
                vec![Value::Float(1.5), Value::Float(-0.25), Value::Float(1.0)],
                "0x1.8p+00 -0X1P-02 4503599627370496p-52",
            ),
            (
                "%#g %#.3g %#e",
                vec![Value::Float(1.0), Value::Float(2.5), Value::Float(1.0)],
                "1.00000 2.50 1.000000e+00",
            ),
            ("%q %q %#U", vec![Value::Int(97), Value::Int(39), Value::Int(0x1F600)], "'a' '\\'' U+1F600 '😀'"),
            ("%05s|%-05s|%06f", vec![text("a"), text("a"), Value::Float(f64::INFINITY)], "0000a|a    |  +Inf"),
        ] {
            assert_eq!(sprintf(format, &args), expected, "{format}");
        }
    }

    #[test]
    fn huge_widths_are_cut() {
        assert_eq!(sprintf("%99999999d", &[Value::Int(1)]), "%!(NOVERB)%!(EXTRA int=1)");
        assert!(sprintf("%999999d%999999d", &[Value::Int(1), Value::Int(1)]).len() <= 2 * NUMBER_MAX);
    }
}
