//! The journal of reloads: what asked for each, what it changed, how long each part took, and how it ended. Kept in memory, bounded,
//! beyond restarts of the reloader.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::messages::config::ReloadSource;
use crate::reload_plan::Change;

/// Reloads that are kept.
const ENTRIES_MAX: usize = 50;
/// Changes and problems of a reload that are kept.
const LINES_MAX: usize = 200;

/// One reload.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it began.
    pub time: DateTime<Utc>,
    /// What asked for it.
    pub source: ReloadSource,
    /// How long reading and checking the files took.
    pub read: Duration,
    /// How long all of it took.
    pub took: Duration,
    /// What each participant took, in the order of asking.
    pub steps: Vec<Step>,
    /// What the new configuration changes.
    pub changes: Vec<Change>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Entry {
    /// One that begins.
    pub fn new(time: DateTime<Utc>, source: ReloadSource) -> Entry {
        let nothing = Duration::ZERO;
        Entry { time, source, read: nothing, took: nothing, steps: vec![], changes: vec![], outcome: Outcome::Applied }
    }
}

/// What one participant did in one phase.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its name.
    pub participant: &'static str,
    /// The phase.
    pub phase: Phase,
    /// How long it took.
    pub took: Duration,
    /// Whether it refused, or gave no answer.
    pub failed: bool,
}

/// A phase of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Building what is needed.
    Prepare,
    /// Putting it to work.
    Commit,
}

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// The files have these problems; nothing changed.
    Unreadable(Vec<String>),
    /// Participants refused; nothing changed.
    Refused(Vec<String>),
}

/// The past reloads.
#[derive(Debug, Default)]
pub struct Journal(Mutex<VecDeque<Entry>>);

impl Journal {
    /// Notes a reload that is over.
    pub fn add(&self, mut entry: Entry) {
        entry.changes.truncate(LINES_MAX);
        if let Outcome::Unreadable(problems) | Outcome::Refused(problems) = &mut entry.outcome {
            problems.truncate(LINES_MAX);
        }
        let mut entries = self.0.lock();
        if entries.len() == ENTRIES_MAX {
            entries.pop_back();
        }
        entries.push_front(entry);
    }

    /// All of them, the newest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let journal = Journal::default();
        for n in 0..60 {
            let mut entry = Entry::new(DateTime::from_timestamp(n, 0).unwrap(), ReloadSource::Http);
            entry.outcome = Outcome::Refused(vec!["no".to_owned(); 1000]);
            journal.add(entry);
        }
        let entries = journal.entries();
        assert_eq!((entries.len(), entries[0].time.timestamp(), entries[49].time.timestamp()), (50, 59, 10));
        assert_eq!(entries[0].outcome, Outcome::Refused(vec!["no".to_owned(); LINES_MAX]));
    }
}
