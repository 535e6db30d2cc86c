//! One interface to all formats: what the scrape loop reads bodies through.
//!
//! An [`Exposition`] is a cursor. [`Exposition::next`] goes to the next entry and says what it is; the other methods say more
//! about it, and cost something only where they are called: the labels of a series that is known already are never looked at.
//! [`reader`] makes the one that a body and the options ask for.
//!
//! Bodies in the text format without any of the options are the most frequent by far. The scrape loop reads them with
//! [`crate::TextParser`] directly, line by line of a layout that it knows; this interface is for everything else.

use fk_model::labels::METRIC_NAME;
use fk_model::{FloatHistogram, Histogram};

use crate::nhcb::Converted;
use crate::openmetrics::OpenMetricsReader;
use crate::protobuf::ProtobufReader;
use crate::text::{TextParser, TextReader};
use crate::{MediaType, MetricType, ParseError};

/// The label that carries the type of a metric, with [`ReadOptions::type_and_unit_labels`].
pub const TYPE_LABEL: &str = "__type__";

/// The label that carries the unit of a metric, with [`ReadOptions::type_and_unit_labels`].
pub const UNIT_LABEL: &str = "__unit__";

/// How a body is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Adds [`TYPE_LABEL`] and [`UNIT_LABEL`] where type and unit are known.
    pub type_and_unit_labels: bool,
    /// Native histograms are read as the classic ones they may be as well. Protobuf only.
    pub ignore_native_histograms: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert_classic_histograms: bool,
    /// Classic histograms are read beside the native ones they also are, or that are made from them.
    pub keep_classic_histograms: bool,
    /// `_created` lines tell start timestamps and are no samples. OpenMetrics only.
    pub skip_created: bool,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// [`Exposition::metric_type`] of [`Exposition::family`].
    Type,
    /// [`Exposition::text`] is the help text of [`Exposition::family`].
    Help,
    /// [`Exposition::text`] is the unit of [`Exposition::family`].
    Unit,
    /// [`Exposition::text`] is a comment.
    Comment,
    /// A sample, [`Exposition::sample`].
    Sample,
    /// A native histogram, [`Exposition::take_histogram`].
    Histogram,
}

/// A native histogram as it is exposed.
#[derive(Clone, Debug, PartialEq)]
pub enum ExposedHistogram {
    /// With integer counts.
    Int(Histogram),
    /// With float counts.
    Float(FloatHistogram),
}

/// An exemplar as it is exposed. Memory that is reused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExposedExemplar {
    /// Labels as exposed: neither sorted nor checked.
    pub labels: Vec<(String, String)>,
    /// Value observed.
    pub value: f64,
    /// Time, ms, if there is one.
    pub timestamp: Option<i64>,
}

/// A cursor over a body in any of the formats.
pub trait Exposition {
    /// Goes to the next entry; `None` at the end. After an error the cursor must not be used further.
    fn next(&mut self) -> Result<Option<EntryKind>, ParseError>;

    /// The metric family that the last TYPE, HELP or UNIT entry was about.
    fn family(&self) -> &str;

    /// The text of a HELP, UNIT or comment entry.
    fn text(&self) -> &str;

    /// The type in effect: that of the last TYPE entry, whatever metric that named.
    fn metric_type(&self) -> MetricType;

    /// What tells the series of a sample or histogram from all others of the target: in the text formats the series as it is
    /// written. [`key_labels`] makes the labels out of it again.
    fn series(&self) -> &[u8];

    /// Value of a sample.
    fn value(&self) -> f64;

    /// Time of a sample or histogram, ms, if there is one.
    fn timestamp(&self) -> Option<i64>;

    /// The histogram of a histogram entry; asked for once.
    fn take_histogram(&mut self) -> Option<ExposedHistogram>;

    /// Calls `found(name, value)` for each label of a sample or histogram as it is to be stored, the metric name first: unescaped,
    /// and `le` of histograms and `quantile` of summaries as OpenMetrics floats. Names may repeat and values may be empty.
    fn for_each_label(&self, found: &mut dyn FnMut(&str, &str));

    /// The next exemplar of a sample or histogram; `false` when there is none (any more).
    fn next_exemplar(&mut self, exemplar: &mut ExposedExemplar) -> bool;

    /// The start timestamp of a sample or histogram, ms; 0 if there is none. Asked for once, behind the labels.
    fn start_ms(&mut self) -> i64;
}

/// The reader of a body.
pub fn reader<'a>(body: &'a [u8], media_type: MediaType, options: ReadOptions) -> Box<dyn Exposition + 'a> {
    let convert = options.convert_classic_histograms;
    match media_type {
        MediaType::Text if convert => Box::new(Converted::new(TextReader::new(body, options), options)),
        MediaType::Text => Box::new(TextReader::new(body, options)),
        MediaType::OpenMetrics if convert => Box::new(Converted::new(OpenMetricsReader::new(body, options), options)),
        MediaType::OpenMetrics => Box::new(OpenMetricsReader::new(body, options)),
        MediaType::Protobuf => Box::new(ProtobufReader::new(body, options)),
    }
}

/// The type and the unit of a sample as labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TypeAndUnit<'u> {
    pub(crate) kind: MetricType,
    pub(crate) unit: &'u str,
}

impl TypeAndUnit<'_> {
    /// Adds the labels to those that `labels` gives, of which the first is the metric name. An exposed label that says the same
    /// gives way.
    pub(crate) fn add(self, found: &mut dyn FnMut(&str, &str), labels: impl FnOnce(&mut dyn FnMut(&str, &str))) {
        let has_kind = self.kind != MetricType::Unknown;
        let mut first = true;
        labels(&mut |name, value| {
            if std::mem::take(&mut first) {
                found(name, value);
                if has_kind {
                    found(TYPE_LABEL, self.kind.name());
                }
                if !self.unit.is_empty() {
                    found(UNIT_LABEL, self.unit);
                }
                return;
            }
            let overridden =
                name == METRIC_NAME || name == TYPE_LABEL && has_kind || name == UNIT_LABEL && !self.unit.is_empty();
            if !overridden {
                found(name, value);
            }
        });
    }
}

/// Separates the parts of a key that is not the text of a line; in no text that is UTF-8.
pub(crate) const SEPARATOR: u8 = 0xff;

/// A series by its labels: a separator, the metric name, and name and value of each other label, with separators between.
pub(crate) fn push_key_label(key: &mut Vec<u8>, name: &str, value: &str) {
    key.push(SEPARATOR);
    // The first one is the metric name.
    if key.len() > 1 {
        key.extend_from_slice(name.as_bytes());
        key.push(SEPARATOR);
    }
    key.extend_from_slice(value.as_bytes());
}

/// The labels of a series out of what [`Exposition::series`] gave, with the type in effect there and the same options; see
/// [`Exposition::for_each_label`]. Nothing is found in what is no such key.
pub fn key_labels(key: &[u8], kind: MetricType, options: ReadOptions, found: &mut dyn FnMut(&str, &str)) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    if let [SEPARATOR, labels @ ..] = key {
        let mut parts = labels.split(|b| *b == SEPARATOR);
        found(METRIC_NAME, text(parts.next().unwrap_or_default()));
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            found(text(name), text(value));
        }
        return;
    }
    let end = memchr::memchr(SEPARATOR, key);
    let (series, unit) = key.split_at(end.unwrap_or(key.len()));
    let unit = text(unit.get(1..).unwrap_or_default());
    // The series of an OpenMetrics line is one of the text format as well.
    let line = [series, b" 0\n"].concat();
    let mut parser = TextParser::new(&line);
    parser.seek(0, kind);
    if parser.next().is_err() {
        return;
    }
    let labels = |found: &mut dyn FnMut(&str, &str)| parser.for_each_label(|name, value| found(&name, &value));
    if options.type_and_unit_labels {
        TypeAndUnit { kind, unit }.add(found, labels);
    } else {
        labels(found);
    }
}
