//! What functions of range vectors find out about histograms. They run on any thread and know neither metric name nor
//! place, so they only say what: the caller makes annotations of it.

use fk_model::Labels;
use fk_promql_syntax::ast::Pos;

use crate::annotations::Annotations;

/// One thing to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Note {
    /// Floats and histograms in one window, where only one kind can be.
    MixedFloats,
    /// Histograms with exponential and with custom buckets in one window.
    MixedBuckets,
    /// A gauge where there should be a counter.
    NotCounter,
    /// A counter where there should be a gauge.
    NotGauge,
    /// Histograms were left out, since there were floats.
    Ignored,
    /// Custom buckets were reconciled while adding.
    ReconciledAdd,
    /// The same while subtracting.
    ReconciledSub,
    /// The same while aggregating.
    ReconciledAggregate,
    /// Contradicting hints of counter resets while aggregating.
    CollisionAggregate,
    /// A sample counts since before the one before it. This one is counted.
    StartOverlap,
}

/// A set of [`Note`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    set: u16,
    overlaps: u32,
}

impl Notes {
    const ALL: [Note; 10] = [
        Note::MixedFloats,
        Note::MixedBuckets,
        Note::NotCounter,
        Note::NotGauge,
        Note::Ignored,
        Note::ReconciledAdd,
        Note::ReconciledSub,
        Note::ReconciledAggregate,
        Note::CollisionAggregate,
        Note::StartOverlap,
    ];

    pub(crate) fn add(&mut self, note: Note) {
        self.set |= 1 << note as u8;
        self.overlaps += u32::from(note == Note::StartOverlap);
    }

    pub(crate) fn merge(&mut self, other: Notes) {
        self.set |= other.set;
        self.overlaps += other.overlaps;
    }

    pub(crate) fn has(self, note: Note) -> bool {
        self.set >> note as u8 & 1 == 1
    }

    pub(crate) fn is_empty(self) -> bool {
        self.set == 0
    }

    /// Makes annotations of them.
    pub(crate) fn tell(self, labels: &Labels, at: Pos, to: &mut Annotations<'_>) {
        for note in Notes::ALL.into_iter().filter(|note| self.has(*note)) {
            match note {
                Note::StartOverlap => to.start_overlap(labels.metric_name(), self.overlaps, at),
                note => to.histogram_note(note, labels.metric_name(), at),
            }
        }
    }
}
