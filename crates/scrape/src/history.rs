//! What the last scrapes of a target were like, and the last body that could not be stored: why a target is down, and since when.
//!
//! Everything is bounded: scrapes by number, a body by bytes around the place of the error, and the bodies of all targets together
//! by a [`BodyBudget`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::labels::DroppedBy;
use crate::scrape_loop::{ScrapeError, ScrapeOutcome};

/// Scrapes that are remembered of a target.
pub const SCRAPES_MAX: usize = 20;

/// Most bytes kept of a body.
pub const KEPT_BODY_BYTES_MAX: usize = 64 << 10;

/// Most bytes kept of such bodies of all targets: a hundred whole ones, or the beginnings of many.
pub const KEPT_BODIES_BYTES_MAX: usize = 8 << 20;

/// How long each stage of a scrape took, seconds. `None`: it was not reached or not needed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stages {
    /// Finding the address.
    pub dns_s: Option<f32>,
    /// Connecting.
    pub connect_s: Option<f32>,
    /// The handshake of TLS.
    pub tls_s: Option<f32>,
    /// Until the first byte of the answer.
    pub first_byte_s: Option<f32>,
    /// Reading the body.
    pub body_s: Option<f32>,
    /// Parsing and relabelling.
    pub parse_s: Option<f32>,
    /// Storing.
    pub append_s: Option<f32>,
}

/// A scrape that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct PastScrape {
    /// Its timestamp, ms.
    pub at_ms: i64,
    /// Until the whole body was there, seconds.
    pub fetch_s: f32,
    /// Where the time went.
    pub stages: Stages,
    /// All of it, seconds.
    pub duration_s: f32,
    /// Bytes received.
    pub wire_bytes: u32,
    /// Bytes of the decompressed body; -1: it hit `body_size_limit`.
    pub body_bytes: i64,
    /// Samples exposed.
    pub scraped: u32,
    /// Of these, not dropped by relabelling.
    pub post_relabel: u32,
    /// New series.
    pub series_added: u32,
    /// What relabelling dropped: how many series by which rule. `None`: nothing.
    pub dropped: Option<Arc<[(DroppedBy, u64)]>>,
    /// Why it failed, if it did.
    pub error: Option<Box<str>>,
}

impl PastScrape {
    /// Of what came of a scrape with the timestamp `at_ms`.
    pub fn new(at_ms: i64, fetched: FetchedBody<'_>, outcome: &ScrapeOutcome) -> PastScrape {
        let short = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        PastScrape {
            at_ms,
            fetch_s: fetched.fetch_s as f32,
            stages: fetched.stages,
            duration_s: outcome.duration_s as f32,
            wire_bytes: short(fetched.wire_bytes as u64),
            body_bytes: outcome.body_bytes,
            scraped: short(outcome.counts.scraped),
            post_relabel: short(outcome.counts.post_relabel),
            series_added: short(outcome.counts.series_added),
            dropped: outcome.dropped.clone(),
            error: outcome.error.as_ref().map(|error| error.to_string().into_boxed_str()),
        }
    }
}

/// A body, as far as it is kept to be looked at: the last one of a target that could not be stored.
#[derive(Debug)]
pub struct KeptBody {
    /// Timestamp of its scrape, ms.
    pub at_ms: i64,
    /// What was wrong with it; empty: nothing.
    pub error: String,
    /// As the target says.
    pub content_type: String,
    /// Its size.
    pub body_bytes: usize,
    /// What is kept of it, in whole lines where they are not longer than that.
    pub kept: Box<[u8]>,
    /// The line of the body with which `kept` begins, from 1.
    pub first_line: usize,
    /// Where the error is, if it has a place: line and column, from 1.
    pub place: Option<(usize, usize)>,
    budget: Arc<BodyBudget>,
}

/// How many bytes of failed bodies are kept by all targets.
#[derive(Debug, Default)]
pub struct BodyBudget(AtomicUsize);

impl BodyBudget {
    /// Takes at most `wanted` bytes of what is left.
    fn take(&self, wanted: usize) -> usize {
        let mut got = 0;
        // The closure always gives a value, so this cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            got = wanted.min(KEPT_BODIES_BYTES_MAX.saturating_sub(used));
            Some(used + got)
        });
        got
    }
}

impl KeptBody {
    /// Keeps what there is room for, around the error if there is one.
    pub fn new(at_ms: i64, fetched: FetchedBody<'_>, outcome: &ScrapeOutcome, budget: &Arc<BodyBudget>) -> KeptBody {
        let place = outcome.error.as_ref().and_then(place_of);
        let around = place.map_or(0, |(offset, ..)| offset);
        let mut range = window(fetched.body, around, KEPT_BODY_BYTES_MAX);
        let granted = budget.take(range.len());
        if granted < range.len() {
            range = window(fetched.body, around, granted);
            budget.0.fetch_sub(granted - range.len(), Ordering::Relaxed);
        }
        KeptBody {
            at_ms,
            error: outcome.error.as_ref().map(ScrapeError::to_string).unwrap_or_default(),
            content_type: fetched.content_type.to_owned(),
            body_bytes: fetched.body.len(),
            first_line: memchr::memchr_iter(b'\n', &fetched.body[..range.start]).count() + 1,
            kept: fetched.body[range].into(),
            place: place.map(|(_, line, column)| (line, column)),
            budget: Arc::clone(budget),
        }
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.kept.len(), Ordering::Relaxed);
    }
}

/// The history of one target.
#[derive(Debug, Default)]
pub struct History {
    scrapes: VecDeque<PastScrape>,
    failed_body: Option<Arc<KeptBody>>,
}

/// What a fetch gave, beside the body itself.
#[derive(Clone, Copy, Debug)]
pub struct FetchedBody<'b> {
    /// The decompressed body; empty if there is none.
    pub body: &'b [u8],
    /// As the target says.
    pub content_type: &'b str,
    /// Bytes received.
    pub wire_bytes: usize,
    /// Until the whole body was there, seconds.
    pub fetch_s: f64,
    /// Where the time went.
    pub stages: Stages,
}

impl History {
    /// Remembers a scrape with the timestamp `at_ms`.
    pub fn push(&mut self, at_ms: i64, fetched: FetchedBody<'_>, outcome: &ScrapeOutcome, budget: &Arc<BodyBudget>) {
        if self.scrapes.len() == SCRAPES_MAX {
            self.scrapes.pop_front();
        } else if self.scrapes.capacity() == 0 {
            self.scrapes.reserve_exact(SCRAPES_MAX);
        }
        self.scrapes.push_back(PastScrape::new(at_ms, fetched, outcome));
        if outcome.error.is_some() && !fetched.body.is_empty() {
            // What it held goes back to the budget first.
            self.failed_body = None;
            self.failed_body = Some(Arc::new(KeptBody::new(at_ms, fetched, outcome, budget)));
        }
    }

    /// The scrapes that are remembered, the newest first.
    pub fn scrapes(&self) -> Vec<PastScrape> {
        self.scrapes.iter().rev().cloned().collect()
    }

    /// The last body that could not be stored.
    pub fn failed_body(&self) -> Option<Arc<KeptBody>> {
        self.failed_body.clone()
    }
}

/// Offset, line and column of an error that has a place in the body.
fn place_of(error: &ScrapeError) -> Option<(usize, usize, usize)> {
    match error {
        ScrapeError::Parse(error) => Some((error.offset, error.line, error.column)),
        _ => None,
    }
}

/// At most `len` bytes around `at`: whole lines, unless the one at `at` is too long for that.
fn window(body: &[u8], at: usize, len: usize) -> std::ops::Range<usize> {
    if body.len() <= len {
        return 0..body.len();
    }
    let at = at.min(body.len());
    let start = at.saturating_sub(len / 2);
    let end = (start + len).min(body.len());
    let start = match start {
        0 => 0,
        start => memchr::memchr(b'\n', &body[start..at]).map_or(start, |offset| start + offset + 1),
    };
    let end = match memchr::memrchr(b'\n', &body[at..end]) {
        Some(offset) if end < body.len() => at + offset + 1,
        _ => end,
    };
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape_loop::ScrapeCounts;
    use fk_exposition::TextParser;

    fn outcome(error: Option<ScrapeError>) -> ScrapeOutcome {
        ScrapeOutcome {
            up: error.is_none(),
            error,
            duration_s: 0.5,
            body_bytes: 7,
            counts: ScrapeCounts { scraped: 3, post_relabel: 2, series_added: 1, ..ScrapeCounts::default() },
            warning: None,
            dropped: None,
            cache_flush_forced: false,
            storage_error: None,
        }
    }

    fn fetched(body: &[u8]) -> FetchedBody<'_> {
        FetchedBody { body, content_type: "text/plain", wire_bytes: 5, fetch_s: 0.25, stages: Stages::default() }
    }

    fn parse_error(body: &[u8]) -> ScrapeError {
        let mut parser = TextParser::new(body);
        loop {
            match parser.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the body is good"),
                Err(error) => return ScrapeError::Parse(error),
            }
        }
    }

    #[test]
    fn the_last_scrapes_are_remembered() {
        let (mut history, budget) = (History::default(), Arc::default());
        for at_ms in 0..SCRAPES_MAX as i64 + 5 {
            history.push(at_ms, fetched(b"x 1\n"), &outcome(None), &budget);
        }
        let scrapes = history.scrapes();
        assert_eq!((scrapes.len(), scrapes[0].at_ms, scrapes[SCRAPES_MAX - 1].at_ms), (SCRAPES_MAX, 24, 5));
        assert_eq!((scrapes[0].scraped, scrapes[0].wire_bytes, scrapes[0].fetch_s), (3, 5, 0.25));
        assert!(history.failed_body().is_none());
    }

    #[test]
    fn a_failed_body_is_kept_around_its_error() {
        let (mut history, budget) = (History::default(), Arc::default());
        let mut body = b"metric_with_a_name 1\n".repeat(20_000);
        body.extend_from_slice(b"broken{ 1\n");
        body.extend_from_slice(&b"metric_with_a_name 1\n".repeat(20_000));
        history.push(1, fetched(&body), &outcome(Some(parse_error(&body))), &budget);
        let kept = history.failed_body().unwrap();
        assert_eq!(kept.place.unwrap().0, 20_001);
        assert!(kept.kept.len() <= KEPT_BODY_BYTES_MAX && kept.kept.len() > KEPT_BODY_BYTES_MAX / 2);
        assert!(kept.kept.starts_with(b"metric_with") && kept.kept.ends_with(b" 1\n"));
        let line = kept.kept.split(|byte| *byte == b'\n').nth(20_001 - kept.first_line).unwrap();
        assert_eq!(line, b"broken{ 1");
        assert_eq!(kept.body_bytes, body.len());
        // It stays after good scrapes, and what replaces it gives its room back.
        history.push(2, fetched(b"x 1\n"), &outcome(None), &budget);
        assert_eq!(history.failed_body().unwrap().at_ms, 1);
        drop(kept);
        history.push(3, fetched(b"broken{ 1\n"), &outcome(Some(parse_error(b"broken{ 1\n"))), &budget);
        assert_eq!(budget.0.load(Ordering::Relaxed), 10);
        drop(history);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bodies_of_all_targets_are_bounded() {
        let budget: Arc<BodyBudget> = Arc::default();
        let body = vec![b'x'; 2 * KEPT_BODY_BYTES_MAX];
        let mut histories: Vec<History> = (0..200).map(|_| History::default()).collect();
        for history in &mut histories {
            history.push(1, fetched(&body), &outcome(Some(ScrapeError::SampleLimit)), &budget);
        }
        let kept: usize = histories.iter().map(|history| history.failed_body().unwrap().kept.len()).sum();
        assert_eq!((kept, budget.0.load(Ordering::Relaxed)), (KEPT_BODIES_BYTES_MAX, KEPT_BODIES_BYTES_MAX));
    }
}
