//! When a target is scraped, and which timestamp its samples get. All in nanoseconds since the Unix epoch.

/// How late a scrape may start and still get the timestamp of its slot, unless configured (`--scrape.timestamp-tolerance`).
pub const ALIGN_TOLERANCE_NS: i64 = 2_000_000;

/// FNV-1a, 64 bits.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn write(mut self, bytes: &[u8]) -> Fnv {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        self
    }

    pub(crate) fn finish(self) -> u64 {
        self.0
    }
}

/// The seed that moves all targets of a server: two servers with different names or external labels scrape at different
/// moments. `external_labels` is their text form.
pub fn offset_seed(fully_qualified_host_name: &str, external_labels: &fk_model::Labels) -> u64 {
    Fnv::new().write(fully_qualified_host_name.as_bytes()).write(external_labels.to_string().as_bytes()).finish()
}

/// How long to wait from `now_ns` until the first scrape of the target with this identity.
pub fn first_scrape_in(now_ns: i64, interval_ns: i64, identity: u64, seed: u64) -> i64 {
    let interval = interval_ns.max(1);
    let base = interval - now_ns.rem_euclid(interval);
    let offset = (identity ^ seed) % interval.unsigned_abs();
    let wait = base + offset as i64;
    if wait > interval { wait - interval } else { wait }
}

/// The timestamp of a scrape that starts at `now_ns`: the time of its slot (`first_ns` plus whole intervals) if it starts
/// at most `tolerance_ns` and one percent of the interval late, else `now_ns`. Equal distances of timestamps compress far better.
pub fn aligned_timestamp(now_ns: i64, first_ns: i64, interval_ns: i64, tolerance_ns: i64) -> i64 {
    let interval = interval_ns.max(1);
    let late = now_ns.saturating_sub(first_ns);
    if late < 0 {
        return now_ns;
    }
    let late = late % interval;
    if late <= (interval / 100).min(tolerance_ns) { now_ns - late } else { now_ns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_model::Labels;

    #[test]
    fn fnv_is_the_published_function() {
        assert_eq!(Fnv::new().finish(), 0xcbf29ce484222325);
        assert_eq!(Fnv::new().write(b"foo").write(b"bar").finish(), 0x85944171f73967e8);
    }

    #[test]
    fn first_scrapes_are_spread_over_the_interval_and_stay_at_the_same_place() {
        let interval = 10_000_000_000;
        let mut places = Vec::new();
        for identity in 0..1000u64 {
            let identity = Fnv::new().write(&identity.to_le_bytes()).finish();
            let now = 1_700_000_003_123_456_789;
            let wait = first_scrape_in(now, interval, identity, 7);
            assert!((1..=interval).contains(&wait));
            let later = now + 25_000_000_001;
            let place = (now + wait) % interval;
            assert_eq!((later + first_scrape_in(later, interval, identity, 7)) % interval, place);
            places.push(place);
        }
        let late_half = places.iter().filter(|p| **p >= interval / 2).count();
        assert!((400..600).contains(&late_half), "{late_half} of 1000 in the second half");
    }

    #[test]
    fn other_external_labels_give_another_seed() {
        let a = offset_seed("host", &Labels::empty());
        let b = offset_seed("host", &Labels::from_pairs([("replica", "b")]));
        assert_eq!(a, Fnv::new().write(b"host{}").finish());
        assert_ne!(a, b);
    }

    #[test]
    fn timestamps_are_aligned_only_within_the_tolerance() {
        let (ms, s) = (1_000_000, 1_000_000_000);
        for (now, interval, expected) in [
            (5 * s, s, 5 * s),
            (5 * s + 2 * ms, s, 5 * s),
            (5 * s + 2 * ms + 1, s, 5 * s + 2 * ms + 1),
            (5 * s - ms, s, 5 * s - ms),
            // One percent of 100 ms.
            (s + 1_000_000, 100 * ms, s),
            (s + 1_000_001, 100 * ms, s + 1_000_001),
        ] {
            assert_eq!(aligned_timestamp(now, 0, interval, ALIGN_TOLERANCE_NS), expected);
        }
        assert_eq!(aligned_timestamp(-5, 0, s, ALIGN_TOLERANCE_NS), -5);
        // A wider tolerance still ends at one percent of the interval; none at all aligns nothing late.
        assert_eq!(aligned_timestamp(5 * s + 9 * ms, 0, s, 20 * ms), 5 * s);
        assert_eq!(aligned_timestamp(5 * s + 11 * ms, 0, s, 20 * ms), 5 * s + 11 * ms);
        assert_eq!(aligned_timestamp(5 * s + ms, 0, s, 0), 5 * s + ms);
    }
}
