//! Floats as Go's `strconv.FormatFloat` writes them.
//!
//! Facts: `strconv/ftoa.go` and `fmt/format.go` in Go.

/// `strconv.FormatFloat(v, form, precision, 64)`; without a precision as many digits as it takes.
pub(crate) fn format(v: f64, form: char, precision: Option<usize>) -> String {
    if let Some(text) = special(v) {
        return text.to_owned();
    }
    match form {
        'e' | 'E' => scientific(v, precision, form),
        'f' => match precision {
            Some(precision) => format!("{v:.precision$}"),
            None => format!("{v}"),
        },
        'b' => binary(v),
        'x' => hexadecimal(v, precision),
        'X' => hexadecimal(v, precision).to_uppercase(),
        'G' => general(v, precision).to_uppercase(),
        _ => general(v, precision),
    }
}

/// `%.Ng`
pub(crate) fn general_text(v: f64, precision: usize) -> String {
    format(v, 'g', Some(precision))
}

fn special(v: f64) -> Option<&'static str> {
    match v {
        v if v.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// Decimal digits and exponent: `d.ddd * 10^exponent`. `precision` digits, or as many as it takes.
fn digits(v: f64, precision: Option<usize>) -> (String, i32) {
    let text = match precision {
        Some(precision) => format!("{:.*e}", precision.saturating_sub(1), v.abs()),
        None => format!("{:e}", v.abs()),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

fn exponent_text(exponent: i32, letter: char) -> String {
    format!("{letter}{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn sign(v: f64) -> &'static str {
    if v.is_sign_negative() { "-" } else { "" }
}

/// `%g`: an exponent only for very small and very large numbers; no zeros at the end.
fn general(v: f64, precision: Option<usize>) -> String {
    let Some(precision) = precision.map(|p| p.max(1)) else { return fk_model::gofloat::shortest(v) };
    let (mut digits, exponent) = digits(v, Some(precision));
    digits.truncate(digits.trim_end_matches('0').len().max(1));
    let n = digits.len() as i32;
    // From where on an exponent is written.
    let limit = if precision as i32 > n && n > exponent { n } else { precision as i32 };
    let sign = sign(v);
    if exponent < -4 || exponent >= limit {
        let fraction = if digits.len() > 1 { format!(".{}", &digits[1..]) } else { String::new() };
        return format!("{sign}{}{fraction}{}", &digits[..1], exponent_text(exponent, 'e'));
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

fn scientific(v: f64, precision: Option<usize>, letter: char) -> String {
    let (digits, exponent) = digits(v, precision.map(|p| p + 1));
    let fraction = if digits.len() > 1 { format!(".{}", &digits[1..]) } else { String::new() };
    format!("{}{}{fraction}{}", sign(v), &digits[..1], exponent_text(exponent, letter))
}

const FRACTION_BITS: u32 = 52;

/// Mantissa with its hidden bit, and the power of two of its last bit.
fn parts(v: f64) -> (u64, i32) {
    let bits = v.to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    match (bits >> FRACTION_BITS & 0x7ff) as i32 {
        0 => (fraction, 1 - 1023 - FRACTION_BITS as i32),
        exponent => (fraction | 1 << FRACTION_BITS, exponent - 1023 - FRACTION_BITS as i32),
    }
}

/// `%b`: `4503599627370496p-52`
fn binary(v: f64) -> String {
    let (mantissa, exponent) = parts(v);
    format!("{}{mantissa}p{exponent:+}", sign(v))
}

/// `%x`: `0x1.8p+00`
fn hexadecimal(v: f64, precision: Option<usize>) -> String {
    let (mut mantissa, mut exponent) = parts(v);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // One bit in front of the point, 60 behind it.
        let shift = mantissa.leading_zeros() as i32 - 3;
        mantissa <<= shift;
        exponent += 60 - shift;
    }
    if let Some(precision) = precision.filter(|p| *p < 15) {
        let dropped = 60 - 4 * precision as u32;
        let (kept, rest, half) = (mantissa >> dropped, mantissa & ((1 << dropped) - 1), 1_u64 << (dropped - 1));
        let up = rest > half || (rest == half && kept & 1 == 1);
        mantissa = (kept + u64::from(up)) << dropped;
        if mantissa >> 61 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut fraction = format!("{:015x}", mantissa & ((1 << 60) - 1));
    match precision {
        Some(precision) => {
            fraction.truncate(precision);
            fraction.push_str(&"0".repeat(precision.saturating_sub(15)));
        }
        None => fraction.truncate(fraction.trim_end_matches('0').len()),
    }
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}0x{}{point}{fraction}{}", sign(v), mantissa >> 60, exponent_text(exponent, 'p'))
}

/// What the flag `#` adds to a number with its sign: a point always, and zeros at the end of `%g`.
pub(crate) fn with_point(text: &str, form: char, precision: Option<usize>) -> String {
    let mut missing = match form {
        'g' | 'G' | 'x' | 'X' => precision.map_or(6, |p| p as i64),
        _ => 0,
    };
    let is_hex = matches!(form, 'x' | 'X');
    let at = text.find(|c| matches!(c, 'p' | 'P') || (!is_hex && matches!(c, 'e' | 'E'))).unwrap_or(text.len());
    let (number, tail) = text.split_at(at);
    let has_point = number.contains('.');
    let mut significant = false;
    for c in number.chars().skip(1).filter(|c| *c != '.') {
        significant |= c != '0';
        missing -= i64::from(significant);
    }
    let mut out = number.to_owned();
    if !has_point {
        if number.len() == 2 && number.ends_with('0') {
            // A zero in front of the point counts as a digit.
            missing -= 1;
        }
        out.push('.');
    }
    out.push_str(&"0".repeat(usize::try_from(missing).unwrap_or(0)));
    out + tail
}

/// `strconv.ParseFloat`, and the constants of templates: decimal and hexadecimal notations, with underscores between digits.
/// `None`: no number. Infinite, if it is too large.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let magnitude = match lower.as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" if unsigned.len() == text.len() => return Some(f64::NAN),
        lower => {
            let hex = lower.strip_prefix("0x");
            let number = hex.unwrap_or(lower);
            if !underscores_are_well_placed(number, hex.is_some()) {
                return None;
            }
            let number = number.replace('_', "");
            match hex {
                Some(_) => parse_hexadecimal(&number)?,
                None => {
                    let known = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-');
                    let starts = number.starts_with(|c: char| c.is_ascii_digit() || c == '.');
                    number.parse().ok().filter(|_| starts && number.bytes().all(known))?
                }
            }
        }
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// Underscores stand between digits, or between a base prefix and a digit; in decimal numbers as in Go only where they are
/// literals of its language, which begin with a digit.
fn underscores_are_well_placed(number: &str, behind_prefix: bool) -> bool {
    let bytes = number.as_bytes();
    let digit = |at: usize| {
        bytes.get(at).is_some_and(|b| if behind_prefix { b.is_ascii_hexdigit() } else { b.is_ascii_digit() })
    };
    let fine = |at: usize| digit(at + 1) && (if at == 0 { behind_prefix } else { digit(at - 1) });
    bytes.iter().enumerate().filter(|(_, b)| **b == b'_').all(|(at, _)| fine(at))
}

/// `1.8p+1`: hexadecimal digits, and a power of two in decimal.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent = exponent.parse::<i64>().ok().filter(|_| !exponent.starts_with("+-"))?.clamp(-100_000, 100_000);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // 60 bits and one that stands for all behind them are enough to round once.
    let (mut bits, mut power, mut sticky) = (0_u64, exponent, false);
    for (at, c) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(c.to_digit(16)?);
        if bits >> 60 == 0 {
            bits = bits << 4 | digit;
            power -= if at >= whole.len() { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            power += if at < whole.len() { 4 } else { 0 };
        }
    }
    let mut v = (bits | u64::from(sticky)) as f64;
    // In steps, since the power alone may be out of range.
    let mut left = power.clamp(-3000, 3000);
    while left != 0 && v != 0.0 && v.is_finite() {
        let step = left.clamp(-1000, 1000);
        v *= 2.0_f64.powi(step as i32);
        left -= step;
    }
    Some(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (v, text) in [
            (1.0, "1"),
            (1234567.0, "1.234567e+06"),
            (1000.0, "1000"),
            (1.23456, "1.235"),
            (12345.0, "1.234e+04"),
            (100000.0, "1e+05"),
            (0.12, "0.12"),
            (18.446744, "18.45"),
            (999.96, "1000"),
            (9999.6, "1e+04"),
            (0.0, "0"),
            (-0.0, "-0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            let wanted = if v == 1234567.0 { "1.235e+06" } else { text };
            assert_eq!(general_text(v, 4), wanted);
        }
        for (v, form, precision, text) in [
            (1.5, 'e', Some(2), "1.50e+00"),
            (1.5, 'E', None, "1.5E+00"),
            (1.0, 'x', None, "0x1p+00"),
            (-1.999, 'x', Some(1), "-0x1.0p+01"),
            (0.0, 'x', Some(2), "0x0.00p+00"),
            (1e-310, 'x', None, "0x1.2688b70e62bp-1030"),
            (f64::MAX, 'X', None, "0X1.FFFFFFFFFFFFFP+1023"),
            (5e-324, 'b', None, "1p-1074"),
            (0.1, 'f', None, "0.1"),
        ] {
            assert_eq!(format(v, form, precision), text);
        }
    }

    #[test]
    fn floats_are_read_as_go_reads_them() {
        for (text, wanted) in [
            ("1.5", Some(1.5)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("+1e3", Some(1000.0)),
            ("1_000.5", Some(1000.5)),
            ("0x1.8p1", Some(3.0)),
            ("-0X_Ap-1", Some(-5.0)),
            ("0x1p-1074", Some(5e-324)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("1e999", Some(f64::INFINITY)),
            ("", None),
            ("-", None),
            ("1__0", None),
            ("_1", None),
            ("0x1", None),
            ("0xp1", None),
            ("+nan", None),
            ("--1", None),
            ("1f", None),
            ("infi", None),
            (" 1", None),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
        assert!(parse("NaN").is_some_and(f64::is_nan));
    }
}
