//! Files of head chunks on the simulated disk.

use fk_chunk::Encoding;
use fk_vfs::sim::{Fault, SimVfs};

use super::format::{put_record, walk};
use super::*;

const DIR: &str = "/data/chunks_head";

fn vfs() -> SimVfs {
    let vfs = SimVfs::new(1);
    vfs.create_dir(Path::new("/data")).unwrap();
    vfs
}

fn files(vfs: &SimVfs) -> ChunkFiles {
    ChunkFiles::new(Arc::new(vfs.clone()), PathBuf::from(DIR))
}

fn record(reference: u64, time: i64, len: usize) -> Vec<u8> {
    let (data, mut out) = (vec![reference as u8; len], Vec::new());
    let record = ChunkRecord {
        reference,
        mint: time - 1,
        maxt: time,
        encoding: Encoding::Xor,
        out_of_order: false,
        data: &data,
    };
    put_record(&mut out, &record);
    out
}

#[track_caller]
fn check(files: &ChunkFiles, place: FilePlace, reference: u64, time: i64, len: usize) {
    let found = files.read(place, reference, |r| (r.mint, r.maxt, r.data.to_vec()));
    assert_eq!(found.unwrap(), (time - 1, time, vec![reference as u8; len]));
}

#[test]
fn chunks_are_read_while_the_file_grows_and_afterwards() {
    let vfs = vfs();
    let files = files(&vfs);
    let mut places = Vec::new();
    for n in 1..60u64 {
        // Some are longer than what one read fetches.
        let len = if n % 7 == 0 { 100_000 } else { n as usize * 20 };
        places.push((files.append(&record(n, n as i64, len), n as i64).unwrap(), n, len));
        if n % 5 == 0 {
            files.round_off();
        }
        for (place, n, len) in &places {
            check(&files, *place, *n, *n as i64, *len);
        }
    }
    let numbers: Vec<_> = files.list().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [1], "less than {FILE_BYTES_MIN} bytes are one file");
    let (place, n, _) = places[3];
    let other = files.read(place, n + 1, |_| ()).unwrap_err();
    assert_eq!(
        other.to_string(),
        format!("{DIR}/000001: corrupt at offset {}: head chunk of series 4, not 5", place.offset)
    );
    assert!(files.read(FilePlace { file: 9, offset: 8 }, 1, |_| ()).is_err());
    assert!(files.read(FilePlace { offset: place.offset + 1, ..place }, n, |_| ()).is_err());
    assert!(files.read(FilePlace { offset: u32::MAX, ..place }, n, |_| ()).is_err());
}

#[test]
fn old_files_go_from_the_front_and_never_the_last() {
    let vfs = vfs();
    let files = files(&vfs);
    let half = FILE_BYTES_MIN as usize / 2;
    let places: Vec<_> = (1..=6u64)
        .map(|n| {
            let place = files.append(&record(n, n as i64 * 10, half), n as i64 * 10).unwrap();
            files.round_off();
            place
        })
        .collect();
    assert_eq!(places.iter().map(|p| p.file).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3]);
    assert_eq!(files.truncate(20).unwrap(), 0);
    assert_eq!(files.truncate(21).unwrap(), 1);
    assert!(files.read(places[0], 1, |_| ()).is_err());
    check(&files, places[2], 3, 30, half);
    assert_eq!(files.truncate(1000).unwrap(), 1);
    assert_eq!(files.list().len(), 1);
    check(&files, places[5], 6, 60, half);
    assert_eq!(files.append(&record(7, 70, 5), 70).unwrap().file, 4);
    assert_eq!(files.truncate(1000).unwrap(), 1);
}

#[test]
fn files_of_the_process_before_are_replaced_without_a_gap() {
    let vfs = vfs();
    {
        let files = files(&vfs);
        for n in 1..=3 {
            files.append(&record(n, 1, FILE_BYTES_MIN as usize), 1).unwrap();
            files.round_off();
        }
    }
    vfs.create(&Path::new(DIR).join("README")).unwrap();
    let files = files(&vfs);
    assert_eq!(files.append(&record(9, 1, 5), 1).unwrap(), FilePlace { file: 4, offset: 8 });
    let names = |list: Vec<(u32, PathBuf)>| list.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(names(list(&vfs, Path::new(DIR)).unwrap()), [4]);
    assert!(vfs.metadata(&Path::new(DIR).join("README")).unwrap().is_some(), "other files stay");
}

#[test]
fn what_could_not_be_written_is_written_again_in_the_same_place() {
    let vfs = vfs();
    let files = files(&vfs);
    let first = files.append(&record(1, 1, 50), 1).unwrap();
    for fault in [Fault::NoSpace, Fault::ShortWrite, Fault::Io] {
        vfs.inject(vfs.operations(), 1, fault);
        assert!(files.append(&record(2, 2, 300), 2).is_err());
    }
    let second = files.append(&record(3, 3, 30), 3).unwrap();
    assert_eq!((second.file, second.offset), (first.file, first.offset + record(1, 1, 50).len() as u32));
    check(&files, first, 1, 1, 50);
    check(&files, second, 3, 3, 30);
    // A finished file has no rest of a failed write.
    files.append(&record(4, 4, FILE_BYTES_MIN as usize), 4).unwrap();
    vfs.inject(vfs.operations(), 1, Fault::ShortWrite);
    assert!(files.append(&record(5, 5, 5000), 5).is_err());
    files.round_off();
    let mut found = Vec::new();
    let bytes = vfs.map(&Path::new(DIR).join("000001")).unwrap();
    walk(&bytes, |_, record| {
        found.push(record.reference);
        true
    })
    .unwrap();
    assert_eq!(found, [1, 3, 4]);
}

#[test]
fn known_files_are_adopted_and_others_removed() {
    let vfs = vfs();
    let mut places = Vec::new();
    let known: Vec<(u32, u64, i64)> = {
        let files = files(&vfs);
        for n in 1..=3u64 {
            places.push(files.append(&record(n, n as i64, FILE_BYTES_MIN as usize), n as i64).unwrap());
            files.round_off();
        }
        files.list().into_iter().map(|(number, len)| (number, len, i64::from(number))).collect()
    };
    let again = files(&vfs);
    again.adopt(&known[..2]).unwrap();
    check(&again, places[1], 2, 2, FILE_BYTES_MIN as usize);
    assert_eq!(again.append(&record(7, 7, 5), 7).unwrap(), FilePlace { file: 3, offset: 8 });
    assert_eq!(again.truncate(2).unwrap(), 1);
    let short = files(&vfs);
    assert!(short.adopt(&[(3, 1 << 20, 0)]).is_err(), "the file is not so long");
    assert!(short.adopt(&[(77, 8, 0)]).is_err(), "there is no such file");
}
