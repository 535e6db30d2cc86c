//! The full name of this machine, which is part of the seed of scrape offsets.

use std::net::IpAddr;
use std::path::Path;

/// Where the names of this machine usually stand.
const HOSTS_FILE: &str = "/etc/hosts";

/// Most bytes that are read of it.
const HOSTS_BYTES_MAX: u64 = 1 << 20;

/// The full name of the machine with this short name: that of its address in the hosts file, as in Prometheus. DIFFERENCE: where the
/// file does not have it, Prometheus asks name servers, which would make every start wait for them; here the short name stays.
pub fn full_name(host: &str) -> String {
    let size = Path::new(HOSTS_FILE).metadata().map_or(u64::MAX, |metadata| metadata.len());
    let hosts =
        if size <= HOSTS_BYTES_MAX { std::fs::read_to_string(HOSTS_FILE).unwrap_or_default() } else { String::new() };
    full_name_in(host, &hosts)
}

fn full_name_in(host: &str, hosts: &str) -> String {
    let lines: Vec<(IpAddr, Vec<&str>)> = hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            Some((words.next()?.parse().ok()?, words.collect()))
        })
        .collect();
    let named = lines.iter().find(|(_, names)| names.iter().any(|name| name.eq_ignore_ascii_case(host)));
    let first_of = |address: IpAddr| lines.iter().find(|(a, names)| *a == address && !names.is_empty());
    match named.and_then(|(address, _)| first_of(*address)) {
        // Go writes names that have a domain with a dot at the end.
        Some((_, names)) if names[0].contains('.') && !names[0].ends_with('.') => format!("{}.", names[0]),
        Some((_, names)) => names[0].to_owned(),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_is_the_first_of_the_address() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.9 web\n10.0.0.1\tweb.example.org web # us\n10.0.0.2 db\n::1 db\n10.0.0.3 other.example.org.\n\
                     10.0.0.3 alias\n10.0.0.4\nnonsense x\n";
        for (host, full) in [
            ("web", "web.example.org."),
            ("WEB", "web.example.org."),
            ("db", "db"),
            ("alias", "other.example.org."),
            ("localhost", "localhost"),
            ("unknown", "unknown"),
            ("x", "x"),
        ] {
            assert_eq!(full_name_in(host, hosts), full, "{host}");
        }
        assert_eq!(full_name_in("a", ""), "a");
    }
}
