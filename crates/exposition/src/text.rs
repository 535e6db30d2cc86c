//! The Prometheus text format.
//!
//! [`TextParser`] is a cursor over a body. Each [`TextParser::next`] reads one entry (a sample, a TYPE or HELP line, a
//! comment) and hands out slices of the body. It is as lenient and as strict as Prometheus' own parser
//! (`model/textparse/promparse.go`): blanks around almost everything, commas between labels may be left out, comments that
//! look like broken metadata are comments, a final line break is not needed. There is no recursion, and the only growing
//! state is one span per label of the current line.
//!
//! Labels are not unescaped until [`TextParser::for_each_label`] asks for them, which the scrape cache does only for
//! series it does not know.

use std::borrow::Cow;
use std::fmt;

use crate::MetricType;
use crate::float::{parse_go_float, quote, scan_float};
use crate::spans::{LabelSpans, check_length, unescape, utf8};

/// One sample line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The series as written, without value: `name{a="b"}`.
    pub series: &'a [u8],
    /// Where it starts in the body, bytes.
    pub offset: usize,
    /// The value; every NaN is the normal one.
    pub value: f64,
    /// The timestamp in ms, if there is one.
    pub timestamp: Option<i64>,
}

/// What a body consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A sample. Its labels are asked for at the parser.
    Sample(Sample<'a>),
    /// `# TYPE metric type`
    Type {
        /// The metric family.
        metric: Cow<'a, str>,
        /// Its type, from now on that of all samples until the next TYPE line.
        kind: MetricType,
    },
    /// `# HELP metric text`
    Help {
        /// The metric family.
        metric: Cow<'a, str>,
        /// The text, unescaped.
        help: Cow<'a, str>,
    },
    /// Any other line that starts with `#`.
    Comment(&'a [u8]),
}

/// A body that is not in the format. Prints as in Prometheus; the place is extra.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    message: String,
    /// Offset in the body of what was not expected, bytes.
    pub offset: usize,
    /// Line of it, counting from 1.
    pub line: usize,
    /// Column of it in bytes, counting from 1.
    pub column: usize,
}

impl std::error::Error for ParseError {}

impl ParseError {
    /// What is wrong at `offset` of `body`.
    pub(crate) fn at(body: &[u8], offset: usize, message: String) -> ParseError {
        let offset = offset.min(body.len());
        let before = &body[..offset];
        ParseError {
            message,
            offset,
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: offset - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1) + 1,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Invalid,
    Eof,
    Linebreak,
    MetricName,
    LabelName,
    QuotedString,
    LabelValue,
    BraceOpen,
    BraceClose,
    Equal,
    Comma,
    Value,
    Timestamp,
}

impl Token {
    /// As error texts name it.
    fn name(self) -> &'static str {
        match self {
            Token::Invalid => "INVALID",
            Token::Eof => "EOF",
            Token::Linebreak => "LINEBREAK",
            Token::MetricName => "MNAME",
            Token::LabelName => "LNAME",
            Token::QuotedString => "QSTRING",
            Token::LabelValue => "LVALUE",
            Token::BraceOpen => "BOPEN",
            Token::BraceClose => "BCLOSE",
            Token::Equal => "EQUAL",
            Token::Comma => "COMMA",
            Token::Value => "VALUE",
            Token::Timestamp => "TIMESTAMP",
        }
    }
}

/// Which tokens are possible at a place.
#[derive(Clone, Copy)]
enum Context {
    Line,
    MetaName,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    LineEnd,
}

/// Reads a body, entry by entry. See the module.
#[derive(Clone, Debug)]
pub struct TextParser<'a> {
    body: &'a [u8],
    /// Where the next token is looked for. The body counts as having one more line break at its end.
    pos: usize,
    /// Where the current entry started.
    entry_start: usize,
    token_start: usize,
    kind: MetricType,
    labels: LabelSpans,
}

impl<'a> TextParser<'a> {
    /// At the start of `body`.
    pub fn new(body: &'a [u8]) -> TextParser<'a> {
        TextParser {
            body,
            pos: 0,
            entry_start: 0,
            token_start: 0,
            kind: MetricType::Unknown,
            labels: LabelSpans::default(),
        }
    }

    /// Goes to `offset`, which must be the start of a line, with the type that the last TYPE line before it names.
    pub fn seek(&mut self, offset: usize, kind: MetricType) {
        self.pos = offset;
        self.kind = kind;
    }

    /// Where the next entry is looked for: behind the line break of the last one.
    pub fn offset(&self) -> usize {
        self.pos.min(self.body.len())
    }

    /// The type in effect: that of the last TYPE line, whatever metric that named.
    pub fn metric_type(&self) -> MetricType {
        self.kind
    }

    /// The next entry; `None` at the end. After an error the parser must not be used further.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its labels")]
    pub fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            self.entry_start = self.pos;
            self.skip_blanks();
            return match self.byte(self.pos) {
                None => Ok(None),
                Some(b'\n') => {
                    self.pos += 1;
                    continue;
                }
                Some(b'#') => self.hash_line().map(Some),
                Some(_) => self.sample().map(|sample| Some(Entry::Sample(sample))),
            };
        }
    }

    /// Calls `found(name, value)` for each label of the last sample as it is to be stored, the metric name first: unescaped, and
    /// `le` of histograms and `quantile` of summaries as OpenMetrics floats. Names may repeat and values may be empty.
    pub fn for_each_label(&self, mut found: impl FnMut(Cow<'a, str>, Cow<'a, str>)) {
        self.labels.for_each(self.body, self.kind, &mut found);
    }

    fn byte(&self, at: usize) -> Option<u8> {
        match self.body.get(at) {
            Some(byte) => Some(*byte),
            None if at == self.body.len() => Some(b'\n'),
            None => None,
        }
    }

    fn skip_blanks(&mut self) {
        while matches!(self.body.get(self.pos), Some(b' ' | b'\t')) {
            self.pos += 1;
        }
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.body.get(self.pos).is_some_and(|b| accept(*b)) {
            self.pos += 1;
        }
    }

    /// The bytes of a range, with the line break that is thought at the end of the body.
    fn shown(&self, start: usize, end: usize) -> Vec<u8> {
        let len = self.body.len();
        let mut bytes = self.body[start.min(len)..end.min(len)].to_vec();
        if end > len {
            bytes.push(b'\n');
        }
        bytes
    }

    // === tokens ===

    /// Reads a token. An invalid one ends at the byte that does not fit.
    fn token(&mut self, context: Context) -> Token {
        self.skip_blanks();
        self.token_start = self.pos;
        let Some(byte) = self.byte(self.pos) else { return Token::Eof };
        let single = |parser: &mut Self, token| {
            parser.pos += 1;
            token
        };
        match (context, byte) {
            (Context::Line, b'{') | (Context::Value, b'{') => single(self, Token::BraceOpen),
            (Context::Line | Context::MetaName, b) if is_metric_start(b) => {
                self.skip_while(|b| is_metric_start(b) || b.is_ascii_digit());
                Token::MetricName
            }
            (Context::MetaName, b'"') => self.quoted(Token::MetricName),
            (Context::Labels, b'"') => self.quoted(Token::QuotedString),
            (Context::Labels, b'}') => single(self, Token::BraceClose),
            (Context::Labels, b'=') => single(self, Token::Equal),
            (Context::Labels, b',') => single(self, Token::Comma),
            (Context::Labels, b) if is_metric_start(b) && b != b':' => {
                self.skip_while(|b| is_metric_start(b) && b != b':' || b.is_ascii_digit());
                Token::LabelName
            }
            (Context::LabelValue, b'"') => self.quoted(Token::LabelValue),
            (Context::Timestamp | Context::LineEnd, b'\n') => single(self, Token::Linebreak),
            (Context::Timestamp | Context::LineEnd, b) if b.is_ascii_digit() => {
                self.skip_while(|b| b.is_ascii_digit());
                Token::Timestamp
            }
            (Context::Value, b) if !matches!(b, b'\n' | b'\0') => {
                self.skip_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n' | b'\0'));
                Token::Value
            }
            _ => Token::Invalid,
        }
    }

    /// From a double quote to the next one that is not escaped. Line breaks are allowed, but not behind a backslash.
    fn quoted(&mut self, token: Token) -> Token {
        let mut at = self.pos + 1;
        loop {
            match self.body.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
                Some(len) if self.body[at + len] == b'"' => {
                    self.pos = at + len + 1;
                    return token;
                }
                Some(len) if self.body.get(at + len + 1).is_some_and(|b| *b != b'\n') => at += len + 2,
                Some(len) => {
                    self.pos = at + len + 1;
                    return Token::Invalid;
                }
                None => {
                    self.pos = self.body.len();
                    return Token::Invalid;
                }
            }
        }
    }

    // === errors ===

    fn error(&self, message: String) -> ParseError {
        ParseError::at(self.body, self.token_start, message)
    }

    /// Text as in Prometheus: what was expected, and the token up to and with the byte behind it.
    fn unexpected(&self, expected: &str, got: Token) -> ParseError {
        let end = self.pos + 1;
        let token = quote(&self.shown(self.token_start, end));
        let name = got.name();
        let entry = quote(&self.shown(self.entry_start, end));
        self.error(format!("{expected}, got {token} (\"{name}\") while parsing: {entry}"))
    }

    fn while_parsing(&self, what: &str) -> ParseError {
        self.error(format!("{what} while parsing: {}", quote(&self.shown(self.entry_start, self.pos))))
    }

    // === lines ===

    /// A line that starts with `#`.
    fn hash_line(&mut self) -> Result<Entry<'a>, ParseError> {
        let start = self.pos;
        self.pos += 1;
        let blanks_start = self.pos;
        self.skip_blanks();
        let rest = &self.body[self.pos..];
        let is_meta = |word: &[u8]| rest.starts_with(word) && matches!(rest.get(word.len()), Some(b' ' | b'\t'));
        let is_help = is_meta(b"HELP");
        if self.pos == blanks_start || !is_help && !is_meta(b"TYPE") {
            let end = self.line_end(start);
            self.pos = end + 1;
            return Ok(Entry::Comment(&self.body[start..end]));
        }
        self.pos += b"HELP".len();
        let word = if is_help { "HELP" } else { "TYPE" };
        match self.token(Context::MetaName) {
            Token::MetricName => {}
            other => return Err(self.unexpected(&format!("expected metric name after {word}"), other)),
        }
        let mut name = self.token_start..self.pos;
        if self.body[name.start] == b'"' {
            name = name.start + 1..name.end - 1;
        }
        self.check_length(name.len())?;
        let metric = String::from_utf8_lossy(&self.body[name]);
        // Exactly one byte separates the name from the text, whatever that byte is.
        self.token_start = self.pos;
        let end = self.line_end(self.pos);
        let text = &self.body[(self.pos + 1).min(end)..end];
        self.pos = end;
        let entry = if is_help {
            let help = std::str::from_utf8(text)
                .map_err(|_| self.error(format!("help text {} is not a valid utf8 string", quote(text))))?;
            Entry::Help { metric, help: unescape(Cow::Borrowed(help), false) }
        } else {
            self.kind = match text {
                b"counter" => MetricType::Counter,
                b"gauge" => MetricType::Gauge,
                b"histogram" => MetricType::Histogram,
                b"summary" => MetricType::Summary,
                b"untyped" => MetricType::Unknown,
                _ => return Err(self.error(format!("invalid metric type {}", quote(text)))),
            };
            Entry::Type { metric, kind: self.kind }
        };
        self.pos = end + 1;
        Ok(entry)
    }

    fn line_end(&self, from: usize) -> usize {
        memchr::memchr(b'\n', &self.body[from..]).map_or(self.body.len(), |len| from + len)
    }

    fn sample(&mut self) -> Result<Sample<'a>, ParseError> {
        self.labels.clear();
        let start = self.pos;
        match self.token(Context::Line) {
            Token::BraceOpen => self.label_list()?,
            Token::MetricName => {
                self.labels.name = Some(start..self.pos);
                let name_end = self.pos;
                if self.token(Context::Value) == Token::BraceOpen {
                    self.label_list()?;
                } else {
                    self.pos = name_end;
                }
            }
            other => return Err(self.unexpected("expected a valid start token", other)),
        }
        let series = &self.body[start..self.pos];
        let has_name = self.labels.name.as_ref().map(|name| name.len());
        let Some(name_len) = has_name else {
            self.token(Context::Value);
            return Err(self.while_parsing("metric name not set"));
        };
        self.check_length(name_len)?;
        let (value, timestamp) = self.rest_of_sample()?;
        Ok(Sample { series, offset: start, value, timestamp })
    }

    /// Reads a value and perhaps a timestamp at `offset`, up to behind the line break. For whoever has recognised the series
    /// before it without this parser. On an error the line must be read as a whole to get the right error.
    pub fn value_at(&mut self, offset: usize) -> Result<(f64, Option<i64>), ParseError> {
        self.entry_start = offset;
        self.pos = offset;
        self.rest_of_sample()
    }

    fn rest_of_sample(&mut self) -> Result<(f64, Option<i64>), ParseError> {
        let token = self.token(Context::Value);
        if token != Token::Value {
            return Err(self.unexpected("expected value after metric", token));
        }
        let text = &self.body[self.token_start..self.pos];
        let value = match scan_float(&self.body[self.token_start..]) {
            Some((value, len)) if len == text.len() => value,
            _ => parse_go_float(text).map_err(|error| self.while_parsing(&error.to_string()))?,
        };
        let timestamp = match self.token(Context::Timestamp) {
            Token::Linebreak => None,
            Token::Timestamp => Some(self.timestamp()?),
            other => return Err(self.unexpected("expected timestamp or new record", other)),
        };
        Ok((value, timestamp))
    }

    fn timestamp(&mut self) -> Result<i64, ParseError> {
        let text = utf8(&self.body[self.token_start..self.pos]);
        let t = text.parse().map_err(|_| {
            self.while_parsing(&format!("strconv.ParseInt: parsing {}: value out of range", quote(text.as_bytes())))
        })?;
        match self.token(Context::LineEnd) {
            Token::Linebreak => Ok(t),
            other => Err(self.unexpected("expected next entry after timestamp", other)),
        }
    }

    /// Behind the opening brace, to behind the closing one.
    fn label_list(&mut self) -> Result<(), ParseError> {
        let mut token = self.token(Context::Labels);
        loop {
            let mut name = self.token_start..self.pos;
            let quoted = match token {
                Token::BraceClose => return Ok(()),
                Token::LabelName => false,
                Token::QuotedString => true,
                other => return Err(self.unexpected("expected label name", other)),
            };
            if quoted {
                name = name.start + 1..name.end - 1;
                if let Err(_invalid) = std::str::from_utf8(&self.body[name.clone()]) {
                    let text = quote(&self.body[name]);
                    return Err(self.error(format!("invalid UTF-8 name: {text}")));
                }
            }
            token = self.token(Context::Labels);
            // A quoted string on its own is the metric name.
            if quoted && matches!(token, Token::Comma | Token::BraceClose) {
                if self.labels.name.is_some() {
                    return Err(self.while_parsing("metric name already set"));
                }
                self.labels.name = Some(name);
                if token == Token::BraceClose {
                    return Ok(());
                }
                token = self.token(Context::Labels);
                continue;
            }
            if token != Token::Equal {
                return Err(self.unexpected("expected equal", token));
            }
            match self.token(Context::LabelValue) {
                Token::LabelValue => {}
                other => return Err(self.unexpected("expected label value", other)),
            }
            let value = self.token_start + 1..self.pos - 1;
            if std::str::from_utf8(&self.body[value.clone()]).is_err() {
                let text = quote(&self.body[self.token_start..self.pos]);
                return Err(self.error(format!("invalid UTF-8 label value: {text}")));
            }
            self.labels.push(name, value).map_err(|message| self.error(message))?;
            // Commas may be left out, and the last one may be too many.
            token = self.token(Context::Labels);
            if token == Token::Comma {
                token = self.token(Context::Labels);
            }
        }
    }

    fn check_length(&self, len: usize) -> Result<(), ParseError> {
        check_length(len).map_err(|message| self.error(message))
    }
}

mod reader;

pub(crate) use reader::TextReader;

fn is_metric_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b == b':'
}

#[cfg(test)]
mod tests;
