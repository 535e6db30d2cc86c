//! Whole files: what they print when they pass and when they do not, and the shared ones.

use super::*;
use fk_testkit::TempDir;

const RULES: &str = r#"
groups:
- name: second
  rules:
  - {record: double:sum, expr: sum(double)}
- name: first
  rules:
  - {record: double, expr: level * 2}
  - {alert: High, expr: level > 2, for: 2m, labels: {region: '{{ $externalLabels.region }}'}, annotations: {text: 'at {{ $value }}'}}
"#;

const TESTS: &str = r#"
rule_files: [rules.yml]
group_eval_order: [first, second]
tests:
- name: levels
  interval: 1m
  external_labels: {region: north}
  input_series: [{series: 'level{unit="a"}', values: 1 2 3 4 5 6}, {series: 'level{unit="b"}', values: 1x5}]
  promql_expr_test:
  - {expr: 'double:sum', eval_time: 3m, exp_samples: [{labels: 'double:sum', value: 10}]}
  - {expr: 'level < 0', eval_time: 3m}
  alert_rule_test:
  - {eval_time: 3m59s, alertname: High}
  - {eval_time: 4m30s, alertname: High, exp_alerts: [{exp_labels: {unit: a, region: north}, exp_annotations: {text: at 5}}]}
"#;

fn run(rules: &str, tests: &str, options: &Options) -> (bool, String, String, Vec<Suite>) {
    let dir = TempDir::new("unit-tests");
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    let path = dir.path().join("test.yml");
    std::fs::write(&path, tests).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (suites, passed) = test(&[path], options, &mut out, &mut err).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(&format!("{}/", dir.path().display()), "");
    (passed, text(out), text(err), suites)
}

#[test]
fn what_is_expected_passes() {
    let (passed, out, err, suites) = run(RULES, TESTS, &Options::default());
    assert_eq!((passed, out.as_str(), err.as_str()), (true, "  SUCCESS\n\n", ""));
    assert_eq!(suites[0].cases, [("levels".to_owned(), vec![])]);
}

#[test]
fn what_comes_otherwise_is_shown() {
    let wrong = TESTS
        .replace("value: 10", "value: 11")
        .replace("text: at 5", "text: at 6")
        .replace("expr: 'level < 0'", "expr: 'level <'");
    let alert = |text: &str| {
        format!(
            "[\n                0:\n                  Labels:{{alertname=\"High\", region=\"north\", unit=\"a\"}}\n                  \
             Annotations:{{text=\"at {text}\"}}\n                ]"
        )
        .replace("                ", "            ")
    };
    let alerts = format!(
        "    name: levels,\n    alertname: High, time: 4m30s, \n        exp:{}, \n        got:{}\n",
        alert("6"),
        alert("5")
    );
    let (passed, out, err, suites) = run(RULES, &wrong, &Options::default());
    assert!(!passed);
    assert_eq!(out, "\n\n\n\n");
    let wanted = format!(
        "  FAILED:\n{alerts}    expr: \"double:sum\", time: 3m,\n        exp: {{__name__=\"double:sum\"}} 1.1E+01\n        \
         got: {{__name__=\"double:sum\"}} 1E+01\n    expr: \"level <\", time: 3m, err: 1:8: parse error: unexpected end of input\n"
    );
    assert_eq!(err, wanted);
    assert_eq!(suites[0].cases[0].1.len(), 3);
    let (_, _, err, _) = run(RULES, &wrong, &Options { diff: true, ..Options::default() });
    assert!(err.contains("\u{1b}[0;33m\"at 6\" => \"at 5\"\u{1b}[0m"), "{err}");
}

#[test]
fn only_the_wanted_tests_run() {
    let wrong = TESTS.replace("value: 10", "value: 11");
    for (run_only, passes, n) in [("lev", false, 1), ("^el", true, 0), ("nothing|^levels$", false, 1)] {
        let options = Options { run: vec![run_only.to_owned()], ..Options::default() };
        let (passed, _, _, suites) = run(RULES, &wrong, &options);
        assert_eq!((passed, suites[0].cases.len()), (passes, n), "{run_only}");
    }
}

#[test]
fn mistakes_are_told() {
    for (rules, tests, wanted) in [
        (
            RULES,
            "tests: [{x: 1}]",
            "test.yml: yaml: unmarshal errors:\n  line 1: field x not found in type main.testGroup\n",
        ),
        (RULES, "group_eval_order: [a, a]", "group name repeated in evaluation order: a\n"),
        (
            RULES,
            "tests: [{name: n, alert_rule_test: [{eval_time: 5m}]}]",
            "an item under alert_rule_test misses required attribute alertname at eval_time 5m (in TestGroup n)\n",
        ),
        (
            "groups: [{name: g, rules: [{record: r, expr: x}, {record: r, expr: 'x + 1'}]}]",
            "rule_files: [rules.yml]\ntests: [{input_series: [{series: x, values: 1x9}], promql_expr_test: [{expr: r, eval_time: 1m}]}]",
            "    rule: r, time: 0s, err: duplicate sample for timestamp\n",
        ),
        ("groups: [", "rule_files: [rules.yml]\ntests: [{}]", "rules.yml: yaml: line 2"),
        (
            RULES,
            "tests: [{interval: 1ms, promql_expr_test: [{expr: '1', eval_time: 100y}]}]\nevaluation_interval: 1ms",
            "more than 10000000 evaluations",
        ),
    ] {
        let (passed, _, err, _) = run(rules, tests, &Options::default());
        assert!(!passed && err.contains(wanted), "{tests}: {err}");
    }
    let (passed, out, err, suites) = run(RULES, "rule_files: [none*.yml]", &Options::default());
    assert_eq!(
        (passed, out.as_str(), err.as_str()),
        (true, "  SUCCESS\n\n", "  WARNING: no file match pattern none*.yml\n")
    );
    assert!(suites[0].cases.is_empty());
}

#[test]
fn debugging_shows_what_there_is() {
    let options = Options { debug: true, ..Options::default() };
    let tests = "tests: [{name: n, input_series: [{series: x, values: '1 2'}], promql_expr_test: [{expr: x, eval_time: 1m, exp_samples: [{labels: x, value: 2}]}]}]";
    let (passed, _, err, _) = run(RULES, tests, &options);
    assert!(passed);
    let dump = "DEBUG: Dump of all data (input_series and rules) at 1m1s:\n{__name__=\"x\"} =>\n2 @[60000]\n";
    assert!(err.starts_with("DEBUG: Starting test n\n") && err.contains(dump), "{err}");
    assert!(err.contains("DEBUG: Test n finished, took "));
}
