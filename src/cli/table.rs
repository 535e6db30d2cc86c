//! The catalogue of flags: those of Prometheus 3.14, all of them.

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--name` and `--no-name`.
    Bool,
    /// Any text.
    Text,
    /// One of these.
    Enum(&'static [&'static str]),
    /// `1h30m`, see [`fk_model::Duration`].
    Duration,
    /// `1.5ms` as Go writes durations.
    GoDuration,
    /// `512MB`, `1GiB`: a number with a unit, steps of 1024.
    Bytes,
    /// A whole number; written as a float if one likes (`5e7`).
    Int,
    /// A number.
    Float,
}

/// In which mode a flag may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In both.
    Both,
    /// Not with `--agent`.
    Server,
    /// Only with `--agent`.
    Agent,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// Type of its value.
    pub kind: Kind,
    /// Value when it is not given; empty: unset.
    pub default: &'static str,
    /// Where it may be given.
    pub mode: Mode,
    /// Whether help leaves it out.
    pub hidden: bool,
    /// Whether it may be given several times.
    pub repeatable: bool,
    /// What it does.
    pub help: &'static str,
}

/// All flags but `--help` and `--version`.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    Flag { name: "config.file", kind: Kind::Text, default: "prometheus.yml", mode: Mode::Both, hidden: false, repeatable: false, help: "Path of the YAML configuration file." },
    Flag { name: "config.auto-reload", kind: Kind::Bool, default: "false", mode: Mode::Both, hidden: false, repeatable: false, help: "Poll the configuration file (plus the rule files and scrape_config_files it names) and reload when the checksum changes." },
    Flag { name: "config.auto-reload-interval", kind: Kind::Duration, default: "30s", mode: Mode::Both, hidden: false, repeatable: false, help: "Polling interval of the automatic reload; values below 1s are raised to 1s; only used with config.auto-reload." },
    Flag { name: "web.listen-address", kind: Kind::Text, default: "0.0.0.0:9090", mode: Mode::Both, hidden: false, repeatable: true, help: "TCP address to serve HTTP on; give it several times for several listeners (the first one is used to derive the external URL)." },
    Flag { name: "auto-gomaxprocs", kind: Kind::Bool, default: "true", mode: Mode::Both, hidden: false, repeatable: false, help: "Set GOMAXPROCS from the Linux container CPU quota." },
    Flag { name: "auto-gomemlimit", kind: Kind::Bool, default: "true", mode: Mode::Both, hidden: false, repeatable: false, help: "Set GOMEMLIMIT from the cgroup limit, falling back to system memory." },
    Flag { name: "auto-gomemlimit.ratio", kind: Kind::Float, default: "0.9", mode: Mode::Both, hidden: false, repeatable: false, help: "Share of the detected memory limit used as GOMEMLIMIT; must be in (0, 1], otherwise exit 1." },
    Flag { name: "auto-gomemlimit.refresh-interval", kind: Kind::Duration, default: "0s", mode: Mode::Both, hidden: false, repeatable: false, help: "How often to detect the memory limit again; 0 detects once at start." },
    Flag { name: "web.config.file", kind: Kind::Text, default: "", mode: Mode::Both, hidden: false, repeatable: false, help: "Path of the web configuration file (TLS server, HTTP headers, basic auth users). Experimental." },
    Flag { name: "web.read-timeout", kind: Kind::Duration, default: "5m", mode: Mode::Both, hidden: false, repeatable: false, help: "Limit for reading a whole request; also bounds idle keep-alive connections." },
    Flag { name: "web.max-connections", kind: Kind::Int, default: "512", mode: Mode::Both, hidden: false, repeatable: false, help: "Maximum number of open connections, shared by all listeners." },
    Flag { name: "web.max-notifications-subscribers", kind: Kind::Int, default: "16", mode: Mode::Both, hidden: false, repeatable: false, help: "Maximum number of clients subscribed to live notifications; further ones get 204." },
    Flag { name: "web.external-url", kind: Kind::Text, default: "", mode: Mode::Both, hidden: false, repeatable: false, help: "URL under which the server is reachable from outside; its path becomes the default route prefix; empty means http://<hostname>:<port of first listen address>/." },
    Flag { name: "web.route-prefix", kind: Kind::Text, default: "", mode: Mode::Both, hidden: false, repeatable: false, help: "Prefix of all internal routes; empty means the path of web.external-url; normalised to \"/\" + trimmed value." },
    Flag { name: "web.user-assets", kind: Kind::Text, default: "", mode: Mode::Both, hidden: false, repeatable: false, help: "Directory of static files served below /user; the route exists only when set." },
    Flag { name: "web.enable-lifecycle", kind: Kind::Bool, default: "false", mode: Mode::Both, hidden: false, repeatable: false, help: "Enable POST/PUT /-/reload and /-/quit." },
    Flag { name: "web.enable-admin-api", kind: Kind::Bool, default: "false", mode: Mode::Both, hidden: false, repeatable: false, help: "Enable the /api/v1/admin/tsdb/* endpoints." },
    Flag { name: "web.enable-remote-write-receiver", kind: Kind::Bool, default: "false", mode: Mode::Both, hidden: false, repeatable: false, help: "Enable POST /api/v1/write." },
    Flag { name: "web.remote-write-receiver.accepted-protobuf-messages", kind: Kind::Enum(&["prometheus.WriteRequest", "io.prometheus.write.v2.Request"]), default: "prometheus.WriteRequest,io.prometheus.write.v2.Request", mode: Mode::Both, hidden: false, repeatable: true, help: "Remote-write messages the receiver accepts; values are prometheus.WriteRequest and io.prometheus.write.v2.Request, one per occurrence; a duplicate or unknown value is an error; giving the flag replaces the default list." },
    Flag { name: "web.remote-write-receiver.sync", kind: Kind::Bool, default: "true", mode: Mode::Server, hidden: true, repeatable: false, help: "Answer remote writes only when a sync has put their samples on disk. Not in Prometheus, which never does." },
    Flag { name: "web.enable-otlp-receiver", kind: Kind::Bool, default: "false", mode: Mode::Both, hidden: false, repeatable: false, help: "Enable POST /api/v1/otlp/v1/metrics." },
    Flag { name: "web.console.templates", kind: Kind::Text, default: "consoles", mode: Mode::Both, hidden: false, repeatable: false, help: "Directory of console templates served below /consoles." },
    Flag { name: "web.console.libraries", kind: Kind::Text, default: "console_libraries", mode: Mode::Both, hidden: false, repeatable: false, help: "Directory of console library files (*.lib)." },
    Flag { name: "web.page-title", kind: Kind::Text, default: "Prometheus Time Series Collection and Processing Server", mode: Mode::Both, hidden: false, repeatable: false, help: "HTML title of the web UI." },
    Flag { name: "web.cors.origin", kind: Kind::Text, default: ".*", mode: Mode::Both, hidden: false, repeatable: false, help: "Fully anchored regular expression of allowed CORS origins; a bad expression exits 2." },
    Flag { name: "storage.tsdb.path", kind: Kind::Text, default: "data/", mode: Mode::Server, hidden: false, repeatable: false, help: "Data directory of the TSDB." },
    Flag { name: "storage.tsdb.min-block-duration", kind: Kind::Duration, default: "2h", mode: Mode::Server, hidden: true, repeatable: false, help: "Time range of a head block before it is persisted (testing)." },
    Flag { name: "storage.tsdb.max-block-duration", kind: Kind::Duration, default: "", mode: Mode::Server, hidden: true, repeatable: false, help: "Largest time range of a compacted block (testing); unset means min(31d, retention time / 10), or 31d when time retention is 0." },
    Flag { name: "storage.tsdb.max-block-chunk-segment-size", kind: Kind::Bytes, default: "", mode: Mode::Server, hidden: true, repeatable: false, help: "Maximum size of one chunk segment file in a block; unset means 512MiB; a set value below 1MiB is a fatal error." },
    Flag { name: "storage.tsdb.wal-segment-size", kind: Kind::Bytes, default: "", mode: Mode::Server, hidden: true, repeatable: false, help: "Size at which WAL segments are cut; unset means 128MiB; a set value must be within 10MiB..256MiB or start-up fails." },
    Flag { name: "storage.tsdb.retention.time", kind: Kind::Duration, default: "", mode: Mode::Server, hidden: false, repeatable: false, help: "Deprecated. How long to keep samples; when neither this nor retention.size is given the default is 15d; only a default for storage.tsdb.retention in the config file." },
    Flag { name: "storage.tsdb.retention.size", kind: Kind::Bytes, default: "", mode: Mode::Server, hidden: false, repeatable: false, help: "Deprecated. Maximum bytes of blocks kept; unit required; only a default for storage.tsdb.retention in the config file." },
    Flag { name: "storage.tsdb.no-lockfile", kind: Kind::Bool, default: "false", mode: Mode::Server, hidden: false, repeatable: false, help: "Do not create a lock file in the data directory." },
    Flag { name: "storage.tsdb.allow-overlapping-compaction", kind: Kind::Bool, default: "true", mode: Mode::Server, hidden: true, repeatable: false, help: "Allow vertical compaction of overlapping blocks." },
    Flag { name: "storage.tsdb.wal-compression", kind: Kind::Bool, default: "true", mode: Mode::Server, hidden: true, repeatable: false, help: "Compress WAL records." },
    Flag { name: "storage.tsdb.wal-compression-type", kind: Kind::Enum(&["snappy", "zstd"]), default: "snappy", mode: Mode::Server, hidden: true, repeatable: false, help: "WAL compression algorithm; ignored when wal-compression is false." },
    Flag { name: "storage.tsdb.head-chunks-write-queue-size", kind: Kind::Int, default: "0", mode: Mode::Server, hidden: false, repeatable: false, help: "Size of the queue through which head chunks are written to disk; 0 disables the queue. Experimental." },
    Flag { name: "storage.tsdb.samples-per-chunk", kind: Kind::Int, default: "120", mode: Mode::Server, hidden: true, repeatable: false, help: "Target number of samples in a chunk." },
    Flag { name: "storage.tsdb.delayed-compaction.max-percent", kind: Kind::Int, default: "10", mode: Mode::Server, hidden: true, repeatable: false, help: "Upper bound of the random compaction delay as a percentage of the head chunk range; only with the delayed-compaction feature; outside 1..100 it is reset to 10 with a warning." },
    Flag { name: "storage.tsdb.delay-compact-file.path", kind: Kind::Text, default: "", mode: Mode::Server, hidden: false, repeatable: false, help: "JSON file ({\"uploaded\":[ULID...]}) of uploaded blocks; level-1 blocks not listed are not compacted; the file content is cached for one minute." },
    Flag { name: "storage.tsdb.block-reload-interval", kind: Kind::Duration, default: "1m", mode: Mode::Server, hidden: true, repeatable: false, help: "How often the block directory is re-read; values below 1s are raised to 1s with a warning." },
    Flag { name: "storage.agent.path", kind: Kind::Text, default: "data-agent/", mode: Mode::Agent, hidden: false, repeatable: false, help: "Data directory of the agent WAL." },
    Flag { name: "storage.agent.wal-segment-size", kind: Kind::Bytes, default: "", mode: Mode::Agent, hidden: true, repeatable: false, help: "Size at which agent WAL segments are cut; unset means 128MiB; a set value must be within 10MiB..256MiB." },
    Flag { name: "storage.agent.wal-compression", kind: Kind::Bool, default: "true", mode: Mode::Agent, hidden: false, repeatable: false, help: "Compress the agent WAL." },
    Flag { name: "storage.agent.wal-compression-type", kind: Kind::Enum(&["snappy", "zstd"]), default: "snappy", mode: Mode::Agent, hidden: true, repeatable: false, help: "Agent WAL compression algorithm; ignored when wal-compression is false." },
    Flag { name: "storage.agent.wal-truncate-frequency", kind: Kind::Duration, default: "", mode: Mode::Agent, hidden: true, repeatable: false, help: "How often the agent WAL is truncated; unset means 2h." },
    Flag { name: "storage.agent.retention.min-time", kind: Kind::Duration, default: "5m", mode: Mode::Agent, hidden: false, repeatable: false, help: "Age from which samples may be dropped when the WAL is truncated." },
    Flag { name: "storage.agent.retention.max-time", kind: Kind::Duration, default: "4h", mode: Mode::Agent, hidden: false, repeatable: false, help: "Age at which samples are dropped from the WAL even if not yet sent." },
    Flag { name: "storage.agent.checkpoint-from-in-memory-series", kind: Kind::Bool, default: "false", mode: Mode::Agent, hidden: false, repeatable: false, help: "Build WAL checkpoints from the in-memory series only." },
    Flag { name: "storage.agent.checkpoint-batch-size", kind: Kind::Int, default: "1000", mode: Mode::Agent, hidden: false, repeatable: false, help: "Number of entries flushed per WAL log entry when checkpointing from memory; must be > 0 in agent mode, otherwise exit 1." },
    Flag { name: "storage.agent.no-lockfile", kind: Kind::Bool, default: "false", mode: Mode::Agent, hidden: false, repeatable: false, help: "Do not create a lock file in the agent data directory." },
    Flag { name: "storage.remote.flush-deadline", kind: Kind::Duration, default: "1m", mode: Mode::Both, hidden: false, repeatable: false, help: "How long to flush queued remote-write samples on shutdown or reload." },
    Flag { name: "storage.remote.read-sample-limit", kind: Kind::Int, default: "5e7", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum samples returned by one non-streamed remote-read query; 0 disables; integer flags are parsed as floats so 5e7 is a legal value." },
    Flag { name: "storage.remote.read-concurrent-limit", kind: Kind::Int, default: "10", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum concurrent remote-read requests; 0 disables the limit." },
    Flag { name: "storage.remote.read-max-bytes-in-frame", kind: Kind::Int, default: "1048576", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum bytes in one frame of a streamed remote-read response before marshalling." },
    Flag { name: "web.search.max-limit", kind: Kind::Int, default: "10000", mode: Mode::Server, hidden: false, repeatable: false, help: "Upper bound of the limit parameter of the search API; 0 disables the cap; negative exits 1." },
    Flag { name: "rules.alert.for-outage-tolerance", kind: Kind::Duration, default: "1h", mode: Mode::Server, hidden: false, repeatable: false, help: "Longest server outage for which the \"for\" state of alerts is restored." },
    Flag { name: "rules.alert.for-grace-period", kind: Kind::Duration, default: "10m", mode: Mode::Server, hidden: false, repeatable: false, help: "Minimum time between restoring and firing; applies only to alerts whose \"for\" is not shorter than this." },
    Flag { name: "rules.alert.resend-delay", kind: Kind::Duration, default: "1m", mode: Mode::Server, hidden: false, repeatable: false, help: "Minimum time before an alert is sent to Alertmanager again." },
    Flag { name: "rules.max-concurrent-evals", kind: Kind::Int, default: "4", mode: Mode::Server, hidden: false, repeatable: false, help: "Global limit of concurrently evaluated independent rules (only with the concurrent-rule-eval feature)." },
    Flag { name: "scrape.adjust-timestamps", kind: Kind::Bool, default: "true", mode: Mode::Both, hidden: true, repeatable: false, help: "Align scrape timestamps to the intended schedule within scrape.timestamp-tolerance. Experimental." },
    Flag { name: "scrape.timestamp-tolerance", kind: Kind::GoDuration, default: "2ms", mode: Mode::Both, hidden: true, repeatable: false, help: "Tolerance of the timestamp alignment (Go duration syntax; capped at 1% of the scrape interval). Experimental." },
    Flag { name: "alertmanager.notification-queue-capacity", kind: Kind::Int, default: "10000", mode: Mode::Server, hidden: false, repeatable: false, help: "Capacity of the queue of pending alert notifications (per Alertmanager send loop)." },
    Flag { name: "alertmanager.notification-batch-size", kind: Kind::Int, default: "256", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum alerts in one request to an Alertmanager." },
    Flag { name: "alertmanager.drain-notification-queue-on-shutdown", kind: Kind::Bool, default: "true", mode: Mode::Server, hidden: false, repeatable: false, help: "Send the queued alerts before shutting down instead of dropping them." },
    Flag { name: "query.lookback-delta", kind: Kind::Duration, default: "5m", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum lookback for instant selectors and federation." },
    Flag { name: "query.timeout", kind: Kind::Duration, default: "2m", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum run time of a query." },
    Flag { name: "query.max-concurrency", kind: Kind::Int, default: "20", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum number of concurrently running queries." },
    Flag { name: "query.max-samples", kind: Kind::Int, default: "50000000", mode: Mode::Server, hidden: false, repeatable: false, help: "Maximum number of samples one query may hold in memory." },
    Flag { name: "scrape.discovery-reload-interval", kind: Kind::Duration, default: "5s", mode: Mode::Both, hidden: true, repeatable: false, help: "Throttle of target-group updates inside the scrape manager." },
    Flag { name: "enable-feature", kind: Kind::Text, default: "", mode: Mode::Both, hidden: false, repeatable: true, help: "Comma separated feature names; unknown names only log a warning." },
    Flag { name: "agent", kind: Kind::Bool, default: "false", mode: Mode::Both, hidden: false, repeatable: false, help: "Run in agent mode." },
    Flag { name: "log.level", kind: Kind::Enum(&["debug", "info", "warn", "error"]), default: "info", mode: Mode::Both, hidden: false, repeatable: false, help: "Lowest severity that is logged." },
    Flag { name: "log.format", kind: Kind::Enum(&["logfmt", "json"]), default: "logfmt", mode: Mode::Both, hidden: false, repeatable: false, help: "Log output format." },
    Flag { name: "write-documentation", kind: Kind::Bool, default: "false", mode: Mode::Both, hidden: true, repeatable: false, help: "Print the command-line documentation as Markdown and exit. Internal." },];
