//! Any bytes as a file of head chunks, with and without a sound header and checksums: read or refused, and the records that
//! are read are the bytes that writing them gives.
#![no_main]

use fk_tsdb::chunks_head::format::{ChunkRecord, header, put_record, record_len, take_record, walk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut file = header().to_vec();
    file.extend_from_slice(bytes);
    check(&file);
    // The same with a checksum that fits, so that the fields behind it are met.
    if let Ok(len) = record_len(bytes)
        && let Some(body) = len.checked_sub(4).and_then(|end| bytes.get(..end))
    {
        let mut record = body.to_vec();
        record.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
        let _ = take_record(&record);
        file.truncate(8);
        file.extend_from_slice(&record);
        check(&file);
    }
});

fn check(file: &[u8]) {
    let mut records = 0;
    let _ = walk(file, |at, record: ChunkRecord<'_>| {
        let mut again = Vec::new();
        put_record(&mut again, &record);
        // A length may have been written in more bytes than it needs.
        if again.len() == record_len(&file[at..]).unwrap() {
            assert_eq!(again, file[at..at + again.len()]);
        }
        records += 1;
        true
    });
    assert!(records <= file.len() / 30);
}
