//! The protobuf wire format of `prometheus.WriteRequest`, read without copying.
//!
//! ```text
//! WriteRequest { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
//! TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2;
//!                repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }
//! Label        { string name = 1; string value = 2; }
//! Sample       { double value = 1; int64 timestamp = 2; }
//! ```
//!
//! Unknown fields are skipped; of a field that occurs more often than once the last one counts. Nothing nests deeper
//! than this, so nothing recurses.

use std::ops::Range;

use fk_storage::SeriesRef;

use crate::known::{Key, Look};

/// Tag of a label in a series.
const KEY_LABEL: u8 = 1 << 3 | 2;

/// Tags of a sample's fields.
const KEY_VALUE: u8 = 1 << 3 | 1;
const KEY_TIME: u8 = 2 << 3;

/// What does not belong into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("proto: unexpected end of message")]
    Truncated,
    #[error("proto: varint of more than 64 bits")]
    Varint,
    #[error("proto: illegal field number 0")]
    FieldNumber,
    #[error("proto: wire type {0} is not supported")]
    WireType(u8),
    #[error("proto: wrong wire type {wire} for field {field}")]
    WrongType { field: u64, wire: u8 },
    /// More parts than a request may have.
    #[error("request has more than {0} {1}")]
    TooMany(usize, &'static str),
}

/// Why the labels of a series are no labels. The series is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelFault {
    NotUtf8,
    TooLong,
}

/// A series of a request: ranges of the columns of [`Request`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// None if it was recognised.
    pub labels: Range<usize>,
    /// The series, if it was recognised by the bytes of its labels.
    pub known: Option<SeriesRef>,
    /// Where these are in the message.
    pub label_bytes: Range<usize>,
    /// What they can be recognised by the next time.
    pub key: Option<Key>,
    pub samples: Range<usize>,
    pub n_histograms: usize,
    pub n_exemplars: usize,
    pub fault: Option<LabelFault>,
}

/// A request, in columns.
#[derive(Default)]
pub(crate) struct Request<'a> {
    pub series: Vec<Series>,
    pub labels: Vec<(&'a str, &'a str)>,
    /// Time in ms, and value.
    pub samples: Vec<(i64, f64)>,
}

impl Request<'_> {
    /// Its memory, for the next one.
    pub(crate) fn into_memory(self) -> Memory {
        Memory { series: self.series, samples: self.samples }
    }
}

/// Columns of a [`Request`] whose contents are of no meaning.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    series: Vec<Series>,
    samples: Vec<(i64, f64)>,
}

impl Memory {
    /// Keeps no more than `bytes` of each column.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        self.series.clear();
        self.series.shrink_to(bytes / size_of::<Series>());
        self.samples.clear();
        self.samples.shrink_to(bytes / size_of::<(i64, f64)>());
    }
}

/// How many of each a request may have.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub series: usize,
    pub labels: usize,
    pub samples: usize,
    pub string_bytes: usize,
}

/// The rest of a message.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

/// A field's contents.
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    /// Of no interest.
    Skipped,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        // One byte is the most frequent length by far: tags, and lengths of strings.
        if let [first, rest @ ..] = self.0
            && *first < 0x80
        {
            self.0 = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for i in 0..10 {
            let (byte, rest) = self.0.split_first().ok_or(WireError::Truncated)?;
            self.0 = rest;
            if i == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field with its number; `None` at the end.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Field<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, wire) = (key >> 3, (key & 7) as u8);
        if number == 0 {
            return Err(WireError::FieldNumber);
        }
        let field = match wire {
            0 => Field::Varint(self.varint()?),
            1 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(self.take(8)?);
                Field::Fixed64(bytes)
            }
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Field::Skipped
            }
            other => return Err(WireError::WireType(other)),
        };
        Ok(Some((number, field)))
    }
}

impl Field<'_> {
    fn wire_type(&self) -> u8 {
        match self {
            Field::Varint(_) => 0,
            Field::Fixed64(_) => 1,
            Field::Bytes(_) => 2,
            Field::Skipped => 5,
        }
    }

    pub(crate) fn mismatch(&self, field: u64) -> WireError {
        WireError::WrongType { field, wire: self.wire_type() }
    }
}

impl<'a> Request<'a> {
    /// Reads a whole request. Of series that are known the labels are not read.
    /// `memory` is that of an earlier request.
    pub(crate) fn decode(
        message: &'a [u8],
        limits: &Limits,
        known: &Look<'_>,
        memory: Memory,
    ) -> Result<Request<'a>, WireError> {
        let Memory { mut series, mut samples } = memory;
        series.clear();
        samples.clear();
        let mut request = Request { series, samples, ..Request::default() };
        let mut reader = Reader(message);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (1, Field::Bytes(series)) => {
                    let end = message.len() - reader.0.len();
                    request.series(series, end - series.len(), limits, known)?;
                }
                (1, other) => return Err(other.mismatch(1)),
                // Metadata, and what is unknown.
                _ => {}
            }
        }
        Ok(request)
    }

    /// Reads a series, which begins at `start` in the whole message.
    fn series(&mut self, message: &'a [u8], start: usize, limits: &Limits, known: &Look<'_>) -> Result<(), WireError> {
        let (label_bytes, rest) = message.split_at(labels_in_front(message));
        let key = (!label_bytes.is_empty()).then(|| known.key(label_bytes));
        let mut series = Series {
            labels: self.labels.len()..self.labels.len(),
            known: key.and_then(|key| known.find(key)),
            label_bytes: start..start + label_bytes.len(),
            key,
            samples: self.samples.len()..self.samples.len(),
            ..Series::default()
        };
        if series.known.is_none() {
            self.fields(label_bytes, &mut series, limits)?;
        }
        let in_front = self.labels.len();
        if self.fields(rest, &mut series, limits)? > 0 {
            // Labels behind something else, which no sender does: what stands in front is not all.
            series.key = None;
            if series.known.take().is_some() {
                let behind = self.labels.split_off(in_front);
                self.fields(label_bytes, &mut series, limits)?;
                self.labels.extend(behind);
            }
        }
        series.labels.end = self.labels.len();
        series.samples.end = self.samples.len();
        if self.series.len() == limits.series {
            return Err(WireError::TooMany(limits.series, "series"));
        }
        self.series.push(series);
        Ok(())
    }

    /// Reads fields of a series. Returns how many labels are among them.
    fn fields(&mut self, message: &'a [u8], series: &mut Series, limits: &Limits) -> Result<usize, WireError> {
        let mut n_labels = 0;
        let mut reader = Reader(message);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (1, Field::Bytes(label)) => {
                    n_labels += 1;
                    match self.label(label, limits)? {
                        Ok(label) => self.labels.push(label),
                        Err(fault) => series.fault = Some(fault),
                    }
                }
                (2, Field::Bytes(sample)) => self.samples.push(decode_sample(sample)?),
                (3, Field::Bytes(_)) => series.n_exemplars += 1,
                (4, Field::Bytes(_)) => series.n_histograms += 1,
                (1..=4, other) => return Err(other.mismatch(number)),
                _ => {}
            }
            if self.labels.len() > limits.labels {
                return Err(WireError::TooMany(limits.labels, "labels"));
            }
            if self.samples.len() > limits.samples {
                return Err(WireError::TooMany(limits.samples, "samples"));
            }
        }
        Ok(n_labels)
    }

    #[inline]
    fn label(&self, message: &'a [u8], limits: &Limits) -> Result<Result<(&'a str, &'a str), LabelFault>, WireError> {
        let (name, value) = match usual_label(message) {
            Some(pair) => pair,
            None => decode_label(message)?,
        };
        if name.len().max(value.len()) > limits.string_bytes {
            return Ok(Err(LabelFault::TooLong));
        }
        Ok(match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            _ => Err(LabelFault::NotUtf8),
        })
    }
}

/// Length of the label fields that a series begins with. What is no whole field is left to who reads them.
#[inline]
fn labels_in_front(message: &[u8]) -> usize {
    let mut rest = Reader(message);
    let mut end = 0;
    while let [KEY_LABEL, behind @ ..] = rest.0 {
        rest.0 = behind;
        let len = rest.varint().ok().and_then(|len| usize::try_from(len).ok());
        if len.and_then(|len| rest.take(len).ok()).is_none() {
            break;
        }
        end = message.len() - rest.0.len();
    }
    end
}

/// The labels in these fields, which were read without a fault before.
pub(crate) fn labels_again<'a>(label_bytes: &'a [u8], limits: &Limits) -> Result<Vec<(&'a str, &'a str)>, WireError> {
    let mut request = Request::default();
    request.fields(label_bytes, &mut Series::default(), limits)?;
    Ok(request.labels)
}

/// A label as every sender writes it: the name, then the value, both shorter than 128 bytes.
#[inline]
fn usual_label(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let short_string = |message: &'_ [u8], key: u8| match *message {
        [k, len, ..] if k == key && len < 0x80 => Some(2 + usize::from(len)),
        _ => None,
    };
    let name_end = short_string(message, 1 << 3 | 2)?;
    let (name, rest) = message.split_at_checked(name_end)?;
    let value_end = short_string(rest, 2 << 3 | 2)?;
    if value_end == rest.len() { Some((&name[2..], &rest[2..])) } else { None }
}

fn decode_label(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader(message);
    while let Some((number, field)) = reader.field()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => name = bytes,
            (2, Field::Bytes(bytes)) => value = bytes,
            (1 | 2, other) => return Err(other.mismatch(number)),
            _ => {}
        }
    }
    Ok((name, value))
}

#[inline]
fn decode_sample(message: &[u8]) -> Result<(i64, f64), WireError> {
    // As every sender writes it: the value, then the time.
    if let [KEY_VALUE, bits @ ..] = message
        && let Some((bits, [KEY_TIME, time @ ..])) = bits.split_first_chunk::<8>()
    {
        let mut reader = Reader(time);
        let t = reader.varint()?;
        if reader.0.is_empty() {
            return Ok((t as i64, f64::from_le_bytes(*bits)));
        }
    }
    let (mut t, mut v) = (0, 0.0);
    let mut reader = Reader(message);
    while let Some((number, field)) = reader.field()? {
        match (number, field) {
            (1, Field::Fixed64(bytes)) => v = f64::from_le_bytes(bytes),
            (2, Field::Varint(value)) => t = value as i64,
            (1 | 2, other) => return Err(other.mismatch(number)),
            _ => {}
        }
    }
    Ok((t, v))
}
