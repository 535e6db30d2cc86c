//! Compression of records.

use super::page::{SNAPPY, ZSTD};

/// Most bytes of a record, compressed or not: twice the size of a usual segment.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// Snappy makes at most about 21 bytes out of one (copies of 64 bytes take three); a header that claims more lies.
const SNAPPY_RATIO_MAX: usize = 22;

/// How much is allocated for a zstd record of unknown or unlikely size before it has shown to need more.
const ZSTD_FIRST_RATIO: usize = 16;

/// The zstd level: the fastest ordinary one.
const ZSTD_LEVEL: i32 = 1;

/// How records are compressed, each for itself. One that does not become smaller is written as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Snappy, block format: what Prometheus does by default.
    #[default]
    Snappy,
    /// Zstd: smaller and slower. Prometheus before 2.46 cannot read it.
    Zstd,
}

/// Why a record could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record cannot be decompressed")]
pub struct DecompressError;

/// Compresses records; keeps its tables.
pub struct Compressor {
    compression: Compression,
    snappy: snap::raw::Encoder,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// For one way of compression.
    pub fn new(compression: Compression) -> Compressor {
        Compressor { compression, snappy: snap::raw::Encoder::new(), zstd: None }
    }

    /// Writes the compressed record into `out` from `start` on, over what is there. Returns the flag of the compression and where
    /// the record ends; flag 0 if it would not be smaller, and then nothing of it is meant. `out` grows as needed and is never
    /// cut, so that its memory need not be zeroed again for the next record.
    pub fn compress(&mut self, record: &[u8], out: &mut Vec<u8>, start: usize) -> (u8, usize) {
        let room = |out: &mut Vec<u8>, bytes: usize| {
            if out.len() < start + bytes {
                out.resize(start + bytes, 0);
            }
        };
        let (flag, len) = match self.compression {
            Compression::None => return (0, start),
            Compression::Snappy => {
                room(out, snap::raw::max_compress_len(record.len()));
                (SNAPPY, self.snappy.compress(record, &mut out[start..]).ok())
            }
            Compression::Zstd => {
                // What does not fit would not be smaller either; then the compressor reports an error.
                room(out, record.len());
                (ZSTD, self.zstd(record, &mut out[start..start + record.len()]))
            }
        };
        match len {
            Some(len) if len < record.len() => (flag, start + len),
            _ => (0, start),
        }
    }

    fn zstd(&mut self, record: &[u8], out: &mut [u8]) -> Option<usize> {
        if self.zstd.is_none() {
            self.zstd = Some(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?);
        }
        self.zstd.as_mut()?.compress_to_buffer(record, out).ok()
    }
}

/// Decompresses records into one buffer that it reuses.
#[derive(Default)]
pub struct Decompressor {
    snappy: snap::raw::Decoder,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    out: Vec<u8>,
}

impl Decompressor {
    /// The record behind `payload`. With both flags set snappy counts, as in Prometheus.
    pub fn decompress<'a>(&'a mut self, flags: u8, payload: &'a [u8]) -> Result<&'a [u8], DecompressError> {
        if flags & SNAPPY != 0 {
            let len = snap::raw::decompress_len(payload).map_err(|_| DecompressError)?;
            if len > RECORD_BYTES_MAX || len > payload.len().saturating_mul(SNAPPY_RATIO_MAX) {
                return Err(DecompressError);
            }
            if self.out.len() < len {
                self.out.resize(len, 0);
            }
            let len = self.snappy.decompress(payload, &mut self.out).map_err(|_| DecompressError)?;
            Ok(&self.out[..len])
        } else if flags & ZSTD != 0 {
            self.decompress_zstd(payload)
        } else {
            Ok(payload)
        }
    }

    fn decompress_zstd(&mut self, payload: &[u8]) -> Result<&[u8], DecompressError> {
        let claimed = zstd::zstd_safe::get_frame_content_size(payload).map_err(|_| DecompressError)?;
        let max = claimed.map_or(RECORD_BYTES_MAX, |size| usize::try_from(size).unwrap_or(usize::MAX));
        if max > RECORD_BYTES_MAX {
            return Err(DecompressError);
        }
        if self.zstd.is_none() {
            self.zstd = Some(zstd::bulk::Decompressor::new().map_err(|_| DecompressError)?);
        }
        let zstd = self.zstd.as_mut().ok_or(DecompressError)?;
        // A claim is believed only step by step: each step decompresses again, and few records need a second one.
        let mut capacity = max.min(payload.len().saturating_mul(ZSTD_FIRST_RATIO));
        loop {
            if self.out.len() < capacity {
                self.out.resize(capacity, 0);
            }
            match zstd.decompress_to_buffer(payload, &mut self.out[..capacity]) {
                Ok(len) => return Ok(&self.out[..len]),
                Err(_) if capacity < max => capacity = max.min(capacity.saturating_mul(8)),
                Err(_) => return Err(DecompressError),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(compression: Compression, record: &[u8], flag: u8) {
        // Fresh memory, and memory that has held more.
        for more in [0, 2 * record.len() + 100] {
            let mut out = [b"before".as_slice(), &vec![0xff; more]].concat();
            let (found, end) = Compressor::new(compression).compress(record, &mut out, 6);
            assert_eq!(found, flag, "{compression:?}, {} bytes", record.len());
            let payload = if flag == 0 { record } else { &out[6..end] };
            assert!(flag == 0 || payload.len() < record.len());
            assert!(out.starts_with(b"before") && (flag != 0 || end == 6));
            assert_eq!(Decompressor::default().decompress(flag, payload), Ok(record));
        }
    }

    #[test]
    fn records_are_compressed_if_that_makes_them_smaller() {
        let noise: Vec<u8> =
            (0..1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ ((i * i) >> 3) as u8).collect();
        for record in [b"".to_vec(), b"abc".to_vec(), vec![7; 100_000], vec![0; 5_000_000], noise] {
            check(Compression::None, &record, 0);
        }
        for (compression, flag) in [(Compression::Snappy, SNAPPY), (Compression::Zstd, ZSTD)] {
            check(compression, b"", 0);
            check(compression, b"abc", 0);
            check(compression, &[7; 100_000], flag);
            check(compression, &[0; 5_000_000], flag);
            check(compression, &b"some text, some text, some text, some text".repeat(9), flag);
        }
    }

    #[test]
    fn claims_of_size_are_not_believed() {
        let mut decompressor = Decompressor::default();
        // 200 MiB, then 2^40 bytes, claimed by a few.
        assert_eq!(decompressor.decompress(SNAPPY, &[0x80, 0x80, 0x80, 0x64, 0, 1]), Err(DecompressError));
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(decompressor.decompress(ZSTD, &zstd), Err(DecompressError));
        assert!(decompressor.out.capacity() < 1 << 20);
        assert_eq!(decompressor.decompress(ZSTD, b"no frame"), Err(DecompressError));
    }
}
