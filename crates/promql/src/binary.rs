//! Binary operators. Which series meet is found once, from their labels; then each pair is one pass over its columns.

use fk_model::{Labels, LabelsBuilder, METRIC_NAME};
use fk_promql_syntax::ast::{Binary, BinaryOp, Cardinality, Expr, Matching, ValueType};
use hashbrown::HashMap;

use crate::QueryError;
use crate::column::{Bits, Column, Grid, Series};
use crate::eval::{Eval, Held, Scalar, Sink, type_of};
use crate::histograms::binary::{Pair, TellBySteps, pair};
use crate::histograms::stats::Buckets;
use crate::keys::{Choice, Keys, same_labelset, without_metadata};

/// What an operator does to two values.
#[derive(Clone, Copy)]
enum Operator {
    Value(fn(f64, f64) -> f64),
    /// Keeps the value if true.
    Filter(fn(f64, f64) -> bool),
    /// Only for native histograms: floats give nothing.
    Histograms,
}

fn operator(op: BinaryOp) -> Result<Operator, QueryError> {
    Ok(match op {
        BinaryOp::Add => Operator::Value(|a, b| a + b),
        BinaryOp::Sub => Operator::Value(|a, b| a - b),
        BinaryOp::Mul => Operator::Value(|a, b| a * b),
        BinaryOp::Div => Operator::Value(|a, b| a / b),
        BinaryOp::Mod => Operator::Value(|a, b| a % b),
        BinaryOp::Pow => Operator::Value(crate::instant::pow),
        BinaryOp::Atan2 => Operator::Value(f64::atan2),
        BinaryOp::Eq => Operator::Filter(|a, b| a == b),
        BinaryOp::Ne => Operator::Filter(|a, b| a != b),
        BinaryOp::Lt => Operator::Filter(|a, b| a < b),
        BinaryOp::Gt => Operator::Filter(|a, b| a > b),
        BinaryOp::Le => Operator::Filter(|a, b| a <= b),
        BinaryOp::Ge => Operator::Filter(|a, b| a >= b),
        BinaryOp::TrimUpper | BinaryOp::TrimLower => Operator::Histograms,
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
            return Err(QueryError::execution("set operators work on vectors only"));
        }
    })
}

impl Operator {
    /// What it does to two floats: the result, and whether it is kept; `None`: it is not made for them. What a filter keeps
    /// is the left side, or the right one if the left one is a scalar.
    fn floats(self, scalar_left: bool) -> impl Fn(f64, f64) -> Option<(f64, bool)> {
        move |a, b| match self {
            Operator::Value(f) => Some((f(a, b), true)),
            Operator::Filter(f) => Some((if scalar_left { b } else { a }, f(a, b))),
            Operator::Histograms => None,
        }
    }
}

/// The operator between two scalars; comparisons give 0 or 1.
pub(crate) fn scalar_operator(op: BinaryOp) -> Result<fn(f64, f64) -> f64, QueryError> {
    Ok(match op {
        BinaryOp::Eq => |a, b| f64::from(a == b),
        BinaryOp::Ne => |a, b| f64::from(a != b),
        BinaryOp::Lt => |a, b| f64::from(a < b),
        BinaryOp::Gt => |a, b| f64::from(a > b),
        BinaryOp::Le => |a, b| f64::from(a <= b),
        BinaryOp::Ge => |a, b| f64::from(a >= b),
        op => match operator(op)? {
            Operator::Value(f) => f,
            _ => {
                return Err(QueryError::execution(format!("operator {} not allowed for scalar operations", op.name())));
            }
        },
    })
}

/// One vector-to-vector operation: settings and the two sides, the "one" side being that where labels must be unique.
struct Join<'m> {
    op: Operator,
    binary_op: BinaryOp,
    return_bool: bool,
    matching: &'m Matching,
    choice: Choice<'m>,
    /// Whether the "one" side is on the left.
    swapped: bool,
    delayed: bool,
}

impl Eval<'_> {
    /// A binary operation with at least one vector.
    pub(crate) fn binary(&self, binary: &Binary, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        // Trimming depends on buckets.
        let before = self.buckets.get();
        if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
            self.buckets.set(Buckets::Needed);
        }
        let result = self.binary_of_kinds(binary, grid, sink);
        self.buckets.set(before);
        result
    }

    fn binary_of_kinds(&self, binary: &Binary, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        match (type_of(&binary.lhs), type_of(&binary.rhs), &binary.matching) {
            (ValueType::Vector, ValueType::Vector, Some(matching)) if binary.op.is_set() => {
                self.set_operation(binary, matching, grid, sink)
            }
            (ValueType::Vector, ValueType::Vector, Some(matching)) => self.join(binary, matching, grid, sink),
            (ValueType::Vector, ValueType::Scalar, _) => {
                let scalar = self.scalar(&binary.rhs, grid)?;
                self.with_scalar(binary, &binary.lhs, &scalar, false, grid, sink)
            }
            (ValueType::Scalar, ValueType::Vector, _) => {
                let scalar = self.scalar(&binary.lhs, grid)?;
                self.with_scalar(binary, &binary.rhs, &scalar, true, grid, sink)
            }
            (left, right, _) => Err(QueryError::execution(format!(
                "binary operator between {} and {} without matching",
                left.name(),
                right.name()
            ))),
        }
    }

    /// Between a vector and a scalar; `swapped`: the scalar is on the left.
    fn with_scalar(
        &self,
        binary: &Binary,
        vector: &Expr,
        scalar: &Scalar,
        swapped: bool,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let operator = operator(binary.op)?;
        let mut told = TellBySteps::default();
        let mut apply = |sink: Sink<'_>| {
            self.vector(vector, grid, &mut |series| {
                if series.col.has_histograms() || matches!(operator, Operator::Histograms) {
                    let scalars = Column { v: scalar.iter(grid.n).collect(), ok: Bits::all(grid.n), h: None };
                    let sides = if swapped { (&scalars, &series.col) } else { (&series.col, &scalars) };
                    let floats = operator.floats(swapped);
                    let ok = &series.col.ok;
                    series.col = pair(binary.op, sides, ok, binary.return_bool, floats, &mut told).col;
                    return if series.col.ok.is_empty() { Ok(()) } else { sink(series) };
                }
                let Column { v, ok, .. } = &mut series.col;
                let sides = |step: usize, v: f64| if swapped { (scalar.at(step), v) } else { (v, scalar.at(step)) };
                match operator {
                    Operator::Value(f) => v.iter_mut().enumerate().for_each(|(step, v)| {
                        let (a, b) = sides(step, *v);
                        *v = f(a, b);
                    }),
                    Operator::Filter(f) => {
                        for (step, v) in v.iter_mut().enumerate() {
                            let (a, b) = sides(step, *v);
                            let keep = f(a, b);
                            if binary.return_bool {
                                *v = f64::from(keep);
                            } else if !keep {
                                ok.unset(step);
                            }
                        }
                    }
                    Operator::Histograms => {}
                }
                if series.col.ok.is_empty() { Ok(()) } else { sink(series) }
            })
        };
        if binary.return_bool || matches!(operator, Operator::Value(_)) {
            self.without_names(vector, sink, apply)?;
        } else {
            apply(sink)?;
        }
        told.tell(binary.op, binary.lhs.pos, &mut self.notes.borrow_mut());
        Ok(())
    }

    /// `and`, `or`, `unless`
    fn set_operation(
        &self,
        binary: &Binary,
        matching: &Matching,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let choice = match_choice(matching);
        if binary.op == BinaryOp::Or {
            return self.merged(sink, |sink| {
                let mut left = Presence::default();
                self.vector(&binary.lhs, grid, &mut |series| {
                    left.add(&choice, series);
                    sink(series)
                })?;
                self.vector(&binary.rhs, grid, &mut |series| {
                    if let Some(present) = left.get(&choice, series) {
                        series.col.ok.and_not(present);
                    }
                    if series.col.ok.is_empty() { Ok(()) } else { sink(series) }
                })
            });
        }
        let mut right = Presence::default();
        self.vector(&binary.rhs, grid, &mut |series| {
            right.add(&choice, series);
            Ok(())
        })?;
        let keep_matched = binary.op == BinaryOp::And;
        self.vector(&binary.lhs, grid, &mut |series| {
            match right.get(&choice, series) {
                Some(present) if keep_matched => series.col.ok.and(present),
                Some(present) => series.col.ok.and_not(present),
                None if keep_matched => return Ok(()),
                None => {}
            }
            if series.col.ok.is_empty() { Ok(()) } else { sink(series) }
        })
    }

    /// Arithmetic and comparison between two vectors.
    fn join(&self, binary: &Binary, matching: &Matching, grid: &Grid, sink: Sink<'_>) -> Result<(), QueryError> {
        let left = self.collect(&binary.lhs, grid)?;
        let right = self.collect(&binary.rhs, grid)?;
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        // With group_right the sides of `fill_left` and `fill_right` are swapped along with the operands, as in Prometheus.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        let mut told = TellBySteps::default();
        let join = Join {
            op: operator(binary.op)?,
            binary_op: binary.op,
            return_bool: binary.return_bool,
            matching,
            choice: match_choice(matching),
            swapped,
            delayed: self.query.options.delayed_name_removal,
        };
        let any = |held: &Held<'_>| {
            let mut bits = Bits::none(grid.n);
            held.series.iter().for_each(|series| bits.or(&series.col.ok));
            bits
        };
        // Where a side is empty and nothing is filled in there is nothing to match, and nothing to complain about.
        let mut active = any(&one);
        if fill_many.is_none() && fill_one.is_none() {
            active.and(&any(&many));
        } else {
            active.fill(grid.n);
        }

        let mut keys = Keys::default();
        let groups = join.groups(&one.series, &active, &mut keys, grid)?;
        let mut covered: Vec<Bits> =
            if fill_many.is_some() { vec![Bits::none(grid.n); groups.len()] } else { Vec::new() };
        let mut results = Results::new(join.matching.card == Cardinality::OneToOne, grid.n);
        // The results are held beside both sides, until these go.
        let mut memory = self.control().reserve();
        let filler = |v: f64| Column::constant(v, grid.n);
        for series in &many.series {
            self.control().check()?;
            // Keys that only the "many" side has are numbered behind those of the groups.
            let group = keys.find(&join.choice, &series.labels).filter(|group| *group < groups.len());
            let mut alone = series.col.ok.clone();
            if let Some(group) = group {
                for other in groups[group].members.iter().map(|at| &one.series[*at]) {
                    if let Some(out) = join.pair(&series.labels, &series.col, &other.labels, &other.col, &mut told) {
                        self.take_memory(&mut memory, out.series.bytes())?;
                        if let Some(covered) = covered.get_mut(group) {
                            covered.or(&out.matched);
                        }
                        results.add(group, out)?;
                    }
                }
                alone.and_not(&groups[group].present);
            }
            if let Some(fill) = fill_one
                && !alone.is_empty()
            {
                let col = Column { v: series.col.v.clone(), ok: alone, h: series.col.h.clone() };
                let labels = join.choice.labels(&series.labels);
                if let Some(out) = join.pair(&series.labels, &col, &labels, &filler(fill), &mut told) {
                    // A group of its own: the other side has no series for it at these steps.
                    let (group, _) = keys.number(&join.choice, &series.labels);
                    results.add(group, out)?;
                }
            }
        }
        if let Some(fill) = fill_many {
            for (group, covered) in covered.iter().enumerate() {
                for other in groups[group].members.iter().map(|at| &one.series[*at]) {
                    let mut col = other.col.clone();
                    col.ok.and_not(covered);
                    let labels = join.choice.labels(&other.labels);
                    if let Some(out) = join.pair(&labels, &filler(fill), &other.labels, &col, &mut told) {
                        results.add(group, out)?;
                    }
                }
            }
        }
        drop((many, one));
        told.tell(binary.op, binary.lhs.pos, &mut self.notes.borrow_mut());
        results.finish().try_for_each(|mut series| sink(&mut series))
    }
}

/// The labels that decide which series meet.
fn match_choice(matching: &Matching) -> Choice<'_> {
    if matching.on {
        Choice::only(&matching.labels)
    } else {
        Choice::without(matching.labels.iter().map(String::as_str).chain([METRIC_NAME]))
    }
}

/// At which steps a match group has a value.
#[derive(Default)]
struct Presence {
    keys: Keys,
    bits: Vec<Bits>,
}

impl Presence {
    fn add(&mut self, choice: &Choice<'_>, series: &Series) {
        match self.keys.number(choice, &series.labels) {
            (_, true) => self.bits.push(series.col.ok.clone()),
            (at, false) => self.bits[at].or(&series.col.ok),
        }
    }

    fn get(&mut self, choice: &Choice<'_>, series: &Series) -> Option<&Bits> {
        self.keys.find(choice, &series.labels).map(|at| &self.bits[at])
    }
}

/// The series of the "one" side with one key. Invariant: at each step that counts at most one of them has a value.
struct MatchGroup {
    members: Vec<usize>,
    present: Bits,
}

impl Join<'_> {
    /// The match groups of the "one" side; fails if two series of a group have a value at one step.
    fn groups(
        &self,
        one: &[Series],
        active: &Bits,
        keys: &mut Keys,
        grid: &Grid,
    ) -> Result<Vec<MatchGroup>, QueryError> {
        let mut groups: Vec<MatchGroup> = Vec::new();
        for (at, series) in one.iter().enumerate() {
            let (number, is_new) = keys.number(&self.choice, &series.labels);
            if is_new {
                groups.push(MatchGroup { members: Vec::new(), present: Bits::none(grid.n) });
            }
            let group = &mut groups[number];
            let mut twice = group.present.clone();
            twice.and(active);
            if let Some(step) = twice.first_common(&series.col.ok) {
                let other = group.members.iter().find(|other| one[**other].col.ok.get(step));
                return Err(
                    self.many_to_many(&series.labels, other.map_or(&series.labels, |other| &one[*other].labels))
                );
            }
            group.members.push(at);
            group.present.or(&series.col.ok);
        }
        Ok(groups)
    }

    /// Text as in Prometheus; the two series in order of their labels.
    fn many_to_many(&self, a: &Labels, b: &Labels) -> QueryError {
        let side = if self.swapped { "left" } else { "right" };
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{first}, {second}]\
             ;many-to-many matching not allowed: matching labels must be unique on one side",
            self.choice.labels(a)
        ))
    }

    /// The result where both columns have a value; `None` if that is nowhere.
    fn pair(
        &self,
        many: &Labels,
        many_col: &Column,
        one: &Labels,
        one_col: &Column,
        told: &mut TellBySteps,
    ) -> Option<Paired> {
        let mut ok = many_col.ok.clone();
        ok.and(&one_col.ok);
        if ok.is_empty() {
            return None;
        }
        let filters = matches!(self.op, Operator::Filter(_));
        // As in Prometheus: where a comparison keeps the name, it comes back even if it was to be dropped.
        let drop_name = filters && self.return_bool && self.delayed;
        if many_col.has_histograms() || one_col.has_histograms() || matches!(self.op, Operator::Histograms) {
            let sides = if self.swapped { (one_col, many_col) } else { (many_col, one_col) };
            let Pair { col, matched } = pair(self.binary_op, sides, &ok, self.return_bool, self.op.floats(false), told);
            let series = Series { labels: self.result_labels(many, one), drop_name, col };
            return (!matched.is_empty()).then_some(Paired { series, matched });
        }
        let matched = ok.clone();
        let (left, right) = if self.swapped { (&one_col.v, &many_col.v) } else { (&many_col.v, &one_col.v) };
        let v = match self.op {
            Operator::Value(f) => left.iter().zip(right).map(|(a, b)| f(*a, *b)).collect(),
            Operator::Filter(f) if self.return_bool => {
                left.iter().zip(right).map(|(a, b)| f64::from(f(*a, *b))).collect()
            }
            Operator::Filter(f) => {
                for (step, (a, b)) in left.iter().zip(right).enumerate() {
                    if !f(*a, *b) {
                        ok.unset(step);
                    }
                }
                left.clone()
            }
            Operator::Histograms => return None,
        };
        let series = Series { labels: self.result_labels(many, one), drop_name, col: Column { v, ok, h: None } };
        Some(Paired { series, matched })
    }

    /// The labels of the result of two series.
    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let arithmetic = matches!(self.op, Operator::Value(_));
        let mut labels =
            if arithmetic || (self.return_bool && !self.delayed) { without_metadata(many) } else { many.clone() };
        if self.matching.card == Cardinality::OneToOne {
            let listed = |name: &str| self.matching.labels.iter().any(|label| label == name);
            if self.matching.on || !self.matching.labels.is_empty() {
                labels = labels.filtered(|name| listed(name) == self.matching.on);
            }
        }
        if !self.matching.include.is_empty() {
            let mut builder = LabelsBuilder::from(&labels);
            for name in &self.matching.include {
                builder.set(name, one.value(name));
            }
            labels = builder.build();
        }
        labels
    }
}

/// The result of two series.
struct Paired {
    series: Series,
    /// Steps at which both had a value. Those that a comparison filtered out count, too, when it comes to whether matches
    /// are unique.
    matched: Bits,
}

/// Collects results and finds those that should have been unique.
struct Results {
    one_to_one: bool,
    /// One to one: at which steps a match group was matched.
    matched: Vec<Bits>,
    /// By labels and whether the name is to be dropped: index of the result and its match group.
    by_labels: HashMap<(Labels, bool), (usize, usize)>,
    results: Vec<Paired>,
    steps: usize,
}

impl Results {
    fn new(one_to_one: bool, steps: usize) -> Results {
        Results { one_to_one, matched: Vec::new(), by_labels: HashMap::new(), results: Vec::new(), steps }
    }

    /// Adds the result of a pair of match group `group`. Texts as in Prometheus.
    fn add(&mut self, group: usize, out: Paired) -> Result<(), QueryError> {
        if self.one_to_one {
            if self.matched.len() <= group {
                self.matched.resize(group + 1, Bits::none(self.steps));
            }
            if self.matched[group].first_common(&out.matched).is_some() {
                return Err(QueryError::execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
            self.matched[group].or(&out.matched);
        }
        let next = self.results.len();
        let key = (out.series.labels.clone(), out.series.drop_name);
        let (at, of_group) = *self.by_labels.entry(key).or_insert((next, group));
        if at == next {
            self.results.push(out);
            return Ok(());
        }
        let have = &mut self.results[at];
        if of_group == group && have.matched.first_common(&out.matched).is_some() {
            return Err(QueryError::execution(
                "multiple matches for labels: grouping labels must ensure unique matches",
            ));
        }
        if have.series.col.ok.first_common(&out.series.col.ok).is_some() {
            return Err(same_labelset());
        }
        have.matched.or(&out.matched);
        have.series.col.merge(&out.series.col);
        Ok(())
    }

    fn finish(self) -> impl Iterator<Item = Series> {
        self.results.into_iter().map(|paired| paired.series).filter(|series| !series.col.ok.is_empty())
    }
}
