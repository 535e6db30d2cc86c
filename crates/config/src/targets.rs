//! Where targets come from: `static_configs`, `file_sd_configs`, and every other mechanism of Prometheus, which is read and
//! checked by its table and then told to be none that this server runs.

use std::path::Path;

use fk_model::name::NameValidation;
use fk_model::{Duration, Labels, TargetGroup};

use crate::glob;
use crate::reader::{Fields, Reader};
use crate::section::{resolve, shown_texts};
use crate::sections::{self, Section, Surroundings, aws, clouds, platforms};
use crate::shown::{Shown, ShownMap, ShownMapExt};
use crate::types::{DiscoveryConfig, FileDiscoveryConfig};
use crate::yaml::{Document, Node};

/// A mechanism that is read, checked and shown as Prometheus does; what of them the server runs is another matter.
pub(crate) struct Mechanism {
    /// Its key.
    pub key: &'static str,
    /// What an entry is called in errors.
    pub go_type: &'static str,
    /// Its fields. `None`: it is read here.
    pub section: Option<&'static Section>,
}

const fn table(key: &'static str, go_type: &'static str, section: &'static Section) -> Mechanism {
    Mechanism { key, go_type, section: Some(section) }
}

/// All mechanisms in the order in which Prometheus reads and shows them. Those with a table are not run by the server yet.
pub(crate) const MECHANISMS: [Mechanism; 37] = [
    table("aws_sd_configs", "aws.SDConfig", &aws::AWS),
    table("azure_sd_configs", "azure.SDConfig", &clouds::AZURE),
    table("consul_sd_configs", "consul.SDConfig", &platforms::CONSUL),
    table("digitalocean_sd_configs", "digitalocean.SDConfig", &clouds::DIGITALOCEAN),
    table("dns_sd_configs", "dns.SDConfig", &platforms::DNS),
    table("docker_sd_configs", "moby.DockerSDConfig", &platforms::DOCKER),
    table("dockerswarm_sd_configs", "moby.DockerSwarmSDConfig", &platforms::DOCKERSWARM),
    table("ec2_sd_configs", "aws.EC2SDConfig", &aws::EC2),
    table("ecs_sd_configs", "aws.ECSSDConfig", &aws::ECS),
    table("elasticache_sd_configs", "aws.ElasticacheSDConfig", &aws::ELASTICACHE),
    table("eureka_sd_configs", "eureka.SDConfig", &platforms::EUREKA),
    Mechanism { key: FILE, go_type: "file.SDConfig", section: None },
    table("gce_sd_configs", "gce.SDConfig", &clouds::GCE),
    table("hetzner_sd_configs", "hetzner.SDConfig", &clouds::HETZNER),
    table("http_sd_configs", "http.SDConfig", &platforms::HTTP_SD),
    table("ionos_sd_configs", "ionos.SDConfig", &clouds::IONOS),
    table("kubernetes_sd_configs", "kubernetes.SDConfig", &platforms::KUBERNETES),
    table("kuma_sd_configs", "xds.SDConfig", &platforms::KUMA),
    table("lightsail_sd_configs", "aws.LightsailSDConfig", &aws::LIGHTSAIL),
    table("linode_sd_configs", "linode.SDConfig", &clouds::LINODE),
    table("marathon_sd_configs", "marathon.SDConfig", &platforms::MARATHON),
    table("msk_sd_configs", "aws.MSKSDConfig", &aws::MSK),
    table("nerve_sd_configs", "zookeeper.NerveSDConfig", &platforms::NERVE),
    table("nomad_sd_configs", "nomad.SDConfig", &platforms::NOMAD),
    table("oci_sd_configs", "oci.SDConfig", &clouds::OCI),
    table("openstack_sd_configs", "openstack.SDConfig", &clouds::OPENSTACK),
    table("outscale_sd_configs", "outscale.SDConfig", &clouds::OUTSCALE),
    table("ovhcloud_sd_configs", "ovhcloud.SDConfig", &clouds::OVHCLOUD),
    table("puppetdb_sd_configs", "puppetdb.SDConfig", &platforms::PUPPETDB),
    table("rds_sd_configs", "aws.RDSSDConfig", &aws::RDS),
    table("scaleway_sd_configs", "scaleway.SDConfig", &clouds::SCALEWAY),
    table("serverset_sd_configs", "zookeeper.ServersetSDConfig", &platforms::SERVERSET),
    table("stackit_sd_configs", "stackit.SDConfig", &clouds::STACKIT),
    Mechanism { key: STATIC, go_type: "targetgroup.Group", section: None },
    table("triton_sd_configs", "triton.SDConfig", &clouds::TRITON),
    table("uyuni_sd_configs", "uyuni.SDConfig", &platforms::UYUNI),
    table("vultr_sd_configs", "vultr.SDConfig", &clouds::VULTR),
];

const FILE: &str = "file_sd_configs";
const STATIC: &str = "static_configs";

/// The Go type of one target group, as its decoder names it in errors.
const GROUP_TYPE: &str =
    "struct { Targets []string \"yaml:\\\"targets\\\"\"; Labels model.LabelSet \"yaml:\\\"labels\\\"\" }";

/// Takes the discovery sections out of `fields`. `check_targets`: refuse static targets that are URLs, which Prometheus
/// does where no relabelling could make addresses of them.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    base: &Path,
    validation: NameValidation,
    check_targets: bool,
    shown: &mut ShownMap,
) -> Vec<DiscoveryConfig> {
    let (mut discovery, mut groups) = (Vec::new(), Vec::new());
    for mechanism in &MECHANISMS {
        let Some((key, node)) = fields.take_entry(mechanism.key) else { continue };
        let mut list_shown = Vec::new();
        for item in reader.list(node, &format!("[]*{}", mechanism.go_type)) {
            if item.is_null() {
                // Text as in Prometheus:
                reader.invalid(item.id, format!("empty or null section in {}", mechanism.key));
                continue;
            }
            let shown = match mechanism.section {
                Some(section) => sections::read(reader, section, Some(item), Surroundings { base, validation }).1,
                None if mechanism.key == FILE => {
                    let (config, shown) = read_file_config(reader, item, base);
                    discovery.push(DiscoveryConfig::File(config));
                    shown
                }
                None => {
                    let (group, shown) = read_group(reader, item, groups.len(), check_targets);
                    groups.push(group);
                    shown
                }
            };
            list_shown.push(Shown::Map(shown));
        }
        if mechanism.section.is_some() && !list_shown.is_empty() {
            reader.unsupported(key.id, mechanism.key);
        }
        shown.put_seq(mechanism.key, list_shown);
    }
    if !groups.is_empty() {
        discovery.push(DiscoveryConfig::Static(groups));
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
    let node = fields.take("labels");
    let (labels, labels_shown) = node.map(|node| reader.labels(node, "model.LabelSet")).unwrap_or_default();
    fields.finish(reader);
    let mut shown = ShownMap::new();
    shown.put("targets", Shown::Seq(shown_texts(&addresses)));
    shown.put_map("labels", labels_shown);
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
