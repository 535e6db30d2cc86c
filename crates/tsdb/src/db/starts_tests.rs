//! Start timestamps through the life of a sample: head, logs, restarts, images, files of chunks, blocks, compactions.

use std::collections::BTreeMap;

use fk_model::{FloatHistogram, Histogram, Span};
use fk_storage::{BatchHistogram, BatchSample, HistogramValue, Samples};
use fk_vfs::sim::SimVfs;
use fk_wal::WalOptions;

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const T0: i64 = 1_699_920_000_000 / (18 * HOUR) * 18 * HOUR;
const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

/// What is read: time, value or sum, start timestamp, of each series.
type Contents = BTreeMap<String, Vec<(i64, u64, i64)>>;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Features {
    st_storage: bool,
    xor2: bool,
    histograms: bool,
}

const ON: Features = Features { st_storage: true, xor2: true, histograms: true };
const OFF: Features = Features { st_storage: false, xor2: false, histograms: false };

fn open(vfs: &SimVfs, features: Features, now_ms: i64) -> Db {
    let mut options = DbOptions {
        vfs: Arc::new(vfs.clone()),
        wal: WalOptions { segment_bytes: 16 << 10, ..WalOptions::default() },
        compaction_bytes_per_s: 0,
        out_of_order_cap: 4,
        now: Some(Now { wall_ms: now_ms, steady_ms: 0 }),
        st_storage: features.st_storage,
        xor2_allowed: features.xor2,
        histogram_st_encoding: features.histograms,
        ..DbOptions::new("/data")
    };
    options.config.out_of_order_window_ms = HOUR;
    options.config.float_encoding = if features.xor2 { Encoding::Xor2 } else { Encoding::Xor };
    Db::open(options, &|_| {}).expect("open")
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

/// A batch of one time: floats whose counter was reset at times, one without start timestamps, one that stays as it is, and
/// histograms of both kinds; a part of them late.
struct Feed {
    random: u64,
    expected: Contents,
    last: BTreeMap<&'static str, i64>,
}

const FLOATS: [&str; 4] = ["counter", "restless", "gauge", "constant"];
const HISTOGRAMS: [&str; 2] = ["ints", "floats"];

impl Feed {
    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % n
    }

    fn expect(&mut self, name: &'static str, t: i64, v: f64, start: i64) {
        let column = self.expected.entry(name.to_owned()).or_default();
        let at = column.partition_point(|s| s.0 < t);
        column.insert(at, (t, v.to_bits(), start));
    }

    fn push(&mut self, db: &Db, t: i64) {
        let mut batch = Batch::default();
        for name in FLOATS {
            let late = self.below(6) == 0 && self.last.contains_key(name);
            let t = if late { t - 30 * MINUTE + 1 + self.below(1000) as i64 } else { t };
            let (v, start) = match name {
                "counter" => ((t / MINUTE) as f64, T0 + (t - T0) / (3 * HOUR) * 3 * HOUR - 7),
                "restless" => (self.below(100) as f64, t - self.below(5000) as i64),
                "gauge" => (self.below(3) as f64, 0),
                _ => (1.0, 0),
            };
            let series = db.resolve(&labels(name)).expect("resolve");
            batch.samples.push(BatchSample { series, t, v });
            batch.starts.push(start);
            self.last.insert(name, t);
            self.expect(name, t, v, start);
        }
        for name in HISTOGRAMS {
            let late = self.below(6) == 0 && self.last.contains_key(name);
            let t = if late { t - 30 * MINUTE + 1 + self.below(1000) as i64 } else { t };
            let start = if self.below(9) == 0 { 0 } else { t - self.below(2) as i64 - 1 };
            let count = (t - T0 + HOUR) as u64;
            let spans = vec![Span { offset: 0, length: 1 }];
            let h = match name {
                "ints" => HistogramValue::Int(Arc::new(Histogram {
                    count,
                    sum: count as f64,
                    positive_spans: spans,
                    positive_buckets: vec![count as i64],
                    ..Histogram::default()
                })),
                _ => HistogramValue::Float(Arc::new(FloatHistogram {
                    count: count as f64,
                    sum: count as f64,
                    positive_spans: spans,
                    positive_buckets: vec![count as f64],
                    ..FloatHistogram::default()
                })),
            };
            let series = db.resolve(&labels(name)).expect("resolve");
            batch.histograms.push(BatchHistogram { series, t, start, h });
            self.last.insert(name, t);
            self.expect(name, t, count as f64, start);
        }
        let mut report = AppendReport::default();
        db.append(&batch, &mut report).expect("append");
        assert_eq!((report.rejected, report.rejected_histograms), (vec![], vec![]));
    }

    /// What is to be found with these features. Where no sample of a series has a start timestamp, there is none at all.
    fn expected(&self, features: Features) -> Contents {
        let mut expected = self.expected.clone();
        for (name, column) in &mut expected {
            let kept = if FLOATS.contains(&&**name) { features.xor2 } else { features.histograms };
            if !kept {
                column.iter_mut().for_each(|s| s.2 = 0);
            }
        }
        expected
    }
}

fn read(db: &Db) -> Contents {
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    let set = db.select(&params, &[], &Control::new()).expect("select");
    let (mut contents, mut samples) = (Contents::new(), Samples::default());
    for idx in 0..set.len() {
        set.read(idx, ALL, &mut samples).expect("read");
        let start = |at: usize| samples.starts.get(at).copied().unwrap_or(0);
        assert!(samples.starts.is_empty() || samples.starts.len() == samples.len());
        let column = (0..samples.len()).map(|at| (samples.t[at], samples.v[at].to_bits(), start(at))).collect();
        contents.insert(set.labels(idx).get("__name__").unwrap_or_default().to_owned(), column);
    }
    contents
}

#[track_caller]
fn check(db: &Db, expected: &Contents, when: &str) {
    let found = read(db);
    for (name, column) in expected {
        for (at, (found, expected)) in found[name].iter().zip(column).enumerate() {
            assert_eq!(found, expected, "{when}: {name}, sample {at}");
        }
        assert_eq!(found[name].len(), column.len(), "{when}: {name}");
    }
}

#[track_caller]
fn live(features: Features) -> SimVfs {
    let vfs = SimVfs::new(7);
    let mut db = open(&vfs, features, T0);
    let mut feed = Feed { random: 11, expected: Contents::new(), last: BTreeMap::new() };
    let (mut t, mut steady_ms) = (T0, 0);
    let killed = |db: Db, t| {
        vfs.kill();
        drop(db);
        open(&vfs, features, t)
    };
    for round in 0..10 {
        for _ in 0..90 {
            t += MINUTE;
            feed.push(&db, t);
        }
        let expected = feed.expected(features);
        check(&db, &expected, "appended");
        if round % 3 == 1 {
            db.spill().expect("spill");
            check(&db, &expected, "in files");
        }
        if round % 2 == 0 {
            db = killed(db, t);
            check(&db, &expected, "replayed");
            db.write_image().expect("image");
            db = killed(db, t);
            check(&db, &expected, "from an image");
        }
        for _ in 0..50 {
            steady_ms += 2000;
            if !db.maintain(Now { wall_ms: t, steady_ms }, &Control::new()).expect("maintain").more
                && steady_ms % 6000 == 0
            {
                break;
            }
        }
        check(&db, &expected, "maintained");
    }
    assert!(db.blocks().iter().any(|meta| meta.compaction.level > 1), "blocks have been compacted");
    assert!(db.blocks().iter().any(|meta| meta.compaction.from_out_of_order()), "late samples have their own");
    check(&killed(db, t), &feed.expected(features), "at the end");
    vfs
}

#[test]
fn start_timestamps_are_kept_from_the_append_to_the_longest_block() {
    live(ON);
}

#[test]
fn without_the_features_none_are_kept() {
    live(OFF);
}

/// What histograms keep and what floats keep is decided apart.
#[test]
fn histograms_may_go_without() {
    live(Features { histograms: false, ..ON });
}

#[test]
fn without_storage_of_start_timestamps_chunks_keep_them_and_the_log_does_not() {
    let vfs = SimVfs::new(7);
    let features = Features { st_storage: false, ..ON };
    let db = open(&vfs, features, T0);
    let mut feed = Feed { random: 3, expected: Contents::new(), last: BTreeMap::new() };
    (1..40).for_each(|minute| feed.push(&db, T0 + minute * MINUTE));
    check(&db, &feed.expected(features), "appended");
    vfs.kill();
    drop(db);
    check(&open(&vfs, features, T0), &feed.expected(OFF), "replayed");
}

#[test]
fn the_encoding_can_change_while_samples_come_in() {
    let vfs = SimVfs::new(7);
    let features = Features { st_storage: false, ..ON };
    let db = open(&vfs, features, T0);
    let mut feed = Feed { random: 5, expected: Contents::new(), last: BTreeMap::new() };
    for hour in 0..4 {
        let xor = hour % 2 == 0;
        let float_encoding = if xor { Encoding::Xor } else { Encoding::Xor2 };
        db.apply(TsdbConfig { float_encoding, ..db.config() }).expect("apply");
        for minute in 1..30 {
            let t = T0 + hour * HOUR + minute * MINUTE;
            let before = feed.expected.clone();
            feed.push(&db, t);
            if xor {
                for (name, column) in &mut feed.expected {
                    let known = &before.get(name).cloned().unwrap_or_default();
                    let floats = FLOATS.contains(&&**name);
                    column.iter_mut().filter(|s| floats && !known.contains(s)).for_each(|s| s.2 = 0);
                }
            }
        }
    }
    check(&db, &feed.expected(features), "appended");
}
