//! From text to tokens. Outside `{{` and `}}` everything is text; inside, the few tokens of the language, spaces included,
//! since they separate arguments.
//!
//! Facts: `text/template/parse/lex.go` in Go.

use crate::text::{quote_rune, trim_spaces_left, trim_spaces_right};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text is the error.
    Error,
    Eof,
    Text,
    LeftDelim,
    RightDelim,
    Space,
    Bool,
    Char,
    CharConstant,
    Number,
    String,
    RawString,
    Assign,
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    Field,
    Variable,
    Identifier,
    // Keywords.
    Dot,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

impl Kind {
    fn keyword(word: &str) -> Option<Kind> {
        Some(match word {
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "nil" => Kind::Nil,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            _ => return None,
        })
    }

    pub(crate) fn is_keyword(self) -> bool {
        self as u8 >= Kind::Dot as u8
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Where it begins, bytes.
    pub(crate) pos: usize,
    pub(crate) text: String,
}

/// All tokens. The last one is `Eof` or `Error`.
pub(crate) fn lex(input: &str) -> Vec<Token> {
    let mut lexer = Lexer { input, pos: 0, start: 0, tokens: Vec::new(), paren_depth: 0 };
    if let Err(message) = lexer.run() {
        lexer.tokens.push(Token { kind: Kind::Error, pos: lexer.start, text: message });
    }
    lexer.tokens
}

struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    start: usize,
    tokens: Vec<Token>,
    paren_depth: usize,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn has_left_trim_marker(text: &str) -> bool {
    text.starts_with('-') && text[1..].starts_with(is_space)
}

/// Whether `text` starts with a right delimiter, and whether that trims the spaces behind it.
fn right_delim(text: &str) -> Option<bool> {
    let trims = text.starts_with(is_space) && text[1..].starts_with("-}}");
    if trims { Some(true) } else { text.starts_with("}}").then_some(false) }
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn emit(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, pos: self.start, text: self.input[self.start..self.pos].to_owned() });
        self.start = self.pos;
    }

    fn accept(&mut self, set: &str) -> bool {
        let found = self.peek().is_some_and(|c| set.contains(c));
        if found {
            self.next();
        }
        found
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(at) = self.rest().find("{{") {
            let trims = has_left_trim_marker(&self.rest()[at + 2..]);
            let text = &self.rest()[..at];
            let kept = if trims { trim_spaces_right(text) } else { text };
            let delim = self.pos + at;
            self.pos += kept.len();
            if !kept.is_empty() {
                self.emit(Kind::Text);
            }
            self.start = delim;
            self.pos = delim + 2;
            let marker = if trims { 2 } else { 0 };
            if self.rest()[marker..].starts_with("/*") {
                self.pos += marker + 2;
                self.comment()?;
            } else {
                self.emit(Kind::LeftDelim);
                self.pos += marker;
                self.start = self.pos;
                self.inside_action()?;
            }
        }
        self.pos = self.input.len();
        if self.pos > self.start {
            self.emit(Kind::Text);
        }
        self.emit(Kind::Eof);
        Ok(())
    }

    fn comment(&mut self) -> Result<(), String> {
        let end = self.rest().find("*/").ok_or("unclosed comment")?;
        self.pos += end + 2;
        let trims = right_delim(self.rest()).ok_or("comment ends before closing delimiter")?;
        self.close(trims);
        Ok(())
    }

    /// Steps over a right delimiter and the spaces it trims.
    fn close(&mut self, trims: bool) {
        self.pos += if trims { 4 } else { 2 };
        if trims {
            self.pos = self.input.len() - trim_spaces_left(self.rest()).len();
        }
        self.start = self.pos;
    }

    fn inside_action(&mut self) -> Result<(), String> {
        self.paren_depth = 0;
        loop {
            if let Some(trims) = right_delim(self.rest()) {
                if self.paren_depth > 0 {
                    return Err("unclosed left paren".to_owned());
                }
                self.tokens.push(Token { kind: Kind::RightDelim, pos: self.pos, text: "}}".to_owned() });
                self.close(trims);
                return Ok(());
            }
            let Some(c) = self.next() else { return Err("unclosed action".to_owned()) };
            match c {
                c if is_space(c) => self.space(),
                '=' => self.emit(Kind::Assign),
                ':' => {
                    if self.next() != Some('=') {
                        return Err("expected :=".to_owned());
                    }
                    self.emit(Kind::Declare);
                }
                '|' => self.emit(Kind::Pipe),
                '"' => self.quoted('"', "unterminated quoted string", Kind::String)?,
                '\'' => self.quoted('\'', "unterminated character constant", Kind::CharConstant)?,
                '`' => {
                    let end = self.rest().find('`').ok_or("unterminated raw quoted string")?;
                    self.pos += end + 1;
                    self.emit(Kind::RawString);
                }
                '$' => self.field_or_variable(Kind::Variable, Kind::Variable)?,
                // At the very end it begins a number, as in Go.
                '.' if self.peek().is_some_and(|c| !c.is_ascii_digit()) => {
                    self.field_or_variable(Kind::Field, Kind::Dot)?;
                }
                '.' | '+' | '-' | '0'..='9' => {
                    self.pos = self.start;
                    self.number()?;
                }
                c if is_alphanumeric(c) => self.identifier()?,
                '(' => {
                    self.emit(Kind::LeftParen);
                    self.paren_depth += 1;
                }
                ')' => {
                    self.paren_depth = self.paren_depth.checked_sub(1).ok_or("unexpected right paren")?;
                    self.emit(Kind::RightParen);
                }
                c if c.is_ascii_graphic() => self.emit(Kind::Char),
                c => return Err(format!("unrecognized character in action: {}", quote_rune(c))),
            }
        }
    }

    /// A run of spaces, of which the caller has taken the first. The last is left alone if it belongs to ` -}}`.
    fn space(&mut self) {
        while self.peek().is_some_and(is_space) && right_delim(self.rest()) != Some(true) {
            self.next();
        }
        self.emit(Kind::Space);
    }

    fn quoted(&mut self, end: char, unterminated: &str, kind: Kind) -> Result<(), String> {
        loop {
            match self.next() {
                Some('\\') => match self.next() {
                    None | Some('\n') => return Err(unterminated.to_owned()),
                    Some(_) => {}
                },
                None | Some('\n') => return Err(unterminated.to_owned()),
                Some(c) if c == end => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Ok(())
    }

    fn word(&mut self) -> Result<(), String> {
        while self.peek().is_some_and(is_alphanumeric) {
            self.next();
        }
        match self.peek() {
            Some(c) if !self.at_terminator() => Err(format!("bad character {}", quote_rune(c))),
            _ => Ok(()),
        }
    }

    fn field_or_variable(&mut self, kind: Kind, alone: Kind) -> Result<(), String> {
        if self.at_terminator() {
            self.emit(alone);
            return Ok(());
        }
        self.word()?;
        self.emit(kind);
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), String> {
        self.word()?;
        let word = &self.input[self.start..self.pos];
        self.emit(match word {
            "true" | "false" => Kind::Bool,
            word => Kind::keyword(word).unwrap_or(Kind::Identifier),
        });
        Ok(())
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with("}}"),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let mut good = self.digits();
        if good && self.peek().is_some_and(|c| matches!(c, '+' | '-')) {
            // The imaginary part of a complex number.
            good = self.digits() && self.input[..self.pos].ends_with('i');
        }
        if !good {
            return Err(format!("bad number syntax: {}", crate::text::quote(&self.input[self.start..self.pos])));
        }
        self.emit(Kind::Number);
        Ok(())
    }

    /// Steps over a number; whether it ends where numbers end.
    fn digits(&mut self) -> bool {
        self.accept("+-");
        let (mut digits, mut exponent) = ("0123456789_", "eE");
        if self.accept("0") {
            if self.accept("xX") {
                (digits, exponent) = ("0123456789abcdefABCDEF_", "pP");
            } else if self.accept("oO") {
                (digits, exponent) = ("01234567_", "");
            } else if self.accept("bB") {
                (digits, exponent) = ("01_", "");
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.next();
            return false;
        }
        true
    }
}
