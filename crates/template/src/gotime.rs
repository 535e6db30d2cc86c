//! Times and durations as Go's `time` package shows them. Times are UTC.

use std::fmt;

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(crate) const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A point of time: nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) i64);

/// A date and time of day.
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: usize,
    /// From 1.
    pub(crate) day: i64,
    /// From 1.
    pub(crate) year_day: i64,
    /// From Sunday, 0.
    pub(crate) weekday: usize,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) ns: i64,
}

impl Time {
    pub(crate) fn civil(self) -> Civil {
        let (seconds, ns) = (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000));
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years begin in March here, so that the leap day is the last of its year.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let year_day = if month > 2 { of_year + 60 + i64::from(leap) } else { of_year - 305 };
        Civil {
            year,
            month: month as usize,
            day,
            year_day,
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            ns,
        }
    }

    /// `time.Time.AddDate`, nanoseconds since the epoch; `None` if that is out of range. Days and months that do not exist run over
    /// into the next ones.
    pub(crate) fn add_date(self, years: i64, months: i64, days: i64) -> Option<i64> {
        let civil = self.civil();
        let months = civil.month as i64 - 1 + months.checked_add(years.checked_mul(12)?)?;
        let year = civil.year.checked_add(months.div_euclid(12)).filter(|year| (-10_000..20_000).contains(year))?;
        let first = days_before(year, months.rem_euclid(12) + 1);
        let day = first.checked_add(civil.day - 1)?.checked_add(days)?;
        day.checked_mul(86_400_000_000_000)?.checked_add(self.0.rem_euclid(86_400_000_000_000))
    }

    /// `time.Time.Format`
    pub(crate) fn format(self, layout: &str) -> String {
        let civil = self.civil();
        let mut out = String::with_capacity(layout.len() + 8);
        let mut rest = layout;
        while let Some(first) = rest.chars().next() {
            match element(&civil, rest) {
                Some((len, text)) => {
                    out.push_str(&text);
                    rest = &rest[len..];
                }
                None => {
                    out.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        out
    }
}

/// Days from the epoch to the first day of a month.
fn days_before(year: i64, month: i64) -> i64 {
    // Years begin in March here, as above.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 - 719_468
}

/// The element of a layout that `rest` starts with: its length, and what it stands for.
fn element(civil: &Civil, rest: &str) -> Option<(usize, String)> {
    let lower_follows = |at: usize| rest[at..].starts_with(|c: char| c.is_ascii_lowercase());
    let hour12 = if civil.hour % 12 == 0 { 12 } else { civil.hour % 12 };
    let two = |n: i64| format!("{n:02}");
    let month = MONTHS[civil.month - 1];
    let weekday = WEEKDAYS[civil.weekday];
    let fixed: [(&str, String); 30] = [
        ("January", month.to_owned()),
        ("Monday", weekday.to_owned()),
        ("MST", "UTC".to_owned()),
        ("2006", format!("{:04}", civil.year)),
        ("__2", format!("{:>3}", civil.year_day)),
        ("002", format!("{:03}", civil.year_day)),
        ("Z07:00:00", "Z".to_owned()),
        ("Z070000", "Z".to_owned()),
        ("Z07:00", "Z".to_owned()),
        ("Z0700", "Z".to_owned()),
        ("Z07", "Z".to_owned()),
        ("-07:00:00", "+00:00:00".to_owned()),
        ("-070000", "+000000".to_owned()),
        ("-07:00", "+00:00".to_owned()),
        ("-0700", "+0000".to_owned()),
        ("-07", "+00".to_owned()),
        ("_2006", format!("_{:04}", civil.year)),
        ("_2", format!("{:>2}", civil.day)),
        ("01", two(civil.month as i64)),
        ("02", two(civil.day)),
        ("03", two(hour12)),
        ("04", two(civil.minute)),
        ("05", two(civil.second)),
        ("06", two(civil.year.rem_euclid(100))),
        ("15", two(civil.hour)),
        ("PM", if civil.hour >= 12 { "PM" } else { "AM" }.to_owned()),
        ("pm", if civil.hour >= 12 { "pm" } else { "am" }.to_owned()),
        ("1", civil.month.to_string()),
        ("2", civil.day.to_string()),
        ("3", hour12.to_string()),
    ];
    if let Some((name, text)) = fixed.into_iter().find(|(name, _)| rest.starts_with(name)) {
        return Some((name.len(), text));
    }
    match rest.as_bytes()[0] {
        b'J' if rest.starts_with("Jan") && !lower_follows(3) => Some((3, month[..3].to_owned())),
        b'M' if rest.starts_with("Mon") && !lower_follows(3) => Some((3, weekday[..3].to_owned())),
        b'4' => Some((1, civil.minute.to_string())),
        b'5' => Some((1, civil.second.to_string())),
        b'.' | b',' => fraction(civil, rest),
        _ => None,
    }
}

/// `.000` and `.999`: fractions of the second.
fn fraction(civil: &Civil, rest: &str) -> Option<(usize, String)> {
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let n = rest[1..].chars().take_while(|c| *c == digit).count();
    if rest[1 + n..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut digits = format!("{:09}", civil.ns);
    digits.truncate(n.min(9));
    if digit == '9' {
        digits.truncate(digits.trim_end_matches('0').len());
    }
    let text = if digits.is_empty() { String::new() } else { format!("{}{digits}", &rest[..1]) };
    Some((1 + n, text))
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// `time.Duration.Seconds`
pub(crate) fn seconds(ns: i64) -> f64 {
    (ns / 1_000_000_000) as f64 + (ns % 1_000_000_000) as f64 / 1e9
}

/// `time.Duration.String`
pub(crate) fn duration_text(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let magnitude = ns.unsigned_abs();
    let with_fraction = |unit_ns: u64, unit: &str, whole: u64| {
        let width = unit_ns.ilog10() as usize;
        let mut text = format!("{whole}");
        let fraction = magnitude % unit_ns;
        if fraction > 0 {
            text.push_str(&format!(".{fraction:0width$}"));
            text.truncate(text.trim_end_matches('0').len());
        }
        text + unit
    };
    match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{magnitude}ns"),
        1_000..1_000_000 => format!("{sign}{}", with_fraction(1_000, "µs", magnitude / 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}", with_fraction(1_000_000, "ms", magnitude / 1_000_000)),
        _ => {
            let seconds = magnitude / 1_000_000_000;
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let mut text = sign.to_owned();
            if hours > 0 {
                text.push_str(&format!("{hours}h"));
            }
            if hours > 0 || minutes > 0 {
                text.push_str(&format!("{minutes}m"));
            }
            text + &with_fraction(1_000_000_000, "s", seconds % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_by_layouts() {
        let time = Time(1_435_065_584_128_000_000);
        for (layout, text) in [
            ("2006-01-02 15:04:05.999999999 -0700 MST", "2015-06-23 13:19:44.128 +0000 UTC"),
            ("2006-01-02T15:04:05Z07:00", "2015-06-23T13:19:44Z"),
            ("Mon Jan _2 15:04:05 2006", "Tue Jun 23 13:19:44 2015"),
            ("Monday, 02-Jan-06 3:4:5PM .000", "Tuesday, 23-Jun-15 1:19:44PM .128"),
            ("January Month", "June Month"),
            ("002", "174"),
        ] {
            assert_eq!(time.format(layout), text, "{layout}");
        }
        assert_eq!(Time(0).to_string(), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(Time(-1_000_000_000).to_string(), "1969-12-31 23:59:59 +0000 UTC");
        assert_eq!(Time(951_782_400_000_000_000).format("2006-01-02 __2"), "2000-02-29  60");
    }

    #[test]
    fn durations_are_short() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_000_000_000, "1s"),
            (1_800_000_000_000, "30m0s"),
            (-3_661_500_000_000, "-1h1m1.5s"),
        ] {
            assert_eq!(duration_text(ns), text);
        }
    }
}
