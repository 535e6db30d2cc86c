//! Start timestamps as a script writes them: `-1m`, `_`, `-1mx4`, `-30s-10sx2`, durations from the time of each sample.

use fk_model::Duration;
use fk_promql_syntax::series::VALUES_MAX;

/// The offsets of a line from the times of its samples, ms; `None`: not known.
pub(crate) fn read(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        read_item(item, &mut offsets)?;
        if offsets.len() > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} start timestamps"));
        }
    }
    Ok(offsets)
}

fn read_item(item: &str, offsets: &mut Vec<Option<i64>>) -> Result<(), String> {
    let bad = || format!("invalid start timestamp {item:?}");
    let (body, times) = match item.rsplit_once('x') {
        Some((body, times)) => {
            let times = times.parse::<usize>().map_err(|_| bad())?;
            (body, Some(times).filter(|times| *times < VALUES_MAX).ok_or_else(bad)?.into())
        }
        None => (item, None::<usize>),
    };
    if body == "_" {
        if times == Some(0) {
            return Err(bad());
        }
        offsets.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
        return Ok(());
    }
    // The sign of the increment, if there is one, is not the first character.
    let sign = body.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')).map(|(at, _)| at);
    let (first, increment) = sign.map_or((body, None), |at| (&body[..at], Some(&body[at..])));
    let first = signed(first).ok_or_else(bad)?;
    let increment = match (increment, times) {
        (None, _) => 0,
        (Some(text), Some(_)) => signed(text).ok_or_else(bad)?,
        (Some(_), None) => return Err(bad()),
    };
    for n in 0..=times.unwrap_or(0) as i64 {
        offsets.push(Some(increment.checked_mul(n).and_then(|more| first.checked_add(more)).ok_or_else(bad)?));
    }
    Ok(())
}

fn signed(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    Some(sign * Duration::parse(digits).ok()?.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_read() {
        let known = |offsets: &[i64]| Some(offsets.iter().map(|ms| Some(*ms)).collect::<Vec<_>>());
        for (text, want) in [
            ("", known(&[])),
            ("-2m", known(&[-120_000])),
            ("5s -1mx1", known(&[5000, -60_000, -60_000])),
            ("-20s-10sx2", known(&[-20_000, -30_000, -40_000])),
            ("_x2", Some(vec![None, None])),
            ("_x0", None),
            ("-1m+1s", None),
            ("soon", None),
            ("1sx9999999999", None),
            ("-1sx-1", None),
        ] {
            assert_eq!(read(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn recorded_sequences_are_read() {
        let Some(path) = fk_testkit::conformance("promql/harness.json") else { return };
        let text = std::fs::read_to_string(path).expect("readable");
        let json: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        let cases = json["start_timestamp_sequences"].as_array().expect("a list");
        assert!(!cases.is_empty());
        for case in cases {
            let want =
                case["offsets_ms"].as_array().map(|a| a.iter().map(serde_json::Value::as_i64).collect::<Vec<_>>());
            assert_eq!(read(case["in"].as_str().expect("a text")).ok(), want, "{case}");
        }
    }
}
