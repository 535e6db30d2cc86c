//! Memory maps of files that nobody changes: the one crate with `unsafe` code, and one `unsafe` call in it.
//!
//! A map is handed out as [`Bytes`], so it can be sliced and shared, and goes when the last slice goes. Everything that
//! reads it indexes a byte slice and is checked.
//!
//! Invariant: only files that are complete and are never written, cut or extended again may be mapped. (The storage
//! maps files of blocks and finished files of head chunks; both only ever lose their name, which a map survives.) A file
//! that somebody else cuts while it is mapped ends the process with SIGBUS; the length is therefore that of the moment of
//! mapping, and users check it against what they expect.

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps the whole of a file for reading. A file without bytes gives no map, just no bytes.
pub fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the bytes of a map must not change while it lives. By the invariant of this crate only immutable files are
    // mapped; what other processes do to our data directory is outside of what any program can defend against.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_outlives_the_name_of_its_file() {
        let dir = fk_testkit::TempDir::new("mmap");
        let path = dir.path().join("file");
        std::fs::write(&path, b"contents").expect("a written file");
        let slice = map(&File::open(&path).expect("an open file")).expect("a map").slice(3..6);
        std::fs::remove_file(&path).expect("the name goes");
        assert_eq!(&slice[..], b"ten");
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        let dir = fk_testkit::TempDir::new("mmap");
        let path = dir.path().join("file");
        assert!(map(&File::create(path).expect("a new file")).expect("no map").is_empty());
    }
}
