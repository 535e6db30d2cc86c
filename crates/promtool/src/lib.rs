//! What promtool's commands do: list, dump, analyse, import and measure data directories, check expositions and service
//! discovery, rule files, and run unit tests of rules and PromQL test scripts.
//!
//! Each command is a function of its options that writes its output, byte for byte that of Prometheus' `promtool`, to
//! anything that can be written to. Flags, exit codes and connections are the program's. Directories are opened for
//! reading only, and beside whoever works on them; blocks are written where the caller says.
//!
//! Start with the command that interests you: [`list`], [`dump`], [`analyze`], [`openmetrics`], [`rules`], [`bench`],
//! [`lint`], [`check_sd`], [`check_config`], [`check_rules`], [`unit_tests`], [`scripts`], [`query`], [`usage`], [`push`],
//! [`edit`], [`archive`].
//! What they share is in [`gofmt`] (numbers and tables as Go prints them), [`builder`] (samples to blocks), [`families`]
//! (the text format as the library's tools read it) and [`progress`].

use std::io;
use std::path::{Path, PathBuf};

use fk_storage::StorageError;
use fk_tsdb::DbError;
use fk_vfs::Vfs;

pub mod analyze;
pub mod archive;
pub mod bench;
pub mod builder;
pub mod check_config;
pub mod check_rules;
pub mod check_sd;
pub mod dump;
pub mod edit;
pub mod families;
pub mod gofmt;
pub mod lint;
pub mod list;
pub mod openmetrics;
pub mod progress;
pub mod push;
pub mod query;
pub mod rules;
pub mod scripts;
pub mod unit_tests;
pub mod usage;

pub use progress::Progress;

/// Why a command failed. Its text goes to standard error; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The output cannot be written.
    #[error("writing the output: {0}")]
    Output(#[from] io::Error),
    /// A file that was named cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        reason: io::Error,
    },
    /// The data directory cannot be read, or a block cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] DbError),
    /// The input is not what it should be, or something else that its text says.
    #[error("{0}")]
    Other(String),
}

/// Outcome of a command.
pub type Result<T> = std::result::Result<T, ToolError>;

/// A directory that is not there must not look like one without data.
fn must_exist(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    match vfs.metadata(dir).map_err(DbError::from)? {
        Some(_) => Ok(()),
        // Text as in Prometheus:
        None => Err(ToolError::Other(format!("opening the db dir: stat {}: no such file or directory", dir.display()))),
    }
}
