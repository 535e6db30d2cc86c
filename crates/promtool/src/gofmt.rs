//! Times, sizes, durations and tables as Go prints them.

use std::io::{self, Write};

pub use fk_exposition::format_go_float as float;

/// Least width of a column, and blanks between two, in the tables of `promtool tsdb`.
const COLUMN_MIN: usize = 13;
const COLUMN_GAP: usize = 2;

/// A duration of whole milliseconds as Go's `time.Duration` prints it: `2h0m0s`, `1.5s`, `3ms`, `0s`.
pub fn duration_ms(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let mut seconds = (ms / 1000 % 60).to_string();
    if !ms.is_multiple_of(1000) {
        seconds.push_str(format!(".{:03}", ms % 1000).trim_end_matches('0'));
    }
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// A time in whole seconds as Go's `Time.String` prints it in UTC: `2019-08-06 23:21:53 +0000 UTC`.
pub fn utc_seconds(ms: i64) -> String {
    // Days from the civil calendar's epoch; Go rounds towards zero before it asks for the second.
    let seconds = ms / 1000;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, so that the day that comes and goes is the last of its year; eras of 400 years repeat.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Writes rows in columns that line up; the last column is as wide as it is.
pub fn table(rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let chars = |text: &String| text.chars().count();
    let width = |column: usize| {
        let widest = rows.iter().filter(|row| row.len() > column + 1).map(|row| chars(&row[column])).max();
        (widest.unwrap_or(0) + COLUMN_GAP).max(COLUMN_MIN)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let blanks = if at + 1 < row.len() { widths[at] - chars(cell) } else { 0 };
            write!(out, "{cell}{:blanks$}", "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes rows in columns that line up, blanks behind the last column too, as Go's `tabwriter` does with terminated cells.
pub fn padded_table<const COLUMNS: usize>(
    rows: &[[String; COLUMNS]],
    gap: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + gap);
        }
    }
    for row in rows {
        for (width, cell) in widths.iter().zip(row) {
            write!(out, "{cell:width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_those_of_go() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (7_200_000, "2h0m0s"),
            (93_784_005, "26h3m4.005s"),
            (-1, "-1ms"),
        ] {
            assert_eq!(duration_ms(ms), text);
        }
        for (ms, text) in [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (1_565_133_713_989, "2019-08-06 23:21:53 +0000 UTC"),
            (1_582_934_400_000, "2020-02-29 00:00:00 +0000 UTC"),
            (-86_400_000, "1969-12-31 00:00:00 +0000 UTC"),
        ] {
            assert_eq!(utc_seconds(ms), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "a long header".into(), "end".into()], vec!["bb".into(), "c".into(), "d".into()]];
        let mut out = Vec::new();
        table(&rows, &mut out).unwrap();
        let wanted = "a            a long header  end\nbb           c              d\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
