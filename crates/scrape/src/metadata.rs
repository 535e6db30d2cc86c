//! TYPE, HELP and UNIT of the metrics of one target, for the metadata API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fk_exposition::MetricType;

/// A metric that a target has not named for so many scrapes is forgotten.
const KEPT_SCRAPES: u32 = 10;

/// Metric families of one target; more are not remembered. They come from outside, and each costs memory.
pub const FAMILIES_MAX: usize = 100_000;

/// What is known about one metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricMetadata {
    /// Its type.
    pub kind: MetricType,
    /// Its help text.
    pub help: String,
    /// Its unit; the Prometheus text format has none.
    pub unit: String,
}

/// Metadata by name of the metric family.
pub type MetadataMap = BTreeMap<String, MetricMetadata>;

/// What other threads see of a target's metadata. Cheap to clone; all clones show the newest state.
#[derive(Clone, Debug, Default)]
pub struct MetadataHandle(Arc<Mutex<Arc<MetadataMap>>>);

impl MetadataHandle {
    /// The metadata as of the last scrape.
    pub fn snapshot(&self) -> Arc<MetadataMap> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, map: MetadataMap) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
    }
}

#[derive(Debug)]
struct Family {
    metadata: MetricMetadata,
    /// Number of the last scrape that named it; not kept up to date while `current`.
    seen: u32,
    /// Named by the last scrape whose layout differed, and so by all since.
    current: bool,
    /// Changed by that scrape.
    changed: bool,
}

/// The loop's side: which families there are, and when they were last named.
///
/// Scrapes that repeat the layout of the one before touch nothing here. One that differs calls [`MetadataCache::start`], then
/// tells all TYPE, HELP and UNIT lines it has, then [`MetadataCache::finish`].
#[derive(Debug, Default)]
pub(crate) struct MetadataCache {
    families: BTreeMap<String, Family>,
    /// Families that are not current: they age.
    aging: usize,
    changed: bool,
    handle: MetadataHandle,
}

impl MetadataCache {
    pub(crate) fn handle(&self) -> &MetadataHandle {
        &self.handle
    }

    /// Before the lines of a scrape that differs from scrape number `last`.
    pub(crate) fn start(&mut self, last: u32) {
        for family in self.families.values_mut() {
            family.changed = false;
            if std::mem::take(&mut family.current) {
                family.seen = last;
            }
        }
    }

    /// What is known about a family, and whether the lines since [`MetadataCache::start`] have changed it.
    pub(crate) fn get(&self, metric: &str) -> Option<(&MetricMetadata, bool)> {
        self.families.get(metric).map(|family| (&family.metadata, family.changed))
    }

    pub(crate) fn set_type(&mut self, metric: &str, kind: MetricType) {
        self.set(metric, |metadata| {
            let changed = metadata.kind != kind;
            metadata.kind = kind;
            changed
        });
    }

    pub(crate) fn set_help(&mut self, metric: &str, help: &str) {
        self.set(metric, |metadata| {
            let changed = metadata.help != help;
            if changed {
                help.clone_into(&mut metadata.help);
            }
            changed
        });
    }

    pub(crate) fn set_unit(&mut self, metric: &str, unit: &str) {
        self.set(metric, |metadata| {
            let changed = metadata.unit != unit;
            if changed {
                unit.clone_into(&mut metadata.unit);
            }
            changed
        });
    }

    fn set(&mut self, metric: &str, update: impl FnOnce(&mut MetricMetadata) -> bool) {
        if !self.families.contains_key(metric) {
            if self.families.len() >= FAMILIES_MAX {
                return;
            }
            self.changed = true;
            let family = Family { metadata: MetricMetadata::default(), seen: 0, current: true, changed: true };
            self.families.insert(metric.to_owned(), family);
        }
        if let Some(family) = self.families.get_mut(metric) {
            family.current = true;
            let changed = update(&mut family.metadata);
            family.changed |= changed;
            self.changed |= changed;
        }
    }

    /// Behind the lines of a scrape that differed.
    pub(crate) fn finish(&mut self) {
        self.aging = self.families.values().filter(|family| !family.current).count();
    }

    /// At the end of scrape number `now`; a good one (`forget`) ends the memory of what was not named for long.
    pub(crate) fn end_scrape(&mut self, now: u32, forget: bool) {
        if self.aging > 0 && forget {
            let before = self.families.len();
            self.families.retain(|_, family| family.current || now - family.seen <= KEPT_SCRAPES);
            let gone = before - self.families.len();
            self.aging -= gone;
            self.changed |= gone > 0;
        }
        if self.changed {
            self.changed = false;
            let map = self.families.iter().map(|(name, family)| (name.clone(), family.metadata.clone())).collect();
            self.handle.publish(map);
        }
    }
}
