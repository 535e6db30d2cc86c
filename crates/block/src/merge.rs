//! Several streams of series as one.

use std::sync::Arc;

use fk_chunk::{ChunkError, Sample, SampleValue};
use fk_model::{CounterReset, Labels};
use fk_storage::{HistogramValue, StorageError};

use crate::encode::Encoder;
use crate::{ChunkPart, SeriesChunks, SeriesStream};

/// Merges streams: series in order of labels, each once. Chunks of a series that overlap are decoded, merged and encoded
/// anew; all others are passed on as they are. Of samples of the same time one is kept, the one that Prometheus keeps.
pub struct MergeStream<'a> {
    sources: Vec<Source<'a>>,
    labels: Labels,
}

struct Source<'a> {
    stream: Box<dyn SeriesStream + 'a>,
    /// The next series, unless `taken`.
    next: SeriesChunks,
    taken: bool,
    ended: bool,
}

impl<'a> MergeStream<'a> {
    /// Of `sources`, the oldest first.
    pub fn new(sources: Vec<Box<dyn SeriesStream + 'a>>) -> MergeStream<'a> {
        let source = |stream| Source { stream, next: SeriesChunks::default(), taken: true, ended: false };
        MergeStream { sources: sources.into_iter().map(source).collect(), labels: Labels::empty() }
    }
}

impl SeriesStream for MergeStream<'_> {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        for source in self.sources.iter_mut().filter(|source| source.taken && !source.ended) {
            source.ended = !source.stream.next(&mut source.next)?;
            source.taken = false;
        }
        let open = self.sources.iter().filter(|source| !source.ended);
        let Some(labels) = open.map(|source| &source.next.labels).min().cloned() else { return Ok(false) };
        self.labels = labels;
        let labels = &self.labels;
        let mut same: Vec<_> =
            self.sources.iter_mut().filter(|source| !source.ended && source.next.labels == *labels).collect();
        for source in &mut same {
            source.taken = true;
        }
        if let [source] = same.as_mut_slice()
            && !overlap(&source.next.chunks)
        {
            std::mem::swap(out, &mut source.next);
            return Ok(true);
        }
        let series: Vec<&SeriesChunks> = same.iter().map(|source| &source.next).collect();
        merge_series(&series, out)?;
        Ok(true)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let Some((last, others)) = self.sources.split_last() else { return Ok(()) };
        let mut gathered = Strings::default();
        for source in others {
            let mut union = Strings::default();
            walk_union(&gathered, &*source.stream, &mut |text| {
                union.push(text);
                Ok(())
            })?;
            gathered = union;
        }
        walk_union(&gathered, &*last.stream, each)
    }
}

/// Strings in order, one behind the other.
#[derive(Default)]
struct Strings {
    text: String,
    ends: Vec<usize>,
}

impl Strings {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.text[std::mem::replace(&mut start, *end)..*end])
    }
}

/// Calls `each` with the strings of both, in order, each once.
fn walk_union(
    strings: &Strings,
    stream: &dyn SeriesStream,
    each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut ours = strings.iter().peekable();
    stream.symbols(&mut |text| {
        while let Some(ours) = ours.next_if(|ours| *ours < text) {
            each(ours)?;
        }
        ours.next_if(|ours| *ours == text);
        each(text)
    })?;
    ours.try_for_each(each)
}

/// Whether chunks, ascending by `mint`, have a time in common.
pub(crate) fn overlap(chunks: &[ChunkPart]) -> bool {
    chunks.windows(2).any(|pair| pair[1].mint <= pair[0].maxt)
}

/// Makes one series of several with the same labels.
pub(crate) fn merge_series(series: &[&SeriesChunks], out: &mut SeriesChunks) -> Result<(), StorageError> {
    out.clear();
    let Some(first) = series.first() else { return Ok(()) };
    out.labels = first.labels.clone();
    let parts = series.iter().flat_map(|of| of.chunks.iter().map(|part| (part, of.bytes(part))));
    let mut parts: Vec<(&ChunkPart, &[u8])> = parts.collect();
    parts.sort_by_key(|(part, _)| (part.mint, part.maxt));
    let same = |(a, a_bytes): &(&ChunkPart, &[u8]), (b, b_bytes): &(&ChunkPart, &[u8])| {
        (a.mint, a.maxt, a.encoding) == (b.mint, b.maxt, b.encoding) && a_bytes == b_bytes
    };
    let mut rest = parts.as_slice();
    while let [first, others @ ..] = rest {
        // All that overlap, directly or through others, without those that are an exact repeat.
        let (mut maxt, mut before, mut n) = (first.0.maxt, first, 0);
        let mut overlapping = Vec::new();
        for part in others.iter().take_while(|part| {
            let joins = part.0.mint <= maxt;
            maxt = maxt.max(part.0.maxt);
            joins
        }) {
            n += 1;
            if !same(part, before) {
                overlapping.push(*part);
                before = part;
            }
        }
        rest = &others[n..];
        if overlapping.is_empty() {
            let (part, bytes) = first;
            out.push((part.mint, part.maxt), part.encoding, part.samples, bytes);
            continue;
        }
        // In the order in which Prometheus merges them, which decides between samples of the same time.
        overlapping.push(*first);
        merge_samples(&overlapping, out).map_err(|e| StorageError::Corrupt {
            path: format!("series {}", out.labels),
            offset: 0,
            reason: e.to_string(),
        })?;
    }
    Ok(())
}

fn merge_samples(parts: &[(&ChunkPart, &[u8])], out: &mut SeriesChunks) -> Result<(), ChunkError> {
    let mut sources = Vec::with_capacity(parts.len());
    for (part, bytes) in parts {
        let mut samples = Vec::new();
        fk_chunk::decode_exact(part.encoding, bytes, usize::MAX, &mut |sample| {
            samples.push(sample);
            true
        })?;
        sources.push(Cursor { samples, at: None });
    }
    let mut chain = Chain::new(sources);
    let mut encoder = Encoder::default();
    while let Some((sample, consecutive)) = chain.next() {
        match consecutive {
            true => encoder.push(sample, out)?,
            false => encoder.push(&without_hint(sample), out)?,
        }
    }
    encoder.end_chunk(out);
    Ok(())
}

/// Of a counter whose sample before was another source's, nothing is known about resets.
fn without_hint(sample: &Sample) -> Sample {
    let mut sample = sample.clone();
    let hint = |hint: &CounterReset| !matches!(hint, CounterReset::Gauge | CounterReset::Unknown);
    match &mut sample.v {
        SampleValue::Histogram(HistogramValue::Int(h)) if hint(&h.counter_reset) => {
            Arc::make_mut(h).counter_reset = CounterReset::Unknown;
        }
        SampleValue::Histogram(HistogramValue::Float(h)) if hint(&h.counter_reset) => {
            Arc::make_mut(h).counter_reset = CounterReset::Unknown;
        }
        _ => {}
    }
    sample
}

/// Samples of one chunk, and the one that is current.
struct Cursor {
    samples: Vec<Sample>,
    at: Option<usize>,
}

impl Cursor {
    /// Steps on; the time of the next sample.
    fn step(&mut self) -> Option<i64> {
        let at = self.at.map_or(0, |at| at + 1);
        self.at = Some(at);
        self.time()
    }

    fn time(&self) -> Option<i64> {
        self.samples.get(self.at?).map(|sample| sample.t)
    }
}

/// Samples of several chunks in order of time, of each time one. Which one that is depends on nothing but the order in
/// which the sources take turns, and that is the one of Prometheus' chained iterator (`storage/merge.go`): a source goes
/// on until another one has a sample that is not later.
struct Chain {
    sources: Vec<Cursor>,
    /// The sources that wait, by time of their current samples: a binary heap whose equal members are in the order in
    /// which Go's `container/heap` keeps them.
    waiting: Vec<usize>,
    current: Option<usize>,
    last_t: Option<i64>,
    started: bool,
}

impl Chain {
    fn new(sources: Vec<Cursor>) -> Chain {
        let current = (!sources.is_empty()).then_some(0);
        Chain { sources, waiting: Vec::new(), current, last_t: None, started: false }
    }

    /// The next sample, and whether the one before it came from the same source.
    fn next(&mut self) -> Option<(&Sample, bool)> {
        let mut changed = false;
        if !self.started {
            self.started = true;
            changed = true;
            for source in 1..self.sources.len() {
                if self.sources[source].step().is_some() {
                    self.push(source);
                }
            }
        }
        let mut current = self.current?;
        loop {
            match self.sources[current].step() {
                Some(t) if Some(t) == self.last_t => continue,
                Some(t) => {
                    let Some(waiting) = self.waiting.first() else { break };
                    if self.sources[*waiting].time().is_some_and(|first| t < first) {
                        break;
                    }
                    self.push(current);
                }
                None if self.waiting.is_empty() => {
                    self.current = None;
                    return None;
                }
                None => {}
            }
            current = self.pop()?;
            changed = true;
            if self.sources[current].time() != self.last_t {
                break;
            }
        }
        self.current = Some(current);
        let source = &self.sources[current];
        let sample = source.samples.get(source.at?)?;
        self.last_t = Some(sample.t);
        Some((sample, !changed))
    }

    fn less(&self, a: usize, b: usize) -> bool {
        self.sources[self.waiting[a]].time() < self.sources[self.waiting[b]].time()
    }

    fn push(&mut self, source: usize) {
        self.waiting.push(source);
        let mut child = self.waiting.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.less(child, parent) {
                break;
            }
            self.waiting.swap(parent, child);
            child = parent;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let last = self.waiting.len().checked_sub(1)?;
        self.waiting.swap(0, last);
        let mut parent = 0;
        loop {
            let left = 2 * parent + 1;
            if left >= last {
                break;
            }
            let right = left + 1;
            let child = if right < last && self.less(right, left) { right } else { left };
            if !self.less(child, parent) {
                break;
            }
            self.waiting.swap(parent, child);
            parent = child;
        }
        self.waiting.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_chunk::Encoding;
    use fk_chunk::xor::XorChunk;
    use proptest::prelude::*;

    fn chunk(samples: &[(i64, f64)]) -> SeriesChunks {
        let mut series = SeriesChunks { labels: Labels::from_pairs([("a", "1")]), ..SeriesChunks::default() };
        let mut chunk = XorChunk::new();
        for (t, v) in samples {
            chunk.push(*t, *v);
        }
        if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
            series.push((first.0, last.0), Encoding::Xor, samples.len() as u32, chunk.bytes());
        }
        series
    }

    fn samples(series: &SeriesChunks) -> Vec<(i64, f64)> {
        let (mut t, mut v) = (Vec::new(), Vec::new());
        for part in &series.chunks {
            fk_chunk::xor::decode(series.bytes(part), &mut t, &mut v).expect("sound chunk");
        }
        t.into_iter().zip(v).collect()
    }

    fn merged(series: &[&[(i64, f64)]]) -> SeriesChunks {
        let series: Vec<_> = series.iter().map(|samples| chunk(samples)).collect();
        let mut out = SeriesChunks::default();
        merge_series(&series.iter().collect::<Vec<_>>(), &mut out).expect("merge");
        out
    }

    #[test]
    fn chunks_that_do_not_overlap_are_copied() {
        let (a, b) = (chunk(&[(1, 1.0), (2, 2.0)]), chunk(&[(3, 3.0)]));
        let mut out = SeriesChunks::default();
        merge_series(&[&b, &a], &mut out).expect("merge");
        assert_eq!(out.chunks.len(), 2);
        assert_eq!(out.bytes(&out.chunks[0]), a.bytes(&a.chunks[0]));
        assert_eq!(out.bytes(&out.chunks[1]), b.bytes(&b.chunks[0]));
        merge_series(&[&a, &a, &b], &mut out).expect("merge");
        assert_eq!(out.chunks.len(), 2, "an exact repeat is dropped");
    }

    #[test]
    fn the_sample_of_prometheus_wins() {
        // Both begin together: the first source has its way all along.
        assert_eq!(
            samples(&merged(&[&[(1, 1.0), (2, 1.0), (3, 1.0)], &[(1, 2.0), (2, 2.0), (3, 2.0)]])),
            [(1, 1.0), (2, 1.0), (3, 1.0)]
        );
        // The one that begins later takes over.
        assert_eq!(
            samples(&merged(&[&[(1, 1.0), (2, 1.0), (3, 1.0)], &[(2, 2.0), (3, 2.0), (4, 2.0)]])),
            [(1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]
        );
    }

    proptest! {
        #[test]
        fn every_time_comes_once_and_from_a_source(
            sources in proptest::collection::vec(proptest::collection::btree_set(0i64..400, 0..200), 1..5),
        ) {
            let with_values: Vec<Vec<(i64, f64)>> = sources.iter().enumerate()
                .map(|(i, times)| times.iter().map(|t| (*t, i as f64)).collect()).collect();
            let out = merged(&with_values.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let expected: std::collections::BTreeSet<i64> = sources.iter().flatten().copied().collect();
            let got = samples(&out);
            prop_assert_eq!(got.iter().map(|(t, _)| *t).collect::<Vec<_>>(), Vec::from_iter(expected));
            prop_assert!(got.iter().all(|(t, v)| sources[*v as usize].contains(t)));
            prop_assert!(!overlap(&out.chunks));
            for part in &out.chunks {
                prop_assert_eq!(part.encoding.count(out.bytes(part)), Some(part.samples as usize));
            }
        }
    }
}
