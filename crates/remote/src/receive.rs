//! From a request body to the storage.

use std::fmt;
use std::sync::Arc;

use fk_model::labels::STRING_BYTES_MAX;
use fk_model::{Labels, METRIC_NAME};
use fk_storage::{AppendReport, Appender, Batch, Rejection, SeriesRef, StorageError};

use crate::known::{Key, KnownSeries};
use crate::wire::{LabelFault, Limits, Memory, Request, Series, WireError, labels_again};

/// Longest decoded body (32 MiB), as in Prometheus.
pub const DECODED_BYTES_MAX: usize = 32 << 20;

/// Most series of a request. With the next two: what a small body may make us allocate (at most about 150 MiB).
pub const SERIES_MAX: usize = 1 << 20;

/// Most labels of a request, all series together.
pub const LABELS_MAX: usize = 1 << 21;

/// Most samples of a request.
pub const SAMPLES_MAX: usize = 1 << 20;

const LIMITS: Limits =
    Limits { series: SERIES_MAX, labels: LABELS_MAX, samples: SAMPLES_MAX, string_bytes: STRING_BYTES_MAX };

/// How far ahead of the clock a sample may be (10 minutes), as in Prometheus.
pub const FUTURE_MS_MAX: i64 = 10 * 60 * 1000;

/// A snappy block holds at most 64 bytes for three (a copy), so a longer declared length is a lie.
const SNAPPY_RATIO_MAX: usize = 22;

/// Which message a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// `prometheus.WriteRequest` (remote write 1.0), snappy.
    V1,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// Samples stored.
    pub samples: usize,
    /// Series of the request, invalid ones included.
    pub series: usize,
    /// Samples the storage refused: out of order, duplicate, out of bounds, too old, too far ahead.
    pub rejected: usize,
    /// Samples of series whose labels are invalid (`prometheus_api_remote_write_invalid_labels_samples_total`).
    pub invalid_labels: usize,
    /// Native histograms left out, because they are not supported yet.
    pub histograms: usize,
    /// Exemplars left out, as Prometheus does without exemplar storage.
    pub exemplars: usize,
}

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The body is no snappy block or no message. Nothing is stored.
    #[error("{0}")]
    Malformed(String),
    /// A part of the request could not be stored; all other samples are. Displays the first reason.
    #[error("{reason}")]
    Rejected {
        /// The first reason.
        reason: String,
        /// What was stored and what not.
        report: WriteReport,
    },
    /// The body, decoded, is larger than a body may be. Nothing is stored.
    #[error("{0}")]
    TooLarge(String),
    /// Neither the message nor the compression that is accepted here.
    #[error("{0}")]
    UnsupportedMedia(String),
    /// The storage failed. Nothing is stored; the sender should try again.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl WriteError {
    /// The HTTP status that the remote-write protocol gives this answer: 4xx tells the sender not to try again.
    pub fn status(&self) -> u16 {
        match self {
            WriteError::Malformed(_) | WriteError::Rejected { .. } => 400,
            WriteError::TooLarge(_) => 413,
            WriteError::UnsupportedMedia(_) => 415,
            WriteError::Storage(StorageError::ReadOnly(_)) => 503,
            WriteError::Storage(_) => 500,
        }
    }
}

impl From<WireError> for WriteError {
    fn from(error: WireError) -> WriteError {
        match error {
            WireError::TooMany(..) => WriteError::TooLarge(error.to_string()),
            _ => WriteError::Malformed(error.to_string()),
        }
    }
}

/// What the headers `Content-Type` and `Content-Encoding` announce. Missing ones mean a snappy message of version 1.0, as
/// in Prometheus.
pub fn message_kind(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<MessageKind, WriteError> {
    const MEDIA_TYPE: &str = "application/x-protobuf";
    const V1: &str = "prometheus.WriteRequest";
    const V2: &str = "io.prometheus.write.v2.Request";
    let refused = |text: String| Err(WriteError::UnsupportedMedia(text));
    let content_type = content_type.map(str::trim).filter(|t| !t.is_empty()).unwrap_or(MEDIA_TYPE);
    let mut parts = content_type.split(';');
    // Texts as in Prometheus:
    if parts.next() != Some(MEDIA_TYPE) {
        return refused(format!("expected {MEDIA_TYPE} as the first (media) part, got {content_type} content-type"));
    }
    for part in parts {
        let Some((key, value)) = part.trim().split_once('=') else {
            return refused(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, \
                 got {part} in {content_type} content-type"
            ));
        };
        match (key, value) {
            ("proto", V1) => break,
            ("proto", V2) => {
                return refused(format!("{V2} protobuf message is not accepted by this server; only accepts {V1}"));
            }
            ("proto", other) => {
                return refused(format!(
                    "got {content_type} content type; unknown type for remote write protobuf message {other}, \
                     supported: {V1}"
                ));
            }
            _ => {}
        }
    }
    match content_encoding {
        None | Some("" | "snappy") => Ok(MessageKind::V1),
        Some(other) => {
            refused(format!("{other} encoding (compression) is not accepted by this server; only snappy is acceptable"))
        }
    }
}

/// Memory that is used again from request to request. One for each worker, and always for the same storage.
#[derive(Debug, Default)]
pub struct Scratch {
    known: Arc<KnownSeries>,
    learnt: Vec<(Key, SeriesRef)>,
    decoded: Vec<u8>,
    request: Memory,
    batch: Batch,
    report: AppendReport,
    resolved: Vec<Resolved>,
}

/// A series of the batch.
#[derive(Debug)]
struct Resolved {
    /// Which it is in the request.
    series: usize,
    /// Behind its last sample of the batch.
    samples_end: usize,
}

impl Scratch {
    /// Memory kept between requests, bytes: most requests are smaller.
    const KEPT_BYTES_MAX: usize = 4 << 20;

    /// Without memory.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Without memory, but for the series that others know that receive for the same storage.
    pub fn sharing(known: &Arc<KnownSeries>) -> Scratch {
        Scratch { known: Arc::clone(known), ..Scratch::default() }
    }

    /// Forgets the request, and memory that only a rare one needs.
    fn clear(&mut self) {
        self.batch.clear();
        self.resolved.clear();
        self.learnt.clear();
        self.learnt.shrink_to(Scratch::KEPT_BYTES_MAX / size_of::<(Key, SeriesRef)>());
        self.request.shrink(Scratch::KEPT_BYTES_MAX);
        self.decoded.clear();
        self.decoded.shrink_to(Scratch::KEPT_BYTES_MAX);
        self.batch.samples.shrink_to(Scratch::KEPT_BYTES_MAX / size_of::<fk_storage::BatchSample>());
        self.resolved.shrink_to(Scratch::KEPT_BYTES_MAX / size_of::<Resolved>());
    }
}

/// Stores the samples of a request.
///
/// `now_ms` is the wall clock. Samples more than [`FUTURE_MS_MAX`] ahead of it are refused as out of bounds.
///
/// # Errors
///
/// [`WriteError::Rejected`] if some samples were not stored while all others were: samples that the storage refuses;
/// series without a metric name, with a label name twice or with invalid labels; native histograms. Every other error
/// means that nothing was stored.
///
/// DIFFERENCE: Prometheus drops all samples of a 1.0 request when the storage refuses one, and says nothing of series
/// with invalid labels.
pub fn receive(
    body: &[u8],
    kind: MessageKind,
    now_ms: i64,
    appender: &dyn Appender,
    scratch: &mut Scratch,
) -> Result<WriteReport, WriteError> {
    let MessageKind::V1 = kind;
    let mut decoded = std::mem::take(&mut scratch.decoded);
    let result = decompress(body, &mut decoded).and_then(|message| store(message, now_ms, appender, scratch));
    scratch.decoded = decoded;
    scratch.clear();
    result
}

/// The message in a snappy block. Its length is checked before memory is taken for it.
fn decompress<'d>(body: &[u8], decoded: &'d mut Vec<u8>) -> Result<&'d [u8], WriteError> {
    // Texts as in Prometheus (its snappy library):
    let corrupt = || WriteError::Malformed("s2: corrupt input".to_owned());
    let len = match snap::raw::decompress_len(body) {
        Ok(len) => len,
        Err(snap::Error::TooBig { .. }) => return Err(too_large()),
        Err(_) => return Err(corrupt()),
    };
    if len > DECODED_BYTES_MAX {
        return Err(too_large());
    }
    if len > body.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(corrupt());
    }
    decoded.resize(len, 0);
    let len = snap::raw::Decoder::new().decompress(body, decoded).map_err(|_| corrupt())?;
    Ok(&decoded[..len])
}

fn too_large() -> WriteError {
    WriteError::TooLarge(format!("snappy: decoded block is too large (limit {DECODED_BYTES_MAX} bytes)"))
}

/// Counts problems and keeps the first reason.
#[derive(Default)]
struct Problems {
    report: WriteReport,
    first: Option<String>,
}

impl Problems {
    fn note(&mut self, reason: impl fmt::Display) {
        if self.first.is_none() {
            self.first = Some(reason.to_string());
        }
    }
}

fn store(
    message: &[u8],
    now_ms: i64,
    appender: &dyn Appender,
    scratch: &mut Scratch,
) -> Result<WriteReport, WriteError> {
    let memory = std::mem::take(&mut scratch.request);
    let mut request = Request::decode(message, &LIMITS, &scratch.known.look(), memory)?;
    let mut problems = Problems::default();
    problems.report.series = request.series.len();
    let time_max_ms = now_ms.saturating_add(FUTURE_MS_MAX);
    for (at, series) in request.series.iter().enumerate() {
        let pairs = &mut request.labels[series.labels.clone()];
        let samples = &request.samples[series.samples.clone()];
        collect((at, series), pairs, samples, time_max_ms, appender, scratch, &mut problems)?;
    }
    scratch.known.learn(&scratch.learnt);
    if !scratch.batch.samples.is_empty() {
        append(message, &request, appender, scratch, &mut problems)?;
    }
    scratch.request = request.into_memory();
    let Problems { report, first } = problems;
    match first {
        None => Ok(report),
        Some(reason) => Err(WriteError::Rejected { reason, report }),
    }
}

/// Adds the samples of a series to the batch.
fn collect(
    (at, series): (usize, &Series),
    pairs: &mut [(&str, &str)],
    samples: &[(i64, f64)],
    time_max_ms: i64,
    appender: &dyn Appender,
    scratch: &mut Scratch,
    problems: &mut Problems,
) -> Result<(), WriteError> {
    problems.report.exemplars += series.n_exemplars;
    if series.n_histograms > 0 {
        problems.report.histograms += series.n_histograms;
        problems.note("native histograms in remote write are not supported yet");
    }
    let reference = match series.known {
        Some(reference) => reference,
        None => {
            let invalid = |problems: &mut Problems, reason: &dyn fmt::Display| {
                problems.report.invalid_labels += samples.len();
                problems.note(reason);
            };
            let labels = match valid_labels(series.fault, pairs) {
                Ok(labels) => labels,
                Err(reason) => {
                    invalid(problems, &reason);
                    return Ok(());
                }
            };
            if samples.is_empty() {
                return Ok(());
            }
            match appender.resolve(&labels) {
                Ok(reference) => {
                    scratch.learnt.extend(series.key.map(|key| (key, reference)));
                    reference
                }
                Err(error @ StorageError::InvalidLabels { .. }) => {
                    invalid(problems, &error);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    for &(t, v) in samples {
        if t > time_max_ms {
            problems.report.rejected += 1;
            // Text as in Prometheus:
            problems.note("out of bounds: timestamp is too far in the future");
        } else {
            scratch.batch.push(reference, t, v);
        }
    }
    if !samples.is_empty() {
        scratch.resolved.push(Resolved { series: at, samples_end: scratch.batch.samples.len() });
    }
    Ok(())
}

/// The label set of a series, or why it is none.
fn valid_labels(fault: Option<LabelFault>, pairs: &mut [(&str, &str)]) -> Result<Labels, String> {
    match fault {
        Some(LabelFault::NotUtf8) => return Err("invalid labels: not valid UTF-8".to_owned()),
        Some(LabelFault::TooLong) => {
            return Err(format!("invalid labels: a name or value has more than {STRING_BYTES_MAX} bytes"));
        }
        None => {}
    }
    // Senders have to sort labels, and nearly all do.
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        pairs.sort_unstable_by(|a, b| a.0.cmp(b.0));
        if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("invalid labels: label name {:?} is not unique", twice[0].0));
        }
    }
    if pairs.first().is_some_and(|(name, _)| name.is_empty()) {
        return Err("invalid labels: empty label name".to_owned());
    }
    let labels = Labels::from_sorted(pairs.iter().copied().filter(|(_, value)| !value.is_empty()));
    if !pairs.iter().any(|(name, value)| *name == METRIC_NAME && !value.is_empty()) {
        return Err(format!("invalid labels {labels}: no metric name"));
    }
    Ok(labels)
}

/// Appends the batch. Series that were forgotten in between are made again, once.
fn append(
    message: &[u8],
    request: &Request<'_>,
    appender: &dyn Appender,
    scratch: &mut Scratch,
    problems: &mut Problems,
) -> Result<(), WriteError> {
    appender.append(&scratch.batch, &mut scratch.report)?;
    problems.report.samples += scratch.report.accepted;
    let mut again = Batch::default();
    scratch.learnt.clear();
    for &(at, rejection) in &scratch.report.rejected {
        if rejection != Rejection::UnknownSeries {
            problems.report.rejected += 1;
            problems.note(rejection);
            continue;
        }
        let series = scratch.resolved.partition_point(|series| series.samples_end <= at);
        let series = scratch.resolved.get(series).and_then(|resolved| request.series.get(resolved.series));
        let (Some(series), Some(sample)) = (series, scratch.batch.samples.get(at)) else { continue };
        let mut pairs = match series.known {
            Some(_) => labels_again(message.get(series.label_bytes.clone()).unwrap_or_default(), &LIMITS)?,
            None => request.labels[series.labels.clone()].to_vec(),
        };
        // They were valid before.
        let labels = valid_labels(None, &mut pairs).map_err(WriteError::Malformed)?;
        let reference = appender.resolve(&labels)?;
        scratch.learnt.extend(series.key.map(|key| (key, reference)));
        again.push(reference, sample.t, sample.v);
    }
    scratch.known.learn(&scratch.learnt);
    if again.samples.is_empty() {
        return Ok(());
    }
    appender.append(&again, &mut scratch.report)?;
    problems.report.samples += scratch.report.accepted;
    problems.report.rejected += scratch.report.rejected.len();
    if let Some((_, rejection)) = scratch.report.rejected.first() {
        problems.note(rejection);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
