//! A file of checksummed records that only grows, until it is replaced as a whole.
//!
//! A head of 24 bytes: the magic, the time of the last beat, its checksum, four zero bytes. Then records: length, CRC-32C,
//! payload; numbers are little-endian. The beat is the only thing that is ever overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_vfs::{Vfs, VfsError, VfsFile, create_dir_all, parent, read_file, write_file_atomic};

const MAGIC: &[u8; 8] = b"FKALERT1";
const HEAD_BYTES: usize = 24;
/// Length and checksum before each payload.
const FRAME_BYTES: usize = 8;

/// Longest record.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// Longest file that is read. Files are written anew long before.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// A record that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The open file.
#[derive(Debug)]
pub(crate) struct Log {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    /// `None` as long as it could not be made.
    file: Option<Box<dyn VfsFile>>,
    len: u64,
    /// Whether something was written that may not survive a power cut.
    dirty: bool,
}

/// What opening found.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: Log,
    /// Time of the last beat, ms.
    pub(crate) beat_ms: Option<i64>,
    /// What is wrong with the file. It was set aside then, and the log is to be replaced by what was read.
    pub(crate) damage: Option<String>,
}

/// Adds one record to `out`; `payload` writes it.
pub(crate) fn put_frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    payload(out);
    let written = &out[start + FRAME_BYTES..];
    let (len, crc) = ((written.len() as u32).to_le_bytes(), crc32c::crc32c(written).to_le_bytes());
    out[start..start + 4].copy_from_slice(&len);
    out[start + 4..start + FRAME_BYTES].copy_from_slice(&crc);
}

/// The head of a file.
pub(crate) fn head(beat_ms: i64) -> Vec<u8> {
    let beat = beat_ms.to_le_bytes();
    [&MAGIC[..], &beat, &crc32c::crc32c(&beat).to_le_bytes(), &[0; 4]].concat()
}

fn le_u32(bytes: &[u8]) -> Option<usize> {
    bytes.get(..4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
}

/// Gives every good record of a file to `take`; the beat, and what is wrong.
pub(crate) fn replay(
    bytes: &[u8],
    take: &mut dyn FnMut(&[u8]) -> Result<(), Malformed>,
) -> (Option<i64>, Option<String>) {
    if bytes.len() < HEAD_BYTES || &bytes[..8] != MAGIC {
        return (None, Some("it does not begin as it should".to_owned()));
    }
    let mut beat = [0; 8];
    beat.copy_from_slice(&bytes[8..16]);
    let beat_ms = (le_u32(&bytes[16..]) == Some(crc32c::crc32c(&beat) as usize)).then(|| i64::from_le_bytes(beat));
    let (mut at, mut damage) = (HEAD_BYTES, None);
    while at < bytes.len() {
        let mut note = |what: &str| damage.get_or_insert_with(|| format!("at offset {at}: {what}")).len();
        let lens = (le_u32(&bytes[at..]), bytes.get(at + 4..).and_then(le_u32));
        let payload = match lens {
            (Some(len @ 1..=RECORD_BYTES_MAX), Some(crc)) => {
                bytes.get(at + FRAME_BYTES..at + FRAME_BYTES + len).map(|payload| (payload, crc))
            }
            _ => None,
        };
        let Some((payload, crc)) = payload else {
            note("a record is cut short");
            break;
        };
        if crc32c::crc32c(payload) as usize != crc {
            note("a checksum is wrong");
        } else if let Err(Malformed(what)) = take(payload) {
            note(what);
        }
        at += FRAME_BYTES + payload.len();
    }
    (beat_ms, damage)
}

impl Log {
    /// Opens the file `path` and gives its records to `take`. A file that cannot be read, or that is damaged, is set aside.
    pub(crate) fn open(vfs: Arc<dyn Vfs>, path: &Path, take: &mut dyn FnMut(&[u8]) -> Result<(), Malformed>) -> Opened {
        let mut log = Log { vfs, path: path.to_owned(), file: None, len: 0, dirty: false };
        if let Err(error) = create_dir_all(&*log.vfs, parent(path)) {
            return Opened { log, beat_ms: None, damage: Some(error.to_string()) };
        }
        let bytes = match read_file(&*log.vfs, path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Opened { beat_ms: None, damage: Some(log.set_aside(error.to_string())), log },
        };
        if bytes.is_empty() {
            // Made by the first write.
            return Opened { log, beat_ms: None, damage: None };
        }
        let (beat_ms, damage) = replay(&bytes, take);
        let damage = damage.map(|what| log.set_aside(what));
        if damage.is_none() {
            log.file = log.vfs.open_rw(path).ok();
            log.len = bytes.len() as u64;
        }
        Opened { log, beat_ms, damage }
    }

    /// Moves the file out of the way; what to tell about it.
    fn set_aside(&self, what: String) -> String {
        let mut aside = self.path.as_os_str().to_owned();
        aside.push(".damaged");
        match self.vfs.rename(&self.path, Path::new(&aside)) {
            Ok(()) => format!("{what}; kept as {}", Path::new(&aside).display()),
            Err(error) => format!("{what}; {error}"),
        }
    }

    /// Its length, bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is a file to write to.
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds records, with one write. What a write that failed has left is overwritten by the next.
    pub(crate) fn append(&mut self, frames: &[u8]) -> Result<(), VfsError> {
        let Some(file) = &self.file else {
            return Err(VfsError::new("write", &self.path, std::io::ErrorKind::NotConnected.into()));
        };
        file.write_at(frames, self.len)?;
        self.len += frames.len() as u64;
        self.dirty = true;
        Ok(())
    }

    /// Notes that the server lives. Not worth a sync of its own.
    pub(crate) fn beat(&mut self, now_ms: i64) -> Result<(), VfsError> {
        let head = head(now_ms);
        self.file.as_ref().map_or(Ok(()), |file| file.write_at(&head[8..20], 8))
    }

    /// Makes everything survive a power cut.
    pub(crate) fn sync(&mut self) -> Result<(), VfsError> {
        if std::mem::take(&mut self.dirty)
            && let Some(file) = &self.file
        {
            file.sync_data()?;
        }
        Ok(())
    }

    /// Replaces the file as a whole: head and records.
    pub(crate) fn replace(&mut self, bytes: &[u8]) -> Result<(), VfsError> {
        // Until this has succeeded the old file must not take records that the new one lacks.
        self.file = None;
        create_dir_all(&*self.vfs, parent(&self.path))?;
        write_file_atomic(&*self.vfs, &self.path, bytes)?;
        self.file = Some(self.vfs.open_rw(&self.path)?);
        self.len = bytes.len() as u64;
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fk_vfs::sim::SimVfs;
    use proptest::prelude::*;

    use super::*;

    fn read(vfs: &Arc<SimVfs>) -> (Vec<Vec<u8>>, Opened) {
        let mut records = Vec::new();
        let take = &mut |payload: &[u8]| {
            records.push(payload.to_vec());
            Ok(())
        };
        let opened = Log::open(vfs.clone(), Path::new("/d/log"), take);
        (records, opened)
    }

    fn written(records: &[Vec<u8>]) -> Arc<SimVfs> {
        let vfs = Arc::new(SimVfs::new(1));
        let mut log = read(&vfs).1.log;
        log.replace(&head(7)).unwrap();
        for record in records {
            let mut frame = Vec::new();
            put_frame(&mut frame, |out| out.extend_from_slice(record));
            log.append(&frame).unwrap();
        }
        vfs
    }

    proptest! {
        #[test]
        fn a_damaged_byte_costs_one_record_or_what_is_behind_it(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..6),
            at in any::<prop::sample::Index>(),
            flip in 1u8..=255,
        ) {
            let vfs = written(&records);
            let (got, opened) = read(&vfs);
            prop_assert_eq!(&got, &records);
            prop_assert_eq!((opened.beat_ms, opened.damage), (Some(7), None));
            let mut bytes = vfs.get(Path::new("/d/log")).unwrap();
            let at = at.index(bytes.len());
            // The four bytes that say nothing.
            prop_assume!(!(20..24).contains(&at));
            bytes[at] ^= flip;
            vfs.put(Path::new("/d/log"), &bytes);
            let (got, opened) = read(&vfs);
            if (8..20).contains(&at) {
                prop_assert_eq!((got, opened.beat_ms), (records, None));
            } else {
                prop_assert!(opened.damage.is_some() && !opened.log.is_open());
                prop_assert!(got.iter().all(|record| records.contains(record)) && got.len() < records.len() + usize::from(at >= 24));
                prop_assert_eq!(vfs.get(Path::new("/d/log.damaged")), Some(bytes));
            }
        }

        #[test]
        fn a_cut_file_keeps_what_is_whole(cut in 0usize..60) {
            let records = vec![vec![1; 10], vec![2; 10]];
            let vfs = written(&records);
            let bytes = vfs.get(Path::new("/d/log")).unwrap();
            vfs.put(Path::new("/d/log"), &bytes[..cut]);
            let whole = cut.saturating_sub(24) / 18;
            prop_assert_eq!(read(&vfs).0, &records[..whole]);
        }
    }
}
