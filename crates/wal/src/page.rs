//! Pages and fragments: how records lie in a segment. See `docs/format/wal.md`.

/// Size of a page. Only the last page of a segment may be shorter.
pub const PAGE_BYTES: usize = 32 * 1024;

/// Size of what stands before each fragment: type, length, checksum.
pub const HEADER_BYTES: usize = 1 + 2 + 4;

/// Set in a fragment's type if the record is compressed with snappy (block format).
pub const SNAPPY: u8 = 0x08;

/// Set in a fragment's type if the record is compressed with zstd.
pub const ZSTD: u8 = 0x10;

/// The part of a fragment's type that says how the record is compressed. The three bits above are unused.
pub const COMPRESSION_MASK: u8 = SNAPPY | ZSTD;

/// The part of a fragment's type that is a [`Part`].
const PART_MASK: u8 = 0x07;

/// Which part of a record a fragment is. 0 instead of one of these means that the rest of the page is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Full = 1,
    /// The start; reaches to the end of the page.
    First = 2,
    /// Neither start nor end; fills a page.
    Middle = 3,
    /// The end; begins a page.
    Last = 4,
}

impl Part {
    /// The part in the type byte of a fragment.
    pub fn of(type_byte: u8) -> Option<Part> {
        match type_byte & PART_MASK {
            1 => Some(Part::Full),
            2 => Some(Part::First),
            3 => Some(Part::Middle),
            4 => Some(Part::Last),
            _ => None,
        }
    }
}

/// Appends the fragments of a record to `out`, whose end lies `in_page` bytes after the start of a page. `crc` is the
/// checksum of all of `payload`: most records are one fragment, and then it is not computed again. Returns where in its
/// page the end of `out` lies now, and the number of fragments.
pub fn lay_out(payload: &[u8], compression: u8, crc: u32, mut in_page: usize, out: &mut Vec<u8>) -> (usize, u64) {
    let mut rest = payload;
    let mut fragments = 0;
    loop {
        let room = PAGE_BYTES - in_page - HEADER_BYTES;
        let (data, after) = rest.split_at(rest.len().min(room));
        let part = match (fragments == 0, after.is_empty()) {
            (true, true) => Part::Full,
            (true, false) => Part::First,
            (false, false) => Part::Middle,
            (false, true) => Part::Last,
        };
        let crc = if part == Part::Full { crc } else { crc32c::crc32c(data) };
        out.push(part as u8 | compression);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(data);
        fragments += 1;
        in_page += HEADER_BYTES + data.len();
        // A page without room for another header is finished at once, so that the next fragment begins a page.
        if PAGE_BYTES - in_page < HEADER_BYTES {
            out.resize(out.len() + PAGE_BYTES - in_page, 0);
            in_page = 0;
        }
        if after.is_empty() {
            return (in_page, fragments);
        }
        rest = after;
    }
}

/// Lays out once more, from the start of a page, the records in `bytes`, which [`lay_out`] wrote from `in_page` on.
pub fn lay_out_again(bytes: &[u8], mut in_page: usize, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    let mut rest = bytes;
    let mut out_in_page = 0;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let len = u16::from_be_bytes([header[1], header[2]]) as usize;
        let Some((data, after)) = after.split_at_checked(len) else { break };
        payload.extend_from_slice(data);
        in_page += HEADER_BYTES + len;
        rest = after;
        if PAGE_BYTES - in_page < HEADER_BYTES {
            rest = rest.get(PAGE_BYTES - in_page..).unwrap_or_default();
            in_page = 0;
        }
        if matches!(Part::of(header[0]), Some(Part::Full | Part::Last)) {
            let crc = crc32c::crc32c(&payload);
            (out_in_page, _) = lay_out(&payload, header[0] & COMPRESSION_MASK, crc, out_in_page, out);
            payload.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_in_one_fragment_has_these_bytes() {
        let mut out = Vec::new();
        let payload = b"123456789";
        let (in_page, fragments) = lay_out(payload, SNAPPY, crc32c::crc32c(payload), 0, &mut out);
        // 0xe3069283 is the check value of CRC-32C.
        assert_eq!(out, [[0x09, 0, 9, 0xe3, 0x06, 0x92, 0x83].as_slice(), payload].concat());
        assert_eq!((in_page, fragments), (16, 1));
    }

    #[test]
    fn records_are_split_at_page_borders() {
        // (offset in page, length of the record) -> fragments as (type, length), offset in page afterwards
        type Case<'a> = (usize, usize, &'a [(u8, usize)], usize);
        let room = PAGE_BYTES - HEADER_BYTES;
        let cases: &[Case] = &[
            (0, 0, &[(1, 0)], 7),
            (0, 1, &[(1, 1)], 8),
            (0, room - 7, &[(1, room - 7)], PAGE_BYTES - 7),
            (0, room - 6, &[(1, room - 6)], 0),
            (0, room, &[(1, room)], 0),
            (0, room + 1, &[(2, room), (4, 1)], 8),
            (PAGE_BYTES - 7, 3, &[(2, 0), (4, 3)], 10),
            (PAGE_BYTES - 8, 3, &[(2, 1), (4, 2)], 9),
            (10, 2 * room, &[(2, room - 10), (3, room), (4, 10)], 17),
            (0, 2 * room, &[(2, room), (4, room)], 0),
        ];
        for &(in_page, len, expected, after) in cases {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut out = Vec::new();
            let (end, fragments) = lay_out(&payload, 0, crc32c::crc32c(&payload), in_page, &mut out);
            let (mut found, mut at, mut joined) = (Vec::new(), 0, Vec::new());
            for _ in 0..fragments {
                let len = u16::from_be_bytes([out[at + 1], out[at + 2]]) as usize;
                let data = &out[at + 7..at + 7 + len];
                assert_eq!(out[at + 3..at + 7], crc32c::crc32c(data).to_be_bytes());
                joined.extend_from_slice(data);
                found.push((out[at], len));
                at += 7 + len;
            }
            assert_eq!((found.as_slice(), end), (expected, after), "{in_page} {len}");
            assert_eq!(joined, payload);
            assert_eq!((in_page + out.len()) % PAGE_BYTES, after);
            assert!(out[at..].len() < HEADER_BYTES && out[at..].iter().all(|b| *b == 0));
            let mut again = Vec::new();
            lay_out_again(&out, in_page, &mut again);
            let mut fresh = Vec::new();
            lay_out(&payload, 0, crc32c::crc32c(&payload), 0, &mut fresh);
            assert_eq!(again, fresh, "{in_page} {len}");
        }
    }
}
