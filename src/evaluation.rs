//! How the server evaluates PromQL: the flags, and the queries of rules.

use std::sync::Arc;

use fk_instrument::{Counter, Family, Histogram, Registry, Summary};
use fk_model::{Duration, SampleValue};
use fk_promql::{Query, QueryError, QueryOptions, Value};
use fk_promql_syntax::ParserOptions;
use fk_promql_syntax::ast::Expr;
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
            ..QueryOptions::default()
        }
    }
}

/// Step of subqueries that name none: `global.evaluation_interval`.
pub fn default_subquery_step(slots: &Slots) -> Duration {
    slots.config.load().as_ref().map_or(Duration(60_000), |loaded| loaded.config.global.evaluation_interval)
}

/// `prometheus_engine_query_*`
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    durations: Family<Summary>,
    duration_buckets: Family<Histogram>,
    samples: Counter,
}

impl EngineMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> EngineMetrics {
        EngineMetrics {
            durations: registry.summaries(
                "prometheus_engine_query_duration_seconds",
                "Query timings.",
                &["slice"],
                &[0.5, 0.9, 0.99],
            ),
            duration_buckets: registry.histograms(
                "prometheus_engine_query_duration_histogram_seconds",
                "The duration of various parts of PromQL query execution.",
                &["slice"],
                &[0.01, 0.1, 1.0, 10.0],
            ),
            samples: registry
                .counter("prometheus_engine_query_samples_total", "The total number of samples loaded by all queries."),
        }
    }

    /// Notes an evaluation. Selecting series and sorting are part of the evaluation here and have no slice of their own.
    pub fn evaluated(&self, queued: Option<std::time::Duration>, took: std::time::Duration, samples: u64) {
        for (slice, duration) in [("queue_time", queued), ("inner_eval", Some(took))] {
            if let Some(duration) = duration {
                self.durations.get(&[slice]).observe(duration.as_secs_f64());
                self.duration_buckets.get(&[slice]).observe(duration.as_secs_f64());
            }
        }
        self.samples.add(samples);
    }
}

/// Answers the queries of rules and gives their results a home.
#[derive(Debug)]
pub struct RuleQueries {
    db: Arc<Db>,
    slots: Arc<Slots>,
    flags: EngineFlags,
    metrics: EngineMetrics,
}

impl RuleQueries {
    /// On this storage.
    pub fn new(db: Arc<Db>, slots: Arc<Slots>, flags: EngineFlags, metrics: EngineMetrics) -> RuleQueries {
        RuleQueries { db, slots, flags, metrics }
    }

    /// The storage rules read and write.
    pub fn storage(&self) -> &Db {
        &self.db
    }

    /// The same, with every query ended by `control`.
    pub fn under(&self, control: Control) -> ControlledQueries<'_> {
        ControlledQueries { queries: self, control }
    }
}

/// The queries of one evaluation.
#[derive(Debug)]
pub struct ControlledQueries<'a> {
    queries: &'a RuleQueries,
    control: Control,
}

impl Evaluate for ControlledQueries<'_> {
    fn query(&self, expr: &Expr, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let RuleQueries { db, slots, flags, metrics } = self.queries;
        let mut control = self.control.clone();
        control.deadline = Some(Instant::now() + flags.timeout);
        let options = flags.query_options(slots);
        let query =
            Query { expr, text: "", start_ms: ts_ms, end_ms: ts_ms, step_ms: 0, options: &options, control: &control };
        let began = Instant::now();
        let evaluated = fk_promql::evaluate(&**db, &query);
        let samples = evaluated.as_ref().map_or(0, |answer| answer.stats.samples_total);
        metrics.evaluated(None, began.elapsed(), samples);
        match evaluated {
            Ok(answer) => Ok(match answer.value {
                Value::Vector(samples) => QueryResult::Vector(
                    samples
                        .into_iter()
                        .map(|s| ResultSample { labels: s.labels, v: SampleValue::new(s.v, s.h) })
                        .collect(),
                ),
                Value::Scalar { v, .. } => QueryResult::Scalar(v),
                Value::String { .. } | Value::Matrix(_) => QueryResult::Other,
            }),
            Err(error @ QueryError::Stopped(Stopped::Cancelled)) => Err(EvaluateError::Cancelled(error.to_string())),
            Err(error) => Err(EvaluateError::Failed(error.to_string())),
        }
    }

    fn query_text(&self, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let expr = fk_promql_syntax::parse(text, &self.queries.flags.parser)
            .map_err(|e| EvaluateError::Failed(e.to_string()))?;
        self.query(&expr, ts_ms)
    }
}
