//! Rule files: read, checked, expressions and templates parsed.

use std::collections::{BTreeMap, HashSet};

use fk_model::name::NameValidation;
use fk_model::{Duration, Labels, METRIC_NAME};
use fk_promql_syntax::{Expr, ParserOptions, parse};

use crate::error::{FileKind, FileProblems, Problem, ProblemKind};
use crate::reader::{Fields, Reader};
use crate::rule_file::{Rule, RuleFile, RuleGroup, RuleKind};
use crate::yaml::{Document, Node};

/// Reads the rule file `path` with content `text`; only the first YAML document counts. Beside the rules come warnings.
///
/// Errors: everything that is wrong in it, with place, group and rule.
pub fn load_rule_file(
    path: &str,
    text: &str,
    validation: NameValidation,
    options: &ParserOptions,
) -> Result<(RuleFile, Vec<String>), FileProblems> {
    load(path, text, validation, options, true)
}

/// The same, but fields that nobody knows are passed over: people note things of their own in rule files.
pub fn load_rule_file_leniently(
    path: &str,
    text: &str,
    validation: NameValidation,
    options: &ParserOptions,
) -> Result<(RuleFile, Vec<String>), FileProblems> {
    load(path, text, validation, options, false)
}

fn load(
    path: &str,
    text: &str,
    validation: NameValidation,
    options: &ParserOptions,
    known_fields_only: bool,
) -> Result<(RuleFile, Vec<String>), FileProblems> {
    let failed = |problems| FileProblems { file: path.to_owned(), kind: FileKind::Rules, problems };
    let document = Document::parse(text).map_err(|error| {
        let kind = ProblemKind::Syntax;
        failed(vec![Problem { kind, line: error.line, column: error.column, message: error.message }])
    })?;
    let mut reader = Reader::new(text, &document);
    if !known_fields_only {
        reader.pass_over_unknown_fields();
    }
    if document.more_documents {
        // Text as in Prometheus:
        reader.warn(format!("{path}: Multiple document yaml rules files are not supported"));
    }
    let mut loader = RuleLoader { reader: &mut reader, validation, options };
    let groups = loader.read_groups(&document.root);
    let (problems, warnings) = reader.finish();
    if problems.is_empty() { Ok((RuleFile { path: path.to_owned(), groups }, warnings)) } else { Err(failed(problems)) }
}

struct RuleLoader<'r, 't> {
    reader: &'r mut Reader<'t>,
    validation: NameValidation,
    options: &'r ParserOptions,
}

/// Where a rule stands, for its errors.
struct RulePlace<'p> {
    group: &'p str,
    /// From 1.
    number: usize,
    name: &'p str,
}

impl RuleLoader<'_, '_> {
    fn read_groups(&mut self, root: &Node) -> Vec<RuleGroup> {
        let mut fields = Fields::new(self.reader, root, "rulefmt.RuleGroups");
        let items = fields.take("groups").map(|node| self.reader.list(node, "[]rulefmt.RuleGroup")).unwrap_or_default();
        fields.finish(self.reader);
        let mut names = HashSet::new();
        let mut groups = Vec::with_capacity(items.len());
        for item in items {
            let group = self.read_group(item);
            // Texts as in Prometheus:
            if group.name.is_empty() {
                self.reader.invalid(item.id, "Groupname must not be empty");
            } else if !names.insert(group.name.clone()) {
                self.reader.invalid(item.id, format!("groupname: {:?} is repeated in the same file", group.name));
            }
            groups.push(group);
        }
        groups
    }

    fn read_group(&mut self, node: &Node) -> RuleGroup {
        let mut fields = Fields::new(self.reader, node, "rulefmt.RuleGroup");
        let name = fields.string(self.reader, "name");
        let interval = fields.take("interval").map(|node| self.reader.duration(node)).filter(|d| *d != Duration::ZERO);
        let query_offset =
            fields.take("query_offset").filter(|node| !node.is_null()).map(|node| self.reader.duration(node));
        let limit = fields
            .take("limit")
            .map_or(0, |node| self.reader.int(node, "int", i128::from(i64::MIN), i128::from(i64::MAX)));
        let mut group_labels = BTreeMap::new();
        for (key, value) in
            fields.take("labels").map(|node| self.reader.entries(node, "map[string]string")).unwrap_or_default()
        {
            let label = self.reader.string(key);
            if !self.is_label_name(&label) {
                // Text as in Prometheus:
                self.reader.invalid(key.id, format!("group {name:?}: invalid label name: {label}"));
            }
            group_labels.insert(label, self.reader.string(value));
        }
        let items = fields.take("rules").map(|node| self.reader.list(node, "[]rulefmt.Rule")).unwrap_or_default();
        fields.finish(self.reader);
        let rules = items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| self.read_rule(item, &name, at + 1, &group_labels))
            .collect();
        RuleGroup { name, interval, query_offset, limit: limit.max(0) as u64, rules }
    }

    fn is_label_name(&self, name: &str) -> bool {
        self.validation.label_name(name) && name != METRIC_NAME
    }

    fn problem(&mut self, place: &RulePlace<'_>, node_id: u32, message: String) {
        // Text as in Prometheus:
        self.reader
            .invalid(node_id, format!("group {:?}, rule {}, {:?}: {message}", place.group, place.number, place.name));
    }

    /// One rule; `None` if it has no expression or no name.
    fn read_rule(
        &mut self,
        node: &Node,
        group: &str,
        number: usize,
        group_labels: &BTreeMap<String, String>,
    ) -> Option<Rule> {
        let mut fields = Fields::new(self.reader, node, "rulefmt.Rule");
        let (record_node, alert_node, expr_node) = (fields.take("record"), fields.take("alert"), fields.take("expr"));
        let record = record_node.map(|node| self.reader.string(node)).unwrap_or_default();
        let alert = alert_node.map(|node| self.reader.string(node)).unwrap_or_default();
        let expr_source = expr_node.map(|node| self.reader.string(node)).unwrap_or_default();
        let (for_node, keep_node) = (fields.take("for"), fields.take("keep_firing_for"));
        let hold = for_node.map_or(Duration::ZERO, |node| self.reader.duration(node));
        let keep_firing = keep_node.map_or(Duration::ZERO, |node| self.reader.duration(node));
        let label_entries =
            fields.take("labels").map(|node| self.reader.entries(node, "map[string]string")).unwrap_or_default();
        let annotations_node = fields.take("annotations");
        let annotation_entries =
            annotations_node.map(|node| self.reader.entries(node, "map[string]string")).unwrap_or_default();
        fields.finish(self.reader);

        let place = RulePlace { group, number, name: if record.is_empty() { &alert } else { &record } };
        // Texts as in Prometheus:
        if !record.is_empty() && !alert.is_empty() {
            self.problem(
                &place,
                record_node.unwrap_or(node).id,
                "only one of 'record' and 'alert' must be set".to_owned(),
            );
        }
        if record.is_empty() && alert.is_empty() {
            self.problem(&place, node.id, "one of 'record' or 'alert' must be set".to_owned());
        }
        let expr = self.read_expr(&place, expr_node.unwrap_or(node).id, &expr_source);
        if !record.is_empty() {
            if !annotation_entries.is_empty() {
                self.problem(
                    &place,
                    annotations_node.unwrap_or(node).id,
                    "invalid field 'annotations' in recording rule".to_owned(),
                );
            }
            for (field, node, value) in [("for", for_node, hold), ("keep_firing_for", keep_node, keep_firing)] {
                if let Some(node) = node
                    && value != Duration::ZERO
                {
                    self.problem(&place, node.id, format!("invalid field '{field}' in recording rule"));
                }
            }
            let id = record_node.unwrap_or(node).id;
            if !self.validation.metric_name(&record) {
                self.problem(&place, id, format!("invalid recording rule name: {record}"));
            } else if record.contains(['{', '}']) {
                self.problem(
                    &place,
                    id,
                    format!("braces present in the recording rule name; should it be in expr?: {record}"),
                );
            }
        }
        let is_alert = !alert.is_empty();
        let mut labels = group_labels.clone();
        for (key, value) in label_entries {
            let (name, text) = (self.reader.string(key), self.reader.string(value));
            if !self.is_label_name(&name) {
                self.problem(&place, key.id, format!("invalid label name: {name}"));
            }
            self.check_template(&place, is_alert, "label", &name, &text, value.id);
            labels.insert(name, text);
        }
        let mut annotations = BTreeMap::new();
        for (key, value) in annotation_entries {
            let (name, text) = (self.reader.string(key), self.reader.string(value));
            if !self.validation.label_name(&name) {
                self.problem(&place, key.id, format!("invalid annotation name: {name}"));
            }
            self.check_template(&place, is_alert, "annotation", &name, &text, value.id);
            annotations.insert(name, text);
        }
        let expr = expr?;
        let kind = if is_alert {
            RuleKind::Alerting { alert, hold, keep_firing, annotations: annotations.into_iter().collect() }
        } else {
            RuleKind::Recording { metric: record }
        };
        let removed_labels =
            labels.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| name.clone()).collect();
        Some(Rule { kind, expr_text: expr.to_string(), expr, labels: Labels::from_pairs(&labels), removed_labels })
    }

    fn read_expr(&mut self, place: &RulePlace<'_>, node_id: u32, source: &str) -> Option<Expr> {
        // Texts as in Prometheus:
        if source.is_empty() {
            self.problem(place, node_id, "field 'expr' must be set in rule".to_owned());
            return None;
        }
        parse(source, self.options)
            .map_err(|errors| self.problem(place, node_id, format!("could not parse expression: {errors}")))
            .ok()
    }

    /// Only alerting rules have templates.
    fn check_template(
        &mut self,
        place: &RulePlace<'_>,
        is_alert: bool,
        what: &str,
        name: &str,
        text: &str,
        node_id: u32,
    ) {
        if is_alert && let Err(error) = fk_template::check(text) {
            self.problem(place, node_id, format!("{what} {name:?}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, validation: NameValidation) -> Result<(RuleFile, Vec<String>), FileProblems> {
        load_rule_file("r.yml", text, validation, &ParserOptions::default())
    }

    fn check_error(rule: &str, wanted: &str) {
        let text = format!("groups:\n- name: g\n  rules:\n  - {rule}\n");
        let error = read(&text, NameValidation::Utf8).unwrap_err().to_string();
        assert_eq!(error, wanted, "{rule}");
    }

    #[test]
    fn errors_name_file_place_group_and_rule() {
        check_error(
            "{record: a, alert: b, expr: '1'}",
            "r.yml: 4:14: group \"g\", rule 1, \"a\": only one of 'record' and 'alert' must be set",
        );
        check_error("{expr: '1'}", "r.yml: 4:5: group \"g\", rule 1, \"\": one of 'record' or 'alert' must be set");
        check_error("{alert: a}", "r.yml: 4:5: group \"g\", rule 1, \"a\": field 'expr' must be set in rule");
        check_error(
            "{record: a, expr: '1', for: 1m}",
            "r.yml: 4:33: group \"g\", rule 1, \"a\": invalid field 'for' in recording rule",
        );
        check_error(
            "{record: a, expr: '1', labels: {__name__: b}}",
            "r.yml: 4:37: group \"g\", rule 1, \"a\": invalid label name: __name__",
        );
        check_error("{alert: a, expr: '1', for: 5}", "r.yml: 4:32: not a valid duration string: \"5\"");
        check_error(
            "{alert: a, expr: '1', annotation: {}}",
            "r.yml: yaml: unmarshal errors:\n  line 4: field annotation not found in type rulefmt.Rule",
        );
    }

    #[test]
    fn group_labels_are_merged_and_empty_ones_are_removals() {
        let text = "groups: [{name: g, interval: 30s, query_offset: 0s, limit: 3, labels: {a: '1', b: '2', c: '3'},
            rules: [{alert: A, expr: up, for: 5m, labels: {b: x, c: ''}, annotations: {s: t, e: ''}}]}]";
        let (file, warnings) = read(text, NameValidation::Utf8).unwrap();
        let group = &file.groups[0];
        assert!(warnings.is_empty());
        assert_eq!((group.interval, group.query_offset, group.limit), (Some(Duration(30_000)), Some(Duration(0)), 3));
        let rule = &group.rules[0];
        assert_eq!(rule.labels, Labels::from_pairs([("a", "1"), ("b", "x")]));
        assert_eq!(rule.removed_labels, ["c"]);
        let annotations = vec![("e".to_owned(), String::new()), ("s".to_owned(), "t".to_owned())];
        let kind =
            RuleKind::Alerting { alert: "A".into(), hold: Duration(300_000), keep_firing: Duration(0), annotations };
        assert_eq!(rule.kind, kind);
    }

    /// Runs `check` over the rows of a manifest in the shared rule files: file, text, columns.
    fn each_file(folder: &str, check: impl Fn(&str, &str, &[&str])) -> usize {
        let Some(folder) = fk_testkit::conformance(folder) else { return 0 };
        let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
        let rows = manifest.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
        rows.map(|row| check(row[0], &std::fs::read_to_string(folder.join(row[0])).unwrap(), &row)).count()
    }

    #[test]
    fn shared_rule_files_load_or_are_refused() {
        let count = each_file("rules/rulefmt", |file, text, row| {
            let validation = if row[2] == "legacy" { NameValidation::Legacy } else { NameValidation::Utf8 };
            let result = read(text, validation);
            match row[1] {
                "good" => assert!(result.is_ok(), "{file}: {}", result.unwrap_err()),
                _ => {
                    let error = result.expect_err(file).to_string();
                    // In the manifest a backslash stands before nothing but these.
                    assert!(error.replace('\\', "").contains(row[3]), "{file}: {error}");
                }
            }
        });
        println!("rule format: {count} files");
        let count = each_file("rules/fixtures", |file, text, row| {
            let result = read(text, NameValidation::Utf8);
            assert_eq!(result.is_ok(), row[1] == "good", "{file}: {:?}", result.err());
            if row[2].contains("one group") {
                let (rules, warnings) = result.unwrap();
                assert_eq!((rules.groups.len(), warnings.len()), (1, 1), "{file}");
            }
        });
        println!("rule fixtures: {count} files");
    }

    #[test]
    fn shared_rule_texts_load_or_are_refused() {
        let Some(path) = fk_testkit::conformance("rules/rulefmt_cases.json") else { return };
        let data: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = data["cases"].as_array().unwrap();
        for case in cases {
            let name = &case["name"];
            let result = read(case["yaml"].as_str().unwrap(), NameValidation::Utf8);
            if case["expect"] == "good" {
                let (rules, warnings) = result.unwrap_or_else(|error| panic!("{name}: {error}"));
                let groups = case["groups"].as_u64().unwrap_or(1);
                assert_eq!(rules.groups.len() as u64, groups, "{name}");
                let log = case["log_contains"].as_str();
                assert_eq!(warnings.len(), usize::from(log.is_some()), "{name}");
                assert!(log.is_none_or(|log| warnings[0].contains(log)), "{name}");
            } else {
                let problems = result.expect_err(&name.to_string()).problems;
                if let Some(count) = case["errors"].as_u64() {
                    let lines: HashSet<usize> = problems.iter().map(|problem| problem.line).collect();
                    assert_eq!(lines.len() as u64, count, "{name}: {problems:?}");
                }
            }
        }
        println!("rule texts: {} cases", cases.len());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(body in "[a-z:\\- \\n{}\\[\\]'\"&*]{0,80}") {
            let text = format!("groups:\n- name: g\n  rules:\n  - {body}");
            let _ = read(&text, NameValidation::Utf8);
        }
    }
}
