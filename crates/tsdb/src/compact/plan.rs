//! Which blocks to compact next. A function of what `meta.json` says of each block; nothing here touches a file.
//!
//! The rules are those of Prometheus, so either server makes the same blocks:
//!
//! 1. Blocks that overlap in time are merged first.
//! 2. The newest block is left alone: somebody may still copy data beside it.
//! 3. Blocks within one interval of a time range (aligned to its multiples) become one block, if they fill the interval or
//!    a newer block shows that it is complete; smaller ranges first.
//! 4. A block of half the ranges or longer of which more than 5 % is deleted is written anew, and any block that is deleted
//!    completely.
//!
//! Blocks made of a part of the head's series only (stale ones, for example) are not mixed with others: what such a block
//! says must not count as all there is.
//!
//! Beyond Prometheus: a group with a block whose compaction has failed before is left alone in rules 1 and 4 too, as it is
//! in rule 3, and does not stop the others.

use fk_block::meta::HINT_STALE_SERIES;
use fk_block::{BlockDesc, BlockMeta, Compaction, Ulid};

/// Hint of a block that was made of series that somebody selected.
pub const HINT_SELECTED_SERIES: &str = "from-selected-series";

/// Part of a block that has to be deleted before it is written anew for that.
const TOMBSTONES_PART: f64 = 0.05;

/// Why blocks are compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// They overlap.
    Overlap,
    /// They fill a longer time range.
    Range,
    /// Much of it is deleted.
    Tombstones,
}

/// What to compact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The blocks, ascending by their first time.
    pub blocks: Vec<Ulid>,
    /// Why.
    pub reason: Reason,
}

/// What the planner follows.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Time ranges, ascending, ms; not empty.
    pub ranges: &'a [i64],
    /// Whether blocks that overlap are merged.
    pub merge_overlapping: bool,
}

/// Whether a block was made of a part of the head's series only, so that it does not stand for its whole time range.
pub fn is_partial(compaction: &Compaction) -> bool {
    compaction.hints.iter().any(|hint| hint == HINT_STALE_SERIES || hint == HINT_SELECTED_SERIES)
}

impl Rules<'_> {
    /// What to compact next, if anything. `blocks` in any order.
    pub fn plan(&self, blocks: &[&BlockMeta]) -> Option<Plan> {
        let of_class = |wanted: Option<&str>| -> Vec<&BlockMeta> {
            let class = |meta: &BlockMeta| {
                let hinted = |hint| meta.compaction.hints.iter().any(|h| h == hint);
                [HINT_STALE_SERIES, HINT_SELECTED_SERIES].into_iter().find(|hint| hinted(*hint))
            };
            blocks.iter().copied().filter(|meta| class(meta) == wanted).collect()
        };
        [None, Some(HINT_STALE_SERIES), Some(HINT_SELECTED_SERIES)]
            .into_iter()
            .find_map(|class| self.plan_class(of_class(class)))
    }

    fn plan_class(&self, mut blocks: Vec<&BlockMeta>) -> Option<Plan> {
        blocks.sort_by_key(|meta| (meta.min_time, meta.ulid));
        let plan =
            |blocks: &[&BlockMeta], reason| Plan { blocks: blocks.iter().map(|meta| meta.ulid).collect(), reason };
        // The head still has the in-order samples behind the last in-order block. A block of both kinds that reaches further
        // would say that it has them, and a start would drop them from the head. So blocks of out-of-order samples that lie
        // there are merged with their like only.
        let in_order = blocks.iter().filter(|meta| !meta.compaction.from_out_of_order());
        let in_order_end = in_order.map(|meta| meta.max_time).max().unwrap_or(i64::MIN);
        let (blocks, ahead): (Vec<&BlockMeta>, Vec<&BlockMeta>) =
            blocks.into_iter().partition(|meta| meta.max_time <= in_order_end);
        if self.merge_overlapping
            && let Some(group) = overlapping(&blocks).or_else(|| overlapping(&ahead))
        {
            return Some(plan(group, Reason::Overlap));
        }
        let (_newest, blocks) = blocks.split_last()?;
        if let Some(group) = self.fill_range(blocks) {
            return Some(plan(group, Reason::Range));
        }
        self.deleted(blocks).map(|meta| plan(&[meta], Reason::Tombstones))
    }

    /// The first group of blocks that fills a range, trying the shorter ranges first.
    fn fill_range<'b, 'm>(&self, blocks: &'b [&'m BlockMeta]) -> Option<&'b [&'m BlockMeta]> {
        let newest = blocks.last()?.min_time;
        let ranges = self.ranges.get(1..)?;
        ranges.iter().find_map(|range| {
            within_intervals(blocks, *range).into_iter().find(|group| {
                let (Some(first), Some(last)) = (group.first(), group.last()) else { return false };
                let is_complete = last.max_time - first.min_time == *range || last.max_time <= newest;
                is_complete && group.len() > 1 && !any_failed(group)
            })
        })
    }

    /// The newest block that is worth writing anew for what is deleted of it.
    fn deleted<'m>(&self, blocks: &[&'m BlockMeta]) -> Option<&'m BlockMeta> {
        let long = self.ranges.get(self.ranges.len() / 2).copied().unwrap_or(i64::MAX);
        for meta in blocks.iter().rev().filter(|meta| !meta.compaction.failed) {
            let (tombstones, series) = (meta.stats.num_tombstones, meta.stats.num_series);
            if meta.max_time - meta.min_time < long {
                // Short ones get merged soon, and what is deleted goes then. Older blocks than this one are not looked at,
                // since they are as short.
                return (tombstones > 0 && tombstones >= series).then_some(*meta);
            }
            if tombstones as f64 / (series + 1) as f64 > TOMBSTONES_PART {
                return Some(meta);
            }
        }
        None
    }
}

fn any_failed(group: &[&BlockMeta]) -> bool {
    group.iter().any(|meta| meta.compaction.failed)
}

/// The first run of blocks each of which overlaps one before it. `blocks` ascend by their first time.
fn overlapping<'b, 'm>(blocks: &'b [&'m BlockMeta]) -> Option<&'b [&'m BlockMeta]> {
    let mut start = 0;
    while start < blocks.len() {
        let mut end = start + 1;
        let mut max_time = blocks[start].max_time;
        while let Some(next) = blocks.get(end).filter(|next| next.min_time < max_time) {
            max_time = max_time.max(next.max_time);
            end += 1;
        }
        let mut group = &blocks[start..end];
        // A long block need not overlap those right behind it: then they begin the next run.
        if group.len() > 1 && !any_failed(group) {
            while group.len() > 2 && group[0].max_time <= group[1].min_time {
                group = &group[1..];
            }
            return Some(group);
        }
        start = end;
    }
    None
}

/// The groups of blocks that lie within one interval of length `range`, the intervals being aligned to multiples of it. Blocks
/// that cross the end of their interval are left out.
fn within_intervals<'b, 'm>(blocks: &'b [&'m BlockMeta], range: i64) -> Vec<&'b [&'m BlockMeta]> {
    let mut groups = Vec::new();
    let mut at = 0;
    while let Some(first) = blocks.get(at) {
        let interval_end = first.min_time.div_euclid(range).saturating_mul(range).saturating_add(range);
        let len = blocks[at..].iter().take_while(|meta| meta.max_time <= interval_end).count();
        if len > 0 {
            groups.push(&blocks[at..at + len]);
        }
        at += len.max(1);
    }
    groups
}

/// What `meta.json` says of the block that `blocks` become: time range, and where it comes from. Not empty.
pub fn merged(blocks: &[&BlockMeta]) -> (i64, i64, Compaction) {
    let min_time = blocks.iter().map(|meta| meta.min_time).min().unwrap_or(0);
    let max_time = blocks.iter().map(|meta| meta.max_time).max().unwrap_or(0);
    let mut compaction = Compaction {
        level: blocks.iter().map(|meta| meta.compaction.level).max().unwrap_or(0).saturating_add(1),
        sources: blocks.iter().flat_map(|meta| meta.compaction.sources.iter().copied()).collect(),
        parents: blocks.iter().map(|meta| meta.desc()).collect::<Vec<BlockDesc>>(),
        ..Compaction::default()
    };
    compaction.sources.sort_unstable();
    compaction.sources.dedup();
    for hint in [HINT_STALE_SERIES, HINT_SELECTED_SERIES] {
        if blocks.iter().any(|meta| meta.compaction.hints.iter().any(|h| h == hint)) {
            compaction.add_hint(hint);
        }
    }
    if blocks.iter().all(|meta| meta.compaction.from_out_of_order()) {
        compaction.add_hint(fk_block::meta::HINT_OUT_OF_ORDER);
    }
    (min_time, max_time, compaction)
}

/// The groups of blocks that overlap, as texts for the log. `blocks` in any order.
pub fn overlaps(blocks: &[&BlockMeta]) -> Vec<String> {
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(|meta| (meta.min_time, meta.ulid));
    let mut texts = Vec::new();
    for (i, meta) in blocks.iter().enumerate() {
        let earlier: Vec<String> = blocks[..i]
            .iter()
            .filter(|other| other.max_time > meta.min_time)
            .map(|other| other.ulid.to_string())
            .collect();
        if !earlier.is_empty() {
            texts.push(format!("{} overlaps {}", meta.ulid, earlier.join(", ")));
        }
    }
    texts
}

#[cfg(test)]
mod tests;
