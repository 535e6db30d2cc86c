//! The most expensive queries of the past, by text.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

/// Most different texts that are remembered. When there are more, the one that took the least time is forgotten.
pub const PAST_QUERIES_MAX: usize = 1000;

/// Longest text that is kept, bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// What is known about all runs of a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PastQuery {
    /// Its text, cut where it is very long.
    pub query: String,
    /// How often it ran.
    pub count: u64,
    /// How often it had no answer.
    pub failures: u64,
    /// Time of all runs, s.
    pub seconds_total: f64,
    /// Time of the longest run, s.
    pub seconds_max: f64,
    /// Samples that took part, all runs together.
    pub samples_total: u64,
    /// Most bytes held at once by a run.
    pub bytes_max: u64,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) took: Duration,
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    pub(crate) failed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Past(HashMap<String, PastQuery>);

impl Past {
    pub(crate) fn add(&mut self, text: &str, run: &Run) {
        let key = cut(text);
        let past = match self.0.get_mut(key) {
            Some(past) => past,
            None => {
                if self.0.len() >= PAST_QUERIES_MAX {
                    self.forget_one();
                }
                let query = key.to_owned();
                self.0.entry(query.clone()).or_insert(PastQuery { query, ..PastQuery::default() })
            }
        };
        let seconds = run.took.as_secs_f64();
        past.count += 1;
        past.failures += u64::from(run.failed);
        past.seconds_total += seconds;
        past.seconds_max = past.seconds_max.max(seconds);
        past.samples_total = past.samples_total.saturating_add(run.samples);
        past.bytes_max = past.bytes_max.max(run.bytes);
    }

    fn forget_one(&mut self) {
        let cheapest = self.0.values().min_by(|a, b| a.seconds_total.total_cmp(&b.seconds_total));
        if let Some(query) = cheapest.map(|past| past.query.clone()) {
            self.0.remove(&query);
        }
    }

    /// The `n` first by what `cost` says, the dearest first.
    pub(crate) fn top(&self, n: usize, cost: impl Fn(&PastQuery) -> f64) -> Vec<PastQuery> {
        let mut all: Vec<&PastQuery> = self.0.values().collect();
        all.sort_by(|a, b| cost(b).total_cmp(&cost(a)).then_with(|| a.query.cmp(&b.query)));
        all.into_iter().take(n).cloned().collect()
    }
}

/// As much of a text as is kept.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ms: u64, bytes: u64) -> Run {
        Run { took: Duration::from_millis(ms), samples: 10, bytes, failed: ms == 0 }
    }

    #[test]
    fn runs_are_added_up_by_text() {
        let mut past = Past::default();
        past.add("a", &run(10, 5));
        past.add("a", &run(0, 7));
        past.add("b", &run(30, 1));
        let a = PastQuery {
            query: "a".into(),
            count: 2,
            failures: 1,
            seconds_total: 0.01,
            seconds_max: 0.01,
            samples_total: 20,
            bytes_max: 7,
        };
        assert_eq!(past.top(1, |past| past.count as f64), [a]);
        assert_eq!(past.top(5, |past| past.seconds_total)[0].query, "b");
    }

    #[test]
    fn cheap_queries_are_forgotten_first() {
        let mut past = Past::default();
        (0..PAST_QUERIES_MAX as u64 + 10).for_each(|n| past.add(&n.to_string(), &run(n + 1, 0)));
        assert_eq!(past.0.len(), PAST_QUERIES_MAX);
        assert!(!past.0.contains_key("0") && past.0.contains_key("500"));
        past.add(&"é".repeat(5000), &run(1, 1));
        assert!(past.0.keys().all(|text| text.len() <= TEXT_BYTES_MAX));
    }
}
