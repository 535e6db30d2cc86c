//! The syntax tree. Every node knows where it stands in the query.

use fk_model::Matcher;

/// A range of bytes of the query text: `start` included, `end` excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

/// An expression with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Where it stands.
    pub pos: Pos,
    /// What it is.
    pub kind: ExprKind,
}

/// The kinds of expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `1.5`
    Number(f64),
    /// `5m` where a number is expected: its seconds. Evaluates like a number and prints as a duration.
    Duration(f64),
    /// `"text"`
    String(String),
    /// `metric{label="value"} offset 5m @ 10`
    VectorSelector(VectorSelector),
    /// `metric[5m]`
    MatrixSelector(MatrixSelector),
    /// `expr[1h:5m]`
    Subquery(Box<Subquery>),
    /// `f(a, b)`
    Call(Call),
    /// `sum by (x) (expr)`
    Aggregate(Box<Aggregate>),
    /// `a + on (x) b`
    Binary(Box<Binary>),
    /// `-expr`; a plus sign leaves no node behind except here with `negate: false`.
    Unary {
        /// Whether the sign is a minus.
        negate: bool,
        /// Operand.
        expr: Box<Expr>,
    },
    /// `(expr)`
    Paren(Box<Expr>),
}

/// Which type an expression has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// One sample per series and step.
    Vector,
    /// Several samples per series and step.
    Matrix,
    /// A text.
    String,
}

impl ValueType {
    /// As error messages name it.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

/// The `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// `@ 1234.5`, in ms.
    Time(i64),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// A duration as written: a constant, or an expression over `step()`, `range()` and other durations that is computed
/// when the query's range and step are known (`x[step() * 2]`).
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// Milliseconds.
    Const(i64),
    /// An expression.
    Expr(Box<DurationNode>),
}

/// A node of a duration expression.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationNode {
    /// A number of seconds.
    Number(f64),
    /// A duration literal, in seconds.
    Duration(f64),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-x`
    Negate(Box<DurationNode>),
    /// `x + y`, `- * / % ^`
    Binary(BinaryOp, Box<DurationNode>, Box<DurationNode>),
    /// `min_of(x, y)`
    Min(Box<DurationNode>, Box<DurationNode>),
    /// `max_of(x, y)`
    Max(Box<DurationNode>, Box<DurationNode>),
    /// `(x)`
    Paren(Box<DurationNode>),
}

impl Default for DurationExpr {
    fn default() -> DurationExpr {
        DurationExpr::Const(0)
    }
}

/// How a selector looks at the ends of its range (experimental).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RangeMode {
    /// As always.
    #[default]
    Plain,
    /// `anchored`
    Anchored,
    /// `smoothed`
    Smoothed,
}

/// An instant vector selector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name written in front of the braces, if any; it is also among the matchers.
    pub name: Option<String>,
    /// All matchers; one for `__name__` included where a name is given.
    pub matchers: Vec<Matcher>,
    /// `offset`, may be negative.
    pub offset: DurationExpr,
    /// `@`
    pub at: Option<At>,
    /// `anchored` or `smoothed`.
    pub mode: RangeMode,
}

/// A range vector selector.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// The series, with offset and `@`.
    pub selector: VectorSelector,
    /// Where the selector without its range stands.
    pub selector_pos: Pos,
    /// Length of the range.
    pub range: DurationExpr,
}

/// A subquery.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// Length of the range.
    pub range: DurationExpr,
    /// Resolution; `None`: the default evaluation interval.
    pub step: Option<DurationExpr>,
    /// `offset`, may be negative.
    pub offset: DurationExpr,
    /// `@`
    pub at: Option<At>,
}

/// A function call. The parser has checked number and types of the arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which function; its entry in [`crate::functions::FUNCTIONS`].
    pub function: &'static crate::functions::Function,
    /// Arguments as written.
    pub args: Vec<Expr>,
}

/// Aggregation operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in the language")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// As the language names it.
    pub fn name(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the first of two arguments; `None`: there is only the vector.
    pub fn param_type(self) -> Option<ValueType> {
        match self {
            AggregateOp::CountValues => Some(ValueType::String),
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => Some(ValueType::Scalar),
            _ => None,
        }
    }

    /// Only with `promql-experimental-functions`.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

/// `by` or `without`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Only these labels; `by ()` if none is written.
    By(Vec<String>),
    /// All but these labels and the metric name.
    Without(Vec<String>),
}

/// An aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Operator.
    pub op: AggregateOp,
    /// The vector aggregated.
    pub expr: Expr,
    /// First argument of `topk`, `bottomk`, `quantile`, `count_values`, `limitk`, `limit_ratio`.
    pub param: Option<Expr>,
    /// Grouping.
    pub grouping: Grouping,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in the language")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
    And,
    Or,
    Unless,
    /// `</`, native histograms only.
    TrimUpper,
    /// `>/`, native histograms only.
    TrimLower,
}

impl BinaryOp {
    /// As the language writes it.
    pub fn name(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Gt => ">",
            BinaryOp::Le => "<=",
            BinaryOp::Ge => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    /// Whether it is one of `== != < > <= >=`.
    pub fn is_comparison(self) -> bool {
        matches!(self, BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Gt | BinaryOp::Le | BinaryOp::Ge)
    }

    /// Whether it is one of `and or unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// How many samples of one side a sample of the other may meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One to one.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the two vectors of a binary operation are matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// Cardinality.
    pub card: Cardinality,
    /// Whether `labels` came with `on` (otherwise `ignoring`, also where nothing is written).
    pub on: bool,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Labels of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// `fill` or `fill_left`: value of a missing left sample.
    pub fill_left: Option<f64>,
    /// `fill` or `fill_right`: value of a missing right sample.
    pub fill_right: Option<f64>,
}

/// A binary operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// Operator.
    pub op: BinaryOp,
    /// Left side.
    pub lhs: Expr,
    /// Right side.
    pub rhs: Expr,
    /// `bool`
    pub return_bool: bool,
    /// Present exactly if both sides are vectors.
    pub matching: Option<Matching>,
}
