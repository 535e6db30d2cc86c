//! An Alertmanager sender: posts alerts to one Alertmanager.
//!
//! Owns the way to one URL. Its bounded queue lives in the [`Outbox`]. One post at a time; a batch whose post fails is
//! given up, since the rule sends its alerts again after the resend delay.
//!
//! On restart: the queue goes on; a batch that was under way counts as failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use chrono::Utc;
use fk_actorkit::{Managed, ManagedActor};
use fk_http::Client;
use fk_instrument::{Histogram, Summary};
use fk_ledger::{Attempt, Ledger};
use fk_notify::{Alert, SendCounters, SendOutcome, SendQueue};
use fk_rules::InstanceId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::messages::lifecycle::Drain;
use crate::messages::notify::SendAlerts;

/// `User-Agent` of posts.
const USER_AGENT: &str = "Prometheus/3.14.0";

/// What outlives the actor: the queue, and who waits for it to be empty.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<SendQueue>,
    emptied: Notify,
}

impl Outbox {
    /// An empty one.
    pub fn new(capacity: usize, batch_size: usize) -> Arc<Outbox> {
        Arc::new(Outbox { queue: Mutex::new(SendQueue::new(capacity, batch_size)), emptied: Notify::new() })
    }

    /// Alerts that wait, and what happened to the others.
    pub fn figures(&self) -> (usize, SendCounters) {
        let queue = self.queue.lock();
        (queue.len(), queue.counters())
    }
}

/// What a sender is made from.
#[derive(Clone)]
pub struct Params {
    /// Where to post.
    pub url: String,
    /// How to post.
    pub client: Client,
    /// How long one post may take.
    pub timeout: Duration,
    /// Outlives the actor.
    pub outbox: Arc<Outbox>,
    /// Whether the queue is emptied before the sender ends (`--alertmanager.drain-notification-queue-on-shutdown`).
    pub drain: bool,
    /// Where attempts are noted.
    pub ledger: Arc<Ledger>,
    /// Length of posts that were taken, in seconds.
    pub latency: Summary,
    /// The same in buckets.
    pub latencies: Histogram,
}

/// The actor.
pub struct AlertmanagerSender {
    params: Params,
    posting: bool,
    draining: bool,
}

impl AlertmanagerSender {
    /// A sender for this URL.
    pub fn new(params: Params) -> AlertmanagerSender {
        AlertmanagerSender { params, posting: false, draining: false }
    }

    /// Posts the next batch, if there is one and none is under way.
    fn post(&mut self, ctx: &mut Managed<Self>) {
        if self.posting {
            return;
        }
        let Some(batch) = self.params.outbox.queue.lock().next_batch() else {
            if self.draining {
                self.params.outbox.emptied.notify_waiters();
                ctx.stop();
            }
            return;
        };
        self.posting = true;
        let (client, url, timeout) = (self.params.client.clone(), self.params.url.clone(), self.params.timeout);
        let (began, count) = (Instant::now(), batch.len());
        let ledger = Arc::clone(&self.params.ledger);
        let post = async move {
            let result = client.post_json(&url, USER_AGENT, fk_notify::payload(&batch).into(), timeout).await;
            note(ledger, &url, &batch, result.as_ref().err().map(ToString::to_string).as_deref());
            result
        };
        ctx.spawn(post.into_actor(self).map(move |result, this, ctx| {
            let outcome = match result {
                Ok(()) => {
                    let seconds = began.elapsed().as_secs_f64();
                    this.params.latency.observe(seconds);
                    this.params.latencies.observe(seconds);
                    SendOutcome::Delivered
                }
                Err(error) => {
                    let url = this.params.url.as_str();
                    log::error!(component = "notifier", alertmanager = url, count = count, err = error.to_string().as_str(); "Error sending alerts");
                    SendOutcome::Failed
                }
            };
            this.params.outbox.queue.lock().sent(outcome);
            this.posting = false;
            this.post(ctx);
        }));
    }
}

/// Notes an attempt in the ledger. The file is written elsewhere: it may take its time.
fn note(ledger: Arc<Ledger>, alertmanager: &str, batch: &[Arc<Alert>], error: Option<&str>) {
    let now = Utc::now();
    let now_ns = now.timestamp_nanos_opt().unwrap_or(i64::MAX);
    let alerts: Vec<(InstanceId, bool)> =
        batch.iter().map(|alert| (InstanceId(alert.instance), alert.ends_at_ns <= now_ns)).collect();
    ledger.delivered(&Attempt { alertmanager, at_ms: now.timestamp_millis(), error, alerts: &alerts });
    spawn_blocking(move || ledger.flush());
}

impl Actor for AlertmanagerSender {
    type Context = Managed<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.params.outbox.queue.lock().sent(SendOutcome::Failed);
        self.post(ctx);
    }
}

impl Supervised for AlertmanagerSender {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = AlertmanagerSender { draining: self.draining, ..AlertmanagerSender::new(self.params.clone()) };
    }
}

impl ManagedActor for AlertmanagerSender {
    const KIND: &'static str = "alertmanager_sender";
}

impl Handler<SendAlerts> for AlertmanagerSender {
    type Result = ();

    fn handle(&mut self, SendAlerts(alerts): SendAlerts, ctx: &mut Self::Context) {
        let dropped = self.params.outbox.queue.lock().push(&alerts);
        if dropped > 0 {
            log::warn!(component = "notifier", alertmanager = self.params.url.as_str(), count = dropped; "Alert notification queue full, dropping alerts");
        }
        self.post(ctx);
    }
}

impl Handler<Drain> for AlertmanagerSender {
    type Result = ResponseFuture<()>;

    /// Answered when the queue is empty, or was emptied without posting if the flags say so.
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.draining = true;
        if !self.params.drain {
            let dropped = self.params.outbox.queue.lock().discard();
            if dropped > 0 {
                log::warn!(component = "notifier", alertmanager = self.params.url.as_str(), count = dropped; "Draining is off, dropping alerts");
            }
        }
        let outbox = Arc::clone(&self.params.outbox);
        let emptied = async move {
            loop {
                let emptied = outbox.emptied.notified();
                if outbox.queue.lock().posts_left() == 0 {
                    return;
                }
                emptied.await;
            }
        };
        self.post(ctx);
        Box::pin(emptied)
    }
}
