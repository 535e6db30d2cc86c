//! Values of flags that nothing else reads: Go durations, and whole numbers written as floats.

/// A Go duration such as `1h2m3.5s` in nanoseconds.
pub fn parse_go_duration(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, scale) = UNITS
            .iter()
            .find(|(unit, _)| *unit == &rest[..unit_len])
            .ok_or_else(|| format!("time: unknown unit in duration {text:?}"))?;
        total += number * scale;
        rest = &rest[unit_len..];
    }
    if total > i64::MAX as f64 { Err(invalid()) } else { Ok(if negative { -(total as i64) } else { total as i64 }) }
}

/// A whole number that may be written as a float; fractions are cut off.
pub fn parse_int(text: &str) -> Result<i64, String> {
    let value: f64 = text.parse().map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))?;
    Ok(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        for (text, ns) in [("2ms", 2_000_000), ("1h2m3.5s", 3_723_500_000_000), ("0", 0), ("-1s", -1_000_000_000)] {
            assert_eq!(parse_go_duration(text), Ok(ns), "{text}");
        }
        for text in ["", "1", "1d", "s"] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers() {
        assert_eq!((parse_int("5e7"), parse_int("12.9")), (Ok(50_000_000), Ok(12)));
        assert!(parse_int("x").is_err());
    }
}
