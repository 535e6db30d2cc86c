//! Expressions as text: on one line ([`Display`](fmt::Display)), and split over lines where they are long
//! ([`prettify`]). Both print what Prometheus prints.

use std::fmt::{self, Write};

use fk_model::labels::write_quoted;
use fk_model::name::is_legacy_label_name;
use fk_model::{Duration, METRIC_NAME, MatchKind};

use crate::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, DurationNode, Expr, ExprKind, Grouping, MatrixSelector,
    RangeMode, Subquery, VectorSelector,
};

/// Longest line of the formatter, in bytes, as the API and promtool have it.
pub const LINE_BYTES_MAX: usize = 100;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expr(f, self)
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Const(ms) => write!(f, "{}", Duration(*ms)),
            DurationExpr::Expr(node) => write!(f, "{node}"),
        }
    }
}

impl fmt::Display for DurationNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurationNode::Number(value) => write_number(f, *value),
            DurationNode::Duration(seconds) => write_seconds(f, *seconds),
            DurationNode::Step => f.write_str("step()"),
            DurationNode::Range => f.write_str("range()"),
            DurationNode::Negate(inner) => write!(f, "-{inner}"),
            DurationNode::Binary(op, lhs, rhs) => write!(f, "{lhs} {} {rhs}", op.name()),
            DurationNode::Min(a, b) => write!(f, "min_of({a}, {b})"),
            DurationNode::Max(a, b) => write!(f, "max_of({a}, {b})"),
            DurationNode::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

fn write_expr(f: &mut impl Write, expr: &Expr) -> fmt::Result {
    match &expr.kind {
        ExprKind::Number(value) => write_number(f, *value),
        ExprKind::Duration(seconds) => write_seconds(f, *seconds),
        ExprKind::String(text) => write_quoted(f, text),
        ExprKind::VectorSelector(selector) => write_selector(f, selector),
        ExprKind::MatrixSelector(matrix) => write_matrix(f, matrix),
        ExprKind::Subquery(subquery) => {
            write_expr(f, &subquery.expr)?;
            write_subquery_suffix(f, subquery)
        }
        ExprKind::Call(call) => {
            write!(f, "{}(", call.function.name)?;
            for (i, arg) in call.args.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write_expr(f, arg)?;
            }
            f.write_char(')')
        }
        ExprKind::Aggregate(aggregate) => {
            write_aggregate_head(f, aggregate)?;
            f.write_char('(')?;
            if let Some(param) = &aggregate.param {
                write_expr(f, param)?;
                f.write_str(", ")?;
            }
            write_expr(f, &aggregate.expr)?;
            f.write_char(')')
        }
        ExprKind::Binary(binary) => {
            write_expr(f, &binary.lhs)?;
            f.write_char(' ')?;
            write_operator(f, binary)?;
            f.write_char(' ')?;
            write_expr(f, &binary.rhs)
        }
        ExprKind::Unary { negate, expr } => {
            f.write_char(if *negate { '-' } else { '+' })?;
            write_expr(f, expr)
        }
        ExprKind::Paren(inner) => {
            f.write_char('(')?;
            write_expr(f, inner)?;
            f.write_char(')')
        }
    }
}

/// Without exponent, as Go's `%f` with the shortest precision.
fn write_number(f: &mut impl Write, value: f64) -> fmt::Result {
    match value {
        v if v == f64::INFINITY => f.write_str("+Inf"),
        v if v == f64::NEG_INFINITY => f.write_str("-Inf"),
        v => write!(f, "{v}"),
    }
}

/// Seconds as a duration.
fn write_seconds(f: &mut impl Write, seconds: f64) -> fmt::Result {
    write!(f, "{}", Duration((seconds * 1000.0).round() as i64))
}

fn write_labels(f: &mut impl Write, labels: &[String]) -> fmt::Result {
    f.write_char('(')?;
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        if is_legacy_label_name(label) {
            f.write_str(label)?;
        } else {
            write_quoted(f, label)?;
        }
    }
    f.write_char(')')
}

/// `sum by (a) `; without a grouping no blank follows.
fn write_aggregate_head(f: &mut impl Write, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.name())?;
    let (word, labels) = match &aggregate.grouping {
        Grouping::By(labels) if labels.is_empty() => return Ok(()),
        Grouping::By(labels) => ("by", labels),
        Grouping::Without(labels) => ("without", labels),
    };
    write!(f, " {word} ")?;
    write_labels(f, labels)?;
    f.write_char(' ')
}

/// The operator of a binary expression with its modifiers.
fn write_operator(f: &mut impl Write, binary: &Binary) -> fmt::Result {
    f.write_str(binary.op.name())?;
    if binary.return_bool {
        f.write_str(" bool")?;
    }
    let Some(matching) = &binary.matching else { return Ok(()) };
    let group = match matching.card {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        f.write_str(if matching.on { " on " } else { " ignoring " })?;
        write_labels(f, &matching.labels)?;
    }
    if let Some(group) = group {
        write!(f, " {group} ")?;
        write_labels(f, &matching.include)?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right => write_fill(f, "fill", left),
        (left, right) => {
            left.map_or(Ok(()), |left| write_fill(f, "fill_left", left))?;
            right.map_or(Ok(()), |right| write_fill(f, "fill_right", right))
        }
    }
}

fn write_fill(f: &mut impl Write, word: &str, value: f64) -> fmt::Result {
    write!(f, " {word} (")?;
    write_number(f, value)?;
    f.write_char(')')
}

fn write_selector(f: &mut impl Write, selector: &VectorSelector) -> fmt::Result {
    write_series(f, selector)?;
    write_mode(f, selector.mode)?;
    write_time(f, selector.at, &selector.offset)
}

/// Name and matchers.
fn write_series(f: &mut impl Write, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    f.write_str(name)?;
    let is_name = |m: &&fk_model::Matcher| {
        m.name == METRIC_NAME && m.kind == MatchKind::Equal && m.value == name && !name.is_empty()
    };
    let mut matchers: Vec<String> = selector.matchers.iter().filter(|m| !is_name(m)).map(ToString::to_string).collect();
    if matchers.is_empty() {
        return Ok(());
    }
    matchers.sort();
    write!(f, "{{{}}}", matchers.join(","))
}

fn write_mode(f: &mut impl Write, mode: RangeMode) -> fmt::Result {
    f.write_str(match mode {
        RangeMode::Plain => "",
        RangeMode::Anchored => " anchored",
        RangeMode::Smoothed => " smoothed",
    })
}

fn write_time(f: &mut impl Write, at: Option<At>, offset: &DurationExpr) -> fmt::Result {
    match at {
        Some(At::Time(ms)) => write!(
            f,
            " @ {}{}.{:03}",
            if ms < 0 { "-" } else { "" },
            ms.unsigned_abs() / 1000,
            ms.unsigned_abs() % 1000
        )?,
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        None => {}
    }
    match offset {
        DurationExpr::Const(0) => Ok(()),
        offset => write!(f, " offset {offset}"),
    }
}

fn write_matrix(f: &mut impl Write, matrix: &MatrixSelector) -> fmt::Result {
    let selector = &matrix.selector;
    write_series(f, selector)?;
    write!(f, "[{}]", matrix.range)?;
    write_mode(f, selector.mode)?;
    write_time(f, selector.at, &selector.offset)
}

fn write_subquery_suffix(f: &mut impl Write, subquery: &Subquery) -> fmt::Result {
    write!(f, "[{}:", subquery.range)?;
    if let Some(step) = &subquery.step {
        write!(f, "{step}")?;
    }
    f.write_char(']')?;
    write_time(f, subquery.at, &subquery.offset)
}

// --- The formatter ---

/// The expression split over lines wherever a part of it is longer than [`LINE_BYTES_MAX`]: two blanks a level.
pub fn prettify(expr: &Expr) -> String {
    prettify_to(expr, LINE_BYTES_MAX)
}

/// [`prettify`] with another longest line.
pub fn prettify_to(expr: &Expr, line_bytes_max: usize) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = Pretty { out: &mut out, line_bytes_max }.expr(expr, 0);
    out
}

struct Pretty<'a> {
    out: &'a mut String,
    line_bytes_max: usize,
}

/// Counts bytes and fails when there are too many, so that long parts are not printed just to be measured.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

impl Pretty<'_> {
    fn too_long(&self, expr: &Expr) -> bool {
        write_expr(&mut Room(self.line_bytes_max), expr).is_err()
    }

    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n("  ", level));
    }

    fn expr(&mut self, expr: &Expr, level: usize) -> fmt::Result {
        let whole = !self.too_long(expr);
        match &expr.kind {
            // As Prometheus has it, a subquery that fits is not indented.
            ExprKind::Subquery(_) if whole => {}
            // The first line of these is that of a part.
            ExprKind::Subquery(_) | ExprKind::Binary(_) if !whole => {}
            _ => self.indent(level),
        }
        if whole {
            return write_expr(self.out, expr);
        }
        match &expr.kind {
            ExprKind::Aggregate(aggregate) => {
                write_aggregate_head(self.out, aggregate)?;
                self.out.push_str("(\n");
                if let Some(param) = &aggregate.param {
                    self.expr(param, level + 1)?;
                    self.out.push_str(",\n");
                }
                self.expr(&aggregate.expr, level + 1)?;
                self.close(level)
            }
            ExprKind::Call(call) => {
                self.out.push_str(call.function.name);
                self.out.push_str("(\n");
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(",\n");
                    }
                    self.expr(arg, level + 1)?;
                }
                self.close(level)
            }
            ExprKind::Paren(inner) => {
                self.out.push_str("(\n");
                self.expr(inner, level + 1)?;
                self.close(level)
            }
            ExprKind::Binary(binary) => {
                self.expr(&binary.lhs, level + 1)?;
                self.out.push('\n');
                self.indent(level);
                write_operator(self.out, binary)?;
                self.out.push('\n');
                self.expr(&binary.rhs, level + 1)
            }
            ExprKind::Unary { negate, expr } => {
                self.out.push(if *negate { '-' } else { '+' });
                // The operand follows directly, whatever its first line is indented by.
                let start = self.out.len();
                self.expr(expr, level)?;
                let blanks = self.out[start..].bytes().take_while(|b| *b == b' ').count();
                self.out.replace_range(start..start + blanks, "");
                Ok(())
            }
            ExprKind::Subquery(subquery) => {
                self.expr(&subquery.expr, level)?;
                write_subquery_suffix(self.out, subquery)
            }
            _ => write_expr(self.out, expr),
        }
    }

    fn close(&mut self, level: usize) -> fmt::Result {
        self.out.push('\n');
        self.indent(level);
        self.out.push(')');
        Ok(())
    }
}
