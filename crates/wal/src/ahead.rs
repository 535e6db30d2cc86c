//! Reads the log ahead of who takes its records: one thread reads files, checks checksums, decompresses and checks
//! records; the caller's thread takes them, in order, from blocks of bytes. Memory in flight is bounded. A small log is read by
//! the caller's thread alone: a thread costs more than it takes.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::record::Record;
use super::replay::{Position, ReplayError, ReplayReport, Start, is_small, walk};
use fk_vfs::Vfs;

/// A block is handed over when it has grown to this many bytes: some tens of thousands of samples.
const BLOCK_BYTES: usize = 256 << 10;

/// Bytes of blocks that wait. Only a block of one larger record may exceed it, and then it waits alone.
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;

/// Empty blocks that are kept to be filled again.
const SPARE_BLOCKS_MAX: usize = 4;

/// Checked records, one after another.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    /// Where each record is in the log, and where it ends in `bytes`.
    records: Vec<(Position, usize)>,
}

/// Who takes the records has stopped.
#[derive(Clone, Copy, Debug)]
struct Halted;

/// What is in flight, and blocks to be filled again.
#[derive(Debug, Default)]
struct Flow {
    bytes: usize,
    halted: bool,
    spare: Vec<Block>,
}

/// The reading side.
struct Reader<'a> {
    flow: &'a (Mutex<Flow>, Condvar),
    blocks: mpsc::Sender<Block>,
    block: Block,
}

impl Reader<'_> {
    fn take(&mut self, position: Position, bytes: &[u8]) -> Result<(), Halted> {
        // Records of two segments do not share a block, so that the progress of the start is told in time.
        let next_segment = self.block.records.last().is_some_and(|(last, _)| last.segment != position.segment);
        if next_segment || self.block.bytes.len() + bytes.len() > BLOCK_BYTES {
            self.hand_over()?;
        }
        self.block.bytes.extend_from_slice(bytes);
        self.block.records.push((position, self.block.bytes.len()));
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Halted> {
        if self.block.records.is_empty() {
            return Ok(());
        }
        let (flow, freed) = self.flow;
        let mut flow = flow.lock();
        while !flow.halted && flow.bytes > 0 && flow.bytes + self.block.bytes.len() > IN_FLIGHT_BYTES_MAX {
            freed.wait(&mut flow);
        }
        if flow.halted {
            return Err(Halted);
        }
        flow.bytes += self.block.bytes.len();
        let spare = flow.spare.pop().unwrap_or_default();
        drop(flow);
        self.blocks.send(std::mem::replace(&mut self.block, spare)).map_err(|_| Halted)
    }
}

/// Ends the reader if who takes the records stops, by an error or by a panic.
struct HaltOnDrop<'a>(&'a (Mutex<Flow>, Condvar));

impl Drop for HaltOnDrop<'_> {
    fn drop(&mut self) {
        self.0.0.lock().halted = true;
        self.0.1.notify_all();
    }
}

/// See [`super::replay::replay_from`].
pub(crate) fn replay<E>(
    vfs: &dyn Vfs,
    dir: &Path,
    start: Start,
    on_record: &mut dyn FnMut(Position, Record<'_>) -> Result<(), E>,
) -> Result<ReplayReport, ReplayError<E>> {
    // Tests have small logs, and look at the threads all the same.
    if !cfg!(test) && is_small(vfs, dir, start) {
        return walk(vfs, dir, start, None, &mut |position, _, record| on_record(position, record));
    }
    let flow = &(Mutex::new(Flow::default()), Condvar::new());
    thread::scope(|scope| {
        let (sender, blocks) = mpsc::channel();
        let read = move || {
            let mut reader = Reader { flow, blocks: sender, block: Block::default() };
            let report = walk(vfs, dir, start, None, &mut |position, bytes, _| reader.take(position, bytes));
            match (report, reader.hand_over()) {
                (Ok(_), Err(halted)) => Err(ReplayError::Stopped(halted)),
                (report, _) => report,
            }
        };
        let Ok(reader) = thread::Builder::new().name("wal-reader".to_owned()).spawn_scoped(scope, read) else {
            // No thread to be had: one does it all.
            return walk(vfs, dir, start, None, &mut |position, _, record| on_record(position, record));
        };
        let halt = HaltOnDrop(flow);
        let mut stopped = None;
        for mut block in blocks {
            let mut begin = 0;
            for &(position, end) in &block.records {
                let record = Record::checked(&block.bytes[begin..end]);
                begin = end;
                if let Err(e) = on_record(position, record) {
                    stopped = Some(e);
                    break;
                }
            }
            if stopped.is_some() {
                break;
            }
            let mut flow = halt.0.0.lock();
            flow.bytes -= block.bytes.len();
            if flow.spare.len() < SPARE_BLOCKS_MAX && block.bytes.capacity() <= 2 * BLOCK_BYTES {
                block.bytes.clear();
                block.records.clear();
                flow.spare.push(block);
            }
            drop(flow);
            halt.0.1.notify_one();
        }
        drop(halt);
        let report = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (stopped, report) {
            (Some(e), _) => Err(ReplayError::Stopped(e)),
            (None, Ok(report)) => Ok(report),
            (None, Err(ReplayError::Io(e))) => Err(ReplayError::Io(e)),
            (None, Err(ReplayError::Stopped(Halted))) => unreachable!("only an error of the receiver halts the reader"),
        }
    })
}
