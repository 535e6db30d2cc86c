//! `tsdb create-blocks-from openmetrics`: text with timestamps to blocks.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fk_exposition::{OpenMetricsEntry, OpenMetricsParser};
use fk_model::{Labels, LabelsBuilder};
use fk_vfs::Vfs;

use crate::builder::{BlockBuilder, block_ms, block_start};
use crate::list::print_blocks;
use crate::{Progress, Result, ToolError};

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Times and sizes for people.
    pub human_readable: bool,
    /// Does not list the blocks.
    pub quiet: bool,
    /// Largest range of a block, ms.
    pub max_block_ms: i64,
    /// Labels that every series gets.
    pub labels: Vec<(String, String)>,
}

/// Imports `input` into blocks below `dir`, each within an aligned range of time, and lists them. The input is read once for
/// each block, so memory is bounded by one block. Everything is checked before the first block is written.
pub fn import(vfs: &Arc<dyn Vfs>, input: &[u8], dir: &Path, options: &Options, out: &mut dyn Write) -> Result<()> {
    fk_vfs::create_dir_all(&**vfs, dir).map_err(fk_tsdb::DbError::from)?;
    let Some((mint, maxt)) = time_range(input)? else { return Ok(()) };
    let range_ms = block_ms(options.max_block_ms);
    let mut header = !options.quiet;
    let mut next = Some(mint);
    let mut progress = Progress::new("importing");
    while let Some(t) = next {
        let start = block_start(t, range_ms);
        let end = start.saturating_add(range_ms);
        let mut builder = BlockBuilder::new(range_ms);
        next = fill(input, (start, end), options, &mut builder)?;
        let block = builder.write(vfs, dir)?;
        progress.at(end.saturating_sub(mint).unsigned_abs(), maxt.saturating_sub(mint).unsigned_abs());
        if let Some(block) = block.filter(|_| !options.quiet) {
            print_blocks(&[block], header, options.human_readable, out)?;
            header = false;
        }
    }
    Ok(())
}

/// First and last time in a body, which is checked on the way; `None` without samples.
fn time_range(input: &[u8]) -> Result<Option<(i64, i64)>> {
    let failed = |error: &dyn std::fmt::Display| {
        // Text as in Prometheus:
        ToolError::Other(format!("getting min and max timestamp: {error}"))
    };
    let mut parser = OpenMetricsParser::new(input);
    let mut progress = Progress::new("checking");
    let mut range: Option<(i64, i64)> = None;
    while let Some(entry) = parser.next().map_err(|error| failed(&format!("next: {error}")))? {
        let OpenMetricsEntry::Sample(sample) = entry else { continue };
        let Some(t) = sample.timestamp else { return Err(failed(&"expected timestamp for series got none")) };
        let (min, max) = range.unwrap_or((t, t));
        range = Some((min.min(t), max.max(t)));
        progress.at(parser.offset() as u64, input.len() as u64);
    }
    Ok(range)
}

/// Adds the samples in `start..end`; the first time behind them, if there is one.
fn fill(input: &[u8], (start, end): (i64, i64), options: &Options, builder: &mut BlockBuilder) -> Result<Option<i64>> {
    let mut parser = OpenMetricsParser::new(input);
    let mut next: Option<i64> = None;
    // Samples of a series mostly stand together: its labels are built once.
    let (mut last_series, mut labels): (&[u8], Labels) = (&[], Labels::empty());
    let mut last_kind = parser.metric_type();
    loop {
        let entry = parser.next().map_err(|error| ToolError::Other(format!("block creation: parse: {error}")))?;
        let Some(entry) = entry else { return Ok(next) };
        let OpenMetricsEntry::Sample(sample) = entry else { continue };
        let Some(t) = sample.timestamp else { continue };
        if t >= end {
            next = Some(next.map_or(t, |next| next.min(t)));
        }
        if t < start || t >= end {
            continue;
        }
        if sample.series != last_series || parser.metric_type() != last_kind {
            (last_series, last_kind) = (sample.series, parser.metric_type());
            labels = build_labels(&parser, options);
        }
        builder.push(&labels, t, sample.value);
    }
}

fn build_labels(parser: &OpenMetricsParser<'_>, options: &Options) -> Labels {
    let mut builder = LabelsBuilder::new();
    parser.for_each_label(|name, value| {
        builder.set(&name, &value);
    });
    for (name, value) in &options.labels {
        builder.set(name, value);
    }
    builder.build()
}
