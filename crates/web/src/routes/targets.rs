//! Scrape targets, their metadata, and Alertmanagers.

use std::collections::{BTreeMap, BTreeSet};

use fk_model::Matcher;
use serde::Serialize;
use serde_json::json;

use crate::answer::{ApiError, ErrorKind, success};
use crate::call::{Call, Reply};
use crate::json::LabelsJson;
use crate::params::parse_integer;
use crate::routes::lifecycle::lifecycle_disabled;
use crate::selectors;
use crate::state::{ActiveTarget, DroppedTarget, RelabelStep, TrialError, WebOptions};

pub(crate) async fn pools(call: Call) -> Reply {
    let names: Vec<String> = call.state().targets.pools().into_iter().map(|pool| pool.name).collect();
    success(&json!({ "scrapePools": names }))
}

pub(crate) async fn pool_config(mut call: Call) -> Reply {
    let params = call.params().await?;
    let name = params.first("scrapePool");
    if name.is_empty() {
        return Err(ApiError::parameter("scrapePool", "a scrape pool name is required"));
    }
    match call.state().targets.pools().into_iter().find(|pool| pool.name == name) {
        Some(pool) => success(&json!({ "yaml": &*pool.config_yaml })),
        None => Err(ApiError::new(ErrorKind::NotFound, format!("scrape pool {name:?} not found"))),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<ActiveTarget>,
    dropped_targets: Vec<DroppedTarget>,
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

pub(crate) async fn targets(mut call: Call) -> Reply {
    let params = call.params().await?;
    let state = params.first("state").to_lowercase();
    let shows = |kind: &str| state.is_empty() || state == "any" || state == kind;
    let (active, dropped) = (shows("active"), shows("dropped"));
    let wanted_pool = params.first("scrapePool");
    let mut found = Targets {
        active_targets: Vec::new(),
        dropped_targets: Vec::new(),
        dropped_target_counts: dropped.then(BTreeMap::new),
    };
    for mut pool in call.state().targets.pools() {
        // The counts are of all pools, whichever is asked for.
        if let Some(counts) = &mut found.dropped_target_counts {
            counts.insert(pool.name.clone(), pool.dropped_count);
        }
        if !wanted_pool.is_empty() && pool.name != wanted_pool {
            continue;
        }
        if active {
            for target in pool.active.iter_mut().filter(|target| target.global_url.is_empty()) {
                target.global_url = global_url(&target.scrape_url, &call.state().options);
            }
            found.active_targets.append(&mut pool.active);
        }
        if dropped {
            found.dropped_targets.append(&mut pool.dropped);
        }
    }
    success(&found)
}

/// A scrape URL as people elsewhere must write it: a target on this machine is reached under the host of the external
/// URL, and the server itself under the whole external URL.
pub(crate) fn global_url(scrape_url: &str, options: &WebOptions) -> String {
    let Some((scheme, rest)) = scrape_url.split_once("://") else { return scrape_url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = split_port(authority);
    if !matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        return scrape_url.to_owned();
    }
    let Some((external_scheme, external)) = options.external_url.split_once("://") else {
        return scrape_url.to_owned();
    };
    let external_authority = &external[..external.find('/').unwrap_or(external.len())];
    match port {
        Some(port) if port == options.listen_port.to_string() => {
            format!("{external_scheme}://{external_authority}{path}")
        }
        Some(port) => format!("{scheme}://{}:{port}{path}", split_port(external_authority).0),
        None => format!("{scheme}://{}{path}", split_port(external_authority).0),
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A limit of the metadata routes: absent or negative means no limit.
fn metadata_limit(name: &str, text: &str) -> Result<Option<usize>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    // Text as in Prometheus.
    let limit = parse_integer(text).map_err(|_| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(limit).ok())
}

pub(crate) async fn target_metadata(mut call: Call) -> Reply {
    let params = call.params().await?;
    let limit = metadata_limit("limit", params.first("limit"))?.unwrap_or(usize::MAX);
    let matchers: Vec<Matcher> = match params.first("match_target") {
        "" => Vec::new(),
        text => selectors::any("match_target", text)?,
    };
    let metric = Some(params.first("metric")).filter(|metric| !metric.is_empty());

    #[derive(Serialize)]
    struct Row<'a> {
        target: LabelsJson<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metric: Option<&'a str>,
        r#type: &'a str,
        help: &'a str,
        unit: &'a str,
    }
    let found = call.state().targets.metadata(metric);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for target in found.iter().filter(|target| Matcher::all_match(&matchers, &target.target)) {
        // As in Prometheus the limit ends the list between two targets, never within one.
        if rows.len() >= limit {
            break;
        }
        rows.extend(target.metrics.iter().map(|m| Row {
            target: LabelsJson(&target.target),
            // Whoever asks for one metric knows its name.
            metric: metric.is_none().then_some(&m.metric),
            r#type: &m.kind,
            help: &m.help,
            unit: &m.unit,
        }));
    }
    success(&rows)
}

pub(crate) async fn metadata(mut call: Call) -> Reply {
    let params = call.params().await?;
    let limit = metadata_limit("limit", params.first("limit"))?.unwrap_or(usize::MAX);
    let per_metric =
        metadata_limit("limit_per_metric", params.first("limit_per_metric"))?.filter(|n| *n > 0).unwrap_or(usize::MAX);
    let metric = Some(params.first("metric")).filter(|metric| !metric.is_empty());

    #[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Entry<'a> {
        r#type: &'a str,
        unit: &'a str,
        help: &'a str,
    }
    let found = call.state().targets.metadata(metric);
    let mut by_metric: BTreeMap<&str, BTreeSet<Entry<'_>>> = BTreeMap::new();
    for m in found.iter().flat_map(|target| &target.metrics) {
        let entries = by_metric.entry(&m.metric).or_default();
        if entries.len() < per_metric {
            entries.insert(Entry { r#type: &m.kind, unit: &m.unit, help: &m.help });
        }
    }
    while by_metric.len() > limit {
        by_metric.pop_last();
    }
    success(&by_metric)
}

/// A relabelling rule as the API shows it.
#[derive(Serialize)]
struct Rule<'r> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    source_labels: &'r [String],
    separator: &'r str,
    regex: &'r str,
    #[serde(skip_serializing_if = "is_zero")]
    modulus: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    target_label: &'r str,
    replacement: &'r str,
    action: &'r str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub(crate) async fn relabel_steps(mut call: Call) -> Reply {
    let params = call.params().await?;
    let pool = params.first("scrapePool");
    let labels = params.first("labels");
    // Texts as in Prometheus:
    for (text, name) in [(pool, "scrapePool"), (labels, "labels")] {
        if text.is_empty() {
            return Err(ApiError::bad_data(format!("no {name} parameter provided")));
        }
    }
    let labels: BTreeMap<String, String> =
        serde_json::from_str(labels).map_err(|error| ApiError::bad_data(format!("error parsing labels: {error}")))?;
    let labels = fk_model::Labels::from_pairs(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let Some(steps) = call.state().targets.relabel_steps(pool, labels) else {
        let text = format!("error retrieving scrape config: scrape pool {pool:?} not found");
        return Err(ApiError::bad_data(text));
    };

    #[derive(Serialize)]
    struct Step<'s> {
        rule: Rule<'s>,
        output: LabelsJson<'s>,
        keep: bool,
    }
    #[derive(Serialize)]
    struct Steps<'s> {
        steps: Vec<Step<'s>>,
    }
    fn shown(step: &RelabelStep) -> Step<'_> {
        let rule = &step.rule;
        let rule = Rule {
            source_labels: &rule.source_labels,
            separator: &rule.separator,
            regex: rule.regex.source(),
            modulus: rule.modulus,
            target_label: &rule.target_label,
            replacement: &rule.replacement,
            action: rule.action.name(),
        };
        Step { rule, output: LabelsJson(&step.output), keep: step.keep }
    }
    success(&Steps { steps: steps.iter().map(shown).collect() })
}

/// Targets of an answer about scrapes, unless it asks for another number.
const SCRAPES_TARGETS: usize = 100;

/// Ours: the last scrapes of the targets of a pool, and the bodies that failed.
pub(crate) async fn scrapes(mut call: Call) -> Reply {
    let params = call.params().await?;
    let pool = params.first("scrapePool");
    if pool.is_empty() {
        return Err(ApiError::parameter("scrapePool", "a scrape pool name is required"));
    }
    let url = Some(params.first("scrapeUrl")).filter(|url| !url.is_empty());
    let limit = metadata_limit("limit", params.first("limit"))?.unwrap_or(SCRAPES_TARGETS);
    match call.state().targets.scrapes(pool, url, limit) {
        Some(targets) => success(&json!({ "targets": targets })),
        None => Err(ApiError::new(ErrorKind::NotFound, format!("scrape pool {pool:?} not found"))),
    }
}

fn no_target(id: &str) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("no target has the id {id:?}"))
}

/// Ours: the same of one target.
pub(crate) async fn scrapes_of(call: Call) -> Reply {
    let id = call.segment(4)?;
    success(&call.state().targets.scrapes_of(&id).ok_or_else(|| no_target(&id))?)
}

/// Ours: scrapes a target now and stores nothing. As it makes the server ask somebody, it is among what the lifecycle flag allows.
pub(crate) async fn try_scrape(call: Call) -> Reply {
    if !call.state().options.lifecycle {
        return Ok(lifecycle_disabled());
    }
    let id = call.segment(4)?;
    match call.state().targets.try_scrape(&id).await {
        Ok(trial) => success(&trial),
        Err(TrialError::NotFound) => Err(no_target(&id)),
        Err(TrialError::Stopping) => Err(ApiError::new(ErrorKind::Unavailable, "the server is stopping")),
        Err(TrialError::Busy(running)) => {
            Err(ApiError::new(ErrorKind::ReadOnly, format!("{running} scrapes on demand are under way already")))
        }
    }
}

pub(crate) async fn alertmanagers(call: Call) -> Reply {
    let urls = |urls: Vec<String>| urls.into_iter().map(|url| json!({ "url": url })).collect::<Vec<_>>();
    let view = &call.state().alertmanagers;
    success(&json!({ "activeAlertmanagers": urls(view.active()), "droppedAlertmanagers": urls(view.dropped()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_targets_are_shown_under_the_external_url() {
        let options = WebOptions {
            external_url: "https://prom.example:8443/p".into(),
            listen_port: 9090,
            ..WebOptions::default()
        };
        for (scraped, shown) in [
            ("http://localhost:9090/metrics", "https://prom.example:8443/metrics"),
            ("http://127.0.0.1:9100/metrics?x=y", "http://prom.example:9100/metrics?x=y"),
            ("http://[::1]:80/m", "http://prom.example:80/m"),
            ("http://localhost/m", "http://prom.example/m"),
            ("http://other:9090/metrics", "http://other:9090/metrics"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(global_url(scraped, &options), shown);
        }
    }
}
