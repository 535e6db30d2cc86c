//! `tsdb bench write`: how fast samples are taken.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fk_model::Labels;
use fk_storage::{AppendReport, Appender, Batch, SeriesRef, StorageError};
use fk_tsdb::{Db, DbOptions};

use crate::{Progress, Result, ToolError};

/// Between two scrapes, ms.
const SCRAPE_MS: i64 = 30_000;

/// Scrapes that a batch of series takes before the next batch has its turn.
const SCRAPES_PER_TURN: usize = 100;

/// Series that are written together.
const SERIES_PER_BATCH: usize = 1000;

/// Reads series and writes `scrapes` samples of each into a new storage below `dir`, which is removed first.
pub fn write(dir: &Path, samples_file: &Path, series: usize, scrapes: usize, out: &mut dyn Write) -> Result<()> {
    let failed = |path: &Path, reason| ToolError::File { path: path.to_owned(), reason };
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(dir, error)),
        _ => {}
    }
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    let db = Db::open(DbOptions::new(dir.join("storage")), &|_| {})?;
    let (labels, _) = stage("readData", out, |_| {
        let file = std::fs::File::open(samples_file).map_err(|error| failed(samples_file, error))?;
        read_series(std::io::BufReader::new(file), series)
    })?;
    let (total, took) = stage("ingestScrapes", out, |out| {
        let total = ingest(&db, &labels, scrapes)?;
        writeln!(out, "ingestion completed")?;
        Ok(total)
    })?;
    writeln!(out, " > total samples: {total}")?;
    writeln!(out, " > samples/sec: {}", total as f64 / took.as_secs_f64())?;
    stage("stopStorage", out, |_| Ok(db.close()?))?;
    Ok(())
}

fn stage<T>(name: &str, out: &mut dyn Write, work: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<(T, Duration)> {
    writeln!(out, ">> start stage={name}")?;
    let began = Instant::now();
    let result = work(out)?;
    let took = began.elapsed();
    writeln!(out, ">> completed stage={name} duration={took:?}")?;
    Ok((result, took))
}

/// Reads up to `max` different series, one a line: `{"name":"value",...}`, values without commas, colons and quotes.
fn read_series(input: impl BufRead, max: usize) -> Result<Vec<Labels>> {
    let (mut series, mut seen) = (Vec::new(), HashSet::new());
    for line in input.lines() {
        let line = line?;
        if series.len() == max || line.trim().is_empty() {
            continue;
        }
        let text: String = line.chars().filter(|c| !matches!(c, '"' | '{' | '}')).collect();
        let pairs: Option<Vec<(&str, &str)>> = text.split(',').map(|pair| pair.split_once(':')).collect();
        let Some(pairs) = pairs else { return Err(ToolError::Other(format!("no series: {line}"))) };
        let labels = Labels::from_pairs(pairs);
        if seen.insert(labels.clone()) {
            series.push(labels);
        }
    }
    Ok(series)
}

/// Writes the samples, several batches of series at the same time. Returns how many.
fn ingest(db: &Db, labels: &[Labels], scrapes: usize) -> Result<u64> {
    let mut batches: Vec<Shard> = labels.chunks(SERIES_PER_BATCH).map(Shard::new).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut progress = Progress::new("writing");
    let mut total = 0;
    for turn in (0..scrapes).step_by(SCRAPES_PER_TURN) {
        progress.at(turn as u64, scrapes as u64);
        let n = SCRAPES_PER_TURN.min(scrapes - turn);
        let waiting = Mutex::new(batches.iter_mut());
        let written: Vec<std::result::Result<u64, StorageError>> = std::thread::scope(|scope| {
            let work = || {
                let mut sum = 0;
                loop {
                    let next = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    match next {
                        Some(batch) => sum += batch.ingest(db, n)?,
                        None => return Ok(sum),
                    }
                }
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let lost = || StorageError::ReadOnly("a thread panicked".to_owned());
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err(lost()))).collect()
        });
        for sum in written {
            total += sum?;
        }
    }
    Ok(total)
}

/// Series that are written together.
struct Shard<'l> {
    labels: &'l [Labels],
    refs: Vec<SeriesRef>,
    t: i64,
    value: f64,
}

impl<'l> Shard<'l> {
    fn new(labels: &'l [Labels]) -> Shard<'l> {
        Shard { labels, refs: Vec::new(), t: 0, value: 123_456_789.0 }
    }

    fn ingest(&mut self, db: &Db, scrapes: usize) -> std::result::Result<u64, StorageError> {
        if self.refs.is_empty() {
            self.refs = self.labels.iter().map(|labels| db.resolve(labels)).collect::<std::result::Result<_, _>>()?;
        }
        let (mut batch, mut report, mut total) = (Batch::default(), AppendReport::default(), 0);
        for _ in 0..scrapes {
            self.t += SCRAPE_MS;
            self.value += 1000.0;
            batch.clear();
            report.clear();
            for series in &self.refs {
                batch.push(*series, self.t, self.value);
            }
            db.append(&batch, &mut report)?;
            total += report.accepted as u64;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_writes_all_samples() {
        let folder = fk_testkit::TempDir::new("promtool-bench");
        let file = folder.path().join("series.json");
        std::fs::write(
            &file,
            "{\"__name__\":\"a\",\"x\":\"1\"}\n{\"x\":\"2\",\"__name__\":\"a\"}\n{\"__name__\":\"a\",\"x\":\"1\"}\n",
        )
        .unwrap();
        let (dir, mut out) = (folder.path().join("out"), Vec::new());
        write(&dir, &file, 10, 250, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(" > total samples: 500\n"), "{text}");
        assert!(
            text.contains(">> start stage=readData\n") && text.contains(">> completed stage=stopStorage"),
            "{text}"
        );
        let missing = write(&dir, Path::new("/nonexistent"), 1, 1, &mut Vec::new());
        assert!(matches!(missing, Err(ToolError::File { .. })));
    }
}
