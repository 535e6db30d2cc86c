//! What a reader reads: a fixed list of blocks, and from when on the head is asked. And how those who remove something wait
//! for readers.
//!
//! A select pins the current [`View`] and keeps it until its series set is dropped. Whoever has written a block of the
//! head's samples
//!
//! 1. publishes a view with the block and a later `head_mint` ([`Views::publish`]): new readers find the samples in the
//!    block, and look at the head from the new time on only;
//! 2. waits until nobody reads by an older view ([`Views::wait_for_readers`]); a reader that takes longer than the wait
//!    means that the next step is done another time;
//! 3. truncates the head, and then removes what the block replaces on disk.
//!
//! The same holds when blocks are merged, deleted, or written from out-of-order samples; a removed block's files stay mapped
//! while a view has them, so only the head needs the wait.
//!
//! Invariant: samples of the head before the `head_mint` of every live view are also in the blocks of every live view, apart
//! from those that were deleted. So the head may drop them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

/// What one reader sees of the directory. `B` is the type of a block: a handle.
#[derive(Debug)]
pub struct View<B> {
    /// In-order samples of the head before this time, ms, are in blocks: the head is not asked for them. `i64::MIN`: no block
    /// was ever written from this head.
    pub head_mint: i64,
    /// The blocks, ascending by their first time.
    pub blocks: Arc<[B]>,
    generation: u64,
    live: Arc<Live>,
}

/// The views that somebody still has: generation and `head_mint`.
#[derive(Debug, Default)]
struct Live {
    views: Mutex<BTreeMap<u64, i64>>,
    dropped: Condvar,
}

impl<B> Drop for View<B> {
    fn drop(&mut self) {
        self.live.views.lock().remove(&self.generation);
        self.live.dropped.notify_all();
    }
}

/// The current view and those before it that are still read.
#[derive(Debug)]
pub struct Views<B> {
    current: RwLock<Arc<View<B>>>,
    live: Arc<Live>,
}

impl<B> Default for Views<B> {
    /// Without blocks.
    fn default() -> Views<B> {
        Views::new(i64::MIN, Arc::new([]))
    }
}

impl<B> Views<B> {
    /// Starts with these blocks.
    pub fn new(head_mint: i64, blocks: Arc<[B]>) -> Views<B> {
        let live = Arc::new(Live { views: Mutex::new(BTreeMap::from([(0, head_mint)])), dropped: Condvar::new() });
        let view = View { head_mint, blocks, generation: 0, live: Arc::clone(&live) };
        Views { current: RwLock::new(Arc::new(view)), live }
    }

    /// The current view, for as long as the caller keeps it.
    pub fn pin(&self) -> Arc<View<B>> {
        Arc::clone(&self.current.read())
    }

    /// From now on readers get these blocks, and the head from `head_mint` on. Publishers must not run at the same time: each
    /// would drop what the other has added.
    pub fn publish(&self, head_mint: i64, blocks: Arc<[B]>) {
        let mut current = self.current.write();
        let generation = current.generation + 1;
        self.live.views.lock().insert(generation, head_mint);
        let view = Arc::new(View { head_mint, blocks, generation, live: Arc::clone(&self.live) });
        let old = std::mem::replace(&mut *current, view);
        drop(current);
        // Outside the lock: this may be the last reference, and then blocks are unmapped.
        drop(old);
    }

    /// As [`Views::publish`], with other blocks only.
    pub fn publish_blocks(&self, blocks: Arc<[B]>) {
        let head_mint = self.pin().head_mint;
        self.publish(head_mint, blocks);
    }

    /// The smallest `head_mint` of the current view and all that are still read: nobody asks the head for in-order samples
    /// before it.
    pub fn head_mint_read(&self) -> i64 {
        self.live.views.lock().values().copied().min().unwrap_or(i64::MIN)
    }

    /// Views before the current one that are still read.
    pub fn older_in_use(&self) -> usize {
        self.live.views.lock().len() - 1
    }

    /// Waits until nobody reads by a view before the one that is current now, at most `timeout`. Whether that is so.
    pub fn wait_for_readers(&self, timeout: Duration) -> bool {
        let newest = self.current.read().generation;
        let mut views = self.live.views.lock();
        let older = |views: &mut BTreeMap<u64, i64>| views.first_key_value().is_some_and(|(g, _)| *g < newest);
        !self.live.dropped.wait_while_for(&mut views, older, timeout).timed_out()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn blocks(names: &[&'static str]) -> Arc<[&'static str]> {
        names.into()
    }

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn a_reader_keeps_its_view() {
        let views = Views::default();
        let before = views.pin();
        views.publish(100, blocks(&["a"]));
        assert_eq!((before.head_mint, before.blocks.len()), (i64::MIN, 0));
        assert_eq!((views.pin().head_mint, views.pin().blocks.len()), (100, 1));
        assert_eq!((views.head_mint_read(), views.older_in_use()), (i64::MIN, 1));
        assert!(!views.wait_for_readers(SHORT));
        drop(before);
        assert!(views.wait_for_readers(SHORT));
        assert_eq!((views.head_mint_read(), views.older_in_use()), (100, 0));
    }

    #[test]
    fn views_in_between_are_waited_for_and_newer_ones_are_not() {
        let views = Views::new(0, blocks(&[]));
        views.publish(100, blocks(&["a"]));
        let middle = views.pin();
        views.publish_blocks(blocks(&["b"]));
        let newest = views.pin();
        assert_eq!((newest.head_mint, views.head_mint_read(), views.older_in_use()), (100, 100, 1));
        assert!(!views.wait_for_readers(SHORT));
        drop(middle);
        assert!(views.wait_for_readers(SHORT), "the newest view is in use and may be");
    }

    #[test]
    fn the_wait_ends_with_the_last_reader() {
        let views = Views::<&str>::default();
        let reader = views.pin();
        views.publish(5, blocks(&["a"]));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| views.wait_for_readers(Duration::from_secs(60)));
            drop(reader);
            assert!(waiting.join().expect("no panic"));
        });
    }
}
