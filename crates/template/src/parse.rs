//! From tokens to a tree. Names of functions and variables are checked here, so that a rule file with a misspelt one
//! does not load.
//!
//! Facts: `text/template/parse/parse.go` in Go.

use std::collections::BTreeMap;

use crate::lex::{Kind, Token, lex};
use crate::text::{quote, unquote, unquote_char};
use crate::tree::{Action, Arg, ArgKind, Branch, Call, Command, List, Node, Number, Pipe};

/// How deep parentheses and blocks may be nested. Far beyond what people write; keeps the stack small.
const DEPTH_MAX: usize = 100;

/// A parsed text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) root: List,
    /// What `define` and `block` have named.
    pub(crate) defined: BTreeMap<String, List>,
}

/// Why a text does not parse.
#[derive(Debug)]
pub(crate) struct ParseError {
    /// Line, from 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

type Result<T> = std::result::Result<T, ParseError>;

/// Parses `text`, the template called `name`.
pub(crate) fn parse(name: &str, text: &str) -> Result<Parsed> {
    let mut parser = Parser {
        name,
        text,
        tokens: lex(text),
        at: 0,
        variables: vec!["$".to_owned()],
        range_depth: 0,
        depth: 0,
        action_line: None,
        defined: BTreeMap::new(),
    };
    let root = parser.top()?;
    Ok(Parsed { root, defined: parser.defined })
}

struct Parser<'a> {
    name: &'a str,
    text: &'a str,
    /// Invariant: the last one is `Eof` or `Error` and is never stepped over.
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    range_depth: usize,
    depth: usize,
    action_line: Option<usize>,
    defined: BTreeMap<String, List>,
}

/// What a list of nodes ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ListEnd {
    End,
    Else,
}

impl ListEnd {
    fn name(self) -> &'static str {
        match self {
            ListEnd::End => "{{end}}",
            ListEnd::Else => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    /// A definition, which leaves nothing in its place.
    Nothing,
    End(ListEnd),
}

impl Parser<'_> {
    // === Tokens ===

    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next();
        }
    }

    fn peek_non_space(&mut self) -> &Token {
        self.skip_space();
        self.peek()
    }

    fn next_non_space(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn line_of(&self, pos: usize) -> usize {
        1 + self.text.as_bytes()[..pos.min(self.text.len())].iter().filter(|b| **b == b'\n').count()
    }

    /// An error at the token in front, as Go reports it.
    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        let before = self.at.saturating_sub(1);
        let at = if self.peek().kind == Kind::Error { self.at } else { before };
        self.error_at(self.tokens[at].pos, message)
    }

    fn error_at<T>(&self, pos: usize, message: impl Into<String>) -> Result<T> {
        Err(ParseError { line: self.line_of(pos), message: message.into() })
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T> {
        let shown = match token.kind {
            Kind::Error => {
                let mut message = token.text.clone();
                let line = self.line_of(token.pos);
                if let Some(started) = self.action_line.filter(|started| *started != line) {
                    let action = if message.ends_with(" action") { "" } else { " in action" };
                    message.push_str(&format!("{action} started at {}:{started}", self.name));
                }
                return self.error_at(token.pos, message);
            }
            Kind::Eof => "EOF".to_owned(),
            kind if kind.is_keyword() => format!("<{}>", token.text),
            _ => match token.text.char_indices().nth(10) {
                Some((cut, _)) => format!("{}...", quote(&token.text[..cut])),
                None => quote(&token.text),
            },
        };
        self.error_at(token.pos, format!("unexpected {shown} in {context}"))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token> {
        let token = self.next_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.error(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    // === Lists ===

    fn top(&mut self) -> Result<List> {
        let mut root = Vec::new();
        while self.peek().kind != Kind::Eof {
            match self.text_or_action(true)? {
                Item::Node(node) => root.push(node),
                Item::Nothing => {}
                Item::End(end) => return self.error(format!("unexpected {}", end.name())),
            }
        }
        Ok(root)
    }

    fn item_list(&mut self) -> Result<(List, ListEnd)> {
        let mut list = Vec::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action(false)? {
                Item::Node(node) => list.push(node),
                Item::Nothing => {}
                Item::End(end) => return Ok((list, end)),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self, top: bool) -> Result<Item> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text))),
            Kind::LeftDelim => {
                self.action_line = Some(self.line_of(token.pos));
                let item = self.action(top);
                self.action_line = None;
                item
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self, top: bool) -> Result<Item> {
        let (kind, pos) = (self.peek_non_space().kind, self.peek().pos);
        let keyword = |parser: &mut Self| {
            parser.next();
        };
        Ok(match kind {
            Kind::Define if top => {
                keyword(self);
                self.definition()?;
                Item::Nothing
            }
            Kind::Block => {
                keyword(self);
                Item::Node(self.deeper(|p| p.block())?)
            }
            Kind::Break | Kind::Continue => {
                let token = self.next();
                let context = format!("{{{{{}}}}}", token.text);
                self.expect(Kind::RightDelim, &context)?;
                if self.range_depth == 0 {
                    return self.error(format!("{context} outside {{{{range}}}}"));
                }
                Item::Node(if kind == Kind::Break { Node::Break } else { Node::Continue })
            }
            Kind::Else => {
                keyword(self);
                let next = self.peek_non_space().kind;
                if !matches!(next, Kind::If | Kind::With) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                Item::End(ListEnd::Else)
            }
            Kind::End => {
                keyword(self);
                self.expect(Kind::RightDelim, "end")?;
                Item::End(ListEnd::End)
            }
            Kind::If => {
                keyword(self);
                Item::Node(Node::If(self.deeper(|p| p.control("if"))?))
            }
            Kind::With => {
                keyword(self);
                Item::Node(Node::With(self.deeper(|p| p.control("with"))?))
            }
            Kind::Range => {
                keyword(self);
                Item::Node(Node::Range(self.deeper(|p| p.control("range"))?))
            }
            Kind::Template => {
                keyword(self);
                Item::Node(Node::Template(self.template()?))
            }
            _ => Item::Node(Node::Action(Action { pos, pipe: self.pipeline("command", Kind::RightDelim)? })),
        })
    }

    fn control(&mut self, context: &str) -> Result<Branch> {
        let n_variables = self.variables.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let is_range = usize::from(context == "range");
        self.range_depth += is_range;
        let body = self.item_list();
        self.range_depth -= is_range;
        let (list, end) = body?;
        let otherwise = match (end, context, self.peek().kind) {
            (ListEnd::End, ..) => Vec::new(),
            (ListEnd::Else, "if", Kind::If) => {
                self.next();
                vec![Node::If(self.deeper(|p| p.control("if"))?)]
            }
            (ListEnd::Else, "with", Kind::With) => {
                self.next();
                vec![Node::With(self.deeper(|p| p.control("with"))?)]
            }
            (ListEnd::Else, ..) => {
                let (list, end) = self.item_list()?;
                if end != ListEnd::End {
                    return self.error(format!("expected end; found {}", end.name()));
                }
                list
            }
        };
        self.variables.truncate(n_variables);
        Ok(Branch { pipe, list, otherwise })
    }

    /// The name, and where it stands.
    fn template_name(&mut self, context: &str) -> Result<(String, usize)> {
        let token = self.next_non_space();
        match token.kind {
            Kind::String | Kind::RawString => match unquote(&token.text) {
                Ok(name) => Ok((name, token.pos)),
                Err(message) => self.error(message),
            },
            _ => self.unexpected(&token, context),
        }
    }

    fn template(&mut self) -> Result<Call> {
        let (name, pos) = self.template_name("template clause")?;
        let pipe = if self.peek_non_space().kind == Kind::RightDelim {
            self.next();
            None
        } else {
            Some(self.pipeline("template clause", Kind::RightDelim)?)
        };
        Ok(Call { pos, name, pipe })
    }

    fn block(&mut self) -> Result<Node> {
        let (name, pos) = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", Kind::RightDelim)?;
        self.named_list(name.clone(), "block clause")?;
        Ok(Node::Template(Call { pos, name, pipe: Some(pipe) }))
    }

    fn definition(&mut self) -> Result<()> {
        let (name, _) = self.template_name("define clause")?;
        self.expect(Kind::RightDelim, "define clause")?;
        self.named_list(name, "define clause")
    }

    /// The body of a definition: it knows no variables from outside.
    fn named_list(&mut self, name: String, context: &str) -> Result<()> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let body = self.item_list();
        self.variables = variables;
        self.range_depth = range_depth;
        let (list, end) = body?;
        if end != ListEnd::End {
            return self.error(format!("unexpected {} in {context}", end.name()));
        }
        // Of two definitions one may be empty.
        match self.defined.get(&name) {
            Some(known) if !is_empty(known) && !is_empty(&list) => {
                self.error(format!("template: multiple definition of template {}", quote(&name)))
            }
            Some(_) if is_empty(&list) => Ok(()),
            _ => {
                self.defined.insert(name, list);
                Ok(())
            }
        }
    }

    // === Pipelines ===

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe { pos, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let kind = self.peek_non_space().kind;
            match kind {
                kind if kind == end => {
                    self.next();
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => {
                    let token = self.next();
                    return self.unexpected(&token, context);
                }
            }
        }
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (idx, command) in pipe.commands.iter().enumerate().skip(1) {
            if let ArgKind::Bool(_) | ArgKind::Dot | ArgKind::Nil | ArgKind::Number(_) | ArgKind::String { .. } =
                command.args[0].kind
            {
                return self.error(format!("non executable command in pipeline stage {}", idx + 1));
            }
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, in a range also `$i, $x :=`.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<()> {
        while self.peek_non_space().kind == Kind::Variable {
            let before = self.at;
            let variable = self.next().text;
            let (kind, text) = (self.peek_non_space().kind, self.peek().text.as_str());
            let comma = kind == Kind::Char && text == ",";
            if !comma && !matches!(kind, Kind::Assign | Kind::Declare) {
                // An argument. Spaces count again.
                self.at = before;
                return Ok(());
            }
            self.next();
            pipe.assigns = kind == Kind::Assign;
            pipe.variables.push(variable.clone());
            self.variables.push(variable);
            if !comma {
                return Ok(());
            }
            if context != "range" || pipe.variables.len() > 1 {
                return self.error(format!("too many declarations in {context}"));
            }
            if !matches!(self.peek_non_space().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                return self.error("range can only initialize variables");
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command> {
        let mut command = Command { pos: self.peek_non_space().pos, args: Vec::new() };
        loop {
            self.skip_space();
            if let Some(arg) = self.operand()? {
                command.args.push(arg);
            }
            match self.peek().kind {
                Kind::Space => {
                    self.next();
                }
                Kind::RightDelim | Kind::RightParen => break,
                Kind::Pipe => {
                    self.next();
                    break;
                }
                _ => {
                    let token = self.next();
                    return self.unexpected(&token, "operand");
                }
            }
        }
        if command.args.is_empty() { self.error("empty command") } else { Ok(command) }
    }

    /// A term with the fields behind it.
    fn operand(&mut self) -> Result<Option<Arg>> {
        let Some(arg) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(arg));
        }
        let pos = self.peek().pos;
        let mut more = Vec::new();
        while self.peek().kind == Kind::Field {
            more.push(self.next().text[1..].to_owned());
        }
        let kind = match arg.kind {
            ArgKind::Field(mut names) => {
                names.extend(more);
                ArgKind::Field(names)
            }
            ArgKind::Variable(name, mut names) => {
                names.extend(more);
                ArgKind::Variable(name, names)
            }
            ArgKind::Bool(_) | ArgKind::String { .. } | ArgKind::Number(_) | ArgKind::Nil | ArgKind::Dot => {
                return self.error(format!("unexpected . after term {}", quote(&arg.to_string())));
            }
            ArgKind::Identifier(_) | ArgKind::Pipe(_) | ArgKind::Chain(..) => ArgKind::Chain(Box::new(arg), more),
        };
        Ok(Some(Arg { pos, kind }))
    }

    fn term(&mut self) -> Result<Option<Arg>> {
        let pos = self.peek_non_space().pos;
        let kind = self.peek().kind;
        let parsed = match kind {
            Kind::Identifier => {
                let name = self.next().text;
                if crate::functions::find(&name).is_none() {
                    return self.error(format!("function {} not defined", quote(&name)));
                }
                ArgKind::Identifier(name)
            }
            Kind::Dot => {
                self.next();
                ArgKind::Dot
            }
            Kind::Nil => {
                self.next();
                ArgKind::Nil
            }
            Kind::Bool => ArgKind::Bool(self.next().text == "true"),
            Kind::Variable => {
                let name = self.next().text;
                if !self.variables.contains(&name) {
                    return self.error(format!("undefined variable {}", quote(&name)));
                }
                ArgKind::Variable(name, Vec::new())
            }
            Kind::Field => ArgKind::Field(vec![self.next().text[1..].to_owned()]),
            Kind::CharConstant | Kind::Number => {
                let token = self.next();
                ArgKind::Number(number(&token).or_else(|message| self.error(message))?)
            }
            Kind::LeftParen => {
                self.next();
                let pipe = self.deeper(|p| p.pipeline("parenthesized pipeline", Kind::RightParen))?;
                ArgKind::Pipe(Box::new(pipe))
            }
            Kind::String | Kind::RawString => {
                let quoted = self.next().text;
                let text = unquote(&quoted).or_else(|message| self.error(message))?;
                ArgKind::String { quoted, text: text.into() }
            }
            _ => return Ok(None),
        };
        Ok(Some(Arg { pos, kind: parsed }))
    }
}

/// Whether a list has nothing but blanks.
fn is_empty(list: &[Node]) -> bool {
    list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

fn number(token: &Token) -> std::result::Result<Number, String> {
    let text = token.text.clone();
    if token.kind == Kind::CharConstant {
        let c = unquote_char(&text).ok_or_else(|| format!("malformed character constant: {text}"))?;
        let code = c as u32;
        return Ok(Number { text, int: Some(i64::from(code)), float: f64::from(code), is_float: false });
    }
    if text.ends_with('i') {
        return Err(format!("complex constants are not supported: {text}"));
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    let negative = text.starts_with('-');
    if let Some(magnitude) = magnitude(unsigned) {
        let int = if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
        if int.is_none() && negative {
            return Err(format!("integer overflow: {}", quote(&text)));
        }
        let float = if negative { -(magnitude as f64) } else { magnitude as f64 };
        return Ok(Number { text, int, float, is_float: false });
    }
    let illegal = || format!("illegal number syntax: {}", quote(&text));
    let is_hex = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    if !text.contains(if is_hex { ['.', 'p', 'P'] } else { ['.', 'e', 'E'] }) {
        let is_number = crate::float::parse(&text).is_some_and(f64::is_finite);
        return Err(if is_number { format!("integer overflow: {}", quote(&text)) } else { illegal() });
    }
    let float = crate::float::parse(&text).ok_or_else(illegal)?;
    if !float.is_finite() {
        return Err(illegal());
    }
    let exact = float.fract() == 0.0 && float.abs() < 9.0e18;
    let int = exact.then_some(float as i64);
    Ok(Number { int, float, is_float: true, text })
}

/// An unsigned integer in Go's notation: base prefixes, a leading zero for octal, underscores between digits.
fn magnitude(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16, true),
        [b'0', b'o', ..] => (&lower[2..], 8, true),
        [b'0', b'b', ..] => (&lower[2..], 2, true),
        [b'0', _, ..] => (&lower[1..], 8, true),
        _ => (&lower[..], 10, false),
    };
    let well_placed = !digits.ends_with('_') && !digits.contains("__") && (prefixed || !digits.starts_with('_'));
    let starts_with_sign = digits.starts_with(['+', '-']);
    if !well_placed || starts_with_sign { None } else { u64::from_str_radix(&digits.replace('_', ""), radix).ok() }
}
