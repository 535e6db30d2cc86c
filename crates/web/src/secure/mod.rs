//! What the web configuration file says (`--web.config.file`), in force: TLS on every connection, and a guard in front of every
//! route. The file and those it names are looked at again for every connection and request, so that a change needs no restart;
//! reading and checking them is paid for only when they have changed.
//!
//! - [`WebFile`] knows what the files say now.
//! - `tls` makes a configuration for connections of it; `san` reads the names in clients' certificates.
//! - `guard` stands before the routes: headers, rate limit, passwords.
//!
//! A file that cannot be read any more lets nobody in: every request is answered with 500, as in Prometheus. DIFFERENCE: new
//! connections then have the last TLS that was good, so that the answer can be given.

pub(crate) mod guard;
mod san;
pub(crate) mod tls;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use fk_config::{Pem, WebConfig, load_web_config};
use parking_lot::Mutex;
use rustls::ServerConfig;

/// The web configuration file, as it is at the moment.
pub struct WebFile {
    path: PathBuf,
    current: ArcSwap<Snapshot>,
    /// Held while the files are read again.
    reading: Mutex<()>,
}

/// What the files said when they were last read.
pub(crate) struct Snapshot {
    /// Every file that was read, and what it looked like.
    seen: Vec<(PathBuf, Option<Stamp>)>,
    /// What they say; the error, if they cannot be read.
    pub config: Result<Arc<WebConfig>, String>,
    /// For new connections; `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let data = std::fs::metadata(path).ok()?;
        Some(Stamp {
            inode: data.ino(),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

impl WebFile {
    /// Reads the file and those it names.
    ///
    /// # Errors
    ///
    /// What is wrong with any of them.
    pub fn open(path: &Path) -> Result<WebFile, String> {
        let snapshot = read(path, None);
        let config = snapshot.config.as_ref().map_err(Clone::clone)?;
        for warning in &config.warnings {
            log::warn!("{}: {warning}", path.display());
        }
        Ok(WebFile { path: path.to_owned(), current: ArcSwap::from_pointee(snapshot), reading: Mutex::new(()) })
    }

    /// Whether connections are encrypted. This does not change while the server runs, as in Prometheus.
    pub fn encrypts(&self) -> bool {
        self.current.load().tls.is_some()
    }

    /// What the files say now.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        let known = self.current.load_full();
        if known.is_fresh() {
            return known;
        }
        let _reading = self.reading.lock();
        // Somebody else may have been faster.
        let known = self.current.load_full();
        if known.is_fresh() {
            return known;
        }
        let read = Arc::new(read(&self.path, known.tls.clone()));
        match &read.config {
            Ok(_) => log::info!(file = self.path.display().to_string().as_str(); "web configuration read again"),
            Err(error) => log::error!(err = error.as_str(); "Unable to parse configuration"),
        }
        self.current.store(Arc::clone(&read));
        read
    }
}

impl std::fmt::Debug for WebFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Snapshot {
    fn is_fresh(&self) -> bool {
        self.seen.iter().all(|(path, stamp)| Stamp::of(path) == *stamp)
    }
}

/// Reads all files. `tls` is what connections have if that fails.
fn read(path: &Path, tls: Option<Arc<ServerConfig>>) -> Snapshot {
    // Looked at before they are read: what changes in between is read again.
    let mut seen = vec![(path.to_owned(), Stamp::of(path))];
    let config = match load_web_config(path) {
        Ok(config) => config,
        Err(errors) => return Snapshot { seen, config: Err(errors.to_string()), tls },
    };
    if let Some(section) = &config.tls {
        for pem in [Some(&section.cert), Some(&section.key), section.client_ca.as_ref()].into_iter().flatten() {
            if let Pem::File(file) = pem {
                seen.push((file.clone(), Stamp::of(file)));
            }
        }
    }
    match config.tls.as_ref().map(|section| tls::server_config(section, config.http2)).transpose() {
        Ok(tls) => Snapshot { seen, config: Ok(Arc::new(config)), tls },
        Err(error) => Snapshot { seen, config: Err(error), tls },
    }
}
