//! `/api/v1/features`: what this server can do, in the words clients look for. The category `api` is the web server's own.

use std::collections::BTreeMap;

use fk_promql_syntax::functions::FUNCTIONS;

use crate::cli::Options;

/// Feature names of one category, with whether they are there.
type Category = BTreeMap<String, bool>;

const OPERATORS: &[&str] = &[
    "!=",
    "!~",
    "%",
    "*",
    "+",
    "-",
    "/",
    "<",
    "</",
    "<=",
    "==",
    "=~",
    ">",
    ">=",
    ">/",
    "@",
    "^",
    "and",
    "atan2",
    "avg",
    "bottomk",
    "count",
    "count_values",
    "group",
    "max",
    "min",
    "or",
    "quantile",
    "stddev",
    "stdvar",
    "sum",
    "topk",
    "unless",
];

/// Discovery mechanisms Prometheus has; only those in [`DISCOVERY_BUILT`] are built.
const DISCOVERY: &[&str] = &[
    "aws",
    "azure",
    "consul",
    "digitalocean",
    "dns",
    "docker",
    "dockerswarm",
    "ec2",
    "ecs",
    "elasticache",
    "eureka",
    "file",
    "gce",
    "hetzner",
    "http",
    "ionos",
    "kubernetes",
    "kuma",
    "lightsail",
    "linode",
    "marathon",
    "msk",
    "nerve",
    "nomad",
    "oci",
    "openstack",
    "outscale",
    "ovhcloud",
    "puppetdb",
    "rds",
    "scaleway",
    "serverset",
    "stackit",
    "static",
    "triton",
    "uyuni",
    "vultr",
];
const DISCOVERY_BUILT: &[&str] = &["file", "static"];

/// Functions of templates that Prometheus names, beside those of Go.
const TEMPLATE_FUNCTIONS: &[&str] = &[
    "args",
    "externalURL",
    "first",
    "graphLink",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "label",
    "match",
    "now",
    "parseDuration",
    "pathPrefix",
    "query",
    "reReplaceAll",
    "safeHtml",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "toDuration",
    "toLower",
    "toTime",
    "toUpper",
    "urlQueryEscape",
    "value",
];

/// Every category and feature.
pub fn map(options: &Options) -> BTreeMap<String, Category> {
    let category = |features: &[(&str, bool)]| -> Category {
        features.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect()
    };
    let feature = |name: &str| options.has_feature(name);
    let experimental = feature("promql-experimental-functions");
    let fill = feature("promql-binop-fill-modifiers");
    let ranges = feature("promql-extended-range-selectors");
    let mut operators: Category = OPERATORS.iter().map(|name| ((*name).to_owned(), true)).collect();
    operators.extend([("limitk".to_owned(), experimental), ("limit_ratio".to_owned(), experimental)]);
    let functions =
        FUNCTIONS.iter().map(|function| (function.name.to_owned(), experimental || !function.experimental)).collect();
    let mut map = BTreeMap::from([
        (
            "prometheus".to_owned(),
            category(&[
                ("agent_mode", false),
                ("auto_reload_config", options.auto_reload),
                ("server_mode", true),
                // The labels of a series are one string, as with Prometheus' build of this name.
                ("stringlabels", true),
            ]),
        ),
        (
            "promql".to_owned(),
            category(&[
                ("anchored", ranges),
                ("at_modifier", true),
                ("bool", true),
                ("by", true),
                ("delayed_name_removal", feature("promql-delayed-name-removal")),
                ("duration_expr", true),
                ("fill", fill),
                ("fill_left", fill),
                ("fill_right", fill),
                ("group_left", true),
                ("group_right", true),
                ("ignoring", true),
                ("negative_offset", true),
                ("offset", true),
                ("on", true),
                ("per_query_lookback_delta", true),
                ("per_step_stats", feature("promql-per-step-stats")),
                ("smoothed", ranges),
                ("subqueries", true),
                ("type_and_unit_labels", feature("type-and-unit-labels")),
                ("without", true),
            ]),
        ),
        ("promql_functions".to_owned(), functions),
        ("promql_operators".to_owned(), operators),
        (
            "rules".to_owned(),
            category(&[
                ("concurrent_rule_eval", feature("concurrent-rule-eval")),
                ("keep_firing_for", true),
                ("query_offset", true),
            ]),
        ),
        (
            "scrape".to_owned(),
            category(&[
                ("extra_scrape_metrics", true),
                ("start_timestamp_zero_ingestion", feature("created-timestamp-zero-ingestion")),
                ("type_and_unit_labels", feature("type-and-unit-labels")),
            ]),
        ),
        (
            "tsdb".to_owned(),
            category(&[
                ("delayed_compaction", feature("delayed-compaction")),
                ("exemplar_storage", feature("exemplar-storage")),
                ("histograms_st_encoding", feature("histograms-st-encoding")),
                ("isolation", true),
                ("native_histograms", true),
                ("st_storage", feature("st-storage")),
                ("use_uncached_io", false),
                // Whether it can be chosen, not whether it is.
                ("xor2_encoding", true),
            ]),
        ),
        ("otlp_receiver".to_owned(), category(&[("delta_conversion", false), ("native_delta_ingestion", false)])),
        (
            "templating_functions".to_owned(),
            TEMPLATE_FUNCTIONS
                .iter()
                .map(|name| ((*name).to_owned(), fk_template::function_names().any(|known| known == *name)))
                .collect(),
        ),
        ("ui".to_owned(), category(&[("ui_v2", false), ("ui_v3", true)])),
        (
            "service_discovery_providers".to_owned(),
            DISCOVERY.iter().map(|name| ((*name).to_owned(), DISCOVERY_BUILT.contains(name))).collect(),
        ),
    ]);
    // As in Prometheus, these are there only where they are on.
    for (category, flag, name) in
        [("scrape", "st-synthesis", "st-synthesis"), ("tsdb", "metadata-wal-records", "metadata_wal_records")]
    {
        if feature(flag)
            && let Some(category) = map.get_mut(category)
        {
            category.insert(name.to_owned(), true);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_prometheus() {
        let Some(path) = fk_testkit::conformance("api/features.json") else { return };
        let recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let recorded = recorded.get("data").unwrap_or(&recorded);
        let own = map(&Options::parse([]).unwrap());
        let mut compared = 0;
        for (category, features) in recorded.as_object().unwrap() {
            // The web server's own.
            let Some(features) = features.as_object().filter(|_| category != "api") else { continue };
            for (name, on) in features {
                let got = own.get(category).and_then(|category| category.get(name));
                // Not all of them are built.
                let missing = category == "service_discovery_providers";
                assert!(got.is_some(), "{category} {name}");
                assert!(missing || got.copied() == on.as_bool(), "{category} {name}");
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared}");
    }
}
