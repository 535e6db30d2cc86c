//! Moving completed chunks to files.
//!
//! Chunks are framed in small groups while the shard can still be read and written to, written without any lock, and
//! then found in the file. Nothing depends on this being done: what could not be written stays in memory.

use std::sync::atomic::Ordering;

use fk_storage::StorageError;

use super::Head;
use super::arena::Ticket;
use super::shard::Shard;
use crate::chunks_head::format::{ChunkRecord, put_record};
use crate::chunks_head::{ChunkFiles, FilePlace};

/// Bytes of one group: what is framed and checksummed while a shard's lock is held for reading, in about 50 µs.
const GROUP_BYTES: usize = 256 << 10;

/// What a spill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spilled {
    /// Chunks written.
    pub chunks: usize,
    /// Bytes written.
    pub bytes: usize,
}

#[derive(Default)]
struct Group {
    records: Vec<u8>,
    /// Each chunk with the offset of its record.
    chunks: Vec<(Ticket, u32)>,
}

impl Head {
    /// Writes completed chunks to the files of the head, and gives back their memory. Does nothing without files. After an
    /// error the chunks that are not written are still in memory; call again later.
    pub fn spill(&self) -> Result<Spilled, StorageError> {
        let mut spilled = Spilled::default();
        let Some(files) = &self.files else { return Ok(spilled) };
        let upkeep = self.upkeep.lock();
        let mut group = Group::default();
        let result = self.shards.iter().try_for_each(|shard| spill(shard, files, &mut group, &mut spilled));
        files.round_off();
        drop(upkeep);
        self.metrics.chunks_spilled.fetch_add(spilled.chunks as u64, Ordering::Relaxed);
        match result {
            Ok(()) => Ok(spilled),
            Err(e) => {
                self.metrics.spills_failed.fetch_add(1, Ordering::Relaxed);
                Err(e)
            }
        }
    }

    /// Bytes of completed chunks that wait in memory for a file.
    pub fn staged_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.data.read().arena.staged_bytes()).sum()
    }
}

/// Writes what the shard has when this begins; chunks that are completed meanwhile mostly wait for the next time.
fn spill(shard: &Shard, files: &ChunkFiles, group: &mut Group, spilled: &mut Spilled) -> Result<(), StorageError> {
    let mut left = shard.data.read().arena.staged_bytes();
    while left > 0 {
        let Group { records, chunks } = group;
        records.clear();
        chunks.clear();
        let mut max_time = i64::MIN;
        let before;
        let position = {
            let data = shard.data.read();
            before = data.arena.staged_bytes();
            data.arena.staged(GROUP_BYTES, |chunk| {
                chunks.push((chunk.ticket, records.len() as u32));
                max_time = chunk.last_time.max(max_time);
                put_record(
                    records,
                    &ChunkRecord {
                        reference: data.info.get(chunk.slot).reference,
                        mint: chunk.first_time,
                        maxt: chunk.last_time,
                        encoding: chunk.encoding,
                        out_of_order: false,
                        data: chunk.bytes,
                    },
                );
            })
        };
        let Some(position) = position else { break };
        let start = match chunks.is_empty() {
            false => files.append(records, max_time)?,
            true => FilePlace { file: 1, offset: 0 },
        };
        let mut data = shard.data.write();
        for (ticket, offset) in chunks.iter() {
            data.arena.moved(*ticket, FilePlace { offset: start.offset + offset, ..start });
        }
        data.arena.release(position);
        spilled.chunks += chunks.len();
        spilled.bytes += records.len();
        left = left.saturating_sub(before.saturating_sub(data.arena.staged_bytes()).max(1));
    }
    Ok(())
}
