//! The sort of Go's `sort.Sort`, for `sort` and `sort_desc`: it is not stable, so which of several equal values comes first
//! depends on its steps (a pattern-defeating quicksort). They are taken here one by one.

/// Ranges of so many elements or fewer are sorted by insertion.
const INSERTION_MAX: usize = 12;

/// From so many elements on the pivot is the median of medians.
const NINTHER_MIN: usize = 50;

/// Places out of order that are mended before a range does not count as nearly sorted.
const MENDED_MAX: usize = 5;

/// Shorter ranges are not mended.
const MENDED_LEN_MIN: usize = 50;

/// Elements that can be exchanged while a pivot is chosen among three medians.
const PIVOT_SWAPS_MAX: usize = 12;

/// Sorts by `less`, which need not be an order: NaN may be less than itself.
pub(crate) fn sort<T: Copy>(items: &mut [T], less: impl Fn(T, T) -> bool) {
    let n = items.len();
    Sorter { items, less }.sort(0, n, usize::BITS - n.leading_zeros());
}

struct Sorter<'i, T, L> {
    items: &'i mut [T],
    less: L,
}

/// What the choice of a pivot says about a range.
#[derive(PartialEq)]
enum Hint {
    Unknown,
    Increasing,
    Decreasing,
}

impl<T: Copy, L: Fn(T, T) -> bool> Sorter<'_, T, L> {
    fn less(&self, a: usize, b: usize) -> bool {
        (self.less)(self.items[a], self.items[b])
    }

    /// Sorts `a..b`. After `limit` bad pivots it goes on as a heap sort. Recurses into the shorter part only.
    fn sort(&mut self, mut a: usize, mut b: usize, mut limit: u32) {
        let (mut was_balanced, mut was_partitioned) = (true, true);
        loop {
            let len = b - a;
            if len <= INSERTION_MAX {
                return self.by_insertion(a, b);
            }
            if limit == 0 {
                return self.by_heap(a, b);
            }
            if !was_balanced {
                self.break_patterns(a, b);
                limit -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(a, b);
            if hint == Hint::Decreasing {
                self.items[a..b].reverse();
                pivot = (b - 1) - (pivot - a);
                hint = Hint::Increasing;
            }
            if was_balanced && was_partitioned && hint == Hint::Increasing && self.mend(a, b) {
                return;
            }
            // The pivot is the least there is: what equals it is done.
            if a > 0 && !self.less(a - 1, pivot) {
                a = self.partition_equal(a, b, pivot);
                continue;
            }
            let (middle, already) = self.partition(a, b, pivot);
            was_partitioned = already;
            let (left, right) = (middle - a, b - middle);
            was_balanced = left.min(right) >= len / 8;
            if left < right {
                self.sort(a, middle, limit);
                a = middle + 1;
            } else {
                self.sort(middle + 1, b, limit);
                b = middle;
            }
        }
    }

    fn by_insertion(&mut self, a: usize, b: usize) {
        for i in a + 1..b {
            let mut j = i;
            while j > a && self.less(j, j - 1) {
                self.items.swap(j, j - 1);
                j -= 1;
            }
        }
    }

    fn by_heap(&mut self, a: usize, b: usize) {
        let n = b - a;
        for root in (0..=(n - 1) / 2).rev() {
            self.sift_down(root, n, a);
        }
        for end in (0..n).rev() {
            self.items.swap(a, a + end);
            self.sift_down(0, end, a);
        }
    }

    fn sift_down(&mut self, mut root: usize, end: usize, first: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= end {
                return;
            }
            if child + 1 < end && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.items.swap(first + root, first + child);
            root = child;
        }
    }

    /// Moves what is less than the pivot to the left. Where the pivot is then, and whether nothing else had to be moved.
    fn partition(&mut self, a: usize, b: usize, pivot: usize) -> (usize, bool) {
        self.items.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        let mut moved = false;
        loop {
            while i <= j && self.less(i, a) {
                i += 1;
            }
            while i <= j && !self.less(j, a) {
                j -= 1;
            }
            if i > j {
                self.items.swap(j, a);
                return (j, !moved);
            }
            self.items.swap(i, j);
            moved = true;
            i += 1;
            j -= 1;
        }
    }

    /// Moves what equals the pivot to the left of what is greater. Where the latter begins.
    fn partition_equal(&mut self, a: usize, b: usize, pivot: usize) -> usize {
        self.items.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        loop {
            while i <= j && !self.less(a, i) {
                i += 1;
            }
            while i <= j && self.less(a, j) {
                j -= 1;
            }
            if i > j {
                return i;
            }
            self.items.swap(i, j);
            i += 1;
            j -= 1;
        }
    }

    /// Sorts a range that is nearly sorted. Whether it was.
    fn mend(&mut self, a: usize, b: usize) -> bool {
        let mut i = a + 1;
        for _ in 0..MENDED_MAX {
            while i < b && !self.less(i, i - 1) {
                i += 1;
            }
            if i == b {
                return true;
            }
            if b - a < MENDED_LEN_MIN {
                return false;
            }
            self.items.swap(i, i - 1);
            if i - a >= 2 {
                let mut j = i - 1;
                while j >= 1 && self.less(j, j - 1) {
                    self.items.swap(j, j - 1);
                    j -= 1;
                }
            }
            if b - i >= 2 {
                let mut j = i + 1;
                while j < b && self.less(j, j - 1) {
                    self.items.swap(j, j - 1);
                    j += 1;
                }
            }
        }
        false
    }

    /// Exchanges some elements, so that a pattern that makes bad pivots does not do so again.
    fn break_patterns(&mut self, a: usize, b: usize) {
        let len = b - a;
        if len < 8 {
            return;
        }
        let mut random = len as u64;
        let mask = (1u64 << (u64::BITS - (len as u64).leading_zeros())) - 1;
        let at = a + (len / 4) * 2 - 1;
        for i in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let other = (random & mask) as usize;
            let other = if other >= len { other - len } else { other };
            self.items.swap(at + i, a + other);
        }
    }

    fn choose_pivot(&self, a: usize, b: usize) -> (usize, Hint) {
        let len = b - a;
        let mut swaps = 0;
        let quarter = len / 4;
        let (mut i, mut j, mut k) = (a + quarter, a + quarter * 2, a + quarter * 3);
        if len >= 8 {
            if len >= NINTHER_MIN {
                i = self.median(i - 1, i, i + 1, &mut swaps);
                j = self.median(j - 1, j, j + 1, &mut swaps);
                k = self.median(k - 1, k, k + 1, &mut swaps);
            }
            j = self.median(i, j, k, &mut swaps);
        }
        let hint = match swaps {
            0 => Hint::Increasing,
            PIVOT_SWAPS_MAX => Hint::Decreasing,
            _ => Hint::Unknown,
        };
        (j, hint)
    }

    fn median(&self, a: usize, b: usize, c: usize, swaps: &mut usize) -> usize {
        let mut order = |a, b| match self.less(b, a) {
            true => {
                *swaps += 1;
                (b, a)
            }
            false => (a, b),
        };
        let (a, b) = order(a, b);
        let (b, _) = order(b, c);
        order(a, b).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which element comes where, as a hash, of `n` values made of `m`; recorded from Go.
    const RECORDED: &[(usize, usize, u64)] = &[
        (0, 1, 0xcbf29ce484222325),
        (0, 2, 0xcbf29ce484222325),
        (0, 3, 0xcbf29ce484222325),
        (0, 10, 0xcbf29ce484222325),
        (0, 1000, 0xcbf29ce484222325),
        (1, 1, 0xaf63bd4c8601b7df),
        (1, 2, 0xaf63bd4c8601b7df),
        (1, 3, 0xaf63bd4c8601b7df),
        (1, 10, 0xaf63bd4c8601b7df),
        (1, 1000, 0xaf63bd4c8601b7df),
        (5, 1, 0x3378e3d0c52edfaf),
        (5, 2, 0xb7f6a0c7aa77e781),
        (5, 3, 0x6975b18d58d5884b),
        (5, 10, 0x3aa8afbf67e7f107),
        (5, 1000, 0x3378e3d0c52edfaf),
        (12, 1, 0x2d7d4819416d7fb9),
        (12, 2, 0x2726cc2473c34e5f),
        (12, 3, 0xc2fe4e61c43e2e29),
        (12, 10, 0x1fe08bf789d015e1),
        (12, 1000, 0x89c18a7da12466d7),
        (13, 1, 0xb96137ea2d10008f),
        (13, 2, 0xaf8dc23079c552b9),
        (13, 3, 0x029be612efc135ab),
        (13, 10, 0x073dc461662c95bb),
        (13, 1000, 0x096decb67a467fe7),
        (20, 1, 0xcc927f6ee23a0f61),
        (20, 2, 0xa3c12432157113db),
        (20, 3, 0xd56e6796a546ac6f),
        (20, 10, 0xe9e4bd7e645b476f),
        (20, 1000, 0x40716fe43c7e769d),
        (49, 1, 0x360a5c9d3b1bf95f),
        (49, 2, 0x996be041272785ff),
        (49, 3, 0x37ac50076d1819af),
        (49, 10, 0x6364d1e95e752e7f),
        (49, 1000, 0xa07e6649ea205a51),
        (50, 1, 0xef94cd2b7088d5ea),
        (50, 2, 0xbe27ca7271e79498),
        (50, 3, 0x3bede27b1c8c7ffa),
        (50, 10, 0x30ebcec619a53df0),
        (50, 1000, 0x19341ebc8e24738a),
        (51, 1, 0xa2ae78d038835e08),
        (51, 2, 0x7969cf9a47b53c2a),
        (51, 3, 0xb1b9b739f0bcf212),
        (51, 10, 0xed229919efc114ce),
        (51, 1000, 0x16ab451fe3dd9e8e),
        (100, 1, 0xfb5c8cec60d83ab1),
        (100, 2, 0x4ea0f5d0e531bb4f),
        (100, 3, 0x940a5eafa5e9d019),
        (100, 10, 0xbd88728ca28f3c35),
        (100, 1000, 0x72cb38bbf03a9d71),
        (333, 1, 0x628eb3883995210f),
        (333, 2, 0x4a8ba244249eaf75),
        (333, 3, 0xfd75845359b335db),
        (333, 10, 0xd42f12e1be218377),
        (333, 1000, 0x48fb46603c6277d5),
        (1000, 1, 0x988cc5afd8cb65dd),
        (1000, 2, 0xa3aa7c7f5e18d0cd),
        (1000, 3, 0x8029ee2a46378b79),
        (1000, 10, 0x8d9672d85dc83933),
        (1000, 1000, 0x778ed5ad3e4b805d),
        (5000, 1, 0x7405579c4bb800fd),
        (5000, 2, 0xb2432b0dda75013d),
        (5000, 3, 0x4aabf973349a3d6f),
        (5000, 10, 0x6e7461341feb0ab3),
        (5000, 1000, 0xd06f22016640f3e1),
    ];

    #[test]
    fn equal_values_come_in_the_order_of_go() {
        for &(n, m, want) in RECORDED {
            let value = |i: usize| match m {
                10 if i % 17 == 3 => f64::NAN,
                1000 => (i.min(n - i) / 3) as f64,
                m => (i * 7919 % m) as f64,
            };
            let mut items: Vec<(f64, usize)> = (0..n).map(|i| (value(i), i)).collect();
            sort(&mut items, |a, b| b.0.is_nan() || b.0 < a.0);
            let hash = |hash: u64, item: &(f64, usize)| (hash ^ item.1 as u64).wrapping_mul(1_099_511_628_211);
            let got = items.iter().fold(14_695_981_039_346_656_037, hash);
            assert_eq!(got, want, "{n} values of {m}");
        }
    }

    #[test]
    fn anything_is_sorted() {
        let mut random = 1u64;
        for n in (0..200).chain([1000, 3000]) {
            for values in [2, 7, 1 << 40] {
                let mut items: Vec<u64> = (0..n)
                    .map(|_| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        (random >> 20) % values
                    })
                    .collect();
                let mut want = items.clone();
                want.sort_unstable();
                sort(&mut items, |a, b| a < b);
                assert_eq!(items, want);
                // By a heap alone.
                items.reverse();
                Sorter { items: &mut items, less: |a, b| a < b }.sort(0, n, 0);
                assert_eq!(items, want);
            }
        }
    }
}
