//! A log is filled with numbered things, a checkpoint is made, and what a replay finds is compared with what must be there.

use std::collections::BTreeSet;
use std::convert::Infallible;

use proptest::prelude::*;

use fk_model::{Histogram, Labels};
use fk_storage::{BatchHistogram, BatchSample, Exemplar, HistogramValue};
use fk_vfs::sim::{Fault, SimVfs};

use super::*;
use crate::record::{Tombstone, kind};
use crate::{Compression, replay};

const DIR: &str = "/data/wal";

/// What a log says, in order, as texts that can be compared; metadata last and sorted, since a checkpoint moves it.
fn contents(vfs: &dyn Vfs) -> Vec<String> {
    let (mut lines, mut metadata) = (Vec::new(), std::collections::BTreeMap::new());
    let report = replay::<Infallible>(vfs, Path::new(DIR), &mut |_, record| {
        match record {
            Record::Series(r) => lines.extend(r.iter().map(|(s, l)| format!("series {} {}", s.0, l.to_labels()))),
            Record::Samples(r) => lines.extend(r.iter().map(|s| format!("sample {} {} {}", s.series.0, s.t, s.v))),
            Record::Histograms(r) => {
                lines.extend(r.iter().map(|h| {
                    let value = h.value().expect("sound").to_float();
                    format!("histogram {} {} {}", h.series.0, h.t, value.count)
                }));
            }
            Record::Exemplars(r) => {
                lines.extend(
                    r.iter().map(|e| format!("exemplar {} {} {}", e.sample.series.0, e.sample.t, e.labels.to_labels())),
                );
            }
            Record::Tombstones(r) => {
                lines.extend(r.iter().map(|t| format!("deleted {} {} {}", t.series.0, t.mint, t.maxt)));
            }
            Record::Metadata(r) => {
                for m in r.iter() {
                    metadata
                        .insert(m.series.0, format!("metadata {} {} {} {}", m.series.0, m.metric_type, m.unit, m.help));
                }
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    });
    assert!(report.expect("readable").is_clean());
    lines.extend(metadata.into_values());
    lines
}

/// Logs `n` groups of records for `series` series, group i at time i; ends with a new, empty segment.
fn fill(vfs: &Arc<dyn Vfs>, series: u64, groups: i64, segment_bytes: u64) -> Wal {
    let options = WalOptions { segment_bytes, compression: Compression::Snappy, reserve: false };
    let wal = Wal::open(Arc::clone(vfs), Path::new(DIR), options).expect("open");
    for t in 0..groups {
        let mut records = vec![Vec::new(); 6];
        if t % 4 == 0 {
            let labels: Vec<_> = (0..series)
                .filter(|s| s % 3 == (t / 4) as u64 % 3)
                .map(|s| (SeriesRef(s), Labels::from_pairs([("__name__", "m"), ("i", &*s.to_string())])))
                .collect();
            record::encode_series(labels.iter().map(|(s, l)| (*s, l)), &mut records[0]);
            let texts: Vec<_> = labels.iter().map(|(s, _)| (*s, format!("help {t}"))).collect();
            record::encode_metadata(
                texts.iter().map(|(series, help)| MetadataEntry { series: *series, metric_type: 1, unit: "s", help }),
                &mut records[1],
            );
        }
        // Times of one record differ, so that some records are kept in part.
        let samples: Vec<_> =
            (0..series).map(|s| BatchSample { series: SeriesRef(s), t: t + s as i64 % 3, v: t as f64 }).collect();
        record::encode_samples(&samples, &mut records[2]);
        let labels = Labels::from_pairs([("trace", "a")]);
        let exemplars: Vec<_> =
            (0..2).map(|i| (SeriesRef(i), Exemplar { t: t + i as i64, v: 1.0, labels: labels.clone() })).collect();
        record::encode_exemplars(exemplars.iter().map(|(s, e)| (*s, e)), &mut records[3]);
        record::encode_tombstones(
            &[Tombstone { series: SeriesRef(t as u64 % series), mint: t - 5, maxt: t - 1 }],
            &mut records[4],
        );
        let histograms: Vec<_> = (0..3)
            .map(|i| {
                let h = HistogramValue::Int(Arc::new(Histogram { count: i, zero_count: i, ..Histogram::default() }));
                BatchHistogram { series: SeriesRef(i), t: t + i as i64, start: 0, h }
            })
            .collect();
        record::encode_histograms(kind::HISTOGRAM_SAMPLES, &histograms, &mut records[5]);
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        wal.log(&records).expect("log");
    }
    wal.cut().expect("cut");
    wal
}

/// What must be left of `before`, which begins with `covered` apart from the metadata: of that what `keep` says.
fn expected(before: &[String], covered: &[String], keep: &Keep<'_>) -> Vec<String> {
    let is_metadata = |line: &str| line.starts_with("metadata");
    let n_covered = covered.iter().filter(|line| !is_metadata(line)).count();
    let is_kept = |(i, line): &(usize, &String)| {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| fields[i].parse::<i64>().expect("a number");
        let alive = (keep.series)(SeriesRef(number(1) as u64));
        match fields[0] {
            "metadata" => alive || !covered.contains(*line),
            _ if *i >= n_covered => true,
            "series" => alive,
            "deleted" => alive && number(3) >= keep.mint,
            _ => number(2) >= keep.mint,
        }
    };
    before.iter().enumerate().filter(is_kept).map(|(_, line)| line.clone()).collect()
}

fn covered(vfs: &SimVfs, last: u32) -> Vec<String> {
    // A copy of the log that ends with segment `last`.
    let copy = SimVfs::new(9);
    copy.create_dir(Path::new("/data")).expect("directory");
    copy.create_dir(Path::new(DIR)).expect("directory");
    for segment in 0..=last {
        let path = segment_path(Path::new(DIR), segment);
        copy.put(&path, &vfs.get(&path).expect("segment"));
    }
    contents(&copy)
}

fn no_pace(_: u64) -> Result<(), StorageError> {
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A checkpoint loses nothing that is needed, and keeps nothing that is not.
    #[test]
    fn what_is_needed_survives(series in 1u64..12, groups in 12i64..60, mint in 0i64..70, alive in any::<u16>(), at in 0.0f64..1.0) {
        let sim = SimVfs::new(1);
        let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
        let wal = fill(&vfs, series, groups, 4 << 10);
        let before = contents(&*vfs);
        let segments = wal.segments().unwrap();
        let last = segments[((segments.len() - 1) as f64 * at) as usize];
        let is_alive = |s: SeriesRef| alive & 1 << s.0 != 0;
        let keep = Keep { series: &is_alive, mint };
        let expected = expected(&before, &covered(&sim, last), &keep);
        let options = WalOptions { segment_bytes: 3 << 10, ..WalOptions::default() };
        let report = write_checkpoint(&vfs, Path::new(DIR), last, options, &keep, &mut no_pace).unwrap();
        prop_assert_eq!(contents(&*vfs), expected.clone(), "with the old segments");
        let (removed, _) = remove_superseded(&*vfs, Path::new(DIR), last, &report.damaged).unwrap();
        prop_assert_eq!(removed as u32, last + 1);
        prop_assert_eq!(contents(&*vfs), expected.clone());
        // A second one over the first: nothing changes but its number.
        if let Some(next) = wal.segments().unwrap().first().copied().filter(|s| *s + 1 < *segments.last().unwrap()) {
            let covers_all = write_checkpoint(&vfs, Path::new(DIR), next, options, &Keep { series: &|_| true, mint: 0 }, &mut no_pace).unwrap();
            prop_assert_eq!(covers_all.dropped_samples + covers_all.dropped_series + covers_all.dropped_exemplars, 0);
            prop_assert_eq!(remove_superseded(&*vfs, Path::new(DIR), next, &[]).unwrap(), (1, 1));
            prop_assert_eq!(contents(&*vfs), expected);
        }
        // The log goes on.
        wal.log(&[&[1, 0, 0, 0, 0, 0, 0, 0, 7, 1, 1, b'a', 1, b'b']]).unwrap();
        let logged = "series 7 {a=\"b\"}".to_owned();
        prop_assert!(contents(&*vfs).contains(&logged));
    }
}

#[test]
fn a_crash_at_any_moment_loses_nothing() {
    let make = |seed| {
        let sim = SimVfs::new(seed);
        let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
        let wal = fill(&vfs, 5, 48, 600);
        wal.close().expect("close");
        (sim, vfs)
    };
    let run = |vfs: &Arc<dyn Vfs>| -> Result<(), StorageError> {
        let keep = Keep { series: &|s| s.0 != 1, mint: 20 };
        let report = write_checkpoint(vfs, Path::new(DIR), 3, WalOptions::default(), &keep, &mut no_pace)?;
        remove_superseded(&**vfs, Path::new(DIR), 3, &report.damaged)?;
        let keep = Keep { series: &|s| s.0 > 2, mint: 25 };
        let report = write_checkpoint(vfs, Path::new(DIR), 5, WalOptions::default(), &keep, &mut no_pace)?;
        remove_superseded(&**vfs, Path::new(DIR), 5, &report.damaged)?;
        Ok(())
    };
    let (sim, vfs) = make(0);
    let (began, before) = (sim.operations(), contents(&*vfs));
    let began_after_reading = sim.operations();
    run(&vfs).expect("no fault");
    let operations = sim.operations() - began_after_reading;
    let after: BTreeSet<_> = contents(&*vfs).into_iter().collect();
    assert!(after.len() < before.len() && operations > 50, "{operations}");
    for n in 0..operations {
        for fault in [Fault::PowerOff, Fault::Io, Fault::NoSpace, Fault::ShortWrite] {
            let (sim, vfs) = make(n);
            sim.inject(began + n, if fault == Fault::PowerOff { u64::MAX } else { 1 }, fault);
            let result = run(&vfs);
            match fault {
                Fault::PowerOff => sim.crash(),
                _ => sim.heal(),
            }
            let found = contents(&*vfs);
            let found: BTreeSet<_> = found.into_iter().collect();
            assert!(found.is_superset(&after), "operation {n}, {fault:?}: {result:?}");
            assert!(found.iter().all(|line| before.contains(line)), "operation {n}, {fault:?}");
            if fault != Fault::PowerOff {
                // What failed works the next time, whatever is left.
                let keep = Keep { series: &|s| s.0 > 2, mint: 25 };
                write_checkpoint(&vfs, Path::new(DIR), 6, WalOptions::default(), &keep, &mut no_pace).expect("healed");
                remove_superseded(&*vfs, Path::new(DIR), 6, &[]).expect("healed");
                let listing = Listing::read(&*vfs, Path::new(DIR)).expect("list");
                assert_eq!((listing.checkpoints, listing.segments[0]), (vec![6], 7));
                let names = vfs.read_dir(Path::new(DIR)).expect("list");
                assert!(names.iter().all(|e| !e.name.ends_with(TMP_SUFFIX)), "{names:?}");
            }
        }
    }
}

#[test]
fn a_damaged_segment_costs_what_is_damaged_and_is_kept_aside() {
    let sim = SimVfs::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    fill(&vfs, 5, 40, 1 << 10);
    let path = segment_path(Path::new(DIR), 1);
    let mut bytes = sim.get(&path).expect("segment");
    bytes[20] ^= 1;
    sim.put(&path, &bytes);
    let keep = Keep { series: &|_| true, mint: 0 };
    let report = write_checkpoint(&vfs, Path::new(DIR), 3, WalOptions::default(), &keep, &mut no_pace).expect("write");
    assert_eq!(report.damaged, [1]);
    assert!(report.samples > 0 && report.dropped_samples == 0);
    remove_superseded(&*vfs, Path::new(DIR), 3, &report.damaged).expect("remove");
    assert_eq!(sim.get(Path::new("/data/wal/00000001.damaged")), Some(bytes));
    assert!(!contents(&*vfs).is_empty());
}

#[test]
fn the_pace_can_end_it() {
    let sim = SimVfs::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(sim);
    let options = WalOptions { segment_bytes: 1 << 20, compression: Compression::None, reserve: false };
    let wal = Wal::open(Arc::clone(&vfs), Path::new(DIR), options).expect("open");
    for t in 0..400 {
        let samples: Vec<_> = (0..2000).map(|s| BatchSample { series: SeriesRef(s), t, v: 0.5 }).collect();
        let mut out = Vec::new();
        record::encode_samples(&samples, &mut out);
        wal.log(&[&out]).expect("log");
    }
    let keep = Keep { series: &|_| true, mint: 0 };
    let mut called = 0;
    let mut pace = |bytes| {
        assert!(bytes >= GROUP_BYTES as u64);
        called += 1;
        if called == 2 { Err(StorageError::Stopped(fk_storage::Stopped::Cancelled)) } else { Ok(()) }
    };
    let stopped = write_checkpoint(&vfs, Path::new(DIR), 2, options, &keep, &mut pace);
    assert!(matches!(stopped, Err(StorageError::Stopped(_))), "{stopped:?}");
    let listing = Listing::read(&*vfs, Path::new(DIR)).expect("list");
    assert_eq!(listing.checkpoints, [0; 0]);
    assert!(vfs.read_dir(Path::new(DIR)).expect("list").iter().all(|e| !e.is_dir));
}

#[test]
fn two_thirds_of_what_is_complete_are_covered() {
    let cover = |segments: &[u32]| last_to_cover(segments);
    assert_eq!(cover(&[]), None);
    assert_eq!(cover(&[0]), None);
    assert_eq!(cover(&[7, 8]), None);
    assert_eq!(cover(&[7, 8, 9]), None, "a single segment is not worth it");
    assert_eq!(cover(&[7, 8, 9, 10]), Some(9 - 1));
    assert_eq!(cover(&[0, 1, 2, 3, 4]), Some(2));
    assert_eq!(cover(&(0..=10).collect::<Vec<_>>()), Some(6));
    assert_eq!(cover(&(0..=11).collect::<Vec<_>>()), Some(6));
    assert_eq!(cover(&(5..=3005).collect::<Vec<_>>()), Some(5 + 2999 * 2 / 3));
}
