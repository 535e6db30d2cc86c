//! The guard in front of every route: it limits how many requests come, asks for name and password, and puts the configured
//! headers on every answer, also on those that it gives itself.
//!
//! A password is checked by bcrypt, which is slow on purpose. So one is checked at a time, on a thread where nobody waits for
//! it, and what came out is kept: of good ones as many as there may be users, of bad ones a few, apart from each other, so that
//! guessing does not throw out those who know. Kept is a digest with a key of this process only. Names that nobody has cost
//! the same time as wrong passwords.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fk_config::{RateLimit, WebConfig};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::WebFile;
use crate::answer;

/// Most good passwords that are kept.
const GOOD_MAX: usize = 1000;
/// Most bad ones.
const BAD_MAX: usize = 100;
/// Most passwords that wait to be checked; who comes after them is told to come later.
const WAITING_MAX: usize = 64;
/// Checked in place of the hash of a user who does not exist. It is of a password that nobody has.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// The guard; one for all workers.
pub(crate) struct Guard {
    file: Arc<WebFile>,
    /// As it was at the start: the rate limit is not read again, as in Prometheus.
    limiter: Option<Mutex<Bucket>>,
    known: Mutex<Known>,
    /// Key of the digests.
    pepper: [u8; 32],
    /// Who may run bcrypt.
    turn: Semaphore,
    /// Who may wait for that.
    waiting: Semaphore,
}

type Key = [u8; 32];

/// Passwords that were checked, oldest first.
#[derive(Default)]
struct Known {
    good: VecDeque<Key>,
    bad: VecDeque<Key>,
}

/// A token bucket.
struct Bucket {
    limit: RateLimit,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(limit: RateLimit, now: Instant) -> Bucket {
        Bucket { limit, tokens: f64::from(limit.burst), filled: now }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() / self.limit.interval.as_secs_f64();
        self.tokens = (self.tokens + gained).min(f64::from(self.limit.burst));
        self.filled = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// What becomes of a request.
enum Verdict {
    Pass,
    Refuse(StatusCode),
    /// Name and password are wanted.
    Ask,
}

impl Guard {
    pub fn new(file: Arc<WebFile>) -> Guard {
        let limit = file.now().config.as_ref().ok().and_then(|config| config.rate_limit);
        if let Some(RateLimit { burst, interval }) = limit {
            log::info!(burst = burst, interval = format!("{interval:?}").as_str(); "Rate Limiter is enabled.");
        }
        let mut pepper = [0; 32];
        // Without random numbers there would be no TLS either.
        let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut pepper);
        Guard {
            file,
            limiter: limit.map(|limit| Mutex::new(Bucket::new(limit, Instant::now()))),
            known: Mutex::default(),
            pepper,
            turn: Semaphore::new(1),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Lets a request through to the routes, or answers it.
    pub async fn run<B: MessageBody + 'static>(
        self: Arc<Self>,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<EitherBody<B>>, Error> {
        let now = self.file.now();
        let (verdict, headers) = match &now.config {
            Err(_) => (Verdict::Refuse(StatusCode::INTERNAL_SERVER_ERROR), &[][..]),
            Ok(config) => (self.judge(config, &request).await, config.headers.as_slice()),
        };
        let mut response = match verdict {
            Verdict::Pass => next.call(request).await?.map_into_left_body(),
            Verdict::Refuse(status) => request.into_response(refusal(status)).map_into_right_body(),
            Verdict::Ask => {
                let mut response = refusal(StatusCode::UNAUTHORIZED);
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
                request.into_response(response).map_into_right_body()
            }
        };
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }

    async fn judge(&self, config: &WebConfig, request: &ServiceRequest) -> Verdict {
        if self.limiter.as_ref().is_some_and(|bucket| !bucket.lock().take(Instant::now())) {
            return Verdict::Refuse(StatusCode::TOO_MANY_REQUESTS);
        }
        if config.users.is_empty() {
            return Verdict::Pass;
        }
        let Some((user, password)) = credentials(request.headers().get(AUTHORIZATION)) else { return Verdict::Ask };
        let hash = config.users.get(&user);
        let exists = hash.is_some();
        let hash = hash.map_or(NOBODY, |hash| hash.expose()).to_owned();
        let key = self.key(&[user.as_bytes(), hash.as_bytes(), &password]);
        if let Some(good) = self.known.lock().look_up(&key) {
            return if good && exists { Verdict::Pass } else { Verdict::Ask };
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Verdict::Refuse(StatusCode::TOO_MANY_REQUESTS) };
        let Ok(_turn) = self.turn.acquire().await else { return Verdict::Ask };
        // Of many requests with one password the first has it checked for all.
        if let Some(good) = self.known.lock().look_up(&key) {
            return if good && exists { Verdict::Pass } else { Verdict::Ask };
        }
        let checked =
            actix_web::rt::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        let good = checked.unwrap_or(false) && exists;
        self.known.lock().keep(key, good);
        if good { Verdict::Pass } else { Verdict::Ask }
    }

    /// A digest of the parts, each behind its length.
    fn key(&self, parts: &[&[u8]]) -> Key {
        let mut digest = Sha256::new_with_prefix(self.pepper);
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl Known {
    fn look_up(&self, key: &Key) -> Option<bool> {
        // Digests with a secret key: how long comparing them takes tells nothing about passwords.
        if self.good.contains(key) { Some(true) } else { self.bad.contains(key).then_some(false) }
    }

    fn keep(&mut self, key: Key, good: bool) {
        let (list, max) = if good { (&mut self.good, GOOD_MAX) } else { (&mut self.bad, BAD_MAX) };
        if list.len() >= max {
            list.pop_front();
        }
        list.push_back(key);
    }
}

/// Name and password of a basic `Authorization` header.
fn credentials(header: Option<&HeaderValue>) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

fn refusal(status: StatusCode) -> HttpResponse {
    // As Go's `http.Error` says it.
    answer::text(status, format!("{}\n", status.canonical_reason().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn credentials_are_those_of_basic_authentication_only() {
        let read = |text: &str| credentials(Some(&HeaderValue::from_str(text).unwrap()));
        let alice = Some(("alice".to_owned(), b"pa:ss".to_vec()));
        assert_eq!(read("Basic YWxpY2U6cGE6c3M="), alice);
        assert_eq!(read("bASIC YWxpY2U6cGE6c3M="), alice);
        for text in ["", "Basic", "Basic ", "Basic YWxpY2U", "Basic YWxpY2U=", "Bearer YWxpY2U6cGE6c3M=", "Basic %%%"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(credentials(None), None);
    }

    #[test]
    fn guessing_does_not_throw_out_those_who_know() {
        let mut known = Known::default();
        known.keep([1; 32], true);
        for at in 0..BAD_MAX + 10 {
            let mut key = [2; 32];
            key[..8].copy_from_slice(&at.to_le_bytes());
            known.keep(key, false);
        }
        assert_eq!((known.look_up(&[1; 32]), known.bad.len()), (Some(true), BAD_MAX));
    }

    #[test]
    fn the_bucket_fills_with_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RateLimit { burst: 2, interval: Duration::from_secs(1) }, start);
        let mut taken = Vec::new();
        for ms in [0, 0, 0, 900, 1000, 1000, 5000, 5000, 5000] {
            taken.push(bucket.take(start + Duration::from_millis(ms)));
        }
        assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
    }
}
