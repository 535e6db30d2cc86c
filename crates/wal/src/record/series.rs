//! Series records.

use fk_model::Labels;
use fk_storage::SeriesRef;

use super::codec::{Decoder, Fault, LabelPairs, Walk, iterate, put_labels};
use super::kind;

/// New series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRecord<'a> {
    pub(super) body: &'a [u8],
}

impl<'a> SeriesRecord<'a> {
    /// The series, in the order they were logged.
    pub fn iter(&self) -> SeriesIter<'a> {
        SeriesIter { dec: Decoder(self.body) }
    }
}

/// Iterates a [`SeriesRecord`].
#[derive(Clone, Debug)]
pub struct SeriesIter<'a> {
    pub(super) dec: Decoder<'a>,
}

impl<'a> Walk for SeriesIter<'a> {
    type Item = (SeriesRef, LabelPairs<'a>);

    #[inline]
    fn step(&mut self) -> Result<Option<(SeriesRef, LabelPairs<'a>)>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        Ok(Some((SeriesRef(self.dec.be64()?), self.dec.labels()?)))
    }
}

iterate!(SeriesIter, (SeriesRef, LabelPairs<'a>));

/// Appends a series record to `out`.
pub fn encode_series<'a>(series: impl IntoIterator<Item = (SeriesRef, &'a Labels)>, out: &mut Vec<u8>) {
    out.push(kind::SERIES);
    for (series, labels) in series {
        out.extend_from_slice(&series.0.to_be_bytes());
        put_labels(out, labels);
    }
}
