//! What the flags mean to the engines.

use std::path::PathBuf;
use std::sync::Arc;

use fk_config::{LoadOptions, Loaded, Retention, bytesize};
use fk_model::Duration;
use fk_promql_syntax::ParserOptions;
use fk_rules::RuleOptions;
use fk_tsdb::DbOptions;
use fk_wal::{Compression, WalOptions};
use fk_web::state::WebOptions;
use url::Url;

use crate::actors::scrape_loop::ScrapeSettings;
use crate::cli::{Exit, Options, PROMETHEUS_VERSION};
use crate::evaluation::EngineFlags;

/// Smallest and largest `--storage.tsdb.wal-segment-size`.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 10 << 20..=256 << 20;

/// Time retention when neither flags nor configuration name any: 15 days.
const RETENTION_DEFAULT: Duration = Duration(15 * 24 * 3_600_000);

/// Everything the server needs to know, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The flags.
    pub options: Options,
    /// How the configuration is read.
    pub load: LoadOptions,
    /// `--web.external-url` or what stands for it, without a slash at the end.
    pub external_url: Arc<str>,
    /// Prefix of all routes: empty, or with a slash in front and none behind.
    pub route_prefix: String,
    /// Port of the first listener.
    pub listen_port: u16,
    /// Name of this machine.
    pub host_name: String,
    /// The data directory.
    pub data_path: PathBuf,
    wal: WalOptions,
}

impl Settings {
    /// Checks what goes beyond a single flag.
    pub fn new(options: Options) -> Result<Settings, Exit> {
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let listen_port =
            options.listen_addresses.first().and_then(|a| a.rsplit_once(':')).and_then(|(_, port)| port.parse().ok());
        let listen_port = listen_port.unwrap_or(9090);
        let external_url = external_url(&options.external_url, &host_name, listen_port)?;
        let route_prefix = match options.route_prefix.as_str() {
            "" => Url::parse(&external_url).map_or_else(|_| String::new(), |url| url.path().to_owned()),
            given => given.to_owned(),
        };
        let route_prefix = match route_prefix.trim_matches('/') {
            "" => String::new(),
            trimmed => format!("/{trimmed}"),
        };
        let mut wal = WalOptions::default();
        if let Some(bytes) = options.wal_segment_size {
            if !SEGMENT_BYTES.contains(&bytes) {
                // Text as in Prometheus:
                let text = "flag 'storage.tsdb.wal-segment-size' must be set between 10MB and 256MB".to_owned();
                return Err(Exit { code: 1, text });
            }
            wal.segment_bytes = bytes;
        }
        wal.compression = match options.wal_compression.as_deref() {
            None => Compression::None,
            Some("zstd") => Compression::Zstd,
            Some(_) => Compression::Snappy,
        };
        let load = LoadOptions {
            parser: parser_options(&options),
            extra_scrape_metrics: options.has_feature("extra-scrape-metrics"),
            retention: flag_retention(&options),
            exemplar_storage: options.has_feature("exemplar-storage"),
            ..LoadOptions::default()
        };
        let data_path = options.tsdb_path.clone();
        Ok(Settings {
            load,
            external_url: external_url.into(),
            route_prefix,
            listen_port,
            host_name,
            data_path,
            wal,
            options,
        })
    }

    /// For opening the storage.
    pub fn db_options(&self) -> DbOptions {
        DbOptions {
            wal: self.wal,
            samples_per_chunk: self.options.samples_per_chunk,
            min_block_ms: self.options.min_block_duration.as_millis(),
            ..DbOptions::new(self.data_path.clone())
        }
    }

    /// For evaluating queries.
    pub fn engine(&self) -> EngineFlags {
        EngineFlags {
            lookback: self.options.lookback_delta,
            timeout: self.options.query_timeout.to_std(),
            max_samples: self.options.query_max_samples,
            parser: parser_options(&self.options),
            delayed_name_removal: self.options.has_feature("promql-delayed-name-removal"),
        }
    }

    /// The retention in force, as people read it: that of the configuration, or of the flags as long as none is loaded.
    pub fn retention(&self, loaded: Option<&Loaded>) -> String {
        let retention = loaded.map_or(self.load.retention, |loaded| loaded.config.storage.retention);
        let limits = [
            (retention.time != Duration::ZERO).then(|| retention.time.to_string()),
            (retention.size > 0).then(|| bytesize::format(retention.size)),
            (retention.percentage > 0.0).then(|| format!("{}%", retention.percentage)),
        ];
        limits.into_iter().flatten().collect::<Vec<_>>().join(" or ")
    }

    /// For rule groups.
    pub fn rules(&self) -> RuleOptions {
        RuleOptions {
            resend_delay: self.options.resend_delay,
            for_grace_period: self.options.for_grace_period,
            for_outage_tolerance: self.options.for_outage_tolerance,
        }
    }

    /// For scraping.
    pub fn scrape(&self) -> ScrapeSettings {
        ScrapeSettings {
            user_agent: format!("Prometheus/{PROMETHEUS_VERSION}"),
            host_name: self.host_name.clone(),
            align_timestamps: self.options.adjust_timestamps,
            tolerance_ns: self.options.timestamp_tolerance_ns,
        }
    }

    /// For the web server.
    pub fn web(&self) -> WebOptions {
        let options = &self.options;
        WebOptions {
            external_url: self.external_url.to_string(),
            route_prefix: self.route_prefix.clone(),
            listen_port: self.listen_port,
            lifecycle: options.lifecycle,
            admin: options.admin,
            remote_write_receiver: options.remote_write_receiver,
            cors_origin: options.cors_origin.clone(),
            page_title: options.page_title.clone(),
            read_timeout: options.read_timeout.to_std(),
            max_connections: options.max_connections,
            ..WebOptions::default()
        }
    }
}

/// What the flags say of retention: 15 days if they say nothing.
fn flag_retention(options: &Options) -> Retention {
    let (time, size) = (options.retention_time, options.retention_size);
    let time = if time == Duration::ZERO && size == 0 { RETENTION_DEFAULT } else { time };
    Retention { time, size, percentage: 0.0 }
}

fn parser_options(options: &Options) -> ParserOptions {
    ParserOptions {
        experimental_functions: options.has_feature("promql-experimental-functions"),
        extended_range_selectors: options.has_feature("promql-extended-range-selectors"),
        fill_modifiers: options.has_feature("promql-binop-fill-modifiers"),
    }
}

/// The URL people reach the server under, without a slash at the end.
fn external_url(given: &str, host_name: &str, port: u16) -> Result<String, Exit> {
    if given.is_empty() {
        return Ok(format!("http://{host_name}:{port}"));
    }
    let bad = |reason: &str| Exit { code: 2, text: format!("parse external URL {given:?}: {reason}") };
    if given.starts_with(['"', '\'']) || given.ends_with(['"', '\'']) {
        // Text as in Prometheus:
        return Err(bad("URL must not begin or end with quotes"));
    }
    let url = Url::parse(given).map_err(|error| bad(&error.to_string()))?;
    if !url.has_host() {
        return Err(bad("host is missing"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, Exit> {
        Settings::new(Options::parse(args.iter().map(|arg| (*arg).to_owned()))?)
    }

    #[test]
    fn route_prefix_comes_from_the_external_url_unless_given() {
        for (args, prefix) in [
            (&["--web.external-url=http://x:1/a/b/"][..], "/a/b"),
            (&["--web.external-url=http://x:1/a", "--web.route-prefix=/"], ""),
            (&["--web.external-url=http://x:1"], ""),
            (&["--web.route-prefix=c/"], "/c"),
        ] {
            assert_eq!(settings(args).unwrap().route_prefix, prefix, "{args:?}");
        }
    }

    #[test]
    fn bad_settings_end_with_their_exit_codes() {
        for (arg, code) in [("--web.external-url=nonsense", 2), ("--storage.tsdb.wal-segment-size=1MB", 1)] {
            assert_eq!(settings(&[arg]).unwrap_err().code, code, "{arg}");
        }
    }
}
