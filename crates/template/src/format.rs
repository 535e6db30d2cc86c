//! Numbers as Go's `strconv` and `fmt` write them, and `printf`.

use crate::OUTPUT_BYTES_MAX;
use crate::text::{quote, quote_rune};
use crate::value::Value;

/// Most characters that a width or precision may ask for; Go's own bound is larger, but so is no label.
const WIDTH_MAX: usize = 10_000;

/// From which power of ten on the shortest form of a number has an exponent.
const SHORTEST_EXPONENT_MIN: i32 = 6;

/// The shortest text that reads back as the same number, `%v` of a float.
pub(crate) fn float_text(value: f64) -> String {
    special(value).map_or_else(|| general(value, None, false), str::to_owned)
}

/// `%.Ng`
pub(crate) fn float_g(value: f64, precision: usize) -> String {
    special(value).map_or_else(|| general(value, Some(precision), false), str::to_owned)
}

fn special(value: f64) -> Option<&'static str> {
    match value {
        v if v.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// Decimal digits and exponent: `d.ddd * 10^exponent`. `precision` digits, or as many as it takes.
fn digits(value: f64, precision: Option<usize>) -> (String, i32) {
    let text = match precision {
        Some(precision) => format!("{:.*e}", precision.saturating_sub(1), value.abs()),
        None => format!("{:e}", value.abs()),
    };
    let (mantissa, exponent) = text.split_once('e').expect("the format writes an exponent");
    (mantissa.replace('.', ""), exponent.parse().expect("an exponent is a number"))
}

fn exponent_text(exponent: i32) -> String {
    format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%g`: an exponent only for very small and very large numbers; no zeros at the end unless `keep_zeros` (`%#g`).
fn general(value: f64, precision: Option<usize>, keep_zeros: bool) -> String {
    let precision = precision.map(|p| p.max(1));
    let (mut digits, exponent) = digits(value, precision);
    if !keep_zeros {
        digits.truncate(digits.trim_end_matches('0').len().max(1));
    }
    let n = digits.len() as i32;
    // From where on strconv writes an exponent.
    let limit = match precision {
        None => SHORTEST_EXPONENT_MIN,
        Some(p) if p as i32 > n && n > exponent => n,
        Some(p) => p as i32,
    };
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if exponent < -4 || exponent >= limit {
        let fraction = if digits.len() > 1 { format!(".{}", &digits[1..]) } else { String::new() };
        return format!("{sign}{}{fraction}{}", &digits[..1], exponent_text(exponent));
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

fn scientific(value: f64, precision: Option<usize>) -> String {
    let (digits, exponent) = digits(value, Some(precision.unwrap_or(6) + 1));
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let fraction = if digits.len() > 1 { format!(".{}", &digits[1..]) } else { String::new() };
    format!("{sign}{}{fraction}{}", &digits[..1], exponent_text(exponent))
}

/// Flags of one verb.
#[derive(Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`. Never fails: what is wrong shows in the text, as in Go.
pub(crate) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len() + 16);
    let (mut chars, mut args_left) = (format.chars().peekable(), args.iter());
    while let Some(c) = chars.next() {
        if out.len() > OUTPUT_BYTES_MAX {
            // The caller refuses it.
            break;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(&c) = chars.peek() {
            match c {
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        flags.width = size(&mut chars, &mut args_left, &mut out, "%!(BADWIDTH)");
        if let Some(width) = flags.width.filter(|width| *width > WIDTH_MAX) {
            // A negative width from an argument: to the left.
            flags.minus = true;
            flags.width = Some(width - WIDTH_MAX);
        }
        if chars.next_if_eq(&'.').is_some() {
            let precision = size(&mut chars, &mut args_left, &mut out, "%!(BADPREC)");
            flags.precision = Some(precision.filter(|p| *p <= WIDTH_MAX).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some('[') => out.push_str("%!(BADINDEX)"),
            Some(verb) => match args_left.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => one(&mut out, verb, flags, value),
            },
        }
    }
    let extra: Vec<String> = args_left.map(described).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// A width or precision: digits, or `*` for the next argument. A negative one comes as its size above the maximum.
fn size<'a>(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    args: &mut impl Iterator<Item = &'a Value>,
    out: &mut String,
    bad: &str,
) -> Option<usize> {
    if chars.next_if_eq(&'*').is_some() {
        return match args.next() {
            Some(Value::Int(n)) if n.unsigned_abs() <= WIDTH_MAX as u64 => {
                let size = n.unsigned_abs() as usize;
                Some(if *n < 0 { size + WIDTH_MAX } else { size })
            }
            _ => {
                out.push_str(bad);
                None
            }
        };
    }
    let mut size = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        size = Some((size.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
    }
    size
}

/// `type=value`
fn described(value: &Value) -> String {
    match value {
        Value::None => "<nil>".to_owned(),
        value => {
            let mut text = format!("{}=", value.type_name());
            value.write_to(&mut text);
            text
        }
    }
}

fn one(out: &mut String, verb: char, flags: Flags, value: &Value) {
    let wrong = || {
        let mut text = format!("%!{verb}(");
        text.push_str(&described(value));
        text.push(')');
        text
    };
    match (verb, value) {
        ('T', _) => pad(out, value.type_name(), flags),
        ('v', Value::Float(v)) => number(out, float_verb(*v, 'g', flags), flags, v.is_finite()),
        ('v', Value::Int(_) | Value::Uint(_)) => integer(out, 'd', flags, value),
        ('v', Value::String(text)) if flags.sharp => pad(out, &quote(text), flags),
        ('v', value) => {
            let mut text = String::new();
            value.write_to(&mut text);
            pad(out, &text, flags);
        }
        ('t', Value::Bool(v)) => pad(out, if *v { "true" } else { "false" }, flags),
        ('d' | 'b' | 'o' | 'O' | 'x' | 'X', Value::Int(_) | Value::Uint(_)) => integer(out, verb, flags, value),
        ('d', Value::Duration(ns)) => integer(out, 'd', flags, &Value::Int(*ns)),
        ('c' | 'q' | 'U', Value::Int(_) | Value::Uint(_)) => {
            let code = match value {
                Value::Int(v) => u32::try_from(*v).ok(),
                Value::Uint(v) => u32::try_from(*v).ok(),
                _ => None,
            };
            let c = code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = match verb {
                'c' => c.to_string(),
                'q' if c == '\'' => "'\\''".to_owned(),
                'q' if c == '"' => "'\"'".to_owned(),
                'q' => quote(&c.to_string()).replace('"', "'"),
                _ if flags.sharp => quote_rune(c),
                _ => format!("U+{:04X}", c as u32),
            };
            pad(out, &text, flags);
        }
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(v)) => {
            number(out, float_verb(*v, verb, flags), flags, v.is_finite());
        }
        ('s' | 'q' | 'x' | 'X', Value::String(text)) => {
            let cut = flags.precision.and_then(|n| text.char_indices().nth(n)).map_or(text.len(), |(at, _)| at);
            let text = match verb {
                's' => text[..cut].to_owned(),
                'q' if flags.sharp && !text[..cut].contains('`') => format!("`{}`", &text[..cut]),
                'q' => quote(&text[..cut]),
                'x' => text.bytes().map(|b| format!("{b:02x}")).collect(),
                _ => text.bytes().map(|b| format!("{b:02X}")).collect(),
            };
            pad(out, &text, flags);
        }
        ('s', Value::Duration(_) | Value::Time(_)) => pad(out, &value.printed(), flags),
        (_, Value::List(list)) => {
            out.push('[');
            for (idx, item) in list.items.iter().enumerate() {
                if idx > 0 {
                    out.push(' ');
                }
                one(out, verb, flags, item);
            }
            out.push(']');
        }
        ('s' | 'q', Value::Labels(labels)) => {
            out.push_str("map[");
            for (idx, (name, value)) in labels.iter().enumerate() {
                if idx > 0 {
                    out.push(' ');
                }
                one(out, verb, flags, &Value::string(name));
                out.push(':');
                one(out, verb, flags, &Value::string(value));
            }
            out.push(']');
        }
        _ => out.push_str(&wrong()),
    }
}

fn float_verb(value: f64, verb: char, flags: Flags) -> String {
    let text = match special(value) {
        Some("+Inf") if !flags.plus => "+Inf".to_owned(),
        Some(text) => text.to_owned(),
        None => match verb {
            'e' | 'E' => scientific(value, flags.precision),
            'f' | 'F' => format!("{:.*}", flags.precision.unwrap_or(6), value),
            _ if flags.sharp => general(value, Some(flags.precision.unwrap_or(6)), true),
            _ => general(value, flags.precision, false),
        },
    };
    let upper = matches!(verb, 'E' | 'G') && value.is_finite();
    let text = if upper { text.to_uppercase() } else { text };
    signed(text, flags)
}

/// With the sign that the flags ask for.
fn signed(text: String, flags: Flags) -> String {
    match text.chars().next() {
        Some('+') if flags.space && !flags.plus => text.replacen('+', " ", 1),
        Some('+' | '-') => text,
        _ if flags.plus => format!("+{text}"),
        _ if flags.space => format!(" {text}"),
        _ => text,
    }
}

fn integer(out: &mut String, verb: char, flags: Flags, value: &Value) {
    let (negative, magnitude) = match value {
        Value::Int(v) => (*v < 0, v.unsigned_abs()),
        Value::Uint(v) => (false, *v),
        _ => (false, 0),
    };
    let (prefix, digits) = match verb {
        'b' => (if flags.sharp { "0b" } else { "" }, format!("{magnitude:b}")),
        'o' => (if flags.sharp { "0" } else { "" }, format!("{magnitude:o}")),
        'O' => ("0o", format!("{magnitude:o}")),
        'x' => (if flags.sharp { "0x" } else { "" }, format!("{magnitude:x}")),
        'X' => (if flags.sharp { "0X" } else { "" }, format!("{magnitude:X}")),
        _ => ("", magnitude.to_string()),
    };
    let digits = match flags.precision {
        Some(0) if magnitude == 0 => String::new(),
        Some(precision) => format!("{digits:0>precision$}"),
        None => digits,
    };
    let text = signed(format!("{}{prefix}{digits}", if negative { "-" } else { "" }), flags);
    number(out, text, flags, flags.precision.is_none());
}

/// Pads a number: with zeros behind the sign if asked for and `zeros` allows it.
fn number(out: &mut String, text: String, flags: Flags, zeros: bool) {
    let width = flags.width.unwrap_or(0);
    if !(flags.zero && zeros && !flags.minus && text.len() < width) {
        return pad(out, &text, Flags { zero: false, ..flags });
    }
    let sign = usize::from(text.starts_with(['+', '-', ' ']));
    out.push_str(&text[..sign]);
    out.extend(std::iter::repeat_n('0', width - text.len()));
    out.push_str(&text[sign..]);
}

fn pad(out: &mut String, text: &str, flags: Flags) {
    let fill = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if flags.minus {
        out.push_str(text);
    }
    let filler = if flags.zero && !flags.minus { '0' } else { ' ' };
    out.extend(std::iter::repeat_n(filler, fill));
    if !flags.minus {
        out.push_str(text);
    }
}

/// `fmt.Sprint`: spaces between neighbours of which neither is a text.
pub(crate) fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (idx, value) in args.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::String(_));
        if idx > 0 && !is_text(value) && !is_text(&args[idx - 1]) {
            out.push(' ');
        }
        value.write_to(&mut out);
    }
    out
}

/// `fmt.Sprintln`
pub(crate) fn sprintln(args: &[Value]) -> String {
    let mut out = String::new();
    for (idx, value) in args.iter().enumerate() {
        if idx > 0 {
            out.push(' ');
        }
        value.write_to(&mut out);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (50.0, "50"),
            (0.1, "0.1"),
            (1234567.0, "1.234567e+06"),
            (123456.0, "123456"),
            (999999.0, "999999"),
            (1e6, "1e+06"),
            (100000.0, "100000"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1353755652.0, "1.353755652e+09"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float_text(value), text);
        }
        for (value, text) in [
            (1000.0, "1000"),
            (1.23456, "1.235"),
            (12345.0, "1.234e+04"),
            (100000.0, "1e+05"),
            (0.12, "0.12"),
            (18.446744, "18.45"),
            (999.96, "1000"),
            (9999.6, "1e+04"),
            (0.0, "0"),
        ] {
            assert_eq!(float_g(value, 4), text);
        }
    }

    #[test]
    fn printf_knows_the_verbs_of_go() {
        let text = |t: &str| Value::string(t);
        for (format, args, expected) in [
            ("%d|%5d|%-5d|%05d|%+d", vec![Value::Int(42); 5], "42|   42|42   |00042|+42"),
            ("%.2f|%8.2f|%-8.2f|%08.2f|%f", vec![Value::Float(2.34567); 5], "2.35|    2.35|2.35    |00002.35|2.345670"),
            ("%v %g %e %G", vec![Value::Float(1e6); 4], "1e+06 1e+06 1.000000e+06 1E+06"),
            ("%s|%5s|%-5s|%.1s|%q|%x", vec![text("ab"); 6], "ab|   ab|ab   |a|\"ab\"|6162"),
            ("%t %v %%", vec![Value::Bool(true), Value::None], "true <nil> %"),
            ("%x %X %#x %b %o %c %U", vec![Value::Int(255); 7], "ff FF 0xff 11111111 377 ÿ U+00FF"),
            ("%d", vec![text("x")], "%!d(string=x)"),
            ("%s", vec![Value::Int(1)], "%!s(int=1)"),
            ("%s", vec![Value::Float(1.5)], "%!s(float64=1.5)"),
            ("%d", vec![], "%!d(MISSING)"),
            ("a", vec![Value::Int(1), text("b")], "a%!(EXTRA int=1, string=b)"),
            ("%", vec![], "%!(NOVERB)"),
            ("%!", vec![], "%!!(MISSING)"),
            ("%*d|%-*d", vec![Value::Int(4), Value::Int(7), Value::Int(3), Value::Int(7)], "   7|7  "),
            ("%T %T", vec![Value::Float(1.0), text("")], "float64 string"),
            ("%6.3v|%+.1f|% d", vec![Value::Float(1.23456), Value::Float(2.0), Value::Int(5)], "  1.23|+2.0| 5"),
            ("%06d|%+05d", vec![Value::Int(-42), Value::Int(7)], "-00042|+0007"),
        ] {
            assert_eq!(sprintf(format, &args), expected, "{format}");
        }
    }

    #[test]
    fn huge_widths_are_cut() {
        assert!(sprintf("%99999999999999999999d", &[Value::Int(1)]).len() <= WIDTH_MAX);
        assert!(sprintf("%.999999999f", &[Value::Float(1.0)]).len() <= WIDTH_MAX + 2);
    }
}
