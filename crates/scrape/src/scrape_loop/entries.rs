//! Reading a body entry by entry: every format and every feature that the walk along a layout does not know.
//!
//! A series that is known costs a look-up by what tells it from the others; its labels are not looked at. Everything else (limits,
//! duplicates, staleness, counts) is as in the other way of reading, for a target may change its format at any time.

use std::borrow::Cow;
use std::sync::Arc;

use fk_exposition::{EntryKind, ExposedExemplar, ExposedHistogram, Exposition, MediaType, MetricType, reader};
use fk_model::{Labels, Metadata, is_stale};
use fk_storage::{Appender, Batch, BatchHistogram, Exemplar, HistogramValue, SeriesRef};

use super::{Pass, ScrapeError, ScrapeLoop};
use crate::cache::Meaning;
use crate::labels::{Relabelled, stored};
use crate::starts::empty_like;

/// Exemplars of one sample that are stored; more are not looked at.
const EXEMPLARS_MAX: usize = 1024;

/// The value of an entry.
enum Value {
    Float(f64),
    Histogram(ExposedHistogram),
}

/// What is remembered from entry to entry.
#[derive(Default)]
struct Reading {
    exemplar: ExposedExemplar,
    exemplars: Vec<Exemplar>,
    /// The metadata of the family that the last TYPE, HELP or UNIT line named, once it was asked for.
    metadata: Option<FamilyMetadata>,
}

struct FamilyMetadata {
    metadata: Arc<Metadata>,
    changed: bool,
}

impl ScrapeLoop {
    pub(super) fn read_entries(
        &mut self,
        body: &[u8],
        media_type: MediaType,
        pass: &mut Pass<'_>,
        appender: &dyn Appender,
    ) -> Result<(), ScrapeError> {
        self.cache.start_without_layout();
        self.dropped = None;
        self.metadata.start(self.layout_scrape);
        self.layout_scrape = self.scrape;
        if self.features.start_synthesis {
            // DIFFERENCE: Prometheus lets the out-of-order window have the samples that say where they began.
            pass.batch.out_of_order = fk_storage::OutOfOrder::Reject;
        }
        let mut reader = reader(body, media_type, self.options);
        let result = self.read_all(&mut *reader, pass, appender);
        self.metadata.finish();
        self.cache.finish_without_layout();
        result
    }

    fn read_all(
        &mut self,
        reader: &mut dyn Exposition,
        pass: &mut Pass<'_>,
        appender: &dyn Appender,
    ) -> Result<(), ScrapeError> {
        let mut reading = Reading::default();
        while let Some(kind) = reader.next()? {
            match kind {
                EntryKind::Type => self.metadata.set_type(reader.family(), reader.metric_type()),
                EntryKind::Help => self.metadata.set_help(reader.family(), reader.text()),
                EntryKind::Unit => self.metadata.set_unit(reader.family(), reader.text()),
                EntryKind::Comment => continue,
                EntryKind::Sample => {
                    let value = Value::Float(reader.value());
                    self.entry(reader, value, &mut reading, pass, appender)?;
                    continue;
                }
                EntryKind::Histogram => {
                    if let Some(histogram) = reader.take_histogram() {
                        self.entry(reader, Value::Histogram(histogram), &mut reading, pass, appender)?;
                    }
                    continue;
                }
            }
            reading.metadata = None;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        reader: &mut dyn Exposition,
        mut value: Value,
        reading: &mut Reading,
        pass: &mut Pass<'_>,
        appender: &dyn Appender,
    ) -> Result<(), ScrapeError> {
        pass.counts.scraped += 1;
        let own = reader.timestamp().filter(|_| pass.honor_timestamps);
        let known = self.cache.find(reader.series()).map(|(idx, _)| idx);
        // The labels are needed of a new series, and where the name has to fit the metadata.
        let (mut labels, mut series) = (None, None);
        match known {
            Some(idx) => {
                let entry = &mut self.cache.entries[idx as usize];
                let repeated = entry.seen == pass.now;
                entry.seen = pass.now;
                pass.seen += usize::from(!repeated);
                let Meaning::Stored(stored) = entry.meaning() else { return Ok(()) };
                pass.counts.post_relabel += 1;
                if repeated && own.is_none() {
                    pass.counts.duplicates += 1;
                    return Ok(());
                }
                series = Some(stored);
            }
            None => {
                let found = match self.stored_labels(reader)? {
                    Relabelled::Stored(found) => found,
                    Relabelled::Dropped(by) => {
                        self.remember(reader, Meaning::Dropped(by), pass)?;
                        return Ok(());
                    }
                };
                pass.counts.post_relabel += 1;
                labels = Some(found);
            }
        }
        let t = own.unwrap_or(pass.ts_ms);
        if let Value::Histogram(histogram) = &mut value
            && !self.policy.apply(histogram)?
        {
            pass.bucket_limit_hit = true;
            return Ok(());
        }
        // A marker of the end of a series that is known is let through by the limit.
        let is_marker = matches!(value, Value::Float(v) if is_stale(v)) && known.is_some();
        if is_marker && t <= pass.ts_max_ms {
            // Not counted.
        } else if !pass.admits(t) {
            if let Some(series) = series {
                self.starts.forget(series);
            }
            return Ok(());
        }
        if let Value::Histogram(histogram) = &value {
            match histogram {
                ExposedHistogram::Int(h) => h.validate()?,
                ExposedHistogram::Float(h) => h.validate()?,
            }
        }
        let series = match (series, &labels) {
            (Some(series), _) => series,
            (None, Some(labels)) => appender.resolve(labels)?,
            (None, None) => return Ok(()),
        };
        let idx = match known {
            Some(idx) => idx,
            None => {
                let idx = self.remember(reader, Meaning::Stored(series), pass)?;
                if !pass.limit_hit && !pass.bucket_limit_hit {
                    pass.counts.series_added += 1;
                }
                idx
            }
        };
        if own.is_none() || pass.track_timestamps || self.features.start_synthesis {
            let entry = &mut self.cache.entries[idx as usize];
            if entry.tracked != pass.now {
                pass.tracked_again += usize::from(known.is_some() && entry.tracked == pass.now - 1);
                pass.tracked += 1;
                entry.tracked = pass.now;
            }
        }
        if self.features.exemplars {
            push_exemplars(reader, &value, series, t, reading, pass.batch);
        }
        if self.features.metadata {
            self.push_metadata(reader, known.is_none(), series, reading, pass.batch);
        }
        self.push(reader, value, series, t, pass);
        Ok(())
    }

    /// The labels of a series that is not known.
    fn stored_labels(&self, reader: &dyn Exposition) -> Result<Relabelled, ScrapeError> {
        let mut exposed: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(16);
        reader.for_each_label(&mut |name, value| exposed.push((name.to_owned().into(), value.to_owned().into())));
        Ok(stored(exposed, &self.job, &self.target.public_labels)?)
    }

    fn remember(&mut self, reader: &dyn Exposition, meaning: Meaning, pass: &mut Pass<'_>) -> Result<u32, ScrapeError> {
        let idx = self.cache.insert(reader.series(), b"", reader.metric_type(), meaning);
        let idx = idx.ok_or(ScrapeError::CacheFull)?;
        self.cache.entries[idx as usize].seen = pass.now;
        pass.seen += 1;
        Ok(idx)
    }

    /// Adds a sample to the batch, with its start where that is wanted.
    fn push(&mut self, reader: &mut dyn Exposition, value: Value, series: SeriesRef, t: i64, pass: &mut Pass<'_>) {
        let mut start = if self.features.reads_starts() { reader.start_ms() } else { 0 };
        if self.features.zero_samples && start != 0 && start < t && self.starts.is_new(series, start, pass.now) {
            match &value {
                Value::Float(_) => pass.zeros.push(series, start, 0.0),
                Value::Histogram(h) => push_histogram(pass.zeros, series, start, 0, empty_like(h)),
            }
        }
        let mut value = value;
        if self.features.start_synthesis && start == 0 && self.counts(reader, series) {
            let adjusted = match value {
                Value::Float(v) => {
                    let adjusted = self.starts.float(series, v, t, pass.now);
                    adjusted.map(|(v, start)| (Value::Float(v), start))
                }
                Value::Histogram(h) => {
                    let adjusted = self.starts.histogram(series, h, t, pass.now);
                    adjusted.map(|(h, start)| (Value::Histogram(h), start))
                }
            };
            let Some(adjusted) = adjusted else { return };
            (value, start) = adjusted;
        }
        if !self.features.start_timestamps {
            start = 0;
        }
        match value {
            Value::Float(v) => {
                if start != 0 {
                    pass.batch.starts.resize(pass.batch.samples.len(), 0);
                    pass.batch.starts.push(start);
                } else if !pass.batch.starts.is_empty() {
                    pass.batch.starts.push(0);
                }
                pass.batch.push(series, t, v);
            }
            Value::Histogram(h) => push_histogram(pass.batch, series, t, start, h),
        }
    }

    /// Whether a series counts up, so that it can be said to begin with its first scrape.
    fn counts(&self, reader: &dyn Exposition, series: SeriesRef) -> bool {
        if self.starts.is_synthesized(series) {
            return true;
        }
        let Some((metadata, _)) = self.metadata.get(reader.family()) else { return false };
        matches!(metadata.kind, MetricType::Counter | MetricType::Histogram)
            && is_part_of_family(&exposed_name(reader), reader.family(), metadata.kind)
    }

    /// Adds the metadata of a series that is new, or whose metadata has changed.
    fn push_metadata(
        &self,
        reader: &dyn Exposition,
        is_new: bool,
        series: SeriesRef,
        reading: &mut Reading,
        batch: &mut Batch,
    ) {
        let family = reader.family();
        if reading.metadata.is_none() {
            reading.metadata = self.metadata.get(family).map(|(known, changed)| FamilyMetadata {
                metadata: Arc::new(Metadata { kind: known.kind, unit: known.unit.clone(), help: known.help.clone() }),
                changed,
            });
        }
        let Some(FamilyMetadata { metadata, changed }) = &reading.metadata else { return };
        if (is_new || *changed) && is_part_of_family(&exposed_name(reader), family, metadata.kind) {
            batch.metadata.push((series, Arc::clone(metadata)));
        }
    }
}

/// DIFFERENCE: Prometheus looks at the name after relabelling, which says nothing about what the metadata was meant for.
fn exposed_name(reader: &dyn Exposition) -> String {
    let mut first = None;
    reader.for_each_label(&mut |_, value| {
        first.get_or_insert_with(|| value.to_owned());
    });
    first.unwrap_or_default()
}

fn push_histogram(batch: &mut Batch, series: SeriesRef, t: i64, start: i64, h: ExposedHistogram) {
    let h = match h {
        ExposedHistogram::Int(h) => HistogramValue::Int(Arc::new(h)),
        ExposedHistogram::Float(h) => HistogramValue::Float(Arc::new(h)),
    };
    batch.histograms.push(BatchHistogram { series, t, start, h });
}

/// Adds the exemplars of a sample, those that came first in front.
fn push_exemplars(
    reader: &mut dyn Exposition,
    value: &Value,
    series: SeriesRef,
    t: i64,
    reading: &mut Reading,
    batch: &mut Batch,
) {
    let Reading { exemplar, exemplars, .. } = reading;
    let is_histogram = matches!(value, Value::Histogram(_));
    while exemplars.len() < EXEMPLARS_MAX && reader.next_exemplar(exemplar) {
        // Exemplars of native histograms need a time of their own: without one, old and new cannot be told apart.
        let t = match exemplar.timestamp {
            Some(t) => t,
            None if is_histogram => continue,
            None => t,
        };
        let labels = Labels::from_pairs(exemplar.labels.iter().map(|(name, value)| (name, value)));
        exemplars.push(Exemplar { labels, v: exemplar.value, t });
    }
    if exemplars.len() > 1 {
        exemplars.sort_by(|a, b| {
            let by_value = || a.v.partial_cmp(&b.v).unwrap_or(std::cmp::Ordering::Equal);
            a.t.cmp(&b.t).then_with(by_value).then_with(|| a.labels.cmp(&b.labels))
        });
    }
    batch.exemplars.extend(exemplars.drain(..).map(|exemplar| (series, exemplar)));
}

/// Whether a series with this name belongs to the family: metadata may be missing or stand in the wrong place.
fn is_part_of_family(name: &str, family: &str, kind: MetricType) -> bool {
    let Some(rest) = name.strip_prefix(family) else { return false };
    let suffixes: &[&str] = match kind {
        MetricType::Counter => {
            // Prometheus' own format has the suffix in the name of the family as well.
            return cut(name, "_total") == cut(family, "_total");
        }
        MetricType::Info => return cut(name, "_info") == cut(family, "_info"),
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        MetricType::Summary => &["_sum", "_count"],
        MetricType::Gauge | MetricType::StateSet | MetricType::Unknown => &[],
    };
    rest.is_empty() || suffixes.contains(&rest)
}

fn cut<'t>(text: &'t str, suffix: &str) -> &'t str {
    text.strip_suffix(suffix).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_belong_to_families() {
        let check = |name: &str, family: &str, kind, expected| {
            assert_eq!(is_part_of_family(name, family, kind), expected, "{name} {family} {kind}");
        };
        for (name, expected) in [("a", true), ("a_total", true), ("a_created", false), ("b", false)] {
            check(name, "a", MetricType::Counter, expected);
        }
        check("a_total", "a_total", MetricType::Counter, true);
        check("h_bucket", "h", MetricType::Histogram, true);
        check("h", "h", MetricType::Histogram, true);
        check("h_gsum", "h", MetricType::Histogram, false);
        check("h_gsum", "h", MetricType::GaugeHistogram, true);
        check("s_count", "s", MetricType::Summary, true);
        check("s_bucket", "s", MetricType::Summary, false);
        check("i_info", "i", MetricType::Info, true);
        check("g_x", "g", MetricType::Gauge, false);
    }
}
