//! Exemplars: a ring of bounded size, shared by all series.
//!
//! The newest exemplar takes the place of the oldest *arrived* one, whatever series they belong to; each series knows its
//! own in order of time. An exemplar whose series has gone stays until it is overwritten, as in Prometheus, so the series
//! is kept by its labels and not by its reference.
//!
//! Rules are those of Prometheus (`tsdb/exemplar.go`): a repeat of the newest one of a series is no new exemplar; one that is
//! older is refused, unless it lies within the out-of-order window; of equal times the value and then the hash of the
//! labels decide.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::{RwLock, RwLockReadGuard};

use fk_model::{Labels, Matcher};
use fk_storage::{Exemplar, ExemplarSeries, Rejection, TimeRange};

/// Most characters of the names and values of an exemplar's labels, all together.
pub const LABELS_CHARS_MAX: usize = 128;

/// The exemplars of a storage. All methods can be called at any time by anybody.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    ring: RwLock<Ring>,
    /// Held for reading from when exemplars are logged until they are stored.
    logging: RwLock<()>,
    window_ms: AtomicI64,
    appended: AtomicU64,
    out_of_order: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    max: usize,
    /// Grows up to `max`.
    entries: Vec<Entry>,
    /// The entry to be written next.
    next: usize,
    series: HashMap<Labels, VecDeque<u32>>,
}

#[derive(Debug)]
struct Entry {
    series: Labels,
    exemplar: Exemplar,
}

/// What is said about them in metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ExemplarStats {
    pub max: usize,
    pub stored: usize,
    pub series: usize,
    pub appended: u64,
    pub out_of_order: u64,
    /// Time of the one that will be overwritten next, ms.
    pub last_t: Option<i64>,
}

impl Ring {
    /// What to do with an exemplar: store it, drop it silently (`Ok(false)`), or refuse it.
    fn check(&self, series: &Labels, e: &Exemplar, window_ms: i64) -> Result<bool, Rejection> {
        let chars = |text: &str| text.chars().count();
        if e.labels.iter().map(|(name, value)| chars(name) + chars(value)).sum::<usize>() > LABELS_CHARS_MAX {
            return Err(Rejection::ExemplarTooLong);
        }
        let Some(list) = self.series.get(series) else { return Ok(true) };
        let Some(newest) = list.back().map(|idx| &self.entries[*idx as usize].exemplar) else { return Ok(true) };
        if newest.t == e.t && newest.v.to_bits() == e.v.to_bits() && newest.labels == e.labels {
            return Ok(false);
        }
        let older = e.t < newest.t && e.t <= newest.t.saturating_sub(window_ms);
        let same_time =
            e.t == newest.t && (e.v < newest.v || (e.v == newest.v && hash(&e.labels) < hash(&newest.labels)));
        if older || same_time {
            return Err(Rejection::ExemplarOutOfOrder);
        }
        // Of a time in the past there is only one.
        Ok(e.t >= newest.t || !list.iter().any(|idx| self.entries[*idx as usize].exemplar.t == e.t))
    }

    fn insert(&mut self, series: &Labels, exemplar: Exemplar) {
        let at = self.next;
        let t = exemplar.t;
        let entry = Entry { series: series.clone(), exemplar };
        if at < self.entries.len() {
            self.forget(at);
            self.entries[at] = entry;
        } else {
            self.entries.push(entry);
        }
        self.next = (at + 1) % self.max;
        let entries = &self.entries;
        let list = self.series.entry(series.clone()).or_default();
        let place = list.iter().rposition(|idx| entries[*idx as usize].exemplar.t <= t).map_or(0, |idx| idx + 1);
        list.insert(place, at as u32);
    }

    /// Takes an entry off the list of its series.
    fn forget(&mut self, at: usize) {
        let series = &self.entries[at].series;
        if let Some(list) = self.series.get_mut(series) {
            // Nearly always the first.
            if let Some(place) = list.iter().position(|idx| *idx as usize == at) {
                list.remove(place);
            }
            if list.is_empty() {
                self.series.remove(series);
            }
        }
    }

    /// The entries in the order in which they arrived.
    fn arrived(&self) -> impl Iterator<Item = &Entry> {
        let (newer, older) = self.entries.split_at(if self.entries.len() < self.max { 0 } else { self.next });
        older.iter().chain(newer)
    }
}

fn hash(labels: &Labels) -> u64 {
    FixedState::with_seed(0).hash_one(labels)
}

impl Exemplars {
    /// Sets how many are kept, 0 for none, and the out-of-order window. The newest ones stay.
    pub fn configure(&self, max: usize, window_ms: i64) {
        self.window_ms.store(window_ms, Ordering::Relaxed);
        let mut ring = self.ring.write();
        if ring.max == max {
            return;
        }
        let kept: Vec<_> = ring.arrived().map(|e| (e.series.clone(), e.exemplar.clone())).collect();
        *ring = Ring { max, ..Ring::default() };
        if max > 0 {
            for (series, exemplar) in &kept[kept.len().saturating_sub(max)..] {
                ring.insert(series, exemplar.clone());
            }
        }
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        let mut ring = self.ring.write();
        *ring = Ring { max: ring.max, ..Ring::default() };
    }

    /// To be held from before exemplars are logged until they are stored.
    pub fn logging(&self) -> RwLockReadGuard<'_, ()> {
        self.logging.read()
    }

    /// Waits until what was logged before is stored.
    pub fn wait_for_appends(&self) {
        drop(self.logging.write());
    }

    /// Calls `each` with all exemplars and the labels of their series, in the order in which they arrived.
    pub fn each(&self, mut each: impl FnMut(&Labels, &Exemplar)) {
        self.ring.read().arrived().for_each(|entry| each(&entry.series, &entry.exemplar));
    }

    /// Whether any are kept at all.
    pub fn is_on(&self) -> bool {
        self.ring.read().max > 0
    }

    /// Whether an exemplar would be stored now: `Ok(false)` if it is a repeat.
    pub fn check(&self, series: &Labels, exemplar: &Exemplar) -> Result<bool, Rejection> {
        let result = self.ring.read().check(series, exemplar, self.window_ms.load(Ordering::Relaxed));
        if result == Err(Rejection::ExemplarOutOfOrder) {
            self.out_of_order.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Stores an exemplar, if it still can be. To be called with one that is in the log.
    pub fn add(&self, series: &Labels, exemplar: Exemplar) {
        let mut ring = self.ring.write();
        let window_ms = self.window_ms.load(Ordering::Relaxed);
        if ring.max > 0 && ring.check(series, &exemplar, window_ms) == Ok(true) {
            ring.insert(series, exemplar);
            self.appended.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The exemplars in the range of the series that one of the sets accepts, in order of labels.
    pub fn select(&self, range: TimeRange, sets: &[Vec<Matcher>]) -> Vec<ExemplarSeries> {
        let ring = self.ring.read();
        let accepts = |labels: &Labels| {
            let all = |set: &Vec<Matcher>| set.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
            sets.is_empty() || sets.iter().any(all)
        };
        let mut found = Vec::new();
        for (labels, list) in &ring.series {
            let exemplar = |idx: &u32| &ring.entries[*idx as usize].exemplar;
            let within = |e: &&Exemplar| (range.mint..=range.maxt).contains(&e.t);
            if !list.iter().map(exemplar).any(|e| within(&e)) || !accepts(labels) {
                continue;
            }
            let exemplars = list.iter().map(exemplar).filter(within).cloned().collect();
            found.push(ExemplarSeries { labels: labels.clone(), exemplars });
        }
        found.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        found
    }

    /// See [`ExemplarStats`].
    pub fn stats(&self) -> ExemplarStats {
        let ring = self.ring.read();
        ExemplarStats {
            max: ring.max,
            stored: ring.entries.len(),
            series: ring.series.len(),
            appended: self.appended.load(Ordering::Relaxed),
            out_of_order: self.out_of_order.load(Ordering::Relaxed),
            last_t: ring.arrived().next().map(|e| e.exemplar.t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    fn exemplar(t: i64, v: f64, id: &str) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", id)]), v, t }
    }

    fn exemplars(max: usize, window_ms: i64) -> Exemplars {
        let exemplars = Exemplars::default();
        exemplars.configure(max, window_ms);
        exemplars
    }

    const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

    /// Times per series, in order of labels.
    fn times(exemplars: &Exemplars) -> Vec<(String, Vec<i64>)> {
        let found = exemplars.select(ALL, &[]);
        let row = |s: &ExemplarSeries| {
            (s.labels.get("__name__").unwrap().to_owned(), s.exemplars.iter().map(|e| e.t).collect())
        };
        found.iter().map(row).collect()
    }

    #[test]
    fn the_oldest_arrival_goes_first_whatever_its_series() {
        let exemplars = exemplars(3, 0);
        for (name, t) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
            exemplars.add(&series(name), exemplar(t, 1.0, "x"));
        }
        assert_eq!(times(&exemplars), [("a".into(), vec![3, 4]), ("b".into(), vec![2])]);
        exemplars.add(&series("c"), exemplar(5, 1.0, "x"));
        assert_eq!(times(&exemplars), [("a".into(), vec![3, 4]), ("c".into(), vec![5])]);
        let stats = exemplars.stats();
        assert_eq!((stats.stored, stats.series, stats.appended, stats.last_t), (3, 2, 5, Some(3)));
    }

    #[test]
    fn repeats_are_dropped_and_older_ones_refused() {
        let exemplars = exemplars(10, 0);
        let a = series("a");
        exemplars.add(&a, exemplar(10, 5.0, "x"));
        let long = "é".repeat(LABELS_CHARS_MAX - "trace_id".len());
        let cases = [
            (exemplar(10, 5.0, "x"), Ok(false)),
            (exemplar(10, 6.0, "x"), Ok(true)),
            (exemplar(10, 4.0, "x"), Err(Rejection::ExemplarOutOfOrder)),
            (exemplar(9, 5.0, "x"), Err(Rejection::ExemplarOutOfOrder)),
            (exemplar(11, 1.0, &long), Ok(true)),
            (exemplar(11, 1.0, &format!("{long}e")), Err(Rejection::ExemplarTooLong)),
        ];
        for (e, expected) in cases {
            assert_eq!(exemplars.check(&a, &e), expected, "{e:?}");
        }
        assert_eq!(exemplars.stats().out_of_order, 2);
    }

    #[test]
    fn within_the_window_older_ones_find_their_place() {
        let exemplars = exemplars(10, 100);
        let a = series("a");
        for t in [200, 150, 170, 150, 100, 101] {
            if exemplars.check(&a, &exemplar(t, 1.0, "x")) == Ok(true) {
                exemplars.add(&a, exemplar(t, 1.0, "x"));
            }
        }
        assert_eq!(times(&exemplars), [("a".into(), vec![101, 150, 170, 200])]);
    }

    #[test]
    fn another_size_keeps_the_newest() {
        let exemplars = exemplars(4, 0);
        for t in 0..6 {
            exemplars.add(&series("a"), exemplar(t, 1.0, "x"));
        }
        exemplars.configure(2, 0);
        assert_eq!(times(&exemplars), [("a".into(), vec![4, 5])]);
        exemplars.configure(5, 0);
        exemplars.add(&series("b"), exemplar(9, 1.0, "x"));
        assert_eq!(times(&exemplars), [("a".into(), vec![4, 5]), ("b".into(), vec![9])]);
        exemplars.configure(0, 0);
        exemplars.add(&series("b"), exemplar(10, 1.0, "x"));
        assert_eq!((times(&exemplars), exemplars.is_on()), (vec![], false));
    }

    #[test]
    fn matcher_sets_and_the_range_choose() {
        let exemplars = exemplars(10, 0);
        for (name, t) in [("a", 1), ("b", 2), ("c", 3)] {
            exemplars.add(&series(name), exemplar(t, 1.0, "x"));
        }
        let is = |name: &str| vec![Matcher::new(fk_model::MatchKind::Equal, "__name__", name).expect("a matcher")];
        let found = exemplars.select(TimeRange { mint: 2, maxt: 9 }, &[is("a"), is("c")]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].labels, series("c"));
    }
}
