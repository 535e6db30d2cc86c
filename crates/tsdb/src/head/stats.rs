//! Numbers about the head, for the status pages and the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;

use fk_model::METRIC_NAME;

use super::Head;
use super::symbols::SymbolId;

/// Numbers that cost next to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStatus {
    /// Series in the head (`prometheus_tsdb_head_series`).
    pub series: usize,
    /// Chunks in the head, open ones included (`prometheus_tsdb_head_chunks`).
    pub chunks: usize,
    /// Distinct label pairs.
    pub label_pairs: usize,
    /// Distinct strings.
    pub symbols: usize,
    /// Bytes of strings and their tables (`prometheus_tsdb_symbol_table_size_bytes`).
    pub symbol_bytes: usize,
    /// Time of the oldest sample, ms; `i64::MAX` while there is none, as in Prometheus.
    pub min_time: i64,
    /// Time of the newest sample, ms; `i64::MIN` while there is none, as in Prometheus.
    pub max_time: i64,
    /// The number of the last commit.
    pub commits: u64,
    /// Series whose newest sample in order is a native histogram, and the buckets of these histograms.
    pub histogram_series: usize,
    /// See `histogram_series`.
    pub histogram_buckets: usize,
}

/// A name and how many (or how many bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameCount {
    /// Metric name, label name, or `name=value`.
    pub name: String,
    /// Series, values or bytes.
    pub count: u64,
}

/// What `/api/v1/status/tsdb` shows; every list descends by count and is as long as asked for at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// The cheap numbers.
    pub status: HeadStatus,
    /// Metric names with most series.
    pub series_count_by_metric_name: Vec<NameCount>,
    /// Label names with most values.
    pub label_value_count_by_label_name: Vec<NameCount>,
    /// Label names whose values take most bytes over all series.
    pub memory_in_bytes_by_label_name: Vec<NameCount>,
    /// Label pairs with most series.
    pub series_count_by_label_value_pair: Vec<NameCount>,
}

/// Bytes of memory of one part of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// The part.
    pub part: &'static str,
    /// Bytes.
    pub bytes: usize,
}

impl Head {
    /// The cheap numbers.
    pub fn status(&self) -> HeadStatus {
        let mut status = HeadStatus {
            min_time: self.min_time.load(Ordering::Acquire),
            max_time: self.max_time.load(Ordering::Acquire),
            ..HeadStatus::default()
        };
        {
            let symbols = self.symbols.read();
            (status.symbols, status.symbol_bytes) = (symbols.len(), symbols.memory_bytes());
        }
        for shard in &self.shards {
            let data = shard.data.read();
            status.series += data.n_series();
            for open in data.slabs.histograms.iter() {
                status.histogram_series += 1;
                status.histogram_buckets += open.n_buckets();
            }
        }
        status.commits = self.commits.load(Ordering::Acquire);
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed) as usize;
        status.chunks = load(&self.metrics.chunks_created).saturating_sub(load(&self.metrics.chunks_removed));
        status
    }

    /// All numbers; visits every label pair, shard by shard. Lists have at most `limit` entries.
    pub fn stats(&self, limit: usize) -> HeadStats {
        let mut series: HashMap<(SymbolId, SymbolId), u64> = HashMap::new();
        for shard in &self.shards {
            let data = shard.data.read();
            for (name, postings) in data.postings.names() {
                for &value in &postings.values {
                    let count = data.postings.pair(name, value).map_or(0, |p| p.len());
                    *series.entry((name, value)).or_default() += count;
                }
            }
        }
        let symbols = self.symbols.read();
        let mut values: HashMap<SymbolId, (u64, u64)> = HashMap::new();
        for (&(name, value), &count) in &series {
            let of_name = values.entry(name).or_default();
            of_name.0 += 1;
            of_name.1 += symbols.get(value).len() as u64 * count;
        }
        let metric_name = symbols.find(METRIC_NAME);
        let by_metric = series.iter().filter(|((name, _), _)| Some(*name) == metric_name);
        let by_metric = by_metric.map(|((_, value), count)| (symbols.get(*value).to_owned(), *count));
        let name_of = |id: &SymbolId| symbols.get(*id).to_owned();
        let stats = HeadStats {
            status: HeadStatus::default(),
            series_count_by_metric_name: top(by_metric, limit),
            label_value_count_by_label_name: top(values.iter().map(|(name, n)| (name_of(name), n.0)), limit),
            memory_in_bytes_by_label_name: top(values.iter().map(|(name, n)| (name_of(name), n.1)), limit),
            series_count_by_label_value_pair: top(
                top_ids(&series, limit)
                    .map(|((name, value), n)| (format!("{}={}", name_of(&name), name_of(&value)), n)),
                limit,
            ),
        };
        drop(symbols);
        let status = HeadStatus { label_pairs: series.len(), ..self.status() };
        HeadStats { status, ..stats }
    }

    /// Where the memory is.
    pub fn memory(&self) -> Vec<MemoryUse> {
        let mut parts: Vec<MemoryUse> = Vec::new();
        let mut add = |part, bytes| match parts.iter_mut().find(|p| p.part == part) {
            Some(found) => found.bytes += bytes,
            None => parts.push(MemoryUse { part, bytes }),
        };
        add("symbols", self.symbols.read().memory_bytes());
        add("references", self.refs.read().memory_bytes());
        add("metadata", self.metadata_bytes());
        for shard in &self.shards {
            add("append marks", shard.gate.lock().memory_bytes());
            for (part, bytes) in shard.data.read().memory() {
                add(part, bytes);
            }
        }
        parts
    }
}

/// The `limit` largest pairs, all pairs of the smallest count among them included, so that names can decide ties.
fn top_ids(
    counts: &HashMap<(SymbolId, SymbolId), u64>,
    limit: usize,
) -> impl Iterator<Item = ((SymbolId, SymbolId), u64)> + use<'_> {
    let mut sizes: Vec<u64> = counts.values().copied().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let least = limit.checked_sub(1).and_then(|at| sizes.get(at)).copied().unwrap_or(0);
    counts.iter().filter(move |(_, n)| **n >= least).map(|(pair, n)| (*pair, *n))
}

/// The `limit` largest counts, descending; ties by name.
fn top(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<NameCount> {
    let mut all: Vec<_> = counts.map(|(name, count)| NameCount { name, count }).collect();
    all.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    all.truncate(limit);
    all
}
