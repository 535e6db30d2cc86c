//! The program as a service: what it tells the manager that has started it, and what it is called.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Home, Server};

#[test]
fn the_service_manager_hears_of_every_state() {
    let home = Home::new("notify", "global:\n  scrape_interval: 1s\n");
    let path = home.path("notify.socket");
    let manager = UnixDatagram::bind(&path).expect("the test's directory is writable");
    let heard = || {
        let mut message = [0; 256];
        let bytes = manager.recv(&mut message).expect("the socket is open");
        String::from_utf8_lossy(&message[..bytes]).lines().next().unwrap_or("").to_owned()
    };
    let mut server = Server::start_with(&home, &[], &[("NOTIFY_SOCKET", &path.display().to_string())]);
    assert_eq!(heard(), "READY=1");
    server.signal(Signal::HUP);
    assert_eq!([heard(), heard()], ["RELOADING=1", "READY=1"]);
    home.configure("nonsense: 1\n");
    server.signal(Signal::HUP);
    assert_eq!([heard(), heard()], ["RELOADING=1", "READY=1"], "the old configuration goes on");
    server.signal(Signal::TERM);
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(server.exit_status().code(), Some(0));
}

#[test]
fn a_link_gives_the_program_its_name() {
    let home = Home::new("names", "");
    for (name, argument, says) in [
        ("prometheus", "--version", "prometheus, version 3.14.0 (firekeeper"),
        ("prometheus", "--no-such-flag", "prometheus: error: unknown long flag"),
        ("promtool", "--version", "promtool, version 3.14.0 (firekeeper"),
        ("other", "--version", "firekeeper, version"),
    ] {
        let link = home.path(name);
        // It may be there from the case before.
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_firekeeper"), &link);
        let out = Command::new(&link).arg(argument).output().expect("the program starts");
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(text.contains(says), "{name} {argument} says {text}");
    }
}
