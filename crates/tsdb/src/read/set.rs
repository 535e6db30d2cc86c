//! Series sets over one or several sources.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;
use smallvec::SmallVec;

use fk_model::Labels;
use fk_storage::{Control, Newest, Samples, SeriesSet, StorageError, TimeRange};

use super::{Pinned, samples};

/// Series merged between two looks at the control.
const SERIES_GROUP: usize = 1024;

/// Scratch columns kept for reuse: those of about as many threads as read one set at the same time.
const SCRATCHES_MAX: usize = 16;

/// Most overlapping sources of a series whose list needs no allocation.
const PARTS_INLINE: usize = 8;

/// What one source has found.
pub(super) struct Source {
    pub set: Box<dyn SeriesSet>,
    /// Outside of it there is no sample.
    pub span: TimeRange,
}

/// The series of all sources; in order of labels if there are several, each source being so.
pub(super) fn merge(
    mut sources: Vec<Source>,
    limit: usize,
    control: &Control,
    pinned: Pinned,
) -> Result<Box<dyn SeriesSet>, StorageError> {
    // A source without series does not take part, but has decided about the order.
    sources.retain(|source| !source.set.is_empty());
    if sources.len() < 2 {
        let set = sources.pop().map(|source| source.set);
        return Ok(Box::new(Lone { set, control: control.clone(), _pinned: pinned }));
    }
    let mut merged = Merged {
        starts: vec![0],
        parts: Vec::new(),
        scratches: Mutex::default(),
        control: control.clone(),
        sources,
        _pinned: pinned,
    };
    merged.fill(limit)?;
    Ok(Box::new(merged))
}

/// The series of one source (or none), in its order.
struct Lone {
    set: Option<Box<dyn SeriesSet>>,
    control: Control,
    _pinned: Pinned,
}

/// Series of several sources. Their labels are read when they are asked for: of many series they would take more room than
/// all else.
struct Merged {
    sources: Vec<Source>,
    /// Where the parts of each series begin, and the end of the last.
    starts: Vec<u32>,
    parts: Vec<Part>,
    scratches: Mutex<Vec<Vec<Samples>>>,
    control: Control,
    _pinned: Pinned,
}

/// A series within a source.
#[derive(Clone, Copy, Debug)]
struct Part {
    source: u32,
    idx: u32,
}

/// What a damaged source has read counts, and the damage is told. Only if nothing at all can be answered the query fails.
fn tolerate(result: Result<(), StorageError>, nothing_else: bool, control: &Control) -> Result<(), StorageError> {
    match result {
        Err(error @ StorageError::Corrupt { .. }) if !nothing_else => {
            control.warn(error.to_string());
            Ok(())
        }
        result => result,
    }
}

// === impl Lone ===

impl Lone {
    fn set(&self) -> &dyn SeriesSet {
        self.set.as_deref().expect("an index below the length, so there is a set")
    }
}

impl SeriesSet for Lone {
    fn len(&self) -> usize {
        self.set.as_ref().map_or(0, |set| set.len())
    }

    fn labels(&self, idx: usize) -> Labels {
        self.set().labels(idx)
    }

    fn labels_where(&self, idx: usize, keep: &dyn Fn(&str) -> bool) -> Labels {
        self.set().labels_where(idx, keep)
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        let result = self.set().read(idx, range, out);
        tolerate(result, self.len() == 1 && out.is_empty(), &self.control)?;
        self.control.count_series(out.len());
        Ok(())
    }

    fn last(&self, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        match self.set().last(idx, range) {
            Err(StorageError::Corrupt { .. }) => last_of_all(self, idx, range),
            result => {
                self.control.count_series(1);
                result
            }
        }
    }
}

/// The newest sample, found the long way.
fn last_of_all(set: &dyn SeriesSet, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
    let mut samples = Samples::default();
    set.read(idx, range, &mut samples)?;
    Ok(samples.last())
}

// === impl Merged ===

impl Merged {
    /// Finds which series of the sources are the same.
    fn fill(&mut self, limit: usize) -> Result<(), StorageError> {
        let Merged { sources, starts, parts, control, .. } = self;
        let mut last: Option<Labels> = None;
        // The next series of each source; of equal ones the first source comes first.
        let mut next: BinaryHeap<Reverse<(Labels, u32)>> = BinaryHeap::with_capacity(sources.len());
        let mut at: Vec<u32> = vec![0; sources.len()];
        for (i, source) in sources.iter().enumerate() {
            next.push(Reverse((source.set.labels(0), i as u32)));
        }
        while let Some(Reverse((of_series, source))) = next.pop() {
            let i = source as usize;
            let part = Part { source, idx: at[i] };
            at[i] += 1;
            let set = &sources[i].set;
            if (at[i] as usize) < set.len() {
                next.push(Reverse((set.labels(at[i] as usize), source)));
            }
            // No series is without labels: these are damaged, and the source has told it.
            if of_series.is_empty() {
                continue;
            }
            if last.as_ref() != Some(&of_series) {
                // The series so far: those that have ended, and the last one.
                let series = starts.len() - 1 + usize::from(last.is_some());
                if limit > 0 && series == limit {
                    break;
                }
                if series.is_multiple_of(SERIES_GROUP) {
                    control.check()?;
                }
                if last.is_some() {
                    starts.push(parts.len() as u32);
                }
                last = Some(of_series);
            }
            parts.push(part);
        }
        if last.is_some() {
            starts.push(parts.len() as u32);
        }
        Ok(())
    }

    fn parts(&self, idx: usize) -> &[Part] {
        &self.parts[self.starts[idx] as usize..self.starts[idx + 1] as usize]
    }

    /// The parts that may have samples in the range.
    fn parts_in(&self, idx: usize, range: TimeRange) -> SmallVec<[Part; PARTS_INLINE]> {
        let overlaps = |part: &Part| {
            let span = self.sources[part.source as usize].span;
            span.mint <= range.maxt && range.mint <= span.maxt
        };
        self.parts(idx).iter().copied().filter(overlaps).collect()
    }

    /// Reads one part. `alone`: the series has no other.
    fn read_part(&self, part: Part, alone: bool, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        let result = self.sources[part.source as usize].set.read(part.idx as usize, range, out);
        tolerate(result, alone && self.len() == 1 && out.is_empty(), &self.control)
    }
}

impl SeriesSet for Merged {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn labels(&self, idx: usize) -> Labels {
        let first = self.parts(idx)[0];
        self.sources[first.source as usize].set.labels(first.idx as usize)
    }

    fn labels_where(&self, idx: usize, keep: &dyn Fn(&str) -> bool) -> Labels {
        let first = self.parts(idx)[0];
        self.sources[first.source as usize].set.labels_where(first.idx as usize, keep)
    }

    fn read(&self, idx: usize, range: TimeRange, out: &mut Samples) -> Result<(), StorageError> {
        out.clear();
        let parts = self.parts_in(idx, range);
        match parts[..] {
            [] => {}
            [part] => self.read_part(part, true, range, out)?,
            _ => {
                let mut columns = self.scratches.lock().pop().unwrap_or_default();
                columns.resize_with(columns.len().max(parts.len()), Samples::default);
                for (part, column) in parts.iter().zip(&mut columns) {
                    self.read_part(*part, false, range, column)?;
                }
                samples::merge(&columns[..parts.len()], out);
                let mut scratches = self.scratches.lock();
                if scratches.len() < SCRATCHES_MAX {
                    scratches.push(columns);
                }
            }
        }
        self.control.count_series(out.len());
        Ok(())
    }

    fn last(&self, idx: usize, range: TimeRange) -> Result<Option<Newest>, StorageError> {
        let mut newest: Option<Newest> = None;
        // The head is the first source, and then the last block is the newest.
        let parts = self.parts_in(idx, range);
        let (head, blocks) = parts.split_at(parts.len().min(1));
        for part in head.iter().chain(blocks.iter().rev()) {
            let source = &self.sources[part.source as usize];
            if newest.as_ref().is_some_and(|newest| newest.t > source.span.maxt) {
                continue;
            }
            let Some(found) = (match source.set.last(part.idx as usize, range) {
                Err(StorageError::Corrupt { .. }) => return last_of_all(self, idx, range),
                result => result?,
            }) else {
                continue;
            };
            match &newest {
                Some(newest) if newest.t > found.t => {}
                // Which one counts, reading decides.
                Some(newest)
                    if newest.t == found.t
                        && (newest.v.to_bits() != found.v.to_bits() || newest.h.is_some() || found.h.is_some()) =>
                {
                    return last_of_all(self, idx, range);
                }
                _ => newest = Some(found),
            }
        }
        self.control.count_series(usize::from(newest.is_some()));
        Ok(newest)
    }
}
