//! What discovery hands to whoever uses targets.

use crate::Labels;

/// Targets that one discovery source knows at a time. A later group with the same `source` replaces the earlier one;
/// a group without targets removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetGroup {
    /// Names the origin within one provider, for example `"/etc/targets.json:0"`.
    pub source: String,
    /// Labels of every target of the group, unless the target has its own.
    pub labels: Labels,
    /// One label set per target, each with `__address__`.
    pub targets: Vec<Labels>,
}
