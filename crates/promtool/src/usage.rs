//! `promtool query analyze`: how many of the buckets of histograms are in use.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde_json::Value as Json;

use crate::query::{Series, Value, float, name, value};
use crate::{Result, ToolError};

// Texts as in Prometheus:
const HEADER: &str = "Bucket stats for each histogram series over time
------------------------------------------------
First the min, avg, and max number of populated buckets, followed by the total
number of buckets (only if different from the max number of populated buckets
which is typical for classic but not native histograms).";
const FOOTER: &str = "Aggregated bucket stats
-----------------------
Each line shows min/avg/max over the series above.";

/// Buckets of one histogram in use over time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    min: usize,
    avg: f64,
    max: usize,
    total: usize,
}

impl Usage {
    /// Of the numbers of buckets in use at each time; there must be one.
    fn of(populated: &[usize], total: usize) -> Usage {
        let avg = populated.iter().sum::<usize>() as f64 / populated.len() as f64;
        let (min, max) = (populated.iter().min(), populated.iter().max());
        Usage { min: min.copied().unwrap_or(0), avg, max: max.copied().unwrap_or(0), total }
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:.3}/{}", self.min, self.avg, self.max)?;
        if self.max == self.total { Ok(()) } else { write!(f, "/{}", self.total) }
    }
}

/// The usages of all histograms of a kind.
#[derive(Debug, Default)]
struct All(Vec<Usage>);

impl All {
    fn print(&self, kind: &str, out: &mut dyn Write) -> std::io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&Usage) -> usize| -> Vec<usize> { self.0.iter().map(of).collect() };
        let line = |numbers: &[usize]| {
            // A running mean, in the order in which Prometheus takes it.
            let mut avg = 0.0;
            for (at, number) in numbers.iter().enumerate() {
                let count = (at + 1) as f64;
                avg += *number as f64 / count - avg / count;
            }
            let (min, max) = (numbers.iter().min().unwrap_or(&0), numbers.iter().max().unwrap_or(&0));
            format!("{min}/{avg:.3}/{max}")
        };
        let (max, total) = (column(|u| u.max), column(|u| u.total));
        writeln!(out, "\n{kind} histogram series ({} in total):", self.0.len())?;
        writeln!(out, "- min populated: {}", line(&column(|u| u.min)))?;
        writeln!(out, "- avg populated: {}", line(&column(|u| u.avg as usize)))?;
        writeln!(out, "- max populated: {}", line(&max))?;
        if line(&max) != line(&total) {
            writeln!(out, "- total: {}", line(&total))?;
        }
        Ok(())
    }
}

/// Asks for each selector (`ask` runs an instant query) and prints what comes out. `range` is a duration as in PromQL.
pub fn analyze(
    selectors: &[String],
    range: &str,
    ask: &mut dyn FnMut(&str) -> Result<Json>,
    out: &mut dyn Write,
) -> Result<()> {
    writeln!(out, "{HEADER}\n")?;
    let (mut native, mut classic) = (All::default(), All::default());
    for selector in selectors {
        let Value::Matrix(series) = value(ask(&format!("{selector}[{range}]"))?)? else {
            // Text as in Prometheus:
            return Err(ToolError::Other("query of buckets resulted in non-Matrix".to_owned()));
        };
        let mut by_histogram: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for mut one in series {
            if one.values.is_empty() {
                if let Some(usage) = of_native(&one) {
                    writeln!(out, "- {} (native): {usage}", name(&one.metric))?;
                    native.0.push(usage);
                }
                continue;
            }
            let Some(le) = one.metric.remove("le") else { continue };
            if one.metric.get("__name__").is_some_and(|name| name.ends_with("_bucket")) {
                let mut key = name(&one.metric);
                if one.metric.len() == 1 {
                    // Labels are shown even where there are none.
                    key.push_str("{}");
                }
                one.metric.insert("le".to_owned(), le);
                by_histogram.entry(key).or_default().push(one);
            }
        }
        for (key, mut buckets) in by_histogram {
            if let Some(usage) = of_classic(&mut buckets)? {
                writeln!(out, "- {key} (classic): {usage}")?;
                classic.0.push(usage);
            }
        }
    }
    writeln!(out, "\n{FOOTER}")?;
    native.print("Native", out)?;
    classic.print("Classic", out)?;
    Ok(())
}

/// `None` if there are fewer than two.
fn of_native(series: &Series) -> Option<Usage> {
    if series.histograms.len() < 2 {
        return None;
    }
    let populated: Vec<usize> = series.histograms.iter().map(|(_, h)| h.buckets.len()).collect();
    let limits = series.histograms.iter().flat_map(|(_, h)| &h.buckets);
    let different: BTreeSet<_> = limits.map(|(limits, lower, upper, _)| (limits, lower, upper)).collect();
    Some(Usage::of(&populated, different.len()))
}

fn of_classic(buckets: &mut [Series]) -> Result<Option<Usage>> {
    buckets.sort_by(|a, b| {
        let le = |series: &Series| float(series.metric.get("le").map_or("", String::as_str));
        le(a).total_cmp(&le(b))
    });
    let Some(first) = buckets.first().filter(|first| first.values.len() >= 2) else { return Ok(None) };
    let mut populated = Vec::with_capacity(first.values.len());
    for at in 0..first.values.len() {
        let mut before = 0.0;
        let mut last_time = None;
        let mut in_use = 0;
        for bucket in buckets.iter() {
            // What is missing at the end counts as not in use.
            let Some((t, v)) = bucket.values.get(at) else { break };
            if last_time.is_some_and(|last| last != *t) {
                // Text as in Prometheus:
                return Err(ToolError::Other("matrix result is not time aligned".to_owned()));
            }
            let count = float(v);
            in_use += usize::from((count - before).trunc() != 0.0);
            (before, last_time) = (count, Some(*t));
        }
        populated.push(in_use);
    }
    Ok(Some(Usage::of(&populated, buckets.len())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn buckets_in_use_are_counted() {
        let bucket = |le: &str, a: &str, b: &str| json!({"metric": {"__name__": "x_bucket", "le": le, "job": "j"}, "values": [[1, a], [2, b]]});
        let native = |buckets: Json| json!([1, {"count": "1", "sum": "1", "buckets": buckets}]);
        let answer = json!({"resultType": "matrix", "result": [
            bucket("+Inf", "3", "9"), bucket("1", "3", "5"), bucket("0.5", "0", "2"),
            {"metric": {"__name__": "x_sum"}, "values": [[1, "1"], [2, "2"]]},
            {"metric": {"__name__": "y"}, "histograms": [
                native(json!([[0, "1", "2", "3"]])), native(json!([[0, "1", "2", "3"], [0, "2", "4", "3"]])),
            ]},
        ]});
        let mut asked = Vec::new();
        let mut out = Vec::new();
        let mut ask = |query: &str| {
            asked.push(query.to_owned());
            Ok(answer.clone())
        };
        analyze(&["{x=~\".*\"}".to_owned()], "1h", &mut ask, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(asked, ["{x=~\".*\"}[1h]"]);
        let expected = "\n\n- y (native): 1/1.500/2\n- x_bucket{job=\"j\"} (classic): 1/2.000/3\n\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("\nNative histogram series (1 in total):\n- min populated: 1/1.000/1\n"), "{text}");
        assert!(text.ends_with("- max populated: 3/3.000/3\n"), "{text}");
    }

    #[test]
    fn buckets_at_different_times_are_an_error() {
        let answer = json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "x_bucket", "le": "1"}, "values": [[1, "1"], [2, "2"]]},
            {"metric": {"__name__": "x_bucket", "le": "2"}, "values": [[1, "1"], [3, "2"]]},
        ]});
        let error = analyze(&["x".to_owned()], "5m", &mut |_| Ok(answer.clone()), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "matrix result is not time aligned");
    }
}
