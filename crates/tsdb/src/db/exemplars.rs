//! Exemplars of a data directory: checked and logged with their batch, kept in a ring, read back at start.

use std::collections::VecDeque;

use fk_model::Labels;
use fk_storage::{AppendReport, Batch, Exemplar, Rejection, SeriesRef};
use fk_wal::record::encode_exemplars;

use super::Db;
use crate::head::Head;

/// The exemplars of a batch that will be stored: series, its labels, index in the batch.
pub(super) type Chosen = Vec<(SeriesRef, Labels, usize)>;

impl Db {
    /// Sorts the exemplars of a batch into those to be stored and rejected ones.
    pub(super) fn choose_exemplars(&self, batch: &Batch, report: &mut AppendReport) -> Chosen {
        let mut chosen = Chosen::new();
        if batch.exemplars.is_empty() || !self.exemplars.is_on() {
            return chosen;
        }
        for (idx, (series, exemplar)) in batch.exemplars.iter().enumerate() {
            let Some(labels) = self.head.labels_of(*series) else {
                report.rejected_exemplars.push((idx, Rejection::UnknownSeries));
                continue;
            };
            match self.exemplars.check(&labels, exemplar) {
                Ok(true) => chosen.push((*series, labels, idx)),
                Ok(false) => {}
                Err(why) => report.rejected_exemplars.push((idx, why)),
            }
        }
        chosen
    }

    /// The record of the chosen exemplars; no bytes if there are none.
    pub(super) fn encode_chosen(batch: &Batch, chosen: &Chosen) -> Vec<u8> {
        let mut record = Vec::new();
        if !chosen.is_empty() {
            encode_exemplars(chosen.iter().map(|(series, _, idx)| (*series, &batch.exemplars[*idx].1)), &mut record);
        }
        record
    }

    /// Stores what has been logged.
    pub(super) fn store_exemplars(&self, batch: &Batch, chosen: Chosen) {
        for (_, labels, idx) in chosen {
            self.exemplars.add(&labels, batch.exemplars[idx].1.clone());
        }
    }
}

/// The newest exemplars of the log, as many as are kept. Their series may still be on their way into the head.
#[derive(Debug)]
pub(crate) struct ReplayedExemplars {
    max: usize,
    newest: VecDeque<(SeriesRef, Exemplar)>,
}

impl ReplayedExemplars {
    /// Keeps at most `max`.
    pub fn new(max: usize) -> ReplayedExemplars {
        ReplayedExemplars { max, newest: VecDeque::new() }
    }

    /// One of the log.
    pub fn push(&mut self, series: SeriesRef, exemplar: Exemplar) {
        if self.newest.len() == self.max {
            self.newest.pop_front();
        }
        if self.max > 0 {
            self.newest.push_back((series, exemplar));
        }
    }

    /// Hands them out with the labels of their series; those of unknown series are left out and counted.
    pub fn finish(self, head: &Head, mut each: impl FnMut(&Labels, Exemplar)) -> u64 {
        let mut unknown = 0;
        for (series, exemplar) in self.newest {
            match head.labels_of(series) {
                Some(labels) => each(&labels, exemplar),
                None => unknown += 1,
            }
        }
        unknown
    }
}
