//! The calendar functions: seconds since the epoch to fields of the proleptic Gregorian calendar in UTC.

const DAY_SECONDS: i64 = 86_400;

/// Year, month 1…12 and day 1…31 of a day counted from 1970-01-01. Works in eras of 400 years that begin in March, so
/// that leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to 1 January of `year`.
fn year_start(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// The first second that Go's calendar knows, 1 March of the year -292277022400. It counts from there without a sign.
const CALENDAR_START: i64 = -9_223_372_028_741_760_000;

/// Seconds as Go sees them. What does not fit into an integer becomes the smallest one, as on amd64, and what lies before
/// the start of the calendar wraps around to its end, so that infinities and NaN are in December 292277026596.
fn seconds(v: f64) -> i128 {
    let fits = !v.is_nan() && v.abs() < i64::MAX as f64;
    let seconds = if fits { v as i64 } else { i64::MIN };
    i128::from(seconds) + if seconds < CALENDAR_START { 1 << 64 } else { 0 }
}

fn days(v: f64) -> i64 {
    seconds(v).div_euclid(i128::from(DAY_SECONDS)) as i64
}

/// The calendar function called `name`, from seconds since the epoch.
pub(crate) fn function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "year" => |v| civil(days(v)).0 as f64,
        "month" => |v| civil(days(v)).1 as f64,
        "day_of_month" => |v| civil(days(v)).2 as f64,
        "day_of_year" => |v| (days(v) - year_start(civil(days(v)).0) + 1) as f64,
        "day_of_week" => |v| (days(v) + 4).rem_euclid(7) as f64,
        "days_in_month" => |v| match civil(days(v)) {
            (year, 2, _) => 28.0 + f64::from(u8::from(is_leap(year))),
            (_, 4 | 6 | 9 | 11, _) => 30.0,
            _ => 31.0,
        },
        "hour" => |v| (seconds(v).rem_euclid(i128::from(DAY_SECONDS)) / 3600) as f64,
        "minute" => |v| (seconds(v).rem_euclid(3600) / 60) as f64,
        _ => return None,
    })
}

/// A time in ms as `2006-01-02T15:04:05.999Z`, trailing zeros of the fraction left out.
pub(crate) fn rfc3339(ms: i64) -> String {
    let (seconds, fraction) = (ms.div_euclid(1000), ms.rem_euclid(1000));
    let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let fraction =
        if fraction == 0 { String::new() } else { format!(".{fraction:03}").trim_end_matches('0').to_owned() };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_have_known_fields() {
        let names = ["year", "month", "day_of_month", "day_of_year", "day_of_week", "days_in_month", "hour", "minute"];
        for (t, want) in [
            (0.0, [1970_i64, 1, 1, 1, 4, 31, 0, 0]),
            (1136239445.0, [2006, 1, 2, 2, 1, 31, 22, 4]),
            (1230767999.0, [2008, 12, 31, 366, 3, 31, 23, 59]),
            (1456790399.0, [2016, 2, 29, 60, 1, 29, 23, 59]),
            (-1.5, [1969, 12, 31, 365, 3, 31, 23, 59]),
            (951782400.0, [2000, 2, 29, 60, 2, 29, 0, 0]),
            (-62135596800.0, [1, 1, 1, 1, 1, 31, 0, 0]),
            (9e18, [285_198_648_531, 4, 21, 111, 6, 30, 16, 0]),
            (-9e18, [-285_198_644_592, 9, 12, 256, 1, 30, 8, 0]),
            (f64::NAN, [292_277_026_596, 12, 4, 339, 0, 31, 15, 30]),
            (f64::INFINITY, [292_277_026_596, 12, 4, 339, 0, 31, 15, 30]),
            (-1e300, [292_277_026_596, 12, 4, 339, 0, 31, 15, 30]),
        ] {
            for (name, want) in names.into_iter().zip(want) {
                assert_eq!(function(name).unwrap()(t), want as f64, "{name}({t})");
            }
        }
    }

    #[test]
    fn times_are_written_as_go_does() {
        for (ms, text) in
            [(0, "1970-01-01T00:00:00Z"), (1_500, "1970-01-01T00:00:01.5Z"), (-1, "1969-12-31T23:59:59.999Z")]
        {
            assert_eq!(rfc3339(ms), text);
        }
    }
}
