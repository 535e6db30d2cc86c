//! Classic histograms of the text formats as native ones with custom buckets, while they are read.
//!
//! [`Converted`] stands in front of a reader. The series of one classic histogram have to stand in a row, under the TYPE line of
//! their family; they are collected until something else comes, and then given out as one histogram entry in front of that. What
//! is no histogram after all, for instance because its counts are not cumulative, is lost, as in Prometheus.

use fk_model::histogram::{self, ClassicHistogram};
use fk_model::labels::METRIC_NAME;

use crate::float::parse_go_float;
use crate::reader::push_key_label;
use crate::{EntryKind, ExposedExemplar, ExposedHistogram, Exposition, MetricType, ParseError, ReadOptions};

/// Which part of a histogram a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bucket,
    Sum,
    Count,
}

const PARTS: [(&str, Part); 3] = [("_bucket", Part::Bucket), ("_sum", Part::Sum), ("_count", Part::Count)];

/// See the module.
#[derive(Debug)]
pub(crate) struct Converted<R> {
    inner: R,
    keep_classic: bool,
    /// The family and the type of the last TYPE line.
    family: String,
    kind: MetricType,
    /// The entry of the inner reader that a converted histogram was put in front of; `Some(None)`: its end.
    pending: Option<Option<EntryKind>>,
    /// Whether a converted histogram is the current entry.
    emitting: bool,

    // The histogram that is being collected.
    collecting: bool,
    classic: ClassicHistogram,
    /// Its series, as [`push_key_label`] writes it.
    key: Vec<u8>,
    timestamp: Option<i64>,
    start_ms: i64,
    exemplars: Vec<ExposedExemplar>,
    exemplars_len: usize,

    // The one that is the current entry.
    converted: Option<ExposedHistogram>,
    converted_key: Vec<u8>,
    converted_timestamp: Option<i64>,
    converted_start_ms: i64,
    exemplars_given: usize,
    /// The series at hand without what tells parts of a histogram apart.
    scratch: Vec<u8>,
}

impl<R: Exposition> Converted<R> {
    pub(crate) fn new(inner: R, options: ReadOptions) -> Converted<R> {
        Converted {
            inner,
            keep_classic: options.keep_classic_histograms,
            family: String::new(),
            kind: MetricType::Unknown,
            pending: None,
            emitting: false,
            collecting: false,
            classic: ClassicHistogram::default(),
            key: Vec::new(),
            timestamp: None,
            start_ms: 0,
            exemplars: Vec::new(),
            exemplars_len: 0,
            converted: None,
            converted_key: Vec::new(),
            converted_timestamp: None,
            converted_start_ms: 0,
            exemplars_given: 0,
            scratch: Vec::new(),
        }
    }

    /// Ends the histogram that is being collected. `true`: there was one, and it is the current entry now.
    fn emit(&mut self) -> bool {
        if !std::mem::take(&mut self.collecting) {
            return false;
        }
        let converted = match self.classic.convert() {
            Ok(histogram::Converted::Int(h)) if h.validate().is_ok() => Some(ExposedHistogram::Int(h)),
            Ok(histogram::Converted::Float(h)) if h.validate().is_ok() => Some(ExposedHistogram::Float(h)),
            _ => None,
        };
        self.classic.clear();
        std::mem::swap(&mut self.converted_key, &mut self.key);
        (self.converted_timestamp, self.converted_start_ms) = (self.timestamp, self.start_ms);
        self.exemplars_given = 0;
        self.emitting = converted.is_some();
        self.converted = converted;
        self.emitting
    }

    /// Which part of a histogram the sample at hand is, and the upper limit of the bucket if it is one; `scratch` has the
    /// histogram's series.
    fn part(&mut self) -> Option<(Part, f64)> {
        if self.kind != MetricType::Histogram {
            return None;
        }
        let (scratch, family) = (&mut self.scratch, &self.family);
        let (mut part, mut le) = (None, None);
        scratch.clear();
        let mut first = true;
        self.inner.for_each_label(&mut |name, value| {
            if std::mem::take(&mut first) {
                let is_part = |(suffix, _): &&(&str, Part)| value.strip_suffix(suffix) == Some(family);
                part = PARTS.iter().find(is_part).map(|(_, part)| *part);
                push_key_label(scratch, METRIC_NAME, family);
            } else if name == "le" {
                le = Some(parse_go_float(value.as_bytes()));
            } else {
                push_key_label(scratch, name, value);
            }
        });
        match (part?, le) {
            (Part::Bucket, Some(Ok(le))) if !le.is_nan() => Some((Part::Bucket, le)),
            (Part::Bucket, _) => None,
            (part, _) => Some((part, 0.0)),
        }
    }

    /// Takes the sample at hand into the histogram. `scratch` has its series.
    fn collect(&mut self, part: Part, le: f64) {
        if !self.collecting {
            self.collecting = true;
            self.start_ms = self.inner.start_ms();
            std::mem::swap(&mut self.key, &mut self.scratch);
            self.exemplars_len = 0;
        }
        // DIFFERENCE: Prometheus gives the histogram the timestamp of whatever comes behind it.
        self.timestamp = self.inner.timestamp();
        let value = self.inner.value();
        match part {
            Part::Bucket => self.classic.set_bucket(le, value),
            Part::Sum => self.classic.set_sum(value),
            Part::Count => self.classic.set_count(value),
        }
        loop {
            if self.exemplars_len == self.exemplars.len() {
                self.exemplars.push(ExposedExemplar::default());
            }
            let Some(free) = self.exemplars.get_mut(self.exemplars_len) else { return };
            if !self.inner.next_exemplar(free) {
                return;
            }
            self.exemplars_len += 1;
        }
    }
}

impl<R: Exposition> Exposition for Converted<R> {
    fn next(&mut self) -> Result<Option<EntryKind>, ParseError> {
        self.emitting = false;
        loop {
            let entry = match self.pending.take() {
                Some(entry) => entry,
                None => self.inner.next()?,
            };
            if entry == Some(EntryKind::Type) {
                self.family.clear();
                self.family.push_str(self.inner.family());
                self.kind = self.inner.metric_type();
            }
            if entry == Some(EntryKind::Sample)
                && let Some((part, le)) = self.part()
            {
                if self.collecting && self.key != self.scratch && self.emit() {
                    self.pending = Some(entry);
                    return Ok(Some(EntryKind::Histogram));
                }
                self.collect(part, le);
                if self.keep_classic {
                    return Ok(entry);
                }
                continue;
            }
            if self.emit() {
                self.pending = Some(entry);
                return Ok(Some(EntryKind::Histogram));
            }
            return Ok(entry);
        }
    }

    fn family(&self) -> &str {
        self.inner.family()
    }

    fn text(&self) -> &str {
        self.inner.text()
    }

    fn metric_type(&self) -> MetricType {
        self.inner.metric_type()
    }

    fn series(&self) -> &[u8] {
        if self.emitting { &self.converted_key } else { self.inner.series() }
    }

    fn value(&self) -> f64 {
        self.inner.value()
    }

    fn timestamp(&self) -> Option<i64> {
        if self.emitting { self.converted_timestamp } else { self.inner.timestamp() }
    }

    fn take_histogram(&mut self) -> Option<ExposedHistogram> {
        self.converted.take()
    }

    fn for_each_label(&self, found: &mut dyn FnMut(&str, &str)) {
        if self.emitting {
            crate::key_labels(&self.converted_key, MetricType::Histogram, ReadOptions::default(), found);
        } else {
            self.inner.for_each_label(found);
        }
    }

    fn next_exemplar(&mut self, exemplar: &mut ExposedExemplar) -> bool {
        if !self.emitting {
            return self.inner.next_exemplar(exemplar);
        }
        let Some(next) = self.exemplars.get_mut(..self.exemplars_len).and_then(|all| all.get_mut(self.exemplars_given))
        else {
            return false;
        };
        self.exemplars_given += 1;
        std::mem::swap(exemplar, next);
        true
    }

    fn start_ms(&mut self) -> i64 {
        if self.emitting { self.converted_start_ms } else { self.inner.start_ms() }
    }
}
