//! Blocks of other programs, and other programs on our blocks. What is not installed is skipped, loudly.

use std::process::Command;

use fk_testkit::{TempDir, conformance};
use fk_vfs::OsVfs;

use super::*;
use crate::dir;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("directory") {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::write(to, std::fs::read(entry.path()).expect("read")).expect("write");
        }
    }
}

/// The output of a program; `None`, loudly, if it is not there.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        }
        Err(e) => panic!("{program}: {e}"),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[test]
fn a_block_of_prometheus_2_0_answers() {
    let Some(dir) = conformance("tsdb/index_format_v1") else { return };
    let block = Block::open(Arc::new(OsVfs), &dir).expect("open");
    let mut model =
        Model::from([(labels(&[("foo", "bar")]), vec![(1, 2.0)]), (labels(&[("foo", "baz")]), vec![(3, 4.0)])]);
    let foo = |kind, value| query(&block, ALL, &[matcher(kind, "foo", value)]).expect("query");
    assert_eq!(foo(MatchKind::NotRegex, "^.?$"), model);
    assert_eq!(foo(MatchKind::Equal, "bar").keys().collect::<Vec<_>>(), [&labels(&[("foo", "bar")])]);
    for n in 0..100 {
        model.insert(labels(&[("bar", &n.to_string())]), vec![(0, 0.0)]);
    }
    assert_eq!(query(&block, ALL, &[]).expect("query"), model);
    let (meta, control) = (block.meta(), Control::new());
    assert_eq!((meta.stats.num_series, meta.stats.num_samples, meta.stats.num_chunks), (102, 102, 102));
    let values = block.label_values("bar", ALL, &[], &control).expect("values");
    assert_eq!((values.len(), values.is_sorted()), (100, true));
    assert_eq!(block.label_names(ALL, &[], &control).expect("names"), ["bar", "foo"]);
    let vfs = sim();
    let copy = super::block(&vfs, 1, &mut BlockStream::new(&block).expect("stream"));
    assert_eq!(query(&copy, ALL, &[]).expect("query"), model);
}

#[test]
fn a_block_of_prometheus_2_1_is_repaired() {
    let Some(from) = conformance("tsdb/repair_index_version") else { return };
    let tmp = TempDir::new("repair");
    copy(&from, tmp.path());
    let path = tmp.path().join("01BZJ9WJQPWHGNC2W4J9TA62KC");
    std::fs::create_dir_all(path.join("chunks")).expect("directory");
    assert!(matches!(Block::open(Arc::new(OsVfs), &path), Err(StorageError::Corrupt { .. })));
    assert!(dir::repair_index_version(&OsVfs, &path).expect("repair"));
    assert!(!dir::repair_index_version(&OsVfs, &path).expect("nothing to do"));
    let block = Block::open(Arc::new(OsVfs), &path).expect("open");
    assert_eq!(block.meta().version, 1);
    let found = block.search(&[Matcher::equal("b", "1")], &Control::new()).expect("search");
    let mut entry = crate::index::SeriesEntry::default();
    let found: Vec<_> = found
        .into_iter()
        .map(|series| {
            block.index().series(series, &mut entry).expect("series");
            block.index().labels(&entry).expect("labels")
        })
        .collect();
    assert_eq!(found, [labels(&[("a", "1"), ("b", "1")]), labels(&[("a", "2"), ("b", "1")])]);
}

#[test]
fn a_block_of_promtool_answers() {
    let tmp = TempDir::new("promtool");
    let mut text = String::from("# TYPE m gauge\n");
    let mut model = Model::new();
    for series in 0..70 {
        let of = labels(&[("__name__", "m"), ("job", "x"), ("n", &format!("{series:03}"))]);
        let samples = (0..300).map(|i| (1_700_000_000_000 + i * 1000, (series * i) as f64 * 0.5));
        model.insert(of, samples.collect());
    }
    for (of, samples) in &model {
        for (t, v) in samples {
            text.push_str(&format!("m{{job=\"x\",n=\"{}\"}} {v} {}\n", of.value("n"), t / 1000));
        }
    }
    text.push_str("# EOF\n");
    let (input, data) = (tmp.path().join("in.om"), tmp.path().join("data"));
    std::fs::write(&input, text).expect("write");
    let args = ["tsdb", "create-blocks-from", "openmetrics", &input.to_string_lossy(), &data.to_string_lossy()];
    if run("promtool", &args).is_none() {
        return;
    }
    let listing = dir::list(&OsVfs, &data).expect("list");
    let mut streams: Vec<Box<dyn SeriesStream>> = Vec::new();
    let mut found = Model::new();
    for (_, path) in &listing.blocks {
        let block = Block::open(Arc::new(OsVfs), path).expect("open");
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path.join("meta.json")).expect("read")).expect("JSON");
        let ours: serde_json::Value = serde_json::from_slice(&block.meta().to_json()).expect("JSON");
        assert_eq!(ours, json, "meta.json comes back");
        for (labels, samples) in query(&block, ALL, &[]).expect("query") {
            found.entry(labels).or_default().extend(samples);
        }
        // The index of a copy is the same but for what old versions wrote beside it.
        let vfs = sim();
        let copy = super::block(&vfs, 1, &mut BlockStream::new(&block).expect("stream"));
        assert_eq!(vfs.get(&copy.dir().join("chunks/000001")), std::fs::read(path.join("chunks/000001")).ok());
        streams.push(Box::new(BlockStream::new(&block).expect("stream")));
    }
    assert!(!streams.is_empty());
    assert_eq!(found, model);
    let vfs = sim();
    let merged = super::block(&vfs, 1, &mut MergeStream::new(streams));
    assert_eq!(query(&merged, ALL, &[]).expect("query"), model);
}

#[test]
fn promtool_reads_our_block() {
    let tmp = TempDir::new("ours");
    let data = tmp.path().join("data");
    // A dump looks for a log, too.
    std::fs::create_dir_all(data.join("wal")).expect("directory");
    let mut model = Model::new();
    for n in 0..100 {
        let of = labels(&[("__name__", "m"), ("n", &format!("{n:03}")), ("é", "ü")]);
        model.insert(of, (0..250).map(|i| (1_700_000_000_000 + i * 1000, (n * i) as f64)).collect());
    }
    let spec = BlockSpec {
        ulid: Ulid::generate(1_700_000_000_000),
        min_time: 1_699_999_200_000,
        max_time: 1_700_006_400_000,
        compaction: Compaction { level: 1, ..Compaction::default() },
    };
    let writer = BlockWriter { segment_bytes_max: 20_000, ..BlockWriter::new(&OsVfs, &data) };
    let meta = writer.write(&spec, &mut ModelStream::new(&model, 120), &mut |_| Ok(())).expect("written");
    assert_eq!(meta.expect("a block").stats.num_samples, 25_000);
    let ulid = spec.ulid.to_string();
    assert!(data.join(&ulid).join("chunks/000002").exists());
    let data = data.to_string_lossy();
    let Some(analysis) = run("promtool", &["tsdb", "analyze", &data, &ulid]) else { return };
    assert!(analysis.contains("Series: 100"), "{analysis}");
    let dump = run("promtool", &["tsdb", "dump", &data]).expect("promtool");
    assert_eq!(dump.lines().count(), 25_000);
    assert!(dump.contains(r#"{__name__="m", n="099", é="ü"} 24651 1700000249000"#), "{}", &dump[..300]);
    let block = Block::open(Arc::new(OsVfs), &Path::new(&*data).join(ulid)).expect("open");
    block.delete(ALL, &[Matcher::equal("n", "000")], false, &Control::new()).expect("delete");
    let dump = run("promtool", &["tsdb", "dump", &data]).expect("promtool");
    assert_eq!(dump.lines().count(), 24_750);
}
