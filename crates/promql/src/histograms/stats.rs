//! Histograms without their buckets, for expressions that only look at count and sum (`HistogramStatsIterator` in
//! Prometheus). Cheaper, and visible: hints of counter resets are set on the way, so contradictions are told that would not
//! be known otherwise, and custom buckets need not be reconciled.

use std::sync::Arc;

use fk_model::{CounterReset, FloatHistogram};
use fk_storage::Samples;

/// Whether selectors below an expression may leave out buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Buckets {
    /// Nobody has said anything.
    #[default]
    Wanted,
    /// A function above looks at nothing but count and sum.
    Unused,
    /// Something above needs them, whatever is said below.
    Needed,
}

impl Buckets {
    /// What holds below an expression that does not use them.
    pub(crate) fn unused_below(self) -> Buckets {
        if self == Buckets::Needed { self } else { Buckets::Unused }
    }
}

/// Takes the buckets out of histograms, each with the hint that comparing it with the one before gives.
pub(crate) fn without_buckets(samples: &mut Samples) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    for (_, h) in &mut samples.histograms {
        let full = Arc::clone(h);
        let counter_reset = match (&before, full.counter_reset) {
            _ if full.is_stale() => full.counter_reset,
            (Some(before), CounterReset::Unknown) if full.is_reset(before) => CounterReset::Reset,
            (Some(_), CounterReset::Unknown) => CounterReset::NotReset,
            (_, known) => known,
        };
        *h = Arc::new(FloatHistogram {
            counter_reset,
            schema: full.schema,
            count: full.count,
            sum: full.sum,
            ..FloatHistogram::default()
        });
        if !full.is_stale() {
            before = Some(full);
        }
    }
}
