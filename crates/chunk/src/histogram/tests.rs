//! Golden bytes, and round trips of made-up series.

use std::sync::Arc;

use fk_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use fk_model::{CounterReset, FloatHistogram, Histogram, Span, stale_nan};

use super::{Float, Header, Int, Kind, Pushed, Reader, Writer};
use crate::{ChunkError, Encoding};

/// The numbers behind the made-up series: a linear congruence that the generator of the golden sums has, too.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

struct MadeUp {
    numbers: Numbers,
    gauge: bool,
    custom: bool,
    schema: i32,
    threshold: f64,
    bounds: Arc<[f64]>,
    positive: [u64; 17],
    negative: [u64; 17],
    zero: u64,
    t: i64,
    start: i64,
}

const THRESHOLDS: [u64; 3] = [0, 0x37f0_0000_0000_0000, 0x3f50_624d_d2f1_a9fc];

impl MadeUp {
    fn new(seed: u64) -> MadeUp {
        let mut numbers = Numbers(seed);
        let gauge = numbers.below(4) == 0;
        let custom = numbers.below(4) == 0;
        let schema = if custom { CUSTOM_BUCKETS_SCHEMA } else { numbers.below(9) as i32 - 4 };
        let threshold = if custom { 0.0 } else { f64::from_bits(THRESHOLDS[numbers.below(3) as usize]) };
        let t = 1_600_000_000_000 + numbers.below(1000) as i64;
        MadeUp {
            numbers,
            gauge,
            custom,
            schema,
            threshold,
            bounds: if custom { Arc::from([0.005, 0.01, 0.25, 1.0, 2.5, 33554.431]) } else { Arc::default() },
            positive: [0; 17],
            negative: [0; 17],
            zero: 0,
            t,
            start: 0,
        }
    }

    fn next(&mut self) -> (i64, i64, Histogram) {
        let n = &mut self.numbers;
        self.t += 15_000;
        if n.below(5) == 0 {
            self.t += n.below(200) as i64 - 100;
        }
        let (mut stale, mut hint) = (false, CounterReset::Unknown);
        match n.below(40) {
            0 => (self.positive, self.negative, self.zero) = ([0; 17], [0; 17], 0),
            1 if !self.custom => self.schema = (self.schema + 5) % 9 - 4,
            2 if !self.custom => self.threshold = f64::from_bits(THRESHOLDS[n.below(3) as usize]),
            3 => stale = true,
            4 => hint = CounterReset::Reset,
            5 if self.custom => self.bounds = Arc::from([0.005, 0.01, 0.25, 1.0, 2.5, 100.0]),
            6 => self.gauge = !self.gauge,
            _ => {}
        }
        let buckets = if self.custom { 7 } else { 17 };
        for negative in [false, true] {
            if negative && self.custom {
                continue;
            }
            for _ in 0..n.below(4) {
                let count = if negative { &mut self.negative } else { &mut self.positive };
                let count = &mut count[n.below(buckets) as usize];
                let step = n.below(1000);
                *count = if self.gauge && n.below(2) == 0 { step } else { *count + step };
            }
        }
        if !self.custom {
            self.zero += n.below(3);
        }
        if n.below(6) == 0 {
            self.start = self.t - n.below(100_000) as i64 - 1;
        }
        if n.below(20) == 0 {
            self.start = 0;
        }
        let mut spans_and_deltas = |counts: &[u64; 17]| {
            let (mut spans, mut deltas): (Vec<Span>, Vec<i64>) = (Vec::new(), Vec::new());
            let first = if self.custom { 0 } else { -8 };
            let (mut next, mut before) = (0, 0i64);
            for (i, &count) in counts.iter().enumerate().take(buckets as usize) {
                if count == 0 && n.below(8) > 0 {
                    continue;
                }
                let index = i as i32 + first;
                match spans.last_mut() {
                    Some(span) if index == next => span.length += 1,
                    _ => spans.push(Span { offset: index - next, length: 1 }),
                }
                next = index + 1;
                deltas.push(count as i64 - before);
                before = count as i64;
            }
            (spans, deltas)
        };
        let (positive_spans, positive_buckets) = spans_and_deltas(&self.positive);
        let (negative_spans, negative_buckets) =
            if self.custom { (Vec::new(), Vec::new()) } else { spans_and_deltas(&self.negative) };
        let count = self.positive.iter().chain(&self.negative).sum::<u64>() + self.zero;
        let h = Histogram {
            counter_reset: if self.gauge { CounterReset::Gauge } else { hint },
            schema: self.schema,
            zero_threshold: self.threshold,
            zero_count: self.zero,
            count,
            sum: if stale { stale_nan() } else { count as f64 * 0.3 },
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: Arc::clone(&self.bounds),
        };
        (self.start, self.t, if stale { Histogram { sum: h.sum, ..Histogram::default() } } else { h })
    }
}

/// Histograms that have each bucket, with its count, that another one has; buckets without observations may be missing.
#[track_caller]
fn same(a: &FloatHistogram, b: &FloatHistogram) {
    let used = |spans: &[Span], counts: &[f64]| {
        let used = super::spans::Indices::new(spans).zip(counts.iter().map(|c| c.to_bits()));
        used.filter(|(_, count)| *count != 0).collect::<Vec<_>>()
    };
    let parts = |h: &FloatHistogram| {
        let numbers = [h.count.to_bits(), h.zero_count.to_bits(), h.sum.to_bits(), h.zero_threshold.to_bits()];
        (
            (h.schema, numbers, h.custom_values.clone()),
            used(&h.positive_spans, &h.positive_buckets),
            used(&h.negative_spans, &h.negative_buckets),
        )
    };
    assert_eq!(parts(a), parts(b));
}

struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

type MadeUpSamples = Vec<(i64, i64, Histogram)>;

fn samples(seed: u64) -> MadeUpSamples {
    let mut series = MadeUp::new(seed);
    (0..60).map(|_| series.next()).collect()
}

/// Chunks of a made-up series.
pub(crate) fn chunks<K: MadeUpKind>(seed: u64, with_starts: bool) -> Vec<Vec<u8>> {
    written::<K>(seed, with_starts, &samples(seed), K::of)
}

pub(crate) trait MadeUpKind: Kind {
    fn of(h: &Histogram) -> Self::Histogram;
}

impl MadeUpKind for Int {
    fn of(h: &Histogram) -> Histogram {
        h.clone()
    }
}

impl MadeUpKind for Float {
    /// Half the counts, as the generator makes float histograms.
    fn of(h: &Histogram) -> FloatHistogram {
        let mut float = h.to_float();
        (float.count, float.zero_count) = (float.count / 2.0, float.zero_count / 2.0);
        float.positive_buckets.iter_mut().chain(&mut float.negative_buckets).for_each(|count| *count /= 2.0);
        float
    }
}

fn written<K: Kind>(
    seed: u64,
    with_starts: bool,
    samples: &MadeUpSamples,
    of: impl Fn(&Histogram) -> K::Histogram,
) -> Vec<Vec<u8>> {
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<Writer<K>> = None;
    for (start, t, h) in samples {
        let h = of(h);
        let next = match &mut open {
            None => Some(Writer::begin(with_starts, None, *start, *t, &h).unwrap()),
            Some(writer) if writer.count() >= 12 => {
                Some(Writer::begin(with_starts, Some(writer), *start, *t, &h).unwrap())
            }
            Some(writer) => match writer.push(*start, *t, &h).unwrap() {
                Pushed::Cut(next) => Some(*next),
                Pushed::Appended | Pushed::Recoded => None,
            },
        };
        if let Some(next) = next
            && let Some(full) = open.replace(next)
        {
            chunks.push(full.into_bytes());
        }
        // A writer that goes on with the bytes is as good as the one that wrote them.
        let writer = open.as_ref().unwrap();
        assert_eq!((writer.last_time(), writer.is_stale()), (*t, K::view(&h).sum.is_nan()));
        if seed >= 30 {
            continue;
        }
        let resumed = Writer::<K>::resume(with_starts, writer.bytes().to_vec()).unwrap();
        assert_eq!((resumed.bytes(), resumed.count()), (writer.bytes(), writer.count()));
        if seed.is_multiple_of(2) {
            open = Some(resumed);
        }
    }
    chunks.extend(open.map(Writer::into_bytes));
    chunks
}

/// Writes a made-up series and reads it back. The sum is over all chunks and over what is read from them.
fn sum_of<K: MadeUpKind>(seed: u64, with_starts: bool) -> u64 {
    let samples = samples(seed);
    let chunks = written::<K>(seed, with_starts, &samples, K::of);
    let mut sum = Sum(0xcbf2_9ce4_8422_2325);
    let mut read = Vec::new();
    for chunk in &chunks {
        sum.add(chunk);
        let mut reader = Reader::<K>::new(with_starts, chunk).unwrap();
        while reader.advance().unwrap() {
            let h = reader.float().unwrap();
            for number in [reader.t(), reader.start(), h.counter_reset as i64, h.count.to_bits() as i64] {
                sum.add(&number.to_le_bytes());
            }
            for span in h.positive_spans.iter().chain(&h.negative_spans) {
                sum.add(&[span.offset as u8, span.length as u8]);
            }
            for count in h.positive_buckets.iter().chain(&h.negative_buckets) {
                sum.add(&count.to_bits().to_le_bytes());
            }
            read.push((reader.start(), reader.t(), h));
        }
        for end in (0..chunk.len()).filter(|_| seed < 5) {
            let mut reader = Reader::<K>::new(with_starts, &chunk[..end]);
            while let Ok(Ok(true)) = reader.as_mut().map(Reader::advance) {}
        }
    }
    assert_eq!(read.len(), samples.len());
    for ((start, t, h), (read_start, read_t, read)) in samples.iter().zip(&read) {
        assert_eq!((t, if with_starts { start } else { &0 }), (read_t, read_start));
        let writer = Writer::<K>::begin(false, None, 0, 0, &K::of(h)).unwrap();
        let mut reader = Reader::<K>::new(false, writer.bytes()).unwrap();
        assert!(reader.advance().unwrap());
        same(&reader.float().unwrap(), read);
    }
    sum.0
}

/// The sums were computed by a program that makes up the same series and writes and reads them with Prometheus 3.14's own
/// packages.
#[test]
fn bytes_and_samples_are_those_of_prometheus() {
    let sums = |one: &dyn Fn(u64) -> u64| {
        let mut all = Sum(0xcbf2_9ce4_8422_2325);
        (0..100).for_each(|seed| all.add(&one(seed).to_le_bytes()));
        format!("{:016x}", all.0)
    };
    assert_eq!(sums(&|seed| sum_of::<Int>(seed, false)), "110832aa46e9b708");
    assert_eq!(sums(&|seed| sum_of::<Float>(seed, false)), "0e709d2ea7cfc059");
    assert_eq!(sums(&|seed| sum_of::<Int>(seed, true)), "41a8b5f067fd988e");
    assert_eq!(sums(&|seed| sum_of::<Float>(seed, true)), "79dae2d44edbc6c7");
}

#[test]
fn histograms_that_could_not_be_read_are_not_written() {
    let sound = || Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1, 0],
        count: 2,
        custom_values: Arc::from([1.0]),
        ..Histogram::default()
    };
    let mut open = Writer::<Int>::begin(false, None, 0, 0, &sound()).unwrap();
    let changes: [fn(&mut Histogram); 5] = [
        |h| h.positive_spans[0].length = 3,
        |h| h.positive_spans[0].offset = 1,
        |h| h.negative_buckets.push(1),
        |h| h.schema = 60,
        |h| h.positive_spans.extend([Span::default(); 70]),
    ];
    for change in changes {
        let mut h = sound();
        change(&mut h);
        assert_eq!(Writer::<Int>::begin(false, None, 0, 0, &h).unwrap_err(), ChunkError::Mismatch);
        assert_eq!(open.push(0, 1, &h).unwrap_err(), ChunkError::Mismatch);
    }
    assert!(matches!(open.push(0, 1, &sound()), Ok(Pushed::Appended)));
    assert_eq!((open.count(), open.last_time()), (2, 1));
}

#[test]
fn a_full_chunk_is_followed_by_another_one() {
    let h = Histogram { count: 1, zero_count: 1, ..Histogram::default() };
    let mut open = Writer::<Int>::begin(true, None, 5, 0, &h).unwrap();
    for t in 1..Encoding::HistogramSt.samples_max() as i64 {
        assert!(matches!(open.push(5, t, &h), Ok(Pushed::Appended)));
    }
    let Ok(Pushed::Cut(next)) = open.push(5, 99_999, &h) else { panic!("full") };
    assert_eq!((next.count(), next.header()), (1, Header::NotReset));
    assert_eq!(Encoding::HistogramSt.count(open.bytes()), Some(Encoding::HistogramSt.samples_max()));
    assert_eq!(Encoding::HistogramSt.last_time(open.bytes()), Ok(Some(16_382)));
}
