//! Numbers and strings as Go reads them.

use fk_model::Duration;
use fk_model::duration::DurationError;

/// The value of a number token: hexadecimal, octal (leading zero), decimal, with underscores, `inf`, `nan`.
///
/// A text that is octal by its leading zero and has digits that are not is read as decimal, as Prometheus does.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let fail = |why: &str| format!("error parsing number: strconv.ParseFloat: parsing {text:?}: {why}");
    if !underscores_separate_digits(text) {
        return Err(fail("invalid syntax"));
    }
    let plain: String;
    let digits = if text.contains('_') {
        plain = text.replace('_', "");
        &plain
    } else {
        text
    };
    let integer = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => {
            return i64::from_str_radix(&digits[2..], 16).map(|n| n as f64).map_err(|_| fail("invalid syntax"));
        }
        [b'0', _, ..] => i64::from_str_radix(&digits[1..], 8).ok(),
        // An underscore makes no integer without a base prefix in front of it.
        _ => digits.parse::<i64>().ok(),
    };
    if let Some(integer) = integer {
        return Ok(integer as f64);
    }
    let value: f64 = digits.parse().map_err(|_| fail("invalid syntax"))?;
    let named = digits.bytes().all(|b| b.is_ascii_alphabetic());
    if value.is_infinite() && !named { Err(fail("value out of range")) } else { Ok(value) }
}

fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    // The base prefix counts as a digit.
    let start = if hex { 2 } else { 0 };
    let is_digit = |b: &u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    bytes[start..].iter().enumerate().all(|(i, b)| {
        let at = start + i;
        let before = (hex && at == 2) || (at > 0 && is_digit(&bytes[at - 1]));
        *b != b'_' || (before && bytes.get(at + 1).is_some_and(is_digit))
    })
}

/// The seconds of a duration token.
pub(crate) fn duration(text: &str) -> Result<f64, String> {
    match Duration::parse(text) {
        Ok(duration) => Ok(duration.as_secs_f64()),
        Err(DurationError::Invalid(_)) => Err(match unknown_unit(text) {
            // Text as in Prometheus:
            Some(unit) => format!("unknown unit {unit:?} in duration {text:?}"),
            None => format!("not a valid duration string: {text:?}"),
        }),
        Err(other) => Err(other.to_string()),
    }
}

/// The first unit that does not exist, unless an earlier one is out of order.
fn unknown_unit(text: &str) -> Option<&str> {
    const UNITS: [&str; 7] = ["y", "w", "d", "h", "m", "s", "ms"];
    let mut last = None;
    for unit in text.split(|c: char| c.is_ascii_digit()).filter(|unit| !unit.is_empty()) {
        let Some(at) = UNITS.iter().position(|known| *known == unit) else { return Some(unit) };
        if last.is_some_and(|last| at <= last) {
            return None;
        }
        last = Some(at);
    }
    None
}

/// A text that is no quoted string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid syntax")]
pub struct UnquoteError;

/// The bytes of a string literal in double, single or back quotes, with Go's escapes. The bytes need not be UTF-8.
pub fn unquote(text: &str) -> Result<Vec<u8>, UnquoteError> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')).ok_or(UnquoteError)?;
    if text.len() < 2 || !text.ends_with(quote) {
        return Err(UnquoteError);
    }
    let inner = &text[1..text.len() - 1];
    if quote == '`' {
        return if inner.contains('`') { Err(UnquoteError) } else { Ok(inner.as_bytes().to_vec()) };
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find(['\\', '\n', quote]) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        if !rest[at..].starts_with('\\') {
            return Err(UnquoteError);
        }
        rest = escape(&rest[at + 1..], quote, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Reads one escape behind its backslash and returns what follows it.
fn escape<'a>(text: &'a str, quote: char, out: &mut Vec<u8>) -> Result<&'a str, UnquoteError> {
    let c = text.chars().next().ok_or(UnquoteError)?;
    let rest = &text[c.len_utf8()..];
    let simple = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        c if c == quote => quote as u8,
        '0'..='7' => return code(text, 3, 8, out),
        'x' => return code(rest, 2, 16, out),
        'u' => return code(rest, 4, 16, out),
        'U' => return code(rest, 8, 16, out),
        _ => return Err(UnquoteError),
    };
    out.push(simple);
    Ok(rest)
}

/// Reads `n` digits: a byte if the form is an octal or two-digit one, a code point otherwise.
fn code<'a>(text: &'a str, n: usize, base: u32, out: &mut Vec<u8>) -> Result<&'a str, UnquoteError> {
    let (digits, rest) = text.split_at_checked(n).ok_or(UnquoteError)?;
    if !digits.chars().all(|c| c.is_digit(base)) {
        return Err(UnquoteError);
    }
    let value = u32::from_str_radix(digits, base).map_err(|_| UnquoteError)?;
    if n <= 3 {
        out.push(u8::try_from(value).map_err(|_| UnquoteError)?);
    } else {
        let c = char::from_u32(value).ok_or(UnquoteError)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("0755", 493.0),
            ("08", 8.0),
            ("010", 8.0),
            ("0xc", 12.0),
            ("0x_1F", 31.0),
            ("1_000", 1000.0),
            ("1_000.5", 1000.5),
            ("5.", 5.0),
            (".5", 0.5),
            ("5e-3", 0.005),
            ("9223372036854775807", 9223372036854775807.0),
            ("99999999999999999999", 1e20),
            ("Inf", f64::INFINITY),
            ("1e-400", 0.0),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert!(number("nAn").unwrap().is_nan());
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for text in ["1e400", "0x", "1__0", "1_", "0xffffffffffffffffff", "1e_5", "."] {
            assert!(number(text).is_err(), "{text}");
        }
        assert_eq!(
            number("1e400").unwrap_err(),
            "error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"
        );
    }
}
