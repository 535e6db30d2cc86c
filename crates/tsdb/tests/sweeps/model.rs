//! What the storage has promised, and whether it kept it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fk_model::Labels;
use fk_storage::{Control, Queryable, Samples, SelectParams, StorageError, TimeRange};
use fk_tsdb::Db;

pub const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

/// Number of a series and time of a sample: the script gives no time twice.
pub type Key = (usize, i64);

/// All samples of a storage: values as bits, of a histogram its sum.
pub type Contents = BTreeMap<Key, u64>;

/// The log that a batch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Log {
    /// In order: `wal/`.
    Wal,
    /// Out of order: `wbl/`.
    Wbl,
}

/// One append.
#[derive(Clone, Debug)]
pub struct Appended {
    pub log: Log,
    pub samples: Vec<(Key, u64)>,
    /// Whether the append succeeded. Otherwise it failed or was cut off.
    pub acknowledged: bool,
    /// Whether a later sync succeeded.
    pub synced: bool,
}

/// One deletion.
#[derive(Clone, Debug)]
pub struct Deleted {
    pub series: usize,
    pub range: TimeRange,
    /// Batches appended before it.
    pub after: usize,
    pub acknowledged: bool,
}

/// What the script has done so far and what it was told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub batches: Vec<Appended>,
    pub deletions: Vec<Deleted>,
    /// Samples before this time may be gone by retention.
    pub retained_from: i64,
    /// What time it is.
    pub now_ms: i64,
}

/// What happened before the directory was opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process died: what was written is there.
    Killed,
    /// The power went: what was synced is there, and a beginning of the rest.
    PowerCut,
    /// As before, but there were I/O errors before it: losses need not be the end of the log.
    PowerCutAfterErrors,
}

impl Told {
    fn deletion(&self, at: usize, (series, t): Key, acknowledged: bool) -> bool {
        self.deletions.iter().any(|d| {
            d.after > at
                && d.series == series
                && (d.range.mint..=d.range.maxt).contains(&t)
                && (d.acknowledged || !acknowledged)
        })
    }

    /// What is wrong with `found`, if anything.
    pub fn judge(&self, found: &Contents, end: End) -> Result<(), String> {
        let mut known: BTreeSet<Key> = BTreeSet::new();
        let mut lost: BTreeMap<Log, usize> = BTreeMap::new();
        for (at, batch) in self.batches.iter().enumerate() {
            let (mut present, mut missing) = (0, None);
            for (key, bits) in &batch.samples {
                known.insert(*key);
                let may_be_gone = self.deletion(at, *key, false) || key.1 < self.retained_from;
                match found.get(key) {
                    Some(other) if other != bits => return Err(format!("batch {at}: {key:?} has changed")),
                    Some(_) if self.deletion(at, *key, true) => {
                        return Err(format!("batch {at}: {key:?} was deleted and is back"));
                    }
                    Some(_) => present += 1,
                    None if may_be_gone => {}
                    None => missing = Some(*key),
                }
            }
            let Some(missing) = missing else {
                if let (Some(lost), true) = (lost.get(&batch.log), present > 0 && end == End::PowerCut) {
                    return Err(format!("batch {at} is there, and batch {lost} before it is lost"));
                }
                continue;
            };
            if present > 0 {
                return Err(format!("batch {at}: {missing:?} is lost and others of the batch are not"));
            }
            if batch.acknowledged && (batch.synced || end == End::Killed) {
                return Err(format!("batch {at}: {missing:?} was acknowledged and is lost"));
            }
            if batch.acknowledged {
                lost.entry(batch.log).or_insert(at);
            }
        }
        match found.keys().find(|key| !known.contains(key)) {
            Some(key) => Err(format!("{key:?} was never appended")),
            None => Ok(()),
        }
    }

    /// As [`Told::judge`] after damage: samples may be lost, and nothing may be changed or made up. How many acknowledged
    /// samples are lost.
    pub fn judge_damaged(&self, found: &Contents) -> Result<usize, String> {
        let mut all: Contents = BTreeMap::new();
        let mut lost = 0;
        for (at, batch) in self.batches.iter().enumerate().filter(|(_, b)| b.acknowledged) {
            for (key, bits) in &batch.samples {
                all.insert(*key, *bits);
                let gone = self.deletion(at, *key, false) || key.1 < self.retained_from;
                lost += usize::from(!gone && !found.contains_key(key));
            }
        }
        for (key, bits) in found {
            match all.get(key) {
                None => return Err(format!("{key:?} was never appended")),
                Some(known) if known != bits => return Err(format!("{key:?} has changed")),
                Some(_) => {}
            }
        }
        Ok(lost)
    }

    /// Everything acknowledged so far is durable.
    pub fn synced(&mut self, batches: usize) {
        self.batches[..batches].iter_mut().for_each(|batch| batch.synced = true);
    }
}

/// Everything a storage answers, and the warnings of it.
pub fn contents(db: &Db, series: &[Labels]) -> Result<(Contents, Vec<String>), StorageError> {
    let numbers: BTreeMap<&Labels, usize> = series.iter().enumerate().map(|(i, l)| (l, i)).collect();
    let control = Control::new();
    let set = db.select(&SelectParams { range: ALL, sorted: true, limit: 0 }, &[], &control)?;
    let (mut found, mut samples) = (Contents::new(), Samples::default());
    let mut last: Option<Labels> = None;
    for idx in 0..set.len() {
        let labels = set.labels(idx);
        assert!(last.as_ref().is_none_or(|last| *last < labels), "series in order, each once: {labels}");
        set.read(idx, ALL, &mut samples)?;
        assert!(samples.t.is_sorted_by(|a, b| a < b), "{labels}: times ascend: {:?}", samples.t);
        // A series that nobody made is a sample that nobody appended.
        let number = numbers.get(&labels).copied().unwrap_or(usize::MAX);
        for (t, v) in samples.t.iter().zip(&samples.v) {
            found.insert((number, *t), v.to_bits());
        }
        last = Some(labels);
    }
    Ok((found, control.take_warnings()))
}

/// The labels of the script's series.
pub fn series() -> Arc<[Labels]> {
    (0..SERIES)
        .map(|i| {
            let (name, i) = (["up", "requests_total", "depth", "latency"][i % 4], i.to_string());
            Labels::from_pairs([("__name__", name), ("instance", "a:9100"), ("job", "sweep"), ("i", &i)])
        })
        .collect()
}

pub const SERIES: usize = 8;
