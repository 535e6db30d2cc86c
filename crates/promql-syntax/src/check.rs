//! Checks the types of a parsed expression.
//!
//! Works through an explicit list of tasks instead of recursion: the tree may be as high as the query is long. The
//! order of the messages is that of Prometheus.

use crate::ast::{Aggregate, Binary, Call, Cardinality, Expr, ExprKind, Pos, ValueType, VectorSelector};
use crate::error::{ERRORS_MAX, ParseErr};
use crate::lexer::is_space;
use crate::token::quoted;

/// What an expected type is expected in.
#[derive(Clone, Copy)]
enum Context {
    Aggregation,
    Parameter,
    Call(&'static str),
}

enum Task<'t> {
    /// Check the parts of an expression, then itself.
    Enter(&'t Expr),
    /// Check an expression whose parts have left their types on the stack.
    Leave(&'t Expr),
    /// The second argument of `info`, which may match everything.
    Unrestricted,
    /// Compare the last type with the one wanted.
    Expect(Pos, ValueType, Context),
}

struct Checker<'t, 'e> {
    text: &'t str,
    tasks: Vec<Task<'t>>,
    types: Vec<ValueType>,
    errors: &'e mut Vec<ParseErr>,
}

/// Notes every problem with types in `expr`.
pub(crate) fn check(text: &str, expr: &Expr, errors: &mut Vec<ParseErr>) {
    let mut checker = Checker { text, tasks: vec![Task::Enter(expr)], types: Vec::new(), errors };
    while let Some(task) = checker.tasks.pop() {
        match task {
            Task::Enter(expr) => checker.enter(expr),
            Task::Leave(expr) => checker.leave(expr),
            Task::Unrestricted => checker.types.push(ValueType::Vector),
            Task::Expect(pos, wanted, context) => checker.expect(pos, wanted, context),
        }
    }
}

impl<'t> Checker<'t, '_> {
    fn problem(&mut self, pos: Pos, message: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ParseErr { pos, message: message.into() });
        }
    }

    fn popped(&mut self) -> ValueType {
        self.types.pop().unwrap_or(ValueType::Scalar)
    }

    fn expect(&mut self, pos: Pos, wanted: ValueType, context: Context) {
        let got = self.popped();
        if got == wanted {
            return;
        }
        let context = match context {
            Context::Aggregation => "aggregation expression".to_owned(),
            Context::Parameter => "aggregation parameter".to_owned(),
            Context::Call(name) => format!("call to function {}", quoted(name)),
        };
        self.problem(pos, format!("expected type {} in {context}, got {}", wanted.name(), got.name()));
    }

    fn enter(&mut self, expr: &'t Expr) {
        let first = self.tasks.len();
        // In the order in which they are to happen; turned round below.
        match &expr.kind {
            ExprKind::Aggregate(aggregate) => self.enter_aggregate(aggregate),
            ExprKind::Call(call) => self.enter_call(expr, call),
            ExprKind::Binary(binary) => self.tasks.extend([Task::Enter(&binary.lhs), Task::Enter(&binary.rhs)]),
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => self.tasks.push(Task::Enter(inner)),
            ExprKind::Subquery(subquery) => self.tasks.push(Task::Enter(&subquery.expr)),
            _ => return self.leave(expr),
        }
        self.tasks.push(Task::Leave(expr));
        self.tasks[first..].reverse();
    }

    fn enter_aggregate(&mut self, aggregate: &'t Aggregate) {
        let Aggregate { op, expr, param, .. } = aggregate;
        self.tasks.push(Task::Enter(expr));
        self.tasks.push(Task::Expect(expr.pos, ValueType::Vector, Context::Aggregation));
        if let (Some(param), Some(wanted)) = (param, op.param_type()) {
            self.tasks.push(Task::Enter(param));
            self.tasks.push(Task::Expect(param.pos, wanted, Context::Parameter));
        }
    }

    fn enter_call(&mut self, expr: &Expr, call: &'t Call) {
        let function = call.function;
        let (n_types, n_args) = (function.args.len(), call.args.len());
        let name = quoted(function.name);
        let at_least = n_types.saturating_sub(1);
        let at_most = at_least + usize::try_from(function.variadic).unwrap_or(0);
        // Texts as in Prometheus:
        if function.variadic == 0 {
            if n_args != n_types {
                self.problem(expr.pos, format!("expected {n_types} argument(s) in call to {name}, got {n_args}"));
            }
        } else if n_args < at_least {
            self.problem(expr.pos, format!("expected at least {at_least} argument(s) in call to {name}, got {n_args}"));
        } else if function.variadic > 0 && n_args > at_most {
            self.problem(expr.pos, format!("expected at most {at_most} argument(s) in call to {name}, got {n_args}"));
        }

        let is_info = function.name == "info";
        for (i, arg) in call.args.iter().enumerate() {
            if i >= n_types && function.variadic == 0 {
                break;
            }
            let Some(wanted) = function.args.get(i.min(n_types.saturating_sub(1))) else { break };
            let task = match &arg.kind {
                ExprKind::VectorSelector(selector) if is_info && i == 1 => {
                    if selector.name.is_some() {
                        self.problem(arg.pos, "expected label selectors only, got vector selector instead");
                    }
                    Task::Unrestricted
                }
                _ => {
                    if is_info && i == 1 {
                        self.problem(arg.pos, "expected label selectors only");
                    }
                    Task::Enter(arg)
                }
            };
            self.tasks.push(task);
            self.tasks.push(Task::Expect(arg.pos, *wanted, Context::Call(function.name)));
        }
    }

    fn leave(&mut self, expr: &Expr) {
        let ty = match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::VectorSelector(selector) => {
                self.check_selector(expr.pos, selector);
                ValueType::Vector
            }
            ExprKind::MatrixSelector(matrix) => {
                self.check_selector(matrix.selector_pos, &matrix.selector);
                ValueType::Matrix
            }
            ExprKind::Subquery(_) => {
                let inner = self.popped();
                if inner != ValueType::Vector {
                    // Text as in Prometheus, which uses its short type names here.
                    let got = match inner {
                        ValueType::Matrix => "matrix",
                        other => other.name(),
                    };
                    self.problem(expr.pos, format!("subquery is only allowed on instant vector, got {got} instead"));
                }
                ValueType::Matrix
            }
            ExprKind::Paren(_) => self.popped(),
            ExprKind::Unary { .. } => {
                let inner = self.popped();
                if !matches!(inner, ValueType::Scalar | ValueType::Vector) {
                    let got = quoted(inner.name());
                    let wanted = "unary expression only allowed on expressions of type scalar or instant vector";
                    self.problem(expr.pos, format!("{wanted}, got {got}"));
                }
                inner
            }
            ExprKind::Call(call) => call.function.returns,
            ExprKind::Aggregate(_) => ValueType::Vector,
            ExprKind::Binary(binary) => self.leave_binary(expr.pos, binary),
        };
        self.types.push(ty);
    }

    fn leave_binary(&mut self, pos: Pos, binary: &Binary) -> ValueType {
        let (rhs, lhs) = (self.popped(), self.popped());
        let op = binary.op;
        let both_scalar = lhs == ValueType::Scalar && rhs == ValueType::Scalar;
        if binary.return_bool && !op.is_comparison() {
            let place = self.operator_pos(binary);
            self.problem(place, "bool modifier can only be used on comparison operators");
        }
        if op.is_comparison() && !binary.return_bool && both_scalar {
            let place = self.operator_pos(binary);
            self.problem(place, "comparisons between scalars must use BOOL modifier");
        }
        if let Some(matching) = &binary.matching
            && matching.on
        {
            for label in matching.labels.iter().filter(|l| matching.include.contains(l)) {
                let place = self.operator_pos(binary);
                let label = quoted(label);
                self.problem(place, format!("label {label} must not occur in ON and GROUP clause at once"));
            }
        }
        for (ty, side) in [(lhs, &binary.lhs), (rhs, &binary.rhs)] {
            if !matches!(ty, ValueType::Scalar | ValueType::Vector) {
                self.problem(side.pos, "binary expression must contain only scalar and instant vector types");
            }
        }
        if let Some(matching) = &binary.matching {
            let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
            if lhs != ValueType::Vector || rhs != ValueType::Vector {
                if !matching.labels.is_empty() {
                    self.problem(pos, "vector matching only allowed between instant vectors");
                }
                if fills {
                    self.problem(pos, "filling in missing series only allowed between instant vectors");
                }
            } else if op.is_set() {
                if matches!(matching.card, Cardinality::OneToMany | Cardinality::ManyToOne) {
                    self.problem(pos, format!("no grouping allowed for {} operation", quoted(op.name())));
                }
                if matching.card != Cardinality::ManyToMany {
                    self.problem(pos, "set operations must always be many-to-many");
                }
                if fills {
                    self.problem(pos, "filling in missing series not allowed for set operators");
                }
            }
        }
        if op.is_set() && (lhs == ValueType::Scalar || rhs == ValueType::Scalar) {
            self.problem(pos, format!("set operator {} not allowed in binary scalar expression", quoted(op.name())));
        }
        if both_scalar { ValueType::Scalar } else { ValueType::Vector }
    }

    /// From the operator to the end of its modifiers; without a blank between it and the right side one byte further.
    fn operator_pos(&self, binary: &Binary) -> Pos {
        let bytes = self.text.as_bytes();
        let blank = |at: usize| bytes.get(at).is_some_and(|b| is_space(char::from(*b)));
        let mut pos = Pos { start: binary.lhs.pos.end, end: binary.rhs.pos.start.saturating_sub(1) };
        while blank(pos.start) {
            pos.start += 1;
        }
        while pos.end > pos.start && blank(pos.end) {
            pos.end -= 1;
        }
        pos
    }

    fn check_selector(&mut self, pos: Pos, selector: &VectorSelector) {
        if let Some(name) = &selector.name {
            // The last matcher is the one made from the name in front of the braces.
            for matcher in selector.matchers.split_last().map_or(&[][..], |(_, others)| others) {
                if matcher.name == fk_model::METRIC_NAME {
                    let (name, other) = (quoted(name), quoted(&matcher.value));
                    self.problem(pos, format!("metric name must not be set twice: {name} or {other}"));
                }
            }
        } else if selector.matchers.iter().all(|m| m.matches_empty()) {
            self.problem(pos, "vector selector must contain at least one non-empty matcher");
        }
    }
}
