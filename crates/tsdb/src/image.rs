//! Images of the head: what makes a start take tenths of a second where the log would take many.
//!
//! ```text
//! <data>/head_image/manifest          which data file counts, what it goes with, the place of each part in it
//!                   00000007.data     the parts of the head (head::image), one after another
//! ```
//!
//! Prometheus does not look at the directory. An image is no copy of the truth: the log has all that it has. So it is
//! written without waiting for the disk, and a start that finds anything wrong with it reads the whole log instead.
//!
//! A manifest names a position in the log. The image has everything logged before it, and a start reads the log from there.
//! The image counts only if
//!
//! - the manifest and every part have their checksums, and the manifest was made with the same options;
//! - the segment of the position is there, with the same bytes before the position, no segment after it is missing, and no
//!   checkpoint stands for it: so nobody has removed or replaced what the image goes on from;
//! - the files of `chunks_head` that it refers to are there with the same beginning and the same bytes at their former end;
//! - no reference in the rest of the log stands for other labels than in the image.
//!
//! A new image is complete when its manifest has been renamed into place; before that, the log is made durable, because a
//! part may have samples and series that were logged while it was written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use fk_block::Pace;
use fk_model::Labels;
use fk_storage::{Exemplar, StorageError};
use fk_vfs::{self as vfs, Vfs, VfsError, VfsFile};
use fk_wal::{Listing, Start, Wal, WalError, segment_path};

use crate::chunks_head::{ChunkFiles, file_path};
use crate::exemplars::Exemplars;
use crate::head::image::{Basics, Damaged, Files, Part, SavedPart, read_exemplars, save_exemplars};
use crate::head::{Head, HeadOptions};

/// The directory within the data directory.
const DIR: &str = "head_image";

const MANIFEST: &str = "manifest";

/// Added to the number of a data file.
const DATA_SUFFIX: &str = ".data";

/// How a manifest begins; the last byte is the version.
const MAGIC: &[u8; 8] = b"FKHEAD\0\x01";

/// A manifest with all parts and ten thousand files of chunks has less.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// So many bytes of a file before a position are compared.
const CHECK_BYTES: u64 = 64 << 10;

/// Parts are written in pieces of about this size.
const WRITE_BYTES: usize = 1 << 20;

/// An image is due when so much has been logged since the last one...
const TAIL_BYTES: u64 = 32 << 20;
/// ...and at least this share of the image's size, so that a large head is not written all the time.
const TAIL_SHARE: u64 = 4;

/// With so much logged since the last image, one is written when nothing has been logged for a while.
const IDLE_TAIL_BYTES: u64 = 4 << 20;
const IDLE_MS: i64 = 1000;

/// With less than this in the log since the last image, closing writes none: reading it takes milliseconds.
const CLOSE_TAIL_BYTES: u64 = 256 << 10;

/// Free space that has to be left after an image.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Why an image was not used, or not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("{0}")]
    Unusable(&'static str),
    #[error(transparent)]
    Io(#[from] VfsError),
    #[error("write-ahead log: {0}")]
    Log(#[from] WalError),
    #[error(transparent)]
    Chunks(#[from] StorageError),
}

impl From<Damaged> for ImageError {
    fn from(damaged: Damaged) -> ImageError {
        ImageError::Unusable(damaged.0)
    }
}

impl From<ImageError> for StorageError {
    fn from(e: ImageError) -> StorageError {
        match e {
            ImageError::Unusable(reason) => StorageError::ReadOnly(format!("head image: {reason}")),
            ImageError::Io(e) => e.into(),
            ImageError::Log(e) => e.into(),
            ImageError::Chunks(e) => e,
        }
    }
}

type Result<T> = std::result::Result<T, ImageError>;

/// A position in a file, and what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    number: u32,
    offset: u64,
    /// Of the [`CHECK_BYTES`] before the offset.
    crc: u32,
}

impl Mark {
    fn of(file: &dyn VfsFile, number: u32, offset: u64) -> vfs::Result<Mark> {
        let start = offset.saturating_sub(CHECK_BYTES);
        let mut bytes = vec![0; (offset - start) as usize];
        file.read_exact_at(&mut bytes, start)?;
        Ok(Mark { number, offset, crc: crc32c::crc32c(&bytes) })
    }

    /// Whether the file still has these bytes before the position.
    fn holds(&self, vfs: &dyn Vfs, path: &Path) -> vfs::Result<bool> {
        let file = match vfs.open(path) {
            Err(e) if e.is_not_found() => return Ok(false),
            file => file?,
        };
        Ok(file.len()? >= self.offset && Mark::of(&*file, self.number, self.offset)? == *self)
    }
}

/// A file of `chunks_head` that an image refers to: its beginning and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChunkFile {
    begin: Mark,
    end: Mark,
    /// Time of the newest sample in it that the head has.
    max_time: i64,
}

impl ChunkFile {
    fn of(vfs: &dyn Vfs, path: &Path, (number, len): (u32, u64), max_time: i64) -> vfs::Result<ChunkFile> {
        let file = vfs.open(path)?;
        let begin = Mark::of(&*file, number, len.min(CHECK_BYTES))?;
        Ok(ChunkFile { begin, end: Mark::of(&*file, number, len)?, max_time })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartPlace {
    part: Part,
    offset: u64,
    len: u64,
    crc: u32,
    items: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Manifest {
    /// Number of the data file.
    data: u32,
    samples_per_chunk: u16,
    chunk_range_ms: i64,
    basics: Basics,
    log: Mark,
    parts: Vec<PartPlace>,
    chunk_files: Vec<ChunkFile>,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let mark = |mark: &Mark, out: &mut Vec<u8>| {
            out.extend_from_slice(&mark.number.to_le_bytes());
            out.extend_from_slice(&mark.offset.to_le_bytes());
            out.extend_from_slice(&mark.crc.to_le_bytes());
        };
        out.extend_from_slice(&self.data.to_le_bytes());
        out.extend_from_slice(&self.samples_per_chunk.to_le_bytes());
        out.extend_from_slice(&self.chunk_range_ms.to_le_bytes());
        out.extend_from_slice(&self.basics.seed.to_le_bytes());
        out.extend_from_slice(&self.basics.next_ref.to_le_bytes());
        out.extend_from_slice(&self.basics.min_time.to_le_bytes());
        out.extend_from_slice(&self.basics.max_time.to_le_bytes());
        out.extend_from_slice(&self.basics.min_valid_time.to_le_bytes());
        mark(&self.log, &mut out);
        out.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        for place in &self.parts {
            out.push(place.part.to_byte());
            out.extend_from_slice(&place.offset.to_le_bytes());
            out.extend_from_slice(&place.len.to_le_bytes());
            out.extend_from_slice(&place.crc.to_le_bytes());
            out.extend_from_slice(&place.items.to_le_bytes());
        }
        out.extend_from_slice(&(self.chunk_files.len() as u32).to_le_bytes());
        for file in &self.chunk_files {
            mark(&file.begin, &mut out);
            mark(&file.end, &mut out);
            out.extend_from_slice(&file.max_time.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Manifest> {
        let damaged = || ImageError::Unusable("the manifest is damaged");
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(damaged());
        }
        let mut rest = body.strip_prefix(MAGIC).ok_or(ImageError::Unusable("another version has written it"))?;
        let manifest = Manifest::fields(&mut rest).filter(|_| rest.is_empty());
        manifest.ok_or_else(damaged)
    }

    fn fields(rest: &mut &[u8]) -> Option<Manifest> {
        fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (bytes, behind) = rest.split_first_chunk::<N>()?;
            *rest = behind;
            Some(*bytes)
        }
        fn u32_of(rest: &mut &[u8]) -> Option<u32> {
            take(rest).map(u32::from_le_bytes)
        }
        fn u64_of(rest: &mut &[u8]) -> Option<u64> {
            take(rest).map(u64::from_le_bytes)
        }
        fn i64_of(rest: &mut &[u8]) -> Option<i64> {
            take(rest).map(i64::from_le_bytes)
        }
        fn mark(rest: &mut &[u8]) -> Option<Mark> {
            Some(Mark { number: u32_of(rest)?, offset: u64_of(rest)?, crc: u32_of(rest)? })
        }
        let data = u32_of(rest)?;
        let samples_per_chunk = take(rest).map(u16::from_le_bytes)?;
        let chunk_range_ms = i64_of(rest)?;
        let (seed, next_ref) = (u64_of(rest)?, u64_of(rest)?);
        let (min_time, max_time, min_valid_time) = (i64_of(rest)?, i64_of(rest)?, i64_of(rest)?);
        let basics = Basics { seed, next_ref, min_time, max_time, min_valid_time };
        let log = mark(rest)?;
        let mut parts = Vec::new();
        for _ in 0..u32_of(rest)? {
            let [byte] = take(rest)?;
            let part = Part::all().find(|part| part.to_byte() == byte)?;
            let (offset, len, crc) = (u64_of(rest)?, u64_of(rest)?, u32_of(rest)?);
            parts.push(PartPlace { part, offset, len, crc, items: u64_of(rest)? });
        }
        let mut chunk_files = Vec::new();
        for _ in 0..u32_of(rest)? {
            chunk_files.push(ChunkFile { begin: mark(rest)?, end: mark(rest)?, max_time: i64_of(rest)? });
        }
        Some(Manifest { data, samples_per_chunk, chunk_range_ms, basics, log, parts, chunk_files })
    }
}

fn data_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}{DATA_SUFFIX}"))
}

/// A head out of an image.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The head, without what the log has from `start` on.
    pub head: Head,
    /// Where the log has to be read from.
    pub start: Start,
    /// Exemplars with the labels of their series, in the order in which they arrived.
    pub exemplars: Vec<(Labels, Exemplar)>,
}

/// The image in the data directory, if there is one and it counts. The head goes on with the files of chunks that it refers
/// to, in the directory of `files`.
pub(crate) fn load(
    vfs: &dyn Vfs,
    data_dir: &Path,
    wal_dir: &Path,
    options: HeadOptions,
    files: ChunkFiles,
) -> Result<Option<Loaded>> {
    let dir = data_dir.join(DIR);
    let bytes = match vfs::read_file(vfs, &dir.join(MANIFEST), MANIFEST_BYTES_MAX) {
        Err(e) if e.is_not_found() => return Ok(None),
        bytes => bytes?,
    };
    let manifest = Manifest::decode(&bytes)?;
    if (manifest.samples_per_chunk, manifest.chunk_range_ms) != (options.samples_per_chunk, options.chunk_range_ms) {
        return Err(ImageError::Unusable("it was written with other options"));
    }
    check_log(vfs, wal_dir, &manifest.log)?;
    for file in &manifest.chunk_files {
        let path = file_path(files.dir(), file.end.number);
        if !file.begin.holds(vfs, &path)? || !file.end.holds(vfs, &path)? {
            return Err(ImageError::Unusable("chunks it refers to are gone"));
        }
    }
    // The file is written once and removed as a whole, so it may be mapped.
    let data = vfs.map(&data_path(&dir, manifest.data))?;
    let mut parts = Vec::with_capacity(manifest.parts.len());
    for place in &manifest.parts {
        let end = place.offset.checked_add(place.len).filter(|end| *end <= data.len() as u64);
        let end = end.ok_or(ImageError::Unusable("the data file is too short"))?;
        let bytes = data.slice(place.offset as usize..end as usize);
        parts.push(SavedPart { part: place.part, bytes, crc: place.crc, items: place.items });
    }
    if !manifest.chunk_files.is_empty() {
        let known: Vec<_> = manifest.chunk_files.iter().map(|f| (f.end.number, f.end.offset, f.max_time)).collect();
        files.adopt(&known)?;
    }
    let head = Head::restore(options, files, &manifest.basics, &parts)?;
    let start = Start::At { segment: manifest.log.number, offset: manifest.log.offset };
    let exemplars = read_exemplars(&parts)?;
    Ok(Some(Loaded { head, start, exemplars }))
}

/// Whether the log goes on from where the image was written.
fn check_log(vfs: &dyn Vfs, wal_dir: &Path, mark: &Mark) -> Result<()> {
    let listing = Listing::read(vfs, wal_dir)?;
    let after: Vec<u32> = listing.segments.into_iter().filter(|s| *s >= mark.number).collect();
    if after.iter().zip(mark.number..).any(|(segment, expected)| *segment != expected) {
        return Err(ImageError::Unusable("segments of the log are missing"));
    }
    if listing.checkpoints.last().is_some_and(|checkpoint| *checkpoint >= mark.number) {
        return Err(ImageError::Unusable("a later checkpoint stands for the segment it goes on from"));
    }
    match mark.holds(vfs, &segment_path(wal_dir, mark.number))? {
        true => Ok(()),
        false => Err(ImageError::Unusable("the log is not the one it was written with")),
    }
}

/// What an image is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub head: &'a Head,
    pub wal: &'a Wal,
    pub exemplars: &'a Exemplars,
}

/// Writes images when they are due.
#[derive(Debug)]
pub(crate) struct Images {
    vfs: Arc<dyn Vfs>,
    data_dir: PathBuf,
    options: HeadOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Segment of the log from which the last image goes on, if there is a good one.
    segment: Option<u32>,
    /// Bytes of the last image.
    bytes: u64,
    /// What the log had counted when the last image was written; less than zero for what was read at the start.
    logged: i64,
    /// What the log had counted when it was last looked at, and since when that has not changed, ms of a steady clock.
    seen: Option<(u64, i64)>,
}

impl Images {
    /// For the directory of an open storage, which has read `tail_bytes` of log after an image, or without one.
    pub fn new(vfs: Arc<dyn Vfs>, data_dir: &Path, options: HeadOptions, from: Start, tail_bytes: u64) -> Images {
        let segment = match from {
            Start::Checkpoint => None,
            Start::At { segment, .. } => Some(segment),
        };
        let bytes = segment.map_or(0, |_| image_bytes(&*vfs, &data_dir.join(DIR)));
        let state = State { segment, bytes, logged: -(tail_bytes.min(i64::MAX as u64) as i64), seen: None };
        Images { vfs, data_dir: data_dir.to_owned(), options, state: Mutex::new(state) }
    }

    /// Writes an image if one is due; `steady_ms` is the time of a clock that never jumps. Says whether one was written.
    /// Not at the same time as a truncation of the head. `pace` is told what was written, and may wait or end it.
    pub fn maintain(&self, source: &Source<'_>, steady_ms: i64, pace: &mut Pace<'_>) -> Result<bool> {
        let mut state = self.state.lock();
        let logged = source.wal.stats().bytes;
        let (tail, idle) = (state.tail(logged), state.is_idle(logged, steady_ms));
        // Once the head has been truncated the image is of no use any more.
        let cut_off = match state.segment {
            Some(segment) => {
                Listing::read(&*self.vfs, source.wal.dir())?.checkpoints.last().is_some_and(|c| *c >= segment)
            }
            None => false,
        };
        if !cut_off && !is_worth_it(tail, state.bytes, idle) {
            return Ok(false);
        }
        self.write_locked(&mut state, source, pace)?;
        Ok(true)
    }

    /// Writes an image before the storage is closed, unless the last one is nearly as good. The log takes no more records
    /// afterwards.
    pub fn close(&self, source: &Source<'_>) -> Result<bool> {
        let mut state = self.state.lock();
        if state.tail(source.wal.stats().bytes) < CLOSE_TAIL_BYTES {
            return Ok(false);
        }
        self.write_locked(&mut state, source, &mut |_| Ok(()))?;
        Ok(true)
    }

    /// Writes an image now.
    #[cfg(any(test, fuzzing))]
    pub fn write(&self, source: &Source<'_>) -> Result<()> {
        self.write_locked(&mut self.state.lock(), source, &mut |_| Ok(()))
    }

    fn write_locked(&self, state: &mut State, source: &Source<'_>, pace: &mut Pace<'_>) -> Result<()> {
        let began = Instant::now();
        let logged = source.wal.stats().bytes;
        // Whatever comes of it, the next try comes after as much log again.
        (state.logged, state.segment) = (logged as i64, None);
        let dir = self.data_dir.join(DIR);
        vfs::create_dir_all(&*self.vfs, &dir)?;
        let number = data_files(&*self.vfs, &dir)?.last().map_or(1, |last| last.wrapping_add(1));
        let data = data_path(&dir, number);
        match self.write_data(&data, state.bytes, source, number, pace) {
            Ok(manifest) => {
                let bytes = manifest.parts.iter().map(|p| p.len).sum();
                vfs::write_file_atomic(&*self.vfs, &dir.join(MANIFEST), &manifest.encode())?;
                (state.segment, state.bytes) = (Some(manifest.log.number), bytes);
                let seconds = began.elapsed().as_secs_f64();
                log::debug!("head image: {bytes} bytes written in {seconds:.3} s");
                self.remove_others(&dir, number);
                Ok(())
            }
            Err(e) => {
                // The space may be what was missing. What cannot be removed goes with the next image.
                let _ = self.vfs.remove_file(&data);
                Err(e)
            }
        }
    }

    fn write_data(
        &self,
        path: &Path,
        bytes_expected: u64,
        source: &Source<'_>,
        number: u32,
        pace: &mut Pace<'_>,
    ) -> Result<Manifest> {
        if self.vfs.free_bytes(vfs::parent(path))? < bytes_expected.saturating_add(FREE_BYTES_MIN) {
            return Err(ImageError::Unusable("there is too little free space for one"));
        }
        let Source { head, wal, exemplars } = *source;
        let log = self.log_mark(wal)?;
        let saving = head.save_begin();
        exemplars.wait_for_appends();
        let file = self.vfs.create(path)?;
        let mut out = Output { file: &*file, buffer: Vec::with_capacity(WRITE_BYTES), written: 0, pace };
        let (mut parts, mut in_files) = (Vec::new(), Files::new());
        for part in Part::all() {
            let (offset, mut crc, mut items) = (out.len(), 0, 0);
            let mut sink = |bytes: &[u8], n: u64| {
                crc = crc32c::crc32c_append(crc, bytes);
                items += n;
                out.write(bytes)
            };
            match part {
                Part::Exemplars => save_exemplars(exemplars, &mut sink)?,
                part => head.save(part, &mut in_files, &mut sink)?,
            }
            parts.push(PartPlace { part, offset, len: out.len() - offset, crc, items });
        }
        out.flush()?;
        let mut chunk_files = Vec::new();
        if let Some(files) = head.files().filter(|_| !in_files.is_empty()) {
            // All files, so that their numbers have no gap.
            for (number, len) in files.list() {
                let max_time = in_files.remove(&number).unwrap_or(i64::MIN);
                let path = file_path(files.dir(), number);
                chunk_files.push(ChunkFile::of(&*self.vfs, &path, (number, len), max_time)?);
            }
            files.sync()?;
        }
        drop(saving);
        if !in_files.is_empty() {
            return Err(ImageError::Unusable("chunks are in files that are gone"));
        }
        let basics = head.save_basics();
        // A power cut must not leave an image of samples whose series the log has lost.
        wal.sync()?;
        let HeadOptions { samples_per_chunk, chunk_range_ms, .. } = self.options;
        Ok(Manifest { data: number, samples_per_chunk, chunk_range_ms, basics, log, parts, chunk_files })
    }

    /// Where the log is now. In a new segment that is the end of the one before, whose bytes can be told from others.
    fn log_mark(&self, wal: &Wal) -> Result<Mark> {
        let (mut segment, mut offset) = wal.position();
        let mut path = segment_path(wal.dir(), segment);
        while offset == 0 {
            segment = segment.checked_sub(1).ok_or(ImageError::Unusable("the log is empty"))?;
            path = segment_path(wal.dir(), segment);
            match self.vfs.metadata(&path)? {
                Some(metadata) => offset = metadata.len,
                None => return Err(ImageError::Unusable("the log is empty")),
            }
        }
        Ok(Mark::of(&*self.vfs.open(&path)?, segment, offset)?)
    }

    /// Removes the data files that no manifest names. What cannot be removed goes another time.
    fn remove_others(&self, dir: &Path, number: u32) {
        for other in data_files(&*self.vfs, dir).unwrap_or_default() {
            if other != number
                && let Err(e) = self.vfs.remove_file(&data_path(dir, other))
            {
                log::warn!("head image: {e}");
            }
        }
    }
}

impl State {
    /// Whether nothing has been logged for a while, as far as one has looked.
    fn is_idle(&mut self, logged: u64, steady_ms: i64) -> bool {
        let since = match self.seen {
            Some((seen, since)) if seen == logged => since,
            _ => steady_ms,
        };
        self.seen = Some((logged, since));
        steady_ms.saturating_sub(since) >= IDLE_MS
    }

    /// Bytes of log since the last image.
    fn tail(&self, logged: u64) -> u64 {
        (i128::from(logged) - i128::from(self.logged)).clamp(0, i128::from(u64::MAX)) as u64
    }
}

/// Whether so much log since the last image, which has `image` bytes, is worth a new one.
fn is_worth_it(tail: u64, image: u64, idle: bool) -> bool {
    tail >= (image / TAIL_SHARE).max(TAIL_BYTES) || (idle && tail > IDLE_TAIL_BYTES)
}

/// Writes a file front to back in large pieces.
struct Output<'a, 'p> {
    file: &'a dyn VfsFile,
    buffer: Vec<u8>,
    written: u64,
    pace: &'a mut Pace<'p>,
}

impl Output<'_, '_> {
    fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        let written = self.buffer.len() as u64;
        self.buffer.clear();
        Ok((self.pace)(written)?)
    }
}

/// The numbers of the data files, ascending.
fn data_files(vfs: &dyn Vfs, dir: &Path) -> vfs::Result<Vec<u32>> {
    let entries = match vfs.read_dir(dir) {
        Err(e) if e.is_not_found() => return Ok(Vec::new()),
        entries => entries?,
    };
    let number = |name: &str| name.strip_suffix(DATA_SUFFIX)?.parse().ok();
    let mut numbers: Vec<u32> = entries.iter().filter_map(|e| number(&e.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Bytes of the newest data file.
fn image_bytes(vfs: &dyn Vfs, dir: &Path) -> u64 {
    let Ok(files) = data_files(vfs, dir) else { return 0 };
    let len = files.last().and_then(|n| vfs.metadata(&data_path(dir, *n)).ok().flatten());
    len.map_or(0, |m| m.len)
}

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod tests;
