//! The messages of `io.prometheus.client`, read as far as somebody asks.
//!
//! ```text
//! MetricFamily { string name = 1; string help = 2; MetricType type = 3; repeated Metric metric = 4; string unit = 5; }
//! Metric       { repeated LabelPair label = 1; Gauge gauge = 2; Counter counter = 3; Summary summary = 4; Untyped untyped = 5;
//!                int64 timestamp_ms = 6; Histogram histogram = 7; }
//! LabelPair    { string name = 1; string value = 2; }
//! Gauge, Untyped { double value = 1; }
//! Counter      { double value = 1; Exemplar exemplar = 2; Timestamp start_timestamp = 3; }
//! Summary      { uint64 sample_count = 1; double sample_sum = 2; repeated Quantile quantile = 3; Timestamp start_timestamp = 4; }
//! Quantile     { double quantile = 1; double value = 2; }
//! Histogram    { uint64 sample_count = 1; double sample_sum = 2; repeated Bucket bucket = 3; double sample_count_float = 4;
//!                sint32 schema = 5; double zero_threshold = 6; uint64 zero_count = 7; double zero_count_float = 8;
//!                repeated BucketSpan negative_span = 9; repeated sint64 negative_delta = 10; repeated double negative_count = 11;
//!                repeated BucketSpan positive_span = 12; repeated sint64 positive_delta = 13; repeated double positive_count = 14;
//!                Timestamp start_timestamp = 15; repeated Exemplar exemplars = 16; }
//! Bucket       { uint64 cumulative_count = 1; double upper_bound = 2; Exemplar exemplar = 3; double cumulative_count_float = 4; }
//! BucketSpan   { sint32 offset = 1; uint32 length = 2; }
//! Exemplar     { repeated LabelPair label = 1; double value = 2; Timestamp timestamp = 3; }
//! Timestamp    { int64 seconds = 1; int32 nanos = 2; }
//! ```
//!
//! Of a field that occurs more often than once and may not, the last one counts. Lists of numbers come packed or one by one.

use fk_model::histogram::Span;

use super::wire::{Field, Fields, WireError, zigzag};

/// A metric's contents, whatever its type. Memory that is reused from metric to metric.
#[derive(Debug, Default)]
pub(super) struct Metric<'a> {
    /// Each label as a message.
    pub(super) labels: Vec<&'a [u8]>,
    /// Time, ms; 0 if there is none.
    pub(super) timestamp_ms: i64,
    /// Of gauge, counter or untyped.
    pub(super) value: [f64; 3],
    pub(super) counter_exemplar: Option<&'a [u8]>,
    /// Start of counter, summary or histogram, ms.
    pub(super) counter_start_ms: i64,
    pub(super) summary: Summary,
    pub(super) histogram: Histogram<'a>,
}

pub(super) const GAUGE: usize = 0;
pub(super) const COUNTER: usize = 1;
pub(super) const UNTYPED: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Quantiles and their values.
    pub(super) quantiles: Vec<(f64, f64)>,
    pub(super) start_ms: i64,
}

/// A bucket of a classic histogram.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket<'a> {
    count: u64,
    count_float: f64,
    pub(super) upper_bound: f64,
    pub(super) exemplar: Option<&'a [u8]>,
}

impl Bucket<'_> {
    /// The count, float or not.
    pub(super) fn count(&self) -> f64 {
        if self.count_float == 0.0 { self.count as f64 } else { self.count_float }
    }
}

/// Spans and counts of the buckets on one side of zero.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) spans: Vec<Span>,
    pub(super) deltas: Vec<i64>,
    pub(super) counts: Vec<f64>,
}

#[derive(Debug, Default)]
pub(super) struct Histogram<'a> {
    pub(super) count_int: u64,
    pub(super) count_float: f64,
    pub(super) sum: f64,
    pub(super) buckets: Vec<Bucket<'a>>,
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) zero_count: u64,
    pub(super) zero_count_float: f64,
    pub(super) negative: Side,
    pub(super) positive: Side,
    pub(super) start_ms: i64,
    pub(super) exemplars: Vec<&'a [u8]>,
}

impl Side {
    fn clear(&mut self) {
        self.spans.clear();
        self.deltas.clear();
        self.counts.clear();
    }
}

impl Histogram<'_> {
    /// The count, float or not.
    pub(super) fn count(&self) -> f64 {
        if self.count_float == 0.0 { self.count_int as f64 } else { self.count_float }
    }

    /// Whether this is meant as a native histogram. One that is and has no observations yet has an empty span to say so.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }

    /// Whether the counts of a native histogram are floats.
    pub(super) fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_count_float > 0.0
    }

    fn clear(&mut self) {
        (self.count_int, self.count_float, self.sum, self.schema) = (0, 0.0, 0.0, 0);
        (self.zero_threshold, self.zero_count, self.zero_count_float, self.start_ms) = (0.0, 0, 0.0, 0);
        self.buckets.clear();
        self.negative.clear();
        self.positive.clear();
        self.exemplars.clear();
    }
}

impl<'a> Metric<'a> {
    /// Replaces the contents by those of a message.
    pub(super) fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        self.labels.clear();
        (self.timestamp_ms, self.value, self.counter_exemplar, self.counter_start_ms) = (0, [0.0; 3], None, 0);
        (self.summary.count, self.summary.sum, self.summary.start_ms) = (0, 0.0, 0);
        self.summary.quantiles.clear();
        self.histogram.clear();
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.labels.push(field.bytes("Label")?),
                2 => self.read_value(GAUGE, field.bytes("Gauge")?)?,
                3 => self.read_value(COUNTER, field.bytes("Counter")?)?,
                4 => self.read_summary(field.bytes("Summary")?)?,
                5 => self.read_value(UNTYPED, field.bytes("Untyped")?)?,
                6 => self.timestamp_ms = field.varint("TimestampMs")? as i64,
                7 => self.read_histogram(field.bytes("Histogram")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_value(&mut self, of: usize, message: &'a [u8]) -> Result<(), WireError> {
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.value[of] = field.double("Value")?,
                2 if of == COUNTER => self.counter_exemplar = Some(field.bytes("Exemplar")?),
                3 if of == COUNTER => self.counter_start_ms = timestamp_ms(field.bytes("StartTimestamp")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_summary(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.summary.count = field.varint("SampleCount")?,
                2 => self.summary.sum = field.double("SampleSum")?,
                3 => {
                    let (mut quantile, mut value) = (0.0, 0.0);
                    let mut fields = Fields(field.bytes("Quantile")?);
                    while let Some((number, field)) = fields.next()? {
                        match number {
                            1 => quantile = field.double("Quantile")?,
                            2 => value = field.double("Value")?,
                            _ => {}
                        }
                    }
                    self.summary.quantiles.push((quantile, value));
                }
                4 => self.summary.start_ms = timestamp_ms(field.bytes("StartTimestamp")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_histogram(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let h = &mut self.histogram;
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => h.count_int = field.varint("SampleCount")?,
                2 => h.sum = field.double("SampleSum")?,
                3 => h.buckets.push(read_bucket(field.bytes("Bucket")?)?),
                4 => h.count_float = field.double("SampleCountFloat")?,
                // As Prometheus' decoder: of a longer number the lower 32 bits.
                5 => h.schema = zigzag(field.varint("Schema")? & u64::from(u32::MAX)) as i32,
                6 => h.zero_threshold = field.double("ZeroThreshold")?,
                7 => h.zero_count = field.varint("ZeroCount")?,
                8 => h.zero_count_float = field.double("ZeroCountFloat")?,
                9 => h.negative.spans.push(read_span(field.bytes("NegativeSpan")?)?),
                10 => read_deltas(field, "NegativeDelta", &mut h.negative.deltas)?,
                11 => read_counts(field, "NegativeCount", &mut h.negative.counts)?,
                12 => h.positive.spans.push(read_span(field.bytes("PositiveSpan")?)?),
                13 => read_deltas(field, "PositiveDelta", &mut h.positive.deltas)?,
                14 => read_counts(field, "PositiveCount", &mut h.positive.counts)?,
                15 => h.start_ms = timestamp_ms(field.bytes("StartTimestamp")?)?,
                16 => h.exemplars.push(field.bytes("Exemplars")?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_bucket(message: &[u8]) -> Result<Bucket<'_>, WireError> {
    let mut bucket = Bucket::default();
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => bucket.count = field.varint("CumulativeCount")?,
            2 => bucket.upper_bound = field.double("UpperBound")?,
            3 => bucket.exemplar = Some(field.bytes("Exemplar")?),
            4 => bucket.count_float = field.double("CumulativeCountFloat")?,
            _ => {}
        }
    }
    Ok(bucket)
}

fn read_span(message: &[u8]) -> Result<Span, WireError> {
    let mut span = Span::default();
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => span.offset = zigzag(field.varint("Offset")? & u64::from(u32::MAX)) as i32,
            2 => span.length = field.varint("Length")? as u32,
            _ => {}
        }
    }
    Ok(span)
}

fn read_deltas(field: Field<'_>, name: &'static str, deltas: &mut Vec<i64>) -> Result<(), WireError> {
    if let Field::Bytes(packed) = field {
        let mut numbers = Fields(packed);
        while !numbers.0.is_empty() {
            deltas.push(zigzag(numbers.varint()?));
        }
        return Ok(());
    }
    deltas.push(zigzag(field.varint(name)?));
    Ok(())
}

fn read_counts(field: Field<'_>, name: &'static str, counts: &mut Vec<f64>) -> Result<(), WireError> {
    if let Field::Bytes(packed) = field {
        let mut numbers = Fields(packed);
        while !numbers.0.is_empty() {
            counts.push(f64::from_bits(numbers.fixed64()?));
        }
        return Ok(());
    }
    counts.push(field.double(name)?);
    Ok(())
}

/// A point in time, ms.
pub(super) fn timestamp_ms(message: &[u8]) -> Result<i64, WireError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => seconds = field.varint("Seconds")? as i64,
            2 => nanos = i64::from(field.varint("Nanos")? as i32),
            _ => {}
        }
    }
    Ok(seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000))
}

/// Name and value of a label.
pub(super) fn label_pair(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => name = field.bytes("Name")?,
            2 => value = field.bytes("Value")?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// An exemplar's value, time in ms, and labels as messages.
#[derive(Debug, Default)]
pub(super) struct Exemplar<'a> {
    pub(super) value: f64,
    pub(super) timestamp: Option<i64>,
    pub(super) labels: Vec<&'a [u8]>,
}

pub(super) fn read_exemplar(message: &[u8]) -> Result<Exemplar<'_>, WireError> {
    let mut exemplar = Exemplar::default();
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => exemplar.labels.push(field.bytes("Label")?),
            2 => exemplar.value = field.double("Value")?,
            3 => exemplar.timestamp = Some(timestamp_ms(field.bytes("Timestamp")?)?),
            _ => {}
        }
    }
    Ok(exemplar)
}
