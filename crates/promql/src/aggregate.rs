//! Aggregations that fold series into groups as they come: memory is groups times steps, not series times steps.
//!
//! Lanes are steps: a series is added to its group over all steps at once, and within each step the order of addition is
//! that of the series, as in Prometheus.

use fk_model::{Labels, METRIC_NAME};
use fk_promql_syntax::ast::{Aggregate, AggregateOp, Expr, Grouping, Pos};
use hashbrown::HashMap;

use crate::QueryError;
use crate::column::{Bits, Column, Grid, Series};
use crate::eval::{Eval, Sink, unexpected};
use crate::histograms::aggregate::{HistogramFold, ignore};
use crate::keys::{Choice, Keys};
use crate::math::{self, Mean, kahan};
use crate::relabel::{invalid_label_name, is_label_name, with_label};

/// Groups with more members than this look at the clock at every step, others every [`STEPS_PER_CHECK`].
pub(crate) const MEMBERS_PER_CHECK: usize = 1000;
/// See [`MEMBERS_PER_CHECK`].
pub(crate) const STEPS_PER_CHECK: usize = 256;

/// The running state of one group, by step.
enum Fold {
    Sum {
        sum: Vec<f64>,
        c: Vec<f64>,
    },
    Avg(Vec<Mean>),
    Count(Vec<f64>),
    Min(Vec<f64>),
    Max(Vec<f64>),
    Group,
    /// Count, mean, and sum of squared distances (Welford).
    Variance {
        count: Vec<f64>,
        mean: Vec<f64>,
        squares: Vec<f64>,
        root: bool,
    },
}

/// A group under way.
struct Group {
    labels: Labels,
    drop_name: bool,
    /// Steps at which some series had a value.
    ok: Bits,
    fold: Fold,
    /// The histograms, from the first one on.
    histograms: Option<Box<HistogramFold>>,
}

impl Fold {
    fn new(op: AggregateOp, n: usize) -> Option<Fold> {
        let column = |v: f64| vec![v; n];
        Some(match op {
            // Negative zero is the one number that leaves every other unchanged when added to it.
            AggregateOp::Sum => Fold::Sum { sum: column(-0.0), c: column(0.0) },
            AggregateOp::Avg => Fold::Avg(vec![Mean::new(0.0); n]),
            AggregateOp::Count => Fold::Count(column(0.0)),
            AggregateOp::Min => Fold::Min(column(f64::NAN)),
            AggregateOp::Max => Fold::Max(column(f64::NAN)),
            AggregateOp::Group => Fold::Group,
            AggregateOp::Stddev | AggregateOp::Stdvar => Fold::Variance {
                count: column(0.0),
                mean: column(0.0),
                squares: column(0.0),
                root: op == AggregateOp::Stddev,
            },
            _ => return None,
        })
    }

    /// Memory it takes for `n` steps.
    fn bytes(&self, n: usize) -> usize {
        n * match self {
            Fold::Sum { .. } => 16,
            Fold::Avg(_) => size_of::<Mean>(),
            Fold::Count(_) | Fold::Min(_) | Fold::Max(_) | Fold::Group => 8,
            Fold::Variance { .. } => 24,
        }
    }

    /// Adds one value; `first` if the group has none yet at this step.
    #[inline]
    fn add(&mut self, step: usize, v: f64, first: bool) {
        match self {
            Fold::Sum { sum, c } => (sum[step], c[step]) = kahan(v, sum[step], c[step]),
            Fold::Avg(means) if first => means[step] = Mean::new(v),
            Fold::Avg(means) => means[step].add(v),
            Fold::Count(counts) => counts[step] += 1.0,
            Fold::Min(least) => {
                if least[step] > v || least[step].is_nan() {
                    least[step] = v;
                }
            }
            Fold::Max(most) => {
                if most[step] < v || most[step].is_nan() {
                    most[step] = v;
                }
            }
            Fold::Group => {}
            Fold::Variance { count, mean, squares, .. } => {
                count[step] += 1.0;
                if first {
                    mean[step] = v;
                    squares[step] = if v.is_finite() { 0.0 } else { f64::NAN };
                } else {
                    let delta = v - mean[step];
                    mean[step] += delta / count[step];
                    squares[step] += delta * (v - mean[step]);
                }
            }
        }
    }

    /// Adds a value at every step, in loops without branches where that matters.
    fn add_all(&mut self, v: &[f64], seen: &Bits) {
        match self {
            Fold::Sum { sum, c } => {
                for ((sum, c), v) in sum.iter_mut().zip(c).zip(v) {
                    (*sum, *c) = kahan(*v, *sum, *c);
                }
            }
            Fold::Count(counts) => counts.iter_mut().for_each(|count| *count += 1.0),
            Fold::Min(least) => {
                for (least, v) in least.iter_mut().zip(v) {
                    *least = if *least > *v || least.is_nan() { *v } else { *least };
                }
            }
            Fold::Max(most) => {
                for (most, v) in most.iter_mut().zip(v) {
                    *most = if *most < *v || most.is_nan() { *v } else { *most };
                }
            }
            Fold::Group => {}
            Fold::Avg(_) | Fold::Variance { .. } => {
                v.iter().enumerate().for_each(|(step, v)| self.add(step, *v, !seen.get(step)));
            }
        }
    }

    fn finish(self, n: usize) -> Vec<f64> {
        match self {
            Fold::Sum { sum, c } => sum.into_iter().zip(c).map(|(sum, c)| sum + c).collect(),
            Fold::Avg(means) => means.iter().map(Mean::get).collect(),
            Fold::Count(v) | Fold::Min(v) | Fold::Max(v) => v,
            Fold::Group => vec![1.0; n],
            Fold::Variance { count, squares, root, .. } => {
                let variance = squares.into_iter().zip(count).map(|(squares, count)| squares / count);
                if root { variance.map(f64::sqrt).collect() } else { variance.collect() }
            }
        }
    }
}

/// Which labels make a group.
pub(crate) fn choice(grouping: &Grouping) -> Choice<'_> {
    match grouping {
        Grouping::By(names) => Choice::only(names),
        Grouping::Without(names) => Choice::without(names.iter().map(String::as_str).chain([METRIC_NAME])),
    }
}

impl Eval<'_> {
    /// An aggregation.
    pub(crate) fn aggregate(
        &self,
        aggregate: &Aggregate,
        at: Pos,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let param = || aggregate.param.as_ref().ok_or_else(|| unexpected(&aggregate.expr, "a parameter"));
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
                self.select_k(aggregate, param()?, at, grid, sink)
            }
            AggregateOp::LimitRatio => self.limit_ratio(aggregate, param()?, grid, sink),
            AggregateOp::Quantile => self.quantile(aggregate, param()?, grid, sink),
            AggregateOp::CountValues => self.count_values(aggregate, param()?, grid, sink),
            _ => self.fold(aggregate, grid, sink),
        }
    }

    fn fold(&self, aggregate: &Aggregate, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let choice = choice(&aggregate.grouping);
        let mut keys = Keys::default();
        let mut groups: Vec<Group> = Vec::new();
        let mut memory = self.control().reserve();
        self.want(&aggregate.expr, &choice);
        self.vector(&aggregate.expr, grid, &mut |series| {
            let (at, is_new) = keys.number(&choice, &series.labels);
            if is_new {
                self.touch((groups.len() + 1) * grid.n)?;
                let fold = Fold::new(aggregate.op, grid.n)
                    .ok_or_else(|| QueryError::Unsupported(format!("aggregation {:?}", aggregate.op)))?;
                let labels = choice.labels(&series.labels);
                self.take_memory(&mut memory, labels.byte_len() + size_of::<Group>() + fold.bytes(grid.n))?;
                groups.push(Group { labels, drop_name: false, ok: Bits::none(grid.n), fold, histograms: None });
            }
            let group = &mut groups[at];
            group.drop_name |= series.drop_name;
            if series.col.has_histograms() {
                self.fold_histograms(aggregate, group, series, grid);
            }
            if series.col.ok.count() == grid.n {
                group.fold.add_all(&series.col.v, &group.ok);
            } else {
                series.col.iter().for_each(|(step, v)| group.fold.add(step, v, !group.ok.get(step)));
            }
            group.ok.or(&series.col.ok);
            Ok(())
        })?;
        // A selector that had nothing to look for has not asked.
        drop(self.take_wanted());
        for group in groups {
            let mut col = Column { v: group.fold.finish(grid.n), ok: group.ok, h: None };
            if let Some(histograms) = group.histograms {
                histograms.finish(&mut col, aggregate.expr.pos, &mut self.notes.borrow_mut());
            }
            if col.ok.is_empty() {
                continue;
            }
            sink(&mut Series { labels: group.labels, drop_name: group.drop_name, col })?;
        }
        Ok(())
    }

    /// Takes the histograms out of a series and treats them as the aggregation does.
    fn fold_histograms(&self, aggregate: &Aggregate, group: &mut Group, series: &mut Series, grid: &Grid) {
        let mut notes = self.notes.borrow_mut();
        let (op, at) = (aggregate.op, aggregate.expr.pos);
        match op {
            AggregateOp::Count | AggregateOp::Group => {}
            AggregateOp::Sum | AggregateOp::Avg => {
                let fold = group.histograms.get_or_insert_with(|| Box::new(HistogramFold::new(op, grid.n)));
                fold.add(series, &group.ok, at, &mut notes);
                series.col.drop_histograms();
            }
            _ => ignore(&mut series.col, op.name(), at, &mut notes),
        }
    }

    fn quantile(&self, aggregate: &Aggregate, param: &Expr, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let q = self.scalar(param, grid)?;
        q.iter(grid.n).for_each(|q| self.notes.borrow_mut().invalid_quantile(q, param.pos));
        let (mut held, groups) = self.grouped(aggregate, grid)?;
        for series in held.series.iter_mut().filter(|series| series.col.has_histograms()) {
            ignore(&mut series.col, aggregate.op.name(), aggregate.expr.pos, &mut self.notes.borrow_mut());
        }
        let mut values = Vec::new();
        for members in groups {
            let mut out = Column::none(grid.n);
            for step in 0..grid.n {
                if members.len() > MEMBERS_PER_CHECK || step % STEPS_PER_CHECK == 0 {
                    self.control().check()?;
                }
                let at_step = members.iter().map(|at| &held.series[*at].col).filter(|col| col.ok.get(step));
                values.clear();
                values.extend(at_step.map(|col| col.v[step]));
                if !values.is_empty() {
                    out.set(step, math::quantile(q.at(step), &mut values));
                }
            }
            let members = || members.iter().map(|at| &held.series[*at]);
            let labels = members().next().map(|first| choice(&aggregate.grouping).labels(&first.labels));
            let drop_name = members().any(|series| series.drop_name);
            if !out.ok.is_empty() {
                sink(&mut Series { labels: labels.unwrap_or_default(), drop_name, col: out })?;
            }
        }
        Ok(())
    }

    /// All series, and their indexes by group.
    pub(crate) fn grouped(
        &self,
        aggregate: &Aggregate,
        grid: &Grid,
    ) -> Result<(crate::eval::Held<'_>, Vec<Vec<usize>>), QueryError> {
        let choice = choice(&aggregate.grouping);
        let held = self.collect(&aggregate.expr, grid)?;
        let mut keys = Keys::default();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (at, series) in held.series.iter().enumerate() {
            let (group, is_new) = keys.number(&choice, &series.labels);
            if is_new {
                groups.push(Vec::new());
            }
            groups[group].push(at);
        }
        Ok((held, groups))
    }

    /// `count_values`: the label is set before the series are grouped, so it may take part in the grouping.
    fn count_values(&self, aggregate: &Aggregate, param: &Expr, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let label = self.string(param)?;
        if !is_label_name(label) {
            return Err(invalid_label_name(label));
        }
        // The label counts among those of `by`; `without` may take it away.
        let (group_choice, keeps_value) = match &aggregate.grouping {
            Grouping::By(names) => {
                let others: Vec<String> = names.iter().filter(|name| *name != label).cloned().collect();
                (Grouping::By(others), true)
            }
            Grouping::Without(names) => {
                let others = names.iter().cloned().chain([label.to_owned()]).collect();
                (Grouping::Without(others), !names.iter().any(|name| name == label) && label != METRIC_NAME)
            }
        };
        let choice = choice(&group_choice);
        let mut keys = Keys::default();
        let mut by_value: HashMap<(usize, u64), usize> = HashMap::new();
        let mut by_text: HashMap<(usize, String), usize> = HashMap::new();
        let mut out: Vec<Series> = Vec::new();
        let mut memory = self.control().reserve();
        self.vector(&aggregate.expr, grid, &mut |series| {
            let (group, _) = keys.number(&choice, &series.labels);
            for (step, v) in series.col.iter() {
                // All NaNs look the same, and so does everything if the value does not count.
                let bits = if !keeps_value {
                    0
                } else if v.is_nan() {
                    f64::NAN.to_bits()
                } else {
                    v.to_bits()
                };
                let next = out.len();
                // All histograms that look the same are the same.
                let text = series.col.histogram(step).filter(|_| keeps_value).map(|h| h.to_string());
                let at = match &text {
                    Some(text) => *by_text.entry((group, text.clone())).or_insert(next),
                    None => *by_value.entry((group, bits)).or_insert(next),
                };
                if at == next {
                    self.touch((next + 1) * grid.n)?;
                    let mut labels = choice.labels(&series.labels);
                    if keeps_value {
                        let text = text.unwrap_or_else(|| math::format_plain(v));
                        labels = with_label(&labels, label, &text);
                    }
                    out.push(Series { labels, drop_name: false, col: Column::none(grid.n) });
                    self.take_memory(&mut memory, out[next].bytes())?;
                }
                let counted = &mut out[at];
                counted.drop_name |= series.drop_name;
                let before = counted.col.v[step];
                counted.col.set(step, before + 1.0);
            }
            Ok(())
        })?;
        out.iter_mut().try_for_each(sink)
    }
}
