//! The files of `chunks_head/`: completed chunks of the head, so that they need no memory.
//!
//! [`format`] is the bytes of a file, the same as Prometheus'; [`ChunkFiles`] writes and reads the files of a directory.
//!
//! The log holds every sample of the head, so these files are never needed to recover anything. They are not synced, a
//! replay of the whole log begins with new ones, and a file that cannot be written means only that chunks stay in memory.
//! Prometheus, too, reads what is sound and takes the rest from the log.
//!
//! Numbers: files are numbered without gaps, as Prometheus asks for. New ones go on behind the highest there is, old ones
//! are removed from the lowest up, so that no crash leaves a gap.
//!
//! Reading: a finished file is mapped. The one that grows is read by `pread`, and it is finished early while there is
//! little data ([`FILE_BYTES_MIN`]), so that most reads find a map.

pub mod format;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use fk_storage::StorageError;
use fk_vfs::{self as vfs, Vfs, VfsError, VfsFile};

use format::{ChunkRecord, FILE_BYTES_MAX, FormatError, HEADER_BYTES, RECORD_OVERHEAD_MAX};

/// A file is finished when it has a 64th of all bytes, but not before it has so many.
pub const FILE_BYTES_MIN: u64 = 1 << 20;
const FILES_AIM: u64 = 64;

/// The highest file number; behind it the count begins again with an empty directory.
pub const FILE_NUMBER_MAX: u32 = (1 << 20) - 1;

/// Bytes that one read of a growing file fetches: most chunks are shorter.
const READ_BYTES: usize = 1024 + RECORD_OVERHEAD_MAX;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePlace {
    /// Number of the file, from 1 on.
    pub file: u32,
    /// Offset of its record in the file.
    pub offset: u32,
}

/// The files of one directory. A handle to be shared.
#[derive(Debug)]
pub struct ChunkFiles {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    files: RwLock<BTreeMap<u32, Arc<ChunkFile>>>,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct ChunkFile {
    path: PathBuf,
    /// Bytes that are written and may be read.
    len: AtomicU64,
    contents: RwLock<Contents>,
}

enum Contents {
    File(Arc<dyn VfsFile>),
    Map(Bytes),
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Contents::File(_) => "File",
            Contents::Map(_) => "Map",
        })
    }
}

#[derive(Debug, Default)]
struct Writer {
    /// Whether the directory has been made ready.
    ready: bool,
    /// The number of the last file.
    last: u32,
    /// The file that grows.
    growing: Option<Arc<ChunkFile>>,
    /// Times of the newest sample of each file.
    max_times: BTreeMap<u32, i64>,
}

impl ChunkFiles {
    /// In `dir`, which is made, and emptied of the files of others, when the first chunk is written.
    pub fn new(vfs: Arc<dyn Vfs>, dir: PathBuf) -> ChunkFiles {
        ChunkFiles { vfs, dir, files: RwLock::default(), writer: Mutex::default() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes records (see [`format::put_record`]) that belong together, `max_time` being the newest time in them. Returns
    /// where they begin. After an error none of them counts as written.
    pub fn append(&self, records: &[u8], max_time: i64) -> Result<FilePlace, StorageError> {
        let mut writer = self.writer.lock();
        if !writer.ready {
            writer.last = self.prepare()?;
            writer.ready = true;
        }
        let full = |file: &Arc<ChunkFile>| file.len.load(Ordering::Relaxed) + records.len() as u64 > FILE_BYTES_MAX;
        if records.len() as u64 > FILE_BYTES_MAX - HEADER_BYTES as u64 {
            return Err(StorageError::Unsupported("a head chunk larger than a file"));
        }
        if writer.growing.as_ref().is_some_and(full) {
            self.finish(&mut writer);
        }
        let file = match &writer.growing {
            Some(file) => Arc::clone(file),
            None => self.begin(&mut writer)?,
        };
        let offset = file.len.load(Ordering::Relaxed);
        match &*file.contents.read() {
            Contents::File(handle) => handle.write_at(records, offset)?,
            Contents::Map(_) => return Err(StorageError::Unsupported("writing to a finished file of head chunks")),
        }
        file.len.store(offset + records.len() as u64, Ordering::Release);
        let number = writer.last;
        let newest = writer.max_times.entry(number).or_insert(i64::MIN);
        *newest = max_time.max(*newest);
        Ok(FilePlace { file: number, offset: offset as u32 })
    }

    /// Ends the growing file if it is long enough for its reads to be worth a map. To be called now and then.
    pub fn round_off(&self) {
        let mut writer = self.writer.lock();
        let enough = (self.size_bytes() / FILES_AIM).clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
        if writer.growing.as_ref().is_some_and(|file| file.len.load(Ordering::Relaxed) >= enough) {
            self.finish(&mut writer);
        }
    }

    /// Calls `look` with the chunk of series `reference` at this place.
    pub fn read<R>(
        &self,
        place: FilePlace,
        reference: u64,
        look: impl FnOnce(&ChunkRecord<'_>) -> R,
    ) -> Result<R, StorageError> {
        let Some(file) = self.files.read().get(&place.file).cloned() else {
            let path = file_path(&self.dir, place.file).display().to_string();
            return Err(StorageError::Io { path, reason: "file of head chunks is gone".to_owned() });
        };
        let offset = u64::from(place.offset);
        let corrupt = |e: FormatError| StorageError::Corrupt {
            path: file.path.display().to_string(),
            offset,
            reason: e.to_string(),
        };
        let check = |bytes: &[u8]| {
            let (record, _) = format::take_record(bytes).map_err(corrupt)?;
            match record.reference == reference {
                true => Ok(look(&record)),
                false => Err(corrupt(FormatError::OtherSeries { found: record.reference, expected: reference })),
            }
        };
        let handle = match &*file.contents.read() {
            Contents::Map(map) => {
                let map = map.clone();
                return check(map.get(place.offset as usize..).unwrap_or_default());
            }
            Contents::File(handle) => Arc::clone(handle),
        };
        let left = file.len.load(Ordering::Acquire).saturating_sub(offset);
        let mut buf = [0; READ_BYTES];
        let first = &mut buf[..left.min(READ_BYTES as u64) as usize];
        let n = handle.read_full_at(first, offset)?;
        let first = &first[..n];
        let len = format::record_len(first).map_err(corrupt)?;
        if len <= first.len() {
            return check(first);
        }
        if len as u64 > left {
            return Err(corrupt(FormatError::Truncated));
        }
        let mut record = vec![0; len];
        handle.read_exact_at(&mut record, offset)?;
        check(&record)
    }

    /// Removes the oldest files as long as all their chunks end before `mint`. Returns how many went.
    pub fn truncate(&self, mint: i64) -> Result<usize, StorageError> {
        let mut writer = self.writer.lock();
        let mut removed = 0;
        while let Some((&number, &max_time)) = writer.max_times.first_key_value()
            && max_time < mint
        {
            if number == writer.last {
                // Numbers go on behind the last file, so that file is left until there is another.
                break;
            }
            match self.vfs.remove_file(&file_path(&self.dir, number)) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
            writer.max_times.remove(&number);
            self.files.write().remove(&number);
            removed += 1;
        }
        Ok(removed)
    }

    /// Makes everything written so far survive a power cut: for whoever writes down the places of chunks.
    pub fn sync(&self) -> Result<(), StorageError> {
        let files: Vec<_> = self.files.read().values().cloned().collect();
        for file in files {
            let handle = match &*file.contents.read() {
                Contents::File(handle) => Some(Arc::clone(handle)),
                Contents::Map(_) => None,
            };
            if let Some(handle) = handle {
                handle.sync_data()?;
            }
        }
        Ok(())
    }

    /// Numbers and lengths of the files, ascending.
    pub fn list(&self) -> Vec<(u32, u64)> {
        self.files.read().iter().map(|(number, file)| (*number, file.len.load(Ordering::Acquire))).collect()
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.read().values().map(|file| file.len.load(Ordering::Relaxed)).sum()
    }

    /// Goes on with files that are there already, of which only the first `len` bytes count; all others are removed. Nothing
    /// but the headers is checked: a damaged chunk is noticed by whoever reads it. `max_times` are the newest times in them.
    pub fn adopt(&self, known: &[(u32, u64, i64)]) -> Result<(), StorageError> {
        let mut writer = self.writer.lock();
        let mut adopted = BTreeMap::new();
        for &(number, len, max_time) in known {
            let path = file_path(&self.dir, number);
            let map = self.vfs.map(&path)?;
            let corrupt =
                |reason: String| StorageError::Corrupt { path: path.display().to_string(), offset: 0, reason };
            format::check_header(&map).map_err(|e| corrupt(e.to_string()))?;
            if (map.len() as u64) < len || len > FILE_BYTES_MAX || !(1..=FILE_NUMBER_MAX).contains(&number) {
                return Err(corrupt(format!("{} bytes instead of {len}", map.len())));
            }
            let contents = RwLock::new(Contents::Map(map.slice(..len as usize)));
            adopted.insert(number, Arc::new(ChunkFile { path: path.clone(), len: AtomicU64::new(len), contents }));
            writer.max_times.insert(number, max_time);
        }
        for (number, path) in list(&*self.vfs, &self.dir)? {
            if !adopted.contains_key(&number) {
                self.vfs.remove_file(&path)?;
            }
        }
        writer.last = adopted.last_key_value().map_or(0, |(number, _)| *number);
        writer.ready = true;
        *self.files.write() = adopted;
        Ok(())
    }

    /// Makes the directory, removes all files of earlier times, and returns the number of the last one.
    fn prepare(&self) -> Result<u32, VfsError> {
        vfs::create_dir_all(&*self.vfs, &self.dir)?;
        let old = list(&*self.vfs, &self.dir)?;
        let last = old.last().map_or(0, |(number, _)| *number);
        for (_, path) in &old {
            self.vfs.remove_file(path)?;
        }
        if last < FILE_NUMBER_MAX / 2 {
            return Ok(last);
        }
        self.vfs.sync_dir(&self.dir)?;
        Ok(0)
    }

    fn begin(&self, writer: &mut Writer) -> Result<Arc<ChunkFile>, StorageError> {
        let number = writer.last + 1;
        if number > FILE_NUMBER_MAX {
            return Err(StorageError::ReadOnly("the numbers for files of head chunks are used up".to_owned()));
        }
        let path = file_path(&self.dir, number);
        let handle = self.vfs.create(&path)?;
        handle.write_at(&format::header(), 0)?;
        let file = Arc::new(ChunkFile {
            path,
            len: AtomicU64::new(HEADER_BYTES as u64),
            contents: RwLock::new(Contents::File(Arc::from(handle))),
        });
        self.files.write().insert(number, Arc::clone(&file));
        writer.last = number;
        writer.growing = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Nothing is written to the growing file any more. If it cannot be mapped it is read as before.
    fn finish(&self, writer: &mut Writer) {
        let Some(file) = writer.growing.take() else { return };
        let len = file.len.load(Ordering::Relaxed);
        let cut = || -> Result<Bytes, VfsError> {
            if let Contents::File(handle) = &*file.contents.read() {
                // A failed write may have left a piece of itself.
                if handle.len()? > len {
                    handle.truncate(len)?;
                }
            }
            let map = self.vfs.map(&file.path)?;
            if (map.len() as u64) < len {
                return Err(VfsError::new("map", &file.path, io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(map.slice(..len as usize))
        };
        match cut() {
            Ok(map) => *file.contents.write() = Contents::Map(map),
            Err(e) => log::warn!("head chunks: {e}; the file is read without a map"),
        }
    }
}

/// Path of a file by its number.
pub(crate) fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}"))
}

/// The files of a directory by number; entries with other names are nobody's. None if there is no directory.
pub fn list(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<(u32, PathBuf)>, VfsError> {
    if vfs.metadata(dir)?.is_none() {
        return Ok(Vec::new());
    }
    let number = |name: &str| name.parse::<u32>().ok().filter(|_| name.bytes().all(|b| b.is_ascii_digit()));
    let entries = vfs.read_dir(dir)?.into_iter().filter(|e| !e.is_dir);
    let mut files: Vec<_> = entries.filter_map(|e| Some((number(&e.name)?, dir.join(e.name)))).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
