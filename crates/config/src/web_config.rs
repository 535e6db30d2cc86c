//! The web configuration file (`--web.config.file`): TLS of the server, headers of its answers, how many requests it takes, and who
//! may ask. In the format of Prometheus' exporter-toolkit; nothing is looked at here beyond the text, so certificates are not
//! read and hashes are not tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{ConfigErrors, FileKind, FileProblems};
use crate::load::{parse, read_file};
use crate::reader::{Fields, Reader};
use crate::section::resolve;
use crate::types::{Secret, TlsVersion};
use crate::yaml::Node;

/// Most users a file may have.
const USERS_MAX: usize = 10_000;

/// What a web configuration file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebConfig {
    /// `tls_server_config`; `None`: plain HTTP.
    pub tls: Option<WebTls>,
    /// `http_server_config.http2`
    pub http2: bool,
    /// `http_server_config.headers`
    pub headers: Vec<(String, String)>,
    /// `rate_limit`
    pub rate_limit: Option<RateLimit>,
    /// `basic_auth_users`: bcrypt hashes by name; empty: everybody may ask.
    pub users: BTreeMap<String, Secret>,
    /// What is worth a log line.
    pub warnings: Vec<String>,
}

/// `rate_limit`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests may come at once.
    pub burst: u32,
    /// In which time one more is allowed. Invariant: not zero.
    pub interval: Duration,
}

/// `tls_server_config`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebTls {
    /// The certificate and those behind it.
    pub cert: Pem,
    /// Its key.
    pub key: Pem,
    /// Whose certificates clients may show.
    pub client_ca: Option<Pem>,
    /// Whether clients have to show any.
    pub client_auth: ClientAuth,
    /// Names that a client's certificate must have one of.
    pub client_allowed_sans: Option<Vec<String>>,
    /// Names of cipher suites for TLS 1.2; empty: all.
    pub cipher_suites: Vec<String>,
    /// Names of curves; empty: all.
    pub curves: Vec<String>,
    /// Lowest version.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: TlsVersion,
}

/// PEM in the file itself or in another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// In the file.
    Inline(Secret),
    /// In this file, which is read again when it changes.
    File(PathBuf),
}

/// `client_auth_type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    #[default]
    None,
    /// One is asked for and not looked at.
    Request,
    /// One is needed and not verified.
    RequireAny,
    /// One that is shown is verified.
    VerifyIfGiven,
    /// One is needed and verified.
    RequireAndVerify,
}

/// Cipher suites that can be named: those that Go thinks safe.
pub const CIPHER_SUITES: [&str; 13] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Curves that can be named.
pub const CURVES: [&str; 4] = ["CurveP256", "CurveP384", "CurveP521", "X25519"];

/// Headers that can be set, with the values they may have (none: any).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

/// Reads the file. Relative paths in it start at its folder.
///
/// Errors: everything that is wrong in it, and what this server cannot do.
pub fn load_web_config(path: &Path) -> Result<WebConfig, ConfigErrors> {
    let failed = |problems| {
        let file = FileProblems { file: path.display().to_string(), kind: FileKind::Web, problems };
        ConfigErrors { files: vec![file] }
    };
    let text = read_file(path).map_err(|problem| failed(vec![problem]))?;
    let document = parse(&text).map_err(|problem| failed(vec![problem]))?;
    let mut reader = Reader::new(&text, &document);
    let base = path.parent().unwrap_or(Path::new(""));
    let config = read(&mut reader, &document.root, base);
    let (problems, warnings) = reader.finish();
    if problems.is_empty() { Ok(WebConfig { warnings, ..config }) } else { Err(failed(problems)) }
}

fn read(reader: &mut Reader<'_>, node: &Node, base: &Path) -> WebConfig {
    let mut fields = Fields::new(reader, node, "web.Config");
    let tls = fields.take("tls_server_config").and_then(|node| read_tls(reader, node, base));
    let mut config = WebConfig {
        tls,
        http2: true,
        headers: Vec::new(),
        rate_limit: None,
        users: BTreeMap::new(),
        warnings: Vec::new(),
    };
    if let Some(node) = fields.take("http_server_config") {
        let mut inner = Fields::new(reader, node, "web.HTTPConfig");
        // In Go a null empties the structure.
        config.http2 = inner.bool_or(reader, "http2", !node.is_null());
        if let Some(node) = inner.take("headers") {
            config.headers = read_headers(reader, node);
        }
        inner.finish(reader);
    }
    if let Some(node) = fields.take("rate_limit") {
        let mut inner = Fields::new(reader, node, "web.RateLimiterConfig");
        let burst = inner.take("burst").map_or(0, |node| reader.int(node, "int", i64::MIN.into(), i64::MAX.into()));
        let interval = inner.take("interval").map_or(Duration::ZERO, |node| read_go_duration(reader, node));
        inner.finish(reader);
        if !interval.is_zero() {
            config.rate_limit = Some(RateLimit { burst: u32::try_from(burst.max(0)).unwrap_or(u32::MAX), interval });
        }
    }
    if let Some(node) = fields.take("basic_auth_users") {
        for (key, value) in reader.entries(node, "map[string]config.Secret").iter().take(USERS_MAX + 1) {
            let (name, hash) = (reader.string(key), reader.string(value));
            if let Err(error) = check_bcrypt(&hash) {
                reader.invalid(value.id, error);
            }
            config.users.insert(name, Secret::new(hash));
        }
        if config.users.len() > USERS_MAX {
            reader.invalid(node.id, format!("more than {USERS_MAX} users"));
        }
    }
    fields.finish(reader);
    config
}

fn read_headers(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (key, value) in reader.entries(node, "map[string]string") {
        let (name, text) = (reader.string(key), reader.string(value));
        // Texts as in Prometheus:
        match HEADERS.iter().find(|(known, _)| *known == name) {
            None => reader.invalid(key.id, format!("HTTP header {name:?} can not be configured")),
            Some((_, values)) if !values.is_empty() && !values.contains(&text.as_str()) => {
                let known = values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" ");
                let message = format!("invalid value for {name}. Expected one of: [{known}], but got: {text:?}");
                reader.invalid(value.id, message);
            }
            // What no header can hold would make every answer fail.
            Some(_) if text.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) => {
                reader.invalid(value.id, format!("invalid value for {name}: {text:?}"));
            }
            Some(_) => headers.push((name, text)),
        }
    }
    headers
}

fn read_tls(reader: &mut Reader<'_>, node: &Node, base: &Path) -> Option<WebTls> {
    let mut fields = Fields::new(reader, node, "web.TLSConfig");
    let (cert, key) = (pem(reader, &mut fields, base, "cert"), pem(reader, &mut fields, base, "key"));
    let client_ca = pem(reader, &mut fields, base, "client_ca");
    let auth_node = fields.take("client_auth_type");
    let auth = auth_node.map(|node| reader.string(node)).unwrap_or_default();
    let client_auth = match auth.as_str() {
        "" | "NoClientCert" => ClientAuth::None,
        "RequestClientCert" => ClientAuth::Request,
        // The second is an older spelling of the first.
        "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
        "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
        "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
        other => {
            // Text as in Prometheus:
            reader.invalid(auth_node.map_or(node.id, |node| node.id), format!("invalid ClientAuth: {other}"));
            ClientAuth::None
        }
    };
    let cipher_suites = words(reader, &mut fields, "cipher_suites", &CIPHER_SUITES, "unknown cipher");
    let curves = words(reader, &mut fields, "curve_preferences", &CURVES, "unknown curve");
    let min_version = version(reader, &mut fields, "min_version", TlsVersion::Tls12);
    let max_version = version(reader, &mut fields, "max_version", TlsVersion::Tls13);
    fields.bool_or(reader, "prefer_server_cipher_suites", true);
    let client_allowed_sans =
        fields.take("client_allowed_sans").filter(|node| !node.is_null()).map(|node| reader.strings(node));
    fields.finish(reader);
    if cert.is_none() && key.is_none() && client_ca.is_none() && auth.is_empty() {
        return None;
    }
    // Texts as in Prometheus:
    if cert.is_none() {
        reader.invalid(node.id, "missing one of cert or cert_file");
    } else if key.is_none() {
        reader.invalid(node.id, "missing one of key or key_file");
    }
    if client_ca.is_some() && client_auth == ClientAuth::None {
        reader.invalid(node.id, "client CA's have been configured without a Client Auth Policy");
    }
    if min_version > max_version {
        reader.invalid(node.id, "min_version is above max_version: no client could connect");
    }
    Some(WebTls {
        cert: cert?,
        key: key?,
        client_ca,
        client_auth,
        client_allowed_sans,
        cipher_suites,
        curves,
        min_version,
        max_version,
    })
}

/// Of a text and a file the file counts.
fn pem(reader: &mut Reader<'_>, fields: &mut Fields<'_>, base: &Path, name: &str) -> Option<Pem> {
    let inline = fields.string(reader, name);
    let file = fields.string(reader, &format!("{name}_file"));
    match (file.is_empty(), inline.is_empty()) {
        (false, _) => Some(Pem::File(PathBuf::from(resolve(base, &file)))),
        (true, false) => Some(Pem::Inline(Secret::new(inline))),
        (true, true) => None,
    }
}

fn words(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &str, known: &[&str], complaint: &str) -> Vec<String> {
    let mut words = Vec::new();
    for item in fields.take(name).map(|node| reader.list(node, "[]string")).unwrap_or_default() {
        let word = reader.string(item);
        if known.contains(&word.as_str()) {
            words.push(word);
        } else {
            // Text as in Prometheus:
            reader.invalid(item.id, format!("{complaint}: {word}"));
        }
    }
    words
}

/// A TLS version. What is older than 1.2 is not spoken: as the lowest it is 1.2, as the highest it is refused.
fn version(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: &str, default: TlsVersion) -> TlsVersion {
    let Some(node) = fields.take(name).filter(|node| !node.is_null()) else { return default };
    match reader.string(node).as_str() {
        "TLS12" => TlsVersion::Tls12,
        "TLS13" => TlsVersion::Tls13,
        text @ ("TLS10" | "TLS11") if name == "min_version" => {
            reader.warn(format!("{name}: {text} is taken as TLS12, the lowest version that is spoken"));
            TlsVersion::Tls12
        }
        text @ ("TLS10" | "TLS11") => {
            reader.unsupported(node.id, &format!("{name}: {text}"));
            default
        }
        other => {
            // Text as in Prometheus:
            reader.invalid(node.id, format!("unknown TLS version: {other}"));
            default
        }
    }
}

/// A duration as Go writes it (`1s`, `250ms`, `1m30s`); a bare number is one of nanoseconds.
fn read_go_duration(reader: &mut Reader<'_>, node: &Node) -> Duration {
    let text = reader.string(node);
    if let Ok(ns) = text.parse::<u64>() {
        return Duration::from_nanos(ns);
    }
    parse_go_duration(&text).unwrap_or_else(|| {
        if !node.is_null() {
            reader.invalid(node.id, format!("cannot unmarshal {text:?} into time.Duration"));
        }
        Duration::ZERO
    })
}

fn parse_go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &rest[..end])?;
        seconds += number * factor;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Whether a text has the form of a bcrypt hash.
///
/// Errors: Go's texts.
fn check_bcrypt(hash: &str) -> Result<(), String> {
    // Texts as in Prometheus:
    if hash.len() < 59 {
        return Err("crypto/bcrypt: hashedSecret too short to be a bcrypted password".to_owned());
    }
    let bytes = hash.as_bytes();
    if bytes[0] != b'$' {
        let first = char::from(bytes[0]);
        return Err(format!(
            "crypto/bcrypt: bcrypt hashes must start with '$', but hashedSecret started with '{first}'"
        ));
    }
    if bytes[1] > b'2' {
        let version = char::from(bytes[1]);
        return Err(format!(
            "crypto/bcrypt: bcrypt algorithm version '{version}' requested is newer than current version '2'"
        ));
    }
    let cost = hash.split('$').nth(2).unwrap_or_default();
    let number: u32 = cost.parse().map_err(|_| format!("strconv.Atoi: parsing {cost:?}: invalid syntax"))?;
    if !(4..=31).contains(&number) {
        return Err(format!("crypto/bcrypt: cost {number} is outside allowed inclusive range 4..31"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

    fn read_text(text: &str) -> Result<WebConfig, String> {
        let folder = fk_testkit::TempDir::new("web-config");
        let path = folder.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        load_web_config(&path).map_err(|errors| errors.to_string())
    }

    #[test]
    fn nothing_said_is_plain_http_for_everybody() {
        for text in ["", "{}", "tls_server_config:\nbasic_auth_users:\n", "tls_server_config: {min_version: TLS13}"] {
            let config = read_text(text).unwrap();
            assert_eq!(
                (config.tls, config.http2, config.users.len(), config.rate_limit),
                (None, true, 0, None),
                "{text}"
            );
        }
    }

    #[test]
    fn everything_can_be_said() {
        let text = format!(
            "tls_server_config:\n  cert_file: a.pem\n  key: text\n  client_auth_type: RequireAndVerifyClientCert\n  \
             client_ca_file: /ca.pem\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  \
             curve_preferences: [X25519]\n  min_version: TLS10\n  max_version: TLS13\n  client_allowed_sans: [a]\n\
             http_server_config: {{http2: false, headers: {{X-Frame-Options: deny}}}}\n\
             rate_limit: {{burst: 5, interval: 1m30s}}\nbasic_auth_users: {{alice: '{HASH}'}}\n"
        );
        let config = read_text(&text).unwrap();
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
        assert!(matches!(&tls.cert, Pem::File(path) if path.is_absolute() && path.ends_with("a.pem")));
        assert_eq!((tls.min_version, config.http2, config.warnings.len()), (TlsVersion::Tls12, false, 1));
        assert_eq!(config.rate_limit, Some(RateLimit { burst: 5, interval: Duration::from_secs(90) }));
        assert_eq!(config.headers, [("X-Frame-Options".to_owned(), "deny".to_owned())]);
        let shown = format!("{config:?}");
        assert!(!shown.contains("$2y$") && !shown.contains("text"), "{shown}");
    }

    #[test]
    fn mistakes_are_told_with_the_texts_of_prometheus() {
        for (text, wanted) in [
            ("x: 1", "yaml: unmarshal errors:\n  line 1: field x not found in type web.Config"),
            ("tls_server_config: {cert_file: a}", "missing one of key or key_file"),
            ("tls_server_config: {key_file: a}", "missing one of cert or cert_file"),
            ("tls_server_config: {client_auth_type: x}", "invalid ClientAuth: x"),
            ("tls_server_config: {cert: a, key: b, client_ca: c}", "client CA's have been configured without"),
            ("tls_server_config: {min_version: TLS9}", "unknown TLS version: TLS9"),
            ("tls_server_config: {cert: a, key: b, max_version: TLS11}", "does not support \"max_version: TLS11\""),
            ("tls_server_config: {cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}", "unknown cipher: TLS_RSA"),
            ("tls_server_config: {curve_preferences: [P1]}", "unknown curve: P1"),
            ("tls_server_config: {cert: a, key: b, min_version: TLS13, max_version: TLS12}", "no client could connect"),
            ("http_server_config: {headers: {Server: x}}", "HTTP header \"Server\" can not be configured"),
            (
                "http_server_config: {headers: {X-Frame-Options: x}}",
                "invalid value for X-Frame-Options. Expected one of: [\"deny\" \"sameorigin\"], but got: \"x\"",
            ),
            ("http_server_config: {headers: {X-XSS-Protection: \"a\\nb\"}}", "invalid value for X-XSS-Protection"),
            ("basic_auth_users: {a: short}", "crypto/bcrypt: hashedSecret too short to be a bcrypted password"),
            ("rate_limit: {interval: fast}", "into time.Duration"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        for (hash, wanted) in [
            (HASH.replacen('$', "x", 1), "must start with '$', but hashedSecret started with 'x'"),
            (HASH.replacen("$2y", "$3y", 1), "version '3' requested is newer"),
            (HASH.replacen("$10$", "$99$", 1), "cost 99 is outside allowed inclusive range 4..31"),
            (HASH.replacen("$10$", "$ab$", 1), "strconv.Atoi: parsing \"ab\""),
        ] {
            let error = check_bcrypt(&hash).unwrap_err();
            assert!(error.contains(wanted), "{hash}: {error}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, wanted) in [
            ("1s", Some(1_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1d", None),
            ("", None),
            ("s", None),
            ("-1s", None),
        ] {
            assert_eq!(parse_go_duration(text), wanted.map(Duration::from_millis), "{text}");
        }
    }
}
