//! The end of a scrape: what it found goes to the storage.

use std::collections::{HashMap, HashSet};

use fk_exposition::key_labels;
use fk_model::{Labels, stale_nan};
use fk_storage::{AppendReport, Appender, Batch, OutOfOrder, Rejection, SeriesRef, StorageError};

use super::{REPORT_SERIES, REPORT_SERIES_BASIC, ScrapeCounts, ScrapeLoop, ScrapeOutcome, Scratch};
use crate::cache::{Meaning, ScrapeNo};
use crate::labels::{Relabelled, stored};

impl ScrapeLoop {
    /// Adds the synthetic series to the batch.
    pub(super) fn push_report(
        &mut self,
        outcome: &ScrapeOutcome,
        ts_ms: i64,
        batch: &mut Batch,
        appender: &dyn Appender,
    ) -> Result<(), StorageError> {
        let counts = &outcome.counts;
        let values = [
            f64::from(u8::from(outcome.up)),
            outcome.duration_s,
            counts.scraped as f64,
            counts.post_relabel as f64,
            counts.series_added as f64,
            self.target.timeout.as_secs_f64(),
            self.job.sample_limit as f64,
            outcome.body_bytes as f64,
        ];
        let wanted = if self.job.extra_scrape_metrics { REPORT_SERIES.len() } else { REPORT_SERIES_BASIC };
        for (idx, value) in values.into_iter().enumerate().take(wanted) {
            let series = match self.report_series[idx] {
                Some(series) => series,
                None => appender.resolve(&self.target.report_labels(REPORT_SERIES[idx]))?,
            };
            self.report_series[idx] = Some(series);
            batch.push(series, ts_ms, value);
        }
        Ok(())
    }

    /// Writes samples of zero where counting began. Nothing is lost with those that do not fit any more.
    pub(super) fn append_zeros(scratch: &mut Scratch, appender: &dyn Appender) {
        let Scratch { zeros, report, .. } = scratch;
        if zeros.is_empty() {
            return;
        }
        zeros.out_of_order = OutOfOrder::Reject;
        // Best effort, as in Prometheus. A storage that takes nothing says so to the samples that follow.
        let _ = appender.append(zeros, report);
    }

    /// Hands the batch over, of which the first `samples` are the target's, and counts what was rejected.
    pub(super) fn append(
        &mut self,
        samples: usize,
        outcome: &mut ScrapeOutcome,
        scratch: &mut Scratch,
        appender: &dyn Appender,
    ) {
        let Scratch { batch, report, .. } = scratch;
        if batch.is_empty() {
            return;
        }
        if !batch.starts.is_empty() {
            batch.starts.resize(batch.samples.len(), 0);
        }
        let mut result = appender.append(batch, report);
        if result.is_ok() {
            count_rejections(batch, report, samples, &mut outcome.counts);
            if has_unknown(report) {
                let (again, samples_again) = self.resolve_again(batch, report, samples, appender);
                result = appender.append(&again, report);
                if result.is_ok() {
                    count_rejections(&again, report, samples_again, &mut outcome.counts);
                }
            }
        }
        if let Err(error) = result {
            outcome.storage_error = Some(error);
        }
    }

    /// What of a batch is of series that the storage has forgotten, with new references, and how many of its samples are the
    /// target's.
    fn resolve_again(
        &mut self,
        batch: &Batch,
        report: &AppendReport,
        samples: usize,
        appender: &dyn Appender,
    ) -> (Batch, usize) {
        let mut entries: HashMap<SeriesRef, Vec<u32>> = HashMap::new();
        for (idx, entry) in self.cache.entries.iter().enumerate() {
            if let Meaning::Stored(series) = entry.meaning() {
                entries.entry(series).or_default().push(idx as u32);
            }
        }
        let mut renamed: HashMap<SeriesRef, Option<SeriesRef>> = HashMap::new();
        let mut rename = |series: SeriesRef| -> Option<SeriesRef> {
            *renamed.entry(series).or_insert_with(|| {
                if let Some(idx) = self.report_series.iter().position(|known| *known == Some(series)) {
                    let series = appender.resolve(&self.target.report_labels(REPORT_SERIES[idx])).ok()?;
                    self.report_series[idx] = Some(series);
                    return Some(series);
                }
                let same = entries.get(&series)?;
                let series = appender.resolve(&self.labels_of(*same.first()?)?).ok()?;
                for idx in same {
                    self.cache.entries[*idx as usize].set_meaning(Meaning::Stored(series));
                }
                Some(series)
            })
        };
        let mut again = Batch { out_of_order: batch.out_of_order, ..Batch::default() };
        let mut samples_again = 0;
        for at in unknown(&report.rejected) {
            let sample = batch.samples[at];
            if let Some(series) = rename(sample.series) {
                again.push(series, sample.t, sample.v);
                again.starts.extend(batch.starts.get(at));
                samples_again += usize::from(at < samples);
            }
        }
        for at in unknown(&report.rejected_histograms) {
            let sample = &batch.histograms[at];
            if let Some(series) = rename(sample.series) {
                again.histograms.push(fk_storage::BatchHistogram { series, ..sample.clone() });
            }
        }
        for at in unknown(&report.rejected_exemplars) {
            let (series, exemplar) = &batch.exemplars[at];
            again.exemplars.extend(rename(*series).map(|series| (series, exemplar.clone())));
        }
        for (series, metadata) in &batch.metadata {
            again.metadata.extend(renamed.get(series).copied().flatten().map(|series| (series, metadata.clone())));
        }
        (again, samples_again)
    }

    /// The labels of an entry, made again from its text: keeping them would double the memory of a series.
    fn labels_of(&self, idx: u32) -> Option<Labels> {
        let (text, kind) = self.cache.series_text(idx);
        let mut exposed = Vec::with_capacity(16);
        key_labels(text, kind, self.options, &mut |name, value| {
            exposed.push((name.to_owned().into(), value.to_owned().into()));
        });
        match stored(exposed, &self.job, &self.target.public_labels) {
            Ok(Relabelled::Stored(labels)) => Some(labels),
            _ => None,
        }
    }

    /// Writes markers for what the scrape before tracked and this one does not.
    pub(super) fn mark_stale(
        &self,
        ts_ms: i64,
        outcome: &mut ScrapeOutcome,
        scratch: &mut Scratch,
        appender: &dyn Appender,
    ) {
        let (now, before) = (self.scrape, self.scrape - 1);
        let Scratch { batch, report, .. } = scratch;
        batch.clear();
        batch.out_of_order = OutOfOrder::Reject;
        let stored = |tracked: ScrapeNo| {
            self.cache.entries.iter().filter_map(move |entry| match entry.meaning() {
                Meaning::Stored(series) if entry.tracked == tracked => Some(series),
                _ => None,
            })
        };
        // Relabelling can make one series of two texts. It is stale only if both have gone.
        let mut stale: HashSet<SeriesRef> = stored(before).collect();
        for series in stored(now) {
            stale.remove(&series);
        }
        for series in stored(before) {
            if stale.remove(&series) {
                batch.push(series, ts_ms, stale_nan());
            }
        }
        if batch.samples.is_empty() {
            return;
        }
        match appender.append(batch, report) {
            Ok(()) => outcome.counts.stale_markers = report.accepted as u64,
            Err(error) => outcome.storage_error = Some(error),
        }
    }
}

/// The places in a batch of what was rejected for its series.
fn unknown(rejected: &[(usize, Rejection)]) -> impl Iterator<Item = usize> {
    rejected.iter().filter(|(_, why)| *why == Rejection::UnknownSeries).map(|(at, _)| *at)
}

fn has_unknown(report: &AppendReport) -> bool {
    [&report.rejected, &report.rejected_histograms].into_iter().any(|rejected| unknown(rejected).next().is_some())
}

fn count_rejections(batch: &Batch, report: &AppendReport, samples: usize, counts: &mut ScrapeCounts) {
    // Synthetic series may be rejected without anybody minding: another loop has been there.
    let own = report.rejected.iter().filter(|(at, _)| *at < samples);
    for (_, why) in own.chain(&report.rejected_histograms) {
        match why {
            Rejection::OutOfOrder => counts.out_of_order += 1,
            Rejection::Duplicate => counts.duplicates += 1,
            Rejection::OutOfBounds => counts.out_of_bounds += 1,
            Rejection::TooOld => counts.too_old += 1,
            // Resolved again; histograms are checked before, and exemplars are not here.
            Rejection::UnknownSeries
            | Rejection::InvalidHistogram(_)
            | Rejection::ExemplarOutOfOrder
            | Rejection::ExemplarTooLong => {}
        }
    }
    if report.rejected_exemplars.is_empty() {
        return;
    }
    // A sample that has a newer exemplar as well tells the older ones again, which is nothing to report.
    let mut rejected = report.rejected_exemplars.iter().peekable();
    let mut at = 0;
    for group in batch.exemplars.chunk_by(|a, b| a.0 == b.0) {
        let mut out_of_order = 0;
        at += group.len();
        while let Some((_, why)) = rejected.next_if(|(rejected, _)| *rejected < at) {
            out_of_order += usize::from(*why == Rejection::ExemplarOutOfOrder);
        }
        if out_of_order == group.len() {
            counts.exemplars_out_of_order += out_of_order as u64;
        }
    }
}
