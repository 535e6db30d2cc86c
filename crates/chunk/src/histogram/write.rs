//! Writing histogram chunks: which histograms fit, and what happens with those that do not.

use fk_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use fk_model::{CounterReset, Span, is_stale};

use super::fields::Field;
use super::layout;
use super::read::Reader;
use super::spans::{Fit, fit_counter, fit_gauge, merged, spread};
use super::state::{Kind, State, View};
use super::{HEADER_BYTES, Header};
use crate::bits::BitWriter;
use crate::{ChunkError, Encoding};

/// An open chunk with at least one sample.
#[derive(Clone, Debug)]
pub struct Writer<K: Kind> {
    out: BitWriter,
    with_starts: bool,
    count: usize,
    header: Header,
    state: State<K>,
}

/// What became of a histogram.
#[derive(Debug)]
pub enum Pushed<K: Kind> {
    /// It is behind the others.
    Appended,
    /// It is behind the others, but the chunk had to be written anew with more buckets: all its bytes have changed.
    Recoded,
    /// It does not fit this chunk, which is as before and complete. Here is the next one, with the histogram in it.
    Cut(Box<Writer<K>>),
}

/// Why a histogram does not fit a chunk.
enum Misfit {
    /// Gauges and counters do not share a chunk.
    Gauge,
    /// A counter has fallen.
    Reset,
    /// Another layout, or what comes after a staleness marker.
    Other,
}

impl<K: Kind> Writer<K> {
    /// A chunk with one histogram. `previous` is the open chunk of the same series in front of it, if there is one with
    /// the same kind of counts: the header says whether the counter was reset in between.
    pub fn begin(
        with_starts: bool,
        previous: Option<&Writer<K>>,
        start: i64,
        t: i64,
        h: &K::Histogram,
    ) -> Result<Writer<K>, ChunkError> {
        let view = K::view(h);
        check(&view)?;
        let header = match view.counter_reset {
            CounterReset::Gauge => Header::Gauge,
            CounterReset::Reset => Header::Reset,
            _ => match previous.map(|previous| previous.fit_counter(&view)) {
                None => Header::Unknown,
                Some(Ok(_)) => Header::NotReset,
                Some(Err(Misfit::Reset)) => Header::Reset,
                // Prometheus does not tell these apart with float counts.
                Some(Err(Misfit::Other)) if K::ENCODINGS[0] == Encoding::Histogram => Header::Unknown,
                Some(Err(_)) => Header::NotReset,
            },
        };
        Ok(Writer::with_header(with_starts, header, start, t, &view))
    }

    fn with_header(with_starts: bool, header: Header, start: i64, t: i64, view: &View<'_, K>) -> Writer<K> {
        let mut out = BitWriter::new(&[0; HEADER_BYTES]);
        let stale = K::stale(view.sum);
        let view = if is_stale(view.sum) { K::view(&stale) } else { *view };
        let state = State::first(&mut out, t, &view);
        let mut writer = Writer { out, with_starts, count: 0, header, state };
        writer.finish_sample(0, start);
        writer
    }

    /// Goes on with a chunk: one that an earlier run has written, for example. `bytes` must have a sample and be whole.
    pub fn resume(with_starts: bool, bytes: Vec<u8>) -> Result<Writer<K>, ChunkError> {
        let mut reader = Reader::<K>::new(with_starts, &bytes)?;
        while reader.advance()? {}
        let (bits, header, count) = (reader.bits.at, reader.header, reader.expected());
        let Some(state) = reader.state.take() else {
            return Err(ChunkError::Truncated { decoded: 0, expected: 1 });
        };
        Ok(Writer { out: BitWriter::resume(bytes, bits), with_starts, count, header, state })
    }

    /// Adds a histogram behind the others; `start` is ignored by chunks without start timestamps. Its spans must describe
    /// its buckets, which [`fk_model::Histogram::validate`] makes sure of; otherwise that is the error and nothing happens.
    pub fn push(&mut self, start: i64, t: i64, h: &K::Histogram) -> Result<Pushed<K>, ChunkError> {
        let view = K::view(h);
        check(&view)?;
        if self.count == self.encoding().samples_max() {
            return Ok(Pushed::Cut(Box::new(Writer::begin(self.with_starts, Some(self), start, t, h)?)));
        }
        let gauge = view.counter_reset == CounterReset::Gauge;
        let fits = match (gauge, if gauge { self.fit_gauge(&view) } else { self.fit_counter(&view) }) {
            (_, Ok(fits)) => fits,
            (true, Err(_)) => return Ok(self.cut(Header::Gauge, start, t, &view)),
            (false, Err(Misfit::Reset)) => return Ok(self.cut(Header::Reset, start, t, &view)),
            (false, Err(Misfit::Gauge)) if K::ENCODINGS[0] == Encoding::Histogram => {
                return Ok(self.cut(Header::NotReset, start, t, &view));
            }
            (false, Err(_)) => return Ok(self.cut(Header::Unknown, start, t, &view)),
        };
        if fits == [Fit::default(); 2] {
            self.append(start, t, &view);
            return Ok(Pushed::Appended);
        }
        let layout = &self.state.layout;
        let (chunk_lacks, histogram_lacks) =
            (fits.iter().any(|f| f.chunk_lacks), fits.iter().any(|f| f.histogram_lacks));
        // Which spans a wider layout has depends on who lacks what, as in Prometheus, so that the bytes are the same.
        let spans = |fit: Fit, chunk: &[Span], own: &[Span]| match (chunk_lacks, histogram_lacks) {
            (false, _) => chunk.to_vec(),
            (true, true) if gauge || fit.histogram_lacks => merged(chunk, own),
            (true, _) => own.to_vec(),
        };
        let wide = [
            spans(fits[0], &layout.positive_spans, view.positive_spans),
            spans(fits[1], &layout.negative_spans, view.negative_spans),
        ];
        if chunk_lacks {
            *self = self.recoded(&wide)?;
        }
        self.append_spread(start, t, &view, &wide);
        Ok(if chunk_lacks { Pushed::Recoded } else { Pushed::Appended })
    }

    fn cut(&self, header: Header, start: i64, t: i64, view: &View<'_, K>) -> Pushed<K> {
        Pushed::Cut(Box::new(Writer::with_header(self.with_starts, header, start, t, view)))
    }

    /// What a counter lacks beside the chunk and the other way round, of positive and negative buckets.
    fn fit_counter(&self, h: &View<'_, K>) -> Result<[Fit; 2], Misfit> {
        let state = &self.state;
        if self.header == Header::Gauge {
            return Err(Misfit::Gauge);
        }
        if h.counter_reset == CounterReset::Reset {
            return Err(Misfit::Reset);
        }
        if is_stale(h.sum) {
            return Ok([Fit::default(); 2]);
        }
        if state.is_stale() {
            return Err(Misfit::Other);
        }
        if h.count < state.count.value() {
            return Err(Misfit::Reset);
        }
        if !self.same_buckets_family(h) {
            return Err(Misfit::Other);
        }
        if !self.same_bounds(h) || h.zero_count < state.zero_count.value() {
            return Err(Misfit::Reset);
        }
        let fit = |spans: &[Span], fields: &[K::Bucket], own_spans: &[Span], own: &[_]| {
            let chunk = (spans, State::<K>::counts(fields));
            fit_counter(chunk, (own_spans, K::counts(own.iter().copied()))).ok_or(Misfit::Reset)
        };
        Ok([
            fit(&state.layout.positive_spans, &state.positive, h.positive_spans, h.positive)?,
            fit(&state.layout.negative_spans, &state.negative, h.negative_spans, h.negative)?,
        ])
    }

    /// The same of a gauge, which may fall.
    fn fit_gauge(&self, h: &View<'_, K>) -> Result<[Fit; 2], Misfit> {
        let state = &self.state;
        if self.header != Header::Gauge {
            return Err(Misfit::Gauge);
        }
        if is_stale(h.sum) {
            return Ok([Fit::default(); 2]);
        }
        if state.is_stale() || !self.same_buckets_family(h) || !self.same_bounds(h) {
            return Err(Misfit::Other);
        }
        Ok([
            fit_gauge(&state.layout.positive_spans, h.positive_spans),
            fit_gauge(&state.layout.negative_spans, h.negative_spans),
        ])
    }

    fn same_buckets_family(&self, h: &View<'_, K>) -> bool {
        h.schema == self.state.layout.schema && h.zero_threshold == self.state.layout.zero_threshold
    }

    fn same_bounds(&self, h: &View<'_, K>) -> bool {
        h.schema != CUSTOM_BUCKETS_SCHEMA || **h.custom_values == *self.state.layout.custom_values
    }

    /// Appends a histogram that has the buckets of the chunk.
    fn append(&mut self, start: i64, t: i64, h: &View<'_, K>) {
        let before = self.state.t;
        self.state.next(&mut self.out, t, h);
        self.finish_sample(before, start);
    }

    /// Appends a histogram with its counts put into the buckets of `wide`, which are those of the chunk.
    fn append_spread(&mut self, start: i64, t: i64, h: &View<'_, K>, wide: &[Vec<Span>; 2]) {
        let spread = |spans: &[Span], buckets: &[_], to: &[Span]| {
            K::buckets(spread(spans, K::counts(buckets.iter().copied()), to))
        };
        let positive = spread(h.positive_spans, h.positive, &wide[0]);
        let negative = spread(h.negative_spans, h.negative, &wide[1]);
        self.append(start, t, &View { positive: &positive, negative: &negative, ..*h });
    }

    /// The same chunk with the buckets of `wide`.
    fn recoded(&self, wide: &[Vec<Span>; 2]) -> Result<Writer<K>, ChunkError> {
        let mut reader = Reader::<K>::new(self.with_starts, &self.out.bytes)?;
        let mut recoded: Option<Writer<K>> = None;
        while reader.advance()? {
            let h = reader.histogram()?;
            let view = K::view(&h);
            let (start, t) = (reader.start(), reader.t());
            match &mut recoded {
                Some(recoded) => recoded.append_spread(start, t, &view, wide),
                None => {
                    let widened = |spans: &[Span], buckets: &[_], to: &[Span]| {
                        K::buckets(spread(spans, K::counts(buckets.iter().copied()), to))
                    };
                    let positive = widened(view.positive_spans, view.positive, &wide[0]);
                    let negative = widened(view.negative_spans, view.negative, &wide[1]);
                    let first = View {
                        positive_spans: &wide[0],
                        negative_spans: &wide[1],
                        positive: &positive,
                        negative: &negative,
                        ..view
                    };
                    recoded = Some(Writer::with_header(self.with_starts, self.header, start, t, &first));
                }
            }
        }
        recoded.ok_or(ChunkError::Truncated { decoded: 0, expected: self.count })
    }

    /// Writes the start timestamp and the header behind a sample; `before` is the time of the one before it.
    fn finish_sample(&mut self, before: i64, start: i64) {
        if self.with_starts {
            let state = &mut self.state;
            state.starts.write(&mut self.out, HEADER_BYTES - 1, self.count, state.t, before, start);
        }
        self.count += 1;
        let [high, low] = (self.count as u16).to_be_bytes();
        let bytes = &mut self.out.bytes;
        if self.with_starts {
            (bytes[0], bytes[1]) = (high | self.header.bits(), low);
        } else {
            (bytes[0], bytes[1], bytes[2]) = (high, low, self.header.bits());
        }
    }

    /// The chunk as Prometheus writes it.
    pub fn bytes(&self) -> &[u8] {
        &self.out.bytes
    }

    /// The chunk, complete.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out.bytes
    }

    /// How the bytes are encoded.
    pub fn encoding(&self) -> Encoding {
        K::ENCODINGS[usize::from(self.with_starts)]
    }

    /// Samples in the chunk, 1 or more.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What its header says about the step from the chunk before.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Time of the last sample, ms.
    pub fn last_time(&self) -> i64 {
        self.state.t
    }

    /// Sum of the last sample; that of a staleness marker is one.
    pub fn last_sum(&self) -> f64 {
        self.state.sum.value()
    }

    /// Whether the last sample is a staleness marker.
    pub fn is_stale(&self) -> bool {
        self.state.is_stale()
    }

    /// The last histogram; a repeat of it at the same time is no new sample. Allocates.
    pub fn last(&self) -> Option<K::Histogram> {
        match self.is_stale() {
            true => Some(K::stale(self.last_sum())),
            false => K::histogram(&self.state, CounterReset::Unknown).ok(),
        }
    }

    /// Buckets of the last sample, positive and negative ones.
    pub fn n_buckets(&self) -> usize {
        self.state.positive.len() + self.state.negative.len()
    }

    /// Memory it takes besides itself, bytes.
    pub fn heap_bytes(&self) -> usize {
        let state = &self.state;
        self.out.bytes.capacity()
            + (state.positive.capacity() + state.negative.capacity()) * size_of::<K::Bucket>()
            + (state.layout.positive_spans.capacity() + state.layout.negative_spans.capacity()) * size_of::<Span>()
            + state.layout.custom_values.len() * size_of::<f64>()
    }
}

/// Whether the spans describe the buckets.
fn check<K: Kind>(h: &View<'_, K>) -> Result<(), ChunkError> {
    let buckets = Some([h.positive.len(), h.negative.len()]);
    let sound = || layout::sound(h.schema, [h.positive_spans, h.negative_spans], h.custom_values) == buckets;
    if is_stale(h.sum) || sound() { Ok(()) } else { Err(ChunkError::Mismatch) }
}
