//! A flipped bit or a cut at any byte of a small block: an error of whoever meets it, or the answers as they were.

use super::*;

pub(super) fn small_block(vfs: &Arc<SimVfs>) -> (Block, Model) {
    let model = Model::from([
        (labels(&[("__name__", "up"), ("job", "a")]), (0..9).map(|t| (t * 10, t as f64)).collect()),
        (labels(&[("__name__", "up"), ("job", "b")]), vec![(5, 1.5), (77, f64::INFINITY)]),
        (labels(&[("__name__", "down")]), vec![(1, -1.0)]),
    ]);
    let block = block(vfs, 1, &mut ModelStream::new(&model, 4));
    let deleted = TimeRange { mint: 20, maxt: 40 };
    block.delete(deleted, &[matcher(MatchKind::Equal, "job", "a")], false, &Control::new()).expect("delete");
    let model = query(&block, ALL, &[]).expect("query");
    (block, model)
}

/// Everything that can be asked of a block, on one of its files being damaged.
fn check(vfs: &Arc<SimVfs>, block: &Block, model: &Model, file: &str, damaged: &[u8], what: &str) {
    let path = block.dir().join(file);
    let good = vfs.get(&path).expect("file");
    vfs.put(&path, damaged);
    let opened = Block::open(Arc::<SimVfs>::clone(vfs), block.dir());
    vfs.put(&path, &good);
    let block = match opened {
        Ok(block) => block,
        Err(StorageError::Corrupt { path, .. }) => {
            assert!(path.contains(&format!("/{file}")), "{what}: {path}");
            return;
        }
        Err(e) => panic!("{what}: {e}"),
    };
    let corrupt =
        |e: &StorageError| matches!(e, StorageError::Corrupt { path, .. } if path.contains(&format!("/{file}")));
    // Nothing protects the times in `meta.json`; there it is enough that nothing panics.
    let exact = file != "meta.json";
    for matchers in [
        vec![],
        vec![matcher(MatchKind::Equal, "job", "b")],
        vec![matcher(MatchKind::Regex, "job", ".*[ab]")],
        vec![matcher(MatchKind::NotRegex, "__name__", "u.*|x")],
    ] {
        match query(&block, ALL, &matchers) {
            Ok(found) => assert!(!exact || found == expected(model, ALL, &matchers), "{what}: other answers"),
            Err(e) => assert!(corrupt(&e), "{what}: {e}"),
        }
        let control = Control::new();
        for asked in [block.label_values("job", ALL, &matchers, &control), block.label_names(ALL, &matchers, &control)]
        {
            if let Err(e) = asked {
                assert!(corrupt(&e), "{what}: {e}");
            }
        }
    }
    match BlockStream::new(&block).and_then(|mut stream| write_to(&**vfs, 2, &mut stream)) {
        Ok(written) => {
            assert!(written && (!exact || query(&open(vfs, 2), ALL, &[]).expect("query") == *model), "{what}");
            fk_vfs::remove_dir_all(&**vfs, open(vfs, 2).dir()).expect("remove");
        }
        Err(e) => assert!(corrupt(&e), "{what}: {e}"),
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let vfs = sim();
    let (block, model) = small_block(&vfs);
    for file in ["index", "chunks/000001", "tombstones", "meta.json"] {
        let good = vfs.get(&block.dir().join(file)).expect("file");
        for at in 0..good.len() {
            for bit in [at % 8, (at + 3) % 8] {
                let mut damaged = good.clone();
                damaged[at] ^= 1 << bit;
                check(&vfs, &block, &model, file, &damaged, &format!("bit {bit} of byte {at} of {file}"));
            }
        }
    }
}

#[test]
fn a_cut_is_an_error_or_changes_nothing() {
    let vfs = sim();
    let (block, model) = small_block(&vfs);
    for file in ["index", "chunks/000001", "tombstones", "meta.json"] {
        let good = vfs.get(&block.dir().join(file)).expect("file");
        for len in 0..good.len() {
            check(&vfs, &block, &model, file, &good[..len], &format!("{file} cut at {len}"));
        }
    }
}

/// Checksums that are right protect nothing from a writer that is wrong: any number in the index may be anything.
#[test]
fn wrong_numbers_under_right_checksums_are_errors() {
    let vfs = sim();
    let (block, _) = small_block(&vfs);
    let path = block.dir().join("index");
    let good = vfs.get(&path).expect("file");
    let toc = good.len() - crate::index::TOC_BYTES - 4;
    let mut sections = vec![(toc, crate::index::TOC_BYTES)];
    for at in (toc..toc + crate::index::TOC_BYTES).step_by(8) {
        let offset = u64::from_be_bytes(*good[at..].first_chunk().expect("8 bytes")) as usize;
        let len = u32::from_be_bytes(*good[offset..].first_chunk().expect("4 bytes")) as usize;
        if offset + 8 + len <= good.len() && crc_of(&good, offset + 4, len) == stored_crc(&good, offset + 4, len) {
            sections.push((offset + 4, len));
        }
    }
    let series = block.index().all_series().expect("all series");
    for number in series.iter() {
        let at = number as usize * 16;
        sections.push((at + 1, usize::from(good[at])));
    }
    assert!(sections.len() > 6, "{sections:?}");
    for (start, len) in sections {
        for at in start..start + len {
            for change in [1, 0x40, 0x80, 0xff] {
                let mut damaged = good.clone();
                damaged[at] ^= change;
                let crc = crc_of(&damaged, start, len).to_be_bytes();
                damaged[start + len..start + len + 4].copy_from_slice(&crc);
                vfs.put(&path, &damaged);
                let Ok(block) = Block::open(Arc::<SimVfs>::clone(&vfs), block.dir()) else { continue };
                let params = SelectParams { range: ALL, sorted: true, limit: 0 };
                let Ok(set) = block.select(&params, &[matcher(MatchKind::Regex, "job", ".*[ab]")], &Control::new())
                else {
                    continue;
                };
                let mut samples = Samples::default();
                for idx in 0..set.len() {
                    let _ = (set.labels(idx), set.read(idx, ALL, &mut samples), set.last(idx, ALL));
                }
                let _ = block.label_values("job", ALL, &[], &Control::new());
                let _ = BlockStream::new(&block).and_then(|mut stream| write_to(&*vfs, 2, &mut stream));
                fk_vfs::remove_dir_all(&*vfs, &Path::new("/data").join(Ulid::new(1, 2).to_string())).expect("remove");
            }
        }
    }
}

fn crc_of(file: &[u8], start: usize, len: usize) -> u32 {
    crc32c::crc32c(&file[start..start + len])
}

fn stored_crc(file: &[u8], start: usize, len: usize) -> u32 {
    u32::from_be_bytes(*file[start + len..].first_chunk().expect("4 bytes"))
}

#[test]
fn a_damaged_chunk_leaves_the_others_readable() {
    let vfs = sim();
    let model = Model::from([(labels(&[("a", "1")]), (0..12).map(|t| (t, t as f64)).collect())]);
    let block = block(&vfs, 1, &mut ModelStream::new(&model, 4));
    let path = block.dir().join("chunks/000001");
    let mut file = vfs.get(&path).expect("file");
    let mut entry = crate::index::SeriesEntry::default();
    block.index().series(block.index().all_series().expect("all").get(0), &mut entry).expect("series");
    file[entry.chunks[1].reference as usize + 5] ^= 1;
    vfs.put(&path, &file);
    let params = SelectParams { range: ALL, sorted: true, limit: 0 };
    let control = Control::new();
    let set = open(&vfs, 1).select(&params, &[], &control).expect("select");
    let mut samples = Samples::default();
    let error = set.read(0, ALL, &mut samples).expect_err("damage").to_string();
    assert!(error.contains("/chunks/000001: corrupt at offset ") && error.contains("checksum"), "{error}");
    assert_eq!(samples.t, [0, 1, 2, 3, 8, 9, 10, 11]);
    set.read(0, TimeRange { mint: 8, maxt: 20 }, &mut samples).expect("not touched by the damage");
    let newest = set.last(0, ALL).expect("not touched by the damage");
    assert_eq!(newest.map(|newest| (newest.t, newest.v)), Some((11, 11.0)));
    assert!(control.usage().chunk_bytes > 0);
}
