//! Damaged bytes, odd directories, and their repair.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::page::{HEADER_BYTES, PAGE_BYTES};
use crate::scan::{Item, Reason, Scanner};
use fk_vfs::sim::Fault;

/// A log of one segment: its bytes, and where each record lies in it.
fn segment(compression: Compression, counts: &[usize]) -> (Vec<u8>, Vec<Range<usize>>) {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), options(compression, 1 << 40)).expect("open");
    for (n, count) in counts.iter().enumerate() {
        wal.log(&[&encode(n as u64, *count)]).expect("log");
    }
    let bytes = vfs.get(&segment_path(dir(), 0)).expect("segment");
    let mut scanner = Scanner::default();
    let mut extents = Vec::new();
    for (i, page) in bytes.chunks(PAGE_BYTES).enumerate() {
        let result: std::result::Result<(), Infallible> = scanner.page((i * PAGE_BYTES) as u64, page, &mut |item| {
            let Item::Record { offset, end, .. } = item else { panic!("no damage: {item:?}") };
            extents.push(offset as usize..end as usize);
            Ok(())
        });
        result.expect("infallible");
    }
    assert_eq!(extents.len(), counts.len());
    (bytes, extents)
}

/// Small records, so that all of them lie in one page.
const SMALL: &[usize] = &[3, 1, 1, 12, 5, 1, 1, 4];

/// Records over page borders; one of three pages and more.
const LARGE: &[usize] = &[3, 2_500, 900, 1, 6_500, 1, 2_900, 40, 3_200, 2];

/// Damages one byte of the first of two segments and checks that this costs at most the record the byte is in.
fn check_flip(bytes: &[u8], extents: &[Range<usize>], at: usize, bit: u8, last_segment: bool) {
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 1 << bit;
    let vfs = sim(1);
    vfs.put(&segment_path(dir(), 0), &damaged);
    let mut expected = all_to(extents.len() as u64);
    if !last_segment {
        let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
        wal.log(&[&encode(extents.len() as u64, 4)]).expect("log");
        expected.push(extents.len() as u64);
    }
    let mut found = Vec::new();
    let report = replay::<Infallible>(&*vfs, dir(), &mut |_, record| {
        if !matches!(record, Record::Unsupported { .. }) {
            found.push(number(&record));
        }
        Ok(())
    })
    .expect("replay");
    let what = format!("byte {at} bit {bit}");
    if found == expected {
        return;
    }
    let hit =
        extents.iter().position(|e| e.contains(&at)).unwrap_or_else(|| panic!("{what}: nobody's byte, {found:?}"));
    expected.remove(hit);
    assert_eq!(found, expected, "{what}, in record {hit}");
    if !report.unsupported.is_empty() {
        // Without its compression flag, a record begins with its length instead of its kind.
        assert!(report.is_clean() && report.unsupported.len() == 1 && bit >= 3 && at == extents[hit].start, "{what}");
        return;
    }
    let reported: Vec<_> = report.damages.iter().chain(&report.torn_tail).collect();
    assert_eq!(reported.len(), 1, "{what}: {report:?}");
    let span = reported[0].span;
    let covered = span.offset..span.offset + span.bytes;
    assert_eq!(span.offset, extents[hit].start as u64, "{what}: {span:?}");
    assert!(covered.contains(&(at as u64)), "{what}: {span:?}");
    assert!(report.torn_tail.is_none() || last_segment && hit == extents.len() - 1, "{what}");
}

#[test]
fn a_flipped_bit_costs_the_record_it_is_in() {
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let (bytes, extents) = segment(compression, SMALL);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                check_flip(&bytes, &extents, at, bit, false);
                check_flip(&bytes, &extents, at, bit, true);
            }
        }
    }
}

#[test]
fn a_flipped_bit_costs_one_record_also_across_pages() {
    let (bytes, extents) = segment(Compression::None, LARGE);
    assert!(bytes.len() > 5 * PAGE_BYTES);
    // Every bit of every header, and a few bytes of data: a fragment begins with each record and with each page.
    let mut places = BTreeSet::new();
    for start in extents.iter().map(|e| e.start).chain((0..bytes.len()).step_by(PAGE_BYTES)) {
        places.extend((start..start + HEADER_BYTES + 1).filter(|at| *at < bytes.len()));
        places.extend((start.saturating_sub(HEADER_BYTES)..start).filter(|at| *at < bytes.len()));
    }
    for &at in &places {
        // All bits where a header can be, outside of checksums.
        let header = extents.iter().any(|e| (0..3).contains(&at.wrapping_sub(e.start))) || at % PAGE_BYTES < 3;
        let bits: &[u8] = if header { &[0, 1, 2, 3, 7] } else { &[5] };
        for &bit in bits {
            check_flip(&bytes, &extents, at, bit, at % 2 == 0);
        }
    }
    for at in (0..bytes.len()).step_by(4_999) {
        check_flip(&bytes, &extents, at, (at % 8) as u8, at % 2 == 0);
    }
}

#[test]
fn a_segment_cut_anywhere_keeps_the_records_before() {
    for counts in [SMALL, LARGE] {
        let (bytes, extents) = segment(Compression::Snappy, counts);
        let step = if counts == SMALL { 1 } else { 12_347 };
        let borders = extents.iter().flat_map(|e| [e.start, e.end.saturating_sub(1), e.end]);
        for len in (0..=bytes.len()).step_by(step).chain(borders) {
            // What follows a cut on a real disk: nothing, zeros, or anything.
            let tails = [vec![], vec![0; 1000], vec![0xa5; 1000]];
            for (i, tail) in tails.iter().enumerate() {
                let vfs = sim(1);
                let left = [&bytes[..len], tail].concat();
                vfs.put(&segment_path(dir(), 0), &left);
                // Zeros may happen to be just what was cut off.
                let whole = extents.iter().filter(|e| left.get(..e.end) == Some(&bytes[..e.end])).count();
                let torn = extents.get(whole).filter(|e| e.start < len);
                let (found, report) = read(&*vfs, dir());
                assert_eq!(found, all_to(whole as u64), "cut at {len}, tail {i}");
                assert!(report.is_clean(), "the end of the log is not damage: cut at {len}, tail {i}: {report:?}");
                let offset = report.torn_tail.as_ref().map(|t| t.span.offset as usize);
                match torn {
                    Some(record) => assert_eq!(offset, Some(record.start), "cut at {len}, tail {i}"),
                    None if i < 2 => assert_eq!(offset, None, "cut at {len}, tail {i}"),
                    None => assert!(offset.is_some_and(|o| o >= len), "cut at {len}, tail {i}"),
                }
                check_repaired(&vfs, &found);
            }
        }
    }
}

/// Repairs the log and checks that nothing is left to complain of and the same records are there.
fn check_repaired(vfs: &SimVfs, expected: &[u64]) {
    let mut found = Vec::new();
    let result = recover::<Infallible>(vfs, dir(), &mut |_, record| {
        found.push(number(&record));
        Ok(())
    });
    let (_, repaired) = result.expect("recover");
    assert_eq!((found.as_slice(), repaired.failed.as_slice()), (expected, [].as_slice()));
    let (again, report) = read(vfs, dir());
    assert_eq!(again, expected);
    assert!(report.is_clean() && report.torn_tail.is_none(), "{report:?}");
    let (_, nothing) = recover::<Infallible>(vfs, dir(), &mut |_, _| Ok(())).expect("recover");
    assert_eq!(nothing, RepairReport::default());
}

#[test]
fn a_damaged_segment_is_replaced_and_its_original_kept() {
    let (bytes, extents) = segment(Compression::Snappy, LARGE);
    let mut damaged = bytes.clone();
    damaged[extents[1].start + 20] ^= 1;
    damaged[extents[6].start + 1] ^= 0x40;
    let vfs = sim(1);
    vfs.put(&segment_path(dir(), 0), &damaged);
    vfs.put(&segment_path(dir(), 1), &bytes);
    let mut expected = all_to(10);
    expected.retain(|n| ![1, 6].contains(n));
    expected.extend(all_to(10));
    let (found, report) = read(&*vfs, dir());
    assert_eq!((found.as_slice(), report.damages.len()), (expected.as_slice(), 2));
    check_repaired(&vfs, &expected);
    assert_eq!(vfs.get(Path::new("/data/wal/00000000.damaged")), Some(damaged.clone()));
    // Damaged again: the second original does not replace the first.
    let mut again = vfs.get(&segment_path(dir(), 0)).expect("segment");
    again[20] ^= 1;
    vfs.put(&segment_path(dir(), 0), &again);
    expected.remove(0);
    check_repaired(&vfs, &expected);
    assert_eq!(vfs.get(Path::new("/data/wal/00000000.damaged")), Some(damaged));
    assert_eq!(vfs.get(Path::new("/data/wal/00000000.damaged.1")), Some(again));
}

#[test]
fn a_lost_page_costs_its_records() {
    let (bytes, extents) = segment(Compression::None, LARGE);
    for page in 0..bytes.len() / PAGE_BYTES {
        for fill in [0, 0xff, 1] {
            let lost = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
            let mut damaged = bytes.clone();
            damaged[lost.clone()].fill(fill);
            let expected: Vec<u64> = (0..extents.len())
                .filter(|i| extents[*i].end <= lost.start || extents[*i].start >= lost.end)
                .map(|i| i as u64)
                .collect();
            let vfs = sim(1);
            vfs.put(&segment_path(dir(), 0), &damaged);
            let (found, report) = read(&*vfs, dir());
            assert_eq!(found, expected, "page {page} filled with {fill}");
            assert!(!report.is_clean(), "page {page} filled with {fill}");
            check_repaired(&vfs, &expected);
        }
    }
}

#[test]
fn damage_in_a_checkpoint_is_repaired_as_well() {
    let (bytes, extents) = segment(Compression::Snappy, SMALL);
    let vfs = sim(1);
    let mut damaged = bytes.clone();
    damaged[extents[2].start + 9] ^= 1;
    vfs.put(&segment_path(&checkpoint_path(dir(), 5), 0), &damaged);
    vfs.put(&segment_path(dir(), 6), &bytes);
    let mut expected = all_to(8);
    expected.remove(2);
    expected.extend(all_to(8));
    check_repaired(&vfs, &expected);
    assert!(vfs.get(Path::new("/data/wal/checkpoint.00000005/00000000.damaged")).is_some());
}

#[test]
fn missing_segments_are_reported_and_made_up_for() {
    let (bytes, _) = segment(Compression::Snappy, SMALL);
    let vfs = sim(1);
    vfs.put(&segment_path(&checkpoint_path(dir(), 1), 0), &bytes);
    for n in [4, 5, 8] {
        vfs.put(&segment_path(dir(), n), &bytes);
    }
    let (found, report) = read(&*vfs, dir());
    assert_eq!(found.len(), 4 * SMALL.len());
    assert_eq!(report.gaps, [Gap { first: 2, last: 3 }, Gap { first: 6, last: 7 }]);
    check_repaired(&vfs, &found);
    assert_eq!(vfs.get(&segment_path(dir(), 7)), Some(vec![]));

    vfs.put(&segment_path(dir(), 5_000_000), &bytes);
    let report = read(&*vfs, dir()).1;
    let repaired = repair(&*vfs, dir(), &report);
    assert!(repaired.filled.is_empty() && repaired.failed[0].1.contains("missing"), "{repaired:?}");
}

#[test]
fn an_interrupted_repair_of_prometheus_is_undone() {
    let (bytes, extents) = segment(Compression::Snappy, SMALL);
    let part = &bytes[..extents[3].start];
    // (new segment, is there a later one) -> whether the old one comes back
    let cases =
        [(None, false, true), (Some(part), false, true), (Some(&bytes[..]), false, false), (Some(part), true, false)];
    for (new, later, back) in cases {
        let vfs = sim(1);
        vfs.put(Path::new("/data/wal/00000002.repair"), &bytes);
        vfs.put(Path::new("/data/wal/00000001.salvage"), b"half");
        if let Some(new) = new {
            vfs.put(&segment_path(dir(), 2), new);
        }
        if later {
            vfs.put(&segment_path(dir(), 3), &[]);
        }
        restore_leftovers(&*vfs, dir()).expect("restore");
        let expected = if back { Some(bytes.as_slice()) } else { new };
        assert_eq!(vfs.get(&segment_path(dir(), 2)).as_deref(), expected);
        assert_eq!(vfs.get(Path::new("/data/wal/00000002.repair")).is_none(), back);
        assert_eq!(vfs.get(Path::new("/data/wal/00000001.salvage")), None);
    }
}

#[test]
fn records_of_other_kinds_stay_in_a_repaired_segment() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    let other = [&[201], b"something new, something new, something new".as_slice()].concat();
    wal.log(&[&encode(0, 9), &other, &[202, 1, 2, 3], &encode(1, 9)]).expect("log");
    let mut bytes = vfs.get(&segment_path(dir(), 0)).expect("segment");
    bytes[20] ^= 1;
    vfs.put(&segment_path(dir(), 0), &bytes);
    for _ in 0..2 {
        let (report, _) = recover::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())).expect("recover");
        assert_eq!(report.unsupported.into_iter().collect::<Vec<_>>(), [(201, 1), (202, 1)]);
    }
    assert!(vfs.get(Path::new("/data/wal/00000000.damaged")).is_some());
}

#[test]
fn malformed_records_with_right_checksums_are_damage() {
    let vfs = sim(1);
    let wal = Wal::open(vfs.clone(), dir(), WalOptions::default()).expect("open");
    wal.log(&[&encode(0, 9), &[1, 2, 3], &encode(1, 9)]).expect("log");
    let (found, report) = read(&*vfs, dir());
    assert_eq!((found.as_slice(), report.damages[0].span.reason), ([0, 1].as_slice(), Reason::Malformed));
    check_repaired(&vfs, &[0, 1]);
}

#[test]
fn a_page_that_cannot_be_read_is_skipped_and_its_segment_left_alone() {
    let (bytes, _) = segment(Compression::Snappy, &[5; 3000]);
    assert!(bytes.len() > 3 * PAGE_BYTES);
    let vfs = sim(1);
    vfs.put(&segment_path(dir(), 0), &bytes);
    vfs.put(&segment_path(dir(), 1), &bytes);
    let before = vfs.operations();
    let (all, _) = read(&*vfs, dir());
    let operations = vfs.operations() - before;
    // One failure is tried again, wherever it is; directories and opening are not.
    let mut passed = 0;
    for n in 0..operations {
        vfs.inject(vfs.operations() + n, 1, Fault::Io);
        if let Ok(report) = replay::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())) {
            assert!(report.is_clean() && report.records == all.len() as u64);
            passed += 1;
        }
        vfs.heal();
    }
    assert!(passed >= 4, "{passed} of {operations}");
    // The block and then its second page fail at every try.
    let first_read = 4;
    vfs.inject(vfs.operations() + first_read, 4, Fault::Io);
    let report = replay::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())).expect("replay");
    assert!(report.is_clean() && report.records == all.len() as u64, "the fourth try of the first page succeeds");
    vfs.inject(vfs.operations() + first_read, 6, Fault::Io);
    let report = replay::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())).expect("replay");
    assert_eq!(report.damages.iter().map(|d| d.span.reason).collect::<Vec<_>>(), [Reason::Unreadable]);
    assert!(report.records < all.len() as u64 && report.records > all.len() as u64 / 2);
    vfs.inject(vfs.operations() + 2, u64::MAX, Fault::Io);
    let repaired = repair(&*vfs, dir(), &report);
    assert!(repaired.replaced.is_empty() && repaired.failed.len() == 1, "{repaired:?}");
    vfs.heal();
    assert_eq!(read(&*vfs, dir()).0, all);
    // A disk that is gone is an error, not damage.
    vfs.inject(vfs.operations() + first_read, u64::MAX, Fault::Io);
    assert!(matches!(replay::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())), Err(ReplayError::Io(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_bytes_can_be_scanned(
        pieces in proptest::collection::vec((0usize..6, any::<u16>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..60)
    ) {
        // Bytes that look like fragments are more interesting than noise.
        let mut bytes = Vec::new();
        for (shape, number, data) in pieces {
            match shape {
                0 => bytes.extend_from_slice(&data),
                1 => bytes.resize(bytes.len() + usize::from(number) % 2000, 0),
                2 => bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0),
                _ => {
                    let record = [&[2], data.as_slice()].concat();
                    let crc = crc32c::crc32c(&record) ^ u32::from(number % 5 == 0);
                    page::lay_out(&record, [0, 8, 16][shape - 3], crc, bytes.len() % PAGE_BYTES % 32_000, &mut bytes);
                }
            }
        }
        let vfs = sim(1);
        vfs.put(&segment_path(dir(), 0), &bytes);
        let report = replay::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())).expect("replay");
        let (again, repaired) = recover::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())).expect("recover");
        prop_assert_eq!(report.records, again.records);
        prop_assert!(repaired.failed.is_empty());
        let clean = replay::<Infallible>(&*vfs, dir(), &mut |_, _| Ok(())).expect("replay");
        prop_assert!(clean.is_clean() && clean.torn_tail.is_none(), "{:?}", clean);
        prop_assert_eq!(clean.records, report.records);
    }

    #[test]
    fn damage_never_makes_up_a_record(
        seed in any::<u64>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let (bytes, extents) = segment(Compression::None, &[30, 4_000, 2, 9_000, 7, 1, 1_800, 3, 3, 2_700, 5]);
        let mut damaged = bytes.clone();
        let mut hit = BTreeSet::new();
        for (index, value) in flips {
            // Half of the damage goes to where fragments begin.
            let at = match seed.wrapping_mul(u64::from(value) | 1) % 2 {
                0 => index.index(bytes.len()),
                _ => (index.index(bytes.len()) / PAGE_BYTES * PAGE_BYTES + usize::from(value) % 8).min(bytes.len() - 1),
            };
            damaged[at] = value;
            if damaged[at] != bytes[at] {
                hit.extend(extents.iter().position(|e| e.contains(&at)).map(|i| i as u64));
            }
        }
        let vfs = sim(1);
        vfs.put(&segment_path(dir(), 0), &damaged);
        let (found, _) = read(&*vfs, dir());
        let lost: Vec<u64> = all_to(extents.len() as u64).into_iter().filter(|n| !found.contains(n)).collect();
        prop_assert!(found.is_sorted_by(|a, b| a < b));
        prop_assert!(lost.iter().all(|n| hit.contains(n)), "lost {:?}, hit {:?}", lost, hit);
        check_repaired(&vfs, &found);
    }
}
