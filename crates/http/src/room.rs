//! How much memory all bodies that are being read take together.
//!
//! Every body has a bound of its own, but thousands of targets may answer at the same time, and some of them at length. So what a
//! body grows by is taken from one account for the whole process, and given back when it has been handed over. A body for which
//! there is nothing left fails, with an error that says so; the last quarter is for small bodies, so that a few targets that
//! send without end cannot starve all others.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::HttpError;

/// Taken from the account at a time.
const STEP_BYTES: usize = 256 << 10;

/// A body up to this size is a small one.
const SMALL_BYTES: usize = 1 << 20;

/// The account of the process.
pub(crate) static BODIES: Account = Account::new(1 << 30);

/// Sets how many bytes the bodies that are being read at a time may take together, in the whole process; 1 GiB at first.
pub fn limit_bodies(bytes: usize) {
    BODIES.most.store(bytes, Ordering::Relaxed);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Account {
    taken: AtomicUsize,
    most: AtomicUsize,
}

impl Account {
    const fn new(most: usize) -> Account {
        Account { taken: AtomicUsize::new(0), most: AtomicUsize::new(most) }
    }
}

/// What one body has taken; it goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    account: &'static Account,
    taken: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { account: &BODIES, taken: 0 }
    }
}

impl Room {
    /// Makes room for a body of `bytes`.
    #[inline]
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), HttpError> {
        if bytes <= self.taken { Ok(()) } else { self.take(bytes) }
    }

    fn take(&mut self, bytes: usize) -> Result<(), HttpError> {
        let more = (bytes - self.taken).next_multiple_of(STEP_BYTES);
        let most = self.account.most.load(Ordering::Relaxed);
        let open = if bytes <= SMALL_BYTES { most } else { most - most / 4 };
        let take = |taken: usize| taken.checked_add(more).filter(|taken| *taken <= open);
        match self.account.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => {
                self.taken += more;
                Ok(())
            }
            Err(_) => Err(HttpError::NoRoom(most)),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.account.taken.fetch_sub(self.taken, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_and_small_ones_have_something_left() {
        static SHARED: Account = Account::new(8 << 20);
        let room = || Room { account: &SHARED, taken: 0 };
        let (mut first, mut second, mut small) = (room(), room(), room());
        assert!(first.grow(5 << 20).is_ok());
        // Three quarters are 6 MiB.
        assert!(second.grow(1 << 20).is_ok());
        assert_eq!(
            second.grow((1 << 20) + 1).unwrap_err().to_string(),
            "bodies that are being read take too much memory together (limit 8388608 bytes)"
        );
        assert!(second.grow(1 << 20).is_ok(), "what it has stays its own");
        assert!(small.grow(1 << 20).is_ok() && room().grow(SMALL_BYTES).is_ok());
        drop(first);
        assert!(second.grow(2 << 20).is_ok());
        drop((second, small));
        assert_eq!(SHARED.taken.load(Ordering::Relaxed), 0);
    }
}
