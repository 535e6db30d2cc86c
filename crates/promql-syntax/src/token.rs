//! The words of the language.

use crate::ast::{AggregateOp, BinaryOp};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The lexer failed; its message is with the lexer.
    Error,
    Eof,
    Comment,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    EqRegex,
    /// `!~`
    NeRegex,
    At,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Preprocessor(Preprocessor),
    // Series notation only.
    Space,
    Blank,
    Times,
    OpenHistogram,
    CloseHistogram,
    HistogramField(HistogramField),
    CounterResetHint(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Offset,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Bool,
    Anchored,
    Smoothed,
    Fill,
    FillLeft,
    FillRight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preprocessor {
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

/// Fields of a histogram in series notation. The order is that of the numbers by which Prometheus calls them in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistogramField {
    Sum,
    Count,
    Schema,
    Offset,
    NegativeOffset,
    Buckets,
    NegativeBuckets,
    ZeroBucket,
    ZeroBucketWidth,
    CustomValues,
    CounterResetHint,
}

impl HistogramField {
    pub(crate) fn find(word: &str) -> Option<HistogramField> {
        Some(match word.to_ascii_lowercase().as_str() {
            "sum" => HistogramField::Sum,
            "count" => HistogramField::Count,
            "schema" => HistogramField::Schema,
            "offset" => HistogramField::Offset,
            "n_offset" => HistogramField::NegativeOffset,
            "buckets" => HistogramField::Buckets,
            "n_buckets" => HistogramField::NegativeBuckets,
            "z_bucket" => HistogramField::ZeroBucket,
            "z_bucket_w" => HistogramField::ZeroBucketWidth,
            "custom_values" => HistogramField::CustomValues,
            "counter_reset_hint" => HistogramField::CounterResetHint,
            _ => return None,
        })
    }
}

/// The keyword that `word` is, in any case; `inf` and `nan` are numbers.
pub(crate) fn keyword(word: &str) -> Option<Kind> {
    /// The longest keyword, `count_values`.
    const LEN_MAX: usize = 12;
    if word.len() > LEN_MAX {
        return None;
    }
    let mut lower = [0u8; LEN_MAX];
    let lower = &mut lower[..word.len()];
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"and" => Kind::Op(BinaryOp::And),
        b"or" => Kind::Op(BinaryOp::Or),
        b"unless" => Kind::Op(BinaryOp::Unless),
        b"atan2" => Kind::Op(BinaryOp::Atan2),
        b"sum" => Kind::Aggregate(AggregateOp::Sum),
        b"avg" => Kind::Aggregate(AggregateOp::Avg),
        b"count" => Kind::Aggregate(AggregateOp::Count),
        b"min" => Kind::Aggregate(AggregateOp::Min),
        b"max" => Kind::Aggregate(AggregateOp::Max),
        b"group" => Kind::Aggregate(AggregateOp::Group),
        b"stddev" => Kind::Aggregate(AggregateOp::Stddev),
        b"stdvar" => Kind::Aggregate(AggregateOp::Stdvar),
        b"topk" => Kind::Aggregate(AggregateOp::Topk),
        b"bottomk" => Kind::Aggregate(AggregateOp::Bottomk),
        b"count_values" => Kind::Aggregate(AggregateOp::CountValues),
        b"quantile" => Kind::Aggregate(AggregateOp::Quantile),
        b"limitk" => Kind::Aggregate(AggregateOp::Limitk),
        b"limit_ratio" => Kind::Aggregate(AggregateOp::LimitRatio),
        b"offset" => Kind::Keyword(Keyword::Offset),
        b"by" => Kind::Keyword(Keyword::By),
        b"without" => Kind::Keyword(Keyword::Without),
        b"on" => Kind::Keyword(Keyword::On),
        b"ignoring" => Kind::Keyword(Keyword::Ignoring),
        b"group_left" => Kind::Keyword(Keyword::GroupLeft),
        b"group_right" => Kind::Keyword(Keyword::GroupRight),
        b"bool" => Kind::Keyword(Keyword::Bool),
        b"anchored" => Kind::Keyword(Keyword::Anchored),
        b"smoothed" => Kind::Keyword(Keyword::Smoothed),
        b"fill" => Kind::Keyword(Keyword::Fill),
        b"fill_left" => Kind::Keyword(Keyword::FillLeft),
        b"fill_right" => Kind::Keyword(Keyword::FillRight),
        b"start" => Kind::Preprocessor(Preprocessor::Start),
        b"end" => Kind::Preprocessor(Preprocessor::End),
        b"step" => Kind::Preprocessor(Preprocessor::Step),
        b"range" => Kind::Preprocessor(Preprocessor::Range),
        b"inf" | b"nan" => Kind::Number,
        _ => return None,
    })
}

/// One token: a range of the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    /// As error messages name it.
    pub(crate) fn describe(self, text: &str) -> String {
        let word = &text[self.start..self.end];
        match self.kind {
            Kind::Error => "error".to_owned(),
            Kind::Eof => "end of input".to_owned(),
            Kind::Comment => format!("comment {}", shortened(word)),
            Kind::Identifier => format!("identifier {}", quoted(word)),
            Kind::MetricIdentifier => format!("metric identifier {}", quoted(word)),
            Kind::Number => format!("number {}", shortened(word)),
            Kind::Duration => format!("duration {}", shortened(word)),
            Kind::String => format!("string {}", shortened(word)),
            Kind::Op(_) | Kind::At | Kind::EqRegex | Kind::NeRegex => format!("<op:{word}>"),
            Kind::Aggregate(_) => format!("<aggr:{word}>"),
            Kind::Keyword(_) => format!("<{word}>"),
            // Text as in Prometheus, which has no name for these and prints their number.
            Kind::HistogramField(field) => format!("\"<Item {}>\" {}", 57370 + field as u32, shortened(word)),
            _ => shortened(word),
        }
    }
}

/// In double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    // Writing to a string cannot fail.
    let _ = fk_model::labels::write_quoted(&mut out, text);
    out
}

/// In double quotes, the first ten characters of a longer text.
fn shortened(word: &str) -> String {
    const LEN_MAX: usize = 10;
    if word.len() <= LEN_MAX {
        return quoted(word);
    }
    let end = word.char_indices().nth(LEN_MAX).map_or(word.len(), |(at, _)| at);
    quoted(&word[..end]) + "..."
}
