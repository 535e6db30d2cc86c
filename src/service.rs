//! What a service manager is told (`sd_notify` of systemd): ready, reloading, stopping. Only where `NOTIFY_SOCKET` names somebody to
//! tell; a manager that does not listen is not waited for.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the socket of the service manager.
const SOCKET: &str = "NOTIFY_SOCKET";

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Ready,
    /// It reads its configuration anew, and serves meanwhile.
    Reloading,
    /// It goes down.
    Stopping,
}

impl State {
    fn message(self) -> &'static str {
        match self {
            State::Ready => "READY=1\nSTATUS=Server is ready to receive web requests.",
            State::Reloading => "RELOADING=1\nSTATUS=Loading configuration file",
            State::Stopping => "STOPPING=1\nSTATUS=Stopping",
        }
    }
}

/// Tells the service manager, if there is one.
pub fn tell(state: State) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state.message()) {
        log::warn!(socket = socket.to_string_lossy().as_ref(), err = error.to_string().as_str(); "the service manager cannot be told");
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let own = UnixDatagram::unbound()?;
    own.set_nonblocking(true)?;
    own.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_files_or_names() {
        let folder = fk_testkit::TempDir::new("notify");
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Ready.message()).unwrap();
        let mut got = [0; 100];
        let bytes = listener.recv(&mut got).unwrap();
        assert!(got[..bytes].starts_with(b"READY=1\n"));

        let name = format!("firekeeper-test-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), State::Stopping.message()).unwrap();
        let bytes = listener.recv(&mut got).unwrap();
        assert!(got[..bytes].starts_with(b"STOPPING=1\n"));

        assert!(send(OsStr::new("/nonexistent/socket"), "").is_err());
    }
}
