//! Chunk segments: the files in `chunks/` (`docs/format/chunks_segments.md`).
//!
//! ```text
//! ┌──────────────────────────┬──────────────┬─────────────┐
//! │ magic 0x85BD40DD <4b>    │ version <1b> │ zeros <3b>  │
//! ├──────────────────────────┴──────────────┴─────────────┤
//! │ length <uvarint> │ encoding <1b> │ data <length> │ CRC-32C of encoding and data <4b> │ ...
//! ```
//!
//! A chunk is referred to by its segment (file 000001 is 0) in the upper 32 bits and its offset in the lower ones.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fk_chunk::Encoding;
use fk_storage::StorageError;
use fk_vfs::Vfs;

use crate::codec::{CRC_BYTES, Cursor, Fault, VARINT_BYTES_MAX, check_crc, put_uvarint};
use crate::sequential::Sequential;

/// Name of the directory.
pub(crate) const CHUNKS_DIR: &str = "chunks";

const MAGIC: u32 = 0x85BD_40DD;
const VERSION: u8 = 1;

/// Bytes in front of the first chunk.
pub(crate) const HEADER_BYTES: usize = 8;

/// The segments of a block, mapped.
#[derive(Debug)]
pub(crate) struct Segments {
    /// By number, from 0.
    files: Vec<(PathBuf, Bytes)>,
}

impl Segments {
    /// Opens the segments of the block in `dir`.
    pub fn open(vfs: &dyn Vfs, dir: &Path) -> Result<Segments, StorageError> {
        let dir = dir.join(CHUNKS_DIR);
        let mut files = Vec::new();
        for entry in vfs.read_dir(&dir)? {
            let Ok(number) = entry.name.parse::<u32>() else { continue };
            let path = dir.join(&entry.name);
            // A gap would shift all segments behind it, and their chunks would be taken for those of other series.
            if number as usize != files.len() + 1 {
                let reason = format!("segment {} is missing", files.len() + 1);
                return Err(Fault::new(0, reason).of(&path));
            }
            let file = vfs.map(&path)?;
            check_header(&file).map_err(|fault| fault.of(&path))?;
            files.push((path, file));
        }
        Ok(Segments { files })
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|(_, file)| file.len() as u64).sum()
    }

    /// The chunk that `reference` refers to. Checks its checksum.
    pub fn chunk(&self, reference: u64) -> Result<(Encoding, &[u8]), StorageError> {
        let (number, offset) = ((reference >> 32) as usize, reference & 0xffff_ffff);
        let Some((path, file)) = self.files.get(number) else {
            let path = PathBuf::from(format!("{:06}", number + 1));
            let dir = self.files.first().and_then(|(path, _)| path.parent()).unwrap_or(Path::new(CHUNKS_DIR));
            return Err(Fault::new(offset, "no such segment").of(&dir.join(path)));
        };
        chunk_at(file, offset).map_err(|fault| fault.of(path))
    }

    /// The error that undecodable samples of a chunk are.
    #[cold]
    pub fn error(&self, reference: u64, reason: &fk_chunk::ChunkError) -> StorageError {
        let (number, offset) = ((reference >> 32) as usize, reference & 0xffff_ffff);
        let path = self.files.get(number).map_or(Path::new(CHUNKS_DIR), |(path, _)| path);
        Fault::new(offset, reason.to_string()).of(path)
    }
}

pub(crate) fn check_header(file: &[u8]) -> Result<(), Fault> {
    let mut cursor = Cursor::new(file, 0);
    let magic = cursor.u32()?;
    if magic != MAGIC {
        return Err(Fault::new(0, format!("invalid magic number {magic:x}")));
    }
    let version = cursor.byte()?;
    if version != VERSION {
        return Err(Fault::new(4, format!("invalid chunk format version {version}")));
    }
    cursor.take(HEADER_BYTES - cursor.position())?;
    Ok(())
}

/// The chunk at an offset of a segment.
fn chunk_at(file: &[u8], offset: u64) -> Result<(Encoding, &[u8]), Fault> {
    let start = offset as usize;
    if start < HEADER_BYTES || start >= file.len() {
        return Err(Fault::new(offset, "chunk outside of the segment"));
    }
    let mut cursor = Cursor::new(&file[start..], offset);
    let len = cursor.uvarint()?;
    let Ok(len) = usize::try_from(len) else { return Err(cursor.fault("length beyond the address space")) };
    let Some(with_encoding) = len.checked_add(1) else { return Err(cursor.fault("length beyond the address space")) };
    let body = cursor.take(with_encoding)?;
    check_crc(body, cursor.u32()?, offset)?;
    match Encoding::from_byte(body[0]) {
        Some(encoding) => Ok((encoding, &body[1..])),
        None => Err(Fault::new(offset, format!("unknown chunk encoding {}", body[0]))),
    }
}

/// For fuzzing: reads every chunk of a segment one after another, as far as that goes; says how many there were.
pub fn walk(file: &[u8], path: &Path) -> Result<usize, StorageError> {
    let mut n = 0;
    let mut read = || -> Result<(), Fault> {
        check_header(file)?;
        let mut at = HEADER_BYTES;
        while at < file.len() {
            let (_, data) = chunk_at(file, at as u64)?;
            let mut len = Vec::with_capacity(VARINT_BYTES_MAX);
            put_uvarint(&mut len, data.len() as u64);
            at += len.len() + 1 + data.len() + CRC_BYTES;
            n += 1;
        }
        Ok(())
    };
    read().map_err(|fault| fault.of(path))?;
    Ok(n)
}

/// Writes segments.
#[derive(Debug)]
pub(crate) struct SegmentWriter<'a> {
    vfs: &'a dyn Vfs,
    dir: PathBuf,
    segment_bytes_max: u64,
    file: Option<Sequential>,
    /// How many segments have been begun: the number of the open one.
    number: u32,
    /// Bytes of the segments that are complete.
    complete_bytes: u64,
}

impl<'a> SegmentWriter<'a> {
    /// Makes the directory in the block's directory `dir`.
    pub fn create(vfs: &'a dyn Vfs, dir: &Path, segment_bytes_max: u64) -> Result<SegmentWriter<'a>, StorageError> {
        let dir = dir.join(CHUNKS_DIR);
        vfs.create_dir(&dir)?;
        // An offset has 32 bits, whatever the size asked for.
        let segment_bytes_max = segment_bytes_max.min(u64::from(u32::MAX));
        Ok(SegmentWriter { vfs, dir, segment_bytes_max, file: None, number: 0, complete_bytes: 0 })
    }

    /// Bytes so far.
    pub fn position(&self) -> u64 {
        self.complete_bytes + self.file.as_ref().map_or(0, Sequential::position)
    }

    /// Writes a chunk; says its reference.
    pub fn push(&mut self, encoding: Encoding, data: &[u8]) -> Result<u64, StorageError> {
        let size_max = (VARINT_BYTES_MAX + 1 + data.len() + CRC_BYTES) as u64;
        let fits = |file: &Sequential| {
            file.position() == HEADER_BYTES as u64 || file.position() + size_max <= self.segment_bytes_max
        };
        let file = match &mut self.file {
            Some(file) if fits(file) => file,
            _ => {
                self.end_segment()?;
                self.number += 1;
                let file = Sequential::create(self.vfs, &self.dir.join(format!("{:06}", self.number)))?;
                let file = self.file.insert(file);
                let [a, b, c, d] = MAGIC.to_be_bytes();
                file.write(&[a, b, c, d, VERSION, 0, 0, 0])?;
                file
            }
        };
        let reference = u64::from(self.number - 1) << 32 | file.position();
        file.push(|buffer| {
            put_uvarint(buffer, data.len() as u64);
            let start = buffer.len();
            buffer.push(encoding.byte());
            buffer.extend_from_slice(data);
            let crc = crc32c::crc32c(&buffer[start..]);
            buffer.extend_from_slice(&crc.to_be_bytes());
        })?;
        Ok(reference)
    }

    fn end_segment(&mut self) -> Result<(), StorageError> {
        if let Some(file) = self.file.take() {
            self.complete_bytes += file.position();
            file.finish()?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub fn finish(mut self) -> Result<(), StorageError> {
        self.end_segment()?;
        Ok(self.vfs.sync_dir(&self.dir)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fk_vfs::sim::SimVfs;
    use proptest::prelude::*;

    fn write(vfs: &SimVfs, segment_bytes_max: u64, chunks: &[Vec<u8>]) -> Vec<u64> {
        fk_vfs::create_dir_all(vfs, Path::new("/b")).expect("directory");
        let mut writer = SegmentWriter::create(vfs, Path::new("/b"), segment_bytes_max).expect("writer");
        let refs = chunks.iter().map(|data| writer.push(Encoding::Xor, data).expect("push")).collect();
        writer.finish().expect("finish");
        refs
    }

    proptest! {
        #[test]
        fn chunks_come_back_from_several_segments(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..40),
            segment_bytes_max in 0u64..2000,
        ) {
            let vfs = SimVfs::new(1);
            let refs = write(&vfs, segment_bytes_max, &chunks);
            let segments = Segments::open(&vfs, Path::new("/b")).expect("open");
            for (reference, data) in refs.iter().zip(&chunks) {
                prop_assert_eq!(segments.chunk(*reference).expect("chunk"), (Encoding::Xor, data.as_slice()));
            }
            prop_assert!(refs.is_sorted());
            for (path, file) in &segments.files {
                prop_assert!(walk(file, path).expect("walk") > 0);
            }
        }
    }

    #[test]
    fn damage_is_an_error_of_the_chunk() {
        let vfs = SimVfs::new(1);
        let chunks = [b"first".to_vec(), b"second".to_vec()];
        let refs = write(&vfs, 1 << 20, &chunks);
        let path = Path::new("/b/chunks/000001");
        let good = vfs.get(path).expect("file");
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 0x10;
            vfs.put(path, &damaged);
            match Segments::open(&vfs, Path::new("/b")) {
                Ok(segments) => {
                    // The three bytes behind the version mean nothing.
                    let lost = refs.iter().filter(|r| segments.chunk(**r).is_err()).count();
                    assert_eq!(lost, usize::from(at >= HEADER_BYTES), "byte {at}");
                }
                Err(StorageError::Corrupt { path, .. }) => assert!(at < 5 && path.ends_with("000001")),
                Err(e) => panic!("{e}"),
            }
            vfs.put(path, &good[..at]);
            if let Ok(segments) = Segments::open(&vfs, Path::new("/b")) {
                assert!(segments.chunk(refs[1]).is_err(), "cut at {at}");
            }
        }
        assert!(chunk_at(&good, u64::MAX).is_err());
    }

    #[test]
    fn a_missing_segment_is_an_error() {
        let vfs = SimVfs::new(1);
        write(&vfs, 0, &[vec![1], vec![2], vec![3]]);
        let segments = Segments::open(&vfs, Path::new("/b")).expect("open");
        assert!(
            matches!(segments.chunk(3 << 32 | 8), Err(StorageError::Corrupt { path, .. }) if path.ends_with("000004"))
        );
        vfs.remove_file(Path::new("/b/chunks/000002")).expect("remove");
        let error = Segments::open(&vfs, Path::new("/b")).expect_err("gap");
        assert!(error.to_string().contains("segment 2 is missing"), "{error}");
    }
}
