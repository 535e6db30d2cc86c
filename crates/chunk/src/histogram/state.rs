//! What writer and reader remember between samples, and how integer and float histograms differ.

use std::fmt::Debug;
use std::sync::Arc;

use fk_model::histogram::EXPONENTIAL_SCHEMA_MAX;
use fk_model::{CounterReset, FloatHistogram, Histogram, HistogramError, Span, is_stale};

use super::fields::{Field, Signed, Unsigned, Xored};
use super::layout::Layout;
use crate::Encoding;
use crate::bits::{BitReader, BitWriter};
use crate::fault::{Fault, OrTruncated};
use crate::starts::Starts;

/// A histogram, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, K: Kind> {
    pub(crate) counter_reset: CounterReset,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) count: <K::Total as Field>::Value,
    pub(crate) zero_count: <K::Total as Field>::Value,
    pub(crate) sum: f64,
    pub(crate) positive_spans: &'a [Span],
    pub(crate) negative_spans: &'a [Span],
    pub(crate) positive: &'a [<K::Bucket as Field>::Value],
    pub(crate) negative: &'a [<K::Bucket as Field>::Value],
    pub(crate) custom_values: &'a Arc<[f64]>,
}

/// Integer or float counts.
pub trait Kind: Copy + Debug + Sized + 'static {
    /// A histogram.
    type Histogram: Clone + Debug;
    /// Its counts of all observations and of those in the zero bucket.
    type Total: Field<Value: PartialOrd + Default> + Debug;
    /// The count of a bucket as it is written.
    type Bucket: Field<Value: Default> + Debug;
    /// The count of a bucket.
    type Count: Copy + PartialOrd + Default;

    /// The encoding without and with start timestamps.
    const ENCODINGS: [Encoding; 2];

    /// Borrows a histogram.
    fn view(h: &Self::Histogram) -> View<'_, Self>;

    /// Counts from what is written.
    fn counts(buckets: impl Iterator<Item = <Self::Bucket as Field>::Value>) -> impl Iterator<Item = Self::Count>;

    /// What is written for counts.
    fn buckets(counts: impl Iterator<Item = Self::Count>) -> Vec<<Self::Bucket as Field>::Value>;

    /// Skips the counts of a staleness marker.
    fn write_no_count(total: &mut Self::Total, out: &mut BitWriter);

    /// The last histogram that was written or read, which is no staleness marker.
    fn histogram(state: &State<Self>, counter_reset: CounterReset) -> Result<Self::Histogram, HistogramError>;

    /// The same with float counts.
    fn float(state: &State<Self>, counter_reset: CounterReset) -> Result<FloatHistogram, HistogramError>;

    /// A staleness marker.
    fn stale(sum: f64) -> Self::Histogram;
}

/// Integer counts.
#[derive(Clone, Copy, Debug)]
pub struct Int;

/// Float counts.
#[derive(Clone, Copy, Debug)]
pub struct Float;

fn values<F: Field>(fields: &[F]) -> Vec<F::Value> {
    fields.iter().map(Field::value).collect()
}

impl Kind for Int {
    type Histogram = Histogram;
    type Total = Unsigned;
    type Bucket = Signed;
    type Count = i64;
    const ENCODINGS: [Encoding; 2] = [Encoding::Histogram, Encoding::HistogramSt];

    fn view(h: &Histogram) -> View<'_, Int> {
        View {
            counter_reset: h.counter_reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            count: h.count,
            zero_count: h.zero_count,
            sum: h.sum,
            positive_spans: &h.positive_spans,
            negative_spans: &h.negative_spans,
            positive: &h.positive_buckets,
            negative: &h.negative_buckets,
            custom_values: &h.custom_values,
        }
    }

    fn counts(buckets: impl Iterator<Item = i64>) -> impl Iterator<Item = i64> {
        buckets.scan(0i64, |count, delta| {
            *count = count.wrapping_add(delta);
            Some(*count)
        })
    }

    fn buckets(counts: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut before = 0i64;
        counts.map(|count| count.wrapping_sub(std::mem::replace(&mut before, count))).collect()
    }

    fn write_no_count(_: &mut Unsigned, out: &mut BitWriter) {
        out.bits(0, 1);
    }

    fn histogram(state: &State<Int>, counter_reset: CounterReset) -> Result<Histogram, HistogramError> {
        let mut h = Histogram {
            counter_reset,
            schema: state.layout.schema,
            zero_threshold: state.layout.zero_threshold,
            zero_count: state.zero_count.value(),
            count: state.count.value(),
            sum: state.sum.value(),
            positive_spans: state.layout.positive_spans.clone(),
            negative_spans: state.layout.negative_spans.clone(),
            positive_buckets: values(&state.positive),
            negative_buckets: values(&state.negative),
            custom_values: Arc::clone(&state.layout.custom_values),
        };
        if h.schema > EXPONENTIAL_SCHEMA_MAX {
            h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX)?;
        }
        Ok(h)
    }

    fn float(state: &State<Int>, counter_reset: CounterReset) -> Result<FloatHistogram, HistogramError> {
        let counts = |fields: &[Signed]| {
            Int::counts(fields.iter().map(Field::value)).map(|count| count as f64).collect::<Vec<f64>>()
        };
        float(
            &state.layout,
            counter_reset,
            [state.count.value() as f64, state.zero_count.value() as f64, state.sum.value()],
            [counts(&state.positive), counts(&state.negative)],
        )
    }

    fn stale(sum: f64) -> Histogram {
        Histogram { sum, ..Histogram::default() }
    }
}

impl Kind for Float {
    type Histogram = FloatHistogram;
    type Total = Xored;
    type Bucket = Xored;
    type Count = f64;
    const ENCODINGS: [Encoding; 2] = [Encoding::FloatHistogram, Encoding::FloatHistogramSt];

    fn view(h: &FloatHistogram) -> View<'_, Float> {
        View {
            counter_reset: h.counter_reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            count: h.count,
            zero_count: h.zero_count,
            sum: h.sum,
            positive_spans: &h.positive_spans,
            negative_spans: &h.negative_spans,
            positive: &h.positive_buckets,
            negative: &h.negative_buckets,
            custom_values: &h.custom_values,
        }
    }

    fn counts(buckets: impl Iterator<Item = f64>) -> impl Iterator<Item = f64> {
        buckets
    }

    fn buckets(counts: impl Iterator<Item = f64>) -> Vec<f64> {
        counts.collect()
    }

    fn write_no_count(total: &mut Xored, out: &mut BitWriter) {
        total.next(out, 0.0);
    }

    fn histogram(state: &State<Float>, counter_reset: CounterReset) -> Result<FloatHistogram, HistogramError> {
        float(
            &state.layout,
            counter_reset,
            [state.count.value(), state.zero_count.value(), state.sum.value()],
            [values(&state.positive), values(&state.negative)],
        )
    }

    fn float(state: &State<Float>, counter_reset: CounterReset) -> Result<FloatHistogram, HistogramError> {
        Float::histogram(state, counter_reset)
    }

    fn stale(sum: f64) -> FloatHistogram {
        FloatHistogram { sum, ..FloatHistogram::default() }
    }
}

fn float(
    layout: &Layout,
    counter_reset: CounterReset,
    [count, zero_count, sum]: [f64; 3],
    [positive_buckets, negative_buckets]: [Vec<f64>; 2],
) -> Result<FloatHistogram, HistogramError> {
    let mut h = FloatHistogram {
        counter_reset,
        schema: layout.schema,
        zero_threshold: layout.zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans: layout.positive_spans.clone(),
        negative_spans: layout.negative_spans.clone(),
        positive_buckets,
        negative_buckets,
        custom_values: Arc::clone(&layout.custom_values),
    };
    if h.schema > EXPONENTIAL_SCHEMA_MAX {
        h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX)?;
    }
    Ok(h)
}

/// The last sample of a chunk and what the next one is written against.
#[derive(Clone, Debug)]
pub struct State<K: Kind> {
    pub(crate) layout: Layout,
    pub(crate) t: i64,
    t_delta: i64,
    pub(crate) count: K::Total,
    pub(crate) zero_count: K::Total,
    pub(crate) sum: Xored,
    pub(crate) positive: Vec<K::Bucket>,
    pub(crate) negative: Vec<K::Bucket>,
    pub(crate) starts: Starts,
}

impl<K: Kind> State<K> {
    /// Whether the last sample is a staleness marker.
    pub(crate) fn is_stale(&self) -> bool {
        is_stale(self.sum.value())
    }

    /// The counts of the last sample's buckets.
    pub(crate) fn counts(buckets: &[K::Bucket]) -> impl Iterator<Item = K::Count> {
        K::counts(buckets.iter().map(Field::value))
    }

    /// Writes the layout and the first sample, but no start timestamp.
    pub(crate) fn first(out: &mut BitWriter, t: i64, h: &View<'_, K>) -> State<K> {
        let layout = Layout {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            positive_spans: h.positive_spans.to_vec(),
            negative_spans: h.negative_spans.to_vec(),
            custom_values: Arc::clone(h.custom_values),
        };
        layout.write(out);
        out.varbit_int(t);
        let count = K::Total::first(out, h.count);
        let zero_count = K::Total::first(out, h.zero_count);
        let sum = Xored::first(out, h.sum);
        let mut buckets = |values: &[_]| values.iter().map(|value| K::Bucket::first(out, *value)).collect();
        let (positive, negative) = (buckets(h.positive), buckets(h.negative));
        State { layout, t, t_delta: 0, count, zero_count, sum, positive, negative, starts: Starts::default() }
    }

    /// Writes the next sample, whose buckets are those of the layout, but no start timestamp.
    pub(crate) fn next(&mut self, out: &mut BitWriter, t: i64, h: &View<'_, K>) {
        let delta = t.wrapping_sub(self.t);
        out.varbit_int(delta.wrapping_sub(self.t_delta));
        (self.t, self.t_delta) = (t, delta);
        if is_stale(h.sum) {
            K::write_no_count(&mut self.count, out);
            K::write_no_count(&mut self.zero_count, out);
            return self.sum.next(out, h.sum);
        }
        self.count.next(out, h.count);
        self.zero_count.next(out, h.zero_count);
        self.sum.next(out, h.sum);
        for (field, value) in self.positive.iter_mut().zip(h.positive) {
            field.next(out, *value);
        }
        for (field, value) in self.negative.iter_mut().zip(h.negative) {
            field.next(out, *value);
        }
    }

    /// Reads the layout and the first sample, but no start timestamp.
    pub(crate) fn read_first(bits: &mut BitReader<'_>, starts: Starts) -> Result<State<K>, Fault> {
        let (layout, [positive, negative]) = Layout::read(bits, K::Bucket::BITS_MIN)?;
        let t = bits.varbit_int().or_truncated()?;
        let count = K::Total::read_first(bits)?;
        let zero_count = K::Total::read_first(bits)?;
        let sum = Xored::read_first(bits)?;
        let mut buckets = |n| (0..n).map(|_| K::Bucket::read_first(bits)).collect::<Result<Vec<_>, _>>();
        let (positive, negative) = (buckets(positive)?, buckets(negative)?);
        Ok(State { layout, t, t_delta: 0, count, zero_count, sum, positive, negative, starts })
    }

    /// Reads the next sample, but no start timestamp.
    pub(crate) fn read_next(&mut self, bits: &mut BitReader<'_>) -> Result<(), Fault> {
        self.t_delta = self.t_delta.wrapping_add(bits.varbit_int().or_truncated()?);
        self.t = self.t.wrapping_add(self.t_delta);
        self.count.read_next(bits)?;
        self.zero_count.read_next(bits)?;
        self.sum.read_next(bits)?;
        if !self.is_stale() {
            for field in self.positive.iter_mut().chain(&mut self.negative) {
                field.read_next(bits)?;
            }
        }
        Ok(())
    }
}
