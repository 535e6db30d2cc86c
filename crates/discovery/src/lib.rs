//! Target discovery: providers that turn one discovery section of the configuration into target groups.
//!
//! A provider is a plain engine without clock, task or file watch. Whoever owns it calls [`Provider::refresh`] at the
//! start, whenever one of [`Provider::watch_paths`] changes, and every [`Provider::refresh_interval`]; each call gives only
//! what changed since the one before.

pub mod file;
mod static_targets;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fk_config::DiscoveryConfig;
use fk_model::TargetGroup;

pub use file::FileProvider;
pub use static_targets::StaticProvider;

/// One source of targets.
pub trait Provider: Send {
    /// Looks again. The first call gives everything.
    fn refresh(&mut self) -> Refresh;

    /// Folders in which a change calls for a refresh. They may differ after each refresh, and need not exist.
    fn watch_paths(&self) -> Vec<PathBuf>;

    /// How often to look even if no change was noticed; `None`: never.
    fn refresh_interval(&self) -> Option<Duration>;
}

/// What a look gave.
#[derive(Debug, Default)]
pub struct Refresh {
    /// Groups that are new, that changed, or (without targets) that are gone.
    pub groups: Vec<TargetGroup>,
    /// What could not be read. The last good groups of such a source stay.
    pub errors: Vec<DiscoveryError>,
    /// All files whose groups count now, with the time at which each was changed last.
    pub files: Vec<(PathBuf, SystemTime)>,
}

/// Why targets could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// A file cannot be read.
    #[error("error reading file {path:?}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file holds no target groups.
    #[error("error parsing file {path:?}: {reason}")]
    Parse {
        /// The file.
        path: String,
        /// What is wrong, with the line where there is one.
        reason: String,
    },
    /// A pattern of file names is not well formed.
    #[error("error expanding glob {pattern:?}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
}

/// The provider for a section of the configuration.
pub fn provider(config: &DiscoveryConfig) -> Box<dyn Provider> {
    match config {
        DiscoveryConfig::Static(groups) => Box::new(StaticProvider::new(groups.clone())),
        DiscoveryConfig::File(config) => Box::new(FileProvider::new(config.clone())),
    }
}
