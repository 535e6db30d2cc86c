//! Tests against a server that answers several requests on a connection, from a script.

use tokio::net::TcpListener;

use super::*;

#[test]
fn plain_urls_are_taken_and_others_left() {
    for (url, expected) in [
        ("http://host:9100/metrics", Some(("host:9100", "host", 9100, "/metrics"))),
        ("http://host/metrics?a=b&c=%20", Some(("host", "host", 80, "/metrics?a=b&c=%20"))),
        ("http://[::1]:9100/", Some(("[::1]:9100", "::1", 9100, "/"))),
        ("http://[::1]/", Some(("[::1]", "::1", 80, "/"))),
        ("http://10.0.0.1:080/", Some(("10.0.0.1:080", "10.0.0.1", 80, "/"))),
        ("https://host/metrics", None),
        ("http://host", None),
        ("http://host:/metrics", None),
        ("http://host:65536/", None),
        ("http://host:+80/", None),
        ("http://me:secret@host/", None),
        ("http:///metrics", None),
        ("http://h\u{f6}st/", None),
        ("http://host/a b", None),
        ("http://host/a\r\nX: y", None),
        ("http://host/a/../b", None),
        ("http://host/a#b", None),
        ("http://[::1/", None),
        ("http://[::1]x/", None),
    ] {
        let found = place(url);
        let found = found.as_ref().map(|place| (&*place.authority, &*place.host, place.port, &*place.path));
        assert_eq!(found, expected, "{url}");
    }
}

/// Gets the same URL as often as there are answers. Each answer comes in pieces, and `None` ends the connection. Returns what
/// was read and how many connections there were.
fn exchange_all(answers: &[&[Option<&[u8]>]], size_limit: u64) -> (Vec<Result<String, String>>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let (idle, mut buffer) = (Idle::default(), b"old".to_vec());
        let (mut stream, mut connections, mut results) = (None::<TcpStream>, 0, Vec::new());
        for pieces in answers {
            let serve = async {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    if stream.is_none() {
                        stream = Some(listener.accept().await.unwrap().0);
                        connections += 1;
                    }
                    let more = stream.as_mut().unwrap().read_buf(&mut asked).await;
                    if more.is_err() || more.is_ok_and(|len| len == 0) {
                        (stream, asked) = (None, Vec::new());
                    }
                }
                for piece in *pieces {
                    match (piece, &mut stream) {
                        (Some(piece), Some(stream)) => {
                            stream.write_all(piece).await.unwrap();
                            tokio::task::yield_now().await;
                        }
                        _ => stream = None,
                    }
                }
                String::from_utf8(asked).unwrap()
            };
            let deadline = Instant::now() + Duration::from_secs(5);
            let headers = HeaderMap::from_iter([(reqwest::header::USER_AGENT, "me".parse().unwrap())]);
            let place = place(&url).unwrap();
            let request = request(&place, &[&headers]);
            let watch = Stopwatch::default();
            let wanted = Asked { url: &url, place: &place, request: &request, size_limit, watch: Some(&watch) };
            let got = get(&idle, &wanted, deadline, &mut buffer);
            let (asked, got) = tokio::join!(serve, got);
            let host = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
            assert_eq!(asked, format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nUser-Agent: me\r\n\r\n"));
            let times = watch.timings();
            // Only a new connection has to be made, and an address needs no look-up.
            assert!(times.dns_s.is_none() && times.tls_s.is_none(), "{times:?}");
            assert!(got.is_err() || times.first_byte_s.is_some(), "{times:?}");
            results.push(match got {
                Ok(answer) => Ok(format!("{} {}", answer.status, String::from_utf8_lossy(&buffer[answer.body]))),
                Err(error) => Err(error.to_string().replace(&url, "URL")),
            });
        }
        (results, connections)
    })
}

#[track_caller]
fn check(pieces: &[Option<&[u8]>], expected: Result<&str, &str>, kept: bool) {
    let (results, connections) =
        exchange_all(&[pieces, &[Some(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!")]], 100);
    let found = results[0].as_ref().map(String::as_str).map_err(String::as_str);
    assert_eq!((found, connections), (expected, if kept { 1 } else { 2 }), "{pieces:?}");
    assert_eq!(results[1].as_deref(), Ok("200 !"));
}

#[test]
fn bodies_end_where_the_header_says() {
    let (a, b) = (Some(&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na "[..]), Some(&b"1\n"[..]));
    check(&[a, b], Ok("200 a 1\n"), true);
    check(&[a, Some(b"1\nmore than was said")], Ok("200 a 1\n"), false);
    check(&[a, b, None], Ok("200 a 1\n"), false);
    check(&[a, None], Err("unexpected EOF"), false);
    check(&[Some(b"HTTP/1.1 200 OK\r\nContent-"), Some(b"Length: 2\r\n\r"), Some(b"\n1\n")], Ok("200 1\n"), true);
    check(&[Some(b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\n1\n")], Ok("200 1\n"), false);
    check(&[Some(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n1\n")], Ok("200 1\n"), false);
    check(&[Some(b"HTTP/1.0 200 OK\r\n\r\na 1\n"), Some(b"b 2\n"), None], Ok("200 a 1\nb 2\n"), false);
    check(&[Some(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")], Ok("200 "), true);
    check(
        &[Some(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7")],
        Ok("200 7"),
        true,
    );
}

#[test]
fn chunks_are_put_together() {
    let head = Some(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..]);
    check(
        &[head, Some(b"4\r\na 1\n\r\n00a;x=y\r\nb 2\nc 3\nd \r\n2\r\n4\n\r\n0\r\n\r\n")],
        Ok("200 a 1\nb 2\nc 3\nd 4\n"),
        true,
    );
    let text = b"4\r\na 1\n\r\n5\r\nb 22\n\r\n0\r\nTrailer: x\r\n\r\n";
    let pieces: Vec<_> = [head].into_iter().chain(text.chunks(1).map(Some)).collect();
    check(&pieces, Ok("200 a 1\nb 22\n"), true);
    check(&[head, Some(b"4\r\na 1\n\r\n0\r\n\r\nmore")], Ok("200 a 1\n"), false);
    check(&[head, Some(b"4\r\na 1\n\r\n"), None], Err("unexpected EOF"), false);
    check(&[head, Some(b"4\r\na 1\nxx0\r\n\r\n"), None], Err("malformed chunked encoding"), false);
    check(&[head, Some(b"g\r\n"), None], Err("malformed chunked encoding"), false);
    check(&[head, Some(b"ffffffffffffffff\r\n"), None], Err("body size limit exceeded"), false);
}

#[test]
fn bodies_have_bounds() {
    check(&[Some(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")], Err("body size limit exceeded"), false);
    let odd = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 100\r\n\r\n";
    check(&[Some(odd)], Err("body size limit exceeded"), false);
    let endless = [b'x'; 200];
    check(&[Some(b"HTTP/1.0 200 OK\r\n\r\n"), Some(&endless)], Err("body size limit exceeded"), false);
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
    check(&[Some(huge.as_bytes())], Err("body is larger than 1073741824 bytes"), false);
}

#[test]
fn broken_answers_are_told() {
    let broken = |what: &str| format!("Get \"URL\": net/http: HTTP/1.x transport connection broken: {what}");
    for (answer, what) in [
        (&b"220 mail.example.com ESMTP\r\n"[..], "malformed HTTP response \"220 mail.example.com ESMTP\""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length \"-1\""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "bad Content-Length \"2\""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unsupported transfer encoding: \"gzip\""),
    ] {
        check(&[Some(answer)], Err(&broken(what)), false);
    }
    check(&[Some(b"HTTP/1.1 200"), None], Err(&broken("unexpected EOF")), false);
    check(&[None], Err("Get \"URL\": EOF"), false);
    let long = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; HEAD_BYTES_MAX]].concat();
    check(&[Some(&long)], Err(&broken("header of the answer is longer than 262144 bytes")), false);
}

#[test]
fn connections_survive_answers_that_nobody_wants() {
    check(&[Some(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")], Ok("503 "), true);
    check(&[Some(b"HTTP/1.1 204 None\r\n\r\n")], Ok("204 "), true);
    check(&[Some(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n")], Ok("503 "), false);
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let ok: &[Option<&[u8]>] = &[Some(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!"), None];
    let (results, connections) = exchange_all(&[ok, ok, ok], 0);
    assert_eq!((results, connections), (vec![Ok("200 !".to_owned()); 3], 3));
}
