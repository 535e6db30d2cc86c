//! Any bytes as the segments of a log: it is replayed, repaired, and then without damage and with the same records.
//!
//! The first byte says where the second segment begins. To let the fuzzer get past checksums, each stretch of the input
//! that is marked by two bytes 0xfa 0xce is written as a record, the rest as it is.
#![no_main]

use std::convert::Infallible;
use std::path::Path;

use fk_vfs::sim::SimVfs;
use fk_wal::page::{PAGE_BYTES, lay_out};
use fk_wal::{recover, replay, segment_path};
use libfuzzer_sys::fuzz_target;

fn segment(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((mark, after)) = rest.split_first_chunk::<5>() {
        if mark[..2] != [0xfa, 0xce] {
            out.push(rest[0]);
            rest = &rest[1..];
            continue;
        }
        // A record of the given length, repeated so that a short input can fill pages, and its compression flags.
        let (record, after) = after.split_at(after.len().min(mark[2] as usize));
        let record = record.repeat(1 + mark[3] as usize * 8);
        let in_page = out.len() % PAGE_BYTES;
        if PAGE_BYTES - in_page < 7 {
            out.resize(out.len() + PAGE_BYTES - in_page, 0);
        }
        lay_out(&record, mark[4] & 0x18, crc32c::crc32c(&record), out.len() % PAGE_BYTES, &mut out);
        rest = after;
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let Some((&border, bytes)) = input.split_first() else { return };
    let (one, two) = bytes.split_at(bytes.len() * border as usize / 256);
    let dir = Path::new("/wal");
    let vfs = SimVfs::new(0);
    vfs.put(&segment_path(dir, 0), &segment(one));
    vfs.put(&segment_path(dir, 1), &segment(two));
    let (report, repaired) = recover::<Infallible>(&vfs, dir, &mut |_, _| Ok(())).expect("no file fails");
    assert!(repaired.failed.is_empty(), "{repaired:?}");
    let clean = replay::<Infallible>(&vfs, dir, &mut |_, _| Ok(())).expect("no file fails");
    assert!(clean.is_clean() && clean.torn_tail.is_none(), "{clean:?}");
    assert_eq!(clean.records, report.records);
});
