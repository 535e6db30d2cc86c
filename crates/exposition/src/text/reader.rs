//! The text format as an [`Exposition`].

use std::borrow::Cow;

use super::{Entry, Sample, TextParser};
use crate::reader::{ExposedExemplar, ExposedHistogram, TypeAndUnit};
use crate::{EntryKind, Exposition, MetricType, ParseError, ReadOptions};

/// Reads a body in the text format, entry by entry.
#[derive(Debug)]
pub(crate) struct TextReader<'a> {
    parser: TextParser<'a>,
    options: ReadOptions,
    family: Cow<'a, str>,
    text: Cow<'a, str>,
    sample: Option<Sample<'a>>,
}

impl<'a> TextReader<'a> {
    pub(crate) fn new(body: &'a [u8], options: ReadOptions) -> TextReader<'a> {
        let none = Cow::Borrowed("");
        TextReader { parser: TextParser::new(body), options, family: none.clone(), text: none, sample: None }
    }
}

impl Exposition for TextReader<'_> {
    fn next(&mut self) -> Result<Option<EntryKind>, ParseError> {
        Ok(match self.parser.next()? {
            None => None,
            Some(Entry::Sample(sample)) => {
                self.sample = Some(sample);
                Some(EntryKind::Sample)
            }
            Some(Entry::Type { metric, .. }) => {
                self.family = metric;
                Some(EntryKind::Type)
            }
            Some(Entry::Help { metric, help }) => {
                (self.family, self.text) = (metric, help);
                Some(EntryKind::Help)
            }
            Some(Entry::Comment(text)) => {
                self.text = String::from_utf8_lossy(text);
                Some(EntryKind::Comment)
            }
        })
    }

    fn family(&self) -> &str {
        &self.family
    }

    fn text(&self) -> &str {
        &self.text
    }

    fn metric_type(&self) -> MetricType {
        self.parser.metric_type()
    }

    fn series(&self) -> &[u8] {
        self.sample.map_or(&[], |sample| sample.series)
    }

    fn value(&self) -> f64 {
        self.sample.map_or(0.0, |sample| sample.value)
    }

    fn timestamp(&self) -> Option<i64> {
        self.sample?.timestamp
    }

    fn take_histogram(&mut self) -> Option<ExposedHistogram> {
        None
    }

    fn for_each_label(&self, found: &mut dyn FnMut(&str, &str)) {
        let labels = |found: &mut dyn FnMut(&str, &str)| self.parser.for_each_label(|name, value| found(&name, &value));
        if self.options.type_and_unit_labels {
            TypeAndUnit { kind: self.metric_type(), unit: "" }.add(found, labels);
        } else {
            labels(found);
        }
    }

    fn next_exemplar(&mut self, _: &mut ExposedExemplar) -> bool {
        false
    }

    fn start_ms(&mut self) -> i64 {
        0
    }
}
