//! Metrics of the process as a whole: `process_*`, `prometheus_build_info`, `prometheus_ready`.

use std::sync::Arc;

use fk_instrument::{Kind, Registry};

use crate::cli::PROMETHEUS_VERSION;
use crate::slots::{Slots, Stage};

/// Clock ticks per second in `/proc`. Fixed at 100 on Linux whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers them.
pub fn register(registry: &Registry, slots: &Arc<Slots>) {
    let slots = Arc::clone(slots);
    registry.collect(move |out| {
        let name = "prometheus_build_info";
        out.family(name, "A metric with a constant '1' value labeled by version, revision, branch, goversion from which prometheus was built, and the goos and goarch for the build.", Kind::Gauge);
        let branch = format!("firekeeper-{}", env!("CARGO_PKG_VERSION"));
        let labels = [
            ("branch", branch.as_str()),
            ("goarch", std::env::consts::ARCH),
            ("goos", std::env::consts::OS),
            ("revision", option_env!("FIREKEEPER_REVISION").unwrap_or("unknown")),
            ("version", PROMETHEUS_VERSION),
        ];
        out.sample(name, &labels, 1.0);
        let ready = slots.stage() == Stage::Ready;
        out.single("prometheus_ready", "Whether Prometheus startup was fully completed and the server is ready for normal operation.", Kind::Gauge, f64::from(ready));
        let start = slots.started.timestamp_millis() as f64 / 1000.0;
        out.single("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", Kind::Gauge, start);
        if let Some(stat) = Stat::read() {
            out.single("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", Kind::Counter, stat.cpu_seconds);
            out.single("process_resident_memory_bytes", "Resident memory size in bytes.", Kind::Gauge, stat.resident_bytes);
            out.single("process_virtual_memory_bytes", "Virtual memory size in bytes.", Kind::Gauge, stat.virtual_bytes);
            out.single("process_threads", "Number of OS threads of the process.", Kind::Gauge, stat.threads as f64);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            out.single("process_open_fds", "Number of open file descriptors.", Kind::Gauge, open.count() as f64);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        out.single("process_max_fds", "Maximum number of open file descriptors.", Kind::Gauge, limit.map_or(f64::INFINITY, |n| n as f64));
    });
}

/// Threads of the process.
pub fn threads() -> u64 {
    Stat::read().map_or(0, |stat| stat.threads)
}

struct Stat {
    cpu_seconds: f64,
    threads: u64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// From `/proc/self/stat`; `None` where there is none.
    fn read() -> Option<Stat> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The program's name in parentheses may hold anything; what follows it are numbers, the state first.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
        let page = rustix::param::page_size() as f64;
        Some(Stat {
            cpu_seconds: (field(11)? + field(12)?) / TICKS_PER_SECOND,
            threads: field(17)? as u64,
            virtual_bytes: field(20)?,
            resident_bytes: field(21)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_sees_itself() {
        let stat = Stat::read().unwrap();
        assert!(stat.threads >= 1 && stat.resident_bytes > 100_000.0 && stat.virtual_bytes >= stat.resident_bytes);
    }
}
