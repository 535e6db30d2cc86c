//! To the config reloader, and from it to whoever has configuration.

use std::fmt;
use std::sync::Arc;

use actix::Message;
use fk_config::Loaded;

/// lifecycle -> config reloader: ask, once. Reads and checks the configuration without applying it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), ReloadError>")]
pub struct LoadInitial;

/// lifecycle -> config reloader: ask, once. Applies what [`LoadInitial`] read to these subsystems, in this order; they take
/// part in every later reload.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ReloadError>")]
pub struct ApplyInitial(pub Vec<Participant>);

/// Somebody who has configuration.
#[derive(Clone)]
pub struct Participant {
    /// Name for errors and the log.
    pub name: &'static str,
    /// Where to send it.
    pub address: actix::Recipient<ApplyConfig>,
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Participant({})", self.name)
    }
}

/// signals, web, file watch -> config reloader: ask. Reads the configuration again and applies it everywhere or nowhere.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), ReloadError>")]
pub struct Reload(pub ReloadSource);

/// What asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadSource {
    /// The start of the server: the first configuration.
    Start,
    /// SIGHUP
    Signal,
    /// `/-/reload`
    Http,
    /// `--config.auto-reload`
    Watch,
}

/// Why the configuration was not applied: every reason, each with its place where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError(pub Vec<String>);

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// config reloader -> every subsystem with configuration: ask. Two phases: all prepare, each on its own and without any visible
/// effect; only when all have agreed everybody commits, otherwise everybody aborts.
///
/// Between prepare and commit or abort there is no other prepare. A commit cannot be refused.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub enum ApplyConfig {
    /// Build everything the new configuration needs, keep it aside, and say if that fails.
    Prepare(Arc<Loaded>),
    /// Put what was prepared to work.
    Commit,
    /// Throw away what was prepared.
    Abort,
}

/// A subsystem cannot work with the new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub Vec<String>);
