//! What became of alerts: when they were pending, firing and resolved, and who was told with what result.
//!
//! Repeats are one entry: an alert that fires for a day is sent to an Alertmanager more than a thousand times, and what is
//! worth knowing is how often, from when to when, and where the result changed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use fk_model::Labels;
use fk_rules::{AlertEvent, InstanceEvent, InstanceId};
use fk_vfs::{Vfs, VfsError};
use parking_lot::Mutex;

use crate::DIRECTORY;
use crate::codec::{Cursor, put_float, put_id, put_int, put_labels, put_text, put_uint};
use crate::frames::{Log, Malformed, Opened, head, put_frame};

const FILE: &str = "ledger";

/// Kinds of records.
const INSTANCE: u8 = 1;
const TRANSITION: u8 = 2;
const ATTEMPT: u8 = 3;
const DELIVERY: u8 = 4;

/// Alerts of which something is known.
pub(crate) const INSTANCES_MAX: usize = 20_000;
/// Entries of one of them, and of all.
pub(crate) const ENTRIES_OF_ONE_MAX: usize = 500;
pub(crate) const ENTRIES_MAX: usize = 200_000;
/// Longest reason of a failure that is kept, bytes.
const REASON_BYTES_MAX: usize = 300;

/// The file is written anew when it is longer than this and than [`GROWN`] times what memory knows.
const REWRITE_BYTES: u64 = 16 << 20;
const GROWN: u64 = 4;
/// Records that wait for the next write, bytes: beyond it they are written at once.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// What happened.
    pub event: AlertEvent,
    /// When, ms: the evaluation time.
    pub at_ms: i64,
    /// Value of the expression when it was last seen.
    pub value: f64,
}

/// Attempts to tell one Alertmanager, one after another with the same result.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its URL.
    pub alertmanager: Arc<str>,
    /// Whether the alert was told as resolved.
    pub resolved: bool,
    /// When the first of them ended, ms.
    pub first_ms: i64,
    /// When the last of them ended, ms.
    pub last_ms: i64,
    /// How many.
    pub attempts: u64,
    /// Why it failed; `None`: it was taken.
    pub error: Option<Arc<str>>,
}

/// One line of an alert's history.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A change of state.
    Transition(Transition),
    /// Attempts to tell somebody.
    Delivery(Delivery),
}

impl Entry {
    /// The time of its last event, ms.
    pub fn last_ms(&self) -> i64 {
        match self {
            Entry::Transition(transition) => transition.at_ms,
            Entry::Delivery(delivery) => delivery.last_ms,
        }
    }
}

/// What is known of one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Its rule group: `file;name`.
    pub group: Arc<str>,
    /// Its labels, without external labels.
    pub labels: Labels,
    /// What became of it, oldest first.
    pub entries: Vec<Entry>,
}

/// One post to an Alertmanager.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Its URL.
    pub alertmanager: &'a str,
    /// When it ended, ms.
    pub at_ms: i64,
    /// Why it failed; `None`: it was taken.
    pub error: Option<&'a str>,
    /// The alerts of the batch, and whether they were told as resolved.
    pub alerts: &'a [(InstanceId, bool)],
}

/// The history of all alerts. A handle for whoever evaluates, sends or asks.
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    book: Book,
    base_bytes: u64,
    behind: bool,
    /// Records to be written.
    waiting: Vec<u8>,
}

#[derive(Debug)]
struct Known {
    group: Arc<str>,
    labels: Labels,
    entries: VecDeque<Entry>,
    /// Its key in the order of touching.
    touched: u64,
}

/// What memory knows.
#[derive(Debug, Default)]
struct Book {
    known: HashMap<InstanceId, Known>,
    /// Instances by when something was last heard of them: the first makes room.
    order: BTreeMap<u64, InstanceId>,
    n_entries: usize,
    next_touch: u64,
    /// Texts that many entries share.
    texts: HashMap<Arc<str>, ()>,
}

impl Book {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some((text, ())) = self.texts.get_key_value(text) {
            return Arc::clone(text);
        }
        // Reasons may differ without end; what is forgotten here is only shared no longer.
        if self.texts.len() >= INSTANCES_MAX {
            self.texts.clear();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text), ());
        text
    }

    fn introduce(&mut self, id: InstanceId, group: &str, labels: &Labels) {
        if self.known.contains_key(&id) {
            return;
        }
        let group = self.text(group);
        let touched = self.next_touch;
        self.next_touch += 1;
        self.order.insert(touched, id);
        self.known.insert(id, Known { group, labels: labels.clone(), entries: VecDeque::new(), touched });
        while self.known.len() > INSTANCES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, id)) = self.order.pop_first() else { return };
        if let Some(known) = self.known.remove(&id) {
            self.n_entries -= known.entries.len();
        }
    }

    /// The instance, now the one heard of last.
    fn touch(&mut self, id: InstanceId) -> Option<&mut Known> {
        let known = self.known.get_mut(&id)?;
        self.order.remove(&known.touched);
        known.touched = self.next_touch;
        self.order.insert(known.touched, id);
        self.next_touch += 1;
        Some(known)
    }

    fn add(&mut self, id: InstanceId, entry: Entry) {
        let Some(known) = self.touch(id) else { return };
        known.entries.push_back(entry);
        let full = known.entries.len() > ENTRIES_OF_ONE_MAX;
        if full {
            known.entries.pop_front();
        }
        self.n_entries += usize::from(!full);
        while self.n_entries > ENTRIES_MAX && self.known.len() > 1 {
            self.forget_oldest();
        }
    }

    fn transition(&mut self, id: InstanceId, transition: Transition) {
        self.add(id, Entry::Transition(transition));
    }

    fn deliver(&mut self, id: InstanceId, delivery: Delivery) {
        let Some(known) = self.touch(id) else { return };
        // As long as the alert stays in its state, an Alertmanager's last entry goes on if the result is the same.
        let since_transition = known.entries.iter_mut().rev().map_while(|entry| match entry {
            Entry::Transition(_) => None,
            Entry::Delivery(delivery) => Some(delivery),
        });
        let same = |one: &&mut Delivery| one.alertmanager == delivery.alertmanager;
        if let Some(last) = since_transition.into_iter().find(same)
            && (&last.error, last.resolved) == (&delivery.error, delivery.resolved)
        {
            last.last_ms = delivery.last_ms;
            last.attempts += delivery.attempts;
            return;
        }
        self.add(id, Entry::Delivery(delivery));
    }

    fn read(&mut self, record: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor(record);
        match cursor.byte()? {
            INSTANCE => {
                let (id, group, labels) = (cursor.instance()?, cursor.text()?, cursor.labels()?);
                self.introduce(id, group, &labels);
            }
            TRANSITION => {
                let (id, event) = (cursor.instance()?, event_of(cursor.byte()?)?);
                let transition = Transition { event, at_ms: cursor.int()?, value: cursor.float()? };
                self.transition(id, transition);
            }
            ATTEMPT => {
                let (alertmanager, at_ms, error) = (cursor.text()?, cursor.int()?, cursor.text()?);
                let (alertmanager, error) = (self.text(alertmanager), self.reason(error));
                for _ in 0..cursor.count(17)? {
                    let (id, resolved) = (cursor.instance()?, cursor.byte()? == 1);
                    self.deliver(id, one_attempt(&alertmanager, at_ms, &error, resolved));
                }
            }
            DELIVERY => {
                let (id, resolved) = (cursor.instance()?, cursor.byte()? == 1);
                let (alertmanager, error) = (cursor.text()?, cursor.text()?);
                let (alertmanager, error) = (self.text(alertmanager), self.reason(error));
                let (first_ms, last_ms, attempts) = (cursor.int()?, cursor.int()?, cursor.uint()?);
                self.add(id, Entry::Delivery(Delivery { alertmanager, resolved, first_ms, last_ms, attempts, error }));
            }
            _ => return Err(Malformed("a record is of no known kind")),
        }
        if cursor.is_at_end() { Ok(()) } else { Err(Malformed("a record is longer than it should be")) }
    }

    /// The empty text stands for success.
    fn reason(&mut self, error: &str) -> Option<Arc<str>> {
        (!error.is_empty()).then(|| self.text(error))
    }

    /// Everything as records, the instance heard of last at the end.
    fn write(&self, out: &mut Vec<u8>) {
        for id in self.order.values() {
            let Some(known) = self.known.get(id) else { continue };
            put_instance(out, *id, &known.group, &known.labels);
            for entry in &known.entries {
                match entry {
                    Entry::Transition(transition) => put_transition(out, *id, transition),
                    Entry::Delivery(delivery) => put_frame(out, |out| {
                        out.push(DELIVERY);
                        put_id(out, id.0);
                        out.push(u8::from(delivery.resolved));
                        put_text(out, &delivery.alertmanager);
                        put_text(out, delivery.error.as_deref().unwrap_or(""));
                        put_int(out, delivery.first_ms);
                        put_int(out, delivery.last_ms);
                        put_uint(out, delivery.attempts);
                    }),
                }
            }
        }
    }
}

fn one_attempt(alertmanager: &Arc<str>, at_ms: i64, error: &Option<Arc<str>>, resolved: bool) -> Delivery {
    let (alertmanager, error) = (Arc::clone(alertmanager), error.clone());
    Delivery { alertmanager, resolved, first_ms: at_ms, last_ms: at_ms, attempts: 1, error }
}

fn event_of(byte: u8) -> Result<AlertEvent, Malformed> {
    AlertEvent::ALL.get(byte as usize).copied().ok_or(Malformed("an event is of no known kind"))
}

fn put_instance(out: &mut Vec<u8>, id: InstanceId, group: &str, labels: &Labels) {
    put_frame(out, |out| {
        out.push(INSTANCE);
        put_id(out, id.0);
        put_text(out, group);
        put_labels(out, labels);
    });
}

fn put_transition(out: &mut Vec<u8>, id: InstanceId, transition: &Transition) {
    put_frame(out, |out| {
        out.push(TRANSITION);
        put_id(out, id.0);
        out.push(AlertEvent::ALL.iter().position(|event| *event == transition.event).unwrap_or_default() as u8);
        put_int(out, transition.at_ms);
        put_float(out, transition.value);
    });
}

impl Ledger {
    /// Opens the ledger of a data directory. Never fails: what cannot be read is told in the log.
    pub fn open(vfs: Arc<dyn Vfs>, data: &Path) -> Arc<Ledger> {
        let mut book = Book::default();
        let path = data.join(DIRECTORY).join(FILE);
        let Opened { log, damage, .. } = Log::open(vfs, &path, &mut |record| book.read(record));
        if let Some(damage) = damage {
            log::error!(component = "alert ledger", file = path.display().to_string().as_str(), err = damage.as_str(); "The alert ledger is damaged, what can be read of it counts");
        }
        let behind = !log.is_open();
        Arc::new(Ledger { inner: Mutex::new(Inner { log, book, base_bytes: 0, behind, waiting: Vec::new() }) })
    }

    /// Notes what an evaluation of a group at `at_ms` did to its alerts. Written when this returns.
    pub fn note(&self, group: &str, at_ms: i64, events: &[InstanceEvent]) {
        if events.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        let Inner { book, waiting, .. } = &mut *inner;
        for event in events {
            if !book.known.contains_key(&event.instance) {
                book.introduce(event.instance, group, &event.labels);
                put_instance(waiting, event.instance, group, &event.labels);
            }
            let transition = Transition { event: event.event, at_ms, value: event.value };
            book.transition(event.instance, transition);
            put_transition(waiting, event.instance, &transition);
        }
        inner.write();
    }

    /// Notes an attempt to tell an Alertmanager. Written by the next [`Ledger::flush`] or [`Ledger::note`].
    pub fn delivered(&self, attempt: &Attempt<'_>) {
        let mut inner = self.inner.lock();
        let Inner { book, waiting, .. } = &mut *inner;
        let error = attempt.error.map(|error| {
            let end = (0..=REASON_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
            // An empty text would say that it was taken.
            match &error[..end.unwrap_or_default()] {
                "" => "failed",
                error => error,
            }
        });
        put_frame(waiting, |out| {
            out.push(ATTEMPT);
            put_text(out, attempt.alertmanager);
            put_int(out, attempt.at_ms);
            put_text(out, error.unwrap_or(""));
            put_uint(out, attempt.alerts.len() as u64);
            for (id, resolved) in attempt.alerts {
                put_id(out, id.0);
                out.push(u8::from(*resolved));
            }
        });
        let (alertmanager, error) = (book.text(attempt.alertmanager), error.map(|error| book.text(error)));
        for (id, resolved) in attempt.alerts {
            book.deliver(*id, one_attempt(&alertmanager, attempt.at_ms, &error, *resolved));
        }
        if inner.waiting.len() > WAITING_BYTES_MAX {
            inner.write();
        }
    }

    /// Writes down what was delivered. May wait for the disk.
    pub fn flush(&self) {
        self.inner.lock().write();
    }

    /// Makes what was noted survive a power cut, and writes the file anew when that is due. To be called every second or so,
    /// from a thread that may wait for the disk.
    pub fn keep(&self, now_ms: i64) {
        let mut inner = self.inner.lock();
        inner.write();
        let grown = inner.log.len() > REWRITE_BYTES.max(GROWN * inner.base_bytes);
        let kept = match inner.behind || grown {
            true => inner.rewrite(now_ms),
            false => inner.log.sync(),
        };
        if let Err(error) = kept {
            inner.failed(&error);
        }
    }

    /// What became of the alerts that `wanted` accepts, as far as it ended at `from_ms` or later and began at `to_ms` or
    /// earlier; the alert of which something was heard last comes first, `limit` of them at most. Says whether there are more.
    pub fn history(
        &self,
        wanted: &dyn Fn(&Labels) -> bool,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
    ) -> (Vec<History>, bool) {
        let inner = self.inner.lock();
        let mut found = Vec::new();
        for id in inner.book.order.values().rev() {
            let Some(known) = inner.book.known.get(id).filter(|known| wanted(&known.labels)) else { continue };
            let inside = |entry: &&Entry| {
                let first_ms = match entry {
                    Entry::Transition(transition) => transition.at_ms,
                    Entry::Delivery(delivery) => delivery.first_ms,
                };
                entry.last_ms() >= from_ms && first_ms <= to_ms
            };
            let entries: Vec<Entry> = known.entries.iter().filter(inside).cloned().collect();
            if entries.is_empty() {
                continue;
            }
            if found.len() == limit {
                return (found, true);
            }
            found.push(History { group: Arc::clone(&known.group), labels: known.labels.clone(), entries });
        }
        (found, false)
    }
}

impl Inner {
    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        // What is noted while the file cannot be written is written with the rest when it can.
        if !self.behind
            && let Err(error) = self.log.append(&self.waiting)
        {
            self.failed(&error);
        }
        self.waiting.clear();
    }

    fn failed(&mut self, error: &VfsError) {
        if !self.behind {
            let file = self.log.path().display().to_string();
            log::error!(component = "alert ledger", file = file.as_str(), err:% = error; "The history of alerts is not written at the moment");
        }
        self.behind = true;
    }

    fn rewrite(&mut self, now_ms: i64) -> Result<(), VfsError> {
        let mut bytes = head(now_ms);
        self.book.write(&mut bytes);
        self.log.replace(&bytes)?;
        self.base_bytes = bytes.len() as u64;
        self.behind = false;
        Ok(())
    }
}

/// Reads a ledger's bytes, for fuzzing.
pub(crate) fn read(bytes: &[u8]) {
    let mut book = Book::default();
    crate::frames::replay(bytes, &mut |record| book.read(record));
}

#[cfg(test)]
mod tests {
    use fk_vfs::sim::SimVfs;
    use proptest::prelude::*;

    use super::*;

    fn open(vfs: &Arc<SimVfs>) -> Arc<Ledger> {
        Ledger::open(vfs.clone(), Path::new("/data"))
    }

    fn all(ledger: &Ledger) -> Vec<History> {
        ledger.history(&|_| true, i64::MIN, i64::MAX, usize::MAX).0
    }

    fn event(n: u128, event: AlertEvent, value: f64) -> InstanceEvent {
        InstanceEvent { instance: InstanceId(n), labels: Labels::from_pairs([("n", n.to_string())]), event, value }
    }

    /// What may happen: an event, an attempt, a look at the files.
    #[derive(Clone, Debug)]
    enum Step {
        Note(u128, usize),
        Attempt(bool, Option<&'static str>, Vec<(InstanceId, bool)>),
        Keep,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let alerts = prop::collection::vec(((0u128..5).prop_map(InstanceId), any::<bool>()), 0..3);
        let error = prop::sample::select(vec![None, None, Some("refused"), Some("")]);
        prop::collection::vec(
            prop_oneof![
                (0u128..4, 0usize..4).prop_map(|(n, event)| Step::Note(n, event)),
                (any::<bool>(), error, alerts).prop_map(|(which, error, alerts)| Step::Attempt(which, error, alerts)),
                Just(Step::Keep),
            ],
            0..20,
        )
    }

    proptest! {
        #[test]
        fn a_killed_server_finds_what_it_noted(steps in steps(), fails in prop::option::of(0u64..20)) {
            let vfs = Arc::new(SimVfs::new(3));
            let ledger = open(&vfs);
            ledger.keep(1000);
            if let Some(first) = fails {
                vfs.inject(vfs.operations() + first, 2, fk_vfs::sim::Fault::NoSpace);
            }
            for (at, step) in steps.iter().enumerate() {
                let at_ms = at as i64;
                match step {
                    Step::Note(n, kind) => ledger.note("g", at_ms, &[event(*n, AlertEvent::ALL[*kind], 1.5)]),
                    Step::Attempt(which, error, alerts) => {
                        let alertmanager = if *which { "http://a" } else { "http://b" };
                        ledger.delivered(&Attempt { alertmanager, at_ms, error: *error, alerts });
                    }
                    Step::Keep => ledger.keep(at_ms),
                }
            }
            vfs.heal();
            ledger.flush();
            if fails.is_some() {
                ledger.keep(5000);
            }
            let before = all(&ledger);
            vfs.kill();
            prop_assert_eq!(all(&open(&vfs)), before.clone());
            // The same after it was written anew.
            let again = open(&vfs);
            again.inner.lock().behind = true;
            again.keep(6000);
            vfs.kill();
            prop_assert_eq!(all(&open(&vfs)), before);
        }
    }

    #[test]
    fn repeats_are_one_entry_until_the_result_or_the_state_changes() {
        let ledger = open(&Arc::new(SimVfs::new(3)));
        ledger.note("f;g", 10, &[event(1, AlertEvent::Firing, 9.5)]);
        let attempt = |at_ms, error, resolved| {
            let alerts = &[(InstanceId(1), resolved), (InstanceId(77), false)];
            ledger.delivered(&Attempt { alertmanager: "http://a", at_ms, error, alerts });
        };
        attempt(11, Some("timed out"), false);
        attempt(12, None, false);
        attempt(13, None, false);
        ledger.note("f;g", 20, &[event(1, AlertEvent::Resolved, 9.5)]);
        attempt(21, None, true);
        let told = |first_ms, last_ms, attempts, error: Option<&str>, resolved| {
            let (alertmanager, error) = ("http://a".into(), error.map(Arc::from));
            Entry::Delivery(Delivery { alertmanager, resolved, first_ms, last_ms, attempts, error })
        };
        let state = |event, at_ms| Entry::Transition(Transition { event, at_ms, value: 9.5 });
        let entries = vec![
            state(AlertEvent::Firing, 10),
            told(11, 11, 1, Some("timed out"), false),
            told(12, 13, 2, None, false),
            state(AlertEvent::Resolved, 20),
            told(21, 21, 1, None, true),
        ];
        let labels = Labels::from_pairs([("n", "1")]);
        assert_eq!(all(&ledger), [History { group: "f;g".into(), labels, entries: entries.clone() }]);
        let (some, more) = ledger.history(&|_| true, 13, 20, 1);
        assert_eq!((some[0].entries.as_slice(), more), (&entries[2..4], false));
    }

    #[test]
    fn what_was_heard_of_longest_ago_makes_room() {
        let vfs = Arc::new(SimVfs::new(3));
        let ledger = open(&vfs);
        for n in 0..INSTANCES_MAX as u128 + 5 {
            ledger.note("g", n as i64, &[event(n, AlertEvent::Pending, 0.0)]);
        }
        for at in 0..ENTRIES_OF_ONE_MAX as i64 + 10 {
            ledger.note("g", at, &[event(5, AlertEvent::Firing, 0.0)]);
        }
        let all = all(&ledger);
        assert_eq!((all.len(), all[0].entries.len()), (INSTANCES_MAX, ENTRIES_OF_ONE_MAX));
        let inner = ledger.inner.lock();
        assert_eq!(inner.book.n_entries, INSTANCES_MAX - 1 + ENTRIES_OF_ONE_MAX);
        assert!(!inner.book.known.contains_key(&InstanceId(4)) && inner.book.known.contains_key(&InstanceId(5)));
        drop(inner);
        assert_eq!(ledger.history(&|labels| labels.value("n") == "7", 0, i64::MAX, 10).0.len(), 1);
        assert!(ledger.history(&|_| true, 0, i64::MAX, 10).1);
    }
}
