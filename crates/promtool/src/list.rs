//! `tsdb list`: the blocks of a data directory.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fk_block::Block;
use fk_config::bytesize;
use fk_tsdb::readonly::open_blocks;
use fk_vfs::Vfs;

use crate::gofmt::{duration_ms, table, utc_seconds};
use crate::{Result, ToolError, must_exist};

/// Lists all blocks, oldest first. One that cannot be opened is an error, as in Prometheus.
pub fn list(vfs: &Arc<dyn Vfs>, dir: &Path, human_readable: bool, out: &mut dyn Write) -> Result<()> {
    must_exist(&**vfs, dir)?;
    let mut broken = None;
    let blocks = open_blocks(vfs, dir, &mut |_, error| {
        broken.get_or_insert_with(|| error.clone());
    })?;
    print_blocks(&blocks, true, human_readable, out)?;
    match broken {
        Some(error) => Err(ToolError::Storage(error)),
        None => Ok(()),
    }
}

/// Prints a table of blocks.
pub fn print_blocks(blocks: &[Block], header: bool, human_readable: bool, out: &mut dyn Write) -> Result<()> {
    const HEADER: [&str; 8] =
        ["BLOCK ULID", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"];
    let mut rows: Vec<Vec<String>> = Vec::new();
    if header {
        rows.push(HEADER.map(str::to_owned).to_vec());
    }
    let time = |ms: i64| if human_readable { utc_seconds(ms) } else { ms.to_string() };
    for block in blocks {
        let meta = block.meta();
        let size = block.size_bytes();
        rows.push(vec![
            meta.ulid.to_string(),
            time(meta.min_time),
            time(meta.max_time),
            duration_ms(meta.max_time - meta.min_time),
            meta.stats.num_samples.to_string(),
            meta.stats.num_chunks.to_string(),
            meta.stats.num_series.to_string(),
            if human_readable { bytesize::format(size) } else { size.to_string() },
        ]);
    }
    Ok(table(&rows, out)?)
}
