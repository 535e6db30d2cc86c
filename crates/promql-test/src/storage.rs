//! What a script has loaded: series in memory, sorted by labels.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fk_model::histogram::{ClassicHistogram, Converted};
use fk_model::{CounterReset, FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, Matcher};
use fk_promql_syntax::SeriesValue;
use fk_storage::{Control, Queryable, Samples, SelectParams, SeriesSet, StorageError, TimeRange};

use crate::script::Load;

/// Most samples of a script; a script that loads more is refused.
pub const SAMPLES_MAX: usize = 10_000_000;

/// A value of a sample.
#[derive(Clone, Debug)]
pub(crate) enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// Values with their times.
type Points = Vec<(i64, Point)>;

/// A storage that scripts fill.
#[derive(Debug, Default)]
pub struct ScriptStorage {
    series: BTreeMap<Labels, Arc<Samples>>,
    samples: usize,
    /// Start timestamps by time, of series that have any.
    starts: BTreeMap<Labels, BTreeMap<i64, i64>>,
}

impl ScriptStorage {
    /// Adds what a `load` says. Samples of a later load replace those of the same time.
    pub fn load(&mut self, load: Load) -> Result<(), String> {
        let mut classic = ClassicSeries::default();
        for series in load.series {
            self.samples = self.samples.saturating_add(series.values.len());
            if self.samples > SAMPLES_MAX {
                return Err(format!("more than {SAMPLES_MAX} samples in one script"));
            }
            let mut points = Vec::with_capacity(series.values.len());
            let mut starts = self.starts.remove(&series.labels).unwrap_or_default();
            for (at, value) in series.values.iter().enumerate() {
                let time = load.step_ms.checked_mul(at as i64).ok_or("the samples reach beyond the end of time")?;
                // Offsets from the sample's time.
                match series.starts.as_ref().and_then(|starts| starts.get(at).copied().flatten()) {
                    Some(offset) => starts.insert(time, time.saturating_add(offset)),
                    None => starts.remove(&time),
                };
                match value {
                    SeriesValue::Float(v) => points.push((time, Point::Float(*v))),
                    SeriesValue::Histogram(h) => points.push((time, Point::Histogram(checked(h.to_histogram())?))),
                    _ => {}
                }
            }
            if load.with_nhcb {
                classic.add(&series.labels, &points);
            }
            if !starts.is_empty() {
                self.starts.insert(series.labels.clone(), starts);
            }
            self.add(series.labels, points);
        }
        for (labels, points) in classic.convert()? {
            self.add(labels, points);
        }
        Ok(())
    }

    /// Adds samples of one series, ascending by time.
    fn add(&mut self, labels: Labels, points: Points) {
        let starts = self.starts.get(&labels);
        let samples = match self.series.entry(labels) {
            Entry::Vacant(entry) => {
                let samples = Arc::make_mut(entry.insert(Arc::default()));
                points.into_iter().for_each(|(t, point)| push(samples, t, point));
                samples
            }
            Entry::Occupied(entry) => {
                let samples = Arc::make_mut(entry.into_mut());
                let mut merged: BTreeMap<i64, Point> = points_of(&std::mem::take(samples)).collect();
                merged.extend(points);
                merged.into_iter().for_each(|(t, point)| push(samples, t, point));
                samples
            }
        };
        if let Some(starts) = starts {
            samples.starts = samples.t.iter().map(|t| starts.get(t).copied().unwrap_or(0)).collect();
        }
        set_hints(samples);
    }

    fn matching<'a>(
        &'a self,
        range: TimeRange,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = (&'a Labels, &'a Arc<Samples>)> {
        let in_range = move |s: &Samples| {
            s.t.first().is_some_and(|t| *t <= range.maxt) && s.t.last().is_some_and(|t| *t >= range.mint)
        };
        self.series.iter().filter(move |(l, s)| in_range(s) && Matcher::all_match(matchers, l))
    }
}

fn push(samples: &mut Samples, t: i64, point: Point) {
    match point {
        Point::Float(v) => samples.push(t, v),
        Point::Histogram(h) => {
            // Far less than 2^32 samples are accepted.
            samples.histograms.push((samples.len() as u32, Arc::clone(&h)));
            samples.push(t, h.sum);
        }
    }
}

fn points_of(samples: &Samples) -> impl Iterator<Item = (i64, Point)> + '_ {
    let mut histograms = samples.histograms.iter().peekable();
    samples.t.iter().zip(&samples.v).enumerate().map(move |(at, (t, v))| {
        let h = histograms.next_if(|(of, _)| *of as usize == at);
        (*t, h.map_or(Point::Float(*v), |(_, h)| Point::Histogram(Arc::clone(h))))
    })
}

/// Refuses what no storage would take.
pub(crate) fn checked(h: FloatHistogram) -> Result<Arc<FloatHistogram>, String> {
    h.validate().map_err(|error| error.to_string())?;
    Ok(Arc::new(h))
}

/// Sets the hints of counter resets to what a storage says of its samples: that there was no reset, or nothing. It says
/// nothing where its chunks begin: where histograms do, where buckets change, and where a counter was reset.
fn set_hints(samples: &mut Samples) {
    let mut before: Option<(u32, Arc<FloatHistogram>)> = None;
    for (at, h) in &mut samples.histograms {
        let own = Arc::clone(h);
        if h.counter_reset != CounterReset::Gauge {
            let goes_on = before.as_ref().is_some_and(|(of, before)| of + 1 == *at && follows(before, &own));
            Arc::make_mut(h).counter_reset = if goes_on { CounterReset::NotReset } else { CounterReset::Unknown };
        }
        before = Some((*at, own));
    }
}

/// Whether a storage would say of `h` that nothing was reset since `before`, the sample in front of it.
pub(crate) fn follows(before: &FloatHistogram, h: &FloatHistogram) -> bool {
    before.counter_reset != CounterReset::Gauge
        && before.schema == h.schema
        && before.zero_threshold == h.zero_threshold
        && before.custom_values == h.custom_values
        && h.counter_reset != CounterReset::Reset
        && !FloatHistogram { counter_reset: CounterReset::Unknown, ..h.clone() }.is_reset(before)
}

/// Classic histograms of one `load`, by the series that they become and by time.
#[derive(Default)]
struct ClassicSeries(BTreeMap<Labels, BTreeMap<i64, ClassicHistogram>>);

impl ClassicSeries {
    /// Adds a series if it is part of a classic histogram.
    fn add(&mut self, labels: &Labels, points: &[(i64, Point)]) {
        let name = labels.metric_name();
        let parts = [("_bucket", 0), ("_count", 1), ("_sum", 2)];
        let Some((name, part)) = parts.iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part))) else {
            return;
        };
        let le = labels.value("le").parse::<f64>().ok().filter(|le| !le.is_nan());
        if part == 0 && le.is_none() {
            return;
        }
        let mut base = LabelsBuilder::from(labels);
        base.set(METRIC_NAME, name).del("le");
        let by_time = self.0.entry(base.build()).or_default();
        for (t, point) in points {
            let Point::Float(v) = point else { continue };
            let histogram = by_time.entry(*t).or_default();
            match (part, le) {
                (0, Some(le)) => histogram.set_bucket(le, *v),
                (1, _) => histogram.set_count(*v),
                _ => histogram.set_sum(*v),
            }
        }
    }

    fn convert(self) -> Result<Vec<(Labels, Points)>, String> {
        let convert = |(t, mut classic): (i64, ClassicHistogram)| {
            let h = match classic.convert().map_err(|fault| fault.to_string())? {
                Converted::Int(h) => h.to_float(),
                Converted::Float(h) => h,
            };
            Ok((t, Point::Histogram(checked(h)?)))
        };
        let series = self.0.into_iter().map(|(labels, by_time)| {
            by_time.into_iter().map(convert).collect::<Result<Vec<_>, String>>().map(|points| (labels, points))
        });
        series.collect()
    }
}

/// Series a select found, with their samples in its range.
pub(crate) struct Selected(pub(crate) Vec<(Labels, Arc<Samples>)>);

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
            out.v.extend_from_slice(&samples.v[within.clone()]);
            out.starts.extend_from_slice(samples.starts.get(within.clone()).unwrap_or_default());
            let inside = samples.histograms.iter().filter(|(at, _)| within.contains(&(*at as usize)));
            out.histograms.extend(inside.map(|(at, h)| (at - within.start as u32, Arc::clone(h))));
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
        Ok(Box::new(Selected(found.map(|(labels, samples)| (labels.clone(), Arc::clone(samples))).collect())))
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
