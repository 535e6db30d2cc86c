//! How values look in JSON answers: numbers and times as Prometheus prints them.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use fk_model::Labels;
use serde::{Serialize, Serializer};

/// Go's zero time, which Prometheus prints where it has none.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

// === Fields of serialised structs ===

/// A label set as an object in order of name.
pub(crate) fn labels<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// Names and values as an object in their order.
pub(crate) fn pairs<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// A label set wherever a value is wanted.
pub(crate) struct LabelsJson<'a>(pub(crate) &'a Labels);

impl Serialize for LabelsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        labels(self.0, serializer)
    }
}

/// A time in ms as RFC 3339.
pub(crate) fn rfc3339<S: Serializer>(t_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(Some(*t_ms)))
}

/// A time in ms as RFC 3339, or Go's zero time.
pub(crate) fn rfc3339_or_zero<S: Serializer>(t_ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text(*t_ms))
}

/// A Prometheus duration.
pub(crate) fn duration<S: Serializer>(duration: &fk_model::Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(duration)
}

/// A value in exponent notation (`1.5e+00`), as a string: the alerts API prints values so.
pub(crate) fn exponent_value<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = Vec::with_capacity(24);
    write_exponent(&mut text, *value);
    serializer.collect_str(&String::from_utf8_lossy(&text))
}

/// RFC 3339 in UTC with the digits of the fraction that count (`time.RFC3339Nano` in Go).
pub(crate) fn time_text(t_ms: Option<i64>) -> String {
    let Some(time) = t_ms.and_then(DateTime::<Utc>::from_timestamp_millis) else { return ZERO_TIME.to_owned() };
    let mut text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    // `.120Z` and `.000Z` become `.12Z` and `Z`.
    if let Some(stem) = text.strip_suffix('Z').map(|t| t.trim_end_matches('0').trim_end_matches('.').len()) {
        text.truncate(stem);
        text.push('Z');
    }
    text
}

// === Samples ===

/// A sample's time: seconds, with three decimals unless they are all zero (`0.010`).
pub(crate) fn write_timestamp(out: &mut Vec<u8>, t_ms: i64) {
    if t_ms < 0 {
        out.push(b'-');
    }
    let t_ms = t_ms.unsigned_abs();
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(t_ms / 1000).as_bytes());
    let fraction = t_ms % 1000;
    if fraction != 0 {
        let digit = |n: u64| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(fraction / 100), digit(fraction / 10), digit(fraction)]);
    }
}

/// Whole numbers below this are exact in a float and printed by the fast path.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// A float without quotes, the shortest text that reads back as the same float: positional, but with an exponent of at
/// least two digits below 1e-6 and from 1e21 on. (`strconv.AppendFloat` with `f` or `e` in Go.)
pub(crate) fn write_float(out: &mut Vec<u8>, v: f64) {
    if v.fract() == 0.0 && v.abs() < EXACT_INTEGER_MAX && !(v == 0.0 && v.is_sign_negative()) {
        out.extend_from_slice(itoa::Buffer::new().format(v as i64).as_bytes());
        return;
    }
    if !v.is_finite() || v == 0.0 {
        out.extend_from_slice(special(v));
        return;
    }
    if v.abs() < 1e-6 || v.abs() >= 1e21 {
        write_exponent(out, v);
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(v);
    if text.contains('e') {
        write_positional(out, text);
    } else {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
}

fn special(v: f64) -> &'static [u8] {
    if v.is_nan() {
        b"NaN"
    } else if v == f64::INFINITY {
        b"+Inf"
    } else if v == f64::NEG_INFINITY {
        b"-Inf"
    } else if v.is_sign_negative() {
        b"-0"
    } else {
        b"0"
    }
}

/// `-1.25e-7` to digits without a point and the place of the point behind the first of them.
fn decompose(text: &str) -> (bool, Vec<u8>, i32) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut point = exponent + whole.len() as i32;
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = digits.iter().take_while(|d| **d == b'0').count().min(digits.len().saturating_sub(1));
    digits.drain(..zeros);
    point -= zeros as i32;
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    (negative, digits, point)
}

fn write_positional(out: &mut Vec<u8>, text: &str) {
    let (negative, digits, point) = decompose(text);
    if negative {
        out.push(b'-');
    }
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(&digits);
        return;
    }
    let point = point as usize;
    if digits.len() <= point {
        out.extend_from_slice(&digits);
        out.extend(std::iter::repeat_n(b'0', point - digits.len()));
    } else {
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

/// A float with an exponent of at least two digits (`strconv.AppendFloat` with `e` in Go).
pub(crate) fn write_exponent(out: &mut Vec<u8>, v: f64) {
    if !v.is_finite() {
        out.extend_from_slice(special(v));
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let (negative, digits, point) = decompose(buffer.format_finite(v));
    if negative {
        out.push(b'-');
    }
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    let exponent = if v == 0.0 { 0 } else { point - 1 };
    let mut tail = String::new();
    let sign = if exponent < 0 { '-' } else { '+' };
    // Writing to a String cannot fail.
    let _ = write!(tail, "e{sign}{:02}", exponent.unsigned_abs());
    out.extend_from_slice(tail.as_bytes());
}

/// A string with its quotes.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[clean_from..at]);
        clean_from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[clean_from..]);
    out.push(b'"');
}

/// A label set as an object in order of name.
pub(crate) fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_string(out, value);
    }
    out.push(b'}');
}

/// `[time,"value"]`
pub(crate) fn write_point(out: &mut Vec<u8>, t_ms: i64, v: f64) {
    out.push(b'[');
    write_timestamp(out, t_ms);
    out.extend_from_slice(b",\"");
    write_float(out, v);
    out.extend_from_slice(b"\"]");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_printed_as_go_prints_them() {
        for (v, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (1234.5, "1234.5"),
            (100000.0, "100000"),
            (1e15 + 0.5, "1000000000000000.5"),
            (9007199254740993.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (1.5e20, "150000000000000000000"),
            (1e21, "1e+21"),
            (-1.25e300, "-1.25e+300"),
            (1e-6, "0.000001"),
            (1.2345678e-6, "0.0000012345678"),
            (9.99e-7, "9.99e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (fk_model::stale_nan(), "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(|out| write_float(out, v)), expected, "{v:e}");
        }
    }

    #[test]
    fn alert_values_have_an_exponent() {
        for (v, expected) in [
            (0.0, "0e+00"),
            (1.0, "1e+00"),
            (-12.5, "-1.25e+01"),
            (1e100, "1e+100"),
            (0.001, "1e-03"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(text(|out| write_exponent(out, v)), expected);
        }
    }

    #[test]
    fn times_of_samples_have_three_decimals_or_none() {
        for (t, expected) in [
            (0, "0"),
            (1, "0.001"),
            (1100, "1.100"),
            (-1, "-0.001"),
            (-61_000, "-61"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(text(|out| write_timestamp(out, t)), expected);
        }
    }

    #[test]
    fn rfc3339_drops_zeros_at_the_end() {
        for (t, expected) in [
            (Some(0), "1970-01-01T00:00:00Z"),
            (Some(1_767_361_000_200), "2026-01-02T13:36:40.2Z"),
            (Some(1_767_361_000_050), "2026-01-02T13:36:40.05Z"),
            (None, ZERO_TIME),
        ] {
            assert_eq!(time_text(t), expected);
        }
    }

    proptest! {
        #[test]
        fn any_float_reads_back_as_itself(bits: u64) {
            let v = f64::from_bits(bits);
            let printed = text(|out| write_float(out, v));
            let read: f64 = printed.replace("Inf", "inf").parse().unwrap();
            prop_assert!(read.to_bits() == v.to_bits() || v.is_nan() && read.is_nan(), "{} from {:e}", printed, v);
            let printed = text(|out| write_exponent(out, v));
            let read: f64 = printed.replace("Inf", "inf").parse().unwrap();
            prop_assert!(read == v || v.is_nan(), "{} from {:e}", printed, v);
        }

        #[test]
        fn any_string_reads_back_as_itself(s: String) {
            let printed = text(|out| write_string(out, &s));
            prop_assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), s);
        }
    }
}
