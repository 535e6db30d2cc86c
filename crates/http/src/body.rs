//! Reading a body into memory, within bounds.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use crate::HttpError;

/// The largest decompressed body, bytes: 1 GiB. A target with ten million series stays below it.
pub const BODY_BYTES_MAX: usize = 1 << 30;

/// Up to this size, 16 MiB, a body may expand at any ratio: it does no harm.
pub const RATIO_FREE_BYTES: usize = 16 << 20;

/// Beyond that a body may be so many times as large as what was received. Expositions come to 10 to 50.
pub const RATIO_MAX: usize = 200;

/// Takes a body piece by piece as it is received.
pub(crate) enum BodyReader<'b> {
    Plain(Sink<'b>),
    Gzip(Box<MultiGzDecoder<Sink<'b>>>),
}

/// Where the decompressed bytes go.
pub(crate) struct Sink<'b> {
    out: &'b mut Vec<u8>,
    /// `body_size_limit`; 0: none.
    size_limit: u64,
    /// Bytes received so far.
    wire_bytes: usize,
    /// The bound that was hit: errors of `Write` cannot carry it through the decoder.
    hit: Option<HttpError>,
}

impl<'b> BodyReader<'b> {
    /// A reader that replaces the contents of `out`.
    pub(crate) fn new(gzip: bool, size_limit: u64, out: &'b mut Vec<u8>) -> BodyReader<'b> {
        out.clear();
        let sink = Sink { out, size_limit, wire_bytes: 0, hit: None };
        if gzip { BodyReader::Gzip(Box::new(MultiGzDecoder::new(sink))) } else { BodyReader::Plain(sink) }
    }

    fn sink(&mut self) -> &mut Sink<'b> {
        match self {
            BodyReader::Plain(sink) => sink,
            BodyReader::Gzip(decoder) => decoder.get_mut(),
        }
    }

    /// The next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), HttpError> {
        self.sink().wire_bytes += piece.len();
        let result = match self {
            BodyReader::Plain(sink) => sink.write_all(piece),
            BodyReader::Gzip(decoder) => decoder.write_all(piece),
        };
        self.checked(result)
    }

    /// The end. Returns how many bytes were received.
    pub(crate) fn finish(mut self) -> Result<usize, HttpError> {
        let wire_bytes = self.sink().wire_bytes;
        if let BodyReader::Gzip(decoder) = &mut self {
            let result = if wire_bytes == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { decoder.try_finish() };
            self.checked(result)?;
        }
        Ok(wire_bytes)
    }

    fn checked(&mut self, result: io::Result<()>) -> Result<(), HttpError> {
        match (result, self.sink().hit.take()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(hit)) => Err(hit),
            (Err(error), None) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(HttpError::Body("unexpected EOF".to_owned()))
            }
            (Err(error), None) => Err(HttpError::Body(format!("gzip: {error}"))),
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.out.len() + bytes.len();
        // Exactly the limit is too much already, as in Prometheus.
        self.hit = if self.size_limit > 0 && len as u64 >= self.size_limit {
            Some(HttpError::BodySizeLimit)
        } else if len > BODY_BYTES_MAX {
            Some(HttpError::BodyTooLarge(BODY_BYTES_MAX))
        } else if len > RATIO_FREE_BYTES && len / RATIO_MAX > self.wire_bytes {
            Some(HttpError::Bomb(RATIO_MAX))
        } else {
            None
        };
        if self.hit.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(pieces: &[&[u8]], is_gzip: bool, limit: u64) -> Result<Vec<u8>, String> {
        let mut out = b"old".to_vec();
        let mut reader = BodyReader::new(is_gzip, limit, &mut out);
        for piece in pieces {
            reader.push(piece).map_err(|e| e.to_string())?;
        }
        reader.finish().map_err(|e| e.to_string())?;
        Ok(out)
    }

    #[test]
    fn pieces_are_put_together() {
        let text = b"metric 1\n".repeat(1000);
        let packed = gzip(&text);
        assert_eq!(read(&[&text[..10], &text[10..]], false, 0).unwrap(), text);
        assert_eq!(read(&packed.chunks(7).collect::<Vec<_>>(), true, 0).unwrap(), text);
        let two = [packed.clone(), packed].concat();
        assert_eq!(read(&[&two], true, 0).unwrap().len(), 2 * text.len());
        assert_eq!(read(&[], false, 0).unwrap(), b"");
    }

    #[test]
    fn broken_bodies_are_refused() {
        let packed = gzip(b"metric 1\n");
        for len in 1..packed.len() {
            assert!(read(&[&packed[..len]], true, 0).is_err(), "{len} of {} bytes", packed.len());
        }
        assert_eq!(read(&[], true, 0).unwrap_err(), "unexpected EOF");
        assert!(read(&[b"metric 1\n and more of it"], true, 0).unwrap_err().starts_with("gzip: "));
    }

    #[test]
    fn body_of_exactly_the_limit_is_too_large() {
        for is_gzip in [false, true] {
            let body = if is_gzip { gzip(b"0123456789") } else { b"0123456789".to_vec() };
            assert_eq!(read(&[&body], is_gzip, 10).unwrap_err(), "body size limit exceeded");
            assert_eq!(read(&[&body], is_gzip, 11).unwrap(), b"0123456789");
        }
    }

    #[test]
    fn bombs_are_refused_long_before_they_are_unpacked() {
        let packed = gzip(&vec![0; 4 * RATIO_FREE_BYTES]);
        let mut out = Vec::new();
        let mut reader = BodyReader::new(true, 0, &mut out);
        assert!(matches!(reader.push(&packed), Err(HttpError::Bomb(_))));
        drop(reader);
        assert!(out.len() <= RATIO_FREE_BYTES + (1 << 20), "{}", out.len());
    }
}
