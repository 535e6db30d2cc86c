//! OpenMetrics text (1.0), as strict and as lenient as Prometheus reads it.
//!
//! [`OpenMetricsParser`] is a cursor over a body like [`crate::TextParser`]: each call reads one line, hands out slices of the body,
//! and does not copy. The format leaves no freedom with blanks, so a token is told from the byte in front of it: values and
//! timestamps begin with their one blank. A body must end with `# EOF`. Timestamps are seconds with a fraction; they come out as ms.

use std::borrow::Cow;

use crate::MetricType;
use crate::float::{parse_go_float, quote};
use crate::spans::{LabelSpans, Span, check_length, unescape, utf8};
use crate::text::{ParseError, Sample};

/// What a body consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum OpenMetricsEntry<'a> {
    /// A sample. Its labels and its exemplar are asked for at the parser.
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
    /// `# UNIT metric unit`
    Unit {
        /// The metric family.
        metric: Cow<'a, str>,
        /// Its unit, which its name ends with.
        unit: Cow<'a, str>,
    },
}

/// The exemplar of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarEntry {
    /// Value observed.
    pub value: f64,
    /// Time, ms, if there is one.
    pub timestamp: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Invalid,
    Eof,
    Linebreak,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    QuotedString,
    BraceOpen,
    BraceClose,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
}

impl Token {
    /// As error texts name it.
    fn name(self) -> &'static str {
        match self {
            Token::Invalid => "INVALID",
            Token::Eof => "EOF",
            Token::Linebreak => "LINEBREAK",
            Token::Help => "HELP",
            Token::Type => "TYPE",
            Token::Unit => "UNIT",
            Token::EofWord => "EOFWORD",
            Token::Text => "TEXT",
            Token::Comment => "COMMENT",
            Token::MetricName => "MNAME",
            Token::QuotedString => "QSTRING",
            Token::BraceOpen => "BOPEN",
            Token::BraceClose => "BCLOSE",
            Token::LabelName => "LNAME",
            Token::LabelValue => "LVALUE",
            Token::Comma => "COMMA",
            Token::Equal => "EQUAL",
            Token::Timestamp => "TIMESTAMP",
            Token::Value => "VALUE",
        }
    }
}

/// Which tokens are possible at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Line,
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    ExemplarLabels,
    ExemplarLabelValue,
    ExemplarValue,
    ExemplarTimestamp,
}

/// Words behind `# `.
const WORDS: [(&[u8], Token); 4] =
    [(b"HELP ", Token::Help), (b"TYPE ", Token::Type), (b"UNIT ", Token::Unit), (b"EOF", Token::EofWord)];

/// Reads a body, entry by entry. See the module.
#[derive(Clone, Debug)]
pub struct OpenMetricsParser<'a> {
    body: &'a [u8],
    pos: usize,
    entry_start: usize,
    token_start: usize,
    kind: MetricType,
    labels: LabelSpans,
    exemplar: Option<ExemplarEntry>,
    exemplar_labels: LabelSpans,
}

impl<'a> OpenMetricsParser<'a> {
    /// At the start of `body`.
    pub fn new(body: &'a [u8]) -> OpenMetricsParser<'a> {
        OpenMetricsParser {
            body,
            pos: 0,
            entry_start: 0,
            token_start: 0,
            kind: MetricType::Unknown,
            labels: LabelSpans::default(),
            exemplar: None,
            exemplar_labels: LabelSpans::default(),
        }
    }

    /// Goes to `offset`, which must be the start of a line, with the type that the last TYPE line before it names.
    pub fn seek(&mut self, offset: usize, kind: MetricType) {
        self.pos = offset;
        self.kind = kind;
    }

    /// Reads value, perhaps a timestamp and perhaps an exemplar behind the blank in front of `offset`, up to behind the line break.
    /// For whoever has recognised the series before it without this parser. On an error the line must be read as a whole to get
    /// the right error.
    pub fn value_at(&mut self, offset: usize) -> Result<(f64, Option<i64>), ParseError> {
        let Some(blank) = offset.checked_sub(1) else { return Err(self.error("expected a series")) };
        self.entry_start = blank;
        self.pos = blank;
        self.exemplar = None;
        self.exemplar_labels.clear();
        let token = self.token(Context::Value);
        self.rest_of_sample(token)
    }

    /// Where the next entry is looked for, bytes.
    pub fn offset(&self) -> usize {
        self.pos
    }

    /// The type in effect: that of the last TYPE line, whatever metric that named.
    pub fn metric_type(&self) -> MetricType {
        self.kind
    }

    /// The next entry; `None` behind `# EOF`. After an error the parser must not be used further.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its labels")]
    pub fn next(&mut self) -> Result<Option<OpenMetricsEntry<'a>>, ParseError> {
        self.entry_start = self.pos;
        self.labels.clear();
        self.exemplar = None;
        self.exemplar_labels.clear();
        match self.token(Context::Line) {
            Token::EofWord => match self.pos {
                pos if pos == self.body.len() => Ok(None),
                _ => Err(self.error("unexpected data after # EOF")),
            },
            Token::Eof => Err(self.ends_early()),
            token @ (Token::Help | Token::Type | Token::Unit) => self.meta(token).map(Some),
            Token::BraceOpen => {
                let start = self.token_start;
                self.label_list()?;
                self.sample(start).map(Some)
            }
            Token::MetricName => {
                let start = self.token_start;
                self.labels.name = Some(start..self.pos);
                if self.body.get(self.pos) == Some(&b'{') {
                    self.pos += 1;
                    self.label_list()?;
                }
                self.sample(start).map(Some)
            }
            other => Err(self.unexpected("expected a valid start token", other)),
        }
    }

    /// Calls `found(name, value)` for each label of the last sample as it is to be stored, the metric name first: unescaped, and
    /// `le` of histograms and `quantile` of summaries as OpenMetrics floats. Names may repeat and values may be empty.
    pub fn for_each_label(&self, mut found: impl FnMut(Cow<'a, str>, Cow<'a, str>)) {
        self.labels.for_each(self.body, self.kind, &mut found);
    }

    /// The metric name of the last sample as written.
    pub(crate) fn name(&self) -> &'a [u8] {
        self.labels.name.clone().and_then(|name| self.body.get(name)).unwrap_or_default()
    }

    /// Names and values of the labels of the last sample as written, without the metric name.
    pub(crate) fn written_labels(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.labels.labels.iter().map(|(name, value)| (&self.body[name.clone()], &self.body[value.clone()]))
    }

    /// The exemplar of the last sample.
    pub fn exemplar(&self) -> Option<ExemplarEntry> {
        self.exemplar
    }

    /// Calls `found(name, value)` for each label of the last sample's exemplar. Escapes stay as they are, as in Prometheus.
    pub fn for_each_exemplar_label(&self, mut found: impl FnMut(Cow<'a, str>, Cow<'a, str>)) {
        for (name, value) in &self.exemplar_labels.labels {
            found(utf8(&self.body[name.clone()]), utf8(&self.body[value.clone()]));
        }
    }

    // === tokens ===

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.body.get(self.pos).is_some_and(|b| accept(*b)) {
            self.pos += 1;
        }
    }

    /// Reads a token. An invalid one ends at the byte that does not fit; at the end of the body the last token stays the place
    /// that errors name.
    fn token(&mut self, context: Context) -> Token {
        let Some(&byte) = self.body.get(self.pos) else { return Token::Eof };
        self.token_start = self.pos;
        let single = |parser: &mut Self, token| {
            parser.pos += 1;
            token
        };
        match (context, byte) {
            (Context::Line, b'#') => self.word(),
            (Context::Line, b'{') => single(self, Token::BraceOpen),
            (Context::Line | Context::MetaName, b) if is_label_start(b) || b == b':' => {
                self.skip_while(|b| is_label_start(b) || b == b':' || b.is_ascii_digit());
                Token::MetricName
            }
            (Context::MetaName, b'"') => self.quoted(Token::MetricName, true, false),
            (Context::MetaText, b' ') => {
                let rest = &self.body[self.pos..];
                match memchr::memchr(b'\n', rest) {
                    Some(len) => {
                        self.pos += len + 1;
                        Token::Text
                    }
                    None => {
                        self.pos = self.body.len();
                        Token::Invalid
                    }
                }
            }
            (Context::Labels, b'"') => self.quoted(Token::QuotedString, true, false),
            (Context::ExemplarLabels, b'"') => self.quoted(Token::QuotedString, false, false),
            (Context::Labels | Context::ExemplarLabels, b'}') => single(self, Token::BraceClose),
            (Context::Labels | Context::ExemplarLabels, b'=') => single(self, Token::Equal),
            (Context::Labels | Context::ExemplarLabels, b',') => single(self, Token::Comma),
            (Context::Labels | Context::ExemplarLabels, b) if is_label_start(b) => {
                self.skip_while(|b| is_label_start(b) || b.is_ascii_digit());
                Token::LabelName
            }
            (Context::LabelValue, b'"') => self.quoted(Token::LabelValue, false, true),
            (Context::ExemplarLabelValue, b'"') => self.quoted(Token::LabelValue, false, false),
            (Context::Value | Context::ExemplarValue, b' ') => self.word_behind_blank(Token::Value),
            (Context::Timestamp | Context::ExemplarTimestamp, b'\n') => single(self, Token::Linebreak),
            (Context::Timestamp, b' ') if self.body[self.pos..].starts_with(b" # ") => {
                let found = self.body.get(self.pos + 3) == Some(&b'{');
                self.pos += if found { 4 } else { 3 };
                if found { Token::Comment } else { Token::Invalid }
            }
            (Context::Timestamp | Context::ExemplarTimestamp, b' ') => self.word_behind_blank(Token::Timestamp),
            _ => Token::Invalid,
        }
    }

    /// A blank and what follows it up to the next blank or line break.
    fn word_behind_blank(&mut self, token: Token) -> Token {
        self.pos += 1;
        let start = self.pos;
        self.skip_while(|b| !matches!(b, b' ' | b'\n' | b'\0'));
        if self.pos > start { token } else { Token::Invalid }
    }

    /// `# HELP ` and its like.
    fn word(&mut self) -> Token {
        self.pos += 1;
        if self.body.get(self.pos) != Some(&b' ') {
            return Token::Invalid;
        }
        self.pos += 1;
        let rest = &self.body[self.pos..];
        let common = |word: &[u8]| word.iter().zip(rest).take_while(|(a, b)| a == b).count();
        for (word, token) in WORDS {
            if common(word) == word.len() {
                self.pos += word.len();
                if token == Token::EofWord && self.body.get(self.pos) == Some(&b'\n') {
                    self.pos += 1;
                }
                return token;
            }
        }
        self.pos += WORDS.iter().map(|(word, _)| common(word)).max().unwrap_or(0);
        Token::Invalid
    }

    /// From a double quote to the next one that is not escaped.
    fn quoted(&mut self, token: Token, breaks: bool, nulls: bool) -> Token {
        self.pos += 1;
        loop {
            match self.body.get(self.pos) {
                Some(b'"') => {
                    self.pos += 1;
                    return token;
                }
                Some(b'\\') => {
                    self.pos += 1;
                    match self.body.get(self.pos) {
                        Some(b) if *b != b'\n' && (*b != b'\0' || nulls) => self.pos += 1,
                        _ => return Token::Invalid,
                    }
                }
                Some(b'\n') if !breaks => return Token::Invalid,
                Some(b'\0') if !nulls => return Token::Invalid,
                Some(_) => self.pos += 1,
                None => return Token::Invalid,
            }
        }
    }

    // === errors ===

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.body, self.token_start, message.into())
    }

    fn ends_early(&self) -> ParseError {
        // Text as in Prometheus:
        ParseError::at(self.body, self.body.len(), "data does not end with # EOF".to_owned())
    }

    /// Text as in Prometheus: what was expected, and the token up to and with the byte behind it.
    fn unexpected(&self, expected: &str, got: Token) -> ParseError {
        let end = (self.pos + 1).min(self.body.len());
        let token = quote(&self.body[self.token_start..end]);
        let entry = quote(&self.body[self.entry_start..end]);
        self.error(format!("{expected}, got {token} (\"{}\") while parsing: {entry}", got.name()))
    }

    fn while_parsing(&self, what: impl std::fmt::Display) -> ParseError {
        self.error(format!("{what} while parsing: {}", quote(&self.body[self.entry_start..self.pos])))
    }

    // === lines ===

    /// Behind `# HELP `, `# TYPE ` or `# UNIT `.
    fn meta(&mut self, token: Token) -> Result<OpenMetricsEntry<'a>, ParseError> {
        match self.token(Context::MetaName) {
            Token::MetricName => {}
            other => return Err(self.unexpected(&format!("expected metric name after {}", token.name()), other)),
        }
        let mut name = self.token_start..self.pos;
        if self.body[name.start] == b'"' {
            name = name.start + 1..name.end - 1;
        }
        self.check_length(name.len())?;
        let metric = utf8(&self.body[name]);
        match self.token(Context::MetaText) {
            Token::Text => {}
            _ => return Err(self.error(format!("expected text in {}", token.name()))),
        }
        let text = &self.body[self.token_start + 1..self.pos - 1];
        match token {
            Token::Type => {
                self.kind = match text {
                    b"counter" => MetricType::Counter,
                    b"gauge" => MetricType::Gauge,
                    b"histogram" => MetricType::Histogram,
                    b"gaugehistogram" => MetricType::GaugeHistogram,
                    b"summary" => MetricType::Summary,
                    b"info" => MetricType::Info,
                    b"stateset" => MetricType::StateSet,
                    b"unknown" => MetricType::Unknown,
                    _ => return Err(self.error(format!("invalid metric type {}", quote(text)))),
                };
                Ok(OpenMetricsEntry::Type { metric, kind: self.kind })
            }
            Token::Unit => {
                let unit = utf8(text);
                let is_suffix = metric.strip_suffix(&*unit).is_some_and(|front| front.ends_with('_'));
                if !unit.is_empty() && !is_suffix {
                    let (unit, metric) = (quote(text), quote(metric.as_bytes()));
                    return Err(self.error(format!("unit {unit} not a suffix of metric {metric}")));
                }
                Ok(OpenMetricsEntry::Unit { metric, unit })
            }
            _ => match std::str::from_utf8(text) {
                Ok(help) => Ok(OpenMetricsEntry::Help { metric, help: unescape(Cow::Borrowed(help), true) }),
                Err(_) => Err(self.error(format!("help text {} is not a valid utf8 string", quote(text)))),
            },
        }
    }

    /// Behind name and labels.
    fn sample(&mut self, start: usize) -> Result<OpenMetricsEntry<'a>, ParseError> {
        let series = &self.body[start..self.pos];
        let value_token = self.token(Context::Value);
        match &self.labels.name {
            None => return Err(self.while_parsing("metric name not set")),
            Some(name) => self.check_length(name.len())?,
        }
        let (value, timestamp) = self.rest_of_sample(value_token)?;
        Ok(OpenMetricsEntry::Sample(Sample { series, offset: start, value, timestamp }))
    }

    /// Value and timestamp; the exemplar is kept.
    fn rest_of_sample(&mut self, value_token: Token) -> Result<(f64, Option<i64>), ParseError> {
        let value = self.value(value_token, "metric")?;
        let mut timestamp = None;
        match self.token(Context::Timestamp) {
            Token::Linebreak => {}
            Token::Eof => return Err(self.ends_early()),
            Token::Comment => self.read_exemplar()?,
            Token::Timestamp => {
                timestamp = Some(self.timestamp("timestamp")?);
                match self.token(Context::Timestamp) {
                    Token::Linebreak => {}
                    Token::Comment => self.read_exemplar()?,
                    other => return Err(self.unexpected("expected next entry after timestamp", other)),
                }
            }
            other => return Err(self.unexpected("expected timestamp or exemplar", other)),
        }
        Ok((value, timestamp))
    }

    /// Behind ` # {`.
    fn read_exemplar(&mut self) -> Result<(), ParseError> {
        self.exemplar_label_list()?;
        let token = self.token(Context::ExemplarValue);
        let value = self.value(token, "exemplar labels")?;
        let mut timestamp = None;
        match self.token(Context::ExemplarTimestamp) {
            Token::Linebreak => {}
            Token::Eof => return Err(self.ends_early()),
            Token::Timestamp => {
                timestamp = Some(self.timestamp("exemplar timestamp")?);
                match self.token(Context::ExemplarTimestamp) {
                    Token::Linebreak => {}
                    other => return Err(self.unexpected("expected next entry after exemplar timestamp", other)),
                }
            }
            other => return Err(self.unexpected("expected timestamp or comment", other)),
        }
        self.exemplar = Some(ExemplarEntry { value, timestamp });
        Ok(())
    }

    fn value(&mut self, token: Token, behind: &str) -> Result<f64, ParseError> {
        if token != Token::Value {
            return Err(self.unexpected(&format!("expected value after {behind}"), token));
        }
        parse_go_float(&self.body[self.token_start + 1..self.pos]).map_err(|error| self.while_parsing(error))
    }

    /// The timestamp in the last token, in ms.
    fn timestamp(&self, what: &str) -> Result<i64, ParseError> {
        let text = &self.body[self.token_start + 1..self.pos];
        let seconds = parse_go_float(text).map_err(|error| self.while_parsing(error))?;
        if !seconds.is_finite() {
            let shown = if seconds.is_nan() {
                "NaN"
            } else if seconds > 0.0 {
                "+Inf"
            } else {
                "-Inf"
            };
            return Err(self.error(format!("invalid {what} {shown}")));
        }
        Ok((seconds * 1000.0) as i64)
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
                if std::str::from_utf8(&self.body[name.clone()]).is_err() {
                    return Err(self.error(format!("invalid UTF-8 name: {}", quote(&self.body[name]))));
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
            let value = self.label_value(token, Context::LabelValue)?;
            self.labels.push(name, value).map_err(|message| self.error(message))?;
            token = self.behind_label(Context::Labels)?;
        }
    }

    fn exemplar_label_list(&mut self) -> Result<(), ParseError> {
        let mut token = self.token(Context::ExemplarLabels);
        loop {
            let mut name = self.token_start..self.pos;
            match token {
                Token::BraceClose => return Ok(()),
                Token::LabelName => {}
                Token::QuotedString => name = name.start + 1..name.end - 1,
                other => return Err(self.unexpected("expected label name", other)),
            }
            let quoted = token == Token::QuotedString;
            token = self.token(Context::ExemplarLabels);
            if quoted && matches!(token, Token::Comma | Token::BraceClose) {
                return Err(self.unexpected("expected label name", token));
            }
            let value = self.label_value(token, Context::ExemplarLabelValue)?;
            self.exemplar_labels.push(name, value).map_err(|message| self.error(message))?;
            token = self.behind_label(Context::ExemplarLabels)?;
        }
    }

    /// The value of a label whose name has been read; `token` is what follows the name.
    fn label_value(&mut self, token: Token, context: Context) -> Result<Span, ParseError> {
        if token != Token::Equal {
            return Err(self.unexpected("expected equal", token));
        }
        match self.token(context) {
            Token::LabelValue => {}
            other => return Err(self.unexpected("expected label value", other)),
        }
        let whole = &self.body[self.token_start..self.pos];
        match std::str::from_utf8(whole) {
            Ok(_) => Ok(self.token_start + 1..self.pos - 1),
            Err(_) => Err(self.error(format!("invalid UTF-8 label value: {}", quote(whole)))),
        }
    }

    /// The token at which the next label begins, or the closing brace. The last comma may be too many.
    fn behind_label(&mut self, context: Context) -> Result<Token, ParseError> {
        match self.token(context) {
            Token::Comma => Ok(self.token(context)),
            Token::BraceClose => Ok(Token::BraceClose),
            other => Err(self.unexpected("expected comma or brace close", other)),
        }
    }

    fn check_length(&self, len: usize) -> Result<(), ParseError> {
        check_length(len).map_err(|message| self.error(message))
    }
}

mod reader;

pub(crate) use reader::OpenMetricsReader;

fn is_label_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

#[cfg(test)]
mod tests;
