//! `tsdb dump` and `tsdb dump-openmetrics`: the samples of a data directory as text.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fk_model::{Labels, METRIC_NAME, is_stale};
use fk_promql_syntax::parse_selector;
use fk_storage::{Control, Queryable, Samples, SelectParams, TimeRange};
use fk_tsdb::{ReadOnlyDb, ReplayProgress};
use fk_vfs::Vfs;

use crate::gofmt::float;
use crate::{Progress, Result, ToolError, must_exist};

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `{__name__="up"} 1 1000`: labels, value, time in ms.
    Prom,
    /// The labels of each series as JSON, without samples.
    SeriesJson,
    /// OpenMetrics text; native histograms and staleness markers are left out.
    OpenMetrics,
}

/// What is dumped.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only samples of this range.
    pub range: TimeRange,
    /// Series that one of these selects.
    pub selectors: Vec<String>,
    /// How.
    pub format: Format,
}

/// Dumps a data directory: blocks, head and out-of-order samples. Nothing in it is changed. Blocks that cannot be opened are an
/// error after everything else has been written.
pub fn dump(vfs: Arc<dyn Vfs>, dir: &Path, options: &Options, out: &mut dyn Write) -> Result<()> {
    must_exist(&*vfs, dir)?;
    let db = {
        let progress = std::cell::RefCell::new(Progress::new("replaying the log"));
        ReadOnlyDb::open(vfs, dir, &|at: ReplayProgress| {
            let (done, total) = (at.current.saturating_sub(at.min), at.max.saturating_sub(at.min).saturating_add(1));
            progress.borrow_mut().at(u64::from(done), u64::from(total));
        })?
    };
    dump_storage(&db.reader(), options, out)?;
    match db.left_out() {
        [] => Ok(()),
        damaged => {
            let lines = damaged.iter().map(|(dir, error)| format!("block {} is left out: {error}", dir.display()));
            Err(ToolError::Other(lines.collect::<Vec<_>>().join("\n")))
        }
    }
}

/// Dumps what a storage answers.
pub fn dump_storage(storage: &dyn Queryable, options: &Options, out: &mut dyn Write) -> Result<()> {
    let mut sets = Vec::new();
    let control = Control::new();
    for text in &options.selectors {
        let matchers = parse_selector(text).map_err(|error| ToolError::Other(error.to_string()))?;
        let params = SelectParams { range: options.range, sorted: true, limit: 0 };
        sets.push(storage.select(&params, &matchers, &control)?);
    }
    let total = sets.iter().map(|set| set.len() as u64).sum();
    let (mut progress, mut done) = (Progress::new("dumping"), 0);
    // A series that several selectors take is written once.
    let mut seen: HashSet<Labels> = HashSet::new();
    let mut samples = Samples::default();
    for set in &sets {
        for idx in 0..set.len() {
            done += 1;
            progress.at(done, total);
            let labels = set.labels(idx);
            if sets.len() > 1 && !seen.insert(labels.clone()) {
                continue;
            }
            set.read(idx, options.range, &mut samples)?;
            if !samples.is_empty() {
                write_series(&labels, &samples, options.format, out)?;
            }
        }
    }
    if options.format == Format::OpenMetrics {
        writeln!(out, "# EOF")?;
    }
    let warnings = control.take_warnings();
    match warnings.is_empty() {
        true => Ok(()),
        false => Err(ToolError::Other(warnings.join("\n"))),
    }
}

fn write_series(labels: &Labels, samples: &Samples, format: Format, out: &mut dyn Write) -> Result<()> {
    match format {
        Format::SeriesJson => {
            let map: serde_json::Map<String, serde_json::Value> =
                labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            writeln!(out, "{}", serde_json::Value::Object(map))?;
        }
        Format::Prom => {
            let shown = labels.to_string();
            let mut histograms = samples.histograms.iter().peekable();
            for (at, (t, v)) in samples.t.iter().zip(&samples.v).enumerate() {
                match histograms.next_if(|(index, _)| *index as usize == at) {
                    Some((_, h)) => writeln!(out, "{shown} {h} {t}")?,
                    None => writeln!(out, "{shown} {} {t}", float(*v))?,
                }
            }
        }
        Format::OpenMetrics => {
            let series = format!("{}{}", labels.value(METRIC_NAME), condensed(labels));
            let mut histograms = samples.histograms.iter().peekable();
            for (at, (t, v)) in samples.t.iter().zip(&samples.v).enumerate() {
                if histograms.next_if(|(index, _)| *index as usize == at).is_some() || is_stale(*v) {
                    continue;
                }
                writeln!(out, "{series} {} {:.3}", float(*v), *t as f64 / 1000.0)?;
            }
        }
    }
    Ok(())
}

/// The labels without the metric name, and without blanks.
fn condensed(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(name);
        out.push('=');
        // Writing to a string cannot fail.
        let _ = fk_model::labels::write_quoted(&mut out, value);
    }
    out.push('}');
    out
}
