//! The discovery sections of what runs on machines: registries, schedulers, containers, name servers, inventories.

use super::{
    Complaints, Field, HTTP, Kind, Section, Values, duration, field, int, no_check, path, secret, selector, switch,
    text, text_map, texts, url,
};
use crate::go_url;
use crate::types::{Auth, HttpClientConfig};

const PORT: Field = int("port").or_int(80);
const REFRESH: Field = duration("refresh_interval").or_ms(60_000);

pub(crate) const CONSUL: Section = Section {
    go_type: "consul.plain",
    fields: &[
        text("server").or("localhost:8500").omit(),
        text("path_prefix").omit(),
        secret("token").omit(),
        text("datacenter").omit(),
        text("namespace").omit(),
        text("partition").omit(),
        text("tag_separator").or(",").omit(),
        text("scheme").or("http").omit(),
        text("username").omit(),
        secret("password").omit(),
        switch("allow_stale").on(),
        duration("refresh_interval").or_ms(30_000).omit(),
        texts("services").omit(),
        texts("tags").omit(),
        text_map("node_meta").omit(),
        text("filter").omit(),
        text("health_filter").omit(),
        HTTP,
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        if values.text("server").trim().is_empty() {
            complaints.at("server", "consul SD configuration requires a server address");
        }
        if values.is_set("username") || values.is_set("password") {
            if values.given("basic_auth") {
                let rule =
                    "at most one of consul SD configuration username and password and basic auth can be configured";
                complaints.at("username", rule);
            }
            values.derive_basic_auth();
        }
        if values.is_set("token") && (values.given("authorization") || values.given("oauth2")) {
            complaints.at("token", "at most one of consul SD token, authorization, or oauth2 can be configured");
        }
    },
};

pub(crate) const DNS: Section = Section {
    go_type: "dns.plain",
    fields: &[texts("names"), duration("refresh_interval").or_ms(30_000).omit(), text("type").or("SRV"), int("port")],
    check: |values, complaints| {
        // Texts as in Prometheus:
        if values.texts("names").is_empty() {
            complaints.at("names", "DNS-SD config must contain at least one SRV record name");
        }
        let kind = values.text("type");
        match kind.to_uppercase().as_str() {
            "SRV" => {}
            "A" | "AAAA" | "MX" | "NS" if values.int("port") != 0 => {}
            "A" | "AAAA" | "MX" | "NS" => {
                complaints.at("port", "a port is required in DNS-SD configs for all record types except SRV");
            }
            _ => complaints.at("type", format!("invalid DNS-SD records type {kind}")),
        }
    },
};

const DOCKER_FILTER: Section =
    Section { go_type: "moby.Filter", fields: &[text("name"), texts("values")], check: no_check };

pub(crate) const DOCKER: Section = Section {
    go_type: "moby.plain",
    fields: &[
        HTTP,
        text("host"),
        PORT,
        field("filters", Kind::List(&DOCKER_FILTER)),
        text("host_networking_host").or("localhost"),
        REFRESH,
        switch("match_first_network").on(),
    ],
    check: check_docker_host,
};

fn check_docker_host(values: &mut Values, complaints: &mut Complaints) {
    // Text as in Prometheus:
    complaints.missing(values, "host", "host missing");
    if let Err(error) = go_url::parse(values.text("host")) {
        complaints.at("host", error);
    }
}

pub(crate) const DOCKERSWARM: Section = Section {
    go_type: "moby.plain",
    fields: &[HTTP, text("host"), text("role"), PORT, field("filters", Kind::List(&DOCKER_FILTER)), REFRESH],
    check: |values, complaints| {
        check_docker_host(values, complaints);
        // Texts as in Prometheus:
        match values.text("role") {
            "services" | "nodes" | "tasks" => {}
            "" => complaints.at("role", "role missing (one of: tasks, services, nodes)"),
            role => complaints.at("role", format!("invalid role {role}, expected tasks, services, or nodes")),
        }
    },
};

pub(crate) const EUREKA: Section = Section {
    go_type: "eureka.plain",
    fields: &[text("server").omit(), HTTP, duration("refresh_interval").or_ms(30_000).omit()],
    check: |values, complaints| {
        // Texts as in Prometheus:
        match values.text("server") {
            "" => complaints.at("server", "eureka_sd: empty or null eureka server"),
            server => match go_url::parse(server) {
                Ok(url) if url.scheme.is_empty() || url.host.is_empty() => {
                    complaints.at("server", "eureka_sd: invalid eureka server URL");
                }
                Ok(_) => {}
                Err(error) => complaints.at("server", error),
            },
        }
    },
};

/// The URL of a service that is asked over HTTP.
fn check_url(values: &Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    match values.text("url") {
        "" => complaints.at("url", "URL is missing"),
        url => match go_url::parse(url) {
            Ok(url) if !["http", "https"].contains(&url.scheme.as_str()) => {
                complaints.at("url", "URL scheme must be 'http' or 'https'");
            }
            Ok(url) if url.host.is_empty() => complaints.at("url", "host is missing in URL"),
            Ok(_) => {}
            Err(error) => complaints.at("url", error),
        },
    }
}

pub(crate) const HTTP_SD: Section = Section {
    go_type: "http.plain",
    fields: &[HTTP, REFRESH.omit(), text("url")],
    check: |values, complaints| check_url(values, complaints),
};

const K8S_ROLES: &[&str] = &["node", "pod", "service", "endpoints", "endpointslice", "ingress"];
const K8S_ROLE: Kind = Kind::Word(K8S_ROLES, "unknown Kubernetes SD role");

const NAMESPACES: Section =
    Section { go_type: "kubernetes.plain", fields: &[switch("own_namespace"), texts("names")], check: no_check };

const SELECTOR: Section = Section {
    go_type: "kubernetes.SelectorConfig",
    fields: &[field("role", K8S_ROLE).omit(), text("label").omit(), text("field").omit()],
    check: no_check,
};

const ATTACH_METADATA: Section = Section {
    go_type: "kubernetes.AttachMetadataConfig",
    fields: &[switch("node"), switch("namespace"), switch("deployment"), switch("job"), switch("cronjob")],
    check: no_check,
};

pub(crate) const KUBERNETES: Section = Section {
    go_type: "kubernetes.plain",
    fields: &[
        url("api_server").omit(),
        field("role", K8S_ROLE),
        path("kubeconfig_file"),
        HTTP,
        field("namespaces", Kind::Section(&NAMESPACES)).omit(),
        field("selectors", Kind::List(&SELECTOR)).omit(),
        field("attach_metadata", Kind::Section(&ATTACH_METADATA)).omit(),
    ],
    check: check_kubernetes,
};

fn check_kubernetes(values: &mut Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    let role = values.text("role");
    complaints.missing(values, "role", "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)");
    let (api_server, kubeconfig) = (values.given("api_server"), values.is_set("kubeconfig_file"));
    let own_client = *values.http() != HttpClientConfig::default();
    let own_namespace = values.section("namespaces").is_some_and(|namespaces| namespaces.bool("own_namespace"));
    if api_server && kubeconfig {
        complaints.at("kubeconfig_file", "cannot use 'kubeconfig_file' and 'api_server' simultaneously");
    }
    if kubeconfig && own_client {
        let rule = "cannot use a custom HTTP client configuration together with 'kubeconfig_file'";
        complaints.at("kubeconfig_file", rule);
    } else if !api_server && own_client {
        let rule = "to use custom HTTP client configuration please provide the 'api_server' URL explicitly";
        complaints.at("", rule);
    }
    for (given, name) in [(api_server, "api_server"), (kubeconfig, "kubeconfig_file")] {
        if given && own_namespace {
            complaints.at(name, format!("cannot use '{name}' and 'namespaces.own_namespace' simultaneously"));
        }
    }
    let allowed: &[&str] = match role {
        "pod" => &["pod", "node"],
        "service" => &["service"],
        "endpointslice" => &["pod", "service", "endpointslice"],
        "endpoints" => &["pod", "service", "endpoints"],
        "node" => &["node"],
        "ingress" => &["ingress"],
        _ => return,
    };
    let mut seen = Vec::new();
    for selector in values.list("selectors") {
        let of = selector.text("role");
        if seen.contains(&of) {
            complaints.at("selectors", format!("duplicated selector role: {of}"));
        }
        seen.push(of);
        if !allowed.contains(&of) {
            complaints.at("selectors", format!("{role} role supports only {} selectors", allowed.join(", ")));
        }
        for error in [selector::check_fields(selector.text("field")), selector::check_labels(selector.text("label"))] {
            if let Err(error) = error {
                complaints.at("selectors", error);
            }
        }
    }
}

pub(crate) const KUMA: Section = Section {
    go_type: "xds.plainKumaConf",
    fields: &[
        HTTP,
        duration("refresh_interval").or_ms(15_000).omit(),
        duration("fetch_timeout").or_ms(120_000).omit(),
        text("server").omit(),
        text("client_id").omit(),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        match values.text("server") {
            "" => complaints.at("server", "kuma SD server must not be empty: "),
            server => match go_url::parse(server) {
                Ok(url) if url.scheme.is_empty() || url.host.is_empty() => {
                    complaints.at("server", format!("kuma SD server must not be empty and have a scheme: {server}"));
                }
                Ok(_) => {}
                Err(error) => complaints.at("server", error),
            },
        }
    },
};

pub(crate) const MARATHON: Section = Section {
    go_type: "marathon.plain",
    fields: &[
        texts("servers").omit(),
        duration("refresh_interval").or_ms(30_000).omit(),
        secret("auth_token").omit(),
        path("auth_token_file").omit(),
        HTTP,
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        if values.texts("servers").is_empty() {
            complaints.at("servers", "marathon_sd: must contain at least one Marathon server");
        }
        let (token, file) = (values.is_set("auth_token"), values.is_set("auth_token_file"));
        if token && file {
            let rule = "marathon_sd: at most one of auth_token & auth_token_file must be configured";
            complaints.at("auth_token", rule);
        }
        if !token && !file {
            return;
        }
        let bearer = matches!(values.http().auth, Auth::Header { .. });
        let rule = if values.given("basic_auth") {
            "marathon_sd: at most one of basic_auth, auth_token & auth_token_file must be configured"
        } else if bearer && !values.given("authorization") {
            "marathon_sd: at most one of bearer_token, bearer_token_file, auth_token & auth_token_file must be configured"
        } else if values.given("authorization") {
            "marathon_sd: at most one of auth_token, auth_token_file & authorization must be configured"
        } else {
            return;
        };
        complaints.at(if token { "auth_token" } else { "auth_token_file" }, rule);
    },
};

pub(crate) const NOMAD: Section = Section {
    go_type: "nomad.plain",
    fields: &[
        switch("allow_stale").on(),
        HTTP,
        text("namespace").or("default"),
        REFRESH,
        text("region").or("global"),
        text("server").or("http://localhost:4646"),
        text("tag_separator").or(",").omit(),
    ],
    check: |values, complaints| {
        if values.text("server").trim().is_empty() {
            // Text as in Prometheus:
            complaints.at("server", "nomad SD configuration requires a server address");
        }
    },
};

pub(crate) const PUPPETDB: Section = Section {
    go_type: "puppetdb.plain",
    fields: &[HTTP, REFRESH.omit(), text("url"), text("query"), switch("include_parameters"), PORT],
    check: |values, complaints| {
        check_url(values, complaints);
        // Text as in Prometheus:
        complaints.missing(values, "query", "query missing");
    },
};

pub(crate) const UYUNI: Section = Section {
    go_type: "uyuni.plain",
    fields: &[
        text("server"),
        text("username"),
        secret("password"),
        HTTP,
        text("entitlement").or("monitoring_entitled").omit(),
        text("separator").or(",").omit(),
        REFRESH.omit(),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        complaints.missing(values, "server", "Uyuni SD configuration requires server host");
        if let Err(error) = go_url::parse(values.text("server")) {
            complaints.at("server", format!("Uyuni Server URL is not valid: {error}"));
        }
        complaints.missing(values, "username", "Uyuni SD configuration requires a username");
        if !values.is_set("password") {
            complaints.at("password", "Uyuni SD configuration requires a password");
        }
    },
};

/// The two forms in which services announce themselves in Zookeeper.
macro_rules! zookeeper {
    ($name:ident $what:literal) => {
        pub(crate) const $name: Section = Section {
            go_type: "zookeeper.plain",
            fields: &[texts("servers"), texts("paths"), duration("timeout").or_ms(10_000).omit()],
            check: |values, complaints| check_zookeeper(values, complaints, $what),
        };
    };
}

zookeeper!(SERVERSET "serverset");
zookeeper!(NERVE "nerve");

fn check_zookeeper(values: &Values, complaints: &mut Complaints, what: &str) {
    // Texts as in Prometheus:
    if values.texts("servers").is_empty() {
        complaints.at("servers", format!("{what} SD config must contain at least one Zookeeper server"));
    }
    if values.texts("paths").is_empty() {
        complaints.at("paths", format!("{what} SD config must contain at least one path"));
    }
    for path in values.texts("paths").iter().filter(|path| !path.starts_with('/')) {
        complaints.at("paths", format!("{what} SD config paths must begin with '/': {path}"));
    }
}
