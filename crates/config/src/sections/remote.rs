//! `remote_write`, `remote_read`, `otlp` and `tracing`: what goes to other systems and comes from them.

use super::{
    Complaints, HTTP, Kind, Section, Values, duration, field, float, int, labels, no_check, secret, switch, text,
    text_map, texts, tls, uint, url,
};

/// Headers that the sender sets itself.
const RESERVED_HEADERS: [&str; 16] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

fn check_headers(values: &Values, complaints: &mut Complaints, authorization: &str) {
    for header in values.keys("headers") {
        let lower = header.to_lowercase();
        if lower == "authorization" {
            complaints.at("headers", authorization);
        } else if RESERVED_HEADERS.contains(&lower.as_str()) {
            // Text as in Prometheus:
            complaints.at("headers", format!("{header} is a reserved header. It must not be changed"));
        }
    }
}

// Text as in Prometheus:
const AUTHORIZATION: &str = "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter";

const QUEUE: Section = Section {
    go_type: "config.QueueConfig",
    fields: &[
        int("capacity").or_int(10_000).omit(),
        int("max_shards").or_int(50).omit(),
        int("min_shards").or_int(1).omit(),
        int("max_samples_per_send").or_int(2000).omit(),
        duration("batch_send_deadline").or_ms(5000).omit(),
        duration("min_backoff").or_ms(30).omit(),
        duration("max_backoff").or_ms(5000).omit(),
        switch("retry_on_http_429").omit(),
        duration("sample_age_limit").omit(),
    ],
    check: no_check,
};

const METADATA: Section = Section {
    go_type: "config.MetadataConfig",
    fields: &[
        switch("send").on(),
        duration("send_interval").or_ms(60_000),
        int("max_samples_per_send").or_int(2000).omit(),
    ],
    check: no_check,
};

/// Signing requests for Amazon's services.
pub(crate) const SIGV4: Section = Section {
    go_type: "sigv4.plain",
    fields: &[
        text("region").omit(),
        text("access_key").omit(),
        secret("secret_key").omit(),
        text("profile").omit(),
        text("role_arn").omit(),
        text("external_id").omit(),
        switch("use_fips_sts_endpoint").omit(),
        text("service_name").omit(),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        if values.is_set("access_key") != values.is_set("secret_key") {
            let rule =
                "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config";
            complaints.at("access_key", rule);
        }
        if values.is_set("external_id") && !values.is_set("role_arn") {
            complaints.at("external_id", "external_id can only be used with role_arn");
        }
    },
};

const MANAGED_IDENTITY: Section =
    Section { go_type: "azuread.ManagedIdentityConfig", fields: &[text("client_id").omit()], check: no_check };
const WORKLOAD_IDENTITY: Section = Section {
    go_type: "azuread.WorkloadIdentityConfig",
    fields: &[text("client_id").omit(), text("tenant_id").omit(), text("token_file_path").omit()],
    check: |values, _| {
        if values.text("token_file_path").is_empty() {
            let path = std::env::var("AZURE_FEDERATED_TOKEN_FILE").ok().filter(|path| !path.is_empty());
            let usual = "/var/run/secrets/azure/tokens/azure-identity-token";
            values.set_text("token_file_path", path.unwrap_or_else(|| usual.to_owned()));
        }
    },
};
const AZURE_OAUTH: Section = Section {
    go_type: "azuread.OAuthConfig",
    fields: &[text("client_id").omit(), secret("client_secret").omit(), text("tenant_id").omit()],
    check: no_check,
};
const AZURE_SDK: Section =
    Section { go_type: "azuread.SDKConfig", fields: &[text("tenant_id").omit()], check: no_check };
const AZURE_CERTIFICATE: Section = Section {
    go_type: "azuread.CertificateConfig",
    fields: &[
        text("client_id").omit(),
        text("tenant_id").omit(),
        text("certificate_path").omit(),
        text("certificate_key_path").omit(),
        secret("certificate_password").omit(),
        switch("send_certificate_chain").omit(),
    ],
    check: no_check,
};

pub(crate) const AZUREAD: Section = Section {
    go_type: "azuread.plain",
    fields: &[
        field("managed_identity", Kind::Optional(&MANAGED_IDENTITY)).omit(),
        field("workload_identity", Kind::Optional(&WORKLOAD_IDENTITY)).omit(),
        field("oauth", Kind::Optional(&AZURE_OAUTH)).omit(),
        field("sdk", Kind::Optional(&AZURE_SDK)).omit(),
        field("certificate", Kind::Optional(&AZURE_CERTIFICATE)).omit(),
        text("cloud").or("AzurePublic").omit(),
        text("scope").omit(),
    ],
    check: check_azuread,
};

fn check_azuread(values: &mut Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    match values.text("cloud") {
        "" => values.set_text("cloud", "AzurePublic"),
        "AzurePublic" | "AzureGovernment" | "AzureChina" => {}
        _ => complaints.at("cloud", "must provide a cloud in the Azure AD config"),
    }
    let ways = ["managed_identity", "workload_identity", "oauth", "sdk", "certificate"];
    match ways.iter().filter(|way| values.section(way).is_some()).count() {
        0 => complaints.at(
            "",
            "must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or Azure SDK in the Azure AD config",
        ),
        1 => {}
        _ => complaints.at("", "cannot provide multiple authentication methods in the Azure AD config"),
    }
    // What each way needs, and which of it is a UUID.
    let needs: [(&'static str, &str, &[&str], &[&str]); 4] = [
        ("managed_identity", "Azure Managed Identity", &[], &["client_id"]),
        ("workload_identity", "Azure Workload Identity", &["client_id", "tenant_id"], &["client_id", "tenant_id"]),
        ("oauth", "Azure OAuth", &["client_id", "client_secret", "tenant_id"], &["client_id"]),
        ("certificate", "Azure Certificate", &["client_id", "tenant_id", "certificate_path"], &["client_id"]),
    ];
    for (way, title, required, uuids) in needs {
        let Some(section) = values.section(way) else { continue };
        for name in required.iter().filter(|name| !section.is_set(name)) {
            complaints.at(way, format!("must provide an {title} {name} in the Azure AD config"));
        }
        for name in uuids.iter().filter(|name| section.is_set(name) && !is_uuid(section.text(name))) {
            complaints.at(way, format!("the provided {title} {name} is invalid"));
        }
    }
    let known = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "_:/.-".contains(c);
    if !values.text("scope").chars().all(known) {
        complaints.at("scope", "the provided scope contains invalid characters");
    }
}

/// The forms of a UUID: plain, in braces, as a URN, and without hyphens.
fn is_uuid(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let hyphens = |text: &str| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_hexdigit(),
            })
    };
    match text.len() {
        36 => hyphens(text),
        45 => {
            text.get(..9).is_some_and(|urn| urn.eq_ignore_ascii_case("urn:uuid:")) && text.get(9..).is_some_and(hyphens)
        }
        38 => text.get(1..37).is_some_and(hyphens),
        32 => hex(text),
        _ => false,
    }
}

const GOOGLE_IAM: Section =
    Section { go_type: "googleiam.Config", fields: &[text("credentials_file").omit()], check: no_check };

pub(crate) const REMOTE_WRITE: Section = Section {
    go_type: "config.plain",
    fields: &[
        url("url"),
        duration("remote_timeout").or_ms(30_000).omit(),
        text_map("headers").omit(),
        // Text as in Prometheus:
        field("write_relabel_configs", Kind::Relabel("empty or null relabeling rule in remote write config")).omit(),
        text("name").omit(),
        switch("send_exemplars").omit(),
        switch("send_native_histograms").omit(),
        switch("round_robin_dns").omit(),
        text("protobuf_message").or("prometheus.WriteRequest").omit(),
        switch("failed_request_logging").omit(),
        field("", Kind::HttpClient(true, false)),
        field("queue_config", Kind::Section(&QUEUE)).omit(),
        field("metadata_config", Kind::Section(&METADATA)).omit(),
        field("sigv4", Kind::Optional(&SIGV4)).omit(),
        field("azuread", Kind::Optional(&AZUREAD)).omit(),
        field("google_iam", Kind::Optional(&GOOGLE_IAM)).omit(),
    ],
    check: check_write,
};

fn check_write(values: &mut Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    if !values.given("url") {
        complaints.at("url", "url for remote_write is empty");
    }
    check_headers(values, complaints, AUTHORIZATION);
    let message = values.text("protobuf_message");
    if !["prometheus.WriteRequest", "io.prometheus.write.v2.Request"].contains(&message) {
        let known = "prometheus.WriteRequest, io.prometheus.write.v2.Request";
        let why = format!("unknown type for remote write protobuf message {message}, supported: {known}");
        complaints.at("protobuf_message", format!("invalid protobuf_message value: {why}"));
    }
    if let Some(queue) = values.section("queue_config") {
        check_queue(queue, complaints);
    }
    let ways = ["basic_auth", "authorization", "oauth2", "sigv4", "azuread", "google_iam"];
    let given: Vec<&str> =
        ways.into_iter().filter(|way| values.given(way) || *way == "authorization" && is_bearer(values)).collect();
    if given.len() > 1 {
        let rule = "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured";
        complaints.at("", format!("{rule}. Currently configured: [{}]", given.join(" ")));
    }
}

/// A bearer token counts as an authorization.
fn is_bearer(values: &Values) -> bool {
    matches!(values.http().auth, crate::types::Auth::Header { .. })
}

fn check_queue(queue: &Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    for name in ["max_shards", "min_shards", "max_samples_per_send", "capacity"] {
        if queue.int(name) <= 0 {
            complaints.at("queue_config", format!("remote write queue {name} must be positive"));
        }
    }
    if queue.int("min_shards") > queue.int("max_shards") {
        complaints.at("queue_config", "remote write queue min_shards must not be greater than max_shards");
    }
    if queue.duration("max_backoff") < queue.duration("min_backoff") {
        complaints.at("queue_config", "remote write queue max_backoff must not be less than min_backoff");
    }
}

pub(crate) const REMOTE_READ: Section = Section {
    go_type: "config.plain",
    fields: &[
        url("url"),
        duration("remote_timeout").or_ms(60_000).omit(),
        uint("chunked_read_limit").or_int(50_000_000).omit(),
        text_map("headers").omit(),
        switch("read_recent").omit(),
        text("name").omit(),
        HTTP,
        labels("required_matchers").omit(),
        switch("filter_external_labels").on().omit(),
    ],
    check: |values, complaints| {
        if !values.given("url") {
            // Text as in Prometheus, which says `remote_read` here:
            complaints.at("url", "url for remote_read is empty");
        }
        check_headers(values, complaints, AUTHORIZATION);
    },
};

pub(crate) const TRACING: Section = Section {
    go_type: "config.plain",
    fields: &[
        text("client_type").or("grpc").omit(),
        text("endpoint").omit(),
        float("sampling_fraction").omit(),
        switch("insecure").omit(),
        tls("tls_config").omit(),
        text_map("headers").omit(),
        text("compression").omit(),
        duration("timeout").omit(),
    ],
    check: |values, complaints| {
        // Texts as in Prometheus:
        let client = values.text("client_type");
        if !["http", "grpc"].contains(&client) && values.given("client_type") {
            let message = format!("expected tracing client type to be to be http or grpc, but got {client}");
            complaints.at("client_type", message);
        }
        check_headers(values, complaints, "custom authorization header configuration is not yet supported");
        complaints.missing(values, "endpoint", "tracing endpoint must be set");
        let compression = values.text("compression");
        if !["", "gzip"].contains(&compression) {
            let message = format!("invalid compression type {compression} provided, valid options: gzip");
            complaints.at("compression", message);
        }
    },
};

pub(crate) const OTLP: Section = Section {
    go_type: "config.plain",
    fields: &[
        switch("promote_all_resource_attributes").omit(),
        texts("promote_resource_attributes").omit(),
        texts("ignore_resource_attributes").omit(),
        text("translation_strategy").or("UnderscoreEscapingWithSuffixes").omit(),
        switch("keep_identifying_resource_attributes").omit(),
        switch("convert_histograms_to_nhcb").omit(),
        switch("promote_scope_metadata").omit(),
        switch("label_name_underscore_sanitization").on().omit(),
        switch("label_name_preserve_multiple_underscores").on().omit(),
    ],
    check: check_otlp,
};

const PROMOTED: &str = "promote_resource_attributes";
const IGNORED: &str = "ignore_resource_attributes";

fn check_otlp(values: &mut Values, complaints: &mut Complaints) {
    // Texts as in Prometheus:
    let all = values.bool("promote_all_resource_attributes");
    if all && values.is_set(PROMOTED) {
        let rule = format!("'promote_all_resource_attributes' and '{PROMOTED}' cannot be configured simultaneously");
        complaints.at(PROMOTED, rule);
    }
    if !all && values.is_set(IGNORED) {
        let rule = "cannot be configured unless 'promote_all_resource_attributes' is true";
        complaints.at(IGNORED, format!("'{IGNORED}' {rule}"));
    }
    let (name, adjective) = if all { (IGNORED, "ignored") } else { (PROMOTED, "promoted") };
    let mut attributes: Vec<String> = Vec::new();
    for attribute in values.texts(name) {
        let attribute = attribute.trim();
        if attribute.is_empty() {
            complaints.at(name, format!("invalid '{name}': empty {adjective} OTel resource attribute"));
        } else if attributes.iter().any(|known| known == attribute) {
            let why = format!("duplicated {adjective} OTel resource attribute {attribute:?}");
            complaints.at(name, format!("invalid '{name}': {why}"));
        } else {
            attributes.push(attribute.to_owned());
        }
    }
    values.set_texts(name, attributes);
}

/// Checks the translation of names against how strict they are; given out apart, since `global` decides the one.
pub(crate) fn check_translation(strategy: &str, legacy: bool) -> Result<(), String> {
    // Texts as in Prometheus:
    match strategy {
        "" | "UnderscoreEscapingWithSuffixes" | "UnderscoreEscapingWithoutSuffixes" => Ok(()),
        "NoUTF8EscapingWithSuffixes" | "NoTranslation" if legacy => {
            Err(format!("OTLP translation strategy {strategy:?} is not allowed when UTF8 is disabled"))
        }
        "NoUTF8EscapingWithSuffixes" | "NoTranslation" => Ok(()),
        other => Err(format!("unsupported OTLP translation strategy {other:?}")),
    }
}
