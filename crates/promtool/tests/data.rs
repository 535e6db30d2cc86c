//! Imports and dumps against recorded behaviour of Prometheus' promtool, and against the tools themselves where they are installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fk_block::Block;
use fk_model::Labels;
use fk_promql_syntax::series::{SeriesValue, parse_series_desc};
use fk_promtool::{dump, list, openmetrics};
use fk_storage::{Appender, Batch, Control, Queryable, Samples, SelectParams, TimeRange};
use fk_testkit::{MemoryStorage, TempDir};
use fk_tsdb::readonly::open_blocks;
use fk_tsdb::{Db, DbOptions};
use fk_vfs::{OsVfs, Vfs};
use serde_json::Value;

const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

fn vfs() -> Arc<dyn Vfs> {
    Arc::new(OsVfs)
}

fn data(file: &str) -> Option<Value> {
    let path = fk_testkit::conformance("rules/promtool")?.join(file);
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// Lines without their order, which is not fixed.
fn lines(text: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = std::str::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn expected(file: &Value) -> Vec<String> {
    let dir = fk_testkit::conformance("rules/promtool").unwrap();
    lines(&std::fs::read(dir.join(file.as_str().unwrap())).unwrap())
}

/// All samples of some blocks.
fn samples(blocks: &[Block]) -> BTreeMap<Labels, Vec<(i64, u64)>> {
    let mut found: BTreeMap<Labels, Vec<(i64, u64)>> = BTreeMap::new();
    for block in blocks {
        let matchers = fk_promql_syntax::parse_selector("{__name__=~'.*'}").unwrap();
        let params = SelectParams { range: ALL, sorted: true, limit: 0 };
        let set = block.select(&params, &matchers, &Control::new()).unwrap();
        let mut samples = Samples::default();
        for idx in 0..set.len() {
            set.read(idx, ALL, &mut samples).unwrap();
            let series = found.entry(set.labels(idx)).or_default();
            series.extend(samples.t.iter().copied().zip(samples.v.iter().map(|v| v.to_bits())));
        }
    }
    found
}

#[test]
fn imports_make_the_blocks_that_prometheus_makes() {
    let Some(data) = data("backfill.json") else { return };
    for case in data["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let folder = TempDir::new("promtool-import");
        let max_hours: i64 =
            case["max_block_duration"].as_str().map_or(0, |text| text.trim_end_matches('h').parse().unwrap());
        let labels = case["extra_labels"].as_object().into_iter().flatten();
        let options = openmetrics::Options {
            max_block_ms: max_hours * 3_600_000,
            labels: labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
            ..Default::default()
        };
        let mut out = Vec::new();
        let text = case["openmetrics"].as_str().unwrap();
        let result = openmetrics::import(&vfs(), text.as_bytes(), folder.path(), &options, &mut out);
        assert_eq!(result.is_ok(), case["ok"] == true, "{name}: {result:?}");
        let blocks = open_blocks(&vfs(), folder.path(), &mut |_, error| panic!("{name}: {error}")).unwrap();
        let Some(expect) = case.get("expect") else {
            assert!(blocks.is_empty(), "{name}: nothing is written before everything is read");
            continue;
        };
        assert_eq!(blocks.len() as u64, expect["blocks"].as_u64().unwrap(), "{name}");
        let rows = String::from_utf8(out).unwrap().lines().count();
        assert_eq!(rows, if blocks.is_empty() { 0 } else { blocks.len() + 1 }, "{name}: a header and the blocks");
        let range_ms = expect["block_duration_ms"].as_i64().unwrap();
        for block in &blocks {
            let (min, end) = block.times();
            assert_eq!(min.div_euclid(range_ms), (end - 1).div_euclid(range_ms), "{name}");
        }
        let times = blocks.iter().map(Block::times);
        assert_eq!(times.clone().map(|(min, _)| min).min(), expect["min_time"].as_i64(), "{name}");
        assert_eq!(times.map(|(_, end)| end - 1).max(), expect["max_time"].as_i64(), "{name}");
        let mut wanted: BTreeMap<Labels, Vec<(i64, u64)>> = BTreeMap::new();
        for sample in expect["samples"].as_array().unwrap() {
            let labels = sample["labels"].as_object().unwrap().iter();
            let labels =
                Labels::from_pairs(labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())));
            let v: f64 = sample["v"].as_str().unwrap().parse().unwrap();
            wanted.entry(labels).or_default().push((sample["t"].as_i64().unwrap(), v.to_bits()));
        }
        assert_eq!(samples(&blocks), wanted, "{name}");
    }
}

/// The samples of `load` blocks of the PromQL test language, floats only.
fn load(text: &str) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for line in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()) {
        let series = parse_series_desc(line).unwrap();
        let floats = series.values.iter().enumerate().map(|(at, value)| match value {
            SeriesValue::Float(v) => (at as i64 * 60_000, *v),
            other => panic!("{line}: {other:?}"),
        });
        storage.add(&series.labels, &floats.collect::<Vec<_>>());
    }
    storage
}

#[test]
fn dumps_are_those_of_prometheus() {
    let Some(data) = data("tsdb_dump.json") else { return };
    let storage = load(data["dump"]["load"].as_str().unwrap());
    for case in data["dump"]["cases"].as_array().unwrap() {
        let time = |field: &str, default| case[field].as_i64().unwrap_or(default);
        let range = TimeRange { mint: time("min_time", i64::MIN), maxt: time("max_time", i64::MAX) };
        let selectors: Vec<String> =
            case["match"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
        for (format, file) in [(dump::Format::Prom, "dump"), (dump::Format::SeriesJson, "dump_series_json")] {
            let options = dump::Options { range, selectors: selectors.clone(), format };
            let mut out = Vec::new();
            dump::dump_storage(&storage, &options, &mut out).unwrap();
            assert_eq!(lines(&out), expected(&case[file]), "{} {file}", case["name"]);
        }
    }
    let storage = load(data["dump_openmetrics"]["load"].as_str().unwrap());
    let options = dump::Options {
        range: ALL,
        selectors: vec!["{__name__=~'(?s:.*)'}".to_owned()],
        format: dump::Format::OpenMetrics,
    };
    let mut out = Vec::new();
    dump::dump_storage(&storage, &options, &mut out).unwrap();
    assert_eq!(lines(&out), expected(&data["dump_openmetrics"]["expect"]));
}

fn dump_openmetrics(dir: &Path) -> Vec<u8> {
    let options = dump::Options {
        range: ALL,
        selectors: vec!["{__name__=~'(?s:.*)'}".to_owned()],
        format: dump::Format::OpenMetrics,
    };
    let mut out = Vec::new();
    dump::dump(vfs(), dir, &options, &mut out).unwrap();
    out
}

#[test]
fn what_was_imported_is_dumped_again() {
    let Some(dir) = fk_testkit::conformance("rules/promtool/testdata") else { return };
    let text = std::fs::read(dir.join("dump-openmetrics-roundtrip-test.prom")).unwrap();
    let folder = TempDir::new("promtool-round-trip");
    openmetrics::import(&vfs(), &text, folder.path(), &Default::default(), &mut Vec::new()).unwrap();
    assert_eq!(lines(&dump_openmetrics(folder.path())), lines(&text));
}

/// The files of a directory with their contents.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(name, std::fs::read(&path).unwrap())),
        }
    }
    found
}

#[test]
fn an_open_directory_is_dumped_and_left_as_it_is() {
    let folder = TempDir::new("promtool-open");
    let db = Db::open(DbOptions::new(folder.path()), &|_| {}).unwrap();
    let series = db.resolve(&Labels::from_pairs([("__name__", "up"), ("job", "a\"b")])).unwrap();
    let mut batch = Batch::default();
    batch.push(series, 1000, 1.0);
    batch.push(series, 2500, 1e9);
    db.append(&batch, &mut Default::default()).unwrap();
    let before = contents(folder.path());
    let text = String::from_utf8(dump_openmetrics(folder.path())).unwrap();
    assert_eq!(text, "up{job=\"a\\\"b\"} 1 1.000\nup{job=\"a\\\"b\"} 1e+09 2.500\n# EOF\n");
    assert_eq!(contents(folder.path()), before);
    db.close().unwrap();
}

#[test]
fn lists_are_those_of_the_installed_promtool() {
    let run = |args: &[&str]| {
        let output = std::process::Command::new("promtool").args(args).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    if run(&["--version"]).is_none() {
        println!("SKIPPED: promtool is not installed");
        return;
    }
    let folder = TempDir::new("promtool-compare");
    let mut text = String::new();
    for i in 0..3000 {
        text.push_str(&format!(
            "requests_total{{code=\"{}\",path=\"/{}\"}} {i} {}\n",
            i % 5,
            i % 50,
            1_700_000_000 + i * 7
        ));
    }
    text.push_str("# EOF\n");
    let dir = folder.path().to_str().unwrap();
    openmetrics::import(&vfs(), text.as_bytes(), folder.path(), &Default::default(), &mut Vec::new()).unwrap();
    for (args, human) in [(&["tsdb", "list", dir][..], false), (&["tsdb", "list", "-r", dir], true)] {
        let mut out = Vec::new();
        list::list(&vfs(), folder.path(), human, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), run(args).unwrap(), "{args:?}");
    }
    let mut out = Vec::new();
    let blocks = open_blocks(&vfs(), folder.path(), &mut |_, error| panic!("{error}")).unwrap();
    // Which block is the last one has changed between versions.
    let block = blocks.last().unwrap().ulid().to_string();
    let options =
        fk_promtool::analyze::Options { limit: 1000, extended: true, block: Some(block.clone()), ..Default::default() };
    fk_promtool::analyze::analyze(&vfs(), folder.path(), &options, &mut out).unwrap();
    // Older versions say less of chunks, and leave the order of equal counts open.
    let theirs = lines(run(&["tsdb", "analyze", "--limit=1000", "--extended", dir, &block]).unwrap().as_bytes());
    let ours = lines(&out);
    for line in ours.iter().filter(|line| !line.contains("chunk") && !line.starts_with('[')) {
        let line = &line.replace("Total Series", "Series");
        let known = theirs.iter().any(|other| other.replace("Total Series", "Series") == *line);
        assert!(known, "{line:?} is not in {theirs:#?}");
    }
    // Older versions want a log, be it empty.
    std::fs::create_dir(folder.path().join("wal")).unwrap();
    let theirs = lines(run(&["tsdb", "dump", dir]).unwrap().as_bytes());
    let all = vec!["{__name__=~'(?s:.*)'}".to_owned()];
    let mut out = Vec::new();
    dump::dump(
        vfs(),
        folder.path(),
        &dump::Options { range: ALL, selectors: all, format: dump::Format::Prom },
        &mut out,
    )
    .unwrap();
    let ours = lines(&out);
    assert_eq!(ours.len(), theirs.len());
    assert!(ours == theirs, "{:?}", ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs));
}

#[test]
fn imports_have_the_chunks_of_the_installed_promtool() {
    let folder = TempDir::new("promtool-chunks");
    let (file, theirs, ours) = (folder.path().join("in.om"), folder.path().join("theirs"), folder.path().join("ours"));
    let mut text = String::new();
    for (series, interval) in [(0, 15), (1, 1), (2, 61)] {
        // Begins in the middle of a block, with values that need different numbers of bits.
        for i in 0..(9000 / interval) {
            let v = [i as f64, (i as f64).sqrt(), 1.0][series];
            text.push_str(&format!("a{{s=\"{series}\"}} {v} {}\n", 1_700_003_456 + i * interval));
        }
    }
    text.push_str("# EOF\n");
    std::fs::write(&file, &text).unwrap();
    let run = std::process::Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&file, &theirs])
        .output();
    let Ok(run) = run else {
        println!("SKIPPED: promtool is not installed");
        return;
    };
    assert!(run.status.success(), "{run:?}");
    openmetrics::import(&vfs(), text.as_bytes(), &ours, &Default::default(), &mut Vec::new()).unwrap();
    let stats = |dir: &Path| {
        let blocks = open_blocks(&vfs(), dir, &mut |_, error| panic!("{error}")).unwrap();
        let stats = blocks.iter().map(|block| block.meta().stats.clone());
        stats.map(|stats| (stats.num_samples, stats.num_series, stats.num_chunks)).collect::<Vec<_>>()
    };
    assert_eq!(stats(&ours), stats(&theirs));
}

#[test]
fn a_damaged_block_is_an_error_after_the_rest_has_been_dumped() {
    let folder = TempDir::new("promtool-damaged");
    let text = b"a 1 1700000000\na 2 1700010000\n# EOF\n";
    openmetrics::import(&vfs(), text, folder.path(), &Default::default(), &mut Vec::new()).unwrap();
    let blocks = open_blocks(&vfs(), folder.path(), &mut |_, error| panic!("{error}")).unwrap();
    let index = blocks[0].dir().join("index");
    std::fs::write(&index, b"short").unwrap();
    let options = dump::Options { range: ALL, selectors: vec!["a".to_owned()], format: dump::Format::Prom };
    let mut out = Vec::new();
    let error = dump::dump(vfs(), folder.path(), &options, &mut out).unwrap_err().to_string();
    assert_eq!(lines(&out), ["{__name__=\"a\"} 2 1700010000000"]);
    assert!(error.contains(&blocks[0].ulid().to_string()) && error.contains("is left out"), "{error}");
    let error = list::list(&vfs(), folder.path(), false, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("index"), "{error}");
    let error = list::list(&vfs(), Path::new("/nonexistent"), false, &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "opening the db dir: stat /nonexistent: no such file or directory");
}
