//! The guard and TLS on real sockets: nobody gets past, and every kind of agreement that can be configured is kept.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::fakes::World;

/// Of `secret`, with the least cost there is.
fn hash() -> String {
    bcrypt::hash("secret", 4).unwrap()
}

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../http/testdata")).join(name)
}

struct Guarded {
    addr: SocketAddr,
    handle: ServerHandle,
    folder: fk_testkit::TempDir,
    _world: World,
}

impl Guarded {
    fn start(text: &str) -> Guarded {
        Guarded::start_with(text, 512)
    }

    fn start_with(text: &str, connections: usize) -> Guarded {
        let folder = fk_testkit::TempDir::new("web-secure");
        let path = folder.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        let world = World::with(|options| {
            options.workers = Some(1);
            options.lifecycle = true;
            options.admin = true;
            options.max_connections = connections;
            options.web_config = Some(path);
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = crate::serve(vec![listener], Arc::clone(&world.state)).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Guarded { addr, handle, folder, _world: world }
    }

    fn rewrite(&self, text: &str) {
        std::fs::write(self.folder.path().join("web.yml"), text).unwrap();
    }

    /// Status line and headers of the answer to a request with these headers.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        exchange(stream, method, path, headers).await.unwrap()
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
) -> std::io::Result<String> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {text}\r\n")
}

#[actix_web::test]
async fn nobody_passes_without_a_password_on_any_route() {
    let server = Guarded::start(&format!("basic_auth_users: {{alice: '{}'}}", hash()));
    let forged = [
        String::new(),
        basic("alice", "wrong"),
        basic("bob", "secret"),
        basic("", ""),
        "Authorization: Basic\r\n".to_owned(),
        "Authorization: Bearer secret\r\n".to_owned(),
        "X-Forwarded-User: alice\r\n".to_owned(),
    ];
    let paths: Vec<String> = crate::routes()
        .map(|(path, _)| path.replace("{name}", "a").replace("{kind}", "a"))
        .chain(["/nowhere", "//api/v1/query", "/API/V1/QUERY", "/-/../-/quit", "*"].map(str::to_owned))
        .collect();
    for (at, path) in paths.iter().enumerate() {
        for method in ["GET", "POST", "PUT", "OPTIONS", "HEAD"] {
            // All forgeries on some paths, each of them on all paths in turn.
            let headers = &forged[at % forged.len()];
            let answer = server.ask(method, path, headers).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{method} {path} {headers:?}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("www-authenticate: basic"), "{answer}");
        }
    }
    for headers in &forged {
        assert!(server.ask("GET", "/-/healthy", headers).await.starts_with("HTTP/1.1 401 "), "{headers}");
    }
    for _ in 0..3 {
        let answer = server.ask("GET", "/-/healthy", &basic("alice", "secret")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn users_headers_and_mistakes_in_the_file_count_at_once() {
    let server = Guarded::start("http_server_config: {headers: {X-Frame-Options: deny}}");
    let answer = server.ask("GET", "/-/healthy", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.to_ascii_lowercase().contains("x-frame-options: deny"));
    server.rewrite(&format!(
        "basic_auth_users: {{alice: '{}'}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}",
        hash()
    ));
    let answer = server.ask("GET", "/-/healthy", "").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 401 ") && answer.contains("x-frame-options: deny"), "{answer}");
    let good = basic("alice", "secret");
    assert!(server.ask("GET", "/-/healthy", &good).await.starts_with("HTTP/1.1 200 "));
    // The same name with another password: what was kept of the old one is worth nothing.
    server.rewrite(&format!("basic_auth_users: {{alice: '{}'}}", bcrypt::hash("other", 4).unwrap()));
    assert!(server.ask("GET", "/-/healthy", &good).await.starts_with("HTTP/1.1 401 "));
    server.rewrite("basic_auth_users: [");
    assert!(server.ask("GET", "/-/healthy", &good).await.starts_with("HTTP/1.1 500 "));
    server.rewrite("");
    assert!(server.ask("GET", "/-/healthy", "").await.starts_with("HTTP/1.1 200 "));
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn too_many_requests_are_refused() {
    let server = Guarded::start("rate_limit: {burst: 2, interval: 1h}");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.ask("GET", "/-/healthy", "").await[9..12].to_owned());
    }
    assert_eq!(statuses, ["200", "200", "429", "429"]);
    server.handle.stop(false).await;
}

/// A file for TLS with more fields.
fn tls(more: &str) -> String {
    let (cert, key) = (testdata("server.pem"), testdata("server.key"));
    format!("tls_server_config: {{cert_file: {}, key_file: {}{more}}}", cert.display(), key.display())
}

fn client_ca(more: &str) -> String {
    tls(&format!(", client_ca_file: {}, {more}", testdata("ca.pem").display()))
}

#[derive(Clone, Copy)]
struct Client {
    certificate: Option<&'static str>,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    http2: bool,
}

static TLS12: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
static TLS13: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

const PLAIN: Client = Client { certificate: None, versions: rustls::ALL_VERSIONS, http2: false };

/// Connects over TLS and asks; the protocol that was agreed on, and the answer.
async fn ask_tls(addr: SocketAddr, client: Client) -> std::io::Result<(Option<Vec<u8>>, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(testdata("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(client.versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match client.certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(testdata(&format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(testdata(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = if client.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { Vec::new() };
    let name = ServerName::try_from("server.test").unwrap();
    let stream = TcpStream::connect(addr).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    if protocol.as_deref() == Some(b"h2") {
        return Ok((protocol, String::new()));
    }
    Ok((protocol, exchange(stream, "GET", "/-/healthy", "").await?))
}

/// Whether a client gets an answer.
async fn passes(server: &Guarded, client: Client) -> bool {
    ask_tls(server.addr, client).await.is_ok_and(|(_, answer)| answer.starts_with("HTTP/1.1 200 "))
}

#[actix_web::test]
async fn certificates_of_clients_are_asked_for_as_configured() {
    let own = Client { certificate: Some("client"), ..PLAIN };
    let foreign = Client { certificate: Some("selfsigned"), ..PLAIN };
    for (text, nobody, known, unknown) in [
        (tls(""), true, true, true),
        (tls(", client_auth_type: RequestClientCert"), true, true, true),
        (tls(", client_auth_type: RequireAnyClientCert"), false, true, true),
        (tls(", client_auth_type: RequireClientCert"), false, true, true),
        (client_ca("client_auth_type: VerifyClientCertIfGiven"), true, true, false),
        (client_ca("client_auth_type: RequireAndVerifyClientCert"), false, true, false),
        (
            client_ca("client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [client.test]"),
            false,
            true,
            false,
        ),
        (
            client_ca("client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [other.test]"),
            false,
            false,
            false,
        ),
        (
            client_ca("client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [client.test]"),
            false,
            true,
            false,
        ),
    ] {
        let server = Guarded::start(&text);
        for versions in [&TLS12, &TLS13] {
            assert_eq!(passes(&server, Client { versions, ..PLAIN }).await, nobody, "no certificate: {text}");
            assert_eq!(passes(&server, Client { versions, ..own }).await, known, "own certificate: {text}");
            assert_eq!(passes(&server, Client { versions, ..foreign }).await, unknown, "foreign certificate: {text}");
        }
        server.handle.stop(false).await;
    }
}

#[actix_web::test]
async fn versions_suites_and_protocols_are_agreed_on_as_configured() {
    let old = Client { versions: &TLS12, ..PLAIN };
    let new = Client { versions: &TLS13, ..PLAIN };
    for (more, old_passes, new_passes) in [
        ("", true, true),
        (", min_version: TLS13", false, true),
        (", max_version: TLS12", true, false),
        (", cipher_suites: [TLS_AES_128_GCM_SHA256]", false, true),
        (", cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384], curve_preferences: [CurveP384]", true, true),
    ] {
        let server = Guarded::start(&tls(more));
        assert_eq!((passes(&server, old).await, passes(&server, new).await), (old_passes, new_passes), "{more}");
        server.handle.stop(false).await;
    }
    let both = Client { http2: true, ..PLAIN };
    for (more, wanted) in [("", &b"h2"[..]), ("\nhttp_server_config: {http2: false}", b"http/1.1")] {
        let server = Guarded::start(&format!("{}{more}", tls("")));
        assert_eq!(ask_tls(server.addr, both).await.unwrap().0.as_deref(), Some(wanted));
        assert!(passes(&server, PLAIN).await);
        server.handle.stop(false).await;
    }
}

#[actix_web::test]
async fn new_connections_have_the_newest_configuration() {
    let server = Guarded::start(&tls(""));
    assert!(passes(&server, PLAIN).await);
    server.rewrite(&client_ca("client_auth_type: RequireAndVerifyClientCert"));
    assert!(!passes(&server, PLAIN).await);
    assert!(passes(&server, Client { certificate: Some("client"), ..PLAIN }).await);
    server.rewrite("tls_server_config: {cert_file: nowhere, key_file: nowhere}");
    // The last good agreement, and an answer that tells that something is wrong.
    let (_, answer) = ask_tls(server.addr, Client { certificate: Some("client"), ..PLAIN }).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    server.handle.stop(false).await;
}

#[test]
fn what_cannot_work_is_told_before_anything_starts() {
    let folder = fk_testkit::TempDir::new("web-file");
    let path = folder.path().join("web.yml");
    let (cert, other_key) = (testdata("server.pem"), testdata("client.key"));
    for (text, wanted) in [
        ("tls_server_config: {cert_file: nowhere.pem, key_file: x}".to_owned(), "failed to read cert_file"),
        ("tls_server_config: {cert: x, key: y}".to_owned(), "failed to load X509KeyPair"),
        (
            format!("tls_server_config: {{cert_file: {}, key_file: {}}}", cert.display(), other_key.display()),
            "failed to load X509KeyPair",
        ),
        (tls(", client_auth_type: RequireAndVerifyClientCert"), "without a client CA"),
        (tls(", curve_preferences: [CurveP521]"), "none of the curve_preferences"),
        (tls(", max_version: TLS12, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]"), "none of the cipher_suites"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = crate::WebFile::open(&path).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}

#[actix_web::test]
async fn slow_clients_do_not_keep_others_waiting() {
    const SLOW: usize = 400;
    for text in [tls(""), format!("basic_auth_users: {{alice: '{}'}}", hash())] {
        let server = Guarded::start_with(&text, 4 * SLOW);
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            slow.push(stream);
        }
        let start = Instant::now();
        if text.starts_with("tls") {
            assert!(passes(&server, PLAIN).await);
        } else {
            assert!(server.ask("GET", "/-/healthy", &basic("alice", "secret")).await.starts_with("HTTP/1.1 200 "));
        }
        // Far below the time that the slow ones are given.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(slow);
        server.handle.stop(false).await;
    }
}
