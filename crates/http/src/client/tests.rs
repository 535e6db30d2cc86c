//! Tests against a little server that answers from a script.

use std::io::Write as _;
use std::path::Path;

use fk_config::{Auth, HeaderValue as Configured, ProxyConfig, Secret, SecretSource, TlsConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::timings::{Stopwatch, Timings};

/// Answers one request per entry of `answers`, each on its own connection, and returns the requests' headers and bodies.
pub(crate) async fn serve(listener: TcpListener, answers: Vec<Vec<u8>>) -> Vec<String> {
    let mut requests = Vec::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        requests.push(read_request(&mut stream).await);
        stream.write_all(&answer).await.unwrap();
    }
    requests
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let len = stream.read(&mut piece).await.unwrap();
        request.extend_from_slice(&piece[..len]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if len == 0 || text.find("\r\n\r\n").is_some_and(|end| request.len() >= end + 4 + length) {
            return text;
        }
    }
}

pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

pub(crate) fn request(url: &str) -> ScrapeRequest<'_> {
    ScrapeRequest {
        url,
        accept: "text/plain",
        user_agent: "Prometheus/3.14.0",
        timeout: Duration::from_millis(2500),
        body_size_limit: 0,
        enable_compression: true,
        watch: None,
    }
}

/// Scrapes `/metrics` of a server with these answers. Returns result, body and requests.
fn scrape(
    config: &HttpClientConfig,
    change: impl FnOnce(&mut ScrapeRequest<'_>),
    answers: Vec<Vec<u8>>,
) -> (Result<ScrapeResponse, String>, Vec<u8>, Vec<String>) {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/metrics");
        let server = tokio::spawn(serve(listener, answers));
        let mut request = request(&url);
        change(&mut request);
        let mut body = b"old".to_vec();
        let mut result = Client::new(config).unwrap().scrape(&request, &mut body).await;
        let requests = server.await.unwrap();
        if let Ok(response) = &mut result {
            body.drain(..std::mem::take(&mut response.body_at));
        }
        let result = result.map_err(|e| e.to_string().replace(&port.to_string(), "PORT"));
        (result, body, requests)
    })
}

pub(crate) fn header<'r>(request: &'r str, name: &str) -> Vec<&'r str> {
    let prefix = format!("{}: ", name.to_lowercase());
    request.lines().filter(|line| line.to_lowercase().starts_with(&prefix)).map(|line| &line[prefix.len()..]).collect()
}

fn with_secrets() -> HttpClientConfig {
    HttpClientConfig {
        auth: Auth::Basic {
            username: SecretSource::Inline(Secret::new("me")),
            password: Some(SecretSource::Inline(Secret::new("pw"))),
        },
        headers: vec![("X-Tenant".to_owned(), vec![Configured::Plain("t".to_owned())])],
        ..HttpClientConfig::default()
    }
}

#[test]
fn scrape_sends_the_headers_of_prometheus_and_reads_the_body() {
    let ok = answer("200 OK", "Content-Type: text/plain\r\n", b"a 1\n");
    let (result, body, requests) = scrape(&with_secrets(), |_| {}, vec![ok]);
    assert_eq!(result, Ok(ScrapeResponse { content_type: "text/plain".to_owned(), wire_bytes: 4, body_at: 0 }));
    assert_eq!(body, b"a 1\n");
    assert!(requests[0].starts_with("GET /metrics HTTP/1.1\r\n"), "{}", requests[0]);
    for (name, value) in [
        ("accept", "text/plain"),
        ("accept-encoding", "gzip"),
        ("user-agent", "Prometheus/3.14.0"),
        ("x-prometheus-scrape-timeout-seconds", "2.5"),
        ("authorization", "Basic bWU6cHc="),
        ("x-tenant", "t"),
    ] {
        assert_eq!(header(&requests[0], name), [value], "{name}");
    }
}

#[test]
fn gzip_is_unpacked_and_identity_can_be_asked_for() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(b"a 1\n").unwrap();
    let packed = encoder.finish().unwrap();
    let ok = answer("200 OK", "Content-Encoding: gzip\r\n", &packed);
    let (result, body, requests) = scrape(&HttpClientConfig::default(), |r| r.enable_compression = false, vec![ok]);
    assert_eq!((result.unwrap().wire_bytes, body.as_slice()), (packed.len(), &b"a 1\n"[..]));
    assert_eq!(header(&requests[0], "accept-encoding"), ["identity"]);
}

fn check_error(answers: Vec<Vec<u8>>, change: impl FnOnce(&mut ScrapeRequest<'_>), text: &str) {
    let (result, _, _) = scrape(&HttpClientConfig::default(), change, answers);
    assert_eq!(result.unwrap_err(), text);
}

#[test]
fn failures_read_as_in_prometheus() {
    check_error(vec![answer("404 Gone Fishing", "", b"")], |_| {}, "server returned HTTP status 404 Not Found");
    check_error(vec![answer("204 No Content", "", b"")], |_| {}, "server returned HTTP status 204 No Content");
    check_error(vec![answer("200 OK", "", b"0123")], |r| r.body_size_limit = 4, "body size limit exceeded");
    check_error(vec![b"".to_vec()], |_| {}, r#"Get "http://127.0.0.1:PORT/metrics": EOF"#);
    let short = answer("200 OK", "", b"0123");
    check_error(vec![short[..short.len() - 1].to_vec()], |_| {}, "unexpected EOF");
}

#[test]
fn refused_connections_and_missed_deadlines_read_as_in_go() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}/metrics");
        let client = Client::new(&HttpClientConfig::default()).unwrap();
        let short = ScrapeRequest { timeout: Duration::from_millis(20), ..request(&url) };
        // Connected by the backlog, never answered.
        let error = client.scrape(&short, &mut Vec::new()).await.unwrap_err().to_string();
        assert_eq!(error, format!("Get \"{url}\": context deadline exceeded"));
        drop(listener);
        let error = client.scrape(&request(&url), &mut Vec::new()).await.unwrap_err().to_string();
        assert_eq!(error, format!("Get \"{url}\": dial tcp {address}: connect: connection refused"));
    });
}

#[test]
fn deadline_covers_the_body() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na").await.unwrap();
            stream
        });
        let request = ScrapeRequest { timeout: Duration::from_millis(200), ..request(&url) };
        let client = Client::new(&HttpClientConfig::default()).unwrap();
        let error = client.scrape(&request, &mut Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "context deadline exceeded");
        drop(server.await.unwrap());
    });
}

/// Two servers: the first redirects to the second. Returns what the second one was asked.
fn redirected(config: &HttpClientConfig, to_host: &str) -> String {
    run(async {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a", first.local_addr().unwrap());
        let same = to_host == "same";
        let target = match same {
            true => "/b".to_owned(),
            false => format!("http://{to_host}:{}/b", second.local_addr().unwrap().port()),
        };
        let redirect = answer("302 Found", &format!("Location: {target}\r\n"), b"");
        let ok = answer("200 OK", "", b"a 1\n");
        let answers = if same { vec![redirect, ok.clone()] } else { vec![redirect] };
        let first = tokio::spawn(serve(first, answers));
        let second = (!same).then(|| tokio::spawn(serve(second, vec![ok])));
        let mut body = Vec::new();
        let response = Client::new(config).unwrap().scrape(&request(&url), &mut body).await.unwrap();
        assert_eq!(&body[response.body_at..], b"a 1\n");
        let mut requests = first.await.unwrap();
        if let Some(second) = second {
            requests.extend(second.await.unwrap());
        }
        assert_eq!(header(&requests[0], "x-tenant"), ["t"]);
        requests.swap_remove(1)
    })
}

#[test]
fn secrets_follow_redirects_only_on_the_same_host() {
    // Another port is still the same host, as in Prometheus.
    for host in ["same", "127.0.0.1"] {
        let at_home = redirected(&with_secrets(), host);
        assert!(at_home.starts_with("GET /b "));
        assert_eq!((header(&at_home, "authorization").len(), header(&at_home, "x-tenant").len()), (1, 1), "{host}");
    }
    let abroad = redirected(&with_secrets(), "localhost");
    assert!(abroad.starts_with("GET /b "));
    assert_eq!((header(&abroad, "authorization").len(), header(&abroad, "x-tenant").len()), (0, 0));
    assert_eq!(header(&abroad, "accept"), ["text/plain"]);
}

#[test]
fn hosts_below_the_first_one_are_trusted_and_nobody_again_who_was_not() {
    for (chain, trusted) in [
        (&["http://a.test:80/", "http://a.test:90/", "https://a.test/"][..], true),
        (&["http://a.test/", "http://x.a.test/", "http://a.test/"], true),
        (&["http://a.test/", "http://xa.test/"], false),
        (&["http://x.a.test/", "http://a.test/"], false),
        (&["http://a.test/", "http://b.test/", "http://a.test/"], false),
        (&["https://a.test/", "http://a.test/"], false),
        (&["http://0.0.1/", "http://127.0.0.1/"], false),
        (&["http://[::1]/", "http://[::1]:90/"], true),
        (&["http://[::1]/", "http://[::2]/"], false),
    ] {
        let mut urls = chain.iter().map(|url| Url::parse(url).unwrap());
        let mut hop = Hop::first(urls.next().unwrap());
        urls.for_each(|next| hop.follow(next));
        assert_eq!((hop.trusted, hop.followed), (trusted, chain.len() - 1), "{chain:?}");
    }
}

#[test]
fn redirects_can_be_off_and_are_bounded() {
    let redirect = answer("301 Moved Permanently", "Location: /again\r\n", b"");
    let config = HttpClientConfig { follow_redirects: false, ..HttpClientConfig::default() };
    let (result, _, _) = scrape(&config, |_| {}, vec![redirect.clone()]);
    assert_eq!(result.unwrap_err(), "server returned HTTP status 301 Moved Permanently");
    let (result, _, requests) = scrape(&HttpClientConfig::default(), |_| {}, vec![redirect; REDIRECTS_MAX + 1]);
    assert_eq!(result.unwrap_err(), r#"Get "http://127.0.0.1:PORT/again": stopped after 10 redirects"#);
    assert_eq!(requests.len(), 11);
}

#[test]
fn pushes_are_posted_and_repeated_where_a_redirect_asks_for_it() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v2/alerts", listener.local_addr().unwrap());
        let again = answer("307 Temporary Redirect", "Location: /other\r\n", b"");
        let answers = vec![again, answer("200 OK", "", b"{}"), answer("500 Internal Server Error", "", b"")];
        let server = tokio::spawn(serve(listener, answers));
        let client = Client::new(&HttpClientConfig::default()).unwrap();
        let push = || client.post_json(&url, "Prometheus/3.14.0", "[{}]".into(), Duration::from_secs(5));
        push().await.unwrap();
        assert_eq!(push().await.unwrap_err().to_string(), "bad response status 500 Internal Server Error");
        let requests = server.await.unwrap();
        assert!(requests[1].starts_with("POST /other ") && requests[1].ends_with("\r\n\r\n[{}]"), "{}", requests[1]);
        assert_eq!(header(&requests[1], "content-type"), ["application/json"]);
    });
}

#[test]
fn proxies_are_asked_unless_the_host_is_exempt() {
    run(async {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
        let server = tokio::spawn(serve(proxy, vec![answer("200 OK", "", b"a 1\n")]));
        // Whoever lists hosts exempts this machine with them.
        let config = |no_proxy: &str| HttpClientConfig {
            proxy: ProxyConfig::Url {
                url: proxy_url.clone(),
                no_proxy: no_proxy.to_owned(),
                connect_headers: Vec::new(),
            },
            ..HttpClientConfig::default()
        };
        let client = Client::new(&config("")).unwrap();
        client.scrape(&request("http://target.invalid:9100/metrics"), &mut Vec::new()).await.unwrap();
        assert!(server.await.unwrap()[0].starts_with("GET http://target.invalid:9100/metrics HTTP/1.1\r\n"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener, vec![answer("200 OK", "", b"a 1\n")]));
        let client = Client::new(&config("127.0.0.1")).unwrap();
        client.scrape(&request(&url), &mut Vec::new()).await.unwrap();
        assert!(server.await.unwrap()[0].starts_with("GET /metrics HTTP/1.1\r\n"));
    });
}

#[test]
fn unix_sockets_are_connected_to() {
    run(async {
        let dir = fk_testkit::TempDir::new("unix-socket");
        let path = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let len = stream.read(&mut request).await.unwrap();
            stream.write_all(&answer("200 OK", "", b"a 1\n")).await.unwrap();
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        let client = Client::with_unix_socket(&HttpClientConfig::default(), path.to_str().unwrap()).unwrap();
        let mut body = Vec::new();
        client.scrape(&request("http://app/metrics"), &mut body).await.unwrap();
        assert_eq!(body, b"a 1\n");
        assert_eq!(header(&server.await.unwrap(), "host"), ["app"]);
    });
}

#[test]
fn clients_without_what_they_need_are_refused() {
    let file = |path: &str| Some(SecretSource::File(Path::new(path).to_owned()));
    let ca = TlsConfig { ca: file("/nonexistent/ca.pem"), ..TlsConfig::default() };
    let garbage = TlsConfig { ca: Some(SecretSource::Inline(Secret::new("no PEM"))), ..TlsConfig::default() };
    for (tls, text) in [
        (ca, "unable to load specified CA cert /nonexistent/ca.pem: "),
        (garbage, "unable to use specified CA cert: no certificate found"),
    ] {
        let error = Client::new(&HttpClientConfig { tls, ..HttpClientConfig::default() }).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

// === TLS ===

const CA: &str = include_str!("../../testdata/ca.pem");
const SELF_SIGNED: &str = include_str!("../../testdata/selfsigned.pem");

/// A TLS server that answers one request, in a thread. Returns its port and whether it could answer.
fn tls_server(certificate: &str, key: &str, client_ca: Option<&str>) -> (u16, std::thread::JoinHandle<bool>) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::Read as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = match client_ca {
        None => builder.unwrap().with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.unwrap().with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.into()).unwrap(), tcp);
        let answered = stream.read(&mut [0; 4096]).is_ok() && stream.write_all(&answer("200 OK", "", b"a 1\n")).is_ok();
        stream.conn.send_close_notify();
        let _ = stream.flush();
        answered
    });
    (port, server)
}

/// Scrapes a TLS server with the certificate `name` of the test data.
fn scrape_tls(name: &str, tls: TlsConfig, client_ca: Option<&str>) -> Result<usize, String> {
    let read = |extension: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        std::fs::read_to_string(dir.join(format!("{name}.{extension}"))).unwrap()
    };
    let (port, server) = tls_server(&read("pem"), &read("key"), client_ca);
    let client = Client::new(&HttpClientConfig { tls, ..HttpClientConfig::default() }).unwrap();
    let url = format!("https://127.0.0.1:{port}/metrics");
    let watch = Stopwatch::default();
    let request = ScrapeRequest { watch: Some(&watch), ..request(&url) };
    let result = run(async { client.scrape(&request, &mut Vec::new()).await });
    assert_eq!(server.join().unwrap(), result.is_ok());
    let times = watch.timings();
    // A handshake that fails takes its time as well.
    assert!(times.connect_s.is_some() && times.tls_s.is_some_and(|tls_s| tls_s > 0.0), "{times:?}");
    result.map(|response| response.wire_bytes).map_err(|error| error.to_string())
}

fn inline(text: &str) -> Option<SecretSource> {
    Some(SecretSource::Inline(Secret::new(text)))
}

#[test]
fn servers_are_verified_by_authority_and_name() {
    let named = |name: &str| TlsConfig { server_name: Some(name.to_owned()), ca: inline(CA), ..TlsConfig::default() };
    assert_eq!(scrape_tls("server", named("server.test"), None), Ok(4));
    let error = scrape_tls("server", named("other.test"), None).unwrap_err();
    assert!(error.contains("certificate not valid for name \"other.test\""), "{error}");
    let error = scrape_tls("server", TlsConfig { ca: inline(SELF_SIGNED), ..named("server.test") }, None).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let insecure = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
    assert_eq!(scrape_tls("server", insecure, None), Ok(4));
}

#[test]
fn self_signed_servers_are_trusted_when_they_are_their_own_authority() {
    let own = TlsConfig { ca: inline(SELF_SIGNED), ..TlsConfig::default() };
    assert_eq!(scrape_tls("selfsigned", own.clone(), None), Ok(4));
    let other_name = TlsConfig { server_name: Some("other.test".to_owned()), ..own };
    assert!(scrape_tls("selfsigned", other_name, None).is_err());
}

#[test]
fn client_certificates_are_presented() {
    let insecure = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
    let with_certificate = TlsConfig {
        cert: inline(include_str!("../../testdata/client.pem")),
        key: inline(include_str!("../../testdata/client.key")),
        ..insecure.clone()
    };
    assert_eq!(scrape_tls("server", with_certificate, Some(CA)), Ok(4));
    assert!(scrape_tls("server", insecure, Some(CA)).is_err());
}

#[test]
fn versions_are_bounded() {
    let insecure = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
    for version in [fk_config::TlsVersion::Tls12, fk_config::TlsVersion::Tls13] {
        let only = TlsConfig { min_version: Some(version), max_version: Some(version), ..insecure.clone() };
        assert_eq!(scrape_tls("server", only, None), Ok(4));
    }
}

#[test]
fn changed_certificate_files_are_read_again() {
    let dir = fk_testkit::TempDir::new("changed-certificates");
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, SELF_SIGNED).unwrap();
    let ca = Some(SecretSource::File(file.clone()));
    let tls = TlsConfig { ca, server_name: Some("server.test".to_owned()), ..TlsConfig::default() };
    let client = Client::new(&HttpClientConfig { tls, ..HttpClientConfig::default() }).unwrap();
    let certificate = include_str!("../../testdata/server.pem");
    let key = include_str!("../../testdata/server.key");
    for (ca, works) in [(SELF_SIGNED, false), (CA, true)] {
        std::fs::write(&file, ca).unwrap();
        let (port, server) = tls_server(certificate, key, None);
        let url = format!("https://127.0.0.1:{port}/");
        let result = run(async { client.scrape(&request(&url), &mut Vec::new()).await });
        assert_eq!((server.join().unwrap(), result.is_ok()), (works, works), "{result:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = run(async { client.scrape(&request("https://a/"), &mut Vec::new()).await }).unwrap_err();
    assert!(error.to_string().contains("unable to load specified CA cert"), "{error}");
}

/// A TLS server that agrees to HTTP/2 and answers every request on one connection. Returns its port; the thread gives the
/// protocol that was agreed on and how many requests came.
fn http2_server() -> (u16, std::thread::JoinHandle<(String, usize)>) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let read = |text: &str| text.as_bytes().to_vec();
    let certificate = read(include_str!("../../testdata/server.pem"));
    let key = read(include_str!("../../testdata/server.key"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let server = std::thread::spawn(move || {
        run(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let (tcp, _) = listener.accept().await.unwrap();
            let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await.unwrap();
            let agreed = String::from_utf8_lossy(stream.get_ref().1.alpn_protocol().unwrap_or_default()).into_owned();
            if agreed != "h2" {
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(&answer("200 OK", "", b"a 1\n")).await.unwrap();
                stream.shutdown().await.unwrap();
                return (agreed, 1);
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut count = 0;
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.headers()["accept"], "text/plain");
                count += 1;
                let mut body = respond.send_response(Default::default(), false).unwrap();
                body.send_data(bytes::Bytes::from_static(b"a 1\n"), true).unwrap();
            }
            (agreed, count)
        })
    });
    (port, server)
}

#[test]
fn http2_is_spoken_where_a_tls_server_agrees_and_the_section_allows_it() {
    for (enable_http2, wanted) in [(true, ("h2".to_owned(), 2)), (false, (String::new(), 1))] {
        let (port, server) = http2_server();
        let tls = TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() };
        let client = Client::new(&HttpClientConfig { tls, enable_http2, ..HttpClientConfig::default() }).unwrap();
        let url = format!("https://127.0.0.1:{port}/metrics");
        run(async {
            for _ in 0..wanted.1 {
                let mut body = Vec::new();
                client.scrape(&request(&url), &mut body).await.unwrap();
                assert_eq!(body, b"a 1\n");
            }
        });
        drop(client);
        assert_eq!(server.join().unwrap(), wanted);
    }
}

#[test]
fn the_stages_of_a_request_are_timed() {
    let wait = Duration::from_millis(30);
    // By the short way, and by the general one, which is taken because of the fragment.
    for suffix in ["", "#there"] {
        let watch = Stopwatch::default();
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let url = format!("http://localhost:{port}/metrics{suffix}");
            let request = ScrapeRequest { watch: Some(&watch), ..request(&url) };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_request(&mut stream).await;
                tokio::time::sleep(wait).await;
                stream.write_all(&answer("200 OK", "", b"x 1\n")).await.unwrap();
            };
            let client = Client::new(&HttpClientConfig::default()).unwrap();
            let mut body = Vec::new();
            let (scraped, ()) = tokio::join!(client.scrape(&request, &mut body), serve);
            scraped.unwrap();
        });
        let times = watch.timings();
        assert!(times.dns_s.is_some() && times.connect_s.is_some() && times.tls_s.is_none(), "{suffix} {times:?}");
        assert!(times.first_byte_s.unwrap() >= wait.as_secs_f32() * 0.9, "{suffix} {times:?}");
        watch.reset();
        assert_eq!(watch.timings(), Timings::default());
    }
}
