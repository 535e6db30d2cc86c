//! Rule files.

use fk_model::{Duration, Labels};
use fk_promql_syntax::ast::Expr;

/// One rule file, checked.
#[derive(Debug)]
pub struct RuleFile {
    /// Its path, as the glob gave it; first half of every group's identity.
    pub path: String,
    /// Its groups. Invariant: names are unique within the file.
    pub groups: Vec<RuleGroup>,
}

/// One rule group.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleGroup {
    /// Name.
    pub name: String,
    /// Interval; `None`: `global.evaluation_interval`.
    pub interval: Option<Duration>,
    /// Query offset; `None`: `global.rule_query_offset`.
    pub query_offset: Option<Duration>,
    /// Most results of one rule; 0: no limit.
    pub limit: u64,
    /// Rules, group labels already merged into each.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Recording or alerting.
    pub kind: RuleKind,
    /// The expression, parsed.
    pub expr: Expr,
    /// The expression in Prometheus' one-line form.
    pub expr_text: String,
    /// Labels, templates not expanded.
    pub labels: Labels,
    /// Names of labels set to the empty text: the rule takes them off its results. A label set cannot hold them.
    pub removed_labels: Vec<String>,
}

/// What a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// `record`
    Recording {
        /// Name of the metric written.
        metric: String,
    },
    /// `alert`
    Alerting {
        /// Name of the alert.
        alert: String,
        /// `for`
        hold: Duration,
        /// `keep_firing_for`
        keep_firing: Duration,
        /// Annotations in order of their names, templates not expanded. No label set: a text may be empty.
        annotations: Vec<(String, String)>,
    },
}
