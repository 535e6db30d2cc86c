//! OpenMetrics text as an [`Exposition`], with the start timestamps that `_created` lines tell.
//!
//! A `_created` line stands behind the samples it is about, so whoever asks for the start of a sample makes us read ahead: to the
//! first such line of the family. What it says is remembered, for it answers the samples in between as well.

use std::borrow::Cow;
use std::ops::Range;

use super::{OpenMetricsEntry, OpenMetricsParser};
use crate::reader::{ExposedExemplar, ExposedHistogram, SEPARATOR, TypeAndUnit};
use crate::text::Sample;
use crate::{EntryKind, Exposition, Lines, MetricType, ParseError, ReadOptions};

const CREATED: &[u8] = b"_created";

/// Reads a body of OpenMetrics text, entry by entry.
#[derive(Debug)]
pub(crate) struct OpenMetricsReader<'a> {
    parser: OpenMetricsParser<'a>,
    options: ReadOptions,
    family: Cow<'a, str>,
    /// Length of the family's name as written.
    family_len: usize,
    text: Cow<'a, str>,
    /// That of the last UNIT line.
    unit: Cow<'a, str>,
    sample: Option<Sample<'a>>,
    /// With type and unit as labels the unit is part of what tells series apart: the series, and the unit.
    key: Vec<u8>,
    exemplar_taken: bool,
    skip_created: bool,
    /// The first `_created` line behind the sample for which it was last looked for.
    ahead: Option<Ahead>,
    /// The series that the last start was found for, and that.
    found: Option<(Vec<u8>, i64)>,
}

/// What is ahead of the places in a range of the body.
#[derive(Debug)]
struct Ahead {
    from: Range<usize>,
    /// The series without `_created`, and the start; `None`: the family ends without such a line.
    created: Option<(Vec<u8>, i64)>,
}

impl<'a> OpenMetricsReader<'a> {
    pub(crate) fn new(body: &'a [u8], options: ReadOptions) -> OpenMetricsReader<'a> {
        let none = Cow::Borrowed("");
        OpenMetricsReader {
            parser: OpenMetricsParser::new(body),
            options,
            family: none.clone(),
            family_len: 0,
            text: none.clone(),
            unit: none,
            sample: None,
            key: Vec::new(),
            exemplar_taken: false,
            skip_created: options.skip_created,
            ahead: None,
            found: None,
        }
    }

    fn enter(&mut self, metric: Cow<'a, str>, kind: EntryKind) -> Option<EntryKind> {
        self.family_len = metric.len();
        self.family = metric;
        Some(kind)
    }

    /// Reads on to the first `_created` line of the family.
    fn look_ahead(&self) -> Ahead {
        let start = self.parser.offset();
        let mut parser = self.parser.clone();
        loop {
            let at = parser.offset();
            // An error comes again when it is its turn.
            let Ok(Some(OpenMetricsEntry::Sample(sample))) = parser.next() else {
                return Ahead { from: start..at + 1, created: None };
            };
            if let Some(name) = parser.name().strip_suffix(CREATED) {
                let start_ms = (sample.value * 1000.0) as i64;
                return Ahead { from: start..at + 1, created: Some((identity(&parser, name), start_ms)) };
            }
        }
    }
}

/// Types whose samples have a start.
fn has_start(kind: MetricType) -> bool {
    matches!(kind, MetricType::Counter | MetricType::Summary | MetricType::Histogram)
}

/// What the samples and the `_created` line of one metric have in common: the name of the family and all labels but those that
/// tell parts of the metric apart.
fn identity(parser: &OpenMetricsParser<'_>, name: &[u8]) -> Vec<u8> {
    let part: &[u8] = match parser.metric_type() {
        MetricType::Summary => b"quantile",
        MetricType::Histogram => b"le",
        _ => b"",
    };
    let mut identity = name.to_vec();
    for (name, value) in parser.written_labels() {
        if name != part {
            for text in [name, value] {
                identity.push(SEPARATOR);
                identity.extend_from_slice(text);
            }
        }
    }
    identity
}

impl Exposition for OpenMetricsReader<'_> {
    fn next(&mut self) -> Result<Option<EntryKind>, ParseError> {
        loop {
            let Some(entry) = self.parser.next()? else { return Ok(None) };
            return Ok(match entry {
                OpenMetricsEntry::Sample(sample) => {
                    let is_created = has_start(self.parser.metric_type()) && self.parser.name().ends_with(CREATED);
                    if self.skip_created && is_created {
                        continue;
                    }
                    self.sample = Some(sample);
                    self.exemplar_taken = false;
                    if self.options.type_and_unit_labels && !self.unit.is_empty() {
                        self.key.clear();
                        self.key.extend_from_slice(sample.series);
                        self.key.push(SEPARATOR);
                        self.key.extend_from_slice(self.unit.as_bytes());
                    }
                    Some(EntryKind::Sample)
                }
                OpenMetricsEntry::Type { metric, .. } => self.enter(metric, EntryKind::Type),
                OpenMetricsEntry::Help { metric, help } => {
                    self.text = help;
                    self.enter(metric, EntryKind::Help)
                }
                OpenMetricsEntry::Unit { metric, unit } => {
                    (self.text, self.unit) = (unit.clone(), unit);
                    self.enter(metric, EntryKind::Unit)
                }
            });
        }
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
        if self.options.type_and_unit_labels && !self.unit.is_empty() {
            return &self.key;
        }
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
            TypeAndUnit { kind: self.metric_type(), unit: &self.unit }.add(found, labels);
        } else {
            labels(found);
        }
    }

    fn next_exemplar(&mut self, exemplar: &mut ExposedExemplar) -> bool {
        !std::mem::replace(&mut self.exemplar_taken, true) && self.parser.exemplar_into(exemplar)
    }

    fn start_ms(&mut self) -> i64 {
        if !has_start(self.metric_type()) {
            self.found = None;
            return 0;
        }
        // As in Prometheus: whoever asks for starts does not get their lines as samples any more.
        self.skip_created = true;
        let here = self.parser.offset();
        if !self.ahead.as_ref().is_some_and(|ahead| ahead.from.contains(&here)) {
            self.ahead = Some(self.look_ahead());
        }
        let created = self.ahead.as_ref().and_then(|ahead| ahead.created.as_ref());
        if created.is_none() && self.found.is_none() {
            // Most bodies say nothing about starts.
            return 0;
        }
        let name = self.parser.name();
        let identity = identity(&self.parser, name.get(..self.family_len).unwrap_or(name));
        if let Some((found, start)) = &self.found
            && *found == identity
            && *start > 0
        {
            return *start;
        }
        self.found = created.filter(|(created, _)| *created == identity).cloned();
        self.found.as_ref().map_or(0, |(_, start)| *start)
    }
}
