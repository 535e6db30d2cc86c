//! The series notation of the PromQL test language and of rule unit tests: `name{label="value"} 1 2 _ 4x3 {{…}}`.

use fk_model::{Labels, METRIC_NAME, stale_nan};

use crate::ast::BinaryOp;
use crate::error::ParseErrors;
use crate::lexer::names_metric;
use crate::literal;
use crate::parser::{Halt, Parser, ParserOptions, Step};
use crate::token::{HistogramField, Kind, Token, quoted};

mod histogram;

pub use histogram::{Buckets, CounterReset, HistogramLiteral, SCHEMA_CUSTOM};

/// Most values that one line may stand for.
pub const VALUES_MAX: usize = 1 << 20;

/// A line of series notation.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDesc {
    /// The series.
    pub labels: Labels,
    /// Its values, one for each step.
    pub values: Vec<SeriesValue>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    /// `_`: no sample at this step.
    Omitted,
    /// A number; `stale` is the staleness marker.
    Float(f64),
    /// `{{…}}`
    Histogram(Box<HistogramLiteral>),
}

/// Parses a line of series notation.
pub fn parse_series_desc(text: &str) -> Result<SeriesDesc, ParseErrors> {
    let mut parser = Parser::new(text, ParserOptions::default(), true);
    let step = parser.series_desc();
    match parser.finish(step) {
        Some(series) if parser.errors.is_empty() => Ok(series),
        _ => Err(parser.failed()),
    }
}

/// Parses a label set in the same notation, without values: `name{label="value"}`.
pub fn parse_metric(text: &str) -> Result<Labels, ParseErrors> {
    let mut parser = Parser::new(text, ParserOptions::default(), false);
    let step = parser.metric();
    match parser.finish(step) {
        Some(labels) if parser.errors.is_empty() => Ok(labels),
        _ => Err(parser.failed()),
    }
}

const LABELS: &str = "label set";
const VALUES: &str = "series values";

impl Parser<'_> {
    fn series_desc(&mut self) -> Step<SeriesDesc> {
        let labels = self.metric()?;
        let mut values = Vec::new();
        while self.take(Kind::Space).is_some() {
            if self.peek().kind == Kind::Eof {
                break;
            }
            self.series_item(&mut values)?;
        }
        if self.peek().kind != Kind::Eof {
            return Err(self.unexpected(VALUES, ""));
        }
        Ok(SeriesDesc { labels, values })
    }

    fn metric(&mut self) -> Step<Labels> {
        let mut pairs = Vec::new();
        let first = self.peek();
        if names_metric(first.kind) {
            self.advance();
            pairs.push((METRIC_NAME.to_owned(), self.word(first).to_owned()));
        }
        if self.take(Kind::LeftBrace).is_some() {
            self.label_set(&mut pairs)?;
        }
        Ok(Labels::from_pairs(pairs))
    }

    fn label_set(&mut self, pairs: &mut Vec<(String, String)>) -> Step<()> {
        loop {
            if self.take(Kind::RightBrace).is_some() {
                return Ok(());
            }
            let name = self.peek();
            if !matches!(name.kind, Kind::Identifier | Kind::String) {
                return Err(self.unexpected(LABELS, "identifier or \"}\""));
            }
            self.advance();
            let text = match name.kind {
                Kind::String => self.unquoted_text(name),
                _ => self.word(name).to_owned(),
            };
            if self.take(Kind::Assign).is_some() {
                let Some(value) = self.take(Kind::String) else { return Err(self.unexpected(LABELS, "string")) };
                let value = self.unquoted_text(value);
                pairs.push((text, value));
            } else if name.kind == Kind::String {
                pairs.push((METRIC_NAME.to_owned(), text));
            } else {
                return Err(self.unexpected(LABELS, "\"=\""));
            }
            if self.take(Kind::Comma).is_none() && self.peek().kind != Kind::RightBrace {
                return Err(self.unexpected(LABELS, "\",\" or \"}\""));
            }
        }
    }

    fn series_item(&mut self, values: &mut Vec<SeriesValue>) -> Step<()> {
        let token = self.peek();
        match token.kind {
            Kind::Blank => {
                self.advance();
                let times = self.repetition()?;
                self.push(values, SeriesValue::Omitted, times.map_or(1, |(n, _)| n))
            }
            Kind::OpenHistogram => self.histogram_item(values),
            _ => {
                let value = self.series_value()?;
                if let Some((times, _)) = self.repetition()? {
                    return self.push(values, SeriesValue::Float(value), times + 1);
                }
                if !matches!(self.peek().kind, Kind::Op(BinaryOp::Add | BinaryOp::Sub)) {
                    return self.push(values, SeriesValue::Float(value), 1);
                }
                let increment = self.signed_number()?;
                let Some((times, _)) = self.repetition()? else { return Err(self.unexpected(VALUES, "")) };
                self.has_room(values, times + 1)?;
                let mut current = value;
                for _ in 0..=times {
                    values.push(SeriesValue::Float(current));
                    current += increment;
                }
                Ok(())
            }
        }
    }

    fn histogram_item(&mut self, values: &mut Vec<SeriesValue>) -> Step<()> {
        let base = self.histogram_literal()?;
        if let Some((times, _)) = self.repetition()? {
            return self.push(values, SeriesValue::Histogram(Box::new(base)), times + 1);
        }
        let negate = match self.peek().kind {
            Kind::Op(BinaryOp::Add) => false,
            Kind::Op(BinaryOp::Sub) => true,
            _ => return self.push(values, SeriesValue::Histogram(Box::new(base)), 1),
        };
        self.advance();
        let increment = self.histogram_literal()?;
        let Some((times, place)) = self.repetition()? else { return Err(self.unexpected(VALUES, "")) };
        self.has_room(values, times + 1)?;
        let mut current = base;
        for left in (0..=times).rev() {
            values.push(SeriesValue::Histogram(Box::new(current.clone())));
            if left == 0 {
                break;
            }
            current = match current.combined(&increment, negate) {
                Ok(next) => next,
                Err(problem) => {
                    self.problem(place.pos(), problem);
                    return Err(Halt::Reported);
                }
            };
        }
        Ok(())
    }

    fn has_room(&mut self, values: &[SeriesValue], more: usize) -> Step<()> {
        if values.len().saturating_add(more) <= VALUES_MAX {
            return Ok(());
        }
        let pos = self.peek().pos();
        self.problem(pos, format!("invalid repetition in series values: more than {VALUES_MAX} values"));
        Err(Halt::Reported)
    }

    fn push(&mut self, values: &mut Vec<SeriesValue>, value: SeriesValue, n: usize) -> Step<()> {
        self.has_room(values, n)?;
        values.extend(std::iter::repeat_n(value, n));
        Ok(())
    }

    /// `x3`, with the place of the number.
    fn repetition(&mut self) -> Step<Option<(usize, Token)>> {
        if self.take(Kind::Times).is_none() {
            return Ok(None);
        }
        let Some(token) = self.take(Kind::Number) else { return Err(self.unexpected(VALUES, "")) };
        let word = self.word(token);
        match word.parse() {
            // One more value than repetitions must be countable.
            Ok(n) if n < usize::MAX => Ok(Some((n, token))),
            _ => {
                let why =
                    if word.bytes().all(|b| b.is_ascii_digit()) { "value out of range" } else { "invalid syntax" };
                let why = format!("strconv.ParseUint: parsing {}: {why}", quoted(word));
                self.problem(token.pos(), format!("invalid repetition in series values: {why}"));
                Err(Halt::Reported)
            }
        }
    }

    fn series_value(&mut self) -> Step<f64> {
        let token = self.peek();
        match token.kind {
            Kind::Identifier if self.word(token) == "stale" => {
                self.advance();
                Ok(stale_nan())
            }
            Kind::Identifier => Err(self.unexpected(VALUES, "number or \"stale\"")),
            _ => self.signed_number(),
        }
    }

    fn signed_number(&mut self) -> Step<f64> {
        let sign = if self.take(Kind::Op(BinaryOp::Sub)).is_some() {
            -1.0
        } else {
            self.take(Kind::Op(BinaryOp::Add));
            1.0
        };
        let Some(token) = self.take(Kind::Number) else { return Err(self.unexpected(VALUES, "")) };
        let value = literal::number(self.word(token)).unwrap_or_else(|problem| {
            self.problem(token.pos(), problem);
            0.0
        });
        Ok(sign * value)
    }

    /// `{{schema:1 buckets:[5 10]}}`
    fn histogram_literal(&mut self) -> Step<HistogramLiteral> {
        let mut histogram = HistogramLiteral::default();
        if self.take(Kind::OpenHistogram).is_none() {
            return Err(self.unexpected(VALUES, ""));
        }
        let mut seen = Vec::new();
        let blank = self.take(Kind::Space).is_some();
        while self.take(Kind::CloseHistogram).is_none() {
            let token = self.peek();
            match token.kind {
                Kind::HistogramField(field) if !blank => {
                    self.advance();
                    if seen.contains(&field) {
                        let problem = format!("duplicate key {} in histogram", quoted(self.word(token)));
                        self.problem(crate::ast::Pos::default(), problem);
                    }
                    seen.push(field);
                    self.histogram_field(field, &mut histogram)?;
                }
                _ => return Err(self.unexpected(VALUES, "")),
            }
            if self.take(Kind::Space).is_none() && self.peek().kind != Kind::CloseHistogram {
                return Err(self.unexpected(VALUES, ""));
            }
        }
        Ok(histogram)
    }

    fn histogram_field(&mut self, field: HistogramField, histogram: &mut HistogramLiteral) -> Step<()> {
        if self.take(Kind::Colon).is_none() {
            return Err(self.unexpected(VALUES, ""));
        }
        match field {
            HistogramField::Sum => histogram.sum = self.signed_number()?,
            HistogramField::Count => histogram.count = self.signed_number()?,
            HistogramField::ZeroBucket => histogram.zero_count = self.signed_number()?,
            HistogramField::ZeroBucketWidth => histogram.zero_threshold = self.signed_number()?,
            HistogramField::Schema => histogram.schema = self.integer()?,
            HistogramField::Offset => histogram.positive.offset = self.integer()?,
            HistogramField::NegativeOffset => histogram.negative.offset = self.integer()?,
            HistogramField::Buckets => histogram.positive.counts = self.numbers()?,
            HistogramField::NegativeBuckets => histogram.negative.counts = self.numbers()?,
            HistogramField::CustomValues => histogram.custom_values = self.numbers()?,
            HistogramField::CounterResetHint => {
                let Kind::CounterResetHint(hint) = self.peek().kind else { return Err(self.unexpected(VALUES, "")) };
                self.advance();
                histogram.counter_reset = CounterReset::find(hint);
            }
        }
        Ok(())
    }

    fn integer(&mut self) -> Step<i32> {
        let sign = if self.take(Kind::Op(BinaryOp::Sub)).is_some() { "-" } else { "" };
        let Some(token) = self.take(Kind::Number) else { return Err(self.unexpected(VALUES, "")) };
        let word = format!("{sign}{}", self.word(token));
        word.parse().map_err(|_| {
            self.problem(token.pos(), format!("invalid integer in histogram: {}", quoted(&word)));
            Halt::Reported
        })
    }

    /// `[1 2 3]`
    fn numbers(&mut self) -> Step<Vec<f64>> {
        if self.take(Kind::LeftBracket).is_none() {
            return Err(self.unexpected(VALUES, ""));
        }
        let mut numbers = vec![self.signed_number()?];
        loop {
            let blank = self.take(Kind::Space).is_some();
            if self.take(Kind::RightBracket).is_some() {
                return Ok(numbers);
            }
            if !blank {
                return Err(self.unexpected(VALUES, ""));
            }
            numbers.push(self.signed_number()?);
        }
    }
}
