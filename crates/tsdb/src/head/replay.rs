//! Filling an empty head from the log. Nobody else has the head yet, so there are no locks, no checks against a batch
//! and no commit numbers: everything replayed is visible from the start.

use std::sync::atomic::Ordering;

use fk_model::{Labels, is_stale};
use fk_storage::{SeriesRef, StorageError};

use super::shard::ShardData;
use super::{Head, Place, check_labels};

impl Head {
    /// A series of the log under the reference it has there. A second reference for the same labels becomes another
    /// name of the first.
    pub fn replay_series(&mut self, reference: SeriesRef, labels: &Labels) -> Result<(), StorageError> {
        self.saw_reference(reference.0);
        check_labels(labels)?;
        let full = || StorageError::ReadOnly("the head takes no more series".to_owned());
        let (home, hash) = self.home(labels);
        let symbols = self.symbols.get_mut();
        let mut words = Vec::new();
        symbols.intern_labels(labels, &mut words).ok_or_else(full)?;
        let data = self.shards[home].data.get_mut();
        let slot = match data.find_words(hash, &words) {
            Some(slot) => slot,
            None => {
                let slot = data.create(hash, &words, symbols.schema(words[0]), reference.0).ok_or_else(full)?;
                data.slots.get_mut(slot).set_logged();
                *self.metrics.series_created.get_mut() += 1;
                slot
            }
        };
        self.refs.get_mut().set(reference.0, Place::new(home, slot));
        Ok(())
    }

    /// Whether another record of samples fits.
    pub fn check_room(&mut self) -> Result<(), StorageError> {
        self.shards.iter_mut().try_for_each(|shard| shard.data.get_mut().check_room())
    }

    /// A sample of the log. One that is not newer than its series is dropped silently: the log holds what was asked
    /// for, and an append that raced with another may have written what was then not stored. Returns whether the
    /// reference is known.
    #[inline]
    pub fn replay_sample(&mut self, reference: SeriesRef, t: i64, v: f64) -> bool {
        let place = self.refs.get_mut().get(reference.0);
        if place == Place::NONE {
            self.saw_reference(reference.0);
            *self.metrics.replay_unknown_refs.get_mut() += 1;
            return false;
        }
        let ShardData { slots, slabs, arena, .. } = self.shards[place.shard()].data.get_mut();
        let slot = slots.get_mut(place.slot());
        let mut stale = i64::from(is_stale(v));
        if let Some((last_t, last_v)) = slot.last() {
            if t <= last_t {
                return true;
            }
            stale -= i64::from(is_stale(last_v));
        }
        let chunk_begun = slot.push(place.slot(), (t, v), 0, &self.rules, slabs, arena);
        *self.metrics.chunks_created.get_mut() += u64::from(chunk_begun);
        *self.metrics.stale_series.get_mut() += stale;
        *self.min_time.get_mut() = t.min(*self.min_time.get_mut());
        *self.max_time.get_mut() = t.max(*self.max_time.get_mut());
        true
    }

    /// References are never given out twice, not even that of a series the log has lost.
    fn saw_reference(&mut self, reference: u64) {
        let next = self.next_ref.load(Ordering::Relaxed);
        *self.next_ref.get_mut() = next.max(reference.saturating_add(1));
    }
}
