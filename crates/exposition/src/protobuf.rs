//! The protobuf format: length-delimited `io.prometheus.client.MetricFamily` messages.
//!
//! [`ProtobufReader`] reads metric by metric and hands the parts of a metric out one by one, as if they were lines of text: a summary
//! is a count, a sum and its quantiles, a classic histogram likewise; a native histogram is one entry. Numbers and slices of the
//! metric at hand are all that is kept, in memory that is used again for the next one.

use fk_model::histogram::{self, ClassicHistogram, Span};
use fk_model::labels::METRIC_NAME;
use fk_model::{FloatHistogram, Histogram};

use crate::float::{format_open_metrics_float, quote};
use crate::reader::{SEPARATOR, TYPE_LABEL, UNIT_LABEL, push_key_label};
use crate::spans::{LABELS_MAX, check_length};
use crate::{EntryKind, ExposedExemplar, ExposedHistogram, Exposition, MetricType, ParseError, ReadOptions};

mod message;
mod wire;

use message::{Bucket, COUNTER, GAUGE, Metric, Side, UNTYPED, label_pair, read_exemplar};
use wire::{Fields, WireError};

/// What precedes a message: its length, in so many bytes at most.
const LENGTH_BYTES_MAX: usize = 5;

/// What a family is by its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    /// One value, at this place in [`Metric::value`].
    #[default]
    Counter,
    Gauge,
    Untyped,
    Summary,
    Histogram,
    GaugeHistogram,
}

impl Shape {
    fn of(number: u64) -> Option<Shape> {
        let all =
            [Shape::Counter, Shape::Gauge, Shape::Summary, Shape::Untyped, Shape::Histogram, Shape::GaugeHistogram];
        all.get(usize::try_from(number).ok()?).copied()
    }

    fn metric_type(self) -> MetricType {
        match self {
            Shape::Counter => MetricType::Counter,
            Shape::Gauge => MetricType::Gauge,
            Shape::Untyped => MetricType::Unknown,
            Shape::Summary => MetricType::Summary,
            Shape::Histogram => MetricType::Histogram,
            Shape::GaugeHistogram => MetricType::GaugeHistogram,
        }
    }
}

/// A family without its metrics.
#[derive(Clone, Copy, Debug, Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    shape: Shape,
}

/// Where in a family the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before its first entry.
    Begin,
    Help,
    Unit,
    Type,
    /// In its metrics.
    Metrics,
}

/// An entry of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Value,
    Count,
    Sum,
    /// A quantile or a bucket.
    Item(usize),
    /// The bucket for everything, where none is exposed.
    Infinity,
    Native,
    /// A classic histogram as a native one.
    Converted,
}

/// Reads a body in the protobuf format, entry by entry.
#[derive(Debug)]
pub(crate) struct ProtobufReader<'a> {
    body: &'a [u8],
    options: ReadOptions,
    /// Where the next family begins.
    pos: usize,
    /// Where this one began: the place that errors name.
    family_start: usize,
    family: Family<'a>,
    /// Its metrics as messages, and the next one of them.
    metrics: Vec<&'a [u8]>,
    next_metric: usize,
    metric: Metric<'a>,
    state: State,
    /// The current entry of the metric, and the next one.
    step: Step,
    next_step: Option<Step>,
    /// The labels of the metric as part of a key.
    labels: Vec<u8>,
    key: Vec<u8>,
    classic: ClassicHistogram,
    histogram: Option<ExposedHistogram>,
    /// The next exemplar of the entry.
    next_exemplar: usize,
}

impl<'a> ProtobufReader<'a> {
    pub(crate) fn new(body: &'a [u8], options: ReadOptions) -> ProtobufReader<'a> {
        ProtobufReader {
            body,
            options,
            pos: 0,
            family_start: 0,
            family: Family::default(),
            metrics: Vec::new(),
            next_metric: 0,
            metric: Metric::default(),
            state: State::Begin,
            step: Step::Value,
            next_step: None,
            labels: Vec::new(),
            key: Vec::new(),
            classic: ClassicHistogram::default(),
            histogram: None,
            next_exemplar: 0,
        }
    }

    fn error(&self, message: impl ToString) -> ParseError {
        ParseError::at(self.body, self.family_start, message.to_string())
    }

    // === families ===

    /// Reads the next family that has metrics, and its first metric. `false` at the end.
    fn read_family(&mut self) -> Result<bool, ParseError> {
        loop {
            self.family_start = self.pos;
            let rest = self.body.get(self.pos..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(false);
            }
            let mut fields = Fields(rest);
            let len = fields.varint().ok().and_then(|len| usize::try_from(len).ok());
            let len_bytes = rest.len() - fields.0.len();
            let Some(len) = len.filter(|_| len_bytes <= LENGTH_BYTES_MAX) else {
                return Err(self.error("clientpb: invalid varint encountered"));
            };
            let Some(message) = fields.0.get(..len) else {
                let (wanted, got) = (len_bytes.saturating_add(len), rest.len());
                return Err(self.error(format!(
                    "clientpb: insufficient length of buffer, expected at least {wanted} bytes, got {got} bytes"
                )));
            };
            self.pos += len_bytes + len;
            self.metrics.clear();
            self.next_metric = 0;
            let (name, help, unit, number) = self.read_family_fields(message).map_err(|error| self.error(error))?;
            if !self.read_metric()? {
                continue;
            }
            let Some(name) = utf8(name).filter(|name| !name.is_empty()) else {
                return Err(self.error(format!("invalid metric name: {}", String::from_utf8_lossy(name))));
            };
            let quoted = || quote(name.as_bytes());
            let Some(help) = utf8(help) else {
                let help = String::from_utf8_lossy(help);
                return Err(self.error(format!("invalid help for metric {}: {help}", quoted())));
            };
            let Some(shape) = Shape::of(number) else {
                return Err(self.error(format!("unknown metric type for metric {}: {number}", quoted())));
            };
            // Prometheus takes any bytes for a unit; ours is text.
            let Some(unit) = utf8(unit) else {
                return Err(self.error(format!("invalid unit for metric {}", quoted())));
            };
            check_length(name.len().max(unit.len())).map_err(|message| self.error(message))?;
            self.family = Family { name, help, unit, shape };
            return Ok(true);
        }
    }

    /// Name, help, unit and number of the type; the metrics go to where they belong.
    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn read_family_fields(&mut self, message: &'a [u8]) -> Result<(&'a [u8], &'a [u8], &'a [u8], u64), WireError> {
        let (mut name, mut help, mut unit, mut number): (&[u8], &[u8], &[u8], u64) = (&[], &[], &[], 0);
        let mut fields = Fields(message);
        while let Some((field_number, field)) = fields.next()? {
            match field_number {
                1 => name = field.bytes("Name")?,
                2 => help = field.bytes("Help")?,
                3 => number = field.varint("Type")?,
                4 => self.metrics.push(field.bytes("Metric")?),
                5 => unit = field.bytes("Unit")?,
                _ => {}
            }
        }
        Ok((name, help, unit, number))
    }

    // === metrics ===

    /// Reads the next metric of the family; `false` behind the last one.
    fn read_metric(&mut self) -> Result<bool, ParseError> {
        let Some(message) = self.metrics.get(self.next_metric) else { return Ok(false) };
        self.next_metric += 1;
        self.metric.read(message).map_err(|error| ParseError::at(self.body, self.family_start, error.to_string()))?;
        Ok(true)
    }

    fn is_histogram(&self) -> bool {
        matches!(self.family.shape, Shape::Histogram | Shape::GaugeHistogram)
    }

    /// Whether the metric at hand is a native histogram and to be read as one.
    fn is_native(&self) -> bool {
        self.is_histogram() && !self.options.ignore_native_histograms && self.metric.histogram.is_native()
    }

    /// Whether the metric at hand is a classic histogram of which a native one is made.
    fn is_converted(&self) -> bool {
        self.options.convert_classic_histograms && self.is_histogram() && !self.is_native()
    }

    fn first_step(&self) -> Step {
        match self.family.shape {
            Shape::Counter | Shape::Gauge | Shape::Untyped => Step::Value,
            Shape::Summary => Step::Count,
            _ if self.is_native() => Step::Native,
            _ if self.is_converted() && !self.options.keep_classic_histograms => Step::Converted,
            _ => Step::Count,
        }
    }

    fn step_behind(&self, step: Step) -> Option<Step> {
        let histogram = &self.metric.histogram;
        let item = |at: usize| match self.family.shape {
            Shape::Summary => (at < self.metric.summary.quantiles.len()).then_some(Step::Item(at)),
            _ if at < histogram.buckets.len() => Some(Step::Item(at)),
            _ => Some(Step::Infinity),
        };
        let behind_classic = || self.is_converted().then_some(Step::Converted);
        match step {
            Step::Value | Step::Converted => None,
            Step::Count => Some(Step::Sum),
            Step::Sum => item(0),
            Step::Item(at) if self.is_histogram() && self.bucket(at).upper_bound == f64::INFINITY => behind_classic(),
            Step::Item(at) => item(at + 1),
            Step::Infinity => behind_classic(),
            Step::Native => {
                (self.options.keep_classic_histograms && !histogram.buckets.is_empty()).then_some(Step::Count)
            }
        }
    }

    fn bucket(&self, at: usize) -> Bucket<'a> {
        self.metric.histogram.buckets.get(at).copied().unwrap_or_default()
    }

    /// Begins the metric that was read: its labels, and its first entry.
    fn begin_metric(&mut self) -> Result<(), ParseError> {
        self.next_step = Some(self.first_step());
        if self.metric.labels.len() >= LABELS_MAX {
            return Err(self.error(format!("more than {LABELS_MAX} labels")));
        }
        let mut labels = std::mem::take(&mut self.labels);
        labels.clear();
        let mut push = |name: &str, value: &str| {
            for text in [name, value] {
                labels.push(SEPARATOR);
                labels.extend_from_slice(text.as_bytes());
            }
        };
        let (kind, unit) = (self.family.shape.metric_type(), self.family.unit);
        let (has_kind, has_unit) = if self.options.type_and_unit_labels {
            (kind != MetricType::Unknown, !unit.is_empty())
        } else {
            (false, false)
        };
        if has_kind {
            push(TYPE_LABEL, kind.name());
        }
        if has_unit {
            push(UNIT_LABEL, unit);
        }
        for message in &self.metric.labels {
            let (name, value) = label_pair(message).map_err(|error| self.error(error))?;
            let Some(name) = utf8(name).filter(|name| !name.is_empty()) else {
                return Err(self.error(format!("invalid label name: {}", String::from_utf8_lossy(name))));
            };
            let Some(value) = utf8(value) else {
                return Err(self.error(format!("invalid label value: {}", String::from_utf8_lossy(value))));
            };
            check_length(name.len().max(value.len())).map_err(|message| self.error(message))?;
            let overridden = name == METRIC_NAME && self.options.type_and_unit_labels
                || name == TYPE_LABEL && has_kind
                || name == UNIT_LABEL && has_unit;
            if !overridden {
                push(name, value);
            }
        }
        self.labels = labels;
        Ok(())
    }

    /// Makes a step the current entry.
    fn enter(&mut self, step: Step) -> Result<EntryKind, ParseError> {
        self.step = step;
        self.next_step = self.step_behind(step);
        self.next_exemplar = 0;
        let is_summary = self.family.shape == Shape::Summary;
        let suffix = match step {
            Step::Count => "_count",
            Step::Sum => "_sum",
            Step::Item(_) | Step::Infinity if !is_summary => "_bucket",
            _ => "",
        };
        let key = &mut self.key;
        key.clear();
        push_key_label(key, METRIC_NAME, self.family.name);
        key.extend_from_slice(suffix.as_bytes());
        key.extend_from_slice(&self.labels);
        match step {
            Step::Item(at) if is_summary => {
                let quantile = self.metric.summary.quantiles.get(at).map_or(0.0, |(quantile, _)| *quantile);
                push_key_label(key, "quantile", &format_open_metrics_float(quantile));
            }
            Step::Item(at) => {
                let upper = self.metric.histogram.buckets.get(at).map_or(0.0, |bucket| bucket.upper_bound);
                push_key_label(key, "le", &format_open_metrics_float(upper));
            }
            Step::Infinity => push_key_label(key, "le", "+Inf"),
            Step::Native => self.histogram = Some(self.native()?),
            Step::Converted => self.histogram = Some(self.converted()?),
            Step::Value | Step::Count | Step::Sum => {}
        }
        Ok(match step {
            Step::Native | Step::Converted => EntryKind::Histogram,
            _ => EntryKind::Sample,
        })
    }

    // === histograms ===

    fn hint(&self) -> histogram::CounterReset {
        match self.family.shape {
            Shape::GaugeHistogram => histogram::CounterReset::Gauge,
            _ => histogram::CounterReset::Unknown,
        }
    }

    fn native(&self) -> Result<ExposedHistogram, ParseError> {
        let h = &self.metric.histogram;
        let is_float = h.is_float();
        for (name, side) in [("positive", &h.positive), ("negative", &h.negative)] {
            let Side { spans, deltas, counts } = side;
            let have = if is_float { counts.len() } else { deltas.len() };
            let wanted: u64 = spans.iter().map(|span: &Span| u64::from(span.length)).sum();
            if wanted != have as u64 {
                let family = quote(self.family.name.as_bytes());
                let text = format!("histogram {family}: {name} side: spans require {wanted} buckets, have {have}");
                return Err(self.error(text));
            }
        }
        let spans = |side: &Side| side.spans.clone();
        Ok(if is_float {
            let mut histogram = FloatHistogram {
                counter_reset: self.hint(),
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                zero_count: h.zero_count_float,
                count: h.count_float,
                sum: h.sum,
                positive_spans: spans(&h.positive),
                negative_spans: spans(&h.negative),
                positive_buckets: h.positive.counts.clone(),
                negative_buckets: h.negative.counts.clone(),
                ..FloatHistogram::default()
            };
            histogram.compact(0);
            ExposedHistogram::Float(histogram)
        } else {
            let mut histogram = Histogram {
                counter_reset: self.hint(),
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                zero_count: h.zero_count,
                count: h.count_int,
                sum: h.sum,
                positive_spans: spans(&h.positive),
                negative_spans: spans(&h.negative),
                positive_buckets: h.positive.deltas.clone(),
                negative_buckets: h.negative.deltas.clone(),
                ..Histogram::default()
            };
            histogram.compact(0);
            ExposedHistogram::Int(histogram)
        })
    }

    fn converted(&mut self) -> Result<ExposedHistogram, ParseError> {
        let (classic, h) = (&mut self.classic, &self.metric.histogram);
        classic.clear();
        classic.set_count(h.count());
        classic.set_sum(h.sum);
        for bucket in &h.buckets {
            classic.set_bucket(bucket.upper_bound, bucket.count());
        }
        let converted = classic.convert();
        let hint = self.hint();
        match converted {
            Ok(histogram::Converted::Int(mut h)) => {
                h.counter_reset = hint;
                Ok(ExposedHistogram::Int(h))
            }
            Ok(histogram::Converted::Float(mut h)) => {
                h.counter_reset = hint;
                Ok(ExposedHistogram::Float(h))
            }
            Err(fault) => Err(self.error(fault)),
        }
    }

    // === exemplars ===

    /// The message of exemplar number `at` of the current entry, if there are so many places for one.
    fn exemplar_place(&self, at: usize) -> Option<Option<&'a [u8]>> {
        let h = &self.metric.histogram;
        match self.step {
            Step::Value if self.family.shape == Shape::Counter => (at == 0).then_some(self.metric.counter_exemplar),
            Step::Item(bucket) if self.is_histogram() => (at == 0).then(|| self.bucket(bucket).exemplar),
            Step::Native | Step::Converted if h.exemplars.is_empty() => h.buckets.get(at).map(|bucket| bucket.exemplar),
            Step::Native | Step::Converted => h.exemplars.get(at).map(|message| Some(*message)),
            _ => None,
        }
    }
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

impl Exposition for ProtobufReader<'_> {
    fn next(&mut self) -> Result<Option<EntryKind>, ParseError> {
        loop {
            let (state, kind) = match self.state {
                State::Begin => {
                    if !self.read_family()? {
                        return Ok(None);
                    }
                    (State::Help, EntryKind::Help)
                }
                State::Help if !self.family.unit.is_empty() => (State::Unit, EntryKind::Unit),
                State::Help | State::Unit => (State::Type, EntryKind::Type),
                State::Type => {
                    self.begin_metric()?;
                    self.state = State::Metrics;
                    continue;
                }
                State::Metrics => match self.next_step {
                    Some(step) => return self.enter(step).map(Some),
                    None => {
                        if self.read_metric()? {
                            self.begin_metric()?;
                        } else {
                            self.state = State::Begin;
                        }
                        continue;
                    }
                },
            };
            self.state = state;
            return Ok(Some(kind));
        }
    }

    fn family(&self) -> &str {
        self.family.name
    }

    fn text(&self) -> &str {
        if self.state == State::Unit { self.family.unit } else { self.family.help }
    }

    fn metric_type(&self) -> MetricType {
        self.family.shape.metric_type()
    }

    fn series(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> f64 {
        let (metric, summary) = (&self.metric, &self.metric.summary);
        let is_summary = self.family.shape == Shape::Summary;
        match self.step {
            Step::Value => match self.family.shape {
                Shape::Gauge => metric.value[GAUGE],
                Shape::Untyped => metric.value[UNTYPED],
                _ => metric.value[COUNTER],
            },
            Step::Count if is_summary => summary.count as f64,
            Step::Sum if is_summary => summary.sum,
            Step::Item(at) if is_summary => summary.quantiles.get(at).map_or(0.0, |(_, value)| *value),
            Step::Sum => metric.histogram.sum,
            Step::Item(at) => self.bucket(at).count(),
            Step::Count | Step::Infinity | Step::Native | Step::Converted => metric.histogram.count(),
        }
    }

    fn timestamp(&self) -> Option<i64> {
        // The format does not tell none from the beginning of 1970.
        Some(self.metric.timestamp_ms).filter(|t| *t != 0)
    }

    fn take_histogram(&mut self) -> Option<ExposedHistogram> {
        self.histogram.take()
    }

    fn for_each_label(&self, found: &mut dyn FnMut(&str, &str)) {
        crate::key_labels(&self.key, self.metric_type(), self.options, found);
    }

    fn next_exemplar(&mut self, exemplar: &mut ExposedExemplar) -> bool {
        // Those of native histograms need a time.
        let needs_time = matches!(self.step, Step::Native | Step::Converted);
        while let Some(place) = self.exemplar_place(self.next_exemplar) {
            self.next_exemplar += 1;
            let Some(Ok(read)) = place.map(read_exemplar) else { continue };
            if needs_time && read.timestamp.is_none() {
                continue;
            }
            (exemplar.value, exemplar.timestamp) = (read.value, read.timestamp);
            exemplar.labels.clear();
            let pairs = read.labels.iter().filter_map(|message| label_pair(message).ok());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            exemplar.labels.extend(pairs.map(|(name, value)| (text(name), text(value))));
            return true;
        }
        false
    }

    fn start_ms(&mut self) -> i64 {
        match self.family.shape {
            Shape::Counter => self.metric.counter_start_ms,
            Shape::Summary => self.metric.summary.start_ms,
            Shape::Histogram | Shape::GaugeHistogram => self.metric.histogram.start_ms,
            Shape::Gauge | Shape::Untyped => 0,
        }
    }
}
