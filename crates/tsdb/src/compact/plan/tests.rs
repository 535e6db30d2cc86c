//! Tables of blocks and what is to be compacted of them. A block is written `from-to` (or `from..to`), in units of the smallest range
//! counted from 0, with `!` behind it if its compaction has failed, `~` if it is of stale series, `^` if of out-of-order samples, `*n` for n tombstones
//! (of 100 series).

use super::*;

fn metas(text: &str) -> Vec<BlockMeta> {
    text.split_whitespace()
        .enumerate()
        .map(|(i, block)| {
            let (times, marks) = block.split_at(block.find(['!', '~', '^', '*']).unwrap_or(block.len()));
            let (from, to) = times.split_once("..").or_else(|| times.rsplit_once('-')).expect("two times");
            let json = format!(
                r#"{{"ulid":"{}","minTime":{from},"maxTime":{to},"version":1,"compaction":{{"level":1}}}}"#,
                Ulid::new(i as u64, 0)
            );
            let mut meta = BlockMeta::parse(json.as_bytes()).expect("meta");
            meta.compaction.sources = vec![meta.ulid];
            meta.stats.num_series = 100;
            meta.compaction.failed = marks.contains('!');
            if marks.contains('~') {
                meta.compaction.add_hint(HINT_STALE_SERIES);
            }
            if marks.contains('^') {
                meta.compaction.add_hint(fk_block::meta::HINT_OUT_OF_ORDER);
            }
            if let Some((_, n)) = marks.split_once('*') {
                meta.stats.num_tombstones = n.trim_end_matches('!').parse().expect("a number");
            }
            meta
        })
        .collect()
}

/// The plan for blocks as the texts of the blocks, with ranges 20, 60, 240, 720, 2160.
fn plan(text: &str) -> String {
    plan_with(text, Rules { ranges: &[20, 60, 240, 720, 2160], merge_overlapping: true })
}

fn plan_with(text: &str, rules: Rules<'_>) -> String {
    let metas = metas(text);
    let refs: Vec<_> = metas.iter().collect();
    let texts: Vec<&str> = text.split_whitespace().collect();
    let Some(plan) = rules.plan(&refs) else { return String::new() };
    plan.blocks.iter().map(|ulid| texts[ulid.time_ms() as usize]).collect::<Vec<_>>().join(" ")
}

#[test]
fn blocks_that_fill_a_range_are_merged() {
    for (blocks, expected) in [
        ("", ""),
        ("0-20", ""),
        // The newest one is not counted, and without it the range is not full.
        ("0-20 20-40", ""),
        ("0-20 20-40 40-60", ""),
        // A gap: the range is complete since there is a block behind it.
        ("0-20 20-40 60-80", ""),
        ("0-20 20-40 60-80 80-100", "0-20 20-40"),
        ("0-20 20-40 40-60 60-80", "0-20 20-40 40-60"),
        ("20-40 40-60 60-80 80-100", "20-40 40-60"),
        // Ranges lie on multiples: 40 and 60 are in two.
        ("40-60 60-80 80-100 100-120", ""),
        ("20-40 60-80 80-100 100-120 120-140", "60-80 80-100 100-120"),
        // Higher levels.
        ("0-60 60-120 120-180 180-240", ""),
        ("0-60 60-120 120-180 180-240 240-260", "0-60 60-120 120-180 180-240"),
        ("0-60 60-120 180-240 240-260 260-280", "0-60 60-120 180-240"),
        // Lower levels first.
        ("0-60 60-120 120-180 180-240 240-260 260-280 280-300 300-320", "240-260 260-280 280-300"),
        // Times before 1970.
        ("-60..-40 -40..-20 -20..0 0-20", "-60..-40 -40..-20 -20..0"),
        // A block that does not lie in a range is left alone and stops nobody.
        ("0-20 50-70 80-100 100-120 120-140 140-160", "80-100 100-120"),
        // A failure stops its range only.
        ("0-20! 20-40 40-60 60-80 80-100 100-120 120-140", "60-80 80-100 100-120"),
        ("0-20 20-40! 40-60 60-80", ""),
    ] {
        assert_eq!(plan(blocks), expected, "{blocks}");
    }
}

#[test]
fn blocks_that_overlap_come_first() {
    for (blocks, expected) in [
        ("0-20 19-40 40-60", "0-20 19-40"),
        ("0-20 20-40 39-60 60-80", "20-40 39-60"),
        ("0-20 10-30 25-40 40-60", "0-20 10-30 25-40"),
        // All within one long block.
        ("0-60 10-20 30-40 60-80", "0-60 10-20 30-40"),
        ("0-20 0-20", "0-20 0-20"),
        // The newest as well.
        ("0-20 20-40 30-50", "20-40 30-50"),
        // One that has failed does not stop the others.
        ("0-20! 10-30 40-60 50-70", "40-60 50-70"),
        ("0-20! 10-30", ""),
    ] {
        assert_eq!(plan(blocks), expected, "{blocks}");
    }
    let rules = Rules { ranges: &[20, 60], merge_overlapping: false };
    assert_eq!(plan_with("0-20 0-20", rules), "");
}

#[test]
fn a_single_range_stops_merging_and_not_the_rest() {
    let rules = Rules { ranges: &[20], merge_overlapping: true };
    assert_eq!(plan_with("0-20 20-40 40-60 60-80", rules), "");
    assert_eq!(plan_with("0-20 10-40 40-60 60-80", rules), "0-20 10-40");
    assert_eq!(plan_with("0-20 20-40*6 60-80", rules), "20-40*6");
}

#[test]
fn blocks_with_much_deleted_are_written_anew() {
    for (blocks, expected) in [
        ("0-720*6 720-1440 1440-2160", "0-720*6"),
        ("0-720*5 720-1440 1440-2160", ""),
        ("0-720*50 720-1440*6 1440-2160", "720-1440*6"),
        // The newest is left alone, a failed one too.
        ("0-720 720-1440*50", ""),
        ("0-720*6! 720-1440 1440-2160", ""),
        // Short ones only if nothing is left.
        ("0-20*99 60-80", ""),
        ("0-20*100 60-80", "0-20*100"),
    ] {
        assert_eq!(plan(blocks), expected, "{blocks}");
    }
}

#[test]
fn blocks_of_stale_series_stay_among_themselves() {
    assert_eq!(plan("0-20 0-20~ 20-40"), "");
    assert_eq!(plan("0-20~ 10-20~ 0-20"), "0-20~ 10-20~");
    assert_eq!(plan("0-20 20-40~ 40-60 60-80 80-100"), "0-20 40-60");
}

#[test]
fn out_of_order_blocks_ahead_of_the_others_are_merged_with_their_like_only() {
    for (blocks, expected) in [
        ("0-20 20-40 40-60 40-60^", "40-60 40-60^"),
        ("0-20 20-40 40-60^ 60-80 80-100", "0-20 20-40 40-60^"),
        // The head still has the in-order samples from 40 on.
        ("0-20 20-40 40-60^ 60-80^", ""),
        ("0-20 10-40^", ""),
        ("0-20 20-40^ 20-40^", "20-40^ 20-40^"),
        ("0-20 10-20^ 10-40^", "0-20 10-20^"),
    ] {
        assert_eq!(plan(blocks), expected, "{blocks}");
    }
}

#[test]
fn what_becomes_of_blocks_names_them() {
    let mut metas = metas("20-40 0-20~ 20-60");
    metas[0].compaction.level = 3;
    metas[2].compaction.sources = vec![metas[1].ulid, metas[2].ulid];
    let refs: Vec<_> = metas.iter().collect();
    let (min_time, max_time, compaction) = merged(&refs);
    assert_eq!((min_time, max_time, compaction.level), (0, 60, 4));
    assert_eq!(compaction.sources, [0, 1, 2].map(|i| Ulid::new(i, 0)));
    assert_eq!(compaction.parents, metas.iter().map(BlockMeta::desc).collect::<Vec<_>>());
    assert_eq!(compaction.hints, [HINT_STALE_SERIES]);
    assert!(is_partial(&compaction));
    for meta in &mut metas {
        meta.compaction.hints = vec![fk_block::meta::HINT_OUT_OF_ORDER.to_owned()];
    }
    assert!(merged(&metas.iter().collect::<Vec<_>>()).2.from_out_of_order());
    metas[0].compaction.hints.clear();
    assert_eq!(merged(&metas.iter().collect::<Vec<_>>()).2.hints, [""; 0], "one of them has more than that");
}

#[test]
fn overlaps_are_told() {
    let metas = metas("0-20 10-30 30-40");
    let refs: Vec<_> = metas.iter().collect();
    assert_eq!(overlaps(&refs), [format!("{} overlaps {}", metas[1].ulid, metas[0].ulid)]);
}
