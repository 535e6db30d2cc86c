//! `promtool test rules`: runs rules over series that a file lists, and compares alerts and queries with what it expects.
//!
//! A file is read by `fk_config`; each of its tests gets a storage in memory (`fk_promql_test::live`), the groups of the rule
//! files, and the evaluations from its start to the last time it asks about. `samples` compares and prints samples, `diff` shows
//! differences, `junit` writes results for other tools.

mod diff;
pub mod junit;
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fk_config::{
    AlertTest, Pairs, RuleGroup, UnitTest, UnitTestFile, load_rule_file, load_rule_file_leniently, load_unit_test_file,
};
use fk_model::labels::write_quoted;
use fk_model::name::{NameValidation, is_legacy_label_name};
use fk_model::{Duration, Labels, SampleValue, SearchRegex};
use fk_promql::{Query, QueryOptions, Value, VectorSample};
use fk_promql_syntax::{Expr, ParserOptions, parse};
use fk_promql_test::live::LiveStorage;
use fk_promql_test::script::{self, Kind, Load};
use fk_rules::{
    AlertState, EvalContext, Evaluate, EvaluateError, Group, GroupDefaults, GroupSpec, QueryResult, ResultSample,
    RuleDetail, RuleOptions,
};
use fk_storage::Control;

use crate::{Result, ToolError};
use junit::Suite;
use samples::Sample;

/// Most samples that one query of a test may hold, as in Prometheus.
const QUERY_SAMPLES_MAX: usize = 10_000;

/// Most evaluations of one test.
const EVALUATIONS_MAX: i64 = 10_000_000;

const NS_PER_MS: i64 = 1_000_000;

/// The interval of files that say none.
const INTERVAL_DEFAULT: Duration = Duration(60_000);

/// How to test.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only tests whose names match one of these; all if there are none.
    pub run: Vec<String>,
    /// Whether to tell when tests begin and end, and what there is in the end.
    pub debug: bool,
    /// Whether to show differences instead of both sides.
    pub diff: bool,
    /// Whether fields of rule files that nobody knows are passed over.
    pub ignore_unknown_fields: bool,
    /// Which parts of the language are on.
    pub parser: ParserOptions,
    /// Feature `promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// When the tests are run, for the results.
    pub timestamp: String,
}

/// Runs the tests of files; the results, and whether all of them passed.
pub fn test(
    files: &[PathBuf],
    options: &Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(Vec<Suite>, bool)> {
    let run = match options.run.join("|") {
        _ if options.run.is_empty() => None,
        all => Some(SearchRegex::new(&all).map_err(|error| ToolError::Other(error.to_string()))?),
    };
    let (mut suites, mut all_passed) = (Vec::new(), true);
    for path in files {
        let mut suite = Suite { name: path.display().to_string(), ..Suite::default() };
        let errors = test_file(path, options, run.as_ref(), &mut suite, err)?;
        if errors.is_empty() {
            writeln!(out, "  SUCCESS")?;
        } else {
            all_passed = false;
            writeln!(err, "  FAILED:")?;
            for error in errors {
                writeln!(err, "{error}")?;
                writeln!(out)?;
            }
        }
        writeln!(out)?;
        suites.push(suite);
    }
    Ok((suites, all_passed))
}

/// What went wrong in one file.
fn test_file(
    path: &Path,
    options: &Options,
    run: Option<&SearchRegex>,
    suite: &mut Suite,
    err: &mut dyn Write,
) -> Result<Vec<String>> {
    let (file, rule_files) = match open(path, err)? {
        Ok(opened) => opened,
        Err(error) => {
            suite.error = Some(error.clone());
            return Ok(vec![error]);
        }
    };
    suite.timestamp.clone_from(&options.timestamp);
    let mut order: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, name) in file.group_eval_order.iter().enumerate() {
        if order.insert(name, at).is_some() {
            // Text as in Prometheus:
            let error = format!("group name repeated in evaluation order: {name}");
            suite.error = Some(error.clone());
            return Ok(vec![error]);
        }
    }
    let interval = if file.evaluation_interval == Duration::ZERO { INTERVAL_DEFAULT } else { file.evaluation_interval };
    let mut errors = Vec::new();
    for (at, test) in file.tests.iter().enumerate() {
        if run.is_some_and(|run| !run.is_match(&test.name)) {
            continue;
        }
        let name = if test.name.is_empty() { format!("unnamed#{at}") } else { test.name.clone() };
        let began = Instant::now();
        if options.debug {
            writeln!(err, "DEBUG: Starting test {name}")?;
        }
        let settings =
            Settings { options, interval, fuzzy: file.fuzzy_compare, order: &order, rule_files: &rule_files };
        let failures = run_test(test, &settings, err)?;
        if options.debug {
            writeln!(err, "DEBUG: Test {name} finished, took {:?}", began.elapsed())?;
        }
        errors.extend(failures.iter().cloned());
        suite.cases.push((name, failures));
    }
    Ok(errors)
}

/// The file, and the rule files it names.
fn open(path: &Path, err: &mut dyn Write) -> Result<std::result::Result<(UnitTestFile, Vec<PathBuf>), String>> {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(reason) => return Ok(Err(format!("{name}: {reason}"))),
    };
    let file = match load_unit_test_file(&name, &text) {
        Ok(file) => file,
        Err(problems) => return Ok(Err(problems.to_string())),
    };
    let expanded = match file.expand_rule_files(path.parent().unwrap_or(Path::new(""))) {
        Ok(expanded) => expanded,
        Err(error) => return Ok(Err(error)),
    };
    let mut rule_files = Vec::new();
    for (pattern, files) in expanded {
        if files.is_empty() {
            // Text as in Prometheus:
            writeln!(err, "  WARNING: no file match pattern {pattern}")?;
        }
        rule_files.extend(files);
    }
    Ok(Ok((file, rule_files)))
}

/// What the tests of one file share.
struct Settings<'a> {
    options: &'a Options,
    interval: Duration,
    fuzzy: bool,
    order: &'a BTreeMap<&'a str, usize>,
    rule_files: &'a [PathBuf],
}

/// Queries of a test, over what it has loaded and its rules have written.
struct Queries<'a> {
    storage: &'a LiveStorage,
    parser: ParserOptions,
    options: QueryOptions,
}

impl Queries<'_> {
    fn evaluate(&self, expr: &Expr, ts_ms: i64) -> std::result::Result<Value, EvaluateError> {
        let control = Control::new();
        let (start_ms, end_ms) = (ts_ms, ts_ms);
        let query = Query { expr, text: "", start_ms, end_ms, step_ms: 0, options: &self.options, control: &control };
        let failed = |error: fk_promql::QueryError| EvaluateError::Failed(error.to_string());
        fk_promql::evaluate(self.storage, &query).map(|answer| answer.value).map_err(failed)
    }

    fn parsed(&self, text: &str) -> std::result::Result<Expr, EvaluateError> {
        parse(text, &self.parser).map_err(|errors| EvaluateError::Failed(errors.to_string()))
    }
}

impl Evaluate for Queries<'_> {
    fn query(&self, expr: &Expr, _: &str, ts_ms: i64) -> std::result::Result<QueryResult, EvaluateError> {
        let sample = |s: VectorSample| ResultSample { labels: s.labels, v: SampleValue::new(s.v, s.h) };
        Ok(match self.evaluate(expr, ts_ms)? {
            Value::Vector(samples) => QueryResult::Vector(samples.into_iter().map(sample).collect()),
            Value::Scalar { v, .. } => QueryResult::Scalar(v),
            Value::String { .. } | Value::Matrix(_) => QueryResult::Other,
        })
    }

    fn query_text(&self, text: &str, ts_ms: i64) -> std::result::Result<QueryResult, EvaluateError> {
        self.query(&self.parsed(text)?, text, ts_ms)
    }
}

/// What went wrong in one test.
fn run_test(test: &UnitTest, settings: &Settings<'_>, err: &mut dyn Write) -> Result<Vec<String>> {
    let storage = LiveStorage::default();
    let interval = if test.interval == Duration::ZERO { settings.interval } else { test.interval };
    let options = QueryOptions {
        max_samples: QUERY_SAMPLES_MAX,
        default_subquery_step_ms: settings.interval.as_millis(),
        delayed_name_removal: settings.options.delayed_name_removal,
        ..QueryOptions::default()
    };
    let queries = Queries { storage: &storage, parser: settings.options.parser, options };
    let loaded = loading(test, interval).and_then(|load| storage.prepare(load, test.start_ms));
    let mut feed = match loaded {
        Ok(feed) => feed,
        Err(error) => return Ok(vec![error]),
    };
    let mut groups = match groups(test, interval, settings) {
        Ok(groups) => groups,
        Err(errors) => return Ok(errors),
    };
    if let Some(alert) = test.alert_rule_tests.iter().find(|alert| alert.alertname.is_empty()) {
        let within = if test.name.is_empty() { String::new() } else { format!(" (in TestGroup {})", test.name) };
        // Text as in Prometheus:
        return Ok(vec![format!(
            "an item under alert_rule_test misses required attribute alertname at eval_time {}{within}",
            alert.eval_time
        )]);
    }
    let mut alert_times: Vec<Duration> =
        test.alert_rule_tests.iter().map(|alert| alert.eval_time).collect::<BTreeSet<_>>().into_iter().collect();
    alert_times.reverse();
    let step_ms = settings.interval.as_millis();
    let last_ms = last_time(test).as_millis();
    if last_ms / step_ms > EVALUATIONS_MAX {
        return Ok(vec![format!("test asks for more than {EVALUATIONS_MAX} evaluations")]);
    }

    let mut errors = Vec::new();
    for since_ms in (0..=last_ms).step_by(usize::try_from(step_ms).unwrap_or(1)) {
        let ts_ms = test.start_ms.saturating_add(since_ms);
        match storage.feed(&mut feed, ts_ms) {
            Ok(()) => {
                let failures = evaluate(&mut groups, ts_ms, &queries);
                if !failures.is_empty() {
                    errors.extend(failures);
                    return Ok(errors);
                }
            }
            Err(rejection) => errors.push(rejection.to_string()),
        }
        // An evaluation stands for all times until the next one.
        while let Some(time) = alert_times.pop_if(|time| time.as_millis() < since_ms + step_ms) {
            for alert in test.alert_rule_tests.iter().filter(|alert| alert.eval_time == time) {
                errors.extend(check_alerts(test, alert, &groups, settings.options.diff));
            }
        }
    }
    errors.extend(test.promql_expr_tests.iter().filter_map(|case| {
        let at_ms = test.start_ms.saturating_add(case.eval_time.as_millis());
        let place = format!("    expr: {}, time: {},", quoted(&case.expr), case.eval_time);
        check_expr(case, at_ms, &queries, settings.fuzzy).err().map(|error| format!("{place}{error}"))
    }));
    if settings.options.debug {
        dump(test, &queries, err)?;
    }
    Ok(errors)
}

/// The series of a test as the test language has them.
fn loading(test: &UnitTest, interval: Duration) -> std::result::Result<Load, String> {
    let mut text = format!("load {interval}\n");
    for (series, values) in &test.input_series {
        let _ = writeln!(text, "  {series} {values}");
    }
    // Not its line, which is none of the file.
    let mut commands = script::read(&text).map_err(|error| error.reason)?;
    match commands.drain(..).map(|command| command.kind).next() {
        Some(Kind::Load(load)) => Ok(load),
        _ => Err("no series to load".to_owned()),
    }
}

/// The groups of the rule files, in the order of their evaluation.
fn groups(
    test: &UnitTest,
    interval: Duration,
    settings: &Settings<'_>,
) -> std::result::Result<Vec<Group>, Vec<String>> {
    let lenient = settings.options.ignore_unknown_fields;
    let load = if lenient { load_rule_file_leniently } else { load_rule_file };
    let mut read: Vec<(Arc<str>, RuleGroup)> = Vec::new();
    let mut seen = BTreeSet::new();
    for path in settings.rule_files.iter().filter(|path| seen.insert(*path)) {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|reason| vec![format!("{name}: {reason}")])?;
        let (file, _) = load(&name, &text, NameValidation::Utf8, &settings.options.parser)
            .map_err(|problems| vec![problems.to_string()])?;
        let name: Arc<str> = name.into();
        read.extend(file.groups.into_iter().map(|group| (Arc::clone(&name), group)));
    }
    read.sort_by_key(|(_, group)| settings.order.get(group.name.as_str()).copied().unwrap_or(0));
    let spec = |(file, group)| GroupSpec {
        file,
        group: Arc::new(group),
        defaults: GroupDefaults { interval, query_offset: Duration::ZERO },
        external_labels: Labels::from_pairs(test.external_labels.iter().map(|(name, value)| (name, value))),
        external_url: test.external_url.as_str().into(),
        options: RuleOptions::default(),
        restore: false,
        quiet: false,
    };
    Ok(read.into_iter().map(|group| Group::new(spec(group))).collect())
}

/// Evaluates all groups; the errors of their rules.
fn evaluate(groups: &mut [Group], ts_ms: i64, queries: &Queries<'_>) -> Vec<String> {
    let ts_ns = ts_ms.saturating_mul(NS_PER_MS);
    let control = Control::new();
    let now_ns = || ts_ns;
    let mut errors = Vec::new();
    for group in groups {
        let ctx = EvalContext {
            evaluate: queries,
            appender: queries.storage,
            storage: queries.storage,
            now_ns: &now_ns,
            control: &control,
            slots: None,
        };
        group.evaluate(ts_ns, &ctx);
        for rule in group.snapshot().rules.iter().filter(|rule| !rule.last_error.is_empty()) {
            let time = crate::gofmt::duration_ms(ts_ms);
            // Text as in Prometheus:
            errors.push(format!("    rule: {}, time: {time}, err: {}", rule.name, rule.last_error));
        }
    }
    errors
}

fn last_time(test: &UnitTest) -> Duration {
    let alerts = test.alert_rule_tests.iter().map(|alert| alert.eval_time);
    alerts.chain(test.promql_expr_tests.iter().map(|case| case.eval_time)).max().unwrap_or(Duration::ZERO)
}

// === Alerts ===

/// Labels and annotations.
type Alert = (Pairs, Pairs);

fn check_alerts(test: &UnitTest, wanted: &AlertTest, groups: &[Group], diff: bool) -> Option<String> {
    let pairs = |labels: &Labels| labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut got: Vec<Alert> = Vec::new();
    for rule in groups.iter().flat_map(|group| group.snapshot().rules) {
        let RuleDetail::Alerting { alerts, .. } = rule.detail else { continue };
        if *rule.name != *wanted.alertname {
            continue;
        }
        for alert in alerts.into_iter().filter(|alert| alert.state == AlertState::Firing) {
            let mut annotations = alert.annotations;
            annotations.sort();
            got.push((pairs(&alert.labels), annotations));
        }
    }
    let mut expected: Vec<Alert> = wanted.expected.clone();
    for (labels, _) in &mut expected {
        // The label that every alert has.
        labels.retain(|(name, _)| name != "alertname");
        labels.push(("alertname".to_owned(), wanted.alertname.clone()));
        labels.sort();
    }
    got.sort();
    expected.sort();
    if got == expected {
        return None;
    }
    // Texts as in Prometheus:
    let name = if test.name.is_empty() { String::new() } else { format!("    name: {},\n", test.name) };
    let place = format!("{name}    alertname: {}, time: {}, ", wanted.alertname, wanted.eval_time);
    if diff {
        let shown = diff::diff(&json(&expected), &json(&got));
        return Some(format!("{place}\n        diff: {}", indented(&shown, "            ")));
    }
    let (expected, got) = (indented(&listed(&expected), "            "), indented(&listed(&got), "            "));
    Some(format!("{place}\n        exp:{expected}, \n        got:{got}"))
}

fn json(alerts: &[Alert]) -> serde_json::Value {
    let object = |pairs: &Pairs| {
        pairs.iter().cloned().map(|(name, value)| (name, value.into())).collect::<serde_json::Map<_, _>>()
    };
    let alert = |(labels, annotations): &Alert| serde_json::json!({"Labels": object(labels), "Annotations": object(annotations)});
    let none = [(Pairs::new(), Pairs::new())];
    let alerts = if alerts.is_empty() { &none[..] } else { alerts };
    alerts.iter().map(alert).collect()
}

fn listed(alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = "[\n".to_owned();
    for (at, (labels, annotations)) in alerts.iter().enumerate() {
        let alert = format!("\nLabels:{}\nAnnotations:{}", in_braces(labels), in_braces(annotations));
        let _ = write!(out, "{}{at}:{}", if at > 0 { ",\n" } else { "" }, indented(&alert, "  "));
    }
    out + "\n]"
}

/// Like a label set, but with what is empty.
fn in_braces(pairs: &Pairs) -> String {
    let pair = |(name, value): &(String, String)| {
        let name = if is_legacy_label_name(name) { name.clone() } else { quoted(name) };
        format!("{name}={}", quoted(value))
    };
    format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_quoted(&mut out, text);
    out
}

/// `indent` in front of every line but the first.
fn indented(text: &str, indent: &str) -> String {
    text.replace('\n', &format!("\n{indent}"))
}

// === Queries ===

fn check_expr(
    case: &fk_config::ExprTest,
    at_ms: i64,
    queries: &Queries<'_>,
    fuzzy: bool,
) -> std::result::Result<(), String> {
    let failed = |error: EvaluateError| format!(" err: {error}");
    let expr = queries.parsed(&case.expr).map_err(failed)?;
    let mut got: Vec<Sample> = match queries.evaluate(&expr, at_ms).map_err(failed)? {
        Value::Vector(samples) => samples.into_iter().map(|s| Sample::of(s.labels, s.v, s.h.as_deref())).collect(),
        Value::Scalar { v, .. } => vec![Sample::of(Labels::empty(), v, None)],
        // Text as in Prometheus:
        Value::String { .. } | Value::Matrix(_) => return Err(" err: rule result is not a vector or scalar".to_owned()),
    };
    let mut expected = Vec::with_capacity(case.expected.len());
    for sample in &case.expected {
        let bad = |error: String| format!(" err: labels {}: {error}", quoted(&sample.labels));
        expected.push(Sample::expected(sample).map_err(bad)?);
    }
    got.sort_by(|a, b| a.labels.cmp(&b.labels));
    expected.sort_by(|a, b| a.labels.cmp(&b.labels));
    if got.len() == expected.len() && got.iter().zip(&expected).all(|(got, expected)| got.equals(expected, fuzzy)) {
        return Ok(());
    }
    let listed = |samples: &[Sample]| match samples {
        [] => "nil".to_owned(),
        samples => samples.iter().map(Sample::to_string).collect::<Vec<_>>().join(", "),
    };
    // Text as in Prometheus:
    Err(format!("\n        exp: {}\n        got: {}", listed(&expected), listed(&got)))
}

/// Prints everything there is.
fn dump(test: &UnitTest, queries: &Queries<'_>, err: &mut dyn Write) -> Result<()> {
    // Queries know whole seconds only.
    let range_ms = last_time(test).as_millis() / 1000 * 1000 + 1000;
    let range = crate::gofmt::duration_ms(range_ms);
    let text = format!("{{__name__=~\".+\"}}[{}]", Duration(range_ms));
    let at_ms = test.start_ms.saturating_add(range_ms);
    match queries.parsed(&text).and_then(|expr| queries.evaluate(&expr, at_ms)) {
        Ok(Value::Matrix(matrix)) => {
            writeln!(err, "DEBUG: Dump of all data (input_series and rules) at {range}:")?;
            for series in matrix {
                writeln!(err, "{} =>", series.labels)?;
                for (t, v, h) in series.points() {
                    match h {
                        Some(h) => writeln!(err, "{h} @[{t}]")?,
                        None => writeln!(err, "{} @[{t}]", crate::gofmt::float(v))?,
                    }
                }
            }
        }
        Ok(_) => {}
        Err(error) => writeln!(err, "DEBUG: Failed query exec, expr: {text:?}, err: {error}")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
