//! The HTTP client section, which stands inline in scrape jobs and Alertmanagers.

use std::path::{Path, PathBuf};

use crate::error::{ConfigErrors, FileKind, FileProblems, Problem, ProblemKind};
use crate::reader::{Fields, Reader};
use crate::section::{resolve, shown_texts};
use crate::shown::{SECRET, Shown, ShownMap, ShownMapExt};
use crate::types::{Auth, HeaderValue, HttpClientConfig, ProxyConfig, Secret, SecretSource, TlsConfig, TlsVersion};
use crate::yaml::{Document, Node};
use crate::{go_url, oauth2};

/// Headers that the client sets itself (`reservedHeaders` in prometheus/common).
const RESERVED_HEADERS: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Reads a file that is one HTTP client section, as command-line tools take it. Relative paths in it start at its folder.
///
/// Errors: everything that is wrong in it.
pub fn load_http_client(path: &Path) -> Result<HttpClientConfig, ConfigErrors> {
    let failed = |problems| {
        let file = FileProblems { file: path.display().to_string(), kind: FileKind::Config, problems };
        ConfigErrors { files: vec![file] }
    };
    let unread = |message| failed(vec![Problem { kind: ProblemKind::Syntax, line: 0, column: 0, message }]);
    let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
    let document = Document::parse(&text).map_err(|error| {
        let (line, column) = (error.line, error.column);
        failed(vec![Problem { kind: ProblemKind::Syntax, line, column, message: error.message }])
    })?;
    let mut reader = Reader::new(&text, &document);
    let mut fields = Fields::new(&mut reader, &document.root, "config.HTTPClientConfig");
    let config = read(&mut reader, &mut fields, path.parent().unwrap_or(Path::new("")), &mut ShownMap::new());
    fields.finish(&mut reader);
    let (problems, _) = reader.finish();
    if problems.is_empty() { Ok(config) } else { Err(failed(problems)) }
}

/// Takes the fields of an HTTP client out of `fields`; `shown` gets them as they are displayed.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    base: &Path,
    shown: &mut ShownMap,
) -> HttpClientConfig {
    read_over(reader, fields, base, (true, true), shown)
}

/// The same where redirects and HTTP/2 have other defaults.
pub(crate) fn read_over(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    base: &Path,
    (redirects_followed, http2_enabled): (bool, bool),
    shown: &mut ShownMap,
) -> HttpClientConfig {
    let auth = read_auth(reader, fields, base, shown);
    let mut tls_shown = ShownMap::new();
    let tls = fields.take("tls_config").map(|node| read_tls(reader, node, base, &mut tls_shown)).unwrap_or_default();
    shown.put_map("tls_config", tls_shown);
    let follow_redirects = fields.bool_or(reader, "follow_redirects", redirects_followed);
    let enable_http2 = fields.bool_or(reader, "enable_http2", http2_enabled);
    shown.put_bare("follow_redirects", follow_redirects);
    shown.put_bare("enable_http2", enable_http2);
    let proxy = read_proxy(reader, fields, shown);
    let headers = fields.take("http_headers").map(|node| read_headers(reader, node, base, shown)).unwrap_or_default();
    HttpClientConfig { auth, tls, follow_redirects, enable_http2, proxy, headers }
}

/// A secret that may be inline or in a file; with its secret-manager twin, which nothing can serve.
pub(crate) struct Source {
    inline: String,
    file: String,
    reference: String,
}

/// Reads such a secret. `at_most_one` is said when several are given; `None`: they may be, since none is used.
pub(crate) fn read_source(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    base: &Path,
    name: &str,
    at_most_one: Option<&str>,
) -> Source {
    let id = fields.id;
    let inline = fields.string(reader, name);
    let file = resolve(base, &fields.string(reader, &format!("{name}_file")));
    let reference = fields.string(reader, &format!("{name}_ref"));
    let given = [&inline, &file, &reference].iter().filter(|text| !text.is_empty()).count();
    if let Some(text) = at_most_one.filter(|_| given > 1) {
        reader.invalid(id, text);
    }
    if !reference.is_empty() {
        // Names in a secret manager: Prometheus knows the fields too, and fails on every use of one, since it has no manager.
        reader.unsupported(id, &format!("{name}_ref"));
    }
    Source { inline, file, reference }
}

impl Source {
    pub(crate) fn get(&self) -> Option<SecretSource> {
        if !self.file.is_empty() {
            Some(SecretSource::File(PathBuf::from(&self.file)))
        } else if !self.inline.is_empty() {
            Some(SecretSource::Inline(Secret::new(self.inline.clone())))
        } else {
            None
        }
    }

    /// `hidden`: the inline text is a secret.
    pub(crate) fn show(&self, shown: &mut ShownMap, name: &str, hidden: bool) {
        if !self.inline.is_empty() {
            shown.put_text(name, if hidden { SECRET } else { &self.inline });
        }
        shown.put_nonempty(&format!("{name}_file"), &self.file);
        shown.put_nonempty(&format!("{name}_ref"), &self.reference);
    }
}

fn read_auth(reader: &mut Reader<'_>, fields: &mut Fields<'_>, base: &Path, shown: &mut ShownMap) -> Auth {
    let id = fields.id;
    let basic = fields.take("basic_auth").filter(|node| !node.is_null());
    let authorization = fields.take("authorization").filter(|node| !node.is_null());
    let oauth2 = fields.take("oauth2").filter(|node| !node.is_null());
    let bearer_token = fields.string(reader, "bearer_token");
    let bearer_token_file = resolve(base, &fields.string(reader, "bearer_token_file"));
    let bearer = !bearer_token.is_empty() || !bearer_token_file.is_empty();

    // Texts as in Prometheus:
    if !bearer_token.is_empty() && !bearer_token_file.is_empty() {
        reader.invalid(id, "at most one of bearer_token & bearer_token_file must be configured");
    }
    if (basic.is_some() || oauth2.is_some()) && bearer {
        reader.invalid(id, "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured");
    }
    if authorization.is_some() && bearer {
        reader.invalid(id, "authorization is not compatible with bearer_token & bearer_token_file");
    }
    if [basic.is_some(), authorization.is_some(), oauth2.is_some()].iter().filter(|given| **given).count() > 1 {
        reader.invalid(id, "at most one of basic_auth, oauth2 & authorization must be configured");
    }

    let mut auth = Auth::None;
    if let Some(node) = oauth2 {
        auth = Auth::OAuth2(Box::new(oauth2::read(reader, node, base, shown)));
    }
    if let Some(node) = basic {
        auth = read_basic(reader, node, base, shown);
    }
    if let Some(node) = authorization {
        auth = read_authorization(reader, node, base, shown);
    } else if bearer {
        let credentials = Source { inline: bearer_token, file: bearer_token_file, reference: String::new() };
        auth = header_auth("Bearer".to_owned(), &credentials, shown);
    }
    auth
}

fn read_basic(reader: &mut Reader<'_>, node: &Node, base: &Path, shown: &mut ShownMap) -> Auth {
    let mut fields = Fields::new(reader, node, "config.BasicAuth");
    // Texts as in Prometheus:
    let rule = "at most one of basic_auth username, username_file & username_ref must be configured";
    let username = read_source(reader, &mut fields, base, "username", Some(rule));
    let rule = "at most one of basic_auth password, password_file & password_ref must be configured";
    let password = read_source(reader, &mut fields, base, "password", Some(rule));
    fields.finish(reader);
    let mut map = ShownMap::new();
    username.show(&mut map, "username", false);
    password.show(&mut map, "password", true);
    shown.put("basic_auth", Shown::Map(map));
    let nobody = || SecretSource::Inline(Secret::default());
    Auth::Basic { username: username.get().unwrap_or_else(nobody), password: password.get() }
}

fn read_authorization(reader: &mut Reader<'_>, node: &Node, base: &Path, shown: &mut ShownMap) -> Auth {
    let mut fields = Fields::new(reader, node, "config.Authorization");
    let scheme = fields.string(reader, "type").trim().to_owned();
    // Texts as in Prometheus:
    let rule = "at most one of authorization credentials & credentials_file must be configured";
    let credentials = read_source(reader, &mut fields, base, "credentials", Some(rule));
    fields.finish(reader);
    if scheme.eq_ignore_ascii_case("basic") {
        reader.invalid(node.id, "authorization type cannot be set to \"basic\", use \"basic_auth\" instead");
    }
    header_auth(if scheme.is_empty() { "Bearer".to_owned() } else { scheme }, &credentials, shown)
}

fn header_auth(scheme: String, credentials: &Source, shown: &mut ShownMap) -> Auth {
    let mut map = ShownMap::new();
    map.put_text("type", &scheme);
    credentials.show(&mut map, "credentials", true);
    shown.put("authorization", Shown::Map(map));
    Auth::Header { scheme, credentials: credentials.get() }
}

/// Reads a `tls_config` section.
pub(crate) fn read_tls(reader: &mut Reader<'_>, node: &Node, base: &Path, shown: &mut ShownMap) -> TlsConfig {
    let mut fields = Fields::new(reader, node, "config.plain");
    // Texts as in Prometheus:
    let ca =
        read_source(reader, &mut fields, base, "ca", Some("at most one of ca, ca_file & ca_ref must be configured"));
    let cert = read_source(
        reader,
        &mut fields,
        base,
        "cert",
        Some("at most one of cert, cert_file & cert_ref must be configured"),
    );
    let key = read_source(
        reader,
        &mut fields,
        base,
        "key",
        Some("at most one of key, key_file & key_ref must be configured"),
    );
    let server_name = fields.string(reader, "server_name");
    let insecure_skip_verify = fields.bool_or(reader, "insecure_skip_verify", false);
    let (min_shown, min_version) = read_tls_version(reader, &mut fields, "min_version");
    let (max_shown, max_version) = read_tls_version(reader, &mut fields, "max_version");
    fields.finish(reader);
    let tls = TlsConfig {
        ca: ca.get(),
        cert: cert.get(),
        key: key.get(),
        server_name: Some(server_name.clone()).filter(|name| !name.is_empty()),
        insecure_skip_verify,
        min_version,
        max_version,
    };
    if tls.cert.is_some() && tls.key.is_none() {
        reader.invalid(
            node.id,
            "exactly one of key or key_file must be configured when a client certificate is configured",
        );
    } else if tls.key.is_some() && tls.cert.is_none() {
        reader.invalid(node.id, "exactly one of cert or cert_file must be configured when a client key is configured");
    }
    // The names sort as the versions do.
    if let (Some(min), Some(max)) = (&min_shown, &max_shown)
        && max < min
    {
        let message =
            "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified";
        reader.invalid(node.id, message);
    }
    let sources = [("ca", &ca, false), ("cert", &cert, false), ("key", &key, true)];
    let referenced = sources.iter().any(|(_, source, _)| !source.reference.is_empty());
    if tls != TlsConfig::default() || referenced || min_shown.is_some() || max_shown.is_some() {
        for (name, source, hidden) in sources {
            if !source.inline.is_empty() {
                shown.put_text(name, if hidden { SECRET } else { &source.inline });
            }
        }
        for (name, source, _) in sources {
            shown.put_nonempty(&format!("{name}_file"), &source.file);
        }
        for (name, source, _) in sources {
            shown.put_nonempty(&format!("{name}_ref"), &source.reference);
        }
        shown.put_nonempty("server_name", &server_name);
        shown.put_bare("insecure_skip_verify", insecure_skip_verify);
        shown.put_nonempty("min_version", &min_shown.unwrap_or_default());
        shown.put_nonempty("max_version", &max_shown.unwrap_or_default());
    }
    tls
}

/// The version as it was written, if it is one, and as it is used, if it can be.
fn read_tls_version(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: &str,
) -> (Option<String>, Option<TlsVersion>) {
    let Some(node) = fields.take(name).filter(|node| !node.is_null()) else { return (None, None) };
    let text = reader.string(node);
    let version = match text.as_str() {
        "TLS12" => Some(TlsVersion::Tls12),
        "TLS13" => Some(TlsVersion::Tls13),
        // The library speaks nothing older than 1.2, which is within these bounds, and is what servers agree on that can.
        "TLS10" | "TLS11" if name == "min_version" => {
            reader.warn(format!("{name}: {text} is taken as TLS12, the lowest version that is spoken"));
            None
        }
        "TLS10" | "TLS11" => {
            reader.unsupported(node.id, &format!("{name}: {text}"));
            None
        }
        _ => {
            // Text as in Prometheus:
            reader.invalid(node.id, format!("unknown TLS version: {text}"));
            return (None, None);
        }
    };
    (Some(text), version)
}

/// Takes the fields of a proxy out of `fields`.
pub(crate) fn read_proxy(reader: &mut Reader<'_>, fields: &mut Fields<'_>, shown: &mut ShownMap) -> ProxyConfig {
    let id = fields.id;
    let url_node = fields.take("proxy_url").filter(|node| !node.is_null());
    let url = url_node.map(|node| reader.string(node)).unwrap_or_default();
    let no_proxy = fields.string(reader, "no_proxy");
    let from_environment = fields.bool_or(reader, "proxy_from_environment", false);
    let connect_headers: Vec<(String, Vec<Secret>)> = match fields.take("proxy_connect_header") {
        Some(node) => {
            let entries = reader.entries(node, "map[string][]config.Secret");
            entries
                .iter()
                .map(|(key, value)| (reader.string(key), reader.strings(value).into_iter().map(Secret::new).collect()))
                .collect()
        }
        None => Vec::new(),
    };
    if let Some(node) = url_node
        && !url.is_empty()
        && let Err(error) = go_url::parse(&url)
    {
        reader.invalid(node.id, error);
    }
    // Texts as in Prometheus:
    if !connect_headers.is_empty() && !from_environment && url.is_empty() {
        let message =
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured";
        reader.invalid(id, message);
    }
    if from_environment && !url.is_empty() {
        reader.invalid(id, "if proxy_from_environment is configured, proxy_url must not be configured");
    }
    if from_environment && !no_proxy.is_empty() {
        reader.invalid(id, "if proxy_from_environment is configured, no_proxy must not be configured");
    } else if url.is_empty() && !no_proxy.is_empty() {
        reader.invalid(id, "if no_proxy is configured, proxy_url must also be configured");
    }
    shown.put_nonempty("proxy_url", &go_url::redacted(&url));
    shown.put_nonempty("no_proxy", &no_proxy);
    shown.put_true("proxy_from_environment", from_environment);
    let mut headers_shown: ShownMap = connect_headers
        .iter()
        .map(|(name, values)| (name.clone(), Shown::Seq(vec![Shown::Text(SECRET.to_owned()); values.len()])))
        .collect();
    headers_shown.sort_by(|a, b| a.0.cmp(&b.0));
    shown.put_map("proxy_connect_header", headers_shown);
    if from_environment {
        ProxyConfig::Environment { connect_headers }
    } else if url.is_empty() {
        ProxyConfig::None
    } else {
        ProxyConfig::Url { url, no_proxy, connect_headers }
    }
}

fn read_headers(
    reader: &mut Reader<'_>,
    node: &Node,
    base: &Path,
    shown: &mut ShownMap,
) -> Vec<(String, Vec<HeaderValue>)> {
    let mut headers = Vec::new();
    let mut map = ShownMap::new();
    for (key, value) in reader.entries(node, "map[string]config.Header") {
        let name = reader.string(key);
        if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            // Text as in Prometheus:
            reader.invalid(key.id, format!("setting header {:?} is not allowed", canonical_header(&name)));
        }
        let mut fields = Fields::new(reader, value, "config.Header");
        let mut texts = |reader: &mut Reader<'_>, name: &str| {
            fields.take(name).map(|node| reader.strings(node)).unwrap_or_default()
        };
        let plain = texts(reader, "values");
        let secrets = texts(reader, "secrets");
        let files: Vec<String> = texts(reader, "files").iter().map(|file| resolve(base, file)).collect();
        fields.finish(reader);
        let mut entry = ShownMap::new();
        entry.put_seq("values", shown_texts(&plain));
        entry.put_seq("secrets", vec![Shown::Text(SECRET.to_owned()); secrets.len()]);
        entry.put_seq("files", shown_texts(&files));
        map.put(&name, Shown::Map(entry));
        let mut all: Vec<HeaderValue> = plain.into_iter().map(HeaderValue::Plain).collect();
        all.extend(secrets.into_iter().map(|text| HeaderValue::Secret(Secret::new(text))));
        all.extend(files.into_iter().map(|path| HeaderValue::File(PathBuf::from(path))));
        headers.push((name, all));
    }
    map.sort_by(|a, b| a.0.cmp(&b.0));
    shown.put_map("http_headers", map);
    headers
}

/// `x-a-b` as `X-A-B`.
fn canonical_header(name: &str) -> String {
    let upper = |part: &str| {
        let (head, tail) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
        head.to_ascii_uppercase() + &tail.to_ascii_lowercase()
    };
    name.split('-').map(upper).collect::<Vec<_>>().join("-")
}
