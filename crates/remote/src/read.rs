//! Remote read: a request of another server, and the answer out of the storage, either all samples in one message or chunks in
//! frames, one series after the other.
//!
//! ```text
//! ReadRequest         { repeated Query queries = 1; repeated ResponseType accepted_response_types = 2; }
//! Query               { int64 start_timestamp_ms = 1; int64 end_timestamp_ms = 2; repeated LabelMatcher matchers = 3; ReadHints hints = 4; }
//! LabelMatcher        { Type type = 1; string name = 2; string value = 3; }
//! ReadResponse        { repeated QueryResult results = 1; }        QueryResult { repeated TimeSeries timeseries = 1; }
//! ChunkedReadResponse { repeated ChunkedSeries chunked_series = 1; int64 query_index = 2; }
//! ChunkedSeries       { repeated Label labels = 1; repeated Chunk chunks = 2; }
//! Chunk               { int64 min_time_ms = 1; int64 max_time_ms = 2; Encoding type = 3; bytes data = 4; }
//! ```
//!
//! Hints are not needed: a select gives what the matchers say. DIFFERENCE: histograms have float counts in every answer, since a
//! select gives them so; readers take either kind.

use std::ops::ControlFlow;

use fk_chunk::histogram::{Float, Pushed, Writer};
use fk_chunk::xor::XorChunk;
use fk_chunk::{ChunkError, Encoding};
use fk_model::{CounterReset, FloatHistogram, Labels, MatchKind, Matcher, Span};
use fk_storage::{Control, Queryable, Reservation, Samples, SelectParams, StorageError, TimeRange};

use crate::wire::{Field, Reader, WireError};

/// Largest request, decoded.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Most queries of a request.
const QUERIES_MAX: usize = 1000;
/// Most matchers of a query.
const MATCHERS_MAX: usize = 1000;
/// Samples of a chunk of floats, as many as the storage puts into one.
const CHUNK_SAMPLES: usize = 120;

/// Content-Type of an answer in chunks.
pub const STREAMED_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not one. Status 400.
    #[error("{0}")]
    Malformed(String),
    /// It would give more samples than one answer may have. Status 400. Text as in Prometheus.
    #[error("exceeded sample limit ({0})")]
    TooManySamples(usize),
    /// The storage does not give what is wanted.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A histogram that is none.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

impl From<WireError> for ReadError {
    fn from(error: WireError) -> ReadError {
        ReadError::Malformed(error.to_string())
    }
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseType {
    /// One message with all samples.
    Samples,
    /// Frames with chunks.
    StreamedChunks,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Times of the samples.
    pub range: TimeRange,
    /// What the series have to match.
    pub matchers: Vec<Matcher>,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadRequest {
    /// Each has an answer of its own.
    pub queries: Vec<Query>,
    /// How it is answered: as the first of the kinds that the reader takes and we know.
    pub response_type: ResponseType,
}

impl ReadRequest {
    /// Reads a body: a message in a snappy block.
    pub fn decode(body: &[u8]) -> Result<ReadRequest, ReadError> {
        // Text as in Prometheus:
        let corrupt = || ReadError::Malformed("snappy: corrupt input".to_owned());
        let len = snap::raw::decompress_len(body).map_err(|_| corrupt())?;
        if len > REQUEST_BYTES_MAX {
            return Err(ReadError::Malformed(format!("request is larger than {REQUEST_BYTES_MAX} bytes")));
        }
        let message = snap::raw::Decoder::new().decompress_vec(body).map_err(|_| corrupt())?;
        let mut request = ReadRequest { queries: Vec::new(), response_type: ResponseType::Samples };
        let mut accepted = Vec::new();
        let mut reader = Reader(&message);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (1, Field::Bytes(query)) => {
                    if request.queries.len() == QUERIES_MAX {
                        return Err(WireError::TooMany(QUERIES_MAX, "queries").into());
                    }
                    request.queries.push(Query::decode(query)?);
                }
                (2, Field::Varint(kind)) => accepted.push(kind),
                (2, Field::Bytes(packed)) => {
                    let mut kinds = Reader(packed);
                    while !kinds.0.is_empty() {
                        accepted.push(kinds.varint()?);
                    }
                }
                (1 | 2, other) => return Err(other.mismatch(number).into()),
                _ => {}
            }
        }
        let known = accepted.iter().find_map(|kind| match kind {
            0 => Some(ResponseType::Samples),
            1 => Some(ResponseType::StreamedChunks),
            _ => None,
        });
        request.response_type = match known {
            Some(kind) => kind,
            None if accepted.is_empty() => ResponseType::Samples,
            None => {
                return Err(ReadError::Malformed(format!(
                    "server does not support any of the requested response types: {accepted:?}"
                )));
            }
        };
        Ok(request)
    }
}

impl Query {
    fn decode(message: &[u8]) -> Result<Query, ReadError> {
        let mut query = Query { range: TimeRange { mint: 0, maxt: 0 }, matchers: Vec::new() };
        let mut reader = Reader(message);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (1, Field::Varint(t)) => query.range.mint = t as i64,
                (2, Field::Varint(t)) => query.range.maxt = t as i64,
                (3, Field::Bytes(matcher)) => {
                    if query.matchers.len() == MATCHERS_MAX {
                        return Err(WireError::TooMany(MATCHERS_MAX, "matchers").into());
                    }
                    query.matchers.push(decode_matcher(matcher)?);
                }
                (1..=3, other) => return Err(other.mismatch(number).into()),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn decode_matcher(message: &[u8]) -> Result<Matcher, ReadError> {
    let (mut kind, mut name, mut value): (u64, &[u8], &[u8]) = (0, &[], &[]);
    let mut reader = Reader(message);
    while let Some((number, field)) = reader.field()? {
        match (number, field) {
            (1, Field::Varint(number)) => kind = number,
            (2, Field::Bytes(bytes)) => name = bytes,
            (3, Field::Bytes(bytes)) => value = bytes,
            (1..=3, other) => return Err(other.mismatch(number).into()),
            _ => {}
        }
    }
    let kind = match kind {
        0 => MatchKind::Equal,
        1 => MatchKind::NotEqual,
        2 => MatchKind::Regex,
        3 => MatchKind::NotRegex,
        // Text as in Prometheus:
        _ => return Err(ReadError::Malformed("invalid matcher type".to_owned())),
    };
    let text =
        |bytes| std::str::from_utf8(bytes).map_err(|_| ReadError::Malformed("matcher that is not UTF-8".to_owned()));
    Matcher::new(kind, text(name)?, text(value)?).map_err(|error| ReadError::Malformed(error.to_string()))
}

/// Whether to go on.
type Flow = Result<ControlFlow<()>, ReadError>;

/// What a request is answered from.
pub struct Source<'s> {
    /// The samples.
    pub storage: &'s dyn Queryable,
    /// Labels that this server adds to all series for others.
    pub external: &'s Labels,
    /// Ends it early.
    pub control: &'s Control,
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("external", self.external).finish_non_exhaustive()
    }
}

impl Source<'_> {
    /// Calls `each` with every series that has samples, in order of labels.
    fn series(
        &self,
        query: &Query,
        memory: &mut Reservation,
        each: &mut dyn FnMut(&Labels, &Samples, &mut Reservation) -> Flow,
    ) -> Flow {
        // Series do not have the external labels here; whoever asks for them by their values means all.
        let stored = |matcher: &Matcher| match matcher.kind {
            MatchKind::Equal if self.external.get(&matcher.name) == Some(matcher.value.as_str()) => {
                Matcher::equal(matcher.name.as_str(), "")
            }
            _ => matcher.clone(),
        };
        let matchers: Vec<Matcher> = query.matchers.iter().map(stored).collect();
        let params = SelectParams { range: query.range, sorted: true, limit: 0 };
        let set = self.storage.select(&params, &matchers, self.control)?;
        let mut samples = Samples::default();
        let mut held = 0;
        for idx in 0..set.len() {
            self.control.check().map_err(StorageError::Stopped)?;
            set.read(idx, query.range, &mut samples)?;
            if samples.bytes() > held {
                memory.grow(samples.bytes() - held).map_err(StorageError::Stopped)?;
                held = samples.bytes();
            }
            if samples.is_empty() {
                continue;
            }
            let own = set.labels(idx);
            let missing = self.external.iter().filter(|(name, _)| own.get(name).is_none());
            let labels = Labels::from_pairs(own.iter().chain(missing));
            if each(&labels, &samples, memory)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The answer with all samples, compressed; `samples_max` 0: no limit.
    pub fn samples(&self, request: &ReadRequest, samples_max: usize) -> Result<Vec<u8>, ReadError> {
        let mut memory = self.control.reserve();
        let (mut out, mut count) = (Vec::new(), 0);
        for query in &request.queries {
            let mut result = Vec::new();
            let _all = self.series(query, &mut memory, &mut |labels, samples, memory| {
                count += samples.len();
                if samples_max > 0 && count > samples_max {
                    return Err(ReadError::TooManySamples(samples_max));
                }
                let before = result.len();
                bytes(&mut result, 1, &time_series(labels, samples));
                memory.grow(result.len() - before).map_err(StorageError::Stopped)?;
                Ok(ControlFlow::Continue(()))
            })?;
            bytes(&mut out, 1, &result);
        }
        memory.grow(2 * out.len()).map_err(StorageError::Stopped)?;
        snap::raw::Encoder::new().compress_vec(&out).map_err(|error| ReadError::Malformed(error.to_string()))
    }

    /// The answer in frames of about `frame_bytes`, each given to `send`, which may break off.
    pub fn chunks(
        &self,
        request: &ReadRequest,
        frame_bytes: usize,
        send: &mut dyn FnMut(Vec<u8>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut memory = self.control.reserve();
        for (at, query) in request.queries.iter().enumerate() {
            let outcome = self.series(query, &mut memory, &mut |labels, samples, _| {
                let head = label_fields(labels);
                let room = frame_bytes.saturating_sub(head.len());
                let mut series = head.clone();
                for chunk in chunks_of(samples)? {
                    bytes(&mut series, 2, &chunk);
                    if series.len() - head.len() >= room && send(frame(&series, at)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    if series.len() - head.len() >= room {
                        series.truncate(head.len());
                    }
                }
                let is_rest = series.len() > head.len();
                Ok(if is_rest { send(frame(&series, at)) } else { ControlFlow::Continue(()) })
            })?;
            if outcome.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A frame: length, checksum, message.
fn frame(series: &[u8], query_index: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(series.len() + 16);
    bytes(&mut message, 1, series);
    number(&mut message, 2, query_index as u64);
    let mut out = Vec::with_capacity(message.len() + 16);
    varint(&mut out, message.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
    out
}

/// The samples as chunks: runs of floats and runs of histograms.
fn chunks_of(samples: &Samples) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut chunks = Vec::new();
    let mut histograms = samples.histograms.iter().peekable();
    let mut at = 0;
    while at < samples.len() {
        let next = histograms.peek().map_or(samples.len(), |(index, _)| *index as usize);
        if at < next {
            let end = next.min(at + CHUNK_SAMPLES);
            let mut chunk = XorChunk::new();
            for (t, v) in samples.t[at..end].iter().zip(&samples.v[at..end]) {
                chunk.push(*t, *v);
            }
            chunks.push(chunk_message(samples.t[at], samples.t[end - 1], Encoding::Xor, chunk.bytes()));
            at = end;
            continue;
        }
        let mut open: Option<(i64, Writer<Float>)> = None;
        while let Some((_, h)) = histograms.next_if(|(index, _)| *index as usize == at) {
            let t = samples.t[at];
            at += 1;
            let h: &FloatHistogram = h;
            let Some((first, writer)) = &mut open else {
                open = Some((t, Writer::begin(false, None, 0, t, h)?));
                continue;
            };
            if let Pushed::Cut(next) = writer.push(0, t, h)? {
                chunks.push(chunk_message(*first, writer.last_time(), Encoding::FloatHistogram, writer.bytes()));
                open = Some((t, *next));
            }
        }
        if let Some((first, writer)) = &open {
            chunks.push(chunk_message(*first, writer.last_time(), Encoding::FloatHistogram, writer.bytes()));
        }
    }
    Ok(chunks)
}

fn chunk_message(mint: i64, maxt: i64, encoding: Encoding, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 32);
    number(&mut out, 1, mint as u64);
    number(&mut out, 2, maxt as u64);
    number(&mut out, 3, u64::from(encoding.byte()));
    bytes(&mut out, 4, data);
    out
}

fn label_fields(labels: &Labels) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels.iter() {
        let mut label = Vec::with_capacity(name.len() + value.len() + 8);
        bytes(&mut label, 1, name.as_bytes());
        bytes(&mut label, 2, value.as_bytes());
        bytes(&mut out, 1, &label);
    }
    out
}

fn time_series(labels: &Labels, samples: &Samples) -> Vec<u8> {
    let mut out = label_fields(labels);
    let mut histograms = samples.histograms.iter().peekable();
    for (at, (t, v)) in samples.t.iter().zip(&samples.v).enumerate() {
        if let Some((_, h)) = histograms.next_if(|(index, _)| *index as usize == at) {
            bytes(&mut out, 4, &histogram(*t, h));
            continue;
        }
        let mut sample = Vec::with_capacity(24);
        double(&mut sample, 1, *v);
        number(&mut sample, 2, *t as u64);
        bytes(&mut out, 2, &sample);
    }
    out
}

/// A histogram with float counts.
fn histogram(t: i64, h: &FloatHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    // What is a choice of several fields is there even if it is zero.
    always_double(&mut out, 2, h.count);
    double(&mut out, 3, h.sum);
    number(&mut out, 4, zigzag(h.schema));
    double(&mut out, 5, h.zero_threshold);
    always_double(&mut out, 7, h.zero_count);
    spans(&mut out, 8, &h.negative_spans);
    doubles(&mut out, 10, &h.negative_buckets);
    spans(&mut out, 11, &h.positive_spans);
    doubles(&mut out, 13, &h.positive_buckets);
    let hint = match h.counter_reset {
        CounterReset::Unknown => 0,
        CounterReset::Reset => 1,
        CounterReset::NotReset => 2,
        CounterReset::Gauge => 3,
    };
    number(&mut out, 14, hint);
    number(&mut out, 15, t as u64);
    doubles(&mut out, 16, &h.custom_values);
    out
}

fn spans(out: &mut Vec<u8>, field: u64, spans: &[Span]) {
    for span in spans {
        let mut message = Vec::new();
        number(&mut message, 1, zigzag(span.offset));
        number(&mut message, 2, u64::from(span.length));
        bytes(out, field, &message);
    }
}

fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A number, unless it is the default.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        varint(out, field << 3);
        varint(out, value);
    }
}

fn always_double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A float, unless it is the default; minus zero is none.
fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    if value.to_bits() != 0 {
        always_double(out, field, value);
    }
}

/// Floats behind each other.
fn doubles(out: &mut Vec<u8>, field: u64, values: &[f64]) {
    if !values.is_empty() {
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes(out, field, &packed);
    }
}

#[cfg(test)]
mod tests {
    use fk_storage::Control;
    use fk_testkit::MemoryStorage;
    use proptest::prelude::*;

    use super::*;

    fn packed(message: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(message).unwrap()
    }

    fn matcher(kind: u64, name: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        number(&mut out, 1, kind);
        bytes(&mut out, 2, name.as_bytes());
        bytes(&mut out, 3, value.as_bytes());
        out
    }

    fn request(kinds: &[u64], matchers: &[Vec<u8>]) -> Vec<u8> {
        let mut query = Vec::new();
        number(&mut query, 1, 5);
        number(&mut query, 2, 10_000_000);
        for matcher in matchers {
            bytes(&mut query, 3, matcher);
        }
        let mut out = Vec::new();
        bytes(&mut out, 1, &query);
        bytes(&mut out, 2, &kinds.iter().map(|kind| *kind as u8).collect::<Vec<_>>());
        packed(&out)
    }

    /// The fields of a message with what they hold.
    fn fields(message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let (mut reader, mut all) = (Reader(message), Vec::new());
        while let Some((number, field)) = reader.field().unwrap() {
            all.push(match field {
                Field::Varint(value) => (number, value.to_le_bytes().to_vec()),
                Field::Fixed64(bytes) => (number, bytes.to_vec()),
                Field::Bytes(bytes) => (number, bytes.to_vec()),
                Field::Skipped => (number, Vec::new()),
            });
        }
        all
    }

    #[test]
    fn requests_are_read_with_their_matchers() {
        let matchers = [matcher(0, "a", "1"), matcher(1, "b", "2"), matcher(2, "c", "3.*"), matcher(3, "d", "4")];
        let got = ReadRequest::decode(&request(&[7, 1, 0], &matchers)).unwrap();
        assert_eq!(got.response_type, ResponseType::StreamedChunks);
        assert_eq!(got.queries[0].range, TimeRange { mint: 5, maxt: 10_000_000 });
        let shown: Vec<String> = got.queries[0].matchers.iter().map(Matcher::to_string).collect();
        assert_eq!(shown, ["a=\"1\"", "b!=\"2\"", "c=~\"3.*\"", "d!~\"4\""]);
        assert_eq!(ReadRequest::decode(&request(&[], &[])).unwrap().response_type, ResponseType::Samples);
        for (body, says) in [
            (b"x".to_vec(), "snappy: corrupt input"),
            (packed(b"\x08"), "unexpected end"),
            (request(&[7], &[]), "server does not support any of the requested response types"),
            (request(&[0], &[matcher(9, "a", "")]), "invalid matcher type"),
            (request(&[0], &[matcher(2, "a", "(")]), "missing closing )"),
        ] {
            let error = ReadRequest::decode(&body).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    fn source<'s>(storage: &'s MemoryStorage, external: &'s Labels, control: &'s Control) -> Source<'s> {
        Source { storage, external, control }
    }

    #[test]
    fn samples_come_with_external_labels() {
        let storage = MemoryStorage::new();
        storage.add(&Labels::from_pairs([("__name__", "a"), ("zone", "own")]), &[(10, 1.5), (20, 2.5)]);
        storage.add(&Labels::from_pairs([("__name__", "a")]), &[(10, 3.5)]);
        let external = Labels::from_pairs([("zone", "z")]);
        let control = Control::new();
        // Of series with the external label those that do not have it here.
        let body = request(&[], &[matcher(0, "__name__", "a"), matcher(0, "zone", "z")]);
        let request = ReadRequest::decode(&body).unwrap();
        let answer = source(&storage, &external, &control).samples(&request, 100).unwrap();
        let message = snap::raw::Decoder::new().decompress_vec(&answer).unwrap();
        let result = fields(&message).remove(0).1;
        let series = fields(&result);
        assert_eq!(series.len(), 1);
        let parts = fields(&series[0].1);
        let labels: Vec<String> = parts
            .iter()
            .filter(|(number, _)| *number == 1)
            .map(|(_, label)| fields(label).into_iter().map(|(_, text)| String::from_utf8(text).unwrap()).collect())
            .collect();
        assert_eq!(labels, ["__name__a", "zonez"]);
        let sample = fields(&parts[2].1);
        assert_eq!(sample, [(1, 3.5f64.to_le_bytes().to_vec()), (2, 10u64.to_le_bytes().to_vec())]);
        let error = source(&storage, &Labels::empty(), &control)
            .samples(&ReadRequest::decode(&self::request(&[], &[])).unwrap(), 2)
            .unwrap_err();
        assert_eq!(error.to_string(), "exceeded sample limit (2)");
    }

    #[test]
    fn chunks_come_in_frames_that_fit() {
        let storage = MemoryStorage::new();
        let samples: Vec<(i64, f64)> = (0..1000).map(|n| (n * 1000 + 5, (n * n) as f64 / 7.0)).collect();
        storage.add(&Labels::from_pairs([("__name__", "a")]), &samples);
        let (external, control) = (Labels::empty(), Control::new());
        let request = ReadRequest::decode(&request(&[1], &[matcher(0, "__name__", "a")])).unwrap();
        let mut frames = Vec::new();
        source(&storage, &external, &control)
            .chunks(&request, 2000, &mut |frame| {
                frames.push(frame);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(frames.len() > 1);
        let mut got = Vec::new();
        for frame in &frames {
            let mut reader = Reader(frame);
            let len = reader.varint().unwrap() as usize;
            let (sum, message) = reader.0.split_at(4);
            assert_eq!((message.len(), sum), (len, &crc32c::crc32c(message).to_be_bytes()[..]));
            let series = fields(message).remove(0).1;
            for (_, chunk) in fields(&series).iter().filter(|(number, _)| *number == 2) {
                let parts = fields(chunk);
                let (mut t, mut v) = (Vec::new(), Vec::new());
                fk_chunk::xor::decode(&parts[3].1, &mut t, &mut v).unwrap();
                assert_eq!(parts[0].1, t[0].to_le_bytes());
                assert_eq!(parts[1].1, t[t.len() - 1].to_le_bytes());
                assert_eq!(parts[2].1, 1u64.to_le_bytes());
                got.extend(t.into_iter().zip(v));
            }
        }
        assert_eq!(got, samples);
        let mut count = 0;
        source(&storage, &external, &control)
            .chunks(&request, 2000, &mut |_| {
                count += 1;
                ControlFlow::Break(())
            })
            .unwrap();
        assert_eq!(count, 1, "nobody takes more");
    }

    #[test]
    fn histograms_are_chunks_and_messages_too() {
        let h = |count: f64| FloatHistogram {
            count,
            sum: 2.5,
            schema: -1,
            positive_spans: vec![Span { offset: -2, length: 1 }],
            positive_buckets: vec![count],
            ..FloatHistogram::default()
        };
        let mut samples = Samples::default();
        samples.push(1, 1.0);
        for (t, count) in [(2, 3.0), (3, 4.0), (4, 1.0)] {
            samples.histograms.push((samples.len() as u32, h(count).into()));
            samples.push(t, 2.5);
        }
        samples.push(5, 2.0);
        let kinds: Vec<u8> = chunks_of(&samples).unwrap().iter().map(|chunk| fields(chunk)[2].1[0]).collect();
        // The counter falls within the histograms, which begins another chunk.
        assert_eq!(kinds, [1, 3, 3, 1]);
        let message = fields(&histogram(9, &h(3.0)));
        let numbers: Vec<u64> = message.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [2, 3, 4, 7, 11, 13, 15]);
        assert_eq!(message[2].1, 1u64.to_le_bytes());
        assert_eq!(fields(&message[4].1)[0], (1, 3u64.to_le_bytes().to_vec()));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            // The outcome is of no interest.
            let _ = ReadRequest::decode(&packed(&message));
            let _ = ReadRequest::decode(&message);
        }
    }
}
