//! The little of HTTP/1.1 that tests need, both sides of it.

use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Longest body that is read.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// A request or an answer.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// First line.
    pub first: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without transfer encoding.
    pub body: Vec<u8>,
}

impl Message {
    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Status code of an answer; 0: it has none.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Reads one message. `None`: the other side has closed.
    pub fn read(from: &mut impl BufRead) -> std::io::Result<Option<Message>> {
        let mut message = Message::default();
        if from.read_line(&mut message.first)? == 0 {
            return Ok(None);
        }
        message.first.truncate(message.first.trim_end().len());
        loop {
            let line = line(from)?;
            let Some((name, value)) = line.split_once(':') else { break };
            message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if message.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = line(from)?;
                let size = u64::from_str_radix(size.split(';').next().unwrap_or(""), 16)
                    .map_err(|error| Error::other(format!("chunk size {size:?}: {error}")))?;
                from.take(size).read_to_end(&mut message.body)?;
                line(from)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = message.header("content-length") {
            let length = length.parse().map_err(Error::other)?;
            from.take(length).read_to_end(&mut message.body)?;
            if (message.body.len() as u64) < length {
                return Err(Error::other("the body ends early"));
            }
        } else if message.first.starts_with("HTTP/") {
            from.take(BODY_BYTES_MAX).read_to_end(&mut message.body)?;
        }
        Ok(Some(message))
    }

    /// Writes the message, with the length of its body.
    pub fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        let mut head = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", self.body.len());
        to.write_all(&[head.as_bytes(), &self.body].concat())?;
        to.flush()
    }
}

fn line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}

/// Sends a request on a connection of its own.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut request = Message { first: format!("{method} {path} HTTP/1.1"), body: body.to_vec(), ..Message::default() };
    for (name, value) in [("host", "localhost"), ("connection", "close")].iter().chain(headers) {
        request.headers.push(((*name).to_owned(), (*value).to_owned()));
    }
    request.write(&mut stream)?;
    Message::read(&mut BufReader::new(stream))?.ok_or_else(|| Error::other("closed without an answer"))
}

/// Encodes a value for a query string.
pub fn escape(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}
