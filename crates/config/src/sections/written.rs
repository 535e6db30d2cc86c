//! The fields of the sections that are read by modules of their own: for the schema and for the list of what there is. A test
//! compares them with what those modules ask for.

use super::{
    Field, HTTP, Kind, Section, any, duration, field, float, int, labels, no_check, path, secret, size, switch, text,
    text_map, texts, texts_map, tls, uint, url,
};

/// A section without a check, since its reader has it.
const fn section(go_type: &'static str, fields: &'static [Field]) -> Section {
    Section { go_type, fields, check: no_check }
}

/// A whole configuration.
pub(crate) const MAIN: Section = section(
    "config.plain",
    &[
        field("global", Kind::Section(&GLOBAL)),
        field("runtime", Kind::Section(&RUNTIME)),
        field("alerting", Kind::Section(&ALERTING)),
        texts("rule_files"),
        texts("scrape_config_files"),
        field("scrape_configs", Kind::List(&SCRAPE)),
        field("storage", Kind::Section(&STORAGE)),
        field("tracing", Kind::Section(&super::remote::TRACING)),
        field("remote_write", Kind::List(&super::remote::REMOTE_WRITE)),
        field("remote_read", Kind::List(&super::remote::REMOTE_READ)),
        field("otlp", Kind::Section(&super::remote::OTLP)),
    ],
);

const PROTOCOLS: &[&str] =
    &["PrometheusProto", "OpenMetricsText0.0.1", "OpenMetricsText1.0.0", "PrometheusText0.0.4", "PrometheusText1.0.0"];
const VALIDATION: Field = field("metric_name_validation_scheme", Kind::Word(&["utf8", "legacy"], ""));
const ESCAPING: Field =
    field("metric_name_escaping_scheme", Kind::Word(&["allow-utf-8", "underscores", "dots", "values"], ""));

const GLOBAL: Section = section(
    "config.plain",
    &[
        duration("scrape_interval").or_ms(60_000),
        duration("scrape_timeout").or_ms(10_000),
        texts("scrape_protocols"),
        duration("evaluation_interval").or_ms(60_000),
        duration("rule_query_offset"),
        path("query_log_file"),
        path("scrape_failure_log_file"),
        labels("external_labels"),
        size("body_size_limit"),
        uint("sample_limit"),
        uint("target_limit"),
        uint("label_limit"),
        uint("label_name_length_limit"),
        uint("label_value_length_limit"),
        uint("keep_dropped_targets"),
        VALIDATION,
        ESCAPING,
        switch("scrape_native_histograms"),
        switch("convert_classic_histograms_to_nhcb"),
        switch("always_scrape_classic_histograms"),
        switch("extra_scrape_metrics"),
    ],
);

const RUNTIME: Section = section("config.RuntimeConfig", &[int("gogc").or_int(75)]);

const ALERTING: Section = section(
    "config.plain",
    &[field("alert_relabel_configs", Kind::Relabel("")), field("alertmanagers", Kind::List(&ALERTMANAGER))],
);

const ALERTMANAGER: Section = section(
    "config.AlertmanagerConfig",
    &[
        HTTP,
        field("sigv4", Kind::Optional(&super::remote::SIGV4)),
        field("", Kind::Discoveries),
        text("scheme").or("http"),
        text("path_prefix"),
        duration("timeout").or_ms(10_000),
        field("api_version", Kind::Word(&["v2"], "")).or("v2"),
        field("relabel_configs", Kind::Relabel("")),
        field("alert_relabel_configs", Kind::Relabel("")),
    ],
);

/// One scrape job.
pub(crate) const SCRAPE: Section = section(
    "config.ScrapeConfig",
    &[
        text("job_name"),
        switch("honor_labels"),
        switch("honor_timestamps").on(),
        switch("track_timestamps_staleness"),
        texts_map("params"),
        duration("scrape_interval"),
        duration("scrape_timeout"),
        texts("scrape_protocols"),
        field("fallback_scrape_protocol", Kind::Word(PROTOCOLS, "")),
        switch("scrape_native_histograms"),
        switch("always_scrape_classic_histograms"),
        switch("convert_classic_histograms_to_nhcb"),
        path("scrape_failure_log_file"),
        text("metrics_path").or("/metrics"),
        text("scheme").or("http"),
        switch("enable_compression").on(),
        size("body_size_limit"),
        uint("sample_limit"),
        uint("target_limit"),
        uint("label_limit"),
        uint("label_name_length_limit"),
        uint("label_value_length_limit"),
        uint("native_histogram_bucket_limit"),
        float("native_histogram_min_bucket_factor"),
        uint("keep_dropped_targets"),
        VALIDATION,
        ESCAPING,
        switch("extra_scrape_metrics"),
        HTTP,
        field("", Kind::Discoveries),
        field("relabel_configs", Kind::Relabel("")),
        field("metric_relabel_configs", Kind::Relabel("")),
    ],
);

const STORAGE: Section = section(
    "config.StorageConfig",
    &[field("tsdb", Kind::Section(&TSDB)), field("exemplars", Kind::Section(&EXEMPLARS))],
);
const TSDB: Section = section(
    "config.plain",
    &[
        duration("out_of_order_time_window"),
        float("stale_series_compaction_threshold"),
        field("chunk_encoding", Kind::Section(&CHUNK_ENCODING)),
        field("retention", Kind::Section(&RETENTION)),
    ],
);
const CHUNK_ENCODING: Section =
    section("config.ChunkEncodingConfig", &[field("floats", Kind::Word(&["xor", "xor2"], ""))]);
const RETENTION: Section = section("config.plain", &[duration("time"), size("size"), float("percentage")]);
const EXEMPLARS: Section = section("config.ExemplarsConfig", &[int("max_exemplars").or_int(100_000)]);

/// What is inline wherever requests are sent.
pub(crate) const HTTP_CLIENT: Section = section(
    "config.HTTPClientConfig",
    &[
        field("basic_auth", Kind::Optional(&BASIC_AUTH)),
        field("authorization", Kind::Optional(&AUTHORIZATION)),
        field("oauth2", Kind::Optional(&OAUTH2)),
        secret("bearer_token"),
        path("bearer_token_file"),
        tls("tls_config"),
        switch("follow_redirects").on(),
        switch("enable_http2").on(),
        PROXY_URL,
        NO_PROXY,
        PROXY_ENVIRONMENT,
        PROXY_HEADER,
        field("http_headers", Kind::SectionMap(&HEADER)),
    ],
);

const PROXY_URL: Field = url("proxy_url");
const NO_PROXY: Field = text("no_proxy");
const PROXY_ENVIRONMENT: Field = switch("proxy_from_environment");
const PROXY_HEADER: Field = texts_map("proxy_connect_header");

const BASIC_AUTH: Section = section(
    "config.BasicAuth",
    &[
        text("username"),
        path("username_file"),
        text("username_ref"),
        secret("password"),
        path("password_file"),
        text("password_ref"),
    ],
);
const AUTHORIZATION: Section = section(
    "config.Authorization",
    &[text("type").or("Bearer"), secret("credentials"), path("credentials_file"), text("credentials_ref")],
);
const OAUTH2: Section = section(
    "config.plain",
    &[
        text("client_id"),
        secret("client_secret"),
        path("client_secret_file"),
        text("client_secret_ref"),
        text("client_certificate_key_id"),
        secret("client_certificate_key"),
        path("client_certificate_key_file"),
        text("client_certificate_key_ref"),
        text("grant_type"),
        text("signature_algorithm"),
        text("iss"),
        text("audience"),
        any("claims"),
        texts("scopes"),
        text("token_url"),
        text_map("endpoint_params"),
        tls("tls_config"),
        PROXY_URL,
        NO_PROXY,
        PROXY_ENVIRONMENT,
        PROXY_HEADER,
    ],
);
const HEADER: Section = section("config.Header", &[texts("values"), texts("secrets"), texts("files")]);

const TLS_VERSION: Kind = Kind::Word(&["TLS10", "TLS11", "TLS12", "TLS13"], "");

/// `tls_config`
pub(crate) const TLS: Section = section(
    "config.plain",
    &[
        text("ca"),
        text("cert"),
        secret("key"),
        path("ca_file"),
        path("cert_file"),
        path("key_file"),
        text("ca_ref"),
        text("cert_ref"),
        text("key_ref"),
        text("server_name"),
        switch("insecure_skip_verify"),
        field("min_version", TLS_VERSION),
        field("max_version", TLS_VERSION),
    ],
);

const RELABEL_ACTIONS: &[&str] = &[
    "replace",
    "keep",
    "drop",
    "keepequal",
    "dropequal",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
];

/// One rule of relabelling.
pub(crate) const RELABEL: Section = section(
    "relabel.plain",
    &[
        texts("source_labels"),
        text("separator").or(";"),
        text("regex").or("(.*)"),
        uint("modulus"),
        text("target_label"),
        text("replacement").or("$1"),
        field("action", Kind::Word(RELABEL_ACTIONS, "")).or("replace"),
    ],
);

/// `file_sd_configs`
pub(crate) const FILE_SD: Section =
    section("file.plain", &[texts("files"), duration("refresh_interval").or_ms(300_000)]);

/// `static_configs`
pub(crate) const STATIC: Section = section("targetgroup.Group", &[texts("targets"), labels("labels")]);
