//! A remote-write body is answered, as a block and as the message within one.

#![no_main]

use fk_remote::{MessageKind, Scratch, receive};
use fk_testkit::MemoryStorage;
use libfuzzer_sys::fuzz_target;

/// A snappy block of literals only.
fn block(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut len = message.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    for literal in message.chunks(60) {
        out.push(((literal.len() - 1) << 2) as u8);
        out.extend_from_slice(literal);
    }
    out
}

fuzz_target!(|body: &[u8]| {
    let (storage, mut scratch) = (MemoryStorage::new(), Scratch::new());
    for body in [body, &block(body)] {
        if let Err(error) = receive(body, MessageKind::V1, 0, &storage, &mut scratch) {
            assert!((400..500).contains(&error.status()));
        }
    }
});
