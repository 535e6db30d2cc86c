//! Files of unit tests for rules, as `promtool test rules` reads them.

use std::path::{Path, PathBuf};

use fk_model::Duration;

use crate::error::{FileKind, FileProblems, Problem, ProblemKind};
use crate::glob;
use crate::reader::{Fields, Reader};
use crate::yaml::{Document, Node};

/// Names and values of labels or annotations, sorted by name. No label set: a value may be empty.
pub type Pairs = Vec<(String, String)>;

/// What a file of unit tests says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnitTestFile {
    /// Patterns of rule files, relative to the folder of this file.
    pub rule_files: Vec<String>,
    /// How often rules are evaluated; zero: not said.
    pub evaluation_interval: Duration,
    /// Names of groups, in the order of their evaluation.
    pub group_eval_order: Vec<String>,
    /// Whether floats that are neighbours count as equal.
    pub fuzzy_compare: bool,
    /// The tests.
    pub tests: Vec<UnitTest>,
}

/// One test: series that are loaded, and what rules and queries make of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnitTest {
    /// Its name; may be empty.
    pub name: String,
    /// Distance of the samples; zero: not said.
    pub interval: Duration,
    /// Time of the first sample and evaluation, ms since the epoch.
    pub start_ms: i64,
    /// Series and their values, in the notation of the test language.
    pub input_series: Vec<(String, String)>,
    /// Alerts that should fire.
    pub alert_rule_tests: Vec<AlertTest>,
    /// Queries with what they should give.
    pub promql_expr_tests: Vec<ExprTest>,
    /// `external_labels`
    pub external_labels: Pairs,
    /// `external_url`
    pub external_url: String,
}

/// The alerts of one name that should fire at a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertTest {
    /// When, from the start of the test.
    pub eval_time: Duration,
    /// Name of the alert.
    pub alertname: String,
    /// Labels (without the name of the alert) and annotations of each.
    pub expected: Vec<(Pairs, Pairs)>,
}

/// A query with what it should give.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExprTest {
    /// The query.
    pub expr: String,
    /// When, from the start of the test.
    pub eval_time: Duration,
    /// What it should give.
    pub expected: Vec<ExpectedSample>,
}

/// A sample that a query should give.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedSample {
    /// Labels in series notation.
    pub labels: String,
    /// Value.
    pub value: f64,
    /// A histogram in the notation of the test language; empty: a float.
    pub histogram: String,
}

/// Reads the file of unit tests `path` with content `text`.
///
/// Errors: everything that is wrong in it, with its place.
pub fn load_unit_test_file(path: &str, text: &str) -> Result<UnitTestFile, FileProblems> {
    let failed = |problems| FileProblems { file: path.to_owned(), kind: FileKind::Rules, problems };
    let document = Document::parse(text).map_err(|error| {
        let kind = ProblemKind::Syntax;
        failed(vec![Problem { kind, line: error.line, column: error.column, message: error.message }])
    })?;
    let mut reader = Reader::new(text, &document);
    let file = read_file(&mut reader, &document.root);
    let (problems, _) = reader.finish();
    if problems.is_empty() { Ok(file) } else { Err(failed(problems)) }
}

impl UnitTestFile {
    /// The rule files, of a test file in `folder`: each pattern with the files it matches.
    ///
    /// Errors: a pattern is not well formed.
    pub fn expand_rule_files(&self, folder: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
        let expand = |pattern: &String| {
            let absolute = pattern.is_empty() || pattern.starts_with('/') || folder.as_os_str().is_empty();
            let pattern = if absolute { pattern.clone() } else { folder.join(pattern).display().to_string() };
            glob::expand(&pattern).map(|files| (pattern, files))
        };
        self.rule_files.iter().map(expand).collect()
    }
}

fn read_file(reader: &mut Reader<'_>, root: &Node) -> UnitTestFile {
    let mut fields = Fields::new(reader, root, "main.unitTestFile");
    let file = UnitTestFile {
        rule_files: fields.take("rule_files").map(|node| reader.strings(node)).unwrap_or_default(),
        evaluation_interval: fields.duration_or(reader, "evaluation_interval", Duration::ZERO),
        group_eval_order: fields.take("group_eval_order").map(|node| reader.strings(node)).unwrap_or_default(),
        fuzzy_compare: fields.bool_or(reader, "fuzzy_compare", false),
        tests: items(reader, &mut fields, "tests", "[]main.testGroup", read_test),
    };
    fields.finish(reader);
    file
}

fn read_test(reader: &mut Reader<'_>, node: &Node) -> UnitTest {
    let mut fields = Fields::new(reader, node, "main.testGroup");
    let test = UnitTest {
        name: fields.string(reader, "name"),
        interval: fields.duration_or(reader, "interval", Duration::ZERO),
        start_ms: fields.take("start_timestamp").map_or(0, |node| read_time(reader, node)),
        input_series: items(reader, &mut fields, "input_series", "[]main.series", |reader, node| {
            let mut fields = Fields::new(reader, node, "main.series");
            let series = (fields.string(reader, "series"), fields.string(reader, "values"));
            fields.finish(reader);
            series
        }),
        alert_rule_tests: items(reader, &mut fields, "alert_rule_test", "[]main.alertTestCase", read_alert_test),
        promql_expr_tests: items(reader, &mut fields, "promql_expr_test", "[]main.promqlTestCase", read_expr_test),
        external_labels: pairs(reader, &mut fields, "external_labels"),
        external_url: fields.string(reader, "external_url"),
    };
    fields.finish(reader);
    test
}

fn read_alert_test(reader: &mut Reader<'_>, node: &Node) -> AlertTest {
    let mut fields = Fields::new(reader, node, "main.alertTestCase");
    let test = AlertTest {
        eval_time: fields.duration_or(reader, "eval_time", Duration::ZERO),
        alertname: fields.string(reader, "alertname"),
        expected: items(reader, &mut fields, "exp_alerts", "[]main.alert", |reader, node| {
            let mut fields = Fields::new(reader, node, "main.alert");
            let alert = (pairs(reader, &mut fields, "exp_labels"), pairs(reader, &mut fields, "exp_annotations"));
            fields.finish(reader);
            alert
        }),
    };
    fields.finish(reader);
    test
}

fn read_expr_test(reader: &mut Reader<'_>, node: &Node) -> ExprTest {
    let mut fields = Fields::new(reader, node, "main.promqlTestCase");
    let test = ExprTest {
        expr: fields.string(reader, "expr"),
        eval_time: fields.duration_or(reader, "eval_time", Duration::ZERO),
        expected: items(reader, &mut fields, "exp_samples", "[]main.sample", |reader, node| {
            let mut fields = Fields::new(reader, node, "main.sample");
            let sample = ExpectedSample {
                labels: fields.string(reader, "labels"),
                value: fields.take("value").map_or(0.0, |node| reader.float(node)),
                histogram: fields.string(reader, "histogram"),
            };
            fields.finish(reader);
            sample
        }),
    };
    fields.finish(reader);
    test
}

fn items<T>(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: &str,
    type_name: &str,
    read: impl Fn(&mut Reader<'_>, &Node) -> T,
) -> Vec<T> {
    let nodes = fields.take(name).map(|node| reader.list(node, type_name)).unwrap_or_default();
    nodes.iter().map(|node| read(reader, node)).collect()
}

fn pairs(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &str) -> Pairs {
    let entries = fields.take(name).map(|node| reader.entries(node, "map[string]string")).unwrap_or_default();
    let mut pairs: Pairs = entries.iter().map(|(key, value)| (reader.string(key), reader.string(value))).collect();
    pairs.sort();
    pairs
}

/// A time in seconds since the epoch or as in RFC 3339; ms since the epoch.
fn read_time(reader: &mut Reader<'_>, node: &Node) -> i64 {
    let text = reader.string(node);
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 1e15);
    let time = seconds.map(|seconds| (seconds * 1000.0).floor() as i64);
    let date = || chrono::DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp_millis());
    time.or_else(date).unwrap_or_else(|| {
        // Text as in Prometheus:
        reader.invalid(node.id, format!("cannot parse {text:?} to a valid timestamp"));
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_are_read() {
        let text = "
rule_files: [a*.yml, /b.yml]
evaluation_interval: 30s
group_eval_order: [g2, g1]
fuzzy_compare: true
tests:
- name: n
  interval: 5m
  start_timestamp: 2024-01-01T00:00:00.5Z
  input_series: [{series: 'a{b=\"c\"}', values: 1 2}]
  external_labels: {x: y, e: ''}
  external_url: http://u
  alert_rule_test: [{eval_time: 1m, alertname: A, exp_alerts: [{exp_labels: {l: v}, exp_annotations: {z: '', a: t}}]}]
  promql_expr_test: [{expr: a, eval_time: 2m, exp_samples: [{labels: a, value: .inf}, {histogram: '{{}}'}]}]
- start_timestamp: 1609459200
";
        let file = load_unit_test_file("t.yml", text).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let sample = |labels: &str, value, histogram: &str| ExpectedSample {
            labels: labels.into(),
            value,
            histogram: histogram.into(),
        };
        let first = UnitTest {
            name: "n".into(),
            interval: Duration(300_000),
            start_ms: 1_704_067_200_500,
            input_series: vec![pair("a{b=\"c\"}", "1 2")],
            alert_rule_tests: vec![AlertTest {
                eval_time: Duration(60_000),
                alertname: "A".into(),
                expected: vec![(vec![pair("l", "v")], vec![pair("a", "t"), pair("z", "")])],
            }],
            promql_expr_tests: vec![ExprTest {
                expr: "a".into(),
                eval_time: Duration(120_000),
                expected: vec![sample("a", f64::INFINITY, ""), sample("", 0.0, "{{}}")],
            }],
            external_labels: vec![pair("e", ""), pair("x", "y")],
            external_url: "http://u".into(),
        };
        let second = UnitTest { start_ms: 1_609_459_200_000, ..UnitTest::default() };
        assert_eq!(file.tests, [first, second]);
        assert_eq!(file.rule_files, ["a*.yml", "/b.yml"]);
        assert_eq!((file.evaluation_interval, file.fuzzy_compare), (Duration(30_000), true));
        assert_eq!(file.group_eval_order, ["g2", "g1"]);
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, wanted) in [
            (
                "tests: [{nam: x}]",
                "t.yml: yaml: unmarshal errors:\n  line 1: field nam not found in type main.testGroup",
            ),
            ("tests:\n- interval: soon", "t.yml: 2:13: not a valid duration string: \"soon\""),
            ("tests:\n- start_timestamp: now", "t.yml: 2:20: cannot parse \"now\" to a valid timestamp"),
        ] {
            assert_eq!(load_unit_test_file("t.yml", text).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn patterns_are_relative_to_the_file() {
        let dir = fk_testkit::TempDir::new("unit-test-files");
        for name in ["a1.yml", "a2.yml"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let file = UnitTestFile { rule_files: vec!["a*.yml".into(), "/none.yml".into()], ..UnitTestFile::default() };
        let expanded = file.expand_rule_files(dir.path()).unwrap();
        let files = vec![dir.path().join("a1.yml"), dir.path().join("a2.yml")];
        assert_eq!(expanded, [(dir.path().join("a*.yml").display().to_string(), files), ("/none.yml".into(), vec![])]);
    }
}
