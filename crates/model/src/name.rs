//! Which names are valid.

/// How strict metric and label names are checked (`metric_name_validation_scheme`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameValidation {
    /// Any non-empty UTF-8 text.
    #[default]
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics, the same without colons for labels.
    Legacy,
}

impl NameValidation {
    /// Whether `name` may name a metric.
    pub fn metric_name(self, name: &str) -> bool {
        match self {
            NameValidation::Utf8 => !name.is_empty(),
            NameValidation::Legacy => is_legacy_metric_name(name),
        }
    }

    /// Whether `name` may name a label.
    pub fn label_name(self, name: &str) -> bool {
        match self {
            NameValidation::Utf8 => !name.is_empty(),
            NameValidation::Legacy => is_legacy_label_name(name),
        }
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub fn is_legacy_metric_name(name: &str) -> bool {
    let start = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    name.bytes().next().is_some_and(start) && name.bytes().all(|b| start(b) || b.is_ascii_digit())
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`
pub fn is_legacy_label_name(name: &str) -> bool {
    is_legacy_metric_name(name) && !name.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_names() {
        for (name, metric, label) in [
            ("a", true, true),
            ("_a9", true, true),
            (":a", true, false),
            ("9a", false, false),
            ("", false, false),
            ("é", false, false),
        ] {
            assert_eq!(is_legacy_metric_name(name), metric, "{name}");
            assert_eq!(is_legacy_label_name(name), label, "{name}");
        }
    }

    #[test]
    fn utf8_names_are_anything_but_empty() {
        assert!(NameValidation::Utf8.metric_name("ünïcode name"));
        assert!(!NameValidation::Utf8.label_name(""));
    }
}
