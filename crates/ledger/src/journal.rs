//! The state that alerts are in now.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use fk_rules::{AlertMemory, InstanceId, Remembered, StateChanges};
use fk_vfs::{Vfs, VfsError};
use parking_lot::Mutex;

use crate::DIRECTORY;
use crate::codec::{Cursor, put_id, put_int, put_memory, put_text, put_uint};
use crate::frames::{Log, Malformed, Opened, head, put_frame};

const FILE: &str = "journal";

/// Kinds of records.
const CHANGES: u8 = 1;
const GROUP_GONE: u8 = 2;

/// The file is written anew when it is longer than this and than [`GROWN`] times what memory knows.
const REWRITE_BYTES: u64 = 4 << 20;
const GROWN: u64 = 4;

/// What a group knew when the server was last alive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recalled {
    /// Its alerts.
    pub alerts: Vec<Remembered>,
    /// When the server was last alive, ms; `None`: not known.
    pub alive_ms: Option<i64>,
}

/// The file, and what it says. A handle for all groups.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    live: Live,
    /// Of the file that was found.
    alive_ms: Option<i64>,
    /// What the last writing anew came to, bytes.
    base_bytes: u64,
    /// Whether the file lacks something that memory knows.
    behind: bool,
    frames: Vec<u8>,
}

/// Alerts by group and instance.
#[derive(Debug, Default)]
struct Live(BTreeMap<Arc<str>, HashMap<InstanceId, (u128, AlertMemory)>>);

impl Live {
    fn apply(&mut self, group: &str, changes: &StateChanges) {
        if !self.0.contains_key(group) {
            self.0.insert(group.into(), HashMap::new());
        }
        let Some(alerts) = self.0.get_mut(group) else { return };
        for Remembered { instance, rule, memory } in &changes.put {
            alerts.insert(*instance, (*rule, memory.clone()));
        }
        for instance in &changes.sent {
            if let Some((_, memory)) = alerts.get_mut(instance) {
                memory.last_sent_ns = Some(changes.at_ns);
            }
        }
        for instance in &changes.gone {
            alerts.remove(instance);
        }
        if alerts.is_empty() {
            self.0.remove(group);
        }
    }

    fn read(&mut self, record: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor(record);
        match cursor.byte()? {
            CHANGES => {
                let group = cursor.text()?;
                let mut changes = StateChanges { at_ns: cursor.int()?, ..StateChanges::default() };
                for _ in 0..cursor.count(16)? {
                    let (instance, rule) = (cursor.instance()?, cursor.id()?);
                    changes.put.push(Remembered { instance, rule, memory: cursor.memory()? });
                }
                for ids in [&mut changes.sent, &mut changes.gone] {
                    for _ in 0..cursor.count(16)? {
                        ids.push(cursor.instance()?);
                    }
                }
                self.apply(group, &changes);
            }
            GROUP_GONE => {
                self.0.remove(cursor.text()?);
            }
            _ => return Err(Malformed("a record is of no known kind")),
        }
        if cursor.is_at_end() { Ok(()) } else { Err(Malformed("a record is longer than it should be")) }
    }

    fn remembered(&self, group: &str) -> Vec<Remembered> {
        let alerts = self.0.get(group).into_iter().flatten();
        let alerts = alerts.map(|(instance, (rule, memory))| Remembered {
            instance: *instance,
            rule: *rule,
            memory: memory.clone(),
        });
        alerts.collect()
    }
}

fn put_changes(out: &mut Vec<u8>, group: &str, changes: &StateChanges) {
    put_frame(out, |out| {
        out.push(CHANGES);
        put_text(out, group);
        put_int(out, changes.at_ns);
        put_uint(out, changes.put.len() as u64);
        for Remembered { instance, rule, memory } in &changes.put {
            put_id(out, instance.0);
            put_id(out, *rule);
            put_memory(out, memory);
        }
        for ids in [&changes.sent, &changes.gone] {
            put_uint(out, ids.len() as u64);
            ids.iter().for_each(|id| put_id(out, id.0));
        }
    });
}

impl Journal {
    /// Opens the journal of a data directory. Never fails: what cannot be read is told in the log.
    pub fn open(vfs: Arc<dyn Vfs>, data: &Path) -> Arc<Journal> {
        let mut live = Live::default();
        let path = data.join(DIRECTORY).join(FILE);
        let Opened { log, beat_ms, damage } = Log::open(vfs, &path, &mut |record| live.read(record));
        if let Some(damage) = damage {
            log::error!(component = "alert journal", file = path.display().to_string().as_str(), err = damage.as_str(); "The alert journal is damaged, what can be read of it counts");
        }
        let behind = !log.is_open();
        let inner = Inner { log, live, alive_ms: beat_ms, base_bytes: 0, behind, frames: Vec::new() };
        Arc::new(Journal { inner: Mutex::new(inner) })
    }

    /// What was known of a group's alerts.
    pub fn recall(&self, group: &str) -> Recalled {
        let inner = self.inner.lock();
        Recalled { alerts: inner.live.remembered(group), alive_ms: inner.alive_ms }
    }

    /// Notes what an evaluation of a group has changed. Written when this returns.
    pub fn note(&self, group: &str, changes: &StateChanges) {
        if changes.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        inner.live.apply(group, changes);
        inner.write(|out| put_changes(out, group, changes));
    }

    /// Makes a group's alerts those of `alerts`, as of `at_ns`: after a reload, which may have ended some.
    pub fn replace(&self, group: &str, alerts: Vec<Remembered>, at_ns: i64) {
        let mut inner = self.inner.lock();
        let mut changes = StateChanges { at_ns, ..StateChanges::default() };
        {
            let old = inner.live.0.get(group);
            let known =
                |one: &Remembered| old.and_then(|old| old.get(&one.instance)) == Some(&(one.rule, one.memory.clone()));
            let stays = |id: &InstanceId| alerts.iter().any(|one| one.instance == *id);
            changes.gone = old.into_iter().flat_map(HashMap::keys).filter(|id| !stays(id)).copied().collect();
            changes.put = alerts.iter().filter(|one| !known(one)).cloned().collect();
        }
        if !changes.is_empty() {
            inner.live.apply(group, &changes);
            inner.write(|out| put_changes(out, group, &changes));
        }
    }

    /// Forgets all groups that `keep` does not want.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut inner = self.inner.lock();
        let gone: Vec<Arc<str>> = inner.live.0.keys().filter(|group| !keep(group)).cloned().collect();
        for group in gone {
            inner.live.0.remove(&group);
            inner.write(|out| {
                put_frame(out, |out| {
                    out.push(GROUP_GONE);
                    put_text(out, &group);
                })
            });
        }
    }

    /// Says that the server lives, makes what was noted survive a power cut, and writes the file anew when that is due. To be
    /// called every second or so, from a thread that may wait for the disk.
    pub fn keep(&self, now_ms: i64) {
        let mut inner = self.inner.lock();
        let grown = inner.log.len() > REWRITE_BYTES.max(GROWN * inner.base_bytes);
        let kept = match inner.behind || grown {
            true => inner.rewrite(now_ms),
            false => inner.log.beat(now_ms).and_then(|()| inner.log.sync()),
        };
        if let Err(error) = kept {
            inner.failed(&error);
        }
    }
}

impl Inner {
    fn write(&mut self, frame: impl FnOnce(&mut Vec<u8>)) {
        // What is noted while the file cannot be written is written with the rest when it can.
        if self.behind {
            return;
        }
        self.frames.clear();
        frame(&mut self.frames);
        if let Err(error) = self.log.append(&self.frames) {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &VfsError) {
        if !self.behind {
            let file = self.log.path().display().to_string();
            log::error!(component = "alert journal", file = file.as_str(), err:% = error; "The state of alerts is not written at the moment");
        }
        self.behind = true;
    }

    fn rewrite(&mut self, now_ms: i64) -> Result<(), VfsError> {
        let mut bytes = head(now_ms);
        for group in self.live.0.keys() {
            let put = self.live.remembered(group);
            put_changes(&mut bytes, group, &StateChanges { put, ..StateChanges::default() });
        }
        self.log.replace(&bytes)?;
        self.base_bytes = bytes.len() as u64;
        self.behind = false;
        Ok(())
    }
}

/// Reads a journal's bytes, for fuzzing.
pub(crate) fn read(bytes: &[u8]) {
    let mut live = Live::default();
    crate::frames::replay(bytes, &mut |record| live.read(record));
}

#[cfg(test)]
mod tests {
    use fk_vfs::sim::SimVfs;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::tests::any_memory;

    const DATA: &str = "/data";

    fn open(vfs: &Arc<SimVfs>) -> Arc<Journal> {
        Journal::open(vfs.clone(), Path::new(DATA))
    }

    /// What a journal knows, in order.
    fn known(journal: &Journal) -> Vec<(String, Remembered)> {
        let inner = journal.inner.lock();
        let groups = inner.live.0.keys();
        let mut all: Vec<_> =
            groups.flat_map(|g| inner.live.remembered(g).into_iter().map(|r| (g.to_string(), r))).collect();
        all.sort_by(|a, b| (&a.0, a.1.instance).cmp(&(&b.0, b.1.instance)));
        all
    }

    fn changes() -> impl Strategy<Value = (u8, StateChanges)> {
        let ids = || prop::collection::vec((0u128..6).prop_map(InstanceId), 0..3);
        let put = prop::collection::vec((0u128..6, any_memory()), 0..3).prop_map(|all| {
            all.into_iter().map(|(id, memory)| Remembered { instance: InstanceId(id), rule: id / 2, memory }).collect()
        });
        (0u8..3, put, ids(), ids(), any::<i64>())
            .prop_map(|(group, put, sent, gone, at_ns)| (group, StateChanges { at_ns, put, sent, gone }))
    }

    proptest! {
        #[test]
        fn a_killed_server_finds_what_it_noted(
            noted in prop::collection::vec(changes(), 0..12),
            fails in prop::option::of(0u64..20),
            keep_every in 1usize..4,
        ) {
            let vfs = Arc::new(SimVfs::new(3));
            let journal = open(&vfs);
            journal.keep(1000);
            if let Some(first) = fails {
                vfs.inject(vfs.operations() + first, 2, fk_vfs::sim::Fault::NoSpace);
            }
            for (at, (group, changes)) in noted.iter().enumerate() {
                journal.note(&format!("g{group}"), changes);
                if at % keep_every == 0 {
                    journal.keep(1000 + at as i64);
                }
            }
            vfs.heal();
            journal.keep(5000);
            journal.keep(6000);
            let before = known(&journal);
            vfs.kill();
            let again = open(&vfs);
            prop_assert_eq!(known(&again), before);
            prop_assert_eq!(again.recall("g0").alive_ms, Some(6000));
        }
    }

    #[test]
    fn groups_and_alerts_that_are_gone_are_forgotten() {
        let vfs = Arc::new(SimVfs::new(3));
        let journal = open(&vfs);
        let memory = AlertMemory {
            labels: fk_model::Labels::from_pairs([("alertname", "A")]),
            annotations: Vec::new(),
            value: 1.5,
            phase: fk_rules::AlertPhase::Firing,
            active_at_ns: 5,
            fired_at_ns: Some(6),
            resolved_at_ns: None,
            last_sent_ns: None,
            keep_firing_since_ns: None,
        };
        let one = |id| Remembered { instance: InstanceId(id), rule: 9, memory: memory.clone() };
        journal.note("a", &StateChanges { at_ns: 1, put: vec![one(1), one(2)], ..StateChanges::default() });
        journal.note("b", &StateChanges { at_ns: 1, put: vec![one(3)], ..StateChanges::default() });
        journal.keep(1);
        journal.replace("a", vec![one(2), one(4)], 2);
        journal.note("a", &StateChanges { at_ns: 77, sent: vec![InstanceId(2)], ..StateChanges::default() });
        journal.retain(|group| group == "a");
        let ids = |journal: &Journal| known(journal).into_iter().map(|(g, r)| (g, r.instance.0)).collect::<Vec<_>>();
        let wanted = [("a".to_owned(), 2), ("a".to_owned(), 4)];
        assert_eq!(ids(&journal), wanted);
        vfs.kill();
        let again = open(&vfs);
        assert_eq!(ids(&again), wanted);
        assert_eq!(known(&again)[0].1.memory.last_sent_ns, Some(77));
    }

    #[test]
    fn a_damaged_journal_is_set_aside_and_the_start_goes_on() {
        let vfs = Arc::new(SimVfs::new(3));
        vfs.put(Path::new("/data/firekeeper_alerts/journal"), b"nonsense");
        let journal = open(&vfs);
        assert_eq!(known(&journal), []);
        journal.keep(5);
        assert_eq!(vfs.get(Path::new("/data/firekeeper_alerts/journal.damaged")), Some(b"nonsense".to_vec()));
        vfs.kill();
        assert_eq!(open(&vfs).recall("x").alive_ms, Some(5));
    }
}
