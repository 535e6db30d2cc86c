//! Runs scripts of the PromQL test language: data is loaded, queries are evaluated on it, and what comes out is compared
//! with what the script says.
//!
//! `firekeeper promtool test promql` runs the scripts of users, and the tests of `fk-promql` their own. [`run()`] is where to
//! start: [`script`] reads a script to commands, [`storage`] is what `load` fills, and `check` evaluates and compares.
//! [`live`] is a storage for tests of rules, which write to it while time goes on.
//! Besides what a script asks for, each instant evaluation is repeated with its times fixed by `@`, and as the middle step
//! of a range query: both must give the same.

mod check;
pub mod live;
pub mod script;
mod starts;
pub mod storage;

use fk_promql::QueryOptions;

pub use script::ScriptError;

use script::{Command, Kind};
use storage::ScriptStorage;

/// Ending of the names of scripts that are written for an engine without delayed name removal.
const WITHOUT_DELAYED_NAME_REMOVAL: &str = "no_delayed_name_removal.test";

/// What became of a script.
#[derive(Debug, Default)]
pub struct Report {
    /// Evaluations that gave what they should.
    pub passed: usize,
    /// Evaluations that gave something else: line, and query with what was expected and what came.
    pub failed: Vec<(usize, String)>,
}

/// The settings that scripts are written for: those of Prometheus' own, which hold at most 10,000 samples and drop names
/// at the end, unless the name of the file says otherwise.
pub fn options_for(file_name: &str) -> QueryOptions {
    QueryOptions {
        max_samples: 10_000,
        delayed_name_removal: !file_name.ends_with(WITHOUT_DELAYED_NAME_REMOVAL),
        use_start_timestamps: true,
        ..QueryOptions::default()
    }
}

/// Runs a script. A script that cannot be read, or whose data cannot be loaded, is an error of the script.
pub fn run(text: &str, options: &QueryOptions) -> Result<Report, ScriptError> {
    let (mut storage, mut report) = (ScriptStorage::default(), Report::default());
    for Command { line, kind } in script::read(text)? {
        match kind {
            Kind::Clear => storage = ScriptStorage::default(),
            Kind::Load(load) => storage.load(load).map_err(|reason| ScriptError { line, reason })?,
            Kind::Eval(eval) => match check::check(&storage, &eval, options) {
                Ok(()) => report.passed += 1,
                Err(error) => report.failed.push((line, format!("{}: {error}", eval.query))),
            },
        }
    }
    Ok(report)
}
