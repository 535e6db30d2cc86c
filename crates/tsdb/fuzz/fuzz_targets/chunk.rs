//! Any bytes as a chunk; the first one says in which encoding. Read or refused, whatever way it is read; and what could be
//! read is written again to a chunk with the same samples.
#![no_main]

use fk_chunk::histogram::{Float, Int, Kind, Pushed, Reader, Writer};
use fk_chunk::xor::XorChunk;
use fk_chunk::xor2::Xor2Writer;
use fk_chunk::{Encoding, decode_range};
use fk_storage::Samples;
use libfuzzer_sys::fuzz_target;

fn read(encoding: Encoding, bytes: &[u8]) -> Option<Samples> {
    let mut samples = Samples::default();
    let result = decode_range(encoding, bytes, usize::MAX, i64::MIN, i64::MAX, &mut samples);
    assert_eq!(encoding.last_time(bytes).is_ok(), result.is_ok());
    result.ok()?;
    assert_eq!(encoding.count(bytes), Some(samples.len()));
    Some(samples)
}

/// Writes what a chunk of histograms says; where a histogram does not fit, another chunk begins.
fn rewrite<K: Kind>(with_starts: bool, bytes: &[u8]) {
    let _ = Writer::<K>::resume(with_starts, bytes.to_vec());
    let Ok(mut reader) = Reader::<K>::new(with_starts, bytes) else { return };
    let mut open: Option<Writer<K>> = None;
    let mut last = None;
    while let Ok(true) = reader.advance() {
        let Ok(h) = reader.histogram() else { return };
        let next = match &mut open {
            None => Writer::begin(with_starts, None, reader.start(), reader.t(), &h),
            Some(writer) => match writer.push(reader.start(), reader.t(), &h) {
                Ok(Pushed::Cut(next)) => Ok(*next),
                Ok(_) => {
                    last = Some(reader.t());
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        let next = next.expect("what is read can be written");
        last = Some(reader.t());
        if let Some(full) = open.replace(next) {
            assert!(read(full.encoding(), full.bytes()).is_some());
        }
    }
    if let Some(open) = open {
        assert_eq!(read(open.encoding(), open.bytes()).and_then(|samples| samples.t.last().copied()), last);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let Some(encoding) = Encoding::from_byte(first % 6 + 1) else { return };
    let samples = read(encoding, bytes);
    match encoding {
        Encoding::Histogram | Encoding::HistogramSt => rewrite::<Int>(encoding.has_starts(), bytes),
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => rewrite::<Float>(encoding.has_starts(), bytes),
        Encoding::Xor | Encoding::Xor2 => {
            let Some(samples) = samples else { return };
            let (mut xor, mut xor2) = (XorChunk::new(), Xor2Writer::new());
            for (i, (t, v)) in samples.t.iter().zip(&samples.v).enumerate() {
                xor.push(*t, *v);
                xor2.push(samples.starts.get(i).copied().unwrap_or(0), *t, *v);
            }
            let bits = |samples: &Samples| samples.v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            for (encoding, bytes) in [(Encoding::Xor, xor.bytes()), (Encoding::Xor2, xor2.bytes())] {
                let back = read(encoding, bytes).expect("just written");
                assert_eq!((&back.t, bits(&back)), (&samples.t, bits(&samples)));
            }
        }
    }
});
