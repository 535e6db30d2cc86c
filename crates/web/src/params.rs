//! Parameters of requests: URL query and form body as one list, and the readers of times, durations and limits with the
//! error texts of Prometheus.

use chrono::DateTime;

use crate::answer::ApiError;

/// Earliest time Prometheus takes, ms: what Go's `time.Time` can hold, with a margin.
pub(crate) const TIME_MIN: i64 = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// Latest time Prometheus takes, ms.
pub(crate) const TIME_MAX: i64 = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;
/// `TIME_MIN` and `TIME_MAX` as Go prints them; clients send them back.
const TIME_MIN_TEXT: &str = "-292273086-05-16T16:47:06Z";
const TIME_MAX_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// Most parameters of one request; each costs memory beyond its bytes.
const PARAMETERS_MAX: usize = 10_000;

/// Names and values in order: form body first, then URL query, so that the body wins where one value is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads `a=1&b=2` behind what is there already.
    pub(crate) fn add_encoded(&mut self, encoded: &[u8]) -> Result<(), ApiError> {
        // Text as in Prometheus, up to the colon.
        let error = |reason: String| ApiError::bad_data(format!("error parsing form values: {reason}"));
        for pair in encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if self.0.len() >= PARAMETERS_MAX {
                return Err(error(format!("more than {PARAMETERS_MAX} parameters")));
            }
            if pair.contains(&b';') {
                return Err(error("invalid semicolon separator in query".into()));
            }
            let split = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = split.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            self.0.push((decode(name, true).map_err(error)?, decode(value, true).map_err(error)?));
        }
        Ok(())
    }

    /// The first value of a parameter; empty if it is not there.
    pub(crate) fn first(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All values of a list parameter, which some clients write without its brackets: `file[]` and `file`.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(n, _)| n.strip_suffix("[]").unwrap_or(n) == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A time parameter, or `default` if it is not there.
    pub(crate) fn time_or(&self, name: &str, default: i64) -> Result<i64, ApiError> {
        match self.first(name) {
            "" => Ok(default),
            text => parse_time(text)
                // Text as in Prometheus.
                .map_err(|reason| ApiError::parameter(name, format!("invalid time value for '{name}': {reason}"))),
        }
    }

    /// A time parameter that must be there.
    pub(crate) fn time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time(self.first(name)).map_err(|reason| ApiError::parameter(name, reason))
    }

    /// `limit`; 0 and absence mean no limit.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let text = self.first("limit");
        if text.is_empty() {
            return Ok(0);
        }
        let limit = parse_integer(text).map_err(|reason| ApiError::parameter("limit", reason))?;
        // Text as in Prometheus.
        usize::try_from(limit).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }
}

/// Undoes percent encoding, in forms also `+` for a blank.
pub(crate) fn decode(text: &[u8], plus_is_blank: bool) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'%' => {
                let hex = |i: usize| text.get(i).and_then(|b| (*b as char).to_digit(16));
                let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) else {
                    let shown = &text[at..text.len().min(at + 3)];
                    return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(shown)));
                };
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            b'+' if plus_is_blank => out.push(b' '),
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).map_err(|_| "invalid UTF-8".to_owned())
}

/// Whole numbers as Go's `strconv.Atoi` reads them, with its errors.
pub(crate) fn parse_integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let reason =
            if matches!(error.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
        format!("strconv.Atoi: parsing {text:?}: {reason}")
    })
}

/// A time: RFC 3339, or seconds since the Unix epoch as a float. In ms.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_float(text) {
        // The fraction is rounded to ms on its own, as in Prometheus. Times too large for anything (milliseconds sent as
        // seconds) are not an error.
        let whole_ms = (seconds.trunc() as i64).saturating_mul(1000);
        let fraction_ms = (seconds.fract() * 1000.0).round() as i64;
        return Ok(whole_ms.saturating_add(fraction_ms).clamp(TIME_MIN, TIME_MAX));
    }
    match text {
        TIME_MIN_TEXT => return Ok(TIME_MIN),
        TIME_MAX_TEXT => return Ok(TIME_MAX),
        _ => {}
    }
    let looks_strict = text.len() >= 20 && text.as_bytes()[10] == b'T' && !text.ends_with('z');
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) if looks_strict => Ok(time.timestamp_millis()),
        // Text as in Prometheus.
        _ => Err(format!("cannot parse {text:?} to a valid timestamp")),
    }
}

/// A length of time: seconds as a float, or a Prometheus duration. In ms, rounded towards zero; may be negative if given
/// as a float.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_float(text) {
        // Go counts nanoseconds in 64 bits.
        if seconds.abs() * 1e9 > i64::MAX as f64 {
            // Texts as in Prometheus.
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        // Nanoseconds first, so that 0.3 s is not 299 ms.
        return Ok((seconds * 1e9) as i64 / 1_000_000);
    }
    let duration = fk_model::Duration::parse(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"))?;
    Ok(duration.as_millis())
}

/// A finite float.
fn parse_float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|v| v.is_finite())
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Undoes the `U__` escaping of names that are not plain identifiers (`model.UnescapeName` in prometheus/common). A text
/// that is not well-formed comes back unchanged.
pub(crate) fn unescape_name(text: &str) -> String {
    text.strip_prefix("U__").and_then(unescaped).unwrap_or_else(|| text.to_owned())
}

fn unescaped(escaped: &str) -> Option<String> {
    // U+10FFFF has six digits.
    const DIGITS_MAX: usize = 6;
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('_') {
            out.push('_');
            rest = behind;
            continue;
        }
        let (digits, behind) = rest.split_once('_')?;
        if digits.len() >= DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_decoded_in_order() {
        let mut params = Params::default();
        params.add_encoded(b"a=1&match%5B%5D=x%20y+z&&b&match[]=%C3%A9").unwrap();
        params.add_encoded(b"a=2").unwrap();
        assert_eq!((params.first("a"), params.first("b"), params.first("c")), ("1", "", ""));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x y z", "é"]);
        assert_eq!(params.list("match"), ["x y z", "é"]);
    }

    #[test]
    fn broken_encodings_are_refused() {
        for (encoded, reason) in [
            ("a=%", "invalid URL escape \"%\""),
            ("a=%z1", "invalid URL escape \"%z1\""),
            ("a=%ff", "invalid UTF-8"),
            ("a;b=1", "invalid semicolon separator in query"),
        ] {
            let error = Params::default().add_encoded(encoded.as_bytes()).unwrap_err();
            assert_eq!(error, ApiError::bad_data(format!("error parsing form values: {reason}")), "{encoded}");
        }
        assert!(Params::default().add_encoded("a&".repeat(PARAMETERS_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn times_are_floats_or_rfc3339() {
        for (text, t_ms) in [
            ("0", 0),
            ("123.4", 123_400),
            ("-1.5", -1_500),
            ("1e3", 1_000_000),
            ("123.4567", 123_457),
            ("-1.0015", -1_002),
            ("1.0005", 1_000),
            ("1970-01-01T00:02:03Z", 123_000),
            ("1970-01-01T01:02:03+01:00", 123_000),
            ("2015-06-03T13:21:58.555Z", 1_433_337_718_555),
            ("1700000000000", 1_700_000_000_000_000),
            ("1e300", TIME_MAX),
            (TIME_MIN_TEXT, TIME_MIN),
            (TIME_MAX_TEXT, TIME_MAX),
        ] {
            assert_eq!(parse_time(text), Ok(t_ms), "{text}");
        }
        for text in
            ["", "foo", "NaN", "Inf", "1e999", "30s", "2015-06-03", "2015-06-03 13:21:58Z", "2015-06-03T13:21:58"]
        {
            assert_eq!(parse_time(text), Err(format!("cannot parse {text:?} to a valid timestamp")));
        }
    }

    #[test]
    fn durations_are_floats_or_prometheus_durations() {
        for (text, ms) in [
            ("1", 1000),
            ("0.3", 300),
            ("123.333", 123_333),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("-1", -1000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in ["", "foo", "-1s", "2015-06-03T13:21:58.555Z", "1.5m"] {
            assert_eq!(parse_duration(text), Err(format!("cannot parse {text:?} to a valid duration")));
        }
        assert!(parse_duration("1e20").unwrap_err().contains("overflows int64"));
    }

    fn conformance_table(file: &str, key: &str) -> Vec<serde_json::Value> {
        let Some(path) = fk_testkit::conformance(file) else { return Vec::new() };
        let tables: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let table = tables[key].as_array().unwrap().clone();
        assert!(!table.is_empty());
        table
    }

    #[test]
    fn escaped_names_of_the_conformance_data() {
        for case in conformance_table("values/names.json", "unescape_values") {
            assert_eq!(unescape_name(case["in"].as_str().unwrap()), case["out"].as_str().unwrap(), "{case}");
        }
    }

    #[test]
    fn times_and_durations_of_the_conformance_data() {
        for case in conformance_table("values/durations_and_times.json", "api_duration_parameter") {
            assert_eq!(parse_duration(case["in"].as_str().unwrap()).ok(), case["ms"].as_i64(), "{case}");
        }
        for case in conformance_table("values/durations_and_times.json", "api_time_parameter") {
            let expected = case["unix_ms"].as_i64().or(case["is_minimum_time"].as_bool().map(|_| TIME_MIN));
            assert_eq!(parse_time(case["in"].as_str().unwrap()).ok(), expected, "{case}");
        }
    }

    #[test]
    fn limits_are_whole_and_not_negative() {
        let limit = |text: &str| {
            let mut params = Params::default();
            params.add_encoded(format!("limit={text}").as_bytes()).unwrap();
            params.limit().map_err(|error| error.text)
        };
        assert_eq!((limit(""), limit("0"), limit("17")), (Ok(0), Ok(0), Ok(17)));
        assert_eq!(limit("-1").unwrap_err(), "invalid parameter \"limit\": limit must be non-negative");
        assert_eq!(limit("x").unwrap_err(), "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in ".{0,40}") {
            let _ = parse_time(&text);
            let _ = parse_duration(&text);
            let _ = unescape_name(&format!("U__{text}"));
            let _ = Params::default().add_encoded(text.as_bytes());
        }

        #[test]
        fn what_is_encoded_is_decoded(text in ".{0,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(decode(encoded.as_bytes(), true), Ok(text));
        }
    }
}
