//! The configuration as the server uses it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use fk_model::name::NameValidation;
use fk_model::relabel::RelabelRule;
use fk_model::{Duration, Labels, TargetGroup};

use crate::rule_file::RuleFile;

/// A value that must not be shown: no `Debug`, no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for whoever sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Everything one load of the configuration gave: the main file, the scrape config files and the rule files.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// All rule files, in order of the globs and of the names each matched.
    pub rule_files: Vec<Arc<RuleFile>>,
    /// What `/api/v1/status/config` shows: the configuration as YAML, defaults filled in, secrets masked.
    pub shown_yaml: String,
    /// SHA-256 over the main file and the files it names, hex; for automatic reloads.
    pub checksum: String,
    /// What is worth a log line but no refusal.
    pub warnings: Vec<String>,
}

/// The main file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `global`
    pub global: GlobalConfig,
    /// `scrape_configs`, those of `scrape_config_files` behind them. Invariant: job names are unique.
    pub scrape_configs: Vec<Arc<ScrapeConfig>>,
    /// `rule_files`, resolved against the folder of the main file.
    pub rule_files: Vec<String>,
    /// `alerting`
    pub alerting: AlertingConfig,
    /// `storage`, with what the flags say where it is silent.
    pub storage: StorageConfig,
}

/// `global`
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalConfig {
    /// Default scrape interval.
    pub scrape_interval: Duration,
    /// Default scrape timeout.
    pub scrape_timeout: Duration,
    /// Default interval of rule groups, and default resolution of subqueries.
    pub evaluation_interval: Duration,
    /// Default query offset of rule groups.
    pub rule_query_offset: Duration,
    /// File of the query log, seen from the working directory; empty: queries are not logged.
    pub query_log_file: String,
    /// Labels for external systems, environment references replaced.
    pub external_labels: Labels,
}

/// `storage`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageConfig {
    /// `tsdb.out_of_order_time_window`: how old an out-of-order sample may be; zero: there are none.
    pub out_of_order_window: Duration,
    /// `tsdb.retention`
    pub retention: Retention,
    /// `exemplars.max_exemplars`; zero or less: none are kept.
    pub exemplars_max: i64,
    /// `tsdb.stale_series_compaction_threshold`: share of stale series in the head from which on they are written to blocks
    /// early; zero: never.
    pub stale_series_threshold: f64,
    /// `tsdb.chunk_encoding.floats`; `None`: as the flags say.
    pub float_encoding: Option<FloatEncoding>,
}

/// How chunks of floats are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatEncoding {
    /// `xor`
    Xor,
    /// `xor2`: with start timestamps.
    Xor2,
}

/// How much data is kept. Each limit holds for itself, but a percentage takes the place of the size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retention {
    /// Age of the oldest sample; zero: no limit.
    pub time: Duration,
    /// Bytes of blocks and logs; zero: no limit.
    pub size: u64,
    /// Share of the file system that the data directory is on, percent; zero: no limit.
    pub percentage: f64,
}

/// Exposition formats, as configured and negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// `PrometheusProto`
    PrometheusProto,
    /// `OpenMetricsText0.0.1`
    OpenMetricsText0_0_1,
    /// `OpenMetricsText1.0.0`
    OpenMetricsText1_0_0,
    /// `PrometheusText0.0.4`
    PrometheusText0_0_4,
    /// `PrometheusText1.0.0`
    PrometheusText1_0_0,
}

/// How a target is asked to escape names that are not of the legacy form (`metric_name_escaping_scheme`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EscapingScheme {
    /// `allow-utf-8`: not at all.
    #[default]
    AllowUtf8,
    /// `underscores`
    Underscores,
    /// `dots`
    Dots,
    /// `values`
    Values,
}

impl EscapingScheme {
    /// As configuration and the `escaping` parameter of `Accept` headers write it.
    pub fn as_str(self) -> &'static str {
        match self {
            EscapingScheme::AllowUtf8 => "allow-utf-8",
            EscapingScheme::Underscores => "underscores",
            EscapingScheme::Dots => "dots",
            EscapingScheme::Values => "values",
        }
    }
}

impl ScrapeProtocol {
    /// All of them, as Prometheus lists them in errors.
    pub const ALL: [ScrapeProtocol; 5] = [
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::PrometheusText0_0_4,
        ScrapeProtocol::PrometheusText1_0_0,
    ];

    /// What is asked for when nothing is configured.
    pub const DEFAULT: [ScrapeProtocol; 4] = [
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::PrometheusText1_0_0,
        ScrapeProtocol::PrometheusText0_0_4,
    ];

    /// The same where native histograms or start timestamps are wanted.
    pub const PROTO_FIRST: [ScrapeProtocol; 5] = [
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::OpenMetricsText1_0_0,
        ScrapeProtocol::OpenMetricsText0_0_1,
        ScrapeProtocol::PrometheusText1_0_0,
        ScrapeProtocol::PrometheusText0_0_4,
    ];

    /// As configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => "PrometheusProto",
            ScrapeProtocol::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            ScrapeProtocol::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            ScrapeProtocol::PrometheusText0_0_4 => "PrometheusText0.0.4",
            ScrapeProtocol::PrometheusText1_0_0 => "PrometheusText1.0.0",
        }
    }
}

/// One scrape job. Every default is filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// Unique name; value of the `job` label.
    pub job_name: String,
    /// Whether exposed labels win over target labels.
    pub honor_labels: bool,
    /// Whether exposed timestamps are used.
    pub honor_timestamps: bool,
    /// Whether series with exposed timestamps get staleness markers.
    pub track_timestamps_staleness: bool,
    /// Query parameters, in order of their names.
    pub params: BTreeMap<String, Vec<String>>,
    /// Interval.
    pub scrape_interval: Duration,
    /// Timeout; at most the interval.
    pub scrape_timeout: Duration,
    /// Formats asked for, most wanted first.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// Format assumed when the target names none.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Where failed scrapes are noted, if anywhere.
    pub scrape_failure_log_file: Option<PathBuf>,
    /// Request path.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Whether to ask for gzip.
    pub enable_compression: bool,
    /// Limit of the uncompressed body in bytes; 0: none.
    pub body_size_limit: u64,
    /// Limit of samples per scrape after relabelling; 0: none.
    pub sample_limit: u64,
    /// Limit of targets of the job; 0: none.
    pub target_limit: u64,
    /// Limit of labels per sample; 0: none.
    pub label_limit: u64,
    /// Limit of the length of label names, bytes; 0: none.
    pub label_name_length_limit: u64,
    /// Limit of the length of label values, bytes; 0: none.
    pub label_value_length_limit: u64,
    /// How many dropped targets are kept for display; 0: all.
    pub keep_dropped_targets: u64,
    /// Whether native histograms are read as such.
    pub scrape_native_histograms: bool,
    /// Whether classic histograms are stored also where a native one is.
    pub always_scrape_classic_histograms: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms: bool,
    /// Limit of the buckets of a native histogram; 0: none.
    pub native_histogram_bucket_limit: u64,
    /// By how much each bucket of a native histogram has to be larger than the one before; up to 1: any.
    pub native_histogram_min_bucket_factor: f64,
    /// How strict names are.
    pub metric_name_validation: NameValidation,
    /// Which escaping of names content negotiation asks for.
    pub metric_name_escaping: EscapingScheme,
    /// Whether to write the three extra synthetic series.
    pub extra_scrape_metrics: bool,
    /// HTTP client.
    pub http: HttpClientConfig,
    /// Where targets come from.
    pub discovery: Vec<DiscoveryConfig>,
    /// Target relabelling.
    pub relabel_configs: Vec<RelabelRule>,
    /// Sample relabelling.
    pub metric_relabel_configs: Vec<RelabelRule>,
    /// The section as `/api/v1/scrape_pools/config` shows it, secrets masked.
    pub shown_yaml: String,
}

/// One discovery section.
#[derive(Clone, Debug, PartialEq)]
pub enum DiscoveryConfig {
    /// `static_configs`, all entries of the list together.
    Static(Vec<TargetGroup>),
    /// One `file_sd_configs` entry.
    File(FileDiscoveryConfig),
}

/// `file_sd_configs` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiscoveryConfig {
    /// Paths, wildcards allowed in the last element; resolved against the folder of the configuration file.
    pub files: Vec<String>,
    /// How often files are read again even if no change was noticed.
    pub refresh_interval: Duration,
}

/// `alerting`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertingConfig {
    /// Relabelling of alerts for all Alertmanagers.
    pub alert_relabel_configs: Vec<RelabelRule>,
    /// Alertmanagers.
    pub alertmanagers: Vec<Arc<AlertmanagerConfig>>,
}

/// One entry of `alerting.alertmanagers`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertmanagerConfig {
    /// `config-N`, N counting from 0: how discovery names the entry.
    pub key: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Prefix before `/api/v2/alerts`.
    pub path_prefix: String,
    /// Timeout of one push.
    pub timeout: Duration,
    /// HTTP client.
    pub http: HttpClientConfig,
    /// Where Alertmanagers come from.
    pub discovery: Vec<DiscoveryConfig>,
    /// Relabelling of discovered Alertmanagers.
    pub relabel_configs: Vec<RelabelRule>,
    /// Relabelling of alerts for these Alertmanagers, after the common one.
    pub alert_relabel_configs: Vec<RelabelRule>,
}

/// `http_client_config`, as it stands inline in scrape jobs, Alertmanagers and discovery sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpClientConfig {
    /// Credentials.
    pub auth: Auth,
    /// TLS.
    pub tls: TlsConfig,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be used.
    pub enable_http2: bool,
    /// Proxy.
    pub proxy: ProxyConfig,
    /// Extra headers: name, then values.
    pub headers: Vec<(String, Vec<HeaderValue>)>,
}

/// One value of an extra header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Written in the configuration.
    Plain(String),
    /// Written in the configuration, not shown.
    Secret(Secret),
    /// Read from a file for every request.
    File(PathBuf),
}

/// A secret in the configuration or in a file that is read for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Written in the configuration.
    Inline(Secret),
    /// In this file.
    File(PathBuf),
}

/// How requests are authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `basic_auth`
    Basic {
        /// User name.
        username: SecretSource,
        /// Password, if any.
        password: Option<SecretSource>,
    },
    /// `authorization`, `bearer_token`, `bearer_token_file`
    Header {
        /// `Bearer` unless configured.
        scheme: String,
        /// What follows the scheme.
        credentials: Option<SecretSource>,
    },
    /// `oauth2`
    OAuth2(Box<OAuth2Config>),
}

/// `oauth2`: a token is asked for at another server and sent as credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2Config {
    /// Who asks.
    pub client_id: String,
    /// How it proves who it is.
    pub grant: OAuth2Grant,
    /// What the token is for.
    pub scopes: Vec<String>,
    /// Where tokens are given out.
    pub token_url: String,
    /// Further parameters of the request for a token.
    pub endpoint_params: BTreeMap<String, String>,
    /// TLS towards the token's server.
    pub tls: TlsConfig,
    /// Proxy towards the token's server.
    pub proxy: ProxyConfig,
}

/// `oauth2.grant_type` with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OAuth2Grant {
    /// With a shared secret (RFC 6749, section 4.4).
    ClientCredentials {
        /// The secret. Without one every request fails, as in Prometheus.
        secret: Option<SecretSource>,
    },
    /// With a signed assertion (RFC 7523, section 2.1).
    JwtBearer {
        /// The private RSA key, PEM. Without one every request fails, as in Prometheus.
        key: Option<SecretSource>,
        /// Header `kid`; empty: none.
        key_id: String,
        /// How the assertion is signed.
        algorithm: SignatureAlgorithm,
        /// Claim `iss`.
        issuer: String,
        /// Claim `aud`.
        audience: String,
        /// Further claims; they replace those of the same name.
        claims: BTreeMap<String, serde_json::Value>,
    },
}

/// `oauth2.signature_algorithm`: PKCS #1 v1.5 with SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// With SHA-256.
    Rs256,
    /// With SHA-384.
    Rs384,
    /// With SHA-512.
    Rs512,
}

/// `tls_config`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// CA certificates, PEM.
    pub ca: Option<SecretSource>,
    /// Client certificate, PEM.
    pub cert: Option<SecretSource>,
    /// Client key, PEM.
    pub key: Option<SecretSource>,
    /// Name to verify instead of the host's.
    pub server_name: Option<String>,
    /// Whether certificates are not verified.
    pub insecure_skip_verify: bool,
    /// Lowest version.
    pub min_version: Option<TlsVersion>,
    /// Highest version.
    pub max_version: Option<TlsVersion>,
}

/// TLS versions that can be used. An older one is refused by name as the highest, and means 1.2 as the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// Which proxy to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxyConfig {
    /// None.
    #[default]
    None,
    /// From `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`.
    Environment {
        /// Headers of CONNECT requests: name, then values.
        connect_headers: Vec<(String, Vec<Secret>)>,
    },
    /// This one.
    Url {
        /// The proxy.
        url: String,
        /// Hosts that are not proxied, as `no_proxy` lists them.
        no_proxy: String,
        /// Headers of the CONNECT request.
        connect_headers: Vec<(String, Vec<Secret>)>,
    },
}

impl ScrapeConfig {
    /// A job without targets, everything as it is when the configuration says nothing else.
    pub fn new(job_name: impl Into<String>) -> ScrapeConfig {
        ScrapeConfig {
            job_name: job_name.into(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            params: BTreeMap::new(),
            scrape_interval: Duration(60_000),
            scrape_timeout: Duration(10_000),
            scrape_protocols: ScrapeProtocol::DEFAULT.to_vec(),
            fallback_scrape_protocol: None,
            scrape_failure_log_file: None,
            metrics_path: "/metrics".to_owned(),
            scheme: "http".to_owned(),
            enable_compression: true,
            body_size_limit: 0,
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            convert_classic_histograms: false,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: 0.0,
            metric_name_validation: NameValidation::Utf8,
            metric_name_escaping: EscapingScheme::AllowUtf8,
            extra_scrape_metrics: false,
            http: HttpClientConfig::default(),
            discovery: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            shown_yaml: String::new(),
        }
    }
}

impl Default for HttpClientConfig {
    fn default() -> HttpClientConfig {
        HttpClientConfig {
            auth: Auth::None,
            tls: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy: ProxyConfig::None,
            headers: Vec::new(),
        }
    }
}
