//! `tsdb create-blocks-from rules`: what recording rules would have written in the past, from a server's answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fk_config::{RuleGroup, RuleKind};
use fk_model::name::NameValidation;
use fk_model::{Duration, Labels, LabelsBuilder, METRIC_NAME};
use fk_promql_syntax::ParserOptions;
use fk_vfs::Vfs;

use crate::builder::{BlockBuilder, block_ms, block_start};
use crate::{Progress, Result, ToolError};

const NS_PER_S: i64 = 1_000_000_000;

/// A series of a matrix: labels, times in ms and values.
pub type MatrixSeries = (Labels, Vec<(i64, f64)>);

/// A range query that somebody answers. Times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeQuery {
    /// The expression.
    pub query: String,
    /// First time.
    pub start_s: f64,
    /// No time is later.
    pub end_s: f64,
    /// Distance of the times.
    pub step_s: f64,
}

/// How to import.
#[derive(Clone, Debug)]
pub struct Options {
    /// From when on, seconds since 1970.
    pub start_s: i64,
    /// Until when.
    pub end_s: i64,
    /// Interval of groups that do not say it.
    pub interval: Duration,
    /// Largest range of a block, ms.
    pub max_block_ms: i64,
}

/// A group and the file it is from.
pub type FileGroup = (String, RuleGroup);

/// Reads the groups of rule files.
pub fn load(files: &[String]) -> Result<Vec<FileGroup>> {
    let mut groups = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|reason| ToolError::File { path: path.into(), reason })?;
        let parser = ParserOptions::default();
        let (file, _) = fk_config::load_rule_file(path, &text, NameValidation::Utf8, &parser)
            .map_err(|problems| ToolError::Other(format!("rule importer parse error: {problems}")))?;
        groups.extend(file.groups.into_iter().map(|group| (path.clone(), group)));
    }
    Ok(groups)
}

/// Imports all recording rules of the groups into blocks below `dir`, each within an aligned range of time. Returns the errors
/// of rules that failed; the others are imported.
pub fn import(
    vfs: &Arc<dyn Vfs>,
    groups: &[FileGroup],
    dir: &Path,
    options: &Options,
    ask: &mut dyn FnMut(&RangeQuery) -> std::result::Result<Vec<MatrixSeries>, String>,
) -> Result<Vec<String>> {
    fk_vfs::create_dir_all(&**vfs, dir).map_err(fk_tsdb::DbError::from)?;
    let mut errors = Vec::new();
    let mut progress = Progress::new("evaluating rules");
    let total: usize = groups.iter().map(|(_, group)| group.rules.len()).sum();
    let mut done = 0;
    for (file, group) in groups {
        for rule in &group.rules {
            done += 1;
            // Alerts write nothing that could be missing.
            let RuleKind::Recording { metric } = &rule.kind else { continue };
            let interval = group.interval.unwrap_or(options.interval);
            let schedule = Schedule::new(file, &group.name, interval);
            let result = import_rule(vfs, dir, options, &schedule, &rule.expr_text, ask, &mut |labels| {
                let mut builder = LabelsBuilder::new();
                for (name, value) in labels.iter() {
                    builder.set(name, value);
                }
                for (name, value) in rule.labels.iter() {
                    builder.set(name, value);
                }
                for name in &rule.removed_labels {
                    builder.del(name);
                }
                builder.set(METRIC_NAME, metric);
                builder.build()
            });
            match result {
                Ok(()) => {}
                Err(ToolError::Other(error)) => errors.push(error),
                Err(error) => return Err(error),
            }
            progress.at(done as u64, total as u64);
        }
    }
    Ok(errors)
}

/// When a group is evaluated.
struct Schedule {
    interval_ns: i64,
    offset_ns: i64,
}

impl Schedule {
    fn new(file: &str, name: &str, interval: Duration) -> Schedule {
        let interval_ns = interval.as_millis().max(1).saturating_mul(1_000_000);
        let identity = Labels::from_pairs([("file", file), ("name", name)]);
        Schedule { interval_ns, offset_ns: (identity.prometheus_hash() % interval_ns.unsigned_abs()) as i64 }
    }

    /// The first evaluation in the second `at_s` or later.
    fn first(&self, at_s: i64) -> i64 {
        let at_ns = at_s.saturating_mul(NS_PER_S);
        let before_ns = at_ns - (at_ns - self.offset_ns).rem_euclid(self.interval_ns);
        if before_ns < at_ns { before_ns.saturating_add(self.interval_ns) } else { before_ns }
    }
}

fn import_rule(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    options: &Options,
    schedule: &Schedule,
    query: &str,
    ask: &mut dyn FnMut(&RangeQuery) -> std::result::Result<Vec<MatrixSeries>, String>,
    name: &mut dyn FnMut(&Labels) -> Labels,
) -> Result<()> {
    let range_ms = block_ms(options.max_block_ms);
    let mut start = block_start(options.start_s.saturating_mul(1000), range_ms);
    while start <= options.end_s.saturating_mul(1000) {
        let end = start.saturating_add(range_ms);
        let first_ns = schedule.first((start / 1000).max(options.start_s));
        let end_s = ((end - 1) / 1000).min(options.end_s);
        start = end;
        if end_s.saturating_mul(NS_PER_S) < first_ns {
            // No evaluation falls into this block; with a long interval one may fall into a later one.
            continue;
        }
        let seconds = |ns: i64| ns as f64 / NS_PER_S as f64;
        let query = RangeQuery {
            query: query.to_owned(),
            start_s: seconds(first_ns),
            end_s: end_s as f64,
            step_s: seconds(schedule.interval_ns),
        };
        let matrix = ask(&query).map_err(|error| ToolError::Other(format!("query range: {error}")))?;
        let mut builder = BlockBuilder::new(range_ms);
        // Two series of the answer may become one: then, as with rules that run, there is no saying which is right.
        let mut taken: BTreeMap<Labels, Labels> = BTreeMap::new();
        for (labels, samples) in &matrix {
            let named = name(labels);
            if let Some(other) = taken.insert(named.clone(), labels.clone()) {
                let text = format!(
                    "vector contains metrics with the same labelset after applying rule labels: {other} and {labels}"
                );
                return Err(ToolError::Other(text));
            }
            for (t, v) in samples {
                builder.push(&named, *t, *v);
            }
        }
        builder.write(vfs, dir)?;
    }
    Ok(())
}

/// Reads the answer of `/api/v1/query_range`. Native histograms in it are left out, as in Prometheus.
pub fn parse_matrix(body: &[u8]) -> std::result::Result<Vec<MatrixSeries>, String> {
    let answer: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("answer is no JSON: {error}"))?;
    if answer["status"] != "success" {
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        return Err(format!("{}: {}", text("errorType"), text("error")));
    }
    let kind = answer["data"]["resultType"].as_str().unwrap_or_default();
    if kind != "matrix" {
        // Text as in Prometheus:
        return Err(format!("rule result is wrong type {kind}"));
    }
    let bad = || "answer has a series that is none".to_owned();
    let mut matrix = Vec::new();
    for series in answer["data"]["result"].as_array().ok_or_else(bad)? {
        let metric = series["metric"].as_object().ok_or_else(bad)?;
        let pairs: Vec<(&str, &str)> =
            metric.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())).collect();
        let mut samples = Vec::new();
        for sample in series["values"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let (t, v) = (sample[0].as_f64().ok_or_else(bad)?, sample[1].as_str().ok_or_else(bad)?);
            let v = fk_exposition::parse_go_float(v.as_bytes()).map_err(|error| error.to_string())?;
            samples.push(((t * 1000.0).round() as i64, v));
        }
        matrix.push((Labels::from_pairs(pairs), samples));
    }
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"a":"b"},"values":[[1.5,"2"],[2,"NaN"],[3,"+Inf"]]},{"metric":{},"histograms":[]}]}}"#;
        let matrix = parse_matrix(body).unwrap();
        assert_eq!(matrix[0].0, Labels::from_pairs([("a", "b")]));
        assert_eq!((matrix[0].1[0], matrix[0].1[2]), ((1500, 2.0), (3000, f64::INFINITY)));
        assert!(matrix[0].1[1].1.is_nan() && matrix[1].1.is_empty());
        for (body, text) in [
            (&br#"{"status":"error","errorType":"bad_data","error":"x"}"#[..], "bad_data: x"),
            (br#"{"status":"success","data":{"resultType":"scalar","result":[]}}"#, "rule result is wrong type scalar"),
            (br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":1}]}}"#, "series that is none"),
            (b"<html>", "no JSON"),
        ] {
            let error = parse_matrix(body).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn rules_are_evaluated_at_the_slots_of_their_group() {
        let schedule = Schedule { interval_ns: 60 * NS_PER_S, offset_ns: 7 * NS_PER_S };
        for (at, first) in [(0, 7), (7, 7), (8, 67), (-60, -53)] {
            assert_eq!(schedule.first(at), first * NS_PER_S, "{at}");
        }
    }
}
