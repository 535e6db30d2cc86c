//! Binary operators where at least one value is a histogram (`vectorElemBinop` in Prometheus).

use std::sync::Arc;

use fk_model::histogram::Keep;
use fk_model::{CounterReset, FloatHistogram, SampleValue as Value};
use fk_promql_syntax::ast::{BinaryOp, Pos};

use crate::annotations::Annotations;
use crate::column::{Bits, Column};
use crate::instant::log2;

/// What is told instead of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The operator is not made for these kinds: whether left and right are histograms.
    Kinds(bool, bool),
    /// One has exponential and the other custom buckets.
    Layouts,
    /// Hints of counter resets contradict each other.
    Collision,
    /// Custom buckets were reconciled. There is a result.
    Reconciled,
}

/// A result: the value, and whether it is kept (if not, there is none).
type Outcome = (Value, bool);

/// What `op` makes of two values that are not both floats.
pub(crate) fn apply(op: BinaryOp, left: &Value, right: &Value) -> (Option<Outcome>, Option<Told>) {
    let whole = |mut h: FloatHistogram| {
        h.compact(0);
        (Some((Value::Histogram(Arc::new(h)), true)), None)
    };
    let scaled = |h: &FloatHistogram, f: &dyn Fn(&mut FloatHistogram)| {
        let mut copy = h.clone();
        f(&mut copy);
        copy
    };
    match (op, left, right) {
        (BinaryOp::Mul, Value::Float(v), Value::Histogram(h))
        | (BinaryOp::Mul, Value::Histogram(h), Value::Float(v)) => whole(scaled(h, &|h| h.mul(*v))),
        (BinaryOp::Div, Value::Histogram(h), Value::Float(v)) => whole(scaled(h, &|h| h.div(*v))),
        (BinaryOp::TrimUpper | BinaryOp::TrimLower, Value::Histogram(h), Value::Float(v)) => {
            let keep = if op == BinaryOp::TrimUpper { Keep::Below } else { Keep::Above };
            let trimmed = scaled(h, &|h| h.trim(*v, keep, log2));
            (Some((Value::Histogram(Arc::new(trimmed)), true)), None)
        }
        (BinaryOp::Add | BinaryOp::Sub, Value::Histogram(a), Value::Histogram(b)) => {
            let mut result = FloatHistogram::clone(a);
            let combined = if op == BinaryOp::Add { result.add(b) } else { result.sub(b) };
            let Ok(combined) = combined else { return (None, Some(Told::Layouts)) };
            if combined.collision {
                return (None, Some(Told::Collision));
            }
            if op == BinaryOp::Sub {
                result.counter_reset = CounterReset::Gauge;
            }
            (whole(result).0, combined.reconciled.then_some(Told::Reconciled))
        }
        (BinaryOp::Eq | BinaryOp::Ne, Value::Histogram(a), Value::Histogram(b)) => {
            (Some((left.clone(), a.equals(b) == (op == BinaryOp::Eq))), None)
        }
        _ => (None, Some(Told::Kinds(left.is_histogram(), right.is_histogram()))),
    }
}

/// What is told at each step. As in Prometheus the last pair of series has the last word.
#[derive(Debug, Default)]
pub(crate) struct TellBySteps(Vec<Option<Told>>);

impl TellBySteps {
    pub(crate) fn set(&mut self, step: usize, told: Told) {
        if self.0.len() <= step {
            self.0.resize(step + 1, None);
        }
        self.0[step] = Some(told);
    }

    /// Makes annotations of it.
    pub(crate) fn tell(&self, op: BinaryOp, at: Pos, notes: &mut Annotations<'_>) {
        let mut before = None;
        for told in self.0.iter().flatten() {
            if before == Some(told) {
                continue;
            }
            before = Some(told);
            match told {
                Told::Kinds(left, right) => {
                    let name = |is_histogram: &bool| if *is_histogram { "histogram" } else { "float" };
                    notes.incompatible_types(name(left), op.name(), name(right), at);
                }
                Told::Layouts => notes.incompatible_layouts(op.name(), at),
                Told::Collision if op == BinaryOp::Add => notes.collision("addition", at),
                Told::Collision => notes.collision("subtraction", at),
                Told::Reconciled if op == BinaryOp::Add => notes.reconciled("addition", at),
                Told::Reconciled => notes.reconciled("subtraction", at),
            }
        }
    }
}

/// The results of a pair of columns of which at least one has histograms.
pub(crate) struct Pair {
    pub(crate) col: Column,
    /// Steps at which both had a value and the operator could do something with them.
    pub(crate) matched: Bits,
}

/// Applies `op` at all of `steps`. `floats`: what it does to two floats: the result, and whether it is kept; `None`: it is
/// not made for them. `return_bool`: 0 and 1 instead of a filter.
pub(crate) fn pair(
    op: BinaryOp,
    (left, right): (&Column, &Column),
    steps: &Bits,
    return_bool: bool,
    floats: impl Fn(f64, f64) -> Option<(f64, bool)>,
    told: &mut TellBySteps,
) -> Pair {
    let n = left.v.len();
    let mut pair = Pair { col: Column::none(n), matched: Bits::none(n) };
    for step in steps.iter() {
        let (a, b) = (left.value(step), right.value(step));
        let (outcome, tell) = match (&a, &b) {
            (Value::Float(a), Value::Float(b)) => match floats(*a, *b) {
                Some((v, keep)) => (Some((Value::Float(v), keep)), None),
                None => (None, Some(Told::Kinds(false, false))),
            },
            _ => apply(op, &a, &b),
        };
        if let Some(tell) = tell {
            told.set(step, tell);
        }
        let Some((value, keep)) = outcome else { continue };
        pair.matched.set(step);
        if return_bool {
            pair.col.set_float(step, f64::from(keep));
        } else if keep {
            pair.col.set_value(step, value);
        }
    }
    pair
}
