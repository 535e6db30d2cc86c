//! Finding series by matchers: operations on sorted lists; expressions are asked once per label value, never per series.
//!
//! If a matcher refuses series without the label, a series must be in the list of one of its *hits* among the values;
//! otherwise it must not be in the list of any (then the hits are the values that the matcher refuses). Lists are read
//! where they stand in the file. The cheapest matchers come first; an expression that meets few candidates looks at their
//! labels instead of at all values of the name. What an expression has found among many values is kept: see `answers`.

use fk_model::{MatchKind, Matcher};
use fk_storage::{Control, StorageError};
use hashbrown::HashMap;

use crate::answers::{self, Answers};
use crate::index::{Index, List, SeriesEntry, Value};

/// Looking at the labels of a candidate costs about as much as asking so many values.
const VALUES_PER_CANDIDATE: usize = 4;

/// The caller's control is asked after so many values or series.
const STEPS_PER_CHECK: usize = 4096;

/// From so many series on, lists are put together as a bitmap if that is not much larger than they are.
const BITMAP_SERIES_MIN: usize = 4096;

/// What a matcher asks of the index.
enum Hits<'m> {
    /// The label pair.
    One(&'m str),
    /// A short list of values.
    Few(&'m [String]),
    /// All values of the name.
    All,
    /// The values that it accepts (or refuses).
    Tested,
}

struct Planned<'m> {
    matcher: &'m Matcher,
    /// Series must have a hit; otherwise they must not have one.
    include: bool,
    hits: Hits<'m>,
}

impl<'m> Planned<'m> {
    /// `None` if every series is accepted.
    fn new(matcher: &'m Matcher) -> Option<Planned<'m>> {
        let include = !matcher.matches_empty();
        let literal = matches!(matcher.kind, MatchKind::Equal | MatchKind::NotEqual);
        // The texts are the hits if the expression accepts them and has to, or refuses them and must not.
        let by_list = include == (matcher.kind == MatchKind::Regex);
        let hits = match (literal, matcher.regex()) {
            (true, _) if matcher.value.is_empty() => Hits::All,
            (true, _) => Hits::One(&matcher.value),
            (false, Some(regex)) => match (regex.set_matches().filter(|_| by_list), regex.source()) {
                (Some(texts), _) => Hits::Few(texts),
                // Values are never empty, so these accept (or refuse) every one of them.
                (None, ".+" | ".*") if by_list => Hits::All,
                (None, ".*") if !include => return None,
                (None, _) => Hits::Tested,
            },
            (false, None) => Hits::Tested,
        };
        Some(Planned { matcher, include, hits })
    }

    /// The fewer, the earlier.
    fn cost(&self, index: &Index) -> (bool, usize) {
        let cost = match self.hits {
            Hits::One(_) => 0,
            Hits::Few(texts) => texts.len(),
            Hits::All | Hits::Tested => index.n_values(&self.matcher.name),
        };
        (!self.include, cost)
    }

    /// Whether a value that a series has is a hit.
    fn is_hit(&self, value: &str) -> bool {
        self.matcher.matches(value) == self.include
    }
}

/// The series that all matchers accept, ascending.
pub(crate) fn search(
    index: &Index,
    answers: &Answers,
    matchers: &[Matcher],
    control: &Control,
) -> Result<Vec<u32>, StorageError> {
    control.check()?;
    let mut plan: Vec<_> = matchers.iter().filter_map(Planned::new).collect();
    plan.sort_by_key(|planned| planned.cost(index));
    let mut found: Option<Vec<u32>> = None;
    for planned in &plan {
        if found.is_none() && !planned.include {
            found = Some(index.all_series()?.iter().collect());
        }
        if found.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
        step(index, answers, planned, &mut found, control)?;
    }
    match found {
        Some(found) => Ok(found),
        None => Ok(index.all_series()?.iter().collect()),
    }
}

fn step(
    index: &Index,
    answers: &Answers,
    planned: &Planned<'_>,
    found: &mut Option<Vec<u32>>,
    control: &Control,
) -> Result<(), StorageError> {
    let name = &planned.matcher.name;
    let mut lists = Vec::new();
    let keeps = matches!(planned.hits, Hits::Tested) && index.n_values(name) >= answers::VALUES_MIN;
    let mut known = None;
    match planned.hits {
        Hits::One(value) => lists.extend(index.series_with(name, value)?),
        Hits::Few(values) => {
            for value in values {
                lists.extend(index.series_with(name, value)?);
            }
        }
        Hits::All | Hits::Tested => {
            if let Some(candidates) = found
                && candidates.len().saturating_mul(VALUES_PER_CANDIDATE) < index.n_values(name)
            {
                return look_at_labels(index, planned, candidates, control);
            }
            known = if keeps { answers.get(planned.matcher) } else { None };
            // What an expression accepts begins with its prefix; what it refuses may be anything.
            let accepts = planned.include == (planned.matcher.kind == MatchKind::Regex);
            let prefix = planned.matcher.regex().and_then(|regex| regex.prefix()).filter(|_| accepts).unwrap_or("");
            let values = if known.is_some() { None } else { Some(index.values_from(name, prefix)) };
            for (i, value) in values.into_iter().flatten().enumerate() {
                if i % STEPS_PER_CHECK == 0 {
                    control.check()?;
                }
                let value = value?;
                if !value.value.starts_with(prefix) {
                    break;
                }
                if matches!(planned.hits, Hits::All) || planned.is_hit(value.value) {
                    lists.push(index.series_of(&value)?);
                }
            }
        }
    }
    let union;
    let hits = match lists.as_slice() {
        _ if known.is_some() => Series::Numbers(known.as_deref().unwrap_or_default()),
        [] => Series::Numbers(&[]),
        [list] => Series::List(*list),
        lists => {
            union = put_together(lists, index.series_end());
            Series::Numbers(&union)
        }
    };
    if keeps && known.is_none() && hits.len() <= answers::SERIES_MAX {
        answers.put(planned.matcher, hits.to_vec().into());
    }
    match found {
        Some(found) => keep(found, &hits, planned.include),
        None => *found = Some(hits.to_vec()),
    }
    Ok(())
}

/// Keeps the candidates whose own label says so.
fn look_at_labels(
    index: &Index,
    planned: &Planned<'_>,
    candidates: &mut Vec<u32>,
    control: &Control,
) -> Result<(), StorageError> {
    let Some(name) = index.find_symbol(&planned.matcher.name)? else {
        if planned.include {
            candidates.clear();
        }
        return Ok(());
    };
    let mut known = HashMap::<u32, bool, foldhash::fast::RandomState>::default();
    let (mut entry, mut kept) = (SeriesEntry::default(), 0);
    for idx in 0..candidates.len() {
        if idx % STEPS_PER_CHECK == 0 {
            control.check()?;
        }
        index.series_symbols(candidates[idx], &mut entry)?;
        let hit = match entry.symbols.iter().find(|(of, _)| *of == name) {
            None => false,
            Some((_, value)) => match known.get(value) {
                Some(hit) => *hit,
                None => {
                    let hit = planned.is_hit(index.symbol(*value)?);
                    known.insert(*value, hit);
                    hit
                }
            },
        };
        if hit == planned.include {
            candidates[kept] = candidates[idx];
            kept += 1;
        }
    }
    candidates.truncate(kept);
    Ok(())
}

/// Sorted numbers of series, in the file or in memory.
enum Series<'a> {
    List(List<'a>),
    Numbers(&'a [u32]),
}

impl Series<'_> {
    fn len(&self) -> usize {
        match self {
            Series::List(list) => list.len(),
            Series::Numbers(numbers) => numbers.len(),
        }
    }

    #[inline]
    fn get(&self, idx: usize) -> u32 {
        match self {
            Series::List(list) => list.get(idx),
            Series::Numbers(numbers) => numbers[idx],
        }
    }

    fn to_vec(&self) -> Vec<u32> {
        match self {
            Series::List(list) => list.iter().collect(),
            Series::Numbers(numbers) => numbers.to_vec(),
        }
    }
}

/// Keeps of `found` what is in `hits`, or what is not. Both ascend; the longer one is skipped through in growing steps.
fn keep(found: &mut Vec<u32>, hits: &Series<'_>, include: bool) {
    let (mut at, end) = (0, hits.len());
    found.retain(|series| {
        if at < end && hits.get(at) < *series {
            // Gallop to a place that is not below, then halve the way back.
            let mut step = 1;
            while at + step < end && hits.get(at + step) < *series {
                at += step;
                step *= 2;
            }
            let mut high = end.min(at + step);
            let mut low = at + 1;
            while low < high {
                let middle = low.midpoint(high);
                match hits.get(middle) < *series {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            at = low;
        }
        (at < end && hits.get(at) == *series) == include
    });
}

/// All series of several lists, ascending. `end` is above all of them.
fn put_together(lists: &[List<'_>], end: u64) -> Vec<u32> {
    let n: usize = lists.iter().map(List::len).sum();
    let mut all = Vec::with_capacity(n);
    if n < BITMAP_SERIES_MIN || end / 64 > n as u64 {
        for list in lists {
            all.extend(list.iter());
        }
        all.sort_unstable();
        all.dedup();
        return all;
    }
    let mut bitmap = vec![0u64; end as usize / 64 + 1];
    for series in lists.iter().flat_map(List::iter) {
        // A number beyond the file belongs to no series; reading it would be an error, so it is kept out of here only.
        match bitmap.get_mut(series as usize / 64) {
            Some(word) => *word |= 1 << (series % 64),
            None => all.push(series),
        }
    }
    let beyond = std::mem::take(&mut all);
    all.reserve(n);
    for (i, word) in bitmap.iter().enumerate() {
        let mut word = *word;
        while word != 0 {
            all.push(i as u32 * 64 + word.trailing_zeros());
            word &= word - 1;
        }
    }
    all.extend(beyond);
    all
}

/// The values of label `name` that series of `found` have, in order.
pub(crate) fn values_of(
    index: &Index,
    name: &str,
    found: &[u32],
    control: &Control,
) -> Result<Vec<String>, StorageError> {
    let mut values = Vec::new();
    if found.len().saturating_mul(VALUES_PER_CANDIDATE) < index.n_values(name) {
        let Some(name) = index.find_symbol(name)? else { return Ok(values) };
        let mut symbols = hashbrown::HashSet::<u32, foldhash::fast::RandomState>::default();
        let mut entry = SeriesEntry::default();
        for (i, series) in found.iter().enumerate() {
            if i % STEPS_PER_CHECK == 0 {
                control.check()?;
            }
            index.series_symbols(*series, &mut entry)?;
            symbols.extend(entry.symbols.iter().filter(|(of, _)| *of == name).map(|(_, value)| *value));
        }
        for symbol in symbols {
            values.push(index.symbol(symbol)?.to_owned());
        }
        values.sort_unstable();
        return Ok(values);
    }
    for (i, value) in index.values(name).enumerate() {
        if i % STEPS_PER_CHECK == 0 {
            control.check()?;
        }
        let value: Value<'_> = value?;
        if has_common(found, &index.series_of(&value)?) {
            values.push(value.value.to_owned());
        }
    }
    Ok(values)
}

/// Whether a list and sorted numbers have a series in common. Walks the shorter one.
fn has_common(found: &[u32], list: &List<'_>) -> bool {
    if list.len() <= found.len() {
        return list.iter().any(|series| found.binary_search(&series).is_ok());
    }
    let (mut rest, end) = (0, list.len());
    found.iter().any(|series| {
        let (mut low, mut high) = (rest, end);
        while low < high {
            let middle = low.midpoint(high);
            match list.get(middle) < *series {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        rest = low;
        low < end && list.get(low) == *series
    })
}

/// The names of labels that series of `found` have, in order.
pub(crate) fn names_of(index: &Index, found: &[u32], control: &Control) -> Result<Vec<String>, StorageError> {
    let mut symbols = hashbrown::HashSet::<u32, foldhash::fast::RandomState>::default();
    let mut entry = SeriesEntry::default();
    for (i, series) in found.iter().enumerate() {
        if i % STEPS_PER_CHECK == 0 {
            control.check()?;
        }
        index.series_symbols(*series, &mut entry)?;
        symbols.extend(entry.symbols.iter().map(|(name, _)| *name));
    }
    let names: Result<Vec<_>, _> = symbols.into_iter().map(|name| index.symbol(name).map(str::to_owned)).collect();
    let mut names = names?;
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeping_is_set_algebra(
            found in proptest::collection::btree_set(0u32..200, 0..60),
            hits in proptest::collection::btree_set(0u32..200, 0..60),
            include in any::<bool>(),
        ) {
            let expected: Vec<u32> = found.iter().copied().filter(|s| hits.contains(s) == include).collect();
            let hits: Vec<u32> = hits.into_iter().collect();
            let mut found: Vec<u32> = found.into_iter().collect();
            keep(&mut found, &Series::Numbers(&hits), include);
            prop_assert_eq!(found, expected);
        }
    }
}
