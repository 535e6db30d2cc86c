//! Aggregations that choose series: `topk`, `bottomk`, `limitk`, `limit_ratio`. The series keep their labels.

use std::cmp::Ordering;

use fk_promql_syntax::ast::{Aggregate, AggregateOp, Expr, Pos};

use crate::QueryError;
use crate::aggregate::{MEMBERS_PER_CHECK, STEPS_PER_CHECK};
use crate::column::{Bits, Grid};
use crate::eval::{Eval, Scalar, Sink};
use crate::histograms::aggregate::ignore;

/// The `k` best of a group at one step: a heap with the worst on top. Which of several equal ones stays depends on the
/// layout of the heap, so this is the heap of Go's `container/heap`.
struct Best {
    /// Value and index of the series.
    heap: Vec<(f64, usize)>,
    bottom: bool,
}

impl Best {
    /// Whether `a` is worse than `b`; NaN is the worst.
    fn worse(&self, a: f64, b: f64) -> bool {
        a.is_nan() || if self.bottom { a > b } else { a < b }
    }

    fn offer(&mut self, k: usize, v: f64, at: usize) {
        if self.heap.len() < k {
            self.heap.push((v, at));
            self.up(self.heap.len() - 1);
            return;
        }
        let worst = self.heap[0].0;
        let better = if self.bottom { worst > v } else { worst < v };
        if better || (worst.is_nan() && !v.is_nan()) {
            self.heap[0] = (v, at);
            self.down();
        }
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.worse(self.heap[at].0, self.heap[parent].0) {
                return;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn down(&mut self) {
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            let Some((left_value, _)) = self.heap.get(left) else { return };
            let right = left + 1;
            let right_is_worse = self.heap.get(right).is_some_and(|(v, _)| self.worse(*v, *left_value));
            let child = if right_is_worse { right } else { left };
            if !self.worse(self.heap[child].0, self.heap[at].0) {
                return;
            }
            self.heap.swap(child, at);
            at = child;
        }
    }

    /// From best to worst. Leaves none.
    fn take_sorted(&mut self) -> impl Iterator<Item = usize> {
        let bottom = self.bottom;
        self.heap.sort_by(|(a, _), (b, _)| match (a.is_nan(), b.is_nan()) {
            (false, false) if bottom => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (false, false) => b.partial_cmp(a).unwrap_or(Ordering::Equal),
            (a, b) => a.cmp(&b),
        });
        self.heap.drain(..).map(|(_, at)| at)
    }
}

/// Most values in heaps at once. Steps are taken in blocks, each of which goes through the series one after another.
const HEAPED_MAX: usize = 1 << 16;

/// How many series at each step; `None` if there is none at any step. Texts as in Prometheus.
fn counts(param: &Scalar, n: usize) -> Result<Option<Vec<usize>>, QueryError> {
    if param.iter(n).any(f64::is_nan) {
        return Err(QueryError::execution("Parameter value is NaN"));
    }
    let most = param.iter(n).fold(f64::NEG_INFINITY, f64::max);
    let least = param.iter(n).fold(f64::INFINITY, f64::min);
    if most < 1.0 {
        return Ok(None);
    }
    if least <= i64::MIN as f64 {
        return Err(QueryError::execution(format!("Scalar value {} underflows int64", crate::math::format_g(least))));
    }
    if most >= i64::MAX as f64 {
        return Err(QueryError::execution(format!("Scalar value {} overflows int64", crate::math::format_g(most))));
    }
    Ok(Some(param.iter(n).map(|k| if k < 1.0 { 0 } else { k as usize }).collect()))
}

impl Eval<'_> {
    /// `topk`, `bottomk`, `limitk`
    pub(crate) fn select_k(
        &self,
        aggregate: &Aggregate,
        param: &Expr,
        at: Pos,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let param = self.scalar(param, grid)?;
        // Even where nothing is wanted the vector is evaluated, since that may fail.
        let (mut held, groups) = self.grouped(aggregate, grid)?;
        let Some(counts) = counts(&param, grid.n)? else { return Ok(()) };
        if aggregate.op != AggregateOp::Limitk {
            for series in held.series.iter_mut().filter(|series| series.col.has_histograms()) {
                ignore(&mut series.col, aggregate.op.name(), at, &mut self.notes.borrow_mut());
            }
        }
        let mut chosen: Vec<Bits> = held.series.iter().map(|_| Bits::none(grid.n)).collect();
        // The order of an instant vector.
        let mut order: Vec<usize> = Vec::new();
        let bottom = aggregate.op == AggregateOp::Bottomk;
        let mut best: Vec<Best> = Vec::new();
        for members in &groups {
            self.control().check()?;
            if aggregate.op == AggregateOp::Limitk {
                for (step, k) in counts.iter().enumerate() {
                    if members.len() > MEMBERS_PER_CHECK || step % STEPS_PER_CHECK == 0 {
                        self.control().check()?;
                    }
                    let present = members.iter().filter(|at| held.series[**at].col.ok.get(step));
                    for at in present.take(*k) {
                        chosen[*at].set(step);
                        if grid.n == 1 {
                            order.push(*at);
                        }
                    }
                }
                continue;
            }
            let most = counts.iter().map(|k| (*k).min(members.len())).max().unwrap_or(0);
            let block = (HEAPED_MAX / most.max(1)).max(1);
            for begin in (0..grid.n).step_by(block) {
                let counts = &counts[begin..grid.n.min(begin + block)];
                best.resize_with(best.len().max(counts.len()), || Best { heap: Vec::new(), bottom });
                for at in members {
                    self.control().check()?;
                    let col = &held.series[*at].col;
                    for (i, (k, best)) in counts.iter().zip(&mut best).enumerate() {
                        if *k > 0 && col.ok.get(begin + i) {
                            best.offer(*k, col.v[begin + i], *at);
                        }
                    }
                }
                for (i, best) in best.iter_mut().enumerate().take(counts.len()) {
                    for at in best.take_sorted() {
                        chosen[at].set(begin + i);
                        if grid.n == 1 {
                            order.push(at);
                        }
                    }
                }
            }
        }
        if grid.n > 1 {
            order = groups.into_iter().flatten().collect();
        }
        for at in order {
            let series = &mut held.series[at];
            series.col.ok.and(&chosen[at]);
            if !series.col.ok.is_empty() {
                sink(series)?;
            }
        }
        Ok(())
    }

    /// `limit_ratio`: by the hash of the labels, so that a ratio and its complement make a whole.
    pub(crate) fn limit_ratio(
        &self,
        aggregate: &Aggregate,
        param: &Expr,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), QueryError> {
        let ratio = self.scalar(param, grid)?;
        // Text as in Prometheus:
        if ratio.iter(grid.n).any(f64::is_nan) {
            return Err(QueryError::execution("Ratio value is NaN"));
        }
        let most = ratio.iter(grid.n).fold(f64::NEG_INFINITY, f64::max);
        let least = ratio.iter(grid.n).fold(f64::INFINITY, f64::min);
        if most == 0.0 && least == 0.0 {
            // Evaluated all the same, since that may fail.
            return self.vector(&aggregate.expr, grid, &mut |_| Ok(()));
        }
        if most > 1.0 {
            self.notes.borrow_mut().invalid_ratio(most, 1.0, param.pos);
        }
        if least < -1.0 {
            self.notes.borrow_mut().invalid_ratio(least, -1.0, param.pos);
        }
        self.vector(&aggregate.expr, grid, &mut |series| {
            let offset = series.labels.prometheus_hash() as f64 / u64::MAX as f64;
            for step in 0..grid.n {
                let ratio = ratio.at(step).clamp(-1.0, 1.0);
                if !((ratio >= 0.0 && offset < ratio) || (ratio < 0.0 && offset >= 1.0 + ratio)) {
                    series.col.ok.unset(step);
                }
            }
            if series.col.ok.is_empty() { Ok(()) } else { sink(series) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(bottom: bool, k: usize, values: &[f64]) -> Vec<usize> {
        let mut best = Best { heap: Vec::new(), bottom };
        values.iter().enumerate().for_each(|(at, v)| best.offer(k, *v, at));
        best.take_sorted().collect()
    }

    #[test]
    fn best_come_in_order_and_nan_last() {
        let values = [3.0, f64::NAN, 5.0, 1.0, 4.0];
        assert_eq!(best(false, 3, &values), [2, 4, 0]);
        assert_eq!(best(true, 3, &values), [3, 0, 4]);
        assert_eq!(best(false, 9, &values), [2, 4, 0, 3, 1]);
        assert_eq!(best(false, 1, &[f64::NAN, f64::NAN]), [0]);
        assert_eq!(best(true, 1, &[f64::NAN, 7.0]), [1]);
    }

    #[test]
    fn counts_are_checked() {
        let check = |v: f64| counts(&Scalar::Constant(v), 1);
        assert_eq!(check(0.9).unwrap(), None);
        assert_eq!(check(-1e300).unwrap(), None);
        let steps = counts(&Scalar::Steps(vec![-1e300, 1.0], fk_storage::Control::new().reserve()), 2);
        assert_eq!(steps.unwrap_err().to_string(), "Scalar value -1e+300 underflows int64");
        assert_eq!(check(2.7).unwrap(), Some(vec![2]));
        assert_eq!(check(f64::NAN).unwrap_err().to_string(), "Parameter value is NaN");
        assert_eq!(check(1e19).unwrap_err().to_string(), "Scalar value 1e+19 overflows int64");
    }
}
