//! Backtests of rule groups: from the text of a group to what it would have done, for the API and for promtool.

use std::sync::Arc;

use fk_config::{RuleGroup, load_rule_file};
use fk_model::name::NameValidation;
use fk_model::{Duration, Labels};
use fk_promql::{MatrixSeries, Query, QueryError, QueryOptions, Value};
use fk_promql_syntax::ParserOptions;
use fk_promql_syntax::ast::Expr;
use fk_rules::{
    Backtest, BacktestLimits, EvaluateError, GroupDefaults, GroupSpec, HistoryQueries, QueryResult, RuleKindName,
    RuleOptions,
};
use fk_storage::{Control, Queryable, Samples, Stopped};
use fk_web::state;

/// What errors call the text.
const FILE: &str = "rules";

/// A backtest that is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// A rule file with one group, or the group alone.
    pub rules: String,
    /// Path of the rule file, as the server knows it: the evaluation times of a group depend on it. May be empty.
    pub file: String,
    /// First evaluation time at the earliest, ms.
    pub start_ms: i64,
    /// Last evaluation time at the latest, ms.
    pub end_ms: i64,
}

/// Where a backtest runs.
#[derive(Clone, Debug)]
pub struct World {
    /// Which parts of the language are on.
    pub parser: ParserOptions,
    /// How names are judged.
    pub validation: NameValidation,
    /// Settings of queries.
    pub options: QueryOptions,
    /// What groups take from the configuration.
    pub defaults: GroupDefaults,
    /// `global.external_labels`
    pub external_labels: Labels,
    /// `--web.external-url`
    pub external_url: Arc<str>,
    /// The flags about rules.
    pub rules: RuleOptions,
}

/// Reads the group of a text: of a rule file with one group, or of that group alone.
pub fn read_group(text: &str, validation: NameValidation, parser: &ParserOptions) -> Result<RuleGroup, String> {
    let is_file = text.lines().any(|line| line.starts_with("groups:") || line.starts_with("{groups:"));
    let read = if is_file {
        load_rule_file(FILE, text, validation, parser)
    } else {
        // As the only element of a list, which moves every place by one line and two columns.
        let listed: String = text.lines().map(|line| format!("  {line}\n")).collect();
        load_rule_file(FILE, &format!("groups:\n- {}", listed.trim_start_matches(' ')), validation, parser).map_err(
            |mut problems| {
                for problem in &mut problems.problems {
                    problem.line = problem.line.saturating_sub(1);
                    problem.column = problem.column.saturating_sub(2);
                }
                problems
            },
        )
    };
    let (mut file, _) = read.map_err(|problems| problems.to_string())?;
    match (file.groups.pop(), file.groups.len()) {
        (Some(group), 0) => Ok(group),
        (None, _) => Err(format!("{FILE}: there is no rule group")),
        (Some(_), more) => Err(format!("{FILE}: one rule group is tested at a time, not {}", more + 1)),
    }
}

/// Runs a backtest on `storage`, until `control` ends it.
pub fn run(asked: &Asked, world: &World, storage: &dyn Queryable, control: &Control) -> Result<Backtest, String> {
    if asked.end_ms < asked.start_ms {
        return Err("end timestamp must not be before start time".to_owned());
    }
    let group = read_group(&asked.rules, world.validation, &world.parser)?;
    let spec = GroupSpec {
        file: asked.file.as_str().into(),
        group: Arc::new(group),
        defaults: world.defaults,
        external_labels: world.external_labels.clone(),
        external_url: Arc::clone(&world.external_url),
        options: world.rules,
        restore: false,
        quiet: true,
    };
    let queries = Past { parser: world.parser, options: &world.options, control };
    let times = (asked.start_ms, asked.end_ms);
    Ok(fk_rules::backtest(spec, times, storage, &queries, &BacktestLimits::default(), control))
}

/// The result as the API shows it.
pub fn shown(result: Backtest) -> state::BacktestReport {
    let alert = |alert: fk_rules::BacktestAlert| state::BacktestAlert {
        labels: alert.labels,
        sends: alert.sends,
        events: alert
            .events
            .iter()
            .map(|event| state::BacktestEvent { state: event.event.name(), time: event.at_ms, value: event.value })
            .collect(),
    };
    let rule = |rule: fk_rules::BacktestRule| {
        let (first_failure, first_error) = rule.first_error.unzip();
        state::BacktestRule {
            name: rule.name,
            r#type: match rule.kind {
                RuleKindName::Alerting => "alerting",
                RuleKindName::Recording => "recording",
            },
            failures: rule.failures,
            first_failure,
            first_error: first_error.unwrap_or_default(),
        }
    };
    let (first_evaluation, last_evaluation) = result.times.unzip();
    state::BacktestReport {
        evaluations: result.steps,
        first_evaluation,
        last_evaluation,
        notifications: result.notifications,
        sends: result.sends,
        rules: result.rules.into_iter().map(rule).collect(),
        alerts: result.alerts.into_iter().map(alert).collect(),
        stopped: result.stopped.unwrap_or_default(),
    }
}

/// Settings for a group that is tested without a server: those of a server without flags.
pub fn plain_world(parser: ParserOptions, interval: Duration) -> World {
    World {
        parser,
        validation: NameValidation::Utf8,
        options: QueryOptions { default_subquery_step_ms: interval.as_millis(), ..QueryOptions::default() },
        defaults: GroupDefaults { interval, query_offset: Duration::ZERO },
        external_labels: Labels::empty(),
        external_url: "".into(),
        rules: RuleOptions::default(),
    }
}

/// PromQL on the storage that the backtest puts together.
struct Past<'a> {
    parser: ParserOptions,
    options: &'a QueryOptions,
    control: &'a Control,
}

impl Past<'_> {
    fn ask(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
    ) -> Result<Value, EvaluateError> {
        let query = Query { expr, text: "", start_ms, end_ms, step_ms, options: self.options, control: self.control };
        match fk_promql::evaluate(storage, &query) {
            Ok(answer) => Ok(answer.value),
            Err(error @ QueryError::Stopped(Stopped::Cancelled)) => Err(EvaluateError::Cancelled(error.to_string())),
            Err(error) => Err(EvaluateError::Failed(error.to_string())),
        }
    }
}

impl HistoryQueries for Past<'_> {
    fn instant(&self, storage: &dyn Queryable, expr: &Expr, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        self.ask(storage, expr, (ts_ms, ts_ms, 0)).map(crate::evaluation::rule_result)
    }

    fn instant_text(&self, storage: &dyn Queryable, text: &str, ts_ms: i64) -> Result<QueryResult, EvaluateError> {
        let expr =
            fk_promql_syntax::parse(text, &self.parser).map_err(|errors| EvaluateError::Failed(errors.to_string()))?;
        self.instant(storage, &expr, ts_ms)
    }

    fn range(
        &self,
        storage: &dyn Queryable,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<(Labels, Samples)>, EvaluateError> {
        let Value::Matrix(series) = self.ask(storage, expr, (start_ms, end_ms, step_ms.max(1)))? else {
            return Err(EvaluateError::Failed("the expression has no values at times".to_owned()));
        };
        let columns = |one: MatrixSeries| {
            (one.labels, Samples { t: one.t, v: one.v, histograms: one.histograms, starts: Vec::new() })
        };
        Ok(series.into_iter().map(columns).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_alone_or_in_its_file() {
        let read = |text: &str| read_group(text, NameValidation::Utf8, &ParserOptions::default());
        for text in [
            "name: g\nrules:\n- record: a\n  expr: up\n",
            "groups:\n- name: g\n  rules: [{record: a, expr: up}]\n",
            "# why\nname: g\nrules: [{record: a, expr: up}]\n",
            "{groups: [{name: g, rules: [{record: a, expr: up}]}]}",
        ] {
            let group = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((group.name.as_str(), group.rules.len()), ("g", 1), "{text}");
        }
        let error = read("name: g\nrules:\n- record: a\n  expr: up(\n").unwrap_err();
        assert!(error.starts_with("rules: 4:9: group \"g\", rule 1, \"a\": could not parse expression"), "{error}");
        assert_eq!(read("groups: []").unwrap_err(), "rules: there is no rule group");
        let two = "groups:\n- {name: a, rules: []}\n- {name: b, rules: []}\n";
        assert_eq!(read(two).unwrap_err(), "rules: one rule group is tested at a time, not 2");
    }
}
