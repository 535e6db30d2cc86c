//! End-to-end tests: the built program in a process of its own, with fake targets and a fake Alertmanager around it.
//!
//! Each module tells stories as a user would live them. Nothing here looks into the server: flags, files, signals and HTTP are
//! all there is. Servers work in temporary directories and on ports of their own, so all tests run side by side.
//!
//! `chaos` needs `--features chaos`, `real` needs a node_exporter and an Alertmanager on the machine.

mod support;

mod alerts; // from a rule to an Alertmanager, and back to quiet
#[cfg(feature = "chaos")]
mod chaos; // any actor may panic, nobody outside notices
mod faults; // the system under the server fails: disk, descriptors, clock
mod formats; // every exposition format, from a target to the data directory
mod hostile; // targets that misbehave hurt only themselves
mod power; // power cuts: the disk under the server is copied in one moment
mod queries; // those that would hurt others, their log, and what a crash leaves of them
mod real; // with the real node_exporter and Alertmanager
mod recovery; // what was acknowledged or seen survives `kill -9`
mod reload; // all of a configuration or nothing of it
mod scrape; // from a target to a query
mod service; // what a service manager is told, and names of the program
mod start; // flags, exit codes, starting and stopping
mod storage; // the data directory: deleted, copied, limited, imported, handed over
mod tidy; // rules about the repository itself
mod tool; // promtool's commands that talk to a server
mod ui; // every page in a real browser, where there is one
