//! How the head grows old: chunks go to files, ranges become streams, what is in blocks goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;

use fk_block::{SeriesChunks, SeriesStream};
use fk_chunk::{Encoding, decode_range};
use fk_model::Labels;
use fk_storage::{Batch, Control, Rejection, Samples, SelectParams, SeriesRef, TimeRange};
use fk_vfs::Vfs;
use fk_vfs::sim::{Fault, SimVfs};

use super::super::{Head, HeadOptions};
use super::{ALL, Contents, any_value, append, append_one, contents, labels, matcher};
use crate::chunks_head::{self, ChunkFiles, format};

const MINUTE: i64 = 60_000;

fn disk() -> SimVfs {
    let vfs = SimVfs::new(1);
    vfs.create_dir(Path::new("/d")).unwrap();
    vfs
}

fn head_on(vfs: &SimVfs) -> Arc<Head> {
    let files = ChunkFiles::new(Arc::new(vfs.clone()), PathBuf::from("/d/chunks_head"));
    Arc::new(Head::with_files(
        HeadOptions { samples_per_chunk: 8, chunk_range_ms: 10 * MINUTE, ..HeadOptions::default() },
        Some(files),
    ))
}

fn select_from(head: &Arc<Head>, mint: i64, range: TimeRange) -> Contents {
    let params = SelectParams { range, sorted: true, limit: 0 };
    contents(&*head.select_from(mint, &params, &[], &Control::new()).unwrap(), range)
}

/// What a stream gives, decoded; checks order, chunk bounds and counts.
fn streamed(head: &Arc<Head>, range: TimeRange) -> Contents {
    let mut stream = head.stream(range).unwrap();
    let mut symbols: Vec<String> = Vec::new();
    stream
        .symbols(&mut |text| {
            symbols.push(text.to_owned());
            Ok(())
        })
        .unwrap();
    assert!(symbols.is_sorted_by(|a, b| a < b), "symbols are sorted and occur once");
    let (mut series, mut all) = (SeriesChunks::default(), Contents::new());
    while stream.next(&mut series).unwrap() {
        let mut samples = Samples::default();
        for chunk in &series.chunks {
            let before = samples.len();
            let bytes = series.bytes(chunk);
            decode_range(chunk.encoding, bytes, usize::MAX, i64::MIN, i64::MAX, &mut samples).unwrap();
            assert_eq!((samples.t[before], *samples.t.last().unwrap()), (chunk.mint, chunk.maxt));
            assert_eq!(samples.len() - before, chunk.samples as usize);
            assert_eq!(chunk.encoding, Encoding::Xor);
        }
        assert!(samples.t.is_sorted_by(|a, b| a < b));
        assert!(series.labels.iter().all(|(name, value)| {
            let known = |text: &str| symbols.binary_search_by(|s| s.as_str().cmp(text)).is_ok();
            known(name) && known(value)
        }));
        assert!(all.last().is_none_or(|(before, _)| *before < series.labels), "series are sorted");
        all.push((series.labels.clone(), samples.t.into_iter().zip(samples.v.iter().map(|v| v.to_bits())).collect()));
    }
    all
}

/// Only the samples in `range`, only series that have some.
fn within(model: &BTreeMap<Labels, Vec<(i64, u64)>>, range: TimeRange) -> Contents {
    let cut = |samples: &[(i64, u64)]| -> Vec<_> {
        samples.iter().copied().filter(|(t, _)| (range.mint..=range.maxt).contains(t)).collect()
    };
    model.iter().map(|(l, s)| (l.clone(), cut(s))).filter(|(_, s)| !s.is_empty()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// Samples of some series after some minutes.
    Append {
        series: Vec<(usize, f64)>,
        minutes: i64,
        times: usize,
    },
    Spill,
    /// Drops what is older than so many minutes.
    Truncate(i64),
    Stream(i64, i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec((0usize..30, any_value()), 1..12), 1i64..4, 1usize..15)
            .prop_map(|(series, minutes, times)| Step::Append { series, minutes, times }),
        2 => Just(Step::Spill),
        2 => (0i64..40).prop_map(Step::Truncate),
        1 => (0i64..60, 0i64..60).prop_map(|(mint, len)| Step::Stream(mint, len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a simple model: whatever is moved, dropped and removed, what is shown from the last truncation on is all
    /// there, and a stream of any range is what a select of it shows.
    #[test]
    fn nothing_that_is_young_enough_is_lost(steps in prop::collection::vec(any_step(), 1..40)) {
        let head = head_on(&disk());
        let mut model: BTreeMap<Labels, Vec<(i64, u64)>> = BTreeMap::new();
        let mut refs: BTreeMap<Labels, SeriesRef> = BTreeMap::new();
        let (start, mut mint) = (100_000 * MINUTE, i64::MIN);
        let mut now = start;
        for step in steps {
            match step {
                Step::Append { series, minutes, times } => for _ in 0..times {
                    now += minutes * MINUTE;
                    for (idx, v) in &series {
                        let labels = labels(&[
                            ("__name__", &format!("metric_with_a_long_common_name_{}", idx % 3)),
                            ("instance", &format!("{}", idx % 4)),
                            ("i", &format!("{idx}")),
                        ]);
                        // An old reference is used as long as the head knows it.
                        let mut known = *refs.entry(labels.clone()).or_insert_with(|| head.resolve(&labels).unwrap());
                        if append_one(&head, known, now, *v) == Err(Rejection::UnknownSeries) {
                            known = head.resolve(&labels).unwrap();
                            prop_assert_ne!(Some(known), refs.insert(labels.clone(), known));
                            prop_assert_eq!(append_one(&head, known, now, *v), Ok(()));
                        }
                        let samples = model.entry(labels).or_default();
                        if samples.last().is_none_or(|last| last.0 < now) {
                            samples.push((now, v.to_bits()));
                        }
                    }
                },
                Step::Spill => {
                    head.spill().unwrap();
                    prop_assert_eq!(head.staged_bytes(), 0);
                }
                Step::Truncate(minutes) => {
                    mint = mint.max(now - minutes * MINUTE);
                    head.truncate(mint, 0).unwrap();
                    prop_assert_eq!(head.min_valid_time(), mint);
                    let alive = within(&model, TimeRange { mint, maxt: i64::MAX });
                    let status = head.status();
                    prop_assert_eq!(status.series, alive.len());
                    let first = alive.iter().map(|(_, samples)| samples[0].0).min();
                    if let Some(first) = first {
                        prop_assert!(status.min_time <= first && first - status.min_time < 10 * MINUTE);
                    }
                }
                Step::Stream(from, len) => {
                    let range = TimeRange { mint: mint.max(start + from * MINUTE), maxt: start + (from + len) * MINUTE };
                    prop_assert_eq!(streamed(&head, range), within(&model, range));
                }
            }
        }
        let all = TimeRange { mint, maxt: i64::MAX };
        prop_assert_eq!(select_from(&head, mint, ALL), within(&model, all));
        prop_assert_eq!(streamed(&head, all), within(&model, all));
        head.spill().unwrap();
        prop_assert_eq!(select_from(&head, mint, ALL), within(&model, all));
        let some = TimeRange { mint: mint.max(now - 20 * MINUTE), maxt: now - 5 * MINUTE };
        prop_assert_eq!(select_from(&head, mint, some), within(&model, some));
        let by_value = |v: &str| head.label_values("i", ALL, &[matcher("i", fk_model::MatchKind::Equal, v)], &Control::new());
        for (labels, _) in within(&model, all) {
            prop_assert_eq!(by_value(labels.value("i")).unwrap(), [labels.value("i")]);
        }
    }
}

/// Series `0..n`, a sample a minute for `minutes`.
fn filled(head: &Arc<Head>, n: usize, minutes: i64) -> Vec<SeriesRef> {
    let refs: Vec<_> =
        (0..n).map(|i| head.resolve(&labels(&[("__name__", "a"), ("i", &i.to_string())])).unwrap()).collect();
    for t in 0..minutes {
        let mut batch = Batch::default();
        refs.iter().for_each(|series| batch.push(*series, t * MINUTE, (t * t) as f64));
        assert_eq!(append(head, &batch).rejected, []);
    }
    refs
}

#[test]
fn a_stream_has_no_deleted_samples() {
    let head = head_on(&disk());
    let refs = filled(&head, 3, 60);
    head.spill().unwrap();
    let deleted = TimeRange { mint: 13 * MINUTE, maxt: 22 * MINUTE };
    let control = Control::new();
    let logs = super::super::DeletionLogs { wal: &|_| Ok(()), wbl: &|_| Ok(()) };
    head.delete(i64::MIN, deleted, &[matcher("i", fk_model::MatchKind::Equal, "1")], &control, &logs).unwrap();
    let all = streamed(&head, ALL);
    assert_eq!(all, select_from(&head, i64::MIN, ALL));
    assert_eq!(all.iter().map(|(_, samples)| samples.len()).collect::<Vec<_>>(), [60, 50, 60]);
    assert_eq!(refs.len(), 3);
}

#[test]
fn files_hold_the_chunks_in_prometheus_format() {
    let vfs = disk();
    let head = head_on(&vfs);
    let refs = filled(&head, 3, 100);
    let spilled = head.spill().unwrap();
    assert_eq!(head.spill().unwrap().chunks, 0);
    let mut found: BTreeMap<u64, Samples> = BTreeMap::new();
    let mut chunks = 0;
    for (_, path) in chunks_head::list(&vfs, Path::new("/d/chunks_head")).unwrap() {
        format::walk(&vfs.map(&path).unwrap(), |_, record| {
            let samples = found.entry(record.reference).or_default();
            assert!(samples.t.last().is_none_or(|t| *t < record.mint), "in order for each series");
            let before = samples.len();
            decode_range(record.encoding, record.data, usize::MAX, i64::MIN, i64::MAX, samples).unwrap();
            assert_eq!((record.mint, record.maxt), (samples.t[before], *samples.t.last().unwrap()));
            chunks += 1;
            true
        })
        .unwrap();
    }
    assert_eq!(chunks, spilled.chunks);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), refs.iter().map(|r| r.0).collect::<Vec<_>>());
    assert!(found.values().all(|s| s.t[..] == (0..s.len() as i64).map(|t| t * MINUTE).collect::<Vec<_>>()[..]));
}

#[test]
fn chunks_that_cannot_be_written_stay_and_are_tried_again() {
    let vfs = disk();
    let head = head_on(&vfs);
    filled(&head, 5, 60);
    let before = select_from(&head, i64::MIN, ALL);
    // Every operation of a spill fails once, in each way.
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::TooManyFiles] {
        for at in 0.. {
            let vfs = disk();
            let head = head_on(&vfs);
            filled(&head, 5, 60);
            let first = vfs.operations() + at;
            vfs.inject(first, 1, fault);
            let result = head.spill();
            if vfs.operations() <= first {
                break;
            }
            assert_eq!(select_from(&head, i64::MIN, ALL), before, "{fault:?} at {at}");
            if result.is_err() {
                assert_eq!(head.metrics().spills_failed.load(Ordering::Relaxed), 1);
                assert!(head.spill().unwrap().chunks > 0);
            }
            assert_eq!(head.staged_bytes(), 0);
            assert_eq!(select_from(&head, i64::MIN, ALL), before, "{fault:?} at {at}, tried again");
        }
    }
}

#[test]
fn a_damaged_chunk_fails_its_query_only() {
    let vfs = disk();
    let head = head_on(&vfs);
    filled(&head, 2, 60);
    head.spill().unwrap();
    let path = Path::new("/d/chunks_head/000001");
    let mut offsets = Vec::new();
    format::walk(&vfs.map(path).unwrap(), |offset, record| {
        offsets.push((record.reference, offset));
        true
    })
    .unwrap();
    let (reference, offset) = offsets[0];
    vfs.open_rw(path).unwrap().write_at(&[0xff], offset as u64 + 30).unwrap();
    let params = SelectParams { range: ALL, sorted: false, limit: 0 };
    let set = head.select(&params, &[], &Control::new()).unwrap();
    let mut samples = Samples::default();
    let results: Vec<_> = (0..set.len()).map(|i| set.read(i, ALL, &mut samples).map_err(|e| e.to_string())).collect();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    let error = results.into_iter().find_map(Result::err).unwrap();
    assert!(error.contains(&format!("000001: corrupt at offset {offset}")) && error.contains("checksum"), "{error}");
    assert_eq!(head.metrics().chunk_corruptions.load(Ordering::Relaxed), 1);
    assert!(reference > 0);
    // Later samples of the same series do not need it.
    let late = TimeRange { mint: 50 * MINUTE, maxt: i64::MAX };
    assert!((0..set.len()).all(|i| set.read(i, late, &mut samples).is_ok()));
}

#[test]
fn a_series_that_waits_for_its_first_sample_survives_one_truncation() {
    let head = head_on(&disk());
    let refs = filled(&head, 1, 60);
    let waiting = head.resolve(&labels(&[("__name__", "b")])).unwrap();
    head.truncate(50 * MINUTE, 0).unwrap();
    assert!(head.is_alive(waiting) && head.is_alive(refs[0]));
    assert_eq!(append_one(&head, waiting, 58 * MINUTE, 1.0), Ok(()));
    let never = head.resolve(&labels(&[("__name__", "c")])).unwrap();
    for mint in [51, 52] {
        head.truncate(mint * MINUTE, 0).unwrap();
    }
    assert!(head.is_alive(waiting) && !head.is_alive(never));
    assert_eq!(append_one(&head, never, 60 * MINUTE, 1.0), Err(Rejection::UnknownSeries));
    let again = head.resolve(&labels(&[("__name__", "c")])).unwrap();
    assert_ne!(again, never);
    assert_eq!(append_one(&head, again, 60 * MINUTE, 1.0), Ok(()));
}

#[test]
fn old_samples_are_out_of_bounds_after_a_truncation() {
    let head = head_on(&disk());
    filled(&head, 1, 60);
    let other = head.resolve(&labels(&[("__name__", "other")])).unwrap();
    assert_eq!(append_one(&head, other, 54 * MINUTE, 1.0), Ok(()), "half a range back");
    let third = head.resolve(&labels(&[("__name__", "third")])).unwrap();
    head.truncate(57 * MINUTE, 0).unwrap();
    assert_eq!(append_one(&head, third, 57 * MINUTE - 1, 1.0), Err(Rejection::OutOfBounds));
    assert_eq!(append_one(&head, third, 57 * MINUTE, 1.0), Ok(()));
}

#[test]
fn removed_series_are_kept_in_checkpoints_as_long_as_a_segment_may_name_them() {
    let head = head_on(&disk());
    let refs = filled(&head, 2, 30);
    append_one(&head, refs[0], 60 * MINUTE, 1.0).unwrap();
    head.truncate(50 * MINUTE, 7).unwrap();
    assert!(head.is_alive(refs[0]) && !head.is_alive(refs[1]));
    let needed = |last| [0, 1].map(|i| head.is_needed_in_checkpoint(refs[i], last));
    assert_eq!((needed(6), needed(7)), ([true, true], [true, false]));
    head.forget_expired(6);
    assert_eq!(needed(6), [true, true]);
    head.forget_expired(7);
    assert_eq!(needed(0), [true, false]);
}

#[test]
fn memory_goes_with_the_series() {
    let head = head_on(&disk());
    let total = |head: &Head| head.memory().iter().map(|m| m.bytes).sum::<usize>();
    let mut sizes = Vec::new();
    for generation in 0..6i64 {
        let t = generation * 20 * MINUTE;
        for i in 0..10_000 {
            let instance = (i % 50).to_string();
            let pod = format!("pod-{generation}-{i}");
            let series = head.resolve(&labels(&[("__name__", "a"), ("instance", &instance), ("pod", &pod)])).unwrap();
            append_one(&head, series, t, 1.0).unwrap();
        }
        head.truncate(t, 0).unwrap();
        assert_eq!(head.status().series, 10_000);
        sizes.push(total(&head));
    }
    assert!(sizes[5] <= sizes[1] * 11 / 10, "{sizes:?}");
    // Without series nearly nothing is left.
    let last = head.resolve(&labels(&[("__name__", "last")])).unwrap();
    append_one(&head, last, 200 * MINUTE, 1.0).unwrap();
    for _ in 0..3 {
        head.truncate(200 * MINUTE, 0).unwrap();
    }
    let left = total(&head);
    assert!(left < sizes[1] / 4, "{left} of {sizes:?}: {:?}", head.memory());
    assert_eq!(select_from(&head, i64::MIN, ALL).len(), 1);
    assert_eq!(head.label_values("pod", ALL, &[], &Control::new()).unwrap(), Vec::<String>::new());
    assert_eq!(head.label_names(ALL, &[], &Control::new()).unwrap(), ["__name__"]);
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writers replace their series all the time, a truncation runs over and over, and readers must only ever see samples that
/// belong to the labels they come with.
#[test]
fn truncation_among_writers_and_readers() {
    let head = head_on(&disk());
    let (done, now) = (AtomicBool::new(false), AtomicU64::new(1000));
    let rounds = 300;
    thread::scope(|scope| {
        for writer in 0..2u64 {
            let (head, done, now) = (&head, &done, &now);
            scope.spawn(move || {
                let _done = SetAtEnd(done);
                for n in 0..rounds {
                    let mut batch = Batch::default();
                    let t = now.fetch_add(1, Ordering::Relaxed) as i64 * MINUTE;
                    for i in 0..20u64 {
                        let id = writer * 1_000_000 + n / 4 * 100 + i;
                        let series =
                            labels(&[("__name__", "a"), ("id", &id.to_string()), ("instance", &(i % 5).to_string())]);
                        batch.push(head.resolve(&series).unwrap(), t, id as f64);
                    }
                    // Two truncations may pass between the reference and the sample.
                    let expected = [Rejection::OutOfOrder, Rejection::OutOfBounds, Rejection::UnknownSeries];
                    let report = append(head, &batch);
                    assert!(report.rejected.iter().all(|(_, why)| expected.contains(why)), "{:?}", report.rejected);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let t = now.load(Ordering::Relaxed) as i64;
                head.truncate((t - 4) * MINUTE, 0).unwrap();
                head.spill().unwrap();
            }
        });
        while !done.load(Ordering::Relaxed) {
            let regex = matcher("id", fk_model::MatchKind::Regex, "[0-9]*[02468]");
            let params = SelectParams { range: ALL, sorted: true, limit: 0 };
            let set = head.select(&params, &[regex], &Control::new()).unwrap();
            let mut samples = Samples::default();
            for idx in 0..set.len() {
                let id: f64 = set.labels(idx).value("id").parse().unwrap();
                assert_eq!(id % 2.0, 0.0);
                set.read(idx, ALL, &mut samples).unwrap();
                assert!(samples.v.iter().all(|v| *v == id), "{id}: {samples:?}");
            }
            for (labels, samples) in streamed(&head, ALL) {
                let id: f64 = labels.value("id").parse().unwrap();
                assert!(samples.iter().all(|(_, v)| *v == id.to_bits()));
            }
        }
    });
}
