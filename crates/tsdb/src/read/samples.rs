//! Samples of one series from several sources as one row.
//!
//! Of several samples at the same time one is kept. Which one follows Prometheus: its merging iterator stays with a source
//! until another one has an older sample *or one of the same time*, and then goes on with that. So where two overlap they
//! take turns: at each common time the one wins that was not read last. The order among those waiting is that of Go's
//! `container/heap`, which decides for more than two.

use std::sync::Arc;

use fk_model::CounterReset;
use fk_storage::Samples;

/// Where reading stands in a source.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    part: usize,
    at: usize,
}

/// The sources that wait, the one with the oldest next sample first.
struct Heap<'s> {
    parts: &'s [Samples],
    cursors: Vec<Cursor>,
}

/// Appends the samples of `parts`, each ascending by time, to `out`, ascending and without a time twice.
pub(super) fn merge(parts: &[Samples], out: &mut Samples) {
    let mut heap = Heap { parts, cursors: Vec::with_capacity(parts.len()) };
    for (part, samples) in parts.iter().enumerate() {
        if !samples.is_empty() {
            heap.push(Cursor { part, at: 0 });
        }
    }
    let Some(mut current) = heap.pop() else { return };
    let mut changed = true;
    loop {
        let samples = &parts[current.part];
        // As far as this source is alone: one copy.
        let end = match heap.first_time() {
            None => samples.len(),
            Some(next) => current.at + 1 + samples.t[current.at + 1..].partition_point(|t| *t < next),
        };
        append(samples, current.at..end, changed, out);
        let last = samples.t[end - 1];
        current.at = end;
        changed = false;
        loop {
            if let Some(&t) = parts[current.part].t.get(current.at) {
                if t == last {
                    current.at += 1;
                    continue;
                }
                if heap.first_time().is_none_or(|next| t < next) {
                    break;
                }
                heap.push(current);
            }
            let Some(next) = heap.pop() else { return };
            current = next;
            changed = true;
            if parts[current.part].t[current.at] != last {
                break;
            }
            current.at += 1;
        }
    }
}

/// Appends a range of samples. If they come from another source than those before them, nobody knows whether a counter was
/// reset in between.
fn append(from: &Samples, range: std::ops::Range<usize>, changed: bool, out: &mut Samples) {
    let start = out.len();
    out.t.extend_from_slice(&from.t[range.clone()]);
    out.v.extend_from_slice(&from.v[range.clone()]);
    if !from.starts.is_empty() {
        out.starts.resize(start, 0);
        out.starts.extend_from_slice(&from.starts[range.clone()]);
    } else if !out.starts.is_empty() {
        out.starts.resize(out.t.len(), 0);
    }
    let first = from.histograms.partition_point(|(at, _)| (*at as usize) < range.start);
    for (at, histogram) in from.histograms[first..].iter().take_while(|(at, _)| (*at as usize) < range.end) {
        let mut histogram = Arc::clone(histogram);
        let known = !matches!(histogram.counter_reset, CounterReset::Unknown | CounterReset::Gauge);
        if changed && known && *at as usize == range.start {
            Arc::make_mut(&mut histogram).counter_reset = CounterReset::Unknown;
        }
        out.histograms.push(((start + *at as usize - range.start) as u32, histogram));
    }
}

// === impl Heap ===

impl Heap<'_> {
    fn first_time(&self) -> Option<i64> {
        self.cursors.first().map(|c| self.parts[c.part].t[c.at])
    }

    fn less(&self, a: usize, b: usize) -> bool {
        let t = |i: usize| self.parts[self.cursors[i].part].t[self.cursors[i].at];
        t(a) < t(b)
    }

    fn push(&mut self, cursor: Cursor) {
        self.cursors.push(cursor);
        let mut at = self.cursors.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.less(at, parent) {
                break;
            }
            self.cursors.swap(at, parent);
            at = parent;
        }
    }

    fn pop(&mut self) -> Option<Cursor> {
        if self.cursors.is_empty() {
            return None;
        }
        // The last one takes the place of the first and sinks.
        let popped = self.cursors.swap_remove(0);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= self.cursors.len() {
                break;
            }
            let child = if right < self.cursors.len() && self.less(right, left) { right } else { left };
            if !self.less(child, at) {
                break;
            }
            self.cursors.swap(at, child);
            at = child;
        }
        Some(popped)
    }
}
