//! Flags: parsed, checked, typed. No other module reads the arguments.
//!
//! Behaviour follows Prometheus: `--name=value` and `--name value`, `--no-name` for switches, `@file` for further arguments, a flag
//! given twice is an error unless it is repeatable. Exit codes: 2 for bad flags, 3 for a flag of the other mode.

mod table;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, Command};
use fk_model::{Duration, Regex};

pub use table::{FLAGS, Flag, Kind, Mode};
pub use values::parse_go_duration;

/// The version of Prometheus whose behaviour, API and formats this server has.
pub const PROMETHEUS_VERSION: &str = "3.14.0";

/// The name the program goes by: a link called `prometheus` makes it that program, also for scripts that read what it says.
fn called_as() -> &'static str {
    let name = std::env::args_os().next().map(PathBuf::from);
    let is_prometheus = name.as_deref().and_then(|path| path.file_name()).is_some_and(|name| name == "prometheus");
    if is_prometheus { "prometheus" } else { "firekeeper" }
}

/// Why the program ends before it has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: i32,
    /// What to print: on standard output for code 0, else on standard error.
    pub text: String,
}

impl Exit {
    fn usage(error: impl std::fmt::Display) -> Exit {
        // Text as in Prometheus:
        Exit {
            code: 2,
            text: format!("Error parsing command line arguments: {error}\n{}: error: {error}, try --help", called_as()),
        }
    }
}

/// Features of `--enable-feature` that change nothing here because they are always on or have no counterpart.
const FEATURES_WITHOUT_EFFECT: &[&str] = &[
    "promql-duration-expr",
    "native-histograms",
    "ooo-native-histograms",
    // A start is fast without them: the head writes images of itself while it runs.
    "memory-snapshot-on-shutdown",
    "fast-startup",
];

/// Features that are built.
const FEATURES_BUILT: &[&str] = &[
    "auto-reload-config",
    "created-timestamp-zero-ingestion",
    "delayed-compaction",
    "exemplar-storage",
    "extra-scrape-metrics",
    "histograms-st-encoding",
    "metadata-wal-records",
    "st-storage",
    "use-start-timestamps",
    "xor2-encoding",
    "concurrent-rule-eval",
    "promql-experimental-functions",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
    "promql-delayed-name-removal",
    "promql-per-step-stats",
    "search-api",
    "st-synthesis",
    "type-and-unit-labels",
];

/// Features that work, and what replaces them.
const FEATURES_DEPRECATED: &[(&str, &str)] = &[
    ("auto-reload-config", "the flag --config.auto-reload"),
    ("extra-scrape-metrics", "extra_scrape_metrics in the configuration"),
];

/// Features that would change what is stored: silently going without them would corrupt what people expect to find.
const FEATURES_REFUSED: &[&str] = &["otlp-deltatocumulative", "otlp-native-delta-ingestion"];

/// Features that are not built and whose absence only costs comfort.
const FEATURES_MISSING: &[&str] = &["old-ui", "use-uncached-io"];

/// Flags that steer the Go runtime or parts that do not exist here: accepted, without effect.
const FLAGS_WITHOUT_EFFECT: &[&str] =
    &["auto-gomaxprocs", "auto-gomemlimit.refresh-interval", "storage.tsdb.head-chunks-write-queue-size"];

/// Flags of parts that are not built yet: accepted with a note, since nothing goes wrong without them.
const FLAGS_NOT_BUILT: &[&str] = &[
    "storage.remote.flush-deadline",
    "web.console.libraries",
    "web.console.templates",
    "web.remote-write-receiver.accepted-protobuf-messages",
];

/// Switches whose function is not built: refused when switched on.
const SWITCHES_REFUSED: &[&str] = &["agent", "web.enable-otlp-receiver", "write-documentation"];

/// Flags with a value whose function is not built: refused when given.
const VALUES_REFUSED: &[&str] = &[];

/// Flags that work, and what replaces them.
const FLAGS_DEPRECATED: &[(&str, &str)] = &[
    ("storage.tsdb.retention.time", "storage.tsdb.retention.time in the configuration"),
    ("storage.tsdb.retention.size", "storage.tsdb.retention.size in the configuration"),
];

/// What becomes of a flag, for the table of what works.
#[cfg(test)]
pub(crate) fn state_of_flag(name: &str) -> &'static str {
    if SWITCHES_REFUSED.contains(&name) || VALUES_REFUSED.contains(&name) {
        "refused"
    } else if FLAGS_NOT_BUILT.contains(&name) || FLAGS_WITHOUT_EFFECT.contains(&name) {
        "no effect"
    } else {
        "works"
    }
}

/// All features with what becomes of them.
#[cfg(test)]
pub(crate) fn features() -> Vec<(&'static str, &'static str)> {
    let deprecated: Vec<&str> = FEATURES_DEPRECATED.iter().map(|(name, _)| *name).collect();
    let lists: [(&[&'static str], &str); 5] = [
        (FEATURES_BUILT, "works"),
        (&deprecated, "works"),
        (FEATURES_REFUSED, "refused"),
        (FEATURES_MISSING, "no effect"),
        (FEATURES_WITHOUT_EFFECT, "no effect"),
    ];
    let mut features: Vec<_> =
        lists.into_iter().flat_map(|(names, state)| names.iter().map(move |name| (*name, state))).collect();
    features.sort_unstable();
    features.dedup();
    features
}

/// Everything the flags say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Value of every flag as Prometheus prints it, for `/api/v1/status/flags`.
    pub shown: BTreeMap<String, String>,
    /// Features switched on.
    pub features: BTreeSet<String>,
    /// What is worth a log line at the start.
    pub notes: Vec<String>,
    /// `--config.file`
    pub config_file: PathBuf,
    /// `--config.auto-reload`
    pub auto_reload: bool,
    /// `--config.auto-reload-interval`, at least a second.
    pub auto_reload_interval: Duration,
    /// `--web.config.file`
    pub web_config_file: Option<PathBuf>,
    /// `--web.listen-address`
    pub listen_addresses: Vec<String>,
    /// `--web.external-url`, empty if not given.
    pub external_url: String,
    /// `--web.route-prefix`, empty if not given.
    pub route_prefix: String,
    /// `--web.cors.origin`
    pub cors_origin: Regex,
    /// `--web.page-title`
    pub page_title: String,
    /// `--web.read-timeout`
    pub read_timeout: Duration,
    /// `--web.max-connections`
    pub max_connections: usize,
    /// `--web.max-notifications-subscribers`
    pub notification_subscribers_max: usize,
    /// `--web.enable-lifecycle`
    pub lifecycle: bool,
    /// `--web.enable-admin-api`
    pub admin: bool,
    /// `--web.enable-remote-write-receiver`
    pub remote_write_receiver: bool,
    /// `--storage.remote.read-concurrent-limit`; 0: no limit.
    pub read_concurrent_max: usize,
    /// `--storage.remote.read-sample-limit`; 0: no limit.
    pub read_samples_max: usize,
    /// `--storage.remote.read-max-bytes-in-frame`
    pub read_frame_bytes: usize,
    /// `--web.search.max-limit`; 0: no limit.
    pub search_limit_max: usize,
    /// `--web.user-assets`; `None` if not given.
    pub user_assets: Option<PathBuf>,
    /// `--web.remote-write-receiver.sync`
    pub remote_write_sync: bool,
    /// `--storage.tsdb.path`
    pub tsdb_path: PathBuf,
    /// `--storage.tsdb.wal-segment-size`; `None`: the default.
    pub wal_segment_size: Option<u64>,
    /// `--storage.tsdb.wal-compression-type`; `None` if `--no-storage.tsdb.wal-compression`.
    pub wal_compression: Option<String>,
    /// `--storage.tsdb.samples-per-chunk`
    pub samples_per_chunk: u16,
    /// `--storage.tsdb.min-block-duration`
    pub min_block_duration: Duration,
    /// `--storage.tsdb.max-block-duration`; zero: it follows the retention time.
    pub max_block_duration: Duration,
    /// `--storage.tsdb.max-block-chunk-segment-size`; `None`: the default.
    pub chunk_segment_size: Option<u64>,
    /// `--storage.tsdb.no-lockfile`
    pub no_lockfile: bool,
    /// `--storage.tsdb.allow-overlapping-compaction`
    pub allow_overlapping_compaction: bool,
    /// `--storage.tsdb.delayed-compaction.max-percent`
    pub compaction_delay_percent: i64,
    /// `--storage.tsdb.delay-compact-file.path`; `None` if not given.
    pub delay_compact_file: Option<PathBuf>,
    /// `--storage.tsdb.block-reload-interval`
    pub block_reload_interval: Duration,
    /// `--storage.tsdb.retention.time`; zero: not given.
    pub retention_time: Duration,
    /// `--storage.tsdb.retention.size`; zero: not given.
    pub retention_size: u64,
    /// `--rules.alert.for-outage-tolerance`
    pub for_outage_tolerance: Duration,
    /// `--rules.alert.for-grace-period`
    pub for_grace_period: Duration,
    /// `--rules.alert.resend-delay`
    pub resend_delay: Duration,
    /// `--rules.max-concurrent-evals`
    pub max_concurrent_evals: usize,
    /// `--scrape.adjust-timestamps`
    pub adjust_timestamps: bool,
    /// `--scrape.timestamp-tolerance`, nanoseconds.
    pub timestamp_tolerance_ns: i64,
    /// `--scrape.discovery-reload-interval`
    pub discovery_reload_interval: Duration,
    /// `--alertmanager.notification-queue-capacity`
    pub notification_queue_capacity: usize,
    /// `--alertmanager.notification-batch-size`
    pub notification_batch_size: usize,
    /// `--alertmanager.drain-notification-queue-on-shutdown`
    pub drain_notification_queue: bool,
    /// `--query.lookback-delta`
    pub lookback_delta: Duration,
    /// `--query.timeout`
    pub query_timeout: Duration,
    /// `--query.max-concurrency`
    pub query_max_concurrency: usize,
    /// `--query.max-samples`
    pub query_max_samples: usize,
    /// `--auto-gomemlimit.ratio`: the share of the machine's or the control group's memory that the process may use; all of it
    /// without `--auto-gomemlimit`.
    pub memory_limit_ratio: f64,
    /// `--log.level`
    pub log_level: String,
    /// `--log.format`
    pub log_format: String,
}

impl Options {
    /// Reads the arguments, without the program's name.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, Exit> {
        let raw = Raw::parse(expand_files(args)?)?;
        raw.check_mode()?;
        raw.check_ranges()?;
        raw.refuse_missing()?;
        let (features, mut notes) = raw.features()?;
        notes.extend(raw.notes());
        let positive = |name: &str| -> Result<usize, Exit> {
            let value = raw.int(name)?;
            usize::try_from(value)
                .ok()
                .filter(|v| *v > 0)
                .ok_or_else(|| Exit::usage(format!("--{name} must be above zero")))
        };
        let cors = raw.text("web.cors.origin");
        let compression =
            raw.switch("storage.tsdb.wal-compression").then(|| raw.text("storage.tsdb.wal-compression-type"));
        Ok(Options {
            shown: raw.shown()?,
            auto_reload: raw.switch("config.auto-reload") || features.contains("auto-reload-config"),
            features,
            notes,
            config_file: raw.text("config.file").into(),
            auto_reload_interval: raw.duration("config.auto-reload-interval")?.max(Duration(1000)),
            web_config_file: Some(raw.text("web.config.file")).filter(|path| !path.is_empty()).map(PathBuf::from),
            listen_addresses: raw.all("web.listen-address"),
            external_url: raw.text("web.external-url"),
            route_prefix: raw.text("web.route-prefix"),
            cors_origin: Regex::new(&cors).map_err(|error| Exit {
                code: 2,
                text: format!("could not compile CORS regex string {cors:?}: {error}"),
            })?,
            page_title: raw.text("web.page-title"),
            read_timeout: raw.duration("web.read-timeout")?,
            max_connections: positive("web.max-connections")?,
            // None at all is a way to switch it off.
            notification_subscribers_max: usize::try_from(raw.int("web.max-notifications-subscribers")?).unwrap_or(0),
            lifecycle: raw.switch("web.enable-lifecycle"),
            admin: raw.switch("web.enable-admin-api"),
            remote_write_receiver: raw.switch("web.enable-remote-write-receiver"),
            read_concurrent_max: usize::try_from(raw.int("storage.remote.read-concurrent-limit")?).unwrap_or(0),
            read_samples_max: usize::try_from(raw.int("storage.remote.read-sample-limit")?).unwrap_or(0),
            read_frame_bytes: usize::try_from(raw.int("storage.remote.read-max-bytes-in-frame")?).unwrap_or(0),
            search_limit_max: usize::try_from(raw.int("web.search.max-limit")?).unwrap_or(0),
            user_assets: Some(raw.text("web.user-assets")).filter(|path| !path.is_empty()).map(PathBuf::from),
            remote_write_sync: raw.switch("web.remote-write-receiver.sync"),
            tsdb_path: raw.text("storage.tsdb.path").into(),
            wal_segment_size: raw.bytes("storage.tsdb.wal-segment-size")?,
            wal_compression: compression,
            samples_per_chunk: u16::try_from(positive("storage.tsdb.samples-per-chunk")?)
                .map_err(|_| Exit::usage("--storage.tsdb.samples-per-chunk is too large"))?,
            min_block_duration: raw.duration("storage.tsdb.min-block-duration")?,
            max_block_duration: raw.duration("storage.tsdb.max-block-duration")?,
            chunk_segment_size: raw.bytes("storage.tsdb.max-block-chunk-segment-size")?,
            no_lockfile: raw.switch("storage.tsdb.no-lockfile"),
            allow_overlapping_compaction: raw.switch("storage.tsdb.allow-overlapping-compaction"),
            compaction_delay_percent: raw.int("storage.tsdb.delayed-compaction.max-percent")?,
            delay_compact_file: Some(raw.text("storage.tsdb.delay-compact-file.path"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            block_reload_interval: raw.duration("storage.tsdb.block-reload-interval")?,
            retention_time: raw.duration("storage.tsdb.retention.time")?,
            retention_size: raw.bytes("storage.tsdb.retention.size")?.unwrap_or(0),
            for_outage_tolerance: raw.duration("rules.alert.for-outage-tolerance")?,
            for_grace_period: raw.duration("rules.alert.for-grace-period")?,
            resend_delay: raw.duration("rules.alert.resend-delay")?,
            max_concurrent_evals: usize::try_from(raw.int("rules.max-concurrent-evals")?).unwrap_or(0),
            adjust_timestamps: raw.switch("scrape.adjust-timestamps"),
            timestamp_tolerance_ns: values::parse_go_duration(&raw.text("scrape.timestamp-tolerance"))
                .map_err(Exit::usage)?,
            discovery_reload_interval: raw.duration("scrape.discovery-reload-interval")?,
            notification_queue_capacity: positive("alertmanager.notification-queue-capacity")?,
            notification_batch_size: positive("alertmanager.notification-batch-size")?,
            drain_notification_queue: raw.switch("alertmanager.drain-notification-queue-on-shutdown"),
            lookback_delta: raw.duration("query.lookback-delta")?,
            query_timeout: raw.duration("query.timeout")?,
            query_max_concurrency: positive("query.max-concurrency")?,
            query_max_samples: positive("query.max-samples")?,
            memory_limit_ratio: match raw.switch("auto-gomemlimit") {
                true => raw.text("auto-gomemlimit.ratio").parse().unwrap_or(1.0),
                false => 1.0,
            },
            log_level: raw.text("log.level"),
            log_format: raw.text("log.format"),
        })
    }

    /// Whether a feature is switched on.
    pub fn has_feature(&self, name: &str) -> bool {
        self.features.contains(name)
    }
}

/// Replaces each `@file` by the lines of the file.
fn expand_files(args: impl IntoIterator<Item = String>) -> Result<Vec<String>, Exit> {
    let mut out = Vec::new();
    for arg in args {
        match arg.strip_prefix('@') {
            Some(path) if !path.is_empty() => {
                let text = std::fs::read_to_string(path).map_err(|error| Exit::usage(format!("{path}: {error}")))?;
                out.extend(
                    text.lines()
                        .map(str::trim)
                        .filter(|line| !line.is_empty() && !line.starts_with('#'))
                        .map(str::to_owned),
                );
            }
            _ => out.push(arg),
        }
    }
    Ok(out)
}

/// Flags as given, with defaults for the others.
struct Raw {
    values: BTreeMap<&'static str, Vec<String>>,
    given: BTreeSet<&'static str>,
}

impl Raw {
    fn parse(args: Vec<String>) -> Result<Raw, Exit> {
        let matches = match command().try_get_matches_from(args) {
            Ok(matches) => matches,
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::DisplayHelp => Exit { code: 0, text: error.to_string() },
                    ErrorKind::DisplayVersion => Exit { code: 0, text: version() },
                    _ => Exit::usage(explain(&error)),
                });
            }
        };
        let (mut values, mut given) = (BTreeMap::new(), BTreeSet::new());
        for flag in FLAGS {
            let value = if flag.kind == Kind::Bool {
                let no = format!("no-{}", flag.name);
                match (matches.get_flag(flag.name), matches.get_flag(&no)) {
                    (true, true) => return Err(Exit::usage(format!("flag '{}' cannot be repeated", flag.name))),
                    (true, _) => {
                        given.insert(flag.name);
                        vec!["true".to_owned()]
                    }
                    (_, true) => {
                        given.insert(flag.name);
                        vec!["false".to_owned()]
                    }
                    _ => vec![flag.default.to_owned()],
                }
            } else {
                match matches.get_many::<String>(flag.name) {
                    Some(found) => {
                        given.insert(flag.name);
                        found.cloned().collect()
                    }
                    None if flag.repeatable => {
                        flag.default.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect()
                    }
                    None => vec![flag.default.to_owned()],
                }
            };
            values.insert(flag.name, value);
        }
        Ok(Raw { values, given })
    }

    /// Flags of the other mode end the program with exit code 3.
    fn check_mode(&self) -> Result<(), Exit> {
        let agent = self.switch("agent");
        let wrong: Vec<String> = FLAGS
            .iter()
            .filter(|flag| self.given.contains(flag.name))
            .filter(|flag| matches!((flag.mode, agent), (Mode::Server, true) | (Mode::Agent, false)))
            .map(|flag| format!("--{}", flag.name))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let mode = if agent { "agent" } else { "server" };
        // Text as in Prometheus:
        Err(Exit { code: 3, text: format!("The following flag(s) can not be used in {mode} mode: {wrong:?}") })
    }

    /// Values that end the program although they are of the right type.
    fn check_ranges(&self) -> Result<(), Exit> {
        let refuse = |text: &str| Err(Exit { code: 1, text: text.to_owned() });
        let ratio: f64 = self.text("auto-gomemlimit.ratio").parse().unwrap_or(f64::NAN);
        // Not a number at all is told by whoever prints the values.
        if ratio <= 0.0 || ratio > 1.0 {
            return refuse("--auto-gomemlimit.ratio must be greater than 0 and less than or equal to 1.");
        }
        if self.int("web.search.max-limit")? < 0 {
            return refuse("--web.search.max-limit must not be negative");
        }
        const MESSAGES: [&str; 2] = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];
        let flag = "web.remote-write-receiver.accepted-protobuf-messages";
        let messages = self.all(flag);
        for (at, message) in messages.iter().enumerate() {
            if !MESSAGES.contains(&message.as_str()) {
                let known = MESSAGES.join(", ");
                let text =
                    format!("--{flag}: unknown type for remote write protobuf message {message}, supported: {known}");
                return Err(Exit::usage(text));
            }
            if messages[..at].contains(message) {
                return Err(Exit::usage(format!("--{flag}: duplicated remote write protobuf message {message}")));
            }
        }
        Ok(())
    }

    /// What would silently do nothing is refused by name.
    fn refuse_missing(&self) -> Result<(), Exit> {
        let switched = SWITCHES_REFUSED.iter().find(|name| self.switch(name));
        let valued = VALUES_REFUSED.iter().find(|name| self.given.contains(**name) && !self.text(name).is_empty());
        match switched.or(valued) {
            Some(name) => Err(Exit {
                code: 1,
                text: format!("flag --{name} is valid for Prometheus, but firekeeper does not support it yet"),
            }),
            None => Ok(()),
        }
    }

    fn features(&self) -> Result<(BTreeSet<String>, Vec<String>), Exit> {
        let (mut features, mut notes) = (BTreeSet::new(), Vec::new());
        for name in self.all("enable-feature").iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty()) {
            if FEATURES_REFUSED.contains(&name) {
                let text = format!("feature {name:?} changes what is stored, and firekeeper does not support it yet");
                return Err(Exit { code: 1, text });
            } else if FEATURES_BUILT.contains(&name) {
                if let Some((_, instead)) = FEATURES_DEPRECATED.iter().find(|(deprecated, _)| *deprecated == name) {
                    notes.push(format!("feature {name:?} is deprecated: use {instead}"));
                }
                features.insert(name.to_owned());
            } else if FEATURES_WITHOUT_EFFECT.contains(&name) {
                notes.push(format!("feature {name:?} has no effect"));
            } else if FEATURES_MISSING.contains(&name) {
                notes.push(format!("feature {name:?} is not supported yet and is ignored"));
            } else {
                // Text as in Prometheus:
                notes.push(format!("Unknown option for --enable-feature: {name:?}"));
            }
        }
        Ok((features, notes))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for name in FLAGS_WITHOUT_EFFECT.iter().filter(|name| self.given.contains(**name)) {
            notes.push(format!(
                "flag --{name} steers the Go runtime or a part that does not exist here; it has no effect"
            ));
        }
        for name in FLAGS_NOT_BUILT.iter().filter(|name| self.given.contains(**name)) {
            notes.push(format!("flag --{name} belongs to a part that is not built yet; it has no effect"));
        }
        for (name, instead) in FLAGS_DEPRECATED.iter().filter(|(name, _)| self.given.contains(name)) {
            notes.push(format!("flag --{name} is deprecated: use {instead}"));
        }
        notes
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.values.get(name).cloned().unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.values.get(name).and_then(|values| values.first()).cloned().unwrap_or_default()
    }

    fn switch(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    fn duration(&self, name: &str) -> Result<Duration, Exit> {
        match self.text(name).as_str() {
            "" if !self.given.contains(name) => Ok(Duration::ZERO),
            text => Duration::parse(text).map_err(|error| Exit::usage(format!("--{name}: {error}"))),
        }
    }

    fn bytes(&self, name: &str) -> Result<Option<u64>, Exit> {
        match self.text(name).as_str() {
            "" if !self.given.contains(name) => Ok(None),
            text => match fk_config::bytesize::parse(text) {
                Ok(bytes) => {
                    u64::try_from(bytes).map(Some).map_err(|_| Exit::usage(format!("--{name}: negative size {text}")))
                }
                Err(error) => Err(Exit::usage(format!("--{name}: {error}"))),
            },
        }
    }

    fn int(&self, name: &str) -> Result<i64, Exit> {
        values::parse_int(&self.text(name)).map_err(|error| Exit::usage(format!("--{name}: {error}")))
    }

    /// Every flag's value as Prometheus prints it; checks those that nobody else reads.
    fn shown(&self) -> Result<BTreeMap<String, String>, Exit> {
        let mut shown = BTreeMap::new();
        for flag in FLAGS {
            let text = match flag.kind {
                Kind::Duration => self.duration(flag.name)?.to_string(),
                Kind::Bytes => fk_config::bytesize::format(self.bytes(flag.name)?.unwrap_or(0)),
                Kind::Int => self.int(flag.name)?.to_string(),
                Kind::Float => {
                    let text = self.text(flag.name);
                    let value: f64 =
                        text.parse().map_err(|_| Exit::usage(format!("--{}: not a number: {text:?}", flag.name)))?;
                    value.to_string()
                }
                Kind::GoDuration => {
                    let text = self.text(flag.name);
                    values::parse_go_duration(&text)
                        .map_err(|error| Exit::usage(format!("--{}: {error}", flag.name)))?;
                    text
                }
                Kind::Bool | Kind::Text | Kind::Enum(_) => self.all(flag.name).join(","),
            };
            shown.insert(flag.name.to_owned(), text);
        }
        Ok(shown)
    }
}

/// What is wrong with the arguments, in the words of Prometheus' flag library.
fn explain(error: &clap::Error) -> String {
    let context = |kind| error.get(kind).map(|value| value.to_string()).unwrap_or_default();
    let arg = context(ContextKind::InvalidArg);
    // Arguments are described as `--name <VALUE>`.
    let flag = arg.split(' ').next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown long flag '{flag}'"),
        ErrorKind::UnknownArgument if flag.starts_with('-') => format!("unknown short flag '{flag}'"),
        ErrorKind::UnknownArgument => format!("unexpected {flag}"),
        ErrorKind::ArgumentConflict => format!("flag '{}' cannot be repeated", flag.trim_start_matches('-')),
        ErrorKind::TooManyValues => format!("unexpected {value}"),
        ErrorKind::InvalidValue if value.is_empty() => format!("expected argument for flag '{flag}'"),
        ErrorKind::InvalidValue => {
            let allowed =
                match FLAGS.iter().find(|known| flag.strip_prefix("--") == Some(known.name)).map(|known| known.kind) {
                    Some(Kind::Enum(values)) => values.join(","),
                    _ => String::new(),
                };
            format!("{flag}: enum value must be one of {allowed}, got '{value}'")
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    }
}

fn command() -> Command {
    let mut command = Command::new(called_as())
        .about("The Prometheus monitoring server")
        .no_binary_name(true)
        .version(PROMETHEUS_VERSION)
        .disable_version_flag(true)
        .arg(Arg::new("version").long("version").action(ArgAction::Version).help("Show application version."))
        .arg(Arg::new("help-long").long("help-long").hide(true).action(ArgAction::HelpLong));
    for flag in FLAGS {
        let arg = Arg::new(flag.name).long(flag.name).hide(flag.hidden).help(flag.help);
        if flag.kind == Kind::Bool {
            let no: &'static str = Box::leak(format!("no-{}", flag.name).into_boxed_str());
            command = command
                .arg(arg.action(ArgAction::SetTrue))
                .arg(Arg::new(no).long(no).hide(true).action(ArgAction::SetTrue));
            continue;
        }
        let action = if flag.repeatable { ArgAction::Append } else { ArgAction::Set };
        let mut arg = arg.action(action).value_name("VALUE");
        if let Kind::Enum(values) = flag.kind {
            arg = arg.value_parser(values.to_vec());
        }
        if !flag.default.is_empty() {
            arg = arg.help(format!("{} (default: {})", flag.help, flag.default));
        }
        command = command.arg(arg);
    }
    command
}

/// The banner of `--version`.
pub fn version() -> String {
    let own = env!("CARGO_PKG_VERSION");
    let first = match called_as() {
        // Text as in Prometheus, up to the bracket.
        "prometheus" => format!("prometheus, version {PROMETHEUS_VERSION} (firekeeper, version {own})"),
        name => format!("{name}, version {own} (compatible with prometheus, version {PROMETHEUS_VERSION})"),
    };
    format!("{first}\n  platform:         {}/{}\n", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, Exit> {
        Options::parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    fn code(args: &[&str]) -> i32 {
        parse(args).map_or_else(|exit| exit.code, |_| -1)
    }

    #[test]
    fn defaults_are_those_of_prometheus() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.query_max_samples, options.query_timeout.to_string().as_str()), (50_000_000, "2m"));
        assert_eq!(options.listen_addresses, ["0.0.0.0:9090"]);
        assert!(options.drain_notification_queue && !options.lifecycle);
        for (name, value) in [
            ("storage.remote.read-sample-limit", "50000000"),
            ("storage.tsdb.retention.time", "0s"),
            ("storage.tsdb.wal-segment-size", "0B"),
            ("web.read-timeout", "5m"),
            ("scrape.timestamp-tolerance", "2ms"),
            ("auto-gomemlimit.ratio", "0.9"),
        ] {
            assert_eq!(options.shown.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn all_forms_of_flags_are_read() {
        let options = parse(&[
            "--config.file=a.yml",
            "--web.listen-address",
            "127.0.0.1:1",
            "--web.listen-address=:2",
            "--web.enable-lifecycle",
            "--no-scrape.adjust-timestamps",
            "--storage.tsdb.retention.time=100y",
            "--storage.tsdb.wal-segment-size=10MB",
            "--query.max-samples=5e8",
        ])
        .unwrap();
        assert_eq!(options.config_file, PathBuf::from("a.yml"));
        assert_eq!(options.listen_addresses, ["127.0.0.1:1", ":2"]);
        assert!(options.lifecycle && !options.adjust_timestamps);
        assert_eq!((options.wal_segment_size, options.query_max_samples), (Some(10 << 20), 500_000_000));
    }

    #[test]
    fn bad_flags_end_with_their_exit_codes() {
        for (args, expected) in [
            (&["--nonsense"][..], 2),
            (&["--config.file=a", "--config.file=b"], 2),
            (&["--query.timeout=5"], 2),
            (&["--log.level=loud"], 2),
            (&["--web.enable-lifecycle=true"], 2),
            (&["extra"], 2),
            (&["--web.enable-lifecycle", "--no-web.enable-lifecycle"], 2),
            (&["--web.enable-lifecycle", "--web.enable-lifecycle"], 2),
            (&["--query.timeout="], 2),
            (&["--config.file"], 2),
            (&["--config.file", "--web.enable-lifecycle"], 2),
            (&["--storage.tsdb.wal-segment-size=1KB1KiB"], 2),
            (&["--web.remote-write-receiver.accepted-protobuf-messages=x"], 2),
            (&["--auto-gomemlimit.ratio=0"], 1),
            (&["--web.search.max-limit=-1"], 1),
            (&["--write-documentation"], 1),
            (&["--web.cors.origin=("], 2),
            (&["--storage.agent.path=x"], 3),
            (&["--agent", "--storage.tsdb.path=x"], 3),
            (&["--agent"], 1),
            (&["--enable-feature=otlp-deltatocumulative"], 1),
            (&["--help"], 0),
            (&["-h"], 0),
            (&["--help-long"], 0),
            (&["--version"], 0),
        ] {
            assert_eq!(code(args), expected, "{args:?}");
        }
        for (args, wanted) in [
            (&["--nonsense"][..], "unknown long flag '--nonsense'"),
            (&["--nonsense=1"], "unknown long flag '--nonsense'"),
            (&["-x"], "unknown short flag '-x'"),
            (&["extra"], "unexpected extra"),
            (&["--config.file=a", "--config.file=b"], "flag 'config.file' cannot be repeated"),
            (&["--agent", "--no-agent"], "flag 'agent' cannot be repeated"),
            (&["--config.file"], "expected argument for flag '--config.file'"),
            (&["--web.enable-lifecycle=true"], "unexpected true"),
            (&["--log.level=loud"], "--log.level: enum value must be one of debug,info,warn,error, got 'loud'"),
            (&["--query.timeout=5"], "--query.timeout: not a valid duration string: \"5\""),
        ] {
            let text = parse(args).unwrap_err().text;
            let start = format!("Error parsing command line arguments: {wanted}\n");
            assert!(text.starts_with(&start), "{args:?}: {text}");
        }
    }

    #[test]
    fn arguments_may_stand_in_a_file() {
        let folder = fk_testkit::TempDir::new("flags");
        let path = folder.path().join("args");
        std::fs::write(&path, "# comment\n--web.enable-lifecycle\n\n--config.file=x.yml\n").unwrap();
        let options = parse(&[&format!("@{}", path.display())]).unwrap();
        assert!(options.lifecycle && options.config_file.as_os_str() == "x.yml");
        assert_eq!(code(&["@/nonexistent"]), 2);
    }

    #[test]
    fn every_flag_is_read_or_noted() {
        let flags: BTreeSet<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        let deprecated = FLAGS_DEPRECATED.iter().map(|(name, _)| name);
        let lists = FLAGS_NOT_BUILT.iter().chain(FLAGS_WITHOUT_EFFECT).chain(SWITCHES_REFUSED).chain(VALUES_REFUSED);
        for name in lists.chain(deprecated) {
            assert!(flags.contains(name), "{name}");
        }
        let options = parse(&["--web.console.templates=x", "--auto-gomaxprocs"]).unwrap();
        assert_eq!(options.notes.len(), 2, "{:?}", options.notes);
    }

    #[test]
    fn features_are_sorted_into_on_noted_and_unknown() {
        let options =
            parse(&["--enable-feature=promql-experimental-functions,what", "--enable-feature=old-ui"]).unwrap();
        assert!(options.has_feature("promql-experimental-functions"));
        assert_eq!(options.notes.len(), 2, "{:?}", options.notes);
    }

    #[test]
    fn every_feature_is_in_one_list_only() {
        let lists = [FEATURES_BUILT, FEATURES_MISSING, FEATURES_REFUSED, FEATURES_WITHOUT_EFFECT];
        let names: Vec<&str> = lists.iter().flat_map(|list| list.iter().copied()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
