//! Sample values as text: Go's decimal float syntax, in and out.

use fk_model::value::normal_nan;

/// A text that is no sample value. Texts as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloatError {
    /// `p`, `P` or `_`, which later versions of Go would take.
    #[error("unsupported character in float")]
    UnsupportedCharacter,
    /// No float.
    #[error("strconv.ParseFloat: parsing {0}: invalid syntax")]
    Syntax(String),
    /// Too large.
    #[error("strconv.ParseFloat: parsing {0}: value out of range")]
    Range(String),
}

/// Powers of ten that are exact.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Digits that always fit in a `u64`.
const DIGITS_MAX: usize = 18;

/// The quick way for nearly all values: optional minus, at most 18 digits with at most one point, perhaps an exponent, and
/// then a line break. Returns the value and the offset of the line break. `None` means "look closer", not "wrong".
#[inline]
pub fn scan_float(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let mut mantissa = 0u64;
    let start = at;
    let mut point = usize::MAX;
    let mut exponent = 0i32;
    let end = loop {
        let byte = *text.get(at)?;
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == b'\n' {
            break at;
        } else if byte == b'.' && point == usize::MAX {
            point = at;
        } else if byte == b'e' {
            let end = at;
            (exponent, at) = scan_exponent(text, at + 1)?;
            break end;
        } else {
            return None;
        }
        at += 1;
    };
    let (digits, scale) = match point {
        usize::MAX => (end - start, 0),
        point => (end - start - 1, end - point - 1),
    };
    if digits == 0 || digits > DIGITS_MAX || mantissa >= 1 << 53 {
        return None;
    }
    // The mantissa and the power of ten are exact, so that one multiplication or division rounds correctly.
    let power = exponent - scale as i32;
    let exact = *EXACT_POWERS.get(power.unsigned_abs() as usize)?;
    let magnitude = if power < 0 { mantissa as f64 / exact } else { mantissa as f64 * exact };
    Some((if negative { -magnitude } else { magnitude }, at))
}

/// An exponent of two or three digits, as Go writes it, and the offset of the line break behind it.
fn scan_exponent(text: &[u8], start: usize) -> Option<(i32, usize)> {
    let sign = *text.get(start)?;
    if sign != b'+' && sign != b'-' {
        return None;
    }
    let mut exponent = 0;
    for (at, byte) in text.iter().enumerate().skip(start + 1).take(4) {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            exponent = exponent * 10 + i32::from(digit);
        } else if *byte == b'\n' && at > start + 1 {
            return Some((if sign == b'-' { -exponent } else { exponent }, at));
        } else {
            return None;
        }
    }
    None
}

/// A sample value: decimal floats, `inf`, `infinity` and `nan` in any case. Every NaN is the normal one.
pub fn parse_go_float(text: &[u8]) -> Result<f64, FloatError> {
    if text.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err(FloatError::UnsupportedCharacter);
    }
    let quoted = || quote(text);
    let (sign, rest) = match text {
        [b'-', rest @ ..] => (-1.0, rest),
        [b'+', rest @ ..] => (1.0, rest),
        rest => (1.0, rest),
    };
    if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        return Ok(sign * f64::INFINITY);
    }
    if text.eq_ignore_ascii_case(b"nan") {
        return Ok(normal_nan());
    }
    if !is_decimal(rest) {
        return Err(FloatError::Syntax(quoted()));
    }
    let magnitude: f64 = fast_float2::parse(rest).map_err(|_| FloatError::Syntax(quoted()))?;
    if magnitude.is_infinite() { Err(FloatError::Range(quoted())) } else { Ok(sign * magnitude) }
}

/// Digits with at most one point, then perhaps an exponent.
fn is_decimal(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(text);
    let mut rest = &text[whole..];
    let mut count = whole;
    if let [b'.', tail @ ..] = rest {
        let fraction = digits(tail);
        count += fraction;
        rest = &tail[fraction..];
    }
    let exponent_is_good = match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', tail @ ..] | [b'e' | b'E', tail @ ..] => {
            !tail.is_empty() && digits(tail) == tail.len()
        }
        _ => false,
    };
    count > 0 && exponent_is_good
}

/// Any text or bytes in double quotes, as Go's `%q` prints them.
pub(crate) fn quote(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for chunk in text.utf8_chunks() {
        // Writing to a string cannot fail. The quotes around each piece are taken off again.
        let mut piece = String::new();
        let _ = fk_model::labels::write_quoted(&mut piece, chunk.valid());
        out.push_str(&piece[1..piece.len() - 1].replace("\\u0000", "\\x00"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    format!("\"{out}\"")
}

pub use fk_model::gofloat::shortest as format_go_float;

/// A float as OpenMetrics writes it in `le` and `quantile`: whole numbers end in `.0`.
pub fn format_open_metrics_float(v: f64) -> String {
    let mut text = format_go_float(v);
    if v.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_both(text: &str, expected: f64) {
        assert_eq!(parse_go_float(text.as_bytes()).unwrap().to_bits(), expected.to_bits(), "{text}");
        let line = format!("{text}\n");
        if let Some((quick, end)) = scan_float(line.as_bytes()) {
            assert_eq!((quick.to_bits(), end), (expected.to_bits(), text.len()), "{text}");
        }
    }

    #[test]
    fn decimal_floats_are_read_both_ways() {
        for (text, expected) in [
            ("0", 0.0),
            ("-0", -0.0),
            ("+7", 7.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("-12.25", -12.25),
            ("9007199254740993", 9007199254740992.0),
            ("4.9351e-05", 4.9351e-05),
            ("1E+5", 1e5),
            ("1e-400", 0.0),
            ("123456789012345678", 123456789012345678.0),
            ("1234567890123456789012", 1.2345678901234568e21),
            ("+Inf", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
            ("nAn", normal_nan()),
        ] {
            check_both(text, expected);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "-", ".", "e5", "1e", "1e+", "0x1", "true", "1 ", "--1", "+nan", "-NaN", "1.2.3", "1,5", "i"] {
            assert!(matches!(parse_go_float(text.as_bytes()), Err(FloatError::Syntax(_))), "{text}");
            assert_eq!(scan_float(format!("{text}\n").as_bytes()), None, "{text}");
        }
        for text in ["1_2", "0x1p-3", "p"] {
            assert_eq!(parse_go_float(text.as_bytes()), Err(FloatError::UnsupportedCharacter), "{text}");
        }
        assert_eq!(
            parse_go_float(b"1e999").unwrap_err().to_string(),
            "strconv.ParseFloat: parsing \"1e999\": value out of range"
        );
    }

    #[test]
    fn floats_are_printed_as_go_does() {
        for (v, plain, open_metrics) in [
            (1.0, "1", "1.0"),
            (0.0, "0", "0.0"),
            (-0.00049, "-0.00049", "-0.00049"),
            (1e-5, "1e-05", "1e-05"),
            (1e21, "1e+21", "1e+21"),
            (100000.0, "100000", "100000.0"),
            (1e6, "1e+06", "1e+06"),
            (12345678.0, "1.2345678e+07", "1.2345678e+07"),
            (1.5e300, "1.5e+300", "1.5e+300"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!((format_go_float(v).as_str(), format_open_metrics_float(v).as_str()), (plain, open_metrics));
        }
    }

    #[test]
    fn bytes_are_quoted_as_go_does() {
        assert_eq!(quote(b"a\"\xff\n\x00"), r#""a\"\xff\n\x00""#);
    }

    proptest! {
        #[test]
        fn printed_floats_read_back(bits: u64) {
            let v = f64::from_bits(bits);
            prop_assume!(v.is_finite());
            check_both(&format_go_float(v), v);
        }

        #[test]
        fn decimals_read_as_the_standard_library_reads_them(text in "-?[0-9]{1,18}(\\.[0-9]{0,12})?(e[+-][0-9]{1,2})?") {
            check_both(&text, text.parse().unwrap());
        }
    }
}
