//! From what discovery found to what is scraped.

use std::collections::HashSet;
use std::sync::Arc;

use fk_config::ScrapeConfig;
use fk_model::labels::METRIC_NAME;
use fk_model::{Duration, Labels, LabelsBuilder, TargetGroup, relabel};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::timing::{self, Fnv};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";
const UNIX_SOCKET: &str = "__unix_socket__";
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";

const CONVERT_CLASSIC: &str = "__convert_classic_histograms_to_nhcb__";
const ALWAYS_CLASSIC: &str = "__always_scrape_classic_histograms__";
const NATIVE: &str = "__scrape_native_histograms__";

/// What becomes of the histograms of a target: as its job says, perhaps overridden by relabelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramSwitches {
    /// Native histograms are read as such.
    pub native: bool,
    /// Classic histograms are stored also where a native one is.
    pub always_classic: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert_classic: bool,
}

/// Something to scrape. Immutable; two targets of a job with the same [`Target::identity`] are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As discovery and the job's defaults had it, before relabelling.
    pub discovered: Labels,
    /// After relabelling, with the labels that start with `__` except `__meta_`.
    pub labels: Labels,
    /// What samples get: [`Target::labels`] without those that start with `__`.
    pub public_labels: Labels,
    /// What is requested, query included.
    pub url: String,
    /// Socket to connect to instead of the address, if the target has one.
    pub unix_socket: Option<String>,
    /// Interval, perhaps overridden by relabelling.
    pub interval: Duration,
    /// Timeout of request and body, perhaps overridden by relabelling.
    pub timeout: Duration,
    /// What becomes of histograms.
    pub histograms: HistogramSwitches,
    /// FNV-1a of labels and URL.
    pub identity: u64,
}

/// What relabelling dropped; only shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTarget {
    /// Before relabelling.
    pub discovered: Labels,
}

/// Why one target of a group cannot be scraped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instance {index} in group {group}: {reason}")]
pub struct TargetError {
    /// Which target of the group, from 0.
    pub index: usize,
    /// The source of the group.
    pub group: String,
    /// What is wrong with it.
    pub reason: TargetErrorReason,
}

/// See [`TargetError`]. Texts as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetErrorReason {
    /// No `__address__` after relabelling.
    #[error("no address")]
    NoAddress,
    /// The address is a URL or a path.
    #[error("{0:?} is not a valid hostname")]
    BadAddress(String),
    /// `__scrape_interval__` is no duration.
    #[error("error parsing scrape interval: {0}")]
    Interval(fk_model::duration::DurationError),
    /// It is zero.
    #[error("scrape interval cannot be 0")]
    ZeroInterval,
    /// `__scrape_timeout__` is no duration.
    #[error("error parsing scrape timeout: {0}")]
    Timeout(fk_model::duration::DurationError),
    /// It is zero.
    #[error("scrape timeout cannot be 0")]
    ZeroTimeout,
    /// The timeout is longer than the interval.
    #[error("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})")]
    TimeoutOverInterval {
        /// As the label has it.
        timeout: String,
        /// As the label has it.
        interval: String,
    },
    /// A switch label that is neither true nor false.
    #[error("error parsing {what}: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    Switch {
        /// What it switches.
        what: &'static str,
        /// Its value.
        value: String,
    },
}

/// All targets of one job at one time.
#[derive(Clone, Debug, Default)]
pub struct TargetSet {
    /// What is scraped, each identity once, in order of discovery.
    pub active: Vec<Arc<Target>>,
    /// What relabelling dropped, as many as `keep_dropped_targets` allows.
    pub dropped: Vec<DroppedTarget>,
    /// How many relabelling dropped in truth.
    pub dropped_count: usize,
    /// Targets that are no good. To be logged and counted; the others go on.
    pub errors: Vec<TargetError>,
    /// `target_limit`, if there are more targets than that: then every scrape fails with this instead of a request.
    pub limit_exceeded: Option<TargetLimitExceeded>,
}

/// More targets than the job may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("target_limit exceeded (number of targets: {count}, limit: {limit})")]
pub struct TargetLimitExceeded {
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub limit: u64,
}

impl TargetSet {
    /// The targets of `groups` for this job.
    pub fn from_groups(job: &ScrapeConfig, groups: &[TargetGroup]) -> TargetSet {
        let mut set = TargetSet::default();
        let mut seen = HashSet::new();
        for group in groups {
            for (index, own) in group.targets.iter().enumerate() {
                let (discovered, outcome) = explain(job, group, own);
                match outcome {
                    Ok(Some(target)) => {
                        if seen.insert(target.identity) {
                            set.active.push(Arc::new(target));
                        }
                    }
                    Ok(None) => {
                        set.dropped_count += 1;
                        let kept_max = job.keep_dropped_targets;
                        if kept_max == 0 || (set.dropped.len() as u64) < kept_max {
                            set.dropped.push(DroppedTarget { discovered });
                        }
                    }
                    Err(reason) => set.errors.push(TargetError { index, group: group.source.clone(), reason }),
                }
            }
        }
        let count = set.active.len();
        if job.target_limit > 0 && count as u64 > job.target_limit {
            set.limit_exceeded = Some(TargetLimitExceeded { count, limit: job.target_limit });
        }
        set
    }
}

/// What becomes of one target of a group: its labels before relabelling, and the target, `None` if relabelling drops it.
pub fn explain(
    job: &ScrapeConfig,
    group: &TargetGroup,
    own: &Labels,
) -> (Labels, Result<Option<Target>, TargetErrorReason>) {
    let discovered = discovered_labels(job, group, own);
    (discovered.clone(), Target::new(job, discovered))
}

/// Labels before relabelling: the target's own, then the group's, then the job's defaults, each only where there is none.
fn discovered_labels(job: &ScrapeConfig, group: &TargetGroup, own: &Labels) -> Labels {
    let mut labels = LabelsBuilder::from(&group.labels);
    for (name, value) in own {
        labels.set(name, value);
    }
    let mut default = |name: &str, value: &str| {
        if labels.value(name).is_empty() {
            labels.set(name, value);
        }
    };
    default("job", &job.job_name);
    default(SCRAPE_INTERVAL, &job.scrape_interval.to_string());
    default(SCRAPE_TIMEOUT, &job.scrape_timeout.to_string());
    default(METRICS_PATH, &job.metrics_path);
    default(SCHEME, &job.scheme);
    let text = |on: bool| if on { "true" } else { "false" };
    default(CONVERT_CLASSIC, text(job.convert_classic_histograms));
    default(ALWAYS_CLASSIC, text(job.always_scrape_classic_histograms));
    default(NATIVE, text(job.scrape_native_histograms));
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            default(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    labels.build()
}

impl Target {
    /// What tells it from all other targets of a server, as long as its labels and its URL stay: of the pool and the identity.
    pub fn key(&self, pool: &str) -> u64 {
        Fnv::new().write(pool.as_bytes()).write(&self.identity.to_le_bytes()).finish()
    }

    /// Relabels and checks. `Ok(None)`: dropped.
    fn new(job: &ScrapeConfig, discovered: Labels) -> Result<Option<Target>, TargetErrorReason> {
        let mut labels = LabelsBuilder::from(&discovered);
        let keep = relabel::process_with(&job.relabel_configs, &mut labels, job.metric_name_validation);
        if !keep || labels.is_empty() {
            return Ok(None);
        }
        let address = labels.value(ADDRESS).to_owned();
        if address.is_empty() {
            return Err(TargetErrorReason::NoAddress);
        }
        if address.contains('/') {
            return Err(TargetErrorReason::BadAddress(address));
        }
        let (interval_text, timeout_text) = (labels.value(SCRAPE_INTERVAL), labels.value(SCRAPE_TIMEOUT));
        let interval = Duration::parse(interval_text).map_err(TargetErrorReason::Interval)?;
        let timeout = Duration::parse(timeout_text).map_err(TargetErrorReason::Timeout)?;
        if interval == Duration::ZERO {
            return Err(TargetErrorReason::ZeroInterval);
        }
        if timeout == Duration::ZERO {
            return Err(TargetErrorReason::ZeroTimeout);
        }
        if timeout > interval {
            let (timeout, interval) = (timeout_text.to_owned(), interval_text.to_owned());
            return Err(TargetErrorReason::TimeoutOverInterval { timeout, interval });
        }
        let switch = |label, what, configured: bool| match labels.value(label) {
            "" => Ok(configured),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            value => Err(TargetErrorReason::Switch { what, value: value.to_owned() }),
        };
        let histograms = HistogramSwitches {
            convert_classic: switch(
                CONVERT_CLASSIC,
                "convert classic histograms to nhcb",
                job.convert_classic_histograms,
            )?,
            always_classic: switch(
                ALWAYS_CLASSIC,
                "always scrape classic histograms",
                job.always_scrape_classic_histograms,
            )?,
            native: switch(NATIVE, "scrape native histograms", job.scrape_native_histograms)?,
        };
        labels.retain(|name, _| !name.starts_with(META_PREFIX));
        if labels.value("instance").is_empty() {
            labels.set("instance", &address);
        }
        let labels = labels.build();
        let url = target_url(job, &labels);
        let identity =
            Fnv::new().write(format!("{:016}", labels.prometheus_hash()).as_bytes()).write(url.as_bytes()).finish();
        Ok(Some(Target {
            public_labels: labels.filtered(|name| !name.starts_with(RESERVED_PREFIX)),
            unix_socket: labels.get(UNIX_SOCKET).map(str::to_owned),
            discovered,
            labels,
            url,
            interval,
            timeout,
            histograms,
            identity,
        }))
    }

    /// How long to wait from `now_ns` until the first scrape, ns. See [`timing::first_scrape_in`].
    pub fn offset(&self, now_ns: i64, seed: u64) -> i64 {
        timing::first_scrape_in(now_ns, self.interval.as_millis().saturating_mul(1_000_000), self.identity, seed)
    }

    /// Labels of a synthetic series.
    pub(crate) fn report_labels(&self, metric: &str) -> Labels {
        let mut labels = LabelsBuilder::from(&self.public_labels);
        labels.set(METRIC_NAME, metric);
        labels.build()
    }
}

/// What stays as it is in a path, as Go's `url.URL` has it.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What stays as it is in a query, as Go's `url.QueryEscape` has it; a blank becomes a plus sign.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

fn target_url(job: &ScrapeConfig, labels: &Labels) -> String {
    let mut params = job.params.clone();
    for (name, value) in labels {
        let Some(param) = name.strip_prefix(PARAM_PREFIX) else { continue };
        let values = params.entry(param.to_owned()).or_default();
        match values.first_mut() {
            Some(first) if !first.is_empty() => *first = value.to_owned(),
            _ => values.push(value.to_owned()),
        }
    }
    let mut url = format!("{}://{}", labels.value(SCHEME), labels.value(ADDRESS));
    let path = labels.value(METRICS_PATH);
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    url.extend(utf8_percent_encode(path, PATH));
    let escape = |text: &str| utf8_percent_encode(text, QUERY).to_string().replace(' ', "+");
    let pairs = params.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    for (at, (name, value)) in pairs.enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(&escape(name));
        url.push('=');
        url.push_str(&escape(value));
    }
    url
}

#[cfg(test)]
mod tests;
