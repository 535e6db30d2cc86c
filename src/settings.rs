//! What the flags mean to the engines.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fk_config::{FloatEncoding, LoadOptions, Loaded, Retention, StorageConfig, bytesize};
use fk_model::Duration;
use fk_promql_syntax::ParserOptions;
use fk_rules::{EvalSlots, RuleOptions};
use fk_scrape::Features;
use fk_storage::MemoryBudget;
use fk_tsdb::{DbOptions, Encoding, TsdbConfig};
use fk_wal::{Compression, WalOptions};
use fk_web::state::WebOptions;
use url::Url;

use crate::actors::scrape_loop::ScrapeSettings;
use crate::cli::{Exit, Options, PROMETHEUS_VERSION};
use crate::evaluation::EngineFlags;
use crate::host_name;
use crate::memory_limit;

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
    /// What the configuration said of the storage when the program began.
    pub storage: StorageConfig,
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
        let load = LoadOptions {
            parser: parser_options(&options),
            extra_scrape_metrics: options.has_feature("extra-scrape-metrics"),
            proto_first: ["created-timestamp-zero-ingestion", "st-storage"]
                .iter()
                .any(|name| options.has_feature(name)),
            retention: flag_retention(&options),
            exemplar_storage: options.has_feature("exemplar-storage"),
            xor2_forbidden: !options.has_feature("xor2-encoding"),
            xor_forbidden: options.has_feature("st-storage"),
            ..LoadOptions::default()
        };
        let storage = StorageConfig { retention: load.retention, ..StorageConfig::default() };
        let settings = Settings {
            load,
            external_url: external_url.into(),
            route_prefix,
            listen_port,
            host_name,
            data_path: options.tsdb_path.clone(),
            storage,
            options,
        };
        settings.db_options().check().map_err(|error| Exit { code: 1, text: error.to_string() })?;
        Ok(settings)
    }

    /// Takes over what the configuration says that matters when the storage is opened.
    pub fn with_storage(mut self, loaded: &Loaded) -> Result<Settings, Exit> {
        self.storage = loaded.config.storage.clone();
        let percentage = self.storage.retention.percentage;
        if percentage > 0.0 && disk_bytes(&self.data_path).is_none_or(|bytes| bytes == 0) {
            let path = self.data_path.display();
            // Text as in Prometheus:
            let text = format!(
                "unable to detect total capacity of metric storage at {path}, please disable retention percentage ({percentage}%)"
            );
            return Err(Exit { code: 2, text });
        }
        Ok(self)
    }

    /// For opening the storage.
    pub fn db_options(&self) -> DbOptions {
        let options = &self.options;
        let defaults = DbOptions::new(self.data_path.clone());
        let delay = u32::try_from(options.compaction_delay_percent).unwrap_or(0);
        DbOptions {
            samples_per_chunk: options.samples_per_chunk,
            min_block_ms: options.min_block_duration.as_millis(),
            max_block_ms: options.max_block_duration.as_millis(),
            // Zero stands for the default, as does no flag at all.
            chunk_segment_bytes: options
                .chunk_segment_size
                .filter(|bytes| *bytes > 0)
                .unwrap_or(defaults.chunk_segment_bytes),
            lockfile: !options.no_lockfile,
            durable_pushes: options.remote_write_sync,
            metadata_records: options.has_feature("metadata-wal-records"),
            st_storage: options.has_feature("st-storage"),
            xor2_allowed: options.has_feature("xor2-encoding"),
            histogram_st_encoding: options.has_feature("histograms-st-encoding"),
            merge_overlapping: options.allow_overlapping_compaction,
            compaction_delay_percent: options.has_feature("delayed-compaction").then_some(delay),
            delay_compact_file: options.delay_compact_file.clone(),
            reload_interval_ms: options.block_reload_interval.as_millis(),
            wal: WalOptions {
                reserve: true,
                segment_bytes: options
                    .wal_segment_size
                    .filter(|bytes| *bytes > 0)
                    .unwrap_or(defaults.wal.segment_bytes),
                compression: match options.wal_compression.as_deref() {
                    None => Compression::None,
                    Some("zstd") => Compression::Zstd,
                    Some(_) => Compression::Snappy,
                },
            },
            config: self.tsdb_config(&self.storage),
            ..defaults
        }
    }

    /// What the section `storage` means to an open storage.
    pub fn tsdb_config(&self, storage: &StorageConfig) -> TsdbConfig {
        let retention = &storage.retention;
        let exemplars = match self.load.exemplar_storage {
            true => usize::try_from(storage.exemplars_max).unwrap_or(0),
            false => 0,
        };
        TsdbConfig {
            retention: fk_tsdb::Retention {
                time_ms: retention.time.as_millis(),
                bytes: retention.size,
                percent: retention.percentage,
            },
            out_of_order_window_ms: storage.out_of_order_window.as_millis(),
            exemplars_max: exemplars,
            stale_series_threshold: storage.stale_series_threshold,
            float_encoding: match storage.float_encoding {
                Some(FloatEncoding::Xor) => Encoding::Xor,
                Some(FloatEncoding::Xor2) => Encoding::Xor2,
                None if self.options.has_feature("xor2-encoding") => Encoding::Xor2,
                None => Encoding::Xor,
            },
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
            type_and_unit_labels: self.options.has_feature("type-and-unit-labels"),
            per_step_stats: self.options.has_feature("promql-per-step-stats"),
            use_start_timestamps: self.options.has_feature("use-start-timestamps"),
        }
    }

    /// What queries may hold in memory: all together a quarter of the memory limit of the process, each half of that.
    pub fn query_memory(&self) -> Arc<MemoryBudget> {
        let all = memory_limit::of_process(self.options.memory_limit_ratio) / 4;
        MemoryBudget::new(all / 2, all)
    }

    /// What the bodies of all targets may take while they are read: a quarter of the memory limit of the process.
    pub fn body_memory(&self) -> usize {
        usize::try_from(memory_limit::of_process(self.options.memory_limit_ratio) / 4).unwrap_or(usize::MAX)
    }

    /// The retention in force, as people read it: that of the configuration in force, or of the one that the program
    /// began with.
    pub fn retention(&self, loaded: Option<&Loaded>) -> String {
        let retention = loaded.map_or(self.storage.retention, |loaded| loaded.config.storage.retention);
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

    /// Slots for rules that are evaluated side by side, if the feature `concurrent-rule-eval` is on.
    pub fn rule_slots(&self) -> Option<EvalSlots> {
        let on = self.options.has_feature("concurrent-rule-eval");
        on.then(|| EvalSlots::new(self.options.max_concurrent_evals))
    }

    /// For scraping.
    pub fn scrape(&self) -> ScrapeSettings {
        ScrapeSettings {
            user_agent: format!("Prometheus/{PROMETHEUS_VERSION}"),
            host_name: host_name::full_name(&self.host_name),
            align_timestamps: self.options.adjust_timestamps,
            tolerance_ns: self.options.timestamp_tolerance_ns,
            features: Features {
                exemplars: self.options.has_feature("exemplar-storage"),
                zero_samples: self.options.has_feature("created-timestamp-zero-ingestion"),
                start_timestamps: self.options.has_feature("st-storage"),
                start_synthesis: self.options.has_feature("st-synthesis"),
                metadata: self.options.has_feature("metadata-wal-records"),
                type_and_unit_labels: self.options.has_feature("type-and-unit-labels"),
            },
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
            read_concurrent_max: options.read_concurrent_max,
            read_samples_max: options.read_samples_max,
            read_frame_bytes: options.read_frame_bytes,
            search: options.has_feature("search-api"),
            search_limit_max: options.search_limit_max,
            user_assets: options.user_assets.clone(),
            cors_origin: options.cors_origin.clone(),
            page_title: options.page_title.clone(),
            read_timeout: options.read_timeout.to_std(),
            max_connections: options.max_connections,
            notification_subscribers_max: options.notification_subscribers_max,
            web_config: options.web_config_file.clone(),
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

/// Bytes of the file system that `path` is on, or will be on: its nearest folder that exists counts.
fn disk_bytes(path: &Path) -> Option<u64> {
    let absolute = std::path::absolute(path).ok()?;
    let found = absolute.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok())?;
    found.f_blocks.checked_mul(found.f_frsize)
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
        for (arg, code) in [
            ("--web.external-url=nonsense", 2),
            ("--storage.tsdb.wal-segment-size=1MB", 1),
            ("--storage.tsdb.wal-segment-size=257MB", 1),
            ("--storage.tsdb.max-block-chunk-segment-size=1KB", 1),
        ] {
            assert_eq!(settings(&[arg]).unwrap_err().code, code, "{arg}");
        }
    }

    #[test]
    fn flags_of_the_storage_reach_it() {
        let settings = settings(&[
            "--storage.tsdb.min-block-duration=1h",
            "--storage.tsdb.max-block-duration=6h",
            "--storage.tsdb.max-block-chunk-segment-size=2MB",
            "--storage.tsdb.wal-segment-size=0B",
            "--no-storage.tsdb.wal-compression",
            "--storage.tsdb.no-lockfile",
            "--no-storage.tsdb.allow-overlapping-compaction",
            "--storage.tsdb.delay-compact-file.path=uploaded.json",
            "--storage.tsdb.block-reload-interval=5s",
            "--storage.tsdb.delayed-compaction.max-percent=20",
            "--enable-feature=delayed-compaction,exemplar-storage",
            "--storage.tsdb.retention.size=1GB",
        ])
        .unwrap();
        let storage =
            StorageConfig { out_of_order_window: Duration(60_000), exemplars_max: 7, ..settings.storage.clone() };
        let options = settings.db_options();
        assert_eq!((options.min_block_ms, options.max_block_ms), (3_600_000, 6 * 3_600_000));
        assert_eq!(
            (options.chunk_segment_bytes, options.wal.segment_bytes),
            (2 << 20, DbOptions::new("").wal.segment_bytes)
        );
        assert!(!options.lockfile && !options.merge_overlapping && options.wal.compression == Compression::None);
        assert_eq!(options.delay_compact_file.as_deref(), Some(Path::new("uploaded.json")));
        assert_eq!((options.reload_interval_ms, options.compaction_delay_percent), (5000, Some(20)));
        assert_eq!(options.config.retention, fk_tsdb::Retention { time_ms: 0, bytes: 1 << 30, percent: 0.0 });
        let config = settings.tsdb_config(&storage);
        assert_eq!((config.out_of_order_window_ms, config.exemplars_max), (60_000, 7));
    }

    #[test]
    fn start_timestamps_need_chunks_that_keep_them() {
        let encoding = |features: &str, config| {
            let settings = settings(&[&format!("--enable-feature={features}")]);
            settings.map(|settings| {
                let storage = StorageConfig { float_encoding: config, ..settings.storage.clone() };
                let options = settings.db_options();
                (settings.tsdb_config(&storage).float_encoding, options.st_storage, options.histogram_st_encoding)
            })
        };
        assert_eq!(encoding("", None).unwrap(), (Encoding::Xor, false, false));
        assert_eq!(encoding("xor2-encoding", None).unwrap(), (Encoding::Xor2, false, false));
        assert_eq!(encoding("xor2-encoding", Some(FloatEncoding::Xor)).unwrap().0, Encoding::Xor);
        let all = "xor2-encoding,st-storage,histograms-st-encoding";
        assert_eq!(encoding(all, None).unwrap(), (Encoding::Xor2, true, true));
        let refused = encoding("st-storage", None).unwrap_err();
        assert!(refused.text.contains("is incompatible with start-timestamp storage"), "{}", refused.text);
    }

    #[test]
    fn retention_is_told_in_the_words_of_prometheus() {
        for (args, text) in [
            (&[][..], "15d"),
            (&["--storage.tsdb.retention.time=30d"], "30d"),
            (&["--storage.tsdb.retention.size=10GB"], "10GiB"),
            (&["--storage.tsdb.retention.time=1d", "--storage.tsdb.retention.size=512MB"], "1d or 512MiB"),
        ] {
            assert_eq!(settings(args).unwrap().retention(None), text, "{args:?}");
        }
    }
}
