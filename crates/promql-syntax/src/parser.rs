//! From tokens to the syntax tree: a Pratt parser over the precedences of the language.
//!
//! Problems come in two kinds. A token that does not fit ends the parse (`Halt`); whatever is wrong but well-formed
//! (a range that is not positive, a modifier in the wrong place) is noted, and the parse goes on. Types are checked
//! afterwards, in `check`, and only if nothing else was wrong.
//!
//! Nesting is bounded by [`NESTING_MAX`] while parsing and by [`DEPTH_MAX`] in what is handed out; partial trees take
//! themselves apart without recursion (`Node`).

use std::mem;

use fk_model::{METRIC_NAME, MatchKind, Matcher};

use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, DurationExpr, Expr, ExprKind, Grouping, Matching, Pos,
    RangeMode, ValueType, VectorSelector,
};
use crate::error::{ERRORS_MAX, ParseErr, ParseErrors};
use crate::lexer::{Lexer, names_label, names_metric};
use crate::token::{Keyword, Kind, Token, quoted};
use crate::{functions, literal};

/// How deep parentheses, calls, signs and right-associative operators may be nested.
pub const NESTING_MAX: usize = 250;

/// How high the tree of an accepted expression may be. Everything that walks trees recursively relies on it. A chain of
/// operators of the same precedence is as high as it is long.
pub const DEPTH_MAX: usize = 1000;

/// Which experimental parts of the language are on. Duration expressions always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParserOptions {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
}

impl ParserOptions {
    /// Everything on.
    pub fn all() -> ParserOptions {
        ParserOptions { experimental_functions: true, extended_range_selectors: true, fill_modifiers: true }
    }
}

/// Parses an expression and checks its types.
pub fn parse(text: &str, options: &ParserOptions) -> Result<Expr, ParseErrors> {
    let mut parser = Parser::new(text, *options, false);
    let node = parser.whole_expression();
    if parser.errors.is_empty()
        && let Some(node) = &node
    {
        crate::check::check(text, &node.expr, &mut parser.errors);
        if parser.errors.is_empty() && node.height > DEPTH_MAX {
            parser.problem(node.expr.pos, format!("expression is nested too deeply: more than {DEPTH_MAX} levels"));
        }
    }
    match node {
        Some(node) if parser.errors.is_empty() => Ok(node.into_expr()),
        _ => Err(parser.failed()),
    }
}

/// Why [`parse_metric_selector`] refuses a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Not a selector.
    #[error(transparent)]
    Parse(#[from] ParseErrors),
    /// A selector that also takes series without any of its labels. Text as in Prometheus.
    #[error("match[] must contain at least one non-empty matcher")]
    Empty,
}

/// Parses a selector that may take everything (`{}`), as federation allows it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseErrors> {
    let mut parser = Parser::new(text, ParserOptions::default(), false);
    match parser.whole_selector() {
        Some(selector) if parser.errors.is_empty() => Ok(selector.matchers),
        _ => Err(parser.failed()),
    }
}

/// Parses the selector of a `match[]` parameter.
pub fn parse_metric_selector(text: &str) -> Result<Vec<Matcher>, SelectorError> {
    let matchers = parse_selector(text)?;
    if matchers.iter().all(Matcher::matches_empty) { Err(SelectorError::Empty) } else { Ok(matchers) }
}

/// The parse cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The offending token is still to be reported by whatever encloses the place.
    Unreported,
    /// Reported.
    Reported,
}

pub(crate) type Step<T> = Result<T, Halt>;

/// An expression under construction: with its type and height, and safe to drop however high it is.
pub(crate) struct Node {
    /// Boxed because nodes are handed up through many calls, and the parser's frames should be small.
    pub(crate) expr: Box<Expr>,
    pub(crate) height: usize,
    pub(crate) ty: ValueType,
}

impl Node {
    pub(crate) fn new(pos: Pos, kind: ExprKind, height: usize, ty: ValueType) -> Node {
        Node { expr: Box::new(Expr { pos, kind }), height, ty }
    }

    pub(crate) fn leaf(pos: Pos, kind: ExprKind, ty: ValueType) -> Node {
        Node::new(pos, kind, 1, ty)
    }

    pub(crate) fn into_expr(mut self) -> Expr {
        mem::replace(&mut *self.expr, EMPTY)
    }

    pub(crate) fn kind(&self) -> &ExprKind {
        &self.expr.kind
    }
}

const EMPTY: Expr = Expr { pos: Pos { start: 0, end: 0 }, kind: ExprKind::Number(0.0) };

impl Drop for Node {
    fn drop(&mut self) {
        if self.height <= DEPTH_MAX {
            return;
        }
        let mut pending = vec![mem::replace(&mut *self.expr, EMPTY)];
        while let Some(expr) = pending.pop() {
            match expr.kind {
                ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => pending.push(*inner),
                ExprKind::Subquery(subquery) => pending.push(subquery.expr),
                ExprKind::Call(call) => pending.extend(call.args),
                ExprKind::Aggregate(aggregate) => {
                    pending.push(aggregate.expr);
                    pending.extend(aggregate.param);
                }
                ExprKind::Binary(binary) => {
                    pending.push(binary.lhs);
                    pending.push(binary.rhs);
                }
                _ => {}
            }
        }
    }
}

pub(crate) struct Parser<'a> {
    pub(crate) text: &'a str,
    lexer: Lexer<'a>,
    pub(crate) options: ParserOptions,
    /// The token looked at, if it has been read.
    ahead: Option<Token>,
    pub(crate) errors: Vec<ParseErr>,
    /// End of the last closing bracket or number that was read.
    pub(crate) last_closing: usize,
    nesting: usize,
    /// The last string literal that was not UTF-8.
    not_utf8: Option<Token>,
}

/// `on (…) group_left (…) fill (…)` and `bool`.
struct Modifiers {
    return_bool: bool,
    matching: Matching,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str, options: ParserOptions, series: bool) -> Parser<'a> {
        let lexer = Lexer::new(text, series);
        Parser { text, lexer, options, ahead: None, errors: Vec::new(), last_closing: 0, nesting: 0, not_utf8: None }
    }

    // --- Tokens ---

    /// The next token, which stays.
    pub(crate) fn peek(&mut self) -> Token {
        if let Some(token) = self.ahead {
            return token;
        }
        let token = loop {
            let token = self.lexer.next_token();
            if token.kind != Kind::Comment {
                break token;
            }
        };
        match token.kind {
            Kind::Error => {
                let pos = Pos { start: self.lexer.token_start(), end: self.text.len() };
                let message = self.lexer.take_error().unwrap_or_default();
                self.problem(pos, message);
            }
            Kind::RightBrace | Kind::RightParen | Kind::RightBracket | Kind::Duration | Kind::Number => {
                self.last_closing = token.end;
            }
            _ => {}
        }
        self.ahead = Some(token);
        token
    }

    /// Takes the next token.
    pub(crate) fn advance(&mut self) -> Token {
        let token = self.peek();
        // An error or the end stays: nothing follows it.
        if !matches!(token.kind, Kind::Error | Kind::Eof) {
            self.ahead = None;
        }
        token
    }

    /// Takes the next token if it is of this kind.
    pub(crate) fn take(&mut self, kind: Kind) -> Option<Token> {
        if self.peek().kind == kind { Some(self.advance()) } else { None }
    }

    /// Takes the next token, which must be of this kind; otherwise the enclosing construct reports it.
    pub(crate) fn require(&mut self, kind: Kind) -> Step<Token> {
        self.take(kind).ok_or(Halt::Unreported)
    }

    pub(crate) fn word(&self, token: Token) -> &'a str {
        &self.text[token.start..token.end]
    }

    // --- Problems ---

    pub(crate) fn problem(&mut self, pos: Pos, message: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ParseErr { pos, message: message.into() });
        }
    }

    /// Reports the next token as unexpected. What the lexer refused has been reported already.
    pub(crate) fn unexpected(&mut self, context: &str, expected: &str) -> Halt {
        let token = self.peek();
        if token.kind != Kind::Error {
            let mut message = format!("unexpected {}", token.describe(self.text));
            if !context.is_empty() {
                message = message + " in " + context;
            }
            if !expected.is_empty() {
                message = message + ", expected " + expected;
            }
            self.problem(token.pos(), message);
        }
        Halt::Reported
    }

    pub(crate) fn failed(self) -> ParseErrors {
        ParseErrors::new(self.text, self.errors)
    }

    /// Reports what has stopped the parse, unless it has been reported.
    pub(crate) fn finish<T>(&mut self, step: Step<T>) -> Option<T> {
        match step {
            Ok(done) if self.peek().kind == Kind::Eof => Some(done),
            Ok(_) | Err(Halt::Unreported) => {
                self.unexpected("", "");
                None
            }
            Err(Halt::Reported) => None,
        }
    }

    // --- Expressions ---

    fn whole_expression(&mut self) -> Option<Node> {
        if self.peek().kind == Kind::Eof {
            self.problem(Pos::default(), "no expression found in input");
            return None;
        }
        let step = self.expr(0);
        self.finish(step)
    }

    fn whole_selector(&mut self) -> Option<VectorSelector> {
        let step = match self.peek().kind {
            kind if kind == Kind::LeftBrace || names_metric(kind) => self.vector_selector(),
            _ => Err(Halt::Unreported),
        };
        let (selector, _) = self.finish(step)?;
        Some(selector)
    }

    /// An expression whose operators all bind at least as tightly as `min`.
    fn expr(&mut self, min: u8) -> Step<Node> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(self.nested_too_deeply());
        }
        let mut lhs = self.operand()?;
        while let Kind::Op(op) = self.peek().kind {
            let precedence = precedence(op);
            if precedence < min {
                break;
            }
            self.advance();
            let modifiers = self.modifiers()?;
            // Only the power operator associates to the right.
            let rhs = self.expr(if op == BinaryOp::Pow { precedence } else { precedence + 1 })?;
            lhs = binary(op, lhs, modifiers, rhs);
        }
        self.nesting -= 1;
        Ok(lhs)
    }

    fn nested_too_deeply(&mut self) -> Halt {
        let pos = self.peek().pos();
        self.problem(pos, format!("expression is nested too deeply: more than {NESTING_MAX} levels"));
        Halt::Reported
    }

    /// A sign and its operand, or a primary with what is attached to it.
    fn operand(&mut self) -> Step<Node> {
        let token = self.peek();
        match token.kind {
            Kind::Op(BinaryOp::Add) => self.signed_operand(token, false),
            Kind::Op(BinaryOp::Sub) => self.signed_operand(token, true),
            _ => {
                let primary = self.primary(token)?;
                self.attachments(primary)
            }
        }
    }

    fn signed_operand(&mut self, sign: Token, negate: bool) -> Step<Node> {
        self.advance();
        // A sign binds like a product, so only powers belong to its operand.
        let mut node = self.expr(precedence(BinaryOp::Mul) + 1)?;
        let pos = Pos { start: sign.start, end: node.expr.pos.end };
        if let ExprKind::Number(value) | ExprKind::Duration(value) = &mut node.expr.kind {
            if negate {
                *value = -*value;
            }
            node.expr.pos = pos;
            return Ok(node);
        }
        Ok(wrapped(node, pos, |expr| ExprKind::Unary { negate, expr }))
    }

    fn primary(&mut self, token: Token) -> Step<Node> {
        match token.kind {
            Kind::Number | Kind::Duration => Ok(self.number_or_duration()),
            Kind::String => Ok(self.string(token)),
            Kind::LeftParen => self.paren(token),
            Kind::Aggregate(op) => self.aggregate_or_selector(op),
            Kind::Identifier | Kind::Preprocessor(_) => {
                self.advance();
                if self.peek().kind == Kind::LeftParen { self.call(token) } else { self.named_selector(token) }
            }
            Kind::LeftBrace => self.selector(),
            kind if names_metric(kind) => self.selector(),
            _ => Err(Halt::Unreported),
        }
    }

    fn string(&mut self, token: Token) -> Node {
        self.advance();
        let bytes = self.unquoted(token);
        // The language allows any bytes, but nothing that a query can do with them would be a valid label.
        let text = String::from_utf8(bytes).unwrap_or_else(|e| {
            self.not_utf8 = Some(token);
            String::from_utf8_lossy(e.as_bytes()).into_owned()
        });
        Node::leaf(token.pos(), ExprKind::String(text), ValueType::String)
    }

    fn paren(&mut self, open: Token) -> Step<Node> {
        self.advance();
        let inner = self.expr(0)?;
        let close = self.require(Kind::RightParen)?;
        Ok(wrapped(inner, Pos { start: open.start, end: close.end }, ExprKind::Paren))
    }

    fn selector(&mut self) -> Step<Node> {
        let (selector, pos) = self.vector_selector()?;
        Ok(Node::leaf(pos, ExprKind::VectorSelector(selector), ValueType::Vector))
    }

    fn named_selector(&mut self, name: Token) -> Step<Node> {
        let (selector, pos) = self.vector_selector_behind(Some(name))?;
        Ok(Node::leaf(pos, ExprKind::VectorSelector(selector), ValueType::Vector))
    }

    /// The next token as a number or the seconds of a duration.
    pub(crate) fn number_or_duration(&mut self) -> Node {
        let token = self.advance();
        let word = self.word(token);
        let (value, kind): (_, fn(f64) -> ExprKind) = match token.kind {
            Kind::Number => (literal::number(word), ExprKind::Number),
            _ => (literal::duration(word), ExprKind::Duration),
        };
        let value = value.unwrap_or_else(|message| {
            self.problem(token.pos(), message);
            0.0
        });
        Node::leaf(token.pos(), kind(value), ValueType::Scalar)
    }

    /// A number or duration with an optional sign: its value, durations in seconds.
    pub(crate) fn signed(&mut self) -> Step<f64> {
        let sign = match self.peek().kind {
            Kind::Op(BinaryOp::Add) => Some(1.0),
            Kind::Op(BinaryOp::Sub) => Some(-1.0),
            _ => None,
        };
        if sign.is_some() {
            self.advance();
        }
        match self.peek().kind {
            Kind::Number | Kind::Duration => {}
            _ => return Err(Halt::Unreported),
        }
        match self.number_or_duration().expr.kind {
            ExprKind::Number(value) | ExprKind::Duration(value) => Ok(value * sign.unwrap_or(1.0)),
            _ => Err(Halt::Unreported),
        }
    }

    /// The bytes of a string token.
    pub(crate) fn unquoted(&mut self, token: Token) -> Vec<u8> {
        let word = self.word(token);
        literal::unquote(word).unwrap_or_else(|error| {
            self.problem(token.pos(), format!("error unquoting string {}: {error}", quoted(word)));
            Vec::new()
        })
    }

    /// The text of a string token that must be UTF-8 because labels are.
    pub(crate) fn unquoted_text(&mut self, token: Token) -> String {
        let bytes = self.unquoted(token);
        String::from_utf8(bytes).unwrap_or_else(|_| {
            self.problem(token.pos(), format!("string {} is not valid UTF-8", self.word(token)));
            String::new()
        })
    }

    // --- Calls and aggregations ---

    fn call(&mut self, name: Token) -> Step<Node> {
        let (args, height, end) = self.arguments()?;
        Ok(self.called(name, args, height, end))
    }

    fn called(&mut self, name: Token, args: Vec<Node>, height: usize, end: usize) -> Node {
        let word = self.word(name);
        let function = functions::find(word);
        match function {
            None => self.problem(name.pos(), format!("unknown function with name {}", quoted(word))),
            // Text as in Prometheus:
            Some(function) if function.experimental && !self.options.experimental_functions => {
                self.problem(name.pos(), format!("function {} is not enabled", quoted(word)));
            }
            Some(_) => {}
        }
        let pos = Pos { start: name.start, end };
        match function {
            Some(function) => {
                let args = args.into_iter().map(Node::into_expr).collect();
                let kind = ExprKind::Call(Call { function, args });
                Node::new(pos, kind, height + 1, function.returns)
            }
            // Never handed out: the problem has been noted.
            None => Node::leaf(pos, ExprKind::Number(0.0), ValueType::Vector),
        }
    }

    /// `(a, b)`: the arguments, the greatest height among them, and where the parentheses end.
    fn arguments(&mut self) -> Step<(Vec<Node>, usize, usize)> {
        self.require(Kind::LeftParen)?;
        let (mut args, mut height) = (Vec::new(), 0);
        if let Some(close) = self.take(Kind::RightParen) {
            return Ok((args, height, close.end));
        }
        loop {
            let arg = self.expr(0)?;
            height = height.max(arg.height);
            args.push(arg);
            let mut comma = self.take(Kind::Comma);
            // Text as in Prometheus:
            while let Some(token) = comma
                && matches!(self.peek().kind, Kind::RightParen | Kind::Comma)
            {
                self.problem(token.pos(), "trailing commas not allowed in function call args");
                comma = self.take(Kind::Comma);
            }
            if comma.is_none() {
                let close = self.require(Kind::RightParen)?;
                return Ok((args, height, close.end));
            }
        }
    }

    fn aggregate_or_selector(&mut self, op: AggregateOp) -> Step<Node> {
        let name = self.advance();
        let follows = self.peek().kind;
        if !matches!(follows, Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without)) {
            return self.named_selector(name);
        }
        self.aggregate_behind(op, name).map_err(|halt| {
            if halt == Halt::Unreported {
                self.unexpected("aggregation", "");
                let pos = Pos { start: name.start, end: self.last_closing };
                self.problem(pos, "no arguments for aggregate expression provided");
            }
            Halt::Reported
        })
    }

    fn aggregate_behind(&mut self, op: AggregateOp, name: Token) -> Step<Node> {
        let before = self.grouping()?;
        let (args, height, mut end) = self.arguments()?;
        let grouping = match before {
            Some(grouping) => Some(grouping),
            None => {
                let behind = self.grouping()?;
                if behind.is_some() {
                    end = self.last_closing;
                }
                behind
            }
        };
        let pos = Pos { start: name.start, end };
        Ok(self.aggregate(op, pos, grouping, args, height))
    }

    fn aggregate(
        &mut self,
        op: AggregateOp,
        pos: Pos,
        grouping: Option<Grouping>,
        args: Vec<Node>,
        height: usize,
    ) -> Node {
        let (n_args, expected) = (args.len(), if op.param_type().is_some() { 2 } else { 1 });
        // Texts as in Prometheus:
        let problem = match () {
            () if n_args == 0 => Some("no arguments for aggregate expression provided".to_owned()),
            () if op.is_experimental() && !self.options.experimental_functions => Some(
                "limitk() and limit_ratio() are experimental and must be enabled with \
                 --enable-feature=promql-experimental-functions"
                    .to_owned(),
            ),
            () if n_args != expected => Some(format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {n_args}"
            )),
            () => None,
        };
        if op == AggregateOp::CountValues
            && let Some(token) = self.not_utf8
            && args.first().is_some_and(|label| label.expr.pos == token.pos())
        {
            let label = quoted_bytes(&self.unquoted(token));
            self.problem(token.pos(), format!("invalid label name {label}"));
        }
        if let Some(problem) = problem {
            self.problem(pos, problem);
            return Node::leaf(pos, ExprKind::Number(0.0), ValueType::Vector);
        }
        let mut args = args.into_iter().map(Node::into_expr);
        let param = if expected == 2 { args.next() } else { None };
        let expr = args.next().unwrap_or(EMPTY);
        let grouping = grouping.unwrap_or(Grouping::By(Vec::new()));
        let kind = ExprKind::Aggregate(Box::new(Aggregate { op, expr, param, grouping }));
        Node::new(pos, kind, height + 1, ValueType::Vector)
    }

    fn grouping(&mut self) -> Step<Option<Grouping>> {
        let make: fn(Vec<String>) -> Grouping = match self.peek().kind {
            Kind::Keyword(Keyword::By) => Grouping::By,
            Kind::Keyword(Keyword::Without) => Grouping::Without,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(make(self.labels()?)))
    }

    /// `(a, "b c", by)`
    fn labels(&mut self) -> Step<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        if self.take(Kind::LeftParen).is_none() {
            return Err(self.unexpected(CONTEXT, "\"(\""));
        }
        let mut labels = Vec::new();
        while self.take(Kind::RightParen).is_none() {
            let token = self.peek();
            let label = match token.kind {
                Kind::String => {
                    self.advance();
                    self.unquoted_text(token)
                }
                kind if names_label(kind) => {
                    self.advance();
                    self.word(token).to_owned()
                }
                _ => return Err(self.unexpected(CONTEXT, "label")),
            };
            if label.is_empty() {
                self.problem(token.pos(), format!("invalid label name for grouping: {}", quoted(self.word(token))));
            }
            labels.push(label);
            if self.take(Kind::Comma).is_none() && self.peek().kind != Kind::RightParen {
                return Err(self.unexpected(CONTEXT, "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    // --- Binary modifiers ---

    fn modifiers(&mut self) -> Step<Modifiers> {
        let mut matching = Matching {
            card: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.take(Kind::Keyword(Keyword::Bool)).is_some();
        if let Kind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.peek().kind {
            self.advance();
            matching.on = keyword == Keyword::On;
            matching.labels = self.labels()?;
            matching.card = match self.peek().kind {
                Kind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
                Kind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
                _ => Cardinality::OneToOne,
            };
            if matching.card != Cardinality::OneToOne {
                self.advance();
                if self.peek().kind == Kind::LeftParen {
                    matching.include = self.labels()?;
                }
            }
        }
        self.fill_modifiers(&mut matching)?;
        Ok(Modifiers { return_bool, matching })
    }

    /// `fill (0)`, or one or both of `fill_left (0)` and `fill_right (0)`. The words also name metrics: it is a modifier
    /// if a parenthesis follows.
    fn fill_modifiers(&mut self, matching: &mut Matching) -> Step<()> {
        loop {
            let token = self.peek();
            let (left, right) = match token.kind {
                Kind::Keyword(Keyword::Fill) => (true, true),
                Kind::Keyword(Keyword::FillLeft) => (true, false),
                Kind::Keyword(Keyword::FillRight) => (false, true),
                _ => return Ok(()),
            };
            if !self.paren_follows(token) {
                return Ok(());
            }
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                return Err(Halt::Unreported);
            }
            self.advance();
            self.require(Kind::LeftParen)?;
            let value = self.signed()?;
            self.require(Kind::RightParen)?;
            if !self.options.fill_modifiers {
                self.problem(token.pos(), "binop fill modifiers are experimental and not enabled");
            }
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
        }
    }

    /// Whether the next character behind `token`, blanks apart, opens a parenthesis.
    fn paren_follows(&self, token: Token) -> bool {
        self.text[token.end..].trim_start_matches(crate::lexer::is_space).starts_with('(')
    }

    // --- Selectors ---

    fn vector_selector(&mut self) -> Step<(VectorSelector, Pos)> {
        let name = if self.peek().kind == Kind::LeftBrace { None } else { Some(self.advance()) };
        self.vector_selector_behind(name)
    }

    fn vector_selector_behind(&mut self, name: Option<Token>) -> Step<(VectorSelector, Pos)> {
        let open = self.peek();
        let mut pos = name.unwrap_or(open).pos();
        let mut matchers = Vec::new();
        if open.kind == Kind::LeftBrace {
            pos.end = self.label_matchers(&mut matchers)?;
        }
        let name = name.map(|token| self.word(token).to_owned());
        // Behind the others, as Prometheus has it.
        matchers.extend(name.as_deref().map(|name| Matcher::equal(METRIC_NAME, name)));
        let selector =
            VectorSelector { name, matchers, offset: DurationExpr::default(), at: None, mode: RangeMode::Plain };
        Ok((selector, pos))
    }

    /// `{a="b", "metric name"}`; returns where it ends.
    fn label_matchers(&mut self, matchers: &mut Vec<Matcher>) -> Step<usize> {
        const CONTEXT: &str = "label matching";
        self.require(Kind::LeftBrace)?;
        loop {
            if let Some(close) = self.take(Kind::RightBrace) {
                return Ok(close.end);
            }
            let name = self.peek();
            if !matches!(name.kind, Kind::Identifier | Kind::String) {
                return Err(self.unexpected(CONTEXT, "identifier or \"}\""));
            }
            self.advance();
            let operator = match self.peek().kind {
                Kind::Assign => Some(MatchKind::Equal),
                Kind::Op(BinaryOp::Ne) => Some(MatchKind::NotEqual),
                Kind::EqRegex => Some(MatchKind::Regex),
                Kind::NeRegex => Some(MatchKind::NotRegex),
                _ => None,
            };
            match operator {
                Some(kind) => {
                    self.advance();
                    let Some(value) = self.take(Kind::String) else { return Err(self.unexpected(CONTEXT, "string")) };
                    self.matcher(name, kind, value, matchers);
                }
                None if name.kind == Kind::String => {
                    let metric = self.unquoted_text(name);
                    matchers.push(Matcher::equal(METRIC_NAME, metric));
                }
                None => return Err(self.unexpected(CONTEXT, "label matching operator")),
            }
            if self.take(Kind::Comma).is_none() && self.peek().kind != Kind::RightBrace {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
        }
    }

    fn matcher(&mut self, name: Token, kind: MatchKind, value: Token, matchers: &mut Vec<Matcher>) {
        let label = match name.kind {
            Kind::String => self.unquoted_text(name),
            _ => self.word(name).to_owned(),
        };
        let text = self.unquoted_text(value);
        match Matcher::new(kind, label, text) {
            Ok(matcher) => matchers.push(matcher),
            Err(error) => self.problem(Pos { start: name.start, end: value.end }, error.to_string()),
        }
    }
}

impl Token {
    pub(crate) fn pos(self) -> Pos {
        Pos { start: self.start, end: self.end }
    }
}

/// In double quotes, bytes that are not UTF-8 as `\xff`.
fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let valid = quoted(chunk.valid());
        out.push_str(&valid[1..valid.len() - 1]);
        out.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
    }
    out.push('"');
    out
}

/// How tightly an operator binds.
pub(crate) fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => 6,
        _ => 3,
    }
}

/// An expression around another one of the same type.
fn wrapped(inner: Node, pos: Pos, kind: impl FnOnce(Box<Expr>) -> ExprKind) -> Node {
    let (height, ty) = (inner.height + 1, inner.ty);
    Node::new(pos, kind(Box::new(inner.into_expr())), height, ty)
}

fn binary(op: BinaryOp, lhs: Node, modifiers: Modifiers, rhs: Node) -> Node {
    let Modifiers { return_bool, mut matching } = modifiers;
    if op.is_set() && matching.card == Cardinality::OneToOne {
        matching.card = Cardinality::ManyToMany;
    }
    let vectors = lhs.ty == ValueType::Vector && rhs.ty == ValueType::Vector;
    // What is written without being allowed stays for the check to complain about.
    let written = !matching.labels.is_empty() || matching.fill_left.is_some() || matching.fill_right.is_some();
    let matching = if vectors || written { Some(matching) } else { None };
    let height = lhs.height.max(rhs.height) + 1;
    let scalars = lhs.ty == ValueType::Scalar && rhs.ty == ValueType::Scalar;
    let ty = if scalars { ValueType::Scalar } else { ValueType::Vector };
    let (lhs, rhs) = (lhs.into_expr(), rhs.into_expr());
    let pos = Pos { start: lhs.pos.start, end: rhs.pos.end };
    let kind = ExprKind::Binary(Box::new(Binary { op, lhs, rhs, return_bool, matching }));
    Node::new(pos, kind, height, ty)
}
