//! Records of histogram samples. A record has integer or float counts, and without start timestamps either exponential or
//! custom buckets; so the histograms of one batch become up to four records, see [`histogram_kind`].

use fk_model::histogram::{
    CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, HistogramError, HistogramFault, is_known_schema,
};
use fk_model::{CounterReset, FloatHistogram, Histogram, Span};
use fk_storage::{BatchHistogram, HistogramValue, SeriesRef};

use super::codec::{Decoder, Fault, Walk, iterate, put_uvarint, put_varint};
use super::kind;
use super::samples::{KeyWriter, Keys};

/// Histogram samples.
#[derive(Clone, Copy, Debug)]
pub struct HistogramsRecord<'a> {
    pub(super) keys: Keys<'a>,
    pub(super) float: bool,
}

impl<'a> HistogramsRecord<'a> {
    /// The histograms, in the order they were logged.
    pub fn iter(&self) -> HistogramsIter<'a> {
        HistogramsIter { keys: self.keys, float: self.float }
    }
}

/// Iterates a [`HistogramsRecord`].
#[derive(Clone, Debug)]
pub struct HistogramsIter<'a> {
    keys: Keys<'a>,
    float: bool,
}

impl<'a> Walk for HistogramsIter<'a> {
    type Item = HistogramEntry<'a>;

    fn step(&mut self) -> Result<Option<HistogramEntry<'a>>, Fault> {
        let Some((series, t, start)) = self.keys.next()? else { return Ok(None) };
        let counts = Counts::walk(&mut self.keys.dec, self.float)?;
        Ok(Some(HistogramEntry { series, t, start, float: self.float, counts }))
    }
}

iterate!(HistogramsIter, HistogramEntry<'a>);

/// A histogram sample in a record, still in the log's form, checked.
#[derive(Clone, Copy, Debug)]
pub struct HistogramEntry<'a> {
    /// The series.
    pub series: SeriesRef,
    /// Time, ms.
    pub t: i64,
    /// Start timestamp, ms; 0 if not known.
    pub start: i64,
    float: bool,
    counts: Counts<'a>,
}

/// The fields of a histogram; counts are bits of floats in a record of float histograms.
#[derive(Clone, Copy, Debug)]
struct Counts<'a> {
    counter_reset: u8,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    count: u64,
    sum: f64,
    positive_spans: List<'a>,
    negative_spans: List<'a>,
    positive: List<'a>,
    negative: List<'a>,
    bounds: List<'a>,
}

/// Elements of one type behind each other.
#[derive(Clone, Copy, Debug, Default)]
struct List<'a> {
    len: usize,
    dec: Option<Decoder<'a>>,
}

impl<'a> List<'a> {
    /// Walks over the elements; each takes at least `bytes_min`.
    fn walk<T>(
        dec: &mut Decoder<'a>,
        bytes_min: usize,
        element: impl Fn(&mut Decoder<'a>) -> Result<T, Fault>,
    ) -> Result<List<'a>, Fault> {
        let len = dec.uvarint()?;
        if len > (dec.0.len() / bytes_min) as u64 {
            return Err(Fault::Malformed);
        }
        let list = List { len: len as usize, dec: Some(*dec) };
        for _ in 0..len {
            element(dec)?;
        }
        Ok(list)
    }

    /// The elements. They were walked over, so none is missing.
    fn collect<T, C: FromIterator<T>>(self, element: impl Fn(&mut Decoder<'a>) -> Result<T, Fault>) -> C {
        let mut dec = self.dec.unwrap_or(Decoder(&[]));
        (0..self.len).map_while(|_| element(&mut dec).ok()).collect()
    }
}

fn span(dec: &mut Decoder<'_>) -> Result<Span, Fault> {
    Ok(Span { offset: dec.varint()? as i32, length: dec.uvarint()? as u32 })
}

fn float(dec: &mut Decoder<'_>) -> Result<f64, Fault> {
    Ok(f64::from_bits(dec.be64()?))
}

impl<'a> Counts<'a> {
    fn walk(dec: &mut Decoder<'a>, is_float: bool) -> Result<Counts<'a>, Fault> {
        let counter_reset = dec.byte()?;
        let schema = dec.varint()? as i32;
        let zero_threshold = float(dec)?;
        let count = |dec: &mut Decoder<'a>| if is_float { dec.be64() } else { dec.uvarint() };
        let (zero_count, count) = (count(dec)?, count(dec)?);
        let sum = float(dec)?;
        let positive_spans = List::walk(dec, 2, span)?;
        let negative_spans = List::walk(dec, 2, span)?;
        let buckets = |dec: &mut Decoder<'a>| match is_float {
            true => List::walk(dec, 8, Decoder::be64),
            false => List::walk(dec, 1, Decoder::varint),
        };
        let (positive, negative) = (buckets(dec)?, buckets(dec)?);
        let bounds = match schema {
            CUSTOM_BUCKETS_SCHEMA => List::walk(dec, 8, Decoder::be64)?,
            _ => List::default(),
        };
        Ok(Counts {
            counter_reset,
            schema,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive_spans,
            negative_spans,
            positive,
            negative,
            bounds,
        })
    }
}

impl HistogramEntry<'_> {
    /// Whether the counts are floats.
    pub fn is_float(&self) -> bool {
        self.float
    }

    /// Whether this marks the end of a series.
    pub fn is_stale(&self) -> bool {
        fk_model::is_stale(self.counts.sum)
    }

    /// The histogram. A schema of a newer version is brought down to the largest one there is today, as when a chunk is
    /// read; one that is not known at all, and spans that do not describe the buckets, are errors: such a sample cannot
    /// be used, those beside it can.
    pub fn value(&self) -> Result<HistogramValue, HistogramError> {
        let counts = &self.counts;
        if !is_known_schema(counts.schema) {
            return Err(HistogramFault::UnknownSchema(counts.schema).into());
        }
        let counter_reset = match counts.counter_reset {
            1 => CounterReset::Reset,
            2 => CounterReset::NotReset,
            3 => CounterReset::Gauge,
            _ => CounterReset::Unknown,
        };
        Ok(if self.float {
            let mut h = FloatHistogram {
                counter_reset,
                schema: counts.schema,
                zero_threshold: counts.zero_threshold,
                zero_count: f64::from_bits(counts.zero_count),
                count: f64::from_bits(counts.count),
                sum: counts.sum,
                positive_spans: counts.positive_spans.collect(span),
                negative_spans: counts.negative_spans.collect(span),
                positive_buckets: counts.positive.collect(float),
                negative_buckets: counts.negative.collect(float),
                custom_values: counts.bounds.collect(float),
            };
            h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX)?;
            HistogramValue::Float(h.into())
        } else {
            let mut h = Histogram {
                counter_reset,
                schema: counts.schema,
                zero_threshold: counts.zero_threshold,
                zero_count: counts.zero_count,
                count: counts.count,
                sum: counts.sum,
                positive_spans: counts.positive_spans.collect(span),
                negative_spans: counts.negative_spans.collect(span),
                positive_buckets: counts.positive.collect(Decoder::varint),
                negative_buckets: counts.negative.collect(Decoder::varint),
                custom_values: counts.bounds.collect(float),
            };
            h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX)?;
            HistogramValue::Int(h.into())
        })
    }

    /// The sample, for the same errors as [`HistogramEntry::value`].
    pub fn to_batch(&self) -> Result<BatchHistogram, HistogramError> {
        Ok(BatchHistogram { series: self.series, t: self.t, start: self.start, h: self.value()? })
    }
}

/// All kinds of records of histograms, in the order in which Prometheus writes those of one batch.
pub const HISTOGRAM_KINDS: [u8; 6] = [
    kind::HISTOGRAM_SAMPLES,
    kind::CUSTOM_BUCKETS_HISTOGRAM_SAMPLES,
    kind::FLOAT_HISTOGRAM_SAMPLES,
    kind::CUSTOM_BUCKETS_FLOAT_HISTOGRAM_SAMPLES,
    kind::HISTOGRAM_SAMPLES_WITH_STARTS,
    kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS,
];

/// The kind of record that a histogram goes into.
pub fn histogram_kind(h: &HistogramValue, with_starts: bool) -> u8 {
    match (h, with_starts) {
        (HistogramValue::Int(_), true) => kind::HISTOGRAM_SAMPLES_WITH_STARTS,
        (HistogramValue::Float(_), true) => kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS,
        (HistogramValue::Int(h), false) if h.uses_custom_buckets() => kind::CUSTOM_BUCKETS_HISTOGRAM_SAMPLES,
        (HistogramValue::Int(_), false) => kind::HISTOGRAM_SAMPLES,
        (HistogramValue::Float(h), false) if h.uses_custom_buckets() => kind::CUSTOM_BUCKETS_FLOAT_HISTOGRAM_SAMPLES,
        (HistogramValue::Float(_), false) => kind::FLOAT_HISTOGRAM_SAMPLES,
    }
}

/// Appends a record with those of the histograms that go into a record of kind `record`, one of [`HISTOGRAM_KINDS`], to
/// `out`. Appends nothing and returns `false` if there are none.
pub fn encode_histograms<'a>(
    record: u8,
    histograms: impl IntoIterator<Item = &'a BatchHistogram>,
    out: &mut Vec<u8>,
) -> bool {
    let with_starts = matches!(record, kind::HISTOGRAM_SAMPLES_WITH_STARTS | kind::FLOAT_HISTOGRAM_SAMPLES_WITH_STARTS);
    let mut keys = KeyWriter::new(with_starts);
    let mut any = false;
    for sample in histograms {
        if histogram_kind(&sample.h, with_starts) != record {
            continue;
        }
        if !any {
            out.push(record);
            any = true;
        }
        keys.put(out, sample.series, sample.t, sample.start);
        match &sample.h {
            HistogramValue::Int(h) => put_histogram(out, h),
            HistogramValue::Float(h) => put_float_histogram(out, h),
        }
    }
    any
}

fn put_f64(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_bits().to_be_bytes());
}

fn put_head(out: &mut Vec<u8>, counter_reset: CounterReset, schema: i32, zero_threshold: f64) {
    out.push(match counter_reset {
        CounterReset::Unknown => 0,
        CounterReset::Reset => 1,
        CounterReset::NotReset => 2,
        CounterReset::Gauge => 3,
    });
    put_varint(out, i64::from(schema));
    put_f64(out, zero_threshold);
}

fn put_list<T: Copy>(out: &mut Vec<u8>, list: &[T], put: impl Fn(&mut Vec<u8>, T)) {
    put_uvarint(out, list.len() as u64);
    list.iter().for_each(|element| put(out, *element));
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_list(out, spans, |out, span| {
        put_varint(out, i64::from(span.offset));
        put_uvarint(out, u64::from(span.length));
    });
}

fn put_histogram(out: &mut Vec<u8>, h: &Histogram) {
    put_head(out, h.counter_reset, h.schema, h.zero_threshold);
    put_uvarint(out, h.zero_count);
    put_uvarint(out, h.count);
    put_f64(out, h.sum);
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    put_list(out, &h.positive_buckets, put_varint);
    put_list(out, &h.negative_buckets, put_varint);
    if h.uses_custom_buckets() {
        put_list(out, &h.custom_values, put_f64);
    }
}

fn put_float_histogram(out: &mut Vec<u8>, h: &FloatHistogram) {
    put_head(out, h.counter_reset, h.schema, h.zero_threshold);
    put_f64(out, h.zero_count);
    put_f64(out, h.count);
    put_f64(out, h.sum);
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    put_list(out, &h.positive_buckets, put_f64);
    put_list(out, &h.negative_buckets, put_f64);
    if h.uses_custom_buckets() {
        put_list(out, &h.custom_values, put_f64);
    }
}
