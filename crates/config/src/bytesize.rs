//! Sizes in bytes: `512MB`, `1GiB512MiB`; steps of 1024 with either spelling, as in the `units` package Prometheus uses.

/// Units by power of 1024; index 0 is plain bytes.
const PREFIXES: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

/// Reads a size in bytes. Negative sizes are read too; callers that do not want them refuse them.
///
/// Errors have Prometheus' words: `units: unknown unit XB in 5XB`.
pub fn parse(text: &str) -> Result<i64, String> {
    // Either all units are of the form `MiB`, or all are of the form `MB`.
    parse_units(text, "iB").or_else(|_| parse_units(text, "B"))
}

fn parse_units(text: &str, suffix: &str) -> Result<i64, String> {
    let invalid = || format!("units: invalid {text}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number: f64 = rest[..number_len].parse().map_err(|_| invalid())?;
        rest = &rest[number_len..];
        let unit_len = rest.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let unit = &rest[..unit_len];
        let power = PREFIXES
            .iter()
            .position(|prefix| if prefix.is_empty() { unit == "B" } else { unit.strip_prefix(prefix) == Some(suffix) })
            .ok_or_else(|| format!("units: unknown unit {unit} in {text}"))?;
        total += number * 1024f64.powi(power as i32);
        rest = &rest[unit_len..];
    }
    let total = if negative { -total } else { total };
    if total.is_finite() && total.abs() < i64::MAX as f64 { Ok(total as i64) } else { Err(invalid()) }
}

/// Prints a size exactly: `15MiB`, `1GiB512MiB`, `0B`.
pub fn format(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    let mut out = String::new();
    for power in (0..PREFIXES.len()).rev() {
        let digit = if power == PREFIXES.len() - 1 { bytes >> (10 * power) } else { (bytes >> (10 * power)) & 1023 };
        if digit > 0 {
            out.push_str(&format!("{digit}{}{}", PREFIXES[power], if power == 0 { "B" } else { "iB" }));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes, printed) in [
            ("0", 0, "0B"),
            ("15MB", 15 << 20, "15MiB"),
            ("15MiB", 15 << 20, "15MiB"),
            ("1.5GB", 3 << 29, "1GiB512MiB"),
            ("512B", 512, "512B"),
            ("1KiB1B", 1025, "1KiB1B"),
            ("1EB", 1 << 60, "1EiB"),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
            assert_eq!(format(bytes as u64), printed, "{text}");
        }
        assert_eq!(parse("-1GB"), Ok(-(1 << 30)));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "5", "MB", "5XB", "5mb", "1KB1KiB", "1.2.3MB", "99999EB", "-"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
