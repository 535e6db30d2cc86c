//! What the stories are told with.

pub mod fake;
pub mod http;
pub mod remote_write;
pub mod server;

use std::thread::sleep;
use std::time::{Duration, Instant};

pub use fake::{FakeAlertmanager, FakeTarget};
pub use server::{Home, Server, program};

/// How long anything may take that is only waited for. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; panics when there is none in time.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(25));
    }
}

/// Waits until something holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
}

/// Checks that a target was scraped at an even pace: `times` has no gap in which a scrape is missing, and no scrape twice.
/// Both limits leave room for a busy machine, which delays a request but does not lose one.
pub fn assert_even_pace(who: &str, times: &[Instant], interval: Duration) {
    let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    let (low, high) = (interval.as_secs_f64() * 0.2, interval.as_secs_f64() * 1.8);
    assert!(gaps.iter().all(|gap| (low..high).contains(gap)), "{who}: uneven pauses between scrapes: {gaps:.3?}");
    // Small gaps must not hide a missing or extra scrape in many.
    if let (Some(first), Some(last)) = (times.first(), times.last()) {
        let expected = (*last - *first).as_secs_f64() / interval.as_secs_f64();
        let off = (gaps.len() as f64 - expected).abs();
        assert!(off < 0.8, "{who}: {} scrapes in the time of {expected:.2}: {gaps:.3?}", gaps.len());
    }
}
