//! Whole blocks: written, read, streamed, merged, damaged.

mod damage;
mod real;
mod scrub;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fk_chunk::Encoding;
use fk_chunk::xor::XorChunk;
use fk_model::{Histogram, Labels, MatchKind, Matcher, Span};
use fk_storage::{Control, Queryable, Samples, SelectParams, StorageError, TimeRange};
use fk_vfs::Vfs;
use fk_vfs::sim::{Fault, SimVfs};
use proptest::prelude::*;

use crate::{Block, BlockSpec, BlockStream, BlockWriter, Compaction, MergeStream, SeriesChunks, SeriesStream, Ulid};

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

/// Series with their samples: what blocks are made of and compared with.
type Model = BTreeMap<Labels, Vec<(i64, f64)>>;

/// A stream of series in memory, a few samples per chunk.
struct ModelStream {
    series: Vec<(Labels, Vec<(i64, f64)>)>,
    next: usize,
    samples_per_chunk: usize,
}

impl ModelStream {
    fn new(model: &Model, samples_per_chunk: usize) -> ModelStream {
        ModelStream { series: model.clone().into_iter().collect(), next: 0, samples_per_chunk }
    }
}

impl SeriesStream for ModelStream {
    fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
        let Some((labels, samples)) = self.series.get(self.next) else { return Ok(false) };
        self.next += 1;
        out.clear();
        out.labels = labels.clone();
        for samples in samples.chunks(self.samples_per_chunk) {
            let mut chunk = XorChunk::new();
            for (t, v) in samples {
                chunk.push(*t, *v);
            }
            let times = (samples[0].0, samples[samples.len() - 1].0);
            out.push(times, Encoding::Xor, samples.len() as u32, chunk.bytes());
        }
        Ok(true)
    }

    fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        let strings = self.series.iter().flat_map(|(labels, _)| labels.iter().flat_map(|(n, v)| [n, v]));
        let strings: std::collections::BTreeSet<&str> = strings.collect();
        strings.into_iter().try_for_each(each)
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn spec(n: u128) -> BlockSpec {
    BlockSpec { ulid: Ulid::new(1, n), min_time: -1000, max_time: 100_000, compaction: Compaction::default() }
}

fn sim() -> Arc<SimVfs> {
    let vfs = SimVfs::new(1);
    vfs.create_dir(Path::new("/data")).expect("directory");
    Arc::new(vfs)
}

fn write_to(vfs: &dyn Vfs, n: u128, stream: &mut dyn SeriesStream) -> Result<bool, StorageError> {
    let writer = BlockWriter::new(vfs, Path::new("/data"));
    Ok(writer.write(&spec(n), stream, &mut |_| Ok(()))?.is_some())
}

fn block(vfs: &Arc<SimVfs>, n: u128, stream: &mut dyn SeriesStream) -> Block {
    assert!(write_to(&**vfs, n, stream).expect("written"));
    open(vfs, n)
}

fn open(vfs: &Arc<SimVfs>, n: u128) -> Block {
    let vfs: Arc<dyn Vfs> = Arc::<SimVfs>::clone(vfs);
    Block::open(vfs, &Path::new("/data").join(Ulid::new(1, n).to_string())).expect("open")
}

fn matcher(kind: MatchKind, name: &str, value: &str) -> Matcher {
    Matcher::new(kind, name, value).expect("a sound expression")
}

/// Everything that a select gives. Asks for the last samples, too.
fn query(block: &Block, range: TimeRange, matchers: &[Matcher]) -> Result<Model, StorageError> {
    let params = SelectParams { range, sorted: true, limit: 0 };
    let set = block.select(&params, matchers, &Control::new())?;
    let (mut model, mut samples, mut before) = (Model::new(), Samples::default(), None);
    for idx in 0..set.len() {
        set.read(idx, range, &mut samples)?;
        let labels = set.labels(idx);
        assert!(before.is_none_or(|before| before < labels), "series are in order");
        before = Some(labels.clone());
        let pairs: Vec<_> = samples.t.iter().copied().zip(samples.v.iter().copied()).collect();
        assert_eq!(set.last(idx, range)?.map(|newest| (newest.t, newest.v)), pairs.last().copied());
        if !pairs.is_empty() {
            model.insert(labels, pairs);
        }
    }
    Ok(model)
}

/// What the same select gives of a model.
fn expected(model: &Model, range: TimeRange, matchers: &[Matcher]) -> Model {
    let series = model.iter().filter(|(labels, _)| Matcher::all_match(matchers, labels));
    let cut = series.map(|(labels, samples)| {
        let samples = samples.iter().copied().filter(|(t, _)| range.mint <= *t && *t <= range.maxt);
        (labels.clone(), samples.collect::<Vec<_>>())
    });
    cut.filter(|(_, samples)| !samples.is_empty()).collect()
}

fn models() -> impl Strategy<Value = Model> {
    let name = prop_oneof![Just("a"), Just("b"), Just("__name__"), Just("Zürich")];
    let value = prop_oneof!["[a-c]{1,2}", Just("x".repeat(300)), Just("\u{1f600}".to_owned())];
    let labels = proptest::collection::btree_map(name, value, 1..4).prop_map(Labels::from_pairs);
    let samples = proptest::collection::btree_map(-50i64..50_000, -9.0f64..9.0, 1..30);
    proptest::collection::btree_map(labels, samples.prop_map(Vec::from_iter), 1..80)
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let kind = prop_oneof![
        Just(MatchKind::Equal),
        Just(MatchKind::NotEqual),
        Just(MatchKind::Regex),
        Just(MatchKind::NotRegex)
    ];
    let name = prop_oneof![Just("a"), Just("b"), Just("__name__"), Just("nobody")];
    let value = prop_oneof![
        Just(""),
        Just("a"),
        Just("a|bc"),
        Just("a.*"),
        Just(".*"),
        Just(".+"),
        Just(".?"),
        Just("[ab]c?"),
        Just("|b"),
    ];
    let one = (kind, name, value).prop_map(|(kind, name, value)| matcher(kind, name, value));
    proptest::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_block_answers_as_what_it_was_made_of(
        model in models(),
        selects in proptest::collection::vec((matchers(), -100i64..60_000, 0i64..60_000), 6),
    ) {
        let vfs = sim();
        let block = block(&vfs, 1, &mut ModelStream::new(&model, 7));
        prop_assert_eq!(query(&block, ALL, &[]).expect("query"), model.clone());
        let control = Control::new();
        for (matchers, mint, len) in selects {
            let range = TimeRange { mint, maxt: mint + len };
            prop_assert_eq!(query(&block, range, &matchers).expect("query"), expected(&model, range, &matchers));
            let series = expected(&model, ALL, &matchers);
            let names: std::collections::BTreeSet<String> =
                series.keys().flat_map(|l| l.iter().map(|(n, _)| n.to_owned())).collect();
            prop_assert_eq!(block.label_names(ALL, &matchers, &control).expect("names"), Vec::from_iter(names));
            let values: std::collections::BTreeSet<String> =
                series.keys().filter_map(|l| l.get("a").map(str::to_owned)).collect();
            prop_assert_eq!(block.label_values("a", ALL, &matchers, &control).expect("values"), Vec::from_iter(values));
        }
        let meta = block.meta();
        let n: usize = model.values().map(Vec::len).sum();
        prop_assert_eq!((meta.stats.num_samples, meta.stats.num_float_samples), (n as u64, n as u64));
        prop_assert_eq!(meta.stats.num_series, model.len() as u64);
        prop_assert_eq!(meta.stats.num_chunks, model.values().map(|s| s.len().div_ceil(7) as u64).sum::<u64>());
        prop_assert_eq!(&meta.compaction.sources, &vec![block.ulid()]);
        let files = ["index", "chunks/000001", "meta.json", "tombstones"];
        let size: usize = files.iter().map(|f| vfs.get(&block.dir().join(f)).expect("file").len()).sum();
        prop_assert_eq!(block.size_bytes(), size as u64);
    }

    #[test]
    fn a_block_streamed_into_a_block_is_the_same(model in models()) {
        let vfs = sim();
        let first = block(&vfs, 1, &mut ModelStream::new(&model, 7));
        let second = block(&vfs, 2, &mut BlockStream::new(&first).expect("stream"));
        for file in ["index", "chunks/000001", "tombstones"] {
            prop_assert_eq!(vfs.get(&first.dir().join(file)), vfs.get(&second.dir().join(file)), "{}", file);
        }
    }

    #[test]
    fn merged_blocks_have_the_samples_of_all(parts in proptest::collection::vec(models(), 1..4)) {
        let vfs = sim();
        let mut expected: BTreeMap<Labels, BTreeMap<i64, Vec<u64>>> = BTreeMap::new();
        let mut streams: Vec<Box<dyn SeriesStream>> = Vec::new();
        for (n, model) in parts.iter().enumerate() {
            let block = block(&vfs, n as u128, &mut ModelStream::new(model, 5));
            streams.push(Box::new(BlockStream::new(&block).expect("stream")));
            for (labels, samples) in model {
                for (t, v) in samples {
                    expected.entry(labels.clone()).or_default().entry(*t).or_default().push(v.to_bits());
                }
            }
        }
        let merged = block(&vfs, 9, &mut MergeStream::new(streams));
        let got = query(&merged, ALL, &[]).expect("query");
        prop_assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (samples, expected) in got.values().zip(expected.values()) {
            prop_assert_eq!(samples.iter().map(|(t, _)| t).collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            prop_assert!(samples.iter().zip(expected.values()).all(|((_, v), known)| known.contains(&v.to_bits())));
        }
    }

    #[test]
    fn deleted_samples_are_gone_from_selects_streams_and_copies(
        model in models(),
        deletions in proptest::collection::vec((matchers(), -100i64..50_000, 0i64..30_000), 1..4),
    ) {
        let vfs = sim();
        let first = block(&vfs, 1, &mut ModelStream::new(&model, 7));
        let (mut model, control) = (model, Control::new());
        for (matchers, mint, len) in deletions {
            let range = TimeRange { mint, maxt: mint + len };
            let gone = expected(&model, range, &matchers);
            let dry = first.delete(range, &matchers, true, &control).expect("dry run");
            prop_assert_eq!(dry.samples, gone.values().map(Vec::len).sum::<usize>() as u64);
            let done = first.delete(range, &matchers, false, &control).expect("delete");
            prop_assert_eq!((done.series, done.chunks), (dry.series, dry.chunks));
            for (labels, samples) in &mut model {
                if gone.contains_key(labels) {
                    samples.retain(|(t, _)| *t < range.mint || range.maxt < *t);
                }
            }
        }
        model.retain(|_, samples| !samples.is_empty());
        prop_assert_eq!(query(&first, ALL, &[]).expect("query"), model.clone());
        let again = open(&vfs, 1);
        prop_assert_eq!(query(&again, ALL, &[]).expect("query"), model.clone());
        prop_assert_eq!(again.meta().stats.num_tombstones, again.tombstones().len() as u64);
        prop_assert_eq!(first.size_bytes(), again.size_bytes());
        let mut stream = BlockStream::new(&first).expect("stream");
        match write_to(&*vfs, 2, &mut stream).expect("written") {
            true => prop_assert_eq!(query(&open(&vfs, 2), ALL, &[]).expect("query"), model),
            false => prop_assert!(model.is_empty()),
        }
    }
}

#[test]
fn a_stream_can_be_cut_to_a_range() {
    let vfs = sim();
    let model = Model::from([
        (labels(&[("a", "1")]), (0..50).map(|t| (t, t as f64)).collect()),
        (labels(&[("a", "2")]), vec![(5, 1.0)]),
    ]);
    let first = block(&vfs, 1, &mut ModelStream::new(&model, 20));
    let range = TimeRange { mint: 10, maxt: 29 };
    let second = block(&vfs, 2, &mut BlockStream::within(&first, range).expect("stream"));
    assert_eq!(query(&second, ALL, &[]).expect("query"), expected(&model, range, &[]));
}

#[test]
fn a_stream_without_samples_makes_no_block() {
    let vfs = sim();
    assert!(!write_to(&*vfs, 1, &mut ModelStream::new(&Model::new(), 7)).expect("nothing to write"));
    assert_eq!(vfs.read_dir(Path::new("/data")).expect("list"), []);
}

#[test]
fn histograms_pass_through_a_block() {
    let h = |n: u64| Histogram {
        count: 3 * n,
        sum: n as f64,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![n as i64, n as i64],
        ..Histogram::default()
    };
    struct One(Option<SeriesChunks>);
    impl SeriesStream for One {
        fn next(&mut self, out: &mut SeriesChunks) -> Result<bool, StorageError> {
            Ok(self.0.take().map(|series| *out = series).is_some())
        }
        fn symbols(&self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
            ["1", "a"].into_iter().try_for_each(each)
        }
    }
    let mut writer = fk_chunk::histogram::HistogramWriter::begin(false, None, 0, 10, &h(1)).expect("histogram");
    for n in 2..9 {
        writer.push(0, n as i64 * 10, &h(n)).expect("histogram");
    }
    let mut series = SeriesChunks { labels: labels(&[("a", "1")]), ..SeriesChunks::default() };
    series.push((10, 80), Encoding::Histogram, 8, writer.bytes());
    let vfs = sim();
    let first = block(&vfs, 1, &mut One(Some(series)));
    assert_eq!((first.meta().stats.num_histogram_samples, first.meta().stats.num_float_samples), (8, 0));
    first.delete(TimeRange { mint: 30, maxt: 40 }, &[], false, &Control::new()).expect("delete");
    let second = block(&vfs, 2, &mut BlockStream::new(&first).expect("stream"));
    for block in [&first, &second] {
        let params = SelectParams { range: ALL, sorted: true, limit: 0 };
        let set = block.select(&params, &[], &Control::new()).expect("select");
        let mut samples = Samples::default();
        set.read(0, ALL, &mut samples).expect("read");
        assert_eq!(samples.t, [10, 20, 50, 60, 70, 80]);
        assert_eq!(
            samples.histograms.iter().map(|(i, h)| (*i, h.count)).collect::<Vec<_>>(),
            [(0, 3.0), (1, 6.0), (2, 15.0), (3, 18.0), (4, 21.0), (5, 24.0)]
        );
    }
}

#[test]
fn a_limit_counts_series_that_are_in_the_range() {
    let vfs = sim();
    let series = (0..20).map(|n| (labels(&[("a", &format!("{n:02}"))]), vec![(n, 1.0)]));
    let block = block(&vfs, 1, &mut ModelStream::new(&series.collect(), 7));
    let params = SelectParams { range: TimeRange { mint: 10, maxt: 90 }, sorted: true, limit: 3 };
    let set = block.select(&params, &[], &Control::new()).expect("select");
    assert_eq!((0..set.len()).map(|i| set.labels(i).value("a").to_owned()).collect::<Vec<_>>(), ["10", "11", "12"]);
}

#[test]
fn a_cancelled_select_ends() {
    let vfs = sim();
    let model = Model::from([(labels(&[("a", "1")]), vec![(1, 1.0)])]);
    let block = block(&vfs, 1, &mut ModelStream::new(&model, 7));
    let control = Control::new();
    control.cancel();
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    assert!(matches!(block.select(&params, &[], &control), Err(StorageError::Stopped(_))));
}

#[test]
fn streams_that_break_their_promise_are_refused() {
    let model = Model::from([(labels(&[("a", "1")]), vec![(1, 1.0)]), (labels(&[("b", "1")]), vec![(1, 1.0)])]);
    let refused = |change: &dyn Fn(&mut ModelStream)| {
        let vfs = sim();
        let mut stream = ModelStream::new(&model, 1);
        change(&mut stream);
        let error = write_to(&*vfs, 1, &mut stream).expect_err("refused").to_string();
        assert_eq!(vfs.read_dir(Path::new("/data")).expect("list"), [], "nothing is left");
        error
    };
    let error = refused(&|stream| stream.series.reverse());
    assert!(error.contains("comes too late"), "{error}");
    let error = refused(&|stream| stream.series[0].1 = vec![(5, 1.0), (5, 2.0)]);
    assert!(error.contains("overlap"), "{error}");
}

#[test]
fn the_pace_can_end_the_writing() {
    let vfs = sim();
    let series = (0..3000).map(|n| {
        let samples = (0..100).map(|t| (t * 1000 + n, (n * t) as f64 * 0.1)).collect();
        (labels(&[("a", &n.to_string())]), samples)
    });
    let model: Model = series.collect();
    let writer = BlockWriter::new(&*vfs, Path::new("/data"));
    let mut told = 0;
    let written = writer.write(&spec(1), &mut ModelStream::new(&model, 50), &mut |bytes| {
        told += bytes;
        if told > 1 << 20 { Err(StorageError::ReadOnly("enough".to_owned())) } else { Ok(()) }
    });
    assert!(matches!(written, Err(StorageError::ReadOnly(_))));
    assert_eq!(vfs.read_dir(Path::new("/data")).expect("list"), []);
    writer.write(&spec(1), &mut ModelStream::new(&model, 50), &mut |_| Ok(())).expect("written").expect("a block");
    assert_eq!(query(&open(&vfs, 1), ALL, &[]).expect("query"), model);
}

/// S1 and S3 of a write: at every operation the power fails, or the operation does. A block is there as a whole or not.
#[test]
fn a_block_is_written_as_a_whole_or_not_at_all() {
    let model = Model::from([
        (labels(&[("a", "1")]), (0..40).map(|t| (t, t as f64)).collect()),
        (labels(&[("a", "2")]), vec![(5, 1.0)]),
    ]);
    let dir = Path::new("/data").join(Ulid::new(1, 1).to_string());
    let operations = {
        let vfs = sim();
        let before = vfs.operations();
        write_to(&*vfs, 1, &mut ModelStream::new(&model, 7)).expect("written");
        vfs.operations() - before
    };
    assert!(operations > 15, "{operations}");
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::TooManyFiles, Fault::PowerOff] {
        for n in 0..operations {
            let vfs = sim();
            vfs.sync_dir(Path::new("/")).expect("sync");
            vfs.inject(vfs.operations() + n, 1, fault);
            let written = write_to(&*vfs, 1, &mut ModelStream::new(&model, 7));
            vfs.crash();
            if vfs.metadata(&dir).expect("stat").is_some() {
                assert_eq!(query(&open(&vfs, 1), ALL, &[]).expect("query"), model, "{fault:?} at {n}");
            } else {
                assert!(written.is_err(), "{fault:?} at {n}: a block that was written is gone");
            }
        }
    }
}

/// The same of a deletion: afterwards the block has its old or its new contents.
#[test]
fn a_deletion_is_there_or_not() {
    let model = Model::from([
        (labels(&[("a", "1")]), (0..40).map(|t| (t, t as f64)).collect()),
        (labels(&[("a", "2")]), vec![(5, 1.0)]),
    ]);
    let matchers = [matcher(MatchKind::Equal, "a", "1")];
    let mut after = model.clone();
    after.values_mut().take(1).for_each(|samples| samples.retain(|(t, _)| !(10..=20).contains(t)));
    for fault in [Fault::Io, Fault::PowerOff] {
        for n in 0.. {
            let vfs = sim();
            vfs.sync_dir(Path::new("/")).expect("sync");
            let block = block(&vfs, 1, &mut ModelStream::new(&model, 7));
            let first = vfs.operations() + n;
            vfs.inject(first, 1, fault);
            let deleted = block.delete(TimeRange { mint: 10, maxt: 20 }, &matchers, false, &Control::new());
            let done = vfs.operations() <= first;
            if fault == Fault::Io {
                let now = query(&block, ALL, &[]).expect("query");
                assert!(now == after || (deleted.is_err() && now == model), "{n}");
            }
            vfs.crash();
            let found = query(&open(&vfs, 1), ALL, &[]).expect("query");
            assert!(found == after || (deleted.is_err() && found == model), "{fault:?} at {n}");
            if done {
                break;
            }
        }
    }
}
