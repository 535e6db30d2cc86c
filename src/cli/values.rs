//! Values of flags: Go durations, sizes, and how Prometheus prints them.

/// A size such as `512MB` or `1.5GiB` in bytes (`units.ParseBase2Bytes`: every unit counts 1024).
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 13] = [
        ("EiB", 6),
        ("PiB", 5),
        ("TiB", 4),
        ("GiB", 3),
        ("MiB", 2),
        ("KiB", 1),
        ("EB", 6),
        ("PB", 5),
        ("TB", 4),
        ("GB", 3),
        ("MB", 2),
        ("KB", 1),
        ("B", 0),
    ];
    let invalid = || format!("units: invalid {text:?}");
    let (unit, power) = UNITS
        .iter()
        .find(|(unit, _)| text.ends_with(unit))
        .ok_or_else(|| format!("units: missing unit in {text:?}"))?;
    let number: f64 = text[..text.len() - unit.len()].parse().map_err(|_| invalid())?;
    let bytes = number * 1024f64.powi(*power as i32);
    if (0.0..=i64::MAX as f64).contains(&bytes) { Ok(bytes as u64) } else { Err(invalid()) }
}

/// A size as Prometheus prints it: the units that divide it, largest first.
pub fn show_bytes(bytes: u64) -> String {
    let mut out = String::new();
    let mut left = bytes;
    for (unit, power) in [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)] {
        let n = left >> power;
        left &= (1u64 << power) - 1;
        if n > 0 {
            out.push_str(&format!("{n}{unit}"));
        }
    }
    if out.is_empty() { "0B".to_owned() } else { out }
}

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
    fn sizes() {
        for (text, bytes, shown) in [
            ("512MB", 512 << 20, "512MiB"),
            ("1.5GiB", 3 << 29, "1GiB512MiB"),
            ("0B", 0, "0B"),
            ("10KB", 10240, "10KiB"),
        ] {
            assert_eq!((parse_bytes(text), show_bytes(bytes).as_str()), (Ok(bytes), shown), "{text}");
        }
        for text in ["", "5", "MB", "xKB", "-1MB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

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
