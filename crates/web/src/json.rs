//! How values look in JSON answers: numbers and times as Prometheus prints them.

use std::cell::Cell;
use std::io;

use chrono::{DateTime, SecondsFormat, Utc};
use fk_model::{FloatHistogram, Labels};
use fk_storage::Stopped;
use serde::{Serialize, Serializer};

use crate::answer::ChunkWriter;

/// Go's zero time, which Prometheus prints where it has none.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

thread_local! {
    /// Whether a label set is being written, whose texts stand as they are (`<`, not `\u003c`), as in Prometheus.
    static IN_LABELS: Cell<bool> = const { Cell::new(false) };
}

/// How serde writes answers: floats and strings as everywhere else in this module (`300`, not `300.0`).
pub(crate) struct Formatter;

impl serde_json::ser::Formatter for Formatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let mut text = Vec::with_capacity(24);
        write_float(&mut text, value);
        writer.write_all(&text)
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if IN_LABELS.get() {
            return writer.write_all(fragment.as_bytes());
        }
        let mut result = Ok(());
        html_safe(fragment.as_bytes(), |part| {
            if result.is_ok() {
                result = writer.write_all(part);
            }
        });
        result
    }
}

// === Fields of serialised structs ===

/// A label set as an object in order of name.
pub(crate) fn labels<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    within_labels(|| serializer.collect_map(labels.iter()))
}

/// Names and values as an object in their order.
pub(crate) fn pairs<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    within_labels(|| serializer.collect_map(pairs.iter().map(|(name, value)| (name, value))))
}

/// Serialising neither waits nor changes threads, so that what is set here is what the formatter sees.
fn within_labels<T>(write: impl FnOnce() -> T) -> T {
    IN_LABELS.set(true);
    let written = write();
    IN_LABELS.set(false);
    written
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

/// A time in ns as RFC 3339.
pub(crate) fn rfc3339_ns<S: Serializer>(t_ns: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text_ns(Some(*t_ns)))
}

/// A time in ns as RFC 3339, or Go's zero time.
pub(crate) fn rfc3339_ns_or_zero<S: Serializer>(t_ns: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time_text_ns(*t_ns))
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
    trimmed(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The same of a time in ns.
pub(crate) fn time_text_ns(t_ns: Option<i64>) -> String {
    let Some(t_ns) = t_ns else { return ZERO_TIME.to_owned() };
    trimmed(DateTime::<Utc>::from_timestamp_nanos(t_ns).to_rfc3339_opts(SecondsFormat::Nanos, true))
}

fn trimmed(mut text: String) -> String {
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

/// A float taken apart: `-0.0125` is 125 with the point one digit in front of it.
struct Decimal {
    negative: bool,
    digits: [u8; DIGITS_MAX],
    len: usize,
    /// How many digits stand before the point; negative: zeros between the point and the first digit.
    point: i32,
}

/// The shortest form of a float has at most 17 digits; as text it may have zeros at both ends besides.
const DIGITS_MAX: usize = 32;

impl Decimal {
    /// Takes the shortest text of a float apart, such as `-1.25e-7` or `100.0`.
    fn new(text: &str) -> Decimal {
        let mut decimal = Decimal { negative: false, digits: [0; DIGITS_MAX], len: 0, point: 0 };
        let (mut seen_point, mut exponent, mut bytes) = (false, 0i32, text.bytes());
        while let Some(byte) = bytes.next() {
            match byte {
                b'-' => decimal.negative = true,
                b'.' => seen_point = true,
                b'e' => {
                    let mut negative = false;
                    for byte in bytes.by_ref() {
                        match byte {
                            b'-' => negative = true,
                            b'+' => {}
                            digit => exponent = exponent * 10 + i32::from(digit - b'0'),
                        }
                    }
                    exponent = if negative { -exponent } else { exponent };
                }
                // Zeros in front do not count, but move the point when they stand behind it.
                b'0' if decimal.len == 0 => decimal.point -= i32::from(seen_point),
                digit => {
                    if decimal.len < DIGITS_MAX {
                        decimal.digits[decimal.len] = digit;
                        decimal.len += 1;
                    }
                    decimal.point += i32::from(!seen_point);
                }
            }
        }
        while decimal.len > 1 && decimal.digits[decimal.len - 1] == b'0' {
            decimal.len -= 1;
        }
        decimal.point += exponent;
        decimal
    }

    fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

fn write_positional(out: &mut Vec<u8>, text: &str) {
    let decimal = Decimal::new(text);
    let (digits, point) = (decimal.digits(), decimal.point);
    if decimal.negative {
        out.push(b'-');
    }
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + point.unsigned_abs() as usize, b'0');
        out.extend_from_slice(digits);
        return;
    }
    let point = point as usize;
    if digits.len() <= point {
        out.extend_from_slice(digits);
        out.resize(out.len() + point - digits.len(), b'0');
    } else {
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

/// A float with an exponent of at least two digits (`strconv.AppendFloat` with `e` in Go).
pub(crate) fn write_exponent(out: &mut Vec<u8>, v: f64) {
    if !v.is_finite() || v == 0.0 {
        out.extend_from_slice(special(v));
        if v == 0.0 {
            out.extend_from_slice(b"e+00");
        }
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let decimal = Decimal::new(buffer.format_finite(v));
    let (first, rest) = decimal.digits().split_at(1);
    if decimal.negative {
        out.push(b'-');
    }
    out.extend_from_slice(first);
    if !rest.is_empty() {
        out.push(b'.');
        out.extend_from_slice(rest);
    }
    let exponent = decimal.point - 1;
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.unsigned_abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
}

/// A string with its quotes, as in labels.
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
            _ => out.extend_from_slice(&escape(byte)),
        }
    }
    out.extend_from_slice(&bytes[clean_from..]);
    out.push(b'"');
}

/// A string with its quotes, as everywhere but in labels: safe inside of HTML.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    let begin = out.len();
    write_string(out, text);
    // Few texts have something to escape.
    if out[begin..].iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xE2)) {
        let quoted = out.split_off(begin);
        html_safe(&quoted, |part| out.extend_from_slice(part));
    }
}

/// `\u00XX`
fn escape(byte: u8) -> [u8; 6] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// Hands on a string's text in parts, with those characters escaped that Go's encoder escapes for the sake of HTML and
/// JavaScript: `<`, `>`, `&` and the two line separators of Unicode.
fn html_safe(text: &[u8], mut write: impl FnMut(&[u8])) {
    let mut clean_from = 0;
    for (at, &byte) in text.iter().enumerate() {
        let separator = |last: u8| text[at..].starts_with(&[0xE2, 0x80, last]);
        let (escaped, len) = match byte {
            b'<' | b'>' | b'&' => (escape(byte), 1),
            0xE2 if separator(0xA8) => (*b"\\u2028", 3),
            0xE2 if separator(0xA9) => (*b"\\u2029", 3),
            _ => continue,
        };
        write(&text[clean_from..at]);
        write(&escaped);
        clean_from = at + len;
    }
    write(&text[clean_from..]);
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

/// A float without an exponent, however long that gets (`strconv.FormatFloat` with `f` in Go).
pub(crate) fn plain_float(v: f64) -> String {
    match v {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => v.to_string(),
    }
}

/// `[time,"value"]` of a scalar. Unlike samples its time has no zeros at the end, and its value no exponent.
pub(crate) fn write_scalar(out: &mut Vec<u8>, t_ms: i64, v: f64) {
    out.push(b'[');
    write_float(out, t_ms as f64 / 1000.0);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(plain_float(v).as_bytes());
    out.extend_from_slice(b"\"]");
}

/// `[time,"text"]` of a string, its time like that of a scalar.
pub(crate) fn write_string_value(out: &mut Vec<u8>, t_ms: i64, text: &str) {
    out.push(b'[');
    write_float(out, t_ms as f64 / 1000.0);
    out.push(b',');
    write_text(out, text);
    out.push(b']');
}

/// `[time,"value"]`
pub(crate) fn write_point(out: &mut Vec<u8>, t_ms: i64, v: f64) {
    out.push(b'[');
    write_timestamp(out, t_ms);
    out.extend_from_slice(b",\"");
    write_float(out, v);
    out.extend_from_slice(b"\"]");
}

/// `[time,{…}]` with a histogram: count, sum, and the buckets in use in ascending order, each as which of its limits belong
/// to it (0: the upper, 1: the lower, 2: neither, 3: both), its limits and its count.
pub(crate) fn write_histogram_point(out: &mut Vec<u8>, t_ms: i64, h: &FloatHistogram) {
    out.push(b'[');
    write_timestamp(out, t_ms);
    out.extend_from_slice(b",{\"count\":\"");
    write_float(out, h.count);
    out.extend_from_slice(b"\",\"sum\":\"");
    write_float(out, h.sum);
    out.push(b'"');
    let mut first = true;
    for bucket in h.buckets().filter(|bucket| bucket.count != 0.0) {
        out.extend_from_slice(if first { b",\"buckets\":[[" } else { b",[" });
        first = false;
        out.push(match (bucket.includes_lower(), bucket.includes_upper()) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        });
        for v in [bucket.lower, bucket.upper, bucket.count] {
            out.extend_from_slice(b",\"");
            write_float(out, v);
            out.push(b'"');
        }
        out.push(b']');
    }
    out.extend_from_slice(if first { b"}]" } else { b"]}]" });
}

/// Longest text of a point's beginning: `[-9223372036854775.808,"`.
const STAMP_BYTES: usize = 24;

/// More than a float takes: 21 digits and a sign, or a few zeros, 17 digits and a sign.
const FLOAT_BYTES: usize = 32;

/// What a point ends with.
const POINT_END: &[u8; 3] = b"\"],";

/// Points written between two looks at the size of the buffer.
const POINTS_TOGETHER: usize = 128;

/// The beginning of a point, `[time,"`.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    text: [u8; STAMP_BYTES],
    len: u8,
}

/// Writes points of series. Most series of an answer have their points at the same times, so the text of the times is kept
/// for the next one.
#[derive(Debug, Default)]
pub(crate) struct Points {
    t: Vec<i64>,
    stamps: Vec<Stamp>,
}

impl Points {
    /// `[time,"value"],[time,"value"],...`
    pub(crate) fn write(&mut self, out: &mut ChunkWriter, t: &[i64], v: &[f64]) -> Result<(), Stopped> {
        if self.t != t {
            self.stamp(t);
        }
        let mut left = t.len().min(v.len());
        for (stamps, values) in self.stamps.chunks(POINTS_TOGETHER).zip(v.chunks(POINTS_TOGETHER)) {
            let buffer = out.buffer();
            let mut at = buffer.len();
            buffer.resize(at + stamps.len() * (STAMP_BYTES + FLOAT_BYTES + POINT_END.len()), 0);
            for (stamp, v) in stamps.iter().zip(values) {
                // All of it, since a copy of a fixed size is much faster; what follows overwrites the rest.
                buffer[at..at + STAMP_BYTES].copy_from_slice(&stamp.text);
                at += usize::from(stamp.len);
                at += put_float(&mut buffer[at..at + FLOAT_BYTES], *v);
                buffer[at..at + POINT_END.len()].copy_from_slice(POINT_END);
                at += POINT_END.len();
            }
            left -= stamps.len().min(values.len());
            // Behind the last point there is no comma.
            buffer.truncate(at - usize::from(left == 0));
            out.spill()?;
        }
        Ok(())
    }

    fn stamp(&mut self, t: &[i64]) {
        self.t.clear();
        self.t.extend_from_slice(t);
        self.stamps.clear();
        let mut text = Vec::with_capacity(STAMP_BYTES);
        for t_ms in t {
            text.clear();
            text.push(b'[');
            write_timestamp(&mut text, *t_ms);
            text.extend_from_slice(b",\"");
            let mut stamp = Stamp { text: [0; STAMP_BYTES], len: text.len() as u8 };
            stamp.text[..text.len()].copy_from_slice(&text);
            self.stamps.push(stamp);
        }
    }
}

/// Writes a float as [`write_float`] does, and says how long it is. `out` has [`FLOAT_BYTES`].
#[inline]
fn put_float(out: &mut [u8], v: f64) -> usize {
    let whole = v as i64;
    if whole as f64 == v && v.abs() < EXACT_INTEGER_MAX && (whole != 0 || v.is_sign_positive()) {
        return put(out, itoa::Buffer::new().format(whole).as_bytes());
    }
    // Here the shortest form has neither exponent nor zeros at the end.
    if (1e-4..1e15).contains(&v.abs()) {
        return put(out, zmij::Buffer::new().format_finite(v).as_bytes());
    }
    let mut text = Vec::with_capacity(FLOAT_BYTES);
    write_float(&mut text, v);
    put(out, &text)
}

#[inline]
fn put(out: &mut [u8], text: &[u8]) -> usize {
    out[..text.len()].copy_from_slice(text);
    text.len()
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
    fn serde_writes_floats_as_go_does() {
        for (v, expected) in
            [(300.0, "300"), (0.00012, "0.00012"), (1.5e-7, "1.5e-07"), (1e22, "1e+22"), (0.0, "0"), (f64::NAN, "null")]
        {
            let got = text(|out| v.serialize(&mut serde_json::Serializer::with_formatter(out, Formatter)).unwrap());
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn texts_are_safe_in_html() {
        for (raw, expected) in [
            ("a < b && c > d", r#""a \u003c b \u0026\u0026 c \u003e d""#),
            ("\u{2028}\u{2029}\u{2030}", "\"\\u2028\\u2029\u{2030}\""),
            ("\"\n\u{1}é", "\"\\\"\\n\\u0001é\""),
            ("", "\"\""),
        ] {
            assert_eq!(text(|out| write_text(out, raw)), expected);
            let serde = text(|out| raw.serialize(&mut serde_json::Serializer::with_formatter(out, Formatter)).unwrap());
            assert_eq!(serde, expected);
        }
        assert_eq!(text(|out| write_string(out, "<&>")), "\"<&>\"");
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
    fn scalars_and_strings_are_not_written_like_samples() {
        for (t, v, expected) in [
            (1500, 1e-7, r#"[1.5,"0.0000001"]"#),
            (0, 1e22, r#"[0,"10000000000000000000000"]"#),
            (-1250, f64::NEG_INFINITY, r#"[-1.25,"-Inf"]"#),
            (1_795_255_185_100, f64::NAN, r#"[1795255185.1,"NaN"]"#),
            (1, -0.0, r#"[0.001,"-0"]"#),
        ] {
            assert_eq!(text(|out| write_scalar(out, t, v)), expected);
        }
        assert_eq!(text(|out| write_string_value(out, 1500, "a")), r#"[1.5,"a"]"#);
        assert_eq!(text(|out| write_point(out, 1500, 1e-7)), r#"[1.500,"1e-07"]"#);
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
        fn points_together_are_those_written_one_by_one(
            points in prop::collection::vec((any::<i64>(), prop_oneof![
                any::<u64>().prop_map(f64::from_bits), (-1000i64..1000).prop_map(|v| v as f64 / 8.0), -1e16..1e16, -1e-4..1e-3,
            ]), 0..400),
            moved in 0i64..2,
        ) {
            let mut writer = Points::default();
            for shift in [0, 0, moved] {
                let t: Vec<i64> = points.iter().map(|(t, _)| t.saturating_add(shift)).collect();
                let v: Vec<f64> = points.iter().map(|(_, v)| *v).collect();
                let mut out = ChunkWriter::new();
                writer.write(&mut out, &t, &v).unwrap();
                let want = text(|out| t.iter().zip(&v).enumerate().for_each(|(at, (t, v))| {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_point(out, *t, *v);
                }));
                prop_assert_eq!(crate::answer::collect(out.into_chunks()), want);
            }
        }

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
            prop_assert_eq!(&serde_json::from_str::<String>(&printed).unwrap(), &s);
            let printed = text(|out| write_text(out, &s));
            prop_assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), s);
        }
    }
}
