//! Native histograms as series notation writes them. This is notation: what the engine computes with is its own type.

use std::fmt;

/// The schema of histograms with custom bucket limits.
pub const SCHEMA_CUSTOM: i32 = -53;

/// Most buckets of one side. Bounds what two literals far apart add up to.
const BUCKETS_MAX: usize = 1 << 16;

/// `{{schema:1 count:3 sum:0.3 …}}`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramLiteral {
    /// Resolution, or [`SCHEMA_CUSTOM`].
    pub schema: i32,
    /// Observations.
    pub count: f64,
    /// Sum of the observations.
    pub sum: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Buckets of positive observations.
    pub positive: Buckets,
    /// Buckets of negative observations.
    pub negative: Buckets,
    /// Upper limits of the buckets with [`SCHEMA_CUSTOM`], without +Inf.
    pub custom_values: Vec<f64>,
    /// `counter_reset_hint`; `None` where none is written.
    pub counter_reset: Option<CounterReset>,
}

/// Neighbouring buckets with absolute counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Index of the first.
    pub offset: i32,
    /// Counts.
    pub counts: Vec<f64>,
}

/// What is known of a counter reset before a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterReset {
    /// Nothing.
    Unknown,
    /// There was one.
    Reset,
    /// There was none.
    NotReset,
    /// It is a gauge.
    Gauge,
}

impl CounterReset {
    const NAMES: [(CounterReset, &'static str); 4] = [
        (CounterReset::Unknown, "unknown"),
        (CounterReset::Reset, "reset"),
        (CounterReset::NotReset, "not_reset"),
        (CounterReset::Gauge, "gauge"),
    ];

    /// As written.
    pub fn name(self) -> &'static str {
        CounterReset::NAMES.iter().find(|(hint, _)| *hint == self).map_or("unknown", |(_, name)| name)
    }

    pub(super) fn find(name: &str) -> Option<CounterReset> {
        CounterReset::NAMES.iter().find(|(_, known)| *known == name).map(|(hint, _)| *hint)
    }
}

impl Buckets {
    /// The same at a resolution `levels` lower: 2^levels neighbours become one.
    fn coarser(&self, levels: u32) -> Result<Buckets, String> {
        let mut coarse = Buckets::default();
        for (i, count) in self.counts.iter().enumerate() {
            let index = i64::from(self.offset) + i as i64;
            // Bucket 0 ends at 1; each bucket includes its upper limit.
            coarse.add(((index - 1) >> levels.min(63)) + 1, *count)?;
        }
        Ok(coarse)
    }

    /// Adds to the bucket `index`.
    fn add(&mut self, index: i64, count: f64) -> Result<(), String> {
        let too_many = || format!("histogram has more than {BUCKETS_MAX} buckets");
        if self.counts.is_empty() {
            self.offset = i32::try_from(index).map_err(|_| too_many())?;
        }
        let first = i64::from(self.offset);
        if index < first {
            let missing = usize::try_from(first - index).unwrap_or(usize::MAX);
            if missing.saturating_add(self.counts.len()) > BUCKETS_MAX {
                return Err(too_many());
            }
            self.counts.splice(0..0, std::iter::repeat_n(0.0, missing));
            self.offset = i32::try_from(index).map_err(|_| too_many())?;
        }
        let at = usize::try_from(index - i64::from(self.offset)).unwrap_or(usize::MAX);
        if at >= BUCKETS_MAX {
            return Err(too_many());
        }
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0.0);
        }
        self.counts[at] += count;
        Ok(())
    }

    fn add_all(&mut self, other: &Buckets, factor: f64) -> Result<(), String> {
        for (i, count) in other.counts.iter().enumerate() {
            self.add(i64::from(other.offset) + i as i64, factor * count)?;
        }
        Ok(())
    }
}

impl HistogramLiteral {
    /// The sum with `other`, or the difference. `other` may have the finer resolution.
    pub fn combined(&self, other: &HistogramLiteral, negate: bool) -> Result<HistogramLiteral, String> {
        // Text as in Prometheus:
        let problem = |why: String| format!("error combining histograms: {why}");
        if self.schema > other.schema {
            return Err(problem(format!("cannot merge from schema {} to {}", other.schema, self.schema)));
        }
        let custom = self.schema == SCHEMA_CUSTOM;
        if custom != (other.schema == SCHEMA_CUSTOM) {
            return Err(problem("one has custom buckets and the other has not".to_owned()));
        }
        if self.custom_values != other.custom_values {
            return Err(problem("different custom buckets are not supported".to_owned()));
        }
        if self.zero_threshold != other.zero_threshold && other.zero_threshold != 0.0 && self.zero_threshold != 0.0 {
            return Err(problem("different widths of the zero bucket are not supported".to_owned()));
        }
        let factor = if negate { -1.0 } else { 1.0 };
        let mut result = self.clone();
        result.count += factor * other.count;
        result.sum += factor * other.sum;
        result.zero_count += factor * other.zero_count;
        result.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        let levels = u32::try_from(other.schema - self.schema).unwrap_or(0);
        for (into, from) in [(&mut result.positive, &other.positive), (&mut result.negative, &other.negative)] {
            if levels == 0 {
                into.add_all(from, factor).map_err(problem)?;
            } else {
                into.add_all(&from.coarser(levels).map_err(problem)?, factor).map_err(problem)?;
            }
        }
        result.counter_reset = match (self.counter_reset, other.counter_reset) {
            (a, b) if a == b => a,
            (Some(CounterReset::Gauge), _) | (_, Some(CounterReset::Gauge)) => Some(CounterReset::Gauge),
            _ => None,
        };
        Ok(result)
    }
}

impl HistogramLiteral {
    /// The histogram itself.
    pub fn to_histogram(&self) -> fk_model::FloatHistogram {
        let spans = |buckets: &Buckets| match u32::try_from(buckets.counts.len()) {
            Ok(length) if length > 0 => vec![fk_model::Span { offset: buckets.offset, length }],
            _ => Vec::new(),
        };
        fk_model::FloatHistogram {
            counter_reset: match self.counter_reset {
                None | Some(CounterReset::Unknown) => fk_model::CounterReset::Unknown,
                Some(CounterReset::Reset) => fk_model::CounterReset::Reset,
                Some(CounterReset::NotReset) => fk_model::CounterReset::NotReset,
                Some(CounterReset::Gauge) => fk_model::CounterReset::Gauge,
            },
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: spans(&self.positive),
            negative_spans: spans(&self.negative),
            positive_buckets: self.positive.counts.clone(),
            negative_buckets: self.negative.counts.clone(),
            custom_values: self.custom_values.as_slice().into(),
        }
    }
}

impl fmt::Display for HistogramLiteral {
    /// The canonical text: what is zero is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.schema != 0 {
            parts.push(format!("schema:{}", self.schema));
        }
        let numbers = [
            ("count", self.count),
            ("sum", self.sum),
            ("z_bucket", self.zero_count),
            ("z_bucket_w", self.zero_threshold),
        ];
        parts.extend(numbers.iter().filter(|(_, value)| *value != 0.0).map(|(name, value)| format!("{name}:{value}")));
        let list = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
        if !self.custom_values.is_empty() {
            parts.push(format!("custom_values:[{}]", list(&self.custom_values)));
        }
        if let Some(hint) = self.counter_reset
            && hint != CounterReset::Unknown
        {
            parts.push(format!("counter_reset_hint:{}", hint.name()));
        }
        for (prefix, buckets) in [("", &self.positive), ("n_", &self.negative)] {
            if buckets.offset != 0 {
                parts.push(format!("{prefix}offset:{}", buckets.offset));
            }
            if !buckets.counts.is_empty() {
                parts.push(format!("{prefix}buckets:[{}]", list(&buckets.counts)));
            }
        }
        write!(f, "{{{{{}}}}}", parts.join(" "))
    }
}
