//! The series one rule wrote last time: their references, so that a steady rule resolves nothing, and their labels, so
//! that vanished ones can be marked stale.
//!
//! A rule's results mostly come in the same order with the same labels. The entries are therefore kept in result order
//! and compared position by position: the steady case costs one comparison of label text per series, no hash and no
//! allocation. Only when something differs are old and new entries matched by a map.

use std::collections::{HashMap, HashSet};

use fk_model::{Labels, SampleValue, stale_nan};
use fk_storage::{
    AppendReport, Appender, Batch, BatchHistogram, HistogramValue, OutOfOrder, Rejection, SeriesRef, StorageError,
};

/// One series written.
#[derive(Clone, Debug)]
struct Entry {
    /// What the rule knows the series by: the labels of the query result, or those of the series itself.
    key: Labels,
    /// Labels of the series.
    labels: Labels,
    series: SeriesRef,
    /// Whether the storage took the last sample. If not, the series needs no staleness marker when it vanishes.
    stored: bool,
}

/// The series one rule wrote in its last evaluation, in the order of its results.
#[derive(Debug, Default)]
pub(crate) struct Written {
    entries: Vec<Entry>,
    batch: Batch,
    /// For each float of the batch that is a result, and for each histogram, its entry.
    of_sample: Vec<usize>,
    of_histogram: Vec<usize>,
    report: AppendReport,
}

/// Why a result was not written at all.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Two results have one label set.
    Duplicate,
    /// The storage failed.
    Storage(StorageError),
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> WriteError {
        WriteError::Storage(error)
    }
}

/// How many samples were not stored, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) out_of_order: usize,
    pub(crate) too_old: usize,
    pub(crate) duplicate: usize,
    pub(crate) other: usize,
    /// The first reason, for the rule's last error.
    pub(crate) first: Option<Rejection>,
}

impl Rejected {
    fn count(&mut self, reason: Rejection) {
        match reason {
            Rejection::OutOfOrder => self.out_of_order += 1,
            Rejection::TooOld => self.too_old += 1,
            Rejection::Duplicate => self.duplicate += 1,
            Rejection::OutOfBounds
            | Rejection::UnknownSeries
            | Rejection::InvalidHistogram(_)
            | Rejection::ExemplarOutOfOrder
            | Rejection::ExemplarTooLong => self.other += 1,
        }
        self.first = self.first.or(Some(reason));
    }
}

impl Written {
    /// Writes one evaluation's results at `ts_ms`, and staleness markers for the series of the last evaluation that are
    /// not among them, as one batch. `results` are keys and values; `labels_of` makes the labels of the series of a key
    /// that was not there last time. On an error nothing is written and the list stays as it was. Markers are floats: the
    /// storage makes them markers of histograms where a series had those.
    pub(crate) fn write<'a>(
        &mut self,
        appender: &dyn Appender,
        ts_ms: i64,
        results: impl ExactSizeIterator<Item = (&'a Labels, SampleValue)> + Clone,
        labels_of: impl FnMut(&Labels) -> Labels,
    ) -> Result<Rejected, WriteError> {
        self.batch.clear();
        self.batch.out_of_order = OutOfOrder::Reject;
        let steady = results.len() == self.entries.len()
            && results.clone().zip(&self.entries).all(|((key, _), entry)| *key == entry.key);
        let replaced = match steady {
            true => None,
            false => Some(self.match_up(appender, results.clone().map(|(key, _)| key), labels_of)?),
        };
        let entries = replaced.as_ref().map_or(&self.entries, |(entries, _)| entries);
        self.of_sample.clear();
        self.of_histogram.clear();
        for (at, (entry, (_, v))) in entries.iter().zip(results).enumerate() {
            match v {
                SampleValue::Float(v) => {
                    self.of_sample.push(at);
                    self.batch.push(entry.series, ts_ms, v);
                }
                SampleValue::Histogram(h) => {
                    self.of_histogram.push(at);
                    let h = HistogramValue::Float(h);
                    self.batch.histograms.push(BatchHistogram { series: entry.series, t: ts_ms, start: 0, h });
                }
            }
        }
        for series in replaced.iter().flat_map(|(_, vanished)| vanished) {
            self.batch.push(*series, ts_ms, stale_nan());
        }
        appender.append(&self.batch, &mut self.report)?;
        if let Some((entries, _)) = replaced {
            self.entries = entries;
        }
        self.settle(appender)
    }

    /// The entries for `keys`, and the series of the last evaluation that are not among them.
    fn match_up<'a>(
        &self,
        appender: &dyn Appender,
        keys: impl ExactSizeIterator<Item = &'a Labels>,
        mut labels_of: impl FnMut(&Labels) -> Labels,
    ) -> Result<(Vec<Entry>, Vec<SeriesRef>), WriteError> {
        let known: HashMap<&Labels, &Entry> = self.entries.iter().map(|entry| (&entry.key, entry)).collect();
        let mut entries = Vec::with_capacity(keys.len());
        let mut distinct = HashSet::with_capacity(keys.len());
        let mut new = Vec::new();
        for key in keys {
            let entry = known.get(key).map(|entry| (*entry).clone()).unwrap_or_else(|| {
                new.push(entries.len());
                Entry { key: key.clone(), labels: labels_of(key), series: SeriesRef(0), stored: true }
            });
            if !distinct.insert(entry.labels.clone()) {
                return Err(WriteError::Duplicate);
            }
            entries.push(entry);
        }
        // Resolved only now: a result that is refused must leave no series behind.
        for idx in new {
            let entry: &mut Entry = &mut entries[idx];
            entry.series = appender.resolve(&entry.labels)?;
        }
        let vanished = |entry: &&Entry| entry.stored && !distinct.contains(&entry.labels);
        let vanished = self.entries.iter().filter(vanished).map(|entry| entry.series).collect();
        Ok((entries, vanished))
    }

    /// Notes what the storage did not take. Series that it has forgotten meanwhile are made again. Rejected markers, which
    /// are the last samples, do not matter.
    fn settle(&mut self, appender: &dyn Appender) -> Result<Rejected, WriteError> {
        for entry in &mut self.entries {
            entry.stored = true;
        }
        let mut rejected = Rejected::default();
        if self.report.rejected.is_empty() && self.report.rejected_histograms.is_empty() {
            return Ok(rejected);
        }
        let mut again = Batch { out_of_order: OutOfOrder::Reject, ..Batch::default() };
        let (mut again_samples, mut again_histograms) = (Vec::new(), Vec::new());
        for &(idx, reason) in &self.report.rejected {
            let Some(&at) = self.of_sample.get(idx) else { continue };
            let entry = &mut self.entries[at];
            if reason == Rejection::UnknownSeries {
                entry.series = appender.resolve(&entry.labels)?;
                let sample = self.batch.samples[idx];
                again.push(entry.series, sample.t, sample.v);
                again_samples.push(at);
            } else {
                entry.stored = false;
                rejected.count(reason);
            }
        }
        for &(idx, reason) in &self.report.rejected_histograms {
            let Some(&at) = self.of_histogram.get(idx) else { continue };
            let entry = &mut self.entries[at];
            if reason == Rejection::UnknownSeries {
                entry.series = appender.resolve(&entry.labels)?;
                again.histograms.push(BatchHistogram { series: entry.series, ..self.batch.histograms[idx].clone() });
                again_histograms.push(at);
            } else {
                entry.stored = false;
                rejected.count(reason);
            }
        }
        if !again.is_empty() {
            appender.append(&again, &mut self.report)?;
            let samples = self.report.rejected.iter().map(|(idx, reason)| (again_samples.get(*idx), reason));
            let of_histograms = &self.report.rejected_histograms;
            let histograms = of_histograms.iter().map(|(idx, reason)| (again_histograms.get(*idx), reason));
            for (at, reason) in samples.chain(histograms) {
                let Some(at) = at else { continue };
                self.entries[*at].stored = false;
                rejected.count(*reason);
            }
        }
        Ok(rejected)
    }

    /// The series to mark stale when the rule is gone.
    pub(crate) fn into_series(self) -> impl Iterator<Item = SeriesRef> {
        self.entries.into_iter().filter(|entry| entry.stored).map(|entry| entry.series)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fk_testkit::MemoryStorage;
    use proptest::prelude::*;

    use super::*;

    /// Two results may be recorded as one series: that of their number modulo four.
    fn series_of(n: u8) -> Labels {
        Labels::from_pairs([("series", format!("s{}", n % 4))])
    }

    fn key_of(n: u8) -> Labels {
        Labels::from_pairs([("result", format!("r{n}"))])
    }

    /// Samples as bits, so that markers can be compared.
    type Expected = BTreeMap<Labels, Vec<(i64, u64)>>;

    /// Writes the results of several evaluations; what must be stored, by the plain rule: the samples of the evaluation,
    /// and a marker for each series of the last good one that is not among them.
    fn check(evaluations: &[Vec<u8>]) -> Result<(), TestCaseError> {
        let (storage, mut written) = (MemoryStorage::new(), Written::default());
        let (mut expected, mut last) = (Expected::new(), BTreeSet::new());
        for (at, results) in evaluations.iter().enumerate() {
            let ts_ms = at as i64 * 1000;
            let keys: Vec<Labels> = results.iter().map(|n| key_of(*n)).collect();
            let series: BTreeSet<Labels> = results.iter().map(|n| series_of(*n)).collect();
            let labels_of = |key: &Labels| series_of(key.value("result")[1..].parse().unwrap_or(0));
            let values = std::iter::repeat_n(SampleValue::Float(1.5), keys.len());
            let got = written.write(&storage, ts_ms, keys.iter().zip(values), labels_of);
            if series.len() < results.len() {
                prop_assert!(matches!(got, Err(WriteError::Duplicate)), "{got:?}");
                continue;
            }
            prop_assert_eq!(got.map_err(|error| format!("{error:?}")), Ok(Rejected::default()));
            for labels in &series {
                expected.entry(labels.clone()).or_default().push((ts_ms, 1.5f64.to_bits()));
            }
            for labels in last.difference(&series) {
                expected.entry(Labels::clone(labels)).or_default().push((ts_ms, stale_nan().to_bits()));
            }
            last = series;
        }
        let bits = |samples: Vec<(i64, f64)>| samples.into_iter().map(|(t, v)| (t, v.to_bits())).collect();
        let stored: Expected = storage.dump().into_iter().map(|(labels, samples)| (labels, bits(samples))).collect();
        prop_assert_eq!(stored, expected);
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_the_results_the_right_samples_and_markers_are_stored(
            evaluations in prop::collection::vec(prop::collection::vec(0u8..6, 0..5), 1..8)
        ) {
            check(&evaluations)?;
        }
    }
}
