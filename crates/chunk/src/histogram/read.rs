//! Reading histogram chunks sample by sample.

use std::sync::Arc;

use fk_model::{CounterReset, FloatHistogram};

use super::state::{Kind, State};
use super::{HEADER_BYTES, Header};
use crate::ChunkError;
use crate::bits::BitReader;
use crate::fault::Fault;
use crate::histogram::fields::Field;
use crate::starts::Starts;

/// Steps through a chunk. [`Reader::advance`] has to return `true` before the others are asked.
#[derive(Clone, Debug)]
pub struct Reader<'a, K: Kind> {
    pub(super) bits: BitReader<'a>,
    pub(super) header: Header,
    expected: usize,
    read: usize,
    pub(super) state: Option<State<K>>,
    with_starts: bool,
    starts: u8,
}

impl<'a, K: Kind> Reader<'a, K> {
    /// In front of the first sample of a chunk, which has start timestamps or not.
    pub fn new(with_starts: bool, bytes: &'a [u8]) -> Result<Reader<'a, K>, ChunkError> {
        let encoding = K::ENCODINGS[usize::from(with_starts)];
        let (Some(expected), Some(header), Some(&third)) =
            (encoding.count(bytes), Header::of(encoding, bytes), bytes.get(2))
        else {
            return Err(ChunkError::Truncated { decoded: 0, expected: 0 });
        };
        let bits = BitReader::new(bytes, HEADER_BYTES);
        Ok(Reader { bits, header, expected, read: 0, state: None, with_starts, starts: third })
    }

    /// Samples that the header promises.
    pub fn expected(&self) -> usize {
        self.expected
    }

    /// Steps to the next sample; `false` at the end. After an error the chunk is at its end.
    pub fn advance(&mut self) -> Result<bool, ChunkError> {
        if self.read == self.expected {
            return Ok(false);
        }
        let index = self.read;
        self.step(index).map_err(|fault| {
            self.read = self.expected;
            fault.of(index, self.expected)
        })?;
        self.read += 1;
        Ok(true)
    }

    fn step(&mut self, index: usize) -> Result<(), Fault> {
        let before = match &mut self.state {
            Some(state) => {
                let before = state.t;
                state.read_next(&mut self.bits)?;
                before
            }
            None => {
                let starts = Starts::new(if self.with_starts { self.starts } else { 0 });
                self.state = Some(State::read_first(&mut self.bits, starts)?);
                0
            }
        };
        if self.with_starts
            && let Some(state) = &mut self.state
        {
            state.starts.read(&mut self.bits, index, state.t, before)?;
        }
        Ok(())
    }

    fn current(&self) -> &State<K> {
        self.state.as_ref().expect("Reader::advance has returned true")
    }

    /// Time of the sample, ms.
    pub fn t(&self) -> i64 {
        self.current().t
    }

    /// Start timestamp of the sample, ms; 0 if not known.
    pub fn start(&self) -> i64 {
        self.current().starts.last
    }

    /// Sum of the sample; that of a staleness marker is one.
    pub fn sum(&self) -> f64 {
        self.current().sum.value()
    }

    /// What the chunk says about a counter reset before the sample. Of the first one nothing is known, whatever the header
    /// says: what came before it may have changed since.
    fn counter_reset(&self) -> CounterReset {
        match self.header {
            Header::Gauge => CounterReset::Gauge,
            _ if self.read > 1 => CounterReset::NotReset,
            _ => CounterReset::Unknown,
        }
    }

    /// The histogram. A staleness marker has nothing but a sum. Schemas of newer versions are brought down to the largest
    /// one there is today.
    pub fn histogram(&self) -> Result<K::Histogram, ChunkError> {
        let state = self.current();
        if state.is_stale() {
            return Ok(K::stale(self.sum()));
        }
        K::histogram(state, self.counter_reset()).map_err(|_| self.invalid())
    }

    /// The histogram with float counts.
    pub fn float(&self) -> Result<Arc<FloatHistogram>, ChunkError> {
        let state = self.current();
        if state.is_stale() {
            return Ok(Arc::new(FloatHistogram { sum: self.sum(), ..FloatHistogram::default() }));
        }
        K::float(state, self.counter_reset()).map(Arc::new).map_err(|_| self.invalid())
    }

    fn invalid(&self) -> ChunkError {
        ChunkError::Invalid { what: "spans", sample: self.read - 1 }
    }
}
