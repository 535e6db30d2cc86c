//! Metadata records.

use fk_model::{Metadata, MetricType};
use fk_storage::SeriesRef;

use super::codec::{Decoder, Fault, Walk, iterate, put_str, put_uvarint};
use super::kind;

/// Most fields of one metadata entry. There are two today, and readers skip names they do not know.
const METADATA_FIELDS_MAX: u64 = 64;

/// Name of the field that holds the unit, and the one that holds the help text.
const UNIT_FIELD: &str = "UNIT";
const HELP_FIELD: &str = "HELP";

/// Metadata of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataEntry<'a> {
    /// The series.
    pub series: SeriesRef,
    /// The metric type: 0 unknown, 1 counter, 2 gauge, 3 histogram, 4 gauge histogram, 5 summary, 6 info, 7 state set.
    pub metric_type: u8,
    /// The unit, may be empty.
    pub unit: &'a str,
    /// The help text, may be empty.
    pub help: &'a str,
}

impl<'a> MetadataEntry<'a> {
    /// The entry of a series.
    pub fn new(series: SeriesRef, metadata: &'a Metadata) -> MetadataEntry<'a> {
        let metric_type = match metadata.kind {
            MetricType::Unknown => 0,
            MetricType::Counter => 1,
            MetricType::Gauge => 2,
            MetricType::Histogram => 3,
            MetricType::GaugeHistogram => 4,
            MetricType::Summary => 5,
            MetricType::Info => 6,
            MetricType::StateSet => 7,
        };
        MetadataEntry { series, metric_type, unit: &metadata.unit, help: &metadata.help }
    }

    /// What it says.
    pub fn to_metadata(&self) -> Metadata {
        let kind = match self.metric_type {
            1 => MetricType::Counter,
            2 => MetricType::Gauge,
            3 => MetricType::Histogram,
            4 => MetricType::GaugeHistogram,
            5 => MetricType::Summary,
            6 => MetricType::Info,
            7 => MetricType::StateSet,
            _ => MetricType::Unknown,
        };
        Metadata { kind, unit: self.unit.to_string(), help: self.help.to_string() }
    }
}

/// Metadata of series.
#[derive(Clone, Copy, Debug)]
pub struct MetadataRecord<'a> {
    pub(super) body: &'a [u8],
}

impl<'a> MetadataRecord<'a> {
    /// The entries, in the order they were logged.
    pub fn iter(&self) -> MetadataIter<'a> {
        MetadataIter { dec: Decoder(self.body) }
    }
}

/// Iterates a [`MetadataRecord`].
#[derive(Clone, Debug)]
pub struct MetadataIter<'a> {
    pub(super) dec: Decoder<'a>,
}

impl<'a> Walk for MetadataIter<'a> {
    type Item = MetadataEntry<'a>;

    fn step(&mut self) -> Result<Option<MetadataEntry<'a>>, Fault> {
        if self.dec.0.is_empty() {
            return Ok(None);
        }
        let series = SeriesRef(self.dec.uvarint()?);
        let mut entry = MetadataEntry { series, metric_type: self.dec.byte()?, unit: "", help: "" };
        let fields = self.dec.uvarint()?;
        if fields > METADATA_FIELDS_MAX {
            return Err(Fault::Malformed);
        }
        for _ in 0..fields {
            match (self.dec.str()?, self.dec.str()?) {
                (UNIT_FIELD, unit) => entry.unit = unit,
                (HELP_FIELD, help) => entry.help = help,
                _ => {}
            }
        }
        Ok(Some(entry))
    }
}

iterate!(MetadataIter, MetadataEntry<'a>);

/// Appends a record of metadata to `out`.
pub fn encode_metadata<'a>(entries: impl IntoIterator<Item = MetadataEntry<'a>>, out: &mut Vec<u8>) {
    out.push(kind::METADATA);
    for entry in entries {
        put_uvarint(out, entry.series.0);
        out.push(entry.metric_type);
        put_uvarint(out, 2);
        for (name, text) in [(UNIT_FIELD, entry.unit), (HELP_FIELD, entry.help)] {
            put_str(out, name);
            put_str(out, text);
        }
    }
}
