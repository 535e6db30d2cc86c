//! Which format a target is asked for, and which one it has answered in.

use std::fmt;

use crate::float::quote;

/// A format with its version, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Prometheus protobuf.
    PrometheusProto,
    /// OpenMetrics text 0.0.1.
    OpenMetricsText0_0_1,
    /// OpenMetrics text 1.0.0.
    OpenMetricsText1_0_0,
    /// Prometheus text 0.0.4.
    PrometheusText0_0_4,
    /// Prometheus text 1.0.0 (with escaping).
    PrometheusText1_0_0,
}

/// How many protocols there are; weights in Accept headers count down from one more than this.
const PROTOCOLS_COUNT: usize = 5;

impl Protocol {
    /// The media type with its parameters, as it stands in an Accept header.
    fn header(self) -> &'static str {
        match self {
            Protocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Protocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Protocol::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
            Protocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Protocol::PrometheusText1_0_0 => "text/plain;version=1.0.0",
        }
    }

    /// Only these versions know escaping.
    fn takes_escaping(self) -> bool {
        matches!(self, Protocol::OpenMetricsText1_0_0 | Protocol::PrometheusText1_0_0)
    }

    /// Without the version.
    pub fn media_type(self) -> MediaType {
        match self {
            Protocol::PrometheusProto => MediaType::Protobuf,
            Protocol::OpenMetricsText0_0_1 | Protocol::OpenMetricsText1_0_0 => MediaType::OpenMetrics,
            Protocol::PrometheusText0_0_4 | Protocol::PrometheusText1_0_0 => MediaType::Text,
        }
    }
}

/// The Accept header for these protocols, most wanted first. `escaping` is the name of the escaping scheme (`allow-utf-8`).
pub fn accept_header(protocols: &[Protocol], escaping: &str) -> String {
    let mut header = String::new();
    let mut weight = PROTOCOLS_COUNT + 1;
    for protocol in protocols {
        header.push_str(protocol.header());
        if protocol.takes_escaping() {
            header.push_str(";escaping=");
            header.push_str(escaping);
        }
        header.push_str(&format!(";q=0.{weight},"));
        weight = weight.saturating_sub(1);
    }
    header.push_str(&format!("*/*;q=0.{weight}"));
    header
}

/// The formats told apart by media type alone; versions and other parameters do not matter when reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `text/plain`
    Text,
    /// `application/openmetrics-text`
    OpenMetrics,
    /// `application/vnd.google.protobuf`
    Protobuf,
}

impl MediaType {
    /// The media type itself.
    pub fn name(self) -> &'static str {
        match self {
            MediaType::Text => "text/plain",
            MediaType::OpenMetrics => "application/openmetrics-text",
            MediaType::Protobuf => "application/vnd.google.protobuf",
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was chosen for a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// How to read the body.
    pub media_type: MediaType,
    /// Why the fallback was needed, if it was.
    pub warning: Option<NegotiationError>,
}

/// A Content-Type that says nothing useful. With a fallback this is a warning, without one the scrape fails.
/// Texts as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiationError {
    problem: Problem,
    fallback: Option<MediaType>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Blank,
    Malformed { content_type: String, reason: &'static str },
    Unsupported { content_type: String },
}

impl std::error::Error for NegotiationError {}

impl fmt::Display for NegotiationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fallback = |text: &str| match self.fallback {
            None => text.to_owned(),
            Some(fallback) => format!(", using fallback_scrape_protocol \"{fallback}\""),
        };
        let none = fallback(" and no fallback_scrape_protocol specified for target");
        match &self.problem {
            Problem::Blank => write!(f, "non-compliant scrape target sending blank Content-Type{none}"),
            Problem::Unsupported { content_type } => {
                write!(f, "received unsupported Content-Type {}{none}", quote(content_type.as_bytes()))
            }
            Problem::Malformed { content_type, reason } => {
                let what = if self.fallback.is_some() { "could not parse received" } else { "cannot parse" };
                let behind = fallback(" and no fallback_scrape_protocol for target");
                write!(f, "{what} Content-Type {}{behind}\nmime: {reason}", quote(content_type.as_bytes()))
            }
        }
    }
}

/// Chooses the parser by the media type of the response, or the fallback if that says nothing.
pub fn choose_format(content_type: &str, fallback: Option<Protocol>) -> Result<Format, NegotiationError> {
    let fallback = fallback.map(Protocol::media_type);
    let problem = if content_type.is_empty() {
        Problem::Blank
    } else {
        match media_type(content_type) {
            Err(reason) => Problem::Malformed { content_type: content_type.to_owned(), reason },
            Ok(found) => {
                let known = [MediaType::Text, MediaType::OpenMetrics, MediaType::Protobuf];
                if let Some(media_type) = known.into_iter().find(|known| known.name() == found) {
                    return Ok(Format { media_type, warning: None });
                }
                Problem::Unsupported { content_type: content_type.to_owned() }
            }
        }
    };
    let error = NegotiationError { problem, fallback };
    match fallback {
        Some(media_type) => Ok(Format { media_type, warning: Some(error) }),
        None => Err(error),
    }
}

/// The media type of a Content-Type header in lower case, as strict as Go's `mime.ParseMediaType`.
fn media_type(header: &str) -> Result<String, &'static str> {
    let (base, mut params) = match header.find(';') {
        Some(at) => header.split_at(at),
        None => (header, ""),
    };
    let base = base.trim().to_ascii_lowercase();
    let (kind, rest) = take_token(&base);
    if kind.is_empty() {
        return Err("no media type");
    }
    if !rest.is_empty() {
        let rest = rest.strip_prefix('/').ok_or("expected slash after first token")?;
        let (subtype, rest) = take_token(rest);
        if subtype.is_empty() {
            return Err("expected token after slash");
        }
        if !rest.is_empty() {
            return Err("unexpected content after media subtype");
        }
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    loop {
        params = params.trim_start();
        if params.is_empty() || params.trim_end() == ";" {
            return Ok(base);
        }
        let (name, value, rest) = take_param(params).ok_or("invalid media parameter")?;
        if seen.iter().any(|(n, v)| *n == name && *v != value) {
            return Err("duplicate parameter name");
        }
        seen.push((name, value));
        params = rest;
    }
}

/// A token of RFC 7230 and what follows it.
fn take_token(text: &str) -> (&str, &str) {
    let is_token = |b: u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b);
    text.split_at(text.bytes().take_while(|b| is_token(*b)).count())
}

/// `; name=value`, the name in lower case, and what follows it.
fn take_param(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = take_token(text.strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    if name.is_empty() {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = take_token(rest);
        return (!value.is_empty()).then(|| (name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            '\r' | '\n' => return None,
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn protocol(name: &str) -> Option<Protocol> {
        Some(match name {
            "PrometheusProto" => Protocol::PrometheusProto,
            "OpenMetricsText0.0.1" => Protocol::OpenMetricsText0_0_1,
            "OpenMetricsText1.0.0" => Protocol::OpenMetricsText1_0_0,
            "PrometheusText0.0.4" => Protocol::PrometheusText0_0_4,
            "PrometheusText1.0.0" => Protocol::PrometheusText1_0_0,
            _ => return None,
        })
    }

    #[test]
    fn conformance_content_types() {
        let Some(path) = fk_testkit::conformance("exposition/content_type_cases.json") else { return };
        let data: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in data["cases"].as_array().unwrap() {
            let text = |key: &str| case[key].as_str().unwrap_or("");
            let result = choose_format(text("content_type"), protocol(text("fallback_scrape_protocol")));
            let (parser, message) = match result {
                Ok(format) => {
                    let name = match format.media_type {
                        MediaType::Text => "text",
                        MediaType::OpenMetrics => "openmetrics",
                        MediaType::Protobuf => "protobuf",
                    };
                    (name, format.warning.map(|w| w.to_string()))
                }
                Err(error) => ("", Some(error.to_string())),
            };
            assert_eq!(parser, text("parser"), "{case}");
            let message = message.unwrap_or_default();
            assert_eq!(message.is_empty(), text("error_contains").is_empty(), "{case}: {message}");
            assert!(message.contains(text("error_contains")), "{case}: {message}");
        }
    }

    #[test]
    fn what_a_type_is_not_is_told() {
        let check = |content_type: &str, fallback, text: &str| {
            let result = choose_format(content_type, fallback);
            let error = result.map_or_else(Some, |format| format.warning);
            assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(text));
        };
        let fallback = Some(Protocol::PrometheusText0_0_4);
        check(
            "a/",
            None,
            "cannot parse Content-Type \"a/\" and no fallback_scrape_protocol for target\nmime: expected token after slash",
        );
        check(
            "a/",
            fallback,
            "could not parse received Content-Type \"a/\", using fallback_scrape_protocol \"text/plain\"\nmime: expected token after slash",
        );
        check(
            "a/b",
            fallback,
            "received unsupported Content-Type \"a/b\", using fallback_scrape_protocol \"text/plain\"",
        );
    }

    fn check_media_type(header: &str, expected: Result<&str, &'static str>) {
        assert_eq!(media_type(header), expected.map(str::to_owned), "{header}");
    }

    #[test]
    fn parameters_are_checked_but_do_not_matter() {
        check_media_type("Text/Plain; version=0.0.4; charset=utf-8", Ok("text/plain"));
        check_media_type("text/plain;", Ok("text/plain"));
        check_media_type("text/plain; a=\"x;\\\" y\" ;b=1", Ok("text/plain"));
        check_media_type("text/plain; a=1; A=1", Ok("text/plain"));
        check_media_type("text/plain; a", Err("invalid media parameter"));
        check_media_type("text/plain; a=\"open", Err("invalid media parameter"));
        check_media_type("text plain", Err("expected slash after first token"));
    }

    #[test]
    fn accept_header_counts_weights_down() {
        let protocols = [Protocol::PrometheusText1_0_0, Protocol::PrometheusText0_0_4];
        assert_eq!(
            accept_header(&protocols, "allow-utf-8"),
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
        );
    }
}
