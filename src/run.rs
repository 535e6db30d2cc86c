//! One run of the server, from flags to exit code.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use fk_actorkit::Spec;

use crate::actors::lifecycle::Lifecycle;
use crate::actors::signals::Streams;
use crate::app::App;
use crate::cli::{Exit, PROMETHEUS_VERSION};
use crate::settings::Settings;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Runs a server until it is told to stop; the exit code. Everything that can be known to be wrong before anything is
/// started ends here with an [`Exit`]: the configuration first, then the listeners.
pub fn run(settings: Settings) -> Result<i32, Exit> {
    let system = actix::System::new();
    let signals = system
        .block_on(async { Streams::open() })
        .map_err(|error| Exit { code: 1, text: format!("listening for signals failed: {error}") })?;
    let options = &settings.options;
    let path = options.config_file.as_path();
    let loaded = fk_config::load(path, &settings.load).map_err(|errors| {
        let text = errors.to_string();
        log::error!(file = path.display().to_string().as_str(), err = text.as_str(); "Error loading config");
        Exit { code: 2, text: String::new() }
    })?;
    let settings = settings.with_storage(&loaded)?;
    let options = &settings.options;
    for note in &options.notes {
        log::warn!("{note}");
    }
    log::info!(version = env!("CARGO_PKG_VERSION"), prometheus = PROMETHEUS_VERSION; "Starting Prometheus Server");
    if let Some(path) = &options.web_config_file {
        check_web_config(path)?;
    }
    let listeners = listen(&options.listen_addresses)?;
    let app = App::new(settings, Arc::new(loaded), signals, listeners);
    let board = app.board.clone();
    system.block_on(async { board.spawn(Spec::named("firekeeper"), |_| Lifecycle::new(Arc::clone(&app))) });
    system.run_with_code().map_err(|error| Exit { code: 1, text: error.to_string() })
}

/// Reads the web configuration file and what it names, so that a mistake is found before anything runs.
fn check_web_config(path: &Path) -> Result<(), Exit> {
    let failed = |error: String| {
        log::error!(file = path.display().to_string().as_str(), err = error.as_str(); "Error starting HTTP server");
        Exit { code: 1, text: String::new() }
    };
    let file = fk_web::WebFile::open(path).map_err(failed)?;
    log::info!(component = "web"; "{}", if file.encrypts() { "TLS is enabled." } else { "TLS is disabled." });
    Ok(())
}

/// Opens all listeners, so that an occupied port is found before anything runs.
fn listen(addresses: &[String]) -> Result<Vec<TcpListener>, Exit> {
    let mut listeners = Vec::new();
    for address in addresses {
        // Go takes ":9090" as all addresses.
        let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.clone() };
        let listener = bind(&full).map_err(|error| {
            log::error!(address = address.as_str(), err = error.to_string().as_str(); "Unable to start web listener");
            Exit { code: 1, text: String::new() }
        })?;
        log::info!(component = "web", address = address.as_str(); "Start listening for connections");
        listeners.push(listener);
    }
    Ok(listeners)
}

fn bind(address: &str) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let candidates: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let mut last = std::io::Error::other("no address found");
    for candidate in candidates {
        let family = if candidate.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let opened = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .and_then(|socket| sockopt::set_socket_reuseaddr(&socket, true).map(|()| socket))
            .and_then(|socket| bind(&socket, &candidate).map(|()| socket))
            .and_then(|socket| listen(&socket, BACKLOG).map(|()| socket));
        match opened {
            Ok(socket) => return Ok(TcpListener::from(socket)),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
