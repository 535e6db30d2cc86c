//! The program as `promtool`: called by that name, or as `firekeeper promtool ...`. Flags, exit codes and connections; what the
//! commands do is in `fk_promtool`.
//!
//! Of the commands of Prometheus' promtool those of `tsdb`, `query`, `push`, `debug`, `promql`, `check` but for `healthy` and `ready`,
//! and `test rules` are built. Any other is refused by name. `test promql`, `rules backtest` and `config schema` are ours. Those
//! that talk to a server are in `promtool/client.rs`.

mod backtest;
mod client;

use std::io::{BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fk_http::Client;
use fk_model::MatchKind;
use fk_promql_syntax::ParserOptions;
use fk_promtool::rules::{MatrixSeries, RangeQuery, parse_matrix};
use fk_promtool::{
    ToolError, analyze, bench, check_config, check_rules, check_sd, dump, edit, lint, list, openmetrics, rules,
    scripts, unit_tests,
};
use fk_storage::TimeRange;
use fk_vfs::{OsVfs, Vfs};
use url::Url;

use crate::cli::{self, PROMETHEUS_VERSION};

/// Commands of its `check` that are not built.
const CHECKS_NOT_BUILT: &[&str] = &["healthy", "ready"];

/// Exit code if there is nothing but lint problems.
const LINT_EXIT_CODE: i32 = 3;

/// The largest exposition that is checked, bytes.
const EXPOSITION_BYTES_MAX: u64 = 1 << 30;

/// How long one query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(600);

/// Without an end, rules are imported up to so long ago: what is newer is in the server's head.
const END_BEFORE_NOW_S: i64 = 3 * 3600;

#[derive(Parser)]
#[command(name = "promtool", about = "Tooling for the Prometheus monitoring system.", disable_version_flag = true)]
struct Cli {
    /// Show application version.
    #[arg(long, global = true)]
    version: bool,
    /// Enable experimental commands.
    #[arg(long, global = true)]
    experimental: bool,
    /// Comma separated feature names to enable: promql-experimental-functions, promql-delayed-name-removal,
    /// promql-extended-range-selectors, promql-binop-fill-modifiers.
    #[arg(long, global = true)]
    enable_feature: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What `--enable-feature` has switched on.
#[derive(Clone, Copy, Debug, Default)]
struct Features {
    parser: ParserOptions,
    delayed_name_removal: bool,
}

impl Features {
    fn read(lists: &[String]) -> Features {
        let mut features = Features::default();
        for name in lists.iter().flat_map(|list| list.split(',')) {
            match name {
                "promql-experimental-functions" => features.parser.experimental_functions = true,
                "promql-delayed-name-removal" => features.delayed_name_removal = true,
                "promql-extended-range-selectors" => features.parser.extended_range_selectors = true,
                "promql-binop-fill-modifiers" => features.parser.fill_modifiers = true,
                // The first is always on.
                "promql-duration-expr" | "" => {}
                // Text as in Prometheus:
                unknown => println!("  WARNING: Unknown feature passed to --enable-feature: {unknown}"),
            }
        }
        features
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run tsdb commands.
    #[command(subcommand_required = true)]
    Tsdb {
        #[command(subcommand)]
        command: Tsdb,
    },
    /// Check the resources for validity.
    #[command(subcommand_required = true)]
    Check {
        /// The server's maximum query lookback duration.
        #[arg(long = "query.lookback-delta", global = true, value_parser = prometheus_duration, default_value = "5m")]
        lookback_delta: fk_model::Duration,
        #[command(subcommand)]
        command: Check,
    },
    /// What configurations may contain (an extension).
    #[command(subcommand_required = true)]
    Config {
        #[command(subcommand)]
        command: Config,
    },
    /// Run query against a Prometheus server.
    #[command(subcommand_required = true)]
    Query {
        /// Output format of the query.
        #[arg(short = 'o', long, global = true, value_enum, default_value_t = client::OutputFormat::Promql)]
        format: client::OutputFormat,
        #[command(flatten)]
        connection: client::Connection,
        #[command(subcommand)]
        command: client::Query,
    },
    /// Push to a Prometheus server.
    #[command(subcommand_required = true)]
    Push {
        #[command(flatten)]
        connection: client::Connection,
        #[command(subcommand)]
        command: client::Push,
    },
    /// Fetch debug information.
    #[command(subcommand_required = true)]
    Debug {
        #[command(subcommand)]
        command: client::Debug,
    },
    /// PromQL formatting and editing. Requires the --experimental flag.
    #[command(subcommand_required = true)]
    Promql {
        #[command(subcommand)]
        command: Promql,
    },
    /// Unit testing.
    #[command(subcommand_required = true)]
    Test {
        /// File path to store JUnit XML test results.
        #[arg(long, global = true)]
        junit: Option<PathBuf>,
        #[command(subcommand)]
        command: Test,
    },
    /// Work with rules.
    #[command(subcommand_required = true)]
    Rules {
        #[command(subcommand)]
        command: Rules,
    },
}

#[derive(Subcommand)]
enum Rules {
    /// Run a rule group over stored data: when its alerts would have been pending, firing and resolved.
    Backtest(backtest::Backtest),
}

#[derive(Subcommand)]
enum Config {
    /// Print the JSON schema of the configuration file.
    Schema,
}

#[derive(Subcommand)]
enum Check {
    /// Check if the config files are valid or not.
    Config {
        /// Only check the config file syntax, ignoring file and content validation referenced in the config.
        #[arg(long)]
        syntax_only: bool,
        /// Linting checks to apply to the rules/scrape configs specified in the config. Available options are: all,
        /// duplicate-rules, none, too-long-scrape-interval. Use --lint=none to disable linting.
        #[arg(long, default_value = "duplicate-rules")]
        lint: String,
        /// Make lint errors exit with exit code 3.
        #[arg(long)]
        lint_fatal: bool,
        /// Ignore unknown fields in the rule groups read by the config files.
        #[arg(long)]
        ignore_unknown_fields: bool,
        /// Check config file for Prometheus in Agent mode.
        #[arg(long)]
        agent: bool,
        /// The config files to check.
        #[arg(required = true, value_parser = existing_file)]
        files: Vec<PathBuf>,
    },
    /// Check if the web config files are valid or not.
    WebConfig {
        /// The config files to check.
        #[arg(required = true, value_parser = existing_file)]
        files: Vec<PathBuf>,
    },
    /// Check if the rule files are valid or not.
    Rules {
        /// Linting checks to apply. Available options are: all, duplicate-rules, none. Use --lint=none to disable linting.
        #[arg(long, default_value = "duplicate-rules")]
        lint: String,
        /// Make lint errors exit with exit code 3.
        #[arg(long)]
        lint_fatal: bool,
        /// Ignore unknown fields in the rule files.
        #[arg(long)]
        ignore_unknown_fields: bool,
        /// The rule files to check, default is read from standard input.
        #[arg(value_parser = existing_file)]
        files: Vec<PathBuf>,
    },
    /// Pass Prometheus metrics over stdin to lint them for consistency and correctness, and optionally perform cardinality analysis.
    Metrics {
        /// Print extended information related to the cardinality of the metrics.
        #[arg(long)]
        extended: bool,
        /// Linting checks to apply for metrics. Available options are: all, none. Use --lint=none to disable metrics linting.
        #[arg(long, value_enum, default_value_t = Lint::All)]
        lint: Lint,
    },
    /// Perform service discovery for the given job name and report the results, including relabeling.
    ServiceDiscovery {
        /// Accepted for compatibility: what is built is read at once, and nothing is waited for.
        #[arg(long, value_parser = go_duration_ms, default_value = "30s")]
        timeout: i64,
        /// The prometheus config file.
        config: PathBuf,
        /// The job to run service discovery for.
        job: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lint {
    All,
    None,
}

#[derive(Subcommand)]
enum Test {
    /// Unit tests for rules.
    Rules {
        /// If set, will only run test groups whose names match the regular expression. Can be specified multiple times.
        #[arg(long)]
        run: Vec<String>,
        /// Enable unit test debugging.
        #[arg(long)]
        debug: bool,
        /// Print colored differential output between expected & received output.
        #[arg(long)]
        diff: bool,
        /// Ignore unknown fields in the rule files.
        #[arg(long)]
        ignore_unknown_fields: bool,
        /// The unit test files.
        #[arg(required = true, value_parser = existing_file)]
        files: Vec<PathBuf>,
    },
    /// Run scripts of the PromQL test language.
    Promql {
        /// The scripts.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Promql {
    /// Format PromQL query to pretty printed form.
    Format {
        /// PromQL query.
        query: String,
    },
    /// Edit label matchers contained within an existing PromQL query.
    #[command(subcommand_required = true)]
    LabelMatchers {
        #[command(subcommand)]
        command: LabelMatchers,
    },
}

#[derive(Subcommand)]
enum LabelMatchers {
    /// Set a label matcher in the query.
    Set {
        /// Type of the label matcher to set.
        #[arg(short = 't', long = "type", default_value = "=", value_parser = ["=", "!=", "=~", "!~"])]
        kind: String,
        /// PromQL query.
        query: String,
        /// Name of the label matcher to set.
        name: String,
        /// Value of the label matcher to set.
        value: String,
    },
    /// Delete a label from the query.
    Delete {
        /// PromQL query.
        query: String,
        /// Name of the label to delete.
        name: String,
    },
}

#[derive(Subcommand)]
enum Tsdb {
    /// Run benchmarks.
    #[command(subcommand_required = true)]
    Bench {
        #[command(subcommand)]
        command: Bench,
    },
    /// Analyze churn, label pair cardinality and compaction efficiency.
    Analyze {
        /// How many items to show in each list.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Run extended analysis.
        #[arg(long)]
        extended: bool,
        /// Series selector to analyze. Only 1 set of matchers is supported now.
        #[arg(long = "match", default_value = "")]
        selector: String,
        /// Database path.
        #[arg(default_value = "data/")]
        path: PathBuf,
        /// Block to analyze (default is the last block).
        block: Option<String>,
    },
    /// List tsdb blocks.
    List {
        /// Print human readable values.
        #[arg(short = 'r', long)]
        human_readable: bool,
        /// Database path.
        #[arg(default_value = "data/")]
        path: PathBuf,
    },
    /// Dump data (series+samples or optionally just series) from a TSDB.
    Dump {
        #[command(flatten)]
        which: Which,
        /// Output format of the dump (prom (default) or seriesjson).
        #[arg(long, value_enum, default_value_t = DumpFormat::Prom)]
        format: DumpFormat,
        /// Database path.
        #[arg(default_value = "data/")]
        path: PathBuf,
    },
    /// [Experimental] Dump samples from a TSDB into OpenMetrics text format, without native histograms and staleness markers.
    DumpOpenmetrics {
        #[command(flatten)]
        which: Which,
        /// Database path.
        #[arg(default_value = "data/")]
        path: PathBuf,
    },
    /// [Experimental] Import samples from input and produce TSDB blocks.
    #[command(subcommand_required = true)]
    CreateBlocksFrom {
        /// Print human readable values.
        #[arg(short = 'r', long, global = true)]
        human_readable: bool,
        /// Do not print created blocks.
        #[arg(short, long, global = true)]
        quiet: bool,
        #[arg(long, global = true, hide = true, value_parser = go_duration_ms, default_value = "0s")]
        max_block_duration: i64,
        #[command(subcommand)]
        command: Import,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Run a write performance benchmark.
    Write {
        /// Set the output path; it is removed first.
        #[arg(long, default_value = "benchout")]
        out: PathBuf,
        /// Number of metrics to read.
        #[arg(long, default_value_t = 10_000)]
        metrics: usize,
        /// Number of scrapes to simulate.
        #[arg(long, default_value_t = 3000)]
        scrapes: usize,
        /// Input file with samples data.
        #[arg(default_value = "../../tsdb/testdata/20kseries.json")]
        file: PathBuf,
    },
}

#[derive(Args)]
struct Which {
    /// Accepted for compatibility: nothing is written, so no folder for it is needed.
    #[arg(long, default_value = "")]
    sandbox_dir_root: String,
    /// Minimum timestamp to dump, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MIN, allow_hyphen_values = true)]
    min_time: i64,
    /// Maximum timestamp to dump, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MAX, allow_hyphen_values = true)]
    max_time: i64,
    /// Series selector. Can be specified multiple times.
    #[arg(long = "match", default_value = "{__name__=~'(?s:.*)'}")]
    selectors: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DumpFormat {
    Prom,
    Seriesjson,
}

#[derive(Subcommand)]
enum Import {
    /// Import samples from OpenMetrics input and produce TSDB blocks.
    Openmetrics {
        /// Label to attach to metrics. Can be specified multiple times. Example --label=label_name=label_value
        #[arg(long = "label", value_parser = key_value)]
        labels: Vec<(String, String)>,
        /// OpenMetrics file to read samples from.
        input: PathBuf,
        /// Output directory for generated blocks.
        #[arg(default_value = "data/")]
        output: PathBuf,
    },
    /// Create blocks of data for new recording rules.
    Rules {
        /// HTTP client configuration file.
        #[arg(long = "http.config.file")]
        http_config: Option<PathBuf>,
        /// The URL for the Prometheus API with the data where the rule will be backfilled from.
        #[arg(long, default_value = "http://localhost:9090")]
        url: Url,
        /// The time to start backfilling the new rule from: RFC 3339 or a Unix timestamp.
        #[arg(long)]
        start: String,
        /// Backfill up to this time; three hours ago if not given.
        #[arg(long)]
        end: Option<String>,
        /// Output directory for generated blocks.
        #[arg(long, default_value = "data/")]
        output_dir: PathBuf,
        /// How frequently to evaluate rules whose group does not say it.
        #[arg(long, value_parser = go_duration_ms, default_value = "60s")]
        eval_interval: i64,
        /// Files with recording rules; alerting rules are skipped.
        #[arg(required = true)]
        files: Vec<String>,
    },
}

fn go_duration_ms(text: &str) -> Result<i64, String> {
    cli::parse_go_duration(text).map(|ns| ns / 1_000_000)
}

fn prometheus_duration(text: &str) -> Result<fk_model::Duration, String> {
    fk_model::Duration::parse(text).map_err(|error| error.to_string())
}

fn existing_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.metadata() {
        Ok(found) if !found.is_dir() => Ok(path),
        // Texts as in Prometheus:
        Ok(_) => Err(format!("'{text}' is a directory")),
        Err(_) => Err(format!("path '{text}' does not exist")),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("expected KEY=VALUE got '{text}'")),
    }
}

/// Whether the program was called as promtool, and with which arguments behind that.
pub fn arguments(args: &[String]) -> Option<&[String]> {
    let name = Path::new(args.first()?).file_name()?.to_str()?;
    match (name, args.get(1).map(String::as_str)) {
        ("promtool", _) => Some(&args[1..]),
        (_, Some("promtool")) => Some(&args[2..]),
        _ => None,
    }
}

/// Runs a command; the exit code.
pub fn run(args: &[String]) -> i32 {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let refused = match &words[..] {
        ["check", name, ..] if CHECKS_NOT_BUILT.contains(name) => Some(format!("check {name}")),
        _ => None,
    };
    if let Some(name) = refused {
        eprintln!(
            "promtool: error: command {name:?} is valid for Prometheus' promtool, but firekeeper does not support it yet"
        );
        return 1;
    }
    let parsed = Cli::try_parse_from(std::iter::once("promtool").chain(args.iter().map(String::as_str)));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is the reader's business.
            let _ = error.print();
            return i32::from(error.kind() != ErrorKind::DisplayHelp);
        }
    };
    if cli.version {
        println!("promtool, version {PROMETHEUS_VERSION} (firekeeper {})", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let features = Features::read(&cli.enable_feature);
    let Some(command) = cli.command else {
        // As with Prometheus' tool, which says what it can do and is content.
        let _ = <Cli as clap::CommandFactory>::command().print_help();
        return 0;
    };
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let result = match command {
        Command::Query { format, connection, command } => {
            client::run_query(command, format, &connection, &mut out).map(|()| 0)
        }
        Command::Push { connection, command } => {
            client::run_push(command, &connection, &mut out).map(|is_whole| i32::from(!is_whole))
        }
        Command::Debug { command } => client::run_debug(command, Path::new(""), &mut out).map(|()| 0),
        // Text as in Prometheus:
        Command::Promql { .. } if !cli.experimental => Err(ToolError::Other(
            "This command is experimental and requires the --experimental flag to be set.".to_owned(),
        )),
        Command::Promql { command } => promql(command, &features.parser, &mut out).map(|()| 0),
        Command::Tsdb { command } => tsdb(command, &mut out).map(|()| 0),
        Command::Rules { command: Rules::Backtest(command) } => {
            backtest::backtest(command, features.parser, &mut out).map(|()| 0)
        }
        Command::Check { lookback_delta, command } => check(command, lookback_delta, features, &mut out),
        Command::Config { command: Config::Schema } => {
            let text = serde_json::to_string_pretty(&fk_config::schema()).unwrap_or_default();
            writeln!(out, "{text}").map(|()| 0).map_err(ToolError::from)
        }
        Command::Test { command, junit } => {
            test(command, junit.as_deref(), features, &mut out).map(|passed| i32::from(!passed))
        }
    };
    match result.and_then(|code| Ok((code, out.flush()?))) {
        Ok((code, ())) => code,
        // Who reads has seen enough.
        Err(ToolError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let _ = out.flush();
            eprintln!("{error}");
            1
        }
    }
}

/// All commands with their flags, for the table of what works.
#[cfg(test)]
pub(crate) fn commands() -> Vec<(String, Vec<String>)> {
    fn walk(command: &clap::Command, path: &str, into: &mut Vec<(String, Vec<String>)>) {
        let subcommands: Vec<_> = command.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
        for inner in &subcommands {
            walk(inner, &format!("{path} {}", inner.get_name()), into);
        }
        if subcommands.is_empty() {
            let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
            let flags = flags.filter_map(|flag| flag.get_long()).filter(|name| !["help", "version"].contains(name));
            into.push((path.trim_start().to_owned(), flags.map(str::to_owned).collect()));
        }
    }
    let mut all = Vec::new();
    let mut root = <Cli as clap::CommandFactory>::command();
    root.build();
    walk(&root, "", &mut all);
    all
}

/// The commands that are refused by name.
#[cfg(test)]
pub(crate) fn missing() -> Vec<String> {
    CHECKS_NOT_BUILT.iter().map(|name| format!("`check {name}`")).collect()
}

/// Runs tests; whether all of them passed.
fn test(command: Test, junit: Option<&Path>, features: Features, out: &mut dyn Write) -> fk_promtool::Result<bool> {
    let (suites, passed) = match command {
        Test::Promql { files } => (Vec::new(), scripts::test(&files, out)?),
        Test::Rules { run, debug, diff, ignore_unknown_fields, files } => {
            let Features { parser, delayed_name_removal } = features;
            let timestamp = chrono::Local::now().format("%Y-%m-%dT%H:%M:%S").to_string();
            let options = unit_tests::Options {
                run,
                debug,
                diff,
                ignore_unknown_fields,
                parser,
                delayed_name_removal,
                timestamp,
            };
            unit_tests::test(&files, &options, out, &mut std::io::stderr().lock())?
        }
    };
    if let Some(path) = junit {
        let text = unit_tests::junit::document(&suites);
        std::fs::write(path, text).map_err(|reason| ToolError::File { path: path.into(), reason })?;
    }
    Ok(passed)
}

fn promql(command: Promql, options: &ParserOptions, out: &mut dyn Write) -> fk_promtool::Result<()> {
    let (query, edit) = match command {
        Promql::Format { query } => (query, edit::Edit::Format),
        Promql::LabelMatchers { command: LabelMatchers::Delete { query, name } } => {
            (query, edit::Edit::Delete { name })
        }
        Promql::LabelMatchers { command: LabelMatchers::Set { kind, query, name, value } } => {
            let kind = match kind.as_str() {
                "!=" => MatchKind::NotEqual,
                "=~" => MatchKind::Regex,
                "!~" => MatchKind::NotRegex,
                _ => MatchKind::Equal,
            };
            (query, edit::Edit::Set { kind, name, value })
        }
    };
    edit::print(&query, &edit, options, out)
}

fn check(
    command: Check,
    lookback_delta: fk_model::Duration,
    features: Features,
    out: &mut dyn Write,
) -> fk_promtool::Result<i32> {
    let exit_code = |found: check_rules::Outcome, lint_fatal: bool| match found {
        check_rules::Outcome { errors: true, .. } => 1,
        check_rules::Outcome { lint_problems: true, .. } if lint_fatal => LINT_EXIT_CODE,
        check_rules::Outcome { .. } => 0,
    };
    match command {
        Check::Config { syntax_only, lint, lint_fatal, ignore_unknown_fields, agent, files } => {
            let (duplicate_rules, long_intervals) = check_config::read_lint(&lint, out)?;
            let rules = check_rules::Options { duplicate_rules, ignore_unknown_fields, parser: features.parser };
            let interval_max = Some(lookback_delta).filter(|_| long_intervals);
            let options = check_config::Options { agent, syntax_only, interval_max, rules };
            check_config::check_files(&files, &options, out, &mut std::io::stderr().lock())
                .map(|found| exit_code(found, lint_fatal))
        }
        Check::WebConfig { files } => {
            let mut failed = false;
            for file in files {
                // Texts as in Prometheus:
                match fk_web::WebFile::open(&file) {
                    Ok(_) => eprintln!("{} SUCCESS", file.display()),
                    Err(error) => {
                        eprintln!("{} FAILED: {error}", file.display());
                        failed = true;
                    }
                }
            }
            Ok(i32::from(failed))
        }
        Check::Rules { lint, lint_fatal, ignore_unknown_fields, files } => {
            let duplicate_rules = check_rules::read_lint(&lint, out)?;
            let options = check_rules::Options { duplicate_rules, ignore_unknown_fields, parser: features.parser };
            let err = &mut std::io::stderr().lock();
            let found = if files.is_empty() {
                let mut text = String::new();
                std::io::stdin().lock().take(fk_config::FILE_BYTES_MAX).read_to_string(&mut text)?;
                check_rules::check_text(&text, &options, out, err)?
            } else {
                check_rules::check_files(&files, &options, out, err)?
            };
            Ok(exit_code(found, lint_fatal))
        }
        Check::Metrics { extended, lint } => {
            let mut text = Vec::new();
            std::io::stdin().lock().take(EXPOSITION_BYTES_MAX).read_to_end(&mut text)?;
            let options = lint::Options { lint: lint == Lint::All, extended };
            let problems = lint::check(&text, options, out, &mut std::io::stderr().lock())?;
            Ok(if problems { LINT_EXIT_CODE } else { 0 })
        }
        Check::ServiceDiscovery { timeout: _, config, job } => {
            check_sd::check(&config, &job, out, &mut std::io::stderr().lock()).map(|()| 0)
        }
    }
}

fn tsdb(command: Tsdb, out: &mut dyn Write) -> fk_promtool::Result<()> {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    match command {
        Tsdb::Bench { command: Bench::Write { out: dir, metrics, scrapes, file } } => {
            bench::write(&dir, &file, metrics, scrapes, out)
        }
        Tsdb::Analyze { limit, extended, selector, path, block } => {
            let options = analyze::Options { block, limit, extended, selector };
            analyze::analyze(&vfs, &path, &options, out)
        }
        Tsdb::List { human_readable, path } => list::list(&vfs, &path, human_readable, out),
        Tsdb::Dump { which, format, path } => {
            let format = match format {
                DumpFormat::Prom => dump::Format::Prom,
                DumpFormat::Seriesjson => dump::Format::SeriesJson,
            };
            dump::dump(vfs, &path, &which.options(format), out)
        }
        Tsdb::DumpOpenmetrics { which, path } => dump::dump(vfs, &path, &which.options(dump::Format::OpenMetrics), out),
        Tsdb::CreateBlocksFrom { human_readable, quiet, max_block_duration, command } => match command {
            Import::Openmetrics { labels, input, output } => {
                let text = contents(&*vfs, input)?;
                let options = openmetrics::Options { human_readable, quiet, max_block_ms: max_block_duration, labels };
                openmetrics::import(&vfs, (*text).as_ref(), &output, &options, out)
            }
            Import::Rules { http_config, url, start, end, output_dir, eval_interval, files } => {
                let options = rules::Options {
                    start_s: time_s(&start, "start")?,
                    end_s: match end {
                        Some(end) => time_s(&end, "end")?,
                        None => fk_vfs::wall_clock_ms() / 1000 - END_BEFORE_NOW_S,
                    },
                    interval: fk_model::Duration(eval_interval),
                    max_block_ms: max_block_duration,
                };
                import_rules(&vfs, http_config.as_deref(), &url, &output_dir, &options, &files)
            }
        },
    }
}

impl Which {
    fn options(self, format: dump::Format) -> dump::Options {
        let range = TimeRange { mint: self.min_time, maxt: self.max_time };
        dump::Options { range, selectors: self.selectors, format }
    }
}

/// What is in a file: mapped, so that a long one does not have to fit the memory; read, if it is a pipe or the like.
fn contents(vfs: &dyn Vfs, path: PathBuf) -> fk_promtool::Result<Box<dyn AsRef<[u8]>>> {
    let read = || -> std::io::Result<Box<dyn AsRef<[u8]>>> {
        Ok(match std::fs::metadata(&path)?.is_file() {
            true => Box::new(vfs.map(&path).map_err(|e| e.source)?),
            false => Box::new(std::fs::read(&path)?),
        })
    };
    read().map_err(|reason| ToolError::File { path, reason })
}

/// A time as people write it, in whole seconds.
fn time_s(text: &str, what: &str) -> fk_promtool::Result<i64> {
    let number = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite()).map(|seconds| seconds as i64);
    let date = || chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp());
    // Texts as in Prometheus:
    let unknown = || format!("error parsing {what} time: cannot parse {text:?} to a valid timestamp");
    number.or_else(date).ok_or_else(|| ToolError::Other(unknown()))
}

fn import_rules(
    vfs: &Arc<dyn Vfs>,
    http_config: Option<&Path>,
    url: &Url,
    dir: &Path,
    options: &rules::Options,
    files: &[String],
) -> fk_promtool::Result<()> {
    let other = |error: &dyn std::fmt::Display| ToolError::Other(error.to_string());
    if options.start_s >= options.end_s {
        // Text as in Prometheus:
        return Err(other(&"start time is not before end time"));
    }
    let config = match http_config {
        Some(path) => fk_config::load_http_client(path).map_err(|errors| other(&errors))?,
        None => fk_config::HttpClientConfig::default(),
    };
    // Without a provider the first connection would panic; it may have been installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(&config).map_err(|error| other(&error))?;
    let groups = rules::load(files)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let endpoint = format!("{}/api/v1/query_range", url.as_str().trim_end_matches('/'));
    let mut ask = |query: &RangeQuery| -> Result<Vec<MatrixSeries>, String> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("query", &query.query)
            .append_pair("start", &query.start_s.to_string())
            .append_pair("end", &query.end_s.to_string())
            .append_pair("step", &query.step_s.to_string())
            .finish();
        let agent = format!("promtool/{PROMETHEUS_VERSION}");
        let answer = runtime.block_on(client.post_form(&endpoint, &agent, form, QUERY_TIMEOUT));
        parse_matrix(&answer.map_err(|error| error.to_string())?)
    };
    let errors = rules::import(vfs, &groups, dir, options, &mut ask)?;
    for error in &errors {
        // Texts as in Prometheus:
        eprintln!("rule importer error: {error}");
    }
    if errors.is_empty() { Ok(()) } else { Err(other(&"error importing rules")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn the_name_of_the_program_decides() {
        for (args, rest) in [
            (&["/usr/bin/promtool", "tsdb"][..], Some(1)),
            (&["promtool"], Some(0)),
            (&["firekeeper", "promtool", "tsdb", "list"], Some(2)),
            (&["firekeeper", "--version"], None),
            (&["firekeeper"], None),
            (&[], None),
        ] {
            assert_eq!(arguments(&texts(args)).map(<[String]>::len), rest, "{args:?}");
        }
    }

    #[test]
    fn flags_are_those_of_prometheus() {
        <Cli as clap::CommandFactory>::command().debug_assert();
        for args in [
            "tsdb bench write --out=x --metrics=1 --scrapes=2 file",
            "tsdb analyze --limit=3 --extended --match={a=\"b\"} data 01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "tsdb list -r data",
            "tsdb list --human-readable",
            "tsdb dump --sandbox-dir-root=x --min-time=-5 --max-time 10 --match=a --match=b --format=seriesjson data",
            "tsdb dump-openmetrics --match=a",
            "tsdb create-blocks-from -r -q --max-block-duration=24h openmetrics --label=a=b --label=c=d in out",
            "tsdb create-blocks-from openmetrics in -q",
            "test promql a.test b.test",
            "check metrics --extended --lint=none",
            "rules backtest --start=0 --end=2020-01-01T00:00:00Z --path=data --eval-interval=30s --json r.yml",
            "rules backtest --start=0 --url=http://x:1 --timeout=10s r.yml",
            "check metrics --lint all",
            "check service-discovery --timeout=5s prometheus.yml node",
            "query -o json instant --time=5 --header=a=b http://x up",
            "query instant localhost:9090 up --format=promql --http.config.file=c",
            "query range --start=1 --end=2 --step=5s http://x up",
            "query series --match=up --match=down http://x",
            "query labels --match=up http://x job",
            "query analyze --server=http://x --type=histogram --duration=5m --match=up",
            "push metrics --label=a=b --timeout=5s --header=c=d --protobuf_message=prometheus.WriteRequest http://x f g",
            "debug pprof http://x",
            "debug metrics http://x",
            "debug all http://x",
            "promql --experimental format up",
            "--experimental --enable-feature=promql-experimental-functions promql label-matchers set -t !~ up a b",
            "promql label-matchers delete up a --experimental",
            "tsdb create-blocks-from rules --url=http://x:1 --start=0 --end=2020-01-01T00:00:00Z --output-dir=o --eval-interval=30s r.yml",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("promtool").chain(args.split(' ')));
            assert!(parsed.is_ok(), "{args}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
        }
        for (args, code) in [
            (&["tsdb"][..], 1),
            (&["tsdb", "bench"], 1),
            (&["nonsense"], 1),
            (&["check", "config", "x"], 1),
            (&["check", "metrics", "--lint=some"], 1),
            (&["check", "service-discovery", "/nonexistent", "x"], 1),
            (&["check"], 1),
            (&["test", "rules", "x"], 1),
            (&["test", "promql"], 1),
            (&["query"], 1),
            (&["query", "instant", "http://127.0.0.1:1", "up"], 1),
            (&["query", "instant", "--time=x", "http://127.0.0.1:1", "up"], 1),
            (&["query", "range", "--start=2", "--end=1", "http://127.0.0.1:1", "up"], 1),
            (&["query", "series", "http://127.0.0.1:1"], 1),
            (&["query", "analyze", "--server=http://127.0.0.1:1", "--type=gauge", "--match=up"], 1),
            (&["push", "metrics", "--protobuf_message=x", "http://127.0.0.1:1"], 1),
            (&["push", "metrics", "http://127.0.0.1:1", "/nonexistent"], 1),
            (&["promql", "format", "up"], 1),
            (&["promql", "format", "up", "--experimental"], 0),
            (&["--experimental", "promql", "format", "up("], 1),
            (&["--experimental", "promql", "label-matchers", "set", "up", "a", "b"], 0),
            (&["--experimental", "promql", "label-matchers", "set", "-t", "?", "up", "a", "b"], 1),
            (&["test", "promql", "/nonexistent"], 1),
            (&["tsdb", "create-blocks-from", "rules", "--start=5", "--end=5", "x"], 1),
            (&["tsdb", "create-blocks-from", "rules", "--start=yesterday", "x"], 1),
            (&["tsdb", "list", "/nonexistent"], 1),
            (&["rules"], 1),
            (&["rules", "backtest", "--start=0", "/nonexistent"], 1),
            (&["tsdb", "dump", "/nonexistent"], 1),
            (&["--help"], 0),
            (&["--version"], 0),
            (&[], 0),
        ] {
            assert_eq!(run(&texts(args)), code, "{args:?}");
        }
    }
}
