//! The `firekeeper` program: flags, logger, run, exit code. Called as `promtool` it is that tool.

use std::process::exit;

use firekeeper::cli::{Exit, Options};
use firekeeper::logging::{self, Format};
use firekeeper::run::run;
use firekeeper::settings::Settings;

/// Prometheus' memory shape (many small series, freed by other threads) is what decides: mimalloc stays the smallest after peaks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn start() -> Result<i32, Exit> {
    let options = Options::parse(std::env::args().skip(1))?;
    let level = options.log_level.parse().unwrap_or(log::LevelFilter::Info);
    logging::init(level, if options.log_format == "json" { Format::Json } else { Format::Logfmt });
    fk_actorkit::install_panic_hook();
    let settings = Settings::new(options)?;
    // Every TLS client and server of the process uses this provider; without it the first of them would panic.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        log::debug!("a TLS provider was installed before");
    }
    run(settings)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(args) = firekeeper::promtool::arguments(&args) {
        exit(firekeeper::promtool::run(args));
    }
    match start() {
        Ok(code) => exit(code),
        Err(Exit { code, text }) => {
            if code == 0 {
                println!("{}", text.trim_end());
            } else if !text.is_empty() {
                eprintln!("{}", text.trim_end());
            }
            exit(code);
        }
    }
}
