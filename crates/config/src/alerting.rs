//! The `alerting` section.

use std::path::Path;
use std::sync::Arc;

use fk_model::Duration;
use fk_model::name::NameValidation;

use crate::http;
use crate::reader::{Fields, Reader};
use crate::relabel;
use crate::shown::{Shown, ShownMap, ShownMapExt};
use crate::targets;
use crate::types::{AlertingConfig, AlertmanagerConfig};
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
    reader.unsupported_section(&mut fields, "sigv4");
    let scheme = fields.string_or(reader, "scheme", "http");
    let path_prefix = fields.string(reader, "path_prefix");
    let timeout = fields.duration_or(reader, "timeout", TIMEOUT);
    map.put_nonempty("scheme", &scheme);
    map.put_nonempty("path_prefix", &path_prefix);
    map.put_text("timeout", &timeout.to_string());
    if let Some(version_node) = fields.take("api_version") {
        let version = reader.string(version_node);
        if version != "v2" {
            // Text as in Prometheus:
            reader.invalid(
                version_node.id,
                format!("expected Alertmanager api version to be one of [v2] but got {version}"),
            );
        }
    }
    map.put_text("api_version", "v2");
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
    let discovery = targets::read(reader, &mut fields, base, relabel_node.is_none_or(Node::is_empty), &mut map);
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
