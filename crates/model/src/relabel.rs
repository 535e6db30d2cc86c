//! Relabelling rules (`relabel_configs` and its kin): what they are, when they are valid, and what they do to a label set.
//!
//! A rule is checked once by [`RelabelRule::validate`] where the configuration is read, and applied by [`process`].

use std::fmt;

use md5::{Digest as _, Md5};

use crate::name::NameValidation;
use crate::{LabelsBuilder, Regex};

/// Separator of a rule that names none.
pub const DEFAULT_SEPARATOR: &str = ";";
/// Expression of a rule that names none.
pub const DEFAULT_REGEX: &str = "(.*)";
/// Replacement of a rule that names none.
pub const DEFAULT_REPLACEMENT: &str = "$1";

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelabelAction {
    /// Sets `target_label` to the expanded replacement where the expression matches.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops where the joined source is not the value of `target_label`.
    KeepEqual,
    /// Drops where the joined source is the value of `target_label`.
    DropEqual,
    /// Sets `target_label` to a hash of the joined source modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to names made from the replacement.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets `target_label` to the joined source in lower case.
    Lowercase,
    /// Sets `target_label` to the joined source in upper case.
    Uppercase,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RelabelRule {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// Join separator.
    pub separator: String,
    /// Anchored expression.
    pub regex: Regex,
    /// Modulus of `HashMod`.
    pub modulus: u64,
    /// Label written.
    pub target_label: String,
    /// Replacement template.
    pub replacement: String,
    /// What to do.
    pub action: RelabelAction,
}

impl RelabelAction {
    /// The action of this name, in any case; `None` if there is none.
    pub fn from_name(name: &str) -> Option<RelabelAction> {
        ACTIONS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|&(_, action)| action)
    }

    /// The name as the configuration writes it.
    pub fn name(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("", |&(name, _)| name)
    }
}

const ACTIONS: [(&str, RelabelAction); 11] = [
    ("replace", RelabelAction::Replace),
    ("keep", RelabelAction::Keep),
    ("drop", RelabelAction::Drop),
    ("keepequal", RelabelAction::KeepEqual),
    ("dropequal", RelabelAction::DropEqual),
    ("hashmod", RelabelAction::HashMod),
    ("labelmap", RelabelAction::LabelMap),
    ("labeldrop", RelabelAction::LabelDrop),
    ("labelkeep", RelabelAction::LabelKeep),
    ("lowercase", RelabelAction::Lowercase),
    ("uppercase", RelabelAction::Uppercase),
];

impl fmt::Display for RelabelAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a rule cannot be used. Texts as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// `hashmod` without modulus.
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    ZeroModulus,
    /// The action writes or compares a label and none is named.
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    NoTargetLabel(RelabelAction),
    /// The label to write cannot be one.
    #[error("{0:?} is invalid 'target_label' for {1} action")]
    BadTargetLabel(String, RelabelAction),
    /// A replacement where there is nothing to replace.
    #[error("'replacement' can not be set for {0} action")]
    ReplacementSet(RelabelAction),
    /// A label name cannot come out of this replacement.
    #[error("{0:?} is invalid 'replacement' for {1} action")]
    BadReplacement(String, RelabelAction),
    /// `keepequal` and `dropequal` with more than two labels.
    #[error("{0} action requires only 'source_labels' and `target_label`, and no other fields")]
    OnlyLabels(RelabelAction),
    /// `labeldrop` and `labelkeep` with more than an expression.
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(RelabelAction),
}

impl RelabelRule {
    /// Checks the rule against the rules of its action and of names.
    pub fn validate(&self, names: NameValidation) -> Result<(), RelabelError> {
        use RelabelAction::*;
        let action = self.action;
        if action == HashMod && self.modulus == 0 {
            return Err(RelabelError::ZeroModulus);
        }
        let one_label = matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual);
        if (one_label || matches!(action, Replace | HashMod)) && self.target_label.is_empty() {
            return Err(RelabelError::NoTargetLabel(action));
        }
        let target_is_valid = match action {
            Replace if has_variable(&self.target_label) => is_name_template(&self.target_label, names),
            Replace | HashMod => names.label_name(&self.target_label),
            _ if one_label => names.label_name(&self.target_label),
            _ => true,
        };
        if !target_is_valid {
            return Err(RelabelError::BadTargetLabel(self.target_label.clone(), action));
        }
        let default_replacement = self.replacement == DEFAULT_REPLACEMENT;
        if one_label && !default_replacement {
            return Err(RelabelError::ReplacementSet(action));
        }
        if action == LabelMap && !is_name_template(&self.replacement, names) {
            return Err(RelabelError::BadReplacement(self.replacement.clone(), action));
        }
        let plain = self.modulus == 0 && self.separator == DEFAULT_SEPARATOR && default_replacement;
        if matches!(action, KeepEqual | DropEqual) && !(plain && self.regex.source() == DEFAULT_REGEX) {
            return Err(RelabelError::OnlyLabels(action));
        }
        if matches!(action, LabelDrop | LabelKeep)
            && !(plain && self.source_labels.is_empty() && self.target_label.is_empty())
        {
            return Err(RelabelError::OnlyRegex(action));
        }
        Ok(())
    }
}

/// Whether a template refers to a group.
fn has_variable(template: &str) -> bool {
    template.contains('$')
}

/// Whether a label name can come out of `template`. UTF-8 names may contain anything, so only legacy names are looked at:
/// letters, digits, underscores, `$1`, `${1}` and named ones, not starting with a digit.
fn is_name_template(template: &str, names: NameValidation) -> bool {
    if names == NameValidation::Utf8 {
        return names.label_name(template);
    }
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let mut rest = template.as_bytes();
    let mut first = true;
    while let [head, tail @ ..] = rest {
        if *head == b'$' {
            let braced = tail.first() == Some(&b'{');
            let name = &tail[usize::from(braced)..];
            let len = name.iter().take_while(|b| word(b)).count();
            if len == 0 || braced && name.get(len) != Some(&b'}') {
                return false;
            }
            rest = &name[len + usize::from(braced)..];
        } else if !word(head) || first && head.is_ascii_digit() {
            return false;
        } else {
            rest = tail;
        }
        first = false;
    }
    !first
}

/// Applies `rules` in order; new names may be any UTF-8 text. `false`: drop it (the labels are in no useful state then).
pub fn process(rules: &[RelabelRule], labels: &mut LabelsBuilder) -> bool {
    process_with(rules, labels, NameValidation::Utf8)
}

/// Like [`process`]; a rule whose expanded target is no valid name by `names` does nothing.
pub fn process_with(rules: &[RelabelRule], labels: &mut LabelsBuilder, names: NameValidation) -> bool {
    first_dropping(rules, labels, names).is_none()
}

/// Like [`process_with`], but says which rule drops it, counted from 0.
pub fn first_dropping(rules: &[RelabelRule], labels: &mut LabelsBuilder, names: NameValidation) -> Option<usize> {
    let mut source = String::new();
    rules.iter().position(|rule| !apply(rule, labels, names, &mut source))
}

/// `source` is scratch space.
fn apply(rule: &RelabelRule, labels: &mut LabelsBuilder, names: NameValidation, source: &mut String) -> bool {
    source.clear();
    for (i, name) in rule.source_labels.iter().enumerate() {
        if i > 0 {
            source.push_str(&rule.separator);
        }
        source.push_str(labels.value(name));
    }
    match rule.action {
        RelabelAction::Drop => return !rule.regex.is_match(source),
        RelabelAction::Keep => return rule.regex.is_match(source),
        RelabelAction::DropEqual => return labels.value(&rule.target_label) != source,
        RelabelAction::KeepEqual => return labels.value(&rule.target_label) == source,
        RelabelAction::Replace => replace(rule, labels, names, source),
        RelabelAction::Lowercase => {
            labels.set(&rule.target_label, &source.to_lowercase());
        }
        RelabelAction::Uppercase => {
            labels.set(&rule.target_label, &source.to_uppercase());
        }
        RelabelAction::HashMod => {
            let digest = Md5::digest(source.as_bytes());
            // Only the last 8 bytes, big endian, as every Prometheus has done: shards depend on it.
            let hash = digest[8..].iter().fold(0u64, |hash, byte| hash << 8 | u64::from(*byte));
            labels.set(&rule.target_label, &hash.checked_rem(rule.modulus).unwrap_or(0).to_string());
        }
        RelabelAction::LabelMap => {
            let mapped: Vec<(String, String)> = labels
                .iter()
                .filter_map(|(name, value)| Some((rule.regex.expand(name, &rule.replacement)?, value.to_owned())))
                .collect();
            for (name, value) in mapped {
                labels.set(&name, &value);
            }
        }
        RelabelAction::LabelDrop => {
            labels.retain(|name, _| !rule.regex.is_match(name));
        }
        RelabelAction::LabelKeep => {
            labels.retain(|name, _| rule.regex.is_match(name));
        }
    }
    true
}

fn replace(rule: &RelabelRule, labels: &mut LabelsBuilder, names: NameValidation, source: &str) {
    // Most rules that only set a label have neither groups nor sources; they need no match.
    if !has_variable(&rule.target_label) && !has_variable(&rule.replacement) {
        if rule.regex.source() == DEFAULT_REGEX || rule.regex.is_match(source) {
            labels.set(&rule.target_label, &rule.replacement);
        }
        return;
    }
    let Some(target) = rule.regex.expand(source, &rule.target_label) else { return };
    if !names.label_name(&target) {
        return;
    }
    let value = rule.regex.expand(source, &rule.replacement).unwrap_or_default();
    labels.set(&target, &value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::path::{Path, PathBuf};

    /// The shared conformance data. The helper of the testkit cannot be used: it depends on this crate.
    fn conformance(part: &str) -> Option<Value> {
        let root = std::env::var_os("FIREKEEPER_CONFORMANCE").map(PathBuf::from).or_else(|| {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.ancestors().map(|a| a.join("shared/conformance")).find(|p| p.is_dir())
        });
        let text = root.and_then(|root| std::fs::read_to_string(root.join(part)).ok());
        if text.is_none() {
            eprintln!("SKIPPED: no conformance data for {part}");
        }
        Some(serde_json::from_str(&text?).expect("the conformance data is JSON"))
    }

    fn rule(section: &Value) -> Option<RelabelRule> {
        let text = |key: &str, default: &str| section.get(key).and_then(Value::as_str).unwrap_or(default).to_owned();
        let sources = section.get("source_labels").and_then(Value::as_array).cloned().unwrap_or_default();
        Some(RelabelRule {
            source_labels: sources.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            separator: text("separator", DEFAULT_SEPARATOR),
            regex: Regex::new(&text("regex", DEFAULT_REGEX)).unwrap(),
            modulus: section.get("modulus").and_then(Value::as_u64).unwrap_or(0),
            target_label: text("target_label", ""),
            replacement: text("replacement", DEFAULT_REPLACEMENT),
            action: RelabelAction::from_name(&text("action", "replace"))?,
        })
    }

    fn list<'a>(data: &'a Value, key: &str) -> &'a Vec<Value> {
        data[key].as_array().unwrap_or_else(|| panic!("a list {key}"))
    }

    fn label_set(object: &Value) -> LabelsBuilder {
        let mut labels = LabelsBuilder::new();
        for (name, value) in object.as_object().unwrap() {
            labels.set(name, value.as_str().unwrap());
        }
        labels
    }

    #[test]
    fn conformance_cases_give_the_labels_of_prometheus() {
        let Some(data) = conformance("relabel/relabel.json") else { return };
        for case in list(&data, "cases") {
            let rules: Vec<RelabelRule> = list(case, "relabel_configs").iter().map(|r| rule(r).unwrap()).collect();
            let mut labels = label_set(&case["input"]);
            let keep = process(&rules, &mut labels);
            assert_eq!(keep, case.get("drop") != Some(&Value::Bool(true)), "{}", case["id"]);
            if keep {
                assert_eq!(labels.build(), label_set(&case["output"]).build(), "{}", case["id"]);
            }
        }
    }

    #[test]
    fn conformance_validation() {
        let Some(data) = conformance("relabel/relabel.json") else { return };
        for case in list(&data, "validation") {
            let names = if case["name_validation"] == "legacy" { NameValidation::Legacy } else { NameValidation::Utf8 };
            let Some(rule) = rule(&case["relabel_config"]) else {
                // An empty action is refused where the configuration is read: the type cannot hold it.
                assert_eq!(case["relabel_config"]["action"], "");
                continue;
            };
            match (case.get("error_contains").and_then(Value::as_str), rule.validate(names)) {
                (None, result) => assert_eq!(result, Ok(()), "{}", case["id"]),
                (Some(text), result) => assert!(result.unwrap_err().to_string().contains(text), "{}", case["id"]),
            }
        }
        for case in list(&data, "target_label_legacy") {
            let text = case["target_label"].as_str().unwrap();
            let valid = case["valid_with_legacy_names"].as_bool().unwrap();
            assert_eq!(is_name_template(text, NameValidation::Legacy), valid, "{text}");
        }
    }

    fn check_error(section: Value, names: NameValidation, text: &str) {
        assert_eq!(rule(&section).unwrap().validate(names).unwrap_err().to_string(), text, "{section}");
    }

    #[test]
    fn invalid_rules_are_refused_with_known_texts() {
        use NameValidation::{Legacy, Utf8};
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for (section, names, text) in [
            (
                r#"{"action":"hashmod","target_label":"a"}"#,
                Utf8,
                "relabel configuration for hashmod requires non-zero modulus",
            ),
            (
                r#"{"action":"replace","target_label":"a-b"}"#,
                Legacy,
                "\"a-b\" is invalid 'target_label' for replace action",
            ),
            (
                r#"{"action":"lowercase","target_label":"a","replacement":"x"}"#,
                Utf8,
                "'replacement' can not be set for lowercase action",
            ),
            (
                r#"{"action":"labelmap","replacement":"a b"}"#,
                Legacy,
                "\"a b\" is invalid 'replacement' for labelmap action",
            ),
            (
                r#"{"action":"keepequal","target_label":"a","regex":"x"}"#,
                Utf8,
                "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
            ),
            (
                r#"{"action":"labeldrop","regex":"x","source_labels":["a"]}"#,
                Utf8,
                "labeldrop action requires only 'regex', and no other fields",
            ),
        ] {
            check_error(json(section), names, text);
        }
    }

    #[test]
    fn target_that_is_no_legacy_name_is_left_out() {
        let section = r#"{"source_labels":["a"],"target_label":"$1","replacement":"x"}"#;
        let rule = rule(&serde_json::from_str(section).unwrap()).unwrap();
        let mut labels = LabelsBuilder::new();
        labels.set("a", "b.c");
        assert!(process_with(std::slice::from_ref(&rule), &mut labels, NameValidation::Legacy));
        assert_eq!(labels.get("b.c"), None);
        assert!(process(&[rule], &mut labels));
        assert_eq!(labels.get("b.c"), Some("x"));
    }
}
