//! Power cuts under the real program: while a server works, the disk below it is copied in one moment, and servers are started
//! from the copies. What was pushed and acknowledged is there, what was scraped is there but for about the last second, and
//! nothing is changed or made up.
//!
//! The disk is an ext4 file system in a file, which lies on an XFS file system in another file: XFS copies a file in one moment by
//! sharing its blocks. What ext4 has not given to its disk by then is lost, as with the power. Needs root and the tools of both
//! file systems. `FIREKEEPER_POWER_CUTS` says how often the power is cut; without it a few times.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{FakeTarget, Home, Server, http, remote_write, wait_until};

/// Cuts unless the environment says otherwise.
const CUTS: usize = 4;

/// Scraped samples are put on the disk every second. The rest is for a machine that does other things as well.
const LOST_MS_MAX: i64 = 3000;

const OUTER_BYTES: u64 = 1 << 30;
const DISK_BYTES: u64 = 384 << 20;

const WRITERS: usize = 3;

/// Between two cuts: scrapes, and pushes of each writer.
const SCRAPES: usize = 12;
const PUSHES: usize = 10;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_millis() as i64
}

/// Runs a tool; what it says if that fails.
fn run(tool: &str, args: &[&Path]) -> Result<(), String> {
    let output = Command::new(tool).args(args).output().map_err(|error| format!("{tool}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// File systems in files; unmounted when dropped.
struct Rig {
    outer: PathBuf,
    /// The mount point of the disk: the data directory.
    data: PathBuf,
}

impl Rig {
    fn new(home: &Home) -> Result<Rig, String> {
        let (outer, data, image) = (home.path("outer"), home.path("data"), home.path("outer.img"));
        for dir in [&outer, &data] {
            std::fs::create_dir(dir).map_err(|error| error.to_string())?;
        }
        let make = |path: &Path, bytes| {
            let file = std::fs::File::create(path).and_then(|file| file.set_len(bytes));
            file.map_err(|error| error.to_string())
        };
        make(&image, OUTER_BYTES)?;
        run("mkfs.xfs", &["-q".as_ref(), "-m".as_ref(), "reflink=1".as_ref(), &image])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &outer])?;
        let rig = Rig { outer, data };
        make(&rig.disk(), DISK_BYTES)?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &rig.disk()])?;
        rig.mount(&rig.disk())?;
        Ok(rig)
    }

    fn disk(&self) -> PathBuf {
        self.outer.join("disk.img")
    }

    /// The journal of the file system is not written by itself for longer than any test takes: only what is synced counts.
    fn mount(&self, disk: &Path) -> Result<(), String> {
        run("mount", &["-o".as_ref(), "loop,commit=900".as_ref(), disk, &self.data])
    }

    fn unmount(&self) {
        run("umount", &[&self.data]).expect("nobody is in it any more");
    }

    /// Copies the disk as it is at this moment.
    fn cut(&self, number: usize) -> PathBuf {
        let copy = self.outer.join(format!("cut-{number}.img"));
        run("cp", &["--reflink=always".as_ref(), &self.disk(), &copy]).expect("the file system shares blocks");
        copy
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // What is in use goes when its last user does.
        for mounted in [&self.data, &self.outer] {
            let _ = run("umount", &["-l".as_ref(), mounted]);
        }
    }
}

/// A cut, and what was known right before it.
struct Cut {
    disk: PathBuf,
    before_ms: i64,
    after_ms: i64,
    acknowledged: [usize; WRITERS],
}

#[test]
fn a_power_cut_costs_nothing_that_was_acknowledged() {
    check("power-pushes", WRITERS);
}

/// Without pushes nothing is synced but for the sake of the scrapes.
#[test]
fn a_power_cut_costs_about_a_second_of_scrapes() {
    check("power-scrapes", 0);
}

/// Cuts the power of a server that scrapes while so many writers push.
fn check(name: &str, n_writers: usize) {
    let cuts: usize = std::env::var("FIREKEEPER_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(CUTS);
    let target = FakeTarget::serving("seen 1\n");
    let config = format!(
        "global:\n  scrape_interval: 100ms\nscrape_configs:\n  - job_name: app\n    static_configs:\n      - targets: ['{}']\n",
        target.address()
    );
    let home = Home::new(name, &config);
    let rig = match Rig::new(&home) {
        Ok(rig) => rig,
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            let _ = run("umount", &["-l".as_ref(), &home.path("outer")]);
            return;
        }
    };
    let flags = ["--web.enable-remote-write-receiver"];
    let server = Server::start(&home, &flags);
    let start = now_ms() - 300_000;
    let acknowledged: Arc<[AtomicUsize; WRITERS]> = Arc::default();
    let enough = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..n_writers)
        .map(|writer| {
            let (port, acknowledged, enough) = (server.port, Arc::clone(&acknowledged), Arc::clone(&enough));
            std::thread::spawn(move || {
                for n in 0.. {
                    if enough.load(SeqCst) {
                        break;
                    }
                    let pair = [(start + 20 * n, n as f64), (start + 20 * n + 10, n as f64 + 0.5)];
                    let body = remote_write::body(&[("__name__", "pushed"), ("run", &writer.to_string())], &pair);
                    let answer = http::request(port, "POST", "/api/v1/write", remote_write::HEADERS, &body);
                    assert_eq!(answer.expect("the server answers").status(), 204);
                    acknowledged[writer].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let known = || std::array::from_fn(|writer| acknowledged[writer].load(SeqCst));
    let mut taken: Vec<Cut> = Vec::new();
    for number in 0..cuts {
        let (pushed, scraped): ([usize; WRITERS], usize) = (known(), target.scrapes().len());
        wait_until("pushes and scrapes", || {
            let now: [usize; WRITERS] = known();
            let pushes = now.iter().zip(pushed).take(n_writers).all(|(now, then)| *now >= then + PUSHES);
            pushes && target.scrapes().len() >= scraped + SCRAPES
        });
        let (acknowledged, before_ms) = (known(), now_ms());
        let disk = rig.cut(number);
        taken.push(Cut { disk, before_ms, after_ms: now_ms(), acknowledged });
    }
    enough.store(true, SeqCst);
    for writer in writers {
        writer.join().expect("every push was answered");
    }
    let pushed: [usize; WRITERS] = known();
    let scraped = server.samples("seen[10m]").remove(0);
    server.kill();
    rig.unmount();

    let mut worst_ms = 0;
    for (number, cut) in taken.iter().enumerate() {
        rig.mount(&cut.disk).expect("a journal that is replayed");
        let server = Server::start(&home, &flags);
        for (writer, count) in cut.acknowledged.iter().enumerate().take(n_writers) {
            let stored = server.samples(&format!("pushed{{run='{writer}'}}[1h]")).remove(0);
            let expected: Vec<(i64, String)> =
                (0..stored.len() as i64).map(|n| (start + 10 * n, (n as f64 / 2.0).to_string())).collect();
            assert_eq!(stored, expected, "cut {number}: changed or made up");
            assert!(
                (2 * count..=2 * pushed[writer]).contains(&stored.len()),
                "cut {number}: {} samples of {count} acknowledged requests",
                stored.len()
            );
        }
        let stored = server.samples("seen[10m]").into_iter().next().unwrap_or_default();
        let stored: Vec<_> = stored.into_iter().filter(|(t, _)| *t <= cut.after_ms).collect();
        assert_eq!(stored, scraped[..stored.len()], "cut {number}: not the first ones");
        let lost_ms = scraped.get(stored.len()).map_or(0, |(t, _)| (cut.before_ms - t).max(0));
        assert!(lost_ms <= LOST_MS_MAX, "cut {number}: {lost_ms} ms of scrapes are lost");
        worst_ms = worst_ms.max(lost_ms);
        server.kill();
        rig.unmount();
    }
    println!("{name}: {cuts} power cuts, at most {worst_ms} ms of scrapes lost");
}
