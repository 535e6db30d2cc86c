//! How the server evaluates PromQL: the flags, and the queries of rules.

use std::sync::Arc;

use fk_model::{Duration, SampleValue};
use fk_promql::{Query, QueryError, QueryOptions, Value};
use fk_promql_syntax::ParserOptions;
use fk_promql_syntax::ast::Expr;
use fk_queries::{Asked, Board, Origin};
use fk_rules::{Evaluate, EvaluateError, QueryResult, ResultSample};
use fk_storage::{Control, Stopped};
use fk_tsdb::Db;
use std::time::Instant;

use crate::slots::Slots;

/// The flags about queries.
#[derive(Clone, Debug)]
pub struct EngineFlags {
    /// `--query.lookback-delta`
    pub lookback: Duration,
    /// `--query.timeout`
    pub timeout: std::time::Duration,
    /// `--query.max-samples`
    pub max_samples: usize,
    /// Which parts of the language are on.
    pub parser: ParserOptions,
    /// Feature `promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// Feature `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
    /// Feature `promql-per-step-stats`.
    pub per_step_stats: bool,
    /// Feature `use-start-timestamps`.
    pub use_start_timestamps: bool,
}

impl EngineFlags {
    /// Options of a query under the running configuration.
    pub fn query_options(&self, slots: &Slots) -> QueryOptions {
        QueryOptions {
            lookback_ms: self.lookback.as_millis(),
            default_subquery_step_ms: default_subquery_step(slots).as_millis(),
            max_samples: self.max_samples,
            delayed_name_removal: self.delayed_name_removal,
            type_and_unit_labels: self.type_and_unit_labels,
            use_start_timestamps: self.use_start_timestamps,
            ..QueryOptions::default()
        }
    }
}

/// Step of subqueries that name none: `global.evaluation_interval`.
pub fn default_subquery_step(slots: &Slots) -> Duration {
    slots.config.load().as_ref().map_or(Duration(60_000), |loaded| loaded.config.global.evaluation_interval)
}

/// Answers the queries of rules and gives their results a home.
#[derive(Debug)]
pub struct RuleQueries {
    db: Arc<Db>,
    slots: Arc<Slots>,
    flags: EngineFlags,
    board: Arc<Board>,
}

impl RuleQueries {
    /// On this storage; what runs is on the board.
    pub fn new(db: Arc<Db>, slots: Arc<Slots>, flags: EngineFlags, board: Arc<Board>) -> RuleQueries {
        RuleQueries { db, slots, flags, board }
    }

    /// For the queries of one evaluation of a group.
    pub fn control(&self) -> Control {
        self.board.control()
    }

    /// The storage rules read and write.
    pub fn storage(&self) -> &Db {
        &self.db
    }

    /// The same, with every query ended by `control`, for the group of this name and file.
    pub fn under<'a>(&'a self, control: Control, file: &'a str, group: &'a str) -> ControlledQueries<'a> {
        ControlledQueries { queries: self, control, file, group }
    }
}

/// An answer as rules take it.
pub fn rule_result(value: Value) -> QueryResult {
    match value {
        Value::Vector(samples) => QueryResult::Vector(
            samples.into_iter().map(|s| ResultSample { labels: s.labels, v: SampleValue::new(s.v, s.h) }).collect(),
        ),
        Value::Scalar { v, .. } => QueryResult::Scalar(v),
        Value::String { .. } | Value::Matrix(_) => QueryResult::Other,
    }
}

/// The queries of one evaluation.
#[derive(Debug)]
pub struct ControlledQueries<'a> {
    queries: &'a RuleQueries,
    control: Control,
    file: &'a str,
    group: &'a str,
}

impl Evaluate for ControlledQueries<'_> {
    fn query(&self, expr: &Expr, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let RuleQueries { db, slots, flags, board } = self.queries;
        let began = Instant::now();
        let control = self.control.clone().with_deadline(began + flags.timeout);
        let origin = Origin::Rule { file: self.file.to_owned(), group: self.group.to_owned() };
        let asked = Asked { text: text.to_owned(), start_ms: ts_ms, end_ms: ts_ms, step_ms: 0, origin };
        let mut running = board.begin(asked, control);
        // The slot is the group's.
        running.admitted(None);
        let options = flags.query_options(slots);
        let control = running.control();
        let query = Query { expr, text: "", start_ms: ts_ms, end_ms: ts_ms, step_ms: 0, options: &options, control };
        let evaluated = fk_promql::evaluate(&**db, &query);
        let text = evaluated.as_ref().err().map(QueryError::to_string);
        running.evaluated(began.elapsed(), evaluated.as_ref().map_err(|_| text.as_deref().unwrap_or("")));
        match evaluated {
            Ok(answer) => Ok(rule_result(answer.value)),
            Err(error @ QueryError::Stopped(Stopped::Cancelled)) => Err(EvaluateError::Cancelled(error.to_string())),
            Err(error) => Err(EvaluateError::Failed(error.to_string())),
        }
    }

    fn query_text(&self, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let expr = fk_promql_syntax::parse(text, &self.queries.flags.parser)
            .map_err(|e| EvaluateError::Failed(e.to_string()))?;
        self.query(&expr, text, ts_ms)
    }
}
