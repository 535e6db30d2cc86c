//! A new file that is written from front to back through a buffer.

use std::path::Path;

use fk_storage::StorageError;
use fk_vfs::{Vfs, VfsFile};

/// Made durable in pieces of this size, so that the system never has more of it to write at once: who waits for a sync of
/// another file, such as that of the log, may have to wait for all of this as well.
const SYNC_BYTES: u64 = 16 << 20;

/// Written in pieces of this size.
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Sequential {
    file: Box<dyn VfsFile>,
    /// What has not been written yet.
    buffer: Vec<u8>,
    /// Bytes in front of the buffer.
    written: u64,
    /// Bytes that are durable.
    synced: u64,
}

impl Sequential {
    pub fn create(vfs: &dyn Vfs, path: &Path) -> Result<Sequential, StorageError> {
        Ok(Sequential { file: vfs.create(path)?, buffer: Vec::with_capacity(BUFFER_BYTES), written: 0, synced: 0 })
    }

    /// Bytes so far: where the next one goes.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Lets `write` add bytes behind the others.
    #[inline]
    pub fn push<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, StorageError> {
        let result = write(&mut self.buffer);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(result)
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.push(|buffer| buffer.extend_from_slice(bytes))
    }

    /// Adds zeros up to a multiple of `align`.
    pub fn pad(&mut self, align: u64) -> Result<(), StorageError> {
        let n = self.position().next_multiple_of(align) - self.position();
        self.push(|buffer| buffer.resize(buffer.len() + n as usize, 0))
    }

    /// Hands everything to the operating system.
    pub fn flush(&mut self) -> Result<(), StorageError> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// The file, in which everything is that was flushed.
    pub fn file(&self) -> &dyn VfsFile {
        &*self.file
    }

    /// Makes everything durable.
    pub fn finish(mut self) -> Result<(), StorageError> {
        self.flush()?;
        Ok(self.file.sync_data()?)
    }
}
