//! What an evaluation needs from outside: queries, the storage, the clock.

use fk_model::{Labels, SampleValue};
use fk_promql_syntax::ast::Expr;
use fk_storage::{Appender, Control, Queryable};

use crate::concurrency::EvalSlots;

/// One element of a query's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultSample {
    /// Labels, the metric name included if the query kept it.
    pub labels: Labels,
    /// Value.
    pub v: SampleValue,
}

/// The answer to an instant query.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryResult {
    /// An instant vector.
    Vector(Vec<ResultSample>),
    /// A scalar; counts as one sample without labels.
    Scalar(f64),
    /// A string or a range vector, which rules refuse.
    Other,
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// Somebody stopped it on purpose; the rule fails, but that is not worth a warning.
    #[error("{0}")]
    Cancelled(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Answers the queries of rules. Rules that do not depend on each other may ask at the same time.
pub trait Evaluate: Sync {
    /// The instant query `expr` at `ts_ms`; `text` is the same in print.
    fn query(&self, expr: &Expr, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError>;

    /// The instant query a template asks for, as a text.
    fn query_text(&self, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError>;
}

/// The world as one evaluation sees it.
pub struct EvalContext<'a> {
    /// Answers queries.
    pub evaluate: &'a dyn Evaluate,
    /// Takes the results.
    pub appender: &'a dyn Appender,
    /// The local storage, in which the state of alerts before a restart is looked up.
    pub storage: &'a dyn Queryable,
    /// The wall clock, nanoseconds since the Unix epoch.
    pub now_ns: &'a (dyn Fn() -> i64 + Sync),
    /// Noticed between two rules: the rest of the group is left out once it is cancelled.
    pub control: &'a Control,
    /// Slots for rules that are evaluated side by side; `None`: one by one.
    pub slots: Option<&'a EvalSlots>,
}
