//! `info()`: adds the labels of info series (`target_info` and the like) to series of the same instance and job.
//!
//! Which info series belongs to a series may change from step to step. Per series, each combination of info series that
//! occurs gives one output series, whose labels are put together once.

use fk_model::{Labels, LabelsBuilder, METRIC_NAME, MatchKind, Matcher};
use fk_promql_syntax::ast::{Call, Expr, ExprKind};
use fk_storage::Reservation;
use hashbrown::{HashMap, HashSet};

use crate::QueryError;
use crate::column::{Bits, Column, Grid, Series};
use crate::eval::{Eval, Sink, strip_parens, unexpected};
use crate::keys::{Choice, Keys};
use crate::select::Shown;

/// The labels by which info series are found.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Info metric where none is named.
const TARGET_INFO: &str = "target_info";

/// Info metrics where only names that are not wanted are given.
const ANY_INFO: &str = ".+_info";

/// What the second argument asks for.
struct Wanted<'q> {
    /// Matchers of the info metrics' names; never empty.
    names: Vec<Matcher>,
    /// Matchers of labels to be added; empty: all labels.
    data: Vec<&'q Matcher>,
}

impl Wanted<'_> {
    fn read(selector: Option<&Expr>) -> Result<Wanted<'_>, QueryError> {
        let matchers: &[Matcher] = match selector.map(|expr| (expr, &strip_parens(expr).kind)) {
            None => &[],
            Some((_, ExprKind::VectorSelector(selector))) => &selector.matchers,
            Some((expr, _)) => return Err(unexpected(expr, "selector")),
        };
        let (names, data): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| m.name == METRIC_NAME);
        let mut names: Vec<Matcher> = names.into_iter().cloned().collect();
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if !names.iter().any(is_positive) {
            let any = Matcher::new(MatchKind::Regex, METRIC_NAME, ANY_INFO);
            names.push(any.map_err(|e| QueryError::execution(e.to_string()))?);
        }
        Ok(Wanted { names, data })
    }

    /// Whether a series with this metric name is an info series itself, which stays as it is.
    fn is_info(&self, name: &str) -> bool {
        self.names.iter().all(|matcher| matcher.matches(name))
    }

    fn adds(&self, label: &str) -> bool {
        label != METRIC_NAME && (self.data.is_empty() || self.data.iter().any(|m| m.name == label))
    }
}

fn is_positive(matcher: &Matcher) -> bool {
    matches!(matcher.kind, MatchKind::Equal | MatchKind::Regex)
}

/// The info series by identity and metric name.
struct InfoSeries {
    series: Vec<Series>,
    /// By number of the identity: for each metric name the series that have it.
    by_identity: Vec<Vec<Vec<usize>>>,
    /// What they count for.
    memory: Reservation,
}

impl Eval<'_> {
    /// `info(v, selector)`
    pub(crate) fn info(&self, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let [base_expr, rest @ ..] = &call.args[..] else {
            return Err(QueryError::execution("info() takes at least one argument"));
        };
        let wanted = Wanted::read(rest.first())?;
        let mut base = self.collect(base_expr, grid)?;
        let names = IDENTIFYING.map(str::to_owned);
        let identity = Choice::only(&names);
        let mut keys = Keys::default();
        let infos = self.info_series(base_expr, &base.series, &wanted, &identity, &mut keys, grid)?;
        let optional = wanted.data.iter().all(|matcher| matcher.matches_empty());
        self.merged(sink, |sink| {
            for mut series in std::mem::take(&mut base.series) {
                self.control().check()?;
                base.release(&series);
                if wanted.is_info(series.labels.metric_name()) {
                    sink(&mut series)?;
                    continue;
                }
                let found = keys.find(&identity, &series.labels).map_or(&[][..], |at| &infos.by_identity[at]);
                enrich(&series, found, &infos.series, &wanted, optional, grid, sink)?;
            }
            Ok(())
        })
    }

    /// The info series that may belong to one of `base`; their values are the times of their samples.
    fn info_series(
        &self,
        base_expr: &Expr,
        base: &[Series],
        wanted: &Wanted<'_>,
        identity: &Choice<'_>,
        keys: &mut Keys,
        grid: &Grid,
    ) -> Result<InfoSeries, QueryError> {
        let mut infos = InfoSeries { series: Vec::new(), by_identity: Vec::new(), memory: self.control().reserve() };
        let to_enrich = || base.iter().filter(|series| !wanted.is_info(series.labels.metric_name()));
        let values =
            IDENTIFYING.map(|label| to_enrich().filter_map(|s| s.labels.get(label)).collect::<HashSet<&str>>());
        if values.iter().all(HashSet::is_empty) {
            return Ok(infos);
        }
        let mut matchers = wanted.names.clone();
        matchers.extend(wanted.data.iter().map(|matcher| (*matcher).clone()));
        for (label, values) in IDENTIFYING.iter().zip(&values) {
            if let (1, Some(only)) = (values.len(), values.iter().next()) {
                matchers.push(Matcher::equal(*label, *only));
            }
        }
        let mut active = Bits::none(grid.n);
        base.iter().for_each(|series| active.or(&series.col.ok));
        let refs = self.info_references(base_expr, grid)?;
        let mut metric_names: HashMap<String, usize> = HashMap::new();
        self.instant_at(&matchers, &refs, grid, Shown::Time, &mut |series| {
            if series.col.has_histograms() {
                // Text as in Prometheus:
                let text = format!("this should be an info metric, with float samples: {}", series.labels);
                return Err(QueryError::execution(text));
            }
            let known = |(label, values): (&&str, &HashSet<&str>)| {
                values.is_empty() || values.contains(series.labels.value(label))
            };
            if !IDENTIFYING.iter().zip(&values).all(known) {
                return Ok(());
            }
            self.touch(infos.series.len() * grid.n)?;
            self.take_memory(&mut infos.memory, series.bytes())?;
            let (at, is_new) = keys.number(identity, &series.labels);
            if is_new {
                infos.by_identity.push(Vec::new());
            }
            let next = metric_names.len();
            let name = *metric_names.entry(series.labels.metric_name().to_owned()).or_insert(next);
            let by_name = &mut infos.by_identity[at];
            if by_name.len() <= name {
                by_name.resize(name + 1, Vec::new());
            }
            for other in by_name[name].iter().map(|at| &infos.series[*at]) {
                let mut both = other.col.ok.clone();
                both.and(&series.col.ok);
                both.and(&active);
                if let Some(step) = both.iter().find(|step| other.col.v[*step] == series.col.v[*step]) {
                    let t = (series.col.v[step] * 1000.0).round();
                    // Text as in Prometheus:
                    return Err(QueryError::execution(format!(
                        "found duplicate series for info metric: existing {} @ {t}, new {} @ {t}",
                        other.labels, series.labels
                    )));
                }
            }
            by_name[name].push(infos.series.len());
            infos.series.push(std::mem::take(series));
            Ok(())
        })?;
        Ok(infos)
    }

    /// The times at which the first selector in the expression reads its samples: info series are read at the same.
    fn info_references(&self, expr: &Expr, grid: &Grid) -> Result<Grid, QueryError> {
        let mut refs = *grid;
        for expr in path_to_selector(expr).unwrap_or_default() {
            let (at, offset) = match &expr.kind {
                ExprKind::Subquery(subquery) => (subquery.at, &subquery.offset),
                ExprKind::VectorSelector(selector) => (selector.at, &selector.offset),
                ExprKind::MatrixSelector(matrix) => (matrix.selector.at, &matrix.selector.offset),
                _ => continue,
            };
            refs = self.references(&refs, at, offset)?;
        }
        Ok(refs)
    }
}

/// The nodes from the expression down to its first selector.
fn path_to_selector(expr: &Expr) -> Option<Vec<&Expr>> {
    let mut path = match &expr.kind {
        ExprKind::VectorSelector(_) | ExprKind::MatrixSelector(_) => Some(Vec::new()),
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => None,
        ExprKind::Subquery(subquery) => path_to_selector(&subquery.expr),
        ExprKind::Aggregate(aggregate) => path_to_selector(&aggregate.expr),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => path_to_selector(expr),
        ExprKind::Call(call) => call.args.iter().find_map(path_to_selector),
        ExprKind::Binary(binary) => path_to_selector(&binary.lhs).or_else(|| path_to_selector(&binary.rhs)),
    }?;
    path.insert(0, expr);
    Some(path)
}

/// Hands on `series` with the labels of the info series that belong to it at each step. `found`: by metric name, indexes
/// into `infos`. Without one the series goes on as it is if labels are `optional`, else not at all.
fn enrich(
    series: &Series,
    found: &[Vec<usize>],
    infos: &[Series],
    wanted: &Wanted<'_>,
    optional: bool,
    grid: &Grid,
    sink: Sink<'_>,
) -> Result<(), QueryError> {
    let mut by_choice: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut out: Vec<Series> = Vec::new();
    let mut chosen = Vec::new();
    for step in series.col.ok.iter() {
        chosen.clear();
        // Of each metric the info series with the newest sample.
        let newest = |candidates: &Vec<usize>| {
            let present = candidates.iter().filter(|at| infos[**at].col.ok.get(step));
            present.copied().max_by(|a, b| infos[*a].col.v[step].total_cmp(&infos[*b].col.v[step]))
        };
        chosen.extend(found.iter().filter_map(newest));
        if chosen.is_empty() && !optional {
            continue;
        }
        let at = match by_choice.get(&chosen) {
            Some(at) => *at,
            None => {
                let labels = with_info_labels(&series.labels, chosen.iter().map(|at| &infos[*at].labels), wanted)?;
                by_choice.insert(chosen.clone(), out.len());
                out.push(Series { labels, drop_name: series.drop_name, col: Column::none(grid.n) });
                out.len() - 1
            }
        };
        out[at].col.set_value(step, series.col.value(step));
    }
    out.iter_mut().try_for_each(sink)
}

/// The labels together with those of the info series, which do not replace any.
fn with_info_labels<'l>(
    labels: &Labels,
    infos: impl Iterator<Item = &'l Labels>,
    wanted: &Wanted<'_>,
) -> Result<Labels, QueryError> {
    let mut added = LabelsBuilder::new();
    for (name, value) in infos.flat_map(Labels::iter).filter(|(name, _)| wanted.adds(name)) {
        match added.get(name) {
            // Text as in Prometheus:
            Some(other) if other != value => return Err(QueryError::execution(format!("conflicting label: {name}"))),
            Some(_) => {}
            None if labels.get(name).is_none() => {
                added.set(name, value);
            }
            None => {}
        }
    }
    let mut all = LabelsBuilder::from(labels);
    added.iter().for_each(|(name, value)| {
        all.set(name, value);
    });
    Ok(all.build())
}
