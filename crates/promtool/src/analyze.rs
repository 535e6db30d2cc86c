//! `tsdb analyze`: churn, cardinality and compaction efficiency of a block.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fk_block::index::{Index, SeriesEntry};
use fk_block::{Block, BlockStream, SeriesChunks, SeriesStream};
use fk_chunk::{SampleValue, decode_exact};
use fk_model::{Labels, METRIC_NAME, Matcher};
use fk_promql_syntax::parse_selector;
use fk_storage::HistogramValue;
use fk_tsdb::readonly::open_blocks;
use fk_vfs::Vfs;

use crate::gofmt::duration_ms;
use crate::{Progress, Result, ToolError, must_exist};

/// What is analysed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The block; the last one if `None`.
    pub block: Option<String>,
    /// Rows of each list.
    pub limit: usize,
    /// Looks at the chunks, too.
    pub extended: bool,
    /// Only series that this selects; all if empty.
    pub selector: String,
}

/// Counts by key; printed the largest first.
type Counts = HashMap<String, u64>;

/// What one pass over the series finds.
#[derive(Default)]
struct Found {
    series: u64,
    entries: u64,
    pairs_uncovered: Counts,
    names_uncovered: Counts,
    pairs: Counts,
    metrics: Counts,
    /// Values of each name, with a selector only; without one the index knows them.
    values: HashMap<String, HashMap<String, ()>>,
}

/// Analyses a block of the data directory `dir`.
pub fn analyze(vfs: &Arc<dyn Vfs>, dir: &Path, options: &Options, out: &mut dyn Write) -> Result<()> {
    let matchers = match options.selector.as_str() {
        "" => Vec::new(),
        text => parse_selector(text).map_err(|error| ToolError::Other(error.to_string()))?,
    };
    let block = choose(vfs, dir, options.block.as_deref())?;
    let (meta, index) = (block.meta(), Index::open(&**vfs, block.dir())?);
    let range_ms = meta.max_time.wrapping_sub(meta.min_time);
    writeln!(out, "Block ID: {}", meta.ulid)?;
    writeln!(out, "Duration: {}", duration_ms(range_ms))?;
    writeln!(out, "Total Series: {}", meta.stats.num_series)?;
    let found = survey(&index, range_ms as u64, &matchers)?;
    if matchers.is_empty() {
        writeln!(out, "Label names: {}", index.names().count())?;
    } else {
        writeln!(out, "Matcher: {}", options.selector)?;
        writeln!(out, "Label names: {}", found.values.len())?;
        writeln!(out, "Matched series: {}", found.series)?;
    }
    writeln!(out, "Postings (unique label pairs): {}", found.pairs_uncovered.len())?;
    writeln!(out, "Postings entries (total label pairs): {}", found.entries)?;

    let share = |counts: Counts| {
        let shares = counts.into_iter().map(|(key, uncovered)| (key, (uncovered as f64 / range_ms as f64) as u64));
        shares.collect::<Counts>()
    };
    let limit = options.limit;
    print(out, "Label pairs most involved in churning", share(found.pairs_uncovered), limit)?;
    print(out, "Label names most involved in churning", share(found.names_uncovered), limit)?;
    print(out, "Most common label pairs", found.pairs, limit)?;
    let (mut lengths, mut cardinality) = (Counts::new(), Counts::new());
    if matchers.is_empty() {
        for name in index.names() {
            let mut bytes = 0;
            for value in index.values(name) {
                bytes += value?.value.len() as u64;
            }
            lengths.insert(name.to_owned(), bytes);
            cardinality.insert(name.to_owned(), index.n_values(name) as u64);
        }
    } else {
        for (name, values) in found.values {
            lengths.insert(name.clone(), values.keys().map(|value| value.len() as u64).sum());
            cardinality.insert(name, values.len() as u64);
        }
    }
    print(out, "Label names with highest cumulative label value length", lengths, limit)?;
    print(out, "Highest cardinality labels", cardinality, limit)?;
    print(out, "Highest cardinality metric names", found.metrics, limit)?;
    if options.extended { chunks(&block, &matchers, out) } else { Ok(()) }
}

fn choose(vfs: &Arc<dyn Vfs>, dir: &Path, wanted: Option<&str>) -> Result<Block> {
    must_exist(&**vfs, dir)?;
    let mut broken = None;
    let mut blocks = open_blocks(vfs, dir, &mut |_, error| broken = Some(error.clone()))?;
    let found = match wanted {
        // By name, as in Prometheus: the one that was made last.
        None => blocks.into_iter().max_by_key(Block::ulid),
        Some(name) => blocks.iter().position(|block| block.ulid().to_string() == name).map(|at| blocks.swap_remove(at)),
    };
    found.ok_or_else(|| match (broken, wanted) {
        (Some(error), _) => ToolError::Storage(error),
        // Texts as in Prometheus:
        (None, None) => ToolError::Other("no blocks found".to_owned()),
        (None, Some(name)) => ToolError::Other(format!("block {name} not found")),
    })
}

fn matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.value(&matcher.name)))
}

/// One pass over the series.
fn survey(index: &Index, range_ms: u64, matchers: &[Matcher]) -> Result<Found> {
    let (mut found, mut entry) = (Found::default(), SeriesEntry::default());
    let all = index.all_series()?;
    let mut progress = Progress::new("analysing series");
    for (done, series) in all.iter().enumerate() {
        progress.at(done as u64, all.len() as u64);
        index.series(series, &mut entry)?;
        let labels = index.labels(&entry)?;
        if !matches(&labels, matchers) {
            continue;
        }
        found.series += 1;
        // How much of the block's time the series does not cover.
        let covered = match (entry.chunks.first(), entry.chunks.last()) {
            (Some(first), Some(last)) => last.maxt.wrapping_sub(first.mint) as u64,
            _ => 0,
        };
        let uncovered = range_ms.wrapping_sub(covered);
        for (name, value) in labels.iter() {
            let pair = format!("{name}={value}");
            add(&mut found.names_uncovered, name, uncovered);
            *found.pairs.entry(pair.clone()).or_default() += 1;
            let sum = found.pairs_uncovered.entry(pair).or_default();
            *sum = sum.wrapping_add(uncovered);
            found.entries += 1;
            if name == METRIC_NAME {
                add(&mut found.metrics, value, 1);
            }
            if !matchers.is_empty() {
                found.values.entry(name.to_owned()).or_default().insert(value.to_owned(), ());
            }
        }
    }
    Ok(found)
}

fn add(counts: &mut Counts, key: &str, n: u64) {
    match counts.get_mut(key) {
        Some(count) => *count = count.wrapping_add(n),
        None => {
            counts.insert(key.to_owned(), n);
        }
    }
}

/// The largest counts, those of the same size by name.
fn print(out: &mut dyn Write, title: &str, counts: Counts, limit: usize) -> Result<()> {
    let mut rows: Vec<(String, u64)> = counts.into_iter().collect();
    rows.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    writeln!(out, "\n{title}:")?;
    for (key, count) in rows.iter().take(limit) {
        writeln!(out, "{count} {key}")?;
    }
    Ok(())
}

/// How well the chunks are filled.
fn chunks(block: &Block, matchers: &[Matcher], out: &mut dyn Write) -> Result<()> {
    let mut stream = BlockStream::new(block)?;
    let mut series = SeriesChunks::default();
    let mut total = 0;
    let [mut float_samples, mut float_bytes] = [const { Vec::new() }; 2];
    let [mut histogram_samples, mut histogram_bytes, mut buckets] = [const { Vec::new() }; 3];
    let (mut progress, mut done) = (Progress::new("analysing chunks"), 0);
    while stream.next(&mut series)? {
        progress.at(done, block.meta().stats.num_series);
        done += 1;
        if !matches(&series.labels, matchers) {
            continue;
        }
        for chunk in &series.chunks {
            let bytes = series.bytes(chunk);
            let samples = chunk.encoding.count(bytes).unwrap_or(0);
            total += 1;
            if chunk.encoding.is_float() {
                float_samples.push(samples);
                float_bytes.push(bytes.len());
                continue;
            }
            histogram_samples.push(samples);
            histogram_bytes.push(bytes.len());
            let mut n = 0;
            let decoded = decode_exact(chunk.encoding, bytes, samples, &mut |sample| {
                n += match &sample.v {
                    SampleValue::Float(_) => 0,
                    SampleValue::Histogram(HistogramValue::Int(h)) => {
                        h.positive_buckets.len() + h.negative_buckets.len()
                    }
                    SampleValue::Histogram(HistogramValue::Float(h)) => {
                        h.positive_buckets.len() + h.negative_buckets.len()
                    }
                };
                true
            });
            decoded.map_err(|error| ToolError::Other(format!("{}: {error}", series.labels)))?;
            buckets.push(n);
        }
    }
    drop(progress);
    writeln!(out, "\nCompaction analysis:\n")?;
    for (what, sizes) in [
        ("samples per float chunk", float_samples),
        ("bytes per float chunk", float_bytes),
        ("samples per histogram chunk", histogram_samples),
        ("bytes per histogram chunk", histogram_bytes),
        ("buckets per histogram chunk", buckets),
    ] {
        bars(what, sizes, total, out)?;
    }
    Ok(())
}

/// A histogram of sizes as rows of `#`.
fn bars(what: &str, mut sizes: Vec<usize>, total: usize, out: &mut dyn Write) -> Result<()> {
    sizes.sort_unstable();
    let (Some(&min), Some(&max)) = (sizes.first(), sizes.last()) else {
        writeln!(out, "{what}: N/A\n")?;
        return Ok(());
    };
    let (start, end, step) = steps(min, max);
    let mut counts = vec![0usize; (end - start) / step + 1];
    for size in &sizes {
        counts[(size - start) / step] += 1;
    }
    let digits = |n: usize| n.to_string().len();
    let (left, right) = (digits(end), digits(end + step));
    let wide = digits(counts.iter().copied().max().unwrap_or(0));
    let average = sizes.iter().sum::<usize>() / sizes.len();
    writeln!(out, "{what} (min/avg/max): {min}/{average}/{max}")?;
    for (at, count) in counts.into_iter().enumerate() {
        let (from, to) = (at * step + start + 1, (at + 1) * step + start);
        let bar = "#".repeat(100 * count / total.max(1));
        writeln!(out, "[{from:left$}, {to:right$}]: {count:wide$} {bar}")?;
    }
    writeln!(out)?;
    Ok(())
}

/// First and last limit and the width of the rows: a power of ten that gives about ten rows.
fn steps(min: usize, max: usize) -> (usize, usize, usize) {
    let wanted = (max - min) / 10;
    let mut step = 10;
    while step < wanted && step <= 10_000 {
        step *= 10;
    }
    (min - min % step, max - max % step + step, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_drawn_as_bars() {
        let mut out = Vec::new();
        bars("samples per float chunk", vec![120, 115, 118, 25], 4, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "samples per float chunk (min/avg/max): 25/94/120");
        assert_eq!(lines[1], format!("[ 21,  30]: 1 {}", "#".repeat(25)));
        assert_eq!(lines[10], format!("[111, 120]: 2 {}", "#".repeat(50)));
        assert_eq!(lines[11], format!("[121, 130]: 1 {}", "#".repeat(25)));
        let mut out = Vec::new();
        bars("x", vec![], 0, &mut out).unwrap();
        assert_eq!(out, b"x: N/A\n\n");
    }
}
