//! The notifier: takes the alerts of all rule groups to all Alertmanagers.
//!
//! Owns the relabelling of alerts, the Alertmanagers that each entry of the configuration knows, and one
//! [`AlertmanagerSender`] per entry and URL, each with its own bounded queue: one that is dead or slow never delays the others.
//!
//! On restart: senders and their queues live outside the actor; relabelling and Alertmanagers are made anew from the running
//! configuration and the groups in the discovery's slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use fk_actorkit::{Board, Managed, ManagedActor, Spec};
use fk_config::{AlertmanagerConfig, Loaded};
use fk_http::Client;
use fk_instrument::{Counter, Family, Gauge, Histogram, Kind, Registry, Summary};
use fk_ledger::Ledger;
use fk_notify::{Alert, AlertRelabeling, Alertmanagers, SendCounters};
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::actors::alertmanager_sender::{self, AlertmanagerSender, Outbox};
use crate::messages::config::{ApplyConfig, Refusal};
use crate::messages::discovery::TargetGroups;
use crate::messages::lifecycle::Drain;
use crate::messages::notify::{Alerts, SendAlerts};
use crate::slots::Slots;

/// A running sender.
#[derive(Clone, Debug)]
struct Sender {
    /// The entry of the configuration it belongs to.
    config: Arc<AlertmanagerConfig>,
    outbox: Arc<Outbox>,
    address: Addr<AlertmanagerSender>,
}

/// Key of the entry of the configuration, and URL. An Alertmanager that two entries know gets what each of them lets through.
type SenderKey = (String, String);

/// What outlives the actor.
#[derive(Debug, Default)]
pub struct NotifierState {
    senders: Mutex<BTreeMap<SenderKey, Sender>>,
    dropped: Mutex<Vec<String>>,
}

impl NotifierState {
    /// URLs that get alerts, once for each entry that knows them.
    pub fn active(&self) -> Vec<String> {
        self.senders.lock().keys().map(|(_, url)| url.clone()).collect()
    }

    /// URLs that relabelling dropped.
    pub fn dropped(&self) -> Vec<String> {
        self.dropped.lock().clone()
    }
}

/// `prometheus_notifications_*`
#[derive(Clone, Debug)]
pub struct NotifyMetrics {
    /// Length of one post in seconds, by Alertmanager.
    pub latency: Family<Summary>,
    /// The same in buckets.
    pub latencies: Family<Histogram>,
    discovered: Gauge,
    capacity: Gauge,
    dropped_without_receiver: Counter,
}

impl NotifyMetrics {
    /// Registers what does not hang on a sender's queue.
    pub fn new(registry: &Registry) -> NotifyMetrics {
        NotifyMetrics {
            latency: registry.summaries(
                "prometheus_notifications_latency_seconds",
                "Latency quantiles for sending alert notifications.",
                &["alertmanager"],
                &[0.5, 0.9, 0.99],
            ),
            latencies: registry.histograms(
                "prometheus_notifications_latency_histogram_seconds",
                "Latency histogram for sending alert notifications.",
                &["alertmanager"],
                &[0.01, 0.1, 1.0, 10.0],
            ),
            discovered: registry.gauge(
                "prometheus_notifications_alertmanagers_discovered",
                "The number of alertmanagers discovered and active.",
            ),
            capacity: registry
                .gauge("prometheus_notifications_queue_capacity", "The capacity of the alert notifications queue."),
            dropped_without_receiver: registry.counter(
                "firekeeper_notifications_without_alertmanager_total",
                "Alerts that were due to be sent while no Alertmanager was known.",
            ),
        }
    }
}

/// Registers the metrics of all queues.
pub fn register(state: &Arc<NotifierState>, registry: &Registry) {
    let state = Arc::clone(state);
    registry.collect(move |out| {
        // Figures of a URL that several entries know are added up.
        let mut figures: BTreeMap<String, (usize, SendCounters)> = BTreeMap::new();
        for ((_, url), sender) in state.senders.lock().iter() {
            let (length, counters) = sender.outbox.figures();
            let all = figures.entry(url.clone()).or_default();
            all.0 += length;
            all.1 += counters;
        }
        for (url, (length, counters)) in &figures {
            let labels = [("alertmanager", url.as_str())];
            for (name, help, kind, value) in [
                (
                    "prometheus_notifications_sent_total",
                    "Total number of alerts sent.",
                    Kind::Counter,
                    counters.sent as f64,
                ),
                (
                    "prometheus_notifications_errors_total",
                    "Total number of sent alerts affected by errors.",
                    Kind::Counter,
                    counters.errors as f64,
                ),
                (
                    "prometheus_notifications_dropped_total",
                    "Total number of alerts dropped due to errors when sending to Alertmanager.",
                    Kind::Counter,
                    counters.dropped as f64,
                ),
                (
                    "prometheus_notifications_queue_length",
                    "The number of alert notifications in the queue.",
                    Kind::Gauge,
                    *length as f64,
                ),
            ] {
                out.family(name, help, kind);
                out.sample(name, &labels, value);
            }
        }
    });
}

/// What the notifier is made from.
#[derive(Clone)]
pub struct Params {
    /// Outlives the actor.
    pub state: Arc<NotifierState>,
    /// The running configuration and the discovered groups, for a notifier that was rebuilt.
    pub slots: Arc<Slots>,
    /// For starting senders.
    pub board: Board,
    /// `--alertmanager.notification-queue-capacity`
    pub queue_capacity: usize,
    /// `--alertmanager.notification-batch-size`
    pub batch_size: usize,
    /// `--alertmanager.drain-notification-queue-on-shutdown`
    pub drain_on_shutdown: bool,
    /// Where attempts to send are noted.
    pub ledger: Arc<Ledger>,
    /// Metrics.
    pub metrics: NotifyMetrics,
}

/// One entry of `alerting.alertmanagers`, ready to use.
struct Entry {
    alertmanagers: Alertmanagers,
    client: Client,
}

/// Everything that hangs on the configuration.
#[derive(Default)]
struct Setup {
    relabeling: AlertRelabeling,
    entries: BTreeMap<String, Entry>,
}

/// The actor.
pub struct Notifier {
    params: Params,
    setup: Setup,
    prepared: Option<Setup>,
}

impl Notifier {
    /// A notifier that works with the running configuration, if there is one.
    pub fn new(params: Params) -> Notifier {
        params.metrics.capacity.set(params.queue_capacity as f64);
        Notifier { params, setup: Setup::default(), prepared: None }
    }

    fn prepare(&self, loaded: &Loaded) -> Result<Setup, Refusal> {
        let alerting = &loaded.config.alerting;
        let (mut entries, mut reasons) = (BTreeMap::new(), Vec::new());
        for config in &alerting.alertmanagers {
            let running = self.setup.entries.get(&config.key).filter(|entry| entry.alertmanagers.config() == config);
            let client = match running {
                Some(entry) => Ok(entry.client.clone()),
                None => Client::new(&config.http),
            };
            match client {
                Ok(client) => {
                    entries.insert(
                        config.key.clone(),
                        Entry { alertmanagers: Alertmanagers::new(Arc::clone(config)), client },
                    );
                }
                Err(error) => reasons.push(format!("alertmanager {}: {error}", config.key)),
            }
        }
        if !reasons.is_empty() {
            return Err(Refusal(reasons));
        }
        let external = loaded.config.global.external_labels.clone();
        Ok(Setup { relabeling: AlertRelabeling::new(external, alerting.alert_relabel_configs.clone()), entries })
    }

    fn commit(&mut self, setup: Setup, ctx: &mut Managed<Self>) {
        self.setup = setup;
        let groups = self.params.slots.notify_groups.load_full();
        for (key, entry) in &mut self.setup.entries {
            if let Some(groups) = groups.get(key) {
                report(key, entry.alertmanagers.replace(groups.to_vec()));
            }
        }
        self.sync_senders(ctx);
    }

    /// Starts and stops senders until there is one for each active URL of each entry.
    fn sync_senders(&self, ctx: &mut Managed<Self>) {
        let mut senders = self.params.state.senders.lock();
        let mut wanted: BTreeMap<SenderKey, &Entry> = BTreeMap::new();
        for (key, entry) in &self.setup.entries {
            for alertmanager in entry.alertmanagers.active() {
                wanted.insert((key.clone(), alertmanager.url.clone()), entry);
            }
        }
        let wants_url = |url: &str| wanted.keys().any(|(_, wanted)| wanted == url);
        senders.retain(|key, sender| {
            let keep = wanted.get(key).is_some_and(|entry| *entry.alertmanagers.config() == sender.config);
            if !keep {
                sender.address.do_send(Drain);
                if !wants_url(&key.1) {
                    self.params.metrics.latency.remove(&[&key.1]);
                    self.params.metrics.latencies.remove(&[&key.1]);
                }
            }
            keep
        });
        for (key, entry) in &wanted {
            if senders.contains_key(key) {
                continue;
            }
            let url = key.1.as_str();
            let config = Arc::clone(entry.alertmanagers.config());
            let outbox = Outbox::new(self.params.queue_capacity, self.params.batch_size);
            let params = alertmanager_sender::Params {
                url: url.to_owned(),
                client: entry.client.clone(),
                timeout: config.timeout.to_std(),
                outbox: Arc::clone(&outbox),
                drain: self.params.drain_on_shutdown,
                ledger: Arc::clone(&self.params.ledger),
                latency: self.params.metrics.latency.get(&[url]),
                latencies: self.params.metrics.latencies.get(&[url]),
            };
            let spec = Spec::named(url).child_of(ctx.id());
            let address = self.params.board.spawn(spec, |_| AlertmanagerSender::new(params));
            senders.insert(key.clone(), Sender { config, outbox, address });
        }
        self.params.metrics.discovered.set(senders.len() as f64);
        let dropped = self.setup.entries.values().flat_map(|entry| entry.alertmanagers.dropped());
        *self.params.state.dropped.lock() = dropped.map(|alertmanager| alertmanager.url.clone()).collect();
    }
}

fn report(key: &str, problems: Vec<String>) {
    for problem in problems {
        log::error!(component = "notifier", config = key, err = problem.as_str(); "creating alertmanagers failed");
    }
}

impl Actor for Notifier {
    type Context = Managed<Self>;

    /// Only a notifier that was rebuilt finds participants' configuration already committed.
    fn started(&mut self, ctx: &mut Self::Context) {
        if ctx.incarnation() == 0 {
            return;
        }
        let Some(loaded) = self.params.slots.config.load_full() else { return };
        match self.prepare(&loaded) {
            Ok(setup) => self.commit(setup, ctx),
            Err(refusal) => {
                log::error!(component = "notifier", err = refusal.0.join("; ").as_str(); "running without Alertmanagers")
            }
        }
    }
}

impl Supervised for Notifier {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Notifier::new(self.params.clone());
    }
}

impl ManagedActor for Notifier {
    const KIND: &'static str = "notifier";
}

impl Handler<ApplyConfig> for Notifier {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, phase: ApplyConfig, ctx: &mut Self::Context) -> Self::Result {
        match phase {
            ApplyConfig::Prepare(loaded) => self.prepared = Some(self.prepare(&loaded)?),
            ApplyConfig::Abort => self.prepared = None,
            ApplyConfig::Commit => {
                if let Some(setup) = self.prepared.take() {
                    self.commit(setup, ctx);
                }
            }
        }
        Ok(())
    }
}

impl Handler<TargetGroups> for Notifier {
    type Result = ();

    fn handle(&mut self, found: TargetGroups, ctx: &mut Self::Context) {
        let Some(entry) = self.setup.entries.get_mut(&found.job) else { return };
        report(&found.job, entry.alertmanagers.replace(found.groups.to_vec()));
        self.sync_senders(ctx);
    }
}

impl Handler<Alerts> for Notifier {
    type Result = ();

    fn handle(&mut self, Alerts(alerts): Alerts, _: &mut Self::Context) {
        let count = alerts.len();
        let alerts = alerts.into_iter().map(|alert| Alert {
            instance: alert.instance.0,
            labels: alert.labels,
            annotations: alert.annotations,
            starts_at_ns: alert.starts_at_ns,
            ends_at_ns: alert.ends_at_ns,
            generator_url: alert.generator_url,
        });
        let common = self.setup.relabeling.apply(alerts.collect());
        let senders = self.params.state.senders.lock();
        if senders.is_empty() {
            self.params.metrics.dropped_without_receiver.add(count as u64);
        }
        for sender in senders.values() {
            let Some(entry) = self.setup.entries.get(&sender.config.key) else { continue };
            let own = entry.alertmanagers.relabel(&common);
            if !own.is_empty() {
                sender.address.do_send(SendAlerts(own));
            }
        }
    }
}

impl Handler<Drain> for Notifier {
    type Result = ResponseFuture<()>;

    /// Answered when every sender has posted, or given up, what it had.
    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let senders: Vec<Sender> = self.params.state.senders.lock().values().cloned().collect();
        Box::pin(async move {
            join_all(senders.iter().map(|sender| sender.address.send(Drain))).await;
        })
    }
}
