//! Sorting what may be millions of series: as the standard library does, but in runs that are merged, so that whoever waits
//! no longer is noticed between two of them.

use std::cmp::Ordering;

use fk_storage::{Control, Stopped};

/// Elements that are sorted, or merged, between two looks at the control.
const RUN: usize = 1 << 12;

/// Sorts by `compare`, equal elements in the order they came in. With an error some elements are gone.
pub(crate) fn sort<T>(
    items: &mut Vec<T>,
    control: &Control,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Result<(), Stopped> {
    control.check()?;
    if items.len() <= RUN {
        items.sort_by(compare);
        return Ok(());
    }
    // The elements may be large, so their numbers are what is moved.
    let mut order: Vec<usize> = (0..items.len()).collect();
    for run in order.chunks_mut(RUN) {
        control.check()?;
        run.sort_by(|a, b| compare(&items[*a], &items[*b]));
    }
    let mut merged = Vec::with_capacity(order.len());
    let mut width = RUN;
    while width < order.len() {
        merged.clear();
        for pair in order.chunks(2 * width) {
            let (left, right) = pair.split_at(width.min(pair.len()));
            merge(left, right, &mut merged, control, |a, b| compare(&items[a], &items[b]))?;
        }
        std::mem::swap(&mut order, &mut merged);
        width *= 2;
    }
    let mut taken: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.iter().filter_map(|at| taken[*at].take()));
    Ok(())
}

/// Appends two sorted runs as one.
fn merge(
    mut left: &[usize],
    mut right: &[usize],
    out: &mut Vec<usize>,
    control: &Control,
    compare: impl Fn(usize, usize) -> Ordering,
) -> Result<(), Stopped> {
    let mut until_check = RUN;
    while let (Some((l, left_rest)), Some((r, right_rest))) = (left.split_first(), right.split_first()) {
        if compare(*l, *r) == Ordering::Greater {
            out.push(*r);
            right = right_rest;
        } else {
            out.push(*l);
            left = left_rest;
        }
        until_check -= 1;
        if until_check == 0 {
            control.check()?;
            until_check = RUN;
        }
    }
    out.extend_from_slice(left);
    out.extend_from_slice(right);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_merged_to_what_the_standard_library_gives() {
        for n in [0, 1, RUN, RUN + 1, 2 * RUN, 5 * RUN + 77, 8 * RUN] {
            // Few values, so that many are equal.
            let mut items: Vec<(usize, usize)> = (0..n).map(|i| (i.wrapping_mul(2_654_435_761) % 997, i)).collect();
            let mut want = items.clone();
            want.sort_by_key(|(value, _)| *value);
            sort(&mut items, &Control::new(), |a, b| a.0.cmp(&b.0)).unwrap();
            assert_eq!(items, want, "{n}");
        }
    }

    #[test]
    fn a_cancelled_sort_ends_within_a_run() {
        let control = Control::new();
        let compared = std::cell::Cell::new(0usize);
        let mut items: Vec<usize> = (0..20 * RUN).rev().collect();
        let result = sort(&mut items, &control, |a, b| {
            compared.set(compared.get() + 1);
            if compared.get() == 10 {
                control.cancel();
            }
            a.cmp(b)
        });
        assert_eq!(result, Err(Stopped::Cancelled));
        assert!(compared.get() < 20 * RUN, "{}", compared.get());
    }
}
