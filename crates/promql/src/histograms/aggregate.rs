//! Aggregation of series with histograms. `sum` and `avg` add them up beside the floats of their group; `count` and
//! `group` do not care; all others leave them out and tell it.

use std::sync::Arc;

use fk_model::FloatHistogram;
use fk_model::histogram::{HistogramMean, HistogramSum};
use fk_promql_syntax::ast::{AggregateOp, Pos};

use super::over_range::Hints;
use crate::annotations::Annotations;
use crate::column::{Bits, Column, Series};

/// The histograms of a group at one step.
#[derive(Clone, Debug, Default)]
enum Fold {
    /// There was none.
    #[default]
    None,
    Sum(Box<HistogramSum>),
    Mean(Box<HistogramMean>),
    /// There was one, but a float before it, so that nothing comes out.
    AfterFloat,
    /// Exponential and custom buckets met. `mixed`: there had been a float, too.
    Incompatible {
        mixed: bool,
    },
}

/// The histograms of a group.
#[derive(Debug)]
pub(crate) struct HistogramFold {
    mean: bool,
    steps: Vec<(Fold, Hints)>,
}

impl HistogramFold {
    /// For `sum`, or else for `avg`.
    pub(crate) fn new(op: AggregateOp, n: usize) -> HistogramFold {
        HistogramFold { mean: op == AggregateOp::Avg, steps: vec![Default::default(); n] }
    }

    /// Adds the histograms of a series. `floats`: the steps at which the group has a float already.
    pub(crate) fn add(&mut self, series: &Series, floats: &Bits, at: Pos, notes: &mut Annotations<'_>) {
        for step in series.col.ok.iter() {
            let Some(h) = series.col.histogram(step) else { continue };
            let (fold, hints) = &mut self.steps[step];
            let result = match fold {
                Fold::None if floats.get(step) => {
                    *fold = Fold::AfterFloat;
                    continue;
                }
                Fold::None if self.mean => {
                    *fold = Fold::Mean(Box::new(HistogramMean::new(FloatHistogram::clone(h))));
                    Ok(false)
                }
                Fold::None => {
                    *fold = Fold::Sum(Box::new(HistogramSum::new(FloatHistogram::clone(h))));
                    Ok(false)
                }
                Fold::AfterFloat | Fold::Incompatible { .. } => continue,
                Fold::Sum(sum) => sum.add(h),
                Fold::Mean(mean) => mean.add(h),
            };
            hints.see(h);
            match result {
                Ok(false) => {}
                Ok(true) => notes.reconciled("aggregation", at),
                Err(_) => {
                    notes.histogram_note(super::Note::MixedBuckets, series.labels.metric_name(), at);
                    *fold = Fold::Incompatible { mixed: floats.get(step) };
                }
            }
        }
    }

    /// Puts the results into the column, which has those of the floats.
    pub(crate) fn finish(self, col: &mut Column, at: Pos, notes: &mut Annotations<'_>) {
        for (step, (fold, hints)) in self.steps.into_iter().enumerate() {
            let float = col.ok.get(step);
            let result = match fold {
                Fold::None => continue,
                Fold::Incompatible { mixed } => {
                    col.ok.unset(step);
                    if mixed {
                        notes.mixed_aggregation(at);
                    }
                    continue;
                }
                Fold::AfterFloat => None,
                _ if float => None,
                Fold::Sum(sum) => Some(sum.finish()),
                Fold::Mean(mean) => Some(mean.finish()),
            };
            let Some(mut result) = result else {
                col.ok.unset(step);
                notes.mixed_aggregation(at);
                continue;
            };
            result.compact(0);
            if hints.collide() {
                notes.collision("aggregation", at);
            }
            col.set_histogram(step, Arc::new(result));
        }
    }
}

/// Leaves out the histograms of a column, and tells that `aggregation` does so.
pub(crate) fn ignore(col: &mut Column, aggregation: &str, at: Pos, notes: &mut Annotations<'_>) {
    if col.has_histograms() && !col.histogram_steps().is_empty() {
        notes.ignored_in_aggregation(aggregation, at);
    }
    col.drop_histograms();
}
