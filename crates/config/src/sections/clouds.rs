//! The discovery sections of clouds that rent out machines, but for Amazon's.

use super::{
    Complaints, Field, HTTP, Kind, Section, Values, duration, field, int, no_check, path, secret, switch, text, texts,
    tls,
};
use crate::go_url;

const PORT: Field = int("port").or_int(80);
const REFRESH: Field = duration("refresh_interval").or_ms(60_000);
const COMMA: Field = text("tag_separator").or(",").omit();

pub(crate) const AZURE: Section = Section {
    go_type: "azure.plain",
    fields: &[
        text("environment").or("AzurePublicCloud").omit(),
        PORT,
        text("subscription_id"),
        text("tenant_id").omit(),
        text("client_id").omit(),
        secret("client_secret").omit(),
        duration("refresh_interval").or_ms(300_000).omit(),
        text("authentication_method").or("OAuth").omit(),
        text("resource_group").omit(),
        HTTP,
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        let needs = |field: &str| format!("azure SD configuration requires a {field}");
        complaints.missing(values, "subscription_id", needs("subscription_id"));
        match values.text("authentication_method") {
            "OAuth" => {
                for name in ["tenant_id", "client_id", "client_secret"] {
                    if !values.is_set(name) {
                        complaints.at(name, needs(name));
                    }
                }
            }
            "ManagedIdentity" | "SDK" | "WorkloadIdentity" => {}
            other => {
                let known = r#""OAuth", "ManagedIdentity", "SDK" or "WorkloadIdentity""#;
                let message = format!("unknown authentication_type {other:?}. Supported types are {known}");
                complaints.at("authentication_method", message);
            }
        }
    },
};

pub(crate) const DIGITALOCEAN: Section = Section {
    go_type: "digitalocean.plain",
    fields: &[
        HTTP,
        REFRESH,
        PORT,
        field("role", Kind::Word(&["droplets", "databases"], "unknown DigitalOcean SD role")).or("droplets"),
    ],
    check: |values, complaints| {
        // Text as in Prometheus:
        complaints.missing(values, "role", "role missing (one of: droplets, databases)");
    },
};

pub(crate) const GCE: Section = Section {
    go_type: "gce.plain",
    fields: &[text("project"), text("zone"), text("filter").omit(), REFRESH.omit(), PORT, COMMA],
    check: |values, complaints| {
        // Texts as in Prometheus:
        complaints.missing(values, "project", "GCE SD configuration requires a project");
        complaints.missing(values, "zone", "GCE SD configuration requires a zone");
    },
};

pub(crate) const HETZNER: Section = Section {
    go_type: "hetzner.plain",
    fields: &[
        HTTP,
        REFRESH,
        PORT,
        field("role", Kind::Word(&["robot", "hcloud"], "unknown role")),
        text("label_selector").omit(),
    ],
    check: |values, complaints| {
        // Text as in Prometheus:
        complaints.missing(values, "role", "role missing (one of: robot, hcloud)");
    },
};

pub(crate) const IONOS: Section = Section {
    go_type: "ionos.plain",
    fields: &[text("datacenter_id"), HTTP, REFRESH, PORT],
    check: |values, complaints| {
        // Text as in Prometheus:
        complaints.missing(values, "datacenter_id", "datacenter id can't be empty");
    },
};

pub(crate) const LINODE: Section =
    Section { go_type: "linode.plain", fields: &[HTTP, REFRESH, PORT, COMMA, text("region").omit()], check: no_check };

pub(crate) const OCI: Section = Section {
    go_type: "oci.plain",
    fields: &[
        text("auth").or("api_key").omit(),
        text("tenancy").omit(),
        text("user").omit(),
        text("fingerprint").omit(),
        path("key_file").omit(),
        secret("key_passphrase").omit(),
        path("key_passphrase_file").omit(),
        text("region"),
        texts("compartments").omit(),
        HTTP,
        PORT,
        REFRESH,
    ],
    check: check_oci,
};

fn check_oci(values: &mut Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    complaints.missing(values, "region", "oci_sd: region is required");
    match values.text("auth") {
        "api_key" => {
            for name in ["tenancy", "user", "fingerprint", "key_file"] {
                complaints.missing(values, name, format!("oci_sd: api_key auth requires {name}"));
            }
            if values.is_set("key_passphrase") && values.is_set("key_passphrase_file") {
                let rule = "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured";
                complaints.at("key_passphrase", rule);
            }
        }
        "instance_principal" => {
            let names = ["tenancy", "user", "fingerprint", "key_file", "key_passphrase", "key_passphrase_file"];
            if let Some(name) = names.into_iter().find(|name| values.is_set(name)) {
                let rule = "oci_sd: instance_principal auth must not have tenancy, user, fingerprint, key_file, \
                            key_passphrase, or key_passphrase_file set";
                complaints.at(name, rule);
            }
        }
        other => {
            let message =
                format!("oci_sd: unknown auth method {other:?}, expected \"api_key\" or \"instance_principal\"");
            complaints.at("auth", message);
        }
    }
    if let Some(at) = values.texts("compartments").iter().position(String::is_empty) {
        complaints.at("compartments", format!("oci_sd: compartments[{at}] must not be empty"));
    }
    let refresh = values.duration("refresh_interval");
    if refresh.as_millis() <= 0 {
        complaints.at("refresh_interval", format!("oci_sd: refresh_interval must be positive, got {refresh}"));
    }
}

pub(crate) const OPENSTACK: Section = Section {
    go_type: "openstack.plain",
    fields: &[
        text("identity_endpoint"),
        text("username"),
        text("userid"),
        secret("password"),
        text("project_name"),
        text("project_id"),
        text("domain_name"),
        text("domain_id"),
        text("application_credential_name"),
        text("application_credential_id"),
        secret("application_credential_secret"),
        field("role", Kind::Word(&["hypervisor", "instance", "loadbalancer"], "unknown OpenStack SD role")),
        text("region"),
        REFRESH,
        PORT,
        switch("all_tenants").omit(),
        tls("tls_config").omit(),
        text("availability").or("public").omit(),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        let availability = values.text("availability");
        if !["public", "internal", "admin"].contains(&availability) {
            let message = format!("unknown availability {availability}, must be one of admin, internal or public");
            complaints.at("availability", message);
        }
        complaints.missing(values, "role", "role missing (one of: instance, hypervisor, loadbalancer)");
        complaints.missing(values, "region", "openstack SD configuration requires a region");
    },
};

pub(crate) const OUTSCALE: Section = Section {
    go_type: "outscale.plain",
    fields: &[
        text("endpoint").omit(),
        text("region").or("eu-west-2"),
        text("access_key"),
        secret("secret_key"),
        path("secret_key_file"),
        REFRESH.omit(),
        PORT,
        HTTP,
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        complaints.missing(values, "region", "outscale SD configuration requires a region");
        complaints.missing(values, "access_key", "outscale SD configuration requires access_key");
        check_secret_key(values, complaints);
        if values.text("endpoint").is_empty() {
            let endpoint = format!("https://api.{}.outscale.com/api/v1", values.text("region"));
            values.set_text("endpoint", endpoint);
        }
    },
};

fn check_secret_key(values: &Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    match (values.is_set("secret_key"), values.is_set("secret_key_file")) {
        (false, false) => complaints.at("", "one of secret_key & secret_key_file must be configured"),
        (true, true) => {
            complaints.at("secret_key", "at most one of secret_key & secret_key_file must be configured");
        }
        _ => {}
    }
}

pub(crate) const OVHCLOUD: Section = Section {
    go_type: "ovhcloud.plain",
    fields: &[
        text("endpoint").or("ovh-eu"),
        text("application_key"),
        secret("application_secret"),
        secret("consumer_key"),
        REFRESH,
        text("service"),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        for (name, what) in [
            ("endpoint", "endpoint"),
            ("application_key", "application key"),
            ("application_secret", "application secret"),
            ("consumer_key", "consumer key"),
        ] {
            if !values.is_set(name) {
                complaints.at(name, format!("{what} can not be empty"));
            }
        }
        let service = values.text("service");
        if !["dedicated_server", "vps"].contains(&service) {
            complaints.at("service", format!("unknown service: {service}"));
        }
    },
};

pub(crate) const SCALEWAY: Section = Section {
    go_type: "scaleway.plain",
    fields: &[
        text("project_id"),
        text("api_url").or("https://api.scaleway.com").omit(),
        text("zone").or("fr-par-1"),
        text("access_key"),
        secret("secret_key"),
        path("secret_key_file"),
        text("name_filter").omit(),
        texts("tags_filter").omit(),
        HTTP,
        REFRESH,
        PORT,
        field("role", Kind::Word(&["instance", "baremetal"], "unknown role")),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        complaints.missing(values, "role", "role missing (one of: instance, baremetal)");
        complaints.missing(values, "project_id", "project_id is mandatory");
        check_secret_key(values, complaints);
        complaints.missing(values, "access_key", "access_key is mandatory");
    },
};

pub(crate) const STACKIT: Section = Section {
    go_type: "stackit.plain",
    fields: &[
        HTTP,
        text("project"),
        REFRESH.omit(),
        PORT.omit(),
        text("region").or("eu01").omit(),
        text("endpoint").omit(),
        secret("service_account_key").omit(),
        secret("private_key").omit(),
        text("service_account_key_path").omit(),
        text("private_key_path").omit(),
        text("credentials_file_path").omit(),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        let endpoint = values.text("endpoint");
        if endpoint.is_empty() && values.text("region").is_empty() {
            complaints.at("endpoint", "stackit_sd: endpoint and region missing");
        }
        if let Err(error) = go_url::parse(endpoint) {
            complaints.at("endpoint", format!("stackit_sd: invalid endpoint {endpoint:?}: {error}"));
        }
    },
};

pub(crate) const TRITON: Section = Section {
    go_type: "triton.plain",
    fields: &[
        text("account"),
        text("role").or("container"),
        text("dns_suffix"),
        text("endpoint"),
        texts("groups").omit(),
        int("port").or_int(9163),
        REFRESH.omit(),
        tls("tls_config").omit(),
        int("version").or_int(1),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        if !["container", "cn"].contains(&values.text("role")) {
            complaints.at("role", "triton SD configuration requires role to be 'container' or 'cn'");
        }
        complaints.missing(values, "account", "triton SD configuration requires an account");
        complaints.missing(values, "dns_suffix", "triton SD configuration requires a dns_suffix");
        complaints.missing(values, "endpoint", "triton SD configuration requires an endpoint");
        if values.duration("refresh_interval").as_millis() <= 0 {
            let rule = "triton SD configuration requires RefreshInterval to be a positive integer";
            complaints.at("refresh_interval", rule);
        }
    },
};

pub(crate) const VULTR: Section = Section { go_type: "vultr.plain", fields: &[HTTP, REFRESH, PORT], check: no_check };
