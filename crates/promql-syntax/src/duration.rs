//! Durations in ranges, steps and offsets: numbers, literals, and arithmetic over them that the evaluator computes when
//! it knows the query's step and range.

use crate::ast::{BinaryOp, DurationExpr, DurationNode, ExprKind, Pos};
use crate::parser::{Halt, NESTING_MAX, Parser, Step, precedence};
use crate::token::{Kind, Preprocessor};

/// Most seconds that fit Go's nanoseconds.
const SECONDS_MAX: f64 = (1u64 << 63) as f64 / 1e9;

/// A duration with its place. `pos` is empty and `node` zero where a problem has been noted already.
pub(crate) struct Placed {
    pos: Pos,
    node: DurationNode,
    height: usize,
}

impl Placed {
    fn zero() -> Placed {
        Placed { pos: Pos::default(), node: DurationNode::Number(0.0), height: 1 }
    }

    fn literal(&mut self) -> Option<&mut f64> {
        match &mut self.node {
            DurationNode::Number(value) | DurationNode::Duration(value) => Some(value),
            _ => None,
        }
    }

    fn into_expr(mut self) -> DurationExpr {
        match self.literal() {
            Some(seconds) => DurationExpr::Const(millis(*seconds)),
            None => DurationExpr::Expr(Box::new(self.node)),
        }
    }
}

/// Whole milliseconds; what is below is cut off, behind rounding to nanoseconds.
fn millis(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}

impl Parser<'_> {
    /// A duration that must be positive if it is constant.
    pub(crate) fn positive(&mut self, mut duration: Placed) -> DurationExpr {
        let pos = duration.pos;
        if duration.literal().is_some_and(|value| *value <= 0.0) {
            self.problem(pos, "duration must be greater than 0");
            duration = Placed::zero();
        }
        duration.into_expr()
    }

    /// A duration between brackets.
    pub(crate) fn duration_expr(&mut self) -> Step<Placed> {
        self.duration_binary(0, 0)
    }

    /// What follows `offset`: without parentheses only a single term.
    pub(crate) fn offset_duration(&mut self) -> Step<DurationExpr> {
        let sign = self.peek();
        let negate = match sign.kind {
            Kind::Op(BinaryOp::Add) => Some(false),
            Kind::Op(BinaryOp::Sub) => Some(true),
            _ => None,
        };
        if negate.is_some() {
            self.advance();
        }
        let mut term = self.duration_term(0)?;
        if let Some(negate) = negate {
            term = self.signed_duration(sign.start, negate, term);
        }
        Ok(term.into_expr())
    }

    fn duration_binary(&mut self, min: u8, nesting: usize) -> Step<Placed> {
        let mut lhs = self.duration_operand(nesting)?;
        loop {
            let token = self.peek();
            let Kind::Op(op) = token.kind else { return Ok(lhs) };
            if precedence(op) < precedence(BinaryOp::Add).max(min) || op == BinaryOp::Atan2 {
                return Ok(lhs);
            }
            self.advance();
            let next = if op == BinaryOp::Pow { precedence(op) } else { precedence(op) + 1 };
            let mut rhs = self.duration_binary(next, nesting + 1)?;
            let zero = rhs.literal().is_some_and(|value| *value == 0.0);
            // Texts as in Prometheus:
            let problem = match op {
                BinaryOp::Div if zero => Some("division by zero"),
                BinaryOp::Mod if zero => Some("modulo by zero"),
                _ => None,
            };
            if let Some(problem) = problem {
                self.problem(token.pos(), problem);
                lhs = Placed::zero();
                continue;
            }
            let pos = Pos { start: lhs.pos.start, end: rhs.pos.end };
            let height = lhs.height.max(rhs.height) + 1;
            if height > NESTING_MAX {
                return Err(self.duration_too_deep(pos));
            }
            lhs = Placed { pos, node: DurationNode::Binary(op, Box::new(lhs.node), Box::new(rhs.node)), height };
        }
    }

    fn duration_too_deep(&mut self, pos: Pos) -> Halt {
        self.problem(pos, format!("duration expression is nested too deeply: more than {NESTING_MAX} levels"));
        Halt::Reported
    }

    fn duration_operand(&mut self, nesting: usize) -> Step<Placed> {
        let sign = self.peek();
        if nesting > NESTING_MAX {
            return Err(self.duration_too_deep(sign.pos()));
        }
        let negate = match sign.kind {
            Kind::Op(BinaryOp::Add) => false,
            Kind::Op(BinaryOp::Sub) => true,
            _ => return self.duration_term(nesting),
        };
        self.advance();
        let operand = self.duration_binary(precedence(BinaryOp::Mul) + 1, nesting + 1)?;
        Ok(self.signed_duration(sign.start, negate, operand))
    }

    fn signed_duration(&mut self, start: usize, negate: bool, mut operand: Placed) -> Placed {
        operand.pos.start = start;
        if let Some(value) = operand.literal() {
            if negate {
                *value = -*value;
            }
            return operand;
        }
        if negate {
            operand.node = DurationNode::Negate(Box::new(operand.node));
            operand.height += 1;
        }
        operand
    }

    fn duration_term(&mut self, nesting: usize) -> Step<Placed> {
        let token = self.peek();
        let node = match token.kind {
            Kind::Number | Kind::Duration => {
                let literal = self.number_or_duration();
                let node = match literal.kind() {
                    ExprKind::Duration(seconds) => DurationNode::Duration(*seconds),
                    ExprKind::Number(seconds) => DurationNode::Number(*seconds),
                    _ => return Err(Halt::Unreported),
                };
                let mut placed = Placed { pos: token.pos(), node, height: 1 };
                if placed.literal().is_some_and(|value| value.is_nan() || value.abs() > SECONDS_MAX) {
                    self.problem(token.pos(), "duration out of range");
                    return Ok(Placed::zero());
                }
                return Ok(placed);
            }
            Kind::LeftParen => {
                self.advance();
                let inner = self.duration_binary(0, nesting + 1)?;
                let close = self.take(Kind::RightParen).ok_or(Halt::Unreported)?;
                let pos = Pos { start: token.start, end: close.end };
                return Ok(Placed { pos, node: DurationNode::Paren(Box::new(inner.node)), height: inner.height + 1 });
            }
            Kind::Preprocessor(Preprocessor::Step) => DurationNode::Step,
            Kind::Preprocessor(Preprocessor::Range) => DurationNode::Range,
            Kind::Preprocessor(which @ (Preprocessor::MinOf | Preprocessor::MaxOf)) => {
                self.advance();
                self.take(Kind::LeftParen).ok_or(Halt::Unreported)?;
                let a = self.duration_binary(0, nesting + 1)?;
                self.take(Kind::Comma).ok_or(Halt::Unreported)?;
                let b = self.duration_binary(0, nesting + 1)?;
                let close = self.take(Kind::RightParen).ok_or(Halt::Unreported)?;
                let height = a.height.max(b.height) + 1;
                let (a, b) = (Box::new(a.node), Box::new(b.node));
                let node = if which == Preprocessor::MinOf { DurationNode::Min(a, b) } else { DurationNode::Max(a, b) };
                return Ok(Placed { pos: Pos { start: token.start, end: close.end }, node, height });
            }
            _ => return Err(Halt::Unreported),
        };
        self.advance();
        self.take(Kind::LeftParen).ok_or(Halt::Unreported)?;
        let close = self.take(Kind::RightParen).ok_or(Halt::Unreported)?;
        Ok(Placed { pos: Pos { start: token.start, end: close.end }, node, height: 1 })
    }
}
