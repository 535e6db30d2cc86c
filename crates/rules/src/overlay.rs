//! Results of rules in memory, in front of a storage that is only read: what a group reads in a backtest.
//!
//! The storage may hold what the same rules wrote when they ran. From the first evaluation time on that is hidden; what is
//! older stays, so that rules which look back find what they would have found.

use std::collections::HashMap;
use std::sync::Arc;

use fk_model::{Labels, METRIC_NAME, Matcher};
use fk_storage::{
    AppendReport, Appender, Batch, Control, Newest, Queryable, Samples, SelectParams, SeriesRef, SeriesSet,
    StorageError, TimeRange,
};
use std::sync::RwLock;

use crate::alerting::{ALERT_NAME, ALERTS_FOR_STATE_METRIC, ALERTS_METRIC};

/// The storage and what is in front of it.
pub(crate) struct Overlay<'a> {
    base: &'a dyn Queryable,
    /// Times from which on the base shows nothing of what the rules write, ms.
    from_ms: i64,
    written: Written,
    /// Most samples kept.
    samples_max: usize,
    own: RwLock<Own>,
}

/// The names that the rules of a group write to.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) metrics: Vec<String>,
    pub(crate) alerts: Vec<String>,
}

#[derive(Debug, Default)]
struct Own {
    series: Vec<(Labels, Arc<Samples>)>,
    by_labels: HashMap<Labels, usize>,
    n_samples: usize,
}

impl Written {
    /// Whether a series is one that the rules write to.
    fn covers(&self, labels: &Labels) -> bool {
        let name = labels.metric_name();
        if name == ALERTS_METRIC || name == ALERTS_FOR_STATE_METRIC {
            return self.alerts.iter().any(|alert| alert == labels.value(ALERT_NAME));
        }
        self.metrics.iter().any(|metric| metric == name)
    }

    /// Whether these matchers may accept a series that the rules write to.
    pub(crate) fn may_match(&self, matchers: &[Matcher]) -> bool {
        let accepted = |label: &str, value: &str| matchers.iter().filter(|m| m.name == label).all(|m| m.matches(value));
        let alerts = !self.alerts.is_empty()
            && (accepted(METRIC_NAME, ALERTS_METRIC) || accepted(METRIC_NAME, ALERTS_FOR_STATE_METRIC));
        alerts || self.metrics.iter().any(|metric| accepted(METRIC_NAME, metric))
    }
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(base: &'a dyn Queryable, from_ms: i64, written: Written, samples_max: usize) -> Overlay<'a> {
        Overlay { base, from_ms, written, samples_max, own: RwLock::default() }
    }

    pub(crate) fn base(&self) -> &'a dyn Queryable {
        self.base
    }

    pub(crate) fn written(&self) -> &Written {
        &self.written
    }

    fn own(&self) -> std::sync::RwLockReadGuard<'_, Own> {
        // A panic elsewhere leaves at worst a sample too few.
        self.own.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn own_mut(&self) -> std::sync::RwLockWriteGuard<'_, Own> {
        self.own.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Appender for Overlay<'_> {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        let mut own = self.own_mut();
        if let Some(idx) = own.by_labels.get(labels) {
            return Ok(SeriesRef(*idx as u64));
        }
        let idx = own.series.len();
        own.series.push((labels.clone(), Arc::default()));
        own.by_labels.insert(labels.clone(), idx);
        Ok(SeriesRef(idx as u64))
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        *report = AppendReport::default();
        let mut own = self.own_mut();
        own.n_samples += batch.samples.len() + batch.histograms.len();
        if own.n_samples > self.samples_max {
            return Err(StorageError::ReadOnly(format!("the rules wrote more than {} samples", self.samples_max)));
        }
        for sample in &batch.samples {
            if let Some((_, samples)) = own.series.get_mut(sample.series.0 as usize) {
                Arc::make_mut(samples).push(sample.t, sample.v);
            }
        }
        for one in &batch.histograms {
            if let Some((_, samples)) = own.series.get_mut(one.series.0 as usize) {
                let (samples, h) = (Arc::make_mut(samples), one.h.to_float());
                samples.histograms.push((samples.t.len() as u32, Arc::clone(&h)));
                samples.push(one.t, h.sum);
            }
        }
        Ok(())
    }
}

impl Queryable for Overlay<'_> {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let base = self.base.select(params, matchers, control)?;
        if !self.written.may_match(matchers) {
            return Ok(base);
        }
        let own = self.own();
        let inside = |samples: &Samples| {
            samples.t.first().is_some_and(|t| *t <= params.range.maxt)
                && samples.t.last().is_some_and(|t| *t >= params.range.mint)
        };
        let found =
            own.series.iter().filter(|(labels, samples)| inside(samples) && Matcher::all_match(matchers, labels));
        let mut of_own: HashMap<Labels, Arc<Samples>> =
            found.map(|(labels, samples)| (labels.clone(), Arc::clone(samples))).collect();
        let mut rows = Vec::with_capacity(base.len() + of_own.len());
        for idx in 0..base.len() {
            let labels = base.labels(idx);
            let hidden = self.written.covers(&labels);
            let own = of_own.remove(&labels);
            rows.push(Row { base: Some((idx, hidden)), own, labels });
        }
        rows.extend(of_own.into_iter().map(|(labels, own)| Row { base: None, own: Some(own), labels }));
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        if params.limit > 0 {
            rows.truncate(params.limit);
        }
        Ok(Box::new(Merged { base, rows, from_ms: self.from_ms }))
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.base.label_values(name, range, matchers, control)
    }

    fn label_names(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.base.label_names(range, matchers, control)
    }
}

struct Row {
    labels: Labels,
    /// Its number there, and whether it is hidden from the first evaluation time on.
    base: Option<(usize, bool)>,
    own: Option<Arc<Samples>>,
}

struct Merged {
    base: Box<dyn SeriesSet>,
    rows: Vec<Row>,
    from_ms: i64,
}

impl SeriesSet for Merged {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, idx: usize) -> Labels {
        self.rows[idx].labels.clone()
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        let Row { base, own, .. } = &self.rows[idx];
        out.clear();
        if let Some((idx, hidden)) = base {
            let maxt = if *hidden { range.maxt.min(self.from_ms - 1) } else { range.maxt };
            if range.mint <= maxt {
                self.base.read(*idx, TimeRange { maxt, ..range }, out)?;
            }
        }
        let Some(own) = own else { return Ok(()) };
        out.fill_starts();
        let mut histograms = own.histograms.iter().peekable();
        for (at, (&t, &v)) in own.t.iter().zip(&own.v).enumerate() {
            let h = histograms.next_if(|(of, _)| *of as usize == at);
            if (range.mint..=range.maxt).contains(&t) {
                out.histograms.extend(h.map(|(_, h)| (out.t.len() as u32, Arc::clone(h))));
                out.push(t, v);
            }
        }
        out.fill_starts();
        Ok(())
    }

    fn last(&self, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        if let Row { base: Some((idx, false)), own: None, .. } = &self.rows[idx] {
            return self.base.last(*idx, range);
        }
        let mut samples = Samples::default();
        self.read(idx, range, &mut samples)?;
        Ok(samples.last())
    }
}
