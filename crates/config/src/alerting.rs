//! The `alerting` section.

use std::path::Path;
use std::sync::Arc;

use fk_model::Duration;
use fk_model::name::NameValidation;

use crate::http;
use crate::reader::{Fields, Reader};
use crate::relabel;
use crate::sections::{self, Surroundings};
use crate::shown::{Shown, ShownMap, ShownMapExt};
use crate::targets;
use crate::types::{AlertingConfig, AlertmanagerConfig, Auth};
use crate::yaml::Node;

const TIMEOUT: Duration = Duration(10_000);

/// Reads `alerting`.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    node: &Node,
    validation: NameValidation,
    base: &Path,
    shown: &mut ShownMap,
) -> AlertingConfig {
    let mut fields = Fields::new(reader, node, "config.plain");
    let mut map = ShownMap::new();
    // Text as in Prometheus:
    let null_text = "empty or null alert relabeling rule";
    let alert_relabel_configs = relabel::read(
        reader,
        fields.take("alert_relabel_configs"),
        validation,
        null_text,
        &mut map,
        "alert_relabel_configs",
    );
    let (mut alertmanagers, mut list_shown) = (Vec::new(), Vec::new());
    for (at, item) in fields
        .take("alertmanagers")
        .map(|node| reader.list(node, "config.AlertmanagerConfigs"))
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        if item.is_null() {
            reader.invalid(item.id, "empty or null Alertmanager config section");
            continue;
        }
        let (config, shown) = read_alertmanager(reader, item, at, validation, base);
        alertmanagers.push(Arc::new(config));
        list_shown.push(Shown::Map(shown));
    }
    map.put_seq("alertmanagers", list_shown);
    fields.finish(reader);
    shown.put_map("alerting", map);
    AlertingConfig { alert_relabel_configs, alertmanagers }
}

fn read_alertmanager(
    reader: &mut Reader<'_>,
    node: &Node,
    at: usize,
    validation: NameValidation,
    base: &Path,
) -> (AlertmanagerConfig, ShownMap) {
    let mut fields = Fields::new(reader, node, "config.AlertmanagerConfig");
    let mut map = ShownMap::new();
    let http = http::read(reader, &mut fields, base, &mut map);
    if let Some((key, node)) = fields.take_entry("sigv4").filter(|(_, node)| !node.is_null()) {
        let around = Surroundings { base, validation };
        let (_, section) = sections::read(reader, &sections::remote::SIGV4, Some(node), around);
        map.put("sigv4", Shown::Map(section));
        if http.auth != Auth::None {
            // Text as in Prometheus:
            let rule = "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured";
            reader.invalid(key.id, rule);
        }
        reader.unsupported(key.id, "sigv4");
    }
    let scheme = fields.string_or(reader, "scheme", "http");
    let path_prefix = fields.string(reader, "path_prefix");
    let timeout = fields.duration_or(reader, "timeout", TIMEOUT);
    map.put_nonempty("scheme", &scheme);
    map.put_nonempty("path_prefix", &path_prefix);
    map.put_text("timeout", &timeout.to_string());
    let version_node = fields.take("api_version");
    if let Some(version_node) = version_node.filter(|node| !node.is_null()) {
        let version = reader.string(version_node);
        if version != "v2" {
            // Text as in Prometheus:
            reader.invalid(
                version_node.id,
                format!("expected Alertmanager api version to be one of [v2] but got {version}"),
            );
        }
    }
    map.put_text("api_version", if version_node.is_some_and(Node::is_null) { "" } else { "v2" });
    let relabel_node = fields.take("relabel_configs");
    // Texts as in Prometheus:
    let null_text = "empty or null Alertmanager target relabeling rule";
    let relabel_configs = relabel::read(reader, relabel_node, validation, null_text, &mut map, "relabel_configs");
    let null_text = "empty or null Alertmanager alert relabeling rule";
    let alert_relabel_configs = relabel::read(
        reader,
        fields.take("alert_relabel_configs"),
        validation,
        null_text,
        &mut map,
        "alert_relabel_configs",
    );
    let without_relabelling = relabel_node.is_none_or(Node::is_empty);
    let discovery = targets::read(reader, &mut fields, base, validation, without_relabelling, &mut map);
    fields.finish(reader);
    let key = format!("config-{at}");
    (
        AlertmanagerConfig {
            key,
            scheme,
            path_prefix,
            timeout,
            http,
            discovery,
            relabel_configs,
            alert_relabel_configs,
        },
        map,
    )
}
