//! Relabelling rules (`relabel_configs` and its kin).

use crate::Regex;

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
