//! `relabel_configs` and its kin.

use fk_model::Regex;
use fk_model::name::NameValidation;
use fk_model::relabel::{RelabelAction, RelabelRule};

use crate::reader::{Fields, Reader};
use crate::section::shown_texts;
use crate::shown::{Shown, ShownMap, ShownMapExt};
use crate::yaml::Node;

/// Reads a list of rules. `null_text` is the error for an entry without content, in Prometheus' words.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    validation: NameValidation,
    null_text: &str,
    shown: &mut ShownMap,
    key: &str,
) -> Vec<RelabelRule> {
    let Some(node) = node else { return Vec::new() };
    let (mut rules, mut rules_shown) = (Vec::new(), Vec::new());
    for item in reader.list(node, "[]*relabel.Config") {
        if item.is_null() {
            reader.invalid(item.id, null_text);
        } else if let Some((rule, rule_shown)) = read_rule(reader, item, validation) {
            rules.push(rule);
            rules_shown.push(Shown::Map(rule_shown));
        }
    }
    shown.put_seq(key, rules_shown);
    rules
}

/// Reads one rule; `None` if it cannot be one, which is noted.
fn read_rule(reader: &mut Reader<'_>, node: &Node, validation: NameValidation) -> Option<(RelabelRule, ShownMap)> {
    let before = reader.problem_count();
    let mut fields = Fields::new(reader, node, "relabel.plain");
    let mut source_labels = Vec::new();
    if let Some(list) = fields.take("source_labels") {
        for item in reader.list(list, "model.LabelNames") {
            let name = reader.label_text(item, "name");
            if name.is_empty() {
                // Text as in Prometheus:
                reader.invalid(item.id, "\"\" is not a valid label name");
            }
            source_labels.push(name);
        }
    }
    let separator = fields.string_or(reader, "separator", ";");
    let regex_node = fields.take("regex");
    let regex_text = regex_node.map_or_else(|| "(.*)".to_owned(), |node| reader.string(node));
    let modulus = fields.take("modulus").map_or(0, |node| reader.int(node, "uint64", 0, i128::from(u64::MAX)) as u64);
    let target_label = fields.string(reader, "target_label");
    let replacement = fields.string_or(reader, "replacement", "$1");
    let action_node = fields.take("action");
    let action = match action_node.map(|node| (node.id, reader.string(node))) {
        None => Some(RelabelAction::Replace),
        Some((id, text)) => {
            let action = RelabelAction::from_name(&text.to_lowercase());
            if action.is_none() {
                // Texts as in Prometheus:
                let empty = "relabel action cannot be empty".to_owned();
                reader.invalid(id, if text.is_empty() { empty } else { format!("unknown relabel action {text:?}") });
            }
            action
        }
    };
    fields.finish(reader);
    let regex =
        Regex::new(&regex_text).map_err(|error| reader.invalid(regex_node.unwrap_or(node).id, error.to_string())).ok();
    let (action, regex) = (action?, regex?);
    if reader.problem_count() > before {
        return None;
    }
    let rule = RelabelRule { source_labels, separator, regex, modulus, target_label, replacement, action };
    if let Err(error) = rule.validate(validation) {
        reader.invalid(node.id, error.to_string());
        return None;
    }
    let mut shown = ShownMap::new();
    if !rule.source_labels.is_empty() {
        shown.put("source_labels", Shown::FlowSeq(shown_texts(&rule.source_labels)));
    }
    shown.put_text("separator", &rule.separator);
    if regex_node.is_some() {
        shown.put_text("regex", &regex_text);
    }
    shown.put_nonzero("modulus", rule.modulus);
    shown.put_nonempty("target_label", &rule.target_label);
    shown.put_text("replacement", &rule.replacement);
    shown.put_text("action", action.name());
    Some((rule, shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown;
    use crate::yaml::Document;

    fn read_text(text: &str, validation: NameValidation) -> Result<String, String> {
        let document = Document::parse(text).unwrap();
        let mut reader = Reader::new(text, &document);
        let rule = read_rule(&mut reader, &document.root, validation);
        match rule {
            Some((_, shown)) => Ok(shown::print(&shown)),
            None => Err(reader.finish().0.iter().map(|p| p.message.clone()).collect::<Vec<_>>().join("; ")),
        }
    }

    #[test]
    fn the_shared_rules_are_read_validated_and_printed() {
        let Some(folder) = fk_testkit::conformance("relabel") else { return };
        let text = std::fs::read_to_string(folder.join("relabel.json")).unwrap();
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut passed = 0;
        for case in data["yaml_round_trip"].as_array().unwrap() {
            let yaml = case["yaml"].as_str().unwrap();
            assert_eq!(read_text(yaml, NameValidation::Utf8).as_deref(), Ok(yaml), "{}", case["name"]);
            passed += 1;
        }
        for case in data["validation"].as_array().unwrap() {
            let legacy = case["name_validation"] == "legacy";
            let validation = if legacy { NameValidation::Legacy } else { NameValidation::Utf8 };
            // JSON is YAML.
            let result = read_text(&case["relabel_config"].to_string(), validation);
            match case["error_contains"].as_str() {
                Some(wanted) => {
                    assert!(result.as_ref().is_err_and(|error| error.contains(wanted)), "{case}: {result:?}")
                }
                None => assert!(result.is_ok(), "{case}: {result:?}"),
            }
            passed += 1;
        }
        println!("relabel sections: {passed} cases passed");
    }
}
