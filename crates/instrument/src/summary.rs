//! Quantiles of what was observed lately.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::encoder::number;
use crate::{Encoder, Kind, Metric};

/// Observations older than this no longer count for the quantiles, as in Prometheus' own summaries.
const AGE_MAX: Duration = Duration::from_secs(600);

/// Observations kept for the quantiles; older ones leave first. Bounds the memory of one summary to 16 KiB.
const KEPT_MAX: usize = 1024;

/// Sum, count, and exact quantiles of the newest observations (at most [`KEPT_MAX`], at most [`AGE_MAX`] old).
#[derive(Clone)]
pub struct Summary(Arc<Inner>);

struct Inner {
    quantiles: &'static [f64],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Oldest first.
    recent: VecDeque<(Instant, f64)>,
    sum: f64,
    count: u64,
}

impl Summary {
    /// With these quantiles, ascending, each in [0, 1].
    pub fn new(quantiles: &'static [f64]) -> Summary {
        Summary(Arc::new(Inner { quantiles, state: Mutex::default() }))
    }

    /// Counts one observation.
    pub fn observe(&self, v: f64) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        state.sum += v;
        state.count += 1;
        if state.recent.len() == KEPT_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back((now, v));
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.0.state.lock().count
    }
}

impl Metric for Summary {
    const KIND: Kind = Kind::Summary;

    fn encode(&self, out: &mut Encoder, name: &str, labels: &[(&str, &str)]) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        while state.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > AGE_MAX) {
            state.recent.pop_front();
        }
        let mut values: Vec<f64> = state.recent.iter().map(|(_, v)| *v).collect();
        let (sum, count) = (state.sum, state.count);
        drop(state);
        values.sort_by(f64::total_cmp);
        for quantile in self.0.quantiles {
            let rank = (quantile * values.len() as f64).ceil() as usize;
            let value = values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN);
            let text = number(*quantile);
            let with_quantile: Vec<(&str, &str)> =
                labels.iter().copied().chain([("quantile", text.as_str())]).collect();
            out.sample(name, &with_quantile, value);
        }
        out.sample(&format!("{name}_sum"), labels, sum);
        out.sample(&format!("{name}_count"), labels, count as f64);
    }
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summary").field("count", &self.count()).finish()
    }
}
