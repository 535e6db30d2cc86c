//! Where targets come from: `static_configs` and `file_sd_configs`. Every other mechanism of Prometheus is refused by name.

use std::path::Path;

use fk_model::{Duration, Labels, TargetGroup};

use crate::glob;
use crate::reader::{Fields, Reader};
use crate::section::{resolve, shown_labels, shown_texts};
use crate::shown::{Shown, ShownMap, ShownMapExt};
use crate::types::{DiscoveryConfig, FileDiscoveryConfig};
use crate::yaml::{Document, Node};

/// What Prometheus 3.14 can discover targets with and Firekeeper cannot yet.
const UNSUPPORTED: [&str; 35] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "elasticache_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "http_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "msk_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "rds_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// The Go type of one target group, as its decoder names it in errors.
const GROUP_TYPE: &str =
    "struct { Targets []string \"yaml:\\\"targets\\\"\"; Labels model.LabelSet \"yaml:\\\"labels\\\"\" }";

/// Takes the discovery sections out of `fields`. `check_targets`: refuse static targets that are URLs, which Prometheus
/// does where no relabelling could make addresses of them.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    base: &Path,
    check_targets: bool,
    shown: &mut ShownMap,
) -> Vec<DiscoveryConfig> {
    let mut discovery = Vec::new();
    for name in UNSUPPORTED {
        reader.unsupported_section(fields, name);
    }
    if let Some(node) = fields.take("file_sd_configs") {
        let mut list_shown = Vec::new();
        for item in reader.list(node, "[]*file.SDConfig") {
            if item.is_null() {
                // Text as in Prometheus:
                reader.invalid(item.id, "empty or null section in file_sd_configs");
                continue;
            }
            let (config, shown) = read_file_config(reader, item, base);
            discovery.push(DiscoveryConfig::File(config));
            list_shown.push(Shown::Map(shown));
        }
        shown.put_seq("file_sd_configs", list_shown);
    }
    if let Some(node) = fields.take("static_configs") {
        let (mut groups, mut list_shown) = (Vec::new(), Vec::new());
        for (at, item) in reader.list(node, "[]*targetgroup.Group").iter().enumerate() {
            if item.is_null() {
                // Text as in Prometheus:
                reader.invalid(item.id, "empty or null section in static_configs");
                continue;
            }
            let (group, shown) = read_group(reader, item, at, check_targets);
            groups.push(group);
            list_shown.push(Shown::Map(shown));
        }
        if !groups.is_empty() {
            discovery.push(DiscoveryConfig::Static(groups));
        }
        shown.put_seq("static_configs", list_shown);
    }
    discovery
}

fn read_file_config(reader: &mut Reader<'_>, node: &Node, base: &Path) -> (FileDiscoveryConfig, ShownMap) {
    let mut fields = Fields::new(reader, node, "file.plain");
    let mut files = Vec::new();
    for item in fields.take("files").map(|node| reader.list(node, "[]string")).unwrap_or_default() {
        let pattern = reader.string(item);
        if !glob::is_discovery_pattern(&pattern) {
            // Text as in Prometheus:
            reader.invalid(item.id, format!("path name {pattern:?} is not valid for file discovery"));
        }
        files.push(resolve(base, &pattern));
    }
    let refresh_interval = fields.duration_or(reader, "refresh_interval", Duration(300_000));
    fields.finish(reader);
    if files.is_empty() {
        // Text as in Prometheus:
        reader.invalid(node.id, "file service discovery config must contain at least one path name");
    }
    let mut shown = ShownMap::new();
    shown.put_seq("files", shown_texts(&files));
    shown.put_text("refresh_interval", &refresh_interval.to_string());
    (FileDiscoveryConfig { files, refresh_interval }, shown)
}

/// Reads entry number `at` of `static_configs`.
pub(crate) fn read_group(
    reader: &mut Reader<'_>,
    node: &Node,
    at: usize,
    check_targets: bool,
) -> (TargetGroup, ShownMap) {
    let mut fields = Fields::new(reader, node, GROUP_TYPE);
    let mut addresses = Vec::new();
    for item in fields.take("targets").map(|node| reader.list(node, "[]string")).unwrap_or_default() {
        let address = reader.string(item);
        if check_targets && address.contains('/') {
            // Text as in Prometheus:
            reader.invalid(item.id, format!("{address:?} is not a valid hostname"));
        }
        addresses.push(address);
    }
    let labels = fields.take("labels").map_or_else(Labels::empty, |node| reader.labels(node, "model.LabelSet"));
    fields.finish(reader);
    let mut shown = ShownMap::new();
    shown.put("targets", Shown::Seq(shown_texts(&addresses)));
    shown.put_map("labels", shown_labels(&labels));
    let targets = addresses.iter().map(|address| Labels::from_pairs([("__address__", address)])).collect();
    (TargetGroup { source: at.to_string(), labels, targets }, shown)
}

/// Reads a YAML list of target groups, as `file_sd_configs` files hold them. Each group's source is its index.
///
/// Errors: what is wrong, one line each.
pub fn parse_target_groups(text: &str) -> Result<Vec<TargetGroup>, String> {
    let document = Document::parse(text).map_err(|error| format!("yaml: line {}: {}", error.line, error.message))?;
    let mut reader = Reader::new(text, &document);
    let mut groups = Vec::new();
    for (at, item) in reader.list(&document.root, "[]*targetgroup.Group").iter().enumerate() {
        if item.is_null() {
            // Text as in Prometheus:
            reader.invalid(item.id, format!("nil target group item found (index {at})"));
        } else {
            groups.push(read_group(&mut reader, item, at, false).0);
        }
    }
    let (problems, _) = reader.finish();
    if problems.is_empty() {
        return Ok(groups);
    }
    let problems = problems.iter().map(|problem| format!("line {}: {}", problem.line, problem.message));
    Err(problems.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_groups_are_strict() {
        let groups = parse_target_groups("- targets: [a, b]\n  labels: {x: y}\n- labels: {}\n").unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (groups[0].targets.len(), groups[0].labels.get("x"), groups[1].source.as_str()),
            (2, Some("y"), "1")
        );
        for (text, wanted) in [
            ("- targets: [a]\n- ~", "line 2: nil target group item found (index 1)"),
            ("- target: [a]", "line 1: field target not found in type"),
            ("- targets: a", "line 1: cannot unmarshal !!str `a` into []string"),
            ("a: b", "line 1: cannot unmarshal !!map into []*targetgroup.Group"),
            ("- labels: {!!binary '/w==': b}", "line 1: \"\\xff\" is not a valid label name"),
            ("[", "yaml: line 2: "),
        ] {
            let error = parse_target_groups(text).unwrap_err();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
        assert_eq!(parse_target_groups(""), Ok(Vec::new()));
    }
}
