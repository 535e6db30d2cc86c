//! Cuts a query into tokens, one at a time and never looking far ahead.
//!
//! What a character means depends on where it stands, so the lexer keeps a mode: between braces words are always
//! identifiers; between brackets only durations are expected; series notation has rules of its own (see
//! [`crate::series`]).

use crate::ast::BinaryOp;
use crate::token::{HistogramField, Keyword, Kind, Preprocessor, Token, keyword, quoted};

/// Where the lexer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Statements,
    /// Between brackets, until the first number.
    Duration,
    Braces,
    /// Samples of series notation.
    Values,
    /// `{{…}}` in series notation.
    Histogram,
    /// Right behind `}}`, before a sign or `x`.
    HistogramEnd,
}

pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Start of the current token.
    start: usize,
    pos: usize,
    mode: Mode,
    series: bool,
    paren_depth: i64,
    bracket_open: bool,
    got_colon: bool,
    got_duration: bool,
    /// Message of the error token.
    error: Option<String>,
}

type Lexed = Result<Kind, String>;

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, series: bool) -> Lexer<'a> {
        Lexer {
            text,
            start: 0,
            pos: 0,
            mode: Mode::Statements,
            series,
            paren_depth: 0,
            bracket_open: false,
            got_colon: false,
            got_duration: false,
            error: None,
        }
    }

    /// Start of the token that is or was being read: where an error is reported.
    pub(crate) fn token_start(&self) -> usize {
        self.start
    }

    /// The message belonging to an error token.
    pub(crate) fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }

    /// The next token, comments included. After the end or an error: the end again.
    pub(crate) fn next_token(&mut self) -> Token {
        self.start = self.pos;
        let kind = match self.mode {
            Mode::Statements => self.statement(),
            Mode::Duration => self.duration_expr(),
            Mode::Braces => self.inside_braces(),
            Mode::Values => self.value(),
            Mode::Histogram => self.histogram(),
            Mode::HistogramEnd => self.histogram_end(),
        };
        match kind {
            Ok(kind) => Token { kind, start: self.start, end: self.pos },
            Err(message) => {
                self.error = Some(message);
                self.pos = self.text.len();
                Token { kind: Kind::Error, start: self.start, end: self.text.len() }
            }
        }
    }

    // --- Characters ---

    fn peek(&self) -> Option<char> {
        // Nearly all of a query is ASCII.
        match self.text.as_bytes().get(self.pos)? {
            b if b.is_ascii() => Some(char::from(*b)),
            _ => self.text[self.pos..].chars().next(),
        }
    }

    fn peek_second(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos + 1).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, set: &str) -> bool {
        match self.peek() {
            Some(c) if set.contains(c) => {
                self.pos += c.len_utf8();
                true
            }
            _ => false,
        }
    }

    fn is(&self, set: &str) -> bool {
        self.peek().is_some_and(|c| set.contains(c))
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
    }

    fn word(&self) -> &'a str {
        &self.text[self.start..self.pos]
    }

    fn absorb_word(&mut self, mut more: impl FnMut(char) -> bool) -> &'a str {
        while let Some(c) = self.peek() {
            if !more(c) {
                break;
            }
            self.pos += c.len_utf8();
        }
        self.word()
    }

    // --- Modes ---

    fn statement(&mut self) -> Lexed {
        self.skip_spaces();
        self.start = self.pos;
        let Some(c) = self.peek() else {
            return match () {
                () if self.paren_depth != 0 => Err("unclosed left parenthesis".to_owned()),
                () if self.bracket_open => Err("unclosed left bracket".to_owned()),
                () => Ok(Kind::Eof),
            };
        };
        if c == '#' {
            return Ok(self.comment());
        }
        if c.is_ascii_digit() || (c == '.' && self.peek_second().is_some_and(|b| b.is_ascii_digit())) {
            return self.number_or_duration();
        }
        if is_alpha(c) || c == ':' {
            return if self.bracket_open { self.word_in_brackets(c) } else { Ok(self.keyword_or_identifier()) };
        }
        self.next();
        Ok(match c {
            ',' => Kind::Comma,
            '*' => Kind::Op(BinaryOp::Mul),
            '/' => Kind::Op(BinaryOp::Div),
            '%' => Kind::Op(BinaryOp::Mod),
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            '^' => Kind::Op(BinaryOp::Pow),
            '@' => Kind::At,
            '=' => match self.peek() {
                Some('=') => {
                    self.next();
                    Kind::Op(BinaryOp::Eq)
                }
                Some('~') => return Err("unexpected character after '=': '~'".to_owned()),
                _ => Kind::Assign,
            },
            '!' => match self.next() {
                Some('=') => Kind::Op(BinaryOp::Ne),
                other => return Err(format!("unexpected character after '!': {}", quoted_char(other))),
            },
            '<' if self.accept("=") => Kind::Op(BinaryOp::Le),
            '<' if self.accept("/") => Kind::Op(BinaryOp::TrimUpper),
            '<' => Kind::Op(BinaryOp::Lt),
            '>' if self.accept("=") => Kind::Op(BinaryOp::Ge),
            '>' if self.accept("/") => Kind::Op(BinaryOp::TrimLower),
            '>' => Kind::Op(BinaryOp::Gt),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            '{' => {
                self.mode = Mode::Braces;
                Kind::LeftBrace
            }
            '[' if self.bracket_open => return Err("unexpected left bracket '['".to_owned()),
            '[' => {
                self.bracket_open = true;
                self.got_colon = false;
                self.got_duration = false;
                self.mode = Mode::Duration;
                Kind::LeftBracket
            }
            ']' if !self.bracket_open => return Err("unexpected right bracket ']'".to_owned()),
            ']' => {
                self.bracket_open = false;
                Kind::RightBracket
            }
            c => return Err(format!("unexpected character: {}", quoted_char(Some(c)))),
        })
    }

    fn comment(&mut self) -> Kind {
        self.pos = self.text[self.pos..].find('\n').map_or(self.text.len(), |at| self.pos + at);
        Kind::Comment
    }

    fn open_paren(&mut self) -> Kind {
        self.paren_depth += 1;
        Kind::LeftParen
    }

    fn close_paren(&mut self) -> Lexed {
        self.paren_depth -= 1;
        if self.paren_depth < 0 {
            self.start = self.pos;
            return Err("unexpected right parenthesis ')'".to_owned());
        }
        Ok(Kind::RightParen)
    }

    fn keyword_or_identifier(&mut self) -> Kind {
        let word = self.absorb_word(|c| is_alphanumeric(c) || c == ':');
        let kind = match keyword(word) {
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            // Functions whose names also stand in durations.
            None if word.eq_ignore_ascii_case("min_of") => Kind::Preprocessor(Preprocessor::MinOf),
            None if word.eq_ignore_ascii_case("max_of") => Kind::Preprocessor(Preprocessor::MaxOf),
            None => Kind::Identifier,
        };
        if self.series {
            self.mode = if self.peek() == Some('{') { Mode::Statements } else { Mode::Values };
        }
        kind
    }

    /// A letter or colon behind a duration.
    fn word_in_brackets(&mut self, c: char) -> Lexed {
        self.next();
        if c == ':' {
            if self.got_colon {
                return Err("unexpected colon ':'".to_owned());
            }
            self.got_colon = true;
            return Ok(Kind::Colon);
        }
        self.duration_keyword().ok_or_else(|| format!("unexpected character: {}, expected ':'", quoted_char(Some(c))))
    }

    /// The rest of a word whose first letter has been taken.
    fn duration_keyword(&mut self) -> Option<Kind> {
        let word = self.absorb_word(is_alpha);
        let found = [
            ("step", Preprocessor::Step),
            ("range", Preprocessor::Range),
            ("min_of", Preprocessor::MinOf),
            ("max_of", Preprocessor::MaxOf),
        ];
        let (_, found) = found.iter().find(|(name, _)| word.eq_ignore_ascii_case(name))?;
        self.got_duration = true;
        Some(Kind::Preprocessor(*found))
    }

    fn duration_expr(&mut self) -> Lexed {
        self.skip_spaces();
        self.start = self.pos;
        let Some(c) = self.peek() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        if c.is_ascii_digit() || (c == '.' && self.peek_second().is_some_and(|b| b.is_ascii_digit())) {
            self.got_duration = true;
            self.mode = Mode::Statements;
            return self.number_or_duration();
        }
        self.next();
        Ok(match c {
            ']' => {
                self.bracket_open = false;
                self.mode = Mode::Statements;
                Kind::RightBracket
            }
            ':' => {
                let problem = match () {
                    () if !self.got_duration => "unexpected colon before duration in duration expression",
                    () if self.got_colon => "unexpected repeated colon in duration expression",
                    () => {
                        self.got_colon = true;
                        return Ok(Kind::Colon);
                    }
                };
                self.start = self.pos;
                return Err(problem.to_owned());
            }
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            '*' => Kind::Op(BinaryOp::Mul),
            '/' => Kind::Op(BinaryOp::Div),
            '%' => Kind::Op(BinaryOp::Mod),
            '^' => Kind::Op(BinaryOp::Pow),
            ',' => Kind::Comma,
            c => {
                let known = if is_alpha(c) { self.duration_keyword() } else { None };
                return known
                    .ok_or_else(|| format!("unexpected character in duration expression: {}", quoted_char(Some(c))));
            }
        })
    }

    fn inside_braces(&mut self) -> Lexed {
        self.skip_spaces();
        self.start = self.pos;
        let Some(c) = self.peek() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        if c == '#' {
            return Ok(self.comment());
        }
        self.next();
        Ok(match c {
            ',' => Kind::Comma,
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            '=' if self.accept("~") => Kind::EqRegex,
            '=' => Kind::Assign,
            '!' => match self.next() {
                Some('~') => Kind::NeRegex,
                Some('=') => Kind::Op(BinaryOp::Ne),
                other => return Err(format!("unexpected character after '!' inside braces: {}", quoted_char(other))),
            },
            '{' => return Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.mode = if self.series { Mode::Values } else { Mode::Statements };
                Kind::RightBrace
            }
            c if is_alpha(c) => {
                self.absorb_word(is_alphanumeric);
                Kind::Identifier
            }
            c => return Err(format!("unexpected character inside braces: {}", quoted_char(Some(c)))),
        })
    }

    // --- Numbers and strings ---

    fn number_or_duration(&mut self) -> Lexed {
        if self.scan_number() {
            return Ok(Kind::Number);
        }
        if self.rest_of_duration() {
            return Ok(Kind::Duration);
        }
        Err(format!("bad number or duration syntax: {}", quoted(self.word())))
    }

    /// Takes a number in any form. False if it is none; then what has been taken may be the start of a duration.
    fn scan_number(&mut self) -> bool {
        let mut digits = "0123456789";
        let mut hex = false;
        // Series notation has no hexadecimal numbers: `0x5` is zero, six times.
        if !self.series && self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
            hex = true;
        }
        self.accept(".");
        self.accept(digits);
        // A leading dot does not count as the one dot, as in Prometheus: `.1.` fails later, as a number.
        let (mut dot, mut exponent) = (false, false);
        loop {
            if self.accept(".") {
                if std::mem::replace(&mut dot, true) || self.accept("_.") || hex {
                    return false;
                }
            } else if self.accept("eE") {
                if std::mem::replace(&mut exponent, true) {
                    return false;
                }
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.is(digits) {
                self.accept_run(digits);
            } else {
                break;
            }
        }
        match self.peek() {
            Some('x') if self.series => true,
            Some(c) => !is_alphanumeric(c),
            None => true,
        }
    }

    /// Takes the rest of a duration whose first number has been taken.
    fn rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.accept_run("0123456789");
            // Years can only come first.
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        match self.peek() {
            Some(c) if is_alphanumeric(c) => {
                self.next();
                false
            }
            _ => true,
        }
    }

    fn string(&mut self, quote: char) -> Lexed {
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some('\\') => self.escape(quote)?,
                Some(c) if c == quote => return Ok(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), String> {
        let open_end = || "escape sequence not terminated".to_owned();
        let (mut n_digits, base, max, mut value) = match self.next() {
            None => return Err(open_end()),
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some(c @ '0'..='7') => (2, 8, 255, c as u32 - '0' as u32),
            Some('x') => (2, 16, 255, 0),
            Some('u') => (4, 16, char::MAX as u32, 0),
            Some('U') => (8, 16, char::MAX as u32, 0),
            Some(c) => return Err(format!("unknown escape sequence {}", code_point(c))),
        };
        while n_digits > 0 {
            let c = self.next().ok_or_else(open_end)?;
            let digit =
                c.to_digit(base).ok_or_else(|| format!("illegal character {} in escape sequence", code_point(c)))?;
            value = value.wrapping_mul(base).wrapping_add(digit);
            n_digits -= 1;
        }
        if value > max || (0xD800..0xE000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn raw_string(&mut self) -> Lexed {
        match self.text[self.pos..].find('`') {
            Some(at) => {
                self.pos += at + 1;
                Ok(Kind::String)
            }
            None => {
                self.pos = self.text.len();
                Err("unterminated raw string".to_owned())
            }
        }
    }

    // --- Series notation ---

    fn value(&mut self) -> Lexed {
        let Some(c) = self.peek() else { return Ok(Kind::Eof) };
        if c.is_ascii_digit() || (c == '.' && self.peek_second().is_some_and(|b| b.is_ascii_digit())) {
            return self.plain_number();
        }
        if c == '{' && self.peek_second() == Some(b'{') {
            self.pos += 2;
            self.mode = Mode::Histogram;
            return Ok(Kind::OpenHistogram);
        }
        self.next();
        Ok(match c {
            c if is_space(c) => {
                self.skip_spaces();
                Kind::Space
            }
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            'x' => Kind::Times,
            '_' => Kind::Blank,
            c if is_alpha(c) => self.keyword_or_identifier(),
            c => return Err(format!("unexpected character in series sequence: {}", quoted_char(Some(c)))),
        })
    }

    fn plain_number(&mut self) -> Lexed {
        if self.scan_number() { Ok(Kind::Number) } else { Err(format!("bad number syntax: {}", quoted(self.word()))) }
    }

    fn histogram(&mut self) -> Lexed {
        let Some(c) = self.peek() else {
            return Err("histogram description incomplete unexpected: '\u{fffd}'".to_owned());
        };
        if c.is_ascii_digit() {
            return self.plain_number();
        }
        self.next();
        Ok(match c {
            c if is_space(c) => {
                self.skip_spaces();
                Kind::Space
            }
            ':' => Kind::Colon,
            '-' => Kind::Op(BinaryOp::Sub),
            '[' => Kind::LeftBracket,
            ']' => Kind::RightBracket,
            '}' if self.peek() == Some('}') => {
                self.next();
                let repeated = matches!(self.peek(), Some('x' | '+' | '-'));
                self.mode = if repeated { Mode::HistogramEnd } else { Mode::Values };
                Kind::CloseHistogram
            }
            c if is_alpha(c) => return self.histogram_word(),
            c => return Err(format!("histogram description incomplete unexpected: {}", quoted_char(Some(c)))),
        })
    }

    fn histogram_word(&mut self) -> Lexed {
        let word = self.absorb_word(is_alpha);
        if let Some(field) = HistogramField::find(word) {
            return match self.peek() {
                Some(':') => Ok(Kind::HistogramField(field)),
                _ => Err("missing `:` for histogram descriptor".to_owned()),
            };
        }
        if word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan") {
            return Ok(Kind::Number);
        }
        let hints = ["unknown", "reset", "not_reset", "gauge"];
        match hints.into_iter().find(|hint| word.eq_ignore_ascii_case(hint)) {
            Some(hint) => Ok(Kind::CounterResetHint(hint)),
            None => Err(format!("bad histogram descriptor found: {}", quoted(word))),
        }
    }

    fn histogram_end(&mut self) -> Lexed {
        self.mode = Mode::Values;
        Ok(match self.next() {
            Some('x') => Kind::Times,
            Some('+') => Kind::Op(BinaryOp::Add),
            _ => Kind::Op(BinaryOp::Sub),
        })
    }
}

pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// In single quotes, as Go quotes a character; the end of the input is the replacement character.
fn quoted_char(c: Option<char>) -> String {
    match c.unwrap_or('\u{fffd}') {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let text = quoted(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

/// `U+0063 'c'`
fn code_point(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", c as u32) } else { format!("U+{:04X} '{c}'", c as u32) }
}

/// Whether the word is one of the keywords that may also name a metric.
pub(crate) fn names_metric(kind: Kind) -> bool {
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) | Kind::Preprocessor(_) => true,
        Kind::Op(op) => op.is_set(),
        Kind::Keyword(keyword) => {
            use Keyword::*;
            matches!(keyword, By | Without | Offset | Anchored | Smoothed | Fill | FillLeft | FillRight)
        }
        _ => false,
    }
}

/// Whether the word may stand in a list of labels.
pub(crate) fn names_label(kind: Kind) -> bool {
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) | Kind::Preprocessor(_) | Kind::Keyword(_) => {
            true
        }
        Kind::Op(op) => op.is_set() || op == BinaryOp::Atan2,
        _ => false,
    }
}
