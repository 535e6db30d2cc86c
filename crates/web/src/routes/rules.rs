//! Rule groups and alerts.

use actix_web::web;
use fk_model::{Labels, Matcher};
use fk_storage::TimeRange;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::answer::{ApiError, ErrorKind, success};
use crate::call::{Call, CancelOnDrop, Reply};
use crate::json::time_text_ns;
use crate::params::{Params, TIME_MAX, TIME_MIN, parse_bool, parse_duration, parse_integer};
use crate::selectors;
use crate::state::{Alert, AlertHistory, AlertState, Rule, RuleGroup, RuleHealth};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Groups<'a> {
    groups: Vec<GroupJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupJson<'a> {
    name: &'a str,
    file: &'a str,
    rules: Vec<RuleJson<'a>>,
    interval: f64,
    limit: u64,
    evaluation_time: f64,
    last_evaluation: String,
}

/// Field order as in Prometheus. What only alerting rules have is left out of recording rules, and the other way round.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<AlertState>,
    name: &'a str,
    query: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_for: Option<f64>,
    labels: PairsJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<PairsJson<'a>>,
    /// Outer: alerting rules only. Inner: `null` with `exclude_alerts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<Option<&'a [Alert]>>,
    health: RuleHealth,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_error: &'a str,
    evaluation_time: f64,
    last_evaluation: String,
    r#type: &'static str,
}

/// Names and values as an object in their order.
struct PairsJson<'a>(Vec<(&'a str, &'a str)>);

impl Serialize for PairsJson<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// The labels as the file has them, empty ones included.
fn rule_labels(rule: &Rule) -> Vec<(&str, &str)> {
    let removed = rule.removed_labels.iter().map(|name| (name.as_str(), ""));
    let mut labels: Vec<(&str, &str)> = rule.labels.iter().chain(removed).collect();
    labels.sort_unstable();
    labels
}

impl<'a> RuleJson<'a> {
    fn new(rule: &'a Rule, exclude_alerts: bool) -> RuleJson<'a> {
        let alerting = rule.alerting.as_ref();
        RuleJson {
            state: alerting.map(|a| a.state),
            name: &rule.name,
            query: &rule.query,
            duration: alerting.map(|a| a.hold_s),
            keep_firing_for: alerting.map(|a| a.keep_firing_for_s),
            labels: PairsJson(rule_labels(rule)),
            annotations: alerting
                .map(|a| PairsJson(a.annotations.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect())),
            alerts: alerting.map(|a| (!exclude_alerts).then_some(&a.alerts[..])),
            health: rule.health,
            last_error: &rule.last_error,
            evaluation_time: rule.evaluation_time_s,
            last_evaluation: time_text_ns(rule.last_evaluation),
            r#type: if alerting.is_some() { "alerting" } else { "recording" },
        }
    }
}

/// Which rules are wanted. An empty list asks for nothing in particular.
struct Filter<'a> {
    names: Vec<&'a str>,
    groups: Vec<&'a str>,
    files: Vec<&'a str>,
    selectors: Vec<Vec<Matcher>>,
    alerting: bool,
    recording: bool,
}

impl Filter<'_> {
    fn takes_group(&self, group: &RuleGroup) -> bool {
        (self.groups.is_empty() || self.groups.contains(&group.name.as_str()))
            && (self.files.is_empty() || self.files.contains(&group.file.as_str()))
    }

    fn takes_rule(&self, rule: &Rule) -> bool {
        let kind = if rule.alerting.is_some() { self.alerting } else { self.recording };
        kind && (self.names.is_empty() || self.names.contains(&rule.name.as_str())) && self.takes_labels(&rule.labels)
    }

    /// Labels are those of the file, with templates as they stand there.
    fn takes_labels(&self, labels: &Labels) -> bool {
        let takes = |m: &Matcher| m.matches(labels.value(&m.name));
        self.selectors.is_empty() || self.selectors.iter().any(|set| set.iter().all(takes))
    }
}

/// A page of the groups.
struct Paging<'a> {
    /// Most groups of one answer.
    groups_max: Option<usize>,
    /// Begin with the group of this token.
    token: Option<&'a str>,
}

impl Paging<'_> {
    fn read(params: &Params) -> Result<Paging<'_>, ApiError> {
        // Texts as in Prometheus.
        let token = Some(params.first("group_next_token")).filter(|token| !token.is_empty());
        let groups_max = match params.first("group_limit") {
            "" if token.is_some() => {
                let reason = "group_limit needs to be present in order to paginate over the groups";
                return Err(ApiError::parameter("group_next_token", reason));
            }
            "" => None,
            text => match parse_integer(text) {
                Ok(limit @ 1..) => usize::try_from(limit).ok(),
                Ok(_) => return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0")),
                Err(reason) => {
                    let reason = reason.replace("strconv.Atoi", "strconv.ParseInt");
                    let reason = format!("group_limit needs to be a valid number: {reason}");
                    return Err(ApiError::parameter("group_limit", reason));
                }
            },
        };
        Ok(Paging { groups_max, token })
    }
}

/// Names the first group of the next page.
fn token(group: &RuleGroup) -> String {
    let digest = Sha256::digest(format!("{};{}", group.file, group.name));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn rules(mut call: Call) -> Reply {
    let params = call.params().await?;
    let kind = params.first("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        // Text as in Prometheus.
        return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
    }
    let exclude_alerts = match params.first("exclude_alerts") {
        "" => false,
        text => parse_bool(text).map_err(|reason| {
            ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {reason}"))
        })?,
    };
    let filter = Filter {
        names: params.list("rule_name"),
        groups: params.list("rule_group"),
        files: params.list("file"),
        selectors: selectors::selecting_rules(params.list("match"))?,
        alerting: kind != "record",
        recording: kind != "alert",
    };
    let paging = Paging::read(&params)?;
    let groups = call.state().rules.groups();
    let found = page(&groups, &filter, &paging, exclude_alerts)?;
    success(&found)
}

fn page<'a>(
    groups: &'a [std::sync::Arc<RuleGroup>],
    filter: &Filter<'_>,
    paging: &Paging<'_>,
    exclude_alerts: bool,
) -> Result<Groups<'a>, ApiError> {
    let first = match paging.token {
        None => 0,
        // Text as in Prometheus.
        Some(wanted) => groups.iter().position(|group| token(group) == wanted).ok_or_else(|| {
            ApiError::parameter(
                "group_next_token",
                format!("invalid group_next_token '{wanted}'. were rule groups changed?"),
            )
        })?,
    };
    let mut found = Groups { groups: Vec::new(), group_next_token: None };
    for group in groups[first..].iter().filter(|group| filter.takes_group(group)) {
        let rules: Vec<RuleJson<'_>> = group
            .rules
            .iter()
            .filter(|rule| filter.takes_rule(rule))
            .map(|rule| RuleJson::new(rule, exclude_alerts))
            .collect();
        if rules.is_empty() {
            continue;
        }
        if paging.groups_max.is_some_and(|most| found.groups.len() == most) {
            found.group_next_token = Some(token(group));
            break;
        }
        found.groups.push(GroupJson {
            name: &group.name,
            file: &group.file,
            rules,
            interval: group.interval_s,
            limit: group.limit,
            evaluation_time: group.evaluation_time_s,
            last_evaluation: time_text_ns(group.last_evaluation),
        });
    }
    Ok(found)
}

pub(crate) async fn alerts(call: Call) -> Reply {
    #[derive(Serialize)]
    struct Alerts<'a> {
        alerts: Vec<&'a Alert>,
    }
    let groups = call.state().rules.groups();
    let rules = groups.iter().flat_map(|group| &group.rules);
    success(&Alerts { alerts: rules.filter_map(|rule| rule.alerting.as_ref()).flat_map(|rule| &rule.alerts).collect() })
}

/// Runs a rule group over stored data. Takes a slot and a timeout as a query does. This route is ours.
pub(crate) async fn backtest(mut call: Call) -> Reply {
    let params = call.params().await?;
    let (rules, file) = (params.first("rules").to_owned(), params.first("file").to_owned());
    if rules.is_empty() {
        return Err(ApiError::parameter("rules", "a rule group is needed"));
    }
    let range = TimeRange { mint: params.time("start")?, maxt: params.time("end")? };
    if range.maxt < range.mint {
        // Text as in Prometheus.
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let (queries, settings) = (&call.state().queries, call.state().queries.settings());
    let timeout = match params.first("timeout") {
        "" => settings.timeout,
        text => parse_duration(text)
            .and_then(|ms| u64::try_from(ms).map_err(|_| "it is negative".to_owned()))
            .map(|ms| std::time::Duration::from_millis(ms).min(settings.timeout))
            .map_err(|reason| ApiError::parameter("timeout", reason))?,
    };
    let control = queries.board().control().with_deadline(std::time::Instant::now() + timeout);
    let _cancel = CancelOnDrop(control.clone());
    let permit = tokio::time::timeout(timeout, queries.admit("backtest of a rule group", &control)).await;
    let permit = match permit {
        Ok(Ok(permit)) => permit,
        // Text as in Prometheus.
        Err(_) => return Err(ApiError::new(ErrorKind::Timeout, "query timed out in query queue")),
        Ok(Err(error)) => return Err(ApiError::new(ErrorKind::Timeout, error.to_string())),
    };
    let shared = call.shared.clone();
    let work = web::block(move || {
        let _permit = permit;
        shared.state.rules.backtest(&rules, &file, range, &control)
    });
    match work.await {
        Ok(result) => success(&result.map_err(|reason| ApiError::parameter("rules", reason))?),
        Err(_) => Err(ApiError::internal("the backtest panicked")),
    }
}

/// Most alerts of one history if nothing is said.
const HISTORY_DEFAULT: usize = 1000;

/// What became of alerts, from the ledger. This route is ours.
pub(crate) async fn history(mut call: Call) -> Reply {
    #[derive(Serialize)]
    struct Histories {
        alerts: Vec<AlertHistory>,
        /// Whether there are more.
        truncated: bool,
    }
    let params = call.params().await?;
    let selectors = selectors::selecting(params.list("match"))?;
    let range = TimeRange { mint: params.time_or("start", TIME_MIN)?, maxt: params.time_or("end", TIME_MAX)? };
    let limit = match params.limit()? {
        0 => HISTORY_DEFAULT,
        limit => limit,
    };
    let matches = |labels: &Labels, set: &[Matcher]| set.iter().all(|m| m.matches(labels.value(&m.name)));
    let wanted = |labels: &Labels| selectors.is_empty() || selectors.iter().any(|set| matches(labels, set));
    let (alerts, truncated) = call.state().rules.history(&wanted, range, limit);
    success(&Histories { alerts, truncated })
}
