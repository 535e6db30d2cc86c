//! What a script has loaded: series in memory, sorted by labels.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use fk_model::{Labels, LabelsBuilder, METRIC_NAME, Matcher};
use fk_promql_syntax::SeriesValue;
use fk_storage::{Control, Queryable, Samples, SelectParams, SeriesSet, StorageError, TimeRange};

use crate::script::Load;

/// Most samples of a script; a script that loads more is refused.
pub const SAMPLES_MAX: usize = 10_000_000;

pub(crate) const HISTOGRAMS: &str = "native histograms";
pub(crate) const START_TIMES: &str = "start timestamps";

/// A storage that scripts fill.
#[derive(Debug, Default)]
pub struct ScriptStorage {
    series: BTreeMap<Labels, Samples>,
    samples: usize,
    /// Series whose samples the engine cannot evaluate yet, with the reason: evaluations that select one are skipped.
    unsupported: Vec<(Labels, &'static str)>,
}

impl ScriptStorage {
    /// Adds what a `load` says. Samples of a later load replace those of the same time.
    pub fn load(&mut self, load: Load) -> Result<(), String> {
        for series in load.series {
            if load.with_nhcb
                && let Some(name) = series.labels.metric_name().strip_suffix("_bucket")
            {
                let mut labels = LabelsBuilder::from(&series.labels);
                labels.set(METRIC_NAME, name).del("le");
                self.unsupported.push((labels.build(), HISTOGRAMS));
            }
            if series.starts.is_some() {
                self.unsupported.push((series.labels, START_TIMES));
                continue;
            }
            if series.values.iter().any(|value| matches!(value, SeriesValue::Histogram(_))) {
                self.unsupported.push((series.labels, HISTOGRAMS));
                continue;
            }
            self.samples = self.samples.saturating_add(series.values.len());
            if self.samples > SAMPLES_MAX {
                return Err(format!("more than {SAMPLES_MAX} samples in one script"));
            }
            let mut points = Vec::with_capacity(series.values.len());
            for (at, value) in series.values.iter().enumerate() {
                let time = load.step_ms.checked_mul(at as i64).ok_or("the samples reach beyond the end of time")?;
                if let SeriesValue::Float(v) = value {
                    points.push((time, *v));
                }
            }
            self.add(series.labels, points);
        }
        Ok(())
    }

    /// Adds samples of one series, ascending by time.
    fn add(&mut self, labels: Labels, points: Vec<(i64, f64)>) {
        match self.series.entry(labels) {
            Entry::Vacant(entry) => {
                let samples = entry.insert(Samples::default());
                points.into_iter().for_each(|(t, v)| samples.push(t, v));
            }
            Entry::Occupied(mut entry) => {
                let old = std::mem::take(entry.get_mut());
                let mut merged: BTreeMap<i64, f64> = old.t.into_iter().zip(old.v).collect();
                merged.extend(points);
                merged.into_iter().for_each(|(t, v)| entry.get_mut().push(t, v));
            }
        }
    }

    /// Why a query that selects these matchers cannot be evaluated.
    pub(crate) fn unsupported(&self, matchers: &[Matcher]) -> Option<&'static str> {
        self.unsupported.iter().find(|(labels, _)| Matcher::all_match(matchers, labels)).map(|(_, reason)| *reason)
    }

    fn matching<'a>(
        &'a self,
        range: TimeRange,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = (&'a Labels, &'a Samples)> {
        let in_range = move |s: &Samples| {
            s.t.first().is_some_and(|t| *t <= range.maxt) && s.t.last().is_some_and(|t| *t >= range.mint)
        };
        self.series.iter().filter(move |(l, s)| in_range(s) && Matcher::all_match(matchers, l))
    }
}

/// Series a select found, with their samples in its range.
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
        let within = samples.t.partition_point(|t| *t < range.mint)..samples.t.partition_point(|t| *t <= range.maxt);
        if !within.is_empty() {
            out.t.extend_from_slice(&samples.t[within.clone()]);
            out.v.extend_from_slice(&samples.v[within]);
        }
        Ok(())
    }
}

impl Queryable for ScriptStorage {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        control.check()?;
        let limit = if params.limit == 0 { usize::MAX } else { params.limit };
        let found = self.matching(params.range, matchers).take(limit);
        Ok(Box::new(Selected(found.map(|(labels, samples)| (labels.clone(), samples.clone())).collect())))
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        _: &Control,
    ) -> Result<Vec<String>, StorageError> {
        let values: BTreeSet<&str> = self.matching(range, matchers).filter_map(|(l, _)| l.get(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    fn label_names(&self, range: TimeRange, matchers: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        let names: BTreeSet<&str> =
            self.matching(range, matchers).flat_map(|(l, _)| l.iter().map(|(name, _)| name)).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }
}
