//! PromQL evaluation: an expression, a range of steps and a storage in, a value out.
//!
//! The engine is series-major. An operator handles one series over *all* steps of the query before it turns to the next
//! series: windows slide over decoded columns, labels are looked at once per series and never per step, and operators
//! pass series on one after another, so that `sum by (x) (rate(y[5m]))` holds groups and not series. What comes out is
//! bit for bit what Prometheus computes step by step, because sums are taken in the same order with the same
//! compensation; where a result depends on the order of series, it is the order of the storage.
//!
//! The crate knows nothing of dates, threads that serve requests, or transport: the caller passes the steps and a
//! [`Control`] that ends an evaluation early: at its deadline, when it is cancelled, or when it would hold more memory than
//! it may. Start with [`evaluate`], then `eval.rs`, the dispatcher.
//!
//! A value is a float or a native histogram; what concerns the latter is in `histograms/`, apart from the path of floats.
//!

mod aggregate;
mod annotations;
mod binary;
mod calls;
mod column;
mod date;
mod eval;
mod explain;
mod histogram;
mod histograms;
mod info;
mod instant;
mod kernels;
mod keys;
mod lanes;
mod math;
mod order;
mod pdq;
mod regression;
mod relabel;
mod select;
mod starts;
mod topk;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use fk_model::{FloatHistogram, Labels};
use fk_promql_syntax::ast::Expr;
use fk_storage::{Control, Queryable, Reservation, Stopped, StorageError};

pub use explain::ExplainNode;

/// One evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// What to compute.
    pub expr: &'a Expr,
    /// The text `expr` was parsed from: annotations name line and column in it.
    pub text: &'a str,
    /// First step, ms.
    pub start_ms: i64,
    /// Last step, ms, included if it falls on a step.
    pub end_ms: i64,
    /// Distance of steps, ms; 0: an instant query at `start_ms`.
    pub step_ms: i64,
    /// Settings of the engine.
    pub options: &'a QueryOptions,
    /// Ends the evaluation early.
    pub control: &'a Control,
}

/// Settings of the engine, the same for many queries. The default is that of a Prometheus server without flags.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// How old a sample an instant selector may return, ms (`--query.lookback-delta`).
    pub lookback_ms: i64,
    /// Step of subqueries that name none, ms (`global.evaluation_interval`).
    pub default_subquery_step_ms: i64,
    /// Most samples held in memory at once (`--query.max-samples`).
    pub max_samples: usize,
    /// Metric names that functions drop are dropped at the end (`promql-delayed-name-removal`).
    pub delayed_name_removal: bool,
    /// Functions of counters look at start timestamps (`use-start-timestamps`).
    pub use_start_timestamps: bool,
    /// Warn of non-counters by the label `__type__` instead of the metric name (`type-and-unit-labels`).
    pub type_and_unit_labels: bool,
    /// Count samples per step as well ([`QueryStats::samples_per_step`]).
    pub per_step_stats: bool,
    /// Say what each part of the query takes and gives ([`Answer::explain`]).
    pub explain: bool,
    /// Threads that one large selector uses; 0: as many as the machine has.
    pub threads_max: usize,
}

impl Default for QueryOptions {
    fn default() -> QueryOptions {
        QueryOptions {
            lookback_ms: 300_000,
            default_subquery_step_ms: 60_000,
            max_samples: 50_000_000,
            delayed_name_removal: false,
            use_start_timestamps: false,
            type_and_unit_labels: false,
            per_step_stats: false,
            explain: false,
            threads_max: 0,
        }
    }
}

/// What an evaluation gives.
#[derive(Debug)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// Warnings, each once, with their prefix `PromQL warning: ` and position; also those of the storage.
    pub warnings: Vec<String>,
    /// The same for hints, `PromQL info: `.
    pub infos: Vec<String>,
    /// What it cost.
    pub stats: QueryStats,
    /// What took how long.
    pub timings: Timings,
    /// What each part of the query took and gave, if [`QueryOptions::explain`] asks for it.
    pub explain: Option<ExplainNode>,
    /// The memory of `value`: it counts as the query's until this is dropped.
    pub memory: Reservation,
}

/// Parts of the time of an evaluation; the rest is evaluating.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Finding series.
    pub prepare: Duration,
    /// Sorting the result.
    pub sort: Duration,
}

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of an instant query whose expression is a scalar.
    Scalar {
        /// Time of the query, ms.
        t_ms: i64,
        /// Value.
        v: f64,
    },
    /// Of an instant query whose expression is a string.
    String {
        /// Time of the query, ms.
        t_ms: i64,
        /// Value.
        v: String,
    },
    /// Of an instant query whose expression is an instant vector, in the order of evaluation.
    Vector(Vec<VectorSample>),
    /// Of a range query, sorted by labels; also of an instant query whose expression is a range vector.
    Matrix(Vec<MatrixSeries>),
}

/// An element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// Labels.
    pub labels: Labels,
    /// Time of the query, ms.
    pub t_ms: i64,
    /// Value; of a histogram nothing that means anything.
    pub v: f64,
    /// The value if it is a native histogram.
    pub h: Option<Arc<FloatHistogram>>,
}

/// A series of a matrix: columns of equal length, ascending by time, never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// Labels.
    pub labels: Labels,
    /// Times, ms.
    pub t: Vec<i64>,
    /// Values; of a histogram nothing that means anything.
    pub v: Vec<f64>,
    /// The native histograms among the values: index into `t`, ascending, and histogram.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
}

impl MatrixSeries {
    /// The points in order of time, floats and histograms.
    pub fn points(&self) -> impl Iterator<Item = (i64, f64, Option<&Arc<FloatHistogram>>)> {
        let mut histograms = self.histograms.iter().peekable();
        self.t.iter().zip(&self.v).enumerate().map(move |(at, (t, v))| {
            let h = histograms.next_if(|(of, _)| *of as usize == at).map(|(_, h)| h);
            (*t, *v, h)
        })
    }
}

/// What an evaluation cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Samples that selectors took part in the computation of steps: one per step and series of an instant selector, the
    /// size of the window per step and series of a range selector.
    pub samples_total: u64,
    /// The same by step, if [`QueryOptions::per_step_stats`] asks for it.
    pub samples_per_step: Vec<u64>,
    /// [`QueryStats::samples_read`] by step, likewise.
    pub samples_read_per_step: Vec<u64>,
    /// Samples read for that: those that several windows of a range selector share count once.
    pub samples_read: u64,
    /// Most samples held in memory at once.
    pub samples_peak: usize,
    /// Series that selectors looked at.
    pub series_total: u64,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// More than [`QueryOptions::max_samples`] in memory.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The deadline passed, the query was cancelled, or it needs too much memory.
    #[error("{} in expression evaluation", .0)]
    Stopped(Stopped),
    /// The storage failed. Text as in Prometheus.
    #[error("expanding series: {0}")]
    Storage(#[source] StorageError),
    /// The expression cannot be evaluated on this data.
    #[error("{0}")]
    Execution(String),
    /// Prometheus can, we cannot; names it.
    #[error("{0} is not supported")]
    Unsupported(String),
}

impl QueryError {
    /// An error of the expression.
    pub(crate) fn execution(text: impl Into<String>) -> QueryError {
        QueryError::Execution(text.into())
    }
}

impl From<Stopped> for QueryError {
    fn from(stopped: Stopped) -> QueryError {
        QueryError::Stopped(stopped)
    }
}

impl From<StorageError> for QueryError {
    fn from(error: StorageError) -> QueryError {
        match error {
            StorageError::Stopped(stopped) => QueryError::Stopped(stopped),
            error => QueryError::Storage(error),
        }
    }
}

/// Evaluates a query. Blocks; runs on the caller's thread and for large selectors on helpers that end with the call.
pub fn evaluate(storage: &dyn Queryable, query: &Query<'_>) -> Result<Answer, QueryError> {
    eval::evaluate(storage, query)
}
