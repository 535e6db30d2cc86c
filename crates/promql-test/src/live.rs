//! A storage whose series go on while rules are evaluated: what a `load` says is fed up to a time, and rules write between.
//!
//! Keeps to the order of samples as the head does: none before the newest of its series, no second value for one time.

use std::collections::HashMap;
use std::sync::Arc;

use fk_model::{CounterReset, FloatHistogram, Labels, METRIC_NAME, MatchKind, Matcher};
use fk_promql_syntax::SeriesValue;
use fk_storage::{
    AppendReport, Appender, Batch, Control, Queryable, Rejection, Samples, SelectParams, SeriesRef, SeriesSet,
    StorageError, TimeRange,
};
use parking_lot::RwLock;

use crate::script::Load;
use crate::storage::{Point, SAMPLES_MAX, Selected, checked, follows};

/// See the story of the file.
#[derive(Debug, Default)]
pub struct LiveStorage(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_labels: HashMap<Labels, usize>,
    /// Series by metric name, since nearly every selector names one.
    by_name: HashMap<String, Vec<usize>>,
    series: Vec<Live>,
}

#[derive(Debug)]
struct Live {
    labels: Labels,
    /// Shared with the sets of selects that read it.
    samples: Arc<Samples>,
}

/// What is still to be fed: of each series its samples from the next one on.
#[derive(Debug, Default)]
pub struct Feed(Vec<(SeriesRef, std::vec::IntoIter<(i64, Point)>)>);

impl LiveStorage {
    /// Makes the series of a `load` whose first samples are at `start_ms`. None of them is there before it is fed.
    pub fn prepare(&self, load: Load, start_ms: i64) -> Result<Feed, String> {
        let mut feed = Feed::default();
        let mut n_samples = 0_usize;
        for series in load.series {
            n_samples = n_samples.saturating_add(series.values.len());
            if n_samples > SAMPLES_MAX {
                return Err(format!("more than {SAMPLES_MAX} samples in one test"));
            }
            let mut points = Vec::with_capacity(series.values.len());
            for (at, value) in series.values.into_iter().enumerate() {
                let time = load.step_ms.checked_mul(at as i64).and_then(|t| start_ms.checked_add(t));
                let time = time.ok_or("the samples reach beyond the end of time")?;
                match value {
                    SeriesValue::Float(v) => points.push((time, Point::Float(v))),
                    SeriesValue::Histogram(h) => points.push((time, Point::Histogram(checked(h.to_histogram())?))),
                    SeriesValue::Omitted => {}
                }
            }
            feed.0.push((self.0.write().resolve(&series.labels), points.into_iter()));
        }
        Ok(feed)
    }

    /// Appends what `feed` has up to `till_ms`.
    pub fn feed(&self, feed: &mut Feed, till_ms: i64) -> Result<(), Rejection> {
        let mut inner = self.0.write();
        for (series, points) in &mut feed.0 {
            while points.as_slice().first().is_some_and(|(t, _)| *t <= till_ms) {
                let Some((t, point)) = points.next() else { break };
                inner.append(*series, t, point)?;
            }
        }
        Ok(())
    }
}

impl Inner {
    fn resolve(&mut self, labels: &Labels) -> SeriesRef {
        let next = self.series.len();
        let at = *self.by_labels.entry(labels.clone()).or_insert(next);
        if at == next {
            self.by_name.entry(labels.metric_name().to_owned()).or_default().push(at);
            self.series.push(Live { labels: labels.clone(), samples: Arc::default() });
        }
        SeriesRef(at as u64)
    }

    fn append(&mut self, series: SeriesRef, t: i64, point: Point) -> Result<(), Rejection> {
        let live = self.series.get_mut(series.0 as usize).ok_or(Rejection::UnknownSeries)?;
        if let Some(newest) = live.samples.last() {
            let same = match (&newest.h, &point) {
                (None, Point::Float(v)) => v.to_bits() == newest.v.to_bits(),
                (Some(before), Point::Histogram(h)) => before.same_buckets(h),
                _ => false,
            };
            match newest.t.cmp(&t) {
                std::cmp::Ordering::Greater => return Err(Rejection::OutOfOrder),
                std::cmp::Ordering::Equal if same => return Ok(()),
                std::cmp::Ordering::Equal => return Err(Rejection::Duplicate),
                std::cmp::Ordering::Less => {}
            }
        }
        let samples = Arc::make_mut(&mut live.samples);
        match point {
            Point::Float(v) => samples.push(t, v),
            Point::Histogram(mut h) => {
                let before = samples.last().and_then(|newest| newest.h);
                if h.counter_reset != CounterReset::Gauge {
                    let goes_on = before.is_some_and(|before| follows(&before, &h));
                    Arc::make_mut(&mut h).counter_reset =
                        if goes_on { CounterReset::NotReset } else { CounterReset::Unknown };
                }
                // Far less than 2^32 samples are accepted.
                samples.histograms.push((samples.len() as u32, Arc::clone(&h)));
                samples.push(t, h.sum);
            }
        }
        Ok(())
    }

    fn matching<'a>(&'a self, range: TimeRange, matchers: &'a [Matcher]) -> Vec<&'a Live> {
        let in_range =
            |s: &Samples| s.t.first().is_some_and(|t| *t <= range.maxt) && s.t.last().is_some_and(|t| *t >= range.mint);
        let wanted = |live: &&Live| in_range(&live.samples) && Matcher::all_match(matchers, &live.labels);
        let name = matchers.iter().find(|m| m.name == METRIC_NAME && m.kind == MatchKind::Equal);
        let mut found: Vec<&Live> = match name {
            Some(name) => {
                let named = self.by_name.get(&name.value).map(Vec::as_slice).unwrap_or_default();
                named.iter().map(|at| &self.series[*at]).filter(wanted).collect()
            }
            None => self.series.iter().filter(wanted).collect(),
        };
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        found
    }
}

impl Appender for LiveStorage {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, StorageError> {
        Ok(self.0.write().resolve(labels))
    }

    fn append(&self, batch: &Batch, report: &mut AppendReport) -> Result<(), StorageError> {
        report.clear();
        let mut inner = self.0.write();
        for (at, sample) in batch.samples.iter().enumerate() {
            match inner.append(sample.series, sample.t, Point::Float(sample.v)) {
                Ok(()) => report.accepted += 1,
                Err(reason) => report.rejected.push((at, reason)),
            }
        }
        for (at, sample) in batch.histograms.iter().enumerate() {
            match inner.append(sample.series, sample.t, Point::Histogram(sample.h.to_float())) {
                Ok(()) => report.accepted += 1,
                Err(reason) => report.rejected_histograms.push((at, reason)),
            }
        }
        Ok(())
    }
}

impl Queryable for LiveStorage {
    fn select(
        &self,
        params: &SelectParams,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        control.check()?;
        let limit = if params.limit == 0 { usize::MAX } else { params.limit };
        let inner = self.0.read();
        let found = inner.matching(params.range, matchers).into_iter().take(limit);
        Ok(Box::new(Selected(found.map(|live| (live.labels.clone(), Arc::clone(&live.samples))).collect())))
    }

    fn label_values(
        &self,
        name: &str,
        range: TimeRange,
        matchers: &[Matcher],
        _: &Control,
    ) -> Result<Vec<String>, StorageError> {
        let inner = self.0.read();
        let found = inner.matching(range, matchers);
        let mut values: Vec<String> =
            found.iter().filter_map(|live| live.labels.get(name)).map(str::to_owned).collect();
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn label_names(&self, range: TimeRange, matchers: &[Matcher], _: &Control) -> Result<Vec<String>, StorageError> {
        let inner = self.0.read();
        let found = inner.matching(range, matchers);
        let mut names: Vec<String> =
            found.iter().flat_map(|live| live.labels.iter().map(|(name, _)| name.to_owned())).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Whether two histograms have the same content; what is known of resets is no part of it.
trait SameBuckets {
    fn same_buckets(&self, other: &FloatHistogram) -> bool;
}

impl SameBuckets for FloatHistogram {
    fn same_buckets(&self, other: &FloatHistogram) -> bool {
        let plain = |h: &FloatHistogram| FloatHistogram { counter_reset: CounterReset::Unknown, ..h.clone() };
        plain(self) == plain(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Kind, read};

    fn load(text: &str) -> Load {
        match read(text).unwrap().remove(0).kind {
            Kind::Load(load) => load,
            other => panic!("{other:?}"),
        }
    }

    fn values(storage: &LiveStorage, name: &str) -> Vec<(i64, f64)> {
        let range = TimeRange { mint: i64::MIN, maxt: i64::MAX };
        let params = SelectParams { range, sorted: true, limit: 0 };
        let set = storage.select(&params, &[Matcher::equal(METRIC_NAME, name)], &Control::new()).unwrap();
        let mut samples = Samples::default();
        if !set.is_empty() {
            set.read(0, range, &mut samples).unwrap();
        }
        samples.t.into_iter().zip(samples.v).collect()
    }

    #[test]
    fn samples_come_when_their_time_has_come() {
        let storage = LiveStorage::default();
        let mut feed = storage.prepare(load("load 1m\n  a 1 _ 3\n  b 5\n"), 1000).unwrap();
        storage.feed(&mut feed, 0).unwrap();
        assert_eq!(values(&storage, "a"), []);
        storage.feed(&mut feed, 1000).unwrap();
        assert_eq!((values(&storage, "a"), values(&storage, "b")), (vec![(1000, 1.0)], vec![(1000, 5.0)]));
        storage.feed(&mut feed, 500_000).unwrap();
        assert_eq!(values(&storage, "a"), [(1000, 1.0), (121_000, 3.0)]);
    }

    #[test]
    fn order_is_that_of_the_head() {
        let storage = LiveStorage::default();
        let series = storage.resolve(&Labels::from_pairs([(METRIC_NAME, "a")])).unwrap();
        let mut report = AppendReport::default();
        let mut append = |t, v| {
            let mut batch = Batch::default();
            batch.push(series, t, v);
            storage.append(&batch, &mut report).unwrap();
            report.rejected.first().map(|(_, reason)| *reason)
        };
        assert_eq!(append(10, 1.0), None);
        assert_eq!(append(10, 1.0), None);
        assert_eq!(append(10, 2.0), Some(Rejection::Duplicate));
        assert_eq!(append(9, 1.0), Some(Rejection::OutOfOrder));
    }
}
