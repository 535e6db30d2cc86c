//! Which proxy a request takes: the rules of Go's `golang.org/x/net/http/httpproxy`, which Prometheus follows for
//! `no_proxy` and for the environment.

use std::net::IpAddr;

use fk_config::{ProxyConfig, Secret};
use reqwest::Proxy;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};

/// The proxy of a section for a client; `None`: no proxy at all.
pub(crate) fn proxy(config: &ProxyConfig) -> Result<Option<Proxy>, String> {
    let (rules, connect_headers) = match config {
        ProxyConfig::None => return Ok(None),
        ProxyConfig::Environment { connect_headers } => {
            (Rules::from_environment(|name| std::env::var(name).ok())?, connect_headers)
        }
        ProxyConfig::Url { url, no_proxy, connect_headers } => {
            let url = proxy_url(url).map_err(|error| format!("invalid proxy_url: {error}"))?;
            let exempt = (!no_proxy.is_empty()).then(|| Exemptions::parse(no_proxy));
            (Rules { http: Some(url.clone()), https: Some(url), exempt }, connect_headers)
        }
    };
    if rules.http.is_none() && rules.https.is_none() {
        return Ok(None);
    }
    let proxy = Proxy::custom(move |url| rules.proxy_of(url));
    Ok(Some(proxy.headers(header_map(connect_headers)?)))
}

fn header_map(headers: &[(String, Vec<Secret>)]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, values) in headers {
        let name: HeaderName = name.parse().map_err(|_| format!("invalid proxy header name {name:?}"))?;
        for value in values {
            let value = HeaderValue::from_str(value.expose());
            let mut value = value.map_err(|_| format!("invalid value of proxy header {name}"))?;
            value.set_sensitive(true);
            map.append(name.clone(), value);
        }
    }
    Ok(map)
}

/// A proxy as people write it: without a scheme it speaks HTTP.
fn proxy_url(text: &str) -> Result<Url, String> {
    let with_scheme = |text: &str| Url::parse(&format!("http://{text}")).map_err(|error| error.to_string());
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") => Ok(url),
        _ if !text.contains("://") => with_scheme(text),
        Ok(url) => Err(format!("unsupported scheme {:?}", url.scheme())),
        Err(error) => Err(error.to_string()),
    }
}

struct Rules {
    http: Option<Url>,
    https: Option<Url>,
    /// `None`: everything is proxied, this machine too.
    exempt: Option<Exemptions>,
}

impl Rules {
    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Rules, String> {
        let get = |upper: &str, lower: &str| {
            variable(upper).filter(|text| !text.is_empty()).or_else(|| variable(lower)).filter(|text| !text.is_empty())
        };
        let parse = |name: &str, text: Option<String>| {
            text.map(|text| proxy_url(&text).map_err(|error| format!("{name}: {error}"))).transpose()
        };
        Ok(Rules {
            http: parse("HTTP_PROXY", get("HTTP_PROXY", "http_proxy"))?,
            https: parse("HTTPS_PROXY", get("HTTPS_PROXY", "https_proxy"))?,
            exempt: Some(Exemptions::parse(&get("NO_PROXY", "no_proxy").unwrap_or_default())),
        })
    }

    fn proxy_of(&self, url: &Url) -> Option<Url> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        let exempt = self.exempt.as_ref().is_some_and(|exempt| exempt.covers(url));
        proxy.clone().filter(|_| !exempt)
    }
}

/// What a `no_proxy` list exempts. This machine itself is exempt as soon as there is a list.
#[derive(Default)]
struct Exemptions {
    /// `*`
    everything: bool,
    hosts: Vec<(ExemptHost, Option<u16>)>,
}

enum ExemptHost {
    Address(IpAddr),
    /// Address and length of the prefix.
    Network(IpAddr, u32),
    /// With a leading dot; `itself`: also without what stands before the dot.
    Domain {
        suffix: String,
        itself: bool,
    },
}

impl Exemptions {
    fn parse(list: &str) -> Exemptions {
        let mut exempt = Exemptions::default();
        for entry in list.split(',').map(|entry| entry.trim().to_lowercase()).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                exempt.everything = true;
                continue;
            }
            if let Some((address, bits)) = entry.split_once('/')
                && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>())
                && bits <= if address.is_ipv4() { 32 } else { 128 }
            {
                exempt.hosts.push((ExemptHost::Network(address, bits), None));
                continue;
            }
            let (host, port) = split_port(&entry);
            if host.is_empty() {
                continue;
            }
            let host = match host.parse::<IpAddr>() {
                Ok(address) => ExemptHost::Address(address),
                Err(_) => {
                    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
                    let itself = !host.starts_with('.');
                    ExemptHost::Domain { suffix: if itself { format!(".{host}") } else { host.to_owned() }, itself }
                }
            };
            exempt.hosts.push((host, port));
        }
        exempt
    }

    fn covers(&self, url: &Url) -> bool {
        let (name, address) = match url.host() {
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.').to_lowercase();
                let address = name.parse::<IpAddr>().ok();
                (name, address)
            }
            Some(Host::Ipv4(address)) => (String::new(), Some(IpAddr::from(address))),
            Some(Host::Ipv6(address)) => (String::new(), Some(IpAddr::from(address))),
            None => return true,
        };
        if self.everything || name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let port = url.port_or_known_default();
        self.hosts.iter().any(|(host, wanted)| {
            let here = match (host, address) {
                (ExemptHost::Address(exempt), Some(address)) => *exempt == address,
                (ExemptHost::Network(network, bits), Some(address)) => is_within(address, *network, *bits),
                (ExemptHost::Domain { suffix, itself }, None) => {
                    name.ends_with(suffix.as_str()) || *itself && name == suffix[1..]
                }
                _ => false,
            };
            here && wanted.is_none_or(|wanted| Some(wanted) == port)
        })
    }
}

/// `host:port` apart, brackets of an IPv6 address removed.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        None => (entry, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let high = |value: u128, width: u32| value.checked_shr(width - bits.min(width)).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let number = |address: std::net::Ipv4Addr| u128::from(u32::from(address));
            high(number(address), 32) == high(number(network), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => high(address.into(), 128) == high(network.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemptions_are_those_of_go() {
        for (list, url, exempt) in [
            ("", "http://example.com/", false),
            // This machine is never asked through a proxy.
            ("", "http://localhost:9090/", true),
            ("", "http://127.0.0.3/", true),
            ("", "http://[::1]/", true),
            ("*", "http://example.com/", true),
            ("example.com", "http://example.com/", true),
            ("example.com", "http://a.example.com/", true),
            ("example.com", "http://notexample.com/", false),
            (".example.com", "http://example.com/", false),
            (".example.com", "http://a.example.com/", true),
            ("*.example.com", "http://a.example.com/", true),
            ("EXAMPLE.com", "http://Example.COM/", true),
            (" a.test , b.test ", "http://b.test/", true),
            ("example.com:80", "http://example.com/", true),
            ("example.com:8080", "http://example.com/", false),
            ("example.com:443", "https://example.com/", true),
            ("10.0.0.0/8", "http://10.1.2.3/", true),
            ("10.0.0.0/8", "http://11.1.2.3/", false),
            ("0.0.0.0/0", "http://11.1.2.3/", true),
            ("10.1.2.3", "http://10.1.2.3:9100/", true),
            ("10.1.2.3:9100", "http://10.1.2.3:9101/", false),
            ("fd00::/8", "http://[fd01::2]/", true),
            ("fd00::/8", "http://[fe01::2]/", false),
            ("[fd01::2]:80", "http://[fd01::2]/", true),
            ("10.0.0.0/8", "http://10.example.com/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(Exemptions::parse(list).covers(&url), exempt, "{list:?} and {url}");
        }
    }

    #[test]
    fn environment_gives_a_proxy_for_each_scheme() {
        let variables = |pairs: &'static [(&'static str, &'static str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        let rules = Rules::from_environment(variables(&[
            ("HTTP_PROXY", "proxy:3128"),
            ("http_proxy", "http://ignored"),
            ("https_proxy", "http://secure:3129"),
            ("no_proxy", "in.test"),
        ]))
        .unwrap();
        for (url, proxy) in [
            ("http://a.test/", Some("http://proxy:3128/")),
            ("https://a.test/", Some("http://secure:3129/")),
            ("https://x.in.test/", None),
            ("http://localhost/", None),
        ] {
            assert_eq!(rules.proxy_of(&Url::parse(url).unwrap()).as_ref().map(Url::as_str), proxy, "{url}");
        }
        assert!(Rules::from_environment(variables(&[("HTTP_PROXY", "ftp://x")])).is_err());
        let none = Rules::from_environment(variables(&[])).unwrap();
        assert!(none.http.is_none() && none.https.is_none());
    }
}
