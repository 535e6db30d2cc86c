//! Reading a body into memory, within bounds.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder};
use zstd::stream::zio::Writer as ZstdWriter;

use crate::HttpError;
use crate::room::Room;

/// The largest decompressed body, bytes: 1 GiB. A target with ten million series stays below it.
pub const BODY_BYTES_MAX: usize = 1 << 30;

/// Up to this size, 16 MiB, a body may expand at any ratio: it does no harm.
pub const RATIO_FREE_BYTES: usize = 16 << 20;

/// Beyond that a body may be so many times as large as what was received. Expositions come to 10 to 50.
pub const RATIO_MAX: usize = 200;

/// The window of a zstd frame as a power of two: 8 MiB, the most that RFC 9659 allows in HTTP. It bounds the decoder's memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is packed, by its `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentEncoding {
    /// Not at all, or in a way that nobody asked for; then it is read as it is.
    Identity,
    Gzip,
    /// Never asked for, but some proxies pack whatever passes.
    Zstd,
}

impl ContentEncoding {
    /// Of a header's value.
    pub(crate) fn of(value: &str) -> ContentEncoding {
        match value {
            "gzip" => ContentEncoding::Gzip,
            "zstd" => ContentEncoding::Zstd,
            _ => ContentEncoding::Identity,
        }
    }
}

/// Takes a body piece by piece as it is received.
pub(crate) enum BodyReader<'b> {
    Plain(Sink<'b>),
    Gzip(Box<MultiGzDecoder<Sink<'b>>>),
    Zstd(Box<ZstdWriter<Sink<'b>, ZstdDecoder<'static>>>),
}

/// Where the decompressed bytes go.
pub(crate) struct Sink<'b> {
    out: &'b mut Vec<u8>,
    room: Room,
    /// `body_size_limit`; 0: none.
    size_limit: u64,
    /// Bytes received so far.
    wire_bytes: usize,
    /// The bound that was hit: errors of `Write` cannot carry it through the decoder.
    hit: Option<HttpError>,
}

impl<'b> BodyReader<'b> {
    /// A reader that replaces the contents of `out`.
    pub(crate) fn new(
        encoding: ContentEncoding,
        size_limit: u64,
        out: &'b mut Vec<u8>,
    ) -> Result<BodyReader<'b>, HttpError> {
        out.clear();
        let sink = Sink { out, room: Room::default(), size_limit, wire_bytes: 0, hit: None };
        Ok(match encoding {
            ContentEncoding::Identity => BodyReader::Plain(sink),
            ContentEncoding::Gzip => BodyReader::Gzip(Box::new(MultiGzDecoder::new(sink))),
            ContentEncoding::Zstd => {
                let failed = |error: io::Error| HttpError::Body(format!("zstd: {error}"));
                let mut decoder = ZstdDecoder::new().map_err(failed)?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(failed)?;
                BodyReader::Zstd(Box::new(ZstdWriter::new(sink, decoder)))
            }
        })
    }

    fn sink(&mut self) -> &mut Sink<'b> {
        match self {
            BodyReader::Plain(sink) => sink,
            BodyReader::Gzip(decoder) => decoder.get_mut(),
            BodyReader::Zstd(decoder) => decoder.writer_mut(),
        }
    }

    /// The next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), HttpError> {
        self.sink().wire_bytes += piece.len();
        let result = match self {
            BodyReader::Plain(sink) => sink.write_all(piece),
            BodyReader::Gzip(decoder) => decoder.write_all(piece),
            BodyReader::Zstd(decoder) => decoder.write_all(piece),
        };
        self.checked(result)
    }

    /// The end. Returns how many bytes were received.
    pub(crate) fn finish(mut self) -> Result<usize, HttpError> {
        let wire_bytes = self.sink().wire_bytes;
        let result = match &mut self {
            BodyReader::Plain(_) => Ok(()),
            _ if wire_bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            BodyReader::Gzip(decoder) => decoder.try_finish(),
            BodyReader::Zstd(decoder) => decoder.finish(),
        };
        self.checked(result)?;
        Ok(wire_bytes)
    }

    fn checked(&mut self, result: io::Result<()>) -> Result<(), HttpError> {
        let encoding = if matches!(self, BodyReader::Zstd(_)) { "zstd" } else { "gzip" };
        match (result, self.sink().hit.take()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(hit)) => Err(hit),
            (Err(error), None) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(HttpError::Body("unexpected EOF".to_owned()))
            }
            (Err(error), None) => Err(HttpError::Body(format!("{encoding}: {error}"))),
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
            self.room.grow(len).err()
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

    use ContentEncoding::{Gzip, Identity, Zstd};

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 3).unwrap()
    }

    fn read(pieces: &[&[u8]], encoding: ContentEncoding, limit: u64) -> Result<Vec<u8>, String> {
        let mut out = b"old".to_vec();
        let mut reader = BodyReader::new(encoding, limit, &mut out).map_err(|e| e.to_string())?;
        for piece in pieces {
            reader.push(piece).map_err(|e| e.to_string())?;
        }
        reader.finish().map_err(|e| e.to_string())?;
        Ok(out)
    }

    #[test]
    fn pieces_are_put_together() {
        let text = b"metric 1\n".repeat(1000);
        assert_eq!(read(&[&text[..10], &text[10..]], Identity, 0).unwrap(), text);
        for (encoding, packed) in [(Gzip, gzip(&text)), (Zstd, zstd(&text))] {
            assert_eq!(read(&packed.chunks(7).collect::<Vec<_>>(), encoding, 0).unwrap(), text);
            let two = [packed.clone(), packed].concat();
            assert_eq!(read(&[&two], encoding, 0).unwrap().len(), 2 * text.len(), "{encoding:?}");
        }
        assert_eq!(read(&[], Identity, 0).unwrap(), b"");
    }

    #[test]
    fn broken_bodies_are_refused() {
        for (encoding, packed) in [(Gzip, gzip(b"metric 1\n")), (Zstd, zstd(b"metric 1\n"))] {
            for len in 1..packed.len() {
                assert!(read(&[&packed[..len]], encoding, 0).is_err(), "{len} of {} bytes", packed.len());
            }
            assert_eq!(read(&[], encoding, 0).unwrap_err(), "unexpected EOF");
            let error = read(&[b"metric 1\n and more of it"], encoding, 0).unwrap_err();
            assert!(error.starts_with(if encoding == Gzip { "gzip: " } else { "zstd: " }), "{error}");
        }
    }

    #[test]
    fn body_of_exactly_the_limit_is_too_large() {
        let text = b"0123456789";
        for (encoding, body) in [(Identity, text.to_vec()), (Gzip, gzip(text)), (Zstd, zstd(text))] {
            assert_eq!(read(&[&body], encoding, 10).unwrap_err(), "body size limit exceeded");
            assert_eq!(read(&[&body], encoding, 11).unwrap(), text);
        }
    }

    #[test]
    fn bombs_are_refused_long_before_they_are_unpacked() {
        let zeros = vec![0; 4 * RATIO_FREE_BYTES];
        for (encoding, packed) in [(Gzip, gzip(&zeros)), (Zstd, zstd(&zeros))] {
            let mut out = Vec::new();
            let mut reader = BodyReader::new(encoding, 0, &mut out).unwrap();
            assert!(matches!(reader.push(&packed), Err(HttpError::Bomb(_))), "{encoding:?}");
            drop(reader);
            assert!(out.len() <= RATIO_FREE_BYTES + (1 << 20), "{}", out.len());
        }
    }

    #[test]
    fn zstd_frames_with_a_huge_window_are_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"metric 1\n").unwrap();
        let packed = encoder.finish().unwrap();
        let error = read(&[&packed], Zstd, 0).unwrap_err();
        assert!(error.starts_with("zstd: "), "{error}");
    }
}
