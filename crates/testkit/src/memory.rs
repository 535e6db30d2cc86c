//! A storage in memory, for tests of engines that read or write samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use fk_model::{FloatHistogram, Labels, Matcher};
use fk_storage::{
    AppendReport, Appender, Batch, BatchHistogram, Control, Exemplar, ExemplarSeries, HistogramValue, Queryable,
    Rejection, Samples, SelectParams, SeriesRef, SeriesSet, StorageError, TimeRange,
};
use parking_lot::RwLock;

/// All series in two vectors behind one lock. Follows the ordering rules of the real head: no sample before the newest,
/// no second value for one time, an identical repeat is accepted.
#[derive(Debug, Default)]
pub struct MemoryStorage(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Why nothing is taken at the moment.
    refusal: Option<String>,
    made_durable: usize,
    by_labels: BTreeMap<Labels, usize>,
    series: Vec<(Labels, Samples)>,
    exemplars: Vec<(usize, Exemplar)>,
}

impl MemoryStorage {
    /// Without series.
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// Adds samples `(ms, value)` of one series; panics on a rejected one.
    pub fn add(&self, labels: &Labels, samples: &[(i64, f64)]) {
        let series = self.resolve(labels).expect("memory storage takes any labels");
        let mut batch = Batch::default();
        for &(t, v) in samples {
            batch.push(series, t, v);
        }
        let mut report = AppendReport::default();
        self.append(&batch, &mut report).expect("memory storage does not fail");
        assert_eq!(report.rejected, [], "samples of {labels} rejected");
    }

    /// Adds a histogram to a series; panics if it is rejected.
    pub fn add_histogram(&self, labels: &Labels, t: i64, h: FloatHistogram) {
        let series = self.resolve(labels).expect("memory storage takes any labels");
        let h = HistogramValue::Float(h.into());
        let batch = Batch { histograms: vec![BatchHistogram { series, t, start: 0, h }], ..Batch::default() };
        let mut report = AppendReport::default();
        self.append(&batch, &mut report).expect("memory storage does not fail");
        assert_eq!(report.rejected_histograms, [], "a histogram of {labels} rejected");
    }

    /// The histograms of a series, with their times.
    pub fn histograms(&self, labels: &Labels) -> Vec<(i64, Arc<FloatHistogram>)> {
        let inner = self.0.read();
        let samples = inner.by_labels.get(labels).map(|at| &inner.series[*at].1);
        let all = |s: &Samples| s.histograms.iter().map(|(at, h)| (s.t[*at as usize], h.clone())).collect();
        samples.map(all).unwrap_or_default()
    }

    /// Takes nothing, for this reason, or takes samples again.
    pub fn refuse(&self, reason: Option<&str>) {
        self.0.write().refusal = reason.map(str::to_owned);
    }

    /// How often somebody waited for samples to become durable.
    pub fn made_durable(&self) -> usize {
        self.0.read().made_durable
    }

    /// Everything stored, by labels. For comparing bit by bit use the values' bits: NaN is not equal to itself.
    pub fn dump(&self) -> BTreeMap<Labels, Vec<(i64, f64)>> {
        let inner = self.0.read();
        let columns = |s: &Samples| s.t.iter().copied().zip(s.v.iter().copied()).collect();
        inner.series.iter().map(|(labels, samples)| (labels.clone(), columns(samples))).collect()
    }
}

impl Appender for MemoryStorage {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        let mut inner = self.0.write();
        let inner = &mut *inner;
        let next = inner.series.len();
        let idx = *inner.by_labels.entry(labels.clone()).or_insert(next);
        if idx == next {
            inner.series.push((labels.clone(), Samples::default()));
        }
        Ok(SeriesRef(idx as u64 + 1))
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        *report = AppendReport::default();
        let mut inner = self.0.write();
        if let Some(reason) = &inner.refusal {
            return Err(StorageError::ReadOnly(reason.clone()));
        }
        for (idx, sample) in batch.samples.iter().enumerate() {
            let series = (sample.series.0 as usize).checked_sub(1).and_then(|at| inner.series.get_mut(at));
            let Some((_, samples)) = series else {
                report.rejected.push((idx, Rejection::UnknownSeries));
                continue;
            };
            match (samples.t.last(), samples.v.last()) {
                (Some(&t), _) if sample.t < t => report.rejected.push((idx, Rejection::OutOfOrder)),
                (Some(&t), Some(v)) if sample.t == t && sample.v.to_bits() != v.to_bits() => {
                    report.rejected.push((idx, Rejection::Duplicate));
                }
                (Some(&t), _) if sample.t == t => report.accepted += 1,
                _ => {
                    samples.push(sample.t, sample.v);
                    report.accepted += 1;
                }
            }
        }
        for (idx, sample) in batch.histograms.iter().enumerate() {
            let series = (sample.series.0 as usize).checked_sub(1).and_then(|at| inner.series.get_mut(at));
            let Some((_, samples)) = series else {
                report.rejected_histograms.push((idx, Rejection::UnknownSeries));
                continue;
            };
            if samples.t.last().is_some_and(|t| *t >= sample.t) {
                report.rejected_histograms.push((idx, Rejection::OutOfOrder));
                continue;
            }
            let h = sample.h.to_float();
            samples.histograms.push((samples.t.len() as u32, h.clone()));
            samples.push(sample.t, h.sum);
            report.accepted += 1;
        }
        for (series, exemplar) in &batch.exemplars {
            inner.exemplars.push((series.0 as usize - 1, exemplar.clone()));
        }
        Ok(())
    }

    fn make_durable(&self) -> Result<(), StorageError> {
        self.0.write().made_durable += 1;
        Ok(())
    }
}

struct Selected(Vec<(Labels, Samples)>);

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, idx: usize) -> Labels {
        self.0[idx].0.clone()
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        out.clear();
        let samples = &self.0[idx].1;
        let mut histograms = samples.histograms.iter().peekable();
        for (at, (&t, &v)) in samples.t.iter().zip(&samples.v).enumerate() {
            let histogram = histograms.next_if(|(of, _)| *of as usize == at);
            if (range.mint..=range.maxt).contains(&t) {
                out.histograms.extend(histogram.map(|(_, h)| (out.t.len() as u32, h.clone())));
                out.push(t, v);
            }
        }
        Ok(())
    }
}

impl MemoryStorage {
    fn matching(&self, range: TimeRange, matchers: &[Matcher]) -> Vec<(Labels, Samples)> {
        let inner = self.0.read();
        let in_range =
            |s: &Samples| s.t.first().is_some_and(|t| *t <= range.maxt) && s.t.last().is_some_and(|t| *t >= range.mint);
        inner.series.iter().filter(|(l, s)| in_range(s) && Matcher::all_match(matchers, l)).cloned().collect()
    }
}

impl Queryable for MemoryStorage {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        control.check()?;
        let mut found = self.matching(params.range, matchers);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        if params.limit > 0 {
            found.truncate(params.limit);
        }
        Ok(Box::new(Selected(found)))
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        _: &Control,
    ) -> Result<Vec<String>, StorageError> {
        let mut values: Vec<String> =
            self.matching(range, matchers).iter().filter_map(|(l, _)| l.get(name).map(str::to_owned)).collect();
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn label_names(&self, range: TimeRange, matchers: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        let mut names: Vec<String> = self
            .matching(range, matchers)
            .iter()
            .flat_map(|(l, _)| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>())
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn exemplars(&self, range: TimeRange, sets: &[Vec<Matcher>]) -> Result<Vec<ExemplarSeries>, StorageError> {
        let inner = self.0.read();
        let mut found = Vec::new();
        for (labels, idx) in &inner.by_labels {
            let own = inner.exemplars.iter().filter(|(of, e)| of == idx && (range.mint..=range.maxt).contains(&e.t));
            let exemplars: Vec<_> = own.map(|(_, e)| e.clone()).collect();
            if !exemplars.is_empty() && sets.iter().any(|set| Matcher::all_match(set, labels)) {
                found.push(ExemplarSeries { labels: labels.clone(), exemplars });
            }
        }
        Ok(found)
    }
}
