//! The archive that `promtool debug` writes: a tar in gzip, files only, all known beforehand.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Size of everything in a tar.
const RECORD_BYTES: usize = 512;
/// What Prometheus' archives say of their files.
const MODE: &str = "0000666";

/// Writes an archive.
#[derive(Debug)]
pub struct Archive<W: Write>(GzEncoder<W>);

impl<W: Write> Archive<W> {
    /// An archive without files.
    pub fn new(out: W) -> Archive<W> {
        Archive(GzEncoder::new(out, Compression::default()))
    }

    /// Adds a file. Names are short.
    pub fn add(&mut self, name: &str, body: &[u8]) -> io::Result<()> {
        let mut header = [0; RECORD_BYTES];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        let name = name.as_bytes();
        if name.len() > 99 || body.len() as u64 >= 1 << 33 {
            return Err(io::Error::other("a file of the archive is too large or its name too long"));
        }
        put(0, name);
        put(100, MODE.as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", body.len()).as_bytes());
        put(136, b"00000000000");
        put(156, b"0");
        put(257, b"ustar\x0000");
        // The sum counts its own place as blanks.
        put(148, b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.write_all(&header)?;
        self.0.write_all(body)?;
        let rest = body.len().next_multiple_of(RECORD_BYTES) - body.len();
        self.0.write_all(&[0; RECORD_BYTES][..rest])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.0.write_all(&[0; 2 * RECORD_BYTES])?;
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_read_by_tar() {
        let folder = fk_testkit::TempDir::new("archive");
        let path = folder.path().join("a.tar.gz");
        let mut archive = Archive::new(Vec::new());
        archive.add("metrics.txt", &[b'x'; 1000]).unwrap();
        archive.add("empty", b"").unwrap();
        assert!(archive.add(&"n".repeat(100), b"").is_err());
        std::fs::write(&path, archive.finish().unwrap()).unwrap();
        let out =
            std::process::Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(folder.path()).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(std::fs::read(folder.path().join("metrics.txt")).unwrap(), [b'x'; 1000]);
        assert!(std::fs::read(folder.path().join("empty")).unwrap().is_empty());
    }
}
