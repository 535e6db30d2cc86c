//! What is attached to an expression: ranges, subqueries, `offset`, `@`, `anchored` and `smoothed`.

use std::mem;

use crate::ast::{
    At, DurationExpr, Expr, ExprKind, MatrixSelector, Pos, RangeMode, Subquery, ValueType, VectorSelector,
};
use crate::parser::{Halt, Node, Parser, Step};
use crate::token::{Keyword, Kind, Preprocessor, Token};

impl Parser<'_> {
    /// `[5m]`, `[5m:1m]`, `offset 5m`, `@ 5`, `anchored`, `smoothed`, in any number.
    pub(crate) fn attachments(&mut self, mut node: Node) -> Step<Node> {
        loop {
            match self.peek().kind {
                Kind::LeftBracket => node = self.range_or_subquery(node)?,
                Kind::Keyword(Keyword::Offset) => self.offset(&mut node)?,
                Kind::At => self.at(&mut node)?,
                Kind::Keyword(Keyword::Anchored) => self.range_mode(&mut node, RangeMode::Anchored),
                Kind::Keyword(Keyword::Smoothed) => self.range_mode(&mut node, RangeMode::Smoothed),
                _ => return Ok(node),
            }
        }
    }

    fn range_or_subquery(&mut self, node: Node) -> Step<Node> {
        let open = self.advance();
        let range = match self.duration_expr() {
            Ok(range) => self.positive(range),
            Err(Halt::Reported) => return Err(Halt::Reported),
            Err(Halt::Unreported) => {
                return Err(self.unexpected("subquery or range selector", "number, duration, step(), or range()"));
            }
        };
        if let Some(close) = self.take(Kind::RightBracket) {
            return Ok(self.matrix_selector(node, range, open, close));
        }
        if self.take(Kind::Colon).is_none() {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        let step = if self.peek().kind == Kind::RightBracket {
            None
        } else {
            match self.duration_expr() {
                Ok(step) => Some(self.positive(step)),
                Err(Halt::Reported) => return Err(Halt::Reported),
                Err(Halt::Unreported) => {
                    let expected = "number, duration, step(), range(), or \"]\"";
                    return Err(self.unexpected("subquery selector", expected));
                }
            }
        };
        let Some(close) = self.take(Kind::RightBracket) else {
            return Err(self.unexpected("subquery selector", "\"]\""));
        };
        let pos = Pos { start: node.expr.pos.start, end: close.end };
        let height = node.height + 1;
        let subquery = Subquery { expr: node.into_expr(), range, step, offset: DurationExpr::default(), at: None };
        Ok(Node::new(pos, ExprKind::Subquery(Box::new(subquery)), height, ValueType::Matrix))
    }

    fn matrix_selector(&mut self, mut node: Node, range: DurationExpr, open: Token, close: Token) -> Node {
        // Texts as in Prometheus:
        let problem = match &node.expr.kind {
            ExprKind::VectorSelector(selector) if is_set(&selector.offset) => {
                Some("no offset modifiers allowed before range")
            }
            ExprKind::VectorSelector(selector) if selector.at.is_some() => Some("no @ modifiers allowed before range"),
            ExprKind::VectorSelector(_) => None,
            _ => Some("ranges only allowed for vector selectors"),
        };
        if let Some(problem) = problem {
            self.problem(Pos { start: open.start, end: close.end }, problem);
        }
        let selector_pos = node.expr.pos;
        let pos = Pos { start: selector_pos.start, end: close.end };
        let kind = match mem::replace(&mut node.expr.kind, ExprKind::Number(0.0)) {
            ExprKind::VectorSelector(selector) => {
                ExprKind::MatrixSelector(MatrixSelector { selector, selector_pos, range })
            }
            // Never handed out. It remains what it is not, so that what is attached to it is judged like a range.
            other => {
                drop(Node::new(pos, other, node.height, node.ty));
                return Node::leaf(pos, not_a_range(selector_pos, range), ValueType::Matrix);
            }
        };
        Node::leaf(pos, kind, ValueType::Matrix)
    }

    /// What `offset` and `@` of a node are kept in, or `None` after noting why there is no such thing.
    fn modified<'n>(
        &mut self,
        node: &'n mut Expr,
        modifier: &str,
    ) -> Option<(&'n mut DurationExpr, &'n mut Option<At>)> {
        let pos = node.pos;
        match &mut node.kind {
            ExprKind::VectorSelector(selector) => Some((&mut selector.offset, &mut selector.at)),
            ExprKind::MatrixSelector(matrix)
                if matrix.selector.matchers.is_empty() && matrix.selector.name.is_none() =>
            {
                self.problem(pos, "ranges only allowed for vector selectors");
                None
            }
            ExprKind::MatrixSelector(matrix) => Some((&mut matrix.selector.offset, &mut matrix.selector.at)),
            ExprKind::Subquery(subquery) => Some((&mut subquery.offset, &mut subquery.at)),
            _ => {
                self.problem(
                    pos,
                    format!(
                        "{modifier} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
                    ),
                );
                None
            }
        }
    }

    fn offset(&mut self, node: &mut Node) -> Step<()> {
        self.advance();
        let offset = match self.offset_duration() {
            Ok(offset) => offset,
            Err(Halt::Reported) => return Err(Halt::Reported),
            Err(Halt::Unreported) => return Err(self.unexpected("offset", "number, duration, step(), or range()")),
        };
        let end = self.last_closing;
        let pos = node.expr.pos;
        let Some((slot, _)) = self.modified(&mut node.expr, "offset") else { return Ok(()) };
        if is_set(slot) {
            self.problem(pos, "offset may not be set multiple times");
        } else {
            *slot = offset;
        }
        node.expr.pos.end = end;
        Ok(())
    }

    fn at(&mut self, node: &mut Node) -> Step<()> {
        self.advance();
        let at = match self.at_time() {
            Ok(at) => at,
            Err(Halt::Reported) => return Err(Halt::Reported),
            Err(Halt::Unreported) => return Err(self.unexpected("@", "timestamp")),
        };
        let end = self.last_closing;
        let pos = node.expr.pos;
        let at = match at {
            Ok(at) => at,
            Err(seconds) => {
                let seconds = at_seconds_text(seconds);
                self.problem(pos, format!("timestamp out of bounds for @ modifier: {seconds}"));
                At::Time(0)
            }
        };
        let Some((_, slot)) = self.modified(&mut node.expr, "@") else { return Ok(()) };
        if slot.is_some() {
            self.problem(pos, "@ <timestamp> may not be set multiple times");
            return Ok(());
        }
        *slot = Some(at);
        node.expr.pos.end = end;
        Ok(())
    }

    /// What follows `@`; the seconds, where they are no time.
    fn at_time(&mut self) -> Step<Result<At, f64>> {
        let at = match self.peek().kind {
            Kind::Preprocessor(Preprocessor::Start) => At::Start,
            Kind::Preprocessor(Preprocessor::End) => At::End,
            _ => {
                let seconds = self.signed()?;
                let ms = (seconds * 1000.0).round();
                // The bounds of Prometheus are those of the seconds; beyond them in milliseconds it would wrap around.
                return Ok(if ms.abs() < i64::MAX as f64 { Ok(At::Time(ms as i64)) } else { Err(seconds) });
            }
        };
        self.advance();
        self.require(Kind::LeftParen)?;
        self.require(Kind::RightParen)?;
        Ok(Ok(at))
    }

    fn range_mode(&mut self, node: &mut Node, mode: RangeMode) {
        let token = self.advance();
        let name = if mode == RangeMode::Anchored { "anchored" } else { "smoothed" };
        let pos = node.expr.pos;
        if !self.options.extended_range_selectors {
            self.problem(pos, format!("{name} modifier is experimental and not enabled"));
            return;
        }
        let slot = match &mut node.expr.kind {
            ExprKind::VectorSelector(selector) => &mut selector.mode,
            ExprKind::MatrixSelector(matrix) => &mut matrix.selector.mode,
            ExprKind::Subquery(_) => {
                return self.problem(pos, format!("{name} modifier is not supported for subqueries"));
            }
            _ => return self.problem(pos, format!("{name} modifier not implemented")),
        };
        let both = !matches!(*slot, RangeMode::Plain) && *slot != mode;
        *slot = mode;
        node.expr.pos.end = token.end;
        if both {
            self.problem(pos, "anchored and smoothed modifiers cannot be used together");
        }
    }
}

/// A range of something that is no selector: a selector without a single matcher.
fn not_a_range(selector_pos: Pos, range: DurationExpr) -> ExprKind {
    let selector = VectorSelector {
        name: None,
        matchers: Vec::new(),
        offset: DurationExpr::default(),
        at: None,
        mode: RangeMode::Plain,
    };
    ExprKind::MatrixSelector(MatrixSelector { selector, selector_pos, range })
}

fn is_set(offset: &DurationExpr) -> bool {
    *offset != DurationExpr::Const(0)
}

/// As Go's `%f` prints it.
fn at_seconds_text(seconds: f64) -> String {
    match seconds {
        s if s == f64::INFINITY => "+Inf".to_owned(),
        s if s == f64::NEG_INFINITY => "-Inf".to_owned(),
        s if s.is_nan() => "NaN".to_owned(),
        s => format!("{s:.6}"),
    }
}
