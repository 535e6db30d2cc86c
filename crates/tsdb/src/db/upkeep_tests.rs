//! Whole cycles of maintenance: the head becomes blocks, blocks become longer ones, the log is cut, old data goes. Whatever
//! happens on the way, queries answer what was appended.

use std::collections::BTreeMap;

use fk_block::meta::META_FILE;
use fk_storage::Samples;
use fk_vfs::sim::{Fault, SimVfs};
use fk_wal::WalOptions;

use super::*;
use crate::maintain::Maintained;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
/// A multiple of 18 hours, so that ranges begin with it.
const T0: i64 = 1_699_920_000_000 / (18 * HOUR) * 18 * HOUR;
const ALL: TimeRange = TimeRange { mint: i64::MIN, maxt: i64::MAX };

/// What was appended: series, time, bits.
type Contents = BTreeMap<String, Vec<(i64, u64)>>;

/// A data directory that is filled and maintained, with what must be in it.
struct World {
    vfs: SimVfs,
    db: Db,
    steady_ms: i64,
    wall_ms: i64,
    expected: Contents,
}

fn options(vfs: &SimVfs) -> DbOptions {
    DbOptions {
        vfs: Arc::new(vfs.clone()),
        wal: WalOptions { segment_bytes: 4 << 10, ..WalOptions::default() },
        compaction_bytes_per_s: 0,
        now: Some(Now { wall_ms: T0, steady_ms: 0 }),
        ..DbOptions::new("/data")
    }
}

fn series(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("i", &*i.to_string()), ("job", ["a", "b"][i % 2])])
}

fn read(db: &Db) -> Contents {
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    let set = db.select(&params, &[], &Control::new()).expect("select");
    let (mut contents, mut samples) = (Contents::new(), Samples::default());
    for idx in 0..set.len() {
        set.read(idx, ALL, &mut samples).expect("read");
        let columns = samples.t.iter().copied().zip(samples.v.iter().map(|v| v.to_bits()));
        if !samples.is_empty() {
            contents.insert(set.labels(idx).to_string(), columns.collect());
        }
    }
    contents
}

impl World {
    fn new(options: DbOptions, vfs: &SimVfs) -> World {
        let db = Db::open(options, &|_| {}).expect("open");
        World { vfs: vfs.clone(), db, steady_ms: 0, wall_ms: T0, expected: Contents::new() }
    }

    fn on(vfs: &SimVfs) -> World {
        World::new(options(vfs), vfs)
    }

    fn append(&mut self, samples: &[(usize, i64)]) {
        let mut batch = Batch::default();
        for (i, t) in samples {
            batch.push(self.db.resolve(&series(*i)).expect("resolve"), *t, (t / MINUTE) as f64 + *i as f64);
        }
        let mut report = AppendReport::default();
        self.db.append(&batch, &mut report).expect("append");
        assert_eq!(report.rejected, []);
        for (i, t) in samples {
            let column = self.expected.entry(series(*i).to_string()).or_default();
            let at = column.partition_point(|(known, _)| known < t);
            column.insert(at, (*t, ((t / MINUTE) as f64 + *i as f64).to_bits()));
        }
    }

    /// Appends for hours `from..to` after T0, every `step` minutes.
    fn fill(&mut self, n_series: usize, from: i64, to: i64, step: i64) {
        let mut t = T0 + from * HOUR;
        while t < T0 + to * HOUR {
            self.append(&(0..n_series).map(|i| (i, t)).collect::<Vec<_>>());
            t += step * MINUTE;
        }
        let passed = (T0 + to * HOUR - self.wall_ms).max(0);
        self.wait(passed);
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms, steady_ms: self.steady_ms }
    }

    fn wait(&mut self, ms: i64) {
        self.steady_ms += ms;
        self.wall_ms += ms;
    }

    /// Maintains until there is nothing more to do, and what waits for its time has had it.
    fn settle(&mut self) -> Result<Maintained, StorageError> {
        let mut all = Maintained::default();
        let mut quiet = 0;
        for _ in 0..100 {
            self.steady_ms += 2000;
            let done = self.db.maintain(Now { wall_ms: self.wall_ms, steady_ms: self.steady_ms }, &Control::new())?;
            all.head_blocks += done.head_blocks;
            all.compactions += done.compactions;
            all.removed += done.removed;
            all.checkpoints += done.checkpoints;
            quiet = if done.more { 0 } else { quiet + 1 };
            if quiet == 3 {
                return Ok(all);
            }
        }
        panic!("maintenance does not come to an end");
    }

    /// The blocks as `from-to` in hours after T0, and levels.
    fn blocks(&self) -> Vec<String> {
        let hours = |t: i64| (t - T0) as f64 / HOUR as f64;
        let text = |meta: &Arc<fk_block::BlockMeta>| {
            format!("{}-{} level {}", hours(meta.min_time), hours(meta.max_time), meta.compaction.level)
        };
        self.db.blocks().iter().map(text).collect()
    }

    fn check(&self) {
        assert_same(&read(&self.db), &self.expected);
    }

    /// Ends the process and starts another one.
    fn restart(self) -> World {
        self.vfs.kill();
        drop(self.db);
        let options = DbOptions { now: Some(Now { wall_ms: self.wall_ms, steady_ms: 0 }), ..options(&self.vfs) };
        World { db: Db::open(options, &|_| {}).expect("open"), steady_ms: 0, ..self }
    }

    fn names(&self) -> Vec<String> {
        let entries = self.vfs.read_dir(Path::new("/data")).expect("list");
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

fn assert_same(found: &Contents, expected: &Contents) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (labels, column) in expected {
        assert_eq!(found[labels].len(), column.len(), "{labels}");
        assert_eq!(&found[labels], column, "{labels}");
    }
}

#[test]
fn ten_hours_become_blocks_and_answers_stay_the_same() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(10, 0, 10, 1);
    let done = world.settle().expect("maintain");
    // Head blocks of 0-2 to 6-8; the first three become one.
    assert_eq!((done.head_blocks, done.compactions), (4, 1), "{done:?}");
    assert_eq!(world.blocks(), ["0-6 level 2", "6-8 level 1"]);
    assert_eq!(done.removed, 3, "the parents");
    assert!(done.checkpoints > 0);
    world.check();
    assert_eq!(world.db.head_status().min_time, T0 + 8 * HOUR);
    let ulids = world.names().iter().filter(|name| name.parse::<fk_block::Ulid>().is_ok()).count();
    assert_eq!(ulids, 2, "{:?}", world.names());
    let segments = fk_wal::Listing::read(&vfs, Path::new("/data/wal")).expect("list");
    assert!(segments.segments[0] > 0 && segments.checkpoints.len() == 1, "{segments:?}");
    // Once more after a restart, and going on.
    let mut world = world.restart();
    world.check();
    assert_eq!(world.blocks(), ["0-6 level 2", "6-8 level 1"]);
    assert_eq!(world.db.head_status().min_time, T0 + 8 * HOUR, "what is in blocks is not read into the head again");
    world.fill(10, 10, 22, 1);
    world.settle().expect("maintain");
    assert_eq!(world.blocks(), ["0-18 level 3", "18-20 level 1"]);
    world.check();
    world.restart().check();
}

#[test]
fn segments_that_a_checkpoint_stands_for_go_after_an_interruption() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(10, 0, 10, 1);
    // The clock stands, so that the time of the removal does not come.
    let now = world.now();
    while world.db.maintain(now, &Control::new()).expect("maintain").checkpoints == 0 {}
    let list = || fk_wal::Listing::read(&vfs, Path::new("/data/wal")).expect("list");
    let number = list().checkpoints[0];
    assert!(list().segments[0] <= number);
    let mut world = world.restart();
    world.check();
    world.settle().expect("maintain");
    assert!(list().segments[0] > number && list().checkpoints == [number], "{:?}", list());
    world.restart().check();
}

#[test]
fn equal_ranges_stop_merging() {
    let vfs = SimVfs::new(1);
    let mut world = World::new(DbOptions { max_block_ms: 2 * HOUR, ..options(&vfs) }, &vfs);
    world.fill(2, 0, 10, 5);
    world.settle().expect("maintain");
    assert_eq!(world.blocks().len(), 4);
    world.check();
}

#[test]
fn a_delay_is_waited_for() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(2, 0, 4, 5);
    world.db.upkeep.lock().delay_ms = 60_000;
    assert_eq!(world.settle().expect("maintain").head_blocks, 0);
    world.steady_ms += 60_000;
    assert_eq!(world.settle().expect("maintain").head_blocks, 1);
    world.check();
    let limits = DbOptions { compaction_delay_percent: Some(10), ..options(&vfs) };
    let delays: Vec<i64> = (0..50).map(|_| new_upkeep(&limits).delay_ms).collect();
    assert!(delays.iter().all(|d| (0..12 * MINUTE).contains(d)) && delays.iter().any(|d| *d != delays[0]));
}

#[test]
fn a_long_query_delays_the_head_and_nothing_else() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(4, 0, 4, 5);
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    let set = world.db.select(&params, &[], &Control::new()).expect("select");
    world.steady_ms += 2000;
    let done = world.db.maintain(world.now(), &Control::new()).expect("maintain");
    assert_eq!(done.head_blocks, 1);
    assert_eq!(world.db.head_status().min_time, T0, "the reader may still look there");
    world.check();
    let mut samples = Samples::default();
    for idx in 0..set.len() {
        set.read(idx, ALL, &mut samples).expect("read");
        assert_eq!(samples.len(), 48);
    }
    drop(set);
    world.settle().expect("maintain");
    assert_eq!(world.db.head_status().min_time, T0 + 2 * HOUR);
    world.check();
}

#[test]
fn out_of_order_samples_become_blocks_and_are_merged() {
    let vfs = SimVfs::new(1);
    let mut config = TsdbConfig { out_of_order_window_ms: 6 * HOUR, ..TsdbConfig::default() };
    config.retention.time_ms = 0;
    let with_window = DbOptions { config, ..options(&vfs) };
    let mut world = World::new(with_window.clone(), &vfs);
    world.fill(4, 0, 5, 5);
    world.append(&[(0, T0 + 31 * MINUTE), (1, T0 + 3 * HOUR + MINUTE), (0, T0 + 33 * MINUTE)]);
    world.check();
    let done = world.settle().expect("maintain");
    assert!(done.head_blocks >= 3, "{done:?}");
    assert!(done.compactions > 0, "what overlaps is merged: {:?}", world.blocks());
    world.check();
    assert_eq!(world.db.compact_out_of_order().expect("begin").map(|_| ()), None, "nothing is left in the head");
    vfs.kill();
    let World { db, expected, .. } = world;
    drop(db);
    let again = Db::open(with_window, &|_| {}).expect("open");
    assert_same(&read(&again), &expected);
}

/// What a cycle of appends and maintenance does to a directory that was filled before.
fn cycle(world: &mut World) -> Result<(), StorageError> {
    world.settle()?;
    Ok(())
}

fn filled(seed: u64) -> (SimVfs, World) {
    let vfs = SimVfs::new(seed);
    let config = TsdbConfig { out_of_order_window_ms: 6 * HOUR, ..TsdbConfig::default() };
    let small = DbOptions {
        wal: WalOptions { segment_bytes: 1 << 10, ..WalOptions::default() },
        config,
        max_block_ms: 6 * HOUR,
        ..options(&vfs)
    };
    let mut world = World::new(small, &vfs);
    world.fill(3, 0, 10, 20);
    world.append(&[(0, T0 + 8 * HOUR + MINUTE)]);
    world.db.sync().expect("sync");
    (vfs, world)
}

#[test]
fn a_crash_before_any_operation_of_a_cycle_loses_nothing() {
    let (vfs, mut world) = filled(0);
    let began = vfs.operations();
    cycle(&mut world).expect("no fault");
    let operations = vfs.operations() - began;
    assert_eq!(world.blocks()[0], "0-6 level 2", "{:?}", world.blocks());
    assert!(operations > 200, "{operations}");
    drop(world);
    for n in 0..operations {
        let (vfs, mut world) = filled(n);
        vfs.inject(vfs.operations() + n, u64::MAX, Fault::PowerOff);
        let _ = cycle(&mut world);
        let World { db, expected, wall_ms, .. } = world;
        vfs.crash();
        drop(db);
        let again = DbOptions { now: Some(Now { wall_ms, steady_ms: 0 }), ..options(&vfs) };
        let db = Db::open(again, &|_| {}).unwrap_or_else(|e| panic!("operation {n}: {e}"));
        let found = read(&db);
        assert!(found == expected, "operation {n}: {} of {} series", found.len(), expected.len());
        let mut world = World { vfs, db, steady_ms: 0, wall_ms, expected };
        if n % 8 == 0 {
            world.settle().unwrap_or_else(|e| panic!("operation {n}: {e}"));
            assert!(world.blocks()[0].starts_with("0-6"), "operation {n}: {:?}", world.blocks());
            world.check();
            assert!(world.names().iter().all(|name| !name.contains("tmp")), "{:?}", world.names());
        }
    }
}

#[test]
fn an_error_of_any_operation_of_a_cycle_is_made_good() {
    let (vfs, mut world) = filled(0);
    let began = vfs.operations();
    cycle(&mut world).expect("no fault");
    let operations = vfs.operations() - began;
    drop(world);
    for n in 0..operations {
        let fault = [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::TooManyFiles][n as usize % 4];
        let (vfs, mut world) = filled(n);
        vfs.inject(vfs.operations() + n, 1, fault);
        let first = cycle(&mut world);
        vfs.heal();
        world.check();
        // Pauses after failures end.
        world.steady_ms += 100_000;
        world.settle().unwrap_or_else(|e| panic!("operation {n}, {fault:?}: {e}, after {first:?}"));
        world.check();
        assert!(world.blocks()[0].starts_with("0-6"), "operation {n}, {fault:?}: {:?}", world.blocks());
        let world = world.restart();
        world.check();
        assert!(world.names().iter().all(|name| !name.contains("tmp")), "operation {n}: {:?}", world.names());
        assert_eq!(world.db.quarantined(), [], "operation {n}, {fault:?}");
    }
}

#[test]
fn old_blocks_go_and_one_from_the_future_takes_none_with_it() {
    let vfs = SimVfs::new(1);
    let config =
        TsdbConfig { retention: Retention { time_ms: 6 * HOUR, bytes: 0, percent: 0.0 }, ..TsdbConfig::default() };
    let keep_6h = DbOptions { config, max_block_ms: 2 * HOUR, ..options(&vfs) };
    let mut world = World::new(keep_6h, &vfs);
    world.fill(2, 0, 14, 5);
    world.settle().expect("maintain");
    for _ in 0..4 {
        world.wait(HOUR);
        world.settle().expect("maintain");
    }
    assert_eq!(world.blocks(), ["6-8 level 1", "8-10 level 1", "10-12 level 1"]);
    for column in world.expected.values_mut() {
        column.retain(|(t, _)| *t >= T0 + 6 * HOUR);
    }
    world.check();
    // Move the newest block to the year 2098.
    let newest = world.db.open_blocks().last().expect("blocks").dir().to_owned();
    let json = String::from_utf8(vfs.get(&newest.join(META_FILE)).expect("meta")).expect("UTF-8");
    let future = "01HF4N3G00AAAAAAAAAAAAAAAA";
    let to = Path::new("/data").join(future);
    let meta = fk_block::BlockMeta::parse(json.as_bytes()).expect("meta");
    let json = json
        .replace(&meta.ulid.to_string(), future)
        .replace(&meta.max_time.to_string(), &4_040_000_000_000i64.to_string());
    for entry in ["index", "tombstones", "chunks/000001"] {
        if let Some(bytes) = vfs.get(&newest.join(entry)) {
            vfs.put(&to.join(entry), &bytes);
        }
    }
    vfs.put(&to.join(META_FILE), json.as_bytes());
    world.wait(60_000);
    world.settle().expect("maintain");
    assert_eq!(world.db.blocks().len(), 4);
    let world = world.restart();
    assert_eq!(world.db.blocks().len(), 4);
    assert!(world.db.views.pin().head_mint <= T0 + 12 * HOUR);
    world.check();
}

#[test]
fn a_smaller_retention_makes_room_at_the_start() {
    let vfs = SimVfs::new(1);
    let mut world = World::new(DbOptions { max_block_ms: 2 * HOUR, ..options(&vfs) }, &vfs);
    world.fill(2, 0, 14, 5);
    world.settle().expect("maintain");
    assert_eq!(world.blocks().len(), 6);
    vfs.kill();
    let mut config = TsdbConfig::default();
    config.retention.time_ms = 2 * HOUR;
    let now = Some(Now { wall_ms: T0 + 14 * HOUR, steady_ms: 0 });
    let db = Db::open(DbOptions { config, now, ..options(&vfs) }, &|_| {}).expect("open");
    assert_eq!(db.blocks().len(), 1);
    let dirs = vfs.read_dir(Path::new("/data")).expect("list");
    assert_eq!(dirs.iter().filter(|e| e.name.parse::<fk_block::Ulid>().is_ok()).count(), 1);
}

#[test]
fn a_damaged_block_goes_to_quarantine_and_the_others_serve() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(4, 0, 6, 5);
    world.settle().expect("maintain");
    let block = world.db.open_blocks()[0].clone();
    let index = block.dir().join("index");
    let mut bytes = vfs.get(&index).expect("index");
    let len = bytes.len();
    bytes[len - 5] ^= 0xff;
    vfs.put(&index, &bytes);
    let (_, end) = block.times();
    let mut world = world.restart();
    for column in world.expected.values_mut() {
        column.retain(|(t, _)| *t >= end);
    }
    world.check();
    for _ in 0..2 {
        let [quarantined] = &world.db.quarantined()[..] else { panic!("{:?}", world.db.quarantined()) };
        assert_eq!(quarantined.block, block.ulid().to_string());
        assert_eq!((quarantined.mint_ms, quarantined.maxt_ms), (Some(T0), Some(end)));
        assert!(quarantined.reason.contains("index"), "{}", quarantined.reason);
        assert!(vfs.get(&quarantined.path.join("index")).is_some());
        world = world.restart();
    }
    world.settle().expect("maintain");
    world.check();
}

#[test]
fn a_damaged_chunk_stops_the_compaction_of_its_block_and_no_other() {
    let vfs = SimVfs::new(1);
    let mut world = World::new(DbOptions { max_block_ms: 2 * HOUR, ..options(&vfs) }, &vfs);
    world.fill(4, 0, 16, 5);
    world.settle().expect("maintain");
    assert_eq!(world.blocks().len(), 7);
    let damaged = world.db.open_blocks()[1].clone();
    let path = damaged.dir().join("chunks/000001");
    let mut bytes = vfs.get(&path).expect("chunks");
    bytes[20] ^= 0xff;
    vfs.put(&path, &bytes);
    let mut world = world.restart();
    let mut errors = 0;
    for _ in 0..200 {
        world.steady_ms += 5000;
        match world.db.maintain(world.now(), &Control::new()) {
            Ok(done) if !done.more => break,
            Ok(_) => {}
            Err(e) => {
                assert!(matches!(e, StorageError::Corrupt { .. }), "{e}");
                errors += 1;
            }
        }
    }
    assert!(errors >= 1, "the damage shows");
    assert_eq!(world.db.quarantined(), [], "what can be read of it is served");
    let failed: Vec<_> = world.db.blocks().iter().filter(|meta| meta.compaction.failed).map(|m| m.ulid).collect();
    assert_eq!(failed, [damaged.ulid()]);
    assert!(world.blocks().iter().any(|b| b == "6-12 level 2"), "{:?}", world.blocks());
}

#[test]
fn deletions_hide_at_once_and_cleaning_gives_space_back() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(4, 0, 6, 5);
    world.settle().expect("maintain");
    let range = TimeRange { mint: T0 + HOUR, maxt: T0 + 5 * HOUR };
    let job_a = vec![Matcher::new(fk_model::MatchKind::Equal, "job", "a").expect("matcher")];
    let control = Control::new();
    let dry = world.db.delete(range, std::slice::from_ref(&job_a), true, &control).expect("dry run");
    assert_eq!((dry.samples, dry.blocks), (2 * 49, 2), "{dry:?}");
    world.check();
    let real = world.db.delete(range, &[job_a], false, &control).expect("delete");
    assert_eq!((real.series, real.blocks), (dry.series, 2));
    for (labels, column) in &mut world.expected {
        if labels.contains("job=\"a\"") {
            column.retain(|(t, _)| *t < range.mint || *t > range.maxt);
        }
    }
    world.check();
    let before = world.db.blocks_size_bytes();
    let mut world = world.restart();
    world.check();
    assert_eq!(world.db.clean_tombstones(world.now(), &control).expect("clean"), 2);
    assert_eq!(world.db.clean_tombstones(world.now(), &control).expect("clean"), 0);
    world.check();
    assert!(world.db.blocks_size_bytes() < before);
    world.settle().expect("maintain");
    world.restart().check();
}

#[test]
fn a_snapshot_is_a_data_directory() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(4, 0, 6, 5);
    world.settle().expect("maintain");
    let control = Control::new();
    let snapshot = |dir: &str, with_head| world.db.snapshot(Path::new(dir), with_head, world.now(), &control);
    assert!(snapshot("/data", true).is_err());
    assert!(snapshot("/data/01HF4N3G00AAAAAAAAAAAAAAAA", true).is_err());
    snapshot("/data/snapshots/with", true).expect("snapshot");
    snapshot("/data/snapshots/without", false).expect("snapshot");
    let open = |dir: &str| {
        Db::open(DbOptions { path: dir.into(), now: Some(world.now()), ..options(&vfs) }, &|_| {}).expect("open")
    };
    assert_same(&read(&open("/data/snapshots/with")), &world.expected);
    let mut blocks_only = world.expected.clone();
    blocks_only.values_mut().for_each(|column| column.retain(|(t, _)| *t < T0 + 4 * HOUR));
    assert_same(&read(&open("/data/snapshots/without")), &blocks_only);
    world.check();
}

#[test]
fn work_can_be_cancelled_and_is_done_later() {
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(4, 0, 6, 5);
    let control = Control::new();
    control.cancel();
    assert!(matches!(world.db.maintain(world.now(), &control), Err(StorageError::Stopped(_))));
    assert_eq!(world.db.blocks().len(), 0);
    world.settle().expect("maintain");
    assert_eq!(world.db.blocks().len(), 2);
    world.check();
}

#[test]
fn without_room_nothing_is_merged() {
    let vfs = SimVfs::new(1);
    let mut world = World::new(DbOptions { max_block_ms: 2 * HOUR, ..options(&vfs) }, &vfs);
    world.fill(4, 0, 10, 5);
    world.settle().expect("maintain");
    let mut world = world.restart();
    vfs.set_capacity(Some(1 << 40));
    let used = (1 << 40) - vfs.free_bytes(Path::new("/data")).expect("free");
    vfs.set_capacity(Some(used + world.db.blocks_size_bytes() / 2));
    let settled = world.settle();
    assert!(settled.as_ref().is_ok_and(|done| done.compactions == 0), "{settled:?}");
    assert!(world.db.upkeep.lock().short_of_space);
    world.check();
    vfs.set_capacity(None);
    assert!(world.settle().expect("maintain").compactions > 0);
    world.check();
}

#[test]
fn blocks_are_read_through_once_a_week_and_damage_is_told() {
    const DAY: i64 = 24 * HOUR;
    let vfs = SimVfs::new(1);
    let mut world = World::on(&vfs);
    world.fill(4, 0, 6, 5);
    world.settle().expect("maintain");
    let read = |world: &World| world.db.scrub_metrics.blocks.load(Ordering::Relaxed);
    assert_eq!((world.db.blocks().len(), read(&world)), (2, 0), "new blocks were just written");
    let segment = world.db.open_blocks().last().expect("a block").dir().join("chunks/000001");
    let mut bytes = vfs.get(&segment).expect("chunks");
    bytes[20] ^= 1;
    vfs.put(&segment, &bytes);
    world.wait(7 * DAY);
    world.settle().expect("maintain");
    assert_eq!(read(&world), 2);
    let damaged = |world: &World| {
        let scrubbed = world.db.scrubbed();
        let damaged: Vec<_> = scrubbed.iter().filter(|(_, found)| !found.damage.is_empty()).collect();
        assert!(
            damaged.iter().all(|(block, found)| segment.to_string_lossy().contains(block) && found.damage.len() == 1)
        );
        (scrubbed.len(), damaged.len())
    };
    assert_eq!(damaged(&world), (2, 1));
    let mut world = world.restart();
    world.settle().expect("maintain");
    assert_eq!((damaged(&world), read(&world)), ((2, 1), 0), "it is known and not read again");
    world.wait(7 * DAY);
    world.settle().expect("maintain");
    assert_eq!((damaged(&world), read(&world)), ((2, 1), 2));
    // Without the note all is as at the beginning.
    vfs.put(Path::new("/data/firekeeper_scrub.json"), b"{");
    let mut world = world.restart();
    assert_eq!(damaged(&world), (0, 0));
    world.settle().expect("maintain");
    assert_eq!((damaged(&world), read(&world)), ((2, 1), 2));
}
