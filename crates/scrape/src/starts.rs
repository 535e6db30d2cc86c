//! Where the series of a target began to count.
//!
//! With zero samples, a start that is new for a series is written as a sample of zero. With synthesis, a counter that does not say
//! where it began is taken to begin with its first scrape: that is withheld, later ones are what was added since. A counter that
//! falls has begun anew just before.

use std::collections::HashMap;

use fk_exposition::ExposedHistogram;
use fk_model::FloatHistogram;
use fk_model::Histogram;
use fk_model::histogram::CounterReset;
use fk_storage::SeriesRef;

use crate::cache::ScrapeNo;

/// The starts of a target's series. A series is forgotten when a good scrape lacks it.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// The last start that was exposed.
    exposed: HashMap<SeriesRef, (i64, ScrapeNo)>,
    synthesized: HashMap<SeriesRef, (Synthesis, ScrapeNo)>,
}

/// What a sample is stored as, and the start of its series, ms; `None`: it is withheld.
pub(crate) type Adjusted<T> = Option<(T, i64)>;

/// The beginning of one series, and its last value as it was exposed.
#[derive(Debug)]
struct Synthesis {
    start_ms: i64,
    counts: Counts,
}

#[derive(Debug)]
enum Counts {
    Float { previous: f64, first: f64 },
    Histogram(Box<Histograms>),
}

#[derive(Debug)]
struct Histograms {
    previous: FloatHistogram,
    /// `None` after a reset: there is nothing to subtract.
    first: Option<FloatHistogram>,
}

impl Starts {
    /// Whether a start is another one than that of the scrapes before.
    pub(crate) fn is_new(&mut self, series: SeriesRef, start_ms: i64, now: ScrapeNo) -> bool {
        self.exposed.insert(series, (start_ms, now)).is_none_or(|(before, _)| before != start_ms)
    }

    /// Whether a series counts from its first scrape.
    pub(crate) fn is_synthesized(&self, series: SeriesRef) -> bool {
        self.synthesized.contains_key(&series)
    }

    /// A float sample of a counter without a start.
    pub(crate) fn float(&mut self, series: SeriesRef, v: f64, t: i64, now: ScrapeNo) -> Adjusted<f64> {
        if let Some((synthesis, seen)) = self.synthesized.get_mut(&series)
            && let Counts::Float { previous, first } = &mut synthesis.counts
        {
            *seen = now;
            if v < *previous {
                *first = 0.0;
                synthesis.start_ms = t - 1;
            }
            *previous = v;
            return Some((v - *first, synthesis.start_ms));
        }
        let counts = Counts::Float { previous: v, first: v };
        self.synthesized.insert(series, (Synthesis { start_ms: t, counts }, now));
        None
    }

    /// A histogram without a start.
    pub(crate) fn histogram(
        &mut self,
        series: SeriesRef,
        h: ExposedHistogram,
        t: i64,
        now: ScrapeNo,
    ) -> Adjusted<ExposedHistogram> {
        let float = match &h {
            ExposedHistogram::Int(h) => h.to_float(),
            ExposedHistogram::Float(h) => h.clone(),
        };
        if let Some((synthesis, seen)) = self.synthesized.get_mut(&series)
            && let Counts::Histogram(known) = &mut synthesis.counts
        {
            let Histograms { previous, first } = &mut **known;
            *seen = now;
            if float.is_reset(previous) {
                *first = None;
                synthesis.start_ms = t - 1;
            }
            let adjusted = match first {
                None => h,
                Some(first) => added_since(h, &float, first),
            };
            *previous = float;
            return Some((adjusted, synthesis.start_ms));
        }
        let counts = Counts::Histogram(Box::new(Histograms { previous: float.clone(), first: Some(float) }));
        self.synthesized.insert(series, (Synthesis { start_ms: t, counts }, now));
        None
    }

    /// Forgets what is known about a series: its sample could not be stored.
    pub(crate) fn forget(&mut self, series: SeriesRef) {
        self.synthesized.remove(&series);
    }

    /// At the end of scrape number `now`.
    pub(crate) fn end_scrape(&mut self, now: ScrapeNo, good: bool) {
        if good {
            self.exposed.retain(|_, (_, seen)| *seen == now);
            self.synthesized.retain(|_, (_, seen)| *seen == now);
        }
    }
}

/// What a histogram has more than at its first scrape. If the two cannot be compared it stays as it is.
fn added_since(h: ExposedHistogram, float: &FloatHistogram, first: &FloatHistogram) -> ExposedHistogram {
    let mut added = float.clone();
    if added.sub(first).is_err() {
        return h;
    }
    added.compact(0);
    let ExposedHistogram::Int(h) = h else { return ExposedHistogram::Float(added) };
    let deltas = |counts: &[f64]| {
        let mut before = 0i64;
        counts.iter().map(|count| *count as i64 - std::mem::replace(&mut before, *count as i64)).collect()
    };
    ExposedHistogram::Int(Histogram {
        counter_reset: h.counter_reset,
        schema: added.schema,
        zero_threshold: added.zero_threshold,
        zero_count: added.zero_count as u64,
        count: added.count as u64,
        sum: added.sum,
        positive_buckets: deltas(&added.positive_buckets),
        negative_buckets: deltas(&added.negative_buckets),
        positive_spans: added.positive_spans,
        negative_spans: added.negative_spans,
        custom_values: added.custom_values,
    })
}

/// A histogram of the same shape without any observation: what one that began to count had at its start.
pub(crate) fn empty_like(h: &ExposedHistogram) -> ExposedHistogram {
    match h {
        ExposedHistogram::Int(h) => ExposedHistogram::Int(Histogram {
            counter_reset: CounterReset::Reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..Histogram::default()
        }),
        ExposedHistogram::Float(h) => ExposedHistogram::Float(FloatHistogram {
            counter_reset: CounterReset::Reset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..FloatHistogram::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_model::histogram::Span;

    const SERIES: SeriesRef = SeriesRef(7);

    #[test]
    fn counters_count_from_their_first_scrape() {
        let mut starts = Starts::default();
        assert_eq!(starts.float(SERIES, 10.0, 1000, 1), None);
        assert_eq!(starts.float(SERIES, 13.0, 2000, 2), Some((3.0, 1000)));
        assert_eq!(starts.float(SERIES, 2.0, 3000, 3), Some((2.0, 2999)));
        assert_eq!(starts.float(SERIES, 5.0, 4000, 4), Some((5.0, 2999)));
        starts.end_scrape(5, false);
        assert!(starts.is_synthesized(SERIES));
        starts.end_scrape(5, true);
        assert_eq!(starts.float(SERIES, 6.0, 6000, 6), None);
    }

    fn histogram(counts: &[i64]) -> ExposedHistogram {
        let mut before = 0;
        ExposedHistogram::Int(Histogram {
            count: counts.iter().sum::<i64>() as u64,
            sum: counts.iter().sum::<i64>() as f64,
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts.iter().map(|count| count - std::mem::replace(&mut before, *count)).collect(),
            ..Histogram::default()
        })
    }

    #[test]
    fn histograms_count_from_their_first_scrape() {
        let mut starts = Starts::default();
        assert_eq!(starts.histogram(SERIES, histogram(&[1, 2, 3]), 1000, 1), None);
        assert_eq!(starts.histogram(SERIES, histogram(&[3, 5, 8]), 2000, 2), Some((histogram(&[2, 3, 5]), 1000)));
        assert_eq!(starts.histogram(SERIES, histogram(&[1, 1, 1]), 3000, 3), Some((histogram(&[1, 1, 1]), 2999)));
        assert_eq!(starts.histogram(SERIES, histogram(&[1, 1, 2]), 4000, 4), Some((histogram(&[1, 1, 2]), 2999)));
    }

    #[test]
    fn a_start_is_new_once() {
        let mut starts = Starts::default();
        let found = [(5, 1), (5, 2), (6, 3)].map(|(start, now)| starts.is_new(SERIES, start, now));
        assert_eq!(found, [true, false, true]);
        starts.end_scrape(4, true);
        assert!(starts.is_new(SERIES, 6, 5));
    }
}
