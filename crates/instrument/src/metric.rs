//! The metrics themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

use crate::encoder::number;
use crate::{Encoder, Kind};

/// Something that can be registered.
pub trait Metric: Clone + Send + Sync + 'static {
    /// Its type on the wire.
    const KIND: Kind;

    /// Writes its samples.
    fn encode(&self, out: &mut Encoder, name: &str, labels: &[(&str, &str)]);
}

/// A count that only goes up.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metric for Counter {
    const KIND: Kind = Kind::Counter;

    fn encode(&self, out: &mut Encoder, name: &str, labels: &[(&str, &str)]) {
        out.sample(name, labels, self.get() as f64);
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, v: f64) {
        self.0.store(v.to_bits(), Relaxed);
    }

    /// Adds `by`, which may be negative.
    pub fn add(&self, by: f64) {
        // The closure never declines, so the update cannot fail.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + by).to_bits()));
    }

    /// The value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

impl Metric for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn encode(&self, out: &mut Encoder, name: &str, labels: &[(&str, &str)]) {
        out.sample(name, labels, self.get());
    }
}

/// Observations counted in buckets.
#[derive(Clone)]
pub struct Histogram(Arc<HistogramInner>);

struct HistogramInner {
    bounds: &'static [f64],
    /// One more than bounds: the last is +Inf. Not cumulative.
    buckets: Box<[AtomicU64]>,
    sum: Gauge,
}

impl Histogram {
    /// With these upper bounds, ascending, without +Inf.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(HistogramInner { bounds, buckets, sum: Gauge::default() }))
    }

    /// Counts one observation.
    pub fn observe(&self, v: f64) {
        let at = self.0.bounds.partition_point(|bound| *bound < v);
        self.0.buckets[at].fetch_add(1, Relaxed);
        self.0.sum.add(v);
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|b| b.load(Relaxed)).sum()
    }

    /// Sum of all observations.
    pub fn sum(&self) -> f64 {
        self.0.sum.get()
    }
}

impl Metric for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn encode(&self, out: &mut Encoder, name: &str, labels: &[(&str, &str)]) {
        let bucket_name = format!("{name}_bucket");
        let mut cumulative = 0;
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, bucket) in bounds.zip(&self.0.buckets) {
            cumulative += bucket.load(Relaxed);
            let le = number(bound);
            let with_le: Vec<(&str, &str)> = labels.iter().copied().chain([("le", le.as_str())]).collect();
            out.sample(&bucket_name, &with_le, cumulative as f64);
        }
        out.sample(&format!("{name}_sum"), labels, self.sum());
        out.sample(&format!("{name}_count"), labels, cumulative as f64);
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).field("sum", &self.sum()).finish()
    }
}

/// Metrics that differ in the values of some labels. Cheap to clone; clones share the members.
pub struct Family<M>(Arc<FamilyInner<M>>);

struct FamilyInner<M> {
    labels: &'static [&'static str],
    make: Box<dyn Fn() -> M + Send + Sync>,
    members: RwLock<BTreeMap<Vec<String>, M>>,
}

impl<M: Metric> Family<M> {
    /// A family whose members carry `labels` and are made by `make`.
    pub fn new(labels: &'static [&'static str], make: impl Fn() -> M + Send + Sync + 'static) -> Family<M> {
        Family(Arc::new(FamilyInner { labels, make: Box::new(make), members: RwLock::default() }))
    }

    /// The member with these label values, one per label, made at first use. Takes a lock: keep what it returns.
    pub fn get(&self, values: &[&str]) -> M {
        debug_assert_eq!(values.len(), self.0.labels.len());
        let key: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        if let Some(member) = self.0.members.read().get(&key) {
            return member.clone();
        }
        self.0.members.write().entry(key).or_insert_with(&self.0.make).clone()
    }

    /// Forgets the member with these label values.
    pub fn remove(&self, values: &[&str]) {
        let key: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        self.0.members.write().remove(&key);
    }

    /// All members with their label values.
    pub fn members(&self) -> Vec<(Vec<String>, M)> {
        self.0.members.read().iter().map(|(k, m)| (k.clone(), m.clone())).collect()
    }

    /// Writes all members.
    pub fn encode(&self, out: &mut Encoder, name: &str, help: &str) {
        out.family(name, help, M::KIND);
        for (values, member) in self.0.members.read().iter() {
            let labels: Vec<(&str, &str)> =
                self.0.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            member.encode(out, name, &labels);
        }
    }
}

impl<M> Clone for Family<M> {
    fn clone(&self) -> Family<M> {
        Family(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("labels", &self.0.labels).field("members", &self.0.members.read().len()).finish()
    }
}
