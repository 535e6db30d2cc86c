//! Any bytes as a record: decoded or refused, and what is decoded can be read to its end.
#![no_main]

use fk_wal::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Record::decode(bytes) {
        Ok(Record::Series(record)) => record.iter().for_each(|(_, labels)| drop(labels.to_labels())),
        Ok(Record::Samples(record)) => {
            assert!(record.iter().count() <= bytes.len() / 10);
            assert_eq!(record.iter().count(), record.iter_with_starts().count());
        }
        Ok(Record::Tombstones(record)) => assert!(record.iter().count() <= bytes.len() / 10),
        Ok(Record::Exemplars(record)) => record.iter().for_each(|exemplar| drop(exemplar.labels.to_labels())),
        Ok(Record::Histograms(record)) => record.iter().for_each(|entry| drop(entry.value())),
        Ok(Record::MmapMarkers(record)) => assert!(record.iter().count() <= bytes.len() / 16),
        Ok(Record::Metadata(record)) => assert!(record.iter().count() <= bytes.len() / 3),
        Ok(Record::Unsupported { .. }) | Err(_) => {}
    }
});
