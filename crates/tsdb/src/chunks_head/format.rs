//! The bytes of a file of head chunks; see `docs/format/head_chunks.md`.

use fk_chunk::Encoding;

/// The first four bytes of a file.
pub const MAGIC: u32 = 0x0130_bc91;

/// The byte behind the magic number.
pub const VERSION: u8 = 1;

/// Magic number, version, three zero bytes.
pub const HEADER_BYTES: usize = 8;

/// No file is longer.
pub const FILE_BYTES_MAX: u64 = 128 << 20;

/// Series, first time, last time, encoding.
const FIXED_BYTES: usize = 8 + 8 + 8 + 1;

/// Bytes of the length, at most.
const LEN_BYTES_MAX: usize = 5;

const CRC_BYTES: usize = 4;

/// What a record takes beside the chunk, at most.
pub const RECORD_OVERHEAD_MAX: usize = FIXED_BYTES + LEN_BYTES_MAX + CRC_BYTES;

/// Set in the byte of the encoding for a chunk of out-of-order samples.
const OUT_OF_ORDER: u8 = 0x80;

/// One chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkRecord<'a> {
    /// The series' reference in the log.
    pub reference: u64,
    /// Time of the first sample, ms.
    pub mint: i64,
    /// Time of the last sample, ms.
    pub maxt: i64,
    /// How the chunk is encoded.
    pub encoding: Encoding,
    /// Whether its samples came out of order. Firekeeper writes no such chunks here, Prometheus does.
    pub out_of_order: bool,
    /// The chunk.
    pub data: &'a [u8],
}

/// Why bytes are not a file of head chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not even a header.
    #[error("file is shorter than its header")]
    NoHeader,
    /// Another kind of file.
    #[error("invalid magic number {0:x}")]
    Magic(u32),
    /// A version that is not known.
    #[error("invalid chunk format version {0}")]
    Version(u8),
    /// The file ends within a record.
    #[error("head chunk ends behind the end of the file")]
    Truncated,
    /// No writer makes such a length.
    #[error("invalid length of a head chunk")]
    Length,
    /// Bytes have changed.
    #[error("checksum mismatch expected:{expected:x}, actual:{actual:x}")]
    Checksum {
        /// In the file.
        expected: u32,
        /// Of the bytes.
        actual: u32,
    },
    /// A chunk of a kind that is not known.
    #[error("invalid chunk encoding {0}")]
    Encoding(u8),
    /// A chunk of another series than the one that was asked for.
    #[error("head chunk of series {found}, not {expected}")]
    OtherSeries {
        /// In the file.
        found: u64,
        /// Asked for.
        expected: u64,
    },
}

/// The header of a file.
pub fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4] = VERSION;
    header
}

/// Checks the header of a file.
pub fn check_header(file: &[u8]) -> Result<(), FormatError> {
    let Some(header) = file.first_chunk::<HEADER_BYTES>() else { return Err(FormatError::NoHeader) };
    match u32::from_be_bytes(*header.first_chunk().expect("8 bytes")) {
        MAGIC => {}
        other => return Err(FormatError::Magic(other)),
    }
    match header[4] {
        VERSION => Ok(()),
        other => Err(FormatError::Version(other)),
    }
}

/// Appends a record to `out`.
pub fn put_record(out: &mut Vec<u8>, record: &ChunkRecord<'_>) {
    let start = out.len();
    out.extend_from_slice(&record.reference.to_be_bytes());
    out.extend_from_slice(&record.mint.to_be_bytes());
    out.extend_from_slice(&record.maxt.to_be_bytes());
    out.push(record.encoding.byte() | if record.out_of_order { OUT_OF_ORDER } else { 0 });
    let mut len = record.data.len() as u32;
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(record.data);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// How many bytes the record that begins with `bytes` takes, as far as its beginning tells.
pub fn record_len(bytes: &[u8]) -> Result<usize, FormatError> {
    let (mut len, mut shift, mut at) = (0u64, 0, FIXED_BYTES);
    loop {
        let byte = *bytes.get(at).ok_or(FormatError::Truncated)?;
        at += 1;
        len |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
        if shift >= 7 * LEN_BYTES_MAX as u32 {
            return Err(FormatError::Length);
        }
    }
    match len <= FILE_BYTES_MAX {
        true => Ok(at + len as usize + CRC_BYTES),
        false => Err(FormatError::Length),
    }
}

/// The record that `bytes` begin with, checked, and how many bytes it takes.
pub fn take_record(bytes: &[u8]) -> Result<(ChunkRecord<'_>, usize), FormatError> {
    let len = record_len(bytes)?;
    let record = bytes.get(..len).ok_or(FormatError::Truncated)?;
    let (body, crc) = record.split_last_chunk::<CRC_BYTES>().ok_or(FormatError::Truncated)?;
    let (expected, actual) = (u32::from_be_bytes(*crc), crc32c::crc32c(body));
    if expected != actual {
        return Err(FormatError::Checksum { expected, actual });
    }
    let u64_at = |at: usize| u64::from_be_bytes(*body[at..].first_chunk().expect("a whole record"));
    let data = &body[FIXED_BYTES..];
    let len_bytes = data.iter().position(|b| *b < 0x80).expect("the length has been read") + 1;
    let encoding = body[FIXED_BYTES - 1];
    Ok((
        ChunkRecord {
            reference: u64_at(0),
            mint: u64_at(8) as i64,
            maxt: u64_at(16) as i64,
            encoding: Encoding::from_byte(encoding & !OUT_OF_ORDER)
                .ok_or(FormatError::Encoding(encoding & !OUT_OF_ORDER))?,
            out_of_order: encoding & OUT_OF_ORDER != 0,
            data: &data[len_bytes..],
        },
        len,
    ))
}

/// Calls `each` with the offset and the contents of every record of a file, until it returns `false` or the file ends. Zero
/// bytes up to the end are room that was reserved and not used. An error comes with the offset of the damage.
pub fn walk(file: &[u8], mut each: impl FnMut(usize, ChunkRecord<'_>) -> bool) -> Result<(), (usize, FormatError)> {
    check_header(file).map_err(|e| (0, e))?;
    let mut at = HEADER_BYTES;
    while at < file.len() {
        match take_record(&file[at..]) {
            Ok((record, len)) => {
                if !each(at, record) {
                    return Ok(());
                }
                at += len;
            }
            Err(_) if file[at..].iter().all(|b| *b == 0) => return Ok(()),
            Err(e) => return Err((at, e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = (u64, i64, i64, u8, bool, Vec<u8>)> {
        (any::<u64>(), any::<i64>(), any::<i64>(), 1u8..4, any::<bool>(), prop::collection::vec(any::<u8>(), 0..400))
    }

    fn record<'a>(
        (reference, mint, maxt, encoding, out_of_order, data): &'a (u64, i64, i64, u8, bool, Vec<u8>),
    ) -> ChunkRecord<'a> {
        let encoding = Encoding::from_byte(*encoding).unwrap();
        ChunkRecord { reference: *reference, mint: *mint, maxt: *maxt, encoding, out_of_order: *out_of_order, data }
    }

    proptest! {
        #[test]
        fn records_come_back_and_damage_is_noticed(
            records in prop::collection::vec(any_record(), 0..6),
            zeros in 0usize..50,
            cut in any::<prop::sample::Index>(),
            flip in (any::<prop::sample::Index>(), 0u8..8),
        ) {
            let mut file = header().to_vec();
            records.iter().for_each(|r| put_record(&mut file, &record(r)));
            let whole = file.len();
            file.resize(whole + zeros, 0);
            let mut n = 0;
            walk(&file, |_, found| {
                assert_eq!(found, record(&records[n]));
                n += 1;
                true
            }).unwrap();
            prop_assert_eq!(n, records.len());

            // Cut or changed anywhere, what is found is a beginning of what was there.
            let check = |file: &[u8]| {
                let mut n = 0;
                let result = walk(file, |_, found| {
                    assert_eq!(found, record(&records[n]));
                    n += 1;
                    true
                });
                (result.is_ok(), n)
            };
            check(&file[..cut.index(whole)]);
            let (at, bit) = (flip.0.index(whole), flip.1);
            file[at] ^= 1 << bit;
            let (ok, n) = check(&file);
            // Nobody looks at the three bytes behind the version.
            prop_assert!(!ok || (5..8).contains(&at), "flip at {at} was not noticed, {n} records");
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut file = header().to_vec();
            file.extend_from_slice(&bytes);
            let _ = walk(&file, |_, _| true);
            let _ = walk(&bytes, |_, _| true);
        }
    }

    #[test]
    fn the_bytes_are_those_of_prometheus() {
        let mut out = Vec::new();
        let data = [0, 1, 2];
        put_record(
            &mut out,
            &ChunkRecord {
                reference: 0x0102,
                mint: 5,
                maxt: -1,
                encoding: Encoding::Xor,
                out_of_order: true,
                data: &data,
            },
        );
        let mut expected = vec![0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 5];
        expected.extend([0xff; 8]);
        expected.extend([0x81, 3, 0, 1, 2]);
        expected.extend(crc32c::crc32c(&expected).to_be_bytes());
        assert_eq!(out, expected);
        assert_eq!(header(), [0x01, 0x30, 0xbc, 0x91, 1, 0, 0, 0]);
    }

    #[test]
    fn a_length_beyond_reason_is_refused() {
        let mut bytes = vec![0; FIXED_BYTES];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(take_record(&bytes), Err(FormatError::Length));
        bytes.truncate(FIXED_BYTES);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(take_record(&bytes), Err(FormatError::Length));
    }
}
