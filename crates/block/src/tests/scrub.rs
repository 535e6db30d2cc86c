//! A block is read as a whole: what is wrong with it is found, and nothing else.

use super::damage::small_block;
use super::*;
use crate::Scrub;

fn scrub(vfs: &Arc<SimVfs>, block: &Block, step: u64) -> Vec<StorageError> {
    let mut scrub = Scrub::new(vfs.clone(), block).expect("a block");
    let mut steps = 0;
    while !scrub.step(step).expect("no error of the disk") {
        steps += 1;
        assert!(steps < 10_000);
    }
    assert!(scrub.bytes() + 1000 >= block.size_bytes(), "{} of {}", scrub.bytes(), block.size_bytes());
    scrub.into_damage()
}

#[test]
fn a_sound_block_has_no_fault_and_every_flipped_bit_is_one() {
    let vfs = sim();
    let block = small_block(&vfs).0;
    for step in [1, 1000, u64::MAX] {
        let damage = scrub(&vfs, &block, step);
        assert!(damage.is_empty(), "{damage:?}");
    }
    let mut unseen = Vec::new();
    for file in ["index", "chunks/000001", "tombstones"] {
        let path = block.dir().join(file);
        let good = vfs.get(&path).expect("file");
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1 << (at % 8);
            vfs.put(&path, &damaged);
            let mut scrub = Scrub::new(vfs.clone(), &block).expect("a block");
            while !scrub.step(u64::MAX).expect("no error of the disk") {}
            match &scrub.into_damage()[..] {
                [] => unseen.push((file, at)),
                [StorageError::Corrupt { path, .. }] => assert!(path.ends_with(file), "{path}: byte {at} of {file}"),
                more => panic!("{more:?}"),
            }
        }
        vfs.put(&path, &good);
    }
    // Zeros that fill up, and the three bytes behind the version of a segment.
    assert!(
        unseen.iter().all(|(file, at)| match *file {
            "chunks/000001" => (5..8).contains(at),
            "index" => vfs.get(&block.dir().join(file)).is_some_and(|bytes| bytes[*at] == 0),
            _ => false,
        }),
        "{unseen:?}"
    );
    assert!(unseen.len() < 200, "{}", unseen.len());
}

#[test]
fn an_error_of_the_disk_is_no_damage() {
    let vfs = sim();
    let block = small_block(&vfs).0;
    let mut scrub = Scrub::new(vfs.clone(), &block).expect("a block");
    vfs.inject(vfs.operations() + 2, 1, Fault::Io);
    assert!(matches!(scrub.step(u64::MAX), Err(StorageError::Io { .. })));
    while !scrub.step(1000).expect("it goes on") {}
    let damage = scrub.into_damage();
    assert!(damage.is_empty(), "{damage:?}");
}
