//! A real server on a real socket.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fakes::World;
use super::query::Stuck;

fn start(world: &World) -> (SocketAddr, ServerHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = crate::serve(vec![listener], Arc::clone(&world.state)).unwrap();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    (addr, handle)
}

/// Sends bytes and reads until the server closes.
async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[actix_web::test]
async fn the_server_survives_noise_and_compresses_on_request() {
    let world = World::with(|options| options.workers = Some(1));
    let (addr, handle) = start(&world);
    exchange(addr, b"\x16\x03\x01\x00\xff\xfe\x00 nonsense \r\n\r\n").await;
    exchange(addr, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n").await;
    let plain = exchange(addr, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(plain.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&plain));
    let packed =
        exchange(addr, b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n").await;
    let head = String::from_utf8_lossy(&packed).to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip") && packed.len() < plain.len(), "{head}");
    handle.stop(true).await;
}

#[actix_web::test]
async fn a_closed_connection_cancels_its_query() {
    let world = World::with(|options| options.workers = Some(1));
    let (events, mut seen) = tokio::sync::mpsc::unbounded_channel();
    world.state.storage.set(Arc::new(Stuck { events }));
    let (addr, handle) = start(&world);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(seen.recv().await, Some("started"));
    drop(stream);
    let ended = tokio::time::timeout(Duration::from_secs(10), seen.recv()).await;
    assert_eq!(ended, Ok(Some("cancelled")));
    handle.stop(false).await;
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_not_awaited_for_ever() {
    let world = World::with(|options| {
        options.workers = Some(1);
        options.read_timeout = Duration::from_millis(50);
    });
    let (addr, handle) = start(&world);
    let head = "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\nquery=1";
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    handle.stop(false).await;
}
