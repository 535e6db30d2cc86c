//! `promtool check metrics`: what is unusual about the metrics of an exposition, and how many series each has.
//!
//! The rules and their texts are those of `promlint` in Prometheus' client library.

use std::collections::HashSet;
use std::io::Write;

use fk_exposition::MetricType;
use fk_model::name::NameValidation;

use crate::families::{Family, FormatError, families};
use crate::{Result, ToolError, gofmt};

/// Something unusual about a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LintProblem {
    /// The metric family.
    pub metric: String,
    /// What it is.
    pub text: String,
}

/// Base units, and other units with the base unit to use instead.
const UNITS: [(&str, &str); 24] = [
    ("amperes", "amperes"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];

const UNIT_PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi", "giga", "gibi",
    "tera", "tebi", "peta", "pebi",
];

const UNIT_ABBREVIATIONS: [&str; 14] = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

/// Lints an exposition. Problems are in order of metric and text; one that several series have comes several times.
pub fn lint(text: &[u8]) -> std::result::Result<Vec<LintProblem>, FormatError> {
    let mut problems = Vec::new();
    // The library reads names by the old rules here, and by the new ones for the table.
    for family in families(text, NameValidation::Legacy)? {
        let found = problems_of(&family);
        problems.extend(found.into_iter().map(|text| LintProblem { metric: family.name.clone(), text }));
    }
    problems.sort();
    Ok(problems)
}

fn problems_of(family: &Family) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    let mut say = |text: &str| problems.push(text.to_owned());
    let name = family.name.as_str();
    let lower = name.to_lowercase();
    let kind = family.kind;
    let label_names = || family.metrics.iter().flat_map(|metric| metric.labels.iter().map(|(name, _)| name.as_str()));
    let has_word = |word: &str| lower.contains(&format!("_{word}_")) || lower.ends_with(&format!("_{word}"));

    // Texts as in promlint:
    if family.help.is_none() {
        say("no help text");
    }
    let mut seen = HashSet::new();
    for metric in &family.metrics {
        if !seen.insert(&metric.labels) {
            say("metric not unique");
        }
    }
    if let Some((base, unit)) = unit_of(name).filter(|(base, unit)| base != unit) {
        say(&format!("use base unit {base:?} instead of {unit:?}"));
    }
    let is_total = name.ends_with("_total");
    match kind {
        MetricType::Counter if !is_total => say("counter metrics should have \"_total\" suffix"),
        MetricType::Counter | MetricType::Unknown => {}
        _ if is_total => say("non-counter metrics should not have \"_total\" suffix"),
        _ => {}
    }
    if kind != MetricType::Unknown {
        let (histogram, summary) = (kind == MetricType::Histogram, kind == MetricType::Summary);
        if !histogram && name.ends_with("_bucket") {
            say("non-histogram metrics should not have \"_bucket\" suffix");
        }
        if !histogram && !summary && name.ends_with("_count") {
            say("non-histogram and non-summary metrics should not have \"_count\" suffix");
        }
        if !histogram && !summary && name.ends_with("_sum") {
            say("non-histogram and non-summary metrics should not have \"_sum\" suffix");
        }
        for label in label_names() {
            match label {
                "le" if !histogram => say("non-histogram metrics should not have \"le\" label"),
                "quantile" if !summary => say("non-summary metrics should not have \"quantile\" label"),
                _ => {}
            }
        }
        let type_name = if kind == MetricType::GaugeHistogram { "gauge_histogram" } else { kind.name() };
        if has_word(type_name) {
            say(&format!("metric name should not include type '{type_name}'"));
        }
    }
    if name.contains(':') {
        say("metric names should not contain ':'");
    }
    if is_camel_case(name) {
        say("metric names should be written in 'snake_case' not 'camelCase'");
    }
    for _ in label_names().filter(|label| is_camel_case(label)) {
        say("label names should be written in 'snake_case' not 'camelCase'");
    }
    for _ in UNIT_ABBREVIATIONS.iter().filter(|unit| has_word(unit)) {
        say("metric names should not contain abbreviated units");
    }
    problems
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes().windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

/// The first unit in a name: base unit and what stands there.
fn unit_of(name: &str) -> Option<(&'static str, &str)> {
    let base = |unit: &str| UNITS.iter().find(|(known, _)| *known == unit).map(|(_, base)| *base);
    name.split('_').find_map(|word| {
        let prefixed = || UNIT_PREFIXES.iter().find_map(|prefix| base(word.strip_prefix(prefix)?));
        base(word).or_else(prefixed).map(|base| (base, word))
    })
}

/// What `check metrics` does.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether to lint.
    pub lint: bool,
    /// Whether to print the table of cardinalities.
    pub extended: bool,
}

/// Checks an exposition: problems go to `problems_out`, the table to `out`. Returns whether there were problems.
pub fn check(text: &[u8], options: Options, out: &mut dyn Write, problems_out: &mut dyn Write) -> Result<bool> {
    // Texts as in Prometheus:
    if !options.lint && !options.extended {
        return Err(ToolError::Other(
            "error: at least one of --extended or linting must be enabled\nUse --extended for cardinality analysis, or remove \
             --lint=none to enable linting"
                .to_owned(),
        ));
    }
    let other = |what: &str, error: FormatError| ToolError::Other(format!("{what}: {error}"));
    let problems = match options.lint {
        true => lint(text).map_err(|error| other("error while linting", error))?,
        false => Vec::new(),
    };
    for problem in &problems {
        writeln!(problems_out, "{} {}", problem.metric, problem.text)?;
    }
    if options.extended {
        let families = families(text, NameValidation::Utf8)
            .map_err(|error| other("error while parsing text to metric families", error))?;
        write_table(&families, out)?;
    }
    Ok(!problems.is_empty())
}

fn write_table(families: &[Family], out: &mut dyn Write) -> Result<()> {
    let mut stats: Vec<(&str, usize)> =
        families.iter().map(|family| (family.name.as_str(), cardinality(family))).collect();
    // Equal ones stay in the order of the text; Prometheus' tool has them in any order.
    stats.sort_by_key(|(_, series)| std::cmp::Reverse(*series));
    let total: usize = stats.iter().map(|(_, series)| series).sum();
    let mut rows = vec![["Metric", "Cardinality", "Percentage"].map(str::to_owned)];
    rows.extend(stats.iter().map(|(name, series)| {
        let percentage = *series as f64 / total as f64 * 100.0;
        [(*name).to_owned(), series.to_string(), format!("{percentage:.2}%")]
    }));
    rows.push(["Total".to_owned(), total.to_string(), "100%".to_owned()]);
    Ok(gofmt::padded_table(&rows, TABLE_GAP, out)?)
}

/// Blanks behind the longest cell of a column.
const TABLE_GAP: usize = 4;

/// Series of a family; all histograms and summaries of one are taken to be like the first.
fn cardinality(family: &Family) -> usize {
    let each = match family.kind {
        MetricType::Histogram | MetricType::Summary => {
            2 + family.metrics.first().map_or(0, |metric| metric.parts.len())
        }
        _ => 1,
    };
    family.metrics.len() * each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_cases_have_the_wanted_problems() {
        let Some(folder) = fk_testkit::conformance("rules") else { return };
        let data = std::fs::read_to_string(folder.join("promlint.json")).unwrap();
        let data: serde_json::Value = serde_json::from_str(&data).unwrap();
        for case in data["cases"].as_array().unwrap() {
            let input = case["input"].as_str().unwrap();
            let wanted: Vec<LintProblem> = case["problems"]
                .as_array()
                .unwrap()
                .iter()
                .map(|problem| LintProblem {
                    metric: problem["metric"].as_str().unwrap().to_owned(),
                    text: problem["text"].as_str().unwrap().to_owned(),
                })
                .collect();
            assert_eq!(lint(input.as_bytes()).unwrap(), wanted, "{} {}", case["group"], case["name"]);
        }
    }

    #[test]
    fn problems_are_sorted_and_repeated() {
        let text = b"# TYPE b_seconds_total gauge\nb_seconds_total{aB=\"1\"} 1\nb_seconds_total{aB=\"1\"} 1\na:x_kilobytes 1\n";
        let problems: Vec<String> =
            lint(text).unwrap().into_iter().map(|problem| format!("{} {}", problem.metric, problem.text)).collect();
        assert_eq!(
            problems,
            [
                "a:x_kilobytes metric names should not contain ':'",
                "a:x_kilobytes no help text",
                "a:x_kilobytes use base unit \"bytes\" instead of \"kilobytes\"",
                "b_seconds_total label names should be written in 'snake_case' not 'camelCase'",
                "b_seconds_total label names should be written in 'snake_case' not 'camelCase'",
                "b_seconds_total metric not unique",
                "b_seconds_total no help text",
                "b_seconds_total non-counter metrics should not have \"_total\" suffix",
            ]
        );
    }

    fn run(text: &str, options: Options) -> (String, String, std::result::Result<bool, String>) {
        let (mut out, mut problems) = (Vec::new(), Vec::new());
        let result = check(text.as_bytes(), options, &mut out, &mut problems).map_err(|error| error.to_string());
        (String::from_utf8(out).unwrap(), String::from_utf8(problems).unwrap(), result)
    }

    #[test]
    fn table_of_cardinalities() {
        let text = "# HELP h_seconds H.\n# TYPE h_seconds histogram\nh_seconds_bucket{le=\"1\"} 1\nh_seconds_bucket{le=\"+Inf\"} 1\n\
                    h_seconds_sum 1\nh_seconds_count 1\n# HELP x X.\nx 1\n";
        let (table, problems, result) = run(text, Options { lint: true, extended: true });
        assert_eq!((problems.as_str(), result), ("", Ok(false)));
        let wanted = "Metric       Cardinality    Percentage    \n\
                      h_seconds    4              80.00%        \n\
                      x            1              20.00%        \n\
                      Total        5              100%          \n";
        assert_eq!(table, wanted);
        let (table, _, _) = run("", Options { lint: false, extended: true });
        assert!(table.ends_with("Total     0              100%          \n"), "{table}");
    }

    #[test]
    fn exit_is_decided_by_problems_and_errors() {
        let (_, problems, result) = run("x 1\n", Options { lint: true, extended: false });
        assert_eq!((problems.as_str(), result), ("x no help text\n", Ok(true)));
        let (_, _, result) = run("x\n", Options { lint: true, extended: false });
        assert!(result.unwrap_err().starts_with("error while linting: text format parsing error in line 1: "));
        let (_, _, result) = run("x\n", Options { lint: false, extended: true });
        assert!(result.unwrap_err().starts_with("error while parsing text to metric families: "));
        let (_, _, result) = run("x 1\n", Options { lint: false, extended: false });
        assert!(result.unwrap_err().starts_with("error: at least one of --extended or linting"));
    }
}
