//! Those around the server: targets that it scrapes, an Alertmanager that it notifies.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Message;

type Answer = dyn Fn(&Message) -> Message + Send + Sync;

/// An HTTP server; it is gone, with all its connections, when it is dropped.
struct FakeServer {
    port: u16,
    gone: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl FakeServer {
    fn start(answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let server = FakeServer { port, gone: Arc::default(), connections: Arc::default() };
        let (gone, connections, answer) =
            (Arc::clone(&server.gone), Arc::clone(&server.connections), Arc::new(answer) as Arc<Answer>);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if gone.load(SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                if let Ok(kept) = stream.try_clone() {
                    connections.lock().unwrap().push(kept);
                }
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
        server
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.gone.store(true, SeqCst);
        // Wakes the thread that accepts, which then closes the listener. A refusal means that it is closed already.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.connections.lock().unwrap().drain(..) {
            // The peer may have closed before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Answers requests until the client closes or breaks the connection.
fn serve(mut stream: TcpStream, answer: &Answer) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut reading = BufReader::new(reading);
    while let Ok(Some(request)) = Message::read(&mut reading) {
        if answer(&request).write(&mut stream).is_err() {
            break;
        }
    }
}

fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Message {
    Message {
        first: "HTTP/1.1 200 OK".to_owned(),
        headers: vec![("content-type".to_owned(), content_type.to_owned())],
        body: body.into(),
    }
}

#[derive(Default)]
struct Page {
    text: String,
    delay: Duration,
    scrapes: Vec<Instant>,
}

/// A target whose metrics the test writes.
pub struct FakeTarget {
    server: FakeServer,
    page: Arc<Mutex<Page>>,
}

impl FakeTarget {
    /// Serves `text` on any path.
    pub fn serving(text: &str) -> FakeTarget {
        let page = Arc::new(Mutex::new(Page { text: text.to_owned(), ..Page::default() }));
        let shared = Arc::clone(&page);
        let server = FakeServer::start(move |_| {
            let (text, delay) = {
                let mut page = shared.lock().unwrap();
                page.scrapes.push(Instant::now());
                (page.text.clone(), page.delay)
            };
            std::thread::sleep(delay);
            ok("text/plain; version=0.0.4", text)
        });
        FakeTarget { server, page }
    }

    /// Serves on each path the Content-Type and the body that belong to it.
    pub fn serving_pages(pages: BTreeMap<String, (String, Vec<u8>)>) -> FakeTarget {
        let server = FakeServer::start(move |request| {
            let path = request.first.split(' ').nth(1).unwrap_or_default();
            match pages.get(path) {
                Some((content_type, body)) => ok(content_type, body.clone()),
                None => Message { first: "HTTP/1.1 404 Not Found".to_owned(), ..ok("text/plain", "") },
            }
        });
        FakeTarget { server, page: Arc::default() }
    }

    /// Changes what is served.
    pub fn serve(&self, text: &str) {
        self.page.lock().unwrap().text = text.to_owned();
    }

    /// Makes every answer wait for so long.
    pub fn answer_after(&self, delay: Duration) {
        self.page.lock().unwrap().delay = delay;
    }

    /// `host:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// When it was scraped.
    pub fn scrapes(&self) -> Vec<Instant> {
        self.page.lock().unwrap().scrapes.clone()
    }
}

/// An Alertmanager that remembers what it was sent.
pub struct FakeAlertmanager {
    server: FakeServer,
    posts: Arc<Mutex<Vec<(Message, Value)>>>,
}

impl FakeAlertmanager {
    /// Takes every notification.
    pub fn start() -> FakeAlertmanager {
        let posts: Arc<Mutex<Vec<(Message, Value)>>> = Arc::default();
        let shared = Arc::clone(&posts);
        let server = FakeServer::start(move |request| {
            shared.lock().unwrap().push((request.clone(), request.json()));
            ok("application/json", "{\"status\":\"success\"}".to_owned())
        });
        FakeAlertmanager { server, posts }
    }

    /// `host:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// All requests, with the JSON in them.
    pub fn posts(&self) -> Vec<(Message, Value)> {
        self.posts.lock().unwrap().clone()
    }

    /// The newest notification about each alert, by `alertname`.
    pub fn latest(&self) -> BTreeMap<String, Value> {
        let posts = self.posts();
        let alerts = posts.iter().flat_map(|(_, body)| body.as_array().cloned().unwrap_or_default());
        alerts.map(|alert| (alert["labels"]["alertname"].as_str().unwrap_or("").to_owned(), alert)).collect()
    }
}
