//! Which blocks are too old or too many. A function of times and sizes; nothing here touches a file.
//!
//! By time a block goes when the newest block begins the retention time after it, as with Prometheus: not the clock counts but
//! the data, so a server that was off for a month does not come up empty. By size the oldest go until blocks, head and logs
//! fit.
//!
//! Prometheus removes everything when one block from the future appears. What guards against that and its like:
//!
//! - Blocks more than a day ahead of the clock neither count nor go ([`FUTURE_MS_MAX`]).
//! - After the clock has jumped by more than ten minutes nothing goes by time for two hours ([`ClockGuard`]).
//! - The size of the log and the head makes at most one block go at a time: they shrink by themselves.
//! - At most a quarter of the blocks (one at least) go at a time, and the next quarter an hour later, unless the settings
//!   have changed ([`Policy::unlimited`]).

use fk_block::Ulid;

use crate::db::Retention;
use crate::maintain::Now;

/// How far a block may be ahead of the clock, ms.
pub const FUTURE_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// A difference between two clocks that counts as a jump, ms.
const JUMP_MS_MIN: i64 = 10 * 60 * 1000;

/// How long nothing goes by time after a jump, ms.
const JUMP_PAUSE_MS: i64 = 2 * 60 * 60 * 1000;

/// How long it takes from one quarter of the blocks to the next, ms.
const QUARTER_PAUSE_MS: i64 = 60 * 60 * 1000;

/// The part of the blocks that may go at a time: one of so many.
const PART: usize = 4;

/// What is known of a block.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its name.
    pub ulid: Ulid,
    /// The time behind its last sample, ms.
    pub max_time: i64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Why a block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is too old.
    Time,
    /// There is too much.
    Size,
}

/// What applies at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The settings.
    pub retention: Retention,
    /// The clock, ms.
    pub now_ms: i64,
    /// Bytes that blocks, head and logs may have together, from [`size_limit`]; `None`: any.
    pub bytes_max: Option<u64>,
    /// Bytes of head and logs.
    pub head_bytes: u64,
    /// Whether the clock is trusted ([`ClockGuard`]).
    pub by_time: bool,
    /// Whether as many may go as have to, since the settings are new.
    pub unlimited: bool,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The blocks, oldest first.
    pub remove: Vec<(Ulid, Cause)>,
    /// Blocks that would go as well if the guards did not keep them for now.
    pub held_back: usize,
    /// Whether more would have gone than may go at a time: the rest has to wait ([`ClockGuard::begin_pause`]).
    pub limited: bool,
    /// Blocks from the future, which are left out of account.
    pub ahead: usize,
}

/// The bytes that may be used, from the settings and the size of the file system; `None`: any.
pub fn size_limit(retention: &Retention, disk_bytes: Option<u64>) -> Option<u64> {
    match (retention.percent > 0.0, disk_bytes) {
        (true, Some(disk)) if disk > 0 => Some((disk as f64 * retention.percent / 100.0) as u64),
        _ => (retention.bytes > 0).then_some(retention.bytes),
    }
}

/// Decides which blocks go now.
pub fn judge(blocks: &[Candidate], policy: &Policy) -> Verdict {
    let horizon = policy.now_ms.saturating_add(FUTURE_MS_MAX);
    // Newest first.
    let mut blocks: Vec<&Candidate> = blocks.iter().collect();
    blocks.sort_by_key(|block| std::cmp::Reverse((block.max_time, block.ulid)));
    let all = blocks.len();
    blocks.retain(|block| block.max_time <= horizon);
    let ahead = all - blocks.len();

    let mut keep = blocks.len();
    let mut held_back = 0;
    let retention_ms = policy.retention.time_ms;
    if retention_ms > 0
        && let Some(newest) = blocks.first()
    {
        let reference = newest.max_time.min(policy.now_ms.max(0));
        let is_young = |block: &&Candidate| reference.saturating_sub(block.max_time) < retention_ms;
        // The newest block never goes by time.
        let young = blocks.partition_point(is_young).max(1);
        if policy.by_time {
            keep = young;
        } else {
            held_back = blocks.len() - young;
        }
    }
    let by_time = blocks.len() - keep;
    let mut by_size = 0;
    if let Some(bytes_max) = policy.bytes_max {
        let fits = |head_bytes: u64| {
            let mut total = head_bytes;
            blocks
                .iter()
                .take_while(|block| {
                    total = total.saturating_add(block.bytes);
                    total <= bytes_max
                })
                .count()
                .min(keep)
        };
        let (alone, with_head) = (fits(0), fits(policy.head_bytes));
        // Blocks that go by time make room as well.
        let one_more = usize::from(with_head < alone && by_time == 0 && alone == keep);
        let target = alone - one_more;
        held_back += if one_more == 0 { 0 } else { target - with_head };
        by_size = keep - target;
        keep = target;
    }
    let mut remove: Vec<(Ulid, Cause)> = blocks[keep..].iter().rev().map(|block| (block.ulid, Cause::Size)).collect();
    // The oldest are the ones that are too old.
    for (_, cause) in remove.iter_mut().take(by_time) {
        *cause = Cause::Time;
    }
    debug_assert_eq!(remove.len(), by_time + by_size);
    let most = (all / PART).max(1);
    let limited = !policy.unlimited && remove.len() > most;
    if limited {
        held_back += remove.len() - most;
        remove.truncate(most);
    }
    Verdict { remove, held_back, limited, ahead }
}

/// Watches two clocks for jumps, and the time between quarters.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockGuard {
    last: Option<Now>,
    /// When the clock last jumped, on the steady clock.
    jumped_ms: Option<i64>,
    /// When as many blocks as allowed have gone, on the steady clock.
    quarter_ms: Option<i64>,
    /// Jumps so far.
    pub jumps: u64,
}

impl ClockGuard {
    /// Takes a look at the clocks; call it often. Returns by how much the clock has jumped, ms, if it has.
    pub fn look(&mut self, now: Now) -> Option<i64> {
        let last = self.last.replace(now)?;
        let by = now.wall_ms.saturating_sub(last.wall_ms).saturating_sub(now.steady_ms.saturating_sub(last.steady_ms));
        if by.unsigned_abs() < JUMP_MS_MIN as u64 {
            return None;
        }
        self.jumped_ms = Some(now.steady_ms);
        self.jumps += 1;
        Some(by)
    }

    /// Whether blocks may go by time.
    pub fn trusts_clock(&self, now: Now) -> bool {
        self.jumped_ms.is_none_or(|then| now.steady_ms - then >= JUMP_PAUSE_MS)
    }

    /// Whether the pause after a quarter of the blocks is over.
    pub fn pause_is_over(&self, now: Now) -> bool {
        self.quarter_ms.is_none_or(|then| now.steady_ms - then >= QUARTER_PAUSE_MS)
    }

    /// Notes that as many blocks as allowed have gone.
    pub fn begin_pause(&mut self, now: Now) {
        self.quarter_ms = Some(now.steady_ms);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 60 * 60 * 1000;
    const NOW: i64 = 1_700_000_000_000;

    fn policy() -> Policy {
        let retention = Retention { time_ms: 0, bytes: 0, percent: 0.0 };
        Policy { retention, now_ms: NOW, bytes_max: None, head_bytes: 0, by_time: true, unlimited: true }
    }

    fn by_time(hours: i64) -> Policy {
        Policy { retention: Retention { time_ms: hours * HOUR, bytes: 0, percent: 0.0 }, ..policy() }
    }

    /// Blocks of 10 bytes whose ends are so many hours before now.
    fn blocks(ages: &[i64]) -> Vec<Candidate> {
        let block =
            |(i, age): (usize, &i64)| Candidate { ulid: Ulid(i as u128), max_time: NOW - age * HOUR, bytes: 10 };
        ages.iter().enumerate().map(block).collect()
    }

    /// The ages of the blocks that go, oldest first.
    fn gone(ages: &[i64], policy: &Policy) -> Vec<i64> {
        judge(&blocks(ages), policy).remove.into_iter().map(|(ulid, _)| ages[ulid.0 as usize]).collect()
    }

    #[test]
    fn old_blocks_go_by_the_age_of_the_newest() {
        assert_eq!(gone(&[2, 4, 6, 8], &by_time(6)), [8]);
        assert_eq!(gone(&[2, 4, 6, 8], &by_time(4)), [8, 6]);
        assert_eq!(gone(&[2, 4, 6, 8], &by_time(0)), [0; 0]);
        assert_eq!(gone(&[1000, 1002], &by_time(6)), [0; 0], "a server that was off keeps what it has");
        assert_eq!(gone(&[1000], &by_time(6)), [0; 0]);
        assert_eq!(gone(&[], &by_time(6)), [0; 0]);
    }

    #[test]
    fn a_block_from_the_future_changes_nothing() {
        let ages = [2, 4, 6, 8, -24 * 365 * 70];
        let verdict = judge(&blocks(&ages), &by_time(6));
        assert_eq!(verdict, Verdict { remove: vec![(Ulid(3), Cause::Time)], held_back: 0, limited: false, ahead: 1 });
        // A little ahead counts as now.
        assert_eq!(gone(&[-20, 4, 6, 8], &by_time(8)), [8]);
        // By size it does not count either.
        let by_size = Policy { bytes_max: Some(40), ..policy() };
        assert_eq!(gone(&ages, &by_size), [0; 0]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let by_size = |max, head| Policy { bytes_max: Some(max), head_bytes: head, ..policy() };
        assert_eq!(gone(&[2, 4, 6, 8], &by_size(40, 0)), [0; 0]);
        assert_eq!(gone(&[2, 4, 6, 8], &by_size(39, 0)), [8]);
        assert_eq!(gone(&[2, 4, 6, 8], &by_size(15, 0)), [8, 6, 4]);
        assert_eq!(gone(&[2, 4, 6, 8], &by_size(5, 0)), [8, 6, 4, 2]);
        // Head and log count, for one block at a time.
        assert_eq!(gone(&[2, 4, 6, 8], &by_size(45, 6)), [8]);
        assert_eq!(gone(&[2, 4, 6, 8], &by_size(45, 1_000_000)), [8]);
        assert_eq!(judge(&blocks(&[2, 4, 6, 8]), &by_size(45, 1_000_000)).held_back, 3);
        assert_eq!(gone(&[2, 4, 6, 8], &by_size(30, 1_000_000)), [8], "one went for the blocks' own size");
        // Both limits.
        let both = Policy { bytes_max: Some(25), ..by_time(6) };
        let verdict = judge(&blocks(&[2, 4, 6, 8]), &both);
        assert_eq!(verdict.remove, [(Ulid(3), Cause::Time), (Ulid(2), Cause::Size)]);
    }

    #[test]
    fn limits_of_size_come_from_bytes_or_the_disk() {
        let retention = |bytes, percent| Retention { time_ms: 0, bytes, percent };
        assert_eq!(size_limit(&retention(0, 0.0), Some(1000)), None);
        assert_eq!(size_limit(&retention(7, 0.0), Some(1000)), Some(7));
        assert_eq!(size_limit(&retention(7, 50.0), Some(1000)), Some(500));
        assert_eq!(size_limit(&retention(7, 50.0), None), Some(7));
        assert_eq!(size_limit(&retention(0, 50.0), Some(0)), None);
    }

    #[test]
    fn guards_hold_back_what_may_be_a_mistake() {
        let ages: Vec<i64> = (1..=8).map(|i| i * 2).collect();
        let limited = Policy { unlimited: false, ..by_time(2) };
        let verdict = judge(&blocks(&ages), &limited);
        assert_eq!((verdict.remove.len(), verdict.held_back, verdict.limited), (2, 5, true));
        assert_eq!(verdict.remove[0].0, Ulid(7), "the oldest first");
        assert_eq!(gone(&[2, 200], &limited), [200], "one may always go");
        let distrustful = Policy { by_time: false, ..by_time(2) };
        assert_eq!(
            judge(&blocks(&ages), &distrustful),
            Verdict { remove: vec![], held_back: 7, limited: false, ahead: 0 }
        );
    }

    #[test]
    fn jumps_of_the_clock_are_noticed() {
        let mut guard = ClockGuard::default();
        let at = |wall_ms, steady_ms| Now { wall_ms, steady_ms };
        assert_eq!(guard.look(at(NOW, 0)), None);
        assert_eq!(guard.look(at(NOW + HOUR, HOUR)), None, "a long time is no jump");
        assert_eq!(guard.look(at(NOW + HOUR + 300_000, HOUR + 1000)), None, "a small step");
        assert!(guard.trusts_clock(at(NOW, HOUR)));
        assert_eq!(guard.look(at(NOW - HOUR, HOUR + 2000)), Some(-2 * HOUR - 301_000));
        assert!(!guard.trusts_clock(at(0, 2 * HOUR)));
        assert!(guard.trusts_clock(at(0, 3 * HOUR + 2000)));
        assert_eq!(guard.look(at(i64::MAX, HOUR + 3000)).map(i64::signum), Some(1));
        assert_eq!(guard.look(at(i64::MIN, HOUR + 4000)).map(i64::signum), Some(-1));
        assert_eq!(guard.jumps, 3);
        assert!(guard.pause_is_over(at(0, 0)));
        guard.begin_pause(at(0, HOUR));
        assert!(!guard.pause_is_over(at(0, 2 * HOUR - 1)));
        assert!(guard.pause_is_over(at(0, 2 * HOUR)));
    }

    proptest! {
        /// Whatever the settings: only old ones go, without holes, and never more than allowed.
        #[test]
        fn what_goes_is_always_the_oldest(
            ages in prop::collection::vec(-40i64..200, 0..20),
            hours in 0i64..100,
            bytes_max in prop::option::of(0u64..300),
            head_bytes in 0u64..300,
            flags in any::<(bool, bool)>(),
        ) {
            let policy = Policy { bytes_max, head_bytes, by_time: flags.0, unlimited: flags.1, ..by_time(hours) };
            let verdict = judge(&blocks(&ages), &policy);
            let removed: Vec<i64> = verdict.remove.iter().map(|(ulid, _)| ages[ulid.0 as usize]).collect();
            prop_assert!(removed.is_sorted_by(|a, b| a >= b));
            prop_assert!(removed.iter().all(|age| *age >= -24));
            if !policy.unlimited {
                prop_assert!(removed.len() <= (ages.len() / 4).max(1));
            }
            if let Some(youngest) = removed.last() {
                let older = ages.iter().filter(|age| *age > youngest).count();
                prop_assert!(older < removed.len() || removed.len() == older, "{removed:?} of {ages:?}");
            }
            if !policy.by_time {
                prop_assert!(verdict.remove.iter().all(|(_, cause)| *cause == Cause::Size));
            }
        }
    }
}
