//! Prometheus durations: `1h30m`, `5m`, `0`, units `y w d h m s ms`, each once and descending.

use std::fmt;

/// A duration in milliseconds, as configuration and PromQL write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub i64);

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing at all.
    #[error("empty duration string")]
    Empty,
    /// Not of the form above.
    #[error("not a valid duration string: {0:?}")]
    Invalid(String),
    /// A number has a unit that there is not.
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// More than about 292 years.
    #[error("duration out of range")]
    OutOfRange,
}

/// Units from large to small, with their milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Go's `time.Duration` ends at 2^63 nanoseconds; Prometheus refuses what does not fit.
const MS_MAX: i64 = i64::MAX / 1_000_000;

impl Duration {
    /// Zero.
    pub const ZERO: Duration = Duration(0);

    /// Reads a duration (`model.ParseDuration` in prometheus/common). Not negative.
    pub fn parse(text: &str) -> Result<Duration, DurationError> {
        match text {
            "" => return Err(DurationError::Empty),
            "0" => return Ok(Duration(0)),
            _ => {}
        }
        let invalid = || DurationError::Invalid(text.to_owned());
        let (mut rest, mut units, mut total) = (text, &UNITS[..], 0i64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let unit_len = rest[digits..].bytes().take_while(|b| !b.is_ascii_digit()).count();
            let (number, unit) = (&rest[..digits], &rest[digits..digits + unit_len]);
            if number.is_empty() || unit.is_empty() {
                return Err(invalid());
            }
            // Units go from large to small, each at most once.
            let known = UNITS.iter().any(|(name, _)| *name == unit);
            let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(|| match known {
                true => invalid(),
                false => DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() },
            })?;
            let number: i64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
            total = number
                .checked_mul(units[at].1)
                .and_then(|ms| total.checked_add(ms))
                .ok_or(DurationError::OutOfRange)?;
            units = &units[at + 1..];
            rest = &rest[digits + unit_len..];
        }
        if total > MS_MAX { Err(DurationError::OutOfRange) } else { Ok(Duration(total)) }
    }

    /// Milliseconds.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// As the standard library's duration; negative ones as zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl fmt::Display for Duration {
    /// The shortest exact form as Prometheus prints it: years and weeks only where nothing is left over.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut left = self.0.unsigned_abs();
        for (at, (unit, ms)) in UNITS.iter().enumerate() {
            let ms = ms.unsigned_abs();
            // `1y` and `2w` are only used for exact multiples, so that `90d` stays `90d`.
            let exact_only = at < 2;
            if left >= ms && (!exact_only || left.is_multiple_of(ms)) {
                write!(f, "{}{unit}", left / ms)?;
                left %= ms;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones_are_read_and_printed() {
        for (text, ms, printed) in [
            ("0", 0, "0s"),
            ("0w", 0, "0s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1d", 86_400_000, "1d"),
            ("90m", 5_400_000, "1h30m"),
            ("15ms", 15, "15ms"),
            ("3w", 1_814_400_000, "3w"),
            ("1y", 31_536_000_000, "1y"),
            ("25h", 90_000_000, "1d1h"),
            ("3w2d1h", 1_990_800_000, "23d1h"),
        ] {
            let duration = Duration::parse(text).unwrap();
            assert_eq!((duration.0, duration.to_string().as_str()), (ms, printed), "{text}");
        }
    }

    #[test]
    fn bad_ones_are_refused() {
        for text in ["", "1", "-1w", "1.5d", "d", "1m1h", "1s1s", "294y", "99999999999999999999s", " 1s", "1 s"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }
}
