//! Metadata of series (feature `metadata-wal-records`): what a metric is, kept for every series that somebody has said it of.
//!
//! Most series share theirs with many others, so each text is in memory once. The log is told when the metadata of a series is
//! new or has changed, behind the series' own record, and only then the head knows it; a checkpoint of the log keeps the
//! newest of every series, and so does an image of the head.

use std::collections::HashMap as StdHashMap;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use fk_model::Metadata;
use fk_storage::{SeriesRef, StorageError};
use fk_wal::record::MetadataEntry;

use super::image::{Damaged, Reader, Sink};
use super::{Head, Place};

/// The metadata of the series of a shard, by slot.
#[derive(Debug, Default)]
pub(crate) struct ShardMetadata {
    series: HashMap<u32, Arc<Metadata>>,
}

impl ShardMetadata {
    /// Forgets a series.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        if !self.series.is_empty() {
            self.series.remove(&slot);
        }
    }

    /// Gives memory back.
    pub fn tidy(&mut self) {
        if self.series.len() * 4 < self.series.capacity() {
            self.series.shrink_to_fit();
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.series.allocation_size()
    }
}

/// What the shards share.
#[derive(Debug, Default)]
pub(super) struct MetadataState {
    /// Each metadata once.
    texts: Mutex<HashSet<Arc<Metadata>>>,
    /// Held from before something is logged until the head knows it, so that both have the same order.
    logging: Mutex<()>,
}

/// Metadata of series, on its way into the log.
pub type SeriesMetadata = (SeriesRef, Arc<Metadata>);

impl Head {
    /// What is known of a series.
    pub fn metadata(&self, series: SeriesRef) -> Option<Arc<Metadata>> {
        let place = self.refs.read().get(series.0);
        if place == Place::NONE {
            return None;
        }
        self.shards[place.shard()].data.read().metadata.series.get(&place.slot()).cloned()
    }

    /// Keeps what is new or has changed, after `log` has taken it. Series that the log does not know are left out.
    pub fn set_metadata(
        &self,
        said: &[SeriesMetadata],
        log: &dyn Fn(&[SeriesMetadata]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if said.iter().all(|said| !self.is_news(said)) {
            return Ok(());
        }
        let _logging = self.metadata.logging.lock();
        let news: Vec<_> = said.iter().filter(|said| self.is_news(said)).cloned().collect();
        if news.is_empty() {
            return Ok(());
        }
        log(&news)?;
        for (series, metadata) in news {
            self.keep_metadata(series, metadata);
        }
        Ok(())
    }

    fn is_news(&self, (series, metadata): &SeriesMetadata) -> bool {
        let place = self.refs.read().get(series.0);
        if place == Place::NONE {
            return false;
        }
        let data = self.shards[place.shard()].data.read();
        data.slots.find(place.slot()).is_some_and(|slot| slot.is_logged())
            && data.metadata.series.get(&place.slot()) != Some(metadata)
    }

    /// Keeps what a log or an image says. Returns whether the reference is known.
    pub(crate) fn keep_metadata(&self, series: SeriesRef, metadata: Arc<Metadata>) -> bool {
        let place = self.refs.read().get(series.0);
        if place == Place::NONE {
            return false;
        }
        let metadata = Arc::clone(self.metadata.texts.lock().get_or_insert(metadata));
        self.shards[place.shard()].data.write().metadata.series.insert(place.slot(), metadata);
        true
    }

    /// Forgets what no series has any more.
    pub(super) fn collect_metadata(&self) {
        let mut texts = self.metadata.texts.lock();
        texts.retain(|metadata| Arc::strong_count(metadata) > 1);
        if texts.len() * 4 < texts.capacity() {
            texts.shrink_to_fit();
        }
    }

    /// Waits until what is being logged is known.
    pub(super) fn wait_for_metadata(&self) {
        drop(self.metadata.logging.lock());
    }

    /// Bytes of the texts.
    pub(super) fn metadata_bytes(&self) -> usize {
        let texts = self.metadata.texts.lock();
        let text = |m: &Arc<Metadata>| size_of::<Metadata>() + 16 + m.unit.capacity() + m.help.capacity();
        texts.allocation_size() + texts.iter().map(text).sum::<usize>()
    }

    /// Saves all of it: type, unit, help, and the references of its series.
    pub(super) fn save_metadata<E>(&self, sink: &mut Sink<'_, E>) -> Result<(), E> {
        let mut series: StdHashMap<Arc<Metadata>, Vec<u64>> = StdHashMap::new();
        for shard in &self.shards {
            let data = shard.data.read();
            for (slot, metadata) in &data.metadata.series {
                series.entry(Arc::clone(metadata)).or_default().push(data.info.get(*slot).reference);
            }
        }
        let mut out = Vec::new();
        for (metadata, references) in series {
            out.clear();
            out.push(MetadataEntry::new(SeriesRef(0), &metadata).metric_type);
            for text in [&metadata.unit, &metadata.help] {
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            out.extend_from_slice(&(references.len() as u32).to_le_bytes());
            references.iter().for_each(|reference| out.extend_from_slice(&reference.to_le_bytes()));
            sink(&out, references.len() as u64)?;
        }
        Ok(())
    }

    /// What [`Head::save_metadata`] has saved.
    pub(super) fn restore_metadata(&self, mut reader: Reader<'_>) -> Result<(), Damaged> {
        while !reader.is_empty() {
            let metric_type = reader.u8()?;
            let mut text = || {
                let len = reader.u32()? as usize;
                std::str::from_utf8(reader.take(len)?).map_err(|_| Damaged("a text is not UTF-8"))
            };
            let (unit, help) = (text()?, text()?);
            let entry = MetadataEntry { series: SeriesRef(0), metric_type, unit, help };
            let metadata = Arc::new(entry.to_metadata());
            for _ in 0..reader.u32()? {
                // The series may have been left out, because it was not in the log yet; then the rest of the log has both.
                self.keep_metadata(SeriesRef(reader.u64()?), Arc::clone(&metadata));
            }
        }
        Ok(())
    }
}

/// The newest metadata of the log. Its series may still be on their way into the head.
#[derive(Debug, Default)]
pub(crate) struct ReplayedMetadata {
    newest: HashMap<SeriesRef, Arc<Metadata>>,
    texts: HashSet<Arc<Metadata>>,
}

impl ReplayedMetadata {
    /// One of the log.
    pub fn push(&mut self, entry: &MetadataEntry<'_>) {
        let metadata = Arc::new(entry.to_metadata());
        let metadata = Arc::clone(self.texts.get_or_insert(metadata));
        self.newest.insert(entry.series, metadata);
    }

    /// Hands it to the head. Returns of how many series nobody knows the reference.
    pub fn finish(self, head: &Head) -> u64 {
        self.newest.into_iter().filter(|(series, metadata)| !head.keep_metadata(*series, Arc::clone(metadata))).count()
            as u64
    }
}

#[cfg(test)]
mod tests;
